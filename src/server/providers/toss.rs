//! Toss Payments: cards, in won.
//!
//! Its confirmation reserves and takes at once, so it is asked for only once the engine says that the money is to be taken: what
//! makes a payment authorised is the buyer's way back. Its webhooks of payments are not signed: they are hints, and what they are
//! about is looked up. What cannot be confirmed any more is dead by itself, there is nothing to be called off.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::super::Error;
use super::super::config::{self, value_error};
use super::api::{Answer, Api};
use super::{Adapter, Heard, LISTED_PAGES_MAX, Said, Saying, Unheard, payment_of, secret};
use crate::api::Provided;
use crate::domain::{Currency, Points, Timestamp};
use crate::payment::{Charge, Day, Doing, Fact, Failure, Kind, Opened, Order, Provider};

/// Where its API is.
const URL: &str = "https://api.tosspayments.com";
/// What its cards are charged in.
const CURRENCY: &str = "KRW";
/// How far its clock is ahead of UTC, in milliseconds.
const AHEAD_MS: u64 = 9 * 3_600_000;
/// Transactions on one page of a list.
const PAGE: &str = "100";
/// How long a payment key may be.
const KEY_BYTES_MAX: usize = 200;
/// After so long nothing comes of what was asked for before, and what waited to be confirmed has expired: that takes half an hour.
const SETTLED: Duration = Duration::from_secs(3_600);
/// So many hints are looked up at a time. Anybody can send some, and captures shall not wait for them.
const HINTS_MAX: usize = 4;

/// A shop at Toss Payments, in one of its modes.
pub struct Toss {
    api: Api,
    client_key: String,
    hints: Semaphore,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Paid {
    payment_key: String,
    order_id: String,
    status: String,
    total_amount: u64,
    currency: String,
    approved_at: Option<String>,
    cancels: Option<Vec<Cancel>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancel {
    transaction_key: String,
    cancel_amount: u64,
    cancel_reason: Option<String>,
    /// Of cards it is done at once, and older versions do not say so.
    cancel_status: Option<String>,
    canceled_at: Option<String>,
}

/// Money that was taken, or went back.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    transaction_key: String,
    payment_key: String,
    order_id: String,
    status: String,
    /// Of other currencies than won it may have decimals.
    amount: Value,
    currency: String,
    transaction_at: Option<String>,
}

/// What is sent to our webhook. Only what it is about is taken from it.
#[derive(Deserialize)]
struct Event {
    data: Option<Hint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hint {
    payment_key: Option<String>,
    order_id: Option<String>,
}

impl Toss {
    /// As configured; `key` is the name of a member in messages.
    ///
    /// # Errors
    /// A secret that is not one.
    pub fn new(one: &config::Provider, key: impl Fn(&str) -> String, runtime: &Handle) -> Result<Self, Error> {
        let secret_key = secret(&one.secret_key, &one.secret_key_file, &key("secret_key_file"))?;
        let is_of = |text: &str, mode: &str, kinds: [&str; 2]| {
            kinds.iter().any(|kind| text.starts_with(&format!("{mode}_{kind}_")))
        };
        let Some(mode) = ["live", "test"].into_iter().find(|mode| is_of(secret_key.reveal(), mode, ["sk", "gsk"]))
        else {
            let allowed = "a key of Toss Payments, live_sk_... or live_gsk_..., or test_... for no real money";
            return Err(value_error(&key("secret_key"), "***", allowed).into());
        };
        if !one.publishable_key.is_empty() && !is_of(&one.publishable_key, mode, ["ck", "gck"]) {
            let allowed = format!("of the same mode as the secret key, {mode}_ck_... or {mode}_gck_...");
            return Err(value_error(&key("publishable_key"), &one.publishable_key, allowed).into());
        }
        let api = Api::new(if one.url.is_empty() { URL } else { &one.url }, &secret_key, one, runtime)?;
        Ok(Self { api, client_key: one.publishable_key.clone(), hints: Semaphore::new(HINTS_MAX) })
    }

    async fn read(&self, path: &[&str], provider_id: &str) -> Result<Option<Paid>, String> {
        let answer = self.api.get(path, &[]).await?;
        match answer.status {
            404 => Ok(None),
            // Whoever names a charge may name one of another order.
            _ if answer.is_good() => Ok(Some(answer.parse::<Paid>()?).filter(|paid| paid.order_id == provider_id)),
            _ => Err(refusal(&answer)),
        }
    }

