//! An option's seats as those who look on were told of them last.

use crate::api::AreaSeats;
use crate::domain::Lsn;
use crate::domain::concert_option::ConcertOption;
use crate::domain::seat_map::Status;

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
        let map = option.seats();
        self.seats.resize(map.len() as usize, (Lsn(0), Status::Free));
        let seats: Vec<_> = map.changed_after(self.seq).collect();
        for (seat, status) in &seats {
            let (_, before) = std::mem::replace(&mut self.seats[*seat as usize], (map.seq(*seat), *status));
            self.taken = self.taken + usize::from(*status != Status::Free) - usize::from(before != Status::Free);
        }
        let definition = option.definition().into_iter().flat_map(|definition| &definition.areas);
        let areas = definition.zip(option.areas()).map(|(area, state)| {
            let available = area.capacity - state.held - state.sold;
            (state.seq, AreaSeats { capacity: area.capacity, available })
        });
        self.areas = areas.collect();
        let areas = self.areas_after(self.seq);
        self.seq = option.seq();
        Changes { seats, areas }
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
}
