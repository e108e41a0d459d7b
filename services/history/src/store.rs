//! What is written down, and how far it was read, in one database. One process has it at a time.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use boxoffice_listener::{Event, Place};
use serde::Serialize;

use crate::database::{Change, Database, Row, Value};

/// All SQL is what SQLite and PostgreSQL both understand.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS payments (
        lsn BIGINT NOT NULL, place BIGINT NOT NULL, event_id TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
        compensates TEXT, payment_id TEXT NOT NULL, reservation_id TEXT NOT NULL, user_id TEXT NOT NULL, amount BIGINT NOT NULL,
        currency TEXT, at TEXT NOT NULL, PRIMARY KEY (lsn, place));
    CREATE INDEX IF NOT EXISTS payments_of_user ON payments (user_id, lsn, place);
    CREATE TABLE IF NOT EXISTS wallet_entries (
        lsn BIGINT NOT NULL, place BIGINT NOT NULL, event_id TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
        user_id TEXT NOT NULL, amount BIGINT NOT NULL, reference TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (lsn, place));
    CREATE INDEX IF NOT EXISTS wallet_entries_of_user ON wallet_entries (user_id, lsn, place);
    CREATE TABLE IF NOT EXISTS positions (
        topic TEXT NOT NULL, part BIGINT NOT NULL, next BIGINT NOT NULL, PRIMARY KEY (topic, part));
    CREATE TABLE IF NOT EXISTS unreadable (
        topic TEXT NOT NULL, part BIGINT NOT NULL, at BIGINT NOT NULL, why TEXT NOT NULL, PRIMARY KEY (topic, part, at));
";
const CLEAR: [&str; 4] =
    ["DELETE FROM payments", "DELETE FROM wallet_entries", "DELETE FROM positions", "DELETE FROM unreadable"];
// What is there already stays as it is.
const PAYMENT: &str =
    "INSERT INTO payments VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING";
const ENTRY: &str = "INSERT INTO wallet_entries VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
const UNREADABLE: &str = "INSERT INTO unreadable VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
const POSITION: &str =
    "INSERT INTO positions VALUES ($1, $2, $3) ON CONFLICT (topic, part) DO UPDATE SET next = excluded.next";
const NEXT: &str = "SELECT next FROM positions WHERE topic = $1 AND part = $2";
const PAYMENTS: &str =
    "SELECT id, kind, compensates, payment_id, reservation_id, user_id, amount, currency, at, event_id
    FROM payments
    WHERE user_id = $1 AND (lsn, place) < ($2, $3) ORDER BY lsn DESC, place DESC LIMIT $4";
const ENTRIES: &str = "SELECT id, kind, user_id, amount, reference, at, event_id FROM wallet_entries
    WHERE user_id = $1 AND (lsn, place) < ($2, $3) ORDER BY lsn DESC, place DESC LIMIT $4";
const CHECK: &str = "SELECT next FROM positions LIMIT 1";
const COUNTS: &str = "SELECT (SELECT count(*) FROM payments), (SELECT count(*) FROM wallet_entries),
    (SELECT count(*) FROM unreadable)";

/// A payment, what came of it, or what undid it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Payment {
    pub id: String,
    /// `payment`, `failed`, `voided` or `refund`.
    pub kind: String,
    /// The entry that this one undoes.
    pub compensates: Option<String>,
    pub payment_id: String,
    pub reservation_id: String,
    pub user_id: String,
    pub amount: i64,
    /// Whose smallest unit the amount counts, where a provider takes it; absent: it is of points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
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

pub struct Store(Database);

impl Store {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// Another process has it, or it cannot be read.
    pub fn open(url: &str) -> Result<Self> {
        Database::open(url, TABLES).map(Self)
    }

    /// Forgets everything, also how far it was read.
    pub fn clear(&mut self) -> Result<()> {
        self.0.change(&CLEAR.map(|statement| (statement, Vec::new())))
    }

    /// Payments of a user, newest first, those before a place.
    pub fn payments(&mut self, user: &str, before: (i64, i64), limit: i64) -> Result<Vec<Payment>> {
        let rows = self.0.rows(PAYMENTS, &page(user, before, limit))?;
        let payment = |row: Row| {
            let mut row = row.into_iter();
            Ok(Payment {
                id: text(row.next())?,
                kind: text(row.next())?,
                compensates: row.next().and_then(|value| text(Some(value)).ok()),
                payment_id: text(row.next())?,
                reservation_id: text(row.next())?,
                user_id: text(row.next())?,
                amount: number(row.next())?,
                currency: row.next().and_then(|value| text(Some(value)).ok()),
                at: text(row.next())?,
                event_id: text(row.next())?,
            })
        };
        rows.into_iter().map(payment).collect()
    }

