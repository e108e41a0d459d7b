//! `queue`: the first arrivals get in line, as many as there are users; those after them are of people in line who ask
//! where they stand, and leave now and then when it is their turn, so that the line moves.

use std::time::Instant;

use parking_lot::Mutex;

use super::is_turned_away;
use crate::domain::waiting_room::TokenStatus;
use crate::loadgen::auditor::InLine;
use crate::loadgen::desk::Desk;
use crate::loadgen::pace::Work;
use crate::loadgen::rng::{Rng, Stream};
use crate::loadgen::target::Target;

/// A long line.
pub struct Line {
    /// Where each user stands; `None` before they come and after they have left. Who is asking is locked.
    places: Box<[Mutex<Option<Box<InLine>>>]>,
}

impl Line {
    /// One that so many will stand in.
    #[must_use]
    pub fn new(users: u64) -> Self {
        Self { places: (0..users).map(|_| Mutex::new(None)).collect() }
    }

    fn take(&self, user: u64) -> Option<Box<InLine>> {
        self.places[user as usize].lock().take()
    }

    fn put(&self, user: u64, in_line: Box<InLine>) {
        *self.places[user as usize].lock() = Some(in_line);
    }
}

impl<T: Target> Work<T> for Line {
    async fn arrive(&self, desk: &Desk<T>, n: u64, from: Instant) {
        let users = self.places.len() as u64;
        let offer = &desk.offers[0];
        if n < users {
            let Ok(buyer) = desk.buyer(n) else { return };
            let answer = desk.enter(from, &buyer, offer).await;
            let turned_away = is_turned_away(&answer);
            if let Ok(in_line) = answer {
                self.put(n, Box::new(in_line));
            } else if turned_away && desk.params.rate == 0.0 {
                desk.turned_away(n).await;
            }
            return;
        }
        let mut rng = Rng::new(desk.params.seed, Stream::Arrival, n);
        // Half of those who ask are near the front, where the line moves.
        let near = if rng.happens(0.5) { rng.unit().powi(4) } else { rng.unit() };
        let (user, leaves) =
            (((near * users as f64) as u64).min(users - 1), rng.happens(desk.params.queue.leave_share));
        let Ok(buyer) = desk.buyer(user) else { return };
        let Some(mut in_line) = self.take(user) else {
            // They have left, or are asking already.
            tokio::task::yield_now().await;
            return;
        };
        let polled = desk.poll(from, &buyer, &mut in_line).await;
        match in_line.place.status {
            TokenStatus::Active if polled.is_ok() && leaves => {
                let _ = desk.leave(Instant::now(), &buyer, &in_line).await;
            }
            TokenStatus::Active | TokenStatus::Waiting => self.put(user, in_line),
            TokenStatus::Used | TokenStatus::Expired => {}
        }
        if desk.params.rate == 0.0 && is_turned_away(&polled) {
            desk.turned_away(n).await;
        }
    }
}
