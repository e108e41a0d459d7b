//! What is not in memory is read by whoever wants it; nobody else waits for that.

use std::pin::Pin;

use super::*;
use crate::api::PageRequest;
use crate::testing::gated_rows::GatedRows;

fn berta() -> UserId {
    "berta".parse().unwrap()
}

/// A call that has to read what is not in memory.
type Slow = fn(Engine, OptionId, Reservation) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! slow {
    (|$engine:ident, $option:ident, $held:ident| $call:expr) => {
        |$engine: Engine, $option: OptionId, $held: Reservation| {
            Box::pin(async move {
                let _ = (&$option, &$held);
                $call;
            })
        }
    };
}

const SLOW: &[(&str, Slow)] = &[
    (
        "a page of payments",
        slow!(|engine, option, held| {
            let page = engine.payments(&anna(), &PageRequest::default()).await.unwrap();
            assert_eq!(page.items.len(), 1);
        }),
    ),
    (
        "a page of reservations",
        slow!(|engine, option, held| {
            let page = engine.reservations(&anna(), None, &PageRequest::default()).await.unwrap();
            assert_eq!(page.items.len(), 1);
        }),
    ),
    (
        "a reservation",
        slow!(|engine, option, held| {
            assert_eq!(engine.reservation(&Caller::Admin, held.id).await.unwrap().amount, held.amount);
        }),
    ),
    (
        "a page of entries",
        slow!(|engine, option, held| {
            let page = engine.wallet_entries(&anna(), &PageRequest::default()).await.unwrap();
            assert_eq!(page.items.len(), 2);
        }),
    ),
    (
        "a wallet",
        slow!(|engine, option, held| {
            assert_eq!(engine.wallet(&anna()).await.unwrap().balance, Points::new(900).unwrap());
        }),
    ),
    (
        "an option",
        slow!(|engine, option, held| {
            assert_eq!(engine.option(option).await.unwrap().counts.sold, 1);
        }),
    ),
    (
        "seats",
        slow!(|engine, option, held| {
            engine.seats(option).await.unwrap();
        }),
    ),
    (
        "concerts",
        slow!(|engine, option, held| {
            assert_eq!(engine.concerts(&PageRequest::default()).await.unwrap().items.len(), 1);
        }),
    ),
    (
        "a place in line",
        slow!(|engine, option, held| {
            let concert = engine.concerts(&PageRequest::default()).await.unwrap().items[0].id;
            engine.issue_token(concert, &anna()).await.unwrap();
        }),
    ),
    (
        "a hold, whose actor is asleep",
        slow!(|engine, option, held| {
            let held = hold(&engine, option, "2").await.unwrap();
            // Or the option would be in memory from the next start on.
            engine.release(&Caller::Admin, held.id).await.unwrap();
        }),
    ),
    (
        "a charge, whose actor is asleep",
        slow!(|engine, option, held| {
            engine.charge(&anna(), Points::new(1).unwrap(), &anna(), None).await.unwrap();
        }),
    ),
    (
        "seats that are followed",
        slow!(|engine, option, held| {
            engine.seat_changes(option, None).await.unwrap().next().await.unwrap();
        }),
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nobody_waits_for_what_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: dir.path().to_path_buf(), ..Config::default() };
    config.journal.segment_bytes = 1 << 20;
    config.storage.min_free_bytes = 1 << 20;
    let engine = Engine::open(config.clone()).await.unwrap();
    let option = on_sale(&engine).await;
    for user in [anna(), berta()] {
        engine.charge(&user, Points::new(1_000).unwrap(), &user, None).await.unwrap();
    }
    let held = hold(&engine, option, "1").await.unwrap();
    engine.pay(&anna(), held.id, None).await.unwrap();
    engine.shutdown().await.unwrap();
    for (name, slow) in SLOW {
        let rows = GatedRows::default();
        let engine = Engine::open_on(config.clone(), rows.clone()).await.unwrap();
        // Nothing is owed, so that only what somebody asks for is in memory; this is.
        engine.wallet(&berta()).await.unwrap();
        rows.shut();
        let hanging = tokio::spawn(slow(engine.clone(), option, held.clone()));
        while rows.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        // On a thread of its own, since it must not be this one that hangs.
        let (asked, answered) = (engine.clone(), berta());
        let asking = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { asked.wallet(&answered).await.unwrap().balance })
        });
        let begun = std::time::Instant::now();
        while !asking.is_finished() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let answered_meanwhile = asking.is_finished();
        assert!(rows.waiting() > 0, "{name}: it hangs still");
        rows.open();
        assert!(answered_meanwhile, "{name}: somebody else had to wait for it");
        asking.join().unwrap();
        hanging.await.unwrap();
        engine.shutdown().await.unwrap();
    }
}
