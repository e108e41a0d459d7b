//! Who sits beside whom in a row, told by where its seats stand; the order in which a plan lists them says nothing of it.
//!
//! Two seats of a row are neighbors when their distance is at most 1.5 times that from either to whatever seat of the row
//! is nearest to it. A seat has at most two, and they are not on the same side of it: the way from one over the seat to the
//! other turns by less than a right angle. The shortest distances are taken first. So rows may be straight, bent or at any
//! angle, and listed by number, odd left and even right.
//!
//! A row in which this leads back to where it began is a round table. Tables of three or four turn more sharply: they are
//! known by sides that are all about as long.

use std::ops::Range;

/// How much farther than the nearest seat a neighbor may be.
const REACH: f64 = 1.5;
/// The longest side of a table of three or four, in its shortest.
const SMALL_TABLE: f64 = 1.25;
/// How many seats to look at on each side of one, in their order along the row's longer side: what keeps a heap of seats
/// from taking time that grows with its square. Rows of less seats are known exactly.
const LOOK: usize = 512;

/// Seats of one row of which each is beside the next, by their places in the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) seats: Vec<u32>,
    /// Whether the last is beside the first, too.
    pub(super) is_ring: bool,
}

/// Cuts a row into chains. If the plan lists the seats of each one after the other, they are in its order, else in that along
/// the row.
pub(super) fn chains(seats: &[[f64; 2]]) -> Vec<Chain> {
    if let Some(table) = small_table(seats) {
        return vec![table];
    }
    let links = Links::of(seats);
    let mut chains = links.chains();
    let is_in_order = chains.iter().flat_map(|chain| &chain.seats).is_sorted();
    if !is_in_order {
        let axis = long_side(seats);
        let at = |seat: u32| seats[seat as usize][axis];
        for chain in chains.iter_mut().filter(|chain| !chain.is_ring) {
            if at(chain.seats[0]) > at(chain.seats[chain.seats.len() - 1]) {
                chain.seats.reverse();
            }
        }
        let least = |chain: &Chain| chain.seats.iter().map(|&seat| at(seat)).fold(f64::INFINITY, f64::min);
        chains.sort_by(|a, b| least(a).total_cmp(&least(b)));
    }
    chains
}

/// The row as a table of three or four, seen around its middle.
fn small_table(seats: &[[f64; 2]]) -> Option<Chain> {
    if !(3..=4).contains(&seats.len()) {
        return None;
    }
    let middle = [0, 1].map(|axis| seats.iter().map(|seat| seat[axis]).sum::<f64>() / seats.len() as f64);
    let angle = |seat: u32| {
        let [x, y] = seats[seat as usize];
        (y - middle[1]).atan2(x - middle[0])
    };
    let mut around: Vec<u32> = (0..seats.len() as u32).collect();
    around.sort_by(|&a, &b| angle(a).total_cmp(&angle(b)));
    let next = around.iter().cycle().skip(1);
    let sides = around.iter().zip(next).map(|(&a, &b)| distance(seats[a as usize], seats[b as usize]));
    let (shortest, longest) =
        sides.fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), side| (least.min(side), most.max(side)));
    let first = around.iter().position(|&seat| seat == 0)?;
    around.rotate_left(first);
    if around[1] > around[around.len() - 1] {
        around[1..].reverse();
    }
    (shortest > 0.0 && longest <= SMALL_TABLE * shortest).then_some(Chain { seats: around, is_ring: true })
}

/// Two seats that may be neighbors; in the order in which they become it.
#[derive(Clone, Copy)]
struct Pair {
    distance: f64,
    a: u32,
    b: u32,
}

/// The neighbors of each seat, as they are found.
struct Links<'a> {
    seats: &'a [[f64; 2]],
    of: Vec<[Option<u32>; 2]>,
}

impl<'a> Links<'a> {
    fn of(seats: &'a [[f64; 2]]) -> Self {
        let mut links = Self { seats, of: vec![[None; 2]; seats.len()] };
        let mut pairs = pairs(seats);
        // Of pairs that are as near, those first that the plan lists together.
        let listed = |pair: &Pair| (pair.b - pair.a, pair.a);
        pairs.sort_by(|a, b| a.distance.total_cmp(&b.distance).then_with(|| listed(a).cmp(&listed(b))));
        for Pair { a, b, .. } in pairs {
            if links.has_room(a, b) && links.has_room(b, a) {
                links.join(a, b);
            }
        }
        links
    }

