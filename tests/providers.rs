//! Hosts that bring a provider: what is owed is done, whatever the provider does, and done once.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use boxoffice::payment::{Charge, Day, Differences, Doing, Fact, Failure, Kind, Opened, Order, Provider};
use boxoffice::testing::clock::ManualClock;
use boxoffice::testing::cluster::{Cable, MemoryStream};
use boxoffice::{
    Caller, Currency, Engine, Error, NewOption, PageRequest, Payment, PaymentFilter, PaymentId, PaymentStatus,
    Rejection, RoomSettings, Timestamp, UserId,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use self::common::{config, eventually, hold, new_concert, new_option, rejection, takes_cards, user};

#[derive(Debug, Default)]
struct Bank {
    /// By reference: amount, captured, refunded, dead.
    charges: BTreeMap<String, (u32, bool, u32, bool)>,
    /// By what payments are called here.
    of: BTreeMap<String, String>,
    /// Keys, and what was answered.
    keys: BTreeMap<String, Vec<Fact>>,
    calls: Vec<String>,
    /// So many of the next answers are lost, after what was asked for was done.
    loses: usize,
    /// So many of the next calls are certain to fail.
    refuses: usize,
    /// So many of the next calls are never answered, after what was asked for was done.
    silent: usize,
    /// Refunds are answered once they are let.
    lets_refunds: Option<Arc<Semaphore>>,
    /// What is said of any day, if there is something.
    listed: Option<Vec<Fact>>,
    /// What a look-up tells before all else.
    wrong: Option<Fact>,
}

#[derive(Debug, Clone, Default)]
struct Fake(Arc<Mutex<Bank>>);

fn said(kind: Kind, reference: &str, amount: u32) -> Fact {
    Fact {
        kind,
        reference: reference.into(),
        id: None,
        amount: amount.into(),
        currency: Currency::KRW,
        at: None,
        reason: None,
    }
}

impl Fake {
    fn answer<'a, T: Send + 'a>(&self, answer: Result<T, Failure>) -> Doing<'a, T> {
        let mut bank = self.0.lock();
        if bank.silent == 0 {
            return Box::pin(std::future::ready(answer));
        }
        bank.silent -= 1;
        Box::pin(std::future::pending())
    }

    fn act(
        &self,
        what: &str,
        charge: &Charge,
        act: impl FnOnce(&mut (u32, bool, u32, bool)) -> Option<Fact>,
    ) -> Result<Vec<Fact>, Failure> {
        let mut bank = self.0.lock();
        bank.calls.push(format!("{what} {} {}", charge.reference, charge.amount));
        if bank.refuses > 0 {
            bank.refuses -= 1;
            return Err(Failure::Definite("not today".into()));
        }
        let facts = match bank.keys.get(&charge.key).cloned() {
            Some(facts) => facts,
            None => {
                let Some(known) = bank.charges.get_mut(&charge.reference) else {
                    return Err(Failure::Definite("no such charge".into()));
                };
                let Some(fact) = act(known) else { return Err(Failure::Definite("it cannot be done".into())) };
                bank.keys.insert(charge.key.clone(), vec![fact.clone()]);
                vec![fact]
            }
        };
        if bank.loses > 0 {
            bank.loses -= 1;
            return Err(Failure::Unknown("no answer".into()));
        }
        Ok(facts)
    }
}

