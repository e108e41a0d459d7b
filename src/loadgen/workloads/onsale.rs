//! `onsale`: people arrive, wait in line, look at the map, hold seats, think it over, and pay, give them back, or go away.

use std::time::{Duration, Instant};

use crate::domain::seat_map::Status;
use crate::domain::waiting_room::TokenStatus;
use crate::loadgen::auditor::{Buyer, InLine};
use crate::loadgen::desk::Desk;
use crate::loadgen::pace::Work;
use crate::loadgen::params::OnSale as Params;
use crate::loadgen::rng::{Rng, Stream};
use crate::loadgen::target::{Code, Held, Offer, SeatNumbers, Target, Wish};

/// The longest time that one waits between two looks at one's place in line.
const POLL_MAX: Duration = Duration::from_secs(10);

/// What somebody does in the end with the seats they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InTheEnd {
    /// Pays.
    Pays,
    /// Gives them back.
    Drops,
    /// Goes away and lets the hold run out.
    GoesAway,
}

/// All that somebody has made up their mind about before they come.
#[derive(Debug, Clone, PartialEq)]
pub struct Journey {
    /// Which performance.
    pub option: u64,
    /// How many they are.
    pub group: u32,
    /// Where they would like to sit on the map, as a share of all seats; `None`: they take the best that are left.
    pub picks: Option<f64>,
    /// How long they look before they choose.
    pub browse: Duration,
    /// How long they think over what they have.
    pub dither: Duration,
    /// What they do then.
    pub in_the_end: InTheEnd,
    /// How long they wait in line.
    pub patience: Duration,
    /// How often they ask where they stand, if it is not as often as they are told to.
    pub reloads: Option<Duration>,
    /// Where they look for other seats when theirs are gone, and how long they take for it.
    pub retries: Vec<(f64, Duration)>,
}

impl Journey {
    /// That of the `n`th to arrive.
    #[must_use]
    pub fn draw(seed: u64, n: u64, params: &Params, options: u64) -> Self {
        let mut rng = Rng::new(seed, Stream::Arrival, n);
        let mut about = |span: crate::server::config::Span| {
            let mean = span.0.as_secs_f64();
            Duration::from_secs_f64(rng.exponential(mean).min(mean * 10.0))
        };
        let (browse, dither, patience) = (about(params.browse), about(params.dither), about(params.patience));
        let retries: Vec<_> = (0..params.retries).map(|_| about(params.browse)).collect();
        let goes_away = (1.0 - params.pay_share - params.drop_share).max(0.0);
        let ends = [InTheEnd::Pays, InTheEnd::Drops, InTheEnd::GoesAway];
        Self {
            option: rng.below(options),
            group: rng.weighted(&params.groups) as u32 + 1,
            picks: rng.happens(params.pick_share).then(|| rng.unit()),
            in_the_end: ends[rng.weighted(&[params.pay_share, params.drop_share, goes_away])],
            reloads: rng.happens(params.reload_share).then_some(params.reload_every.0),
            retries: retries.into_iter().map(|pause| (rng.unit(), pause)).collect(),
            browse,
            dither,
            patience,
        }
    }
}

/// A whole on-sale.
pub struct OnSale {
    /// What the map of each option showed last: who picks seats looks at this, and it may be old by then.
    maps: Vec<parking_lot::RwLock<Vec<Status>>>,
}

impl OnSale {
    /// One of these options.
    #[must_use]
    pub fn new(offers: &[std::sync::Arc<Offer>]) -> Self {
        let map = |offer: &std::sync::Arc<Offer>| parking_lot::RwLock::new(vec![Status::Free; offer.house.seats()]);
        Self { maps: offers.iter().map(map).collect() }
    }

