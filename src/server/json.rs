//! Request bodies: media type, size, time, and JSON in which every mistake has a place.
//!
//! Refuses what is not of the right shape, naming the field: unknown members, wrong types, members given twice. Whether
//! a value is within its bounds is for the engine to say. An idempotency key goes with what a body says, however that is
//! written.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName};
use actix_web::web::{self, Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use utoipa::ToSchema;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::App;
use super::problem::{Code, Problem};
use crate::api::IdempotencyKey;
use crate::domain::UserId;
use crate::error::FieldError;

/// The largest body but for those that hold a seating plan: 16 KiB.
pub const BODY_BYTES_MAX: usize = 16 << 10;
/// What a body with a seating plan may have beside it: prices and areas at their bounds.
pub const PLAN_EXTRA_BYTES_MAX: usize = 1 << 20;
/// The name of the header with the caller's key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The name of the header with the token of the waiting room.
pub const QUEUE_TOKEN: HeaderName = HeaderName::from_static("queue-token");

const MIB: usize = 1 << 20;

/// A body as it was sent, and the idempotency key that it came with.
#[derive(Debug)]
pub struct Input {
    /// `None`: there is none.
    bytes: Option<Bytes>,
    /// `None`: no key.
    asked: Option<Asked>,
}

/// Who asks for what, with which key.
#[derive(Debug)]
struct Asked {
    user: UserId,
    operation: String,
    key: String,
}

/// What members an object has.
type Members = HashMap<String, IgnoredAny>;

impl Input {
    /// Reads the body of `request`. `operation` is what its idempotency key is good for: method and path.
    ///
    /// # Errors
    /// 413, 415, 408, or 400 if the body is cut off or the key is not one.
    pub async fn read(
        request: &HttpRequest,
        payload: web::Payload,
        app: &App,
        user: &UserId,
        operation: &str,
    ) -> Result<Self, Problem> {
        Self::read_up_to(BODY_BYTES_MAX, request, payload, app, user, operation).await
    }

    /// The same with another bound.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub async fn read_up_to(
        bytes_max: usize,
        request: &HttpRequest,
        payload: web::Payload,
        app: &App,
        user: &UserId,
        operation: &str,
    ) -> Result<Self, Problem> {
        let bytes = read_bytes(request, payload, bytes_max, app.settings.http.body_timeout.0).await?;
        let key = idempotency_key(request)?;
        let asked = key.map(|key| Asked { user: user.clone(), operation: operation.into(), key: key.into() });
        Ok(Self { bytes, asked })
    }

    /// The same of a request to which keys mean nothing.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub async fn read_without_key(request: &HttpRequest, payload: web::Payload, app: &App) -> Result<Self, Problem> {
        let bytes = read_bytes(request, payload, BODY_BYTES_MAX, app.settings.http.body_timeout.0).await?;
        Ok(Self { bytes, asked: None })
    }

    /// The bytes of a body that is signed as it stands, up to so many.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub async fn read_signed(
        bytes_max: usize,
        request: &HttpRequest,
        payload: web::Payload,
        app: &App,
    ) -> Result<Bytes, Problem> {
        let bytes = read_bytes(request, payload, bytes_max, app.settings.http.body_timeout.0).await?;
        Ok(bytes.unwrap_or_default())
    }

    /// Makes sure that a request to which keys mean nothing says nothing either.
    ///
    /// # Errors
    /// See [`read`](Self::read) and [`nothing`](Self::nothing).
    pub async fn expect_nothing(request: &HttpRequest, payload: web::Payload, app: &App) -> Result<(), Problem> {
        Self::read_without_key(request, payload, app).await?.nothing().map(|_| ())
    }

    /// The body as a `T`, and the caller's key for what it says.
    ///
    /// # Errors
    /// 400, naming the field.
    pub fn parse<T: DeserializeOwned>(self) -> Result<(T, Option<IdempotencyKey>), Problem> {
        self.parse_with_text().map(|(value, _, key)| (value, key))
    }

    /// The same, with the body as it stands.
    ///
    /// # Errors
    /// See [`parse`](Self::parse).
    pub fn parse_with_text<T: DeserializeOwned>(self) -> Result<(T, Bytes, Option<IdempotencyKey>), Problem> {
        let bytes = self.bytes.ok_or_else(|| Problem::invalid_field("body", "is missing"))?;
        let (value, digest) = parse_and_digest(&bytes).map_err(|error| Problem::invalid(&[error]))?;
        let key = self
            .asked
            .map(|Asked { user, operation, key }| IdempotencyKey::new(&user, &operation, &key, &digest.to_le_bytes()));
        Ok((value, bytes, key))
    }

    /// Whether the body is an object with a member of this name.
    pub fn has(&self, member: &str) -> bool {
        let members = self.bytes.as_ref().and_then(|bytes| serde_json::from_slice::<Members>(bytes).ok());
        members.is_some_and(|members| members.contains_key(member))
    }

    /// The same of an operation that need not be told anything: no body is as good as `{}`.
    ///
    /// # Errors
    /// 400, naming the field.
    pub fn parse_if_any<T: DeserializeOwned>(self) -> Result<(T, Option<IdempotencyKey>), Problem> {
        let bytes = self.bytes.unwrap_or(Bytes::from_static(b"{}"));
        Self { bytes: Some(bytes), ..self }.parse()
    }

    /// Makes sure that the body says nothing: `{}`, or none at all.
    ///
    /// # Errors
    /// 400, naming what it does say.
    pub fn nothing(self) -> Result<Option<IdempotencyKey>, Problem> {
        self.parse_if_any().map(|(Empty {}, key)| key)
    }
}

