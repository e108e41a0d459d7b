//! Figures for Prometheus: requests as they are answered, and what the engine tells of itself when it is asked.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use super::process::ProcessStats;
use crate::api::DeliveryProgress;
use crate::api::{SaleTotals, Sink};
use crate::domain::{OptionId, Timestamp};
use crate::engine::Engine;
use crate::live::seats::SeatUpdate;
use crate::payment::{OwedKind, OwedSum};
use crate::relay::breaker;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: String,
    /// The pattern, not the path, of which there is no end.
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Unreadable {
    status: u16,
}

/// The figures of one server.
pub struct Metrics {
    registry: Registry,
    /// Of the process, whose names have no prefix.
    process: Registry,
    requests: Family<Request, Counter<u64, AtomicU64>>,
    unreadable: Family<Unreadable, Counter<u64, AtomicU64>>,
    seconds: Histogram,
    waiting: Gauge,
    sinks: SinkStats,
    owed: OwedStats,
    sales: SaleStats,
    /// Those of the WebSockets.
    pub(super) live: LiveMetrics,
    /// Those of traces.
    pub(super) spans: SpanMetrics,
}

/// Spans of traces that have ended.
#[derive(Debug, Clone)]
pub(super) struct SpanMetrics {
    sent: Counter<u64, AtomicU64>,
    dropped: Family<DroppedLabel, Counter<u64, AtomicU64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabel {
    reason: &'static str,
}

/// Why a span got nowhere.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dropped {
    /// Too many waited for the collector.
    NoRoom,
    /// The collector was not there, or would not have it.
    NotTaken,
}

impl Dropped {
    fn label(self) -> DroppedLabel {
        let reason = match self {
            Self::NoRoom => "no_room",
            Self::NotTaken => "not_taken",
        };
        DroppedLabel { reason }
    }
}

impl SpanMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let spans = Self { sent: Counter::default(), dropped: Family::default() };
        for why in [Dropped::NoRoom, Dropped::NotTaken] {
            spans.dropped(why, 0);
        }
        registry.register("spans_sent", "Spans of traces that the collector has taken", spans.sent.clone());
        registry.register("spans_dropped", "Spans of traces that got nowhere", spans.dropped.clone());
        spans
    }

    /// A collector has so many.
    pub(super) fn sent(&self, count: u64) {
        self.sent.inc_by(count);
    }

    /// So many got nowhere.
    pub(super) fn dropped(&self, why: Dropped, count: u64) {
        self.dropped.get_or_create(&why.label()).inc_by(count);
    }
}

/// What goes out over WebSockets.
#[derive(Debug, Clone)]
pub(super) struct LiveMetrics {
    frames: Counter<u64, AtomicU64>,
    bytes: Counter<u64, AtomicU64>,
    /// From the first change in an update to when it is sent.
    staleness: Histogram,
}

impl LiveMetrics {
    fn new(registry: &mut Registry) -> Self {
        // 1 ms to about 33 s.
        let staleness = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let live = Self { frames: Counter::default(), bytes: Counter::default(), staleness };
        registry.register("live_frames", "Messages sent over WebSockets", live.frames.clone());
        registry.register("live_bytes", "Bytes of these messages", live.bytes.clone());
        let help = "From the commit of the first change in an update to its being sent";
        registry.register_with_unit("live_staleness", help, Unit::Seconds, live.staleness.clone());
        live
    }

    /// A message is sent.
    pub(super) fn sent(&self, frame: &[u8]) {
        self.frames.inc();
        self.bytes.inc_by(frame.len() as u64);
    }

