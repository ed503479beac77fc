//! A content filter before a real server of several cores: what it refuses is said to nobody, what it reports operators see, and what becomes
//! of messages while it hangs, lies, or is not there is as was chosen. Other chats do not wait for it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use prost::Message as _;
use serde_json::{Value, json};
use tern_proto::v1::{
    self, Kind, Reason, client_frame::Request, group_change::Change, private::What, server_frame::Message,
};
use tern_testkit::person::{Person, create, people, seq_of};
use tern_testkit::{Ternd, TerndOptions};

const PRIVATE: u64 = 1 << 43;

/// A filter that says of each text what its first word is: `foul` is refused, `odd` is reported, `held` waits to be let go, `nonsense` and
/// `broken` get no verdict; all else passes.
struct Judge {
    url: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    asked: Vec<Value>,
    authorizations: BTreeSet<String>,
    lets_go: bool,
}

impl Judge {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let url = format!("http://{}/look", listener.local_addr().expect("an address"));
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let kept = state.clone();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, state) = (socket.expect("accepted"), kept.clone());
                // A client that has given up ends its connection.
                thread::spawn(move || serve(socket, &state));
            }
        });
        Self { url, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().expect("no panic")
    }

    fn let_go(&self) {
        self.lock().lets_go = true;
        self.state.1.notify_all();
    }

    /// What it was asked about that begins with this, when it was asked so often.
    fn asked(&self, text: &str, times: usize) -> Vec<Value> {
        let mut state = self.lock();
        loop {
            let of_it = |asked: &&Value| asked["text"].as_str().is_some_and(|said| said.starts_with(text));
            let all: Vec<_> = state.asked.iter().filter(of_it).cloned().collect();
            if all.len() >= times {
                return all;
            }
            state = self.state.1.wait(state).expect("no panic");
        }
    }
}

