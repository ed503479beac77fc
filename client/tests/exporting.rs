//! `tern export`, against a real server: everything is in the archive, and nothing is left of one that was not finished.

mod live;
mod profiles;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use live::join;
use profiles::Profile;
use serde_json::{Value, json};
use tern_client::NewGroup;
use tern_testkit::Ternd;
use zip::ZipArchive;

const ANN: &str = "+15550001";
const BOB: &str = "+15550002";

/// More than a page of history, whatever the server gives at once.
const MESSAGES: usize = 700;

/// The files of an archive.
fn files(path: &Path) -> BTreeMap<String, String> {
    let mut archive = ZipArchive::new(File::open(path).expect("it is there")).expect("a ZIP file");
    let mut files = BTreeMap::new();
    for at in 0..archive.len() {
        let (mut file, mut text) = (archive.by_index(at).expect("a file"), String::new());
        file.read_to_string(&mut text).expect("text");
        files.insert(file.name().expect("a name").into_owned(), text);
    }
    files
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Runs a command that must be possible.
fn does(profile: &Profile, arguments: &[&str]) {
    let output = profile.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_one_may_see_is_in_the_archive_and_nothing_of_others() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a directory");
    let ann = Profile::register(&server, dir.path(), ANN, "Ann");
    let (bob, _events) = join(&server, BOB, "Bob").await;
    let (carol, _others) = join(&server, "+15550003", "Carol").await;
    let to_ann = bob.lookup_phone(ANN).await.expect("found").user_id;
    for number in 0..MESSAGES {
        bob.keep(to_ann, format!("number {number}")).await.expect("kept");
    }
    bob.flush().await.expect("sent");
    carol.send(bob.account().user_id, "not for Ann").await.expect("sent");
    does(&ann, &["send", BOB, "as it was"]);
    let seq = (MESSAGES + 1).to_string();
    does(&ann, &["edit", BOB, &seq, "as it is"]);
    does(&ann, &["send", BOB, "a secret that is gone"]);
    does(&ann, &["delete", BOB, &(MESSAGES + 3).to_string()]);
    does(&ann, &["hide", BOB, "2"]);
    does(&ann, &["star", BOB, "3"]);
    does(&ann, &["contacts", BOB, "--name", "Bobby"]);
    does(&ann, &["block", "+15550003"]);
    does(&ann, &["story", "post", "--text", "at sea"]);
    let group = NewGroup { name: "friends & <co>".to_owned(), members: vec![to_ann], ..NewGroup::default() };
    let group = bob.create_group(group).await.expect("made").chat;
    bob.send(group, "in the group").await.expect("sent");
    let file = dir.path().join("ann.zip");
    let written = ann.json(&["export", file.to_str().expect("text"), "--json"]).remove(0);
    assert_eq!((&written["chats"], &written["unreadable"]), (&json!(2), &json!([])), "{written}");
    let files = files(&file);
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    let account: Value = serde_json::from_str(&files["account.json"]).expect("JSON");
    assert_eq!(
        (&account["account"]["phone"], &account["shown"]["name"]),
        (&json!(ANN), &json!("Ann")),
        "{account}"
    );
    assert_eq!(account["devices"]["devices"].as_array().map(Vec::len), Some(1), "{account}");
    let bob_id = bob.account().user_id;
    let with_bob = lines(&files[&format!("messages/{bob_id}.jsonl")]);
    let seqs: Vec<_> = with_bob.iter().map(|message| message["seq"].as_u64().expect("a seq")).collect();
    assert_eq!(seqs, (1..=MESSAGES as u64 + 4).collect::<Vec<_>>(), "each once, in their order");
    let text = |seq: usize| with_bob[seq - 1]["text"].as_str().unwrap_or_default().to_owned();
    assert_eq!((text(1), text(MESSAGES)), ("number 0".to_owned(), format!("number {}", MESSAGES - 1)));
    assert_eq!((text(MESSAGES + 1), text(MESSAGES + 2)), ("as it was".to_owned(), "as it is".to_owned()));
    assert_eq!(with_bob[1]["hidden"], true, "what is hidden is there, and said to be");
    let with_group = lines(&files[&format!("messages/{group}.jsonl")]);
    assert!(with_group.iter().any(|message| message["text"] == "in the group"), "{with_group:?}");
    let stories = lines(&files["stories.jsonl"]);
    assert_eq!((stories.len(), &stories[0]["text"]), (1, &json!("at sea")));
    let chats = lines(&files["chats.jsonl"]);
    let of_group = chats.iter().find(|chat| chat["chat"] == group).expect("it is listed");
    assert_eq!(of_group["group"]["members"].as_array().map(Vec::len), Some(2), "{of_group}");
    assert_eq!(lines(&files["contacts.jsonl"])[0]["name"], "Bobby");
    assert_eq!(lines(&files["blocked.jsonl"]), [json!(carol.account().user_id)]);
    assert_eq!(lines(&files["starred.jsonl"]), [json!({ "chat": bob_id, "seq": 3 })]);
    assert!(lines(&files["private.jsonl"]).len() >= 4, "{}", files["private.jsonl"]);
    let index = &files["index.html"];
    assert!(index.contains("friends &amp; &lt;co&gt;") && index.contains("href=\"messages/"), "{index}");
    for (name, text) in &files {
        assert!(!text.contains("not for Ann") && !text.contains("a secret that is gone"), "{name}");
    }
    // Not over another one, unless that is said; and beside it nothing is left.
    assert!(ann.refusal(&["export", file.to_str().expect("text")]).contains("is there already"));
    ann.json(&["export", file.to_str().expect("text"), "--force", "--json"]);
    let nowhere = dir.path().join("nowhere").join("ann.zip");
    assert!(ann.refusal(&["export", nowhere.to_str().expect("text")]).contains("nowhere"));
    drop(server);
    let offline = dir.path().join("offline.zip");
    ann.refusal(&["export", offline.to_str().expect("text")]);
    assert!(
        names(dir.path()).iter().all(|name| !name.ends_with("part") && name != "offline.zip"),
        "{:?}",
        names(dir.path())
    );
}
