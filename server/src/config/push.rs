//! `[push]` of the configuration, and its flags: which push services there are, as whom they are spoken to, and within which bounds. Keys are
//! named by their files, so that none is in the configuration.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use tern_push::webpush::KNOWN_HOSTS;

use super::{ConfigError, contradiction, over, over_some, url_is_one};

/// See [`Config::push`](super::Config::push).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushConfig {
    /// Threads that speak to the services.
    pub threads: u16,
    /// Requests in flight to a service.
    pub in_flight_max: u32,
    /// Notices held for a service.
    pub held_max: u32,
    /// How often a notice is tried.
    pub tries_max: u32,
    /// The longest wait behind the first try, in ms; it doubles with each.
    pub retry_ms: u64,
    /// Failures of a service in a row from which on its notices wait.
    pub failures_max: u32,
    /// How long an answer may take, in ms.
    pub timeout_ms: u64,
    /// Whom the services' certificates are to come from (PEM); absent for those whom the machine trusts.
    pub roots: Option<PathBuf>,
    /// Apple's.
    pub apns: ApnsConfig,
    /// Google's.
    pub fcm: FcmConfig,
    /// Browsers'.
    pub web_push: WebPushConfig,
    /// The operator's own program.
    pub webhook: WebhookConfig,
}

impl Default for PushConfig {
    fn default() -> Self {
        let (apns, fcm, web_push, webhook) = Default::default();
        Self {
            threads: 1,
            in_flight_max: 512,
            held_max: 65_536,
            tries_max: 5,
            retry_ms: 500,
            failures_max: 10,
            timeout_ms: 10_000,
            roots: None,
            apns,
            fcm,
            web_push,
            webhook,
        }
    }
}

/// See [`PushConfig::apns`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApnsConfig {
    /// The key: the `.p8` file.
    pub key_file: Option<PathBuf>,
    /// Its id.
    pub key_id: Option<String>,
    /// The team's id.
    pub team_id: Option<String>,
    /// The app's bundle id.
    pub topic: Option<String>,
    /// `production`, `sandbox`, or a URL.
    pub server: String,
}

impl Default for ApnsConfig {
    fn default() -> Self {
        let (key_file, key_id, team_id, topic) = Default::default();
        Self { key_file, key_id, team_id, topic, server: "production".to_owned() }
    }
}

impl ApnsConfig {
    /// Where it is.
    pub fn url(&self) -> &str {
        match self.server.as_str() {
            "production" => tern_push::apns::PRODUCTION,
            "sandbox" => tern_push::apns::SANDBOX,
            url => url,
        }
    }
}

/// See [`PushConfig::fcm`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FcmConfig {
    /// The service account: the JSON file.
    pub account_file: Option<PathBuf>,
    /// Where messages are taken.
    pub url: String,
}

impl Default for FcmConfig {
    fn default() -> Self {
        Self { account_file: None, url: tern_push::fcm::PRODUCTION.to_owned() }
    }
}

/// See [`PushConfig::web_push`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebPushConfig {
    /// Whom a push service asks if something is wrong; absent: there is no Web Push.
    pub contact: Option<String>,
    /// The key (PEM); absent for one in the data directory, which is made.
    pub key_file: Option<PathBuf>,
    /// Which hosts are told, and those below them; none: all.
    pub hosts: Vec<String>,
    /// Also hosts with addresses that are not public.
    pub private_hosts: bool,
}

impl Default for WebPushConfig {
    fn default() -> Self {
        let hosts = KNOWN_HOSTS.map(str::to_owned).into();
        Self { contact: None, key_file: None, hosts, private_hosts: false }
    }
}

/// See [`PushConfig::webhook`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where it listens.
    pub url: Option<String>,
    /// The key that signs.
    pub key_file: Option<PathBuf>,
    /// By which it knows the key.
    pub key_id: String,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { url: None, key_file: None, key_id: "1".to_owned() }
    }
}

