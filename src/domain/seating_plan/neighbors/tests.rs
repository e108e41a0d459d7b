//! Rows as they are drawn, and a naive model of who is beside whom.

use std::f64::consts::TAU;

use proptest::prelude::*;

use super::*;

/// As `0 1 | 2`, a ring with a star.
fn text(seats: &[[f64; 2]]) -> String {
    let chain = |chain: &Chain| {
        let seats: Vec<String> = chain.seats.iter().map(ToString::to_string).collect();
        format!("{}{}", seats.join(" "), if chain.is_ring { "*" } else { "" })
    };
    chains(seats).iter().map(chain).collect::<Vec<_>>().join(" | ")
}

fn straight(xs: &[f64]) -> Vec<[f64; 2]> {
    xs.iter().map(|&x| [x, 3.0]).collect()
}

/// `seats` of a circle of `of`, drawn on whole pixels.
fn circle(seats: u32, of: u32) -> Vec<[f64; 2]> {
    let angle = |seat: u32| TAU * f64::from(seat) / f64::from(of);
    (0..seats).map(|seat| [(60.0 * angle(seat).cos()).round(), (60.0 * angle(seat).sin()).round()]).collect()
}

#[test]
fn neighbors_are_those_that_stand_beside_each_other() {
    let rows: &[(&[f64], &str)] = &[
        (&[], ""),
        (&[5.0], "0"),
        (&[0.0, 500.0], "0 1"),
        (&[0.0, 0.0, 0.0], "0 1 2"),
        (&[0.0, 0.0, 0.0, 1.0], "0 1 2 | 3"),
        (&[0.0, 28.0, 96.0], "0 1 | 2"),
        (&[0.0, 10.0, 25.0, 35.0], "0 1 2 3"),
        (&[0.0, 10.0, 25.1, 35.0], "0 1 | 2 3"),
        (&[0.0, 10.0, 20.0, 50.0, 60.0, 90.0, 100.0], "0 1 2 | 3 4 | 5 6"),
        // The pitch is that of neighbors, not of seats that the plan lists one after the other.
        (&[0.0, 80.0, 105.0, 185.0], "0 | 1 2 | 3"),
        (&[0.0, 80.0, 160.0, 185.0, 265.0, 345.0], "0 1 | 2 3 | 4 5"),
        // Along the row, in whatever order it is listed.
        (&[0.0, 20.0, 10.0, 30.0, 40.0], "0 2 1 3 4"),
        (&[-14.0, 14.0, -42.0, 42.0, -70.0, 70.0], "4 2 0 1 3 5"),
        (&[40.0, 30.0, 20.0, 0.0], "0 1 2 | 3"),
        // By number, with an aisle in the middle: runs stand in the order in which they come along the row.
        (&[-50.0, 50.0, -60.0, 60.0, -70.0, 70.0], "4 2 0 | 1 3 5"),
    ];
    for (xs, expected) in rows {
        let seats = straight(xs);
        assert_eq!(text(&seats), *expected, "{xs:?}");
        let upright: Vec<_> = seats.iter().map(|&[x, y]| [y, x]).collect();
        assert_eq!(text(&upright), *expected, "upright {xs:?}");
        let aslant: Vec<_> = seats.iter().map(|&[x, y]| [x * 3.0 - y * 4.0, x * 4.0 + y * 3.0]).collect();
        assert_eq!(text(&aslant), *expected, "aslant {xs:?}");
    }
}

#[test]
fn at_a_round_table_the_first_and_the_last_are_neighbors() {
    for (seats, expected) in
        [(3, "0 1 2*"), (4, "0 1 2 3*"), (5, "0 1 2 3 4*"), (8, "0 1 2 3 4 5 6 7*"), (12, "0 1 2 3 4 5 6 7 8 9 10 11*")]
    {
        assert_eq!(text(&circle(seats, seats)), expected);
    }
    // With room for one to serve, it has ends; so have rows that are bent.
    assert_eq!(text(&circle(8, 10)), "0 1 2 3 4 5 6 7");
    assert_eq!(text(&circle(20, 80)), (0..20).map(|n| n.to_string()).collect::<Vec<_>>().join(" "));
    assert_eq!(text(&[[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]]), "0 1 2");
    assert_eq!(text(&straight(&[0.0, 10.0, 20.0, 30.0])), "0 1 2 3");
    // Seats of an oval table, with somebody at each end.
    let oval =
        [[0.0, 0.0], [30.0, 0.0], [60.0, 0.0], [80.0, 25.0], [60.0, 50.0], [30.0, 50.0], [0.0, 50.0], [-20.0, 25.0]];
    assert_eq!(text(&oval), "0 1 2 3 4 5 6 7*");
}

