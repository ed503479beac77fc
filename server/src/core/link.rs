//! How plain threads reach a core: a bounded queue and a wake-up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_queue::{ArrayQueue, SegQueue};
use tern_shard::admin::{AdminRequest, AdminResponse};
use tern_shard::effects::{Push, PushFate, Pushed, Question, Verdict};
use tern_shard::slots::{CoreId, SlotTable};
use tern_storage::{LogId, Slot, Wake};
use tern_wire::tls::TlsServer;

use super::StoreHealth;
use super::moves::Moves;
use crate::control::{ANSWER_TIMEOUT, Control, ControlError, CoreLoad, MoveError};
use crate::mesh::Sleeper;
use tern_uring::Waker;

/// Questions that wait for one core. Beyond: [`ControlError::Busy`].
const QUESTIONS_MAX: usize = 1024;

/// What a plain thread wants of a core.
#[derive(Debug)]
pub(super) enum Call {
    Ask(AdminRequest, SyncSender<AdminResponse>),
    Drain,
    /// Handshakes begin with this from now on.
    Tls(TlsServer),
    /// Who owns which slot from now on.
    Slots(SlotTable),
    /// What has it done?
    Load(SyncSender<CoreLoad>),
}

/// What the content filter says of what it was asked about under this number, of this log.
pub(super) type Seen = (LogId, u64, Verdict);

/// Who wants to know what the content filter says of something.
#[derive(Debug)]
pub struct AnswerTo {
    link: CoreLink,
    log: LogId,
    number: u64,
}

impl AnswerTo {
    /// A core, of a question.
    pub(super) fn new(link: CoreLink, question: &Question) -> Self {
        Self { link, log: question.log, number: question.number }
    }

    /// It says this.
    pub fn is(self, verdict: Verdict) {
        self.link.seen.push((self.log, self.number, verdict));
        self.link.wake();
    }
}

/// Who wants to know what has become of a push.
#[derive(Debug)]
pub struct PushedTo {
    link: CoreLink,
    pushed: Pushed,
}

impl PushedTo {
    /// A core, of a push.
    pub(super) fn new(link: CoreLink, push: &Push) -> Self {
        let Push { device, log, number, ref to, .. } = *push;
        let pushed = Pushed { device, log, number, since_ms: to.since_ms, fate: PushFate::Unsent };
        Self { link, pushed }
    }

    /// This.
    pub fn is(self, fate: PushFate) {
        self.link.pushed.push(Pushed { fate, ..self.pushed });
        self.link.wake();
    }
}

/// The way to one core.
#[derive(Clone, Debug)]
pub struct CoreLink {
    core: CoreId,
    calls: Arc<ArrayQueue<Call>>,
    /// What the content filter says. No more than it was asked.
    seen: Arc<SegQueue<Seen>>,
    /// What has become of pushes. No more than there were.
    pushed: Arc<SegQueue<Pushed>>,
    sleepers: Arc<[Sleeper]>,
    waker: Waker,
}

impl CoreLink {
    pub(super) fn new(core: CoreId, sleepers: Arc<[Sleeper]>, waker: Waker) -> Self {
        let calls = Arc::new(ArrayQueue::new(QUESTIONS_MAX));
        let (seen, pushed) = (Arc::default(), Arc::default());
        Self { core, calls, seen, pushed, sleepers, waker }
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(super) fn next_call(&self) -> Option<Call> {
        self.calls.pop()
    }

    pub(super) fn next_seen(&self) -> Option<Seen> {
        self.seen.pop()
    }

    pub(super) fn next_pushed(&self) -> Option<Pushed> {
        self.pushed.pop()
    }

    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty() || !self.seen.is_empty() || !self.pushed.is_empty()
    }

    fn call(&self, call: Call) -> Result<(), ControlError> {
        self.calls.push(call).map_err(|_| ControlError::Busy)?;
        self.wake();
        Ok(())
    }
}

impl Wake for CoreLink {
    fn wake(&self) {
        if self.sleepers[usize::from(self.core.0)].claim() {
            self.waker.wake();
        }
    }
}

/// The way to all cores.
#[derive(Debug)]
pub struct Cores {
    /// The newest table.
    slots: Mutex<SlotTable>,
    /// Held by whoever moves a slot, until the move is over on every core.
    moving: Mutex<()>,
    links: Vec<CoreLink>,
    moves: Arc<Moves>,
    store: Arc<StoreHealth>,
    core_failed: Arc<AtomicBool>,
    draining: AtomicBool,
}

impl Cores {
    pub(super) fn new(
        slots: SlotTable,
        links: Vec<CoreLink>,
        moves: Arc<Moves>,
        (store, core_failed): (Arc<StoreHealth>, Arc<AtomicBool>),
    ) -> Self {
        Self {
            slots: Mutex::new(slots),
            moving: Mutex::new(()),
            links,
            moves,
            store,
            core_failed,
            draining: AtomicBool::new(false),
        }
    }

    fn stops(&self) -> bool {
        self.draining.load(Ordering::Acquire)
            || self.core_failed.load(Ordering::Acquire)
            || self.store.failed().is_some()
    }

    /// Calls a core, and waits for what it answers.
    fn answer<T>(&self, core: CoreId, call: impl FnOnce(SyncSender<T>) -> Call) -> Result<T, ControlError> {
        let (sender, answer) = sync_channel(1);
        self.links[usize::from(core.0)].call(call(sender))?;
        answer.recv_timeout(ANSWER_TIMEOUT).map_err(|_| ControlError::NoAnswer)
    }

    fn tell_all(&self, call: impl Fn() -> Call) {
        for link in &self.links {
            while link.call(call()).is_err() {
                std::thread::yield_now();
            }
        }
    }
}

impl Control for Cores {
    fn slots(&self) -> SlotTable {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn move_slot(&self, slot: Slot, to: CoreId) -> Result<Duration, MoveError> {
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.slots();
        if usize::from(to.0) >= self.links.len() {
            return Err(MoveError::NoSuchCore);
        }
        if table.owner(slot) == to {
            return Err(MoveError::IsThere);
        }
        if self.stops() {
            return Err(MoveError::Stopping);
        }
        let next = table.with_moved(slot, to);
        let version = next.version();
        self.tell_all(|| Call::Slots(next.clone()));
        *self.slots.lock().unwrap_or_else(PoisonError::into_inner) = next;
        self.moves.wait(version, || self.stops()).ok_or(MoveError::Stopping)
    }

    fn cores(&self) -> u16 {
        self.links.len() as u16
    }

    fn load(&self, core: CoreId) -> Result<CoreLoad, ControlError> {
        self.answer(core, Call::Load)
    }

    fn ask(&self, core: CoreId, request: AdminRequest) -> Result<AdminResponse, ControlError> {
        self.answer(core, |asker| Call::Ask(request, asker))
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.tell_all(|| Call::Drain);
    }

    fn use_tls(&self, tls: &TlsServer) {
        self.tell_all(|| Call::Tls(tls.clone()));
    }
}
