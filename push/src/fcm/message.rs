//! What is sent to FCM of a notice (Google, "REST Resource: projects.messages").
//!
//! ```text
//! {"message": {"token",
//!              "data": {"kind", "badge", "chat", "title", "body"},
//!              "android": {"priority", "ttl", "collapse_key", "notification"}}}
//! ```
//! By default there are data alone, and the app shows what it wants of them.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::limits::FCM_MESSAGE_BYTES_MAX;
use crate::notice::{Kind, Notice, Preview, Priority};
use crate::text::fit;
use crate::token::FcmToken;

/// What Android shows without the app's doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Nothing: the app is woken, and shows it.
    #[default]
    Nothing,
    /// A text: the preview, or names of the app's string resources.
    Text {
        /// Of a title. `None`: the app's name alone.
        title_key: Option<String>,
        /// Of a message.
        message_key: String,
        /// Of a mention.
        mention_key: String,
        /// Of a call.
        call_key: String,
    },
}

/// The body of a request.
pub(super) fn body_of(token: &FcmToken, notice: &Notice, shown: &Shown, now_s: u64) -> Bytes {
    // Its characters need no escape but `"` and `\`, of which a token has none; if it had, there would be less room.
    let token_bytes = Value::from(&*token.0).to_string().len();
    let bytes_max = FCM_MESSAGE_BYTES_MAX + token_bytes;
    let build = |preview: Option<&Preview>| {
        let message = json!({
            "token": &*token.0,
            "data": data(notice, preview, shown),
            "android": android(notice, preview, shown, now_s),
        });
        json!({ "message": message }).to_string().into_bytes()
    };
    fit(notice.preview.as_ref(), bytes_max, build).into()
}

/// Its values are texts. A preview is in them where Android does not show it.
fn data(notice: &Notice, preview: Option<&Preview>, shown: &Shown) -> Map<String, Value> {
    let mut data = Map::new();
    let mut put = |key: &str, value: &str| data.insert(key.to_owned(), value.into());
    put("kind", notice.kind.name());
    if let Some(badge) = notice.badge {
        put("badge", &badge.to_string());
    }
    if let Some(chat) = &notice.chat {
        put("chat", &chat.to_text());
    }
    if let (Some(preview), Shown::Nothing) = (preview, shown) {
        put("title", &preview.title);
        put("body", &preview.body);
    }
    data
}

fn android(notice: &Notice, preview: Option<&Preview>, shown: &Shown, now_s: u64) -> Value {
    let is_high = notice.priority == Priority::High && notice.kind.is_shown();
    let mut android = json!({
        "priority": if is_high { "HIGH" } else { "NORMAL" },
        "ttl": format!("{}s", notice.ttl_s(now_s)),
    });
    if let Some(collapse) = &notice.collapse {
        android["collapse_key"] = collapse.digest().into();
    }
    if let Some(notification) = notification(notice, preview, shown) {
        android["notification"] = notification;
    }
    android
}

fn notification(notice: &Notice, preview: Option<&Preview>, shown: &Shown) -> Option<Value> {
    let Shown::Text { title_key, message_key, mention_key, call_key } = shown else { return None };
    let key = match notice.kind {
        Kind::Message => message_key,
        Kind::Mention => mention_key,
        Kind::Call => call_key,
        Kind::Badge | Kind::Cleared => return None,
    };
    let mut notification = match preview {
        Some(preview) => json!({ "title": preview.title, "body": preview.body }),
        None => json!({ "body_loc_key": key }),
    };
    if let (Some(title_key), None) = (title_key, preview) {
        notification["title_loc_key"] = title_key.as_str().into();
    }
    if let Some(badge) = notice.badge {
        notification["notification_count"] = badge.into();
    }
    if let Some(collapse) = &notice.collapse {
        notification["tag"] = collapse.digest().into();
    }
    Some(notification)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::{ChatRef, CollapseKey, NoticeId};

    fn notice(kind: Kind, preview: Option<Preview>) -> Notice {
        Notice {
            id: NoticeId(1),
            kind,
            badge: Some(3),
            collapse: CollapseKey::new("chat").ok(),
            priority: Priority::High,
            expires_s: 160,
            preview,
            chat: ChatRef::new([1, 2, 3]).ok(),
        }
    }

    fn message(notice: &Notice, shown: &Shown) -> Value {
        let token = FcmToken::new("a:b").expect("it is one");
        let body: Value = serde_json::from_slice(&body_of(&token, notice, shown, 100)).expect("it is JSON");
        body["message"].clone()
    }

    #[test]
    fn a_notice_is_data_for_the_app_and_text_only_where_the_operator_wants_it() {
        let digest = CollapseKey::new("chat").expect("it is short").digest();
        let android = json!({ "priority": "HIGH", "ttl": "60s", "collapse_key": digest });
        let data = json!({ "kind": "message", "badge": "3", "chat": "AQID" });
        let expect = json!({ "token": "a:b", "data": data, "android": android });
        assert_eq!(message(&notice(Kind::Message, None), &Shown::Nothing), expect);

        let [message_key, mention_key, call_key] = ["m", "n", "c"].map(str::to_owned);
        let shown = Shown::Text { title_key: Some("t".to_owned()), message_key, mention_key, call_key };
        let expect =
            json!({ "title_loc_key": "t", "body_loc_key": "n", "notification_count": 3, "tag": digest });
        assert_eq!(message(&notice(Kind::Mention, None), &shown)["android"]["notification"], expect);
        let cleared = message(&notice(Kind::Cleared, None), &shown);
        assert_eq!(
            (&cleared["android"]["notification"], &cleared["android"]["priority"]),
            (&Value::Null, &json!("NORMAL"))
        );
    }

    #[test]
    fn a_long_preview_is_shortened_to_what_google_takes() {
        let preview = Preview { title: "Ada".to_owned(), body: "ä".repeat(9000) };
        let body = body_of(
            &FcmToken::new("a:b").expect("it is one"),
            &notice(Kind::Message, Some(preview)),
            &Shown::Nothing,
            0,
        );
        assert!((3990..4010).contains(&body.len()), "{}", body.len());
    }
}
