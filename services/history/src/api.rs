//! What is written down, over HTTP.

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Result;
use boxoffice_listener::{Listener, lock};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::store::Store;

type Shared = Listener<Store>;

/// Items of a page, unless it is said, and at the most.
const LIMIT: i64 = 50;
const LIMIT_MAX: i64 = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    user: String,
    limit: Option<i64>,
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
    page(&query, shared, Store::payments, |entry| &entry.event_id).await
}

async fn wallet_entries(query: web::Query<Query>, shared: web::Data<Shared>) -> HttpResponse {
    page(&query, shared, Store::wallet_entries, |entry| &entry.event_id).await
}

/// Reads so many of a user, those before a place.
type Read<T> = fn(&mut Store, &str, (i64, i64), i64) -> Result<Vec<T>>;

/// A page, newest first.
async fn page<T: Serialize + Send + 'static>(
    query: &Query,
    shared: web::Data<Shared>,
    read: Read<T>,
    id: fn(&T) -> &String,
) -> HttpResponse {
    let limit = query.limit.unwrap_or(LIMIT);
    let before = query.cursor.as_ref().map_or(Some((i64::MAX, 0)), |cursor| place(cursor));
    let (Some(before), 1..=LIMIT_MAX, false) = (before, limit, query.user.contains('\0')) else {
        return HttpResponse::BadRequest().json(json!({"detail": "user, limit or cursor is not what it may be"}));
    };
    let user = query.user.clone();
    match ask(shared, move |store| read(store, &user, before, limit + 1)).await {
        Ok(mut items) => {
            let has_more = items.len() > limit as usize;
            items.truncate(limit as usize);
            let next_cursor = items.last().filter(|_| has_more).map(id);
            HttpResponse::Ok().json(json!({"items": items, "next_cursor": next_cursor}))
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the database cannot be read");
            HttpResponse::ServiceUnavailable().finish()
        }
    }
}

/// Asks the store on a thread that may wait.
async fn ask<T: Send + 'static>(
    shared: web::Data<Shared>,
    what: impl FnOnce(&mut Store) -> Result<T> + Send + 'static,
) -> Result<T> {
    web::block(move || what(&mut lock(&shared.store))).await?
}

fn place(id: &str) -> Option<(i64, i64)> {
    let mut parts = id.split('-').skip(1).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

async fn readyz(shared: web::Data<Shared>) -> HttpResponse {
    let database = ask(shared.clone(), Store::check).await.err().map(|error| format!("the database: {error:#}"));
    let progress = lock(&shared.progress);
    let reading = (!progress.is_ready()).then(|| "what was there at the start is not read yet".to_owned());
    let reasons: Vec<_> = database.into_iter().chain(reading).collect();
    let warnings: Vec<_> = progress.warning.iter().collect();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = json!({"ready": reasons.is_empty(), "reasons": reasons, "warnings": warnings, "lag": progress.lag});
    HttpResponse::build(status).json(answer)
}

async fn metrics(shared: web::Data<Shared>) -> HttpResponse {
    let Ok([payments, entries, unreadable]) = ask(shared.clone(), Store::counts).await else {
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