    /// The charge of this name, if Toss knows it and it is of this order.
    async fn paid(&self, reference: &str, provider_id: &str) -> Result<Option<Paid>, String> {
        if is_key(reference) { self.read(&["v1", "payments", reference], provider_id).await } else { Ok(None) }
    }

    async fn capture(&self, charge: &Charge) -> Result<Vec<Fact>, Failure> {
        if !is_key(&charge.reference) {
            return Err(Failure::Definite("the reference is of no payment of Toss".into()));
        }
        let body = json!({"paymentKey": charge.reference, "orderId": charge.provider_id, "amount": charge.amount});
        let answer = self.api.post_json(&["v1", "payments", "confirm"], &body, &charge.key).await;
        let answer = answer.map_err(Failure::Unknown)?;
        if answer.is_good() {
            return answer.parse().and_then(|paid: Paid| facts(&paid)).map_err(Failure::Unknown);
        }
        if !is_refused(&answer) && answer.status < 500 {
            return Err(Failure::Unknown(refusal(&answer)));
        }
        // It may have been taken long since, or can be no more. A charge is taken once, under whatever key.
        match self.paid(&charge.reference, &charge.provider_id).await.map_err(Failure::Unknown)? {
            Some(paid) if !is_open(&paid) => facts(&paid).map_err(Failure::Unknown),
            None if answer.status == 404 => Ok(vec![of(charge, Kind::Failed)]),
            _ => Err(Failure::Definite(refusal(&answer))),
        }
    }

    /// Nothing is taken that nobody asks to be confirmed, and that is not done any more. But it may have been asked for just now.
    async fn void(&self, charge: &Charge) -> Result<Vec<Fact>, Failure> {
        match self.paid(&charge.reference, &charge.provider_id).await.map_err(Failure::Unknown)? {
            Some(paid) if !is_open(&paid) => facts(&paid).map_err(Failure::Unknown),
            _ if charge.owed_for >= SETTLED => Ok(vec![of(charge, Kind::Voided)]),
            _ => Err(Failure::Unknown("the charge has not expired yet".into())),
        }
    }

    async fn refund(&self, charge: &Charge) -> Result<Vec<Fact>, Failure> {
        // Keys are forgotten: one that is there already is not made again under any.
        let owed = charge.key.rsplit_once('-').map_or(&*charge.key, |(owed, _)| owed);
        let Some(paid) = self.paid(&charge.reference, &charge.provider_id).await.map_err(Failure::Unknown)? else {
            return Err(Failure::Definite("Toss knows of no such payment of this order".into()));
        };
        let mut cancels = paid.cancels.iter().flatten();
        if cancels.any(|cancel| cancel.cancel_reason.as_deref() == Some(owed) && !cancel.is_undone()) {
            return facts(&paid).map_err(Failure::Unknown);
        }
        let body = json!({"cancelReason": owed, "cancelAmount": charge.amount});
        let path = ["v1", "payments", &charge.reference, "cancel"];
        let answer = self.api.post_json(&path, &body, &charge.key).await.map_err(Failure::Unknown)?;
        if answer.is_good() {
            return answer.parse().and_then(|paid: Paid| facts(&paid)).map_err(Failure::Unknown);
        }
        // What has failed there may be answered like this for as long as the key is known.
        let is_certain = is_refused(&answer) || (answer.status >= 500 && charge.owed_for >= SETTLED);
        Err(if is_certain { Failure::Definite } else { Failure::Unknown }(refusal(&answer)))
    }

    async fn look_up(&self, provider_id: &str) -> Result<Vec<Fact>, String> {
        let paid = self.read(&["v1", "payments", "orders", provider_id], provider_id).await?;
        // What nobody asks to be confirmed takes nothing, so it is none.
        paid.filter(|paid| !is_open(paid)).map_or_else(|| Ok(Vec::new()), |paid| facts(&paid))
    }