    /// Whether `seat` has no neighbor on the side of `other`, and less than two.
    fn has_room(&self, seat: u32, other: u32) -> bool {
        match self.of[seat as usize] {
            [None, _] => true,
            [Some(_), Some(_)] => false,
            [Some(neighbor), None] => {
                let [from, at, to] = [neighbor, seat, other].map(|seat| self.seats[seat as usize]);
                let (x, y) = ((at[0] - from[0]) * (to[0] - at[0]), (at[1] - from[1]) * (to[1] - at[1]));
                x + y > 0.0 || from == at || at == to
            }
        }
    }

    fn join(&mut self, a: u32, b: u32) {
        for (seat, other) in [(a, b), (b, a)] {
            let link = &mut self.of[seat as usize];
            link[usize::from(link[0].is_some())] = Some(other);
        }
    }

    /// Each from the end that the plan lists first, in the order of those ends; then the rings.
    fn chains(&self) -> Vec<Chain> {
        let mut is_known = vec![false; self.seats.len()];
        let mut chains = Vec::new();
        for is_ring in [false, true] {
            for first in 0..self.seats.len() as u32 {
                let is_end = self.of[first as usize][1].is_none();
                if !is_known[first as usize] && (is_end || is_ring) {
                    chains.push(Chain { seats: self.walk(first, &mut is_known), is_ring });
                }
            }
        }
        chains
    }

    fn walk(&self, first: u32, is_known: &mut [bool]) -> Vec<u32> {
        let mut seats = Vec::new();
        let mut next = Some(first);
        while let Some(seat) = next {
            seats.push(seat);
            is_known[seat as usize] = true;
            let neighbors = self.of[seat as usize].iter().flatten();
            next = neighbors.copied().filter(|&neighbor| !is_known[neighbor as usize]).min();
        }
        seats
    }
}

/// All pairs of seats that are near enough to each other to be neighbors.
fn pairs(seats: &[[f64; 2]]) -> Vec<Pair> {
    let axis = long_side(seats);
    let mut along: Vec<u32> = (0..seats.len() as u32).collect();
    let key = |seat: u32| (seats[seat as usize][axis], seats[seat as usize][1 - axis]);
    along.sort_by(|&a, &b| {
        let ((a0, a1), (b0, b1)) = (key(a), key(b));
        a0.total_cmp(&b0).then(a1.total_cmp(&b1)).then(a.cmp(&b))
    });
    let places: Vec<[f64; 2]> = along.iter().map(|&seat| seats[seat as usize]).collect();
    let apart = |i: usize, j: usize| (places[i][axis] - places[j][axis]).abs();
    let window = |i: usize| -> Range<usize> { i.saturating_sub(LOOK)..(i + LOOK + 1).min(places.len()) };
    let nearest: Vec<f64> = (0..places.len())
        .map(|i| {
            let mut least = f64::INFINITY;
            for j in (window(i).start..i).rev() {
                if apart(i, j) >= least {
                    break;
                }
                least = least.min(distance(places[i], places[j]));
            }
            for j in i + 1..window(i).end {
                if apart(i, j) >= least {
                    break;
                }
                least = least.min(distance(places[i], places[j]));
            }
            least
        })
        .collect();
    let mut pairs = Vec::with_capacity(places.len());
    for i in 0..places.len() {
        for j in i + 1..window(i).end {
            if apart(i, j) > REACH * nearest[i] {
                break;
            }
            let distance = distance(places[i], places[j]);
            if distance <= REACH * nearest[i].min(nearest[j]) {
                let (a, b) = (along[i].min(along[j]), along[i].max(along[j]));
                pairs.push(Pair { distance, a, b });
            }
            // Those that stand on the same spot are beside each other in the order of the plan.
            if nearest[i] == 0.0 {
                break;
            }
        }
    }
    pairs
}

/// The axis along which seats are spread farther: 0 for x, 1 for y.
fn long_side(seats: &[[f64; 2]]) -> usize {
    let spread = |axis: usize| {
        let ends = seats.iter().map(|seat| seat[axis]);
        ends.clone().fold(f64::NEG_INFINITY, f64::max) - ends.fold(f64::INFINITY, f64::min)
    };
    usize::from(spread(1) > spread(0))
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    let (dx, dy) = (a[0] - b[0], a[1] - b[1]);
    (dx * dx + dy * dy).sqrt()
}

#[cfg(test)]
mod tests;
