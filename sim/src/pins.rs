//! What people know of the PINs of their accounts, and what the server has promised: with a PIN that was acknowledged, and that nobody
//! has asked to be removed since, nobody is let in without it.

use std::collections::BTreeMap;

/// Wrong ones that people try, of each phone: fewer than are let in a day, for some are sent again when their answer was lost.
const WRONG_MAX: u32 = 2;

/// An account's.
#[derive(Default, Debug)]
struct Pin {
    /// Somebody has asked for one.
    was_wanted: bool,
    /// How often its end was asked for, and how many of these were not answered.
    removals: u32,
    removals_open: u32,
    /// It is there, by what was acknowledged.
    is_set: bool,
    wrong: u32,
}

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct Pins {
    by_phone: BTreeMap<String, Pin>,
}

/// What somebody gives for a PIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Given {
    Right,
    Wrong,
    Nothing,
}

/// A request to set a PIN, or to remove it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    removes: bool,
    removals: u32,
    /// Removals that were not answered: nobody knows which of them and this comes first.
    beside: u32,
}

/// The one PIN that somebody with this phone ever sets.
pub(crate) fn pin_of(phone: &str) -> String {
    format!("pin of {phone}")
}

impl Given {
    /// As it is sent.
    pub(crate) fn to_pin(self, phone: &str) -> String {
        match self {
            Self::Right => pin_of(phone),
            Self::Wrong => "some other pin".to_owned(),
            Self::Nothing => String::new(),
        }
    }
}

impl Pins {
    fn of(&mut self, phone: &str) -> &mut Pin {
        self.by_phone.entry(phone.to_owned()).or_default()
    }

    /// A PIN is about to be set, or removed.
    pub(crate) fn asks(&mut self, phone: &str, removes: bool) -> Asked {
        let pin = self.of(phone);
        let beside = pin.removals_open;
        if removes {
            (pin.removals, pin.removals_open, pin.is_set) = (pin.removals + 1, pin.removals_open + 1, false);
        } else {
            pin.was_wanted = true;
        }
        Asked { removes, removals: pin.removals, beside }
    }

    /// It was done.
    pub(crate) fn is_done(&mut self, phone: &str, asked: Asked) {
        let pin = self.of(phone);
        if asked.removes {
            pin.removals_open -= 1;
        } else if asked.beside == 0 && pin.removals_open == 0 && pin.removals == asked.removals {
            // No removal may come behind it.
            pin.is_set = true;
        }
    }

    /// Whether nobody may be let in without the PIN: since that many removals.
    pub(crate) fn locked(&self, phone: &str) -> Option<u32> {
        self.by_phone.get(phone).filter(|pin| pin.is_set).map(|pin| pin.removals)
    }

    /// Whether there may be a PIN.
    pub(crate) fn was_wanted(&self, phone: &str) -> bool {
        self.by_phone.get(phone).is_some_and(|pin| pin.was_wanted)
    }

    /// Whether somebody tries a wrong one now.
    pub(crate) fn tries_wrong(&mut self, phone: &str) -> bool {
        let pin = self.of(phone);
        let tries = pin.wrong < WRONG_MAX;
        pin.wrong += u32::from(tries);
        tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_locked_only_when_no_removal_may_come_behind_its_pin() {
        let mut pins = Pins::default();
        let set = pins.asks("1", false);
        assert_eq!(pins.locked("1"), None, "it was not acknowledged");
        pins.is_done("1", set);
        assert_eq!(pins.locked("1"), Some(0));
        let (removed, late) = (pins.asks("1", true), pins.asks("1", false));
        assert_eq!(pins.locked("1"), None);
        pins.is_done("1", late);
        assert_eq!(pins.locked("1"), None, "the removal may come behind it");
        pins.is_done("1", removed);
        assert_eq!(pins.locked("1"), None, "or it did");
        let (removed, set) = (pins.asks("1", true), pins.asks("1", false));
        pins.is_done("1", removed);
        pins.is_done("1", set);
        assert_eq!(pins.locked("1"), None, "its answer came late, and the removal may have come behind it");
        let set = pins.asks("1", false);
        pins.is_done("1", set);
        assert_eq!(pins.locked("1"), Some(2));
    }
}
