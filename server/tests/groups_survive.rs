//! Groups through a storm: connections are cut at random, the server is killed twice, people come and go, say things, edit, react and
//! delete. Then all devices have the same, which is what the group's entries say, nothing twice, and nothing that was not for them.
//!
//! `TERN_STORM_SECONDS=60` has it last a minute; `TERN_STORM_SEED=N` repeats the moments, as far as the machine's timing allows.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tern_client::{
    Client, Error, Event, Events, GroupChange, Kind, Message, NewGroup, Options, Registrar, State, Trust,
};
use tern_testkit::Ternd;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const PEOPLE: usize = 8;
const DEVICES_EACH: usize = 2;
const GROUPS: usize = 3;

/// How long anything may take after the storm.
const HANG: Duration = Duration::from_secs(90);

/// A way to the server on which connections last as long as they happen to, while there is a storm.
struct Way {
    address: SocketAddr,
    calm: Arc<AtomicBool>,
    cut: Arc<AtomicU64>,
}

impl Way {
    async fn to(server: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let (calm, cut) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let (is_calm, count) = (calm.clone(), cut.clone());
        tokio::spawn(async move {
            let mut rng = Rng::with_seed(seed);
            while let Ok((mut inward, _)) = listener.accept().await {
                let lasts = Duration::from_millis(rng.u64(50..4_000));
                let (is_calm, count) = (is_calm.clone(), count.clone());
                tokio::spawn(async move {
                    let Ok(mut outward) = TcpStream::connect(server).await else { return };
                    let mut both = std::pin::pin!(copy_bidirectional(&mut inward, &mut outward));
                    tokio::select! {
                        _ = &mut both => return,
                        () = sleep(lasts) => {}
                    }
                    if is_calm.load(Ordering::Acquire) {
                        let _ = both.await;
                    } else {
                        // What is on its way is lost.
                        count.fetch_add(1, Ordering::AcqRel);
                    }
                });
            }
        });
        Self { address, calm, cut }
    }
}

/// A device, which takes what comes.
struct Device {
    user: usize,
    client: Client,
    taken: tokio::task::JoinHandle<()>,
}

async fn device(server: &Ternd, way: &Way, user: usize) -> Device {
    let phone = format!("+1555200{user:04}");
    let options = Options::new(way.address.to_string(), Trust::CaFile(server.ca_file()), State::memory());
    let mut registrar = Registrar::connect(&options).await.expect("connected");
    registrar.register(&phone).await.expect("a code is sent");
    registrar.verify(&phone, &server.code_of(&phone), "Somebody", "test").await.expect("verified");
    registrar.close().await;
    let (client, events) = timeout(HANG, Client::start(options)).await.expect("no hang").expect("registered");
    Device { user, client, taken: tokio::spawn(take(events)) }
}

async fn take(mut events: Events) {
    while let Some(event) = events.next().await {
        assert!(
            !matches!(event, Event::SessionEnded(_) | Event::Gone(_) | Event::Rewound { .. }),
            "{event:?}"
        );
    }
}

/// What a device does until it is told to stop: what is refused has not happened.
async fn live(client: Client, groups: Vec<u64>, ids: Vec<u64>, stop: Arc<AtomicBool>, mut rng: Rng) -> u64 {
    let mut acknowledged = 0;
    let me = client.account().user_id;
    while !stop.load(Ordering::Acquire) {
        let group = groups[rng.usize(..groups.len())];
        let somebody = ids[rng.usize(..ids.len())];
        let newest = client.kept(group, 0, u32::MAX).await.expect("read");
        let some =
            |rng: &mut Rng| newest.get(rng.usize(..newest.len().max(1))).map_or(1, |message| message.seq);
        let done = match rng.u8(..20) {
            ..12 => {
                let text = format!("{me} {}", rng.u64(..));
                timeout(HANG, client.send(group, text)).await.expect("no hang")
            }
            12..14 => client.edit(group, some(&mut rng), format!("edited {}", rng.u64(..))).await,
            14..16 => client.react(group, some(&mut rng), "!").await,
            16 => client.delete(group, some(&mut rng)).await,
            17 => client.remove_member(group, somebody).await,
            _ => client.add_members(group, vec![somebody]).await,
        };
        match done {
            Ok(_) => acknowledged += 1,
            Err(Error::Refused { .. } | Error::TimedOut | Error::Offline { .. } | Error::Connection(_)) => {}
            Err(error) => panic!("{error}"),
        }
        sleep(Duration::from_millis(rng.u64(..30))).await;
    }
    acknowledged
}

