//! One logged-in connection: what is pushed is stored and told, what waits is sent, what was dealt with is acknowledged.
//!
//! It ends with its connection. What must outlive it is in the [`Device`]'s records, and told as its [`News`].

mod acknowledge;
mod entries;
mod outbox;
mod people;
mod requests;
mod resume;

use std::time::Duration;

use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::errors::Reason;

use super::device::{Device, News, not_connected};
use super::ended::Ended;
use super::io::{Ask, Reply, Ticket};
use super::link::{Link, went_away};
use super::tables::Tables;
use crate::client::HistoryPage;
use crate::error::Error;
use crate::event::Event;
use crate::message::Message;
use crate::stories::{Story, StoryId, StoryNews};
use acknowledge::Acknowledging;
use outbox::Sending;
use requests::{Again, Pending, Requests};
use resume::Resuming;

/// See the module.
pub(crate) struct Session {
    pub(crate) link: Link,
    requests: Requests,
    resuming: Resuming,
    sending: Sending,
    acknowledging: Acknowledging,
    /// Who waits until nothing is unsent.
    flushes: Vec<Ticket>,
    ping_every: Duration,
    ping_at: Duration,
}

impl Session {
    /// The server has logged this device in.
    pub(crate) fn begin<S: Tables>(device: &mut Device<S>, link: Link) -> Result<Self, Ended> {
        let ping_every = Duration::from_millis(u64::from(link.limits.idle_timeout_ms.max(3)) / 3);
        let now = device.now.monotonic;
        let mut session = Self {
            requests: Requests::default(),
            resuming: Resuming::default(),
            sending: Sending::new(device.records.tables().outbox()?),
            acknowledging: Acknowledging::new(now),
            flushes: Vec::new(),
            ping_every,
            ping_at: now + ping_every,
            link,
        };
        device.news.push(News::Tell(Event::Connected));
        session.begin_to_resume(device)?;
        session.acknowledge_what_is_not(device)?;
        if device.shows != v1::Subscribe::default() {
            session.show(device, None);
        }
        for (ticket, ask) in std::mem::take(&mut device.waiting) {
            session.ask(device, ticket, ask);
        }
        Ok(session)
    }

    /// When something is to be done next, if nothing comes before.
    pub(crate) fn wake_at(&self) -> Duration {
        let times = [
            self.acknowledging.at,
            self.sending.next_at(),
            self.requests.again_at(),
            self.requests.answer_by,
        ];
        times.into_iter().flatten().fold(self.ping_at, Duration::min)
    }

    /// How many asks wait.
    pub(crate) fn asks_waiting(&self) -> usize {
        self.requests.waiting() + self.flushes.len()
    }

    /// Whether what the application has dealt with is to be noted, and nothing that comes anyway will.
    pub(crate) fn minds_news(&self) -> bool {
        self.acknowledging.at.is_none()
    }

    /// Does what is due, and sends what may be sent.
    pub(crate) fn turn<S: Tables>(&mut self, device: &mut Device<S>) -> Result<(), Ended> {
        let now = device.now.monotonic;
        if self.requests.answer_by.is_some_and(|by| by <= now) {
            return Err(Error::TimedOut.into());
        }
        if self.ping_at <= now {
            self.ping_at = now + self.ping_every;
            self.request(now, client_frame::Request::Ping(v1::Ping {}), Pending::Ping);
            self.fill_gaps(device)?;
        }
        if device.teller.is_news() {
            self.acknowledging.soon(now);
        }
        if self.acknowledging.at.is_some_and(|at| at <= now) {
            self.acknowledge(device)?;
        }
        self.ask_again(device)?;
        self.ask_waiting(now);
        self.send_unsent(device)?;
        self.answer_flushes(device);
        self.credit();
        Ok(())
    }

