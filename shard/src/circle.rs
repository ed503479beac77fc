//! What a user has said of others, and of what others may see: whom they block, and their privacy. Pure.
//!
//! Contacts are not in it: they may be many, and whether somebody is one is asked of the store where a setting makes it matter.

use prost::Message as _;
use tern_proto::v1::{Audience, Privacy};
use tern_storage::Row;
use tern_storage::keys::Relation;
use tern_storage::records::{LastSeenRecord, PrivacyRecord};
use tern_wire::ids::UserId;
use tern_wire::private::Private;

/// See the module. As it lies packed in memory, too.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Circle {
    #[prost(message, optional, tag = "1")]
    privacy: Option<PrivacyRecord>,
    /// Rising.
    #[prost(uint64, repeated, tag = "2")]
    blocked: Vec<u64>,
    /// When the user was here last, in ms since the Unix epoch, as it was written; 0: never.
    #[prost(uint64, tag = "3")]
    pub(crate) last_seen_ms: u64,
}

/// Something of a user that not everybody may see, or do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Concern {
    /// To take the user into a group.
    Groups,
    /// To find the user by the phone.
    FoundByPhone,
    /// That the user is here.
    Online,
    /// When the user was here last.
    LastSeen,
    /// What the user says of themselves.
    About,
    /// The user's picture.
    Picture,
}

/// Whether somebody may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Yes,
    No,
    /// If they are a contact of the user's.
    IfContact,
}

impl Verdict {
    /// Whether somebody may of whom it is known whether they are a contact.
    pub(crate) fn allows(self, is_contact: bool) -> bool {
        match self {
            Self::Yes => true,
            Self::No => false,
            Self::IfContact => is_contact,
        }
    }
}

impl Circle {
    /// As the store's rows have it; `None` if one of them is not what was written.
    pub(crate) fn of_rows(rows: Vec<Row>) -> Option<Self> {
        let mut circle = Self::default();
        for (key, value) in rows {
            match Relation::of(&key)? {
                Relation::Privacy => circle.privacy = Some(PrivacyRecord::decode(value).ok()?),
                Relation::LastSeen => circle.last_seen_ms = LastSeenRecord::decode(value).ok()?.time_ms,
                Relation::Blocked(other) => circle.blocked.push(other),
                Relation::Contact(_) | Relation::Muted(_) => return None,
            }
        }
        Some(circle)
    }

    /// The user has said this, durably.
    pub(crate) fn say(&mut self, said: &Private) {
        match said {
            Private::Privacy(privacy) => self.privacy = Some(privacy_record(*privacy)),
            Private::Blocked(other, is_blocked) => {
                match (self.blocked.binary_search(&other.get()), is_blocked) {
                    (Err(place), true) => self.blocked.insert(place, other.get()),
                    (Ok(place), false) => drop(self.blocked.remove(place)),
                    _ => {}
                }
            }
            Private::Contacts(_)
            | Private::Chat(..)
            | Private::Scheduled(..)
            | Private::StoriesMuted(..)
            | Private::Other => {}
        }
    }

    /// Whether somebody is blocked.
    pub(crate) fn blocks(&self, other: UserId) -> bool {
        self.blocked.binary_search(&other.get()).is_ok()
    }

    /// Who all is, rising.
    pub(crate) fn all_blocked(&self) -> &[u64] {
        &self.blocked
    }

    /// The user does not tell what they read, and is not told.
    pub(crate) fn hides_reads(&self) -> bool {
        self.privacy.is_some_and(|privacy| privacy.hides_reads)
    }

    /// Whether it depends on the contacts who sees that the user is here, or was.
    pub(crate) fn shows_to_contacts(&self) -> bool {
        [Concern::Online, Concern::LastSeen]
            .map(|concern| self.lets_others(concern))
            .contains(&Verdict::IfContact)
    }

