//! Messages on their way: sent in the order of their numbers, under the same number until they are durable or refused for good.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use tern_proto::v1::{self, client_frame, group_change};
use tern_wire::errors::Reason;
use tern_wire::group::Change;

use super::{Pending, Session};
use crate::client::Sent;
use crate::error::Error;
use crate::event::Event;
use crate::machine::device::{Device, News};
use crate::machine::ended::Ended;
use crate::machine::limits::{RETRY_MIN, SENDS_IN_FLIGHT_MAX};
use crate::machine::rows::Outgoing;
use crate::machine::tables::Tables;
use crate::message::to_wire;
use crate::stories::StoryId;

/// See the module. Bodies stay in the store until they are sent.
pub(super) struct Sending {
    /// Messages that are not under way on this connection, and to whom they are.
    unsent: BTreeMap<u64, u64>,
    /// Those from this on have never been sent: their numbers rise.
    fresh_from: u64,
    pub(super) in_flight: usize,
    /// How many may be in flight: halved when the server has too much to do, one more with each acknowledgement.
    in_flight_max: usize,
    /// The server has too much to do: nothing is sent before this.
    after: Option<Duration>,
    /// People to whom nothing more may be sent for now: nothing is before this, and others are not held up.
    held: BTreeMap<u64, Duration>,
}

impl Sending {
    pub(super) fn new(outbox: Vec<(u64, u64)>) -> Self {
        Self {
            fresh_from: outbox.last().map_or(0, |(client_id, _)| client_id + 1),
            unsent: outbox.into_iter().collect(),
            in_flight: 0,
            in_flight_max: SENDS_IN_FLIGHT_MAX,
            after: None,
            held: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, client_id: u64, chat: u64) {
        self.unsent.insert(client_id, chat);
    }

    /// Whether this connection was the first to send a message.
    fn is_fresh(&self, client_id: u64) -> bool {
        client_id >= self.fresh_from
    }

    /// It need not be sent any more.
    pub(super) fn forget(&mut self, client_id: u64) {
        self.unsent.remove(&client_id);
    }

    /// One that was in flight is durable.
    pub(super) fn acknowledged(&mut self) {
        self.in_flight -= 1;
        self.in_flight_max = SENDS_IN_FLIGHT_MAX.min(self.in_flight_max + 1);
    }

    /// Whether nothing is unsent or under way.
    pub(super) fn is_done(&self) -> bool {
        self.unsent.is_empty() && self.in_flight == 0
    }

    /// When something that is held may be sent.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.after.into_iter().chain(self.held.values().copied()).min()
    }

    /// What may be sent now, if anything may.
    fn next(&self) -> Option<u64> {
        if self.after.is_some() || self.in_flight >= self.in_flight_max {
            return None;
        }
        let mut unsent = self.unsent.iter();
        unsent.find(|(_, chat)| !self.held.contains_key(chat)).map(|(client_id, _)| *client_id)
    }
}

impl Session {
    pub(super) fn send_unsent<S: Tables>(&mut self, device: &mut Device<S>) -> Result<(), Ended> {
        let now = device.now.monotonic;
        self.sending.after = self.sending.after.filter(|after| *after > now);
        self.sending.held.retain(|_, until| *until > now);
        while self.requests.waiting() == 0
            && let Some(client_id) = self.sending.next()
        {
            self.sending.unsent.remove(&client_id);
            let outgoing = device.records.outgoing(client_id)?;
            let Outgoing { chat, kind, body, envelope, .. } =
                outgoing.expect("what is not in the outbox is not unsent");
            let longest = self.link.limits.body_bytes_max as usize;
            if body.len() > longest {
                let detail = format!("this server takes at most {longest} bytes");
                let reason = Reason::BodyTooLarge.into();
                self.send_refused(
                    device,
                    client_id,
                    v1::Refused { reason, detail, ..v1::Refused::default() },
                )?;
                continue;
            }
            let request = match chat {
                0 => client_frame::Request::CreateGroup(v1::CreateGroup { client_id, group: made_by(&body) }),
                chat => client_frame::Request::Send(v1::Send {
                    chat,
                    client_id,
                    body: body.into(),
                    kind,
                    about: envelope.about,
                    forwards: envelope.forwards,
                    mentions: envelope.mentions,
                    media: to_wire(&envelope.media),
                    story: envelope.story.map(StoryId::to_wire),
                }),
            };
            self.sending.in_flight += 1;
            self.request(now, request, Pending::Send(client_id));
        }
        Ok(())
    }

