//! Checking a journal, and finding its end. Nothing in here writes.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

use super::Error;
use super::Tip;
use super::frame::{self, Kind};
use super::segment::{self, FIRST_FRAME, Found, Segment};
use crate::domain::{Lsn, Timestamp};
use crate::store::disk::{Disk, Open};

/// What a full check of a journal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// How many segment files there are.
    pub segments: usize,
    /// How many batches.
    pub frames: u64,
    /// How many events.
    pub events: u64,
    /// How often another node of a cluster began to append.
    pub fences: u64,
    /// The lsn of the last event; 0 if there is none.
    pub last_lsn: Lsn,
    /// The time of the last batch; the epoch if there is none.
    pub last_at: Timestamp,
    /// Whether it was ended cleanly.
    pub sealed: bool,
    /// How many bytes at the end belong to a write that was never acknowledged. The next start cuts them off.
    pub torn_bytes: u64,
}

/// Checks every byte of the journal in `dir`. `floor` is the last lsn that it is known to have reached. Writes nothing.
///
/// # Errors
/// The first damage that is found, or what the disk said.
pub fn check(disk: &dyn Disk, dir: &Path, floor: Lsn) -> Result<Report, Error> {
    let scan = scan(disk, dir, floor, Lsn(0))?;
    Ok(Report {
        segments: scan.segments,
        frames: scan.frames,
        events: scan.events,
        fences: scan.fences,
        last_lsn: scan.last_lsn(),
        last_at: scan.last_at(),
        sealed: scan.sealed(),
        torn_bytes: scan.torn.end - scan.torn.start,
    })
}

/// The last good frame of a journal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    /// The first lsn of the segment that it stands in.
    pub segment: Lsn,
    pub offset: u64,
    pub header: frame::Header,
    pub crc: u32,
}

/// What was found in a journal.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub segments: usize,
    pub frames: u64,
    pub events: u64,
    pub fences: u64,
    /// `None` if there is no frame at all.
    pub last: Option<Last>,
    /// The newest segment; `None` if there is none at all.
    pub newest: Option<segment::Header>,
    /// Where the next frame goes in the newest segment, and up to where there is something to be cut off.
    pub torn: Range<u64>,
    /// Segments behind the newest one, in order, which are to be removed.
    pub surplus: Vec<Lsn>,
    /// Where frames stand, by the first lsn of their segment, that may be in the page cache only.
    pub unsynced: Vec<(Lsn, Range<u64>)>,
}

impl Scan {
    pub fn last_lsn(&self) -> Lsn {
        self.last.map_or(Lsn(0), |last| Lsn(last.header.next_lsn().0 - 1))
    }

    pub fn last_at(&self) -> Timestamp {
        self.last.map_or(Timestamp::default(), |last| last.header.at)
    }

    pub fn last_crc(&self) -> u32 {
        self.last.map_or(0, |last| last.crc)
    }

    /// Counts a frame, which is the last one so far.
    pub fn count(&mut self, last: Last) {
        match last.header.kind {
            Kind::Batch => {
                self.frames += 1;
                self.events += u64::from(last.header.count);
            }
            Kind::Fence => self.fences += 1,
            Kind::Seal => {}
        }
        self.last = Some(last);
    }

    pub fn sealed(&self) -> bool {
        self.torn.is_empty() && self.last.is_some_and(|last| last.header.kind == Kind::Seal)
    }
}

/// Checks the headers of all segments, and every frame from the segment on that holds `from`.
pub(super) fn scan(disk: &dyn Disk, dir: &Path, floor: Lsn, from: Lsn) -> Result<Scan, Error> {
    let segments = headers(disk, dir)?;
    let mut start = segments.partition_point(|header| header.first_lsn <= from).saturating_sub(1);
    let scan = loop {
        let scan = walk(disk, dir, &segments, start)?;
        // A segment that was only just begun does not tell the last frame.
        if scan.last.is_some() || start == 0 {
            break scan;
        }
        start -= 1;
    };
    if scan.last_lsn() < floor {
        let file = scan.newest.map_or(dir.to_path_buf(), |newest| segment::path(dir, newest.first_lsn));
        let what = format!("the journal ends at lsn {}, and had reached lsn {floor} before", scan.last_lsn());
        return Err(Error::damaged(&file, scan.torn.start, what));
    }
    Ok(scan)
}

/// The headers of all segments, none of which is missing.
fn headers(disk: &dyn Disk, dir: &Path) -> Result<Vec<segment::Header>, Error> {
    let mut before = Lsn(0);
    let mut headers = Vec::new();
    for first_lsn in segment::list(disk, dir)? {
        let segment = Segment::open(disk, dir, first_lsn, Open::Read)?;
        let expected = segment.header().previous_first_lsn;
        if expected != before {
            let what = format!("the file is missing, and {} follows it", segment.path().display());
            return Err(Error::damaged(&segment::path(dir, expected), 0, what));
        }
        if before == Lsn(0) && first_lsn != Lsn(1) {
            return Err(Error::damaged(segment.path(), 0, "the first segment does not begin with lsn 1"));
        }
        before = first_lsn;
        headers.push(segment.header());
    }
    Ok(headers)
}

