//! The end of a run: nothing befalls anybody any more, and everything comes to rest.

use super::machine::Leaving;
use super::trial::{NODES, Trial};
use crate::domain::invariants::Broken;
use crate::testing::random::Random;
use crate::testing::simulation::model::{UNREADABLE, broken};

/// Rounds until everything has come to rest, at the most.
const ROUNDS_MAX: u64 = 2_000;
/// Turns of actors in a round, at the most.
const TURNS_MAX: u64 = 20_000;
/// Between two steps of the timer.
const TICK_MS: u64 = 50;

impl Trial {
    /// Lets everybody have their turns until nobody has anything to do.
    pub(super) fn settle(&mut self) -> Result<(), Broken> {
        for _ in 0..ROUNDS_MAX {
            self.ticks += 1;
            if !self.round()? {
                return Ok(());
            }
        }
        Err(broken("rest", "there is no end to it"))
    }

    /// Everybody has a turn; whether anybody had something to do.
    fn round(&mut self) -> Result<bool, Broken> {
        let mut worked = self.stream_round()?;
        for index in 0..NODES {
            worked |= self.machines[index].process.is_none();
            self.start(index)?;
            if self.machines[index].process.is_some() {
                worked |= self.node_round(index)?;
            }
        }
        self.look()?;
        if !worked && self.requests.is_empty() && self.replies.is_empty() {
            for index in 0..NODES {
                worked |= self.time_out(index)?;
            }
            if !worked {
                worked = self.somebody_owns()?;
            }
        }
        Ok(worked)
    }

    fn stream_round(&mut self) -> Result<bool, Broken> {
        let mut worked = false;
        if !self.stream.has_leader() {
            self.stream.elect(&mut Random(self.dice.next()));
            worked = true;
        }
        for request in std::mem::take(&mut self.requests) {
            worked = true;
            self.replies.extend(self.stream.receive(request, false));
            while self.stream.has_proposals() {
                self.replies.extend(self.stream.commit());
            }
        }
        while self.stream.has_proposals() {
            worked = true;
            self.replies.extend(self.stream.commit());
        }
        self.stream.heal();
        self.see()?;
        for (ticket, reply) in std::mem::take(&mut self.replies) {
            worked = true;
            self.hear_of(ticket, reply)?;
        }
        Ok(worked)
    }

    fn node_round(&mut self, index: usize) -> Result<bool, Broken> {
        let mut worked = false;
        while self.follow(index)? {
            worked = true;
        }
        worked |= self.fetch(index, 0)?;
        worked |= self.publish_later(index);
        worked |= self.append(index)?;
        for _ in 0..TURNS_MAX {
            let process = self.process(index);
            if !process.stage.turn() && !process.project() {
                break;
            }
            worked = true;
        }
        if self.process(index).leaving != Leaving::No || self.process(index).closing {
            worked |= self.go_on_leaving(index)?;
        }
        Ok(worked)
    }

    /// Somebody wants to own if nobody does; whether that had to be.
    fn somebody_owns(&mut self) -> Result<bool, Broken> {
        if (0..NODES).any(|index| self.takes_calls(index)) {
            return Ok(false);
        }
        let index = self.dice.below(NODES as u64) as usize;
        if self.machines[index].process.is_some() {
            self.fence(index)?;
        }
        Ok(true)
    }

    /// Nothing befalls anybody any more: everything that is owed gets done, and holds run out.
    pub(super) fn come_to_rest(&mut self) -> Result<(), Broken> {
        self.note(|| "nothing befalls anybody any more".into());
        // Whatever was built wrong had its time.
        for machine in &mut self.machines {
            (machine.paused, machine.cut) = (false, false);
            machine.disk.between(None);
            if !machine.disk.is_halted() {
                machine.disk.heal();
            }
            if let Some(process) = &machine.process {
                process.stage.heal();
            }
        }
        self.look()?;
        self.swarm.post = Default::default();
        self.settle()?;
        for _ in 0..60 {
            self.tick()?;
            self.pass(500);
        }
        self.model.audit.settled()?;
        for machine in &self.machines {
            let Some(process) = &machine.process else { return Err(broken("rest", "a node is down")) };
            if let Some(call) = process.calls.iter().chain(&process.orphans).next() {
                return Err(broken("rest", format!("{} is never answered", call.ask())));
            }
        }
        self.holds_run_out()?;
        self.model.audit.settled()?;
        self.model.audit.sagas()?;
        for index in 0..NODES {
            self.ends_well(index)?;
        }
        Ok(())
    }

    /// The timer of the owner looks around, and all that comes of it is done.
    fn tick(&mut self) -> Result<(), Broken> {
        for machine in &mut self.machines {
            if let Some(acting) = machine.process.as_mut().and_then(|process| process.acting.as_mut()) {
                acting.timer.step();
            }
        }
        self.settle()
    }

    /// I5: no hold lasts longer than a second after its end, by the clock of the owner.
    fn holds_run_out(&mut self) -> Result<(), Broken> {
        while let Some(until) = self.model.open.values().min().copied() {
            let owner = (0..NODES).find(|index| self.takes_calls(*index));
            let Some(owner) = owner.and_then(|index| self.machines[index].process.as_ref()?.acting.as_ref()) else {
                return Err(broken("rest", "nobody owns the log"));
            };
            let wait = until.since(owner.system.env.clock.now()).as_millis() as u64;
            self.pass(wait);
            for _ in 0..1_000 / TICK_MS {
                self.tick()?;
                self.pass(TICK_MS);
            }
            if let Some((id, late)) = self.model.open.iter().find(|(_, open)| **open <= until) {
                return Err(broken("I5", format!("{id} was to be held until {late:?}, and is a second later")));
            }
        }
        Ok(())
    }

    /// What a node has in the end, also after a last power cut.
    fn ends_well(&mut self, index: usize) -> Result<(), Broken> {
        self.has_all(index)?;
        while self.checkpoint(index)? {}
        self.sync(index)?;
        let frames = self.truth.frames.len();
        self.must_have(index, frames)?;
        self.crash(index, true);
        self.start(index)?;
        self.has_all(index)
    }

    /// A node's state is that of the whole log.
    fn has_all(&mut self, index: usize) -> Result<(), Broken> {
        let Some(process) = &self.machines[index].process else { return Err(broken("rest", "a node is down")) };
        let (replica, counts) = (process.node.replica.clone(), process.node.counts.clone());
        if (replica.applied(), process.node.journal.durable()) != (self.model.last, self.model.last) {
            let what = format!("node {index} ends at lsn {}, and the log at {}", replica.applied(), self.model.last);
            return Err(broken("lost", what));
        }
        self.model.names().iter().try_for_each(|name| self.model.agrees(name, &replica))?;
        self.model.counts(&counts)?;
        let wallets = self.model.wallets(&replica).map_err(|error| broken(UNREADABLE, error.what))?;
        self.model.audit.money(&wallets)
    }
}
