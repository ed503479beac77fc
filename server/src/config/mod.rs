//! The configuration: built-in values, overridden by a TOML file, overridden by environment and flags.

mod flags;
mod limits;
mod print;
mod push;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use flags::{Command, EngineKind, FilteredChats, Flags, LogFormat, WhenDown};
pub use limits::{LimitsTable, NUMBER_MAX};
pub use push::{ApnsConfig, FcmConfig, PushConfig, PushFlags, WebPushConfig, WebhookConfig};

use tern_shard::effects::Filtering;

use crate::core::AddressRange;

/// The configuration in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Directory of all that is kept.
    pub data_dir: PathBuf,
    /// Cores; 0 for one a CPU.
    pub cores: u16,
    /// Where the data lies.
    pub engine: EngineKind,
    /// Certificate chain and key, or a development certificate.
    pub tls: TlsConfig,
    /// What addresses say.
    pub network: NetworkConfig,
    /// Delivery of one-time codes.
    pub sms: SmsConfig,
    /// Who looks at what is said before it is.
    pub filter: FilterConfig,
    /// The metrics and health listener; absent or "off" for none.
    pub metrics: MetricsConfig,
    /// The listener for media; absent or "off" for none.
    pub media: MediaConfig,
    /// How devices that sleep are told.
    pub push: PushConfig,
    /// The operators' socket.
    pub admin: AdminConfig,
    /// The log.
    pub log: LogConfig,
    /// What is aimed at.
    pub latency: LatencyConfig,
    /// Sampled messages.
    pub trace: TraceConfig,
    /// Which core has which slot.
    pub balance: BalanceConfig,
    /// FoundationDB, if that is the engine.
    pub fdb: FdbConfig,
    /// Every bound.
    pub limits: LimitsTable,
    /// The store was put back from a copy that can't know what it is. Of one start, and so a flag alone.
    #[serde(skip)]
    pub restored: bool,
}

/// See [`Config::tls`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain (PEM).
    pub certificate: Option<PathBuf>,
    /// Private key (PEM).
    pub key: Option<PathBuf>,
    /// Serve the development certificate although other machines can connect.
    pub allow_development_certificate: bool,
}

/// See [`Config::network`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// Balancers: from these addresses, and from no others, each connection begins with a PROXY header of version 2.
    pub proxy_protocol_from: Vec<AddressRange>,
    /// Unrelated people share addresses: none is limited by its address.
    pub shared_addresses: bool,
}

/// See [`Config::sms`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmsConfig {
    /// URL that codes are POSTed to.
    pub webhook: Option<String>,
    /// What the header `Authorization` of those says. It is read, and never printed.
    #[serde(skip_serializing)]
    pub authorization: Option<String>,
}

/// See [`Config::filter`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterConfig {
    /// URL that messages are POSTed to.
    pub webhook: Option<String>,
    /// What the header `Authorization` of those says. It is read, and never printed.
    #[serde(skip_serializing)]
    pub authorization: Option<String>,
    /// How long an answer is waited for, in ms.
    pub timeout_ms: u64,
    /// What becomes of a message for which there is none.
    pub when_down: WhenDown,
    /// Which chats' messages.
    pub chats: FilteredChats,
    /// Questions at once.
    pub in_flight_max: u16,
}

impl Default for FilterConfig {
    fn default() -> Self {
        Self {
            webhook: None,
            authorization: None,
            timeout_ms: 500,
            when_down: WhenDown::default(),
            chats: FilteredChats::default(),
            in_flight_max: 32,
        }
    }
}

/// How long a core waits beyond [`FilterConfig::timeout_ms`], in ms: those who ask the filter count, and say first what they know.
const FILTER_GRACE_MS: u64 = 200;

impl FilterConfig {
    /// What the brain is to know of it.
    pub fn filtering(&self) -> Filtering {
        Filtering {
            direct: self.chats != FilteredChats::Groups,
            groups: self.chats != FilteredChats::Direct,
            timeout_ms: self.timeout_ms + FILTER_GRACE_MS,
            passes_unanswered: self.when_down == WhenDown::Pass,
        }
    }
}

