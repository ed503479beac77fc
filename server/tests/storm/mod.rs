//! People who talk while something befalls the server, and what must hold then: what was acknowledged is there, once and in order.
//!
//! `TERN_STORM_SEED=N` repeats the moments and the traffic of a run, as far as the machine's timing allows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::people::{self, Person};
use fastrand::Rng;
use tern_client::{Client, Event, Events, Message, Sent};
use tern_proto::v1::{self, client_frame, server_frame};
use tern_testkit::{Raw, Ternd, TerndOptions};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

const PEOPLE: usize = 20;
const TROUBLES: u32 = 10;
const STORM: Duration = Duration::from_secs(30);

/// How long anything may take after the storm.
const HANG: Duration = Duration::from_secs(90);

/// An acknowledged message.
#[derive(Clone, Debug)]
struct Acknowledged {
    from: u64,
    to: u64,
    body: String,
    sent: Sent,
}

/// What each person reads in each chat.
type Chats = HashMap<u64, HashMap<u64, Vec<Message>>>;

/// What one person has heard, by chat, in the order of arrival.
type Heard = BTreeMap<u64, Vec<Message>>;

fn seed() -> u64 {
    let seed = std::env::var("TERN_STORM_SEED").ok().and_then(|seed| seed.parse().ok());
    seed.unwrap_or_else(|| fastrand::u64(..))
}

/// One person's traffic: a message to somebody, and the next when it is acknowledged.
async fn talk(client: Client, others: Vec<u64>, stop: Arc<AtomicBool>, mut rng: Rng) -> Vec<Acknowledged> {
    let from = client.account().user_id;
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let to = others[rng.usize(..others.len())];
        let body = format!("{from} says {number}");
        let sent = timeout(HANG, client.send(to, body.as_str()))
            .await
            .expect("no hang")
            .expect("durable in the end");
        acknowledged.push(Acknowledged { from, to, body, sent });
        if rng.u8(..) < 8 {
            sleep(Duration::from_millis(rng.u64(..40))).await;
        }
    }
    acknowledged
}

/// Listens until every chat has come as far as `heads`, once that is known, says.
async fn listen(mut events: Events, mut heads: watch::Receiver<Option<HashMap<u64, u64>>>) -> Heard {
    let mut heard = Heard::new();
    loop {
        let complete = heads.borrow_and_update().as_ref().is_some_and(|heads| {
            heads.iter().all(|(chat, head)| heard.get(chat).map_or(0, Vec::len) as u64 >= *head)
        });
        if complete {
            return heard;
        }
        tokio::select! {
            event = events.next() => match event.expect("the client lives") {
                Event::Message(message) => heard.entry(message.chat).or_default().push(message),
                Event::SessionEnded(reason) => panic!("a session ended: {reason:?}"),
                _ => {}
            },
            changed = heads.changed() => changed.expect("the test lives"),
        }
    }
}

/// Reads a whole chat by pages.
async fn whole_chat(client: &Client, chat: u64) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        let from = messages.last().map_or(0, |message: &Message| message.seq);
        let page = timeout(HANG, client.history(chat, from, true, 0)).await.expect("no hang").expect("read");
        messages.extend(page.messages);
        if !page.more {
            return messages;
        }
    }
}

/// What befalls the server, for so long.
pub type Trouble<'a> = &'a mut (dyn FnMut(&mut Ternd, Duration) + Send);

/// Ten troubles at random moments of the storm, and quiet until its end.
async fn weather(server: &mut Ternd, rng: &mut Rng, trouble: Trouble<'_>) {
    let begin = Instant::now();
    let mut moments: Vec<_> = (0..TROUBLES).map(|_| STORM.mul_f64(rng.f64())).collect();
    moments.sort();
    for moment in moments {
        sleep_until(begin + moment).await;
        let lasts = Duration::from_millis(rng.u64(50..1500));
        tokio::task::block_in_place(|| trouble(server, lasts));
    }
    sleep_until(begin + STORM).await;
}

