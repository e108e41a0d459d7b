//! All that receive events, whatever they are: webhooks, Kafka, and what a host app has attached. Run by admins.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Admin;
use super::json::Input;
use super::kafka;
use super::openapi::{Idempotent, Paged};
use super::problem::Problem;
use super::query::Query;
use super::respond::{self, Cache};
use super::webhooks::routes::{Attempts, Deliveries, Redrive, Redriven, Status};
use super::{App, id};
use crate::api::{DeadLetter, Page, Sink as Known};
use crate::domain::sink::{Destination, Response};
use crate::domain::{EventId, SinkId, Timestamp};
use crate::relay::breaker;

/// What a receiver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SinkKind)]
enum Kind {
    /// An HTTP endpoint, which `/v1/webhooks` has more about.
    Webhook,
    /// The topics that the server is configured with.
    Kafka,
    /// Something that a host app has attached.
    Host,
}

/// A receiver of events, whatever it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sink {
    /// Its id; of Kafka `kafka`.
    #[schema(value_type = String, max_length = 64)]
    id: Name,
    /// What it is.
    kind: Kind,
    /// Whether anything is delivered.
    status: Status,
    /// Everything up to here is delivered or parked, or of no interest to it, and a restart knows that.
    #[schema(value_type = String, max_length = 64)]
    cursor: EventId,
    /// How many entries of the journal come after what is delivered, parked or of no interest.
    lag: u64,
    /// Whether attempts are made.
    breaker: breaker::State,
    /// Attempts since the server was started.
    attempts: Attempts,
    /// Events that wait for another attempt, behind one that does, or for an operator.
    parked: u64,
    /// How many of those wait for an operator.
    dead_letters: u64,
    /// The last attempt that failed since the server was started.
    #[schema(required)]
    last_failure: Option<Response>,
    /// When the last one succeeded since the server was started.
    #[schema(required)]
    last_delivered_at: Option<Timestamp>,
}

/// What a sink is called.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Name {
    Number(SinkId),
    Fixed(&'static str),
}

fn view(sink: Known, app: &App) -> Sink {
    let (kind, is_on) = match &sink.registration.receiver {
        Destination::Webhook { .. } => (Kind::Webhook, app.settings.webhooks.enabled),
        Destination::Attached { name } if name == kafka::NAME => (Kind::Kafka, sink.deliveries.is_some()),
        Destination::Attached { .. } => (Kind::Host, sink.deliveries.is_some()),
    };
    let status = Status::of(&sink, if is_on { Deliveries::On } else { Deliveries::Off });
    let progress = sink.deliveries;
    Sink {
        id: if kind == Kind::Kafka { Name::Fixed(kafka::NAME) } else { Name::Number(sink.id) },
        kind,
        status,
        cursor: sink.cursor,
        lag: sink.lag,
        breaker: progress.as_ref().map_or(breaker::State::Closed, |progress| progress.breaker),
        attempts: Attempts::of(progress.as_ref()),
        parked: sink.parked,
        dead_letters: sink.dead_letters,
        last_delivered_at: progress.as_ref().and_then(|progress| progress.last_delivered_at),
        last_failure: progress.and_then(|progress| progress.last_failure),
    }
}

/// The sink that a path names.
async fn find(app: &App, name: &str) -> Result<Known, Problem> {
    if name != kafka::NAME {
        return Ok(app.engine.sink(id(name)?).await?);
    }
    let is_kafka = |sink: &Known| sink.registration.receiver == Destination::Attached { name: kafka::NAME.into() };
    app.engine.sinks().await?.into_iter().find(is_kafka).ok_or_else(Problem::not_found)
}

/// Lists all that receive events, newest first, and how far they have got.
#[utoipa::path(get, path = "/v1/sinks", tag = "sinks", operation_id = "list_sinks",
    params(Paged), security(("bearer" = [])),
    responses((status = 200, description = "A page of receivers", body = Page<Sink>), (status = 400), (status = 403)))]
