//! What was sent, over HTTP.

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};
use boxoffice_listener::{Listener, lock};
use serde::Deserialize;
use serde_json::json;

use crate::store::Store;

type Shared = Listener<Store>;

/// Items of a page, unless it is said, and at the most.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    user: Option<String>,
    status: Option<String>,
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Begins to serve.
pub fn serve(listener: TcpListener, shared: Arc<Shared>) -> std::io::Result<Server> {
    let shared = web::Data::from(shared);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .route("/messages", web::get().to(messages))
            .route("/healthz", web::get().to(HttpResponse::Ok))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(metrics))
    });
    Ok(server.workers(1).listen(listener)?.run())
}

async fn messages(query: web::Query<Query>, shared: web::Data<Shared>) -> HttpResponse {
    let limit = query.limit.unwrap_or(LIMIT);
    let first = || (i64::MAX, 0, String::new());
    let before = query.cursor.as_ref().map_or_else(|| Some(first()), |cursor| place(cursor));
    let (Some(before), 1..=LIMIT_MAX) = (before, limit) else {
        return HttpResponse::BadRequest().json(json!({"detail": "limit or cursor is not what it may be"}));
    };
    match lock(&shared.store).messages(query.user.as_deref(), query.status.as_deref(), &before, limit + 1) {
        Ok(mut items) => {
            let has_more = items.len() > limit;
            items.truncate(limit);
            let last = items.last().filter(|_| has_more);
            let next_cursor = last.map(|one| format!("{}/{}", one.event_id, one.channel));
            HttpResponse::Ok().json(json!({"items": items, "next_cursor": next_cursor}))
        }
        Err(error) => {
            tracing::error!(%error, "the database cannot be read");
            HttpResponse::ServiceUnavailable().finish()
        }
    }
}

/// Where a cursor stands: `node-lsn-index/channel`.
fn place(cursor: &str) -> Option<(i64, i64, String)> {
    let (event, channel) = cursor.split_once('/')?;
    let mut parts = event.split('-').skip(1).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, channel.to_owned()))
}

async fn readyz(shared: web::Data<Shared>) -> HttpResponse {
    let database = lock(&shared.store).check().err().map(|error| format!("the database: {error}"));
    let progress = lock(&shared.progress);
    let reading = (!progress.is_ready()).then(|| "what was there at the start is not read yet".to_owned());
    let reasons: Vec<_> = database.into_iter().chain(reading).collect();
    let warnings: Vec<_> = progress.warning.iter().collect();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = json!({"ready": reasons.is_empty(), "reasons": reasons, "warnings": warnings, "lag": progress.lag});
    HttpResponse::build(status).json(answer)
}

async fn metrics(shared: web::Data<Shared>) -> HttpResponse {
    let Ok(counts) = lock(&shared.store).counts() else { return HttpResponse::ServiceUnavailable().finish() };
    let lag = lock(&shared.progress).lag;
    let mut text = format!("# TYPE boxoffice_notification_lag gauge\nboxoffice_notification_lag {lag}\n");
    text.push_str("# TYPE boxoffice_notification_messages gauge\n");
    for (status, count) in counts {
        text.push_str(&format!("boxoffice_notification_messages{{status=\"{status}\"}} {count}\n"));
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text)
}
