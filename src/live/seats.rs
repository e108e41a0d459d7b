//! An option's seats, for all who look on.

use std::collections::VecDeque;
#[cfg(feature = "server")]
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use tokio::sync::{Notify, RwLock, watch};

use super::Hubs;
use super::view::{Changes, View};
use crate::actors::system::{SharedReplica, Unseen};
use crate::api::{AreaSeats, Object, seat_status_name};
use crate::domain::concert_option::{Definition, PricedPlan};
use crate::domain::seat_map::Status;
use crate::domain::{Lsn, OptionId};
use crate::replica;

/// How many deltas from different seqs are shared, until the next change.
const SHARED_DELTAS: usize = 64;
/// A delta with more entries is shared only while somebody has it.
const FEW: usize = 512;
/// Where there is little room, a delta has no more entries than this part of the snapshot, or few.
const SHARE: usize = 4;
/// Of how many flushes it is remembered when they became due.
const REMEMBERED_FLUSHES: usize = 256;

/// What has become of an option's seats: a delta, or a snapshot. Shared by all who need the same.
#[derive(Debug)]
pub struct SeatUpdate {
    seq: Lsn,
    previous_seq: Option<Lsn>,
    /// When the first of the changes became durable.
    changed_at: Instant,
    changes: Changes,
    plan: Arc<PricedPlan>,
    json: OnceLock<String>,
    #[cfg(feature = "server")]
    encoded: OnceLock<Box<dyn Encoded>>,
}

/// What goes over a wire. It is dropped with the update.
#[cfg(feature = "server")]
pub(crate) trait Encoded: AsRef<[u8]> + fmt::Debug + Send + Sync {}

/// What there is room for, where something has to be made before it can be told. What is there is told in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "server"), expect(dead_code, reason = "without a server nothing is counted"))]
pub(crate) enum Room {
    /// For whatever is wanted.
    Plenty,
    /// For what is far smaller than the snapshot of the present, and for that, which many will share.
    Little,
    /// For nothing.
    None,
}

impl SeatUpdate {
    /// The lsn of the last change that is in here.
    #[must_use]
    pub fn seq(&self) -> Lsn {
        self.seq
    }

    /// What a delta follows: it holds every seat that has changed after that. `None`: a snapshot, of all seats.
    #[must_use]
    pub fn previous_seq(&self) -> Option<Lsn> {
        self.previous_seq
    }

    /// Of a delta, the seats that have changed; of a snapshot, those that are not available. Ids and states.
    pub fn seats(&self) -> impl Iterator<Item = (&str, Status)> {
        let plan = &self.plan.plan;
        let seats = self.changes.seats.iter().filter(|(seat, _)| !plan.is_withdrawn(*seat));
        seats.map(|(seat, status)| (plan.seat(*seat).guid, *status))
    }

    /// Of a delta, the areas that have changed; of a snapshot, all.
    pub fn areas(&self) -> impl Iterator<Item = (&str, AreaSeats)> {
        // One that has come since is told to who begins anew.
        let name = |area: u32| Some(self.plan.definition.areas.get(area as usize)?.name.as_str());
        self.changes.areas.iter().filter_map(move |(area, state)| Some((name(*area)?, *state)))
    }

    /// As the API tells it. Serialised once, for everybody.
    ///
    /// # Errors
    /// None that is known: there is nothing in it that JSON does not have.
    pub fn json(&self) -> serde_json::Result<&str> {
        if let Some(json) = self.json.get() {
            return Ok(json);
        }
        let json = serde_json::to_string(self)?;
        Ok(self.json.get_or_init(|| json))
    }

    /// Has the JSON turned into what goes over a wire: once, for everybody.
    #[cfg(feature = "server")]
    pub(crate) fn encode(&self, encode: impl FnOnce(&str) -> Box<dyn Encoded>) -> serde_json::Result<()> {
        if self.encoded.get().is_none() {
            let json = serde_json::to_string(self)?;
            self.encoded.get_or_init(|| encode(&json));
        }
        Ok(())
    }

    /// What goes over a wire; nothing before it has been [encoded](Self::encode).
    #[cfg(feature = "server")]
    pub(crate) fn encoded(&self) -> &[u8] {
        self.encoded.get().map_or(&[], |encoded| (**encoded).as_ref())
    }

