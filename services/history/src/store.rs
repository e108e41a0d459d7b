//! What is written down, and how far it was read, in one SQLite database. One process has it at a time.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde::Serialize;

use boxoffice_listener::{Event, Place};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS payments (
        lsn INTEGER, place INTEGER, event_id TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, compensates TEXT,
        payment_id TEXT NOT NULL, reservation_id TEXT NOT NULL, user_id TEXT NOT NULL, amount INTEGER NOT NULL, at TEXT NOT NULL,
        PRIMARY KEY (lsn, place)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS payments_of_user ON payments (user_id, lsn, place);
    CREATE TABLE IF NOT EXISTS wallet_entries (
        lsn INTEGER, place INTEGER, event_id TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, user_id TEXT NOT NULL,
        amount INTEGER NOT NULL, reference TEXT NOT NULL, at TEXT NOT NULL,
        PRIMARY KEY (lsn, place)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS wallet_entries_of_user ON wallet_entries (user_id, lsn, place);
    CREATE TABLE IF NOT EXISTS positions (
        topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS unreadable (
        topic TEXT, partition INTEGER, at INTEGER, why TEXT NOT NULL, PRIMARY KEY (topic, partition, at)) WITHOUT ROWID;
";

/// A payment, what came of it, or what undid it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Payment {
    pub id: String,
    /// `payment`, `failed` or `refund`.
    pub kind: String,
    /// The entry that this one undoes.
    pub compensates: Option<String>,
    pub payment_id: String,
    pub reservation_id: String,
    pub user_id: String,
    pub amount: i64,
    pub at: String,
    pub event_id: String,
}

/// What was added to a wallet or taken from it.
#[derive(Debug, PartialEq, Serialize)]
pub struct WalletEntry {
    pub id: String,
    /// `charge`, `debit` or `credit`.
    pub kind: String,
    pub user_id: String,
    pub amount: i64,
    /// Who charged it, or the payment.
    pub reference: String,
    pub at: String,
    pub event_id: String,
}

pub struct Store(Connection);

impl Store {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// Another process has it, or it cannot be read.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        // Locked by the first write, until the end.
        connection
            .execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        connection.execute_batch(&format!("BEGIN EXCLUSIVE; {TABLES} COMMIT;"))?;
        Ok(Self(connection))
    }

    /// Forgets everything, also how far it was read.
    pub fn clear(&mut self) -> rusqlite::Result<()> {
        self.0.execute_batch(
            "BEGIN; DELETE FROM payments; DELETE FROM wallet_entries; DELETE FROM positions; DELETE FROM unreadable; COMMIT;",
        )
    }

    /// Payments of a user, newest first, those before a place.
    pub fn payments(&self, user: &str, before: (i64, i64), limit: usize) -> rusqlite::Result<Vec<Payment>> {
        let wanted =
            "SELECT id, kind, compensates, payment_id, reservation_id, user_id, amount, at, event_id FROM payments
            WHERE user_id = ? AND (lsn, place) < (?, ?) ORDER BY lsn DESC, place DESC LIMIT ?";
        let read = |row: &Row<'_>| {
            Ok(Payment {
                id: row.get(0)?,
                kind: row.get(1)?,
                compensates: row.get(2)?,
                payment_id: row.get(3)?,
                reservation_id: row.get(4)?,
                user_id: row.get(5)?,
                amount: row.get(6)?,
                at: row.get(7)?,
                event_id: row.get(8)?,
            })
        };
        let mut statement = self.0.prepare(wanted)?;
        statement.query_map(params![user, before.0, before.1, limit as i64], read)?.collect()
    }

    /// Movements in a user's wallet, likewise.
    pub fn wallet_entries(&self, user: &str, before: (i64, i64), limit: usize) -> rusqlite::Result<Vec<WalletEntry>> {
        let wanted = "SELECT id, kind, user_id, amount, reference, at, event_id FROM wallet_entries
            WHERE user_id = ? AND (lsn, place) < (?, ?) ORDER BY lsn DESC, place DESC LIMIT ?";
        let read = |row: &Row<'_>| {
            Ok(WalletEntry {
                id: row.get(0)?,
                kind: row.get(1)?,
                user_id: row.get(2)?,
                amount: row.get(3)?,
                reference: row.get(4)?,
                at: row.get(5)?,
                event_id: row.get(6)?,
            })
        };
        let mut statement = self.0.prepare(wanted)?;
        statement.query_map(params![user, before.0, before.1, limit as i64], read)?.collect()
    }

    /// How many payments, movements and unreadable records there are.
    pub fn counts(&self) -> rusqlite::Result<[i64; 3]> {
        let count = |table: &str| self.0.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
        Ok([count("payments")?, count("wallet_entries")?, count("unreadable")?])
    }
}

impl boxoffice_listener::Store for Store {
    fn position(&self, topic: &str, partition: i32) -> anyhow::Result<Option<i64>> {
        let next = "SELECT next FROM positions WHERE topic = ? AND partition = ?";
        Ok(self.0.query_row(next, params![topic, partition], |row| row.get(0)).optional()?)
    }

