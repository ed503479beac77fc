//! What an account may do how often, all its devices and connections together. Kept by the owner of the account, in memory alone: no
//! new connection and no other device renews it; a restart does.

use std::hash::Hash;

use tern_storage::{LogId, Slot};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::limits::SUBSCRIBED_USERS_MAX;

use super::bucket::{Buckets, Rate};
use super::slot_of;
use crate::limits::{
    ACTS_BURST, ACTS_PER_MINUTE_MAX, BUCKETS_SWEPT_EVERY_MS, CALLS_BURST, CALLS_PER_HOUR_MAX, DAY_MS,
    HOUR_MS, LINKS_PER_MINUTE_MAX, Limits, MINUTE_MS, PUSHES_SET_FIRST, PUSHES_SET_PER_HOUR_MAX,
    RENAMES_PER_HOUR_MAX, RINGS_PER_MINUTE_MAX,
};
use crate::maps::Hashing;

/// The accounts of a core's slots that have done something of late.
#[derive(Debug)]
pub(super) struct Budgets {
    lookups: (Option<Rate>, Buckets<UserId>),
    searches: (Option<Rate>, Buckets<UserId>),
    discoveries: (Option<Rate>, Buckets<UserId>),
    sends: (Option<Rate>, Buckets<UserId>),
    strangers: (Option<Rate>, Buckets<UserId>),
    groups: (Option<Rate>, Buckets<UserId>),
    renames: (Option<Rate>, Buckets<UserId>),
    rings: (Option<Rate>, Buckets<UserId>),
    links: (Option<Rate>, Buckets<UserId>),
    pushes: (Option<Rate>, Buckets<UserId>),
    subscriptions: (Option<Rate>, Buckets<UserId>),
    reports: (Option<Rate>, Buckets<UserId>),
    audiences: (Option<Rate>, Buckets<UserId>),
    uploads: (Option<Rate>, Buckets<UserId>),
    stories: (Option<Rate>, Buckets<UserId>),
    acts: (Option<Rate>, Buckets<(UserId, LogId)>),
    calls: (Option<Rate>, Buckets<(UserId, LogId)>),
    swept_ms: u64,
}

impl Budgets {
    /// Nobody has done anything yet.
    pub(super) fn new(limits: &Limits, hashing: Hashing) -> Self {
        let Limits {
            lookups_per_minute_max,
            searches_per_minute_max,
            discovered_per_day_max,
            discovered_burst,
            sends_per_minute_max,
            sends_burst,
            strangers_per_hour_max,
            groups_per_day_max,
            subscriptions_per_minute_max,
            reports_per_day_max,
            uploads_per_hour_max,
            stories_per_hour_max,
            ..
        } = *limits;
        let of = |rate| (rate, Buckets::new(hashing));
        Self {
            searches: of(Rate::new(searches_per_minute_max, MINUTE_MS, searches_per_minute_max)),
            lookups: of(Rate::new(lookups_per_minute_max, MINUTE_MS, lookups_per_minute_max)),
            discoveries: of(Rate::new(discovered_per_day_max, DAY_MS, discovered_burst)),
            sends: of(Rate::new(sends_per_minute_max, MINUTE_MS, sends_burst)),
            strangers: of(Rate::new(strangers_per_hour_max, HOUR_MS, strangers_per_hour_max)),
            groups: of(Rate::new(groups_per_day_max, DAY_MS, groups_per_day_max)),
            renames: of(Rate::new(RENAMES_PER_HOUR_MAX, HOUR_MS, RENAMES_PER_HOUR_MAX)),
            rings: of(Rate::new(RINGS_PER_MINUTE_MAX, MINUTE_MS, RINGS_PER_MINUTE_MAX)),
            links: of(Rate::new(LINKS_PER_MINUTE_MAX, MINUTE_MS, LINKS_PER_MINUTE_MAX)),
            pushes: of(Rate::new(PUSHES_SET_PER_HOUR_MAX, HOUR_MS, PUSHES_SET_PER_HOUR_MAX)),
            subscriptions: of(Rate::new(
                subscriptions_per_minute_max,
                MINUTE_MS,
                subscriptions_per_minute_max.max(SUBSCRIBED_USERS_MAX as u32),
            )),
            reports: of(Rate::new(reports_per_day_max, DAY_MS, reports_per_day_max)),
            audiences: of(Rate::new(RENAMES_PER_HOUR_MAX, HOUR_MS, RENAMES_PER_HOUR_MAX)),
            uploads: of(Rate::new(uploads_per_hour_max, HOUR_MS, uploads_per_hour_max)),
            stories: of(Rate::new(stories_per_hour_max, HOUR_MS, stories_per_hour_max)),
            acts: (Rate::new(ACTS_PER_MINUTE_MAX, MINUTE_MS, ACTS_BURST), Buckets::new(hashing)),
            calls: (Rate::new(CALLS_PER_HOUR_MAX, HOUR_MS, CALLS_BURST), Buckets::new(hashing)),
            swept_ms: 0,
        }
    }

