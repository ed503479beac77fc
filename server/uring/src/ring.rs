//! One core's ring: operations go in with their memory, events come out.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use slab::Slab;

use super::buffers::{Buffers, GROUP, Lease};
use super::system::{SocketAddress, SocketAddressBytes, Waker};
use super::token::{ConnToken, Token, TransferId};

/// Sizes of a ring.
#[derive(Clone, Debug)]
pub struct RingOptions {
    /// Submissions that fit before they must be handed over.
    pub entries: u32,
    /// Completions that fit before the kernel keeps them elsewhere.
    pub completions: u32,
    /// Direct descriptors. The limit of open files bounds it.
    pub files: u32,
    /// Receive buffers: a power of two, at most 32,768.
    pub receive_buffers: u16,
    /// Bytes of each.
    pub receive_buffer_bytes: u32,
}

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted into a direct descriptor.
    Accepted {
        /// The descriptor.
        slot: u32,
    },
    /// Accepting has ended: arm it again, at once or when there is room.
    AcceptEnded {
        /// What the system said.
        error: io::Error,
    },
    /// Where a connection comes from, as was asked with [`Ring::ask_peer`].
    Peer {
        /// Whose.
        conn: ConnToken,
        /// IPv6, or IPv4 mapped into it. An error if the connection has failed meanwhile.
        address: io::Result<[u8; 16]>,
    },
    /// A connection that was asked for stands, or can't be made.
    Connected {
        /// Which.
        conn: ConnToken,
        /// Whether it stands.
        result: io::Result<()>,
    },
    /// Bytes have come.
    Received {
        /// For whom.
        conn: ConnToken,
        /// Where they are.
        lease: Lease,
        /// Whether more will come without being asked for.
        armed: bool,
    },
    /// Receiving has ended, without bytes.
    ReceiveEnded {
        /// Whose.
        conn: ConnToken,
        /// Why.
        why: Ended,
    },
    /// A send has ended.
    Sent {
        /// Whose.
        conn: ConnToken,
        /// What was to be sent; the operation has given it back.
        buffer: Vec<u8>,
        /// Up to where it has been sent.
        upto: usize,
        /// What the system said, if it did not send all.
        error: Option<io::Error>,
    },
    /// A shutdown has ended; if the connection had failed before, that is told by its other operations.
    ShutDown {
        /// Whose.
        conn: ConnToken,
    },
    /// A descriptor has been given to another ring; it is still open in this one.
    Given {
        /// Whose.
        conn: ConnToken,
        /// Whether it arrived.
        result: io::Result<()>,
    },
    /// A descriptor has come from another ring.
    Taken {
        /// Which.
        transfer: TransferId,
        /// Where it is now.
        slot: u32,
    },
    /// A descriptor is closed: its slot is free.
    Closed,
    /// Another ring, or a plain thread, has work for this one.
    Woken,
}

/// Why receiving has ended.
#[derive(Debug)]
pub enum Ended {
    /// The peer sends no more.
    Eof,
    /// There was no buffer: arm it again when some have been given back.
    NoBuffers,
    /// It was cancelled.
    Cancelled,
    /// There is something to receive, or the peer sends no more: so says [`Ring::watch`].
    Readable,
    /// The connection has failed.
    Failed(io::Error),
}

/// What this kernel, or its configuration, does not offer.
#[derive(Debug)]
pub enum Missing {
    /// No ring can be made.
    Ring(io::Error),
    /// An operation is not known.
    Operation(&'static str),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(error) => write!(f, "io_uring can't be set up: {error}"),
            Self::Operation(name) => write!(f, "this kernel's io_uring does not know {name}"),
        }
    }
}

impl std::error::Error for Missing {}

/// A ring, as others see it: where to send wake-ups and descriptors.
#[derive(Clone, Copy, Debug)]
pub struct RingHandle(RawFd);

struct ConnectOp {
    conn: ConnToken,
    address: Box<SocketAddress>,
}

/// Room for sends that is kept when there are none.
const SENDS_KEPT: usize = 256;

