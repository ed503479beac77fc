//! Links as text: a scheme, and a number and a secret in base64.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tern_wire::limits::SECRET_BYTES;

/// What is passed on in a link.
pub(crate) type Secret = [u8; SECRET_BYTES];

/// The scheme and 32 characters.
pub(crate) fn write(scheme: &str, number: u64, secret: &Secret) -> String {
    let bytes = [&number.to_be_bytes()[..], secret].concat();
    format!("{scheme}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Number and secret; `None` if it is no link of that scheme.
pub(crate) fn read(scheme: &str, text: &str) -> Option<(u64, Secret)> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim().strip_prefix(scheme)?).ok()?;
    let bytes: [u8; 8 + SECRET_BYTES] = bytes.try_into().ok()?;
    let (number, secret) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), secret.try_into().ok()?))
}
