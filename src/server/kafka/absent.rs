//! Stands in for the topics in a program that was built without the client: there are none.

use std::future::Future;
use std::pin::Pin;

use tokio::runtime::Handle;

use super::settings::{Kafka as Settings, refused};
use crate::config::Error as ValueError;
use crate::relay::{Delivery, Outcome, Receiver};
use crate::server::traces::Traces;

/// The topics of a cluster.
pub enum Topics {}

impl Topics {
    /// # Errors
    /// Always.
    pub fn new(settings: &Settings, _: Traces, _: Handle) -> Result<Self, ValueError> {
        settings.check()?;
        Err(refused("bootstrap_servers", "", "there"))
    }

    pub async fn close(&self) {
        match *self {}
    }
}

impl Receiver for Topics {
    fn deliver<'a>(&'a self, _: &'a Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        match *self {}
    }
}
