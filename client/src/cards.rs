//! Cards: links by which one is added without a number.

use std::str::FromStr;

use tern_proto::v1::{self, client_frame, lookup, server_frame};
use tern_wire::ids::GROUPS_FROM;
use tern_wire::limits::SECRET_BYTES;

use crate::account::WRONG_KIND;
use crate::client::Client;
use crate::driver::Call;
use crate::error::Error;
use crate::link_text;
use crate::store::Person;

const SCHEME: &str = "tern:add/";

/// A link to somebody: whoever has it may know what they are called, and write to them. Its text is `tern:add/` and 32 characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Card {
    user: u64,
    secret: [u8; SECRET_BYTES],
}

/// Shows no secret.
impl std::fmt::Debug for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Card {{ of {} }}", self.user)
    }
}

impl std::fmt::Display for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&link_text::write(SCHEME, self.user, &self.secret))
    }
}

impl FromStr for Card {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const NONE: &str = "a link to somebody is tern:add/ and 32 characters";
        let (user, secret) = link_text::read(SCHEME, text).ok_or(NONE)?;
        if (1..GROUPS_FROM).contains(&user) { Ok(Self { user, secret }) } else { Err(NONE) }
    }
}

impl Client {
    /// One's card, as it is, or another one: then the one before is good no more.
    pub async fn card(&self, renew: bool) -> Result<Card, Error> {
        let answer = self.ask(client_frame::Request::NewCard(v1::NewCard { renew })).await?;
        let server_frame::Message::Card(card) = answer else { return Err(WRONG_KIND) };
        let secret = card.secret[..].try_into().map_err(|_| WRONG_KIND)?;
        Ok(Card { user: card.user_id, secret })
    }

    /// Whose card it is. This profile knows them from then on. One that is good no more is `UNKNOWN_USER`.
    pub async fn lookup_card(&self, card: &Card) -> Result<Person, Error> {
        let by = v1::Card { user_id: card.user, secret: card.secret.to_vec().into() };
        let by = Some(lookup::By::Card(by));
        let request = client_frame::Request::Lookup(v1::Lookup { by, group: 0 });
        self.call(|answer| Call::LookUpMember { request, answer }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_what_its_text_says_and_nothing_else_is_one() {
        let card = Card { user: 4096, secret: [7; SECRET_BYTES] };
        let text = card.to_string();
        assert_eq!((text.parse(), text.len()), (Ok(card), SCHEME.len() + 32));
        assert!(!format!("{card:?}").contains(&text[SCHEME.len()..]), "no secret is shown");
        let group = Card { user: 1 << 42, ..card }.to_string();
        for bad in ["", SCHEME, &text[1..], &text[..text.len() - 1], &format!("{text}A"), &group] {
            assert!(bad.parse::<Card>().is_err(), "{bad}");
        }
    }
}
