//! Somebody who keeps to no protocol: sends what is no frame, no message or no sense, before a login and after one, reads or does not,
//! and goes when it likes. It has an account of its own, and writes to nobody else.

use prost::Message as _;
use tern_proto::v1::{self, client_frame};
use tern_storage::medium::stream::Stream;
use tern_wire::frame::{self, FrameBuffer};
use tern_wire::limits::SERVER_FRAME_BYTES_MAX;

/// What it does on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    /// Sends nothing.
    Mute,
    /// Sends any bytes.
    Noise,
    /// Says `Hello`, and then anything.
    Greets,
    /// Logs in, with a token that is good or not, and then asks for anything.
    LogsIn,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stranger {
    manner: Manner,
    pub(crate) reads: bool,
    token: String,
    frames: FrameBuffer,
    requests: u64,
    stream: Stream,
}

impl Stranger {
    /// One, who may have a token.
    pub(crate) fn new(token: &str, stream: &mut Stream) -> Self {
        let mut stream = Stream::named(stream.number(), "stranger");
        let manners = [Manner::Mute, Manner::Noise, Manner::Greets, Manner::LogsIn, Manner::LogsIn];
        let manner = manners[stream.below(manners.len() as u64) as usize];
        let mut token = token.to_owned();
        if stream.below(4) == 0 {
            let cut = stream.below(token.len() as u64 + 1) as usize;
            token.truncate(cut);
        }
        let reads = stream.below(3) > 0;
        Self { manner, reads, token, frames: FrameBuffer::default(), requests: 0, stream }
    }

    /// Its connection stands: what it sends first.
    pub(crate) fn begins(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if matches!(self.manner, Manner::Greets | Manner::LogsIn) {
            let hello = v1::Hello {
                version_min: self.stream.below(2) as u32,
                version_max: 1 + self.stream.below(3) as u32,
                push_frames_max: self.stream.below(4) as u32,
                push_bytes_max: self.stream.below(4096) as u32,
                ..v1::Hello::default()
            };
            self.ask(client_frame::Request::Hello(hello), &mut out);
        }
        if self.manner == Manner::LogsIn {
            let access_token = self.token.clone();
            self.ask(client_frame::Request::Login(v1::Login { access_token }), &mut out);
        }
        out
    }

    /// What it sends next.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.manner {
            Manner::Mute => {}
            Manner::Noise => out = self.noise(),
            Manner::Greets | Manner::LogsIn => match self.stream.below(8) {
                0 => out = self.noise(),
                1 => {
                    // A frame of which the rest never comes.
                    let request = self.request();
                    self.ask(request, &mut out);
                    out.truncate(out.len() / 2);
                }
                2 => {
                    // A frame of a length that is right, and of no message.
                    let noise = self.noise();
                    let length = noise.len() % 100;
                    out.push(length as u8);
                    out.extend(&noise[..length]);
                }
                _ => {
                    for _ in 0..1 + self.stream.below(40) {
                        let request = self.request();
                        self.ask(request, &mut out);
                    }
                }
            },
        }
        out
    }

    /// Bytes have come: whatever it has sent, what it gets are frames.
    pub(crate) fn received(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut frames = self.frames.read(bytes);
        while let Some(frame) =
            frames.next(SERVER_FRAME_BYTES_MAX).map_err(|_| "a stranger gets no frames")?
        {
            v1::ServerFrame::decode(frame).map_err(|_| "a stranger gets no messages")?;
        }
        Ok(())
    }

    fn noise(&mut self) -> Vec<u8> {
        let length = 1 + self.stream.below(300);
        (0..length).map(|_| self.stream.number() as u8).collect()
    }

    fn ask(&mut self, request: client_frame::Request, out: &mut Vec<u8>) {
        // Some numbers are used twice, and some are none.
        if self.stream.below(8) > 0 {
            self.requests += 1;
        }
        let id = if self.stream.below(20) == 0 { self.stream.number() } else { self.requests };
        frame::encode(&v1::ClientFrame { id, request: Some(request) }, out);
    }

    /// Something that may be asked, of people and places that may not be there.
    fn request(&mut self) -> client_frame::Request {
        use client_frame::Request as R;
        let number = [0, 1, 7, u64::MAX, self.stream.number()][self.stream.below(5) as usize];
        match self.stream.below(18) {
            0 => R::Ping(v1::Ping {}),
            1 => R::Acknowledge(v1::Acknowledge { chat: number, delivered_upto: number, read_upto: number }),
            2 => R::Credit(v1::Credit { frames: number, bytes: number }),
            3 => {
                let position = v1::Position { chat: number, upto: number, ..v1::Position::default() };
                R::Resume(v1::Resume { positions: vec![position; 3], generations: vec![number] })
            }
            4 => R::History(v1::History { chat: number, from: number, forwards: true, limit: number as u32 }),
            5 => R::Lookup(v1::Lookup { by: None, group: 0 }),
            6 => {
                let known = v1::KnownChat { id: number, version: number };
                R::Chats(v1::Chats { after: number, limit: number as u32, known: vec![known; 2] })
            }
            7 => R::Devices(v1::Devices {}),
            8 => R::EndDevice(v1::EndDevice { device_id: 1000 + (number as u32 >> 1) }),
            9 => R::Refresh(v1::Refresh { refresh_token: self.token.clone(), nonce: vec![0; 16].into() }),
            10 => R::Login(v1::Login { access_token: self.token.clone() }),
            11 => R::Lookup(v1::Lookup {
                by: Some(v1::lookup::By::UserId(number)),
                group: self.stream.number() % 3,
            }),
            12 => R::Link(v1::Link { user_id: number, secret: vec![1; 16].into(), ..v1::Link::default() }),
            13 => R::AboutGroup(v1::AboutGroup { chat: number, ..v1::AboutGroup::default() }),
            14 => {
                let made =
                    v1::GroupMade { name: "g".to_owned(), members: vec![number], ..v1::GroupMade::default() };
                R::CreateGroup(v1::CreateGroup { client_id: 1, group: Some(made) })
            }
            15 => {
                let after = v1::FoundUpTo { time_ms: number, chat: number, seq: number };
                let query = ["a", "a b", "xx", "\u{fffd}\u{301}"][self.stream.below(4) as usize].to_owned();
                R::Search(v1::Search { query, chat: number, after: Some(after), limit: number as u32 })
            }
            // Of people and groups that are there by no chance that matters.
            16 => {
                let mentions = vec![number];
                R::Send(v1::Send {
                    chat: number,
                    client_id: 2,
                    body: "?".into(),
                    mentions,
                    ..v1::Send::default()
                })
            }
            _ => R::Rename(v1::Rename {
                name: Some("\u{202e}".to_owned()),
                device_name: None,
                ..v1::Rename::default()
            }),
        }
    }
}
