//! Other servers that fan out, started as tern's own is: on loopback, with TLS, what they keep in a temporary directory.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rcgen::CertifiedKey;
use tempfile::TempDir;
use tern_wire::tls::TlsClient;

use crate::scenarios::others::{free_address, until_it_listens};

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Rival {
    /// nats-server, without streams: in memory, nothing is acknowledged
    Nats,
    /// mosquitto, each message at QoS 1 to all: in memory, acknowledged by each
    Mqtt,
}

impl Rival {
    fn program(self) -> &'static str {
        match self {
            Self::Nats => "nats-server",
            Self::Mqtt => "mosquitto",
        }
    }

    /// What it says of its version.
    ///
    /// # Errors
    /// If it is not there.
    pub fn version(self) -> Result<String, String> {
        let argument = if self == Self::Nats { "--version" } else { "-h" };
        let output = Command::new(self.program()).arg(argument).stdin(Stdio::null()).output();
        let output = output.map_err(|error| {
            format!("{self} can't be started: {error}; Debian's package of that name has it")
        })?;
        let said = String::from_utf8_lossy(&output.stdout);
        Ok(said.lines().next().unwrap_or_default().trim().to_owned())
    }
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// One that runs; it ends with this.
pub struct RivalServer {
    child: Child,
    _dir: TempDir,
    pub address: SocketAddr,
    pub tls: TlsClient,
}

impl RivalServer {
    /// Starts it, with a certificate of its own.
    pub fn start(rival: Rival) -> Result<Self, String> {
        let text = |error: &dyn fmt::Display| format!("{rival}: {error}");
        let dir = tempfile::tempdir().map_err(|error| text(&error))?;
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).map_err(|error| text(&error))?;
        let write = |name: &str, what: &str| fs::write(dir.path().join(name), what);
        write("cert.pem", &cert.pem()).map_err(|error| text(&error))?;
        write("key.pem", &signing_key.serialize_pem()).map_err(|error| text(&error))?;
        let address = free_address().map_err(|error| text(&error))?;
        write("mosquitto.conf", &mosquitto_conf(dir.path(), address)).map_err(|error| text(&error))?;
        let mut command = Command::new(rival.program());
        match rival {
            Rival::Nats => {
                command.args(["--addr", &address.ip().to_string(), "--port", &address.port().to_string()]);
                command.args(["--tls", "--tlscert"]).arg(dir.path().join("cert.pem"));
                command.arg("--tlskey").arg(dir.path().join("key.pem"));
            }
            Rival::Mqtt => {
                command.arg("-c").arg(dir.path().join("mosquitto.conf"));
            }
        }
        let said = fs::File::create(dir.path().join("log")).map_err(|error| text(&error))?;
        let child = command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let child = child.spawn().map_err(|error| text(&error))?;
        let tls = TlsClient::pinned(cert.der().clone()).map_err(|error| text(&error))?;
        let mut server = Self { child, _dir: dir, address, tls };
        server.until_it_listens().map_err(|error| text(&error))?;
        Ok(server)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn until_it_listens(&mut self) -> Result<(), String> {
        until_it_listens(&mut self.child, self.address).map_err(|why| {
            let said = fs::read_to_string(self._dir.path().join("log")).unwrap_or_default();
            format!("{why}: {}", said.trim_end())
        })
    }
}

impl Drop for RivalServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As root it would become somebody who can't read the key. Small messages are not held back (TCP_NODELAY), as the others do not.
fn mosquitto_conf(dir: &Path, address: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        "user root\npersistence false\nlog_dest stderr\nlog_type error\nset_tcp_nodelay true\n\
         listener {} {}\nallow_anonymous true\ncertfile {dir}/cert.pem\nkeyfile {dir}/key.pem\n",
        address.port(),
        address.ip()
    )
}
