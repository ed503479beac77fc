//! A server whose data was put back from a copy or set up anew, and a profile that was: nobody is told that something has
//! arrived which nobody has, and what is gone is shown.

mod live;
mod profiles;

use profiles::{Listener, Profile, copy, put_back, texts};
use tern_client::{Client, Error, Event, Events};
use tern_testkit::Ternd;

fn said(what: &str, from: u64, count: u64) -> Vec<(u64, String)> {
    (1..=count).map(|number| (from + number, format!("{what} {number}"))).collect()
}

async fn say(client: &Client, chat: u64, what: &str, count: u64) {
    for number in 1..=count {
        client.send(chat, format!("{what} {number}")).await.expect("durable");
    }
}

/// What is gone among events, each with its text.
fn gone(events: &[Event]) -> Vec<(u64, String)> {
    let gone = |event: &Event| match event {
        Event::Gone(message) => Some((message.seq, String::from_utf8(message.body.clone()).expect("text"))),
        _ => None,
    };
    events.iter().filter_map(gone).collect()
}

/// Takes what comes when the server's data was put back: five messages from seq 3 on are gone, and nothing else is new.
async fn five_are_gone(events: &mut Events, own: bool) {
    let taken = live::caught_up(events).await;
    assert!(taken.iter().any(|event| matches!(event, Event::Rewound { upto: ..=3, .. })), "{taken:?}");
    assert_eq!(gone(&taken), said("lost", 3, 5));
    let of_whom = |event: &Event| match event {
        Event::Gone(message) => message.own == own,
        _ => true,
    };
    assert!(taken.iter().all(of_whom), "{taken:?}");
    assert!(!taken.iter().any(|event| matches!(event, Event::Message(_))), "nothing is new: {taken:?}");
}

/// Ann says three things to Bob, who has them.
async fn three_are_said((ann, anns): (&Client, &mut Events), to_bob: u64, bobs: &mut Events) {
    say(ann, to_bob, "before", 3).await;
    assert_eq!(live::messages(bobs, 3).await, said("before", 0, 3));
    bobs.done();
    live::delivered(anns, 3).await;
}

/// G8, F5: the first five of six new messages were taken for known, and told as delivered.
#[tokio::test(flavor = "multi_thread")]
async fn live_clients_of_a_server_whose_data_was_put_back_take_its_word() {
    let mut server = Ternd::start(2);
    let copied = server.data_dir().with_file_name("copied");
    let (ann, mut anns) = live::join(&server, "+15550001", "").await;
    let (bob, mut bobs) = live::join(&server, "+15550002", "").await;
    let (to_ann, to_bob) = (bob.lookup_phone("+15550001").await, ann.lookup_phone("+15550002").await);
    let (to_ann, to_bob) = (to_ann.expect("found").user_id, to_bob.expect("found").user_id);
    three_are_said((&ann, &mut anns), to_bob, &mut bobs).await;

    tokio::task::block_in_place(|| {
        server.terminate();
        copy(&server.data_dir(), &copied);
        server.start_again();
    });
    live::caught_up(&mut anns).await;
    live::caught_up(&mut bobs).await;
    say(&ann, to_bob, "lost", 5).await;
    assert_eq!(live::messages(&mut bobs, 5).await, said("lost", 3, 5));
    bob.mark_read(to_ann, 8).await.expect("marked");
    bobs.done();
    live::delivered(&mut anns, 8).await;

    tokio::task::block_in_place(|| {
        server.terminate();
        put_back(&copied, &server.data_dir());
        server.start_again();
    });
    five_are_gone(&mut anns, true).await;
    five_are_gone(&mut bobs, false).await;
    assert_eq!(bob.gone(to_ann, 100).await.expect("read").len(), 5, "they are kept");
    assert_eq!(ann.gone(to_bob, 100).await.expect("read").len(), 5, "they are kept");

    // Nothing is delivered that Bob's application has not taken.
    say(&ann, to_bob, "after", 6).await;
    let page = ann.history(to_bob, 0, false, 0).await.expect("read");
    assert_eq!((page.head, page.delivered_upto), (9, 3));
    assert_eq!(live::messages(&mut bobs, 6).await, said("after", 3, 6));
    bobs.done();
    live::delivered(&mut anns, 9).await;
    let page = bob.history(to_ann, 0, false, 0).await.expect("read");
    assert_eq!(page.messages.len(), 9);
}

