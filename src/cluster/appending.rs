//! How the owner appends, when something is durable, and when he may answer.
//!
//! One publish is under way at a time, and it is to come right after the last message that the owner has read. So its
//! place can be taken by one message only, and whatever stands there once it was read decides: his own bytes, wherever the
//! acknowledgement went; a void one, after which he tries the next place, since no copy of his can get in at the old one
//! any more; or a fence. Copies of one publish are the same bytes with the same expected sequence, so that any number of them
//! may be under way, and at most one gets in.
//!
//! A deposed owner may not know it. A question may be answered only once a publish that *began* after it has got in: nobody
//! else owned when it came. With nothing to write, one mark serves all that wait.

use super::reader::{State, Taken};
use super::{Body, ClusterId, Epoch, FRAME_BYTES_MAX, Fence, Message, Publish, Reply, Sequence};
use crate::domain::Lsn;
use crate::store::journal::{FrameRef, Tip};

/// An owner's way to the log.
#[derive(Debug, Clone)]
pub struct Appending {
    cluster: ClusterId,
    epoch: Epoch,
    /// The last message that was read.
    last: Sequence,
    tip: Tip,
    pending: Option<Pending>,
    deposed: bool,
}

#[derive(Debug, Clone)]
struct Pending {
    message: Message,
    /// The end of the journal once it has got in.
    after: Tip,
    /// It was refused: what took its place, or will, has to be seen.
    looking: bool,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, but to wait and to read.
    Wait,
    /// Publish this.
    Publish(Publish),
    /// Ask the stream's leader for this message: take it in if it is there, else say so by [`Appending::absent`].
    Fetch(Sequence),
    /// This stands at this place of the stream: to be taken in as if it had been read there.
    TakeIn(Sequence, Message),
    /// What was under way is in the log, which has all up to this lsn.
    Durable(Lsn),
    /// Somebody else owns. What was under way is not in the log, and never will be.
    Deposed,
}

/// Why nothing is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAppended {
    /// Somebody else owns.
    #[error("another node owns")]
    Deposed,
    /// A publish is under way.
    #[error("another frame is under way")]
    UnderWay,
    /// It does not follow, has no event, or is too long.
    #[error("the frame cannot follow, or is longer than {FRAME_BYTES_MAX} bytes")]
    Unfit,
}

impl Appending {
    /// From the fence on that `me` has just read, see [`Next::Won`](super::Next::Won); `None` if it is another's, or was read
    /// before: whoever has let go of an epoch cannot know what is under way in it, and has to begin another.
    #[must_use]
    pub fn begin(me: &Fence, state: &State) -> Option<Self> {
        let State { cluster, epoch, last_sequence: last, tip, .. } = *state;
        let is_new = epoch == Epoch(last.0) && state.owner.as_ref() == Some(me);
        let cluster = cluster.filter(|_| is_new)?;
        Some(Self { cluster, epoch, last, tip, pending: None, deposed: false })
    }

    /// What the next frame has to continue.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// Whether a frame or a mark can be published now.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_none() && !self.deposed
    }

    /// Whether somebody else owns.
    #[must_use]
    pub fn is_deposed(&self) -> bool {
        self.deposed
    }

    /// Appends a frame. It is durable once [`Step::Durable`] says so.
    ///
    /// # Errors
    /// Nothing was done.
    pub fn append(&mut self, frame: &FrameRef<'_>) -> Result<Publish, NotAppended> {
        self.must_be_idle()?;
        let whole = self.tip.batch(frame).filter(|_| frame.payload.len() <= FRAME_BYTES_MAX);
        let whole = whole.ok_or(NotAppended::Unfit)?;
        let after = whole.after();
        Ok(self.publish(Body::Frame(whole), after))
    }

    /// Publishes that this node owns, for those who ask when there is nothing to append.
    ///
    /// # Errors
    /// Nothing was done.
    pub fn mark(&mut self) -> Result<Publish, NotAppended> {
        self.must_be_idle()?;
        Ok(self.publish(Body::Mark, self.tip))
    }

    fn must_be_idle(&self) -> Result<(), NotAppended> {
        match (self.deposed, &self.pending) {
            (true, _) => Err(NotAppended::Deposed),
            (_, Some(_)) => Err(NotAppended::UnderWay),
            _ => Ok(()),
        }
    }

    fn publish(&mut self, body: Body, after: Tip) -> Publish {
        let message = Message { cluster: self.cluster, epoch: self.epoch, body };
        self.pending = Some(Pending { message: message.clone(), after, looking: false });
        Publish { message, expected: Some(self.last) }
    }

    /// What became of a publish with this expected sequence.
    pub fn replied(&mut self, expected: Sequence, reply: Reply) -> Step {
        let (place, last) = (self.last.next(), self.last);
        let Some(pending) = self.pending.as_mut().filter(|_| expected == last) else { return Step::Wait };
        match reply {
            Reply::Acknowledged(sequence) if sequence == place => Step::TakeIn(place, pending.message.clone()),
            // It cannot stand anywhere else; what stands at its place will tell.
            Reply::Refused | Reply::Acknowledged(_) => {
                pending.looking = true;
                Step::Fetch(place)
            }
            Reply::Failed if pending.looking => Step::Wait,
            Reply::Failed => Step::Publish(Publish { message: pending.message.clone(), expected: Some(last) }),
        }
    }

    /// The leader has no message yet where [`Step::Fetch`] wanted one. What was seen there by whoever refused may appear, or
    /// was lost with its leader: the same bytes are published again for the same place, which changes neither.
    pub fn absent(&mut self, sequence: Sequence) -> Step {
        let (place, expected) = (self.last.next(), Some(self.last));
        match self.pending.as_mut().filter(|pending| pending.looking && sequence == place) {
            Some(pending) => {
                pending.looking = false;
                Step::Publish(Publish { message: pending.message.clone(), expected })
            }
            None => Step::Wait,
        }
    }

    /// A message was read: the one after the last, or one that is known.
    pub fn read(&mut self, sequence: Sequence, taken: &Taken) -> Step {
        if self.deposed || sequence != self.last.next() || *taken == Taken::Known {
            return Step::Wait;
        }
        self.last = sequence;
        match (taken, self.pending.take()) {
            (Taken::Void(_), None) => Step::Wait,
            (Taken::Void(_), Some(pending)) => {
                // Another place, for which nothing was published yet.
                self.pending = Some(Pending { looking: false, ..pending.clone() });
                Step::Publish(Publish { message: pending.message, expected: Some(sequence) })
            }
            (taken, Some(pending)) if is_the_same(taken, &pending.message.body) => {
                self.tip = pending.after;
                Step::Durable(Lsn(self.tip.next_lsn.0 - 1))
            }
            _ => {
                self.deposed = true;
                Step::Deposed
            }
        }
    }
}

/// Whether what was taken in is what was published. It is of this epoch, and its writer is the only one.
fn is_the_same(taken: &Taken, body: &Body) -> bool {
    match (taken, body) {
        (Taken::Frame(taken), Body::Frame(frame)) => taken == frame,
        (Taken::Mark, Body::Mark) => true,
        _ => false,
    }
}
