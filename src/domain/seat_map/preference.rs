//! What an option says of its seats: which are nearer to where all look, and which are kept for those who name them.

use std::ops::Range;

use hashbrown::HashMap;

use crate::domain::seating_plan::SeatingPlan;

/// Where the better seats are.
#[derive(Debug, Clone, PartialEq)]
pub enum Focus {
    /// Around this point of the plan.
    Point([f64; 2]),
    /// In the zones of these indices, best first; other zones come after them.
    Zones(Vec<u32>),
}

/// What an option prefers, put together with its plan once for all requests.
#[derive(Debug, Clone, Default)]
pub struct Preference {
    /// Where the better seats are, if it is a point.
    point: Option<[f64; 2]>,
    /// If zones are better: by zone, how far it is; else empty.
    zones: Vec<Far>,
    /// All rows that have seats, the nearest first, each with how far the nearest of its seats is; empty without a focus.
    rows: Vec<(Far, u32)>,
    /// By category, whether it is kept for those who name it.
    kept: Vec<bool>,
    /// If some are: all places that are not, as ascending ranges, each maximal.
    open: Option<Vec<Range<u32>>>,
}

/// How far seats are from the focus, in the order of the numbers: the bits of a float that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Far(u32);

impl Far {
    /// Rounded, so that what differs only in the order of a sum is as far.
    fn of(distance: f64) -> Self {
        Self((distance as f32).to_bits())
    }
}

impl Preference {
    /// Of a plan, with the categories of these indices kept for those who name them.
    #[must_use]
    pub fn new(plan: &SeatingPlan, focus: Option<Focus>, accessible: &[u32]) -> Self {
        let mut kept = vec![false; plan.categories().len()];
        for category in accessible {
            kept[*category as usize] = true;
        }
        let open = (!accessible.is_empty()).then(|| open(plan, &kept));
        let (point, zones) = match &focus {
            None => (None, Vec::new()),
            Some(Focus::Point(point)) => (Some(*point), Vec::new()),
            Some(Focus::Zones(zones)) => (None, zone_fars(plan, zones)),
        };
        let mut preference = Self { point, zones, rows: Vec::new(), kept, open };
        if focus.is_some() {
            let filled = (0..).zip(plan.rows()).filter(|(_, row)| !row.places.is_empty());
            preference.rows = filled.map(|(index, row)| (preference.least(plan, index, row.zone), index)).collect();
            preference.rows.sort_unstable();
        }
        preference
    }

    /// How far the nearest seat of a row is.
    fn least(&self, plan: &SeatingPlan, row: u32, zone: u32) -> Far {
        let Some(point) = self.point else { return self.zone_far(zone) };
        let seats = plan.rows()[row as usize].places.clone().map(|place| plan.seat_at(place));
        Far::of(seats.map(|seat| distance(plan, point, seat)).fold(f64::INFINITY, f64::min))
    }

    /// The rows to look at, in this order, if it is not that of the plan.
    pub(super) fn rows(&self) -> &[(Far, u32)] {
        &self.rows
    }

    /// How far each window of `count` of these seats is, which stand beside each other in this order: the mean of its seats.
    /// Each takes as long as one seat, however large it is. `None` if all of a row are as far.
    pub(super) fn fars(&self, plan: &SeatingPlan, seats: impl Iterator<Item = u32>, count: usize) -> Option<Vec<Far>> {
        let point = self.point?;
        // A window is the end of one block and the start of the next. Nothing is subtracted, so that no error is left behind.
        let mut starts: Vec<f64> = seats.map(|seat| distance(plan, point, seat)).collect();
        let mut ends = starts.clone();
        starts.chunks_mut(count).for_each(|block| add_up(block.iter_mut()));
        ends.chunks_mut(count).for_each(|block| add_up(block.iter_mut().rev()));
        let far = |(first, end): (usize, &f64)| {
            let start = if first.is_multiple_of(count) { 0.0 } else { starts[first + count - 1] };
            Far::of((end + start) / count as f64)
        };
        let windows = (starts.len() + 1).saturating_sub(count);
        Some(ends.iter().take(windows).enumerate().map(far).collect())
    }

    /// Whether seats of one row may be at different distances.
    pub(super) fn is_point(&self) -> bool {
        self.point.is_some()
    }

    /// How far a group of seats of one row is: the mean of its seats.
    pub(super) fn far(&self, plan: &SeatingPlan, row: u32, seats: impl ExactSizeIterator<Item = u32>) -> Far {
        let Some(point) = self.point else { return self.zone_far(plan.rows()[row as usize].zone) };
        let count = seats.len() as f64;
        Far::of(seats.map(|seat| distance(plan, point, seat)).sum::<f64>() / count)
    }

    fn zone_far(&self, zone: u32) -> Far {
        self.zones.get(zone as usize).copied().unwrap_or_default()
    }

    /// How far one seat is.
    pub(super) fn far_of(&self, plan: &SeatingPlan, seat: u32) -> Far {
        match self.point {
            Some(point) => Far::of(distance(plan, point, seat)),
            None => self.zone_far(plan.rows()[plan.seat(seat).row as usize].zone),
        }
    }

    /// Whether a category goes only to those who name it.
    pub(super) fn is_kept(&self, category: u32) -> bool {
        self.kept.get(category as usize).copied().unwrap_or(false)
    }

    /// The places that anybody may be given.
    pub(super) fn open(&self, plan: &SeatingPlan) -> Vec<Range<u32>> {
        self.open.clone().unwrap_or_else(|| std::iter::once(0..plan.len()).collect())
    }
}

/// By zone, its place among the better ones; a zone belongs to the first of its name.
fn zone_fars(plan: &SeatingPlan, better: &[u32]) -> Vec<Far> {
    let mut places = HashMap::new();
    for (place, zone) in better.iter().enumerate() {
        places.entry(&*plan.zones()[*zone as usize].name).or_insert(place);
    }
    let place = |name: &str| places.get(name).copied().unwrap_or(better.len());
    plan.zones().iter().map(|zone| Far::of(place(&zone.name) as f64)).collect()
}

/// Makes of each number the sum of all up to it.
fn add_up<'a>(numbers: impl Iterator<Item = &'a mut f64>) {
    let mut sum = 0.0;
    for number in numbers {
        sum += *number;
        *number = sum;
    }
}

fn distance(plan: &SeatingPlan, [x, y]: [f64; 2], seat: u32) -> f64 {
    let [dx, dy] = plan.position(seat).map(f64::from);
    ((dx - x) * (dx - x) + (dy - y) * (dy - y)).sqrt()
}

fn open(plan: &SeatingPlan, kept: &[bool]) -> Vec<Range<u32>> {
    let mut taken: Vec<Range<u32>> = (0..)
        .zip(kept)
        .filter(|(_, kept)| **kept)
        .flat_map(|(category, _)| plan.category_places(category).unwrap_or_default().iter().cloned())
        .collect();
    taken.sort_unstable_by_key(|range| range.start);
    let mut open = Vec::new();
    let mut from = 0;
    for range in taken.into_iter().chain(std::iter::once(plan.len()..plan.len())) {
        if from < range.start {
            open.push(from..range.start);
        }
        from = range.end;
    }
    open
}
