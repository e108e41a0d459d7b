//! Answers: JSON with the right headers, `201` with its `Location`, and `304`.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;

use super::App;
use super::problem::Problem;
use crate::api::Answered;
use crate::error::Error;

/// Says that the answer is one that was given before.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What one thing takes as JSON, so that most answers are not copied while they grow.
const USUAL_BYTES: usize = 1_024;

/// Who may keep an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Nobody: it is one user's.
    Private,
    /// Anybody who asks again whether it is still so.
    Revalidate,
}

impl Cache {
    /// As a header.
    #[must_use]
    pub fn header(self) -> (HeaderName, &'static str) {
        let value = match self {
            Self::Private => "no-store",
            Self::Revalidate => "no-cache",
        };
        (header::CACHE_CONTROL, value)
    }
}

/// `200` with `value`.
///
/// # Errors
/// 500 if it cannot be written.
pub fn ok<T: Serialize>(value: &T, cache: Cache) -> Result<HttpResponse, Problem> {
    json(&mut HttpResponse::Ok(), value, cache)
}

/// `200` with a page of a list. Only so many are made at a time: each takes several times what is sent of it.
///
/// # Errors
/// Those of `page`; 500 if it cannot be written.
pub(super) async fn page<T: Serialize>(
    app: &App,
    page: impl Future<Output = Result<T, Error>>,
    cache: Cache,
) -> Result<HttpResponse, Problem> {
    // It is never closed.
    let _turn = app.lists.acquire().await;
    ok(&page.await?, cache)
}

/// `201` with what was made, and where it is.
///
/// # Errors
/// 500 if it cannot be written.
pub fn created<T: Serialize>(answered: &Answered<T>, location: &str) -> Result<HttpResponse, Problem> {
    let mut response = HttpResponse::Created();
    response.insert_header((header::LOCATION, location));
    mark_replayed(&mut response, answered.replayed);
    json(&mut response, &answered.value, Cache::Private)
}

/// `202` with what is to be done, and where that can be seen.
///
/// # Errors
/// 500 if it cannot be written.
pub fn accepted<T: Serialize>(answered: &Answered<T>, location: &str) -> Result<HttpResponse, Problem> {
    let mut response = HttpResponse::Accepted();
    response.insert_header((header::LOCATION, location));
    mark_replayed(&mut response, answered.replayed);
    json(&mut response, &answered.value, Cache::Private)
}

/// `200` with what was done.
///
/// # Errors
/// 500 if it cannot be written.
pub fn done<T: Serialize>(value: &T, was_replayed: bool) -> Result<HttpResponse, Problem> {
    let mut response = HttpResponse::Ok();
    mark_replayed(&mut response, was_replayed);
    json(&mut response, value, Cache::Private)
}

fn mark_replayed(response: &mut HttpResponseBuilder, was_replayed: bool) {
    if was_replayed {
        response.insert_header((IDEMPOTENT_REPLAYED, "true"));
    }
}

/// `value` as JSON, with what stands in `response`.
///
/// # Errors
/// 500 if it cannot be written.
pub fn json<T: Serialize>(
    response: &mut HttpResponseBuilder,
    value: &T,
    cache: Cache,
) -> Result<HttpResponse, Problem> {
    let mut body = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut body, value)
        .map_err(|error| Problem::internal(&format!("an answer cannot be written: {error}")))?;
    Ok(response.content_type("application/json").insert_header(cache.header()).body(body))
}

/// `304` with the same headers that a `200` would have, if `request` names `etag` among those it has.
#[must_use]
pub fn not_modified(request: &HttpRequest, etag: &str, cache: Cache) -> Option<HttpResponse> {
    is_known(request, etag).then(|| {
        HttpResponse::build(StatusCode::NOT_MODIFIED)
            .insert_header((header::ETAG, etag))
            .insert_header(cache.header())
            .finish()
    })
}

/// Whether `request` names `etag` among those it has.
#[must_use]
pub fn is_known(request: &HttpRequest, etag: &str) -> bool {
    let mut tags = request.headers().get_all(header::IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    tags.any(|list| list.split(',').map(str::trim).any(|tag| tag == "*" || opaque(tag) == etag))
}

/// A tag for the weak comparison that `If-None-Match` asks for.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// What a header `Accept` takes, and how much each is wanted, in thousandths (RFC 9110, 12.4.2).
pub(super) struct Accepted<'a>(Vec<(&'a str, u16)>);

impl<'a> Accepted<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let all = headers.get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
        Self(all.flat_map(|value| value.split(',')).map(Self::range).collect())
    }

    fn range(text: &str) -> (&str, u16) {
        let mut parts = text.split(';');
        let kind = parts.next().unwrap_or_default().trim();
        let weight =
            parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let thousandths =
            |weight: &str| weight.trim().parse::<f32>().map_or(0, |weight| (weight.clamp(0.0, 1.0) * 1000.0) as u16);
        (kind, weight.map_or(1000, |(_, weight)| thousandths(weight)))
    }

    /// How much this is wanted; none: it is not named.
    pub(super) fn weight(&self, kind: &str) -> Option<u16> {
        self.0.iter().filter(|(of, _)| of.eq_ignore_ascii_case(kind)).map(|(_, weight)| *weight).max()
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn tags_are_compared() {
        for (header, known) in [
            ("\"5\"", true),
            ("W/\"5\"", true),
            ("\"4\", \"5\"", true),
            ("*", true),
            ("\"4\"", false),
            ("5", false),
            ("", false),
        ] {
            let request = TestRequest::default().insert_header((header::IF_NONE_MATCH, header)).to_http_request();
            let response = not_modified(&request, "\"5\"", Cache::Revalidate);
            assert_eq!(response.is_some(), known, "{header}");
        }
        assert!(not_modified(&TestRequest::default().to_http_request(), "\"5\"", Cache::Revalidate).is_none());
    }
}