    /// Somebody is told of changes, unless it is a snapshot.
    pub(super) fn told(&self, update: &SeatUpdate) {
        if update.previous_seq().is_some() {
            self.staleness.observe(update.changed_at().elapsed().as_secs_f64());
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// With those of `engine`.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let mut registry = Registry::with_prefix("boxoffice");
        let requests = Family::default();
        registry.register("http_requests", "Requests that were answered", requests.clone());
        let unreadable = Family::<_, Counter<_, _>>::default();
        for status in [400, 408, 431] {
            drop(unreadable.get_or_create(&Unreadable { status }));
        }
        registry.register("http_unreadable", "Connections that ended with what is no request", unreadable.clone());
        // 100 us to about 13 s.
        let seconds = Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        registry.register_with_unit("http_request", "How long they took", Unit::Seconds, seconds.clone());
        let waiting = Gauge::default();
        registry.register("waiting_tokens", "Those who wait, in all waiting rooms", waiting.clone());
        let live = LiveMetrics::new(&mut registry);
        let spans = SpanMetrics::new(&mut registry);
        registry.register_collector(Box::new(EngineStats(engine)));
        let sinks = SinkStats::default();
        registry.register_collector(Box::new(sinks.clone()));
        let owed = OwedStats::default();
        registry.register_collector(Box::new(owed.clone()));
        let sales = SaleStats::default();
        registry.register_collector(Box::new(sales.clone()));
        let mut process = Registry::default();
        process.register_collector(Box::new(ProcessStats));
        Self { registry, process, requests, unreadable, seconds, waiting, sinks, owed, sales, live, spans }
    }

    /// Counts a request that was answered.
    pub fn observe(&self, method: &Method, route: Option<String>, status: StatusCode, elapsed: Duration) {
        let route = route.unwrap_or_else(|| "unknown".into());
        let request = Request { method: known(method), route, status: status.as_u16() };
        self.requests.get_or_create(&request).inc();
        self.seconds.observe(elapsed.as_secs_f64());
    }

    /// Counts a connection over which no request could be read.
    pub fn observe_unreadable(&self, status: StatusCode) {
        self.unreadable.get_or_create(&Unreadable { status: status.as_u16() }).inc();
    }

    /// All figures in the text format, with those of `sinks` and `sales`, and, as far as that is known, how many wait in line and
    /// what is owed at this time.
    ///
    /// # Errors
    /// Figures that cannot be written.
    pub fn text(
        &self,
        sinks: Vec<Sink>,
        waiting: Option<u64>,
        owed: Option<OwedNow>,
        sales: Sales,
    ) -> Result<String, fmt::Error> {
        if let Some(waiting) = waiting {
            self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
        *self.sinks.0.lock() = sinks;
        *self.owed.0.lock() = owed;
        *self.sales.0.lock() = sales;
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)?;
        text::encode_registry(&mut text, &self.process)?;
        text::encode_eof(&mut text)?;
        Ok(text)
    }
}

/// Figures of OpenMetrics in the older format of Prometheus (0.0.4), which names a counter as its sample is named, and has
/// neither units nor an end.
pub fn in_old_format(text: &str) -> String {
    let counters: HashSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut old = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let mut parts = line.splitn(4, ' ');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                old.extend(["# ", what, " ", name, "_total ", rest]);
            }
            _ => old.push_str(line),
        }
        old.push('\n');
    }
    old
}

/// Callers may send any method, and labels must not grow with what they think of.
fn known(method: &Method) -> String {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PATCH | Method::DELETE => method.to_string(),
        _ => "other".into(),
    }
}

/// Asks the engine each time.
struct EngineStats(Engine);

impl fmt::Debug for EngineStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineStats")
    }
}

