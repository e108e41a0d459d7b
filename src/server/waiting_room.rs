//! Waiting rooms: run by admins, and the tokens of those who wait in them.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::{Admin, Historian, User};
use super::json::{Empty, Input, patched};
use super::openapi::Paged;
use super::problem::Problem;
use super::query::Query;
use super::respond::{self, Cache};
use super::{App, id, unless_missing};
use crate::api::{Caller, HistoryItem, Page, Token, WaitingRoom};
use crate::domain::waiting_room::{Mode, Order, Settings, SettingsPatch};
use crate::domain::{ConcertId, Timestamp, TokenId};

/// Settings of a waiting room, any of them. `null` stands for the default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WaitingRoomPatch {
    /// Who is let in; `open` by default.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<Mode>)]
    mode: Option<Option<Mode>>,
    /// How many may be inside for another one to be let in; 500 by default.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10_000_000)]
    max_active: Option<Option<u32>>,
    /// How many are let in within a minute; no limit by default.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10_000_000)]
    admit_per_minute: Option<Option<u32>>,
    /// How long one may stay inside; 600 by default.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 86_400)]
    active_ttl_seconds: Option<Option<u32>>,
    /// How long a waiter may be silent; 120 by default.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 86_400)]
    waiting_ttl_seconds: Option<Option<u32>>,
    /// In what order those are let in who came before the line opened; `fifo` by default.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<Order>)]
    order: Option<Option<Order>>,
    /// When the line opens; from the start by default.
    #[serde(deserialize_with = "patched")]
    #[schema(value_type = Option<Timestamp>)]
    opens_at: Option<Option<Timestamp>>,
}

impl WaitingRoomPatch {
    pub(super) fn into_patch(self) -> SettingsPatch {
        let default = Settings::default();
        SettingsPatch {
            mode: self.mode.map(|mode| mode.unwrap_or(default.mode)),
            max_active: self.max_active.map(|max| max.unwrap_or(default.max_active)),
            admit_per_minute: self.admit_per_minute,
            active_ttl_seconds: self.active_ttl_seconds.map(|ttl| ttl.unwrap_or(default.active_ttl_seconds)),
            waiting_ttl_seconds: self.waiting_ttl_seconds.map(|ttl| ttl.unwrap_or(default.waiting_ttl_seconds)),
            order: self.order.map(|order| order.unwrap_or(default.order)),
            opens_at: self.opens_at,
        }
    }
}

/// Reads the settings of a concert's waiting room, and how many are in it.
#[utoipa::path(get, path = "/v1/concerts/{id}/waiting-room", tag = "waiting room", operation_id = "get_waiting_room",
    params(("id" = ConcertId, Path)), security(("bearer" = [])),
    responses((status = 200, description = "The waiting room", body = WaitingRoom), (status = 403), (status = 404)))]
pub(super) async fn read(path: web::Path<String>, _: Admin, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.waiting_room(id(&path)?).await?, Cache::Private)
}

/// Changes the settings of a concert's waiting room.
#[utoipa::path(patch, path = "/v1/concerts/{id}/waiting-room", tag = "waiting room",
    operation_id = "configure_waiting_room", params(("id" = ConcertId, Path)), security(("bearer" = [])),
    request_body(content((WaitingRoomPatch = "application/json"), (WaitingRoomPatch = "application/merge-patch+json"))),
    responses((status = 200, description = "The waiting room", body = WaitingRoom), (status = 403), (status = 404)))]
pub(super) async fn configure(
    request: HttpRequest,
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let concert = id(&path)?;
    let patch = async {
        let input = Input::read(&request, payload, &app, &admin.user, "PATCH").await?;
        Ok(input.parse::<WaitingRoomPatch>()?.0.into_patch())
    };
    let patch = unless_missing(patch.await, app.engine.concert(concert)).await?;
    respond::ok(&app.engine.configure_waiting_room_by(concert, patch, &admin.user).await?, Cache::Private)
}

/// Tells what has happened to a place in a waiting room, who did it, and why, oldest first.
#[utoipa::path(get, path = "/v1/tokens/{id}/history", tag = "histories", operation_id = "get_token_history",
    params(("id" = TokenId, Path), Paged), security(("bearer" = [])),
    responses((status = 200, description = "A page of what has happened", body = Page<HistoryItem>), (status = 400),
        (status = 403), (status = 404)))]
pub(super) async fn history(
    request: HttpRequest,
    path: web::Path<String>,
    _: Historian,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let token: TokenId = id(&path)?;
    let page = async { Query::read(&request, Query::PAGE)?.page() };
    let page = unless_missing(page.await, app.engine.token(&Caller::Admin, token)).await?;
    respond::page(&app, app.engine.token_history(token, &page), Cache::Private).await
}

/// Gets in line. Whoever is in it already gets the same token again.
#[utoipa::path(post, path = "/v1/concerts/{id}/tokens", tag = "waiting room", operation_id = "issue_token",
    params(("id" = ConcertId, Path)), request_body = Empty, security(("bearer" = [])),
    responses(
        (status = 201, description = "A new token", body = Token),
        (status = 200, description = "The token that this user has", body = Token),
        (status = 404)))]
pub(super) async fn issue_token(
    request: HttpRequest,
    path: web::Path<String>,
    User(user): User,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let concert = id(&path)?;
    let nothing = Input::expect_nothing(&request, payload, &app).await;
    unless_missing(nothing, app.engine.concert(concert)).await?;
    let issued = app.engine.issue_token(concert, &user.user).await?;
    if !issued.fresh {
        return respond::ok(&issued.token, Cache::Private);
    }
    let mut response = HttpResponse::Created();
    response.insert_header(("Location", format!("/v1/tokens/{}", issued.token.id)));
    respond::json(&mut response, &issued.token, Cache::Private)
}

/// Reads a token. To ask is a sign of life.
#[utoipa::path(get, path = "/v1/tokens/{id}", tag = "waiting room", operation_id = "get_token",
    params(("id" = TokenId, Path)), security(("bearer" = [])),
    responses((status = 200, description = "The token", body = Token), (status = 404)))]
pub(super) async fn read_token(
    path: web::Path<String>,
    User(user): User,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.token(&user.caller(), id(&path)?).await?, Cache::Private)
}

/// Leaves the line.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "waiting room", operation_id = "leave_queue",
    params(("id" = TokenId, Path)), security(("bearer" = [])),
    responses((status = 204, description = "Left"), (status = 404)))]
pub(super) async fn leave(
    path: web::Path<String>,
    User(user): User,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    app.engine.leave_queue(&user.doer(), id(&path)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
