//! `rush` and `scatter`: hold and release, over and over, of one option or of many.

use std::time::Instant;

use parking_lot::Mutex;

use super::{give_back, is_turned_away};
use crate::loadgen::desk::Desk;
use crate::loadgen::pace::Work;
use crate::loadgen::rng::{Rng, Stream};
use crate::loadgen::target::{SeatNumbers, Target, Wish};

/// Hold, then release.
pub struct Rush {
    /// Seats of their own for so many at a time; who has none now. Empty in the closed loop, where each caller has theirs.
    free: Option<Mutex<Vec<u64>>>,
    slots: u64,
}

impl Rush {
    /// For callers who each have seats of their own.
    #[must_use]
    pub fn closed(callers: u64) -> Self {
        Self { free: None, slots: callers }
    }

    /// For arrivals of which at most so many are under way.
    #[must_use]
    pub fn open(slots: u64) -> Self {
        Self { free: Some(Mutex::new((0..slots).collect())), slots }
    }

    /// The seats of a slot. Slots of all options lie one behind the other.
    fn seats(first: usize, count: usize, house: usize) -> SeatNumbers {
        (0..count).map(|n| ((first * count + n) % house) as u32).collect()
    }
}

impl<T: Target> Work<T> for Rush {
    async fn arrive(&self, desk: &Desk<T>, n: u64, from: Instant) {
        let slot = match &self.free {
            None => n % self.slots,
            Some(free) => match free.lock().pop() {
                Some(slot) => slot,
                None => n % self.slots,
            },
        };
        let Ok(buyer) = desk.buyer(n) else { return };
        let count = desk.params.rush.seats_per_hold;
        let options = desk.offers.len() as u64;
        let (mut option, mut place) = (slot % options, slot / options);
        if desk.params.rush.contended > 0.0 {
            let mut rng = Rng::new(desk.params.seed, Stream::Arrival, n);
            if rng.happens(desk.params.rush.contended) {
                let other = rng.below(self.slots);
                (option, place) = (other % options, other / options);
            }
        }
        let offer = &desk.offers[option as usize];
        let wish = Wish::Seats(Self::seats(place as usize, count, offer.house.seats()));
        let answer = desk.hold(from, &buyer, offer, &wish, None).await;
        match &answer {
            Ok(held) => give_back(desk, &buyer, offer, held).await,
            Err(_) if self.free.is_none() && is_turned_away(&answer) => {
                desk.turned_away(n).await;
            }
            Err(_) => {}
        }
        if let Some(free) = &self.free {
            free.lock().push(slot);
        }
    }
}
