//! Invitations to groups, against a real server of several cores: who may make them, who comes by them, and who does not.

use std::collections::BTreeSet;

use tern_proto::v1::{self, Reason, client_frame::Request, group_change::Change, server_frame::Message};
use tern_testkit::Ternd;
use tern_testkit::person::{Person, added, people};
use tern_wire::group::invitation_hash;

fn secret(number: u8) -> Vec<u8> {
    vec![number; 16]
}

/// An invitation of this secret.
fn invitation(number: u8) -> v1::Invitation {
    let hash = invitation_hash(&secret(number)).expect("a secret").to_vec().into();
    v1::Invitation { hash, ..v1::Invitation::default() }
}

fn joined(number: u8) -> Change {
    Change::Joined(secret(number).into())
}

fn asked(number: u8) -> Change {
    Change::Asked(secret(number).into())
}

fn preview(person: &mut Person, chat: u64, number: u8) -> Result<v1::Group, Reason> {
    match person.ask(Request::AboutGroup(v1::AboutGroup { chat, secret: secret(number).into() })) {
        Message::Group(group) => Ok(*group),
        Message::Refused(refused) => Err(refused.reason()),
        other => panic!("{other:?}"),
    }
}

fn members(person: &mut Person, group: u64) -> Vec<u64> {
    person.about(group).members.iter().map(|member| member.user_id).collect()
}

#[test]
fn whoever_has_the_secret_of_an_invitation_comes_and_nobody_else() {
    let mut server = Ternd::start(3);
    let [mut ann, mut bob, mut cyd, mut eve] = people(&server);
    let group = ann.make("friends", vec![bob.user.id], v1::GroupSettings::default());
    let before = ann.say(group, "between us");
    ann.changes(group, Change::Invitation(v1::Invitation { uses_max: 1, ..invitation(1) }));
    // Whoever has it is told what it leads to, and nothing of who is in it.
    let shown = preview(&mut cyd, group, 1).expect("it is good");
    assert_eq!((&shown.name[..], shown.size, shown.members.len()), ("friends", 2, 0));
    assert_eq!(preview(&mut eve, group, 2), Err(Reason::InvitationUnknown));
    assert_eq!(eve.may_not(group, joined(2)), Reason::InvitationUnknown);
    assert_eq!(eve.may_not(group + 1, joined(1)), Reason::InvitationUnknown, "as where there is no group");
    assert_eq!(preview(&mut eve, group + 1, 1), Err(Reason::InvitationUnknown));
    let join = cyd.change(group, joined(1));
    let Message::Sent(came) = cyd.ask(join.clone()) else { panic!("she has come") };
    let Message::Sent(again) = cyd.ask(join.clone()) else { panic!("she had come") };
    assert_eq!(again.seq, came.seq, "a retry is none");
    let said = cyd.say(group, "hello");
    bob.hears(group, said);
    let answer = bob.say(group, "hello you");
    cyd.hears(group, answer);
    assert_eq!(cyd.history(group).first, came.seq, "from where on she sees it");
    assert!(cyd.history(group).entries.iter().all(|entry| entry.seq > before));
    assert_eq!(members(&mut ann, group).len(), 3);
    // It was good for one.
    assert_eq!(eve.may_not(group, joined(1)), Reason::InvitationSpent);
    assert_eq!(cyd.may_not(group, joined(1)), Reason::InvitationSpent);
    server.kill_and_restart();
    [ann, cyd, eve] = [ann, cyd, eve].map(|person| {
        let sent = person.sent;
        Person { sent, ..Person::new(&server, person.user) }
    });
    assert_eq!(eve.may_not(group, joined(1)), Reason::InvitationSpent);
    let Message::Sent(again) = cyd.ask(join) else { panic!("she had come") };
    assert_eq!(again.seq, came.seq, "after a crash too");
    assert_eq!(members(&mut ann, group).len(), 3);
}

