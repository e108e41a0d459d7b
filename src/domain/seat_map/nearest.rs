//! Finds seats that are near to each other, wherever they are.
//!
//! A group is measured by its spread: the sum of the distances of its seats from the one in its middle. For each seat
//! as the middle, the best group is that seat and those nearest to it, so the least spread there is takes a search
//! around every free seat. A grid over the free seats makes each of these short and tells, for each cell, a spread
//! that no group around its seats can be below. Cells are searched from the lowest such bound up, of equal ones the nearest
//! to the focus first, until none is left that could do better or [`WORK_MAX`] is used up. In a house with many free seats
//! the latter may come first: then the group is a good one and not proven the best.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::best_available::Seats;
use super::preference::Far;

/// How many cells and seats to look at, all in all: what takes a few hundred microseconds.
const WORK_MAX: usize = 30_000;

/// The `count` seats of least spread. Of two groups that around whose middle seat `far` is less; if that is not given, the one
/// found first, which depends on the seats alone.
pub(super) fn nearest(
    free: impl Iterator<Item = (u32, [f32; 2])>,
    count: u32,
    far: Option<&dyn Fn(u32) -> Far>,
) -> Option<Seats> {
    let points: Vec<Point> = free.map(|(seat, [x, y])| Point { seat, x: x.into(), y: y.into() }).collect();
    let count = count as usize;
    if points.len() < count {
        return None;
    }
    let grid = Grid::new(&points, count);
    Search { grid, count, far, best: None, best_spread: f64::INFINITY, best_far: Far::default(), work: 0 }.run()
}

#[derive(Debug, Clone, Copy)]
struct Point {
    seat: u32,
    x: f64,
    y: f64,
}

impl Point {
    fn distance(&self, other: &Self) -> f64 {
        let (dx, dy) = (self.x - other.x, self.y - other.y);
        (dx * dx + dy * dy).sqrt()
    }
}

struct Search<'a> {
    grid: Grid,
    count: usize,
    far: Option<&'a dyn Fn(u32) -> Far>,
    best: Option<Seats>,
    best_spread: f64,
    best_far: Far,
    work: usize,
}

impl Search<'_> {
    fn run(mut self) -> Option<Seats> {
        let mut near = Vec::new();
        // Bounds are not negative, and the bits of such floats are in their order. Among equal bounds what is nearest to
        // the focus comes first, as the work may be used up by them; then where seats are densest.
        let mut cells: BinaryHeap<_> = (0..self.grid.cells())
            .filter(|&cell| !self.grid.points(cell).is_empty())
            .map(|cell| {
                let points = self.grid.points(cell);
                Reverse((
                    self.grid.least_spread(cell, self.count).to_bits(),
                    self.far(&points[points.len() / 2]),
                    Reverse(points.len()),
                    cell,
                ))
            })
            .collect();
        while let Some(Reverse((bound, _, _, cell))) = cells.pop() {
            if self.is_hopeless(f64::from_bits(bound)) {
                break;
            }
            for index in 0..self.grid.points(cell).len() {
                let middle = self.grid.points(cell)[index];
                self.search_around(&middle, cell, &mut near);
                if self.work > WORK_MAX {
                    return self.best;
                }
            }
        }
        self.best
    }

    fn far(&self, middle: &Point) -> Far {
        self.far.map_or(Far::default(), |far| far(middle.seat))
    }

    /// Whether no group of at least this spread is better.
    fn is_hopeless(&self, spread: f64) -> bool {
        if self.far.is_some() { spread > self.best_spread } else { spread >= self.best_spread }
    }

    /// Looks for a better group around one seat; `near` is scratch space.
    fn search_around(&mut self, middle: &Point, cell: usize, near: &mut Vec<(u64, u32)>) {
        near.clear();
        for ring in 0..=self.grid.rings() {
            let count_before = near.len();
            let mut cells = 0;
            self.grid.for_each_in_ring(cell, ring, |points| {
                cells += 1;
                near.extend(points.iter().map(|point| (middle.distance(point).to_bits(), point.seat)));
            });
            self.work += cells + near.len() - count_before;
            // Seats outside this ring are at least this far away.
            let reach = ring as f64 * self.grid.cell_side;
            let missing = self.count.saturating_sub(near.len());
            if self.is_hopeless(missing as f64 * reach) {
                return;
            }
            if missing == 0 {
                let (_, &mut (farthest, _), _) = near.select_nth_unstable(self.count - 1);
                if f64::from_bits(farthest) <= reach {
                    break;
                }
            }
        }
        near.truncate(self.count);
        near.sort_unstable();
        let mut spread = near.iter().map(|&(distance, _)| f64::from_bits(distance)).sum();
        if self.far.is_some() {
            // So that what differs only in the order of a sum is the same.
            spread = f64::from(spread as f32);
        }
        let far = self.far(middle);
        if (spread, far) < (self.best_spread, self.best_far) {
            (self.best_spread, self.best_far) = (spread, far);
            let mut seats: Seats = near.iter().map(|&(_, seat)| seat).collect();
            seats.sort_unstable();
            self.best = Some(seats);
        }
    }
}

/// The free seats by where they are: square cells, row by row.
struct Grid {
    cell_side: f64,
    columns: usize,
    rows: usize,
    /// By cell, where its points start; one more at the end.
    starts: Vec<u32>,
    points: Vec<Point>,
    /// How many points are above and to the left of each corner, row by row.
    sums: Vec<u32>,
}

