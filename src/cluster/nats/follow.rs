//! Reads the stream from a place on, in order, for as long as it is wanted.
//!
//! A consumer of JetStream gives messages in batches that are asked for, so that no more are under way than fit. It
//! lives on one server, in memory, and is made anew where it is lost: behind the last message that was given. Since a
//! consumer cannot be had while there is no leader of all (the *meta* leader), one message is asked of the stream's
//! leader before each attempt; that one also gets past a message that no client can be given.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, StatusCode};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Error, PAUSE, Shared, wire};
use crate::cluster::{Heard, Sequence};

/// Messages that are asked for at once. A subscription must hold as many, and the signs of life between them.
const BATCH: u64 = 256;
/// And their bytes, if a single one is not larger.
const BATCH_BYTES: usize = 8 << 20;
/// How long a server waits for messages to come.
const EXPIRES: Duration = Duration::from_secs(10);
/// Between two signs of life of an idle consumer.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Without one, it is given up.
const LOST: Duration = Duration::from_millis(1_250);
/// When a consumer that nobody asks is removed.
const INACTIVE: Duration = Duration::from_secs(30);
/// Messages that wait for whoever hears them.
const WAITING: usize = 32;

/// Why reading has ended.
enum Ended {
    /// Nobody hears any more.
    Unheard,
    /// It is another stream.
    OtherStream,
    /// It goes on with another consumer.
    Lost(String),
}

/// Only that there is one.
#[derive(Deserialize)]
struct Created {}

/// What is to be run: it follows from each place that is wanted.
pub fn run(
    shared: Arc<Shared>,
    mut wanted: mpsc::UnboundedReceiver<Sequence>,
) -> Result<impl Future<Output = ()> + Send, Error> {
    let (out, mut heard) = mpsc::channel(WAITING);
    let hear = shared.hear.clone();
    // Whoever takes messages in may wait for a disk.
    let hearing = move || {
        while let Some(it) = heard.blocking_recv() {
            hear(it);
        }
    };
    let thread = std::thread::Builder::new().name("boxoffice-follow".to_owned()).spawn(hearing);
    thread.map_err(|error| Error::Unreachable(error.to_string()))?;
    Ok(async move {
        let mut next = wanted.recv().await;
        while let Some(after) = next {
            next = tokio::select! {
                biased;
                next = wanted.recv() => next,
                () = follow(&shared, after, &out) => wanted.recv().await,
            };
        }
    })
}

async fn follow(shared: &Shared, after: Sequence, out: &mpsc::Sender<Heard>) {
    if out.send(Heard::Following(after)).await.is_err() {
        return;
    }
    let mut reading = Reading { shared, out, last: after };
    loop {
        shared.connected().await;
        match reading.attempt().await {
            Ended::Unheard => return,
            Ended::OtherStream => {
                let _ = out.send(Heard::OtherStream).await;
                return;
            }
            Ended::Lost(why) => tracing::debug!(%why, last = %reading.last, "reading goes on with another consumer"),
        }
        sleep(PAUSE).await;
    }
}

struct Reading<'a> {
    shared: &'a Shared,
    out: &'a mpsc::Sender<Heard>,
    /// The last message that was given.
    last: Sequence,
}

