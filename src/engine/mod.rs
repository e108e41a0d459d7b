//! The engine: opening and closing it, and what all calls have in common. The calls themselves stand in one file a
//! service.

/// What comes of a call in the time that it has: a log that takes nothing is no reason to wait for ever. A machine of
/// its own waits for nobody but itself, and its calls are not moved to where there is a timer.
macro_rules! in_time {
    ($inner:expr, $call:expr) => {
        match $inner.time_for_calls() {
            None => $call.await,
            Some(time) => match tokio::time::timeout(time, Box::pin($call)).await {
                Ok(told) => told,
                Err(_) => Err($crate::engine::took_too_long()),
            },
        }
    };
}

/// What this node decides itself. A refusal rests on what there was, and is told once that is certain.
macro_rules! decided {
    ($inner:expr, $call:expr) => {{
        let asked = $inner.moment();
        match in_time!($inner, $call) {
            Err(error) => Err($inner.sure(error, asked).await),
            told => told,
        }
    }};
}

/// What this node knows itself of what is somebody's, told once that is certain.
macro_rules! known {
    ($inner:expr, $call:expr) => {{
        let asked = $inner.moment();
        let told = in_time!($inner, $call);
        $inner.certain_since(asked).await?;
        told
    }};
}

mod backup;
mod blocks;
pub(crate) mod calls;
mod changes;
mod concerts;
mod deliveries;
pub(crate) mod desk;
pub(crate) mod events;
mod histories;
mod live;
mod options;
mod orders;
mod payments;
mod providers;
mod reconciliation;
mod reservations;
mod selling;
mod sinks;
pub(crate) mod start;
#[cfg(test)]
mod tests;
mod tokens;
mod verify;
mod wallets;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot, watch};

use self::calls::Away;
use self::deliveries::Deliveries;
pub use self::start::{Membership, Seen};
use self::start::{Node, Place, Terms, Threads};
use self::tokens::RoomInfo;
use crate::Map;
use crate::actors::actor::Delivery;
use crate::actors::arbiters::{Arbiters, Failpoints};
use crate::actors::registry::{Full, Origin};
use crate::actors::reply;
use crate::actors::shell::Outcome;
use crate::actors::system::{Ended, Routed, System, Unseen, seen};
use crate::api::{Health, IdempotencyKey, NodeHealth, NodeRole, Stats};
use crate::clock::{ThisMachine, TimeSource};
use crate::cluster::Joining;
use crate::config::Config;
use crate::domain::concert_option::{self, ConcertOption, Installation, PricedPlan};
use crate::domain::idempotency::Request;
use crate::domain::seating_plan::{PlanHash, SeatingPlan};
use crate::domain::{ConcertId, CorruptRow, Lsn, OptionId, Rejection, Timestamp, UserId};
use crate::error::{Error, OpenError};
use crate::live::Hubs;
use crate::replica::{self, Cold, Found, Holds, Listed, Replica};
use crate::store::codec::Entity;
use crate::store::committer::Moment;
use crate::store::disk::{Disk, RealDisk};
use crate::store::journal;
use crate::store::node::Journal;
use crate::store::plans::Plans;

pub use self::backup::{backup, restore};
#[cfg(any(test, feature = "testing"))]
pub use self::calls::{Forward, OwnerId, Secret as ClusterSecret, Sending, Unanswered};
pub use self::desk::AttachedProvider;
pub use self::events::{EventBatch, EventStream};
pub use self::live::{SeatChanges, TokenChanges};
pub use self::options::PlanJson;
#[cfg(feature = "server")]
pub(crate) use self::options::SeatPieces;
pub use self::orders::{PaymentWalk, ReservationWalk};
pub use self::reconciliation::reconcile;
pub use self::sinks::Start;
pub use self::tokens::IssuedToken;
pub use self::verify::{VerifyReport, export, repair_state, verify};

/// After how long to come back when there is too much to do.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long calls that are under way may take to end when the engine is shut down.
const DRAIN: Duration = Duration::from_secs(3);
/// So many rows are looked for together: how long the replica is held for it.
const FOUND_AT_ONCE: usize = 64;
/// From how much skew between the engine's clock and the wall clock on to warn, in milliseconds.
const SKEW_WARNING_MS: u64 = 1_000;