/// An operation that has nothing to say: `{}`, or no body at all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

async fn read_bytes(
    request: &HttpRequest,
    mut payload: web::Payload,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Option<Bytes>, Problem> {
    let has_media_type = check_media_type(request)?;
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > bytes_max) {
        return Err(too_large(bytes_max));
    }
    let begun = tokio::time::Instant::now();
    let mut body = BytesMut::new();
    loop {
        // A large body may take longer, but not by trickling.
        let deadline = begun + timeout * u32::try_from(1 + body.len() / MIB).unwrap_or(u32::MAX);
        let Ok(chunk) = tokio::time::timeout_at(deadline, payload.next()).await else {
            return Err(Problem::new(Code::RequestTimeout, "The body did not arrive in time.").closing());
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|error| Problem::invalid_field("body", format!("is cut off: {error}")).closing())?;
        if body.len() + chunk.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    match (body.is_empty(), has_media_type) {
        // Some say what kind nothing is of.
        (true, _) => Ok(None),
        (false, false) => Err(unsupported("The body has no Content-Type: send application/json.")),
        (false, true) => Ok(Some(body.freeze())),
    }
}

/// Whether there is a media type; one that is not for this method is refused.
fn check_media_type(request: &HttpRequest) -> Result<bool, Problem> {
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(unsupported("Compressed bodies are not taken."));
    }
    let Some(media_type) = request.headers().get(header::CONTENT_TYPE) else { return Ok(false) };
    let essence = media_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json");
    let is_patch = essence.eq_ignore_ascii_case("application/merge-patch+json") && request.method() == Method::PATCH;
    if is_json || is_patch { Ok(true) } else { Err(unsupported("Send application/json.")) }
}

fn unsupported(detail: &str) -> Problem {
    Problem::new(Code::UnsupportedMediaType, detail)
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("The body may have {bytes_max} bytes at the most.")).closing()
}

/// The caller's idempotency key, if there is one.
fn idempotency_key(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let wrong = || Problem::invalid_field("Idempotency-Key", "must be one value of 1 to 255 visible ASCII characters");
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().map_err(|_| wrong())?;
    let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if values.next().is_some() || !is_visible || !(1..=255).contains(&key.len()) {
        return Err(wrong());
    }
    Ok(Some(key))
}

/// Reads JSON of one shape.
///
/// # Errors
/// The field that is wrong.
#[cfg(any(test, feature = "testing"))]
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FieldError> {
    parse_and_digest(bytes).map(|(value, _)| value)
}

/// Reads JSON of one shape, with a [digest](digest) of it.
fn parse_and_digest<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, u128), FieldError> {
    let digest = digest(bytes)?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        describe(&path, &error.into_inner())
    })?;
    // Nothing but space may follow; the first pass has seen to that.
    Ok((value, digest))
}

