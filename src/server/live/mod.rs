//! Seats and places in a line, live: WebSockets, and who may have one.

mod held;
mod round;
mod socket;
pub(super) mod upgrade;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix_http::ws::{self, CloseCode};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use self::held::Held;
use self::round::{Follower, Round};
use self::socket::{Socket, Source};
use self::upgrade::{Accepted, Upgradable};
use super::auth::{self, Identity};
use super::problem::{Code, Problem};
use super::query::Query;
use super::{App, config, id, unless_missing};
use crate::Engine;
use crate::domain::{Lsn, OptionId, TokenId};
use crate::engine::SeatChanges;
use crate::error::Error;

#[cfg(any(test, feature = "testing"))]
pub(super) use self::socket::hear;

/// The subprotocol by which a browser shows its JWT: the next one that it names.
const BEARER: &str = "bearer";
/// How long to wait before trying again when there are too many, in seconds.
const RETRY_SECONDS: u64 = 5;
/// How often it is looked at whether this node has news.
const LOOK_AT_NEWS: Duration = Duration::from_millis(250);
/// How often it is looked at whether those who were said goodbye to are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The longest that a JWT is looked ahead: no clock goes on for as long as a number can say.
const EXPIRY_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// All WebSockets of a server. They have threads of their own: what they take must not keep requests waiting.
pub(super) struct Live {
    open: Mutex<Open>,
    held: Arc<Held>,
    /// Why all are to go, if they are.
    closing: watch::Sender<Option<Goodbye>>,
    /// `None` once they are closed.
    runtime: Mutex<Option<Runtime>>,
}

