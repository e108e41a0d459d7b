//! Seats, and places in areas, that are taken off sale and put back on it: all that is named, or nothing.

use super::calling_off::flaw_of_reason;
use super::*;

/// So many seats stand one by one in an event that blocks or unblocks them; of more there is a bit each.
const ONE_BY_ONE_MAX: usize = 10_000;
/// The most places of an area at once: as many as the largest has.
const PLACES_MAX: u32 = 1_000_000;
/// The most characters of a reason.
const REASON_CHARS_MAX: usize = 200;

/// What is to be off sale, or on it again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocks {
    /// Which seats, and how many places.
    pub part: Portion,
    /// Why, if that is told.
    pub reason: Option<String>,
    /// Who does it, if that is known.
    pub by: Option<UserId>,
}

impl Blocks {
    /// Some seats, by their places in the plan; it is not told why, nor by whom.
    #[cfg(any(test, feature = "testing"))]
    pub fn seats(seats: impl IntoIterator<Item = u32>) -> Self {
        Self { part: Portion { seats: seats.into_iter().collect(), ..Portion::default() }, ..Self::default() }
    }

    /// What is wrong with it by itself.
    fn flaw(&self) -> Option<Flaw> {
        let Portion { seats, areas } = &self.part;
        if seats.is_empty() && areas.is_empty() {
            return Some(Flaw::new("seats", "must name at least one seat, unless zones, rows or areas are named"));
        }
        let places = (!areas.is_empty()).then(|| flaw_of_areas("areas", areas, PLACES_MAX)).flatten();
        let reason = || self.reason.as_deref().and_then(|reason| flaw_of_reason(reason, REASON_CHARS_MAX));
        places.or_else(|| Flaw::of_twice("seats", "", seats)).or_else(reason)
    }
}

/// Seats as they stand in an event: one by one if they are few, else as bits, of which those of the largest plan fit into a record.
fn few_or_many(seats: SeatRefs) -> (SeatRefs, SeatSet) {
    if seats.len() <= ONE_BY_ONE_MAX {
        return (seats, SeatSet::default());
    }
    (SeatRefs::new(), seats.into_iter().collect())
}

impl ConcertOption {
    pub(super) fn decide_block(
        &self,
        now: Timestamp,
        blocks: &Blocks,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        if let Some(answer) = self.known_blocks(now, blocks, request)? {
            return Ok(answer);
        }
        let terms = self.definition().ok_or(Rejection::NotFound)?;
        let Portion { seats, areas } = &blocks.part;
        let seats: SeatRefs =
            seats.iter().copied().filter(|seat| self.seats.status(*seat) != SeatStatus::Blocked).collect();
        self.all_free(&seats)?;
        self.have_room(terms, areas)?;
        if !seats.is_empty() || !areas.is_empty() || request.key.is_some() {
            let (seats, many) = few_or_many(seats);
            let (areas, reason, by) = (areas.to_vec(), blocks.reason.clone(), blocks.by.clone());
            out.events.push(Event::SeatsBlocked { seats, key: request.key.clone(), many, by, areas, reason });
        }
        Ok(Answer::Reply(Reply::Done))
    }

    pub(super) fn decide_unblock(
        &self,
        now: Timestamp,
        blocks: &Blocks,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        if let Some(answer) = self.known_blocks(now, blocks, request)? {
            return Ok(answer);
        }
        let Portion { seats, areas } = &blocks.part;
        let seats: SeatRefs = seats.iter().copied().filter(|seat| self.is_blocked_for_now(*seat)).collect();
        for place in areas {
            let state = self.header.areas.get(usize::from(place.area)).ok_or(Rejection::NotFound)?;
            if state.blocked < place.count {
                return Err(Rejection::NotEnoughSeats);
            }
        }
        if !seats.is_empty() || !areas.is_empty() || request.key.is_some() {
            let (seats, many) = few_or_many(seats);
            let (areas, reason, by) = (areas.to_vec(), blocks.reason.clone(), blocks.by.clone());
            out.events.push(Event::SeatsUnblocked { seats, key: request.key.clone(), many, by, areas, reason });
        }
        Ok(Answer::Reply(Reply::Done))
    }

    /// The answer to a request whose key has been used, once all that is named is known.
    fn known_blocks(
        &self,
        now: Timestamp,
        blocks: &Blocks,
        request: &Request,
    ) -> Result<Option<Answer<Reply>>, Rejection> {
        Flaw::refuse(blocks.flaw())?;
        if self.keys.recall(now, request)?.is_some() {
            return Ok(Some(Answer::Reply(Reply::Replayed(0))));
        }
        self.all_known(&blocks.part.seats)?;
        Ok(None)
    }

    /// Takes seats and places off sale, or puts them back on it.
    pub(super) fn evolve_blocks(
        &mut self,
        lsn: Lsn,
        to: SeatStatus,
        (seats, many, areas): (&[u32], &SeatSet, &[AreaPlaces]),
        changes: &mut impl Changes<Part>,
    ) {
        self.set_seats(seats.iter().copied().chain(many.iter()), to, 0, lsn, changes);
        for place in areas {
            let state = &mut self.header.areas[usize::from(place.area)];
            state.seq = lsn;
            match to {
                SeatStatus::Blocked => state.blocked += place.count,
                _ => state.blocked -= place.count,
            }
        }
        if !areas.is_empty() {
            self.header.seq = lsn;
            changes.touch(Part::Header);
        }
    }
}
