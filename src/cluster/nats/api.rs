//! What is asked of JetStream: requests on `$JS.API`, which are JSON documents, and messages to streams. Only a
//! stream's leader answers what is asked of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::asks::{Asks, NoAnswer};
use super::{DEAF, Error, Found, PAUSE, wire};
use crate::cluster::{Sequence, Wire};

/// There is no such stream.
const NO_STREAM: u32 = 10_059;
/// There is no message there.
const NO_MESSAGE: u32 = 10_037;
/// A stream is not made with these settings, whoever asks how often.
const STREAM_INVALID: &[u32] = &[10_052, 10_058, 10_065, 10_074];

/// Why JetStream did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It said no.
    #[error("{why} ({code})")]
    Refused {
        /// NATS' own number of the reason.
        code: u32,
        /// And in words.
        why: String,
    },
    /// It did not say anything, and may have done it.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// It said something else.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

#[derive(Debug, Deserialize)]
struct Acknowledgement {
    stream: String,
    seq: u64,
}

/// What is known of a stream.
#[derive(Debug, Deserialize)]
pub struct Info {
    config: Value,
    created: String,
    state: State,
    #[serde(default)]
    cluster: Replicas,
}

#[derive(Debug, Deserialize)]
struct State {
    first_seq: u64,
    last_seq: u64,
    #[serde(default)]
    bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
struct Replicas {
    #[serde(default)]
    leader: Option<String>,
    #[serde(default)]
    replicas: Option<Vec<Replica>>,
}

#[derive(Debug, Deserialize)]
struct Replica {
    name: String,
}

impl Info {
    /// The last message.
    pub fn last(&self) -> Sequence {
        Sequence(self.state.last_seq)
    }

    /// What it takes.
    pub fn bytes(&self) -> u64 {
        self.state.bytes
    }

    /// When it was created, in nanoseconds.
    pub fn created(&self) -> Result<u64, ApiError> {
        let unreadable = || ApiError::Unreadable(format!("created: {}", self.created));
        let created: jiff::Timestamp = self.created.parse().map_err(|_| unreadable())?;
        u64::try_from(created.as_nanosecond()).map_err(|_| unreadable())
    }

    /// The names of the servers that it stands on.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        let replicas = self.cluster.replicas.iter().flatten().map(|replica| replica.name.as_str());
        self.cluster.leader.as_deref().into_iter().chain(replicas)
    }

    /// What whoever follows has to know.
    pub fn found(&self) -> Result<Found, Error> {
        let created = self.created().map_err(|error| refused("what the stream is", error))?;
        // An empty one begins behind its end.
        Ok(Found { created, first: Sequence(self.state.first_seq.max(1)), last: self.last() })
    }
}

#[derive(Debug, Deserialize)]
struct Stored {
    message: StoredMessage,
}

