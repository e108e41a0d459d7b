//! Reading a journal from any lsn on, while it is being written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{self, Kind, OwnedFrame};
use super::segment::{self, FIRST_FRAME, Found, Segment};
use super::{Error, Tip, WholeFrame};
use crate::domain::{Lsn, Timestamp};
use crate::store::disk::{Disk, Open};

/// Reads batches in order. Any number of readers may run beside the writer, in any thread.
///
/// After an error a reader is of no more use.
pub struct Reader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment: Segment,
    /// Where the next frame is.
    offset: u64,
    /// The lsn that the next frame begins with.
    next_lsn: Lsn,
    /// The CRC of the frame before.
    crc: u32,
    /// The first lsn that is wanted.
    from: Lsn,
}

impl Reader {
    /// A reader whose first batch is the one that holds `from`, or that will.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the journal is, or if there is none; else what the disk said.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, from: Lsn) -> Result<Self, Error> {
        let from = from.max(Lsn(1));
        let segments = segment::list(&*disk, dir)?;
        let index = segments.partition_point(|first_lsn| *first_lsn <= from);
        let Some(first_lsn) = index.checked_sub(1).map(|index| segments[index]) else {
            return Err(Error::damaged(&segment::path(dir, Lsn(1)), 0, "the file is missing"));
        };
        let segment = Segment::open(&*disk, dir, first_lsn, Open::Read)?;
        let crc = segment.header().previous_crc;
        Ok(Self { disk, dir: dir.to_path_buf(), segment, offset: FIRST_FRAME, next_lsn: first_lsn, crc, from })
    }

    /// A reader that begins with a segment, before all batches with a time of `at` or later: times do not go back in a journal.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn since(disk: Arc<dyn Disk>, dir: &Path, at: Timestamp) -> Result<Self, Error> {
        let segments = segment::list(&*disk, dir)?;
        // One that begins before that time may hold it; so may the last that does, and those behind it.
        let (mut first, mut end) = (0, segments.len());
        while first < end {
            let middle = usize::midpoint(first, end);
            let mut segment = Segment::open(&*disk, dir, segments[middle], Open::Read)?;
            match segment.frame_at(FIRST_FRAME)? {
                Found::Frame(header, _) if header.at < at => first = middle + 1,
                _ => end = middle,
            }
        }
        let from = segments.get(first.saturating_sub(1)).copied().unwrap_or(Lsn(1));
        Self::open(disk, dir, from)
    }

    /// Leaves out the batches that end before `from`. What is behind it already stays behind.
    pub fn skip_to(&mut self, from: Lsn) {
        self.from = self.from.max(from);
    }

    /// The next batch, or `None` if it does not end at or before `limit`. `limit` must be durable, as told by the
    /// writer: nothing past it is looked at.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a batch is not there that should be; else what the disk said.
    pub fn next(&mut self, limit: Lsn) -> Result<Option<OwnedFrame>, Error> {
        while self.next_lsn <= limit {
            let (header, crc) = self.frame()?;
            let after = self.offset + header.padded_bytes();
            let skip = header.kind != Kind::Batch || header.next_lsn() <= self.from;
            if !skip && header.next_lsn() > limit.next() {
                return Ok(None);
            }
            let read = if skip { None } else { Some(self.read(&header)?) };
            (self.offset, self.next_lsn, self.crc) = (after, header.next_lsn(), crc);
            if read.is_some() {
                return Ok(read);
            }
        }
        Ok(None)
    }

    /// Goes on to the end of the chain `tip`.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the journal never ended there.
    pub(super) fn go_to(&mut self, tip: Tip) -> Result<(), Error> {
        while (self.next_lsn, self.crc) != (tip.next_lsn, tip.crc) {
            if self.next_lsn > tip.next_lsn {
                return Err(self.damaged("the journal has other frames than were asked for"));
            }
            let (header, crc) = self.frame()?;
            self.offset += header.padded_bytes();
            (self.next_lsn, self.crc) = (header.next_lsn(), crc);
        }
        Ok(())
    }

    /// How many bytes the next frame has, whatever it is for; `None` at the end `until`, which must be durable.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_link_bytes(&mut self, until: Tip) -> Result<Option<usize>, Error> {
        if (self.next_lsn, self.crc) == (until.next_lsn, until.crc) {
            return Ok(None);
        }
        Ok(Some(self.frame()?.0.bytes()))
    }

    /// The next frame, which is known to be there.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn link(&mut self) -> Result<WholeFrame, Error> {
        let (header, crc) = self.frame()?;
        let bytes = self.segment.bytes(self.offset, header.padded_bytes())?;
        let frame = WholeFrame::read_of_chain(&bytes[..header.bytes()]).map_err(str::to_owned);
        let frame = frame.map_err(|why| self.damaged(&why))?;
        self.offset += header.padded_bytes();
        (self.next_lsn, self.crc) = (header.next_lsn(), crc);
        Ok(frame)
    }

    /// The next batch that is whole, durable or not, of a journal that another process may be writing; `None` where
    /// nothing follows yet.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_whole(&mut self) -> Result<Option<OwnedFrame>, Error> {
        loop {
            let (header, crc) = match self.frame() {
                Ok(found) => found,
                Err(Error::Damaged { .. }) if !self.goes_on()? => return Ok(None),
                // Batches are written one after another: since one behind it is there, this one must be by now.
                Err(Error::Damaged { .. }) => self.frame()?,
                Err(error) => return Err(error),
            };
            let is_batch = header.kind == Kind::Batch;
            let frame = if is_batch { Some(self.read(&header)?) } else { None };
            self.offset += header.padded_bytes();
            (self.next_lsn, self.crc) = (header.next_lsn(), crc);
            if frame.is_some() {
                return Ok(frame);
            }
        }
    }

    /// Whether there is anything whole behind the place where the next frame should be.
    fn goes_on(&self) -> Result<bool, Error> {
        let here = self.segment.header();
        let newest = segment::list(&*self.disk, &self.dir)?.last().copied();
        if newest.is_some_and(|newest| newest > here.first_lsn) {
            return Ok(true);
        }
        let mut segment = Segment::open(&*self.disk, &self.dir, here.first_lsn, Open::Read)?;
        Ok(segment.header() != here || segment.rest(self.offset)?.frame.is_some())
    }

    fn read(&mut self, header: &frame::Header) -> Result<OwnedFrame, Error> {
        let bytes = self.segment.bytes(self.offset, header.padded_bytes())?;
        let payload = header.payload(bytes).to_vec();
        Ok(OwnedFrame { first_lsn: header.first_lsn, count: header.count, at: header.at, payload })
    }

    /// The next frame, which is known to be there, and its CRC.
    fn frame(&mut self) -> Result<(frame::Header, u32), Error> {
        // What is in memory may have been read before the frame was written.
        let mut fresh = false;
        loop {
            match self.segment.frame_at(self.offset)? {
                Found::Frame(header, crc) if header.first_lsn == self.next_lsn && header.previous_crc == self.crc => {
                    return Ok((header, crc));
                }
                _ if !fresh => {
                    self.segment.refresh();
                    fresh = true;
                }
                Found::End => {
                    self.next_segment()?;
                    fresh = false;
                }
                Found::Frame(..) => return Err(self.damaged("the frame does not continue the one before")),
                Found::BadPadding => {
                    return Err(self.damaged("the frame is followed by something that was not written"));
                }
                Found::Bad(why) => return Err(self.damaged(why)),
            }
        }
    }

    /// Goes on to the segment that begins with the next lsn.
    fn next_segment(&mut self) -> Result<(), Error> {
        let missing = format!("there is no frame, where lsn {} should be", self.next_lsn);
        if segment::list(&*self.disk, &self.dir)?.binary_search(&self.next_lsn).is_err() {
            return Err(self.damaged(&missing));
        }
        let here = self.segment.header();
        let segment = Segment::open(&*self.disk, &self.dir, self.next_lsn, Open::Read)?;
        if segment.header() == here {
            return Err(self.damaged(&missing));
        }
        // A segment without events can have been replaced, under its own name, by a larger one.
        let replaced = here.first_lsn == self.next_lsn;
        let crc = if replaced { here.previous_crc } else { self.crc };
        if segment.header().previous_crc != crc {
            return Err(Error::damaged(segment.path(), 0, "the segment does not continue the one before"));
        }
        (self.segment, self.offset, self.crc) = (segment, FIRST_FRAME, crc);
        Ok(())
    }

    fn damaged(&self, what: &str) -> Error {
        Error::damaged(self.segment.path(), self.offset, what)
    }
}
