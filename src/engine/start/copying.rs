//! Copying a journal from another node of the cluster: what a new node has to do, and one that was away for so long that the
//! log has less than it lacks. What comes is a chain of frames, each of which has to continue the one before, so that nothing
//! else can be copied than what that node has; and where it ends, how far that node had read the log.
//!
//! One question asks for what follows the end of a chain. The answer has as many frames as fit, or a part of one that does not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minicbor::{Decode, Encode};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::follower::plan_of;
use super::member::{Inbox, SYNC};
use crate::cluster::{
    Asking, Beat, Found, Link, NodeName, Patience, Reader as LogReader, Sequence, State, Unanswered, Wire,
};
use crate::cluster::{Body, Message};
use crate::domain::{Lsn, Timestamp};
use crate::error::OpenError;
use crate::store::codec;
use crate::store::journal::{self, Frames, LocalCopy, Options, Tip, WholeFrame};
use crate::store::plans::Plans;
use crate::store::standing::Standing;

/// Bytes of frames in one answer, at the most.
const ANSWER_BYTES: usize = 512 << 10;
/// How long one answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// How often an answer that did not come is asked for again.
const TRIES: u32 = 5;
/// Bytes that are copied between two syncs.
const SYNC_BYTES: usize = 64 << 20;

/// What follows here?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Question {
    #[n(0)]
    next_lsn: u64,
    #[n(1)]
    at_millis: u64,
    #[n(2)]
    crc: u32,
    /// Bytes of the next frame that are there already.
    #[n(3)]
    part: u64,
}

/// What does.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Copied {
    /// Whole frames, in order.
    #[n(0)]
    frames: Vec<minicbor::bytes::ByteVec>,
    /// Some bytes of a frame that is too long for one answer, and how many it has.
    #[n(1)]
    part: Option<(minicbor::bytes::ByteVec, u64)>,
    /// How far the log was read, if there is nothing else.
    #[n(2)]
    state: Option<minicbor::bytes::ByteVec>,
    /// Why there is no answer.
    #[n(3)]
    refused: Option<String>,
}

impl Copied {
    fn refused(why: impl ToString) -> Self {
        Self { frames: Vec::new(), part: None, state: None, refused: Some(why.to_string()) }
    }
}

/// Lets other nodes copy this one's journal, as far as it is durable on its own disk.
pub(super) struct Copying {
    frames: Frames,
    /// Where the last question ended, and the reader that stands there: the next one goes on.
    last: Mutex<Option<(Tip, journal::Reader)>>,
}

impl Copying {
    pub(super) fn new(frames: Frames) -> Self {
        Self { frames, last: Mutex::default() }
    }

    /// Answers a question; `synced` is how far this node's journal is durable on its own disk. Blocks.
    pub(super) fn answer(&self, question: &[u8], synced: &State) -> Vec<u8> {
        let answer = match minicbor::decode::<Question>(question) {
            Ok(question) => self.copied(&question, synced).unwrap_or_else(Copied::refused),
            Err(error) => Copied::refused(error),
        };
        // Writing to memory cannot fail.
        minicbor::to_vec(&answer).unwrap_or_default()
    }

    fn copied(&self, question: &Question, synced: &State) -> Result<Copied, String> {
        if synced.tip.next_lsn < Lsn(question.next_lsn) {
            return Err("this node has not got so far itself".into());
        }
        let at = Timestamp::from_millis(question.at_millis);
        let mut tip = Tip { next_lsn: Lsn(question.next_lsn), at, crc: question.crc };
        let mut reader = match self.last.lock().take() {
            Some((end, reader)) if end == tip => reader,
            _ => self.frames.after(tip).map_err(|error| match error {
                journal::Error::Damaged { .. } => {
                    "this node's journal is another than the cluster's, or damaged: empty \
                                                   its data directory, and it is copied anew"
                        .into()
                }
                error => error.to_string(),
            })?,
        };
        let mut copied = Copied { frames: Vec::new(), part: None, state: None, refused: None };
        let mut bytes = 0;
        loop {
            let Some(length) = reader.next_link_bytes(synced.tip).map_err(|error| error.to_string())? else {
                if copied.frames.is_empty() {
                    copied.state = Some(synced.encode().into());
                }
                break;
            };
            let is_first = copied.frames.is_empty();
            if bytes + length > ANSWER_BYTES && !is_first {
                break;
            }
            let frame = reader.link().map_err(|error| error.to_string())?;
            if length > ANSWER_BYTES {
                let from = usize::try_from(question.part).unwrap_or(usize::MAX).min(length);
                let to = length.min(from + ANSWER_BYTES);
                copied.part = Some((frame.bytes()[from..to].to_vec().into(), length as u64));
                // The next question is for the same frame.
                return Ok(copied);
            }
            bytes += length;
            tip = frame.after();
            copied.frames.push(frame.bytes().to_vec().into());
        }
        *self.last.lock() = Some((tip, reader));
        Ok(copied)
    }
}

