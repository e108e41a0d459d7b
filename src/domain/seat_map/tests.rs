//! The seat map against a naive model of it, and what counts as best.

use proptest::prelude::*;

use super::best_available::Seats;
use super::*;
use crate::domain::seating_plan::{Limits, SeatingPlan};
use crate::testing::plans;

fn statuses() -> impl Strategy<Value = Status> {
    prop::sample::select(&Status::ALL[..])
}

fn changes(seats: u32, count: usize) -> impl Strategy<Value = Vec<(u32, Status, u64, u64)>> {
    prop::collection::vec((0..seats, statuses(), 0..=OWNER_MAX, prop_oneof![1..6_u64, 1..=u64::MAX]), 0..count)
}

proptest! {
    #[test]
    fn a_map_agrees_with_a_list(changes in changes(300, 200), since in prop_oneof![0..6_u64, any::<u64>()]) {
        let mut map = SeatMap::new(300);
        let mut model = vec![(Status::Free, 0, Lsn(0)); 300];
        for (seat, status, owner, seq) in changes {
            map.set(seat, status, owner, Lsn(seq));
            model[seat as usize] = (status, owner, Lsn(seq));
        }
        for (seat, expected) in (0..).zip(&model) {
            prop_assert_eq!(&(map.status(seat), map.owner(seat), map.seq(seat)), expected);
            prop_assert_eq!(map.is_free(seat), expected.0 == Status::Free);
        }
        let count = |status| model.iter().filter(|seat| seat.0 == status).count() as u32;
        let counts = Counts {
            free: count(Status::Free),
            held: count(Status::Held),
            sold: count(Status::Sold),
            blocked: count(Status::Blocked),
        };
        prop_assert_eq!(map.counts(), counts);
        let free: Vec<_> = (0..300).filter(|&seat| map.is_free(seat)).collect();
        prop_assert_eq!(map.free.iter(0..300).collect::<Vec<_>>(), free);
        let changed = (0..).zip(&model).filter(|(_, seat)| seat.2 > Lsn(since)).map(|(index, seat)| (index, seat.0));
        let changed: Vec<_> = changed.collect();
        prop_assert_eq!(&map.changed_after(Lsn(since)).collect::<Vec<_>>(), &changed);
        let chunks: Vec<_> = map.chunks_changed_after(Lsn(since)).collect();
        prop_assert!(changed.iter().all(|(seat, _)| chunks.iter().any(|chunk| chunk.contains(seat))));
    }

    #[test]
    fn a_map_is_the_sum_of_its_chunks(seats in 1_u32..600, changes in changes(600, 300)) {
        let mut map = SeatMap::new(seats);
        for (seat, status, owner, seq) in changes.into_iter().filter(|change| change.0 < seats) {
            map.set(seat, status, owner, Lsn(seq));
        }
        let mut copy = SeatMap::new(seats);
        for chunk in 0..map.chunk_count() {
            let touched = (0..seats).any(|seat| SeatMap::chunk_of(seat) == chunk && map.seq(seat) > Lsn(0));
            let bytes = map.encode_chunk(chunk);
            prop_assert_eq!(bytes.is_some(), touched);
            if let Some(bytes) = bytes {
                copy.load_chunk(chunk, &bytes).unwrap();
                prop_assert_eq!(copy.encode_chunk(chunk), Some(bytes));
            }
        }
        prop_assert_eq!(copy, map);
    }
}

#[test]
fn only_chunks_that_have_changed_are_looked_at() {
    let mut map = SeatMap::new(300);
    map.set(130, Status::Held, 1, Lsn(5));
    map.set(299, Status::Held, 1, Lsn(6));
    let chunks = |since| map.chunks_changed_after(Lsn(since)).collect::<Vec<_>>();
    assert_eq!((chunks(4), chunks(5), chunks(6)), (vec![128..256, 256..300], vec![256..300], vec![]));
}

#[test]
fn a_chunk_fits_into_a_row_of_the_store() {
    let mut map = SeatMap::new(CHUNK_SEATS);
    for seat in 0..CHUNK_SEATS {
        map.set(seat, Status::Sold, OWNER_MAX - u64::from(seat), Lsn(u64::MAX - u64::from(seat)));
    }
    let worst = map.encode_chunk(0).unwrap();
    assert!(worst.len() <= 4_096, "{} bytes", worst.len());
    assert!(worst.len() > 18 * CHUNK_SEATS as usize, "this is not the worst case: {} bytes", worst.len());
}

