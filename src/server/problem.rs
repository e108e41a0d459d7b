//! Refusals and faults as RFC 9457 problems. The one place that maps them to HTTP, and the pages that explain each.
//!
//! It knows the engine's errors and nothing of routes.

use std::fmt;

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{StatusCode, header::HeaderName};
use actix_web::{HttpResponse, ResponseError, web};
use serde_json::{Value, json};

use super::seldom::Seldom;
use crate::domain::Rejection;
use crate::error::{Error, FieldError};

/// The media type of all problems.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// How long to wait before asking again while the disk is nearly full, in seconds.
const STORAGE_FULL_RETRY_SECONDS: u64 = 30;
/// The same for an engine that has failed or is shutting down: a restart takes a few seconds.
const RESTART_RETRY_SECONDS: u64 = 5;
/// The same while none of several nodes decides: the next one does within seconds.
const NO_OWNER_RETRY_SECONDS: u64 = 1;
/// The same for a caller who has used up their idempotency keys, each of which lapses after 24 hours.
const KEYS_RETRY_SECONDS: u64 = 3_600;

macro_rules! codes {
    ($($variant:ident, $status:literal, $code:literal, $title:literal, $meaning:literal;)*) => {
        /// What kind of problem it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The name in the member `code`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The member `title`.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What it means and what to do, for the page that explains it.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

codes! {
    InvalidRequest, 400, "invalid_request", "The request is not valid",
        "The member errors names each field that is wrong, and what is allowed. Nothing has changed.";
    Unauthenticated, 401, "unauthenticated", "A valid token is needed",
        "Send Authorization: Bearer with a token that is signed as configured and has not expired.";
    InsufficientPoints, 402, "insufficient_points", "Not enough points",
        "The wallet holds balance points, the price is amount. The seats stay held until the hold runs out.";
    Forbidden, 403, "forbidden", "Not allowed",
        "The token is valid, but its user may not do this.";
    QueueTokenRequired, 403, "queue_token_required", "A queue token is needed",
        "The concert has a waiting room: get a token with POST /v1/concerts/{id}/tokens, and show it in the header \
         Queue-Token once it is active. It must be of the same user and concert.";
    QueueTokenNotActive, 403, "queue_token_not_active", "The queue token is not active",
        "It is still waiting, or its time is over. GET /v1/tokens/{id} tells which.";
    NotFound, 404, "not_found", "There is no such thing",
        "The path leads nowhere, or to something of somebody else's.";
    MethodNotAllowed, 405, "method_not_allowed", "The method is not allowed",
        "The header Allow lists those that are.";
    RequestTimeout, 408, "request_timeout", "The request took too long",
        "It did not arrive in time. Send it again.";
    SeatsUnavailable, 409, "seats_unavailable", "Seats are not available",
        "The member conflicts lists those of the seats that are held, sold or blocked. Nothing has changed.";
    NotEnoughSeats, 409, "not_enough_seats", "Not enough seats",
        "There are not that many free seats or places of the wanted kind and arrangement.";
    LimitExceeded, 409, "limit_exceeded", "A limit would be passed",
        "The member limit tells how much is allowed, already how much of it is in use.";
    SaleNotOpen, 409, "sale_not_open", "The sale is not open",
        "It has not opened yet, or it is over.";
    ReservationExpired, 409, "reservation_expired", "The reservation has expired",
        "Its hold ran out before it was paid. The seats may be available again.";
    ReservationNotHeld, 409, "reservation_not_held", "The reservation is not held",
        "It has been released, paid or refunded.";
    AlreadyPaid, 409, "already_paid", "The reservation has been paid",
        "The payment is payment_id.";
    NotRefundable, 409, "not_refundable", "The payment cannot be refunded",
        "The time for refunds is over, there never was one, or it has been refunded.";
    PaymentPending, 409, "payment_pending", "A payment is pending",
        "The payment payment_id of this reservation is under way: pay by that, or give it up first.";
    PaymentUnderWay, 409, "payment_under_way", "The payment is under way",
        "It has come too far to be given up. Once it is completed it can be refunded.";
    AmountTooSmall, 409, "amount_too_small", "The amount is too small",
        "The least that can be paid by this method is minimum. The seats stay held: pay in another way.";
    FactConflict, 409, "fact_conflict", "The fact is known otherwise",
        "The same was reported before, with another amount or currency. What was reported first stands.";
    ReferenceInUse, 409, "reference_in_use", "The reference is in use",
        "It is known of another payment. A charge at a provider belongs to one payment.";
    ChangeUnderWay, 409, "change_under_way", "A change is under way",
        "Of one order one change runs at a time, until what goes back by it has arrived. Ask again a little later.";
    ReservationNotConfirmed, 409, "reservation_not_confirmed", "The reservation is not confirmed",
        "Only what is paid can be exchanged or handed on.";
    PriceWouldRise, 409, "price_would_rise", "The price would rise",
        "What was paid by a provider can be exchanged for what costs as much or less. Nothing has changed.";
    CapacityInUse, 409, "capacity_in_use", "The capacity is in use",
        "Of area in_use places are held or sold, and it cannot take fewer. Nothing has changed.";
    SeatsInUse, 409, "seats_in_use", "Seats are in use",
        "The member conflicts lists seats that would go and are held or sold, a thousand at most; in_use is how many there are. Nothing has changed.";
    WasHeld, 409, "was_held", "Something was held",
        "What somebody has held seats of stays, with its history: call it off, or hide its concert. Nothing has changed.";
    PayloadTooLarge, 413, "payload_too_large", "The body is too large",
        "A body may have 16 KiB, one with a seating plan as much as the server is configured for.";
    UnsupportedMediaType, 415, "unsupported_media_type", "The media type is not supported",
        "Send application/json, not compressed; to PATCH also application/merge-patch+json.";
    UnknownSeats, 422, "unknown_seats", "Unknown seats",
        "The member seats lists those that are not in the option's seating plan.";
    IdempotencyKeyReused, 422, "idempotency_key_reused", "The idempotency key was used with another body",
        "A key stands for one request. Take a new key for a new request.";
    RateLimited, 429, "rate_limited", "Too many requests",
        "Wait as many seconds as Retry-After tells.";
    RequestHeaderFieldsTooLarge, 431, "request_header_fields_too_large", "The head of the request is too large",
        "Its first line and its headers may have 128 KiB, and there may be 96 headers.";
    Internal, 500, "internal", "An error of the server's own",
        "The server's log has it, under the request's X-Request-Id.";
    Overloaded, 503, "overloaded", "Too much is under way",
        "Nothing has changed. Ask again after as many seconds as Retry-After tells.";
    StorageFull, 503, "storage_full", "The disk is nearly full",
        "Nothing has changed. Reads are answered, writes are not until there is room.";
    OutcomeUnknown, 503, "outcome_unknown", "The outcome is not known",
        "The server is stopping or has failed, or the request was on its way to another one. Ask again, with the same \
         Idempotency-Key: what was done is not done twice.";
    KeysUnavailable, 503, "keys_unavailable", "The token cannot be checked now",
        "The keys of who signed it cannot be fetched. Nothing has changed. Ask again after as many seconds as Retry-After tells.";
    NoOwner, 503, "no_owner", "Nobody decides just now",
        "Several servers run this together, and the one that decides is gone: another one takes its place within seconds. \
         Nothing has changed. Ask again after as many seconds as Retry-After tells.";
}

impl Code {
    /// The last part of the type's path.
    #[must_use]
    pub fn slug(self) -> String {
        self.name().replace('_', "-")
    }
}

/// A problem, ready to be sent.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: String,
    extra: Vec<(String, Value)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    close: bool,
}

impl Problem {
    /// One of this kind.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), extra: Vec::new(), headers: Vec::new(), close: false }
    }

    /// The fields of a request that are wrong.
    #[must_use]
    pub fn invalid(errors: &[FieldError]) -> Self {
        let fields: Vec<_> = errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
        Self::new(Code::InvalidRequest, fields.join("; ")).with("errors", json!(errors))
    }

    /// One field of a request that is wrong.
    #[must_use]
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(&[FieldError::new(field, message)])
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "There is no such resource.")
    }

    /// What came over a connection is no request, and was answered with this status.
    #[must_use]
    pub fn unreadable(status: StatusCode) -> Self {
        match status {
            StatusCode::REQUEST_TIMEOUT => Self::new(Code::RequestTimeout, "The request did not arrive in time."),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                Self::new(Code::RequestHeaderFieldsTooLarge, "The head of the request is too large.")
            }
            StatusCode::BAD_REQUEST => Self::invalid_field(
                "request",
                "is not HTTP/1.1 as in RFC 9112: it needs a Host and, with a body, one length, and no bytes that have to be \
                 encoded",
            ),
            _ => Self::internal(&format!("actix has answered {status} by itself")),
        }
    }

    /// An error of the server's own, of which the caller is told nothing. The log has it, if it has not had too much.
    #[must_use]
    pub fn internal(reason: &str) -> Self {
        static SELDOM: Seldom = Seldom::new();
        if let Some(left_out) = SELDOM.next() {
            tracing::error!(reason, left_out, "internal error");
        }
        Self::new(Code::Internal, "The server's log has more.")
    }

    /// With another member.
    #[must_use]
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.extra.push((member.into(), value));
        self
    }

    /// With a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Worth another try after so many seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// The connection is of no more use: the rest of the body is still on its way.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// What kind it is.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The answer that tells it.
    #[must_use]
    pub fn response(&self) -> HttpResponse {
        let mut body = json!({
            "type": format!("/problems/{}", self.code.slug()),
            "title": self.code.title(),
            "status": self.code.status(),
            "detail": self.detail,
            "code": self.code.name(),
        });
        if let Value::Object(members) = &mut body {
            members.extend(self.extra.clone());
        }
        let mut response = HttpResponse::build(self.status_code());
        response.content_type(MEDIA_TYPE).insert_header((header::CACHE_CONTROL, "no-store"));
        for (name, value) in &self.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        if self.close {
            response.force_close();
        }
        response.body(body.to_string())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = sentence(&error.to_string());
        match error {
            Error::Rejected(rejection) => rejected(&rejection, detail),
            Error::Invalid(errors) => Self::invalid(&errors),
            Error::UnknownSeats(seats) => Self::new(Code::UnknownSeats, detail).with("seats", json!(seats)),
            Error::SeatsInUse { seats, in_use } => {
                Self::new(Code::SeatsInUse, detail).with("conflicts", json!(seats)).with("in_use", json!(in_use))
            }
            Error::SeatsUnavailable(seats) => Self::new(Code::SeatsUnavailable, detail).with("conflicts", json!(seats)),
            Error::Overloaded(wait) => {
                // Rounded up, so that nobody comes back too early.
                Self::new(Code::Overloaded, detail).retry_after(wait.as_millis().div_ceil(1_000) as u64)
            }
            Error::StorageFull | Error::LogFull => {
                Self::new(Code::StorageFull, detail).retry_after(STORAGE_FULL_RETRY_SECONDS)
            }
            Error::OutcomeUnknown(_) => {
                let detail = "The server is stopping or has failed: ask again with the same Idempotency-Key.";
                Self::new(Code::OutcomeUnknown, detail).retry_after(RESTART_RETRY_SECONDS)
            }
            Error::NoOwner => Self::new(Code::NoOwner, detail).retry_after(NO_OWNER_RETRY_SECONDS),
            Error::Internal(reason) => Self::internal(&reason),
        }
    }
}

