//! The order of a connection's opening, against a model of it: whatever comes, in whatever order.

use tern_wire::errors::Reason;
use tern_wire::frame::FrameBuffer;
use tern_wire::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_LOGIN};
use tern_wire::opening::{Opening, OutOfOrder};
use tern_wire::request::{Request, parse};

/// Script: a byte whose bits say which logins succeed; then a stream of frames.
pub fn opening(data: &[u8]) {
    let Some((logins, stream)) = data.split_first() else { return };
    let mut logins = *logins;
    let (mut opening, mut buffer) = (Opening::default(), FrameBuffer::default());
    let mut frames = buffer.read(stream);
    let (mut said_hello, mut logged_in) = (false, false);
    while let Ok(Some(frame)) = frames.next(opening.frame_bytes_max()) {
        assert!(frame.len() <= if logged_in { FRAME_BYTES_MAX } else { FRAME_BYTES_MAX_BEFORE_LOGIN });
        let Ok(incoming) = parse(frame) else { return };
        let Ok(request) = incoming.request else { continue };
        let admitted = opening.admit(&request);
        let is_hello = matches!(request, Request::Hello(_));
        match admitted {
            Err(OutOfOrder::Close(why)) => {
                assert_eq!(said_hello, is_hello, "a connection was ended in its order");
                assert_eq!(why.reason, Reason::Unexpected);
                return;
            }
            Err(OutOfOrder::Refuse(_)) => {
                let twice = logged_in && matches!(request, Request::Login(_));
                assert!(said_hello && (twice || !logged_in), "a request was refused in its order");
                continue;
            }
            Ok(()) => assert_eq!(said_hello, !is_hello, "a request was admitted out of order"),
        }
        if !logged_in && !is_hello {
            assert!(is_before_login(&request), "a request was admitted that needs a login");
        }
        match request {
            Request::Hello(hello) if hello.version.is_some() => {
                (opening, said_hello) = (Opening::Welcomed, true);
            }
            Request::Hello(_) => return,
            Request::Login(_) => {
                if logins & 1 == 1 {
                    (opening, logged_in) = (Opening::LoggedIn, true);
                }
                logins >>= 1;
            }
            _ => {}
        }
    }
}

/// Whether the model lets it come before a login.
fn is_before_login(request: &Request) -> bool {
    match request {
        Request::Register(_) | Request::Verify(_) | Request::Refresh(_) => true,
        Request::Login(_) | Request::Ping => true,
        Request::Hello(_) | Request::Lookup(_) | Request::Send(_) | Request::Acknowledge(_) => false,
        Request::Resume(_) | Request::History(_) | Request::Credit(_) => false,
        Request::Chats(_)
        | Request::Search(_)
        | Request::Devices
        | Request::EndDevice(_)
        | Request::NewLink => false,
        Request::Link(_) => true,
        Request::NewCard(_) => false,
        Request::RingDevice(_) | Request::Rename(_) | Request::SetPin(_) | Request::DeleteAccount(_) => false,
        Request::SetPush(_) | Request::AboutPush => false,
        Request::CreateGroup(_) | Request::AboutGroup(..) => false,
        Request::AboutMedia | Request::GetMedium(_) | Request::Story(_) => false,
        Request::Subscribe(_) | Request::Activity(..) | Request::Discover(_) | Request::Report(_) => false,
    }
}
