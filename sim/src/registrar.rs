//! A device that has no session yet: it asks for a code for its phone, waits until one is delivered, proves the phone with it, and has
//! tables of its own then.
//!
//! It speaks the protocol from its page alone; the library's registrar is one with its sockets. What it has of a registration
//! outlives a connection: one that breaks is made again, and a code that comes meanwhile is tried then.
//!
//! ```text
//! resting -> connecting -> greeting -> asking -> waiting for a code -> proving -> registered
//!    ^------------ lost, refused, too late ---------'---------'----------'
//! ```

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tern_client::machine::rows::{Account, DeviceRow};
use tern_client::machine::{Action, Memory};
use tern_proto::v1::{self, client_frame, server_frame};
use tern_storage::medium::stream::Stream;
use tern_wire::errors::Reason;
use tern_wire::frame::{self, FrameBuffer};
use tern_wire::limits::SERVER_FRAME_BYTES_MAX;

use crate::pins::{Given, Pins};

/// How long each step may take; then the connection is given up.
const STEP_MAX: Duration = Duration::from_secs(20);

/// How long a code is waited for; then another one is asked for.
const CODE_MAX: Duration = Duration::from_secs(25);

/// The longest rest between connections.
const REST_MS_MAX: u64 = 2_000;

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Resting,
    Connecting,
    Greeting,
    /// Nothing is asked: a code is on its way.
    Waiting,
    Asking,
    Proving,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Registrar {
    phone: String,
    stage: Stage,
    /// When it must have gone on.
    by: Duration,
    connection: u64,
    frames: FrameBuffer,
    requests: u64,
    store: Bytes,
    /// What the server called the last request for a code, and until when its code is waited for.
    registration: Option<(u64, Duration)>,
    code: Option<String>,
    /// The server wants the PIN.
    wants_pin: bool,
    /// The PIN that was given with the last proof, and whether the account was locked then.
    given: (Given, Option<u32>),
    /// Proofs that were sent, and nobody has been told of.
    proofs: u32,
    stream: Stream,
}

impl Registrar {
    /// One that begins after a moment.
    pub(crate) fn new(phone: String, now: Duration, stream: &mut Stream) -> Self {
        let mut stream = Stream::named(stream.number(), "registrar");
        let by = now + Duration::from_millis(1 + stream.below(REST_MS_MAX));
        Self {
            phone,
            stage: Stage::Resting,
            by,
            connection: 0,
            frames: FrameBuffer::default(),
            requests: 0,
            store: Bytes::new(),
            registration: None,
            code: None,
            wants_pin: false,
            given: (Given::Nothing, None),
            proofs: 0,
            stream,
        }
    }

    /// When it is to be woken.
    pub(crate) fn wake_at(&self) -> Duration {
        self.by
    }

