//! The journal: everything that ever happened, in order, in append-only segment files. It is the truth, and all of it
//! is kept.
//!
//! A frame is one batch of events, written with one write and one sync. It stands in a segment file at a multiple of
//! 512 bytes and is padded with zeros to the next one, so that no two frames share a sector: a write that a power
//! cut tears can leave its own frame half written, but never damages a durable neighbour. This rests on one assumption:
//! that a disk writes a sector of 512 bytes wholly or not at all.
//!
//! Each frame holds its own CRC and that of the frame before. After a crash the frames are checked in order. Where one
//! is bad, everything behind it is looked at: if another whole frame is found there, the bad one was durable once and
//! is damage, and the journal refuses to open. If there is none, it is the torn end of a write that nobody was told
//! of, and is cut off.
//!
//! Architecture invariant: the journal knows bytes, lsns and times. It does not know what an event is.

mod chain;
mod copy;
#[cfg(test)]
mod copy_tests;
mod frame;
mod frames;
mod preallocate;
mod reader;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use chain::{Tip, WholeFrame};
pub use copy::LocalCopy;
#[cfg(any(test, feature = "testing"))]
pub use frame::FENCE_BYTES_MAX;
#[cfg(test)]
pub use frame::OwnedFrame;
pub use frame::{FRAME_BYTES_MAX, FrameRef};
pub(crate) use frames::DIR;
pub use frames::Frames;
pub use preallocate::Status;
pub use reader::Reader;
pub use recovery::{Report, check};
pub use writer::{LocalLog, Recovered};

use crate::domain::Lsn;

/// Where batches of events are made durable. One writer at a time.
pub trait Log: Send + 'static {
    /// Appends one frame and returns when it is durable.
    ///
    /// # Errors
    /// Any error is final: nothing may be appended afterwards, and whether this frame is durable is not known until the
    /// log has been opened again.
    fn append(&mut self, frame: &FrameRef<'_>) -> Result<(), Error>;

    /// Marks a clean end, durably. Nothing may be appended afterwards, until the log has been opened again.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    fn seal(&mut self) -> Result<(), Error>;
}

/// Sizes and limits of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The size of a segment file in bytes, header included; rounded up to whole blocks. Default 64 MiB.
    pub segment_bytes: u64,
    /// The largest payload of one frame in bytes. Default 16 MiB.
    pub payload_bytes_max: u32,
    /// How many bytes of the file system are left free when the next segment is prepared ahead of its need. They are
    /// used only when the current segment is full. Default 64 MiB.
    pub reserve_bytes: u64,
    /// How many bytes of a new segment are filled with zeros between two syncs, so that filling one does not hold up
    /// the syncs of frames for long. Default 4 MiB.
    pub fill_bytes: usize,
    /// Who prepares the next segment.
    pub preallocate: Preallocate,
    /// How long to wait before looking again for space that was lacking. Default 1 s.
    pub space_retry: Duration,
    /// Frames of segments that end before this lsn are not read at the start; only their headers are. Default 0, which
    /// reads everything.
    pub check_from: Lsn,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            payload_bytes_max: 16 << 20,
            reserve_bytes: 64 << 20,
            fill_bytes: 4 << 20,
            preallocate: Preallocate::Background,
            space_retry: Duration::from_secs(1),
            check_from: Lsn(0),
        }
    }
}

/// Who prepares the next segment while the current one fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preallocate {
    /// A thread of the log's own.
    Background,
    /// The caller of [`Log::append`], which waits for it: the same order of disk calls every time.
    #[cfg(any(test, feature = "testing"))]
    Inline,
}

/// What can go wrong with a journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused. What was being written may or may not be durable.
    #[error("cannot {doing} {}: {source}; check the disk and start again", file.display())]
    Io {
        /// Which file or directory.
        file: PathBuf,
        /// What was being done with it.
        doing: &'static str,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// What was durable once is no longer what was written. Nothing has been changed.
    #[error("{} is damaged at byte {offset}: {what}; {what_to_do}", file.display())]
    Damaged {
        /// Which file or directory.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
        /// How to get out of it.
        what_to_do: &'static str,
    },
    /// Written by another version of this program.
    #[error(
        "{} has journal format {found}, and this program reads {supported}; use the version that wrote it, or a later one",
        file.display()
    )]
    UnsupportedVersion {
        /// Which file.
        file: PathBuf,
        /// Its format version.
        found: u32,
        /// The one that is known here.
        supported: u32,
    },
    /// The file system has no room for another segment.
    #[error("no room for a journal segment of {needed_bytes} bytes in {}; free some space and start again", dir.display())]
    OutOfSpace {
        /// Where.
        dir: PathBuf,
        /// How many bytes the segment takes.
        needed_bytes: u64,
    },
    /// A payload above [`Options::payload_bytes_max`], or one that no frame can hold. Nothing was written.
    #[error("a batch of {bytes} bytes is above the limit of {bytes_max}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: u32,
    },
    /// A frame that does not follow the last one, or has no event. Nothing was written.
    #[error("a batch of {count} events from lsn {first_lsn} cannot follow here: the next lsn is {expected}")]
    OutOfOrder {
        /// The lsn that the next event must have.
        expected: Lsn,
        /// The one that the frame begins with.
        first_lsn: Lsn,
        /// How many events it has.
        count: u32,
    },
    /// The log was sealed, or an earlier call failed.
    #[error("the journal takes no more batches: it was sealed, or an earlier write failed; open it again")]
    Closed,
}

impl Error {
    fn damaged(file: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged {
            file: file.to_path_buf(),
            offset,
            what: what.into(),
            what_to_do: "nothing was changed; put the file back from a backup, or restore the whole data directory",
        }
    }
}

/// Names the file and the deed that an [`io::Error`] belongs to.
trait At<T> {
    /// While `doing` something with `file`.
    fn at(self, doing: &'static str, file: &Path) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, doing: &'static str, file: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { file: file.to_path_buf(), doing, source })
    }
}
