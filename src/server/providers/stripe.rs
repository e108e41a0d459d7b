//! Stripe: PaymentIntents that are captured by hand.
//!
//! An intent is ours if its metadata say so; by them payments are looked up. A state of an intent, a refund or a dispute is the
//! same fact whoever tells it: an answer, a webhook or a look-up. So neither order nor repetition matters.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::runtime::Handle;

use super::super::Error;
use super::super::config::{self, Secret, value_error};
use super::api::{Answer, Api};
use super::{Adapter, Heard, LISTED_PAGES_MAX, Said, Saying, Unheard, secret};
use crate::domain::{Currency, Points, Timestamp};
use crate::payment::{Charge, Day, Doing, Fact, Failure, Kind, Opened, Order, Provider};

/// Where its API is.
const URL: &str = "https://api.stripe.com";
/// The version of the API that this is written for: from this one on an authorisation that is let go is no refund.
const VERSION: &str = "2025-03-31.basil";
/// What stands in the metadata of intents and refunds: what the payment is called at providers.
const PAYMENT: &str = "metadata[boxoffice_payment]";
/// And of refunds: which of what is owed it is.
const OWED: &str = "metadata[boxoffice_owed]";
/// So many keys are tried to open an intent, if Stripe has stored that it failed under those before.
const KEYS_MAX: u32 = 4;
/// Items of one page of a list.
const PAGE: &str = "100";
/// So many pages are read: more than there are facts of one payment.
const PAGES_MAX: usize = 10;
/// So many signatures are looked at.
const SIGNATURES_MAX: usize = 16;

/// An account at Stripe, in one of its modes.
pub struct Stripe {
    api: Api,
    /// Money is real.
    live: bool,
    publishable_key: String,
    webhook_secrets: Vec<Secret>,
    tolerance: Duration,
}

#[derive(Deserialize)]
struct Intent {
    id: String,
    status: String,
    amount: u64,
    amount_capturable: Option<u64>,
    amount_received: Option<u64>,
    currency: String,
    #[serde(default)]
    livemode: bool,
    metadata: Option<Metadata>,
    client_secret: Option<String>,
}

#[derive(Deserialize, Default)]
struct Metadata {
    boxoffice_payment: Option<String>,
    boxoffice_owed: Option<String>,
}

/// A charge of an intent, which has the intent's metadata.
#[derive(Deserialize)]
struct CardCharge {
    amount: u64,
    amount_captured: Option<u64>,
    #[serde(default)]
    amount_refunded: u64,
    #[serde(default)]
    captured: bool,
    currency: String,
    payment_intent: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Refund {
    id: String,
    status: Option<String>,
    amount: u64,
    currency: String,
    created: Option<u64>,
    payment_intent: Option<OfIntent>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Dispute {
    id: String,
    status: String,
    amount: u64,
    currency: String,
    created: Option<u64>,
    payment_intent: Option<OfIntent>,
}

/// An intent by its name, or whole, if that was asked for.
#[derive(Deserialize)]
#[serde(untagged)]
enum OfIntent {
    Name(String),
    Whole(Box<Intent>),
}

impl OfIntent {
    fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Whole(intent) => &intent.id,
        }
    }
}

/// What is sent to our webhook. Of its kinds nothing is known: what it is about says where that stands.
#[derive(Deserialize)]
struct Event {
    livemode: bool,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Value,
}

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    #[serde(default)]
    has_more: bool,
    next_page: Option<String>,
}

/// What there are lists of.
trait Listed: serde::de::DeserializeOwned + Send {
    const PATH: &'static str;
    fn id(&self) -> &str;
}

impl Listed for Intent {
    const PATH: &'static str = "payment_intents";
    fn id(&self) -> &str {
        &self.id
    }
}

impl Listed for Refund {
    const PATH: &'static str = "refunds";
    fn id(&self) -> &str {
        &self.id
    }
}

impl Listed for Dispute {
    const PATH: &'static str = "disputes";
    fn id(&self) -> &str {
        &self.id
    }
}

