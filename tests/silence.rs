//! A receiver that cannot be reached for a day, by a clock that is set by hand, while sales go on: no sale waits, little is kept
//! in memory, nothing of it is written down, and afterwards everything comes in order.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use boxoffice::relay::{Delivery, Failure, Outcome, Receiver, Settings};
use boxoffice::testing::clock::ManualClock;
use boxoffice::{Engine, EventFilter, EventId, Start, Timestamp};
use common::*;
use parking_lot::Mutex;

/// 2026-11-01.
const BEGIN: Timestamp = Timestamp::from_millis(1_793_491_200_000);
const HALF_AN_HOUR: u64 = 30 * 60 * 1_000;
const HALF_HOURS: usize = 48;
const BUYERS_A_TIME: usize = 12;
/// Events in memory from which on no more are read.
const WINDOW: usize = 64;
/// What one look into the journal may bring beyond that.
const LOOK_EVENTS: usize = 512;

/// A broker that is gone, or takes what it is given. It asks for all that there is in memory.
#[derive(Default)]
struct Broker {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_gone: bool,
    tries: usize,
    most: usize,
    taken: Vec<(EventId, String)>,
}

impl Receiver for Broker {
    fn batch(&self) -> usize {
        1 << 20
    }

    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        let mut state = self.state.lock();
        state.tries += 1;
        state.most = state.most.max(delivery.events.len());
        let outcome = if state.is_gone {
            Outcome::Unreachable(Failure::default())
        } else {
            state.taken.extend(delivery.events.iter().map(|event| (event.id, event.subject.clone())));
            Outcome::Delivered
        };
        Box::pin(async { outcome })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_costs_no_sale_and_little_memory_and_then_everything_comes_in_order() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(BEGIN));
    let broker = Arc::<Broker>::default();
    broker.state.lock().is_gone = true;
    // One delivery at a time has all that is in memory.
    let settings = Settings { window: WINDOW, concurrency: 1, ..Settings::default() };
    let open = async || {
        let engine = Engine::open_with(config(dir.path()), &clock).await.unwrap();
        let receiver: Arc<dyn Receiver> = broker.clone();
        let sink =
            engine.attach("broker", EventFilter::ALL, Start::Beginning, receiver, settings.clone()).await.unwrap();
        (engine, sink)
    };
    let (mut engine, mut sink) = open().await;
    let option = on_sale(&engine, HALF_HOURS * BUYERS_A_TIME, 2).await;
    for time in 0..HALF_HOURS {
        for n in (0..BUYERS_A_TIME).map(|n| time * BUYERS_A_TIME + n) {
            buy(&engine, option, &user(n), &[&format!("{}-1", n + 1)]).await;
        }
        let tries = broker.state.lock().tries;
        clock.advance(HALF_AN_HOUR);
        eventually("it is tried again", || async {
            // The end of the last try may have been noticed only now, and then the next one is a pause away.
            clock.advance(1_000);
            (broker.state.lock().tries > tries).then_some(())
        })
        .await;
        if time == HALF_HOURS / 2 {
            engine.shutdown().await.unwrap();
            (engine, sink) = open().await;
        }
    }
    let view = engine.sink(sink).await.unwrap();
    assert_eq!((view.parked, view.dead_letters, &view.disabled), (0, 0, &None), "nothing of it is written down");
    let most = broker.state.lock().most;
    assert!((WINDOW..=WINDOW + LOOK_EVENTS).contains(&most), "{most} events were in memory");
    assert!(view.lag > 2 * (WINDOW + LOOK_EVENTS) as u64, "a day is more than that: {view:?}");

    broker.state.lock().is_gone = false;
    eventually("everything has come", || async {
        clock.advance(HALF_AN_HOUR);
        (engine.sink(sink).await.unwrap().lag == 0).then_some(())
    })
    .await;
    let taken = std::mem::take(&mut broker.state.lock().taken);
    let mut events = engine.events(EventId::default(), EventFilter::ALL);
    let mut published = BTreeSet::new();
    while let batch = events.available(500).await.unwrap().events
        && !batch.is_empty()
    {
        published.extend(batch.into_iter().map(|event| event.id));
    }
    assert_eq!(published.len(), 4 * HALF_HOURS * BUYERS_A_TIME, "a charge, and created, confirmed and paid for each");
    assert_eq!(taken.len(), published.len(), "once");
    assert_eq!(taken.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(), published);
    let mut last = BTreeMap::new();
    for (id, subject) in taken {
        assert!(last.insert(subject, id).is_none_or(|before| before < id), "{id} is late");
    }
    engine.shutdown().await.unwrap();
}
