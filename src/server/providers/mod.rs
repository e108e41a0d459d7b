//! Payments by providers that the server asks itself, one file each; which one a method is of says its `kind`.
//!
//! It turns what is owed into requests, and what a provider says into facts. What comes of a fact is the engine's business, and
//! the engine knows nothing of what is in here. Secrets are in the clients' headers and nowhere else.

pub(super) mod api;
pub(super) mod settings;
mod stripe;
mod toss;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Handle;
use utoipa::ToSchema;

use self::stripe::Stripe;
use self::toss::Toss;
use super::auth::User;
use super::config::{self, ProviderKind, Secret, value_error};
use super::json::Input;
use super::problem::{Code, Problem};
use super::respond::{self, Cache};
use super::{App, Error, unless_missing};
use crate::api::{Caller, Payment, PaymentStatus, Provided};
use crate::domain::{PaymentId, Points, Rejection};
use crate::engine::{AttachedProvider, Engine};
use crate::payment::{Fact, Provider};

/// The largest body of a provider's webhook: 256 KiB.
const WEBHOOK_BYTES_MAX: usize = 256 << 10;
/// For so many pending payments it is remembered what the buyer's page needs.
const CHECKOUTS_MAX: usize = 100_000;
/// So many pages of what a provider did on a day are read, of 100 each: what is more is not compared at all.
const LISTED_PAGES_MAX: usize = 2_000;
/// How long somebody waits for it who only looks at the payment.
const LOOKING: Duration = Duration::from_secs(3);
/// When to come again if a provider cannot be asked, in seconds.
const UNREACHABLE_RETRY_SECONDS: u64 = 5;

/// What somebody says who asks for something to be done, once that is known.
type Saying<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unheard>> + Send + 'a>>;

/// Why what a provider has sent is not taken.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    /// It is not the provider's, or cannot be read.
    #[error("{0}")]
    Refused(String),
    /// What it is about could not be asked for.
    #[error("the provider cannot be asked: {0}")]
    Unreachable(String),
}

impl From<Unheard> for Problem {
    fn from(unheard: Unheard) -> Self {
        match unheard {
            Unheard::Refused(why) => Self::new(Code::InvalidRequest, why),
            Unheard::Unreachable(why) => {
                tracing::warn!(%why, "what is heard of a payment is left for later");
                unreachable()
            }
        }
    }
}

fn unreachable() -> Problem {
    Problem::new(Code::Overloaded, "The provider of the payment cannot be reached.")
        .retry_after(UNREACHABLE_RETRY_SECONDS)
}

/// What a provider says of one payment, by what that is called there.
#[derive(Debug)]
struct Heard {
    provider_id: String,
    said: Said,
}

#[derive(Debug)]
enum Said {
    Facts(Vec<Fact>),
    /// That something has become of the charge of this name. Anybody may have said so.
    About(String),
}

/// A provider that can be asked and that sends webhooks.
trait Adapter: Provider {
    /// The header that holds the signature of a webhook, if it has one.
    fn signature_header(&self) -> Option<&'static str>;
    /// What a webhook says; nothing, if that is about what is not ours.
    fn hear<'a>(&'a self, signature: &'a str, body: &'a [u8]) -> Saying<'a, Vec<Heard>>;
    /// What is true of a charge that somebody has spoken of, if it is of the payment of this name.
    fn follow<'a>(&'a self, _provider_id: &'a str, _reference: &'a str) -> Saying<'a, Vec<Fact>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    /// What the buyer's page needs, where nothing is opened before.
    fn page(&self, _by: &Provided, _amount: Points) -> Option<Value> {
        None
    }
    /// What a charge comes to with which the buyer is back from the provider.
    fn came_back<'a>(&'a self, _by: &'a Provided, _reference: &'a str, _amount: Points) -> Saying<'a, Vec<Fact>> {
        Box::pin(async { Err(Unheard::Refused("Nobody comes back from this provider with a charge.".into())) })
    }
}

/// All of them, by the names of their methods.
pub struct Providers {
    adapters: BTreeMap<String, Arc<dyn Adapter>>,
    /// What the pages of pending payments need. It is the same each time, and pages ask often.
    checkouts: Mutex<HashMap<PaymentId, Arc<str>>>,
}

