//! When arrivals come: one after another for each caller (closed loop), or on a schedule that waits for nobody (open loop).
//!
//! In the open loop a call counts from when it should have begun: if the generator or the system falls behind, that is
//! latency, and not silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::desk::Desk;
use super::params::OnSale;
use super::rng::{Rng, Stream};
use super::target::{Offer, Target};
use crate::domain::seat_map::Status;

/// What an arrival does.
pub trait Work<T>: Send + Sync + 'static {
    /// The `n`th arrival, which should come at `from`.
    fn arrive(&self, desk: &Desk<T>, n: u64, from: Instant) -> impl Future<Output = ()> + Send;

    /// The seats of an offer have been looked at.
    fn seen(&self, _: &Offer, _: Vec<Status>) {}

    /// Starts those who do something beside the arrivals, until they are told to stop.
    fn beside(self: &Arc<Self>, _: &Arc<Desk<T>>, _: &watch::Receiver<bool>) -> JoinSet<()> {
        JoinSet::new()
    }
}

/// How many arrivals there were.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// That should have come by now.
    pub due: AtomicU64,
    /// That began.
    pub begun: AtomicU64,
    /// For whom there was no room.
    pub turned_away: AtomicU64,
    /// Under way.
    pub in_flight: AtomicUsize,
}

/// When arrivals come in the open loop.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// At random, so many a second on average.
    Rate(f64),
    /// So many in all, in a rush that fades away.
    Curve {
        /// How many.
        people: u64,
        /// Of them, how many come in the rush.
        rush_share: f64,
        /// How fast it fades, in seconds.
        fades_s: f64,
        /// Until when they all have come, in seconds.
        duration_s: f64,
    },
}

impl Schedule {
    /// The curve of an on-sale.
    #[must_use]
    pub fn curve(onsale: &OnSale, people: u64, duration: Duration) -> Self {
        Self::Curve {
            people,
            rush_share: onsale.rush_share,
            fades_s: onsale.rush_fades.0.as_secs_f64().max(1e-3),
            duration_s: duration.as_secs_f64(),
        }
    }

    /// When each arrival comes, in seconds after the beginning, ascending.
    pub fn times(&self, seed: u64) -> impl Iterator<Item = f64> + Send + use<> {
        let mut rng = Rng::new(seed, Stream::Arrivals, 0);
        let (schedule, mut n, mut at) = (self.clone(), 0, 0.0);
        std::iter::from_fn(move || {
            at = match schedule {
                Self::Rate(rate) => at + rng.exponential(1.0 / rate),
                Self::Curve { people, .. } if n == people => return None,
                Self::Curve { people, rush_share, fades_s, duration_s } => {
                    let share = (n as f64 + rng.unit()) / people as f64;
                    when(share, rush_share, fades_s, duration_s)
                }
            };
            n += 1;
            Some(at)
        })
    }
}

/// When this share of all have come: the inverse of the curve, by halving.
fn when(share: f64, rush_share: f64, fades_s: f64, duration_s: f64) -> f64 {
    let all_of_the_rush = 1.0 - (-duration_s / fades_s).exp();
    let come =
        |t: f64| rush_share * (1.0 - (-t / fades_s).exp()) / all_of_the_rush + (1.0 - rush_share) * t / duration_s;
    let (mut early, mut late) = (0.0, duration_s);
    for _ in 0..50 {
        let middle = f64::midpoint(early, late);
        if come(middle) < share {
            early = middle;
        } else {
            late = middle;
        }
    }
    late
}

