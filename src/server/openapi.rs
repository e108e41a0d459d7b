//! The description of the API, made from the handlers and types themselves, and the page to read and try it.
//!
//! Handlers name their own answers. What many of them have in common (problems, headers) is added here, and types that
//! do not derive their schema have it in one table.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{Object, Ref, RefOr, Required, Schema};
use utoipa::{IntoParams, OpenApi, PartialSchema, ToSchema};

use super::bodies::Piece;
use super::problem::{self, Code, Problem};
use super::ready::Ready;
use super::respond::Cache;
use super::webhooks::routes as webhooks;
use super::{
    App, apart, blocks, changes, concerts, events, live, operations, options, payments, providers, reconciliation,
    reservations, selling, sinks, site, waiting_room, wallet,
};
use crate::api::{
    AreaSeats, HistoryItem, Payment, PaymentStatus, Reservation, ReservationStatus, ReservedArea, ReservedSeat, Seats,
};
use crate::domain::catalogue::Details;
use crate::domain::concert_option::{Counts as SeatCounts, OptionStatus};
use crate::domain::facts::Kind;
use crate::domain::sink::Response;
use crate::domain::waiting_room::{Counts as TokenCounts, Mode, Order, Settings, TokenStatus};
use crate::domain::wallet::EntryKind;
use crate::domain::{
    ConcertId, Currency, EntryId, EventId, EventType, OptionId, PaymentId, Points, RefundId, ReservationId, SinkId,
    Timestamp, TokenId, TransferId, UserId,
};
use crate::error::FieldError;

/// What the page of the documentation may do. It sets styles of its own.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(OpenApi)]
#[openapi(
    info(title = "boxoffice", description = "Reservations for high-demand ticket on-sales."),
    paths(
        concerts::list,
        concerts::create,
        concerts::read,
        concerts::change,
        options::create,
        options::read,
        options::change,
        options::plan,
        options::replace_plan,
        options::seats,
        live::seats,
        live::token,
        blocks::block,
        blocks::unblock,
        selling::call_off,
        selling::cancellation,
        selling::delete_concert,
        selling::delete_option,
        waiting_room::read,
        waiting_room::configure,
        waiting_room::issue_token,
        waiting_room::read_token,
        waiting_room::leave,
        reservations::hold,
        reservations::read,
        reservations::list,
        reservations::list_of_option,
        reservations::release,
        changes::extend,
        changes::release_part,
        changes::exchange,
        changes::transfer,
        changes::accept,
        changes::withdraw,
        payments::pay,
        payments::read,
        payments::list,
        payments::refund,
        payments::give_up,
        payments::report,
        payments::look_up,
        reconciliation::of_day,
        reconciliation::differences,
        providers::webhook,
        providers::confirm,
        wallet::own,
        wallet::entries,
        wallet::charge_own,
        wallet::of_user,
        wallet::charge,
        wallet::adjust,
        wallet::history,
        options::seat_history,
        waiting_room::history,
        events::list,
        webhooks::register,
        webhooks::list,
        webhooks::read,
        webhooks::remove,
        webhooks::rotate_secret,
        webhooks::dead_letters,
        webhooks::drop_dead_letter,
        webhooks::redrive,
        sinks::list,
        sinks::read,
        sinks::dead_letters,
        sinks::drop_dead_letter,
        sinks::redrive,
        operations::healthz,
        operations::readyz,
        operations::stats,
        site::read,
    ),
    components(schemas(
        FieldError,
        AreaSeats,
        ReservedSeat,
        ReservedArea,
        crate::api::BestAvailable,
        crate::api::OwedItem,
        reservations::AreaWish
    ))
)]
struct Api;

/// `limit` and `cursor` of a list.
pub struct Paged;

impl IntoParams for Paged {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            parameter("limit", "PageLimit", ParameterIn::Query, "How many items at the most"),
            parameter("cursor", "Cursor", ParameterIn::Query, "The `next_cursor` of the page before"),
        ]
    }
}

/// The header with which a request can be sent again.
pub struct Idempotent;

impl IntoParams for Idempotent {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "The same key and body (as JSON, not as bytes) give the same answer, for 24 hours";
        vec![parameter("Idempotency-Key", "IdempotencyKey", ParameterIn::Header, description)]
    }
}

fn parameter(name: &str, schema: &str, place: ParameterIn, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(Ref::from_schema_name(schema)))
        .build()
}

