//! The journal against a disk that loses power, fails and rots.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::preallocate::Preallocator;
use super::*;
use crate::domain::Timestamp;
use crate::store::disk::{Disk, Open, RealDisk};
use crate::testing::failing_disk::FailingDisk;
use crate::testing::lines::Lines;
use crate::testing::lying_disk::LyingDisk;
use crate::testing::sim_disk::{Calls, Failure, Fault, SimDisk, Tear};

pub(super) const DIR: &str = "/journal";

/// Small segments, so that a few batches fill several.
pub(super) fn options() -> Options {
    Options {
        segment_bytes: 4096,
        payload_bytes_max: 20_000,
        reserve_bytes: 0,
        fill_bytes: 2048,
        preallocate: Preallocate::Inline,
        space_retry: Duration::from_millis(1),
        check_from: Lsn(0),
    }
}

/// A disk that can be handed to the journal and kept.
trait Handle: Disk + Clone {
    fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
}

impl<D: Disk + Clone> Handle for D {}

fn open(disk: &impl Handle, options: Options, floor: Lsn) -> Result<(LocalLog, Recovered), Error> {
    LocalLog::open(disk.shared(), Path::new(DIR), options, floor)
}

/// Batch number `n`, beginning with `first_lsn`: 1 to 3 events, and now and then a payload of several blocks, one byte
/// short of a block, or larger than a segment.
fn batch(n: u64, first_lsn: Lsn) -> OwnedFrame {
    let length = match n % 8 {
        0 => 0,
        2 => 1500,
        3 => 512 - 40,
        5 => 9000,
        6 => 2700,
        other => 60 * other as usize,
    };
    OwnedFrame {
        first_lsn,
        count: 1 + (n % 3) as u32,
        at: Timestamp::from_millis(1000 + n),
        payload: (0..length).map(|i| (n as usize * 31 + i) as u8 | 1).collect(),
    }
}

fn batches(count: u64) -> Vec<OwnedFrame> {
    let mut next = Lsn(1);
    (0..count)
        .map(|n| {
            let batch = batch(n, next);
            next = batch.last_lsn().next();
            batch
        })
        .collect()
}

fn append(log: &mut LocalLog, batch: &OwnedFrame) -> Result<(), Error> {
    let OwnedFrame { first_lsn, count, at, ref payload } = *batch;
    log.append(&FrameRef { first_lsn, count, at, payload })
}

fn read(disk: Arc<dyn Disk>, from: Lsn, limit: Lsn) -> Result<Vec<OwnedFrame>, Error> {
    let mut reader = Reader::open(disk, Path::new(DIR), from)?;
    std::iter::from_fn(|| reader.next(limit).transpose()).collect()
}

/// How many of `batches` end at or before `last_lsn`.
fn held(batches: &[OwnedFrame], last_lsn: Lsn) -> usize {
    batches.partition_point(|batch| batch.last_lsn() <= last_lsn)
}

/// A journal of so many batches; appends until the disk fails.
fn run(disk: &impl Handle, batches: &[OwnedFrame], seal_after: &[usize]) -> usize {
    let mut acknowledged = 0;
    let Ok((mut log, _)) = open(disk, options(), Lsn(0)) else { return 0 };
    for batch in batches {
        if append(&mut log, batch).is_err() {
            break;
        }
        acknowledged += 1;
        if seal_after.contains(&acknowledged) {
            if log.seal().is_err() {
                break;
            }
            let Ok((again, recovered)) = open(disk, options(), batch.last_lsn()) else { break };
            assert_eq!((recovered.sealed, recovered.last_lsn, recovered.last_at), (true, batch.last_lsn(), batch.at));
            log = again;
        }
    }
    acknowledged
}

/// Opens the journal and tells what is lost or wrong, if `acknowledged` of `batches` were.
fn lost(disk: &impl Handle, batches: &[OwnedFrame], acknowledged: usize) -> Option<String> {
    let floor = batches[..acknowledged].last().map_or(Lsn(0), OwnedFrame::last_lsn);
    let recovered = match open(disk, options(), floor) {
        Ok((_, recovered)) => recovered,
        Err(error) => return Some(error.to_string()),
    };
    let found = held(batches, recovered.last_lsn);
    if !(acknowledged..=acknowledged + 1).contains(&found) {
        return Some(format!("{found} batches are there, and {acknowledged} were acknowledged"));
    }
    let last_at = batches[..found].last().map_or(Timestamp::default(), |batch| batch.at);
    if recovered.last_at != last_at {
        return Some(format!("last time is {}", recovered.last_at));
    }
    match read(disk.shared(), Lsn(1), recovered.last_lsn) {
        Ok(read) if read == batches[..found] => {}
        Ok(_) => return Some("other batches are read than were written".into()),
        Err(error) => return Some(error.to_string()),
    }
    match check(disk, Path::new(DIR), floor) {
        Ok(report) if report.frames == found as u64 && report.torn_bytes == 0 => None,
        other => Some(format!("{other:?}")),
    }
}

