//! The server's configuration: defaults < TOML file < environment < flags.
//!
//! Every layer is a set of dotted keys (`http.listen`). A key is known if the defaults have it, and its default tells its
//! type, so a new setting is a field of a struct below and nothing else. It knows neither HTTP nor the engine's insides.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::address::{NoNetwork, Proxies};
pub use super::auth::settings::{Algorithm, Auth};
use super::kafka::settings::{self as kafka, Kafka};
use super::providers::settings::set_secret;
pub use super::providers::settings::{Kind as ProviderKind, Provider};
use super::traces::settings::PREFIX;
pub use super::traces::settings::{Exporting, Traces};
use crate::cluster::ClusterConfig;
pub use crate::cluster::Secret;
pub use crate::config::Error as ValueError;
use crate::config::{Actors, Clock, Config, Events, Journal, Limits, Storage, section};
use crate::domain::Currency;
use crate::relay;

/// What begins the name of an environment variable that is a setting.
const ENV_PREFIX: &str = "BOXOFFICE_";
/// What begins the keys of Kafka's properties, of which any may be given.
const PROPERTIES: &str = "kafka.properties.";
/// A table of which the names are anybody's: a value, and no keys of the configuration.
const ROLES: &str = "auth.roles";
/// Of this key the default depends on others.
const LEEWAY: &str = "auth.leeway_seconds";
/// What it is where somebody else's clock counts.
const LEEWAY_SECONDS: i64 = 30;
/// Of this list each item is a table.
pub(super) const PROVIDERS: &str = "payments.providers";
/// Names the TOML file; not itself a setting.
const ENV_CONFIG_FILE: &str = "BOXOFFICE_CONFIG";
/// The shortest secret for HS256, in bytes: as long as its digest.
pub const SECRET_BYTES_MIN: usize = 32;
/// The longest schedule of retries.
const RETRIES_MAX: usize = 100;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value is not what its key allows.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// There is no such key.
    #[error("{origin}: unknown key {key}; known are {known}")]
    UnknownKey {
        /// The file, or "environment".
        origin: String,
        /// As it was given.
        key: String,
        /// What there is.
        known: String,
    },
    /// The file cannot be read.
    #[error("configuration file {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("configuration file {}: {source}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
}

pub(super) fn value_error(key: &str, value: impl fmt::Display, allowed: impl Into<String>) -> ValueError {
    let is_secret =
        key.ends_with(".secret") || key == PROVIDERS || key.strip_prefix(PROPERTIES).is_some_and(kafka::is_secret);
    let value = if is_secret { "***".to_owned() } else { value.to_string() };
    ValueError { key: key.into(), value, allowed: allowed.into() }
}

/// A length of time, written as a whole number with a unit: `500ms`, `10s`, `5m`, `1h` or `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Not a length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a whole number and a unit (ms, s, m, h or d), such as \"10s\"")]
pub struct ParseSpanError;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Span {
    type Err = ParseSpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or(ParseSpanError)?;
        let (number, unit) = text.split_at(unit_at);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(ParseSpanError)?;
        let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor)).ok_or(ParseSpanError)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let largest = UNITS.iter().rev().find(|(_, factor)| millis.is_multiple_of(u128::from(*factor)) && millis > 0);
        let (unit, factor) = largest.copied().unwrap_or(("s", 1_000));
        write!(f, "{}{unit}", millis / u128::from(factor))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

pub(super) fn millis(span: Span) -> u64 {
    u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)
}

pub(super) const fn seconds(n: u64) -> Span {
    Span(Duration::from_secs(n))
}

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Faults.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And every request.
    Info,
    /// And what the parts do.
    Debug,
    /// And every step of it.
    Trace,
}

section! {
    /// The listeners. (The head of a request is bounded by actix: 128 KiB and 96 headers.)
    Http {
        /// Where the API listens; port 0 picks one.
        listen: String = "127.0.0.1:8080".into(),
        /// Where `/metrics` is served; `off`: nowhere.
        ops_listen: String = "127.0.0.1:9464".into(),
        /// How long the head of a request may take.
        request_timeout: Span = seconds(10),
        /// How long a body may take, and as much again for every MiB of it.
        body_timeout: Span = seconds(10),
        /// How long a caller may take nothing of an answer.
        write_timeout: Span = seconds(60),
        /// Bytes that the system keeps of an answer for one that does not read; it doubles them.
        send_buffer_bytes: u64 = 65_536,
        /// Bytes of large answers that are held for those who have not read them, beyond what all share.
        unread_bytes: u64 = 32 << 20,
        /// How long a caller may take nothing of one while that is more; then the connection is closed.
        unread_patience: Span = seconds(5),
        /// How long an idle connection is kept.
        keep_alive: Span = seconds(30),
        /// Connections at a time; more wait to be accepted. Fewer, if the process may not open so many files.
        max_connections: u64 = 25_000,
        /// Files that may be open beside all that server and engine are known to need.
        spare_descriptors: u64 = 64,
        /// Addresses and networks (`10.0.0.0/8`) of proxies whose `X-Forwarded-For` is believed.
        trusted_proxies: Vec<String> = Vec::new(),
        /// Seating plans that are kept ready to be sent.
        cached_plans: u64 = 16,
        /// Bytes of them, as they stand and as gzip; a plan that has more is made anew for each request.
        cached_plans_bytes: u64 = 64 << 20,
        /// Options of which the seats are kept ready to be sent.
        cached_seats: u64 = 128,
        /// Bytes of them.
        cached_seats_bytes: u64 = 64 << 20,
        /// Readers of events that are kept for their next page.
        kept_polls: u64 = 16,
        /// How long requests may take to end once the server is told to stop.
        shutdown_timeout: Span = seconds(6),
    }
}

section! {
    /// Browsers on other origins.
    Cors {
        /// Origins such as `https://tickets.example`, or `*`; none: off.
        allowed_origins: Vec<String> = Vec::new(),
    }
}

section! {
    /// Pages of ours in those of others.
    Embed {
        /// Who may have the pages of buyers in a frame: origins such as `https://shop.example`, all below a name
        /// (`https://*.shop.example`), `self`; none: nobody.
        frame_ancestors: Vec<String> = Vec::new(),
    }
}

section! {
    /// Wallets.
    Wallet {
        /// Whether users may charge their own.
        self_charge: bool = false,
        /// What points are of, by its code of ISO 4217.
        currency: Currency = Currency::KRW,
    }
}

section! {
    /// Payments by providers.
    Payments {
        /// How long a call to a provider may take; then nobody knows what came of it.
        call_timeout: Span = Span(Duration::from_secs(30)),
        /// How options can be paid beside by points: a table `[[payments.providers]]` each.
        providers: Vec<Provider> = Vec::new(),
    }
}