/// A reservation engine on one data directory. Clones share it.
///
/// Every method can be called from any tokio runtime. When a call that changes something has returned `Ok`, or a refusal
/// by the rules, what that rests on is on disk and survives a power cut; what reads return is on disk as well.
///
/// It takes users at the caller's word: who may act as whom is for the host app to say.
///
/// # What to call, and in which order
///
/// | for | |
/// |---|---|
/// | **opening** | [`open`](Self::open), once a process and directory; everything else comes after it. A host waits for [`failure`](Self::failure) beside its work, and ends with [`shutdown`](Self::shutdown), also when the engine has failed. Tests have `open_with` (a clock that is set by hand), `open_on` and `open_in_cluster_on` (a disk that fails) and `open_failing` (messages that are lost) and `open_forwarding` (as a node that asks another one), and end a term and begin another with `end_term` and `begin_term` |
/// | **several nodes** | [`open_in_cluster`](Self::open_in_cluster) in place of `open`: one node decides, and all answer; [`membership`](Self::membership) tells who decides, [`step_down`](Self::step_down) lets another one |
/// | **the catalogue** | [`create_concert`](Self::create_concert), [`change_concert`](Self::change_concert), then [`add_option`](Self::add_option) for each of its performances. What there is: [`concerts`](Self::concerts), [`shown_concerts`](Self::shown_concerts), [`concert`](Self::concert) with its options, [`option`](Self::option), [`plan`](Self::plan) and [`plan_json`](Self::plan_json) for the map of its seats |
/// | **running a sale** | [`reschedule_option`](Self::reschedule_option), [`change_option`](Self::change_option), [`replace_plan`](Self::replace_plan), [`delete_option`](Self::delete_option), [`delete_concert`](Self::delete_concert), [`block_seats`](Self::block_seats), [`unblock_seats`](Self::unblock_seats), and [`block`](Self::block), [`unblock`](Self::unblock) for zones, rows and areas too, and to say who and why; [`sale_figures`](Self::sale_figures), [`sale_totals`](Self::sale_totals); [`call_off`](Self::call_off), and [`cancellation`](Self::cancellation) tells how far that is |
/// | **lists and histories** | of all on an option, by pages or a little at a time: [`option_reservations`](Self::option_reservations), [`walk_reservations`](Self::walk_reservations), [`option_payments`](Self::option_payments), [`walk_payments`](Self::walk_payments). What has happened, and who did it: [`seat_history`](Self::seat_history), [`wallet_history`](Self::wallet_history), [`token_history`](Self::token_history) |
/// | **the line** | Whoever runs the sale: [`configure_waiting_room`](Self::configure_waiting_room) (or [`configure_waiting_room_by`](Self::configure_waiting_room_by) to say who), [`waiting_room`](Self::waiting_room). Each buyer, before holding seats, if the room is not open: [`issue_token`](Self::issue_token), then [`token_changes`](Self::token_changes) or [`token`](Self::token) now and then, until it is active; [`still_there`](Self::still_there), [`leave_queue`](Self::leave_queue). In all lines: [`waiting_tokens`](Self::waiting_tokens) |
/// | **wallets** | [`charge`](Self::charge), before there is anything to pay with, and [`adjust`](Self::adjust) to correct it; [`wallet`](Self::wallet), [`wallet_entries`](Self::wallet_entries) |
/// | **selling** | [`seats`](Self::seats) or [`seat_changes`](Self::seat_changes) to choose from, [`hold`](Self::hold) with the signed token of the line (or [`hold_with_note`](Self::hold_with_note)), then [`pay`](Self::pay) or [`release`](Self::release) before the hold runs out; [`reservation`](Self::reservation), [`reservations`](Self::reservations) |
/// | **paying** | [`pay`](Self::pay) what is held, [`refund`](Self::refund) what is paid; [`payment`](Self::payment), [`payments`](Self::payments) |
/// | **orders that change** | a part: [`release_part`](Self::release_part), [`refund_part`](Self::refund_part); [`exchange`](Self::exchange); [`offer_transfer`](Self::offer_transfer), [`transfer`](Self::transfer), [`accept_transfer`](Self::accept_transfer), [`withdraw_transfer`](Self::withdraw_transfer), [`hand_on`](Self::hand_on); at a box office [`hold_for`](Self::hold_for), [`hold_until`](Self::hold_until) |
/// | **paying by providers** | [`begin_payment`](Self::begin_payment), [`give_up_payment`](Self::give_up_payment), [`refund`](Self::refund). What a provider did: [`report`](Self::report). What it is to do: [`attach_provider`](Self::attach_provider) once at each start, [`checkout`](Self::checkout) for the buyer's page, and [`look_up_payment`](Self::look_up_payment) to have it asked at once; or, by the host itself, [`provided_payments`](Self::provided_payments), before each call [`owed`](Self::owed), and [`attempted`](Self::attempted). How much that is in all: [`owed_sums`](Self::owed_sums). What was heard of a day: [`reconciliation`](Self::reconciliation), [`whole_reconciliation`](Self::whole_reconciliation), and beside what the provider lists [`reconcile`](Self::reconcile) |
/// | **live** | [`seat_changes`](Self::seat_changes) of an option, from [`seats_seq`](Self::seats_seq) or any seq that was heard before; [`token_changes`](Self::token_changes) |
/// | **events** | At the host's pace: [`events`](Self::events), [`event`](Self::event). Delivered to it: [`attach`](Self::attach) at each start, [`detach`](Self::detach). Delivered by the server's webhooks: [`register_sink`](Self::register_sink), [`rotate_secret`](Self::rotate_secret), [`remove_sink`](Self::remove_sink). Both kinds: [`sinks`](Self::sinks), [`sink`](Self::sink); [`dead_letters`](Self::dead_letters), then [`redrive`](Self::redrive) or [`drop_dead_letter`](Self::drop_dead_letter) |
/// | **several nodes** | [`serve_call`](Self::serve_call) does what another node has asked of this one |
/// | **operations** | [`health`](Self::health), [`stats`](Self::stats), [`failed`](Self::failed), [`now`](Self::now), [`durable_lsn`](Self::durable_lsn); without an engine, on a directory: [`verify`](crate::verify), [`export`](crate::export), [`repair_state`](crate::repair_state), [`backup`](crate::backup) (of a running one as well), [`restore`](crate::restore) |
///
/// Calls that make something take an [`IdempotencyKey`]: with it they can be called again when their outcome is not known.
/// `examples/` has most of these in whole programs.
///
/// # Errors
/// Each method names the errors of its own. Besides, every call can end with
///
/// - [`Error::OutcomeUnknown`]: the engine has failed, or is closing or closed. A call that changes something may have
///   taken effect, or will by the next start.
/// - [`Error::Internal`]: a fault of the engine's own.
///
/// and those that change something also with
///
/// - [`Error::Overloaded`], [`Error::StorageFull`] and [`Error::NoOwner`]: nothing has changed. A hold also with
///   [`Error::LogFull`].
/// - where they take an [`IdempotencyKey`], [`Rejection::IdempotencyKeyReused`] and
///   [`Rejection::TooManyIdempotencyKeys`] ("those of the idempotency key").
///
/// # Cancellation
/// To drop the future of a call that changes something does not call it off: it may take effect or not. Whoever wants to
/// know asks again with the same idempotency key.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