/// The flags of `[push]`. Bounds stand in the file.
#[derive(Args, Clone, Debug, Default)]
pub struct PushFlags {
    /// Key of APNs, the `.p8` file from Apple: devices that sleep are told by Apple [default: they are not]
    #[arg(long, value_name = "FILE", env = "TERN_PUSH_APNS_KEY_FILE")]
    pub push_apns_key_file: Option<PathBuf>,
    /// That key's id, ten characters
    #[arg(long, value_name = "ID", env = "TERN_PUSH_APNS_KEY_ID")]
    pub push_apns_key_id: Option<String>,
    /// The id of the team whose key it is
    #[arg(long, value_name = "ID", env = "TERN_PUSH_APNS_TEAM_ID")]
    pub push_apns_team_id: Option<String>,
    /// The app's bundle id
    #[arg(long, value_name = "ID", env = "TERN_PUSH_APNS_TOPIC")]
    pub push_apns_topic: Option<String>,
    /// `production`, `sandbox` for apps from Xcode, or a URL [default: production]
    #[arg(long, value_name = "SERVER", env = "TERN_PUSH_APNS_SERVER")]
    pub push_apns_server: Option<String>,
    /// Service account of Firebase, the JSON file from Google: devices that sleep are told by FCM [default: they are not]
    #[arg(long, value_name = "FILE", env = "TERN_PUSH_FCM_ACCOUNT_FILE")]
    pub push_fcm_account_file: Option<PathBuf>,
    /// Whom browsers' push services ask if something is wrong (mailto: or https:): browsers that sleep are told by Web Push [default: they are not]
    #[arg(long, value_name = "URL", env = "TERN_PUSH_WEB_PUSH_CONTACT")]
    pub push_web_push_contact: Option<String>,
    /// Key of Web Push (PEM, P-256) [default: web-push-key.pem in the data directory, made at the first start]
    #[arg(long, value_name = "FILE", env = "TERN_PUSH_WEB_PUSH_KEY_FILE")]
    pub push_web_push_key_file: Option<PathBuf>,
    /// URL of a program of yours that tells devices that sleep, by POSTs of JSON [default: there is none]
    #[arg(long, value_name = "URL", env = "TERN_PUSH_WEBHOOK_URL")]
    pub push_webhook_url: Option<String>,
    /// Key that signs those POSTs: what is in this file, but for white space at its end
    #[arg(long, value_name = "FILE", env = "TERN_PUSH_WEBHOOK_KEY_FILE")]
    pub push_webhook_key_file: Option<PathBuf>,
    /// What that program knows the key by [default: 1]
    #[arg(long, value_name = "ID", env = "TERN_PUSH_WEBHOOK_KEY_ID")]
    pub push_webhook_key_id: Option<String>,
}

impl PushConfig {
    pub(super) fn apply(&mut self, flags: &PushFlags) {
        over_some(&mut self.apns.key_file, flags.push_apns_key_file.as_ref());
        over_some(&mut self.apns.key_id, flags.push_apns_key_id.as_ref());
        over_some(&mut self.apns.team_id, flags.push_apns_team_id.as_ref());
        over_some(&mut self.apns.topic, flags.push_apns_topic.as_ref());
        over(&mut self.apns.server, flags.push_apns_server.as_ref());
        over_some(&mut self.fcm.account_file, flags.push_fcm_account_file.as_ref());
        over_some(&mut self.web_push.contact, flags.push_web_push_contact.as_ref());
        over_some(&mut self.web_push.key_file, flags.push_web_push_key_file.as_ref());
        over_some(&mut self.webhook.url, flags.push_webhook_url.as_ref());
        over_some(&mut self.webhook.key_file, flags.push_webhook_key_file.as_ref());
        over(&mut self.webhook.key_id, flags.push_webhook_key_id.as_ref());
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let bounds = [
            ("push.threads", self.threads.into(), 1..=64),
            ("push.in_flight_max", self.in_flight_max.into(), 1..=10_000),
            ("push.held_max", self.held_max.into(), 1..=1 << 20),
            ("push.tries_max", self.tries_max.into(), 1..=100),
            ("push.retry_ms", self.retry_ms, 1..=60_000),
            ("push.failures_max", self.failures_max.into(), 1..=1_000),
            ("push.timeout_ms", self.timeout_ms, 100..=60_000),
        ];
        for (key, value, range) in bounds {
            if !range.contains(&value) {
                let allowed = format!("{} to {}", range.start(), range.end());
                return Err(ConfigError::OutOfRange { key, value, allowed });
            }
        }
        self.check_services()?;
        let webhook = &self.webhook.url;
        if webhook.as_ref().is_some_and(|url| !url_is_one(url)) {
            return contradiction("push.webhook.url is no URL: it begins with https:// or http://");
        }
        for (key, url) in [("push.apns.server", self.apns.url()), ("push.fcm.url", &self.fcm.url)] {
            if !url.starts_with("https://") {
                return contradiction(&format!("{key} is no URL with https://"));
            }
        }
        let all = [&self.roots, &self.apns.key_file, &self.fcm.account_file, &self.web_push.key_file];
        let all = all.into_iter().chain([&self.webhook.key_file]);
        if all.flatten().any(|path| path.to_str().is_none()) {
            return contradiction("a path is not UTF-8: name it otherwise");
        }
        Ok(())
    }

    /// Keys that go together are there, or none of them.
    fn check_services(&self) -> Result<(), ConfigError> {
        let ApnsConfig { key_file, key_id, team_id, topic, .. } = &self.apns;
        let said = [key_file.is_some(), key_id.is_some(), team_id.is_some(), topic.is_some()];
        if said.contains(&true) && said.contains(&false) {
            return contradiction(
                "push.apns.key_file, key_id, team_id and topic go together: set all of them or none",
            );
        }
        if self.webhook.url.is_some() != self.webhook.key_file.is_some() {
            return contradiction(
                "push.webhook.url and push.webhook.key_file go together: set both or neither",
            );
        }
        if self.web_push.key_file.is_some() && self.web_push.contact.is_none() {
            return contradiction(
                "push.web_push.key_file needs push.web_push.contact: mailto: or https:, whom push services ask if something is wrong",
            );
        }
        Ok(())
    }
}