section! {
    /// Receivers of events over HTTP.
    Webhooks {
        /// Whether anything is delivered. With `false` they can be registered, looked at and removed all the same.
        enabled: bool = true,
        /// Whether they may be in this server's own network, or on this machine.
        allow_private_addresses: bool = false,
        /// How long one attempt may take.
        timeout: Span = seconds(15),
        /// How long to wait before each further attempt, at the most: the time is drawn between nothing and that. The
        /// default is what Standard Webhooks recommends.
        retry_schedule: Vec<Span> = relay::Settings::default().retry_schedule.into_iter().map(Span).collect(),
        /// Failures in a row after which a receiver is left alone for a while.
        breaker_failures: u64 = 10,
        /// For how long.
        breaker_pause: Span = seconds(30),
        /// The longest time that a receiver is left alone because it asks for it.
        retry_after_max: Span = Span(relay::Settings::default().retry_after_max),
        /// Requests at a time, to each receiver.
        concurrency: u64 = 16,
        /// Events of one batch.
        batch_events: u64 = 500,
        /// Bytes of one batch, unless a single event has more.
        batch_bytes: u64 = 1 << 20,
        /// Events in memory, for each receiver, from which on no more are read.
        window_events: u64 = 2_048,
        /// Events that wait for another attempt or an operator, of each receiver; past it no more are sent to it.
        max_parked_events: u64 = 10_000,
        /// Bytes of an answer that is not a success that are read and kept.
        response_bytes: u64 = 512,
        /// How long deliveries are signed with the old secret too, once there is a new one.
        secret_overlap: Span = seconds(86_400),
    }
}

impl Webhooks {
    /// What of it is the relay's.
    #[must_use]
    pub fn relay(&self) -> relay::Settings {
        let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        relay::Settings {
            window: whole(self.window_events),
            concurrency: whole(self.concurrency),
            max_parked: whole(self.max_parked_events),
            retry_schedule: self.retry_schedule.iter().map(|span| span.0).collect(),
            breaker: relay::breaker::Limits {
                failures: u32::try_from(self.breaker_failures).unwrap_or(u32::MAX),
                pause: self.breaker_pause.0,
            },
            retry_after_max: self.retry_after_max.0,
        }
    }
}

section! {
    /// Those who look on over WebSockets.
    Live {
        /// How much time there is between two updates of an option's seats: what changes in between is told together.
        window: Span = Span(Duration::from_millis(50)),
        /// How much time there is between two updates of a place in a line.
        position_interval: Span = seconds(1),
        /// After how long a token is told again although nothing has changed.
        token_interval: Span = seconds(5),
        /// How often the other end is asked whether it is there.
        ping_interval: Span = seconds(20),
        /// After how long one that says nothing is closed.
        silence_timeout: Span = seconds(60),
        /// Bytes of a frame that the other end may send.
        client_frame_bytes: u64 = 4_096,
        /// Bytes that the system keeps for one that does not read; it doubles them.
        send_buffer_bytes: u64 = 65_536,
        /// Bytes of snapshots and deltas that are held at a time, in all; what several are sent counts once.
        unread_bytes: u64 = 32 << 20,
        /// How long one may take nothing of one while that is more; then the connection is closed.
        unread_patience: Span = seconds(5),
        /// Threads that serve them, and nothing else.
        threads: u64 = 1,
        /// Connections in all.
        max_connections: u64 = 20_000,
        /// Connections to one option.
        max_connections_per_option: u64 = 20_000,
    }
}

section! {
    /// Logs, on standard error.
    Log {
        /// `text` or `json`.
        format: LogFormat = LogFormat::Text,
        /// `error`, `warn`, `info`, `debug` or `trace`.
        level: LogLevel = LogLevel::Info,
    }
}

impl Live {
    /// The defaults of the server, for an engine that is set up like this.
    fn new(engine: &crate::config::Live) -> Self {
        let span = |millis| Span(Duration::from_millis(millis));
        Self {
            window: span(engine.window_ms),
            position_interval: span(engine.position_ms),
            token_interval: span(engine.token_ms),
            ..Self::default()
        }
    }

    /// The engine's part.
    fn engine(&self) -> crate::config::Live {
        crate::config::Live {
            window_ms: millis(self.window),
            position_ms: millis(self.position_interval),
            token_ms: millis(self.token_interval),
        }
    }
}

section! {
    /// The engine's state in sled.
    Checkpoint {
        /// Whether it is written at all; without it every start replays the whole journal, and everything stays in
        /// memory.
        enabled: bool = true,
        /// How long a start may take to replay what is not in it: a checkpoint is taken once that would take longer.
        replay_target: Span = seconds(1),
        /// Events that may be durable and not yet checkpointed; past it callers are told `overloaded`.
        max_pending_events: u64 = 4_000_000,
        /// Bytes of the journal; likewise.
        max_pending_bytes: u64 = 512 << 20,
        /// sled's cache in bytes.
        cache_bytes: u64 = 128 << 20,
    }
}

impl Checkpoint {
    /// The defaults of the server, for an engine that is set up like this.
    fn new(engine: &crate::config::Checkpoint) -> Self {
        Self {
            enabled: engine.enabled,
            replay_target: Span(Duration::from_millis(engine.replay_target_ms)),
            max_pending_events: engine.max_pending_events,
            max_pending_bytes: engine.max_pending_bytes,
            cache_bytes: engine.cache_bytes,
        }
    }

    /// The engine's part.
    fn engine(&self) -> crate::config::Checkpoint {
        crate::config::Checkpoint {
            enabled: self.enabled,
            replay_target_ms: millis(self.replay_target),
            max_pending_events: self.max_pending_events,
            max_pending_bytes: self.max_pending_bytes,
            cache_bytes: self.cache_bytes,
        }
    }
}

section! {
    /// Calls that another node decides.
    Forwarding {
        /// Calls that are under way to it at once; past it callers are told `overloaded`.
        calls: u64 = 4_096,
        /// How long one may take; who has no answer by then is told that the outcome is not known.
        time: Span = seconds(10),
        /// Bytes of a call, without a seating plan.
        question_bytes: u64 = 512 << 10,
        /// Bytes of an answer; of lists that would be larger a part is given.
        answer_bytes: u64 = 512 << 10,
        /// How long an answer waits until this node has taken in what it rests on.
        behind: Span = seconds(2),
    }
}

