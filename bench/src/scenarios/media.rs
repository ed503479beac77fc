//! `media`: what uploads and downloads take, and what people who write to each other notice of them. Where nginx is on PATH, it does the
//! same with the same files, in the same run.

use std::io::{self, Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use tern_proto::v1::{self, Kind, client_frame::Request, server_frame::Message};
use tern_testkit::{Raw, TestUser, Tls};

use super::Load;
use super::others::{free_address, until_it_listens};
use crate::arguments;
use crate::latency::{Percentiles, table};
use crate::load::{Arrivals, Habits};
use crate::measure::{self, Memory};
use crate::progress;
use crate::target::{OwnArgs, Target};

/// Before texts are measured.
const WARMUP: Duration = Duration::from_secs(2);

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// People who write to each other, in each part.
const TALKING: usize = 40;

/// How often texts are measured without and with uploads beside them, in turns: disks have hours of their own.
const ROUNDS: usize = 3;

/// Bytes of a text.
const TEXT_BYTES: usize = 128;

/// What media begin with, and are taken for: a picture would not be so large.
const MP4: &[u8] = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41";

/// Bytes that a slow upload sends before it says no more.
const SLOW_BYTES: usize = 4 << 10;

#[derive(Clone, Debug, clap::Args)]
pub struct MediaArgs {
    #[command(flatten)]
    own: OwnArgs,
    /// Uploads at once
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    uploads: u32,
    /// Downloads at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    downloads: u32,
    /// Millions of bytes of a medium
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100))]
    megabytes: u64,
    /// Uploads that have begun and of which no more comes, for what each takes of memory
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=4_000))]
    slow: u32,
    /// Bytes of uploads a second beside which texts are measured; as the server has it, if this is not said
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=1 << 40))]
    bound: Option<u64>,
    /// Texts a second meanwhile
    #[arg(long, default_value_t = 1_000.0, value_parser = arguments::positive)]
    texts: f64,
    /// Seconds of each part
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Do not compare with nginx
    #[arg(long)]
    alone: bool,
    /// Repeats the schedule of the texts of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Way {
    mb_per_s: f64,
    cpu_ms_per_mb: f64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct MediaReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    errors: u64,
    uploads: u32,
    downloads: u32,
    megabytes: u64,
    up_mb_per_s: f64,
    down_mb_per_s: f64,
    /// Of up and down together.
    server_cpu_ms_per_mb: f64,
    up: Way,
    down: Way,
    /// The same by nginx, which takes a PUT and checks nothing; null: it was not there.
    nginx_up: Option<Way>,
    nginx_down: Option<Way>,
    /// The 99th percentile of acknowledgements, in ms: without media, and while uploads come as fast as the server lets them by itself. Of three
    /// rounds, those of the median one.
    text_ack_ms_before: f64,
    text_ack_ms_during: f64,
    /// Of each round.
    text_ack_ms_before_rounds: Vec<f64>,
    text_ack_ms_during_rounds: Vec<f64>,
    ack_before: Percentiles,
    ack_during: Percentiles,
    /// How fast they came then.
    bounded_mb_per_s: f64,
    /// The same while they come as fast as they can.
    ack_unbounded: Percentiles,
    slow: u32,
    /// The server's own and the kernel's, for each slow upload.
    bytes_per_slow_upload: Option<u64>,
    kernel_bytes_per_slow_upload: Option<u64>,
}

impl MediaReport {
    /// Whether all went well.
    pub fn is_correct(&self) -> bool {
        self.errors == 0
    }

    /// Lines for people.
    pub fn line(&self) -> String {
        let way = |name: &str, way: &Way| {
            format!("{name:<12}{:>8.0} MB/s{:>8.2} ms of CPU a MB\n", way.mb_per_s, way.cpu_ms_per_mb)
        };
        let mut text = way("up", &self.up) + &way("down", &self.down);
        for (name, nginx) in [("nginx up", self.nginx_up), ("nginx down", self.nginx_down)] {
            text += &nginx.map_or(String::new(), |nginx| way(name, &nginx));
        }
        if let (Some(own), Some(kernel)) = (self.bytes_per_slow_upload, self.kernel_bytes_per_slow_upload) {
            text += &format!("{} slow uploads: {own} bytes each, and {kernel} of the kernel\n", self.slow);
        }
        let ratio = self.text_ack_ms_during / self.text_ack_ms_before;
        let rows = [
            ("texts before", &self.ack_before),
            ("texts during", &self.ack_during),
            ("unbounded", &self.ack_unbounded),
        ];
        let mb = self.bounded_mb_per_s;
        text += &format!(
            "\n{}\ntexts' p99 during, at {mb:.0} MB/s, is {ratio:.1} times that before\n",
            table(&rows)
        );
        if self.errors > 0 {
            text += &format!("\n{} requests failed", self.errors);
        }
        text
    }
}

