//! What one says about messages: replies, edits, deletions, reactions, pins, polls. Each is sent as a message is: kept first, and durable
//! when it comes back.

use prost::Message as _;
use tern_proto::v1;

use crate::client::{Client, Sent};
use crate::error::Error;
use crate::message::{Envelope, Kind, Message, NewMessage, Standing};

impl Client {
    /// Sends a message of any kind, or something about one, and waits until it is durable.
    pub async fn send_message(&self, message: NewMessage) -> Result<Sent, Error> {
        self.keep_message(message).await?.sent().await
    }

    /// Replies to a message of a chat.
    pub async fn reply(&self, chat: u64, to: u64, text: impl Into<Vec<u8>>) -> Result<Sent, Error> {
        self.send_message(NewMessage { envelope: Envelope::about(to), ..NewMessage::text(chat, text) }).await
    }

    /// Sends a message on to another chat.
    pub async fn forward(&self, message: &Message, to: u64) -> Result<Sent, Error> {
        let envelope =
            Envelope { forwards: message.envelope.forwards.saturating_add(1), ..Envelope::default() };
        let (kind, body) = (message.kind, message.body.clone());
        self.send_message(NewMessage { chat: to, kind, body, envelope, key: None }).await
    }

    /// Has one's own message read otherwise.
    pub async fn edit(&self, chat: u64, seq: u64, body: impl Into<Vec<u8>>) -> Result<Sent, Error> {
        self.say_about(chat, seq, Kind::Edit, body).await
    }

    /// Deletes a message for everyone.
    pub async fn delete(&self, chat: u64, seq: u64) -> Result<Sent, Error> {
        self.say_about(chat, seq, Kind::Deletion, "").await
    }

    /// Reacts to a message, in place of an earlier reaction; empty: with none.
    pub async fn react(&self, chat: u64, seq: u64, reaction: &str) -> Result<Sent, Error> {
        self.say_about(chat, seq, Kind::Reaction, reaction).await
    }

    /// Pins a message, or unpins it.
    pub async fn pin(&self, chat: u64, seq: u64, pinned: bool) -> Result<Sent, Error> {
        self.say_about(chat, seq, if pinned { Kind::Pin } else { Kind::Unpin }, "").await
    }

    /// Chooses answers of a poll, counted from 0, in place of those chosen before; none: takes the vote back.
    pub async fn vote(&self, chat: u64, poll: u64, answers: Vec<u32>) -> Result<Sent, Error> {
        self.say_about(chat, poll, Kind::Vote, v1::Vote { answers }.encode_to_vec()).await
    }

    /// Has messages of a chat disappear that are sent from here on, after so many ms: 1,000 to a year; 0: they stay.
    pub async fn set_timer(&self, chat: u64, after_ms: u64) -> Result<Sent, Error> {
        let body = v1::Timer { after_ms }.encode_to_vec();
        self.send_message(NewMessage { chat, kind: Kind::Timer, body, ..NewMessage::default() }).await
    }

    async fn say_about(
        &self,
        chat: u64,
        seq: u64,
        kind: Kind,
        body: impl Into<Vec<u8>>,
    ) -> Result<Sent, Error> {
        let (body, envelope) = (body.into(), Envelope::about(seq));
        self.send_message(NewMessage { chat, kind, body, envelope, key: None }).await
    }

    /// A message as it stands after all that this profile has received about it. `None`: it has no such message.
    pub async fn standing(&self, chat: u64, seq: u64) -> Result<Option<Standing>, Error> {
        self.local(move |store| store.standing(chat, seq)).await
    }
}