impl Forwarding {
    /// The defaults of the server, for an engine that is set up like this.
    fn new(engine: &crate::config::Forwarding) -> Self {
        let span = |millis| Span(Duration::from_millis(millis));
        Self {
            calls: engine.calls,
            time: span(engine.time_ms),
            question_bytes: engine.question_bytes,
            answer_bytes: engine.answer_bytes,
            behind: span(engine.behind_ms),
        }
    }

    /// The engine's part.
    fn engine(&self) -> crate::config::Forwarding {
        crate::config::Forwarding {
            calls: self.calls,
            time_ms: millis(self.time),
            question_bytes: self.question_bytes,
            answer_bytes: self.answer_bytes,
            behind_ms: millis(self.behind),
        }
    }
}

section! {
    /// What the operator's page shows of the past: samples of each sale, in memory.
    History {
        /// Time between two samples.
        interval: Span = seconds(10),
        /// Samples that are kept of one option: an hour.
        samples: u64 = 360,
        /// Options that are followed, the newest ones; 0: none.
        options: u64 = 100,
    }
}

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The listeners.
    pub http: Http,
    /// Who may call.
    pub auth: Auth,
    /// Browsers on other origins.
    pub cors: Cors,
    /// Pages of ours in those of others.
    pub embed: Embed,
    /// Wallets.
    pub wallet: Wallet,
    /// Payments by providers.
    pub payments: Payments,
    /// Receivers of events over HTTP.
    pub webhooks: Webhooks,
    /// Events to Kafka.
    pub kafka: Kafka,
    /// Those who look on.
    pub live: Live,
    /// Logs.
    pub log: Log,
    /// What the operator's page shows of the past.
    pub history: History,
    /// OpenTelemetry traces.
    pub traces: Traces,
    /// Where these go, and which: read from the environment alone, by the names of OpenTelemetry.
    #[serde(skip)]
    pub exporting: Exporting,
    /// The engine's journal.
    pub journal: Journal,
    /// The engine's state in sled.
    pub checkpoint: Checkpoint,
    /// The engine's actors.
    pub actors: Actors,
    /// What callers may ask for.
    pub limits: Limits,
    /// Time.
    pub clock: Clock,
    /// The disk.
    pub storage: Storage,
    /// What leaves the engine.
    pub events: Events,
    /// The cluster that it is a node of, if any.
    pub cluster: ClusterConfig,
    /// Calls that another node decides.
    pub forwarding: Forwarding,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Settings {
    /// The defaults of the server, for an engine that is set up like this.
    #[must_use]
    pub fn new(engine: Config) -> Self {
        let Config {
            data_dir,
            journal,
            checkpoint,
            actors,
            limits,
            clock,
            storage,
            events,
            live,
            forwarding,
            payments,
        } = engine;
        Self {
            data_dir,
            http: Http::default(),
            auth: Auth::default(),
            cors: Cors::default(),
            embed: Embed::default(),
            wallet: Wallet { currency: payments.points_currency, ..Wallet::default() },
            payments: Payments {
                call_timeout: Span(Duration::from_millis(payments.call_timeout_ms)),
                ..Payments::default()
            },
            webhooks: Webhooks::default(),
            kafka: Kafka::default(),
            live: Live::new(&live),
            log: Log::default(),
            history: History::default(),
            traces: Traces::default(),
            exporting: Exporting::default(),
            journal,
            checkpoint: Checkpoint::new(&checkpoint),
            actors,
            limits,
            clock,
            storage,
            events,
            cluster: ClusterConfig::default(),
            forwarding: Forwarding::new(&forwarding),
        }
    }

    /// Puts the layers together: `file`, then those of the environment variables that begin with `BOXOFFICE_`, then
    /// `flags` as pairs of dotted key and value. Of those that begin with `OTEL_` none stops the start.
    ///
    /// # Errors
    /// The first key or value that is refused.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<Self, Error> {
        let mut layers = Layers::new()?;
        let (of_traces, others): (Vec<_>, Vec<_>) =
            environment.into_iter().partition(|(name, _)| name.starts_with(PREFIX));
        let environment: Vec<_> = others.into_iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        let named_file = environment.iter().find(|(name, _)| name == ENV_CONFIG_FILE);
        let named_file = named_file.map(|(_, path)| PathBuf::from(path));
        if let Some(path) = file.or(named_file.as_deref()) {
            layers.add_file(path)?;
        }
        layers.add_environment(&environment)?;
        for (key, value) in flags {
            layers.set_text(key, value)?;
        }
        layers.add_properties_file()?;
        // What the environment says of a property counts more than the file that it may name.
        layers.add_environment(environment.iter().filter(|(name, _)| property(name).is_some()))?;
        let settings = Self { exporting: Exporting::from_environment(of_traces), ..layers.finish()? };
        settings.validate()?;
        Ok(settings)
    }

    /// What is in force, as TOML, with secrets as `***`.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// The engine's part.
    #[must_use]
    pub fn engine(&self) -> Config {
        Config {
            data_dir: self.data_dir.clone(),
            journal: self.journal.clone(),
            checkpoint: self.checkpoint.engine(),
            actors: self.actors.clone(),
            limits: self.limits.clone(),
            clock: self.clock.clone(),
            storage: self.storage.clone(),
            events: self.events.clone(),
            live: self.live.engine(),
            forwarding: self.forwarding.engine(),
            payments: crate::config::Payments {
                points_currency: self.wallet.currency,
                call_timeout_ms: millis(self.payments.call_timeout),
                providers: self.payments.providers.iter().map(Provider::engine).collect(),
            },
        }
    }

    /// The proxies whose word on where a request comes from is taken.
    ///
    /// # Errors
    /// One of them is neither an address nor a network.
    pub(super) fn trusted_proxies(&self) -> Result<Proxies, ValueError> {
        const ALLOWED: &str = "a list of IP addresses and networks, such as 10.0.0.1 or 10.0.0.0/8";
        let refused = |NoNetwork(text)| value_error("http.trusted_proxies", text, ALLOWED);
        Proxies::new(&self.http.trusted_proxies).map_err(refused)
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// The first value that is out of its bounds.
    pub fn validate(&self) -> Result<(), ValueError> {
        self.check_numbers()?;
        self.check_spans()?;
        self.check_texts()?;
        self.check_cluster()?;
        for (index, one) in self.payments.providers.iter().enumerate() {
            one.validate(|name| format!("{PROVIDERS}[{index}].{name}"))?;
        }
        self.kafka.validate()?;
        // Last, since it has other names for the times of `live`.
        self.engine().validate()
    }

    fn check_numbers(&self) -> Result<(), ValueError> {
        let bounds = [
            ("http.max_connections", self.http.max_connections, 1, 1_000_000),
            ("http.spare_descriptors", self.http.spare_descriptors, 0, 1_000_000),
            ("http.send_buffer_bytes", self.http.send_buffer_bytes, 4_096, 16 << 20),
            ("http.unread_bytes", self.http.unread_bytes, 1 << 20, 1 << 40),
            ("http.cached_plans", self.http.cached_plans, 0, 100_000),
            ("http.cached_seats", self.http.cached_seats, 0, 100_000),
            ("http.cached_plans_bytes", self.http.cached_plans_bytes, 0, 1 << 40),
            ("http.cached_seats_bytes", self.http.cached_seats_bytes, 0, 1 << 40),
            ("http.kept_polls", self.http.kept_polls, 0, 10_000),
            ("auth.leeway_seconds", self.auth.leeway_seconds, 0, 300),
            ("live.client_frame_bytes", self.live.client_frame_bytes, 128, 1 << 20),
            ("live.send_buffer_bytes", self.live.send_buffer_bytes, 4_096, 16 << 20),
            ("live.unread_bytes", self.live.unread_bytes, 1 << 20, 1 << 40),
            ("live.threads", self.live.threads, 1, 256),
            ("live.max_connections", self.live.max_connections, 0, 1_000_000),
            ("live.max_connections_per_option", self.live.max_connections_per_option, 0, 1_000_000),
            ("auth.cached_tokens", self.auth.cached_tokens, 0, 10_000_000),
            ("webhooks.breaker_failures", self.webhooks.breaker_failures, 1, 1_000_000),
            ("webhooks.concurrency", self.webhooks.concurrency, 1, 1_024),
            ("webhooks.batch_events", self.webhooks.batch_events, 1, 10_000),
            ("webhooks.batch_bytes", self.webhooks.batch_bytes, 1 << 10, 64 << 20),
            ("webhooks.window_events", self.webhooks.window_events, 1, 1_000_000),
            ("webhooks.max_parked_events", self.webhooks.max_parked_events, 1, 1_000_000),
            ("webhooks.response_bytes", self.webhooks.response_bytes, 0, 2_048),
            ("history.samples", self.history.samples, 1, 10_000),
            ("history.options", self.history.options, 0, 10_000),
            ("traces.remembered", self.traces.remembered, 0, 10_000_000),
        ];
        for (key, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                return Err(value_error(key, value, format!("a whole number from {min} to {max}")));
            }
        }
        Ok(())
    }

    fn check_spans(&self) -> Result<(), ValueError> {
        let [milli, tenth] = [1, 100].map(|millis| Span(Duration::from_millis(millis)));
        let bounds = [
            // Actix counts these two from a clock that is up to half a second late.
            ("http.request_timeout", self.http.request_timeout, seconds(1), seconds(600)),
            ("http.keep_alive", self.http.keep_alive, seconds(1), seconds(3_600)),
            ("http.write_timeout", self.http.write_timeout, tenth, seconds(3_600)),
            ("http.unread_patience", self.http.unread_patience, milli, seconds(3_600)),
            ("http.body_timeout", self.http.body_timeout, tenth, seconds(600)),
            ("http.shutdown_timeout", self.http.shutdown_timeout, tenth, seconds(3_600)),
            ("auth.jwks_refresh", self.auth.jwks_refresh, seconds(1), seconds(86_400)),
            ("auth.jwks_cooldown", self.auth.jwks_cooldown, tenth, seconds(3_600)),
            ("auth.jwks_timeout", self.auth.jwks_timeout, tenth, seconds(60)),
            ("auth.jwks_keep", self.auth.jwks_keep, seconds(1), seconds(365 * 86_400)),
            ("webhooks.timeout", self.webhooks.timeout, tenth, seconds(600)),
            ("webhooks.breaker_pause", self.webhooks.breaker_pause, milli, seconds(86_400)),
            ("webhooks.retry_after_max", self.webhooks.retry_after_max, seconds(0), seconds(86_400)),
            ("webhooks.secret_overlap", self.webhooks.secret_overlap, seconds(0), seconds(30 * 86_400)),
            ("payments.call_timeout", self.payments.call_timeout, milli, seconds(600)),
            ("live.unread_patience", self.live.unread_patience, milli, seconds(3_600)),
            ("live.window", self.live.window, milli, seconds(60)),
            ("live.position_interval", self.live.position_interval, milli, seconds(60)),
            ("live.token_interval", self.live.token_interval, milli, seconds(60)),
            ("checkpoint.replay_target", self.checkpoint.replay_target, seconds(0), seconds(3_600)),
            ("history.interval", self.history.interval, tenth, seconds(3_600)),
            ("forwarding.time", self.forwarding.time, tenth, seconds(600)),
            ("forwarding.behind", self.forwarding.behind, milli, seconds(600)),
            ("live.ping_interval", self.live.ping_interval, tenth, seconds(3_600)),
            ("live.silence_timeout", self.live.silence_timeout, tenth, seconds(3_600)),
        ];
        let retries = self.webhooks.retry_schedule.iter();
        let retries = retries.map(|span| ("webhooks.retry_schedule", *span, seconds(0), seconds(30 * 86_400)));
        for (key, value, min, max) in bounds.into_iter().chain(retries) {
            if !(min..=max).contains(&value) {
                return Err(value_error(key, value, format!("from {min} to {max}")));
            }
        }
        let retries = self.webhooks.retry_schedule.len();
        if retries > RETRIES_MAX {
            let allowed = format!("a list of {RETRIES_MAX} times at the most");
            return Err(value_error("webhooks.retry_schedule", format!("{retries} times"), allowed));
        }
        Ok(())
    }

    fn check_cluster(&self) -> Result<(), ValueError> {
        if !self.cluster.is_configured() {
            return Ok(());
        }
        if !cfg!(feature = "cluster") {
            let allowed = "empty: this program was built without the feature \"cluster\"";
            return Err(value_error("cluster.servers", self.cluster.servers.join(", "), allowed));
        }
        self.cluster.validate()?;
        let Auth { algorithm, secret, secret_file, local_tokens, .. } = &self.auth;
        let has_own = *algorithm == Algorithm::Hs256 && (*local_tokens || !self.auth.has_keys());
        if has_own && secret.reveal().is_empty() && secret_file.as_os_str().is_empty() {
            let allowed = "set, or auth.secret_file: all nodes of a cluster take the same tokens";
            return Err(value_error("auth.secret", "", allowed));
        }
        Ok(())
    }

    fn check_texts(&self) -> Result<(), ValueError> {
        const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:8080";
        if self.http.listen.parse::<SocketAddr>().is_err() {
            return Err(value_error("http.listen", &self.http.listen, ADDRESS));
        }
        let ops = &self.http.ops_listen;
        if ops != "off" && ops.parse::<SocketAddr>().is_err() {
            return Err(value_error("http.ops_listen", ops, format!("{ADDRESS}, or off")));
        }
        self.trusted_proxies()?;
        self.auth.check()?;
        self.embed.check()?;
        for origin in &self.cors.allowed_origins {
            if origin != "*" && !is_origin(origin) {
                let allowed = "a list of origins such as https://tickets.example, with no path, or *";
                return Err(value_error("cors.allowed_origins", origin, allowed));
            }
        }
        Ok(())
    }
}

