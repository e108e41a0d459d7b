//! Copies of a data directory: what an engine needs to begin again elsewhere, taken while one is running.
//!
//! The journal is the truth, and seating plans are what it refers to; the state adds up from them and is left out. The
//! running engine is not asked and not held up: it only appends, so what is whole when the copy comes to it stays so.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::verify::{VerifyReport, check_journal, verify};
use crate::config::Config;
use crate::domain::concert_option::Installation;
use crate::domain::{Lsn, Timestamp, catalogue};
use crate::error::OpenError;
use crate::store::codec::{Entity as _, Facts, Record, TheCatalogue, decode_batch};
use crate::store::disk::{Disk, RealDisk, make_private_dirs};
use crate::store::journal::{self, FrameRef, Frames, Log};
use crate::store::lock;
use crate::store::plans::Plans;
use crate::store::state::StateStore;

const PLANS: &str = "plans";
/// Where a copy is made, in the directory that it is made for. It stays there if it cannot be finished.
const UNFINISHED: &str = "unfinished";
/// How much of the journal is written, and synced, at once.
const BATCH_BYTES: usize = 1 << 20;

/// Copies journal and seating plans of the data directory of `config` to `to`, which must be empty or not be there. An
/// engine may be running there, in this process or another one. The copy holds everything that was answered before this
/// was called, and perhaps more; it is sealed, durable, and [verified](verify) when this returns.
///
/// # Errors
/// `to` is in use, the journal or a plan is damaged, or the copy cannot be written.
pub fn backup(config: &Config, to: &Path) -> Result<VerifyReport, OpenError> {
    copy_to(config, to, Whose::Same)
}

fn copy_to(config: &Config, to: &Path, whose: Whose) -> Result<VerifyReport, OpenError> {
    check_journal(config)?;
    let unusable = |source| OpenError::DataDirectory { dir: to.display().to_string(), source };
    if fs::read_dir(to).is_ok_and(|mut names| names.next().is_some()) {
        let error = io::Error::new(io::ErrorKind::AlreadyExists, "a copy is written to an empty directory only");
        return Err(unusable(error));
    }
    let draft = to.join(UNFINISHED);
    make_private_dirs(&draft).map_err(unusable)?;
    let copied =
        copy(config, &draft, whose).and_then(|report| put_in_place(&draft, to).map_err(unusable).map(|()| report));
    if copied.is_err() {
        // What is wrong has been found; that some of it may stay behind is not worse.
        let _ = fs::remove_dir_all(&draft);
    }
    copied
}

/// Whose payments a copy's are, for providers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Those of what it is a copy of.
    Same,
    /// Those of another one: both may go on, and a provider must be able to tell them apart.
    Another,
}

fn copy(config: &Config, draft: &Path, whose: Whose) -> Result<VerifyReport, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let draft = Config { data_dir: draft.to_path_buf(), ..config.clone() };
    // Before the copy is begun: the journal goes on, and checkpoints with it.
    let floor = StateStore::floor_of(&config.data_dir, &*disk)?;
    copy_journal(&disk, config, &draft, whose)?;
    // A plan is there before the event that names it.
    copy_plans(&disk, &config.data_dir, &draft.data_dir)?;
    let report = verify(&draft)?;
    if report.last_lsn < floor {
        let what = format!("its journal ends at lsn {}, and had reached lsn {floor} before", report.last_lsn);
        let source = io::Error::new(io::ErrorKind::InvalidData, what);
        return Err(OpenError::DataDirectory { dir: config.data_dir.display().to_string(), source });
    }
    Ok(report)
}

/// Moves a copy to where it belongs: the journal last, since with it this is a data directory, and without it nothing.
fn put_in_place(draft: &Path, to: &Path) -> io::Result<()> {
    fs::remove_file(draft.join(lock::NAME))?;
    for name in [PLANS, journal::DIR] {
        let made = draft.join(name);
        if made.exists() {
            RealDisk.sync_dir(&made)?;
            RealDisk.rename(&made, &to.join(name))?;
            RealDisk.sync_dir(to)?;
        }
    }
    fs::remove_dir(draft)?;
    RealDisk.sync_dir(to)?;
    to.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), |parent| RealDisk.sync_dir(parent))
}

/// Copies a backup to the data directory of `config`, which must be empty or not be there. If payments by providers were begun,
/// those that begin from now on are another installation's.
///
/// # Errors
/// The backup is damaged or was not finished, or as [`backup`].
pub fn restore(from: &Path, config: &Config) -> Result<VerifyReport, OpenError> {
    let backed_up = Config { data_dir: from.to_path_buf(), ..config.clone() };
    let found = verify(&backed_up)?;
    if !found.sealed {
        let error = io::Error::new(io::ErrorKind::UnexpectedEof, "its journal has no end: this is no whole backup");
        return Err(OpenError::DataDirectory { dir: from.display().to_string(), source: error });
    }
    copy_to(&backed_up, &config.data_dir, Whose::Another)
}

fn copy_journal(disk: &Arc<dyn Disk>, from: &Config, to: &Config, whose: Whose) -> Result<(), OpenError> {
    let mut reader = Frames::in_dir(disk.clone(), &from.data_dir).from(Lsn(1))?;
    let options = super::start::journal_options(to, Lsn(0));
    let (mut log, _) = Frames::in_dir(disk.clone(), &to.data_dir).open(options, Lsn(0))?;
    let mut batch = Batch::default();
    let mut is_drawn = false;
    while let Some(frame) = reader.next_whole()? {
        if whose == Whose::Another && !is_drawn {
            is_drawn = draws_installation(frame.first_lsn, frame.count, &frame.payload)?;
        }
        if batch.payload.len() + frame.payload.len() > BATCH_BYTES {
            batch.write(&mut log)?;
        }
        batch.payload.extend_from_slice(&frame.payload);
        batch.count += frame.count;
        batch.at = frame.at;
    }
    if is_drawn {
        // What was begun before keeps the old one: it stands in each payment.
        let drawn = catalogue::Event::InstallationDrawn { installation: Installation(super::start::entropy()) };
        let record = Record { at: batch.at, facts: Facts::Catalogue(TheCatalogue, vec![drawn]) };
        record.encode_to(&mut batch.payload);
        batch.count += 1;
    }
    batch.write(&mut log)?;
    Ok(log.seal()?)
}

fn draws_installation(first: Lsn, count: u32, payload: &[u8]) -> Result<bool, OpenError> {
    let records = decode_batch(first, count, payload)?;
    let drawn = |event: &catalogue::Event| matches!(event, catalogue::Event::InstallationDrawn { .. });
    Ok(records.iter().any(|(_, record)| catalogue::Catalogue::events(&record.facts).iter().any(drawn)))
}

/// Several batches in one.
#[derive(Default)]
struct Batch {
    /// What has been written.
    last: Lsn,
    payload: Vec<u8>,
    count: u32,
    at: Timestamp,
}

impl Batch {
    fn write(&mut self, log: &mut impl Log) -> Result<(), journal::Error> {
        if self.count > 0 {
            let first_lsn = self.last.next();
            log.append(&FrameRef { first_lsn, count: self.count, at: self.at, payload: &self.payload })?;
            self.last.0 += u64::from(self.count);
            self.payload.clear();
            self.count = 0;
        }
        Ok(())
    }
}

fn copy_plans(disk: &Arc<dyn Disk>, from: &Path, to: &Path) -> Result<(), OpenError> {
    let [from, to] = [from, to].map(|dir| Plans::new(disk.clone(), dir.join(PLANS)));
    for hash in from.list()? {
        to.put(hash, &from.get(hash)?)?;
    }
    Ok(())
}
