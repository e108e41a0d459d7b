//! Tokens that somebody else signs: by which key of a set one is to be checked, and what its claims must say.
//!
//! It neither fetches nor waits, and knows no requests.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Identity, Role, Roles};
use crate::server::config::Auth;

/// The most keys that a set may have.
const KEYS_MAX: usize = 100;
/// RSA keys of fewer bits are too weak.
const RSA_BITS_MIN: usize = 2_048;
/// Those of more are not taken by what checks signatures.
const RSA_BITS_MAX: usize = 4_096;

/// What is said of a token that was good.
pub(super) const EXPIRED: &str = "exp: the token has expired.";

/// How somebody else may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signature {
    /// RSA with PKCS #1 1.5 and SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Signature {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// A key as its set has it. What else stands there is passed over, certificates and addresses of other keys among it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    /// What it checks, and with what; or why it checks nothing.
    fn key(&self, allowed: &[Signature]) -> Result<(Signature, DecodingKey), &'static str> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("use: the key is not for signatures.");
        }
        if self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err("key_ops: the key is not for checking signatures.");
        }
        let signature = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Signature::Rs256,
            ("EC", Some("P-256")) => Signature::Es256,
            ("OKP", Some("Ed25519")) => Signature::EdDsa,
            ("EC" | "OKP", _) => return Err("crv: the key is on a curve that is not taken."),
            _ => return Err("kty: the key is of a kind that is not taken."),
        };
        if self.alg.as_deref().is_some_and(|alg| alg != signature.name()) || !allowed.contains(&signature) {
            return Err("alg: the key is for an algorithm that is not taken.");
        }
        const BROKEN: &str = "The key is not what its kind wants.";
        let part = |part: &Option<String>| part.as_deref().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let key = match signature {
            Signature::Rs256 => {
                let (modulus, exponent) = part(&self.n).zip(part(&self.e)).ok_or(BROKEN)?;
                // Such an exponent leaves everything as it is, or has no inverse; nor is an even number a product of two primes.
                let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
                if !is_odd(&modulus) || !is_odd(&exponent) || bits(&exponent) < 2 {
                    return Err(BROKEN);
                }
                match bits(&modulus) {
                    ..RSA_BITS_MIN => return Err("RSA: the key has fewer than 2,048 bits."),
                    RSA_BITS_MIN..=RSA_BITS_MAX => DecodingKey::from_rsa_raw_components(&modulus, &exponent),
                    _ => return Err("RSA: the key has more than 4,096 bits."),
                }
            }
            Signature::Es256 => {
                let (x, y) =
                    part(&self.x).zip(part(&self.y)).filter(|(x, y)| x.len() == 32 && y.len() == 32).ok_or(BROKEN)?;
                DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat())
            }
            Signature::EdDsa => {
                let point = part(&self.x).and_then(|x| <[u8; 32]>::try_from(x).ok()).ok_or(BROKEN)?;
                // By a point of small order anybody could sign.
                let is_weak = VerifyingKey::from_bytes(&point).map_err(|_| BROKEN)?.is_weak();
                if is_weak {
                    return Err(BROKEN);
                }
                DecodingKey::from_ed_der(&point)
            }
        };
        // A point that is not on its curve is found here.
        match crypto::verify("", b"", &key, signature.algorithm()) {
            Ok(_) => Ok((signature, key)),
            Err(_) => Err(BROKEN),
        }
    }
}

/// Of a number with its highest byte first.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros..];
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

struct Key {
    kid: Option<String>,
    usable: Result<(Signature, DecodingKey), &'static str>,
}

/// The keys that tokens may be signed with.
pub(super) struct KeySet {
    /// As they came, so that it is seen whether others have come.
    jwks: Vec<Jwk>,
    keys: Vec<Key>,
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.jwks == other.jwks
    }
}

impl KeySet {
    /// Reads a set (RFC 7517), for tokens that are signed in one of the ways that are `allowed`.
    ///
    /// # Errors
    /// Why it is of no use.
    pub(super) fn parse(json: &[u8], allowed: &[Signature]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        // What is wrong with it is told without what it says.
        let set: Set = serde_json::from_slice(json)
            .map_err(|error| format!("the answer is no set of keys (line {}, {:?})", error.line(), error.classify()))?;
        if set.keys.len() > KEYS_MAX {
            return Err(format!("the set has more than {KEYS_MAX} keys"));
        }
        let read = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        // A key that both sides know is nothing that a set should have, and checks nothing.
        let mut jwks: Vec<Jwk> = Vec::new();
        for jwk in read.filter(|jwk| jwk.kty != "oct") {
            // One that is listed twice is one.
            if !jwks.contains(&jwk) {
                jwks.push(jwk);
            }
        }
        let keys: Vec<_> = jwks.iter().map(|jwk| Key { kid: jwk.kid.clone(), usable: jwk.key(allowed) }).collect();
        if !keys.iter().any(|key| key.usable.is_ok()) {
            return Err("the set has no key that can be used".into());
        }
        Ok(Self { jwks, keys })
    }

