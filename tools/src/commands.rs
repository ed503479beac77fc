//! What `ternctl` can be told to do.

use std::fs::{OpenOptions, Permissions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::socket::{AskError, ask};

/// Prints a phone's one-time code.
pub fn otp(socket: &Path, phone: &str, json: bool) -> Result<(), AskError> {
    let code = ask(socket, &json!({ "ask": "otp", "phone": phone }))?.next()?;
    if json {
        say!("{code}");
    } else {
        say!("{}", text(&code["code"]));
    }
    Ok(())
}

/// Lets a phone ask for one-time codes again.
pub fn reset_codes(socket: &Path, phone: &str, json: bool) -> Result<(), AskError> {
    let reset = ask(socket, &json!({ "ask": "reset_codes", "phone": phone }))?.next()?;
    if json {
        say!("{reset}");
    } else {
        say!("{} requests are forgotten: the phone may ask for codes again", reset["forgotten"]);
    }
    Ok(())
}

/// Shows a user.
pub fn user(socket: &Path, phone: &str, json: bool) -> Result<(), AskError> {
    let user = ask(socket, &json!({ "ask": "user", "phone": phone }))?.next()?;
    if json {
        say!("{user}");
        return Ok(());
    }
    say!("user {} ({})", user["user_id"], clean(&user["name"]));
    say!("slot {} on core {}", user["slot"], user["core"]);
    for device in user["devices"].as_array().into_iter().flatten() {
        let state = match (device["revoked"] == true, device["connected"] == true) {
            (true, _) => "logged out",
            (false, true) => "connected",
            (false, false) => "away",
        };
        say!("device {} ({}): {state}", device["device_id"], clean(&device["name"]));
    }
    Ok(())
}

/// Deletes a user.
pub fn delete_user(socket: &Path, phone: &str, json: bool) -> Result<(), AskError> {
    let deleted = ask(socket, &json!({ "ask": "delete_user", "phone": phone }))?.next()?;
    say!("{}", if json { deleted.to_string() } else { "deleted".to_owned() });
    Ok(())
}

/// Makes test users, and writes their tokens to a file that only its owner can read.
pub fn provision(
    socket: &Path,
    count: u32,
    first: &str,
    name: &str,
    out: &Path,
    json: bool,
) -> Result<(), AskError> {
    let file_error = |error| AskError::File(out.to_owned(), error);
    let question = json!({ "ask": "provision", "count": count, "first": first, "name": name });
    let mut answers = ask(socket, &question)?;
    let mut user = answers.next()?;
    // The answer is known to be good before a file of before is overwritten.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(out);
    let file = file.map_err(file_error)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(file_error)?;
    let mut file = BufWriter::new(file);
    let mut made = 0u32;
    while user.get("done").is_none() {
        writeln!(file, "{user}").map_err(file_error)?;
        made += 1;
        if made.is_multiple_of(10_000) && !json {
            let _ = writeln!(std::io::stderr(), "{made} of {count}");
        }
        user = answers.next()?;
    }
    file.flush().map_err(file_error)?;
    if json {
        say!("{}", json!({ "made": made, "out": out }));
    } else {
        say!("made {made} users; their tokens are in {}", out.display());
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Users choose names: no control character of theirs reaches a terminal.
fn clean(value: &Value) -> String {
    text(value).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
