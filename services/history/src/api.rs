//! What is written down, over HTTP.

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};
use boxoffice_listener::{Listener, lock};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::store::Store;

type Shared = Listener<Store>;

/// Items of a page, unless it is said, and at the most.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    user: String,
    limit: Option<usize>,
    /// The id of the last event of the page before.
    cursor: Option<String>,
}

/// Begins to serve.
pub fn serve(listener: TcpListener, shared: Arc<Shared>) -> std::io::Result<Server> {
    let shared = web::Data::from(shared);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .route("/payments", web::get().to(payments))
            .route("/wallet-entries", web::get().to(wallet_entries))
            .route("/healthz", web::get().to(HttpResponse::Ok))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(metrics))
    });
    Ok(server.workers(1).listen(listener)?.run())
}

async fn payments(query: web::Query<Query>, shared: web::Data<Shared>) -> HttpResponse {
    page(&query, |user, before, limit| lock(&shared.store).payments(user, before, limit), |entry| &entry.event_id)
}

async fn wallet_entries(query: web::Query<Query>, shared: web::Data<Shared>) -> HttpResponse {
    page(&query, |user, before, limit| lock(&shared.store).wallet_entries(user, before, limit), |entry| &entry.event_id)
}

/// A page, newest first.
fn page<T: Serialize>(
    query: &Query,
    read: impl FnOnce(&str, (i64, i64), usize) -> rusqlite::Result<Vec<T>>,
    id: impl Fn(&T) -> &String,
) -> HttpResponse {
    let limit = query.limit.unwrap_or(LIMIT);
    let before = query.cursor.as_ref().map_or(Some((i64::MAX, 0)), |cursor| place(cursor));
    let (Some(before), 1..=LIMIT_MAX) = (before, limit) else {
        return HttpResponse::BadRequest().json(json!({"detail": "limit or cursor is not what it may be"}));
    };
    match read(&query.user, before, limit + 1) {
        Ok(mut items) => {
            let has_more = items.len() > limit;
            items.truncate(limit);
            let next_cursor = items.last().filter(|_| has_more).map(id);
            HttpResponse::Ok().json(json!({"items": items, "next_cursor": next_cursor}))
        }
        Err(error) => {
            tracing::error!(%error, "the database cannot be read");
            HttpResponse::ServiceUnavailable().finish()
        }
    }
}

fn place(id: &str) -> Option<(i64, i64)> {
    let mut parts = id.split('-').skip(1).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

async fn readyz(shared: web::Data<Shared>) -> HttpResponse {
    let database = lock(&shared.store).counts().err().map(|error| format!("the database: {error}"));
    let progress = lock(&shared.progress);
    let reading = (!progress.is_ready()).then(|| "what was there at the start is not read yet".to_owned());
    let reasons: Vec<_> = database.into_iter().chain(reading).collect();
    let warnings: Vec<_> = progress.warning.iter().collect();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = json!({"ready": reasons.is_empty(), "reasons": reasons, "warnings": warnings, "lag": progress.lag});
    HttpResponse::build(status).json(answer)
}

async fn metrics(shared: web::Data<Shared>) -> HttpResponse {
    let Ok([payments, entries, unreadable]) = lock(&shared.store).counts() else {
        return HttpResponse::ServiceUnavailable().finish();
    };
    let lag = lock(&shared.progress).lag;
    let figures =
        [("payments", payments), ("wallet_entries", entries), ("unreadable", unreadable), ("lag", lag as i64)];
    let lines = figures.map(|(name, value)| {
        let name = format!("boxoffice_history_{name}");
        format!("# TYPE {name} gauge\n{name} {value}\n")
    });
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(lines.concat())
}
