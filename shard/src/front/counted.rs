//! What comes from one network is counted, whatever its connections ask for and whichever cores they are on.
//!
//! The network's owner has the bucket. A core that has connections from there takes **leases** of it: some of what may be asked for, which
//! it spends request by request in its own memory, so that a request costs no message. It asks for the next lease before the last one is
//! used up. What a core has nothing for waits, in order, until the owner has said how much there is: so no more is taken up than the
//! bucket gives since the start; in a window of time it may be more by what cores have of their leases when it begins. A lease that is not
//! used is given back after [`LEASE_IDLE_MS`]. A reconnect renews nothing: the account is the network's.
//!
//! Requests that wait behind a `Login` go with it to its user's core. What there was not for them, at most
//! [`REQUESTS_IN_FLIGHT_MAX_BEFORE_LOGIN`] a core, is owed: it is paid before anything else is taken up.
//!
//! If the owner does not answer in [`LEASE_WAIT_MS`], what waits is taken up: a limit is no reason to be away.

use tern_storage::Slot;
use tern_wire::errors::{Reason, Refusal};
#[cfg(doc)]
use tern_wire::limits::REQUESTS_IN_FLIGHT_MAX_BEFORE_LOGIN;
use tern_wire::request::Request;

use super::conns::Waiter;
use super::{Cx, Front};
use crate::limits::{ADDRESSES_MAX, LEASE_IDLE_MS, LEASE_SWEPT_EVERY_MS, LEASE_WAIT_MS, Limits};
use crate::maps::{Hashing, Map};
use crate::message::{Message, NetworkOp};
use crate::mutations::{Mutation, is};
use crate::network::Network;
use crate::reply::ConnId;

const TOO_MUCH: &str = "too much is asked for from this network address";

/// What a core has of each network's bucket.
#[derive(Debug)]
pub(super) struct Leases {
    accounts: Map<Network, Account>,
    swept_ms: u64,
}

/// Of one network.
#[derive(Debug, Default)]
struct Account {
    /// Below 0: what is owed.
    left: i64,
    /// There is nothing before this.
    empty_until_ms: u64,
    /// Since when its owner is asked for more.
    asked_ms: Option<u64>,
    used_ms: u64,
    /// Requests for which there was nothing. The windows of their connections bound them.
    waiting: Vec<(Waiter, Request)>,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Counted {
    /// It is taken up.
    Taken,
    /// It waits for the owner's word.
    Waits,
    /// There is nothing for it for so many milliseconds.
    Refused(u64),
}

impl Account {
    fn count(&mut self, now_ms: u64) -> Counted {
        self.used_ms = now_ms;
        // The clock may have been set back.
        if self.empty_until_ms > now_ms.saturating_add(LEASE_EMPTY_MS_MAX) {
            self.empty_until_ms = 0;
        }
        if !self.waiting.is_empty() {
            return Counted::Waits;
        }
        if self.left > 0 {
            self.left -= 1;
            return Counted::Taken;
        }
        match self.empty_until_ms.saturating_sub(now_ms) {
            0 => Counted::Waits,
            wait_ms => Counted::Refused(wait_ms),
        }
    }
}

/// What is owed is asked for without one.
const NO_CONNECTION: ConnId = ConnId { index: u32::MAX, generation: 0 };

/// No bucket is empty for longer: one in a minute is the least that can be set.
const LEASE_EMPTY_MS_MAX: u64 = 60_000;

impl Leases {
    pub(super) fn new(hashing: Hashing) -> Self {
        Self { accounts: Map::with_hasher(hashing), swept_ms: 0 }
    }
}

/// How much a core asks for at once: so that dozens of cores leave something for each other.
fn lease(limits: &Limits) -> u32 {
    (limits.address_requests_burst / 32).clamp(1, 64)
}

impl Front {
    /// A request has come that counts against its connection's window: it is taken up if its network may ask for one more.
    pub(super) fn count(&mut self, cx: &mut Cx, waiter: Waiter, request: Request) {
        let limits = cx.limits();
        let lease = lease(limits);
        if limits.address_requests_per_minute_max == 0 {
            return self.take_up(cx, waiter, request);
        }
        let network = self.network_of(cx, waiter.conn);
        let accounts = &mut self.leases.accounts;
        let is_known = accounts.contains_key(&network);
        // Beyond the bound those who come are not counted until others have been forgotten.
        if network == Network::UNKNOWN || (!is_known && accounts.len() >= ADDRESSES_MAX) {
            return self.take_up(cx, waiter, request);
        }
        let account = accounts.entry(network).or_default();
        let counted = account.count(cx.now_ms);
        let asks = match counted {
            Counted::Taken => account.left < i64::from(lease / 2),
            Counted::Waits => true,
            Counted::Refused(_) => false,
        };
        if asks && account.asked_ms.is_none() && account.empty_until_ms <= cx.now_ms {
            account.asked_ms = Some(cx.now_ms);
            Self::ask_for_lease(cx, waiter.conn, network, lease);
        }
        match counted {
            Counted::Taken => self.take_up(cx, waiter, request),
            Counted::Waits => {
                let account = self.leases.accounts.get_mut(&network).expect("it was just looked at");
                account.waiting.push((waiter, request));
            }
            Counted::Refused(wait_ms) => {
                self.turn_down(cx, waiter, Refusal::after(Reason::RateLimited, wait_ms, TOO_MUCH));
            }
        }
    }