/// Whether `text` is as a browser sends it: scheme, host, and the port unless it is the usual one.
pub(super) fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    // A host may be a star to URLs.
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:[]".contains(&b);
    host.is_some_and(|host| host.bytes().all(known))
        && reqwest::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}

/// The settings while they are put together: every known key with its value.
struct Layers {
    values: BTreeMap<String, Value>,
    /// Whether its default counts no more.
    has_leeway: bool,
}

impl Layers {
    fn new() -> Result<Self, ValueError> {
        let defaults = Table::try_from(Settings::default())
            .map_err(|error| value_error("data_dir", "the default", error.to_string()))?;
        let mut values = BTreeMap::new();
        flatten("", &defaults, &mut values);
        Ok(Self { values, has_leeway: false })
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: path.into(), source })?;
        let table: Table =
            toml::from_str(&text).map_err(|source| Error::Syntax { path: path.into(), source: Box::new(source) })?;
        let mut given = BTreeMap::new();
        flatten("", &table, &mut given);
        for (key, value) in given {
            if !self.values.contains_key(&key) && !key.starts_with(PROPERTIES) {
                return Err(self.unknown(path.display().to_string(), key, str::to_owned));
            }
            self.set(&key, value)?;
        }
        Ok(())
    }

    fn add_environment<'a>(&mut self, variables: impl IntoIterator<Item = &'a (String, String)>) -> Result<(), Error> {
        for (name, text) in variables.into_iter().filter(|(name, _)| name != ENV_CONFIG_FILE) {
            let providers = self.values.get_mut(PROVIDERS).and_then(Value::as_array_mut);
            if providers.is_some_and(|providers| set_secret(providers, name, text)) {
                continue;
            }
            let known = self.values.keys().find(|key| variable(key) == *name).cloned();
            match known.or_else(|| property(name)) {
                Some(key) => self.set_text(&key, text)?,
                None if is_of_kubernetes(name) => {}
                None => return Err(self.unknown("environment".into(), name.clone(), variable)),
            }
        }
        Ok(())
    }

    /// The properties in the file that the other layers name.
    fn add_properties_file(&mut self) -> Result<(), Error> {
        let Some(Value::String(path)) = self.values.get("kafka.properties_file") else { return Ok(()) };
        let path = PathBuf::from(path);
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let Some((name, value)) = line.split_once('=') else {
                let place = format!("{}, line {number}", path.display());
                return Err(value_error("kafka.properties_file", place, "name=value, or a comment after #").into());
            };
            self.set_text(&format!("{PROPERTIES}{}", name.trim()), value.trim())?;
        }
        Ok(())
    }

    /// Sets a value that comes as text; its default tells its type.
    fn set_text(&mut self, key: &str, text: &str) -> Result<(), ValueError> {
        let value = match self.values.get(key) {
            Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
            Some(Value::Boolean(_)) => text.parse().ok().map(Value::Boolean),
            Some(Value::Array(_)) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Some(Value::Array(items.map(|item| Value::String(item.into())).collect()))
            }
            Some(Value::Table(_)) => {
                let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
                let pair = |pair: &str| {
                    let (name, value) = pair.split_once('=')?;
                    Some((name.trim().to_owned(), Value::String(value.trim().into())))
                };
                pairs.map(pair).collect::<Option<Table>>().map(Value::Table)
            }
            _ => Some(Value::String(text.into())),
        };
        let value = value.ok_or_else(|| value_error(key, text, self.kind(key)))?;
        self.set(key, value)
    }

    fn set(&mut self, key: &str, value: Value) -> Result<(), ValueError> {
        let value = match value {
            Value::String(text) if key == "kafka.bootstrap_servers" => return self.set_text(key, &text),
            Value::Integer(_) | Value::Boolean(_) if key.starts_with(PROPERTIES) => Value::String(value.to_string()),
            value => value,
        };
        let fits = match (&value, self.values.get(key)) {
            (Value::Array(items), Some(Value::Array(_))) if key == PROVIDERS => items.iter().all(Value::is_table),
            (Value::Array(items), Some(Value::Array(_))) => items.iter().all(Value::is_str),
            (Value::Table(items), Some(Value::Table(_))) => items.values().all(Value::is_str),
            (value, Some(default)) => value.same_type(default),
            (value, None) => key.starts_with(PROPERTIES) && value.is_str(),
        };
        if !fits {
            return Err(value_error(key, value, self.kind(key)));
        }
        self.has_leeway |= key == LEEWAY;
        self.values.insert(key.into(), value);
        Ok(())
    }

    /// What is allowed, as far as the type tells.
    fn kind(&self, key: &str) -> &'static str {
        match self.values.get(key) {
            Some(Value::Integer(_)) => "a whole number",
            Some(Value::Boolean(_)) => "true or false",
            Some(Value::Array(_)) if key == PROVIDERS => "a table [[payments.providers]] for each, in the file",
            Some(Value::Array(_)) => "a list of texts",
            Some(Value::Table(_)) => "a table of texts, as a variable name=value, ...",
            _ => "a text",
        }
    }

    fn unknown(&self, origin: String, key: String, name: impl Fn(&str) -> String) -> Error {
        let known: Vec<_> = self.values.keys().map(|key| name(key)).collect();
        Error::UnknownKey { origin, key, known: known.join(", ") }
    }

    fn finish(mut self) -> Result<Settings, ValueError> {
        let is_given = |key: &str| self.values.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if !self.has_leeway && ["auth.jwks_url", "auth.jwks_file", "auth.issuer"].into_iter().any(is_given) {
            self.values.insert(LEEWAY.into(), Value::Integer(LEEWAY_SECONDS));
        }
        let mut table = Table::new();
        for (key, value) in &self.values {
            match key.split_once('.') {
                None => {
                    table.insert(key.clone(), value.clone());
                }
                Some((section, name)) => {
                    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
                    let Value::Table(section) = section else { continue };
                    match key.strip_prefix(PROPERTIES) {
                        None => drop(section.insert(name.into(), value.clone())),
                        Some(name) => {
                            let properties = section.entry("properties").or_insert_with(|| Value::Table(Table::new()));
                            let properties = properties.as_table_mut();
                            properties.map(|properties| properties.insert(name.into(), value.clone()));
                        }
                    }
                }
            }
        }
        serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
            let key = error.path().to_string();
            let role = key.strip_prefix(ROLES).and_then(|name| self.values.get(ROLES)?.get(name.strip_prefix('.')?));
            let value = self.values.get(&key).or(role).map_or_else(String::new, Value::to_string);
            // Of an unknown choice, serde's message repeats the value before it lists what is allowed.
            let message = error.inner().to_string();
            let message = message.lines().next().unwrap_or_default();
            let allowed = message.split_once("expected ").map_or(message, |(_, allowed)| allowed);
            value_error(&key, value, if allowed == "u64" { "a whole number, not less than 0" } else { allowed })
        })
    }
}

