//! What stands in a data directory, and data directories as a crash might have left them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::domain::Lsn;
use crate::error::OpenError;
use crate::store::codec::{self, Record};
use crate::store::disk::{Disk, RealDisk};
use crate::store::journal::{FrameRef, Frames, Log, Options};

/// Every record of the journal up to `last`, which must be durable, each with the lsn of its first event. An engine may
/// be writing to it.
///
/// # Errors
/// The journal cannot be read.
pub fn records(data_dir: &Path, last: Lsn) -> Result<Vec<(Lsn, Record)>, OpenError> {
    let mut reader = Frames::in_dir(Arc::new(RealDisk), data_dir).from(Lsn(1))?;
    let mut records = Vec::new();
    while let Some(frame) = reader.next(last)? {
        records.extend(codec::decode_batch(frame.first_lsn, frame.count, &frame.payload)?);
    }
    Ok(records)
}

/// Copies a data directory as it would be had the power gone after the record that ends with `last`: the plans, and the
/// journal up to there, each record a batch of its own. A record is what one command brought about, so these are all the
/// moments that there are. Gives the last event's number: `last`, or what ends before it.
///
/// # Errors
/// The journal cannot be read, or the copy not written.
pub fn copy_until(from: &Path, to: &Path, last: Lsn) -> Result<Lsn, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let unusable = |source| OpenError::DataDirectory { dir: to.display().to_string(), source };
    fs::create_dir_all(to.join("plans")).map_err(unusable)?;
    for entry in fs::read_dir(from.join("plans")).map_err(unusable)? {
        let path = entry.map_err(unusable)?.path();
        fs::copy(&path, to.join("plans").join(path.file_name().unwrap_or_default())).map_err(unusable)?;
    }
    let frames = Frames::in_dir(disk.clone(), from);
    let end = frames.check(Lsn(0))?.last_lsn;
    let options = Options { segment_bytes: 1 << 20, reserve_bytes: 0, ..Options::default() };
    let (mut log, _) = Frames::in_dir(disk, to).open(options, Lsn(0))?;
    let mut reader = frames.from(Lsn(1))?;
    let mut written = Lsn(0);
    while let Some(frame) = reader.next(end)? {
        for (first_lsn, record) in codec::decode_batch(frame.first_lsn, frame.count, &frame.payload)? {
            let end = Lsn(first_lsn.0 + record.len() as u64 - 1);
            if end > last {
                return Ok(written);
            }
            let mut payload = Vec::new();
            record.encode_to(&mut payload);
            log.append(&FrameRef { first_lsn, count: record.len() as u32, at: record.at, payload: &payload })?;
            written = end;
        }
    }
    Ok(written)
}
