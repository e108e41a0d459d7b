//! What is sold changes: performances are called off, and what nobody ever held is deleted.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Admin;
use super::json::{Input, given};
use super::openapi::Idempotent;
use super::problem::Problem;
use super::respond::{self, Cache};
use super::{App, id, unless_missing};
use crate::api::Cancellation;
use crate::domain::{ConcertId, OptionId};

/// Why a performance is called off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// As it is told to who asks.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 500)]
    reason: Option<String>,
}

/// Calls a performance off: nothing is sold any more, holds end, and every payment is given back to who paid.
#[utoipa::path(post, path = "/v1/options/{id}/cancellation", tag = "concerts", operation_id = "cancel_option",
    params(("id" = OptionId, Path), Idempotent), request_body = Reason, security(("bearer" = [])),
    responses((status = 202, description = "What there was to do when it was called off", body = Cancellation),
        (status = 400), (status = 403), (status = 404), (status = 422)))]
pub(super) async fn call_off(
    request: HttpRequest,
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let option: OptionId = id(&path)?;
    let location = format!("/v1/options/{option}/cancellation");
    let operation = format!("POST {location}");
    let body = async { Input::read(&request, payload, &app, &admin.user, &operation).await?.parse::<Reason>() };
    let (body, key) = unless_missing(body.await, app.engine.option(option)).await?;
    let answered = app.engine.call_off(option, body.reason, &admin.user, key).await?;
    respond::accepted(&answered, &location)
}

/// Tells how far the calling off of a performance is.
#[utoipa::path(get, path = "/v1/options/{id}/cancellation", tag = "concerts", operation_id = "get_cancellation",
    params(("id" = OptionId, Path)), security(("bearer" = [])),
    responses((status = 200, description = "How far it is", body = Cancellation), (status = 403), (status = 404)))]
pub(super) async fn cancellation(
    path: web::Path<String>,
    _: Admin,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.cancellation(id(&path)?).await?, Cache::Private)
}

/// Deletes an option of which nothing was ever held.
#[utoipa::path(delete, path = "/v1/options/{id}", tag = "concerts", operation_id = "delete_option",
    params(("id" = OptionId, Path)), security(("bearer" = [])),
    responses((status = 204, description = "Deleted"), (status = 403), (status = 404), (status = 409)))]
pub(super) async fn delete_option(
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.engine.delete_option(id(&path)?, &admin.user).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Deletes a concert with its options, where nothing was ever held of any of them. Its line ends.
#[utoipa::path(delete, path = "/v1/concerts/{id}", tag = "concerts", operation_id = "delete_concert",
    params(("id" = ConcertId, Path)), security(("bearer" = [])),
    responses((status = 204, description = "Deleted"), (status = 403), (status = 404), (status = 409)))]
pub(super) async fn delete_concert(
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.engine.delete_concert(id(&path)?, &admin.user).await?;
    Ok(HttpResponse::NoContent().finish())
}