    fn ask_for_lease(cx: &mut Cx, conn: ConnId, network: Network, lease: u32) {
        let place = cx.place(conn);
        let message = Message::Network(network, NetworkOp::Lease(place, lease));
        cx.tell_owner(Slot::of_address(network.bytes()), message);
    }

    /// From where a connection has come.
    fn network_of(&mut self, cx: &mut Cx, id: ConnId) -> Network {
        let session = self.conns.get(id).and_then(|conn| conn.session.as_deref());
        match session {
            Some(session) => session.network(),
            None => Network::of(cx.fx().peer_address(id)),
        }
    }

    /// The owner of a network gives so much more; or nothing, for so many milliseconds.
    pub(super) fn leased(&mut self, cx: &mut Cx, id: ConnId, network: Network, granted: Result<u32, u64>) {
        let lease = lease(cx.limits());
        // It may have been forgotten meanwhile; then what is given is lost.
        let Some(account) = self.leases.accounts.get_mut(&network) else { return };
        account.asked_ms = None;
        match granted {
            Ok(more) => account.left += i64::from(more),
            Err(wait_ms) => account.empty_until_ms = cx.now_ms + wait_ms,
        }
        let waiting = std::mem::take(&mut account.waiting);
        let mut waiting = waiting.into_iter();
        while let Some((waiter, request)) = waiting.next() {
            if self.conns.get(waiter.conn).is_none_or(|conn| conn.closing) {
                continue;
            }
            let account = self.leases.accounts.get_mut(&network).expect("nobody forgets it here");
            match account.count(cx.now_ms) {
                Counted::Taken => {
                    // What a `Login` takes with it to another core is found with the account.
                    account.waiting = waiting.collect();
                    self.take_up(cx, waiter, request);
                    let account = self.leases.accounts.get_mut(&network).expect("nobody forgets it here");
                    waiting = std::mem::take(&mut account.waiting).into_iter();
                }
                Counted::Refused(wait_ms) => {
                    self.turn_down(cx, waiter, Refusal::after(Reason::RateLimited, wait_ms, TOO_MUCH));
                }
                Counted::Waits => {
                    account.waiting = std::iter::once((waiter, request)).chain(waiting).collect();
                    account.asked_ms = Some(cx.now_ms);
                    return Self::ask_for_lease(cx, id, network, lease);
                }
            }
        }
    }

    /// Does what a request asks for, or has it wait with those before it.
    fn take_up(&mut self, cx: &mut Cx, waiter: Waiter, request: Request) {
        let Some(conn) = self.conns.get(waiter.conn) else { return };
        match &mut conn.pause {
            Some(pause) => pause.waiting.push((waiter, request)),
            None => self.request(cx, waiter, request),
        }
    }

    /// How many requests of a connection wait to be counted.
    pub(super) fn uncounted(&mut self, cx: &mut Cx, id: ConnId) -> usize {
        let network = self.network_of(cx, id);
        let account = self.leases.accounts.get(&network);
        account.map_or(0, |account| account.waiting.iter().filter(|(waiter, _)| waiter.conn == id).count())
    }

