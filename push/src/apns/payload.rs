//! What is sent to APNs of a notice (Apple, "Generating a remote notification").
//!
//! ```text
//! {"aps":  {"alert": {"title-loc-key", "loc-key"} or {"title", "body"}, "badge", "sound", "mutable-content"},
//!  "tern": {"kind", "chat", "badge"}}
//! ```

use bytes::Bytes;
use serde_json::{Value, json};

use crate::limits::{APNS_PAYLOAD_BYTES_MAX, APNS_VOIP_BYTES_MAX};
use crate::notice::{Kind, Notice, Preview, Priority};
use crate::text::fit;
use crate::token::{ApnsToken, ApnsUse};

/// What the app says of what has come, where there is no preview: keys of its own `Localizable.strings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// Of a title. `None`: none.
    pub title_key: Option<String>,
    /// Of a message.
    pub message_key: String,
    /// Of a mention.
    pub mention_key: String,
    /// Of a call.
    pub call_key: String,
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            title_key: None,
            message_key: "TERN_MESSAGE".to_owned(),
            mention_key: "TERN_MENTION".to_owned(),
            call_key: "TERN_CALL".to_owned(),
        }
    }
}

impl Texts {
    fn of(&self, kind: Kind) -> &str {
        match kind {
            Kind::Mention => &self.mention_key,
            Kind::Call => &self.call_key,
            Kind::Message | Kind::Badge | Kind::Cleared => &self.message_key,
        }
    }
}

/// A push, but for whom it is for.
#[derive(Debug)]
pub(super) struct Push {
    /// `apns-push-type`.
    pub kind: &'static str,
    /// `apns-priority`.
    pub priority: &'static str,
    /// Whether it rings by PushKit.
    pub is_call: bool,
    pub payload: Bytes,
}

impl Push {
    /// `None`: a token for calls is to get something else.
    pub fn of(token: &ApnsToken, notice: &Notice, texts: &Texts) -> Option<Self> {
        let is_call = token.of == ApnsUse::Calls;
        if is_call && notice.kind != Kind::Call {
            return None;
        }
        let bytes_max = if is_call { APNS_VOIP_BYTES_MAX } else { APNS_PAYLOAD_BYTES_MAX };
        let payload = fit(notice.preview.as_ref(), bytes_max, |preview| {
            let payload = if is_call { call(notice, preview) } else { payload(notice, preview, texts) };
            payload.to_string().into_bytes()
        });
        let kind = match notice.kind {
            Kind::Call if is_call => "voip",
            Kind::Message | Kind::Mention | Kind::Call | Kind::Badge => "alert",
            Kind::Cleared => "background",
        };
        // Apple takes 10 for what is shown or rings alone, and wants 5 of what runs in the background.
        let is_high = notice.priority == Priority::High && notice.kind.is_shown();
        Some(Self { kind, priority: if is_high { "10" } else { "5" }, is_call, payload: payload.into() })
    }
}

fn payload(notice: &Notice, preview: Option<&Preview>, texts: &Texts) -> Value {
    let mut aps = json!({});
    if notice.kind.is_shown() {
        aps["alert"] = match preview {
            Some(preview) => json!({ "title": preview.title, "body": preview.body }),
            None => alert_by_keys(notice.kind, texts),
        };
        aps["sound"] = "default".into();
        aps["mutable-content"] = 1.into();
    }
    let mut tern = about(notice);
    match (notice.kind, notice.badge) {
        // What runs in the background may show nothing, so the app sets the badge.
        (Kind::Cleared, badge) => {
            aps["content-available"] = 1.into();
            if let Some(badge) = badge {
                tern["badge"] = badge.into();
            }
        }
        (_, Some(badge)) => aps["badge"] = badge.into(),
        (_, None) => {}
    }
    json!({ "aps": aps, "tern": tern })
}

fn alert_by_keys(kind: Kind, texts: &Texts) -> Value {
    let mut alert = json!({ "loc-key": texts.of(kind) });
    if let Some(title) = &texts.title_key {
        alert["title-loc-key"] = title.as_str().into();
    }
    alert
}

