//! The identities that cross the wire, as types that can't be mixed up.

use std::fmt;

use aws_lc_rs::digest;

use crate::limits::{NAME_BYTES_MAX, SECRET_BYTES};
pub use crate::media_id::MediaId;

/// A user: 30 random bits above the 12 of the user's slot; never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserId(u64);

impl UserId {
    /// `None` for 0, which stands for "absent" on the wire, and for a number that is no user's: that names a group, or nothing.
    pub fn new(id: u64) -> Option<Self> {
        (1..GROUPS_FROM).contains(&id).then_some(Self(id))
    }

    /// The number on the wire and in keys.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A group: 30 random bits above the 12 of its slot, and bit 42, by which it is told from a user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(u64);

impl GroupId {
    /// `None` for a number that is no group's.
    pub fn new(id: u64) -> Option<Self> {
        (GROUPS_FROM..GROUPS_END).contains(&id).then_some(Self(id))
    }

    /// The number on the wire and in keys.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// Numbers of users are below this, numbers of groups from here on.
pub const GROUPS_FROM: u64 = 1 << 42;

/// Numbers of groups are below this.
pub const GROUPS_END: u64 = 1 << 43;

/// How everybody names their own private log.
pub const PRIVATE: u64 = GROUPS_END;

/// What a user calls a chat: on the wire one number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChatId {
    /// The direct chat with this person.
    With(UserId),
    /// A group.
    Group(GroupId),
    /// One's own private log.
    Private,
}

impl ChatId {
    /// `None` for a number that is no chat's.
    pub fn new(number: u64) -> Option<Self> {
        match number {
            PRIVATE => Some(Self::Private),
            0 | GROUPS_END.. => None,
            GROUPS_FROM.. => Some(Self::Group(GroupId(number))),
            _ => Some(Self::With(UserId(number))),
        }
    }

    /// The number on the wire.
    pub fn get(self) -> u64 {
        match self {
            Self::With(user) => user.get(),
            Self::Group(group) => group.get(),
            Self::Private => PRIVATE,
        }
    }
}

/// A device of one user, counted from 1 in the order of their registration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceId(u32);

impl DeviceId {
    /// In place of a device: the server, for its user.
    pub const MAX: Self = Self(u32::MAX);

    /// `None` for 0, which stands for "absent" on the wire.
    pub fn new(id: u32) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// The number on the wire and in keys.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// The place of an entry in its log: dense, from 1. 0 stands before the first entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The place after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The device's own number of a message, which makes retries idempotent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientMessageId(pub u64);

/// A phone number in E.164 form: a plus sign and 8 to 15 digits, the first not 0 (ITU-T E.164, section 6).
///
/// `Debug` and `Display` show no more than the first digits and the length, so that a number never reaches a log by
/// accident.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phone(Box<str>);

impl Phone {
    /// `None` unless the text is strictly E.164.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+')?;
        let well_formed = (8..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0');
        well_formed.then(|| Self(text.into()))
    }

    /// The whole number, plus sign included. Only for the wire, keys and the code's delivery: never for a log.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits without the plus sign.
    pub fn digits(&self) -> &str {
        &self.0[1..]
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}…({} digits)", &self.0[1..2], self.0.len() - 1)
    }
}

/// How whoever looks through an address book names a phone: SHA-256 of [`PhoneHash::PREFIX`] and the number, plus sign included. It keeps
/// numbers out of traces; it hides nothing from who can try all numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneHash([u8; PhoneHash::BYTES]);

impl PhoneHash {
    /// What stands before the number.
    pub const PREFIX: &str = "tern phone ";

    /// Bytes of one.
    pub const BYTES: usize = 32;

