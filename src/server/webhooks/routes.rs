//! Webhooks, run by admins.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::template::{self, Template};
use super::{addresses, signature, webhook};
use crate::api::{DeadLetter, DeliveryProgress, Page, Sink};
use crate::domain::sink::{Destination, Format as SinkFormat, Response};
use crate::domain::{EventFilter, EventId, EventType, SinkId, Timestamp};
use crate::engine::Start;
use crate::error::FieldError;
use crate::relay::breaker;
use crate::server::auth::Admin;
use crate::server::config;
use crate::server::json::{Empty, Input, given};
use crate::server::openapi::{Idempotent, Paged};
use crate::server::problem::Problem;
use crate::server::query::Query;
use crate::server::respond::{self, Cache};
use crate::server::{App, id};

/// What a receiver is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WebhookFormat)]
pub(in crate::server) enum Format {
    /// One CloudEvent, as `application/cloudevents+json`.
    Cloudevent,
    /// A list of CloudEvents, as `application/cloudevents-batch+json`.
    Batch,
    /// What a template makes of one event, as `application/json`.
    Template,
}

/// A receiver to be registered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::server) struct NewWebhook {
    /// Where: http or https, and an address of the public internet, unless the server is configured otherwise.
    #[schema(min_length = 1, max_length = 2048, format = "uri")]
    url: String,
    /// Which types of events; all by default, those that are yet to come among them.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<EventType>>, nullable = false, min_items = 1)]
    event_types: Option<Vec<EventType>>,
    /// What is sent; `cloudevent` by default.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Format>, nullable = false)]
    format: Option<Format>,
    /// With the format `template`: a template in a part of Jinja that makes JSON, or the name of one that is there
    /// already: `en` (the default) or `ko`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 8192)]
    template: Option<String>,
    /// `now` (the default), `beginning`, or the event after which it starts.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, nullable = false, max_length = 64)]
    start: Option<String>,
}

/// A receiver of events.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct Webhook {
    /// Its id.
    id: SinkId,
    /// Where.
    url: String,
    /// Which types of events.
    event_types: Vec<EventType>,
    /// What is sent.
    format: Format,
    /// The template or its name; null unless the format is `template`.
    #[schema(required)]
    template: Option<String>,
    /// When it was registered.
    created_at: Timestamp,
    /// Whether anything is delivered.
    status: Status,
    /// What it said when it answered 410; null unless `redrive` has to give it another chance.
    #[schema(required)]
    disabled_reason: Option<String>,
    /// Everything up to here is delivered or parked, or of no interest to it, and a restart knows that.
    #[schema(value_type = String, max_length = 64)]
    cursor: EventId,
    /// How many entries of the journal come after what is delivered, parked or of no interest.
    lag: u64,
    /// Whether attempts are made.
    breaker: breaker::State,
    /// Until when it is left alone, while the breaker is open; null otherwise. `redrive` ends it.
    #[schema(required)]
    paused_until: Option<Timestamp>,
    /// Why: it failed so often in a row, or asked for it by `Retry-After`.
    #[schema(required)]
    pause_reason: Option<breaker::Reason>,
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

/// Whether anything is delivered to a receiver.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WebhookStatus)]
pub(in crate::server) enum Status {
    /// It is.
    Active,
    /// It is not, since the receiver answered 410: redrive gives it another chance.
    Disabled,
    /// It is not, since this server is configured so (`webhooks.enabled`, `kafka.enabled`, `--no-deliveries`), or since nobody
    /// has attached it.
    Suspended,
}

/// Whether this server delivers to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Deliveries {
    /// It does.
    On,
    /// It does not.
    Off,
}

impl Status {
    pub(in crate::server) fn of(sink: &Sink, deliveries: Deliveries) -> Self {
        match &sink.disabled {
            _ if deliveries == Deliveries::Off => Self::Suspended,
            Some(_) => Self::Disabled,
            None => Self::Active,
        }
    }
}

/// How attempts went.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = WebhookAttempts)]
pub(in crate::server) struct Attempts {
    /// Those that succeeded.
    delivered: u64,
    /// The others.
    failed: u64,
}

impl Attempts {
    /// None if nobody makes any.
    pub(in crate::server) fn of(progress: Option<&DeliveryProgress>) -> Self {
        progress.map_or_else(Self::default, |progress| Self { delivered: progress.delivered, failed: progress.failed })
    }
}

/// A receiver that was just registered.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct WebhookWithSecret {
    #[serde(flatten)]
    webhook: Webhook,
    /// With what deliveries are signed. It is not shown again.
    secret: String,
}