    /// Tells those who wait that there is no connection.
    pub(crate) fn end<S: Tables>(self, device: &mut Device<S>) {
        for pending in self.requests.into_pending() {
            match pending {
                Pending::Lookup(Some(known), ticket) => device.answer(ticket, Ok(Reply::Person(known))),
                Pending::Lookup(None, ticket) | Pending::History(_, ticket) | Pending::Ask(ticket) => {
                    device.answer(ticket, Err(not_connected()));
                }
                Pending::Show(Some(ticket)) => device.answer(ticket, Ok(Reply::Done)),
                // These are the client's own, and come again with the next connection.
                Pending::Send(_)
                | Pending::Changed(_)
                | Pending::Fill(_)
                | Pending::Acknowledge { .. }
                | Pending::Resume(_)
                | Pending::Show(None)
                | Pending::Ping => {}
            }
        }
        for ticket in self.flushes {
            device.answer(ticket, Err(not_connected()));
        }
    }

    /// Takes what the application asks.
    pub(crate) fn ask<S: Tables>(&mut self, device: &mut Device<S>, ticket: Ticket, ask: Ask) {
        let now = device.now.monotonic;
        match ask {
            Ask::Send(message) => {
                if let Some(client_id) = device.keep(ticket, &message) {
                    self.sending.add(client_id, message.chat);
                }
            }
            Ask::Lookup(by) => self.look_up(device, ticket, by),
            Ask::MarkRead { chat, upto } => {
                if device.mark_read(ticket, chat, upto) {
                    self.acknowledging.add(chat);
                    self.acknowledging.soon(now);
                }
            }
            Ask::Request(request) => self.request(now, request, Pending::Ask(ticket)),
            Ask::Show(shows) => {
                device.shows = shows;
                self.show(device, Some(ticket));
            }
            Ask::History(request) => {
                let pending = Pending::History(request.chat, ticket);
                self.request(now, client_frame::Request::History(request), pending);
            }
            Ask::Flush => {
                self.flushes.push(ticket);
                self.acknowledging.at = Some(now);
            }
        }
    }

    /// Says whom the device shows.
    fn show<S: Tables>(&mut self, device: &Device<S>, ticket: Option<Ticket>) {
        let shows = client_frame::Request::Subscribe(device.shows.clone());
        self.request(device.now.monotonic, shows, Pending::Show(ticket));
    }

    fn answer_flushes<S: Tables>(&mut self, device: &mut Device<S>) {
        // What is to be acknowledged later is so at once, or is refused for now.
        let is_acknowledged = self.acknowledging.at.is_none() && !self.requests.is_acknowledging();
        if !self.flushes.is_empty() && self.sending.is_done() && is_acknowledged {
            for ticket in self.flushes.drain(..) {
                // Those that were sent with this very input are news yet.
                device.news.push(News::Answer(ticket, Ok(Reply::Done)));
            }
        }
    }