    /// A message of one's own is durable: it takes its place in the chat.
    pub(super) fn sent<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        client_id: u64,
        created: Option<u64>,
        v1::Sent { seq, time_ms, expires_ms }: v1::Sent,
    ) -> Result<(), Ended> {
        // It may have come as an entry before.
        let Some(Outgoing { chat, kind, body, envelope, .. }) = device.records.outgoing(client_id)? else {
            return Ok(());
        };
        let change = (kind == i32::from(v1::Kind::Group)).then(|| Change::parse(&body).ok()).flatten();
        if matches!(change, Some(Change::Joined(_))) {
            // Nothing before it is for this user, or is pushed.
            self.begins(device, chat, seq)?;
        }
        if matches!(change, Some(Change::Asked(_))) {
            // It stands in a group that one is not in: there is nothing of it to be kept here.
            device.records.dequeue(client_id)?;
            let sent = Sent { chat, seq, time_ms };
            device.records.note_sent(client_id, sent)?;
            device.news.push(News::Sent(client_id, sent));
            return Ok(());
        }
        let entry = v1::Entry {
            chat: created.unwrap_or(chat),
            seq,
            time_ms,
            kind,
            body: body.into(),
            sender: device.account.user_id,
            sender_device: device.account.device_id,
            client_id,
            about: envelope.about,
            forwards: envelope.forwards,
            mentions: envelope.mentions,
            media: to_wire(&envelope.media),
            story: envelope.story.map(StoryId::to_wire),
            expires_ms,
            ..v1::Entry::default()
        };
        let chat = entry.chat;
        let log = self.entry(device, entry)?;
        // The server knows that who has sent it has it, if it knew so of all before when it took it. Of a retry that can't be told.
        let follows = log.acked + 1 == seq && log.position >= seq;
        if self.sending.is_fresh(client_id) && self.resuming.is_settled() && follows {
            device.records.acknowledged(chat, seq, 0)?;
        }
        Ok(())
    }

    pub(super) fn send_refused<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        client_id: u64,
        refused: v1::Refused,
    ) -> Result<(), Ended> {
        if refused.retry_after_ms > 0 || refused.reason() == Reason::Unavailable {
            return self.send_later(device, client_id, &refused);
        }
        // It may have come as an entry before.
        let Some(outgoing) = device.records.dequeue(client_id)? else { return Ok(()) };
        device.records.note_not_sent(client_id)?;
        if refused.reason() == Reason::UnknownUser {
            // Whose phone that is now, the server is asked when it matters next.
            device.records.forget_phone_of(outgoing.chat)?;
        }
        let (reason, error) = (refused.reason(), Error::from(refused));
        device.news.push(News::NotSent { outgoing, reason, error });
        Ok(())
    }

    /// A message was refused for now.
    fn send_later<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        client_id: u64,
        refused: &v1::Refused,
    ) -> Result<(), Ended> {
        let wait = Duration::from_millis(refused.retry_after_ms.into()).max(RETRY_MIN);
        let retry_in = wait + device.entropy.jitter(wait);
        let until = device.now.monotonic + retry_in;
        let outgoing = device.records.outgoing(client_id)?;
        match (refused.reason(), &outgoing) {
            // That is about this person: what waits for them, or how many strangers one may write to.
            (reason @ (Reason::InboxFull | Reason::RateLimited), Some(Outgoing { chat, .. })) => {
                if self.sending.held.insert(*chat, until).is_none() {
                    device.news.push(News::Tell(Event::Delayed { chat: *chat, reason, retry_in }));
                }
            }
            _ => {
                self.sending.after = Some(until);
                self.sending.in_flight_max = (self.sending.in_flight_max / 2).max(1);
            }
        }
        // The oldest goes first again.
        if let Some(Outgoing { chat, .. }) = outgoing {
            self.sending.add(client_id, chat);
        }
        Ok(())
    }
}

/// What a group is to begin as, of the body of its first entry.
fn made_by(body: &[u8]) -> Option<v1::GroupMade> {
    match v1::GroupChange::decode(body).ok()?.change? {
        group_change::Change::Made(made) => Some(made),
        _ => None,
    }
}
