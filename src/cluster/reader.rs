//! What each message of the stream means. Every node reads all of them, in order, by these rules and no others.
//!
//! A message is *void* if it is not of this cluster or of an epoch that is over: a fence that comes late, or again, and
//! whatever a deposed owner still had under way. It changes nothing but that its place is taken. What is of this cluster
//! and of the present epoch must be whole and continue what is there, since its only writer is an honest owner who knows the
//! end; what names an epoch that is still to come shows that a fence was missed here. Both are damage, as is a gap: the node
//! stops and is repaired, and does not pass over what others may have taken in.

use std::collections::BTreeMap;
use std::fmt;

use super::message::{Body, ClusterId, Fence, Message, NodeName, Unreadable, Wire, decode_tip, encode_tip};
use super::{Epoch, FORMAT, Sequence};
use crate::store::journal::{Tip, WholeFrame};

/// How far a node has read, and what it has to know of all that came before. To be made durable only after the frames
/// that it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Whose stream it is; `None` before the first message.
    pub cluster: Option<ClusterId>,
    /// When the stream was created, in whatever unit NATS says: another stream has another time.
    pub created: u64,
    /// The last message that was read; 0 before the first.
    pub last_sequence: Sequence,
    /// The present epoch.
    pub epoch: Epoch,
    /// Whose it is; nobody's before the first fence.
    pub owner: Option<Fence>,
    /// The end of the journal, which the next frame has to continue.
    pub tip: Tip,
}

/// What a message was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The first one.
    Base,
    /// A batch, to be written to the journal as it is.
    Frame(WholeFrame),
    /// Another epoch has begun.
    Fence {
        /// Whose it is.
        fence: Fence,
        /// What is to be written to the journal.
        frame: WholeFrame,
    },
    /// The owner owned here.
    Mark,
    /// Nothing.
    Void(Void),
    /// It was read before.
    Known,
}

/// Why a message counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Void {
    /// Nobody can read it.
    Unreadable(&'static str),
    /// It is another cluster's.
    OtherCluster,
    /// Its epoch is over.
    OldEpoch(Epoch),
    /// The log has begun already.
    BaseAgain,
}

/// Why a node cannot read on. Nothing has changed; the message may be read again, from another replica of the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Messages are missing.
    #[error(
        "message {found} of the stream follows {last}: those between are missing; start this node again, and it copies them from another"
    )]
    Gap {
        /// The last one that was read.
        last: Sequence,
        /// The one that came.
        found: Sequence,
    },
    /// It is of the present epoch, and yet not whole, or does not continue what is there.
    #[error("message {sequence} of the stream is damaged: {why}; read it from another replica of the stream")]
    Broken {
        /// Which one.
        sequence: Sequence,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is of an epoch that has not begun here.
    #[error(
        "message {sequence} of the stream is of epoch {epoch}, and {current} is the last that began here; a fence is missing"
    )]
    FenceMissed {
        /// Which one.
        sequence: Sequence,
        /// Its epoch.
        epoch: Epoch,
        /// The present one.
        current: Epoch,
    },
    /// The stream begins otherwise than with a base.
    #[error("the stream does not begin as a log does: {0}")]
    NoBase(&'static str),
    /// The log does not continue this node's journal.
    #[error("the log begins at lsn {}, and this journal ends before lsn {}, or otherwise; copy it anew", .log.next_lsn, .journal.next_lsn)]
    OtherBase {
        /// Where the log begins.
        log: Tip,
        /// Where the journal ends.
        journal: Tip,
    },
    /// The owner writes a format that is not known here.
    #[error("node {node} writes format {found}, and this program reads {reads}; use a later version")]
    Format {
        /// Who.
        node: String,
        /// Its format.
        found: u32,
        /// The highest that is read here.
        reads: u32,
    },
    /// This is not the stream that was read before.
    #[error("this is another stream than the one that was followed, or it was made anew")]
    OtherStream,
    /// The stream ends before what was read.
    #[error("the stream ends at {found}, and had reached {last}: it lost what was acknowledged")]
    WentBack {
        /// The last one that was read.
        last: Sequence,
        /// The last one that is there.
        found: Sequence,
    },
}

/// Reads the stream.
#[derive(Debug, Clone)]
pub struct Reader {
    state: State,
    /// The highest format that it reads.
    reads: u32,
}

