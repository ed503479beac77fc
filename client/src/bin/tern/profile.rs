//! Which profile, which server, whom to trust; and what to say about them when something goes wrong.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use tern_client::store::Store;
use tern_client::{Error, Options, State, Trust};

use crate::shown::hex;

const DEFAULT_SERVER: &str = "127.0.0.1:7443";
const DEFAULT_PORT: &str = "7443";

/// The options that every command has.
#[derive(Args)]
pub struct ProfileArgs {
    /// The profile: a name, which is kept in ~/.local/share/tern ($XDG_DATA_HOME/tern), or a directory, written with a slash
    #[arg(
        long,
        short,
        global = true,
        env = "TERN_PROFILE",
        value_name = "NAME|DIR/",
        default_value = "default"
    )]
    profile: String,
    /// The server [default: the one that the profile remembers, else 127.0.0.1:7443]
    #[arg(long, short, global = true, env = "TERN_SERVER", value_name = "HOST[:PORT]")]
    server: Option<String>,
    /// Trust the certificates of this PEM file
    #[arg(long, global = true, env = "TERN_CA", value_name = "FILE", conflicts_with_all = ["fingerprint", "system"])]
    ca: Option<PathBuf>,
    /// Trust the one certificate with this SHA-256
    #[arg(long, global = true, env = "TERN_FINGERPRINT", value_name = "HEX", conflicts_with = "system")]
    fingerprint: Option<String>,
    /// Trust the system's roots [default, unless the profile remembers something else]
    #[arg(long, global = true)]
    system: bool,
}

/// Where a profile is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name, if it is one of those in the data folder.
    name: Option<String>,
    pub dir: PathBuf,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.dir.display()),
            None => self.dir.display().fmt(f),
        }
    }
}

impl Place {
    /// Where the profile that was written so is, with this data folder.
    fn of(written: &str, data: Option<&Path>) -> Result<Self, Error> {
        let bad = |why: &str| Err(Error::Config(format!("the profile {written:?} {why}")));
        match written {
            "" => bad("has no name"),
            "." | ".." => bad("is a directory: write it with a slash"),
            dir if dir.contains('/') => Ok(Self { name: None, dir: dir.into() }),
            name if name.starts_with(['.', '-']) || name.contains(char::is_control) => bad("is no name"),
            name => match data {
                Some(data) => Ok(Self { name: Some(name.to_owned()), dir: data.join(name) }),
                None => bad("needs HOME or XDG_DATA_HOME; a directory, written with a slash, does not"),
            },
        }
    }

    /// As it is said on a command line; empty for the profile that needs no saying.
    fn option(&self) -> String {
        match &self.name {
            Some(name) if name == "default" => String::new(),
            Some(name) => format!("--profile {name} "),
            None => format!("--profile {} ", self.dir.display()),
        }
    }
}

/// The folder of all profiles: $XDG_DATA_HOME/tern.
fn data_folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    Some(data?.join("tern"))
}

/// Names of the profiles of a folder that have been registered, or were to be.
fn profiles_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let registered = entries.filter(|entry| entry.path().join("tern.db").exists());
    let mut names: Vec<_> = registered.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// A server's address: the port may be left out, and is 7443 then.
fn address(written: &str) -> String {
    let is_v6 = written.matches(':').count() > 1;
    match written.rsplit_once(':') {
        Some((_, port)) if !is_v6 && !port.is_empty() => written.to_owned(),
        _ if is_v6 && !written.starts_with('[') => format!("[{written}]:{DEFAULT_PORT}"),
        _ if is_v6 && !written.ends_with(']') => written.to_owned(),
        _ => format!("{}:{DEFAULT_PORT}", written.trim_end_matches(':')),
    }
}

impl ProfileArgs {
    /// Where the profile is.
    pub fn place(&self) -> Result<Place, Error> {
        Place::of(&self.profile, data_folder().as_deref())
    }

    /// The options for a profile that is to be registered. They are remembered by [`ProfileArgs::remember`].
    pub fn to_register(&self) -> Result<Options, Error> {
        let place = self.place()?;
        self.options(&Store::open(&place.dir)?, &place)
    }

    /// The options of a registered profile.
    pub fn registered(&self) -> Result<Options, Error> {
        let store = self.store()?;
        store.account()?.ok_or(Error::NotRegistered)?;
        self.options(&store, &self.place()?)
    }

    /// The store of a registered profile, without a server.
    pub fn store(&self) -> Result<Store, Error> {
        let dir = self.place()?.dir;
        // A folder that may not be looked into is told as that.
        match dir.join("tern.db").try_exists() {
            Ok(false) => Err(Error::NotRegistered),
            _ => Store::open(&dir),
        }
    }

