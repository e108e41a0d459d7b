//! The HTTP API in front of an [`Engine`]: routes, who may call them, and what answers look like.
//!
//! Architecture invariant: no rule of the sale is in here. A handler reads a request, asks the engine once, and writes
//! its answer. One file a resource; what they share is beside them.

pub mod auth;
pub mod config;
pub mod cors;
pub mod demo;
pub mod descriptors;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
pub mod healthcheck;
pub mod problem;

mod address;
mod blocks;
mod bodies;
mod changes;
#[cfg(feature = "cluster")]
pub mod cluster;
mod concerts;
mod events;
mod expect;
mod flow;
mod history;
mod hosts;
mod json;
pub mod kafka;
mod limiter;
mod live;
mod metrics;
mod observe;
mod openapi;
mod operations;
mod options;
mod pages;
mod payments;
mod plans;
mod process;
mod providers;
mod query;
mod ready;
mod recent;
pub mod reconciliation;
mod reservations;
mod respond;
mod seats;
mod seldom;
mod selling;
mod sheets;
mod sinks;
mod site;
mod traces;
mod unread;
mod waiting_room;
mod wallet;
mod webhooks;
mod wire;

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::{AppConfig, Handler, Server};
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App as ActixApp, FromRequest, HttpRequest, HttpServer, Resource, Responder, Route, guard};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use self::address::Proxies;
use self::auth::Verifier;
use self::bodies::{Backlog, Piece};
use self::config::{Settings, ValueError};
use self::cors::Cors;
use self::events::Polls;
use self::expect::{Expectations, Resuming};
use self::history::History;
use self::hosts::Hosts;
use self::kafka::Kafka;
use self::limiter::Limiter;
use self::live::Live;
use self::live::upgrade::Upgrades;
use self::metrics::Metrics;
use self::plans::ReadyPlans;
use self::problem::{Code, Problem};
use self::providers::Providers;
use self::ready::Ready;
use self::seats::ReadySeats;
use self::traces::Traces;
use self::webhooks::{Webhooks, routes as hooks};
use self::wire::Wire;
use crate::engine::Engine;

/// How often the limiter forgets users who have not asked for a while.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How many pages of lists are made at a time: as many as there are threads to read for them.
const LISTS_AT_ONCE: usize = 8;
/// How long requests may take to end once the engine has failed: they have their answers already.
const FAILED_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts to begin with Kafka, while nobody decides.
const KAFKA_PAUSE: Duration = Duration::from_secs(1);