    /// How many bytes it takes beside what goes over a wire.
    #[cfg(feature = "server")]
    pub(crate) fn own_bytes(&self) -> usize {
        self.changes.bytes()
    }

    /// How many bytes it takes with that.
    #[cfg(feature = "server")]
    fn bytes(&self) -> usize {
        self.own_bytes() + self.encoded().len()
    }

    /// When the first of the changes became durable.
    #[must_use]
    pub fn changed_at(&self) -> Instant {
        self.changed_at
    }
}

impl Serialize for SeatUpdate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("SeatUpdate", 5)?;
        match self.previous_seq {
            None => {
                fields.serialize_field("type", "snapshot")?;
                fields.serialize_field("option_id", &self.plan.option)?;
                fields.serialize_field("seq", &self.seq)?;
            }
            Some(previous_seq) => {
                fields.serialize_field("type", "delta")?;
                fields.serialize_field("seq", &self.seq)?;
                fields.serialize_field("previous_seq", &previous_seq)?;
            }
        }
        fields.serialize_field("seats", &Object(|| self.seats().map(|(id, status)| (id, seat_status_name(status)))))?;
        fields.serialize_field("areas", &Object(|| self.areas()))?;
        fields.end()
    }
}

/// One option that somebody looks at.
pub(crate) struct Hub {
    plan: Arc<PricedPlan>,
    hubs: Arc<Hubs>,
    replica: Arc<SharedReplica>,
    state: Mutex<State>,
    told: watch::Sender<Told>,
    /// When the first change came that is not told yet.
    marked: Mutex<Option<Instant>>,
    wake: Arc<Notify>,
    /// Read by whoever tells many of an update, until it is told. It has nothing in it.
    telling: Arc<RwLock<()>>,
}

/// What there is to be told, at one seq.
#[derive(Default)]
struct State {
    view: View,
    /// The snapshot of the present, and deltas that lead there from seqs, while somebody has them.
    snapshot: Weak<SeatUpdate>,
    deltas: Vec<(Lsn, Weak<SeatUpdate>)>,
    /// Those of them that are kept until the next change for who comes next.
    kept: Vec<Arc<SeatUpdate>>,
    /// The seqs of the last flushes, and when the first change in each of them became durable.
    flushed: VecDeque<(Lsn, Instant)>,
}

/// What there is to be seen of an option.
enum Seen {
    Nothing,
    Changes(Changes),
    /// Other seats and areas than are known here.
    Others,
}

/// What everybody hears of.
#[derive(Clone, Default)]
struct Told {
    seq: Lsn,
    /// Whether there was a flush.
    flushed: bool,
    /// What leads there from the seq before.
    delta: Option<Arc<SeatUpdate>>,
    ended: bool,
}

