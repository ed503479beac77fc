//! Links to media: whoever has one gets the bytes until it is over.
//!
//! ```text
//! /media/ID?e=END&k=KEY&s=SIGNATURE
//!
//! ID         the medium, in base64url
//! END        when the link is over, in s since the Unix epoch: a multiple of an hour
//! KEY        the number of the key it is signed with
//! SIGNATURE  the first 16 bytes of HMAC-SHA-256 over ID's bytes, END and KEY (8 and 4 bytes, big-endian), in base64url
//! ```
//! All who ask within an hour get the same link: a cache knows it again, and a client need not ask twice. A key signs until there is a
//! newer one, and is known until the last link is over that it has signed.

use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::id::{MEDIA_ID_BYTES, MediaId};
use crate::limits::{LINK_STEP, LINK_VALID_MAX};

/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 16;

/// A key that links are signed with, with its number: no two keys of an installation have the same.
#[derive(Clone)]
pub struct LinkKey {
    number: u32,
    key: hmac::Key,
}

impl LinkKey {
    /// The key of these bytes.
    pub fn new(number: u32, bytes: &[u8; 32]) -> Self {
        Self { number, key: hmac::Key::new(hmac::HMAC_SHA256, bytes) }
    }

    fn signature(&self, id: MediaId, end_s: u64) -> [u8; SIGNATURE_BYTES] {
        let mut signed = [0; MEDIA_ID_BYTES + 8 + 4];
        signed[..MEDIA_ID_BYTES].copy_from_slice(id.as_bytes());
        signed[MEDIA_ID_BYTES..MEDIA_ID_BYTES + 8].copy_from_slice(&end_s.to_be_bytes());
        signed[MEDIA_ID_BYTES + 8..].copy_from_slice(&self.number.to_be_bytes());
        let tag = hmac::sign(&self.key, &signed);
        *tag.as_ref().first_chunk().expect("a SHA-256 is longer")
    }
}

/// Shows no key.
impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkKey").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The keys of an installation.
#[derive(Clone, Debug)]
pub struct Links {
    /// The newest signs.
    newest: LinkKey,
    /// Others, whose links may not be over.
    others: Vec<LinkKey>,
}

/// Why a link opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadLink {
    /// It was not signed here, or by a key that is known no more.
    Forged,
    /// It is over.
    Over,
}

impl Links {
    /// Signs with the one, and takes what the others have signed.
    pub fn new(newest: LinkKey, others: Vec<LinkKey>) -> Self {
        Self { newest, others }
    }

    /// The path and query of a link that lives for as long at least, and less than an hour longer. No link lives longer than
    /// [`LINK_VALID_MAX`] and that hour.
    pub fn sign(&self, id: MediaId, now_s: u64, valid: Duration) -> String {
        let step = LINK_STEP.as_secs();
        let end_s = (now_s + valid.min(LINK_VALID_MAX).as_secs()).next_multiple_of(step);
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.newest.signature(id, end_s));
        format!("/media/{id}?e={end_s}&k={}&s={signature}", self.newest.number)
    }

    /// When the link is over, in s since the Unix epoch, of which this is the query.
    ///
    /// # Errors
    /// It opens nothing.
    pub fn check(&self, id: MediaId, query: &str, now_s: u64) -> Result<u64, BadLink> {
        let of = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let end_s: u64 = of("e").and_then(|end| end.parse().ok()).ok_or(BadLink::Forged)?;
        let number: u32 = of("k").and_then(|number| number.parse().ok()).ok_or(BadLink::Forged)?;
        let signature = of("s").and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
        let signature = signature.ok_or(BadLink::Forged)?;
        let mut keys = self.others.iter().chain([&self.newest]);
        let key = keys.find(|key| key.number == number).ok_or(BadLink::Forged)?;
        constant_time::verify_slices_are_equal(&key.signature(id, end_s), &signature)
            .map_err(|_| BadLink::Forged)?;
        if now_s < end_s { Ok(end_s) } else { Err(BadLink::Over) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_S: u64 = 1_800_000_000;
    const DAY: Duration = Duration::from_secs(86_400);

    fn id() -> MediaId {
        MediaId::from_bytes([7; 16])
    }

    fn links(newest: u32, others: &[u32]) -> Links {
        let key = |number: u32| LinkKey::new(number, &[number as u8; 32]);
        Links::new(key(newest), others.iter().copied().map(key).collect())
    }

    fn query(link: &str) -> &str {
        link.split_once('?').expect("a link has a query").1
    }

    #[test]
    fn a_link_opens_its_medium_until_it_is_over_and_keys_that_are_known() {
        let link = links(1, &[]).sign(id(), NOW_S, DAY);
        let end_s = links(1, &[]).check(id(), query(&link), NOW_S).expect("it was signed here");
        assert!((NOW_S + 86_400..NOW_S + 86_400 + 3600).contains(&end_s) && end_s.is_multiple_of(3600));
        assert_eq!(links(1, &[]).check(id(), query(&link), end_s - 1), Ok(end_s));
        assert_eq!(links(1, &[]).check(id(), query(&link), end_s), Err(BadLink::Over));
        assert_eq!(links(2, &[1]).check(id(), query(&link), NOW_S), Ok(end_s), "there is a newer key");
        assert_eq!(links(2, &[]).check(id(), query(&link), NOW_S), Err(BadLink::Forged), "its key is gone");
        let other = MediaId::from_bytes([8; 16]);
        assert_eq!(links(1, &[]).check(other, query(&link), NOW_S), Err(BadLink::Forged));
        assert_eq!(
            links(1, &[]).sign(id(), end_s - 86_400 - 3599, DAY),
            link,
            "within an hour it is the same"
        );
        let longest = links(1, &[]).sign(id(), NOW_S, 1000 * DAY);
        assert_eq!(links(1, &[]).check(id(), query(&longest), NOW_S + 8 * 86_400), Err(BadLink::Over));
    }

    proptest! {
        #[test]
        fn a_link_in_which_anything_is_another_opens_nothing(at: prop::sample::Index, to in "[0-9A-Za-z_&=-]") {
            let link = links(1, &[]).sign(id(), NOW_S, DAY);
            let mut forged = query(&link).to_owned();
            let at = at.index(forged.len());
            prop_assume!(forged[at..=at] != to);
            forged.replace_range(at..=at, &to);
            prop_assert!(links(1, &[]).check(id(), &forged, NOW_S).is_err(), "{}", forged);
        }

        #[test]
        fn nonsense_opens_nothing(query in ".{0,80}") {
            prop_assert_eq!(links(1, &[]).check(id(), &query, NOW_S), Err(BadLink::Forged));
        }
    }
}