impl Reader {
    /// Of a node whose journal ends at `tip`, before the first message of the stream that was made at `created`.
    #[must_use]
    pub fn join(created: u64, tip: Tip) -> Self {
        let (last_sequence, epoch) = (Sequence::default(), Epoch::default());
        Self { state: State { cluster: None, created, last_sequence, epoch, owner: None, tip }, reads: FORMAT }
    }

    /// Goes on where it was.
    #[must_use]
    pub fn resume(state: State) -> Self {
        Self { state, reads: FORMAT }
    }

    /// Reads formats up to this one, as another version of this program does.
    #[must_use]
    pub fn of_version(self, reads: u32) -> Self {
        Self { reads, ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The message that comes next.
    #[must_use]
    pub fn next(&self) -> Sequence {
        self.state.last_sequence.next()
    }

    /// Looks whether a stream that was created at `created` and ends at `last` is the one that was read.
    ///
    /// # Errors
    /// It is not.
    pub fn recognise(&self, created: u64, last: Sequence) -> Result<(), Fault> {
        let State { created: known, last_sequence, .. } = self.state;
        match () {
            () if created != known => Err(Fault::OtherStream),
            () if last < last_sequence => Err(Fault::WentBack { last: last_sequence, found: last }),
            () => Ok(()),
        }
    }

    /// Reads the message at `sequence`.
    ///
    /// # Errors
    /// It cannot be read on; nothing has changed.
    pub fn take(&mut self, sequence: Sequence, wire: &Wire) -> Result<Taken, Fault> {
        let last = self.state.last_sequence;
        if sequence <= last {
            return Ok(Taken::Known);
        }
        if sequence != last.next() {
            return Err(Fault::Gap { last, found: sequence });
        }
        let taken = match self.state.cluster {
            None => self.begin(wire)?,
            Some(cluster) => self.judge(cluster, sequence, wire)?,
        };
        self.state.last_sequence = sequence;
        match &taken {
            Taken::Frame(frame) => self.state.tip = frame.after(),
            Taken::Fence { fence, frame } => {
                self.state.tip = frame.after();
                (self.state.epoch, self.state.owner) = (Epoch(sequence.0), Some(fence.clone()));
            }
            Taken::Base | Taken::Mark | Taken::Void(_) | Taken::Known => {}
        }
        Ok(taken)
    }

    fn begin(&mut self, wire: &Wire) -> Result<Taken, Fault> {
        match Message::decode(wire) {
            Ok(Message { cluster, epoch: Epoch(0), body: Body::Base(log) }) => {
                let journal = self.state.tip;
                if log != journal {
                    return Err(Fault::OtherBase { log, journal });
                }
                self.state.cluster = Some(cluster);
                Ok(Taken::Base)
            }
            Ok(_) => Err(Fault::NoBase("the first message is no base")),
            Err(Unreadable { why, .. }) => Err(Fault::NoBase(why)),
        }
    }

    fn judge(&self, cluster: ClusterId, sequence: Sequence, wire: &Wire) -> Result<Taken, Fault> {
        let decoded = Message::decode(wire);
        let head = match &decoded {
            Ok(message) => Some((message.cluster, message.epoch)),
            Err(unreadable) => unreadable.head,
        };
        let current = self.state.epoch;
        match (head, &decoded) {
            (None, Err(unreadable)) => return Ok(Taken::Void(Void::Unreadable(unreadable.why))),
            (Some((other, _)), _) if other != cluster => return Ok(Taken::Void(Void::OtherCluster)),
            (Some((_, epoch)), _) if epoch < current => return Ok(Taken::Void(Void::OldEpoch(epoch))),
            (Some((_, epoch)), _) if epoch > current => return Err(Fault::FenceMissed { sequence, epoch, current }),
            _ => {}
        }
        let broken = |why| Fault::Broken { sequence, why };
        match decoded.map_err(|unreadable| broken(unreadable.why))?.body {
            // Of epoch 0, as all bases are.
            Body::Base(_) => Ok(Taken::Void(Void::BaseAgain)),
            Body::Fence(fence) if fence.format > self.reads => {
                Err(Fault::Format { node: fence.node.to_string(), found: fence.format, reads: self.reads })
            }
            Body::Fence(fence) => {
                let payload = fence.in_the_journal(sequence, current);
                let frame = self.state.tip.fence(&payload).ok_or(broken("the fence is too long"))?;
                Ok(Taken::Fence { fence, frame })
            }
            _ if self.state.owner.is_none() => Err(broken("nobody owned when it was written")),
            Body::Frame(frame) if self.state.tip.admits(&frame) => Ok(Taken::Frame(frame)),
            Body::Frame(_) => Err(broken("the frame does not continue the one before")),
            Body::Mark => Ok(Taken::Mark),
        }
    }
}

/// What a state begins with when it is written down.
const MAGIC: [u8; 8] = *b"BOXFOLLO";

/// Bytes that are no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not how far the stream was read: it is damaged, or of another version")]
pub struct BadState;

/// What a node knows of the others: how far each has read the log down to its own disk, as far as was heard. What one
/// of them has not there, the log may not forget.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// The epoch of the owner whose list it was.
    pub of: Epoch,
    /// By name.
    pub synced: BTreeMap<String, u64>,
}

impl State {
    /// As bytes: magic (8), version 1 (4), cluster (16, 0 for none), created (8), last sequence (8), epoch (8), tip (20), owner's
    /// length (4, 0 for none), owner, CRC of all that (4). Integers are little endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        sealed(self.fields(1))
    }

