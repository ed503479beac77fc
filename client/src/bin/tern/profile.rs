//! Which profile, which server, whom to trust.

use std::path::PathBuf;

use clap::Args;
use tern_client::store::Store;
use tern_client::{Error, Options, State, Trust};

const DEFAULT_SERVER: &str = "127.0.0.1:7443";

/// The options that every command has.
#[derive(Args)]
pub struct ProfileArgs {
    /// The profile's directory
    #[arg(long, short, env = "TERN_PROFILE", value_name = "DIR", default_value = "tern-profile")]
    profile: PathBuf,
    /// The server [default: the one that the profile remembers, else 127.0.0.1:7443]
    #[arg(long, env = "TERN_SERVER", value_name = "HOST:PORT")]
    server: Option<String>,
    /// Trust the certificates of this PEM file
    #[arg(long, env = "TERN_CA", value_name = "FILE", group = "trust")]
    ca: Option<PathBuf>,
    /// Trust the one certificate with this SHA-256
    #[arg(long, env = "TERN_FINGERPRINT", value_name = "HEX", group = "trust")]
    fingerprint: Option<String>,
    /// Trust the system's roots [default, unless the profile remembers something else]
    #[arg(long, group = "trust")]
    system: bool,
}

impl ProfileArgs {
    /// The options for a profile that is to be registered. They are remembered by [`ProfileArgs::remember`].
    pub fn to_register(&self) -> Result<Options, Error> {
        self.options(&Store::open(&self.profile)?)
    }

    /// The options of a registered profile.
    pub fn registered(&self) -> Result<Options, Error> {
        let store = self.store()?;
        store.account()?.ok_or(Error::NotRegistered)?;
        self.options(&store)
    }

    /// The store of a registered profile, without a server.
    pub fn store(&self) -> Result<Store, Error> {
        if !self.profile.join("tern.db").exists() {
            return Err(Error::NotRegistered);
        }
        Store::open(&self.profile)
    }

    fn options(&self, store: &Store) -> Result<Options, Error> {
        let remembered = store.setting("server")?;
        let server = self.server.clone().or(remembered).unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let trust = match self.trust()? {
            Some(trust) => trust,
            None => store.setting("trust")?.map_or(Ok(Trust::System), |text| parse(&text))?,
        };
        Ok(Options::new(server, trust, State::Dir(self.profile.clone())))
    }

    fn trust(&self) -> Result<Option<Trust>, Error> {
        if let Some(path) = &self.ca {
            let path = path
                .canonicalize()
                .map_err(|error| Error::Config(format!("the CA file {}: {error}", path.display())))?;
            return Ok(Some(Trust::CaFile(path)));
        }
        if let Some(digits) = &self.fingerprint {
            return Trust::fingerprint(digits).map(Some);
        }
        Ok(self.system.then_some(Trust::System))
    }

    /// Has the profile remember its server, and whom to trust.
    pub fn remember(&self, options: &Options) -> Result<(), Error> {
        let store = Store::open(&self.profile)?;
        store.set_setting("server", &options.server)?;
        store.set_setting("trust", &written(&options.trust))
    }
}

fn written(trust: &Trust) -> String {
    match trust {
        Trust::CaFile(path) => format!("ca {}", path.display()),
        Trust::System => "system".to_owned(),
        Trust::Fingerprint(sha256) => {
            let digits: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("fingerprint {digits}")
        }
    }
}

fn parse(text: &str) -> Result<Trust, Error> {
    match text.split_once(' ') {
        Some(("ca", path)) => Ok(Trust::CaFile(path.into())),
        Some(("fingerprint", digits)) => Trust::fingerprint(digits),
        _ => Ok(Trust::System),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_remembers_whom_it_trusts() {
        let pinned = Trust::Fingerprint(std::array::from_fn(|at| at as u8 * 7));
        for trust in [Trust::CaFile("/a path/cert.pem".into()), Trust::System, pinned] {
            assert_eq!(parse(&written(&trust)).expect("parsed"), trust);
        }
    }
}
