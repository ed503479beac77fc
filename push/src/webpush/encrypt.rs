//! What is sent is for the browser alone: Message Encryption for Web Push (RFC 8291), in one record of `aes128gcm` (RFC 8188).
//!
//! ```text
//! salt (16) | record size (4, big-endian) | 65 | the server's point (65) | AES-128-GCM of: text | 2 | zeros
//! ```

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};

use crate::limits::WEB_PUSH_BODY_BYTES_MAX;
use crate::token::{POINT_BYTES, Subscription};

const SALT_BYTES: usize = 16;
const HEADER_BYTES: usize = SALT_BYTES + 4 + 1 + POINT_BYTES;
const TAG_BYTES: usize = 16;

/// What ends the text of the last record.
const LAST: u8 = 2;

/// Bytes of a text that has room, with nothing of padding behind.
pub(super) const PLAIN_BYTES_MAX: usize = WEB_PUSH_BODY_BYTES_MAX - HEADER_BYTES - 1 - TAG_BYTES;

/// How the length of a text is hidden from the push service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Padding {
    /// Not at all.
    Nothing,
    /// Texts are as long as the next multiple of this.
    Multiple(u16),
    /// All texts are as long as the longest one.
    Longest,
}

impl Default for Padding {
    /// A notice without a preview is one block, and most of those with one are as well.
    fn default() -> Self {
        Self::Multiple(512)
    }
}

impl Padding {
    /// Bytes of a text with what is behind it.
    fn padded(self, bytes: usize) -> usize {
        let padded = match self {
            Self::Nothing | Self::Multiple(0) => bytes,
            Self::Multiple(block) => bytes.next_multiple_of(usize::from(block)),
            Self::Longest => PLAIN_BYTES_MAX,
        };
        padded.min(PLAIN_BYTES_MAX).max(bytes)
    }
}

/// Bytes that HKDF gives.
struct Bytes<const N: usize>;

impl<const N: usize> KeyType for Bytes<N> {
    fn len(&self) -> usize {
        N
    }
}

/// The body of a request. `None`: the subscription's key is no point of the curve.
pub(super) fn encrypt(plain: &[u8], padding: Padding, to: &Subscription) -> Option<Vec<u8>> {
    let mut salt = [0; SALT_BYTES];
    aws_lc_rs::rand::fill(&mut salt).expect("the system gives random bytes");
    let own = PrivateKey::generate(&ECDH_P256).expect("the system gives random bytes");
    encrypt_with(plain, padding.padded(plain.len()), to, &own, &salt)
}

fn encrypt_with(
    plain: &[u8],
    padded_bytes: usize,
    to: &Subscription,
    own: &PrivateKey,
    salt: &[u8; SALT_BYTES],
) -> Option<Vec<u8>> {
    let point = own.compute_public_key().expect("a private key has a public one");
    let (key, nonce) = key_and_nonce(to, own, point.as_ref(), salt)?;
    let mut text = Vec::with_capacity(padded_bytes + 1 + TAG_BYTES);
    text.extend_from_slice(plain);
    text.push(LAST);
    text.resize(padded_bytes + 1, 0);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).expect("a key has 16 bytes"));
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut text).expect("a record is short");

    let mut body = Vec::with_capacity(HEADER_BYTES + text.len());
    body.extend_from_slice(salt);
    body.extend_from_slice(&(WEB_PUSH_BODY_BYTES_MAX as u32).to_be_bytes());
    body.push(POINT_BYTES as u8);
    body.extend_from_slice(point.as_ref());
    body.extend_from_slice(&text);
    Some(body)
}

/// RFC 8291, section 3.4. Both are used once, as the key is the server's for this notice alone.
fn key_and_nonce(
    to: &Subscription,
    own: &PrivateKey,
    point: &[u8],
    salt: &[u8; SALT_BYTES],
) -> Option<([u8; 16], [u8; 12])> {
    let about = [b"WebPush: info\0", &to.p256dh[..], point].concat();
    let theirs = UnparsedPublicKey::new(&ECDH_P256, &to.p256dh);
    let secret = agree(own, theirs, (), |shared| {
        Ok(expanded::<32>(&Salt::new(HKDF_SHA256, &to.auth), shared, &about))
    });
    let (secret, salt) = (secret.ok()?, Salt::new(HKDF_SHA256, salt));
    let key = expanded(&salt, &secret, b"Content-Encoding: aes128gcm\0");
    Some((key, expanded(&salt, &secret, b"Content-Encoding: nonce\0")))
}

fn expanded<const N: usize>(salt: &Salt, secret: &[u8], about: &[u8]) -> [u8; N] {
    let (extracted, about) = (salt.extract(secret), [about]);
    let mut bytes = [0; N];
    let expanded = extracted.expand(&about, Bytes::<N>).expect("it is short");
    expanded.fill(&mut bytes).expect("it is as long as it was asked to be");
    bytes
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    /// RFC 8291, section 5 and appendix A.
    #[test]
    fn the_example_of_the_standard_is_encrypted_as_it_says() {
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url");
        let p256dh =
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        let to =
            Subscription::new("https://push.example.net/x", p256dh, "BTBZMqHH6r4Tts7J_aSIgg").expect("one");
        let own =
            PrivateKey::from_private_key(&ECDH_P256, &bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"));
        let salt = bytes("DGv6ra1nlYgDCS1FRnbzlw").try_into().expect("16 bytes");
        let plain = b"When I grow up, I want to be a watermelon";
        let body =
            encrypt_with(plain, plain.len(), &to, &own.expect("a key"), &salt).expect("it is encrypted");
        let expect = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(body), expect);
    }

    #[test]
    fn lengths_are_hidden_as_they_are_to_be() {
        assert_eq!(Padding::Nothing.padded(7), 7);
        assert_eq!([1, 512, 513].map(|bytes| Padding::Multiple(512).padded(bytes)), [512, 512, 1024]);
        assert_eq!(Padding::Longest.padded(7), PLAIN_BYTES_MAX);
        assert_eq!(Padding::Multiple(512).padded(PLAIN_BYTES_MAX), PLAIN_BYTES_MAX);
    }

    #[test]
    fn a_key_that_is_no_point_encrypts_nothing() {
        let mut point = [7; POINT_BYTES];
        point[0] = 4;
        let key = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let to = Subscription::new("https://push.example.net/x", &key(&point), &key(&[1; 16])).expect("one");
        assert_eq!(encrypt(b"text", Padding::Nothing, &to), None);
    }
}
