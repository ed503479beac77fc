//! How far it is told of a story: who was told in a step, and where the next one goes on, as that lies in the store.

use bytes::Bytes;
use prost::Message as _;
use tern_storage::keys::{self, StoryRow};
use tern_storage::records::StoryToldRecord;
use tern_storage::{Key, LogId};
use tern_wire::ids::UserId;
use tern_wire::story::Audience;

use super::Cx;

/// Who is looked through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Walk {
    /// The contacts behind this one.
    Contacts(Option<u64>),
    /// The direct chats behind this one.
    Chats(Option<LogId>),
    /// Nobody any more.
    Over,
}

impl Walk {
    /// Where those go on of whom there is no more.
    pub(super) fn next(self, audience: &Audience) -> Self {
        match (self, audience) {
            (Self::Contacts(_), Audience::Everyone) => Self::Chats(None),
            _ => Self::Over,
        }
    }

    /// The row of those who are told next, before they are.
    pub(super) fn to_record(self, readers: impl IntoIterator<Item = UserId>) -> StoryToldRecord {
        let readers = readers.into_iter().map(UserId::get).collect();
        let (contact, chat_low, chat_high) = match self {
            Self::Contacts(after) => (after.unwrap_or(0), 0, 0),
            Self::Chats(Some(LogId::Direct(low, high))) => (0, low, high),
            Self::Chats(_) => (0, 0, 0),
            Self::Over => (0, u64::MAX, u64::MAX),
        };
        StoryToldRecord { readers, contact, chat_low, chat_high, ..StoryToldRecord::default() }
    }

    pub(super) fn of_record(record: &StoryToldRecord) -> Self {
        match (record.contact, record.chat_low) {
            (0, 0) => Self::Chats(None),
            (0, u64::MAX) => Self::Over,
            (0, low) => Self::Chats(Some(LogId::direct(low, record.chat_high))),
            (contact, _) => Self::Contacts(Some(contact)),
        }
    }
}

/// The number of a step, and what its row says. `None`: it is not what was written, and an operator knows.
pub(super) fn step_of(cx: &mut Cx, (key, value): &(Bytes, Bytes)) -> Option<(u32, StoryToldRecord)> {
    match (keys::story_row(key), StoryToldRecord::decode(&value[..])) {
        (Some((_, StoryRow::Told(_, step))), Ok(record)) => Some((step, record)),
        _ => {
            cx.damaged("who was told of a story", &Key::from_raw(key));
            None
        }
    }
}

/// Those of these ids who are users.
pub(super) fn users(ids: &[u64]) -> impl Iterator<Item = UserId> {
    ids.iter().filter_map(|id| UserId::new(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_story_goes_on_to_be_told_is_read_as_it_was_written() {
        let reader = UserId::new(9).expect("a user");
        for walk in
            [Walk::Contacts(Some(7)), Walk::Chats(None), Walk::Chats(Some(LogId::direct(7, 9))), Walk::Over]
        {
            let record = walk.to_record([reader]);
            let readers: Vec<_> = users(&record.readers).collect();
            assert_eq!((Walk::of_record(&record), readers), (walk, vec![reader]));
        }
        assert_eq!(Walk::Contacts(Some(7)).next(&Audience::Everyone), Walk::Chats(None));
        assert_eq!(Walk::Contacts(None).next(&Audience::Contacts), Walk::Over);
        assert_eq!(Walk::Chats(None).next(&Audience::Everyone), Walk::Over);
    }
}
