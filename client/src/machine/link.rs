//! A connection's frames: requests become bytes under the next id, bytes become the server's frames.

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::frame::{self, FrameBuffer};
use tern_wire::limits::SERVER_FRAME_BYTES_MAX;

use super::io::ConnectionId;
use crate::error::Error;

/// The credit window for pushes.
pub(crate) const PUSH_FRAMES_MAX: u32 = 512;
pub(crate) const PUSH_BYTES_MAX: u32 = 4 << 20;

/// See the module.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) id: ConnectionId,
    buffer: FrameBuffer,
    out: Vec<u8>,
    next_id: u64,
    pub(crate) limits: v1::Limits,
    /// Names the store; empty if the server does not.
    pub(crate) store: Bytes,
    /// Names this run of it; 0 if the server does not.
    pub(crate) generation: u64,
}

impl Link {
    pub(crate) fn new(id: ConnectionId) -> Self {
        Self { id, ..Self::default() }
    }

    /// Queues the first request of any connection. Gives its id.
    pub(crate) fn greet(&mut self) -> u64 {
        self.queue(client_frame::Request::Hello(v1::Hello {
            version_min: 1,
            version_max: 1,
            client: concat!("tern-client ", env!("CARGO_PKG_VERSION")).to_owned(),
            features: 0,
            push_frames_max: PUSH_FRAMES_MAX,
            push_bytes_max: PUSH_BYTES_MAX,
        }))
    }

    /// The server has answered it.
    pub(crate) fn welcomed(&mut self, welcome: v1::Welcome) -> Result<(), Error> {
        self.limits = welcome.limits.ok_or(Error::Protocol("a Welcome has no limits"))?;
        (self.store, self.generation) = (welcome.store, welcome.generation);
        Ok(())
    }

    /// Queues a request under a new id, which is given.
    pub(crate) fn queue(&mut self, request: client_frame::Request) -> u64 {
        self.next_id += 1;
        self.queue_as(self.next_id, request);
        self.next_id
    }

    /// Queues a request that is not answered.
    pub(crate) fn queue_silent(&mut self, request: client_frame::Request) {
        self.queue_as(0, request);
    }

    fn queue_as(&mut self, id: u64, request: client_frame::Request) {
        frame::encode(&v1::ClientFrame { id, request: Some(request) }, &mut self.out);
    }

    /// The bytes of a request's frame, without its length, that count in the window.
    pub(crate) fn bytes_of(request: &client_frame::Request) -> u64 {
        // The id takes no more than this.
        const ID_BYTES: usize = 11;
        (request.encoded_len() + ID_BYTES) as u64
    }

    /// What is queued, to be sent.
    pub(crate) fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// The frames that are whole now, with their bytes, and what is wrong behind them.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> (Vec<(v1::ServerFrame, u64)>, Result<(), Error>) {
        let mut whole = Vec::new();
        let mut frames = self.buffer.read(bytes);
        loop {
            let frame = match frames.next(SERVER_FRAME_BYTES_MAX) {
                Ok(Some(frame)) => frame,
                Ok(None) => return (whole, Ok(())),
                Err(_) => return (whole, Err(Error::Protocol("a frame is too long"))),
            };
            match v1::ServerFrame::decode(frame) {
                Ok(decoded) => whole.push((decoded, frame.len() as u64)),
                Err(_) => return (whole, Err(Error::Protocol("a frame is malformed"))),
            }
        }
    }
}

/// The answer to the request with this id, when nothing else may come: before Resume nothing is pushed.
pub(crate) fn answer_to(id: u64, frame: v1::ServerFrame) -> Result<server_frame::Message, Error> {
    match frame.message {
        Some(server_frame::Message::Refused(refused)) if frame.id == id => Err(refused.into()),
        Some(server_frame::Message::GoAway(bye)) => Err(went_away(bye)),
        Some(message) if frame.id == id => Ok(message),
        _ => Err(Error::Protocol("another response was expected")),
    }
}

pub(crate) fn went_away(bye: v1::GoAway) -> Error {
    Error::Refused { reason: bye.reason(), retry_after_ms: bye.reconnect_after_ms, detail: bye.detail }
}