impl Stripe {
    /// As configured; `key` is the name of a member in messages.
    ///
    /// # Errors
    /// A secret that is not one.
    pub fn new(one: &config::Provider, key: impl Fn(&str) -> String, runtime: &Handle) -> Result<Self, Error> {
        let secret_key = secret(&one.secret_key, &one.secret_key_file, &key("secret_key_file"))?;
        let of_mode =
            |mode: &str| ["sk", "rk"].iter().any(|kind| secret_key.reveal().starts_with(&format!("{kind}_{mode}_")));
        let live = of_mode("live");
        if !live && !of_mode("test") {
            let allowed =
                "a key of Stripe, sk_live_... or rk_live_..., or sk_test_... or rk_test_... for no real money";
            return Err(value_error(&key("secret_key"), "***", allowed).into());
        }
        let page_mode = if live { "pk_live_" } else { "pk_test_" };
        if !one.publishable_key.is_empty() && !one.publishable_key.starts_with(page_mode) {
            let allowed = format!("of the same mode as the secret key, {page_mode}...");
            return Err(value_error(&key("publishable_key"), &one.publishable_key, allowed).into());
        }
        let mut webhook_secrets = one.webhook_secrets.clone();
        for file in &one.webhook_secret_files {
            webhook_secrets.push(secret(&Secret::default(), file, &key("webhook_secret_files"))?);
        }
        if webhook_secrets.iter().any(|secret| secret.reveal().is_empty()) {
            return Err(value_error(&key("webhook_secrets"), "***", "a list of secrets, none of them empty").into());
        }
        let url = if one.url.is_empty() { URL } else { &one.url };
        let api = Api::new(url, &secret_key, one, runtime)?.with_header("stripe-version", VERSION);
        let publishable_key = one.publishable_key.clone();
        Ok(Self { api, live, publishable_key, webhook_secrets, tolerance: one.webhook_tolerance.0 })
    }

    /// Money of the other mode is no money.
    fn is_ours(&self, intent: &Intent) -> bool {
        intent.livemode == self.live
    }

    async fn intent(&self, reference: &str) -> Result<Option<Intent>, String> {
        if !is_intent(reference) {
            return Ok(None);
        }
        let answer = self.api.get(&["v1", "payment_intents", reference], &[]).await?;
        match answer.status {
            404 => Ok(None),
            _ if answer.is_good() => answer.parse().map(Some).map(|intent| intent.filter(|one| self.is_ours(one))),
            _ => Err(refusal(&answer)),
        }
    }

    /// Reads a list to its end, page by page.
    async fn each<T: Listed>(
        &self,
        wanted: &[(&str, &str)],
        pages_max: usize,
        mut take: impl FnMut(T) -> Result<(), String> + Send,
    ) -> Result<(), String> {
        let mut last: Option<String> = None;
        for _ in 0..pages_max {
            let mut query = wanted.to_vec();
            query.push(("limit", PAGE));
            query.extend(last.as_deref().map(|last| ("starting_after", last)));
            let answer = self.api.get(&["v1", T::PATH], &query).await?;
            if !answer.is_good() {
                return Err(refusal(&answer));
            }
            let page: Page<T> = answer.parse()?;
            last = page.data.last().filter(|_| page.has_more).map(|item| item.id().to_owned());
            page.data.into_iter().try_for_each(&mut take)?;
            if last.is_none() {
                return Ok(());
            }
        }
        Err("Stripe lists more than anybody has done".into())
    }

    /// All of what belongs to an intent.
    async fn list<T: Listed>(&self, intent: &str) -> Result<Vec<T>, String> {
        let mut all = Vec::new();
        let take = |one| {
            all.push(one);
            Ok(())
        };
        self.each(&[("payment_intent", intent)], PAGES_MAX, take).await?;
        Ok(all)
    }

    /// The money that moved on a day. When an intent was captured is not said: so those of the day before are listed with it, which
    /// are known if they were heard of. Refunds and disputes are of the day on which they were made, whatever became of them.
    async fn list_day(&self, day: Day) -> Result<Vec<Fact>, String> {
        let seconds = |at: Timestamp| (at.as_millis() / 1_000).to_string();
        let [before, begins, ends] = [day.before().begins(), day.begins(), day.ends()].map(seconds);
        let opened = [("created[gte]", &*before), ("created[lt]", &ends)];
        let made = [("created[gte]", &*begins), ("created[lt]", &ends), ("expand[]", "data.payment_intent")];
        let mut facts = Vec::new();
        let take = |intent: Intent| {
            if self.is_charged(&intent) {
                facts.extend(state(&intent)?);
            }
            Ok(())
        };
        self.each(&opened, LISTED_PAGES_MAX, take).await?;
        let charged = |of: &Option<OfIntent>| match of {
            Some(OfIntent::Whole(intent)) if self.is_charged(intent) => Some(intent.id.clone()),
            _ => None,
        };
        let take = |refund: Refund| {
            if let Some(reference) = charged(&refund.payment_intent) {
                facts.extend(refunded(&reference, &refund)?);
            }
            Ok(())
        };
        self.each(&made, LISTED_PAGES_MAX, take).await?;
        let take = |dispute: Dispute| {
            if let Some(reference) = charged(&dispute.payment_intent) {
                facts.extend(disputed(&reference, &dispute)?);
            }
            Ok(())
        };
        self.each(&made, LISTED_PAGES_MAX, take).await?;
        Ok(facts)
    }

