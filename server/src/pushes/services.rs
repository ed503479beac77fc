//! The push services that the configuration names, made with the keys in its files.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tern_proto::v1::PushService;
use tern_push::apns::{self, Apns, Texts};
use tern_push::fcm::{self, Fcm, Shown};
use tern_push::webhook::{self, Webhook};
use tern_push::webpush::{self, Padding, WebPush};
use tern_push::{Invalid, Reach, Roots, Service, Wall};
use tern_shard::effects::Pushing;

use super::badges::{Badges, Numbered};
use crate::config::PushConfig;
use crate::files;

/// The key of Web Push that is made where none is named.
const WEB_PUSH_KEY_FILE: &str = "web-push-key.pem";

/// Why a push service can't be used. Says nothing of what is in a file.
#[derive(Debug)]
pub enum Unusable {
    /// A file can't be read, or made.
    File(PathBuf, io::Error),
    /// What is in it, or beside it, is none: the table of the configuration.
    Setting(&'static str, Invalid),
    /// A key can't be made.
    Make(rcgen::Error),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "push: {}: {error}", path.display()),
            Self::Setting(table, why) => write!(f, "{table}: {why}"),
            Self::Make(error) => write!(f, "push.web_push: no key can be made: {error}"),
        }
    }
}

impl std::error::Error for Unusable {}

/// The services that there are.
pub(super) struct Made {
    pub services: Vec<Arc<dyn Service>>,
    /// What the brains are to know of them.
    pub pushing: Pushing,
    /// In base64url; empty: there is no Web Push.
    pub web_push_key: String,
}

/// What all services are made with.
struct Making<'a> {
    config: &'a PushConfig,
    wall: &'a Wall,
    badges: &'a Badges,
    roots: Roots,
    timeout: Duration,
    made: Made,
}

/// Makes the services of the configuration.
pub(super) fn make(
    config: &PushConfig,
    data_dir: &Path,
    wall: &Wall,
    badges: &Badges,
) -> Result<Made, Unusable> {
    let roots = match &config.roots {
        None => Roots::System,
        Some(path) => Roots::from_pem(&read(path)?).map_err(|why| Unusable::Setting("push.roots", why))?,
    };
    let timeout = Duration::from_millis(config.timeout_ms);
    let made = Made { services: Vec::new(), pushing: Pushing::default(), web_push_key: String::new() };
    let mut making = Making { config, wall, badges, roots, timeout, made };
    making.apns()?;
    making.fcm()?;
    making.web_push(data_dir)?;
    making.webhook()?;
    Ok(making.made)
}

