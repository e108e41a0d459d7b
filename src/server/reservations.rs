//! Reservations: seats and places that are held for a user.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Identity, Role, User};
use super::json::{Input, Object, QUEUE_TOKEN, given};
use super::openapi::{Idempotent, Paged, ReservationWithSteps};
use super::problem::{Code, Problem};
use super::query::Query;
use super::respond::{self, Cache};
use super::{App, id, unless_missing};
use crate::api::{BestAvailable, Page, Reservation, ReservationStatus, Wish};
use crate::domain::concert_option::SagaStep;
use crate::domain::{OptionId, ReservationId, UserId};

/// Seats or places to be held; exactly one of the members.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hold {
    #[serde(default, deserialize_with = "given")]
    seats: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    best_available: Option<Object<BestAvailable>>,
    #[serde(default, deserialize_with = "given")]
    areas: Option<Vec<Object<AreaWish>>>,
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

impl Hold {
    fn into_wish(self) -> Result<Wish, Problem> {
        match (self.seats, self.best_available, self.areas) {
            (Some(seats), None, None) => Ok(Wish::Seats(seats)),
            (None, Some(Object(best)), None) => Ok(Wish::BestAvailable(best)),
            (None, None, Some(areas)) => {
                Ok(Wish::Areas(areas.into_iter().map(|Object(area)| (area.name, area.count)).collect()))
            }
            _ => Err(Problem::invalid_field("body", "must have exactly one of seats, best_available and areas")),
        }
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
    User(user): User,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let option: OptionId = id(&path)?;
    let operation = format!("POST /v1/options/{option}/reservations");
    let input = async {
        let input = Input::read(&request, payload, &app, &user.user, &operation).await?;
        let (hold, key) = input.parse::<Hold>()?;
        Ok((hold.into_wish()?, key))
    };
    let (wish, key) = unless_missing(input.await, app.engine.option(option)).await?;
    // A header that is not text is a token that is not one.
    let token = request.headers().get(QUEUE_TOKEN).map(|token| token.to_str().unwrap_or_default());
    let answered = app.engine.hold(option, &user.user, wish, token, key).await?;
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
    User(user): User,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let reservation = app.engine.reservation(&user.caller(), id(&path)?).await?;
    match user.role {
        Some(Role::Admin) => {
            let steps = reservation.steps();
            respond::ok(&WithSteps { reservation: &reservation, steps }, Cache::Private)
        }
        Some(Role::Payments) | None => respond::ok(&reservation, Cache::Private),
    }
}

/// Lists the caller's reservations, newest first; for an admin those of any user.
#[utoipa::path(get, path = "/v1/reservations", tag = "reservations", operation_id = "list_reservations",
    params(Paged,
        ("status" = Option<ReservationStatus>, Query, description = "Only those in this state"),
        ("user_id" = Option<UserId>, Query, description = "Whose (admin)")),
    security(("bearer" = [])),
    responses((status = 200, description = "A page of reservations", body = Page<Reservation>),
        (status = 400), (status = 403)))]
pub(super) async fn list(request: HttpRequest, User(user): User, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let query = Query::read(&request, &["limit", "cursor", "status", "user_id"]);
    let whose = whose(&user, query.as_ref().ok())?;
    let query = query?;
    let whose = whose.or(query.parsed("user_id")?).unwrap_or(user.user);
    let (page, status) = (query.page()?, status(&query)?);
    respond::page(&app, app.engine.reservations(&whose, status, &page), Cache::Private).await
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

/// A buyer is the only one that they may ask about; for an admin this leaves it open.
fn whose(caller: &Identity, query: Option<&Query>) -> Result<Option<UserId>, Problem> {
    let asked = query.and_then(|query| query.get("user_id"));
    match (caller.role, asked) {
        (Some(Role::Admin), _) => Ok(None),
        (_, Some(other)) if other != caller.user.as_str() => {
            Err(Problem::new(Code::Forbidden, "Only an admin may ask about other users."))
        }
        (_, _) => Ok(Some(caller.user.clone())),
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
    respond::ok(&app.engine.release(&user.caller(), id(&path)?).await?, Cache::Private)
}