/// See [`Config::metrics`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Whether there is a listener.
    pub enabled: bool,
    /// Its address, on loopback.
    pub listen: SocketAddr,
    /// It may be elsewhere.
    pub allow_elsewhere: bool,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { enabled: true, listen: loopback(7480), allow_elsewhere: false }
    }
}

/// See [`Config::media`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MediaConfig {
    /// Whether there is a listener.
    pub enabled: bool,
    /// Its address; absent for the clients' listener's, and the port behind that.
    pub listen: Option<SocketAddr>,
    /// The URL under which clients reach it; absent for its address.
    pub url: Option<String>,
    /// Where media lie; absent for `media` in the data directory.
    pub dir: Option<PathBuf>,
    /// The bucket in which they lie instead, `s3://BUCKET/PREFIX`; absent for the directory.
    pub bucket: Option<String>,
    /// Whether whoever has a link is sent to the bucket.
    pub bucket_direct: bool,
    /// Whether previews are made of them, where `tern-preview` lies beside this program.
    pub previews: bool,
    /// Threads that serve them.
    pub threads: u16,
}

impl Default for MediaConfig {
    fn default() -> Self {
        let (listen, url, dir, bucket) = Default::default();
        Self { enabled: true, listen, url, dir, bucket, bucket_direct: false, previews: true, threads: 2 }
    }
}

/// See [`Config::admin`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Path of the socket; absent for `ternd.sock` in the data directory.
    pub socket: Option<PathBuf>,
    /// Whether verified users may be made outside development mode.
    pub allow_provision: bool,
}

/// See [`Config::latency`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatencyConfig {
    /// 99 of 100 messages are to be acknowledged within so many ms. What the disk's syncs leave of it is used to gather
    /// larger groups, which cost less CPU time a message. 0: every group is written at once.
    pub ack_p99_ms: u32,
}

/// See [`Config::trace`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConfig {
    /// Each message whose client id is a multiple of this is followed on its way; 0: none.
    pub every: u64,
}

/// See [`Config::balance`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BalanceConfig {
    /// Slots move by themselves when a core has been busier than others for a minute.
    pub automatic: bool,
}

/// See [`Config::fdb`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FdbConfig {
    /// Who the coordinators are.
    pub cluster_file: PathBuf,
    /// What all keys begin with.
    pub prefix: String,
    /// Transactions under way at once; 0: one a core, and at most 8.
    pub lanes: u16,
    /// The data center that this process is in; empty: it is not said.
    pub datacenter_id: String,
    /// The machine, likewise.
    pub machine_id: String,
    /// Certificate chain towards FoundationDB (PEM).
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Who signs FoundationDB's certificates.
    pub ca: Option<PathBuf>,
    /// What those must say, in FoundationDB's words.
    pub verify_peers: Option<String>,
}

impl Default for FdbConfig {
    fn default() -> Self {
        Self {
            cluster_file: "/etc/foundationdb/fdb.cluster".into(),
            prefix: "tern/".to_owned(),
            lanes: 0,
            datacenter_id: String::new(),
            machine_id: String::new(),
            certificate: None,
            key: None,
            ca: None,
            verify_peers: None,
        }
    }
}

/// The longest [`FdbConfig::prefix`], in bytes: it goes before every key.
const PREFIX_BYTES_MAX: usize = 32;

