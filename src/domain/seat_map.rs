//! Which seats are free, and who has the others.
//!
//! Architecture invariant: a map knows seats by their number in the plan only; what a status means for money or time
//! is not its business.

mod best_available;
mod bits;
mod nearest;
mod preference;

use std::ops::Range;

use super::Lsn;
use bits::Bits;

pub use best_available::{BestAvailable, Seats, best_available};
pub use preference::{Focus, Preference};

/// How many seats are encoded together. A chunk is at most 4 KiB whatever its seats have gone through.
pub const CHUNK_SEATS: u32 = 128;

/// The largest number of a reservation that can own a seat: 2^62-1.
pub const OWNER_MAX: u64 = u64::MAX >> STATUS_BITS;

const STATUS_BITS: u32 = 2;

/// What has become of a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// For anyone to take.
    Free,
    /// Held for a reservation.
    Held,
    /// Sold to a reservation.
    Sold,
    /// Not for sale.
    Blocked,
}

impl Status {
    /// In the order of their codes, which stand in stored chunks.
    const ALL: [Self; 4] = [Self::Free, Self::Held, Self::Sold, Self::Blocked];
}

/// How many seats there are of each status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Free ones.
    pub free: u32,
    /// Held ones.
    pub held: u32,
    /// Sold ones.
    pub sold: u32,
    /// Blocked ones.
    pub blocked: u32,
}

impl Counts {
    fn of(&mut self, status: Status) -> &mut u32 {
        match status {
            Status::Free => &mut self.free,
            Status::Held => &mut self.held,
            Status::Sold => &mut self.sold,
            Status::Blocked => &mut self.blocked,
        }
    }
}

/// One seat of the map, in 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// The owner, above two bits of status.
    state: u64,
    seq: u64,
}

impl Slot {
    /// Free, and never changed.
    const UNTOUCHED: Self = Self { state: 0, seq: 0 };

    fn status(self) -> Status {
        Status::ALL[(self.state & ((1 << STATUS_BITS) - 1)) as usize]
    }

    fn owner(self) -> u64 {
        self.state >> STATUS_BITS
    }
}

/// The state of every seat of a plan. All seats start free and never changed.
#[derive(Debug, Clone, Default)]
pub struct SeatMap {
    slots: Vec<Slot>,
    /// In step with the slots.
    free: Bits,
    counts: Counts,
    /// Of each chunk, a seq after which none of its seats has changed.
    latest: Vec<Lsn>,
}

impl PartialEq for SeatMap {
    fn eq(&self, other: &Self) -> bool {
        // All the rest follows from them.
        self.slots == other.slots
    }
}

impl Eq for SeatMap {}

impl SeatMap {
    /// A map of so many seats.
    #[must_use]
    pub fn new(seat_count: u32) -> Self {
        Self {
            slots: vec![Slot::UNTOUCHED; seat_count as usize],
            free: Bits::ones(seat_count),
            counts: Counts { free: seat_count, ..Counts::default() },
            latest: vec![Lsn(0); seat_count.div_ceil(CHUNK_SEATS) as usize],
        }
    }

    /// Makes it a map of more seats; the new ones are free and never changed.
    pub fn grow(&mut self, seat_count: u32) {
        let before = self.len();
        self.slots.resize(seat_count as usize, Slot::UNTOUCHED);
        self.free.grow(seat_count);
        (before..seat_count).for_each(|seat| self.free.put(seat, true));
        self.counts.free += seat_count - before;
        self.latest.resize(seat_count.div_ceil(CHUNK_SEATS) as usize, Lsn(0));
    }

    /// How many seats it has.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether it has no seats.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What has become of `seat`.
    ///
    /// # Panics
    /// If there is no such seat, as do all methods that take one.
    #[must_use]
    pub fn status(&self, seat: u32) -> Status {
        self.slots[seat as usize].status()
    }

    /// Whether anyone can take `seat`.
    #[must_use]
    pub fn is_free(&self, seat: u32) -> bool {
        self.status(seat) == Status::Free
    }

    /// The number of the reservation that has `seat`; 0 if none has.
    #[must_use]
    pub fn owner(&self, seat: u32) -> u64 {
        self.slots[seat as usize].owner()
    }

    /// When `seat` last changed; 0 if it never did.
    #[must_use]
    pub fn seq(&self, seat: u32) -> Lsn {
        Lsn(self.slots[seat as usize].seq)
    }

