//! Spans on their way to the collector: a queue that never waits for it, and what empties the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::otlp::{self, Span};
use super::settings::Target;
use crate::server::metrics::{Dropped, SpanMetrics};
use crate::server::providers::api::explain;

/// How much of a collector's answer is read, which is some numbers and a line.
/// So long the end may take.
const CLOSE_TIME: Duration = Duration::from_secs(2);
const ANSWER_BYTES: usize = 64 << 10;

/// What goes to the collector.
pub(super) struct Exporter {
    target: Target,
    client: Client,
    metrics: SpanMetrics,
    waiting: Mutex<Vec<Span>>,
    /// There is a batch, or it is the end.
    called: Notify,
    closing: AtomicBool,
    /// Whether the log has it that the collector takes nothing.
    is_said: AtomicBool,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Exporter {
    /// Begins, on `runtime`.
    pub(super) fn start(target: Target, client: Client, metrics: SpanMetrics, runtime: &Handle) -> Arc<Self> {
        let exporter = Arc::new(Self {
            target,
            client,
            metrics,
            waiting: Mutex::default(),
            called: Notify::new(),
            closing: AtomicBool::new(false),
            is_said: AtomicBool::new(false),
            task: Mutex::default(),
        });
        *exporter.task.lock() = Some(runtime.spawn(exporter.clone().run()));
        exporter
    }

    /// Takes spans that have ended, as many of them as there is room for.
    pub(super) fn push(&self, spans: impl IntoIterator<Item = Span>) {
        let (mut dropped, mut waiting) = (0, self.waiting.lock());
        for span in spans {
            if waiting.len() < self.target.queue {
                waiting.push(span);
            } else {
                dropped += 1;
            }
        }
        let is_batch = waiting.len() >= self.target.batch;
        drop(waiting);
        if is_batch {
            self.called.notify_one();
        }
        if dropped > 0 {
            self.metrics.dropped(Dropped::NoRoom, dropped);
        }
    }

    /// Sends what waits, for a moment, and ends: nobody is to wait for a collector before the next server can start.
    pub(super) async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.called.notify_one();
        let task = self.task.lock().take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout(self.target.timeout.min(CLOSE_TIME), &mut task).await.is_err() {
            task.abort();
            tracing::warn!("the last spans did not get to the collector in time");
        }
    }

    async fn run(self: Arc<Self>) {
        loop {
            // Either way: to wait for long enough, or for enough.
            let _ = tokio::time::timeout(self.target.delay, self.called.notified()).await;
            let closing = self.closing.load(Ordering::Acquire);
            while let Some(batch) = self.batch() {
                self.send(&batch).await;
            }
            if closing {
                return;
            }
        }
    }

    /// The oldest spans that wait.
    fn batch(&self) -> Option<Vec<Span>> {
        let mut waiting = self.waiting.lock();
        let count = waiting.len().min(self.target.batch);
        (count > 0).then(|| waiting.drain(..count).collect())
    }

    async fn send(&self, batch: &[Span]) {
        let count = batch.len() as u64;
        let request = self
            .client
            .post(self.target.url.clone())
            .headers(self.target.headers.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .body(otlp::request(&self.target.resource, batch));
        let refused = match request.send().await {
            Ok(response) if response.status().is_success() => Ok(otlp::rejected(&beginning(response).await)),
            Ok(response) => Err(response.status().to_string()),
            Err(error) => Err(explain(error)),
        };
        let rejected = match &refused {
            Ok(rejected) => (*rejected).min(count),
            Err(_) => count,
        };
        self.metrics.sent(count - rejected);
        self.metrics.dropped(Dropped::NotTaken, rejected);
        self.say(refused.err());
    }

    /// Tells the log when the collector takes nothing any more, and when it does again.
    fn say(&self, why: Option<String>) {
        let is_wrong = why.is_some();
        match (self.is_said.swap(is_wrong, Ordering::Relaxed), why) {
            (false, Some(why)) => tracing::warn!(why, "the collector takes no spans, which are dropped"),
            (true, None) => tracing::info!("the collector takes spans again"),
            _ => {}
        }
    }
}

async fn beginning(mut response: Response) -> Vec<u8> {
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await
        && answer.len() < ANSWER_BYTES
    {
        answer.extend_from_slice(&chunk);
    }
    answer
}
