//! The session that clients' authors run their codecs against (proto/session.txt) is one that the real `ternd` has: what it says here
//! is the same, kind by kind. `TERN_RECORD=1` writes it anew.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use prost::Message as _;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_testkit::{Raw, Ternd, TerndOptions, hash_of};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/session.txt");

const HEAD: &str = "\
# A session of the tern protocol, version 1, as it went over two connections to a real server: every frame in its order, with its length
# prefix, in hexadecimal. `>` is from the client, `<` from the server. Above each stands what it says; `ann>` and `bob>` tell the
# connections apart. Run a codec against it: decode each, encode it again, compare. docs/PROTOCOL.md tells what it is about.
";

/// A connection whose frames are written down.
struct Recorded {
    name: &'static str,
    raw: Raw,
    next_id: u64,
}

#[derive(Default)]
struct Script(String);

impl Script {
    fn note(&mut self, name: &str, way: char, frame: &impl prost::Message, what: &dyn std::fmt::Debug) {
        let hex: String =
            frame.encode_length_delimited_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.0, "\n# {what:?}\n{name}{way} {hex}").expect("a string takes it");
    }
}

impl Recorded {
    fn connect(name: &'static str, server: &Ternd) -> Self {
        Self { name, raw: Raw::connect(server), next_id: 0 }
    }

    fn send_as(&mut self, script: &mut Script, id: u64, request: Request) {
        let frame = v1::ClientFrame { id, request: Some(request) };
        script.note(self.name, '>', &frame, &frame.request.as_ref().expect("it is there"));
        self.raw.send_as(id, frame.request.expect("it is there"));
    }

    /// The next frame.
    fn hear(&mut self, script: &mut Script) -> Message {
        let frame = self.raw.receive().expect("a frame");
        let message = frame.message.clone().expect("a message");
        script.note(self.name, '<', &frame, &message);
        message
    }

    /// Asks, and hears what comes until that is answered.
    fn ask(&mut self, script: &mut Script, request: Request) -> Message {
        self.next_id += 1;
        let id = self.next_id;
        self.send_as(script, id, request);
        loop {
            let frame = self.raw.receive().expect("a frame");
            let message = frame.message.clone().expect("a message");
            script.note(self.name, '<', &frame, &message);
            if frame.id == id {
                return message;
            }
        }
    }

    fn hello(&mut self, script: &mut Script) -> v1::Welcome {
        let hello = v1::Hello {
            version_min: 1,
            version_max: 1,
            client: "example/1".to_owned(),
            features: 0,
            push_frames_max: 256,
            push_bytes_max: 1 << 20,
        };
        match self.ask(script, Request::Hello(hello)) {
            Message::Welcome(welcome) => welcome,
            other => panic!("Hello was answered by {other:?}"),
        }
    }

    fn register(
        &mut self,
        script: &mut Script,
        server: &Ternd,
        phone: &str,
        name: &str,
        wrong_first: bool,
    ) -> v1::Session {
        let register = Request::Register(v1::Register { phone: phone.to_owned() });
        let Message::CodeSent(sent) = self.ask(script, register) else { panic!("a code is sent") };
        let verify = |code: &str| {
            Request::Verify(v1::Verify {
                phone: phone.to_owned(),
                code: code.to_owned(),
                name: name.to_owned(),
                device_name: "phone".to_owned(),
                registration: sent.registration,
                pin: String::new(),
            })
        };
        let code = server.code_of(phone);
        if wrong_first {
            let wrong = if code == "123456" { "654321" } else { "123456" };
            assert!(matches!(self.ask(script, verify(wrong)), Message::Refused(_)));
        }
        match self.ask(script, verify(&code)) {
            Message::Session(session) => session,
            other => panic!("Verify was answered by {other:?}"),
        }
    }

    fn login(&mut self, script: &mut Script, token: &str) {
        let login = Request::Login(v1::Login { access_token: token.to_owned() });
        assert!(matches!(self.ask(script, login), Message::LoggedIn(_)));
    }

    /// Pushed until this one.
    fn until(&mut self, script: &mut Script, wanted: fn(&Message) -> bool) {
        while !wanted(&self.hear(script)) {}
    }
}

