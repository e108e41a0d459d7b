//! OpenTelemetry traces: of a request, what is decided and committed for it, and what is delivered of that.
//!
//! A request that is chosen has a [`Call`], which hears of its commands by [`Watch`]; the engine knows nothing of traces. What
//! comes of it becomes spans when the last one lets go of it. Events have nothing of a trace: by their numbers it is remembered, for a
//! while and in memory only, which request they have come of.
//!
//! Architecture invariant: no span has in it a token, a secret, or who somebody is. So paths and URLs are left out, which have ids
//! and more in them, and what stands in a span is listed in here.

mod context;
mod export;
mod otlp;
mod remembered;
mod sampler;
pub mod settings;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode};
use parking_lot::Mutex;
use reqwest::Url;
use tokio::runtime::Handle;

pub(super) use self::context::TRACEPARENT;
use self::context::{Context, new_half, new_trace};
use self::export::Exporter;
use self::otlp::{Kind, Parent, Span, Value};
use self::remembered::Remembered;
use self::sampler::Sampler;
use super::address::Proxies;
use super::config::Settings;
use super::metrics::SpanMetrics;
use super::webhooks::addresses::Reach;
use super::{Error, webhooks, whole};
use crate::domain::Lsn;
use crate::relay::Event;
use crate::watch::{Step, Watch};

/// The most links that a span has, as OpenTelemetry has it by default.
const LINKS_MAX: usize = 128;
/// What went wrong, if it has no better name.
const OTHER: &str = "_OTHER";

/// What makes spans, if they are wanted.
#[derive(Clone, Default)]
pub(super) struct Traces(Option<Arc<Inner>>);

struct Inner {
    sampler: Sampler,
    remembered: Remembered,
    exporter: Arc<Exporter>,
}

impl Traces {
    /// As the environment says, of which it tells the log what is wrong. Sends on `runtime`.
    ///
    /// # Errors
    /// No client for it.
    pub(super) fn start(settings: &Settings, metrics: SpanMetrics, runtime: &Handle) -> Result<Self, Error> {
        for (variable, why) in &settings.exporting.warnings {
            tracing::warn!(variable, why, "a variable of traces does not count");
        }
        let Some(target) = settings.exporting.target.clone() else { return Ok(Self(None)) };
        let client = webhooks::client(target.timeout, 1, Reach::Anywhere).map_err(Error::Traces)?;
        let (sampler, remembered) = (target.sampler, Remembered::new(whole(settings.traces.remembered)));
        let exporter = Exporter::start(target, client, metrics, runtime);
        Ok(Self(Some(Arc::new(Inner { sampler, remembered, exporter }))))
    }

