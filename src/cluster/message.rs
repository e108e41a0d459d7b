//! What stands in the stream, and as which headers and bytes.
//!
//! | header | |
//! |---|---|
//! | `Boxoffice-Kind` | `base`, `frame`, `fence` or `mark` |
//! | `Boxoffice-Cluster` | the cluster's id, 32 hexadecimal digits |
//! | `Boxoffice-Epoch` | the epoch that it is written in; of a fence, the one that it supersedes |
//!
//! | kind | payload, little endian |
//! |---|---|
//! | base | lsn of the next event (8), time of the last batch (8), CRC of the last frame (4): where the log begins |
//! | frame | a batch as it stands in the journal, without padding |
//! | fence | life (8), format (4), name of the node |
//! | mark | none |
//!
//! Other headers are passed over: NATS adds some. What is not written exactly so is no message, and reading it never
//! panics.

use std::fmt;
use std::num::NonZeroU128;

use super::{Epoch, Sequence};
use crate::domain::{Lsn, Timestamp};
pub use crate::store::journal::FRAME_BYTES_MAX;
use crate::store::journal::{Tip, WholeFrame};

/// How long the name of a node may be.
const NAME_BYTES_MAX: usize = 64;

const KIND: &str = "Boxoffice-Kind";
const CLUSTER: &str = "Boxoffice-Cluster";
const EPOCH: &str = "Boxoffice-Epoch";

/// What tells one cluster's messages from another's; drawn once, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId(pub NonZeroU128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The name of a node: 1 to 64 letters, digits, dots, hyphens and underscores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

impl NodeName {
    /// The name, if it is one.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        ((1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)).then(|| Self(name.to_owned()))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who wants to own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The node.
    pub node: NodeName,
    /// A number that was drawn when its process began: of two processes with one name, one owns.
    pub life: u64,
    /// What it writes, see [`FORMAT`](super::FORMAT).
    pub format: u32,
}

impl Fence {
    /// As it stands in the state and, behind the epochs, in the journal: life (8), format (4), name.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.life.to_le_bytes());
        out.extend_from_slice(&self.format.to_le_bytes());
        out.extend_from_slice(self.node.0.as_bytes());
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (life, rest) = bytes.split_first_chunk()?;
        let (format, name) = rest.split_first_chunk()?;
        let node = NodeName::new(std::str::from_utf8(name).ok()?)?;
        Some(Self { node, life: u64::from_le_bytes(*life), format: u32::from_le_bytes(*format) })
    }

    /// What the journal keeps of it, once it stands at `sequence` and supersedes `epoch`.
    pub(super) fn in_the_journal(&self, sequence: Sequence, epoch: Epoch) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&sequence.0.to_le_bytes());
        bytes.extend_from_slice(&epoch.0.to_le_bytes());
        self.encode(&mut bytes);
        bytes
    }
}

/// A message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose stream it is.
    pub cluster: ClusterId,
    /// The epoch that it is written in; of a fence, the one that it supersedes.
    pub epoch: Epoch,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The log begins, and continues the journal that ends here. The first message, and no other.
    Base(Tip),
    /// A batch of events.
    Frame(WholeFrame),
    /// Somebody wants to own from here on.
    Fence(Fence),
    /// Nothing but that its writer owned here.
    Mark,
}

/// A message as NATS has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wire {
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub payload: Vec<u8>,
}

/// Not a message of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable {
    /// Whose it says to be, and of which epoch, if that much can be read.
    pub head: Option<(ClusterId, Epoch)>,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Message {
    /// As NATS is to have it.
    #[must_use]
    pub fn encode(&self) -> Wire {
        let (kind, payload) = match &self.body {
            Body::Base(tip) => ("base", encode_tip(tip)),
            Body::Frame(frame) => ("frame", frame.bytes().to_vec()),
            Body::Fence(fence) => {
                let mut bytes = Vec::new();
                fence.encode(&mut bytes);
                ("fence", bytes)
            }
            Body::Mark => ("mark", Vec::new()),
        };
        let header = |name: &str, value: String| (name.to_owned(), value);
        let headers = vec![
            header(KIND, kind.to_owned()),
            header(CLUSTER, self.cluster.to_string()),
            header(EPOCH, self.epoch.to_string()),
        ];
        Wire { headers, payload }
    }

    /// Reads what NATS has.
    ///
    /// # Errors
    /// It is no message of ours.
    pub fn decode(wire: &Wire) -> Result<Self, Unreadable> {
        let headless = |why| Unreadable { head: None, why };
        let cluster = header(wire, CLUSTER).and_then(read_cluster).ok_or(headless("it names no cluster"))?;
        let epoch = header(wire, EPOCH).and_then(read_number).ok_or(headless("it names no epoch"))?;
        let epoch = Epoch(epoch);
        let body = header(wire, KIND).ok_or("it is of no kind").and_then(|kind| read_body(kind, &wire.payload));
        let body = body.map_err(|why| Unreadable { head: Some((cluster, epoch)), why })?;
        Ok(Self { cluster, epoch, body })
    }
}

/// The value of a header that is there once.
fn header<'a>(wire: &'a Wire, name: &str) -> Option<&'a str> {
    let mut values = wire.headers.iter().filter(|(it, _)| it == name);
    let (_, value) = values.next()?;
    values.next().is_none().then_some(value)
}

fn read_cluster(text: &str) -> Option<ClusterId> {
    let id = u128::from_str_radix(text, 16).ok().and_then(NonZeroU128::new).map(ClusterId)?;
    // Digits are written in one way.
    (id.to_string() == text).then_some(id)
}

fn read_number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn read_body(kind: &str, payload: &[u8]) -> Result<Body, &'static str> {
    match kind {
        "base" => decode_tip(payload).map(Body::Base).ok_or("it does not say where the log begins"),
        "frame" => {
            let frame = WholeFrame::read(payload)?;
            match (frame.is_fence(), frame.payload().len()) {
                (true, _) => Err("a journal's fence is no message"),
                (_, length) if length > FRAME_BYTES_MAX => Err("the frame is too long"),
                _ => Ok(Body::Frame(frame)),
            }
        }
        "fence" => Fence::decode(payload).map(Body::Fence).ok_or("it does not say who wants to own"),
        "mark" if payload.is_empty() => Ok(Body::Mark),
        "mark" => Err("a mark says nothing"),
        _ => Err("it is of no known kind"),
    }
}

/// Lsn of the next event (8), time (8), CRC (4).
pub(super) fn encode_tip(tip: &Tip) -> Vec<u8> {
    let mut bytes = tip.next_lsn.0.to_le_bytes().to_vec();
    bytes.extend_from_slice(&tip.at.as_millis().to_le_bytes());
    bytes.extend_from_slice(&tip.crc.to_le_bytes());
    bytes
}

pub(super) fn decode_tip(bytes: &[u8]) -> Option<Tip> {
    let (next_lsn, rest) = bytes.split_first_chunk()?;
    let (at, rest) = rest.split_first_chunk()?;
    let crc = u32::from_le_bytes(rest.try_into().ok()?);
    let (next_lsn, millis) = (Lsn(u64::from_le_bytes(*next_lsn)), u64::from_le_bytes(*at));
    let at = Timestamp::from_millis(millis);
    (next_lsn > Lsn(0) && at.as_millis() == millis).then_some(Tip { next_lsn, at, crc })
}