/// Runs it.
pub fn run(arguments: &MediaArgs) -> Result<MediaReport, String> {
    progress("texts, and uploads beside them that are bounded");
    let beside = beside(arguments)?;
    let (ack_before, ack_during) = (median(&beside.before), median(&beside.during));
    let p99s = |rounds: &[Percentiles]| rounds.iter().map(|round| round.p99).collect();
    let target = start(arguments, Some(0))?;
    let server = target.own().expect("it was just started");
    let ca = server.ca_file();
    let user = &target.users[0];
    let mut raw = Raw::logged_in(server, &user.token);
    let Some(Message::MediaPlace(place)) = raw.ask(Request::AboutMedia(v1::AboutMedia {})) else {
        return Err("the server takes no media".to_owned());
    };
    let web = Web::new(arguments, &ca, &target.users)?;
    let bytes = web.bytes.clone();
    let pid = target.pid().expect("it runs");
    let span = Duration::from_secs(arguments.seconds);
    progress("slow uploads");
    let slow = slow(arguments, &web, &place.url, &ca, pid)?;
    progress("texts, and uploads beside them");
    let mut ack_unbounded = None;
    let (up, failed_up) = busy(
        &[pid],
        arguments.uploads,
        &|_| web.upload(&place.url).map(drop),
        &mut |is_over| {
            ack_unbounded = Some(texts(arguments, &target, 0));
            is_over.store(true, Ordering::Release);
        },
        bytes.len(),
    );
    let ack_unbounded = ack_unbounded.expect("it was measured")?;
    progress("downloads");
    let link = link(&mut raw, &target.users, &web.upload(&place.url)?)?;
    let mut rest = |is_over: &AtomicBool| {
        thread::sleep(span);
        is_over.store(true, Ordering::Release);
    };
    let (down, failed_down) =
        busy(&[pid], arguments.downloads, &|_| web.download(&link), &mut rest, bytes.len());
    let (mut nginx_up, mut nginx_down, mut failed_there) = (None, None, 0);
    if let Some(nginx) = (!arguments.alone).then(|| Nginx::start(server.data_dir().as_path())).flatten() {
        progress("the same by nginx");
        let (way, failed) =
            busy(&nginx.workers(), arguments.uploads, &|_| web.put(&nginx.url), &mut rest, bytes.len());
        (nginx_up, failed_there) = (Some(way), failed);
        let url = format!("{}/0", nginx.url);
        let (way, failed) =
            busy(&nginx.workers(), arguments.downloads, &|_| web.download(&url), &mut rest, bytes.len());
        (nginx_down, failed_there) = (Some(way), failed_there + failed);
    }
    Ok(MediaReport {
        scenario: "media",
        seed: arguments.seed,
        seconds: span.as_secs_f64(),
        errors: failed_up + failed_down + failed_there,
        uploads: arguments.uploads,
        downloads: arguments.downloads,
        megabytes: arguments.megabytes,
        up_mb_per_s: up.mb_per_s,
        down_mb_per_s: down.mb_per_s,
        server_cpu_ms_per_mb: (up.cpu_ms_per_mb + down.cpu_ms_per_mb) / 2.0,
        up,
        down,
        nginx_up,
        nginx_down,
        text_ack_ms_before: ack_before.p99,
        text_ack_ms_during: ack_during.p99,
        text_ack_ms_before_rounds: p99s(&beside.before),
        text_ack_ms_during_rounds: p99s(&beside.during),
        ack_before,
        ack_during,
        bounded_mb_per_s: beside.mb_per_s,
        ack_unbounded,
        slow: arguments.slow,
        bytes_per_slow_upload: slow.map(|(own, _)| own),
        kernel_bytes_per_slow_upload: slow.map(|(_, kernel)| kernel),
    })
}

/// A server that takes uploads from here: of so many bytes a second, or as it does by itself.
fn start(arguments: &MediaArgs, bytes_per_s: Option<u64>) -> Result<Target, String> {
    let limits = ["uploads_per_hour_max=0", "uploaded_bytes_max=0", "media_unsent_ms=1000"];
    let more = ["media_removed_after_ms=1000", "media_round_ms=200", "media_idle_timeout_ms=600000"];
    let from_here = ["media_network_connections_max=0", "media_account_uploads_max=0"];
    let bound = bytes_per_s.map(|bytes| format!("media_upload_bytes_per_s={bytes}"));
    let limits = limits.into_iter().chain(more).chain(from_here).chain(bound.as_deref());
    let limits: Vec<&str> = limits.flat_map(|limit| ["--limit", limit]).collect();
    let talking = 2 * ROUNDS * TALKING;
    Target::start(&arguments.own, FIRST_TALKING as u32 + talking as u32, &limits)
}

