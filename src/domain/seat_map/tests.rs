//! The seat map against a naive model of it, and what counts as best.

use proptest::prelude::*;

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
fn a_map_that_has_grown_is_one_of_more_seats() {
    let (mut grown, mut large) = (SeatMap::new(130), SeatMap::new(300));
    grown.set(129, Status::Sold, 1, Lsn(5));
    grown.grow(300);
    large.set(129, Status::Sold, 1, Lsn(5));
    assert_eq!((grown.counts(), grown.chunk_count()), (large.counts(), 3));
    assert_eq!(grown.free.iter(0..300).collect::<Vec<_>>(), large.free.iter(0..300).collect::<Vec<_>>());
    grown.set(299, Status::Held, 2, Lsn(6));
    assert_eq!(grown.changed_after(Lsn(5)).collect::<Vec<_>>(), [(299, Status::Held)]);
}

#[test]
fn only_chunks_that_have_changed_are_looked_at() {
    let mut map = SeatMap::new(300);
    map.set(130, Status::Held, 1, Lsn(5));
    map.set(299, Status::Held, 1, Lsn(6));
    let chunks = |since| map.chunks_changed_after(Lsn(since)).collect::<Vec<_>>();
    assert_eq!((chunks(4), chunks(6)), (vec![128..256, 256..300], vec![]));
    assert!(chunks(5).into_iter().eq(std::iter::once(256..300)));
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

/// What is best where nothing is said of it.
fn best(plan: &SeatingPlan, map: &SeatMap, request: &BestAvailable) -> Option<Seats> {
    best_available(plan, &Preference::default(), map, request)
}

fn request(count: u32) -> BestAvailable {
    BestAvailable { count, category: None, zone: None, adjacent: true, companions: 0 }
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
        let found = best(&plan, &map, request);
        assert_eq!(found.as_deref(), *expected, "{name}: {request:?} in {drawing:?}");
    }
}

/// The neighbors of a seat, one for each side.
fn beside(plan: &SeatingPlan, seat: u32) -> Vec<u32> {
    let place = (0..plan.len()).find(|&place| plan.seat_at(place) == seat).unwrap();
    let run = plan.runs().iter().find(|run| run.places.contains(&place)).unwrap();
    let seats: Vec<u32> = run.places.clone().map(|place| plan.seat_at(place)).collect();
    let (at, last) = ((place - run.places.start) as usize, seats.len() - 1);
    let before = if at > 0 { Some(seats[at - 1]) } else { run.is_ring.then_some(seats[last]) };
    let after = if at < last { Some(seats[at + 1]) } else { run.is_ring.then_some(seats[0]) };
    before.into_iter().chain(after).collect()
}

/// The seats that are free and whose last free neighbors these are.
fn left_alone(plan: &SeatingPlan, map: &SeatMap, seats: &[u32]) -> usize {
    let is_free = |seat: u32| map.is_free(seat) && !seats.contains(&seat);
    let mut alone: Vec<u32> = seats.iter().flat_map(|&seat| beside(plan, seat)).collect();
    alone.sort_unstable();
    alone.dedup();
    alone.retain(|&seat| is_free(seat) && !beside(plan, seat).into_iter().any(is_free));
    alone.len()
}

/// How far seats of one row are from the focus, by the words of the rule.
fn far(plan: &SeatingPlan, focus: Option<&Focus>, seats: &[u32]) -> f32 {
    match focus {
        None => 0.0,
        Some(Focus::Zones(zones)) => {
            let zone = |seat: u32| &plan.zones()[plan.rows()[plan.seat(seat).row as usize].zone as usize].name;
            let better = zones.iter().take_while(|&&better| plan.zones()[better as usize].name != *zone(seats[0]));
            better.count() as f32
        }
        Some(Focus::Point([x, y])) => {
            let distance = |&seat: &u32| {
                let (dx, dy) = (f64::from(plan.seat(seat).x) - x, f64::from(plan.seat(seat).y) - y);
                (dx * dx + dy * dy).sqrt()
            };
            (seats.iter().map(distance).sum::<f64>() / seats.len() as f64) as f32
        }
    }
}

/// What is said of a house, and asked for.
struct Asked {
    focus: Option<Focus>,
    accessible: Vec<u32>,
    request: BestAvailable,
}