fn serve(socket: TcpStream, (state, changed): &(Mutex<State>, Condvar)) -> Option<()> {
    let mut request = BufReader::new(socket);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while request.read_line(&mut line).ok()? > 2 {
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if lower.starts_with("authorization:") {
                state.lock().expect("no panic").authorizations.insert(line.trim().to_owned());
            }
            line.clear();
        }
        let mut body = vec![0; length];
        request.read_exact(&mut body).ok()?;
        if body.is_empty() {
            return None;
        }
        let asked: Value = serde_json::from_slice(&body).expect("JSON");
        let text = asked["text"].as_str().expect("a text").to_owned();
        let mut held = state.lock().expect("no panic");
        held.asked.push(asked);
        changed.notify_all();
        while text.starts_with("held") && !held.lets_go {
            held = changed.wait(held).expect("no panic");
        }
        drop(held);
        let (status, verdict) = match text.split(' ').next() {
            Some("foul") => ("200 OK", r#"{"verdict":"refuse"}"#),
            Some("odd") => ("200 OK", r#"{"verdict":"report","more":"of no interest"}"#),
            Some("nonsense") => ("200 OK", r#"{"verdict":"perhaps"}"#),
            Some("broken") => ("500 Internal Server Error", r#"{"verdict":"pass"}"#),
            Some("elsewhere") => ("307 Temporary Redirect\r\nLocation: /look", r#"{"verdict":"pass"}"#),
            _ => ("200 OK", r#"{"verdict":"pass"}"#),
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{verdict}", verdict.len());
        request.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

fn filtered(url: &str, flags: &[&str]) -> Ternd {
    let first = ["--filter-webhook", url, "--log", "debug", "--limit", "sends_per_minute_max=0"];
    let arguments = first.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
    let environment = vec![("TERN_FILTER_AUTHORIZATION".to_owned(), "Bearer open-sesame".to_owned())];
    Ternd::start_with(TerndOptions { cores: 3, arguments, environment, ..TerndOptions::default() })
}

fn texts(person: &mut Person, chat: u64) -> Vec<String> {
    let entries = person.history(chat).entries.into_iter();
    entries.map(|entry| String::from_utf8_lossy(&entry.body).into_owned()).collect()
}

fn renamed(name: &str) -> Change {
    Change::Name(name.to_owned())
}

#[test]
fn what_the_filter_refuses_nobody_hears_and_what_it_reports_operators_see() {
    let judge = Judge::start();
    let server = filtered(&judge.url, &["--filter-when-down", "refuse", "--filter-timeout-ms", "10000"]);
    let [mut ann, mut bob] = people(&server);
    let (to_bob, from_ann) = (bob.user.id, ann.user.id);
    let first = ann.say(to_bob, "kind words");
    let reactions = [ann.sends(to_bob, Kind::Reaction, first, "👍".as_bytes())];
    assert_eq!(ann.may_not_send(to_bob, Kind::Text, 0, b"foul words"), Reason::Filtered);
    assert_eq!(ann.may_not_send(to_bob, Kind::Edit, first, b"foul edit"), Reason::Filtered);
    assert_eq!(ann.may_not_send(to_bob, Kind::Reaction, first, b"foul"), Reason::Filtered);
    let odd = ann.say(to_bob, "odd words");
    bob.hears(from_ann, odd);
    assert_eq!(texts(&mut bob, from_ann), ["kind words", "👍", "odd words"]);
    ann.say(ann.user.id, "foul, but a note to oneself");

    let make = create(ann.next_id(), "foul company", vec![to_bob], v1::GroupSettings::default());
    assert_eq!(ann.refused(make), Reason::Filtered);
    let group = ann.make("friends", vec![to_bob], v1::GroupSettings::default());
    assert_eq!(ann.may_not(group, renamed("foul friends")), Reason::Filtered);
    ann.changes(group, renamed("odd friends"));
    assert_eq!(bob.about(group).name, "odd friends");

    // What is sent later is looked at then.
    let send = v1::Send { chat: to_bob, body: "foul later".into(), ..v1::Send::default() };
    let scheduled = v1::Scheduled { at_ms: 1, send: Some(send) };
    let body = v1::Private { what: Some(What::Scheduled(scheduled)) }.encode_to_vec();
    let scheduled = ann.sends(PRIVATE, Kind::Private, 0, &body);
    let outcome = loop {
        let of_it = |entry: &&v1::Entry| entry.about == scheduled && entry.seq > scheduled;
        if let Some(entry) = ann.entries.get(&PRIVATE).and_then(|all| all.iter().find(of_it)) {
            break v1::Private::decode(&entry.body[..]).expect("a private entry").what;
        }
        assert!(matches!(ann.ask(Request::Ping(v1::Ping {})), Message::Pong(_)));
    };
    let Some(What::Dispatched(dispatched)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(dispatched.reason(), Reason::Filtered);
    assert_eq!(texts(&mut bob, from_ann).len(), 2 + reactions.len());

    let mut reports = server.admin(&json!({ "ask": "reports", "open": true }));
    assert_eq!(reports.pop().expect("it ends")["ok"]["done"], 2);
    let mut seen: Vec<_> = reports.iter().map(|report| show(&server, report, from_ann)).collect();
    seen.sort();
    assert_eq!(seen, [("group".to_owned(), group), ("text".to_owned(), 0)]);

    let asked = judge.asked("kind words", 1).remove(0);
    let id = asked["id"].as_str().expect("an id").to_owned();
    let expected = json!({ "id": id, "kind": "text", "chat_kind": "direct", "chat": to_bob, "sender": from_ann, "text": "kind words" });
    assert_eq!(asked, expected);
    let of_group = judge.asked("odd friends", 1).remove(0);
    assert_eq!((&of_group["chat_kind"], &of_group["chat"]), (&json!("group"), &json!(group)));
    let state = judge.lock();
    assert_eq!(state.authorizations.len(), 1, "{:?}", state.authorizations);
    let all = state.asked.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains("👍") && !all.contains("note to oneself"), "{all}");
    assert!(!all.contains(&ann.user.phone) && !all.contains(&bob.user.phone));
    let log = server.stderr();
    assert!(!log.contains("foul words") && !log.contains("odd words") && !log.contains("sesame"));
    let refused = ["words", "edit", "reaction", "company", "friends", "later"].len() as u64;
    assert_eq!(server.metric("tern_filter_refused_total"), refused);
    assert_eq!(server.metric("tern_filter_reported_total"), 2);
    assert_eq!(server.metric("tern_filter_seconds_count"), server.metric("tern_filter_asked_total"));
}

/// The kind of what was reported, and its group; it is the server's word of somebody.
fn show(server: &Ternd, listed: &Value, of: u64) -> (String, u64) {
    let report = server.admin(&json!({ "ask": "report", "id": listed["ok"]["id"] })).remove(0)["ok"].clone();
    assert_eq!((&report["category"], &report["user_id"]), (&json!("filtered"), &json!(of)), "{report}");
    let message = &report["messages"][0];
    (message["kind"].as_str().expect("a kind").to_owned(), report["group"].as_u64().unwrap_or_default())
}

#[test]
fn a_filter_that_hangs_holds_up_its_chat_in_order_and_no_other() {
    let judge = Judge::start();
    let mut server = filtered(&judge.url, &["--filter-when-down", "refuse", "--filter-timeout-ms", "10000"]);
    let [mut ann, mut bob, mut cyd] = people(&server);
    let (to_bob, to_cyd) = (bob.user.id, cyd.user.id);
    let held = ann.text(to_bob, "held back");
    let held_id = ann.raw.send(held.clone());
    let behind = ann.text(to_bob, "behind it");
    let behind_id = ann.raw.send(behind.clone());
    judge.asked("held", 1);
    assert_eq!(ann.say(to_cyd, "here it goes on"), 1, "by the same device");
    assert_eq!(cyd.say(to_bob, "and for others"), 1);
    // A process that ends meanwhile has said nothing of it.
    server.kill_and_restart();
    let mut again = Person::new(&server, ann.user.clone());
    assert_eq!(again.history(to_bob).head, 0);
    assert!(held_id < behind_id);
    let ids = [again.raw.send(held), again.raw.send(behind)];
    judge.asked("held", 2);
    judge.let_go();
    assert_eq!(ids.map(|id| seq_of(again.raw.response(id).expect("it is answered"))), [1, 2]);
    bob = Person::new(&server, bob.user.clone());
    assert_eq!(texts(&mut bob, ann.user.id), ["held back", "behind it"]);
    let ids: BTreeSet<_> = judge.asked("held", 2).iter().map(|asked| asked["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "a retry is known by its id");
}

#[test]
fn what_becomes_of_messages_without_a_verdict_is_as_was_chosen() {
    for passes in [true, false] {
        let judge = Judge::start();
        let when_down = if passes { "pass" } else { "refuse" };
        let server = filtered(&judge.url, &["--filter-when-down", when_down, "--filter-timeout-ms", "300"]);
        let [mut ann, bob] = people(&server);
        for (text, counter) in [
            ("held up", "tern_filter_timed_out_total"),
            ("nonsense", "tern_filter_failed_total"),
            ("broken", "tern_filter_failed_total"),
            ("elsewhere", "tern_filter_failed_total"),
        ] {
            let before = server.metric(counter);
            says_without_verdict(&mut ann, bob.user.id, text, passes);
            // The core may have given up a moment before it is counted.
            while server.metric(counter) == before {
                assert!(ann.raw.answers());
            }
            assert_eq!(server.metric(counter), before + 1, "{text}");
        }
        assert_eq!(server.metric("tern_filter_unasked_total"), 0);
        // The fifth failure in a row.
        says_without_verdict(&mut ann, bob.user.id, "broken", passes);
        server.said("the content filter is down");
        says_without_verdict(&mut ann, bob.user.id, "foul words", passes);
        assert!(server.metric("tern_filter_unasked_total") > 0);
        assert!(judge.lock().asked.iter().all(|asked| asked["text"] != "foul words"));
        // It is tried again by itself.
        while ann.raw.ask(Request::Ping(v1::Ping {})).is_some() {
            let send = ann.text(bob.user.id, "foul words");
            match ann.ask(send) {
                Message::Refused(refused) if refused.reason() == Reason::Filtered => break,
                Message::Refused(refused) => assert!(!passes && refused.reason() == Reason::Unavailable),
                Message::Sent(_) => assert!(passes),
                other => panic!("{other:?}"),
            }
        }
        server.said("the content filter answers again");
    }
}

fn says_without_verdict(person: &mut Person, chat: u64, text: &str, passes: bool) {
    let send = person.text(chat, text);
    match person.ask(send) {
        Message::Sent(_) => assert!(passes, "{text}"),
        Message::Refused(refused) => {
            assert_eq!((refused.reason(), passes), (Reason::Unavailable, false), "{text}");
            assert!(refused.retry_after_ms > 0, "it may be tried again");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_filter_that_was_never_there_is_down() {
    let server =
        filtered("http://127.0.0.1:1/", &["--filter-when-down", "refuse", "--filter-chats", "groups"]);
    let [mut ann, bob] = people(&server);
    assert_eq!(ann.say(bob.user.id, "not asked about"), 1);
    let make = create(ann.next_id(), "friends", vec![bob.user.id], v1::GroupSettings::default());
    assert_eq!(ann.refused(make), Reason::Unavailable);
    assert_eq!(server.metric("tern_filter_asked_total"), 1);
}
