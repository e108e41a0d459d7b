//! Payments from the wallet or by a provider, what providers report, and refunds.

use actix_web::{HttpRequest, HttpResponse, web};

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::auth::{Cashier, Holder, Identity, Payer, Refunder, Role, User};
use super::changes::Part;
use super::config::ProviderKind;
use super::json::Input;
use super::openapi::{Idempotent, Paged};
use super::problem::{Code, Problem};
use super::providers::WithCheckout;
use super::query::Query;
use super::reservations::whose;
use super::respond::{self, Cache};
use super::sheets::{self, Walk, or_csv, refuse_pages, wants_csv};
use super::{App, id, unless_missing};
use crate::api::{Answered, Caller, Page, Payment, PaymentFilter, Refund};
use crate::domain::concert_option::POINTS;
use crate::domain::facts::{Fact, Kind};
use crate::domain::{Currency, OptionId, PaymentId, Points, ReservationId, Timestamp, UserId};

/// How to pay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pay {
    /// One of the option's methods; by points by default.
    #[serde(default)]
    method: Option<String>,
}

/// What a provider did.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    /// What.
    kind: Kind,
    /// The provider's name for the charge.
    #[schema(min_length = 1, max_length = 255)]
    reference: String,
    /// Of this refund or dispute; the reference by default.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 255)]
    id: Option<String>,
    /// How much.
    amount: Points,
    /// Of what; of what the payment is by default.
    #[serde(default)]
    currency: Option<Currency>,
    /// When, by the provider's clock.
    #[serde(default)]
    at: Option<Timestamp>,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// Which payments are wanted, for those who run the sale.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "it describes what is read by name")]
pub(super) struct Wanted {
    /// `true`: those of which something is owed, with what that is, oldest first.
    owed: Option<bool>,
    /// `true`: those that a bank wants back.
    disputed: Option<bool>,
    /// `true`: those of which something is missing while the buyer has the seats.
    shortfall: Option<bool>,
    /// Whose: of all options, or of one.
    user_id: Option<UserId>,
    /// Of which option: of everybody, or of one user. A page may have fewer than asked for, or none, and others after it.
    option_id: Option<OptionId>,
}

/// Pays for a reservation: from the caller's wallet, or by a provider, whose payment is pending then.
#[utoipa::path(post, path = "/v1/reservations/{id}/payments", tag = "payments", operation_id = "pay",
    params(("id" = ReservationId, Path), Idempotent), request_body = Pay, security(("bearer" = [])),
    responses((status = 201, description = "The payment", body = Payment),
        (status = 400), (status = 402), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn pay(
    request: HttpRequest,
    path: web::Path<String>,
    Holder(user): Holder,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let reservation: ReservationId = id(&path)?;
    let operation = format!("POST /v1/reservations/{reservation}/payments");
    let body = async { Input::read(&request, payload, &app, &user.user, &operation).await?.parse_if_any::<Pay>() };
    let body = body.await;
    let method = body.as_ref().ok().and_then(|(pay, _)| pay.method.as_deref()).unwrap_or(POINTS);
    let caller = payer(&user, method, &app)?;
    let (Pay { method }, key) = unless_missing(body, app.engine.reservation(&caller, reservation)).await?;
    let Answered { value, replayed } = match (method.as_deref(), caller) {
        (None | Some(POINTS), _) => app.engine.pay(&user.user, reservation, key).await?,
        (Some(method), Caller::User(_)) => app.engine.begin_payment(&user.user, reservation, method, key).await?,
        (Some(method), anybody) => {
            let owner = app.engine.reservation(&anybody, reservation).await?.user_id;
            app.engine.begin_payment(&owner, reservation, method, key).await?
        }
    };
    let location = format!("/v1/payments/{}", value.id);
    let value = WithCheckout::begun(&app, value).await?;
    respond::created(&Answered { value, replayed }, &location)
}

/// As whom somebody pays: nobody takes from the wallet of others, not even an admin; what is only reported they and the box office
/// may begin for others.
fn payer(user: &Identity, method: &str, app: &App) -> Result<Caller, Problem> {
    let mut providers = app.settings.payments.providers.iter();
    let is_reported = providers.any(|one| one.name == method && one.kind == ProviderKind::Reported);
    match user.roles {
        roles if is_reported && !roles.is_empty() => Ok(user.caller()),
        roles if roles.is_empty() || roles.has(Role::Admin) => Ok(Caller::User(user.user.clone())),
        _ => Err(Problem::new(Code::Forbidden, "This role takes payments only that are reported.")),
    }
}

/// Reads a payment.
#[utoipa::path(get, path = "/v1/payments/{id}", tag = "payments", operation_id = "get_payment",
    params(("id" = PaymentId, Path)), security(("bearer" = [])),
    responses((status = 200, description = "The payment", body = Payment), (status = 404)))]