impl Asked {
    fn is_allowed(&self, plan: &SeatingPlan, map: &SeatMap, seat: u32) -> bool {
        let name = |zone: u32| &plan.zones()[zone as usize].name;
        let zone = plan.rows()[plan.seat(seat).row as usize].zone;
        let category = plan.seat(seat).category.unwrap();
        let is_kept = self.accessible.contains(&category);
        map.is_free(seat)
            && self.request.zone.is_none_or(|wanted| name(wanted) == name(zone))
            && match self.request.category {
                Some(wanted) if self.request.companions == 0 => wanted == category,
                Some(wanted) => wanted == category || !is_kept,
                None => self.request.companions > 0 || !is_kept,
            }
    }

    /// How many accessible places are taken that were not asked for; `None`: less than were.
    fn wasted(&self, plan: &SeatingPlan, seats: &[u32]) -> Option<usize> {
        if self.request.companions == 0 {
            return Some(0);
        }
        let is_wanted = |seat: &&u32| {
            let category = plan.seat(**seat).category.unwrap();
            self.request.category.map_or(self.accessible.contains(&category), |wanted| wanted == category)
        };
        seats.iter().filter(is_wanted).count().checked_sub(self.request.count as usize)
    }

    /// The rules once more, by trying everything; also says whether the seats are adjacent.
    fn naive(&self, plan: &SeatingPlan, map: &SeatMap) -> Option<(Seats, bool)> {
        let count = (self.request.count + self.request.companions) as usize;
        let mut windows = Vec::new();
        for run in plan.runs() {
            let row = &plan.rows()[run.row as usize].places;
            let len = run.places.len();
            let starts = if run.is_ring && count < len { len } else { (len + 1).saturating_sub(count) };
            for k in 0..starts as u32 {
                let start = run.places.start + k;
                let place = |step: usize| run.places.start + (k + step as u32) % len as u32;
                let seats: Vec<u32> = (0..count).map(|step| plan.seat_at(place(step))).collect();
                let Some(wasted) = self.wasted(plan, &seats) else { continue };
                if !seats.iter().all(|&seat| self.is_allowed(plan, map, seat)) {
                    continue;
                }
                let leaves_one = left_alone(plan, map, &seats) > 0;
                let middle = f64::from(start) + count as f64 / 2.0;
                let off_center = (middle - f64::from(row.start + row.end) / 2.0).abs();
                let far = far(plan, self.focus.as_ref(), &seats).to_bits();
                windows.push(((wasted, leaves_one, far, run.row, (off_center * 2.0) as u32, start), seats));
            }
        }
        if let Some((_, mut seats)) = windows.into_iter().min() {
            seats.sort_unstable();
            return Some((seats.into(), true));
        }
        let free: Vec<u32> = (0..plan.len()).filter(|&seat| self.is_allowed(plan, map, seat)).collect();
        if self.request.adjacent || self.request.companions > 0 || free.len() < count {
            return None;
        }
        let group = |&middle: &u32| {
            let mut group = free.clone();
            group.sort_by(|&a, &b| distance(plan, middle, a).total_cmp(&distance(plan, middle, b)));
            group.truncate(count);
            Seats::from_vec(group)
        };
        let group = free.iter().map(group).min_by(|a, b| spread(plan, a).total_cmp(&spread(plan, b)))?;
        Some((group, false))
    }
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

/// The same house with its rows listed in another order, and some of them round tables.
fn rearranged(drawing: &[&str], order: u64, tables: bool) -> (SeatingPlan, SeatMap) {
    let (plan, map) = house(drawing);
    let mut state = order;
    let mut dice = move |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides
    };
    let mut statuses = Vec::new();
    let zones: Vec<_> = plan
        .zones()
        .iter()
        .map(|zone| {
            let rows: Vec<_> = plan.rows()[zone.rows.start as usize..zone.rows.end as usize]
                .iter()
                .map(|row| {
                    let mut seats: Vec<u32> = row.places.clone().collect();
                    let is_table = tables && seats.len() > 4 && dice(2) == 0;
                    let count = seats.len() as f64;
                    let positions: Vec<[f64; 2]> = (0..seats.len())
                        .map(|k| {
                            let [x, y] = plan.position(row.places.start + k as u32).map(f64::from);
                            let angle = std::f64::consts::TAU * k as f64 / count;
                            if is_table { [x / 8.0 + 9.0 * angle.cos(), y + 9.0 * angle.sin()] } else { [x, y] }
                        })
                        .collect();
                    for last in (1..seats.len()).rev() {
                        seats.swap(last, dice(last + 1));
                    }
                    let seats = seats.into_iter().map(|seat| {
                        statuses.push(map.status(seat));
                        let [x, y] = positions[(seat - row.places.start) as usize];
                        let category = plan.seat(seat).category.unwrap();
                        serde_json::json!({
                            "seat_guid": plan.seat(seat).guid,
                            "category": *plan.categories()[category as usize].name,
                            "position": {"x": x, "y": y},
                        })
                    });
                    serde_json::json!({"seats": seats.collect::<Vec<_>>()})
                })
                .collect();
            serde_json::json!({"name": *zone.name, "rows": rows})
        })
        .collect();
    let categories = ["a", "b", "x"].map(|name| serde_json::json!({"name": name}));
    let json = serde_json::json!({"zones": zones, "categories": categories}).to_string();
    let plan = SeatingPlan::parse(json.as_bytes(), &Limits::default()).unwrap();
    let mut map = SeatMap::new(plan.len());
    for (seat, status) in (0..).zip(statuses).filter(|(_, status)| *status != Status::Free) {
        map.set(seat, status, 1, Lsn(1));
    }
    (plan, map)
}

