//! Who is here and who types, against a real server of several cores: told to those who show it and may see it, and to nobody else; a
//! connection that falls silent ends, and its person is not here then; nobody flickers.

use std::time::{Duration, Instant};

use prost::Message as _;
use tern_proto::v1::{
    self, Audience, Doing, Kind, Reason, client_frame::Request, private::What, server_frame::Message,
};
use tern_testkit::person::{Person, people};
use tern_testkit::{Raw, Ternd, TerndOptions};

const PRIVATE: u64 = 1 << 43;

/// A server that is quick to say that somebody has gone.
fn server(limits: &[(&str, u64)]) -> Ternd {
    let limit = |(name, value): &(&str, u64)| ["--limit".to_owned(), format!("{name}={value}")];
    let arguments = limits.iter().flat_map(limit).collect();
    Ternd::start_with(TerndOptions { cores: 4, arguments, ..TerndOptions::default() })
}

/// A connection of a person that shows others.
struct Looker {
    raw: Raw,
    /// What has come of presence and activities, in its order, and was not looked at.
    heard: Vec<Message>,
}

impl Looker {
    /// Another device of a person.
    fn of(server: &Ternd, person: &Person) -> Self {
        let session = Raw::registered(server, &person.user.phone, "");
        Self { raw: Raw::logged_in(server, &session.access_token), heard: Vec::new() }
    }

    fn ask(&mut self, request: Request) -> Message {
        let id = self.raw.send(request);
        loop {
            let frame = self.raw.receive().expect("the connection stands");
            let message = frame.message.expect("no kind that this does not know");
            if frame.id == id {
                return message;
            }
            self.heard.push(message);
        }
    }

    fn show(&mut self, user_ids: &[u64], groups: &[u64]) {
        let shows = v1::Subscribe { user_ids: user_ids.to_vec(), groups: groups.to_vec(), away: false };
        assert!(matches!(self.ask(Request::Subscribe(shows)), Message::Subscribed(_)));
    }

    fn next(&mut self) -> Message {
        loop {
            let message = match self.heard.is_empty() {
                false => self.heard.remove(0),
                true => self.raw.receive().expect("something comes").message.expect("it is known"),
            };
            if matches!(message, Message::Presence(_) | Message::Activity(_)) {
                return message;
            }
        }
    }

