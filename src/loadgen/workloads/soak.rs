//! `soak`: a bit of everything, for long. What is abandoned runs out, so that the house is never full.

use std::time::Instant;

use super::{buy_and_return, give_back, is_turned_away};
use crate::loadgen::desk::Desk;
use crate::loadgen::pace::Work;
use crate::loadgen::rng::{Rng, Stream};
use crate::loadgen::target::{Target, Wish};

/// Holds that are released, bought and returned, or abandoned.
pub struct Soak;

impl<T: Target> Work<T> for Soak {
    async fn arrive(&self, desk: &Desk<T>, n: u64, from: Instant) {
        let mut rng = Rng::new(desk.params.seed, Stream::Arrival, n);
        let shares = &desk.params.soak;
        let rest = (1.0 - shares.buy_share - shares.abandon_share).max(0.0);
        let what = rng.weighted(&[rest, shares.buy_share, shares.abandon_share]);
        let Ok(buyer) = desk.buyer(rng.below(desk.params.users)) else { return };
        let offer = &desk.offers[rng.below(desk.offers.len() as u64) as usize];
        let wish = Wish::Best { count: rng.below(4) as u32 + 1, category: None, adjacent: true };
        let answer = if what == 1 {
            buy_and_return(desk, from, &buyer, offer, &wish).await
        } else {
            let answer = desk.hold(from, &buyer, offer, &wish, None).await;
            if let Ok(held) = &answer
                && what == 0
            {
                give_back(desk, &buyer, offer, held).await;
            }
            answer.map(drop)
        };
        if desk.params.rate == 0.0 && is_turned_away(&answer) {
            desk.turned_away(n).await;
        }
    }
}