/// What is sold on options, of those that somebody has asked for.
pub(in crate::engine) type Offers = Map<OptionId, Arc<PricedPlan>>;

struct Inner {
    config: Config,
    node: Node,
    terms: Arc<Terms>,
    place: Place,
    host: Arbiters,
    plans: Arc<Plans>,
    log_status: journal::Status,
    /// What does not change of an option, once it has been asked for; of about as many as may be in memory.
    offers: Arc<Offers>,
    /// The plans that these share. One that is not in memory is read under its own lock.
    seating_plans: Mutex<hashbrown::HashMap<PlanHash, Arc<Mutex<Weak<SeatingPlan>>>>>,
    /// What does not change of a line but for its mode, once it has been asked for: some bytes for each concert.
    rooms: Arc<Map<ConcertId, RoomInfo>>,
    /// What somebody looks at.
    hubs: Arc<Hubs>,
    event_readers: Arc<Semaphore>,
    /// One at a time reads what was heard of a day.
    reconciling: Arc<Semaphore>,
    /// Plans take the place of others one after the other: reading one takes longer than to overtake it.
    replanning: Semaphore,
    gauges: Arc<Gauges>,
    deliveries: Deliveries,
    /// Whose payments these are for providers, once that was asked for.
    installation: OnceLock<Installation>,
    /// What hosts have attached, by method.
    providers: Mutex<std::collections::BTreeMap<String, desk::Driven>>,
    /// The way to the node that decides, if there are several.
    away: OnceLock<Box<Away>>,
    calls: Arc<AtomicU64>,
    closing: AtomicBool,
    failure: watch::Receiver<Option<String>>,
    threads: Mutex<Option<Threads>>,
    /// Closed once the threads have ended.
    ended: watch::Receiver<()>,
}

/// What the housekeeper finds out.
#[derive(Debug, Default)]
struct Gauges {
    checkpointed: AtomicU64,
    /// What the journal had grown by then.
    checkpointed_bytes: AtomicU64,
    /// About how long it would take to replay what has come since, in nanoseconds.
    replay_nanos: Arc<AtomicU64>,
    /// How often a checkpoint was put off, since something was lacking.
    put_off: AtomicU64,
    /// Whether the last one was put off.
    is_putting_off: AtomicBool,
    free_bytes: AtomicU64,
    storage_full: AtomicBool,
    /// Whether the log of the cluster is at its limit.
    log_full: AtomicBool,
    overloaded: Alone,
}

impl Gauges {
    /// Whether there is more than there may be that is in no checkpoint.
    fn has_too_much(&self, journal: &Journal, limits: &crate::config::Checkpoint) -> bool {
        let pending = journal.durable().0.saturating_sub(self.checkpointed.load(Ordering::Relaxed));
        let pending_bytes = journal.counters().bytes.load(Ordering::Relaxed);
        let pending_bytes = pending_bytes.saturating_sub(self.checkpointed_bytes.load(Ordering::Relaxed));
        limits.enabled && (pending > limits.max_pending_events || pending_bytes > limits.max_pending_bytes)
    }
}

/// A counter with a cache line of its own: whoever looks at its neighbors does not wait for those who count.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Alone(AtomicU64);

