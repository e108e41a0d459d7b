//! Whether all that callers were told is there as it was told, once, and nothing else, and the same on every node.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boxoffice::Lsn;
use boxoffice::store::disk::RealDisk;
use boxoffice::store::journal::{Frames, Tip};
use serde_json::{Value, json};

use crate::callers::{Callers, Deed, id, users};
use crate::machines::{Cluster, NAMES};

/// How long it may take until all nodes have told of the same events.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events as one node told of them.
#[derive(Clone, Default)]
struct Told {
    after: Option<String>,
    hash: u64,
}

impl Told {
    /// All that it has not told of yet.
    async fn read(&mut self, callers: &Callers, node: usize) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let after = self.after.as_ref().map_or_else(String::new, |after| format!("&after={after}"));
            let mut page = callers.get(node, &format!("/v1/events?limit=500{after}"), "root").await;
            let events = page["items"].as_array_mut().unwrap();
            if events.is_empty() {
                return all;
            }
            for event in events.iter() {
                let mut hasher = DefaultHasher::new();
                (self.hash, event.to_string()).hash(&mut hasher);
                self.hash = hasher.finish();
            }
            all.append(events);
            self.after = Some(page["next_after"].as_str().unwrap().to_owned());
        }
    }
}

/// A reservation, by what callers were told, and by the events.
#[derive(Debug, Clone, PartialEq)]
struct Reservation {
    held: Value,
    payment: Option<Value>,
    status: &'static str,
}

impl Reservation {
    fn new(held: &Value) -> Self {
        Self { held: held.clone(), payment: None, status: "held" }
    }

    fn is_over(&self) -> bool {
        matches!(self.status, "released" | "refunded")
    }
}

/// What has happened. Memory is bounded: what has come to its end in both views is forgotten.
#[derive(Default)]
pub struct Audit {
    nodes: [Told; NAMES.len()],
    by_events: BTreeMap<String, Reservation>,
    by_callers: BTreeMap<String, Reservation>,
    charges: BTreeMap<String, Value>,
    /// Who has a seat.
    seats: BTreeMap<String, String>,
    balances: BTreeMap<String, u64>,
    /// Which reservation was paid by which payment.
    payments: BTreeMap<String, String>,
    /// How much callers were told, and events told of.
    pub acknowledged: u64,
    pub events: u64,
}

impl Audit {
    /// Looks at everything, while nobody calls.
    pub async fn check(&mut self, callers: &Callers) {
        let _peace = callers.gate.write().await;
        self.read_events(callers).await;
        let deeds = std::mem::take(&mut *callers.deeds.lock());
        self.acknowledged += deeds.len() as u64;
        deeds.into_iter().for_each(|deed| self.told(deed));
        self.compare();
        self.check_maps(callers).await;
        for (n, user) in users().enumerate() {
            let wallet = callers.get(n % NAMES.len(), "/v1/wallet", &user).await;
            assert_eq!(wallet["balance"], self.balances.get(&user).copied().unwrap_or(0), "{user}");
        }
    }

