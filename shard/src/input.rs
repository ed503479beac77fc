//! What the world does to the brain.

use tern_storage::{Completion, LogId};
use tern_wire::errors::Farewell;

use crate::admin::AdminRequest;
use crate::effects::{Pushed, Verdict};
use crate::front::Arrival;
use crate::message::Message;
use crate::reply::ConnId;
use crate::slots::SlotTable;

/// One input.
#[derive(Debug)]
pub enum Input<'a> {
    /// A connection has finished its TLS handshake on this core, as the one of this number in the process: of two, the one that was
    /// opened later has the higher one. No clock says so, for clocks are set.
    Opened(ConnId, u64),
    /// A connection has moved here from another core, authenticated.
    Arrived(ConnId, Arrival),
    /// A connection that was to move to another core has gone before it was there.
    Lost(Arrival),
    /// A whole frame, without its length prefix, within [`Shard::frame_bytes_max`](crate::Shard::frame_bytes_max).
    Frame(ConnId, &'a [u8]),
    /// A connection's bytes can't be frames any more.
    Broken(ConnId, Farewell),
    /// A connection's peer sends no more: it ends when all that was asked for is answered.
    Finished(ConnId),
    /// A connection's queue is empty, as asked for.
    Drained(ConnId),
    /// A connection has gone.
    Closed(ConnId),
    /// Another core says something.
    Told(Message),
    /// The store has completed something.
    Completed(Completion),
    /// A content filter has looked at what it was asked about under this number, of this log.
    Seen(LogId, u64, Verdict),
    /// This has become of something that a device was to be told by a push service.
    Pushed(Pushed),
    /// An operator asks; the answer carries the number.
    Asked(u64, AdminRequest),
    /// A newer table of who owns which slot. One slot moves in it, or slots are taken over by other processes, and only
    /// when [`Shard::slots_moving`](crate::Shard::slots_moving) is 0 on every core. In which slots are taken over, the table comes before
    /// anything that a core has said that knew it, and nothing comes after it that those have said who are gone.
    Slots(SlotTable),
    /// Time has passed: about ten times a second.
    Tick,
    /// The node is about to stop: all connections are told.
    Drain,
}