pub(super) async fn list(request: HttpRequest, _: Admin, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let query = Query::read(&request, Query::PAGE)?;
    let (limit, before) = (query.limit()?, query.number("cursor", 1..=i64::MAX as u64)?);
    let sinks = app.engine.sinks().await?.into_iter();
    let sinks = sinks.filter(|sink| before.is_none_or(|before| sink.id.0 < before));
    let mut sinks: Vec<_> = sinks.take(limit + 1).collect();
    let has_more = sinks.len() > limit;
    sinks.truncate(limit);
    let next_cursor = sinks.last().filter(|_| has_more).map(|sink| sink.id.0.to_string());
    let items = sinks.into_iter().map(|sink| view(sink, &app)).collect();
    respond::ok(&Page { items, next_cursor }, Cache::Private)
}

/// Reads a receiver of events, and how far it has got.
#[utoipa::path(get, path = "/v1/sinks/{id}", tag = "sinks", operation_id = "get_sink",
    params(("id" = String, Path, max_length = 64)), security(("bearer" = [])),
    responses((status = 200, description = "The receiver", body = Sink), (status = 403), (status = 404)))]
pub(super) async fn read(path: web::Path<String>, _: Admin, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    respond::ok(&view(find(&app, &path).await?, &app), Cache::Private)
}

/// Lists the events that a receiver would not take, newest first. Later events of the same subjects wait behind them.
#[utoipa::path(get, path = "/v1/sinks/{id}/dead-letters", tag = "sinks", operation_id = "list_dead_letters_of_sink",
    params(("id" = String, Path, max_length = 64),
        ("limit" = Option<u32>, Query, description = "How many items at the most", minimum = 1, maximum = 500),
        ("cursor" = Option<EventId>, Query, description = "The `next_cursor` of the page before")),
    security(("bearer" = [])),
    responses((status = 200, description = "A page of dead letters", body = Page<DeadLetter>), (status = 400),
        (status = 403), (status = 404)))]
pub(super) async fn dead_letters(
    request: HttpRequest,
    path: web::Path<String>,
    _: Admin,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let sink = find(&app, &path).await?.id;
    let page = Query::read(&request, Query::PAGE)?.page()?;
    respond::page(&app, app.engine.dead_letters(sink, &page), Cache::Private).await
}

/// Gives a dead letter up. What waits behind it is delivered.
#[utoipa::path(delete, path = "/v1/sinks/{id}/dead-letters/{event_id}", tag = "sinks",
    operation_id = "drop_dead_letter_of_sink", params(("id" = String, Path, max_length = 64), ("event_id" = EventId, Path)),
    security(("bearer" = [])), responses((status = 204, description = "Dropped"), (status = 403), (status = 404)))]
pub(super) async fn drop_dead_letter(
    path: web::Path<(String, String)>,
    _: Admin,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (sink, event) = path.into_inner();
    let sink = find(&app, &sink).await?.id;
    app.engine.drop_dead_letter(sink, id(&event)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Sends dead letters again, and gives a disabled receiver another chance. It begins at once: neither a pause of the breaker
/// nor the time until another attempt is waited for (with `event_id`, that of this event). Only dead letters are counted.
#[utoipa::path(post, path = "/v1/sinks/{id}/redrive", tag = "sinks", operation_id = "redrive_dead_letters_of_sink",
    params(("id" = String, Path, max_length = 64), Idempotent), request_body = Redrive, security(("bearer" = [])),
    responses((status = 200, description = "How many are sent again", body = Redriven), (status = 403), (status = 404),
        (status = 422)))]
pub(super) async fn redrive(
    request: HttpRequest,
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = find(&app, &path).await?.id;
    let operation = format!("POST /v1/sinks/{id}/redrive");
    let input = Input::read(&request, payload, &app, &admin.user, &operation).await?;
    let (Redrive { event_id }, key) = input.parse_if_any()?;
    let answered = app.engine.redrive(id, event_id, key).await?;
    respond::done(&Redriven { redriven: answered.value }, answered.replayed)
}
