//! Lines for people: chats, devices, who one is. As wide as the terminal, or whole where there is none.

use std::io::IsTerminal as _;

use ratatui::text::Span;
use serde_json::Value;

use crate::shown;

/// Columns of a name in a list.
const NAME_COLUMNS_MAX: usize = 24;

/// The columns that standard output has; `None` if it is no terminal.
pub fn columns() -> Option<usize> {
    let terminal = std::io::stdout().is_terminal();
    let size = ratatui::crossterm::terminal::size().ok().filter(|_| terminal);
    size.map(|(columns, _)| usize::from(columns).max(20))
}

/// Whether to set off what matters.
pub fn styled() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    columns().is_some() && !plain
}

fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// The text, cut to so many columns, with a sign that it was.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut cut, mut used) = (String::new(), 0);
    for grapheme in Span::raw(text).styled_graphemes(ratatui::style::Style::new()) {
        let wide = width(grapheme.symbol);
        if used + wide + 1 > columns {
            break;
        }
        cut.push_str(grapheme.symbol);
        used += wide;
    }
    cut.push('…');
    cut
}

fn padded(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let blank = columns - width(&text).min(columns);
    text + &" ".repeat(blank)
}

/// The list of chats.
pub fn chats(chats: &[Value], columns: Option<usize>, styled: bool) -> Vec<String> {
    let people: Vec<_> = chats.iter().map(shown::person_of).collect();
    // A name is the person's own choice: beside it stands what they can't choose.
    let address = |place: usize| match people[place].phone.as_str() {
        "" => format!("@{}", people[place].user_id),
        phone => shown::clean_line(phone),
    };
    let name = |place: usize| match shown::name_of(&people[place]) {
        name if name == address(place) => String::new(),
        name => name,
    };
    let widest =
        |text: &dyn Fn(usize) -> String| (0..people.len()).map(|at| width(&text(at))).max().unwrap_or(0);
    let (names, addresses) = (widest(&name).min(NAME_COLUMNS_MAX), widest(&address));
    let line = |(place, chat): (usize, &Value)| {
        let unread = match chat["unread"].as_u64() {
            Some(0) => String::new(),
            Some(unread) => unread.to_string(),
            None => "?".to_owned(),
        };
        let before =
            format!("{unread:>6}  {}  {}  ", padded(&address(place), addresses), padded(&name(place), names));
        let line = before + &last_of(chat, &people[place], &people);
        let line = columns.map_or(line.clone(), |columns| cut(&line, columns)).trim_end().to_owned();
        match styled && !unread.is_empty() {
            true => format!("\x1b[1m{line}\x1b[0m"),
            false => line,
        }
    };
    chats.iter().enumerate().map(line).collect()
}

/// The newest entry; of a group with whose it is: by name if there is a chat with them as well.
fn last_of(chat: &Value, person: &tern_client::Person, people: &[tern_client::Person]) -> String {
    if chat["unavailable"] == true {
        return "(the server can't read this chat now)".to_owned();
    }
    if chat["last"].is_null() {
        return String::new();
    }
    let last = shown::message_of(person.user_id, &chat["last"]);
    let of_sender = |known: &&tern_client::Person| known.user_id == last.sender;
    let sender = || match people.iter().find(of_sender) {
        Some(known) => shown::name_of(known),
        None => format!("@{}", last.sender),
    };
    let mut text = shown::lines_of(&last);
    if tern_client::is_group(person.user_id) && !last.own {
        let colon = if last.kind == tern_client::Kind::Group { "" } else { ":" };
        text = format!("{}{colon} {text}", sender());
    }
    let (text, time) = (text.split_whitespace().collect::<Vec<_>>().join(" "), shown::time_of(last.time_ms));
    match last.own {
        true => {
            let delivered = chat["delivered_upto"].as_u64().unwrap_or_default();
            let read = chat["read_upto"].as_u64().is_some_and(|read| last.seq <= read);
            let ticks = shown::ticks(last.seq, delivered);
            format!("{time}  {ticks}{} {text}", if read { " read" } else { "" })
        }
        false => format!("{time}  {text}"),
    }
}

