//! Accounts: phones and their one-time codes, users and their devices, tokens, and who may ask how often.
//!
//! A user is made by the slot of the phone that registers, so a phone, its user and the user's devices have one owner
//! and change in one batch.

mod adding;
mod addresses;
mod attach;
mod barred;
mod bucket;
mod budgets;
mod cards;
mod codes;
mod counting;
mod delivery;
mod devices;
mod ending;
mod erasing;
mod groups;
mod inbox;
mod kept;
mod links;
mod making;
mod moving;
mod networks;
mod operators;
mod people;
mod phones;
mod pictures;
mod pin;
mod presence;
mod profiles;
mod push;
mod recovery;
mod refresh;
mod relations;
mod reports;
mod reserved;
mod seeking;
mod stories;
mod texts;
mod uploads;
mod users;
mod waits;

use std::sync::Arc;

use tern_storage::Slot;
use tern_wire::ids::{Phone, UserId};

use self::addresses::Addresses;
use self::barred::Barred;
use self::budgets::Budgets;
use self::counting::Counting;
use self::erasing::Erasing;
use self::kept::Kept;
pub(crate) use self::moving::Taken;
use self::phones::Phones;
use self::pictures::Renamings;
use self::presence::Fading;
use self::push::Wakes;
use self::recovery::Watches;
use self::reserved::Waiting;
use self::stories::Stories;
use self::texts::Texts;
use self::uploads::Beginnings;
use self::waits::{After, GetFor, ScanFor};
use crate::cx::{AnswersQuestions, Cx as AnyCx, Department, KnowsPeople};
use crate::held::Loads;
use crate::limits::Limits;
use crate::maps::Hashing;
use crate::rounds::Round;
use crate::slots::{CoreId, ProcessId};
use crate::tokens::Keys;

/// See the module.
#[derive(Debug)]
pub(crate) struct Accounts {
    users: Kept,
    phones: Phones,
    addresses: Addresses,
    budgets: Budgets,
    barred: Barred,
    texts: Texts,
    reports_round: Round,
    counting: Counting,
    erasing: Erasing,
    beginnings: Beginnings,
    renamings: Renamings,
    stories: Stories,
    waiting: Waiting,
    watches: Watches,
    loads: Loads,
    fading: Fading,
    wakes: Wakes,
    keys: Arc<Keys>,
    /// One-time codes may be shown to operators.
    development: bool,
}

impl Department for Accounts {
    type After = After;
    type Get = GetFor;
    type Scan = ScanFor;
}

impl KnowsPeople for Accounts {}

impl AnswersQuestions for Accounts {}

type Cx<'a> = AnyCx<'a, Accounts>;

impl Accounts {
    /// Nobody is known. Most connections are `here`.
    pub(crate) fn new(
        here: (ProcessId, CoreId),
        keys: Arc<Keys>,
        development: bool,
        limits: &Limits,
        hashing: Hashing,
    ) -> Self {
        Self {
            users: Kept::new(here, hashing),
            phones: Phones::new(hashing),
            addresses: Addresses::new(limits, hashing),
            budgets: Budgets::new(limits, hashing),
            barred: Barred::default(),
            texts: Texts::new(hashing),
            reports_round: Round::default(),
            counting: Counting::default(),
            erasing: Erasing::default(),
            beginnings: Beginnings::default(),
            renamings: Renamings::default(),
            stories: Stories::default(),
            waiting: Waiting::new(hashing),
            watches: Watches::default(),
            loads: Loads::new(here.1),
            fading: Fading::default(),
            wakes: Wakes::new(here.1, hashing),
            keys,
            development,
        }
    }

    /// How many users are in memory.
    pub(crate) fn count(&self) -> usize {
        self.users.len()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, cx: &mut Cx) {
        cx.say_put_off();
        self.deliver_waiting(cx);
        self.budgets.rest(cx.now_ms);
        self.addresses.rest(cx.now_ms);
        self.texts.rest(cx.now_ms);
        self.end_suspensions(cx);
        self.go_round_reports(cx);
        self.add_counts_up(cx);
        self.go_on_erasing(cx);
        self.recover_some(cx);
        self.let_fade(cx);
        self.go_on_pushing(cx);
        // Users that are silent are packed, and those leave that nobody needs.
        self.users.pack_some(cx.limits().users_cached_max);
    }
}

/// The slot of a user.
fn slot_of(user: UserId) -> Slot {
    Slot::of_user(user.get())
}

/// The slot of a phone.
fn slot_of_phone(phone: &Phone) -> Slot {
    Slot::of_phone(phone.digits())
}

/// Whether a request that may read and write has room.
fn has_room(cx: &Cx) -> bool {
    cx.may_read() && cx.may_write(0)
}