/// What to do about a damaged copy.
fn anew(error: journal::Error) -> OpenError {
    match error {
        journal::Error::Damaged { file, offset, what, .. } => OpenError::Cluster(format!(
            "{} is damaged at byte {offset}: {what}; empty the data directory, and it is copied anew from another node",
            file.display()
        )),
        error => error.into(),
    }
}

/// What a node that is to join has of itself, and what it finds.
pub(super) struct Newcomer<'a> {
    pub(super) frames: &'a Frames,
    pub(super) options: Options,
    pub(super) standing: &'a Standing,
    pub(super) link: &'a Arc<dyn Link>,
    pub(super) found: Found,
    pub(super) inbox: &'a Inbox,
    pub(super) patience: Patience,
    pub(super) runtime: &'a Handle,
    pub(super) plans: &'a Plans,
    /// Whether it may begin the log with what it has.
    pub(super) founds: bool,
}

impl Newcomer<'_> {
    /// Copies what this node lacks and the log has no more, if there is that: afterwards the directory is as if the node had
    /// read the log from its beginning. Blocks.
    ///
    /// # Errors
    /// No other node can be asked, what it has does not continue this node's journal, or the disk fails.
    pub(super) fn catch_up(self) -> Result<(), OpenError> {
        let failed = |why: String| OpenError::Cluster(why);
        let bytes = self.standing.read().map_err(|error| failed(error.to_string()))?;
        let state = bytes.map(|bytes| State::decode_with(&bytes)).transpose();
        let (state, known) = state.map_err(|error| failed(error.to_string()))?.unzip();
        let (mut copy, state) = match state {
            Some(state) => (self.frames.open_copy(self.options.clone(), state.tip).map_err(anew)?, Some(state)),
            None => (self.frames.begin_copy(self.options.clone(), Lsn(0))?, None),
        };
        let Found { created, last, .. } = self.found;
        if let Some(state) = &state {
            // It must not be found out when the node is half there.
            LogReader::resume(state.clone()).recognise(created, last).map_err(|fault| failed(fault.to_string()))?;
        } else if last == Sequence(0) && copy.tip() != Tip::default() && !self.founds {
            let why = "there is no log yet, and this directory has a journal: start its first node with --found";
            return Err(failed(why.into()));
        }
        if !self.lacks(state.as_ref(), copy.tip()) {
            return Ok(());
        }
        // What the log has forgotten, others may only just have on their disks.
        let patience = self.patience.suspect_after.max(self.patience.beat * 8) + SYNC * 2;
        let peer = self.inbox.wait_for_peer(self.found.first, patience);
        let node = peer.as_ref().and_then(|beat: &Beat| NodeName::new(&beat.node)).ok_or_else(|| {
            failed("this node lacks what the log has no more, and there is no other node to copy it from".into())
        })?;
        tracing::info!(%node, lsn = %copy.tip().next_lsn, "the journal is copied from another node");
        let state = self.copy_from(&node, &mut copy, state.is_none())?;
        copy.sync()?;
        let bytes = state.encode_with(&known.unwrap_or_default());
        self.standing.write(&bytes).map_err(|error| failed(error.to_string()))?;
        tracing::info!(lsn = %copy.tip().next_lsn, "the journal was copied");
        Ok(())
    }

    /// Whether the log has no more what this node would have to read next, or begins after it.
    fn lacks(&self, state: Option<&State>, tip: Tip) -> bool {
        let Found { first, last, .. } = self.found;
        match state.map(|state| state.last_sequence).filter(|read| *read > Sequence(0)) {
            Some(read) => first > read.next(),
            None if last == Sequence(0) => false,
            None if first > Sequence(1) => true,
            None => self.base().is_some_and(|base| base != tip),
        }
    }

    /// Where the log begins.
    fn base(&self) -> Option<Tip> {
        self.link.fetch(Sequence(1));
        let wire: Wire = self.inbox.wait_for_message(Sequence(1), ANSWER_TIME)?;
        match Message::decode(&wire).ok()?.body {
            Body::Base(tip) => Some(tip),
            _ => None,
        }
    }

    fn copy_from(&self, node: &NodeName, copy: &mut LocalCopy, mut is_new: bool) -> Result<State, OpenError> {
        let refused = |why: String| OpenError::Cluster(format!("the journal cannot be copied from node {node}: {why}"));
        let frame_bytes_max = u64::from(self.options.payload_bytes_max) + ANSWER_BYTES as u64;
        let (mut part, mut unsynced, mut plans) = (Vec::new(), 0, BTreeSet::new());
        loop {
            let tip = copy.tip();
            let question = Question {
                next_lsn: tip.next_lsn.0,
                at_millis: tip.at.as_millis(),
                crc: tip.crc,
                part: part.len() as u64,
            };
            let answer = self.ask(node, &question).map_err(refused)?;
            if let Some(why) = answer.refused {
                return Err(refused(why));
            }
            let mut frames: Vec<Vec<u8>> = answer.frames.into_iter().map(Into::into).collect();
            if frames.is_empty() && answer.part.is_none() && answer.state.is_none() {
                return Err(refused("there is nothing in its answer".into()));
            }
            if let Some((more, total)) = answer.part {
                part.extend_from_slice(&more);
                if more.is_empty() || total > frame_bytes_max || part.len() as u64 > total {
                    return Err(refused("it gives a part of a frame that cannot be".into()));
                }
                if part.len() as u64 == total {
                    frames.push(std::mem::take(&mut part));
                }
            }
            for bytes in frames {
                let frame = WholeFrame::read_of_chain(&bytes).map_err(|why| refused(why.into()))?;
                if is_new && tip.admits(&frame) {
                    // From here on it is a copy, which may end otherwise than the journal of one machine. Before that the
                    // directory may still turn out to be of no use here, and stays what it is.
                    let begun = LogReader::join(self.found.created, tip).state().encode();
                    self.standing.write(&begun).map_err(|error| refused(error.to_string()))?;
                    is_new = false;
                }
                copy.take(&frame)?;
                plans.extend(plans_of(&frame).map_err(refused)?);
                unsynced += bytes.len();
            }
            if unsynced > SYNC_BYTES {
                unsynced = 0;
                copy.sync()?;
            }
            if let Some(state) = answer.state {
                let state = State::decode(&state).map_err(|error| refused(error.to_string()))?;
                if state.tip != copy.tip() || state.created != self.found.created {
                    return Err(refused("it does not end where it says".into()));
                }
                for plan in plans {
                    self.plans.get(plan)?;
                }
                return Ok(state);
            }
        }
    }

    fn ask(&self, node: &NodeName, question: &Question) -> Result<Copied, String> {
        let bytes = minicbor::to_vec(question).unwrap_or_default();
        let mut failed = String::new();
        for _ in 0..TRIES {
            let asked = self.link.ask(node, Asking::Copy.of(bytes.clone()), ANSWER_TIME);
            match self.runtime.block_on(asked) {
                Ok(answer) => return minicbor::decode(&answer).map_err(|error| error.to_string()),
                Err(Unanswered::NotTaken(why) | Unanswered::Unknown(why)) => failed = why,
            }
            std::thread::sleep(self.patience.beat);
        }
        Err(failed)
    }
}

/// The seating plans that options were added with, or came to be sold by.
fn plans_of(frame: &WholeFrame) -> Result<Vec<[u8; 32]>, String> {
    let records = match frame.count() {
        0 => Vec::new(),
        count => codec::decode_batch(frame.first_lsn(), count, frame.payload()).map_err(|error| error.to_string())?,
    };
    Ok(records.iter().filter_map(|(_, record)| plan_of(record)).map(|hash| hash.0).collect())
}

/// Waits for something among what is heard.
pub(super) fn wait_for<T>(at_most: Duration, mut next: impl FnMut(Duration) -> Option<Option<T>>) -> Option<T> {
    let until = Instant::now() + at_most;
    while let Some(heard) = next(until.saturating_duration_since(Instant::now())) {
        if heard.is_some() {
            return heard;
        }
    }
    None
}