    /// Whether money was taken, of the mode that is configured, for a payment of a server like this.
    fn is_charged(&self, intent: &Intent) -> bool {
        self.is_ours(intent) && intent.status == "succeeded" && ours(intent.metadata.as_ref()).is_some()
    }

    /// Everything that is known of an intent.
    async fn all_of(&self, intent: &Intent) -> Result<Vec<Fact>, String> {
        let mut facts = vec![state(intent)?.map_or_else(|| fact(Kind::Opened, intent, None, intent.amount), Ok)?];
        if intent.status == "succeeded" {
            for refund in self.list::<Refund>(&intent.id).await? {
                facts.extend(refunded(&intent.id, &refund)?);
            }
            for dispute in self.list::<Dispute>(&intent.id).await? {
                facts.extend(disputed(&intent.id, &dispute)?);
            }
        }
        Ok(facts)
    }

    /// Has the state of an intent changed. What cannot be done may have been done long since.
    async fn change(&self, charge: &Charge, verb: &str, fields: &[(&str, &str)]) -> Result<Vec<Fact>, Failure> {
        if !is_intent(&charge.reference) {
            return Err(Failure::Definite("the reference is of no intent of Stripe".into()));
        }
        let path = ["v1", "payment_intents", &charge.reference, verb];
        let answer = self.api.post_form(&path, fields, &charge.key).await.map_err(Failure::Unknown)?;
        if answer.is_good() {
            let intent: Intent = answer.parse().map_err(Failure::Unknown)?;
            return Ok(state(&intent).map_err(Failure::Unknown)?.into_iter().collect());
        }
        let failure = failure(&answer);
        let Failure::Definite(_) = &failure else { return Err(failure) };
        match self.intent(&charge.reference).await.map_err(Failure::Unknown)? {
            Some(intent) if matches!(&*intent.status, "succeeded" | "canceled") => {
                self.all_of(&intent).await.map_err(Failure::Unknown)
            }
            _ => Err(failure),
        }
    }

    async fn begin(&self, order: &Order) -> Result<Opened, Failure> {
        let amount = to_stripe(order.currency, order.amount).map_err(Failure::Definite)?.to_string();
        let currency = order.currency.as_str().to_lowercase();
        let fields = [
            ("amount", &*amount),
            ("currency", &currency),
            ("capture_method", "manual"),
            ("payment_method_types[0]", "card"),
            (PAYMENT, &order.provider_id),
        ];
        let mut tried = Failure::Unknown("nothing was tried".into());
        for n in 1..=KEYS_MAX {
            // What was opened under a key whose answer is lost has been shown to nobody, so nobody can pay it.
            let key = if n == 1 { order.key.clone() } else { format!("{}-{n}", order.key) };
            let answer = self.api.post_form(&["v1", "payment_intents"], &fields, &key).await;
            let answer = answer.map_err(Failure::Unknown)?;
            if answer.is_good() {
                let Intent { id, client_secret, livemode, .. } = answer.parse().map_err(Failure::Unknown)?;
                if livemode != self.live {
                    return Err(Failure::Definite("Stripe has opened an intent of the other mode".into()));
                }
                let secret = client_secret.ok_or_else(|| Failure::Unknown("the intent has no client secret".into()))?;
                let mut checkout = json!({"client_secret": secret});
                if !self.publishable_key.is_empty() {
                    checkout["publishable_key"] = json!(self.publishable_key);
                }
                return Ok(Opened { reference: id, checkout: checkout.to_string() });
            }
            tried = failure(&answer);
            if !(answer.replayed && answer.status >= 500) {
                break;
            }
        }
        Err(tried)
    }

