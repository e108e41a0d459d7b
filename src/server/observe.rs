//! What happens around every request: its id, the access log, figures, browsers' headers, handlers that panic, and how much
//! of an answer is given at once.

use std::hash::{BuildHasher as _, RandomState};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpResponse, ResponseError as _, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;

use super::flow::{Body, Cut, Line};
use super::problem::{Code, Problem};
use super::seldom::Seldom;
use super::traces::Call;
use super::unread::Unread;
use super::{App, auth};
use crate::domain::UserId;
use crate::watch::watched;

/// Names a request in the log; taken from the caller if it is sane.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_CHARS_MAX: usize = 64;
static PANICS: Seldom = Seldom::new();
/// What browsers may do with an answer, unless it says so itself: nothing but hand it to whoever asked for it.
const BY_DEFAULT: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
];

/// The middleware.
///
/// # Errors
/// None of its own.
pub async fn observe(
    app: web::Data<App>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let begun = Instant::now();
    let id = request_id(request.headers());
    let origin = app.cors.origin(request.headers());
    let call = app.traces.begin(&app.proxies, request.peer_addr().map(|peer| peer.ip()), request.headers());
    let unread = Unread::of(&mut request);
    let line = request.conn_data::<Rc<Line>>().cloned();
    let body = if has_body(request.headers()) { Body::Follows } else { Body::None };
    let work = line.as_ref().map(|line| line.work(body));
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let answer = admit(&app, &request).err().map(|refusal| refusal.error_response());
    let answer = answer.or_else(|| app.cors.preflight(request.method(), request.headers()));
    let outcome = match answer {
        Some(answer) => Ok(request.into_response(answer).map_into_right_body()),
        None => match answer_watched(call.clone(), next.call(request)).await {
            Ok(outcome) => outcome.map(ServiceResponse::map_into_left_body),
            Err(_) => {
                if let Some(left_out) = PANICS.next() {
                    tracing::error!(%method, path = uri.path(), ?id, left_out, "a handler panicked");
                }
                Err(Problem::new(Code::Internal, "The server's log has more.").into())
            }
        },
    };
    drop(work);
    let cut = line.map(|line| line.cut().clone());
    let mut response = match outcome {
        Ok(response) => send(&app, response.map_into_boxed_body(), cut),
        // There is no request left to answer, so the error itself has to carry the headers.
        Err(error) => {
            let mut answer = error.as_response_error().error_response();
            if let Some(call) = call {
                call.answered(&method, None, answer.status());
            }
            record(&app, &method, uri.path(), None, None, answer.status(), begun, &id);
            mark(&app, answer.headers_mut(), id, origin);
            let answer = answer.map_body(|_, body| app.backlog.send(body, cut, false).unwrap_or(BoxBody::new(())));
            return Err(InternalError::from_response(error, answer).into());
        }
    };
    let route = response.request().match_pattern();
    if let Some(call) = call {
        call.answered(&method, route.clone(), response.status());
    }
    let user = response.request().extensions().get::<UserId>().cloned();
    record(&app, &method, uri.path(), route, user, response.status(), begun, &id);
    mark(&app, response.headers_mut(), id, origin);
    Ok(match unread {
        Some(unread) => response.map_body(|_, body| unread.held_by(body)),
        None => response,
    })
}

/// What comes of a handler, which may panic. The engine tells `call` what it does for it.
async fn answer_watched<F: Future>(call: Option<Arc<Call>>, handler: F) -> std::thread::Result<F::Output> {
    match call {
        None => AssertUnwindSafe(handler).catch_unwind().await,
        Some(call) => AssertUnwindSafe(watched(call, handler)).catch_unwind().await,
    }
}

/// The answer to what nobody could read as a request, and which has no other line in the log than this one.
pub fn unreadable(app: &App, status: StatusCode) -> HttpResponse {
    let (id, problem) = (new_id(), Problem::unreadable(status));
    app.metrics.observe_unreadable(status);
    tracing::debug!(status = status.as_u16(), id = id.to_str().unwrap_or_default(), "no request could be read");
    let mut answer = problem.response();
    mark(app, answer.headers_mut(), id, None);
    answer
}

