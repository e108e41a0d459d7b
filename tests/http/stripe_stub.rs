//! Stripe by its published contract, as far as it is asked: PaymentIntents, refunds, disputes, keys and signed events.
//!
//! A key stands for one set of parameters, what was answered under it is stored, failures too, and forgotten after 24 hours.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::HttpRequest;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::provider_kill::Kill;
use crate::provider_stub;

pub const SECRET_KEY: &str = "sk_test_of_the_stub";
pub const WEBHOOK_SECRET: &str = "whsec_of_the_stub";
const DAY_SECONDS: u64 = 86_400;

type Form = BTreeMap<String, String>;

#[derive(Default)]
pub struct Account {
    pub intents: BTreeMap<String, Value>,
    pub refunds: Vec<Value>,
    pub disputes: Vec<Value>,
    /// What was told to be done, in this order, but for what was answered from a key.
    pub done: Vec<String>,
    /// Events that were not taken yet.
    pub events: Vec<Value>,
    /// So many of the next answers are lost, after what was asked for was done.
    pub loses: usize,
    /// So many of the next requests that change something fail, and their keys have stored that.
    pub fails: usize,
    /// Nothing is answered.
    pub down: bool,
    /// Refunds are on their way for as long as this is set.
    pub slow_refunds: bool,
    /// By how many seconds its clock is ahead.
    pub ahead: u64,
    /// What its clock shows, in seconds, if not the time.
    pub now: Option<u64>,
    /// So many items are on a page at the most, if this is no 0.
    pub page_max: usize,
    /// Which process is killed, and at which of the next requests.
    pub kills: Option<Kill>,
    keys: HashMap<String, Stored>,
    made: u64,
}

struct Stored {
    at: u64,
    asked: (String, Form),
    status: u16,
    answer: Value,
}

pub type Stub = provider_stub::Stub<Account>;

fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn refuse(status: u16, kind: &str, code: &str) -> (u16, Value) {
    (status, json!({"error": {"type": kind, "code": code, "message": "the stub will not"}}))
}

