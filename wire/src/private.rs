//! What somebody tells their own devices, parsed at the boundary: see `Private` in the schema.

use prost::Message as _;
use tern_proto::v1::{self, private::What};

use crate::errors::{Reason, Refusal};
use crate::ids::{ChatId, is_plain};
use crate::limits::{HIDDEN_MAX, LABEL_BYTES_MAX, NUMBERS_END};
use crate::message::{self, Send, is_message};

/// What of it the server keeps apart.
#[derive(Clone, PartialEq, Debug)]
pub enum Private {
    /// How somebody has a chat.
    Chat(ChatId, v1::ChatSettings),
    /// A message that is to be sent at a time, in ms since the Unix epoch.
    Scheduled(u64, Box<Send>),
    /// Nothing.
    Other,
}

const fn invalid(detail: &'static str) -> Refusal {
    Refusal::new(Reason::InvalidArgument, detail)
}

impl Private {
    /// What the body of an entry of `KIND_PRIVATE` says.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        const NONE: Refusal = invalid("the body is no Private that this server knows");
        let raw = v1::Private::decode(body).map_err(|_| NONE)?;
        let chat = |number| match ChatId::new(number) {
            Some(ChatId::Private) | None => Err(invalid("no chat is named")),
            Some(chat) => Ok(chat),
        };
        match raw.what.ok_or(NONE)? {
            What::Chat(settings) => {
                if v1::Notify::try_from(settings.notify).is_err() {
                    return Err(invalid("a setting has a value that is not known"));
                }
                // The number is the key.
                return Ok(Self::Chat(chat(settings.chat)?, v1::ChatSettings { chat: 0, ..settings }));
            }
            What::Star(star) => drop(chat(star.chat)?),
            What::Hidden(hidden) if hidden.seqs.len() > HIDDEN_MAX => {
                return Err(invalid("at most 256 messages are hidden at once"));
            }
            What::Hidden(hidden) => drop(chat(hidden.chat)?),
            What::Draft(draft) => drop(chat(draft.chat)?),
            What::Setting(setting) if setting.name.is_empty() || setting.name.len() > LABEL_BYTES_MAX => {
                return Err(invalid("a setting's name has 1 to 64 bytes"));
            }
            What::Setting(setting) if !is_plain(&setting.name) => {
                return Err(invalid("a setting's name has characters that control or turn what follows"));
            }
            What::Setting(_) => {}
            What::Scheduled(scheduled) => return scheduled_of(scheduled),
            What::Dispatched(_) => return Err(invalid("what was sent for somebody, the server alone says")),
        }
        Ok(Self::Other)
    }
}

fn scheduled_of(raw: v1::Scheduled) -> Result<Private, Refusal> {
    if raw == v1::Scheduled::default() {
        // What it replaces is taken back.
        return Ok(Private::Other);
    }
    if raw.at_ms == 0 || raw.at_ms >= NUMBERS_END {
        return Err(invalid("when it is to be sent is not said"));
    }
    let send = message::send(raw.send.ok_or(invalid("what is to be sent is not said"))?)?;
    if !is_message(send.kind) {
        return Err(invalid("nothing but a message is scheduled"));
    }
    Ok(Private::Scheduled(raw.at_ms, Box::new(send)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(what: What) -> Result<Private, Reason> {
        let body = v1::Private { what: Some(what) }.encode_to_vec();
        Private::parse(&body).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn what_names_no_chat_or_is_too_much_is_refused() {
        let bad = Err(Reason::InvalidArgument);
        let settings = |chat, notify| What::Chat(v1::ChatSettings { chat, notify, ..Default::default() });
        let chat = ChatId::new(7).expect("a chat");
        assert_eq!(
            parse(settings(7, 1)),
            Ok(Private::Chat(chat, v1::ChatSettings { notify: 1, ..Default::default() }))
        );
        for what in [settings(0, 0), settings(1 << 43, 0), settings(7, 3)] {
            assert_eq!(parse(what), bad);
        }
        assert_eq!(parse(What::Star(v1::Star { chat: 7, seq: 1, off: false })), Ok(Private::Other));
        assert_eq!(parse(What::Star(v1::Star::default())), bad);
        let hidden = |count| What::Hidden(v1::Hidden { chat: 7, seqs: vec![1; count], upto: 0 });
        assert_eq!((parse(hidden(256)), parse(hidden(257))), (Ok(Private::Other), bad.clone()));
        assert_eq!(parse(What::Draft(v1::Draft::default())), bad);
        let send = v1::Send { chat: 7, body: "later".into(), ..Default::default() };
        let scheduled = |at_ms, send| What::Scheduled(v1::Scheduled { at_ms, send });
        assert!(matches!(parse(scheduled(1, Some(send.clone()))), Ok(Private::Scheduled(1, _))));
        assert_eq!(parse(scheduled(0, None)), Ok(Private::Other));
        let edit = v1::Send { kind: v1::Kind::Edit.into(), about: 3, ..send.clone() };
        let own = v1::Send { chat: 1 << 43, ..send.clone() };
        for what in [
            scheduled(0, Some(send.clone())),
            scheduled(NUMBERS_END, Some(send)),
            scheduled(1, None),
            scheduled(1, Some(edit)),
            scheduled(1, Some(own)),
            scheduled(1, Some(v1::Send::default())),
            What::Dispatched(v1::Dispatched::default()),
        ] {
            assert_eq!(parse(what), bad);
        }
        let setting = |name: &str| What::Setting(v1::ClientSetting { name: name.into(), value: "x".into() });
        assert_eq!(parse(setting("theme")), Ok(Private::Other));
        for name in ["", "a\nb", &"x".repeat(65)] {
            assert_eq!(parse(setting(name)), bad);
        }
        for bytes in [&b""[..], b"\xff", b"text"] {
            assert!(Private::parse(bytes).is_err());
        }
    }
}
