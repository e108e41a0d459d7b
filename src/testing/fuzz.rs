//! What fuzzers call: each target takes any bytes, and panics if what must hold does not.
//!
//! `tests/fuzz.rs` runs them with what has been found worth keeping and with changes of it, and the crate in `fuzz/` under
//! libFuzzer.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use crate::domain::seating_plan::{Limits, SeatingPlan};
use crate::domain::{
    ConcertId, EventId, Lsn, OptionId, PaymentId, RefundId, ReservationId, SinkId, Timestamp, TokenId, UserId,
};
use crate::store::codec::decode_batch;
use crate::store::disk::{Disk, Open};
use crate::store::journal::{FrameRef, LocalCopy, LocalLog, Log, Options, Reader, Report, Tip, check};
use crate::testing::sim_disk::SimDisk;

/// What takes any bytes.
pub type Target = fn(&[u8]);

/// All targets with their names.
pub const TARGETS: &[(&str, Target)] = &[
    ("journal_frames", journal_frames),
    ("event_codec", event_codec),
    ("seating_plans", seating_plans),
    ("ids", ids),
    #[cfg(feature = "server")]
    ("cursors", crate::server::fuzz::cursors),
    #[cfg(feature = "server")]
    ("json_bodies", crate::server::fuzz::json_bodies),
    #[cfg(feature = "server")]
    ("jwts", crate::server::fuzz::jwts),
    #[cfg(feature = "server")]
    ("templates", crate::server::fuzz::templates),
    #[cfg(feature = "server")]
    ("web_socket_messages", crate::server::fuzz::web_socket_messages),
];

/// The unit in which frames begin and end.
const BLOCK: usize = 512;
/// The size of a segment, header included.
const SEGMENT_BYTES: usize = 16 * BLOCK;
/// Where the journal is.
const DIR: &str = "/journal";
/// Offset of a segment's format version.
const VERSION: usize = 8;
/// Offsets in a frame's header, and its size.
const LENGTH: usize = 8;
const PREVIOUS_CRC: usize = 32;
const CRC: usize = 36;
const HEADER: usize = 40;

/// What stands in a segment of the journal behind its header. If the lowest bit of the first byte is set, the checksums of
/// what looks like a frame are put right, or nothing else would ever be looked at. If the next one is set, the segment is of
/// format 2, in which there may be fences.
///
/// Whatever is opened is what the check says of it, is read to its end, is whole from then on, and can be written to; and
/// what the check refuses is not opened. As a copy of a log of which nothing is known to be synced, it is opened whatever
/// stands there, and whole from then on.
pub fn journal_frames(bytes: &[u8]) {
    let Some((flags, bytes)) = bytes.split_first() else { return };
    let mut segment = fresh_segment().to_vec();
    let length = bytes.len().min(SEGMENT_BYTES - BLOCK);
    segment[BLOCK..BLOCK + length].copy_from_slice(&bytes[..length]);
    if flags & 1 == 1 {
        put_checksums_right(&mut segment);
    }
    if flags & 2 == 2 {
        segment[VERSION] = 2;
        let crc = crc32fast::hash(&segment[..BLOCK - 4]);
        segment[BLOCK - 4..BLOCK].copy_from_slice(&crc.to_le_bytes());
    }
    let copied = as_a_copy(&segment);
    let disk = SimDisk::new(0);
    put(&disk, &segment);
    let opened = LocalLog::open(shared(&disk), Path::new(DIR), options(), Lsn(0));
    let disk_again = SimDisk::new(0);
    put(&disk_again, &segment);
    let Ok(report) = check(&disk_again, Path::new(DIR), Lsn(0)) else {
        assert!(opened.is_err(), "what is damaged is opened");
        return;
    };
    let (mut log, _) = opened.expect("what is whole, or torn, is opened");
    assert_eq!(read(&disk, report.last_lsn), (report.frames, report.events));
    assert_eq!((copied.frames, copied.fences, copied.last_lsn), (report.frames, report.fences, report.last_lsn));
    let after = check(&disk, Path::new(DIR), report.last_lsn).expect("what was opened is whole");
    assert_eq!((after.last_lsn, after.frames, after.torn_bytes), (report.last_lsn, report.frames, 0));
    if report.last_lsn.0 < u64::MAX - 1 {
        let first_lsn = report.last_lsn.next();
        let at = Timestamp::from_millis(report.last_at.as_millis());
        log.append(&FrameRef { first_lsn, count: 1, at, payload: b"next" }).expect("it goes on");
        assert_eq!(read(&disk, first_lsn), (report.frames + 1, report.events + 1));
    }
}

/// What is there once it was opened as a copy.
fn as_a_copy(segment: &[u8]) -> Report {
    let disk = SimDisk::new(0);
    put(&disk, segment);
    let copy = LocalCopy::open(shared(&disk), Path::new(DIR), options(), Tip::default());
    let end = copy.expect("nothing of it is known to be synced").end();
    let report = check(&disk, Path::new(DIR), Lsn(0)).expect("what was opened is whole");
    assert_eq!((report.last_lsn.0 + 1, report.torn_bytes), (end.next_lsn.0, 0));
    report
}

fn options() -> Options {
    let segment_bytes = SEGMENT_BYTES as u64;
    Options { segment_bytes, reserve_bytes: 0, fill_bytes: SEGMENT_BYTES, ..Options::default() }
}

fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn segment_path() -> std::path::PathBuf {
    Path::new(DIR).join("00000000000000000001.journal")
}