impl Grid {
    fn new(points: &[Point], count: usize) -> Self {
        let (mut min, mut max) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
        for point in points {
            min = [min[0].min(point.x), min[1].min(point.y)];
            max = [max[0].max(point.x), max[1].max(point.y)];
        }
        let (width, height) = (max[0] - min[0], max[1] - min[1]);
        // A group should fill a few cells. Houses are hollow, so that cells hold more than their share.
        let cells = (points.len() / (count / 4).max(4) + 1) as f64;
        let side = (width * height / cells).sqrt().max(width / cells).max(height / cells);
        let cell_side = if side > 0.0 { side } else { 1.0 };
        let along = |length: f64| (length / cell_side) as usize;
        let (columns, rows) = (along(width) + 1, along(height) + 1);
        let cell_of = |point: &Point| along(point.y - min[1]) * columns + along(point.x - min[0]);
        let (starts, points) = bucket(points, columns * rows, cell_of);
        let sums = sums(&starts, columns, rows);
        Self { cell_side, columns, rows, starts, points, sums }
    }

    fn cells(&self) -> usize {
        self.columns * self.rows
    }

    /// How many rings there can be around a cell.
    fn rings(&self) -> usize {
        self.columns.max(self.rows)
    }

    fn points(&self, cell: usize) -> &[Point] {
        &self.points[self.starts[cell] as usize..self.starts[cell + 1] as usize]
    }

    /// Hands out the points of each cell that is exactly `ring` cells away.
    fn for_each_in_ring(&self, cell: usize, ring: usize, mut each: impl FnMut(&[Point])) {
        let (column, row) = (cell % self.columns, cell / self.columns);
        let columns = column.saturating_sub(ring)..(column + ring + 1).min(self.columns);
        for y in row.saturating_sub(ring)..(row + ring + 1).min(self.rows) {
            if y.abs_diff(row) == ring {
                columns.clone().for_each(|x| each(self.points(y * self.columns + x)));
                continue;
            }
            if column >= ring {
                each(self.points(y * self.columns + column - ring));
            }
            if column + ring < self.columns {
                each(self.points(y * self.columns + column + ring));
            }
        }
    }

    /// A spread that no group around a seat of this cell can be below: each seat beyond ring k is at least k cells
    /// away, which is to say that it costs a cell for each ring but the innermost that it is beyond.
    fn least_spread(&self, cell: usize, count: usize) -> f64 {
        const RINGS_MAX: usize = 32;
        let missing = |ring| count.saturating_sub(self.within(cell, ring));
        let steps: usize = (1..=RINGS_MAX).map(missing).take_while(|&missing| missing > 0).sum();
        steps as f64 * self.cell_side
    }

    /// How many points are at most `ring` cells away.
    fn within(&self, cell: usize, ring: usize) -> usize {
        let (column, row) = (cell % self.columns, cell / self.columns);
        let (left, right) = (column.saturating_sub(ring), (column + ring + 1).min(self.columns));
        let (top, bottom) = (row.saturating_sub(ring), (row + ring + 1).min(self.rows));
        let sum = |x: usize, y: usize| self.sums[y * (self.columns + 1) + x] as usize;
        sum(right, bottom) + sum(left, top) - sum(left, bottom) - sum(right, top)
    }
}

/// Sorts points into cells, keeping their order in each.
fn bucket(points: &[Point], cells: usize, cell_of: impl Fn(&Point) -> usize) -> (Vec<u32>, Vec<Point>) {
    let of_point: Vec<u32> = points.iter().map(|point| cell_of(point) as u32).collect();
    let mut ends = vec![0; cells + 1];
    for &cell in &of_point {
        ends[cell as usize] += 1;
    }
    let mut total = 0;
    for end in &mut ends {
        total += *end;
        *end = total;
    }
    // Filled from the back, each end becomes the start.
    let mut sorted = points.to_vec();
    for (point, &cell) in points.iter().zip(&of_point).rev() {
        ends[cell as usize] -= 1;
        sorted[ends[cell as usize] as usize] = *point;
    }
    (ends, sorted)
}

fn sums(starts: &[u32], columns: usize, rows: usize) -> Vec<u32> {
    let mut sums = vec![0; (columns + 1) * (rows + 1)];
    for row in 0..rows {
        let first = starts[row * columns];
        for column in 0..columns {
            let in_row = starts[row * columns + column + 1] - first;
            sums[(row + 1) * (columns + 1) + column + 1] = sums[row * (columns + 1) + column + 1] + in_row;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The least spread, by trying every seat as the middle.
    fn least_spread(points: &[Point], count: usize) -> f64 {
        let spread = |middle: &Point| {
            let mut distances: Vec<f64> = points.iter().map(|point| middle.distance(point)).collect();
            distances.sort_by(f64::total_cmp);
            distances[..count].iter().sum()
        };
        points.iter().map(spread).fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        #[test]
        fn no_group_of_a_small_house_is_closer(
            positions in prop::collection::vec((0_u16..400, prop_oneof![0_u16..1, 0_u16..40, 0_u16..400]), 1..250),
            count in prop_oneof![1_usize..10, 1_usize..60],
        ) {
            let points: Vec<Point> = (0..)
                .zip(&positions)
                .map(|(seat, &(x, y))| Point { seat, x: f64::from(x), y: f64::from(y) })
                .collect();
            let free = points.iter().map(|point| (point.seat, [point.x as f32, point.y as f32]));
            let found = nearest(free, count as u32, None);
            prop_assert_eq!(found.is_some(), count <= points.len());
            let Some(found) = found else { return Ok(()) };
            prop_assert!(found.len() == count && found.is_sorted_by(|a, b| a < b));
            let group: Vec<Point> = found.iter().map(|&seat| points[seat as usize]).collect();
            let (spread, least) = (least_spread(&group, count), least_spread(&points, count));
            prop_assert!((spread - least).abs() <= 1e-9 * (1.0 + least), "{} is not {}", spread, least);
        }
    }
}