/// Those who upload come before those who talk.
const FIRST_TALKING: usize = 100;

/// What people who write to each other notice of uploads that come as fast as the server lets them.
struct Beside {
    before: Vec<Percentiles>,
    during: Vec<Percentiles>,
    /// How fast they came, in all rounds.
    mb_per_s: f64,
}

/// That of the median 99th percentile.
fn median(rounds: &[Percentiles]) -> Percentiles {
    let mut rounds = rounds.to_vec();
    rounds.sort_by(|a, b| a.p99.total_cmp(&b.p99));
    rounds[rounds.len() / 2]
}

fn beside(arguments: &MediaArgs) -> Result<Beside, String> {
    let target = start(arguments, arguments.bound)?;
    let server = target.own().expect("it was just started");
    let mut raw = Raw::logged_in(server, &target.users[0].token);
    let Some(Message::MediaPlace(place)) = raw.ask(Request::AboutMedia(v1::AboutMedia {})) else {
        return Err("the server takes no media".to_owned());
    };
    let web = Web::new(arguments, &server.ca_file(), &target.users)?;
    let folder = server.data_dir().join("media");
    let (mut beside, mut bytes, mut span) =
        (Beside { before: Vec::new(), during: Vec::new(), mb_per_s: 0.0 }, 0, Duration::ZERO);
    for round in 0..ROUNDS {
        beside.before.push(texts(arguments, &target, 2 * round)?);
        let mut during = None;
        let (_, failed) = busy(
            &[target.pid().expect("it runs")],
            arguments.uploads,
            &|is_over| web.upload_until(&place.url, is_over).map(drop),
            &mut |is_over| {
                let (begun, before) = (Instant::now(), bytes_in(&folder));
                during = Some(texts(arguments, &target, 2 * round + 1));
                (bytes, span) = (bytes + bytes_in(&folder).saturating_sub(before), span + begun.elapsed());
                is_over.store(true, Ordering::Release);
            },
            web.bytes.len(),
        );
        if failed > 0 {
            return Err(format!("{failed} uploads failed"));
        }
        beside.during.push(during.expect("it was measured")?);
    }
    beside.mb_per_s = bytes as f64 / 1e6 / span.as_secs_f64();
    Ok(beside)
}

/// Bytes of the files in a folder, and in those in it. What goes meanwhile has none.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(of) if of.is_dir() => bytes_in(&entry.path()),
        of => of.map_or(0, |of| of.len()),
    });
    bytes.sum()
}

/// A film of so many bytes, as far as anybody looks.
fn medium(bytes: usize) -> Arc<Vec<u8>> {
    let mut medium = MP4.to_vec();
    let mut rng = fastrand::Rng::with_seed(7);
    // Something that no store makes smaller.
    let piece: Vec<u8> = (0..1 << 20).map(|_| rng.u8(..)).collect();
    while medium.len() < bytes {
        medium.extend_from_slice(&piece[..piece.len().min(bytes - medium.len())]);
    }
    Arc::new(medium)
}

/// Has people write to each other for a while, others each time, by its number: who has written begins with other numbers. Gives how long
/// acknowledgements took.
fn texts(arguments: &MediaArgs, target: &Target, time: usize) -> Result<Percentiles, String> {
    let first = FIRST_TALKING + time * TALKING;
    let measured = WARMUP..WARMUP + Duration::from_secs(arguments.seconds);
    let habits = Habits {
        rate: Some((arguments.texts, Arrivals::Poisson)),
        may_be_too_much: true,
        size: TEXT_BYTES,
        seed: arguments.seed,
        ..Habits::default()
    };
    let tally = Load {
        target,
        users: &target.users[first..first + TALKING],
        habits,
        threads: 1,
        measured: measured.clone(),
        interval: Duration::from_secs(1),
        sample_every: 0,
    }
    .run(&|traffic| traffic.go_on_until(measured.end))?;
    if !tally.is_correct() {
        return Err(format!("texts were lost, doubled or refused: {}", tally.wrong()));
    }
    Ok(Percentiles::of(&tally.ack.within(measured)))
}

