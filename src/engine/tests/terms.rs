//! What is left of a term that is over, as only the inside can see it: nothing.

use super::*;
use crate::domain::EventFilter;
use crate::relay::{self, Delivery, Outcome};

/// Never says what became of it.
struct Silent;

impl relay::Receiver for Silent {
    fn deliver<'a>(&'a self, _: &'a Delivery) -> std::pin::Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_memory_is_freed_and_all_who_wait_are_let_go() {
    let (engine, _dir) = open(|_| ()).await;
    let option = on_sale(&engine).await;
    let attached = engine.attach("host", EventFilter::ALL, Start::Beginning, Arc::new(Silent), Default::default());
    let sink = attached.await.unwrap();
    let _looking_on = engine.seat_changes(option, None).await.unwrap();
    let held = hold(&engine, option, "1").await.unwrap();
    let term = Arc::downgrade(&engine.0.terms.look(Arc::clone).unwrap());
    let before = engine.durable_lsn();
    // The wallet, which nobody has asked for yet, cannot be loaded, and so does not answer.
    let held_up = HeldUp::new(&engine);
    let payer = engine.clone();
    let paying = tokio::spawn(async move { payer.pay(&anna(), held.id, None).await });
    while engine.durable_lsn() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    engine.end_term().await.unwrap();
    let paid = tokio::time::timeout(PATIENCE, paying).await.expect("an answer").unwrap();
    assert!(matches!(&paid, Err(Error::OutcomeUnknown(reason)) if reason.contains("term")), "{paid:?}");
    drop(held_up);
    let freed = async {
        while term.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("its memory is freed");
    engine.begin_term().await.unwrap();
    engine.charge(&anna(), Points::new(100).unwrap(), &anna(), None).await.unwrap();
    // What was under way is brought to its end: there was nothing to pay it with, unless the charge came first.
    match engine.pay(&anna(), held.id, None).await {
        Ok(_) | Err(Error::Rejected(Rejection::AlreadyPaid { .. } | Rejection::InsufficientPoints { .. })) => {}
        Err(error) => panic!("{error}"),
    }
    engine.detach(sink).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn who_waits_in_a_line_counts_as_just_heard_of() {
    let (engine, _dir) = open(|_| ()).await;
    let waiting_room = Settings { mode: Mode::Paused, ..Settings::default() };
    let concert = NewConcert { title: "Concert".into(), waiting_room };
    let concert = engine.create_concert(concert, None).await.unwrap().value.id;
    engine.issue_token(concert, &anna()).await.unwrap();
    let liveness = || engine.0.node.liveness.get(&concert).map(|liveness| liveness.clone());
    let old = liveness().expect("somebody waits");
    engine.end_term().await.unwrap();
    engine.begin_term().await.unwrap();
    let new = liveness().expect("somebody waits still");
    assert!(!Arc::ptr_eq(&old, &new), "no sign of life is known of any of them");
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_hold_that_was_asked_for_in_the_last_term_takes_nobodys_place_in_this_one() {
    let (engine, _dir) = open(|config| config.limits.user_open_holds = 2).await;
    let option = on_sale(&engine).await;
    let slot = engine.0.take_hold(&anna()).await.unwrap().unwrap();
    let before = engine.durable_lsn();
    engine.end_term().await.unwrap();
    engine.begin_term().await.unwrap();
    // It has come so far when the term ended, and goes on now.
    let plan = engine.plan(option).await.unwrap();
    let wish = crate::domain::concert_option::Wish::Seats([0].as_slice().into());
    let request = Request { key: None, refused: None };
    let command = concert_option::Command::Hold { user: anna(), wish, token: None, note: None, plan, request };
    let late = engine.0.ask_holding(&option, command, slot).await;
    assert!(matches!(&late, Err(Error::NoOwner)), "{late:?}");
    assert_eq!(engine.durable_lsn(), before);
    for seat in ["1", "2"] {
        hold(&engine, option, seat).await.unwrap();
    }
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn no_term_begins_where_the_journal_has_failed() {
    let (engine, dir) = open(|_| ()).await;
    engine.end_term().await.unwrap();
    engine.0.node.journal.poison("a test");
    let begun = engine.begin_term().await;
    assert!(matches!(&begun, Err(Error::OutcomeUnknown(why)) if why.contains("a test")), "{begun:?}");
    assert!(engine.0.terms.look(|_| ()).is_none());
    assert!(engine.shutdown().await.is_err());
    let config = Config { data_dir: dir.path().into(), ..Config::default() };
    assert!(!verify(&config).unwrap().sealed, "that was no clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_several_commands_of_which_the_first_was_taken_does_not_say_that_nothing_was() {
    let (engine, _dir) = open(|_| ()).await;
    // The catalogue's actor is there, and writes nothing by itself.
    on_sale(&engine).await;
    let before = engine.durable_lsn();
    // Nobody sees what is durable, and so the call does not come to its second command.
    let held_up = HeldUp::new(&engine);
    let asking = engine.clone();
    let asked = tokio::spawn(async move { asking.create_concert(NewConcert::new("Concert"), None).await });
    while engine.durable_lsn() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ending = engine.clone();
    let ended = tokio::spawn(async move { ending.end_term().await });
    while engine.0.terms.look(|_| ()).is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(held_up);
    ended.await.unwrap().unwrap();
    let told = tokio::time::timeout(PATIENCE, asked).await.expect("an answer").unwrap();
    assert!(matches!(&told, Err(Error::OutcomeUnknown(_))), "{told:?}");
    engine.begin_term().await.unwrap();
    assert_eq!(engine.concerts(&Default::default()).await.unwrap().items.len(), 2, "there it is");
    engine.end_term().await.unwrap();
    let refused = engine.create_concert(NewConcert::new("Another"), None).await;
    assert!(matches!(&refused, Err(Error::NoOwner)), "{refused:?}");
    engine.begin_term().await.unwrap();
    assert_eq!(engine.concerts(&Default::default()).await.unwrap().items.len(), 2, "nothing was taken");
    engine.shutdown().await.unwrap();
}