/// The same with a backup that was made while it served: there was a first point, and what came later was lost with the disk.
#[tokio::test(flavor = "multi_thread")]
async fn live_clients_of_a_server_that_was_restored_take_its_word_and_notice_nothing_else() {
    let mut server = Ternd::start(2);
    let backup = server.data_dir().with_file_name("backup");
    let (ann, mut anns) = live::join(&server, "+15550001", "").await;
    let (bob, mut bobs) = live::join(&server, "+15550002", "").await;
    let (carl, mut carls) = live::join(&server, "+15550003", "").await;
    let to_bob = ann.lookup_phone("+15550002").await.expect("found").user_id;
    three_are_said((&ann, &mut anns), to_bob, &mut bobs).await;
    tokio::task::block_in_place(|| {
        let started = server.admin(&serde_json::json!({ "ask": "backup_start", "dir": backup })).remove(0);
        assert!(started["ok"].is_object(), "{started}");
        server.backup_until(|status| status["base"].is_object() && status["copying"].is_null());
        server.admin(&serde_json::json!({ "ask": "backup_stop" }));
        server.backup_until(|status| status["phase"] == "off");
    });
    say(&ann, to_bob, "lost", 5).await;
    assert_eq!(live::messages(&mut bobs, 5).await, said("lost", 3, 5));
    bobs.done();
    live::delivered(&mut anns, 8).await;
    tokio::task::block_in_place(|| {
        server.terminate();
        server.restore(&backup, &[]);
        server.start_again();
    });
    five_are_gone(&mut anns, true).await;
    five_are_gone(&mut bobs, false).await;
    let taken = live::caught_up(&mut carls).await;
    let is_told =
        |event: &Event| matches!(event, Event::Message(_) | Event::Gone(_) | Event::SessionEnded(_));
    assert!(!taken.iter().any(is_told), "who was not ahead notices nothing: {taken:?}");
    say(&ann, to_bob, "after", 6).await;
    assert_eq!(live::messages(&mut bobs, 6).await, said("after", 3, 6));
    drop((bob, carl));
}

/// The same for people at a shell.
#[test]
fn profiles_of_a_server_whose_data_was_put_back_show_what_is_gone_and_miss_nothing() {
    let mut server = Ternd::start(2);
    let copied = server.data_dir().with_file_name("copied");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    let say = |what: &str, count: u64| {
        for number in 1..=count {
            ann.json(&["send", "+15550002", &format!("{what} {number}"), "--json"]);
        }
    };
    say("before", 3);
    assert_eq!(texts(&bob.json(&["listen", "--once", "--json"]), "message"), said("before", 0, 3));
    server.terminate();
    copy(&server.data_dir(), &copied);
    server.start_again();
    say("lost", 5);
    assert_eq!(texts(&bob.json(&["listen", "--once", "--json"]), "message"), said("lost", 3, 5));
    server.terminate();
    put_back(&copied, &server.data_dir());
    server.start_again();
    say("after", 6);
    let page = &ann.json(&["history", "+15550002", "--json"])[0];
    assert_eq!((&page["head"], &page["delivered_upto"]), (&9.into(), &3.into()));

    let events = bob.json(&["listen", "--once", "--json"]);
    assert_eq!(texts(&events, "message"), said("after", 3, 6));
    assert_eq!(texts(&events, "gone"), said("lost", 3, 5));
    assert!(events.iter().any(|event| event["event"] == "rewound" && event["upto"] == 3));
    assert!(texts(&bob.json(&["listen", "--once", "--json"]), "gone").is_empty(), "it is told once");
    let page = &bob.json(&["history", "+15550001", "--json"])[0];
    assert_eq!(page["gone"].as_array().map(Vec::len), Some(5));
    let shown = String::from_utf8(bob.run(&["history", "+15550001"]).stdout).expect("text");
    assert_eq!(shown.matches("✗ gone from the server").count(), 5, "{shown}");
    assert_eq!(shown.matches("after").count(), 6, "{shown}");

    let events = ann.json(&["listen", "--once", "--json"]);
    assert_eq!(texts(&events, "gone"), said("lost", 3, 5));
    let shown = String::from_utf8(ann.run(&["history", "+15550002"]).stdout).expect("text");
    assert_eq!(shown.matches("✗ lost by the server").count(), 5, "{shown}");
    assert_eq!(shown.matches("✓✓").count(), 9, "all that the server has, Bob has: {shown}");
    let page = &ann.json(&["history", "+15550002", "--json"])[0];
    assert_eq!((&page["head"], &page["delivered_upto"]), (&9.into(), &9.into()), "nothing was sent again");
}

