//! What a server may do at its worst, and what a client must make of it: docs/PROTOCOL.md, section 13.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};

use crate::run::{Flow, Run, Seen};
use crate::world::{PEER, go_away, now_ms, push, refused, response};

/// A case.
pub struct Case {
    pub name: &'static str,
    /// Duties of section 13 that it tries.
    pub duties: &'static [u8],
    /// What the server does.
    pub what: &'static str,
    pub run: fn(&mut Run<'_>) -> Result<(), String>,
}

/// All of them.
pub const CASES: [Case; 24] = [
    Case {
        name: "stranger",
        duties: &[1],
        what: "shows a certificate that the client was not given",
        run: stranger,
    },
    Case {
        name: "honest",
        duties: &[1, 4, 5],
        what: "does nothing wrong: both sides say something",
        run: honest,
    },
    Case {
        name: "limits",
        duties: &[2],
        what: "takes two requests at a time and bodies of 64 bytes",
        run: limits,
    },
    Case {
        name: "lost-sent",
        duties: &[3],
        what: "takes a message, and ends the connection before it says so",
        run: lost_sent,
    },
    Case {
        name: "killed",
        duties: &[3],
        what: "takes a message; the client is killed before it hears of it",
        run: killed,
    },
    Case { name: "late-sent", duties: &[4], what: "says Sent a second and a half later", run: late_sent },
    Case {
        name: "acknowledged",
        duties: &[5],
        what: "pushes, and the client is killed as soon as it has acknowledged something",
        run: acknowledged,
    },
    Case { name: "doubled", duties: &[6], what: "pushes everything twice", run: doubled },
    Case {
        name: "overtaken",
        duties: &[6],
        what: "says Sent before it pushes what came before",
        run: overtaken,
    },
    Case { name: "gap", duties: &[6], what: "leaves an entry out, and says CaughtUp", run: gap },
    Case {
        name: "receipts",
        duties: &[7],
        what: "tells watermarks that are lower than before",
        run: receipts,
    },
    Case {
        name: "lost-refresh",
        duties: &[8],
        what: "exchanges tokens, and the answer is lost",
        run: lost_refresh,
    },
    Case { name: "at-the-door", duties: &[9], what: "ends each connection at once", run: at_the_door },
    Case { name: "come-later", duties: &[9], what: "says GoAway, and not before 1.5 s", run: come_later },
    Case { name: "busy", duties: &[9], what: "refuses a message twice, for 0.8 s each", run: busy },
    Case {
        name: "replaced",
        duties: &[9],
        what: "says that another copy of the device is here",
        run: replaced,
    },
    Case { name: "silent", duties: &[10], what: "falls silent, and closes nothing", run: silent },
    Case { name: "idle", duties: &[10], what: "ends what is silent for 3 s", run: idle },
    Case {
        name: "unknown",
        duties: &[11],
        what: "says fields, pushes, reasons and kinds of a later version",
        run: unknown,
    },
    Case { name: "other-store", duties: &[13], what: "was set up anew", run: other_store },
    Case {
        name: "put-back",
        duties: &[7, 13],
        what: "was put back from a copy: two entries are gone, and others stand there",
        run: put_back,
    },
    Case {
        name: "deleted",
        duties: &[14],
        what: "tells that a message with an edit is deleted for everyone",
        run: deleted,
    },
    Case {
        name: "taken-back",
        duties: &[14],
        what: "tells that a message is deleted before it says Sent of it",
        run: taken_back,
    },
    Case {
        name: "ended",
        duties: &[14],
        what: "says nothing when messages end, one before the client's eyes and one while it is away",
        run: ended,
    },
];

/// Registers, logs in and catches up.
fn begin(run: &mut Run<'_>) -> Result<(), String> {
    run.start()?;
    run.caught_up()
}

/// What the client shows of the chat, by seq, as it comes.
fn shown(seen: &Seen) -> Option<(u64, String)> {
    match seen {
        Seen::Said(said) if said["message"]["chat"] == PEER => {
            let message = &said["message"];
            Some((message["seq"].as_u64()?, message["text"].as_str().unwrap_or_default().to_owned()))
        }
        _ => None,
    }
}

fn stranger(run: &mut Run<'_>) -> Result<(), String> {
    run.door.is_strange = true;
    run.start()?;
    let mut tried = false;
    let begun = Instant::now();
    while !tried || begun.elapsed() < Duration::from_secs(3) {
        // A client that gives up has said no.
        match run.next(Instant::now() + Duration::from_secs(3)) {
            Ok(Some(Seen::Frame(_))) => {
                return Err("it spoke to a server whose certificate it was not given".to_owned());
            }
            Ok(Some(Seen::Connected | Seen::NotConnected)) => tried = true,
            Ok(Some(_)) => {}
            Ok(None) if begun.elapsed() > Duration::from_secs(30) => {
                return Err("it did not try to connect".to_owned());
            }
            Ok(None) => {}
            Err(_) if tried => return Ok(()),
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

fn honest(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    let tag = run.send("hello from the client")?;
    let seq = run.sent(tag)?;
    if seq != 1 {
        return Err(format!("it says that its message is {seq}, and it is 1"));
    }
    let seq = run.world.peer_says("hello from the chat");
    let entry = run.world.entry(seq);
    run.say(&entry);
    run.until("show what the chat says", |_, seen| match shown(seen) {
        Some((2, text)) if text == "hello from the chat" => Ok(Flow::Done(())),
        Some((2, text)) => Err(format!("it shows {text:?}, and that is not what was said")),
        _ => Ok(Flow::Honest),
    })?;
    run.acknowledged(2)
}

fn limits(run: &mut Run<'_>) -> Result<(), String> {
    run.world.limits.requests_in_flight_max = 2;
    run.world.limits.body_bytes_max = 64;
    begin(run)?;
    let tags = (0..6).map(|n| run.send(&format!("message {n}"))).collect::<Result<Vec<_>, _>>()?;
    // Answered late, so that whoever sends more than two at a time is seen.
    let mut late: Vec<Seen> = Vec::new();
    run.during(Duration::from_millis(800), |_, seen| {
        let is_send = matches!(Run::request(seen), Some((_, Request::Send(_))));
        if is_send {
            late.push(seen.clone());
        }
        Ok(if is_send { Flow::Taken } else { Flow::Honest })
    })?;
    late.iter().for_each(|seen| run.honest(seen));
    for tag in tags {
        run.sent(tag)?;
    }
    let tag = run.send(&"x".repeat(65))?;
    run.until("say that a message is too long for this server", |run, seen| {
        run.honest(seen);
        Ok(if run.told.contains_key(&tag) { Flow::Held(()) } else { Flow::Taken })
    })
}

/// Until a message comes: it is taken, and the connection ends before the answer.
fn taken_and_lost(run: &mut Run<'_>) -> Result<v1::Send, String> {
    run.until("send its message", |run, seen| match Run::request(seen) {
        Some((_, Request::Send(send))) => {
            let send = send.clone();
            run.world.append(&send);
            run.close();
            Ok(Flow::Held(send))
        }
        _ => Ok(Flow::Honest),
    })
}

fn lost_sent(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    let tag = run.send("once")?;
    let first = taken_and_lost(run)?;
    let seq = run.sent(tag)?;
    let entries = run.world.log.iter().filter(|stored| stored.body == first.body).count();
    match (seq, entries) {
        (1, 1) => Ok(()),
        (_, 1) => Err(format!("it says that its message is {seq}, and it is 1")),
        _ => Err(format!("its message is there {entries} times: it was sent again under another client_id")),
    }
}

fn killed(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    run.send("survives")?;
    let first = taken_and_lost(run)?;
    run.kill();
    let highest = run.world.highest_client_id;
    // Its answer comes by the entry itself, or by the message again: the log must have it once.
    run.start()?;
    run.caught_up()?;
    let tag = run.send("after the restart")?;
    let second = taken_number(run, b"after the restart")?;
    run.sent(tag)?;
    let entries = run.world.log.iter().filter(|stored| stored.body == first.body).count();
    if entries != 1 {
        return Err(format!("its message is there {entries} times after the restart"));
    }
    if second <= highest + 1 {
        return Err(format!(
            "after the restart it used the client_id {second}, and before it {highest}: it does not raise its counter at a \
             start, and would use a number twice when its state was put back from a copy"
        ));
    }
    Ok(())
}

/// Until a message of this body comes. Gives its number.
fn taken_number(run: &mut Run<'_>, body: &[u8]) -> Result<u64, String> {
    run.until("send its message", |_, seen| match Run::request(seen) {
        Some((_, Request::Send(send))) if send.body == body => Ok(Flow::Done(send.client_id)),
        _ => Ok(Flow::Honest),
    })
}

fn late_sent(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    let tag = run.send("patience")?;
    let request = run.until("send its message", |_, seen| match Run::request(seen) {
        Some((_, Request::Send(_))) => Ok(Flow::Held(seen.clone())),
        _ => Ok(Flow::Honest),
    })?;
    let is_early = |run: &Run<'_>| match run.told.contains_key(&tag) {
        true => Err("it said that its message is sent before the server had said so".to_owned()),
        false => Ok(Flow::Honest),
    };
    run.during(Duration::from_millis(1500), |run, _| is_early(run))?;
    // It may have said so before its message came, and nothing since.
    is_early(run)?;
    run.honest(&request);
    run.sent(tag).map(drop)
}

fn acknowledged(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    for number in 1..=5 {
        let seq = run.world.peer_says(&format!("entry {number}"));
        let entry = run.world.entry(seq);
        run.say(&entry);
    }
    let upto = run.until("acknowledge anything", |run, seen| match Run::request(seen) {
        Some((_, Request::Acknowledge(acknowledge))) if acknowledge.delivered_upto > 0 => {
            let upto = acknowledge.delivered_upto;
            run.kill();
            run.world.position = upto;
            Ok(Flow::Held(upto))
        }
        _ => Ok(Flow::Honest),
    })?;
    run.start()?;
    run.caught_up()?;
    let have = run.have()?;
    match (1..=upto).find(|seq| !have.contains(seq)) {
        Some(missing) => {
            Err(format!("it had acknowledged {upto}, was killed, and has no entry {missing} any more"))
        }
        None => Ok(()),
    }
}

fn doubled(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    for number in 1..=3 {
        let seq = run.world.peer_says(&format!("entry {number}"));
        for _ in 0..2 {
            let entry = run.world.entry(seq);
            run.say(&entry);
        }
    }
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    let mut count = |seen: &Seen| {
        if let Some((seq, _)) = shown(seen) {
            *times.entry(seq).or_default() += 1;
        }
    };
    run.until("acknowledge all", |run, seen| {
        count(seen);
        run.honest(seen);
        Ok(if run.world.position >= 3 { Flow::Held(()) } else { Flow::Taken })
    })?;
    run.during(Duration::from_millis(500), |_, seen| {
        count(seen);
        Ok(Flow::Honest)
    })?;
    match times.iter().find(|(_, times)| **times > 1) {
        Some((seq, times)) => Err(format!("it showed entry {seq} {times} times")),
        None => Ok(()),
    }
}

fn overtaken(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    // The peer's entry 1 is on its way when the client's own becomes 2; and the same once more.
    for round in 0..2u64 {
        let seq = run.world.peer_says(&format!("on its way {round}"));
        let tag = run.send(&format!("overtakes {round}"))?;
        run.sent(tag)?;
        run.during(Duration::from_millis(300), |_, _| Ok(Flow::Honest))?;
        let entry = run.world.entry(seq);
        run.say(&entry);
        run.acknowledged(2 * round + 2)?;
    }
    Ok(())
}

fn gap(run: &mut Run<'_>) -> Result<(), String> {
    for number in 1..=5 {
        run.world.peer_says(&format!("entry {number}"));
    }
    run.start()?;
    run.until("log in and resume", |run, seen| match Run::request(seen) {
        Some((id, Request::Resume(_))) => {
            run.say(&response(id, Message::Resumed(v1::Resumed { rewound: false })));
            for seq in [1, 2, 4, 5] {
                let entry = run.world.entry(seq);
                run.say(&entry);
            }
            run.say(&push(Message::CaughtUp(v1::CaughtUp {})));
            run.world.connection.resumed = true;
            Ok(Flow::Held(()))
        }
        _ => Ok(Flow::Honest),
    })
    .and_then(|()| {
        let mut order = Vec::new();
        run.until("acknowledge up to 5, with the missing one", |run, seen| {
            order.extend(shown(seen).map(|(seq, _)| seq));
            run.honest(seen);
            Ok(if run.world.position >= 5 { Flow::Held(()) } else { Flow::Taken })
        })?;
        match order.windows(2).find(|pair| pair[0] > pair[1]) {
            Some(pair) => Err(format!("it showed entry {} after {}", pair[1], pair[0])),
            None => Ok(()),
        }
    })
}

fn receipts(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    let tag = run.send("one")?;
    run.sent(tag)?;
    let tag = run.send("two")?;
    run.sent(tag)?;
    run.world.marks = (2, 2);
    for (delivered, read) in [(2, 1), (1, 0), (2, 2), (1, 1)] {
        let receipt = run.world.receipt(delivered, read);
        run.say(&receipt);
    }
    let mut highest = (0, 0);
    let mut look = |seen: &Seen| {
        if let Seen::Said(said) = seen
            && said["receipt"]["chat"] == PEER
        {
            let number = |key: &str| said["receipt"][key].as_u64().unwrap_or_default();
            let marks = (number("delivered_upto"), number("read_upto"));
            if marks.0 < highest.0 || marks.1 < highest.1 {
                return Err(format!("it showed {marks:?} (delivered, read) after {highest:?}"));
            }
            highest = marks;
        }
        Ok(highest == (2, 2))
    };
    run.until("show that the chat has read all", |_, seen| {
        Ok(if look(seen)? { Flow::Done(()) } else { Flow::Honest })
    })?;
    run.during(Duration::from_millis(500), |_, seen| look(seen).map(|_| Flow::Honest))
}

fn lost_refresh(run: &mut Run<'_>) -> Result<(), String> {
    // Tokens that are as good as over: they are exchanged before the login.
    run.world.access_valid_ms = 1000;
    run.start()?;
    let first = refresh_and_lose(run)?;
    run.kill();
    run.start()?;
    let second = refresh_and_lose(run)?;
    if (&second.refresh_token, &second.nonce) != (&first.refresh_token, &first.nonce) {
        return Err("after a restart it exchanged the token with another nonce".to_owned());
    }
    run.world.access_valid_ms = 3_600_000;
    let mut known = second;
    run.until("use the new tokens", |run, seen| match Run::request(seen) {
        Some((_, Request::Refresh(refresh))) => {
            if refresh.refresh_token == known.refresh_token && refresh.nonce != known.nonce {
                return Err("it exchanged the token again with another nonce".to_owned());
            }
            known = refresh.clone();
            Ok(Flow::Honest)
        }
        Some((_, Request::Resume(_))) => Ok(Flow::Done(())),
        _ => {
            let _ = run;
            Ok(Flow::Honest)
        }
    })
}

/// Until tokens are exchanged: that is done, and the connection ends before the answer.
fn refresh_and_lose(run: &mut Run<'_>) -> Result<v1::Refresh, String> {
    run.until("exchange its refresh token", |run, seen| match Run::request(seen) {
        Some((_, Request::Refresh(refresh))) => {
            let refresh = refresh.clone();
            if let Seen::Frame(frame) = seen {
                run.world.answer(frame);
            }
            run.close();
            Ok(Flow::Held(refresh))
        }
        _ => Ok(Flow::Honest),
    })
}

fn at_the_door(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    run.close();
    let mut tries = Vec::new();
    run.during(Duration::from_secs(8), |run, seen| {
        if matches!(seen, Seen::Connected) {
            tries.push(Instant::now());
            run.close();
        }
        Ok(Flow::Taken)
    })?;
    // Full jitter within bounds that double from half a second on: 8 s hold about six tries, hardly ever ten.
    if tries.len() > 25 {
        return Err(format!(
            "it tried {} times in 8 s: each failure must double what it waits at most",
            tries.len()
        ));
    }
    run.caught_up().map_err(|why| format!("it came back no more: {why}"))
}

/// Until the client connects again. Gives how long that took.
fn back_after(run: &mut Run<'_>) -> Result<Duration, String> {
    let begun = Instant::now();
    run.until("come back", |_, seen| match seen {
        Seen::Connected | Seen::NotConnected => Ok(Flow::Done(begun.elapsed())),
        _ => Ok(Flow::Honest),
    })
}

fn come_later(run: &mut Run<'_>) -> Result<(), String> {
    const WAIT: Duration = Duration::from_millis(1500);
    begin(run)?;
    run.say(&go_away(Reason::ShuttingDown.into(), WAIT.as_millis() as u32));
    run.close();
    let after = back_after(run)?;
    if after < WAIT {
        return Err(format!("it came back after {} ms of 1,500", after.as_millis()));
    }
    run.caught_up()
}

fn busy(run: &mut Run<'_>) -> Result<(), String> {
    const WAIT: Duration = Duration::from_millis(800);
    begin(run)?;
    let tag = run.send("again")?;
    let mut refusals: Vec<Instant> = Vec::new();
    let mut number = None;
    run.until("send its message again", |run, seen| match Run::request(seen) {
        Some((id, Request::Send(send))) => {
            if number.replace(send.client_id).is_some_and(|before| before != send.client_id) {
                return Err("it sent its message again under another client_id".to_owned());
            }
            if refusals.last().is_some_and(|last| last.elapsed() < WAIT) {
                return Err("it sent its message again before retry_after_ms was over".to_owned());
            }
            if refusals.len() == 2 {
                return Ok(Flow::Done(()));
            }
            run.say(&refused(id, Reason::Overloaded.into(), WAIT.as_millis() as u32));
            refusals.push(Instant::now());
            Ok(Flow::Taken)
        }
        _ => Ok(Flow::Honest),
    })?;
    run.sent(tag).map(drop)
}

fn replaced(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    run.say(&go_away(Reason::Replaced.into(), 0));
    run.close();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        match run.next(Instant::now() + Duration::from_secs(1)) {
            Ok(Some(Seen::Connected | Seen::NotConnected)) => {
                return Err("it came back by itself: two copies of it would fight for ever".to_owned());
            }
            // A client that ends has stayed away.
            Err(_) => return Ok(()),
            Ok(_) => {}
        }
    }
    Ok(())
}

fn silent(run: &mut Run<'_>) -> Result<(), String> {
    run.world.limits.idle_timeout_ms = 2000;
    begin(run)?;
    run.until("close a connection that does not answer, and make another", |_, seen| match seen {
        Seen::Connected => Ok(Flow::Done(())),
        _ => Ok(Flow::Taken),
    })?;
    run.caught_up()
}

fn idle(run: &mut Run<'_>) -> Result<(), String> {
    const IDLE: Duration = Duration::from_secs(3);
    run.world.limits.idle_timeout_ms = IDLE.as_millis() as u32;
    begin(run)?;
    let mut last = Instant::now();
    run.during(Duration::from_secs(9), |_, seen| {
        match seen {
            Seen::Frame(_) if last.elapsed() > IDLE => {
                return Err(format!(
                    "it was silent for {} ms: the server would have ended it",
                    last.elapsed().as_millis()
                ));
            }
            Seen::Frame(_) => last = Instant::now(),
            Seen::Connected | Seen::Ended => return Err("it did not keep its connection".to_owned()),
            _ => {}
        }
        Ok(Flow::Honest)
    })?;
    if last.elapsed() > IDLE { Err("it fell silent".to_owned()) } else { Ok(()) }
}

/// A frame with a field that no version has yet.
fn with_unknown_field(frame: &v1::ServerFrame) -> Vec<u8> {
    let mut bytes = prost::Message::encode_to_vec(frame);
    prost::encoding::string::encode(901, &"of a later version".to_owned(), &mut bytes);
    bytes
}

fn unknown(run: &mut Run<'_>) -> Result<(), String> {
    run.start()?;
    // Every answer has a field that the client can't know, and between them comes a push of a kind that it can't.
    let say = |run: &mut Run<'_>, seen: &Seen| {
        if let Seen::Frame(frame) = seen {
            for answer in run.world.answer(frame) {
                run.world.connection.unanswered.remove(&answer.id);
                let bytes = with_unknown_field(&answer);
                if let Some(link) = &mut run.link {
                    link.say_message(&bytes);
                    let resumed = matches!(answer.message, Some(Message::Resumed(_)));
                    if resumed {
                        link.say_message(&with_unknown_field(&v1::ServerFrame::default()));
                    }
                }
            }
        }
    };
    run.until("log in and resume, with fields that it does not know", |run, seen| {
        let resumed = matches!(Run::request(seen), Some((_, Request::Resume(_))));
        say(run, seen);
        if resumed {
            return Ok(Flow::Held(()));
        }
        Ok(Flow::Taken)
    })?;
    let tag = run.send("refused for a reason of a later version")?;
    let mut refusals = 0;
    run.until("send again what was refused for now, whatever the reason", |run, seen| {
        match Run::request(seen) {
            Some((id, Request::Send(_))) if refusals == 0 => {
                refusals += 1;
                run.say(&refused(id, 4711, 300));
                Ok(Flow::Taken)
            }
            Some((_, Request::Send(_))) => Ok(Flow::Done(())),
            _ => Ok(Flow::Honest),
        }
    })?;
    run.sent(tag)?;
    // A kind that it can't show is shown as such, and stops nothing.
    let seq = run.world.peer_says("of a kind of a later version");
    run.world.log[seq as usize - 1].kind = 77;
    let entry = run.world.entry(seq);
    run.say(&entry);
    run.acknowledged(seq)?;
    run.say(&go_away(4711, 0));
    run.close();
    run.caught_up().map_err(|why| format!("after a GoAway with a reason of a later version {why}"))
}

fn other_store(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    let tag = run.send("to the old one")?;
    run.sent(tag)?;
    run.world.store = b"another store...".to_vec();
    run.close();
    // Whatever the person does now, nothing of this goes to another server.
    drop(run.send("must not be sent"));
    let begun = Instant::now();
    let mut met = false;
    while begun.elapsed() < Duration::from_secs(5) {
        match run.next(Instant::now() + Duration::from_millis(200)) {
            Ok(Some(seen)) => match Run::request(&seen) {
                Some((_, Request::Hello(_))) => {
                    met = true;
                    run.honest(&seen);
                }
                Some((_, Request::Login(_) | Request::Refresh(_))) => {
                    return Err("it sent its tokens to a server with another store".to_owned());
                }
                Some((_, Request::Send(_) | Request::Resume(_))) => {
                    return Err("it told a server with another store of its messages".to_owned());
                }
                _ => run.honest(&seen),
            },
            Ok(None) => {}
            // A client that ends has said no.
            Err(_) if met => return Ok(()),
            Err(why) => return Err(why),
        }
    }
    if met { Ok(()) } else { Err("it did not come back to see".to_owned()) }
}

fn put_back(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    let first = *run.world.generations.last().unwrap_or(&0);
    for number in 1..=5 {
        let seq = run.world.peer_says(&format!("entry {number}"));
        let entry = run.world.entry(seq);
        run.say(&entry);
    }
    run.acknowledged(5)?;
    // A copy of the time when it had acknowledged 3 is put back, and something else is said there.
    run.world.put_back(3);
    let second = *run.world.generations.last().unwrap_or(&0);
    run.world.generations = vec![second];
    run.world.peer_says("another entry 4");
    run.close();
    let mut named = None;
    let mut gone = Vec::new();
    run.until("show what is there now, and say what is gone", |run, seen| {
        if let Some((_, Request::Resume(resume))) = Run::request(seen) {
            named.get_or_insert_with(|| resume.generations.clone());
        }
        if let Seen::Said(said) = seen {
            gone.extend(said["gone"]["seq"].as_u64());
        }
        run.honest(seen);
        Ok(if run.world.position >= 4 && gone.contains(&5) && gone.contains(&4) {
            Flow::Held(())
        } else {
            Flow::Taken
        })
    })?;
    match named {
        Some(named) if named == [first] => {}
        Some(named) => {
            return Err(format!(
                "it named the generations {named:?} in its first Resume, and it was [{first}]"
            ));
        }
        None => return Err("it did not resume".to_owned()),
    }
    // From here on what it has is of the new past alone.
    run.close();
    let mut now = None;
    run.until("resume", |_, seen| match Run::request(seen) {
        Some((_, Request::Resume(resume))) => {
            now = Some(resume.generations.clone());
            Ok(Flow::Done(()))
        }
        _ => Ok(Flow::Honest),
    })?;
    if now.as_deref() == Some(&[second]) {
        Ok(())
    } else {
        Err(format!("after CaughtUp it named the generations {now:?}, and it is [{second}]"))
    }
}

/// Whether any text that the client has of the chat has this in it.
fn keeps(run: &mut Run<'_>, what: &str) -> Result<bool, String> {
    Ok(run.texts()?.iter().any(|text| text.contains(what)))
}

fn deleted(run: &mut Run<'_>) -> Result<(), String> {
    const REGRETTED: &str = "regretted";
    begin(run)?;
    let message = run.world.peer_says("words that are regretted");
    let edit = run.world.peer_edits(message, "other words that are regretted too");
    for seq in [message, edit] {
        let entry = run.world.entry(seq);
        run.say(&entry);
    }
    run.acknowledged(edit)?;
    if !keeps(run, REGRETTED)? {
        return Err("it does not say what it has of a message that was not deleted".to_owned());
    }
    let deletion = run.world.is_deleted(message);
    let entry = run.world.entry(deletion);
    run.say(&entry);
    run.acknowledged(deletion)?;
    if keeps(run, REGRETTED)? {
        return Err("it still has words that were deleted for everyone".to_owned());
    }
    run.kill();
    run.start()?;
    run.caught_up()?;
    if keeps(run, REGRETTED)? {
        return Err("after a restart it has words again that were deleted for everyone".to_owned());
    }
    Ok(())
}

/// How long messages last that end.
const LAST_MS: u64 = 2_000;

/// Until a moment is past by the client's clock, which is this one.
fn wait_beyond(run: &mut Run<'_>, ends_ms: u64) -> Result<(), String> {
    let left_ms = ends_ms.saturating_sub(now_ms()) + 1_000;
    run.during(Duration::from_millis(left_ms), |_, _| Ok(Flow::Honest))
}

fn ended(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    let (first, ends_ms) = run.world.peer_says_for("words that are fleeting", LAST_MS);
    let entry = run.world.entry(first);
    run.say(&entry);
    run.acknowledged(first)?;
    wait_beyond(run, ends_ms)?;
    if keeps(run, "fleeting")? {
        return Err("it still has words that have ended".to_owned());
    }
    let (second, ends_ms) = run.world.peer_says_for("words that are fugitive", LAST_MS);
    let entry = run.world.entry(second);
    run.say(&entry);
    run.acknowledged(second)?;
    run.kill();
    std::thread::sleep(Duration::from_millis(ends_ms.saturating_sub(now_ms())));
    run.start()?;
    run.caught_up()?;
    wait_beyond(run, 0)?;
    match keeps(run, "fugitive")? {
        true => Err("it has words that ended while it was away".to_owned()),
        false => Ok(()),
    }
}

fn taken_back(run: &mut Run<'_>) -> Result<(), String> {
    begin(run)?;
    let tag = run.send("words that are taken back")?;
    taken_and_lost(run)?;
    let deletion = run.world.is_deleted(run.world.head());
    run.until("resume", |run, seen| match Run::request(seen) {
        Some((id, Request::Resume(_))) => {
            run.say(&response(id, Message::Resumed(v1::Resumed { rewound: false })));
            let entry = run.world.entry(deletion);
            run.say(&entry);
            run.world.connection.resumed = true;
            Ok(Flow::Held(()))
        }
        _ => Ok(Flow::Honest),
    })?;
    // What is deleted is not told before it was sent again and answered, if the client does not wait for CaughtUp with that.
    let mut late: Vec<Seen> = Vec::new();
    run.during(Duration::from_millis(500), |_, seen| match Run::request(seen) {
        Some((_, Request::History(_))) => {
            late.push(seen.clone());
            Ok(Flow::Taken)
        }
        _ => Ok(Flow::Honest),
    })?;
    late.iter().for_each(|seen| run.honest(seen));
    run.say(&push(Message::CaughtUp(v1::CaughtUp {})));
    run.sent(tag)?;
    run.acknowledged(deletion)?;
    match keeps(run, "taken back")? {
        true => Err("it has the words of a message of its own that another device has deleted".to_owned()),
        false => Ok(()),
    }
}