    /// Begins with a request, if it is chosen: within the caller's trace if it comes from a proxy that is trusted, else in one of its
    /// own that points to the caller's.
    pub(super) fn begin(&self, proxies: &Proxies, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<Arc<Call>> {
        let inner = self.0.as_ref()?;
        let given = Context::of(headers);
        let parent = given.filter(|_| peer.is_some_and(|peer| proxies.trusts(peer)));
        let context = inner.choose(parent)?;
        let link = given.filter(|_| parent.is_none());
        let parent = parent.map(|parent| Parent { span: parent.span, is_remote: true });
        let (traces, at, progress) = (inner.clone(), Moment::now(), Mutex::default());
        Some(Arc::new(Call { traces, context, parent, link, at, progress }))
    }

    /// Events that are about to be sent to a webhook, if that is chosen.
    pub(super) fn posting(&self, url: &Url, events: &[&Event]) -> Option<Sending> {
        let mut sending = self.sending("POST".into(), Kind::Client, events)?;
        sending.span.attributes.push(("http.request.method", Value::Text("POST".into())));
        sending.add("url.scheme", url.scheme());
        sending.add("server.address", url.host_str().unwrap_or_default());
        sending.number("server.port", url.port_or_known_default().unwrap_or_default().into());
        Some(sending)
    }

    /// An event that is about to be sent to a topic, if that is chosen.
    #[cfg(feature = "kafka")]
    pub(super) fn producing(&self, topic: &str, event: &Event) -> Option<Sending> {
        let mut sending = self.sending(format!("send {topic}").into(), Kind::Producer, &[event])?;
        sending.add("messaging.system", "kafka");
        sending.add("messaging.destination.name", topic);
        sending.add("messaging.operation.name", "send");
        sending.add("messaging.operation.type", "send");
        Some(sending)
    }

    /// In the trace of the request that the first of these events came of. Of what no request is known there may be a new one.
    fn sending(&self, name: Cow<'static, str>, kind: Kind, events: &[&Event]) -> Option<Sending> {
        let inner = self.0.as_ref()?;
        let mut origins = inner.remembered.of(events.iter().map(|event| event.id.lsn));
        origins.truncate(LINKS_MAX + 1);
        let parent = if origins.is_empty() { None } else { Some(origins.remove(0)) };
        let context = parent.map_or_else(|| inner.choose(None), |parent| Some(parent.child()))?;
        let span = Span {
            context,
            parent: parent.map(|parent| Parent { span: parent.span, is_remote: false }),
            name,
            kind,
            begun: 0,
            ended: 0,
            attributes: Vec::new(),
            links: origins,
            failed: false,
        };
        let mut sending = Sending { traces: inner.clone(), at: None, span, error: Some("cancelled".into()) };
        match events {
            [event] => {
                sending.add("cloudevents.event_id", &event.id.to_string());
                sending.add("cloudevents.event_type", event.kind.as_str());
            }
            events => sending.number("messaging.batch.message_count", events.len() as i64),
        }
        Some(sending)
    }

    /// Sends what waits, and ends.
    pub(super) async fn close(&self) {
        if let Some(inner) = &self.0 {
            inner.exporter.close().await;
        }
    }
}

impl Inner {
    /// The next span after `parent`, or the first of a new trace, if it is chosen.
    fn choose(&self, parent: Option<Context>) -> Option<Context> {
        let Some(parent) = parent else {
            let half = new_half();
            return self.sampler.keeps(half, None).then(|| Context::root(new_trace(half)));
        };
        let [.., a, b, c, d, e, f, g, h] = parent.trace;
        let half = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        self.sampler.keeps(half, Some(parent.sampled)).then(|| parent.child())
    }
}

/// A time by both clocks, from which on the one that never goes back counts.
#[derive(Clone, Copy)]
struct Moment {
    instant: Instant,
    /// Since 1970.
    nanos: u64,
}

impl Moment {
    fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), nanos: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// What time it was then.
    fn nanos_at(self, then: Instant) -> u64 {
        let later = then.saturating_duration_since(self.instant).as_nanos();
        self.nanos.saturating_add(u64::try_from(later).unwrap_or(u64::MAX))
    }
}

/// A request that was chosen, and what is known of it. Once nobody has it any more, it becomes spans.
pub(super) struct Call {
    traces: Arc<Inner>,
    context: Context,
    parent: Option<Parent>,
    /// What the caller says that it is part of, who is not trusted.
    link: Option<Context>,
    at: Moment,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    steps: Vec<Step>,
    /// The numbers with which events that have come of it begin.
    events: Vec<Lsn>,
    /// Whether some of it has been lost: what is said of its events comes too late.
    lost: bool,
    answer: Option<Answer>,
}

/// How it was answered.
struct Answer {
    at: Instant,
    method: &'static str,
    route: Option<String>,
    status: StatusCode,
}

impl Call {
    /// It is answered.
    pub(super) fn answered(&self, method: &Method, route: Option<String>, status: StatusCode) {
        let answer = Answer { at: Instant::now(), method: known(method), route, status };
        self.progress.lock().answer = Some(answer);
    }

    /// The spans of it: first its own.
    fn spans(&mut self) -> Vec<Span> {
        let Progress { steps, answer, .. } = std::mem::take(self.progress.get_mut());
        let ended = self.at.nanos_at(answer.as_ref().map_or_else(Instant::now, |answer| answer.at));
        let mut attributes = vec![("url.scheme", Value::Text("http".into()))];
        let (mut name, mut failed) = (Cow::Borrowed("HTTP"), true);
        match answer {
            Some(Answer { method, route, status, .. }) => {
                let is_known = method != OTHER;
                failed = status.is_server_error();
                attributes.push(("http.request.method", Value::Text(method.into())));
                attributes.push(("http.response.status_code", Value::Number(status.as_u16().into())));
                if failed {
                    attributes.push(("error.type", Value::Text(status.as_u16().to_string().into())));
                }
                let method = if is_known { method } else { "HTTP" };
                name = method.into();
                if let Some(route) = route {
                    name = format!("{method} {route}").into();
                    attributes.push(("http.route", Value::Text(route.into())));
                }
            }
            // Who asked is gone.
            None => attributes.push(("error.type", Value::Text("cancelled".into()))),
        }
        let (context, begun) = (self.context, self.at.nanos);
        let links = self.link.into_iter().collect();
        let own =
            Span { context, parent: self.parent, name, kind: Kind::Server, begun, ended, attributes, links, failed };
        let steps = steps.iter().flat_map(|step| self.step(step));
        std::iter::once(own).chain(steps).collect()
    }

