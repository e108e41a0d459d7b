//! What is to be sent and what was, and how far events were read, in one SQLite database. One process has it at a time.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use boxoffice_listener::{Event, Place};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::words::{self, Language};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS messages (
        lsn INTEGER, place INTEGER, channel TEXT, event_id TEXT NOT NULL, user_id TEXT NOT NULL, address TEXT NOT NULL,
        title TEXT NOT NULL, text TEXT NOT NULL, status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
        next_at INTEGER NOT NULL DEFAULT 0, late_at INTEGER, sent_at INTEGER, last_error TEXT,
        PRIMARY KEY (lsn, place, channel)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS waiting ON messages (user_id, channel, lsn, place) WHERE status = 'pending';
    CREATE INDEX IF NOT EXISTS waiting_in_turn ON messages (channel, lsn, place) WHERE status = 'pending';
    CREATE INDEX IF NOT EXISTS of_status ON messages (status);
    CREATE INDEX IF NOT EXISTS of_user ON messages (user_id, lsn, place);
    CREATE TABLE IF NOT EXISTS positions (
        topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS unreadable (
        topic TEXT, partition INTEGER, at INTEGER, why TEXT NOT NULL, PRIMARY KEY (topic, partition, at)) WITHOUT ROWID;
";
/// The next wait after an attempt that failed doubles, from a second up to that.
const WAIT_SECONDS_MAX: i64 = 300;
/// How long a chat is left alone at the most because it asks for it.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// What may be sent in this way now: the oldest, but none before one that its reader is to get first.
const NEXT: &str =
    "SELECT lsn, place, channel, event_id, address, title, text, attempts, late_at < unixepoch() FROM messages AS this
    WHERE status = 'pending' AND channel = ? AND next_at <= unixepoch() AND NOT EXISTS (SELECT 1 FROM messages AS before
        WHERE before.status = 'pending' AND before.user_id = this.user_id AND before.channel = this.channel
        AND (before.lsn, before.place) < (this.lsn, this.place))
    ORDER BY lsn, place LIMIT 1";

/// How somebody is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    chat_id: Option<String>,
    email: Option<String>,
    #[serde(default)]
    language: Language,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Telegram,
    Email,
}

impl Channel {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Telegram => "telegram",
            Self::Email => "email",
        }
    }
}

/// Something to be sent.
#[derive(Debug, Clone)]
pub struct Message {
    lsn: i64,
    place: i64,
    pub channel: Channel,
    pub event_id: String,
    pub address: String,
    pub title: String,
    pub text: String,
    attempts: u32,
    /// Whether nobody wants to hear of it any more.
    is_late: bool,
}

#[cfg(test)]
impl Message {
    /// One to somebody.
    pub fn to(channel: Channel, address: &str) -> Self {
        let [event_id, title, text] = ["0-1-0", "Well", "All is well."].map(str::to_owned);
        Self { lsn: 1, place: 0, channel, event_id, address: address.into(), title, text, attempts: 0, is_late: false }
    }
}

/// What became of a message.
#[derive(Debug, Serialize)]
pub struct Told {
    pub event_id: String,
    pub channel: String,
    pub user_id: String,
    pub status: String,
    pub sent_at: Option<String>,
    pub last_error: Option<String>,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Sent,
    /// It may be another time, not before so long.
    Later(String, Duration),
    Never(String),
    /// It is too old by now.
    Late,
}

pub struct Store {
    connection: Connection,
    recipients: HashMap<String, Recipient>,
    channels: Vec<Channel>,
    max_age: Duration,
}

