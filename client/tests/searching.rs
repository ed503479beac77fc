//! What is found in what a profile has kept, against a real server: by the words that it says now, and not what nobody is to see.

mod live;
mod profiles;

use live::{join, messages, until};
use profiles::Profile;
use serde_json::json;
use tern_client::{Client, Event, Events, Kind, NewGroup, Private};
use tern_testkit::Ternd;

const ANN: &str = "+15550001";
const BOB: &str = "+15550002";

/// The texts of what is found.
async fn found(client: &Client, query: &str, chat: Option<u64>) -> Vec<String> {
    let found = client.search_kept(query, chat, None, 100).await.expect("searched");
    assert!(!found.more);
    found.messages.iter().map(|message| message.text().expect("it says something")).collect()
}

/// Waits until an entry of this kind has come.
async fn comes(events: &mut Events, kind: Kind) {
    until(events, |event| matches!(event, Event::Message(message) if message.kind == kind).then_some(()))
        .await;
}

/// Waits until somebody has said this.
async fn says(events: &mut Events, text: &str) {
    let is_it = |event: &Event| matches!(event, Event::Message(message) if message.body == text.as_bytes());
    until(events, |event| is_it(event).then_some(())).await;
}

#[tokio::test]
async fn a_message_is_found_by_its_words_in_one_chat_and_in_all_the_newest_first() {
    let server = Ternd::start(2);
    let (ann, _ann_events) = join(&server, ANN, "Ann").await;
    let (bob, mut events) = join(&server, BOB, "Bob").await;
    let (me, to_bob) = (ann.account().user_id, ann.lookup_phone(BOB).await.expect("found").user_id);
    for text in ["Meet me in Łódź?", "At the Ångström bar", "l'Homme de la gare"] {
        ann.send(to_bob, text).await.expect("sent");
    }
    let group = NewGroup { name: "friends".to_owned(), members: vec![to_bob], ..NewGroup::default() };
    let group = ann.create_group(group).await.expect("made").chat;
    ann.send(group, "The bar was full").await.expect("sent");
    says(&mut events, "The bar was full").await;
    let check = async |query: &str, chat: Option<u64>, expect: &[&str]| {
        assert_eq!(found(&bob, query, chat).await, expect, "{query:?} in {chat:?}");
    };
    check("bar", None, &["The bar was full", "At the Ångström bar"]).await;
    check("bar", Some(me), &["At the Ångström bar"]).await;
    check("bar", Some(group), &["The bar was full"]).await;
    check("angs", None, &["At the Ångström bar"]).await;
    check("angs ", None, &[]).await;
    check("ANGSTRÖM the", None, &["At the Ångström bar"]).await;
    check("łodz", None, &["Meet me in Łódź?"]).await;
    check("homme", None, &["l'Homme de la gare"]).await;
    check("bar gare", None, &[]).await;
    let refused = bob.search_kept("a", None, None, 10).await.expect_err("it is too short");
    assert!(refused.to_string().contains("2 letters or digits"), "{refused}");
}

#[tokio::test]
async fn pages_follow_each_other_without_holes_or_doubles() {
    const MESSAGES: usize = 100;
    let server = Ternd::start(2);
    let (ann, _ann_events) = join(&server, ANN, "Ann").await;
    let (bob, mut events) = join(&server, BOB, "Bob").await;
    let to_bob = ann.lookup_phone(BOB).await.expect("found").user_id;
    for number in 0..MESSAGES {
        ann.keep(to_bob, format!("number {number}")).await.expect("kept");
    }
    messages(&mut events, MESSAGES).await;
    for limit in [1, 7, 50, MESSAGES as u32] {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let page = bob.search_kept("numb", None, before, limit).await.expect("searched");
            before = page.messages.last().map(|last| (last.time_ms, last.chat, last.seq));
            all.extend(page.messages.iter().map(|message| message.seq));
            if !page.more {
                break;
            }
        }
        assert_eq!(all, (1..=MESSAGES as u64).rev().collect::<Vec<_>>(), "{limit} at once");
    }
}

