//! Media against a real server of several cores: uploaded over HTTPS, had by those who see the message, cited and not copied, and gone when
//! nothing has them any more; through kills, and within limits.

mod people;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use people::{Person, join, next_message, pair, until};
use prost::Message as _;
use tern_client::body::Media;
use tern_client::{
    Audience, Contact, Envelope, Error, Event, Kind, Message, NewGroup, NewMessage, PICTURE, Privacy, Reason,
    Sent, Uploaded,
};
use tern_testkit::s3::{BUCKET, S3};
use tern_testkit::{Ternd, TerndOptions, python_is_there};

fn start(limits: &[&str]) -> Ternd {
    let arguments = limits.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]).collect();
    Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() })
}

/// A picture of so many bytes, as far as anybody looks, in a folder that is kept for the test.
fn picture(folder: &Path, name: &str, bytes: usize) -> PathBuf {
    // What is behind its end is nobody's concern.
    let mut picture = include_bytes!("../../preview/src/check.png").to_vec();
    picture.resize(bytes.max(picture.len()), name.len() as u8);
    let path = folder.join(name);
    std::fs::write(&path, picture).expect("it is written");
    path
}

async fn upload(person: &Person, file: &Path) -> Result<Uploaded, Error> {
    person.client.upload(file, "image/png", |_| {}).await
}

/// A message with a medium.
fn with(chat: u64, uploaded: &Uploaded) -> NewMessage {
    let body = Media {
        r#type: "image/png".to_owned(),
        bytes: uploaded.bytes,
        sha256: uploaded.sha256.to_vec().into(),
        ..Media::default()
    };
    let envelope = Envelope { media: vec![uploaded.id], ..Envelope::default() };
    NewMessage { chat, kind: Kind::Media, body: body.encode_to_vec(), envelope, key: None }
}

async fn send(person: &Person, message: NewMessage) -> Result<Sent, Error> {
    person.client.keep_message(message).await.expect("it is kept").sent().await
}

async fn delete(person: &Person, chat: u64, seq: u64) {
    let deletion =
        NewMessage { chat, kind: Kind::Deletion, envelope: Envelope::about(seq), ..NewMessage::default() };
    send(person, deletion).await.expect("it is deleted");
}

fn refused(result: Result<impl std::fmt::Debug, Error>) -> Reason {
    match result {
        Err(Error::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn status(result: Result<impl std::fmt::Debug, Error>) -> u16 {
    match result {
        Err(Error::Media { status, .. }) => status,
        other => panic!("{other:?}"),
    }
}

/// The files that lie where media lie, but for those that say what the others are.
fn kept(server: &Ternd) -> BTreeSet<String> {
    let mut folders = vec![server.data_dir().join("media/kept")];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                None => drop(found.insert(path.file_name().expect("a name").to_string_lossy().into_owned())),
                Some(_) => {}
            }
        }
    }
    found
}

async fn until_kept(server: &Ternd, expected: &[&Uploaded]) {
    let expected: BTreeSet<_> = expected.iter().map(|uploaded| uploaded.id.to_string()).collect();
    while kept(server) != expected {
        tokio::task::yield_now().await;
    }
}

async fn save(person: &Person, message: &Message, to: &Path) -> Result<Vec<u8>, Error> {
    let place = (message.chat, message.seq, message.envelope.media[0]);
    let sha256 = message.body_as::<Media>().and_then(|media| media.sha256[..].try_into().ok());
    person.client.save_medium(place, to, sha256, |_| {}).await?;
    let bytes = std::fs::read(to).expect("it is there");
    std::fs::remove_file(to).expect("it is removed");
    Ok(bytes)
}

