//! A host app that sells a house out: the engine as a library, without any server.
//!
//! `cargo run --example embedded [--no-default-features]`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use boxoffice::{BestAvailable, Config, Engine, Error, NewConcert, NewOption, PageRequest, Rejection, UserId, Wish};

/// How many buyers there are, and how many of them buy at the same time.
const BUYERS: usize = 600;
/// What each of them has to spend.
const PURSE: u32 = 2_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let engine = Engine::open(Config { data_dir: dir.path().into(), ..Config::default() }).await?;

    // Put a performance on sale.
    let concert = engine.create_concert(NewConcert::new("An Evening at the Theatre"), None).await?.value;
    let plan = include_bytes!("../assets/theatre.json").to_vec();
    let tomorrow = engine.now().plus_millis(24 * 60 * 60 * 1000);
    let prices = [("Premium", 120), ("Standard", 80), ("Restricted", 40), ("Wheelchair", 40)];
    let prices = prices.map(|(category, points)| (category.into(), points.into())).to_vec();
    let option = NewOption { prices, ..NewOption::new(tomorrow, plan) };
    let option = engine.add_option(concert.id, option, None).await?.value;
    println!("on sale: {} seats", option.counts.available);

    // Everybody buys at once: four of the best seats at a time, then fewer, until there are none.
    let sold = Arc::new(AtomicU64::new(0));
    let mut buyers = Vec::new();
    for n in 0..BUYERS {
        let (engine, sold, id) = (engine.clone(), sold.clone(), option.id);
        let user: UserId = format!("buyer-{n}").parse()?;
        engine.charge(&user, PURSE.into(), &"the-bank".parse()?, None).await?;
        buyers.push(tokio::spawn(async move {
            for count in [4, 3, 2, 1] {
                let wish = BestAvailable { count, category: None, zone: None, adjacent: count > 1, companions: 0 };
                let held = engine.hold(id, &user, Wish::BestAvailable(wish), None, None).await;
                let held = match held {
                    Ok(held) => held.value,
                    Err(Error::Rejected(Rejection::NotEnoughSeats | Rejection::LimitExceeded { .. })) => continue,
                    Err(error) => return Err(error),
                };
                let payment = engine.pay(&user, held.id, None).await?.value;
                sold.fetch_add(payment.amount.get(), Ordering::Relaxed);
            }
            Ok(())
        }));
    }
    for buyer in buyers {
        buyer.await??;
    }

    // What was sold, what was paid and what is left must add up.
    let option = engine.option(option.id).await?;
    let (mut balances, mut debits) = (0, 0);
    for n in 0..BUYERS {
        let user: UserId = format!("buyer-{n}").parse()?;
        balances += engine.wallet(&user).await?.balance.get();
        let payments = engine.payments(&user, &PageRequest::default()).await?;
        debits += payments.items.iter().map(|payment| payment.amount.get()).sum::<u64>();
    }
    let charged = BUYERS as u64 * u64::from(PURSE);
    println!("status {:?}: {} sold, {} left", option.status, option.counts.sold, option.counts.available);
    println!("charged {charged} = {balances} in wallets + {debits} paid");
    println!("paid    {debits} = {} that buyers were told of", sold.load(Ordering::Relaxed));
    assert_eq!(option.counts.available + option.counts.held, 0, "the house is sold out");
    assert_eq!(charged, balances + debits, "no point is lost");
    assert_eq!(debits, sold.load(Ordering::Relaxed), "what buyers were told is what stands");

    engine.shutdown().await?;
    Ok(())
}