const BATCHES: u64 = 16;
const SEALS: [usize; 2] = [4, 11];

fn calls_of_a_run() -> u64 {
    let disk = SimDisk::new(0);
    assert_eq!(run(&disk, &batches(BATCHES), &SEALS), BATCHES as usize);
    disk.calls()
}

#[test]
fn what_was_appended_is_read() {
    let batches = batches(40);
    let disk = SimDisk::new(0);
    assert_eq!(run(&disk, &batches, &[3, 4, 20]), 40);
    let last = batches[39].last_lsn();
    assert_eq!(lost(&disk, &batches, 40), None);
    for from in 0..=last.0 + 1 {
        let wanted = &batches[held(&batches, Lsn(from.saturating_sub(1)))..];
        assert_eq!(read(disk.shared(), Lsn(from), last).unwrap(), wanted, "from {from}");
        let limit = last.min(Lsn(from));
        let within = &batches[..held(&batches, limit)];
        assert_eq!(read(disk.shared(), Lsn(0), limit).unwrap(), within, "up to {limit}");
    }
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_that_was_acknowledged() {
    let batches = batches(BATCHES);
    let mut torn = 0;
    for after in 0..calls_of_a_run() {
        let disk = SimDisk::new(after);
        disk.fail(Fault { calls: Calls::All, after, failure: Failure::Halt });
        let acknowledged = run(&disk, &batches, &SEALS);
        for seed in 0..8 {
            let tear = if seed % 2 == 0 { Tear::Whole } else { Tear::Within };
            let crashed = disk.crash(seed, tear);
            let again = crashed.crash(seed, tear);
            torn += u64::from(check(&crashed, Path::new(DIR), Lsn(0)).unwrap().torn_bytes > 0);
            assert_eq!(lost(&crashed, &batches, acknowledged), None, "call {after}, seed {seed}");

            // A second power cut during the recovery that follows, and another recovery. Not at each of its calls for each
            // call of the run, but at each of them for some.
            let _ = open(&again, options(), Lsn(0));
            for call in (after % 6..again.calls()).step_by(6) {
                let again = disk.crash(seed, tear);
                again.fail(Fault { calls: Calls::All, after: call, failure: Failure::Halt });
                let _ = open(&again, options(), Lsn(0));
                let again = again.crash(seed + 100, tear);
                let place = format!("call {after}, seed {seed}, then call {call}");
                assert_eq!(lost(&again, &batches, acknowledged), None, "{place}");
            }
        }
    }
    assert!(torn > 20, "the power cuts tear too little to show anything: {torn}");
}

#[test]
fn the_crash_test_notices_a_disk_that_does_not_sync() {
    let batches = batches(BATCHES);
    for about_dirs in [false, true] {
        let mut losses = 0;
        for after in (0..calls_of_a_run()).step_by(5) {
            let disk = SimDisk::new(after);
            disk.fail(Fault { calls: Calls::All, after, failure: Failure::Halt });
            let acknowledged = run(&LyingDisk { disk: disk.clone(), about_dirs }, &batches, &[]);
            losses += u64::from(lost(&disk.crash(after, Tear::Whole), &batches, acknowledged).is_some());
        }
        assert!(losses > 5, "about_dirs {about_dirs}: {losses}");
    }
}

#[test]
fn after_any_failed_call_the_log_is_closed_and_nothing_acknowledged_is_lost() {
    let batches = batches(BATCHES);
    for (calls, failure) in [
        (Calls::All, Failure::Io),
        (Calls::All, Failure::NoSpace),
        (Calls::Syncs, Failure::Io),
        (Calls::Writes, Failure::Io),
    ] {
        for after in 0..calls_of_a_run() {
            let place = format!("{failure:?} at call {after} of {calls:?}");
            let disk = SimDisk::new(after);
            disk.fail(Fault { calls, after, failure });
            let mut acknowledged = 0;
            if let Ok((mut log, _)) = open(&disk, options(), Lsn(0)) {
                acknowledged = batches.iter().take_while(|batch| append(&mut log, batch).is_ok()).count();
                if acknowledged < batches.len() {
                    let refused = append(&mut log, &batches[acknowledged]);
                    assert!(matches!(refused, Err(Error::Closed)), "{place}");
                    assert!(matches!(log.seal(), Err(Error::Closed)), "{place}");
                }
            }
            disk.heal();
            assert_eq!(lost(&disk.crash(after, Tear::Whole), &batches, acknowledged), None, "{place}, power cut");

            // The process starts again on what the page cache shows, and goes on; then the power goes.
            let (mut log, recovered) = open(&disk, options(), Lsn(0)).unwrap();
            let found = held(&batches, recovered.last_lsn);
            for seed in 0..4 {
                let told = disk.crash(seed, Tear::Whole);
                assert_eq!(lost(&told, &batches, found), None, "{place}, restart, power cut {seed}");
            }
            let goes_on = batches[found..].iter().try_for_each(|batch| append(&mut log, batch));
            assert!(goes_on.is_ok(), "{place}: {goes_on:?}");
            drop(log);
            let crashed = disk.crash(after, Tear::Whole);
            assert_eq!(lost(&crashed, &batches, batches.len()), None, "{place}, restart, appends, power cut");
        }
    }
}

/// Every segment's path and size.
fn files(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let lsns = segment::list(disk, Path::new(DIR)).unwrap();
    let paths = lsns.into_iter().map(|lsn| segment::path(Path::new(DIR), lsn));
    paths.map(|path| (path.clone(), disk.open(&path, Open::Read).unwrap().size().unwrap())).collect()
}

#[test]
fn every_flipped_byte_is_refused_or_cut_off_at_the_unacknowledged_end() {
    // Three segments, the middle one of a batch that is larger than the others.
    let options = Options { segment_bytes: 2048, ..options() };
    for sealed in [false, true] {
        let disk = SimDisk::new(0);
        let (mut log, _) = open(&disk, options.clone(), Lsn(0)).unwrap();
        batches(5).iter().for_each(|batch| append(&mut log, batch).unwrap());
        if sealed {
            log.seal().unwrap();
        }
        assert_eq!(files(&disk).len(), 3);
        let whole = recovery::scan(&disk, Path::new(DIR), Lsn(0), Lsn(0)).unwrap();
        let (last, last_lsn) = (whole.last.unwrap(), whole.last_lsn());
        assert_eq!(whole.sealed(), sealed);
        let newest = segment::path(Path::new(DIR), last.segment);
        let (mut refused, mut cut, mut unused) = (0, 0, 0);
        for (path, size) in files(&disk) {
            for offset in 0..size {
                let xor = 1 << (offset % 8);
                disk.corrupt(&path, offset, xor).unwrap();
                let place = format!("{} byte {offset}, sealed {sealed}", path.display());
                let in_last = path == newest && (last.offset..whole.torn.start).contains(&offset);
                match recovery::scan(&disk, Path::new(DIR), Lsn(0), Lsn(0)) {
                    Err(Error::Damaged { .. } | Error::UnsupportedVersion { .. }) => refused += 1,
                    Err(error) => panic!("{place}: {error}"),
                    Ok(scan) if scan.last_lsn() == last_lsn && !in_last => {
                        // Space that was never written; what stands there is no frame, and is cut off or passed over.
                        assert!(path != newest || scan.torn.end > scan.torn.start, "{place}");
                        unused += 1;
                    }
                    Ok(scan) => {
                        assert!(in_last && scan.torn == (last.offset..scan.torn.end) && !scan.sealed(), "{place}");
                        // A seal holds no event, so that cutting it off loses none.
                        assert_eq!(scan.last_lsn() == last_lsn, sealed, "{place}");
                        let told = recovery::scan(&disk, Path::new(DIR), last_lsn, Lsn(0));
                        assert_eq!(told.is_ok(), sealed, "{place}: the floor is not held");
                        cut += 1;
                    }
                }
                disk.corrupt(&path, offset, xor).unwrap();
            }
        }
        assert!(refused > 5000 && cut >= 40 && unused > 1000, "{refused} {cut} {unused}");
    }
}

/// Rewrites a file as a stray hand would.
fn overwrite(disk: &SimDisk, path: &Path, offset: u64, bytes: &[u8]) {
    let file = disk.open(path, Open::Write).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.sync().unwrap();
}

fn content(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, Open::Read).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn copy(disk: &SimDisk, from: &Path, to: &Path, length: usize) {
    let bytes = content(disk, from);
    let _ = disk.remove(to);
    let file = disk.open(to, Open::Create).unwrap();
    file.write_all_at(&bytes[..length.min(bytes.len())], 0).unwrap();
    file.sync().unwrap();
}

/// Four segments of 4,096 bytes: batches of one event and one block each, six to a segment and two in the newest.
fn uniform(disk: &SimDisk) -> Vec<PathBuf> {
    let (mut log, _) = open(disk, options(), Lsn(0)).unwrap();
    for lsn in 1..=20 {
        append(&mut log, &uniform_batch(lsn)).unwrap();
    }
    drop(log);
    disk.remove(&Path::new(DIR).join("next.tmp")).unwrap();
    files(disk).into_iter().map(|(path, _)| path).collect()
}

fn uniform_batch(lsn: u64) -> OwnedFrame {
    OwnedFrame { first_lsn: Lsn(lsn), count: 1, at: Timestamp::from_millis(lsn), payload: vec![lsn as u8; 400] }
}

#[test]
fn every_kind_of_damage_is_refused_by_name_and_changes_nothing() {
    type Damage = fn(&SimDisk, &[PathBuf]);
    // What was done, to which the error must point, and what it must say.
    let table: &[(&str, Damage, usize, &str)] = &[
        ("first segment missing", |d, f| d.remove(&f[0]).unwrap(), 0, "the file is missing"),
        ("segment missing", |d, f| d.remove(&f[1]).unwrap(), 1, "the file is missing"),
        ("newest missing", |d, f| d.remove(&f[3]).unwrap(), 2, "ends at lsn 18, and had reached lsn 20"),
        ("empty", |d, f| copy(d, &f[1], &f[1], 0), 1, "too short"),
        ("cut short", |d, f| copy(d, &f[1], &f[1], 3584), 1, "has 3584 bytes, and was written with 4096"),
        ("newest cut short", |d, f| copy(d, &f[3], &f[3], 1024), 3, "has 1024 bytes"),
        ("longer", |d, f| overwrite(d, &f[1], 4096, &[0; 512]), 1, "has 4608 bytes"),
        ("two swapped", swap, 1, "named otherwise"),
        (
            "copied to another name",
            |d, f| copy(d, &f[1], &segment::path(Path::new(DIR), Lsn(8)), 4096),
            4,
            "named otherwise",
        ),
        ("not a name", |d, f| copy(d, &f[1], &Path::new(DIR).join("8.journal"), 4096), 5, "no segment has such a name"),
        ("header gone", |d, f| overwrite(d, &f[1], 0, &[0; 512]), 1, "does not begin as"),
        ("newest header torn", |d, f| overwrite(d, &f[3], 20, &[9; 99]), 3, "checksum of the segment's header"),
        ("header from elsewhere", |d, f| overwrite(d, &f[2], 0, &foreign()), 2, "does not continue the one before"),
        ("first frame gone", |d, f| overwrite(d, &f[1], 512, &[0; 512]), 1, "there is no frame at lsn 7"),
        (
            "last frame gone, a segment follows",
            |d, f| overwrite(d, &f[1], 3072, &[0; 512]),
            1,
            "there is no frame at lsn 12",
        ),
        (
            "last frame bad, a segment follows",
            |d, f| overwrite(d, &f[1], 3200, b"x"),
            1,
            "checksum does not hold at lsn 12",
        ),
        (
            "frame gone, one follows",
            |d, f| overwrite(d, &f[3], 512, &[0; 512]),
            3,
            "a whole frame stands behind it at byte 1024",
        ),
        (
            "frame bad, one follows",
            |d, f| overwrite(d, &f[3], 600, b"x"),
            3,
            "a whole frame stands behind it at byte 1024",
        ),
        ("length bad, one follows", |d, f| overwrite(d, &f[3], 520, &[255; 4]), 3, "past the end of the file, and yet"),
        (
            "frame stands twice",
            |d, f| overwrite(d, &f[3], 1536, &content(d, &f[3])[1024..1536]),
            3,
            "begins with lsn 20, where lsn 21",
        ),
        ("frame from elsewhere", |d, f| overwrite(d, &f[3], 1024, &forged()), 3, "does not continue the one before"),
        (
            "frame behind the end",
            |d, f| overwrite(d, &f[3], 3584, &content(d, &f[3])[1024..1536]),
            3,
            "a whole frame stands behind it at byte 3584",
        ),
        ("padding written to", |d, f| overwrite(d, &f[3], 1535, b"x"), 3, "followed by something"),
        (
            "acknowledged end gone",
            |d, f| overwrite(d, &f[3], 1024, &[0; 512]),
            3,
            "ends at lsn 19, and had reached lsn 20",
        ),
        ("acknowledged end bad", |d, f| overwrite(d, &f[3], 1100, b"x"), 3, "ends at lsn 19, and had reached lsn 20"),
        ("all gone", |d, f| f.iter().for_each(|file| d.remove(file).unwrap()), 6, "ends at lsn 0"),
    ];
    for (name, damage, file, says) in table {
        let disk = SimDisk::new(0);
        let mut paths = uniform(&disk);
        damage(&disk, &paths);
        paths.push(segment::path(Path::new(DIR), Lsn(8)));
        paths.push(Path::new(DIR).join("8.journal"));
        paths.push(PathBuf::from(DIR));
        let before = snapshot(&disk);
        let checked = check(&disk, Path::new(DIR), Lsn(20)).unwrap_err();
        let opened = open(&disk, options(), Lsn(20)).map(|_| ()).unwrap_err();
        for error in [checked, opened] {
            assert!(error.to_string().contains(says), "{name}: {error}");
            assert!(matches!(&error, Error::Damaged { file: named, .. } if *named == paths[*file]), "{name}: {error}");
        }
        assert!(snapshot(&disk) == before, "{name}: something was changed");
    }
}

fn swap(disk: &SimDisk, files: &[PathBuf]) {
    let spare = Path::new(DIR).join("spare");
    for (from, to) in [(&files[1], &spare), (&files[2], &files[1]), (&spare, &files[2])] {
        disk.rename(from, to).unwrap();
    }
}

/// A good header for segment 13, but not of this journal.
fn foreign() -> [u8; 512] {
    let (first_lsn, previous_first_lsn) = (Lsn(13), Lsn(7));
    segment::Header { version: segment::PLAIN, first_lsn, previous_first_lsn, previous_crc: 1, bytes: 4096 }.encode()
}

/// A good frame for lsn 20, but not of this journal.
fn forged() -> Vec<u8> {
    let mut bytes = Vec::new();
    let (kind, first_lsn, at) = (frame::Kind::Batch, Lsn(20), Timestamp::from_millis(20));
    frame::Header { kind, length: 0, count: 1, first_lsn, at, previous_crc: 1 }.encode(&[], &mut bytes);
    bytes
}

fn snapshot(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(Path::new(DIR)).unwrap();
    names.into_iter().map(|name| (name.clone(), content(disk, &Path::new(DIR).join(name)))).collect()
}

#[test]
fn another_format_version_is_not_touched() {
    let disk = SimDisk::new(0);
    let files = uniform(&disk);
    let mut header = content(&disk, &files[3])[..512].to_vec();
    header[8] = 3;
    let crc = crc32fast::hash(&header[..508]);
    header[508..].copy_from_slice(&crc.to_le_bytes());
    overwrite(&disk, &files[3], 0, &header);
    let error = open(&disk, options(), Lsn(0)).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::UnsupportedVersion { found: 3, supported: 2, .. }), "{error}");
}

