//! Finds seats for those who leave the choice to the house.
//!
//! In this order: adjacent seats of one row (that is, of one run) that leave no single seat alone; adjacent seats of
//! one row; and, only where the request allows it, seats as near to each other as can be, exchanged with single ones that
//! they would leave alone as long as that leaves fewer. A seat is left alone when it is free, its neighbor is being taken,
//! and on its other side is a taken seat or none. A free neighbor of another category is a free seat all the same.
//!
//! Of adjacent seats those win that are nearest to the option's focus: in a zone that it names before, or, if it is a point,
//! by the mean of their distances. Of those that are as near, and of all where there is no focus, the row that the plan lists
//! first wins: editors list front rows first. Within a row, the window whose middle is nearest to the middle of the row
//! wins, and of two that are as near, the one listed first. So the whole house is searched for a window that leaves no seat
//! alone before one that does is taken in the first row.
//!
//! Who asks for *companions* gets places of accessible categories and so many seats beside them, all adjacent in one row.
//! Windows that take no more accessible places than were asked for win, whether they leave a seat alone or not.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use smallvec::SmallVec;

use super::bits::{Bits, STRETCH_MAX};
use super::preference::{Far, Preference};
use super::{SeatMap, nearest};
use crate::domain::seating_plan::{Run, SeatingPlan};

/// How many places to look at, all in all, for exchanges that leave no seat alone: what takes some hundred microseconds.
const EXCHANGES_MAX: usize = 2_000;

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
    /// How many seats for companions, of any category that anybody may be given or of the one that is named. If there are
    /// some, `count` is of accessible places, of the category that is named or of any accessible one, and all are adjacent.
    pub companions: u32,
}

/// Seats of one request, ascending.
pub type Seats = SmallVec<[u32; 8]>;

/// The best free seats for a request, in the order that the module describes; `None` if there are none, or if its
/// category or zone is not in the plan. `preference` and `map` must be of `plan`.
#[must_use]
pub fn best_available(
    plan: &SeatingPlan,
    preference: &Preference,
    map: &SeatMap,
    request: &BestAvailable,
) -> Option<Seats> {
    debug_assert_eq!(plan.numbers(), map.len());
    let count = request.count.checked_add(request.companions)?;
    if request.count == 0 || map.counts.free < count {
        return None;
    }
    let house = House { plan, preference, free: free_places(plan, map), count };
    let found = if request.companions > 0 {
        house.accompanied(request)?
    } else {
        let allowed = allowed(plan, preference, request)?;
        match house.adjacent(&allowed) {
            Some(window) => window,
            None if request.adjacent => return None,
            None => return house.scattered(&allowed),
        }
    };
    let run = &plan.runs()[found.run as usize];
    let mut seats: Seats = house.places(run, found.start).map(|place| plan.seat_at(place)).collect();
    seats.sort_unstable();
    Some(seats)
}

/// Which places are free.
fn free_places<'a>(plan: &SeatingPlan, map: &'a SeatMap) -> Cow<'a, Bits> {
    if !plan.is_reordered() {
        return Cow::Borrowed(&map.free);
    }
    let mut free = map.free.clone();
    for moved in plan.moved() {
        free.copy(moved.places.clone(), &map.free, moved.seat);
    }
    free.truncate(plan.len());
    Cow::Owned(free)
}

/// The places that a request may take if they are free: ascending ranges, each maximal.
fn allowed(plan: &SeatingPlan, preference: &Preference, request: &BestAvailable) -> Option<Vec<Range<u32>>> {
    let of_category = match request.category {
        Some(category) => Cow::Borrowed(plan.category_places(category)?),
        None => Cow::Owned(preference.open(plan)),
    };
    let Some(zone) = request.zone else { return Some(of_category.into_owned()) };
    let mut both = Vec::new();
    for zone in zones_named_as(plan, zone)? {
        let first = of_category.partition_point(|range| range.end <= zone.start);
        let overlapping = of_category[first..].iter().take_while(|range| range.start < zone.end);
        both.extend(overlapping.map(|range| range.start.max(zone.start)..range.end.min(zone.end)));
    }
    Some(both)
}

