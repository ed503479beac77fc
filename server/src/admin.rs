//! The operators' socket: a line of JSON in, lines of JSON out.
//!
//! `{"ask":"status"}`, `{"ask":"configuration"}`, `{"ask":"reload"}`, `{"ask":"drain"}`; `{"ask":"otp","phone":"+15550001"}`,
//! `{"ask":"reset_codes","phone":…}`; `{"ask":"user","who":…}`, `{"ask":"delete_user","who":…}`, `{"ask":"end_device","who":…,"device":2}`,
//! `{"ask":"reset_limits","who":…}`, `{"ask":"suspend","who":…,"reason":…,"for_ms":86400000}`, `{"ask":"free","who":…}`, where who is a phone or a user's id;
//! `{"ask":"reports","open":true}`, `{"ask":"report","id":…}`, `{"ask":"resolve_report","id":…,"how":…,"suspend":true,"for_ms":0}`;
//! `{"ask":"stats","days":30}`; `{"ask":"push"}`; `{"ask":"shards"}`, `{"ask":"cores"}`, `{"ask":"explain_slot","slot":17}`, `{"ask":"move_slot","slot":17,"to":1}`,
//! `{"ask":"drain_core","core":1}`, `{"ask":"undrain_core","core":1}`, `{"ask":"plan_moves"}`, `{"ask":"apply_plan","plan":"p-1","rate":10}`,
//! `{"ask":"rebalance"}`, `{"ask":"pause_moves"}`, `{"ask":"resume_moves"}`, `{"ask":"rate_of_moves","rate":5}`, `{"ask":"cancel_moves"}`;
//! `{"ask":"backup_start","dir":"/mnt/backup"}` (also `key_file`, `plain`, `rate`, `keep`, `base`), `{"ask":"backup_status"}`,
//! `{"ask":"backup_rate","rate":33554432}`, `{"ask":"backup_stop"}`;
//! `{"ask":"provision","count":2,"first":"+15550100000","name":"test"}`; `{"ask":"trace","every":100,"seconds":10}`. An answer is `{"ok":…}` or
//! `{"error":"…"}`; `provision` gives a line for each user, `reports` one for each report, `trace` one each second, then one with `done`. The socket's file mode is its access
//! control.

mod deletions;
mod reports;
mod stats;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tern_shard::admin::{AdminRequest, AdminResponse, CoreStatus, DeviceView, Provisioned, UserView};
use tern_shard::slots::CoreId;
use tern_storage::Key;
use tern_storage::embedded::backup::Backups;
use tern_wire::ids::{DeviceId, Name, Phone, UserId};

use crate::audit::Audit;
use crate::backup::{self, Desk, Start};
use crate::balance::Balance;
use crate::config::NUMBER_MAX;
use crate::control::{Control, Page, ask_page, owner_of, owner_of_user};
use crate::core::Traces;
use crate::operations::{Operations, Reloaded};
use crate::pushes::Pushes;
use crate::threads;

/// Bytes of a question.
const LINE_BYTES_MAX: u64 = 16_384;

/// Bytes of what an operator gives as a reason.
const REASON_BYTES_MAX: usize = 256;

/// Users made by one question.
const PROVISION_MAX: u32 = 10_000_000;

/// Users under way at once: enough to fill a group commit.
const PROVISION_THREADS: usize = 64;

/// Users whose answers are gathered before they are written.
const PROVISION_CHUNK: u32 = 2048;

/// How long messages are followed at most.
const TRACE_SECONDS_MAX: u64 = 3600;

/// Operators' tools that are served at once. Beyond, a connection is closed.
const OPERATORS_MAX: usize = 64;

