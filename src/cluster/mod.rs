//! The part of a cluster that decides its safety: who may append to the replicated log, what of the log counts, and what
//! an owner may say. See `docs/adr/0022-one-owner-on-a-stream.md`.
//!
//! One stream has all frames of the journal, in order. Any node may publish a *fence* there at any time, and owns from its
//! place on; the place is the *epoch*. All nodes read the whole stream and judge each message by the same rules, which need
//! nothing but the messages before it, so that all take in the same frames. Nothing else decides: no lease, no vote, no
//! clock.
//!
//! - [`Message`]: what stands in the stream.
//! - [`Reader`]: what each message means. Every node has one.
//! - [`Fencing`]: how a node becomes the owner.
//! - [`Appending`]: how the owner appends, when something is durable, and when he may answer.
//! - [`Member`]: one node, made of these.
//! - [`Peers`]: what nodes know of each other, and who should own when nobody seems to.
//! - [`Link`]: the way to the stream and to the other nodes. The feature `cluster` has one on NATS JetStream, `nats`.
//!
//! These are plain state machines. Somebody else publishes, reads, waits and writes; the same inputs give the same outputs.
//! How long he waits before he says that a publish has failed, or asks again, is his; nothing rests on it. But an answer
//! belongs to its own publish, and how far the stream was read is written down after the journal was synced.
//! They are proven by their tests, and by `crate::testing::cluster`, where three nodes run them on a stream with the accidents
//! of a real one.
//!
//! Architecture invariant: nothing in here but `nats`, and `link` by which it is asked, knows of NATS, async, threads, files, clocks or randomness, nor what an event is.

mod appending;
mod config;
mod fencing;
mod link;
mod member;
mod message;
#[cfg(feature = "cluster")]
pub mod nats;
mod peers;
mod reader;
#[cfg(test)]
mod tests;

use std::fmt;

pub use appending::{Appending, NotAppended, Step};
pub use config::{ClusterConfig, SECRET_BYTES_MIN, Secret};
pub use fencing::{Fencing, Next};
pub use link::{Answer, Asked, Asking, Connect, Found, Hear, Heard, Joining, Link, Unanswered};
pub use member::{Act, Member};
pub use message::{Body, ClusterId, FRAME_BYTES_MAX, Fence, Message, NodeName, Unreadable, Wire};
pub use peers::{Beat, Patience, Peer, Peers};
pub use reader::{BadState, Fault, Known, Reader, State, Taken, Void};

/// The format of messages and frames that is written, and the highest that is read.
pub const FORMAT: u32 = 1;

/// The place of a message in the stream; the first has 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A time in which one node owns: the sequence of its fence, so that it is never chosen and only grows; 0 before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// What.
    pub message: Message,
    /// The last sequence that the stream must have to take it (`Nats-Expected-Last-Sequence`), if any.
    pub expected: Option<Sequence>,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It stands in the stream, for good.
    Acknowledged(Sequence),
    /// The stream's last sequence was not the expected one. An earlier copy may be there, or appear later.
    Refused,
    /// No answer in time, or any other error. It may stand in the stream, or still get in.
    Failed,
}

impl Reply {
    /// What NATS' error of this code says: 10071 is a refusal, and all others say nothing.
    #[must_use]
    pub fn of_error(code: u32) -> Self {
        if code == 10_071 { Self::Refused } else { Self::Failed }
    }
}
