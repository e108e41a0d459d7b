//! What of the configuration is Kafka's. It is there also in a program that was built without the client, so that such a
//! program says what it lacks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use crate::config::{Error as ValueError, section};
use crate::domain::{EventFilter, EventType};
use crate::relay;
use crate::server::config::Span;

/// What stands for the kind of an event in the pattern of topics.
const KIND: &str = "{kind}";
/// What events there are: of reservations, payments, tokens and wallets.
const KINDS: [&str; 4] = ["reservation", "payment", "token", "wallet"];
/// The longest name of a topic.
const TOPIC_BYTES_MAX: usize = 249;
/// What is in the names of properties of which the values are not shown.
const SECRETS: [&str; 5] = ["password", "secret", "token", "key", "jaas"];

/// Whether the value of a property is not to be shown.
pub(in crate::server) fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|secret| name.to_ascii_lowercase().contains(secret))
}

/// Settings of the client by their names. Those that may be secret are never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Properties(pub BTreeMap<String, String>);

impl Properties {
    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), if is_secret(name) { "***" } else { value }))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown())
    }
}

/// What a record looks like, by the Kafka binding of CloudEvents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The data as value, the rest as headers `ce_*`.
    Binary,
    /// The whole event as value.
    Structured,
}

section! {
    /// Events to Kafka.
    Kafka {
        /// Brokers to begin with, as `host:port`; none: no Kafka.
        bootstrap_servers: Vec<String> = Vec::new(),
        /// Whether anything is delivered.
        enabled: bool = true,
        /// The topic; `{kind}` in it is `reservation`, `payment`, `token` or `wallet`.
        topic: String = "boxoffice.{kind}".into(),
        /// `binary` or `structured`.
        format: Format = Format::Binary,
        /// Which types of events; none: all.
        event_types: Vec<String> = Vec::new(),
        /// Where it begins the first time: `beginning`, `now`, or after the event of this id.
        start: String = "beginning".into(),
        /// As what this server is known to the brokers.
        client_id: String = "boxoffice".into(),
        /// A file of properties, as lines `name=value`, which beats the table.
        properties_file: PathBuf = PathBuf::new(),
        /// Whether topics are made that are not there, as the broker's defaults have it.
        create_topics: bool = false,
        /// For how long the brokers are left alone when they take nothing.
        breaker_pause: Span = Span(std::time::Duration::from_secs(5)),
        /// Deliveries at a time.
        concurrency: u64 = 4,
        /// Events of one delivery.
        batch_events: u64 = 2_000,
        /// Events in memory from which on no more are read.
        window_events: u64 = 16_384,
        /// Events that may wait for an operator; past it no more are sent.
        max_parked_events: u64 = 10_000,
        /// Settings of the client, by the names of librdkafka.
        properties: Properties = Properties::default(),
    }
}

impl Kafka {
    /// Whether there are brokers to deliver to.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.bootstrap_servers.is_empty()
    }

    /// How its sink is served. What a broker refuses it refuses for good, so that nothing goes by the schedule but what could
    /// not be read here.
    #[must_use]
    pub fn relay(&self) -> relay::Settings {
        let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let default = relay::Settings::default();
        relay::Settings {
            window: whole(self.window_events),
            concurrency: whole(self.concurrency),
            max_parked: whole(self.max_parked_events),
            breaker: relay::breaker::Limits { pause: self.breaker_pause.0, ..default.breaker },
            ..default
        }
    }

    /// The types of events that are delivered.
    ///
    /// # Errors
    /// One of them is none.
    pub fn filter(&self) -> Result<EventFilter, ValueError> {
        if self.event_types.is_empty() {
            return Ok(EventFilter::ALL);
        }
        let types = self.event_types.iter().map(|name| {
            let allowed = || EventType::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
            name.parse::<EventType>().map_err(|_| refused("event_types", name, format!("among {}", allowed())))
        });
        types.collect()
    }

    /// The topic of a type of events.
    #[must_use]
    pub fn topic_of(&self, kind: EventType) -> String {
        let kind = kind.as_str().split('.').nth(1).unwrap_or_default();
        self.topic.replace(KIND, kind)
    }

    /// Checks all of it.
    ///
    /// # Errors
    /// The first value that is refused.
    pub(in crate::server) fn validate(&self) -> Result<(), ValueError> {
        for (key, value, min, max) in [
            ("concurrency", self.concurrency, 1, 1_024),
            ("batch_events", self.batch_events, 1, 10_000),
            ("window_events", self.window_events, 1, 1_000_000),
            ("max_parked_events", self.max_parked_events, 1, 1_000_000),
        ] {
            if !(min..=max).contains(&value) {
                return Err(refused(key, value, format!("a whole number from {min} to {max}")));
            }
        }
        let (pause, [min, max]) = (self.breaker_pause, [1, 86_400_000].map(std::time::Duration::from_millis).map(Span));
        if !(min..=max).contains(&pause) {
            return Err(refused("breaker_pause", pause, format!("from {min} to {max}")));
        }
        self.filter()?;
        crate::server::webhooks::routes::start(Some(&self.start))
            .map_err(|why| refused("start", &self.start, why.trim_start_matches("must be ")))?;
        for kind in KINDS {
            let topic = self.topic.replace(KIND, kind);
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || !topic.bytes().all(known) {
                let allowed =
                    format!("up to {TOPIC_BYTES_MAX} letters, digits, dots, _ and -, with {KIND} for the kind");
                return Err(refused("topic", &self.topic, allowed));
            }
        }
        self.validate_client()
    }

    #[cfg(feature = "kafka")]
    fn validate_client(&self) -> Result<(), ValueError> {
        for server in &self.bootstrap_servers {
            let port =
                server.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(refused("bootstrap_servers", server, "a list of names or addresses with ports: host:port"));
            }
        }
        super::properties::Client::new(self).map(drop)
    }

    #[cfg(not(feature = "kafka"))]
    fn validate_client(&self) -> Result<(), ValueError> {
        // Whoever serves says what is missing; to look at a configuration, or to make a token, nothing is.
        Ok(())
    }

    /// Whether this program can deliver as it is said here.
    ///
    /// # Errors
    /// It was built without the client.
    pub fn check(&self) -> Result<(), ValueError> {
        if cfg!(feature = "kafka") || !self.is_on() || !self.enabled {
            return Ok(());
        }
        let servers = self.bootstrap_servers.join(", ");
        Err(refused("bootstrap_servers", servers, "empty in a program that was built without the feature kafka"))
    }
}

/// That a value of this section is not what it may be.
pub(super) fn refused(key: &str, value: impl std::fmt::Display, allowed: impl Into<String>) -> ValueError {
    ValueError { key: format!("kafka.{key}"), value: value.to_string(), allowed: allowed.into() }
}
