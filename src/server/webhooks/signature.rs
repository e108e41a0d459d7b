//! Signatures as Standard Webhooks 1.0 wants them.
//!
//! Its crate brings another HMAC, another base64 and a library for times along; the tests verify with it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::sink::Secret;

/// HMAC-SHA256 takes keys of this many bytes, shorter ones with zeros at the end.
const BLOCK_BYTES: usize = 64;

/// A secret as its owner is shown it.
pub fn shown(secret: &Secret) -> String {
    format!("whsec_{}", STANDARD.encode(secret.0))
}

/// The header `webhook-signature`: one signature with each of the secrets.
pub fn sign(secrets: &[Secret], id: &str, seconds: u64, body: &[u8]) -> String {
    let signatures: Vec<_> = secrets.iter().map(|secret| sign_with(secret, id, seconds, body)).collect();
    signatures.join(" ")
}

fn sign_with(secret: &Secret, id: &str, seconds: u64, body: &[u8]) -> String {
    let mut key = [0; BLOCK_BYTES];
    key[..secret.0.len()].copy_from_slice(&secret.0);
    let mut mac = Hmac::<Sha256>::new(&key.into());
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use standardwebhooks::Webhook;

    use super::*;

    #[test]
    fn agrees_with_the_standards_own_crate() {
        let secrets = [Secret([7; _]), Secret(*b"0123456789abcdef0123456789abcdef")];
        let body = r#"{"text": "안녕"}"#.as_bytes();
        let theirs = secrets.each_ref().map(|secret| {
            let webhook = Webhook::new(&shown(secret)).unwrap();
            webhook.sign("0-12-0", 1_795_203_000, body).unwrap()
        });
        assert_eq!(sign(&secrets, "0-12-0", 1_795_203_000, body), theirs.join(" "));
        assert_eq!(sign(&secrets[..1], "0-12-0", 1_795_203_000, body), theirs[0]);
    }
}
