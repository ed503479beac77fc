//! Makes the corpora and fixtures of `fuzz/` of real traffic: the client library and others talk to the real `ternd` through a
//! relay that writes down what they say, and what the server leaves on the disk is taken from there. It checks nothing, so it
//! runs only when it is asked to (fuzz/README.md).

mod relay;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest;
use fastrand::Rng;
use prost::Message as _;
use relay::{Recording, Relay};
use tern_client::{Client, Event, Events, Options, Registrar, State, Trust};
use tern_proto::v1::{self, client_frame::Request, server_frame};
use tern_storage::embedded::fuzzing;
use tern_testkit::{Raw, Ternd, Tls};
use tern_wire::frame::FrameBuffer;
use tern_wire::limits::{FRAME_BYTES_MAX, SERVER_FRAME_BYTES_MAX};
use tokio::time::timeout;

const HANG: Duration = Duration::from_secs(60);

/// Of each kind of input, no more than this are kept.
const INPUTS_MAX: usize = 60;

/// Longer ones are cut: a fuzzer makes long ones of short ones.
const INPUT_BYTES_MAX: usize = 6 << 10;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it writes fuzz/corpus and fuzz/fixtures, and checks nothing"]
async fn record_the_corpora() {
    let mut server = Ternd::start(1);
    let relay = Relay::start(server.address(), &server.ca_file());
    talk(&mut server, &relay).await;
    say_what_the_library_does_not(&server, &relay);
    let segments = segments_of(&server.data_dir().join("store/log"));
    let fuzz = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"));
    let recordings = relay.recordings();
    write_fixtures(&fuzz.join("fixtures"), &recordings, &segments);
    write_corpora(&Corpora::new(fuzz.join("corpus")), &recordings, &segments);
}

async fn join(server: &Ternd, relay: &Relay, phone: &str, name: &str) -> (Client, Events) {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest::digest(&digest::SHA256, relay.certificate()).as_ref());
    let options = Options::new(relay.address().to_string(), Trust::Fingerprint(sha256), State::memory());
    let mut registrar = Registrar::connect(&options).await.expect("connected");
    registrar.register(phone).await.expect("a code is sent");
    registrar.verify(phone, &server.code_of(phone), name, "phone").await.expect("verified");
    registrar.close().await;
    let (client, mut events) = Client::start(options).await.expect("started");
    until(&mut events, |event| matches!(event, Event::CaughtUp)).await;
    (client, events)
}

async fn until(events: &mut Events, wanted: impl Fn(&Event) -> bool) {
    loop {
        let event = timeout(HANG, events.next()).await.expect("no hang").expect("the client lives");
        if wanted(&event) {
            return;
        }
    }
}

/// Two people talk; the server is killed and started between, so that its log has several segments.
async fn talk(server: &mut Ternd, relay: &Relay) {
    let (ann, mut ann_events) = join(server, relay, "+15550001", "Ann").await;
    let (bob, mut bob_events) = join(server, relay, "+15550002", "Bob Žofie").await;
    let (ann_id, bob_id) = (ann.account().user_id, bob.account().user_id);
    ann.lookup_phone("+15550002").await.expect("found");
    for round in 0..3u64 {
        let sent = ann.send(bob_id, format!("to Bob, {round}")).await.expect("durable");
        until(&mut bob_events, |event| matches!(event, Event::Message(message) if message.seq == sent.seq))
            .await;
        bob.mark_read(ann_id, sent.seq).await.expect("marked");
        let long = "a longer answer ".repeat(1 + 20 * round as usize);
        let sent = bob.send(ann_id, long).await.expect("durable");
        until(&mut ann_events, |event| matches!(event, Event::Message(message) if message.seq == sent.seq))
            .await;
        if round < 2 {
            server.kill_and_restart();
            until(&mut ann_events, |event| matches!(event, Event::CaughtUp)).await;
            until(&mut bob_events, |event| matches!(event, Event::CaughtUp)).await;
        }
    }
    ann.history(bob_id, 0, false, 5).await.expect("read");
    bob.history(ann_id, 1, true, 0).await.expect("read");
    bob.lookup_user(ann_id).await.expect("found");
    ann.send(ann_id, vec![7; 3000]).await.expect("durable");
    ann.close().await;
    bob.close().await;
}