    fn write(&mut self, records: Vec<(Place<'_>, Result<Event, String>)>) -> anyhow::Result<()> {
        let transaction = self.0.transaction()?;
        for (place, event) in records {
            if let Err(why) = event.and_then(|event| write(&transaction, &event)) {
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

/// Writes down what an event says; what is there already stays as it is.
fn write(transaction: &Transaction<'_>, event: &Event) -> Result<(), String> {
    let (lsn, place) = event.place().ok_or_else(|| format!("the id {} is none", event.id))?;
    let text = |name: &str| event.data[name].as_str().ok_or_else(|| format!("{} is missing", name));
    let amount = || event.data["amount"].as_i64().ok_or_else(|| "amount is missing".to_owned());
    let entry = |id: &str, kind: &str, user: &str, reference: &str| {
        let entry = "INSERT OR IGNORE INTO wallet_entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let values = params![lsn, place, event.id, id, kind, user, amount()?, reference, event.time];
        transaction.execute(entry, values).map(drop).map_err(|error| error.to_string())
    };
    // What it is to the payment, what it undoes, and what it moves in the wallet.
    let (kind, undoes, moves) = match event.kind.as_str() {
        "boxoffice.payment.completed" => ("payment", false, Some("debit")),
        "boxoffice.payment.failed" => ("failed", false, None),
        "boxoffice.payment.refunded" => ("refund", true, Some("credit")),
        "boxoffice.wallet.charged" => return entry(text("id")?, "charge", &event.subject, text("reference")?),
        _ => return Ok(()),
    };
    // What a provider takes is in no wallet.
    let moves = moves.filter(|_| event.data["method"].is_null());
    let (payment, user) = (text("id")?, text("user_id")?);
    let compensates = undoes.then(|| format!("{payment}/payment"));
    let (id, reservation) = (format!("{payment}/{kind}"), text("reservation_id")?);
    let written = "INSERT OR IGNORE INTO payments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values =
        params![lsn, place, event.id, id, kind, compensates, payment, reservation, user, amount()?, event.time];
    transaction.execute(written, values).map_err(|error| error.to_string())?;
    moves.map_or(Ok(()), |kind| entry(&format!("{payment}/{kind}"), kind, user, payment))
}

#[cfg(test)]
mod tests {
    use boxoffice_listener::Store as _;

    use super::*;

    fn event(lsn: i64, kind: &str, data: serde_json::Value) -> Event {
        Event {
            id: format!("0-{lsn}-0"),
            kind: format!("boxoffice.{kind}"),
            subject: "anna".into(),
            time: format!("2026-11-29T00:00:0{lsn}.000Z"),
            data,
        }
    }

    fn payment() -> serde_json::Value {
        serde_json::json!({"id": "p1", "reservation_id": "r1", "user_id": "anna", "amount": 120})
    }

    const END: (i64, i64) = (i64::MAX, 0);

    #[test]
    fn what_comes_twice_is_there_once_and_a_refund_names_what_it_undoes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        let mut store = Store::open(&path).unwrap();
        let charge = serde_json::json!({"id": "w1-1", "amount": 500, "reference": "bank"});
        let by_card =
            serde_json::json!({"id": "p2", "reservation_id": "r2", "user_id": "bob", "amount": 7, "method": "card"});
        let events = [
            event(1, "wallet.charged", charge),
            event(2, "payment.completed", payment()),
            event(2, "payment.completed", payment()),
            event(3, "payment.refunded", payment()),
            event(4, "seat.painted", payment()),
            event(5, "payment.failed", serde_json::json!({})),
            event(6, "payment.completed", by_card),
        ];
        let place = |offset| Place { topic: "t", partition: 1, offset };
        let records = || events.iter().cloned().enumerate().map(|(at, event)| (place(at as i64), Ok(event))).collect();
        store.write(records()).unwrap();
        store.write(vec![(place(7), Err("no event".into()))]).unwrap();
        let payments = store.payments("anna", END, 10).unwrap();
        let kinds: Vec<_> = payments.iter().map(|entry| (entry.id.as_str(), entry.compensates.as_deref())).collect();
        assert_eq!(kinds, [("p1/refund", Some("p1/payment")), ("p1/payment", None)]);
        let moved: Vec<_> = store.wallet_entries("anna", END, 10).unwrap();
        let moved: Vec<_> = moved.iter().map(|entry| (entry.kind.as_str(), entry.amount)).collect();
        assert_eq!(moved, [("credit", 120), ("debit", 120), ("charge", 500)]);
        assert_eq!(store.payments("anna", (3, 0), 1).unwrap()[0].event_id, "0-2-0");
        assert_eq!((store.position("t", 1).unwrap(), store.position("t", 2).unwrap()), (Some(8), None));
        assert_eq!(store.counts().unwrap(), [3, 3, 2]);
        assert_eq!(store.payments("bob", END, 10).unwrap()[0].amount, 7);
        assert!(Store::open(&path).is_err(), "another one has it");
        store.clear().unwrap();
        assert_eq!((store.counts().unwrap(), store.position("t", 1).unwrap()), ([0; 3], None));
        store.write(records()).unwrap();
        assert_eq!(store.payments("anna", END, 10).unwrap(), payments, "the same content again");
        drop(store);
        assert_eq!(Store::open(&path).unwrap().counts().unwrap(), [3, 3, 1]);
    }
}