/// All of a group, as one reads it who has always been in it.
async fn whole(client: &Client, group: u64) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    loop {
        let from = messages.last().map_or(0, |message| message.seq);
        let page = timeout(HANG, client.history(group, from, true, 0)).await.expect("no hang").expect("read");
        messages.extend(page.messages);
        if !page.more {
            return messages;
        }
    }
}

/// From where to where somebody has seen a group, each time that they were in it.
fn stays(entries: &[Message], user: u64) -> Vec<(u64, u64)> {
    let mut stays: Vec<(u64, u64)> = Vec::new();
    for entry in entries {
        let comes = match entry.change() {
            Some(GroupChange::Made(made)) => {
                entry.sender == user || made.members.iter().any(|member| member.get() == user)
            }
            Some(GroupChange::Added(users)) => users.iter().any(|member| member.get() == user),
            Some(GroupChange::Removed(removed)) if removed.get() == user => {
                stays.last_mut().expect("a member is removed").1 = entry.seq;
                false
            }
            _ => false,
        };
        if comes {
            stays.push((entry.seq, u64::MAX));
        }
    }
    stays
}

/// What counts of an entry: who said what, or that it was erased.
fn said(message: &Message) -> (u64, u64, Kind, Vec<u8>, bool) {
    let Message { seq, sender, kind, body, erased, .. } = message.clone();
    (seq, sender, kind, body, erased)
}

/// Whether a device has what it is to have of a group. `Err`: it lacks something yet; what it must not have is found at once.
async fn has_all(device: &Device, group: u64, entries: &[Message], user: u64) -> Result<(), String> {
    let stays = stays(entries, user);
    let kept = device.client.kept(group, 0, u32::MAX).await.expect("read");
    let seqs: BTreeSet<_> = kept.iter().map(|message| message.seq).collect();
    assert_eq!(seqs.len(), kept.len(), "nothing is there twice");
    let may_see = |seq: u64| stays.iter().any(|(from, upto)| (*from..=*upto).contains(&seq));
    if let Some(seq) = seqs.iter().find(|seq| !may_see(**seq)) {
        panic!("{user} has {seq} of {group}, and was in it {stays:?}");
    }
    // Of what is before the last time that it was there, a device may have missed what came while it was away.
    let Some((from, upto)) = stays.last().copied() else { return Ok(()) };
    for entry in entries.iter().filter(|entry| (from..=upto).contains(&entry.seq)) {
        let is = kept.iter().find(|kept| kept.seq == entry.seq).ok_or(format!("{} is missing", entry.seq))?;
        let erased_since = entry.erased && !is.erased && upto < u64::MAX;
        if said(is) != said(entry) && !erased_since {
            return Err(format!(
                "{} is {is:?}, erased {}: and {entry:?}, erased {}",
                entry.seq, is.erased, entry.erased
            ));
        }
    }
    Ok(())
}

