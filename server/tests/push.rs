//! Push services against a real server of several cores, and services that speak the real protocols: who sleeps is told, by each service, with
//! the right number and no word unless it is asked for; who is awake is not; and nothing that was to be told is lost when a service is down, or
//! the server is killed.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tern_proto::v1::set_push::Address;
use tern_proto::v1::{
    self, Kind, Notify, Reason, client_frame::Request, private::What, server_frame::Message,
};
use tern_push::Wall;
use tern_push::mock::{ApnsMock, Book, FcmMock, Identity, Push, Reply, Subscriber, WebPushMock, WebhookMock};
use tern_testkit::person::{Person, added, seq_of};
use tern_testkit::{Ternd, TerndOptions, TestUser, program};

const PRIVATE: u64 = 1 << 43;

/// How long nothing may come before the test is taken to hang.
const HANG: Duration = Duration::from_secs(60);

/// The four services.
struct Services {
    apns: ApnsMock,
    fcm: FcmMock,
    web: WebPushMock,
    hook: WebhookMock,
    folder: TempDir,
}

impl Services {
    async fn start() -> Self {
        let (identity, wall) = (Arc::<Identity>::default(), Wall::system());
        let apns = ApnsMock::start(identity.clone(), wall.clone()).await;
        let fcm = FcmMock::start(identity.clone(), wall.clone()).await;
        let web = WebPushMock::start(identity.clone(), wall.clone()).await;
        let hook = WebhookMock::start(identity.clone(), wall).await;
        let folder = tempfile::tempdir().expect("a folder");
        let services = Self { apns, fcm, web, hook, folder };
        services.file("roots.pem", &identity.pem());
        services.file("apns.p8", &services.apns.config().key_pem);
        services.file("account.json", &services.fcm.config().account_json);
        services.file("web.pem", &services.web.config().key_pem);
        let key = String::from_utf8(services.hook.config().key).expect("a text");
        services.file("hook.key", &format!("{key}\n"));
        services
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).expect("written");
    }

    /// All services, and what else is to stand in `[push]`.
    fn config(&self, more: &str) -> PathBuf {
        let (apns, fcm, hook) = (self.apns.config(), self.fcm.config(), self.hook.config());
        let text = format!(
            "[push]\nroots = {:?}\nretry_ms = 5\n{more}\n[push.apns]\nkey_file = {:?}\nkey_id = {:?}\nteam_id = {:?}\ntopic = {:?}\nserver = {:?}\n\
             [push.fcm]\naccount_file = {:?}\nurl = {:?}\n[push.web_push]\ncontact = \"mailto:push@example.org\"\nkey_file = {:?}\nhosts = []\n\
             private_hosts = true\n[push.webhook]\nurl = {:?}\nkey_file = {:?}\nkey_id = {:?}\n",
            self.path("roots.pem"),
            self.path("apns.p8"),
            apns.key_id,
            apns.team_id,
            apns.topic,
            apns.url,
            self.path("account.json"),
            fcm.url,
            self.path("web.pem"),
            hook.url,
            self.path("hook.key"),
            hook.key_id,
        );
        self.file("ternd.toml", &text);
        self.path("ternd.toml")
    }

    fn server(&self, more: &str) -> Ternd {
        let config = self.config(more);
        let config = config.to_str().expect("UTF-8");
        let limits = ["push_wait_ms=300", "push_round_ms=200"];
        let limits = limits.iter().flat_map(|limit| ["--limit", limit]);
        let arguments = ["--config", config].into_iter().chain(limits).map(str::to_owned).collect();
        Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() })
    }

    /// What the operator's program was told for an address, with success, when it was so often.
    async fn told(&self, address: &str, times: usize) -> Vec<Value> {
        let is_his = |push: &Push| push.to == address && push.status < 300;
        let came = wait_for(self.hook.book(), times, is_his).await;
        came.iter().map(|push| serde_json::from_slice(&push.body).expect("JSON")).collect()
    }

    /// The same, as kind and number.
    async fn kinds(&self, address: &str, times: usize) -> Vec<(String, u64)> {
        let of = |told: Value| {
            (told["kind"].as_str().expect("a kind").to_owned(), told["badge"].as_u64().expect("a number"))
        };
        self.told(address, times).await.into_iter().map(of).collect()
    }
}