fn focuses() -> impl Strategy<Value = Option<Focus>> {
    prop_oneof![
        2 => Just(None),
        1 => (0_u8..40, 0_u8..100).prop_map(|(x, y)| Some(Focus::Point([f64::from(x), f64::from(y)]))),
        1 => prop::sample::subsequence(vec![2, 1, 0], 1..3).prop_map(|zones| Some(Focus::Zones(zones))),
    ]
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
        companions in prop_oneof![2 => Just(0_u32), 1 => 1_u32..4],
        focus in focuses(),
        accessible in prop::sample::subsequence(vec![0_u32, 1, 2], 0..3),
        (order, tables) in prop::option::of((any::<u64>(), any::<bool>())).prop_map(|it| (it.map(|it| it.0), it.is_some_and(|it| it.1))),
    ) {
        let drawing: Vec<&str> = drawing.iter().map(String::as_str).collect();
        let (plan, map) = match order {
            Some(order) => rearranged(&drawing, order, tables),
            None => house(&drawing),
        };
        let zones = plan.zones().len() as u32;
        let focus = focus.map(|focus| match focus {
            Focus::Zones(some) => Focus::Zones(some.into_iter().filter(|zone| *zone < zones).collect()),
            point @ Focus::Point(_) => point,
        });
        let zone = zone.map(|zone| zone % zones);
        let request = BestAvailable { count, category, zone, adjacent, companions };
        let preference = Preference::new(&plan, focus.clone(), &accessible);
        let asked = Asked { focus, accessible, request };
        let (found, expected) = (best_available(&plan, &preference, &map, &request), asked.naive(&plan, &map));
        prop_assert_eq!(found.is_some(), expected.is_some());
        let (Some(found), Some((expected, together))) = (found, expected) else { return Ok(()) };
        prop_assert_eq!(found.len(), (count + companions) as usize);
        prop_assert!(found.is_sorted_by(|a, b| a < b));
        prop_assert!(found.iter().all(|&seat| asked.is_allowed(&plan, &map, seat)));
        if together {
            prop_assert_eq!(&found, &expected);
            return Ok(());
        }
        // Of scattered groups there may be several of the same spread, and a wider one may leave less seats alone.
        let (spread, least) = (spread(&plan, &found), spread(&plan, &expected));
        prop_assert!(spread >= least - 1e-6 * (1.0 + least), "{} is less than {}", spread, least);
        let alone = left_alone(&plan, &map, &found);
        if spread > least + 1e-6 * (1.0 + least) {
            prop_assert!(alone < count as usize, "wider, and leaves {} alone", alone);
        }
        // No exchange of one seat for one that is left alone leaves less, unless there was no time to try.
        if count <= 8 && alone > 0 {
            let singles: Vec<u32> = (0..plan.len())
                .filter(|&seat| asked.is_allowed(&plan, &map, seat) && !found.contains(&seat))
                .filter(|&seat| beside(&plan, seat).iter().any(|other| found.contains(other)))
                .filter(|&seat| !beside(&plan, seat).iter().any(|&other| map.is_free(other) && !found.contains(&other)))
                .collect();
            for single in singles {
                for member in 0..found.len() {
                    let mut group = found.clone();
                    group[member] = single;
                    prop_assert!(left_alone(&plan, &map, &group) >= alone, "{:?} for {:?}", group, found);
                }
            }
        }
    }
}

