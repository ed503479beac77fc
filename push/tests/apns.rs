//! APNs, end to end: what it says is understood, what it wants to be told it is told, and what it does to connections loses nothing.

#[allow(dead_code, reason = "it serves other tests as well")]
mod common;

use std::time::Duration;

use common::{NOW_S, World, apns, later, long_notice, notice, order, outcomes_of, refused};
use tern_push::apns::{Apns, Config};
use tern_push::mock::{ApnsMock, Reply};
use tern_push::{
    Answer, ApnsToken, ApnsUse, CollapseKey, Kind, Notice, Outcome, Priority, Roots, Service as _, Token,
    Trouble,
};

async fn start() -> (World, ApnsMock, Apns) {
    let world = World::default();
    let mock = ApnsMock::start(world.identity.clone(), world.wall()).await;
    let service = Apns::new(mock.config(), world.wall()).expect("the mock's settings are good");
    (world, mock, service)
}

#[tokio::test]
async fn each_answer_of_apns_means_what_apple_says() {
    let (_world, mock, service) = start().await;
    let check = async |reply: Reply, expect: Answer| {
        mock.book().say_once("ab", reply.clone());
        assert_eq!(service.send(&apns("ab"), &notice(1)).await, expect, "{reply:?}");
    };
    assert_eq!(service.send(&apns("ab"), &notice(1)).await, Answer::Delivered);
    check(Reply::apns(400, "BadDeviceToken"), Answer::Dead).await;
    check(Reply::apns(400, "DeviceTokenNotForTopic"), Answer::Dead).await;
    check(Reply::apns(400, "BadTopic"), refused("BadTopic")).await;
    check(Reply::apns(403, "InvalidProviderToken"), refused("InvalidProviderToken")).await;
    check(Reply::apns(405, "MethodNotAllowed"), refused("MethodNotAllowed")).await;
    check(Reply::apns(413, "PayloadTooLarge"), refused("PayloadTooLarge")).await;
    check(Reply::apns(429, "TooManyRequests"), later(Trouble::Device, None)).await;
    let busy = Reply::apns(429, "TooManyProviderTokenUpdates").with("retry-after", "9");
    check(busy, later(Trouble::Busy, Some(9))).await;
    check(Reply::apns(500, "InternalServerError"), Answer::Later { trouble: Trouble::Down, after: None })
        .await;
    check(Reply::apns(503, "ServiceUnavailable"), later(Trouble::Down, None)).await;
    check(Reply::apns(503, "Shutdown").with("retry-after", "9"), later(Trouble::Down, Some(9))).await;
    check(Reply::reset(), later(Trouble::Down, None)).await;
    check(Reply::status(502), later(Trouble::Down, None)).await;
}

#[tokio::test]
async fn a_token_that_was_registered_after_it_was_found_dead_is_not_dead() {
    let (_world, mock, service) = start().await;
    let registered_ms = (NOW_S - 1000) * 1000;
    mock.book().say_once("ab", Reply::apns_gone("Unregistered", registered_ms));
    assert_eq!(service.send(&apns("ab"), &notice(1)).await, Answer::Dead);
    mock.book().say_once("ab", Reply::apns_gone("Unregistered", registered_ms - 1));
    assert_eq!(service.send(&apns("ab"), &notice(1)).await, later(Trouble::Device, None));
    mock.book().say_once("ab", Reply::apns(410, "ExpiredToken"));
    assert_eq!(service.send(&apns("ab"), &notice(1)).await, Answer::Dead);
}

#[tokio::test]
async fn apns_is_told_all_that_it_wants_to_know() {
    let (_world, mock, service) = start().await;
    let told = async |token: &Token, notice: &Notice| {
        assert_eq!(service.send(token, notice).await, Answer::Delivered);
        let push = mock.book().pushes().pop().expect("it came");
        let headers =
            ["apns-topic", "apns-push-type", "apns-priority"].map(|name| push.headers[name].clone());
        (headers.join(" "), push)
    };
    let (headers, push) = told(&apns("AB"), &notice(1)).await;
    assert_eq!(headers, "org.example.tern alert 10");
    assert_eq!(push.to, "ab");
    assert_eq!(push.headers["apns-expiration"], (NOW_S + 3600).to_string());
    assert_eq!(push.headers["apns-id"], "00000000-0000-0000-0000-000000000001");
    assert_eq!(push.headers["apns-collapse-id"], CollapseKey::new("chat 7").expect("it is short").digest());

    let cleared = Notice { kind: Kind::Cleared, ..notice(2) };
    assert_eq!(told(&apns("ab"), &cleared).await.0, "org.example.tern background 5");
    let low = Notice { priority: Priority::Normal, collapse: None, ..notice(3) };
    let (headers, push) = told(&apns("ab"), &low).await;
    assert_eq!(headers, "org.example.tern alert 5");
    assert!(!push.headers.contains_key("apns-collapse-id"));
    let badge = Notice { kind: Kind::Badge, ..notice(3) };
    assert_eq!(told(&apns("ab"), &badge).await.0, "org.example.tern alert 5");

    let calls = Token::Apns(ApnsToken::new("cd", ApnsUse::Calls, 0).expect("it is one"));
    let call = Notice { kind: Kind::Call, ..long_notice(4) };
    let (headers, push) = told(&calls, &call).await;
    assert_eq!(headers, "org.example.tern.voip voip 10");
    assert!((5000..=5120).contains(&push.body.len()));
    let (_, push) = told(&apns("ab"), &long_notice(5)).await;
    assert!((4000..=4096).contains(&push.body.len()));
    let other = refused("a token for calls takes calls alone");
    assert_eq!(service.send(&calls, &notice(6)).await, other);
}