impl Engine {
    /// Opens the engine on a data directory, or begins one there: loads the state, replays the journal's tail, and lets
    /// the actors do what is due and owed.
    ///
    /// # Errors
    /// The configuration is wrong, the directory cannot be used or is in use, or what is in it is damaged; the message
    /// says what to do.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        Self::open_at(config, ThisMachine, RealDisk, None, None).await
    }

    /// Opens the engine as a node of a cluster: it follows the log that `joining` leads to, and owns it whenever it has to.
    /// Every call can be made on every node: what another one decides is asked there, and ends with [`Error::NoOwner`] while
    /// nobody does.
    ///
    /// # Errors
    /// As [`open`](Self::open); and [`OpenError::Cluster`] if the log cannot be reached, or is another one than was followed.
    pub async fn open_in_cluster(config: Config, joining: Joining) -> Result<Self, OpenError> {
        Self::open_at(config, ThisMachine, RealDisk, None, Some(joining)).await
    }

    /// How this node and the others are, if it is one of a cluster.
    #[must_use]
    pub fn membership(&self) -> Option<Arc<Membership>> {
        match &self.0.place {
            Place::Alone(_) => None,
            Place::Member(seat) => Some(seat.membership()),
        }
    }

    /// Lets another node of the cluster own the log, if there is one that could. Does nothing on a machine of its own, nor on
    /// a node that does not own it. [`membership`](Self::membership) tells when it has come to that.
    pub fn step_down(&self) {
        if let Place::Member(seat) = &self.0.place {
            seat.step_down();
        }
    }

    /// Opens the engine with a clock that a test sets by hand.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(any(test, feature = "testing"))]
    pub async fn open_with(config: Config, clock: &crate::testing::clock::ManualClock) -> Result<Self, OpenError> {
        Self::open_at(config, clock.clone(), RealDisk, None, None).await
    }

    /// Opens the engine on a disk that takes its time, or fails.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(any(test, feature = "testing"))]
    pub async fn open_on(config: Config, disk: impl Disk) -> Result<Self, OpenError> {
        Self::open_at(config, ThisMachine, disk, None, None).await
    }

    /// Opens the engine as a node of a cluster, on a disk of which a test says how it is.
    ///
    /// # Errors
    /// As [`open_in_cluster`](Self::open_in_cluster).
    #[cfg(any(test, feature = "testing"))]
    pub async fn open_in_cluster_on(config: Config, disk: impl Disk, joining: Joining) -> Result<Self, OpenError> {
        Self::open_at(config, ThisMachine, disk, None, Some(joining)).await
    }

    /// Opens the engine with a clock that a test sets by hand, where messages between aggregates meet `failpoints`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(any(test, feature = "testing"))]
    pub async fn open_failing(
        config: Config,
        clock: &crate::testing::clock::ManualClock,
        failpoints: &Failpoints,
    ) -> Result<Self, OpenError> {
        Self::open_at(config, clock.clone(), RealDisk, Some(failpoints.clone()), None).await
    }

    /// Opens the engine as a node of which another one decides, which is itself: every call goes through `loopback`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(any(test, feature = "testing"))]
    pub async fn open_forwarding(
        config: Config,
        clock: Option<&crate::testing::clock::ManualClock>,
        loopback: &crate::testing::loopback::Loopback,
    ) -> Result<Self, OpenError> {
        let engine = match clock {
            Some(clock) => Self::open_with(config, clock).await?,
            None => Self::open(config).await?,
        };
        loopback.lead(&engine);
        Ok(engine)
    }

    async fn open_at(
        config: Config,
        time: impl TimeSource,
        disk: impl Disk,
        failpoints: Option<Failpoints>,
        joining: Option<Joining>,
    ) -> Result<Self, OpenError> {
        let (sender, opened) = oneshot::channel();
        let open = move || {
            // The caller may have gone away; then the engine closes again.
            let _ = sender.send(start::start(config, Arc::new(time), Arc::new(disk), failpoints, joining));
        };
        let thread = std::thread::Builder::new().name("boxoffice-open".into()).spawn(open);
        let failed = |source| OpenError::DataDirectory { dir: "(no thread)".into(), source };
        thread.map_err(failed)?;
        let opened = opened.await.unwrap_or_else(|_| Err(failed(std::io::Error::other("opening panicked")))).map(Self);
        #[cfg(any(test, feature = "testing"))]
        if let (Ok(engine), true) = (&opened, crate::testing::loopback::is_for_all()) {
            crate::testing::loopback::Loopback::default().lead(engine);
        }
        opened
    }

    /// What time it is for the engine.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Ends the term: what is not durable never will be, all who wait are told that the outcome is not known, and nobody who
    /// changes something is let in before the next one [begins](Self::begin_term). Reads go on. A machine of its own has one term
    /// for as long as the engine is open.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown).
    #[cfg(any(test, feature = "testing"))]
    pub async fn end_term(&self) -> Result<(), Error> {
        let inner = self.0.clone();
        let end = move || match &inner.place {
            Place::Alone(owner) => owner.end(&inner.node),
            Place::Member(seat) => seat.step_down(),
        };
        self.0.on_blocking_thread(end).await?;
        self.failed().map_or(Ok(()), |reason| Err(Error::OutcomeUnknown(reason)))
    }

    /// Begins a term, on what is durable, if there is none.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`]: the engine has failed or is closed.
    #[cfg(any(test, feature = "testing"))]
    pub async fn begin_term(&self) -> Result<(), Error> {
        let inner = self.0.clone();
        let begin = move || match &inner.place {
            Place::Alone(owner) => owner.begin(&inner.node),
            // It begins by itself.
            Place::Member(_) => Ok(()),
        };
        let begun = self.0.on_blocking_thread(begin).await?;
        begun.map_err(|error| Error::OutcomeUnknown(error.to_string()))
    }

    /// Why the engine has failed, if it has. Then it must be shut down and opened again.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.0.failure.borrow().clone()
    }

    /// Returns when the engine has failed, and says why. A server should then end with an error.
    pub async fn failure(&self) -> String {
        let mut failure = self.0.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The sender lives as long as the journal does, and that ends with the engine.
            Err(_) => "the engine is gone".into(),
        }
    }

    /// Takes no more calls, waits up to three seconds for those under way, seals the journal and writes a last checkpoint.
    /// Then the data directory can be opened again, even while handles of this engine are left. May be called more than
    /// once, also at the same time; once begun it goes on to the end, whoever waits for it.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if the engine has failed before, or does so now; what was acknowledged is safe all the same.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.0.closing.store(true, Ordering::Release);
        let threads = self.0.threads.lock().take();
        if let Some(threads) = threads {
            let inner = self.0.clone();
            let spawned = std::thread::Builder::new().name("boxoffice-close".into()).spawn(move || inner.end(threads));
            spawned.map_err(|error| Error::Internal(error.to_string()))?;
        }
        let mut ended = self.0.ended.clone();
        // Nothing is ever sent: it ends when the sender does.
        while ended.changed().await.is_ok() {}
        self.failed().map_or(Ok(()), |reason| Err(Error::OutcomeUnknown(reason)))
    }

    /// Whether the engine takes commands, and if not, why.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut reasons: Vec<_> = self.failed().into_iter().collect();
        if self.0.closing.load(Ordering::Acquire) {
            reasons.push("the engine is shutting down".into());
        }
        let membership = self.membership();
        let has_term = self.0.terms.look(|_| ()).is_some();
        if reasons.is_empty() {
            // Also of an owner: without a connection it tells nobody anything, and another one owns soon.
            let nobody = self.0.nobody_decides().then_some(NO_OWNER);
            let obstacle = membership.as_ref().map_or(nobody, |membership| membership.obstacle());
            reasons.extend(obstacle.map(str::to_owned));
        }
        let node = membership.map(|membership| NodeHealth {
            node: membership.node.to_string(),
            role: if has_term { NodeRole::Owner } else { NodeRole::Follower },
            owner: membership.owner.as_ref().map(ToString::to_string),
            epoch: membership.epoch.0,
            lsn: self.durable_lsn().0,
            lag: membership.lag,
        });
        if self.0.is_behind() {
            reasons.push("this node has not taken in yet what it has answered".into());
        }
        match self.0.obstacle() {
            Some(Error::StorageFull) => {
                let free = self.0.gauges.free_bytes.load(Ordering::Relaxed);
                reasons.push(format!("the disk is nearly full: {free} bytes are free"));
            }
            Some(Error::Overloaded(_)) => reasons.push("too much is under way".into()),
            _ => {}
        }
        if self.0.gauges.log_full.load(Ordering::Relaxed) {
            reasons
                .push("the log of the cluster is at its limit: a node has not synced what it could forget else".into());
        }
        let skew_ms = self.0.terms.clock().skew_millis();
        let mut warnings = Vec::new();
        if skew_ms.unsigned_abs() > SKEW_WARNING_MS {
            let side = if skew_ms > 0 { "ahead of" } else { "behind" };
            warnings.push(format!("the engine's clock is {} ms {side} the wall clock", skew_ms.unsigned_abs()));
        }
        if self.0.gauges.is_putting_off.load(Ordering::Relaxed) {
            warnings.push("a checkpoint cannot be written yet; the log says why".into());
        }
        Health { ready: reasons.is_empty(), reasons, warnings, node }
    }

    /// The threads of the actors: work that speaks to actors often is best done where they are.
    #[cfg(feature = "server")]
    pub(crate) fn arbiters(&self) -> &[actix::ArbiterHandle] {
        self.0.host.threads()
    }

    /// The last durable event of the journal.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.0.node.journal.durable()
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Inner { node, terms, gauges, hubs, .. } = &*self.0;
        let counters = node.journal.counters();
        let live = hubs.counters();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            durable_lsn: node.journal.durable().0,
            applied_lsn: node.replica.applied().0,
            checkpointed_lsn: gauges.checkpointed.load(Ordering::Relaxed),
            batches: counters.batches.load(Ordering::Relaxed),
            journal_bytes: counters.bytes.load(Ordering::Relaxed),
            commit_seconds: Duration::from_nanos(counters.commit_nanos.load(Ordering::Relaxed)).as_secs_f64(),
            resident_actors: terms.look(|system| system.actors.len() as u64).unwrap_or_default(),
            readable_aggregates: node.replica.lock().map_or(0, |replica| replica.len() as u64),
            overloaded: of(&gauges.overloaded.0),
            clock_skew_seconds: terms.clock().skew_millis() as f64 / 1e3,
            free_bytes: gauges.free_bytes.load(Ordering::Relaxed),
            replay_seconds: Duration::from_nanos(of(&gauges.replay_nanos)).as_secs_f64(),
            put_off: of(&gauges.put_off) + self.0.log_status.put_off(),
            live_subscribers: of(&live.seat_subscribers) + of(&live.token_subscribers),
            live_flushes: of(&live.flushes),
            live_conflations: of(&live.conflations),
            live_resyncs: of(&live.resyncs),
        }
    }
}

