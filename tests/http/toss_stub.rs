//! Toss Payments by its published contract, as far as it is asked: charges that wait to be confirmed, confirmations, cancellations
//! in part, keys and webhooks without signatures.
//!
//! A key stands for an address, whatever is sent there; what was answered under it is given again, failures too, for 15 days.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::HttpRequest;
use boxoffice::Timestamp;
use serde_json::{Value, json};

use crate::provider_kill::Kill;
use crate::provider_stub;

pub const SECRET_KEY: &str = "test_sk_of_the_stub";
const KEY_SECONDS: u64 = 15 * 86_400;

#[derive(Default)]
pub struct Shop {
    pub charges: BTreeMap<String, Value>,
    /// What was taken and went back, the oldest first.
    pub transactions: Vec<Value>,
    /// What was told to be done, in this order, but for what was answered from a key.
    pub done: Vec<String>,
    /// Webhooks that were not taken yet.
    pub events: Vec<Value>,
    /// Charges are not looked up before they were taken.
    pub hides_open: bool,
    /// Cards are declined.
    pub declines: bool,
    /// So many of the next answers are lost, after what was asked for was done.
    pub loses: usize,
    /// So many of the next requests that change something fail, and their keys have stored that.
    pub fails: usize,
    /// Nothing is answered.
    pub down: bool,
    /// By how many seconds its clock is ahead.
    pub ahead: u64,
    /// What its clock shows, in seconds, if not the time.
    pub now: Option<u64>,
    /// So many items are on a page at the most, if this is no 0.
    pub page_max: usize,
    /// Which process is killed, and at which of the next requests.
    pub kills: Option<Kill>,
    /// Requests that only look.
    pub looks: usize,
    keys: HashMap<(String, String), (u64, u16, Value)>,
    made: u64,
}

pub type Stub = provider_stub::Stub<Shop>;

fn refuse(status: u16, code: &str) -> (u16, Value) {
    (status, json!({"code": code, "message": "the stub will not"}))
}

