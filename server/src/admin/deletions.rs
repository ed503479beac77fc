//! What operators ask of accounts that are to end: which there are, how far what is done for those that have ended is, and that one stays.

use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tern_shard::admin::{AdminRequest, AdminResponse};
use tern_storage::records::EndRecord;
use tern_wire::ids::UserId;

use super::Admin;

/// A line for each of them, then one with `done`.
pub(super) fn list(admin: &Admin, connection: &UnixStream) -> std::io::Result<()> {
    let of = |answer| match answer {
        AdminResponse::Ends { ends, next } => Some((ends, next)),
        _ => None,
    };
    admin.list(connection, AdminRequest::Ends, of, line_json)
}

fn line_json((user, row): &(UserId, EndRecord)) -> Value {
    json!({
        "user_id": user.get(), "due_ms": row.due_ms, "ended_ms": row.ended_ms,
        "chats": row.chats, "rows": row.rows,
    })
}

/// An account that is to end does not.
pub(super) fn keep(admin: &Admin, who: &str, operator: &str) -> Value {
    admin.of_user(who, |user| {
        let answer = admin.ask_user(user, AdminRequest::Keep(user.user));
        admin.note(operator, "keep a user", &json!({ "user": user.user.get() }), &answer);
        answer
    })
}