/// See [`Config::log`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Its form.
    pub format: LogFormat,
    /// What is logged.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info,lsm_tree=warn".to_owned() }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: loopback(7443),
            data_dir: "tern-data".into(),
            cores: 0,
            engine: EngineKind::default(),
            tls: TlsConfig::default(),
            network: NetworkConfig::default(),
            sms: SmsConfig::default(),
            filter: FilterConfig::default(),
            metrics: MetricsConfig::default(),
            media: MediaConfig::default(),
            push: PushConfig::default(),
            admin: AdminConfig::default(),
            log: LogConfig::default(),
            latency: LatencyConfig::default(),
            trace: TraceConfig::default(),
            balance: BalanceConfig::default(),
            fdb: FdbConfig::default(),
            limits: LimitsTable::default(),
            restored: false,
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file can't be read.
    Unreadable(PathBuf, std::io::Error),
    /// The file is not what it should be: where and why, in the parser's words.
    Malformed(PathBuf, String),
    /// A number is out of its range.
    OutOfRange {
        /// Its key.
        key: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        allowed: String,
    },
    /// Keys that do not go together, or an unknown one.
    Contradiction(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => {
                write!(f, "the configuration {} can't be read: {error}", path.display())
            }
            Self::Malformed(path, why) => write!(f, "the configuration {} is wrong: {why}", path.display()),
            Self::OutOfRange { key, value, allowed } => {
                write!(f, "{key} = {value} is out of range: {allowed}")
            }
            Self::Contradiction(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A flag that is given holds.
fn over<T: Clone>(value: &mut T, flag: Option<&T>) {
    if let Some(flag) = flag {
        value.clone_from(flag);
    }
}

/// The same of what need not be set.
fn over_some<T: Clone>(value: &mut Option<T>, flag: Option<&T>) {
    if flag.is_some() {
        *value = flag.cloned();
    }
}

fn url_is_one(url: &str) -> bool {
    url.strip_prefix("http://").or(url.strip_prefix("https://")).is_some_and(|rest| !rest.is_empty())
}

fn contradiction(why: &str) -> Result<(), ConfigError> {
    Err(ConfigError::Contradiction(why.to_owned()))
}

impl Config {
    /// The configuration in force under these flags.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let mut config = match &flags.config {
            Some(path) => Self::read(path)?,
            None => Self::default(),
        };
        config.apply(flags)?;
        config.check()?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable(path.to_owned(), error))?;
        toml::from_str(&text).map_err(|error| {
            // The line is named and not shown: a secret may stand in it.
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            ConfigError::Malformed(path.to_owned(), format!("{place}{}", error.message()))
        })
    }

    fn apply(&mut self, flags: &Flags) -> Result<(), ConfigError> {
        over(&mut self.listen, flags.listen.as_ref());
        over(&mut self.data_dir, flags.data_dir.as_ref());
        over(&mut self.cores, flags.cores.as_ref());
        over(&mut self.engine, flags.engine.as_ref());
        over(&mut self.fdb.cluster_file, flags.fdb_cluster_file.as_ref());
        over(&mut self.metrics.listen, flags.metrics.as_ref());
        over(&mut self.latency.ack_p99_ms, flags.ack_p99_ms.as_ref());
        over(&mut self.trace.every, flags.trace_every.as_ref());
        over(&mut self.log.format, flags.log_format.as_ref());
        over(&mut self.log.filter, flags.log.as_ref());
        self.metrics.enabled &= !flags.no_metrics;
        self.media.enabled &= !flags.no_media;
        self.metrics.allow_elsewhere |= flags.allow_metrics_elsewhere;
        self.balance.automatic |= flags.auto_balance;
        self.admin.allow_provision |= flags.allow_provision;
        self.restored = flags.restored;
        self.network.shared_addresses |= flags.shared_addresses;
        if !flags.proxy_protocol_from.is_empty() {
            self.network.proxy_protocol_from.clone_from(&flags.proxy_protocol_from);
        }
        self.tls.allow_development_certificate |= flags.allow_development_certificate;
        over_some(&mut self.tls.certificate, flags.certificate.as_ref());
        over_some(&mut self.tls.key, flags.key.as_ref());
        over_some(&mut self.admin.socket, flags.admin_socket.as_ref());
        over_some(&mut self.media.listen, flags.media_listen.as_ref());
        over_some(&mut self.media.url, flags.media_url.as_ref());
        over_some(&mut self.media.dir, flags.media_dir.as_ref());
        over_some(&mut self.media.bucket, flags.media_bucket.as_ref());
        self.media.bucket_direct |= flags.media_bucket_direct;
        self.media.previews &= !flags.no_previews;
        over(&mut self.filter.timeout_ms, flags.filter_timeout_ms.as_ref());
        over(&mut self.filter.when_down, flags.filter_when_down.as_ref());
        over(&mut self.filter.chats, flags.filter_chats.as_ref());
        over(&mut self.filter.in_flight_max, flags.filter_in_flight_max.as_ref());
        over_some(&mut self.filter.webhook, flags.filter_webhook.as_ref());
        over_some(&mut self.filter.authorization, flags.filter_authorization.as_ref());
        over_some(&mut self.sms.webhook, flags.sms_webhook.as_ref());
        over_some(&mut self.sms.authorization, flags.sms_authorization.as_ref());
        self.push.apply(&flags.push);
        self.apply_limits(&flags.limits)
    }

    /// Takes limits as `--limit` gives them: `KEY=NUMBER`.
    fn apply_limits(&mut self, limits: &[String]) -> Result<(), ConfigError> {
        for limit in limits {
            let pair = limit.split_once('=').and_then(|(key, value)| Some((key, value.trim().parse().ok()?)));
            let Some((key, value)) = pair else {
                let why = format!("--limit {limit}: not KEY=NUMBER");
                return Err(ConfigError::Contradiction(why));
            };
            if !LimitsTable::help().iter().any(|(known, ..)| *known == key.trim()) {
                let why =
                    format!("--limit {limit}: there is no such limit; `--print-config` shows all of them");
                return Err(ConfigError::Contradiction(why));
            }
            if !self.limits.set(key.trim(), value) {
                let why = format!("--limit {limit}: that is too large a number");
                return Err(ConfigError::Contradiction(why));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.limits.check()?;
        if self.cores > 256 {
            let allowed = "0 (one a CPU) to 256".to_owned();
            return Err(ConfigError::OutOfRange { key: "cores", value: self.cores.into(), allowed });
        }
        if !self.limits.receive_buffers.is_power_of_two() {
            return contradiction("limits.receive_buffers is no power of two");
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return contradiction("tls.certificate and tls.key go together: set both or neither");
        }
        if self.trace.every > NUMBER_MAX {
            let allowed = format!("0 to {NUMBER_MAX}");
            return Err(ConfigError::OutOfRange { key: "trace.every", value: self.trace.every, allowed });
        }
        let bounds = [
            ("filter.timeout_ms", self.filter.timeout_ms, 1..=10_000),
            ("filter.in_flight_max", self.filter.in_flight_max.into(), 1..=1_000),
            ("media.threads", self.media.threads.into(), 1..=256),
        ];
        for (key, value, range) in bounds {
            if !range.contains(&value) {
                let allowed = format!("{} to {}", range.start(), range.end());
                return Err(ConfigError::OutOfRange { key, value, allowed });
            }
        }
        self.push.check()?;
        self.check_texts()?;
        self.check_reach()
    }

    /// Paths, a header's value, an URL: texts that must be what they are for.
    fn check_texts(&self) -> Result<(), ConfigError> {
        let paths = [
            Some(&self.data_dir),
            self.tls.certificate.as_ref(),
            self.tls.key.as_ref(),
            self.admin.socket.as_ref(),
            self.media.dir.as_ref(),
        ];
        if paths.into_iter().flatten().any(|path| path.to_str().is_none()) {
            return contradiction("a path is not UTF-8: name it otherwise");
        }
        let is_header = |text: &String| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        for (key, text) in [("sms", &self.sms.authorization), ("filter", &self.filter.authorization)] {
            if !text.as_ref().is_none_or(is_header) {
                return contradiction(&format!(
                    "{key}.authorization is no header's value: it has characters that a header has not"
                ));
            }
        }
        let urls = [
            ("sms.webhook", &self.sms.webhook),
            ("filter.webhook", &self.filter.webhook),
            ("media.url", &self.media.url),
        ];
        for (key, url) in urls {
            if url.as_ref().is_some_and(|url| !url_is_one(url)) {
                return contradiction(&format!("{key} is no URL: it begins with https:// or http://"));
            }
        }
        Ok(())
    }

    /// What is open to other machines needs more than what is not.
    fn check_reach(&self) -> Result<(), ConfigError> {
        let elsewhere = self.metrics.enabled && !self.metrics.listen.ip().is_loopback();
        if elsewhere && !self.metrics.allow_elsewhere {
            return contradiction(
                "metrics.listen is not on loopback: its listener has no access control. If only those can connect who may read it, \
                 set metrics.allow_elsewhere (--allow-metrics-elsewhere)",
            );
        }
        if self.media.bucket_direct && self.media.bucket.is_none() {
            return contradiction(
                "media.bucket_direct is about the bucket in which media lie: say which (--media-bucket s3://BUCKET/PREFIX)",
            );
        }
        let is_everywhere = self.media.listen.is_some_and(|address| address.ip().is_unspecified());
        if self.media.enabled && is_everywhere && self.media.url.is_none() {
            return contradiction(
                "media.listen is every address of this machine: clients must be told which, by media.url (--media-url https://NAME:PORT)",
            );
        }
        if self.engine == EngineKind::Fdb {
            self.check_fdb()?;
        }
        if !self.development() && self.engine == EngineKind::Memory {
            return contradiction(
                "the memory engine forgets everything: it needs development mode: a loopback listener, and no webhook",
            );
        }
        if !self.development() && self.sms.webhook.is_none() {
            let why =
                "sms.webhook is not set: off loopback, one-time codes can only be delivered by a webhook";
            return contradiction(why);
        }
        let development = self.tls.certificate.is_none();
        if development && !self.listen.ip().is_loopback() && !self.tls.allow_development_certificate {
            let why = "off loopback, clients need a certificate that they trust: name one with --certificate and --key \
                       (for a test between machines: --allow-development-certificate)";
            return contradiction(why);
        }
        Ok(())
    }

    fn check_fdb(&self) -> Result<(), ConfigError> {
        if !cfg!(feature = "fdb") {
            return contradiction(
                "this ternd was built without FoundationDB: build it with `--features fdb`, or take engine = \"embedded\"",
            );
        }
        if self.fdb.prefix.len() > PREFIX_BYTES_MAX || self.fdb.prefix.starts_with('\u{ff}') {
            return contradiction("fdb.prefix goes before every key: at most 32 bytes");
        }
        if self.fdb.lanes > 64 {
            let (value, allowed) = (self.fdb.lanes.into(), "0 to 64".to_owned());
            return Err(ConfigError::OutOfRange { key: "fdb.lanes", value, allowed });
        }
        if self.fdb.certificate.is_some() != self.fdb.key.is_some() {
            return contradiction("fdb.certificate and fdb.key go together");
        }
        Ok(())
    }

    /// Transactions under way in FoundationDB at once.
    pub fn fdb_lanes(&self) -> u16 {
        if self.fdb.lanes == 0 { self.core_count().min(8) } else { self.fdb.lanes }
    }

    /// Development mode: the listener can be reached from this machine alone, and codes go to nobody's phone.
    pub fn development(&self) -> bool {
        self.listen.ip().is_loopback() && self.sms.webhook.is_none()
    }

    /// The number of cores: one a CPU, unless it is set.
    pub fn core_count(&self) -> u16 {
        let cpus = || std::thread::available_parallelism().map_or(1, |count| count.get().min(256) as u16);
        if self.cores == 0 { cpus() } else { self.cores }
    }

    /// Where media are served; `None`: nowhere, for that is not wanted, or nobody could be told where.
    pub fn media_listen(&self) -> Option<SocketAddr> {
        let (ip, port) = (self.listen.ip(), self.listen.port());
        let beside = || {
            let is_known = !ip.is_unspecified() || self.media.url.is_some();
            // Of a port that the system chooses it chooses another one.
            is_known.then(|| SocketAddr::new(ip, if port == 0 { 0 } else { port.wrapping_add(1).max(1) }))
        };
        self.media.listen.or_else(beside).filter(|_| self.media.enabled)
    }

    /// Where media lie.
    pub fn media_dir(&self) -> PathBuf {
        self.media.dir.clone().unwrap_or_else(|| self.data_dir.join("media"))
    }

    /// Where the admin socket is.
    pub fn admin_socket(&self) -> PathBuf {
        self.admin.socket.clone().unwrap_or_else(|| self.data_dir.join("ternd.sock"))
    }
}
