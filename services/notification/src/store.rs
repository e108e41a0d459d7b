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
        next_at INTEGER NOT NULL DEFAULT 0, sent_at INTEGER, last_error TEXT, PRIMARY KEY (lsn, place, channel)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS waiting ON messages (user_id, channel, lsn, place) WHERE status = 'pending';
    CREATE INDEX IF NOT EXISTS of_user ON messages (user_id, lsn, place);
    CREATE TABLE IF NOT EXISTS positions (
        topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS unreadable (
        topic TEXT, partition INTEGER, at INTEGER, why TEXT NOT NULL, PRIMARY KEY (topic, partition, at)) WITHOUT ROWID;
";
/// The next wait after an attempt that failed doubles, from a second up to that.
const WAIT_SECONDS_MAX: i64 = 300;

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

    /// The oldest message that may be sent now, but none before one that its reader is to get first.
    pub fn next(&self) -> rusqlite::Result<Option<Message>> {
        let wanted = "SELECT lsn, place, channel, event_id, address, title, text, attempts FROM messages AS this
            WHERE status = 'pending' AND next_at <= unixepoch() AND NOT EXISTS (SELECT 1 FROM messages AS before
                WHERE before.status = 'pending' AND before.user_id = this.user_id AND before.channel = this.channel
                AND (before.lsn, before.place) < (this.lsn, this.place))
            ORDER BY lsn, place LIMIT 1";
        let read = |row: &Row<'_>| {
            let channel: String = row.get(2)?;
            Ok(Message {
                lsn: row.get(0)?,
                place: row.get(1)?,
                channel: if channel == Channel::Email.as_str() { Channel::Email } else { Channel::Telegram },
                event_id: row.get(3)?,
                address: row.get(4)?,
                title: row.get(5)?,
                text: row.get(6)?,
                attempts: row.get(7)?,
            })
        };
        self.connection.query_row(wanted, [], read).optional()
    }

    /// Writes down what became of a message.
    pub fn settle(&self, message: &Message, outcome: &Outcome) -> rusqlite::Result<()> {
        let doubled = 1_i64.checked_shl(message.attempts).unwrap_or(WAIT_SECONDS_MAX).clamp(1, WAIT_SECONDS_MAX);
        let (status, wait, error) = match outcome {
            Outcome::Sent => ("sent", 0, None),
            Outcome::Never(why) => ("failed", 0, Some(why)),
            Outcome::Later(why, least) => {
                ("pending", doubled.max(i64::try_from(least.as_secs()).unwrap_or(WAIT_SECONDS_MAX)), Some(why))
            }
        };
        let settled =
            "UPDATE messages SET status = ?1, attempts = attempts + 1, next_at = unixepoch() + ?2, last_error = ?3,
            sent_at = CASE WHEN ?1 = 'sent' THEN unixepoch() END WHERE lsn = ?4 AND place = ?5 AND channel = ?6";
        let values = params![status, wait, error, message.lsn, message.place, message.channel.as_str()];
        self.connection.execute(settled, values).map(drop)
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
        let written = "INSERT OR IGNORE INTO messages (lsn, place, channel, event_id, user_id, address, title, text, status)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, CASE WHEN unixepoch(?9) + ?10 < unixepoch() THEN 'skipped' ELSE 'pending' END)";
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
        let first = store.next().unwrap().unwrap();
        assert_eq!(first.event_id, "0-2-0", "what is too old is skipped");
        store.settle(&first, &Outcome::Later("busy".into(), Duration::from_secs(60))).unwrap();
        let mut sent = Vec::new();
        while let Some(next) = store.next().unwrap() {
            store.settle(&next, &Outcome::Sent).unwrap();
            sent.push((next.event_id, next.address));
        }
        let of = |id: &str, address: &str| (id.to_owned(), address.to_owned());
        let other = if first.channel == Channel::Email { "7" } else { "anna@example.com" };
        assert_eq!(
            sent,
            [of("0-2-0", other), of("0-3-0", other), of("0-4-0", "8")],
            "the other way waits for the first"
        );
        let failed = store.messages(Some("anna"), Some("pending"), &(i64::MAX, 0, String::new()), 10).unwrap();
        assert_eq!(failed.iter().filter_map(|one| one.last_error.as_deref()).collect::<Vec<_>>(), ["busy"]);
        assert_eq!(store.position("t", 0).unwrap(), Some(7));
    }
}
