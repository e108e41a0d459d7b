//! Request bodies: media type, size, time, and JSON in which every mistake has a place.
//!
//! Refuses what is not of the right shape, naming the field: unknown members, wrong types, members given twice. Whether
//! a value is within its bounds is for the engine to say.

use std::collections::HashSet;
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
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use utoipa::ToSchema;

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

/// A body as it was sent, and its idempotency key if it has one.
#[derive(Debug)]
pub struct Input {
    /// `None`: there is none.
    bytes: Option<Bytes>,
    /// The caller's key.
    pub key: Option<IdempotencyKey>,
}

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
        let payload = bytes.as_deref().unwrap_or(b"{}");
        let key = key.map(|key| IdempotencyKey::new(user, operation, key, payload));
        Ok(Self { bytes, key })
    }

    /// The same of a request to which keys mean nothing.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub async fn read_without_key(request: &HttpRequest, payload: web::Payload, app: &App) -> Result<Self, Problem> {
        let bytes = read_bytes(request, payload, BODY_BYTES_MAX, app.settings.http.body_timeout.0).await?;
        Ok(Self { bytes, key: None })
    }

    /// Makes sure that a request to which keys mean nothing says nothing either.
    ///
    /// # Errors
    /// See [`read`](Self::read) and [`nothing`](Self::nothing).
    pub async fn expect_nothing(request: &HttpRequest, payload: web::Payload, app: &App) -> Result<(), Problem> {
        Self::read_without_key(request, payload, app).await?.nothing()
    }

    /// The body as a `T`, if there is one.
    ///
    /// # Errors
    /// 400, naming the field.
    pub fn parse_if_any<T: DeserializeOwned>(&self) -> Result<Option<T>, Problem> {
        if self.bytes.is_none() { Ok(None) } else { self.parse().map(Some) }
    }

    /// The body as a `T`.
    ///
    /// # Errors
    /// 400, naming the field.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let bytes = self.bytes.as_ref().ok_or_else(|| Problem::invalid_field("body", "is missing"))?;
        parse(bytes).map_err(|error| Problem::invalid(&[error]))
    }

    /// Makes sure that the body says nothing: `{}`, or none at all.
    ///
    /// # Errors
    /// 400, naming what it does say.
    pub fn nothing(&self) -> Result<(), Problem> {
        self.parse_if_any().map(|_: Option<Empty>| ())
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
        (true, false) => Ok(None),
        (false, false) => Err(unsupported("The body has no Content-Type: send application/json.")),
        (_, true) => Ok(Some(body.freeze())),
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
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FieldError> {
    refuse_twins(bytes)?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        describe(&path, &error.into_inner())
    })?;
    // Nothing but space may follow; the first pass has seen to that.
    Ok(value)
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

/// Refuses what is not JSON, and objects that have two members of one name: readers differ in which of them counts.
fn refuse_twins(bytes: &[u8]) -> Result<(), FieldError> {
    let mut path = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let outcome = Twins(&mut path).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    outcome.map_err(|error| {
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

/// Walks through a value and takes nothing of it. On an error the path is that of the culprit.
struct Twins<'a>(&'a mut Vec<Step>);

impl<'de> DeserializeSeed<'de> for Twins<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Twins<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            self.0.push(Step::Item(index));
            if items.next_element_seed(Twins(self.0))?.is_none() {
                self.0.pop();
                break;
            }
            self.0.pop();
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut seen = Names::default();
        while let Some(name) = members.next_key::<Name<'de>>()? {
            let name = name.0;
            let is_new = seen.insert(name.clone());
            self.0.push(Step::Member(name.into_owned()));
            if !is_new {
                return Err(serde::de::Error::custom(GIVEN_TWICE));
            }
            members.next_value_seed(Twins(self.0))?;
            self.0.pop();
        }
        Ok(())
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
#[derive(Debug)]
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
    fn good_json_is_taken_as_it_is() {
        let body = r#" {"amount":5,"at":"2026-11-20T19:30:00Z","prices":{"a":0},"inner":[{"count":3}],"raw":{"x": [1, null]}} "#;
        let outer: Outer = parse(body.as_bytes()).unwrap();
        assert_eq!(outer.raw.unwrap().get(), r#"{"x": [1, null]}"#);
        assert_eq!((outer.amount.get(), outer.inner.len(), outer.prices.len(), outer.at.is_some()), (5, 1, 1, true));
    }
}
