//! One case under way: the client, the connection that it has, and the world that it meets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tern_proto::v1::{self, client_frame::Request};

use crate::client::{Client, Program};
use crate::door::{Came, Door, Link, Opened};
use crate::world::{CODE, PEER, PHONE, World};

/// How long a client may take for what it must do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Something that happens.
#[derive(Clone)]
pub enum Seen {
    /// The client has connected.
    Connected,
    /// It has tried to, and TLS did not come about.
    NotConnected,
    Frame(v1::ClientFrame),
    /// The connection has ended.
    Ended,
    /// The client says what it shows.
    Said(Value),
}

/// What a case makes of it.
pub enum Flow<T> {
    /// A server as it should be does the rest.
    Honest,
    /// It is dealt with.
    Taken,
    /// The case has seen what it wanted; a server as it should be does the rest.
    Done(T),
    /// The case has seen what it wanted, and dealt with it.
    Held(T),
}

/// See the module.
pub struct Run<'a> {
    program: &'a Program,
    pub door: Door,
    pub link: Option<Box<Link>>,
    pub world: World,
    pub client: Option<Client>,
    dir: TempDir,
    /// What all clients of this case have complained of.
    pub complaints: String,
    pub tags: u64,
    /// By tag: what became of a message.
    pub told: BTreeMap<u64, Result<u64, String>>,
    /// Why TLS did not come about last.
    failure: Option<String>,
}

