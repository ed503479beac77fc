//! One frame's bytes: what is parsed is within the limits, and says itself again.

use prost::Message as _;
use tern_proto::v1;
use tern_wire::group::Change;
use tern_wire::ids::{ChatId, GroupId, is_plain};
use tern_wire::limits::{
    CHATS_MAX, COMMENT_BYTES_MAX, DISCOVERED_MAX, GENERATIONS_MAX, LABEL_BYTES_MAX, NAME_BYTES_MAX,
    NUMBERS_END, PIN_BYTES, POSITIONS_MAX, REPORTED_MAX, STORY_BODY_BYTES_MAX, STORY_MEDIA_MAX,
    SUBSCRIBED_GROUPS_MAX, SUBSCRIBED_USERS_MAX, TOKEN_BYTES_MAX,
};
use tern_wire::report::About;
use tern_wire::request::{Incoming, Request, VERSIONS, parse};
use tern_wire::story::StoryRequest;

/// The data is a frame without its length.
pub fn requests(data: &[u8]) {
    let parsed = parse(data);
    let decoded = v1::ClientFrame::decode(data);
    assert!(decoded.is_ok() || parsed.is_err(), "something was parsed that is no message");
    if let Ok(decoded) = decoded {
        assert_eq!(parse(&decoded.encode_to_vec()), parsed, "the same message means something else");
    }
    if let Ok(Incoming { id, request: Ok(request) }) = parsed {
        let silent = matches!(request, Request::Acknowledge(_) | Request::Activity(..) | Request::Credit(_));
        assert!(id != 0 || silent, "a request without an id");
        check(&request);
    }
}

/// What the parser promises.
fn check(request: &Request) {
    match request {
        Request::Hello(hello) => assert!(hello.version.is_none_or(|version| VERSIONS.contains(&version))),
        Request::Verify(verify) => {
            check_phone(verify.phone.as_str());
            assert!(verify.code.len() == 6 && verify.code.bytes().all(|byte| byte.is_ascii_digit()));
            assert!(verify.name.as_str().len() <= NAME_BYTES_MAX && is_plain(verify.name.as_str()));
            assert!(verify.device_name.len() <= LABEL_BYTES_MAX && is_plain(&verify.device_name));
        }
        Request::Register(phone) => check_phone(phone.as_str()),
        Request::Refresh(refresh) => assert!(refresh.token.len() <= TOKEN_BYTES_MAX),
        Request::Login(token) => assert!(token.len() <= TOKEN_BYTES_MAX),
        Request::Lookup(tern_wire::request::Lookup::Phone(phone)) => check_phone(phone.as_str()),
        Request::Lookup(
            tern_wire::request::Lookup::User(user) | tern_wire::request::Lookup::Card(user, _),
        ) => assert_ne!(user.get(), 0),
        Request::Lookup(tern_wire::request::Lookup::InGroup(user, group)) => {
            assert!(user.get() != 0 && GroupId::new(group.get()) == Some(*group));
        }
        Request::Discover(hashes) => {
            let distinct: std::collections::BTreeSet<_> = hashes.iter().collect();
            assert!((1..=DISCOVERED_MAX).contains(&hashes.len()) && distinct.len() == hashes.len());
        }
        Request::CreateGroup(create) => {
            let change = Change::parse(&create.body);
            assert!(create.client_id.0 < NUMBERS_END && matches!(change, Ok(Change::Made(_))), "{change:?}");
        }
        Request::AboutGroup(group, _) => assert_eq!(GroupId::new(group.get()), Some(*group)),
        Request::Send(send) => {
            assert!(send.chat.get() != 0 && send.client_id.0 < NUMBERS_END && !send.body.is_empty());
            let is_text = send.kind == v1::Kind::Text as i32;
            let is_change = send.kind == v1::Kind::Group as i32 && matches!(send.chat, ChatId::Group(_));
            assert!(is_text || is_change, "a kind that nobody can send there");
            assert!(is_text || Change::parse(&send.body).is_ok(), "a change that is none");
        }
        Request::Acknowledge(acknowledge) => assert_ne!(acknowledge.chat.get(), 0),
        Request::Resume(resume) => {
            assert!(resume.positions.len() <= POSITIONS_MAX && resume.generations.len() <= GENERATIONS_MAX);
            assert!(resume.positions.iter().all(|position| position.chat.get() != 0));
        }
        Request::History(history) => assert_ne!(history.chat.get(), 0),
        Request::Search(search) => {
            assert!(!search.query.needed().is_empty() && search.chat != Some(ChatId::Private));
        }
        Request::Chats(chats) => {
            assert!(chats.known.len() <= CHATS_MAX);
            assert!(chats.known.is_sorted_by(|(one, _), (next, _)| one < next));
        }
        Request::Subscribe(shows) => {
            assert!(shows.users.len() <= SUBSCRIBED_USERS_MAX && shows.groups.len() <= SUBSCRIBED_GROUPS_MAX);
            assert!(shows.users.is_sorted_by(|one, next| one < next));
            assert!(shows.groups.is_sorted_by(|one, next| one < next));
        }
        Request::Activity(chat, _) => assert!(*chat != ChatId::Private),
        Request::Report(report) => {
            assert!(report.client_id.0 < NUMBERS_END && report.comment.len() <= COMMENT_BYTES_MAX);
            if let About::Messages(chat, seqs) = &report.about {
                assert!(*chat != ChatId::Private && seqs.len() <= REPORTED_MAX);
                assert!(!seqs.is_empty() && seqs.is_sorted_by(|one, next| one < next));
            }
        }
        Request::Story(asked) => check_story(asked),
        Request::GetMedium(wanted) => assert!(wanted.seq.0 < NUMBERS_END),
        Request::NewLink | Request::NewCard(_) | Request::AboutMedia | Request::AboutPush => {}
        Request::SetPush(set) => {
            assert!(
                set.settings.quiet.as_ref().is_none_or(|quiet| quiet.from_min < 1440 && quiet.to_min < 1440)
            );
        }
        Request::SetPin(pin) | Request::DeleteAccount(pin) => {
            assert!(pin.get().is_none_or(|pin| PIN_BYTES.contains(&pin.len())));
        }
        Request::Link(link) => assert_ne!(link.user.get(), 0),
        Request::EndDevice(device) | Request::RingDevice(device) => assert_ne!(device.get(), 0),
        Request::Rename(rename) => {
            let name = rename.name.as_ref().map_or("", |name| name.as_str());
            assert!(name.len() <= NAME_BYTES_MAX && is_plain(name));
            let device_name = rename.device_name.as_deref().unwrap_or_default();
            assert!(device_name.len() <= LABEL_BYTES_MAX && is_plain(device_name));
        }
        Request::Credit(_) | Request::Ping | Request::Devices => {}
    }
    // What a log may say of it.
    let _ = format!("{request:?}");
}

fn check_story(asked: &StoryRequest) {
    match asked {
        StoryRequest::Post(post) => {
            assert!(post.number < NUMBERS_END && post.body.len() <= STORY_BODY_BYTES_MAX);
            assert_eq!(post.kind == v1::Kind::Text as i32, post.media.is_empty());
            assert!(post.media.len() <= STORY_MEDIA_MAX);
        }
        StoryRequest::Delete(number) | StoryRequest::Viewers(number, ..) => assert!(*number < NUMBERS_END),
        StoryRequest::See(story) => assert!(story.number < NUMBERS_END && story.author.get() != 0),
        StoryRequest::List(..) => {}
    }
}

fn check_phone(phone: &str) {
    let digits = phone.strip_prefix('+').expect("a phone begins with a plus sign");
    assert!((8..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()));
}
