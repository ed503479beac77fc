//! Accounts on their way to another core: users whom somebody needs, codes that operators may be shown, and what is counted. All
//! else the store knows.

use tern_storage::Slot;
use tern_wire::ids::{Phone, UserId};

use super::addresses::Counts;
use super::budgets::Spent;
use super::kept::User;
use super::phones::State;
use super::presence::Faded;
use super::push::TakenWakes;
use super::reserved::Reserved;
use super::{Accounts, Cx, recovery, slot_of, slot_of_phone, texts};

/// What a core holds of a slot's accounts.
#[derive(Debug)]
pub(crate) struct Taken {
    users: Vec<(UserId, User)>,
    watches: recovery::Taken,
    phones: Vec<(Phone, State)>,
    reserved: Vec<(UserId, Reserved)>,
    spent: Spent,
    texts: texts::Taken,
    counts: Counts,
    fading: Faded,
    wakes: TakenWakes,
}

impl Accounts {
    /// Whether nothing of a slot is under way.
    pub(crate) fn is_still(&self, slot: Slot) -> bool {
        let Self { users, phones, waiting, counting, renamings, stories, .. } = self;
        users.is_still(slot)
            && renamings.is_still(slot)
            && stories.is_still(slot)
            && counting.is_still(slot)
            && phones.phones.all_of(slot, |state| state.held.is_still() && state.proofs == 0)
            && !phones.making.keys().any(|id| slot_of(*id) == slot)
            && !phones.undelivered.iter().any(|delivery| slot_of_phone(delivery.phone()) == slot)
            && waiting.users.all_of(slot, |reserved| reserved.held.is_still())
    }

    /// Lets go of a slot, which is still.
    pub(crate) fn let_go(&mut self, slot: Slot) -> Taken {
        self.barred.let_go(slot);
        self.erasing.let_go(slot);
        self.stories.let_go(slot);
        Taken {
            users: self.users.take(slot),
            watches: self.watches.take(slot),
            phones: self.phones.phones.take(slot),
            reserved: self.waiting.users.take(slot),
            spent: self.budgets.take(slot),
            texts: self.texts.take(slot),
            counts: self.addresses.take(slot),
            fading: self.fading.take(slot),
            wakes: self.wakes.take(slot),
        }
    }

    /// Takes up a slot that another core has let go.
    pub(crate) fn take_up(&mut self, cx: &mut Cx, taken: Taken) {
        let Taken { users, watches, phones, reserved, spent, texts, counts, fading, wakes } = taken;
        self.fading.put_back(fading);
        self.wakes.put_back(wakes, cx.now_ms);
        self.watches.put_back(watches);
        for (id, user) in users {
            self.users.insert(id, user);
            self.note_bar(id);
        }
        for (phone, state) in phones {
            self.phones.phones.insert(phone, state);
        }
        for (id, reserved) in reserved {
            self.waiting.users.insert(id, reserved);
        }
        self.budgets.put_back(spent);
        self.texts.put_back(texts);
        self.addresses.put_back(counts, cx.now_ms);
    }
}
