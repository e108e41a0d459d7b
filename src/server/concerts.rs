//! Concerts: announced by admins, read by anyone.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::{self, Admin};
use super::json::{Input, Object, given, patched};
use super::openapi::{Idempotent, Paged};
use super::problem::Problem;
use super::query::Query;
use super::respond::{self, Cache};
use super::waiting_room::WaitingRoomPatch;
use super::{App, id, unless_missing};
use crate::api::{Concert, NewConcert, Page};
use crate::domain::ConcertId;
use crate::domain::catalogue;
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

/// What is told of a concert, any of it. `null` takes it away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConcertPatch {
    /// 1 to 200 characters, no control characters; a concert always has one.
    #[serde(deserialize_with = "given")]
    #[schema(min_length = 1, max_length = 200)]
    title: Option<String>,
    /// Where it is: 1 to 200 characters, no control characters.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200)]
    venue: Option<Option<String>>,
    /// The time zone there, by its IANA name.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<String>)]
    time_zone: Option<Option<String>>,
    /// 1 to 5,000 characters.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 5_000)]
    description: Option<Option<String>>,
    /// An address over https.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<String>, max_length = 2_000)]
    image_url: Option<Option<String>>,
    /// Whether it is left out of the list of all.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<bool>)]
    hidden: Option<Option<bool>>,
}

impl From<ConcertPatch> for catalogue::ConcertPatch {
    fn from(patch: ConcertPatch) -> Self {
        let ConcertPatch { title, venue, time_zone, description, image_url, hidden } = patch;
        let hidden = hidden.map(Option::unwrap_or_default);
        Self { title, venue, time_zone, description, image_url, hidden }
    }
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

/// Changes what is told of a concert.
#[utoipa::path(patch, path = "/v1/concerts/{id}", tag = "concerts", operation_id = "change_concert",
    params(("id" = ConcertId, Path)), security(("bearer" = [])),
    request_body(content((ConcertPatch = "application/json"), (ConcertPatch = "application/merge-patch+json"))),
    responses((status = 200, description = "The concert", body = Concert), (status = 403), (status = 404)))]
pub(super) async fn change(
    request: HttpRequest,
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let concert = id(&path)?;
    let patch = async {
        let input = Input::read(&request, payload, &app, &admin.user, "PATCH").await?;
        input.parse::<ConcertPatch>().map(|(patch, _)| patch)
    };
    let patch = unless_missing(patch.await, app.engine.concert(concert)).await?;
    respond::ok(&app.engine.change_concert(concert, patch.into(), &admin.user).await?, Cache::Private)
}

/// Lists concerts, newest first; those that are hidden only to whoever has a role.
#[utoipa::path(get, path = "/v1/concerts", tag = "concerts", operation_id = "list_concerts", params(Paged),
    responses((status = 200, description = "A page of concerts", body = Page<Concert>), (status = 400)))]
pub(super) async fn list(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let page = Query::read(&request, Query::PAGE)?.page()?;
    if auth::runs_the_sale(&request, &app)? {
        return respond::page(&app, app.engine.concerts(&page), Cache::Private).await;
    }
    respond::page(&app, app.engine.shown_concerts(&page), Cache::Revalidate).await
}

/// Reads a concert.
#[utoipa::path(get, path = "/v1/concerts/{id}", tag = "concerts", operation_id = "get_concert",
    params(("id" = ConcertId, Path)),
    responses((status = 200, description = "The concert", body = Concert), (status = 404)))]
pub(super) async fn read(path: web::Path<String>, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.concert(id(&path)?).await?, Cache::Revalidate)
}
