//! Appending to a journal on this machine's disk.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{self, BLOCK, FrameRef, Kind};
use super::preallocate::{Preallocator, Prepared, Status, remove_leftovers};
use super::recovery::{Last, Scan, scan};
use super::segment::{self, FENCED, FIRST_FRAME, Found, PLAIN, Segment};
use super::{At, Error, Log, Options};
use crate::domain::{Lsn, Timestamp};
use crate::store::disk::{Directory, Disk, File, Open};

/// The last block of a segment is left to a seal, so that a clean end needs no space.
const SEAL_BYTES: u64 = BLOCK as u64;

/// How a journal was found when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// The lsn of the last event, which is durable; 0 if there is none.
    pub last_lsn: Lsn,
    /// The time of the last batch; the epoch if there is none.
    pub last_at: Timestamp,
    /// Whether it had been ended cleanly, and nothing was tried since.
    pub sealed: bool,
    /// How many bytes were cut off at the end, of a write that was never acknowledged.
    pub torn_bytes: u64,
}

/// A journal on a [`Disk`].
pub struct LocalLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The directory, open: a segment must get its name also when nothing else can be opened.
    names: Box<dyn Directory>,
    options: Options,
    file: Box<dyn File>,
    path: PathBuf,
    segment: segment::Header,
    /// Where the next frame goes.
    offset: u64,
    next_lsn: Lsn,
    last_at: Timestamp,
    /// The CRC of the last frame.
    crc: u32,
    /// Whether the last frame is a seal.
    sealed: bool,
    /// Nothing may be appended any more.
    closed: bool,
    /// The frame being written; kept for its memory.
    buffer: Vec<u8>,
    preallocator: Preallocator,
}

