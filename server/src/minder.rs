//! What has to be looked at now and then while ternd runs: the wall clock, the certificate's end, what the store waits for, the keys of
//! tickets.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tern_storage::Engine;

use crate::certificates::Certificates;
use crate::core::{Clock, Cores, FOLLOW, Running};
use crate::threads;
use crate::tickets::TicketKeys;

/// How often a certificate that has ended, or ends soon, is warned of.
const CERTIFICATE_WATCH: Duration = Duration::from_secs(24 * 3600);

/// How often the keys of tickets are looked at: a key seals an hour after it was made, at the earliest.
const TICKETS_WATCH: Duration = Duration::from_secs(300);

/// Starts the thread that looks.
pub fn start(
    clock: Clock,
    certificates: Arc<Certificates>,
    engine: Arc<dyn Engine>,
    running: Arc<Running>,
) -> std::io::Result<()> {
    threads::spawn("tern-minder", move || {
        let mut certificate_due = Instant::now();
        let mut trouble = None;
        loop {
            if let Some(step_ms) = clock.follow() {
                tracing::warn!(step_ms, "the wall clock has stepped: it is followed");
            }
            if certificate_due <= Instant::now() {
                certificate_due = Instant::now() + CERTIFICATE_WATCH;
                certificates.watch(clock.now_ms());
            }
            tell_trouble(&mut trouble, engine.trouble());
            if let Some(reason) = engine.failed() {
                running.store().fail(&reason);
            }
            thread::sleep(FOLLOW);
        }
    })?;
    Ok(())
}

/// Starts the thread that looks at the keys of tickets: it waits for the store, where the others must not.
pub fn mind_tickets(
    certificates: Arc<Certificates>,
    tickets: Arc<TicketKeys>,
    cores: Arc<Cores>,
) -> std::io::Result<()> {
    threads::spawn("tern-tickets", move || {
        loop {
            thread::sleep(TICKETS_WATCH);
            if let Some(tickets) = tickets.look() {
                certificates.use_tickets(tickets, &*cores);
            }
        }
    })?;
    Ok(())
}

/// Tells operators what the store waits for, once, and when it goes on.
fn tell_trouble(known: &mut Option<String>, now: Option<String>) {
    match (&known, &now) {
        (None, Some(why)) => {
            tracing::warn!(%why, "the store waits; what was acknowledged is safe, and what comes is taken later")
        }
        (Some(_), None) => tracing::info!("the store goes on"),
        (None, None) | (Some(_), Some(_)) => {}
    }
    *known = now;
}
