//! From what the brain says to a notice of tern-push.
//!
//! What a device is told of a chat has the chat's key, so that the newest is enough: a message takes the place of one before it, and that a
//! chat was read takes the place of a message that nobody has seen. A number alone has a key of its own, the same for all chats: it takes the
//! place of an older number and never of a message.

use tern_proto::v1::PushService;
use tern_push::{
    Address, ApnsToken, ApnsUse, ChatRef, CollapseKey, DeviceId, FcmToken, Invalid, Kind, Notice, NoticeId,
    Order, Preview, Priority, Subscription, Token,
};
use tern_shard::effects::{Push, PushKind};
use tern_shard::entry::Author;
use tern_storage::records::PushTokenRecord;

/// A notice for whoever it is for.
///
/// # Errors
/// Where the device is told can't be reached by any service: it is no address.
pub(super) fn order_of(run: u64, push: Push) -> Result<Order, Invalid> {
    let token = token_of(&push.to)?;
    let chat = push.chat.to_be_bytes();
    let (kind, priority, collapse) = match push.kind {
        PushKind::Message => (Kind::Message, Priority::High, of_chat(chat)),
        PushKind::Mention => (Kind::Mention, Priority::High, of_chat(chat)),
        PushKind::Call => (Kind::Call, Priority::High, of_chat(chat)),
        PushKind::Cleared => (Kind::Cleared, Priority::Normal, of_chat(chat)),
        PushKind::Badge => (Kind::Badge, Priority::Normal, CollapseKey::new(b"number")?),
    };
    let notice = Notice {
        // Numbers of two cores differ.
        id: NoticeId(u128::from(run) << 64 | u128::from(push.number)),
        kind,
        badge: Some(push.badge),
        collapse: Some(collapse),
        priority,
        expires_s: push.expires_s,
        preview: push.preview.map(|(title, body)| Preview { title, body }),
        chat: Some(ChatRef::new(chat)?),
    };
    Ok(Order { device: device_of(push.device), token, notice })
}

fn of_chat(chat: [u8; 8]) -> CollapseKey {
    CollapseKey::new(chat).expect("8 bytes are few enough")
}

fn device_of(Author { user, device }: Author) -> DeviceId {
    DeviceId(u128::from(user.get()) << 32 | u128::from(device.get()))
}

fn token_of(record: &PushTokenRecord) -> Result<Token, Invalid> {
    let PushTokenRecord { token, p256dh, auth, since_ms, .. } = record;
    match PushService::try_from(record.service) {
        Ok(PushService::Apns) => ApnsToken::new(token, ApnsUse::Notices, since_ms / 1000).map(Token::Apns),
        Ok(PushService::Fcm) => FcmToken::new(token).map(Token::Fcm),
        Ok(PushService::WebPush) => Subscription::with_keys(token, p256dh, auth).map(Token::WebPush),
        Ok(PushService::Webhook) => Address::new(token).map(Token::Webhook),
        Ok(PushService::Unknown) | Err(_) => Err(Invalid::Token),
    }
}

// What a client may say where it is told is what can be told there.
const _: () = {
    use tern_push::limits as ours;
    use tern_wire::limits as theirs;
    assert!(theirs::PUSH_APNS_CHARS_MAX <= ours::APNS_TOKEN_CHARS_MAX);
    assert!(theirs::PUSH_FCM_CHARS_MAX <= ours::FCM_TOKEN_CHARS_MAX);
    assert!(theirs::PUSH_ENDPOINT_CHARS_MAX <= ours::ENDPOINT_CHARS_MAX);
    assert!(theirs::PUSH_ADDRESS_CHARS_MAX <= ours::ADDRESS_CHARS_MAX);
};

#[cfg(test)]
mod tests {
    use super::*;
    use tern_storage::LogId;
    use tern_wire::ids::{DeviceId as Device, UserId};

    fn push(kind: PushKind, chat: u64, number: u64) -> Push {
        let (user, device) = (UserId::new(7).expect("one"), Device::new(2).expect("one"));
        let to = PushTokenRecord {
            service: PushService::Webhook.into(),
            token: "here".to_owned(),
            ..PushTokenRecord::default()
        };
        Push {
            device: Author { user, device },
            log: LogId::Group(9),
            number,
            to,
            kind,
            badge: 3,
            chat,
            expires_s: 60,
            preview: None,
        }
    }

    fn key(kind: PushKind, chat: u64) -> Option<CollapseKey> {
        order_of(1, push(kind, chat, 1)).expect("it can be told").notice.collapse
    }

    #[test]
    fn a_number_never_takes_the_place_of_a_message_and_the_end_of_one_always_does() {
        let message = key(PushKind::Message, 5);
        assert_eq!(message, key(PushKind::Mention, 5));
        assert_eq!(message, key(PushKind::Cleared, 5));
        assert_ne!(message, key(PushKind::Message, 6));
        assert_ne!(message, key(PushKind::Badge, 5));
        assert_eq!(message, key(PushKind::Call, 5), "a call that was taken elsewhere rings no more");
        assert_eq!(key(PushKind::Badge, 5), key(PushKind::Badge, 6));
    }

    #[test]
    fn ids_differ_from_push_to_push_and_from_run_to_run() {
        let id = |run, number| order_of(run, push(PushKind::Message, 5, number)).expect("told").notice.id;
        assert_ne!(id(1, 1), id(1, 2));
        assert_ne!(id(1, 1), id(2, 1));
    }

    #[test]
    fn what_is_no_address_is_told_to_nobody() {
        for (service, token) in
            [(PushService::Apns, "xyz"), (PushService::Fcm, ""), (PushService::WebPush, "https://127.1/")]
        {
            let mut push = push(PushKind::Message, 5, 1);
            push.to.service = service.into();
            push.to.token = token.to_owned();
            assert!(order_of(1, push).is_err(), "{service:?}");
        }
        let mut unknown = push(PushKind::Message, 5, 1);
        unknown.to.service = 99;
        assert!(order_of(1, unknown).is_err());
    }
}
