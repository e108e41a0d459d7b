//! One node and the stream: it reads all of it, wants to own now and then, and owns. What a [`Reader`], a [`Fencing`] and an
//! [`Appending`] say is put together here, in one order, for whoever publishes, reads and writes.

use std::collections::VecDeque;
use std::time::Duration;

use super::{
    Appending, Body, ClusterId, Epoch, Fault, Fence, Fencing, Message, Next, NotAppended, Publish, Reader, Reply,
    Sequence, State, Step, Taken, Wire,
};
use crate::domain::Lsn;
use crate::store::journal::{FrameRef, Tip, WholeFrame};

/// A node of a cluster. Whatever it is told may lead to [acts](Self::next_act), which are to be done in their order.
#[derive(Debug, Clone)]
pub struct Member {
    me: Fence,
    reader: Reader,
    role: Role,
    /// How long a candidate may take to read up to his fence.
    patience: Duration,
    /// The last publish.
    number: u64,
    /// The one that is under way, and what it expects.
    under_way: Option<(u64, Option<Sequence>)>,
    wants: Want,
    acts: VecDeque<Act>,
}

#[derive(Debug, Clone)]
enum Role {
    Following,
    Fencing(Fencing),
    Owning(Appending),
}

/// What it waits for, beside what it reads anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Nothing,
    /// This message, from the stream's leader.
    Message(Sequence),
    /// Where the stream ends.
    End,
    /// To have read up to there.
    ReadTo(Sequence),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Publish this, and tell what became of it, by its number: [`Member::replied`].
    Publish {
        /// Whose answer it is.
        number: u64,
        /// What.
        publish: Publish,
        /// It did not get in at once; there is no hurry.
        again: bool,
    },
    /// Ask the stream's leader for this message: [`Member::fetched`].
    Fetch(Sequence),
    /// Ask the stream's leader where the stream ends: [`Member::end_is`].
    Look,
    /// Somebody else's frame, or a fence: to be written to the journal, and taken in.
    Follow(WholeFrame),
    /// A frame of this owner's own: to be written to the journal.
    Write(WholeFrame),
    /// What was under way is in the log.
    Durable(Lsn),
    /// This node owns from here on.
    Own(Epoch),
    /// Somebody else owns: what was under way is not in the log, and never will be.
    Deposed,
}

impl Member {
    /// Of the process `me`, which reads on by `reader`.
    #[must_use]
    pub fn new(me: Fence, reader: Reader, patience: Duration) -> Self {
        let (role, wants, acts) = (Role::Following, Want::Nothing, VecDeque::new());
        Self { me, reader, role, patience, number: 0, under_way: None, wants, acts }
    }

    /// The next thing to be done, if there is one.
    pub fn next_act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// How far the stream was read. What was read last may still be an act that is to be done.
    #[must_use]
    pub fn state(&self) -> &State {
        self.reader.state()
    }

    /// Whether this node owns.
    #[must_use]
    pub fn owns(&self) -> bool {
        matches!(self.role, Role::Owning(_))
    }

    /// Whether it wants to.
    #[must_use]
    pub fn is_candidate(&self) -> bool {
        matches!(self.role, Role::Fencing(_))
    }

    /// What the next frame of this owner has to continue, if it can be appended now.
    #[must_use]
    pub fn ready(&self) -> Option<Tip> {
        match &self.role {
            Role::Owning(appending) if appending.is_idle() => Some(appending.tip()),
            _ => None,
        }
    }

    /// Begins the log of a new cluster where this node's journal ends, if nobody has yet. What becomes of it is read; there
    /// is no harm in saying it again.
    pub fn found(&mut self, cluster: ClusterId) {
        let State { cluster: known, last_sequence, tip, .. } = *self.state();
        if known.is_none() {
            let message = Message { cluster, epoch: Epoch(0), body: Body::Base(tip) };
            self.publish(Publish { message, expected: Some(last_sequence) }, false);
        }
    }

    /// Wants to own from now on, and to write this format, if it follows a log.
    pub fn fence(&mut self, format: u32) {
        if matches!(self.role, Role::Following) {
            self.put_fence(format);
        }
    }

    /// Wants to own after itself, and to write this format, if it owns and has nothing under way. Its term must be over.
    pub fn fence_after_itself(&mut self, format: u32) {
        if self.ready().is_some() {
            self.put_fence(format);
        }
    }

    fn put_fence(&mut self, format: u32) {
        let Some(cluster) = self.state().cluster else { return };
        self.me.format = format;
        let (fencing, publish) = Fencing::begin(cluster, self.me.clone(), self.state(), self.patience);
        (self.role, self.wants) = (Role::Fencing(fencing), Want::Nothing);
        self.publish(publish, false);
    }

    /// Does not want to own any longer. A fence that is under way may still make it the owner.
    pub fn give_up(&mut self) {
        if self.is_candidate() {
            (self.role, self.wants, self.under_way) = (Role::Following, Want::Nothing, None);
        }
    }

    /// Whether it takes too long to read up to its fence, so that somebody else should own.
    #[must_use]
    pub fn is_late(&self, now: Duration) -> bool {
        matches!(&self.role, Role::Fencing(fencing) if fencing.is_late(now))
    }

    /// Appends a frame; [`Act::Durable`] says when it is in the log.
    ///
    /// # Errors
    /// Nothing was done.
    pub fn append(&mut self, frame: &FrameRef<'_>) -> Result<(), NotAppended> {
        self.owning()?.append(frame).map(|publish| self.publish(publish, false))
    }