impl Account {
    fn next(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}_stub{}", self.made)
    }

    fn tell(&mut self, kind: &str, object: &Value) {
        let id = self.next("evt");
        self.events
            .push(json!({"id": id, "object": "event", "type": kind, "livemode": false, "data": {"object": object}}));
    }

    fn clock(&self) -> u64 {
        self.now.unwrap_or_else(wall) + self.ahead
    }

    fn of(&self, intent: &str) -> Value {
        self.intents[intent].clone()
    }

    fn charge(&self, intent: &str) -> Value {
        let intent = &self.intents[intent];
        let back = |refund: &&Value| refund["payment_intent"] == intent["id"] && refund["status"] == "succeeded";
        let refunded: u64 = self.refunds.iter().filter(back).map(|refund| refund["amount"].as_u64().unwrap()).sum();
        json!({"id": format!("ch_{}", intent["id"].as_str().unwrap()), "object": "charge", "amount": intent["amount"],
            "amount_captured": intent["amount_received"], "amount_refunded": refunded, "currency": intent["currency"],
            "captured": intent["status"] == "succeeded", "payment_intent": intent["id"], "metadata": intent["metadata"],
            "livemode": false})
    }

    /// The buyer pays with a good card.
    pub fn authorize(&mut self, intent: &str) {
        let one = self.intents.get_mut(intent).unwrap();
        assert_eq!(one["status"], "requires_payment_method");
        one["status"] = json!("requires_capture");
        one["amount_capturable"] = one["amount"].clone();
        let one = one.clone();
        self.tell("payment_intent.amount_capturable_updated", &one);
    }

    /// The buyer tries one that is declined.
    pub fn decline(&mut self, intent: &str) {
        let one = self.of(intent);
        self.tell("payment_intent.payment_failed", &one);
    }

    fn capture(&mut self, intent: &str, amount: u64) -> (u16, Value) {
        let Some(one) = self.intents.get_mut(intent) else {
            return refuse(404, "invalid_request_error", "resource_missing");
        };
        if one["status"] != "requires_capture" || one["amount_capturable"].as_u64() < Some(amount) {
            return refuse(400, "invalid_request_error", "payment_intent_unexpected_state");
        }
        one["status"] = json!("succeeded");
        (one["amount_capturable"], one["amount_received"]) = (json!(0), json!(amount));
        self.done.push(format!("capture {amount}"));
        let one = self.of(intent);
        self.tell("payment_intent.succeeded", &one);
        let charge = self.charge(intent);
        self.tell("charge.captured", &charge);
        (200, one)
    }

    fn cancel(&mut self, intent: &str) -> (u16, Value) {
        let Some(one) = self.intents.get_mut(intent) else {
            return refuse(404, "invalid_request_error", "resource_missing");
        };
        if one["status"] == "succeeded" || one["status"] == "canceled" {
            return refuse(400, "invalid_request_error", "payment_intent_unexpected_state");
        }
        (one["status"], one["amount_capturable"]) = (json!("canceled"), json!(0));
        self.done.push("cancel".into());
        let one = self.of(intent);
        self.tell("payment_intent.canceled", &one);
        (200, one)
    }

    /// A refund, by the API or in the dashboard.
    pub fn refund(&mut self, intent: &str, amount: u64, metadata: Value) -> (u16, Value) {
        let Some(one) = self.intents.get(intent) else {
            return refuse(404, "invalid_request_error", "resource_missing");
        };
        let back = |refund: &&Value| refund["payment_intent"] == intent && refund["status"] != "failed";
        let there: u64 = self.refunds.iter().filter(back).map(|refund| refund["amount"].as_u64().unwrap()).sum();
        if one["status"] != "succeeded" || there + amount > one["amount_received"].as_u64().unwrap() {
            return refuse(400, "invalid_request_error", "charge_already_refunded");
        }
        let (currency, status) = (one["currency"].clone(), if self.slow_refunds { "pending" } else { "succeeded" });
        let (id, created) = (self.next("re"), self.clock());
        let refund = json!({"id": id, "object": "refund", "status": status, "amount": amount, "currency": currency,
            "created": created, "payment_intent": intent, "metadata": metadata});
        self.refunds.push(refund.clone());
        self.done.push(format!("refund {amount}"));
        let charge = self.charge(intent);
        self.tell("charge.refunded", &charge);
        self.tell("refund.created", &refund);
        (200, refund)
    }

    /// What was on its way arrives, or comes back.
    pub fn refund_becomes(&mut self, id: &str, status: &str) {
        let refund = self.refunds.iter_mut().find(|refund| refund["id"] == id).unwrap();
        refund["status"] = json!(status);
        let refund = refund.clone();
        self.tell(if status == "failed" { "refund.failed" } else { "refund.updated" }, &refund);
    }

    /// The buyer's bank wants the money back, or how that ended.
    pub fn dispute(&mut self, intent: &str, status: &str) {
        let one = self.of(intent);
        let created = self.disputes.first().map_or(json!(self.clock()), |dispute| dispute["created"].clone());
        let dispute = json!({"id": "dp_stub", "object": "dispute", "status": status, "amount": one["amount"],
            "created": created, "currency": one["currency"], "payment_intent": intent, "charge": format!("ch_{intent}")});
        self.disputes = vec![dispute.clone()];
        let over = status == "won" || status == "lost";
        self.tell(if over { "charge.dispute.closed" } else { "charge.dispute.created" }, &dispute);
    }

    fn open(&mut self, form: &Form) -> (u16, Value) {
        let right = form["capture_method"] == "manual" && form["payment_method_types[0]"] == "card";
        if form["currency"] == "xts" {
            return refuse(400, "invalid_request_error", "currency_not_supported");
        }
        let Some(amount) = form["amount"].parse::<u64>().ok().filter(|_| right) else {
            return refuse(400, "invalid_request_error", "parameter_invalid_integer");
        };
        let (id, created) = (self.next("pi"), self.clock());
        let intent = json!({"id": id, "object": "payment_intent", "status": "requires_payment_method", "amount": amount,
            "created": created,
            "amount_capturable": 0, "amount_received": 0, "currency": form["currency"], "livemode": false,
            "metadata": {"boxoffice_payment": form["metadata[boxoffice_payment]"]},
            "client_secret": format!("{id}_secret_of_the_buyer")});
        self.intents.insert(id, intent.clone());
        self.done.push(format!("open {amount} {}", form["currency"]));
        self.tell("payment_intent.created", &intent);
        (200, intent)
    }

    fn change(&mut self, path: &str, form: &Form) -> (u16, Value) {
        let segments: Vec<_> = path.split('/').skip(2).collect();
        match segments[..] {
            ["payment_intents"] => self.open(form),
            ["payment_intents", id, "capture"] => self.capture(id, form["amount_to_capture"].parse().unwrap()),
            ["payment_intents", id, "cancel"] => self.cancel(id),
            ["refunds"] => {
                let metadata = json!({"boxoffice_payment": form["metadata[boxoffice_payment]"],
                    "boxoffice_owed": form["metadata[boxoffice_owed]"]});
                self.refund(&form["payment_intent"], form["amount"].parse().unwrap(), metadata)
            }
            _ => refuse(404, "invalid_request_error", "resource_missing"),
        }
    }

    /// A page of those that are wanted, the last one first.
    fn page<'a>(&'a self, all: impl DoubleEndedIterator<Item = &'a Value>, query: &Form) -> (u16, Value) {
        let bound = |name: &str| query.get(name).map(|seconds| seconds.parse::<u64>().unwrap());
        let is_wanted = |item: &&Value| {
            let created = item["created"].as_u64().unwrap();
            query.get("payment_intent").is_none_or(|intent| item["payment_intent"] == **intent)
                && bound("created[gte]").is_none_or(|from| created >= from)
                && bound("created[lt]").is_none_or(|until| created < until)
        };
        let mut found: Vec<Value> = all.rev().filter(is_wanted).cloned().collect();
        if let Some(after) = query.get("starting_after") {
            let Some(place) = found.iter().position(|item| item["id"] == **after) else {
                return refuse(400, "invalid_request_error", "resource_missing");
            };
            found.drain(..=place);
        }
        let limit = query["limit"].parse::<usize>().unwrap();
        let limit = if self.page_max > 0 { limit.min(self.page_max) } else { limit };
        let more = found.len() > limit;
        found.truncate(limit);
        if query.get("expand[]").is_some_and(|what| what == "data.payment_intent") {
            for item in &mut found {
                let intent = item["payment_intent"].as_str().and_then(|id| self.intents.get(id));
                item["payment_intent"] = intent.cloned().unwrap_or_default();
            }
        }
        (200, json!({"object": "list", "data": found, "has_more": more}))
    }

    fn look(&self, path: &str, query: &Form) -> (u16, Value) {
        match path.split('/').skip(2).collect::<Vec<_>>()[..] {
            ["payment_intents", "search"] => {
                let wanted = |intent: &&Value| {
                    let of = intent["metadata"]["boxoffice_payment"].as_str().unwrap();
                    query["query"] == format!("metadata['boxoffice_payment']:'{of}'")
                };
                let found: Vec<_> = self.intents.values().filter(wanted).collect();
                (200, json!({"object": "list", "data": found, "has_more": false}))
            }
            ["payment_intents"] => self.page(self.intents.values(), query),
            ["payment_intents", id] => match self.intents.get(id) {
                Some(intent) => (200, intent.clone()),
                None => refuse(404, "invalid_request_error", "resource_missing"),
            },
            ["refunds"] => self.page(self.refunds.iter(), query),
            ["disputes"] => self.page(self.disputes.iter(), query),
            _ => refuse(404, "invalid_request_error", "resource_missing"),
        }
    }
}