impl Making<'_> {
    fn add(&mut self, is: PushService, service: impl Service) {
        self.made.pushing.services.push(is);
        self.made.services.push(Arc::new(Numbered { service, badges: self.badges.clone() }));
    }

    fn apns(&mut self) -> Result<(), Unusable> {
        let config = &self.config.apns;
        let Some(key_file) = &config.key_file else { return Ok(()) };
        let said = |value: &Option<String>| value.clone().unwrap_or_default();
        let service = Apns::new(
            apns::Config {
                url: config.url().to_owned(),
                roots: self.roots.clone(),
                timeout: self.timeout,
                topic: said(&config.topic),
                team_id: said(&config.team_id),
                key_id: said(&config.key_id),
                key_pem: read_key(key_file)?,
                texts: Texts::default(),
            },
            self.wall.clone(),
        );
        self.add(PushService::Apns, service.map_err(|why| Unusable::Setting("push.apns", why))?);
        Ok(())
    }

    fn fcm(&mut self) -> Result<(), Unusable> {
        let config = &self.config.fcm;
        let Some(account_file) = &config.account_file else { return Ok(()) };
        let service = Fcm::new(
            fcm::Config {
                url: config.url.clone(),
                roots: self.roots.clone(),
                timeout: self.timeout,
                account_json: read_key(account_file)?,
                shown: Shown::Nothing,
            },
            self.wall.clone(),
        );
        self.add(PushService::Fcm, service.map_err(|why| Unusable::Setting("push.fcm", why))?);
        Ok(())
    }

    fn web_push(&mut self, data_dir: &Path) -> Result<(), Unusable> {
        let config = &self.config.web_push;
        let Some(contact) = &config.contact else { return Ok(()) };
        let key_pem = match &config.key_file {
            Some(path) => read_key(path)?,
            None => own_key(&data_dir.join(WEB_PUSH_KEY_FILE))?,
        };
        let service = WebPush::new(
            webpush::Config {
                roots: self.roots.clone(),
                reach: if config.private_hosts { Reach::Anywhere } else { Reach::Public },
                hosts: config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
                timeout: self.timeout,
                key_pem,
                contact: contact.clone(),
                padding: Padding::default(),
            },
            self.wall.clone(),
        );
        let service = service.map_err(|why| Unusable::Setting("push.web_push", why))?;
        self.made.web_push_key = service.public_key().to_owned();
        self.made.pushing.web_push_key = service.public_point().to_vec().into();
        self.add(PushService::WebPush, service);
        Ok(())
    }

    fn webhook(&mut self) -> Result<(), Unusable> {
        let config = &self.config.webhook;
        let Some((url, key_file)) = config.url.as_ref().zip(config.key_file.as_ref()) else { return Ok(()) };
        let service = Webhook::new(
            webhook::Config {
                url: url.clone(),
                roots: self.roots.clone(),
                timeout: self.timeout,
                key_id: config.key_id.clone(),
                key: read_bytes(key_file)?.trim_ascii_end().to_vec(),
            },
            self.wall.clone(),
        );
        self.add(PushService::Webhook, service.map_err(|why| Unusable::Setting("push.webhook", why))?);
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, Unusable> {
    std::fs::read_to_string(path).map_err(|error| Unusable::File(path.to_owned(), error))
}

/// A file with a key: nobody else is to read it.
fn read_key(path: &Path) -> Result<String, Unusable> {
    warn_if_open(path);
    read(path)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Unusable> {
    warn_if_open(path);
    std::fs::read(path).map_err(|error| Unusable::File(path.to_owned(), error))
}

fn warn_if_open(path: &Path) {
    let is_open = |found: std::fs::Metadata| found.permissions().mode() & 0o004 != 0;
    if std::fs::metadata(path).is_ok_and(is_open) {
        tracing::warn!(file = %path.display(), "everybody on this machine may read this key of a push service: chmod o= it");
    }
}

/// The key in the data directory. The first start makes it; browsers subscribe to it, so it stays.
fn own_key(path: &Path) -> Result<String, Unusable> {
    let of_file = |error| Unusable::File(path.to_owned(), error);
    if !std::fs::exists(path).map_err(of_file)? {
        let key = rcgen::KeyPair::generate().map_err(Unusable::Make)?;
        files::prepare(path, key.serialize_pem().as_bytes())
            .and_then(|()| files::publish(path))
            .map_err(of_file)?;
        tracing::info!(file = %path.display(), "made a key of Web Push: keep it, for browsers subscribe to it");
    }
    read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(config: &PushConfig, data_dir: &Path) -> Result<Made, String> {
        let made = make(config, data_dir, &Wall::system(), &Badges::default());
        made.map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_of_web_push_is_made_once_and_stays() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = PushConfig::default();
        assert!(made(&config, dir.path()).expect("nothing is wrong").services.is_empty());
        assert!(!dir.path().join(WEB_PUSH_KEY_FILE).exists(), "nobody wants it");
        config.web_push.contact = Some("mailto:push@example.org".to_owned());
        let first = made(&config, dir.path()).expect("it is made");
        assert_eq!(first.pushing.services, [PushService::WebPush]);
        assert_eq!(first.pushing.web_push_key.len(), 65);
        let again = made(&config, dir.path()).expect("it is there");
        assert_eq!(first.pushing, again.pushing);
    }

    #[test]
    fn a_file_that_is_not_there_and_a_key_that_is_none_are_named_and_not_shown() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = PushConfig::default();
        config.fcm.account_file = Some(dir.path().join("account.json"));
        let why = made(&config, dir.path()).map(drop).expect_err("it is not there");
        assert!(why.contains("account.json"), "{why}");
        std::fs::write(dir.path().join("account.json"), "{ s3cret").expect("written");
        let why = made(&config, dir.path()).map(drop).expect_err("it is none");
        assert!(why.contains("push.fcm") && !why.contains("s3cret"), "{why}");
    }
}
