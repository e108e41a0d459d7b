//! Several performances of one concert: each is an option with seats, prices, times and limits of its own.
//!
//! `cargo run --example several_options [--no-default-features]`

use boxoffice::{
    Config, Engine, Error, NewArea, NewConcert, NewOption, OptionStatus, Points, Rejection, UserId, WindowPatch, Wish,
};

const HOUR: u64 = 3_600_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let engine = Engine::open(Config { data_dir: dir.path().into(), ..Config::default() }).await?;
    let concert = engine.create_concert(NewConcert::new("Three Evenings"), None).await?.value.id;
    let hall = include_bytes!("hall.json");
    let in_hours = |hours: u64| engine.now().plus_millis(hours * HOUR);

    // Two in the same hall, of which the plan is stored and kept in memory once.
    let friday = NewOption {
        prices: vec![("Front".into(), 50.into()), ("Back".into(), 30.into())],
        max_seats_per_user: 4,
        refundable_until: Some(in_hours(24)),
        ..NewOption::new(in_hours(48), hall.to_vec())
    };
    // The second is dearer, and goes on sale tomorrow.
    let saturday = NewOption {
        prices: vec![("Front".into(), 80.into()), ("Back".into(), 60.into())],
        sale_opens_at: Some(in_hours(24)),
        ..NewOption::new(in_hours(72), hall.to_vec())
    };
    // And one outdoors, without seats.
    let sunday = NewOption {
        prices: vec![("Lawn".into(), 20.into())],
        areas: vec![NewArea { name: "Lawn".into(), capacity: 500, category: "Lawn".into() }],
        ..NewOption::new(in_hours(96), br#"{"categories": [{"name": "Lawn"}], "zones": []}"#.to_vec())
    };
    let mut options = Vec::new();
    for option in [friday, saturday, sunday] {
        options.push(engine.add_option(concert, option, None).await?.value.id);
    }
    let [friday, saturday, sunday] = options[..] else { return Err("three were added".into()) };
    assert_eq!(engine.concert(concert).await?.options, options, "a concert knows its options, oldest first");

    // One wallet pays for all of them.
    let anna: UserId = "anna".parse()?;
    engine.charge(&anna, 500.into(), &"the-bank".parse()?, None).await?;
    let seats = engine.hold(friday, &anna, Wish::best(4), None, None).await?.value;
    let payment = engine.pay(&anna, seats.id, None).await?.value;
    let places = engine.hold(sunday, &anna, Wish::places("Lawn", 3), None, None).await?.value;
    let balance = engine.pay(&anna, places.id, None).await?.value.balance;
    assert_eq!(balance, Some(Points::from(500 - 4 * 50 - 3 * 20)));

    // Each has its own limits and its own times.
    let fifth = engine.hold(friday, &anna, Wish::best(1), None, None).await;
    assert!(matches!(fifth, Err(Error::Rejected(Rejection::LimitExceeded { limit: 4, already: 4 }))));
    let early = engine.hold(saturday, &anna, Wish::best(1), None, None).await;
    assert!(matches!(early, Err(Error::Rejected(Rejection::SaleNotOpen))));
    assert_eq!(engine.option(saturday).await?.status, OptionStatus::Scheduled);

    // What an operator does to one of them leaves the others alone.
    let now = WindowPatch { sale_opens_at: Some(None), ..WindowPatch::default() };
    assert_eq!(engine.reschedule_option(saturday, now).await?.status, OptionStatus::OnSale);
    engine.block_seats(saturday, vec!["1-1".into(), "1-2".into()], None).await?;
    engine.refund(&boxoffice::Caller::User(anna.clone()), payment.id, None).await?;

    for (id, sold, blocked) in [(friday, 0, 0), (saturday, 0, 2), (sunday, 3, 0)] {
        let option = engine.option(id).await?;
        println!("{id} starts at {}: {:?}", option.starts_at, option.counts);
        assert_eq!((option.counts.sold, option.counts.blocked), (sold, blocked));
    }
    engine.shutdown().await?;
    Ok(())
}
