//! A line before a sale: nobody holds seats before their turn, and everybody has theirs.
//!
//! `cargo run --example waiting_room [--no-default-features]`

use boxoffice::{
    Caller, Config, Engine, Error, EventData, EventId, EventType, NewConcert, NewOption, OptionId, Rejection, RoomMode,
    RoomSettings, TokenId, TokenStatus, UserId, Wish,
};

const PEOPLE: [&str; 5] = ["anna", "berta", "carla", "dora", "emma"];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let engine = Engine::open(Config { data_dir: dir.path().into(), ..Config::default() }).await?;

    // Everybody has to queue, and two may be inside at a time.
    let waiting_room = RoomSettings { mode: RoomMode::Queue, max_active: 2, ..RoomSettings::default() };
    let concert = NewConcert { waiting_room, ..NewConcert::new("In Demand") };
    let concert = engine.create_concert(concert, None).await?.value;
    let tomorrow = engine.now().plus_millis(86_400_000);
    let option = NewOption {
        prices: vec![("Front".into(), 50.into()), ("Back".into(), 30.into())],
        ..NewOption::new(tomorrow, include_bytes!("hall.json").to_vec())
    };
    let option = engine.add_option(concert.id, option, None).await?.value;

    // Whoever has not queued gets no seats.
    let early = engine.hold(option.id, &"otto".parse()?, Wish::best(1), None, None).await;
    assert!(matches!(early, Err(Error::Rejected(Rejection::QueueTokenRequired))));

    // They come one after the other, and each waits for their turn in a task of their own.
    let mut buyers = Vec::new();
    for name in PEOPLE {
        let user: UserId = name.parse()?;
        engine.charge(&user, 50.into(), &"the-bank".parse()?, None).await?;
        let issued = engine.issue_token(concert.id, &user).await?;
        assert!(issued.fresh, "who asks again gets the same one, and keeps their place");
        buyers.push(tokio::spawn(wait_and_buy(engine.clone(), option.id, user, issued.token.id)));
    }
    for buyer in buyers {
        buyer.await??;
    }

    // All were let in, in the order in which they came, and all have bought.
    let activated = [EventType::TokenActivated].into_iter().collect();
    let let_in = engine.events(EventId::default(), activated).available(100).await?;
    let order = let_in.events.iter().filter_map(|event| match &event.data {
        EventData::Token { user_id, .. } => Some(user_id.as_str()),
        _ => None,
    });
    assert_eq!(order.collect::<Vec<_>>(), PEOPLE);
    let counts = engine.waiting_room(concert.id).await?.counts;
    assert_eq!((counts.waiting, counts.active, counts.used), (0, 0, 5));
    assert_eq!(engine.option(option.id).await?.counts.sold, 5);
    engine.shutdown().await?;
    Ok(())
}

/// Waits in line, and buys a seat as soon as it is their turn.
async fn wait_and_buy(engine: Engine, option: OptionId, user: UserId, id: TokenId) -> Result<(), Error> {
    // Whoever listens is there. Those who are silent for `waiting_ttl_seconds` lose their place.
    let mut changes = engine.token_changes(Caller::User(user.clone()), id).await?;
    let token = loop {
        let token = changes.next().await?;
        match (token.status, token.ahead) {
            (TokenStatus::Waiting, Some(ahead)) => println!("{user}: {ahead} ahead of me"),
            (TokenStatus::Waiting, None) => println!("{user}: the line is not open yet"),
            _ => break token,
        }
    };
    println!("{user}: my turn");
    // `token.token` is signed: it can be handed to a browser, and is good for this user and this concert only.
    let held = engine.hold(option, &user, Wish::best(1), Some(&token.token), None).await?.value;
    // Whoever has paid is out, and makes room for the next one.
    engine.pay(&user, held.id, None).await?;
    Ok(())
}