#[tokio::test]
async fn a_medium_is_had_by_those_who_see_the_message_and_goes_with_the_last_that_has_it() {
    let server = start(&["media_removed_after_ms=1000", "media_round_ms=100"]);
    let folder = tempfile::tempdir().expect("a folder");
    let (ann, mut bob) = pair(&server).await;
    let mut cyd = join(&server, "+15550003", "Cyd").await;
    let file = picture(folder.path(), "cat.png", 300_000);
    let uploaded = upload(&ann, &file).await.expect("it is uploaded");
    assert_eq!(uploaded.bytes, 300_000);
    let sent = send(&ann, with(bob.id(), &uploaded)).await.expect("it is sent");
    let message = next_message(&mut bob.events).await;
    assert_eq!((message.kind, &message.envelope.media), (Kind::Media, &vec![uploaded.id]));
    let to = folder.path().join("got");
    assert_eq!(save(&bob, &message, &to).await.expect("saved"), std::fs::read(&file).expect("a file"));
    // Whoever does not see the message gets nothing, though they know all that there is to know of it.
    let by_cyd = cyd.client.medium_link(ann.id(), sent.seq, uploaded.id).await;
    assert_eq!(refused(by_cyd), Reason::NoSuchMessage);
    // What is sent on is cited: its bytes are there once, and stay when the first message goes.
    let forwarded = NewMessage {
        envelope: Envelope { forwards: 1, ..with(cyd.id(), &uploaded).envelope },
        ..with(cyd.id(), &uploaded)
    };
    send(&bob, forwarded).await.expect("it is sent on");
    let to_cyd = next_message(&mut cyd.events).await;
    let (url, _) = bob.client.medium_link(ann.id(), sent.seq, uploaded.id).await.expect("a link");
    delete(&ann, bob.id(), sent.seq).await;
    let gone = bob.client.medium_link(ann.id(), sent.seq, uploaded.id).await;
    assert_eq!(refused(gone), Reason::MessageDeleted);
    assert!(save(&cyd, &to_cyd, &to).await.is_ok(), "another message has it");
    until_kept(&server, &[&uploaded]).await;
    delete(&bob, cyd.id(), to_cyd.seq).await;
    until_kept(&server, &[]).await;
    // A link that somebody still has leads nowhere, and nobody can send it again.
    assert_eq!(curl(&server, &url), 404);
    assert_eq!(refused(send(&ann, with(bob.id(), &uploaded)).await), Reason::NoSuchMedium);
    assert_eq!(server.metric("tern_media_removed_total"), 1);
}

/// The status of a download.
fn curl(server: &Ternd, url: &str) -> u16 {
    let output = std::process::Command::new("curl")
        .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"])
        .arg(server.ca_file())
        .arg(url)
        .output();
    match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).parse().expect("a status"),
        // Where curl is not there, what it would have said is what all others say.
        Err(_) => 404,
    }
}

#[tokio::test]
async fn what_disappears_takes_its_medium_along_and_what_was_never_sent_goes_too() {
    let limits = ["media_removed_after_ms=1000", "media_round_ms=100", "media_unsent_ms=2000"];
    let server = start(&limits);
    let folder = tempfile::tempdir().expect("a folder");
    let (ann, mut bob) = pair(&server).await;
    let timer = tern_client::body::Timer { after_ms: 3_000 }.encode_to_vec();
    let timer = NewMessage { chat: bob.id(), kind: Kind::Timer, body: timer, ..NewMessage::default() };
    send(&ann, timer).await.expect("a timer");
    let unsent = upload(&ann, &picture(folder.path(), "unsent.png", 5_000)).await.expect("uploaded");
    let short = upload(&ann, &picture(folder.path(), "short.png", 5_000)).await.expect("uploaded");
    assert_ne!(unsent.id, short.id);
    send(&ann, with(bob.id(), &short)).await.expect("it is sent");
    let message = loop {
        let message = next_message(&mut bob.events).await;
        if message.kind == Kind::Media {
            break message;
        }
    };
    assert!(message.expires_ms > 0);
    until_kept(&server, &[]).await;
    let gone = bob.client.medium_link(message.chat, message.seq, short.id).await;
    assert_eq!(refused(gone), Reason::MessageDeleted);
    assert_eq!(refused(send(&ann, with(bob.id(), &unsent)).await), Reason::NoSuchMedium);
}

#[tokio::test]
async fn a_medium_that_was_scheduled_is_there_when_its_time_comes() {
    let limits = ["media_removed_after_ms=1000", "media_round_ms=100", "media_unsent_ms=1000"];
    let server = start(&limits);
    let folder = tempfile::tempdir().expect("a folder");
    let (ann, mut bob) = pair(&server).await;
    let uploaded = upload(&ann, &picture(folder.path(), "later.png", 9_000)).await.expect("uploaded");
    let now_ms = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64;
    // Longer than it would stay by itself.
    ann.client.schedule(now_ms + 4_000, with(bob.id(), &uploaded), 0).await.expect("it is scheduled");
    let message = next_message(&mut bob.events).await;
    assert_eq!(message.envelope.media, [uploaded.id]);
    let to = folder.path().join("got");
    assert_eq!(save(&bob, &message, &to).await.expect("saved").len(), 9_000);
}

