//! What is done to a running node, by a signal or by an operator's tool: drain, and take what can change while it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sd_notify::NotifyState;

use crate::certificates::Certificates;
use crate::config::{Config, Flags};
use crate::control::Control as _;
use crate::core::{Clock, Running};
use crate::logging;
use crate::pushes::Pushes;

/// See the module.
pub struct Operations {
    /// The cores.
    pub running: Arc<Running>,
    /// It has begun to drain.
    pub draining: Arc<AtomicBool>,
    /// The certificate, and where it comes from.
    pub certificates: Arc<Certificates>,
    /// Who tells devices that sleep, if somebody does.
    pub pushes: Option<Pushes>,
    /// The time.
    pub clock: Clock,
    /// How ternd was called.
    pub flags: Flags,
    /// What holds now.
    pub in_force: Mutex<Config>,
}

/// What has come of reading everything again.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// What has changed, or was read again.
    pub taken: Vec<String>,
    /// What stays as it was, because what there is now can't be used.
    pub failed: Vec<String>,
    /// Keys that have changed, and need a start.
    pub need_a_start: Vec<String>,
}

impl Operations {
    /// Begins to drain. `false` if that was begun before.
    pub fn drain(&self) -> bool {
        if self.draining.swap(true, Ordering::AcqRel) {
            return false;
        }
        // What has become of those under way is to reach the cores before they end.
        if let Some(pushes) = &self.pushes {
            pushes.stop();
        }
        self.running.control().drain();
        notify(&[NotifyState::Stopping]);
        tracing::info!("draining: clients are told, commits are finished");
        true
    }

    /// Takes what can change while ternd runs, and names what can't.
    pub fn reload(&self) -> Reloaded {
        notify(&[NotifyState::Reloading]);
        let mut reloaded = Reloaded::default();
        match self.certificates.reload(&*self.running.control()) {
            Ok(()) => {
                reloaded.taken.push(format!("the certificate, good until {}", self.certificates.end()));
            }
            Err(error) => reloaded.failed.push(format!("the certificate: {error}")),
        }
        self.certificates.watch(self.clock.now_ms());
        match Config::load(&self.flags) {
            Ok(again) => self.take(&again, &mut reloaded),
            Err(error) => reloaded.failed.push(format!("the configuration: {error}")),
        }
        notify(&[NotifyState::Ready]);
        reloaded
    }

    fn take(&self, again: &Config, reloaded: &mut Reloaded) {
        let mut in_force = self.in_force.lock().expect("nothing panics while it holds this");
        if again.log.filter != in_force.log.filter {
            match logging::use_filter(&again.log) {
                Ok(()) => {
                    in_force.log.filter.clone_from(&again.log.filter);
                    reloaded.taken.push(format!("log.filter, {}", again.log.filter));
                }
                Err(error) => reloaded.failed.push(format!("log.filter: {error}")),
            }
        }
        let differ = in_force.differs_in(again);
        reloaded.need_a_start = differ.into_iter().filter(|key| key != "log.filter").collect();
    }

    /// The configuration in force, as TOML.
    pub fn configuration(&self) -> String {
        self.in_force.lock().expect("nothing panics while it holds this").to_toml()
    }
}

impl Reloaded {
    /// Tells the log, for whoever has sent the signal.
    pub fn tell_log(&self) {
        let (taken, failed) = (self.taken.join("; "), self.failed.join("; "));
        tracing::info!(taken, "SIGHUP: read again");
        if !failed.is_empty() {
            tracing::error!(failed, "SIGHUP: this stays as it was");
        }
        let keys = &self.need_a_start;
        if !keys.is_empty() {
            tracing::warn!(?keys, "SIGHUP: these have changed, and take effect at the next start");
        }
    }
}

/// Tells systemd, if it has started this and wants to know (sd_notify(3)).
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd can't be told");
    }
}