    /// Reads on where each node was left, until all have told of the same.
    async fn read_events(&mut self, callers: &Callers) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for node in 0..NAMES.len() {
                let events = self.nodes[node].read(callers, node).await;
                if node == 0 {
                    self.events += events.len() as u64;
                    events.iter().for_each(|event| self.happened(event));
                }
            }
            let [one, others @ ..] = &self.nodes;
            if others.iter().all(|other| other.after == one.after) {
                assert!(others.iter().all(|other| other.hash == one.hash), "nodes tell of other events");
                return;
            }
            let ends: Vec<_> = self.nodes.iter().map(|told| &told.after).collect();
            assert!(Instant::now() < deadline, "nodes have not told of the same events: {ends:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Takes an event in. Seats are one reservation's (I1), and nobody has less than nothing (I2).
    fn happened(&mut self, event: &Value) {
        let data = &event["data"];
        let amount = || data["amount"].as_u64().unwrap();
        match event["type"].as_str().unwrap().strip_prefix("boxoffice.").unwrap() {
            "wallet.charged" => {
                *self.balances.entry(event["subject"].as_str().unwrap().to_owned()).or_default() += amount();
                assert!(self.charges.insert(id(data).to_owned(), data.clone()).is_none(), "twice: {event}");
            }
            "reservation.created" => {
                for seat in data["seats"].as_array().unwrap() {
                    let before = self.seats.insert(id(seat).to_owned(), id(data).to_owned());
                    assert!(before.is_none(), "{event}: {} is {before:?}'s", id(seat));
                }
                assert!(self.by_events.insert(id(data).to_owned(), Reservation::new(data)).is_none(), "twice: {event}");
            }
            "reservation.confirmed" => self.change(event, "held", "confirmed"),
            "reservation.released" => self.change(event, "held", "released"),
            "reservation.refunded" => self.change(event, "confirmed", "refunded"),
            "payment.completed" => {
                let balance = self.balances.get_mut(data["user_id"].as_str().unwrap()).unwrap();
                *balance = balance.checked_sub(amount()).unwrap_or_else(|| panic!("{event}: there were {balance}"));
                let before = self.of(data, event).payment.replace(data.clone());
                assert!(before.is_none(), "twice: {event}");
            }
            "payment.refunded" => {
                *self.balances.get_mut(data["user_id"].as_str().unwrap()).unwrap() += amount();
                // Once: `change` says so of its reservation.
                let paid = self.payments.get(id(data)).cloned();
                assert!(paid.is_none_or(|of| data["reservation_id"] == of), "{event}");
            }
            _ => panic!("nobody asked for {event}"),
        }
    }

    fn of(&mut self, payment: &Value, event: &Value) -> &mut Reservation {
        let reservation = payment["reservation_id"].as_str().unwrap();
        self.by_events.get_mut(reservation).unwrap_or_else(|| panic!("{event}: of nothing, or of what is over"))
    }

    fn change(&mut self, event: &Value, from: &str, to: &'static str) {
        let reservation = self.by_events.get_mut(id(&event["data"]));
        let reservation = reservation.unwrap_or_else(|| panic!("{event}: of nothing, or of what is over"));
        assert_eq!(reservation.status, from, "{event}");
        reservation.status = to;
        if reservation.is_over() {
            for seat in reservation.held["seats"].as_array().unwrap() {
                assert_eq!(self.seats.remove(id(seat)).as_deref(), Some(id(&event["data"])), "{event}");
            }
        }
    }

    /// Takes in what a caller was told.
    fn told(&mut self, deed: Deed) {
        match &deed {
            Deed::Charged(entry) => {
                assert_eq!(self.charges.remove(id(entry)).as_ref(), Some(entry), "forgotten, or twice: {deed:?}");
            }
            Deed::Held(held) => {
                let before = self.by_callers.insert(id(held).to_owned(), Reservation::new(held));
                assert!(before.is_none(), "told twice: {deed:?}");
            }
            Deed::Released(reservation) => self.known(reservation, &deed).status = "released",
            Deed::Paid(paid) => {
                let reservation = paid["reservation_id"].as_str().unwrap();
                self.payments.insert(id(paid).to_owned(), reservation.to_owned());
                let known = self.known(reservation, &deed);
                assert!(known.payment.replace(paid.clone()).is_none(), "told twice: {deed:?}");
                known.status = "confirmed";
            }
            Deed::Refunded { payment, refund } => {
                let reservation = self.payments.remove(payment).unwrap_or_else(|| panic!("twice: {deed:?}"));
                let known = self.known(&reservation, &deed);
                assert_eq!(known.payment.as_ref().map(|paid| &paid["amount"]), Some(&refund["amount"]), "{deed:?}");
                known.status = "refunded";
            }
        }
    }

    fn known(&mut self, reservation: &str, deed: &Deed) -> &mut Reservation {
        self.by_callers.get_mut(reservation).unwrap_or_else(|| panic!("of nothing: {deed:?}"))
    }

    /// Since callers ask until they know, both views are the same when nobody calls.
    fn compare(&mut self) {
        for (id, known) in &self.by_callers {
            assert_eq!(self.by_events.get(id), Some(known), "forgotten, or not as it was told: {id}");
        }
        for (id, happened) in &self.by_events {
            assert!(self.by_callers.contains_key(id), "nobody was told of {happened:?}");
        }
        assert!(self.charges.is_empty(), "nobody was told of {:?}", self.charges);
        for view in [&mut self.by_events, &mut self.by_callers] {
            view.retain(|_, reservation| !reservation.is_over());
        }
    }

    async fn check_maps(&self, callers: &Callers) {
        let status = |reservation: &String| {
            if self.by_events[reservation].status == "held" { "held" } else { "sold" }
        };
        let seats: BTreeMap<_, _> = self.seats.iter().map(|(seat, of)| (seat, status(of))).collect();
        for (node, name) in NAMES.iter().enumerate() {
            let map = callers.get(node, &format!("/v1/options/{}/seats", callers.option), "root").await;
            assert_eq!(map["seats"], json!(seats), "on {name}");
        }
    }
}

/// Compares the journals of nodes that do not run, frame by frame: each is where it ends what the longest one is there. How many
/// frames all of them have.
pub fn compare_journals(cluster: &Cluster) -> usize {
    let journals: Vec<_> = cluster.data_dirs().iter().map(|dir| frames(dir)).collect();
    let longest = journals.iter().max_by_key(|frames| frames.len()).unwrap();
    for (frames, name) in journals.iter().zip(NAMES) {
        let differs = frames.iter().zip(longest).position(|(one, other)| one != other);
        assert_eq!(differs, None, "of {name}, of {} frames", frames.len());
    }
    // Who left first has not what came then: fences, and what aggregates told each other.
    journals.iter().map(Vec::len).min().unwrap()
}

/// Nodes that end with the same event have come to the same state.
pub fn compare_states(verified: &[String]) {
    let line = |report: &str, name: &str| {
        let found = report.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no {name} in {report}")).trim().to_owned()
    };
    let mut states = BTreeMap::new();
    for report in verified {
        let state = line(report, "state_sha256");
        let before = states.insert(line(report, "last_lsn"), state.clone());
        assert!(before.is_none_or(|before| before == state), "{verified:?}");
    }
}

/// Of each frame: the number of its first event, how many it has, and the CRC of the chain up to it. What `verify` has seen whole is
/// read to its end.
fn frames(data_dir: &Path) -> Vec<(Lsn, u32, u32)> {
    let mut reader = Frames::in_dir(Arc::new(RealDisk), data_dir).after(Tip::default()).unwrap();
    let frames = std::iter::from_fn(|| reader.link().ok());
    frames.map(|frame| (frame.first_lsn(), frame.count(), frame.after().crc)).collect()
}