#[tokio::test]
async fn what_was_sent_with_a_message_survives_a_kill() {
    let mut server = start(&["media_removed_after_ms=1000", "media_round_ms=100"]);
    let folder = tempfile::tempdir().expect("a folder");
    let (ann, mut bob) = pair(&server).await;
    let file = picture(folder.path(), "kept.png", 1_000_000);
    let uploaded = upload(&ann, &file).await.expect("uploaded");
    send(&ann, with(bob.id(), &uploaded)).await.expect("it is sent");
    let message = next_message(&mut bob.events).await;
    server.kill_and_restart();
    until(&mut bob.events, |event| matches!(event, Event::CaughtUp).then_some(())).await;
    let to = folder.path().join("got");
    assert_eq!(save(&bob, &message, &to).await.expect("saved"), std::fs::read(&file).expect("a file"));
}

/// Whether a link to a person's or a group's picture is given to somebody, or why not.
async fn link(to: &Person, chat: u64, medium: &Uploaded) -> Option<Reason> {
    match to.client.medium_link(chat, PICTURE, medium.id).await {
        Ok((url, until_ms)) => {
            assert!(url.contains(&medium.id.to_string()) && until_ms > 0, "{url}");
            None
        }
        result => Some(refused(result)),
    }
}

#[tokio::test]
async fn a_picture_of_a_person_is_had_by_those_who_may_see_it_and_goes_when_it_is_one_no_more() {
    let limits = ["media_removed_after_ms=1000", "media_round_ms=100", "media_unsent_ms=1000"];
    let mut server = start(&limits);
    let folder = tempfile::tempdir().expect("a folder");
    let (ann, mut bob) = pair(&server).await;
    let cyd = join(&server, "+15550003", "Cyd").await;
    let first = upload(&ann, &picture(folder.path(), "first.png", 5_000)).await.expect("uploaded");
    ann.client.set_picture(Some(first.id)).await.expect("it is hers");
    assert_eq!(ann.client.picture(ann.id()).await.expect("she looks"), Some(first.id));
    assert_eq!(link(&ann, tern_client::PRIVATE, &first).await, None, "she sees her own");
    bob.client.lookup_phone("+15550001").await.expect("he has her number");
    assert_eq!(bob.client.picture(ann.id()).await.expect("he looks"), Some(first.id));
    bob.client.picture_link(ann.id()).await.expect("a link").expect("to her picture");
    // It stays for longer than what nothing has, and whatever becomes of the process.
    let unsent = upload(&bob, &picture(folder.path(), "unsent.png", 6_000)).await.expect("uploaded");
    server.kill_and_restart();
    until(&mut bob.events, |event| matches!(event, Event::CaughtUp).then_some(())).await;
    until_kept(&server, &[&first]).await;
    assert_eq!(link(&bob, ann.id(), &unsent).await, Some(Reason::NoSuchMessage), "it never was");
    let to = folder.path().join("got");
    bob.client.save_medium((ann.id(), PICTURE, first.id), &to, None, |_| {}).await.expect("saved");
    assert_eq!(std::fs::read(&to).expect("it is there").len(), 5_000);
    // Whoever may not see it hears as much as of somebody who is not there.
    ann.client.block(cyd.id(), true).await.expect("blocked");
    assert_eq!(link(&cyd, ann.id(), &first).await, Some(Reason::NoSuchMessage));
    assert_eq!(link(&cyd, 77, &first).await, Some(Reason::NoSuchMessage));
    let contacts = Privacy { picture: Audience::Contacts, ..Privacy::default() };
    ann.client.set_privacy(contacts).await.expect("set");
    assert_eq!(link(&bob, ann.id(), &first).await, Some(Reason::NoSuchMessage));
    assert_eq!(bob.client.picture_link(ann.id()).await.expect("he looks"), None);
    let is_one = Contact { user_id: bob.id(), name: "Bob".to_owned(), is_one: true };
    ann.client.set_contacts(&[is_one]).await.expect("named");
    assert_eq!(link(&bob, ann.id(), &first).await, None, "a contact sees it");
    // Another one.
    let second = upload(&ann, &picture(folder.path(), "second.png", 7_000)).await.expect("uploaded");
    ann.client.set_picture(Some(second.id)).await.expect("it is hers");
    assert_eq!(link(&bob, ann.id(), &first).await, Some(Reason::NoSuchMessage));
    assert_eq!(link(&bob, ann.id(), &second).await, None);
    until_kept(&server, &[&second]).await;
    assert_eq!(refused(ann.client.set_picture(Some(first.id)).await), Reason::NoSuchMedium);
    // Somebody may have the same.
    bob.client.set_picture(Some(second.id)).await.expect("whoever knows its name has it");
    ann.client.set_picture(None).await.expect("none");
    assert_eq!(ann.client.picture_link(ann.id()).await.expect("she looks"), None);
    assert_eq!(link(&bob, ann.id(), &second).await, Some(Reason::NoSuchMessage));
    assert_eq!(link(&cyd, bob.id(), &second).await, None);
    // With the account it goes.
    let deleted = server.admin(&serde_json::json!({ "ask": "delete_user", "phone": "+15550002" }));
    assert_eq!(deleted[0]["ok"]["deleted"], true, "{deleted:?}");
    until_kept(&server, &[]).await;
}