impl Providers {
    /// Those that are configured. Their requests are made in `runtime`.
    ///
    /// # Errors
    /// A secret that cannot be read or is not one, [`Error::Webhooks`].
    pub fn new(settings: &config::Payments, runtime: &Handle) -> Result<Self, Error> {
        let mut adapters = BTreeMap::new();
        for (index, one) in settings.providers.iter().enumerate() {
            let key = |name: &str| format!("payments.providers[{index}].{name}");
            let adapter: Arc<dyn Adapter> = match one.kind {
                ProviderKind::Reported => continue,
                ProviderKind::Stripe => Arc::new(Stripe::new(one, key, runtime)?),
                ProviderKind::Toss => Arc::new(Toss::new(one, key, runtime)?),
            };
            adapters.insert(one.name.clone(), adapter);
        }
        Ok(Self { adapters, checkouts: Mutex::default() })
    }

    /// Has what is owed done by them, for as long as what this gives is there.
    #[must_use]
    pub fn attach(&self, engine: &Engine) -> Vec<AttachedProvider> {
        self.adapters.iter().map(|(name, adapter)| engine.attach_provider(name, adapter.clone())).collect()
    }

    /// The one whose payments are `name`.
    pub fn get(&self, name: &str) -> Option<&dyn Provider> {
        self.adapters.get(name).map(|adapter| &**adapter as &dyn Provider)
    }

    /// What the page of the buyer needs to pay; nothing where there is nothing to pay, or a host takes the payment.
    async fn checkout(&self, engine: &Engine, payment: &Payment) -> Result<Option<Value>, Problem> {
        let Some(provided) = payment.provided.as_ref().filter(|_| payment.status == PaymentStatus::Pending) else {
            return Ok(None);
        };
        let Some(adapter) = self.adapters.get(&provided.method) else { return Ok(None) };
        if let Some(page) = adapter.page(provided, payment.amount) {
            return Ok(Some(page));
        }
        let known = self.checkouts.lock().get(&payment.id).cloned();
        let checkout = match known {
            Some(checkout) => checkout,
            None => {
                let owner = Caller::User(payment.user_id.clone());
                let checkout: Arc<str> = match engine.checkout(&owner, payment.id).await {
                    Ok(checkout) => checkout.into(),
                    // It came to its end meanwhile.
                    Err(crate::error::Error::Rejected(Rejection::NotFound)) => return Ok(None),
                    Err(crate::error::Error::Overloaded(_)) => return Err(unreachable()),
                    Err(error) => return Err(error.into()),
                };
                let mut checkouts = self.checkouts.lock();
                if checkouts.len() >= CHECKOUTS_MAX {
                    // Most of those payments have come to their end; for the others it is asked for again.
                    checkouts.clear();
                }
                checkouts.insert(payment.id, checkout.clone());
                checkout
            }
        };
        serde_json::from_str(&checkout).map(Some).map_err(|error| Problem::internal(&error.to_string()))
    }
}

/// A payment, and what its buyer's page needs to pay it.
#[derive(Debug, Serialize)]
pub(super) struct WithCheckout {
    #[serde(flatten)]
    payment: Payment,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkout: Option<Value>,
}

impl WithCheckout {
    /// Of a payment that has just begun.
    ///
    /// # Errors
    /// 503: the provider cannot be reached. The payment is pending all the same, and is asked for again by its id.
    pub(super) async fn begun(app: &App, payment: Payment) -> Result<Self, Problem> {
        match app.providers.checkout(&app.engine, &payment).await {
            Ok(checkout) => Ok(Self { payment, checkout }),
            Err(problem) => Err(problem.with("payment_id", serde_json::json!(payment.id))),
        }
    }

    /// Of one that `caller` looks at. What pays is shown to its owner only, and only if the provider can be reached.
    pub(super) async fn seen(app: &App, caller: &Caller, payment: Payment) -> Self {
        let is_owner = matches!(caller, Caller::User(user) if *user == payment.user_id);
        if !is_owner {
            return Self { payment, checkout: None };
        }
        let checkout = tokio::time::timeout(LOOKING, app.providers.checkout(&app.engine, &payment)).await;
        Self { checkout: checkout.ok().and_then(Result::ok).flatten(), payment }
    }
}

