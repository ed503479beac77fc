//! What people tell the operators of others, against a real server of several cores: it has what the reporter saw and nothing that
//! anybody could forge, it is there once, whatever is killed, and whoever is reported learns nothing.

use prost::Message as _;
use serde_json::{Value, json};
use tern_proto::v1::{
    self, Category, Kind, Reason, client_frame::Request, group_change::Change, private::What,
    server_frame::Message,
};
use tern_testkit::person::{Person, people};
use tern_testkit::{Raw, Ternd, TerndOptions};

const PRIVATE: u64 = 1 << 43;

fn limited(limits: &[&str]) -> Ternd {
    let arguments = limits.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]).collect();
    Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() })
}

fn of_messages(client_id: u64, chat: u64, seqs: &[u64]) -> Request {
    let (seqs, category, comment) = (seqs.to_vec(), Category::Abuse.into(), "he shouts".to_owned());
    Request::Report(v1::Report { client_id, chat, seqs, category, comment, ..v1::Report::default() })
}

fn of_person(client_id: u64, user_id: u64) -> Request {
    let category = Category::Spam.into();
    Request::Report(v1::Report { client_id, user_id, category, ..v1::Report::default() })
}

fn reports(person: &mut Person, report: Request) {
    let answer = person.ask(report);
    assert!(matches!(answer, Message::Reported(_)), "{answer:?}");
}

fn list(server: &Ternd, open: bool) -> Vec<Value> {
    let mut lines = server.admin(&json!({ "ask": "reports", "open": open }));
    let last = lines.pop().expect("it ends");
    assert_eq!(last["ok"]["done"], lines.len(), "{last}");
    lines.into_iter().map(|line| line["ok"].clone()).collect()
}

fn ask(server: &Ternd, question: &Value) -> Value {
    server.admin(question).remove(0)
}

/// All that comes to somebody until an answer does.
fn hears_meanwhile(person: &mut Person) -> Vec<Message> {
    let id = person.raw.send(Request::Ping(v1::Ping {}));
    let mut heard = Vec::new();
    loop {
        let frame = person.raw.receive().expect("the connection stands");
        if frame.id == id {
            return heard;
        }
        heard.extend(frame.message);
    }
}

