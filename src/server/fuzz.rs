//! What strangers send to the server, for fuzzers: each takes any bytes, and panics if what must hold does not.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::Sha256;

use super::auth::Verifier;
use super::config::Settings;
use super::json::{self, Empty};
use super::query::Query;
use super::waiting_room::WaitingRoomPatch;
use super::webhooks::routes::{NewWebhook, Redrive};
use super::{blocks, concerts, live, options, reservations, wallet, webhooks};
use crate::domain::{EventId, UserId};
use crate::engine::parse_cursor;

/// The secret of the tokens.
const SECRET: &str = "a secret of the fuzzers, of 32 bytes and more";
/// When the tokens are looked at, in seconds since 1970.
const NOW: u64 = 2_000_000_000;
/// The longest payload of a WebSocket frame.
const FRAME_BYTES: usize = 256;

/// JSON bodies, as every route reads them: what is taken is JSON for other readers too, and what is refused has a reason
/// of a bounded length.
pub fn json_bodies(bytes: &[u8]) {
    body::<concerts::CreateConcert>(bytes);
    body::<WaitingRoomPatch>(bytes);
    body::<options::CreateOption>(bytes);
    body::<options::OptionPatch>(bytes);
    body::<blocks::BlockList>(bytes);
    body::<reservations::Hold>(bytes);
    body::<wallet::Charge>(bytes);
    body::<NewWebhook>(bytes);
    body::<Redrive>(bytes);
    body::<Empty>(bytes);
}

/// Templates: what is refused is refused with a short reason, and what is taken makes JSON of bounded size, or says why not,
/// of every sample and of a reservation of many seats.
pub fn templates(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for rendered in webhooks::try_template(text) {
        match rendered {
            Ok(json) => {
                assert!(json.len() <= 256 << 10, "{} bytes", json.len());
                serde_json::from_slice::<serde::de::IgnoredAny>(&json).expect("what is sent is JSON");
            }
            Err(why) => assert!((1..400).contains(&why.len()), "{why:?}"),
        }
    }
}

fn body<T: DeserializeOwned>(bytes: &[u8]) {
    match json::parse::<T>(bytes) {
        Ok(_) => {
            let value: Value = serde_json::from_slice(bytes).expect("what is taken is JSON");
            assert!(value.is_object(), "what is taken is an object");
        }
        Err(error) => {
            assert!(!error.field.is_empty() && !error.message.is_empty());
            let length = error.field.len() + error.message.len();
            assert!(length < 4 * bytes.len() + 1_000, "a reason of {length} bytes for a body of {}", bytes.len());
        }
    }
}

/// Tokens: whatever the rest of it says, one is good only with the right signature, of the one algorithm, before it
/// expires. Those that begin with `sign` and a line break are signed first: a header, a line break, and claims.
pub fn jwts(bytes: &[u8]) {
    static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
        let mut settings = Settings::default();
        settings.auth.secret = serde_json::from_value(json!(SECRET)).expect("a secret is a text");
        settings.auth.cached_tokens = 0;
        Verifier::new(&settings).expect("the secret is long enough")
    });
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let token = match text.strip_prefix("sign\n").and_then(|rest| rest.split_once('\n')) {
        Some((header, claims)) => {
            let encode = |part: &str| BASE64_URL_SAFE_NO_PAD.encode(part);
            let signed = format!("{}.{}", encode(header), encode(claims));
            format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature(&signed)))
        }
        None => text.to_owned(),
    };
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let Some(identity) = VERIFIER.verify(&token, now) else { return };
    let parts: Vec<_> = token.split('.').collect();
    let [header, claims, given] = parts[..] else { panic!("{token:?} is no JWT") };
    let decode = |part| BASE64_URL_SAFE_NO_PAD.decode(part).expect("it is base64url");
    assert_eq!(decode(given), signature(&format!("{header}.{claims}")), "{token:?} is forged");
    assert_eq!(member(&decode(header), "alg"), "HS256", "{token:?}");
    let claim = |name| member(&decode(claims), name);
    assert_eq!(claim("sub"), identity.user.as_str(), "{token:?}");
    assert!(claim("exp").as_f64().is_some_and(|expires| expires > NOW as f64), "{token:?} has expired");
    assert_eq!(identity.roles.has(super::auth::Role::Admin), claim("role") == "admin", "{token:?}");
    for bit in 0..8 {
        let mut forged = decode(given);
        forged[bit] ^= 1 << bit;
        let forged = format!("{}.{}.{}", parts[0], parts[1], BASE64_URL_SAFE_NO_PAD.encode(forged));
        assert_eq!(VERIFIER.verify(&forged, SystemTime::now().min(now)), None, "a forged signature is taken");
    }
}

/// A member of a JSON object. The others are left as they are: a number that nobody reads may be too large for any type.
fn member(object: &[u8], name: &str) -> Value {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(object).expect("it is an object");
    members.get(name).map_or(Value::Null, |raw| serde_json::from_str(raw.get()).expect("it is JSON"))
}

fn signature(signed: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("keys of any length");
    mac.update(signed.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Query strings with cursors: what is taken is the one way to write it.
pub fn cursors(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let known = &["limit", "cursor", "after", "wait_seconds", "status"];
    if let Ok(query) = Query::parse(text, known) {
        if let Ok(page) = query.page() {
            assert!((1..=500).contains(&page.limit));
            cursor(page.cursor.as_deref().unwrap_or_default());
        }
        if let Ok(Some(after)) = query.parsed::<EventId>("after") {
            assert_eq!(Some(after.to_string().as_str()), query.get("after"));
        }
        let user = query.get("status").map(str::parse::<UserId>);
        assert!(user.is_none_or(|user| user.is_err() || query.get("status").is_some_and(str::is_ascii)));
    }
    cursor(text);
}

fn cursor(text: &str) {
    if let Ok(Some(place)) = parse_cursor(Some(text)) {
        assert_eq!(place.to_string(), text);
    }
}

/// What a client sends over a WebSocket, in pieces whose size the first byte says: it is heard as if it had come at once,
/// and no more of it is kept than a frame.
pub fn web_socket_messages(bytes: &[u8]) {
    let Some((piece, sent)) = bytes.split_first() else { return };
    let at_once = live::hear(sent, sent.len().clamp(1, FRAME_BYTES), FRAME_BYTES);
    let in_pieces = live::hear(sent, 1 + usize::from(*piece), FRAME_BYTES);
    assert_eq!(at_once, in_pieces);
}