    /// They go with it to its user's core: they are counted as they go.
    pub(super) fn take_uncounted(&mut self, cx: &mut Cx, id: ConnId) -> Vec<(Waiter, Request)> {
        let network = self.network_of(cx, id);
        let Some(account) = self.leases.accounts.get_mut(&network) else { return Vec::new() };
        let taken: Vec<_> = account.waiting.extract_if(.., |(waiter, _)| waiter.conn == id).collect();
        account.left -= taken.len() as i64;
        taken
    }

    /// A connection has begun.
    pub(super) fn forgets_on_reconnect(&mut self, cx: &mut Cx, id: ConnId) {
        if is(Mutation::RenewOnReconnect) {
            let network = Network::of(cx.fx().peer_address(id));
            if let Some(account) = self.leases.accounts.get_mut(&network) {
                (account.left, account.empty_until_ms) = (lease(cx.limits()).into(), 0);
            }
        }
    }

    /// Time has passed: what no connection uses is given back, and what has waited for too long is taken up.
    pub(super) fn sweep_leases(&mut self, cx: &mut Cx) {
        let now_ms = cx.now_ms;
        self.leases.swept_ms = self.leases.swept_ms.min(now_ms);
        if self.leases.accounts.is_empty() || now_ms - self.leases.swept_ms < LEASE_SWEPT_EVERY_MS {
            return;
        }
        self.leases.swept_ms = now_ms;
        let mut overdue = Vec::new();
        for (network, account) in &mut self.leases.accounts {
            // The clock may have been set back: what is ahead of it counts as now.
            account.used_ms = account.used_ms.min(now_ms);
            account.asked_ms = account.asked_ms.map(|asked_ms| asked_ms.min(now_ms));
            if account.asked_ms.is_some_and(|asked_ms| now_ms - asked_ms >= LEASE_WAIT_MS) {
                overdue.push(*network);
            }
        }
        for network in overdue {
            let account = self.leases.accounts.get_mut(&network).expect("nobody forgets it here");
            account.asked_ms = None;
            let waiting = std::mem::take(&mut account.waiting);
            for (waiter, request) in waiting {
                if self.conns.get(waiter.conn).is_some_and(|conn| !conn.closing) {
                    self.take_up(cx, waiter, request);
                }
            }
        }
        self.give_leases_back(cx);
    }

    fn give_leases_back(&mut self, cx: &mut Cx) {
        let (now_ms, lease) = (cx.now_ms, lease(cx.limits()));
        let is_idle = |_: &Network, account: &mut Account| {
            account.asked_ms.is_none()
                && account.empty_until_ms <= now_ms
                && now_ms - account.used_ms >= LEASE_IDLE_MS
        };
        let idle: Vec<_> = self.leases.accounts.extract_if(is_idle).collect();
        for (network, account) in idle {
            let owner = Slot::of_address(network.bytes());
            match u32::try_from(account.left) {
                Ok(0) => {}
                Ok(unused) => {
                    cx.tell_owner(owner, Message::Network(network, NetworkOp::GiveBack(unused)));
                }
                Err(_) => {
                    let owes = Account { asked_ms: Some(now_ms), ..account };
                    let wanted = NetworkOp::Lease(cx.place(NO_CONNECTION), lease);
                    cx.tell_owner(owner, Message::Network(network, wanted));
                    self.leases.accounts.insert(network, owes);
                }
            }
        }
        if self.leases.accounts.is_empty() {
            self.leases.accounts.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_leased_is_spent_and_what_is_not_waits_or_is_refused_for_as_long_as_is_true() {
        let mut account = Account { left: 2, ..Account::default() };
        assert_eq!(account.count(1000), Counted::Taken);
        assert_eq!(account.count(1000), Counted::Taken);
        assert_eq!(account.count(1000), Counted::Waits);
        account.empty_until_ms = 1600;
        assert_eq!(account.count(1100), Counted::Refused(500));
        assert_eq!(account.count(1600), Counted::Waits);
        account.empty_until_ms = 10_000_000;
        assert_eq!(account.count(1100), Counted::Waits, "a clock that was set back shuts nobody out");
    }
}