#[test]
fn what_is_no_chunk_is_refused_and_changes_nothing() {
    let mut map = SeatMap::new(130);
    map.set(129, Status::Held, 7, Lsn(9));
    let good = map.encode_chunk(1).unwrap();
    let stretch = |seats| Stretch { seats, state: 0, seq: 1 };
    let chunk = |stretches| minicbor::to_vec(Chunk { stretches }).unwrap();
    let rows: [(&str, u32, Vec<u8>); 7] = [
        ("nothing", 1, vec![]),
        ("cut off", 1, good[..good.len() - 1].to_vec()),
        ("bytes after it", 1, [&good[..], &[0]].concat()),
        ("too few seats", 1, chunk(vec![stretch(1)])),
        ("too many seats", 1, chunk(vec![stretch(1), stretch(2)])),
        ("far too many seats", 1, chunk(vec![stretch(u32::MAX), stretch(3)])),
        ("no such chunk", 2, good.clone()),
    ];
    let before = map.clone();
    for (name, index, bytes) in rows {
        assert!(map.load_chunk(index, &bytes).is_err(), "{name}");
        assert_eq!(map, before, "{name}");
    }
    map.load_chunk(1, &good).unwrap();
    assert_eq!(map, before);
    assert!(map.load_chunk(u32::MAX, &good).is_err());
}

#[test]
#[should_panic(expected = "62 bits")]
fn an_owner_has_62_bits() {
    SeatMap::new(1).set(0, Status::Held, OWNER_MAX + 1, Lsn(1));
}

/// A house drawn as text, a row a line, the zones apart by an empty one; a space is an aisle. A letter is a free seat of
/// the category of that name, a capital or `x` a taken one.
fn house(drawing: &[&str]) -> (SeatingPlan, SeatMap) {
    let mut taken = Vec::new();
    let mut zones = Vec::new();
    for zone in drawing.split(|line| line.is_empty()) {
        let mut rows = Vec::new();
        for (y, line) in zone.iter().enumerate() {
            let seats = line.chars().enumerate().filter(|&(_, drawn)| drawn != ' ');
            let seats = seats.map(|(x, drawn)| {
                taken.push(drawn == 'x' || drawn.is_uppercase());
                serde_json::json!({
                    "seat_guid": taken.len().to_string(),
                    "category": drawn.to_lowercase().to_string(),
                    "position": {"x": x, "y": 100 * zones.len() + 2 * y},
                })
            });
            rows.push(serde_json::json!({"seats": seats.collect::<Vec<_>>()}));
        }
        zones.push(serde_json::json!({"name": format!("zone {}", zones.len() % 3), "rows": rows}));
    }
    let categories = ["a", "b", "x"].map(|name| serde_json::json!({"name": name}));
    let json = serde_json::json!({"zones": zones, "categories": categories}).to_string();
    let plan = SeatingPlan::parse(json.as_bytes(), &Limits::default()).unwrap();
    let mut map = SeatMap::new(plan.len());
    for (seat, _) in (0..).zip(taken).filter(|&(_, taken)| taken) {
        map.set(seat, Status::Sold, 1, Lsn(1));
    }
    (plan, map)
}

fn request(count: u32) -> BestAvailable {
    BestAvailable { count, category: None, zone: None, adjacent: true }
}