    fn options(&self, store: &Store, place: &Place) -> Result<Options, Error> {
        let remembered = store.setting("server")?;
        let server = self.server.as_deref().map(address).or(remembered);
        let trust = match self.trust()? {
            Some(trust) => trust,
            None => remembered_trust(store)?,
        };
        let server = server.unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        Ok(Options::new(server, trust, State::Dir(place.dir.clone())))
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
        let store = Store::open(&self.place()?.dir)?;
        store.set_setting("server", &options.server)?;
        // What is kept here in the place of a file that has gone stays so.
        if let Trust::Pem(_) = &options.trust {
            return Ok(());
        }
        if let Trust::CaFile(path) = &options.trust {
            // Folders move.
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| Error::Config(format!("{}: {error}", path.display())))?;
            store.set_setting("ca", &text)?;
        }
        store.set_setting("trust", &written(&options.trust))
    }

    /// What helps with an error, beside what it says itself: which profile and which server it is about, who decided that, and
    /// what can be done.
    pub fn help_with(&self, error: &Error) -> Vec<String> {
        let Ok(place) = self.place() else { return Vec::new() };
        let option = place.option();
        match error {
            Error::NotRegistered => {
                let mut lines = vec![
                    format!("it is {place}"),
                    format!("`tern {option}register PHONE` makes it a device of that phone's account"),
                ];
                let others = data_folder().map(|folder| profiles_in(&folder)).unwrap_or_default();
                if !others.is_empty() {
                    lines.push(format!("there are these profiles: {}", others.join(", ")));
                }
                lines
            }
            Error::Tls { sha256, .. } => {
                let mut lines = vec![self.who_decided(&place)];
                if let Some(sha256) = sha256 {
                    lines.push(format!("the certificate that came has the SHA-256 {sha256}"));
                    let same = "ternd says the one of its own when it starts; if they are the same: --fingerprint, or --ca FILE";
                    lines.push(same.to_owned());
                    lines.push(
                        "(a certificate that ternd has made itself is cert.pem in its data folder)"
                            .to_owned(),
                    );
                }
                lines
            }
            Error::Connection(_) | Error::Offline { .. } | Error::TimedOut | Error::OtherStore { .. } => {
                vec![self.who_decided(&place)]
            }
            Error::ProfileTaken(_) | Error::SessionEnded(_) => vec![format!("it is the profile {place}")],
            _ => Vec::new(),
        }
    }

    /// Which server it is, and by whose word.
    fn who_decided(&self, place: &Place) -> String {
        if let Some(server) = self.server.as_deref().map(address) {
            let typed = std::env::args().any(|argument| argument.starts_with("--server") || argument == "-s");
            let by = if typed { "--server" } else { "TERN_SERVER" };
            return format!("{server} is what {by} says; the profile is {place}");
        }
        let remembered = Store::open(&place.dir).and_then(|store| store.setting("server")).ok().flatten();
        match remembered {
            Some(server) => format!("{server} is the server that the profile {place} was registered with"),
            None => format!("{DEFAULT_SERVER} is the default; --server or TERN_SERVER name another"),
        }
    }
}

fn written(trust: &Trust) -> String {
    match trust {
        Trust::CaFile(path) => format!("ca {}", path.display()),
        Trust::Pem(_) => unreachable!("it is never written: what is remembered is where the file was"),
        Trust::System => "system".to_owned(),
        Trust::Fingerprint(sha256) => {
            format!("fingerprint {}", hex(sha256))
        }
    }
}

/// Whom the profile remembers to trust. A CA file that is not where it was is what it was.
fn remembered_trust(store: &Store) -> Result<Trust, Error> {
    let trust = store.setting("trust")?.map_or(Ok(Trust::System), |text| parse(&text))?;
    match (trust, store.setting("ca")?) {
        (Trust::CaFile(path), Some(text)) if !path.exists() => Ok(Trust::Pem(text)),
        (trust, _) => Ok(trust),
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

    #[test]
    fn a_ca_file_that_was_moved_is_still_trusted() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(dir.path()).expect("a store");
        let file = dir.path().join("cert.pem");
        store.set_setting("trust", &written(&Trust::CaFile(file.clone()))).expect("written");
        store.set_setting("ca", "what it held").expect("written");
        std::fs::write(&file, "it").expect("written");
        assert_eq!(remembered_trust(&store).expect("read"), Trust::CaFile(file.clone()));
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(remembered_trust(&store).expect("read"), Trust::Pem("what it held".to_owned()));
    }

    #[test]
    fn a_name_is_in_the_data_folder_and_a_path_where_it_says() {
        let data = Some(Path::new("/home/ann/.local/share/tern"));
        let dir = |written: &str| Place::of(written, data).map(|place| place.dir.display().to_string());
        assert_eq!(dir("bot").expect("a name"), "/home/ann/.local/share/tern/bot");
        assert_eq!(dir("./bot").expect("a path"), "./bot");
        assert_eq!(dir("/var/lib/bot/").expect("a path"), "/var/lib/bot/");
        for bad in ["", ".", "..", ".hidden", "-p", "a\nb"] {
            assert!(dir(bad).is_err(), "{bad:?}");
        }
        assert!(Place::of("bot", None).is_err(), "there is no folder for it");
    }

    #[test]
    fn a_server_without_a_port_has_the_usual_one() {
        for (written, meant) in [
            ("chat.example", "chat.example:7443"),
            ("chat.example:", "chat.example:7443"),
            ("chat.example:99", "chat.example:99"),
            ("127.0.0.1", "127.0.0.1:7443"),
            ("::1", "[::1]:7443"),
            ("[::1]", "[::1]:7443"),
            ("[::1]:99", "[::1]:99"),
        ] {
            assert_eq!(address(written), meant);
        }
    }
}