fn rejected(rejection: &Rejection, detail: String) -> Problem {
    use Rejection as R;
    match rejection {
        R::Invalid(flaws) => {
            let errors: Vec<_> = flaws.iter().cloned().map(FieldError::from).collect();
            Problem::invalid(&errors)
        }
        R::NotFound => Problem::not_found(),
        R::SeatsUnavailable { .. } => Problem::new(Code::SeatsUnavailable, detail).with("conflicts", json!([])),
        R::NotEnoughSeats => Problem::new(Code::NotEnoughSeats, detail),
        R::LimitExceeded { limit, already } => {
            Problem::new(Code::LimitExceeded, detail).with("limit", json!(limit)).with("already", json!(already))
        }
        R::SaleNotOpen => Problem::new(Code::SaleNotOpen, detail),
        R::ReservationExpired => Problem::new(Code::ReservationExpired, detail),
        R::ReservationNotHeld => Problem::new(Code::ReservationNotHeld, detail),
        R::AlreadyPaid { payment } => Problem::new(Code::AlreadyPaid, detail).with("payment_id", json!(payment)),
        R::InsufficientPoints { balance, amount } => {
            Problem::new(Code::InsufficientPoints, detail).with("balance", json!(balance)).with("amount", json!(amount))
        }
        R::PaymentTimedOut => Problem::new(Code::Overloaded, detail).retry_after(1),
        R::NotRefundable => Problem::new(Code::NotRefundable, detail),
        R::QueueTokenRequired => Problem::new(Code::QueueTokenRequired, detail),
        R::QueueTokenNotActive => Problem::new(Code::QueueTokenNotActive, detail),
        R::IdempotencyKeyReused => Problem::new(Code::IdempotencyKeyReused, detail),
        R::PaymentPending { payment } => Problem::new(Code::PaymentPending, detail).with("payment_id", json!(payment)),
        R::PaymentUnderWay => Problem::new(Code::PaymentUnderWay, detail),
        R::AmountTooSmall { minimum } => Problem::new(Code::AmountTooSmall, detail).with("minimum", json!(minimum)),
        R::FactConflict => Problem::new(Code::FactConflict, detail),
        R::ReferenceInUse => Problem::new(Code::ReferenceInUse, detail),
        R::ChangeUnderWay => Problem::new(Code::ChangeUnderWay, detail),
        R::ReservationNotConfirmed => Problem::new(Code::ReservationNotConfirmed, detail),
        R::PriceWouldRise => Problem::new(Code::PriceWouldRise, detail),
        R::SeatsInUse { in_use, .. } => {
            Problem::new(Code::SeatsInUse, detail).with("conflicts", json!([])).with("in_use", json!(in_use))
        }
        R::CapacityInUse { area, in_use } => {
            Problem::new(Code::CapacityInUse, detail).with("area", json!(area)).with("in_use", json!(in_use))
        }
        R::WasHeld => Problem::new(Code::WasHeld, detail),
        R::TooManyIdempotencyKeys => Problem::new(Code::RateLimited, detail).retry_after(KEYS_RETRY_SECONDS),
    }
}