impl Hub {
    /// The hub of an option, which stands at `not_before` or later as soon as a flush is over. Its task runs on `runtime`.
    ///
    /// # Errors
    /// The option's rows cannot be had.
    pub(crate) fn of(
        hubs: &Arc<Hubs>,
        replica: &Arc<SharedReplica>,
        plan: &Arc<PricedPlan>,
        window: Duration,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Arc<Self>, replica::Error> {
        let mut entry = hubs.options.entry(plan.option).or_insert_with(|| {
            hubs.len.fetch_add(1, Ordering::SeqCst);
            Weak::new()
        });
        if let Some(hub) = entry.upgrade() {
            return Ok(hub);
        }
        let hub = Arc::new(Self {
            plan: plan.clone(),
            hubs: hubs.clone(),
            replica: replica.clone(),
            state: Mutex::default(),
            told: watch::Sender::new(Told::default()),
            marked: Mutex::default(),
            wake: Arc::default(),
            telling: Arc::default(),
        });
        *entry = Arc::downgrade(&hub);
        // From here on the projector marks it, so that nothing falls between this and its first look.
        drop(entry);
        hub.flush()?;
        if hubs.has_ended() {
            hub.end();
        }
        runtime.spawn(run(Arc::downgrade(&hub), hub.wake.clone(), window));
        Ok(hub)
    }

    /// Of which option.
    pub(super) fn option(&self) -> OptionId {
        self.plan.option
    }

    /// The option has changed.
    pub(super) fn mark(&self) {
        let mut marked = self.marked.lock();
        if marked.is_none() {
            *marked = Some(Instant::now());
            self.wake.notify_one();
        }
    }

    /// Whether it can tell of all seats and areas of an option.
    pub(super) fn has_places_of(&self, definition: &Definition) -> bool {
        self.plan.definition.has_places_of(definition)
    }

    pub(super) fn end(&self) {
        self.told.send_modify(|told| told.ended = true);
    }

    /// Tells what has changed since the last time.
    fn flush(&self) -> Result<(), replica::Error> {
        let marked_at = self.marked.lock().take().unwrap_or_else(Instant::now);
        let mut state = self.state.lock();
        let before = state.view.seq();
        let changes = self.replica.read(|replica| {
            let option = replica.option(self.plan.option)?;
            if !option.definition().is_some_and(|definition| self.has_places_of(definition)) {
                return Ok(Seen::Others);
            }
            let is_new = option.seq() != before || state.flushed.is_empty();
            Ok(if is_new { Seen::Changes(state.view.advance(option)) } else { Seen::Nothing })
        });
        let changes = match changes {
            Ok(Seen::Changes(changes)) => changes,
            Ok(Seen::Nothing) | Err(Unseen::Ended) => return Ok(()),
            Ok(Seen::Others) => {
                drop(state);
                self.hubs.begin_anew(self);
                return Ok(());
            }
            Err(Unseen::Unreadable(error)) => return Err(error),
        };
        let seq = state.view.seq();
        state.snapshot = Weak::new();
        state.deltas.clear();
        let forgotten = std::mem::take(&mut state.kept);
        state.flushed.push_back((seq, marked_at));
        if state.flushed.len() > REMEMBERED_FLUSHES {
            state.flushed.pop_front();
        }
        let delta = Arc::new(self.update(seq, Some(before), marked_at, changes));
        drop(state);
        // They may be large, and the last to have them.
        drop(forgotten);
        self.told.send_modify(|told| {
            told.seq = seq;
            told.flushed = true;
            told.delta = Some(delta);
        });
        Ok(())
    }

    /// Forgets what is kept only for those who may come; but not the last delta, which many are about to be told, if it is
    /// short and has no more than `keep` bytes. How many of these are left.
    #[cfg(feature = "server")]
    pub(super) fn let_go(&self, keep: usize) -> usize {
        let mut kept = 0;
        let mut forgotten = std::mem::take(&mut self.state.lock().kept);
        self.told.send_if_modified(|told| {
            forgotten.extend(told.delta.take_if(|delta| delta.changes.len() > FEW || delta.bytes() > keep));
            kept = told.delta.as_ref().map_or(0, |delta| delta.bytes());
            // It is nothing new.
            false
        });
        // Not under a lock: it may be large.
        drop(forgotten);
        keep.saturating_sub(kept)
    }

    fn update(&self, seq: Lsn, previous_seq: Option<Lsn>, changed_at: Instant, changes: Changes) -> SeatUpdate {
        SeatUpdate {
            seq,
            previous_seq,
            changed_at,
            changes,
            plan: self.plan.clone(),
            json: OnceLock::new(),
            #[cfg(feature = "server")]
            encoded: OnceLock::new(),
        }
    }

    /// What begins the story for somebody: a delta from `since`, if there was such a seq.
    fn first(&self, since: Option<Lsn>, room: Room) -> Option<Arc<SeatUpdate>> {
        let mut state = self.state.lock();
        // Who knows another seating plan begins anew.
        let known = self.plan.plan_since()..=state.view.seq();
        let since = since.filter(|since| known.contains(since));
        let delta = since.and_then(|since| self.delta(&mut state, since, room));
        delta.or_else(|| self.snapshot(&mut state, room))
    }

    /// What leads somebody on who has fallen behind and stands at `seq`: a delta, or a snapshot if that is shorter.
    fn catch_up(&self, seq: Lsn, room: Room) -> Option<Arc<SeatUpdate>> {
        let counters = self.hubs.counters();
        let mut state = self.state.lock();
        let delta = self.delta(&mut state, seq, room);
        if let Some(delta) = delta.filter(|delta| delta.changes.len() <= state.view.snapshot_len()) {
            counters.conflations.fetch_add(1, Ordering::Relaxed);
            return Some(delta);
        }
        let snapshot = self.snapshot(&mut state, room)?;
        counters.resyncs.fetch_add(1, Ordering::Relaxed);
        Some(snapshot)
    }

    /// The delta from `since`; `None` if there is no room for one.
    fn delta(&self, state: &mut State, since: Lsn, room: Room) -> Option<Arc<SeatUpdate>> {
        let mut known = state.deltas.iter().filter(|(from, _)| *from == since);
        if let Some(known) = known.find_map(|(_, delta)| delta.upgrade()) {
            return Some(known);
        }
        if room == Room::None {
            return None;
        }
        let changes = state.view.changed_after(since);
        let is_little = changes.len() <= FEW.max(state.view.snapshot_len() / SHARE);
        if room != Room::Plenty && !is_little {
            return None;
        }
        let changed_at = state.flushed.iter().find(|(seq, _)| *seq > since).map_or_else(Instant::now, |(_, at)| *at);
        let delta = Arc::new(self.update(state.view.seq(), Some(since), changed_at, changes));
        state.deltas.retain(|(_, delta)| delta.strong_count() > 0);
        if state.deltas.len() < SHARED_DELTAS {
            state.deltas.push((since, Arc::downgrade(&delta)));
            state.kept.extend((delta.changes.len() <= FEW).then(|| delta.clone()));
        }
        Some(delta)
    }

    /// The snapshot of the present; `None` if there is none, and no room for it.
    fn snapshot(&self, state: &mut State, room: Room) -> Option<Arc<SeatUpdate>> {
        if let Some(known) = state.snapshot.upgrade() {
            return Some(known);
        }
        if room == Room::None {
            return None;
        }
        let snapshot = Arc::new(self.update(state.view.seq(), None, Instant::now(), state.view.snapshot()));
        state.snapshot = Arc::downgrade(&snapshot);
        state.kept.push(snapshot.clone());
        Some(snapshot)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let hubs = &self.hubs;
        // Another one may have taken its place.
        if hubs.options.remove_if(&self.plan.option, |_, hub| hub.strong_count() == 0).is_some() {
            hubs.len.fetch_sub(1, Ordering::SeqCst);
        }
        self.wake.notify_one();
    }
}

/// Flushes a hub whenever it is marked, with a pause of `window` after each flush, and not before the last one has been
/// told: what comes in between is told together.
async fn run(hub: Weak<Hub>, wake: Arc<Notify>, window: Duration) {
    loop {
        wake.notified().await;
        {
            let Some(hub) = hub.upgrade() else { return };
            let _told = hub.telling.write().await;
            hub.hubs.counters().flushes.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = hub.flush() {
                // Whoever reads next finds the same, and that is the end of the engine.
                tracing::error!(%error, option = %hub.plan.option, "the seats cannot be read");
            }
        }
        tokio::time::sleep(window).await;
    }
}

/// Somebody who follows an option's seats.
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    told: watch::Receiver<Told>,
    at: At,
}