#[test]
fn a_row_sells_pairs_that_stand_together() {
    let row = |xs: &[i32]| {
        let seats = xs.iter().enumerate().map(
            |(i, x)| serde_json::json!({"seat_guid": i.to_string(), "category": "a", "position": {"x": x, "y": 0}}),
        );
        let seats: Vec<_> = seats.collect();
        let json = serde_json::json!({"zones": [{"rows": [{"seats": seats}]}], "categories": [{"name": "a"}]});
        SeatingPlan::parse(json.to_string().as_bytes(), &Limits::default()).unwrap()
    };
    let plan = row(&[0, 80, 105, 185]);
    let mut map = SeatMap::new(plan.len());
    assert_eq!(best(&plan, &map, &request(2)).as_deref(), Some(&[1, 2][..]));
    map.set(1, Status::Held, 1, Lsn(1));
    assert_eq!(best(&plan, &map, &request(2)), None);
    // Listed by number, odd left and even right of the middle.
    let plan = row(&[-14, 14, -42, 42, -70, 70]);
    let map = SeatMap::new(plan.len());
    assert_eq!(best(&plan, &map, &request(2)).as_deref(), Some(&[0, 1][..]));
    assert_eq!(best(&plan, &map, &request(4)).as_deref(), Some(&[0, 1, 2, 4][..]), "none is left alone");
}

#[test]
fn at_a_round_table_seats_may_be_across_its_end() {
    let seats: Vec<_> = (0..8)
        .map(|k| {
            let angle = std::f64::consts::TAU * f64::from(k) / 8.0;
            let position = serde_json::json!({"x": 40.0 * angle.cos(), "y": 40.0 * angle.sin()});
            serde_json::json!({"seat_guid": k.to_string(), "category": "a", "position": position})
        })
        .collect();
    let json = serde_json::json!({"zones": [{"rows": [{"seats": seats}]}], "categories": [{"name": "a"}]});
    let plan = SeatingPlan::parse(json.to_string().as_bytes(), &Limits::default()).unwrap();
    let mut map = SeatMap::new(8);
    assert_eq!(best(&plan, &map, &request(8)).map(|seats| seats.len()), Some(8));
    assert_eq!(best(&plan, &map, &request(9)), None);
    (2..6).for_each(|seat| map.set(seat, Status::Sold, 1, Lsn(1)));
    assert_eq!(best(&plan, &map, &request(4)).as_deref(), Some(&[0, 1, 6, 7][..]));
    assert_eq!(best(&plan, &map, &request(2)).as_deref(), Some(&[0, 1][..]));
    map.set(1, Status::Sold, 1, Lsn(1));
    assert_eq!(best(&plan, &map, &request(2)).as_deref(), Some(&[6, 7][..]), "of two that leave one, the more central");
}

#[test]
fn a_focus_says_which_of_equal_seats_are_better() {
    // The balcony is listed before the stalls.
    let (plan, mut map) = house(&["aaaaa", "aaaaa", "", "bbbbb", "bbbbb"]);
    let stalls = Preference::new(&plan, Some(Focus::Zones(vec![1])), &[]);
    let corner = Preference::new(&plan, Some(Focus::Point([4.0, 102.0])), &[]);
    let find = |preference: &Preference, map: &SeatMap, count| best_available(&plan, preference, map, &request(count));
    assert_eq!(best(&plan, &map, &request(5)).as_deref(), Some(&[0, 1, 2, 3, 4][..]));
    assert_eq!(find(&stalls, &map, 5).as_deref(), Some(&[10, 11, 12, 13, 14][..]));
    assert_eq!(find(&corner, &map, 2).as_deref(), Some(&[18, 19][..]));
    // Leaving no seat alone comes before nearness.
    map.set(17, Status::Sold, 1, Lsn(1));
    assert_eq!(find(&corner, &map, 1).as_deref(), Some(&[14][..]));
    // When the stalls are sold, the balcony.
    (10..20).for_each(|seat| map.set(seat, Status::Sold, 1, Lsn(1)));
    assert_eq!(find(&stalls, &map, 2).as_deref(), Some(&[0, 1][..]));
}

#[test]
fn accessible_places_go_to_those_who_name_them() {
    let (plan, map) = house(&["bbaaaaabb"]);
    let accessible = Preference::new(&plan, None, &[1]);
    let find = |map: &SeatMap, request: BestAvailable| best_available(&plan, &accessible, map, &request);
    let named = |count, companions| BestAvailable { category: Some(1), companions, ..request(count) };
    assert_eq!(find(&map, request(5)).as_deref(), Some(&[2, 3, 4, 5, 6][..]));
    assert_eq!(find(&map, request(6)), None, "not with places that are kept");
    assert_eq!(find(&map, BestAvailable { adjacent: false, ..request(6) }), None);
    assert_eq!(find(&map, named(2, 0)).as_deref(), Some(&[0, 1][..]));
    // With a companion in another category, so that the second place is for somebody else.
    assert_eq!(find(&map, named(1, 1)).as_deref(), Some(&[1, 2][..]));
    assert_eq!(find(&map, named(2, 1)).as_deref(), Some(&[0, 1, 2][..]));
    assert_eq!(find(&map, BestAvailable { companions: 2, ..request(1) }).as_deref(), Some(&[1, 2, 3][..]));
    assert_eq!(find(&map, named(3, 1)), None, "there are no three beside each other");
    // Where nothing else is beside, in a place that is kept.
    let mut full = map.clone();
    (2..7).for_each(|seat| full.set(seat, Status::Sold, 1, Lsn(1)));
    assert_eq!(find(&full, named(1, 1)).as_deref(), Some(&[0, 1][..]));
    full.set(0, Status::Sold, 1, Lsn(1));
    full.set(8, Status::Sold, 1, Lsn(1));
    assert_eq!(find(&full, named(1, 1)), None);
    assert_eq!(find(&full, named(1, 0)).as_deref(), Some(&[1][..]));
}

