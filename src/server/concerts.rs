//! Concerts: announced by admins, read by anyone.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Admin;
use super::json::{Input, Object, given};
use super::openapi::{Idempotent, Paged};
use super::problem::Problem;
use super::query::Query;
use super::respond::{self, Cache};
use super::waiting_room::WaitingRoomPatch;
use super::{App, id};
use crate::api::{Concert, NewConcert, Page};
use crate::domain::ConcertId;
use crate::domain::waiting_room::Settings;

/// A concert to be announced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateConcert {
    /// 1 to 200 characters, no control characters.
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    /// How its waiting room begins; what is absent has its default.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = WaitingRoomPatch, required = false)]
    waiting_room: Option<Object<WaitingRoomPatch>>,
}

/// Announces a concert.
#[utoipa::path(post, path = "/v1/concerts", tag = "concerts", operation_id = "create_concert",
    params(Idempotent), request_body = CreateConcert, security(("bearer" = [])),
    responses((status = 201, description = "The concert", body = Concert), (status = 403), (status = 409),
        (status = 422)))]
pub(super) async fn create(
    request: HttpRequest,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let input = Input::read(&request, payload, &app, &admin.user, "POST /v1/concerts").await?;
    let (CreateConcert { title, waiting_room }, key) = input.parse()?;
    let waiting_room =
        waiting_room.map(|Object(patch)| patch).unwrap_or_default().into_patch().apply(&Settings::default());
    let answered = app.engine.create_concert(NewConcert { title, waiting_room }, key).await?;
    respond::created(&answered, &format!("/v1/concerts/{}", answered.value.id))
}

/// Lists concerts, newest first.
#[utoipa::path(get, path = "/v1/concerts", tag = "concerts", operation_id = "list_concerts", params(Paged),
    responses((status = 200, description = "A page of concerts", body = Page<Concert>), (status = 400)))]
pub(super) async fn list(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let page = Query::read(&request, Query::PAGE)?.page()?;
    respond::page(&app, app.engine.concerts(&page), Cache::Revalidate).await
}

/// Reads a concert.
#[utoipa::path(get, path = "/v1/concerts/{id}", tag = "concerts", operation_id = "get_concert",
    params(("id" = ConcertId, Path)),
    responses((status = 200, description = "The concert", body = Concert), (status = 404)))]
pub(super) async fn read(path: web::Path<String>, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.concert(id(&path)?).await?, Cache::Revalidate)
}