    /// The money that moved on a day. Its lists are by seconds, and by Korea's clock.
    async fn list_day(&self, day: Day) -> Result<Vec<Fact>, String> {
        let seoul =
            |at: Timestamp| at.plus_millis(AHEAD_MS).to_string().split('.').next().unwrap_or_default().to_owned();
        let (begins, last) = (seoul(day.begins()), seoul(day.ends().minus_millis(1_000)));
        let (mut facts, mut after) = (Vec::new(), None::<String>);
        for _ in 0..LISTED_PAGES_MAX {
            let mut query = vec![("startDate", &*begins), ("endDate", &last), ("limit", PAGE)];
            query.extend(after.as_deref().map(|after| ("startingAfter", after)));
            let answer = self.api.get(&["v1", "transactions"], &query).await?;
            if !answer.is_good() {
                return Err(refusal(&answer));
            }
            let page: Vec<Transaction> = answer.parse()?;
            // How many may be on a page is not sure: the one after the last is empty.
            let Some(end) = page.last().map(|one| one.transaction_key.clone()) else { return Ok(facts) };
            after = Some(end);
            for one in page.iter().filter(|one| payment_of(&one.order_id).is_some()) {
                facts.extend(moved(one)?);
            }
        }
        Err("Toss lists more than anybody has done".into())
    }

    async fn came_back(&self, by: &Provided, reference: &str, amount: Points) -> Result<Vec<Fact>, Unheard> {
        let refused = || Unheard::Refused("Toss knows of no such charge of this order and amount.".into());
        if !is_key(reference) || by.currency.as_str() != CURRENCY {
            return Err(refused());
        }
        let answer = self.api.get(&["v1", "payments", reference], &[]).await.map_err(Unheard::Unreachable)?;
        if answer.status == 404 {
            // What is looked up are charges that were taken: of one that waits for that it need not know. If there is none, it says
            // so as soon as it is asked to take it.
            let (kind, reference, currency) = (Kind::Authorized, reference.to_owned(), by.currency);
            return Ok(vec![Fact { kind, reference, id: None, amount, currency, at: None, reason: None }]);
        }
        if !answer.is_good() {
            return Err(Unheard::Unreachable(refusal(&answer)));
        }
        let paid: Paid = answer.parse().map_err(Unheard::Unreachable)?;
        if paid.order_id != by.provider_id || paid.total_amount != amount.get() {
            return Err(refused());
        }
        facts(&paid).map_err(Unheard::Refused)
    }

    async fn follow(&self, provider_id: &str, reference: &str) -> Result<Vec<Fact>, Unheard> {
        let busy = |_| Unheard::Unreachable("others have sent too many hints".into());
        let _turn = self.hints.try_acquire().map_err(busy)?;
        let paid = self.paid(reference, provider_id).await.map_err(Unheard::Unreachable)?;
        // That it can be taken says its buyer, who comes back.
        let paid = paid.filter(|paid| !is_open(paid));
        paid.map_or_else(|| Ok(Vec::new()), |paid| facts(&paid).map_err(Unheard::Refused))
    }
}

impl Cancel {
    /// Nothing went back after all.
    fn is_undone(&self) -> bool {
        self.cancel_status.as_deref() == Some("ABORTED")
    }
}

impl Provider for Toss {
    fn begin<'a>(&'a self, _: &'a Order) -> Doing<'a, Opened> {
        Box::pin(async { Err(Failure::Definite("at Toss the buyer's page opens the charge".into())) })
    }

    fn capture<'a>(&'a self, charge: &'a Charge) -> Doing<'a, Vec<Fact>> {
        Box::pin(self.capture(charge))
    }

    fn void<'a>(&'a self, charge: &'a Charge) -> Doing<'a, Vec<Fact>> {
        Box::pin(self.void(charge))
    }

    fn refund<'a>(&'a self, charge: &'a Charge) -> Doing<'a, Vec<Fact>> {
        Box::pin(self.refund(charge))
    }

    fn look_up<'a>(&'a self, provider_id: &'a str) -> Doing<'a, Vec<Fact>> {
        Box::pin(async { self.look_up(provider_id).await.map_err(Failure::Unknown) })
    }

    fn list(&self, day: Day) -> Option<Doing<'_, Vec<Fact>>> {
        Some(Box::pin(async move { self.list_day(day).await.map_err(Failure::Unknown) }))
    }
}

impl Adapter for Toss {
    /// Events of payments have no signature.
    fn signature_header(&self) -> Option<&'static str> {
        None
    }

