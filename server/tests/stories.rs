//! Stories against a real server of several cores: those have them whom they are for, who has seen them is known but for who hides it, and
//! they end, with their media, when they are deleted and when their time has come; through kills.

mod people;

use std::collections::BTreeSet;

use people::{Person, join, next_message, until};
use prost::Message as _;
use tern_client::body::{Media, StoryText};
use tern_client::{
    Contact, Envelope, Error, Event, Kind, NewMessage, NewStory, Privacy, Reason, Story, StoryAudience,
    StoryId, StoryNews, Uploaded,
};
use tern_testkit::{Ternd, TerndOptions};

fn start(limits: &[&str]) -> Ternd {
    let arguments = limits.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]).collect();
    Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() })
}

/// People who know each other.
async fn friends<const N: usize>(server: &Ternd) -> [Person; N] {
    let mut friends = Vec::new();
    for number in 1..=N {
        friends.push(join(server, &format!("+1555000{number}"), "somebody").await);
    }
    let ids: Vec<_> = friends.iter().map(Person::id).collect();
    for person in &friends {
        for id in ids.iter().filter(|id| **id != person.id()) {
            know(person, *id, true).await;
        }
    }
    friends.try_into().ok().expect("as many as there are")
}

async fn know(person: &Person, user_id: u64, is_one: bool) {
    let contact = Contact { user_id, name: String::new(), is_one };
    person.client.set_contacts(&[contact]).await.expect("it is said");
}

fn text(said: &str, audience: StoryAudience) -> NewStory {
    let body = StoryText { text: said.to_owned(), background: 0x0011_2233, ..StoryText::default() };
    NewStory { kind: Kind::Text, body: body.encode_to_vec(), media: Vec::new(), audience }
}

