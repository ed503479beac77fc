//! Whom one knows, whom one blocks, and what others may see of one: said in the private log, so that all of one's devices agree.

use std::collections::BTreeSet;
use std::time::Duration;

use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::errors::Reason;
use tern_wire::ids::{Phone, PhoneHash};
use tern_wire::limits::DISCOVERED_MAX;

use crate::account::WRONG_KIND;
use crate::client::{Client, Sent};
use crate::error::Error;
use crate::machine::Tables as _;
use crate::private::Private;
use crate::store::Store;

/// Somebody whom one knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Contact {
    /// Who.
    pub user_id: u64,
    /// What one calls them; other devices and nobody else are told.
    pub name: String,
    /// `false`: they are none of one's contacts any more.
    pub is_one: bool,
}

/// Shows no name.
impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Contact({}, {})", self.user_id, self.is_one)
    }
}

/// What came of looking through an address book.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Discovered {
    /// Numbers of people who are here and let one find them, with their users, in the order in which they were asked for.
    pub found: Vec<(String, u64)>,
    /// Numbers that were not asked about: the account has asked about too many of late.
    pub left: Vec<String>,
    /// When the next of them can be, in ms; 0: none is left.
    pub retry_after_ms: u32,
}

/// Shows no number.
impl std::fmt::Debug for Discovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Discovered({} found, {} left)", self.found.len(), self.left.len())
    }
}

/// Who may see something, or do it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Audience {
    /// Everybody whom one does not block.
    #[default]
    Everyone,
    /// One's contacts.
    Contacts,
    /// Nobody.
    Nobody,
}

/// What others may see of one, and do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Privacy {
    /// Who sees when one was here last.
    pub last_seen: Audience,
    /// Who sees that one is here.
    pub online: Audience,
    /// Who sees one's picture.
    pub picture: Audience,
    /// Who sees what one says of oneself.
    pub about: Audience,
    /// Who may take one into a group.
    pub groups: Audience,
    /// Who finds one by one's number.
    pub found_by_phone: Audience,
    /// Nobody is told in direct chats what one has read, and one is not told what others have.
    pub hides_reads: bool,
}

/// How long the server may have one wait within a look through an address book: what takes longer is left, for whoever asked to wait for.
const WAIT_MS_MAX: u32 = 5_000;

/// How often it may.
const WAITS_MAX: u32 = 20;

/// Contacts that are named at once.
const AT_ONCE_MAX: usize = tern_wire::limits::CONTACTS_AT_ONCE_MAX;

impl Audience {
    fn of_wire(raw: i32) -> Self {
        match v1::Audience::try_from(raw) {
            Ok(v1::Audience::Everyone) => Self::Everyone,
            Ok(v1::Audience::Contacts) => Self::Contacts,
            Ok(v1::Audience::Nobody) | Err(_) => Self::Nobody,
        }
    }

    fn to_wire(self) -> i32 {
        match self {
            Self::Everyone => v1::Audience::Everyone,
            Self::Contacts => v1::Audience::Contacts,
            Self::Nobody => v1::Audience::Nobody,
        }
        .into()
    }
}

impl Privacy {
    pub(crate) fn of_wire(raw: v1::Privacy) -> Self {
        Self {
            last_seen: Audience::of_wire(raw.last_seen),
            online: Audience::of_wire(raw.online),
            picture: Audience::of_wire(raw.picture),
            about: Audience::of_wire(raw.about),
            groups: Audience::of_wire(raw.groups),
            found_by_phone: Audience::of_wire(raw.found_by_phone),
            hides_reads: raw.hides_reads,
        }
    }

    pub(crate) fn to_wire(self) -> v1::Privacy {
        v1::Privacy {
            last_seen: self.last_seen.to_wire(),
            online: self.online.to_wire(),
            picture: self.picture.to_wire(),
            about: self.about.to_wire(),
            groups: self.groups.to_wire(),
            found_by_phone: self.found_by_phone.to_wire(),
            hides_reads: self.hides_reads,
        }
    }
}

impl Contact {
    pub(crate) fn of_wire(raw: v1::Contact) -> Self {
        let name = String::from_utf8_lossy(&raw.name).into_owned();
        Self { user_id: raw.user_id, name, is_one: !raw.off }
    }

    pub(crate) fn into_wire(self) -> v1::Contact {
        v1::Contact { user_id: self.user_id, name: self.name.into_bytes().into(), off: !self.is_one }
    }
}

/// The key of what is said of a contact.
pub(crate) fn contact_key(user_id: u64) -> String {
    format!("contact {user_id}")
}

impl Client {
    /// Says of people that they are contacts of one's, and what one calls them, or that they are none any more. Durable when this comes
    /// back. It may be any number of them; if it fails, some may have been said.
    pub async fn set_contacts(&self, contacts: &[Contact]) -> Result<(), Error> {
        for contacts in contacts.chunks(AT_ONCE_MAX) {
            self.tell_own(&Private::Contacts(contacts.to_vec())).await?;
        }
        Ok(())
    }

