//! What a device is told: decided from what is known of a chat, and nothing else.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tern_proto::v1::{Kind, Media, Notify};
use tern_storage::records::{ChatSettingsRecord, PushTokenRecord, QuietRecord, UnreadRecord};
use tern_wire::ids::{Seq, UserId};

use super::News;
use crate::effects::PushKind;
use crate::entry::Entry;
use crate::limits::PUSH_PREVIEW_BYTES_MAX;

/// What is known of a chat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// What devices were told.
    pub(super) before: UnreadRecord,
    /// How much is unread.
    pub(super) unread: u32,
    /// Up to where the user has read.
    pub(super) read: Seq,
    pub(super) news: News,
    pub(super) settings: &'a ChatSettingsRecord,
    /// The call that has come is told as one.
    pub(super) rings: bool,
    /// The call that rings, which devices were told of before: what comes meanwhile makes no sound.
    pub(super) ringing: Option<Seq>,
    pub(super) now_ms: u64,
}

impl Facts<'_> {
    /// What a device is told, which has acknowledged the chat up to this entry; `None`: nothing. `is_untold`: what the others were told
    /// it was not, as far as is known.
    pub(super) fn for_device(
        &self,
        to: &PushTokenRecord,
        acknowledged: Seq,
        is_untold: bool,
    ) -> Option<PushKind> {
        let is_untold = is_untold || self.news.again;
        let told = if is_untold { 0 } else { self.before.told };
        let heard = self.read.max(acknowledged).max(Seq(told));
        if self.unread > 0 && self.rings && self.news.call > heard {
            return Some(PushKind::Call);
        }
        let rings = self.rings || self.ringing.is_some();
        // What came while it rang was not told.
        let missed = self.news.missed && !rings;
        let is_untold = is_untold || missed;
        let heard = if missed { self.read.max(acknowledged) } else { heard };
        let is_new = self.news.upto > heard && self.unread > 0;
        if is_new && self.makes_sound(to) && !rings {
            return Some(if self.news.mentioned { PushKind::Mention } else { PushKind::Message });
        }
        let is_over = self.unread == 0 && (self.before.shown || is_untold);
        if is_over || self.is_erased() {
            return Some(PushKind::Cleared);
        }
        // What was read and came since may make the same number, which a device that was there in between does not show.
        (self.unread != self.before.unread || is_untold || is_new).then_some(PushKind::Badge)
    }

    /// Whether what devices show of the chat was deleted for everyone.
    fn is_erased(&self) -> bool {
        let erased = self.news.erased;
        let is_it = erased.0 == self.before.told || self.ringing == Some(erased);
        self.before.shown && erased > Seq(0) && is_it
    }

    /// Whether a message of the chat is shown now.
    fn makes_sound(&self, to: &PushTokenRecord) -> bool {
        let is_wanted = match Notify::try_from(self.settings.notify) {
            Ok(Notify::None) => false,
            Ok(Notify::Mentions) => self.news.mentioned,
            Ok(Notify::All) | Err(_) => true,
        };
        let is_muted = self.settings.muted_until_ms > self.now_ms;
        is_wanted && !is_muted && !to.quiet.as_ref().is_some_and(|quiet| is_quiet(quiet, self.now_ms))
    }

    /// What is known when devices have been told so: of these some something that they show.
    pub(super) fn after(&self, shows: bool) -> UnreadRecord {
        UnreadRecord {
            unread: self.unread,
            told: self.before.told.max(self.news.upto.0),
            shown: self.unread > 0 && (shows || self.before.shown && !self.is_erased()),
        }
    }
}

/// The time zone of this name, as the IANA database that is built in has it.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    jiff::tz::TimeZoneDatabase::bundled().get(name).ok()
}

/// Whether a moment (ms since the Unix epoch) is in somebody's quiet hours, by the clocks where they are.
fn is_quiet(quiet: &QuietRecord, now_ms: u64) -> bool {
    let moment = i64::try_from(now_ms).ok().and_then(|now_ms| Timestamp::from_millisecond(now_ms).ok());
    let Some((zone, moment)) = zone(&quiet.time_zone).zip(moment) else { return false };
    let there = moment.to_zoned(zone);
    let minute = there.hour() as u32 * 60 + there.minute() as u32;
    let QuietRecord { from_min, to_min, .. } = *quiet;
    if from_min < to_min {
        (from_min..to_min).contains(&minute)
    } else {
        // Over midnight; or the whole day.
        minute >= from_min || minute < to_min
    }
}

