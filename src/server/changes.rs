//! Orders that change: parts given up, exchanges, transfers, and holds with another end.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::{Admin, Holder, Refunder, User};
use super::json::{Empty, Input, Object, QUEUE_TOKEN, given};
use super::openapi::Idempotent;
use super::problem::{Code, Problem};
use super::reservations::AreaWish;
use super::respond::{self, Cache};
use super::{App, id, unless_missing};
use crate::api::{Portion, Reservation, Transfer};
use crate::domain::{ReservationId, Timestamp, TransferId, UserId};

/// A part of an order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// Which seats.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<String>, required = false)]
    seats: Option<Vec<String>>,
    /// Which places.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<AreaWish>, required = false)]
    areas: Option<Vec<Object<AreaWish>>>,
}

impl Part {
    /// `None` if nothing is named: all of it.
    pub(super) fn into_portion_if_any(self) -> Option<Portion> {
        (self.seats.is_some() || self.areas.is_some()).then(|| portion(self.seats, self.areas))
    }
}

/// What is given, and what is taken for it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Swap {
    /// Which of its seats are given.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<String>, required = false)]
    give: Option<Vec<String>>,
    /// Which seats are taken.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<String>, required = false)]
    take: Option<Vec<String>>,
    /// Which of its places are given.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<AreaWish>, required = false)]
    give_areas: Option<Vec<Object<AreaWish>>>,
    /// Which places are taken.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<AreaWish>, required = false)]
    take_areas: Option<Vec<Object<AreaWish>>>,
}

/// Who is to have it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HandOver {
    /// Who.
    to: UserId,
    /// At once (admin and box office): nobody is asked.
    #[serde(default)]
    accept: bool,
}

/// Until when it is to be held.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Until {
    /// A time that is to come.
    expires_at: Timestamp,
}

fn portion(seats: Option<Vec<String>>, areas: Option<Vec<Object<AreaWish>>>) -> Portion {
    let areas = areas.into_iter().flatten().map(|Object(area)| area.into_pair()).collect();
    Portion { seats: seats.unwrap_or_default(), areas }
}

