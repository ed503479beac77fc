//! The configuration: built-in values, overridden by a TOML file, overridden by environment and flags.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use tern_shard::limits::{Limits, PHONE_CODES_MAX};
use tern_wire::limits;

use crate::core::AddressRange;

/// ternd, the tern messaging server.
///
/// Without any configuration it listens on 127.0.0.1:7443, keeps its data in ./tern-data, and makes a development
/// certificate there. When it is ready it prints one line: `ternd ready on ADDRESS`.
///
/// SIGTERM and SIGINT drain (clients are told, commits are finished, exit 0); a second one ends it at once. SIGHUP reads
/// the certificate and its key again, and the log's filter from the configuration file.
#[derive(Parser, Clone, Debug, Default)]
#[command(name = "ternd", args_override_self = true, version = tern_version::VERSION, about, long_about, max_term_width = 110)]
pub struct Flags {
    /// Configuration file (TOML). `--print-config` shows every key with its value.
    #[arg(long, value_name = "FILE", env = "TERN_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:7443]
    #[arg(long, value_name = "ADDRESS", env = "TERN_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Directory of the store, the admin socket and the development certificate [default: tern-data]
    #[arg(long, value_name = "DIR", env = "TERN_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Cores: threads with a ring and a share of the users each; may exceed the CPUs [default: one a CPU]
    #[arg(long, value_name = "N", env = "TERN_CORES")]
    pub cores: Option<u16>,
    /// Where the data lies: `memory` forgets everything at the end, and needs development mode [default: embedded]
    #[arg(long, value_name = "ENGINE", env = "TERN_ENGINE")]
    pub engine: Option<EngineKind>,
    /// Certificate chain (PEM) [default: a development certificate]
    #[arg(long, value_name = "FILE", env = "TERN_CERTIFICATE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", env = "TERN_KEY", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// Serve the development certificate although other machines can connect: for tests with several machines
    #[arg(long, env = "TERN_ALLOW_DEVELOPMENT_CERTIFICATE")]
    pub allow_development_certificate: bool,
    /// Balancers (10.0.0.0/8,2001:db8::7): from there each connection begins with a PROXY header of version 2, which says where the client is
    #[arg(long, value_name = "RANGES", env = "TERN_PROXY_PROTOCOL_FROM", value_delimiter = ',')]
    pub proxy_protocol_from: Vec<AddressRange>,
    /// Unrelated people share addresses (a balancer that does not say where they are): nothing is limited by address
    #[arg(long, env = "TERN_SHARED_ADDRESSES")]
    pub shared_addresses: bool,
    /// URL that one-time codes are POSTed to as JSON [default in development mode: print them]
    #[arg(long, value_name = "URL", env = "TERN_SMS_WEBHOOK")]
    pub sms_webhook: Option<String>,
    /// What the header `Authorization` of those POSTs says (`Bearer …`). In the environment or the file nobody else sees it
    #[arg(long, value_name = "TEXT", env = "TERN_SMS_AUTHORIZATION", hide_env_values = true)]
    pub sms_authorization: Option<String>,
    /// Address of /metrics, /healthz and /readyz, on loopback unless it is allowed elsewhere [default: 127.0.0.1:7480]
    #[arg(long, value_name = "ADDRESS", env = "TERN_METRICS")]
    pub metrics: Option<SocketAddr>,
    /// Have metrics off loopback, where whoever can connect may read them: a container's network, say
    #[arg(long, env = "TERN_ALLOW_METRICS_ELSEWHERE")]
    pub allow_metrics_elsewhere: bool,
    /// No metrics and health listener
    #[arg(long, env = "TERN_NO_METRICS", conflicts_with = "metrics")]
    pub no_metrics: bool,
    /// Path of the admin socket [default: DATA_DIR/ternd.sock]
    #[arg(long, value_name = "PATH", env = "TERN_ADMIN_SOCKET")]
    pub admin_socket: Option<PathBuf>,
    /// Let `ternctl provision` make verified users outside development mode
    #[arg(long, env = "TERN_ALLOW_PROVISION")]
    pub allow_provision: bool,
    /// Form of the log: for people if stderr is a terminal, else the same without colours; or JSON [default: auto]
    #[arg(long, value_name = "FORMAT", env = "TERN_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, or a filter like `tern_server=debug` [default: info, and warn for the store]
    #[arg(long, value_name = "FILTER", env = "TERN_LOG")]
    pub log: Option<String>,
    /// Aim: 99 of 100 messages acknowledged within so many ms; what the disk leaves of it makes groups larger [default: 0, at once]
    #[arg(long, value_name = "MS", env = "TERN_ACK_P99_MS")]
    pub ack_p99_ms: Option<u32>,
    /// Follow each message whose client id is a multiple of this, for GET /traces and the CPU counters; 0: none
    #[arg(long, value_name = "N", env = "TERN_TRACE_EVERY")]
    pub trace_every: Option<u64>,
    /// Set a limit: `--limit code_attempts_max=5`. May be repeated, or several be given with commas
    #[arg(long = "limit", value_name = "KEY=VALUE", env = "TERN_LIMITS", value_delimiter = ',')]
    pub limits: Vec<String>,
    /// The store was put back from a snapshot, or from a copy that was made while ternd ran: no earlier start counts as had, so
    /// that every client goes back to what it had acknowledged. Once, at the start that follows; a copy of a stopped store needs it not
    #[arg(long)]
    pub restored: bool,
    /// Print the configuration in force as TOML, every key with what it means, and exit
    #[arg(long)]
    pub print_config: bool,
    /// Print what a shell needs to complete this program's command lines, and exit
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<tern_version::Shell>,
    /// Write the man page of this program into a folder, and exit
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub man_pages: Option<PathBuf>,
}