fn zones_named_as(plan: &SeatingPlan, zone: u32) -> Option<SmallVec<[Range<u32>; 2]>> {
    let name = &plan.zones().get(zone as usize)?.name;
    Some(plan.zones().iter().filter(|zone| zone.name == *name).map(|zone| zone.places.clone()).collect())
}

/// Adjacent seats. The least of two are the better ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    /// What stands against them, before all else.
    flaws: u32,
    far: Far,
    row: u32,
    /// Twice the distance of their middle from the middle of the row, in seats.
    off_center: u32,
    /// The first place. In a ring they may go on past its end.
    start: u32,
    run: u32,
}

/// A house at one moment, and how many seats of it are wanted.
struct House<'a> {
    plan: &'a SeatingPlan,
    preference: &'a Preference,
    /// By place.
    free: Cow<'a, Bits>,
    count: u32,
}

impl House<'_> {
    /// The best window within the places that are allowed.
    fn adjacent(&self, allowed: &[Range<u32>]) -> Option<Window> {
        let mut best = None;
        let rows = self.preference.rows();
        if rows.is_empty() {
            self.search(Far::default(), allowed, &mut best);
            let rings = self.plan.rings().iter().map(|&ring| (ring, &self.plan.runs()[ring as usize]));
            for (index, ring) in rings {
                if best.is_some_and(|best| best.is_before(ring.row)) {
                    break;
                }
                self.search_ring(Far::default(), (index, ring), allowed, &mut best);
            }
            return best;
        }
        for &(least, row) in rows {
            if best.is_some_and(|best| best.flaws == 0 && (best.far, best.row) < (least, row)) {
                break;
            }
            let places = &self.plan.rows()[row as usize].places;
            let first = allowed.partition_point(|range| range.end <= places.start);
            for range in allowed[first..].iter().take_while(|range| range.start < places.end) {
                let part = range.start.max(places.start)..range.end.min(places.end);
                self.search(least, std::slice::from_ref(&part), &mut best);
            }
            let first = self.plan.rings().partition_point(|&ring| self.plan.runs()[ring as usize].row < row);
            let rings = self.plan.rings()[first..].iter().map(|&ring| (ring, &self.plan.runs()[ring as usize]));
            for (index, ring) in rings.take_while(|(_, ring)| ring.row == row) {
                self.search_ring(least, (index, ring), allowed, &mut best);
            }
        }
        best
    }

    /// Looks for a better window in places in their order, of which none is nearer than `least`, but not in rings. Without a
    /// focus it ends after the first row that has one without flaws.
    fn search(&self, least: Far, allowed: &[Range<u32>], best: &mut Option<Window>) {
        let runs = self.plan.runs();
        let mut ahead = allowed.first().map_or(&[][..], |range| from_place(runs, range.start));
        for range in allowed {
            let mut from = range.start;
            // A stretch may cross the end of a run, or be longer than can be asked for: what is found is where to look.
            while let Some(place) = self.free.next_stretch(from..range.end, self.count.min(STRETCH_MAX)) {
                ahead = from_place(ahead, place);
                let Some(run) = ahead.first() else { return };
                if self.preference.rows().is_empty() && best.is_some_and(|best| best.is_before(run.row)) {
                    return;
                }
                let (start, end) = (run.places.start, run.places.end);
                if run.is_ring {
                    from = end;
                    continue;
                }
                let stretch = self.free.stretch_start(place, start)..self.free.stretch_end(place, end);
                from = stretch.end;
                let (first, end) = (stretch.start.max(range.start), stretch.end.min(range.end));
                if end - first < self.count {
                    continue;
                }
                let index = (runs.len() - ahead.len()) as u32;
                let fars = self.fars(first..end);
                let far = |start: u32| fars.as_ref().map_or(least, |fars| fars[(start - first) as usize]);
                for start in self.promising(run, first..=end - self.count) {
                    let leaves_one = start - stretch.start == 1 || stretch.end - start - self.count == 1;
                    self.consider(far(start), (index, run), start, leaves_one.into(), best);
                }
            }
        }
    }

    /// Those of `starts` among which the best is.
    fn promising(&self, run: &Run, starts: RangeInclusive<u32>) -> RangeInclusive<u32> {
        if self.preference.is_point() {
            return starts;
        }
        most_central(&self.plan.rows()[run.row as usize].places, starts, self.count)
    }

    fn search_ring(&self, least: Far, (index, ring): (u32, &Run), allowed: &[Range<u32>], best: &mut Option<Window>) {
        let is_good = |place: u32| self.free.has(place) && is_in(allowed, place);
        let mut starts = self.starts(ring).filter(|&start| self.places(ring, start).all(is_good)).peekable();
        if starts.peek().is_none() {
            return;
        }
        let fars = self.fars(ring.places.clone().chain(ring.places.clone()));
        for start in starts {
            let far = fars.as_ref().map_or(least, |fars| fars[(start - ring.places.start) as usize]);
            self.consider(far, (index, ring), start, self.leaves_one(ring, start).into(), best);
        }
    }

    /// How far the windows are that start at each of these places, if that is not the same for all.
    fn fars(&self, places: impl Iterator<Item = u32>) -> Option<Vec<Far>> {
        let seats = places.map(|place| self.plan.seat_at(place));
        self.preference.fars(self.plan, seats, self.count as usize)
    }

    /// The best places for people with companions.
    fn accompanied(&self, request: &BestAvailable) -> Option<Window> {
        let category = |place: u32| self.plan.seat(self.plan.seat_at(place)).category;
        let is_wanted = |place: &u32| match request.category {
            Some(wanted) => category(*place) == Some(wanted),
            None => category(*place).is_some_and(|category| self.preference.is_kept(category)),
        };
        let is_open = |place: &u32| category(*place).is_some_and(|category| !self.preference.is_kept(category));
        let zones = request.zone.map(|zone| zones_named_as(self.plan, zone));
        let zones = match zones {
            Some(zones) => zones?,
            None => std::iter::once(0..self.plan.len()).collect(),
        };
        let mut best = None;
        for (index, run) in (0..).zip(self.plan.runs()) {
            if !is_in(&zones, run.places.start) || !run.places.clone().any(|place| is_wanted(&place)) {
                continue;
            }
            for start in self.starts(run) {
                let wanted = self.places(run, start).filter(is_wanted).count() as u32;
                let are_good =
                    self.places(run, start).all(|place| self.free.has(place) && (is_wanted(&place) || is_open(&place)));
                if are_good && wanted >= request.count {
                    let flaws = 2 * (wanted - request.count) + u32::from(self.leaves_one(run, start));
                    if best.is_some_and(|best: Window| best.flaws < flaws) {
                        continue;
                    }
                    let seats = self.places(run, start).map(|place| self.plan.seat_at(place));
                    let far = self.preference.far(self.plan, run.row, seats);
                    self.consider(far, (index, run), start, flaws, &mut best);
                }
            }
        }
        best
    }

    fn consider(&self, far: Far, (index, run): (u32, &Run), start: u32, flaws: u32, best: &mut Option<Window>) {
        let row = &self.plan.rows()[run.row as usize].places;
        let off_center = (2 * start + self.count).abs_diff(row.start + row.end);
        let window = Window { flaws, far, row: run.row, off_center, start, run: index };
        *best = Some(best.map_or(window, |best: Window| best.min(window)));
    }

    /// Where windows can start in a run.
    fn starts(&self, run: &Run) -> Range<u32> {
        let Range { start, end } = run.places;
        match (end - start).checked_sub(self.count) {
            None => start..start,
            Some(0) => start..start + 1,
            Some(_) if run.is_ring => start..end,
            Some(others) => start..start + others + 1,
        }
    }

    /// The places of a window.
    fn places(&self, run: &Run, start: u32) -> impl ExactSizeIterator<Item = u32> + use<> {
        let Range { start: first, end } = run.places;
        (0..self.count).map(move |k| if start + k < end { start + k } else { first + (start + k - end) })
    }

    /// Whether a window that is taken leaves a free place without a free neighbor.
    fn leaves_one(&self, run: &Run, start: u32) -> bool {
        let taken: Seats = self.places(run, start).collect();
        let ends = [beside(run, start, Side::Before), beside(run, taken[taken.len() - 1], Side::After)];
        ends.into_iter().flatten().any(|place| self.is_single(run, place, &taken))
    }

    /// Whether a place is free, and has no free neighbor once these are taken.
    fn is_single(&self, run: &Run, place: u32, taken: &[u32]) -> bool {
        let is_free = |place: u32| self.free.has(place) && !taken.contains(&place);
        let neighbors = [Side::Before, Side::After].map(|side| beside(run, place, side));
        is_free(place) && !neighbors.into_iter().flatten().any(is_free)
    }
}