#[test]
fn a_torn_end_is_cut_off_zeroed_and_written_over() {
    let torn: &[&[(u64, &[u8])]] = &[
        &[(1536, &[7; 100])],
        // The block where a frame would begin was never written, one behind it was.
        &[(2048, &[7; 512])],
        &[(1536, b"\xFFbxf"), (3000, &[7])],
    ];
    for writes in torn {
        let disk = SimDisk::new(0);
        let files = uniform(&disk);
        for (offset, bytes) in *writes {
            overwrite(&disk, &files[3], *offset, bytes);
        }
        let before = snapshot(&disk);
        let report = check(&disk, Path::new(DIR), Lsn(20)).unwrap();
        assert!(snapshot(&disk) == before, "check has written");
        assert!(report.torn_bytes > 0 && report.last_lsn == Lsn(20), "{report:?}");
        let (mut log, recovered) = open(&disk, options(), Lsn(20)).unwrap();
        assert_eq!((recovered.last_lsn, recovered.torn_bytes), (Lsn(20), report.torn_bytes));
        assert!(content(&disk, &files[3])[1536..].iter().all(|byte| *byte == 0));
        append(&mut log, &uniform_batch(21)).unwrap();
        let report = check(&disk, Path::new(DIR), Lsn(21)).unwrap();
        assert_eq!((report.torn_bytes, report.events, report.segments, report.sealed), (0, 21, 4, false));
    }
}

