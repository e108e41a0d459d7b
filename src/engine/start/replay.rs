//! Reading the journal again, from one lsn to another.

use std::collections::VecDeque;
use std::sync::mpsc;

use crate::domain::Lsn;
use crate::error::OpenError;
use crate::store::codec;
use crate::store::journal::Frames;

/// Bytes of batches that are read and decoded ahead of those that are replayed. A batch can be of 8 MiB, and takes up several
/// times as much when it is decoded.
const DECODE_AHEAD_BYTES: usize = 4 << 20;

/// Hands `take` every record of the journal after `after`, up to `last`. Another thread decodes ahead of it; the journal is
/// read on this one, so that the calls of the disk are always the same.
///
/// # Errors
/// What `take` says, or that the journal cannot be read.
pub(in crate::engine) fn replay(
    frames: &Frames,
    after: Lsn,
    last: Lsn,
    mut take: impl FnMut(Lsn, &codec::Record) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    if after >= last {
        return Ok(());
    }
    let mut reader = frames.from(after.next())?;
    std::thread::scope(|scope| {
        let (to_decoder, to_decode) = mpsc::channel::<(Lsn, u32, Vec<u8>)>();
        let (decoded, batches) = mpsc::channel();
        scope.spawn(move || {
            for (first, count, payload) in to_decode {
                if decoded.send(codec::decode_batch(first, count, &payload)).is_err() {
                    break;
                }
            }
        });
        // The lengths of the batches ahead.
        let (mut more, mut ahead, mut ahead_bytes) = (true, VecDeque::new(), 0);
        loop {
            while more && ahead_bytes < DECODE_AHEAD_BYTES {
                let Some(frame) = reader.next(last)? else {
                    more = false;
                    break;
                };
                ahead.push_back(frame.payload.len());
                ahead_bytes += frame.payload.len();
                // If the other thread has panicked, so does the scope.
                let _ = to_decoder.send((frame.first_lsn, frame.count, frame.payload));
            }
            let Some(bytes) = ahead.pop_front() else { return Ok(()) };
            let Ok(batch) = batches.recv() else { return Ok(()) };
            ahead_bytes -= bytes;
            for (first, record) in batch? {
                if first > after {
                    take(first, &record)?;
                }
            }
        }
    })
}