/// Has so many threads do the same again and again while something else is done, which says when it is over. Gives how fast they were, by
/// what was done to its end, and how many of them failed.
fn busy(
    pids: &[u32],
    threads: u32,
    act: &(dyn Fn(&AtomicBool) -> Result<(), String> + Sync),
    meanwhile: &mut dyn FnMut(&AtomicBool),
    bytes: usize,
) -> (Way, u64) {
    let (done, failed, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let used = || pids.iter().map(|pid| measure::cpu_s(*pid)).sum::<f64>();
    let (begun, cpu) = (Instant::now(), used());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Whoever uploads is elsewhere: here they take what others leave.
                let _ = rustix::process::nice(19);
                while !is_over.load(Ordering::Acquire) {
                    match act(&is_over) {
                        // What was cut off at the end was to be.
                        Err(_) if is_over.load(Ordering::Acquire) => {}
                        Ok(()) => _ = done.fetch_add(1, Ordering::Relaxed),
                        Err(why) if failed.fetch_add(1, Ordering::Relaxed) == 0 => {
                            progress(&format!("a request failed, as others may: {why}"));
                        }
                        Err(_) => {}
                    }
                }
            });
        }
        meanwhile(&is_over);
    });
    // What was under way at the end was waited for.
    let mb = done.load(Ordering::Relaxed) as f64 * bytes as f64 / 1e6;
    let way = Way {
        mb_per_s: mb / begun.elapsed().as_secs_f64(),
        cpu_ms_per_mb: (used() - cpu) * 1000.0 / mb.max(1.0),
    };
    (way, failed.load(Ordering::Relaxed))
}

/// Whoever uploads and downloads.
struct Web {
    agent: ureq::Agent,
    /// Of those who upload, in turns.
    tokens: Vec<String>,
    bytes: Arc<Vec<u8>>,
}

fn agent(ca: &Path) -> Result<ureq::Agent, String> {
    let pem = std::fs::read(ca).map_err(|error| format!("{}: {error}", ca.display()))?;
    let certificate = ureq::tls::Certificate::from_pem(&pem).map_err(|error| error.to_string())?;
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::new_with_certs(&[certificate]))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    let config = ureq::Agent::config_builder().tls_config(tls).timeout_global(Some(REQUEST_TIMEOUT));
    Ok(ureq::Agent::new_with_config(config.build()))
}

fn text(error: ureq::Error) -> String {
    error.to_string()
}

/// Some bytes, until all is over.
struct Until<'a>(&'a [u8], &'a AtomicBool);

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.1.load(Ordering::Acquire) {
            return Err(io::Error::other("it is over"));
        }
        self.0.read(into)
    }
}

impl Web {
    /// Whoever uploads and downloads as this user.
    fn new(arguments: &MediaArgs, ca: &Path, users: &[TestUser]) -> Result<Self, String> {
        let bytes = medium((arguments.megabytes * 1_000_000) as usize);
        let tokens = users[..FIRST_TALKING].iter().map(|user| format!("Bearer {}", user.token));
        Ok(Self { agent: agent(ca)?, tokens: tokens.collect(), bytes })
    }

    /// Whose turn it is.
    fn token(&self) -> &str {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        &self.tokens[NEXT.fetch_add(1, Ordering::Relaxed) as usize % self.tokens.len()]
    }

    /// Uploads a medium. Gives its id.
    fn upload(&self, url: &str) -> Result<Vec<u8>, String> {
        self.upload_until(url, &AtomicBool::new(false))
    }

    /// The same, or until all is over.
    fn upload_until(&self, url: &str, is_over: &AtomicBool) -> Result<Vec<u8>, String> {
        let token = self.token();
        let path = self.begin(url, token)?;
        self.agent
            .patch(format!("{url}{path}"))
            .header("tus-resumable", "1.0.0")
            .header("authorization", token)
            .header("upload-offset", "0")
            .header("content-type", "application/offset+octet-stream")
            .header("content-length", self.bytes.len().to_string())
            .send(ureq::SendBody::from_reader(&mut Until(&self.bytes, is_over)))
            .map_err(text)?;
        let id = path.rsplit('/').next().and_then(|id| id.parse::<tern_wire::ids::MediaId>().ok());
        Ok(id.ok_or("an upload has no id")?.as_bytes().to_vec())
    }

    fn begin(&self, url: &str, token: &str) -> Result<String, String> {
        let begun = self
            .agent
            .post(format!("{url}/uploads"))
            .header("tus-resumable", "1.0.0")
            .header("authorization", token)
            .header("upload-length", self.bytes.len().to_string())
            .header("upload-metadata", "filetype dmlkZW8vbXA0")
            .send_empty()
            .map_err(text)?;
        let path = begun.headers().get("location").and_then(|path| path.to_str().ok());
        path.map(str::to_owned).ok_or("an upload has no place".to_owned())
    }