/// Of a call that has an end before the log has taken what it rests on.
fn took_too_long() -> Error {
    Error::OutcomeUnknown("the log did not take it in time".into())
}

/// Why nothing is decided where there is no term.
const NO_OWNER: &str = "there is no owner of the log";

/// Sends a command to an aggregate, for those inside, whom no limit stands against.
fn ask_from_inside<A: Routed>(system: &Arc<System>, id: &A::Id, command: A::Command) -> AnswerFrom<A> {
    let (reply, answer) = reply::channel();
    // There is no limit to meet.
    let _ = A::registry(system).deliver(system, id, Delivery::Command(command, Some(reply)), Origin::Inside);
    answer
}

/// Where an aggregate's answer comes in.
type AnswerFrom<A> = reply::Reply<Outcome<A>>;

/// A call that is under way.
struct Call<'a>(&'a AtomicU64);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Inner {
    /// Ends what is under way, and then the threads.
    fn end(&self, threads: Threads) {
        let begun = Instant::now();
        while self.calls.load(Ordering::Acquire) > 0 && begun.elapsed() < DRAIN {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.host.blocking.block_on(self.deliveries.stop_all());
        self.place.close(&self.node);
        threads.end(&self.node.journal);
    }

    /// What stands against taking commands from callers now.
    fn obstacle(&self) -> Option<Error> {
        let journal = &self.node.journal;
        if self.gauges.storage_full.load(Ordering::Relaxed) || self.log_status.space_exhausted() {
            return Some(Error::StorageFull);
        }
        let waiting = self.terms.look(|system| system.env.writer.waiting_events()).unwrap_or_default();
        if self.gauges.has_too_much(journal, &self.config.checkpoint)
            || waiting > self.config.journal.max_waiting_events
        {
            return Some(Error::Overloaded(RETRY_AFTER));
        }
        None
    }

    /// Lets a command of a caller in.
    fn admit(&self) -> Result<Call<'_>, Error> {
        self.admit_below(self.config.limits.calls)
    }