#[test]
fn the_best_seats_are_those_of_the_first_rule_that_finds_any() {
    let category = |count, category| BestAvailable { category: Some(category), ..request(count) };
    let zone = |count, zone| BestAvailable { zone: Some(zone), ..request(count) };
    let scattered = |count| BestAvailable { adjacent: false, ..request(count) };
    type Case<'a> = (&'a str, &'a [&'a str], BestAvailable, Option<&'a [u32]>);
    let rows: &[Case<'_>] = &[
        ("the middle of the first row", &["aaaaaaa", "aaaaaaa"], request(3), Some(&[2, 3, 4])),
        ("of two middles the first", &["aaaaaa"], request(3), Some(&[0, 1, 2])),
        ("no seat is left alone", &["aaaaaaa"], request(4), Some(&[0, 1, 2, 3])),
        ("not even one", &["aaxaaa"], request(1), Some(&[3])),
        ("a stretch that fits leaves none", &["aaaxaaxx"], request(2), Some(&[4, 5])),
        ("a later row that leaves none wins", &["aaaa", "xaaax"], request(3), Some(&[5, 6, 7])),
        ("else the first row", &["aaaa", "aaaa"], request(3), Some(&[0, 1, 2])),
        ("an aisle parts", &["aaa aaa"], request(4), None),
        ("an aisle leaves a seat alone too", &["aaa aa"], request(2), Some(&[3, 4])),
        ("the end of a row parts", &["xaa", "aax"], request(3), None),
        ("a row of one", &["a", "a"], request(1), Some(&[0])),
        ("full", &["xx"], request(1), None),
        ("none wanted", &["aa"], request(0), None),
        ("only the category", &["aaaa", "aabb"], category(2, 1), Some(&[6, 7])),
        ("across rows a category does not join", &["aabb", "bbaa"], category(3, 1), None),
        ("neighbors of another category count", &["abbaaa", "xbbxxx"], category(2, 1), Some(&[7, 8])),
        ("an unknown category", &["aa"], category(1, 3), None),
        ("only the zone", &["aaa", "", "aaa"], zone(2, 1), Some(&[3, 4])),
        ("and the zones of its name", &["xxx", "", "aa", "", "aa", "", "xaaa"], zone(3, 0), Some(&[8, 9, 10])),
        ("an unknown zone", &["aa"], zone(1, 1), None),
        ("category and zone", &["bb", "", "aabb"], BestAvailable { category: Some(1), ..zone(2, 1) }, Some(&[4, 5])),
        (
            "a category that goes on past the zone",
            &["BB", "", "bb"],
            BestAvailable { category: Some(1), ..zone(2, 0) },
            None,
        ),
        ("adjacent before near", &["xax", "xax", "aaa"], scattered(3), Some(&[6, 7, 8])),
        ("near, if need be", &["axaxx", "axxxx", "xxxxa"], scattered(3), Some(&[0, 2, 5])),
        ("near, across an aisle", &["aa  aax", "xxx xxx", "xxx xaa"], scattered(3), Some(&[0, 1, 2])),
        ("not enough", &["axa"], scattered(3), None),
    ];
    for (name, drawing, request, expected) in rows {
        let (plan, map) = house(drawing);
        let found = best_available(&plan, &map, request);
        assert_eq!(found.as_deref(), *expected, "{name}: {request:?} in {drawing:?}");
    }
}

/// The rules once more, by trying everything; also says whether the seats are adjacent.
fn naive(plan: &SeatingPlan, map: &SeatMap, request: &BestAvailable) -> Option<(Seats, bool)> {
    let allowed = |seat: u32| {
        let row = &plan.rows()[plan.seat(seat).row as usize];
        let name = |zone: u32| &plan.zones()[zone as usize].name;
        map.is_free(seat)
            && request.category.is_none_or(|category| category == plan.seat(seat).category)
            && request.zone.is_none_or(|zone| name(zone) == name(row.zone))
    };
    let count = request.count;
    let mut windows = Vec::new();
    for run in plan.runs() {
        let row = &plan.rows()[run.row as usize].seats;
        let free = |seat: i64| {
            (i64::from(run.seats.start)..i64::from(run.seats.end)).contains(&seat) && map.is_free(seat as u32)
        };
        for start in run.seats.clone().filter(|start| start + count <= run.seats.end) {
            if !(start..start + count).all(allowed) {
                continue;
            }
            let (before, after) = (i64::from(start) - 1, i64::from(start + count));
            let leaves_one = free(before) && !free(before - 1) || free(after) && !free(after + 1);
            let middle = f64::from(start) + f64::from(count) / 2.0;
            let off_center = (middle - f64::from(row.start + row.end) / 2.0).abs();
            windows.push((leaves_one, run.row, (off_center * 2.0) as u32, start));
        }
    }
    if let Some(&(.., start)) = windows.iter().min() {
        return Some(((start..start + count).collect(), true));
    }
    let free: Vec<u32> = (0..plan.len()).filter(|&seat| allowed(seat)).collect();
    if request.adjacent || free.len() < count as usize {
        return None;
    }
    let group = |&middle: &u32| {
        let mut group = free.clone();
        group.sort_by(|&a, &b| distance(plan, middle, a).total_cmp(&distance(plan, middle, b)));
        group.truncate(count as usize);
        Seats::from_vec(group)
    };
    let group = free.iter().map(group).min_by(|a, b| spread(plan, a).total_cmp(&spread(plan, b)))?;
    Some((group, false))
}

