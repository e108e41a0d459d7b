//! `live`: many who follow the seats of one option, while others hold and release. How long it takes from asking for a
//! hold until a follower sees it is one of the figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::domain::seat_map::Status;
use crate::loadgen::auditor::Breach;
use crate::loadgen::desk::Desk;
use crate::loadgen::meter::Op;
use crate::loadgen::pace::Work;
use crate::loadgen::rng::{Rng, Stream};
use crate::loadgen::target::{Code, Follow, SeatNumbers, Target, Update, Wish};

/// Since when each seat is asked for, in microseconds since the run began; 0: it is not.
pub struct Sightings(Box<[AtomicU64]>);

impl Sightings {
    /// Of so many seats.
    #[must_use]
    pub fn new(seats: usize) -> Self {
        Self((0..seats).map(|_| AtomicU64::new(0)).collect())
    }
}

impl<T: Target> Work<T> for Sightings {
    async fn arrive(&self, desk: &Desk<T>, n: u64, from: Instant) {
        let mut rng = Rng::new(desk.params.seed, Stream::Arrival, n);
        let offer = &desk.offers[0];
        let seat = rng.below(offer.house.seats() as u64) as u32;
        let Ok(buyer) = desk.buyer(n) else { return };
        let pause = Duration::from_secs_f64(rng.exponential(0.2));
        let asked = &self.0[seat as usize];
        let (now, relaxed) = (desk.audit.now_us().max(1), Ordering::Relaxed);
        let first = asked.compare_exchange(0, now, relaxed, relaxed).is_ok();
        let seats: SeatNumbers = [seat].into_iter().collect();
        match desk.hold(from, &buyer, offer, &Wish::Seats(seats), None).await {
            Ok(held) => {
                // Long enough to be seen.
                let from = desk.pause(pause).await.unwrap_or_else(Instant::now);
                asked.store(0, relaxed);
                let _ = desk.release(from, &buyer, offer, &held).await;
                return;
            }
            Err(code) if code.passes() && desk.params.rate == 0.0 => drop(desk.turned_away(n).await),
            Err(_) => {}
        }
        if first {
            asked.store(0, relaxed);
        }
    }

    fn beside(self: &Arc<Self>, desk: &Arc<Desk<T>>, stopped: &watch::Receiver<bool>) -> JoinSet<()> {
        let followers = 0..desk.params.live.followers;
        followers.map(|n| follow(desk.clone(), self.clone(), n, stopped.clone())).collect()
    }
}

/// What a follower has seen.
struct Seen {
    seq: Option<u64>,
    states: Vec<Status>,
}

impl Seen {
    /// Takes an update in.
    fn take(&mut self, update: &Update) -> Result<(), String> {
        match (update.previous_seq, self.seq) {
            (Some(previous), Some(seen)) if previous != seen => {
                return Err(format!("an update follows {previous}, and the one before was {seen}"));
            }
            (Some(_), None) => return Err("the first update is not a snapshot".into()),
            (_, Some(seen)) if update.seq < seen => {
                return Err(format!("an update of {} comes after {seen}", update.seq));
            }
            (None, _) => self.states.fill(Status::Free),
            _ => {}
        }
        for (seat, status) in &update.seats {
            self.states[*seat as usize] = *status;
        }
        self.seq = Some(update.seq);
        Ok(())
    }
}

/// Follows the seats of the first offer until `stop`, and compares what it has seen with the seats as they are then.
async fn follow<T: Target>(desk: Arc<Desk<T>>, asked: Arc<Sightings>, n: u64, mut stop: watch::Receiver<bool>) {
    let offer = desk.offers[0].clone();
    let Ok(buyer) = desk.buyer(n) else { return };
    let spread = Rng::new(desk.params.seed, Stream::Follower, n).unit();
    tokio::time::sleep(Duration::from_secs_f64(spread * desk.params.live.followers as f64 / 5_000.0)).await;
    let mut seen = Seen { seq: None, states: vec![Status::Free; offer.house.seats()] };
    let failed = |code: Code| desk.meter.record::<()>(Op::Update, n, Duration::ZERO, &Err(code));
    let mut follower = match desk.target.follow(&offer, &buyer.id).await {
        Ok(follower) => follower,
        Err(code) => return failed(code),
    };
    loop {
        let update = tokio::select! {
            update = follower.next() => update,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let update = match update {
            Ok(update) => update,
            Err(code) => return failed(code),
        };
        let now = desk.audit.now_us();
        desk.audit.checked.updates.fetch_add(1, Ordering::Relaxed);
        let fresh = seen.seq.is_some() && update.previous_seq.is_some();
        if let Err(what) = seen.take(&update) {
            return desk.audit.report(Breach { invariant: "live", what, history: Vec::new() });
        }
        for (seat, status) in update.seats.iter().filter(|_| fresh) {
            let asked = asked.0[*seat as usize].load(Ordering::Relaxed);
            if *status == Status::Held && asked > 0 {
                desk.meter.record(Op::Update, n, Duration::from_micros(now.saturating_sub(asked)), &Ok(()));
            }
        }
    }
    // The seats do not change any more: what they are now must be seen sooner or later.
    let Ok(seats) = desk.target.seats(&offer).await else { return };
    let catch_up = async {
        while seen.seq.is_none_or(|seq| seq < seats.seq) {
            let update = follower.next().await.map_err(|code| code.name().to_owned())?;
            seen.take(&update)?;
        }
        Ok::<_, String>(())
    };
    let what = match tokio::time::timeout(Duration::from_secs(10), catch_up).await {
        Ok(Ok(())) if seen.seq == Some(seats.seq) && seen.states != seats.states => {
            "seats are not what was told of them".into()
        }
        Ok(Ok(())) => return,
        Ok(Err(what)) => what,
        Err(_) => format!("ten seconds after the last change, {:?} of {} was seen", seen.seq, seats.seq),
    };
    desk.audit.report(Breach { invariant: "live", what, history: Vec::new() });
}