/// A segment in which nothing stands but its header.
fn fresh_segment() -> &'static [u8] {
    static SEGMENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let disk = SimDisk::new(0);
        LocalLog::open(shared(&disk), Path::new(DIR), options(), Lsn(0)).expect("an empty disk is fine");
        let file = disk.open(&segment_path(), Open::Read).expect("it has a segment");
        let mut bytes = vec![0; SEGMENT_BYTES];
        assert_eq!(file.read_at(&mut bytes, 0).ok(), Some(SEGMENT_BYTES));
        bytes
    });
    &SEGMENT
}

fn put(disk: &SimDisk, segment: &[u8]) {
    let done = disk.create_dir_all(Path::new(DIR)).and_then(|()| {
        let file = disk.open(&segment_path(), Open::Create)?;
        file.write_all_at(segment, 0)?;
        file.sync()?;
        disk.sync_dir(Path::new("/"))?;
        disk.sync_dir(Path::new(DIR))
    });
    done.expect("nothing fails");
}

/// How many frames and events there are up to `last`.
fn read(disk: &SimDisk, last: Lsn) -> (u64, u64) {
    let mut reader = Reader::open(shared(disk), Path::new(DIR), Lsn(1)).expect("there is a segment");
    let (mut frames, mut next) = (0, Lsn(1));
    while let Some(frame) = reader.next(last).expect("what was opened is read") {
        assert_eq!(frame.first_lsn, next);
        next.0 += u64::from(frame.count);
        frames += 1;
    }
    assert_eq!(next, last.next(), "all of it is read");
    (frames, next.0 - 1)
}

fn put_checksums_right(segment: &mut [u8]) {
    let mut previous = [0; 4];
    let mut offset = BLOCK;
    while offset < segment.len() {
        let rest = &mut segment[offset..];
        let length = rest[LENGTH..LENGTH + 4].iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
        if !rest.starts_with(b"\xFFbxf") || length > rest.len() - HEADER {
            offset += BLOCK;
            continue;
        }
        rest[PREVIOUS_CRC..CRC].copy_from_slice(&previous);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&rest[..CRC]);
        hasher.update(&rest[HEADER..HEADER + length]);
        previous = hasher.finalize().to_le_bytes();
        rest[CRC..HEADER].copy_from_slice(&previous);
        offset += (HEADER + length).next_multiple_of(BLOCK);
    }
}

/// The records of a batch, of which the first byte says how many events they hold: what is read is written and read again
/// as the same.
pub fn event_codec(bytes: &[u8]) {
    let Some((count, payload)) = bytes.split_first() else { return };
    let Ok(records) = decode_batch(Lsn(1), u32::from(*count), payload) else { return };
    let mut again = Vec::new();
    records.iter().for_each(|(_, record)| record.encode_to(&mut again));
    let decoded = decode_batch(Lsn(1), u32::from(*count), &again).expect("what was written can be read");
    assert_eq!(decoded, records);
}

/// Seating plans: every seat of what is taken can be found, and stands in one row, one run and one category.
pub fn seating_plans(bytes: &[u8]) {
    let limits = Limits { seats_max: 1_000, rows_max: 1_000, zones_max: 100, categories_max: 100, ..Limits::default() };
    let plan = match SeatingPlan::parse(bytes, &limits) {
        Ok(plan) => plan,
        Err(problems) => return assert!((1..=limits.problems_max).contains(&problems.len())),
    };
    assert!(plan.len() as usize <= limits.seats_max && plan.rows().len() <= limits.rows_max);
    for (index, seat) in (0..).zip(plan.seats()) {
        assert_eq!(plan.seat_index(seat.guid), Some(index), "{seat:?}");
        assert!(plan.rows()[seat.row as usize].places.contains(&index), "{seat:?}");
        assert!(seat.x.is_finite() && seat.y.is_finite(), "{seat:?}");
    }
    let in_rows: usize = plan.rows().iter().map(|row| row.places.len()).sum();
    let in_runs: usize = plan.runs().iter().map(|run| run.places.len()).sum();
    let mut at_places: Vec<u32> = (0..plan.len()).map(|place| plan.seat_at(place)).collect();
    for (place, &seat) in (0..).zip(&at_places) {
        let category = plan.seat(seat).category.map(|category| plan.category_places(category).expect("there is it"));
        assert!(category.is_none_or(|places| places.iter().any(|places| places.contains(&place))), "{seat}");
    }
    at_places.sort_unstable();
    assert!(at_places.into_iter().eq(0..plan.len()), "a seat has no place of its own");
    let in_zones: usize = plan.zones().iter().map(|zone| zone.places.len()).sum();
    assert_eq!([in_rows, in_runs, in_zones], [plan.len() as usize; 3]);
}

/// Ids: what is taken is the one way to write it, short, and safe in a URL.
pub fn ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    id::<ConcertId>(text);
    id::<OptionId>(text);
    id::<SinkId>(text);
    id::<ReservationId>(text);
    id::<PaymentId>(text);
    id::<RefundId>(text);
    id::<TokenId>(text);
    id::<EventId>(text);
    if let Ok(user) = text.parse::<UserId>() {
        assert_eq!(user.as_str(), text);
        assert!((1..=255).contains(&text.len()));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        assert_eq!(time.to_string().parse::<Timestamp>().ok(), Some(time), "{text:?}");
    }
}

fn id<I: FromStr + Display + Debug + serde::Serialize>(text: &str) {
    let Ok(id) = text.parse::<I>() else { return };
    assert_eq!(id.to_string(), text);
    assert!(text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{text:?}");
    assert_eq!(serde_json::to_value(&id).ok(), Some(text.into()));
}