/// What is told to all.
type Goodbye = (CloseCode, &'static str);

/// The server ends.
const STOPS: Goodbye = (CloseCode::Away, "the server stops");
/// Another node knows more.
const OUT_OF_TOUCH: Goodbye = (CloseCode::Restart, "this node has no news: connect to another one");

/// How many there are.
#[derive(Default)]
struct Open {
    all: u64,
    options: HashMap<OptionId, Followed>,
}

/// An option that somebody follows.
#[derive(Default)]
struct Followed {
    connections: u64,
    /// At most as many as there are threads, so that all of these have one.
    rounds: Vec<Arc<Round>>,
}

impl Live {
    /// Starts its threads.
    pub(super) fn start(settings: &config::Live) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(usize::try_from(settings.threads).unwrap_or(1))
            .thread_name("boxoffice-live")
            .enable_all()
            .build()?;
        let (runtime, held) = (Mutex::new(Some(runtime)), Arc::new(Held::new(settings)));
        Ok(Self { open: Mutex::default(), held, closing: watch::Sender::new(None), runtime })
    }

    /// Lets those go, from now on, who look at a node that has no news of how things are, until it has.
    pub(super) fn watch(&self, engine: &Engine) {
        if engine.membership().is_none() {
            return;
        }
        let (engine, closing) = (engine.clone(), self.closing.clone());
        let watching = async move {
            let mut turns = tokio::time::interval(LOOK_AT_NEWS);
            while *closing.borrow() != Some(STOPS) {
                turns.tick().await;
                let astray = engine.membership().is_some_and(|membership| membership.is_out_of_touch());
                closing.send_if_modified(|why| {
                    let changes = why.is_none() == astray && *why != Some(STOPS);
                    if changes {
                        *why = astray.then_some(OUT_OF_TOUCH);
                    }
                    changes
                });
            }
        };
        if let Some(runtime) = &*self.runtime.lock() {
            runtime.spawn(watching);
        }
    }

    /// Serves a connection on one of its threads.
    fn serve<F>(&self, io: TcpStream, serve: impl FnOnce(TcpStream) -> F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = self.runtime.lock();
        let Some(runtime) = &*runtime else { return Ok(()) };
        let io = io.into_std()?;
        let _entered = runtime.enter();
        runtime.spawn(serve(TcpStream::from_std(io)?));
        Ok(())
    }

    /// Says goodbye to all, since the server stops, and waits a moment for those who answer.
    pub(super) async fn close(&self) {
        self.closing.send_replace(Some(STOPS));
        let gone = async {
            while self.open.lock().all > 0 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        // The others are cut off.
        let _ = tokio::time::timeout(2 * socket::GOODBYE, gone).await;
        self.end();
    }

    fn end(&self) {
        let runtime = self.runtime.lock().take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}

/// One connection among those that may be open.
struct Place {
    app: web::Data<App>,
    option: Option<OptionId>,
}

impl Place {
    /// Takes one, for an option's seats or for a token.
    fn take(app: &web::Data<App>, option: Option<OptionId>) -> Result<Self, Problem> {
        if *app.live.closing.borrow() == Some(OUT_OF_TOUCH) {
            return Err(Error::NoOwner.into());
        }
        let limits = &app.settings.live;
        let mut open = app.live.open.lock();
        let of_option = option.and_then(|option| open.options.get(&option)).map_or(0, |option| option.connections);
        if open.all >= limits.max_connections || of_option >= limits.max_connections_per_option {
            let problem = Problem::new(Code::Overloaded, "Too many are connected already.");
            return Err(problem.retry_after(RETRY_SECONDS));
        }
        open.all += 1;
        if let Some(option) = option {
            open.options.entry(option).or_default().connections += 1;
        }
        drop(open);
        Ok(Self { app: app.clone(), option })
    }

    /// Follows an option's seats with others that are here for them. To be called on the threads of [`Live`].
    fn follow(&self, option: OptionId, mut changes: SeatChanges) -> Follower {
        let threads = self.app.settings.live.threads;
        let held = &self.app.live.held;
        let mut open = self.app.live.open.lock();
        let Followed { connections, rounds } = open.options.entry(option).or_default();
        let turn = usize::try_from(*connections % threads).unwrap_or(0).min(rounds.len());
        if turn == rounds.len() {
            rounds.push(Round::start(&mut changes, held.clone(), self.app.metrics.live.clone()));
        } else if rounds[turn].has_ended() {
            // What it told of has become something else.
            rounds[turn] = Round::start(&mut changes, held.clone(), self.app.metrics.live.clone());
        }
        Follower::new(changes, held.clone(), rounds[turn].clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.app.live.open.lock();
        open.all -= 1;
        if let Some(option) = self.option
            && let Some(followed) = open.options.get_mut(&option)
        {
            followed.connections -= 1;
            if followed.connections == 0 {
                open.options.remove(&option);
            }
        }
    }
}

/// Follows an option's seats over a WebSocket: at first a snapshot (with `since`: a delta from there), then deltas, as
/// described in docs/EMBEDDING.md. Anything that is not a WebSocket handshake is refused with 400.
#[utoipa::path(get, path = "/v1/options/{id}/live", tag = "live", operation_id = "live_seats",
    params(("id" = OptionId, Path), ("since" = Option<u64>, Query, description = "The last `seq` that was heard"),
        ("Origin" = Option<String>, Header)),
    responses((status = 101, description = "A WebSocket"), (status = 400), (status = 403), (status = 404)))]
pub(super) async fn seats(
    request: HttpRequest,
    path: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let option: OptionId = id(&path)?;
    let checked = check(&request, &app).and_then(|()| since(&request));
    let since = unless_missing(checked, app.engine.seats_seq(option)).await?;
    let changes = app.engine.seat_changes(option, since).await?;
    let place = Place::take(&app, Some(option))?;
    let protocol = bearer_protocol(request.headers()).map(|_| BEARER);
    let source = move |place: &Place| Source::Seats(Box::new(place.follow(option, changes)));
    Ok(accept(&request, protocol, place, source, None))
}

/// Follows a place in a line over a WebSocket: the token, as `GET /v1/tokens/{id}` has it, whenever it has changed. The
/// open socket is a sign of life. Browsers show their JWT as the second of the subprotocols `bearer, <JWT>`. The socket is
/// closed with 1008 when the JWT expires.
#[utoipa::path(get, path = "/v1/tokens/{id}/live", tag = "live", operation_id = "live_token",
    params(("id" = TokenId, Path), ("Origin" = Option<String>, Header),
        ("Sec-WebSocket-Protocol" = Option<String>, Header)),
    security(("bearer" = [])),
    responses((status = 101, description = "A WebSocket"), (status = 400), (status = 403), (status = 404)))]
