//! Seating plans: files that are written once, and named by the SHA-256 of what they hold.
//!
//! Architecture invariant: knows bytes and their hashes, not what a seating plan is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::disk::{Disk, Open, is_lack, is_lack_of_descriptors, is_lack_of_space};

const SUFFIX: &str = ".plan";

/// A file under way.
const TEMPORARY: &str = "new.tmp";

/// What is being done when something is made durable.
const SYNC: &str = "sync";

/// Why a plan cannot be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused.
    #[error("cannot {doing} {}: {source}; check the disk", file.display())]
    Io {
        /// Which file or directory.
        file: PathBuf,
        /// What was being done with it.
        doing: &'static str,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// There is none, though something refers to it.
    #[error("the seating plan {} is missing; put the file back from a backup", file.display())]
    Missing {
        /// Where it should be.
        file: PathBuf,
    },
    /// Where all nodes of a cluster look for plans does not answer.
    #[error("the cluster's store of seating plans: {0}")]
    Elsewhere(String),
    /// It is not what its name says.
    #[error("{} is damaged: its SHA-256 is not its name; put the file back from a backup", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
    },
}

impl Error {
    /// Whether something could not be made durable. Another try would tell nothing: the system may have thrown away what it
    /// could not write, and says so only once.
    #[must_use]
    pub fn is_final(&self) -> bool {
        // For want of descriptors a directory was not even opened.
        matches!(self, Self::Io { doing: SYNC, source, .. } if !is_lack_of_descriptors(source))
    }

    /// Whether it was for want of space.
    #[must_use]
    pub fn is_for_want_of_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_lack_of_space(source))
    }

    /// Whether it may go well in a moment: something is lacking that others may give back.
    #[must_use]
    pub fn is_for_now(&self) -> bool {
        match self {
            Self::Io { source, .. } => !self.is_final() && is_lack(source),
            Self::Elsewhere(_) => true,
            Self::Missing { .. } | Self::Damaged { .. } => false,
        }
    }
}

/// Where all nodes of a cluster find the plans that others have stored.
pub trait Elsewhere: Send + Sync {
    /// Keeps a plan for good. May block.
    ///
    /// # Errors
    /// Why it could not be done.
    fn put(&self, hash: [u8; 32], bytes: &[u8]) -> Result<(), String>;
    /// A plan; `None` if there is none. May block.
    ///
    /// # Errors
    /// Why that cannot be said.
    fn get(&self, hash: [u8; 32]) -> Result<Option<Vec<u8>>, String>;
}

/// The plans in one directory.
pub struct Plans {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    elsewhere: Option<Arc<dyn Elsewhere>>,
    /// One writer at a time, since all use the same temporary name.
    writing: Mutex<()>,
}

impl Plans {
    /// The plans in `dir`, which is made when the first one is stored.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, elsewhere: None, writing: Mutex::new(()) }
    }

    /// As these, with what other nodes have stored, and so that these have what is stored here.
    #[must_use]
    pub fn shared_by(self, elsewhere: Arc<dyn Elsewhere>) -> Self {
        Self { elsewhere: Some(elsewhere), ..self }
    }

    /// Stores a plan whose SHA-256 is `hash`. It is durable when this returns, for all nodes if there are several. Does nothing if
    /// it is there already.
    ///
    /// # Errors
    /// What the disk said. The plan may then be there or not; storing it again is safe.
    pub fn put(&self, hash: [u8; 32], bytes: &[u8]) -> Result<(), Error> {
        self.put_here(hash, bytes)?;
        self.elsewhere.as_ref().map_or(Ok(()), |elsewhere| elsewhere.put(hash, bytes)).map_err(Error::Elsewhere)
    }

    fn put_here(&self, hash: [u8; 32], bytes: &[u8]) -> Result<(), Error> {
        debug_assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(bytes)), "not the plan's hash");
        let _writing = self.writing.lock();
        let path = self.path(hash);
        if !self.has(&path, bytes.len() as u64)? {
            self.write(&path, bytes)?;
        }
        // Also when it was there: its name may be left from a run that did not come to sync it.
        self.disk.sync_dir(&self.dir).map_err(failed(SYNC, &self.dir))
    }

    /// The plan whose SHA-256 is `hash`, checked. One that is not here, or damaged, is fetched from elsewhere, if there are other
    /// nodes.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Elsewhere`], or what the disk said.
    pub fn get(&self, hash: [u8; 32]) -> Result<Vec<u8>, Error> {
        let (missing, elsewhere) = match (self.get_here(hash), &self.elsewhere) {
            (Err(missing @ (Error::Missing { .. } | Error::Damaged { .. })), Some(elsewhere)) => (missing, elsewhere),
            (got, _) => return got,
        };
        let found = elsewhere.get(hash).map_err(Error::Elsewhere)?;
        let is_whole = |bytes: &Vec<u8>| <[u8; 32]>::from(Sha256::digest(bytes)) == hash;
        let bytes = found.filter(is_whole).ok_or(missing)?;
        let _writing = self.writing.lock();
        self.write(&self.path(hash), &bytes)?;
        self.disk.sync_dir(&self.dir).map_err(failed(SYNC, &self.dir))?;
        Ok(bytes)
    }

    fn get_here(&self, hash: [u8; 32]) -> Result<Vec<u8>, Error> {
        let path = self.path(hash);
        let file = match self.disk.open(&path, Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Missing { file: path }),
            file => file.map_err(failed("open", &path))?,
        };
        let mut bytes = vec![0; file.size().map_err(failed("measure", &path))? as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            let read = file.read_at(&mut bytes[filled..], filled as u64).map_err(failed("read", &path))?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != hash {
            return Err(Error::Damaged { file: path });
        }
        Ok(bytes)
    }

    /// The hashes of all plans, in order. Files of other names are left out.
    ///
    /// # Errors
    /// What the disk said.
    pub fn list(&self) -> Result<Vec<[u8; 32]>, Error> {
        match self.disk.list(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => Ok(names.map_err(failed("list", &self.dir))?.iter().filter_map(|name| hash_of(name)).collect()),
        }
    }

    fn path(&self, hash: [u8; 32]) -> PathBuf {
        self.dir.join(base16ct::lower::encode_string(&hash) + SUFFIX)
    }

    fn has(&self, path: &Path, size: u64) -> Result<bool, Error> {
        match self.disk.open(path, Open::Read) {
            Ok(file) => Ok(file.size().map_err(failed("measure", path))? == size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed("open", path)(source)),
        }
    }

    /// Puts a whole file in place; its name is durable once the directory is synced.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.disk.create_dir_all(&self.dir).map_err(failed("create", &self.dir))?;
        if let Some(parent) = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.disk.sync_dir(parent).map_err(failed(SYNC, parent))?;
        }
        let temporary = self.dir.join(TEMPORARY);
        match self.disk.remove(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(failed("remove", &temporary))?,
        }
        let file = self.disk.open(&temporary, Open::Create).map_err(failed("create", &temporary))?;
        file.write_all_at(bytes, 0).map_err(failed("write", &temporary))?;
        file.sync().map_err(failed(SYNC, &temporary))?;
        self.disk.rename(&temporary, path).map_err(failed("rename", &temporary))
    }
}

