//! Calls that another node decides. One node, the owner, decides; any other one sends it what changes something, and reads
//! of what is somebody's, and gives its answer as its own. See `docs/adr/0025-any-node-answers-any-call.md`.
//!
//! - [`table`]: every call that can be sent, in one place.
//! - [`edge`]: asks the owner, and knows when it may ask again.
//! - [`serving`]: what the owner does with a call.
//! - [`envelope`]: what both write around it, so that nobody else can ask, and nothing is taken twice or late.
//! - [`signs`]: signs of life on their way to the owner.
//!
//! Architecture invariant: nothing in here knows how bytes come to another node; that is what [`Forward`] is for.

mod edge;
mod envelope;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod loopback;
mod serving;
mod signs;
mod table;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::seating_plan::PlanHash;

pub(in crate::engine) use self::edge::Away;
pub(in crate::engine) use self::table::*;

pub use self::envelope::{OwnerId, Secret};
pub use crate::cluster::Unanswered;

/// What is under way to another node.
pub type Sending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unanswered>> + Send + 'a>>;

/// The way to the node that decides. It knows nothing of what it carries.
pub trait Forward: Send + Sync + 'static {
    /// Who decides now, as far as this node knows, and every change of that.
    fn owners(&self) -> watch::Receiver<Option<OwnerId>>;

    /// Brings a question to a node, which gives it to its engine ([`serve_call`](crate::Engine::serve_call)), and its answer
    /// back. Nobody waits for longer than `time_left`. It may lose it and bring it late, or twice; it may not send it again by
    /// itself after it may have been taken.
    fn send<'a>(&'a self, to: &'a OwnerId, question: Vec<u8>, time_left: Duration) -> Sending<'a, Vec<u8>>;

    /// Puts a seating plan where all nodes find it. `Ok` when it is there for good.
    fn put_plan(&self, hash: PlanHash, json: Vec<u8>) -> Sending<'_, ()>;

    /// A seating plan that was put there.
    fn plan(&self, hash: PlanHash) -> Sending<'_, Option<Vec<u8>>>;
}