    async fn refund(&self, charge: &Charge) -> Result<Vec<Fact>, Failure> {
        if !is_intent(&charge.reference) {
            return Err(Failure::Definite("the reference is of no intent of Stripe".into()));
        }
        // Keys are forgotten, and a refund may take days: one that is there already is not made again under any.
        let owed = charge.key.rsplit_once('-').map_or(&*charge.key, |(owed, _)| owed);
        let there = self.list::<Refund>(&charge.reference).await.map_err(Failure::Unknown)?;
        let is_it =
            |refund: &&Refund| refund.metadata.as_ref().and_then(|of| of.boxoffice_owed.as_deref()) == Some(owed);
        if let Some(refund) = there.iter().find(is_it) {
            return refunded(&charge.reference, refund).map_err(Failure::Unknown);
        }
        let amount = to_stripe(charge.currency, charge.amount).map_err(Failure::Definite)?.to_string();
        let fields =
            [("payment_intent", &*charge.reference), ("amount", &amount), (PAYMENT, &charge.provider_id), (OWED, owed)];
        let answer = self.api.post_form(&["v1", "refunds"], &fields, &charge.key).await.map_err(Failure::Unknown)?;
        if !answer.is_good() {
            return Err(failure(&answer));
        }
        let refund: Refund = answer.parse().map_err(Failure::Unknown)?;
        refunded(&charge.reference, &refund).map_err(Failure::Unknown)
    }

    async fn look_up(&self, provider_id: &str) -> Result<Vec<Fact>, String> {
        let query = format!("metadata['boxoffice_payment']:'{provider_id}'");
        let (mut facts, mut next) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut fields = vec![("query", &*query), ("limit", PAGE)];
            fields.extend(next.as_deref().map(|next| ("page", next)));
            let answer = self.api.get(&["v1", "payment_intents", "search"], &fields).await?;
            if !answer.is_good() {
                return Err(refusal(&answer));
            }
            let page: Page<Intent> = answer.parse()?;
            for intent in page.data.iter().filter(|intent| self.is_ours(intent)) {
                facts.extend(self.all_of(intent).await?);
            }
            match page.next_page.filter(|_| page.has_more) {
                Some(page) => next = Some(page),
                None => return Ok(facts),
            }
        }
        Err("Stripe finds more than anybody has opened".into())
    }

    async fn hear(&self, signature: &str, body: &[u8]) -> Result<Vec<Heard>, Unheard> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        check_signature(&self.webhook_secrets, signature, body, now.as_secs(), self.tolerance)
            .map_err(Unheard::Refused)?;
        let refused = |error: serde_json::Error| Unheard::Refused(format!("The body is no event of Stripe: {error}"));
        let event: Event = serde_json::from_slice(body).map_err(refused)?;
        if event.livemode != self.live {
            tracing::warn!(live = event.livemode, "Stripe sends events of the mode that is not configured");
            return Ok(Vec::new());
        }
        let object = event.data.object;
        let kind = object["object"].as_str().unwrap_or_default();
        let (provider_id, facts) = match kind {
            "payment_intent" => {
                let intent: Intent = serde_json::from_value(object).map_err(refused)?;
                (ours(intent.metadata.as_ref()), state(&intent).map(Vec::from_iter))
            }
            "charge" => {
                let charge: CardCharge = serde_json::from_value(object).map_err(refused)?;
                let provider_id = ours(charge.metadata.as_ref());
                let Some(reference) = charge.payment_intent.filter(|_| provider_id.is_some()) else {
                    return Ok(Vec::new());
                };
                if charge.amount_refunded > 0 {
                    let Some(intent) = self.intent_of(Some(&reference)).await? else { return Ok(Vec::new()) };
                    (provider_id, Ok(self.all_of(&intent).await.map_err(Unheard::Unreachable)?))
                } else if charge.captured {
                    let amount = charge.amount_captured.unwrap_or(charge.amount);
                    (
                        provider_id,
                        told(Kind::Captured, &reference, None, amount, &charge.currency).map(|fact| vec![fact]),
                    )
                } else {
                    return Ok(Vec::new());
                }
            }
            "refund" => {
                let refund: Refund = serde_json::from_value(object).map_err(refused)?;
                let Some(intent) = self.intent_of(refund.payment_intent.as_ref().map(OfIntent::name)).await? else {
                    return Ok(Vec::new());
                };
                // Older versions of its API call it a refund that an authorisation was let go.
                let facts = if intent.status == "succeeded" { refunded(&intent.id, &refund) } else { Ok(Vec::new()) };
                (ours(intent.metadata.as_ref()), facts)
            }
            "dispute" => {
                let dispute: Dispute = serde_json::from_value(object).map_err(refused)?;
                let Some(intent) = self.intent_of(dispute.payment_intent.as_ref().map(OfIntent::name)).await? else {
                    return Ok(Vec::new());
                };
                (ours(intent.metadata.as_ref()), disputed(&intent.id, &dispute).map(Vec::from_iter))
            }
            _ => return Ok(Vec::new()),
        };
        let Some(provider_id) = provider_id else { return Ok(Vec::new()) };
        Ok(vec![Heard { provider_id, said: Said::Facts(facts.map_err(Unheard::Refused)?) }])
    }

    async fn intent_of(&self, reference: Option<&str>) -> Result<Option<Intent>, Unheard> {
        match reference {
            Some(reference) => self.intent(reference).await.map_err(Unheard::Unreachable),
            None => Ok(None),
        }
    }
}

