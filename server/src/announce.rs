//! What ternd says when it starts: to people, to programs, and to whoever reads the log later.

use std::io::Write as _;
use std::net::SocketAddr;

use tern_storage::{Engine, StatisticValue};

use crate::certificates::Certificates;
use crate::config::{Config, Flags, LogFormat};
use crate::logging;

/// Says once what is allowed, and better otherwise.
pub(crate) fn warn_of_environment(config: &Config) {
    if config.tls.certificate.is_none() && !config.listen.ip().is_loopback() {
        tracing::warn!(
            "the development certificate is served to other machines: only those that were given it trust it"
        );
    }
    if config.media.enabled && config.media_listen().is_none() {
        tracing::warn!(
            "no media are taken: clients could not be told where. Say under which URL they reach this machine (--media-url), or --no-media"
        );
    }
    let in_container =
        ["/.dockerenv", "/run/.containerenv"].iter().any(|path| std::path::Path::new(path).exists())
            || std::env::var_os("container").is_some();
    if rustix::process::geteuid().is_root() && !in_container {
        tracing::warn!("ternd runs as root, and needs no such rights: give it a user of its own");
    }
}

/// The record of a start: everything that one asks first when something is wrong later.
pub(crate) fn record_start(
    config: &Config,
    flags: &Flags,
    engine: &dyn Engine,
    certificates: &Certificates,
    (address, metrics, media): (SocketAddr, Option<SocketAddr>, Option<SocketAddr>),
) {
    let gauge = |name: &str| {
        let found = engine.statistics().into_iter().find(|statistic| statistic.name == name);
        found.and_then(|statistic| match statistic.value {
            StatisticValue::Gauge(value) | StatisticValue::Counter(value) => Some(value),
            StatisticValue::Histogram(..) => None,
        })
    };
    let cores = config.core_count();
    let none = || "none".to_owned();
    tracing::info!(
        version = tern_version::VERSION,
        configuration = flags.config.as_ref().map_or_else(none, |path| path.display().to_string()),
        listen = %address,
        metrics = metrics.map_or_else(none, |metrics| format!("http://{metrics}/metrics")),
        media = media.map_or_else(none, |media| format!("https://{media}")),
        admin_socket = %config.admin_socket().display(),
        data_dir = %config.data_dir.display(),
        engine = ?config.engine,
        table_bytes = gauge("table_bytes").unwrap_or(0),
        log_segments = gauge("log_segments").unwrap_or(0),
        certificate_ends = certificates.end(),
        cores,
        places = u64::from(cores) * u64::from(config.limits.connections_max),
        development = config.development(),
        limits = config.changed_limits().join(","),
        "started"
    );
}

/// How the client is called here: as a program that the shell finds, from the source tree that one stands in, or beside this one.
fn client_command() -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("tern").is_file()) {
        return "tern".to_owned();
    }
    if std::path::Path::new("client/src/bin/tern").is_dir() {
        return "cargo run --release --bin tern --".to_owned();
    }
    let beside = std::env::current_exe().map(|own| own.with_file_name("tern")).ok();
    beside.filter(|tern| tern.is_file()).map_or("tern".to_owned(), |tern| tern.display().to_string())
}

/// Says that the server is ready, on stdout for programs, and what to do next, on stderr for people.
pub(crate) fn announce(
    config: &Config,
    (address, metrics, media): (SocketAddr, Option<SocketAddr>, Option<SocketAddr>),
    made_certificate: bool,
) {
    // Whoever asked for JSON has it all in the record of the start.
    let for_people = config.log.format != LogFormat::Json;
    if let Some(metrics) = metrics.filter(|_| for_people) {
        logging::say(format_args!("metrics on http://{metrics}/metrics"));
    }
    if let Some(media) = media.filter(|_| for_people) {
        logging::say(format_args!("media on https://{media}"));
    }
    if for_people && config.development() && config.tls.certificate.is_none() {
        let dir = config.data_dir.display();
        if made_certificate {
            logging::say(format_args!("made a development certificate: {dir}/cert.pem"));
        }
        let cores = config.core_count();
        logging::say(format_args!(
            "data in {dir}; cores: {cores}; development mode: one-time codes are printed here"
        ));
        // Whoever has been here before knows.
        if made_certificate {
            logging::say("try, in two more terminals, in this order:");
            let server = match address == Config::default().listen {
                true => String::new(),
                false => format!(" --server {address}"),
            };
            let tern = client_command();
            let people = [("ann", "Ann", "+15550001"), ("bob", "Bob", "+15550002")];
            for (profile, name, phone) in people {
                logging::say(format_args!(
                    "  {tern} --profile {profile}{server} --ca {dir}/cert.pem register {phone} --name {name}"
                ));
            }
            for ((profile, ..), (.., peer)) in people.iter().zip(people.iter().rev()) {
                logging::say(format_args!("  {tern} --profile {profile} chat {peer}"));
            }
        }
    }
    // Whoever started it may not want to know.
    let _ = writeln!(std::io::stdout(), "ternd ready on {address}");
}
