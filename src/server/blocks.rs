//! Seats and places that whoever runs a sale takes off sale, and puts back on it.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Identity, Seller};
use super::json::{Input, Object, given};
use super::openapi::Idempotent;
use super::problem::Problem;
use super::{App, id, respond, unless_missing};
use crate::api::{Answered, Blocks, IdempotencyKey};
use crate::domain::OptionId;

/// What is to be off sale, or on it again, or is so now: at least one seat, zone, row or area.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockList {
    /// Seats, by their ids.
    #[serde(default)]
    seats: Vec<String>,
    /// All seats of these zones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    zones: Vec<String>,
    /// All seats of these rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<BlockedRow>)]
    rows: Vec<Object<BlockedRow>>,
    /// So many places of these areas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<BlockedArea>)]
    areas: Vec<Object<BlockedArea>>,
    /// Why; the histories of the seats tell it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200, nullable = false)]
    reason: Option<String>,
}

/// A row of a seating plan.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockedRow {
    /// The name of its zone.
    zone: String,
    /// Its own name: `row_number` of the plan.
    row: String,
}

/// Places in an area, beside those that are blocked already.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockedArea {
    /// The area.
    name: String,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000)]
    count: u32,
}

impl From<BlockList> for Blocks {
    fn from(list: BlockList) -> Self {
        Self {
            seats: list.seats,
            zones: list.zones,
            rows: list.rows.into_iter().map(|Object(row)| (row.zone, row.row)).collect(),
            areas: list.areas.into_iter().map(|Object(area)| (area.name, area.count)).collect(),
            reason: list.reason,
        }
    }
}

impl From<Blocks> for BlockList {
    fn from(blocks: Blocks) -> Self {
        Self {
            seats: blocks.seats,
            zones: blocks.zones,
            rows: blocks.rows.into_iter().map(|(zone, row)| Object(BlockedRow { zone, row })).collect(),
            areas: blocks.areas.into_iter().map(|(name, count)| Object(BlockedArea { name, count })).collect(),
            reason: blocks.reason,
        }
    }
}

/// Takes seats and places off sale.
#[utoipa::path(post, path = "/v1/options/{id}/blocks", tag = "concerts", operation_id = "block_seats",
    params(("id" = OptionId, Path), Idempotent), request_body = BlockList, security(("bearer" = [])),
    responses((status = 200, description = "What was asked for", body = BlockList),
        (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn block(
    request: HttpRequest,
    path: web::Path<String>,
    Seller(seller): Seller,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let option = id(&path)?;
    let operation = format!("POST /v1/options/{option}/blocks");
    let (blocks, key) = read(&request, payload, &app, &seller, option, &operation).await?;
    done(app.engine.block(option, blocks, &seller.user, key).await?)
}

/// Puts seats and places back on sale.
#[utoipa::path(post, path = "/v1/options/{id}/unblocks", tag = "concerts", operation_id = "unblock_seats",
    params(("id" = OptionId, Path), Idempotent), request_body = BlockList, security(("bearer" = [])),
    responses((status = 200, description = "What was asked for", body = BlockList),
        (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn unblock(
    request: HttpRequest,
    path: web::Path<String>,
    Seller(seller): Seller,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let option = id(&path)?;
    let operation = format!("POST /v1/options/{option}/unblocks");
    let (blocks, key) = read(&request, payload, &app, &seller, option, &operation).await?;
    done(app.engine.unblock(option, blocks, &seller.user, key).await?)
}

async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    app: &App,
    seller: &Identity,
    option: OptionId,
    operation: &str,
) -> Result<(Blocks, Option<IdempotencyKey>), Problem> {
    let input = async {
        let input = Input::read(request, payload, app, &seller.user, operation).await?;
        input.parse().map(|(list, key): (BlockList, _)| (list.into(), key))
    };
    unless_missing(input.await, app.engine.option(option)).await
}

fn done(answered: Answered<Blocks>) -> Result<HttpResponse, Problem> {
    respond::done(&BlockList::from(answered.value), answered.replayed)
}