    /// Movements in a user's wallet, likewise.
    pub fn wallet_entries(&mut self, user: &str, before: (i64, i64), limit: i64) -> Result<Vec<WalletEntry>> {
        let rows = self.0.rows(ENTRIES, &page(user, before, limit))?;
        let entry = |row: Row| {
            let mut row = row.into_iter();
            Ok(WalletEntry {
                id: text(row.next())?,
                kind: text(row.next())?,
                user_id: text(row.next())?,
                amount: number(row.next())?,
                reference: text(row.next())?,
                at: text(row.next())?,
                event_id: text(row.next())?,
            })
        };
        rows.into_iter().map(entry).collect()
    }

    /// Whether it can be read.
    pub fn check(&mut self) -> Result<()> {
        self.0.rows(CHECK, &[]).map(drop)
    }

    /// How many payments, movements and unreadable records there are.
    pub fn counts(&mut self) -> Result<[i64; 3]> {
        let mut row = self.0.rows(COUNTS, &[])?.into_iter().flatten();
        Ok([number(row.next())?, number(row.next())?, number(row.next())?])
    }
}

fn page(user: &str, before: (i64, i64), limit: i64) -> [Value; 4] {
    [user.into(), before.0.into(), before.1.into(), limit.into()]
}

fn text(value: Option<Value>) -> Result<String> {
    if let Some(Value::Text(text)) = value { Ok(text) } else { Err(anyhow!("{value:?} is no text")) }
}

fn number(value: Option<Value>) -> Result<i64> {
    if let Some(Value::Number(number)) = value { Ok(number) } else { Err(anyhow!("{value:?} is no number")) }
}

impl boxoffice_listener::Store for Store {
    fn position(&mut self, topic: &str, partition: i32) -> Result<Option<i64>> {
        let rows = self.0.rows(NEXT, &[topic.into(), i64::from(partition).into()])?;
        rows.into_iter().flatten().next().map(|next| number(Some(next))).transpose()
    }

    fn write(&mut self, records: Vec<(Place, Result<Event, String>)>) -> Result<()> {
        let (mut changes, mut next) = (Vec::new(), BTreeMap::new());
        for (place, event) in records {
            let part = i64::from(place.partition);
            match event.and_then(|event| changes_of(&event)) {
                Ok(more) => changes.extend(more),
                Err(why) => {
                    tracing::warn!(?place, why, "a record cannot be read");
                    let why = why.replace(NO_TEXT, " ");
                    let values =
                        vec![place.topic.as_str().into(), part.into(), place.offset.into(), why.as_str().into()];
                    changes.push((UNREADABLE, values));
                }
            }
            next.insert((place.topic, part), place.offset + 1);
        }
        for ((topic, part), next) in next {
            changes.push((POSITION, vec![topic.as_str().into(), part.into(), next.into()]));
        }
        self.0.change(&changes)
    }
}

/// The one character that PostgreSQL takes in no text.
const NO_TEXT: char = '\0';

/// What an event changes.
fn changes_of(event: &Event) -> Result<Vec<Change>, String> {
    let (lsn, place) = event.place().ok_or_else(|| format!("the id {} is none", event.id))?;
    let text = |name: &str| event.data[name].as_str().ok_or_else(|| format!("{name} is missing"));
    let amount = || event.data["amount"].as_i64().ok_or_else(|| "amount is missing".to_owned());
    let head = || -> Vec<Value> { vec![lsn.into(), place.into(), event.id.as_str().into()] };
    let entry = |id: &str, kind: &str, user: &str, reference: &str| {
        let rest: [Value; 6] =
            [id.into(), kind.into(), user.into(), amount()?.into(), reference.into(), event.time.as_str().into()];
        Ok::<Change, String>((ENTRY, head().into_iter().chain(rest).collect()))
    };
    let mut changes = Vec::new();
    // What it is to the payment, what it undoes, and what it moves in the wallet.
    let (kind, undoes, moves) = match event.kind.as_str() {
        "boxoffice.payment.completed" => ("payment", false, Some("debit")),
        "boxoffice.payment.failed" => ("failed", false, None),
        "boxoffice.payment.voided" => ("voided", false, None),
        "boxoffice.payment.refunded" => ("refund", true, Some("credit")),
        "boxoffice.wallet.charged" => {
            changes.push(entry(text("id")?, "charge", &event.subject, text("reference")?)?);
            return all_text(changes);
        }
        _ => return Ok(changes),
    };
    // What a provider takes is in no wallet.
    let moves = moves.filter(|_| event.data["method"].is_null());
    let (payment, user) = (text("id")?, text("user_id")?);
    let rest: [Value; 9] = [
        format!("{payment}/{kind}").as_str().into(),
        kind.into(),
        undoes.then(|| format!("{payment}/payment")).into(),
        payment.into(),
        text("reservation_id")?.into(),
        user.into(),
        amount()?.into(),
        event.data["currency"].as_str().map(str::to_owned).into(),
        event.time.as_str().into(),
    ];
    changes.push((PAYMENT, head().into_iter().chain(rest).collect()));
    if let Some(kind) = moves {
        changes.push(entry(&format!("{payment}/{kind}"), kind, user, payment)?);
    }
    all_text(changes)
}

