//! One delivery: requests out of events, and an outcome out of answers.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::template::Template;
use super::{Shared, addresses, signature, webhook};
use crate::domain::sink;
use crate::error::Error;
use crate::relay::{Delivery, Event, EventData, Failure, Outcome, Receiver};
use crate::server::traces::{TRACEPARENT, Traces, error_type};

/// How long the body of a good answer is waited for, which tells nothing but lets the connection be used again.
const GOOD_BODY_TIME: Duration = Duration::from_secs(1);
/// How much of a good answer's body is read for that.
const GOOD_BODY_BYTES: usize = 4 << 10;

/// An HTTP receiver.
pub struct Endpoint(Arc<Inner>);

struct Inner {
    /// Where and what, or what is wrong with it.
    target: Result<(Url, Format), String>,
    shared: Shared,
    traces: Traces,
    runtime: Handle,
}

enum Format {
    Cloudevent,
    Batch,
    Template(Box<Template>),
}

/// Something to be sent.
struct Message<'a> {
    events: Vec<&'a Event>,
    id: String,
    media_type: &'static str,
    body: Vec<u8>,
}

impl<'a> Message<'a> {
    fn of_one(event: &'a Event, media_type: &'static str, body: Vec<u8>) -> Self {
        Self { events: vec![event], id: event.id.to_string(), media_type, body }
    }
}

/// Why there is nothing to be sent.
enum Unsent {
    /// It may be another time.
    Now(String),
    /// It stays so.
    Ever(String),
}

impl Endpoint {
    /// A receiver as it was registered. Requests are made on `runtime`.
    pub fn new(receiver: &sink::Destination, shared: Shared, traces: Traces, runtime: Handle) -> Self {
        Self(Arc::new(Inner { target: target(receiver), shared, traces, runtime }))
    }
}

/// It was checked when it was registered, perhaps by another version of this program.
fn target(receiver: &sink::Destination) -> Result<(Url, Format), String> {
    let (url, format) = webhook(receiver).ok_or("the receiver has no URL")?;
    let url = addresses::parse(url).map_err(|error| format!("the URL {error}"))?;
    let format = match format {
        sink::Format::Cloudevent => Format::Cloudevent,
        sink::Format::Batch => Format::Batch,
        sink::Format::Template(text) => {
            let template = Template::new(text).map_err(|error| format!("the template: {error}"))?;
            Format::Template(Box::new(template))
        }
    };
    Ok((url, format))
}

impl Receiver for Endpoint {
    fn batch(&self) -> usize {
        match &self.0.target {
            Ok((_, Format::Batch)) => usize::try_from(self.0.shared.settings.batch_events).unwrap_or(usize::MAX),
            _ => 1,
        }
    }

    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            // Dropping the set calls the requests off.
            let mut requests = JoinSet::new();
            let (inner, delivery) = (self.0.clone(), delivery.clone());
            requests.spawn_on(async move { inner.deliver(&delivery).await }, &self.0.runtime);
            match requests.join_next().await {
                Some(Ok(outcome)) => outcome,
                Some(Err(error)) => failed(format!("the request ended: {error}")),
                None => failed("there was no request".into()),
            }
        })
    }
}

impl Inner {
    async fn deliver(&self, delivery: &Delivery) -> Outcome {
        let (url, format) = match &self.target {
            Ok(target) => target,
            // It stays so.
            Err(error) => return undeliverable(self.cut(error.clone())),
        };
        let messages = match self.messages(format, &delivery.events).await {
            Ok(messages) => messages,
            Err(Unsent::Now(error)) => return failed(self.cut(error)),
            Err(Unsent::Ever(error)) => return undeliverable(self.cut(error)),
        };
        for message in messages {
            let outcome = self.send(url, message, delivery).await;
            if outcome != Outcome::Delivered {
                return outcome;
            }
        }
        Outcome::Delivered
    }