impl provider_stub::State for Account {
    fn kills(&mut self) -> &mut Option<Kill> {
        &mut self.kills
    }

    fn answer(&mut self, request: &HttpRequest, body: &[u8]) -> (u16, Value, bool) {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let authorization = format!("Basic {}", base64(&format!("{SECRET_KEY}:")));
        if self.down {
            return (503, json!({"error": {"type": "api_error"}}), false);
        }
        if header("authorization") != authorization {
            return (401, json!({"error": {"type": "invalid_request_error"}}), false);
        }
        if request.method() == "GET" {
            let (status, answer) = self.look(request.path(), &form(request.query_string().as_bytes()));
            return (status, answer, false);
        }
        let asked = (request.path().to_owned(), form(body));
        let (key, now) = (header("idempotency-key").to_owned(), self.clock());
        assert!(!key.is_empty(), "everything is done under a key");
        if let Some(stored) = self.keys.get(&key).filter(|stored| now - stored.at < DAY_SECONDS) {
            if stored.asked != asked {
                let (status, answer) = refuse(400, "idempotency_error", "idempotency_key_in_use");
                return (status, answer, false);
            }
            return (stored.status, stored.answer.clone(), true);
        }
        let (status, answer) = if self.fails > 0 {
            self.fails -= 1;
            (500, json!({"error": {"type": "api_error"}}))
        } else {
            self.change(&asked.0, &asked.1)
        };
        self.keys.insert(key, Stored { at: now, asked, status, answer: answer.clone() });
        if self.loses > 0 {
            self.loses -= 1;
            return (504, Value::Null, false);
        }
        (status, answer, false)
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn form(body: &[u8]) -> Form {
    let text = format!("http://stub/?{}", std::str::from_utf8(body).unwrap());
    reqwest::Url::parse(&text).unwrap().query_pairs().into_owned().collect()
}

impl Stub {
    /// The only intent of a payment.
    pub fn intent(&self, provider_id: &str) -> String {
        self.with(|account| {
            let is_it = |intent: &&Value| intent["metadata"]["boxoffice_payment"] == provider_id;
            let all: Vec<_> = account.intents.values().filter(is_it).collect();
            assert_eq!(all.len(), 1, "{all:?}");
            all[0]["id"].as_str().unwrap().to_owned()
        })
    }
}

/// The header with which Stripe signs `body` now.
pub fn signature(secret: &str, body: &[u8]) -> String {
    signature_at(secret, wall(), body)
}

pub fn signature_at(secret: &str, seconds: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}