/// Refuses whoever's address asks too often. Who only asks how the server is does not count: to refuse that would take a
/// server that is well out of service.
fn admit(app: &App, request: &ServiceRequest) -> Result<(), Problem> {
    let Some(peer) = request.peer_addr().filter(|_| !matches!(request.path(), "/healthz" | "/readyz")) else {
        return Ok(());
    };
    let caller = app.proxies.caller(peer.ip(), request.headers());
    app.limiter.check_address(caller).inspect_err(|_| auth::note_turned_away(app, request.head()))
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// `response`, of which a connection is given a little at a time; or a refusal, if there is no room for another large one.
/// The answer to a request that changes something is the only way to learn what came of it.
fn send(app: &App, response: ServiceResponse<BoxBody>, cut: Option<Arc<Cut>>) -> ServiceResponse<BoxBody> {
    let may_be_refused = response.request().method() == Method::GET;
    let (request, response) = response.into_parts();
    let (response, body) = response.into_parts();
    let response = match app.backlog.send(body, cut, may_be_refused) {
        Some(body) => response.set_body(body),
        None => {
            let detail = "Too much is on its way to those who have not read it yet.";
            Problem::new(Code::Overloaded, detail).retry_after(1).response()
        }
    };
    ServiceResponse::new(request, response)
}

/// Counts the request, and writes its line in the log: who asked for what, and never with which token.
#[expect(clippy::too_many_arguments, reason = "each is a column of the line")]
fn record(
    app: &App,
    method: &Method,
    path: &str,
    route: Option<String>,
    user: Option<UserId>,
    status: StatusCode,
    begun: Instant,
    id: &HeaderValue,
) {
    let elapsed = begun.elapsed();
    app.metrics.observe(method, route, status, elapsed);
    tracing::info!(
        target: "boxoffice::access",
        %method,
        path,
        status = status.as_u16(),
        duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        user = user.as_ref().map(UserId::as_str),
        id = id.to_str().unwrap_or_default(),
        "request"
    );
}

/// Sets the headers that every answer has.
fn mark(app: &App, headers: &mut HeaderMap, id: HeaderValue, origin: Option<HeaderValue>) {
    headers.insert(REQUEST_ID, id);
    // Where a policy lets others have a page in a frame, this would say the opposite to old browsers.
    let may_be_framed = headers
        .get(header::CONTENT_SECURITY_POLICY)
        .is_some_and(|policy| policy.to_str().is_ok_and(|policy| !policy.contains("frame-ancestors 'none'")));
    for (name, value) in BY_DEFAULT {
        let is_right = name != header::X_FRAME_OPTIONS || !may_be_framed;
        if is_right && !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
    app.cors.mark(origin, headers);
}

/// The caller's own, if it is at most 64 URL-safe characters, or a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_sane = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        (1..=REQUEST_ID_CHARS_MAX).contains(&bytes.len())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(b))
    };
    headers.get(REQUEST_ID).filter(is_sane).cloned().unwrap_or_else(new_id)
}

/// An id that no other request has, and that tells nobody how many there were: random numbers would be a system call each.
fn new_id() -> HeaderValue {
    static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [high, low] = KEYS.each_ref().map(|key| key.hash_one(count));
    let id = u128::from(high) << 64 | u128::from(low);
    HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(&id.to_ne_bytes()[..12])).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, init_service, try_call_service};

    use super::*;
    use crate::engine::Engine;
    use crate::server::config::Settings;
    use crate::server::problem::MEDIA_TYPE;

    async fn broken() -> &'static str {
        panic!("as the test wants it")
    }

    #[actix_web::test]
    async fn a_handler_that_panics_answers_with_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
        settings.cors.allowed_origins = vec!["*".into()];
        let engine = Engine::open(settings.engine()).await.unwrap();
        let app = web::Data::new(App::new(engine.clone(), settings).unwrap());
        let app = actix_web::App::new().app_data(app).route("/", web::get().to(broken)).wrap(from_fn(observe));
        let service = init_service(app).await;
        for _ in 0..2 {
            let request =
                TestRequest::get().uri("/").insert_header(("x-request-id", "7")).insert_header(("origin", "x"));
            let error = try_call_service(&service, request.to_request()).await.unwrap_err();
            let response = error.error_response();
            assert_eq!(response.status(), 500);
            for (name, value) in
                [("content-type", MEDIA_TYPE), ("x-request-id", "7"), ("access-control-allow-origin", "x")]
            {
                assert_eq!(response.headers().get(name).unwrap(), value);
            }
        }
        engine.shutdown().await.unwrap();
    }

    #[test]
    fn a_sane_id_is_kept() {
        let given = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(id).unwrap());
            request_id(&headers)
        };
        assert_eq!(given("a-b_c.d~1"), "a-b_c.d~1");
        for id in ["", "a b", "a\"b", &"x".repeat(65)] {
            let made = given(id);
            assert!(made != id && made.len() == 16, "{id}: {made:?}");
        }
    }
}
