//! Reservations: seats and places that are held for a user.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::auth::{Holder, Identity, Lister, Reader, Role, User};
use super::json::{Input, Object, QUEUE_TOKEN, given};
use super::openapi::{Idempotent, Paged, ReservationWithSteps};
use super::problem::{Code, Problem};
use super::query::Query;
use super::respond::{self, Cache};
use super::sheets::{self, Walk, or_csv, refuse_pages, wants_csv};
use super::{App, id, unless_missing};
use crate::api::{BestAvailable, Office, Page, PageRequest, Reservation, ReservationFilter, ReservationStatus, Wish};
use crate::domain::concert_option::{Note, SagaStep};
use crate::domain::{OptionId, ReservationId, UserId};

/// Seats or places to be held; exactly one of the first three members.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hold {
    #[serde(default, deserialize_with = "given")]
    seats: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    best_available: Option<Object<BestAvailable>>,
    #[serde(default, deserialize_with = "given")]
    areas: Option<Vec<Object<AreaWish>>>,
    #[serde(default, deserialize_with = "given")]
    reference: Option<String>,
    #[serde(default, deserialize_with = "given")]
    data: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "given")]
    user_id: Option<UserId>,
    #[serde(default)]
    complimentary: bool,
    #[serde(default)]
    beyond_limits: bool,
    #[serde(default)]
    from_blocked: bool,
}

/// Places in an area.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AreaWish {
    /// The area.
    name: String,
    /// How many.
    #[schema(minimum = 1, maximum = 100)]
    count: u32,
}

impl AreaWish {
    pub(super) fn into_pair(self) -> (String, u32) {
        (self.name, self.count)
    }
}

impl Hold {
    /// For whom a box office holds, and how; `None` if somebody holds for themselves.
    fn by_office(&self, caller: &Identity) -> Result<Option<(UserId, Office)>, Problem> {
        let Self { complimentary, beyond_limits, from_blocked, .. } = *self;
        let office = Office { complimentary, beyond_limits, from_blocked };
        if self.user_id.is_none() && office == Office::default() {
            return Ok(None);
        }
        if caller.roles.is_empty() {
            let only = "Only an admin or the role box_office holds for others, or beyond what buyers may.";
            return Err(Problem::new(Code::Forbidden, only));
        }
        if from_blocked && self.seats.is_none() {
            return Err(Problem::invalid_field("from_blocked", "goes with seats only"));
        }
        Ok(Some((self.user_id.clone().unwrap_or_else(|| caller.user.clone()), office)))
    }

    fn into_wish(self) -> Result<(Wish, Note), Problem> {
        let wish = match (self.seats, self.best_available, self.areas) {
            (Some(seats), None, None) => Wish::Seats(seats),
            (None, Some(Object(best)), None) => Wish::BestAvailable(best),
            (None, None, Some(areas)) => {
                Wish::Areas(areas.into_iter().map(|Object(area)| (area.name, area.count)).collect())
            }
            _ => {
                return Err(Problem::invalid_field("body", "must have exactly one of seats, best_available and areas"));
            }
        };
        let data = self.data.map(|data| Value::Object(data).to_string());
        Ok((wish, Note { reference: self.reference, data }))
    }
}

/// Holds seats or places, all of them or none.
#[utoipa::path(post, path = "/v1/options/{id}/reservations", tag = "reservations", operation_id = "hold_seats",
    params(
        ("id" = OptionId, Path), Idempotent,
        ("Queue-Token" = Option<String>, Header, description = "The active token, while the waiting room is on")),
    request_body = Hold, security(("bearer" = [])),
    responses((status = 201, description = "The reservation", body = Reservation),
        (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn hold(
    request: HttpRequest,
    path: web::Path<String>,
    Holder(user): Holder,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let option: OptionId = id(&path)?;
    let operation = format!("POST /v1/options/{option}/reservations");
    let input = async {
        let input = Input::read(&request, payload, &app, &user.user, &operation).await?;
        let (hold, key) = input.parse::<Hold>()?;
        let office = hold.by_office(&user)?;
        Ok((hold.into_wish()?, office, key))
    };
    let ((wish, note), office, key) = unless_missing(input.await, app.engine.option(option)).await?;
    if let Some((whose, office)) = office {
        let answered = app.engine.hold_for(option, &whose, (wish, office, note), Some(&user.user), key).await?;
        return respond::created(&answered, &format!("/v1/reservations/{}", answered.value.id));
    }
    // A header that is not text is a token that is not one.
    let token = request.headers().get(QUEUE_TOKEN).map(|token| token.to_str().unwrap_or_default());
    let answered = app.engine.hold_with_note(option, &user.user, wish, note, token, key).await?;
    respond::created(&answered, &format!("/v1/reservations/{}", answered.value.id))
}

/// A reservation, as whoever runs the sale sees it.
#[derive(Serialize)]
struct WithSteps<'a> {
    #[serde(flatten)]
    reservation: &'a Reservation,
    steps: &'a [SagaStep],
}

/// Reads a reservation; for an admin with the steps that led to its state.
#[utoipa::path(get, path = "/v1/reservations/{id}", tag = "reservations", operation_id = "get_reservation",
    params(("id" = ReservationId, Path)), security(("bearer" = [])),
    responses((status = 200, description = "The reservation", body = ReservationWithSteps), (status = 404)))]