#[test]
fn a_seal_counts_only_at_the_end() {
    let disk = SimDisk::new(0);
    let files = uniform(&disk);
    let sealed = || check(&disk, Path::new(DIR), Lsn(20)).unwrap().sealed;
    let (mut log, recovered) = open(&disk, options(), Lsn(20)).unwrap();
    assert!(!recovered.sealed);
    log.seal().unwrap();
    assert!(sealed());
    assert!(matches!(append(&mut log, &uniform_batch(21)), Err(Error::Closed)));

    let (mut log, recovered) = open(&disk, options(), Lsn(20)).unwrap();
    assert_eq!((recovered.sealed, recovered.last_at), (true, Timestamp::from_millis(20)));
    let before = content(&disk, &files[3]);
    log.seal().unwrap();
    assert_eq!(content(&disk, &files[3]), before, "sealed twice");

    let (mut log, _) = open(&disk, options(), Lsn(20)).unwrap();
    append(&mut log, &uniform_batch(21)).unwrap();
    assert!(!sealed());
    overwrite(&disk, &files[3], 2048, &[1]);
    let error = check(&disk, Path::new(DIR), Lsn(0)).unwrap();
    assert_eq!((error.last_lsn, error.sealed), (Lsn(20), false), "something was tried after the seal");
}