impl Collector for EngineStats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.0.stats();
        let counters = [
            ("journal_batches", "Batches written", stats.batches),
            ("journal_bytes", "Bytes that the journal has grown by", stats.journal_bytes),
            ("put_off", "Times that a checkpoint or a segment was put off for want of something", stats.put_off),
            ("commands_overloaded", "Commands refused because too much was under way", stats.overloaded),
            ("live_flushes", "Times that an option's seats were looked at for those who follow", stats.live_flushes),
            (
                "live_conflations",
                "Updates in place of several, for those who had fallen behind",
                stats.live_conflations,
            ),
            ("live_resyncs", "Snapshots for those who had fallen behind", stats.live_resyncs),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let gauges = [
            ("durable_lsn", "The last durable event", stats.durable_lsn),
            ("applied_lsn", "The last event that reads see", stats.applied_lsn),
            ("checkpointed_lsn", "The last event in sled", stats.checkpointed_lsn),
            ("resident_actors", "Actors in memory", stats.resident_actors),
            ("live_subscribers", "Those who follow an option's seats or a token", stats.live_subscribers),
            ("free_bytes", "Bytes that may still be written", stats.free_bytes),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        if let Some(membership) = self.0.membership() {
            let gauges = [
                ("cluster_owner", "Whether this node decides", u64::from(membership.owns)),
                ("cluster_connected", "Whether there is a connection to the log", u64::from(membership.connected)),
                ("cluster_epoch", "The place of the log from which on its owner decides", membership.epoch.0),
                ("cluster_lag", "Messages of the log that this node has not taken in yet", membership.lag),
                (
                    "cluster_log_bytes",
                    "Bytes that the log has; 0 where this node does not decide",
                    membership.log_bytes,
                ),
                (
                    "cluster_nodes_known",
                    "Nodes for which the log keeps what they lack, with this one",
                    membership.known.len() as u64 + 1,
                ),
                ("cluster_nodes", "Nodes that were heard of, with this one", membership.peers.len() as u64 + 1),
            ];
            for (name, help, value) in gauges {
                let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
            }
            let terms = ConstCounter::new(membership.terms);
            let help = "Times that this node began to decide";
            terms.encode(encoder.encode_descriptor("cluster_terms", help, None, terms.metric_type())?)?;
            let news = if membership.owns { 0.0 } else { membership.news.elapsed().as_secs_f64() };
            let (news, help) = (ConstGauge::new(news), "How long ago the owner of the log was heard of");
            news.encode(encoder.encode_descriptor("cluster_news", help, Some(&Unit::Seconds), news.metric_type())?)?;
        }
        let commit = ConstCounter::new(stats.commit_seconds);
        let help = "Time spent in writing and syncing batches";
        commit.encode(encoder.encode_descriptor("commit", help, Some(&Unit::Seconds), commit.metric_type())?)?;
        let replay = ConstGauge::new(stats.replay_seconds);
        let help = "About how long a start would take to replay what is not in the state";
        replay.encode(encoder.encode_descriptor("replay", help, Some(&Unit::Seconds), replay.metric_type())?)?;
        let skew = ConstGauge::new(stats.clock_skew_seconds);
        let help = "How far the engine's clock is from the wall clock";
        skew.encode(encoder.encode_descriptor("clock_skew", help, Some(&Unit::Seconds), skew.metric_type())?)
    }
}

/// The sinks as they were when somebody last asked.
#[derive(Debug, Clone, Default)]
struct SinkStats(Arc<Mutex<Vec<Sink>>>);

/// What is owed, and when that is so.
pub type OwedNow = (Timestamp, Vec<OwedSum>);

/// As it was when somebody last asked.
#[derive(Debug, Clone, Default)]
struct OwedStats(Arc<Mutex<Option<OwedNow>>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OwedLabel {
    kind: &'static str,
}

impl Collector for OwedStats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some((now, ref sums)) = *self.0.lock() else { return Ok(()) };
        let kinds = [
            (OwedKind::Capture, "capture"),
            (OwedKind::Void, "void"),
            (OwedKind::Refund, "refund"),
            (OwedKind::Check, "check"),
        ];
        let of = |kind| sums.iter().find(|sum| sum.kind == kind);
        let help = "What providers of payments are still to do";
        let mut family = encoder.encode_descriptor("payments_owed", help, None, MetricType::Gauge)?;
        for (owed, kind) in kinds {
            let count = of(owed).map_or(0, |sum| sum.count);
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&OwedLabel { kind })?)?;
        }
        let help = "For how long the oldest of it has been owed; 0 if nothing is";
        let unit = Some(&Unit::Seconds);
        let mut family = encoder.encode_descriptor("payments_owed_age", help, unit, MetricType::Gauge)?;
        for (owed, kind) in kinds {
            let age = of(owed).map_or(0.0, |sum| now.since(sum.since).as_secs_f64());
            ConstGauge::new(age).encode(family.encode_family(&OwedLabel { kind })?)?;
        }
        Ok(())
    }
}

