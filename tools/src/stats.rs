//! `ternctl stats`: how many were here, registered, came back and wrote, day by day.

use std::path::Path;

use serde_json::{Value, json};

use crate::commands::day as date;
use crate::socket::{AskError, ask};

/// Prints so many days, the newest first, and how many of those who registered came back.
pub fn run(socket: &Path, days: u32, json: bool) -> Result<(), AskError> {
    let stats = ask(socket, &json!({ "ask": "stats", "days": days }))?.next()?;
    if json {
        say!("{stats}");
    } else {
        say!("{}", page(&stats));
    }
    Ok(())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn page(stats: &Value) -> String {
    let total = &stats["total"];
    let mut text = format!(
        "{} accounts; {} registered, {} deleted\n{} messages in direct chats, {} in {} groups\n\n",
        number(&stats["accounts"]),
        number(&total["registered"]),
        number(&total["deleted"]),
        number(&total["direct"]),
        number(&total["group"]),
        number(&total["groups"]),
    );
    text += &format!(
        "{:<10} {:>8} {:>8} {:>8} {:>8} {:>7} {:>9} {:>9} {:>6}\n",
        "day, UTC", "active", "30 days", "register", "delete", "devices", "direct", "group", "groups"
    );
    let days = || stats["days"].as_array().into_iter().flatten();
    for day in days() {
        let count = |name: &str| number(&day[name]);
        text += &format!(
            "{:<10} {:>8} {:>8} {:>8} {:>8} {:>7} {:>9} {:>9} {:>6}\n",
            date(&day["day_ms"]),
            count("active"),
            count("active_30"),
            count("registered"),
            count("deleted"),
            count("devices"),
            count("direct"),
            count("group"),
            count("groups"),
        );
    }
    text += &format!(
        "\n{:<10} {:>8} {:>16} {:>16} {:>16}\n",
        "registered", "accounts", "here on day 1", "day 7", "day 30"
    );
    for day in days().filter(|day| number(&day["registered"]) > 0) {
        let registered = number(&day["registered"]);
        let [one, seven, thirty] =
            ["returned_1", "returned_7", "returned_30"].map(|name| share(&day[name], registered));
        text += &format!("{:<10} {registered:>8} {one:>16} {seven:>16} {thirty:>16}\n", date(&day["day_ms"]));
    }
    text.truncate(text.trim_end().len());
    text
}

/// How many of so many; a dash for a day that has not come.
fn share(returned: &Value, registered: u64) -> String {
    returned.as_u64().map_or("-".to_owned(), |returned| {
        format!("{returned} ({:.0} %)", 100.0 * returned as f64 / registered as f64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_who_came_back_in_numbers_and_percent_and_what_has_not_come() {
        let day = json!({
            "day_ms": 1_800_000_000_000u64, "active": 5, "active_30": 9, "registered": 8, "deleted": 1, "devices": 6, "direct": 70,
            "group": 3, "groups": 2, "returned_1": 6, "returned_7": 0, "returned_30": null,
        });
        let total = json!({ "registered": 20, "deleted": 3, "direct": 100, "group": 50, "groups": 4 });
        let text = page(&json!({ "accounts": 17, "total": total, "days": [day] }));
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(text.lines().next(), Some("17 accounts; 20 registered, 3 deleted"));
        assert_eq!(lines[4], ["2027-01-15", "5", "9", "8", "1", "6", "70", "3", "2"]);
        assert_eq!(
            lines.last().expect("a line"),
            &["2027-01-15", "8", "6", "(75", "%)", "0", "(0", "%)", "-"]
        );
        assert!(text.lines().all(|line| line.len() <= 82), "{text}");
    }
}
