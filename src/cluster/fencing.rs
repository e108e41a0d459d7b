//! How a node becomes the owner.
//!
//! It publishes a fence that names the epoch it wants to end, and reads. The first fence that it takes in decides: it was its
//! own, or somebody else was sooner. A publish that is not answered may get in at any time, even after seconds, so the end of
//! the stream is looked at before the fence is published again; and since all copies name the same epoch, all but the first
//! are void wherever they turn up. An answer alone decides nothing: what stands before the fence has to be read first.

use std::time::Duration;

use super::reader::{State, Taken};
use super::{Body, ClusterId, Epoch, Fence, Message, Publish, Reply, Sequence};

/// A node that wants to own.
#[derive(Debug, Clone)]
pub struct Fencing {
    message: Message,
    fence: Fence,
    stage: Stage,
    patience: Duration,
    /// When the fence must have been read.
    read_by: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Published, and not answered.
    Sent,
    /// Without an answer.
    Looking,
    /// It stands in the stream, further on.
    Standing,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: read on.
    Read,
    /// Ask where the stream ends, read up to there, and say so by [`Fencing::looked`].
    Look,
    /// Publish this.
    Publish(Publish),
    /// The node owns, from the message on that was just read; see [`Appending`](super::Appending).
    Won(Epoch),
    /// Another fence came first, or another process of this node wrote it.
    Lost,
}

impl Fencing {
    /// A fence of `fence` against the epoch of `state`; the node names another candidate if it has not read up to its fence
    /// `patience` after that was acknowledged. To be published at once.
    #[must_use]
    pub fn begin(cluster: ClusterId, fence: Fence, state: &State, patience: Duration) -> (Self, Publish) {
        let message = Message { cluster, epoch: state.epoch, body: Body::Fence(fence.clone()) };
        let fencing = Self { message, fence, stage: Stage::Sent, patience, read_by: None };
        let publish = fencing.publish();
        (fencing, publish)
    }

    /// Without an expected sequence: against a busy owner none would ever be right.
    fn publish(&self) -> Publish {
        Publish { message: self.message.clone(), expected: None }
    }

    /// What became of the publish. `now` is the time since any moment, but always the same one.
    pub fn replied(&mut self, now: Duration, reply: Reply) -> Next {
        match (reply, self.stage) {
            (Reply::Acknowledged(_), _) => {
                self.stage = Stage::Standing;
                self.read_by.get_or_insert(now + self.patience);
                Next::Read
            }
            (Reply::Refused | Reply::Failed, Stage::Sent) => {
                self.stage = Stage::Looking;
                Next::Look
            }
            (Reply::Refused | Reply::Failed, Stage::Looking | Stage::Standing) => Next::Read,
        }
    }

    /// All was read up to an end of the stream that was asked for after [`Next::Look`].
    pub fn looked(&mut self) -> Next {
        if self.stage != Stage::Looking {
            return Next::Read;
        }
        self.stage = Stage::Sent;
        Next::Publish(self.publish())
    }

    /// A message was read.
    pub fn read(&mut self, sequence: Sequence, taken: &Taken) -> Next {
        match taken {
            Taken::Fence { fence, .. } if *fence == self.fence => Next::Won(Epoch(sequence.0)),
            Taken::Fence { .. } => Next::Lost,
            Taken::Base | Taken::Frame(_) | Taken::Mark | Taken::Void(_) | Taken::Known => Next::Read,
        }
    }

    /// Whether it takes so long to read up to the fence that somebody else should own.
    #[must_use]
    pub fn is_late(&self, now: Duration) -> bool {
        self.read_by.is_some_and(|read_by| now >= read_by)
    }
}
