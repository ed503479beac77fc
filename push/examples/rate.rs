//! How many pushes a second go to APNs: N notices, to a mock in this process.
//!
//! ```text
//! cargo run --release -p tern-push --features mock --example rate -- 200000 512
//! ```
//! The first number is how many, the second how many are in flight at most. It prints what was pushed a second, by the sender and the mock
//! together.

use std::sync::Arc;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tern_push::apns::Apns;
use tern_push::mock::{ApnsMock, Identity};
use tern_push::{
    ApnsToken, ApnsUse, CollapseKey, DeviceId, Kind, NotTaken, Notice, NoticeId, Order, Outcome, Priority,
    Sender, Settings, Token, Wall,
};

fn order(number: u64, expires_s: u64) -> Order {
    let token = ApnsToken::new(&format!("{number:064x}"), ApnsUse::Notices, 0).expect("it is one");
    let notice = Notice {
        id: NoticeId(number.into()),
        kind: Kind::Message,
        badge: Some(1),
        collapse: CollapseKey::new(b"chat").ok(),
        priority: Priority::High,
        expires_s,
        preview: None,
        chat: None,
    };
    Order { device: DeviceId(number.into()), token: Token::Apns(token), notice }
}

#[tokio::main(worker_threads = 2)]
#[allow(clippy::print_stdout, reason = "it is a program that prints what it has measured")]
async fn main() {
    let number =
        |at, otherwise| std::env::args().nth(at).map_or(otherwise, |text| text.parse().expect("a number"));
    let (count, in_flight_max) = (number(1, 100_000_u64), number(2, 512_u64) as usize);
    let wall = Wall::system();
    let mock = ApnsMock::start(Arc::new(Identity::default()), wall.clone()).await;
    let apns = Apns::new(mock.config(), wall.clone()).expect("the mock's settings are good");
    let settings = Settings { in_flight_max, ..Settings::default() };
    let (sender, mut outcomes) =
        Sender::start(settings, vec![Arc::new(apns)], &wall, ChaCha8Rng::seed_from_u64(1));

    let began = Instant::now();
    let expires_s = wall.now_s() + 3600;
    let (mut offered, mut ended, mut delivered) = (0, 0, 0_u64);
    while ended < count {
        while offered < count {
            match sender.offer(order(offered, expires_s)) {
                Ok(()) => offered += 1,
                Err(NotTaken::Full) => break,
                Err(error) => panic!("{error}"),
            }
        }
        let report = outcomes.next().await.expect("there are some left");
        delivered += u64::from(report.outcome == Outcome::Delivered);
        ended += 1;
    }
    let took = began.elapsed();
    println!(
        "{count} pushes, {delivered} delivered, {} requests, {in_flight_max} in flight: {:.0} pushed/s",
        mock.book().count(),
        count as f64 / took.as_secs_f64()
    );
}