/// What may be shown of the newest entry of a chat, if it is a message of somebody else's, in words that the server can read.
pub(super) fn words_of(entry: &Entry, reader: UserId, now_ms: u64) -> Option<String> {
    if entry.author.user == reader || !entry.counts() || entry.is_gone(now_ms) {
        return None;
    }
    let words = match Kind::try_from(entry.kind).ok()? {
        Kind::Text => Cow::from(std::str::from_utf8(&entry.body).ok()?),
        Kind::Media => Cow::from(<Media as prost::Message>::decode(&entry.body[..]).ok()?.caption),
        _ => return None,
    };
    let end = words.floor_char_boundary(PUSH_PREVIEW_BYTES_MAX);
    let words = words[..end].trim();
    (!words.is_empty()).then(|| words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-07-01 22:30 UTC, which is half past midnight in Berlin.
    const NIGHT_MS: u64 = 1_782_945_000_000;

    fn chat(before: UnreadRecord, unread: u32, upto: u64) -> Facts<'static> {
        static SETTINGS: ChatSettingsRecord = ChatSettingsRecord {
            archived: false,
            muted_until_ms: 0,
            marked_unread: false,
            on_top: false,
            notify: 0,
        };
        let news = News { upto: Seq(upto), ..News::default() };
        let (rings, ringing) = (false, None);
        Facts { before, unread, read: Seq(0), news, settings: &SETTINGS, rings, ringing, now_ms: NIGHT_MS }
    }

    fn told(unread: u32, told: u64, shown: bool) -> UnreadRecord {
        UnreadRecord { unread, told, shown }
    }

    #[test]
    fn a_message_is_told_once_and_again_only_to_whom_nobody_has_told_it() {
        let to = PushTokenRecord::default();
        let new = chat(told(0, 0, false), 1, 5);
        assert_eq!(new.for_device(&to, Seq(0), false), Some(PushKind::Message));
        assert_eq!(new.after(true), told(1, 5, true));
        let known = chat(told(1, 5, true), 1, 5);
        assert_eq!(known.for_device(&to, Seq(0), false), None);
        assert_eq!(known.for_device(&to, Seq(0), true), Some(PushKind::Message), "it had been connected");
        let again = Facts { news: News { again: true, ..known.news }, ..known };
        assert_eq!(
            again.for_device(&to, Seq(0), false),
            Some(PushKind::Message),
            "a crash may have come between"
        );
        assert_eq!(again.for_device(&to, Seq(5), false), Some(PushKind::Badge), "it has it");
        let read = Facts { read: Seq(5), unread: 0, ..known };
        assert_eq!(read.for_device(&to, Seq(0), true), Some(PushKind::Cleared));
        assert_eq!(read.after(false), told(0, 5, false));
    }

    #[test]
    fn a_number_that_is_another_one_is_told_and_one_that_is_not_is_not() {
        let to = PushTokenRecord::default();
        assert_eq!(chat(told(3, 5, true), 2, 0).for_device(&to, Seq(0), false), Some(PushKind::Badge));
        assert_eq!(chat(told(2, 5, true), 2, 0).for_device(&to, Seq(0), false), None);
        let muted = ChatSettingsRecord { muted_until_ms: NIGHT_MS + 1, ..ChatSettingsRecord::default() };
        let read_since = Facts { read: Seq(5), settings: &muted, ..chat(told(1, 5, true), 1, 6) };
        assert_eq!(read_since.for_device(&to, Seq(5), false), Some(PushKind::Badge));
        assert_eq!(chat(told(2, 5, false), 0, 0).for_device(&to, Seq(0), false), Some(PushKind::Badge));
        assert_eq!(chat(told(2, 5, true), 0, 0).for_device(&to, Seq(0), false), Some(PushKind::Cleared));
    }

    #[test]
    fn what_is_deleted_for_everyone_goes_if_it_is_what_is_shown() {
        let to = PushTokenRecord::default();
        let deleted = |erased, before| {
            let chat = chat(before, 2, 0);
            Facts { news: News { erased: Seq(erased), ..chat.news }, ..chat }
        };
        let shown = deleted(5, told(2, 5, true));
        assert_eq!(shown.for_device(&to, Seq(0), false), Some(PushKind::Cleared));
        assert_eq!(shown.after(false), told(2, 5, false));
        assert_eq!(deleted(4, told(2, 5, true)).for_device(&to, Seq(0), false), None);
        assert_eq!(deleted(5, told(2, 5, false)).for_device(&to, Seq(0), false), None);
    }

    #[test]
    fn a_chat_that_is_muted_or_of_which_mentions_alone_are_wanted_makes_no_sound() {
        let to = PushTokenRecord::default();
        let muted = ChatSettingsRecord { muted_until_ms: NIGHT_MS + 1, ..ChatSettingsRecord::default() };
        let over = ChatSettingsRecord { muted_until_ms: NIGHT_MS, ..ChatSettingsRecord::default() };
        let mentions =
            ChatSettingsRecord { notify: Notify::Mentions.into(), ..ChatSettingsRecord::default() };
        let none = ChatSettingsRecord { notify: Notify::None.into(), ..ChatSettingsRecord::default() };
        let new = chat(told(0, 0, false), 1, 5);
        let with = |settings| Facts { settings, ..new };
        assert_eq!(with(&muted).for_device(&to, Seq(0), false), Some(PushKind::Badge));
        assert_eq!(with(&over).for_device(&to, Seq(0), false), Some(PushKind::Message));
        assert_eq!(with(&mentions).for_device(&to, Seq(0), false), Some(PushKind::Badge));
        let mentioned = Facts { news: News { mentioned: true, ..new.news }, ..with(&mentions) };
        assert_eq!(mentioned.for_device(&to, Seq(0), false), Some(PushKind::Mention));
        let loud = Facts { settings: &none, ..mentioned };
        assert_eq!(loud.for_device(&to, Seq(0), false), Some(PushKind::Badge));
    }

    #[test]
    fn a_call_rings_however_quiet_it_is_once_and_what_comes_meanwhile_makes_no_sound() {
        let quiet = QuietRecord { from_min: 0, to_min: 0, time_zone: "UTC".to_owned() };
        let to = PushTokenRecord { quiet: Some(quiet), ..PushTokenRecord::default() };
        let muted = ChatSettingsRecord {
            muted_until_ms: NIGHT_MS + 1,
            notify: Notify::None.into(),
            ..ChatSettingsRecord::default()
        };
        let quiet = Facts { settings: &muted, ..chat(told(0, 0, false), 1, 5) };
        let call = |facts: Facts<'static>, call| Facts {
            news: News { call: Seq(call), ..facts.news },
            rings: true,
            ..facts
        };
        let kind = |facts: Facts<'_>| facts.for_device(&to, Seq(0), false);
        assert_eq!(kind(quiet), Some(PushKind::Badge), "a message makes no sound here");
        let rings = Facts { news: News { call: Seq(5), ..quiet.news }, rings: true, ..quiet };
        assert_eq!(kind(rings), Some(PushKind::Call));
        assert_eq!(rings.for_device(&to, Seq(5), false), Some(PushKind::Badge), "it has heard");
        assert_eq!(kind(Facts { read: Seq(5), unread: 0, ..rings }), None, "it was read elsewhere");
        assert_eq!(kind(Facts { before: told(1, 5, true), ..rings }), None, "it rings once");
        // Here a message makes a sound, but not while it rings.
        let loud = PushTokenRecord::default();
        let with_text = call(chat(told(0, 0, false), 2, 6), 5);
        assert_eq!(with_text.for_device(&loud, Seq(0), false), Some(PushKind::Call));
        let text = Facts { ringing: Some(Seq(5)), ..chat(told(1, 5, true), 2, 6) };
        assert_eq!(text.for_device(&loud, Seq(0), false), Some(PushKind::Badge));
        let over = chat(told(2, 6, true), 2, 6);
        let over = Facts { news: News { missed: true, ..over.news }, ..over };
        assert_eq!(over.for_device(&loud, Seq(0), false), Some(PushKind::Message), "it was missed");
        let rings_still = Facts { news: News { call: Seq(5), ..over.news }, rings: true, ..over };
        assert_ne!(rings_still.for_device(&loud, Seq(0), false), Some(PushKind::Call), "it rings once");
        let deleted = Facts { news: News { erased: Seq(5), ..News::default() }, unread: 1, ..text };
        let deleted = Facts { before: told(2, 6, true), ..deleted };
        assert_eq!(deleted.for_device(&loud, Seq(0), false), Some(PushKind::Cleared));
    }

    #[test]
    fn hours_are_quiet_where_the_user_is_over_midnight_and_whatever_the_time_of_the_year() {
        let quiet =
            |from_min, to_min, zone: &str| QuietRecord { from_min, to_min, time_zone: zone.to_owned() };
        assert!(is_quiet(&quiet(23 * 60, 7 * 60, "Europe/Berlin"), NIGHT_MS));
        assert!(is_quiet(&quiet(30, 31, "Europe/Berlin"), NIGHT_MS), "half past midnight, in summer");
        assert!(!is_quiet(&quiet(31, 30 + 23 * 60, "Europe/Berlin"), NIGHT_MS));
        assert!(!is_quiet(&quiet(23 * 60, 7 * 60, "UTC"), NIGHT_MS), "half past ten");
        assert!(!is_quiet(&quiet(23 * 60, 7 * 60, "America/New_York"), NIGHT_MS));
        // 2026-01-01 22:30 UTC, half an hour before midnight in Berlin.
        assert!(!is_quiet(&quiet(0, 7 * 60, "Europe/Berlin"), 1_767_306_600_000), "it is winter");
        assert!(is_quiet(&quiet(0, 0, "UTC"), NIGHT_MS), "the whole day");
        assert!(!is_quiet(&quiet(0, 0, "Nowhere/Nothing"), NIGHT_MS));
        assert!(zone("Asia/Kolkata").is_some() && zone("Nowhere/Nothing").is_none());
    }
}