    fn presence(&mut self) -> v1::Presence {
        match self.next() {
            Message::Presence(presence) => presence,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until somebody is told to be here, or not.
    fn until(&mut self, user_id: u64, online: Option<bool>) -> v1::Presence {
        loop {
            let presence = self.presence();
            if presence.user_id == user_id && presence.online == online {
                return presence;
            }
        }
    }

    fn activity(&mut self) -> (u64, Doing, u64) {
        match self.next() {
            Message::Activity(activity) => (activity.chat, activity.doing(), activity.sender),
            other => panic!("{other:?}"),
        }
    }

    /// What was asked before has been done, and told.
    fn nothing_else_comes(&mut self) {
        for _ in 0..3 {
            self.ask(Request::Ping(v1::Ping {}));
        }
        let told = |message: &Message| matches!(message, Message::Presence(_) | Message::Activity(_));
        assert!(!self.heard.iter().any(told), "{:?}", self.heard);
    }
}

fn acts(person: &mut Person, chat: u64, doing: Doing) -> Message {
    person.ask(Request::Activity(v1::Activity { chat, doing: doing.into(), sender: 0 }))
}

fn says(person: &mut Person, what: What) {
    let body = v1::Private { what: Some(what) }.encode_to_vec();
    person.sends(PRIVATE, Kind::Private, 0, &body);
}

#[test]
fn who_shows_somebody_is_told_when_they_come_go_and_type() {
    let server = server(&[("presence_grace_ms", 200)]);
    let [ann, mut bob, cat] = people(&server);
    let (of_ann, of_bob, of_cat) = (ann.user.id, bob.user.id, cat.user.id);
    let token = bob.user.token.clone();
    let mut looks = Looker::of(&server, &ann);
    looks.show(&[of_bob], &[]);
    looks.until(of_bob, Some(true));
    assert!(matches!(acts(&mut bob, of_ann, Doing::Typing), Message::ActivityTold(_)));
    assert_eq!(looks.activity(), (of_bob, Doing::Typing, 0));
    assert!(matches!(acts(&mut bob, of_ann, Doing::Nothing), Message::ActivityTold(_)));
    assert_eq!(looks.activity(), (of_bob, Doing::Nothing, 0));
    // It is told every 3 seconds, whatever connection says it.
    let Message::Refused(refused) = acts(&mut bob, of_ann, Doing::Typing) else { panic!("too soon") };
    assert!(refused.reason() == Reason::RateLimited && refused.retry_after_ms <= 3_000);
    // To others nothing of it is told, nor to those who do not show him.
    acts(&mut bob, of_cat, Doing::Recording);
    looks.nothing_else_comes();
    let before_ms = server_ms(&mut looks);
    drop(bob);
    let gone = looks.until(of_bob, Some(false));
    assert!((before_ms..=server_ms(&mut looks)).contains(&gone.last_seen_ms), "{gone:?}");
    // One who comes to look later is told the same.
    let mut later = Looker::of(&server, &cat);
    later.show(&[of_bob, of_ann], &[]);
    let told = [later.presence(), later.presence()];
    assert!(told.contains(&gone), "{told:?}");
    // Who shows nobody is told nothing.
    looks.show(&[], &[]);
    let _bob = Raw::logged_in(&server, &token);
    later.until(of_bob, Some(true));
    looks.nothing_else_comes();
}

/// The time by the server's clock.
fn server_ms(looker: &mut Looker) -> u64 {
    match looker.ask(Request::Ping(v1::Ping {})) {
        Message::Pong(pong) => pong.time_ms,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_that_falls_silent_ends_and_its_person_with_it() {
    let server = server(&[("presence_grace_ms", 100), ("idle_timeout_ms", 1_500)]);
    let [ann, bob] = people(&server);
    let mut looks = Looker::of(&server, &ann);
    looks.show(&[bob.user.id], &[]);
    looks.until(bob.user.id, Some(true));
    // Bob's connection stays open and says nothing; Ann's pings.
    let deadline = Instant::now() + Duration::from_secs(60);
    let is_gone =
        |message: &Message| matches!(message, Message::Presence(gone) if gone.online == Some(false));
    while !looks.heard.iter().any(is_gone) {
        assert!(Instant::now() < deadline, "nobody says that he has gone");
        looks.ask(Request::Ping(v1::Ping {}));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_hidden_is_shown_to_nobody_and_shows_nothing_of_others() {
    let server = server(&[("presence_grace_ms", 100)]);
    let [mut ann, mut bob, cat] = people(&server);
    let (of_ann, of_bob) = (ann.user.id, bob.user.id);
    // In one group they are, and that shows nothing.
    let group = ann.make("friends", vec![of_bob, cat.user.id], v1::GroupSettings::default());
    let nobody: i32 = Audience::Nobody.into();
    let contacts: i32 = Audience::Contacts.into();
    says(
        &mut bob,
        What::Privacy(v1::Privacy { online: contacts, last_seen: contacts, ..Default::default() }),
    );
    let mut looks = Looker::of(&server, &ann);
    looks.show(&[of_bob, 99], &[group]);
    looks.nothing_else_comes();
    let contact = |off| {
        let contact = v1::Contact { user_id: of_ann, off, ..v1::Contact::default() };
        What::Contacts(v1::Contacts { contacts: vec![contact] })
    };
    says(&mut bob, contact(false));
    looks.until(of_bob, Some(true));
    // Hers he may not see: so she does not see his.
    says(&mut ann, What::Privacy(v1::Privacy { online: nobody, last_seen: nobody, ..Default::default() }));
    assert_eq!(looks.presence(), v1::Presence { user_id: of_bob, online: None, last_seen_ms: 0 });
    says(&mut ann, What::Privacy(v1::Privacy::default()));
    looks.until(of_bob, Some(true));
    // Whom he blocks sees nothing, and hears nothing in groups either.
    says(&mut bob, What::Blocked(v1::Blocked { user_id: of_ann, off: false }));
    assert_eq!(looks.presence().online, None);
    let mut other = Looker::of(&server, &cat);
    other.show(&[], &[group]);
    acts(&mut bob, group, Doing::Typing);
    assert_eq!(other.activity(), (group, Doing::Typing, of_bob));
    acts(&mut bob, of_ann, Doing::Typing);
    looks.nothing_else_comes();
    // And what she does he is not told.
    let mut his = Looker::of(&server, &bob);
    his.show(&[of_ann], &[]);
    acts(&mut ann, of_bob, Doing::Typing);
    his.nothing_else_comes();
}

#[test]
fn who_said_to_be_away_is_here_when_the_device_comes_on_another_connection() {
    let server = server(&[("presence_grace_ms", 200)]);
    let [ann, bob] = server.provision(2).try_into().expect("two");
    let on = |token: &str| Looker { raw: Raw::logged_in(&server, token), heard: Vec::new() };
    let (mut looks, mut first) = (on(&ann.token), on(&bob.token));
    looks.show(&[bob.id], &[]);
    looks.until(bob.id, Some(true));
    let away = v1::Subscribe { away: true, ..v1::Subscribe::default() };
    assert!(matches!(first.ask(Request::Subscribe(away)), Message::Subscribed(_)));
    looks.until(bob.id, Some(false));
    // The connection before still stands.
    let _second = on(&bob.token);
    looks.until(bob.id, Some(true));
}

#[test]
fn what_can_not_be_shown_or_done_is_refused_and_changes_nothing() {
    let server = server(&[("subscriptions_per_minute_max", 300)]);
    let [mut ann, bob, cat] = people(&server);
    let group = ann.make("friends", vec![bob.user.id], v1::GroupSettings::default());
    let mut looks = Looker::of(&server, &ann);
    looks.show(&[bob.user.id], &[]);
    looks.until(bob.user.id, Some(true));
    let shows = |user_ids: Vec<u64>, groups: Vec<u64>| {
        Request::Subscribe(v1::Subscribe { user_ids, groups, away: false })
    };
    let mut refused = |request| match looks.ask(request) {
        Message::Refused(refused) => refused.reason(),
        other => panic!("{other:?}"),
    };
    for bad in [
        shows((1..=257).collect(), vec![]),
        shows(vec![0], vec![]),
        shows(vec![7, 7], vec![]),
        shows(vec![], vec![7]),
        shows(vec![], (0..17).map(|number| group + number * 4096).collect()),
    ] {
        assert_eq!(refused(bad), Reason::InvalidArgument);
    }
    let activity = |chat, doing| Request::Activity(v1::Activity { chat, doing, sender: 0 });
    assert_eq!(refused(activity(PRIVATE, 0)), Reason::InvalidArgument);
    assert_eq!(refused(activity(bob.user.id, 9)), Reason::InvalidArgument);
    assert_eq!(refused(activity(group + 4096, 0)), Reason::UnknownGroup);
    // So many people at once may be, and not again at once, on whatever connection.
    assert!(matches!(looks.ask(shows((100..300).collect(), vec![])), Message::Subscribed(_)));
    let mut more = Looker::of(&server, &ann);
    let Message::Refused(refused) = more.ask(shows((400..600).collect(), vec![])) else { panic!("too many") };
    assert!(refused.reason() == Reason::RateLimited && refused.retry_after_ms > 0);
    // Who is no member neither acts nor shows.
    let mut stranger = Looker::of(&server, &cat);
    stranger.show(&[], &[group]);
    let Message::Refused(refused) = stranger.ask(activity(group, 0)) else { panic!("no member") };
    assert_eq!(refused.reason(), Reason::UnknownGroup);
    acts(&mut ann, group, Doing::Typing);
    stranger.nothing_else_comes();
}
