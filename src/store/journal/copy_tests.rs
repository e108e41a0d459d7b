//! Copies of a log with fences in it, against a disk that loses power and rots.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tests::{DIR, options};
use super::*;
use crate::domain::Timestamp;
use crate::store::disk::{Disk, Open};
use crate::testing::random::Random;
use crate::testing::sim_disk::{Calls, Failure, Fault, SimDisk, Tear};

fn batch(tip: Tip, payload: &[u8]) -> WholeFrame {
    let count = 1 + payload.len() as u32 % 3;
    tip.batch(&FrameRef { first_lsn: tip.next_lsn, count, at: tip.at.plus_millis(1), payload }).unwrap()
}

/// So many frames that follow `tip`, of which about every fourth is a fence, and some are larger than a segment.
fn frames(mut tip: Tip, count: usize, seed: u64) -> Vec<WholeFrame> {
    let mut random = Random(seed);
    let mut frames = Vec::new();
    for _ in 0..count {
        let payload = |random: &mut Random, bytes: u64| -> Vec<u8> {
            (0..random.below(bytes)).map(|n| n as u8 ^ seed as u8 | 1).collect()
        };
        let frame = match random.below(16) {
            0..4 => tip.fence(&payload(&mut random, FENCE_BYTES_MAX as u64 + 1)).unwrap(),
            4 => batch(tip, &payload(&mut random, 9000)),
            _ => batch(tip, &payload(&mut random, 900)),
        };
        tip = frame.after();
        frames.push(frame);
    }
    frames
}

fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn begin(disk: &SimDisk) -> Result<LocalCopy, Error> {
    LocalCopy::begin(shared(disk), Path::new(DIR), options(), Lsn(0))
}

fn open(disk: &SimDisk, synced: Tip) -> Result<LocalCopy, Error> {
    LocalCopy::open(shared(disk), Path::new(DIR), options(), synced)
}

fn alone(disk: &SimDisk) -> Result<(LocalLog, Recovered), Error> {
    LocalLog::open(shared(disk), Path::new(DIR), options(), Lsn(0))
}

/// A copy of `frames`, synced.
fn copied(frames: &[WholeFrame]) -> SimDisk {
    let disk = SimDisk::new(0);
    let mut copy = begin(&disk).unwrap();
    frames.iter().for_each(|frame| copy.take(frame).unwrap());
    copy.sync().unwrap();
    disk
}

/// The payloads of the batches that a reader finds.
fn read(disk: &SimDisk) -> Vec<Vec<u8>> {
    let last = check(disk, Path::new(DIR), Lsn(0)).unwrap().last_lsn;
    let mut reader = Reader::open(shared(disk), Path::new(DIR), Lsn(1)).unwrap();
    std::iter::from_fn(|| reader.next(last).unwrap()).map(|frame| frame.payload).collect()
}

fn payloads(frames: &[WholeFrame]) -> Vec<Vec<u8>> {
    frames.iter().filter(|frame| !frame.is_fence()).map(|frame| frame.payload().to_vec()).collect()
}

fn content(disk: &SimDisk, path: &Path) -> Vec<u8> {
    disk.files().into_iter().find_map(|(it, bytes)| (it == path).then_some(bytes)).unwrap()
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let lsns = segment::list(disk, Path::new(DIR)).unwrap();
    lsns.into_iter().map(|lsn| segment::path(Path::new(DIR), lsn)).collect()
}

/// The format version of each segment, and whether there is a fence in it.
fn versions(disk: &SimDisk) -> Vec<(u32, bool)> {
    let of = |path: PathBuf| {
        let bytes = content(disk, &path);
        let fenced = bytes.chunks(512).any(|block| block.starts_with(b"\xFFbxf\x03\0\0\0"));
        (frame::u32_at(&bytes, 8), fenced)
    };
    segments(disk).into_iter().map(of).collect()
}

#[test]
fn readers_of_events_never_see_fences() {
    for seed in 0..20 {
        let frames = frames(Tip::default(), 60, seed);
        let disk = copied(&frames);
        let report = check(&disk, Path::new(DIR), Lsn(0)).unwrap();
        let fences = frames.iter().filter(|frame| frame.is_fence()).count() as u64;
        let last = frames[59].after();
        assert!(fences > 5, "seed {seed}");
        assert_eq!((report.fences, report.frames), (fences, 60 - fences), "seed {seed}");
        assert_eq!((report.last_lsn.next(), report.last_at), (last.next_lsn, last.at), "seed {seed}");
        assert_eq!(read(&disk), payloads(&frames), "seed {seed}");
        let mut whole = Reader::open(shared(&disk), Path::new(DIR), Lsn(1)).unwrap();
        let found = std::iter::from_fn(|| whole.next_whole().unwrap()).map(|frame| frame.payload);
        assert_eq!(found.collect::<Vec<_>>(), payloads(&frames), "seed {seed}");
    }
}

