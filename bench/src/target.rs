//! The server under load: one of the bench's own in a temporary directory, or one that runs elsewhere.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tern_storage::embedded::check;
use tern_testkit::{Ternd, TerndOptions, TestUser};
use tern_wire::tls::TlsClient;

use crate::load::{Link, Said, Speaker as _};
use crate::{measure, setup};

/// How long a server that runs elsewhere may take to answer at all.
const GREET_TIMEOUT: Duration = Duration::from_secs(10);

/// Which server.
#[derive(Clone, Debug, clap::Args)]
pub struct TargetArgs {
    /// Load this server, not one of the bench's own; needs --ca and --user-file. It should have been started with
    /// --limit sends_per_minute_max=0, --limit strangers_per_hour_max=0, --limit groups_per_day_max=0, --limit same_text_per_hour_max=0 and --limit address_requests_per_minute_max=0:
    /// all this load comes from one address, and what a limit refuses is no load
    #[arg(long, value_name = "HOST:PORT", requires = "ca", requires = "user_file")]
    server: Option<String>,
    /// The certificate of --server (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Users of --server, as `ternctl provision` writes them
    #[arg(long, value_name = "FILE")]
    user_file: Option<PathBuf>,
    /// Devices that come back make full TLS handshakes too, and do not resume with a ticket
    #[arg(long)]
    full_handshakes: bool,
    #[command(flatten)]
    own: OwnArgs,
}

/// How a server of the bench's own is started.
#[derive(Clone, Debug, clap::Args)]
pub struct OwnArgs {
    /// Cores of the bench's own server [default: one a CPU, and as many as the users need]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    cores: Option<u16>,
    /// What the bench's own server aims at: 99 of 100 messages acknowledged within so many ms [default: ternd's]
    #[arg(long, value_name = "MS")]
    ack_p99_ms: Option<u32>,
    /// A limit of the bench's own server; may be given several times
    #[arg(long = "limit", value_name = "KEY=VALUE")]
    limits: Vec<String>,
}

impl OwnArgs {
    /// The cores of a server for so many users.
    pub fn cores(&self, users: u32) -> u16 {
        let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u16);
        self.cores.unwrap_or_else(|| cpus.max(cores_for(users)))
    }
}

/// A server to be loaded.
pub struct Target {
    own: Option<Ternd>,
    pub address: SocketAddr,
    pub users: Vec<TestUser>,
    pub tls: TlsClient,
    /// Devices that come back resume their TLS session.
    pub returns: bool,
}

impl Target {
    /// Starts or finds the server, with at least so many users; `more` are arguments of a server of the bench's own.
    pub fn new(arguments: &TargetArgs, users: u32, more: &[&str]) -> Result<Self, String> {
        let target = match (&arguments.server, &arguments.ca, &arguments.user_file) {
            (Some(server), Some(ca), Some(file)) => Self::elsewhere(server, ca, file, users),
            _ => Self::start(&arguments.own, users, more),
        };
        Ok(Self { returns: !arguments.full_handshakes, ..target? })
    }

    /// Starts a server of the bench's own, with so many users.
    pub fn start(arguments: &OwnArgs, users: u32, more: &[&str]) -> Result<Self, String> {
        // A fleet from one machine is what these bound.
        let crowds = ["strangers_per_network_max=0", "strangers_max=100000000"].map(str::to_owned);
        let limits =
            crowds.iter().chain(&arguments.limits).flat_map(|limit| ["--limit".to_owned(), limit.clone()]);
        let target = arguments.ack_p99_ms.map(|ms| ["--ack-p99-ms".to_owned(), ms.to_string()]);
        let more = more.iter().map(|argument| (*argument).to_owned()).chain(target.into_iter().flatten());
        let program = program()?;
        let version = version_of(&program)?;
        let cores = arguments.cores(users);
        let server = Ternd::try_start(TerndOptions {
            cores,
            arguments: more.chain(limits).collect(),
            program: Some(program),
            own_group: true,
            ..TerndOptions::default()
        });
        let server = server.map_err(|why| format!("its own ternd did not start: {}", why.trim_end()))?;
        setup::loads(setup::Server {
            address: server.address().to_string(),
            version,
            own: true,
            cores: Some(cores),
            limits: arguments.limits.clone(),
        });
        let users = server.provision(users);
        let tls = tls(&server.ca_file())?;
        Ok(Self { address: server.address(), own: Some(server), users, tls, returns: true })
    }

