//! What a machine has beside a connection: the records, who waits for what, what the application is told.
//!
//! What follows from a change (an answer, an event, somebody who need not wait any more) is [`News`], and spread when the change is
//! durable. If it can't be made so, the news are dropped with it, and who has asked hears why.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tern_proto::v1::{self, lookup};
use tern_wire::errors::Reason;

use super::entropy::Entropy;
use super::io::{Action, Ask, Now, Reply, Ticket};
use super::limits::{ASK_AGAIN, ASKED_MAX};
use super::records::{Enqueued, Records};
use super::rows::{Account, Outgoing, Person};
use super::tables::Tables;
use super::teller::Teller;
use crate::client::Sent;
use crate::error::Error;
use crate::event::Event;
use crate::message::NewMessage;

/// What holds once the changes that were made with it are durable.
pub(crate) enum News {
    /// The session has other tokens, or knows its store.
    Account(Account),
    /// Who has asked is answered.
    Answer(Ticket, Result<Reply, Error>),
    /// A message is durable on the server.
    Sent(u64, Sent),
    /// A message was refused for good.
    NotSent {
        /// It.
        outgoing: Outgoing,
        /// Why, for programs.
        reason: Reason,
        /// To who waits for it.
        error: Error,
    },
    /// The application is told.
    Tell(Event),
    /// A chat has more than was told.
    Grown(u64),
    /// A chat was put back.
    PutBack { chat: u64, upto: u64 },
    /// Something may be gone for good.
    SomethingIsGone,
    /// Watermarks of a chat have moved, the peer's or one's own.
    MarksMoved { chat: u64, own: bool },
    /// A person is not as before.
    PersonChanged(Person),
    /// The server has pushed everything that was missing.
    CaughtUp,
    /// What the application has dealt with is stored, up to this number.
    Noted(u64),
}

/// See the module.
pub(crate) struct Device<S> {
    /// HOST:PORT, for what people are told.
    pub(crate) server: String,
    /// Whether pushes are asked for.
    pub(crate) receive: bool,
    pub(crate) records: Records<S>,
    pub(crate) account: Account,
    pub(crate) entropy: Entropy,
    pub(crate) now: Now,
    pub(crate) teller: Teller,
    pub(crate) news: Vec<News>,
    pub(crate) out: Vec<Action>,
    /// Who waits for which message.
    pub(crate) senders: BTreeMap<u64, Vec<Ticket>>,
    /// What needs a connection, while one is being made.
    pub(crate) waiting: VecDeque<(Ticket, Ask)>,
    /// People whom the server did not tell all of: when they were looked up, and whether both had written then.
    asked: BTreeMap<u64, (Duration, bool)>,
    /// Whom it shows.
    pub(crate) shows: v1::Subscribe,
    /// The connection has been of use: it has caught up, or answered.
    pub(crate) worked: bool,
}

impl<S: Tables> Device<S> {
    pub(crate) fn new(
        (server, receive): (String, bool),
        (records, account): (Records<S>, Account),
        entropy: Entropy,
    ) -> Result<Self, Error> {
        Ok(Self {
            server,
            receive,
            teller: Teller::new(receive, &records)?,
            records,
            account,
            entropy,
            now: Now::default(),
            news: Vec::new(),
            out: Vec::new(),
            senders: BTreeMap::new(),
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
            shows: v1::Subscribe::default(),
            worked: false,
        })
    }

    /// Makes durable what was changed, and spreads the news of it. After an error neither has happened.
    pub(crate) fn commit(&mut self) -> Result<(), Error> {
        match self.records.commit() {
            Ok(()) => {
                self.spread();
                Ok(())
            }
            Err(error) => {
                self.roll_back(&error);
                Err(error)
            }
        }
    }

    /// Undoes what is not durable, because of an error of the store: who would have been answered hears of that.
    pub(crate) fn roll_back(&mut self, why: &Error) {
        self.records.roll_back();
        for news in std::mem::take(&mut self.news) {
            if let News::Answer(ticket, _) = news {
                self.answer(ticket, Err(why.clone()));
            }
        }
    }

    fn spread(&mut self) {
        for news in std::mem::take(&mut self.news) {
            match news {
                News::Account(account) => self.account = account,
                News::Answer(ticket, answer) => self.answer(ticket, answer),
                News::Sent(client_id, sent) => self.answer_senders(client_id, &Ok(sent)),
                News::NotSent { outgoing, reason, error } => self.not_sent(outgoing, reason, error),
                News::Tell(event) => self.tell(event),
                News::Grown(chat) => self.teller.grown(chat),
                News::PutBack { chat, upto } => self.teller.put_back(chat, upto),
                News::SomethingIsGone => self.teller.something_is_gone(),
                News::MarksMoved { chat, own } => self.teller.marks_moved(chat, own),
                News::PersonChanged(person) => self.teller.person_changed(person),
                News::CaughtUp => self.teller.caught_up(),
                News::Noted(upto) => self.teller.noted(upto),
            }
        }
    }

