//! A copy of a log that others keep too: frames come in as they are, and are synced when somebody says so.
//!
//! What a power cut takes of it is fetched from the log again. So the end of a copy is not what recovery goes by, but how
//! far it is known to be synced: below that a bad frame is damage, and the copy is to be made anew; above it the first bad
//! frame and all behind it is cut off, be it a hole with whole frames after it. Whole frames above stay, as the only ones
//! should the log be lost, and each is compared with the log's when that is read again.
//!
//! Nothing is ever sealed here: a seal is a link of the chain, and no other copy has it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::recovery::scan_copy;
use super::{Error, LocalLog, Options, Status, Tip, WholeFrame};
use crate::domain::Lsn;
use crate::store::disk::Disk;

/// A journal on this machine's disk that copies a log. One writer at a time.
pub struct LocalCopy {
    log: LocalLog,
    dir: PathBuf,
    /// How far the log was followed.
    tip: Tip,
    /// The ends of the frames that are there beyond that.
    above: VecDeque<Tip>,
}

impl LocalCopy {
    /// Opens the journal of a machine that was alone until now, or begins one. It is all as durable as it ever gets, and
    /// the log is followed from its end on. `floor` is the last lsn that it is known to have reached.
    ///
    /// # Errors
    /// As [`LocalLog::open`].
    pub fn begin(disk: Arc<dyn Disk>, dir: &Path, options: Options, floor: Lsn) -> Result<Self, Error> {
        let (log, _) = LocalLog::open(disk, dir, options, floor)?;
        Ok(Self { dir: dir.to_path_buf(), tip: log.tip(), above: VecDeque::new(), log })
    }

    /// Opens a copy that was synced up to `synced` at least, and follows the log from there on. The first bad frame above
    /// that is cut off with all that is behind it, and what is left is durable when this returns.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the journal does not reach `synced`, or the header of a segment is bad, which is synced before
    /// there is a frame in it; else what the disk said.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options, synced: Tip) -> Result<Self, Error> {
        let (scan, above) = scan_copy(&*disk, dir, synced)?;
        let (log, _) = LocalLog::open_as_found(disk, dir, options, &scan)?;
        Ok(Self { log, dir: dir.to_path_buf(), tip: synced, above })
    }

    /// How its next segment is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.log.status()
    }

    /// How far the log was followed.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// The end of all that is there, which may be more than was followed.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn end(&self) -> Tip {
        self.log.tip()
    }

    /// Takes in the next frame of the log. It is not durable before [`sync`](Self::sync).
    ///
    /// # Errors
    /// [`Error::OutOfOrder`] if it does not follow, and [`Error::Damaged`] if another one stands in its place; nothing was
    /// written. Else what the disk said, which is final.
    pub fn take(&mut self, frame: &WholeFrame) -> Result<(), Error> {
        if !self.tip.admits(frame) {
            let (expected, header) = (self.tip.next_lsn, frame.header());
            return Err(Error::OutOfOrder { expected, first_lsn: header.first_lsn, count: header.count });
        }
        match self.above.front() {
            None => self.log.take(frame)?,
            Some(after) if *after == frame.after() => drop(self.above.pop_front()),
            Some(_) => {
                let what = format!("it has another frame than the log at lsn {}", frame.first_lsn());
                return Err(Error::damaged(&self.dir, 0, what));
            }
        }
        self.tip = frame.after();
        Ok(())
    }

    /// Makes durable all that was taken in, which goes as far as is returned.
    ///
    /// # Errors
    /// What the disk said, which is final.
    pub fn sync(&mut self) -> Result<Tip, Error> {
        self.log.sync()?;
        Ok(self.tip)
    }
}
