//! Web Push, end to end: what browsers' services say is understood, none but the browser reads what is said, and no user's endpoint leads the
//! server to its neighbours.

#[allow(dead_code, reason = "it serves other tests as well")]
mod common;

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use common::{World, later, long_notice, notice, order, outcomes_of, refused};
use serde_json::{Value, json};
use tern_push::mock::{ApnsMock, FcmMock, Push, Reply, Subscriber, WebPushMock};
use tern_push::webpush::{Config, KNOWN_HOSTS, Padding, WebPush};
use tern_push::{Answer, Outcome, Reach, Service as _, Subscription, Token, Trouble};
use tern_testkit::python_is_there;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

async fn start() -> (World, WebPushMock, WebPush) {
    let world = World::default();
    let mock = WebPushMock::start(world.identity.clone(), world.wall()).await;
    let service = WebPush::new(mock.config(), world.wall()).expect("the mock's settings are good");
    (world, mock, service)
}

fn token(of: &Subscriber) -> Token {
    Token::WebPush(of.subscription())
}

#[tokio::test]
async fn each_answer_of_a_browsers_service_means_what_the_standard_says() {
    let (_world, mock, service) = start().await;
    let browser = token(&mock.subscribe("a"));
    let check = async |reply: Reply, expect: Answer| {
        mock.book().say_once("a", reply.clone());
        assert_eq!(service.send(&browser, &notice(1)).await, expect, "{reply:?}");
    };
    assert_eq!(service.send(&browser, &notice(1)).await, Answer::Delivered);
    check(Reply::status(404), Answer::Dead).await;
    check(Reply::status(410), Answer::Dead).await;
    check(Reply::status(413), refused("status 413")).await;
    check(Reply::status(403), refused("status 403")).await;
    check(Reply::status(429).with("retry-after", "60"), later(Trouble::Device, Some(60))).await;
    // Of other hosts nothing is known by that.
    check(Reply::status(503).with("retry-after", "7"), later(Trouble::Device, Some(7))).await;
    check(Reply::status(500), later(Trouble::Device, None)).await;
    check(Reply::reset(), later(Trouble::Device, None)).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (_world, mock, service) = start().await;
    for status in [301, 302, 303, 307, 308] {
        let to = format!("{}/push/elsewhere", mock.origin());
        mock.book().say_once("a", Reply::status(status).with("location", &to));
        let answer = service.send(&token(&mock.subscribe("a")), &notice(1)).await;
        assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    }
    let asked: Vec<String> = mock.book().pushes().into_iter().map(|push| push.to).collect();
    assert_eq!(asked, ["a"; 5]);
}

#[tokio::test]
async fn an_endpoint_inside_is_not_reached() {
    let (world, mock, _) = start().await;
    let config = Config { reach: Reach::Public, ..mock.config() };
    let service = WebPush::new(config, world.wall()).expect("the mock's settings are good");
    let port = mock.origin().rsplit(':').next().expect("it has a port").to_owned();
    let auth = BASE64_URL_SAFE_NO_PAD.encode([1; 16]);
    // Addresses, and a name that a resolver has one for.
    for host in
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "0.0.0.0"]
    {
        let endpoint = format!("https://{host}:{port}/push/a");
        let subscription = Subscription::new(&endpoint, public_point(), &auth).expect("its form is good");
        let answer = service.send(&Token::WebPush(subscription), &notice(1)).await;
        assert_eq!(answer, refused("the endpoint is not a public host"), "{host}");
    }
    let config = Config { hosts: KNOWN_HOSTS.map(str::to_owned).into(), ..mock.config() };
    let service = WebPush::new(config, world.wall()).expect("the mock's settings are good");
    let answer = service.send(&token(&mock.subscribe("a")), &notice(1)).await;
    assert_eq!(answer, refused("the endpoint's host is not among those that are told"));
    assert_eq!(mock.book().pushes(), []);
}

/// RFC 8291, section 5: a browser's public key.
fn public_point() -> &'static str {
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
}

