//! After the commit: what has happened, as events for whoever wants to hear of it.
//!
//! The journal is the outbox. [`event`] is what leaves: CloudEvents, each with an id that never changes. `projection` is
//! the one place where records of the journal become events. [`Engine::events`](crate::Engine::events) hands them out to
//! one reader, at its own pace.
//!
//! Architecture invariant: everything in here reads what is durable, and nothing in here can hold up a sale.

pub mod breaker;
pub(crate) mod dispatch;
pub mod event;
pub(crate) mod projection;
pub(crate) mod walk;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use self::event::{Event, EventData, EventFilter, EventId, EventType};
use crate::domain::Timestamp;
use crate::domain::sink::{Response, Secret};

/// Takes events to where they are wanted: an HTTP endpoint, a broker's topic, a mail gateway. A host app may implement it
/// and [attach](crate::Engine::attach) it.
///
/// What it is given is at least once: after a crash, or when it failed although the events had arrived, the same events
/// come again, with the same ids. Of one subject there is one delivery at a time, in order, so that the subject can be a
/// broker's message key. An event that comes again is followed by all that come after it in its subject; what an operator has
/// dropped does not come again.
///
/// ```
/// use std::pin::Pin;
/// use std::sync::Arc;
///
/// use boxoffice::relay::{Delivery, Failure, Outcome, Receiver, Settings};
/// use boxoffice::{Engine, Error, EventFilter, SinkId, Start};
/// use tokio::sync::mpsc;
///
/// /// Hands on what has happened, as JSON.
/// struct Topic(mpsc::Sender<(String, String)>);
///
/// impl Receiver for Topic {
///     fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
///         Box::pin(async move {
///             for event in &delivery.events {
///                 let json = serde_json::to_string(&**event).unwrap_or_default();
///                 if self.0.send((event.subject.clone(), json)).await.is_err() {
///                     // It comes again, by the schedule of the settings.
///                     return Outcome::Failed(Failure { text: "nobody listens".into(), ..Failure::default() });
///                 }
///             }
///             Outcome::Delivered
///         })
///     }
/// }
///
/// /// After a restart it goes on where it was, by its name.
/// async fn follow(engine: &Engine, topic: mpsc::Sender<(String, String)>) -> Result<SinkId, Error> {
///     let receiver = Arc::new(Topic(topic));
///     engine.attach("topic", EventFilter::ALL, Start::Beginning, receiver, Settings::default()).await
/// }
/// ```
pub trait Receiver: Send + Sync + 'static {
    /// The most events that it takes at once, 1 or more.
    fn batch(&self) -> usize {
        1
    }

    /// Delivers events, in this order, all or nothing. It should give up by itself after some time, and must not block
    /// its thread, which others share. Dropping the future calls the delivery off.
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;
}

/// Events to be delivered.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What has happened, at least one.
    pub events: Vec<Arc<Event>>,
    /// What to sign with, the newest first.
    pub secrets: Vec<Secret>,
    /// When the attempt starts.
    pub at: Timestamp,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It may not have it.
    Failed(Failure),
    /// It cannot be given it, now or later, and not because of the receiver: there is nothing to send. An event makes a dead
    /// letter at once, and whether the receiver is well is as open as before. The events of a batch are tried one by one.
    Undeliverable(Failure),
    /// There is no way to the receiver now, whatever is sent. It was not an attempt: the events wait where they are, for as
    /// long as it takes, and the receiver is left alone for the breaker's pause. It may have them all the same.
    Unreachable(Failure),
    /// It does not want anything any more.
    Gone(Failure),
}

/// Why a delivery failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The beginning of the answer, or what went wrong.
    pub text: String,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// What is kept of it.
    pub(crate) fn response(&self, at: Timestamp) -> Response {
        Response { status: self.status, text: self.text.clone(), at }
    }
}

/// How a sink is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// From how many events in memory on no more are read.
    pub window: usize,
    /// Deliveries at a time.
    pub concurrency: usize,
    /// Events that may wait for another attempt or for an operator; past it no more events are taken in.
    pub max_parked: usize,
    /// How long to wait before each further attempt; one that fails after the last of them makes a dead letter.
    pub retry_schedule: Vec<Duration>,
    /// When the receiver is left alone.
    pub breaker: breaker::Limits,
    /// The longest time that it is left alone because it asks for it.
    pub retry_after_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let (minute, hour) = (60, 60 * 60);
        // What Standard Webhooks recommends.
        let schedule = [5, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour];
        Self {
            window: 2_048,
            concurrency: 16,
            max_parked: 10_000,
            retry_schedule: schedule.map(Duration::from_secs).to_vec(),
            breaker: breaker::Limits { failures: 10, pause: Duration::from_secs(30) },
            retry_after_max: Duration::from_secs(15 * minute),
        }
    }
}