/// Where the data lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// On disk, in the data directory.
    #[default]
    Embedded,
    /// In memory: for trying things out.
    Memory,
}

/// Form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; with colours on a terminal.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

macro_rules! limits_table {
    ($($key:ident: $type:ty = $default:expr, $range:expr, $help:literal;)*) => {
        /// Every limit that can be set.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct LimitsTable {
            $(#[doc = $help] pub $key: $type,)*
        }

        impl Default for LimitsTable {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl LimitsTable {
            /// Each limit: its key, what it bounds, what it may be.
            pub fn help() -> Vec<(&'static str, &'static str, std::ops::RangeInclusive<u64>)> {
                vec![$((stringify!($key), $help, $range),)*]
            }

            fn check(&self) -> Result<(), ConfigError> {
                $({
                    let (value, range) = (self.$key as u64, $range);
                    if !range.contains(&value) {
                        let allowed = format!("{} to {}", range.start(), range.end());
                        return Err(ConfigError::OutOfRange { key: concat!("limits.", stringify!($key)), value, allowed });
                    }
                })*
                Ok(())
            }

            fn set(&mut self, key: &str, value: u64) -> bool {
                match key {
                    $(stringify!($key) => match value.try_into() {
                        Ok(value) => self.$key = value,
                        Err(_) => return false,
                    },)*
                    _ => return false,
                }
                true
            }
        }
    };
}

/// No number is larger, so that TOML, whose numbers have a sign, can hold it.
pub const NUMBER_MAX: u64 = 1 << 60;

const DAY_MS: u64 = 24 * 3_600_000;

limits_table! {
    connections_max: u32 = 16_000, 1..=1_000_000, "Connections of one core; the limit of open files bounds them too.";
    handshake_timeout_ms: u64 = 10_000, 100..=600_000, "Time for a TLS handshake.";
    login_timeout_ms: u64 = 30_000, 100..=3_600_000, "Time from connecting to Login.";
    idle_timeout_ms: u64 = 300_000, 1_000..=DAY_MS, "Time without a byte from the client.";
    body_bytes_max: usize = limits::BODY_BYTES_MAX, 1..=limits::BODY_BYTES_MAX as u64, "Bytes of a message's body.";
    history_entries_max: usize = limits::HISTORY_ENTRIES_MAX, 1..=limits::HISTORY_ENTRIES_MAX as u64, "Entries of a history page.";
    requests_in_flight_max: u32 = 256, 1..=65_536, "Unanswered requests of a connection.";
    request_bytes_in_flight_max: u32 = 1 << 20, 131_072..=1 << 30, "Bytes of a connection's unanswered requests.";
    send_queue_bytes_max: usize = 256 << 10, 1_024..=1 << 30, "Bytes queued to a connection beyond which it is not pushed to.";
    unsent_bytes_max: usize = 1 << 20, 1_024..=1 << 30, "Bytes unsent to a logged-in connection beyond which nothing more is read from it, until they have left.";
    strangers_max: usize = 8_192, 16..=100_000_000, "Connections of the node that have not logged in; each takes at most 64 KiB. Beyond, one that has had five seconds goes, or the newcomer.";
    strangers_per_network_max: u32 = 1_024, 0..=100_000_000, "Connections of an IPv4 address, or of the first half of an IPv6 one, that have not logged in. Beyond, the newcomer is closed. 0: networks are not counted.";
    send_queue_bytes_hard_max: usize = 4 << 20, 1_048_576..=1 << 30, "Bytes queued to a connection beyond which it is closed.";
    code_valid_ms: u64 = 300_000, 1_000..=DAY_MS, "Life of a one-time code.";
    code_attempts_max: u32 = 3, 1..=100, "Wrong tries of a one-time code.";
    code_requests_per_hour_max: u32 = 3, 0..=PHONE_CODES_MAX as u64, "One-time codes for a phone from one network in an hour; 0: any number.";
    phone_code_requests_per_hour_max: u32 = 12, 0..=PHONE_CODES_MAX as u64, "One-time codes for a phone in an hour from all networks that have never proven it; 0: any number.";
    address_code_requests_per_hour_max: u32 = 100, 0..=100_000_000, "One-time codes for a network in an hour; 0: any number.";
    lookups_per_minute_max: u32 = 120, 0..=1_000_000, "Lookups by an account in a minute; 0: any number.";
    sends_per_minute_max: u32 = 100, 0..=10_000_000, "Messages sent by an account in a minute; 0: any number.";
    sends_burst: u32 = 300, 1..=10_000_000, "Messages that an account may send at once when it has been quiet.";
    strangers_per_hour_max: u32 = 60, 0..=1_000_000, "People who have not written to an account and to whom it may write in an hour; 0: any number.";
    waiting_bytes_max: u64 = 64 << 20, 0..=1 << 40, "Bytes of bodies that wait for one user; 0: any number.";
    account_idle_days: u32 = 45, 0..=36_500, "Days without any of its devices after which an account is not joined by whoever proves its phone, but ends; 0: never.";
    devices_max: usize = 8, 1..=64, "Devices of a user.";
    access_token_valid_ms: u64 = 3_600_000, 1_000..=DAY_MS, "Life of an access token.";
    refresh_token_valid_ms: u64 = 7 * DAY_MS, 1_000..=365 * DAY_MS, "Life of a refresh token.";
    logs_cached_max: usize = 100_000, 16..=100_000_000, "Logs in one core's memory.";
    users_cached_max: usize = 100_000, 16..=100_000_000, "Users in one core's memory, beside the connected ones.";
    tail_entries_max: usize = 32, 1..=10_000, "Newest entries of a log in memory.";
    tail_bytes_max: usize = 64 << 10, 1..=1 << 30, "Bytes of the newest entries of a log in memory.";
    batch_bytes_max: usize = 4 << 20, 131_072..=1 << 30, "Bytes in a core's open batch.";
    overloaded_retry_after_ms: u32 = 100, 1..=60_000, "What a refused client is told to wait.";
    mark_quiet_ms: u64 = 10_000, 1..=3_600_000, "Quiet time of a log after which marks of devices that have it all are cleared.";
    ring_entries: u32 = 1_024, 64..=32_768, "Submissions in a core's ring.";
    receive_buffers: u16 = 1_024, 2..=32_768, "Receive buffers of a core: a power of two.";
    receive_buffer_bytes: u32 = 4_096, 512..=1_048_576, "Bytes of a receive buffer.";
    mesh_ring_messages: usize = 4_096, 2..=1_048_576, "Messages in the ring of each pair of cores.";
    mesh_backlog_max: usize = 8_192, 1..=1_048_576, "Messages waiting for a core beyond which requests for it are refused.";
    commit_group_bytes_max: usize = 8 << 20, 131_072..=1 << 30, "Bytes written in one group commit.";
    commits_in_flight_max: usize = 64, 1..=65_536, "Batches of a core that the store has not completed.";
    reads_in_flight_max: usize = 1_024, 16..=65_536, "Reads of a core that the store has not completed.";
    free_bytes_min: u64 = 256 << 20, 0..=NUMBER_MAX, "Free disk space below which nothing is taken.";
    store_cache_bytes: u64 = 256 << 20, 1_048_576..=1 << 40, "Bytes of the store's blocks in memory.";
}

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
    /// The metrics and health listener; absent or "off" for none.
    pub metrics: MetricsConfig,
    /// The operators' socket.
    pub admin: AdminConfig,
    /// The log.
    pub log: LogConfig,
    /// What is aimed at.
    pub latency: LatencyConfig,
    /// Sampled messages.
    pub trace: TraceConfig,
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
            metrics: MetricsConfig::default(),
            admin: AdminConfig::default(),
            log: LogConfig::default(),
            latency: LatencyConfig::default(),
            trace: TraceConfig::default(),
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
        fn over<T: Clone>(value: &mut T, flag: Option<&T>) {
            if let Some(flag) = flag {
                value.clone_from(flag);
            }
        }
        over(&mut self.listen, flags.listen.as_ref());
        over(&mut self.data_dir, flags.data_dir.as_ref());
        over(&mut self.cores, flags.cores.as_ref());
        over(&mut self.engine, flags.engine.as_ref());
        over(&mut self.metrics.listen, flags.metrics.as_ref());
        over(&mut self.latency.ack_p99_ms, flags.ack_p99_ms.as_ref());
        over(&mut self.trace.every, flags.trace_every.as_ref());
        over(&mut self.log.format, flags.log_format.as_ref());
        over(&mut self.log.filter, flags.log.as_ref());
        self.metrics.enabled &= !flags.no_metrics;
        self.metrics.allow_elsewhere |= flags.allow_metrics_elsewhere;
        self.admin.allow_provision |= flags.allow_provision;
        self.restored = flags.restored;
        self.network.shared_addresses |= flags.shared_addresses;
        if !flags.proxy_protocol_from.is_empty() {
            self.network.proxy_protocol_from.clone_from(&flags.proxy_protocol_from);
        }
        self.tls.allow_development_certificate |= flags.allow_development_certificate;
        let optional = [
            (&mut self.tls.certificate, &flags.certificate),
            (&mut self.tls.key, &flags.key),
            (&mut self.admin.socket, &flags.admin_socket),
        ];
        for (value, flag) in optional {
            if flag.is_some() {
                value.clone_from(flag);
            }
        }
        if flags.sms_webhook.is_some() {
            self.sms.webhook.clone_from(&flags.sms_webhook);
        }
        if flags.sms_authorization.is_some() {
            self.sms.authorization.clone_from(&flags.sms_authorization);
        }
        for limit in &flags.limits {
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
        let contradiction = |why: &str| Err(ConfigError::Contradiction(why.to_owned()));
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
        let elsewhere = self.metrics.enabled && !self.metrics.listen.ip().is_loopback();
        if elsewhere && !self.metrics.allow_elsewhere {
            return contradiction(
                "metrics.listen is not on loopback: its listener has no access control. If only those can connect who may read it, \
                 set metrics.allow_elsewhere (--allow-metrics-elsewhere)",
            );
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
        if self.trace.every > NUMBER_MAX {
            let allowed = format!("0 to {NUMBER_MAX}");
            return Err(ConfigError::OutOfRange { key: "trace.every", value: self.trace.every, allowed });
        }
        let paths = [
            Some(&self.data_dir),
            self.tls.certificate.as_ref(),
            self.tls.key.as_ref(),
            self.admin.socket.as_ref(),
        ];
        if paths.into_iter().flatten().any(|path| path.to_str().is_none()) {
            return contradiction("a path is not UTF-8: name it otherwise");
        }
        let is_header = |text: &String| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if !self.sms.authorization.as_ref().is_none_or(is_header) {
            return contradiction(
                "sms.authorization is no header's value: it has characters that a header has not",
            );
        }
        let url_is_one = |url: &String| {
            url.strip_prefix("http://").or(url.strip_prefix("https://")).is_some_and(|rest| !rest.is_empty())
        };
        if self.sms.webhook.as_ref().is_some_and(|url| !url_is_one(url)) {
            return contradiction("sms.webhook is no URL: it begins with https:// or http://");
        }
        let development = self.tls.certificate.is_none();
        if development && !self.listen.ip().is_loopback() && !self.tls.allow_development_certificate {
            let why = "off loopback, clients need a certificate that they trust: name one with --certificate and --key \
                       (for a test between machines: --allow-development-certificate)";
            return contradiction(why);
        }
        Ok(())
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

    /// Where the admin socket is.
    pub fn admin_socket(&self) -> PathBuf {
        self.admin.socket.clone().unwrap_or_else(|| self.data_dir.join("ternd.sock"))
    }

    /// As TOML, every key with what it means.
    pub fn to_toml(&self) -> String {
        let values = toml::Table::try_from(self).expect("a configuration is tables, strings and numbers");
        let mut text = String::new();
        for (table, keys) in help() {
            if !table.is_empty() {
                text += &format!("\n[{table}]\n");
            }
            for (key, help) in keys {
                text += &format!("# {help}\n");
                // What is not set stands there as what it would be.
                text += &match value_of(&values, table, key) {
                    Some(value) => format!("{key} = {value}\n"),
                    None => format!("# {key} = \"\"\n"),
                };
            }
        }
        text
    }

    /// Limits that are not as they are by themselves, as `--limit` takes them.
    pub fn changed_limits(&self) -> Vec<String> {
        let of = |limits: &LimitsTable| toml::Table::try_from(limits).expect("numbers");
        let usual = of(&LimitsTable::default());
        let changed = of(&self.limits).into_iter().filter(|(key, value)| usual.get(key) != Some(value));
        changed.map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// Keys whose values differ from another configuration's, as `table.key`.
    pub fn differs_in(&self, other: &Self) -> Vec<String> {
        let of = |config: &Self| {
            toml::Table::try_from(config).expect("a configuration is tables, strings and numbers")
        };
        let (mine, others) = (of(self), of(other));
        let mut keys = Vec::new();
        for (table, of_table) in help() {
            let differs =
                |(key, _): &(&str, String)| value_of(&mine, table, key) != value_of(&others, table, key);
            let name = |(key, _): (&str, String)| {
                if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
            };
            keys.extend(of_table.into_iter().filter(differs).map(name));
        }
        // It is in no printed table.
        if self.sms.authorization != other.sms.authorization {
            keys.push("sms.authorization".to_owned());
        }
        keys
    }

    /// The brain's part of the limits.
    pub fn shard_limits(&self) -> Limits {
        let table = &self.limits;
        Limits {
            body_bytes_max: table.body_bytes_max,
            history_entries_max: table.history_entries_max,
            requests_in_flight_max: table.requests_in_flight_max,
            request_bytes_in_flight_max: table.request_bytes_in_flight_max,
            send_queue_bytes_max: table.send_queue_bytes_max,
            send_queue_bytes_hard_max: table.send_queue_bytes_hard_max,
            login_timeout_ms: table.login_timeout_ms,
            idle_timeout_ms: table.idle_timeout_ms,
            code_valid_ms: table.code_valid_ms,
            code_attempts_max: table.code_attempts_max,
            code_requests_per_hour_max: table.code_requests_per_hour_max,
            phone_code_requests_per_hour_max: table.phone_code_requests_per_hour_max,
            address_code_requests_per_hour_max: table.address_code_requests_per_hour_max,
            lookups_per_minute_max: table.lookups_per_minute_max,
            sends_per_minute_max: table.sends_per_minute_max,
            sends_burst: table.sends_burst,
            strangers_per_hour_max: table.strangers_per_hour_max,
            waiting_bytes_max: table.waiting_bytes_max,
            account_idle_days: table.account_idle_days,
            devices_max: table.devices_max,
            access_token_valid_ms: table.access_token_valid_ms,
            refresh_token_valid_ms: table.refresh_token_valid_ms,
            logs_cached_max: table.logs_cached_max,
            users_cached_max: table.users_cached_max,
            tail_entries_max: table.tail_entries_max,
            tail_bytes_max: table.tail_bytes_max,
            batch_bytes_max: table.batch_bytes_max,
            overloaded_retry_after_ms: table.overloaded_retry_after_ms,
            mark_quiet_ms: table.mark_quiet_ms,
            inbox_step_rows: Limits::default().inbox_step_rows,
        }
    }
}

/// What a key of a table is set to; the table without a name is all of it.
fn value_of<'a>(all: &'a toml::Table, table: &str, key: &str) -> Option<&'a toml::Value> {
    let table = if table.is_empty() { all } else { all.get(table)?.as_table()? };
    table.get(key)
}

/// Every key by its table, and what it means.
fn help() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let plain =
        |keys: &[(&'static str, &str)]| keys.iter().map(|(key, help)| (*key, (*help).to_owned())).collect();
    let limits = LimitsTable::help()
        .into_iter()
        .map(|(key, help, range)| (key, format!("{help} {} to {}.", range.start(), range.end())));
    vec![
        (
            "",
            plain(&[
                ("listen", "Address to listen on."),
                ("data_dir", "Directory of the store, the admin socket and the development certificate."),
                ("cores", "Threads with a ring and a share of the users each; 0: one a CPU. At most 256."),
                (
                    "engine",
                    "Where the data lies: \"embedded\", on disk, or \"memory\", which forgets all at the end.",
                ),
            ]),
        ),
        (
            "tls",
            plain(&[
                (
                    "certificate",
                    "Certificate chain (PEM), the server's own first. Not set: a development certificate.",
                ),
                ("key", "The certificate's private key (PEM). Goes with it."),
                (
                    "allow_development_certificate",
                    "Serve the development certificate although other machines can connect.",
                ),
            ]),
        ),
        (
            "network",
            plain(&[
                (
                    "proxy_protocol_from",
                    "Balancers' ranges of addresses: from there each connection begins with a PROXY header of version 2.",
                ),
                ("shared_addresses", "Unrelated people share addresses: nothing is limited by address."),
            ]),
        ),
        (
            "sms",
            plain(&[
                (
                    "webhook",
                    "URL that one-time codes are POSTed to as JSON. Not set: they are printed, on loopback alone.",
                ),
                (
                    "authorization",
                    "What the header Authorization of those says, like \"Bearer …\". It is never printed.",
                ),
            ]),
        ),
        (
            "metrics",
            plain(&[
                ("enabled", "Whether there are /metrics, /healthz and /readyz."),
                ("listen", "Their address, on loopback unless it is allowed elsewhere."),
                (
                    "allow_elsewhere",
                    "They may be off loopback, where whoever can connect may read them: a container's network, say.",
                ),
            ]),
        ),
        (
            "admin",
            plain(&[
                ("socket", "Path of the admin socket. Not set: ternd.sock in the data directory."),
                ("allow_provision", "Let `ternctl provision` make verified users outside development mode."),
            ]),
        ),
        (
            "log",
            plain(&[
                ("format", "Form of the log: \"auto\", \"human\" or \"json\"."),
                (
                    "filter",
                    "What is logged: error, warn, info, debug, or a filter like tern_server=debug. Read again on SIGHUP.",
                ),
            ]),
        ),
        (
            "latency",
            plain(&[(
                "ack_p99_ms",
                "Aim: 99 of 100 messages acknowledged within so many ms; what the disk leaves of it makes groups larger. 0: at once.",
            )]),
        ),
        (
            "trace",
            plain(&[(
                "every",
                "Follow each message whose client id is a multiple of this, for GET /traces. 0: none.",
            )]),
        ),
        ("limits", limits.collect()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str, flags: &[&str]) -> Result<Config, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("ternd.toml");
        std::fs::write(&file, toml).expect("written");
        let mut arguments = vec!["ternd", "--config", file.to_str().expect("UTF-8")];
        arguments.extend(flags);
        let flags = Flags::try_parse_from(arguments).map_err(|error| error.to_string())?;
        Config::load(&flags).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_override_the_file_and_the_file_the_built_in_values() {
        let config =
            load("cores = 3\n[limits]\ncode_attempts_max = 5", &["--limit", "devices_max=2"]).expect("valid");
        assert_eq!((config.cores, config.limits.code_attempts_max, config.limits.devices_max), (3, 5, 2));
        assert_eq!(load("cores = 3", &["--cores", "7"]).expect("valid").cores, 7);
        assert_eq!(load("", &[]).expect("valid").listen, loopback(7443));
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        let config = load("", &[]).expect("valid");
        let again = load(&config.to_toml(), &[]).expect("its own output");
        assert_eq!(config.to_toml(), again.to_toml());
        let set = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n[sms]\nwebhook = \"https://x/\"\n[admin]\nsocket = \"s\"";
        let config = load(set, &["--limit", "devices_max=3,sends_burst=7"]).expect("valid");
        let again = load(&config.to_toml(), &[]).expect("its own output");
        assert!(config.differs_in(&again).is_empty(), "{:?}", config.differs_in(&again));
        assert_eq!(config.changed_limits(), ["devices_max=3", "sends_burst=7"]);
    }

    #[test]
    fn every_key_is_printed_with_what_it_means() {
        let set = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n[sms]\nwebhook = \"https://x/\"\n[admin]\nsocket = \"s\"";
        let config = load(set, &[]).expect("valid");
        let all = toml::Table::try_from(&config).expect("TOML");
        let mut keys = Vec::new();
        for (name, value) in &all {
            match value.as_table() {
                Some(table) => keys.extend(table.keys().cloned()),
                None => keys.push(name.clone()),
            }
        }
        let text = config.to_toml();
        let lines: Vec<&str> = text.lines().collect();
        for key in keys {
            let at = lines.iter().position(|line| line.starts_with(&format!("{key} = ")));
            let at = at.unwrap_or_else(|| panic!("{key} is not printed"));
            assert!(lines[at - 1].starts_with("# ") && lines[at - 1].len() > 10, "{key} is not explained");
        }
        let bare = load("", &[]).expect("valid").to_toml();
        for unset in ["# certificate = ", "# webhook = ", "# authorization = ", "# socket = "] {
            assert!(bare.contains(unset), "{unset} is not in\n{bare}");
        }
    }

    #[test]
    fn what_a_reload_can_not_change_is_named() {
        let (before, after) = (
            load("", &[]).expect("valid"),
            load("cores = 3\n[log]\nfilter = \"debug\"\n[limits]\ndevices_max = 2", &[]).expect("valid"),
        );
        assert_eq!(before.differs_in(&after), ["cores", "log.filter", "limits.devices_max"]);
    }

    #[test]
    fn a_mistake_on_the_line_of_a_secret_does_not_tell_it() {
        for line in [
            "authorisation = \"Bearer s3cret\"",
            "authorization = Bearer s3cret",
            "authorization = [\"s3cret\"]",
        ] {
            let error = load(&format!("[sms]\n{line}\n"), &[]).expect_err("it is wrong");
            assert!(error.contains("line 2: ") && !error.contains("s3cret"), "{error}");
        }
        let before = load("[sms]\nauthorization = \"s3cret-1\"", &[]).expect("valid");
        let after = load("[sms]\nauthorization = \"s3cret-2\"", &[]).expect("valid");
        assert_eq!(before.differs_in(&after), ["sms.authorization"], "a change of it is named");
        assert!(!before.to_toml().contains("s3cret"));
        assert!(
            load("", &["--trace-every", &u64::MAX.to_string()]).is_err(),
            "what can't be printed is refused"
        );
    }

    #[test]
    fn the_largest_values_can_be_printed() {
        let largest: Vec<_> =
            LimitsTable::help().into_iter().map(|(key, _, range)| (key, *range.end())).collect();
        for (key, value) in largest {
            // The largest power of two, where it must be one.
            let value = if key == "receive_buffers" { 32_768 } else { value };
            let config = load("", &["--limit", &format!("{key}={value}")]).expect(key);
            assert!(config.to_toml().contains(&format!("{key} = {value}\n")), "{key}");
        }
    }

    #[test]
    fn a_wrong_configuration_says_what_is_wrong() {
        let cases: [(&str, &[&str], &str); 12] = [
            ("corse = 3", &[], "corse"),
            (
                "[limits]\ncode_attempts_max = 0",
                &[],
                "limits.code_attempts_max = 0 is out of range: 1 to 100",
            ),
            ("[limits]\nbody_bytes_max = 65537", &[], "limits.body_bytes_max = 65537"),
            ("[limits]\nreceive_buffers = 1000", &[], "no power of two"),
            ("[tls]\nkey = \"k\"", &[], "go together"),
            ("listen = \"0.0.0.0:1\"", &[], "sms.webhook"),
            ("listen = \"0.0.0.0:1\"\n[sms]\nwebhook = \"http://x\"", &[], "--certificate"),
            ("[sms]\nwebhook = \"example.org\"", &[], "no URL"),
            ("[metrics]\nlisten = \"0.0.0.0:1\"", &[], "not on loopback"),
            ("", &["--limit", "nonsense=1"], "--limit nonsense=1: there is no such limit"),
            ("", &["--limit", "devices_max=x"], "not KEY=NUMBER"),
            ("", &["--cores", "300"], "cores = 300"),
        ];
        for (toml, flags, expected) in cases {
            let error = load(toml, flags).expect_err(expected);
            assert!(error.contains(expected), "{error:?} does not name {expected:?}");
        }
    }
}