/// An error's message as a sentence.
fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), chars.as_str()))
}

/// `GET /problems/{name}`: the page that explains a problem type.
///
/// # Errors
/// 404 if there is no such type.
pub async fn page(name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let code = Code::ALL.iter().find(|code| code.slug() == *name).ok_or_else(Problem::not_found)?;
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n\
         <p>Status {status}, code <code>{name}</code>.</p>\n<p>{meaning}</p>\n</html>\n",
        title = code.title(),
        status = code.status(),
        name = code.name(),
        meaning = code.meaning(),
    );
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(html))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::body::to_bytes;

    use super::*;
    use crate::domain::{OptionId, PaymentId, Points};

    #[actix_web::test]
    async fn errors_become_problems() {
        let payment = PaymentId { option: OptionId(1), no: 2 };
        let (balance, amount) = (Points::new(1).unwrap(), Points::new(2).unwrap());
        for (error, status, code, extra, retry_after) in [
            (
                Error::invalid("title", "is missing"),
                400,
                "invalid_request",
                json!({"errors": [{"field": "title", "message": "is missing"}]}),
                None,
            ),
            (Rejection::NotFound.into(), 404, "not_found", json!({}), None),
            (Error::SeatsUnavailable(vec!["A1".into()]), 409, "seats_unavailable", json!({"conflicts": ["A1"]}), None),
            (Error::UnknownSeats(vec!["Z9".into()]), 422, "unknown_seats", json!({"seats": ["Z9"]}), None),
            (Rejection::NotEnoughSeats.into(), 409, "not_enough_seats", json!({}), None),
            (
                Rejection::LimitExceeded { limit: 8, already: 7 }.into(),
                409,
                "limit_exceeded",
                json!({"limit": 8, "already": 7}),
                None,
            ),
            (Rejection::SaleNotOpen.into(), 409, "sale_not_open", json!({}), None),
            (Rejection::ReservationExpired.into(), 409, "reservation_expired", json!({}), None),
            (Rejection::ReservationNotHeld.into(), 409, "reservation_not_held", json!({}), None),
            (Rejection::AlreadyPaid { payment }.into(), 409, "already_paid", json!({"payment_id": "p1-2"}), None),
            (
                Rejection::InsufficientPoints { balance, amount }.into(),
                402,
                "insufficient_points",
                json!({"balance": 1, "amount": 2}),
                None,
            ),
            (Rejection::PaymentTimedOut.into(), 503, "overloaded", json!({}), Some("1")),
            (Rejection::NotRefundable.into(), 409, "not_refundable", json!({}), None),
            (Rejection::PaymentPending { payment }.into(), 409, "payment_pending", json!({"payment_id": "p1-2"}), None),
            (Rejection::PaymentUnderWay.into(), 409, "payment_under_way", json!({}), None),
            (
                Rejection::AmountTooSmall { minimum: amount }.into(),
                409,
                "amount_too_small",
                json!({"minimum": 2}),
                None,
            ),
            (Rejection::FactConflict.into(), 409, "fact_conflict", json!({}), None),
            (Rejection::ReferenceInUse.into(), 409, "reference_in_use", json!({}), None),
            (Rejection::ChangeUnderWay.into(), 409, "change_under_way", json!({}), None),
            (Rejection::ReservationNotConfirmed.into(), 409, "reservation_not_confirmed", json!({}), None),
            (Rejection::PriceWouldRise.into(), 409, "price_would_rise", json!({}), None),
            (
                Error::SeatsInUse { seats: vec!["A1".into()], in_use: 1 },
                409,
                "seats_in_use",
                json!({"conflicts": ["A1"], "in_use": 1}),
                None,
            ),
            (
                Rejection::CapacityInUse { area: "Floor".into(), in_use: 3 }.into(),
                409,
                "capacity_in_use",
                json!({"area": "Floor", "in_use": 3}),
                None,
            ),
            (Rejection::WasHeld.into(), 409, "was_held", json!({}), None),
            (Rejection::QueueTokenRequired.into(), 403, "queue_token_required", json!({}), None),
            (Rejection::QueueTokenNotActive.into(), 403, "queue_token_not_active", json!({}), None),
            (Rejection::IdempotencyKeyReused.into(), 422, "idempotency_key_reused", json!({}), None),
            (Rejection::TooManyIdempotencyKeys.into(), 429, "rate_limited", json!({}), Some("3600")),
            (Error::Overloaded(Duration::from_millis(1_200)), 503, "overloaded", json!({}), Some("2")),
            (Error::StorageFull, 503, "storage_full", json!({}), Some("30")),
            (Error::OutcomeUnknown("disk".into()), 503, "outcome_unknown", json!({}), Some("5")),
            (Error::NoOwner, 503, "no_owner", json!({}), Some("1")),
            (Error::Internal("secret path".into()), 500, "internal", json!({}), None),
        ] {
            let response = Problem::from(error).response();
            assert_eq!(response.status().as_u16(), status, "{code}");
            assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), MEDIA_TYPE);
            let after = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(after, retry_after, "{code}");
            let body: Value = serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap();
            assert_eq!(body["code"], code);
            assert_eq!(body["status"], status);
            assert_eq!(body["type"], format!("/problems/{}", code.replace('_', "-")));
            assert!(!body["detail"].as_str().unwrap().contains("secret path"));
            for (member, value) in extra.as_object().unwrap() {
                assert_eq!(&body[member], value, "{code}");
            }
        }
    }

    #[actix_web::test]
    async fn each_type_has_its_page() {
        for code in Code::ALL {
            let response = page(web::Path::from(code.slug())).await.unwrap();
            let html = to_bytes(response.into_body()).await.unwrap();
            assert!(String::from_utf8_lossy(&html).contains(code.name()));
        }
        assert_eq!(page(web::Path::from("x".to_owned())).await.unwrap_err().code(), Code::NotFound);
    }
}
