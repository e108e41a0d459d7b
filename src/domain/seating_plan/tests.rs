//! Plans that are read, and plans that are refused with the place named.

#![expect(clippy::single_range_in_vec_init, reason = "a list of one range is what is meant")]

use super::*;
use crate::testing::plans;

fn parse(json: &str) -> Result<SeatingPlan, Vec<Problem>> {
    SeatingPlan::parse(json.as_bytes(), &Limits::default())
}

fn problems(json: &str) -> Vec<String> {
    parse(json).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// A plan with one category, `A`, and one row of these seats.
fn row_of(seats: &str) -> String {
    format!(r#"{{"zones":[{{"rows":[{{"seats":[{seats}]}}]}}],"categories":[{{"name":"A"}}]}}"#)
}

#[test]
fn each_problem_is_named_with_its_place() {
    let seat = |guid: &str| format!(r#"{{"seat_guid":"{guid}","category":"A"}}"#);
    let long = "x".repeat(191);
    let rows: &[(&str, &[&str])] = &[
        ("[]", &[" must be an object"]),
        ("null", &[" must be an object"]),
        ("{", &[" cannot be read: EOF while parsing an object at line 1 column 1"]),
        (
            "{} {}",
            &["zones is missing", "categories is missing", " cannot be read: trailing characters at line 1 column 4"],
        ),
        ("{}", &["zones is missing", "categories is missing"]),
        (
            r#"{"id":1,"name":"x","layout":{"zones":[],"categories":[]}}"#,
            &["zones is missing", "categories is missing"],
        ),
        (r#"{"zoness":[],"categories":[]}"#, &["zones is missing"]),
        (r#"{"zones":{},"categories":[]}"#, &["zones must be a list"]),
        (r#"{"zones":null,"categories":null}"#, &["zones must be a list", "categories must be a list"]),
        (r#"{"zones":[{}],"categories":[]}"#, &["zones[0].rows is missing"]),
        (r#"{"zones":[{"rows":null}],"categories":[]}"#, &["zones[0].rows must be a list"]),
        (r#"{"zones":[{"rows":[],"areas":null}],"categories":[]}"#, &["zones[0].areas must be a list"]),
        (r#"{"zones":[{"rows":[],"areas":{}}],"categories":[]}"#, &["zones[0].areas must be a list"]),
        (r#"{"zones":[{"rows":[{"seats":null}]}],"categories":[]}"#, &["zones[0].rows[0].seats must be a list"]),
        (r#"{"zones":[],"categories":[],"size":[2],"name":{}}"#, &["size must be an object", "name must be a string"]),
        (
            r#"{"zones":[{"rows":[],"areas":[7,{"color":1,"rotation":"x","polygon":{"points":null}},{"circle":{"radius":"x"}},
                {"text":{"size":"x"}},{"text":[]},{"ellipse":{"radius":{"x":[]}}},{"polygon":{"points":[1]}}]}],"categories":[]}"#,
            &[
                "zones[0].areas[0] must be an object",
                "zones[0].areas[1].color must be a string",
                "zones[0].areas[1].rotation must be a number",
                "zones[0].areas[1].polygon.points must be a list",
                "zones[0].areas[2].circle.radius must be a number or an object",
                "zones[0].areas[3].text.size must be a number",
                "zones[0].areas[4].text must be a string or an object",
                "zones[0].areas[5].ellipse.radius.x must be a number",
                "zones[0].areas[6].polygon.points[0] must be an object",
            ],
        ),
        (
            r#"{"zones":[{"rows":[{"row_label":[],"seat_label":{},"row_number_position":"left","seats":[
                {"seat_guid":"a","category":"A","start_direction":"^"}]}]}],"categories":[{"name":"A"}]}"#,
            &[
                "zones[0].rows[0].row_label must be a string",
                "zones[0].rows[0].seat_label must be a string",
                "zones[0].rows[0].row_number_position must be one of start, end, both",
                "zones[0].rows[0].seats[0].start_direction must be one of <, >, <>",
            ],
        ),
        (
            r#"{"zones":[{"rows":[7]},7],"categories":[]}"#,
            &["zones[0].rows[0] must be an object", "zones[1] must be an object"],
        ),
        (r#"{"zones":[{"rows":[{}]}],"categories":[]}"#, &["zones[0].rows[0].seats is missing"]),
        (r#"{"zones":[{"name":[],"rows":[]}],"categories":[]}"#, &["zones[0].name must be a string"]),
        (r#"{"zones":[{"position":[1,2],"rows":[]}],"categories":[]}"#, &["zones[0].position must be an object"]),
        (r#"{"zones":[{"position":{"x":"1"},"rows":[]}],"categories":[]}"#, &["zones[0].position.x must be a number"]),
        (r#"{"zones":[],"categories":[{"color":"red"}]}"#, &["categories[0].name is missing"]),
        (
            r#"{"zones":[],"categories":[{"name":""}]}"#,
            &["categories[0].name must be 1 to 200 characters, none of them a control character"],
        ),
        (
            r#"{"zones":[],"categories":[{"name":"A"},{"name":"B"},{"name":"A"}]}"#,
            &["categories[2].name is the name of categories[0] too"],
        ),
        (
            &row_of("{}"),
            &["zones[0].rows[0].seats[0].seat_guid is missing", "zones[0].rows[0].seats[0].category is missing"],
        ),
        (&row_of(r#"{"seat_guid":null,"category":"A"}"#), &["zones[0].rows[0].seats[0].seat_guid is missing"]),
        (&row_of(r#"{"seat_guid":1,"category":"A"}"#), &["zones[0].rows[0].seats[0].seat_guid must be a string"]),
        (
            &row_of(&[seat(""), seat(&long), seat(r"a\n")].join(",")),
            &[
                "zones[0].rows[0].seats[0].seat_guid must be 1 to 190 characters, none of them a control character",
                "zones[0].rows[0].seats[1].seat_guid must be 1 to 190 characters, none of them a control character",
                "zones[0].rows[0].seats[2].seat_guid must be 1 to 190 characters, none of them a control character",
            ],
        ),
        (
            &row_of(&format!("{},7,{},{}", seat("a"), seat("b"), seat("b"))),
            &[
                "zones[0].rows[0].seats[1] must be an object",
                "zones[0].rows[0].seats[3].seat_guid is also zones[0].rows[0].seats[2].seat_guid",
            ],
        ),
        (
            r#"{"zones":[{"rows":[]},{"rows":[{"seats":[]},{"seats":[{"seat_guid":"a","category":"B"}]}]}],"categories":[]}"#,
            &["zones[1].rows[1].seats[0].category is not among the categories of the plan"],
        ),
        (
            &row_of(r#"{"seat_guid":"a","category":"A","position":{"x":1e39}}"#),
            &["zones[0].rows[0].seats[0].position is too far out"],
        ),
        (
            &row_of(r#"{"seat_guid":"a","category":"A","position":{"x":1e999}}"#),
            &["zones[0].rows[0].seats[0].position.x cannot be read: number out of range at line 1 column 82"],
        ),
        (r#"{"name":"1","name":2,"zones":[],"categories":[]}"#, &["name is given twice"]),
        (r#"{"zones":[],"categories":[],"a b":[{"c":[{"d":{},"d":[]}]}]}"#, &[r#"["a b"][0].c[0].d is given twice"#]),
        (r#"{"\u007aones":[],"zones":[],"categories":[]}"#, &["zones is given twice"]),
        (
            &row_of(r#"{"seat_guid":"a","seat_guid":"b","category":"A"}"#),
            &["zones[0].rows[0].seats[0].seat_guid is given twice"],
        ),
        (
            r#"{"zones":[],"categories":[],"o":{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"a":1,"j":1}}"#,
            &["o.a is given twice", "o.j is given twice"],
        ),
    ];
    for (json, expected) in rows {
        assert_eq!(problems(json), *expected, "{json}");
    }
}

#[test]
fn text_that_is_too_deep_or_not_utf8_is_refused() {
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    assert!(problems(&deep)[0].contains("recursion limit exceeded"), "{:?}", problems(&deep));
    assert!(SeatingPlan::parse(b"{\"x\":\"\xff\"}", &Limits::default()).is_err());
}

#[test]
fn what_is_beyond_a_limit_is_refused() {
    let small = Limits { bytes_max: 500, seats_max: 2, rows_max: 2, zones_max: 2, categories_max: 2, problems_max: 3 };
    let seat = |guid: &str| format!(r#"{{"seat_guid":"{guid}","category":"A"}}"#);
    let rows: &[(&str, &[&str])] = &[
        (&row_of(&[seat("a"), seat("b")].join(",")), &[]),
        (
            &row_of(&[seat("a"), seat("b"), seat("c")].join(",")),
            &["zones[0].rows[0].seats[2] is one more than the 2 seats allowed"],
        ),
        (
            r#"{"categories":[],"zones":[{"rows":[{"seats":[]},{"seats":[]},{"seats":[]}]}]}"#,
            &["zones[0].rows[2] is one more than the 2 rows allowed"],
        ),
        (r#"{"zones":[{"rows":[]},{"rows":[]},{"rows":[]}]}"#, &["zones[2] is one more than the 2 zones allowed"]),
        (
            r#"{"categories":[{"name":"A"},{"name":"B"},{"name":"C"}]}"#,
            &["categories[2] is one more than the 2 categories allowed"],
        ),
        (&format!(r#"{{"x":"{}"}}"#, "x".repeat(500)), &[" must be at most 500 bytes of JSON"]),
        (
            r#"{"zones":[0,0,0,0]}"#,
            &["zones[0] must be an object", "zones[1] must be an object", "zones[2] must be an object"],
        ),
    ];
    for (json, expected) in rows {
        let found = SeatingPlan::parse(json.as_bytes(), &small).err().unwrap_or_default();
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), *expected, "{json}");
    }
}

#[test]
fn what_real_plans_leave_out_or_add_is_fine() {
    let plan = parse(
        r##"{"zones":[
            {"zone_id":"z","uuid":"u","name":"Stalls","position":{"x":100,"y":10.5},"areas":[{"shape":"text"}],"rows":[
                {"row_number":7,"row_label":null,"seats":[
                    {"seat_guid":"a","category":"A","seat_number":null,"uuid":"1"},
                    {"category":"B","seat_guid":"\u00fc","seat_number":12,"position":{"y":2.5,"x":1e0,"z":0}}
                ],"position":{"x":-10,"y":-0.5}},
                {"seats":[],"row_number":"B","row_label":"Box %s","seat_label":"Chair %s","row_number_position":null}
            ]},
            {"areas":[{"shape":"circle","circle":{"radius":5},"position":{"x":1,"y":2},"text":{"text":"Bar","size":16}}],"rows":[]},
            {"name":null,"rows":[]}
        ],"categories":[{"name":"B","color":"#fff"},{"name":"A"}],"name":null,"size":{}}"##,
    )
    .unwrap();
    assert_eq!(
        plan.seats().collect::<Vec<_>>(),
        [
            Seat { guid: "a", number: "", row: 0, category: Some(1), x: 90.0, y: 10.0 },
            Seat { guid: "ü", number: "12", row: 0, category: Some(0), x: 91.0, y: 12.5 },
        ]
    );
    assert_eq!(
        plan.rows(),
        [
            Row { zone: 0, name: "7".into(), label: "".into(), seat_label: "".into(), places: 0..2 },
            Row { zone: 0, name: "B".into(), label: "Box B".into(), seat_label: "Chair %s".into(), places: 2..2 },
        ]
    );
    assert_eq!((plan.rows()[0].seat_label("12"), plan.rows()[1].seat_label("12")), (None, Some("Chair 12".into())));
    assert_eq!(
        plan.zones(),
        [
            Zone { name: "Stalls".into(), rows: 0..2, places: 0..2 },
            Zone { name: "".into(), rows: 2..2, places: 2..2 },
            Zone { name: "".into(), rows: 2..2, places: 2..2 },
        ]
    );
    assert_eq!(plan.categories()[0], Category { name: "B".into(), color: "#fff".into() });
    assert_eq!((plan.seat_index("ü"), plan.seat_index("u"), plan.seat_index("")), (Some(1), None, None));
    assert_eq!((plan.zone_index("Stalls"), plan.zone_index("Circle")), (Some(0), None));
    assert_eq!((plan.category_index("A"), plan.category_index("C")), (Some(1), None));
    assert_eq!(plan.category_places(1), Some(&[0..1][..]));
    assert_eq!(plan.category_places(2), None);
}

#[test]
fn a_plan_may_have_no_seats() {
    for json in [r#"{"zones":[],"categories":[]}"#, r#"{"zones":[{"rows":[{"seats":[]}]}],"categories":[]}"#] {
        let plan = parse(json).unwrap();
        assert!(plan.is_empty() && plan.runs().is_empty(), "{json}");
    }
}

#[test]
fn runs_are_ranges_of_places_along_the_row() {
    let seat = |(i, x): (usize, &i32)| {
        let category = if i % 2 == 0 { "A" } else { "B" };
        format!(r#"{{"seat_guid":"{i}","category":"{category}","position":{{"x":{x},"y":3}}}}"#)
    };
    let row =
        |xs: &[i32]| format!(r#"{{"seats":[{}]}}"#, xs.iter().enumerate().map(seat).collect::<Vec<_>>().join(","));
    // Odd numbers to the left, even ones to the right, with an aisle between; listed by number.
    let second = row(&[-50, 50, -60, 60, -70, 70]).replace(r#""seat_guid":""#, r#""seat_guid":"b"#);
    let json = format!(
        r#"{{"zones":[{{"rows":[{},{second}]}}],"categories":[{{"name":"A"}},{{"name":"B"}}]}}"#,
        row(&[0, 10, 20])
    );
    let plan = parse(&json).unwrap();
    let runs: Vec<_> = plan.runs().iter().map(|run| (run.row, run.places.clone(), run.is_ring)).collect();
    assert_eq!(runs, [(0, 0..3, false), (1, 3..6, false), (1, 6..9, false)]);
    assert_eq!((0..9).map(|place| plan.seat_at(place)).collect::<Vec<_>>(), [0, 1, 2, 7, 5, 3, 4, 6, 8]);
    assert_eq!(plan.category_places(0), Some(&[0..1, 2..6][..]));
    assert_eq!(plan.category_places(1), Some(&[1..2, 6..9][..]));
    assert!(plan.is_reordered() && plan.rings().is_empty());
    let moved: Vec<_> = plan.moved().iter().map(|moved| (moved.places.clone(), moved.seat)).collect();
    let expected = [(3..4, 7), (4..5, 5), (5..7, 3), (7..8, 6)];
    assert_eq!(moved, expected, "neither the first row nor the seat that is where its number is");
    // Seats keep the numbers that events know them by.
    assert_eq!((plan.seat(3).guid, plan.seat_index("b5")), ("b0", Some(8)));
}

#[test]
fn what_was_taken_once_can_still_be_read() {
    for json in [
        "{}",
        r#"{"zones":null,"categories":null,"name":7,"size":"x"}"#,
        r#"{"zones":[{"rows":null,"areas":7},{}]}"#,
        r#"{"zones":[{"rows":[{"seats":null,"row_label":{},"row_number_position":"left"}],"areas":[{"polygon":{"points":3}}]}]}"#,
    ] {
        assert!(parse(json).is_err(), "{json}");
        assert!(SeatingPlan::restore(json.as_bytes()).unwrap().is_empty(), "{json}");
    }
    assert!(SeatingPlan::restore(br#"{"zones":{}}"#).is_err());
}

#[test]
fn a_seat_without_a_category_is_not_for_sale() {
    let seat = |guid: &str, category: &str| format!(r#"{{"seat_guid":"{guid}","category":"{category}"}}"#);
    let plan = parse(&row_of(&[seat("a", "A"), seat("b", ""), seat("c", "A")].join(","))).unwrap();
    assert_eq!(plan.seats().map(|seat| seat.category).collect::<Vec<_>>(), [Some(0), None, Some(0)]);
    assert_eq!(plan.not_for_sale().collect::<Vec<_>>(), [1]);
    assert_eq!(plan.category_places(0), Some(&[0..1, 2..3][..]));
    assert_eq!(
        problems(&row_of(r#"{"seat_guid":"a","category":null}"#)),
        ["zones[0].rows[0].seats[0].category is missing"]
    );
}

#[test]
fn texts_are_as_long_as_pretix_has_them() {
    let (guid, number) = ("g".repeat(190), "좌".repeat(190));
    let plan = parse(&row_of(&format!(r#"{{"seat_guid":"{guid}","category":"A","seat_number":"{number}"}}"#))).unwrap();
    assert_eq!((plan.seat(0).guid, plan.seat(0).number, plan.seat_index(&guid)), (&*guid, &*number, Some(0)));
}

#[test]
fn aisles_cut_each_row_of_the_theatre_into_three() {
    let plan = SeatingPlan::parse(&plans::theatre(), &Limits::default()).unwrap();
    assert_eq!((plan.len(), plan.rows().len(), plan.zones().len()), (1_551, 43, 3));
    assert_eq!(plan.runs().len(), 3 * 43);
    let first: Vec<_> = plan.runs()[..3].iter().map(|run| run.places.clone()).collect();
    assert_eq!(first, [0..7, 7..15, 15..22]);
}

#[test]
fn large_houses_have_all_their_seats_in_little_memory() {
    for (json, seats, rows, zones) in [(plans::arena(), 13_824, 768, 48), (plans::stadium(), 60_000, 3_000, 120)] {
        let plan = SeatingPlan::parse(&json, &Limits::default()).unwrap();
        assert_eq!((plan.len(), plan.rows().len(), plan.zones().len(), plan.runs().len()), (seats, rows, zones, rows));
        for (index, seat) in plan.seats().enumerate() {
            assert_eq!(plan.seat_index(seat.guid), Some(index as u32));
        }
        let bytes = size_of_val(&*plan.seats)
            + size_of_val(&*plan.rows)
            + size_of_val(&*plan.runs)
            + plan.text.len()
            + plan.by_guid.allocation_size()
            + plan.by_category.iter().map(|ranges| size_of_val(&**ranges)).sum::<usize>();
        assert!(bytes < 4_000_000, "{bytes} bytes for {seats} seats");
    }
}

#[test]
fn a_plan_is_named_by_the_sha256_of_its_bytes() {
    let hash = PlanHash::of(b"abc");
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hash.to_string(), text);
    assert_eq!(text.parse(), Ok(hash));
    for wrong in ["", &text[1..], &text.to_uppercase(), &text.replace('b', "g"), &format!("{text}0")] {
        assert_eq!(wrong.parse::<PlanHash>(), Err(ParsePlanHashError), "{wrong}");
    }
    let bytes = minicbor::to_vec(hash).unwrap();
    assert_eq!(bytes[..2], [0x58, 32], "a byte string");
    assert_eq!(minicbor::decode::<PlanHash>(&bytes).unwrap(), hash);
    assert!(minicbor::decode::<PlanHash>(&bytes[..33]).is_err());
}