async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut last = String::new();
    let done = timeout(HANG, async {
        loop {
            match check().await {
                Ok(done) => return done,
                Err(lacks) => last = lacks,
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    done.await.unwrap_or_else(|_| panic!("{what}: {last}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_the_same_on_all_devices_after_losses_and_two_kills() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (seed, seconds) = (
        number("TERN_STORM_SEED").unwrap_or_else(|| fastrand::u64(..)),
        number("TERN_STORM_SECONDS").unwrap_or(8),
    );
    println!("repeat with TERN_STORM_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut server = Ternd::start(4);
    let way = Way::to(server.address(), rng.u64(..)).await;
    let mut devices = Vec::new();
    for user in 0..PEOPLE {
        for _ in 0..DEVICES_EACH {
            devices.push(device(&server, &way, user).await);
        }
    }
    let ids: Vec<u64> =
        devices.iter().step_by(DEVICES_EACH).map(|device| device.client.account().user_id).collect();
    let mut groups = Vec::new();
    for group in 0..GROUPS {
        // Its maker, whom nobody removes, sees all of it.
        let members = ids.iter().copied().filter(|_| rng.bool()).collect();
        let made = NewGroup { name: format!("group {group}"), members, ..NewGroup::default() };
        groups.push(devices[group * DEVICES_EACH].client.create_group(made).await.expect("made").chat);
    }
    way.calm.store(false, Ordering::Release);
    let stop = Arc::new(AtomicBool::new(false));
    let living: Vec<_> = devices
        .iter()
        .map(|device| {
            let (client, groups, ids) = (device.client.clone(), groups.clone(), ids.clone());
            tokio::spawn(live(client, groups, ids, stop.clone(), rng.fork()))
        })
        .collect();
    for _ in 0..2 {
        sleep(Duration::from_millis(seconds * 1000 / 3)).await;
        tokio::task::block_in_place(|| server.kill_and_restart());
    }
    sleep(Duration::from_millis(seconds * 1000 / 3)).await;
    stop.store(true, Ordering::Release);
    way.calm.store(true, Ordering::Release);
    let mut acknowledged = 0;
    for living in living {
        acknowledged += timeout(HANG, living).await.expect("no hang").expect("no panic");
    }
    for device in &devices {
        until("what was kept is sent", async || {
            device.client.flush().await.map_err(|error| error.to_string())?;
            match device.client.unsent().await {
                Ok(0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    let cut = way.cut.load(Ordering::Acquire);
    println!("{acknowledged} acknowledged, {cut} connections cut");
    assert!(acknowledged > 100 && cut > 10, "there was hardly any storm");
    check(&devices, &groups, &ids).await;
    for device in devices {
        device.client.close().await;
        timeout(HANG, device.taken).await.expect("it ends").expect("no panic");
    }
}

async fn check(devices: &[Device], groups: &[u64], ids: &[u64]) {
    let mut unread: BTreeMap<(u64, u64), BTreeSet<u64>> = BTreeMap::new();
    for (number, group) in groups.iter().enumerate() {
        let entries = whole(&devices[number * DEVICES_EACH].client, *group).await;
        let seqs: Vec<_> = entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, (1..=entries.len() as u64).collect::<Vec<_>>(), "seqs are dense");
        let texts = entries.iter().filter(|entry| entry.kind == Kind::Text && !entry.erased);
        let bodies: BTreeSet<_> = texts.clone().map(|entry| &entry.body).collect();
        assert_eq!(bodies.len(), texts.count(), "nothing is said twice");
        for device in devices {
            let user = ids[device.user];
            until("a device has all", async || has_all(device, *group, &entries, user).await).await;
            let chats =
                until("a list", async || device.client.chats().await.map_err(|e| e.to_string())).await;
            let Some(chat) = chats.iter().find(|chat| chat.person.user_id == *group) else {
                assert!(stays(&entries, user).is_empty(), "{user} has no chat {group}");
                continue;
            };
            unread.entry((*group, user)).or_default().insert(chat.unread);
            let stays = stays(&entries, user);
            let (from, upto) = *stays.last().expect("it is listed");
            let counts = |entry: &&Message| {
                let seen = (from.max(chat.own_read_upto + 1)..=upto).contains(&entry.seq);
                seen && entry.sender != user && entry.kind.is_message()
            };
            let expected = if upto == u64::MAX { entries.iter().filter(counts).count() as u64 } else { 0 };
            assert_eq!(chat.unread, expected, "of {group} by {user}");
        }
    }
    assert!(unread.values().all(|counts| counts.len() == 1), "all devices count alike: {unread:?}");
}
