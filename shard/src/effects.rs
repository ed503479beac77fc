//! What the brain does to the world: everything leaves through [`Effects`].

use bytes::Bytes;
use tern_proto::v1;
use tern_storage::records::PushTokenRecord;
use tern_storage::{
    Batch, Busy, CommitId, Direction, Fence, Key, KeyRange, Lane, LogId, ReadId, ScanLimit, Slot, StoreError,
};
use tern_wire::ids::{ClientMessageId, MediaId, Phone, UserId};
use tern_wire::push::PushService;

use crate::admin::AdminResponse;
use crate::entry::Author;
use crate::front::Arrival;
use crate::message::Message;
use crate::reply::ConnId;
use crate::slots::CoreId;

/// The shell's side of one core. Nothing here blocks.
pub trait Effects {
    /// Queues a frame to a connection of this core. Gives its bytes without the length prefix; nothing happens if the
    /// connection has gone.
    fn send(&mut self, conn: ConnId, frame: &v1::ServerFrame) -> usize;

    /// The same for a frame that nobody waits for: it may leave with the next one that somebody does wait for, or a little later.
    fn send_lazily(&mut self, conn: ConnId, frame: &v1::ServerFrame) -> usize {
        self.send(conn, frame)
    }

    /// The same for a frame that goes to many: its bytes, length prefix included, are made already.
    fn send_encoded(&mut self, conn: ConnId, frame: &v1::ServerFrame, bytes: &[u8]) -> usize {
        // For shells that look at frames and not at bytes.
        let _ = bytes;
        self.send(conn, frame)
    }

    /// What is queued to a connection may leave with the next frame, which follows, or a little later.
    fn hold(&mut self, conn: ConnId) {
        // For shells that look at frames and not at sends.
        let _ = conn;
    }

    /// Bytes queued to a connection that have not left.
    fn backlog(&mut self, conn: ConnId) -> usize;

    /// Asks for one [`Input::Drained`](crate::input::Input::Drained) when the connection's queue is empty.
    fn notify_drained(&mut self, conn: ConnId);

    /// Closes a connection once what was queued has left. [`Input::Closed`](crate::input::Input::Closed) follows.
    fn close(&mut self, conn: ConnId);

    /// Moves a connection to another core with all that was received and not yet handled. The brain forgets it here,
    /// and the other brain gets [`Input::Arrived`](crate::input::Input::Arrived); or, if it goes on the way, this one gets
    /// [`Input::Lost`](crate::input::Input::Lost).
    fn move_to(&mut self, conn: ConnId, core: CoreId, arrival: Arrival);

    /// A connection has said which client program it is, for operators' statistics. Strangers say it.
    fn greeted(&mut self, conn: ConnId, client: &str) {
        // For shells without statistics.
        let _ = (conn, client);
    }

    /// A connection of this core stands for a device of a user from now on: what bounds strangers bounds it no more.
    fn authenticated(&mut self, conn: ConnId, device: Author) {
        // For shells without bounds of their own.
        let _ = (conn, device);
    }

    /// The network address at the other end: IPv6, or IPv4 mapped into it. All zeros if it is not known, or says nothing.
    fn peer_address(&mut self, conn: ConnId) -> [u8; 16];

    /// Sends a message to another core. Messages of a pair of cores arrive in order.
    fn tell(&mut self, core: CoreId, message: Message);

    /// Whether so much waits for a core that new work for it should be refused.
    fn congested(&self, core: CoreId) -> bool;

    /// See [`tern_storage::Port::submit_in`].
    fn submit(&mut self, lane: Lane, batch: Batch, deciding: Fence)
    -> Result<CommitId, Busy<(Batch, Fence)>>;

    /// See [`tern_storage::Port::get`].
    fn get(&mut self, key: Key) -> Result<ReadId, Busy<Key>>;