impl<'a> Run<'a> {
    pub fn new(program: &'a Program) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("the kit itself: {error}");
        let dir = tempfile::tempdir().map_err(failed)?;
        std::fs::create_dir(dir.path().join("state")).map_err(failed)?;
        let door = Door::open(&dir.path().join("ca.pem")).map_err(failed)?;
        Ok(Self {
            program,
            door,
            link: None,
            world: World::new(),
            client: None,
            dir,
            complaints: String::new(),
            tags: 0,
            told: BTreeMap::new(),
            failure: None,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the client, with the state that it has kept.
    pub fn start(&mut self) -> Result<(), String> {
        let address = self.door.address().map_err(|error| error.to_string())?;
        let (ca, state) = (self.path("ca.pem"), self.path("state"));
        self.client = Some(self.program.start(address, &ca, &state, (PHONE, CODE))?);
        Ok(())
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut client) = self.client.take() {
            client.kill();
            self.complaints.push_str(&client.complaints());
        }
        self.link = None;
    }

    pub fn tell(&mut self, what: &Value) -> Result<(), String> {
        self.client.as_mut().ok_or("it does not run")?.tell(what)
    }

    /// Has the client send a text to the peer. Gives by what it is known again.
    pub fn send(&mut self, text: &str) -> Result<u64, String> {
        self.tags += 1;
        let tag = self.tags;
        self.tell(&json!({ "send": { "chat": PEER, "text": text, "tag": tag } }))?;
        Ok(tag)
    }

    /// Which entries of the chat the client has stored.
    pub fn have(&mut self) -> Result<Vec<u64>, String> {
        let have = self.asked_what_it_has()?;
        Ok(have["seqs"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect())
    }

    /// The texts that it has of them.
    pub fn texts(&mut self) -> Result<Vec<String>, String> {
        let have = self.asked_what_it_has()?;
        let texts = have["texts"].as_array().ok_or("it does not say the texts of what it has")?;
        Ok(texts.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    fn asked_what_it_has(&mut self) -> Result<Value, String> {
        self.tell(&json!({ "have": { "chat": PEER } }))?;
        self.until("say what it has", |_, seen| match seen {
            Seen::Said(said) if !said["have"].is_null() => Ok(Flow::Done(said["have"].clone())),
            _ => Ok(Flow::Honest),
        })
    }

    pub fn say(&mut self, frame: &v1::ServerFrame) {
        self.world.connection.unanswered.remove(&frame.id);
        if let Some(link) = &mut self.link {
            link.say(frame);
        }
    }

    /// Ends the connection without a word.
    pub fn close(&mut self) {
        self.link = None;
    }

    /// What happens next, if it happens before the deadline.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<Seen>, String> {
        loop {
            if let Some(said) = self.client.as_mut().and_then(Client::said) {
                let said = said?;
                self.note(&said);
                return Ok(Some(Seen::Said(said)));
            }
            let came = self.link.as_mut().map(|link| link.poll());
            match came {
                Some(Came::Frame(frame)) => {
                    self.world.watch(&frame);
                    return Ok(Some(Seen::Frame(frame)));
                }
                Some(Came::Nonsense(why)) => {
                    self.world.breaks(1, why);
                    self.link = None;
                    return Ok(Some(Seen::Ended));
                }
                Some(Came::End) => {
                    self.link = None;
                    return Ok(Some(Seen::Ended));
                }
                Some(Came::Nothing) | None => {}
            }
            // The newest connection is the client's.
            match self.door.accept() {
                Some(Opened::Link(link)) => {
                    self.link = Some(link);
                    self.world.connected();
                    return Ok(Some(Seen::Connected));
                }
                Some(Opened::Failed(why)) => {
                    self.failure = Some(why);
                    return Ok(Some(Seen::NotConnected));
                }
                None => {}
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            if self.client.as_mut().is_some_and(|client| !client.runs()) && self.link.is_none() {
                // What it said last may still come.
                thread::sleep(Duration::from_millis(50));
                if let Some(said) = self.client.as_mut().and_then(Client::said) {
                    return said.map(|said| Some(Seen::Said(said)));
                }
                let complaints = self.client.as_ref().map(Client::complaints).unwrap_or_default();
                return Err(format!("the client has ended: {}", complaints.trim()));
            }
            if self.link.is_none() {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Answers a request as a server as it should be.
    pub fn honest(&mut self, seen: &Seen) {
        if let Seen::Frame(frame) = seen {
            for answer in self.world.answer(frame) {
                self.say(&answer);
            }
        }
    }

    /// Lets things happen until the case has seen what it wanted.
    pub fn until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self, &Seen) -> Result<Flow<T>, String>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(seen) = self.next(deadline)? {
            match look(self, &seen)? {
                Flow::Honest => self.honest(&seen),
                Flow::Taken => {}
                Flow::Done(done) => {
                    self.honest(&seen);
                    return Ok(done);
                }
                Flow::Held(done) => return Ok(done),
            }
        }
        let failure = self.failure.as_deref().map(|why| format!("; its last connection failed: {why}"));
        Err(format!("it did not {what} within {} s{}", PATIENCE.as_secs(), failure.unwrap_or_default()))
    }

    /// Lets things happen for so long.
    pub fn during(
        &mut self,
        long: Duration,
        mut look: impl FnMut(&mut Self, &Seen) -> Result<Flow<()>, String>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + long;
        while let Some(seen) = self.next(deadline)? {
            match look(self, &seen)? {
                Flow::Taken | Flow::Held(()) => {}
                Flow::Honest | Flow::Done(()) => self.honest(&seen),
            }
        }
        Ok(())
    }

    /// Until the client has resumed and was told that it has caught up.
    pub fn caught_up(&mut self) -> Result<(), String> {
        self.until("log in and resume", |_, seen| match seen {
            Seen::Frame(v1::ClientFrame { request: Some(Request::Resume(_)), .. }) => Ok(Flow::Done(())),
            _ => Ok(Flow::Honest),
        })
    }

    /// Until it says that a message of its own is sent. Gives its seq.
    pub fn sent(&mut self, tag: u64) -> Result<u64, String> {
        // It may have said so while the case looked at something else.
        if let Some(told) = self.told.get(&tag) {
            return told.clone();
        }
        self.until("say that its message is sent", |run, seen| {
            run.honest(seen);
            match run.told.get(&tag) {
                Some(told) => told.clone().map(Flow::Held),
                None => Ok(Flow::Taken),
            }
        })
    }

    /// Notes what became of the client's messages, as far as it says so.
    fn note(&mut self, said: &Value) {
        let (sent, refused) = (&said["sent"], &said["refused"]);
        if let Some(tag) = sent["tag"].as_u64() {
            self.told.insert(tag, Ok(sent["seq"].as_u64().unwrap_or_default()));
        }
        if let Some(tag) = refused["tag"].as_u64() {
            self.told.insert(tag, Err(format!("it gave a message up: {refused}")));
        }
    }

    /// Until it has acknowledged the chat up to there.
    pub fn acknowledged(&mut self, upto: u64) -> Result<(), String> {
        if self.world.position >= upto {
            return Ok(());
        }
        self.until(&format!("acknowledge up to {upto}"), |run, seen| {
            run.honest(seen);
            Ok(if run.world.position >= upto { Flow::Held(()) } else { Flow::Taken })
        })
    }

    /// A frame of the client, if that is what was seen.
    pub fn request(seen: &Seen) -> Option<(u64, &Request)> {
        match seen {
            Seen::Frame(frame) => Some((frame.id, frame.request.as_ref()?)),
            _ => None,
        }
    }
}
