//! What those hear who watch a call: the steps of it, and which events have come of it.

use super::*;
use crate::domain::{EventFilter, EventId};
use crate::watch::{Step, Watch, watched};

/// The first and the last event of a record.
type Events = (Lsn, Lsn);

#[derive(Default)]
struct Heard {
    appended: Mutex<Vec<Events>>,
    steps: Mutex<Vec<Step>>,
}

impl Watch for Heard {
    fn appended(&self, first: Lsn, last: Lsn) {
        self.appended.lock().push((first, last));
    }

    fn ended(&self, step: Step) {
        self.steps.lock().push(step);
    }
}

impl Heard {
    /// The events, and the steps by whether they append and are durable.
    fn all(&self) -> (Vec<Events>, Vec<(bool, bool)>) {
        let steps = self.steps.lock();
        assert!(steps.iter().all(|step| step.begun <= step.decided && step.decided <= step.ended));
        (self.appended.lock().clone(), steps.iter().map(|step| (step.appends, step.durable)).collect())
    }
}

#[tokio::test]
async fn who_watches_hears_what_was_decided_and_what_came_of_it() {
    let (engine, _dir) = open(|_| ()).await;
    let option = on_sale(&engine).await;
    let before = engine.durable_lsn();
    let heard = Arc::new(Heard::default());
    hold(&engine, option, "2").await.unwrap();
    assert_eq!(heard.all(), (vec![], vec![]), "nobody watches");
    // What others bring about in between is not of this call.
    engine.charge(&anna(), Points::new(1).unwrap(), &anna(), None).await.unwrap();
    let held = watched(heard.clone(), hold(&engine, option, "1")).await.unwrap();
    let lsn = Lsn(before.0 + 3);
    assert_eq!(heard.all(), (vec![(lsn, lsn)], vec![(true, true)]));

    let heard = Arc::new(Heard::default());
    watched(heard.clone(), hold(&engine, option, "1")).await.unwrap_err();
    assert_eq!(heard.all(), (vec![], vec![(false, true)]), "what is refused is decided too");

    // The option asks the wallet, and answers once that has: one command, by two records.
    engine.charge(&anna(), Points::new(500).unwrap(), &anna(), None).await.unwrap();
    let (heard, before) = (Arc::new(Heard::default()), engine.durable_lsn());
    watched(heard.clone(), engine.pay(&anna(), held.id, None)).await.unwrap();
    let (appended, steps) = heard.all();
    assert_eq!(steps, [(true, true)]);
    let after = EventId { lsn: before, index: u32::MAX };
    let mut events = engine.events(after, EventFilter::ALL);
    let mut expected = Vec::new();
    while expected.len() < 2 {
        for event in events.next(100).await.unwrap().events {
            let of_option =
                matches!(event.kind.as_str(), "boxoffice.payment.completed" | "boxoffice.reservation.confirmed");
            expected.extend(of_option.then_some(event.id.lsn));
        }
    }
    assert!(
        expected.iter().all(|lsn| appended.iter().any(|(first, last)| first <= lsn && lsn <= last)),
        "{appended:?}"
    );
    engine.shutdown().await.unwrap();
}
