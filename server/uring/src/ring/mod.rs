//! One core's ring: operations go in with their memory, events come out.
//!
//! What one kind of operation needs lies in a file: how it is asked for, what it owns meanwhile, and what its completion says.

mod accepting;
mod connecting;
mod event;
mod options;
mod others;
mod peers;
mod receiving;
mod sending;
mod setup;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};
use slab::Slab;

use self::connecting::ConnectOp;
pub use self::event::{Ended, Event};
pub use self::others::RingHandle;
use self::peers::PeerOp;
use self::sending::SendOp;
pub use self::setup::{Missing, RingOptions};
use crate::buffers::Buffers;
use crate::system::Waker;
use crate::token::Token;

/// See the module.
pub struct Ring {
    uring: Option<IoUring>,
    buffers: Buffers,
    sends: Slab<SendOp>,
    connects: Slab<ConnectOp>,
    peers: Slab<PeerOp>,
    /// Read into by the eventfd's operation; boxed, so that it stays where it is.
    notified: Box<u64>,
    waker: Option<Waker>,
    /// Events met while one was waited for.
    early: VecDeque<Event>,
    /// A ring belongs to the thread that made it.
    _thread: PhantomData<*const ()>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("sends", &self.sends.len()).finish_non_exhaustive()
    }
}

impl Drop for Ring {
    /// The kernel ends operations some time after the ring is closed: what they own must outlive that, so it is leaked. A
    /// ring ends with its process.
    fn drop(&mut self) {
        drop(self.uring.take());
        std::mem::forget(std::mem::take(&mut self.sends));
        std::mem::forget(std::mem::take(&mut self.connects));
        std::mem::forget(std::mem::take(&mut self.peers));
        Box::leak(std::mem::take(&mut self.notified));
    }
}

impl Ring {
    /// Makes the ring of this thread.
    pub fn new(options: &RingOptions, waker: Waker) -> Result<Self, Missing> {
        let uring = setup::set_up(options)?;
        let buffers = Buffers::new(&uring, options.receive_buffers, options.receive_buffer_bytes)
            .map_err(Missing::Ring)?;
        let mut ring = Self {
            uring: Some(uring),
            buffers,
            sends: Slab::new(),
            connects: Slab::new(),
            peers: Slab::new(),
            notified: Box::new(0),
            waker: Some(waker),
            early: VecDeque::new(),
            _thread: PhantomData,
        };
        ring.watch_waker();
        Ok(ring)
    }

    /// What other rings need to reach this one.
    pub fn handle(&self) -> RingHandle {
        RingHandle(self.uring().as_raw_fd())
    }

    /// Hands over what was asked for, waits until something has happened or for `timeout`, and appends what has.
    pub fn turn(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let wait = usize::from(timeout.is_none_or(|timeout| !timeout.is_zero()) && self.early.is_empty());
        self.enter(wait, timeout)?;
        events.extend(self.early.drain(..));
        while let Some(entry) = self.next_completion() {
            events.extend(self.event(&entry));
        }
        Ok(())
    }

    fn uring(&self) -> &IoUring {
        self.uring.as_ref().expect("only dropping takes it")
    }

    fn uring_mut(&mut self) -> &mut IoUring {
        self.uring.as_mut().expect("only dropping takes it")
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.uring_mut().completion().next()
    }

    fn enter(&self, wait: usize, timeout: Option<Duration>) -> io::Result<()> {
        let timespec = timeout.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(timespec) = &timespec {
            args = args.timespec(timespec);
        }
        match self.uring().submitter().submit_with_args(wait, &args) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time is up; a signal; or the kernel wants its completions taken first, which comes next.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn push(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.pack());
        loop {
            // SAFETY: what the entry points to (a send's bytes and a connect's address in slabs, the eventfd's box, the
            // buffer ring, the options' values that live for ever) is owned by
            // `self` until the completion has come, and is leaked should `self` go before.
            let pushed = unsafe { self.uring_mut().submission().push(&entry) };
            if pushed.is_ok() {
                return;
            }
            self.enter(0, None).expect("a full submission queue can be handed over");
        }
    }

    fn event(&mut self, entry: &cqueue::Entry) -> Option<Event> {
        let (result, flags) = (entry.result(), entry.flags());
        Some(match Token::unpack(entry.user_data()).expect("the kernel returns what it was given") {
            Token::Accept => self.accepted(result, flags),
            Token::Connect(place) => self.connected(place, result),
            Token::Receive(conn) => self.received(conn, result, flags),
            Token::Send(place) => self.sent(place, result),
            Token::Close => Event::Closed,
            Token::Wake => Event::Woken,
            Token::Notify => {
                self.watch_waker();
                Event::Woken
            }
            Token::Give(conn) => Event::Given { conn, result: positive(result).map(drop) },
            Token::Take(transfer) => Event::Taken { transfer, slot: result as u32 },
            Token::Shutdown(conn) => Event::ShutDown { conn },
            Token::Peer(place) => return self.peer_told(place, result),
            // A cancel that found nothing says nothing new. An option that can't be set is of a connection that has failed.
            Token::Cancel | Token::Option => return None,
        })
    }
}

fn positive(result: i32) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
