//! A stream with three replicas, as JetStream was seen to keep one.

use std::collections::{BTreeSet, VecDeque};

use super::super::random::Random;
use crate::cluster::{Reply, Sequence, Wire};

/// How many servers have a replica.
pub(super) const SERVERS: usize = 3;

/// Another error than a wrong last sequence: no space.
const OTHER_ERROR: u32 = 10_077;
const WRONG_LAST_SEQUENCE: u32 = 10_071;

/// Who published something, so that the answer finds him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub node: usize,
    pub life: u64,
    /// Which publish of that life.
    pub number: u64,
    /// What it expected.
    pub expected: Option<Sequence>,
    /// Whether it is beside the one that may be under way, see [`Flaw::TwoInFlight`](super::Flaw).
    pub beside: bool,
}

/// A publish on its way.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub ticket: Ticket,
    pub wire: Wire,
}

/// The stream.
#[derive(Debug)]
pub(super) struct SimStream {
    /// What a majority has.
    log: Vec<Wire>,
    /// What the leader has taken, and is not shown to anybody yet.
    proposed: VecDeque<Request>,
    leader: Option<usize>,
    /// How much of the log each server shows.
    shown: [usize; SERVERS],
    /// What a server has lost.
    missing: BTreeSet<(usize, usize)>,
    pub elections: u64,
}

impl SimStream {
    pub fn new(first: Wire) -> Self {
        let (log, proposed, missing) = (vec![first], VecDeque::new(), BTreeSet::new());
        Self { log, proposed, leader: Some(0), shown: [1; SERVERS], missing, elections: 0 }
    }

    pub fn has_leader(&self) -> bool {
        self.leader.is_some()
    }

    pub fn has_proposals(&self) -> bool {
        !self.proposed.is_empty()
    }

    pub fn last(&self) -> Sequence {
        Sequence(self.log.len() as u64)
    }

    /// What stands there, for whoever sees everything.
    pub fn at(&self, sequence: Sequence) -> Option<&Wire> {
        self.log.get(sequence.0.checked_sub(1)? as usize)
    }

    /// A publish comes to the leader; an answer if there is one at once. It takes what has not been shown yet into account,
    /// so that a copy is refused before the other one can be seen.
    pub fn receive(&mut self, request: Request, is_full: bool) -> Option<(Ticket, Reply)> {
        self.leader?;
        let last = Sequence((self.log.len() + self.proposed.len()) as u64);
        let (ticket, expected) = (request.ticket, request.ticket.expected);
        if is_full {
            return Some((ticket, Reply::of_error(OTHER_ERROR)));
        }
        if expected.is_some_and(|expected| expected != last) {
            return Some((ticket, Reply::of_error(WRONG_LAST_SEQUENCE)));
        }
        self.proposed.push_back(request);
        None
    }

    /// A majority has the oldest proposal: it is there for good, and acknowledged.
    pub fn commit(&mut self) -> Option<(Ticket, Reply)> {
        let leader = self.leader?;
        let Request { ticket, wire } = self.proposed.pop_front()?;
        self.log.push(wire);
        self.shown[leader] = self.log.len();
        Some((ticket, Reply::Acknowledged(self.last())))
    }

    /// The leader is gone. Of what it had taken any first part is with the others, and will be committed without an
    /// acknowledgement; the rest is lost, though others may have been refused because of it.
    pub fn lose_leader(&mut self, random: &mut Random) {
        if self.leader.take().is_some() {
            let kept = if random.coin() { self.proposed.len() } else { random.below(3) as usize };
            self.proposed.truncate(kept);
        }
    }

    /// Another leader takes over, with all that a majority has, and commits what it was left.
    pub fn elect(&mut self, random: &mut Random) {
        let server = random.below(SERVERS as u64) as usize;
        self.leader = Some(server);
        self.elections += 1;
        self.log.extend(self.proposed.drain(..).map(|request| request.wire));
        self.shown[server] = self.log.len();
    }

    /// A replica catches up, in part.
    pub fn show(&mut self, server: usize, random: &mut Random) {
        let behind = (self.log.len() - self.shown[server]) as u64;
        self.shown[server] += random.below(behind + 1) as usize;
    }

    /// All replicas are whole and up to date.
    pub fn heal(&mut self) {
        self.missing.clear();
        self.shown = [self.log.len(); SERVERS];
    }

    /// A server loses a message, which nobody notices.
    pub fn lose(&mut self, server: usize, random: &mut Random) {
        let index = random.below(self.log.len() as u64) as usize;
        self.missing.insert((server, index));
    }

    /// What a consumer at this server gets that wants what comes from `from` on.
    pub fn consume(&self, server: usize, from: Sequence) -> Option<(Sequence, Wire)> {
        let first = from.0.saturating_sub(1) as usize;
        let index = (first..self.shown[server]).find(|index| !self.missing.contains(&(server, *index)))?;
        Some((Sequence(index as u64 + 1), self.log[index].clone()))
    }

    /// What the leader says of a message; `None` outside if nobody answers.
    pub fn ask_leader(&self, sequence: Sequence) -> Option<Option<Wire>> {
        self.leader?;
        Some(self.at(sequence).cloned())
    }

    /// Where the stream ends, by the leader.
    pub fn ask_leader_for_last(&self) -> Option<Sequence> {
        self.leader.map(|_| self.last())
    }

    /// What any server says of a message: by direct get, or because it takes itself for the leader.
    pub fn ask_stale(&self, server: usize, sequence: Sequence) -> Option<Wire> {
        let index = sequence.0.checked_sub(1)? as usize;
        (index < self.shown[server]).then(|| self.log[index].clone())
    }
}