/// A storm of ten troubles over a server that is started like this.
pub async fn storm(options: TerndOptions, trouble: Trouble<'_>) {
    let seed = seed();
    println!("repeat with TERN_STORM_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut server = Ternd::start_with(options);
    let (mut clients, mut listeners) = (Vec::new(), Vec::new());
    for number in 0..PEOPLE {
        let phone = format!("+1555100{number:04}");
        let Person { client, events, .. } = people::join(&server, &phone, "Somebody").await;
        let (tell_heads, heads) = watch::channel(None);
        listeners.push((tell_heads, tokio::spawn(listen(events, heads))));
        clients.push(client);
    }
    let ids: Vec<u64> = clients.iter().map(|client| client.account().user_id).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let talk = |client: &Client| {
        let me = client.account().user_id;
        let others = ids.iter().copied().filter(|id| *id != me).collect();
        tokio::spawn(talk(client.clone(), others, stop.clone(), rng.fork()))
    };
    let talkers: Vec<_> = clients.iter().map(talk).collect();
    weather(&mut server, &mut rng, trouble).await;
    stop.store(true, Ordering::Release);
    let mut acknowledged = Vec::new();
    for talker in talkers {
        acknowledged.extend(timeout(HANG, talker).await.expect("no hang").expect("no panic"));
    }
    println!("{} messages acknowledged", acknowledged.len());
    assert!(acknowledged.len() > 20 * PEOPLE, "there was hardly any traffic");

    let chats = check_chats(&clients, &acknowledged).await;
    for ((tell_heads, listener), me) in listeners.into_iter().zip(&ids) {
        let heads = chats[me].iter().map(|(chat, messages)| (*chat, messages.len() as u64)).collect();
        tell_heads.send(Some(heads)).expect("the listener lives");
        for (chat, messages) in timeout(HANG, listener).await.expect("everything comes").expect("no panic") {
            assert_eq!(
                messages, chats[me][&chat],
                "{me} heard something else from {chat} than what was said"
            );
        }
    }
    tokio::task::block_in_place(|| retries_keep_their_seq(&server, &clients, &chats));
}

/// Both ends read the same, densely numbered, and every acknowledged message is there once.
async fn check_chats(clients: &[Client], acknowledged: &[Acknowledged]) -> Chats {
    let ids: Vec<u64> = clients.iter().map(|client| client.account().user_id).collect();
    let mut chats = Chats::new();
    for (client, me) in clients.iter().zip(&ids) {
        for chat in ids.iter().filter(|chat| *chat != me) {
            let messages = whole_chat(client, *chat).await;
            let seqs: Vec<_> = messages.iter().map(|message| message.seq).collect();
            assert_eq!(seqs, (1..=messages.len() as u64).collect::<Vec<_>>(), "seqs are dense");
            let bodies: HashSet<_> = messages.iter().map(|message| &message.body).collect();
            assert_eq!(bodies.len(), messages.len(), "nothing is there twice");
            assert!(messages.is_sorted_by_key(|message| message.time_ms), "time never falls in a chat");
            chats.entry(*me).or_default().insert(*chat, messages);
        }
    }
    for me in &ids {
        for (chat, mine) in &chats[me] {
            let said = |messages: &[Message]| -> Vec<_> {
                messages
                    .iter()
                    .map(|message| (message.seq, message.sender, message.time_ms, message.body.clone()))
                    .collect()
            };
            assert_eq!(said(mine), said(&chats[chat][me]), "both ends read the same");
        }
    }
    for Acknowledged { from, to, body, sent } in acknowledged {
        let message = chats[from][to].get(sent.seq as usize - 1);
        let message =
            message.unwrap_or_else(|| panic!("LOST: {body:?} was acknowledged with seq {}", sent.seq));
        assert_eq!((message.body.as_slice(), message.time_ms), (body.as_bytes(), sent.time_ms), "{body:?}");
    }
    let said: usize = chats.values().flat_map(HashMap::values).map(Vec::len).sum::<usize>() / 2;
    assert_eq!(said, acknowledged.len(), "every message was acknowledged in the end, and no other is there");
    chats
}

/// Everybody sends their last messages once more, as a client does that has lost the acknowledgement.
fn retries_keep_their_seq(server: &Ternd, clients: &[Client], chats: &Chats) {
    for account in clients.iter().map(Client::account) {
        let mut raw = Raw::logged_in(server, account.access_token());
        for (chat, messages) in &chats[&account.user_id] {
            let history = v1::History { chat: *chat, from: 0, forwards: false, limit: 10 };
            let page = match raw.ask(client_frame::Request::History(history)) {
                Some(server_frame::Message::HistoryPage(page)) => page,
                other => panic!("History was answered by {other:?}"),
            };
            for entry in page.entries.into_iter().filter(|entry| entry.sender == account.user_id) {
                let v1::Entry { seq, time_ms, client_id, body, kind, .. } = entry;
                assert_eq!(body, messages[seq as usize - 1].body);
                match raw.ask(client_frame::Request::Send(v1::Send {
                    chat: *chat,
                    client_id,
                    body,
                    kind,
                    ..Default::default()
                })) {
                    Some(server_frame::Message::Sent(sent)) => {
                        assert_eq!((sent.seq, sent.time_ms), (seq, time_ms), "a retry keeps its seq");
                    }
                    other => panic!("a retry was answered by {other:?}"),
                }
            }
        }
    }
}
