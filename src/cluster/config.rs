//! How a node finds its cluster: the section `[cluster]` of a configuration.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use super::NodeName;
use crate::config::{Error, section};

/// The shortest secret, in bytes.
pub const SECRET_BYTES_MIN: usize = 32;

/// How long the name of a cluster may be.
const NAME_BYTES_MAX: usize = 32;

/// A text that is never shown; empty if there is none.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { "***" }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

section! {
    /// Several nodes on one replicated log, a stream of NATS JetStream.
    ClusterConfig {
        /// Addresses of the NATS servers, `nats://host:4222` or `tls://host:4222`; none: a single machine.
        servers: Vec<String> = Vec::new(),
        /// Monitoring ports of all of them, `http://host:8222`: each must say that it syncs always.
        monitor: Vec<String> = Vec::new(),
        /// Go on although it is not known whether a NATS server syncs always. One that says it does not is refused all
        /// the same.
        accept_unknown_sync: bool = false,
        /// Name of the cluster, the same on all nodes, 1 to 32 letters, digits, hyphens and underscores. The stream and
        /// all subjects begin with it.
        name: String = "boxoffice".to_owned(),
        /// Name of this node, 1 to 64 letters, digits, dots, hyphens and underscores.
        node: String = String::new(),
        /// The secret that all nodes share, 32 bytes or more.
        secret: Secret = Secret::default(),
        /// A file that holds the secret; empty: none.
        secret_file: PathBuf = PathBuf::new(),
        /// A file of credentials (`.creds`) for NATS; empty: none.
        credentials: PathBuf = PathBuf::new(),
        /// A PEM file of the certificates that NATS servers are checked by; empty: those that the system trusts.
        ca_file: PathBuf = PathBuf::new(),
        /// A PEM file of this node's certificate for NATS; empty: none.
        cert_file: PathBuf = PathBuf::new(),
        /// A PEM file of its key.
        key_file: PathBuf = PathBuf::new(),
        /// On how many NATS servers the stream stands, 1, 3 or 5. With 1 what one machine loses is lost.
        replicas: u64 = 3,
        /// Milliseconds after which an append without an answer is sent again, 100 to 60,000.
        ack_timeout_ms: u64 = 2_000,
        /// Milliseconds between two signs of life of the owner, 50 to 10,000.
        beat_ms: u64 = 500,
        /// Milliseconds without a sign of life or a frame of the owner after which another node wants to own, 500 to
        /// 60,000; at least twice `beat_ms`.
        suspect_after_ms: u64 = 2_000,
        /// Milliseconds in which whoever wants to own must have read up to his fence, 500 to 60,000.
        patience_ms: u64 = 5_000,
        /// Milliseconds that a start may wait for NATS servers, 1,000 to 600,000.
        connect_timeout_ms: u64 = 30_000,
        /// Bytes that the log may have, 16 MiB to 1 PiB; past it the owner takes no more holds, until it has forgotten
        /// what all nodes have on their disks.
        log_bytes_max: u64 = 10 << 30,
        /// Calls of other nodes that are answered at once, of each kind, 1 to 65,536; what comes beyond is told `busy`.
        calls: u64 = 1_024,
    }
}

/// A file, if there is one.
#[cfg(feature = "cluster")]
pub(super) fn file(path: &std::path::Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

impl ClusterConfig {
    /// Whether there is a cluster at all.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.servers.is_empty()
    }

    /// Name of this node, which [`validate`](Self::validate) has seen.
    #[must_use]
    pub fn node_name(&self) -> Option<NodeName> {
        NodeName::new(&self.node)
    }

    /// How long an append waits for its answer.
    #[must_use]
    pub fn ack_timeout(&self) -> Duration {
        Duration::from_millis(self.ack_timeout_ms)
    }

    /// Between two signs of life.
    #[must_use]
    pub fn beat(&self) -> Duration {
        Duration::from_millis(self.beat_ms)
    }

    /// Without a sign of life.
    #[must_use]
    pub fn suspect_after(&self) -> Duration {
        Duration::from_millis(self.suspect_after_ms)
    }

    /// In which a fence must have been read.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms)
    }

    /// That a start waits for NATS.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// Checks every value of a cluster.
    ///
    /// # Errors
    /// The first one that cannot be.
    pub fn validate(&self) -> Result<(), Error> {
        if self.servers.is_empty() {
            return Err(wrong("servers", "", "one address or more"));
        }
        for server in &self.servers {
            check_address("servers", server, &["nats://", "tls://"])?;
        }
        for monitor in &self.monitor {
            check_address("monitor", monitor, &["http://", "https://"])?;
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if !(1..=NAME_BYTES_MAX).contains(&self.name.len()) || !self.name.bytes().all(fits) {
            let allowed = format!("1 to {NAME_BYTES_MAX} letters, digits, hyphens and underscores");
            return Err(wrong("name", &self.name, allowed));
        }
        if self.node_name().is_none() {
            return Err(wrong("node", &self.node, "1 to 64 letters, digits, dots, hyphens and underscores"));
        }
        self.validate_secret()?;
        let has = |path: &PathBuf| !path.as_os_str().is_empty();
        if has(&self.cert_file) != has(&self.key_file) {
            return Err(wrong("key_file", self.key_file.display(), "set if cluster.cert_file is, and only then"));
        }
        if ![1, 3, 5].contains(&self.replicas) {
            return Err(wrong("replicas", self.replicas, "1, 3 or 5"));
        }
        for (key, value, min, max) in [
            ("ack_timeout_ms", self.ack_timeout_ms, 100, 60_000),
            ("beat_ms", self.beat_ms, 50, 10_000),
            ("suspect_after_ms", self.suspect_after_ms, 500, 60_000),
            ("patience_ms", self.patience_ms, 500, 60_000),
            ("connect_timeout_ms", self.connect_timeout_ms, 1_000, 600_000),
            ("calls", self.calls, 1, 65_536),
            ("log_bytes_max", self.log_bytes_max, 16 << 20, 1 << 50),
        ] {
            if !(min..=max).contains(&value) {
                return Err(wrong(key, value, format!("a whole number from {min} to {max}")));
            }
        }
        if self.suspect_after_ms < 2 * self.beat_ms {
            return Err(wrong("suspect_after_ms", self.suspect_after_ms, "at least twice cluster.beat_ms"));
        }
        Ok(())
    }

    fn validate_secret(&self) -> Result<(), Error> {
        let (length, has_file) = (self.secret.reveal().len(), !self.secret_file.as_os_str().is_empty());
        match (length, has_file) {
            (0, true) | (SECRET_BYTES_MIN.., false) => Ok(()),
            (0, false) => Err(wrong("secret", "", "set, or cluster.secret_file")),
            (_, true) => Err(wrong("secret_file", self.secret_file.display(), "empty if cluster.secret is set")),
            (_, false) => Err(wrong("secret", "***", format!("at least {SECRET_BYTES_MIN} bytes long"))),
        }
    }
}