    fn find(&self, kid: Option<&str>, signature: Signature) -> Result<&DecodingKey, Refused> {
        let is_right = |key: &&Key| matches!(&key.usable, Ok((its, _)) if *its == signature);
        let of_kid = || self.keys.iter().filter(|key| kid.is_none() || key.kid.as_deref() == kid);
        let mut right = of_kid().filter(is_right);
        match (right.next(), right.next(), kid) {
            (Some(Key { usable: Ok((_, key)), .. }), None, _) => Ok(key),
            (Some(_), _, None) => Err(Refused::Because("kid: there is none, and several keys fit.")),
            (None, _, None) => Err(Refused::Because("kid: there is none, and no key fits.")),
            (Some(_), _, Some(_)) => Err(Refused::Because("kid: several keys have it.")),
            (None, _, Some(_)) => Err(match of_kid().next().map(|key| &key.usable) {
                None => Refused::UnknownKid,
                Some(Err(why)) => Refused::Because(why),
                Some(Ok(_)) => Refused::Because("alg: the key of this kid is for another algorithm."),
            }),
        }
    }
}

/// Why a token stands for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// No key is of this `kid`. There may be one by now.
    UnknownKid,
    /// Another check failed, which this names.
    Because(&'static str),
}

/// The first part of a token, as far as it counts. What it says of keys and of where there are some does not.
#[derive(Deserialize)]
pub(super) struct Head {
    pub(super) alg: String,
    kid: Option<String>,
    typ: Option<String>,
    #[serde(default)]
    crit: Value,
}

impl Head {
    pub(super) fn of(token: &str) -> Option<Self> {
        let head = token.split('.').next()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()
    }
}

/// What tokens of somebody else must be like.
pub(super) struct Rules {
    pub(super) algorithms: Vec<Signature>,
    issuer: String,
    audiences: Vec<String>,
    leeway_seconds: f64,
    role_claim: String,
    roles: BTreeMap<String, Role>,
}

impl Rules {
    pub(super) fn new(settings: &Auth) -> Self {
        let roles = if settings.roles.is_empty() {
            Role::ALL.iter().map(|role| (role.as_str().to_owned(), *role)).collect()
        } else {
            settings.roles.clone()
        };
        Self {
            algorithms: settings.algorithms.clone(),
            issuer: settings.issuer.clone(),
            audiences: settings.audiences.clone(),
            leeway_seconds: settings.leeway_seconds as f64,
            role_claim: settings.role_claim.clone(),
            roles,
        }
    }

    /// Whom a token stands for, and until when, in seconds since 1970.
    pub(super) fn check(
        &self,
        head: &Head,
        token: &str,
        keys: &KeySet,
        now: SystemTime,
    ) -> Result<(Identity, f64), Refused> {
        let because = Refused::Because;
        let known = self.algorithms.iter().find(|known| known.name() == head.alg);
        let signature = *known.ok_or(because("alg: the token is signed in a way that is not taken."))?;
        if !head.crit.is_null() {
            return Err(because("crit: the token has extensions that must be understood, and are not."));
        }
        let is_typ = |typ: &str| ["JWT", "at+jwt"].iter().any(|known| known.eq_ignore_ascii_case(typ));
        if !head.typ.as_deref().is_none_or(is_typ) {
            return Err(because("typ: this is not a token for calls."));
        }
        let key = keys.find(head.kid.as_deref(), signature)?;
        let (signed, by) = token.rsplit_once('.').ok_or(because("The token is no JWT."))?;
        if !crypto::verify(by, signed.as_bytes(), key, signature.algorithm()).unwrap_or(false) {
            return Err(because("The signature is not by the key of this kid."));
        }
        let claims = signed.split_once('.').and_then(|(_, claims)| URL_SAFE_NO_PAD.decode(claims).ok());
        let claims = claims.and_then(|claims| serde_json::from_slice::<Map<String, Value>>(&claims).ok());
        self.check_claims(&claims.ok_or(because("The claims of the token are no object."))?, now).map_err(because)
    }

    fn check_claims(&self, claims: &Map<String, Value>, now: SystemTime) -> Result<(Identity, f64), &'static str> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let text = |name| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(&self.issuer) {
            return Err("iss: the token is not by the issuer that this server takes them of.");
        }
        let is_ours = |audience: &str| self.audiences.iter().any(|ours| ours == audience);
        let is_for_us = match claims.get("aud") {
            None => text("client_id").is_some_and(is_ours),
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).any(is_ours),
            Some(one) => one.as_str().is_some_and(is_ours),
        };
        if !is_for_us {
            return Err("aud: the token is for others.");
        }
        let expires =
            claims.get("exp").and_then(Value::as_f64).ok_or("exp: the token says not until when it is good.")?;
        let expires = expires + self.leeway_seconds;
        if now >= expires {
            return Err(EXPIRED);
        }
        let begins = claims.get("nbf").map_or(Some(0.0), Value::as_f64);
        if !begins.is_some_and(|begins| begins <= now + self.leeway_seconds) {
            return Err("nbf: the token is not good yet.");
        }
        let user = text("sub").and_then(|sub| sub.parse().ok());
        let user = user.ok_or("sub: the token is of nobody, or of a name that is not 1 to 255 ASCII characters.")?;
        Ok((Identity { user, roles: self.roles(claims) }, expires))
    }

    /// What the claims say of roles; what is not known here means something to others.
    fn roles(&self, claims: &Map<String, Value>) -> Roles {
        let claim = claims.get(&self.role_claim).or_else(|| {
            let mut path = self.role_claim.split('.');
            let first = claims.get(path.next()?);
            path.fold(first, |claim, name| claim?.get(name))
        });
        let words: Vec<&str> = match claim {
            Some(Value::String(words)) if self.role_claim == "scope" => words.split(' ').collect(),
            Some(Value::String(role)) => vec![role],
            Some(Value::Array(roles)) => roles.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        words.into_iter().filter_map(|word| self.roles.get(word)).copied().collect()
    }
}