impl Store {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// Another process has it, or it cannot be read.
    pub fn open(
        path: &Path,
        recipients: HashMap<String, Recipient>,
        channels: Vec<Channel>,
        max_age: Duration,
    ) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        // Locked by the first write, until the end.
        connection
            .execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        connection.execute_batch(&format!("BEGIN EXCLUSIVE; {TABLES} COMMIT;"))?;
        Ok(Self { connection, recipients, channels, max_age })
    }

    /// The oldest message that may be sent in this way now, but none before one that its reader is to get first. What has become
    /// too old while it waited is passed over.
    pub fn next(&self, channel: Channel) -> rusqlite::Result<Option<Message>> {
        let read = |row: &Row<'_>| {
            Ok(Message {
                lsn: row.get(0)?,
                place: row.get(1)?,
                channel,
                event_id: row.get(3)?,
                address: row.get(4)?,
                title: row.get(5)?,
                text: row.get(6)?,
                attempts: row.get(7)?,
                is_late: row.get::<_, Option<bool>>(8)?.unwrap_or_default(),
            })
        };
        loop {
            let next = self.connection.query_row(NEXT, [channel.as_str()], read).optional()?;
            match next {
                Some(late) if late.is_late => self.settle(&late, &Outcome::Late)?,
                next => return Ok(next),
            }
        }
    }

    /// Writes down what became of a message.
    pub fn settle(&self, message: &Message, outcome: &Outcome) -> rusqlite::Result<()> {
        let (status, wait, error) = match outcome {
            Outcome::Sent => ("sent", 0, None),
            Outcome::Never(why) => ("failed", 0, Some(why)),
            Outcome::Later(why, least) => ("pending", wait_seconds(message.attempts, *least), Some(why)),
            Outcome::Late => ("skipped", 0, None),
        };
        let settled =
            "UPDATE messages SET status = ?1, attempts = attempts + 1, next_at = unixepoch() + ?2, last_error = coalesce(?3, last_error),
            sent_at = CASE WHEN ?1 = 'sent' THEN unixepoch() END WHERE lsn = ?4 AND place = ?5 AND channel = ?6";
        let values = params![status, wait, error, message.lsn, message.place, message.channel.as_str()];
        self.connection.execute(settled, values).map(drop)
    }

    /// Whether it can be read.
    pub fn check(&self) -> rusqlite::Result<()> {
        self.connection.query_row("SELECT max(lsn) FROM messages", [], |_| Ok(()))
    }

    /// Messages of a user, or of all, newest first.
    pub fn messages(
        &self,
        user: Option<&str>,
        status: Option<&str>,
        before: &(i64, i64, String),
        limit: usize,
    ) -> rusqlite::Result<Vec<Told>> {
        let wanted = "SELECT event_id, channel, user_id, status, strftime('%Y-%m-%dT%H:%M:%SZ', sent_at, 'unixepoch'), last_error
            FROM messages WHERE (?1 IS NULL OR user_id = ?1) AND (?2 IS NULL OR status = ?2) AND (lsn, place, channel) < (?3, ?4, ?5)
            ORDER BY lsn DESC, place DESC, channel DESC LIMIT ?6";
        let read = |row: &Row<'_>| {
            Ok(Told {
                event_id: row.get(0)?,
                channel: row.get(1)?,
                user_id: row.get(2)?,
                status: row.get(3)?,
                sent_at: row.get(4)?,
                last_error: row.get(5)?,
            })
        };
        let mut statement = self.connection.prepare(wanted)?;
        statement.query_map(params![user, status, before.0, before.1, before.2, limit as i64], read)?.collect()
    }

    /// How many messages there are of each status.
    pub fn counts(&self) -> rusqlite::Result<Vec<(String, i64)>> {
        let mut statement = self.connection.prepare("SELECT status, count(*) FROM messages GROUP BY status")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }
}

/// How long to wait after so many attempts and one more.
fn wait_seconds(attempts: u32, least: Duration) -> i64 {
    let doubled = 2_i64.saturating_pow(attempts).min(WAIT_SECONDS_MAX);
    let least = least.min(RETRY_AFTER_MAX).as_secs();
    doubled.max(i64::try_from(least).unwrap_or(WAIT_SECONDS_MAX))
}