    /// See [`tern_storage::Port::scan`].
    fn scan(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<ReadId, Busy<KeyRange>>;

    /// Has a one-time code delivered; `false` if the queue to the deliverer is full.
    fn deliver_code(&mut self, phone: &Phone, code: &str, expires_ms: u64) -> bool;

    /// Has a content filter look at something that somebody wants to say; `false` if that can't be done now.
    /// [`Input::Seen`](crate::input::Input::Seen) follows, unless it is lost.
    fn look_at(&mut self, question: Question) -> bool {
        // For shells without a filter.
        let _ = question;
        false
    }

    /// Has the bytes of a medium removed, which nothing has. When they are gone, that is said to the owner of its slot
    /// ([`AdminRequest::MediumRemoved`](crate::admin::AdminRequest::MediumRemoved)); until then it may be asked for again.
    fn remove_medium(&mut self, medium: MediaId) {
        // For shells without media.
        let _ = medium;
    }

    /// Has a device told by a push service; `false` if that can't be done now. [`Input::Pushed`](crate::input::Input::Pushed) follows,
    /// unless the process ends.
    fn push(&mut self, push: Push) -> bool {
        // For shells without push services.
        let _ = push;
        false
    }

    /// Answers an operator's question.
    fn answer(&mut self, question: u64, response: AdminResponse);

    /// A message has reached a station of its way.
    fn passed(&mut self, author: Author, client_id: ClientMessageId, stage: Stage);

    /// So many entries are kept no longer.
    fn gone(&mut self, how: Gone, entries: u64) {
        // For shells that count nothing.
        let _ = (how, entries);
    }

    /// The store said something that an operator must know; after [`StoreError::Failed`] the node must stop. Of batches that
    /// fail in a row only the first is told.
    fn store_trouble(&mut self, error: &StoreError);

    /// A slot is on its way from core to core.
    fn slot_moves(&mut self, slot: Slot, step: MoveStep) {
        // For shells that measure nothing.
        let _ = (slot, step);
    }

    /// The owner of a slot has not answered in time what a connection has asked: it can't be reached, or there is a mistake in it. Of
    /// many such only one is told now and then.
    fn unanswered(&mut self, owner: CoreId, slot: Slot) {
        // For shells without operators.
        let _ = (owner, slot);
    }

    /// The store takes batches again, after so many that it did not take.
    fn store_recovered(&mut self, refused: u64);
}

/// What a content filter is asked about.
#[derive(Clone, PartialEq, Eq)]
pub struct Question {
    /// Of which log. With the number it says where the answer belongs.
    pub log: LogId,
    /// The number of the ask, among those of the core.
    pub number: u64,
    /// Names the message, and says nothing of it: a retry has the same.
    pub id: u64,
    /// Who wants to say it.
    pub sender: UserId,
    /// The kind, as on the wire.
    pub kind: i32,
    /// What it says in words.
    pub text: String,
}

/// Shows no content.
impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Question {{ {:?}, {}, {} bytes }}", self.log, self.number, self.text.len())
    }
}

/// What a content filter says of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It may be said.
    Pass,
    /// It may not.
    Refuse,
    /// It may be said, and operators are to see it.
    Report,
    /// Nothing: it can't be asked, or did not answer in time.
    Unanswered,
}

/// What a content filter is asked about, and what becomes of that about which it says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filtering {
    /// What is said in direct chats.
    pub direct: bool,
    /// What is said in groups, and of them.
    pub groups: bool,
    /// How long an answer is waited for, in milliseconds.
    pub timeout_ms: u64,
    /// What it says nothing about passes; otherwise it is refused for now.
    pub passes_unanswered: bool,
}

/// What a device is told by a push service, which is not connected.
#[derive(Clone, PartialEq, Eq)]
pub struct Push {
    /// Which device.
    pub device: Author,
    /// Of which log.
    pub log: LogId,
    /// Of the notices of this core the one of this number.
    pub number: u64,
    /// Where it is told.
    pub to: PushTokenRecord,
    /// What.
    pub kind: PushKind,
    /// How many messages are unread, in all chats.
    pub badge: u32,
    /// The chat, as the device knows it.
    pub chat: u64,
    /// From when on nobody is to be told, in s since the Unix epoch.
    pub expires_s: u64,
    /// What is shown: who, or where; and what. `None`: that something has come.
    pub preview: Option<(String, String)>,
}

/// Shows no content, and no address.
impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { device, log, kind, badge, .. } = self;
        write!(f, "Push {{ {device:?}, {log:?}, {kind:?}, {badge} unread }}")
    }
}

/// What is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PushKind {
    /// A message has come.
    Message,
    /// A message has come that mentions the user.
    Mention,
    /// Somebody calls.
    Call,
    /// So many are unread now; nothing is shown.
    Badge,
    /// What was shown of the chat is to go: it was read.
    Cleared,
}

impl PushKind {
    /// Whether the user is shown something.
    pub fn is_shown(self) -> bool {
        matches!(self, Self::Message | Self::Mention | Self::Call)
    }
}

/// What has become of a [`Push`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pushed {
    /// Which device was to be told.
    pub device: Author,
    /// Of which log.
    pub log: LogId,
    /// Its number.
    pub number: u64,
    /// Since when the device had its address, in ms since the Unix epoch.
    pub since_ms: u64,
    /// What has become of it.
    pub fate: PushFate,
}

/// See [`Pushed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushFate {
    /// It is over: the service has it, a newer one has taken its place, or nobody will ever take it.
    Over,
    /// The address is no more.
    Dead,
    /// It was not sent: it is to be sent later.
    Unsent,
}

/// Which push services there are.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Pushing {
    /// These.
    pub services: Vec<PushService>,
    /// What browsers are to know the server by, if there is Web Push.
    pub web_push_key: Bytes,
}

/// How far a slot has come on its way. What is asked of it in between waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveStep {
    /// Its last owner decides nothing new.
    Left,
    /// Its next owner decides.
    Taken,
}

/// How entries go that are kept no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// Their time had come: nothing is left of them but their places.
    Ended,
    /// They were too old, and their places must stay.
    Erased,
    /// They were too old, and nothing is left of them.
    Removed,
}

/// The stations of a message's way through a node that the brain knows of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Its frame is opened, parsed and found valid, on the sender's core.
    Decrypted,
    /// It has reached the core that owns its log.
    Routed,
    /// It is in that core's open batch.
    Batched,
    /// Its batch is durable.
    Committed,
    /// Its acknowledgement is queued to the sender.
    Acknowledged,
    /// It is queued to a recipient.
    Delivered,
}
