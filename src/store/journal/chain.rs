//! Frames as a replicated log has them: whole, without padding, each of which continues the one before.

use std::fmt;

use super::frame::{self, FENCE_BYTES_MAX, FrameRef, HEADER, Kind};
use crate::domain::{Lsn, Timestamp};

/// The end of a chain of frames: what the next one has to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// The lsn of the next event.
    pub next_lsn: Lsn,
    /// The time of the last batch; the epoch if there is none.
    pub at: Timestamp,
    /// The CRC of the last frame; 0 if there is none.
    pub crc: u32,
}

impl Default for Tip {
    fn default() -> Self {
        Self { next_lsn: Lsn(1), at: Timestamp::default(), crc: 0 }
    }
}

impl Tip {
    /// The batch `of` as the next frame; `None` if it cannot follow, has no event, or is longer than any frame.
    #[must_use]
    pub fn batch(self, of: &FrameRef<'_>) -> Option<WholeFrame> {
        let FrameRef { first_lsn, count, at, payload } = *of;
        let length = u32::try_from(payload.len()).ok()?;
        let follows = first_lsn == self.next_lsn && count > 0 && first_lsn.0.checked_add(count.into()).is_some();
        let header = frame::Header { kind: Kind::Batch, length, count, first_lsn, at, previous_crc: self.crc };
        follows.then(|| WholeFrame::new(header, payload))
    }

    /// A fence as the next frame; `None` if its payload is longer than [`FENCE_BYTES_MAX`].
    #[must_use]
    pub fn fence(self, payload: &[u8]) -> Option<WholeFrame> {
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= FENCE_BYTES_MAX)?;
        let Self { next_lsn: first_lsn, at, crc: previous_crc } = self;
        let header = frame::Header { kind: Kind::Fence, length, count: 0, first_lsn, at, previous_crc };
        Some(WholeFrame::new(header, payload))
    }

    /// Whether `frame` continues the chain here.
    #[must_use]
    pub fn admits(self, frame: &WholeFrame) -> bool {
        let header = &frame.header;
        header.first_lsn == self.next_lsn
            && header.previous_crc == self.crc
            && (header.kind == Kind::Batch || header.at == self.at)
    }
}

/// A batch or a fence as bytes, of which the CRC holds.
#[derive(Clone, PartialEq, Eq)]
pub struct WholeFrame {
    header: frame::Header,
    crc: u32,
    bytes: Vec<u8>,
}

impl WholeFrame {
    fn new(header: frame::Header, payload: &[u8]) -> Self {
        let mut bytes = Vec::new();
        let crc = header.encode(payload, &mut bytes);
        bytes.truncate(HEADER + payload.len());
        Self { header, crc, bytes }
    }

    /// Reads a frame without padding; `Err` says why it is none.
    ///
    /// # Errors
    /// It is not whole, or neither a batch nor a fence.
    pub fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let frame = Self::read_of_chain(bytes)?;
        if frame.header.kind == Kind::Seal { Err("it is a seal") } else { Ok(frame) }
    }

    /// As [`read`](Self::read), of any link of a chain: also a seal from the time when a journal was one machine's.
    ///
    /// # Errors
    /// It is not whole.
    pub fn read_of_chain(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < HEADER {
            return Err("it is shorter than a frame's header");
        }
        let header = frame::Header::decode(bytes)?;
        if bytes.len() - HEADER != header.length as usize {
            return Err("the frame is of another length than it says");
        }
        let crc = header.verify(bytes).ok_or("the frame's checksum does not hold")?;
        Ok(Self { header, crc, bytes: bytes.to_vec() })
    }

    /// What it takes in a segment.
    #[must_use]
    pub fn padded_bytes(&self) -> u64 {
        self.header().padded_bytes()
    }

    pub(super) fn header(&self) -> &frame::Header {
        &self.header
    }

    /// All of it, without padding.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The events, encoded; what the cluster says, in a fence.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.header.payload(&self.bytes)
    }

    /// The lsn of its first event; of the next one to come, in a fence.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.header.first_lsn
    }

    /// How many events it has.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.header.count
    }

    /// Whether it is a fence, which has no event.
    #[must_use]
    pub fn is_fence(&self) -> bool {
        self.header.kind == Kind::Fence
    }

    /// The end of a chain whose last frame this is.
    #[must_use]
    pub fn after(&self) -> Tip {
        Tip { next_lsn: self.header.next_lsn(), at: self.header.at, crc: self.crc }
    }
}

impl fmt::Debug for WholeFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("WholeFrame");
        shown.field("header", &self.header).field("crc", &self.crc).finish_non_exhaustive()
    }
}