/// Refused things, a refresh, a resume with many positions, pings.
fn say_what_the_library_does_not(server: &Ternd, relay: &Relay) {
    let ca_file = server.data_dir().join("relay.pem");
    fs::write(&ca_file, relay.pem()).expect("written");
    let tls = Tls::new(&ca_file, &[tern_wire::tls::ALPN]);
    let connect = || {
        let mut raw = Raw::connect_with(relay.address(), &tls).expect("connected");
        let hello = v1::Hello {
            version_min: 1,
            version_max: 3,
            client: "recorder 1".to_owned(),
            push_frames_max: 64,
            push_bytes_max: 1 << 20,
            ..v1::Hello::default()
        };
        raw.ask(Request::Hello(hello)).expect("answered");
        raw
    };
    let mut raw = connect();
    let registration = raw.register("+15550003").registration;
    let verify = |code: &str| {
        Request::Verify(v1::Verify {
            phone: "+15550003".to_owned(),
            code: code.to_owned(),
            name: "Cy".to_owned(),
            device_name: "tablet".to_owned(),
            registration,
            pin: String::new(),
        })
    };
    let code = server.code_of("+15550003");
    let wrong = if code == "000000" { "000001" } else { "000000" };
    raw.refusal(verify(wrong));
    let Some(server_frame::Message::Session(session)) = raw.ask(verify(&code)) else { panic!("a session") };
    let refresh = v1::Refresh { refresh_token: session.refresh_token, nonce: vec![9; 16].into() };
    let Some(server_frame::Message::Session(session)) = raw.ask(Request::Refresh(refresh)) else {
        panic!("a session")
    };
    raw.refusal(Request::Resume(v1::Resume::default()));
    raw.ask(Request::Login(v1::Login { access_token: session.access_token })).expect("answered");
    raw.ask(Request::Ping(v1::Ping {})).expect("answered");
    let position = |chat| v1::Position { chat, upto: chat % 7, delivered_upto: 3, read_upto: 2 };
    let positions = (1..40).map(|n| position(n * 4097)).collect();
    raw.ask(Request::Resume(v1::Resume { positions, generations: vec![1, (1 << 53) - 1] }))
        .expect("answered");
    raw.ask(Request::Send(v1::Send {
        chat: 0,
        client_id: 1,
        body: vec![1].into(),
        kind: 0,
        ..Default::default()
    }))
    .expect("answered");
    // The first number that is too large.
    let send =
        v1::Send { chat: 4097, client_id: 1 << 53, body: vec![1].into(), kind: 0, ..Default::default() };
    raw.refusal(Request::Send(send));
    raw.send_as(0, Request::Acknowledge(v1::Acknowledge { chat: 4097, delivered_upto: 1, read_upto: 2 }));
    raw.send_as(0, Request::Credit(v1::Credit { frames: 40, bytes: 1000 }));
    raw.ask(Request::Ping(v1::Ping {})).expect("answered");
    let mut rude = Raw::connect_with(relay.address(), &tls).expect("connected");
    rude.ask(Request::Ping(v1::Ping {}));
}

/// The segments of a log, each up to the end of its last group.
fn segments_of(log: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(log).expect("a log");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
    paths.sort();
    let read = paths.iter().map(|path| {
        let mut bytes = fs::read(path).expect("read");
        let end = fuzzing::places(&bytes, first_of(&bytes)).last().map_or(0, |(at, _, length)| at + length);
        bytes.truncate(end);
        bytes
    });
    read.filter(|bytes| !bytes.is_empty()).collect()
}

/// The number of the first group of a segment's bytes.
fn first_of(bytes: &[u8]) -> u64 {
    bytes[16..].first_chunk().map_or(1, |number| u64::from_le_bytes(*number))
}

fn write_fixtures(fixtures: &Path, recordings: &[Recording], segments: &[Vec<u8>]) {
    assert!(segments.len() >= 3, "the log has only {} segments", segments.len());
    fs::create_dir_all(fixtures.join("log")).expect("made");
    for (number, bytes) in segments.iter().take(3).enumerate() {
        fs::write(fixtures.join(format!("log/{number}.bin")), bytes).expect("written");
    }
    let keys = records_of(segments).into_iter().find(|(key, _)| key == b"mkeys").expect("the store's keys");
    fs::write(fixtures.join("keys.bin"), keys.1).expect("written");
    fs::write(fixtures.join("tokens.txt"), tokens_of(recordings).join("\n")).expect("written");
}