impl LocalLog {
    /// Opens the journal in `dir`, or begins one there. `floor` is the last lsn that it is known to have reached. Cuts
    /// off a torn end. Whatever is left is durable when this returns, as is the directory's name.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::UnsupportedVersion`] before anything is written; else what the disk said.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options, floor: Lsn) -> Result<(Self, Recovered), Error> {
        let scan = scan(&*disk, dir, floor, options.check_from)?;
        Self::open_as_found(disk, dir, options, &scan)
    }

    /// Opens the journal as `scan` has found it, and puts right what that says.
    pub(super) fn open_as_found(
        disk: Arc<dyn Disk>,
        dir: &Path,
        mut options: Options,
        scan: &Scan,
    ) -> Result<(Self, Recovered), Error> {
        options.segment_bytes = options.segment_bytes.next_multiple_of(BLOCK as u64).max(4 * BLOCK as u64);
        options.fill_bytes = options.fill_bytes.max(BLOCK);
        disk.create_dir_all(dir).at("create", dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).at("sync", parent)?;
        }
        let names = disk.open_dir(dir).at("open", dir)?;
        remove_leftovers(&*disk, dir)?;
        repair(&*disk, dir, scan)?;
        let preallocator = Preallocator::start(Arc::clone(&disk), dir.to_path_buf(), options.clone())?;
        let current = match scan.newest {
            Some(newest) => Current {
                file: Segment::open(&*disk, dir, newest.first_lsn, Open::Write)?.into_file(),
                header: newest,
                offset: scan.torn.start,
            },
            None => {
                let prepared = preallocator.take()?;
                let (first_lsn, previous_first_lsn, bytes) = (Lsn(1), Lsn(0), prepared.bytes);
                let header = segment::Header { version: PLAIN, first_lsn, previous_first_lsn, previous_crc: 0, bytes };
                let current = begin(&*disk, dir, &*names, prepared, header, &[])?;
                preallocator.want_next();
                current
            }
        };
        let recovered = Recovered {
            last_lsn: scan.last_lsn(),
            last_at: scan.last_at(),
            sealed: scan.sealed(),
            torn_bytes: scan.torn.end - scan.torn.start,
        };
        let log = Self {
            disk,
            dir: dir.to_path_buf(),
            names,
            options,
            file: current.file,
            path: segment::path(dir, current.header.first_lsn),
            segment: current.header,
            offset: current.offset,
            next_lsn: recovered.last_lsn.next(),
            last_at: recovered.last_at,
            crc: scan.last_crc(),
            sealed: recovered.sealed,
            closed: false,
            buffer: Vec::new(),
            preallocator,
        };
        Ok((log, recovered))
    }

    /// What can be watched from other threads.
    #[must_use]
    pub fn status(&self) -> Status {
        self.preallocator.status()
    }

    /// Closes the log for good, unless `act` succeeds.
    fn or_close(&mut self, act: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        self.closed = true;
        act(self)?;
        self.closed = false;
        Ok(())
    }

    fn append_batch(&mut self, frame: &FrameRef<'_>) -> Result<(), Error> {
        let FrameRef { first_lsn, count, at, payload } = *frame;
        if first_lsn != self.next_lsn || count == 0 {
            return Err(Error::OutOfOrder { expected: self.next_lsn, first_lsn, count });
        }
        let bytes_max = self.options.payload_bytes_max;
        let length = u32::try_from(payload.len()).ok().filter(|length| *length <= bytes_max);
        let length = length.ok_or(Error::TooLarge { bytes: payload.len(), bytes_max })?;
        self.preallocator.poll()?;
        let mut header = frame::Header { kind: Kind::Batch, length, count, first_lsn, at, previous_crc: self.crc };
        if self.offset + header.padded_bytes() + SEAL_BYTES > self.segment.bytes {
            // Fences that stand where no event does would else go with the segment that gives way. Seals may.
            let kept = if self.segment.version == FENCED { self.standing()? } else { Vec::new() };
            self.next_segment(header.padded_bytes(), PLAIN, &kept)?;
            header.previous_crc = self.crc;
        }
        self.write(&header, payload)?;
        self.sealed = false;
        Ok(())
    }

    fn append_seal(&mut self) -> Result<(), Error> {
        if self.sealed {
            return Ok(());
        }
        let (first_lsn, at, previous_crc) = (self.next_lsn, self.last_at, self.crc);
        let header = frame::Header { kind: Kind::Seal, length: 0, count: 0, first_lsn, at, previous_crc };
        self.write(&header, &[])?;
        self.sealed = true;
        Ok(())
    }

    /// Writes a frame, for which there is room, and syncs it.
    fn write(&mut self, header: &frame::Header, payload: &[u8]) -> Result<(), Error> {
        let crc = header.encode(payload, &mut self.buffer);
        self.file.write_all_at(&self.buffer, self.offset).at("write", &self.path)?;
        self.file.sync().at("sync", &self.path)?;
        self.offset += self.buffer.len() as u64;
        (self.crc, self.next_lsn, self.last_at) = (crc, header.next_lsn(), header.at);
        Ok(())
    }

    /// The frames of the current segment if none of them has an event, so that the next segment takes its name.
    fn standing(&self) -> Result<Vec<u8>, Error> {
        if self.segment.first_lsn != self.next_lsn {
            return Ok(Vec::new());
        }
        let mut frames = vec![0; (self.offset - FIRST_FRAME) as usize];
        segment::read_all(&*self.file, &mut frames, FIRST_FRAME).at("read", &self.path)?;
        Ok(frames)
    }

    /// Goes on to a new segment of format `version`, with room for a frame of `frame_bytes`, that begins with the frames
    /// `kept`, which are all of those [`standing`](Self::standing) or none.
    fn next_segment(&mut self, frame_bytes: u64, version: u32, kept: &[u8]) -> Result<(), Error> {
        let mut needed = FIRST_FRAME + kept.len() as u64 + frame_bytes + SEAL_BYTES;
        if needed > self.options.segment_bytes && !kept.is_empty() {
            // Not to be copied anew for each fence.
            needed += self.options.segment_bytes;
        }
        let prepared = if needed > self.options.segment_bytes {
            self.preallocator.make(needed)?
        } else {
            self.preallocator.take()?
        };
        let bytes = prepared.bytes;
        let header = if self.segment.first_lsn == self.next_lsn {
            // The current segment has no event, and is too small for the first one: the new one takes its place and
            // its name. A seal that may stand in it goes with it.
            segment::Header { bytes, version: version.max(self.segment.version), ..self.segment }
        } else {
            let (first_lsn, previous_first_lsn) = (self.next_lsn, self.segment.first_lsn);
            segment::Header { version, first_lsn, previous_first_lsn, previous_crc: self.crc, bytes }
        };
        let current = begin(&*self.disk, &self.dir, &*self.names, prepared, header, kept)?;
        self.preallocator.want_next();
        self.path = segment::path(&self.dir, header.first_lsn);
        (self.file, self.segment, self.offset) = (current.file, current.header, current.offset);
        if kept.is_empty() {
            self.crc = header.previous_crc;
        }
        Ok(())
    }
}

impl Log for LocalLog {
    fn append(&mut self, frame: &FrameRef<'_>) -> Result<(), Error> {
        self.or_close(|log| log.append_batch(frame))
    }

    fn seal(&mut self) -> Result<(), Error> {
        self.or_close(Self::append_seal)?;
        self.closed = true;
        Ok(())
    }
}

/// What a copy of a replicated log does with it, see [`LocalCopy`](super::LocalCopy).
impl LocalLog {
    /// The end of all that is in it.
    pub(super) fn tip(&self) -> super::Tip {
        super::Tip { next_lsn: self.next_lsn, at: self.last_at, crc: self.crc }
    }

    /// Writes a frame that follows, as it is, and does not sync it.
    pub(super) fn take(&mut self, frame: &super::WholeFrame) -> Result<(), Error> {
        self.or_close(|log| log.write_whole(frame))
    }