pub(super) async fn read(
    path: web::Path<String>,
    Payer(user): Payer,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let caller = user.caller();
    let payment = app.engine.payment(&caller, id(&path)?).await?;
    respond::ok(&WithCheckout::seen(&app, &caller, payment).await, Cache::Private)
}

/// Lists the caller's payments, newest first; those that were refused are there as `failed`. With `owed`, `disputed` or
/// `shortfall` those of everybody by providers, for an admin or the roles `payments` and `refunds`. With `user_id` or `option_id` those of
/// a user, or on an option, for whoever has a role; with `Accept: text/csv` all of them, a line a seat or place.
#[utoipa::path(get, path = "/v1/payments", tag = "payments", operation_id = "list_payments", params(Paged, Wanted),
    security(("bearer" = [])),
    responses((status = 200, description = "A page of payments", content(
            (Page<Payment> = "application/json"), (String = "text/csv"))),
        (status = 400), (status = 403), (status = 404)))]
pub(super) async fn list(
    request: HttpRequest,
    Payer(user): Payer,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    const FILTERS: [(&str, PaymentFilter); 3] =
        [("owed", PaymentFilter::Owed), ("disputed", PaymentFilter::Disputed), ("shortfall", PaymentFilter::Shortfall)];
    let known = ["limit", "cursor", "owed", "disputed", "shortfall", "user_id", "option_id"];
    let query = Query::read(&request, &known);
    let asks = query.as_ref().is_ok_and(|query| FILTERS.iter().any(|(name, _)| query.get(name).is_some()));
    if asks && ![Role::Admin, Role::Payments, Role::Refunds].into_iter().any(|role| user.roles.has(role)) {
        let detail = "Only an admin or the roles payments and refunds may see what is owed.";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    if user.roles.is_empty() && query.as_ref().is_ok_and(|query| query.get("option_id").is_some()) {
        return Err(Problem::new(Code::Forbidden, "Only who runs the sale may see the payments of others."));
    }
    let of = whose(&user, query.as_ref().ok())?;
    let query = query?;
    let page = query.page()?;
    let mut wanted = None;
    for (name, filter) in FILTERS {
        match query.get(name) {
            None => {}
            Some("true") if wanted.is_none() => wanted = Some(filter),
            Some("true") => return Err(Problem::invalid_field(name, "goes with no other one")),
            Some(_) => return Err(Problem::invalid_field(name, "must be true, if it is given")),
        }
    }
    let (other, option) = (query.parsed::<UserId>("user_id")?, query.parsed::<OptionId>("option_id")?);
    if let Some(filter) = wanted {
        let with = ["user_id", "option_id"].into_iter().find(|name| query.get(name).is_some());
        if let Some(name) = with {
            return Err(Problem::invalid_field(name, "goes with none of owed, disputed and shortfall"));
        }
        return respond::page(&app, app.engine.provided_payments(filter, &page), Cache::Private).await;
    }
    let is_csv = !user.roles.is_empty() && (other.is_some() || option.is_some()) && wants_csv(request.headers());
    if is_csv {
        refuse_pages(&query)?;
    }
    let owner = of.or_else(|| other.clone()).unwrap_or(user.user);
    match option {
        Some(option) if is_csv => {
            let walk = app.engine.walk_payments(option, other.as_ref()).await?;
            sheets::all(&request, app, Walk::Payments(walk))
        }
        Some(option) => {
            let found = app.engine.option_payments(option, other.as_ref(), &page);
            respond::page(&app, found, Cache::Private).await.map(or_csv)
        }
        None if is_csv => sheets::all(&request, app, Walk::of_user(owner)),
        None => respond::page(&app, app.engine.payments(&owner, &page), Cache::Private).await.map(or_csv),
    }
}

/// Gives a pending payment by a provider up: its reservation is held again until its old deadline. One that is `voiding`, `voided` or
/// `failed`, also since its time ran out, stays as it is, and is answered; from `authorized` on, and where money was taken, it is 409.
#[utoipa::path(delete, path = "/v1/payments/{id}", tag = "payments", operation_id = "give_up_payment",
    params(("id" = PaymentId, Path)), security(("bearer" = [])),
    responses((status = 200, description = "The payment, as it stands then", body = Payment), (status = 404),
        (status = 409)))]