impl Provider for Stripe {
    fn begin<'a>(&'a self, order: &'a Order) -> Doing<'a, Opened> {
        Box::pin(self.begin(order))
    }

    fn capture<'a>(&'a self, charge: &'a Charge) -> Doing<'a, Vec<Fact>> {
        Box::pin(async {
            let amount = to_stripe(charge.currency, charge.amount).map_err(Failure::Definite)?.to_string();
            self.change(charge, "capture", &[("amount_to_capture", &amount)]).await
        })
    }

    fn void<'a>(&'a self, charge: &'a Charge) -> Doing<'a, Vec<Fact>> {
        Box::pin(self.change(charge, "cancel", &[]))
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

impl Adapter for Stripe {
    fn signature_header(&self) -> Option<&'static str> {
        Some("stripe-signature")
    }

    fn hear<'a>(&'a self, signature: &'a str, body: &'a [u8]) -> Saying<'a, Vec<Heard>> {
        Box::pin(self.hear(signature, body))
    }
}

/// Whether `reference` can be the id of an intent: anybody may have reported it.
fn is_intent(reference: &str) -> bool {
    reference.starts_with("pi_") && reference.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn ours(metadata: Option<&Metadata>) -> Option<String> {
    metadata.and_then(|of| of.boxoffice_payment.clone())
}

/// Where an intent stands, if that is a fact. A declined card is none: the buyer may try another one.
fn state(intent: &Intent) -> Result<Option<Fact>, String> {
    let (kind, amount) = match &*intent.status {
        "requires_capture" => (Kind::Authorized, intent.amount_capturable.unwrap_or(intent.amount)),
        "succeeded" => (Kind::Captured, intent.amount_received.unwrap_or(intent.amount)),
        "canceled" => (Kind::Voided, intent.amount),
        _ => return Ok(None),
    };
    fact(kind, intent, None, amount).map(Some)
}

fn fact(kind: Kind, intent: &Intent, id: Option<&str>, amount: u64) -> Result<Fact, String> {
    told(kind, &intent.id, id, amount, &intent.currency)
}

fn told(kind: Kind, reference: &str, id: Option<&str>, amount: u64, currency: &str) -> Result<Fact, String> {
    let currency: Currency = currency.to_uppercase().parse().map_err(|_| "Stripe names a currency that is none")?;
    let amount = from_stripe(currency, amount)?;
    Ok(Fact { kind, reference: reference.into(), id: id.map(str::to_owned), amount, currency, at: None, reason: None })
}

/// What a refund says; nothing while it is on its way.
fn refunded(reference: &str, refund: &Refund) -> Result<Vec<Fact>, String> {
    let kinds: &[Kind] = match refund.status.as_deref() {
        Some("succeeded") => &[Kind::Refunded],
        // It is the same to us whether it came back or never left.
        Some("failed" | "canceled") => &[Kind::Refunded, Kind::RefundFailed],
        _ => &[],
    };
    let told = |kind| told(kind, reference, Some(&refund.id), refund.amount, &refund.currency);
    kinds.iter().map(|kind| Ok(Fact { at: refund.created.map(at), ..told(*kind)? })).collect()
}

/// What a dispute says. An inquiry takes no money, and may become a dispute.
fn disputed(reference: &str, dispute: &Dispute) -> Result<Option<Fact>, String> {
    let kind = match &*dispute.status {
        "needs_response" | "under_review" => Kind::Disputed,
        "won" => Kind::DisputeWon,
        "lost" => Kind::DisputeLost,
        _ => return Ok(None),
    };
    let fact = told(kind, reference, Some(&dispute.id), dispute.amount, &dispute.currency)?;
    Ok(Some(Fact { at: dispute.created.map(at), ..fact }))
}

/// A time by Stripe's clock. It is when something was made: of what became of it later no time is said.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1_000))
}