#[tokio::test]
async fn what_nobody_is_to_see_any_more_is_not_found() {
    let server = Ternd::start(2);
    let (ann, _ann_events) = join(&server, ANN, "Ann").await;
    let (bob, mut events) = join(&server, BOB, "Bob").await;
    let (me, to_bob) = (ann.account().user_id, ann.lookup_phone(BOB).await.expect("found").user_id);
    let sent = ann.send(to_bob, "a walrus").await.expect("sent");
    ann.edit(to_bob, sent.seq, "a tortoise").await.expect("edited");
    comes(&mut events, Kind::Edit).await;
    assert_eq!(found(&bob, "tortoise", None).await, ["a tortoise"]);
    assert!(found(&bob, "walrus", None).await.is_empty(), "it says that no more");
    ann.delete(to_bob, sent.seq).await.expect("deleted");
    comes(&mut events, Kind::Deletion).await;
    assert!(found(&bob, "tortoise", None).await.is_empty(), "it is deleted for everyone");

    let sent = ann.send(to_bob, "a penguin").await.expect("sent");
    messages(&mut events, 1).await;
    assert_eq!(found(&bob, "penguin", None).await.len(), 1);
    bob.tell_own(&Private::Hidden(me, vec![sent.seq], 0)).await.expect("hidden");
    comes(&mut events, Kind::Private).await;
    assert!(found(&bob, "penguin", None).await.is_empty(), "it is hidden for oneself");

    ann.set_timer(to_bob, 1000).await.expect("set");
    ann.send(to_bob, "a mayfly").await.expect("sent");
    says(&mut events, "a mayfly").await;
    while !found(&bob, "mayfly", None).await.is_empty() {}

    ann.set_timer(to_bob, 0).await.expect("set");
    bob.block(me, true).await.expect("blocked");
    ann.send(to_bob, "a hornet").await.expect("sent");
    bob.block(me, false).await.expect("not blocked any more");
    ann.send(to_bob, "a hornbill").await.expect("sent");
    // What was withheld comes before what was not.
    comes(&mut events, Kind::Withheld).await;
    messages(&mut events, 1).await;
    assert_eq!(found(&bob, "horn", None).await, ["a hornbill"], "she was blocked when she said the other");
}

#[test]
fn a_profile_is_searched_without_a_server_and_nothing_is_left_of_what_was_deleted() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), ANN, "Ann");
    let bob = Profile::register(&server, dir.path(), BOB, "Bob");
    ann.json(&["send", BOB, "a xylophone\nand more", "--json"]);
    ann.json(&["send", BOB, "a zeppelin", "--json"]);
    bob.json(&["listen", "--once", "--json"]);
    let has = |word: &str| {
        let file = std::fs::read(bob.dir.join("tern.db")).expect("read");
        file.windows(word.len()).any(|window| window == word.as_bytes())
    };
    assert!(has("xylophone") && has("zeppelin"));
    ann.json(&["delete", BOB, "2", "--json"]);
    bob.json(&["listen", "--once", "--json"]);
    assert!(has("xylophone") && !has("zeppelin"), "not even in the index");
    drop(server);
    let found = bob.json(&["search", "xylo", "--in", ANN, "--json"]).remove(0);
    assert_eq!(
        (&found["found"][0]["text"], &found["more"]),
        (&json!("a xylophone\nand more"), &json!(false))
    );
    assert_eq!((&found["found"][0]["seq"], &found["found"][0]["own"]), (&json!(1), &json!(false)));
    let shown = String::from_utf8(bob.run(&["search", "a", "xylo"]).stdout).expect("text");
    assert!(shown.is_empty(), "{shown}");
    assert!(bob.refusal(&["search", "a", "xylo"]).contains("2 letters or digits"));
    let shown = String::from_utf8(bob.run(&["search", "more", "xylo"]).stdout).expect("text");
    assert!(shown.trim_end().ends_with(&format!("{ANN}  {ANN}: a xylophone and more")), "{shown}");
    let shown = String::from_utf8(bob.run(&["search", "zeppelin"]).stdout).expect("text");
    assert!(shown.starts_with("nothing"), "{shown}");
}

#[tokio::test]
async fn what_was_said_before_a_device_came_is_found_on_the_server() {
    let server = Ternd::start(2);
    let (ann, _ann_events) = join(&server, ANN, "Ann").await;
    let (bob, mut events) = join(&server, BOB, "Bob").await;
    let (me, to_bob) = (ann.account().user_id, ann.lookup_phone(BOB).await.expect("found").user_id);
    for number in 0..10 {
        ann.send(to_bob, format!("an old letter {number}")).await.expect("sent");
    }
    says(&mut events, "an old letter 9").await;
    let nothing = bob.search_server("letter", None, None, 0).await.expect("searched");
    assert_eq!(nothing.messages, [], "all of it is here");
    assert_eq!(nothing.next, None);
    // A device that has received nothing of it.
    let (later, _later_events) = live::register(&server, BOB, "Bob", false).await;
    let (mut texts, mut after) = (Vec::new(), None);
    loop {
        let page = later.search_server("letter", Some(me), after, 4).await.expect("searched");
        texts.extend(page.messages.iter().map(|message| message.text().expect("it says something")));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..10).rev().map(|number| format!("an old letter {number}")).collect();
    assert_eq!(texts, expected);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tablet = Profile::register(&server, dir.path(), BOB, "Bob");
    let found = &tablet.json(&["search", "--on-server", "-n", "7", "letter", "--json"])[0];
    let shown: Vec<_> = found["found"].as_array().expect("a list").iter().map(|one| &one["text"]).collect();
    assert_eq!(shown, expected.iter().take(7).collect::<Vec<_>>());
    assert_eq!(found["more"], true);
    let refused = later.search_server("a", None, None, 10).await.expect_err("it is too short");
    assert!(refused.to_string().contains("2 letters or digits"), "{refused}");
}