    /// How many seats there are of each status.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Changes `seat`; `owner` is 0 where no reservation has it. Whether the change is allowed is for the caller to
    /// know.
    ///
    /// # Panics
    /// If `owner` is above [`OWNER_MAX`].
    pub fn set(&mut self, seat: u32, status: Status, owner: u64, seq: Lsn) {
        assert!(owner <= OWNER_MAX, "a reservation's number has 62 bits");
        self.put(seat, Slot { state: owner << STATUS_BITS | status as u64, seq: seq.0 });
    }

    fn put(&mut self, seat: u32, slot: Slot) {
        let before = std::mem::replace(&mut self.slots[seat as usize], slot);
        *self.counts.of(before.status()) -= 1;
        *self.counts.of(slot.status()) += 1;
        self.free.put(seat, slot.status() == Status::Free);
        let latest = &mut self.latest[Self::chunk_of(seat) as usize];
        *latest = (*latest).max(Lsn(slot.seq));
    }

    /// The seats that have changed after `seq`, in order, with what has become of them.
    pub fn changed_after(&self, seq: Lsn) -> impl Iterator<Item = (u32, Status)> {
        let seats = self.chunks_changed_after(seq).flatten();
        let seats = seats.map(|seat| (seat, self.slots[seat as usize]));
        seats.filter(move |(_, slot)| slot.seq > seq.0).map(|(seat, slot)| (seat, slot.status()))
    }

    /// The seats of each chunk of which some may have changed after `seq`, in order. It looks at no others.
    pub fn chunks_changed_after(&self, seq: Lsn) -> impl Iterator<Item = Range<u32>> {
        let changed = (0..).zip(&self.latest).filter(move |(_, latest)| **latest > seq);
        changed.filter_map(|(chunk, _)| self.chunk_seats(chunk))
    }

    /// The chunk that `seat` is encoded in.
    #[must_use]
    pub fn chunk_of(seat: u32) -> u32 {
        seat / CHUNK_SEATS
    }

    /// How many chunks there are.
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        self.len().div_ceil(CHUNK_SEATS)
    }

    /// The seats of a chunk as bytes, the same for the same state; `None` if none of them ever changed, since a new map
    /// has them so.
    ///
    /// # Panics
    /// If there is no such chunk.
    #[must_use]
    pub fn encode_chunk(&self, chunk: u32) -> Option<Vec<u8>> {
        let seats = self.chunk_seats(chunk).expect("the chunk is one of the map");
        let slots = &self.slots[seats.start as usize..seats.end as usize];
        if slots.iter().all(|&slot| slot == Slot::UNTOUCHED) {
            return None;
        }
        let stretches = slots.chunk_by(|a, b| a == b);
        let stretches =
            stretches.map(|same| Stretch { seats: same.len() as u32, state: same[0].state, seq: same[0].seq });
        let chunk = Chunk { stretches: stretches.collect() };
        Some(minicbor::to_vec(chunk).expect("writing to memory does not fail"))
    }

    /// Puts the seats of a chunk back as they were when it was encoded.
    ///
    /// # Errors
    /// Bytes that are not this chunk of a map of this size. The map is then as it was.
    pub fn load_chunk(&mut self, chunk: u32, bytes: &[u8]) -> Result<(), minicbor::decode::Error> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let Chunk { stretches } = decoder.decode()?;
        if decoder.position() != bytes.len() {
            return Err(minicbor::decode::Error::message("bytes after the chunk"));
        }
        let seats = self.chunk_seats(chunk).ok_or_else(|| minicbor::decode::Error::message("no such chunk"))?;
        if stretches.iter().map(|stretch| u64::from(stretch.seats)).sum::<u64>() != seats.len() as u64 {
            return Err(minicbor::decode::Error::message("not as many seats as the chunk has"));
        }
        let mut next = seats.start;
        for Stretch { seats, state, seq } in stretches {
            (next..next + seats).for_each(|seat| self.put(seat, Slot { state, seq }));
            next += seats;
        }
        Ok(())
    }

    fn chunk_seats(&self, chunk: u32) -> Option<Range<u32>> {
        let start = chunk.checked_mul(CHUNK_SEATS).filter(|&start| start < self.len())?;
        Some(start..self.len().min(start.saturating_add(CHUNK_SEATS)))
    }
}

/// What is stored of a chunk.
#[derive(minicbor::Encode, minicbor::Decode)]
struct Chunk {
    #[n(0)]
    stretches: Vec<Stretch>,
}

/// Consecutive seats in the same state: those of one reservation, mostly.
#[derive(minicbor::Encode, minicbor::Decode)]
struct Stretch {
    #[n(0)]
    seats: u32,
    #[n(1)]
    state: u64,
    #[n(2)]
    seq: u64,
}

#[cfg(test)]
mod tests;