#[tokio::test]
async fn a_host_that_is_down_waits_alone_and_loses_no_notice() {
    let (world, mock, service) = start().await;
    let down = WebPushMock::start(world.identity.clone(), world.wall()).await;
    let dead_end = token(&down.subscribe("a"));
    drop(down);
    let (sender, mut outcomes) = world.sender(service);
    for id in 0..20 {
        let mut order = order(id, &dead_end);
        order.notice.expires_s = common::NOW_S + 2;
        sender.offer(order).expect("there is room");
    }
    for id in 20..120 {
        sender.offer(order(id, &token(&mock.subscribe(&format!("b{id}"))))).expect("there is room");
    }
    let all = outcomes_of(&mut outcomes, 120).await;
    for (id, outcome) in all {
        let is_delivered = outcome == Outcome::Delivered;
        assert_eq!(is_delivered, id >= 20, "{id}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_browsers_service_is_told_all_that_it_wants_to_know_and_nothing_else() {
    let (_world, mock, service) = start().await;
    let browser = mock.subscribe("a");
    assert_eq!(service.send(&token(&browser), &long_notice(1)).await, Answer::Delivered);
    let push = mock.book().pushes().pop().expect("it came");
    assert_eq!((&*push.headers["ttl"], &*push.headers["urgency"]), ("3600", "high"));
    assert_eq!(push.headers["topic"].len(), 32);
    assert!((4000..=4096).contains(&push.body.len()), "{}", push.body.len());
    assert!(!String::from_utf8_lossy(&push.body).contains("Ada"));
    let text = browser.decrypted(&push.body).expect("it is for it");
    assert!(String::from_utf8(text).expect("it is text").contains("Ada"));
    assert_eq!(mock.subscribe("a").decrypted(&push.body), None, "it is for nobody else");
}

/// What a library that nobody here wrote finds in a push.
fn decrypted(cache: &str, push: &Push, browser: &Subscriber) -> Value {
    let (private, auth) = browser.secrets();
    let asked = json!({
        "decrypt": { "private": private, "auth": auth, "body": BASE64_URL_SAFE_NO_PAD.encode(&push.body) }
    });
    ask_python(cache, &asked)
}

fn ask_python(cache: &str, asked: &Value) -> Value {
    let run = Command::new(format!("{HERE}/tests/others/run.sh"))
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join(cache))
        .arg(asked.to_string())
        .output()
        .expect("sh runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("it prints JSON")
}

/// Their environment is one, so they take turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_decrypt_what_is_sent_and_find_its_tokens_good() {
    if !python_is_there() {
        return;
    }
    let world = World::default();
    let mock = WebPushMock::start(world.identity.clone(), world.wall()).await;
    for (padding, bytes) in [(Padding::Nothing, 0), (Padding::default(), 512), (Padding::Longest, 3993)] {
        let config = Config { padding, ..mock.config() };
        let service = WebPush::new(config, world.wall()).expect("the mock's settings are good");
        let browser = mock.subscribe("a");
        assert_eq!(service.send(&token(&browser), &notice(1)).await, Answer::Delivered);
        let push = mock.book().pushes().pop().expect("it came");
        assert!(push.body.len() == bytes + 103 || padding == Padding::Nothing, "{}", push.body.len());
        let expect = json!({ "kind": "message", "badge": 3, "chat": "AQID" });
        assert_eq!(decrypted("push-venv", &push, &browser), expect, "{padding:?}");
    }
    let vapid = mock.book().pushes().pop().expect("it came").headers["authorization"].clone();
    let (vapid, key) =
        vapid.strip_prefix("vapid t=").and_then(|said| said.split_once(", k=")).expect("RFC 8292");
    let claims = verified(vapid, "ES256", json!({ "point": key }), Some(mock.origin()));
    assert_eq!(claims["sub"], "mailto:push@example.org");

    others_find_apns_and_fcm_good(&world).await;
}

async fn others_find_apns_and_fcm_good(world: &World) {
    let mock = ApnsMock::start(world.identity.clone(), world.wall()).await;
    let service =
        tern_push::apns::Apns::new(mock.config(), world.wall()).expect("the mock's settings are good");
    assert_eq!(service.send(&common::apns("ab"), &notice(1)).await, Answer::Delivered);
    let said = mock.book().pushes().pop().expect("it came").headers["authorization"].clone();
    let token = said.strip_prefix("bearer ").expect("it is a token");
    let claims = verified(token, "ES256", json!({ "private": mock.config().key_pem }), None);
    assert_eq!(claims, json!({ "iss": "TEAM567890", "iat": common::NOW_S }));

    let mock = FcmMock::start(world.identity.clone(), world.wall()).await;
    let service =
        tern_push::fcm::Fcm::new(mock.config(), world.wall()).expect("the mock's settings are good");
    assert_eq!(service.send(&common::fcm("a:b"), &notice(1)).await, Answer::Delivered);
    let account: Value = serde_json::from_str(&mock.config().account_json).expect("it is JSON");
    let assertion = mock.assertions().pop().expect("it came");
    let uri = account["token_uri"].as_str().expect("a text");
    let claims = verified(&assertion, "RS256", json!({ "private": account["private_key"] }), Some(uri));
    assert_eq!(claims["iss"], account["client_email"]);
}

/// The claims of a token whose signature, and for whom it is, a library has looked at that nobody here wrote.
fn verified(token: &str, algorithm: &str, key: Value, audience: Option<&str>) -> Value {
    let asked = json!({ "token": token, "algorithm": algorithm, "key": key, "audience": audience });
    ask_python("push-venv", &json!({ "verify": asked }))
}
