//! A map of seats that is always up to date: a snapshot, then what has changed, and after a pause what was missed.
//!
//! `cargo run --example live_seats [--no-default-features]`

use std::collections::BTreeMap;

use boxoffice::{Config, Engine, Lsn, NewConcert, NewOption, OptionId, SeatUpdate, UserId, Wish, seat_status_name};

/// What a screen shows: the seats that are not available.
#[derive(Debug, Default)]
struct Map {
    seq: Option<Lsn>,
    taken: BTreeMap<String, &'static str>,
}

impl Map {
    fn take(&mut self, update: &SeatUpdate) {
        match update.previous_seq() {
            None => self.taken.clear(),
            before => assert_eq!(before, self.seq, "a delta follows what is known"),
        }
        for (seat, status) in update.seats() {
            match seat_status_name(status) {
                "available" => drop(self.taken.remove(seat)),
                status => drop(self.taken.insert(seat.to_owned(), status)),
            }
        }
        self.seq = Some(update.seq());
        // `update.json()` is what the server sends to browsers: made once, for all who follow this option.
        println!("seq {}: {:?}", update.seq(), self.taken);
    }

    fn shows(&self, taken: &[(&str, &str)]) -> bool {
        self.taken.iter().map(|(seat, status)| (seat.as_str(), *status)).eq(taken.iter().copied())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let engine = Engine::open(Config { data_dir: dir.path().into(), ..Config::default() }).await?;
    let concert = engine.create_concert(NewConcert::new("Chamber Music"), None).await?.value;
    let tomorrow = engine.now().plus_millis(86_400_000);
    let option = NewOption {
        prices: vec![("Front".into(), 50.into()), ("Back".into(), 30.into())],
        ..NewOption::new(tomorrow, include_bytes!("hall.json").to_vec())
    };
    let option = engine.add_option(concert.id, option, None).await?.value.id;
    let anna: UserId = "anna".parse()?;
    engine.charge(&anna, 500.into(), &"the-bank".parse()?, None).await?;

    // Who knows nothing yet gets a snapshot, at once.
    let mut map = Map::default();
    let mut changes = engine.seat_changes(option, None).await?;
    map.take(&*changes.next().await?);
    assert!(map.shows(&[]));

    // What changes within `live.window_ms` is told together. Whoever is slow gets fewer and larger updates.
    let held = engine.hold(option, &anna, Wish::seats(["1-1", "1-2"]), None, None).await?.value;
    follow(&engine, option, &mut map, &mut changes).await?;
    assert!(map.shows(&[("1-1", "held"), ("1-2", "held")]));
    engine.pay(&anna, held.id, None).await?;
    follow(&engine, option, &mut map, &mut changes).await?;
    assert!(map.shows(&[("1-1", "sold"), ("1-2", "sold")]));

    // Who was away says what they know. The first update leads from there to the present, in one step.
    drop(changes);
    engine.block_seats(option, vec!["3-1".into()], None).await?;
    let held = engine.hold(option, &anna, Wish::seats(["2-3"]), None, None).await?.value;
    engine.release(&boxoffice::Caller::User(anna), held.id).await?;
    let mut changes = engine.seat_changes(option, map.seq).await?;
    map.take(&*changes.next().await?);
    assert!(map.shows(&[("1-1", "sold"), ("1-2", "sold"), ("3-1", "blocked")]));
    engine.shutdown().await?;
    Ok(())
}

/// Follows until the map shows all that has been answered so far.
async fn follow(
    engine: &Engine,
    option: OptionId,
    map: &mut Map,
    changes: &mut boxoffice::SeatChanges,
) -> Result<(), boxoffice::Error> {
    let now = engine.seats_seq(option).await?;
    while map.seq < Some(now) {
        map.take(&*changes.next().await?);
    }
    Ok(())
}