#[tokio::test]
async fn a_picture_of_a_group_is_had_by_its_members_and_goes_when_it_is_one_no_more() {
    let limits = ["media_removed_after_ms=1000", "media_round_ms=100", "media_unsent_ms=1000"];
    let mut server = start(&limits);
    let folder = tempfile::tempdir().expect("a folder");
    let (ann, mut bob) = pair(&server).await;
    let cyd = join(&server, "+15550003", "Cyd").await;
    let first = upload(&ann, &picture(folder.path(), "first.png", 5_000)).await.expect("uploaded");
    let name = "sailors".to_owned();
    let none = NewGroup { name: name.clone(), picture: vec![7; 16], ..NewGroup::default() };
    assert_eq!(refused(ann.client.create_group(none).await), Reason::NoSuchMedium);
    let (members, named) = (vec![bob.id()], first.id.as_bytes().to_vec());
    let group = NewGroup { name, picture: named, members, ..NewGroup::default() };
    let group = ann.client.create_group(group).await.expect("it is made").chat;
    server.kill_and_restart();
    until(&mut bob.events, |event| matches!(event, Event::CaughtUp).then_some(())).await;
    let unsent = upload(&bob, &picture(folder.path(), "unsent.png", 6_000)).await.expect("uploaded");
    until_kept(&server, &[&first]).await;
    assert_eq!(bob.client.picture(group).await.expect("he looks"), Some(first.id));
    bob.client.picture_link(group).await.expect("a link").expect("to its picture");
    assert_eq!(link(&bob, group, &unsent).await, Some(Reason::NoSuchMessage));
    assert_eq!(link(&cyd, group, &first).await, Some(Reason::UnknownGroup));
    assert_eq!(refused(bob.client.set_group_picture(group, Some(unsent.id)).await), Reason::NoSuchMedium);
    let second = upload(&bob, &picture(folder.path(), "second.png", 7_000)).await.expect("uploaded");
    bob.client.set_group_picture(group, Some(second.id)).await.expect("another one");
    assert_eq!(link(&ann, group, &first).await, Some(Reason::NoSuchMessage));
    assert_eq!(link(&ann, group, &second).await, None);
    until_kept(&server, &[&second]).await;
    ann.client.remove_member(group, bob.id()).await.expect("he is removed");
    assert_eq!(link(&bob, group, &second).await, Some(Reason::NotAMember));
    ann.client.set_group_picture(group, None).await.expect("none");
    until_kept(&server, &[]).await;
}

