//! The hosts of browsers' services, each with a breaker and a bound of its own: whoever subscribes chooses one, and one that is slow or down
//! must not stand in the way of the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{HOST_BUSY_WAIT, HOST_FAILURES_MAX, HOST_IN_FLIGHT_MAX, HOSTS_MAX};
use crate::sender::breaker::{Admission, Breaker, Pauses};

pub(super) struct Hosts(Arc<Mutex<Table>>);

struct Table {
    began: Instant,
    hosts: HashMap<String, Host>,
}

struct Host {
    breaker: Breaker,
    in_flight: usize,
}

/// One request's place at its host. Dropped without a word, nothing is known of how it went.
pub(super) struct Place {
    hosts: Arc<Mutex<Table>>,
    origin: String,
    is_probe: bool,
    is_over: bool,
}

impl Default for Hosts {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Table { began: Instant::now(), hosts: HashMap::new() })))
    }
}

impl Hosts {
    /// # Errors
    /// There is no place now: how long to wait.
    pub fn enter(&self, origin: &str) -> Result<Place, Duration> {
        let mut table = lock(&self.0);
        let now_ms = table.now_ms();
        table.forget();
        let host = table.hosts.entry(origin.to_owned()).or_insert_with(Host::new);
        if host.in_flight >= HOST_IN_FLIGHT_MAX {
            return Err(HOST_BUSY_WAIT);
        }
        let is_probe = match host.breaker.admit(now_ms) {
            Admission::Send => false,
            Admission::Probe => true,
            Admission::Wait(until_ms) => {
                let left = Duration::from_millis(until_ms.unwrap_or(0).saturating_sub(now_ms));
                return Err(left.max(HOST_BUSY_WAIT));
            }
        };
        host.in_flight += 1;
        Ok(Place { hosts: self.0.clone(), origin: origin.to_owned(), is_probe, is_over: false })
    }
}

impl Table {
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Where there are too many, those go of which there is nothing to remember; and if all are down, those that are.
    fn forget(&mut self) {
        if self.hosts.len() >= HOSTS_MAX {
            self.hosts.retain(|_, host| host.in_flight > 0 || !host.breaker.is_well());
        }
        if self.hosts.len() >= HOSTS_MAX {
            self.hosts.retain(|_, host| host.in_flight > 0);
        }
    }
}

impl Host {
    fn new() -> Self {
        Self { breaker: Breaker::new(HOST_FAILURES_MAX, Pauses::default()), in_flight: 0 }
    }
}

impl Place {
    pub fn answered(mut self) {
        self.end(|breaker, _, is_probe| breaker.answered(is_probe));
    }

    pub fn failed(mut self) {
        self.end(|breaker, now_ms, is_probe| {
            breaker.failed(now_ms, is_probe);
        });
    }

    fn end(&mut self, how: impl FnOnce(&mut Breaker, u64, bool)) {
        self.is_over = true;
        let mut table = lock(&self.hosts);
        let now_ms = table.now_ms();
        if let Some(host) = table.hosts.get_mut(&self.origin) {
            host.in_flight -= 1;
            how(&mut host.breaker, now_ms, self.is_probe);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(|breaker, now_ms, is_probe| breaker.unsent(now_ms, is_probe));
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_down_or_slow_waits_alone() {
        let hosts = Hosts::default();
        for _ in 0..HOST_FAILURES_MAX {
            hosts.enter("https://down").map_err(drop).expect("it is tried").failed();
        }
        let pause = hosts.enter("https://down").map(drop).expect_err("it is not tried");
        assert!(hosts.enter("https://up").is_ok());

        tokio::time::advance(pause).await;
        let probe = hosts.enter("https://down").map_err(drop).expect("one probe");
        assert!(hosts.enter("https://down").is_err(), "and one alone");
        probe.answered();
        assert!(hosts.enter("https://down").is_ok());

        let places: Vec<Place> = (0..HOST_IN_FLIGHT_MAX)
            .map(|_| hosts.enter("https://slow").map_err(drop).expect("a place"))
            .collect();
        assert_eq!(hosts.enter("https://slow").map(drop), Err(HOST_BUSY_WAIT));
        drop(places);
        assert!(hosts.enter("https://slow").is_ok());
    }
}
