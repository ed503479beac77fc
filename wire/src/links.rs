//! Links to media: whoever has one gets the bytes until it is over.
//!
//! ```text
//! /media/ID?e=END&k=PERIOD&s=SIGNATURE
//!
//! ID         the medium, in base64url
//! END        when the link is over, in s since the Unix epoch: a multiple of an hour
//! PERIOD     in which of the periods since the Unix epoch it was signed, each of 30 days
//! SIGNATURE  the first 16 bytes of HMAC-SHA-256 over ID's bytes, END and PERIOD (8 and 4 bytes, big-endian), in base64url
//! ```
//! All who ask within an hour get the same link: a cache knows it again, and a client need not ask twice. Each period has a key of its own,
//! which follows from the installation's: so whoever has signed is known wherever that is, and nothing is to be kept or passed on. What a
//! period's key signs ends soon after the period: whoever gets hold of one, as a CDN that checks links itself has it, has it for so long.

use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::media_id::{MEDIA_ID_BYTES, MediaId};

/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 16;

/// How long the links are signed with one key, in s.
pub const LINK_PERIOD_S: u64 = 30 * 24 * 3600;

/// The longest that a link lives, whatever is asked.
pub const LINK_VALID_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Ends of links are multiples of this, so that all who ask within that time get the same one, which a cache can know again.
pub const LINK_STEP: Duration = Duration::from_secs(3600);

/// What signs the links of an installation, and knows them again.
#[derive(Clone)]
pub struct Links(hmac::Key);

/// Shows no key.
impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

/// Why a link opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadLink {
    /// It was not signed here, or not in that period.
    Forged,
    /// It is over.
    Over,
}

impl Links {
    /// Those of the installation that has this key.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The key of a period: HMAC-SHA-256 under the installation's of `media links` and the period (4 bytes, big-endian).
    pub fn key_of(&self, period: u32) -> [u8; 32] {
        let key = hmac::sign(&self.0, &[b"media links", &period.to_be_bytes()[..]].concat());
        *key.as_ref().first_chunk().expect("it is as long as every SHA-256")
    }

    fn signature(&self, id: MediaId, end_s: u64, period: u32) -> [u8; SIGNATURE_BYTES] {
        let mut signed = [0; MEDIA_ID_BYTES + 8 + 4];
        signed[..MEDIA_ID_BYTES].copy_from_slice(id.as_bytes());
        signed[MEDIA_ID_BYTES..MEDIA_ID_BYTES + 8].copy_from_slice(&end_s.to_be_bytes());
        signed[MEDIA_ID_BYTES + 8..].copy_from_slice(&period.to_be_bytes());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.key_of(period)), &signed);
        *tag.as_ref().first_chunk().expect("a SHA-256 is longer")
    }

    /// The path and query of a link that lives for as long at least, and less than an hour longer, and when it is over, in s since the Unix
    /// epoch. No link lives longer than [`LINK_VALID_MAX`] and that hour.
    pub fn sign(&self, id: MediaId, now_s: u64, valid: Duration) -> (String, u64) {
        let end_s = (now_s + valid.min(LINK_VALID_MAX).as_secs()).next_multiple_of(LINK_STEP.as_secs());
        let period = (now_s / LINK_PERIOD_S) as u32;
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.signature(id, end_s, period));
        (format!("/media/{id}?e={end_s}&k={period}&s={signature}"), end_s)
    }

    /// When the link is over, in s since the Unix epoch, of which this is the query.
    ///
    /// # Errors
    /// It opens nothing.
    pub fn check(&self, id: MediaId, query: &str, now_s: u64) -> Result<u64, BadLink> {
        let of = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let end_s: u64 = of("e").and_then(|end| end.parse().ok()).ok_or(BadLink::Forged)?;
        let period: u32 = of("k").and_then(|period| period.parse().ok()).ok_or(BadLink::Forged)?;
        let signature = of("s").and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
        let signature = signature.ok_or(BadLink::Forged)?;
        constant_time::verify_slices_are_equal(&self.signature(id, end_s, period), &signature)
            .map_err(|_| BadLink::Forged)?;
        // The longest that may have been signed at the end of the period.
        let last_s = (u64::from(period) + 1) * LINK_PERIOD_S + LINK_VALID_MAX.as_secs() + LINK_STEP.as_secs();
        match (end_s < last_s, now_s < end_s) {
            (false, _) => Err(BadLink::Forged),
            (true, true) => Ok(end_s),
            (true, false) => Err(BadLink::Over),
        }
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

    fn links() -> Links {
        Links::new(&[1; 32])
    }

    fn query(link: &str) -> &str {
        link.split_once('?').expect("a link has a query").1
    }

    #[test]
    fn a_link_opens_its_medium_until_it_is_over() {
        let (link, end_s) = links().sign(id(), NOW_S, DAY);
        assert!((NOW_S + 86_400..NOW_S + 86_400 + 3600).contains(&end_s) && end_s.is_multiple_of(3600));
        assert_eq!(links().check(id(), query(&link), NOW_S), Ok(end_s));
        assert_eq!(links().check(id(), query(&link), end_s - 1), Ok(end_s));
        assert_eq!(links().check(id(), query(&link), end_s), Err(BadLink::Over));
        assert_eq!(Links::new(&[2; 32]).check(id(), query(&link), NOW_S), Err(BadLink::Forged));
        let other = MediaId::from_bytes([8; 16]);
        assert_eq!(links().check(other, query(&link), NOW_S), Err(BadLink::Forged));
        let again = links().sign(id(), end_s - 86_400 - 3599, DAY);
        assert_eq!(again, (link, end_s), "within an hour it is the same");
        let (longest, end_s) = links().sign(id(), NOW_S, 1000 * DAY);
        assert_eq!(links().check(id(), query(&longest), NOW_S), Ok(end_s));
        assert_eq!(links().check(id(), query(&longest), NOW_S + 8 * 86_400), Err(BadLink::Over));
    }

    #[test]
    fn a_link_that_is_signed_as_a_period_ends_is_known_in_the_next_and_a_periods_key_is_of_no_use_later() {
        let last_s = NOW_S.next_multiple_of(LINK_PERIOD_S) - 1;
        let (link, end_s) = links().sign(id(), last_s, LINK_VALID_MAX);
        assert_eq!(links().check(id(), query(&link), end_s - 1), Ok(end_s));
        // Signed by whoever has the key of a period, for long behind it.
        let period = (NOW_S / LINK_PERIOD_S) as u32;
        let far_s = end_s + LINK_PERIOD_S;
        let signature = BASE64_URL_SAFE_NO_PAD.encode(links().signature(id(), far_s, period));
        let forged = format!("e={far_s}&k={period}&s={signature}");
        assert_eq!(links().check(id(), &forged, NOW_S), Err(BadLink::Forged));
        assert_ne!(links().key_of(period), links().key_of(period + 1));
    }

    proptest! {
        #[test]
        fn a_link_in_which_anything_is_another_opens_nothing(at: prop::sample::Index, to in "[0-9A-Za-z_&=-]") {
            let (link, _) = links().sign(id(), NOW_S, DAY);
            let mut forged = query(&link).to_owned();
            let at = at.index(forged.len());
            prop_assume!(forged[at..=at] != to);
            forged.replace_range(at..=at, &to);
            prop_assert!(links().check(id(), &forged, NOW_S).is_err(), "{}", forged);
        }

        #[test]
        fn nonsense_opens_nothing(query in ".{0,80}") {
            prop_assert_eq!(links().check(id(), &query, NOW_S), Err(BadLink::Forged));
        }
    }
}