    /// Takes a frame of so many bytes.
    pub(crate) fn frame<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        frame: v1::ServerFrame,
        bytes: u64,
    ) -> Result<(), Ended> {
        use server_frame::Message as M;
        // A push that this version does not know.
        let Some(message) = frame.message else { return Ok(()) };
        match message {
            M::Entry(entry) => {
                self.acknowledging.count(bytes);
                self.pushed(device, entry)
            }
            M::Receipt(receipt) => {
                self.acknowledging.count(bytes);
                self.receipt(device, &receipt)
            }
            M::Rewound(rewound) => {
                self.acknowledging.count(bytes);
                self.put_back(device, rewound.chat, rewound.upto)?;
                Ok(device.records.forget_marks_of(rewound.chat)?)
            }
            M::Begins(v1::Begins { chat, from }) => {
                self.acknowledging.count(bytes);
                Ok(self.begins(device, chat, from)?)
            }
            M::CaughtUp(_) => {
                self.resuming.caught_up_pushed = true;
                self.catch_up(device)
            }
            M::DeviceAdded(v1::DeviceAdded { device_id, device_name, time_ms }) => {
                device.news.push(News::Tell(Event::DeviceAdded { device_id, device_name, time_ms }));
                Ok(device.records.set_newest_device(device_id)?)
            }
            M::PersonChanged(v1::PersonChanged { user_id, .. }) => {
                self.look_up_changed(device.now.monotonic, user_id);
                Ok(())
            }
            M::Ring(v1::Ring { device_id, device_name }) => {
                device.news.push(News::Tell(Event::Ring { device_id, device_name }));
                Ok(())
            }
            M::Presence(v1::Presence { user_id, online, last_seen_ms }) => {
                device.news.push(News::Tell(Event::Presence { user_id, online, last_seen_ms }));
                Ok(())
            }
            M::Activity(activity) => {
                let (chat, doing) = (activity.chat, activity.doing());
                let sender = if activity.sender == 0 { chat } else { activity.sender };
                device.news.push(News::Tell(Event::Activity { chat, sender, doing }));
                Ok(())
            }
            told @ (M::StoryPosted(_) | M::StoryGone(_) | M::StorySeen(_)) => {
                device.news.extend(story_news(told).map(|news| News::Tell(Event::Story(Box::new(news)))));
                Ok(())
            }
            M::GoAway(bye) => Err(went_away(bye).into()),
            message => {
                let Some(pending) = self.requests.answered(frame.id, device.now.monotonic) else {
                    return Ok(());
                };
                device.worked |= !device.receive;
                self.answered(device, pending, message)
            }
        }
    }

    fn answered<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        pending: Pending,
        message: server_frame::Message,
    ) -> Result<(), Ended> {
        use server_frame::Message as M;
        match (pending, message) {
            (pending, M::Refused(refused)) => return self.refused(device, pending, refused),
            (Pending::Send(client_id), M::Sent(sent)) => {
                self.sending.acknowledged();
                self.sent(device, client_id, None, sent)?;
            }
            (Pending::Send(client_id), M::GroupCreated(v1::GroupCreated { chat, seq, time_ms })) => {
                self.sending.acknowledged();
                let sent = v1::Sent { seq, time_ms, expires_ms: 0 };
                self.sent(device, client_id, Some(chat), sent)?;
            }
            (Pending::Lookup(_, ticket), M::Person(person)) => {
                let person = self.person(device, person);
                answer(device, ticket, person.map(Reply::Person))?;
            }
            (Pending::Changed(_), M::Person(person)) => {
                let person = self.person(device, person)?;
                device.news.push(News::PersonChanged(person));
            }
            (Pending::History(chat, ticket), M::HistoryPage(page)) => {
                let page = page_of(chat, page, device.account.user_id);
                answer(device, ticket, Ok(Reply::Page(page)))?;
            }
            (Pending::Ask(ticket), M::ChatsPage(page)) => {
                let page = self.known_chats(device, page);
                answer(device, ticket, page.map(|page| Reply::Message(M::ChatsPage(page))))?;
            }
            (Pending::Ask(ticket), M::Person(person)) => {
                let person = self.person(device, person);
                answer(device, ticket, person.map(Reply::Person))?;
            }
            (Pending::Show(ticket), M::Subscribed(_)) => {
                if let Some(ticket) = ticket {
                    answer(device, ticket, Ok(Reply::Done))?;
                }
            }
            (Pending::Ask(ticket), message) => answer(device, ticket, Ok(Reply::Message(message)))?,
            (Pending::Fill(chat), M::HistoryPage(page)) => self.filled(device, chat, page)?,
            (Pending::Acknowledge { chat, delivered, read }, M::Acknowledged(_)) => {
                device.records.acknowledged(chat, delivered, read)?;
            }
            (Pending::Resume(asked), M::Resumed(resumed)) => self.resumed(device, asked, resumed.rewound)?,
            (Pending::Ping, M::Pong(_)) => {}
            (pending, _) => {
                let error = Error::Protocol("a response is not of its request's kind");
                if let Some(ticket) = pending.ticket() {
                    answer(device, ticket, Err(error.clone()))?;
                }
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn refused<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        pending: Pending,
        refused: v1::Refused,
    ) -> Result<(), Ended> {
        let for_now = refused.retry_after_ms > 0;
        match pending {
            Pending::Send(client_id) => {
                self.sending.in_flight -= 1;
                self.send_refused(device, client_id, refused)?;
            }
            Pending::Lookup(Some(known), ticket) => answer(device, ticket, Ok(Reply::Person(known)))?,
            Pending::Lookup(None, ticket) | Pending::History(_, ticket) | Pending::Ask(ticket) => {
                device.news.push(News::Answer(ticket, Err(refused.into())));
            }
            Pending::Show(ticket) if for_now => {
                self.requests.later(device, &refused, Again::Show);
                device.news.extend(ticket.map(|ticket| News::Answer(ticket, Ok(Reply::Done))));
            }
            Pending::Show(ticket) => {
                device.shows = v1::Subscribe::default();
                device.news.extend(ticket.map(|ticket| News::Answer(ticket, Err(refused.into()))));
            }
            Pending::Changed(user) if for_now => self.requests.later(device, &refused, Again::Changed(user)),
            Pending::Changed(user) => self.is_nobody_now(device, user)?,
            // The next one comes in its time.
            Pending::Ping if for_now => {}
            Pending::Acknowledge { chat, .. } if for_now => self.acknowledge_later(device, chat, &refused),
            Pending::Acknowledge { .. } if refused.reason() == Reason::InvalidArgument => {
                // This device has what the server never had: on the next connection it says from where on.
                device.records.distrust()?;
                return Err(Error::from(refused).into());
            }
            Pending::Resume(asked) if for_now => self.requests.later(device, &refused, Again::Resume(asked)),
            Pending::Fill(chat) if for_now => self.requests.later(device, &refused, Again::Fill(chat)),
            // One is not in that group any more: nothing of it is missing.
            Pending::Acknowledge { chat, delivered, read } if is_not_there(&refused) => {
                device.records.acknowledged(chat, delivered, read)?;
            }
            Pending::Fill(_) if is_not_there(&refused) => {}
            Pending::Resume(_) | Pending::Fill(_) | Pending::Ping | Pending::Acknowledge { .. } => {
                return Err(Error::from(refused).into());
            }
        }
        Ok(())
    }

    /// Makes again, as they are now, the requests of the client's own that were refused for a time which is over.
    fn ask_again<S: Tables>(&mut self, device: &mut Device<S>) -> Result<(), Ended> {
        for again in self.requests.due(device.now.monotonic) {
            match again {
                Again::Changed(user) => self.look_up_changed(device.now.monotonic, user),
                Again::Fill(chat) => self.fill(device, chat)?,
                Again::Show => self.show(device, None),
                Again::Resume(resume) => self.send_resume(device.now.monotonic, resume),
            }
        }
        Ok(())
    }
}

/// What the application is told of stories; `None` of one that is not named.
fn story_news(told: server_frame::Message) -> Option<StoryNews> {
    use server_frame::Message as M;
    match told {
        M::StoryPosted(v1::StoryPosted { story }) => story.map(Story::of_wire).map(StoryNews::Posted),
        M::StoryGone(v1::StoryGone { story }) => story.and_then(StoryId::of_wire).map(StoryNews::Gone),
        M::StorySeen(v1::StorySeen { story }) => story.and_then(StoryId::of_wire).map(StoryNews::Seen),
        _ => None,
    }
}

/// Who has asked is answered when what follows from the answer is stored. An error is theirs, and ends the connection.
fn answer<S>(device: &mut Device<S>, ticket: Ticket, answer: Result<Reply, Error>) -> Result<(), Error> {
    let failed = answer.as_ref().err().cloned();
    device.news.push(News::Answer(ticket, answer));
    failed.map_or(Ok(()), Err)
}

/// Whether a group is refused altogether.
fn is_not_there(refused: &v1::Refused) -> bool {
    matches!(refused.reason(), Reason::UnknownGroup | Reason::NotAMember)
}

fn page_of(chat: u64, page: v1::HistoryPage, me: u64) -> HistoryPage {
    HistoryPage {
        messages: page.entries.into_iter().map(|entry| Message::of_page(chat, entry, me)).collect(),
        more: page.more,
        head: page.head,
        delivered_upto: page.delivered_upto,
        read_upto: page.read_upto,
    }
}
