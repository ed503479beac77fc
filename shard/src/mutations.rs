//! Faults that a test puts into the brain, to show that the simulation finds what they would do. Without the feature
//! `mutations` there are none: every question is answered no when the code is compiled.
//!
//! Each says which tests find it, by their files, and with which seeds: docs/TESTING.md has the table.

use bytes::Bytes;

tern_storage::mutations! {
    /// What a network has asked for is forgotten when it connects again.
    RenewOnReconnect => "shard/tests/address_limits.rs" 1..20;
    /// A device of a suspended account is let in.
    LetSuspendedIn => "sim/tests/mutations.rs" 90..110;
    /// A device of an account that is about to end is let in.
    LetEndingIn => "shard/tests/deleting.rs" 1..20;
    /// An account that was kept ends all the same.
    EndAnyway => "shard/tests/deleting.rs" 1..20;
    /// What the devices of an account that has ended lacked stays.
    LeaveInbox => "shard/tests/deleting.rs" 1..20;
    /// The numbers of messages of an account that has ended stay.
    KeepNumbers => "shard/tests/deleting.rs" 1..20;
    /// A chat stays that nobody has any more.
    KeepLeftLog => "shard/tests/deleting.rs" 1..20;
    /// A message does not say beside a medium that it has it.
    ForgetCite => "shard/tests/media.rs" 1..20, "sim/tests/mutations.rs" 1..60;
    /// A message has a medium that is about to be removed.
    CiteEnding => "shard/tests/media.rs" 1..20;
    /// A medium is removed that something has.
    RemoveCited => "shard/tests/media.rs" 1..20, "sim/tests/mutations.rs" 1..60;
    /// That a medium is whole is written again where it was said before.
    RewriteMedium => "shard/tests/media.rs" 1..20;
    /// Somebody gets a link to a medium of a message that they do not see.
    LinkWithheld => "shard/tests/media.rs" 1..20;
    /// That a medium is somebody's picture, or a group's, is not said beside it.
    ForgetPicture => "shard/tests/media.rs" 1..20, "sim/tests/mutations.rs" 1..60;
    /// The picture of before stays, though it is another one now.
    KeepPicture => "shard/tests/media.rs" 1..20, "sim/tests/mutations.rs" 1..60;
    /// Somebody gets a link to a picture that they may not see.
    LinkHiddenPicture => "shard/tests/media.rs" 1..20;
    /// That people are to be told of a story is written nowhere.
    ForgetToTell => "shard/tests/stories.rs" 1..60;
    /// Whom the author blocks is told of a story.
    TellBlockedOfStory => "shard/tests/stories.rs" 1..60;
    /// That somebody is blocked, who has stories, is written nowhere.
    ForgetToHide => "shard/tests/stories.rs" 1..60;
    /// Who is blocked keeps the stories that they have.
    LeaveHidden => "shard/tests/stories.rs" 1..60;
    /// Whoever is told of a story gets it, whether they know its author or not.
    TakeAnyStory => "shard/tests/stories.rs" 1..60;
    /// The media of a story that has ended stay.
    KeepStoryMedia => "shard/tests/stories.rs" 1..60;
    /// Whoever posted a story is told who has seen it, though one of the two hides what they read.
    ShowHiddenViewer => "shard/tests/stories.rs" 1..60;
    /// An account may have any number of bytes.
    NoQuota => "shard/tests/media.rs" 1..20;
    /// What is read elsewhere leaves the number on a device that sleeps as it was.
    KeepBadge => "shard/tests/push.rs" 1..20;
    /// A device that is connected, and has all, is told by its push service.
    PushConnected => "shard/tests/push.rs" 1..20;
    /// What is said is shown on devices that were not asked.
    PreviewUnasked => "shard/tests/push.rs" 1..20, "sim/tests/mutations.rs" 1..60;
    /// What a crash has left to be told is not told.
    ForgetOutbox => "shard/tests/push.rs" 1..20, "sim/tests/mutations.rs" 1..60;
    /// An address that a device has said since goes with the one before, which is no more.
    EndNewAddress => "shard/tests/push.rs" 1..60;
    /// Somebody reports what they do not see, and operators get it.
    AttachWithheld => "shard/tests/blocking.rs" 1..20;
    /// A retry is taken for a new message.
    ForgetRetries => "sim/tests/mutations.rs" 1..60;
    /// A message leaves no mark in the inboxes of its devices.
    ForgetMark => "sim/tests/mutations.rs" 1..60;
    /// What is read on one device leaves no mark for the others.
    ForgetReading => "sim/tests/mutations.rs" 1..60;
    /// A mark is cleared though its device lacks something.
    ClearMarkEarly => "sim/tests/mutations.rs" 1..300;
    /// A message is acknowledged before the store has it.
    AcknowledgeEarly => "sim/tests/mutations.rs" 1..60;
    /// A message is pushed before the store has it.
    PushEarly => "sim/tests/mutations.rs" 1..60;
    /// A log that is read into memory ends with the entry before its newest: the next one gets a seq that was given.
    ReuseSeq => "sim/tests/mutations.rs" 1..60;
    /// A log is read again while a write of it is under way.
    ReadBesideWrites => "shard/tests/faults.rs" 1..60, "shard/tests/in_flight.rs" 0..1;
    /// A log leaves the memory while a write of it is under way.
    ForgetBesideWrites => "shard/tests/faults.rs" 1..60, "sim/tests/mutations.rs" 1..60;
    /// What was read too late is asked for again where it was read, though the log may be another core's by now.
    AskWhereRead => "shard/tests/faults.rs" 3290..3310;
    /// A write of which nobody knows what became of it is told as refused.
    RefuseUnknown => "shard/tests/faults.rs" 150..250, "shard/tests/in_flight.rs" 0..1;
    /// A record that can't be decoded is taken for one that is not there.
    TakeForAbsent => "shard/tests/damage.rs" 0..1, "shard/tests/accounts.rs" 0..1;
    /// A log is asked for before the inbox of the device has been read past it.
    PullBeforeInbox => "shard/tests/catching_up.rs" 1..60;
    /// What a device stored under another past of the store is believed.
    TrustEveryPast => "shard/tests/catching_up.rs" 1..60;
    /// A page is pushed though the device has asked for more since.
    PushOldPage => "shard/tests/catching_up.rs" 1..60;
    /// A device that goes back is not told again what it was answered while the page with the entries was on its way.
    RewindAnswered => "shard/tests/catching_up.rs" 2580..2600;
    /// What is in memory of a device's inbox is taken for a mark in the store.
    TrustInbox => "shard/tests/marks.rs" 0..1;
    /// A retry is answered while something becomes of the log, without how far the others are.
    AnswerBesideChange => "shard/tests/in_flight.rs" 0..1;
    /// A new device is told what it lacks while marks of it are on their way into the store.
    PullUnflushed => "shard/tests/marks.rs" 0..1;
    /// A member who can't be read for now makes the log a damaged one.
    TakeForDamage => "sim/tests/fdb.rs" 2800..2820;
    /// A new device is taken for one that has caught up though the store took no mark of what it was pushed.
    CatchUpUnmarked => "shard/tests/marks.rs" 0..1;
    /// A connection follows its user without waiting for what it was told.
    LeaveUnheard => "shard/tests/moves.rs" 1..60, "sim/tests/moves.rs" 1..300;
    /// What a connection was not told on its way to its user's core is forgotten.
    ForgetMissed => "shard/tests/moves.rs" 1..60;
    /// A page goes to the connection straight from the log's owner, beside what is pushed.
    PageAside => "shard/tests/owner_gone.rs" 1..60;
    /// Who was removed from a group hears one entry more.
    HearAfterRemoval => "sim/tests/mutations.rs" 1..60;
    /// Whoever is in a group may do everything in it.
    SkipRights => "sim/tests/mutations.rs" 1..60;
    /// Whoever proves a phone is let in without the PIN.
    IgnorePin => "sim/tests/mutations.rs" 1..60;
    /// Whoever is in a chat may edit what others have said.
    EditByAnybody => "sim/tests/mutations.rs" 1..60;
    /// What was deleted for everyone can still be read from its edits.
    KeepEdits => "sim/tests/mutations.rs" 50..70;
    /// What is too old is removed though somebody has not received it.
    CutUnreceived => "sim/tests/mutations.rs" 1..60;
    /// What is due is never looked for.
    ForgetAgenda => "sim/tests/mutations.rs" 1..60;
    /// What is due in a slot that was handed over before its table came is forgotten.
    ForgetEarly => "shard/tests/moves.rs" 1..60;
    /// Nobody looks whether a message that was scheduled has been sent before.
    DispatchAnew => "sim/tests/mutations.rs" 2810..2830;
    /// Whoever has an invitation comes by it, though it is over.
    TakeOldInvitation => "sim/tests/mutations.rs" 220..240;
    /// How far the members of a group have got is told before it is durable.
    TellUndurable => "sim/tests/mutations.rs" 1..60;
    /// What of a group follows from entries that were not written with its members is not made again.
    ForgetTail => "sim/tests/mutations.rs" 1..300;
    /// Who is blocked is told how far the person has got who blocks them.
    TellBlocked => "shard/tests/blocking.rs" 1..60;
    /// A user of whom no connection is left counts as here.
    StayOnline => "shard/tests/presence.rs" 1..60;
    /// What somebody hides is shown.
    ShowHidden => "shard/tests/presence.rs" 1..60;
    /// Whoever shows a group is told of its members when they were here last, whatever they let others see.
    ShowHiddenInGroup => "shard/tests/presence.rs" 1..60;
    /// That somebody who is blocked types is told.
    TypeBlocked => "shard/tests/presence.rs" 1..60;
    /// That somebody is blocked is confirmed before their chat has heard of it.
    ConfirmBlockEarly => "shard/tests/blocking.rs" 1..60;
    /// Who lets nobody take them into a group is taken into it.
    BringAnybody => "shard/tests/privacy.rs" 1..20;
    /// Who lets nobody find them by the phone is found by it.
    FindHidden => "shard/tests/privacy.rs" 1..20;
    /// Of a phone that nobody has no more is read.
    AnswerNobodyEarly => "shard/tests/harvest.rs" 1..20;
    /// What somebody says of themselves, and their picture, everybody sees.
    ShowProfile => "shard/tests/privacy.rs" 1..20;
    /// Any secret is that of somebody's card.
    TakeAnyCard => "shard/tests/harvest.rs" 1..20;
    /// What somebody who is blocked sends is shown.
    ShowBlocked => "shard/tests/blocking.rs" 1..60;
    /// A message that was erased is found.
    FindErased => "shard/tests/searching.rs" 1..60;
    /// The words of a message that was erased stay in the index.
    KeepWords => "shard/tests/searching.rs" 1..60;
    /// An account counts as here once for each of its devices.
    CountEachDevice => "shard/tests/counting.rs" 1..20, "sim/tests/mutations.rs" 1..60;
    /// An account that comes back on the same day counts again.
    CountAgain => "shard/tests/counting.rs" 1..20, "sim/tests/mutations.rs" 1..60;
    /// What was counted and is added up stays, to be added again.
    AddUpAgain => "shard/tests/counting.rs" 1..20, "sim/tests/mutations.rs" 1..60;
    /// What edits a message is not shown to the content filter.
    PassUnasked => "shard/tests/filtering.rs" 1..60;
    /// What the content filter has not answered for passes, whatever was chosen.
    PassUnanswered => "shard/tests/filtering.rs" 1..60;
    /// A late Login of a connection that was opened earlier ends the one that was opened later.
    LateLogin => "sim/tests/mutations.rs" 1..300;
    /// What is to be looked at again waits until a clock that was set back has caught up.
    WaitForClock => "shard/tests/clock.rs" 0..1;
    /// A scheduled message that was put off waits until a clock that was set back has caught up.
    PutOffByClock => "shard/tests/clock.rs" 0..1;
    /// Whoever reads is told where a log begins before it is durable that it does.
    TellOfCutEarly => "shard/tests/marks.rs" 0..1;
    /// Logs hear of a user's devices, and devices of their end, before that is durable.
    TellOfDevicesEarly => "shard/tests/marks.rs" 0..1;
    /// Who watches a user's devices once more is not answered.
    AnswerWatchOnce => "shard/tests/faults.rs" 1..60, "shard/tests/in_flight.rs" 0..1;
    /// A log leaves the memory while its slot is about to be handed over.
    ForgetAtMove => "shard/tests/owner_gone.rs" 780..800;
    /// What is said to a slot that moves does not wait for its marker.
    SkipMarker => "shard/tests/moves.rs" 1..60;
    /// A slot is handed over before all have heard what its owner has said of it.
    SkipFlush => "shard/tests/moves.rs" 1..100;
    /// Who has let a slot go answers what still comes for it.
    AnswerAsLastOwner => "shard/tests/moves.rs" 1..60, "sim/tests/moves.rs" 1..300;
    /// What waited for a slot that moves is lost.
    LoseAtMove => "shard/tests/moves.rs" 1..60, "sim/tests/moves.rs" 1..60, "sim/tests/mutations.rs" 1..60;
    /// Those who are connected are forgotten when their slot moves.
    ForgetConnected => "sim/tests/mutations.rs" 1..60;
    /// What a slot that moves says to itself waits until it has moved, and it waits for that.
    WaitForItself => "shard/tests/moves.rs" 1..60;
    /// A slot is handed over while writes of it are under way.
    MoveBesideWrites => "shard/tests/moves.rs" 1..60;
    /// What was asked of an owner that is gone is not asked again.
    LoseAsk => "shard/tests/owner_gone.rs" 1..60;
    /// What was asked of owners that are gone is asked again in the opposite order.
    AskOutOfOrder => "shard/tests/owner_gone.rs" 1..60;
    /// A message is passed on though its log has another owner than its asker knew of.
    SkipEpoch => "shard/tests/owner_gone.rs" 1..200;
    /// A log does not tell the new owner of a member that it is in use, and where it stands.
    ForgetWatch => "shard/tests/owner_gone.rs" 1..60;
}

/// A record's value; for [`Mutation::TakeForAbsent`] none if it can't be decoded.
pub(crate) fn unless_garbage<R: prost::Message + Default>(value: Option<Bytes>) -> Option<Bytes> {
    value.filter(|value| !is(Mutation::TakeForAbsent) || R::decode(&value[..]).is_ok())
}