fn send(chat: u64, client_id: u64, body: &str) -> Request {
    Request::Send(v1::Send {
        chat,
        client_id,
        body: body.as_bytes().to_vec().into(),
        kind: v1::Kind::Text.into(),
        ..Default::default()
    })
}

/// Something about the second entry of a chat.
fn about(chat: u64, client_id: u64, kind: v1::Kind, body: &str) -> Request {
    let (body, kind) = (body.as_bytes().to_vec().into(), kind.into());
    Request::Send(v1::Send { chat, client_id, body, kind, about: 2, ..Default::default() })
}

/// Uploads a picture, and gives its id.
fn upload(place: &v1::MediaPlace) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // Whom one talks to is not what is recorded here.
    let tls = ureq::tls::TlsConfig::builder()
        .disable_verification(true)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().tls_config(tls).build());
    let png = include_bytes!("../../preview/src/check.png");
    let token = format!("Bearer {}", place.access_token);
    let begun = agent
        .post(format!("{}/uploads", place.url))
        .header("tus-resumable", "1.0.0")
        .header("authorization", &token)
        .header("upload-length", png.len().to_string())
        .header("upload-metadata", "filetype aW1hZ2UvcG5n")
        .send_empty()
        .expect("it begins");
    let path = begun.headers()["location"].to_str().expect("a path").to_owned();
    agent
        .patch(format!("{}{path}", place.url))
        .header("tus-resumable", "1.0.0")
        .header("authorization", &token)
        .header("upload-offset", "0")
        .header("content-type", "application/offset+octet-stream")
        .send(&png[..])
        .expect("it is taken");
    let id = path.rsplit('/').next().expect("an id").parse::<tern_wire::ids::MediaId>();
    id.expect("an id").as_bytes().to_vec()
}

/// Bob shows something for a day, which Ann sees, and so does another device of hers; and then it is deleted.
fn stories(script: &mut Script, [ann, bob, tablet]: [&mut Recorded; 3], (me, chat): (u64, u64)) {
    let body = v1::StoryText { text: "at sea".to_owned(), background: 0x0020_6080, ..Default::default() };
    let post = v1::PostStory {
        number: 7731,
        kind: v1::Kind::Text.into(),
        body: body.encode_to_vec().into(),
        audience: v1::StoryAudience::Everyone.into(),
        ..Default::default()
    };
    assert!(matches!(bob.ask(script, Request::PostStory(post)), Message::StoryMade(_)));
    ann.until(script, |message| matches!(message, Message::StoryPosted(_)));
    let list = Request::ListStories(v1::ListStories::default());
    assert!(matches!(ann.ask(script, list), Message::StoriesPage(page) if page.stories.len() == 1));
    let story = Some(v1::StoryId { user_id: chat, number: 7731 });
    assert!(matches!(ann.ask(script, Request::SeeStory(v1::SeeStory { story })), Message::StoryMarked(_)));
    tablet.until(script, |message| matches!(message, Message::StorySeen(_)));
    let viewers = Request::ListViewers(v1::ListViewers { number: 7731, after: 0, limit: 0 });
    let Message::ViewersPage(page) = bob.ask(script, viewers) else { panic!("a page") };
    assert_eq!(page.viewers.iter().map(|viewer| viewer.user_id).collect::<Vec<_>>(), [me]);
    let delete = Request::DeleteStory(v1::DeleteStory { number: 7731 });
    assert!(matches!(bob.ask(script, delete), Message::StoryDeleted(_)));
    ann.until(script, |message| matches!(message, Message::StoryGone(_)));
}

/// Ann's device says where it is told while it sleeps. Nobody is told: the operator's program is not there.
fn pushes(script: &mut Script, ann: &mut Recorded) {
    let webhook = v1::WebhookAddress { address: "anns-phone".to_owned() };
    let quiet = v1::QuietHours { from_min: 1320, to_min: 420, time_zone: "Europe/Berlin".to_owned() };
    let settings = Some(v1::PushSettings { previews: true, quiet: Some(quiet) });
    let set = v1::SetPush { address: Some(v1::set_push::Address::Webhook(webhook)), settings };
    assert!(matches!(ann.ask(script, Request::SetPush(set)), Message::PushSet(_)));
    let asked = ann.ask(script, Request::AboutPush(v1::AboutPush {}));
    assert!(matches!(asked, Message::PushPlaces(places) if places.service() == v1::PushService::Webhook));
}

