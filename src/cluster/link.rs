//! The contract between whoever drives the protocol and the stream. `nats` keeps it, and so can anything in a test.

use super::{Publish, Reply, Sequence, Wire};

/// What is asked of the stream and of the other nodes. Nothing here waits. Answers come as [`Heard`], in any order and
/// on any thread, if not said otherwise; some come before the call has returned.
pub trait Link: Send + Sync + 'static {
    /// Publishes. Answered by [`Heard::Replied`] with this number, exactly once: [`Reply::Failed`] if no answer came in
    /// time, or if it cannot even be sent. It may get in long after that.
    fn publish(&self, number: u64, publish: &Publish);

    /// Asks the stream's leader for one message, again and again until there is an answer: [`Heard::Fetched`].
    fn fetch(&self, sequence: Sequence);

    /// Asks the stream's leader where the stream ends, until there is an answer: [`Heard::End`], of a time after the
    /// call.
    fn look(&self);

    /// Begins to read behind `after`, and ends whatever reading was under way: [`Heard::Following`], and then
    /// [`Heard::Read`] in order. It goes on by itself through elections, lost connections and lost consumers.
    fn follow(&self, after: Sequence);

    /// Tells all other nodes, or some, or none: [`Heard::Beat`] there, and not here.
    fn beat(&self, beat: &[u8]);

    /// Removes the messages below this one, but never the newest. Whether it was done is not said: what is still there
    /// is removed by the next one.
    fn purge(&self, below: Sequence);

    /// Asks the stream's leader to let another replica lead. Whether it did is not said.
    fn step_down(&self);
}

/// What a [`Link`] has heard.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// What became of the publish of this number.
    Replied(u64, Reply),
    /// What the leader has at this place: nothing, if the stream is not yet so long, or if it was purged.
    Fetched(Sequence, Option<Wire>),
    /// The stream's last message.
    End(Sequence),
    /// The reading that [`Link::follow`] asked for with this sequence begins: what was read before is of an older one.
    Following(Sequence),
    /// A message of the stream. Each follows the one before, unless those between were purged.
    Read(Sequence, Wire),
    /// From another node.
    Beat(Vec<u8>),
    /// Whether there is a connection.
    Connected(bool),
    /// The stream is gone, or was made anew: nothing more will be read.
    OtherStream,
    /// Another process with this node's name lives; this is the number of its life.
    Namesake(u64),
}