/// How long an operator's tool may take to ask, or to take an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
enum Question {
    Status {},
    Otp {
        phone: String,
    },
    ResetCodes {
        phone: String,
    },
    User {
        /// As it was called before.
        #[serde(alias = "phone")]
        who: String,
    },
    DeleteUser {
        #[serde(alias = "phone")]
        who: String,
    },
    KeepUser {
        who: String,
    },
    Deletions {},
    EndDevice {
        who: String,
        device: u32,
    },
    ResetLimits {
        who: String,
    },
    Suspend {
        who: String,
        reason: String,
        /// 0: until it is freed.
        #[serde(default)]
        for_ms: u64,
    },
    Free {
        who: String,
    },
    Reports {
        /// Those alone that nobody is done with.
        #[serde(default)]
        open: bool,
    },
    Report {
        id: String,
    },
    ResolveReport {
        id: String,
        how: String,
        /// Suspends who is reported, too.
        #[serde(default)]
        suspend: bool,
        /// 0: until it is freed.
        #[serde(default)]
        for_ms: u64,
    },
    Stats {
        days: u32,
    },
    Push {},
    Configuration {},
    Reload {},
    Drain {},
    Trace {
        every: u64,
        seconds: u64,
    },
    Provision {
        count: u32,
        first: String,
        name: String,
    },
    /// What is asked of backups: of these all but the name, so that it is known what is wrong with it.
    BackupStart(Start),
    BackupStop {},
    BackupStatus {},
    BackupRate {
        rate: u64,
    },
    #[serde(untagged)]
    Slots(OfSlots),
}

/// What is asked of slots and cores.
#[derive(Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
enum OfSlots {
    Shards {},
    Cores {},
    ExplainSlot { slot: u16 },
    MoveSlot { slot: u16, to: u16 },
    DrainCore { core: u16 },
    UndrainCore { core: u16 },
    PlanMoves {},
    ApplyPlan { plan: String, rate: Option<f64> },
    Rebalance {},
    PauseMoves {},
    ResumeMoves {},
    RateOfMoves { rate: f64 },
    CancelMoves {},
}

/// Who knows how the node is.
pub trait Node: Send + Sync + 'static {
    /// What [`crate::facts::Facts`] says.
    fn facts(&self) -> Value;

    /// What can be done to it.
    fn operations(&self) -> &Operations;

    /// Which messages are followed.
    fn tracing(&self) -> &Traces;

    /// Who tells devices that sleep, if somebody does.
    fn pushes(&self) -> Option<&Pushes>;

    /// Which core has which slot.
    fn balance(&self) -> &Balance;

    /// Its store's backups, if it makes any.
    fn backups(&self) -> Option<&Backups>;

    /// What operators have done.
    fn audit(&self) -> &Audit;

    /// The time, in ms since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// What the socket's thread knows.
struct Admin {
    control: Arc<dyn Control>,
    node: Arc<dyn Node>,
    may_provision: bool,
    /// Somebody follows messages.
    tracing: AtomicBool,
}

