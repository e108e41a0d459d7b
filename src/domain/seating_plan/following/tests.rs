//! Chains of plans against a list of what each seat was called, and best available on the last of a chain and on the same plan alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::super::*;
use crate::domain::Lsn;
use crate::domain::seat_map::{self, BestAvailable, Preference, SeatMap, Status};

/// Zones of rows of seats, each by its guid and category; the last category is none.
type Drawn = Vec<Vec<(u8, usize)>>;

const CATEGORIES: [&str; 4] = ["a", "b", "c", ""];

fn drawn() -> impl Strategy<Value = Drawn> {
    let guids = Just((0..24_u8).collect::<Vec<_>>()).prop_shuffle();
    let rows = prop::collection::vec(prop::collection::vec(0..CATEGORIES.len(), 0..8), 1..4);
    (guids, rows).prop_map(|(guids, rows)| {
        let mut guids = guids.into_iter();
        rows.into_iter().map(|row| guids.by_ref().zip(row).collect()).collect()
    })
}

/// Each row is a zone of its own, and both are called after the plan.
fn plan(drawn: &Drawn, name: usize) -> SeatingPlan {
    let zones: Vec<_> = (0..).zip(drawn).map(|(y, row)| {
        let seats: Vec<_> = (0..).zip(row).map(|(x, (guid, category))| {
            // Every other row is listed from right to left.
            let x = if y % 2 == 0 { x } else { -x };
            json!({"seat_guid": format!("g{guid}"), "seat_number": format!("{name}-{x}"), "category": CATEGORIES[*category],
                "position": {"x": 10 * x, "y": 20 * y}})
        }).collect();
        json!({"name": format!("zone {name} {y}"), "rows": [{"row_number": format!("row {name} {y}"), "seats": seats}]})
    }).collect();
    // Those that the plan needs, in an order of its own.
    let used = |category: &&&str| drawn.iter().flatten().any(|(_, used)| CATEGORIES[*used] == **category);
    let mut categories: Vec<_> = CATEGORIES[..3].iter().filter(used).map(|name| json!({"name": name})).collect();
    let turns = name.min(categories.len());
    categories.rotate_left(turns);
    let json = json!({"zones": zones, "categories": categories}).to_string();
    SeatingPlan::parse(json.as_bytes(), &Limits::default()).unwrap()
}

/// What a seat is called: its number, row, zone and category.
fn called(plan: &SeatingPlan, seat: u32) -> [String; 4] {
    let seat = plan.seat(seat);
    let row = plan.row(seat.row);
    let category = seat.category.map_or("", |category| &plan.category(category).name);
    [seat.number, &*row.name, &*plan.zone(row.zone).name, category].map(str::to_owned)
}

proptest! {
    #[test]
    fn a_seat_keeps_its_number_and_one_that_is_withdrawn_its_name(chain in prop::collection::vec(drawn(), 1..7)) {
        let mut model: BTreeMap<String, (u32, [String; 4])> = BTreeMap::new();
        let mut last: Option<Arc<SeatingPlan>> = None;
        for (name, drawn) in chain.iter().enumerate() {
            let alone = plan(drawn, name);
            for seat in alone.seats() {
                let next = model.len() as u32;
                let now = called(&alone, alone.seat_index(seat.guid).unwrap());
                model.entry(seat.guid.into()).or_insert((next, [const { String::new() }; 4])).1 = now;
            }
            let plan = match &last {
                None => plan(drawn, name),
                Some(before) => plan(drawn, name).after(before),
            };
            prop_assert_eq!((plan.numbers() as usize, plan.len()), (model.len(), alone.len()));
            prop_assert_eq!(plan.seats().count() as u32, plan.len());
            for (guid, (number, names)) in &model {
                let is_in = alone.seat_index(guid).is_some();
                prop_assert_eq!(plan.known_seat(guid), Some(*number));
                prop_assert_eq!(plan.seat_index(guid), is_in.then_some(*number));
                prop_assert_eq!(plan.seat(*number).guid, guid);
                prop_assert_eq!(&called(&plan, *number), names);
                prop_assert_eq!(plan.is_withdrawn(*number), !is_in);
                let is_off = !is_in || names[3].is_empty();
                prop_assert_eq!(plan.not_for_sale().any(|seat| seat == *number), is_off);
            }
            let mut at_places: Vec<u32> = (0..plan.len()).map(|place| plan.seat_at(place)).collect();
            for (place, seat) in (0..).zip(&at_places) {
                prop_assert_eq!(plan.seat(*seat).guid, alone.seat(alone.seat_at(place)).guid);
            }
            at_places.sort_unstable();
            prop_assert!(at_places.into_iter().eq((0..plan.numbers()).filter(|seat| !plan.is_withdrawn(*seat))));
            prop_assert_eq!((plan.rows(), plan.zones(), plan.categories()), (alone.rows(), alone.zones(), alone.categories()));
            let first = plan.first().map(|first| first.seats().map(|seat| seat.guid.to_owned()).collect::<Vec<_>>());
            let expected = self::plan(&chain[0], 0);
            prop_assert_eq!(first, (name > 0).then(|| expected.seats().map(|seat| seat.guid.to_owned()).collect()));
            last = Some(Arc::new(plan));
        }
    }

    /// Whatever came before it, a plan sells the same seats.
    #[test]
    fn the_best_seats_of_a_plan_are_those_of_the_same_plan_alone(
        chain in prop::collection::vec(drawn(), 2..5),
        taken in prop::collection::vec(any::<bool>(), 24),
        (count, adjacent, companions) in (1..5_u32, any::<bool>(), 0..2_u32),
        (category, focused, kept) in (prop::option::of(0..3_u32), any::<bool>(), any::<bool>()),
    ) {
        let (name, drawn) = (chain.len() - 1, &chain[chain.len() - 1]);
        let alone = plan(drawn, name);
        let mut chained = plan(&chain[0], 0);
        for (name, drawn) in chain.iter().enumerate().skip(1) {
            chained = plan(drawn, name).after(&Arc::new(chained));
        }
        let best = |plan: &SeatingPlan| {
            let mut map = SeatMap::new(plan.numbers());
            plan.not_for_sale().for_each(|seat| map.set(seat, Status::Blocked, 0, Lsn(1)));
            for guid in (0..24).filter(|guid| taken[*guid]) {
                let seat = plan.known_seat(&format!("g{guid}"));
                seat.into_iter().for_each(|seat| map.set(seat, Status::Sold, 1, Lsn(1)));
            }
            let focus = focused.then_some(seat_map::Focus::Point([25.0, 15.0]));
            let accessible: Vec<u32> = if kept { plan.category_index("b").into_iter().collect() } else { Vec::new() };
            let preference = Preference::new(plan, focus, &accessible);
            let wish = BestAvailable { count, category, zone: None, adjacent, companions };
            let found = seat_map::best_available(plan, &preference, &map, &wish)?;
            let mut guids: Vec<_> = found.iter().map(|seat| plan.seat(*seat).guid.to_owned()).collect();
            guids.sort_unstable();
            Some(guids)
        };
        prop_assert_eq!(best(&chained), best(&alone));
    }
}