    /// Lets a command in that begins something. There is less room for these, so that in a rush those who have seats get
    /// to pay them or to give them back, and operators get through.
    fn admit_newcomer(&self) -> Result<Call<'_>, Error> {
        self.admit_below(self.config.limits.calls / 2)
    }

    fn admit_below(&self, limit: u64) -> Result<Call<'_>, Error> {
        // In a rush most of the calls end here, without writing to what the others share. As many as there are threads may
        // get past it at once.
        if self.calls.load(Ordering::Relaxed) >= limit {
            return Err(self.overloaded());
        }
        self.calls.fetch_add(1, Ordering::AcqRel);
        let call = Call(&self.calls);
        if self.is_over() {
            return Err(self.not_taken());
        }
        self.owned(|_| ())?;
        match self.obstacle() {
            None => Ok(call),
            Some(Error::Overloaded(_)) => Err(self.overloaded()),
            Some(error) => Err(error),
        }
    }

    /// Counts a call that is turned away.
    fn overloaded(&self) -> Error {
        self.gauges.overloaded.0.fetch_add(1, Ordering::Relaxed);
        Error::Overloaded(RETRY_AFTER)
    }

    /// Whether nothing more will become durable.
    fn is_over(&self) -> bool {
        self.closing.load(Ordering::Acquire) || self.node.journal.is_closed()
    }

    /// Does something with what the actors share. Without a term, nobody here may decide.
    fn owned<T>(&self, act: impl FnOnce(&Arc<System>) -> T) -> Result<T, Error> {
        self.terms.look(act).ok_or_else(|| self.no_owner())
    }

    fn no_owner(&self) -> Error {
        if self.is_over() { self.not_taken() } else { Error::NoOwner }
    }

    /// Of a call that came when this engine had ended, or was about to. Another node may take it.
    fn not_taken(&self) -> Error {
        match self.place {
            _ if self.node.journal.failure().is_some() => self.outcome_unknown(),
            Place::Member(_) => Error::NoOwner,
            Place::Alone(_) if self.node.journal.is_closed() => self.outcome_unknown(),
            Place::Alone(_) => Error::OutcomeUnknown("the engine is shutting down; the command was not taken".into()),
        }
    }

    /// Of what comes after the first command of a call: something has changed by then, whatever stands against the rest.
    fn after_the_first(error: Error) -> Error {
        match error {
            Error::NoOwner | Error::Overloaded(_) | Error::StorageFull | Error::LogFull => {
                Error::OutcomeUnknown(format!("a part of it was done, and then: {error}"))
            }
            error => error,
        }
    }

    fn outcome_unknown(&self) -> Error {
        let why = || if self.is_over() { "the engine is closed" } else { "the term of its owner has ended" };
        Error::OutcomeUnknown(self.node.journal.failure().unwrap_or_else(|| why().into()))
    }

    /// Sends a command to an aggregate and waits until its answer is durable. For commands that are answered when they
    /// are handled.
    async fn ask<A: Routed>(&self, id: &A::Id, command: A::Command) -> Result<A::Reply, Error> {
        let answer = self.send::<A>(id, command)?.await;
        answer.map_or_else(|| Err(self.outcome_unknown()), |answer| answer.map_err(Error::from))
    }

    /// As [`ask`](Self::ask), for commands whose answer may come with a later one. Who waits in an aggregate for another
    /// one's answer is not let go by the journal.
    async fn ask_and_park<A: Routed>(&self, id: &A::Id, command: A::Command) -> Result<A::Reply, Error> {
        self.answer::<A>(self.send::<A>(id, command)?).await
    }

    /// As [`ask`](Self::ask), for those inside, whom no limit stands against.
    async fn ask_from_inside<A: Routed>(&self, id: &A::Id, command: A::Command) -> Result<A::Reply, Error> {
        let answer = self.owned(|system| ask_from_inside::<A>(system, id, command))?;
        self.answer::<A>(answer).await
    }

    async fn answer<A: Routed>(&self, answer: AnswerFrom<A>) -> Result<A::Reply, Error> {
        let mut failure = self.failure.clone();
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            _ = failure.wait_for(Option::is_some) => None,
        };
        answer.map_or_else(|| Err(self.outcome_unknown()), |answer| answer.map_err(Error::from))
    }

    /// Sends a command to an aggregate.
    fn send<A: Routed>(&self, id: &A::Id, command: A::Command) -> Result<AnswerFrom<A>, Error> {
        self.send_if::<A>(id, command, || true)
    }

    /// As [`send`](Self::send), unless the term that it would go to is not the one that is meant.
    fn send_if<A: Routed>(
        &self,
        id: &A::Id,
        command: A::Command,
        is_meant: impl FnOnce() -> bool,
    ) -> Result<AnswerFrom<A>, Error> {
        let (reply, answer) = reply::channel_of_caller();
        let delivery = Delivery::Command(command, Some(reply));
        let deliver = |system: &Arc<System>| A::registry(system).deliver(system, id, delivery, Origin::Outside);
        let sent = self.owned(|system| is_meant().then(|| deliver(system)))?;
        sent.ok_or_else(|| self.no_owner())?.map_err(|Full| self.overloaded())?;
        Ok(answer)
    }

    /// What comes with a command that may be sent again.
    fn request(&self, key: Option<IdempotencyKey>, refused: Option<Rejection>) -> Request {
        let Some(key) = key else { return Request { key: None, refused } };
        let used = self.node.counts.keys(&key.caller, self.now());
        let too_many = used >= self.config.limits.user_idempotency_keys;
        let refused = if too_many { Some(Rejection::TooManyIdempotencyKeys) } else { refused };
        Request { key: Some(key.into_domain()), refused }
    }

    /// Returns once this node, as the owner, may say what it knows: what is somebody's, that something is not there, and what it has
    /// refused or remembered. A machine of its own always may.
    ///
    /// # Errors
    /// [`Error::NoOwner`] if it owns no more.
    async fn certain(&self) -> Result<(), Error> {
        if matches!(self.place, Place::Alone(_)) {
            return Ok(());
        }
        let (tell, told) = reply::channel();
        if let Some(effect) = tell.leave(()) {
            self.owned(|system| system.env.writer.when_durable(self.node.journal.durable(), effect))?;
        }
        let told = async { told.await.ok_or(Error::NoOwner) };
        in_time!(self, told)
    }

    /// How long a call may take; `None` on a machine of its own.
    fn time_for_calls(&self) -> Option<Duration> {
        matches!(self.place, Place::Member(_)).then(|| Duration::from_millis(self.config.forwarding.time_ms))
    }

    /// As [`certain`](Self::certain), of what was found out after this moment: if it was another term that has ended since, another
    /// node may have decided in between, and this one not known it when it looked.
    async fn certain_since(&self, asked: Option<Moment>) -> Result<(), Error> {
        self.certain().await?;
        let is_of_this_term = |asked| self.terms.look(|system| system.env.writer.is_of(asked)).unwrap_or_default();
        match (&self.place, &asked) {
            (Place::Member(_), Some(asked)) if is_of_this_term(asked) => Ok(()),
            (Place::Member(_), _) => Err(Error::NoOwner),
            (Place::Alone(_), _) => Ok(()),
        }
    }

    /// What time it is for what is [certain](Self::certain); `None` on a machine of its own, and without a term.
    fn moment(&self) -> Option<Moment> {
        match self.place {
            Place::Alone(_) => None,
            Place::Member(_) => self.terms.look(|system| system.env.writer.moment()).flatten(),
        }
    }

    /// Whether this node has certainly owned the log at some time after this one.
    fn has_owned_since(&self, moment: &Moment) -> bool {
        self.terms.look(|system| system.env.writer.has_owned_since(moment)).unwrap_or_default()
    }

    /// What came of a call that this node has decided, once it is [certain](Self::certain). What says that nothing was done, it
    /// says of this node alone, and is true in any case. `asked` is when the call came: what was found out by way of
    /// the log since need not be found out again.
    async fn sure(&self, error: Error, asked: Option<Moment>) -> Error {
        match &error {
            _ if asked.as_ref().is_some_and(|asked| self.has_owned_since(asked)) => error,
            Error::Rejected(_) | Error::SeatsUnavailable(_) | Error::SeatsInUse { .. } => {
                self.certain_since(asked).await.err().unwrap_or(error)
            }
            _ => error,
        }
    }

    /// Waits until everything that is durable now can be seen.
    async fn up_to_date(&self) -> Result<(), Error> {
        let reached = self.node.replica.reached(self.node.journal.durable()).await;
        reached.map_err(|Ended| self.outcome_unknown())
    }

    /// Looks at what is in memory, and is short.
    fn glance<T>(&self, look: impl FnOnce(&mut Replica) -> T) -> Result<T, Error> {
        let mut replica = self.node.replica.lock().map_err(|Ended| self.outcome_unknown())?;
        Ok(look(&mut replica))
    }

    /// Looks at the state, and is short; what is not in memory is brought there on a thread that may block.
    async fn look<T>(
        self: &Arc<Self>,
        mut look: impl FnMut(&mut Replica) -> Result<T, Cold> + Send,
    ) -> Result<T, Error> {
        let mut fetched = Vec::new();
        loop {
            let cold = match self.glance(&mut look)? {
                Ok(seen) => return Ok(seen),
                Err(cold) => cold,
            };
            // They stay until all are there.
            fetched.push(Box::pin(self.fetch(cold)).await?);
        }
    }

    /// Brings an aggregate into memory.
    async fn fetch(self: &Arc<Self>, cold: Cold) -> Result<Cold, Error> {
        let inner = self.clone();
        let fetch = move || inner.node.replica.fetch(&cold).map(|()| cold);
        self.on_blocking_thread(fetch).await?.map_err(|unseen| self.unseen(&unseen))
    }

    /// Looks at the durable state, and is short: of everything that any caller was told of before.
    async fn read<T>(self: &Arc<Self>, look: impl FnMut(&mut Replica) -> Result<T, Cold> + Send) -> Result<T, Error> {
        self.up_to_date().await?;
        self.look(look).await
    }

    /// Reads what is durable and may be in no memory, on a thread that may block.
    async fn read_rows<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.up_to_date().await?;
        let inner = self.clone();
        self.on_blocking_thread(move || read(&inner)).await?
    }

    /// A part of an aggregate, wherever it is.
    async fn find<A: Entity>(self: &Arc<Self>, id: &A::Id, part: &A::Part) -> Result<Option<Vec<u8>>, Error>
    where
        Replica: Holds<A>,
    {
        self.up_to_date().await?;
        match self.glance(|replica| replica.find::<A>(id, part))? {
            Found::Row(row) => Ok(Some(row)),
            stored @ Found::Stored { .. } => {
                let found = self.on_blocking_thread(move || stored.row()).await?;
                found.map_err(|error| self.fail(&error))
            }
        }
    }

    /// What is on a user's list of parts of options, newest first, older than `before`, each with its row: what it is about,
    /// wherever that is. Blocks; the replica is held for some of them at a time.
    fn list<T>(
        &self,
        user: &UserId,
        part: fn(u64) -> concert_option::Part,
        before: Option<Lsn>,
        limit: usize,
        read: impl Fn(u64, &[u8]) -> Result<T, CorruptRow>,
    ) -> Result<Vec<(Listed, T)>, Error> {
        let listed = self.glance(|replica| replica.listed(user, &part(0), before, limit))?;
        let listed = listed.read().map_err(|error| self.fail(&error))?;
        let mut items = Vec::with_capacity(listed.len());
        for some in listed.chunks(FOUND_AT_ONCE) {
            let find = |replica: &mut Replica, one: &Listed| replica.find::<ConcertOption>(&one.option, &part(one.no));
            let found = self.glance(|replica| some.iter().map(|one| find(replica, one)).collect::<Vec<_>>())?;
            for (one, found) in some.iter().zip(found) {
                let Some(row) = found.row().map_err(|error| self.fail(&error))? else { continue };
                let item = read(one.no, &row).map_err(|source| self.corrupt(&one.option, source))?;
                items.push((*one, item));
            }
        }
        Ok(items)
    }

    /// Does all of it, even if whoever waits for it goes away in the middle.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let done = self.host.blocking.spawn(work).await;
        done.unwrap_or_else(|error| match error.is_cancelled() {
            true => Err(self.outcome_unknown()),
            false => Err(Error::Internal(format!("a command could not be finished: {error}"))),
        })
    }

    async fn on_blocking_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let done = self.host.blocking.spawn_blocking(work).await;
        done.map_err(|error| match error.is_cancelled() {
            true => self.outcome_unknown(),
            false => Error::Internal(format!("a read could not be finished: {error}")),
        })
    }

    /// State that cannot be read is the end, for this call as for all others.
    fn fail(&self, error: &replica::Error) -> Error {
        self.node.journal.poison(&format!("the state cannot be read: {error}"));
        self.outcome_unknown()
    }

    /// As [`fail`](Self::fail), of a row.
    fn corrupt(&self, whose: &dyn std::fmt::Display, source: CorruptRow) -> Error {
        self.fail(&replica::Error::Corrupt { aggregate: whose.to_string(), source })
    }

    fn unseen(&self, unseen: &Unseen) -> Error {
        match unseen {
            Unseen::Ended => self.outcome_unknown(),
            Unseen::Unreadable(error) => self.fail(error),
        }
    }

    fn now(&self) -> Timestamp {
        self.terms.now()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.get_mut().take() {
            // Whoever drops it may not block: the threads end by themselves, and keep the directory locked until then.
            self.place.let_go(&self.node);
            threads.let_go();
        }
    }
}

/// Where the next page of a list begins, for lists in the order of lsns or numbers.
pub(crate) fn parse_cursor(cursor: Option<&str>) -> Result<Option<u64>, Error> {
    let parse = |cursor: &str| {
        let canonical = cursor.bytes().all(|b| b.is_ascii_digit()) && !cursor.starts_with('0');
        cursor
            .parse()
            .ok()
            .filter(|_| canonical)
            .ok_or_else(|| Error::invalid("cursor", "is not a cursor of this list"))
    };
    cursor.map(parse).transpose()
}

/// A page of `limit` items out of `limit + 1`, each with its place in the list.
fn page<P: std::fmt::Display, T>(mut found: Vec<(P, T)>, limit: usize) -> crate::api::Page<T> {
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|(place, _)| place.to_string());
    crate::api::Page { items: found.into_iter().map(|(_, item)| item).collect(), next_cursor }
}

fn check_limit(limit: usize) -> Result<(), Error> {
    if (1..=500).contains(&limit) { Ok(()) } else { Err(Error::invalid("limit", "must be 1 to 500")) }
}
