//! `wallets`: charges, purchases and refunds, several at a time of the same user.

use std::time::Instant;

use super::{buy_and_return, is_turned_away};
use crate::loadgen::desk::Desk;
use crate::loadgen::pace::Work;
use crate::loadgen::rng::{Rng, Stream};
use crate::loadgen::target::{Target, Wish};

/// The largest charge.
const CHARGE_MAX: u64 = 1_000;

/// Points that come and go.
pub struct Wallets;

impl<T: Target> Work<T> for Wallets {
    async fn arrive(&self, desk: &Desk<T>, n: u64, from: Instant) {
        let mut rng = Rng::new(desk.params.seed, Stream::Arrival, n);
        let shares = &desk.params.wallets;
        let rest = (1.0 - shares.charge_share - shares.buy_share).max(0.0);
        let what = rng.weighted(&[shares.charge_share, shares.buy_share, rest]);
        let Ok(buyer) = desk.buyer(rng.below(desk.params.users)) else { return };
        let offer = &desk.offers[rng.below(desk.offers.len() as u64) as usize];
        let answer = match what {
            0 => desk.charge(from, &buyer, rng.below(CHARGE_MAX) + 1).await,
            1 => {
                let wish = Wish::Best { count: 1, category: None, adjacent: true };
                buy_and_return(desk, from, &buyer, offer, &wish).await
            }
            _ => desk.balance(from, &buyer).await.map(drop),
        };
        if desk.params.rate == 0.0 && is_turned_away(&answer) {
            desk.turned_away(n).await;
        }
    }
}