/// What has been sold of some options.
pub type Sales = BTreeMap<OptionId, SaleTotals>;

/// As it was when somebody last asked.
#[derive(Debug, Clone, Default)]
struct SaleStats(Arc<Mutex<Sales>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SeatLabel {
    option_id: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevenueLabel {
    option_id: String,
    currency: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LineLabel {
    concert_id: String,
    status: &'static str,
}

impl Collector for SaleStats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sales = self.0.lock();
        if sales.is_empty() {
            return Ok(());
        }
        let gauge = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        let help = "Seats and places of a performance by state";
        let mut family = encoder.encode_descriptor("sale_seats", help, None, MetricType::Gauge)?;
        for (option, SaleTotals { seats, .. }) in sales.iter() {
            let states = [
                ("available", seats.available),
                ("held", seats.held),
                ("sold", seats.sold),
                ("blocked", seats.blocked),
            ];
            for (state, count) in states {
                gauge(count).encode(family.encode_family(&SeatLabel { option_id: option.to_string(), state })?)?;
            }
        }
        let help = "What is paid for what is sold of a performance, in the smallest units of the currency";
        let mut family = encoder.encode_descriptor("sale_revenue", help, None, MetricType::Gauge)?;
        for (option, SaleTotals { revenue, currency, .. }) in sales.iter() {
            let label = RevenueLabel { option_id: option.to_string(), currency: currency.to_string() };
            gauge(*revenue).encode(family.encode_family(&label)?)?;
        }
        let help = "Tokens of a concert's waiting room by status";
        let mut family = encoder.encode_descriptor("sale_line", help, None, MetricType::Gauge)?;
        let lines: BTreeMap<_, _> = sales.values().map(|totals| (totals.concert, totals.line)).collect();
        for (concert, line) in lines {
            let statuses =
                [("waiting", line.waiting), ("active", line.active), ("used", line.used), ("expired", line.expired)];
            for (status, count) in statuses {
                gauge(count).encode(family.encode_family(&LineLabel { concert_id: concert.to_string(), status })?)?;
            }
        }
        Ok(())
    }
}

type Figure = fn(&Sink) -> u64;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabel {
    sink: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabel {
    sink: String,
    outcome: &'static str,
}

impl Collector for SinkStats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sinks = self.0.lock();
        if sinks.is_empty() {
            return Ok(());
        }
        let gauges: [(&str, &str, Figure); 4] = [
            ("sink_lag", "Entries of the journal that are still to be looked at for a receiver of events", |sink| {
                sink.lag
            }),
            ("sink_parked", "Events that wait for another attempt or an operator", |sink| sink.parked),
            ("sink_dead_letters", "Events that wait for an operator", |sink| sink.dead_letters),
            (
                "sink_breaker",
                "Whether attempts are made: 0 yes (closed), 1 one at a time (half open), 2 no (open)",
                breaker_state,
            ),
        ];
        for (name, help, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for sink in sinks.iter() {
                let gauge = ConstGauge::new(i64::try_from(value(sink)).unwrap_or(i64::MAX));
                gauge.encode(family.encode_family(&SinkLabel { sink: sink.id.to_string() })?)?;
            }
        }
        let help = "Attempts to deliver events";
        let mut family = encoder.encode_descriptor("sink_attempts", help, None, ConstCounter::<u64>::TYPE)?;
        for sink in sinks.iter() {
            let Some(DeliveryProgress { delivered, failed, .. }) = sink.deliveries else { continue };
            for (outcome, count) in [("delivered", delivered), ("failed", failed)] {
                let label = AttemptLabel { sink: sink.id.to_string(), outcome };
                ConstCounter::new(count).encode(family.encode_family(&label)?)?;
            }
        }
        Ok(())
    }
}

fn breaker_state(sink: &Sink) -> u64 {
    match sink.deliveries.as_ref().map(|progress| progress.breaker) {
        None | Some(breaker::State::Closed) => 0,
        Some(breaker::State::HalfOpen) => 1,
        Some(breaker::State::Open) => 2,
    }
}
