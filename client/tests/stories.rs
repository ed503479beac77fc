//! `tern story`, against a real server: what one posts others list, see, reply to and mute, and it goes when it is deleted.

#[path = "profiles/mod.rs"]
mod profiles;

use profiles::Profile;
use serde_json::{Value, json};
use tern_testkit::Ternd;

/// The stories that somebody is shown.
fn stories(profile: &Profile) -> Vec<Value> {
    let listed = profile.json(&["story", "list", "--json"]).remove(0);
    listed["stories"].as_array().expect("a list").clone()
}

#[test]
fn a_story_is_posted_seen_replied_to_muted_and_deleted_by_its_commands() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a folder");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    let (to_ann, to_bob) = ("+15550001", "+15550002");
    ann.json(&["contacts", to_bob, "--name", "Bob", "--json"]);
    bob.json(&["contacts", to_ann, "--name", "Ann", "--json"]);
    // Nobody sees more of it than was meant: what names some and is for all is not posted.
    let for_some = ["story", "post", "--text", "for Bob", "--who", to_bob];
    assert!(ann.refusal(&for_some).contains("only or except"));
    assert!(ann.refusal(&["story", "post", "--text", "for nobody", "--to", "only"]).contains("at least one"));
    let posted =
        ann.json(&["story", "post", "--text", "at sea", "--background", "206080", "--json"]).remove(0);
    let number = posted["number"].to_string();
    let picture = dir.path().join("picture.png");
    std::fs::write(&picture, include_bytes!("../../preview/src/check.png")).expect("it is written");
    let picture = picture.to_str().expect("text");
    let with_picture = ["story", "post", "--file", picture, "--caption", "a boat", "--json"];
    let second = ann.json(&with_picture).remove(0);
    // Those who may see a story are told when it is there: that takes a moment.
    while stories(&bob).len() < 2 {}
    let shown = stories(&bob);
    let first = shown.iter().find(|story| story["number"] == posted["number"]).expect("it is there");
    assert_eq!(
        (&first["text"], &first["background"], &first["seen"]),
        (&json!("at sea"), &json!(0x0020_6080), &json!(false))
    );
    let other = shown.iter().find(|story| story["number"] == second["number"]).expect("it is there");
    assert_eq!((&other["text"], &other["type"]), (&json!("a boat"), &json!("image/png")));
    assert_eq!(other["links"].as_array().map(Vec::len), Some(1));
    let viewed = String::from_utf8(bob.run(&["story", "view", to_ann, &number]).stdout).expect("text");
    assert_eq!(viewed, "at sea\n");
    let viewers = ann.json(&["story", "viewers", &number, "--json"]).remove(0);
    assert_eq!(viewers["viewers"][0]["user_id"], bob.json(&["whoami", "--json"])[0]["user_id"]);
    bob.json(&["send", to_ann, "where?", "--story", &number, "--json"]);
    let page = ann.json(&["history", to_bob, "--json"]).remove(0);
    assert_eq!(page["messages"][0]["story"]["number"], posted["number"]);
    bob.run(&["story", "mute", to_ann]);
    assert!(stories(&bob).iter().all(|story| story["muted"] == true));
    bob.run(&["story", "mute", to_ann, "--off"]);
    assert!(stories(&bob).iter().all(|story| story["muted"] == false));
    ann.run(&["story", "delete", &number]);
    while stories(&bob).len() > 1 {}
    assert!(bob.refusal(&["story", "view", to_ann, &number]).contains("no such story"));
    assert!(bob.refusal(&["story", "viewers", &number]).contains("no such story"));
}
