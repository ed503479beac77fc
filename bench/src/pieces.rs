//! The hot pieces of the server, each by itself on one thread: no socket, no disk, no other core.
//!
//! A piece is prepared, and then done so many times; only the second is measured. Preparing does the same however often
//! the piece is done after it, so that between two runs of a program that differ in the number of times, nothing
//! differs but the piece. What a piece allocates it also frees.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tern_proto::v1::{self, client_frame, server_frame};
use tern_server::mesh::{MeshEnd, mesh};
use tern_shard::asks::{AskId, Ledger};
use tern_shard::entry::{Author, Entry};
use tern_shard::message::{LogOp, Message, Send};
use tern_shard::reply::{ConnId, Origin, Place};
use tern_shard::slots::{CoreId, ProcessId};
use tern_storage::records::ClientMessageRecord;
use tern_storage::{Batch, LogId, keys};
use tern_wire::frame::{self, FrameBuffer};
use tern_wire::ids::{ClientMessageId, DeviceId, Seq, UserId};
use tern_wire::opening::Opening;
use tern_wire::request;
use tern_wire::tls::{PLAINTEXT_BYTES_MAX, Records};

use crate::crypto::Pair;

/// Bytes of a message's body, and of the plaintext of a short record.
const BODY_BYTES: usize = 200;

/// Times in a row. More would push the records that wait to be opened out of the caches: 2,000 of 222 bytes, or 64 of
/// 16 KiB.
const TIMES_MAX: usize = 2000;
const TIMES_MAX_16K: usize = 64;

/// Messages in a ring of the mesh: the server's default.
const MESH_RING_MESSAGES: usize = 4096;

const ANN: u64 = 70_001;
const BOB: u64 = 150_002;
const TIME_MS: u64 = 1_800_000_000_000;

/// Every piece, by name.
pub const ALL: &[Kind] = &[
    Kind { name: "frame_parse", times_max: TIMES_MAX, make: frame_parse },
    Kind { name: "frame_encode", times_max: TIMES_MAX, make: frame_encode },
    Kind { name: "record_open", times_max: TIMES_MAX, make: || record_open(BODY_BYTES) },
    Kind { name: "record_seal", times_max: TIMES_MAX, make: || record_seal(BODY_BYTES) },
    Kind { name: "record_open_16k", times_max: TIMES_MAX_16K, make: || record_open(PLAINTEXT_BYTES_MAX) },
    Kind { name: "record_seal_16k", times_max: TIMES_MAX_16K, make: || record_seal(PLAINTEXT_BYTES_MAX) },
    Kind { name: "mesh_hop", times_max: TIMES_MAX, make: mesh_hop },
    Kind { name: "ask_answer", times_max: TIMES_MAX, make: ask_answer },
    Kind { name: "batch_build", times_max: TIMES_MAX, make: batch_build },
];

/// A piece's name, and how it is made.
#[derive(Debug)]
pub struct Kind {
    /// As it is asked for and reported.
    pub name: &'static str,
    /// How often it is done in a row between two preparations.
    pub times_max: usize,
    make: fn() -> Result<Box<dyn Piece>, String>,
}

impl Kind {
    /// Makes it.
    pub fn ready(&self) -> Result<Ready, String> {
        Ok(Ready { piece: (self.make)()?, times_max: self.times_max })
    }
}

/// A piece to be measured.
pub struct Ready {
    piece: Box<dyn Piece>,
    times_max: usize,
}

impl Ready {
    /// Does it so many times. Gives how long that took, without the preparations.
    pub fn run(&mut self, mut times: u64) -> Duration {
        let mut took = Duration::ZERO;
        while times > 0 {
            let now = times.min(self.times_max as u64);
            self.piece.prepare(self.times_max);
            let begin = Instant::now();
            measured(&mut *self.piece, now as usize);
            took += begin.elapsed();
            times -= now;
        }
        took
    }
}