    /// Of a phone.
    pub fn of(phone: &Phone) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(Self::PREFIX.as_bytes());
        context.update(phone.as_str().as_bytes());
        Self(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// `None` unless there are as many bytes as one has.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Only for the wire and keys: never for a log.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// Shows nothing of it: there are few enough numbers to try them all.
impl fmt::Debug for PhoneHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhoneHash")
    }
}

/// What is passed on with a user's id, so that others can add the user without a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CardSecret(pub [u8; SECRET_BYTES]);

/// Shows nothing of it.
impl fmt::Debug for CardSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CardSecret")
    }
}

/// A person's display name: at most [`NAME_BYTES_MAX`] bytes of plain text, or nothing.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Name(Box<str>);

impl Name {
    /// `None` for a text that is too long, or not plain.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() <= NAME_BYTES_MAX && is_plain(text)).then(|| Self(text.into()))
    }

    /// The name, which may be empty.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows no content.
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({} bytes)", self.0.len())
    }
}

/// Whether a text can stand in a line among others without changing them: it has no control characters, and none that turn
/// the direction of what follows (Unicode UAX #9: U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069).
pub fn is_plain(text: &str) -> bool {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| c.is_control() || turns(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_changes_nothing_around_it() {
        for good in ["", "Ann", "Žofie Nováková", "李雷", "אבי", "👩\u{200d}🚀"] {
            assert_eq!(Name::parse(good).expect("a name").as_str(), good);
        }
        for bad in
            ["a\nb", "\u{1b}[2J", "\u{7f}", "\u{9b}1m", "Ann\u{202e}gpj", "\u{2066}x", "\u{61c}", "\u{200f}"]
        {
            assert!(Name::parse(bad).is_none(), "{bad:?} must be refused");
        }
        assert!(Name::parse(&"x".repeat(100)).is_some() && Name::parse(&"x".repeat(101)).is_none());
        assert_eq!(format!("{:?}", Name::parse("Ann")), "Some(Name(3 bytes))");
    }

    #[test]
    fn a_number_names_a_person_or_a_group_and_never_both() {
        for (number, of_group) in [(1, false), ((1 << 42) - 1, false), (1 << 42, true), ((1 << 43) - 1, true)]
        {
            let chat = ChatId::new(number).expect("a chat");
            assert_eq!((chat.get(), matches!(chat, ChatId::Group(_))), (number, of_group));
            assert_eq!(GroupId::new(number).is_some(), of_group);
        }
        assert_eq!(ChatId::new(1 << 43).expect("the private log").get(), PRIVATE);
        assert_eq!([0, (1 << 43) + 1, u64::MAX].map(ChatId::new), [None; 3]);
    }

    #[test]
    fn a_phone_is_strictly_e164() {
        for good in ["+15550001", "+4915112345678", "+123456789012345"] {
            assert_eq!(Phone::parse(good).expect("well-formed").as_str(), good);
        }
        for bad in [
            "",
            "+",
            "15550001",
            "+1555000",
            "+05550001",
            "+1234567890123456",
            "+1555 0001",
            "+1555000a",
            "+１５５５０００１",
        ] {
            assert!(Phone::parse(bad).is_none(), "{bad:?} must be refused");
        }
    }

    /// As PROTOCOL.md says it, by `printf 'tern phone +15550001' | sha256sum`.
    #[test]
    fn a_hash_of_a_phone_is_what_clients_of_other_languages_make() {
        let hash = PhoneHash::of(&Phone::parse("+15550001").expect("well-formed"));
        let hex: String = hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "1bcac011a5af18df0fe5e9fd087317d58d0afc5027de5ae1536bf0fc4b9ed64c");
        assert_eq!(PhoneHash::from_bytes(hash.as_bytes()), Some(hash));
        assert_eq!(PhoneHash::from_bytes(&hash.as_bytes()[1..]), None);
        assert_eq!(format!("{hash:?}"), "PhoneHash");
    }

    #[test]
    fn a_phone_is_not_shown_in_debug_output() {
        let phone = Phone::parse("+15550001").expect("well-formed");
        assert_eq!(format!("{phone:?}"), "+1…(8 digits)");
    }
}
