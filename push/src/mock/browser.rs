//! Browsers that subscribe, and decrypt what they are told (RFC 8291, RFC 8188).

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::token::Subscription;

/// A browser that has subscribed.
pub struct Subscriber {
    private: PrivateKey,
    auth: [u8; 16],
    endpoint: String,
}

impl Subscriber {
    pub(super) fn new(endpoint: String) -> Self {
        let mut auth = [0; 16];
        aws_lc_rs::rand::fill(&mut auth).expect("the system gives random bytes");
        let private = PrivateKey::generate(&ECDH_P256).expect("the system gives random bytes");
        Self { private, auth, endpoint }
    }

    /// What it gives to the app: its endpoint, and two keys in base64url.
    pub fn given(&self) -> (&str, String, String) {
        let key = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        (&self.endpoint, key(&self.point()), key(&self.auth))
    }

    /// The same.
    pub fn subscription(&self) -> Subscription {
        let (endpoint, p256dh, auth) = self.given();
        Subscription::new(endpoint, &p256dh, &auth).expect("it is one")
    }

    /// What it decrypts with, in base64url: its private key, as a number of 32 bytes, and its secret.
    pub fn secrets(&self) -> (String, String) {
        let private: EcPrivateKeyBin<'_> = self.private.as_be_bytes().expect("it is a key of a curve");
        (BASE64_URL_SAFE_NO_PAD.encode(private.as_ref()), BASE64_URL_SAFE_NO_PAD.encode(self.auth))
    }

    /// What it is told by a body. `None`: it is not for it, or not whole.
    pub fn decrypted(&self, body: &[u8]) -> Option<Vec<u8>> {
        let (salt, rest) = body.split_at_checked(16)?;
        let (_record_bytes, rest) = rest.split_at_checked(4)?;
        let (point_bytes, rest) = rest.split_first()?;
        let (theirs, sealed) = rest.split_at_checked(usize::from(*point_bytes))?;
        let about = [b"WebPush: info\0", &self.point()[..], theirs].concat();
        let secret = agree(&self.private, UnparsedPublicKey::new(&ECDH_P256, theirs), (), |shared| {
            Ok(derived(&self.auth, shared, &about))
        });
        let secret = secret.ok()?;
        let key = derived(salt, &secret, b"Content-Encoding: aes128gcm\0");
        let nonce = derived(salt, &secret, b"Content-Encoding: nonce\0");
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..16]).ok()?);
        let mut text = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).ok()?;
        let text = key.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
        let end = text.iter().rposition(|byte| *byte != 0)?;
        (text[end] == 2).then(|| text[..end].to_vec())
    }

    fn point(&self) -> Vec<u8> {
        self.private.compute_public_key().expect("a key has a public part").as_ref().to_vec()
    }
}

/// HKDF with SHA-256 (RFC 5869), of one block: both of its steps are an HMAC.
fn derived(salt: &[u8], secret: &[u8], about: &[u8]) -> Vec<u8> {
    let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(HMAC_SHA256, key), text);
    let extracted = sign(salt, secret);
    sign(extracted.as_ref(), &[about, &[1]].concat()).as_ref().to_vec()
}
