//! The settings of the client by the names that every client of Kafka has for them.

use std::time::Duration;

use krafka::auth::{AuthConfig, TlsConfig};
use krafka::producer::ProducerBuilder;
use krafka::{Compression, KafkaBuilder};

use super::settings::{Kafka, is_secret, refused};
use crate::config::Error as ValueError;
use crate::server::config::Secret;

/// All that can be set.
const KNOWN: &[&str] = &[
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "compression.type",
    "linger.ms",
    "batch.size",
    "message.max.bytes",
    "request.timeout.ms",
];
/// What cannot be set: all replicas that are in sync acknowledge, what is sent again is written once, a key has one
/// partition, and the rest has settings or reasons of its own.
const FIXED: &[&str] = &[
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "partitioner",
    "bootstrap.servers",
    "metadata.broker.list",
    "client.id",
    "transactional.id",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
];
/// How many bytes are sent together, unless it is said.
const DEFAULT_BATCH_BYTES: usize = 64 << 10;
/// How long a message may take in all, in times that one request may.
const REQUESTS: u32 = 3;

/// How brokers are talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

/// What can be set, as it is.
#[derive(Debug, Clone)]
pub(super) struct Client {
    id: String,
    protocol: Protocol,
    mechanism: Mechanism,
    username: String,
    password: Secret,
    authorities: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    compression: Compression,
    linger: Duration,
    batch_bytes: usize,
    /// The most bytes of one message.
    pub message_bytes: usize,
    request_timeout: Duration,
}