/// The function that is measured, as valgrind finds it: never inlined.
pub const MEASURED: &str = "tern_bench::pieces::measured";

#[inline(never)]
fn measured(piece: &mut dyn Piece, times: usize) {
    piece.run(times);
}

trait Piece {
    /// Makes what is used up by doing the piece, until there is enough for so many times.
    fn prepare(&mut self, _times: usize) {}

    /// Does it so many times, at most as many as are prepared.
    fn run(&mut self, times: usize);
}

/// A piece that uses nothing up.
struct Repeated<F>(F);

impl<F: FnMut()> Piece for Repeated<F> {
    fn run(&mut self, times: usize) {
        for _ in 0..times {
            (self.0)();
        }
    }
}

fn body() -> Bytes {
    Bytes::from(vec![b'x'; BODY_BYTES])
}

fn user(id: u64) -> UserId {
    UserId::new(id).expect("no user of this file is 0")
}

fn entry() -> Entry {
    Entry {
        log: LogId::direct(ANN, BOB),
        seq: Seq(10_000),
        author: Author { user: user(ANN), device: DeviceId::new(1).expect("1 is not 0") },
        client_id: ClientMessageId(100_000),
        time_ms: TIME_MS,
        kind: v1::Kind::Text.into(),
        body: body(),
        sender_bytes: 1_000_000,
        other_bytes: 1_000_000,
        sender_messages: 5000,
        messages: 10_000,
        envelope: None,
        fate: None,
    }
}

/// Received bytes to an admitted request: a `Send`.
fn frame_parse() -> Result<Box<dyn Piece>, String> {
    let send = v1::Send {
        chat: BOB,
        client_id: 100_000,
        body: body(),
        kind: v1::Kind::Text.into(),
        ..Default::default()
    };
    let mut bytes = Vec::new();
    let request = Some(client_frame::Request::Send(send));
    frame::encode(&v1::ClientFrame { id: 10_000, request }, &mut bytes);
    let (opening, mut buffer) = (Opening::LoggedIn, FrameBuffer::default());
    Ok(Box::new(Repeated(move || {
        let mut frames = buffer.read(black_box(&bytes));
        while let Some(frame) = frames.next(opening.frame_bytes_max()).expect("it is within the limit") {
            let incoming = request::parse(frame).expect("it is a ClientFrame");
            let request = incoming.request.expect("it is valid");
            opening.admit(&request).expect("the connection is logged in");
            black_box((incoming.id, request));
        }
    })))
}

/// A push, an `Entry` as its recipient sees it, to bytes behind those of the connection's other frames.
fn frame_encode() -> Result<Box<dyn Piece>, String> {
    let message = Some(server_frame::Message::Entry(entry().view(user(BOB), false)));
    let (push, mut out) = (v1::ServerFrame { id: 0, message }, Vec::new());
    Ok(Box::new(Repeated(move || {
        out.clear();
        frame::encode(black_box(&push), &mut out);
        black_box(&out);
    })))
}

/// Plaintext to one record, in a buffer that has been used before.
fn record_seal(bytes: usize) -> Result<Box<dyn Piece>, String> {
    let (mut sealer, _, _) = Pair::new()?.connect()?;
    let (plaintext, mut out) = (vec![b'x'; bytes], Vec::new());
    Ok(Box::new(Repeated(move || {
        out.clear();
        sealer.seal(black_box(&plaintext), &mut out).expect("a record can be sealed");
        black_box(&out);
    })))
}

/// Received records to plaintext, one a time, in place.
fn record_open(bytes: usize) -> Result<Box<dyn Piece>, String> {
    let (opener, sealer, _) = Pair::new()?.connect()?;
    let plaintext = vec![b'x'; bytes];
    Ok(Box::new(RecordOpen { sealer, opener, plaintext, sealed: Vec::new(), opened: 0 }))
}