impl Reading<'_> {
    async fn attempt(&mut self) -> Ended {
        match self.read_on().await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn read_on(&mut self) -> Result<std::convert::Infallible, Ended> {
        let lost = |error: &dyn std::fmt::Display| Ended::Lost(error.to_string());
        let (shared, stream) = (self.shared, self.shared.names.stream());
        let info = shared.api.info(stream).await.map_err(|error| lost(&error))?;
        if info.created().map_err(|error| lost(&error))? != shared.created {
            return Err(Ended::OtherStream);
        }
        let next = self.last.next();
        if let Some(wire) = shared.message(next).await.map_err(|error| lost(&error))? {
            self.give(next, wire).await?;
        }

        let inbox = shared.asks.inbox();
        let name = format!("{:016x}_{}", shared.life, inbox.rsplit('.').next().unwrap_or_default());
        let mut messages = super::subscribe(&shared.client, inbox.clone()).await.map_err(|error| lost(&error))?;
        let config = json!({
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.last.next().0,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": true,
            "num_replicas": 1,
            "inactive_threshold": nanoseconds(INACTIVE),
        });
        let consumer = json!({ "stream_name": stream, "config": config, "action": "create" });
        let created = shared.api.call::<Created>(&format!("CONSUMER.CREATE.{stream}.{name}"), consumer).await;
        created.map_err(|error| lost(&error))?;

        let mut connections = shared.connections.clone();
        connections.mark_unchanged();
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}");
        let mut place = 0;
        loop {
            let pull = json!({
                "batch": BATCH,
                "max_bytes": BATCH_BYTES.max(shared.client.max_payload().saturating_mul(2)),
                "expires": nanoseconds(EXPIRES),
                "idle_heartbeat": nanoseconds(HEARTBEAT),
            });
            let asked = shared.client.publish_with_reply(subject.clone(), inbox.clone(), pull.to_string().into());
            asked.await.map_err(|error| lost(&error))?;
            let mut given = 0;
            while given < BATCH {
                let message = tokio::select! {
                    message = timeout(LOST, messages.next()) => message.map_err(|_| lost(&"the consumer is silent"))?,
                    // A consumer gives nothing more to whoever was away.
                    _ = connections.changed() => return Err(lost(&"the connection was lost")),
                };
                let Some(message) = message else { return Err(Ended::Unheard) };
                match what(&message) {
                    What::Message(sequence, number) if number == place + 1 => {
                        place = number;
                        given += 1;
                        // At first that is what was purged. Later a replica cannot read what the leader may have.
                        if place > 1 && sequence > self.last.next() {
                            return Err(lost(&"a message is passed over"));
                        }
                        if sequence > self.last {
                            self.give(sequence, wire::delivered(message.headers.as_ref(), &message.payload)).await?;
                        }
                    }
                    What::Message(..) => return Err(lost(&"a message is missing")),
                    What::Heartbeat => {}
                    What::BatchEnds => break,
                    What::Else => return Err(lost(&format!("{:?} {:?}", message.status, message.description))),
                }
            }
        }
    }

    async fn give(&mut self, sequence: Sequence, wire: crate::cluster::Wire) -> Result<(), Ended> {
        self.out.send(Heard::Read(sequence, wire)).await.map_err(|_| Ended::Unheard)?;
        self.last = sequence;
        Ok(())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a consumer sends.
#[derive(Debug, PartialEq, Eq)]
enum What {
    /// A message of the stream, and which one of this consumer.
    Message(Sequence, u64),
    Heartbeat,
    /// What was asked for was given, or the time for it is over.
    BatchEnds,
    Else,
}

fn what(message: &Message) -> What {
    match (message.status, message.reply.as_deref().and_then(places)) {
        (None, Some((sequence, number))) => What::Message(sequence, number),
        (Some(StatusCode::IDLE_HEARTBEAT), _) => What::Heartbeat,
        (Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND), _) => What::BatchEnds,
        (Some(status), _) if status.as_u16() == 409 => {
            let why = message.description.as_deref().unwrap_or_default();
            let is_done =
                ["Message Size Exceeds MaxBytes", "Batch Completed"].iter().any(|done| why.eq_ignore_ascii_case(done));
            if is_done { What::BatchEnds } else { What::Else }
        }
        _ => What::Else,
    }
}

/// The place in the stream and of this consumer, from the subject that a message would be acknowledged on:
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream's>.<consumer's>.<time>.<pending>`, in newer servers with a domain
/// and an account before the stream, and maybe more at the end.
fn places(reply: &str) -> Option<(Sequence, u64)> {
    let words: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let from = if words.len() == 7 { 3 } else { 5 };
    let sequence = words.get(from)?.parse().ok()?;
    let number = words.get(from + 1)?.parse().ok()?;
    Some((Sequence(sequence), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stand_in_the_reply_of_old_and_new_servers() {
        let expected = Some((Sequence(31), 2));
        assert_eq!(places("$JS.ACK.c.abc.1.31.2.1795966685035445898.0"), expected);
        assert_eq!(places("$JS.ACK._.hash.c.abc.1.31.2.1795966685035445898.0"), expected);
        assert_eq!(places("$JS.ACK.hub.hash.c.abc.1.31.2.1795966685035445898.0.random"), expected);
        for other in ["", "$JS.ACK.", "$JS.ACK.c.abc", "$JS.ACK.c.abc.1.x.2.3.0", "_INBOX.c.a.1.2.3.4.5.6"] {
            assert_eq!(places(other), None, "{other}");
        }
    }
}