/// Where somebody stands.
enum At {
    /// Before the first update, which is about `not_before` or later.
    Start { since: Option<Lsn>, not_before: Lsn },
    /// Has heard everything up to here.
    Seq(Lsn),
}

/// There will be no more changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended;

impl Subscription {
    /// Follows `hub` from `since` on, or from the present. What it hears first is about `not_before` or later.
    pub(crate) fn new(hub: Arc<Hub>, since: Option<Lsn>, not_before: Lsn) -> Self {
        hub.hubs.counters().seat_subscribers.fetch_add(1, Ordering::Relaxed);
        let told = hub.told.subscribe();
        Self { hub, told, at: At::Start { since, not_before } }
    }

    /// Where it stands: what it has heard of up to there. `None` before the first update.
    #[cfg(feature = "server")]
    pub(crate) fn seq(&self) -> Option<Lsn> {
        match self.at {
            At::Start { .. } => None,
            At::Seq(seq) => Some(seq),
        }
    }

    /// Somebody else has told it everything up to `seq`.
    #[cfg(feature = "server")]
    pub(crate) fn has_heard(&mut self, seq: Lsn) {
        self.at = At::Seq(seq);
    }

    /// One that tells many what this one follows.
    #[cfg(feature = "server")]
    pub(crate) fn crier(&self) -> Crier {
        let told = self.hub.told.subscribe();
        let seq = told.borrow().seq;
        Crier { hub: self.hub.clone(), told, seq }
    }