    async fn messages<'a>(&self, format: &Format, events: &'a [Arc<Event>]) -> Result<Vec<Message<'a>>, Unsent> {
        let mut messages = Vec::new();
        match format {
            Format::Batch => return batches(events, self.shared.settings.batch_bytes).map_err(Unsent::Ever),
            Format::Cloudevent => {
                for event in events {
                    let body = serde_json::to_vec(&**event).map_err(|error| Unsent::Ever(error.to_string()))?;
                    messages.push(Message::of_one(event, "application/cloudevents+json", body));
                }
            }
            Format::Template(template) => {
                for event in events {
                    let context = self.context(event).await.map_err(|error| Unsent::Now(error.to_string()))?;
                    let body = template.render(&context);
                    let body = body.map_err(|error| Unsent::Ever(format!("the template: {error}")))?;
                    messages.push(Message::of_one(event, "application/json", body));
                }
            }
        }
        Ok(messages)
    }

    /// What a template sees.
    async fn context(&self, event: &Event) -> Result<serde_json::Value, Error> {
        let mut context = json!({ "event": event, "data": event.data });
        let option = match &event.data {
            EventData::Reservation(reservation) => reservation.id.option,
            EventData::Payment(payment) => payment.id.option,
            EventData::Token { .. } | EventData::WalletEntry(_) => return Ok(context),
        };
        let option = self.shared.engine.option(option).await?;
        let concert = self.shared.engine.concert(option.concert_id).await?;
        context["option"] = json!({"id": option.id, "starts_at": option.starts_at, "concert_id": option.concert_id});
        context["concert"] = json!({"id": concert.id, "title": concert.title});
        Ok(context)
    }

    async fn send(&self, url: &Url, message: Message<'_>, delivery: &Delivery) -> Outcome {
        if let Err(error) = self.shared.reach.check_literal(url) {
            return failed(error.to_string());
        }
        let seconds = delivery.at.as_millis() / 1_000;
        let signature = signature::sign(&delivery.secrets, &message.id, seconds, &message.body);
        let mut span = self.traces.posting(url, &message.events);
        let mut request = self
            .shared
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, message.media_type)
            .header("webhook-id", message.id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(message.body);
        if let Some(span) = &mut span {
            request = request.header(TRACEPARENT, span.traceparent());
            span.begin();
        }
        let sent = request.send().await;
        if let Some(span) = span {
            match &sent {
                Ok(response) => span.answered(response.status().as_u16()),
                Err(error) => span.failed(error_type(error)),
            }
        }
        match sent {
            Ok(response) => self.outcome(response).await,
            Err(error) => failed(self.cut(explain(error))),
        }
    }

    async fn outcome(&self, mut response: Response) -> Outcome {
        let status = response.status();
        if status.is_success() {
            // It has the event, however its answer goes on.
            let _ = tokio::time::timeout(GOOD_BODY_TIME, beginning(&mut response, GOOD_BODY_BYTES)).await;
            return Outcome::Delivered;
        }
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let bytes = usize::try_from(self.shared.settings.response_bytes).unwrap_or(usize::MAX);
        let body = beginning(&mut response, bytes).await;
        let text = String::from_utf8_lossy(&body);
        let text = if text.trim().is_empty() { status.to_string() } else { self.cut(text.into_owned()) };
        let failure = Failure { status: Some(status.as_u16()), text, retry_after };
        if status == StatusCode::GONE { Outcome::Gone(failure) } else { Outcome::Failed(failure) }
    }

    /// What is kept of a text.
    fn cut(&self, mut text: String) -> String {
        let bytes = usize::try_from(self.shared.settings.response_bytes).unwrap_or(usize::MAX);
        text.truncate(text.floor_char_boundary(bytes));
        text
    }
}