macro_rules! described {
    ($($type:ty => $name:literal,)*) => {
        $(
            impl PartialSchema for $type {
                /// Stands in for the entry of this name in the table below.
                fn schema() -> RefOr<Schema> {
                    RefOr::T(Schema::Object(Object::default()))
                }
            }

            impl ToSchema for $type {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed($name)
                }
            }
        )*
    };
}

/// The shape of a seating plan.
pub enum SeatingPlan {}
/// A reservation, with the steps that led to its state if an admin asks.
pub enum ReservationWithSteps {}
/// A page of events.
pub enum PublishedEvents {}
/// The answer of a server that lives.
pub enum Alive {}

described! {
    ConcertId => "ConcertId",
    OptionId => "OptionId",
    ReservationId => "ReservationId",
    PaymentId => "PaymentId",
    RefundId => "RefundId",
    TokenId => "TokenId",
    TransferId => "TransferId",
    EntryId => "EntryId",
    UserId => "UserId",
    Points => "Points",
    Currency => "Currency",
    Timestamp => "Timestamp",
    Mode => "WaitingRoomMode",
    Order => "WaitingRoomOrder",
    Settings => "WaitingRoomSettings",
    TokenCounts => "TokenCounts",
    TokenStatus => "TokenStatus",
    OptionStatus => "OptionStatus",
    SeatCounts => "SeatCounts",
    EntryKind => "EntryKind",
    HistoryItem => "HistoryItem",
    Details => "ConcertDetails",
    Seats => "Seats",
    Reservation => "Reservation",
    ReservationStatus => "ReservationStatus",
    ReservationWithSteps => "ReservationWithSteps",
    Payment => "Payment",
    Kind => "FactKind",
    reservations::Hold => "Hold",
    SeatingPlan => "SeatingPlan",
    crate::api::Focus => "Focus",
    EventId => "EventId",
    EventType => "EventType",
    SinkId => "WebhookId",
    Response => "WebhookResponse",
    PublishedEvents => "Events",
    Alive => "Alive",
}

