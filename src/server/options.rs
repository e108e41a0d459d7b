//! Concert options: put on sale by admins, read by anyone.

use std::collections::BTreeMap;

use actix_web::body::BoxBody;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::auth::{Admin, Historian, Identity};
use super::json::{Input, Object, PLAN_EXTRA_BYTES_MAX, given, patched};
use super::openapi::{Idempotent, Paged, SeatingPlan};
use super::problem::Problem;
use super::query::Query;
use super::ready::{Coding, Form};
use super::respond::{self, Cache};
use super::{App, apart, id, unless_missing};
use crate::api::{
    ConcertOption, HistoryItem, IdempotencyKey, NewArea, NewOption, NewSeatingPlan, Page, PageRequest, Seats,
    WindowPatch,
};
use crate::domain::{ConcertId, Currency, Lsn, OptionId, Points, Timestamp};

/// An option to be put on sale.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateOption {
    /// When the performance starts.
    starts_at: Timestamp,
    /// From when seats may be held; at once by default.
    #[serde(default)]
    sale_opens_at: Option<Timestamp>,
    /// From when they may not; when the performance starts by default.
    #[serde(default)]
    sale_closes_at: Option<Timestamp>,
    /// In the pretix format; members that are not known in it are ignored.
    #[schema(value_type = SeatingPlan)]
    seating_plan: Box<RawValue>,
    /// What each category costs.
    #[schema(value_type = BTreeMap<String, Points>)]
    prices: BTreeMap<String, Points>,
    /// General admission.
    #[serde(default)]
    #[schema(value_type = Vec<NewArea>)]
    areas: Vec<Object<NewArea>>,
    /// How long a hold lasts.
    #[serde(default = "hold_seconds")]
    #[schema(minimum = 1, maximum = 86_400, default = 300)]
    hold_seconds: u32,
    /// How long a payment may take.
    #[serde(default = "payment_seconds")]
    #[schema(minimum = 1, maximum = 3_600, default = 60)]
    payment_seconds: u32,
    /// The most seats and places of one reservation.
    #[serde(default = "max_seats")]
    #[schema(minimum = 1, maximum = 100, default = 8)]
    max_seats_per_reservation: u32,
    /// The most seats and places of one user.
    #[serde(default = "max_seats")]
    #[schema(minimum = 1, maximum = 10_000, default = 8)]
    max_seats_per_user: u32,
    /// Until when owners may have payments refunded; never by default.
    #[serde(default)]
    refundable_until: Option<Timestamp>,
    /// Where the better seats are, for those who leave the choice to the house; in the rows that the plan lists first by
    /// default.
    #[serde(default)]
    #[schema(value_type = Option<crate::api::Focus>)]
    focus: Option<Object<Focus>>,
    /// Categories that the best available seats are of only for those who name them.
    #[serde(default)]
    accessible: Vec<String>,
    /// How it can be paid: `points`, or the names of providers in the configuration; by points by default.
    #[serde(default)]
    payment_methods: Vec<String>,
    /// What its prices are of, by its code of ISO 4217; required with any other method than points.
    #[serde(default)]
    currency: Option<Currency>,
}

/// Either a point or zones.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Focus {
    #[serde(default, deserialize_with = "given")]
    x: Option<f64>,
    #[serde(default, deserialize_with = "given")]
    y: Option<f64>,
    #[serde(default, deserialize_with = "given")]
    zones: Option<Vec<String>>,
}

impl TryFrom<Focus> for crate::api::Focus {
    type Error = Problem;

    fn try_from(focus: Focus) -> Result<Self, Problem> {
        match focus {
            Focus { x: Some(x), y: Some(y), zones: None } => Ok(Self::Point { x, y }),
            Focus { x: None, y: None, zones: Some(zones) } => Ok(Self::Zones { zones }),
            _ => Err(Problem::invalid_field("focus", "must have either x and y or zones")),
        }
    }
}

fn hold_seconds() -> u32 {
    300
}

fn payment_seconds() -> u32 {
    60
}

fn max_seats() -> u32 {
    8
}

impl TryFrom<CreateOption> for NewOption {
    type Error = Problem;

