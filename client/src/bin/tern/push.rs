//! Where this device is told while it sleeps: as methods, and as a command.

use std::process::ExitCode;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::{Value, json};
use tern_client::{PushAddress, PushPlaces, PushService, PushSettings, QuietHours};

use crate::commands::{self, Done, ask, not_possible, print_lines};
use crate::methods::{Failure, Session, parse};
use crate::profile::ProfileArgs;

/// By what a device is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Apple's: a token in hexadecimal
    Apns,
    /// Google's: a registration token
    Fcm,
    /// A browser's: the endpoint, and the keys p256dh and auth in base64url
    WebPush,
    /// A program of the server's operator: what it knows the device by
    Webhook,
    /// By nothing from now on
    #[serde(skip)]
    Off,
}

/// What `tern push` takes.
#[derive(clap::Args)]
pub struct PushArgs {
    /// By what; without it, print how it is
    #[arg(value_name = "SERVICE")]
    service: Option<Service>,
    /// Where, in the service's own words
    #[arg(value_name = "ADDRESS")]
    address: Vec<String>,
    /// Show what is said; the service sees it then, but for Web Push
    #[arg(long)]
    previews: bool,
    /// Make no sound between these times, every day
    #[arg(long, value_name = "HH:MM-HH:MM", value_parser = hours)]
    quiet: Option<(u32, u32)>,
    /// Where these hours are, as Europe/Berlin [default: as this machine's clock]
    #[arg(long, value_name = "ZONE", requires = "quiet")]
    zone: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    service: Option<Service>,
    address: Option<String>,
    calls_token: Option<String>,
    p256dh: Option<String>,
    auth: Option<String>,
    #[serde(default)]
    previews: bool,
    quiet: Option<Quiet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quiet {
    from_min: u32,
    to_min: u32,
    time_zone: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What a service is called.
fn name_of(service: PushService) -> Option<&'static str> {
    match service {
        PushService::Unknown => None,
        PushService::Apns => Some("apns"),
        PushService::Fcm => Some("fcm"),
        PushService::WebPush => Some("web_push"),
        PushService::Webhook => Some("webhook"),
    }
}

/// Two times of a day, as minutes of it.
fn hours(text: &str) -> Result<(u32, u32), String> {
    let minute = |time: &str| {
        let (hour, minute) = time.split_once(':')?;
        let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let both = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    both.ok_or_else(|| "two times of a day, as 22:00-07:00".to_owned())
}

/// A minute of a day as its time.
fn time(minute: &Value) -> String {
    let minute = minute.as_u64().unwrap_or(0);
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

impl Set {
    fn address(&self) -> Result<Option<PushAddress>, Failure> {
        let none = |what: &str| Failure::Params(format!("{what} is needed"));
        let key = |text: &Option<String>, what: &str| {
            let text = text.as_ref().ok_or_else(|| none(what))?;
            let key = BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
            key.map_err(|_| Failure::Params(format!("{what} is in base64url")))
        };
        let address = || self.address.clone().ok_or_else(|| none("address"));
        Ok(match self.service {
            None | Some(Service::Off) => None,
            Some(Service::Apns) => Some(PushAddress::Apns {
                token: address()?,
                calls_token: self.calls_token.clone().unwrap_or_default(),
            }),
            Some(Service::Fcm) => Some(PushAddress::Fcm { token: address()? }),
            Some(Service::WebPush) => Some(PushAddress::WebPush {
                endpoint: address()?,
                p256dh: key(&self.p256dh, "p256dh")?,
                auth: key(&self.auth, "auth")?,
            }),
            Some(Service::Webhook) => Some(PushAddress::Webhook { address: address()? }),
        })
    }

    fn settings(&self) -> PushSettings {
        let quiet = self.quiet.as_ref().map(|quiet| QuietHours {
            from_min: quiet.from_min,
            to_min: quiet.to_min,
            time_zone: quiet.time_zone.clone(),
        });
        PushSettings { previews: self.previews, quiet }
    }
}

impl Session {
    /// Methods about where this device is told.
    pub async fn push(&self, method: &str, params: Value) -> Result<Value, Failure> {
        if method == "set_push" {
            let set: Set = parse(params)?;
            let address = set.address()?;
            let service = address.as_ref().and_then(|address| name_of(address.service()));
            self.why(self.client.set_push(address, set.settings()).await).await?;
            return Ok(json!({ "service": service }));
        }
        let Nothing {} = parse(params)?;
        let PushPlaces { services, web_push_key, service, since_ms, settings } =
            self.why(self.client.about_push().await).await?;
        let quiet = settings.quiet.map(|quiet| {
            json!({ "from_min": quiet.from_min, "to_min": quiet.to_min, "time_zone": quiet.time_zone })
        });
        Ok(json!({
            "services": services.into_iter().filter_map(name_of).collect::<Vec<_>>(),
            "web_push_key": BASE64_URL_SAFE_NO_PAD.encode(web_push_key),
            "service": service.and_then(name_of),
            "since_ms": since_ms,
            "previews": settings.previews,
            "quiet": quiet,
        }))
    }
}

/// Says where this device is told, or shows it.
pub async fn run(profile: &ProfileArgs, args: PushArgs, json: bool) -> Done {
    if args.service.is_some() {
        ask(profile, "set_push", params_of(&args)?).await?;
    }
    let about = ask(profile, "about_push", json!({})).await?;
    print_lines(&about, json, lines);
    Ok(ExitCode::SUCCESS)
}

fn params_of(args: &PushArgs) -> Result<Value, Failure> {
    let (name, names): (_, &[&str]) = match args.service {
        None | Some(Service::Off) => return Ok(json!({})),
        Some(Service::Apns) => ("apns", &["address"]),
        Some(Service::Fcm) => ("fcm", &["address"]),
        Some(Service::WebPush) => ("web_push", &["address", "p256dh", "auth"]),
        Some(Service::Webhook) => ("webhook", &["address"]),
    };
    if args.address.len() != names.len() {
        return Err(not_possible(format!("{name} takes {}", names.join(", "))));
    }
    let mut params = json!({ "service": name, "previews": args.previews });
    for (name, value) in names.iter().zip(&args.address) {
        params[*name] = value.as_str().into();
    }
    if let Some((from_min, to_min)) = args.quiet {
        let own = || jiff::tz::TimeZone::system().iana_name().map(str::to_owned);
        let zone = args.zone.clone().or_else(own);
        let time_zone = zone.ok_or_else(|| not_possible("which time zone? Say it by --zone"))?;
        params["quiet"] = json!({ "from_min": from_min, "to_min": to_min, "time_zone": time_zone });
    }
    Ok(params)
}

fn lines(about: &Value) -> Vec<String> {
    let Some(service) = about["service"].as_str() else {
        let services: Vec<_> = commands::items(about, "services").iter().filter_map(Value::as_str).collect();
        let could = match services.is_empty() {
            true => "the server tells no device that sleeps".to_owned(),
            false => format!("it could be by {}", services.join(", ")),
        };
        return vec![format!("this device is told nothing while it sleeps; {could}")];
    };
    let previews = if about["previews"] == true { "with what is said" } else { "without what is said" };
    let mut lines = vec![format!("while it sleeps this device is told by {service}, {previews}")];
    if let Some(zone) = about["quiet"]["time_zone"].as_str() {
        let (from, to) = (time(&about["quiet"]["from_min"]), time(&about["quiet"]["to_min"]));
        lines.push(format!("without a sound from {from} to {to} ({zone})"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_two_times_of_a_day_and_nothing_else() {
        assert_eq!(hours("22:00-07:30"), Ok((22 * 60, 7 * 60 + 30)));
        for wrong in ["", "22-7", "24:00-07:00", "22:00", "22:60-7:00", "-1:00-7:00", "22:00-07:00-08:00"] {
            assert!(hours(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_printed_says_by_what_and_when_there_is_no_sound() {
        let quiet = json!({ "from_min": 1320, "to_min": 420, "time_zone": "Europe/Berlin" });
        let about =
            json!({ "services": ["webhook"], "service": "webhook", "previews": true, "quiet": quiet });
        assert_eq!(lines(&about)[1], "without a sound from 22:00 to 07:00 (Europe/Berlin)");
        assert!(lines(&json!({ "services": ["fcm"], "service": null }))[0].contains("by fcm"));
    }
}