    fn write_whole(&mut self, frame: &super::WholeFrame) -> Result<(), Error> {
        let header = *frame.header();
        self.preallocator.poll()?;
        let version = if header.kind == Kind::Fence { FENCED } else { PLAIN };
        let full = self.offset + header.padded_bytes() + SEAL_BYTES > self.segment.bytes;
        if full || version > self.segment.version {
            // What a later segment names must not be missing in an earlier one.
            self.file.sync().at("sync", &self.path)?;
            // Whatever stands is part of the chain here, seals too.
            let kept = self.standing()?;
            self.next_segment(header.padded_bytes(), version, &kept)?;
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(frame.bytes());
        self.buffer.resize(header.padded_bytes() as usize, 0);
        self.file.write_all_at(&self.buffer, self.offset).at("write", &self.path)?;
        self.offset += self.buffer.len() as u64;
        let after = frame.after();
        (self.crc, self.next_lsn, self.last_at, self.sealed) = (after.crc, after.next_lsn, after.at, false);
        Ok(())
    }

    /// Makes durable all that was taken.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.or_close(|log| log.file.sync().at("sync", &log.path))
    }
}

/// The segment that is appended to.
struct Current {
    file: Box<dyn File>,
    header: segment::Header,
    offset: u64,
}

/// Makes a prepared segment part of the journal, durably, with the frames `kept` in it.
fn begin(
    disk: &dyn Disk,
    dir: &Path,
    names: &dyn Directory,
    prepared: Prepared,
    header: segment::Header,
    kept: &[u8],
) -> Result<Current, Error> {
    // The header must be durable before the name is: a segment with a name and no good header is damage.
    prepared.file.write_all_at(&header.encode(), 0).at("write", &prepared.path)?;
    if !kept.is_empty() {
        prepared.file.write_all_at(kept, FIRST_FRAME).at("write", &prepared.path)?;
    }
    prepared.file.sync().at("sync", &prepared.path)?;
    disk.rename(&prepared.path, &segment::path(dir, header.first_lsn)).at("rename", &prepared.path)?;
    names.sync().at("sync", dir)?;
    Ok(Current { file: prepared.file, header, offset: FIRST_FRAME + kept.len() as u64 })
}

/// Makes durable what `scan` found, and cuts off the torn end.
fn repair(disk: &dyn Disk, dir: &Path, scan: &Scan) -> Result<(), Error> {
    // The newest segment may have got its name right before a power cut that never came.
    disk.sync_dir(dir).at("sync", dir)?;
    for first_lsn in scan.surplus.iter().rev() {
        let path = segment::path(dir, *first_lsn);
        disk.remove(&path).at("remove", &path)?;
        // One after another: what is left is never without what comes before it.
        disk.sync_dir(dir).at("sync", dir)?;
    }
    if let Some(newest) = scan.newest.filter(|_| !scan.torn.is_empty()) {
        let path = segment::path(dir, newest.first_lsn);
        let file = disk.open(&path, Open::Write).at("open", &path)?;
        let zeros = vec![0; (scan.torn.end - scan.torn.start).min(1 << 20) as usize];
        let mut offset = scan.torn.start;
        while offset < scan.torn.end {
            let length = (zeros.len() as u64).min(scan.torn.end - offset);
            file.write_all_at(&zeros[..length as usize], offset).at("write", &path)?;
            offset += length;
        }
        file.sync().at("sync", &path)?;
    }
    scan.last.map_or(Ok(()), |last| write_again(disk, dir, &last))?;
    scan.unsynced.iter().try_for_each(|(segment, range)| write_all_again(disk, dir, *segment, range.clone()))
}

/// Writes a part of a segment once more and syncs it: frames of which none is known to have been synced.
fn write_all_again(disk: &dyn Disk, dir: &Path, first_lsn: Lsn, range: Range<u64>) -> Result<(), Error> {
    let path = segment::path(dir, first_lsn);
    let file = disk.open(&path, Open::Write).at("open", &path)?;
    let mut offset = range.start;
    while offset < range.end {
        let mut bytes = vec![0; (range.end - offset).min(1 << 20) as usize];
        segment::read_all(&*file, &mut bytes, offset).at("read", &path)?;
        file.write_all_at(&bytes, offset).at("write", &path)?;
        offset += bytes.len() as u64;
    }
    file.sync().at("sync", &path)
}

/// Writes the last good frame, be it a seal, once more and syncs it. If its own sync failed, it may stand in the page
/// cache only, which takes it for clean and would not write it. Any frame before it was synced before the next one was
/// written.
fn write_again(disk: &dyn Disk, dir: &Path, last: &Last) -> Result<(), Error> {
    let mut segment = Segment::open(disk, dir, last.segment, Open::Write)?;
    if segment.frame_at(last.offset)? != Found::Frame(last.header, last.crc) {
        return Err(Error::damaged(segment.path(), last.offset, "the last frame changed while the journal was opened"));
    }
    let bytes = segment.bytes(last.offset, last.header.padded_bytes())?.to_vec();
    let path = segment.path().to_path_buf();
    let file = segment.into_file();
    file.write_all_at(&bytes, last.offset).at("write", &path)?;
    file.sync().at("sync", &path)
}
