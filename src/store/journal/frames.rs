//! The frames of a journal, for those who read them: where and how they are kept is nobody else's business.

use std::path::Path;
use std::sync::Arc;

use super::{Error, LocalCopy, LocalLog, Options, Reader, Recovered, Report, Tip, check};
use crate::domain::{Lsn, Timestamp};
use crate::store::disk::Disk;

/// The directory of a journal, in the data directory.
pub(crate) const DIR: &str = "journal";

/// The frames of the journal of a data directory; cheap to clone.
#[derive(Clone)]
pub struct Frames {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
}

impl Frames {
    /// Those of the journal in `data_dir`.
    #[must_use]
    pub fn in_dir(disk: Arc<dyn Disk>, data_dir: &Path) -> Self {
        Self { disk, dir: data_dir.join(DIR).into() }
    }

    /// Whether there is a journal.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.dir.is_dir()
    }

    /// A reader whose first batch is the one that holds `from`, or that will.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn from(&self, from: Lsn) -> Result<Reader, Error> {
        Reader::open(self.disk.clone(), &self.dir, from)
    }

    /// A reader that begins somewhere before all batches with a time of `at` or later.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn since(&self, at: Timestamp) -> Result<Reader, Error> {
        Reader::since(self.disk.clone(), &self.dir, at)
    }

    /// A reader of whole frames that continue a chain which ends at `tip`.
    ///
    /// # Errors
    /// As [`Reader::open`]; and [`Error::Damaged`] if the journal never ended there.
    pub fn after(&self, tip: Tip) -> Result<Reader, Error> {
        // From the last event on: fences stand behind it, be it at the end of its segment.
        let last = Lsn(tip.next_lsn.0.saturating_sub(1));
        let mut reader = Reader::open(self.disk.clone(), &self.dir, last)?;
        reader.go_to(tip)?;
        Ok(reader)
    }

    /// Checks every byte. `floor` is the last lsn that the journal is known to have reached. Writes nothing.
    ///
    /// # Errors
    /// As [`check`].
    pub fn check(&self, floor: Lsn) -> Result<Report, Error> {
        check(&*self.disk, &self.dir, floor)
    }

    /// Opens the log of which these are the frames, or begins it, for appending. One writer at a time.
    ///
    /// # Errors
    /// As [`LocalLog::open`].
    pub fn open(&self, options: Options, floor: Lsn) -> Result<(LocalLog, Recovered), Error> {
        LocalLog::open(self.disk.clone(), &self.dir, options, floor)
    }

    /// Opens the copy of a log that these are, which was synced up to `synced` at least.
    ///
    /// # Errors
    /// As [`LocalCopy::open`].
    pub fn open_copy(&self, options: Options, synced: Tip) -> Result<LocalCopy, Error> {
        LocalCopy::open(self.disk.clone(), &self.dir, options, synced)
    }

    /// Lets the journal of a machine that was alone until now, or none, become a copy of a log.
    ///
    /// # Errors
    /// As [`LocalCopy::begin`].
    pub fn begin_copy(&self, options: Options, floor: Lsn) -> Result<LocalCopy, Error> {
        LocalCopy::begin(self.disk.clone(), &self.dir, options, floor)
    }
}