    /// Whether somebody may see, or do, something.
    pub(crate) fn lets(&self, other: UserId, concern: Concern) -> Verdict {
        // That a phone is found tells nothing new to whoever has it; that it is not any more would.
        if self.blocks(other) && concern != Concern::FoundByPhone {
            return Verdict::No;
        }
        self.lets_others(concern)
    }

    /// Whether those may whom the user does not block.
    pub(crate) fn lets_others(&self, concern: Concern) -> Verdict {
        let privacy = self.privacy.unwrap_or_default();
        let audience = match concern {
            Concern::Groups => privacy.groups,
            Concern::FoundByPhone => privacy.found_by_phone,
            Concern::Online => privacy.online,
            Concern::LastSeen => privacy.last_seen,
            Concern::About => privacy.about,
            Concern::Picture => privacy.picture,
        };
        match Audience::try_from(audience) {
            Ok(Audience::Everyone) => Verdict::Yes,
            Ok(Audience::Contacts) => Verdict::IfContact,
            // What is not known is for nobody.
            Ok(Audience::Nobody) | Err(_) => Verdict::No,
        }
    }
}

/// As it is stored.
pub(crate) fn privacy_record(privacy: Privacy) -> PrivacyRecord {
    let Privacy { last_seen, online, picture, about, groups, found_by_phone, hides_reads } = privacy;
    PrivacyRecord { last_seen, online, picture, about, groups, found_by_phone, hides_reads }
}

#[cfg(test)]
mod tests {
    use tern_storage::keys;

    use super::*;

    fn user(id: u64) -> UserId {
        UserId::new(id).expect("a user")
    }

    #[test]
    fn the_last_word_counts_and_whoever_is_blocked_may_nothing() {
        let mut circle = Circle::default();
        assert_eq!(circle.lets(user(7), Concern::Groups), Verdict::Yes);
        for id in [9, 7, 8, 7] {
            circle.say(&Private::Blocked(user(id), true));
        }
        circle.say(&Private::Blocked(user(8), false));
        circle.say(&Private::Blocked(user(5), false));
        assert_eq!(
            (circle.blocks(user(7)), circle.blocks(user(8)), circle.all_blocked()),
            (true, false, &[7, 9][..])
        );
        assert_eq!(circle.lets(user(7), Concern::Groups), Verdict::No);
        let privacy = Privacy { groups: Audience::Contacts.into(), found_by_phone: 2, ..Default::default() };
        circle.say(&Private::Privacy(privacy));
        assert_eq!(circle.lets(user(8), Concern::Groups), Verdict::IfContact);
        assert_eq!(circle.lets(user(8), Concern::FoundByPhone), Verdict::No);
        circle.say(&Private::Privacy(Privacy::default()));
        assert_eq!(circle.lets(user(8), Concern::FoundByPhone), Verdict::Yes);
    }

    #[test]
    fn rows_are_read_as_they_were_written_and_nothing_else_is() {
        let row = |relation, value: Vec<u8>| {
            (bytes::Bytes::copy_from_slice(keys::relation(3, relation).as_ref()), value.into())
        };
        let privacy = PrivacyRecord { hides_reads: true, ..Default::default() };
        let rows = vec![
            row(Relation::Privacy, privacy.encode_to_vec()),
            row(Relation::LastSeen, LastSeenRecord { time_ms: 12 }.encode_to_vec()),
            row(Relation::Blocked(7), Vec::new()),
            row(Relation::Blocked(9), Vec::new()),
        ];
        let circle = Circle::of_rows(rows.clone()).expect("as they were written");
        assert!(circle.hides_reads() && circle.blocks(user(7)) && circle.blocks(user(9)));
        assert_eq!((circle.last_seen_ms, circle.all_blocked()), (12, &[7, 9][..]));
        for wrong in [row(Relation::Contact(7), Vec::new()), row(Relation::Privacy, vec![255])] {
            assert!(Circle::of_rows(vec![wrong]).is_none());
        }
    }
}
