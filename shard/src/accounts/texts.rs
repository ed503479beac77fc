//! The same text to many strangers. The owner of its author counts to how many it went, by fingerprints that are in memory alone: how
//! often is enough to hold it back and to tell operators, who are not told what it says.

use tern_proto::v1::Category;
use tern_storage::records::ReportRecord;
use tern_storage::{LogId, Slot, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::limits::NUMBERS_END;

use super::users::{Ask, permit};
use super::waits::{After, Then};
use super::{Accounts, Cx, slot_of};
use crate::limits::{HOUR_MS, SAME_TEXT_WAIT_MS, TEXTS_MAX};
use crate::maps::{Hashing, Map};

const TOO_OFTEN: &str = "the same goes to too many people who have not written to the account";

/// The texts of a core's users that went to strangers within the last hour.
#[derive(Debug)]
pub(super) struct Texts {
    /// By author and fingerprint.
    texts: Map<(UserId, u64), Text>,
    hashing: Hashing,
    swept_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Text {
    strangers: u32,
    /// When it went to the last of them.
    last_ms: u64,
    /// Operators were told when it had gone to so many.
    told: u32,
}

impl Text {
    /// For how long it waits before it goes to another one, from when it went to the last: twice as long each time.
    fn wait_ms(self, max: u32) -> u64 {
        let (first_ms, most_ms) = SAME_TEXT_WAIT_MS;
        match self.strangers.checked_sub(max) {
            None => 0,
            Some(beyond) => first_ms.saturating_mul(1 << beyond.min(16)).min(most_ms),
        }
    }
}

impl Texts {
    pub(super) fn new(hashing: Hashing) -> Self {
        Self { texts: Map::with_hasher(hashing), hashing, swept_ms: 0 }
    }

    /// For how many milliseconds this may not go to one more stranger. `Ok`: it may.
    fn may_go(&mut self, of: (UserId, u64), max: u32, now_ms: u64) -> Result<(), u64> {
        let Some(text) = self.texts.get_mut(&of) else { return Ok(()) };
        // The clock may have been set back: what is ahead of it counts as now.
        text.last_ms = text.last_ms.min(now_ms);
        match text.wait_ms(max).saturating_sub(now_ms - text.last_ms) {
            0 => Ok(()),
            wait_ms => Err(wait_ms),
        }
    }

    /// It goes to one more.
    fn goes(&mut self, of: (UserId, u64), now_ms: u64) {
        if self.texts.len() >= TEXTS_MAX && !self.texts.contains_key(&of) {
            self.make_room(now_ms);
        }
        let text = self.texts.entry(of).or_insert(Text { strangers: 0, last_ms: now_ms, told: 0 });
        (text.strangers, text.last_ms) = (text.strangers.saturating_add(1), now_ms);
    }

    /// To how many it has gone, if operators are to be told that.
    fn is_to_be_told(&mut self, of: (UserId, u64), max: u32) -> Option<u32> {
        let text = self.texts.get_mut(&of)?;
        let is_news = text.strangers >= max && text.told < text.strangers;
        is_news.then(|| {
            text.told = text.strangers;
            text.strangers
        })
    }

    fn make_room(&mut self, now_ms: u64) {
        self.forget_old(now_ms);
        for few in 1.. {
            if self.texts.len() < TEXTS_MAX {
                return;
            }
            self.texts.retain(|_, text| text.strangers > few);
        }
    }

    fn forget_old(&mut self, now_ms: u64) {
        self.swept_ms = now_ms;
        self.texts.retain(|_, text| now_ms.saturating_sub(text.last_ms) < HOUR_MS);
        if self.texts.is_empty() {
            self.texts.shrink_to_fit();
        }
    }

    /// Forgets those that nobody has sent for an hour, now and then.
    pub(super) fn rest(&mut self, now_ms: u64) {
        self.swept_ms = self.swept_ms.min(now_ms);
        if !self.texts.is_empty() && now_ms - self.swept_ms >= SAME_TEXT_WAIT_MS.0 {
            self.forget_old(now_ms);
        }
    }

    /// An account may do everything as if it had done nothing yet.
    pub(super) fn forget(&mut self, user: UserId) {
        self.texts.retain(|(author, _), _| *author != user);
    }

    /// Takes out those of a slot.
    pub(super) fn take(&mut self, slot: Slot) -> Taken {
        Taken(self.texts.extract_if(|(author, _), _| slot_of(*author) == slot).collect())
    }

    /// Takes up those of a slot, as far as there is room.
    pub(super) fn put_back(&mut self, Taken(taken): Taken) {
        let room = TEXTS_MAX.saturating_sub(self.texts.len());
        self.texts.extend(taken.into_iter().take(room));
    }

    /// By which operators know a text: nobody can tell what it says from it.
    fn number_of(&self, of: (UserId, u64)) -> u64 {
        use std::hash::BuildHasher as _;
        self.hashing.hash_one(of) % NUMBERS_END
    }
}

/// Those of a slot.
#[derive(Debug)]
pub(super) struct Taken(Vec<((UserId, u64), Text)>);

impl Accounts {
    /// May a user write this to somebody who has not written?
    pub(super) fn may_write_to_stranger(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        (log, ask): (LogId, u64),
        text: u64,
    ) {
        let (now_ms, max) = (cx.now_ms, cx.limits().same_text_per_hour_max);
        let of = (id, text);
        if max == 0 {
            return permit(cx, log, ask, self.budgets.write_to_stranger(id, now_ms));
        }
        let Err(wait_ms) = self.texts.may_go(of, max, now_ms) else {
            let may = self.budgets.write_to_stranger(id, now_ms);
            if may.is_ok() {
                self.texts.goes(of, now_ms);
            }
            return permit(cx, log, ask, may);
        };
        permit(cx, log, ask, Err(Refusal::after(Reason::RateLimited, wait_ms, TOO_OFTEN)));
        // It was tried once more than may be.
        if let Some(strangers) = self.texts.is_to_be_told(of, max) {
            let number = self.texts.number_of(of);
            self.ask_user(cx, id, Ask::Flag(number, strangers));
        }
    }

    /// Tells operators that a user, who is known, has written the same to so many strangers.
    pub(super) fn note_same_text(&mut self, cx: &mut Cx, id: UserId, number: u64, strangers: u32) {
        if self.record(id).is_none() || !cx.may_write(0) {
            return;
        }
        let category = Category::SameText.into();
        let record = ReportRecord { created_ms: cx.now_ms, category, strangers, ..ReportRecord::default() };
        // Nobody reports oneself: it is the server's word.
        cx.put(slot_of(id), keys::report(id.get(), id.get(), number), &record);
        self.after(cx, After::of_user(id, Then::Noted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MINUTE_MS;

    #[test]
    fn the_same_text_waits_longer_each_time_and_is_forgotten_after_an_hour() {
        let mut texts = Texts::new(Hashing::new(1, 2));
        let of = (UserId::new(7).expect("a user"), 99);
        let mut now_ms = 10 * HOUR_MS;
        for _ in 0..3 {
            assert_eq!(texts.may_go(of, 3, now_ms), Ok(()));
            texts.goes(of, now_ms);
        }
        assert_eq!(texts.is_to_be_told(of, 4), None);
        for times in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(texts.may_go(of, 3, now_ms), Err(times * MINUTE_MS));
            assert!(texts.is_to_be_told(of, 3).is_some() && texts.is_to_be_told(of, 3).is_none(), "once");
            assert!(texts.may_go((of.0, 98), 3, now_ms).is_ok(), "another text");
            now_ms += times * MINUTE_MS;
            assert_eq!(texts.may_go(of, 3, now_ms), Ok(()));
            texts.goes(of, now_ms);
        }
        assert_eq!(texts.may_go(of, 3, now_ms - 5 * HOUR_MS), Err(HOUR_MS), "a clock that was set back");
        texts.rest(now_ms + HOUR_MS);
        assert!(texts.texts.is_empty());
    }

    #[test]
    fn those_that_went_to_many_stay_known_when_there_are_too_many() {
        let mut texts = Texts::new(Hashing::new(1, 2));
        let user = |id| UserId::new(id).expect("a user");
        for _ in 0..5 {
            texts.goes((user(1), 1), HOUR_MS);
        }
        for number in 0..2 * TEXTS_MAX as u64 {
            texts.goes((user(2), number), HOUR_MS);
        }
        assert!(texts.texts.len() <= TEXTS_MAX);
        assert!(texts.may_go((user(1), 1), 5, HOUR_MS).is_err());
    }
}
