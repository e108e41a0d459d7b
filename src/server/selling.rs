//! What is sold changes: performances are called off.

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
use crate::domain::OptionId;

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
    responses((status = 202, description = "How far it is", body = Cancellation),
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