fn failed(doing: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { file: file.to_path_buf(), doing, source }
}

/// The hash that a file name stands for.
fn hash_of(name: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let whole = base16ct::lower::decode(name.strip_suffix(SUFFIX)?, &mut hash).is_ok_and(|bytes| bytes.len() == 32);
    whole.then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sim_disk::{Calls, Failure, Fault, SimDisk, Tear};

    fn hash(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    fn plans(disk: &SimDisk) -> Plans {
        Plans::new(Arc::new(disk.clone()), PathBuf::from("/data/plans"))
    }

    fn new_disk() -> SimDisk {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk
    }

    #[test]
    fn stores_once_and_checks() {
        let disk = new_disk();
        let plans = plans(&disk);
        assert_eq!(plans.list().unwrap(), Vec::<[u8; 32]>::new());
        let (one, two) = (vec![1; 1000], vec![2; 3000]);
        plans.put(hash(&one), &one).unwrap();
        plans.put(hash(&two), &two).unwrap();
        plans.put(hash(&one), &one).unwrap();
        assert_eq!(plans.get(hash(&one)).unwrap(), one);
        let mut all = [hash(&one), hash(&two)];
        all.sort_unstable();
        assert_eq!(plans.list().unwrap(), all);
        assert!(matches!(plans.get(hash(b"?")), Err(Error::Missing { .. })));
        disk.corrupt(&plans.path(hash(&two)), 2999, 1).unwrap();
        let error = plans.get(hash(&two)).unwrap_err();
        assert!(matches!(&error, Error::Damaged { file } if *file == plans.path(hash(&two))), "{error}");
    }

    #[test]
    fn what_was_stored_survives_a_crash_at_every_call() {
        let (one, two) = (vec![1; 1000], vec![2; 3000]);
        for after in 0.. {
            let disk = new_disk();
            disk.fail(Fault { calls: Calls::All, after, failure: Failure::Halt });
            let stored = [&one, &two].map(|plan| plans(&disk).put(hash(plan), plan).is_ok());
            for seed in 0..20 {
                let disk = disk.crash(seed, Tear::Within);
                let plans = plans(&disk);
                for (plan, stored) in [&one, &two].into_iter().zip(stored) {
                    match plans.get(hash(plan)) {
                        Ok(bytes) => assert_eq!(bytes, *plan),
                        Err(error) => {
                            assert!(!stored && matches!(error, Error::Missing { .. }), "{after} {seed}: {error}");
                        }
                    }
                    plans.put(hash(plan), plan).unwrap();
                    assert_eq!(plans.get(hash(plan)).unwrap(), *plan);
                }
            }
            if stored == [true, true] {
                return;
            }
        }
    }

    #[test]
    fn a_failed_call_can_be_tried_again() {
        let plan = vec![7; 2000];
        for after in 0.. {
            let disk = new_disk();
            disk.fail(Fault { calls: Calls::All, after, failure: Failure::Io });
            let failed = plans(&disk).put(hash(&plan), &plan).is_err();
            disk.heal();
            plans(&disk).put(hash(&plan), &plan).unwrap();
            for seed in 0..20 {
                assert_eq!(plans(&disk.crash(seed, Tear::Whole)).get(hash(&plan)).unwrap(), plan, "{after} {seed}");
            }
            if !failed {
                return;
            }
        }
    }
}