#[test]
fn old_segments_are_not_read_at_the_start_but_must_be_there() {
    let options = Options { check_from: Lsn(14), ..options() };
    let disk = SimDisk::new(0);
    let files = uniform(&disk);
    overwrite(&disk, &files[1], 600, b"x");
    let (_, recovered) = open(&disk, options.clone(), Lsn(20)).unwrap();
    assert_eq!((recovered.last_lsn, recovered.last_at), (Lsn(20), Timestamp::from_millis(20)));
    check(&disk, Path::new(DIR), Lsn(20)).unwrap_err();
    assert!(read(disk.shared(), Lsn(1), Lsn(20)).is_err());
    overwrite(&disk, &files[2], 600, b"x");
    open(&disk, options.clone(), Lsn(20)).map(|_| ()).unwrap_err();

    let disk = SimDisk::new(0);
    let files = uniform(&disk);
    disk.remove(&files[1]).unwrap();
    let error = open(&disk, options, Lsn(20)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("the file is missing"), "{error}");
}

/// A journal of six batches whose next segment is begun and has no frame, since the write of the seventh failed.
fn just_begun() -> SimDisk {
    for after in 0.. {
        let disk = SimDisk::new(0);
        let (mut log, _) = open(&disk, options(), Lsn(0)).unwrap();
        (1..=6).for_each(|lsn| append(&mut log, &uniform_batch(lsn)).unwrap());
        disk.fail(Fault { calls: Calls::Writes, after, failure: Failure::Halt });
        let refused = append(&mut log, &uniform_batch(7));
        disk.heal();
        if files(&disk).len() == 2 {
            refused.unwrap_err();
            let crashed = disk.crash(1, Tear::Whole);
            overwrite(&crashed, &files(&crashed)[1].0, 512, &[0; 512]);
            return crashed;
        }
    }
    unreachable!()
}

