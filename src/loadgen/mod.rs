//! The load-test harness: puts an engine or a server under load as an on-sale does, and checks while it does so that what
//! callers are told can be true.
//!
//! A run is put together from [`Params`], driven against a [`Target`] by [`run()`], and told as an
//! [`Outcome`]. Whatever a workload asks goes through the desk, which times it and tells the [`auditor`].
//!
//! Architecture invariant: the harness knows the system by the calls of its API only, and by nothing else; the one
//! exception, a second reading of an embedded engine's journal, stands behind [`Target::audit_journal`].

pub mod auditor;
mod desk;
pub mod find_max;
pub mod house;
mod meter;
mod pace;
pub mod params;
pub mod report;
mod rng;
pub mod target;
mod workloads;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::auditor::{Auditor, Breach};
use self::desk::{Crowd, Desk};
use self::house::House;
use self::meter::{Meter, Tallies};
use self::pace::{Arrivals, Schedule, Work};
use self::params::{Params, Workload};
use self::report::{ArrivalsReport, AuditReport, Environment, Outcome, Sample};
use self::target::{Code, Offer, Target, Terms};
use self::workloads::{Cards, Line, OnSale, Rush, Sightings, Soak, Wallets};
use crate::domain::seat_map::Status;
use crate::domain::waiting_room::{Mode, Settings};

pub use self::meter::Op;
pub use self::workloads::Journey;

