//! What the stream means, read a second time and naively, by whoever sees all of it at once.

use super::Broken;
use crate::cluster::{Body, ClusterId, Epoch, Fence, Message, Sequence, Wire};
use crate::domain::Lsn;
use crate::store::journal::{Tip, WholeFrame};

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    Void,
    Base,
    Fence,
    /// Of the owner at its place.
    Owned(String, u64),
}

/// The log as it is.
#[derive(Debug)]
pub(super) struct Truth {
    cluster: ClusterId,
    pub epoch: Epoch,
    owner: Option<Fence>,
    /// All batches and fences, in order.
    pub frames: Vec<WholeFrame>,
    base: Tip,
    /// What each message is.
    meanings: Vec<Meaning>,
    /// The highest lsn that was acknowledged to anybody.
    pub acknowledged: Lsn,
}

impl Truth {
    pub fn new(cluster: ClusterId, base: Tip) -> Self {
        Self {
            cluster,
            epoch: Epoch(0),
            owner: None,
            frames: Vec::new(),
            base,
            meanings: Vec::new(),
            acknowledged: Lsn(base.next_lsn.0 - 1),
        }
    }

    pub fn tip(&self) -> Tip {
        self.frames.last().map_or(self.base, WholeFrame::after)
    }

    pub fn owner(&self) -> Option<&Fence> {
        self.owner.as_ref()
    }

    /// How many frames there are up to this end; `None` if the log has never ended so.
    pub fn frames_to(&self, tip: Tip) -> Option<usize> {
        if tip == self.base {
            return Some(0);
        }
        self.frames.iter().position(|frame| frame.after() == tip).map(|index| index + 1)
    }

    pub fn is_void(&self) -> u64 {
        self.meanings.iter().filter(|meaning| **meaning == Meaning::Void).count() as u64
    }

    pub fn meaning(&self, sequence: Sequence) -> Option<&Meaning> {
        self.meanings.get(sequence.0.checked_sub(1)? as usize)
    }

    /// How much of the stream was looked at.
    pub fn looked_at(&self) -> Sequence {
        Sequence(self.meanings.len() as u64)
    }

    /// Looks at the next message that is there for good.
    pub fn see(&mut self, wire: &Wire) -> Result<(), Broken> {
        let sequence = self.looked_at().next();
        let message = Message::decode(wire).ok().filter(|message| message.cluster == self.cluster);
        let meaning = match message {
            Some(Message { body: Body::Base(_), .. }) if sequence == Sequence(1) => Meaning::Base,
            Some(Message { epoch, body: Body::Fence(fence), .. }) if epoch == self.epoch => {
                let mut payload = [sequence.0, epoch.0, fence.life].map(u64::to_le_bytes).concat();
                payload.extend_from_slice(&fence.format.to_le_bytes());
                payload.extend_from_slice(fence.node.to_string().as_bytes());
                self.frames.extend(self.tip().fence(&payload));
                (self.epoch, self.owner) = (Epoch(sequence.0), Some(fence));
                Meaning::Fence
            }
            Some(Message { epoch, body, .. }) if epoch == self.epoch && self.owner.is_some() => {
                self.owned(sequence, body)?
            }
            _ => Meaning::Void,
        };
        self.meanings.push(meaning);
        Ok(())
    }

    /// What is of the present epoch: its owner's, and right.
    fn owned(&mut self, sequence: Sequence, body: Body) -> Result<Meaning, Broken> {
        let Some(Fence { node, life, .. }) = self.owner.clone() else { return Ok(Meaning::Void) };
        if let Body::Frame(frame) = body {
            let (expected, found) = (self.tip(), frame.first_lsn());
            if !expected.admits(&frame) {
                let what = format!("message {sequence} begins with lsn {found}, and {expected:?} was the end");
                return Err(Broken("I14: two appended, or one twice", what));
            }
            self.frames.push(frame);
        }
        Ok(Meaning::Owned(node.to_string(), life))
    }
}
