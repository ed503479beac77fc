//! The client library's network: one thread, started once in a process, which ends with the process, however that comes about.

use std::path::PathBuf;
use std::sync::OnceLock;

use foundationdb::api::FdbApiBuilder;
use foundationdb::options::NetworkOption;

use crate::OpenError;

/// How connections to FoundationDB are protected: its own files, in PEM. All empty: they are not, or as the environment says
/// (`FDB_TLS_CERTIFICATE_FILE` and so on).
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Who signs the others' certificates.
    pub ca: Option<PathBuf>,
    /// What the others' certificates must say, in FoundationDB's words.
    pub verify_peers: Option<String>,
}

static STARTED: OnceLock<Result<(), (i32, &'static str)>> = OnceLock::new();

/// Starts it, unless it runs. The first caller's files are all callers'.
pub(crate) fn start(tls: &Tls) -> Result<(), OpenError> {
    let started = STARTED.get_or_init(|| start_now(tls).map_err(|error| (error.code(), error.message())));
    started.map_err(|(code, says)| OpenError::Library { code, says, about: "to start" })
}

fn start_now(tls: &Tls) -> foundationdb::FdbResult<()> {
    let mut network = FdbApiBuilder::default().build()?;
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    let options = [
        tls.certificate.as_ref().map(|file| NetworkOption::TLSCertPath(path(file))),
        tls.key.as_ref().map(|file| NetworkOption::TLSKeyPath(path(file))),
        tls.ca.as_ref().map(|file| NetworkOption::TLSCaPath(path(file))),
        tls.verify_peers.as_ref().map(|text| NetworkOption::TLSVerifyPeers(text.clone().into_bytes())),
    ];
    for option in options.into_iter().flatten() {
        network = network.set_option(option)?;
    }
    // SAFETY: the network must have been stopped when the library's static objects are destroyed, and they never are: whatever ends the
    // process by `exit` ends in `leave`, and all else (a signal, an abort) destroys nothing.
    let running = unsafe { network.boot() }?;
    std::mem::forget(running);
    // SAFETY: `leave` takes nothing of what it is given, unwinds into nobody, and lives as long as the process.
    unsafe { on_exit(leave, std::ptr::null_mut()) };
    Ok(())
}

unsafe extern "C" {
    /// Has a function be called when the process ends by `exit`, with its status (glibc).
    fn on_exit(
        function: extern "C" fn(libc::c_int, *mut libc::c_void),
        argument: *mut libc::c_void,
    ) -> libc::c_int;
}

/// Ends the process at once. To stop the network here fails: what the library keeps for the thread that ends the process is gone by now.
extern "C" fn leave(status: libc::c_int, _: *mut libc::c_void) {
    // SAFETY: it returns to nobody, and what is to be flushed has been by whoever wrote it.
    unsafe { libc::_exit(status) }
}