/// Events as JSON lists of up to so many bytes each, or of one event.
fn batches(events: &[Arc<Event>], bytes_max: u64) -> Result<Vec<Message<'_>>, String> {
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut batches: Vec<(Vec<&Event>, Vec<u8>)> = Vec::new();
    for event in events {
        let event_json = serde_json::to_vec(&**event).map_err(|error| error.to_string())?;
        match batches.last_mut() {
            // A comma and the bracket at the end.
            Some((events, body)) if body.len() + event_json.len() + 2 <= bytes_max => {
                events.push(event);
                body.push(b',');
                body.extend(event_json);
            }
            _ => batches.push((vec![&**event], [&b"["[..], &event_json].concat())),
        }
    }
    let messages = batches.into_iter().map(|(events, mut body)| {
        body.push(b']');
        Message { id: batch_id(&events), events, media_type: "application/cloudevents-batch+json", body }
    });
    Ok(messages.collect())
}

/// The first event's id and a hash of all of them. A batch that failed comes again in other parts, and to whoever knows
/// batches by the first id only, another batch that begins alike would be one that is there already.
fn batch_id(events: &[&Event]) -> String {
    let ids: Vec<_> = events.iter().map(|event| event.id.to_string()).collect();
    let hash = Sha256::digest(ids.join(","));
    format!("{}-{}", ids.first().map_or("", String::as_str), base16ct::lower::encode_string(&hash[..8]))
}

/// The beginning of a body; the rest of it is not read.
async fn beginning(response: &mut Response, bytes_max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < bytes_max {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(bytes_max);
    body
}

/// How long a receiver wants to be left alone: seconds, or a date. How long it is, the relay says.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default())
}

/// An error with its causes and without the URL, which may have something in it that is nobody's business.
fn explain(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let error_text = error.to_string();
        if !text.contains(&error_text) {
            text = format!("{text}: {error_text}");
        }
        cause = error.source();
    }
    text
}

fn failed(text: String) -> Outcome {
    Outcome::Failed(Failure { text, ..Failure::default() })
}

fn undeliverable(text: String) -> Outcome {
    Outcome::Undeliverable(Failure { text, ..Failure::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventId, EventType, Lsn, Timestamp};

    fn event(lsn: u64) -> Arc<Event> {
        let data = EventData::Token {
            id: "t1-1".parse().unwrap(),
            concert_id: "c1".parse().unwrap(),
            user_id: "anna".parse().unwrap(),
            status: crate::domain::waiting_room::TokenStatus::Used,
            expires_at: None,
        };
        Arc::new(Event {
            id: EventId { lsn: Lsn(lsn), index: 0 },
            kind: EventType::TokenUsed,
            source: "/concerts/c1".into(),
            subject: "t1-1".into(),
            time: Timestamp::from_millis(lsn),
            data,
        })
    }

    #[test]
    fn batches_are_lists_of_bounded_size_with_ids_of_their_own() {
        let events: Vec<_> = (1..=5).map(event).collect();
        let one = serde_json::to_vec(&*events[0]).unwrap().len();
        for (bytes_max, sizes) in
            [(1 << 20, vec![5]), (2 * one + 3, vec![2, 2, 1]), (2 * one + 2, vec![1; 5]), (1, vec![1; 5])]
        {
            let messages = batches(&events, bytes_max as u64).unwrap();
            let lists: Vec<Vec<serde_json::Value>> =
                messages.iter().map(|message| serde_json::from_slice(&message.body).unwrap()).collect();
            assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{bytes_max}");
            let ids = lists.iter().flatten().map(|event| event["id"].as_str().unwrap());
            assert!(ids.eq(["0-1-0", "0-2-0", "0-3-0", "0-4-0", "0-5-0"]));
            assert!(messages.iter().all(|message| message.body.len() <= bytes_max.max(one + 2)));
        }
        let id = |count: usize| batches(&events[..count], 1 << 20).unwrap()[0].id.clone();
        assert!(id(1).starts_with("0-1-0-") && id(2).starts_with("0-1-0-") && id(1) != id(2));
        assert_eq!(id(3), id(3));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_203_000);
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Fri, 20 Nov 2026 19:31:30 GMT", Some(90)),
            ("Fri, 20 Nov 2026 19:29:00 GMT", Some(0)),
            ("86401", Some(86_401)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Fri, 20 Nov 2099 19:31:30 GMT", Some(2_303_683_290)),
            ("", None),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
