//! `ternctl push`: how each push service does.

use std::path::Path;

use serde_json::{Value, json};

use crate::socket::{AskError, ask};

/// Prints a line for each service.
pub fn run(socket: &Path, json: bool) -> Result<(), AskError> {
    let push = ask(socket, &json!({ "ask": "push" }))?.next()?;
    if json {
        say!("{push}");
    } else {
        say!("{}", page(&push));
    }
    Ok(())
}

fn page(push: &Value) -> String {
    let services: Vec<_> = push["services"].as_array().into_iter().flatten().collect();
    if services.is_empty() {
        return "no push service is configured: who sleeps is told nothing".to_owned();
    }
    let mut text = format!(
        "{:<8} {:<8} {:>13} {:>7} {:>9} {:>7} {:>6} {:>7} {:>7} {:>7} {:>7}\n",
        "service",
        "state",
        "held",
        "flying",
        "delivered",
        "retried",
        "dead",
        "refused",
        "expired",
        "unsent",
        "letters"
    );
    for service in &services {
        let number = |name: &str| service[name].as_u64().unwrap_or(0);
        let said = |name: &str| service[name].as_str().unwrap_or("?").to_owned();
        text += &format!(
            "{:<8} {:<8} {:>13} {:>7} {:>9} {:>7} {:>6} {:>7} {:>7} {:>7} {:>7}\n",
            said("service"),
            said("state"),
            format!("{}/{}", number("held"), number("held_max")),
            number("in_flight"),
            number("delivered"),
            number("retried"),
            number("dead"),
            number("refused"),
            number("expired"),
            number("unsent"),
            number("dead_letters"),
        );
    }
    for service in &services {
        for (reason, count) in service["reasons"].as_object().into_iter().flatten() {
            let name = service["service"].as_str().unwrap_or("?");
            text += &format!("{name} refused {count}: {reason}\n");
        }
    }
    if let Some(key) = push["web_push_key"].as_str().filter(|key| !key.is_empty()) {
        text += &format!("browsers subscribe to the key {key}\n");
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_how_each_service_does_and_why_it_refuses() {
        let service = json!({
            "service": "apns", "state": "down", "held": 12, "held_max": 65536, "in_flight": 1, "delivered": 7, "retried": 6, "dead": 5,
            "refused": 4, "reasons": { "BadTopic": 4 }, "expired": 3, "unsent": 2, "dead_letters": 9,
        });
        let text = page(&json!({ "services": [service], "web_push_key": "BKey" }));
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[1], ["apns", "down", "12/65536", "1", "7", "6", "5", "4", "3", "2", "9"]);
        assert_eq!(text.lines().nth(2), Some("apns refused 4: BadTopic"));
        assert_eq!(text.lines().nth(3), Some("browsers subscribe to the key BKey"));
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        assert!(page(&json!({ "services": [] })).contains("no push service"));
    }
}