/// A new secret.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct RotatedSecret {
    /// Whose.
    id: SinkId,
    /// With what deliveries are signed. It is not shown again.
    secret: String,
    /// Until when they are signed with the one before too.
    previous_valid_until: Timestamp,
}

/// Which dead letters to send again; all of them by default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::server) struct Redrive {
    /// Only this one; one that waits for another attempt is tried now.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<EventId>, nullable = false)]
    pub(in crate::server) event_id: Option<EventId>,
}

/// What is sent again.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct Redriven {
    /// How many dead letters.
    pub(in crate::server) redriven: u64,
}

/// Registers a receiver of events. Since the answer shows a secret, it is not remembered: `Idempotency-Key` has no effect.
#[utoipa::path(post, path = "/v1/webhooks", tag = "webhooks", operation_id = "register_webhook",
    request_body = NewWebhook, security(("bearer" = [])),
    responses((status = 201, description = "The receiver, with its secret", body = WebhookWithSecret), (status = 403),
        (status = 409)))]
pub(in crate::server) async fn register(
    request: HttpRequest,
    _: Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let input = Input::read_without_key(&request, payload, &app).await?;
    let (new, _) = input.parse()?;
    // A template takes its time, and this thread has other requests to serve.
    let checked = web::block(move || Checked::new(new)).await;
    let checked = checked.map_err(|error| crate::error::Error::Internal(error.to_string()))?;
    let registration = checked.map_err(|errors| Problem::invalid(&errors))?;
    let url = &registration.url;
    app.webhooks.check_url(url).await.map_err(|error| Problem::invalid_field("url", error))?;
    let receiver = Destination::Webhook { url: url.to_string(), format: registration.format };
    let (id, secret) = app.engine.register_sink(receiver, registration.filter, registration.start).await?;
    let webhook = find(&app, id).await?;
    let mut response = HttpResponse::Created();
    response.insert_header(("Location", format!("/v1/webhooks/{id}")));
    let answer = WebhookWithSecret { webhook, secret: signature::shown(&secret) };
    respond::json(&mut response, &answer, Cache::Private)
}

/// Lists the receivers of events, newest first, and how far they have got.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", operation_id = "list_webhooks",
    params(Paged), security(("bearer" = [])),
    responses((status = 200, description = "A page of receivers", body = Page<Webhook>), (status = 400), (status = 403)))]
pub(in crate::server) async fn list(
    request: HttpRequest,
    _: Admin,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(&request, Query::PAGE)?;
    let (limit, before) = (query.limit()?, query.number("cursor", 1..=i64::MAX as u64)?);
    let sinks = app.engine.sinks().await?.into_iter();
    let sinks = sinks.filter(|sink| before.is_none_or(|before| sink.id.0 < before));
    let webhooks = &app.settings.webhooks;
    let mut items: Vec<_> = sinks.filter_map(|sink| view(sink, webhooks)).take(limit + 1).collect();
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| has_more).map(|webhook| webhook.id.0.to_string());
    respond::ok(&Page { items, next_cursor }, Cache::Private)
}

/// Reads a receiver of events, and how far it has got.
#[utoipa::path(get, path = "/v1/webhooks/{id}", tag = "webhooks", operation_id = "get_webhook",
    params(("id" = SinkId, Path)), security(("bearer" = [])),
    responses((status = 200, description = "The receiver", body = Webhook), (status = 403), (status = 404)))]
pub(in crate::server) async fn read(
    path: web::Path<String>,
    _: Admin,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    respond::ok(&find(&app, id(&path)?).await?, Cache::Private)
}

/// Removes a receiver of events, with its dead letters. An attempt that is under way may still arrive.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", tag = "webhooks", operation_id = "remove_webhook",
    params(("id" = SinkId, Path)), security(("bearer" = [])),
    responses((status = 204, description = "Removed"), (status = 403), (status = 404)))]
pub(in crate::server) async fn remove(
    path: web::Path<String>,
    _: Admin,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let sink = find(&app, id(&path)?).await?.id;
    app.engine.remove_sink(sink).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Signs deliveries with a new secret, and for some time with the old one too. Since the answer shows a secret, it is not
/// remembered: `Idempotency-Key` has no effect.
#[utoipa::path(post, path = "/v1/webhooks/{id}/rotate-secret", tag = "webhooks", operation_id = "rotate_webhook_secret",
    params(("id" = SinkId, Path)), request_body = Empty, security(("bearer" = [])),
    responses((status = 200, description = "The new secret", body = RotatedSecret), (status = 403), (status = 404)))]