#[test]
fn a_segment_that_was_only_begun_does_not_hide_the_last_frame() {
    let disk = just_begun();
    let (mut log, recovered) = open(&disk, Options { check_from: Lsn(7), ..options() }, Lsn(6)).unwrap();
    assert_eq!((recovered.last_lsn, recovered.last_at), (Lsn(6), Timestamp::from_millis(6)));
    append(&mut log, &uniform_batch(7)).unwrap();
    assert_eq!(read(disk.shared(), Lsn(0), Lsn(7)).unwrap().len(), 7);
}

#[test]
fn a_segment_without_events_gives_way_to_a_larger_one() {
    for disk in [SimDisk::new(0), just_begun()] {
        let (mut log, recovered) = open(&disk, options(), Lsn(0)).unwrap();
        log.seal().unwrap();
        let (mut log, _) = open(&disk, options(), Lsn(0)).unwrap();
        let segments = files(&disk).len();
        let mut reader = Reader::open(disk.shared(), Path::new(DIR), recovered.last_lsn.next()).unwrap();
        assert_eq!(reader.next(recovered.last_lsn).unwrap(), None);
        let large = OwnedFrame { payload: vec![1; 9000], ..uniform_batch(recovered.last_lsn.0 + 1) };
        let small = uniform_batch(recovered.last_lsn.0 + 2);
        append(&mut log, &large).unwrap();
        append(&mut log, &small).unwrap();
        assert_eq!(reader.next(small.first_lsn).unwrap(), Some(large));
        assert_eq!(reader.next(small.first_lsn).unwrap(), Some(small.clone()));
        assert_eq!(reader.next(small.first_lsn).unwrap(), None);
        let report = check(&disk, Path::new(DIR), small.first_lsn).unwrap();
        assert_eq!((report.segments, report.events), (segments + 1, small.first_lsn.0));
    }
}

#[test]
fn what_cannot_follow_is_refused_and_closes_the_log() {
    let disk = SimDisk::new(0);
    uniform(&disk);
    let refused = |batch: OwnedFrame| {
        let (mut log, _) = open(&disk, options(), Lsn(20)).unwrap();
        let error = append(&mut log, &batch).unwrap_err();
        assert!(matches!(append(&mut log, &uniform_batch(21)), Err(Error::Closed)));
        error
    };
    for batch in [uniform_batch(20), uniform_batch(22), OwnedFrame { count: 0, ..uniform_batch(21) }] {
        assert!(matches!(refused(batch), Error::OutOfOrder { expected: Lsn(21), .. }));
    }
    let large = OwnedFrame { payload: vec![0; 20_001], ..uniform_batch(21) };
    assert!(matches!(refused(large), Error::TooLarge { bytes: 20_001, bytes_max: 20_000 }));
    assert_eq!(check(&disk, Path::new(DIR), Lsn(20)).unwrap().last_lsn, Lsn(20));
}