impl Provider for Fake {
    fn begin<'a>(&'a self, order: &'a Order) -> Doing<'a, Opened> {
        let mut bank = self.0.lock();
        let reference = format!("ch-{}", order.payment);
        bank.charges.entry(reference.clone()).or_insert((u32::try_from(order.amount.get()).unwrap(), false, 0, false));
        bank.of.insert(order.provider_id.clone(), reference.clone());
        drop(bank);
        self.answer(Ok(Opened { reference, checkout: r#"{"secret":"s"}"#.into() }))
    }

    fn capture<'a>(&'a self, charge: &'a Charge) -> Doing<'a, Vec<Fact>> {
        let done = self.act("capture", charge, |known| {
            known.1 |= !known.3;
            known.1.then(|| said(Kind::Captured, &charge.reference, known.0))
        });
        self.answer(done)
    }

    fn void<'a>(&'a self, charge: &'a Charge) -> Doing<'a, Vec<Fact>> {
        let done = self.act("void", charge, |known| {
            known.3 |= !known.1;
            known.3.then(|| said(Kind::Voided, &charge.reference, known.0))
        });
        self.answer(done)
    }

    fn refund<'a>(&'a self, charge: &'a Charge) -> Doing<'a, Vec<Fact>> {
        let amount = u32::try_from(charge.amount.get()).unwrap();
        let done = self.act("refund", charge, |known| {
            known.2 += amount;
            Some(Fact { id: Some(charge.key.clone()), ..said(Kind::Refunded, &charge.reference, amount) })
        });
        let lets = self.0.lock().lets_refunds.clone();
        let answer = self.answer(done);
        Box::pin(async move {
            if let Some(lets) = lets {
                lets.acquire().await.unwrap().forget();
            }
            answer.await
        })
    }

    fn look_up<'a>(&'a self, provider_id: &'a str) -> Doing<'a, Vec<Fact>> {
        let mut bank = self.0.lock();
        bank.calls.push("look up".into());
        let reference = bank.of.get(provider_id).cloned();
        let facts = reference.into_iter().filter_map(|reference| {
            let (amount, captured, _, dead) = bank.charges[&reference];
            let kind = if captured {
                Kind::Captured
            } else if dead {
                Kind::Voided
            } else {
                return None;
            };
            Some(said(kind, &reference, amount))
        });
        let facts = bank.wrong.iter().cloned().chain(facts).collect();
        drop(bank);
        self.answer(Ok(facts))
    }

    fn list(&self, _: Day) -> Option<Doing<'_, Vec<Fact>>> {
        let listed = self.0.lock().listed.clone()?;
        Some(self.answer(Ok(listed)))
    }
}

/// A pending payment of seat 1-1, and its option.
async fn begin(engine: &Engine, owner: &UserId) -> Payment {
    let concert = engine.create_concert(new_concert("Cards", RoomSettings::default()), None).await.unwrap().value.id;
    let payment_methods = vec!["card".into()];
    let option = NewOption { payment_methods, currency: Some(Currency::KRW), ..new_option(engine, 2, 2) };
    let option = engine.add_option(concert, option, None).await.unwrap().value.id;
    let held = hold(engine, option, owner, &["1-1"]).await;
    engine.begin_payment(owner, held.id, "card", None).await.unwrap().value
}

async fn becomes(engine: &Engine, id: PaymentId, status: PaymentStatus) -> Payment {
    eventually(&format!("{status:?}"), || async {
        let payment = engine.payment(&Caller::Admin, id).await.unwrap();
        (payment.status == status).then_some(payment)
    })
    .await
}

async fn owes_nothing(engine: &Engine) {
    eventually("nothing is owed", || async {
        let owed = engine.provided_payments(PaymentFilter::Owed, &PageRequest::default()).await.unwrap();
        owed.items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_owed_is_done_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(takes_cards(config(dir.path()))).await.unwrap();
    let (fake, anna) = (Fake::default(), user(1));
    let attached = engine.attach_provider("card", Arc::new(fake.clone()));
    let payment = begin(&engine, &anna).await;
    let checkout = engine.checkout(&Caller::User(anna.clone()), payment.id).await.unwrap();
    assert_eq!(checkout, engine.checkout(&Caller::User(anna.clone()), payment.id).await.unwrap());
    let not_his = engine.checkout(&Caller::User(user(2)), payment.id).await;
    assert_eq!(rejection(not_his), Rejection::NotFound);
    let reference = format!("ch-{}", payment.id);
    // The answer to the capture is lost once, and the first refund is refused.
    fake.0.lock().loses = 1;
    engine.report(payment.id, said(Kind::Authorized, &reference, 100)).await.unwrap();
    becomes(&engine, payment.id, PaymentStatus::Completed).await;
    fake.0.lock().refuses = 1;
    engine.refund(&Caller::Admin, payment.id, None).await.unwrap();
    let back = becomes(&engine, payment.id, PaymentStatus::Refunded).await;
    assert_eq!(back.provided.unwrap().refunded, 100);
    owes_nothing(&engine).await;
    drop(attached);
    {
        let bank = fake.0.lock();
        assert_eq!(bank.charges[&reference], (100, true, 100, false), "{bank:?}");
        let keys = bank.keys.keys().map(|key| key.rsplit_once('-').unwrap().1.to_owned()).collect::<Vec<_>>();
        assert_eq!(keys, ["0", "1"], "the refund was done at its second attempt: {bank:?}");
    }
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_does_not_wait_for_all_refunds_that_were_owed_before() {
    const REFUNDS: usize = 48;
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(takes_cards(config(dir.path()))).await.unwrap();
    let (slow, refunds) = (Fake::default(), Arc::new(Semaphore::new(0)));
    slow.0.lock().lets_refunds = Some(refunds.clone());
    for _ in 0..REFUNDS {
        let payment = begin(&engine, &user(1)).await;
        let reference = format!("ch-{}", payment.id);
        engine.report(payment.id, said(Kind::Captured, &reference, 100)).await.unwrap();
        engine.refund(&Caller::Admin, payment.id, None).await.unwrap();
        slow.0.lock().charges.insert(reference, (100, true, 0, false));
    }
    slow.0.lock().charges.insert("ch".into(), (100, false, 0, false));
    let payment = begin(&engine, &user(1)).await;
    let comes = async |n: usize| {
        eventually("one more is begun", || async { (slow.0.lock().calls.len() >= n).then_some(()) }).await;
    };
    let attached = engine.attach_provider("card", Arc::new(slow.clone()));
    comes(16).await;
    engine.report(payment.id, said(Kind::Authorized, "ch", 100)).await.unwrap();
    for n in 17..32 {
        refunds.add_permits(1);
        comes(n).await;
    }
    let begun = slow.0.lock().calls.clone();
    assert!(begun.contains(&"capture ch 100".to_owned()), "{begun:?}");
    drop(attached);
    engine.shutdown().await.unwrap();
}

/// As many calls as are made at once never return. What was asked for was done, and is not asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_is_asked_what_came_of_it() {
    const SILENT: usize = 16;
    let dir = tempfile::tempdir().unwrap();
    let mut config = takes_cards(config(dir.path()));
    config.payments.call_timeout_ms = 100;
    let engine = Engine::open(config).await.unwrap();
    let silent = Fake::default();
    silent.0.lock().silent = 1;
    let mut all = Vec::new();
    for n in 0..=SILENT {
        let payment = begin(&engine, &user(1)).await;
        let owner = Caller::User(user(1));
        let attached = engine.attach_provider("card", Arc::new(silent.clone()));
        if n == 0 {
            let unreachable = engine.checkout(&owner, payment.id).await;
            assert!(matches!(unreachable, Err(Error::Overloaded(_))), "{unreachable:?}");
        }
        engine.checkout(&owner, payment.id).await.unwrap();
        drop(attached);
        all.push(payment);
    }
    silent.0.lock().silent = SILENT;
    for payment in &all {
        let reference = format!("ch-{}", payment.id);
        engine.report(payment.id, said(Kind::Authorized, &reference, 100)).await.unwrap();
    }
    let _attached = engine.attach_provider("card", Arc::new(silent.clone()));
    for payment in &all {
        becomes(&engine, payment.id, PaymentStatus::Completed).await;
    }
    owes_nothing(&engine).await;
    let calls = silent.0.lock().calls.clone();
    let captures = calls.iter().filter(|call| call.starts_with("capture")).count();
    assert_eq!((captures, calls.len() - captures), (SILENT + 1, SILENT), "{calls:?}");
    engine.shutdown().await.unwrap();
}

/// Only one drives what is owed under a name: who came last, until that is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_attached_last_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(takes_cards(config(dir.path()))).await.unwrap();
    let owner = Caller::User(user(1));
    let (one, other) = (Fake::default(), Fake::default());
    let first = engine.attach_provider("card", Arc::new(one.clone()));
    let second = engine.attach_provider("card", Arc::new(other.clone()));
    let third = engine.attach_provider("card", Arc::new(other.clone()));
    // Those that were replaced take nobody away.
    drop((first, second));
    let payment = begin(&engine, &user(1)).await;
    engine.checkout(&owner, payment.id).await.unwrap();
    let reference = format!("ch-{}", payment.id);
    engine.report(payment.id, said(Kind::Authorized, &reference, 100)).await.unwrap();
    becomes(&engine, payment.id, PaymentStatus::Completed).await;
    assert!(one.0.lock().calls.is_empty());
    let next = begin(&engine, &user(1)).await;
    drop(third);
    assert_eq!(rejection(engine.checkout(&owner, next.id).await), Rejection::NotFound);
    eventually("what is not attached is let go", || async { (Arc::strong_count(&other.0) == 1).then_some(()) }).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_lists_is_compared_with_what_was_heard() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Timestamp::from_millis(1_000_000_000_000));
    let engine = Engine::open_with(takes_cards(config(dir.path())), &clock).await.unwrap();
    let days: [Day; 3] = ["2001-09-09", "2001-09-10", "2001-09-11"].map(|day| day.parse().unwrap());
    for reference in ["a", "b", "c"] {
        let payment = begin(&engine, &user(1)).await;
        engine.report(payment.id, said(Kind::Captured, reference, 100)).await.unwrap();
        clock.advance(86_400_000);
    }
    let nobody = engine.reconcile("card", days[1]).await;
    assert!(matches!(nobody, Err(Error::Invalid(_))), "{nobody:?}");
    let attached = engine.attach_provider("card", Arc::new(Fake::default()));
    let lists_nothing = engine.reconcile("card", days[1]).await;
    assert!(matches!(lists_nothing, Err(Error::Invalid(_))), "{lists_nothing:?}");
    drop(attached);
    let lists = Fake::default();
    let _attached = engine.attach_provider("card", Arc::new(lists.clone()));
    let different = async |day: usize, listed: &[Fact]| {
        lists.0.lock().listed = Some(listed.to_vec());
        let Differences { unknown_here, unknown_there } = engine.reconcile("card", days[day]).await.unwrap();
        [unknown_here, unknown_there].map(|all| all.into_iter().map(|one| one.reference).collect::<Vec<_>>())
    };
    let captured = |reference| said(Kind::Captured, reference, 100);
    assert_eq!(different(1, &[captured("b"), said(Kind::Authorized, "z", 1)]).await, [vec![], Vec::<String>::new()]);
    assert_eq!(different(1, &[]).await, [vec![], vec!["b".to_owned()]]);
    // The day before and the ones after count as known; the one before that does not.
    assert_eq!(different(1, &[captured("a"), captured("b"), captured("c")]).await, [vec![], Vec::<String>::new()]);
    assert_eq!(different(2, &[captured("a"), captured("c")]).await, [vec!["a".to_owned()], vec![]]);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_owed_survives_a_crash_and_is_looked_up_when_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Timestamp::from_millis(1_000_000_000_000));
    let (fake, anna) = (Fake::default(), user(1));
    let engine = Engine::open_with(takes_cards(config(dir.path())), &clock).await.unwrap();
    let attached = engine.attach_provider("card", Arc::new(fake.clone()));
    let payment = begin(&engine, &anna).await;
    engine.checkout(&Caller::User(anna.clone()), payment.id).await.unwrap();
    drop(attached);
    let reference = format!("ch-{}", payment.id);
    engine.report(payment.id, said(Kind::Captured, &reference, 100)).await.unwrap();
    engine.refund(&Caller::Admin, payment.id, None).await.unwrap();
    engine.shutdown().await.unwrap();
    // It was captured there; and the provider has forgotten all keys by now.
    fake.0.lock().charges.get_mut(&reference).unwrap().1 = true;
    clock.advance(13 * 3_600_000);
    let engine = Engine::open_with(takes_cards(config(dir.path())), &clock).await.unwrap();
    let _attached = engine.attach_provider("card", Arc::new(fake.clone()));
    becomes(&engine, payment.id, PaymentStatus::Refunded).await;
    assert_eq!(fake.0.lock().calls, ["look up".to_owned(), format!("refund {reference} 100")]);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_asked_once_more_if_somebody_wants_that() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, anna) = (Fake::default(), user(1));
    let engine = Engine::open(takes_cards(config(dir.path()))).await.unwrap();
    let payment = begin(&engine, &anna).await;
    let alone = engine.look_up_payment(payment.id).await;
    assert!(matches!(&alone, Err(Error::Invalid(flaws)) if flaws[0].field == "method"), "{alone:?}");
    let _attached = engine.attach_provider("card", Arc::new(fake.clone()));
    engine.checkout(&Caller::User(anna), payment.id).await.unwrap();
    assert_eq!(engine.look_up_payment(payment.id).await.unwrap().status, PaymentStatus::Pending);
    // It was taken, and nobody has told; what cannot be that is told with it is not taken, and keeps nothing else away.
    let reference = format!("ch-{}", payment.id);
    fake.0.lock().charges.get_mut(&reference).unwrap().1 = true;
    fake.0.lock().wrong = Some(said(Kind::Opened, &reference, 99));
    assert_eq!(rejection(engine.look_up_payment(payment.id).await), Rejection::FactConflict);
    assert_eq!(engine.payment(&Caller::Admin, payment.id).await.unwrap().status, PaymentStatus::Completed);
    fake.0.lock().wrong = None;
    assert_eq!(engine.look_up_payment(payment.id).await.unwrap().status, PaymentStatus::Completed);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_pays_after_the_deadline_and_the_charge_is_called_off() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Timestamp::from_millis(1_000_000_000_000));
    let (fake, anna) = (Fake::default(), user(1));
    let engine = Engine::open_with(takes_cards(config(dir.path())), &clock).await.unwrap();
    let _attached = engine.attach_provider("card", Arc::new(fake.clone()));
    let (opened, unknown) = (begin(&engine, &anna).await, begin(&engine, &anna).await);
    engine.checkout(&Caller::User(anna.clone()), opened.id).await.unwrap();
    clock.advance(601_000);
    // One is voided; of the other nobody knows, and none can begin.
    becomes(&engine, opened.id, PaymentStatus::Voided).await;
    becomes(&engine, unknown.id, PaymentStatus::Voided).await;
    owes_nothing(&engine).await;
    assert!(fake.0.lock().charges[&format!("ch-{}", opened.id)].3);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_left_memory_is_heard_of_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Timestamp::from_millis(1_000_000_000_000));
    let engine = Engine::open_with(takes_cards(config(dir.path())), &clock).await.unwrap();
    let payment = begin(&engine, &user(1)).await;
    engine.report(payment.id, said(Kind::Failed, "ch", 100)).await.unwrap();
    // The performance has begun: nothing of it is in memory.
    clock.advance(3 * 86_400_000);
    let seen = becomes(&engine, payment.id, PaymentStatus::Failed).await;
    assert_eq!(seen.id, payment.id);
    let engine = {
        engine.shutdown().await.unwrap();
        Engine::open_with(takes_cards(config(dir.path())), &clock).await.unwrap()
    };
    // Together, from everywhere.
    let captured = said(Kind::Captured, "ch", 100);
    let reports = (0..20).map(|_| engine.report(payment.id, captured.clone()));
    for told in futures_util::future::join_all(reports).await {
        assert_eq!(told.unwrap().status, PaymentStatus::RefundOwed);
    }
    engine.report(payment.id, said(Kind::Refunded, "ch", 100)).await.unwrap();
    becomes(&engine, payment.id, PaymentStatus::Refunded).await;
    owes_nothing(&engine).await;
    engine.shutdown().await.unwrap();
    let report = boxoffice::verify(&config(dir.path())).unwrap();
    assert!(report.ok, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_another_installation() {
    let [dir, copy, other] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let engine = Engine::open(takes_cards(config(dir.path()))).await.unwrap();
    let payment = begin(&engine, &user(1)).await;
    let installation =
        |payment: &Payment| payment.provided.as_ref().unwrap().provider_id.split('-').next().unwrap().to_owned();
    let second = begin(&engine, &user(1)).await;
    assert_eq!(installation(&payment), installation(&second));
    engine.shutdown().await.unwrap();
    let (copy, other) = (copy.path().join("copy"), other.path().join("other"));
    boxoffice::backup(&config(dir.path()), &copy).unwrap();
    boxoffice::restore(&copy, &config(&other)).unwrap();
    let engine = Engine::open(takes_cards(config(&other))).await.unwrap();
    let third = begin(&engine, &user(1)).await;
    assert_ne!(installation(&payment), installation(&third));
    let first = engine.payment(&Caller::Admin, payment.id).await.unwrap();
    assert_eq!(installation(&payment), installation(&first), "it keeps the one that it began with");
    engine.shutdown().await.unwrap();
}

/// Every node knows what was heard, wherever it was heard, and asks the provider itself.
#[tokio::test(flavor = "multi_thread")]
async fn money_is_compared_on_a_node_that_follows() {
    let (stream, cables) = (MemoryStream::default(), [Cable::default(), Cable::default()]);
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let open = |n: usize, name: &'static str| {
        let joining = stream.joining(name, &cables[n]);
        Engine::open_in_cluster(takes_cards(config(&dirs[n].path().join("data"))), joining)
    };
    let one = open(0, "ada").await.unwrap();
    eventually("it owns", || async { one.membership().unwrap().owns.then_some(()) }).await;
    let other = open(1, "ben").await.unwrap();
    let payment = begin(&one, &user(1)).await;
    let at = Some("2001-09-10T12:00:00Z".parse().unwrap());
    let captured = Fact { at, ..said(Kind::Captured, "ch", 100) };
    one.report(payment.id, captured.clone()).await.unwrap();
    assert!(!other.membership().unwrap().owns);
    let day = "2001-09-10".parse().unwrap();
    let ask = || async { other.whole_reconciliation("card", day).await.ok() };
    let charges = eventually("it has heard who owns", ask).await;
    assert_eq!(charges.iter().map(|one| (&*one.reference, one.captured)).collect::<Vec<_>>(), [("ch", 100)]);
    let lists = Fake::default();
    let _attached = other.attach_provider("card", Arc::new(lists.clone()));
    lists.0.lock().listed = Some(vec![captured]);
    assert!(other.reconcile("card", day).await.unwrap().is_none());
    lists.0.lock().listed = Some(Vec::new());
    assert_eq!(other.reconcile("card", day).await.unwrap().unknown_there.len(), 1);
    one.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
}