struct RecordOpen {
    sealer: Box<Records>,
    opener: Box<Records>,
    plaintext: Vec<u8>,
    /// Records in order; those before `opened` are used up.
    sealed: Vec<Vec<u8>>,
    opened: usize,
}

impl Piece for RecordOpen {
    fn prepare(&mut self, times: usize) {
        self.sealed.rotate_left(self.opened);
        let waiting = self.sealed.len() - self.opened;
        self.opened = 0;
        self.sealed.resize_with(times.max(waiting), Vec::new);
        for record in &mut self.sealed[waiting..] {
            record.clear();
            self.sealer.seal(&self.plaintext, record).expect("a record can be sealed");
        }
    }

    fn run(&mut self, times: usize) {
        let mut bytes = 0;
        for record in &mut self.sealed[self.opened..self.opened + times] {
            let mut take = |plaintext: &[u8]| bytes += black_box(plaintext).len();
            self.opener
                .open(record, &mut Vec::new(), &mut take)
                .expect("what was sealed is opened, in order");
        }
        self.opened += times;
        assert_eq!(bytes, times * self.plaintext.len(), "all was opened");
    }
}

/// A `Send` from a core to the log's owner: pushed, flushed, taken.
fn mesh_hop() -> Result<Box<dyn Piece>, String> {
    const TO: CoreId = CoreId(1);
    let Entry { log, author, client_id, kind, body, .. } = entry();
    let conn = ConnId { index: 7, generation: 1 };
    let place = Place { process: ProcessId::default(), core: CoreId(0), conn };
    let origin = Origin { place, ask: AskId(10_000) };
    let send = Send::new(origin, author, client_id, kind, body);
    let send = Message::Log(log, LogOp::Send(Box::new(send)));
    let mut ends = mesh(2, MESH_RING_MESSAGES).into_iter();
    let two: Option<(MeshEnd<Message>, _)> = ends.next().zip(ends.next());
    let (mut sender, mut receiver) = two.expect("a mesh of two has two ends");
    let mut message = Some(send);
    Ok(Box::new(Repeated(move || {
        sender.send(TO, message.take().expect("it came back"));
        let waits = sender.flush(|to| unreachable!("{to:?} does not sleep"));
        receiver.drain(1, |taken| message = Some(taken));
        black_box((waits, &message));
    })))
}

/// What a core notes of a `Send`, and shares of its body, until the answer takes it out, while a thousand are under way.
fn ask_answer() -> Result<Box<dyn Piece>, String> {
    let Entry { body, .. } = entry();
    // As large as what the front notes.
    let noted = move || (body.clone(), [0_u64; 7]);
    let mut ledger = Ledger::default();
    let mut unanswered: VecDeque<_> = (0..1_000).map(|_| ledger.insert(0, noted())).collect();
    Ok(Box::new(Repeated(move || {
        unanswered.push_back(ledger.insert(1, noted()));
        let oldest = unanswered.pop_front().expect("a thousand are unanswered");
        black_box(ledger.answered(oldest, |(body, _)| !body.is_empty()));
    })))
}

/// What the log's owner writes for one message: the entry, the client's number of it, the mark in the inbox of the
/// recipient's device.
fn batch_build() -> Result<Box<dyn Piece>, String> {
    const BOBS_DEVICE: u32 = 1;
    let entry = entry();
    Ok(Box::new(Repeated(move || {
        let entry = black_box(&entry);
        let Entry { log, seq, author, client_id, time_ms, .. } = *entry;
        let (user, device) = (author.user.get(), author.device.get());
        let mut batch = Batch::with_capacity(1 << 10);
        batch.put_record(&keys::entry(log, seq.0), &entry.to_record());
        let message =
            ClientMessageRecord { seq: seq.0, fingerprint: entry.fingerprint(), time_ms, expires_ms: 0 };
        batch.put_record(&keys::client_message(log, user, device, client_id.0), &message);
        batch.put(&keys::inbox_mark(BOB, BOBS_DEVICE, log), []);
        black_box(batch);
    })))
}
