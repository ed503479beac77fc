//! JWTs, as services check them.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

/// How a token is to be signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signed {
    Es256,
    Rs256,
}

/// The header and the claims of a token, if its signature is this key's. The key is a point, or PKCS#1.
pub(super) fn checked(token: &str, signed: Signed, key: &[u8]) -> Option<(Value, Value)> {
    let (text, signature) = token.rsplit_once('.')?;
    let (header, claims) = text.split_once('.')?;
    let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    let (name, algorithm): (_, &'static dyn VerificationAlgorithm) = match signed {
        Signed::Es256 => ("ES256", &ECDSA_P256_SHA256_FIXED),
        Signed::Rs256 => ("RS256", &RSA_PKCS1_2048_8192_SHA256),
    };
    UnparsedPublicKey::new(algorithm, key).verify(text.as_bytes(), &bytes(signature)?).ok()?;
    let header: Value = serde_json::from_slice(&bytes(header)?).ok()?;
    let claims = serde_json::from_slice(&bytes(claims)?).ok()?;
    (header["alg"] == name).then_some((header, claims))
}
