//! Seats for those who are up to date: one task writes an update to all of them, one after the other.
//!
//! To wake ten thousand tasks so that each writes the same bytes costs half as much again as the writing. So whoever has
//! heard everything, and has nothing on its way, joins a round, which writes the next update as well. The round never waits:
//! whoever does not take all of an update at once gets the rest of it back, writes it when there is room, catches up, and
//! joins again. It costs the round nothing until then.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::held::Held;
use crate::domain::Lsn;
use crate::engine::SeatChanges;
use crate::error::Error;
use crate::live::seats::{Crier, SeatUpdate};
use crate::server::metrics::LiveMetrics;

/// To how many is written before others on the same thread have their turn.
const STEP: usize = 32;

/// One task that writes an option's updates to many connections. It ends with this.
pub(super) struct Round {
    members: Arc<Mutex<Members>>,
    task: AbortHandle,
}

struct Members {
    /// What has been heard of by those to whom nothing needs to be written; they stand here, or later.
    seq: Lsn,
    list: Vec<Member>,
    /// Nobody may join any more.
    ended: bool,
}

struct Member {
    /// Where it stands.
    seq: Lsn,
    io: Arc<TcpStream>,
    spot: Arc<Spot>,
}

/// What a connection and a round have in common.
#[derive(Default)]
struct Spot {
    /// Changed under the lock of the members.
    place: Mutex<Place>,
    /// It was given back.
    back: Notify,
}

/// Where a connection is.
#[derive(Default)]
enum Place {
    /// With itself.
    #[default]
    Away,
    /// With the round, at this place in the list.
    In(usize),
    /// Given back.
    Back(Left),
}

/// How somebody was left.
struct Left {
    /// Everything up to here was heard, or is in the rest.
    seq: Lsn,
    rest: Option<Rest>,
}

/// An update, and how many bytes of it are out.
pub(super) type Rest = (Arc<SeatUpdate>, usize);

impl Round {
    /// Begins a round, on the runtime that this is called on, wherever the updates of `changes` lead.
    pub(super) fn start(changes: &mut SeatChanges, held: Arc<Held>, metrics: LiveMetrics) -> Arc<Self> {
        let crier = changes.subscription().crier();
        let members = Arc::new(Mutex::new(Members { seq: crier.seq(), list: Vec::new(), ended: false }));
        let task = tokio::spawn(round(members.clone(), crier, held, metrics)).abort_handle();
        Arc::new(Self { members, task })
    }

    /// Whether nobody is told anything any more.
    pub(super) fn has_ended(&self) -> bool {
        self.members.lock().ended
    }

    /// Whether the round has this connection now, which stands at `seq` if it has not.
    fn takes(&self, spot: &Arc<Spot>, io: &Arc<TcpStream>, seq: Lsn) -> bool {
        let mut members = self.members.lock();
        let mut place = spot.place.lock();
        match *place {
            Place::In(_) => true,
            Place::Back(_) => false,
            // It would not be told of what it has missed before there is more.
            Place::Away if seq < members.seq || members.ended => false,
            Place::Away => {
                *place = Place::In(members.list.len());
                members.list.push(Member { seq, io: io.clone(), spot: spot.clone() });
                true
            }
        }
    }

    /// Gives a connection back, if it is not with itself.
    fn leave(&self, spot: &Spot) -> Option<Left> {
        let mut members = self.members.lock();
        let place = std::mem::take(&mut *spot.place.lock());
        match place {
            Place::Away => None,
            Place::In(index) => Some(Left { seq: members.remove(index).seq, rest: None }),
            Place::Back(left) => Some(left),
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn round(members: Arc<Mutex<Members>>, mut crier: Crier, held: Arc<Held>, metrics: LiveMetrics) {
    loop {
        let from = crier.seq();
        let Ok((update, telling)) = crier.next().await else { break };
        if held.encode(&update).is_err() {
            // They find out for themselves.
            break;
        }
        // Nobody who is up to date waits for room, but those go who take nothing while there is none.
        held.room(|keep| crier.let_go(keep));
        let mut left = members.lock().begin(update.seq());
        while left > 0 {
            left = members.lock().tell(&update, from, left, &metrics);
            tokio::task::yield_now().await;
        }
        drop(telling);
    }
    members.lock().end();
}

impl Members {
    /// Begins to tell an update that leads to `seq`; to how many, at the most.
    fn begin(&mut self, seq: Lsn) -> usize {
        self.seq = seq;
        self.list.len()
    }

    /// Tells some of the first `left` in the list, from the last one on; gives how many are left. Whoever joins or leaves in
    /// between changes nothing about those who are left: at the end there are only such as have heard it already.
    fn tell(&mut self, update: &Arc<SeatUpdate>, from: Lsn, left: usize, metrics: &LiveMetrics) -> usize {
        let left = left.min(self.list.len());
        let stop = left.saturating_sub(STEP);
        for index in (stop..left).rev() {
            let member = &mut self.list[index];
            if member.seq >= update.seq() {
                continue;
            }
            if member.seq != from {
                self.give_back(index, None);
                continue;
            }
            // What is wrong with one that takes nothing, its owner finds out.
            let written = member.io.try_write(update.encoded()).unwrap_or(0);
            if written == 0 {
                self.give_back(index, None);
                continue;
            }
            member.seq = update.seq();
            metrics.sent(update.encoded());
            metrics.told(update);
            if written < update.encoded().len() {
                self.give_back(index, Some((update.clone(), written)));
            }
        }
        stop
    }

    fn give_back(&mut self, index: usize, rest: Option<Rest>) {
        let Member { seq, spot, .. } = self.remove(index);
        *spot.place.lock() = Place::Back(Left { seq, rest });
        spot.back.notify_one();
    }

    fn remove(&mut self, index: usize) -> Member {
        let member = self.list.swap_remove(index);
        if let Some(moved) = self.list.get(index) {
            *moved.spot.place.lock() = Place::In(index);
        }
        member
    }

    fn end(&mut self) {
        self.ended = true;
        for index in (0..self.list.len()).rev() {
            self.give_back(index, None);
        }
    }
}

/// Somebody who follows an option's seats over a connection: with a round, or alone while there is something to catch up on.
pub(super) struct Follower {
    changes: SeatChanges,
    held: Arc<Held>,
    round: Arc<Round>,
    spot: Arc<Spot>,
}

impl Follower {
    /// Somebody who does as `changes` does. The connection is its own until it waits for the [next](Self::next) update.
    pub(super) fn new(changes: SeatChanges, held: Arc<Held>, round: Arc<Round>) -> Self {
        Self { changes, held, round, spot: Arc::default() }
    }

    /// Waits until there is something to be written by oneself. Meanwhile, and also once this was cancelled until one has
    /// [left](Self::leave), a round may write to `io`, and nobody else.
    pub(super) async fn next(&mut self, io: &Arc<TcpStream>) -> Result<Rest, Error> {
        if let Some(seq) = self.changes.subscription().seq() {
            while self.round.takes(&self.spot, io, seq) {
                self.spot.back.notified().await;
            }
            if let Some(rest) = self.leave() {
                return Ok(rest);
            }
        }
        Ok((self.held.next(&mut self.changes).await?, 0))
    }

    /// Takes the connection back from the round, together with what is begun.
    pub(super) fn leave(&mut self) -> Option<Rest> {
        let left = self.round.leave(&self.spot)?;
        self.changes.subscription().has_heard(left.seq);
        left.rest
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.leave();
    }
}