#[tokio::test]
async fn uploads_are_bounded_by_number_by_bytes_and_by_who_it_is() {
    let server =
        start(&["uploads_per_hour_max=3", "uploaded_bytes_max=25000", "media_image_bytes_max=20000"]);
    let folder = tempfile::tempdir().expect("a folder");
    let (ann, bob) = pair(&server).await;
    let small = picture(folder.path(), "small.png", 10_000);
    let text = folder.path().join("page.png");
    std::fs::write(&text, "<html>no picture</html>").expect("it is written");
    let too_large = upload(&ann, &picture(folder.path(), "large.png", 20_001)).await;
    assert_eq!(status(too_large), 413, "of one medium");
    assert_eq!(status(ann.client.upload(&text, "text/html", |_| {}).await), 415, "it is not on the list");
    assert_eq!(status(upload(&ann, &text).await), 415, "it is not what it says");
    upload(&ann, &small).await.expect("within all bounds");
    assert_eq!(status(upload(&ann, &picture(folder.path(), "more.png", 15_001)).await), 507, "of all media");
    assert_eq!(status(upload(&ann, &small).await), 429, "in an hour");
    upload(&bob, &small).await.expect("another account is another one");
    server.admin(&serde_json::json!({ "ask": "suspend", "who": "+15550002", "reason": "test", "for_ms": 0 }));
    assert!(upload(&bob, &small).await.is_err(), "a suspended account uploads nothing");
}