    fn try_from(body: CreateOption) -> Result<Self, Problem> {
        let seating_plan: Box<str> = body.seating_plan.into();
        Ok(Self {
            starts_at: body.starts_at,
            sale_opens_at: body.sale_opens_at,
            sale_closes_at: body.sale_closes_at,
            seating_plan: String::from(seating_plan).into_bytes(),
            prices: body.prices.into_iter().collect(),
            areas: body.areas.into_iter().map(|Object(area)| area).collect(),
            hold_seconds: body.hold_seconds,
            payment_seconds: body.payment_seconds,
            max_seats_per_reservation: body.max_seats_per_reservation,
            max_seats_per_user: body.max_seats_per_user,
            refundable_until: body.refundable_until,
            focus: body.focus.map(|Object(focus)| focus.try_into()).transpose()?,
            accessible: body.accessible,
            payment_methods: body.payment_methods,
            currency: body.currency,
        })
    }
}

/// A change of one area. Of one that is new to the option all is needed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchedArea {
    /// Its name.
    name: String,
    /// How many people it takes from then on: not fewer than places of it are held or sold.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = u32, required = false)]
    capacity: Option<u32>,
    /// The category whose price its places have.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = String, required = false)]
    category: Option<String>,
}

/// Changes of what an option sells, and on what terms, any of them. `null` takes a time of the sale away, or back to its default.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OptionPatch {
    /// From when seats may be held.
    #[serde(default, deserialize_with = "patched")]
    #[schema(value_type = Option<Timestamp>)]
    sale_opens_at: Option<Option<Timestamp>>,
    /// From when they may not.
    #[serde(default, deserialize_with = "patched")]
    #[schema(value_type = Option<Timestamp>)]
    sale_closes_at: Option<Option<Timestamp>>,
    /// Until when owners may have payments refunded.
    #[serde(default, deserialize_with = "patched")]
    #[schema(value_type = Option<Timestamp>)]
    refundable_until: Option<Option<Timestamp>>,
    /// When the performance starts. Where the sale closed when it started, it still does.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Timestamp, required = false)]
    starts_at: Option<Timestamp>,
    /// What these categories cost for holds from then on.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Points>)]
    prices: BTreeMap<String, Points>,
    /// By their names; others stay as they are.
    #[serde(default)]
    #[schema(value_type = Vec<PatchedArea>)]
    areas: Vec<Object<PatchedArea>>,
    /// How long a hold lasts from then on.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 86_400)]
    hold_seconds: Option<u32>,
    /// How long a payment may take from then on.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 3_600)]
    payment_seconds: Option<u32>,
    /// The most seats and places of one reservation.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 100)]
    max_seats_per_reservation: Option<u32>,
    /// The most seats and places of one user.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 10_000)]
    max_seats_per_user: Option<u32>,
}

impl From<OptionPatch> for crate::OptionPatch {
    fn from(patch: OptionPatch) -> Self {
        let OptionPatch { sale_opens_at, sale_closes_at, refundable_until, starts_at, prices, areas, .. } = patch;
        let area = |Object(area): Object<PatchedArea>| {
            let PatchedArea { name, capacity, category } = area;
            crate::AreaPatch { name, capacity, category }
        };
        Self {
            window: WindowPatch { sale_opens_at, sale_closes_at, refundable_until },
            starts_at,
            prices: prices.into_iter().map(|(category, points)| crate::Price { category, points }).collect(),
            areas: areas.into_iter().map(area).collect(),
            hold_seconds: patch.hold_seconds,
            payment_seconds: patch.payment_seconds,
            max_seats_per_reservation: patch.max_seats_per_reservation,
            max_seats_per_user: patch.max_seats_per_user,
        }
    }
}

/// A seating plan that takes the place of an option's, and what comes with it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplacePlan {
    /// In the pretix format; members that are not known in it are ignored. Seats are known again by their `seat_guid`.
    #[schema(value_type = SeatingPlan)]
    seating_plan: Box<RawValue>,
    /// What these categories cost for holds from then on; others as before. Every category with seats needs a price.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Points>)]
    prices: BTreeMap<String, Points>,
    /// Categories that the best available seats are of only for those who name them; as before by default.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<String>, required = false)]
    accessible: Option<Vec<String>>,
    /// Where the better seats are; as before by default.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = crate::api::Focus, required = false)]
    focus: Option<Object<Focus>>,
}