impl Client {
    /// As `settings` have it.
    ///
    /// # Errors
    /// One that is not known, or not what it may be. No value of one that may be a secret is in what is said.
    pub fn new(settings: &Kafka) -> Result<Self, ValueError> {
        let mut read = Self {
            id: settings.client_id.clone(),
            protocol: Protocol::Plaintext,
            mechanism: Mechanism::Plain,
            username: String::new(),
            password: Secret::default(),
            authorities: None,
            certificate: None,
            key: None,
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes: DEFAULT_BATCH_BYTES,
            message_bytes: 1_000_000,
            request_timeout: Duration::from_secs(10),
        };
        for (name, value) in &settings.properties.0 {
            read.set(name, value)?;
        }
        read.check()?;
        Ok(read)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ValueError> {
        let key = format!("properties.{name}");
        let shown = if is_secret(name) { "***" } else { value };
        let one_of = |names: &[&str]| refused(&key, shown, format!("one of {}", names.join(", ")));
        let whole = |min: u64, max: u64| {
            let number = value.parse().ok().filter(|number| (min..=max).contains(number));
            number.ok_or_else(|| refused(&key, shown, format!("a whole number from {min} to {max}")))
        };
        let bytes = |max: u64| whole(1_000, max).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        match name {
            "security.protocol" => {
                self.protocol = match value.to_ascii_lowercase().as_str() {
                    "plaintext" => Protocol::Plaintext,
                    "ssl" => Protocol::Ssl,
                    "sasl_plaintext" => Protocol::SaslPlaintext,
                    "sasl_ssl" => Protocol::SaslSsl,
                    _ => return Err(one_of(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"])),
                }
            }
            "sasl.mechanism" | "sasl.mechanisms" => {
                self.mechanism = match value {
                    "PLAIN" => Mechanism::Plain,
                    "SCRAM-SHA-256" => Mechanism::ScramSha256,
                    "SCRAM-SHA-512" => Mechanism::ScramSha512,
                    _ => return Err(one_of(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])),
                }
            }
            "sasl.username" => self.username = value.into(),
            "sasl.password" => self.password = Secret::new(value),
            "ssl.ca.location" => self.authorities = Some(value.into()),
            "ssl.certificate.location" => self.certificate = Some(value.into()),
            "ssl.key.location" => self.key = Some(value.into()),
            "compression.type" | "compression.codec" => {
                self.compression = match value {
                    "none" => Compression::None,
                    "gzip" => Compression::Gzip,
                    "snappy" => Compression::Snappy,
                    "lz4" => Compression::Lz4,
                    _ => return Err(one_of(&["none", "gzip", "snappy", "lz4"])),
                }
            }
            "linger.ms" | "queue.buffering.max.ms" => self.linger = Duration::from_millis(whole(0, 10_000)?),
            "batch.size" => self.batch_bytes = bytes(16 << 20)?,
            "message.max.bytes" => self.message_bytes = bytes(64 << 20)?,
            "request.timeout.ms" => self.request_timeout = Duration::from_millis(whole(100, 600_000)?),
            _ if FIXED.contains(&name) => {
                return Err(refused(&key, shown, "left out: it is not for the configuration to say"));
            }
            // Nobody knows what its value tells.
            _ => return Err(refused(&key, "***", format!("one of {}", KNOWN.join(", ")))),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ValueError> {
        let has_sasl = matches!(self.protocol, Protocol::SaslPlaintext | Protocol::SaslSsl);
        if has_sasl && (self.username.is_empty() || self.password.reveal().is_empty()) {
            let allowed = "there with a security.protocol of SASL, and so must be sasl.password";
            return Err(refused("properties.sasl.username", &self.username, allowed));
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(refused(
                "properties.ssl.key.location",
                "***",
                "there if, and only if, ssl.certificate.location is",
            ));
        }
        if self.batch_bytes > self.message_bytes && self.batch_bytes != DEFAULT_BATCH_BYTES {
            return Err(refused("properties.batch.size", self.batch_bytes, "no more than message.max.bytes"));
        }
        Ok(())
    }

    fn delivery_timeout(&self) -> Duration {
        self.request_timeout * REQUESTS + self.linger
    }

    /// The connection.
    pub fn connection(&self, bootstrap: &[String]) -> KafkaBuilder {
        let tls = || {
            let tls = match &self.authorities {
                Some(path) => TlsConfig::new().with_ca_cert(path),
                None => TlsConfig::new().with_native_roots(),
            };
            match (&self.certificate, &self.key) {
                (Some(certificate), Some(key)) => tls.with_client_cert(certificate, key),
                _ => tls,
            }
        };
        let sasl = || {
            let (user, password) = (&self.username, self.password.reveal());
            match self.mechanism {
                Mechanism::Plain => AuthConfig::sasl_plain(user, password),
                Mechanism::ScramSha256 => AuthConfig::sasl_scram_sha256(user, password),
                Mechanism::ScramSha512 => AuthConfig::sasl_scram_sha512(user, password),
            }
        };
        let security = match self.protocol {
            Protocol::Plaintext => AuthConfig::plaintext(),
            Protocol::Ssl => AuthConfig::ssl(tls()),
            Protocol::SaslPlaintext => sasl(),
            Protocol::SaslSsl => sasl().with_tls(tls()),
        };
        krafka::Kafka::builder(bootstrap.join(","))
            .client_id(&self.id)
            .security(security)
            .request_timeout(self.request_timeout)
            .connect_timeout(self.request_timeout.min(Duration::from_secs(5)))
            .max_connections(Some(super::CONNECTIONS))
    }

    /// The producer: every replica that is in sync acknowledges, and a message that is sent again is written once.
    pub fn producer(&self, producer: ProducerBuilder) -> ProducerBuilder {
        producer
            .acks(krafka::producer::Acks::All)
            .idempotent(true)
            .compression(self.compression)
            .linger(self.linger)
            .batch_size(self.batch_bytes.min(self.message_bytes))
            .max_request_size(self.message_bytes)
            .max_block(self.delivery_timeout())
            .delivery_timeout(self.delivery_timeout())
            .metrics_push(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::kafka::settings::Properties;

    fn settings(properties: &[(&str, &str)]) -> Kafka {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Kafka { properties: Properties(properties), ..Kafka::default() }
    }

    #[test]
    fn what_is_refused_is_named_and_no_secret_is_told() {
        for (properties, message) in [
            (&[("acks", "1")][..], "kafka.properties.acks = 1: must be left out"),
            (&[("enable.idempotence", "true")], "kafka.properties.enable.idempotence = true: must be left out"),
            (&[("max.in.flight", "9")], "must be left out"),
            (&[("message.timeout.ms", "9")], "must be left out"),
            (
                &[("sasl.passwort", "hunter2")],
                "kafka.properties.sasl.passwort = ***: must be one of security.protocol, ",
            ),
            (
                &[("security.protocol", "tls")],
                "kafka.properties.security.protocol = tls: must be one of plaintext, ssl",
            ),
            (&[("security.protocol", "SASL_SSL"), ("sasl.password", "hunter2")], "and so must be sasl.password"),
            (&[("compression.type", "zstd")], "must be one of none, gzip, snappy, lz4"),
            (&[("linger.ms", "soon")], "linger.ms = soon: must be a whole number from 0 to 10000"),
            (&[("ssl.key.location", "hunter2")], "must be there if, and only if, ssl.certificate.location is"),
            (&[("batch.size", "9000"), ("message.max.bytes", "8000")], "must be no more than message.max.bytes"),
        ] {
            let error = Client::new(&settings(properties)).unwrap_err().to_string();
            assert!(error.contains(message) && !error.contains("hunter2"), "{properties:?}: {error}");
        }
        let given = [("security.protocol", "sasl_ssl"), ("sasl.username", "a"), ("sasl.password", "hunter2")];
        let client = Client::new(&settings(&given)).unwrap();
        assert_eq!(client.password.reveal(), "hunter2");
        let shown = format!("{client:?} {:?} {:?}", client.connection(&["a:1".into()]), settings(&given));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
