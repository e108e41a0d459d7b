//! One delivery: records out of events, and an outcome out of what the brokers say.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use krafka::admin::{CreateTopicsOptions, NewTopic};
use krafka::error::ErrorCode;
use krafka::producer::Producer;
use krafka::{CloseOptions, KrafkaError, Record};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::properties::Client;
use super::settings::{Format, Kafka as Settings};
use crate::config::Error as ValueError;
use crate::domain::{EventFilter, EventId, EventType};
use crate::relay::{Delivery, Event, Failure, Outcome, Receiver};
use crate::server::traces::{Sending, TRACEPARENT, Traces};

/// How many partitions and replicas a new topic has: as many as the broker says.
const AS_THE_BROKER_SAYS: i16 = -1;

/// How long connections may take to end.
const CLOSING: Duration = Duration::from_secs(1);

/// The topics of a cluster.
pub struct Topics {
    inner: Arc<Inner>,
    runtime: Handle,
}

struct Inner {
    settings: Settings,
    client: Client,
    filter: EventFilter,
    traces: Traces,
    /// Connected when there is something to send, and anew when it cannot be used any more. As long as it can, it is kept:
    /// what one client gave up on it does not write later, after another has gone on.
    connected: tokio::sync::Mutex<Option<Arc<Producer>>>,
    /// What got through of deliveries that did not as a whole, and will come again. No more than the window has.
    acknowledged: Mutex<HashSet<EventId>>,
    /// Whether the log has it that nothing gets through.
    is_said: AtomicBool,
}

impl Topics {
    /// As configured. Whatever it does, it does on `runtime`.
    ///
    /// # Errors
    /// A setting that is not what it may be.
    pub fn new(settings: &Settings, traces: Traces, runtime: Handle) -> Result<Self, ValueError> {
        let (client, filter) = (Client::new(settings)?, settings.filter()?);
        let (connected, acknowledged) = (tokio::sync::Mutex::default(), Mutex::default());
        Ok(Self {
            inner: Arc::new(Inner {
                settings: settings.clone(),
                client,
                filter,
                traces,
                connected,
                acknowledged,
                is_said: AtomicBool::new(false),
            }),
            runtime,
        })
    }

    /// Ends the connections. What is under way is not waited for: nobody waits for its acknowledgement any more.
    pub async fn close(&self) {
        let producer = self.inner.connected.lock().await.take();
        if let Some(producer) = producer {
            let closed =
                self.runtime.spawn(async move { producer.close_with(CloseOptions::new().timeout(CLOSING)).await });
            if let Ok(Err(error)) = closed.await {
                tracing::debug!(%error, "the connections to Kafka were cut off");
            }
        }
    }
}

impl Receiver for Topics {
    fn batch(&self) -> usize {
        usize::try_from(self.inner.settings.batch_events).unwrap_or(usize::MAX)
    }

    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            // Dropping the set calls it off.
            let mut one = JoinSet::new();
            let (inner, events) = (self.inner.clone(), delivery.events.clone());
            one.spawn_on(
                async move {
                    let outcome = inner.deliver(&events).await;
                    inner.say(&outcome);
                    outcome
                },
                &self.runtime,
            );
            match one.join_next().await {
                Some(Ok(outcome)) => outcome,
                Some(Err(error)) => unreachable(format!("the delivery ended: {error}")),
                None => unreachable("there was no delivery".into()),
            }
        })
    }
}

impl Inner {
    async fn deliver(&self, events: &[Arc<Event>]) -> Outcome {
        let rounds = match self.rounds(events) {
            Ok(rounds) => rounds,
            Err(why) => return Outcome::Undeliverable(failure(why)),
        };
        if !rounds.is_empty() {
            let producer = match self.producer().await {
                Ok(producer) => producer,
                Err(error) => return unreachable(error.to_string()),
            };
            for round in rounds {
                let largest = round.iter().map(|message| message.record.estimated_size()).max().unwrap_or_default();
                let sent = send(&producer, round).await;
                self.acknowledged.lock().extend(sent.acknowledged);
                if let Some(error) = sent.error {
                    return self.outcome(&producer, &error, largest).await;
                }
            }
        }
        let mut acknowledged = self.acknowledged.lock();
        for event in events {
            acknowledged.remove(&event.id);
        }
        Outcome::Delivered
    }

