//! Two people chat through the real ternd: registration, messages, receipts, what was missed, history.

mod people;

use people::{Person, next_message, until};
use tern_client::{Error, Event, Reason};
use tern_testkit::Ternd;

#[tokio::test(flavor = "multi_thread")]
async fn two_people_chat_on_any_number_of_cores() {
    for cores in [1, 4] {
        let server = Ternd::start(cores);
        let (mut ann, mut bob) = people::pair(&server).await;
        for round in 1..=20u64 {
            let sent = ann.client.send(bob.id(), format!("to bob {round}")).await.expect("durable");
            assert_eq!(sent.seq, 2 * round - 1);
            let message = next_message(&mut bob.events).await;
            assert_eq!((message.seq, message.sender, message.time_ms), (sent.seq, ann.id(), sent.time_ms));
            assert_eq!(message.body, format!("to bob {round}").into_bytes());
            let sent = bob.client.send(ann.id(), format!("to ann {round}")).await.expect("durable");
            assert_eq!(sent.seq, 2 * round);
            let own = next_message(&mut bob.events).await;
            assert_eq!((own.seq, own.own), (2 * round, true));
            assert!(next_message(&mut ann.events).await.own);
            assert_eq!(next_message(&mut ann.events).await.seq, 2 * round);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_turn_delivered_then_read() {
    let server = Ternd::start(3);
    let (mut ann, mut bob) = people::pair(&server).await;
    let sent = ann.client.send(bob.id(), "seen?").await.expect("durable");
    next_message(&mut bob.events).await;
    bob.events.done();
    let delivered = until(&mut ann.events, |event| match event {
        Event::Receipt { chat, delivered_upto, read_upto, .. } if *chat == bob.person.user_id => {
            Some((*delivered_upto, *read_upto))
        }
        _ => None,
    })
    .await;
    assert_eq!(delivered, (sent.seq, 0));
    bob.client.mark_read(ann.id(), sent.seq).await.expect("marked");
    until(&mut ann.events, |event| match event {
        Event::Receipt { read_upto, .. } if *read_upto == sent.seq => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_comes_on_return_and_receipts_too() {
    let server = Ternd::start(4);
    let (mut ann, bob) = people::pair(&server).await;
    let (bob_id, bob_options) = (bob.id(), bob.leave().await);
    for number in 1..=300u64 {
        assert_eq!(ann.client.send(bob_id, format!("message {number}")).await.expect("durable").seq, number);
    }
    let ann_id = ann.id();
    let mut bob = Person::return_with(bob_options).await;
    for number in 1..=300u64 {
        let message = next_message(&mut bob.events).await;
        assert_eq!((message.seq, message.body), (number, format!("message {number}").into_bytes()));
    }
    until(&mut bob.events, |event| matches!(event, Event::CaughtUp).then_some(())).await;
    until(&mut ann.events, |event| match event {
        Event::Receipt { delivered_upto: 300, .. } => Some(()),
        _ => None,
    })
    .await;
    // Ann is away while Bob reads: she learns of it when she returns.
    let ann_options = ann.leave().await;
    bob.client.mark_read(ann_id, 300).await.expect("marked");
    let bob_options = bob.leave().await;
    let mut ann = Person::return_with(ann_options).await;
    let mut bob = Person::return_with(bob_options).await;
    until(&mut ann.events, |event| match event {
        Event::Receipt { read_upto: 300, .. } => Some(()),
        _ => None,
    })
    .await;
    until(&mut bob.events, |event| match event {
        Event::Message(message) => panic!("nothing was missed, but seq {} came", message.seq),
        Event::CaughtUp => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_pages_both_ways_without_holes() {
    let server = Ternd::start(2);
    let (ann, bob) = people::pair(&server).await;
    for number in 1..=150u64 {
        ann.client.send(bob.id(), format!("{number}")).await.expect("durable");
    }
    let (mut backwards, mut from) = (Vec::new(), 0);
    loop {
        let page = bob.client.history(ann.id(), from, false, 40).await.expect("read");
        assert_eq!(page.head, 150);
        let seqs: Vec<_> = page.messages.iter().map(|message| message.seq).collect();
        from = seqs[0];
        backwards.splice(0..0, seqs);
        if !page.more {
            break;
        }
    }
    assert_eq!(backwards, (1..=150).collect::<Vec<_>>());
    let page = bob.client.history(ann.id(), 140, true, 0).await.expect("read");
    let texts: Vec<_> =
        page.messages.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect();
    assert_eq!((texts, page.more), ((141..=150).map(|n| n.to_string()).collect::<Vec<_>>(), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_reasons_and_lose_nothing() {
    let server = Ternd::start(2);
    let (ann, bob) = people::pair(&server).await;
    let reason = |error: Error| match error {
        Error::Refused { reason, .. } => reason,
        other => panic!("expected a refusal, got {other}"),
    };
    let nobody = 4096 * 1_000_000 + 7;
    assert_eq!(reason(ann.client.send(nobody, "hello?").await.expect_err("nobody")), Reason::UnknownUser);
    let long = vec![b'x'; 64 * 1024 + 1];
    assert_eq!(reason(ann.client.send(bob.id(), long).await.expect_err("too long")), Reason::BodyTooLarge);
    assert_eq!(reason(ann.client.send(bob.id(), "").await.expect_err("empty")), Reason::InvalidArgument);
    assert_eq!(reason(ann.client.lookup_phone("+19999999").await.expect_err("nobody")), Reason::UnknownUser);
    let longest = vec![b'x'; 64 * 1024];
    assert_eq!(ann.client.send(bob.id(), longest).await.expect("durable").seq, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_device_has_everything_and_a_replaced_connection_is_told() {
    let server = Ternd::start(4);
    let (mut ann, mut bob) = people::pair(&server).await;
    ann.client.send(bob.id(), "first").await.expect("durable");
    next_message(&mut bob.events).await;
    let mut tablet = people::join(&server, "+15550002", "Bob").await;
    assert_eq!(tablet.id(), bob.id());
    assert_eq!(next_message(&mut tablet.events).await.body, b"first");
    bob.client.send(ann.id(), "from the phone").await.expect("durable");
    let message = next_message(&mut tablet.events).await;
    assert_eq!((message.body.as_slice(), message.own), (&b"from the phone"[..], true));
    // The same device connects once more: the first connection has to go.
    let twin = people::twin(&tablet).await;
    let ended = until(&mut tablet.events, |event| match event {
        Event::SessionEnded(reason) => Some(*reason),
        _ => None,
    })
    .await;
    assert_eq!(ended, Reason::Replaced);
    assert_eq!(twin.id(), bob.id());
    until(&mut ann.events, |event| {
        matches!(event, Event::Message(m) if m.body == b"from the phone").then_some(())
    })
    .await;
}
