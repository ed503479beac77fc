//! What somebody tells their own devices, parsed at the boundary: see `Private` in the schema.

use prost::Message as _;
use tern_proto::v1::{self, private::What};

use crate::errors::{Reason, Refusal};
use crate::ids::{ChatId, UserId, is_plain};
use crate::limits::{CONTACT_NAME_BYTES_MAX, CONTACTS_AT_ONCE_MAX, HIDDEN_MAX, LABEL_BYTES_MAX, NUMBERS_END};
use crate::message::{self, Send, is_message};

/// What of it the server keeps apart.
#[derive(Clone, PartialEq, Debug)]
pub enum Private {
    /// How somebody has a chat.
    Chat(ChatId, v1::ChatSettings),
    /// A message that is to be sent at a time, in ms since the Unix epoch.
    Scheduled(u64, Box<Send>),
    /// These are contacts from here on, or (`false`) are not any more.
    Contacts(Vec<(UserId, bool)>),
    /// Somebody is blocked from here on, or (`false`) is not any more.
    Blocked(UserId, bool),
    /// What others may see and do.
    Privacy(v1::Privacy),
    /// Somebody's stories are muted from here on, or (`false`) are not any more.
    StoriesMuted(UserId, bool),
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
            What::Contacts(contacts) => return contacts_of(&contacts),
            What::Blocked(blocked) => return Ok(Self::Blocked(person(blocked.user_id)?, !blocked.off)),
            What::Privacy(privacy) => return privacy_of(privacy),
            What::StoriesMuted(muted) => {
                return Ok(Self::StoriesMuted(person(muted.user_id)?, !muted.off));
            }
        }
        Ok(Self::Other)
    }
}

fn person(id: u64) -> Result<UserId, Refusal> {
    UserId::new(id).ok_or(invalid("no person is named"))
}

fn contacts_of(raw: &v1::Contacts) -> Result<Private, Refusal> {
    if raw.contacts.is_empty() || raw.contacts.len() > CONTACTS_AT_ONCE_MAX {
        return Err(invalid("1 to 256 contacts are named at once"));
    }
    if raw.contacts.iter().any(|contact| contact.name.len() > CONTACT_NAME_BYTES_MAX) {
        return Err(invalid("what a contact is called has at most 256 bytes"));
    }
    let contacts: Result<Vec<_>, _> =
        raw.contacts.iter().map(|contact| Ok((person(contact.user_id)?, !contact.off))).collect();
    let mut contacts = contacts?;
    contacts.sort_unstable();
    if contacts.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(invalid("a contact is named twice"));
    }
    Ok(Private::Contacts(contacts))
}

fn privacy_of(raw: v1::Privacy) -> Result<Private, Refusal> {
    let v1::Privacy { last_seen, online, picture, about, groups, found_by_phone, hides_reads: _ } = raw;
    let audiences = [last_seen, online, picture, about, groups, found_by_phone];
    if audiences.iter().any(|audience| v1::Audience::try_from(*audience).is_err()) {
        return Err(invalid("a setting has a value that is not known"));
    }
    Ok(Private::Privacy(raw))
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
    if !is_message(send.kind) || send.kind == i32::from(v1::Kind::Call) {
        return Err(invalid("nothing but a message is scheduled, and no call"));
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
        let contacts = |ids: &[u64]| {
            let contact = |id: &u64| v1::Contact { user_id: *id, off: *id == 9, ..Default::default() };
            What::Contacts(v1::Contacts { contacts: ids.iter().map(contact).collect() })
        };
        let user = |id| UserId::new(id).expect("a user");
        assert_eq!(parse(contacts(&[9, 7])), Ok(Private::Contacts(vec![(user(7), true), (user(9), false)])));
        let many: Vec<_> = (1..=257).collect();
        assert!(parse(contacts(&many[..256])).is_ok());
        let called = v1::Contact { user_id: 7, name: vec![b'x'; 257].into(), off: false };
        for what in [
            contacts(&[]),
            contacts(&[0]),
            contacts(&[7, 7]),
            contacts(&many),
            contacts(&[1 << 42]),
            What::Contacts(v1::Contacts { contacts: vec![called] }),
        ] {
            assert_eq!(parse(what), bad);
        }
        let blocked = |user_id, off| What::Blocked(v1::Blocked { user_id, off });
        assert_eq!(parse(blocked(7, false)), Ok(Private::Blocked(user(7), true)));
        assert_eq!(parse(blocked(7, true)), Ok(Private::Blocked(user(7), false)));
        assert_eq!(parse(blocked(0, false)), bad);
        let muted = |user_id, off| What::StoriesMuted(v1::StoriesMuted { user_id, off });
        assert_eq!(parse(muted(7, false)), Ok(Private::StoriesMuted(user(7), true)));
        assert_eq!(parse(muted(7, true)), Ok(Private::StoriesMuted(user(7), false)));
        assert_eq!(parse(muted(0, false)), bad);
        let privacy = v1::Privacy { last_seen: 2, ..Default::default() };
        assert_eq!(parse(What::Privacy(privacy)), Ok(Private::Privacy(privacy)));
        assert_eq!(parse(What::Privacy(v1::Privacy { groups: 3, ..Default::default() })), bad);
        for bytes in [&b""[..], b"\xff", b"text"] {
            assert!(Private::parse(bytes).is_err());
        }
    }
}