/// Gives a part of a held reservation up; all of it is released.
#[utoipa::path(post, path = "/v1/reservations/{id}/releases", tag = "reservations", operation_id = "release_part",
    params(("id" = ReservationId, Path), Idempotent), request_body = Part, security(("bearer" = [])),
    responses((status = 200, description = "The reservation, as it is then", body = Reservation),
        (status = 400), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn release_part(
    request: HttpRequest,
    path: web::Path<String>,
    User(user): User,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let reservation: ReservationId = id(&path)?;
    let operation = format!("POST /v1/reservations/{reservation}/releases");
    let body = async { Input::read(&request, payload, &app, &user.user, &operation).await?.parse::<Part>() };
    let caller = user.doer();
    let (part, key) = unless_missing(body.await, app.engine.reservation(&caller, reservation)).await?;
    let part = portion(part.seats, part.areas);
    let answered = app.engine.release_part(&caller, reservation, part, key).await.map_err(Problem::from);
    let answered = unless_missing(answered, app.engine.reservation(&caller, reservation)).await?;
    respond::done(&answered.value, answered.replayed)
}

/// Gives seats and places for as many others; a difference is paid from the wallet, or goes back.
#[utoipa::path(post, path = "/v1/reservations/{id}/exchanges", tag = "reservations", operation_id = "exchange_seats",
    params(("id" = ReservationId, Path), Idempotent,
        ("Queue-Token" = Option<String>, Header, description = "The active token, while the waiting room is on")),
    request_body = Swap, security(("bearer" = [])),
    responses((status = 201, description = "The reservation, as it is then", body = Reservation),
        (status = 400), (status = 402), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn exchange(
    request: HttpRequest,
    path: web::Path<String>,
    Refunder(user): Refunder,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let reservation: ReservationId = id(&path)?;
    let operation = format!("POST /v1/reservations/{reservation}/exchanges");
    let body = async { Input::read(&request, payload, &app, &user.user, &operation).await?.parse::<Swap>() };
    let caller = user.doer();
    let (swap, key) = unless_missing(body.await, app.engine.reservation(&caller, reservation)).await?;
    let swap = (portion(swap.give, swap.give_areas), portion(swap.take, swap.take_areas));
    // A header that is not text is a token that is not one.
    let token = request.headers().get(QUEUE_TOKEN).map(|token| token.to_str().unwrap_or_default());
    let answered = app.engine.exchange(&caller, reservation, swap, token, key).await.map_err(Problem::from);
    let answered = unless_missing(answered, app.engine.reservation(&caller, reservation)).await?;
    respond::created(&answered, &format!("/v1/reservations/{reservation}"))
}

/// Offers a confirmed reservation to somebody else; an admin and a box office may hand it on at once, and get the reservation.
#[utoipa::path(post, path = "/v1/reservations/{id}/transfers", tag = "reservations", operation_id = "offer_transfer",
    params(("id" = ReservationId, Path), Idempotent), request_body = HandOver, security(("bearer" = [])),
    responses((status = 201, description = "The offer", body = Transfer),
        (status = 200, description = "The reservation, handed on at once", body = Reservation),
        (status = 400), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn transfer(
    request: HttpRequest,
    path: web::Path<String>,
    Holder(user): Holder,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let reservation: ReservationId = id(&path)?;
    let operation = format!("POST /v1/reservations/{reservation}/transfers");
    let body = async { Input::read(&request, payload, &app, &user.user, &operation).await?.parse::<HandOver>() };
    let caller = user.doer();
    let (HandOver { to, accept }, key) =
        unless_missing(body.await, app.engine.reservation(&caller, reservation)).await?;
    if !accept {
        let answered = app.engine.offer_transfer(&caller, reservation, &to, key).await?;
        return respond::created(&answered, &format!("/v1/reservations/{reservation}"));
    }
    if user.roles.is_empty() {
        // What is somebody else's is not there for them.
        app.engine.reservation(&caller, reservation).await?;
        return Err(Problem::new(
            Code::Forbidden,
            "Only an admin or the role box_office hands a reservation on at once.",
        ));
    }
    let answered = app.engine.hand_on(reservation, &to, Some(&user.user), key).await?;
    respond::done(&answered.value, answered.replayed)
}

/// Accepts an offer that was made to the caller: the reservation is theirs.
#[utoipa::path(post, path = "/v1/transfers/{id}/accept", tag = "reservations", operation_id = "accept_transfer",
    params(("id" = TransferId, Path), Idempotent), request_body = Empty, security(("bearer" = [])),
    responses((status = 200, description = "The reservation", body = Reservation),
        (status = 404), (status = 409), (status = 422)))]
pub(super) async fn accept(
    request: HttpRequest,
    path: web::Path<String>,
    User(user): User,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let transfer: TransferId = id(&path)?;
    let operation = format!("POST /v1/transfers/{transfer}/accept");
    let key = async { Input::read(&request, payload, &app, &user.user, &operation).await?.nothing() };
    // Nobody accepts for others, not even an admin.
    let key = unless_missing(key.await, app.engine.transfer(&user.user, transfer)).await?;
    let answered = app.engine.accept_transfer(&user.user, transfer, key).await?;
    respond::done(&answered.value, answered.replayed)
}

/// Takes an offer back.
#[utoipa::path(delete, path = "/v1/transfers/{id}", tag = "reservations", operation_id = "withdraw_transfer",
    params(("id" = TransferId, Path)), security(("bearer" = [])),
    responses((status = 204, description = "It stands no more"), (status = 404)))]
pub(super) async fn withdraw(
    path: web::Path<String>,
    Holder(user): Holder,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.engine.withdraw_transfer(&user.doer(), id(&path)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Holds a reservation until another time.
#[utoipa::path(patch, path = "/v1/reservations/{id}", tag = "reservations", operation_id = "extend_hold",
    params(("id" = ReservationId, Path)), security(("bearer" = [])),
    request_body(content((Until = "application/json"), (Until = "application/merge-patch+json"))),
    responses((status = 200, description = "The reservation", body = Reservation),
        (status = 400), (status = 403), (status = 404), (status = 409)))]
pub(super) async fn extend(
    request: HttpRequest,
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let reservation: ReservationId = id(&path)?;
    let patch = async {
        let input = Input::read(&request, payload, &app, &admin.user, "PATCH").await?;
        input.parse::<Until>().map(|(patch, _)| patch)
    };
    let patch = unless_missing(patch.await, app.engine.reservation(&admin.caller(), reservation)).await?;
    respond::ok(&app.engine.hold_until(reservation, patch.expires_at, Some(&admin.user)).await?, Cache::Private)
}