fn with(uploaded: &Uploaded) -> NewStory {
    let body = Media { r#type: "image/png".to_owned(), bytes: uploaded.bytes, ..Media::default() };
    NewStory {
        kind: Kind::Media,
        body: body.encode_to_vec(),
        media: vec![uploaded.id],
        audience: StoryAudience::Contacts,
    }
}

async fn post(person: &Person, number: u64, story: &NewStory) {
    person.client.post_story(number, story).await.expect("it is posted");
}

/// All stories that somebody is shown. While there is no connection it is asked again.
async fn feed(person: &Person) -> Vec<Story> {
    let (mut stories, mut after) = (Vec::new(), None);
    loop {
        match person.client.stories(after, 2).await {
            Ok((more, next)) => {
                stories.extend(more);
                after = next;
            }
            Err(Error::Refused { reason, retry_after_ms: 0, .. }) => panic!("{reason:?}"),
            Err(_) => {
                stories.clear();
                after = None;
                tokio::task::yield_now().await;
                continue;
            }
        }
        if after.is_none() {
            return stories;
        }
    }
}

fn ids(stories: &[Story]) -> BTreeSet<(u64, u64)> {
    stories.iter().map(|story| (story.id.user_id, story.id.number)).collect()
}

/// Waits until somebody is shown these and no others.
async fn until_shown(person: &Person, expected: &[(u64, u64)]) -> Vec<Story> {
    let expected: BTreeSet<_> = expected.iter().copied().collect();
    loop {
        let stories = feed(person).await;
        if ids(&stories) == expected {
            return stories;
        }
        tokio::task::yield_now().await;
    }
}

async fn next_news(person: &mut Person) -> StoryNews {
    until(&mut person.events, |event| match event {
        Event::Story(news) => Some((**news).clone()),
        _ => None,
    })
    .await
}

fn refused(result: Result<impl std::fmt::Debug, Error>) -> Reason {
    match result {
        Err(Error::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

async fn upload(person: &Person) -> Uploaded {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cat.png");
    std::fs::write(&path, include_bytes!("../../preview/src/check.png")).expect("it is written");
    person.client.upload(&path, "image/png", |_| {}).await.expect("it is uploaded")
}

/// Waits until so many media lie where media lie.
async fn until_kept(server: &Ternd, media: usize) {
    let count = |folder: std::path::PathBuf| {
        let (mut folders, mut count) = (vec![folder], 0);
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                match path.extension() {
                    _ if path.is_dir() => folders.push(path),
                    None => count += 1,
                    Some(_) => {}
                }
            }
        }
        count
    };
    while count(server.data_dir().join("media/kept")) != media {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_story_is_had_by_those_whom_it_is_for_and_by_nobody_else() {
    let server = start(&[]);
    let [ann, mut bob, cyd, dan] = friends(&server).await;
    // Dan does not know Ann, and has no chat with her.
    know(&dan, ann.id(), false).await;
    let (a, b, c) = (ann.id(), bob.id(), cyd.id());
    post(&ann, 1, &text("for all", StoryAudience::Contacts)).await;
    match next_news(&mut bob).await {
        StoryNews::Posted(story) => {
            assert_eq!(story.id, StoryId { user_id: a, number: 1 });
            let said: StoryText = story.body_as().expect("a text");
            assert_eq!((said.text.as_str(), said.background), ("for all", 0x0011_2233));
        }
        other => panic!("{other:?}"),
    }
    post(&ann, 2, &text("but for Bob", StoryAudience::Except(vec![b]))).await;
    post(&ann, 3, &text("Bob alone", StoryAudience::Only(vec![b, dan.id()]))).await;
    until_shown(&bob, &[(a, 1), (a, 3)]).await;
    until_shown(&cyd, &[(a, 1), (a, 2)]).await;
    until_shown(&ann, &[(a, 1), (a, 2), (a, 3)]).await;
    assert!(feed(&dan).await.is_empty(), "he does not know her");
    // A chat is as good, for those whom a story for everyone is for.
    dan.client.send(a, "hello").await.expect("it is sent");
    post(&ann, 4, &text("everyone", StoryAudience::Everyone)).await;
    until_shown(&dan, &[(a, 4)]).await;
    until_shown(&cyd, &[(a, 1), (a, 2), (a, 4)]).await;
    // A retry is the same story, and another one under its number is none.
    let (first, again) = (text("once", StoryAudience::Contacts), text("twice", StoryAudience::Contacts));
    let posted = ann.client.post_story(5, &first).await.expect("it is posted");
    assert_eq!(ann.client.post_story(5, &first).await.expect("again"), posted);
    assert_eq!(refused(ann.client.post_story(5, &again).await), Reason::ClientIdReused);
    until_shown(&bob, &[(a, 1), (a, 3), (a, 4), (a, 5)]).await;
    // Whoever blocks sees none while they do, and whoever is blocked has none any more.
    bob.client.block(a, true).await.expect("blocked");
    assert!(feed(&bob).await.is_empty());
    bob.client.block(a, false).await.expect("not any more");
    until_shown(&bob, &[(a, 1), (a, 3), (a, 4), (a, 5)]).await;
    ann.client.block(c, true).await.expect("blocked");
    until_shown(&cyd, &[]).await;
    post(&ann, 6, &text("not for Cyd", StoryAudience::Everyone)).await;
    until_shown(&bob, &[(a, 1), (a, 3), (a, 4), (a, 5), (a, 6)]).await;
    assert!(feed(&cyd).await.is_empty());
    // Nobody learns of a story that they do not have.
    let hidden = StoryId { user_id: a, number: 2 };
    assert_eq!(refused(bob.client.see_story(hidden).await), Reason::NoSuchStory);
    assert_eq!(refused(bob.client.delete_story(1).await), Reason::NoSuchStory);
    assert_eq!(refused(bob.client.story_viewers(1, 0, 0).await), Reason::NoSuchStory);
}

#[tokio::test]
async fn who_has_seen_a_story_is_known_but_for_those_who_hide_it_and_ones_devices_agree() {
    let server = start(&[]);
    let [ann, bob, cyd] = friends(&server).await;
    let link = bob.client.new_link().await.expect("a link");
    let options = tern_client::Options::new(
        server.address().to_string(),
        tern_client::Trust::CaFile(server.ca_file()),
        tern_client::State::memory(),
    );
    let mut registrar = tern_client::Registrar::connect(&options).await.expect("connected");
    registrar.link(&link, "tablet").await.expect("it is linked");
    registrar.close().await;
    let mut tablet = Person::return_with(options).await;
    let (story, number) = (StoryId { user_id: ann.id(), number: 1 }, 1);
    post(&ann, number, &text("look", StoryAudience::Contacts)).await;
    for person in [&bob, &cyd, &tablet] {
        let shown = until_shown(person, &[(ann.id(), 1)]).await;
        assert!(!shown[0].seen && !shown[0].muted);
    }
    bob.client.see_story(story).await.expect("seen");
    while !matches!(next_news(&mut tablet).await, StoryNews::Seen(seen) if seen == story) {}
    assert!(feed(&tablet).await[0].seen, "all devices agree");
    let hides = Privacy { hides_reads: true, ..Privacy::default() };
    cyd.client.set_privacy(hides).await.expect("it is said");
    cyd.client.see_story(story).await.expect("seen");
    assert!(feed(&cyd).await[0].seen, "she knows it herself");
    let (viewers, next) = ann.client.story_viewers(number, 0, 0).await.expect("viewers");
    let viewers: Vec<_> = viewers.iter().map(|viewer| viewer.user_id).collect();
    assert_eq!((viewers, next), (vec![bob.id()], 0));
    // Whoever hides it themselves is not told of others.
    ann.client.set_privacy(hides).await.expect("it is said");
    assert!(ann.client.story_viewers(number, 0, 0).await.expect("viewers").0.is_empty());
    // It is muted on all devices, by what one's own devices are told.
    bob.client.mute_stories(ann.id(), true).await.expect("muted");
    assert!(feed(&tablet).await[0].muted);
    tablet.client.mute_stories(ann.id(), false).await.expect("not any more");
    assert!(!feed(&bob).await[0].muted);
}

#[tokio::test]
async fn a_reply_goes_into_the_chat_and_says_which_story_it_is_to() {
    let server = start(&[]);
    let [mut ann, bob] = friends(&server).await;
    post(&ann, 7, &text("look", StoryAudience::Contacts)).await;
    let story = StoryId { user_id: ann.id(), number: 7 };
    let envelope = Envelope { story: Some(story), ..Envelope::default() };
    let reply = |chat| NewMessage { envelope: envelope.clone(), ..NewMessage::text(chat, "nice") };
    let sent = bob.client.keep_message(reply(ann.id())).await.expect("kept").sent().await.expect("sent");
    let message = loop {
        // Her own devices are told of her contacts.
        let message = next_message(&mut ann.events).await;
        if message.chat == bob.id() {
            break message;
        }
    };
    assert_eq!((message.body.as_slice(), message.envelope.story), (&b"nice"[..], Some(story)));
    let other = bob.client.keep_message(reply(bob.id())).await.expect("kept").sent().await;
    assert_eq!(refused(other), Reason::InvalidArgument, "in the chat with whoever posted it alone");
    // It is kept with the message, here and there.
    let page = ann.client.history(bob.id(), 0, false, 10).await.expect("a page");
    let found = page.messages.iter().find(|message| message.seq == sent.seq).expect("it is there");
    assert_eq!(found.envelope.story, Some(story));
    let own = bob.client.kept(ann.id(), 0, 10).await.expect("it is kept");
    let own = own.iter().find(|message| message.seq == sent.seq).expect("it is there");
    assert_eq!(own.envelope.story, Some(story));
}

#[tokio::test]
async fn a_story_that_is_deleted_goes_from_everybody_with_its_medium_and_kills_lose_nothing() {
    let mut server = start(&["media_removed_after_ms=1000", "media_round_ms=100"]);
    let [ann, bob] = friends(&server).await;
    let (a, uploaded) = (ann.id(), upload(&ann).await);
    assert_eq!(refused(bob.client.post_story(1, &with(&uploaded)).await), Reason::NoSuchMedium);
    post(&ann, 1, &with(&uploaded)).await;
    post(&ann, 2, &text("stays", StoryAudience::Contacts)).await;
    // Whoever was not told yet is told by the process that comes.
    server.kill_and_restart();
    let shown = until_shown(&bob, &[(a, 1), (a, 2)]).await;
    let link = &shown.iter().find(|story| story.id.number == 1).expect("it is there").links[0].0;
    assert_eq!(status(&server, link), 200);
    until_shown(&ann, &[(a, 1), (a, 2)]).await;
    while ann.client.delete_story(1).await.is_err() {}
    server.kill_and_restart();
    until_shown(&bob, &[(a, 2)]).await;
    until_shown(&ann, &[(a, 2)]).await;
    until_kept(&server, 0).await;
    // A retry of what was posted does not bring it back.
    while ann.client.post_story(1, &with(&uploaded)).await.is_err() {}
    assert_eq!(ids(&feed(&bob).await), BTreeSet::from([(a, 2)]));
    assert_eq!(ids(&feed(&ann).await), BTreeSet::from([(a, 2)]));
}

/// The status of a download.
fn status(server: &Ternd, url: &str) -> u16 {
    let output = std::process::Command::new("curl")
        .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"])
        .arg(server.ca_file())
        .arg(url)
        .output();
    // Where curl is not there, the link is all that is looked at.
    output.map_or(200, |output| String::from_utf8_lossy(&output.stdout).parse().expect("a status"))
}

#[tokio::test]
async fn a_story_ends_by_the_clock_and_takes_its_medium_along() {
    let limits = ["story_valid_ms=3000", "media_removed_after_ms=1000", "media_round_ms=100"];
    let mut server = start(&limits);
    let [ann, bob] = friends(&server).await;
    let uploaded = upload(&ann).await;
    post(&ann, 1, &with(&uploaded)).await;
    // A kill in between loses nothing of what is due.
    server.kill_and_restart();
    until_shown(&bob, &[]).await;
    until_shown(&ann, &[]).await;
    until_kept(&server, 0).await;
}

#[tokio::test]
async fn when_an_account_ends_nobody_has_its_stories_any_more() {
    let server = start(&["media_removed_after_ms=1000", "media_round_ms=100", "deletion_round_ms=100"]);
    let [ann, bob, cyd] = friends(&server).await;
    let (uploaded, bobs) = (upload(&ann).await, (bob.id(), 1));
    post(&ann, 2, &with(&uploaded)).await;
    post(&bob, 1, &text("stays", StoryAudience::Contacts)).await;
    until_shown(&bob, &[bobs, (ann.id(), 2)]).await;
    until_shown(&cyd, &[bobs, (ann.id(), 2)]).await;
    ann.client.delete_account("").await.expect("it is to end");
    // It ends when it is kept no longer, which an operator may hasten: until then it is as it was.
    until_shown(&bob, &[bobs, (ann.id(), 2)]).await;
    let ended = std::process::Command::new(tern_testkit::program("ternctl"))
        .args(["--data-dir"])
        .arg(server.data_dir())
        .args(["user", "+15550001", "--delete", "--yes"])
        .output()
        .expect("ternctl runs");
    assert!(ended.status.success(), "{ended:?}");
    until_shown(&bob, &[bobs]).await;
    until_shown(&cyd, &[bobs]).await;
    until_kept(&server, 0).await;
}
