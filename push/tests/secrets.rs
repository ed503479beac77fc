//! Keys, tokens and what is said are in no log, however much is logged.

#[allow(dead_code, reason = "it serves other tests as well")]
mod common;

use std::io;
use std::sync::{Arc, Mutex};

use common::{World, apns, fcm, notice, webhook};
use tern_push::apns::Apns;
use tern_push::fcm::Fcm;
use tern_push::mock::{ApnsMock, FcmMock, Reply, WebPushMock, WebhookMock};
use tern_push::webhook::Webhook;
use tern_push::webpush::WebPush;
use tern_push::{Notice, Order, Preview, Service, Token};

/// A log that is kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_log_of_everything_has_no_token_no_key_and_nothing_that_is_said() {
    let log = Log::default();
    let kept = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || kept.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).expect("it is the only one");

    let world = World::default();
    let (identity, wall) = (&world.identity, world.wall());
    let to_apns = ApnsMock::start(identity.clone(), wall.clone()).await;
    let to_fcm = FcmMock::start(identity.clone(), wall.clone()).await;
    let to_browser = WebPushMock::start(identity.clone(), wall.clone()).await;
    let to_webhook = WebhookMock::start(identity.clone(), wall.clone()).await;
    let browser = to_browser.subscribe("hidden0endpoint");
    let all: [(Arc<dyn Service>, Token); 4] = [
        (Arc::new(Apns::new(to_apns.config(), wall.clone()).expect("good")), apns("5ec2e7")),
        (Arc::new(Fcm::new(to_fcm.config(), wall.clone()).expect("good")), fcm("hidden:token")),
        (
            Arc::new(WebPush::new(to_browser.config(), wall.clone()).expect("good")),
            Token::WebPush(browser.subscription()),
        ),
        (Arc::new(Webhook::new(to_webhook.config(), wall.clone()).expect("good")), webhook("hidden-address")),
    ];
    for (service, token) in all {
        let said = || "a hidden text".to_owned();
        let notice = Notice { preview: Some(Preview { title: said(), body: said() }), ..notice(1) };
        for book in [to_apns.book(), to_fcm.book(), to_browser.book(), to_webhook.book()] {
            book.say_to_all(Some(Reply::status(400)));
            service.send(&token, &notice).await;
            book.say_to_all(None);
        }
        service.send(&token, &notice).await;
        let order = Order { device: tern_push::DeviceId(1), token, notice };
        tracing::info!(?order, "this is what a caller would write");
    }
    let log = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("it is text");
    assert!(
        log.contains("this is what a caller would write") && log.contains("h2::"),
        "it is a log of everything"
    );
    let jwts = to_apns.book().pushes().into_iter().map(|push| push.headers["authorization"].clone());
    let secrets = ["5ec2e7", "hidden", "ya29", "Bearer", "PRIVATE KEY", "eyJ"].map(str::to_owned);
    for secret in secrets.into_iter().chain(jwts) {
        let line = log.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret}");
    }
}
