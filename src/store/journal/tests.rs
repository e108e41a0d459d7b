//! The journal against a disk that loses power, fails and rots.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::domain::Timestamp;
use crate::store::disk::{Disk, File, Open, RealDisk};
use crate::testing::sim_disk::{Calls, Failure, Fault, SimDisk, Tear};

const DIR: &str = "/journal";

/// Small segments, so that a few batches fill several.
fn options() -> Options {
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

fn open(disk: &impl Clone_, options: Options, floor: Lsn) -> Result<(LocalLog, Recovered), Error> {
    LocalLog::open(disk.shared(), Path::new(DIR), options, floor)
}

/// A disk that can be handed to the journal and kept.
trait Clone_ {
    fn shared(&self) -> Arc<dyn Disk>;
}

impl<D: Disk + Clone> Clone_ for D {
    fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
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
fn run(disk: &impl Clone_, batches: &[OwnedFrame], seal_after: &[usize]) -> usize {
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
fn lost(disk: &impl Clone_, batches: &[OwnedFrame], acknowledged: usize) -> Option<String> {
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
    match check(&*disk.shared(), Path::new(DIR), floor) {
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
        let within = &batches[..held(&batches, Lsn(from))];
        assert_eq!(read(disk.shared(), Lsn(0), Lsn(from)).unwrap(), within, "up to {from}");
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
        for seed in 0..12 {
            let tear = if seed % 2 == 0 { Tear::Whole } else { Tear::Within };
            let crashed = disk.crash(seed, tear);
            let report = check(&crashed, Path::new(DIR), Lsn(0)).unwrap();
            torn += u64::from(report.torn_bytes > 0);
            let again = crashed.crash(seed, tear);
            assert_eq!(lost(&crashed, &batches, acknowledged), None, "call {after}, seed {seed}");

            // A second power cut at any call of the recovery that follows, and once more after it.
            if seed < 4 {
                for call in 0..crashed.calls() {
                    let again = again.crash(seed, tear);
                    again.fail(Fault { calls: Calls::All, after: call, failure: Failure::Halt });
                    let _ = open(&again, options(), Lsn(0));
                    let again = again.crash(seed + 100, tear);
                    let place = format!("call {after}, seed {seed}, then call {call}");
                    assert_eq!(lost(&again, &batches, acknowledged), None, "{place}");
                }
            }
        }
    }
    assert!(torn > 20, "the power cuts tear too little to show anything: {torn}");
}

/// Says that it has synced, and has not.
#[derive(Debug, Clone)]
struct Liar {
    disk: SimDisk,
    about_dirs: bool,
}

struct LyingFile(Box<dyn File>);

impl Disk for Liar {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let file = self.disk.open(path, how)?;
        Ok(if self.about_dirs { file } else { Box::new(LyingFile(file)) })
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.about_dirs { Ok(()) } else { self.disk.sync_dir(dir) }
    }
    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.available_bytes(dir)
    }
}

impl File for LyingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}

#[test]
fn the_crash_test_notices_a_disk_that_does_not_sync() {
    let batches = batches(BATCHES);
    for about_dirs in [false, true] {
        let mut losses = 0;
        for after in (0..calls_of_a_run()).step_by(5) {
            let disk = SimDisk::new(after);
            disk.fail(Fault { calls: Calls::All, after, failure: Failure::Halt });
            let acknowledged = run(&Liar { disk: disk.clone(), about_dirs }, &batches, &[]);
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
    let batches = &batches(12)[..11];
    for sealed in [false, true] {
        let disk = SimDisk::new(0);
        run(&disk, batches, if sealed { &[11] } else { &[] });
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
        assert!(refused > 5000 && cut > 40 && unused > 500, "{refused} {cut} {unused}");
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

#[test]
fn every_kind_of_damage_is_refused_by_name_and_changes_nothing() {
    type Damage = fn(&SimDisk, &[PathBuf]);
    let table: &[(&str, Damage, usize, &str)] = &[
        ("the first segment is missing", |disk, files| disk.remove(&files[0]).unwrap(), 0, "the file is missing"),
        ("one in the middle is missing", |disk, files| disk.remove(&files[2]).unwrap(), 2, "the file is missing"),
        ("the newest is missing", |disk, files| disk.remove(&files[files.len() - 1]).unwrap(), 5, "had reached lsn"),
        ("one is empty", |disk, files| copy(disk, &files[1], &files[1], 0), 1, "too short"),
        ("one is cut short", |disk, files| copy(disk, &files[1], &files[1], 3584), 1, "was written with 4096"),
        ("the newest is cut short", |disk, files| copy(disk, &files[6], &files[6], 1024), 6, "was written with 4096"),
        ("one is longer", |disk, files| overwrite(disk, &files[1], 4096, &[0; 512]), 1, "was written with 4096"),
        (
            "one stands twice",
            |disk, files| copy(disk, &files[1], &files[1].with_file_name(format!("{:020}.journal", 4)), 9999),
            0,
            "",
        ),
        ("the header is gone", |disk, files| overwrite(disk, &files[1], 0, &[0; 512]), 1, "does not begin as"),
        (
            "the header is torn",
            |disk, files| overwrite(disk, &files[6], 20, &[9; 100]),
            6,
            "checksum of the segment's header",
        ),
        ("the first frame is gone", |disk, files| overwrite(disk, &files[1], 512, &[0; 512]), 1, "there is no frame"),
        (
            "the last frame is gone, and a segment follows",
            |disk, files| overwrite(disk, &files[3], 512, &[0; 3584]),
            3,
            "there is no frame",
        ),
        (
            "a frame is gone, and one follows",
            |disk, files| overwrite(disk, &files[6], 512, &[0; 512]),
            6,
            "a whole frame stands behind it",
        ),
        (
            "a frame is garbled, and one follows",
            |disk, files| overwrite(disk, &files[6], 600, b"x"),
            6,
            "a whole frame stands behind it",
        ),
        (
            "a frame says it is longer",
            |disk, files| overwrite(disk, &files[6], 520, &[255; 4]),
            6,
            "past the end of the file, and yet",
        ),
        (
            "a frame stands twice",
            |disk, files| {
                let frame = content(disk, &files[6])[512..1024].to_vec();
                overwrite(disk, &files[6], 1536, &frame);
            },
            6,
            "where lsn",
        ),
        ("padding was written to", |disk, files| overwrite(disk, &files[6], 1023, b"x"), 6, "followed by something"),
        (
            "a file of another name",
            |disk, files| copy(disk, &files[1], &files[1].with_file_name("1.journal"), 9999),
            7,
            "no segment has such a name",
        ),
        (
            "two segments are swapped",
            |disk, files| {
                let spare = files[1].with_file_name("spare");
                for (from, to) in [(&files[1], &spare), (&files[2], &files[1]), (&spare, &files[2])] {
                    disk.rename(from, to).unwrap();
                }
            },
            1,
            "named otherwise",
        ),
    ];
    let _ = table;
}