    fn hear<'a>(&'a self, _: &'a str, body: &'a [u8]) -> Saying<'a, Vec<Heard>> {
        Box::pin(async {
            let event: Event = serde_json::from_slice(body)
                .map_err(|error| Unheard::Refused(format!("The body is no event of Toss: {error}")))?;
            let heard = event.data.and_then(|hint| Some((hint.order_id?, hint.payment_key?)));
            Ok(Vec::from_iter(heard.map(|(provider_id, key)| Heard { provider_id, said: Said::About(key) })))
        })
    }

    fn follow<'a>(&'a self, provider_id: &'a str, reference: &'a str) -> Saying<'a, Vec<Fact>> {
        Box::pin(self.follow(provider_id, reference))
    }

    fn page(&self, by: &Provided, amount: Points) -> Option<Value> {
        let mut page = json!({"order_id": by.provider_id, "amount": amount, "currency": by.currency});
        if !self.client_key.is_empty() {
            page["client_key"] = json!(self.client_key);
        }
        Some(page).filter(|_| by.currency.as_str() == CURRENCY)
    }

    fn came_back<'a>(&'a self, by: &'a Provided, reference: &'a str, amount: Points) -> Saying<'a, Vec<Fact>> {
        Box::pin(self.came_back(by, reference, amount))
    }
}

/// Whether `key` can be a payment key: a buyer's page has told it.
fn is_key(key: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// Whether nothing is taken yet, but may be.
fn is_open(paid: &Paid) -> bool {
    matches!(&*paid.status, "READY" | "IN_PROGRESS")
}

/// What becomes of a charge of which Toss says nothing.
fn of(charge: &Charge, kind: Kind) -> Fact {
    let Charge { reference, amount, currency, .. } = charge;
    let reason = Some("Toss will not take it any more".into());
    Fact { kind, reference: reference.clone(), id: None, amount: *amount, currency: *currency, at: None, reason }
}

/// All that is known of a charge.
fn facts(paid: &Paid) -> Result<Vec<Fact>, String> {
    let fact = |kind, id: Option<&str>, amount, at: &Option<String>| {
        let fact = told(kind, &paid.payment_key, amount, &paid.currency, at)?;
        Ok::<_, String>(Fact { id: id.map(str::to_owned), ..fact })
    };
    let kind = match &*paid.status {
        "READY" => Kind::Opened,
        "IN_PROGRESS" => Kind::Authorized,
        "DONE" | "CANCELED" | "PARTIAL_CANCELED" => Kind::Captured,
        "ABORTED" | "EXPIRED" => Kind::Failed,
        _ => return Ok(Vec::new()),
    };
    let mut facts = vec![fact(kind, None, paid.total_amount, &paid.approved_at)?];
    for cancel in paid.cancels.iter().flatten() {
        if cancel.cancel_status.as_deref().is_none_or(|status| status == "DONE") {
            let (key, amount) = (&cancel.transaction_key, cancel.cancel_amount);
            facts.push(fact(Kind::Refunded, Some(key), amount, &cancel.canceled_at)?);
        }
    }
    Ok(facts)
}

fn told(kind: Kind, reference: &str, amount: u64, currency: &str, at: &Option<String>) -> Result<Fact, String> {
    let currency: Currency = currency.parse().map_err(|_| "Toss names a currency that is none")?;
    let amount = Points::new(amount).ok_or("Toss tells an amount that cannot be")?;
    let (reference, at) = (reference.to_owned(), at.as_ref().and_then(|at| at.parse().ok()));
    Ok(Fact { kind, reference, id: None, amount, currency, at, reason: None })
}

/// What a transaction says, if money moved by it.
fn moved(one: &Transaction) -> Result<Option<Fact>, String> {
    let kind = match &*one.status {
        "DONE" => Kind::Captured,
        "CANCELED" | "PARTIAL_CANCELED" => Kind::Refunded,
        _ => return Ok(None),
    };
    // What went back may be below zero.
    let amount = one.amount.as_i64().ok_or("Toss tells an amount that cannot be")?.unsigned_abs();
    told(kind, &one.payment_key, amount, &one.currency, &one.transaction_at).map(Some)
}

/// Whether what was asked for is certain not to have been done by this request.
fn is_refused(answer: &Answer) -> bool {
    matches!(answer.status, 400 | 403 | 404)
}

/// A refusal in words, of which none are Toss's: those may repeat what was sent.
fn refusal(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Refused {
        code: String,
    }
    let is_word = |code: &String| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let code = answer.parse::<Refused>().ok().map(|refused| refused.code).filter(is_word);
    format!("Toss answers {} {}", answer.status, code.unwrap_or_default())
}