/// What an answer rests on: there is no other mode.
const DURABILITY: &str = "fdatasync before every answer";
/// How long calls that are under way at the end may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Seats that are compared in one go while a run lasts; options take turns.
const COMPARED_AT_A_TIME: usize = 100_000;
/// Late holds that are looked for in one go, of each option.
const LATE_AT_A_TIME: usize = 32;

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The seating plan's file cannot be read.
    #[error("{path}: {source}")]
    Plan {
        /// Which.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The seating plan cannot be used.
    #[error(transparent)]
    House(#[from] house::Error),
    /// What is to be sold could not be put on sale.
    #[error("{what}: the target answers {}", .code.name())]
    Setup {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        code: Code,
    },
}

/// Runs a workload against a target, and tells of each second through `show`.
///
/// # Errors
/// Nothing could be put on sale.
pub async fn run<T: Target>(
    target: T,
    params: Params,
    command: String,
    show: impl FnMut(&Sample) + Send + 'static,
) -> Result<(T, Outcome), Error> {
    let params = params.settled();
    let offers = put_on_sale(&target, &params).await?;
    let crowd = Crowd::new(format!("load-{:x}", wall_clock_ms()), params.users);
    let crowd = crowd.map_err(|code| Error::Setup { what: "naming users", code })?;
    match params.workload {
        Workload::Rush | Workload::Scatter => {
            let per_hold = params.rush.seats_per_hold;
            let seats: usize = offers.iter().map(|offer| offer.house.seats()).sum();
            let work = if params.rate > 0.0 {
                Rush::open((seats / per_hold).max(1) as u64)
            } else {
                Rush::closed(params.callers)
            };
            Ok(go(target, params, offers, crowd, work, command, show).await)
        }
        Workload::OnSale => {
            let work = OnSale::new(&offers);
            Ok(go(target, params, offers, crowd, work, command, show).await)
        }
        Workload::Wallets => Ok(go(target, params, offers, crowd, Wallets, command, show).await),
        Workload::Queue => {
            let work = Line::new(params.users);
            Ok(go(target, params, offers, crowd, work, command, show).await)
        }
        Workload::Live => {
            let work = Sightings::new(offers[0].house.seats());
            Ok(go(target, params, offers, crowd, work, command, show).await)
        }
        Workload::Soak => Ok(go(target, params, offers, crowd, Soak, command, show).await),
        Workload::Cards => Ok(go(target, params, offers, crowd, Cards, command, show).await),
    }
}

/// Makes a concert with its options.
async fn put_on_sale<T: Target>(target: &T, params: &Params) -> Result<Vec<Arc<Offer>>, Error> {
    let house = if params.plan.as_os_str().is_empty() {
        House::of(params.seats)?
    } else {
        let read = std::fs::read(&params.plan);
        House::read(read.map_err(|source| Error::Plan { path: params.plan.display().to_string(), source })?)?
    };
    let house = Arc::new(house);
    let terms = Terms {
        hold_seconds: params.terms.hold_seconds,
        max_seats_per_reservation: params.terms.max_seats_per_reservation,
        max_seats_per_user: params.terms.max_seats_per_user,
        by_card: params.workload == Workload::Cards,
    };
    let room = &params.waiting_room;
    let room = Settings {
        mode: if has_line(params) { Mode::Queue } else { Mode::Open },
        max_active: room.max_active,
        admit_per_minute: (room.admit_per_minute > 0).then_some(room.admit_per_minute),
        active_ttl_seconds: room.active_ttl_seconds,
        waiting_ttl_seconds: room.waiting_ttl_seconds,
        ..Settings::default()
    };
    let failed = |what| move |code| Error::Setup { what, code };
    let concert = target.create_concert(&room).await.map_err(failed("making a concert"))?;
    let mut offers = Vec::with_capacity(params.options);
    for index in 0..params.options {
        let id = target.add_option(concert, &house, terms).await.map_err(failed("putting it on sale"))?;
        offers.push(Arc::new(Offer { index, id, concert, house: house.clone(), terms }));
    }
    Ok(offers)
}

fn has_line(params: &Params) -> bool {
    match params.workload {
        Workload::OnSale => params.onsale.queue,
        workload => workload == Workload::Queue,
    }
}

/// What is known of a run while it lasts.
struct Watched<T> {
    desk: Arc<Desk<T>>,
    arrivals: Arc<Arrivals>,
    seats: parking_lot::Mutex<Option<[u64; 4]>>,
    line: parking_lot::Mutex<Option<[u64; 2]>>,
}

async fn go<T: Target, W: Work<T>>(
    target: T,
    params: Params,
    offers: Vec<Arc<Offer>>,
    crowd: Crowd,
    work: W,
    command: String,
    show: impl FnMut(&Sample) + Send + 'static,
) -> (T, Outcome) {
    let max_active = if has_line(&params) { params.waiting_room.max_active } else { 0 };
    let audit = Auditor::new(&offers, params.users, target.open_holds_max(), max_active);
    let end = Instant::now() + params.duration.0;
    let desk = Arc::new(Desk { target, offers, params, crowd, audit, meter: Meter::default(), end });
    let watched = Arc::new(Watched {
        desk: desk.clone(),
        arrivals: Arc::new(Arrivals::default()),
        seats: parking_lot::Mutex::new(None),
        line: parking_lot::Mutex::new(None),
    });
    let work = Arc::new(work);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let watching = tokio::spawn(watch(watched.clone(), work.clone(), stopped.clone()));
    let beside = work.beside(&desk, &stopped);
    let counting = tokio::spawn(count(watched.clone(), stopped.clone(), show));

    let left = pace::drive(desk.clone(), work, schedule(&desk.params), watched.arrivals.clone(), PATIENCE).await;
    let lasted = desk.audit.elapsed();
    // Whoever watched is through before anybody counts on calls being over.
    let _ = stop.send(true);
    let (counted, series) = counting.await.unwrap_or_default();
    let _ = watching.await;
    beside.join_all().await;
    in_the_end(&watched, left == 0).await;

    let duration_s = lasted.saturating_sub(desk.params.warm_up.0).as_secs_f64();
    let outcome = outcome(&watched, &counted, series, duration_s, left, command);
    drop(watched);
    match Arc::try_unwrap(desk) {
        Ok(desk) => (desk.target, outcome),
        // Everybody who had one has ended.
        Err(_) => unreachable!("a caller outlived its run"),
    }
}

fn schedule(params: &Params) -> Option<Schedule> {
    match params.workload {
        _ if params.rate > 0.0 => Some(Schedule::Rate(params.rate)),
        Workload::OnSale => Some(Schedule::curve(&params.onsale, params.users, params.duration.0)),
        _ => None,
    }
}

fn wall_clock_ms() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Tells of each second, and adds it all up: what was counted after the warm-up, and each second.
async fn count<T: Target>(
    watched: Arc<Watched<T>>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
    mut show: impl FnMut(&Sample) + Send + 'static,
) -> (Tallies, Vec<Sample>) {
    let Watched { desk, arrivals, .. } = &*watched;
    let (mut sum, mut series) = (meter::none(), Vec::new());
    let (mut last, mut before) = (Duration::ZERO, (0, 0));
    let warm_up = desk.params.warm_up.0;
    loop {
        // The first second that counts begins when the warm-up ends.
        let second = Duration::from_secs(last.as_secs() + 1);
        let next = if last < warm_up { second.min(warm_up) } else { second };
        let ended = tokio::select! {
            () = tokio::time::sleep(next.saturating_sub(desk.audit.elapsed())) => false,
            _ = stopped.wait_for(|stopped| *stopped) => true,
        };
        let (now, taken) = (desk.audit.elapsed(), desk.meter.take());
        let (due, begun) = (arrivals.due.load(Ordering::Relaxed), arrivals.begun.load(Ordering::Relaxed));
        let seconds = (now - last).as_secs_f64().max(1e-3);
        if last >= warm_up {
            meter::add(&mut sum, &taken);
        }
        // What is left of a second at the end is no rate.
        if !ended {
            let sample = Sample {
                rate_asked: (due - before.0) as f64 / seconds,
                rate_reached: (begun - before.1) as f64 / seconds,
                in_flight: arrivals.in_flight.load(Ordering::Relaxed) as u64,
                line: *watched.line.lock(),
                seats: *watched.seats.lock(),
                memory_bytes: report::memory_bytes(),
                ..Sample::new(now.as_secs_f64(), seconds, &taken)
            };
            show(&sample);
            report::keep(&mut series, sample);
        }
        (last, before) = (now, (due, begun));
        if ended {
            return (sum, series);
        }
    }
}

/// Compares, again and again, what the system says with what callers were told.
async fn watch<T: Target, W: Work<T>>(
    watched: Arc<Watched<T>>,
    work: Arc<W>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) {
    let Watched { desk, .. } = &*watched;
    let mut turn = 0;
    let mut known: Vec<[u64; 4]> = desk.offers.iter().map(|offer| [offer.house.seats() as u64, 0, 0, 0]).collect();
    loop {
        let pause = tokio::time::sleep(desk.params.audit.interval.0);
        tokio::select! {
            () = pause => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        let mut compared = 0;
        while compared < COMPARED_AT_A_TIME.min(known.len() * desk.offers[0].house.seats()) && !*stopped.borrow() {
            let offer = &desk.offers[turn % desk.offers.len()];
            turn += 1;
            compared += offer.house.seats();
            desk.look_for_late(offer, LATE_AT_A_TIME).await;
            if let Some(states) = desk.compare_seats(offer, false).await {
                known[offer.index] = [Status::Free, Status::Held, Status::Sold, Status::Blocked]
                    .map(|status| states.iter().filter(|state| **state == status).count() as u64);
                work.seen(offer, states);
            }
        }
        let sum = |state: usize| known.iter().map(|counts| counts[state]).sum();
        *watched.seats.lock() = Some([sum(0), sum(1), sum(2), sum(3)]);
        if has_line(&desk.params) {
            look_at_the_line(&watched).await;
        }
    }
}

async fn look_at_the_line<T: Target>(watched: &Watched<T>) {
    let Watched { desk, .. } = watched;
    let Ok(counts) = desk.target.room_counts(desk.offers[0].concert).await else { return };
    desk.audit.checked.turns.fetch_add(1, Ordering::Relaxed);
    *watched.line.lock() = Some([counts.waiting, counts.active]);
    let most = u64::from(desk.params.waiting_room.max_active);
    if counts.active > most {
        let what = format!("{} are inside, and {most} may be", counts.active);
        desk.audit.report(Breach { invariant: "I6", what, history: Vec::new() });
    }
}

/// Looks at everything once more, when nothing happens any longer.
async fn in_the_end<T: Target>(watched: &Watched<T>, quiet: bool) {
    let Watched { desk, .. } = watched;
    if has_line(&desk.params) {
        look_at_the_line(watched).await;
    }
    let sample = desk.params.audit.sample_max as usize;
    for offer in &desk.offers {
        desk.look_for_late(offer, sample).await;
        desk.compare_seats(offer, quiet).await;
        desk.read_reservations(offer, sample / desk.offers.len()).await;
    }
    if quiet {
        desk.read_wallets(sample).await;
    }
    match desk.target.audit_journal(desk.params.audit.journal_events_max).await {
        Some(Ok(events)) => desk.audit.checked.journal_events.store(events, Ordering::Relaxed),
        Some(Err(what)) => desk.audit.report(Breach { invariant: "journal", what, history: Vec::new() }),
        None => {}
    }
}

fn outcome<T: Target>(
    watched: &Watched<T>,
    counted: &Tallies,
    series: Vec<Sample>,
    duration_s: f64,
    left: usize,
    command: String,
) -> Outcome {
    let Watched { desk, arrivals, .. } = watched;
    let params = &desk.params;
    let violations = desk.audit.breaches();
    let ok = violations.is_empty();
    let begun = arrivals.begun.load(Ordering::Relaxed);
    let lasted = desk.params.duration.0.as_secs_f64();
    let arrivals = ArrivalsReport {
        rate_asked: arrivals.due.load(Ordering::Relaxed) as f64 / lasted,
        rate_reached: begun as f64 / lasted,
        begun,
        not_begun: arrivals.turned_away.load(Ordering::Relaxed),
        unanswered: left as u64,
    };
    Outcome {
        workload: params.workload.name(),
        seed: params.seed,
        durability: DURABILITY,
        duration_s,
        operations: if ok { report::measured(counted, duration_s) } else { Vec::new() },
        audit: AuditReport { ok, checked: desk.audit.checked.counts(), violations },
        arrivals,
        environment: Environment::here(command),
        target: desk.target.describe(),
        parameters: serde_json::to_value(params).unwrap_or_default(),
        series: if ok { series } else { Vec::new() },
    }
}
