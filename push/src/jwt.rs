//! Tokens by which services know who sends: JWTs (RFC 7519), signed with ES256 or RS256 (RFC 7518).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::error::Invalid;

/// What signs. It has no `Debug`: it is a key.
pub(crate) enum Signer {
    /// ECDSA over P-256 with SHA-256.
    Es256(EcdsaKeyPair),
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256(RsaKeyPair),
}

impl Signer {
    /// A key of P-256, as PKCS#8 in PEM.
    ///
    /// # Errors
    /// It is none.
    pub fn es256(pem: &str) -> Result<Self, Invalid> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der_of(pem)?);
        key.map(Self::Es256).map_err(|_| Invalid::PrivateKey)
    }

    /// A key of RSA, as PKCS#8 in PEM.
    ///
    /// # Errors
    /// It is none.
    pub fn rs256(pem: &str) -> Result<Self, Invalid> {
        RsaKeyPair::from_pkcs8(&der_of(pem)?).map(Self::Rs256).map_err(|_| Invalid::PrivateKey)
    }

    /// Its public part: a point, uncompressed, or PKCS#1.
    pub fn public(&self) -> &[u8] {
        match self {
            Self::Es256(key) => key.public_key().as_ref(),
            Self::Rs256(key) => key.public_key().as_ref(),
        }
    }

    /// A token that says `claims`.
    pub fn sign(&self, key_id: Option<&str>, claims: &Value) -> String {
        let algorithm = match self {
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
        };
        let mut header = json!({ "alg": algorithm, "typ": "JWT" });
        if let Some(key_id) = key_id {
            header["kid"] = key_id.into();
        }
        let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.signature(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn signature(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Es256(key) => {
                let signature = key.sign(&random, signed).expect("a key that was read signs");
                signature.as_ref().to_vec()
            }
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature)
                    .expect("a key that was read signs");
                signature
            }
        }
    }
}

fn der_of(pem: &str) -> Result<Vec<u8>, Invalid> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| Invalid::PrivateKey)?;
    Ok(der.secret_pkcs8_der().to_vec())
}