#[test]
fn an_invitation_ends_by_time_or_by_somebody_and_then_nobody_comes_by_it() {
    let server = Ternd::start(2);
    let [mut ann, mut bob, mut cyd] = people(&server);
    let admins = v1::Who::Admins.into();
    let settings = v1::GroupSettings { adders: admins, ..v1::GroupSettings::default() };
    let group = ann.make("friends", vec![bob.user.id], settings);
    assert_eq!(bob.may_not(group, Change::Invitation(invitation(1))), Reason::NotAllowed);
    ann.changes(group, Change::Invitation(v1::Invitation { expires_ms: 1, ..invitation(1) }));
    ann.changes(group, Change::Invitation(invitation(2)));
    assert_eq!(ann.may_not(group, Change::Invitation(invitation(2))), Reason::InvalidArgument, "it is there");
    assert_eq!(cyd.may_not(group, joined(1)), Reason::InvitationExpired);
    assert_eq!(preview(&mut cyd, group, 1), Err(Reason::InvitationExpired));
    let told = ann.about(group);
    assert_eq!(told.invitations, [invitation(2)], "of those that are good");
    assert!(bob.about(group).invitations.is_empty(), "who may add nobody need not know");
    assert_eq!(bob.may_not(group, Change::InvitationEnded(invitation(2).hash)), Reason::NotAllowed);
    ann.changes(group, Change::InvitationEnded(invitation(2).hash));
    assert_eq!(ann.may_not(group, Change::InvitationEnded(invitation(2).hash)), Reason::InvitationUnknown);
    assert_eq!(cyd.may_not(group, joined(2)), Reason::InvitationUnknown);
    for number in 10..26 {
        ann.changes(group, Change::Invitation(invitation(number)));
    }
    assert_eq!(ann.may_not(group, Change::Invitation(invitation(26))), Reason::TooManyInvitations);
    // Who was removed comes again by one that is good.
    let came = cyd.changes(group, joined(10));
    ann.changes(group, Change::Removed(cyd.user.id));
    let again = cyd.changes(group, joined(10));
    assert!(again > came);
    let said = ann.say(group, "welcome back");
    cyd.hears(group, said);
}

#[test]
fn whoever_must_be_approved_asks_and_is_let_in_or_not() {
    let mut server = Ternd::start(3);
    let [mut ann, mut bob, mut cyd, mut dan] = people(&server);
    let group = ann.make("friends", vec![bob.user.id], v1::GroupSettings::default());
    ann.changes(group, Change::Invitation(v1::Invitation { wants_approval: true, ..invitation(1) }));
    assert_eq!(cyd.may_not(group, joined(1)), Reason::ApprovalNeeded);
    let asks = cyd.change(group, asked(1));
    let Message::Sent(sent) = cyd.ask(asks.clone()) else { panic!("she has asked") };
    let Message::Sent(again) = cyd.ask(asks) else { panic!("she had asked") };
    assert_eq!(again.seq, sent.seq);
    assert_eq!(cyd.may_not(group, asked(1)), Reason::AlreadyAMember, "once is enough");
    dan.changes(group, asked(1));
    bob.hears(group, sent.seq);
    assert_eq!(bob.about(group).asking, [cyd.user.id, dan.user.id]);
    // Whoever asks is not in it.
    let text = cyd.text(group, "hello?");
    assert_eq!(cyd.refused(text), Reason::UnknownGroup);
    let history = Request::History(v1::History { chat: group, ..v1::History::default() });
    assert_eq!(cyd.refused(history), Reason::UnknownGroup);
    server.kill_and_restart();
    [ann, bob, cyd, dan] = [ann, bob, cyd, dan].map(|person| {
        let sent = person.sent;
        Person { sent, ..Person::new(&server, person.user) }
    });
    let came = ann.changes(group, added(&[&cyd]));
    bob.changes(group, Change::Declined(dan.user.id));
    assert_eq!(bob.may_not(group, Change::Declined(dan.user.id)), Reason::NotAMember);
    cyd.hears(group, came);
    assert!(bob.about(group).asking.is_empty());
    let are: BTreeSet<_> = members(&mut ann, group).into_iter().collect();
    assert_eq!(are, BTreeSet::from([ann.user.id, bob.user.id, cyd.user.id]));
    assert_eq!(dan.may_not(group, joined(1)), Reason::ApprovalNeeded);
    assert!(!dan.entries.contains_key(&group), "nothing of it was told to who was not let in");
}