impl Shop {
    fn next(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}_stub{}", self.made)
    }

    fn clock(&self) -> u64 {
        let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.now.unwrap_or_else(wall) + self.ahead
    }

    /// The time in Korea.
    fn time(&self) -> String {
        let time = Timestamp::from_millis((self.clock() + 9 * 3_600) * 1_000).to_string();
        format!("{}+09:00", time.split('.').next().unwrap())
    }

    /// Lists that money moved.
    pub fn transact(&mut self, key: &str, status: &str, amount: i64) {
        let (transaction, at) = (self.next("txrd"), self.time());
        let charge = &self.charges[key];
        self.transactions.push(json!({"mId": "tvivarepublica", "transactionKey": transaction, "paymentKey": key,
            "orderId": charge["orderId"], "currency": charge["currency"], "method": "카드", "customerKey": null,
            "useEscrow": false, "amount": amount, "status": status, "transactionAt": at}));
    }

    /// A page of what moved within bounds, the last second included.
    fn list(&self, query: &BTreeMap<String, String>) -> (u16, Value) {
        let is_wanted = |one: &&Value| {
            let at = one["transactionAt"].as_str().unwrap().split('+').next().unwrap();
            (&*query["startDate"]..=&*query["endDate"]).contains(&at)
        };
        let mut found: Vec<_> = self.transactions.iter().filter(is_wanted).cloned().collect();
        if let Some(after) = query.get("startingAfter") {
            let Some(place) = found.iter().position(|one| one["transactionKey"] == **after) else {
                return refuse(400, "INVALID_TRANSACTION_KEY");
            };
            found.drain(..=place);
        }
        let limit = query["limit"].parse::<usize>().unwrap();
        found.truncate(if self.page_max > 0 { limit.min(self.page_max) } else { limit });
        (200, json!(found))
    }

    fn tell(&mut self, key: &str) {
        let charge = self.charges[key].clone();
        self.events.push(
            json!({"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": "2026-11-29T10:00:00.000000", "data": charge}),
        );
    }

    fn set(&mut self, key: &str, status: &str) {
        self.charges.get_mut(key).unwrap()["status"] = json!(status);
        self.tell(key);
    }

    /// The buyer has shown who it is, and is sent back with the key.
    pub fn authenticate(&mut self, order: &str, amount: u64) -> String {
        let key = self.next("tviva");
        let charge = json!({"mId": "tvivarepublica", "version": "2022-11-16", "paymentKey": key, "orderId": order,
            "status": "IN_PROGRESS", "method": "카드", "type": "NORMAL", "currency": "KRW", "totalAmount": amount,
            "balanceAmount": amount, "isPartialCancelable": true, "cancels": null, "card": null, "failure": null});
        self.charges.insert(key.clone(), charge);
        self.tell(&key);
        key
    }

    /// Half an hour is over.
    pub fn expire(&mut self, key: &str) {
        self.set(key, "EXPIRED");
    }

    fn confirm(&mut self, body: &Value) -> (u16, Value) {
        let key = body["paymentKey"].as_str().unwrap().to_owned();
        let Some(charge) = self.charges.get(&key) else { return refuse(404, "NOT_FOUND_PAYMENT_SESSION") };
        if charge["orderId"] != body["orderId"] || charge["totalAmount"] != body["amount"] {
            return refuse(400, "INVALID_REQUEST");
        }
        match charge["status"].as_str().unwrap() {
            "IN_PROGRESS" if self.declines => {
                self.set(&key, "ABORTED");
                refuse(403, "REJECT_CARD_COMPANY")
            }
            "IN_PROGRESS" => {
                self.done.push(format!("confirm {}", body["amount"]));
                self.charges.get_mut(&key).unwrap()["approvedAt"] = json!(self.time());
                self.transact(&key, "DONE", body["amount"].as_i64().unwrap());
                self.set(&key, "DONE");
                (200, self.charges[&key].clone())
            }
            "EXPIRED" => refuse(404, "NOT_FOUND_PAYMENT_SESSION"),
            _ => refuse(400, "ALREADY_PROCESSED_PAYMENT"),
        }
    }

    /// A cancellation, by the API or by hand.
    pub fn cancel(&mut self, key: &str, amount: u64, reason: &str) -> (u16, Value) {
        let (transaction, at) = (self.next("cancel"), self.time());
        let Some(charge) = self.charges.get_mut(key) else { return refuse(404, "NOT_FOUND_PAYMENT") };
        let balance = charge["balanceAmount"].as_u64().unwrap();
        match charge["status"].as_str().unwrap() {
            "DONE" | "PARTIAL_CANCELED" if amount <= balance => {}
            "DONE" | "PARTIAL_CANCELED" => return refuse(403, "NOT_CANCELABLE_AMOUNT"),
            "CANCELED" => return refuse(400, "ALREADY_CANCELED_PAYMENT"),
            _ => return refuse(403, "NOT_CANCELABLE_PAYMENT"),
        }
        charge["balanceAmount"] = json!(balance - amount);
        let cancel = json!({"cancelAmount": amount, "cancelReason": reason, "transactionKey": transaction,
            "refundableAmount": balance - amount, "cancelStatus": "DONE", "canceledAt": at});
        match charge["cancels"].as_array_mut() {
            Some(cancels) => cancels.push(cancel),
            None => charge["cancels"] = json!([cancel]),
        }
        self.done.push(format!("cancel {amount}"));
        let back = i64::try_from(amount).unwrap();
        // Whether it is below zero is not described: it is, or is not.
        let (status, moved) = if amount == balance { ("CANCELED", back) } else { ("PARTIAL_CANCELED", -back) };
        self.transact(key, status, moved);
        self.set(key, status);
        (200, self.charges[key].clone())
    }

    fn look(&mut self, path: &[&str]) -> (u16, Value) {
        self.looks += 1;
        let found = match path {
            ["orders", order] => self.charges.values().rfind(|charge| charge["orderId"] == *order),
            [key] => self.charges.get(*key),
            _ => None,
        };
        match found {
            Some(charge) if !(self.hides_open && charge["status"] == "IN_PROGRESS") => (200, charge.clone()),
            _ => refuse(404, "NOT_FOUND_PAYMENT"),
        }
    }

    fn change(&mut self, path: &[&str], body: &Value) -> (u16, Value) {
        match path {
            ["confirm"] => self.confirm(body),
            [key, "cancel"] => {
                self.cancel(key, body["cancelAmount"].as_u64().unwrap(), body["cancelReason"].as_str().unwrap())
            }
            _ => refuse(404, "NOT_FOUND"),
        }
    }

    fn answer_one(&mut self, request: &HttpRequest, body: &[u8]) -> (u16, Value) {
        use base64::Engine as _;
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{SECRET_KEY}:"));
        if self.down {
            return refuse(503, "FAILED_INTERNAL_SYSTEM_PROCESSING");
        }
        if header("authorization") != format!("Basic {basic}") {
            return refuse(401, "UNAUTHORIZED_KEY");
        }
        if request.path() == "/v1/transactions" {
            let url = format!("http://stub/?{}", request.query_string());
            return self.list(&reqwest::Url::parse(&url).unwrap().query_pairs().into_owned().collect());
        }
        let Some(path) = request.path().strip_prefix("/v1/payments/") else { return refuse(404, "NOT_FOUND") };
        let path: Vec<_> = path.split('/').collect();
        if request.method() == "GET" {
            return self.look(&path);
        }
        assert_eq!(header("content-type"), "application/json");
        let now = self.clock();
        let key = (request.path().to_owned(), header("idempotency-key").to_owned());
        assert!((1..=300).contains(&key.1.len()), "everything is done under a key");
        if let Some((_, status, answer)) = self.keys.get(&key).filter(|(at, ..)| now - at < KEY_SECONDS) {
            return (*status, answer.clone());
        }
        let (status, answer) = if self.fails > 0 {
            self.fails -= 1;
            refuse(500, "FAILED_INTERNAL_SYSTEM_PROCESSING")
        } else {
            self.change(&path, &serde_json::from_slice(body).unwrap())
        };
        self.keys.insert(key, (now, status, answer.clone()));
        if self.loses > 0 {
            self.loses -= 1;
            return (504, Value::Null);
        }
        (status, answer)
    }
}

impl provider_stub::State for Shop {
    fn kills(&mut self) -> &mut Option<Kill> {
        &mut self.kills
    }

    fn answer(&mut self, request: &HttpRequest, body: &[u8]) -> (u16, Value, bool) {
        let (status, answer) = self.answer_one(request, body);
        (status, answer, false)
    }
}