    /// The next update: everything since the last one. May be called again after it was cancelled.
    pub(crate) async fn next(&mut self) -> Result<Arc<SeatUpdate>, Ended> {
        loop {
            self.due().await?;
            if let Some(update) = self.take(Room::Plenty) {
                return Ok(update);
            }
        }
    }

    /// Waits until there is something to be told. May be called again after it was cancelled.
    pub(crate) async fn due(&mut self) -> Result<(), Ended> {
        loop {
            {
                let told = self.told.borrow_and_update();
                if self.at.is_due(&told) {
                    return Ok(());
                }
                if told.ended {
                    return Err(Ended);
                }
            }
            // It cannot fail: the hub, which has the sender, is ours.
            let _ = self.told.changed().await;
        }
    }

    /// The next update, if there is one, and it is there or there is room for it.
    pub(crate) fn take(&mut self, room: Room) -> Option<Arc<SeatUpdate>> {
        let told = self.told.borrow().clone();
        if !self.at.is_due(&told) {
            return None;
        }
        let update = match self.at {
            At::Start { since, .. } => self.hub.first(since, room),
            At::Seq(seq) => {
                let fits = told.delta.filter(|delta| delta.previous_seq == Some(seq));
                fits.or_else(|| self.hub.catch_up(seq, room))
            }
        }?;
        self.at = At::Seq(update.seq);
        Some(update)
    }

    /// Has all hubs forget what they keep only for those who may come, but short last deltas of `keep` bytes in all.
    #[cfg(feature = "server")]
    pub(crate) fn let_go(&self, keep: usize) {
        self.hub.hubs.let_go(keep);
    }
}

impl At {
    /// Whether there is something that has not been heard.
    fn is_due(&self, told: &Told) -> bool {
        match self {
            Self::Start { not_before, .. } => told.flushed && told.seq >= *not_before,
            Self::Seq(seq) => told.seq > *seq,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.hubs.counters().seat_subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Somebody who tells many of an option's changes.
#[cfg(feature = "server")]
pub(crate) struct Crier {
    hub: Arc<Hub>,
    told: watch::Receiver<Told>,
    seq: Lsn,
}

/// As long as it is there, an update is being told, and the next one grows.
#[cfg(feature = "server")]
pub(crate) struct Telling(#[expect(dead_code, reason = "it is held")] tokio::sync::OwnedRwLockReadGuard<()>);

#[cfg(feature = "server")]
impl Crier {
    /// What leads on those who stand at this seq is told next.
    pub(crate) fn seq(&self) -> Lsn {
        self.seq
    }

    /// Has all hubs forget what they keep only for those who may come, but short last deltas of `keep` bytes in all.
    pub(crate) fn let_go(&self, keep: usize) {
        self.hub.hubs.let_go(keep);
    }

    /// The next update: everything since the last one.
    pub(crate) async fn next(&mut self) -> Result<(Arc<SeatUpdate>, Telling), Ended> {
        loop {
            let telling = Telling(self.hub.telling.clone().read_owned().await);
            let told = self.told.borrow_and_update().clone();
            if told.seq > self.seq {
                let fits = told.delta.filter(|delta| delta.previous_seq == Some(self.seq));
                // There is room, so there is one.
                if let Some(update) = fits.or_else(|| self.hub.catch_up(self.seq, Room::Plenty)) {
                    self.seq = update.seq;
                    return Ok((update, telling));
                }
            }
            drop(telling);
            if told.ended {
                return Err(Ended);
            }
            // It cannot fail: the hub, which has the sender, is ours.
            let _ = self.told.changed().await;
        }
    }
}
