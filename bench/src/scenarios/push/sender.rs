//! The sender of the push crate by itself: how many devices a second it tells, and that each is told once. APNs is a mock in this process that
//! speaks the real protocol over TLS; it refuses some of the first tries as the real one does when it is busy.

use std::sync::Arc;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde::Serialize;
use tern_push::apns::Apns;
use tern_push::mock::{ApnsMock, Identity, Reply};
use tern_push::{
    ApnsToken, ApnsUse, CollapseKey, DeviceId, Kind, NotTaken, Notice, NoticeId, Order, Outcome, Priority,
    Sender, Settings, Token, Wall,
};

use crate::measure;

/// What the mock says to a device that it refuses, once, in turns: it is busy, there are too many of it, it is down.
const REFUSALS: [(u16, &str); 3] =
    [(503, "ServiceUnavailable"), (429, "TooManyRequests"), (500, "InternalServerError")];

/// How long a notice is worth telling.
const VALID_S: u64 = 3_600;

#[derive(Clone, Debug, clap::Args)]
pub struct SenderArgs {
    /// Devices that the sender by itself tells, each once
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    devices: u64,
    /// Its requests in flight
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: u32,
    /// One in so many of its devices is refused at the first try; 0: none
    #[arg(long, default_value_t = 1_000)]
    refuse_one_in: u64,
    /// Threads of sender and mock together
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct SenderReport {
    pub seconds: f64,
    pub devices: u64,
    pub in_flight: u32,
    /// Tries that were refused.
    pub refused: u64,
    pub pushed_per_s: f64,
    /// Of sender and mock together.
    pub cpu_us_per_push: f64,
    /// Devices that were told more than once.
    pub duplicates: u64,
    /// Devices that were not told, or of which the sender says so.
    pub missing: u64,
}

/// Runs it.
pub fn run(arguments: &SenderArgs, seed: u64) -> Result<SenderReport, String> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(arguments.threads.into()).enable_all().build();
    runtime.map_err(|error| format!("no threads: {error}"))?.block_on(push(arguments, seed))
}

async fn push(arguments: &SenderArgs, seed: u64) -> Result<SenderReport, String> {
    let wall = Wall::system();
    let mock = ApnsMock::start(Arc::new(Identity::default()), wall.clone()).await;
    let refused = refuse_some(arguments, &mock);
    let apns = Apns::new(mock.config(), wall.clone()).map_err(|error| error.to_string())?;
    let settings = Settings { in_flight_max: arguments.in_flight as usize, ..Settings::default() };
    let rng = ChaCha8Rng::seed_from_u64(seed);
    let (sender, mut outcomes) = Sender::start(settings, vec![Arc::new(apns)], &wall, rng);
    let (began, cpu) = (Instant::now(), measure::cpu_s(std::process::id()));
    let (mut offered, mut ended, mut delivered) = (0, 0, 0);
    let expires_s = wall.now_s() + VALID_S;
    while ended < arguments.devices {
        while offered < arguments.devices {
            match sender.offer(order(offered, expires_s)) {
                Ok(()) => offered += 1,
                Err(NotTaken::Full) => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        let report = outcomes.next().await.ok_or("the sender has stopped")?;
        delivered += u64::from(report.outcome == Outcome::Delivered);
        ended += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu_s = measure::cpu_s(std::process::id()) - cpu;
    let told = mock.book().told();
    let devices = arguments.devices;
    Ok(SenderReport {
        seconds,
        devices,
        in_flight: arguments.in_flight,
        refused,
        pushed_per_s: devices as f64 / seconds,
        cpu_us_per_push: cpu_s * 1e6 / devices as f64,
        duplicates: told.values().filter(|times| **times > 1).count() as u64,
        missing: (devices - delivered).max(devices.saturating_sub(told.len() as u64)),
    })
}

/// Has the mock refuse some devices at the first try. Gives how many.
fn refuse_some(arguments: &SenderArgs, mock: &ApnsMock) -> u64 {
    if arguments.refuse_one_in == 0 {
        return 0;
    }
    let refused = (0..arguments.devices).filter(|device| device % arguments.refuse_one_in == 0);
    let said = refused.zip(REFUSALS.iter().cycle()).map(|(device, (status, reason))| {
        mock.book().say_once(&token(device), Reply::apns(*status, reason));
    });
    said.count() as u64
}

/// A device's token.
pub(super) fn token(device: u64) -> String {
    format!("{device:064x}")
}

fn order(device: u64, expires_s: u64) -> Order {
    let token = ApnsToken::new(&token(device), ApnsUse::Notices, 0).expect("it is one");
    let notice = Notice {
        id: NoticeId(device.into()),
        kind: Kind::Message,
        badge: Some(1),
        collapse: CollapseKey::new(b"chat").ok(),
        priority: Priority::High,
        expires_s,
        preview: None,
        chat: None,
    };
    Order { device: DeviceId(device.into()), token: Token::Apns(token), notice }
}