/// Checks every frame from the segment numbered `start` on.
fn walk(disk: &dyn Disk, dir: &Path, segments: &[segment::Header], start: usize) -> Result<Scan, Error> {
    let newest = segments.last().copied();
    let mut scan = Scan { segments: segments.len(), newest, ..Scan::default() };
    let Some(first) = segments.get(start) else { return Ok(scan) };
    let mut next = first.first_lsn;
    let mut crc = first.previous_crc;
    for (index, header) in segments.iter().enumerate().skip(start) {
        let mut segment = Segment::open(disk, dir, header.first_lsn, Open::Read)?;
        if header.previous_crc != crc {
            let what = "the segment does not continue the one before, of which the end may be missing";
            return Err(Error::damaged(segment.path(), 0, what));
        }
        let (end, why) = walk_segment(&mut segment, &mut scan, &mut next, &mut crc)?;
        match segments.get(index + 1) {
            Some(after) if after.first_lsn != next => {
                // The segment after it was begun when this one was complete, so that nothing here can be a torn end.
                let why = why.unwrap_or("there is no frame");
                let what = format!("{why} at lsn {next}, and the next segment begins with lsn {}", after.first_lsn);
                return Err(Error::damaged(segment.path(), end, what));
            }
            _ => scan.torn = end..unused_from(&mut segment, end, why)?,
        }
    }
    Ok(scan)
}

/// Checks the frames of one segment. Returns where the first block is that holds none, and what is wrong there, if
/// anything is.
fn walk_segment(
    segment: &mut Segment,
    scan: &mut Scan,
    next: &mut Lsn,
    crc: &mut u32,
) -> Result<(u64, Option<&'static str>), Error> {
    let mut offset = FIRST_FRAME;
    loop {
        let (header, own_crc) = match segment.frame_at(offset)? {
            Found::Frame(header, own_crc) => (header, own_crc),
            Found::BadPadding => {
                let what = "the frame is whole, but followed by something that was not written";
                return Err(Error::damaged(segment.path(), offset, what));
            }
            Found::Bad(why) => return Ok((offset, Some(why))),
            Found::End => return Ok((offset, None)),
        };
        if header.first_lsn != *next {
            let what = format!("a frame begins with lsn {}, where lsn {next} should be", header.first_lsn);
            return Err(Error::damaged(segment.path(), offset, what));
        }
        if header.previous_crc != *crc {
            return Err(Error::damaged(segment.path(), offset, "the frame does not continue the one before"));
        }
        scan.count(Last { segment: segment.header().first_lsn, offset, header, crc: own_crc });
        (*next, *crc) = (header.next_lsn(), own_crc);
        offset += header.padded_bytes();
    }
}

/// From where on the segment is empty, given that its frames end at `end`.
fn unused_from(segment: &mut Segment, end: u64, why: Option<&'static str>) -> Result<u64, Error> {
    let rest = segment.rest(end)?;
    let Some(frame) = rest.frame else { return Ok(rest.used_to) };
    let why = why.unwrap_or("there is no frame");
    let what = format!("{why}, and yet a whole frame stands behind it at byte {frame}, so that this is no torn end");
    Err(Error::damaged(segment.path(), end, what))
}

/// Checks a copy of a log that others keep, from the segment on that holds its last event up to `synced`: what is to be cut
/// off, and the ends of the frames above `synced` that stay.
pub(super) fn scan_copy(disk: &dyn Disk, dir: &Path, synced: Tip) -> Result<(Scan, VecDeque<Tip>), Error> {
    let segments = headers(disk, dir)?;
    let start = segments.partition_point(|header| header.first_lsn < synced.next_lsn).saturating_sub(1);
    let is_synced = |next: Lsn, crc: u32| (next, crc) == (synced.next_lsn, synced.crc);
    let (mut scan, mut above) = (Scan::default(), VecDeque::new());
    let (mut next, mut crc) = segments.get(start).map_or((Lsn(1), 0), |first| (first.first_lsn, first.previous_crc));
    let mut reached = is_synced(next, crc);
    for (index, header) in segments.iter().enumerate().skip(start) {
        let mut segment = Segment::open(disk, dir, header.first_lsn, Open::Read)?;
        let (mut offset, mut unsynced_from) = (FIRST_FRAME, reached.then_some(FIRST_FRAME));
        while let Found::Frame(frame, own_crc) = segment.frame_at(offset)? {
            if (frame.first_lsn, frame.previous_crc) != (next, crc) {
                break;
            }
            scan.count(Last { segment: header.first_lsn, offset, header: frame, crc: own_crc });
            (next, crc) = (frame.next_lsn(), own_crc);
            offset += frame.padded_bytes();
            if reached {
                above.push_back(Tip { next_lsn: next, at: frame.at, crc });
            } else if is_synced(next, crc) {
                (reached, unsynced_from) = (true, Some(offset));
            }
        }
        if let Some(from) = unsynced_from.filter(|from| *from < offset) {
            scan.unsynced.push((header.first_lsn, from..offset));
        }
        (scan.segments, scan.newest) = (index + 1, Some(*header));
        let goes_on = |after: &segment::Header| (after.first_lsn, after.previous_crc) == (next, crc);
        if segments.get(index + 1).is_some_and(goes_on) {
            continue;
        }
        if !reached {
            let what =
                format!("the copy had been synced up to lsn {}, and is whole up to {next} only", synced.next_lsn);
            return Err(Error::damaged(segment.path(), offset, what));
        }
        scan.torn = offset..segment.used_to(offset)?;
        scan.surplus = segments[index + 1..].iter().map(|header| header.first_lsn).collect();
        break;
    }
    if !reached {
        return Err(Error::damaged(&segment::path(dir, Lsn(1)), 0, "the file is missing"));
    }
    Ok((scan, above))
}