/// Turns tables within tables into dotted keys. An empty table says nothing.
fn flatten(prefix: &str, table: &Table, into: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) if key != ROLES => flatten(&key, inner, into),
            value => {
                into.insert(key, value.clone());
            }
        }
    }
}

/// The key of the property that an environment variable sets, if it is one of those.
fn property(variable: &str) -> Option<String> {
    let name = variable.strip_prefix(ENV_PREFIX)?.strip_prefix("KAFKA_PROPERTIES_").filter(|name| *name != "FILE")?;
    Some(format!("{PROPERTIES}{}", name.to_lowercase().replace('_', ".")))
}

/// Whether a variable is named as those that Kubernetes puts into the environment of each pod for a service such as `boxoffice`
/// or `boxoffice-history`: `BOXOFFICE_SERVICE_HOST`, `BOXOFFICE_HISTORY_PORT_8080_TCP_ADDR`.
fn is_of_kubernetes(variable: &str) -> bool {
    let Some(name) = variable.strip_prefix(ENV_PREFIX) else { return false };
    let words: Vec<_> = name.split('_').collect();
    (0..words.len()).any(|at| match words[at..] {
        ["PORT"] | ["SERVICE", "HOST"] | ["SERVICE", "PORT", ..] => true,
        ["PORT", port, _, ..] => port.parse::<u16>().is_ok(),
        _ => false,
    })
}