/// Takes what a provider sends. It is signed by the provider, as that does it, and answered once what it says is durable.
#[utoipa::path(post, path = "/v1/payment-providers/{name}/webhook", tag = "payments", operation_id = "hear_provider",
    params(("name" = String, Path)), request_body = Object,
    responses((status = 200, description = "What it says is durable, or not about payments of this server"),
        (status = 400), (status = 404), (status = 409)))]
pub(super) async fn webhook(
    request: HttpRequest,
    path: web::Path<String>,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let name = path.into_inner();
    let Some(adapter) = app.providers.adapters.get(&name) else { return Err(Problem::not_found()) };
    let body = Input::read_signed(WEBHOOK_BYTES_MAX, &request, payload, &app).await?;
    let signature = adapter.signature_header().and_then(|name| request.headers().get(name));
    let signature = signature.and_then(|value| value.to_str().ok()).unwrap_or_default();
    for Heard { provider_id, said } in adapter.hear(signature, &body).await? {
        let Some(payment) = find(&app.engine, &name, &provider_id).await? else { continue };
        let facts = match said {
            Said::Facts(facts) => facts,
            Said::About(reference) => adapter.follow(&provider_id, &reference).await?,
        };
        app.engine.report_all(payment, facts).await?;
    }
    respond::ok(&serde_json::json!({}), Cache::Private)
}

/// With what a buyer is back from the provider.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirmation {
    /// The provider's name for the charge.
    #[schema(min_length = 1, max_length = 255)]
    reference: String,
    /// How much it is of.
    amount: Points,
}

/// Takes what the way back from the provider has brought. It is idempotent by itself: the same again changes nothing.
#[utoipa::path(post, path = "/v1/payments/{id}/confirmation", tag = "payments", operation_id = "confirm_payment",
    params(("id" = PaymentId, Path)), request_body = Confirmation, security(("bearer" = [])),
    responses((status = 200, description = "The payment, as it stands now", body = Payment),
        (status = 400), (status = 404), (status = 409)))]
pub(super) async fn confirm(
    request: HttpRequest,
    path: web::Path<String>,
    User(user): User,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let payment: PaymentId = super::id(&path)?;
    // Nobody pays for others, not even an admin.
    let owner = Caller::User(user.user);
    let body = async { Input::read_without_key(&request, payload, &app).await?.parse::<Confirmation>() };
    let (Confirmation { reference, amount }, _) =
        unless_missing(body.await, app.engine.payment(&owner, payment)).await?;
    let seen = app.engine.payment(&owner, payment).await?;
    let by = seen.provided.clone().ok_or_else(Problem::not_found)?;
    let Some(adapter) = app.providers.adapters.get(&by.method) else { return Err(Problem::not_found()) };
    if amount != seen.amount {
        return Err(Problem::invalid_field("amount", "is not what is to be paid"));
    }
    let facts = adapter.came_back(&by, &reference, amount).await?;
    let payment = app.engine.report_all(payment, facts).await?.unwrap_or(seen);
    respond::ok(&WithCheckout { payment, checkout: None }, Cache::Private)
}

/// Which payment of some installation is called this at providers.
fn payment_of(provider_id: &str) -> Option<PaymentId> {
    provider_id.split_once('-').and_then(|(_, id)| id.parse().ok())
}

/// The payment that is called this at the provider `name`, if it is one of ours.
async fn find(engine: &Engine, name: &str, provider_id: &str) -> Result<Option<PaymentId>, crate::error::Error> {
    let Some(id) = payment_of(provider_id) else { return Ok(None) };
    match engine.payment(&Caller::Admin, id).await {
        Ok(Payment { provided: Some(by), .. }) if by.method == name && by.provider_id == provider_id => Ok(Some(id)),
        Ok(_) | Err(crate::error::Error::Rejected(Rejection::NotFound)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A secret that is given, or stands in a file.
fn secret(given: &Secret, file: &std::path::Path, key: &str) -> Result<Secret, Error> {
    if file.as_os_str().is_empty() {
        return Ok(given.clone());
    }
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| value_error(key, file.display(), format!("a file that can be read: {error}")))?;
    Ok(Secret::new(text.trim()))
}