    /// So many free seats side by side, the first such from a place in the house on.
    fn pick(&self, offer: &Offer, from: f64, count: u32) -> Option<SeatNumbers> {
        let map = self.maps[offer.index].read();
        let runs = offer.house.plan.runs();
        let first = (from * runs.len() as f64) as usize;
        runs.iter().cycle().skip(first).take(runs.len()).find_map(|run| {
            let mut free = 0;
            run.places.clone().find_map(|place| {
                let seat = offer.house.plan.seat_at(place);
                free = if map[seat as usize] == Status::Free { free + 1 } else { 0 };
                (free == count)
                    .then(|| (place + 1 - count..=place).map(|place| offer.house.plan.seat_at(place)).collect())
            })
        })
    }

    fn wish(&self, offer: &Offer, journey: &Journey, attempt: usize) -> Wish {
        let place = match attempt {
            0 => journey.picks,
            n => journey.picks.and(journey.retries.get(n - 1)).map(|(place, _)| *place),
        };
        let picked = place.and_then(|place| self.pick(offer, place, journey.group));
        // Who finds nothing on the map, or nothing side by side, takes what there is.
        picked.map_or(Wish::Best { count: journey.group, category: None, adjacent: attempt == 0 }, Wish::Seats)
    }
}

/// Why somebody goes.
enum Gone {
    /// They have had enough, or the run is over.
    Away,
    /// The system would not have them.
    Refused,
}

impl<T: Target> Work<T> for OnSale {
    async fn arrive(&self, desk: &Desk<T>, n: u64, from: Instant) {
        let journey = Journey::draw(desk.params.seed, n, &desk.params.onsale, desk.offers.len() as u64);
        let (offer, Ok(buyer)) = (&desk.offers[journey.option as usize], desk.buyer(n)) else { return };
        let mut in_line = None;
        if desk.params.onsale.queue {
            in_line = wait_in_line(desk, from, &buyer, offer, &journey).await.ok();
            if in_line.is_none() {
                return;
            }
        }
        let from = if in_line.is_some() { Instant::now() } else { from };
        let bought = self.choose(desk, from, &buyer, offer, &journey, in_line.as_ref()).await;
        // Who has paid is out. Who gives the seats back, or got none, leaves; who goes away does not say so.
        if let (Some(in_line), Err(Gone::Refused)) = (&in_line, &bought)
            && !desk.is_over()
        {
            let _ = desk.leave(Instant::now(), &buyer, in_line).await;
        }
    }

    fn seen(&self, offer: &Offer, states: Vec<Status>) {
        *self.maps[offer.index].write() = states;
    }
}

impl OnSale {
    async fn choose<T: Target>(
        &self,
        desk: &Desk<T>,
        from: Instant,
        buyer: &Buyer,
        offer: &Offer,
        journey: &Journey,
        in_line: Option<&InLine>,
    ) -> Result<(), Gone> {
        // A map that does not come is no reason to leave.
        let _ = desk.browse(from, buyer, offer).await;
        let mut from = desk.pause(journey.browse).await.ok_or(Gone::Away)?;
        let queue_token = in_line.map(|in_line| in_line.place.signed.as_str());
        for attempt in 0..=journey.retries.len() {
            let wish = self.wish(offer, journey, attempt);
            let answer = desk.hold(from, buyer, offer, &wish, queue_token).await;
            let pause = journey.retries.get(attempt).map(|(_, pause)| *pause);
            match answer {
                Ok(held) => return decide(desk, buyer, offer, journey, &held, in_line).await,
                Err(Code::SeatsUnavailable | Code::NotEnoughSeats) => {
                    from = desk.pause(pause.ok_or(Gone::Refused)?).await.ok_or(Gone::Away)?;
                    let _ = desk.browse(from, buyer, offer).await;
                    from = Instant::now();
                }
                Err(code) if code.passes() => from = desk.turned_away(buyer.no).await.ok_or(Gone::Away)?,
                Err(_) => return Err(Gone::Refused),
            }
        }
        Err(Gone::Refused)
    }
}