fn tokens_of(recordings: &[Recording]) -> Vec<String> {
    let mut tokens = Vec::new();
    for recording in recordings {
        let mut buffer = FrameBuffer::default();
        let mut frames = buffer.read(&recording.answered);
        while let Ok(Some(frame)) = frames.next(SERVER_FRAME_BYTES_MAX) {
            let frame = v1::ServerFrame::decode(frame).expect("the server sends frames");
            if let Some(server_frame::Message::Session(session)) = frame.message {
                tokens.extend([session.access_token, session.refresh_token]);
            }
        }
    }
    tokens
}

/// What the log has put under each key, the last value alone.
fn records_of(segments: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let groups = segments.iter().flat_map(|bytes| fuzzing::islands(bytes, first_of(bytes)));
    groups.flat_map(|group| group.ops).filter_map(|(key, value)| Some((key, value?))).collect()
}

/// The directory of the corpora. What was recorded before goes.
struct Corpora(PathBuf);

impl Corpora {
    fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Writes the inputs of a target, each once.
    fn write(&self, target: &str, mut inputs: Vec<Vec<u8>>) {
        let dir = self.0.join(target);
        fs::create_dir_all(&dir).expect("made");
        for entry in fs::read_dir(&dir).expect("listed") {
            let path = entry.expect("listed").path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("real-")) {
                fs::remove_file(path).expect("removed");
            }
        }
        inputs.sort();
        inputs.dedup();
        // As many of each length as there is room for, rather than all short ones.
        Rng::with_seed(0).shuffle(&mut inputs);
        for (number, input) in inputs.iter().take(INPUTS_MAX).enumerate() {
            let kept = &input[..input.len().min(INPUT_BYTES_MAX)];
            fs::write(dir.join(format!("real-{number:02}")), kept).expect("written");
        }
    }
}

fn write_corpora(corpora: &Corpora, recordings: &[Recording], segments: &[Vec<u8>]) {
    let streams: Vec<Vec<u8>> = recordings.iter().map(|recording| recording.said.concat()).collect();
    let with = |head: &[u8], bytes: &[u8]| [head, bytes].concat();
    let any = |head: &[u8]| streams.iter().map(|stream| with(head, stream)).collect::<Vec<_>>();
    // No cuts; pieces of 38 and 4 bytes, with a move.
    corpora.write("frames", [any(&[0, 3, 255]), any(&[2, 37, 3, 2, 4])].concat());
    corpora.write("opening", [any(&[0xff]), any(&[2])].concat());
    corpora.write("requests", streams.iter().flat_map(|stream| frames_of(stream)).collect());
    let handshakes = recordings.iter().flat_map(|recording| {
        let bytes = &recording.handshake;
        [with(&[0, 0], bytes), with(&[0, 1, 99], bytes), with(&[0, 2, 4, 200], bytes)]
    });
    // Real handshakes at any cut, and with a bit changed in the first flight and in the second.
    let scripts: [&[u8]; 5] =
        [&[1, 0], &[1, 1, 0], &[1, 2, 4, 99], &[1, 0, 1, 0, 40, 3, 1, 1], &[1, 0, 0, 1, 0, 20, 3, 1, 1]];
    corpora.write("handshake", handshakes.chain(scripts.iter().map(|script| script.to_vec())).collect());
    corpora.write("proxy", recordings.iter().flat_map(|recording| proxied(&recording.handshake)).collect());
    corpora.write("records", recordings.iter().flat_map(record_scripts).collect());
    let tokens = tokens_of(recordings);
    let texts = tokens.iter().map(|token| with(&[0], token.as_bytes()));
    let changes = (0..tokens.len() as u8).flat_map(|token| {
        [vec![1, 0, token], vec![1, 0, token, 0, 30, 0, b'A'], vec![1, 0, token, 0, 30, 3, 0, token ^ 1]]
    });
    let records = records_of(segments);
    let keys = with(&[3], &records[&b"mkeys"[..]]);
    corpora.write("tokens", texts.chain(changes).chain([keys]).collect());
    corpora.write("keys", one_of_each_kind(records.keys().cloned()));
    let stored = records.iter().filter_map(|(key, value)| Some(with(&[kind_of(key)?], value)));
    corpora.write("stored", one_of_each_kind(stored));
    corpora.write("segment", segments.to_vec());
    corpora.write("log", log_scripts());
    corpora.write("brain", brain_scripts());
}

