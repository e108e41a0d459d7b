//! Events out to Kafka, as records by the Kafka binding of CloudEvents, keyed by their subjects.
//!
//! When and in what order something is sent is the [relay](crate::relay)'s business, and how it gets to the right broker
//! the client's. What is in here makes records of events, and an outcome of what the brokers say to them.

#[cfg(not(feature = "kafka"))]
mod absent;
#[cfg(feature = "kafka")]
mod properties;
#[cfg(feature = "kafka")]
mod receiver;
pub mod settings;

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

#[cfg(not(feature = "kafka"))]
use self::absent::Topics;
#[cfg(feature = "kafka")]
use self::receiver::Topics;
use super::Error;
use super::config::Settings;
use super::traces::Traces;
use crate::domain::EventFilter;
use crate::engine::Engine;

/// The name of its sink.
pub(super) const NAME: &str = "kafka";
/// Connections to brokers at a time.
pub(super) const CONNECTIONS: usize = 64;

/// What delivers to Kafka, if that is wanted.
pub struct Kafka {
    /// A runtime of its own, as webhooks have it. Always there until this is dropped.
    running: Option<(Runtime, Arc<Topics>)>,
}

impl Kafka {
    /// As configured.
    ///
    /// # Errors
    /// [`Error::Settings`], [`Error::Listen`] without threads.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        Self::traced(settings, &Traces::default())
    }

    /// As [`new`](Self::new), of which traces hear.
    pub(super) fn traced(settings: &Settings, traces: &Traces) -> Result<Self, Error> {
        if !settings.kafka.is_on() {
            return Ok(Self { running: None });
        }
        settings.kafka.validate()?;
        if !settings.kafka.enabled {
            tracing::warn!("kafka.enabled is false: nothing is delivered to it");
            return Ok(Self { running: None });
        }
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("boxoffice-kafka").enable_all().build()?;
        let topics = Arc::new(Topics::new(&settings.kafka, traces.clone(), runtime.handle().clone())?);
        Ok(Self { running: Some((runtime, topics)) })
    }

    /// Delivers, from where it left off.
    ///
    /// # Errors
    /// A fault of the engine's, or a start after the last event.
    pub async fn serve(&self, engine: &Engine, settings: &settings::Kafka) -> Result<(), crate::error::Error> {
        let Some((_, topics)) = &self.running else { return Ok(()) };
        let start = super::webhooks::routes::start(Some(&settings.start));
        let start = start.map_err(|why| crate::error::Error::invalid("start", &why))?;
        // What is not wanted is passed over here, so that another choice of types needs no other sink.
        engine.attach(NAME, EventFilter::ALL, start, topics.clone(), settings.relay()).await.map(drop)
    }

    /// Ends the connections, once nothing is delivered any more.
    pub async fn close(&self) {
        if let Some((_, topics)) = &self.running {
            topics.close().await;
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some((runtime, _)) = self.running.take() {
            // In place of waiting, which is not allowed within another runtime.
            runtime.shutdown_background();
        }
    }
}