/// By PushKit there is no alert: the app shows the call itself.
fn call(notice: &Notice, preview: Option<&Preview>) -> Value {
    let mut tern = about(notice);
    if let Some(preview) = preview {
        tern["title"] = preview.title.as_str().into();
        tern["body"] = preview.body.as_str().into();
    }
    json!({ "aps": {}, "tern": tern })
}

fn about(notice: &Notice) -> Value {
    let mut tern = json!({ "kind": notice.kind.name() });
    if let Some(chat) = &notice.chat {
        tern["chat"] = chat.to_text().into();
    }
    tern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::{ChatRef, NoticeId};

    fn notice(kind: Kind, badge: Option<u32>, preview: Option<(&str, &str)>) -> Notice {
        let preview = preview.map(|(title, body)| Preview { title: title.to_owned(), body: body.to_owned() });
        let chat = ChatRef::new([1, 2, 3]).ok();
        Notice {
            id: NoticeId(1),
            kind,
            badge,
            collapse: None,
            priority: Priority::High,
            expires_s: 9,
            preview,
            chat,
        }
    }

    fn push(of: ApnsUse, notice: &Notice) -> Option<(&'static str, &'static str, Value)> {
        let token = ApnsToken::new("abcd", of, 0).expect("it is one");
        let push = Push::of(&token, notice, &Texts::default())?;
        Some((push.kind, push.priority, serde_json::from_slice(&push.payload).expect("it is JSON")))
    }

    #[test]
    fn each_kind_is_told_as_apple_wants_it() {
        let tell = |notice: &Notice| push(ApnsUse::Notices, notice).expect("it is told");
        let alert = json!({ "alert": { "loc-key": "TERN_MESSAGE" }, "badge": 3, "sound": "default", "mutable-content": 1 });
        let expect = json!({ "aps": alert, "tern": { "kind": "message", "chat": "AQID" } });
        assert_eq!(tell(&notice(Kind::Message, Some(3), None)), ("alert", "10", expect));

        let expect = json!({ "aps": { "badge": 0 }, "tern": { "kind": "badge", "chat": "AQID" } });
        assert_eq!(tell(&notice(Kind::Badge, Some(0), None)), ("alert", "5", expect));

        let tern = json!({ "kind": "cleared", "chat": "AQID", "badge": 1 });
        let expect = json!({ "aps": { "content-available": 1 }, "tern": tern });
        assert_eq!(tell(&notice(Kind::Cleared, Some(1), None)), ("background", "5", expect));

        let (_, _, mention) = tell(&notice(Kind::Mention, None, Some(("Ada", "hello"))));
        assert_eq!(mention["aps"]["alert"], json!({ "title": "Ada", "body": "hello" }));
    }

    #[test]
    fn a_token_for_calls_gets_calls_alone() {
        assert_eq!(push(ApnsUse::Calls, &notice(Kind::Message, None, None)), None);
        let tern = json!({ "kind": "call", "chat": "AQID", "title": "Ada", "body": "" });
        let expect = json!({ "aps": {}, "tern": tern });
        let told = push(ApnsUse::Calls, &notice(Kind::Call, None, Some(("Ada", ""))));
        assert_eq!(told, Some(("voip", "10", expect)));
        let (kind, _, _) = push(ApnsUse::Notices, &notice(Kind::Call, None, None)).expect("it is told");
        assert_eq!(kind, "alert");
    }

    #[test]
    fn a_long_preview_is_shortened_to_what_apple_takes() {
        let body = "ä\"".repeat(4000);
        for (of, bytes) in [(ApnsUse::Notices, 4096), (ApnsUse::Calls, 5120)] {
            let token = ApnsToken::new("abcd", of, 0).expect("it is one");
            let notice = notice(Kind::Call, Some(9), Some(("Ada", &body)));
            let push = Push::of(&token, &notice, &Texts::default()).expect("it is told");
            assert!((bytes - 8..=bytes).contains(&push.payload.len()), "{}", push.payload.len());
        }
    }
}