#[test]
fn segments_with_fences_have_format_2_and_others_stay_1() {
    let disk = SimDisk::new(0);
    let mut copy = begin(&disk).unwrap();
    let mut take = |payload: Option<&[u8]>| {
        let frame = payload.map_or_else(|| copy.tip().fence(b"f").unwrap(), |payload| batch(copy.tip(), payload));
        copy.take(&frame).unwrap();
    };
    (0..8).for_each(|_| take(Some(&[1; 400])));
    assert_eq!(versions(&disk), [(1, false), (1, false)]);
    take(None);
    take(None);
    assert_eq!(versions(&disk), [(1, false), (1, false), (2, true)]);
    (0..8).for_each(|_| take(Some(&[1; 400])));
    assert_eq!(versions(&disk), [(1, false), (1, false), (2, true), (1, false)]);
}

#[test]
fn a_journal_of_batches_is_the_same_bytes_whoever_writes_it() {
    let frames: Vec<_> = frames(Tip::default(), 60, 3).into_iter().filter(|frame| !frame.is_fence()).collect();
    let (mut tip, mut chained) = (Tip::default(), Vec::new());
    let disk = SimDisk::new(0);
    let (mut log, _) = alone(&disk).unwrap();
    for frame in &frames {
        let of = FrameRef { first_lsn: tip.next_lsn, count: 1, at: frame.after().at, payload: frame.payload() };
        let again = tip.batch(&of).unwrap();
        log.append(&of).unwrap();
        tip = again.after();
        chained.push(again);
    }
    assert_eq!(segments(&disk).len(), segments(&copied(&chained)).len());
    for path in segments(&disk) {
        assert!(content(&disk, &path) == content(&copied(&chained), &path), "{}", path.display());
    }
}

/// Takes frames in until the disk fails, syncs now and then; how far it is known to be synced.
fn follow(disk: &SimDisk, frames: &[WholeFrame]) -> Tip {
    let mut synced = Tip::default();
    let Ok(mut copy) = begin(disk) else { return synced };
    for (n, frame) in frames.iter().enumerate() {
        if copy.take(frame).is_err() {
            break;
        }
        if n % 7 == 6 {
            let Ok(tip) = copy.sync() else { break };
            synced = tip;
        }
    }
    synced
}