struct PeerOp {
    /// `None`: it is waited for.
    conn: Option<ConnToken>,
    address: Box<SocketAddressBytes>,
}

struct SendOp {
    conn: ConnToken,
    buffer: Vec<u8>,
    from: usize,
}

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
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            // Without it an entry that does not wait would leave completions of sockets where they are.
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(options.completions)
            .build(options.entries)
            .map_err(Missing::Ring)?;
        probe(&uring)?;
        uring.submitter().register_files_sparse(options.files).map_err(Missing::Ring)?;
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

    /// Takes a socket over as the direct descriptor `slot`, which must be free.
    pub fn adopt(&mut self, slot: u32, socket: &OwnedFd) -> io::Result<()> {
        self.uring().submitter().register_files_update(slot, &[socket.as_raw_fd()]).map(drop)
    }

    /// Connects a socket that was adopted. [`Event::Connected`] follows.
    pub fn connect(&mut self, conn: ConnToken, slot: u32, server: SocketAddr) {
        let address = Box::new(SocketAddress::new(server));
        let (start, length) = (address.as_ptr(), address.length());
        // The box moves into the slab, what is in it stays where it is until the completion takes it out again.
        let place = self.connects.insert(ConnectOp { conn, address });
        let entry = opcode::Connect::new(Fixed(slot), start, length).build();
        self.push(entry, Token::Connect(place as u32));
    }

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

    /// Sends `buffer` from `from` on. It comes back with [`Event::Sent`].
    pub fn send(&mut self, conn: ConnToken, slot: u32, buffer: Vec<u8>, from: usize) {
        self.send_with(conn, slot, buffer, from, 0);
    }

    /// The same for a connection that is kept small: the kernel appends what is sent to its newest segment, up to 64 KiB, however
    /// small its buffer, unless that segment has an end.
    pub fn send_small(&mut self, conn: ConnToken, slot: u32, buffer: Vec<u8>, from: usize) {
        self.send_with(conn, slot, buffer, from, libc::MSG_EOR);
    }

    fn send_with(&mut self, conn: ConnToken, slot: u32, buffer: Vec<u8>, from: usize, flags: libc::c_int) {
        let rest = &buffer[from..];
        let (start, length) = (rest.as_ptr(), rest.len() as u32);
        let flags = flags | libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = opcode::Send::new(Fixed(slot), start, length).flags(flags).build();
        // The Vec moves into the slab, its bytes stay where they are until the completion takes it out again.
        let place = self.sends.insert(SendOp { conn, buffer, from });
        self.push(entry, Token::Send(place as u32));
    }

    /// Ends the sending half of a connection, or both. [`Event::ShutDown`] follows; the descriptor must stay open until
    /// then, for the kernel looks it up only on the thread that does this.
    pub fn shutdown(&mut self, conn: ConnToken, slot: u32, both: bool) {
        let how = if both { libc::SHUT_RDWR } else { libc::SHUT_WR };
        let entry = opcode::Shutdown::new(Fixed(slot), how).build();
        self.push(entry, Token::Shutdown(conn));
    }

    /// Closes a descriptor. [`Event::Closed`] follows.
    pub fn close(&mut self, slot: u32) {
        let entry = opcode::Close::new(Fixed(slot)).build();
        self.push(entry, Token::Close);
    }

    /// Wakes another ring.
    pub fn wake(&mut self, other: RingHandle) {
        let entry = opcode::MsgRingData::new(Fd(other.0), 0, Token::Wake.pack(), None).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS), Token::Cancel);
    }

    /// Gives a descriptor to another ring, which gets [`Event::Taken`]. Here [`Event::Given`] follows.
    pub fn give(&mut self, conn: ConnToken, slot: u32, other: RingHandle, transfer: TransferId) {
        let (to, place) = (Fd(other.0), DestinationSlot::auto_target());
        let entry = opcode::MsgRingSendFd::new(to, Fixed(slot), place, Token::Take(transfer).pack()).build();
        self.push(entry, Token::Give(conn));
    }

    /// Asks where a connection comes from. [`Event::Peer`] follows.
    pub fn ask_peer(&mut self, conn: ConnToken, slot: u32, is_ipv6: bool) {
        self.push_peer(Some(conn), slot, is_ipv6);
    }

    /// The remote address of a connection, IPv4 mapped into IPv6. Takes a system call or two: for rare use.
    pub fn peer_address(&mut self, slot: u32, is_ipv6: bool) -> io::Result<[u8; 16]> {
        let waited_for = self.push_peer(None, slot, is_ipv6);
        loop {
            self.enter(1, None)?;
            let mut told = None;
            while let Some(entry) = self.next_completion() {
                if Token::unpack(entry.user_data()) == Some(Token::Peer(waited_for)) {
                    let PeerOp { address, .. } = self.peers.remove(waited_for as usize);
                    told = Some(positive(entry.result()).and_then(|_| address.ip()));
                } else if let Some(event) = self.event(&entry) {
                    self.early.push_back(event);
                }
            }
            if let Some(address) = told {
                return address;
            }
        }
    }

    fn push_peer(&mut self, conn: Option<ConnToken>, slot: u32, is_ipv6: bool) -> u32 {
        let mut address = Box::new(SocketAddressBytes::default());
        let (into, length) = (address.as_mut_ptr(), SocketAddressBytes::length(is_ipv6));
        let level = libc::SOL_SOCKET as u32;
        let entry = opcode::SetSockOpt::new(Fixed(slot), level, SO_PEERNAME, into, length).build();
        // The box moves into the slab, what is in it stays where it is until the completion takes it out again.
        let place = self.peers.insert(PeerOp { conn, address }) as u32;
        self.push(as_get_option(entry), Token::Peer(place));
        place
    }

    /// Has the kernel keep little for a connection: at most 12 KiB received and some 12 KiB to be sent.
    pub fn keep_small(&mut self, slot: u32) {
        self.set_option(slot, libc::SO_RCVBUF, &RECEIVE_SMALL);
        self.set_option(slot, libc::SO_SNDBUF, &SEND_SMALL);
    }

    /// Lets the kernel's buffers of a connection grow again as it sees fit.
    pub fn let_grow(&mut self, slot: u32) {
        self.set_option(slot, libc::SO_RCVBUF, &RECEIVE_USUAL);
        self.set_option(slot, libc::SO_SNDBUF, &SEND_USUAL);
        self.set_option(slot, SO_BUF_LOCK, &UNLOCKED);
    }

    fn set_option(&mut self, slot: u32, option: libc::c_int, value: &'static libc::c_int) {
        let (level, length) = (libc::SOL_SOCKET as u32, size_of_val(value) as u32);
        let start = (&raw const *value).cast();
        let entry = opcode::SetSockOpt::new(Fixed(slot), level, option as u32, start, length).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS), Token::Option);
    }

    /// What a lease holds.
    pub fn leased(&mut self, lease: &Lease) -> &mut [u8] {
        self.buffers.leased(lease)
    }

    /// Gives a receive buffer back.
    pub fn recycle(&mut self, lease: Lease) {
        self.buffers.recycle(lease);
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

    fn watch_waker(&mut self) {
        let Some(waker) = &self.waker else { return };
        let fd = waker.fd();
        let into: *mut u64 = &raw mut *self.notified;
        let entry = opcode::Read::new(Fd(fd), into.cast(), size_of::<u64>() as u32).build();
        self.push(entry, Token::Notify);
    }

    fn event(&mut self, entry: &cqueue::Entry) -> Option<Event> {
        let (result, flags) = (entry.result(), entry.flags());
        Some(match Token::unpack(entry.user_data()).expect("the kernel returns what it was given") {
            Token::Accept => match positive(result) {
                Ok(slot) => {
                    if !cqueue::more(flags) {
                        let error = io::Error::from_raw_os_error(libc::ECANCELED);
                        self.early.push_back(Event::AcceptEnded { error });
                    }
                    Event::Accepted { slot }
                }
                Err(error) => Event::AcceptEnded { error },
            },
            Token::Connect(place) => {
                let ConnectOp { conn, address } = self.connects.remove(place as usize);
                drop(address);
                Event::Connected { conn, result: positive(result).map(drop) }
            }
            Token::Receive(conn) => self.received(conn, result, flags),
            Token::Send(place) => {
                let SendOp { conn, buffer, from } = self.sends.remove(place as usize);
                if self.sends.is_empty() && self.sends.capacity() > SENDS_KEPT {
                    self.sends.shrink_to_fit();
                }
                match positive(result) {
                    Ok(sent) => Event::Sent { conn, buffer, upto: from + sent as usize, error: None },
                    Err(error) => Event::Sent { conn, buffer, upto: from, error: Some(error) },
                }
            }
            Token::Close => Event::Closed,
            Token::Wake => Event::Woken,
            Token::Notify => {
                self.watch_waker();
                Event::Woken
            }
            Token::Give(conn) => Event::Given { conn, result: positive(result).map(drop) },
            Token::Take(transfer) => Event::Taken { transfer, slot: result as u32 },
            Token::Shutdown(conn) => Event::ShutDown { conn },
            Token::Peer(place) => {
                let PeerOp { conn, address } = self.peers.remove(place as usize);
                if self.peers.is_empty() {
                    // A crowd that came at once leaves nothing behind.
                    self.peers.shrink_to_fit();
                }
                let address = positive(result).and_then(|_| address.ip());
                // One that is waited for is taken there.
                Event::Peer { conn: conn?, address }
            }
            // A cancel that found nothing says nothing new. An option that can't be set is of a connection that has failed.
            Token::Cancel | Token::Option => return None,
        })
    }

    fn received(&self, conn: ConnToken, result: i32, flags: u32) -> Event {
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

/// The kernel's `SO_PEERNAME` and `SO_BUF_LOCK` (include/uapi/asm-generic/socket.h).
const SO_PEERNAME: u32 = 28;
const SO_BUF_LOCK: libc::c_int = 72;

/// The kernel takes twice as much, for its own structures.
static RECEIVE_SMALL: libc::c_int = 6 << 10;
static SEND_SMALL: libc::c_int = 4 << 10;
/// What sockets begin with.
static RECEIVE_USUAL: libc::c_int = 64 << 10;
static SEND_USUAL: libc::c_int = 32 << 10;
/// Neither buffer's size was set by hand.
static UNLOCKED: libc::c_int = 0;

/// `SOCKET_URING_OP_GETSOCKOPT`, which takes what `SOCKET_URING_OP_SETSOCKOPT` takes, and is not among the crate's.
fn as_get_option(mut entry: squeue::Entry) -> squeue::Entry {
    const GET_OPTION: u32 = 2;
    const COMMAND_AT: usize = 8;
    const _: () = assert!(size_of::<squeue::Entry>() == 64);
    let bytes: *mut u8 = (&raw mut entry).cast();
    // SAFETY: an entry is `repr(C)` around the kernel's submission of 64 bytes, of which those from 8 to 12 are the number of
    // the command (include/uapi/linux/io_uring.h, `cmd_op`); the entry is owned here, and aligned to 8.
    unsafe { bytes.add(COMMAND_AT).cast::<u32>().write(GET_OPTION) };
    entry
}

fn positive(result: i32) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Whether the kernel knows every operation that is used here.
fn probe(uring: &IoUring) -> Result<(), Missing> {
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe).map_err(Missing::Ring)?;
    let needed = [
        (opcode::AcceptMulti::CODE, "ACCEPT"),
        (opcode::RecvMulti::CODE, "RECV"),
        (opcode::PollAdd::CODE, "POLL_ADD"),
        (opcode::Send::CODE, "SEND"),
        (opcode::Shutdown::CODE, "SHUTDOWN"),
        (opcode::Close::CODE, "CLOSE"),
        (opcode::AsyncCancel2::CODE, "ASYNC_CANCEL"),
        (opcode::MsgRingSendFd::CODE, "MSG_RING (Linux 6.0)"),
        (opcode::SetSockOpt::CODE, "URING_CMD for sockets (Linux 6.7)"),
    ];
    match needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(Missing::Operation(name)),
        None => Ok(()),
    }
}
