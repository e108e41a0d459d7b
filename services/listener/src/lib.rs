//! How a service listens: events from Kafka into a database of its own, which knows how far it has read.
//!
//! Positions are written in one transaction with what was read, so that what comes twice, from the broker or after a crash, is
//! there once, and nothing is missing. Offsets at the broker decide nothing.

#![forbid(unsafe_code)]

mod brokers;
mod event;
mod reader;

pub use brokers::Brokers;
pub use event::Event;
pub use reader::{Listener, Progress, read};

/// Where a record was read.
#[derive(Debug, Clone)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The record's place in it.
    pub offset: i64,
}

/// That a database does not answer, and may do so another time. What has this among its reasons is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Away;

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the database does not answer")
    }
}

/// Where events, and positions, are written down. It may wait for its database: it is asked on threads that are for that.
pub trait Store: Send + 'static {
    /// The next offset of a partition, if any of it was read.
    ///
    /// # Errors
    /// The database cannot be read; with [`Away`], not now.
    fn position(&mut self, topic: &str, partition: i32) -> anyhow::Result<Option<i64>>;

    /// Writes down what records say, or what is wrong with them, and that they were read: all of it or nothing.
    ///
    /// # Errors
    /// The database cannot be written; with [`Away`], not now.
    fn write(&mut self, records: Vec<(Place, Result<Event, String>)>) -> anyhow::Result<()>;
}

/// A lock that is good also after a panic.
pub fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
