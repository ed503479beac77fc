//! A device that is added by another one, against a real server: by a code that is good once.

use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_testkit::{Raw, Ternd, TerndOptions};

struct Device {
    raw: Raw,
    user: u64,
}

fn device(server: &Ternd, session: v1::Session) -> Device {
    let mut raw = Raw::logged_in(server, &session.access_token);
    assert!(matches!(raw.ask(Request::Resume(v1::Resume::default())), Some(Message::Resumed(_))));
    Device { raw, user: session.user_id }
}

/// What answers a request, whatever is pushed before it.
fn answer(raw: &mut Raw, request: Request) -> Message {
    let id = raw.send(request);
    loop {
        let frame = raw.receive().expect("the connection stands");
        if frame.id == id {
            return frame.message.expect("an answer");
        }
    }
}

fn new_link(device: &mut Device) -> v1::LinkCode {
    match answer(&mut device.raw, Request::NewLink(v1::NewLink {})) {
        Message::LinkCode(code) => code,
        other => panic!("{other:?} and no code"),
    }
}

fn link(server: &Ternd, user_id: u64, secret: &[u8]) -> Result<v1::Session, Reason> {
    let (secret, device_name) = (secret.to_vec().into(), "laptop".to_owned());
    match Raw::welcomed(server).ask(Request::Link(v1::Link { user_id, secret, device_name })) {
        Some(Message::Session(session)) => Ok(session),
        Some(Message::Refused(refused)) => Err(refused.reason()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_is_added_by_another_one_once_and_the_others_are_told() {
    let server = Ternd::start(3);
    let mut phone = device(&server, Raw::registered(&server, "+15550001", "Ann"));
    let code = new_link(&mut phone);
    assert_eq!((code.secret.len(), code.expires_in_ms), (16, 120_000));
    // A stranger who guesses, or takes it for another account's, changes nothing.
    let other = Raw::registered(&server, "+15550002", "Bob");
    assert_eq!(link(&server, phone.user, &[0; 16]), Err(Reason::LinkUnknown));
    assert_eq!(link(&server, other.user_id, &code.secret), Err(Reason::LinkUnknown));
    assert_eq!(link(&server, 4096, &code.secret), Err(Reason::LinkUnknown), "nobody has that account");
    assert_eq!(link(&server, phone.user, &code.secret[..15]), Err(Reason::InvalidArgument));
    let session = link(&server, phone.user, &code.secret).expect("it is linked");
    assert_eq!((session.user_id, session.device_id, &session.phone[..]), (phone.user, 2, "+15550001"));
    let told = loop {
        match phone.raw.receive().expect("the connection stands").message {
            Some(Message::DeviceAdded(added)) => break added,
            Some(Message::CaughtUp(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((told.device_id, &told.device_name[..]), (2, "laptop"));
    let laptop = device(&server, session);
    assert_eq!(laptop.user, phone.user);
    // Once, and the one before is good no more.
    assert_eq!(link(&server, phone.user, &code.secret), Err(Reason::LinkUsed));
    let (older, newer) = (new_link(&mut phone), new_link(&mut phone));
    assert_eq!(link(&server, phone.user, &older.secret), Err(Reason::LinkUnknown));
    assert_eq!(link(&server, phone.user, &newer.secret).expect("it is linked").device_id, 3);
    assert!(matches!(answer(&mut phone.raw, Request::NewLink(v1::NewLink {})), Message::LinkCode(_)));
}

#[test]
fn a_code_ends_by_time() {
    let arguments = ["--limit", "link_valid_ms=1000"].map(str::to_owned).to_vec();
    let server = Ternd::start_with(TerndOptions { cores: 2, arguments, ..TerndOptions::default() });
    let mut phone = device(&server, Raw::registered(&server, "+15550001", "Ann"));
    let code = new_link(&mut phone);
    let mut time_ms = || match answer(&mut phone.raw, Request::Ping(v1::Ping {})) {
        Message::Pong(pong) => pong.time_ms,
        other => panic!("{other:?} and no time"),
    };
    let end_ms = time_ms() + u64::from(code.expires_in_ms);
    while time_ms() < end_ms {}
    assert_eq!(link(&server, phone.user, &code.secret), Err(Reason::LinkExpired));
}

#[test]
fn an_account_has_ten_devices_and_an_eleventh_takes_nobodys_place() {
    let server = Ternd::start(2);
    let mut phone = device(&server, Raw::registered(&server, "+15550001", "Ann"));
    for _ in 2..=10 {
        let code = new_link(&mut phone);
        link(&server, phone.user, &code.secret).expect("there is room");
    }
    let list = |phone: &mut Device| match answer(&mut phone.raw, Request::Devices(v1::Devices {})) {
        Message::DeviceList(list) => list.devices.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(list(&mut phone), 10);
    let code = new_link(&mut phone);
    assert_eq!(link(&server, phone.user, &code.secret), Err(Reason::TooManyDevices), "an eleventh");
    assert_eq!(list(&mut phone), 10, "nobody had to go");
    // There is room again for it when one has ended: what was refused has used up nothing.
    let end = Request::EndDevice(v1::EndDevice { device_id: 2 });
    assert!(matches!(answer(&mut phone.raw, end), Message::DeviceEnded(_)));
    assert_eq!(link(&server, phone.user, &code.secret).expect("there is room").device_id, 11);
}

#[test]
fn a_code_ends_with_the_device_that_has_asked_for_it() {
    let server = Ternd::start(2);
    let mut phone = device(&server, Raw::registered(&server, "+15550001", "Ann"));
    let mut lost = device(&server, Raw::registered(&server, "+15550001", ""));
    let code = new_link(&mut lost);
    let ended = answer(&mut phone.raw, Request::EndDevice(v1::EndDevice { device_id: 2 }));
    assert!(matches!(ended, Message::DeviceEnded(_)), "{ended:?}");
    assert_eq!(link(&server, phone.user, &code.secret), Err(Reason::LinkUnknown), "whoever has it stays out");
    let code = new_link(&mut phone);
    assert!(link(&server, phone.user, &code.secret).is_ok());
}

#[test]
fn a_device_that_has_ended_does_nothing_more_while_its_connection_is_being_closed() {
    let server = Ternd::start(2);
    let mut phone = device(&server, Raw::registered(&server, "+15550001", "Ann"));
    let mut lost = device(&server, Raw::registered(&server, "+15550001", ""));
    let name = Some("Eve".to_owned());
    lost.raw.send_together([
        Request::EndDevice(v1::EndDevice { device_id: 2 }),
        Request::NewLink(v1::NewLink {}),
        Request::SetPin(v1::SetPin { pin: "9999".to_owned() }),
        Request::Rename(v1::Rename { name, ..v1::Rename::default() }),
        Request::EndDevice(v1::EndDevice { device_id: 1 }),
    ]);
    let mut has_ended = false;
    while let Some(frame) = lost.raw.receive() {
        match frame.message {
            Some(Message::DeviceEnded(_)) => {
                assert!(!std::mem::replace(&mut has_ended, true), "its own alone")
            }
            // As long as its end is not durable nobody says that it has ended; but nothing is done for it either.
            Some(Message::Refused(refused)) => {
                let reason = refused.reason();
                assert!(matches!(reason, Reason::SessionRevoked | Reason::Unavailable), "{reason:?}");
            }
            Some(Message::GoAway(away)) => assert_eq!(away.reason(), Reason::SessionRevoked),
            Some(Message::DeviceAdded(_) | Message::CaughtUp(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(has_ended);
    match answer(&mut phone.raw, Request::Devices(v1::Devices {})) {
        Message::DeviceList(list) => assert_eq!((list.has_pin, list.devices.len()), (false, 1)),
        other => panic!("{other:?}"),
    }
}