#[test]
fn operators_get_what_the_reporter_saw_once_and_who_is_reported_learns_nothing() {
    let mut server = limited(&[]);
    let [mut ann, mut bob, cyd] = people(&server);
    let group = ann.make("friends", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    let long = "x".repeat(5_000);
    let said: Vec<u64> = ["you fool", "no harm", &long].map(|text| bob.say(group, text)).into();
    ann.hears(group, said[2]);
    // Whatever is on its way has come by then: these receipts.
    ann.acknowledges(group, said[2], 0);
    hears_meanwhile(&mut bob);
    reports(&mut ann, of_messages(5, group, &[said[2], said[0]]));
    reports(&mut ann, of_messages(5, group, &[said[2], said[0]]));
    reports(&mut ann, of_person(6, bob.user.id));
    let heard = hears_meanwhile(&mut bob);
    assert!(heard.iter().all(|it| matches!(it, Message::Entry(_) | Message::Receipt(_))), "{heard:?}");
    server.kill_and_restart();
    let sent = ann.sent;
    ann = Person::new(&server, ann.user.clone());
    ann.sent = sent;
    reports(&mut ann, of_messages(5, group, &[said[2], said[0]]));
    let mut all = list(&server, true);
    all.sort_by_key(|report| report["messages"].as_u64());
    assert_eq!(all.len(), 2, "each once: {all:?}");
    let of_group = &all[1];
    let id = of_group["id"].as_str().expect("an id").to_owned();
    assert_eq!(id, format!("{}-{}-5", bob.user.id, ann.user.id));
    assert_eq!((&of_group["category"], &of_group["messages"]), (&"abuse".into(), &2.into()));
    assert_eq!((&all[0]["category"], &all[0]["messages"]), (&"spam".into(), &0.into()));

    let shown = ask(&server, &json!({ "ask": "report", "id": id }))["ok"].clone();
    assert_eq!((&shown["comment"], &shown["group"]), (&"he shouts".into(), &group.into()));
    let messages = shown["messages"].as_array().expect("messages");
    assert_eq!(
        messages.iter().map(|it| it["seq"].as_u64()).collect::<Vec<_>>(),
        [Some(said[0]), Some(said[2])]
    );
    assert_eq!((&messages[0]["text"], &messages[0]["kind"]), (&"you fool".into(), &"text".into()));
    assert_eq!((&messages[1]["text"], &messages[1]["bytes"]), (&long[..4_000].into(), &5_000.into()));

    // An operator is done with it, and the one who was reported is away for a while.
    let mut connection = Raw::logged_in(&server, &bob.user.token);
    let resolve = json!({ "ask": "resolve_report", "id": id, "how": "a day off", "suspend": true, "for_ms": 86_400_000 });
    let resolved = ask(&server, &resolve);
    assert_eq!(resolved["ok"]["resolved_as"], "a day off", "{resolved}");
    assert_eq!(connection.farewell().map(|bye| bye.reason()), Some(Reason::Suspended));
    let open: Vec<_> = list(&server, true).into_iter().map(|report| report["messages"].clone()).collect();
    assert_eq!(open, [json!(0)]);
    assert_eq!(list(&server, false).len(), 2);
    reports(&mut ann, of_messages(5, group, &[said[0]]));
    assert_eq!(list(&server, true).len(), 1, "a retry opens nothing again");
    for unknown in [format!("{}-{}-77", bob.user.id, ann.user.id), "nonsense".to_owned()] {
        assert!(ask(&server, &json!({ "ask": "report", "id": unknown })).get("error").is_some());
    }
    let audit = std::fs::read_to_string(server.data_dir().join("audit.jsonl")).expect("it is there");
    let acts = audit.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let acts: Vec<_> = acts.map(|act| act["act"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(acts, ["look at a report", "suspend a user", "resolve a report", "look at a report"]);
    assert!(!audit.contains("you fool") && !audit.contains("he shouts"), "{audit}");
}

#[test]
fn what_one_does_not_see_one_does_not_report() {
    let server = limited(&[]);
    let [mut ann, mut bob, mut cyd] = people(&server);
    let group = ann.make("friends", vec![bob.user.id], v1::GroupSettings::default());
    let bobs = bob.say(group, "hello");
    let own = ann.say(group, "hello too");
    let deleted = bob.say(group, "gone");
    bob.sends(group, Kind::Deletion, deleted, b"");
    let refused = |person: &mut Person, report: Request| person.refused(report);
    // Not in the group; and then not from the beginning.
    assert_eq!(refused(&mut cyd, of_messages(1, group, &[bobs])), Reason::UnknownGroup);
    ann.changes(group, Change::Added(v1::Members { user_ids: vec![cyd.user.id] }));
    assert_eq!(refused(&mut cyd, of_messages(1, group, &[bobs])), Reason::NoSuchMessage);
    assert_eq!(refused(&mut ann, of_messages(1, group, &[999])), Reason::NoSuchMessage);
    assert_eq!(
        refused(&mut ann, of_messages(1, group, &[1])),
        Reason::NoSuchMessage,
        "that it was made is none"
    );
    assert_eq!(refused(&mut ann, of_messages(1, group, &[deleted])), Reason::MessageDeleted);
    assert_eq!(refused(&mut ann, of_messages(1, group, &[own])), Reason::InvalidArgument);
    assert_eq!(refused(&mut ann, of_messages(1, group, &[bobs, own])), Reason::InvalidArgument);
    assert_eq!(
        refused(&mut ann, of_messages(1, bob.user.id, &[1])),
        Reason::NoSuchMessage,
        "they have no chat"
    );
    // What was withheld is not to be seen.
    let blocked = v1::Blocked { user_id: bob.user.id, off: false };
    let block = v1::Private { what: Some(What::Blocked(blocked)) }.encode_to_vec();
    ann.sends(PRIVATE, Kind::Private, 0, &block);
    let withheld = bob.say(ann.user.id, "hear me");
    assert_eq!(refused(&mut ann, of_messages(1, bob.user.id, &[withheld])), Reason::NoSuchMessage);
    // Nobody reports oneself, or nobody.
    let me = ann.user.id;
    assert_eq!(refused(&mut ann, of_person(1, me)), Reason::InvalidArgument);
    assert_eq!(refused(&mut ann, of_person(1, 12_345)), Reason::UnknownUser);
    let category = Category::SameText.into();
    let forged = v1::Report { client_id: 1, user_id: bob.user.id, category, ..v1::Report::default() };
    assert_eq!(refused(&mut ann, Request::Report(forged)), Reason::InvalidArgument);
    assert_eq!(list(&server, false), Vec::<Value>::new(), "nothing was noted");
    // What reads otherwise is reported as it was said, and how it reads now.
    let edit = bob.sends(group, Kind::Edit, bobs, b"you fool");
    ann.hears(group, edit);
    reports(&mut ann, of_messages(2, group, &[bobs, edit]));
    let id = list(&server, true)[0]["id"].clone();
    let shown = ask(&server, &json!({ "ask": "report", "id": id }))["ok"]["messages"].clone();
    let said: Vec<_> = shown.as_array().expect("messages").iter().map(|it| it["text"].clone()).collect();
    assert_eq!(said, ["hello", "you fool"]);
}

#[test]
fn reports_are_counted_by_account_and_removed_when_they_are_done_with() {
    let mut server = limited(&["reports_per_day_max=2", "reports_kept_ms=0"]);
    let [mut ann, bob, cyd] = people(&server);
    reports(&mut ann, of_person(1, bob.user.id));
    reports(&mut ann, of_person(2, cyd.user.id));
    let refused = ann.raw.refusal(of_person(3, bob.user.id));
    assert_eq!(refused.reason(), Reason::RateLimited);
    assert!((1..=43_200_000).contains(&refused.retry_after_ms), "one in twelve hours: {refused:?}");
    let mut again = Raw::logged_in(&server, &ann.user.token);
    assert_eq!(again.refusal(of_person(3, bob.user.id)).reason(), Reason::RateLimited);
    let id = format!("{}-{}-1", bob.user.id, ann.user.id);
    for how in ["", &"x".repeat(257)] {
        let resolved = ask(&server, &json!({ "ask": "resolve_report", "id": id, "how": how }));
        assert!(resolved["error"].as_str().is_some_and(|why| why.contains("what came of it")), "{resolved}");
    }
    let resolved = ask(&server, &json!({ "ask": "resolve_report", "id": id, "how": "nothing in it" }));
    assert!(resolved["ok"]["resolved_ms"].as_u64().is_some_and(|ms| ms > 0), "{resolved}");
    // The job comes by when a server starts, and each hour.
    server.kill_and_restart();
    while list(&server, false).len() > 1 {
        std::thread::yield_now();
    }
    let left = list(&server, false);
    assert_eq!(left[0]["user_id"], cyd.user.id, "what is open stays");
}
