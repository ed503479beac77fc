//! One simulated device's connection: TLS, opening, frames. No socket here.

use prost::Message as _;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_wire::frame::{self, FrameBuffer};
use tern_wire::limits::SERVER_FRAME_BYTES_MAX;
use tern_wire::tls::{TlsClient, TlsError};

use super::secured::Secured;

/// The id of the opening's last request; the scenario's begin behind it.
const LAST_OPENING_ID: u64 = 3;

/// What is spoken on a connection of a [`super::Pool`].
pub trait Speaker {
    /// What comes.
    type Frame;

    /// What is to be sent now; empty if nothing is.
    fn take_outgoing(&mut self) -> Result<Vec<u8>, TlsError>;

    /// Takes what the server sent.
    fn receive(&mut self, bytes: &mut [u8], say: &mut dyn FnMut(Said<Self::Frame>)) -> Result<(), String>;

    /// Lets go of what can be made again: for devices that are silent.
    fn hibernate(&mut self) {}

    /// Whether its TLS handshake resumed the session of an earlier connection.
    fn resumed(&self) -> bool {
        false
    }
}

/// What a speaker says of its connection.
#[derive(Debug)]
pub enum Said<Frame> {
    /// The server has said what it is.
    Welcome(String),
    /// It is logged in (and has resumed, if it was to).
    Ready,
    /// A frame has come.
    Frame(Frame),
}

/// See the module.
pub struct Link {
    tls: Secured,
    frames: FrameBuffer,
    next_id: u64,
    opening: Opening,
    /// Until the handshake is complete.
    token: Box<str>,
}

/// How far a device is with logging in.
struct Opening {
    ready: bool,
    resumes: bool,
}

impl Link {
    /// Begins a handshake; [`Speaker::take_outgoing`] has its first bytes.
    pub fn new(tls: &TlsClient, token: &str, resumes: bool) -> Result<Self, TlsError> {
        Ok(Self {
            tls: Secured::new(tls)?,
            frames: FrameBuffer::default(),
            next_id: 0,
            opening: Opening { ready: false, resumes },
            token: token.into(),
        })
    }

    /// Queues a request, and gives its id.
    pub fn request(&mut self, request: Request) -> u64 {
        self.next_id += 1;
        frame::encode(&v1::ClientFrame { id: self.next_id, request: Some(request) }, &mut self.tls.plain);
        self.next_id
    }

    /// Everything up to the login leaves at once: the server takes requests in their order.
    fn open(&mut self) {
        let client = concat!("tern-bench ", env!("CARGO_PKG_VERSION")).to_owned();
        self.request(Request::Hello(v1::Hello {
            version_min: 1,
            version_max: 1,
            client,
            ..v1::Hello::default()
        }));
        let access_token = std::mem::take(&mut self.token).into();
        self.request(Request::Login(v1::Login { access_token }));
        if self.opening.resumes {
            self.request(Request::Resume(v1::Resume::default()));
        }
        self.next_id = LAST_OPENING_ID;
    }
}

impl Speaker for Link {
    type Frame = v1::ServerFrame;

    fn take_outgoing(&mut self) -> Result<Vec<u8>, TlsError> {
        self.tls.take_outgoing()
    }

    fn receive(
        &mut self,
        bytes: &mut [u8],
        say: &mut dyn FnMut(Said<v1::ServerFrame>),
    ) -> Result<(), String> {
        let mut failed = None;
        let Self { tls, frames, opening, .. } = self;
        let received = tls.receive(bytes, &mut |plaintext| {
            let mut reading = frames.read(plaintext);
            loop {
                match reading.next(SERVER_FRAME_BYTES_MAX).map(|frame| frame.map(v1::ServerFrame::decode)) {
                    Ok(None) => return,
                    Ok(Some(Ok(frame))) => {
                        if let Err(why) = opening.frame(frame, say) {
                            failed.get_or_insert(why);
                        }
                    }
                    Ok(Some(Err(error))) => drop(failed.get_or_insert(error.to_string())),
                    Err(error) => {
                        failed.get_or_insert(error.to_string());
                        return;
                    }
                }
            }
        });
        match (failed, received) {
            (Some(why), _) => Err(why),
            (None, Err(error)) => Err(error.to_string()),
            (None, Ok(is_complete)) => {
                if is_complete {
                    self.open();
                }
                Ok(())
            }
        }
    }

    fn hibernate(&mut self) {
        self.tls.hibernate();
    }

    fn resumed(&self) -> bool {
        self.tls.resumed()
    }
}

impl Opening {
    fn frame(
        &mut self,
        frame: v1::ServerFrame,
        say: &mut dyn FnMut(Said<v1::ServerFrame>),
    ) -> Result<(), String> {
        if let Some(Message::GoAway(bye)) = &frame.message {
            return Err(format!("GoAway {}: {}", bye.reason().name(), bye.detail));
        }
        if self.ready || frame.id == 0 {
            say(Said::Frame(frame));
            return Ok(());
        }
        match &frame.message {
            Some(Message::Welcome(welcome)) => say(Said::Welcome(welcome.server.clone())),
            Some(Message::LoggedIn(_)) if self.resumes => {}
            Some(Message::LoggedIn(_) | Message::Resumed(_)) => {
                self.ready = true;
                say(Said::Ready);
            }
            Some(Message::Refused(refused)) => {
                return Err(format!("{}: {}", refused.reason().name(), refused.detail));
            }
            _ => return Err("the opening was answered by something else".to_owned()),
        }
        Ok(())
    }
}