/// Turns what serde says into a field and what is wrong with it.
fn describe(path: &str, error: &serde_json::Error) -> FieldError {
    let path = if path == "." { "" } else { path };
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    if let Some(name) = quoted(message, "missing field `") {
        return FieldError::new(join(path, name), "is missing");
    }
    let field = if path.is_empty() { "body" } else { path };
    if let Some((_, known)) = message.split_once("unknown field `").and_then(|(_, rest)| rest.split_once("`, ")) {
        return FieldError::new(field, format!("is not known: {known}"));
    }
    FieldError::new(field, message)
}

fn quoted<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.split('`').next()
}

fn join(path: &str, name: &str) -> String {
    // A name may be empty, which is told as such.
    let name = if name.is_empty() { "\"\"" } else { name };
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// What a body says, as a number: the same for the same value, whatever white space, order of members and escapes it is
/// written with. Numbers are the same if their values are: 1, 1.0 and 1e0.
///
/// It tells a caller's own bodies from each other, and nobody else's: so it need not withstand anybody who looks for two
/// that have the same, and what does would take longer than the rest of a plan of some MiB.
///
/// Refuses what is not JSON, and objects that have two members of one name: readers differ in which of them counts.
fn digest(bytes: &[u8]) -> Result<u128, FieldError> {
    let mut path = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let outcome = Digest(&mut path).deserialize(&mut deserializer);
    outcome.and_then(|digest| deserializer.end().map(|()| digest)).map_err(|error| {
        let message = error.to_string();
        if message.starts_with(GIVEN_TWICE) {
            let place = path.iter().fold(String::new(), |place, step| match step {
                Step::Member(name) => join(&place, name),
                Step::Item(index) => format!("{place}[{index}]"),
            });
            return FieldError::new(place, GIVEN_TWICE);
        }
        FieldError::new("body", format!("is not JSON: {message}"))
    })
}

const GIVEN_TWICE: &str = "is given twice";

/// A step on the way to a value.
enum Step {
    Member(String),
    Item(usize),
}

/// Walks through a value and makes a digest of it. On an error the path is that of the culprit.
struct Digest<'a>(&'a mut Vec<Step>);

/// Kinds of values, and of parts of them: what is written the same in two kinds is not the same.
#[derive(Clone, Copy)]
enum Kind {
    Null,
    Bool,
    Integer,
    Float,
    String,
    Items,
    Member,
    Members,
}

impl Kind {
    fn digest(self, bytes: &[u8]) -> u128 {
        xxh3_128_with_seed(bytes, self as u64)
    }

    /// Of two digests, in this order.
    fn pair(self, first: u128, second: u128) -> u128 {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&first.to_le_bytes());
        bytes[16..].copy_from_slice(&second.to_le_bytes());
        self.digest(&bytes)
    }
}

fn integer(value: i128) -> u128 {
    Kind::Integer.digest(&value.to_le_bytes())
}

