//! A receiver of the host app's, to which the engine delivers events: each at least once, in order within its subject, and
//! again until it was taken, also after a restart.
//!
//! `cargo run --example receiver [--no-default-features]`

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use boxoffice::relay::{Delivery, Failure, Outcome, Receiver, Settings};
use boxoffice::{Config, Engine, EventFilter, EventType, NewConcert, NewOption, OptionId, SinkId, Start, UserId, Wish};
use tokio::sync::mpsc;

/// Sends a mail for each reservation that is paid; here into a channel.
struct Mailer {
    outbox: mpsc::UnboundedSender<String>,
    gateway_is_down: AtomicBool,
}

impl Receiver for Mailer {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            if self.gateway_is_down.swap(false, Ordering::Relaxed) {
                return Outcome::Failed(Failure { text: "the gateway is down".into(), ..Failure::default() });
            }
            // All or nothing: what fails comes again as a whole. Those who may get it twice tell copies by `event.id`.
            for event in &delivery.events {
                if self.outbox.send(event.subject.clone()).is_err() {
                    return Outcome::Failed(Failure { text: "nobody listens".into(), ..Failure::default() });
                }
            }
            Outcome::Delivered
        })
    }
}

/// By its name it goes on where it was. What is wanted, and from where on, counts the first time only.
async fn attach(engine: &Engine, mailer: Arc<Mailer>) -> Result<SinkId, boxoffice::Error> {
    let wanted: EventFilter = [EventType::ReservationConfirmed].into_iter().collect();
    // When a delivery failed it is tried again after these times. After the last of them it is a dead letter, for an
    // operator to redrive.
    let settings = Settings { retry_schedule: vec![Duration::from_millis(10); 3], ..Settings::default() };
    engine.attach("mailer", wanted, Start::Beginning, mailer, settings).await
}

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

    // The first attempt fails, and the second one does not.
    let (outbox, mut mails) = mpsc::unbounded_channel();
    let mailer = Arc::new(Mailer { outbox, gateway_is_down: AtomicBool::new(true) });
    let sink = attach(&engine, mailer.clone()).await?;
    let paid = buy(&engine, option, "anna").await?;
    assert_eq!(mails.recv().await, Some(paid));
    let deliveries = engine.sink(sink).await?.deliveries.ok_or("nobody delivers")?;
    println!("failed {} times: {:?}", deliveries.failed, deliveries.last_failure);
    assert_eq!(deliveries.failed, 1);

    // What happens while nobody is there is delivered later, and what was delivered before does not come again: how far it
    // has got is written down when the engine is closed, and else at most a second late.
    engine.detach(sink).await;
    let missed = buy(&engine, option, "berta").await?;
    engine.shutdown().await?;
    let engine = Engine::open(config).await?;
    assert_eq!(attach(&engine, mailer).await?, sink);
    let paid = buy(&engine, option, "carla").await?;
    let mut later = [mails.recv().await, mails.recv().await];
    // They are about two reservations: in what order those come is not said.
    later.sort();
    let mut expected = [Some(missed), Some(paid)];
    expected.sort();
    assert_eq!(later, expected);
    println!("delivered later: {later:?}");
    engine.shutdown().await?;
    Ok(())
}

/// Buys a seat; gives the id of the reservation.
async fn buy(engine: &Engine, option: OptionId, user: &str) -> Result<String, Box<dyn std::error::Error>> {
    let user: UserId = user.parse()?;
    engine.charge(&user, 50.into(), &"the-bank".parse()?, None).await?;
    let held = engine.hold(option, &user, Wish::best(1), None, None).await?.value;
    engine.pay(&user, held.id, None).await?;
    Ok(held.id.to_string())
}
