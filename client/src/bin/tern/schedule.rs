//! Messages that the server sends later: as commands and as methods.

use std::process::ExitCode;

use clap::Subcommand;
use jiff::civil::{DateTime, Time};
use jiff::{Timestamp, Zoned};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tern_client::{NewMessage, Scheduled};

use crate::commands::{self, ask, print_lines};
use crate::methods::{Failure, Session, parse};
use crate::profile::ProfileArgs;
use crate::shown::{self, TEXT_BYTES_MAX};
use crate::talk;
use crate::who::Who;

/// What one has the server send later.
#[derive(Subcommand)]
pub enum Later {
    /// Have the server send a message later, wherever this device is then
    Schedule {
        /// To whom
        who: Who,
        /// When: in 30s, 5m, 2h, 7d; at 18:00 (the next time that it is), at "2026-12-24 18:00"
        #[arg(value_parser = when_ms)]
        when: u64,
        /// What; `-`, or nothing where something is piped in: what stands on standard input
        text: Option<String>,
        /// In place of the one that is scheduled under this number
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        instead: u64,
    },
    /// Print the messages that are scheduled, the next one first, as far as this profile has heard
    Scheduled,
    /// Take back a message that is scheduled
    Unschedule {
        /// Its number, as `tern scheduled` shows it
        #[arg(value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
        seq: u64,
    },
}

/// When somebody means, in ms since the Unix epoch.
fn when_ms(written: &str) -> Result<u64, String> {
    const WRONG: &str = "in 30s, 5m, 2h or 7d, at 18:00, or at \"2026-12-24 18:00\"";
    let written = ["in ", "at "].iter().find_map(|word| written.strip_prefix(word)).unwrap_or(written).trim();
    if let Ok(in_ms @ 1..) = talk::span_ms(written) {
        return Ok(crate::private::now_ms() + in_ms);
    }
    let at = moment(written, &Zoned::now()).ok_or(WRONG)?;
    at.as_millisecond().try_into().map_err(|_| WRONG.to_owned())
}

/// A day and a time, or a time: the next one from now on. By this computer's clock, where no zone is said.
fn moment(written: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(at) = written.parse::<Timestamp>() {
        return Some(at);
    }
    let of = |day_and_time: DateTime| day_and_time.to_zoned(now.time_zone().clone()).ok();
    // A day with a time has one, too.
    let is_time = !written.contains('-');
    if let Some(time) = written.parse::<Time>().ok().filter(|_| is_time) {
        let today = of(now.date().to_datetime(time))?;
        let next = if today > *now { today } else { of(now.date().tomorrow().ok()?.to_datetime(time))? };
        return Some(next.timestamp());
    }
    Some(of(written.parse().ok()?)?.timestamp())
}

/// Does one of these.
pub async fn run(profile: &ProfileArgs, later: Later, json: bool) -> commands::Done {
    let (method, params) = match later {
        Later::Schedule { who, when, text, instead } => {
            let mut params = who.params();
            params.insert("text".into(), commands::text_to_send(text)?.into());
            params.insert("at_ms".into(), when.into());
            params.insert("instead".into(), instead.into());
            ("schedule", params)
        }
        Later::Scheduled => ("scheduled", Map::new()),
        Later::Unschedule { seq } => ("unschedule", Map::from_iter([("seq".to_owned(), seq.into())])),
    };
    let answer = ask(profile, method, params.into()).await?;
    print_lines(&answer, json, lines);
    Ok(ExitCode::SUCCESS)
}

fn lines(answer: &Value) -> Vec<String> {
    let Some(scheduled) = answer["scheduled"].as_array() else {
        return vec![format!("seq {}", answer["seq"])];
    };
    if scheduled.is_empty() {
        return vec!["nothing is scheduled".to_owned()];
    }
    let line = |one: &Value| {
        let when = one["at_ms"].as_u64().unwrap_or_default();
        let chat = one["chat"].as_u64().unwrap_or_default();
        let text = shown::lines_of(&shown::message_of(chat, one));
        format!("{:>4}  {}  @{chat}  {text}", one["seq"].to_string(), shown::time_of(when))
    };
    scheduled.iter().map(line).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Schedule {
    chat: Option<u64>,
    phone: Option<String>,
    text: String,
    at_ms: u64,
    #[serde(default)]
    instead: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unschedule {
    seq: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// A scheduled message, for programs: what it says as messages have it.
pub fn json(seq: u64, at_ms: u64, message: &NewMessage) -> Value {
    let NewMessage { chat, kind, body, envelope, .. } = message.clone();
    let message = tern_client::Message { chat, kind, body, envelope, own: true, ..Default::default() };
    let mut object = shown::message_json(&message);
    ["sender", "own", "time_ms"].iter().for_each(|key| drop(object.remove(*key)));
    object.insert("seq".into(), seq.into());
    object.insert("chat".into(), chat.into());
    object.insert("at_ms".into(), at_ms.into());
    object.into()
}

impl Session {
    /// Methods about what is sent later.
    pub async fn later(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let sent = match method {
            "schedule" => {
                let Schedule { chat, phone, text, at_ms, instead } = parse(params)?;
                if text.is_empty() || text.len() > TEXT_BYTES_MAX {
                    let why = format!("a message has 1 to {TEXT_BYTES_MAX} bytes");
                    return Err(Failure::Params(why));
                }
                let message = NewMessage::text(self.number(chat, phone).await?, text);
                self.client.schedule(at_ms, message, instead).await
            }
            "unschedule" => {
                let Unschedule { seq } = parse(params)?;
                self.client.unschedule(seq).await
            }
            "scheduled" => {
                let Nothing {} = parse(params)?;
                let scheduled = self.client.scheduled().await?;
                let one = |one: &Scheduled| json(one.seq, one.at_ms, &one.message);
                return Ok(json!({ "scheduled": scheduled.iter().map(one).collect::<Vec<_>>() }));
            }
            _ => return Err(Failure::Method),
        };
        let sent = self.why(sent).await?;
        Ok(json!({ "seq": sent.seq, "time_ms": sent.time_ms }))
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn check(written: &str, expect: Option<&str>) {
        let now: Zoned = "2026-11-27T17:30[Europe/Berlin]".parse().expect("a moment");
        let at = moment(written, &now).map(|at| at.to_zoned(TimeZone::UTC).datetime().to_string());
        assert_eq!(at.as_deref(), expect, "{written}");
    }

    #[test]
    fn in_and_at_may_be_said() {
        let (before, in_ms) = (crate::private::now_ms(), 7_200_000);
        let at = when_ms("in 2h").expect("good");
        assert!((before + in_ms..=crate::private::now_ms() + in_ms).contains(&at));
        assert_eq!(when_ms("at 2030-12-24 18:00"), when_ms("2030-12-24 18:00"));
        assert!(when_ms("in").is_err() && when_ms("at noon").is_err());
    }

    #[test]
    fn a_time_is_the_next_one_and_a_day_is_this_computers() {
        check("18:00", Some("2026-11-27T17:00:00"));
        check("17:30", Some("2026-11-28T16:30:00"));
        check("2026-12-24 18:00", Some("2026-12-24T17:00:00"));
        check("2026-12-24T18:00:00Z", Some("2026-12-24T18:00:00"));
        for wrong in ["", "later", "25:00", "2026-13-01 10:00", "24.12."] {
            check(wrong, None);
        }
    }
}
