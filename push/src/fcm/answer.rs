//! What FCM says (Google, "ErrorCode" and "FCM error codes"), and what is done about it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::service::{Answer, Reason, Trouble};

/// What an answer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// This.
    Answer(Answer),
    /// This access token is none: it is tried once more with a new one.
    Unauthenticated(Arc<str>),
}

/// The body of a refusal (google.rpc.Status, as JSON has it).
#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    error: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    status: String,
    details: Vec<Detail>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Detail {
    /// Of `google.firebase.fcm.v1.FcmError`.
    error_code: String,
    /// Of `google.rpc.BadRequest`.
    field_violations: Vec<Violation>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Violation {
    field: String,
}

/// What a status and a body say. `None`: the access token is none.
pub(super) fn read(status: u16, body: &[u8], after: Option<Duration>) -> Option<Answer> {
    let error = serde_json::from_slice::<Body>(body).unwrap_or_default().error;
    let code = error.details.iter().map(|detail| &*detail.error_code).find(|code| !code.is_empty());
    let code = code.unwrap_or(&error.status);
    let later = |trouble| Answer::Later { trouble, after };
    Some(match (status, code) {
        (200, _) => Answer::Delivered,
        (_, "UNREGISTERED" | "SENDER_ID_MISMATCH") => Answer::Dead,
        (400, "INVALID_ARGUMENT") if is_about_token(&error) => Answer::Dead,
        // Google's own trouble with Apple or a browser's service, by a key that the operator has given it.
        (401, "THIRD_PARTY_AUTH_ERROR") => Answer::Refused(Reason::coded(code, "")),
        (401, _) => return None,
        (429, _) => later(Trouble::Busy),
        (500.., _) => later(Trouble::Down),
        _ => Answer::Refused(Reason::coded(code, "a refusal without a reason")),
    })
}

/// A bad argument says that a token is none only where the token is the argument ("Best practices for FCM registration token management").
fn is_about_token(error: &Status) -> bool {
    let mut violations = error.details.iter().flat_map(|detail| &detail.field_violations);
    violations.any(|violation| violation.field == "message.token")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AFTER: Option<Duration> = Some(Duration::from_secs(7));

    fn check(status: u16, general: &str, code: Option<&str>, field: Option<&str>, expect: Option<Answer>) {
        let mut details = Vec::new();
        if let Some(field) = field {
            let violations = json!([{ "field": field, "description": "bad" }]);
            details.push(json!({ "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations }));
        }
        if let Some(code) = code {
            let of = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
            details.push(json!({ "@type": of, "errorCode": code }));
        }
        let body =
            json!({ "error": { "code": status, "status": general, "message": "m", "details": details } });
        assert_eq!(read(status, body.to_string().as_bytes(), AFTER), expect, "{body}");
    }

    #[test]
    fn each_answer_of_fcm_means_one_thing() {
        let later = |trouble| Some(Answer::Later { trouble, after: AFTER });
        let refused = |reason| Some(Answer::Refused(Reason::of(reason)));
        assert_eq!(read(200, b"{\"name\":\"projects/p/messages/1\"}", None), Some(Answer::Delivered));
        check(404, "NOT_FOUND", Some("UNREGISTERED"), None, Some(Answer::Dead));
        check(403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH"), None, Some(Answer::Dead));
        check(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), Some("message.token"), Some(Answer::Dead));
        let data = Some("message.data[0].value");
        check(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), data, refused("INVALID_ARGUMENT"));
        check(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), None, refused("INVALID_ARGUMENT"));
        check(404, "NOT_FOUND", None, None, refused("NOT_FOUND"));
        check(403, "PERMISSION_DENIED", None, None, refused("PERMISSION_DENIED"));
        check(401, "UNAUTHENTICATED", None, None, None);
        check(
            401,
            "UNAUTHENTICATED",
            Some("THIRD_PARTY_AUTH_ERROR"),
            None,
            refused("THIRD_PARTY_AUTH_ERROR"),
        );
        check(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"), None, later(Trouble::Busy));
        check(503, "UNAVAILABLE", Some("UNAVAILABLE"), None, later(Trouble::Down));
        check(500, "INTERNAL", Some("INTERNAL"), None, later(Trouble::Down));
        assert_eq!(read(502, b"<html>", None), Some(Answer::DOWN));
        assert_eq!(read(400, b"<html>", None), refused("a refusal without a reason"));
    }
}
