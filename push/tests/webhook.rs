//! The operator's program, end to end: it knows who sends, and is understood.

#[allow(dead_code, reason = "it serves other tests as well")]
mod common;

use common::{NOW_S, World, later, long_notice, notice, refused, webhook};
use serde_json::{Value, json};
use tern_push::mock::{Reply, WebhookMock};
use tern_push::webhook::{Config, Webhook};
use tern_push::{Answer, CollapseKey, Invalid, Service as _, Trouble};

async fn start() -> (World, WebhookMock, Webhook) {
    let world = World::default();
    let mock = WebhookMock::start(world.identity.clone(), world.wall()).await;
    let service = Webhook::new(mock.config(), world.wall()).expect("the mock's settings are good");
    (world, mock, service)
}

#[tokio::test]
async fn each_answer_of_a_webhook_means_one_thing() {
    let (_world, mock, service) = start().await;
    let check = async |reply: Reply, expect: Answer| {
        mock.book().say_once("a", reply.clone());
        assert_eq!(service.send(&webhook("a"), &notice(1)).await, expect, "{reply:?}");
    };
    check(Reply::status(200), Answer::Delivered).await;
    check(Reply::status(202), Answer::Delivered).await;
    check(Reply::status(410), Answer::Dead).await;
    check(Reply::status(400), refused("status 400")).await;
    check(Reply::status(404), refused("status 404")).await;
    check(Reply::status(302).with("location", "/tern"), refused("status 302")).await;
    check(Reply::status(429).with("retry-after", "9"), later(Trouble::Busy, Some(9))).await;
    check(Reply::status(503), later(Trouble::Down, None)).await;
    check(Reply::reset(), later(Trouble::Down, None)).await;
}

#[tokio::test]
async fn a_webhook_is_told_all_of_a_notice_and_who_says_it() {
    let (_world, mock, service) = start().await;
    assert_eq!(service.send(&webhook("a"), &notice(1)).await, Answer::Delivered);
    let push = mock.book().pushes().pop().expect("it came");
    let body: Value = serde_json::from_slice(&push.body).expect("it is JSON");
    let expect = json!({
        "id": "00000000-0000-0000-0000-000000000001", "to": "a", "kind": "message", "priority": "high",
        "expires_s": NOW_S + 3600, "badge": 3, "chat": "AQID",
        "collapse": CollapseKey::new("chat 7").expect("it is short").digest(),
    });
    assert_eq!(body, expect);
    assert_eq!(service.send(&webhook("a"), &long_notice(2)).await, Answer::Delivered);
    let push = mock.book().pushes().pop().expect("it came");
    assert!((65_000..=65_536).contains(&push.body.len()), "{}", push.body.len());
}

#[tokio::test]
async fn another_key_is_known_as_another() {
    let (world, mock, _) = start().await;
    for config in [
        Config { key: b"another".to_vec(), ..mock.config() },
        Config { key_id: "key-2".to_owned(), ..mock.config() },
    ] {
        let service = Webhook::new(config, world.wall()).expect("its form is good");
        assert_eq!(service.send(&webhook("a"), &notice(1)).await, refused("status 401"));
    }
    let check = |config: Config, expect: Invalid| {
        assert_eq!(Webhook::new(config, world.wall()).err(), Some(expect));
    };
    check(Config { key: Vec::new(), ..mock.config() }, Invalid::Setting);
    check(Config { key_id: "a,t=1".to_owned(), ..mock.config() }, Invalid::Setting);
    check(Config { url: "https://name:word@example.org/".to_owned(), ..mock.config() }, Invalid::BaseUrl);
    check(Config { url: "ftp://example.org/".to_owned(), ..mock.config() }, Invalid::BaseUrl);
}