/// Gets in line, and waits for one's turn.
async fn wait_in_line<T: Target>(
    desk: &Desk<T>,
    from: Instant,
    buyer: &Buyer,
    offer: &Offer,
    journey: &Journey,
) -> Result<InLine, Gone> {
    let mut from = from;
    let mut in_line = loop {
        match desk.enter(from, buyer, offer).await {
            Ok(in_line) => break in_line,
            Err(code) if code.passes() => from = desk.turned_away(buyer.no).await.ok_or(Gone::Away)?,
            Err(_) => return Err(Gone::Refused),
        }
    };
    let until = Instant::now() + journey.patience;
    loop {
        match in_line.place.status {
            TokenStatus::Active => return Ok(in_line),
            TokenStatus::Waiting if Instant::now() < until => {
                let asked_for = Duration::from_secs(in_line.place.refresh_seconds).min(POLL_MAX);
                from = desk.pause(journey.reloads.unwrap_or(asked_for)).await.ok_or(Gone::Away)?;
                // A poll that failed is asked again.
                let _ = desk.poll(from, buyer, &mut in_line).await;
            }
            TokenStatus::Waiting => {
                let _ = desk.leave(Instant::now(), buyer, &in_line).await;
                return Err(Gone::Away);
            }
            TokenStatus::Used | TokenStatus::Expired => return Err(Gone::Refused),
        }
    }
}

/// Thinks it over.
async fn decide<T: Target>(
    desk: &Desk<T>,
    buyer: &Buyer,
    offer: &Offer,
    journey: &Journey,
    held: &Held,
    in_line: Option<&InLine>,
) -> Result<(), Gone> {
    let mut from = desk.pause(journey.dither).await.ok_or(Gone::Away)?;
    match journey.in_the_end {
        InTheEnd::GoesAway => return Err(Gone::Away),
        InTheEnd::Drops => {
            let _ = desk.release(from, buyer, offer, held).await;
            return Err(Gone::Refused);
        }
        InTheEnd::Pays => {}
    }
    while let Err(code) = desk.charge(from, buyer, held.amount).await {
        if !code.passes() {
            return Err(Gone::Refused);
        }
        from = desk.turned_away(buyer.no).await.ok_or(Gone::Away)?;
    }
    // Whoever pays is out as soon as it is done, which may be before they are told.
    if let Some(in_line) = in_line {
        desk.audit.line.goes(in_line.place.id);
    }
    from = Instant::now();
    loop {
        match desk.pay(from, buyer, offer, held).await {
            Ok(_) => return Ok(()),
            Err(code) if code.passes() => from = desk.turned_away(buyer.no).await.ok_or(Gone::Away)?,
            Err(_) => return Err(Gone::Refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_journeys() {
        let params = Params::default();
        let journeys = |seed| (0..100).map(|n| Journey::draw(seed, n, &params, 3)).collect::<Vec<_>>();
        assert_eq!(journeys(1), journeys(1));
        assert_ne!(journeys(1), journeys(2));
    }

    #[test]
    fn people_are_as_the_parameters_say() {
        let params = Params::default();
        let journeys: Vec<_> = (0..20_000).map(|n| Journey::draw(1, n, &params, 1)).collect();
        let share = |of: &dyn Fn(&Journey) -> bool| journeys.iter().filter(|j| of(j)).count() as f64 / 20_000.0;
        assert!((share(&|j| j.in_the_end == InTheEnd::Pays) - params.pay_share).abs() < 0.01);
        assert!((share(&|j| j.in_the_end == InTheEnd::Drops) - params.drop_share).abs() < 0.01);
        assert!((share(&|j| j.picks.is_some()) - params.pick_share).abs() < 0.01);
        assert!((share(&|j| j.group == 2) - 0.45).abs() < 0.01);
        assert!(journeys.iter().all(|j| (1..=8).contains(&j.group) && j.retries.len() == 4));
    }
}
