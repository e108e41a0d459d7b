//! Looking at a data directory without opening it: is the journal whole, and what does it add up to.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::start::{self, replay, unreadable};
use crate::config::Config;
use crate::domain::seating_plan::PlanHash;
use crate::domain::{Lsn, concert_option};
use crate::error::OpenError;
use crate::replica::Replica;
use crate::replica::pages::{self, NoPage};
use crate::store::codec::{Facts, Record, decode_batch};
use crate::store::disk::{Disk, RealDisk};
use crate::store::journal::Frames;
use crate::store::lock::DirLock;
use crate::store::manifest::Manifest;
use crate::store::plans::Plans;
use crate::store::state::{Check, StateStore};

/// Events between two intermediate checkpoints in memory.
const STEP: u64 = 100_000;
/// What a state is called that was set aside, before its number.
const BAD_STATE: &str = "state.bad-";

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The last event.
    pub last_lsn: Lsn,
    /// How many events there are.
    pub events: u64,
    /// SHA-256 over all rows of the state that the journal alone adds up to: each as the length of its key, the key, the
    /// length of its value and the value (lengths as 8 bytes, little endian), in the order of the keys; rows on pages in the
    /// order in which they stand there.
    pub state_sha256: String,
    /// Whether the journal was ended cleanly.
    pub sealed: bool,
    /// What sled's rows say, compared with the journal.
    pub state: String,
    /// Whether nothing is damaged.
    pub ok: bool,
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "last_lsn {}", self.last_lsn)?;
        writeln!(f, "events {}", self.events)?;
        writeln!(f, "state_sha256 {}", self.state_sha256)?;
        writeln!(f, "sealed {}", if self.sealed { "yes" } else { "no" })?;
        write!(f, "state {}", self.state)
    }
}

/// Checks the whole journal and every plan, rebuilds the state from the journal alone, and compares sled with it. Changes
/// nothing but the lock file.
///
/// # Errors
/// The directory is in use, or the journal or a plan is damaged.
pub fn verify(config: &Config) -> Result<VerifyReport, OpenError> {
    let (disk, _lock) = enter(config)?;
    let dir = &config.data_dir;
    // A damaged manifest is for the comparison below to name.
    let floor = Manifest::read(&*disk, dir).ok().flatten().map_or(Lsn(0), |manifest| manifest.highest_lsn());
    let frames = Frames::in_dir(disk.clone(), dir);
    let report = frames.check(floor)?;
    let plans = Plans::new(disk.clone(), dir.join("plans"));
    let stored: BTreeSet<_> = plans.list()?.into_iter().collect();
    for hash in &stored {
        plans.get(*hash)?;
    }
    let scratch =
        std::env::temp_dir().join(format!("boxoffice-verify-{}-{:016x}", std::process::id(), start::entropy()));
    let check = StateStore::check(dir, &*disk, &scratch)?;

    let store = Arc::new(StateStore::in_memory());
    let mut replica = Replica::new(store.clone(), Lsn(0)).map_err(unreadable)?;
    let compared_at = if let Check::Agrees(found) = &check { found.lsn } else { Lsn(0) };
    let mut rebuilt = None;
    replay(&frames, Lsn(0), report.last_lsn, |first, record| {
        if let Some(PlanHash(missing)) = plans_of(record).find(|plan| !stored.contains(&plan.0)) {
            plans.get(missing)?;
        }
        replica.loading(|replica| replica.apply(first, record)).map_err(unreadable)?;
        let applied = replica.applied();
        if applied == compared_at || applied.0 - store.settled().lsn.0 >= STEP {
            settle(&store, &mut replica)?;
            if applied == compared_at {
                rebuilt = Some(store.settled());
            }
        }
        Ok(())
    })?;
    settle(&store, &mut replica)?;
    let (state, agrees) = match &check {
        Check::Agrees(found) if found.lsn == Lsn(0) || rebuilt == Some(*found) => (format!("agrees: {check}"), true),
        Check::Agrees(found) => {
            (format!("disagrees: its rows at lsn {} are not those of the journal", found.lsn), false)
        }
        Check::Disagrees(_) => (format!("disagrees: {check}"), false),
        Check::Missing(_) => (format!("missing: {check}"), true),
    };
    Ok(VerifyReport {
        last_lsn: report.last_lsn,
        events: report.events,
        state_sha256: hash(&store)?,
        sealed: report.sealed,
        state,
        ok: agrees,
    })
}

