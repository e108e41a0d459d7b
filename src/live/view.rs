//! An option's seats as those who look on were told of them last.

use crate::api::AreaSeats;
use crate::domain::Lsn;
use crate::domain::concert_option::ConcertOption;
use crate::domain::seat_map::{SeatMap, Status};

/// Every seat and area with the seq of its last change. So what has changed after a seq can be told for any seq, without
/// history.
#[derive(Debug, Default)]
pub(super) struct View {
    seq: Lsn,
    seats: Vec<(Lsn, Status)>,
    areas: Vec<(Lsn, AreaSeats)>,
    /// How many seats are not free.
    taken: usize,
}

/// Seats and areas by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) seats: Vec<(u32, Status)>,
    pub(super) areas: Vec<(u32, AreaSeats)>,
}

impl View {
    /// The seq of the last change that it has taken in.
    pub(super) fn seq(&self) -> Lsn {
        self.seq
    }

    /// Takes in what has changed, and gives it.
    pub(super) fn advance(&mut self, option: &ConcertOption) -> Changes {
        let seats = self.take_seats(option.seats());
        let definition = option.definition().into_iter().flat_map(|definition| &definition.areas);
        let areas = definition.zip(option.areas()).map(|(area, state)| {
            (state.seq, AreaSeats { capacity: area.capacity, available: state.free(area.capacity) })
        });
        self.areas = areas.collect();
        let areas = self.areas_after(self.seq);
        self.seq = option.seq();
        Changes { seats, areas }
    }

    fn take_seats(&mut self, map: &SeatMap) -> Vec<(u32, Status)> {
        self.seats.resize(map.len() as usize, (Lsn(0), Status::Free));
        let seats: Vec<_> = map.changed_after(self.seq).collect();
        for (seat, status) in &seats {
            let (_, before) = std::mem::replace(&mut self.seats[*seat as usize], (map.seq(*seat), *status));
            self.taken = self.taken + usize::from(*status != Status::Free) - usize::from(before != Status::Free);
        }
        seats
    }

    /// What has changed after `since`.
    pub(super) fn changed_after(&self, since: Lsn) -> Changes {
        let seats = (0..).zip(&self.seats).filter(|(_, (seq, _))| *seq > since);
        Changes { seats: seats.map(|(seat, (_, status))| (seat, *status)).collect(), areas: self.areas_after(since) }
    }

    fn areas_after(&self, since: Lsn) -> Vec<(u32, AreaSeats)> {
        let areas = (0..).zip(&self.areas).filter(|(_, (seq, _))| *seq > since);
        areas.map(|(area, (_, state))| (area, *state)).collect()
    }

    /// The seats that are not free, and all areas.
    pub(super) fn snapshot(&self) -> Changes {
        let taken = (0..).zip(&self.seats).filter(|(_, (_, status))| *status != Status::Free);
        Changes {
            seats: taken.map(|(seat, (_, status))| (seat, *status)).collect(),
            areas: (0..).zip(&self.areas).map(|(area, (_, state))| (area, *state)).collect(),
        }
    }

    /// How many entries a snapshot has.
    pub(super) fn snapshot_len(&self) -> usize {
        self.taken + self.areas.len()
    }
}

impl Changes {
    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.seats.len() + self.areas.len()
    }

    /// How many bytes they take.
    #[cfg(feature = "server")]
    pub(super) fn bytes(&self) -> usize {
        self.seats.capacity() * size_of::<(u32, Status)>() + self.areas.capacity() * size_of::<(u32, AreaSeats)>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A view of seats only, which are changed one after the other.
    fn change(view: &mut View, seats: u32, changes: &[(u32, Status)]) {
        let mut map = crate::domain::seat_map::SeatMap::new(seats);
        for ((seq, status), seat) in view.seats.iter().zip(0..) {
            map.set(seat, *status, 0, *seq);
        }
        let mut seq = view.seq;
        for (seat, status) in changes {
            seq = seq.next();
            map.set(*seat, *status, 0, seq);
        }
        view.take_seats(&map);
        view.seq = seq;
    }

    fn status() -> impl Strategy<Value = Status> {
        prop_oneof![Just(Status::Free), Just(Status::Held), Just(Status::Sold), Just(Status::Blocked)]
    }

    proptest! {
        /// Whoever applies what changed after any seq to what they knew at that seq knows what there is now.
        #[test]
        fn a_difference_leads_from_any_seq_to_the_present(
            flushes in proptest::collection::vec(proptest::collection::vec((0..9_u32, status()), 0..6), 1..12),
        ) {
            let mut view = View::default();
            let mut model = BTreeMap::new();
            // What was so at each seq, the one before each single change included.
            let mut history = vec![(Lsn(0), model.clone())];
            for changes in &flushes {
                let mut seq = view.seq;
                for (seat, status) in changes {
                    seq = seq.next();
                    model.insert(*seat, *status);
                    history.push((seq, model.clone()));
                }
                change(&mut view, 9, changes);
                let free = |state: &BTreeMap<u32, Status>| {
                    state.iter().filter(|(_, status)| **status != Status::Free).map(|(seat, status)| (*seat, *status)).collect::<Vec<_>>()
                };
                prop_assert_eq!(view.snapshot().seats, free(&model));
                prop_assert_eq!(view.snapshot_len(), free(&model).len());
                for (since, then) in &history {
                    let mut now = then.clone();
                    let difference = view.changed_after(*since);
                    now.extend(difference.seats.iter().copied());
                    prop_assert_eq!(&now, &model);
                    // And tells of nothing that did not change.
                    let changed: std::collections::BTreeSet<_> = flushes.iter().flatten().zip(1..)
                        .filter(|(_, seq)| Lsn(*seq) > *since && Lsn(*seq) <= view.seq).map(|((seat, _), _)| *seat).collect();
                    prop_assert_eq!(difference.len(), changed.len());
                }
            }
        }
    }
}
