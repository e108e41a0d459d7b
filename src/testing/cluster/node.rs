//! One node: its disk, and what it has in memory while it lives.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::sim_disk::SimDisk;
use super::trial::PATIENCE;
use crate::cluster::{FORMAT, Fence, Member, NodeName, Reader, Sequence, State};
use crate::domain::Lsn;
use crate::store::disk::{Disk, Open};
use crate::store::journal::{self, LocalCopy, Options, Preallocate};

const DIR: &str = "/node";
pub(super) const JOURNAL: &str = "/node/journal";
const STATE: &str = "/node/state";
const NEW_STATE: &str = "/node/state.new";

/// A machine.
pub(super) struct Node {
    pub name: String,
    pub disk: SimDisk,
    pub process: Option<Process>,
    /// How many lives there were.
    pub lives: u64,
    /// The server that it reads from.
    pub server: usize,
    /// It stands still.
    pub paused: bool,
    /// Nothing comes through to the stream, nor back.
    pub cut: bool,
    /// How many frames are known to be synced.
    pub synced: usize,
}

/// One life of it.
pub(super) struct Process {
    pub life: u64,
    pub member: Member,
    pub copy: LocalCopy,
    /// The publish that waits for its answer.
    pub sent: Option<u64>,
    /// The message that it wants of the leader.
    pub fetches: Option<Sequence>,
    /// Whether it wants to know where the stream ends.
    pub looks: bool,
    /// Frames that were written, so that no two are the same.
    pub written: u64,
    /// What was asked, each with the highest lsn that had been acknowledged to anybody by then.
    pub questions: Vec<Lsn>,
    /// Of these, those that came before what is under way was published.
    pub covered: Vec<Lsn>,
}

impl Process {
    /// Something was published that answers all that were asked.
    pub fn cover(&mut self) {
        self.covered.append(&mut self.questions);
    }

    /// Whoever waited is told nothing.
    pub fn forget(&mut self) {
        (self.sent, self.fetches, self.looks) = (None, None, false);
        self.questions.clear();
        self.covered.clear();
    }
}

pub(super) fn options() -> Options {
    Options {
        segment_bytes: 4096,
        payload_bytes_max: 1 << 20,
        reserve_bytes: 0,
        fill_bytes: 4096,
        preallocate: Preallocate::Inline,
        space_retry: Duration::from_millis(1),
        check_from: Lsn(0),
    }
}

/// Why a node does not start.
#[derive(Debug)]
pub(super) enum NotStarted {
    Journal(journal::Error),
    State(String),
}

impl Node {
    pub fn new(index: usize, disk: SimDisk) -> Self {
        let (name, server) = (["ada", "ben", "eva"][index].to_owned(), index);
        Self { name, disk, process: None, lives: 0, server, paused: false, cut: false, synced: 0 }
    }

    /// Who it is, in this life.
    pub fn fence(&self) -> Fence {
        Fence { node: NodeName::new(&self.name).expect("it is a name"), life: self.lives, format: FORMAT }
    }

    fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    /// Starts it on what its disk has.
    pub fn start(&mut self, created: u64) -> Result<(), NotStarted> {
        let (reader, copy) = match self.read_state()? {
            Some(state) => {
                let copy = LocalCopy::open(self.shared(), Path::new(JOURNAL), options(), state.tip);
                (Reader::resume(state), copy.map_err(NotStarted::Journal)?)
            }
            None => {
                let copy = LocalCopy::begin(self.shared(), Path::new(JOURNAL), options(), Lsn(0));
                let copy = copy.map_err(NotStarted::Journal)?;
                let reader = Reader::join(created, copy.tip());
                self.write_state(reader.state()).map_err(|error| NotStarted::State(error.to_string()))?;
                (reader, copy)
            }
        };
        self.lives += 1;
        self.process = Some(Process {
            life: self.lives,
            member: Member::new(self.fence(), reader, PATIENCE),
            copy,
            sent: None,
            fetches: None,
            looks: false,
            written: 0,
            questions: Vec::new(),
            covered: Vec::new(),
        });
        Ok(())
    }

    fn read_state(&self) -> Result<Option<State>, NotStarted> {
        let Ok(file) = self.disk.open(Path::new(STATE), Open::Read) else {
            return if self.disk.is_halted() { Err(NotStarted::State("halted".into())) } else { Ok(None) };
        };
        let wrong = |error: &dyn std::fmt::Display| NotStarted::State(error.to_string());
        let mut bytes = vec![0; file.size().map_err(|error| wrong(&error))? as usize];
        file.read_at(&mut bytes, 0).map_err(|error| wrong(&error))?;
        State::decode(&bytes).map(Some).map_err(|error| wrong(&error))
    }

    /// Writes down how far the stream was read.
    pub fn write_state(&self, state: &State) -> std::io::Result<()> {
        let (dir, path, new) = (Path::new(DIR), Path::new(STATE), Path::new(NEW_STATE));
        let _ = self.disk.remove(new);
        let file = self.disk.open(new, Open::Create)?;
        file.write_all_at(&state.encode(), 0)?;
        file.sync()?;
        self.disk.rename(new, path)?;
        self.disk.sync_dir(dir)
    }
}