#[derive(Debug, Deserialize)]
struct StoredMessage {
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// A message of a stream.
pub struct Kept {
    /// With headers.
    pub wire: Wire,
}

/// How a stream has to be: what is not named here is as NATS makes it, and must be off.
pub struct Settings {
    name: String,
    replicas: usize,
    fields: Vec<(&'static str, Value)>,
}

/// Off, in whatever way NATS says so.
const MUST_BE_OFF: &[&str] = &[
    "mirror",
    "sources",
    "no_ack",
    "sealed",
    "deny_purge",
    "allow_direct",
    "mirror_direct",
    "allow_rollup_hdrs",
    "allow_msg_ttl",
    "allow_msg_counter",
    "allow_atomic",
    "allow_batched",
    "allow_msg_schedules",
    "republish",
    "subject_transform",
    "discard_new_per_subject",
    "max_age",
    "persist_mode",
    "subject_delete_marker_ttl",
];

fn settings(name: &str, subjects: &str, replicas: u64, more: Vec<(&'static str, Value)>) -> Settings {
    let mut fields = vec![
        ("subjects", json!([subjects])),
        ("storage", json!("file")),
        ("retention", json!("limits")),
        ("num_replicas", json!(replicas)),
        ("max_consumers", json!(-1)),
        ("max_msgs", json!(-1)),
        ("max_bytes", json!(-1)),
        ("max_msg_size", json!(-1)),
        ("discard", json!("new")),
        ("deny_delete", json!(true)),
        // The shortest there is: nobody sends `Nats-Msg-Id`.
        ("duplicate_window", json!(100_000_000)),
    ];
    fields.extend(more);
    Settings { name: name.to_owned(), replicas: usize::try_from(replicas).unwrap_or(usize::MAX), fields }
}

/// Of the log: nothing is ever removed but by a purge.
pub fn log_settings(name: &str, subject: &str, replicas: u64) -> Settings {
    settings(name, subject, replicas, vec![("max_msgs_per_subject", json!(-1))])
}

/// Of seating plans: one message each chunk, so that a damaged one can be put again.
pub fn plans_settings(name: &str, subjects: &str, replicas: u64) -> Settings {
    settings(name, subjects, replicas, vec![("max_msgs_per_subject", json!(1))])
}

impl Settings {
    fn document(&self) -> Value {
        let mut document = serde_json::Map::new();
        document.insert("name".into(), json!(self.name));
        document.extend(self.fields.iter().map(|(field, value)| ((*field).to_owned(), value.clone())));
        Value::Object(document)
    }

    /// Compares with what a stream has.
    fn check(&self, config: &Value) -> Result<(), Error> {
        let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let differs = |field, wanted: String| Error::OtherSettings {
            stream: self.name.clone(),
            field,
            found: shown(config.get(field)),
            wanted,
        };
        for (field, wanted) in &self.fields {
            if config.get(field) != Some(wanted) {
                return Err(differs(field, wanted.to_string()));
            }
        }
        for field in MUST_BE_OFF {
            let is_off = match config.get(field) {
                None | Some(Value::Null | Value::Bool(false)) => true,
                Some(Value::Number(number)) => number.as_f64() == Some(0.0),
                Some(Value::Array(items)) => items.is_empty(),
                Some(Value::String(text)) => text.is_empty() || text == "default",
                Some(_) => false,
            };
            if !is_off {
                return Err(differs(field, "nothing".to_owned()));
            }
        }
        Ok(())
    }
}

fn refused(what: &'static str, error: ApiError) -> Error {
    match error {
        ApiError::NoAnswer(NoAnswer::TooLarge { bytes, max }) => Error::TooLarge { bytes, max },
        ApiError::NoAnswer(_) => Error::NoAnswer(what),
        error => Error::Refused { what, why: error.to_string() },
    }
}

/// Asks JetStream.
pub struct Api {
    asks: Asks,
    patience: Duration,
    began: Instant,
    /// Since when JetStream does not answer, in milliseconds after `began`; 0 if it does.
    deaf: AtomicU64,
}

impl Api {
    /// Each answer is waited for so long.
    pub fn new(asks: Asks, patience: Duration) -> Self {
        Self { asks, patience, began: Instant::now(), deaf: AtomicU64::new(0) }
    }

    /// How long an answer is waited for.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Asks, and notices if nobody ever answers: this server may be cut off from all others, and does not know it.
    async fn ask(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<Message, NoAnswer> {
        let answer = self.asks.ask(subject, headers, body, patience).await;
        match &answer {
            Ok(_) => self.deaf.store(0, Ordering::Relaxed),
            Err(NoAnswer::TimedOut | NoAnswer::NobodyThere) => {
                let now = (self.began.elapsed().as_millis() as u64).max(1);
                let since = self.deaf.load(Ordering::Relaxed);
                let is_long = since > 0 && now.saturating_sub(since) > DEAF.as_millis() as u64;
                // Of all who notice, one does something.
                let is_mine = (since == 0 || is_long)
                    && self.deaf.compare_exchange(since, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
                if is_long && is_mine {
                    tracing::warn!("JetStream does not answer: looking for another NATS server");
                    if let Err(error) = self.asks.client().force_reconnect().await {
                        tracing::debug!(%error, "there is no connection any more");
                    }
                }
            }
            Err(NoAnswer::TooLarge { .. } | NoAnswer::Closed(_)) => {}
        }
        answer
    }

    /// Asks the API.
    pub async fn call<T: DeserializeOwned>(&self, what: &str, body: Value) -> Result<T, ApiError> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.ask(format!("$JS.API.{what}"), HeaderMap::new(), body, self.patience).await?;
        read(&answer.payload)
    }

    /// What a stream is now.
    pub async fn info(&self, stream: &str) -> Result<Info, ApiError> {
        self.call(&format!("STREAM.INFO.{stream}"), Value::Null).await
    }

    /// As [`info`](Self::info), for whoever does not ask again.
    ///
    /// # Errors
    /// Nobody answers, or it is refused.
    pub async fn stream_info(&self, stream: &str) -> Result<Info, Error> {
        self.info(stream).await.map_err(|error| refused("what the stream is", error))
    }

    /// The stream as it must be; made, if it is not there.
    ///
    /// # Errors
    /// It is otherwise, cannot be made, or nobody answered until `deadline`.
    pub async fn stream(&self, settings: &Settings, deadline: Instant) -> Result<Info, Error> {
        loop {
            let error = match self.info(&settings.name).await {
                Ok(info) => {
                    settings.check(&info.config)?;
                    // All that it stands on, or nobody can say whether they sync.
                    if info.servers().count() >= settings.replicas {
                        return Ok(info);
                    }
                    ApiError::Unreadable("it does not say where the stream stands".to_owned())
                }
                Err(ApiError::Refused { code: NO_STREAM, .. }) => {
                    let made = format!("STREAM.CREATE.{}", settings.name);
                    match self.call::<Value>(&made, settings.document()).await {
                        Ok(_) => ApiError::Unreadable("it was made just now".to_owned()),
                        Err(error @ ApiError::Refused { code, .. }) if STREAM_INVALID.contains(&code) => {
                            return Err(refused("to make a stream", error));
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if Instant::now() > deadline {
                return Err(refused("to say what a stream is, or to make it", error));
            }
            tracing::debug!(%error, stream = settings.name, "there is no stream yet");
            sleep(PAUSE).await;
        }
    }

    /// Appends to a stream: the place, once it stands there for good.
    pub async fn append(
        &self,
        stream: &str,
        subject: String,
        wire: Wire,
        expected: Option<Sequence>,
        patience: Duration,
    ) -> Result<Sequence, ApiError> {
        let mut headers = wire::headers(&wire);
        if let Some(expected) = expected {
            headers.insert("Nats-Expected-Last-Sequence", expected.to_string());
        }
        let answer = self.ask(subject, headers, wire.payload, patience).await?;
        let acknowledgement: Acknowledgement = read(&answer.payload)?;
        if acknowledgement.stream != stream || acknowledgement.seq == 0 {
            return Err(ApiError::Unreadable(format!("{acknowledgement:?}")));
        }
        Ok(Sequence(acknowledgement.seq))
    }

    /// One message, which `which` names.
    pub async fn message(&self, stream: &str, which: Value) -> Result<Option<Kept>, ApiError> {
        let stored: Stored = match self.call(&format!("STREAM.MSG.GET.{stream}"), which).await {
            Err(ApiError::Refused { code: NO_MESSAGE, .. }) => return Ok(None),
            answer => answer?,
        };
        let decode = |text: &str| STANDARD.decode(text).map_err(|error| ApiError::Unreadable(error.to_string()));
        let StoredMessage { hdrs, data } = stored.message;
        Ok(Some(Kept { wire: wire::stored(&decode(&hdrs)?, decode(&data)?) }))
    }

    /// Removes all below.
    pub async fn purge(&self, stream: &str, below: Sequence) -> Result<(), ApiError> {
        let _: Value = self.call(&format!("STREAM.PURGE.{stream}"), json!({ "seq": below.0 })).await?;
        Ok(())
    }

    /// Another replica is to lead.
    pub async fn step_down(&self, stream: &str) -> Result<(), ApiError> {
        let _: Value = self.call(&format!("STREAM.LEADER.STEPDOWN.{stream}"), Value::Null).await?;
        Ok(())
    }
}

/// What an answer says, or why there is none.
fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ApiError> {
    let unreadable = |error: serde_json::Error| ApiError::Unreadable(error.to_string());
    let mut answer: Value = serde_json::from_slice(answer).map_err(unreadable)?;
    match answer.get_mut("error").map(Value::take) {
        None | Some(Value::Null) => serde_json::from_value(answer).map_err(unreadable),
        Some(error) => {
            let refusal: Refusal = serde_json::from_value(error).map_err(unreadable)?;
            Err(ApiError::Refused { code: refusal.err_code, why: refusal.description })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_set_up_otherwise_is_not_taken() {
        let settings = log_settings("c", "c.log", 3);
        let mut config = settings.document();
        config["allow_direct"] = json!(false);
        config["max_age"] = json!(0);
        config["persist_mode"] = json!("default");
        settings.check(&config).unwrap();
        let table = [
            ("subjects", json!(["c.>"])),
            ("storage", json!("memory")),
            ("num_replicas", json!(1)),
            ("max_bytes", json!(1_000)),
            ("deny_delete", json!(false)),
            ("duplicate_window", json!(120_000_000_000_u64)),
            ("allow_direct", json!(true)),
            ("max_age", json!(1)),
            ("sources", json!([{ "name": "other" }])),
            ("persist_mode", json!("async")),
            ("republish", json!({ "dest": "x" })),
        ];
        for (field, value) in table {
            let mut other = config.clone();
            other[field] = value;
            let error = settings.check(&other).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
        config.as_object_mut().unwrap().remove("deny_delete");
        settings.check(&config).unwrap_err();
    }

    #[test]
    fn answers_are_read_or_say_why_not() {
        let read = |text: &str| read::<Acknowledgement>(text.as_bytes());
        assert_eq!(read(r#"{"stream": "c", "seq": 7, "domain": "x"}"#).unwrap().seq, 7);
        let refusal = r#"{"stream": "c", "seq": 0, "error": {"code": 400, "err_code": 10071, "description": "wrong"}}"#;
        assert!(matches!(read(refusal), Err(ApiError::Refused { code: 10_071, .. })));
        for other in ["", "{}", "[]", r#"{"error": 3}"#, r#"{"stream": "c", "seq": -1}"#] {
            assert!(matches!(read(other), Err(ApiError::Unreadable(_))), "{other}");
        }
    }
}
