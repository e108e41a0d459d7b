//! Reads the topics, from where the database says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use krafka::KrafkaError;
use krafka::consumer::{AutoOffsetReset, Consumer};

use crate::{Away, Brokers, Event, Place, Store, lock};

/// How long to wait before the brokers are tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one look for records takes at the most.
const POLL: Duration = Duration::from_millis(500);
/// How often it is looked whether topics have more partitions.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How far it has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// Where each partition ended when it was first looked at.
    pub ends: BTreeMap<(String, i32), i64>,
    /// What is to be read next.
    pub next: BTreeMap<(String, i32), i64>,
    /// How many records are still to be read, as far as the brokers have said.
    pub lag: u64,
    /// What is wrong with the brokers, if anything.
    pub warning: Option<String>,
}

impl Progress {
    /// Whether everything was read that was there when it began.
    pub fn is_ready(&self) -> bool {
        let next = |key| self.next.get(key).copied().unwrap_or_default();
        !self.ends.is_empty() && self.ends.iter().all(|(key, end)| next(key) >= *end)
    }
}

/// What one who listens shares with those who ask it.
#[derive(Debug)]
pub struct Listener<S> {
    /// What was read.
    pub store: Mutex<S>,
    /// How far it has come.
    pub progress: Mutex<Progress>,
}

/// Reads for ever; brokers that are gone, and a database that is, are waited for.
///
/// # Errors
/// The database fails.
pub async fn read<S: Store>(brokers: &Brokers, topics: &[String], shared: &Arc<Listener<S>>) -> Result<()> {
    loop {
        let Err(error) = read_until_it_fails(brokers, topics, shared).await else { continue };
        if !error.is::<KrafkaError>() && !error.is::<Away>() {
            return Err(error);
        }
        let error = format!("{error:#}");
        tracing::warn!(error, "nothing can be read on, which will be tried again");
        lock(&shared.progress).warning = Some(error);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read_until_it_fails<S: Store>(brokers: &Brokers, topics: &[String], shared: &Arc<Listener<S>>) -> Result<()> {
    let kafka = brokers.connect().await?;
    let consumer = kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest).build().await?;
    let begun = Instant::now();
    for topic in topics {
        assign(&consumer, topic, shared).await?;
    }
    // With another set of partitions it begins anew, from where it is.
    while begun.elapsed() < LOOK_AGAIN {
        let records = consumer.poll(POLL).await?;
        if !records.is_empty() {
            let read = records.iter().map(|record| {
                let topic = record.topic.to_string();
                (Place { topic, partition: record.partition, offset: record.offset }, Event::of(record))
            });
            let read = read.collect();
            ask(shared, |store| store.write(read)).await?;
        }
        let lag: u64 = consumer.lag().await.values().filter_map(|one| one.lag).sum();
        let mut progress = lock(&shared.progress);
        for record in &records {
            progress.next.insert((record.topic.to_string(), record.partition), record.offset + 1);
        }
        (progress.lag, progress.warning) = (lag, None);
    }
    consumer.close().await?;
    Ok(())
}

/// Reads on in each partition of a topic.
async fn assign<S: Store>(consumer: &Consumer, topic: &str, shared: &Arc<Listener<S>>) -> Result<()> {
    let found = consumer.fetch_metadata(Some(topic)).await?;
    let known = found.topics.iter().find(|one| one.name == topic);
    let known = known.ok_or_else(|| KrafkaError::unknown_topic(topic))?;
    let partitions: Vec<_> = known.partitions_iter().map(|one| one.partition).collect();
    consumer.assign(topic, partitions.clone()).await?;
    for partition in partitions {
        let (begin, end) = consumer.fetch_watermarks(topic, partition).await?;
        let name = topic.to_owned();
        let known = ask(shared, move |store| store.position(&name, partition)).await?;
        // What the topic does not have any more, or has no more, since it was made anew, is not to be had.
        let next = known.filter(|next| (begin..=end).contains(next)).unwrap_or(begin);
        consumer.seek(topic, partition, next).await?;
        let key = (topic.to_owned(), partition);
        let mut progress = lock(&shared.progress);
        progress.ends.entry(key.clone()).or_insert(end);
        progress.next.insert(key, next);
    }
    Ok(())
}

/// Asks the store on a thread that may wait.
async fn ask<S: Store, T: Send + 'static>(
    shared: &Arc<Listener<S>>,
    what: impl FnOnce(&mut S) -> Result<T> + Send + 'static,
) -> Result<T> {
    let shared = shared.clone();
    tokio::task::spawn_blocking(move || what(&mut *lock(&shared.store))).await?
}
