//! Wallets: a user's points, and how they came and went.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::{Admin, Historian, Identity, User};
use super::json::Input;
use super::openapi::{Idempotent, Paged};
use super::problem::{Code, Problem};
use super::query::Query;
use super::respond::{self, Cache};
use super::{App, id};
use crate::api::{Answered, HistoryItem, Page, Wallet, WalletEntry};
use crate::domain::{Points, UserId};

/// Points to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Charge {
    /// 1 to 2^53-1.
    #[schema(value_type = u64, minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    amount: Points,
}

/// A correction.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Adjustment {
    /// Points to be added, or to be taken if it is below zero; not 0.
    #[schema(minimum = -9_007_199_254_740_991_i64, maximum = 9_007_199_254_740_991_i64)]
    amount: i64,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Reads the caller's wallet.
#[utoipa::path(get, path = "/v1/wallet", tag = "wallet", operation_id = "get_own_wallet", security(("bearer" = [])),
    responses((status = 200, description = "The wallet", body = Wallet)))]
pub(super) async fn own(User(user): User, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.wallet(&user.user).await?, Cache::Private)
}

/// Lists the entries of the caller's wallet, newest first.
#[utoipa::path(get, path = "/v1/wallet/entries", tag = "wallet", operation_id = "list_wallet_entries",
    params(Paged), security(("bearer" = [])),
    responses((status = 200, description = "A page of entries", body = Page<WalletEntry>), (status = 400)))]
pub(super) async fn entries(
    request: HttpRequest,
    User(user): User,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let page = Query::read(&request, Query::PAGE)?.page()?;
    respond::page(&app, app.engine.wallet_entries(&user.user, &page), Cache::Private).await
}

/// Charges the caller's own wallet, if the server is configured to let users do that.
#[utoipa::path(post, path = "/v1/wallet/charges", tag = "wallet", operation_id = "charge_own_wallet",
    params(Idempotent), request_body = Charge, security(("bearer" = [])),
    responses((status = 201, description = "The entry", body = WalletEntry),
        (status = 403), (status = 409), (status = 422)))]
pub(super) async fn charge_own(
    request: HttpRequest,
    User(user): User,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    if !app.settings.wallet.self_charge {
        return Err(Problem::new(Code::Forbidden, "Users may not charge their own wallets."));
    }
    let operation = "POST /v1/wallet/charges";
    let answered = charge_wallet(&request, payload, &app, &user.user, &user, operation).await?;
    respond::created(&answered, "/v1/wallet/entries")
}

/// Reads the wallet of any user.
#[utoipa::path(get, path = "/v1/users/{user_id}/wallet", tag = "wallet", operation_id = "get_wallet",
    params(("user_id" = UserId, Path)), security(("bearer" = [])),
    responses((status = 200, description = "The wallet", body = Wallet), (status = 403), (status = 404)))]
pub(super) async fn of_user(path: web::Path<String>, _: Admin, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    respond::ok(&app.engine.wallet(&id(&path)?).await?, Cache::Private)
}

/// Charges the wallet of any user.
#[utoipa::path(post, path = "/v1/users/{user_id}/wallet/charges", tag = "wallet", operation_id = "charge_wallet",
    params(("user_id" = UserId, Path), Idempotent), request_body = Charge, security(("bearer" = [])),
    responses((status = 201, description = "The entry", body = WalletEntry),
        (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn charge(
    request: HttpRequest,
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let owner: UserId = id(&path)?;
    let operation = format!("POST /v1/users/{owner}/wallet/charges");
    let answered = charge_wallet(&request, payload, &app, &owner, &admin, &operation).await?;
    let owner = percent_encoding::utf8_percent_encode(owner.as_str(), percent_encoding::NON_ALPHANUMERIC);
    respond::created(&answered, &format!("/v1/users/{owner}/wallet"))
}

/// Tells what has happened to the wallet of any user, who did it, and why, oldest first. It reads the whole journal.
#[utoipa::path(get, path = "/v1/users/{user_id}/wallet/history", tag = "histories", operation_id = "get_wallet_history",
    params(("user_id" = UserId, Path), Paged), security(("bearer" = [])),
    responses((status = 200, description = "A page of what has happened", body = Page<HistoryItem>), (status = 400),
        (status = 403), (status = 404)))]
pub(super) async fn history(
    request: HttpRequest,
    path: web::Path<String>,
    _: Historian,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let owner: UserId = id(&path)?;
    let page = Query::read(&request, Query::PAGE)?.page()?;
    respond::page(&app, app.engine.wallet_history(&owner, &page), Cache::Private).await
}

/// Corrects what is in the wallet of any user.
#[utoipa::path(post, path = "/v1/users/{user_id}/wallet/adjustments", tag = "wallet", operation_id = "adjust_wallet",
    params(("user_id" = UserId, Path), Idempotent), request_body = Adjustment, security(("bearer" = [])),
    responses((status = 201, description = "The entry", body = WalletEntry), (status = 402),
        (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn adjust(
    request: HttpRequest,
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let owner: UserId = id(&path)?;
    let operation = format!("POST /v1/users/{owner}/wallet/adjustments");
    let input = Input::read(&request, payload, &app, &admin.user, &operation).await?;
    let (Adjustment { amount, reason }, key) = input.parse()?;
    let answered = app.engine.adjust(&owner, amount, &reason, &admin.user, key).await?;
    let owner = percent_encoding::utf8_percent_encode(owner.as_str(), percent_encoding::NON_ALPHANUMERIC);
    respond::created(&answered, &format!("/v1/users/{owner}/wallet"))
}

async fn charge_wallet(
    request: &HttpRequest,
    payload: web::Payload,
    app: &App,
    owner: &UserId,
    by: &Identity,
    operation: &str,
) -> Result<Answered<WalletEntry>, Problem> {
    let input = Input::read(request, payload, app, &by.user, operation).await?;
    let (Charge { amount }, key) = input.parse()?;
    Ok(app.engine.charge(owner, amount, &by.user, key).await?)
}