    /// What a command became: to be decided, and, if anything came of it, to be committed.
    fn step(&self, step: &Step) -> impl Iterator<Item = Span> {
        let span = |name: &'static str, begun, ended| Span {
            context: self.context.child(),
            parent: Some(Parent { span: self.context.span, is_remote: false }),
            name: name.into(),
            kind: Kind::Internal,
            begun: self.at.nanos_at(begun),
            ended: self.at.nanos_at(ended),
            attributes: Vec::new(),
            links: Vec::new(),
            failed: false,
        };
        let decide = span("decide", step.begun, step.decided);
        let commit = step.appends.then(|| {
            let error = (!step.durable).then(|| ("error.type", Value::Text("lost".into())));
            let commit = span("commit", step.decided, step.ended);
            Span { attributes: error.into_iter().collect(), failed: !step.durable, ..commit }
        });
        std::iter::once(decide).chain(commit)
    }
}

impl Watch for Call {
    fn appended(&self, first: Lsn, last: Lsn) {
        let mut progress = self.progress.lock();
        if !progress.lost {
            progress.events.push(first);
            self.traces.remembered.remember(first, last, self.context);
        }
    }

    fn ended(&self, step: Step) {
        let mut progress = self.progress.lock();
        progress.steps.push(step);
        if !step.durable {
            // Others may have these numbers.
            progress.lost = true;
            for first in progress.events.drain(..) {
                self.traces.remembered.forget(first, self.context);
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let spans = self.spans();
        self.traces.exporter.push(spans);
    }
}

/// Something that is sent, as a span that has not ended. It does when this is dropped, if it has begun.
pub(super) struct Sending {
    traces: Arc<Inner>,
    at: Option<Moment>,
    span: Span,
    error: Option<Cow<'static, str>>,
}

impl Sending {
    /// What the receiver is told of the trace.
    pub(super) fn traceparent(&self) -> String {
        self.span.context.to_string()
    }

    /// It begins.
    pub(super) fn begin(&mut self) {
        self.at = Some(Moment::now());
    }

    /// The receiver has it.
    #[cfg(feature = "kafka")]
    pub(super) fn succeeded(mut self) {
        self.error = None;
    }

    /// There is an answer.
    pub(super) fn answered(mut self, status: u16) {
        self.number("http.response.status_code", status.into());
        self.error = (status >= 400).then(|| status.to_string().into());
    }

    /// It went wrong, by what is one of few names.
    pub(super) fn failed(mut self, error: impl Into<Cow<'static, str>>) {
        self.error = Some(error.into());
    }

    fn add(&mut self, name: &'static str, text: &str) {
        self.span.attributes.push((name, Value::Text(text.to_owned().into())));
    }

    fn number(&mut self, name: &'static str, number: i64) {
        self.span.attributes.push((name, Value::Number(number)));
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let Some(at) = self.at else { return };
        (self.span.begun, self.span.ended) = (at.nanos, at.nanos_at(Instant::now()));
        self.span.failed = self.error.is_some();
        if let Some(error) = self.error.take() {
            self.span.attributes.push(("error.type", Value::Text(error)));
        }
        self.traces.exporter.push([self.span.clone()]);
    }
}

/// What a request to a webhook met, as `error.type` has it.
pub(super) fn error_type(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connect"
    } else {
        OTHER
    }
}

/// Callers may send any method, and what they think of is no name.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::Exporting;

    #[tokio::test]
    async fn what_is_lost_is_of_no_request_whenever_that_is_said() {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_TRACES_SAMPLER", "always_on")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings { exporting: Exporting::from_environment(variables), ..Settings::default() };
        let metrics = SpanMetrics::new(&mut prometheus_client::registry::Registry::default());
        let traces = Traces::start(&settings, metrics, &Handle::current()).unwrap();
        let proxies = Proxies::new(&[]).unwrap();
        let begin = || traces.begin(&proxies, None, &HeaderMap::new()).unwrap();
        let of = |lsn| traces.0.as_ref().unwrap().remembered.of([Lsn(lsn)].into_iter());
        let (first, second, now) = (begin(), begin(), Instant::now());
        let lost = Step { begun: now, decided: now, ended: now, appends: true, durable: false };
        first.appended(Lsn(5), Lsn(6));
        first.ended(Step { durable: true, ..lost });
        assert_eq!(of(6), [first.context]);
        first.ended(lost);
        assert_eq!(of(6), []);
        second.appended(Lsn(5), Lsn(5));
        // The term of the first one has ended, and the next one has given out its numbers.
        first.appended(Lsn(5), Lsn(5));
        assert_eq!(of(5), [second.context]);
        drop((first, second));
        traces.close().await;
    }
}