fn wrong(key: &str, value: impl fmt::Display, allowed: impl Into<String>) -> Error {
    Error { key: format!("cluster.{key}"), value: value.to_string(), allowed: allowed.into() }
}

/// An address is shown in messages and logs, so that nobody may write a password there.
fn check_address(key: &str, address: &str, schemes: &[&str]) -> Result<(), Error> {
    if address.contains('@') {
        return Err(wrong(key, "***", "without a name or a password: those stand in cluster.credentials"));
    }
    let host = schemes.iter().find_map(|scheme| address.strip_prefix(scheme));
    let is_host = |host: &&str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    match host.filter(is_host) {
        Some(_) => Ok(()),
        None => Err(wrong(key, address, format!("an address that begins with {}", schemes.join(" or ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ClusterConfig {
        ClusterConfig {
            servers: vec!["nats://127.0.0.1:4222".into(), "tls://nats.example:4222".into()],
            monitor: vec!["http://127.0.0.1:8222".into()],
            node: "a.1".into(),
            secret: Secret::new("s".repeat(SECRET_BYTES_MIN)),
            ..ClusterConfig::default()
        }
    }

    #[test]
    fn a_cluster_is_checked_and_what_is_wrong_is_named() {
        assert_eq!(config().validate(), Ok(()));
        type Spoil = fn(&mut ClusterConfig);
        let table: &[(&str, Spoil)] = &[
            ("cluster.servers = : ", |c| c.servers.clear()),
            ("cluster.servers = 127.0.0.1:4222: ", |c| c.servers[1] = "127.0.0.1:4222".into()),
            ("cluster.servers = nats://: ", |c| c.servers[0] = "nats://".into()),
            ("cluster.servers = nats://a,nats://b: ", |c| c.servers[0] = "nats://a,nats://b".into()),
            ("cluster.servers = ***: ", |c| c.servers[0] = "nats://me:hunter2@host".into()),
            ("cluster.monitor = nats://a: ", |c| c.monitor.push("nats://a".into())),
            ("cluster.name = : ", |c| c.name.clear()),
            ("cluster.name = a.b: ", |c| c.name = "a.b".into()),
            ("cluster.name = *: ", |c| c.name = "*".into()),
            ("cluster.name = nnn", |c| c.name = "n".repeat(33)),
            ("cluster.node = : ", |c| c.node.clear()),
            ("cluster.node = a b: ", |c| c.node = "a b".into()),
            ("cluster.secret = : ", |c| c.secret = Secret::default()),
            ("cluster.secret = ***: ", |c| c.secret = Secret::new("hunter2")),
            ("cluster.secret_file = /s: ", |c| c.secret_file = "/s".into()),
            ("cluster.key_file = : ", |c| c.cert_file = "/c".into()),
            ("cluster.key_file = /k: ", |c| c.key_file = "/k".into()),
            ("cluster.replicas = 2: ", |c| c.replicas = 2),
            ("cluster.ack_timeout_ms = 99: ", |c| c.ack_timeout_ms = 99),
            ("cluster.beat_ms = 0: ", |c| c.beat_ms = 0),
            ("cluster.suspect_after_ms = 60001: ", |c| c.suspect_after_ms = 60_001),
            ("cluster.suspect_after_ms = 999: ", |c| c.suspect_after_ms = 999),
            ("cluster.patience_ms = 0: ", |c| c.patience_ms = 0),
            ("cluster.connect_timeout_ms = 0: ", |c| c.connect_timeout_ms = 0),
            ("cluster.calls = 0: ", |c| c.calls = 0),
            ("cluster.log_bytes_max = 1: ", |c| c.log_bytes_max = 1),
        ];
        for (expected, spoil) in table {
            let mut config = config();
            spoil(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.starts_with(expected) && !error.contains("hunter2"), "{error}, not {expected}");
        }
        let in_a_file = ClusterConfig { secret: Secret::default(), secret_file: "/s".into(), ..config() };
        assert_eq!(in_a_file.validate(), Ok(()));
    }

    #[test]
    fn a_secret_is_read_and_never_shown() {
        let json = r#"{"servers": ["nats://a"], "node": "a", "secret": "hunter2hunter2hunter2hunter2hunter2"}"#;
        let config: ClusterConfig = serde_json::from_str(json).unwrap();
        assert_eq!(config.secret.reveal(), "hunter2hunter2hunter2hunter2hunter2");
        let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
        assert!(serde_json::from_str::<ClusterConfig>(r#"{"server": []}"#).is_err());
    }
}
