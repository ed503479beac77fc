//! The command line and the environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::push::PushFlags;
use crate::core::AddressRange;
use crate::restore::RestoreFlags;

/// ternd, the tern messaging server.
///
/// Without any configuration it listens on 127.0.0.1:7443, keeps its data in ./tern-data, and makes a development
/// certificate there. When it is ready it prints one line: `ternd ready on ADDRESS`.
///
/// SIGTERM and SIGINT drain (clients are told, commits are finished, exit 0); a second one ends it at once. SIGHUP reads
/// the certificate and its key again, and the log's filter from the configuration file.
#[derive(Parser, Clone, Debug, Default)]
#[command(name = "ternd", args_override_self = true, args_conflicts_with_subcommands = true, version = tern_version::VERSION, about, long_about, max_term_width = 110)]
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
    /// Where the data lies: `fdb` is FoundationDB, `memory` forgets everything at the end, and needs development mode [default: embedded]
    #[arg(long, value_name = "ENGINE", env = "TERN_ENGINE")]
    pub engine: Option<EngineKind>,
    /// FoundationDB's cluster file, for `--engine fdb` [default: /etc/foundationdb/fdb.cluster]
    #[arg(long, value_name = "FILE", env = "TERN_FDB_CLUSTER_FILE")]
    pub fdb_cluster_file: Option<PathBuf>,
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
    /// URL that what people say is POSTed to as JSON before it is sent: a content filter. What is said leaves this server by it [default: none]
    #[arg(long, value_name = "URL", env = "TERN_FILTER_WEBHOOK")]
    pub filter_webhook: Option<String>,
    /// What the header `Authorization` of those POSTs says (`Bearer …`). In the environment or the file nobody else sees it
    #[arg(long, value_name = "TEXT", env = "TERN_FILTER_AUTHORIZATION", hide_env_values = true)]
    pub filter_authorization: Option<String>,
    /// How long the content filter's answer is waited for [default: 500]
    #[arg(long, value_name = "MS", env = "TERN_FILTER_TIMEOUT_MS")]
    pub filter_timeout_ms: Option<u64>,
    /// What becomes of messages that the content filter has not answered for [default: pass]
    #[arg(long, value_name = "WHAT", env = "TERN_FILTER_WHEN_DOWN")]
    pub filter_when_down: Option<WhenDown>,
    /// Whose messages the content filter is asked about [default: all]
    #[arg(long, value_name = "CHATS", env = "TERN_FILTER_CHATS")]
    pub filter_chats: Option<FilteredChats>,
    /// Questions to the content filter at once [default: 32]
    #[arg(long, value_name = "N", env = "TERN_FILTER_IN_FLIGHT_MAX")]
    pub filter_in_flight_max: Option<u16>,
    /// Address of /metrics, /healthz and /readyz, on loopback unless it is allowed elsewhere [default: 127.0.0.1:7480]
    #[arg(long, value_name = "ADDRESS", env = "TERN_METRICS")]
    pub metrics: Option<SocketAddr>,
    /// Have metrics off loopback, where whoever can connect may read them: a container's network, say
    #[arg(long, env = "TERN_ALLOW_METRICS_ELSEWHERE")]
    pub allow_metrics_elsewhere: bool,
    /// No metrics and health listener
    #[arg(long, env = "TERN_NO_METRICS", conflicts_with = "metrics")]
    pub no_metrics: bool,
    /// Address at which media are uploaded and had, by HTTPS [default: that of --listen, and the next port]
    #[arg(long, value_name = "ADDRESS", env = "TERN_MEDIA_LISTEN")]
    pub media_listen: Option<SocketAddr>,
    /// URL under which clients reach that: a name, a CDN [default: https:// and the address]
    #[arg(long, value_name = "URL", env = "TERN_MEDIA_URL")]
    pub media_url: Option<String>,
    /// Directory of media [default: DATA_DIR/media]
    #[arg(long, value_name = "DIR", env = "TERN_MEDIA_DIR")]
    pub media_dir: Option<PathBuf>,
    /// Bucket in which media lie instead, as s3://BUCKET/PREFIX; how it is reached, and as whom, AWS_ variables of the environment say
    #[arg(long, value_name = "URL", env = "TERN_MEDIA_BUCKET")]
    pub media_bucket: Option<String>,
    /// Send whoever has a link to the bucket, by a link that it gives: clients must reach it
    #[arg(long, env = "TERN_MEDIA_BUCKET_DIRECT")]
    pub media_bucket_direct: bool,
    /// No previews of media, and nobody looks at pictures before others do
    #[arg(long, env = "TERN_NO_PREVIEWS")]
    pub no_previews: bool,
    /// No media, whatever else is said of them
    #[arg(long, env = "TERN_NO_MEDIA")]
    pub no_media: bool,
    /// Push services.
    #[command(flatten)]
    pub push: PushFlags,
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
    /// Move slots to other cores by themselves, at ten a second, when a core has been busier than others for a minute
    #[arg(long, env = "TERN_AUTO_BALANCE")]
    pub auto_balance: bool,
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
    /// What else there is to be done than to serve
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What ternd does when it does not serve.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    #[allow(missing_docs, reason = "what it is says its flags")]
    Restore(RestoreFlags),
}

/// Where the data lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// On disk, in the data directory.
    #[default]
    Embedded,
    /// In FoundationDB.
    Fdb,
    /// In memory: for trying things out.
    Memory,
}

/// What becomes of a message that the content filter has not answered for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenDown {
    /// It is sent.
    #[default]
    Pass,
    /// It is refused for now, and its sender tries again.
    Refuse,
}

/// Which chats' messages the content filter is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilteredChats {
    /// All, but those with oneself.
    #[default]
    All,
    /// Direct chats.
    Direct,
    /// Groups, and what they are called.
    Groups,
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
