//! Connections that come: accepted from a listener, one operation for all of them, into direct descriptors.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};

use super::{Event, Ring, positive};
use crate::token::Token;

impl Ring {
    /// Accepts connections until [`Event::AcceptEnded`]. The listener must stay open.
    pub fn accept(&mut self, listener: &TcpListener) {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).allocate_file_index(true).build();
        self.push(entry, Token::Accept);
    }

    /// Ends accepting. [`Event::AcceptEnded`] follows, unless it is under way already.
    pub fn stop_accepting(&mut self) {
        let which = CancelBuilder::user_data(Token::Accept.pack());
        self.push(opcode::AsyncCancel2::new(which).build(), Token::Cancel);
    }

    pub(super) fn accepted(&mut self, result: i32, flags: u32) -> Event {
        match positive(result) {
            Ok(slot) => {
                if !cqueue::more(flags) {
                    let error = io::Error::from_raw_os_error(libc::ECANCELED);
                    self.early.push_back(Event::AcceptEnded { error });
                }
                Event::Accepted { slot }
            }
            Err(error) => Event::AcceptEnded { error },
        }
    }
}