/// What a refusal means for what was asked for.
fn failure(answer: &Answer) -> Failure {
    match answer.status {
        400 | 402 | 404 => Failure::Definite(refusal(answer)),
        // It came to its end like this, and will be told under this key for a day.
        500.. if answer.replayed => Failure::Definite(refusal(answer)),
        _ => Failure::Unknown(refusal(answer)),
    }
}

/// A refusal in words, of which none are Stripe's: those may repeat what was sent.
fn refusal(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Refused {
        error: Details,
    }
    #[derive(Deserialize)]
    struct Details {
        code: Option<String>,
        r#type: Option<String>,
    }
    let code = answer.parse::<Refused>().ok().and_then(|Refused { error }| error.code.or(error.r#type));
    let is_word =
        |code: &String| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b));
    format!("Stripe answers {} {}", answer.status, code.filter(is_word).unwrap_or_default())
}

/// By how many of Stripe's units a minor unit of ISO 4217 is counted, and the other way round. Stripe's decimals are not always
/// those of ISO: krona and Ugandan shilling have none, and Stripe goes on counting hundredths; of the ariary it counts none.
fn units(currency: Currency) -> (u64, u64) {
    match currency.as_str() {
        "ISK" | "UGX" => (100, 1),
        "MGA" => (1, 100),
        _ => (1, 1),
    }
}

/// Of currencies with three decimals, cards take no last one.
fn step(currency: Currency) -> u64 {
    if matches!(currency.as_str(), "BHD" | "JOD" | "KWD" | "OMR" | "TND") { 10 } else { 1 }
}

fn to_stripe(currency: Currency, amount: Points) -> Result<u64, String> {
    let (times, by) = units(currency);
    let exact = amount.get().is_multiple_of(by) && amount.get().is_multiple_of(step(currency));
    let amount = amount.get().checked_mul(times).filter(|_| exact).map(|amount| amount / by);
    amount.ok_or_else(|| format!("Stripe cannot take such an amount of {currency}"))
}

fn from_stripe(currency: Currency, amount: u64) -> Result<Points, String> {
    let (times, by) = units(currency);
    let amount = amount.is_multiple_of(times).then(|| (amount / times).checked_mul(by)).flatten().and_then(Points::new);
    amount.ok_or_else(|| format!("Stripe tells an amount of {currency} that cannot be"))
}

/// Checks `Stripe-Signature` over the raw bytes, by any of the secrets: of its schemes only `v1` counts.
fn check_signature(secrets: &[Secret], header: &str, body: &[u8], now: u64, tolerance: Duration) -> Result<(), String> {
    let refused = || "The signature does not hold: it is checked over the bytes as they came.".to_owned();
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let time = parts().find(|(name, _)| *name == "t").map(|(_, time)| time).ok_or_else(refused)?;
    let seconds: u64 = time.parse().map_err(|_| refused())?;
    let signatures = || parts().filter(|(name, _)| *name == "v1").take(SIGNATURES_MAX).map(|(_, signature)| signature);
    let holds = secrets.iter().any(|secret| {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()) else { return false };
        mac.update(time.as_bytes());
        mac.update(b".");
        mac.update(body);
        // In a time that says nothing about where they differ.
        signatures().any(|signature| {
            base16ct::lower::decode_vec(signature).is_ok_and(|bytes| mac.clone().verify_slice(&bytes).is_ok())
        })
    });
    if !holds {
        return Err(refused());
    }
    if now.abs_diff(seconds) > tolerance.as_secs() {
        return Err("The signature is too old, or the clocks of this server and of Stripe differ.".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
