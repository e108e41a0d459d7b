//! What has happened, into a channel of the host app's: for its mails, its statistics, its search index.
//!
//! `cargo run --example events [--no-default-features]`

use boxoffice::{
    Config, Engine, Event, EventFilter, EventId, EventStream, EventType, NewConcert, NewOption, OptionId, UserId, Wish,
};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let config = Config { data_dir: dir.path().into(), ..Config::default() };
    let engine = Engine::open(config.clone()).await?;
    let concert = engine.create_concert(NewConcert::new("Chamber Music"), None).await?.value;
    let tomorrow = engine.now().plus_millis(86_400_000);
    let option = NewOption {
        prices: vec![("Front".into(), 50.into()), ("Back".into(), 30.into())],
        ..NewOption::new(tomorrow, include_bytes!("hall.json").to_vec())
    };
    let option = engine.add_option(concert.id, option, None).await?.value.id;

    // From the beginning. The channel is bounded: if it is full the stream waits, and nobody else.
    let (sender, mut channel) = mpsc::channel(16);
    let forwarding = tokio::spawn(forward(engine.events(EventId::default(), EventFilter::ALL), sender));
    buy(&engine, option, &"anna".parse()?).await?;
    let mut last = EventId::default();
    for expected in [
        EventType::WalletCharged,
        EventType::ReservationCreated,
        EventType::ReservationConfirmed,
        EventType::PaymentCompleted,
    ] {
        let event = channel.recv().await.ok_or("the stream has ended")?;
        println!("{}", serde_json::to_string(&event)?);
        assert_eq!(event.kind, expected);
        // An id is a place in the journal. Whoever keeps the last one with what they made of it misses nothing.
        assert!(event.id > last);
        last = event.id;
    }

    // The stream ends with the engine.
    engine.shutdown().await?;
    forwarding.await?;
    assert!(channel.recv().await.is_none());

    // Later, and also after a crash, it goes on behind the last event; here with those of reservations that are paid.
    let engine = Engine::open(config).await?;
    buy(&engine, option, &"berta".parse()?).await?;
    let mut events = engine.events(last, [EventType::ReservationConfirmed].into_iter().collect());
    let batch = events.next(10).await?;
    let subjects: Vec<_> = batch.events.iter().map(|event| event.subject.as_str()).collect();
    println!("confirmed since then: {subjects:?}");
    assert_eq!(subjects.len(), 1);
    // Where to go on, also if the filter has passed over much since the last event.
    assert!(batch.position >= batch.events[0].id);
    engine.shutdown().await?;
    Ok(())
}

/// Hands events on until the engine is closed or nobody listens any more.
async fn forward(mut events: EventStream, channel: mpsc::Sender<Event>) {
    while let Ok(batch) = events.next(100).await {
        for event in batch.events {
            if channel.send(event).await.is_err() {
                return;
            }
        }
    }
}

async fn buy(engine: &Engine, option: OptionId, user: &UserId) -> Result<(), Box<dyn std::error::Error>> {
    engine.charge(user, 100.into(), &"the-bank".parse()?, None).await?;
    let held = engine.hold(option, user, Wish::best(2), None, None).await?.value;
    engine.pay(user, held.id, None).await?;
    Ok(())
}
