//! FCM, end to end: what it says is understood, and who sends is proved with one access token for all.

#[allow(dead_code, reason = "it serves other tests as well")]
mod common;

use std::sync::Arc;

use common::{World, fcm, later, long_notice, notice, refused};
use tern_push::fcm::{Config, Fcm};
use tern_push::mock::{FcmMock, Reply};
use tern_push::{Answer, CollapseKey, Invalid, Service as _, Trouble};
use tokio::task::JoinSet;

async fn start() -> (World, FcmMock, Fcm) {
    let world = World::default();
    let mock = FcmMock::start(world.identity.clone(), world.wall()).await;
    let service = Fcm::new(mock.config(), world.wall()).expect("the mock's settings are good");
    (world, mock, service)
}

#[tokio::test]
async fn each_answer_of_fcm_means_what_google_says() {
    let (_world, mock, service) = start().await;
    let check = async |reply: Reply, expect: Answer| {
        mock.book().say_once("a:b", reply.clone());
        assert_eq!(service.send(&fcm("a:b"), &notice(1)).await, expect, "{reply:?}");
    };
    assert_eq!(service.send(&fcm("a:b"), &notice(1)).await, Answer::Delivered);
    let argument = Some("INVALID_ARGUMENT");
    check(Reply::fcm(404, "NOT_FOUND", Some("UNREGISTERED"), None), Answer::Dead).await;
    check(Reply::fcm(403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH"), None), Answer::Dead).await;
    check(Reply::fcm(400, "INVALID_ARGUMENT", argument, Some("message.token")), Answer::Dead).await;
    check(Reply::fcm(400, "INVALID_ARGUMENT", argument, None), refused("INVALID_ARGUMENT")).await;
    check(Reply::fcm(404, "NOT_FOUND", None, None), refused("NOT_FOUND")).await;
    let third = Reply::fcm(401, "UNAUTHENTICATED", Some("THIRD_PARTY_AUTH_ERROR"), None);
    check(third, refused("THIRD_PARTY_AUTH_ERROR")).await;
    let quota = Reply::fcm(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"), None);
    check(quota.clone(), later(Trouble::Busy, None)).await;
    check(quota.with("retry-after", "60"), later(Trouble::Busy, Some(60))).await;
    let unavailable = Reply::fcm(503, "UNAVAILABLE", Some("UNAVAILABLE"), None);
    check(unavailable.with("retry-after", "7"), later(Trouble::Down, Some(7))).await;
    check(Reply::fcm(500, "INTERNAL", Some("INTERNAL"), None), later(Trouble::Down, None)).await;
    check(Reply::reset(), later(Trouble::Down, None)).await;
    assert_eq!(mock.granted(), 1, "one access token serves them all");
}

#[tokio::test]
async fn fcm_is_told_all_that_it_wants_to_know() {
    let (_world, mock, service) = start().await;
    assert_eq!(service.send(&fcm("a:b"), &notice(1)).await, Answer::Delivered);
    let push = mock.book().pushes().pop().expect("it came");
    let body: serde_json::Value = serde_json::from_slice(&push.body).expect("it is JSON");
    let digest = CollapseKey::new("chat 7").expect("it is short").digest();
    let android = serde_json::json!({ "priority": "HIGH", "ttl": "3600s", "collapse_key": digest });
    assert_eq!(body["message"]["android"], android);
    assert_eq!(service.send(&fcm("a:b"), &long_notice(2)).await, Answer::Delivered, "it was shortened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_token_is_fetched_once_for_all_that_wait() {
    let (_world, mock, service) = start().await;
    let service = Arc::new(service);
    let send_many = async || {
        let mut sending = JoinSet::new();
        for id in 0..50 {
            let service = service.clone();
            sending.spawn(async move { service.send(&fcm("a:b"), &notice(id)).await });
        }
        sending.join_all().await
    };
    assert_eq!(send_many().await, vec![Answer::Delivered; 50]);
    assert_eq!(mock.granted(), 1);
    mock.revoke();
    assert_eq!(send_many().await, vec![Answer::Delivered; 50]);
    assert_eq!(mock.granted(), 2);
}

#[tokio::test]
async fn an_access_token_is_used_until_shortly_before_it_is_over() {
    let (world, mock, service) = start().await;
    for (pass_s, granted) in [(0, 1), (3299, 1), (1, 2), (3299, 2), (1, 3)] {
        world.pass(pass_s);
        let mut notice = notice(1);
        notice.expires_s += 86_400;
        assert_eq!(service.send(&fcm("a:b"), &notice).await, Answer::Delivered);
        assert_eq!(mock.granted(), granted);
    }
}

#[tokio::test]
async fn an_access_token_that_is_none_is_fetched_again_once() {
    let (_world, mock, service) = start().await;
    let none = Reply::fcm(401, "UNAUTHENTICATED", None, None);
    mock.book().say_once("a:b", none.clone());
    assert_eq!(service.send(&fcm("a:b"), &notice(1)).await, Answer::Delivered);
    assert_eq!(mock.granted(), 2);
    mock.book().say_always("a:b", none);
    assert_eq!(service.send(&fcm("a:b"), &notice(1)).await, later(Trouble::Down, None));
    assert_eq!((mock.granted(), mock.book().pushes().len()), (3, 4));
}

#[tokio::test]
async fn where_there_is_no_access_token_notices_wait() {
    let (world, mock, service) = start().await;
    mock.say_to_granted(Reply::status(503).with("retry-after", "5"));
    assert_eq!(service.send(&fcm("a:b"), &notice(1)).await, later(Trouble::Down, Some(5)));
    assert_eq!(
        service.send(&fcm("a:b"), &notice(1)).await,
        later(Trouble::Down, Some(5)),
        "it is not asked again at once"
    );
    assert_eq!((mock.granted(), mock.book().pushes().len()), (0, 0));

    // Another account's key.
    let other = FcmMock::start(world.identity.clone(), world.wall()).await;
    let (own, foreign) = (mock.config(), other.config());
    let mut account: serde_json::Value = serde_json::from_str(&own.account_json).expect("it is JSON");
    let foreign: serde_json::Value = serde_json::from_str(&foreign.account_json).expect("it is JSON");
    account["private_key"] = foreign["private_key"].clone();
    let config = Config { account_json: account.to_string(), ..own };
    let service = Fcm::new(config, world.wall()).expect("its form is good");
    assert_eq!(service.send(&fcm("a:b"), &notice(1)).await, later(Trouble::Down, None));
    assert_eq!((mock.granted(), mock.book().pushes().len()), (0, 0));
}

#[tokio::test]
async fn an_account_that_is_none_is_said_to_be() {
    let (world, mock, _) = start().await;
    let check = |json: String, expect: Invalid| {
        let config = Config { account_json: json, ..mock.config() };
        assert_eq!(Fcm::new(config, world.wall()).err(), Some(expect));
    };
    let account: serde_json::Value = serde_json::from_str(&mock.config().account_json).expect("it is JSON");
    let with = |field: &str, value: &str| {
        let mut account = account.clone();
        account[field] = value.into();
        account.to_string()
    };
    check("{}".to_owned(), Invalid::ServiceAccount);
    check(with("private_key", "none"), Invalid::PrivateKey);
    check(with("token_uri", "http://example.org/token"), Invalid::ServiceAccount);
    check(with("project_id", "a b"), Invalid::Setting);
}