impl<'de> DeserializeSeed<'de> for Digest<'_> {
    type Value = u128;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u128, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Digest<'_> {
    type Value = u128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<u128, E> {
        Ok(Kind::Bool.digest(&[value.into()]))
    }

    fn visit_i64<E>(self, value: i64) -> Result<u128, E> {
        Ok(integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<u128, E> {
        Ok(integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<u128, E> {
        // One that is written with a point or an exponent may be whole as well, and then it is exact.
        let is_integer = value.fract() == 0.0 && value.abs() <= u64::MAX as f64;
        Ok(if is_integer { integer(value as i128) } else { Kind::Float.digest(&value.to_le_bytes()) })
    }

    fn visit_str<E>(self, value: &str) -> Result<u128, E> {
        Ok(Kind::String.digest(value.as_bytes()))
    }

    fn visit_unit<E>(self) -> Result<u128, E> {
        Ok(Kind::Null.digest(b""))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u128, A::Error> {
        let mut all = Kind::Items.digest(b"");
        for index in 0.. {
            self.0.push(Step::Item(index));
            let item = items.next_element_seed(Digest(self.0))?;
            self.0.pop();
            let Some(item) = item else { break };
            all = Kind::Items.pair(all, item);
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<u128, A::Error> {
        let mut seen = Names::default();
        // A sum has no order.
        let (mut all, mut count) = (0_u128, 0);
        while let Some(name) = members.next_key::<Name<'de>>()? {
            let name = name.0;
            let is_new = seen.insert(name.clone());
            let name_digest = Kind::String.digest(name.as_bytes());
            self.0.push(Step::Member(name.into_owned()));
            if !is_new {
                return Err(serde::de::Error::custom(GIVEN_TWICE));
            }
            let value = members.next_value_seed(Digest(self.0))?;
            self.0.pop();
            all = all.wrapping_add(Kind::Member.pair(name_digest, value));
            count += 1;
        }
        Ok(Kind::Members.pair(all, count))
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'de>(std::borrow::Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(name.into()))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(name.to_owned().into()))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// The names in one object. Most objects are small, and a short list is quicker than a set.
#[derive(Default)]
struct Names<'de> {
    few: Vec<std::borrow::Cow<'de, str>>,
    many: HashSet<std::borrow::Cow<'de, str>>,
}

impl<'de> Names<'de> {
    const FEW: usize = 16;

    /// Whether it is new.
    fn insert(&mut self, name: std::borrow::Cow<'de, str>) -> bool {
        if self.few.contains(&name) {
            return false;
        }
        if self.few.len() < Self::FEW {
            self.few.push(name);
            return true;
        }
        self.many.insert(name)
    }
}

/// A `T` that is written as an object. (Derived types take a list of their fields as well.)
#[derive(Debug, serde::Serialize)]
#[serde(transparent)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// For a member that may be absent and may not be `null`.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// For a member of a merge patch: tells `null` (`Some(None)`) from a member that is absent (`None`).
pub fn patched<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;
    use crate::domain::{Points, Timestamp};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        amount: Points,
        #[serde(default)]
        at: Option<Timestamp>,
        #[serde(default)]
        prices: std::collections::BTreeMap<String, Points>,
        #[serde(default)]
        inner: Vec<Object<Inner>>,
        #[serde(default)]
        raw: Option<Box<RawValue>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Inner {
        count: u32,
    }

    #[test]
    fn every_mistake_has_a_place() {
        for (body, field, message) in [
            ("", "body", "is not JSON"),
            ("{", "body", "is not JSON"),
            ("{} x", "body", "is not JSON"),
            ("\u{feff}{}", "body", "is not JSON"),
            ("[]", "body", "invalid type: sequence, expected an object"),
            ("[1, null, {}, [], null]", "body", "invalid type"),
            ("null", "body", "invalid type"),
            ("{}", "amount", "is missing"),
            (r#"{"amount":"1"}"#, "amount", "invalid type: string \"1\""),
            (r#"{"amount":-1}"#, "amount", "invalid value: integer `-1`"),
            (r#"{"amount":1.5}"#, "amount", "invalid type: floating point `1.5`"),
            (r#"{"amount":null}"#, "amount", "invalid type: null"),
            (r#"{"amount":9007199254740992}"#, "amount", "must be at most 9007199254740991"),
            (r#"{"amount":1,"amount":1}"#, "amount", "is given twice"),
            (r#"{"amount":1,"amo\u0075nt":1}"#, "amount", "is given twice"),
            (r#"{"amount":1,"extra":1}"#, "extra", "is not known: expected one of `amount`"),
            (r#"{"amount":1,"at":"tomorrow"}"#, "at", "must be an RFC 3339 time"),
            (r#"{"amount":1,"prices":{"a":1,"b":-1}}"#, "prices.b", "invalid value"),
            (r#"{"amount":1,"prices":{"a":1,"a":2}}"#, "prices.a", "is given twice"),
            (r#"{"amount":1,"inner":[[1]]}"#, "inner[0]", "invalid type: sequence, expected an object"),
            (r#"{"amount":1,"inner":[{"count":1},{}]}"#, "inner[1].count", "is missing"),
            (r#"{"amount":1,"inner":[{"count":1},{"counts":1}]}"#, "inner[1].counts", "is not known: expected `count`"),
            (r#"{"amount":1,"inner":[{"count":4294967296}]}"#, "inner[0].count", "invalid value"),
            (r#"{"amount":1,"raw":{"a":[{"b":1,"c":2,"b":3}]}}"#, "raw.a[0].b", "is given twice"),
        ] {
            let error = parse::<Outer>(body.as_bytes()).unwrap_err();
            assert_eq!(error.field, field, "{body}: {}", error.message);
            assert!(error.message.starts_with(message), "{body}: {}", error.message);
        }
        let deep = format!(r#"{{"amount":1,"raw":{}}}"#, "[".repeat(10_000));
        assert_eq!(parse::<Outer>(deep.as_bytes()).unwrap_err().field, "body");
        let wide: Vec<_> = (0..100).map(|n| format!(r#""k{n}":1"#)).chain([r#""k99":1"#.into()]).collect();
        let wide = format!(r#"{{"amount":1,"raw":{{{}}}}}"#, wide.join(","));
        assert_eq!(parse::<Outer>(wide.as_bytes()).unwrap_err().field, "raw.k99");
    }

    #[test]
    fn the_same_value_has_the_same_digest_and_others_have_others() {
        let rows: &[&[&str]] = &[
            &["null", " null\n"],
            &["true"],
            &["false"],
            &["1", "1.0", "1e0", "10E-1", "0.1e1"],
            &["0", "-0", "0.0", "-0.0", "0e9"],
            &["-1", "-1.0"],
            &["1.5", "15e-1"],
            &["9007199254740993"],
            &["9007199254740992", "9007199254740992.0", "9.007199254740992e15"],
            &["18446744073709551615"],
            &["18446744073709551616", "18446744073709551616.0"],
            &["1e300"],
            &["1e-300"],
            &[r#""""#],
            &[r#""1""#],
            &[r#""é""#, r#""\u00e9""#, r#""\u00E9""#],
            &[r#""e\u0301""#],
            &[r#""/""#, r#""\/""#, r#""\u002f""#],
            &[r#""🎭""#, r#""\ud83c\udfad""#],
            &["[]", "[ ]"],
            &["[[]]"],
            &["[null]"],
            &["[1,2]", "[ 1.0,\t2e0 ]"],
            &["[2,1]"],
            &["[[1],2]"],
            &["[1,[2]]"],
            &["{}", " { } "],
            &["[{}]"],
            &["[{},{}]"],
            &[r#"{"a":1}"#, r#"{"\u0061":1.0}"#],
            &[r#"{"a":null}"#],
            &[r#"{"a":"1"}"#],
            &[r#"{"a":1,"b":2}"#, r#"{ "b" : 2, "a" : 1 }"#],
            &[r#"{"a":2,"b":1}"#],
            &[r#"{"a":{"b":1,"c":2},"d":[{"e":1,"f":2}]}"#, r#"{"d":[{"f":2,"e":1}],"a":{"c":2,"b":1}}"#],
            &[r#"{"a":{"b":1},"c":2}"#],
            &[r#"{"a":{"b":1,"c":2}}"#],
            &[r#"{"ab":"c"}"#],
            &[r#"{"a":"bc"}"#],
        ];
        let mut known = std::collections::HashMap::new();
        for row in rows {
            let digests: HashSet<_> = row.iter().map(|text| digest(text.as_bytes()).unwrap()).collect();
            assert_eq!(digests.len(), 1, "{row:?}");
            for digest in digests {
                assert_eq!(known.insert(digest, row), None, "{row:?}");
            }
        }
        for text in ["", "1 1", "01", "1e999", r#""\ud83c""#, r#"{"a":1,"\u0061":1}"#] {
            assert!(digest(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn good_json_is_taken_as_it_is() {
        let body = r#" {"amount":5,"at":"2026-11-20T19:30:00Z","prices":{"a":0},"inner":[{"count":3}],"raw":{"x": [1, null]}} "#;
        let outer: Outer = parse(body.as_bytes()).unwrap();
        assert_eq!(outer.raw.unwrap().get(), r#"{"x": [1, null]}"#);
        assert_eq!((outer.amount.get(), outer.inner.len(), outer.prices.len(), outer.at.is_some()), (5, 1, 1, true));
    }
}
