//! People who sleep, told by a real `ternd`: each has said a token of APNs and gone; others write to each of them once. APNs is a mock in this
//! process.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use tern_proto::v1::set_push::Address;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_push::Wall;
use tern_push::mock::{ApnsMock, Identity};
use tern_testkit::{Raw, Ternd, TestUser};
use tokio::runtime::Runtime;

use super::sender::token;
use crate::target::{OwnArgs, Target};

/// How long nobody may be told before the rest are taken for missing.
const HANG: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, clap::Args)]
pub struct AsleepArgs {
    #[command(flatten)]
    own: OwnArgs,
    /// People who sleep, each of whom is written to once
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sleepers: u32,
    /// People who write to them, all at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    senders: u32,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Asleep {
    /// From the first message to the last notice.
    pub seconds: f64,
    pub sleepers: u32,
    pub senders: u32,
    pub pushed_per_s: f64,
    /// Of all of `ternd`, messages and all.
    pub server_cpu_us_per_push: f64,
    /// Devices that were told more than once.
    pub duplicates: u64,
    /// Devices that were not told.
    pub missing: u64,
}

/// Runs it.
pub fn run(arguments: &AsleepArgs) -> Result<Asleep, String> {
    let runtime = Runtime::new().map_err(|error| format!("no threads: {error}"))?;
    let identity = Arc::<Identity>::default();
    let mock = runtime.block_on(ApnsMock::start(identity.clone(), Wall::system()));
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let config = configure(folder.path(), &mock, &identity).map_err(|error| error.to_string())?;
    let AsleepArgs { own, sleepers, senders } = arguments;
    let target = Target::start(own, sleepers + senders, &["--config", &config])?;
    let server = target.own().expect("it was started here");
    let (sleeping, writing) = target.users.split_at(*sleepers as usize);
    go_to_sleep(server, sleeping, *senders as usize)?;
    let (began, cpu) = (Instant::now(), target.cpu_s_since(None));
    write_to_all(server, sleeping, writing)?;
    runtime.block_on(wait_for_all(&mock, sleeping.len()));
    let seconds = began.elapsed().as_secs_f64();
    let cpu_s = target.cpu_s_since(cpu).unwrap_or(0.0);
    let told = mock.book().told();
    Ok(Asleep {
        seconds,
        sleepers: *sleepers,
        senders: *senders,
        pushed_per_s: told.len() as f64 / seconds,
        server_cpu_us_per_push: cpu_s * 1e6 / f64::from(*sleepers),
        duplicates: told.values().filter(|times| **times > 1).count() as u64,
        missing: (sleeping.len().saturating_sub(told.len())) as u64,
    })
}

/// Writes what `ternd` needs to speak to the mock. Gives the configuration's path.
fn configure(folder: &Path, mock: &ApnsMock, identity: &Identity) -> std::io::Result<String> {
    let config = mock.config();
    let (roots, key, path) = (folder.join("roots.pem"), folder.join("key.p8"), folder.join("ternd.toml"));
    fs::write(&roots, identity.pem())?;
    fs::write(&key, &config.key_pem)?;
    let text = format!(
        "[push]\nroots = {roots:?}\n[push.apns]\nkey_file = {key:?}\nkey_id = {:?}\nteam_id = {:?}\ntopic = {:?}\nserver = {:?}\n",
        config.key_id, config.team_id, config.topic, config.url
    );
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

/// Each says where it is told, and goes.
fn go_to_sleep(server: &Ternd, sleeping: &[TestUser], threads: usize) -> Result<(), String> {
    let numbered: Vec<_> = sleeping.iter().enumerate().collect();
    side_by_side(numbered.chunks(numbered.len().div_ceil(threads)), |some| {
        for (number, user) in some {
            let token = token(*number as u64);
            let apns = v1::ApnsAddress { token, ..v1::ApnsAddress::default() };
            let set = v1::SetPush { address: Some(Address::Apns(apns)), settings: None };
            match Raw::logged_in(server, &user.token).ask(Request::SetPush(set)) {
                Some(Message::PushSet(_)) => {}
                other => return Err(format!("a device could not say where it is told: {other:?}")),
            }
        }
        Ok(())
    })
}

/// Each of those who write writes to their part of those who sleep.
fn write_to_all(server: &Ternd, sleeping: &[TestUser], writing: &[TestUser]) -> Result<(), String> {
    let parts = sleeping.chunks(sleeping.len().div_ceil(writing.len()));
    side_by_side(parts.zip(writing), |(some, writer)| {
        let mut raw = Raw::logged_in(server, &writer.token);
        for user in some {
            let send = v1::Send {
                chat: user.id,
                client_id: 1,
                body: "hello".into(),
                kind: v1::Kind::Text.into(),
                ..v1::Send::default()
            };
            match raw.ask(Request::Send(send)) {
                Some(Message::Sent(_)) => {}
                other => return Err(format!("a message was not sent: {other:?}")),
            }
        }
        Ok(())
    })
}

/// Does this with each, on a thread of its own.
fn side_by_side<T: Send>(
    parts: impl Iterator<Item = T>,
    work: impl Fn(T) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| "a thread of the bench has panicked".to_owned()).flatten()
        })
    })
}

/// Waits until all have been told; or nobody is any more.
async fn wait_for_all(mock: &ApnsMock, sleepers: usize) {
    let book = mock.book();
    while let told = book.told().len()
        && told < sleepers
    {
        let next = book.count() + (sleepers - told).min(1000) as u64;
        if tokio::time::timeout(HANG, book.count_is(next)).await.is_err() {
            return;
        }
    }
}