    /// Tells the log when nothing gets through any more, and when it does again.
    fn say(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Unreachable(failure) if !self.is_said.swap(true, Ordering::Relaxed) => {
                tracing::warn!(why = failure.text, "nothing gets through to Kafka, and will be tried again and again");
            }
            Outcome::Delivered if self.is_said.swap(false, Ordering::Relaxed) => {
                tracing::info!("Kafka takes events again")
            }
            _ => {}
        }
    }

    /// Records of events that did not get through yet, no two of a subject in one round: the second of them must not be written without the first.
    fn rounds(&self, events: &[Arc<Event>]) -> Result<Vec<Vec<Message>>, String> {
        let mut rounds: Vec<Vec<_>> = Vec::new();
        let mut before: HashMap<&str, usize> = HashMap::new();
        let acknowledged: HashSet<_> = {
            let known = self.acknowledged.lock();
            events.iter().map(|event| event.id).filter(|id| known.contains(id)).collect()
        };
        let wanted = |event: &&Arc<Event>| self.filter.takes(event.kind) && !acknowledged.contains(&event.id);
        for event in events.iter().filter(wanted) {
            let message = self.message(event)?;
            let round = before.entry(&event.subject).or_default();
            if *round == rounds.len() {
                rounds.push(Vec::new());
            }
            rounds[*round].push(message);
            *round += 1;
        }
        Ok(rounds)
    }

    fn message(&self, event: &Event) -> Result<Message, String> {
        let record = record(&self.settings, event).map_err(|error| error.to_string())?;
        let (bytes, most) = (record.estimated_size(), self.client.message_bytes);
        if bytes > most {
            return Err(format!("the message is too large: {bytes} bytes, and message.max.bytes is {most}"));
        }
        let Some(span) = self.traces.producing(&record.topic, event) else {
            return Ok(Message { id: event.id, record, span: None });
        };
        let traced = record.clone().header(TRACEPARENT, span.traceparent());
        // That a trace is kept is no reason to refuse what would have gone through.
        let record = if traced.estimated_size() > most { record } else { traced };
        Ok(Message { id: event.id, record, span: Some(span) })
    }

    async fn producer(&self) -> Result<Arc<Producer>, KrafkaError> {
        let mut connected = self.connected.lock().await;
        if let Some(producer) = &*connected {
            return Ok(producer.clone());
        }
        let kafka = self.client.connection(&self.settings.bootstrap_servers).connect().await?;
        if self.settings.create_topics {
            self.create_topics(&kafka).await?;
        }
        let producer = Arc::new(self.client.producer(kafka.producer()).build().await?);
        *connected = Some(producer.clone());
        Ok(producer)
    }

    async fn create_topics(&self, kafka: &krafka::Kafka) -> Result<(), KrafkaError> {
        let wanted = EventType::ALL.iter().filter(|kind| self.filter.takes(**kind));
        let mut names: Vec<_> = wanted.map(|kind| self.settings.topic_of(*kind)).collect();
        names.sort();
        names.dedup();
        let new = |name| NewTopic::new(name, i32::from(AS_THE_BROKER_SAYS), AS_THE_BROKER_SAYS);
        let topics = names.into_iter().map(new).collect::<Result<Vec<_>, _>>()?;
        for (_, made) in kafka.admin().create_topics(topics, CreateTopicsOptions::default()).await? {
            match made {
                Ok(_) | Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What becomes of a round of messages of up to `largest` bytes.
    async fn outcome(&self, producer: &Arc<Producer>, error: &KrafkaError, largest: usize) -> Outcome {
        if is_refused(error) {
            let most = self.client.message_bytes;
            let text = format!("refused: {error}, with {largest} bytes, where message.max.bytes is {most} here");
            return Outcome::Undeliverable(failure(text));
        }
        // A topic that is gone is made when the next one connects.
        let is_gone = self.settings.create_topics && matches!(error, KrafkaError::UnknownTopic { .. });
        if error.is_fatal() || is_gone {
            let mut connected = self.connected.lock().await;
            if connected.as_ref().is_some_and(|current| Arc::ptr_eq(current, producer)) {
                *connected = None;
            }
        }
        unreachable(error.to_string())
    }
}

/// Something to be sent.
struct Message {
    id: EventId,
    record: Record,
    span: Option<Sending>,
}

/// What became of a round.
struct Sent {
    acknowledged: Vec<EventId>,
    /// What another one met; one that may pass, if there is one.
    error: Option<KrafkaError>,
}

/// Sends records, and waits until all of them have an answer.
async fn send(producer: &Producer, messages: Vec<Message>) -> Sent {
    let (mut under_way, mut errors) = (Vec::with_capacity(messages.len()), Vec::new());
    for Message { id, record, mut span } in messages {
        if let Some(span) = &mut span {
            span.begin();
        }
        match producer.enqueue(record).await {
            Ok(acknowledgement) => under_way.push((id, span, acknowledgement)),
            // Each would take as long to find that out.
            Err(error) => {
                end(span, Some(&error));
                errors.push(error);
                break;
            }
        }
    }
    let mut acknowledged = Vec::with_capacity(under_way.len());
    for (id, span, acknowledgement) in under_way {
        let outcome = acknowledgement.await;
        end(span, outcome.as_ref().err());
        match outcome {
            Ok(_) => acknowledged.push(id),
            Err(error) => errors.push(error),
        }
    }
    let passing = errors.iter().position(|error| !is_refused(error));
    Sent { acknowledged, error: errors.into_iter().nth(passing.unwrap_or_default()) }
}

fn end(span: Option<Sending>, error: Option<&KrafkaError>) {
    let Some(span) = span else { return };
    match error {
        None => span.succeeded(),
        Some(KrafkaError::Broker { code, .. }) => span.failed(format!("{code:?}")),
        Some(_) => span.failed("_OTHER"),
    }
}

/// Whether the broker will never take this message.
fn is_refused(error: &KrafkaError) -> bool {
    let KrafkaError::Broker { code, .. } = error else { return false };
    matches!(
        code,
        ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::InvalidRecord
            | ErrorCode::InvalidTimestamp
    )
}

/// An event by the Kafka binding of CloudEvents. Its key is the subject, so that its partition keeps the order.
pub(super) fn record(settings: &Settings, event: &Event) -> Result<Record, serde_json::Error> {
    let topic = settings.topic_of(event.kind);
    let record = match settings.format {
        Format::Structured => Record::new(topic, serde_json::to_vec(event)?)
            .header("content-type", "application/cloudevents+json; charset=UTF-8"),
        Format::Binary => Record::new(topic, serde_json::to_vec(&event.data)?)
            .header("ce_specversion", "1.0")
            .header("ce_id", event.id.to_string())
            .header("ce_source", event.source.clone())
            .header("ce_type", event.kind.as_str())
            .header("ce_subject", event.subject.clone())
            .header("ce_time", event.time.to_string())
            .header("content-type", "application/json"),
    };
    let at = i64::try_from(event.time.as_millis()).unwrap_or(i64::MAX);
    Ok(record.key(event.subject.clone()).timestamp(at))
}

fn failure(text: String) -> Failure {
    Failure { text, ..Failure::default() }
}

fn unreachable(text: String) -> Outcome {
    Outcome::Unreachable(failure(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WalletEntry;
    use crate::domain::wallet::EntryKind;
    use crate::domain::{EntryId, EventId, Lsn, Points, Timestamp};
    use crate::relay::EventData;

    fn event(lsn: u64, subject: &str) -> Arc<Event> {
        let entry = WalletEntry {
            id: EntryId { wallet: 1, no: 1 },
            kind: EntryKind::Charge,
            amount: Points::ZERO,
            balance: Points::ZERO,
            reference: String::new(),
            at: Timestamp::default(),
            reason: None,
        };
        Arc::new(Event {
            id: EventId { lsn: Lsn(lsn), index: 0 },
            kind: EventType::WalletCharged,
            source: String::new(),
            subject: subject.into(),
            time: Timestamp::from_millis(1_000),
            data: EventData::WalletEntry(entry),
        })
    }

    #[tokio::test]
    async fn a_second_event_of_a_subject_waits_for_the_first_to_be_acknowledged() {
        let topics = Topics::new(&Settings::default(), Traces::default(), Handle::current()).unwrap();
        let events =
            [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "a"), (6, "b")].map(|(lsn, subject)| event(lsn, subject));
        let rounds = topics.inner.rounds(&events).unwrap();
        let ids: Vec<Vec<_>> =
            rounds.iter().map(|round| round.iter().map(|message| message.id.lsn.0).collect()).collect();
        assert_eq!(ids, [vec![1, 2, 4], vec![3, 6], vec![5]]);
        assert_eq!(rounds[0][0].record.timestamp, Some(1_000));
        topics.inner.acknowledged.lock().insert(events[0].id);
        let again = topics.inner.rounds(&events).unwrap();
        assert_eq!(
            again[0].iter().map(|message| message.id.lsn.0).collect::<Vec<_>>(),
            [2, 3, 4],
            "what got through is not sent again"
        );
    }
}