pub(in crate::server) async fn rotate_secret(
    request: HttpRequest,
    path: web::Path<String>,
    _: Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = find(&app, id(&path)?).await?.id;
    Input::expect_nothing(&request, payload, &app).await?;
    let overlap = app.settings.webhooks.secret_overlap.0;
    let previous_valid_until = app.engine.now().plus_millis(u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX));
    let secret = app.engine.rotate_secret(id, previous_valid_until).await?;
    let answer = RotatedSecret { id, secret: signature::shown(&secret), previous_valid_until };
    respond::ok(&answer, Cache::Private)
}

/// Lists the events that a receiver would not take, newest first. Later events of the same subjects wait behind them.
#[utoipa::path(get, path = "/v1/webhooks/{id}/dead-letters", tag = "webhooks", operation_id = "list_dead_letters",
    params(("id" = SinkId, Path),
        ("limit" = Option<u32>, Query, description = "How many items at the most", minimum = 1, maximum = 500),
        ("cursor" = Option<EventId>, Query, description = "The `next_cursor` of the page before")),
    security(("bearer" = [])),
    responses((status = 200, description = "A page of dead letters", body = Page<DeadLetter>), (status = 400),
        (status = 403), (status = 404)))]
pub(in crate::server) async fn dead_letters(
    request: HttpRequest,
    path: web::Path<String>,
    _: Admin,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let sink = find(&app, id(&path)?).await?.id;
    let page = Query::read(&request, Query::PAGE)?.page()?;
    respond::page(&app, app.engine.dead_letters(sink, &page), Cache::Private).await
}

/// Gives a dead letter up. What waits behind it is delivered.
#[utoipa::path(delete, path = "/v1/webhooks/{id}/dead-letters/{event_id}", tag = "webhooks",
    operation_id = "drop_dead_letter", params(("id" = SinkId, Path), ("event_id" = EventId, Path)),
    security(("bearer" = [])), responses((status = 204, description = "Dropped"), (status = 403), (status = 404)))]
pub(in crate::server) async fn drop_dead_letter(
    path: web::Path<(String, String)>,
    _: Admin,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (sink, event) = path.into_inner();
    let sink = find(&app, id(&sink)?).await?.id;
    app.engine.drop_dead_letter(sink, id(&event)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Sends dead letters again, and gives a disabled receiver another chance. It begins at once: neither a pause of the breaker
/// nor the time until another attempt is waited for (with `event_id`, that of this event). Only dead letters are counted.
#[utoipa::path(post, path = "/v1/webhooks/{id}/redrive", tag = "webhooks", operation_id = "redrive_dead_letters",
    params(("id" = SinkId, Path), Idempotent), request_body = Redrive, security(("bearer" = [])),
    responses((status = 200, description = "How many are sent again", body = Redriven), (status = 403), (status = 404),
        (status = 422)))]
pub(in crate::server) async fn redrive(
    request: HttpRequest,
    path: web::Path<String>,
    Admin(admin): Admin,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = find(&app, id(&path)?).await?.id;
    let operation = format!("POST /v1/webhooks/{id}/redrive");
    let input = Input::read(&request, payload, &app, &admin.user, &operation).await?;
    let (Redrive { event_id }, key) = input.parse_if_any()?;
    let answered = app.engine.redrive(id, event_id, key).await?;
    respond::done(&Redriven { redriven: answered.value }, answered.replayed)
}

/// The webhook of an id. Receivers that a host app has attached are its own business.
async fn find(app: &App, id: SinkId) -> Result<Webhook, Problem> {
    view(app.engine.sink(id).await?, &app.settings.webhooks).ok_or_else(Problem::not_found)
}

fn view(sink: Sink, settings: &config::Webhooks) -> Option<Webhook> {
    let status = Status::of(&sink, if settings.enabled { Deliveries::On } else { Deliveries::Off });
    let (url, format) = webhook(&sink.registration.receiver)?;
    let (format, template) = match format {
        SinkFormat::Cloudevent => (Format::Cloudevent, None),
        SinkFormat::Batch => (Format::Batch, None),
        SinkFormat::Template(template) => (Format::Template, Some(template.clone())),
    };
    let progress = sink.deliveries;
    let pause = progress.as_ref().and_then(|progress| progress.pause);
    Some(Webhook {
        id: sink.id,
        url: url.to_owned(),
        event_types: sink.registration.filter.types().collect(),
        format,
        template,
        created_at: sink.created_at,
        status,
        disabled_reason: sink.disabled,
        cursor: sink.cursor,
        lag: sink.lag,
        breaker: progress.as_ref().map_or(breaker::State::Closed, |progress| progress.breaker),
        paused_until: pause.map(|pause| pause.until),
        pause_reason: pause.map(|pause| pause.reason),
        attempts: Attempts::of(progress.as_ref()),
        parked: sink.parked,
        dead_letters: sink.dead_letters,
        last_delivered_at: progress.as_ref().and_then(|progress| progress.last_delivered_at),
        last_failure: progress.and_then(|progress| progress.last_failure),
    })
}

