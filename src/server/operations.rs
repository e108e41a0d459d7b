//! For operators: whether the server lives, whether it is ready, and its figures.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::App;
use super::auth::Admin;
use super::openapi::Alive;
use super::problem::{Code, Problem};
use super::respond::{self, Cache};
use crate::api::{Health, Stats};

/// Alive, whatever else it may be.
#[utoipa::path(get, path = "/healthz", tag = "operations", operation_id = "healthz",
    responses((status = 200, description = "It lives", body = Alive)))]
pub(super) async fn healthz() -> Result<HttpResponse, Problem> {
    respond::ok(&json!({ "status": "alive" }), Cache::Private)
}

/// Whether it takes requests, and if not, why.
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "readyz",
    responses((status = 200, description = "It is ready", body = Health),
        (status = 503, description = "It is not", body = Health)))]
pub(super) async fn readyz(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let health = app.engine.health();
    let mut response = if health.ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    respond::json(&mut response, &health, Cache::Private)
}

/// What the engine counts.
#[utoipa::path(get, path = "/v1/stats", tag = "operations", operation_id = "get_stats", security(("bearer" = [])),
    responses((status = 200, description = "The figures", body = Stats), (status = 403)))]
pub(super) async fn stats(_: Admin, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.stats(), Cache::Private)
}

/// All figures, for Prometheus.
pub(super) async fn metrics(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let text = app.metrics.text().map_err(|error| {
        tracing::error!(%error, "figures cannot be written");
        Problem::new(Code::Internal, "The server's log has more.")
    })?;
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(HttpResponse::Ok().content_type(media_type).body(text))
}