/// The schemas of the types above, and of what has no type.
fn schemas() -> Vec<(&'static str, Value)> {
    let id =
        |what: &str| json!({"type": "string", "maxLength": 64, "description": format!("The id of {what}; opaque")});
    let count = json!({"type": "integer", "minimum": 0});
    let seconds = json!({"type": "integer", "minimum": 1, "maximum": 86_400});
    let label = |chars: u64| json!({"type": ["string", "number", "null"], "maxLength": chars});
    let position = json!({"type": ["object", "null"], "properties": {"x": {"type": ["number", "null"]}, "y": {"type": ["number", "null"]}}});
    let one_of = |values: &[&str]| json!({"type": "string", "enum": values});
    let wish = |wish: Value| {
        let flag = |what: &str| json!({"type": "boolean", "default": false, "description": what});
        let others = json!({
            "reference": {"type": "string", "maxLength": 200},
            "data": {"type": "object"},
            "user_id": {"allOf": [refer("UserId")], "description": "for whom (box office)"},
            "complimentary": flag("it costs nothing, and is confirmed at once (box office)"),
            "beyond_limits": flag("no limit of seats holds (box office)"),
            "from_blocked": flag("blocked seats may be named, and are blocked again once they are free (box office)"),
        });
        let mut schema = object_with(wish, others);
        schema["additionalProperties"] = json!(false);
        schema
    };
    let seat = json!({
        "type": "object",
        "required": ["seat_guid", "category"],
        "properties": {
            "seat_guid": {"type": "string", "minLength": 1, "maxLength": 190},
            "seat_number": label(190),
            "category": {"type": "string", "maxLength": 200, "description": "empty: not for sale"},
            "position": position,
            "start_direction": {"enum": ["<", ">", "<>", null]},
        },
    });
    let row = json!({
        "type": "object",
        "required": ["seats"],
        "properties": {
            "row_number": label(200),
            "row_label": label(200),
            "seat_label": label(200),
            "position": position,
            "seats": {"type": "array", "items": seat},
        },
    });
    vec![
        ("ConcertId", id("a concert")),
        ("OptionId", id("an option")),
        ("ReservationId", id("a reservation")),
        ("PaymentId", id("a payment")),
        ("RefundId", id("a refund")),
        ("TokenId", id("a token")),
        ("TransferId", id("an offer to hand a reservation on")),
        ("EntryId", id("a wallet's entry")),
        (
            "UserId",
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$", "description": "The subject of a JWT"}),
        ),
        ("Currency", json!({"type": "string", "pattern": "^[A-Z]{3}$", "description": "A code of ISO 4217"})),
        ("Points", json!({"type": "integer", "minimum": 0, "maximum": Points::MAX})),
        (
            "Timestamp",
            json!({"type": "string", "format": "date-time", "description": "RFC 3339; in answers UTC with milliseconds"}),
        ),
        ("PageLimit", json!({"type": "integer", "minimum": 1, "maximum": 500, "default": 50})),
        ("Cursor", json!({"type": "string", "pattern": "^[1-9][0-9]{0,18}$"})),
        ("IdempotencyKey", json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"})),
        ("WaitingRoomMode", one_of(&["open", "queue", "paused"])),
        ("WaitingRoomOrder", one_of(&["fifo", "shuffle_at_open"])),
        (
            "WaitingRoomSettings",
            object(json!({
                "mode": refer("WaitingRoomMode"),
                "max_active": {"type": "integer", "minimum": 1, "maximum": 10_000_000},
                "admit_per_minute": {"type": ["integer", "null"], "minimum": 1, "maximum": 10_000_000},
                "active_ttl_seconds": seconds,
                "waiting_ttl_seconds": seconds,
                "order": refer("WaitingRoomOrder"),
                "opens_at": {"oneOf": [{"type": "null"}, refer("Timestamp")]},
            })),
        ),
        ("TokenCounts", object(json!({"waiting": count, "active": count, "used": count, "expired": count}))),
        ("TokenStatus", one_of(&["waiting", "active", "used", "expired"])),
        ("OptionStatus", one_of(&["scheduled", "on_sale", "sold_out", "closed", "cancelled"])),
        ("SeatCounts", object(json!({"available": count, "held": count, "sold": count, "blocked": count}))),
        (
            "HistoryItem",
            object_with(
                json!({
                    "at": refer("Timestamp"),
                    "lsn": count,
                    "what": {"type": "string", "description": "what happened, such as held, released, charge or activated"},
                    "who": {"oneOf": [{"type": "null"}, refer("UserId")], "description": "null: time, or a provider of payments"},
                }),
                json!({"why": {"type": "string"}, "reservation_id": refer("ReservationId")}),
            ),
        ),
        (
            "ConcertDetails",
            object_with(
                json!({}),
                json!({
                    "venue": {"type": "string", "minLength": 1, "maxLength": 200},
                    "time_zone": {"type": "string", "description": "an IANA name"},
                    "description": {"type": "string", "minLength": 1, "maxLength": 5_000},
                    "image_url": {"type": "string", "format": "uri", "maxLength": 2_000},
                    "hidden": {"const": true, "description": "it is left out of the list; absent: it is not"},
                }),
            ),
        ),
        ("EntryKind", one_of(&["charge", "debit", "credit", "adjustment"])),
        (
            "Seats",
            object(json!({
                "option_id": refer("OptionId"),
                "seq": count,
                "seats": {"type": "object", "additionalProperties": one_of(&["held", "sold", "blocked"])},
                "areas": {"type": "object", "additionalProperties": refer("AreaSeats")},
            })),
        ),
        ("ReservationStatus", one_of(&ReservationStatus::ALL.iter().map(|status| status.as_str()).collect::<Vec<_>>())),
        (
            "Reservation",
            object_with(
                json!({
                    "id": refer("ReservationId"),
                    "option_id": refer("OptionId"),
                    "user_id": refer("UserId"),
                    "status": refer("ReservationStatus"),
                    "seats": {"type": "array", "items": refer("ReservedSeat")},
                    "areas": {"type": "array", "items": refer("ReservedArea")},
                    "amount": refer("Points"),
                    "created_at": refer("Timestamp"),
                    "expires_at": refer("Timestamp"),
                }),
                json!({
                    "payment_id": refer("PaymentId"),
                    "reference": {"type": "string", "maxLength": 200, "description": "what whoever held it calls it"},
                    "data": {"type": "object", "description": "what whoever held it keeps with it"},
                    "currency": {"type": "string", "description": "whose smallest unit the amount counts; absent: it is of points"},
                }),
            ),
        ),
        (
            "ReservationWithSteps",
            json!({
                "allOf": [refer("Reservation")],
                "properties": {"steps": {
                    "type": "array",
                    "description": "for an admin: how it came to be what it is",
                    "items": object(json!({
                        "step": one_of(&["held", "payment_started", "payment_confirmed", "payment_failed",
                            "token_completed", "refund_started", "refund_credited", "released", "expired",
                            "payment_authorized", "taken_again", "part_released", "part_refunded",
                            "exchange_started", "exchanged", "exchange_failed", "handed_on", "held_until"]),
                        "at": refer("Timestamp"),
                        "lsn": count,
                    })),
                }},
            }),
        ),
        (
            "Payment",
            object_with(
                json!({
                    "id": refer("PaymentId"),
                    "reservation_id": refer("ReservationId"),
                    "user_id": refer("UserId"),
                    "amount": refer("Points"),
                    "status": one_of(&PaymentStatus::ALL.iter().map(|status| status.as_str()).collect::<Vec<_>>()),
                    "balance": {"oneOf": [{"type": "null"}, refer("Points")]},
                    "paid_at": {"oneOf": [{"type": "null"}, refer("Timestamp")]},
                }),
                json!({
                    "method": {"type": "string", "description": "the provider; this and the rest only where one takes the payment"},
                    "currency": refer("Currency"),
                    "expires_at": refer("Timestamp"),
                    "provider_id": {"type": "string", "description": "what the payment is called at the provider"},
                    "verdict": json!({"enum": ["capture", "void", "refund", null]}),
                    "refunded": count,
                    "disputed": {"type": "boolean"},
                    "shortfall": {"type": "integer", "minimum": 1, "description": "what is missing of the price"},
                    "owed": {"type": "array", "items": refer("OwedItem")},
                    "checkout": {"type": "object", "description": "what the buyer's page needs to pay, as its provider has it; only \
                        for its owner, and while it is pending"},
                }),
            ),
        ),
        ("FactKind", json!({"type": "string", "enum": Kind::ALL})),
        (
            "Hold",
            json!({"description": "Seats or places to be held", "oneOf": [
                wish(json!({"seats": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 100, "uniqueItems": true}})),
                wish(json!({"best_available": refer("BestAvailable")})),
                wish(json!({"areas": {"type": "array", "items": refer("AreaWish"), "minItems": 1, "maxItems": 100}})),
            ]}),
        ),
        (
            "Focus",
            json!({"description": "Where the better seats are: near a point of the plan, or in these zones before others, best first", "oneOf": [
                closed(json!({"x": {"type": "number"}, "y": {"type": "number"}})),
                closed(json!({"zones": {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": true}})),
            ]}),
        ),
        (
            "SeatingPlan",
            json!({
                "type": "object",
                "description": "A plan in the open seating-plan JSON of pretix",
                "required": ["zones", "categories"],
                "properties": {
                    "name": {"type": ["string", "null"]},
                    "categories": {"type": "array", "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 200}, "color": {"type": ["string", "null"], "maxLength": 200}},
                    }},
                    "zones": {"type": "array", "items": {
                        "type": "object",
                        "required": ["rows"],
                        "properties": {
                            "name": label(200),
                            "position": position,
                            "rows": {"type": "array", "items": row},
                            "areas": {"type": "array", "items": {"type": "object"}},
                        },
                    }},
                },
            }),
        ),
        ("EventId", json!({"type": "string", "pattern": "^0-(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,8})$"})),
        ("EventType", one_of(&EventType::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>())),
        ("WebhookId", id("a webhook")),
        (
            "WebhookResponse",
            object(json!({
                "status": {"type": ["integer", "null"], "minimum": 100, "maximum": 999, "description": "null: there was no answer"},
                "text": {"type": "string", "description": "the beginning of the answer, or what went wrong"},
                "at": refer("Timestamp"),
            })),
        ),
        (
            "EventToken",
            closed(json!({
                "id": refer("TokenId"),
                "concert_id": refer("ConcertId"),
                "user_id": refer("UserId"),
                "status": refer("TokenStatus"),
                "expires_at": {"oneOf": [{"type": "null"}, refer("Timestamp")]},
            })),
        ),
        (
            "Event",
            closed(json!({
                "specversion": {"const": "1.0"},
                "id": refer("EventId"),
                "source": {"type": "string", "format": "uri-reference"},
                "type": refer("EventType"),
                "subject": {"type": "string", "minLength": 1, "maxLength": 255},
                "time": refer("Timestamp"),
                "datacontenttype": {"const": "application/json"},
                "data": {"anyOf": [refer("Reservation"), refer("Payment"), refer("EventToken"), refer("WalletEntry")]},
            })),
        ),
        (
            "Events",
            object(json!({
                "items": {"type": "array", "items": refer("Event")},
                "next_after": {"description": "the `after` of the next page", "oneOf": [{"type": "null"}, refer("EventId")]},
            })),
        ),
        ("Alive", object(json!({"status": {"const": "alive"}}))),
        (
            "Problem",
            json!({
                "type": "object",
                "description": "RFC 9457; the page at `type` explains it",
                "required": ["type", "title", "status", "detail", "code"],
                "properties": {
                    "type": {"type": "string", "format": "uri-reference"},
                    "title": {"type": "string"},
                    "status": {"type": "integer", "minimum": 400, "maximum": 599},
                    "detail": {"type": "string"},
                    "code": {"type": "string", "enum": Code::ALL.iter().map(|code| code.name()).collect::<Vec<_>>()},
                    "errors": {"type": "array", "items": refer("FieldError")},
                    "balance": refer("Points"),
                    "amount": refer("Points"),
                    "conflicts": {"type": "array", "items": {"type": "string"}},
                    "limit": count,
                    "already": count,
                    "payment_id": refer("PaymentId"),
                    "seats": {"type": "array", "items": {"type": "string"}},
                },
            }),
        ),
    ]
}

fn refer(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// An object that always has all of these.
fn object(properties: Value) -> Value {
    let required: Vec<_> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// An object that always has all of the first ones, and may have the others.
fn object_with(properties: Value, others: Value) -> Value {
    let mut schema = object(properties);
    if let (Some(all), Value::Object(others)) = (schema["properties"].as_object_mut(), others) {
        all.extend(others);
    }
    schema
}

/// An object that has all of these and nothing else.
fn closed(properties: Value) -> Value {
    let mut schema = object(properties);
    schema["additionalProperties"] = false.into();
    schema
}

/// The description, as JSON.
pub fn document() -> String {
    let mut document = json!(Api::openapi());
    document["components"]["securitySchemes"] =
        json!({"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}});
    document["components"]["responses"] = problems();
    for (name, schema) in schemas() {
        document["components"]["schemas"][name] = schema;
    }
    spread_node(&mut document["components"]["schemas"]);
    let operations = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in operations.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        complete(operation);
    }
    document.to_string()
}

/// The problems of each status, as answers that operations refer to.
fn problems() -> Value {
    let mut answers = Map::new();
    for status in Code::ALL.iter().map(|code| code.status()) {
        let codes: Vec<_> = Code::ALL.iter().filter(|code| code.status() == status).map(|code| code.name()).collect();
        let only = json!({"properties": {"status": {"const": status}, "code": {"enum": codes}}});
        let mut answer = json!({
            "description": codes.join(", "),
            "content": {problem::MEDIA_TYPE: {"schema": {"allOf": [refer("Problem"), only]}}},
        });
        let header = match status {
            401 => Some(("WWW-Authenticate", json!({"type": "string"}))),
            429 | 503 => Some(("Retry-After", json!({"type": "integer", "minimum": 1}))),
            _ => None,
        };
        if let Some((name, schema)) = header {
            answer["headers"] = json!({name: {"required": true, "schema": schema}});
        }
        answers.insert(format!("Problem{status}"), answer);
    }
    answers.into()
}

/// What a node of a cluster says of itself stands beside the rest, and is not there on a machine of its own.
fn spread_node(schemas: &mut Value) {
    let node = schemas["NodeHealth"]["properties"].clone();
    let parts = schemas["Health"]["allOf"].take();
    let own = parts.as_array().into_iter().flatten().find(|part| part.get("properties").is_some());
    let mut health = own.cloned().unwrap_or_default();
    for (name, schema) in node.as_object().into_iter().flatten() {
        health["properties"][name] = schema.clone();
    }
    schemas["Health"] = health;
}

/// Adds to an operation what its kind has in common.
fn complete(operation: &mut Value) {
    // Alive or not, ready or not: no engine is asked that might refuse.
    let asks_engine = operation["tags"] != json!(["operations"]);
    let mut statuses = vec![500];
    if asks_engine {
        statuses.push(503);
    }
    if operation.get("security").is_some() {
        statuses.extend([401, 429]);
    }
    if let Some(body) = operation.get_mut("requestBody") {
        statuses.extend([400, 408, 413, 415]);
        // Where nothing has to be said, no body does as well.
        let schema = &body["content"]["application/json"]["schema"];
        let may_be_missing = ["Empty", "Pay", "Redrive"].iter().any(|name| *schema == refer(name));
        body["required"] = (!may_be_missing).into();
    }
    let answers = &mut operation["responses"];
    for status in statuses {
        if answers.get(status.to_string()).is_none() {
            answers[status.to_string()] = json!({});
        }
    }
    for (status, answer) in answers.as_object_mut().into_iter().flatten() {
        let is_error = status.starts_with(['4', '5']);
        if is_error && answer.get("content").is_none() {
            *answer = json!({"$ref": format!("#/components/responses/Problem{status}")});
        } else if status == "201" {
            answer["headers"] = json!({"Location": {"required": true, "schema": {"type": "string"}}});
        }
    }
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        drop_null(&mut parameter["schema"]);
    }
}

/// A parameter may be absent, but there is no way to write `null` in one.
fn drop_null(schema: &mut Value) {
    let is_null = |schema: &Value| schema["type"] == "null" || *schema == "null";
    for key in ["oneOf", "type"] {
        let Some(choices) = schema.get(key).and_then(Value::as_array) else { continue };
        let mut rest = choices.iter().filter(|choice| !is_null(choice)).cloned();
        let (Some(only), None) = (rest.next(), rest.next()) else { continue };
        if key == "type" {
            schema["type"] = only;
        } else {
            *schema = only;
        }
    }
}

/// `GET /openapi.json`
///
/// # Errors
/// None.
pub async fn json(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    Ok(app.openapi.answer(&request, "application/json", Cache::Revalidate))
}

/// `GET /docs`
///
/// # Errors
/// None.
pub async fn to_docs() -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::PermanentRedirect().insert_header(("Location", "/docs/")).finish())
}

/// `GET /docs/{file}`: the page to read and try the API.
///
/// # Errors
/// 404 if there is no such file.
pub async fn docs(request: HttpRequest, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    // There are few of them, and as long as one is made ready others may wait for it.
    static FILES: LazyLock<Mutex<Files>> = LazyLock::new(Mutex::default);
    let mut files = FILES.lock().await;
    let file = match files.get(&*path) {
        Some(file) => file.clone(),
        None => {
            let name = path.clone();
            let file = Arc::new(apart(move || docs_file(&name)).await??);
            files.insert(path.into_inner(), file.clone());
            file
        }
    };
    drop(files);
    let mut response = file.1.answer(&request, &file.0, Cache::Revalidate);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOCS_POLICY));
    Ok(response)
}

/// Files of the page by their names.
type Files = HashMap<String, Arc<(String, Ready)>>;

/// A file of the page, with its media type.
fn docs_file(name: &str) -> Result<(String, Ready), Problem> {
    let config = utoipa_swagger_ui::Config::from("/openapi.json");
    let served = utoipa_swagger_ui::serve(name, Arc::new(config))
        .map_err(|error| Problem::internal(&format!("a page of the documentation cannot be made: {error}")))?;
    let served = served.ok_or_else(Problem::not_found)?;
    let ready = Ready::new(Piece::new(served.bytes.into_owned()));
    ready.compress();
    Ok((served.content_type, ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let mut open = vec![&document];
        let mut references = 0;
        while let Some(value) = open.pop() {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                let target = document.pointer(reference.strip_prefix('#').unwrap());
                assert!(target.is_some_and(|target| *target != json!({"type": "object"})), "{reference}");
                references += 1;
            }
            match value {
                Value::Object(members) => open.extend(members.values()),
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(references > 100);
    }

    #[test]
    fn answers_and_bounds_are_described() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let hold = &document["paths"]["/v1/options/{id}/reservations"]["post"];
        for status in ["201", "400", "401", "403", "404", "408", "409", "413", "415", "422", "429", "500", "503"] {
            assert!(hold["responses"].get(status).is_some(), "{status}");
        }
        let charge = &document["components"]["schemas"]["Charge"];
        assert_eq!(charge["additionalProperties"], false);
        assert_eq!(charge["properties"]["amount"]["maximum"], 9_007_199_254_740_991_u64);
        let pay = &document["paths"]["/v1/reservations/{id}/payments"]["post"];
        assert_eq!(pay["requestBody"]["required"], false);
    }
}