    /// May an account look somebody up, or list a page of its chats?
    pub(super) fn look_up(&mut self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        let detail = "the account looks up too many people, or lists its chats too often";
        take(&mut self.lookups, user, now_ms, detail)
    }

    /// May an account have a page of what it searches for?
    pub(super) fn search(&mut self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        take(&mut self.searches, user, now_ms, "the account searches too often")
    }

    /// May an account ask about so many numbers of an address book? All of them, or none.
    pub(super) fn discover(&mut self, user: UserId, numbers: usize, now_ms: u64) -> Result<(), Refusal> {
        let (rate, buckets) = &mut self.discoveries;
        let taken = buckets.take_of(user, *rate, now_ms, numbers as u32..=numbers as u32);
        let detail = "the account asks about too many numbers of address books";
        taken.map(drop).map_err(|wait_ms| Refusal::after(Reason::RateLimited, wait_ms, detail))
    }

    /// May an account send a message?
    pub(super) fn send(&mut self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        take(&mut self.sends, user, now_ms, "the account sends too much")
    }

    /// May an account write to one more person who has not written to it?
    pub(super) fn write_to_stranger(&mut self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        let detail = "the account writes to too many people who have not written to it";
        take(&mut self.strangers, user, now_ms, detail)
    }

    /// May an account make one more group?
    pub(super) fn make_group(&mut self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        take(&mut self.groups, user, now_ms, "the account makes too many groups")
    }

    /// May an account say where one of its devices is told by a push service?
    /// The first one has all its chats looked at, and counts for more.
    pub(super) fn set_push(&mut self, user: UserId, is_first: bool, now_ms: u64) -> Result<(), Refusal> {
        let (rate, buckets) = &mut self.pushes;
        let counts = if is_first { PUSHES_SET_FIRST } else { 1 };
        let taken = buckets.take_of(user, *rate, now_ms, counts..=counts);
        let detail = "the account says too often where its devices are told";
        taken.map(drop).map_err(|wait_ms| Refusal::after(Reason::RateLimited, wait_ms, detail))
    }

    /// May an account change a name? All who know it are told.
    pub(super) fn rename(&mut self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        take(&mut self.renames, user, now_ms, "the account changes its names too often")
    }

    /// Are others told that they see more of an account than before? Each change may be told to all who know it, as that of a name.
    pub(super) fn tell_audience(&mut self, user: UserId, now_ms: u64) -> bool {
        take(&mut self.audiences, user, now_ms, "who may see what is set too often").is_ok()
    }

    /// May an account have one of its devices ring?
    pub(super) fn ring(&mut self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        take(&mut self.rings, user, now_ms, "the account has its devices ring too often")
    }

    /// May an account have one more code by which a device is linked, or its card?
    pub(super) fn link(&mut self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        take(
            &mut self.links,
            user,
            now_ms,
            "the account asks for too many codes to link devices, or for its card too often",
        )
    }

