//! What a medium is called: 16 random bytes, so that nobody guesses one, in base64url where it is text.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;

/// Bytes of a medium's id.
pub const MEDIA_ID_BYTES: usize = 16;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaId([u8; MEDIA_ID_BYTES]);

impl MediaId {
    /// The id of these bytes.
    pub const fn from_bytes(bytes: [u8; MEDIA_ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// The same; `None`: they are too many or too few.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// As it goes over the wire, and lies in records.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; MEDIA_ID_BYTES] {
        &self.0
    }
}

/// As it stands in links.
impl fmt::Display for MediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// Shows the first bytes alone: whoever has all may pass the medium on.
impl fmt::Debug for MediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MediaId({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// A text that is no id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMediaId;

impl FromStr for MediaId {
    type Err = NoMediaId;

    fn from_str(text: &str) -> Result<Self, NoMediaId> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| NoMediaId)?;
        Ok(Self(bytes.try_into().map_err(|_| NoMediaId)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is() {
        let id = MediaId::from_bytes(*b"\x00\xff0123456789abcd");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "",
            "a",
            "../../../etc/passwd",
            "AAAAAAAAAAAAAAAAAAAAAB",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAA=",
        ] {
            assert_eq!(text.parse::<MediaId>(), Err(NoMediaId), "{text}");
        }
    }
}
