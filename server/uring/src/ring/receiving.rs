//! What is received: into the ring's buffers, which are leased with what is in them, or only watched for.

use io_uring::types::{CancelBuilder, Fixed};
use io_uring::{cqueue, opcode};

use super::{Ended, Event, Ring, positive};
use crate::buffers::{GROUP, Lease};
use crate::token::{ConnToken, Token};

impl Ring {
    /// Receives until [`Event::ReceiveEnded`], or [`Event::Received`] that is not armed.
    pub fn receive(&mut self, conn: ConnToken, slot: u32) {
        let entry = opcode::RecvMulti::new(Fixed(slot), GROUP).build();
        self.push(entry, Token::Receive(conn));
    }

    /// Ends receiving. [`Event::ReceiveEnded`] follows, unless it is under way already.
    pub fn stop_receiving(&mut self, conn: ConnToken) {
        let which = CancelBuilder::user_data(Token::Receive(conn).pack());
        let entry = opcode::AsyncCancel2::new(which).build();
        self.push(entry, Token::Cancel);
    }

    /// Waits until there is something to receive: [`Ended::Readable`], and takes less of the kernel's memory meanwhile than
    /// [`Ring::receive`], in whose place it stands: [`Ring::stop_receiving`] ends it too.
    pub fn watch(&mut self, conn: ConnToken, slot: u32) {
        let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
        let entry = opcode::PollAdd::new(Fixed(slot), events).build();
        self.push(entry, Token::Receive(conn));
    }

    /// What a lease holds.
    pub fn leased(&mut self, lease: &Lease) -> &mut [u8] {
        self.buffers.leased(lease)
    }

    /// Gives a receive buffer back.
    pub fn recycle(&mut self, lease: Lease) {
        self.buffers.recycle(lease);
    }

    pub(super) fn received(&self, conn: ConnToken, result: i32, flags: u32) -> Event {
        let armed = cqueue::more(flags);
        match (positive(result), cqueue::buffer_select(flags)) {
            (Ok(bytes @ 1..), Some(buffer)) => {
                Event::Received { conn, lease: Lease { buffer, bytes }, armed }
            }
            // What is ready, and no bytes: it was only watched.
            (Ok(1..), None) => Event::ReceiveEnded { conn, why: Ended::Readable },
            (Ok(_), _) => Event::ReceiveEnded { conn, why: Ended::Eof },
            (Err(error), _) => {
                let why = match error.raw_os_error() {
                    Some(libc::ENOBUFS) => Ended::NoBuffers,
                    Some(libc::ECANCELED) => Ended::Cancelled,
                    _ => Ended::Failed(error),
                };
                Event::ReceiveEnded { conn, why }
            }
        }
    }
}