    /// Takes all of something.
    fn download(&self, url: &str) -> Result<(), String> {
        let answer = self.agent.get(url).call().map_err(text)?;
        let (mut body, mut piece, mut bytes) = (answer.into_body().into_reader(), vec![0; 256 << 10], 0);
        loop {
            match body.read(&mut piece).map_err(|error| error.to_string())? {
                0 => break,
                read => bytes += read,
            }
        }
        if bytes == self.bytes.len() { Ok(()) } else { Err(format!("{bytes} bytes came")) }
    }

    /// Puts the medium somewhere, under one of a hundred names.
    fn put(&self, url: &str) -> Result<(), String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        self.agent.put(format!("{url}/{name}")).send(&self.bytes[..]).map_err(text).map(drop)
    }
}

/// Sends somebody a medium. Gives a link to it.
fn link(raw: &mut Raw, users: &[TestUser], medium: &[u8]) -> Result<String, String> {
    let medium: bytes::Bytes = medium.to_vec().into();
    let (chat, kind, media) = (users[1].id, Kind::Media.into(), vec![medium.clone()]);
    let send = v1::Send { chat, client_id: 1, body: "film".into(), kind, media, ..v1::Send::default() };
    let seq = match raw.ask(Request::Send(send)) {
        Some(Message::Sent(sent)) => sent.seq,
        other => return Err(format!("a message with a medium is not sent: {other:?}")),
    };
    match raw.ask(Request::GetMedium(v1::GetMedium { chat, seq, medium })) {
        Some(Message::MediumLink(link)) => Ok(link.url),
        other => Err(format!("there is no link to a medium: {other:?}")),
    }
}

/// What uploads take of memory that have begun, and of which no more comes: the server's own bytes, and the kernel's, for each.
fn slow(
    arguments: &MediaArgs,
    web: &Web,
    url: &str,
    ca: &Path,
    pid: u32,
) -> Result<Option<(u64, u64)>, String> {
    let address: SocketAddr =
        url.trim_start_matches("https://").parse().map_err(|_| "no address of media")?;
    if arguments.slow == 0 {
        return Ok(None);
    }
    let tls = Tls::new(ca, &[b"http/1.1"]);
    let before = Memory::now(Some(pid));
    let mut open = Vec::new();
    for _ in 0..arguments.slow {
        let token = web.token();
        let path = web.begin(url, token)?;
        let mut connection = Raw::connect_with(address, &tls).map_err(|error| error.to_string())?;
        let head = format!(
            "PATCH {path} HTTP/1.1\r\nhost: {address}\r\ntus-resumable: 1.0.0\r\nauthorization: {}\r\nupload-offset: 0\r\n\
             content-type: application/offset+octet-stream\r\ncontent-length: {}\r\n\r\n",
            token,
            web.bytes.len(),
        );
        connection.send_bytes(head.as_bytes());
        connection.send_bytes(&web.bytes[..SLOW_BYTES]);
        open.push(connection);
    }
    let now = Memory::now(Some(pid));
    let each = |now: u64, before: u64| now.saturating_sub(before) / u64::from(arguments.slow);
    let own = each(now.user.unwrap_or_default(), before.user.unwrap_or_default());
    Ok(Some((own, each(now.kernel, before.kernel))))
}

/// An nginx that serves a folder, and takes files.
struct Nginx {
    master: Child,
    url: String,
    folder: PathBuf,
}

impl Nginx {
    /// With the certificate of a data directory, where also its files lie. `None`: there is none on PATH.
    fn start(data: &Path) -> Option<Self> {
        let folder = data.join("nginx");
        std::fs::create_dir_all(folder.join("files")).ok()?;
        let address = free_address().ok()?;
        let (at, keys) = (folder.display(), data.display());
        let config = format!(
            "daemon off; user root; worker_processes auto; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; client_max_body_size 200m; client_body_temp_path {at}/body; sendfile on;\n\
             proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             server {{ listen {address} ssl; ssl_certificate {keys}/cert.pem; ssl_certificate_key {keys}/key.pem;\n\
             ssl_protocols TLSv1.3; root {at}/files; location / {{ dav_methods PUT DELETE; }} }} }}\n"
        );
        let file = folder.join("nginx.conf");
        std::fs::File::create(&file).ok()?.write_all(config.as_bytes()).ok()?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let master = command.spawn().ok()?;
        let mut nginx = Self { master, url: format!("https://{address}"), folder };
        until_it_listens(&mut nginx.master, address).ok()?;
        Some(nginx)
    }

    /// Its workers.
    fn workers(&self) -> Vec<u32> {
        let master = self.master.id();
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.master.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.master.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