/// A registration that is well formed. Where its URL leads is another matter.
#[derive(Debug)]
struct Checked {
    url: reqwest::Url,
    format: SinkFormat,
    filter: EventFilter,
    start: Start,
}

impl Checked {
    fn new(new: NewWebhook) -> Result<Self, Vec<FieldError>> {
        let url = addresses::parse(&new.url).map_err(|message| FieldError::new("url", message));
        let content = content(new.event_types, new.format.unwrap_or(Format::Cloudevent), new.template);
        let start = start(new.start.as_deref()).map_err(|message| FieldError::new("start", message));
        match (url, content, start) {
            (Ok(url), Ok((format, filter)), Ok(start)) => Ok(Self { url, format, filter, start }),
            (url, content, start) => Err([url.err(), content.err(), start.err()].into_iter().flatten().collect()),
        }
    }
}

/// What is sent, and of which events.
fn content(
    types: Option<Vec<EventType>>,
    format: Format,
    template: Option<String>,
) -> Result<(SinkFormat, EventFilter), FieldError> {
    let named = types.as_ref().map(Vec::len);
    let filter: Option<EventFilter> = types.map(|types| types.into_iter().collect());
    if named == Some(0) {
        return Err(FieldError::new("event_types", "must name one type at the least"));
    }
    if filter.map(|filter| filter.types().count()) != named {
        return Err(FieldError::new("event_types", "must name each type once"));
    }
    let format = match format {
        Format::Template => {
            let template = template.unwrap_or_else(|| template::DEFAULT.into());
            let filter = if template::is_built_in(&template) {
                built_in_filter(filter)?
            } else {
                let filter = filter.unwrap_or_default();
                let checked = Template::new(&template).and_then(|template| template.check(filter));
                checked.map_err(|message| FieldError::new("template", message))?;
                filter
            };
            return Ok((SinkFormat::Template(template), filter));
        }
        _ if template.is_some() => return Err(FieldError::new("template", "goes with the format `template` only")),
        Format::Cloudevent => SinkFormat::Cloudevent,
        Format::Batch => SinkFormat::Batch,
    };
    Ok((format, filter.unwrap_or_default()))
}

/// Built-in templates know what to say of some events only.
fn built_in_filter(filter: Option<EventFilter>) -> Result<EventFilter, FieldError> {
    let known = template::BUILT_IN_TYPES;
    let filter = filter.unwrap_or_else(|| known.iter().copied().collect());
    if filter.types().all(|kind| known.contains(&kind)) {
        return Ok(filter);
    }
    let names: Vec<_> = known.iter().map(|kind| kind.as_str()).collect();
    Err(FieldError::new("event_types", format!("must be among those of the template: {}", names.join(", "))))
}

/// Where a new receiver begins, as a text says.
///
/// # Errors
/// What it may be.
pub(in crate::server) fn start(text: Option<&str>) -> Result<Start, String> {
    match text {
        None | Some("now") => Ok(Start::Now),
        Some("beginning") => Ok(Start::Beginning),
        Some(event) => {
            event.parse().map(Start::After).map_err(|_| "must be `now`, `beginning` or the id of an event".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sink::Registration;

    #[test]
    fn what_a_host_app_has_attached_is_no_webhook() {
        let sink = |receiver: Destination| Sink {
            id: SinkId(1),
            registration: Registration { receiver, filter: EventFilter::ALL, after: EventId::default() },
            created_at: Timestamp::default(),
            disabled: None,
            cursor: EventId::default(),
            lag: 0,
            parked: 0,
            dead_letters: 0,
            deliveries: None,
        };
        let webhook = Destination::Webhook { url: "https://example.com/".into(), format: SinkFormat::Batch };
        assert_eq!(
            view(sink(webhook), &config::Webhooks::default()).map(|webhook| webhook.url),
            Some("https://example.com/".into())
        );
        assert!(view(sink(Destination::Attached { name: "warehouse".into() }), &config::Webhooks::default()).is_none());
    }
}
