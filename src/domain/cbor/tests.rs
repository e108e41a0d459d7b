//! The bytes of every event, frozen: format version 1. An event that does not match its line here cannot be read from
//! journals that are already written; a new field is an `Option`, at the end, and gets a line of its own.

use std::fmt::Debug;

use smallvec::smallvec;

use crate::domain::bit_set::BitSet;
use crate::domain::concert_option::{
    self, Amended, Area, AreaPlaces, AreaState, Definition, FailureReason, Focus, Note, Price, Replanned, SeatSet,
    Window,
};
use crate::domain::facts::{Fact, Kind, Totals};
use crate::domain::idempotency::Key;
use crate::domain::seating_plan::PlanHash;
use crate::domain::waiting_room::{self, Draw, Mode, Order, Settings};
use crate::domain::{
    ConcertId, Currency, Lsn, OptionId, PaymentId, Points, RefundId, Timestamp, UserId, catalogue, wallet,
};
use crate::testing::subject::StoredEvent;

fn points(n: u64) -> Points {
    Points::new(n).unwrap()
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn anna() -> UserId {
    "anna".parse().unwrap()
}

fn key() -> Option<Key> {
    Some(Key { scope: [1; 16], payload: [2; 16], caller: anna() })
}

/// The bytes of [`key`].
const KEY: &str = "835001010101010101010101010101010101500202020202020202020202020202020264616e6e61";

fn window() -> Window {
    Window { sale_opens_at: Some(at(1)), sale_closes_at: at(2), refundable_until: Some(at(3)) }
}

fn definition() -> Box<Definition> {
    Box::new(Definition {
        concert: ConcertId(4),
        starts_at: at(5),
        window: window(),
        plan: PlanHash([6; 32]),
        seat_count: 7,
        prices: vec![Price { category: "A".into(), points: points(8) }],
        areas: vec![Area { name: "Floor".into(), capacity: 9, category: "A".into() }],
        hold_seconds: 10,
        payment_seconds: 11,
        max_seats_per_reservation: 12,
        max_seats_per_user: 13,
        focus: None,
        accessible: Vec::new(),
        not_for_sale: SeatSet::default(),
        payment_methods: Vec::new(),
        currency: None,
        amended: None,
    })
}

/// The bytes of [`definition`].
const DEFINITION: &str = "8b0405830102035820060606060606060606060606060606060606060606060606060606060606060607818261410881\
                          8365466c6f6f720961410a0b0c0d";

/// With all that came to a definition later.
fn full_definition(focus: Focus) -> Box<Definition> {
    let (accessible, not_for_sale) = (vec!["W".into()], [0, 9].into_iter().collect());
    Box::new(Definition { focus: Some(focus), accessible, not_for_sale, ..*definition() })
}

#[test]
fn what_came_to_a_definition_later_stands_after_it() {
    let before = DEFINITION.trim_start_matches("8b").split_whitespace().collect::<String>();
    for (definition, after) in [
        (full_definition(Focus::Point { x: 1.5, y: 2.0 }), "820082fb3ff8000000000000fb4000000000000000 816157 420102"),
        (full_definition(Focus::Zones { zones: vec!["B".into()] }), "8201818161 42 816157 420102"),
        (
            Box::new(Definition {
                payment_methods: vec!["card".into()],
                currency: Some("EUR".parse().unwrap()),
                ..*full_definition(Focus::Zones { zones: vec!["B".into()] })
            }),
            "8201818161 42 816157 420102 8164 63617264 43455552",
        ),
        (
            Box::new(Definition {
                focus: None,
                accessible: Vec::new(),
                ..*full_definition(Focus::Zones { zones: vec![] })
            }),
            "f6 f6 420102",
        ),
    ] {
        let array = if definition.currency.is_some() { "90" } else { "8e" };
        let bytes = unhex(&format!("{array}{before}{after}").replace(' ', ""));
        assert_eq!(minicbor::to_vec(&definition).unwrap(), bytes, "{definition:?}");
        assert_eq!(minicbor::decode::<Box<Definition>>(&bytes).unwrap(), definition);
    }
}

#[test]
fn that_a_plan_was_changed_stands_after_what_else_was() {
    let of = |replanned| Amended { version: 2, first_prices: Vec::new(), replanned };
    let replanned = Replanned { former: vec![PlanHash([1; 32])], withdrawn: 3 };
    let with = format!("83 02 80 82 81 5820 {} 03", "01".repeat(32)).replace(' ', "");
    for (amended, bytes) in [(of(None), "820280"), (of(Some(Box::new(replanned))), &*with)] {
        assert_eq!(minicbor::to_vec(&amended).unwrap(), unhex(bytes), "{amended:?}");
        assert_eq!(minicbor::decode::<Amended>(&unhex(bytes)).unwrap(), amended);
    }
    let changed = |key| concert_option::Event::OptionChanged { definition: definition(), by: anna(), key };
    let before = minicbor::to_vec(changed(None)).unwrap();
    let after = minicbor::to_vec(changed(key())).unwrap();
    // The list of members, of which there is one more.
    let members = before.len() - minicbor::to_vec((definition(), anna())).unwrap().len();
    assert_eq!((before[members], after[members]), (0x82, 0x83));
    assert_eq!(after[members + 1..][..before.len() - members - 1], before[members + 1..]);
    reads(&before.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), &changed(None));
}