fn distance(plan: &SeatingPlan, a: u32, b: u32) -> f64 {
    let ([ax, ay], [bx, by]) = (plan.position(a).map(f64::from), plan.position(b).map(f64::from));
    ((ax - bx) * (ax - bx) + (ay - by) * (ay - by)).sqrt()
}

/// The sum of the distances from the seat for which that is least.
fn spread(plan: &SeatingPlan, seats: &[u32]) -> f64 {
    let from = |&middle: &u32| seats.iter().map(|&seat| distance(plan, middle, seat)).sum();
    seats.iter().map(from).min_by(f64::total_cmp).unwrap()
}

fn drawings() -> impl Strategy<Value = Vec<String>> {
    let free = prop::sample::select(vec!["aaaaabbbbbxxxxx    ", "aaaaaaaaaaaaaabx ", "abxxxxxxxxxxx  "]);
    free.prop_flat_map(|letters| {
        let letter = prop::sample::select(letters.chars().collect::<Vec<_>>());
        let row = prop::collection::vec(letter, 1..30).prop_map(String::from_iter);
        prop::collection::vec(prop_oneof![9 => row, 1 => Just(String::new())], 1..12)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn the_search_agrees_with_trying_everything(
        drawing in drawings(),
        count in prop_oneof![1_u32..8, 1_u32..30],
        category in prop::option::weighted(0.3, 0_u32..3),
        zone in prop::option::weighted(0.3, 0_u32..3),
        adjacent in any::<bool>(),
    ) {
        let (plan, map) = house(&drawing.iter().map(String::as_str).collect::<Vec<_>>());
        let zone = zone.map(|zone| zone % plan.zones().len() as u32);
        let request = BestAvailable { count, category, zone, adjacent };
        let (found, expected) = (best_available(&plan, &map, &request), naive(&plan, &map, &request));
        prop_assert_eq!(found.is_some(), expected.is_some());
        let (Some(found), Some((expected, together))) = (found, expected) else { return Ok(()) };
        // Of scattered groups there may be several of the same spread.
        if together {
            prop_assert_eq!(&found, &expected);
        }
        prop_assert_eq!(found.len(), count as usize);
        prop_assert!(found.is_sorted_by(|a, b| a < b));
        prop_assert!(found.iter().all(|&seat| map.is_free(seat)));
        prop_assert!(found.iter().all(|&seat| category.is_none_or(|category| category == plan.seat(seat).category)));
        let (spread, least) = (spread(&plan, &found), spread(&plan, &expected));
        prop_assert!((spread - least).abs() < 1e-9 * (1.0 + least), "{} is not {}", spread, least);
    }
}

#[test]
fn stretches_longer_than_a_word_are_found() {
    let long = "a".repeat(200);
    let (plan, mut map) = house(&[&"x".repeat(63), &long]);
    let found = best_available(&plan, &map, &request(100)).unwrap();
    assert_eq!((found[0], found[99], found.len()), (113, 212, 100));
    map.set(150, Status::Blocked, 0, Lsn(2));
    let found = best_available(&plan, &map, &request(100)).unwrap();
    assert_eq!((found[0], found[99]), (151, 250));
    assert_eq!(best_available(&plan, &map, &request(113)), None);
}

#[test]
fn a_large_group_in_a_large_house_is_close_together() {
    let plan = SeatingPlan::parse(&plans::stadium(), &Limits::default()).unwrap();
    let map = SeatMap::new(plan.len());
    let found = best_available(&plan, &map, &BestAvailable { adjacent: false, ..request(100) }).unwrap();
    assert_eq!(found.len(), 100);
    let across = found.iter().flat_map(|&a| found.iter().map(move |&b| (a, b)));
    let widest = across.map(|(a, b)| distance(&plan, a, b)).fold(0.0, f64::max);
    assert!(widest < 300.0, "{widest} in a house of 12000");
}

#[test]
fn seats_without_positions_are_all_near() {
    let seat = |guid: u32| serde_json::json!({"seat_guid": guid.to_string(), "category": "a"});
    let rows: Vec<_> = (0..500).map(|row| serde_json::json!({"seats": [seat(2 * row), seat(2 * row + 1)]})).collect();
    let json = serde_json::json!({"zones": [{"rows": rows}], "categories": [{"name": "a"}]}).to_string();
    let plan = SeatingPlan::parse(json.as_bytes(), &Limits::default()).unwrap();
    let found = best_available(&plan, &SeatMap::new(1_000), &BestAvailable { adjacent: false, ..request(3) });
    assert_eq!(found.as_deref(), Some(&[0, 1, 2][..]));
}