#[test]
fn scattered_seats_leave_none_alone_where_they_can() {
    let (plan, map) = house(&["aaa", "aaa"]);
    let found = best(&plan, &map, &BestAvailable { adjacent: false, ..request(4) }).unwrap();
    assert_eq!(left_alone(&plan, &map, &found), 0, "{found:?}");
}

#[test]
fn stretches_longer_than_a_word_are_found() {
    let long = "a".repeat(200);
    let (plan, mut map) = house(&[&"x".repeat(63), &long]);
    let found = best(&plan, &map, &request(100)).unwrap();
    assert_eq!((found[0], found[99], found.len()), (113, 212, 100));
    map.set(150, Status::Blocked, 0, Lsn(2));
    let found = best(&plan, &map, &request(100)).unwrap();
    assert_eq!((found[0], found[99]), (151, 250));
    assert_eq!(best(&plan, &map, &request(113)), None);
}

#[test]
fn a_large_group_in_a_large_house_is_close_together() {
    let plan = SeatingPlan::parse(&plans::stadium(), &Limits::default()).unwrap();
    let map = SeatMap::new(plan.len());
    let found = best(&plan, &map, &BestAvailable { adjacent: false, ..request(100) }).unwrap();
    assert_eq!(found.len(), 100);
    let across = found.iter().flat_map(|&a| found.iter().map(move |&b| (a, b)));
    let widest = across.map(|(a, b)| distance(&plan, a, b)).fold(0.0, f64::max);
    assert!(widest < 300.0, "{widest} in a house of 12000");
}

#[test]
fn of_scattered_groups_in_a_large_house_one_at_the_focus_is_taken() {
    let plan = SeatingPlan::parse(&plans::stadium(), &Limits::default()).unwrap();
    let mut map = SeatMap::new(plan.len());
    // No row has more than six together.
    (0..plan.len()).filter(|seat| seat % 20 % 7 == 6).for_each(|seat| map.set(seat, Status::Sold, 1, Lsn(1)));
    let ten = BestAvailable { adjacent: false, ..request(10) };
    let find = |focus| best_available(&plan, &Preference::new(&plan, Some(focus), &[]), &map, &ten).unwrap();
    // The stands are around a field whose middle is at (6000, 6000).
    for focus in [[6_000.0, 7_500.0], [6_000.0, 4_500.0], [7_950.0, 6_000.0], [4_050.0, 6_000.0]] {
        let found = find(Focus::Point(focus));
        assert_eq!(found.len(), 10);
        let mean = far(&plan, Some(&Focus::Point(focus)), &found);
        assert!(mean < 400.0, "{mean} from {focus:?}");
    }
    // Of the lowest tier: those above have their seats farther apart.
    for zone in [5, 15, 25, 35] {
        let found = find(Focus::Zones(vec![zone]));
        let inside = found.iter().filter(|seat| plan.zones()[zone as usize].places.contains(seat)).count();
        assert!(inside > 5, "{inside} of 10 in zone {zone}");
    }
}

#[test]
fn seats_without_positions_are_all_near() {
    let seat = |guid: u32| serde_json::json!({"seat_guid": guid.to_string(), "category": "a"});
    let rows: Vec<_> = (0..500).map(|row| serde_json::json!({"seats": [seat(2 * row), seat(2 * row + 1)]})).collect();
    let json = serde_json::json!({"zones": [{"rows": rows}], "categories": [{"name": "a"}]}).to_string();
    let plan = SeatingPlan::parse(json.as_bytes(), &Limits::default()).unwrap();
    let found = best(&plan, &SeatMap::new(1_000), &BestAvailable { adjacent: false, ..request(3) });
    assert_eq!(found.as_deref(), Some(&[0, 1, 2][..]));
}
