//! Requests under way: what each is for, the server's window, and how long an answer may take.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tern_proto::v1::{self, client_frame};

use super::Session;
use crate::machine::device::Device;
use crate::machine::io::Ticket;
use crate::machine::limits::{RESPONSE_TIMEOUT, RETRY_MIN};
use crate::machine::link::Link;
use crate::machine::rows::Person;

/// What a request under way is for.
pub(super) enum Pending {
    Send(u64),
    /// What is known of the person, should the server say no.
    Lookup(Option<Person>, Ticket),
    /// The server says that a person is not as before.
    Changed(u64),
    History(u64, Ticket),
    /// Something that changes nothing here.
    Ask(Ticket),
    /// Whom the device shows; who is answered, if it is not said once more.
    Show(Option<Ticket>),
    /// A read of what is missing in a chat.
    Fill(u64),
    Acknowledge {
        chat: u64,
        delivered: u64,
        read: u64,
    },
    Resume(v1::Resume),
    Ping,
}

impl Pending {
    /// Who is to be answered.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Lookup(_, ticket) | Self::History(_, ticket) | Self::Ask(ticket) => Some(*ticket),
            Self::Show(ticket) => *ticket,
            Self::Send(_)
            | Self::Changed(_)
            | Self::Fill(_)
            | Self::Acknowledge { .. }
            | Self::Resume(_)
            | Self::Ping => None,
        }
    }
}

/// A request of the client's own that was refused for now.
pub(super) enum Again {
    Changed(u64),
    Fill(u64),
    Resume(v1::Resume),
    Show,
}

/// See the module.
#[derive(Default)]
pub(super) struct Requests {
    /// Those that are not answered, with the bytes of their frames.
    under_way: BTreeMap<u64, (Pending, u64)>,
    bytes_under_way: u64,
    /// Those beyond the server's window.
    waiting: VecDeque<(client_frame::Request, Pending)>,
    /// The client's own that were refused for now, and when they are made again.
    again: Vec<(Duration, Again)>,
    /// When the oldest request must have been answered.
    pub(super) answer_by: Option<Duration>,
}

impl Requests {
    /// How many wait for the window.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the server takes one more request of so many bytes.
    fn has_room(&self, bytes: u64, limits: &v1::Limits) -> bool {
        self.under_way.is_empty()
            || (self.under_way.len() < limits.requests_in_flight_max as usize
                && self.bytes_under_way + bytes <= u64::from(limits.request_bytes_in_flight_max))
    }

    /// A response has come: what it answers, unless that is nothing.
    pub(super) fn answered(&mut self, id: u64, now: Duration) -> Option<Pending> {
        let (pending, bytes) = self.under_way.remove(&id)?;
        self.bytes_under_way -= bytes;
        // Each response gives the others time; without any request under way nothing is waited for.
        self.answer_by = (!self.under_way.is_empty()).then(|| now + RESPONSE_TIMEOUT);
        Some(pending)
    }

    /// Whether a request is under way, or waits to be.
    fn is_asking(&self, what: impl Fn(&Pending) -> bool) -> bool {
        let waiting = self.waiting.iter().map(|(_, pending)| pending);
        self.under_way.values().map(|(pending, _)| pending).chain(waiting).any(what)
    }

    /// Whether a `Resume` is not answered, or is to be made again.
    pub(super) fn is_resuming(&self) -> bool {
        self.is_asking(|pending| matches!(pending, Pending::Resume(_)))
            || self.again.iter().any(|(_, again)| matches!(again, Again::Resume(_)))
    }

    /// Whether an `Acknowledge` is not answered.
    pub(super) fn is_acknowledging(&self) -> bool {
        self.is_asking(|pending| matches!(pending, Pending::Acknowledge { .. }))
    }

    /// Whether what is missing in a chat is being read, or is to be read later.
    pub(super) fn is_filling(&self, chat: u64) -> bool {
        self.is_asking(|pending| matches!(pending, Pending::Fill(filling) if *filling == chat))
            || self.again.iter().any(|(_, again)| matches!(again, Again::Fill(filling) if *filling == chat))
    }

    /// Whether somebody who has changed is being looked up, or is to be later.
    pub(super) fn is_looking_up(&self, user: u64) -> bool {
        self.is_asking(|pending| matches!(pending, Pending::Changed(asked) if *asked == user))
            || self.again.iter().any(|(_, again)| matches!(again, Again::Changed(asked) if *asked == user))
    }

    /// A chat was put back: what was to be acknowledged of it before is not, any more.
    pub(super) fn forget_acknowledgements(&mut self, chat: u64) {
        let of_chat =
            |pending: &Pending| matches!(pending, Pending::Acknowledge { chat: of, .. } if *of == chat);
        self.waiting.retain(|(_, pending)| !of_chat(pending));
    }

    /// All that are not answered.
    pub(super) fn into_pending(self) -> impl Iterator<Item = Pending> {
        let under_way = self.under_way.into_values().map(|(pending, _)| pending);
        under_way.chain(self.waiting.into_iter().map(|(_, pending)| pending))
    }

    /// Has a request made again after the time that the server says, and up to as much again by chance.
    pub(super) fn later<S>(&mut self, device: &mut Device<S>, refused: &v1::Refused, again: Again) {
        let wait = Duration::from_millis(refused.retry_after_ms.into()).max(RETRY_MIN);
        self.again.push((device.now.monotonic + wait + device.entropy.jitter(wait), again));
    }

    pub(super) fn again_at(&self) -> Option<Duration> {
        self.again.iter().map(|(when, _)| *when).min()
    }

    /// Those that are to be made again now.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Again> {
        self.again.extract_if(.., |(when, _)| *when <= now).map(|(_, again)| again).collect()
    }
}

impl Session {
    /// Makes a request, or has it wait until the server's window has room for it.
    pub(super) fn request(&mut self, now: Duration, request: client_frame::Request, pending: Pending) {
        let bytes = Link::bytes_of(&request);
        if !self.requests.waiting.is_empty() || !self.requests.has_room(bytes, &self.link.limits) {
            return self.requests.waiting.push_back((request, pending));
        }
        let id = self.link.queue(request);
        self.requests.answer_by.get_or_insert(now + RESPONSE_TIMEOUT);
        self.requests.bytes_under_way += bytes;
        self.requests.under_way.insert(id, (pending, bytes));
    }

    /// Makes the requests that have waited, as far as there is room now.
    pub(super) fn ask_waiting(&mut self, now: Duration) {
        for (request, pending) in std::mem::take(&mut self.requests.waiting) {
            // Those behind one that waits wait too.
            self.request(now, request, pending);
        }
    }
}