    /// Answers what the application has asked, whatever becomes of other changes.
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Result<Reply, Error>) {
        self.out.push(Action::Answer(ticket, answer));
    }

    /// Tells the application something, whatever becomes of other changes.
    pub(crate) fn tell(&mut self, event: Event) {
        self.teller.tell(event, &mut self.out);
    }

    /// Tells all who wait for a message.
    pub(crate) fn answer_senders(&mut self, client_id: u64, result: &Result<Sent, Error>) {
        for ticket in self.senders.remove(&client_id).unwrap_or_default() {
            self.answer(ticket, result.clone().map(Reply::Sent));
        }
    }

    fn not_sent(&mut self, outgoing: Outgoing, reason: Reason, error: Error) {
        if self.senders.contains_key(&outgoing.client_id) {
            return self.answer_senders(outgoing.client_id, &Err(error));
        }
        let detail = match error {
            Error::Refused { detail, .. } => detail,
            error => error.to_string(),
        };
        let Outgoing { chat, kind, body, .. } = outgoing;
        self.tell(Event::NotSent { chat, kind: kind.into(), body, reason, detail });
    }

    /// Tells the application what it takes. Gives chats of which it knew everything that is new: that is dealt with.
    pub(crate) fn pump(&mut self) -> Result<Vec<u64>, Error> {
        let known = self.teller.pump(&self.records, &mut self.out)?;
        let noted = self.records.at_once(|records| records.told(&known));
        if noted.is_err() {
            self.teller.not_noted(&known);
        }
        noted.map(|()| known.into_iter().map(|(chat, _)| chat).collect())
    }

    /// Notes what the application has dealt with. Gives the chats.
    pub(crate) fn note_progress(&mut self) -> Result<Vec<u64>, Error> {
        let dealt_with = self.teller.dealt_with(&self.records)?;
        self.records.seen(&dealt_with.seen)?;
        self.records.told(&dealt_with.messages)?;
        self.records.gone_told(dealt_with.gone)?;
        self.news.push(News::Noted(dealt_with.upto));
        Ok(dealt_with.messages.into_iter().map(|(chat, _)| chat).collect())
    }

    /// The same, durable or not done when this comes back.
    pub(crate) fn note_progress_at_once(&mut self) -> Result<(), Error> {
        let noted = self.note_progress().and_then(|_| self.commit());
        if let Err(error) = &noted {
            self.roll_back(error);
        }
        noted
    }

    /// Takes what the application asks while there is no connection. What needs one waits for it if it is `coming`.
    pub(crate) fn ask_without_connection(&mut self, ticket: Ticket, ask: Ask, coming: bool) {
        match ask {
            Ask::History(_) | Ask::Request(_) | Ask::Flush if coming => self.waiting.push_back((ticket, ask)),
            Ask::Lookup(by) if coming && !self.known(&by).is_ok_and(|known| known.is_some()) => {
                self.waiting.push_back((ticket, Ask::Lookup(by)));
            }
            Ask::Lookup(by) => {
                let known = self.known(&by).and_then(|known| known.ok_or_else(not_connected));
                self.answer(ticket, known.map(Reply::Person));
            }
            Ask::Send(message) => _ = self.keep(ticket, &message),
            Ask::Show(shows) => {
                self.shows = shows;
                self.answer(ticket, Ok(Reply::Done));
            }
            Ask::MarkRead { chat, upto } => {
                self.mark_read(ticket, chat, upto);
            }
            Ask::History(_) | Ask::Request(_) | Ask::Flush => self.answer(ticket, Err(not_connected())),
        }
    }

    /// Keeps a message to be sent, and gives its number if it is to be sent now.
    pub(crate) fn keep(&mut self, ticket: Ticket, message: &NewMessage) -> Option<u64> {
        let enqueued = match self.records.at_once(|records| records.enqueue(message)) {
            Ok(enqueued) => enqueued,
            Err(error) => {
                self.answer(ticket, Err(error));
                return None;
            }
        };
        self.answer(ticket, Ok(Reply::Kept));
        match enqueued {
            Enqueued::New(client_id) => {
                self.senders.insert(client_id, vec![ticket]);
                Some(client_id)
            }
            Enqueued::Waiting(client_id) => {
                self.senders.entry(client_id).or_default().push(ticket);
                None
            }
            Enqueued::Sent(before) => {
                self.answer(ticket, Ok(Reply::Sent(before)));
                None
            }
        }
    }

    /// One has read up to here. `true` if that is something new.
    pub(crate) fn mark_read(&mut self, ticket: Ticket, chat: u64, upto: u64) -> bool {
        let marked = self.records.at_once(|records| records.mark_read(chat, upto));
        let is_new = matches!(marked, Ok(true));
        self.answer(ticket, marked.map(|_| Reply::Done));
        is_new
    }

    pub(crate) fn known(&self, by: &lookup::By) -> Result<Option<Person>, Error> {
        match by {
            lookup::By::Phone(phone) => self.records.person_by_phone(phone),
            lookup::By::UserId(user) => self.records.person(*user),
            // Whose it is, and whether it is good, the server knows.
            lookup::By::Card(_) => Ok(None),
        }
    }

    /// Whether to ask the server for a person whom it did not tell all of: not often, but as soon as both have written.
    pub(crate) fn is_to_be_asked(&mut self, person: &Person) -> Result<bool, Error> {
        if !person.name.is_empty() && !person.phone.is_empty() {
            return Ok(false);
        }
        let both = self.records.both_have_written(person.user_id)?;
        if let Some((when, both_had)) = self.asked.get(&person.user_id)
            && self.now.monotonic - *when < ASK_AGAIN
            && *both_had >= both
        {
            return Ok(false);
        }
        if self.asked.len() >= ASKED_MAX {
            self.asked.clear();
        }
        self.asked.insert(person.user_id, (self.now.monotonic, both));
        Ok(true)
    }

    /// Tells everybody who waits for a message why no more are sent. If it is `over`, what they wait for is not kept either.
    pub(crate) fn give_up(&mut self, over: bool, why: &Error) {
        let senders: Vec<_> = self.senders.keys().copied().collect();
        if over {
            // If that fails they are only kept for longer than they are of use.
            let _ = self.records.at_once(|records| {
                senders.iter().try_for_each(|client_id| {
                    records.dequeue(*client_id)?;
                    records.note_not_sent(*client_id)
                })
            });
        }
        for client_id in senders {
            self.answer_senders(client_id, &Err(why.clone()));
        }
    }
}

pub(crate) fn not_connected() -> Error {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into()
}
