//! Browsers on other origins: off, or for those in the configuration. Tokens travel in a header, never in a cookie, so
//! no credentials are allowed.

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};

const METHODS: &str = "GET, POST, PATCH, DELETE";
const REQUEST_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Queue-Token, X-Request-Id";
const EXPOSED_HEADERS: &str = "Date, ETag, Location, Retry-After, Idempotent-Replayed, X-Request-Id";
/// How long a browser may remember the answer to a preflight, in seconds.
const PREFLIGHT_SECONDS: &str = "600";

/// Which origins are allowed.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    origins: Vec<String>,
}

impl Cors {
    /// These, or all if `*` is among them. None: off.
    #[must_use]
    pub fn new(origins: &[String]) -> Self {
        Self { origins: origins.to_vec() }
    }

    /// Whether `origin` is allowed.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == "*" || allowed == origin)
    }

    /// The answer to a preflight from an allowed origin; `None` if it is not one.
    #[must_use]
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<HttpResponse> {
        let is_preflight = method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        self.origin(headers).filter(|_| is_preflight).map(|_| {
            HttpResponse::NoContent()
                .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
                .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS))
                .insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS))
                .finish()
        })
    }

    /// The origin of a request, if it is an allowed one.
    #[must_use]
    pub fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() {
            return None;
        }
        headers.get(header::ORIGIN).filter(|origin| origin.to_str().is_ok_and(|origin| self.allows(origin))).cloned()
    }

    /// Marks an answer to `origin`, which [`origin`](Self::origin) gave.
    pub fn mark(&self, origin: Option<HeaderValue>, response: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        // Without an allowed origin too: a cache must not hand this answer to another one.
        response.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        headers
    }

    #[test]
    fn only_allowed_origins_are_answered() {
        let some = ["https://a.example".to_owned()];
        for (origins, origin, allowed) in [
            (&some[..], "https://a.example", true),
            (&some[..], "https://a.example.evil.example", false),
            (&some[..], "null", false),
            (&["*".to_owned()][..], "https://b.example", true),
            (&[][..], "https://a.example", false),
        ] {
            let cors = Cors::new(origins);
            assert_eq!(cors.preflight(&Method::OPTIONS, &headers(origin)).is_some(), allowed, "{origins:?} {origin}");
            assert!(cors.preflight(&Method::GET, &headers(origin)).is_none());
            let mut response = HeaderMap::new();
            cors.mark(cors.origin(&headers(origin)), &mut response);
            assert_eq!(response.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), allowed);
            assert_eq!(response.contains_key(header::VARY), !origins.is_empty());
        }
    }
}
