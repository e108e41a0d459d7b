//! Something to try: a concert in a theatre, on sale, and a buyer with points. Made once, and found again the next time.

use crate::api::{Concert, ConcertOption, Focus, NewConcert, NewOption, PageRequest};
use crate::domain::concert_option::OptionStatus;
use crate::domain::waiting_room::Settings;
use crate::domain::{OptionId, Points, Timestamp, UserId};
use crate::engine::Engine;
use crate::error::Error;

/// What the demonstration's concert is found by.
const TITLE: &str = "Demo: An Evening at the Theatre";
/// The buyer.
const BUYER: &str = "demo-buyer";
/// Who charges the buyer's wallet, and whose token is printed.
const ADMIN: &str = "demo-admin";
const POINTS: u64 = 1_000_000;
const STARTS_IN_MILLIS: u64 = 30 * 24 * 60 * 60 * 1_000;
const THEATRE: &[u8] = include_bytes!("../../assets/theatre.json");
const PRICES: [(&str, u64); 4] =
    [("Premium", 12_000), ("Standard", 8_000), ("Restricted", 4_500), ("Wheelchair", 8_000)];

/// What there is to try.
#[derive(Debug, Clone)]
pub struct Demo {
    /// An option that is on sale.
    pub option: OptionId,
    /// Whoever has points.
    pub buyer: UserId,
    /// Whoever runs the sale.
    pub admin: UserId,
}

/// Makes what is not there yet.
///
/// # Errors
/// Those of the engine.
pub async fn prepare(engine: &Engine) -> Result<Demo, Error> {
    let buyer = user(BUYER)?;
    let admin = user(ADMIN)?;
    let concert = match find_concert(engine).await? {
        Some(concert) => concert,
        None => {
            let concert = NewConcert { title: TITLE.into(), waiting_room: Settings::default() };
            engine.create_concert(concert, None).await?.value
        }
    };
    let option = match find_option(engine, &concert).await? {
        Some(option) => option,
        None => engine.add_option(concert.id, performance(engine.now()), None).await?.value,
    };
    let entries = engine.wallet_entries(&buyer, &PageRequest::default()).await?;
    if entries.items.is_empty() {
        engine.charge(&buyer, points(POINTS), &admin, None).await?;
    }
    Ok(Demo { option: option.id, buyer, admin })
}

fn user(name: &str) -> Result<UserId, Error> {
    name.parse().map_err(|error| Error::invalid("user", format!("{error}")))
}

fn points(n: u64) -> Points {
    Points::new(n).unwrap_or(Points::MAX)
}

async fn find_concert(engine: &Engine) -> Result<Option<Concert>, Error> {
    let mut request = PageRequest::default();
    loop {
        let page = engine.concerts(&request).await?;
        if let Some(concert) = page.items.into_iter().find(|concert| concert.title == TITLE) {
            return Ok(Some(concert));
        }
        match page.next_cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => return Ok(None),
        }
    }
}

/// The latest performance that can still be bought; after a month there is need of another one.
async fn find_option(engine: &Engine, concert: &Concert) -> Result<Option<ConcertOption>, Error> {
    for id in concert.options.iter().rev() {
        let option = engine.option(*id).await?;
        if option.status == OptionStatus::OnSale {
            return Ok(Some(option));
        }
    }
    Ok(None)
}

fn performance(now: Timestamp) -> NewOption {
    let starts_at = now.plus_millis(STARTS_IN_MILLIS);
    let prices = PRICES.iter().map(|(category, price)| ((*category).into(), points(*price))).collect();
    let refundable_until = Some(starts_at);
    let focus = Some(Focus::Zones { zones: vec!["Stalls".into(), "Dress Circle".into()] });
    let accessible = vec!["Wheelchair".into()];
    NewOption { prices, refundable_until, focus, accessible, ..NewOption::new(starts_at, THEATRE.to_vec()) }
}