    /// Who of an address book is here. The server is told hashes of the numbers alone, which hide them from nobody who can try all
    /// numbers; it keeps nothing of them. What is not in E.164 form (a plus sign and 8 to 15 digits) is nobody's number. An account may
    /// ask about so many numbers in a day: what is beyond is left.
    pub async fn discover(&self, numbers: &[String]) -> Result<Discovered, Error> {
        let (mut known, mut waits) = (BTreeSet::new(), 0);
        let phones = numbers.iter().filter_map(|number| Phone::parse(number));
        let phones: Vec<_> = phones.filter(|phone| known.insert(phone.clone())).collect();
        let mut discovered = Discovered::default();
        let mut batches = phones.chunks(DISCOVERED_MAX);
        let mut batch = batches.next();
        while let Some(phones) = batch {
            let hashes = phones.iter().map(|phone| PhoneHash::of(phone).as_bytes().to_vec().into()).collect();
            let request = client_frame::Request::Discover(v1::Discover { hashes });
            match self.ask(request).await {
                Ok(server_frame::Message::Discovered(found)) if found.user_ids.len() == phones.len() => {
                    let found = phones.iter().zip(found.user_ids).filter(|(_, user)| *user != 0);
                    discovered.found.extend(found.map(|(phone, user)| (phone.as_str().to_owned(), user)));
                    batch = batches.next();
                }
                Ok(_) => return Err(WRONG_KIND),
                Err(Error::Refused { retry_after_ms: wait_ms @ 1..=WAIT_MS_MAX, .. })
                    if waits < WAITS_MAX =>
                {
                    waits += 1;
                    tokio::time::sleep(Duration::from_millis(wait_ms.into())).await;
                }
                Err(Error::Refused { reason: Reason::RateLimited, retry_after_ms, .. }) => {
                    let left = phones.iter().chain(batches.flatten());
                    discovered.left = left.map(|phone| phone.as_str().to_owned()).collect();
                    discovered.retry_after_ms = retry_after_ms;
                    return Ok(discovered);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(discovered)
    }

    /// One's contacts by their names, as far as this profile has heard.
    pub async fn contacts(&self) -> Result<Vec<Contact>, Error> {
        let mut contacts = self.local(|store| store.contacts()).await?;
        contacts.sort_by(|one, other| (&one.name, one.user_id).cmp(&(&other.name, other.user_id)));
        Ok(contacts)
    }

    /// A contact of one's, as far as this profile has heard.
    pub async fn contact(&self, user_id: u64) -> Result<Option<Contact>, Error> {
        self.local(move |store| store.contact(user_id)).await
    }

    /// Blocks somebody, or does not any more. When this comes back, nothing that they send from then on is shown.
    pub async fn block(&self, user_id: u64, is_blocked: bool) -> Result<Sent, Error> {
        self.tell_own(&Private::Blocked(user_id, is_blocked)).await
    }

    /// Whom one blocks, as far as this profile has heard.
    pub async fn blocked(&self) -> Result<Vec<u64>, Error> {
        let all = self.local(|store| store.all_private("blocked ")).await?;
        let blocked = all.into_iter().filter_map(|private| match private {
            Private::Blocked(user_id, true) => Some(user_id),
            _ => None,
        });
        let mut blocked: Vec<_> = blocked.collect();
        blocked.sort_unstable();
        Ok(blocked)
    }

    /// Says what others may see of one, and do: all of it at once.
    pub async fn set_privacy(&self, privacy: Privacy) -> Result<Sent, Error> {
        self.tell_own(&Private::Privacy(privacy)).await
    }

    /// What others may see of one, and do, as far as this profile has heard.
    pub async fn privacy(&self) -> Result<Privacy, Error> {
        Ok(match self.local(|store| store.private_of("privacy")).await? {
            Some(Private::Privacy(privacy)) => privacy,
            _ => Privacy::default(),
        })
    }
}

impl Store {
    fn contact(&self, user_id: u64) -> Result<Option<Contact>, Error> {
        let Some(seq) = self.private_seq(&contact_key(user_id))? else { return Ok(None) };
        let is_named = |contact: &Contact| contact.user_id == user_id && contact.is_one;
        Ok(self.contacts_said(seq)?.into_iter().find(is_named))
    }

    fn contacts(&self) -> Result<Vec<Contact>, Error> {
        let mut contacts = Vec::new();
        let mut said: (u64, Vec<Contact>) = (0, Vec::new());
        for (key, seq) in self.private_keys("contact ")? {
            if said.0 != seq {
                said = (seq, self.contacts_said(seq)?);
            }
            let named = said.1.iter().find(|contact| contact_key(contact.user_id) == key);
            contacts.extend(named.filter(|contact| contact.is_one).cloned());
        }
        Ok(contacts)
    }

    /// What an entry of the private log says of contacts.
    fn contacts_said(&self, seq: u64) -> Result<Vec<Contact>, Error> {
        let entry = self.entry(tern_wire::ids::PRIVATE, seq)?;
        Ok(match entry.and_then(|entry| Private::of_body(&entry.body)) {
            Some(Private::Contacts(contacts)) => contacts,
            _ => Vec::new(),
        })
    }
}