/// The seating plans that a record refers to.
fn plans_of(record: &Record) -> impl Iterator<Item = PlanHash> {
    let events = if let Facts::Option(_, events) = &record.facts { &events[..] } else { &[] };
    events.iter().filter_map(|event| match event {
        concert_option::Event::OptionDefined { definition, .. }
        | concert_option::Event::OptionChanged { definition, .. } => Some(definition.plan),
        _ => None,
    })
}

/// Sets the state aside, as `state.bad-<n>`, and builds it again from the journal. The journal must be whole.
///
/// # Errors
/// As [`verify`]; or the state cannot be written.
pub fn repair_state(config: &Config) -> Result<VerifyReport, OpenError> {
    let (disk, lock) = enter(config)?;
    let dir = &config.data_dir;
    let unusable = |source| OpenError::DataDirectory { dir: dir.display().to_string(), source };
    Frames::in_dir(disk.clone(), dir).check(StateStore::floor_of(dir, &*disk)?)?;
    let state = dir.join("state");
    if state.exists() {
        let names = disk.list(dir).map_err(unusable)?;
        let number = |name: &String| name.strip_prefix(BAD_STATE)?.parse::<u64>().ok();
        let next = names.iter().filter_map(number).max().map_or(1, |last| last.saturating_add(1));
        disk.rename(&state, &dir.join(format!("{BAD_STATE}{next}"))).map_err(unusable)?;
        disk.sync_dir(dir).map_err(unusable)?;
    }
    start::rebuild(config, &disk)?;
    drop(lock);
    verify(config)
}

fn enter(config: &Config) -> Result<(Arc<dyn Disk>, DirLock), OpenError> {
    check_journal(config)?;
    Ok((Arc::new(RealDisk), DirLock::acquire(&config.data_dir)?))
}

/// Refuses a directory that is no data directory.
pub(super) fn check_journal(config: &Config) -> Result<(), OpenError> {
    let dir = &config.data_dir;
    if Frames::in_dir(Arc::new(RealDisk), dir).is_there() {
        return Ok(());
    }
    let source = io::Error::new(io::ErrorKind::NotFound, "there is no journal in it");
    Err(OpenError::DataDirectory { dir: dir.display().to_string(), source })
}

fn settle(store: &StateStore, replica: &mut Replica) -> Result<(), OpenError> {
    let changes = replica.begin_checkpoint();
    let lsn = changes.lsn;
    store.checkpoint(lsn, changes.altered(store))?;
    drop(replica.end_checkpoint(lsn, usize::MAX));
    Ok(())
}

fn hash(store: &StateStore) -> Result<String, OpenError> {
    let mut hasher = Sha256::new();
    let mut unreadable = None;
    store.each(&[], &[u8::MAX], |key, row| match pages::unpack(key, row) {
        Ok(rows) => {
            for bytes in rows.iter().flat_map(|(key, row)| [key, row]) {
                hasher.update((bytes.len() as u64).to_le_bytes());
                hasher.update(bytes);
            }
        }
        Err(NoPage) => unreadable = Some(OpenError::Row(format!("{}: {NoPage}", key.escape_ascii()))),
    })?;
    if let Some(error) = unreadable {
        return Err(error);
    }
    Ok(base16ct::lower::encode_string(&hasher.finalize()))
}

/// A record with its place in the journal, as it is exported.
#[derive(Serialize)]
struct Line<'a> {
    lsn: Lsn,
    #[serde(flatten)]
    record: &'a Record,
}

/// Writes every record from `from` on as a line of JSON, without secrets. An engine may be running there, in this process or
/// another one: then it ends with what had been written by the time it came to the end, all that was answered before included.
///
/// # Errors
/// The journal is damaged, or `write` fails.
pub fn export(config: &Config, from: Lsn, write: &mut dyn FnMut(&str) -> io::Result<()>) -> Result<(), OpenError> {
    check_journal(config)?;
    let output = |source| OpenError::DataDirectory { dir: "(output)".into(), source };
    let mut reader = Frames::in_dir(Arc::new(RealDisk), &config.data_dir).from(from)?;
    while let Some(frame) = reader.next_whole()? {
        for (lsn, record) in decode_batch(frame.first_lsn, frame.count, &frame.payload)? {
            if lsn >= from {
                let line = serde_json::to_string(&Line { lsn, record: &record });
                write(&line.map_err(|error| output(error.into()))?).map_err(output)?;
            }
        }
    }
    Ok(())
}