impl TryFrom<ReplacePlan> for NewSeatingPlan {
    type Error = Problem;

    fn try_from(body: ReplacePlan) -> Result<Self, Problem> {
        let seating_plan: Box<str> = body.seating_plan.into();
        Ok(Self {
            seating_plan: String::from(seating_plan).into_bytes(),
            prices: body.prices.into_iter().collect(),
            accessible: body.accessible,
            focus: body.focus.map(|Object(focus)| focus.try_into()).transpose()?,
        })
    }
}

/// A plan alone, as `GET` gives it: with what categories cost, and otherwise for the reader of plans.
#[derive(Debug, Deserialize)]
struct PlanWithPrices {
    #[serde(default)]
    prices: BTreeMap<String, Points>,
}

impl NewSeatingPlan {
    /// Reads either form.
    fn read(input: Input) -> Result<(Self, Option<IdempotencyKey>), Problem> {
        if input.has("seating_plan") || !input.has("zones") {
            let (body, key) = input.parse::<ReplacePlan>()?;
            return Ok((body.try_into()?, key));
        }
        let (PlanWithPrices { prices }, text, key) = input.parse_with_text()?;
        let prices = prices.into_iter().collect();
        Ok((Self { seating_plan: text.into(), prices, accessible: None, focus: None }, key))
    }
}

/// Puts a performance of a concert on sale.
#[utoipa::path(post, path = "/v1/concerts/{id}/options", tag = "concerts", operation_id = "create_option",
    params(("id" = ConcertId, Path), Idempotent), request_body = CreateOption, security(("bearer" = [])),
    responses((status = 201, description = "The option", body = ConcertOption),
        (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn create(
    request: HttpRequest,
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let concert: ConcertId = id(&path)?;
    let operation = format!("POST /v1/concerts/{concert}/options");
    let input = read_with_plan(&request, payload, &app, &admin, &operation, |input| {
        let (option, key) = input.parse::<CreateOption>()?;
        Ok((NewOption::try_from(option)?, key))
    });
    let (option, key) = unless_missing(input.await, app.engine.concert(concert)).await?;
    let answered = app.engine.add_option(concert, option, key).await?;
    make_plan_ready(app, answered.value.id);
    respond::created(&answered, &format!("/v1/options/{}", answered.value.id))
}

/// Reads a body with a plan in it, which takes a while.
async fn read_with_plan<T: Send + 'static>(
    request: &HttpRequest,
    payload: web::Payload,
    app: &App,
    admin: &Identity,
    operation: &str,
    read: impl FnOnce(Input) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let plan_bytes = usize::try_from(app.settings.limits.plan_bytes).unwrap_or(usize::MAX);
    let bytes_max = plan_bytes.saturating_add(PLAN_EXTRA_BYTES_MAX);
    let input = Input::read_up_to(bytes_max, request, payload, app, &admin.user, operation).await?;
    apart(move || read(input)).await?
}

/// Nobody waits until a plan is compressed, not even the first who asks for it, and whoever does is told what went wrong.
fn make_plan_ready(app: web::Data<App>, option: OptionId) {
    actix_web::rt::spawn(async move { app.plans.get(&app, option, Coding::Gzip).await.map(drop) });
}

/// Reads an option.
#[utoipa::path(get, path = "/v1/options/{id}", tag = "concerts", operation_id = "get_option",
    params(("id" = OptionId, Path)),
    responses((status = 200, description = "The option", body = ConcertOption), (status = 404)))]
pub(super) async fn read(path: web::Path<String>, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.option(id(&path)?).await?, Cache::Revalidate)
}

/// Changes what an option sells, and on what terms. What is held or paid stays as it was.
#[utoipa::path(patch, path = "/v1/options/{id}", tag = "concerts", operation_id = "change_option",
    params(("id" = OptionId, Path)), security(("bearer" = [])),
    request_body(content((OptionPatch = "application/json"), (OptionPatch = "application/merge-patch+json"))),
    responses((status = 200, description = "The option", body = ConcertOption), (status = 403), (status = 404),
        (status = 409)))]