pub(super) async fn give_up(
    path: web::Path<String>,
    User(user): User,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    // Nobody gives up for others, not even an admin.
    let owner = Caller::User(user.user);
    respond::ok(&app.engine.give_up_payment(&owner, id(&path)?).await?, Cache::Private)
}

/// Asks the provider what became of a payment, and takes in what it says.
#[utoipa::path(post, path = "/v1/payments/{id}/lookup", tag = "payments", operation_id = "look_up_payment",
    params(("id" = PaymentId, Path)), security(("bearer" = [])),
    responses((status = 200, description = "The payment, as it stands now", body = Payment),
        (status = 400, description = "Its provider is not asked by this server"), (status = 403), (status = 404)))]
pub(super) async fn look_up(
    path: web::Path<String>,
    Cashier(_): Cashier,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.look_up_payment(id(&path)?).await?, Cache::Private)
}

/// Says what a provider did with a payment. It is idempotent by itself: the same again changes nothing.
#[utoipa::path(post, path = "/v1/payments/{id}/facts", tag = "payments", operation_id = "report_fact",
    params(("id" = PaymentId, Path)), request_body = Report, security(("bearer" = [])),
    responses((status = 200, description = "The payment, as it stands now", body = Payment),
        (status = 400), (status = 403), (status = 404), (status = 409)))]
pub(super) async fn report(
    request: HttpRequest,
    path: web::Path<String>,
    Cashier(_): Cashier,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let payment: PaymentId = id(&path)?;
    let body = async { Input::read_without_key(&request, payload, &app).await?.parse::<Report>() };
    let found = app.engine.payment(&Caller::Admin, payment);
    let (Report { kind, reference, id, amount, currency, at, reason }, _) = unless_missing(body.await, found).await?;
    let own = match currency {
        Some(currency) => currency,
        None => {
            let seen = app.engine.payment(&Caller::Admin, payment).await?;
            seen.provided.ok_or_else(Problem::not_found)?.currency
        }
    };
    let fact = Fact { kind, reference, id, amount, currency: own, at, reason };
    respond::ok(&app.engine.report(payment, fact).await?, Cache::Private)
}

/// Gives a payment back, or a part of it, and makes its seats available again.
#[utoipa::path(post, path = "/v1/payments/{id}/refunds", tag = "payments", operation_id = "refund_payment",
    params(("id" = PaymentId, Path), Idempotent), request_body = Part, security(("bearer" = [])),
    responses((status = 201, description = "The refund", body = Refund),
        (status = 202, description = "The refund, which a provider is to do", body = Refund),
        (status = 400), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn refund(
    request: HttpRequest,
    path: web::Path<String>,
    Refunder(user): Refunder,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let payment: PaymentId = id(&path)?;
    let operation = format!("POST /v1/payments/{payment}/refunds");
    let body = async { Input::read(&request, payload, &app, &user.user, &operation).await?.parse_if_any::<Part>() };
    let caller = user.doer();
    let (part, key) = unless_missing(body.await, app.engine.payment(&caller, payment)).await?;
    let answered = match part.into_portion_if_any() {
        Some(part) => {
            let answered = app.engine.refund_part(&caller, payment, part, key).await.map_err(Problem::from);
            unless_missing(answered, app.engine.payment(&caller, payment)).await?
        }
        None => app.engine.refund(&caller, payment, key).await?,
    };
    // A refund is seen where its payment is.
    let location = format!("/v1/payments/{payment}");
    if answered.value.status.is_some() {
        respond::accepted(&answered, &location)
    } else {
        respond::created(&answered, &location)
    }
}
