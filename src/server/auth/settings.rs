//! What of the configuration is about tokens.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Role;
use super::jwks;
use super::keys::Signature;
use crate::config::section;
use crate::server::config::{SECRET_BYTES_MIN, Secret, Span, ValueError, seconds, value_error};

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256 and a shared secret.
    #[serde(rename = "HS256")]
    Hs256,
    /// Ed25519, checked by public key.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

section! {
    /// Who may call.
    Auth {
        /// `HS256` or `EdDSA`; tokens signed in another way are refused.
        algorithm: Algorithm = Algorithm::Hs256,
        /// The secret for HS256. With neither this nor `secret_file`, one is made in the data directory.
        secret: Secret = Secret::default(),
        /// A file that holds the secret; empty: none.
        secret_file: PathBuf = PathBuf::new(),
        /// A PEM file that holds the public key for EdDSA.
        public_key_file: PathBuf = PathBuf::new(),
        /// By how much the clock of whoever signs may differ; with a key set 30 unless it is given.
        leeway_seconds: u64 = 0,
        /// Verified tokens that are remembered.
        cached_tokens: u64 = 100_000,
        /// Where the keys of who signs tokens are (a JWK set), if somebody else does.
        jwks_url: String = String::new(),
        /// The same as a file.
        jwks_file: PathBuf = PathBuf::new(),
        /// What `iss` must be; with neither URL nor file also where the issuer tells of its keys (OpenID Connect Discovery).
        issuer: String = String::new(),
        /// Of which one must be in `aud`.
        audiences: Vec<String> = Vec::new(),
        /// How tokens by the key set may be signed.
        algorithms: Vec<Signature> = Signature::ALL.to_vec(),
        /// Whether URLs of the login may begin with `http://` and lead to other machines.
        allow_http: bool = false,
        /// Whether tokens of the server's own are taken beside those by the key set.
        local_tokens: bool = false,
        /// Time between two fetches of the keys.
        jwks_refresh: Span = seconds(600),
        /// Least time between fetches for a key that is not known.
        jwks_cooldown: Span = seconds(10),
        /// How long a fetch may take.
        jwks_timeout: Span = seconds(5),
        /// How long the last good keys serve while fetches fail.
        jwks_keep: Span = seconds(86_400),
        /// In which claim roles are: its name, or a path with dots.
        role_claim: String = "role".into(),
        /// Where pages send who needs a token; empty: nowhere.
        login_url: String = String::new(),
        /// What is which role here; none: each is itself.
        roles: BTreeMap<String, Role> = BTreeMap::new(),
    }
}

impl Auth {
    /// Whether somebody else signs tokens, whose keys are fetched.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !self.jwks_url.is_empty() || !self.jwks_file.as_os_str().is_empty() || !self.issuer.is_empty()
    }

    /// Checks what belongs together.
    ///
    /// # Errors
    /// The first value that does not fit the others.
    pub(in crate::server) fn check(&self) -> Result<(), ValueError> {
        let allow = |is_right: bool, key: &str, value: &dyn fmt::Display, allowed: &str| {
            if is_right { Ok(()) } else { Err(value_error(key, value, allowed)) }
        };
        let secret = self.secret.reveal();
        let allowed = format!("at least {SECRET_BYTES_MIN} bytes long");
        allow(secret.is_empty() || secret.len() >= SECRET_BYTES_MIN, "auth.secret", &"***", &allowed)?;
        let secret_file = self.secret_file.as_os_str();
        let allowed = "empty if auth.secret is set";
        let file = self.secret_file.display();
        allow(secret_file.is_empty() || secret.is_empty(), "auth.secret_file", &file, allowed)?;
        if !self.login_url.is_empty()
            && let Err(allowed) = jwks::url(&self.login_url, self.allow_http)
        {
            return Err(value_error("auth.login_url", &self.login_url, allowed));
        }
        allow(!self.login_url.contains('#'), "auth.login_url", &self.login_url, "a URL with no fragment")?;
        if !self.has_keys() {
            let allowed = "empty, or with auth.issuer";
            allow(self.audiences.is_empty(), "auth.audiences", &self.audiences.join(", "), allowed)?;
            let roles: Vec<_> = self.roles.keys().map(String::as_str).collect();
            allow(roles.is_empty(), "auth.roles", &roles.join(", "), allowed)?;
            allow(!self.local_tokens, "auth.local_tokens", &true, "false, or with auth.issuer")?;
            let lacks_key = self.algorithm == Algorithm::EdDsa && self.public_key_file.as_os_str().is_empty();
            return allow(!lacks_key, "auth.public_key_file", &"\"\"", "a PEM file, since auth.algorithm is EdDSA");
        }
        let file = self.jwks_file.display();
        let allowed = "empty if auth.jwks_url is set";
        allow(self.jwks_url.is_empty() || self.jwks_file.as_os_str().is_empty(), "auth.jwks_file", &file, allowed)?;
        allow(!self.issuer.is_empty(), "auth.issuer", &"\"\"", "what iss is in the tokens by the key set")?;
        let has_audience = !self.audiences.is_empty() && self.audiences.iter().all(|audience| !audience.is_empty());
        allow(has_audience, "auth.audiences", &self.audiences.join(", "), "what aud is in the tokens by the key set")?;
        allow(!self.algorithms.is_empty(), "auth.algorithms", &"none", "one at least of RS256, ES256 and EdDSA")?;
        allow(!self.role_claim.is_empty(), "auth.role_claim", &"\"\"", "the name of a claim")?;
        jwks::check(self)?;
        let beside = "empty beside a key set, unless auth.local_tokens is true";
        allow(self.local_tokens || secret.is_empty(), "auth.secret", &"***", beside)?;
        allow(self.local_tokens || secret_file.is_empty(), "auth.secret_file", &self.secret_file.display(), beside)?;
        let key_file = &self.public_key_file;
        let beside = "empty beside a key set";
        allow(key_file.as_os_str().is_empty(), "auth.public_key_file", &key_file.display(), beside)?;
        allow(self.algorithm == Algorithm::Hs256, "auth.algorithm", &"EdDSA", "HS256 beside a key set")
    }
}