/// What came of this kind, when it was so much.
async fn wait_for(book: &Book, times: usize, is_one: impl Fn(&Push) -> bool) -> Vec<Push> {
    loop {
        let count = book.count();
        let came: Vec<_> = book.pushes().into_iter().filter(&is_one).collect();
        if came.len() >= times {
            return came;
        }
        let more = tokio::time::timeout(HANG, book.count_is(count + 1)).await;
        more.unwrap_or_else(|_| panic!("{} came and no more, of all {count}", came.len()));
    }
}

fn is(kind: &str, number: u64) -> (String, u64) {
    (kind.to_owned(), number)
}

fn hook(address: &str) -> Option<Address> {
    Some(Address::Webhook(v1::WebhookAddress { address: address.to_owned() }))
}

fn browser(subscriber: &Subscriber) -> Option<Address> {
    let subscription = subscriber.given();
    let key = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let (p256dh, auth) = (key(&subscription.1).into(), key(&subscription.2).into());
    Some(Address::WebPush(v1::WebPushAddress { endpoint: subscription.0.to_owned(), p256dh, auth }))
}

fn set_push(address: Option<Address>, settings: v1::PushSettings) -> Request {
    Request::SetPush(v1::SetPush { address, settings: Some(settings) })
}

/// Somebody says where this device is told, and how.
fn registers_with(person: &mut Person, address: Option<Address>, settings: v1::PushSettings) {
    let answer = person.ask(set_push(address, settings));
    assert!(matches!(answer, Message::PushSet(_)), "{answer:?}");
}

fn registers(person: &mut Person, address: Option<Address>) {
    registers_with(person, address, v1::PushSettings::default());
}

fn about_push(person: &mut Person) -> v1::PushPlaces {
    match person.ask(Request::AboutPush(v1::AboutPush {})) {
        Message::PushPlaces(places) => places,
        other => panic!("{other:?}"),
    }
}

/// Somebody who is told at this address, and sleeps.
fn sleeper(server: &Ternd, user: &TestUser, address: &str) {
    registers(&mut Person::new(server, user.clone()), hook(address));
}

/// How somebody has a chat.
fn has(person: &mut Person, settings: v1::ChatSettings) {
    let body = v1::Private { what: Some(What::Chat(settings)) }.encode_to_vec();
    person.sends(PRIVATE, Kind::Private, 0, &body);
}

fn users<const N: usize>(server: &Ternd) -> [TestUser; N] {
    server.provision(N as u32).try_into().expect("so many")
}