impl boxoffice_listener::Store for Store {
    fn position(&mut self, topic: &str, partition: i32) -> anyhow::Result<Option<i64>> {
        let next = "SELECT next FROM positions WHERE topic = ? AND partition = ?";
        Ok(self.connection.query_row(next, params![topic, partition], |row| row.get(0)).optional()?)
    }

    fn write(&mut self, records: Vec<(Place, Result<Event, String>)>) -> anyhow::Result<()> {
        let transaction = self.connection.transaction()?;
        for (place, event) in records {
            let written =
                event.and_then(|event| write(&transaction, &event, &self.recipients, &self.channels, self.max_age));
            if let Err(why) = written {
                tracing::warn!(?place, why, "a record cannot be read");
                let known = "INSERT OR REPLACE INTO unreadable VALUES (?, ?, ?, ?)";
                transaction.execute(known, params![place.topic, place.partition, place.offset, why])?;
            }
            let next = "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)";
            transaction.execute(next, params![place.topic, place.partition, place.offset + 1])?;
        }
        Ok(transaction.commit()?)
    }
}

/// Writes down what is to be said of an event; what is there already stays as it is.
fn write(
    transaction: &Transaction<'_>,
    event: &Event,
    recipients: &HashMap<String, Recipient>,
    channels: &[Channel],
    max_age: Duration,
) -> Result<(), String> {
    let (lsn, place) = event.place().ok_or_else(|| format!("the id {} is none", event.id))?;
    let user = event.data["user_id"].as_str();
    let Some(recipient) = user.and_then(|user| recipients.get(user)).or_else(|| recipients.get("*")) else {
        return Ok(());
    };
    let Some((title, text)) = words::of(&event.kind, &event.data, recipient.language) else { return Ok(()) };
    let user = user.ok_or("user_id is missing")?;
    for channel in channels {
        let address = match channel {
            Channel::Telegram => &recipient.chat_id,
            Channel::Email => &recipient.email,
        };
        let Some(address) = address else { continue };
        // Nobody wants to hear today of what was to be paid yesterday.
        let written = "INSERT OR IGNORE INTO messages (lsn, place, channel, event_id, user_id, address, title, text, late_at, status)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, unixepoch(?9) + ?10,
                CASE WHEN unixepoch(?9) + ?10 < unixepoch() THEN 'skipped' ELSE 'pending' END)";
        let age = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX / 2);
        let values = params![lsn, place, channel.as_str(), event.id, user, address, title, text, event.time, age];
        transaction.execute(written, values).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use boxoffice_listener::Store as _;

    use super::*;

    fn event(lsn: i64, kind: &str, user: &str, time: &str) -> Event {
        Event {
            id: format!("0-{lsn}-0"),
            kind: format!("boxoffice.reservation.{kind}"),
            subject: "r1".into(),
            time: time.into(),
            data: serde_json::json!({"user_id": user, "amount": 1, "seats": [], "areas": []}),
        }
    }

    #[test]
    fn one_message_an_event_in_order_and_none_that_is_too_old() {
        let dir = tempfile::tempdir().unwrap();
        let recipients =
            r#"{"anna": {"chat_id": "7", "email": "anna@example.com", "language": "ko"}, "ben": {"chat_id": "8"}}"#;
        let channels = vec![Channel::Telegram, Channel::Email];
        let recipients = serde_json::from_str(recipients).unwrap();
        let day = Duration::from_secs(86_400);
        let mut store = Store::open(&dir.path().join("n.db"), recipients, channels, day).unwrap();
        let (now, long_ago) = ("2999-01-01T00:00:00.000Z", "2001-01-01T00:00:00.000Z");
        let events = [
            event(1, "created", "anna", long_ago),
            event(2, "created", "anna", now),
            event(3, "confirmed", "anna", now),
            event(3, "confirmed", "anna", now),
            event(4, "created", "ben", now),
            event(5, "created", "carl", now),
            event(6, "released", "anna", now),
        ];
        let place = |offset| Place { topic: "t".into(), partition: 0, offset };
        let records = events.iter().cloned().enumerate().map(|(at, event)| (place(at as i64), Ok(event)));
        store.write(records.collect()).unwrap();
        let status = |store: &Store| {
            let all = store.messages(None, None, &(i64::MAX, 0, String::new()), 100).unwrap();
            let mut all: Vec<_> = all.into_iter().map(|one| (one.event_id, one.channel, one.status)).collect();
            all.sort();
            all
        };
        assert_eq!(status(&store).len(), 7, "{:?}", status(&store));
        let first = store.next(Channel::Telegram).unwrap().unwrap();
        assert_eq!(first.event_id, "0-2-0", "what is too old is skipped");
        store.settle(&first, &Outcome::Later("busy".into(), Duration::from_secs(60))).unwrap();
        let mut sent = Vec::new();
        for channel in [Channel::Telegram, Channel::Email] {
            while let Some(next) = store.next(channel).unwrap() {
                store.settle(&next, &Outcome::Sent).unwrap();
                sent.push((next.event_id, next.address));
            }
        }
        let of = |id: &str, address: &str| (id.to_owned(), address.to_owned());
        let mail = "anna@example.com";
        assert_eq!(sent, [of("0-4-0", "8"), of("0-2-0", mail), of("0-3-0", mail)], "only her chat waits for the first");
        let failed = store.messages(Some("anna"), Some("pending"), &(i64::MAX, 0, String::new()), 10).unwrap();
        assert_eq!(failed.iter().filter_map(|one| one.last_error.as_deref()).collect::<Vec<_>>(), ["busy"]);
        assert_eq!(store.position("t", 0).unwrap(), Some(7));
    }

    fn store(dir: &Path, max_age: Duration) -> Store {
        let recipients = serde_json::from_str(r#"{"*": {"chat_id": "7"}}"#).unwrap();
        Store::open(&dir.join("n.db"), recipients, vec![Channel::Telegram], max_age).unwrap()
    }

    #[test]
    fn waits_double_and_end() {
        let waits = |least| [0, 1, 5, 8, 9, 31, 62, 63, 64, u32::MAX].map(|attempts| wait_seconds(attempts, least));
        assert_eq!(waits(Duration::ZERO), [1, 2, 32, 256, 300, 300, 300, 300, 300, 300]);
        assert_eq!(waits(Duration::from_secs(60))[..3], [60, 60, 60]);
        assert_eq!(waits(Duration::MAX), [3_600; 10], "whatever a chat says");
    }

    #[test]
    fn what_gets_too_old_while_it_waits_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path(), Duration::from_secs(86_400));
        let place = Place { topic: "t".into(), partition: 0, offset: 0 };
        store.write(vec![(place, Ok(event(1, "created", "anna", "2999-01-01T00:00:00.000Z")))]).unwrap();
        assert!(store.next(Channel::Telegram).unwrap().is_some());
        store.connection.execute("UPDATE messages SET late_at = unixepoch() - 1", []).unwrap();
        assert!(store.next(Channel::Telegram).unwrap().is_none());
        assert_eq!(store.counts().unwrap(), [("skipped".to_owned(), 1)]);
    }

    #[test]
    fn what_was_sent_long_ago_is_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), Duration::ZERO);
        let mut statement = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {NEXT}")).unwrap();
        let plan = statement.query_map(["telegram"], |row| row.get(3)).unwrap();
        let plan: Vec<String> = plan.collect::<rusqlite::Result<_>>().unwrap();
        assert!(plan.iter().all(|step| !step.starts_with("SCAN") && !step.contains("TEMP B-TREE")), "{plan:?}");
        assert_eq!(plan.iter().filter(|step| step.contains("INDEX waiting")).count(), 2, "{plan:?}");
    }
}