/// A server that has devices told by a program of the operator's, which is not there.
fn start() -> Ternd {
    let data = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let key = data.path().join("push.key");
    std::fs::write(&key, "0123456789abcdef").expect("written");
    let key = key.to_str().expect("UTF-8");
    let arguments = ["--push-webhook-url", "http://127.0.0.1:1/", "--push-webhook-key-file", key]
        .map(str::to_owned)
        .into();
    let options = TerndOptions { cores: 2, arguments, ..TerndOptions::default() };
    Ternd::start_in(options, &data).expect("it starts")
}

fn record() -> String {
    let server = start();
    let script = &mut Script::default();
    let mut bob = Recorded::connect("bob", &server);
    bob.hello(script);
    let bobs = bob.register(script, &server, "+15550002", "Bob", false);
    bob.login(script, &bobs.access_token);
    let mut ann = Recorded::connect("ann", &server);
    let welcome = ann.hello(script);
    let session = ann.register(script, &server, "+15550001", "Ann", true);
    let refresh =
        v1::Refresh { refresh_token: session.refresh_token, nonce: (1..=16).collect::<Vec<u8>>().into() };
    let Message::Session(session) = ann.ask(script, Request::Refresh(refresh)) else { panic!("a session") };
    ann.login(script, &session.access_token);
    let by = Some(v1::lookup::By::Phone("+15550002".to_owned()));
    assert!(matches!(ann.ask(script, Request::Lookup(v1::Lookup { by, group: 0 })), Message::Person(_)));
    let hashes = ["+15550002", "+15550009"].map(|phone| hash_of(phone).into()).to_vec();
    match ann.ask(script, Request::Discover(v1::Discover { hashes })) {
        Message::Discovered(found) => assert_eq!(found.user_ids, [bobs.user_id, 0]),
        other => panic!("{other:?}"),
    }
    assert!(matches!(ann.ask(script, Request::Resume(v1::Resume::default())), Message::Resumed(_)));
    ann.until(script, |message| matches!(message, Message::CaughtUp(_)));
    let (me, chat) = (session.user_id, bobs.user_id);
    // Two messages; the second comes from the other side, and is pushed.
    assert!(matches!(ann.ask(script, send(chat, 1, "Shall we meet?")), Message::Sent(_)));
    assert!(matches!(bob.ask(script, send(me, 1, "Yes, at noon. 漢字")), Message::Sent(_)));
    ann.until(script, |message| matches!(message, Message::Entry(_)));
    let acknowledge =
        |chat, upto| Request::Acknowledge(v1::Acknowledge { chat, delivered_upto: upto, read_upto: upto });
    assert!(matches!(ann.ask(script, acknowledge(chat, 2)), Message::Acknowledged(_)));
    ann.send_as(script, 0, Request::Credit(v1::Credit { frames: 1, bytes: 40 }));
    // Bob has read it, and is called otherwise now: Ann is told both.
    assert!(matches!(bob.ask(script, acknowledge(me, 2)), Message::Acknowledged(_)));
    ann.until(script, |message| matches!(message, Message::Receipt(_)));
    let rename = v1::Rename {
        name: Some("Robert".to_owned()),
        about: Some("at sea".to_owned()),
        picture: Some("a boat".into()),
        ..v1::Rename::default()
    };
    assert!(matches!(bob.ask(script, Request::Rename(rename)), Message::Renamed(_)));
    ann.until(script, |message| matches!(message, Message::PersonChanged(_)));
    // Bob's message reads otherwise, Ann reacts to it, and then it is deleted: the page shows its place alone.
    assert!(matches!(bob.ask(script, about(me, 2, v1::Kind::Edit, "Yes, at one.")), Message::Sent(_)));
    ann.until(script, |message| matches!(message, Message::Entry(_)));
    assert!(matches!(ann.ask(script, about(chat, 2, v1::Kind::Reaction, "👍")), Message::Sent(_)));
    assert!(matches!(bob.ask(script, about(me, 3, v1::Kind::Deletion, "")), Message::Sent(_)));
    ann.until(script, |message| matches!(message, Message::Entry(_)));
    let history = v1::History { chat, from: 0, forwards: false, limit: 10 };
    assert!(matches!(ann.ask(script, Request::History(history)), Message::HistoryPage(_)));
    assert!(matches!(ann.ask(script, Request::Chats(v1::Chats::default())), Message::ChatsPage(_)));
    let search = v1::Search { query: "meet".to_owned(), chat, after: None, limit: 1 };
    assert!(matches!(ann.ask(script, Request::Search(search)), Message::Found(_)));
    assert!(matches!(ann.ask(script, Request::Ping(v1::Ping {})), Message::Pong(_)));
    // Bob makes a group, and says something in it before Ann comes: she is told where it begins, and asks what it is.
    let made = v1::GroupMade { name: "Noon".to_owned(), ..v1::GroupMade::default() };
    let create = Request::CreateGroup(v1::CreateGroup { client_id: 4, group: Some(made) });
    let Message::GroupCreated(created) = bob.ask(script, create) else { panic!("a group is made") };
    assert!(matches!(bob.ask(script, send(created.chat, 5, "Anybody here?")), Message::Sent(_)));
    let added = v1::group_change::Change::Added(v1::Members { user_ids: vec![me] });
    let body = v1::GroupChange { change: Some(added) }.encode_to_vec().into();
    let add = v1::Send {
        chat: created.chat,
        client_id: 6,
        body,
        kind: v1::Kind::Group.into(),
        ..Default::default()
    };
    assert!(matches!(bob.ask(script, Request::Send(add)), Message::Sent(_)));
    ann.until(script, |message| matches!(message, Message::Begins(_)));
    ann.until(script, |message| matches!(message, Message::Entry(_)));
    let about = Request::AboutGroup(v1::AboutGroup { chat: created.chat, ..Default::default() });
    assert!(matches!(ann.ask(script, about), Message::Group(_)));
    // Ann shows her chat with Bob, who is here, and types.
    let shows = v1::Subscribe { user_ids: vec![chat], groups: Vec::new(), away: false };
    assert!(matches!(ann.ask(script, Request::Subscribe(shows)), Message::Subscribed(_)));
    ann.until(script, |message| matches!(message, Message::Presence(_)));
    let types = v1::Activity { chat: me, doing: v1::Doing::Typing.into(), sender: 0 };
    assert!(matches!(bob.ask(script, Request::Activity(types)), Message::ActivityTold(_)));
    ann.until(script, |message| matches!(message, Message::Activity(_)));
    // Ann tells the operators of what Bob has said in the group.
    let report = v1::Report {
        client_id: 7,
        chat: created.chat,
        seqs: vec![4],
        category: v1::Category::Spam.into(),
        ..v1::Report::default()
    };
    assert!(matches!(bob.ask(script, send(created.chat, 8, "Buy lunch!")), Message::Sent(_)));
    ann.until(script, |message| matches!(message, Message::Entry(_)));
    assert!(matches!(ann.ask(script, Request::Report(report)), Message::Reported(_)));
    // A picture, which Ann uploads elsewhere, sends, and gets a link to.
    let asked = ann.ask(script, Request::AboutMedia(v1::AboutMedia {}));
    let Message::MediaPlace(place) = asked else { panic!("{asked:?}") };
    let medium: prost::bytes::Bytes = upload(&place).into();
    let body =
        v1::Media { r#type: "image/png".to_owned(), name: "noon.png".to_owned(), ..Default::default() };
    let picture = v1::Send {
        chat,
        client_id: 9,
        kind: v1::Kind::Media.into(),
        body: body.encode_to_vec().into(),
        media: vec![medium.clone()],
        ..Default::default()
    };
    let sent = ann.ask(script, Request::Send(picture));
    let Message::Sent(sent) = sent else { panic!("{sent:?}") };
    let get = v1::GetMedium { chat, seq: sent.seq, medium };
    assert!(matches!(ann.ask(script, Request::GetMedium(get)), Message::MediumLink(_)));
    // Another device of Ann's: this one is told, lists them, and ends it. It comes before there is a PIN.
    Raw::registered(&server, "+15550001", "");
    ann.until(script, |message| matches!(message, Message::DeviceAdded(_)));
    assert!(matches!(ann.ask(script, Request::Devices(v1::Devices {})), Message::DeviceList(_)));
    // And a third, which Ann's links: it comes over a connection of its own.
    assert!(matches!(ann.ask(script, Request::NewCard(v1::NewCard { renew: true })), Message::Card(_)));
    let Message::LinkCode(code) = ann.ask(script, Request::NewLink(v1::NewLink {})) else { panic!("a code") };
    let mut tablet = Recorded::connect("tab", &server);
    tablet.hello(script);
    let link = v1::Link { user_id: me, secret: code.secret, device_name: "tablet".to_owned() };
    let Message::Session(linked) = tablet.ask(script, Request::Link(link)) else { panic!("a session") };
    ann.until(script, |message| matches!(message, Message::DeviceAdded(_)));
    tablet.login(script, &linked.access_token);
    stories(script, [&mut ann, &mut bob, &mut tablet], (me, chat));
    pushes(script, &mut ann);
    let pin = Request::SetPin(v1::SetPin { pin: "135790".to_owned() });
    assert!(matches!(ann.ask(script, pin), Message::PinSet(_)));
    // The one that is looked for is not connected; the one that looks is, and rings.
    let ring = |device_id| Request::RingDevice(v1::RingDevice { device_id });
    assert!(matches!(ann.ask(script, ring(2)), Message::DeviceRung(rung) if !rung.connected));
    ann.next_id += 1;
    ann.send_as(script, ann.next_id, ring(1));
    ann.until(script, |message| matches!(message, Message::Ring(_)));
    ann.until(script, |message| matches!(message, Message::DeviceRung(_)));
    let end = |device_id| Request::EndDevice(v1::EndDevice { device_id });
    assert!(matches!(ann.ask(script, end(2)), Message::DeviceEnded(_)));
    // A position beyond the head can't be of this store.
    let positions = vec![v1::Position { chat, upto: 9, delivered_upto: 2, read_upto: 2 }];
    let resume = v1::Resume { positions, generations: vec![welcome.generation] };
    ann.next_id += 1;
    ann.send_as(script, ann.next_id, Request::Resume(resume));
    ann.until(script, |message| matches!(message, Message::Rewound(_)));
    ann.until(script, |message| matches!(message, Message::CaughtUp(_)));
    // Logged out.
    assert!(matches!(ann.ask(script, end(1)), Message::DeviceEnded(_)));
    ann.until(script, |message| matches!(message, Message::GoAway(_)));
    // Bob has had enough.
    let delete = Request::DeleteAccount(v1::DeleteAccount::default());
    assert!(matches!(bob.ask(script, delete), Message::AccountEnds(_)));
    bob.until(script, |message| matches!(message, Message::GoAway(_)));
    format!("{HEAD}{}", script.0)
}

/// Which connection says what kind of message, in order.
fn kinds(session: &str) -> Vec<String> {
    let frames = session.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let kind = |line: &str| {
        let (who, hex) = line.split_once(' ').expect("who, and what");
        let bytes: Vec<_> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
            .collect();
        let said = match who.ends_with('>') {
            true => format!(
                "{:?}",
                v1::ClientFrame::decode_length_delimited(&bytes[..]).expect("a frame").request
            ),
            false => format!(
                "{:?}",
                v1::ServerFrame::decode_length_delimited(&bytes[..]).expect("a frame").message
            ),
        };
        let kind: String =
            said.trim_start_matches("Some(").chars().take_while(|c| c.is_alphabetic()).collect();
        format!("{who} {kind}")
    };
    frames.map(kind).collect()
}

#[test]
fn the_recorded_session_is_what_a_server_says() {
    let now = record();
    if std::env::var_os("TERN_RECORD").is_some() {
        std::fs::write(Path::new(FILE), &now).expect("written");
    }
    let recorded = std::fs::read_to_string(FILE).expect("proto/session.txt");
    assert_eq!(kinds(&recorded), kinds(&now), "TERN_RECORD=1 writes it anew");
}