/// F5: the profile kept its positions, and new messages up to there were dropped and told as delivered.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_set_up_anew_gets_nothing_of_the_old_one_and_loses_nothing_new() {
    let mut server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    let (carol, mut carols) = live::join(&server, "+15550003", "").await;
    let to_bob = carol.lookup_phone("+15550002").await.expect("found").user_id;
    tokio::task::block_in_place(|| {
        for number in 1..=5 {
            ann.json(&["send", "+15550002", &format!("old {number}"), "--json"]);
        }
        assert_eq!(texts(&bob.json(&["listen", "--once", "--json"]), "message").len(), 5);
        let mut listener = Listener::start(&bob);
        listener.until("caught_up");
        // All but the certificate, which the running clients know.
        server.terminate();
        std::fs::remove_dir_all(server.data_dir().join("store")).expect("removed");
        server.start_again();
        listener.until("other_store");
        assert_eq!(listener.child.wait().expect("it ends").code(), Some(5));
    });
    live::until(&mut carols, |event| matches!(event, Event::OtherStore).then_some(())).await;
    assert!(matches!(carol.send(to_bob, "hello?").await, Err(Error::Closed)));
    tokio::task::block_in_place(|| {
        for command in
            [&["send", "+15550002", "hello?"][..], &["history", "+15550002"], &["listen", "--once"]]
        {
            let refused = ann.refusal(command);
            assert!(refused.contains("is not the server that this profile was registered with"), "{refused}");
            assert!(refused.contains("--replace"), "it says what to do: {refused}");
        }
        let kept = &bob.json(&["history", "+15550001", "--local", "--json"])[0];
        assert_eq!(kept["messages"].as_array().map(Vec::len), Some(5), "what is kept is still shown");
        assert!(ann.refusal(&["register", "+15550001"]).contains("not, or no longer, this server"));
        let again = |name: &str, phone: &str| {
            Profile::register_with(&server, dir.path(), phone, name, &["--replace"]);
        };
        again("Ann", "+15550001");
        again("Bob", "+15550002");
        for number in 1..=6 {
            ann.json(&["send", "+15550002", &format!("new {number}"), "--json"]);
        }
        let page = &ann.json(&["history", "+15550002", "--json"])[0];
        assert_eq!((&page["head"], &page["delivered_upto"]), (&6.into(), &0.into()));
        assert_eq!(texts(&bob.json(&["listen", "--once", "--json"]), "message"), said("new", 0, 6));
    });
}

/// G11: it was told "sent" for a message that nobody got, or that its number was taken, and forgot it.
#[test]
fn a_profile_that_was_put_back_never_gets_sent_for_a_message_that_nobody_gets() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    let say = |text: &str| ann.json(&["send", "+15550002", text, "--json"])[0]["seq"].as_u64();
    assert_eq!(say("one"), Some(1));
    let copied = dir.path().join("copied");
    copy(&ann.dir, &copied);
    assert_eq!(say("ok"), Some(2));
    put_back(&copied, &ann.dir);
    assert_eq!(say("ok"), Some(3), "the same words are another message");
    put_back(&copied, &ann.dir);
    assert_eq!(say("something else"), Some(4));
    let events = bob.json(&["listen", "--once", "--json"]);
    let heard: Vec<_> = texts(&events, "message").into_iter().map(|(_, text)| text).collect();
    assert_eq!(heard, ["one", "ok", "ok", "something else"]);
}
