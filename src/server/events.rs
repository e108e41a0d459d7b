//! Events, for whoever comes to fetch them.

use std::collections::VecDeque;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use parking_lot::Mutex;
use serde::Serialize;

use super::App;
use super::auth::Admin;
use super::openapi::PublishedEvents;
use super::problem::Problem;
use super::query::Query;
use super::respond::{self, Cache};
use crate::domain::{EventFilter, EventId};
use crate::engine::{EventBatch, EventStream};
use crate::error::Error;
use crate::relay::Event;

/// The longest wait, in seconds.
const WAIT_SECONDS_MAX: u64 = 60;

/// The streams of the last polls, each where its next page begins: whoever pages through all that ever happened need not
/// find the place again each time.
pub(super) struct Polls {
    most: usize,
    /// Oldest first.
    streams: Mutex<VecDeque<(EventId, EventStream)>>,
}

impl Polls {
    /// Keeps `most` of them.
    pub(super) fn new(most: usize) -> Self {
        Self { most, streams: Mutex::default() }
    }

    fn take(&self, after: EventId) -> Option<EventStream> {
        let mut streams = self.streams.lock();
        let place = streams.iter().rposition(|(next_after, _)| *next_after == after)?;
        streams.remove(place).map(|(_, stream)| stream)
    }

    fn keep(&self, next_after: EventId, stream: EventStream) {
        let mut streams = self.streams.lock();
        streams.push_back((next_after, stream));
        while streams.len() > self.most {
            streams.pop_front();
        }
    }
}

#[derive(Serialize)]
struct Page {
    items: Vec<Event>,
    next_after: Option<EventId>,
}

/// Lists events, oldest first; waits for one if there is none.
#[utoipa::path(get, path = "/v1/events", tag = "events", operation_id = "list_events", security(("bearer" = [])),
    params(
        ("after" = Option<EventId>, Query, description = "The last one that is known; none: from the oldest. \
            One that is yet to come is refused."),
        ("limit" = Option<u32>, Query, description = "How many items at the most", minimum = 1, maximum = 500),
        ("wait_seconds" = Option<u32>, Query, description = "How long to wait while there are none",
            minimum = 0, maximum = 60)),
    responses((status = 200, description = "A page of events", body = PublishedEvents), (status = 400), (status = 403)))]
pub(super) async fn list(request: HttpRequest, _: Admin, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let query = Query::read(&request, &["after", "limit", "wait_seconds"])?;
    let after: Option<EventId> = query.parsed("after")?;
    let limit = query.limit()?;
    let wait_seconds = query.number("wait_seconds", 0..=WAIT_SECONDS_MAX)?.unwrap_or(0);
    let begin = after.unwrap_or_default();
    if begin.lsn > app.engine.durable_lsn() {
        return Err(Problem::invalid_field("after", "is past the last event: not one of this server"));
    }
    let stream = app.polls.take(begin);
    let mut stream = stream.unwrap_or_else(|| app.engine.events(begin, EventFilter::ALL));
    let mut events = stream.available(limit).await?.events;
    if events.is_empty() && wait_seconds > 0 {
        let mut stopping = app.stopping.subscribe();
        tokio::select! {
            found = wait_for_some(&mut stream, limit) => events = found?.events,
            () = tokio::time::sleep(Duration::from_secs(wait_seconds)) => {}
            // It fails only if the server is gone, which is an end as well.
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }
    let next_after = events.last().map(|event| event.id).or(after);
    app.polls.keep(next_after.unwrap_or_default(), stream);
    respond::ok(&Page { items: events, next_after }, Cache::Private)
}

async fn wait_for_some(stream: &mut EventStream, limit: usize) -> Result<EventBatch, Error> {
    loop {
        let batch = stream.next(limit).await?;
        if !batch.events.is_empty() {
            return Ok(batch);
        }
    }
}
