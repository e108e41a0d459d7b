//! What becomes of processes: they get stuck, are killed, lose power, end as they should, and start again on what there is.

use std::path::Path;
use std::sync::Arc;

use super::machine::DIR;
use super::trial::Trial;
use crate::domain::Lsn;
use crate::domain::invariants::Broken;
use crate::engine::start::Stuck;
use crate::store::journal;
use crate::testing::random::Random;
use crate::testing::simulation::model::broken;

impl Trial {
    pub(super) fn has_disk_failed(&self, index: usize) -> bool {
        let machine = &self.machines[index];
        machine.disk.is_halted() || machine.disk.failed() > machine.failed_before
    }

    /// A node cannot go on.
    pub(super) fn stuck(&mut self, index: usize, stuck: &Stuck) -> Result<(), Broken> {
        if !self.has_disk_failed(index) {
            return Err(broken("fault", format!("node {index}: {stuck}")));
        }
        self.note(|| format!("node {index}: {stuck}"));
        self.poll(index)?;
        let power = self.dice.coin();
        self.crash(index, power);
        Ok(())
    }

    pub(super) fn crash(&mut self, index: usize, power: bool) {
        self.report.crashes += 1;
        self.report.power_cuts += u64::from(power);
        let machine = &mut self.machines[index];
        if let Some(process) = machine.process.take() {
            machine.synced = process.follower.lock().synced().tip;
        }
        let mut random = Random(self.dice.next());
        machine.paused = false;
        machine.disk.between(None);
        machine.disk.heal();
        if power {
            machine.disk = machine.disk.crash(random.next(), self.swarm.tear);
        }
        machine.rows = machine.rows.crash(&mut random, machine.disk.clone());
        if random.chance(self.swarm.rows_damaged) {
            machine.rows.damage(&mut random);
            machine.is_damaged = true;
        }
        self.note(|| format!("node {index} is gone, power {power}"));
    }

    /// A process has ended as it should.
    pub(super) fn gone(&mut self, index: usize) -> Result<(), Broken> {
        self.poll(index)?;
        let mut random = Random(self.dice.next());
        let machine = &mut self.machines[index];
        machine.disk.between(None);
        if let Some(process) = machine.process.take() {
            let calls = process.calls.len() + process.orphans.len();
            self.report.let_go += calls as u64;
            machine.synced = process.follower.lock().synced().tip;
        }
        machine.rows = machine.rows.crash(&mut random, machine.disk.clone());
        Ok(())
    }

    /// Starts a node that is down, and looks at what it finds.
    pub(super) fn start(&mut self, index: usize) -> Result<(), Broken> {
        if self.machines[index].process.is_some() {
            return Ok(());
        }
        self.report.starts += 1;
        let (last, flaw, dice) = (self.stream.last(), self.flaw, self.dice.clone());
        let machine = &mut self.machines[index];
        machine.failed_before = machine.disk.failed();
        let booted = machine.boot(&self.swarm, &dice, last, flaw);
        if self.has_disk_failed(index) {
            let power = self.dice.coin();
            self.crash(index, power);
            return Ok(());
        }
        booted.map_err(|error| broken("lost", format!("node {index} does not start: {error}")))?;
        let names = self.model.names();
        let (synced, is_damaged) = (self.machines[index].synced, self.machines[index].is_damaged);
        self.machines[index].is_damaged = false;
        let process = self.process(index);
        process.changed.extend(names);
        let ((end, tip), rebuilt_because) = (process.opened, process.rebuilt_because.take());
        if let Some(why) = rebuilt_because.filter(|_| !is_damaged) {
            return Err(broken("I4", format!("sound rows are built again: {why}")));
        }
        let frames = |tip| {
            let found = self.truth.frames_to(tip);
            found.ok_or_else(|| broken("I15", format!("node {index} is at {tip:?}, where the log never was")))
        };
        let (kept, followed, synced) = (frames(end)?, frames(tip)?, frames(synced)?);
        if followed < synced {
            return Err(broken("lost", format!("node {index} has {followed} frames, and had synced {synced}")));
        }
        self.report.kept += u64::from(kept > followed);
        self.note(|| format!("node {index} starts with {kept} frames, {followed} followed, {synced} synced"));
        self.must_follow(index)?;
        self.must_have(index, kept)
    }

    /// The journal of a node is the log's, up to so many frames, for all who read it.
    pub(super) fn must_have(&mut self, index: usize, frames: usize) -> Result<(), Broken> {
        // As it would be found after a power cut: what a start leaves is durable. Looking is no call that fails.
        let disk = self.machines[index].disk.crash(self.step, self.swarm.tear);
        let wrong = |what: String| broken("I15", format!("node {index}: {what}"));
        let dir = Path::new(DIR).join("journal");
        let report = journal::check(&disk, &dir, Lsn(0)).map_err(|error| wrong(error.to_string()))?;
        let batches: Vec<_> = self.truth.frames[..frames].iter().filter(|frame| !frame.is_fence()).collect();
        if (report.frames, report.fences) != (batches.len() as u64, (frames - batches.len()) as u64) {
            return Err(wrong(format!("{report:?}, and {frames} frames")));
        }
        if batches.is_empty() {
            return Ok(());
        }
        let reader = journal::Reader::open(Arc::new(disk), &dir, Lsn(1));
        let mut reader = reader.map_err(|error| wrong(error.to_string()))?;
        for batch in batches {
            match reader.next(report.last_lsn) {
                Ok(Some(frame)) if frame.payload == batch.payload() && frame.first_lsn == batch.first_lsn() => {}
                other => return Err(wrong(format!("{other:?} is read"))),
            }
        }
        Ok(())
    }
}
