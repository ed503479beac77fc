//! What operators ask of accounts that are to end: which there are, how far what is done for those that have ended is, and that one stays.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tern_shard::admin::{AdminRequest, AdminResponse};
use tern_shard::slots::CoreId;

use super::{Admin, refused};

/// Any core reads what is durable.
const ANY: CoreId = CoreId(0);

/// A line for each of them, then one with `done`.
pub(super) fn list(admin: &Admin, mut connection: &UnixStream) -> std::io::Result<()> {
    let (mut after, mut count) = (None, 0);
    loop {
        let (ends, next) = match admin.control.ask(ANY, AdminRequest::Ends(after)) {
            Ok(AdminResponse::Ends { ends, next }) => (ends, next),
            Ok(AdminResponse::Refused(why)) => return writeln!(connection, "{}", refused(why)),
            Ok(_) => return writeln!(connection, "{}", refused("the core answered something else")),
            Err(error) => return writeln!(connection, "{}", refused(error)),
        };
        for (user, row) in &ends {
            count += 1;
            let line = json!({
                "user_id": user.get(), "due_ms": row.due_ms, "ended_ms": row.ended_ms,
                "chats": row.chats, "rows": row.rows,
            });
            writeln!(connection, "{}", json!({ "ok": line }))?;
        }
        if next.is_none() {
            return writeln!(connection, "{}", json!({ "ok": { "done": count } }));
        }
        after = next;
    }
}

/// An account that is to end does not.
pub(super) fn keep(admin: &Admin, who: &str, operator: &str) -> Value {
    admin.of_user(who, |user| {
        let answer = admin.ask_user(user, AdminRequest::Keep(user.user));
        admin.note(operator, "keep a user", &json!({ "user": user.user.get() }), &answer);
        answer
    })
}
