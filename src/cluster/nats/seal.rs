//! What shows that something comes from a node of this cluster: HMAC-SHA-256 under the cluster's secret, before the
//! text that it seals. It covers the subject and what the text answers, so that nothing can be taken to another place.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::cluster::Secret;

/// How many bytes a seal takes.
pub const SEAL_BYTES: usize = 32;

/// Seals and checks.
#[derive(Clone)]
pub struct Seal {
    mac: Hmac<Sha256>,
}

impl Seal {
    /// With this secret.
    pub fn new(secret: &Secret) -> Self {
        // A key of one block, whatever the secret's length.
        let mut key = [0; 64];
        key[..SEAL_BYTES].copy_from_slice(&Sha256::digest(secret.reveal()));
        Self { mac: Hmac::new(&key.into()) }
    }

    /// Each part with its length, so that no two ways to divide a text are the same.
    fn over(&self, subject: &str, context: &[u8], body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        for part in [subject.as_bytes(), context, body] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }

    /// The seal, and the body. `context` is what it belongs to, such as the seal of the call that it answers.
    pub fn close(&self, subject: &str, context: &[u8], body: &[u8]) -> Vec<u8> {
        let mut sealed = self.over(subject, context, body).finalize().into_bytes().to_vec();
        sealed.extend_from_slice(body);
        sealed
    }

    /// The body, if the seal is of this cluster.
    pub fn open<'a>(&self, subject: &str, context: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
        let (seal, body) = sealed.split_at_checked(SEAL_BYTES)?;
        self.over(subject, context, body).verify_slice(seal).ok()?;
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_elsewhere_or_changed_is_not_opened() {
        let seal = Seal::new(&Secret::new("s".repeat(32)));
        let sealed = seal.close("a", b"b", b"body");
        assert_eq!(seal.open("a", b"b", &sealed), Some(&b"body"[..]));
        assert_eq!(Seal::new(&Secret::new("t".repeat(32))).open("a", b"b", &sealed), None);
        assert_eq!(seal.open("b", b"b", &sealed), None);
        assert_eq!(seal.open("a", b"", &sealed), None);
        assert_eq!(seal.open("ab", b"", &sealed), None);
        assert_eq!(seal.open("a", b"b", &sealed[..SEAL_BYTES - 1]), None);
        assert_eq!(seal.open("a", b"b", &sealed[..SEAL_BYTES]), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(seal.open("a", b"b", &changed), None, "{at}");
        }
    }
}
