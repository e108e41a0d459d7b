//! One frame, as bytes.
//!
//! | offset | bytes | what, little endian |
//! |---|---|---|
//! | 0 | 4 | magic |
//! | 4 | 4 | kind: 1 batch, 2 seal, 3 fence |
//! | 8 | 4 | length of the payload |
//! | 12 | 4 | count of events; 0 in a seal and in a fence |
//! | 16 | 8 | lsn of the first event; in a seal and in a fence, of the next one to come |
//! | 24 | 8 | time in milliseconds since the epoch; in a seal and in a fence, that of the last batch |
//! | 32 | 4 | CRC32 of the frame before; 0 in the very first |
//! | 36 | 4 | CRC32 of the 36 bytes above and the payload |
//! | 40 | | payload, then zeros to the next multiple of 512 |

use crate::domain::{Lsn, RECORD_BYTES_MAX, Timestamp};

/// Frames start at multiples of this many bytes: the smallest unit that disks write wholly or not at all.
pub const BLOCK: usize = 512;

/// A block that nothing was written to.
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Begins with a byte that no UTF-8 text holds, so that no text in a payload can pass for a frame.
const MAGIC: [u8; 4] = *b"\xFFbxf";

/// The header's size in bytes.
pub(super) const HEADER: usize = 40;

/// How long the payload of a fence may be: with its header it fills a block.
pub const FENCE_BYTES_MAX: usize = BLOCK - HEADER;

/// How many bytes the events of one frame may take where a frame is a message of a replicated log: twice what a record may,
/// so that a frame that is not full takes any record.
pub const FRAME_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;

/// One batch of events to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRef<'a> {
    /// The lsn of its first event.
    pub first_lsn: Lsn,
    /// How many events it has; at least 1.
    pub count: u32,
    /// The time of its last event.
    pub at: Timestamp,
    /// The events, encoded.
    pub payload: &'a [u8],
}

impl FrameRef<'_> {
    /// How many bytes it takes up in the journal.
    #[must_use]
    pub fn padded_bytes(&self) -> u64 {
        padded(self.payload.len() as u64)
    }
}

/// The size of a frame, padding included, by that of its payload.
fn padded(payload_bytes: u64) -> u64 {
    (HEADER as u64 + payload_bytes).next_multiple_of(BLOCK as u64)
}

/// One batch of events, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFrame {
    /// The lsn of its first event.
    pub first_lsn: Lsn,
    /// How many events it has; at least 1.
    pub count: u32,
    /// The time of its last event.
    pub at: Timestamp,
    /// The events, encoded.
    pub payload: Vec<u8>,
}

impl OwnedFrame {
    #[cfg(test)]
    /// The lsn of its last event.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0 + u64::from(self.count) - 1)
    }
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Holds events.
    Batch,
    /// Marks a clean end.
    Seal,
    /// Marks where another node of a cluster began to append; what is in it is the cluster's.
    Fence,
}

/// All of a frame but its payload and its own CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    /// Of the payload, in bytes.
    pub length: u32,
    pub count: u32,
    pub first_lsn: Lsn,
    pub at: Timestamp,
    pub previous_crc: u32,
}

impl Header {
    /// The lsn of the event that comes after this frame.
    pub fn next_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0 + u64::from(self.count))
    }

    /// How many bytes the frame has without padding.
    pub fn bytes(&self) -> usize {
        HEADER + self.length as usize
    }

    /// How many bytes the frame takes up, padding included.
    pub fn padded_bytes(&self) -> u64 {
        padded(self.length.into())
    }

    /// Makes `out` the whole padded frame, and returns its CRC.
    pub fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> u32 {
        out.clear();
        out.extend_from_slice(&MAGIC);
        let kind: u32 = match self.kind {
            Kind::Batch => 1,
            Kind::Seal => 2,
            Kind::Fence => 3,
        };
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.first_lsn.0.to_le_bytes());
        out.extend_from_slice(&self.at.as_millis().to_le_bytes());
        out.extend_from_slice(&self.previous_crc.to_le_bytes());
        let crc = checksum(out, payload);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(payload);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        crc
    }

    /// Reads the header at the start of a block; `Err` says why there is none.
    pub fn decode(block: &[u8]) -> Result<Self, &'static str> {
        if block[..4] != MAGIC {
            return Err("no frame begins here");
        }
        let (kind, length, count) = (u32_at(block, 4), u32_at(block, 8), u32_at(block, 12));
        let first_lsn = u64_at(block, 16);
        let kind = match (kind, count) {
            (1, 1..) => Kind::Batch,
            (2, 0) if length == 0 => Kind::Seal,
            (3, 0) if length as usize <= FENCE_BYTES_MAX => Kind::Fence,
            _ => return Err("the frame is of no known kind"),
        };
        if first_lsn.checked_add(u64::from(count)).is_none() {
            return Err("the frame's lsns are out of range");
        }
        Ok(Self {
            kind,
            length,
            count,
            first_lsn: Lsn(first_lsn),
            at: Timestamp::from_millis(u64_at(block, 24)),
            previous_crc: u32_at(block, 32),
        })
    }

    /// The payload in the padded frame `bytes`, whose header this is.
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[HEADER..HEADER + self.length as usize]
    }

    /// The CRC of the padded frame `bytes`, whose header this is; `None` if it does not hold.
    pub fn verify(&self, bytes: &[u8]) -> Option<u32> {
        let crc = u32_at(bytes, 36);
        (checksum(&bytes[..36], self.payload(bytes)) == crc).then_some(crc)
    }

    /// Whether the padding of the frame `bytes` is as it was written.
    pub fn padding_is_clean(&self, bytes: &[u8]) -> bool {
        bytes[HEADER + self.length as usize..].iter().all(|byte| *byte == 0)
    }
}

/// Whether nothing stands in `block`, which is [`BLOCK`] bytes long.
pub(super) fn is_zero(block: &[u8]) -> bool {
    block == ZEROS
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

/// The little-endian number at `offset`.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes[offset..offset + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The little-endian number at `offset`.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from(u32_at(bytes, offset)) | u64::from(u32_at(bytes, offset + 4)) << 32
}