/// Opens what is left, follows the log from `synced` on, and finds that nothing is missing.
fn recovers(disk: &SimDisk, frames: &[WholeFrame], synced: Tip, place: &str) -> usize {
    let mut copy = open(disk, synced).unwrap_or_else(|error| panic!("{place}: {error}"));
    let ends: Vec<_> = std::iter::once(Tip::default()).chain(frames.iter().map(WholeFrame::after)).collect();
    let from = ends.iter().position(|tip| *tip == synced).unwrap();
    let kept = ends.iter().position(|tip| *tip == copy.end()).unwrap_or_else(|| panic!("{place}: not of the log"));
    assert!(kept >= from, "{place}");
    // What is left is durable, also as a machine that is alone would read it.
    let report = check(&disk.crash(1, Tear::Within), Path::new(DIR), Lsn(0)).unwrap();
    assert_eq!((report.frames + report.fences, report.torn_bytes), (kept as u64, 0), "{place}");
    for frame in &frames[from..] {
        copy.take(frame).unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    copy.sync().unwrap();
    assert_eq!(read(&disk.crash(2, Tear::Within)), payloads(frames), "{place}");
    kept - from
}

#[test]
fn a_power_cut_at_any_call_costs_nothing_that_was_synced_and_the_rest_is_read_again() {
    let frames = frames(Tip::default(), 30, 5);
    let whole = SimDisk::new(0);
    follow(&whole, &frames);
    let (mut cut, mut kept) = (0, 0);
    for after in 0..whole.calls() {
        let disk = SimDisk::new(after);
        disk.fail(Fault { calls: Calls::All, after, failure: Failure::Halt });
        let synced = follow(&disk, &frames);
        for seed in 0..6 {
            let tear = if seed % 2 == 0 { Tear::Whole } else { Tear::Within };
            let crashed = disk.crash(seed, tear);
            // A second power cut in the middle of the recovery.
            let again = disk.crash(seed, tear);
            again.fail(Fault { calls: Calls::All, after: (after * 7 + seed) % 60, failure: Failure::Halt });
            let _ = open(&again, synced);
            let again = again.crash(seed + 100, tear);
            let place = format!("call {after}, seed {seed}");
            let above = recovers(&crashed, &frames, synced, &place);
            recovers(&again, &frames, synced, &format!("{place}, again"));
            (cut, kept) = (cut + u64::from(above == 0), kept + u64::from(above > 0));
        }
    }
    assert!(cut > 50 && kept > 50, "{cut} {kept}");
}

#[test]
fn what_a_failed_sync_took_for_written_is_written_again() {
    let frames = frames(Tip::default(), 20, 5);
    let last = frames[19].after();
    let disk = SimDisk::new(0);
    let mut copy = begin(&disk).unwrap();
    frames.iter().for_each(|frame| copy.take(frame).unwrap());
    disk.fail(Fault { calls: Calls::Syncs, after: 0, failure: Failure::Io });
    copy.sync().unwrap_err();
    assert!(matches!(copy.take(&batch(last, b"x")), Err(Error::Closed)));
    drop(copy);
    let lost = (0..8).filter(|seed| open(&disk.crash(*seed, Tear::Whole), Tip::default()).unwrap().end() != last);
    assert!(lost.count() > 0, "the power cuts take nothing");
    assert_eq!(open(&disk, Tip::default()).unwrap().end(), last);
    for seed in 0..8 {
        assert_eq!(open(&disk.crash(seed, Tear::Whole), last).unwrap().end(), last, "seed {seed}");
    }
}

/// A copy of 20 frames of a block each, six to a segment, of which numbers 3 and 15 (from 0) are fences.
fn uniform() -> (SimDisk, Vec<WholeFrame>) {
    let (mut tip, mut frames) = (Tip::default(), Vec::new());
    for n in 0..20 {
        let frame = if matches!(n, 3 | 15) { tip.fence(&[n; 20]).unwrap() } else { batch(tip, &[n; 399]) };
        tip = frame.after();
        frames.push(frame);
    }
    (copied(&frames), frames)
}

/// Where frame `n` stands.
fn place(disk: &SimDisk, frame: &WholeFrame) -> (PathBuf, u64) {
    let found = segments(disk).into_iter().find_map(|path| {
        let bytes = content(disk, &path);
        let at = bytes.chunks(512).position(|block| block.starts_with(frame.bytes()))?;
        Some((path, at as u64 * 512))
    });
    found.unwrap()
}

#[test]
fn above_what_was_synced_the_first_bad_frame_and_all_behind_it_is_cut_and_below_it_is_damage() {
    let count = uniform().1.len();
    let ends = |frames: &[WholeFrame], n: usize| if n == 0 { Tip::default() } else { frames[n - 1].after() };
    let mut removed = 0;
    for bad in 0..count {
        for synced in 0..=count {
            let (disk, frames) = uniform();
            let (path, offset) = place(&disk, &frames[bad]);
            disk.corrupt(&path, offset + 45, 1).unwrap();
            let before = segments(&disk).len();
            let opened = open(&disk, ends(&frames, synced));
            let here = format!("frame {bad} is bad, {synced} are synced");
            // What lies before the segment that holds the end is not read at a start, as with any journal.
            if bad < synced && !opened.as_ref().is_ok_and(|copy| copy.end() == ends(&frames, count)) {
                let error = opened.map(|_| ()).unwrap_err();
                assert!(matches!(&error, Error::Damaged { file, .. } if *file == path), "{here}: {error}");
                continue;
            }
            let copy = opened.unwrap_or_else(|error| panic!("{here}: {error}"));
            if bad < synced {
                let holding = place(&disk, &frames[synced - 1]).0;
                assert!(path < holding, "{here}");
                continue;
            }
            assert_eq!(copy.end(), ends(&frames, bad), "{here}");
            removed += before - segments(&disk).len();
            drop(copy);
            assert_eq!(check(&disk, Path::new(DIR), Lsn(0)).unwrap().torn_bytes, 0, "{here}");
            recovers(&disk, &frames, ends(&frames, synced), &here);
        }
    }
    assert!(removed > 50, "{removed}");
}

#[test]
fn a_copy_that_ends_before_what_was_synced_is_damaged() {
    let (disk, frames) = uniform();
    let other = frames[19].after().batch(&FrameRef {
        first_lsn: frames[19].after().next_lsn,
        count: 1,
        at: Timestamp::default(),
        payload: b"",
    });
    for synced in [other.unwrap().after(), Tip { crc: 1, ..frames[10].after() }] {
        let error = open(&disk, synced).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
    let error = open(&SimDisk::new(0), frames[0].after()).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn what_is_not_the_logs_is_refused() {
    let (disk, frames) = uniform();
    let mut copy = open(&disk, frames[9].after()).unwrap();
    for wrong in [&frames[9], &frames[11], &frames[19]] {
        assert!(matches!(copy.take(wrong), Err(Error::OutOfOrder { .. })));
    }
    assert_eq!((copy.tip(), copy.end()), (frames[9].after(), frames[19].after()));
    copy.take(&frames[10]).unwrap();
    let error = copy.take(&batch(copy.tip(), b"another")).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(read(&disk), payloads(&frames));
}

#[test]
fn fences_where_no_event_is_do_not_go_with_their_segment() {
    for (sealed, count) in [(false, 1), (false, 30), (true, 1), (true, 30)] {
        let disk = SimDisk::new(0);
        let (mut log, _) = alone(&disk).unwrap();
        if sealed {
            // A link of the chain, as whoever was alone has left it.
            log.seal().unwrap();
        }
        drop(log);
        let mut copy = begin(&disk).unwrap();
        let mut reader = Reader::open(shared(&disk), Path::new(DIR), Lsn(1)).unwrap();
        assert_eq!(reader.next(Lsn(0)).unwrap(), None);
        let base = copy.tip();
        let mut frames = Vec::new();
        for n in 0..count {
            let frame = copy.tip().fence(&[n; 400]).unwrap();
            copy.take(&frame).unwrap();
            frames.push(frame);
        }
        for bytes in [9000, 10] {
            let frame = batch(copy.tip(), &vec![1; bytes]);
            copy.take(&frame).unwrap();
            frames.push(frame);
        }
        copy.sync().unwrap();
        let last = copy.tip();
        drop(copy);
        let place = format!("sealed {sealed}, {count} fences");
        assert_eq!(read(&disk), payloads(&frames), "{place}");
        assert_eq!(check(&disk, Path::new(DIR), Lsn(0)).unwrap().fences, u64::from(count), "{place}");
        let of_reader = std::iter::from_fn(|| reader.next(Lsn(last.next_lsn.0 - 1)).unwrap());
        assert_eq!(of_reader.map(|frame| frame.payload).collect::<Vec<_>>(), payloads(&frames), "{place}");
        for synced in [base, frames[0].after(), last] {
            assert_eq!(open(&disk, synced).unwrap().end(), last, "{place}");
        }
    }
}

#[test]
fn who_is_alone_again_goes_on_behind_fences() {
    for last in ["batch", "fence", "fence in an empty segment"] {
        let disk = SimDisk::new(0);
        let mut copy = begin(&disk).unwrap();
        let mut take = |frame: WholeFrame| {
            copy.take(&frame).unwrap();
            copy.tip()
        };
        let mut tip = Tip::default();
        if last != "fence in an empty segment" {
            tip = take(batch(tip, b"1"));
        }
        tip = take(tip.fence(b"f").unwrap());
        if last == "batch" {
            tip = take(batch(tip, b"2"));
        }
        copy.sync().unwrap();
        drop(copy);
        for bytes in [10, 9000] {
            let disk = disk.crash(0, Tear::Whole);
            let (mut log, recovered) = alone(&disk).unwrap();
            assert_eq!((recovered.last_lsn.next(), recovered.last_at), (tip.next_lsn, tip.at), "{last}");
            let payload = vec![7; bytes];
            log.append(&FrameRef { first_lsn: tip.next_lsn, count: 1, at: tip.at, payload: &payload }).unwrap();
            log.seal().unwrap();
            let report = check(&disk, Path::new(DIR), tip.next_lsn).unwrap();
            assert_eq!((report.fences, report.sealed), (1, true), "{last}, {bytes} bytes");
            assert_eq!(read(&disk).last(), Some(&payload), "{last}, {bytes} bytes");
        }
    }
}

#[test]
fn every_flipped_byte_of_a_fence_is_refused_or_cut_off_at_the_end() {
    let (disk, frames) = uniform();
    let (path, offset) = place(&disk, &frames[3]);
    for byte in offset..offset + 512 {
        disk.corrupt(&path, byte, 1 << (byte % 8)).unwrap();
        let error = check(&disk, Path::new(DIR), Lsn(0)).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "byte {byte}: {error}");
        disk.corrupt(&path, byte, 1 << (byte % 8)).unwrap();
    }
    check(&disk, Path::new(DIR), Lsn(0)).unwrap();

    // At the end of a journal of a machine that is alone.
    let disk = copied(&frames[..4]);
    let (path, offset) = place(&disk, &frames[3]);
    for byte in offset..offset + 40 {
        disk.corrupt(&path, byte, 1 << (byte % 8)).unwrap();
        let report = check(&disk, Path::new(DIR), Lsn(0)).unwrap();
        assert_eq!((report.frames, report.fences), (3, 0), "byte {byte}");
        assert!(report.torn_bytes > 0, "byte {byte}");
        disk.corrupt(&path, byte, 1 << (byte % 8)).unwrap();
    }
}

#[test]
fn a_fence_in_a_segment_of_format_1_is_none() {
    let (disk, frames) = uniform();
    let (path, _) = place(&disk, &frames[3]);
    let mut header = content(&disk, &path)[..512].to_vec();
    header[8] = 1;
    let crc = crc32fast::hash(&header[..508]);
    header[508..].copy_from_slice(&crc.to_le_bytes());
    let file = disk.open(&path, Open::Write).unwrap();
    file.write_all_at(&header, 0).unwrap();
    let error = check(&disk, Path::new(DIR), Lsn(0)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("of a format without"), "{error}");
}

#[test]
fn frames_are_read_whole_or_not_at_all() {
    let frames = frames(Tip::default(), 12, 9);
    for frame in &frames {
        assert_eq!(WholeFrame::read(frame.bytes()).unwrap(), *frame);
        for length in [0, 39, frame.bytes().len() - 1] {
            WholeFrame::read(&frame.bytes()[..length]).unwrap_err();
        }
        WholeFrame::read(&[frame.bytes(), &[0]].concat()).unwrap_err();
        for byte in 0..frame.bytes().len().min(200) {
            let mut bytes = frame.bytes().to_vec();
            bytes[byte] ^= 1;
            WholeFrame::read(&bytes).unwrap_err();
        }
    }
    assert_eq!(Tip::default().fence(&[0; FENCE_BYTES_MAX + 1]), None);
    let none = FrameRef { first_lsn: Lsn(1), count: 0, at: Timestamp::default(), payload: b"" };
    for wrong in [none, FrameRef { count: 1, first_lsn: Lsn(2), ..none }] {
        assert_eq!(Tip::default().batch(&wrong), None);
    }
    let last = FrameRef { first_lsn: Lsn(u64::MAX), count: 1, ..none };
    assert_eq!(Tip { next_lsn: Lsn(u64::MAX), ..Tip::default() }.batch(&last), None);
}

#[test]
fn every_place_of_a_chain_can_be_gone_on_from_by_who_copies_it() {
    for seed in 0..20 {
        let frames = frames(Tip::default(), 60, seed);
        let (disk, last) = (copied(&frames), frames[59].after());
        let of_disk = Frames::in_dir(shared(&disk), Path::new(DIR).parent().unwrap());
        let mut tip = Tip::default();
        for frame in &frames {
            let here = format!("seed {seed}, behind lsn {}, crc {}", tip.next_lsn.0 - 1, tip.crc);
            let mut reader = of_disk.after(tip).unwrap_or_else(|error| panic!("{here}: {error}"));
            assert_eq!(reader.next_link_bytes(last).unwrap(), Some(frame.bytes().len()), "{here}");
            assert_eq!(reader.link().unwrap(), *frame, "{here}");
            tip = frame.after();
        }
        assert_eq!(of_disk.after(last).unwrap().next_link_bytes(last).unwrap(), None);
        for wrong in [Tip { crc: !last.crc, ..last }, Tip { next_lsn: Lsn(0), ..last }] {
            assert!(of_disk.after(wrong).is_err());
        }
    }
}
