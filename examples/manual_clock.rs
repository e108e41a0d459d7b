//! How a host app tests what takes time: with a clock that the test sets by hand, and events to wait for in place of pauses.
//!
//! `cargo run --example manual_clock --features testing`
//!
//! In the host app's own `Cargo.toml`:
//!
//! ```toml
//! [dev-dependencies]
//! boxoffice = { version = "0.1", default-features = false, features = ["testing"] }
//! ```

use boxoffice::testing::clock::ManualClock;
use boxoffice::{
    Caller, Config, Engine, Error, EventId, EventType, NewConcert, NewOption, Rejection, ReservationStatus, Timestamp,
    UserId, Wish,
};

const MINUTE: u64 = 60_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let config = Config { data_dir: dir.path().into(), ..Config::default() };
    // It stands still until somebody moves it, so that a test does the same at night and in the next century.
    let clock = ManualClock::at("2030-05-01T19:00:00Z".parse::<Timestamp>()?);
    let engine = Engine::open_with(config.clone(), &clock).await?;
    let concert = engine.create_concert(NewConcert::new("Chamber Music"), None).await?.value;
    let opens = engine.now().plus_millis(60 * MINUTE);
    let option = NewOption {
        prices: vec![("Front".into(), 50.into()), ("Back".into(), 30.into())],
        sale_opens_at: Some(opens),
        hold_seconds: 300,
        ..NewOption::new(opens.plus_millis(60 * MINUTE), include_bytes!("hall.json").to_vec())
    };
    let option = engine.add_option(concert.id, option, None).await?.value.id;
    let anna: UserId = "anna".parse()?;

    // The sale opens to the millisecond.
    clock.advance(60 * MINUTE - 1);
    let early = engine.hold(option, &anna, Wish::best(2), None, None).await;
    assert!(matches!(early, Err(Error::Rejected(Rejection::SaleNotOpen))));
    clock.advance(1);
    let held = engine.hold(option, &anna, Wish::best(2), None, None).await?.value;
    assert_eq!(held.expires_at, engine.now().plus_millis(5 * MINUTE));

    // A hold lasts as long as it should. Now that its time is over the engine ends it, and says so: no need to sleep.
    clock.advance(5 * MINUTE - 1);
    let status = engine.reservation(&Caller::User(anna.clone()), held.id).await?.status;
    assert_eq!(status, ReservationStatus::Held);
    clock.advance(1);
    let expired = [EventType::ReservationExpired].into_iter().collect();
    let batch = engine.events(EventId::default(), expired).next(1).await?;
    assert_eq!((batch.events[0].subject.as_str(), batch.events[0].time), (&*held.id.to_string(), held.expires_at));
    println!("{} expired at {}", held.id, batch.events[0].time);

    // Nor does it last longer because the app was not there: what ran out meanwhile is over before anything else happens.
    let held = engine.hold(option, &anna, Wish::best(2), None, None).await?.value;
    engine.shutdown().await?;
    clock.advance(24 * 60 * MINUTE);
    let engine = Engine::open_with(config, &clock).await?;
    let late = engine.pay(&anna, held.id, None).await;
    assert!(matches!(late, Err(Error::Rejected(Rejection::ReservationExpired))));
    engine.shutdown().await?;
    Ok(())
}