    /// Whether something is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.stage != Stage::Resting
    }

    /// How many proofs were sent since the last call: each may have made a session.
    pub(crate) fn take_proofs(&mut self) -> u32 {
        std::mem::take(&mut self.proofs)
    }

    /// Its time has come.
    pub(crate) fn due(&mut self, now: Duration, pins: &mut Pins, out: &mut Vec<Action>) {
        if now < self.by {
            return;
        }
        match self.stage {
            Stage::Resting => {
                self.connection += 1;
                (self.frames, self.requests) = (FrameBuffer::default(), 0);
                self.goes_on(Stage::Connecting, now);
                out.push(Action::Connect(self.connection));
            }
            Stage::Waiting => {
                // It may have been lost on its way: another one is asked for.
                self.registration = None;
                self.next(now, pins, out);
            }
            Stage::Connecting | Stage::Greeting | Stage::Asking | Stage::Proving => self.close(now, out),
        }
    }

    /// Its connection stands.
    pub(crate) fn connected(&mut self, connection: u64, now: Duration, out: &mut Vec<Action>) {
        if connection == self.connection && self.stage == Stage::Connecting {
            self.goes_on(Stage::Greeting, now);
            let hello = v1::Hello {
                version_min: 1,
                version_max: 1,
                client: "tern-sim".to_owned(),
                ..v1::Hello::default()
            };
            self.ask(client_frame::Request::Hello(hello), out);
        }
    }

    /// Its connection is no more.
    pub(crate) fn lost(&mut self, connection: u64, now: Duration) {
        if connection == self.connection {
            self.rest(now, 0);
        }
    }

    /// A code was delivered to its phone: its own, or one that somebody else with this phone has asked for.
    pub(crate) fn code_came(&mut self, code: &str, now: Duration, pins: &mut Pins, out: &mut Vec<Action>) {
        if self.registration.is_some() && self.code.is_none() {
            self.code = Some(code.to_owned());
            if self.stage == Stage::Waiting {
                self.next(now, pins, out);
            }
        }
    }

    /// Bytes have come. Gives the user and the tables once it is registered.
    pub(crate) fn received(
        &mut self,
        connection: u64,
        bytes: &[u8],
        now: Duration,
        pins: &mut Pins,
        out: &mut Vec<Action>,
    ) -> Result<Option<(u64, Memory)>, String> {
        if connection != self.connection {
            return Ok(None);
        }
        let mut buffer = std::mem::take(&mut self.frames);
        let mut frames = buffer.read(bytes);
        while let Some(frame) =
            frames.next(SERVER_FRAME_BYTES_MAX).map_err(|_| "the server sends no frames")?
        {
            let frame = v1::ServerFrame::decode(frame).map_err(|_| "the server sends no messages")?;
            if let Some(session) = self.answered(frame, now, pins, out)? {
                return Ok(Some(session));
            }
        }
        self.frames = buffer;
        Ok(None)
    }

    fn answered(
        &mut self,
        frame: v1::ServerFrame,
        now: Duration,
        pins: &mut Pins,
        out: &mut Vec<Action>,
    ) -> Result<Option<(u64, Memory)>, String> {
        use server_frame::Message as M;
        match (self.stage, frame.message) {
            // Its connection is being closed.
            (Stage::Resting, _) => {}
            (Stage::Greeting, Some(M::Welcome(welcome))) => {
                self.store = welcome.store;
                self.next(now, pins, out);
            }
            (Stage::Asking, Some(M::CodeSent(sent))) => {
                // A code that came before this was for an earlier request.
                (self.registration, self.code) = (Some((sent.registration, now + CODE_MAX)), None);
                self.next(now, pins, out);
            }
            (Stage::Proving, Some(M::Session(session))) => {
                let (given, locked) = self.given;
                if given != Given::Right && locked.is_some() && locked == pins.locked(&self.phone) {
                    return Err(format!("{} was let in with {given:?} for a PIN", session.user_id));
                }
                out.push(Action::Close { connection: self.connection, cleanly: true });
                let account = Account::new(&self.phone, &session, &self.store);
                return Ok(Some((session.user_id, Memory::registered(DeviceRow::new(account)))));
            }
            (_, Some(M::Refused(refused))) => self.refused(&refused, now, pins, out),
            (_, Some(M::GoAway(_))) => self.close(now, out),
            (stage, _) => return Err(format!("something else was said to one who is {stage:?}")),
        }
        Ok(None)
    }

    fn refused(&mut self, refused: &v1::Refused, now: Duration, pins: &mut Pins, out: &mut Vec<Action>) {
        match refused.reason() {
            // It was somebody else's code: the own one is still to come, or was lost.
            Reason::CodeWrong => self.code = None,
            Reason::CodeExpired | Reason::TooManyAttempts => (self.code, self.registration) = (None, None),
            // The code is as good as before. How long it takes until none is needed does not matter to who knows the PIN.
            Reason::PinNeeded | Reason::PinWrong => {
                self.wants_pin = true;
                return self.next(now, pins, out);
            }
            _ => {}
        }
        if refused.retry_after_ms > 0 {
            out.push(Action::Close { connection: self.connection, cleanly: true });
            // An account that is suspended may be freed earlier than was said.
            let is_suspended = refused.reason() == Reason::Suspended;
            let most_ms = if is_suspended { 60_000 } else { u64::MAX };
            return self.rest(now, u64::from(refused.retry_after_ms).min(most_ms));
        }
        self.next(now, pins, out);
    }

    /// Does what comes next on a connection that stands.
    fn next(&mut self, now: Duration, pins: &mut Pins, out: &mut Vec<Action>) {
        let phone = self.phone.clone();
        match (self.registration, self.code.clone()) {
            (Some((registration, _)), Some(code)) => {
                self.goes_on(Stage::Proving, now);
                self.proofs += 1;
                let (name, device_name) = ("somebody".to_owned(), "registered".to_owned());
                let pin = self.gives(pins).to_pin(&phone);
                let verify = v1::Verify { phone, code, name, device_name, registration, pin };
                self.ask(client_frame::Request::Verify(verify), out);
            }
            (Some((_, until)), None) if until > now => (self.stage, self.by) = (Stage::Waiting, until),
            (_, _) => {
                self.goes_on(Stage::Asking, now);
                self.ask(client_frame::Request::Register(v1::Register { phone }), out);
            }
        }
    }

    /// The PIN to give: whoever is asked for it knows it.
    fn gives(&mut self, pins: &mut Pins) -> Given {
        let given = match self.stream.below(4) {
            _ if self.wants_pin => Given::Right,
            _ if !pins.was_wanted(&self.phone) => Given::Nothing,
            0 => Given::Nothing,
            1 if pins.tries_wrong(&self.phone) => Given::Wrong,
            _ => Given::Right,
        };
        self.given = (given, pins.locked(&self.phone));
        given
    }

    fn ask(&mut self, request: client_frame::Request, out: &mut Vec<Action>) {
        self.requests += 1;
        let mut bytes = Vec::new();
        frame::encode(&v1::ClientFrame { id: self.requests, request: Some(request) }, &mut bytes);
        out.push(Action::Send(self.connection, bytes));
    }

    fn goes_on(&mut self, stage: Stage, now: Duration) {
        (self.stage, self.by) = (stage, now + STEP_MAX);
    }

    fn close(&mut self, now: Duration, out: &mut Vec<Action>) {
        out.push(Action::Close { connection: self.connection, cleanly: true });
        self.rest(now, 0);
    }

    fn rest(&mut self, now: Duration, at_least_ms: u64) {
        let rest_ms = at_least_ms + 1 + self.stream.below(REST_MS_MAX);
        (self.stage, self.by) = (Stage::Resting, now + Duration::from_millis(rest_ms));
    }
}
