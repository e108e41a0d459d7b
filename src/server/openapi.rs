//! The description of the API, made from the handlers and types themselves, and the page to read and try it.
//!
//! Handlers name their own answers. What many of them have in common (problems, headers) is added here, and types that
//! do not derive their schema have it in one table.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{Object, RefOr, Required, Schema};
use utoipa::{IntoParams, OpenApi, PartialSchema, ToSchema};

use super::problem::{self, Code, Problem};
use super::respond::Cache;
use super::{App, concerts, operations, options, payments, reservations, waiting_room, wallet};
use crate::api::{Payment, Reservation, Seats};
use crate::domain::concert_option::{Counts as SeatCounts, OptionStatus};
use crate::domain::waiting_room::{Counts as TokenCounts, Mode, Order, Settings, TokenStatus};
use crate::domain::wallet::EntryKind;
use crate::domain::{ConcertId, EntryId, OptionId, PaymentId, Points, RefundId, ReservationId, Timestamp, TokenId, UserId};

#[derive(OpenApi)]
#[openapi(
    info(title = "boxoffice", description = "Reservations for high-demand ticket on-sales."),
    paths(
        concerts::list, concerts::create, concerts::read,
        options::create, options::read, options::reschedule, options::plan, options::seats, options::block,
        options::unblock,
        waiting_room::read, waiting_room::configure, waiting_room::issue_token, waiting_room::read_token,
        waiting_room::leave,
        reservations::hold, reservations::read, reservations::list, reservations::release,
        payments::pay, payments::read, payments::list, payments::refund,
        wallet::own, wallet::entries, wallet::charge_own, wallet::of_user, wallet::charge,
        operations::healthz, operations::readyz, operations::stats,
    ),
)]
struct Api;

/// `limit` and `cursor` of a list.
pub struct Paged;

impl IntoParams for Paged {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            parameter::<PageLimit>("limit", ParameterIn::Query, "How many items at the most; 50 by default"),
            parameter::<String>("cursor", ParameterIn::Query, "The `next_cursor` of the page before"),
        ]
    }
}

/// The header with which a request can be sent again.
pub struct Idempotent;

impl IntoParams for Idempotent {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "The same key and body give the same answer, for 24 hours";
        vec![parameter::<IdempotencyKey>("Idempotency-Key", ParameterIn::Header, description)]
    }
}

fn parameter<T: ToSchema>(name: &str, place: ParameterIn, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(T::schema()))
        .build()
}

macro_rules! described {
    ($($type:ty => $name:literal,)*) => {
        $(
            impl PartialSchema for $type {
                // The place of the entry in `schemas`, below.
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

/// The shape of a problem.
pub enum AnyProblem {}
/// The shape of a seating plan.
pub enum SeatingPlan {}

described! {
    ConcertId => "ConcertId",
    OptionId => "OptionId",
    ReservationId => "ReservationId",
    PaymentId => "PaymentId",
    RefundId => "RefundId",
    TokenId => "TokenId",
    EntryId => "EntryId",
    UserId => "UserId",
    Points => "Points",
    Timestamp => "Timestamp",
    Mode => "WaitingRoomMode",
    Order => "WaitingRoomOrder",
    Settings => "WaitingRoomSettings",
    TokenCounts => "TokenCounts",
    TokenStatus => "TokenStatus",
    OptionStatus => "OptionStatus",
    SeatCounts => "SeatCounts",
    EntryKind => "EntryKind",
    Seats => "Seats",
    Reservation => "Reservation",
    Payment => "Payment",
    reservations::Hold => "Hold",
    SeatingPlan => "SeatingPlan",
}
