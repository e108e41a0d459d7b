//! The contract between whoever drives the protocol and the stream. `nats` keeps it, and so can anything in a test.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::{NodeName, Patience, Publish, Reply, Sequence, Wire};

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

    /// Asks how many bytes the stream has: [`Heard::Bytes`], or nothing, if there is no answer.
    fn measure(&self);

    /// Keeps a seating plan, by its SHA-256, where all nodes find it: for good when this returns. May block.
    ///
    /// # Errors
    /// Why it could not be done. A part of it may be there; it can be done again.
    fn put_plan(&self, hash: [u8; 32], bytes: &[u8]) -> Result<(), String>;

    /// A seating plan; `None` if there is none. May block.
    ///
    /// # Errors
    /// Why that cannot be said.
    fn plan(&self, hash: [u8; 32]) -> Result<Option<Vec<u8>>, String>;

    /// Asks a node something that its [`Answer`] answers. Whoever waits does so for `at_most`.
    fn ask(&self, node: &NodeName, question: Vec<u8>, at_most: Duration) -> Asked;

    /// Answers what other nodes ask this one, from now on.
    fn answer_by(&self, answer: Answer);

    /// Asks the stream's leader to let another replica lead. Whether it did is not said.
    fn step_down(&self);
}

/// A question to another node on its way, and the answer.
pub type Asked = Pin<Box<dyn Future<Output = Result<Vec<u8>, Unanswered>> + Send>>;

/// Answers a question of another node.
pub type Answer = Arc<dyn Fn(Vec<u8>) -> Pin<Box<dyn Future<Output = Vec<u8>> + Send>> + Send + Sync>;

/// What one node asks of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// To do a call.
    Call = 0,
    /// What follows in its journal.
    Copy = 1,
    /// To let another node own. The answer says that it was heard.
    StepDown = 2,
    /// To forget a node that is gone for good, by its name. The answer says why that cannot be; it is empty if it was
    /// done.
    Forget = 3,
    /// To write the highest format that a node reads from now on. The answer says why that cannot be; it is empty if
    /// it does, or did.
    Upgrade = 4,
}

impl Asking {
    /// A question of this kind: its letter is the last byte.
    #[must_use]
    pub fn of(self, mut question: Vec<u8>) -> Vec<u8> {
        question.push(self as u8);
        question
    }
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// It has not come to anybody, and will not.
    NotTaken(String),
    /// It may have been taken, or still be.
    Unknown(String),
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
    /// How many bytes the stream has.
    Bytes(u64),
    /// From another node.
    Beat(Vec<u8>),
    /// Whether there is a connection.
    Connected(bool),
    /// A server of the log does not make durable what it acknowledges; this is its name.
    NotSynced(String),
    /// The stream is gone, or was made anew: nothing more will be read.
    OtherStream,
    /// Another process with this node's name lives; this is the number of its life.
    Namesake(u64),
}

/// A stream as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// When it was created, in nanoseconds: another stream of this name has another time.
    pub created: u64,
    /// Its first message; 1 also if there is none.
    pub first: Sequence,
    /// Its last message; 0 if there is none.
    pub last: Sequence,
}

/// Takes in what a [`Link`] has heard. It is called on any thread and must not wait, but with [`Heard::Following`] and
/// [`Heard::Read`]: then reading waits as well, and nothing else.
pub type Hear = Arc<dyn Fn(Heard) + Send + Sync>;

/// Finds the stream.
pub trait Connect: Send + 'static {
    /// The node's own directory, where it may keep what is to be remembered. Told before it connects.
    fn at_home(&mut self, _: &Path) {}

    /// Connects on `runtime`. `life` is the number of this process, as in its fences. May block.
    ///
    /// # Errors
    /// Why it cannot be done, and what to do about it.
    fn connect(self: Box<Self>, runtime: &Handle, life: u64, hear: Hear) -> Result<(Arc<dyn Link>, Found), String>;
}

/// How a node takes part in a cluster.
pub struct Joining {
    /// Its name; no two have the same.
    pub node: NodeName,
    /// Whether it may begin the log of a new cluster with its own journal, if there is no log. Nodes whose journal is empty may
    /// all do so: one of them does.
    pub founds: bool,
    /// The highest format that it reads. What it writes is the cluster's.
    pub format: u32,
    /// How long it waits for whom.
    pub patience: Patience,
    /// Bytes that the log may have before its owner takes no more holds.
    pub log_bytes_max: u64,
    /// What all nodes know, and nobody else: 32 bytes or more.
    pub secret: Vec<u8>,
    /// Its way to the log.
    pub connect: Box<dyn Connect>,
}