#[tokio::test]
async fn a_picture_is_looked_at_and_one_that_is_damaged_or_made_to_do_harm_is_refused() {
    let server = start(&["media_removed_after_ms=1000", "media_round_ms=100"]);
    let folder = tempfile::tempdir().expect("a folder");
    let (ann, mut bob) = pair(&server).await;
    let file = folder.path().join("red.jpeg");
    image::RgbImage::from_pixel(640, 480, image::Rgb([200, 10, 10])).save(&file).expect("it is written");
    let send_as = |of: &'static str, file: PathBuf| {
        let client = ann.client.clone();
        async move { client.upload(&file, of, |_| {}).await }
    };
    let uploaded = send_as("image/jpeg", file.clone()).await.expect("it is uploaded");
    let looks = ann.client.looks(uploaded.id).await.expect("it is asked").expect("it was looked at");
    assert_eq!((looks.width, looks.height), (640, 480));
    let thumbnail = image::load_from_memory(&looks.thumbnail).expect("a picture").to_rgb8();
    assert_eq!(thumbnail.dimensions(), (200, 150));
    assert!(thumbnail.get_pixel(100, 75)[0] > 150 && !looks.blur_hash.is_empty());
    assert_eq!(bob.client.looks(uploaded.id).await.expect("it is asked"), None, "it is another's");
    let sent = send(&ann, with(bob.id(), &uploaded)).await.expect("it is sent");
    next_message(&mut bob.events).await;
    let seen = bob.client.thumbnail(ann.id(), sent.seq, uploaded.id).await.expect("it is asked");
    assert_eq!(seen, Some(looks.thumbnail));

    let bytes = std::fs::read(&file).expect("it is there");
    let cut = folder.path().join("cut.jpeg");
    std::fs::write(&cut, &bytes[..200]).expect("it is written");
    assert_eq!(status(send_as("image/jpeg", cut).await), 422, "it is damaged");
    let bomb = folder.path().join("bomb.gif");
    std::fs::write(
        &bomb,
        b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
    )
    .expect("it is written");
    assert_eq!(status(send_as("image/gif", bomb).await), 422, "4 thousand million pixels");
    assert_eq!(kept(&server).len(), 1, "nothing is left of those");
    let again = send_as("image/jpeg", file).await.expect("the next one is looked at");
    assert!(ann.client.looks(again.id).await.expect("it is asked").is_some());

    delete(&ann, bob.id(), sent.seq).await;
    until_kept(&server, &[&again]).await;
    let is_preview = |file: &PathBuf| file.extension().is_some_and(|of| of == "preview");
    // A preview goes with its medium.
    while files(&server.data_dir().join("media/kept")).iter().filter(|file| is_preview(file)).count() > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn bytes_of_which_nobody_knows_are_removed_and_no_others() {
    let server = start(&["media_sweep_ms=10"]);
    let folder = tempfile::tempdir().expect("a folder");
    let (ann, bob) = pair(&server).await;
    let uploaded = upload(&ann, &picture(folder.path(), "known.png", 5_000)).await.expect("uploaded");
    send(&ann, with(bob.id(), &uploaded)).await.expect("it is sent");
    // As a crash, or a copy that was put back, would leave it; and of long ago, as the one that is known.
    let lies = server.data_dir().join("media/kept/00/11");
    std::fs::create_dir_all(&lies).expect("a folder");
    let orphan = lies.join("ABEAAAAAAAAAAAAAAAAAAA");
    std::fs::write(&orphan, "bytes").expect("it is written");
    std::fs::write(orphan.with_extension("json"), "{}").expect("it is written");
    for file in files(&server.data_dir().join("media/kept")) {
        let file = std::fs::File::options().write(true).open(file).expect("a file");
        file.set_modified(SystemTime::now() - Duration::from_secs(2 * 3600)).expect("it is older");
    }
    while server.metric("tern_media_orphans_total") == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!orphan.exists() && !orphan.with_extension("json").exists());
    until_kept(&server, &[&uploaded]).await;
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Media lie in a bucket: through ternd, and then without it.
#[tokio::test]
async fn media_in_a_bucket_are_had_by_those_who_see_the_message_and_go_with_it() {
    if !python_is_there() {
        return;
    }
    let soon = ["media_removed_after_ms=1000", "media_round_ms=100"];
    let mut server = start(&soon);
    let (certificate, key) = (server.ca_file(), server.data_dir().join("key.pem"));
    let s3 = S3::start_tls(Path::new(env!("CARGO_TARGET_TMPDIR")), certificate, key);
    let mut options = TerndOptions { cores: 3, environment: s3.environment(), ..TerndOptions::default() };
    let limits = soon.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]);
    options.arguments = limits.chain(["--media-bucket".to_owned(), format!("s3://{BUCKET}/tern")]).collect();
    server.restart_with(options.clone());

    let folder = tempfile::tempdir().expect("a folder");
    let (ann, mut bob) = pair(&server).await;
    let file = picture(folder.path(), "big.png", 12_000_000);
    let uploaded = upload(&ann, &file).await.expect("it is uploaded");
    let sent = send(&ann, with(bob.id(), &uploaded)).await.expect("it is sent");
    let message = next_message(&mut bob.events).await;
    let lies = || s3.objects().keys().any(|key| key.ends_with(&uploaded.id.to_string()));
    assert!(lies() && kept(&server).is_empty(), "it lies in the bucket alone");
    let (to, bytes) = (folder.path().join("got"), std::fs::read(&file).expect("a file"));
    assert!(save(&bob, &message, &to).await.expect("saved") == bytes);

    // Bob is sent to the bucket, and has it from there.
    options.arguments.push("--media-bucket-direct".to_owned());
    server.restart_with(options);
    until(&mut bob.events, |event| matches!(event, Event::CaughtUp).then_some(())).await;
    let (url, _) = bob.client.medium_link(ann.id(), sent.seq, uploaded.id).await.expect("a link");
    assert_eq!(curl(&server, &url), 307);
    assert!(save(&bob, &message, &to).await.expect("saved") == bytes);

    // A bucket that does not answer is nothing to those who write, while others wait for it.
    s3.hangs();
    let (client, again) = (ann.client.clone(), file.clone());
    let waits = tokio::spawn(async move { client.upload(&again, "image/png", |_| {}).await });
    let is_there = |file: &PathBuf| file.metadata().is_ok_and(|of| of.len() == bytes.len() as u64);
    while !files(&server.data_dir().join("media/uploads")).iter().any(is_there) {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        let text = NewMessage { chat: bob.id(), body: b"hello".to_vec(), ..NewMessage::default() };
        send(&ann, text).await.expect("it is sent");
    }
    assert!(!waits.is_finished());
    s3.goes_on();
    waits.await.expect("no panic").expect("it is uploaded after all");
    delete(&ann, bob.id(), sent.seq).await;
    while lies() {}
    assert_eq!(server.metric("tern_media_store_away"), 0);
}

#[tokio::test]
async fn a_server_without_media_says_so() {
    let options = TerndOptions { arguments: vec!["--no-media".to_owned()], ..TerndOptions::default() };
    let server = Ternd::start_with(options);
    let folder = tempfile::tempdir().expect("a folder");
    let (ann, bob) = pair(&server).await;
    let file = picture(folder.path(), "a.png", 100);
    assert_eq!(refused(upload(&ann, &file).await), Reason::Unimplemented);
    let link = ann.client.medium_link(bob.id(), 1, tern_client::MediaId::from_bytes([1; 16])).await;
    assert_eq!(refused(link), Reason::Unimplemented);
}