    /// May an account's devices show so many more people?
    pub(super) fn subscribe(&mut self, user: UserId, more: usize, now_ms: u64) -> Result<(), Refusal> {
        let detail = "the account's devices show too many people in too short a time";
        (0..more.max(1)).try_for_each(|_| take(&mut self.subscriptions, user, now_ms, detail))
    }

    /// May an account tell the operators of somebody once more?
    pub(super) fn report(&mut self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        take(&mut self.reports, user, now_ms, "the account reports too much")
    }

    /// May an account upload one more medium?
    pub(super) fn upload(&mut self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        take(&mut self.uploads, user, now_ms, "the account uploads too much")
    }

    /// May an account post one more story?
    pub(super) fn post_story(&mut self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        take(&mut self.stories, user, now_ms, "the account posts too many stories")
    }

    /// It was not posted after all.
    pub(super) fn did_not_post_story(&mut self, user: UserId) {
        let (rate, buckets) = &mut self.stories;
        buckets.give_back(&user, *rate, 1);
    }

    /// May it be told once more what an account does in a chat? That it has begun, and that it is over, may follow on each other.
    pub(super) fn act(&mut self, user: UserId, log: LogId, now_ms: u64) -> Result<(), Refusal> {
        take(&mut self.acts, (user, log), now_ms, "what one does in a chat is told every 3 seconds")
    }

    /// May one more call in a chat of a user's wake them?
    pub(super) fn call_rings(&mut self, user: UserId, log: LogId, now_ms: u64) -> bool {
        let (rate, buckets) = &mut self.calls;
        buckets.take((user, log), *rate, now_ms).is_ok()
    }

    /// An account may do everything as if it had done nothing yet.
    pub(super) fn forget(&mut self, user: UserId) {
        for buckets in self.all() {
            buckets.forget(&user);
        }
    }

    /// Forgets those who have done little enough, now and then.
    pub(super) fn rest(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.swept_ms) >= BUCKETS_SWEPT_EVERY_MS {
            self.swept_ms = now_ms;
            for buckets in self.all() {
                buckets.sweep(now_ms);
            }
            self.acts.1.sweep(now_ms);
            self.calls.1.sweep(now_ms);
        }
    }

    /// Takes out what the accounts of a slot have used up.
    pub(super) fn take(&mut self, slot: Slot) -> Spent {
        Spent(self.all().map(|buckets| buckets.take_some(|user: &UserId| slot_of(*user) == slot)))
    }

    /// What accounts have used up elsewhere.
    pub(super) fn put_back(&mut self, Spent(spent): Spent) {
        for (buckets, spent) in self.all().into_iter().zip(spent) {
            buckets.put_back(spent);
        }
    }

    fn all(&mut self) -> [&mut Buckets<UserId>; KINDS] {
        [
            &mut self.lookups,
            &mut self.searches,
            &mut self.discoveries,
            &mut self.sends,
            &mut self.strangers,
            &mut self.groups,
            &mut self.renames,
            &mut self.rings,
            &mut self.links,
            &mut self.pushes,
            &mut self.subscriptions,
            &mut self.reports,
            &mut self.audiences,
            &mut self.uploads,
            &mut self.stories,
        ]
        .map(|(_, buckets)| buckets)
    }
}

/// What accounts have used up of each limit.
#[derive(Debug)]
pub(super) struct Spent([Vec<(UserId, u64)>; KINDS]);

/// Limits of an account. What it does in chats is of the moment, and does not move with it.
const KINDS: usize = 15;

fn take<K: Eq + Hash>(
    (rate, buckets): &mut (Option<Rate>, Buckets<K>),
    whose: K,
    now_ms: u64,
    detail: &'static str,
) -> Result<(), Refusal> {
    let taken = buckets.take(whose, *rate, now_ms);
    taken.map_err(|wait_ms| Refusal::after(Reason::RateLimited, wait_ms, detail))
}