/// Scattered seats.
impl House<'_> {
    fn scattered(&self, allowed: &[Range<u32>]) -> Option<Seats> {
        let free = allowed.iter().flat_map(|range| self.free.iter(range.clone()));
        let points = free.map(|place| (place, self.plan.position(self.plan.seat_at(place))));
        let is_focused = !self.preference.rows().is_empty();
        let far = |place: u32| self.preference.far_of(self.plan, self.plan.seat_at(place));
        let mut group = nearest::nearest(points, self.count, is_focused.then_some(&far))?;
        self.spare_singles(&mut group, allowed);
        let mut seats: Seats = group.iter().map(|&place| self.plan.seat_at(place)).collect();
        seats.sort_unstable();
        Some(seats)
    }

    /// Exchanges places of a group for single ones that it would leave, the farthest from those first, as long as that
    /// leaves fewer.
    fn spare_singles(&self, group: &mut Seats, allowed: &[Range<u32>]) {
        let mut tries = 0;
        'exchanged: loop {
            let singles = self.singles(group);
            for &single in singles.iter().filter(|&&single| is_in(allowed, single)) {
                let mut members: SmallVec<[(u64, usize); 8]> = SmallVec::new();
                members.extend(group.iter().map(|&member| self.distance(single, member).to_bits()).zip(0..));
                members.sort_unstable();
                for (_, member) in members.into_iter().rev() {
                    let given = std::mem::replace(&mut group[member], single);
                    if self.singles(group).len() < singles.len() {
                        continue 'exchanged;
                    }
                    group[member] = given;
                    tries += group.len();
                    if tries > EXCHANGES_MAX {
                        return;
                    }
                }
            }
            return;
        }
    }

    /// The places that a group would leave alone.
    fn singles(&self, group: &[u32]) -> Seats {
        let mut singles = Seats::new();
        for &member in group {
            let Some(run) = from_place(self.plan.runs(), member).first() else { continue };
            for place in [Side::Before, Side::After].into_iter().filter_map(|side| beside(run, member, side)) {
                if !singles.contains(&place) && self.is_single(run, place, group) {
                    singles.push(place);
                }
            }
        }
        singles
    }

    fn distance(&self, a: u32, b: u32) -> f64 {
        let [a, b] = [a, b].map(|place| self.plan.position(self.plan.seat_at(place)).map(f64::from));
        (a[0] - b[0]).hypot(a[1] - b[1])
    }
}

impl Window {
    /// Whether it is better than any of a later row can be, where there is no focus.
    fn is_before(&self, row: u32) -> bool {
        self.flaws == 0 && self.row < row
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// The neighbor of a place.
fn beside(run: &Run, place: u32, side: Side) -> Option<u32> {
    let Range { start, end } = run.places;
    let is_last = if side == Side::Before { place == start } else { place + 1 == end };
    match side {
        Side::Before if !is_last => Some(place - 1),
        Side::After if !is_last => Some(place + 1),
        Side::Before => run.is_ring.then_some(end - 1),
        Side::After => run.is_ring.then_some(start),
    }
}

/// Whether a place is in one of ascending ranges.
fn is_in(ranges: &[Range<u32>], place: u32) -> bool {
    let first = ranges.partition_point(|range| range.end <= place);
    ranges.get(first).is_some_and(|range| range.start <= place)
}

/// The runs from that of `place` on. Mostly it is one of the next; if all before it are sold, it may be far.
fn from_place(runs: &[Run], place: u32) -> &[Run] {
    const NEXT: usize = 4;
    let ends_before = |run: &Run| run.places.end <= place;
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
