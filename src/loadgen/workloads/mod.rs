//! What callers do. Everything that is left to chance is drawn from the seed and the arrival's number, before anything is
//! asked, so that the same seed gives the same decisions whatever the answers are.

mod cards;
mod line;
mod live;
mod onsale;
mod rush;
mod soak;
mod wallets;

pub use self::cards::Cards;
pub use self::line::Line;
pub use self::live::Sightings;
pub use self::onsale::{Journey, OnSale};
pub use self::rush::Rush;
pub use self::soak::Soak;
pub use self::wallets::Wallets;

use std::time::Instant;

use super::auditor::Buyer;
use super::desk::Desk;
use super::target::{Answer, Code, Held, Offer, Target, Wish};

/// Whether a refusal is worth another try after a pause.
fn is_turned_away<A>(answer: &Answer<A>) -> bool {
    answer.as_ref().err().is_some_and(|code| code.passes())
}

/// Pays for what is held, with points that are charged for it, and has it refunded.
async fn buy_and_return<T: Target>(
    desk: &Desk<T>,
    from: Instant,
    buyer: &Buyer,
    offer: &Offer,
    wish: &Wish,
) -> Answer<()> {
    let held = desk.hold(from, buyer, offer, wish, None).await?;
    let paid = async {
        if held.amount > 0 {
            desk.charge(Instant::now(), buyer, held.amount).await?;
        }
        desk.pay(Instant::now(), buyer, offer, &held).await
    };
    match paid.await {
        Ok(paid) => desk.refund(Instant::now(), buyer, offer, &held, paid).await,
        Err(code) => {
            give_back(desk, buyer, offer, &held).await;
            Err(code)
        }
    }
}

/// Releases what was not paid, as long as the system takes it.
async fn give_back<T: Target>(desk: &Desk<T>, buyer: &Buyer, offer: &Offer, held: &Held) {
    let mut from = Instant::now();
    while let Err(code) = desk.release(from, buyer, offer, held).await
        && code.passes()
        && code != Code::StorageFull
    {
        match desk.turned_away(buyer.no).await {
            Some(later) => from = later,
            None => return,
        }
    }
}
