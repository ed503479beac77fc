//! What `ternctl` can be told to do.

use std::fs::{OpenOptions, Permissions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

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
pub fn user(socket: &Path, who: &str, json: bool) -> Result<(), AskError> {
    let user = ask(socket, &json!({ "ask": "user", "who": who }))?.next()?;
    if json {
        say!("{user}");
        return Ok(());
    }
    say!(
        "user {} ({}), {}, since {}",
        user["user_id"],
        clean(&user["name"]),
        text(&user["phone"]),
        day(&user["created_ms"])
    );
    say!("slot {} on core {}", user["slot"], user["core"]);
    if let Some(suspended) = user["suspended"].as_object() {
        let until = match suspended["until_ms"].as_u64() {
            Some(0) => "until it is freed".to_owned(),
            _ => format!("until {}", time(&suspended["until_ms"])),
        };
        say!("SUSPENDED since {} {until}: {}", time(&suspended["since_ms"]), clean(&suspended["reason"]));
    }
    if user["ends_ms"].as_u64().unwrap_or(0) > 0 {
        say!("ENDS at {}, as its person has said", time(&user["ends_ms"]));
    }
    for device in user["devices"].as_array().into_iter().flatten() {
        let state = match (device["revoked"] == true, device["connected"] == true) {
            (true, _) => "logged out".to_owned(),
            (false, true) => "connected".to_owned(),
            (false, false) => format!("away, last here on {}", day(&device["seen_ms"])),
        };
        let (name, since) = (clean(&device["name"]), day(&device["created_ms"]));
        say!("device {} ({name}), since {since}: {state}", device["device_id"]);
    }
    Ok(())
}

/// Deletes a user.
pub fn delete_user(socket: &Path, who: &str, json: bool) -> Result<(), AskError> {
    let deleted = ask(socket, &json!({ "ask": "delete_user", "who": who }))?.next()?;
    say!("{}", if json { deleted.to_string() } else { "deleted".to_owned() });
    Ok(())
}

/// Ends a device of a user.
pub fn end_device(socket: &Path, who: &str, device: u32, json: bool) -> Result<(), AskError> {
    let ended = ask(socket, &json!({ "ask": "end_device", "who": who, "device": device }))?.next()?;
    say!("{}", if json { ended.to_string() } else { format!("device {device} has ended") });
    Ok(())
}

/// Suspends a user.
pub fn suspend(
    socket: &Path,
    who: &str,
    (reason, duration): (&str, Option<Duration>),
    json: bool,
) -> Result<(), AskError> {
    let for_ms = duration.map_or(0, |duration| duration.as_millis() as u64);
    let question = json!({ "ask": "suspend", "who": who, "reason": reason, "for_ms": for_ms });
    let suspended = ask(socket, &question)?.next()?;
    say!("{}", if json { suspended.to_string() } else { "suspended".to_owned() });
    Ok(())
}

/// Keeps a user whose account is about to end.
pub fn keep(socket: &Path, who: &str, json: bool) -> Result<(), AskError> {
    let kept = ask(socket, &json!({ "ask": "keep_user", "who": who }))?.next()?;
    say!("{}", if json { kept.to_string() } else { "kept".to_owned() });
    Ok(())
}

/// Lists the accounts that are about to end, and those of which something is left.
pub fn deletions(socket: &Path, json: bool) -> Result<(), AskError> {
    let none = "no account is about to end, and of none that has ended anything is left to be erased";
    list(socket, &json!({ "ask": "deletions" }), json, none, |end| match end["ended_ms"].as_u64() {
        Some(0) | None => format!("user {}: ends at {}", end["user_id"], time(&end["due_ms"])),
        Some(_) => format!(
            "user {}: ended at {}; {} chats and {} rows are erased, and more is to be",
            end["user_id"],
            time(&end["ended_ms"]),
            end["chats"],
            end["rows"]
        ),
    })
}

/// Prints a line for each answer up to the one with `done`; if there is no other, says so in these words.
pub fn list(
    socket: &Path,
    question: &Value,
    json: bool,
    none: &str,
    line: impl Fn(&Value) -> String,
) -> Result<(), AskError> {
    let mut answers = ask(socket, question)?;
    loop {
        let answer = answers.next()?;
        if answer.get("done").is_some() {
            if !json && answer["done"] == 0 {
                say!("{none}");
            }
            return Ok(());
        }
        say!("{}", if json { answer.to_string() } else { line(&answer) });
    }
}

/// Frees a user.
pub fn free(socket: &Path, who: &str, json: bool) -> Result<(), AskError> {
    let freed = ask(socket, &json!({ "ask": "free", "who": who }))?.next()?;
    say!("{}", if json { freed.to_string() } else { "freed".to_owned() });
    Ok(())
}

/// A duration as operators write it: 90s, 30m, 12h, 7d.
pub fn duration(text: &str) -> Result<Duration, String> {
    let why = || format!("{text} is no duration: a number and s, m, h or d, as 7d, from 1s to 3650d");
    let seconds = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(why()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| why())?;
    let all = number.checked_mul(seconds).filter(|all| (1..=3_650 * 86_400).contains(all));
    all.map(Duration::from_secs).ok_or_else(why)
}

/// Forgets what a user has used up of their limits.
pub fn reset_limits(socket: &Path, who: &str, json: bool) -> Result<(), AskError> {
    let reset = ask(socket, &json!({ "ask": "reset_limits", "who": who }))?.next()?;
    say!("{}", if json { reset.to_string() } else { "what the user has used up is forgotten".to_owned() });
    Ok(())
}

/// Prints the configuration in force.
pub fn config(socket: &Path, json: bool) -> Result<(), AskError> {
    let config = ask(socket, &json!({ "ask": "configuration" }))?.next()?;
    match json {
        true => say!("{config}"),
        false => text(&config["toml"]).lines().for_each(|line| say!("{line}")),
    }
    Ok(())
}

/// Has everything read again that can change while ternd runs. What could not be taken is an error.
pub fn reload(socket: &Path, json: bool) -> Result<(), AskError> {
    let reloaded = ask(socket, &json!({ "ask": "reload" }))?.next()?;
    if json {
        say!("{reloaded}");
    } else {
        let lines = |key: &str| reloaded[key].as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        lines("taken").iter().for_each(|taken| say!("read again: {taken}"));
        lines("need_a_start").iter().for_each(|key| say!("needs a start: {key}"));
    }
    let failed = reloaded["failed"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(AskError::Refused(format!("stays as it was: {}", failed.join("; "))))
    }
}

/// Which process answers at a socket, if one does.
fn pid_of(socket: &Path) -> Option<u64> {
    ask(socket, &json!({ "ask": "status" })).ok()?.next().ok()?["pid"].as_u64()
}

/// Begins to drain, and waits for the end if that is wanted.
pub fn drain(socket: &Path, wait: bool, json: bool) -> Result<(), AskError> {
    let pid = pid_of(socket);
    let drained = ask(socket, &json!({ "ask": "drain" }))?.next()?;
    if !json {
        say!("{}", if drained["begun"] == true { "draining" } else { "draining since before" });
    }
    // Another one may have been started meanwhile.
    while wait && pid_of(socket) == pid {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    match (json, wait) {
        (true, _) => say!("{}", json!({ "begun": drained["begun"], "ended": wait })),
        (false, true) => say!("ternd has ended"),
        (false, false) => {}
    }
    Ok(())
}

/// Makes test users, and writes their tokens to a file that only its owner can read.
pub fn provision(
    socket: &Path,
    count: u32,
    first: &str,
    name: &str,
    (out, overwrite): (&Path, bool),
    json: bool,
) -> Result<(), AskError> {
    let file_error = |error| AskError::File(out.to_owned(), error);
    if !overwrite && out.exists() {
        let out = out.display();
        let why =
            format!("{out} is there already, and may hold the tokens of others: --overwrite writes over it");
        return Err(AskError::Refused(why));
    }
    let question = json!({ "ask": "provision", "count": count, "first": first, "name": name });
    let mut answers = ask(socket, &question)?;
    let mut user = answers.next()?;
    // The answer is known to be good before a file of before is overwritten.
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    let file = match overwrite {
        true => options.create(true).truncate(true).open(out),
        false => options.create_new(true).open(out),
    };
    let file = file.map_err(file_error)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(file_error)?;
    let mut file = BufWriter::new(file);
    let (mut made, mut added) = (0u32, 0u32);
    while user.get("done").is_none() {
        writeln!(file, "{user}").map_err(file_error)?;
        made += 1;
        added += u32::from(user["device_id"] != 1);
        if made.is_multiple_of(10_000) && !json {
            let _ = writeln!(std::io::stderr(), "{made} of {count}");
        }
        user = answers.next()?;
    }
    file.flush().map_err(file_error)?;
    if json {
        say!("{}", json!({ "made": made, "of_them_devices_of_users_that_were_there": added, "out": out }));
    } else {
        let out = out.display();
        say!("made {} users; tokens are in {out}", made - added);
        if added > 0 {
            say!(
                "{added} phones had an account already: each has one device more, and its token is there too"
            );
        }
    }
    Ok(())
}

/// The day of a time in ms since the Unix epoch, UTC.
pub fn day(ms: &Value) -> String {
    let time = ms.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or("?".to_owned(), |time| time.to_zoned(jiff::tz::TimeZone::UTC).date().to_string())
}

/// A time in ms since the Unix epoch, UTC, to the second.
pub fn time(ms: &Value) -> String {
    let time = ms.as_i64().and_then(|ms| jiff::Timestamp::from_second(ms / 1000).ok());
    time.map_or("?".to_owned(), |time| time.to_string())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Users choose names: no control character of theirs reaches a terminal.
pub fn clean(value: &Value) -> String {
    text(value).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