fn all_text(changes: Vec<Change>) -> Result<Vec<Change>, String> {
    let values = changes.iter().flat_map(|(_, values)| values);
    let is_text = |value: &Value| !matches!(value, Value::Text(text) if text.contains(NO_TEXT));
    if values.into_iter().all(is_text) { Ok(changes) } else { Err("a text has a character 0 in it".into()) }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

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

    /// What holds of a database that nobody has used yet; `url` says where it is.
    fn what_comes_twice_is_there_once_and_a_refund_names_what_it_undoes(url: &str) {
        let mut store = Store::open(url).unwrap();
        let charge = serde_json::json!({"id": "w1-1", "amount": 500, "reference": "bank"});
        let by_card = serde_json::json!({"id": "p2", "reservation_id": "r2", "user_id": "bob", "amount": 7, "method": "card", "currency": "EUR"});
        let events = [
            event(1, "wallet.charged", charge),
            event(2, "payment.completed", payment()),
            event(2, "payment.completed", payment()),
            event(3, "payment.refunded", payment()),
            event(4, "seat.painted", payment()),
            event(5, "payment.failed", serde_json::json!({})),
            event(6, "payment.completed", by_card.clone()),
            event(7, "payment.voided", by_card),
        ];
        let place = |offset| Place { topic: "t".into(), partition: 1, offset };
        let records = || events.iter().cloned().enumerate().map(|(at, event)| (place(at as i64), Ok(event))).collect();
        store.write(records()).unwrap();
        let nothing = event(8, "wallet.charged", serde_json::json!({"id": "\0", "amount": 1, "reference": "bank"}));
        store.write(vec![(place(8), Err("no \0 event".into())), (place(9), Ok(nothing))]).unwrap();
        let payments = store.payments("anna", END, 10).unwrap();
        let kinds: Vec<_> = payments.iter().map(|entry| (entry.id.as_str(), entry.compensates.as_deref())).collect();
        assert_eq!(kinds, [("p1/refund", Some("p1/payment")), ("p1/payment", None)]);
        let moved: Vec<_> = store.wallet_entries("anna", END, 10).unwrap();
        let moved: Vec<_> = moved.iter().map(|entry| (entry.kind.as_str(), entry.amount)).collect();
        assert_eq!(moved, [("credit", 120), ("debit", 120), ("charge", 500)]);
        assert_eq!(store.payments("anna", (3, 0), 1).unwrap()[0].event_id, "0-2-0");
        assert_eq!(store.payments("anna", END, 1).unwrap()[..], payments[..1]);
        assert_eq!((store.position("t", 1).unwrap(), store.position("t", 2).unwrap()), (Some(10), None));
        assert_eq!(store.counts().unwrap(), [4, 3, 3]);
        let by_card = store.payments("bob", END, 10).unwrap();
        let by_card: Vec<_> =
            by_card.iter().map(|one| (one.kind.as_str(), one.amount, one.currency.as_deref())).collect();
        assert_eq!(by_card, [("voided", 7, Some("EUR")), ("payment", 7, Some("EUR"))]);
        let other = Store::open(url).err().map(|error| format!("{error:#}"));
        assert!(other.as_ref().is_some_and(|why| !why.contains("secret")), "another one has it: {other:?}");
        store.clear().unwrap();
        assert_eq!((store.counts().unwrap(), store.position("t", 1).unwrap()), ([0; 3], None));
        store.write(records()).unwrap();
        assert_eq!(store.payments("anna", END, 10).unwrap(), payments, "the same content again");
        drop(store);
        assert_eq!(Store::open(url).unwrap().counts().unwrap(), [4, 3, 1]);
    }

    #[test]
    fn in_sqlite() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("history.db").display());
        what_comes_twice_is_there_once_and_a_refund_names_what_it_undoes(&url);
    }

    /// Without PostgreSQL on this machine it is left out, which is said; with `POSTGRES_TESTS=required` that is a failure.
    #[test]
    fn in_postgres() {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../postgres.py");
        let mut server =
            Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        if url.is_empty() {
            let is_required = std::env::var("POSTGRES_TESTS").is_ok_and(|it| it == "required");
            assert!(!is_required, "there is no PostgreSQL");
            eprintln!("left out: there is no PostgreSQL");
        } else {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let _within = runtime.enter();
            what_comes_twice_is_there_once_and_a_refund_names_what_it_undoes(url.trim());
        }
        drop(server.stdin.take());
        server.wait().unwrap();
    }
}