pub(super) async fn token(
    request: HttpRequest,
    path: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let (identity, pass, protocol) = identify(&request, &app).await?;
    let token: TokenId = id(&path)?;
    let caller = identity.caller();
    unless_missing(check(&request, &app), app.engine.token(&caller, token)).await?;
    Query::read(&request, &[])?;
    let changes = app.engine.token_changes(caller, token).await?;
    let place = Place::take(&app, None)?;
    let source = move |_: &Place| Source::Token(Box::new(changes));
    Ok(accept(&request, protocol, place, source, Some(pass)))
}

/// For how long a socket may be open.
pub(super) struct Pass {
    until: Instant,
    app: web::Data<App>,
    token: String,
}

impl Pass {
    /// When it expires.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Whether it is good still: the key that it was signed with may be good no more.
    pub(super) fn is_good(&self) -> bool {
        Instant::now() < self.until && self.app.verifier.verify(&self.token, SystemTime::now()).is_some()
    }
}

/// Who asks, for how long that holds, and the subprotocol to be answered if it was said by one.
async fn identify(
    request: &HttpRequest,
    app: &web::Data<App>,
) -> Result<(Identity, Pass, Option<&'static str>), Problem> {
    let (token, protocol) = match bearer_protocol(request.headers()) {
        Some(token) if !request.headers().contains_key(header::AUTHORIZATION) => (token, Some(BEARER)),
        _ => (auth::shown(request)?, None),
    };
    let (identity, expires) = auth::identify_by(request, token).await?;
    let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
    let until = Instant::now() + left.min(EXPIRY_MAX);
    Ok((identity, Pass { until, app: app.clone(), token: token.to_owned() }, protocol))
}

/// The subprotocol that is named after `bearer`.
pub(super) fn bearer_protocol(headers: &HeaderMap) -> Option<&str> {
    let named = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
    let mut names = named.flat_map(|names| names.split(',')).map(str::trim);
    names.find(|name| *name == BEARER)?;
    names.next()
}

fn since(request: &HttpRequest) -> Result<Option<Lsn>, Problem> {
    let query = Query::read(request, &["since"])?;
    let parse = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let since = query.get("since").map(|text| parse(text).ok_or(text));
    let since = since.transpose().map_err(|_| Problem::invalid_field("since", "must be a seq"))?;
    Ok(since.map(Lsn))
}

/// Checks from whom it comes, and that it is a WebSocket handshake.
fn check(request: &HttpRequest, app: &App) -> Result<(), Problem> {
    if request.headers().get(header::ORIGIN).is_some_and(|origin| !may_come_from(origin, request, app)) {
        return Err(Problem::new(Code::Forbidden, "Pages of this origin may not do this."));
    }
    let handshake = ws::verify_handshake(request.head());
    handshake.map_err(|error| Problem::invalid_field("Upgrade", format!("must be a WebSocket handshake: {error}")))?;
    if !request.extensions().contains::<Upgradable>() {
        return Err(Problem::invalid_field("Upgrade", "must be websocket, and nothing else"));
    }
    Ok(())
}

/// Whether a page of `origin` may connect: one of this server's own, or of those in the configuration.
fn may_come_from(origin: &HeaderValue, request: &HttpRequest, app: &App) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = ["http://", "https://"].iter().filter_map(|scheme| origin.strip_prefix(scheme));
    own.into_iter().any(|origin| origin.eq_ignore_ascii_case(host)) || app.cors.allows(origin)
}

/// Switches protocols.
fn accept(
    request: &HttpRequest,
    protocol: Option<&'static str>,
    place: Place,
    source: impl FnOnce(&Place) -> Source + Send + 'static,
    pass: Option<Pass>,
) -> HttpResponse {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map_or(&[][..], HeaderValue::as_bytes);
    let mut response = HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS);
    // It is ASCII, as Base64 is.
    let accept = HeaderValue::from_bytes(&ws::hash_key(key)).unwrap_or(HeaderValue::from_static(""));
    response.insert_header((header::SEC_WEBSOCKET_ACCEPT, accept));
    if let Some(protocol) = protocol {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, protocol));
    }
    let mut response = response.finish();
    response.extensions_mut().insert(Accepted::new(move |io, read| {
        let app = place.app.clone();
        app.live.serve(io, move |io| async move {
            Socket::new(io, read, &place.app).run(source(&place), pass).await;
            drop(place);
        })
    }));
    response
}
