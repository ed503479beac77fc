//! An account's PIN, against a real server of several cores.

use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_testkit::{Raw, Ternd};

const PHONE: &str = "+15550001";

fn verify(server: &Ternd, registration: u64, pin: &str) -> Request {
    Request::Verify(v1::Verify {
        phone: PHONE.to_owned(),
        code: server.code_of(PHONE),
        name: String::new(),
        device_name: "thief".to_owned(),
        registration,
        pin: pin.to_owned(),
    })
}

fn devices(raw: &mut Raw) -> v1::DeviceList {
    match raw.ask(Request::Devices(v1::Devices {})) {
        Some(Message::DeviceList(list)) => list,
        other => panic!("{other:?} and no list"),
    }
}

#[test]
fn whoever_has_the_phone_alone_is_not_let_in_and_the_owners_devices_hear_of_who_is() {
    let mut server = Ternd::start(3);
    let session = Raw::registered(&server, PHONE, "Ann");
    let mut phone = Raw::logged_in(&server, &session.access_token);
    assert!(!devices(&mut phone).has_pin);
    for wrong in ["123".to_owned(), "x".repeat(65)] {
        let refused = phone.refusal(Request::SetPin(v1::SetPin { pin: wrong }));
        assert_eq!(refused.reason(), Reason::InvalidArgument);
    }
    let set = Request::SetPin(v1::SetPin { pin: "135790".to_owned() });
    assert!(matches!(phone.ask(set), Some(Message::PinSet(_))));
    server.kill_and_restart();
    let mut phone = Raw::logged_in(&server, &session.access_token);
    assert!(devices(&mut phone).has_pin);
    let mut stranger = Raw::welcomed(&server);
    let registration = stranger.register(PHONE).registration;
    let refused = stranger.refusal(verify(&server, registration, ""));
    assert_eq!(refused.reason(), Reason::PinNeeded);
    let days = u64::from(refused.retry_after_ms) / (24 * 3_600_000);
    assert_eq!(days, 7, "for as long as a device is here");
    let refused = stranger.refusal(verify(&server, registration, "135791"));
    assert_eq!(refused.reason(), Reason::PinWrong);
    assert_eq!(devices(&mut phone).devices.len(), 1, "nobody has come");
    // Its owner has the same code and the PIN.
    let Some(Message::Session(second)) = stranger.ask(verify(&server, registration, "135790")) else {
        panic!("a session")
    };
    assert_eq!((second.user_id, second.device_id), (session.user_id, 2));
    let told = std::iter::repeat_with(|| phone.receive().expect("it stands").message);
    let added = told.into_iter().find_map(|message| match message {
        Some(Message::DeviceAdded(added)) => Some(added),
        _ => None,
    });
    assert_eq!(added.map(|added| added.device_id), Some(2));
    // By a link of one of its devices no PIN is needed.
    let Some(Message::LinkCode(code)) = phone.ask(Request::NewLink(v1::NewLink {})) else { panic!("a code") };
    let link = v1::Link { user_id: session.user_id, secret: code.secret, device_name: "laptop".to_owned() };
    let linked = Raw::welcomed(&server).ask(Request::Link(link));
    assert!(matches!(linked, Some(Message::Session(session)) if session.device_id == 3));
}