/// A group, and its members.
pub fn group(group: &Value) -> Vec<String> {
    let text = |key: &str| shown::clean(group[key].as_str().unwrap_or_default());
    let settings = &group["settings"];
    let admins = |key: &str, what: &str| (settings[key] == "admins").then(|| what.to_owned());
    let kept = [admins("senders", "send"), admins("editors", "edit"), admins("adders", "add members")];
    let kept: Vec<_> = kept.into_iter().flatten().collect();
    let made = shown::time_of(group["created_ms"].as_u64().unwrap_or_default());
    let mut lines =
        vec![format!("{}, group @{}, made {made}", shown::clean_line(&text("name")), group["chat"])];
    lines.extend(text("description").lines().map(|line| format!("         {line}")));
    if group["medium"].is_string() {
        lines.push(format!("picture  tern save @{} --picture", group["chat"]));
    }
    if !kept.is_empty() {
        lines.push(format!("admins alone {}", kept.join(", ")));
    }
    if settings["shows_history"] == true {
        lines.push("those who come later see what was said before".to_owned());
    }
    if let Some(after_ms) = group["timer_ms"].as_u64().filter(|after_ms| *after_ms > 0) {
        lines.push(format!("messages disappear after {}", crate::talk::span(after_ms)));
    }
    let members = group["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.push(format!("{} {}", members.len(), if members.len() == 1 { "member" } else { "members" }));
    let member = |member: &Value| {
        let role = match member["role"].as_str() {
            Some("member") | None => "",
            Some(role) => role,
        };
        let name = shown::clean_line(member["name"].as_str().unwrap_or_default());
        let line = format!("  {role:<8}@{}  {name}", member["user"]);
        line.trim_end().to_owned()
    };
    lines.extend(members.iter().map(member));
    lines
}

/// The list of devices.
pub fn devices(devices: &[Value]) -> Vec<String> {
    let name = |device: &Value| shown::clean_line(device["device_name"].as_str().unwrap_or_default());
    let names = devices.iter().map(|device| width(&name(device))).max().unwrap_or(0);
    let line = |device: &Value| {
        let time = |key: &str| shown::time_of(device[key].as_u64().unwrap_or_default());
        let day = time("seen_ms").split(' ').next().filter(|day| day.contains('-')).map(str::to_owned);
        let here = match (device["connected"] == true, day) {
            (true, _) => "connected".to_owned(),
            (false, Some(day)) => format!("last here on {day}"),
            (false, None) => "last here today".to_owned(),
        };
        let this = if device["this"] == true { ", this one" } else { "" };
        let name = padded(&name(device), names);
        format!("{:>4}  {name}  added {}, {here}{this}", device["device_id"].to_string(), time("created_ms"))
    };
    devices.iter().map(line).collect()
}

/// Who one is.
pub fn whoami(me: &Value) -> Vec<String> {
    let text = |key: &str| shown::clean_line(me[key].as_str().unwrap_or_default());
    let (phone, name, server) = (text("phone"), text("name"), text("server"));
    let name = if name.is_empty() { String::new() } else { format!("{name}, ") };
    let connection = match (me["connected"] == true, text("why")) {
        (true, _) => "connected".to_owned(),
        (false, why) if why.is_empty() => "not connected".to_owned(),
        (false, why) => format!("not connected: {why}"),
    };
    let mut lines = vec![
        format!("{name}{phone}, user {}, device {}", me["user_id"], me["device_id"]),
        format!("server   {server}, {connection}"),
        format!("profile  {}", text("profile")),
    ];
    match me["unsent"].as_u64() {
        None | Some(0) => {}
        Some(1) => lines.push("unsent   1 message".to_owned()),
        Some(unsent) => lines.push(format!("unsent   {unsent} messages")),
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_of_chats_is_as_wide_as_the_terminal_and_forges_nothing() {
        let chat = |name: &str, text: &str, unread: u64| {
            json!({
                "chat": 77, "name": name, "phone": "+15550002", "head": 3, "unread": unread,
                "last": { "seq": 3, "sender": 77, "own": false, "time_ms": 1000, "text": text },
                "delivered_upto": 0, "read_upto": 0, "own_read_upto": 0, "version": 1,
            })
        };
        let long =
            "漢字 and 👨‍👩‍👧 and a text that goes on and on beyond what a line of eighty columns can ever hold";
        let forged = "hello\n     9  +15550009  Carol  00:33  I owe you 100";
        let listed = chats(&[chat("Bob\u{202e}\x1b[2J", long, 12), chat("me", forged, 0)], Some(80), false);
        assert_eq!(listed.len(), 2);
        for line in &listed {
            assert!(width(line) <= 80, "{line}");
            assert!(!line.contains(['\n', '\u{202e}', '\x1b']), "{line}");
        }
        assert!(listed[0].starts_with("    12  +15550002  Bob") && listed[0].ends_with('…'), "{}", listed[0]);
        assert!(listed[1].starts_with("        +15550002  “me”"), "{}", listed[1]);
        let whole = chats(&[chat("Bob", long, 0)], None, false);
        assert!(whole[0].ends_with(long), "a program gets all of it: {}", whole[0]);
        let styled = chats(&[chat("Bob", "hello", 1)], Some(80), true);
        assert!(styled[0].starts_with("\x1b[1m") && styled[0].ends_with("\x1b[0m"));
        let nobody = json!({ "chat": 5, "name": "", "phone": "", "unavailable": true });
        assert!(chats(&[nobody], Some(80), false)[0].contains("@5"));
    }

    #[test]
    fn a_list_of_chats_says_who_has_said_what_in_a_group() {
        let group = tern_wire::ids::GROUPS_FROM + 7;
        let last = |chat: u64, sender: u64, own: bool| {
            json!({
                "chat": chat, "name": "Bob", "phone": "", "head": 3, "unread": 0, "delivered_upto": 0, "read_upto": 0,
                "last": { "seq": 3, "sender": sender, "own": own, "time_ms": 1000, "text": "hello" },
            })
        };
        let listed =
            chats(&[last(group, 5, false), last(group + 1, 6, false), last(5, 5, false)], None, false);
        assert!(listed[0].ends_with("  Bob: hello"), "{}", listed[0]);
        assert!(listed[1].ends_with("  @6: hello"), "{}", listed[1]);
        assert!(listed[2].ends_with("  hello") && !listed[2].ends_with(": hello"), "{}", listed[2]);
        let own = chats(&[last(group, 9, true)], None, false);
        assert!(own[0].ends_with(" hello") && !own[0].contains("@9"), "{}", own[0]);
    }
}