/// What has left memory is given up as what has not: it is so already, or it took money.
#[tokio::test(flavor = "multi_thread")]
async fn what_left_memory_is_given_up_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Timestamp::from_millis(1_000_000_000_000));
    let engine = Engine::open_with(takes_cards(config(dir.path())), &clock).await.unwrap();
    let [failed, paid] = [begin(&engine, &user(1)).await, begin(&engine, &user(1)).await];
    engine.report(failed.id, said(Kind::Failed, "ch-1", 100)).await.unwrap();
    engine.report(paid.id, said(Kind::Captured, "ch-2", 100)).await.unwrap();
    // The performances have begun. That what took no money has left memory stands in the journal.
    clock.advance(3 * 86_400_000);
    let mut engine = engine;
    for n in 0.. {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        engine.shutdown().await.unwrap();
        let mut gone = 0;
        let mut count = |line: &str| {
            gone += line.to_lowercase().matches("cold").count();
            Ok(())
        };
        boxoffice::export(&config(dir.path()), boxoffice::Lsn(1), &mut count).unwrap();
        engine = Engine::open_with(takes_cards(config(dir.path())), &clock).await.unwrap();
        if gone > 0 {
            break;
        }
        assert!(n < 200, "it is still in memory");
    }
    let (owner, other) = (Caller::User(user(1)), Caller::User(user(2)));
    for _ in 0..2 {
        let seen = engine.give_up_payment(&owner, failed.id).await.unwrap();
        assert_eq!(seen.status, PaymentStatus::Failed);
        assert_eq!(rejection(engine.give_up_payment(&owner, paid.id).await), Rejection::PaymentUnderWay);
        assert_eq!(rejection(engine.give_up_payment(&other, failed.id).await), Rejection::NotFound);
        assert_eq!(rejection(engine.give_up_payment(&other, paid.id).await), Rejection::NotFound);
    }
    engine.shutdown().await.unwrap();
}
