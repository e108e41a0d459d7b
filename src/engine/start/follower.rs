//! A node of a cluster: its journal follows the log, and what it decides while it owns goes there. A plain part: whoever
//! drives it tells what was heard, and does what comes of that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cluster::{
    Act, ClusterId, Epoch, Fault, Fence, Heard, Known, Member, NotAppended, Publish, Reader, Sequence, State,
};
use crate::domain::seating_plan::PlanHash;
use crate::domain::{Lsn, catalogue, concert_option};
use crate::store::codec;
use crate::store::committer::{Batches, Next};
use crate::store::journal::{self, LocalCopy, WholeFrame};
use crate::store::node::Journal;
use crate::store::standing::Standing;

/// A node that follows the log, and owns it now and then.
pub(crate) struct Follower {
    member: Member,
    copy: LocalCopy,
    journal: Journal,
    standing: Standing,
    /// Of the term under way.
    batches: Option<Batches>,
    /// How far this node's journal is durable on its own disk.
    synced: State,
    /// What is remembered of other nodes, and whether that is written down.
    known: Known,
    is_written: bool,
}

/// What others have to do, in this order.
#[derive(Debug)]
pub(crate) enum Order {
    /// Publish this, and let [`Follower::hear`] know what became of it.
    Publish {
        /// Whose answer it is.
        number: u64,
        /// What.
        publish: Publish,
        /// There is no hurry.
        again: bool,
    },
    /// Ask the stream's leader for this message.
    Fetch(Sequence),
    /// Ask the stream's leader where the stream ends.
    Look,
    /// An option was added whose seating plan is this one: it should be on this node's disk.
    Plan(PlanHash),
    /// Begin a term, and hand its batches over by [`Follower::begun`].
    Begin(Epoch),
    /// End the term.
    End,
    /// All that the term decided is in the log, and it decides nothing more.
    Drained,
}