    /// Makes certain that nobody else has begun to append; [`Act::Durable`] says when it is.
    ///
    /// # Errors
    /// Nothing was done.
    pub fn mark(&mut self) -> Result<(), NotAppended> {
        self.owning()?.mark().map(|publish| self.publish(publish, false))
    }

    fn owning(&mut self) -> Result<&mut Appending, NotAppended> {
        match &mut self.role {
            Role::Owning(appending) => Ok(appending),
            Role::Following | Role::Fencing(_) => Err(NotAppended::Deposed),
        }
    }

    fn publish(&mut self, publish: Publish, again: bool) {
        self.number += 1;
        self.under_way = Some((self.number, publish.expected));
        self.acts.push_back(Act::Publish { number: self.number, publish, again });
    }

    /// What became of a publish. Of one that is not under way any more nobody wants to know.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn replied(&mut self, now: Duration, number: u64, reply: Reply) -> Result<(), Fault> {
        let Some((_, expected)) = self.under_way.take_if(|(current, _)| *current == number) else { return Ok(()) };
        match &mut self.role {
            Role::Following => Ok(()),
            Role::Fencing(fencing) => {
                let next = fencing.replied(now, reply);
                self.go_on_fencing(next);
                Ok(())
            }
            Role::Owning(appending) => {
                let Some(expected) = expected else { return Ok(()) };
                let step = appending.replied(expected, reply);
                self.go_on_owning(step)
            }
        }
    }

    /// The stream ends at `last`, or did when it was asked.
    pub fn end_is(&mut self, last: Sequence) {
        if self.wants == Want::End {
            self.wants = Want::ReadTo(last);
            self.look_around();
        }
    }

    /// What the stream's leader has at `sequence`, if anything.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn fetched(&mut self, sequence: Sequence, wire: Option<&Wire>) -> Result<(), Fault> {
        if self.wants != Want::Message(sequence) {
            return Ok(());
        }
        self.wants = Want::Nothing;
        match (wire, &mut self.role) {
            (Some(wire), _) => self.read(sequence, wire),
            (None, Role::Owning(appending)) => {
                let step = appending.absent(sequence);
                self.go_on_owning(step)
            }
            (None, _) => Ok(()),
        }
    }

    /// A message of the stream.
    ///
    /// # Errors
    /// It cannot be read on; nothing has changed.
    pub fn read(&mut self, sequence: Sequence, wire: &Wire) -> Result<(), Fault> {
        let taken = self.reader.take(sequence, wire)?;
        match &mut self.role {
            Role::Following => self.follow(&taken),
            Role::Fencing(fencing) => {
                let next = fencing.read(sequence, &taken);
                let decided = matches!(next, Next::Won(_) | Next::Lost);
                if decided {
                    (self.role, self.wants, self.under_way) = (Role::Following, Want::Nothing, None);
                }
                self.follow(&taken);
                self.look_around();
            }
            Role::Owning(appending) => {
                let step = appending.read(sequence, &taken);
                match (&step, taken) {
                    (Step::Durable(_), Taken::Frame(frame)) => self.acts.push_back(Act::Write(frame)),
                    (Step::Deposed, taken) => {
                        self.depose();
                        self.follow(&taken);
                        return Ok(());
                    }
                    _ => {}
                }
                self.go_on_owning(step)?;
            }
        }
        Ok(())
    }

    /// Takes in what is not this owner's. A fence of this process makes it the owner, also if it had given up.
    fn follow(&mut self, taken: &Taken) {
        match taken {
            Taken::Frame(frame) => self.acts.push_back(Act::Follow(frame.clone())),
            Taken::Fence { frame, fence } => {
                self.acts.push_back(Act::Follow(frame.clone()));
                if *fence == self.me
                    && let Some(appending) = Appending::begin(&self.me, self.reader.state())
                {
                    (self.role, self.wants, self.under_way) = (Role::Owning(appending), Want::Nothing, None);
                    self.acts.push_back(Act::Own(self.reader.state().epoch));
                }
            }
            Taken::Base | Taken::Mark | Taken::Void(_) | Taken::Known => {}
        }
    }

    fn depose(&mut self) {
        (self.role, self.wants, self.under_way) = (Role::Following, Want::Nothing, None);
        self.acts.push_back(Act::Deposed);
    }

    /// Lets a candidate know if it has read up to the end that it was told.
    fn look_around(&mut self) {
        let (Want::ReadTo(last), Role::Fencing(fencing)) = (self.wants, &mut self.role) else { return };
        if self.reader.state().last_sequence >= last {
            self.wants = Want::Nothing;
            let next = fencing.looked();
            self.go_on_fencing(next);
        }
    }

    fn go_on_fencing(&mut self, next: Next) {
        match next {
            // What is won or lost is read.
            Next::Read | Next::Won(_) | Next::Lost => {}
            Next::Look => {
                self.wants = Want::End;
                self.acts.push_back(Act::Look);
            }
            Next::Publish(publish) => self.publish(publish, true),
        }
    }

    fn go_on_owning(&mut self, step: Step) -> Result<(), Fault> {
        match step {
            Step::Wait => {}
            Step::Publish(publish) => self.publish(publish, true),
            Step::Fetch(sequence) => {
                self.wants = Want::Message(sequence);
                self.acts.push_back(Act::Fetch(sequence));
            }
            Step::TakeIn(sequence, message) => return self.read(sequence, &message.encode()),
            Step::Durable(lsn) => {
                (self.wants, self.under_way) = (Want::Nothing, None);
                self.acts.push_back(Act::Durable(lsn));
            }
            Step::Deposed => self.depose(),
        }
        Ok(())
    }
}