/// Opens the socket, and answers on it until the process ends.
pub fn start(
    path: &Path,
    control: Arc<dyn Control>,
    node: Arc<dyn Node>,
    may_provision: bool,
) -> std::io::Result<()> {
    remove_dead_socket(path)?;
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let admin = Arc::new(Admin { control, node, may_provision, tracing: AtomicBool::new(false) });
    let serving = Arc::new(AtomicUsize::new(0));
    threads::spawn("tern-admin", move || {
        loop {
            match listener.accept() {
                // Closed at once, so that its tool says so.
                Ok(_) if serving.load(Ordering::Acquire) >= OPERATORS_MAX => {}
                Ok((connection, _)) => serve_aside(connection, admin.clone(), serving.clone()),
                // Without descriptors, say: it is tried again when some may be free.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    })?;
    Ok(())
}

/// Removes the socket of a process that has ended, and nothing else.
fn remove_dead_socket(path: &Path) -> std::io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found?.file_type(),
    };
    let other = |what: &str| {
        let why =
            format!("{} is {what}: move it away, or name another path with --admin-socket", path.display());
        Err(std::io::Error::other(why))
    };
    if !kind.is_socket() {
        return other("there already, and no socket");
    }
    if UnixStream::connect(path).is_ok() {
        return other("another running program's socket");
    }
    std::fs::remove_file(path)
}

/// An operator's tool that stalls must not keep another from asking.
fn serve_aside(connection: UnixStream, admin: Arc<Admin>, serving: Arc<AtomicUsize>) {
    serving.fetch_add(1, Ordering::AcqRel);
    let count = serving.clone();
    let started = threads::spawn_ending("tern-operator", move || {
        // A tool that goes away has no answer.
        let _ = admin.serve(&connection);
        count.fetch_sub(1, Ordering::AcqRel);
        true
    });
    if started.is_err() {
        serving.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Removes the socket's file at the end of the process.
#[derive(Debug)]
pub struct SocketFile(pub PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn refused(why: impl std::fmt::Display) -> Value {
    json!({ "error": why.to_string() })
}

impl Admin {
    fn serve(&self, mut connection: &UnixStream) -> std::io::Result<()> {
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        let mut line = String::new();
        BufReader::new(connection.take(LINE_BYTES_MAX)).read_line(&mut line)?;
        let operator = rustix::net::sockopt::socket_peercred(connection)
            .map_or_else(|_| "?".to_owned(), |peer| format!("uid {}, pid {}", peer.uid.as_raw(), peer.pid));
        match serde_json::from_str(&line) {
            Ok(Question::Provision { count, first, name }) => {
                tracing::info!(operator, count, "an operator makes test users");
                self.provision(connection, count, &first, &name)
            }
            Ok(Question::Deletions {}) => deletions::list(self, connection),
            Ok(Question::Reports { open }) => reports::list(self, connection, open),
            Ok(Question::Trace { every, seconds }) => self.trace(connection, every, seconds),
            Ok(question) => writeln!(connection, "{}", self.answer(&question, &operator)),
            Err(error) => writeln!(connection, "{}", refused(format_args!("not a question: {error}"))),
        }
    }

    fn answer(&self, question: &Question, operator: &str) -> Value {
        match question {
            Question::Status {} => self.status(),
            Question::Otp { phone } => {
                let answer = self.about(phone, AdminRequest::Code);
                tracing::info!(operator, "an operator looked at a phone's one-time code");
                answer
            }
            Question::ResetCodes { phone } => {
                let answer = self.about(phone, AdminRequest::ResetCodes);
                tracing::info!(operator, "an operator lifted a phone's limits of one-time codes");
                answer
            }
            Question::User { who } => {
                self.user(who).map_or_else(|error| error, |user| json!({ "ok": user_json(&user) }))
            }
            Question::DeleteUser { who } => self.delete_user(who, operator),
            Question::KeepUser { who } => deletions::keep(self, who, operator),
            Question::EndDevice { who, device } => self.end_device(who, *device, operator),
            Question::ResetLimits { who } => self.of_user(who, |user| {
                // Codes are limited by phone.
                let codes = self.about(&user.phone, AdminRequest::ResetCodes);
                let answer = self.ask_user(user, AdminRequest::ResetLimits(user.user));
                tracing::info!(operator, user = user.user.get(), "an operator reset the limits of a user");
                if codes.get("ok").is_some() { answer } else { codes }
            }),
            Question::Suspend { who, reason, for_ms } => self.suspend(who, reason, *for_ms, operator),
            Question::Free { who } => self.free(who, operator),
            Question::Report { id } => reports::show(self, id, operator),
            Question::ResolveReport { id, how, suspend, for_ms } => {
                reports::resolve(self, id, how, suspend.then_some(*for_ms), operator)
            }
            Question::Stats { days } => stats::stats(self, *days),
            Question::Push {} => self.pushes(),
            Question::Configuration {} => json!({ "ok": { "toml": self.node.operations().configuration() } }),
            Question::Reload {} => {
                tracing::info!(operator, "an operator has everything read again");
                let Reloaded { taken, failed, need_a_start } = self.node.operations().reload();
                json!({ "ok": { "taken": taken, "failed": failed, "need_a_start": need_a_start } })
            }
            Question::Drain {} => {
                tracing::info!(operator, "an operator drains the node");
                json!({ "ok": { "begun": self.node.operations().drain() } })
            }
            Question::Slots(question) => self.of_slots(question, operator),
            Question::BackupStart(_)
            | Question::BackupStop {}
            | Question::BackupStatus {}
            | Question::BackupRate { .. } => self.of_backups(question, operator),
            Question::Provision { .. }
            | Question::Trace { .. }
            | Question::Deletions {}
            | Question::Reports { .. } => {
                unreachable!("taken before")
            }
        }
    }

    fn pushes(&self) -> Value {
        let none = || json!({ "services": [], "web_push_key": "" });
        json!({ "ok": self.node.pushes().map_or_else(none, Pushes::to_json) })
    }

    /// A line for each of what any core reads by pages, then one with `done`.
    fn list<T>(
        &self,
        mut connection: &UnixStream,
        ask: impl Fn(Option<Key>) -> AdminRequest,
        of: impl Fn(AdminResponse) -> Option<Page<T>>,
        line: impl Fn(&T) -> Value,
    ) -> std::io::Result<()> {
        let (mut after, mut count) = (None, 0);
        loop {
            let (page, next) = match ask_page(&*self.control, ask(after), &of) {
                Ok(page) => page,
                Err(why) => return writeln!(connection, "{}", refused(why)),
            };
            for one in &page {
                count += 1;
                writeln!(connection, "{}", json!({ "ok": line(one) }))?;
            }
            if next.is_none() {
                return writeln!(connection, "{}", json!({ "ok": { "done": count } }));
            }
            after = next;
        }
    }

    fn delete_user(&self, who: &str, operator: &str) -> Value {
        self.of_user(who, |user| {
            // Afterwards nobody could say who it was; the phone is for no log.
            let answer = self.about(&user.phone, AdminRequest::DeleteUser);
            self.note(operator, "delete a user", &json!({ "user": user.user.get() }), &answer);
            answer
        })
    }

    fn free(&self, who: &str, operator: &str) -> Value {
        self.of_user(who, |user| {
            let answer = self.ask_user(user, AdminRequest::Free(user.user));
            self.note(operator, "free a user", &json!({ "user": user.user.get() }), &answer);
            answer
        })
    }

    fn suspend(&self, who: &str, reason: &str, for_ms: u64, operator: &str) -> Value {
        if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
            return refused("a reason is needed, of up to 256 bytes: who comes after you reads it");
        }
        self.of_user(who, |user| {
            let request = AdminRequest::Suspend(user.user, reason.to_owned(), for_ms);
            let answer = self.ask_user(user, request);
            let what = json!({ "user": user.user.get(), "reason": reason, "for_ms": for_ms });
            self.note(operator, "suspend a user", &what, &answer);
            answer
        })
    }

    /// Notes an act and what came of it.
    fn note(&self, operator: &str, act: &str, what: &Value, answer: &Value) {
        let outcome = answer["error"].as_str().unwrap_or("done");
        self.node.audit().note(operator, act, what, outcome);
    }

    fn end_device(&self, who: &str, device: u32, operator: &str) -> Value {
        self.of_user(who, |user| {
            let Some(id) = DeviceId::new(device) else { return refused("devices are counted from 1") };
            let answer = self.ask_user(user, AdminRequest::EndDevice(user.user, id));
            let ended = answer.get("ok").is_some();
            tracing::info!(
                operator,
                user = user.user.get(),
                device,
                ended,
                "an operator asked to end a device"
            );
            answer
        })
    }

    /// The user whom an operator means: by phone, or by id.
    fn user(&self, who: &str) -> Result<UserView, Value> {
        let nobody = || refused("there is no such account");
        let digits = who.strip_prefix('@').unwrap_or(who);
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let by_id = digits.parse().ok().filter(|_| is_number).and_then(UserId::new);
        let answer = match (Phone::parse(who), by_id) {
            (Some(phone), _) => self.control.ask(owner_of(&*self.control, &phone), AdminRequest::User(phone)),
            (None, Some(id)) => {
                self.control.ask(owner_of_user(&*self.control, id), AdminRequest::UserById(id))
            }
            (None, None) => {
                return Err(refused(
                    "that is neither a phone (a plus sign and 8 to 15 digits, E.164) nor a user's id (a number)",
                ));
            }
        };
        match answer {
            Ok(AdminResponse::User(user)) => user.ok_or_else(nobody),
            Ok(AdminResponse::Refused(why)) => Err(refused(why)),
            Ok(_) => Err(refused("the core answered something else")),
            Err(error) => Err(refused(error)),
        }
    }

    fn of_user(&self, who: &str, act: impl FnOnce(&UserView) -> Value) -> Value {
        self.user(who).map_or_else(|error| error, |user| act(&user))
    }

    fn ask_user(&self, user: &UserView, request: AdminRequest) -> Value {
        self.told(owner_of_user(&*self.control, user.user), request)
    }

    /// Follows messages for some seconds, or until the operator's tool has gone.
    fn trace(&self, mut connection: &UnixStream, every: u64, seconds: u64) -> std::io::Result<()> {
        let refusal = if !(1..=NUMBER_MAX).contains(&every) || !(1..=TRACE_SECONDS_MAX).contains(&seconds) {
            Some("what is to be followed is out of range: every from 1, seconds from 1 to 3600")
        } else if self.tracing.swap(true, Ordering::AcqRel) {
            Some("another operator follows messages now")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return writeln!(connection, "{}", refused(refusal));
        }
        let traces = self.node.tracing();
        let before = traces.follow(every);
        traces.take();
        traces.take_lost();
        let followed = (0..seconds).try_for_each(|_| {
            thread::sleep(Duration::from_secs(1));
            let (stations, lost) = (traces.take(), traces.take_lost());
            writeln!(connection, "{}", json!({ "ok": { "stations": stations, "lost": lost } }))
        });
        traces.follow(before);
        self.tracing.store(false, Ordering::Release);
        followed?;
        writeln!(connection, "{}", json!({ "ok": { "done": seconds } }))
    }

    /// What is asked of slots and cores.
    fn of_slots(&self, question: &OfSlots, operator: &str) -> Value {
        let balance = self.node.balance();
        let done = match question {
            OfSlots::Shards {} => Ok(balance.shards()),
            OfSlots::Cores {} => Ok(balance.cores()),
            OfSlots::ExplainSlot { slot } => balance.explain(*slot),
            OfSlots::MoveSlot { slot, to } => balance.move_slot(*slot, *to, operator),
            OfSlots::DrainCore { core } => balance.drain_core(*core, operator),
            OfSlots::UndrainCore { core } => balance.undrain_core(*core, operator),
            OfSlots::PlanMoves {} => Ok(balance.plan(operator)),
            OfSlots::ApplyPlan { plan, rate } => balance.apply(plan, *rate, operator),
            OfSlots::Rebalance {} => Ok(balance.status()),
            OfSlots::PauseMoves {} => balance.pause(operator),
            OfSlots::ResumeMoves {} => balance.resume(operator),
            OfSlots::RateOfMoves { rate } => balance.set_rate(*rate, operator),
            OfSlots::CancelMoves {} => balance.cancel(operator),
        };
        done.map_or_else(refused, |done| json!({ "ok": done }))
    }

    /// What is asked of the store's backups.
    fn of_backups(&self, question: &Question, operator: &str) -> Value {
        let Some(backups) = self.node.backups() else { return refused(backup::NONE) };
        let desk = Desk { backups, audit: self.node.audit() };
        let done = match question {
            Question::BackupStart(start) => desk.start(start, operator),
            Question::BackupStop {} => desk.stop(operator),
            Question::BackupRate { rate } => desk.set_rate(*rate, operator),
            _ => Ok(desk.status()),
        };
        done.map_or_else(refused, |done| json!({ "ok": done }))
    }

    fn status(&self) -> Value {
        let ask = |core| match self.control.ask(CoreId(core), AdminRequest::Status) {
            Ok(AdminResponse::Status(status)) => core_json(&status),
            Ok(_) | Err(_) => json!({ "core": core, "error": "no answer" }),
        };
        let cores: Vec<_> = (0..self.control.cores()).map(ask).collect();
        let (version, pid) = (tern_version::VERSION, std::process::id());
        json!({ "ok": { "version": version, "pid": pid, "cores": cores, "node": self.node.facts() } })
    }

    fn about(&self, phone: &str, ask: fn(Phone) -> AdminRequest) -> Value {
        let Some(phone) = Phone::parse(phone) else {
            return refused("that is no phone number: a plus sign and 8 to 15 digits (E.164)");
        };
        self.ask_owner(&phone, ask(phone.clone()))
    }

    fn ask_owner(&self, phone: &Phone, request: AdminRequest) -> Value {
        self.told(owner_of(&*self.control, phone), request)
    }

    fn told(&self, owner: CoreId, request: AdminRequest) -> Value {
        match self.control.ask(owner, request) {
            Ok(AdminResponse::Code(Some(code))) => json!({ "ok": {
                "code": code.code, "expires_ms": code.expires_ms, "attempts_left": code.attempts_left,
                "registration": code.registration,
            } }),
            Ok(AdminResponse::Code(None)) => refused("no one-time code is good for that phone now"),
            Ok(AdminResponse::CodesReset(requests)) => json!({ "ok": { "forgotten": requests } }),
            Ok(AdminResponse::User(Some(user))) => json!({ "ok": user_json(&user) }),
            Ok(AdminResponse::User(None) | AdminResponse::Deleted(false)) => {
                refused("no account has that phone")
            }
            Ok(AdminResponse::DeviceEnded(true)) => json!({ "ok": { "ended": true } }),
            Ok(AdminResponse::DeviceEnded(false)) => {
                refused("the account has no such device, or it has ended before")
            }
            Ok(AdminResponse::Suspended { user, until_ms }) => {
                json!({ "ok": { "user_id": user.get(), "until_ms": until_ms } })
            }
            Ok(AdminResponse::Freed(true)) => json!({ "ok": { "freed": true } }),
            Ok(AdminResponse::Freed(false)) => refused("the account is not suspended"),
            Ok(AdminResponse::Kept(true)) => json!({ "ok": { "kept": true } }),
            Ok(AdminResponse::Kept(false)) => refused("the account is not about to end"),
            Ok(AdminResponse::LimitsReset) => json!({ "ok": { "reset": true } }),
            Ok(AdminResponse::Deleted(true)) => json!({ "ok": { "deleted": true } }),
            Ok(AdminResponse::Provisioned(user)) => json!({ "ok": provisioned_json(&user) }),
            Ok(AdminResponse::Report(Some(report))) => json!({ "ok": reports::report_json(&report) }),
            Ok(AdminResponse::Report(None)) => refused("there is no such report"),
            Ok(AdminResponse::Refused(why)) => refused(why),
            Ok(
                AdminResponse::Status(_)
                | AdminResponse::Reports { .. }
                | AdminResponse::Ends { .. }
                | AdminResponse::Counts { .. }
                | AdminResponse::Upload(_)
                | AdminResponse::MediumGone(_)
                | AdminResponse::IsMedium(_),
            ) => refused("the core answered something else"),
            Err(error) => refused(error),
        }
    }

    fn provision(
        &self,
        mut connection: &UnixStream,
        count: u32,
        first: &str,
        name: &str,
    ) -> std::io::Result<()> {
        let refusal = if !self.may_provision {
            Some("test users are made in development mode, or when ternd was started with --allow-provision")
        } else if count == 0 || count > PROVISION_MAX {
            Some("the count is out of range: 1 to 10000000")
        } else if phone_after(first, count - 1).is_none() {
            Some("the first phone, or the last one counted from it, is no phone number (E.164)")
        } else if numbered(name, count - 1).is_none() {
            Some(
                "the name is too long with a number behind, or has characters that control or turn what follows",
            )
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return writeln!(connection, "{}", refused(refusal));
        }
        let mut made = 0;
        while made < count {
            let upto = count.min(made + PROVISION_CHUNK);
            let mut lines = String::new();
            for answer in self.provision_chunk(first, made..upto, name) {
                lines.push_str(&answer.to_string());
                lines.push('\n');
                if answer.get("error").is_some() {
                    return connection.write_all(lines.as_bytes());
                }
            }
            connection.write_all(lines.as_bytes())?;
            made = upto;
        }
        writeln!(connection, "{}", json!({ "ok": { "done": made } }))
    }

    /// Makes some users at once, so that they share group commits. The answers are in order.
    fn provision_chunk(&self, first: &str, numbers: std::ops::Range<u32>, name: &str) -> Vec<Value> {
        let count = numbers.len();
        let answers: Vec<_> = (0..count).map(|_| Mutex::new(Value::Null)).collect();
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..PROVISION_THREADS.min(count) {
                scope.spawn(|| {
                    while let index = next.fetch_add(1, Ordering::Relaxed)
                        && index < count
                    {
                        let number = numbers.start + index as u32;
                        let phone = phone_after(first, number).expect("the last one was checked");
                        let request = AdminRequest::Provision {
                            phone: phone.clone(),
                            name: numbered(name, number).expect("the longest one was checked"),
                        };
                        *answers[index].lock().expect("nobody panics with it") =
                            self.ask_owner(&phone, request);
                    }
                });
            }
        });
        answers.into_iter().map(|answer| answer.into_inner().expect("nobody panics with it")).collect()
    }
}

/// The phone `number` after `first`.
fn phone_after(first: &str, number: u32) -> Option<Phone> {
    let first = Phone::parse(first)?;
    let digits: u64 = first.digits().parse().ok()?;
    Phone::parse(&format!("+{}", digits.checked_add(number.into())?))
}

/// The name of a test user.
fn numbered(name: &str, number: u32) -> Option<Name> {
    Name::parse(&format!("{name} {number}"))
}

fn core_json(status: &CoreStatus) -> Value {
    json!({
        "core": status.core, "slots": status.slots, "connections": status.connections, "sessions": status.sessions,
        "logs": status.logs, "users": status.users, "commits_in_flight": status.commits_in_flight,
    })
}

fn user_json(user: &UserView) -> Value {
    let device = |device: &DeviceView| {
        json!({
            "device_id": device.device.get(), "name": device.name, "created_ms": device.created_ms,
            "seen_ms": device.seen_ms,
            "connected": device.connected, "revoked": device.revoked,
        })
    };
    let devices: Vec<_> = user.devices.iter().map(device).collect();
    let suspended = user.suspended.as_ref().map(|suspended| {
        json!({ "since_ms": suspended.since_ms, "until_ms": suspended.until_ms, "reason": suspended.why })
    });
    json!({
        "user_id": user.user.get(), "phone": user.phone, "name": user.name, "slot": user.slot, "core": user.core,
        "created_ms": user.created_ms, "ends_ms": user.ends_ms, "suspended": suspended, "devices": devices,
    })
}

fn provisioned_json(user: &Provisioned) -> Value {
    json!({
        "phone": user.phone.as_str(), "user_id": user.user.get(), "device_id": user.device.get(),
        "access_token": user.access_token, "access_expires_ms": user.access_expires_ms,
        "refresh_token": user.refresh_token, "refresh_expires_ms": user.refresh_expires_ms,
    })
}