pub(super) async fn change(
    request: HttpRequest,
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let option = id(&path)?;
    let patch = async {
        let input = Input::read(&request, payload, &app, &admin.user, "PATCH").await?;
        input.parse::<OptionPatch>().map(|(patch, _)| patch)
    };
    let patch = unless_missing(patch.await, app.engine.option(option)).await?;
    respond::ok(&app.engine.change_option(option, patch.into(), &admin.user).await?, Cache::Private)
}

/// Reads an option's seating plan, with prices.
#[utoipa::path(get, path = "/v1/options/{id}/plan", tag = "concerts", operation_id = "get_plan",
    params(("id" = OptionId, Path), ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, description = "The plan", body = SeatingPlan),
        (status = 304, description = "As before"), (status = 404)))]
pub(super) async fn plan(
    request: HttpRequest,
    path: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let id: OptionId = id(&path)?;
    let offer = app.engine.plan(id).await?;
    // Prices can change, and with them the version; as with another plan.
    let tag = format!("{}-{id}-{}", offer.definition.plan, offer.definition.version());
    let form = Form::of(&request, &tag, Cache::Revalidate);
    if let Some(unchanged) = form.not_modified(&request) {
        return Ok(unchanged);
    }
    Ok(form.ok("application/json", app.plans.of(&app, &offer, form.coding).await?))
}

/// Sells an option by another seating plan from now on. Seats that both have stay what they are, wherever they stand in the new one;
/// what is held or paid keeps its price. The body may also be the plan alone, as `GET` gives it, with its `prices`.
#[utoipa::path(put, path = "/v1/options/{id}/plan", tag = "concerts", operation_id = "replace_plan",
    params(("id" = OptionId, Path), Idempotent), request_body = ReplacePlan, security(("bearer" = [])),
    responses((status = 200, description = "The option", body = ConcertOption), (status = 403), (status = 404),
        (status = 409), (status = 422)))]
pub(super) async fn replace_plan(
    request: HttpRequest,
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let option: OptionId = id(&path)?;
    let operation = format!("PUT /v1/options/{option}/plan");
    let input = read_with_plan(&request, payload, &app, &admin, &operation, NewSeatingPlan::read);
    let (new, key) = unless_missing(input.await, app.engine.option(option)).await?;
    let answered = app.engine.replace_plan(option, new, &admin.user, key).await?;
    make_plan_ready(app, option);
    respond::done(&answered.value, answered.replayed)
}

/// Reads which seats are taken, and how many places are left.
#[utoipa::path(get, path = "/v1/options/{id}/seats", tag = "concerts", operation_id = "get_seats",
    params(("id" = OptionId, Path), ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, description = "The seats", body = Seats),
        (status = 304, description = "As before"), (status = 404)))]
pub(super) async fn seats(
    request: HttpRequest,
    path: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let id: OptionId = id(&path)?;
    if request.headers().contains_key(header::IF_NONE_MATCH) {
        let etag = seats_etag(app.engine.seats_seq(id).await?);
        if let Some(unchanged) = respond::not_modified(&request, &etag, Cache::Revalidate) {
            return Ok(unchanged);
        }
    }
    let (seq, seats) = app.seats.get(&app, id).await?;
    let mut response = HttpResponse::Ok();
    response.insert_header((header::ETAG, seats_etag(seq))).insert_header(Cache::Revalidate.header());
    Ok(response.content_type("application/json").body(BoxBody::new(seats)))
}

fn seats_etag(seq: Lsn) -> String {
    format!("\"{seq}\"")
}

/// Tells what has happened to a seat, who did it, and why, oldest first.
#[utoipa::path(get, path = "/v1/options/{id}/seats/{seat}/history", tag = "histories", operation_id = "get_seat_history",
    params(("id" = OptionId, Path), ("seat" = String, Path, description = "Its `seat_guid`"), Paged),
    security(("bearer" = [])),
    responses((status = 200, description = "A page of what has happened", body = Page<HistoryItem>), (status = 400),
        (status = 403), (status = 404)))]
pub(super) async fn seat_history(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    _: Historian,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (option, seat) = path.into_inner();
    let option = id(&option)?;
    let page = async { Query::read(&request, Query::PAGE)?.page() };
    let known = app.engine.seat_history(option, &seat, &PageRequest { limit: 1, cursor: None });
    let page = unless_missing(page.await, known).await?;
    respond::page(&app, app.engine.seat_history(option, &seat, &page), Cache::Private).await
}