    fn elsewhere(server: &str, ca: &Path, file: &Path, count: u32) -> Result<Self, String> {
        let address = server.to_socket_addrs().map_err(|error| format!("{server}: {error}"))?.next();
        let address = address.ok_or_else(|| format!("{server} has no address"))?;
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let users: Option<Vec<TestUser>> = text.lines().take(count as usize).map(user).collect();
        let users = users.ok_or_else(|| format!("{}: not what ternctl provision writes", file.display()))?;
        if users.len() < count as usize {
            return Err(format!("{count} users are needed, {} has {}", file.display(), users.len()));
        }
        let tls = tls(ca)?;
        let version =
            greet(address, &tls).map_err(|why| format!("{address} is not a server to load: {why}"))?;
        let address_said = address.to_string();
        setup::loads(setup::Server {
            address: address_said,
            version,
            own: false,
            cores: None,
            limits: Vec::new(),
        });
        Ok(Self { own: None, address, users, tls, returns: true })
    }

    /// Starts the bench's own server again, so that what it has in memory is what its connections need, and not what was left
    /// of making users.
    pub fn start_again(&mut self) {
        if let Some(server) = &mut self.own {
            server.terminate();
            server.start_again();
        }
    }

    /// Where numbers of messages begin: a server that runs elsewhere may have taken some of these users before.
    pub fn first_number(&self) -> u64 {
        if self.own.is_some() {
            return 0;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A million messages a second since, and all numbers below 2^53.
        now.as_secs() << 20
    }

    /// The bench's own server.
    pub fn own(&self) -> Option<&Ternd> {
        self.own.as_ref()
    }

    /// CPU seconds that the bench's own server has used since `before`, which an earlier call gave; all with `None`.
    pub fn cpu_s_since(&self, before: Option<f64>) -> Option<f64> {
        self.pid().map(|pid| measure::cpu_s(pid) - before.unwrap_or(0.0))
    }

    /// Ends the bench's own server, and counts the bytes of the rows of each table of its store.
    pub fn table_bytes(&mut self) -> Result<Option<BTreeMap<char, u64>>, String> {
        let Some(server) = &mut self.own else { return Ok(None) };
        server.terminate();
        let report = check::check(&server.data_dir().join("store")).map_err(|error| error.to_string())?;
        if report.is_whole() { Ok(Some(report.bytes)) } else { Err(report.findings.join("; ")) }
    }

    /// The process of the bench's own server.
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref().map(Ternd::pid)
    }
}

/// As many cores as so many connections need: one holds as many as a process may have files, here with some to spare.
pub fn cores_for(connections: u32) -> u16 {
    (connections / 14_000 + 1).try_into().unwrap_or(u16::MAX)
}

/// The server's program: beside this one, or as the shell finds it.
fn program() -> Result<PathBuf, String> {
    const NAME: &str = "ternd";
    let beside = std::env::current_exe().ok().map(|running| running.with_file_name(NAME));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let all = beside.into_iter().chain(std::env::split_paths(&paths).map(|dir| dir.join(NAME)));
    all.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        "there is no ternd beside this program nor on PATH: put it there, or name a running server with --server, --ca and \
         --user-file"
            .to_owned()
    })
}

fn version_of(program: &Path) -> Result<String, String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Connects, and gives what the server says that it is.
fn greet(address: SocketAddr, tls: &TlsClient) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut socket = TcpStream::connect_timeout(&address, GREET_TIMEOUT).map_err(text)?;
    socket.set_read_timeout(Some(GREET_TIMEOUT)).map_err(text)?;
    let mut link = Link::new(tls, "", false).map_err(|error| error.to_string())?;
    let (mut version, mut bytes) = (None, [0; 4096]);
    while version.is_none() {
        socket.write_all(&link.take_outgoing().map_err(|error| error.to_string())?).map_err(text)?;
        let read = socket.read(&mut bytes).map_err(text)?;
        if read == 0 {
            return Err("it closes the connection".to_owned());
        }
        // Its login without a token is refused, which is no matter here.
        let received = link.receive(&mut bytes[..read], &mut |said| {
            if let Said::Welcome(server) = said {
                version = Some(server);
            }
        });
        if version.is_none() {
            received?;
        }
    }
    Ok(version.unwrap_or_default())
}

fn user(line: &str) -> Option<TestUser> {
    let user: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| user[key].as_str().map(str::to_owned);
    Some(TestUser { id: user["user_id"].as_u64()?, phone: text("phone")?, token: text("access_token")? })
}

fn tls(ca: &Path) -> Result<TlsClient, String> {
    let unusable = |error: &dyn std::fmt::Display| format!("{}: {error}", ca.display());
    let certificate = CertificateDer::from_pem_file(ca).map_err(|error| unusable(&error))?;
    TlsClient::pinned(certificate).map_err(|error| unusable(&error))
}