fn json_of(push: &Push) -> Value {
    serde_json::from_slice(&push.body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_tells_who_sleeps_how_much_is_unread_and_no_word_unless_that_is_wanted() {
    let services = Services::start().await;
    let server = services.server("");
    let [ann, a, f, w, h] = users(&server);
    let mut ann = Person::new(&server, ann);
    let browser_of_w = services.web.subscribe("endpointofw");
    let apns = v1::ApnsAddress { token: "ab12cd".to_owned(), ..v1::ApnsAddress::default() };
    let addresses = [
        (&a, Some(Address::Apns(apns))),
        (&f, Some(Address::Fcm(v1::FcmAddress { token: "fcm:token".to_owned() }))),
        (&w, browser(&browser_of_w)),
        (&h, hook("hook-address")),
    ];
    for (user, address) in &addresses {
        let mut person = Person::new(&server, (*user).clone());
        // Of strangers nothing is ever shown.
        person.say(ann.user.id, "hello Ann");
        registers(&mut person, address.clone());
    }
    for (user, _) in &addresses {
        ann.say(user.id, "secret words");
    }
    let of_apns = |push: &Push| push.to == "ab12cd";
    let of_fcm = |push: &Push| push.to == "fcm:token" || json_of(push)["message"]["token"] == "fcm:token";
    let of_web = |push: &Push| push.to == "endpointofw";
    let first = [
        wait_for(services.apns.book(), 1, of_apns).await.remove(0),
        wait_for(services.fcm.book(), 1, of_fcm).await.remove(0),
        wait_for(services.web.book(), 1, of_web).await.remove(0),
        wait_for(services.hook.book(), 1, |_| true).await.remove(0),
    ];
    let told = |pushes: &[Push; 4]| {
        let [apns, fcm, web, hook] = pushes;
        let web = browser_of_w.decrypted(&web.body).expect("it is for this browser");
        [json_of(apns), json_of(fcm)["message"]["data"].clone(), json_of_bytes(&web), json_of(hook)]
    };
    let [apns, fcm, web, hook_told] = told(&first);
    assert_eq!((&apns["aps"]["badge"], &apns["tern"]["kind"]), (&json!(1), &json!("message")));
    assert_eq!((&fcm["badge"], &fcm["kind"]), (&json!("1"), &json!("message")));
    assert_eq!((&web["badge"], &web["kind"]), (&json!(1), &json!("message")));
    assert_eq!((&hook_told["badge"], &hook_told["kind"]), (&json!(1), &json!("message")));
    for told in told(&first) {
        assert!(!told.to_string().contains("secret"), "{told}");
    }

    for (user, address) in &addresses {
        let settings = v1::PushSettings { previews: true, quiet: None };
        registers_with(&mut Person::new(&server, (*user).clone()), address.clone(), settings);
        ann.say(user.id, "plain words");
    }
    let said = |push: &Push| String::from_utf8_lossy(&push.body).contains("plain words");
    let of_w = |push: &Push| {
        browser_of_w
            .decrypted(&push.body)
            .is_some_and(|text| String::from_utf8_lossy(&text).contains("plain words"))
    };
    let second = [
        wait_for(services.apns.book(), 1, said).await.remove(0),
        wait_for(services.fcm.book(), 1, said).await.remove(0),
        wait_for(services.web.book(), 1, of_w).await.remove(0),
        wait_for(services.hook.book(), 1, said).await.remove(0),
    ];
    let [apns, fcm, web, hook_told] = told(&second);
    assert_eq!((&apns["aps"]["alert"]["body"], &apns["aps"]["badge"]), (&json!("plain words"), &json!(2)));
    assert_eq!((&fcm["body"], &fcm["badge"]), (&json!("plain words"), &json!("2")));
    assert_eq!((&web["body"], &web["badge"]), (&json!("plain words"), &json!(2)));
    assert_eq!((&hook_told["body"], &hook_told["badge"]), (&json!("plain words"), &json!(2)));
    let (log, (_, metrics)) = (server.stderr(), server.http("/metrics"));
    for secret in ["ab12cd", "fcm:token", "endpointofw", "hook-address", "secret words", "plain words"] {
        assert!(!log.contains(secret) && !metrics.contains(secret), "{secret} is for nobody");
    }
}

fn json_of_bytes(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_awake_is_told_nothing_unless_they_acknowledge_nothing() {
    let services = Services::start().await;
    let server = services.server("");
    let [ann, bob] = users(&server);
    let (mut ann, mut bob) = (Person::new(&server, ann), Person::new(&server, bob));
    registers(&mut bob, hook("bob"));
    let first = ann.say(bob.user.id, "one");
    bob.hears(ann.user.id, first);
    bob.acknowledges(ann.user.id, first, 0);
    let second = ann.say(bob.user.id, "two");
    bob.hears(ann.user.id, second);
    // Looks at a chat come one after another: what is told of the second is told behind what there was to tell of the first.
    assert_eq!(services.kinds("bob", 1).await, [is("message", 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_elsewhere_goes_from_a_device_that_sleeps() {
    let services = Services::start().await;
    let server = services.server("");
    let [ann, bob] = users(&server);
    let mut ann = Person::new(&server, ann);
    sleeper(&server, &bob, "bobs-phone");
    let seq = ann.say(bob.id, "one");
    assert_eq!(services.kinds("bobs-phone", 1).await, [is("message", 1)]);
    let [_, bobs_computer] = users(&server);
    let mut bobs_computer = Person::new(&server, bobs_computer);
    assert_eq!(bobs_computer.user.id, bob.id);
    bobs_computer.acknowledges(ann.user.id, seq, seq);
    assert_eq!(services.kinds("bobs-phone", 2).await[1], is("cleared", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_does_not_want_to_hear_makes_no_sound_and_the_number_is_right() {
    let services = Services::start().await;
    let server = services.server("");
    let [ann, muted, at_night, by_name] = users(&server);
    let mut ann = Person::new(&server, ann);
    let mut one = Person::new(&server, muted.clone());
    let for_ever =
        v1::ChatSettings { chat: ann.user.id, muted_until_ms: (1 << 53) - 1, ..Default::default() };
    has(&mut one, for_ever);
    registers(&mut one, hook("muted"));
    drop(one);
    ann.say(muted.id, "one");
    assert_eq!(services.kinds("muted", 1).await, [is("badge", 1)]);

    let whole_day = v1::QuietHours { from_min: 60, to_min: 60, time_zone: "Europe/Berlin".to_owned() };
    let settings = v1::PushSettings { previews: false, quiet: Some(whole_day) };
    registers_with(&mut Person::new(&server, at_night.clone()), hook("at-night"), settings);
    ann.say(at_night.id, "one");
    assert_eq!(services.kinds("at-night", 1).await, [is("badge", 1)]);

    let mut one = Person::new(&server, by_name.clone());
    let group = ann.make("friends", vec![], v1::GroupSettings::default());
    ann.changes(group, added(&[&one]));
    has(&mut one, v1::ChatSettings { chat: group, notify: Notify::Mentions.into(), ..Default::default() });
    registers(&mut one, hook("by-name"));
    drop(one);
    ann.say(group, "to all");
    assert_eq!(services.kinds("by-name", 1).await, [is("badge", 1)]);
    let (client_id, mentions) = (ann.next_id(), vec![by_name.id]);
    let send = v1::Send { chat: group, client_id, body: "to one".into(), mentions, ..Default::default() };
    let send = v1::Send { kind: Kind::Text.into(), ..send };
    seq_of(ann.ask(Request::Send(send)));
    assert_eq!(services.kinds("by-name", 2).await[1], is("mention", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_told_however_quiet_the_chat_and_the_hours_are_unless_a_stranger_calls() {
    let services = Services::start().await;
    let server = services.server("");
    let [ann, bob, stranger] = users(&server);
    let (mut ann, mut stranger) = (Person::new(&server, ann), Person::new(&server, stranger));
    let mut one = Person::new(&server, bob.clone());
    let contacts = vec![v1::Contact { user_id: ann.user.id, ..Default::default() }];
    let body = v1::Private { what: Some(What::Contacts(v1::Contacts { contacts })) }.encode_to_vec();
    one.sends(PRIVATE, Kind::Private, 0, &body);
    let (notify, muted_until_ms) = (Notify::None.into(), (1 << 53) - 1);
    has(&mut one, v1::ChatSettings { chat: ann.user.id, notify, muted_until_ms, ..Default::default() });
    let whole_day = v1::QuietHours { from_min: 60, to_min: 60, time_zone: "Europe/Berlin".to_owned() };
    let settings = v1::PushSettings { previews: true, quiet: Some(whole_day) };
    registers_with(&mut one, hook("bobs-phone"), settings);
    drop(one);
    ann.say(bob.id, "are you there?");
    assert_eq!(services.kinds("bobs-phone", 1).await, [is("badge", 1)]);
    let call = v1::Call { video: true, offer: "between the two".into() }.encode_to_vec();
    ann.sends(bob.id, Kind::Call, 0, &call);
    let told = services.told("bobs-phone", 2).await.pop().expect("it is told");
    assert_eq!((told["kind"].as_str(), told["badge"].as_u64()), (Some("call"), Some(2)));
    assert_eq!((told.get("title"), told.get("body")), (None, None), "a call has no words");
    // What is said meanwhile is as quiet as it was before.
    let seq = ann.say(bob.id, "hello?");
    assert_eq!(services.kinds("bobs-phone", 3).await[2], is("badge", 3));
    // Somebody of whom he knows nothing wakes nobody at night.
    stranger.sends(bob.id, Kind::Call, 0, b"");
    assert_eq!(services.kinds("bobs-phone", 4).await[3], is("badge", 4));
    // It was taken on another device.
    let [_, bobs_computer, _] = users(&server);
    Person::new(&server, bobs_computer).acknowledges(ann.user.id, seq, seq);
    assert_eq!(services.kinds("bobs-phone", 5).await[4], is("cleared", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_no_more_is_told_nothing_until_the_device_says_another() {
    let services = Services::start().await;
    let server = services.server("");
    let [ann, bob, cyd] = users(&server);
    let mut ann = Person::new(&server, ann);
    services.hook.book().say_always("gone", Reply::status(410));
    sleeper(&server, &bob, "gone");
    sleeper(&server, &cyd, "cyd");
    ann.say(bob.id, "one");
    wait_for(services.hook.book(), 1, |push| push.to == "gone").await;
    let mut awake = Person::new(&server, bob.clone());
    while about_push(&mut awake).since_ms > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(about_push(&mut awake).service(), v1::PushService::Unknown);
    drop(awake);
    ann.say(bob.id, "two");
    ann.say(cyd.id, "one");
    services.told("cyd", 1).await;
    sleeper(&server, &bob, "new");
    ann.say(bob.id, "three");
    assert_eq!(services.kinds("new", 1).await[0], is("message", 3));
    let gone = services.hook.book().pushes().into_iter().filter(|push| push.to == "gone").count();
    assert_eq!(gone, 1, "once, and never again");

    // So it is with APNs and FCM, in their own words.
    services.apns.book().say_always("aa", Reply::apns(410, "Unregistered"));
    services.fcm.book().say_always("bb", Reply::fcm(404, "NOT_FOUND", Some("UNREGISTERED"), None));
    let apns = v1::ApnsAddress { token: "aa".to_owned(), ..v1::ApnsAddress::default() };
    let fcm = v1::FcmAddress { token: "bb".to_owned() };
    for address in [Address::Apns(apns), Address::Fcm(fcm)] {
        registers(&mut Person::new(&server, bob.clone()), Some(address));
        ann.say(bob.id, "more");
        let mut awake = Person::new(&server, bob.clone());
        while about_push(&mut awake).since_ms > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_has_ended_is_told_nothing() {
    let services = Services::start().await;
    let server = services.server("");
    let [ann, bob] = users(&server);
    let mut ann = Person::new(&server, ann);
    sleeper(&server, &bob, "ended");
    let [_, second] = users(&server);
    let mut second = Person::new(&server, second);
    let answer = second.ask(Request::EndDevice(v1::EndDevice { device_id: 1 }));
    assert!(matches!(answer, Message::DeviceEnded(_)), "{answer:?}");
    registers(&mut second, hook("second"));
    drop(second);
    ann.say(bob.id, "one");
    assert_eq!(services.kinds("second", 1).await, [is("message", 1)]);
    assert!(!services.hook.book().told().contains_key("ended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_service_is_down_nothing_is_lost_and_all_are_told_when_it_is_back() {
    let services = Services::start().await;
    let server = services.server("failures_max = 2\ntries_max = 100");
    let [ann, bob, cyd, dan] = users(&server);
    let mut ann = Person::new(&server, ann);
    let sleepers = [(&bob, "bob"), (&cyd, "cyd"), (&dan, "dan")];
    sleepers.iter().for_each(|(user, address)| sleeper(&server, user, address));
    services.hook.book().say_to_all(Some(Reply::status(503)));
    for (user, _) in sleepers {
        ann.say(user.id, "one");
    }
    server.said("a push service is down");
    assert_eq!(server.metric("tern_push_away"), 1);
    let status = server.admin(&json!({ "ask": "status" })).remove(0);
    assert!(status["ok"]["node"]["alarms"].to_string().contains("webhook is down"), "{status}");
    services.hook.book().say_to_all(None);
    for (_, address) in sleepers {
        assert_eq!(services.kinds(address, 1).await, [is("message", 1)]);
    }
    server.said("a push service is back");
    assert!(server.metric("tern_push_retries_total") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_to_be_told_when_the_server_was_killed_is_told_by_the_next_one() {
    let services = Services::start().await;
    let mut server = services.server("failures_max = 2\ntries_max = 100");
    let [ann, bob, cyd] = users(&server);
    let mut ann = Person::new(&server, ann);
    sleeper(&server, &bob, "bob");
    sleeper(&server, &cyd, "cyd");
    services.hook.book().say_to_all(Some(Reply::status(503)));
    ann.say(bob.id, "one");
    ann.say(cyd.id, "one");
    server.said("a push service is down");
    // The outbox is written a moment behind (limits.lazy_ms). What is in flight when the service is taken for down are three at most: behind them
    // come those that try whether it is back, a second later and two.
    services.hook.book().count_is(5).await;
    server.kill_and_restart();
    services.hook.book().say_to_all(None);
    assert_eq!(services.kinds("bob", 1).await[0], is("message", 1));
    assert_eq!(services.kinds("cyd", 1).await[0], is("message", 1));
    // The same where it ends in order.
    services.hook.book().say_to_all(Some(Reply::status(503)));
    let mut ann = Person { sent: ann.sent, ..Person::new(&server, ann.user.clone()) };
    ann.say(bob.id, "two");
    ann.say(cyd.id, "two");
    server.said("a push service is down");
    assert!(server.terminate().success());
    services.hook.book().say_to_all(None);
    server.start_again();
    let number_of_two = |told: &(String, u64)| told.1 == 2;
    for address in ["bob", "cyd"] {
        let mut times = 2;
        while !services.kinds(address, times).await.iter().any(number_of_two) {
            times += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tried_in_vain_and_what_is_refused_operators_see() {
    let services = Services::start().await;
    let server = services.server("tries_max = 2\nfailures_max = 1000");
    let [ann, bob, cyd, dan] = users(&server);
    let mut ann = Person::new(&server, ann);
    services.hook.book().say_always("unlucky", Reply::status(503));
    services.hook.book().say_always("refused", Reply::status(418));
    sleeper(&server, &bob, "unlucky");
    sleeper(&server, &cyd, "refused");
    sleeper(&server, &dan, "dan");
    for user in [&bob, &cyd, &dan] {
        ann.say(user.id, "one");
    }
    services.told("dan", 1).await;
    let lane = loop {
        let push = server.admin(&json!({ "ask": "push" })).remove(0)["ok"].clone();
        let lane =
            push["services"].as_array().expect("a list").iter().find(|lane| lane["service"] == "webhook");
        let lane = lane.expect("it is there").clone();
        if lane["dead_letters"] == 1 && lane["refused"] == 1 && lane["held"] == 0 {
            break lane;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((&lane["delivered"], &lane["sent"], &lane["retried"]), (&json!(1), &json!(4), &json!(1)));
    assert_eq!(lane["reasons"], json!({ "status 418": 1 }));
    let ternctl =
        Command::new(program("ternctl")).arg("--data-dir").arg(server.data_dir()).arg("push").output();
    let page = String::from_utf8(ternctl.expect("ternctl runs").stdout).expect("text");
    assert!(page.contains("webhook refused 1: status 418") && page.contains("browsers subscribe"), "{page}");
    let (_, metrics) = server.http("/metrics");
    for line in [
        "tern_push_dead_letters_total{service=\"webhook\"} 1",
        "tern_push_refused_total{service=\"webhook\"} 1",
        "tern_push_refusals_total{service=\"webhook\",reason=\"status 418\"} 1",
        "tern_push_held{service=\"apns\"} 0",
        "tern_push_away{service=\"webhook\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_there_is_not_and_a_time_zone_that_there_is_not_are_refused() {
    let services = Services::start().await;
    let (url, key) = (services.hook.config().url, services.path("hook.key"));
    let key = key.to_str().expect("UTF-8").to_owned();
    let arguments = ["--push-webhook-url", &url, "--push-webhook-key-file", &key].map(str::to_owned).into();
    let server = Ternd::start_with(TerndOptions { cores: 2, arguments, ..TerndOptions::default() });
    let [bob] = users(&server);
    let mut bob = Person::new(&server, bob);
    let fcm = Some(Address::Fcm(v1::FcmAddress { token: "x".to_owned() }));
    assert_eq!(bob.refused(set_push(fcm, v1::PushSettings::default())), Reason::NoSuchPushService);
    let quiet = v1::QuietHours { from_min: 1, to_min: 2, time_zone: "Europe/Bärlin".to_owned() };
    let quiet = v1::PushSettings { previews: false, quiet: Some(quiet) };
    assert_eq!(bob.refused(set_push(hook("bob"), quiet)), Reason::InvalidArgument);
    let quiet = v1::QuietHours { from_min: 1, to_min: 2, time_zone: "Europe/Berlim".to_owned() };
    let quiet = v1::PushSettings { previews: false, quiet: Some(quiet) };
    assert_eq!(bob.refused(set_push(hook("bob"), quiet)), Reason::InvalidArgument);
    let places = about_push(&mut bob);
    assert_eq!(places.services, [i32::from(v1::PushService::Webhook)]);
    assert!(places.web_push_key.is_empty() && places.since_ms == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_key_file_says_which_and_one_without_services_tells_nobody() {
    let data = Arc::new(tempfile::tempdir().expect("a folder"));
    let arguments = ["--push-fcm-account-file", "/nowhere/account.json"].map(str::to_owned).into();
    let options = TerndOptions { cores: 1, arguments, ..TerndOptions::default() };
    let said = Ternd::fail_to_start(options, &data, "127.0.0.1:0");
    assert!(said.contains("/nowhere/account.json"), "{said}");
    let server = Ternd::start(2);
    let [bob] = users(&server);
    let mut bob = Person::new(&server, bob);
    assert_eq!(bob.refused(set_push(hook("bob"), v1::PushSettings::default())), Reason::NoSuchPushService);
    assert_eq!(server.admin(&json!({ "ask": "push" })).remove(0)["ok"]["services"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_does_not_keep_the_server_from_ending_and_who_sleeps_is_told_later() {
    let services = Services::start().await;
    let mut server = services.server("");
    let [ann, bob] = users(&server);
    let mut ann = Person::new(&server, ann);
    sleeper(&server, &bob, "bob");
    services.hook.book().say_to_all(Some(Reply::never()));
    ann.say(bob.id, "one");
    services.hook.book().count_is(1).await;
    assert!(server.terminate().success());
    services.hook.book().say_to_all(None);
    server.start_again();
    assert_eq!(services.kinds("bob", 1).await[0], is("message", 1));
}