pub(super) async fn read(
    path: web::Path<String>,
    Reader(user): Reader,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let reservation = app.engine.reservation(&user.caller(), id(&path)?).await?;
    if user.roles.has(Role::Admin) {
        let steps = reservation.steps();
        return respond::ok(&WithSteps { reservation: &reservation, steps }, Cache::Private);
    }
    respond::ok(&reservation, Cache::Private)
}

/// Lists the caller's reservations, newest first; for an admin, and the roles that read lists, those of any user.
#[utoipa::path(get, path = "/v1/reservations", tag = "reservations", operation_id = "list_reservations",
    params(Paged,
        ("status" = Option<ReservationStatus>, Query, description = "Only those in this state"),
        ("user_id" = Option<UserId>, Query, description = "Whose (admin, and roles that read lists)")),
    security(("bearer" = [])),
    responses((status = 200, description = "A page of reservations", body = Page<Reservation>),
        (status = 400), (status = 403)))]
pub(super) async fn list(
    request: HttpRequest,
    Reader(user): Reader,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(&request, &["limit", "cursor", "status", "user_id"]);
    let whose = whose(&user, query.as_ref().ok())?;
    let query = query?;
    let whose = whose.or(query.parsed("user_id")?).unwrap_or(user.user);
    let (page, status) = (query.page()?, status(&query)?);
    respond::page(&app, app.engine.reservations(&whose, status, &page), Cache::Private).await
}

/// Lists the reservations on an option, newest first. A page may have fewer than asked for, or none, and others after it. With
/// `Accept: text/csv` all of them, a line a seat or place.
#[utoipa::path(get, path = "/v1/options/{id}/reservations", tag = "reservations", operation_id = "list_option_reservations",
    params(("id" = OptionId, Path), Paged,
        ("status" = Option<ReservationStatus>, Query, description = "Only those in this state"),
        ("seat" = Option<String>, Query, description = "Only those with this seat"),
        ("user_id" = Option<UserId>, Query, description = "Only those of this user"),
        ("reference" = Option<String>, Query, description = "Only those that are called this")),
    security(("bearer" = [])),
    responses((status = 200, description = "A page of reservations", content(
            (Page<Reservation> = "application/json"), (String = "text/csv"))),
        (status = 400), (status = 403), (status = 404), (status = 422)))]
pub(super) async fn list_of_option(
    request: HttpRequest,
    path: web::Path<String>,
    _: Lister,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let option: OptionId = id(&path)?;
    let csv = wants_csv(request.headers());
    let (filter, page) = unless_missing(wanted(&request, csv), app.engine.option(option)).await?;
    if csv {
        let walk = app.engine.walk_reservations(option, &filter).await?;
        return sheets::all(&request, app, Walk::Reservations(walk));
    }
    respond::page(&app, app.engine.option_reservations(option, &filter, &page), Cache::Private).await.map(or_csv)
}

fn wanted(request: &HttpRequest, csv: bool) -> Result<(ReservationFilter, PageRequest), Problem> {
    let query = Query::read(request, &["limit", "cursor", "status", "seat", "user_id", "reference"])?;
    if csv {
        refuse_pages(&query)?;
    }
    let text = |name| query.get(name).map(str::to_owned);
    let (seat, reference) = (text("seat"), text("reference"));
    let filter = ReservationFilter { status: status(&query)?, seat, user: query.parsed("user_id")?, reference };
    Ok((filter, query.page()?))
}

fn status(query: &Query) -> Result<Option<ReservationStatus>, Problem> {
    let Some(name) = query.get("status") else { return Ok(None) };
    let known = ReservationStatus::ALL;
    let status = known.iter().copied().find(|status| status.as_str() == name);
    status.map(Some).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|status| status.as_str()).collect();
        Problem::invalid_field("status", format!("must be one of {}", names.join(", ")))
    })
}

/// A buyer is the only one that they may ask about; for whoever has a role this leaves it open.
pub(super) fn whose(caller: &Identity, query: Option<&Query>) -> Result<Option<UserId>, Problem> {
    let asked = query.and_then(|query| query.get("user_id"));
    match asked {
        _ if !caller.roles.is_empty() => Ok(None),
        Some(other) if other != caller.user.as_str() => {
            Err(Problem::new(Code::Forbidden, "Only who runs the sale may ask about other users."))
        }
        _ => Ok(Some(caller.user.clone())),
    }
}

/// Releases a reservation that is held.
#[utoipa::path(delete, path = "/v1/reservations/{id}", tag = "reservations", operation_id = "release_reservation",
    params(("id" = ReservationId, Path)), security(("bearer" = [])),
    responses((status = 200, description = "The reservation, released", body = Reservation),
        (status = 404), (status = 409)))]
pub(super) async fn release(
    path: web::Path<String>,
    User(user): User,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.release(&user.doer(), id(&path)?).await?, Cache::Private)
}
