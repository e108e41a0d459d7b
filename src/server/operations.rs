//! For operators: whether the server lives, whether it is ready, and its figures.

use std::collections::BTreeMap;

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::App;
use super::auth::Admin;
use super::metrics::in_old_format;
use super::openapi::Alive;
use super::problem::Problem;
use super::query::Query;
use super::respond::{self, Accepted, Cache};
use super::seldom::Seldom;
use crate::api::{Health, NodeRole, SaleFigures, Sink, Stats};
use crate::domain::{OptionId, Timestamp};

/// From how many entries of the journal on a receiver of events is behind.
const BEHIND_LSNS: u64 = 10_000;

/// Counters and gauges, and one sale.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Figures)]
pub(super) struct Figures {
    #[serde(flatten)]
    engine: Stats,
    /// Receivers of events.
    sinks: u64,
    /// Those of them that are more than 10,000 entries of the journal behind.
    sinks_behind: u64,
    /// Events that a receiver would not take, of all receivers.
    dead_letters: u64,
    /// The nodes of the cluster, as far as this one has heard of them; none on a machine of its own.
    nodes: Vec<Node>,
    /// Null unless an option is asked for.
    #[schema(required)]
    sale: Option<Sale>,
}

/// A node of the cluster.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NodeFigures)]
pub(super) struct Node {
    node: String,
    role: NodeRole,
    /// The last event in its journal.
    lsn: u64,
    /// Whether it could decide if it had to.
    ready: bool,
    /// How long ago it was heard of.
    heard_seconds: f64,
}

/// Alive, whatever else it may be.
#[utoipa::path(get, path = "/healthz", tag = "operations", operation_id = "healthz",
    responses((status = 200, description = "It lives", body = Alive)))]
pub(super) async fn healthz() -> Result<HttpResponse, Problem> {
    respond::ok(&json!({ "status": "alive" }), Cache::Private)
}

/// Whether it takes requests, and if not, why.
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "readyz",
    responses((status = 200, description = "It is ready", body = Health),
        (status = 503, description = "It is not", body = Health)))]
pub(super) async fn readyz(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let mut health = app.engine.health();
    health.warnings.extend(app.cut.clone());
    app.verifier.add_to(&mut health);
    let mut response = if health.ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    respond::json(&mut response, &health, Cache::Private)
}

/// A sale, now and before.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sale {
    now: SaleFigures,
    /// Oldest first, some seconds apart.
    history: Vec<SaleFigures>,
}

/// What the engine counts; with an option, also how that sells, and did in the last hour.
#[utoipa::path(get, path = "/v1/stats", tag = "operations", operation_id = "get_stats", security(("bearer" = [])),
    params(("option_id" = Option<OptionId>, Query, description = "The sale to tell of"),
        ("since" = Option<Timestamp>, Query, description = "Only what is later in its history")),
    responses((status = 200, description = "The figures", body = Figures), (status = 400), (status = 403), (status = 404)))]
pub(super) async fn stats(request: HttpRequest, _: Admin, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let query = Query::read(&request, &["option_id", "since"])?;
    let now = match query.parsed::<OptionId>("option_id")? {
        None => None,
        Some(option) => Some((option, app.engine.sale_figures(option).await?)),
    };
    let since = query.parsed::<Timestamp>("since")?;
    let sale = now.map(|(option, now)| Sale { now, history: app.history.of(option, since) });
    let sinks = sinks(&app).await;
    let figures = Figures {
        engine: app.engine.stats(),
        sinks: sinks.len() as u64,
        sinks_behind: sinks.iter().filter(|sink| sink.lag > BEHIND_LSNS).count() as u64,
        dead_letters: sinks.iter().map(|sink| sink.dead_letters).sum(),
        nodes: nodes(&app),
        sale,
    };
    respond::ok(&figures, Cache::Private)
}

/// All nodes of the cluster that were heard of, this one first.
fn nodes(app: &App) -> Vec<Node> {
    let (Some(membership), Some(own)) = (app.engine.membership(), app.engine.health().node) else { return Vec::new() };
    let role = |owns| if owns { NodeRole::Owner } else { NodeRole::Follower };
    let ready = app.engine.failed().is_none();
    let this = Node { node: own.node, role: own.role, lsn: own.lsn, ready, heard_seconds: 0.0 };
    let others = membership.peers.iter().map(|(name, seen)| Node {
        node: name.clone(),
        role: role(seen.owns),
        lsn: seen.lsn.0,
        ready: seen.ready,
        heard_seconds: seen.at.elapsed().as_secs_f64(),
    });
    std::iter::once(this).chain(others).collect()
}

/// All receivers of events; none if the engine cannot say any more, since its other figures still matter.
async fn sinks(app: &App) -> Vec<Sink> {
    static SELDOM: Seldom = Seldom::new();
    app.engine.sinks().await.unwrap_or_else(|error| {
        if let Some(left_out) = SELDOM.next() {
            tracing::warn!(%error, left_out, "the receivers of events cannot be read");
        }
        Vec::new()
    })
}

/// All figures, for Prometheus.
pub(super) async fn metrics(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    // Without it the other figures still matter.
    let waiting = app.engine.waiting_tokens().await.ok();
    let owed = app.engine.owed_sums().await.ok().map(|sums| (app.engine.now(), sums));
    let mut sales = BTreeMap::new();
    for option in app.history.options() {
        // It may have been deleted since.
        sales.extend(app.engine.sale_totals(option).await.ok().map(|totals| (option, totals)));
    }
    let text = app.metrics.text(sinks(&app).await, waiting, owed, sales);
    let text = text.map_err(|error| Problem::internal(&format!("figures cannot be written: {error}")))?;
    if prefers_open_metrics(request.headers()) {
        let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        return Ok(HttpResponse::Ok().content_type(media_type).body(text));
    }
    let media_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(HttpResponse::Ok().content_type(media_type).body(in_old_format(&text)))
}

/// Whether `Accept` names OpenMetrics, and with more weight than plain text.
fn prefers_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = Accepted::of(headers);
    let any = accepted.weight("text/*").max(accepted.weight("*/*"));
    let plain = accepted.weight("text/plain").or(any).unwrap_or(0);
    accepted.weight("application/openmetrics-text").is_some_and(|weight| weight > plain)
}
