//! How plain threads (the admin socket, signals) reach the cores.

use std::time::Duration;

use tern_shard::admin::{AdminRequest, AdminResponse};
use tern_shard::load::Load;
use tern_shard::slots::{CoreId, SlotTable};
use tern_storage::{Key, Slot};
use tern_wire::ids::{Phone, UserId};
use tern_wire::tls::TlsServer;

/// How long a core may take to answer an operator.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a core did not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlError {
    /// The core's queue of operators' questions is full.
    Busy,
    /// No answer within [`ANSWER_TIMEOUT`], or the core has stopped.
    NoAnswer,
}

impl std::fmt::Display for ControlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Busy => write!(f, "too many questions wait for that core: try again"),
            Self::NoAnswer => write!(f, "the core has not answered: is ternd stopping?"),
        }
    }
}

impl std::error::Error for ControlError {}

/// Asks for a page of what is durable, and lies with no core: any one reads it. Gives what `of` takes out of the answer, and from where on
/// there is more.
///
/// # Errors
/// Why there is none, for an operator.
pub fn ask_page<T>(
    control: &dyn Control,
    request: AdminRequest,
    of: impl Fn(AdminResponse) -> Option<Page<T>>,
) -> Result<Page<T>, String> {
    match control.ask(ANY, request) {
        Ok(AdminResponse::Refused(why)) => Err(why),
        Ok(answer) => of(answer).ok_or_else(|| "the core answered something else".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What [`ask_page`] gives.
pub type Page<T> = (Vec<T>, Option<Key>);

/// Any core reads what is durable.
pub const ANY: CoreId = CoreId(0);

/// Why a slot did not move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveError {
    /// There is no such core.
    NoSuchCore,
    /// It is that core's already.
    IsThere,
    /// The node stops, or is stopping.
    Stopping,
}

impl std::fmt::Display for MoveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchCore => write!(f, "there is no such core"),
            Self::IsThere => write!(f, "that core has the slot already"),
            Self::Stopping => write!(f, "the node is stopping: nothing moves any more"),
        }
    }
}

impl std::error::Error for MoveError {}

/// What a core has done since it began.
#[derive(Clone, Debug)]
pub struct CoreLoad {
    /// CPU time of its thread, in ns.
    pub cpu_ns: u64,
    /// What it has done for each slot.
    pub slots: Box<[Load]>,
    /// How long its batches took to be durable, and its turns: by upper bound, in us.
    pub commits_us: Vec<(f64, u64)>,
    /// See there.
    pub turns_us: Vec<(f64, u64)>,
}

/// The way to the cores. Shared by threads that may block; never used by a core itself.
pub trait Control: Send + Sync {
    /// The slots' owners.
    fn slots(&self) -> SlotTable;

    /// Has a slot move to another core, and waits until that is over on every core. Gives for how long what was asked of the slot has
    /// waited meanwhile.
    fn move_slot(&self, slot: Slot, to: CoreId) -> Result<Duration, MoveError>;

    /// How many cores there are.
    fn cores(&self) -> u16;

    /// What a core has done for each slot, and what it has used for that, since it began.
    fn load(&self, core: CoreId) -> Result<CoreLoad, ControlError>;

    /// Asks a core and waits for its answer.
    fn ask(&self, core: CoreId, request: AdminRequest) -> Result<AdminResponse, ControlError>;

    /// Begins to drain: no new connections, GoAway to all, finish commits, stop.
    fn drain(&self);

    /// Has handshakes begin with another certificate, or other keys of tickets, from now on. Established connections stay.
    fn use_tls(&self, tls: &TlsServer);
}

/// The core that owns a phone.
pub fn owner_of(control: &dyn Control, phone: &Phone) -> CoreId {
    control.slots().owner(Slot::of_phone(phone.digits()))
}

/// The core that owns a user.
pub fn owner_of_user(control: &dyn Control, user: UserId) -> CoreId {
    control.slots().owner(Slot::of_user(user.get()))
}