#[test]
fn without_space_the_current_segment_is_used_to_its_end() {
    let disk = SimDisk::new(0);
    let (mut log, _) = open(&disk, options(), Lsn(0)).unwrap();
    let status = log.status();
    disk.set_available_bytes(4095);
    for lsn in 1..=6 {
        append(&mut log, &uniform_batch(lsn)).unwrap();
        assert!(status.space_exhausted());
    }
    // The end of a full segment still takes a seal.
    let full = disk.crash(0, Tear::Whole);
    let (mut again, _) = open(&full, options(), Lsn(6)).unwrap();
    again.seal().unwrap();
    assert!(matches!(append(&mut log, &uniform_batch(7)), Err(Error::OutOfSpace { needed_bytes: 4096, .. })));
    assert_eq!(check(&full, Path::new(DIR), Lsn(6)).unwrap().last_lsn, Lsn(6));

    // What is reserved is not used ahead of need, but before giving up.
    let disk = SimDisk::new(0);
    let options = Options { reserve_bytes: 10_000, ..options() };
    let (mut log, _) = open(&disk, options, Lsn(0)).unwrap();
    let status = log.status();
    disk.set_available_bytes(4096);
    for lsn in 1..=12 {
        append(&mut log, &uniform_batch(lsn)).unwrap();
        assert!(status.space_exhausted(), "{lsn}");
    }
    disk.set_available_bytes(100_000);
    append(&mut log, &uniform_batch(13)).unwrap();
    assert!(!status.space_exhausted());
}

/// Waits for what another thread is about to do.
fn until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "it does not happen");
        std::thread::yield_now();
    }
}

#[test]
fn the_background_thread_waits_for_space_and_reports_failure() {
    let options = Options { preallocate: Preallocate::Background, ..options() };
    let disk = SimDisk::new(0);
    let (mut log, _) = open(&disk, options.clone(), Lsn(0)).unwrap();
    until(|| {
        let next = disk.open(&Path::new(DIR).join("next.tmp"), Open::Read);
        next.is_ok_and(|next| next.size().unwrap() == 4096)
    });
    let status = log.status();
    disk.set_available_bytes(0);
    (1..=12).for_each(|lsn| append(&mut log, &uniform_batch(lsn)).unwrap());
    until(|| status.space_exhausted());
    disk.set_available_bytes(1_000_000);
    until(|| !status.space_exhausted());
    (13..=60).for_each(|lsn| append(&mut log, &uniform_batch(lsn)).unwrap());
    drop(log);

    let (mut log, _) = open(&disk, options, Lsn(60)).unwrap();
    disk.set_available_bytes(0);
    let outcome = (61..=100).try_for_each(|lsn| append(&mut log, &uniform_batch(lsn)));
    assert!(matches!(outcome, Err(Error::OutOfSpace { .. })), "{outcome:?}");
    let last = check(&disk, Path::new(DIR), Lsn(60)).unwrap().last_lsn;
    assert_eq!(read(disk.shared(), Lsn(61), last).unwrap().len() as u64, last.0 - 60);
}

#[test]
fn readers_follow_a_writer_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("journal");
    let options = Options { segment_bytes: 64 << 10, preallocate: Preallocate::Background, ..options() };
    let (mut log, _) = LocalLog::open(Arc::new(RealDisk), &dir, options, Lsn(0)).unwrap();
    let batches = batches(300);
    let durable = std::sync::atomic::AtomicU64::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    let last = batches[299].last_lsn();
    std::thread::scope(|scope| {
        for from in [1, 200] {
            let (dir, batches, durable) = (&dir, &batches, &durable);
            scope.spawn(move || {
                let mut reader = Reader::open(Arc::new(RealDisk), dir, Lsn(from)).unwrap();
                for batch in &batches[held(batches, Lsn(from - 1))..] {
                    until(|| durable.load(order) >= batch.last_lsn().0);
                    assert_eq!(reader.next(Lsn(durable.load(order))).unwrap().as_ref(), Some(batch));
                }
                assert_eq!(reader.next(last).unwrap(), None);
            });
        }
        for batch in &batches {
            append(&mut log, batch).unwrap();
            durable.store(batch.last_lsn().0, order);
        }
    });
    log.seal().unwrap();
    let report = check(&RealDisk, &dir, last).unwrap();
    assert_eq!((report.frames, report.last_lsn, report.sealed), (300, last, true));
    assert!(report.segments > 5);
}

