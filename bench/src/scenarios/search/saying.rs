//! What is searched for later is said: by each of the others, to the one who searches and to somebody else, and some of it is deleted.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use fastrand::Rng;
use tern_proto::v1::{self, Kind, client_frame::Request, server_frame::Message};

use super::corpus::Corpus;
use super::{SEARCHER, SILENCE_MAX};
use crate::load::{Fleet, Happened, WAIT};
use crate::stop;
use crate::target::Target;

/// Messages of one device that wait for their acknowledgement.
const WINDOW: u32 = 32;

/// One of so many is said to somebody else.
const ELSEWHERE: u32 = 10;

/// One of so many is deleted for everyone.
const DELETED: usize = 50;

/// See the module.
pub struct Saying<'a> {
    target: &'a Target,
    fleet: Fleet<'a>,
    rng: Rng,
    corpus: Corpus,
    /// Which message each request is, by device and id.
    under_way: HashMap<(u32, u64), usize>,
    /// How many of each device's.
    of_device: Vec<u32>,
    /// What else is in the store: deletions.
    others: u64,
    number: u64,
    heard_at: Instant,
}

impl<'a> Saying<'a> {
    /// All are connected but the one who searches: what comes meanwhile waits for them.
    pub fn new(target: &'a Target, rng: Rng) -> Result<Self, String> {
        let mut fleet = Fleet::new(target, &target.users, 0, false)?;
        let connected = fleet.connect(SEARCHER + 1..fleet.len())?;
        if let Some(why) = connected.first_error {
            return Err(format!("a connection was lost: {why}"));
        }
        Ok(Self {
            target,
            rng,
            corpus: Corpus::default(),
            under_way: HashMap::new(),
            of_device: vec![0; fleet.len() as usize],
            others: 0,
            number: target.first_number(),
            heard_at: Instant::now(),
            fleet,
        })
    }

    /// So many are said to the one who searches, by turns, and some more elsewhere.
    pub fn say(&mut self, messages: u32) -> Result<(), String> {
        let people = self.fleet.len() - 1;
        for message in 0..messages {
            if message.is_multiple_of(100_000) && message > 0 {
                crate::progress(&format!("{message} of {messages} messages are said"));
            }
            let by = SEARCHER + 1 + message % people;
            self.say_one(by, Some(by))?;
            if message.is_multiple_of(ELSEWHERE) {
                self.say_one(by, None)?;
            }
        }
        self.settle()
    }

    /// A device says something in its chat with the one who searches, or to the next of the others.
    fn say_one(&mut self, by: u32, chat: Option<u32>) -> Result<(), String> {
        let (text, message) = (self.corpus.add(&mut self.rng, chat), self.corpus.said.len() - 1);
        let to = if chat.is_some() { SEARCHER } else { SEARCHER + 1 + by % (self.fleet.len() - 1) };
        let send = v1::Send { chat: self.user_id(to), body: text.into(), ..v1::Send::default() };
        self.send(by, send, message)
    }

    /// Some are deleted by who has said them.
    pub fn delete_some(&mut self) -> Result<(), String> {
        let mine = self.corpus.said.iter().enumerate().filter_map(|(at, said)| Some((at, said.chat?)));
        let deleted: Vec<_> = mine.step_by(DELETED).collect();
        for (at, by) in deleted {
            self.corpus.said[at].gone = true;
            let (chat, about) = (self.user_id(SEARCHER), self.corpus.said[at].seq);
            let send = v1::Send { chat, about, kind: Kind::Deletion.into(), ..v1::Send::default() };
            self.others += 1;
            self.send(by, send, usize::MAX)?;
        }
        self.settle()
    }

    /// What was said, and how many entries the store has of it.
    pub fn end(self) -> Result<(Corpus, u64), String> {
        if stop::asked() {
            return Err("stopped before anything was searched for".to_owned());
        }
        let entries = self.corpus.said.len() as u64 + self.others;
        Ok((self.corpus, entries))
    }

    fn user_id(&self, device: u32) -> u64 {
        self.target.users[device as usize].id
    }

    fn send(&mut self, by: u32, send: v1::Send, message: usize) -> Result<(), String> {
        while self.of_device[by as usize] >= WINDOW {
            self.turn()?;
        }
        self.number += 1;
        let request = Request::Send(v1::Send { client_id: self.number, ..send });
        let id = self.fleet.ask(by, request).ok_or_else(|| format!("device {by} is not connected"))?;
        self.under_way.insert((by, id), message);
        self.of_device[by as usize] += 1;
        Ok(())
    }

    /// Waits until all are acknowledged.
    fn settle(&mut self) -> Result<(), String> {
        while !self.under_way.is_empty() && !stop::asked() {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), String> {
        let mut came = VecDeque::new();
        self.fleet.turn(WAIT, &mut |device, happened| came.push_back((device, happened)))?;
        for (device, happened) in came {
            match happened {
                Happened::Frame(v1::ServerFrame { id, message: Some(Message::Sent(sent)) }) => {
                    let message = self.under_way.remove(&(device, id));
                    if let Some(said) = message.and_then(|message| self.corpus.said.get_mut(message)) {
                        (said.seq, said.time_ms) = (sent.seq, sent.time_ms);
                    }
                    self.of_device[device as usize] -= u32::from(message.is_some());
                    self.heard_at = Instant::now();
                }
                Happened::Frame(v1::ServerFrame { message: Some(Message::Refused(refused)), .. }) => {
                    return Err(format!(
                        "a message was refused: {}: {}",
                        refused.reason().name(),
                        refused.detail
                    ));
                }
                Happened::Lost(why) => return Err(format!("a connection was lost: {why}")),
                Happened::Frame(_) | Happened::Ready => {}
            }
        }
        if self.heard_at.elapsed() > SILENCE_MAX {
            return Err(format!("{} messages are not acknowledged", self.under_way.len()));
        }
        Ok(())
    }
}
