//! Which accounts operators have suspended, as they were told: nobody who comes later is let in.

use std::collections::BTreeMap;

use crate::world::LinkId;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Suspensions {
    /// Asked for and not answered, by user, with the latest that the node's clock has shown since.
    asked: BTreeMap<u64, u64>,
    hold: BTreeMap<u64, Suspension>,
}

/// One that is durable.
#[derive(Clone, Copy, Debug)]
struct Suspension {
    /// By the clock of the node.
    until_ms: u64,
    /// Connections that were made after so many were begun when an operator was told.
    links_before: u64,
}

impl Suspensions {
    /// An operator is about to suspend an account. `false`: one does already, and which of both holds nobody knows.
    pub(crate) fn begins(&mut self, user: u64) -> bool {
        self.hold.remove(&user);
        self.asked.insert(user, 0).is_none()
    }

    /// An operator was told that it is.
    pub(crate) fn holds(&mut self, user: u64, until_ms: u64, links_before: u64) {
        // It may be over by the time that an operator is told.
        if self.asked.remove(&user).is_some_and(|latest_ms| latest_ms < until_ms) {
            self.hold.insert(user, Suspension { until_ms, links_before });
        }
    }

    /// An operator is about to free an account, if it is known to be suspended.
    pub(crate) fn frees(&mut self, user: u64) -> bool {
        self.hold.remove(&user).is_some()
    }

    /// An operator frees an account whatever becomes of it meanwhile: which of both holds nobody knows.
    pub(crate) fn frees_anyhow(&mut self, user: u64) {
        self.asked.remove(&user);
        self.hold.remove(&user);
    }

    /// What was asked of the process is not answered any more.
    pub(crate) fn process_dies(&mut self) {
        self.asked.clear();
    }

    /// The node's clock shows so much: what is over once is so, though the clock may be set back.
    pub(crate) fn passes(&mut self, now_ms: u64) {
        self.hold.retain(|_, held| now_ms < held.until_ms);
        self.asked.values_mut().for_each(|latest_ms| *latest_ms = now_ms.max(*latest_ms));
    }

    /// A connection stands for a device of a user.
    pub(crate) fn let_in(&self, link: LinkId, user: u64) -> Result<(), String> {
        match self.hold.get(&user) {
            Some(held) if link.0 > held.links_before => {
                Err(format!("{user} is suspended until {}, and was let in", held.until_ms))
            }
            _ => Ok(()),
        }
    }
}