#[test]
fn who_sits_in_front_is_no_neighbor() {
    let block: Vec<[f64; 2]> =
        (0..3).flat_map(|y| (0..5).map(move |x| [f64::from(x) * 28.0, f64::from(y) * 34.0])).collect();
    assert_eq!(text(&block), "0 1 2 3 4 | 5 6 7 8 9 | 10 11 12 13 14");
}

#[test]
fn in_a_heap_of_seats_every_seat_is_found() {
    // Two columns, far apart, of which each is longer than is looked at.
    let heap: Vec<[f64; 2]> = (0..4_000).map(|n| [f64::from(n % 2) * 9_000.0, f64::from(n / 2)]).collect();
    let found = chains(&heap);
    assert_eq!(found.iter().map(|chain| chain.seats.len()).collect::<Vec<_>>(), [2_000, 2_000]);
}

/// Positions along a row, aisles among them, in whole pixels.
fn rows() -> impl Strategy<Value = Vec<f64>> {
    let step = prop_oneof![6 => Just(28_u32), 2 => 20_u32..60, 1 => 60_u32..200];
    prop::collection::vec(step, 0..40).prop_map(|steps| {
        let mut x = 0;
        let steps = steps.into_iter().map(|step| {
            x += step;
            f64::from(x)
        });
        std::iter::once(0.0).chain(steps).collect()
    })
}

/// The pairs of neighbors of a straight row, by the words of the rule.
fn naive(xs: &[f64]) -> Vec<(usize, usize)> {
    let nearest = |seat: usize| {
        let others = (0..xs.len()).filter(|&other| other != seat);
        others.map(|other| (xs[seat] - xs[other]).abs()).fold(f64::INFINITY, f64::min)
    };
    let pairs = (0..xs.len()).flat_map(|a| (a + 1..xs.len()).map(move |b| (a, b)));
    let are_near = |&(a, b): &(usize, usize)| (xs[a] - xs[b]).abs() <= 1.5 * nearest(a).min(nearest(b));
    let none_between = |&(a, b): &(usize, usize)| !xs.iter().any(|&x| x > xs[a].min(xs[b]) && x < xs[a].max(xs[b]));
    pairs.filter(are_near).filter(none_between).collect()
}

fn neighbors(chains: &[Chain]) -> Vec<(usize, usize)> {
    let mut pairs: Vec<_> = chains
        .iter()
        .flat_map(|chain| {
            let ends = chain.is_ring.then(|| [chain.seats[chain.seats.len() - 1], chain.seats[0]]);
            chain.seats.windows(2).map(|pair| [pair[0], pair[1]]).chain(ends).collect::<Vec<_>>()
        })
        .map(|[a, b]| (a.min(b) as usize, a.max(b) as usize))
        .collect();
    pairs.sort_unstable();
    pairs
}

proptest! {
    #[test]
    fn neighbors_are_those_of_a_naive_model(
        xs in rows(),
        turn in prop::sample::select(vec![[1.0, 0.0], [0.0, 1.0], [3.0, 4.0], [-5.0, 12.0]]),
        order in any::<u64>(),
    ) {
        let mut listed: Vec<usize> = (0..xs.len()).collect();
        let mut state = order;
        for last in (1..listed.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            listed.swap(last, (state >> 33) as usize % (last + 1));
        }
        let shuffled: Vec<f64> = listed.iter().map(|&place| xs[place]).collect();
        let seats: Vec<[f64; 2]> = shuffled.iter().map(|&x| [x * turn[0], x * turn[1]]).collect();
        let chains = chains(&seats);
        prop_assert_eq!(neighbors(&chains), naive(&shuffled));
        // Along the row, one way or the other.
        for chain in &chains {
            let along: Vec<f64> = chain.seats.iter().map(|&seat| shuffled[seat as usize]).collect();
            prop_assert!(along.is_sorted() || along.is_sorted_by(|a, b| a >= b), "{:?}", along);
        }
    }

    #[test]
    fn every_seat_is_in_one_chain(seats in prop::collection::vec((0_u8..40, 0_u8..40), 0..60)) {
        let seats: Vec<[f64; 2]> = seats.into_iter().map(|(x, y)| [x.into(), y.into()]).collect();
        let chains = chains(&seats);
        let mut all: Vec<u32> = chains.iter().flat_map(|chain| chain.seats.clone()).collect();
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(0..seats.len() as u32));
        prop_assert!(chains.iter().all(|chain| !chain.is_ring || chain.seats.len() >= 3));
    }
}