/// The environment variable of a key.
pub(super) fn variable(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.replace('.', "_").to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::super::auth::Role;
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("boxoffice.toml");
        std::fs::write(&path, file).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Settings::load(Some(&path), environment, &flags)
    }

    #[test]
    fn a_later_layer_wins() {
        let file = "data_dir = \"/a\"\n[http]\nkept_polls = 3\nlisten = \"127.0.0.1:1\"\nkeep_alive = \"2m\"";
        let environment = [
            ("BOXOFFICE_HTTP_KEPT_POLLS", "4"),
            ("BOXOFFICE_JOURNAL_SEGMENT_BYTES", "1048576"),
            ("BOXOFFICE_CORS_ALLOWED_ORIGINS", "https://a.example, https://b.example:8443"),
            ("BOXOFFICE_WALLET_SELF_CHARGE", "true"),
            ("HOME", "/root"),
        ];
        let settings = load(file, &environment, &[("http.listen", "127.0.0.1:0")]).unwrap();
        assert_eq!(settings.data_dir, Path::new("/a"));
        assert_eq!((settings.http.kept_polls, settings.http.listen.as_str()), (4, "127.0.0.1:0"));
        assert_eq!(settings.http.keep_alive, seconds(120));
        assert_eq!(settings.engine().journal.segment_bytes, 1 << 20);
        assert_eq!(settings.cors.allowed_origins, ["https://a.example", "https://b.example:8443"]);
        assert!(settings.wallet.self_charge);
        assert_eq!(settings.http.body_timeout, Http::default().body_timeout);
    }

    #[test]
    fn webhooks_are_served_as_other_sinks_unless_it_is_said_otherwise() {
        assert_eq!(Webhooks::default().relay(), relay::Settings::default());
        let settings =
            load("[webhooks]\nretry_schedule = [\"10ms\", \"2s\"]\nconcurrency = 3", &[], &[]).unwrap().webhooks;
        assert_eq!(settings.relay().retry_schedule, [Duration::from_millis(10), Duration::from_secs(2)]);
        assert_eq!(settings.relay().concurrency, 3);
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_allowed() {
        for (file, name, value, message) in [
            ("", "BOXOFFICE_ACTORS_ARBITERS", "0", "actors.arbiters = 0: must be a whole number from 1 to 256"),
            ("", "BOXOFFICE_ACTORS_ARBITERS", "two", "actors.arbiters = two: must be a whole number"),
            ("", "BOXOFFICE_ACTORS_MAILBOX", "0", "actors.mailbox = 0: must be a whole number from 1 to 1048576"),
            ("", "BOXOFFICE_WALLET_SELF_CHARGE", "yes", "wallet.self_charge = yes: must be true or false"),
            ("", "BOXOFFICE_HTTP_KEEP_ALIVE", "0s", "http.keep_alive = 0s: must be from 1s to 1h"),
            ("", "BOXOFFICE_HTTP_KEEP_ALIVE", "5", "http.keep_alive = \"5\": must be a whole number and a unit"),
            ("", "BOXOFFICE_HTTP_LISTEN", "here", "http.listen = here: must be an IP address and a port"),
            ("", "BOXOFFICE_AUTH_ALGORITHM", "none", "auth.algorithm = \"none\": must be `HS256` or `EdDSA`"),
            ("", "BOXOFFICE_AUTH_ALGORITHM", "EdDSA", "auth.public_key_file = \"\": must be a PEM file"),
            ("", "BOXOFFICE_AUTH_SECRET", "hunter2", "auth.secret = ***: must be at least 32 bytes long"),
            ("", "BOXOFFICE_LIVE_WINDOW", "0s", "live.window = 0s: must be from 1ms to 1m"),
            ("", "BOXOFFICE_WEBHOOKS_TIMEOUT", "0s", "webhooks.timeout = 0s: must be from 100ms to 10m"),
            (
                "",
                "BOXOFFICE_WEBHOOKS_RETRY_SCHEDULE",
                "5s, 31d",
                "webhooks.retry_schedule = 31d: must be from 0s to 30d",
            ),
            ("", "BOXOFFICE_WEBHOOKS_RETRY_SCHEDULE", "5s, soon", "must be a whole number and a unit"),
            ("", "BOXOFFICE_WEBHOOKS_BATCH_EVENTS", "0", "webhooks.batch_events = 0: must be a whole number from 1"),
            ("", "BOXOFFICE_LOG_LEVEL", "loud", "log.level = \"loud\": must be one of `error`, `warn`, `info`"),
            ("", "BOXOFFICE_CORS_ALLOWED_ORIGINS", "a.example", "cors.allowed_origins = a.example: must be a list"),
            (
                "",
                "BOXOFFICE_HTTP_LISTENER",
                "x",
                "environment: unknown key BOXOFFICE_HTTP_LISTENER; known are BOXOFFICE_",
            ),
            ("[http]\nport = 1", "HOME", "", "unknown key http.port; known are actors.arbiters, "),
            ("[http]\nkept_polls = \"2\"", "HOME", "", "http.kept_polls = \"2\": must be a whole number"),
            ("[kafka]\nproperties = \"hunter2\"", "HOME", "", "unknown key kafka.properties; known are "),
            (
                "[kafka.properties]\nsasl.password = [1]",
                "HOME",
                "",
                "kafka.properties.sasl.password = ***: must be a text",
            ),
            ("[kafka]\ntopic = \"{sort}\"", "HOME", "", "kafka.topic = {sort}: must be up to 249 letters, digits"),
            ("[kafka]\nstart = \"soon\"", "HOME", "", "kafka.start = soon: must be `now`, `beginning` or the id"),
            (
                "[kafka]\nevent_types = [\"paid\"]",
                "HOME",
                "",
                "kafka.event_types = paid: must be among boxoffice.reser",
            ),
            ("[cors]\nallowed_origins = [1]", "HOME", "", "cors.allowed_origins = [1]: must be a list of texts"),
            ("", "BOXOFFICE_CORS_ALLOWED_ORIGINS", "https://a:b:c", "cors.allowed_origins = https://a:b:c: must be"),
            (
                "",
                "BOXOFFICE_CORS_ALLOWED_ORIGINS",
                "https://a.example/",
                "cors.allowed_origins = https://a.example/: must",
            ),
            ("", "BOXOFFICE_CORS_ALLOWED_ORIGINS", "https://a.example:443", "https://a.example:443: must be a list"),
            ("", "BOXOFFICE_CORS_ALLOWED_ORIGINS", "https://A.example", "https://A.example: must be a list"),
            ("", "BOXOFFICE_EMBED_FRAME_ANCESTORS", "https://*.a:99999", "embed.frame_ancestors = https://*.a:99999"),
            ("http = 1", "HOME", "", "unknown key http; known are"),
            ("[http", "HOME", "", "TOML parse error at line 1"),
        ] {
            let error = load(file, &[(name, value)], &[]).unwrap_err().to_string();
            assert!(error.contains(message), "{file} {name}={value}: {error}");
        }
        let missing = Settings::load(Some(Path::new("/nowhere/b.toml")), [], &[]).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/b.toml"), "{missing}");
    }

    #[test]
    fn a_login_is_whole_or_refused() {
        const WHOLE: &str = "[auth]\nissuer = \"https://id.example\"\naudiences = [\"us\"]\n";
        let whole = |more: &str| load(&format!("{WHOLE}{more}"), &[], &[]);
        assert_eq!(load("", &[], &[]).unwrap().auth.leeway_seconds, 0);
        let auth = whole("").unwrap().auth;
        assert_eq!((auth.leeway_seconds, auth.has_keys()), (30, true));
        assert_eq!(whole("leeway_seconds = 0").unwrap().auth.leeway_seconds, 0);
        let secret = "secret = \"0123456789abcdef0123456789abcdef\"\n";
        for more in [
            "jwks_url = \"http://127.0.0.1:1/keys\"",
            "jwks_url = \"http://[::1]/keys\"",
            "jwks_url = \"http://localhost/keys\"",
            "jwks_url = \"http://id.example/keys\"\nallow_http = true",
            "jwks_file = \"/keys.json\"",
            "login_url = \"https://shop.example/login?from=tickets\"",
            &format!("{secret}local_tokens = true"),
        ] {
            let settings = whole(more).unwrap();
            let printed = settings.to_toml().unwrap().replace("***", "0123456789abcdef0123456789abcdef");
            assert_eq!(load(&printed, &[], &[]).unwrap(), settings, "{more}");
        }
        let roles = [("BOXOFFICE_AUTH_ROLES", "shop-admins=admin, https://shop.example/x=viewer")];
        let roles = load(&format!("{WHOLE}[auth.roles]\nx = \"admin\""), &roles, &[]).unwrap().auth.roles;
        assert_eq!(roles["shop-admins"], Role::Admin);
        assert_eq!((roles["https://shop.example/x"], roles.len()), (Role::Viewer, 2));
        for (more, message) in [
            (
                "jwks_url = \"http://id.example/keys\"",
                "auth.jwks_url = http://id.example/keys: must be a URL that begins",
            ),
            ("jwks_url = \"http://localhost.example/keys\"", "auth.jwks_url"),
            ("jwks_url = \"file:///keys\"", "auth.jwks_url"),
            (
                "jwks_url = \"https://me:pass@id.example/keys\"",
                "auth.jwks_url = ***: must be a URL with no name and no password",
            ),
            ("jwks_url = \"https://a/\"\njwks_file = \"b\"", "auth.jwks_file = b: must be empty if auth.jwks_url"),
            (secret, "auth.secret = ***: must be empty beside a key set"),
            ("secret_file = \"a\"", "auth.secret_file = a: must be empty beside a key set"),
            ("local_tokens = true\npublic_key_file = \"a\"", "auth.public_key_file = a: must be empty beside"),
            ("algorithm = \"EdDSA\"", "auth.algorithm = EdDSA: must be HS256 beside a key set"),
            ("algorithms = []", "auth.algorithms = none: must be one at least"),
            ("algorithms = [\"HS256\"]", "must be one of `RS256`, `ES256`, `EdDSA`"),
            ("jwks_refresh = \"2d\"", "auth.jwks_refresh = 2d: must be from 1s to 1d"),
            ("jwks_cooldown = \"99ms\"", "auth.jwks_cooldown = 99ms: must be from 100ms to 1h"),
            ("login_url = \"http://shop.example/\"", "auth.login_url = http://shop.example/: must be a URL that"),
            ("login_url = \"https://shop.example/#x\"", "auth.login_url"),
            ("role_claim = \"\"", "auth.role_claim"),
            ("[auth.roles]\nx = \"root\"", "auth.roles.x = \"root\": must be one of `admin`"),
            ("[auth.roles]\nx = 1", "auth.roles = "),
        ] {
            let error = whole(more).unwrap_err().to_string();
            assert!(error.contains(message), "{more}: {error}");
        }
        for (file, message) in [
            ("[auth]\njwks_url = \"https://a/\"\naudiences = [\"us\"]", "auth.issuer = \"\": must be what iss is"),
            ("[auth]\nissuer = \"https://a\"", "auth.audiences = : must be what aud is"),
            ("[auth]\nlocal_tokens = true", "auth.local_tokens = true: must be false, or with auth.issuer"),
            ("[auth.roles]\nshop = \"admin\"", "auth.roles = shop: must be empty, or with auth.issuer"),
            ("[auth]\nissuer = \"id\"\naudiences = [\"us\"]", "auth.issuer = id: must be a URL"),
            ("[auth]\nissuer = \"https://a/?x\"\naudiences = [\"us\"]", "auth.issuer = https://a/?x"),
            ("[auth]\naudiences = [\"us\"]", "auth.audiences = us: must be empty, or with auth.issuer"),
        ] {
            let error = load(file, &[], &[]).unwrap_err().to_string();
            assert!(error.contains(message), "{file}: {error}");
        }
        let wrong = load("", &[("BOXOFFICE_AUTH_ROLES", "admin")], &[]).unwrap_err().to_string();
        assert!(wrong.contains("auth.roles = admin: must be a table of texts, as a variable name=value"), "{wrong}");
    }

    #[test]
    fn frames_are_for_origins() {
        for (origin, is_right) in [
            ("self", true),
            ("https://shop.example", true),
            ("http://localhost:3000", true),
            ("https://*.shop.example", true),
            ("*", false),
            ("https://*", false),
            ("https://*.", false),
            ("https://*.*.shop.example", false),
            ("https://shop.*.example", false),
            ("https://shop.example/", false),
            ("https://shop.example; script-src *", false),
            ("'self'", false),
            ("none", false),
            ("shop.example", false),
        ] {
            let settings = load(&format!("[embed]\nframe_ancestors = [\"{origin}\"]"), &[], &[]);
            let error = settings.err().map(|error| error.to_string());
            assert_eq!(error.is_none(), is_right, "{origin}: {error:?}");
            assert!(error.is_none_or(|error| error.contains("embed.frame_ancestors")), "{origin}");
        }
    }

    #[test]
    fn what_kubernetes_injects_is_passed_over() {
        // For the services `boxoffice` and `boxoffice-history` in its namespace, with ports that have names or none.
        for name in [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "SERVICE_PORT_HTTP_OPS",
            "PORT",
            "PORT_8080_TCP",
            "PORT_8080_TCP_PROTO",
            "PORT_8080_TCP_PORT",
            "PORT_8080_TCP_ADDR",
        ] {
            for service in ["", "HISTORY_", "HTTP_", "A_PORT_OF_CALL_"] {
                let name = format!("BOXOFFICE_{service}{name}");
                let settings = load("", &[(&name, "tcp://10.0.0.1:8080")], &[]);
                assert_eq!(settings.map_err(|error| error.to_string()), Ok(Settings::default()), "{name}");
            }
        }
        for name in
            ["SERVICE", "HOST", "REPORT", "SERVICE_HOSTS", "SERVICE_HOST_A", "PORT_HTTP", "PORT_8080", "PORT_8080X_TCP"]
        {
            let name = format!("BOXOFFICE_{name}");
            let error = load("", &[(&name, "x")], &[]).unwrap_err().to_string();
            assert!(error.contains(&format!("unknown key {name};")), "{error}");
        }
        // A name that is a setting is one.
        let properties = load("", &[("BOXOFFICE_KAFKA_PROPERTIES_A_PORT", "7")], &[]).unwrap().kafka.properties;
        assert_eq!(properties.0["a.port"], "7");
    }

    #[test]
    fn what_is_printed_reads_back_and_shows_no_secret() {
        let secret = "0123456789abcdef0123456789abcdef";
        let settings = load("", &[("BOXOFFICE_AUTH_SECRET", secret)], &[]).unwrap();
        assert_eq!(settings.auth.secret.reveal(), secret);
        let printed = settings.to_toml().unwrap();
        assert!(printed.contains("secret = \"***\"") && !printed.contains(secret), "{printed}");
        assert!(!format!("{settings:?}").contains(secret));
        let printed = Settings::default().to_toml().unwrap();
        assert_eq!(load(&printed, &[], &[]).unwrap(), Settings::default());
    }

    #[test]
    fn properties_of_kafka_come_from_table_file_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kafka.properties");
        std::fs::write(&path, "# ours\n\nsasl.password = from=file \nlinger.ms=3\n").unwrap();
        let file = format!(
            "[kafka]\nbootstrap_servers = \"\"\nproperties_file = {path:?}\n[kafka.properties]\n\"linger.ms\" = 1\nbatch.size = \
             2000\nsasl.username = \"anna\"\nsecurity.protocol = \"sasl_ssl\""
        );
        let environment = [("BOXOFFICE_KAFKA_PROPERTIES_SASL_USERNAME", "ben")];
        let settings = load(&file, &environment, &[]).unwrap();
        let given = |name: &str| settings.kafka.properties.0[name].as_str();
        assert_eq!(["linger.ms", "batch.size", "sasl.username"].map(given), ["3", "2000", "ben"]);
        assert_eq!(given("sasl.password"), "from=file");
        let printed = settings.to_toml().unwrap();
        assert!(printed.contains("\"sasl.password\" = \"***\"") && !printed.contains("from=file"), "{printed}");
        assert!(!format!("{settings:?}").contains("from=file"));
        let servers =
            load("[kafka]\nbootstrap_servers = \"a:1, b:2\"", &[], &[("kafka.bootstrap_servers", "")]).unwrap();
        assert_eq!(servers.kafka.bootstrap_servers, Vec::<String>::new());
        std::fs::write(&path, "hunter2").unwrap();
        let error = load(&file, &[], &[]).unwrap_err().to_string();
        assert!(
            error.contains("kafka.properties, line 1: must be name=value") && !error.contains("hunter2"),
            "{error}"
        );
        let error = load("[kafka.properties]\n\"sasl.password\" = [\"hunter2\"]", &[], &[]).unwrap_err().to_string();
        assert!(error.contains("kafka.properties.sasl.password = ***"), "{error}");
    }

    #[test]
    fn spans_read_and_print() {
        for (text, millis, printed) in [
            ("500ms", 500, "500ms"),
            ("90s", 90_000, "90s"),
            ("60s", 60_000, "1m"),
            ("2d", 172_800_000, "2d"),
            ("0s", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.0.as_millis(), span.to_string().as_str()), (millis, printed), "{text}");
        }
        for text in ["", "5", "s", "1.5s", "-1s", "5 s", "1w", "99999999999999999999d"] {
            assert_eq!(text.parse::<Span>(), Err(ParseSpanError), "{text:?}");
        }
    }
}