/// Lets arrivals come until the run is over, and waits until all that began have ended, but `patience` at the most after
/// that; how many had not by then.
pub async fn drive<T: Target, W: Work<T>>(
    desk: Arc<Desk<T>>,
    work: Arc<W>,
    schedule: Option<Schedule>,
    arrivals: Arc<Arrivals>,
    patience: Duration,
) -> usize {
    let mut tasks = JoinSet::new();
    match schedule {
        None => {
            let callers = desk.params.callers;
            arrivals.in_flight.store(callers as usize, Ordering::Relaxed);
            for caller in 0..callers {
                tasks.spawn(again_and_again(desk.clone(), work.clone(), caller, callers, arrivals.clone()));
            }
        }
        Some(schedule) => on_time(&desk, &work, &schedule, &arrivals, &mut tasks).await,
    }
    let end = desk.end + patience;
    while let Ok(Some(_)) = tokio::time::timeout_at(end.into(), tasks.join_next()).await {}
    let left = tasks.len();
    tasks.abort_all();
    left
}

async fn again_and_again<T: Target, W: Work<T>>(
    desk: Arc<Desk<T>>,
    work: Arc<W>,
    caller: u64,
    callers: u64,
    arrivals: Arc<Arrivals>,
) {
    let mut n = caller;
    while !desk.is_over() {
        arrivals.begun.fetch_add(1, Ordering::Relaxed);
        work.arrive(&desk, n, Instant::now()).await;
        n += callers;
    }
    arrivals.in_flight.fetch_sub(1, Ordering::Relaxed);
}

async fn on_time<T: Target, W: Work<T>>(
    desk: &Arc<Desk<T>>,
    work: &Arc<W>,
    schedule: &Schedule,
    arrivals: &Arc<Arrivals>,
    tasks: &mut JoinSet<()>,
) {
    let begun = Instant::now();
    let room = Arc::new(Semaphore::new(desk.params.in_flight_max));
    for (n, at) in (0..).zip(schedule.times(desk.params.seed)) {
        let from = begun + Duration::from_secs_f64(at);
        if from >= desk.end || desk.is_over() {
            break;
        }
        if from > Instant::now() {
            // Those that have ended are not kept.
            while tasks.try_join_next().is_some() {}
            tokio::time::sleep_until(from.into()).await;
        } else if n % 64 == 0 {
            // Behind: the others must get a turn.
            tokio::task::yield_now().await;
        }
        arrivals.due.fetch_add(1, Ordering::Relaxed);
        let Ok(permit) = room.clone().try_acquire_owned() else {
            arrivals.turned_away.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        arrivals.begun.fetch_add(1, Ordering::Relaxed);
        arrivals.in_flight.fetch_add(1, Ordering::Relaxed);
        let (desk, work, arrivals) = (desk.clone(), work.clone(), arrivals.clone());
        tasks.spawn(async move {
            work.arrive(&desk, n, from).await;
            arrivals.in_flight.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_schedule() {
        let curve = Schedule::curve(&OnSale::default(), 1_000, Duration::from_secs(60));
        for schedule in [Schedule::Rate(100.0), curve] {
            let times = |seed| schedule.times(seed).take(500).collect::<Vec<_>>();
            assert_eq!(times(1), times(1));
            assert_ne!(times(1), times(2));
            assert!(times(1).is_sorted());
        }
    }

    #[test]
    fn a_rate_is_kept_on_average() {
        let at = Schedule::Rate(1_000.0).times(3).nth(9_999).unwrap();
        assert!((9.7..10.3).contains(&at), "{at}");
    }

    #[test]
    fn a_curve_begins_with_a_rush_and_ends_with_everybody() {
        let onsale = OnSale { rush_share: 0.7, rush_fades: "5s".parse().unwrap(), ..OnSale::default() };
        let times: Vec<_> = Schedule::curve(&onsale, 10_000, Duration::from_secs(100)).times(1).collect();
        assert_eq!(times.len(), 10_000);
        let within = |s: f64| times.iter().filter(|at| **at <= s).count();
        // Of the rush 1 - 1/e within 5 s, and of the others one in 20.
        assert!((4_550..4_600).contains(&within(5.0)), "{}", within(5.0));
        assert_eq!(within(100.0), 10_000);
    }
}
