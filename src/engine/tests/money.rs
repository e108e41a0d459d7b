//! What is owed, disputed or missing is found without asking every option.

use super::*;
use crate::api::{PageRequest, PaymentFilter};
use crate::domain::{Currency, PaymentId};
use crate::payment::{Fact, Kind, Method};
use crate::settings::Payments;

/// A payment by card of a seat on an option of its own, of which all this is heard.
async fn pays(engine: &Engine, heard: &[Kind]) -> PaymentId {
    let waiting_room = Settings::default();
    let concert =
        engine.create_concert(NewConcert { title: "Cards".into(), waiting_room }, None).await.unwrap().value.id;
    let payment_methods = vec!["card".into()];
    let option = NewOption { payment_methods, currency: Some(Currency::KRW), ..two_seats(engine) };
    let option = engine.add_option(concert, option, None).await.unwrap().value.id;
    let held = hold(engine, option, "1").await.unwrap();
    let payment = engine.begin_payment(&anna(), held.id, "card", None).await.unwrap().value;
    for kind in heard {
        let (reference, amount) = (format!("ch-{}", payment.id), payment.amount);
        let fact = Fact { kind: *kind, reference, id: None, amount, currency: Currency::KRW, at: None, reason: None };
        engine.report(payment.id, fact).await.unwrap();
    }
    payment.id
}

#[tokio::test]
async fn a_list_of_what_is_open_asks_only_where_something_is() {
    let takes_cards = |config: &mut Config| {
        let card = Method { name: "card".into(), ..Method::default() };
        config.payments = Payments { providers: vec![card], ..Payments::default() };
    };
    let (engine, dir) = open(takes_cards).await;
    use Kind::{Authorized, Captured, DisputeLost, DisputeWon, Disputed};
    let owed = pays(&engine, &[Authorized]).await;
    let disputed = pays(&engine, &[Captured, Disputed]).await;
    let short = pays(&engine, &[Captured, DisputeLost]).await;
    let mut over = Vec::new();
    for heard in [&[Captured][..], &[Captured, Disputed, DisputeWon]] {
        over.push(pays(&engine, heard).await);
    }
    let lists = async |engine: &Engine| {
        let mut all = Vec::new();
        for filter in [PaymentFilter::Owed, PaymentFilter::Disputed, PaymentFilter::Shortfall] {
            let page = engine.provided_payments(filter, &PageRequest::default()).await.unwrap();
            all.push(page.items.iter().map(|payment| payment.id).collect::<Vec<_>>());
        }
        all
    };
    let expected = [vec![owed], vec![disputed], vec![short]];
    assert_eq!(lists(&engine).await, expected);
    // With nothing in memory it is the same, and those of which nothing is open stay out of it.
    engine.shutdown().await.unwrap();
    let mut config = Config { data_dir: dir.path().to_path_buf(), ..Config::default() };
    takes_cards(&mut config);
    let engine = Engine::open(config).await.unwrap();
    assert_eq!(lists(&engine).await, expected);
    let asked = engine.0.options_to_look_at().await.unwrap();
    assert_eq!(asked, [owed, disputed, short].map(|payment| payment.option));
    engine.shutdown().await.unwrap();
}
