//! Delivery of one-time codes: by webhook, or in development mode on the console. One thread of its own, behind a
//! bounded queue, so that no core waits for the network.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tern_wire::ids::Phone;

use crate::core::CodeDelivery;

/// Codes that wait for delivery. Beyond: the request is refused as overloaded.
const QUEUE_MAX: usize = 10_000;

/// How often a delivery is tried.
const TRIES: u32 = 3;

/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

struct Delivery {
    phone: Phone,
    code: String,
    expires_ms: u64,
}

/// The way to the delivering thread.
pub struct Codes(SyncSender<Delivery>);

impl CodeDelivery for Codes {
    fn deliver(&self, phone: &Phone, code: &str, expires_ms: u64) -> bool {
        let delivery = Delivery { phone: phone.clone(), code: code.to_owned(), expires_ms };
        self.0.try_send(delivery).is_ok()
    }
}

impl Codes {
    /// Starts the delivering thread: it POSTs to `webhook`, or prints if there is none.
    pub fn start(webhook: Option<String>) -> std::io::Result<Self> {
        let (sender, deliveries) = sync_channel(QUEUE_MAX);
        let body = move || match webhook {
            Some(url) => post_all(&url, &deliveries),
            None => deliveries.iter().for_each(|delivery| print(&delivery)),
        };
        thread::Builder::new().name("tern-codes".to_owned()).spawn(body)?;
        Ok(Self(sender))
    }
}

/// On stderr, not in the log: the code is for the developer who sits there. The number is masked but for its end.
#[allow(clippy::print_stderr, reason = "see above")]
fn print(delivery: &Delivery) {
    let digits = delivery.phone.digits();
    let (hidden, shown) = digits.split_at(digits.len() - 4);
    eprintln!("one-time code for +{}{shown}: {}", "·".repeat(hidden.len()), delivery.code);
}

fn post_all(url: &str, deliveries: &Receiver<Delivery>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(TRY_TIMEOUT)).tls_config(tls).build().into();
    for delivery in deliveries {
        let body = serde_json::json!({
            "phone": delivery.phone.as_str(),
            "code": delivery.code,
            "expires_ms": delivery.expires_ms,
        });
        for attempt in 1..=TRIES {
            let request = agent.post(url).header("content-type", "application/json");
            match request.send(body.to_string()) {
                Ok(_) => break,
                // The error names the URL or the status, never what was sent.
                Err(error) if attempt == TRIES => {
                    tracing::error!(%error, "a one-time code was not delivered")
                }
                Err(_) => thread::sleep(Duration::from_millis(200 << attempt)),
            }
        }
    }
}