/// Why a node cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stuck {
    /// The stream cannot be read on.
    #[error("the log cannot be followed: {0}")]
    Log(#[from] Fault),
    /// The log has forgotten what this node would have to read next.
    #[error(
        "the log cannot be followed: {0}; this node was away for too long: start it again, and it copies what it lacks"
    )]
    Forgotten(Fault),
    /// This node's own journal.
    #[error("the journal cannot be written: {0}")]
    Journal(#[from] journal::Error),
    /// A frame of the log holds something that this program does not know.
    #[error("the log cannot be followed: {0}")]
    Frame(#[from] codec::Error),
    /// What was decided does not fit into a frame of the log.
    #[error("what was decided cannot be appended: {0}")]
    Unfit(#[from] NotAppended),
    /// How far it has read cannot be written down.
    #[error("{file} cannot be written: {source}")]
    Standing {
        /// Which file.
        file: String,
        /// What the disk said.
        source: std::io::Error,
    },
    /// A server that was not there when this node started.
    #[error("NATS server {0} does not sync each message: set `sync_interval: always` in its section `jetstream`")]
    NotSynced(String),
    /// Another process has the name of this node.
    #[error("another process is node {0} too: each needs a name of its own")]
    Namesake(String),
    /// The journal has failed or is closed.
    #[error("the journal is closed")]
    Closed,
}

impl Follower {
    /// Of the process `me`, on a journal that was read up to `state`; `None` before its first message of the stream that was
    /// made at `created` and ends at `last`.
    ///
    /// # Errors
    /// It is another stream than the one that was followed, or the disk fails.
    pub(crate) fn new(
        me: Fence,
        copy: LocalCopy,
        state: Option<(State, Known)>,
        (created, last): (u64, Sequence),
        journal: Journal,
        standing: Standing,
        patience: Duration,
    ) -> Result<Self, Stuck> {
        let is_new = state.is_none();
        let (state, known) = state.unzip();
        let known = known.unwrap_or_default();
        let reader = state.map_or_else(|| Reader::join(created, copy.tip()), Reader::resume).of_version(me.format);
        reader.recognise(created, last)?;
        let synced = reader.state().clone();
        let member = Member::new(me, reader, patience);
        let mut follower = Self { member, copy, journal, standing, batches: None, synced, known, is_written: true };
        if is_new {
            // Before the first frame: from here on it is a copy, which may end otherwise than the journal of one machine.
            follower.write_down()?;
        }
        Ok(follower)
    }

    /// Remembers this of other nodes, from the next [`sync`](Self::sync) on also after a restart.
    pub(crate) fn remember(&mut self, known: &Known) {
        if self.known != *known {
            (self.known, self.is_written) = (known.clone(), false);
        }
    }

    /// How far the stream was read, and whose it is.
    pub(crate) fn state(&self) -> &State {
        self.member.state()
    }

    /// The member that it is.
    pub(crate) fn member(&mut self) -> &mut Member {
        &mut self.member
    }

    /// Begins the log of a new cluster here, if there is none.
    pub(crate) fn found(&mut self, cluster: ClusterId) {
        self.member.found(cluster);
    }

    /// Takes in what was heard. What is not the log's own business is passed over.
    ///
    /// # Errors
    /// It cannot be read on; nothing has changed.
    pub(crate) fn hear(&mut self, now: Duration, heard: &Heard) -> Result<(), Fault> {
        match heard {
            Heard::Replied(number, reply) => self.member.replied(now, *number, *reply),
            Heard::Fetched(sequence, wire) => self.member.fetched(*sequence, wire.as_ref()),
            Heard::Read(sequence, wire) => self.member.read(*sequence, wire),
            Heard::End(last) => {
                self.member.end_is(*last);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The term that [`Order::Begin`] wanted has begun.
    pub(crate) fn begun(&mut self, batches: Batches) {
        self.batches = Some(batches);
    }

    /// Whether a term is under way.
    pub(crate) fn has_term(&self) -> bool {
        self.batches.is_some()
    }

    /// Does what can be done here; gives what others have to do.
    ///
    /// # Errors
    /// It cannot go on.
    pub(crate) fn go_on(&mut self) -> Result<Option<Order>, Stuck> {
        loop {
            let Some(act) = self.member.next_act() else { return self.send() };
            match act {
                Act::Publish { number, publish, again } => return Ok(Some(Order::Publish { number, publish, again })),
                Act::Fetch(sequence) => return Ok(Some(Order::Fetch(sequence))),
                Act::Look => return Ok(Some(Order::Look)),
                Act::Own(epoch) => return Ok(Some(Order::Begin(epoch))),
                Act::Deposed => {
                    self.batches = None;
                    return Ok(Some(Order::End));
                }
                Act::Write(frame) => self.copy.take(&frame)?,
                Act::Follow(frame) => {
                    if let Some(hash) = self.follow(&frame)? {
                        return Ok(Some(Order::Plan(hash)));
                    }
                }
                Act::Durable(_) => {
                    let done = self.batches.as_mut().is_none_or(Batches::done);
                    if !done {
                        return Err(Stuck::Closed);
                    }
                }
            }
        }
    }

    /// Takes in a frame of another node; gives the last plan that an option is sold by from then on, if there is one.
    fn follow(&mut self, frame: &WholeFrame) -> Result<Option<PlanHash>, Stuck> {
        self.copy.take(frame)?;
        if frame.is_fence() {
            return Ok(None);
        }
        let records = codec::decode_batch(frame.first_lsn(), frame.count(), frame.payload())?;
        let plan = records.iter().rev().find_map(|(_, record)| plan_of(record));
        let batch = records.into_iter().map(|(lsn, record)| (lsn, Arc::new(record))).collect();
        // What is not in a checkpoint yet is counted in these too, whoever has decided it.
        self.journal.counters().bytes.fetch_add(frame.padded_bytes(), Ordering::Relaxed);
        let after = frame.after();
        let taken = self.journal.advance(Lsn(after.next_lsn.0 - 1), after.at, &Arc::new(batch));
        if taken { Ok(plan) } else { Err(Stuck::Closed) }
    }

    /// Appends what the term has decided, if nothing is under way.
    fn send(&mut self) -> Result<Option<Order>, Stuck> {
        let (Some(batches), Some(_)) = (&mut self.batches, self.member.ready()) else { return Ok(None) };
        let sent = match batches.take() {
            Next::Frame(frame) => self.member.append(&frame),
            Next::Confirm => self.member.mark(),
            Next::Idle => return Ok(None),
            Next::Seal => {
                self.batches = None;
                return Ok(Some(Order::Drained));
            }
            Next::Ended => {
                self.batches = None;
                return Ok(None);
            }
        };
        sent?;
        self.go_on()
    }

    /// Makes this node's journal durable on its own disk, and writes down how far it has read. Everything that
    /// [`go_on`](Self::go_on) gives must have been taken.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn sync(&mut self) -> Result<(), Stuck> {
        if self.synced != *self.member.state() || !self.is_written {
            self.write_down()?;
        }
        Ok(())
    }

    fn write_down(&mut self) -> Result<(), Stuck> {
        let tip = self.copy.sync()?;
        let state = self.member.state().clone();
        debug_assert_eq!(tip, state.tip, "what was read is written");
        let failed = |source| Stuck::Standing { file: self.standing.path().display().to_string(), source };
        self.standing.write(&state.encode_with(&self.known)).map_err(failed)?;
        self.synced = state;
        self.is_written = true;
        Ok(())
    }

    /// How far it was read down to this node's own disk.
    pub(crate) fn synced(&self) -> &State {
        &self.synced
    }
}

/// The seating plan that an option was added with, or is sold by from then on.
pub(super) fn plan_of(record: &codec::Record) -> Option<PlanHash> {
    match &record.facts {
        codec::Facts::Catalogue(_, events) => events.iter().find_map(|event| match event {
            catalogue::Event::OptionAdded { definition, .. } => Some(definition.plan),
            _ => None,
        }),
        codec::Facts::Option(_, events) => events.iter().rev().find_map(|event| match event {
            concert_option::Event::OptionChanged { definition, .. } => Some(definition.plan),
            _ => None,
        }),
        _ => None,
    }
}