/// Prints what an append costs beside a bare write and sync on the same kind of file.
#[test]
#[ignore = "a measurement: run it with --release --nocapture"]
fn speed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let (mut log, _) = LocalLog::open(Arc::new(RealDisk), &journal, Options::default(), Lsn(0)).unwrap();
    let bare = RealDisk.open(&dir.path().join("bare"), Open::Create).unwrap();
    bare.write_all_at(&vec![0; 64 << 20], 0).unwrap();
    bare.sync().unwrap();
    let mut lsn = 0;
    let mut offset = 0;
    // Twice over: what comes first must not matter.
    for (bytes, times) in [(120, 2000), (120_000, 500), (120, 2000), (120_000, 500)] {
        let payload = vec![7; bytes];
        let start = Instant::now();
        for _ in 0..times {
            lsn += 1;
            let frame = FrameRef { first_lsn: Lsn(lsn), count: 1, at: Timestamp::default(), payload: &payload };
            log.append(&frame).unwrap();
        }
        let appended = start.elapsed() / times;
        let start = Instant::now();
        for _ in 0..times {
            offset = if offset + bytes as u64 > 64 << 20 { 0 } else { offset };
            bare.write_all_at(&payload, offset).unwrap();
            bare.sync().unwrap();
            offset += bytes as u64;
        }
        println!("{bytes} bytes: journal {appended:?}, bare {:?}", start.elapsed() / times);
    }
    log.seal().unwrap();
    let start = Instant::now();
    let mut reader = Reader::open(Arc::new(RealDisk), &journal, Lsn(1)).unwrap();
    let mut bytes = 0;
    while let Some(frame) = reader.next(Lsn(lsn)).unwrap() {
        bytes += frame.payload.len();
    }
    println!("read {bytes} bytes of payload in {:?}", start.elapsed());
    let start = Instant::now();
    drop(log);
    let (_, recovered) = LocalLog::open(Arc::new(RealDisk), &journal, Options::default(), Lsn(lsn)).unwrap();
    println!("opened up to lsn {}, checking all, in {:?}", recovered.last_lsn, start.elapsed());
}

#[test]
fn a_segment_for_which_no_file_can_be_opened_comes_later() {
    let batches = batches(BATCHES);
    let mut put_off = 0;
    for after in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let disk = FailingDisk::default();
        let (mut log, _) =
            LocalLog::open(Arc::new(disk.clone()), &dir.path().join("journal"), options(), Lsn(0)).unwrap();
        disk.fail(after, Failure::NoDescriptor);
        let acknowledged = batches.iter().take_while(|batch| append(&mut log, batch).is_ok()).count();
        let Some(failed) = disk.heal() else { break };
        // Anything else of the journal is the end, also a segment that is needed at once, where nobody waits.
        let (of_next, of_large) = (failed.path.ends_with("next.tmp"), failed.path.ends_with("large.tmp"));
        assert_eq!(acknowledged == batches.len(), of_next, "{failed:?}");
        assert_eq!(log.status().put_off(), u64::from(of_next || of_large), "{failed:?}");
        assert!(!log.status().space_exhausted());
        put_off += u64::from(of_next);
    }
    assert!(put_off > 2, "{put_off}");
}

#[test]
fn each_time_that_a_segment_is_put_off_is_told_once_and_so_is_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FailingDisk::default();
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let segments = Preallocator::start(Arc::new(disk.clone()), dir.path().to_path_buf(), options()).unwrap();
        for episode in 1..=3 {
            for tries in 1..=2 {
                disk.fail(0, Failure::NoDescriptor);
                segments.poll().unwrap();
                assert!(disk.heal().is_some() && segments.status().put_off() == (episode - 1) * 2 + tries);
                let told = (lines.count("cannot be prepared yet"), lines.count("is prepared after all"));
                assert_eq!(told, (episode as usize, episode as usize - 1), "{tries}");
            }
            segments.poll().unwrap();
            assert_eq!(lines.count("is prepared after all"), episode as usize);
            drop(segments.take().unwrap());
            segments.want_next();
        }
    });
}

#[test]
fn what_was_written_since_is_found_by_its_time() {
    let disk = SimDisk::new(0);
    let batches = batches(60);
    assert_eq!(run(&disk, &batches, &[]), batches.len());
    let first_of = |reader: &mut Reader| reader.next(batches[59].last_lsn()).unwrap().unwrap();
    let mut begins = Vec::new();
    for millis in 0..=1_070 {
        let at = Timestamp::from_millis(millis);
        let mut reader = Reader::since(disk.shared(), Path::new(DIR), at).unwrap();
        let first = first_of(&mut reader);
        let wanted = batches.iter().find(|batch| batch.at >= at);
        assert!(wanted.is_none_or(|wanted| first.first_lsn <= wanted.first_lsn), "{millis}");
        begins.push(first.first_lsn);
    }
    assert!(begins.is_sorted() && begins[0] == Lsn(1));
    begins.dedup();
    // It begins with a segment, of which there are many.
    assert!(begins.len() > 5, "{begins:?}");
}