fn settings() -> Settings {
    Settings {
        mode: Mode::Queue,
        max_active: 5,
        admit_per_minute: Some(6),
        active_ttl_seconds: 7,
        waiting_ttl_seconds: 8,
        order: Order::ShuffleAtOpen,
        opens_at: Some(at(9)),
    }
}

/// The bytes of [`settings`].
const SETTINGS: &str = "8701050607080109";

fn unhex(text: &str) -> Vec<u8> {
    base16ct::lower::decode_vec(text.replace(' ', "")).unwrap()
}

#[track_caller]
fn frozen<E: StoredEvent>(table: &[(E, String)]) {
    let mut wrong = Vec::new();
    for (event, bytes) in table {
        let written = minicbor::to_vec(event).unwrap();
        if written != unhex(bytes) {
            wrong.push(format!("{event:?}\n    {}", base16ct::lower::encode_string(&written)));
        }
        assert_eq!(minicbor::decode::<E>(&written).as_ref().ok(), Some(event));
        assert!(minicbor::decode::<E>(&written[..written.len() - 1]).is_err(), "{event:?} cut short");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[track_caller]
fn reads<E: StoredEvent + Debug>(bytes: &str, expected: &E) {
    assert_eq!(minicbor::decode::<E>(&unhex(bytes)).map_err(|error| error.to_string()).as_ref(), Ok(expected));
}

fn held(token: Option<u64>, key: Option<Key>) -> concert_option::Event {
    concert_option::Event::SeatsHeld {
        reservation: 1,
        user: anna(),
        seats: smallvec![2, 300],
        areas: smallvec![AreaPlaces { area: 1, count: 2 }],
        amount: points(20),
        expires_at: at(1000),
        token,
        key,
        prices: concert_option::Prices::default(),
        from_blocked: Vec::new(),
        by: None,
        note: None,
    }
}

/// The same with what stands beside it.
fn noted() -> concert_option::Event {
    let note = Some(Box::new(Note { reference: Some("r".into()), data: Some("{}".into()) }));
    let mut held = held(Some(7), None);
    if let concert_option::Event::SeatsHeld { note: beside, .. } = &mut held {
        *beside = note;
    }
    held
}

#[test]
fn events_of_an_option() {
    use concert_option::Event;
    let insufficient = FailureReason::InsufficientPoints { balance: points(4) };
    frozen(&[
        (Event::OptionDefined { option: OptionId(5), definition: definition() }, format!("82008205{DEFINITION}")),
        (Event::OptionRescheduled { window: window(), by: None }, "82018183010203".into()),
        (Event::OptionRescheduled { window: window(), by: Some(anna()) }, "8201828301020364616e6e61".into()),
        (held(Some(7), key()), format!("8202880164616e6e61820219012c81820102141903e807{KEY}")),
        (noted(), "82028d0164616e6e61820219012c81820102141903e807f680f6f6f6826172627b7d".into()),
        (Event::ReservationReleased { reservation: 1, by: None }, "82038101".into()),
        (Event::ReservationReleased { reservation: 1, by: Some(anna()) }, "82038901f6f6f6f6f6f6f664616e6e61".into()),
        (Event::ReservationsExpired { reservations: vec![1, 2] }, "820481820102".into()),
        (
            Event::PaymentStarted { payment: 2, reservation: 1, deadline: at(9), key: key() },
            format!("820584020109{KEY}"),
        ),
        (Event::PaymentConfirmed { payment: 2, balance: points(3), paid_at: at(4) }, "820683020304".into()),
        (Event::PaymentFailed { payment: 2, reason: insufficient }, "8207820282008104".into()),
        (Event::PaymentFailed { payment: 2, reason: FailureReason::TimedOut }, "82078202820180".into()),
        (Event::PaymentRefunded { refund: 3, payment: 2, key: key(), by: None }, format!("8208830302{KEY}")),
        (
            Event::PaymentRefunded { refund: 3, payment: 2, key: None, by: Some(anna()) },
            "8208890302f6f6f6f6f6f664616e6e61".into(),
        ),
        (
            Event::SeatsBlocked {
                seats: smallvec![1, 2],
                key: None,
                many: SeatSet::default(),
                by: Some(anna()),
                areas: Vec::new(),
                reason: None,
            },
            "820b84820102f64064616e6e61".into(),
        ),
        (
            Event::SeatsBlocked {
                seats: smallvec![3],
                key: None,
                many: SeatSet::default(),
                by: None,
                areas: vec![AreaPlaces { area: 1, count: 2 }],
                reason: Some("why".into()),
            },
            "820b868103f640f68182010263776879".into(),
        ),
        (
            Event::SeatsUnblocked {
                seats: smallvec![],
                key: None,
                many: SeatSet::default(),
                by: None,
                areas: vec![AreaPlaces { area: 0, count: 300 }],
                reason: None,
            },
            "820c8580f640f681820019012c".into(),
        ),
        (
            Event::RefundCredited { refund: 3, balance: points(4), refunded_at: at(5), left: None },
            "820983030405".into(),
        ),
        (Event::TokenCompleted { reservation: 1 }, "820a8101".into()),
        (blocked(&[1, 2], key(), &[]), format!("820b82820102{KEY}")),
        (blocked(&[], None, &[3]), "820b8380f64108".into()),
        (unblocked(&[1], key(), &[]), format!("820c828101{KEY}")),
        (unblocked(&[], key(), &[3, 8]), format!("820c8380{KEY}420801")),
    ]);
}

#[test]
fn events_of_payments_by_providers() {
    use concert_option::{
        Ending, Event, Installation, Late, Moved, Owed, OwedKind, Owing, ProviderStatus, ProviderTerms, Standing, Turn,
    };
    let terms = ProviderTerms {
        method: "card".into(),
        currency: Currency::KRW,
        installation: Installation(7),
        late: Late::Refund,
        capture_within_ms: 8,
        late_until: at(9),
    };
    let fact = Fact {
        kind: Kind::Captured,
        reference: "r".into(),
        id: Some("i".into()),
        amount: points(20),
        currency: Currency::KRW,
        at: Some(at(3)),
        reason: Some("w".into()),
    };
    let owed = Owed {
        no: 1,
        kind: OwedKind::Refund,
        reference: Some("r".into()),
        amount: points(20),
        currency: Currency::KRW,
        since: at(4),
        attempts: 0,
        by_hand: false,
    };
    let totals = Totals { captured: 20, confirmed: 0, refunded: 0, lost: 0, owed: 20, shortfall: 0 };
    let standing =
        Standing { status: ProviderStatus::RefundOwed, totals, disputed: false, verdict: None, paid_at: None };
    let moved = |fact, turn, owing, key| Event::ProviderPaymentMoved {
        payment: 2,
        moved: Box::new(Moved { fact, turn, owing, standing, key }),
    };
    let owing = Owing { begun: vec![owed], settled: vec![3] };
    let turned = |turn| moved(None, Some(turn), Owing::default(), None);
    let authorized = Turn::Authorized { reference: "r".into(), until: at(5), again: true };
    let started = Event::ProviderPaymentStarted {
        payment: 2,
        reservation: 1,
        terms: Box::new(terms),
        amount: points(20),
        deadline: at(6),
        key: key(),
    };
    frozen(&[
        (started, format!("820d8602018664 63617264434b525707010809 1406{KEY}")),
        (
            moved(Some(fact), None, owing, key()),
            format!(
                "820e82028587026172616914434b5257036177f68281880102617214434b52570400f48103830686140000001400f4{KEY}"
            ),
        ),
        (turned(authorized), "820e820284f6820083617205f580830686140000001400f4".into()),
        (
            turned(Turn::Confirmed { reference: None, again: false }),
            "820e820284f6820182f6f480830686140000001400f4".into(),
        ),
        (
            turned(Turn::Ended { why: Ending::Lapsed, lapses: true }),
            "820e820284f682028201f580830686140000001400f4".into(),
        ),
        (
            turned(Turn::Refunded { why: Ending::Refunded, refund: Some(3), by: None }),
            "820e820284f6820382050380830686140000001400f4".into(),
        ),
        (Event::ProviderAttemptFailed { payment: 2, owed: 1, attempt: 0 }, "820f83020100".into()),
        (Event::ProviderPaymentsWentCold { payments: vec![2, 3] }, "821081820203".into()),
    ]);
}

#[test]
fn events_of_orders_that_change() {
    use concert_option::{Back, Change, Drawn, Event, Exchange, Leg, Lot, Offer, What};
    let lot = |seats: &[u32], prices: &[u64]| Lot {
        seats: seats.into(),
        areas: smallvec![],
        prices: prices.iter().map(|n| points(*n)).collect(),
    };
    let leg = Leg { no: 3, user: anna(), taken: points(4), back: Points::ZERO };
    let change = Change {
        what: What::Exchanged,
        given: lot(&[1], &[6]),
        taken: lot(&[2], &[10]),
        then: lot(&[5, 2], &[7, 10]),
        amount: points(17),
        backs: Vec::new(),
        leg: Some(leg.clone()),
        key: key(),
        by: None,
    };
    let back = Back {
        refund: 4,
        user: anna(),
        amount: points(6),
        drawn: smallvec![Drawn { leg: 3, amount: points(4) }, Drawn { leg: 2, amount: points(2) }],
    };
    let nothing = || Lot::default();
    let changed = |what, backs| {
        let change = Change {
            what,
            given: nothing(),
            taken: nothing(),
            then: lot(&[1], &[7]),
            amount: points(7),
            backs,
            leg: None,
            key: None,
            by: Some(anna()),
        };
        Event::OrderChanged { reservation: 1, change: Box::new(change) }
    };
    let exchange = Exchange { deadline: at(9), leg, change: change.clone() };
    let mut priced = held(Some(7), None);
    if let Event::SeatsHeld { prices, from_blocked, .. } = &mut priced {
        (*prices, *from_blocked) = ([points(5), points(6), points(5)].into_iter().collect(), vec![300]);
    }
    let refunded = What::Refunded { refund: 4, all: false, payment: 2 };
    frozen(&[
        (priced, "82028a0164616e6e61820219012c81820102141903e807f6830506058119012c".into()),
        (
            Event::OrderChanged { reservation: 1, change: Box::new(change) },
            format!("821282018882028083810180810683810280810a838205028082070a11f6840364616e6e610400{KEY}"),
        ),
        (changed(What::Released, vec![]), "821282018982008082808082808083810180810707f6f6f664616e6e61".into()),
        (
            changed(refunded, vec![back]),
            "821282018982018304f4028280808280808381018081070781840464616e6e610682820304820202f6f664616e6e61".into(),
        ),
        (
            changed(What::HandedOn { to: anna(), transfer: Some(4) }, vec![]),
            "821282018982038264616e6e610482808082808083810180810707f6f6f664616e6e61".into(),
        ),
        (
            changed(What::HandedOn { to: anna(), transfer: None }, vec![]),
            "821282018982038164616e6e6182808082808083810180810707f6f6f664616e6e61".into(),
        ),
        (
            changed(What::HeldUntil { expires_at: at(8) }, vec![]),
            "82128201898204810882808082808083810180810707f6f6f664616e6e61".into(),
        ),
        (
            Event::ExchangeStarted { reservation: 1, exchange: Box::new(exchange) },
            format!(
                "821382018309840364616e6e6104008882028083810180810683810280810a838205028082070a11f6840364616e6e610400{KEY}"
            ),
        ),
        (Event::ExchangeFailed { reservation: 1, reason: FailureReason::TimedOut }, "82148201820180".into()),
        (
            Event::TransferOffered {
                reservation: 1,
                offer: Offer { no: 4, to: anna(), expires_at: at(8) },
                key: key(),
                by: None,
            },
            format!("82158301830464616e6e6108{KEY}"),
        ),
        (Event::TransferWithdrawn { reservation: 1, by: None }, "82168101".into()),
        (Event::TransferWithdrawn { reservation: 1, by: Some(anna()) }, "8216820164616e6e61".into()),
        (Event::ComplimentaryGiven { payment: 2, reservation: 1 }, "8217820201".into()),
        (
            Event::CalledOff { reason: Some("ill".into()), by: anna(), key: key() },
            format!("8218188363696c6c64616e6e61{KEY}"),
        ),
        (Event::CalledOff { reason: None, by: anna(), key: None }, "82181882f664616e6e61".into()),
        (Event::OptionDeleted { by: anna() }, "82181a8164616e6e61".into()),
        (Event::DeletionNoted, "82181b80".into()),
        (
            Event::RefundCredited { refund: 3, balance: points(4), refunded_at: at(5), left: Some(points(6)) },
            "82098403040506".into(),
        ),
    ]);
    // What was written before it was kept is still read.
    reads("820983 03 04 05", &Event::RefundCredited { refund: 3, balance: points(4), refunded_at: at(5), left: None });
    reads("820288 01 64616e6e61 82021901 2c 818201 02 14 1903e8 07 f6", &held(Some(7), None));
}

#[test]
fn events_of_a_wallet() {
    use wallet::Event;
    let payment = PaymentId { option: OptionId(5), no: 2 };
    let refund = RefundId { option: OptionId(5), no: 3 };
    let (amount, balance, settled_below) = (points(20), points(80), 2);
    frozen(&[
        (
            Event::Adjusted {
                entry: 1,
                way: wallet::Way::Down,
                amount,
                balance,
                by: anna(),
                reason: "r".into(),
                key: key(),
            },
            format!("820587010114185064616e6e616172{KEY}"),
        ),
        (
            Event::Charged { entry: 1, amount, balance, by: anna(), key: key() },
            format!("8200850114185064616e6e61{KEY}"),
        ),
        (Event::Debited { entry: 1, payment, amount, balance, settled_below }, "8201850182050214185002".into()),
        (Event::DebitRefused { payment, amount, balance, settled_below }, "82028482050214185002".into()),
        (Event::DebitCancelled { payment, settled_below }, "82038282050202".into()),
        (Event::Credited { entry: 1, refund, amount, balance, settled_below }, "8204850182050314185002".into()),
    ]);
}

#[test]
fn events_of_the_catalogue() {
    use catalogue::Event;
    let concert = ConcertId(4);
    let created = Event::ConcertCreated {
        concert,
        title: "One".into(),
        waiting_room: settings(),
        signing_key: [7; 32],
        key: key(),
    };
    let signing_key = "07".repeat(32);
    frozen(&[
        (created, format!("82008504634f6e65{SETTINGS}5820{signing_key}{KEY}")),
        (Event::InstallationDrawn { installation: concert_option::Installation(7) }, "82048107".into()),
        (
            Event::OptionAdded { option: OptionId(5), definition: definition(), key: key() },
            format!("82018305{DEFINITION}{KEY}"),
        ),
        (
            Event::ConcertChanged {
                concert,
                title: "One".into(),
                details: Box::new(catalogue::Details {
                    venue: Some("v".into()),
                    description: Some("d".into()),
                    hidden: true,
                    ..Default::default()
                }),
                by: anna(),
            },
            "82058404634f6e65856176f66164f6f564616e6e61".into(),
        ),
        (Event::RoomOpened { concert }, "82028104".into()),
        (Event::OptionDefined { option: OptionId(5) }, "82038105".into()),
        (Event::OptionDeleted { option: OptionId(5), concert, by: anna() }, "820683050464616e6e61".into()),
        (Event::ConcertDeleted { concert, by: anna() }, "8207820464616e6e61".into()),
        (Event::RoomClosed { concert }, "82088104".into()),
    ]);
}

fn blocked(seats: &[u32], key: Option<Key>, many: &[u32]) -> concert_option::Event {
    concert_option::Event::SeatsBlocked {
        seats: seats.into(),
        key,
        many: many.iter().copied().collect(),
        by: None,
        areas: Vec::new(),
        reason: None,
    }
}

fn unblocked(seats: &[u32], key: Option<Key>, many: &[u32]) -> concert_option::Event {
    concert_option::Event::SeatsUnblocked {
        seats: seats.into(),
        key,
        many: many.iter().copied().collect(),
        by: None,
        areas: Vec::new(),
        reason: None,
    }
}

#[test]
fn events_of_a_waiting_room() {
    use waiting_room::Event;
    let configured = |returned, many: &[u32]| {
        let many = many.iter().copied().collect();
        Event::Configured { settings: settings(), returned, many, by: None }
    };
    frozen(&[
        (Event::Opened { concert: ConcertId(4), settings: settings() }, format!("82008204{SETTINGS}")),
        (configured(None, &[]), format!("820181{SETTINGS}")),
        (configured(Some(vec![3, 400]), &[]), format!("820182{SETTINGS}8203190190")),
        (configured(None, &[0, 9]), format!("820183{SETTINGS}f6420102")),
        (
            Event::Configured { settings: settings(), returned: None, many: BitSet::default(), by: Some(anna()) },
            format!("820184{SETTINGS}f64064616e6e61"),
        ),
        (Event::TokenIssued { no: 1, user: anna(), active_until: Some(at(2)) }, "8202830164616e6e6102".into()),
        (Event::LineOpened { seed: Some(3), draw: None }, "82038103".into()),
        (Event::LineOpened { seed: Some(3), draw: Some(Draw::Lots) }, "8203820300".into()),
        (Event::TokensAdmitted { tokens: vec![1, 2], expires_at: at(3) }, "82048282010203".into()),
        (Event::TokensExpired { tokens: vec![1] }, "8205818101".into()),
        (Event::TokenLeft { no: 1, by: None }, "82068101".into()),
        (Event::TokenLeft { no: 1, by: Some(anna()) }, "8206820164616e6e61".into()),
        (Event::TokenUsed { no: 1 }, "82078101".into()),
        (Event::Closed { concert: ConcertId(4) }, "82088104".into()),
    ]);
}

/// Rows of before places could be blocked are those of areas in which none are.
#[test]
fn areas_in_rows() {
    let state = |blocked| AreaState { held: 1, sold: 2, seq: Lsn(3), blocked };
    for (area, bytes) in [(state(0), "83010203"), (state(4), "8401020304")] {
        assert_eq!(minicbor::to_vec(area).unwrap(), unhex(bytes));
        assert_eq!(minicbor::decode::<AreaState>(&unhex(bytes)).unwrap(), area);
    }
}

#[test]
fn what_was_written_before_the_last_field_came_can_be_read() {
    // By hand: each array is one shorter than it would be now.
    let payment = PaymentId { option: OptionId(5), no: 2 };
    reads("820287 01 64616e6e61 82021901 2c 818201 02 14 1903e8 07", &held(Some(7), None));
    reads("820286 01 64616e6e61 82021901 2c 818201 02 14 1903e8", &held(None, None));
    let started = concert_option::Event::PaymentStarted { payment: 2, reservation: 1, deadline: at(9), key: None };
    reads("820583 02 01 09", &started);
    reads("820882 03 02", &concert_option::Event::PaymentRefunded { refund: 3, payment: 2, key: None, by: None });
    reads("820b81 820102", &blocked(&[1, 2], None, &[]));
    reads("820c81 8101", &unblocked(&[1], None, &[]));
    let (settings, many) = (settings(), BitSet::default());
    let configured = waiting_room::Event::Configured { settings, returned: None, many, by: None };
    reads(&format!("820181{SETTINGS}"), &configured);
    let window = Window { refundable_until: None, ..window() };
    reads("820181 82 01 02", &concert_option::Event::OptionRescheduled { window, by: None });
    let (amount, balance) = (points(20), points(80));
    reads("820084 01 14 1850 64616e6e61", &wallet::Event::Charged { entry: 1, amount, balance, by: anna(), key: None });
    let added = catalogue::Event::OptionAdded { option: OptionId(5), definition: definition(), key: None };
    reads(&format!("820182 05 {DEFINITION}"), &added);
    reads("820282 01 64616e6e61", &waiting_room::Event::TokenIssued { no: 1, user: anna(), active_until: None });
    reads("820380", &waiting_room::Event::LineOpened { seed: None, draw: None });
    // And `null` is the same as nothing.
    reads("820584 02 01 09 f6", &started);
    // What a newer version has added is passed over.
    let refused = wallet::Event::DebitCancelled { payment, settled_below: 2 };
    reads("820383 820502 02 6161", &refused);
}