/// What a balancer sends before a client's first bytes (PROXY protocol, version 2): of one with IPv4, of one with IPv6, of itself;
/// and what is longer than may be.
fn proxied(handshake: &[u8]) -> [Vec<u8>; 4] {
    let header = |command, family, addresses: &[u8]| {
        let length = (addresses.len() as u16).to_be_bytes();
        let head = [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length].concat();
        [&head, addresses, &handshake[..handshake.len().min(40)]].concat()
    };
    // Addresses of the documentation's networks, and a CRC behind them, as HAProxy sends with `proxy-v2-options crc32c`.
    let four = [192, 0, 2, 1, 198, 51, 100, 2, 0x9c, 0x40, 0x1b, 0x58, 3, 0, 4, 1, 2, 3, 4];
    let mut six = [0; 36];
    six[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    [
        header(0x21, 0x11, &four),
        header(0x21, 0x21, &six),
        header(0x20, 0, &[]),
        header(0x21, 0x11, &[7; 1200])[..1100].to_vec(),
    ]
}

/// The frames of a stream, without their lengths.
fn frames_of(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut buffer, mut found) = (FrameBuffer::default(), Vec::new());
    let mut frames = buffer.read(stream);
    while let Ok(Some(frame)) = frames.next(FRAME_BYTES_MAX) {
        found.push(frame.to_vec());
    }
    found
}

/// What was said in the pieces in which it was said: as it was, cut, from the other end, and with key updates between.
fn record_scripts(recording: &Recording) -> Vec<Vec<u8>> {
    let said = |head: &[u8], between: &[u8]| {
        let pieces = recording.said.iter().flat_map(|piece| piece.chunks(255));
        let sealed = pieces.flat_map(|piece| [between, &[0, piece.len() as u8], piece].concat());
        head.iter().copied().chain(sealed).collect::<Vec<u8>>()
    };
    let mut closed = said(&[0, 0], &[]);
    closed.push(5);
    vec![closed, said(&[0, 2, 3, 77], &[]), said(&[1, 0], &[3, 1]), said(&[0, 1, 30], &[3, 0])]
}

/// Which record it is, as the target `stored` counts them.
fn kind_of(key: &[u8]) -> Option<u8> {
    match key {
        b"mstore" => Some(7),
        b"mkeys" => Some(9),
        b"mtickets" => Some(12),
        [table, ..] => b"pudlexw".iter().position(|known| known == table).map(|at| at as u8),
        [] => None,
    }
}

/// Of those that begin and end alike in their lengths, one.
fn one_of_each_kind(inputs: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let kinds: BTreeMap<_, _> = inputs.map(|input| ((input[0], input.len()), input)).collect();
    kinds.into_values().collect()
}

/// Damage of each kind, at random places.
fn log_scripts() -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(1);
    let mut scripts = vec![vec![0, 0], vec![0, 5]];
    for kind in (0..6).cycle().take(36) {
        let mut script = vec![0, if rng.bool() { 0 } else { rng.u8(..) }];
        for _ in 0..rng.usize(1..3) {
            script.extend([0, rng.u8(..3), rng.u8(..), rng.u8(..), kind, 0, rng.u8(..20)]);
            script.extend((0..rng.usize(..20)).map(|_| rng.u8(..)));
        }
        scripts.push(script);
    }
    scripts
}

/// What the users of the store do again, over rows of which some are damaged.
fn brain_scripts() -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(2);
    let script = |damages: u8| {
        let mut script = vec![damages];
        for _ in 0..damages {
            let kind = rng.u8(..5);
            script.extend([0, rng.u8(..40), 0, rng.u8(..60), kind]);
            script.extend(
                [&[][..], &[2, 9, 9], &[1 + rng.u8(..255)], &[], &[0, rng.u8(..40)]][usize::from(kind)],
            );
        }
        for token in [0, 2] {
            // Comes, resumes, reads the chat, sends, acknowledges, looks somebody up.
            script.extend([0, 0, 0, 0, token, 1, 2, 0, 0, 0, 0, 3, 0, 1, 0, 0, 0]);
            script.extend([4, 0, 1, 2, b'h', b'i', 6, 0, 0, 3, 2, 7, 0, rng.u8(..3)]);
        }
        script
    };
    [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 5].into_iter().map(script).collect()
}
