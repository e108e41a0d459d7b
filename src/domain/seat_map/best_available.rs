//! Finds seats for those who leave the choice to the house.
//!
//! In this order: adjacent seats of one row (that is, of one run) that leave no single seat alone; adjacent seats of
//! one row; and, only where the request allows it, seats as near to each other as can be. A seat is left alone when it
//! is free, its neighbor is being taken, and on its other side is a taken seat or the end of the run. A free neighbor
//! of another category is a free seat all the same.
//!
//! Among adjacent seats, the row that the plan lists first wins: the order of the plan is all that a plan says of which
//! row is better, and editors list front rows first. Within a row, the window whose middle is nearest to the middle of
//! the row wins, and of two that are as near, the one listed first. So the whole house is searched for a window that
//! leaves no seat alone before one that does is taken in the first row.

use std::ops::{Range, RangeInclusive};

use smallvec::SmallVec;

use super::bits::{Bits, STRETCH_MAX};
use super::{SeatMap, nearest};
use crate::domain::seating_plan::{Run, SeatingPlan};

/// A request for the best seats there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BestAvailable {
    /// How many seats, from 1.
    pub count: u32,
    /// Only seats of the category of this index.
    pub category: Option<u32>,
    /// Only seats of the zone of this index, and of the other zones of the same name.
    pub zone: Option<u32>,
    /// Whether seats that are not adjacent are no use.
    pub adjacent: bool,
}

/// Seats of one request, ascending.
pub type Seats = SmallVec<[u32; 8]>;

/// The best free seats for a request, in the order that the module describes; `None` if there are none, or if its
/// category or zone is not in the plan. `map` must be of `plan`.
#[must_use]
pub fn best_available(plan: &SeatingPlan, map: &SeatMap, request: &BestAvailable) -> Option<Seats> {
    debug_assert_eq!(plan.len(), map.len());
    let count = request.count;
    if count == 0 || map.counts.free < count {
        return None;
    }
    let allowed = allowed(plan, request)?;
    if let Some(start) = adjacent(plan, &map.free, &allowed, count) {
        return Some((start..start + count).collect());
    }
    if request.adjacent {
        return None;
    }
    let free = allowed.iter().flat_map(|range| map.free.iter(range.clone()));
    nearest::nearest(free.map(|seat| (seat, plan.position(seat))), count)
}

/// The seats that a request may take if they are free: ascending ranges, each maximal.
fn allowed(plan: &SeatingPlan, request: &BestAvailable) -> Option<Vec<Range<u32>>> {
    let in_zone = match request.zone {
        Some(zone) => zones_named_as(plan, zone)?,
        None => std::iter::once(0..plan.len()).collect(),
    };
    let Some(category) = request.category else { return Some(in_zone.into_vec()) };
    let of_category = plan.category_seats(category)?;
    let mut both = Vec::new();
    for zone in in_zone {
        let first = of_category.partition_point(|range| range.end <= zone.start);
        let overlapping = of_category[first..].iter().take_while(|range| range.start < zone.end);
        both.extend(overlapping.map(|range| range.start.max(zone.start)..range.end.min(zone.end)));
    }
    Some(both)
}

fn zones_named_as(plan: &SeatingPlan, zone: u32) -> Option<SmallVec<[Range<u32>; 2]>> {
    let name = &plan.zones().get(zone as usize)?.name;
    Some(plan.zones().iter().filter(|zone| zone.name == *name).map(|zone| zone.seats.clone()).collect())
}

/// A window of adjacent seats. The least of two is the better one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    row: u32,
    /// Twice the distance of its middle from the middle of the row, in seats.
    off_center: u32,
    start: u32,
}

/// Where the best window of `count` adjacent seats starts.
fn adjacent(plan: &SeatingPlan, free: &Bits, allowed: &[Range<u32>], count: u32) -> Option<u32> {
    let (mut clean, mut any): (Option<Window>, Option<Window>) = (None, None);
    let mut runs = plan.runs();
    for range in allowed {
        let mut from = range.start;
        // A stretch may cross the end of a run, or be longer than can be asked for: what is found is where to look.
        while let Some(seat) = free.next_stretch(from..range.end, count.min(STRETCH_MAX)) {
            runs = from_seat(runs, seat);
            let run = runs.first()?;
            if clean.is_some_and(|window| window.row < run.row) {
                return clean.map(|window| window.start);
            }
            let stretch = free.stretch_start(seat, run.seats.start)..free.stretch_end(seat, run.seats.end);
            from = stretch.end;
            let (first, end) = (stretch.start.max(range.start), stretch.end.min(range.end));
            if end - first < count {
                continue;
            }
            let row = &plan.rows()[run.row as usize].seats;
            let leaves_none_alone = |start: u32| start - stretch.start != 1 && stretch.end - start - count != 1;
            for start in most_central(row, first..=end - count, count) {
                let off_center = (2 * start + count).abs_diff(row.start + row.end);
                let window = Window { row: run.row, off_center, start };
                any = Some(any.map_or(window, |best| best.min(window)));
                if leaves_none_alone(start) {
                    clean = Some(clean.map_or(window, |best| best.min(window)));
                }
            }
        }
    }
    clean.or(any).map(|window| window.start)
}

/// The runs from that of `seat` on. Mostly it is one of the next; if all before it are sold, it may be far.
fn from_seat(runs: &[Run], seat: u32) -> &[Run] {
    const NEXT: usize = 4;
    let ends_before = |run: &Run| run.seats.end <= seat;
    let next = runs.iter().take(NEXT).take_while(|run| ends_before(run)).count();
    let far = if next == NEXT { runs[NEXT..].partition_point(ends_before) } else { 0 };
    &runs[next + far..]
}

/// Those of `starts` among which are the most central window and the most central one that leaves no seat alone: only
/// two starts of a stretch can leave one alone, one off each end, so these two are among the three most central.
fn most_central(row: &Range<u32>, starts: RangeInclusive<u32>, count: u32) -> RangeInclusive<u32> {
    let central = ((row.start + row.end).saturating_sub(count) / 2).clamp(*starts.start(), *starts.end());
    central.saturating_sub(2).max(*starts.start())..=(central + 2).min(*starts.end())
}