    /// As bytes, with what is known of other nodes: as [`encode`](Self::encode), but for the version, 2; and before
    /// the CRC the epoch of that (8), and of each node what it has synced (8), the length of its name (1), its name.
    #[must_use]
    pub fn encode_with(&self, known: &Known) -> Vec<u8> {
        let mut bytes = self.fields(2);
        bytes.extend_from_slice(&known.of.0.to_le_bytes());
        for (name, synced) in known.synced.iter().filter(|(name, _)| NodeName::new(name).is_some()) {
            bytes.extend_from_slice(&synced.to_le_bytes());
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name.as_bytes());
        }
        sealed(bytes)
    }

    fn fields(&self, version: u32) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&self.cluster.map_or(0, |cluster| cluster.0.get()).to_le_bytes());
        for number in [self.created, self.last_sequence.0, self.epoch.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&encode_tip(&self.tip));
        let mut owner = Vec::new();
        if let Some(fence) = &self.owner {
            fence.encode(&mut owner);
        }
        bytes.extend_from_slice(&(owner.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&owner);
        bytes
    }

    /// Reads what [`encode`](Self::encode) or [`encode_with`](Self::encode_with) has written.
    ///
    /// # Errors
    /// Neither has.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadState> {
        Self::decode_with(bytes).map(|(state, _)| state)
    }

    /// The same, with what is known of other nodes.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_with(bytes: &[u8]) -> Result<(Self, Known), BadState> {
        let (bytes, crc) = bytes.split_last_chunk().ok_or(BadState)?;
        if crc32fast::hash(bytes) != u32::from_le_bytes(*crc) {
            return Err(BadState);
        }
        Self::decode_fields(bytes).ok_or(BadState)
    }

    fn decode_fields(bytes: &[u8]) -> Option<(Self, Known)> {
        let (version, rest) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
        let version = u32::from_le_bytes(*version);
        let (cluster, rest) = rest.split_first_chunk()?;
        let (created, rest) = rest.split_first_chunk()?;
        let (last_sequence, rest) = rest.split_first_chunk()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (tip, rest) = rest.split_first_chunk::<20>()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (owner, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let owner = if owner.is_empty() { None } else { Some(Fence::decode(owner)?) };
        let known = match version {
            1 if rest.is_empty() => Known::default(),
            2 => Known::decode(rest)?,
            _ => return None,
        };
        let state = Self {
            cluster: std::num::NonZeroU128::new(u128::from_le_bytes(*cluster)).map(ClusterId),
            created: u64::from_le_bytes(*created),
            last_sequence: Sequence(u64::from_le_bytes(*last_sequence)),
            epoch: Epoch(u64::from_le_bytes(*epoch)),
            owner,
            tip: decode_tip(tip)?,
        };
        Some((state, known))
    }
}

impl Known {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (of, mut rest) = bytes.split_first_chunk()?;
        let mut synced = BTreeMap::new();
        while !rest.is_empty() {
            let (number, more) = rest.split_first_chunk()?;
            let (length, more) = more.split_first()?;
            let (name, more) = more.split_at_checked(usize::from(*length))?;
            let name = NodeName::new(std::str::from_utf8(name).ok()?)?;
            synced.insert(name.to_string(), u64::from_le_bytes(*number));
            rest = more;
        }
        Some(Self { of: Epoch(u64::from_le_bytes(*of)), synced })
    }
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => f.write_str(why),
            Self::OtherCluster => f.write_str("it is another cluster's"),
            Self::OldEpoch(epoch) => write!(f, "epoch {epoch} is over"),
            Self::BaseAgain => f.write_str("the log has begun already"),
        }
    }
}
