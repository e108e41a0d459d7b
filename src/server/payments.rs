//! Payments from the wallet, and refunds.

use actix_web::{HttpRequest, HttpResponse, web};

use super::auth::User;
use super::json::{Empty, Input};
use super::openapi::{Idempotent, Paged};
use super::problem::Problem;
use super::query::Query;
use super::respond::{self, Cache};
use super::{App, id, unless_missing};
use crate::api::{Caller, Page, Payment, Refund};
use crate::domain::{PaymentId, ReservationId};

/// Pays for a reservation from the caller's wallet.
#[utoipa::path(post, path = "/v1/reservations/{id}/payments", tag = "payments", operation_id = "pay",
    params(("id" = ReservationId, Path), Idempotent), request_body = Empty, security(("bearer" = [])),
    responses((status = 201, description = "The payment", body = Payment),
        (status = 402), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn pay(
    request: HttpRequest,
    path: web::Path<String>,
    User(user): User,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let reservation: ReservationId = id(&path)?;
    let operation = format!("POST /v1/reservations/{reservation}/payments");
    let key = async { Input::read(&request, payload, &app, &user.user, &operation).await?.nothing() };
    // Nobody pays for others, not even an admin.
    let owner = Caller::User(user.user.clone());
    let key = unless_missing(key.await, app.engine.reservation(&owner, reservation)).await?;
    let answered = app.engine.pay(&user.user, reservation, key).await?;
    respond::created(&answered, &format!("/v1/payments/{}", answered.value.id))
}

/// Reads a payment.
#[utoipa::path(get, path = "/v1/payments/{id}", tag = "payments", operation_id = "get_payment",
    params(("id" = PaymentId, Path)), security(("bearer" = [])),
    responses((status = 200, description = "The payment", body = Payment), (status = 404)))]
pub(super) async fn read(
    path: web::Path<String>,
    User(user): User,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.payment(&user.caller(), id(&path)?).await?, Cache::Private)
}

/// Lists the caller's payments, newest first; those that were refused are there as `failed`.
#[utoipa::path(get, path = "/v1/payments", tag = "payments", operation_id = "list_payments", params(Paged),
    security(("bearer" = [])),
    responses((status = 200, description = "A page of payments", body = Page<Payment>), (status = 400)))]
pub(super) async fn list(request: HttpRequest, User(user): User, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let page = Query::read(&request, Query::PAGE)?.page()?;
    respond::page(&app, app.engine.payments(&user.user, &page), Cache::Private).await
}

/// Gives a payment back, and makes its seats available again.
#[utoipa::path(post, path = "/v1/payments/{id}/refunds", tag = "payments", operation_id = "refund_payment",
    params(("id" = PaymentId, Path), Idempotent), request_body = Empty, security(("bearer" = [])),
    responses((status = 201, description = "The refund", body = Refund),
        (status = 404), (status = 409), (status = 422)))]
pub(super) async fn refund(
    request: HttpRequest,
    path: web::Path<String>,
    User(user): User,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let payment: PaymentId = id(&path)?;
    let operation = format!("POST /v1/payments/{payment}/refunds");
    let key = async { Input::read(&request, payload, &app, &user.user, &operation).await?.nothing() };
    let caller = user.caller();
    let key = unless_missing(key.await, app.engine.payment(&caller, payment)).await?;
    let answered = app.engine.refund(&caller, payment, key).await?;
    // A refund is seen where its payment is.
    respond::created(&answered, &format!("/v1/payments/{payment}"))
}
