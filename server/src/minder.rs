//! What has to be looked at now and then while ternd runs: the wall clock, the certificate's end, the keys of tickets.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::certificates::Certificates;
use crate::core::{Clock, Cores, FOLLOW};
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
    tickets: Arc<TicketKeys>,
    cores: Arc<Cores>,
) -> std::io::Result<()> {
    threads::spawn("tern-minder", move || {
        let mut certificate_due = Instant::now();
        let mut tickets_due = Instant::now() + TICKETS_WATCH;
        loop {
            if let Some(step_ms) = clock.follow() {
                tracing::warn!(step_ms, "the wall clock has stepped: it is followed");
            }
            if certificate_due <= Instant::now() {
                certificate_due = Instant::now() + CERTIFICATE_WATCH;
                certificates.watch(clock.now_ms());
            }
            if tickets_due <= Instant::now() {
                tickets_due = Instant::now() + TICKETS_WATCH;
                if let Some(tickets) = tickets.look() {
                    certificates.use_tickets(tickets, &*cores);
                }
            }
            thread::sleep(FOLLOW);
        }
    })?;
    Ok(())
}