#[tokio::test]
async fn the_token_that_says_who_sends_is_good_for_ever() {
    let (world, mock, service) = start().await;
    let send = async || service.send(&apns("ab"), &notice(1)).await;
    let tokens = || {
        let mut tokens: Vec<_> =
            mock.book().pushes().iter().map(|push| push.headers["authorization"].clone()).collect();
        tokens.dedup();
        tokens.len()
    };
    // Hours pass, and no token is older than Apple takes, or newer than it has to be.
    for _ in 0..20 {
        assert_eq!(send().await, Answer::Delivered);
        world.pass(600);
    }
    assert_eq!(tokens(), 4);

    // Apple says that it is over: once it is made anew, unless it has just been.
    world.pass(1200);
    assert_eq!(send().await, Answer::Delivered);
    world.pass(1200);
    let before = tokens();
    mock.book().say_once("ab", Reply::apns(403, "ExpiredProviderToken"));
    assert_eq!(send().await, Answer::Delivered);
    assert_eq!(tokens(), before + 1);
    mock.book().say_once("ab", Reply::apns(403, "ExpiredProviderToken"));
    assert_eq!(send().await, later(Trouble::Down, None));
    assert_eq!(tokens(), before + 1);
}

#[tokio::test]
async fn another_teams_key_is_refused_for_good() {
    let (world, mock, _) = start().await;
    let check = async |config: Config| {
        let service = Apns::new(config, world.wall()).expect("its form is good");
        assert_eq!(service.send(&apns("ab"), &notice(1)).await, refused("InvalidProviderToken"));
    };
    check(Config { team_id: "OTHER".to_owned(), ..mock.config() }).await;
    check(Config { key_id: "OTHER".to_owned(), ..mock.config() }).await;
    let other = ApnsMock::start(world.identity.clone(), world.wall()).await;
    check(Config { key_pem: other.config().key_pem, ..mock.config() }).await;
}

#[tokio::test]
async fn a_service_that_never_answers_is_given_up_on() {
    let (world, mock, _) = start().await;
    let config = Config { timeout: Duration::from_secs(1), ..mock.config() };
    let service = Apns::new(config, world.wall()).expect("the mock's settings are good");
    mock.book().say_once("ab", Reply::never());
    assert_eq!(service.send(&apns("ab"), &notice(1)).await, later(Trouble::Down, None));
    assert_eq!(service.send(&apns("ab"), &notice(1)).await, Answer::Delivered, "the next one is not");
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_not_talked_to() {
    let (world, mock, _) = start().await;
    let other = tern_push::mock::Identity::default();
    let config = Config { roots: other.roots(), ..mock.config() };
    let service = Apns::new(config, world.wall()).expect("its form is good");
    assert_eq!(service.send(&apns("ab"), &notice(1)).await, later(Trouble::Down, None));
    assert_eq!(mock.book().count(), 0);
    assert!(Roots::from_pem("none").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_end_lose_no_notice() {
    const NOTICES: u128 = 1000;
    let (world, mock, service) = start().await;
    let (sender, mut outcomes) = world.sender(service);
    for id in 0..NOTICES {
        let hex = format!("{id:04x}");
        match id % 100 {
            13 => mock.book().say_once(&hex, Reply::status(200).going_away()),
            57 => mock.book().say_once(&hex, Reply::reset()),
            _ => {}
        }
        sender.offer(order(id, &apns(&hex))).expect("there is room");
    }
    let all = outcomes_of(&mut outcomes, NOTICES as usize).await;
    let delivered = all.values().filter(|outcome| **outcome == Outcome::Delivered).count();
    assert_eq!(delivered, NOTICES as usize);
    sender.stop();
    assert_eq!(outcomes.next().await, None, "there is nothing else");
}