/// Why a server stopped, or did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No tokens can be checked.
    #[error(transparent)]
    Auth(#[from] auth::Error),
    /// The listeners cannot be used.
    #[error("listening: {0}")]
    Listen(#[from] io::Error),
    /// A thread of the engine cannot begin to serve requests.
    #[error("a thread cannot serve requests: {0}")]
    NoService(&'static str),
    /// A value of the configuration is not what its key allows.
    #[error(transparent)]
    Settings(#[from] ValueError),
    /// The process may open too few files to serve anybody.
    #[error(
        "this process may open {limit} files, and needs {needed} at least: raise the limit (ulimit -n, LimitNOFILE), or lower \
         http.spare_descriptors or limits.sinks"
    )]
    Descriptors {
        /// How many it may open.
        limit: u64,
        /// How many it needs.
        needed: u64,
    },
    /// Webhooks cannot be served.
    #[error("webhooks: {0}")]
    Webhooks(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Traces cannot be sent.
    #[error("traces: {0}")]
    Traces(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Kafka cannot be served.
    #[error("kafka: {0}")]
    Kafka(#[source] crate::error::Error),
    /// The engine has failed, and must be opened again.
    #[error("the engine has failed: {0}")]
    EngineFailed(String),
    /// The engine did not shut down cleanly. The next start recovers from the journal.
    #[error("shutting down: {0}")]
    Shutdown(#[source] crate::error::Error),
}

/// What all requests share.
pub struct App {
    engine: Engine,
    settings: Settings,
    verifier: Verifier,
    limiter: Limiter,
    proxies: Proxies,
    cors: Cors,
    metrics: Metrics,
    plans: ReadyPlans,
    seats: ReadySeats,
    polls: Polls,
    webhooks: Webhooks,
    providers: Providers,
    kafka: Kafka,
    /// Whether the server is told to stop: whoever waits for something to happen need not.
    stopping: watch::Sender<bool>,
    history: History,
    live: Live,
    traces: Traces,
    backlog: Arc<Backlog>,
    /// What was cut of the settings, since the process may not open more files.
    cut: Option<String>,
    /// Turns of those who make pages of lists.
    lists: Semaphore,
    /// The turn of who has a provider list what it did.
    listings: Semaphore,
    /// The description of this API, as JSON.
    openapi: Ready,
}

impl App {
    fn new(engine: Engine, mut settings: Settings) -> Result<Self, Error> {
        descriptors::raise_limit();
        let cut = descriptors::share(&mut settings, descriptors::limit())?;
        if let Some(cut) = &cut {
            tracing::warn!("{cut}");
        }
        let backlog = Backlog::new(whole(settings.http.unread_bytes), settings.http.unread_patience.0);
        let webhooks = Webhooks::new(engine.clone(), &settings.webhooks)?;
        let runtime = webhooks.handle().ok_or(Error::NoService("there is no runtime for requests to others"))?;
        let verifier = Verifier::new(&settings)?;
        verifier.start()?;
        let metrics = Metrics::new(engine.clone());
        let traces = Traces::start(&settings, metrics.spans.clone(), &runtime)?;
        Ok(Self {
            cut,
            verifier,
            limiter: Limiter::new(&settings.limits),
            proxies: settings.trusted_proxies()?,
            cors: Cors::new(&settings.cors.allowed_origins),
            metrics,
            plans: ReadyPlans::new(
                whole(settings.http.cached_plans),
                whole(settings.http.cached_plans_bytes),
                &backlog,
            ),
            seats: ReadySeats::new(
                whole(settings.http.cached_seats),
                whole(settings.http.cached_seats_bytes),
                &backlog,
            ),
            polls: Polls::new(whole(settings.http.kept_polls)),
            providers: Providers::new(&settings.payments, &runtime)?,
            webhooks,
            kafka: Kafka::traced(&settings, &traces)?,
            stopping: watch::Sender::new(false),
            history: History::new(&settings.history),
            live: Live::start(&settings.live)?,
            traces,
            backlog,
            lists: Semaphore::new(LISTS_AT_ONCE),
            listings: Semaphore::new(1),
            openapi: Ready::new(Piece::new(openapi::document())),
            engine,
            settings,
        })
    }
}

/// Serves `engine` on `listener`, and figures on `ops`, until `shutdown` resolves or somebody else shuts the engine down.
/// Then it takes no more connections, lets the requests that are under way come to their end, and shuts the engine down:
/// whatever was answered is durable.
///
/// Raises the limit of open files of the process as far as it may.
///
/// # Errors
/// A server that cannot start, and an engine that fails on the way or does not shut down cleanly.
pub async fn run(
    listener: TcpListener,
    ops: Option<TcpListener>,
    engine: Engine,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let app = web::Data::new(App::new(engine.clone(), settings)?);
    app.webhooks.serve(&app.traces).await.map_err(|error| Error::Webhooks(error.into()))?;
    let kafka = match app.kafka.serve(&engine, &app.settings.kafka).await {
        // The nodes of a cluster start when they can, and not all at once.
        Err(crate::error::Error::NoOwner) => Some(actix_web::rt::spawn(serve_kafka(app.clone()))),
        served => served.map(|()| None).map_err(Error::Kafka)?,
    };
    let attached = app.providers.attach(&engine);
    let mut api = serve_api(listener, &app).await?;
    let ops = ops.map(|listener| serve_ops(listener, &app)).transpose()?;
    let ops_handle = ops.as_ref().map(Server::handle);
    let ops = ops.map(actix_web::rt::spawn);
    let forgetting = actix_web::rt::spawn(forget_idle(app.clone()));
    let noting = actix_web::rt::spawn(history::note(app.clone()));
    app.live.watch(&engine);

    let failure = tokio::select! {
        biased;
        reason = engine.failure() => Some(reason),
        () = shutdown => None,
        () = api.ended() => None,
    };
    forgetting.abort();
    if let Some(kafka) = kafka {
        kafka.abort();
    }
    app.stopping.send_replace(true);
    noting.abort();
    let patience = if failure.is_some() { FAILED_TIMEOUT } else { app.settings.http.shutdown_timeout.0 };
    let stop_api = async {
        if !api.stop(patience).await {
            tracing::warn!("requests were cut off");
        }
    };
    let stop_ops = async {
        if let Some(handle) = &ops_handle {
            handle.stop(true).await;
        }
    };
    tokio::join!(stop_api, stop_ops, app.live.close());
    drop((ops, attached));
    // Deliveries hold on to the engine until it is shut down, also to one that has failed.
    let ended = engine.shutdown().await;
    app.kafka.close().await;
    app.traces.close().await;
    match failure {
        Some(reason) => Err(Error::EngineFailed(reason)),
        None => ended.map_err(Error::Shutdown),
    }
}

/// Begins to hand events to Kafka once there is a node that decides.
async fn serve_kafka(app: web::Data<App>) {
    while let Err(error) = app.kafka.serve(&app.engine, &app.settings.kafka).await {
        if !matches!(error, crate::error::Error::NoOwner | crate::error::Error::OutcomeUnknown(_)) {
            return tracing::error!(%error, "events are not handed to Kafka");
        }
        actix_web::rt::time::sleep(KAFKA_PAUSE).await;
    }
}

async fn serve_api(listener: TcpListener, app: &web::Data<App>) -> Result<Hosts, Error> {
    let http = app.settings.http.clone();
    let connections = whole(http.max_connections);
    let limits = hosts::Limits { connections, write_timeout: http.write_timeout.0 };
    // Connections have it from the listener. It grows with what is not read, unless it is said how large it is.
    set_socket_send_buffer_size(&listener, whole(http.send_buffer_bytes)).map_err(io::Error::from)?;
    let (served, address) = (app.clone(), listener.local_addr()?);
    // What `actix_web::HttpServer` does, and upgrades.
    Hosts::serve(listener, app.engine.arbiters(), limits, move |stopping| {
        let application = || {
            let application = ActixApp::new().app_data(served.clone()).configure(api_routes);
            map_config(application.wrap(from_fn(observe::observe)).into_factory(), |()| AppConfig::default())
        };
        let connected = served.clone();
        let wire = move |io: TcpStream| {
            let peer = io.peer_addr().ok();
            // The last slice of an answer must not wait until those before it are acknowledged.
            let _ = io.set_nodelay(true);
            let wire = Wire::new(io, connected.clone());
            async move { Ok((wire, peer)) }
        };
        let http = HttpService::build()
            .on_connect_ext(|wire: &Wire, known| {
                known.insert(wire.line().clone());
            })
            .graceful_shutdown_signal(move || stopping.clone().told())
            .keep_alive(http.keep_alive.0)
            .client_request_timeout(http.request_timeout.0)
            .client_disconnect_timeout(http.request_timeout.0)
            .local_addr(address)
            .expect(Expectations(application()))
            .upgrade(Upgrades(application()))
            .h1(Resuming(application()).map_err(|error| error.error_response()));
        fn_service(wire).and_then(http)
    })
    .await
}

fn serve_ops(listener: TcpListener, app: &web::Data<App>) -> io::Result<Server> {
    let app = app.clone();
    let server = HttpServer::new(move || ActixApp::new().app_data(app.clone()).configure(ops_routes));
    Ok(server
        .workers(1)
        .max_connections(descriptors::OPS_CONNECTIONS)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?
        .run())
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

async fn forget_idle(app: web::Data<App>) {
    loop {
        actix_web::rt::time::sleep(FORGET_EVERY).await;
        app.limiter.forget_idle();
    }
}

fn api_routes(services: &mut ServiceConfig) {
    // Looked through in this order, a regular expression each: what a crowd asks for comes first.
    let resources = [
        at("/v1/options/{id}/reservations", [post(reservations::hold), get(reservations::list_of_option)]),
        at("/v1/reservations/{id}/payments", [post(payments::pay)]),
        at("/v1/reservations/{id}", [get(reservations::read), delete(reservations::release), patch(changes::extend)]),
        at("/v1/reservations/{id}/releases", [post(changes::release_part)]),
        at("/v1/reservations/{id}/exchanges", [post(changes::exchange)]),
        at("/v1/reservations/{id}/transfers", [post(changes::transfer)]),
        at("/v1/transfers/{id}", [delete(changes::withdraw)]),
        at("/v1/transfers/{id}/accept", [post(changes::accept)]),
        at("/v1/tokens/{id}", [get(waiting_room::read_token), delete(waiting_room::leave)]),
        at("/v1/concerts/{id}/tokens", [post(waiting_room::issue_token)]),
        at("/v1/options/{id}/seats", [get(options::seats)]),
        at("/v1/options/{id}", [get(options::read), patch(options::change), delete(selling::delete_option)]),
        at("/v1/concerts", [get(concerts::list), post(concerts::create)]),
        at("/v1/concerts/{id}", [get(concerts::read), patch(concerts::change), delete(selling::delete_concert)]),
        at("/v1/concerts/{id}/waiting-room", [get(waiting_room::read), patch(waiting_room::configure)]),
        at("/v1/concerts/{id}/options", [post(options::create)]),
        at("/v1/options/{id}/plan", [get(options::plan), put(options::replace_plan)]),
        at("/v1/options/{id}/live", [get(live::seats)]),
        at("/v1/options/{id}/blocks", [post(blocks::block)]),
        at("/v1/options/{id}/unblocks", [post(blocks::unblock)]),
        at("/v1/options/{id}/seats/{seat}/history", [get(options::seat_history)]),
        at("/v1/options/{id}/cancellation", [get(selling::cancellation), post(selling::call_off)]),
        at("/v1/tokens/{id}/live", [get(live::token)]),
        at("/v1/tokens/{id}/history", [get(waiting_room::history)]),
        at("/v1/reservations", [get(reservations::list)]),
        at("/v1/payments", [get(payments::list)]),
        at("/v1/payments/reconciliation", [get(reconciliation::of_day)]),
        at("/v1/payments/reconciliation/differences", [get(reconciliation::differences)]),
        at("/v1/payments/{id}", [get(payments::read), delete(payments::give_up)]),
        at("/v1/payments/{id}/facts", [post(payments::report)]),
        at("/v1/payments/{id}/lookup", [post(payments::look_up)]),
        at("/v1/payments/{id}/refunds", [post(payments::refund)]),
        at("/v1/payments/{id}/confirmation", [post(providers::confirm)]),
        at("/v1/payment-providers/{name}/webhook", [post(providers::webhook)]),
        at("/v1/wallet", [get(wallet::own)]),
        at("/v1/wallet/entries", [get(wallet::entries)]),
        at("/v1/wallet/charges", [post(wallet::charge_own)]),
        at("/v1/users/{user_id}/wallet", [get(wallet::of_user)]),
        at("/v1/users/{user_id}/wallet/charges", [post(wallet::charge)]),
        at("/v1/users/{user_id}/wallet/adjustments", [post(wallet::adjust)]),
        at("/v1/users/{user_id}/wallet/history", [get(wallet::history)]),
        at("/v1/events", [get(events::list)]),
        at("/v1/webhooks", [get(hooks::list), post(hooks::register)]),
        at("/v1/webhooks/{id}", [get(hooks::read), delete(hooks::remove)]),
        at("/v1/webhooks/{id}/rotate-secret", [post(hooks::rotate_secret)]),
        at("/v1/webhooks/{id}/redrive", [post(hooks::redrive)]),
        at("/v1/webhooks/{id}/dead-letters", [get(hooks::dead_letters)]),
        at("/v1/webhooks/{id}/dead-letters/{event_id}", [delete(hooks::drop_dead_letter)]),
        at("/v1/sinks", [get(sinks::list)]),
        at("/v1/sinks/{id}", [get(sinks::read)]),
        at("/v1/sinks/{id}/redrive", [post(sinks::redrive)]),
        at("/v1/sinks/{id}/dead-letters", [get(sinks::dead_letters)]),
        at("/v1/sinks/{id}/dead-letters/{event_id}", [delete(sinks::drop_dead_letter)]),
        at("/v1/site", [get(site::read)]),
        at("/v1/stats", [get(operations::stats)]),
        at("/problems/{name}", [get(problem::page)]),
        at("/openapi.json", [get(openapi::json)]),
        at("/docs", [get(openapi::to_docs)]),
        at("/docs/{file:.*}", [get(openapi::docs)]),
        at("/", [get(pages::buyer)]),
        at("/ops", [get(pages::operator)]),
        at("/web/{file:.*}", [get(pages::file)]),
        at("/embed/v1.js", [get(pages::embed)]),
    ];
    for resource in resources {
        services.service(resource);
    }
    health_routes(services);
}

fn ops_routes(services: &mut ServiceConfig) {
    services.service(at("/metrics", [get(operations::metrics)]));
    health_routes(services);
}

fn health_routes(services: &mut ServiceConfig) {
    services.service(at("/healthz", [get(operations::healthz)]));
    services.service(at("/readyz", [get(operations::readyz)]));
    services.default_service(web::to(|| async { Err::<&str, _>(Problem::not_found()) }));
}

/// A method, as `Allow` names it, and what answers it.
type Method = (&'static str, Route);

/// A resource with these methods; to others it says which there are.
fn at(path: &str, methods: impl IntoIterator<Item = Method>) -> Resource {
    let (names, routes): (Vec<_>, Vec<_>) = methods.into_iter().unzip();
    let allow = names.join(", ");
    let refuse = move |request: HttpRequest| {
        let detail = format!("{} is not among the methods of this resource: {allow}.", request.method());
        let allow = HeaderValue::from_str(&allow).unwrap_or(HeaderValue::from_static("GET"));
        async { Err::<&str, _>(Problem::new(Code::MethodNotAllowed, detail).with_header(header::ALLOW, allow)) }
    };
    routes.into_iter().fold(web::resource(path), Resource::route).default_service(web::to(refuse))
}

/// `GET`, and `HEAD`, of which actix sends no body.
fn get<F, Args>(handler: F) -> Method
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    ("GET, HEAD", web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler))
}

fn post<F, Args>(handler: F) -> Method
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    ("POST", web::post().to(handler))
}

fn put<F, Args>(handler: F) -> Method
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    ("PUT", web::put().to(handler))
}

fn patch<F, Args>(handler: F) -> Method
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    ("PATCH", web::patch().to(handler))
}

fn delete<F, Args>(handler: F) -> Method
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    ("DELETE", web::delete().to(handler))
}

/// An id from the path. What is not an id names nothing.
fn id<T: std::str::FromStr>(path: &str) -> Result<T, Problem> {
    path.parse().map_err(|_| Problem::not_found())
}

/// Does what would keep other requests waiting on a thread of its own.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    web::block(work).await.map_err(|error| {
        tracing::error!(%error, "no thread for what takes long");
        Problem::new(Code::Internal, "The server's log has more.")
    })
}

/// `outcome`, unless it is a refusal and what the request is about does not exist: that goes first, as 404. To look it
/// up beforehand would cost every good request a trip to the engine.
async fn unless_missing<T, R>(
    outcome: Result<T, Problem>,
    lookup: impl Future<Output = Result<R, crate::error::Error>>,
) -> Result<T, Problem> {
    match outcome {
        Ok(value) => Ok(value),
        Err(problem) => lookup.await.map_or_else(|error| Err(error.into()), |_| Err(problem)),
    }
}
