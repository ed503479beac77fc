//! How plain threads reach a core: a bounded queue and a wake-up.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use crossbeam_queue::ArrayQueue;
use tern_shard::admin::{AdminRequest, AdminResponse};
use tern_shard::slots::{CoreId, SlotTable};
use tern_storage::Wake;
use tern_wire::tls::TlsServer;

use crate::control::{ANSWER_TIMEOUT, Control, ControlError};
use crate::mesh::Sleeper;
use tern_uring::Waker;

/// Questions that wait for one core. Beyond: [`ControlError::Busy`].
const QUESTIONS_MAX: usize = 1024;

/// What a plain thread wants of a core.
#[derive(Debug)]
pub(super) enum Call {
    Ask(AdminRequest, SyncSender<AdminResponse>),
    Drain,
    /// Handshakes begin with this certificate from now on.
    Certificate(TlsServer),
}

/// The way to one core.
#[derive(Clone, Debug)]
pub struct CoreLink {
    core: CoreId,
    calls: Arc<ArrayQueue<Call>>,
    sleepers: Arc<[Sleeper]>,
    waker: Waker,
}

impl CoreLink {
    pub(super) fn new(core: CoreId, sleepers: Arc<[Sleeper]>, waker: Waker) -> Self {
        Self { core, calls: Arc::new(ArrayQueue::new(QUESTIONS_MAX)), sleepers, waker }
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(super) fn next_call(&self) -> Option<Call> {
        self.calls.pop()
    }

    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
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
    slots: SlotTable,
    links: Vec<CoreLink>,
}

impl Cores {
    pub(super) fn new(slots: SlotTable, links: Vec<CoreLink>) -> Self {
        Self { slots, links }
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
    fn slots(&self) -> &SlotTable {
        &self.slots
    }

    fn cores(&self) -> u16 {
        self.links.len() as u16
    }

    fn ask(&self, core: CoreId, request: AdminRequest) -> Result<AdminResponse, ControlError> {
        let (sender, answer) = sync_channel(1);
        self.links[usize::from(core.0)].call(Call::Ask(request, sender))?;
        answer.recv_timeout(ANSWER_TIMEOUT).map_err(|_| ControlError::NoAnswer)
    }

    fn drain(&self) {
        self.tell_all(|| Call::Drain);
    }

    fn use_certificate(&self, tls: &TlsServer) {
        self.tell_all(|| Call::Certificate(tls.clone()));
    }
}
