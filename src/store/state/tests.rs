//! Rows and manifest together: crashes at any step, damage, failures.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::store::disk::{File, Open};
use crate::store::rows::{Change, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::store::sled_rows::tests::{Look, Model, Watched, change_model, noise};
use crate::store::sled_rows::{FOLDER, SET_ASIDE, copy};
use crate::testing::failing_disk::FailingDisk;
use crate::testing::sim_disk::Failure;

type CallersFault = (Lsn, Vec<Change>, fn(&Error) -> bool);

fn open(dir: &Path) -> (StateStore, Opened) {
    StateStore::open(dir, Arc::new(RealDisk)).unwrap()
}

/// A checkpoint at `lsn` with these changes.
fn checkpoint(store: &StateStore, lsn: Lsn, changes: Vec<Change>) -> Result<(), Error> {
    let altered = |(key, new): Change| {
        Ok(Altered {
            old: if key.len() <= KEY_BYTES_MAX && !key.is_empty() { store.get(&key)? } else { None },
            key,
            new,
        })
    };
    store.checkpoint(lsn, changes.into_iter().map(altered))
}

fn all_rows(store: &StateStore) -> Model {
    store.scan(&[0], &[255; KEY_BYTES_MAX], usize::MAX).unwrap().into_iter().collect()
}

/// `count` rows of about 120 bytes, and one in 50 in segments; different for each `round`.
fn rows(round: u64, count: u64) -> Vec<Change> {
    (0..count)
        .map(|n| {
            let len = if n % 50 == 49 { 5_000 + 3_000 * (round % 3) } else { 110 + n % 20 };
            (format!("reservation/{n:06}").into_bytes(), Some(noise(round << 32 | n, len as usize)))
        })
        .collect()
}

fn asides(dir: &Path) -> Vec<String> {
    RealDisk.list(dir).unwrap().into_iter().filter(|name| name.starts_with(SET_ASIDE)).collect()
}

#[test]
fn what_was_checkpointed_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, opened) = open(dir.path());
    assert_eq!(opened, Opened { lsn: Lsn(0), rebuilt_because: None });
    let mut model = Model::new();
    for round in 1..=5 {
        let mut changes = rows(round, 100 * round);
        changes.iter_mut().step_by(7).for_each(|(_, value)| *value = None);
        change_model(&mut model, &changes);
        checkpoint(&store, Lsn(round * 10), changes).unwrap();
    }
    checkpoint(&store, Lsn(60), Vec::new()).unwrap();
    assert_eq!(store.floor(), Lsn(60));
    drop(store);
    let (store, opened) = open(dir.path());
    assert_eq!(opened, Opened { lsn: Lsn(60), rebuilt_because: None });
    assert_eq!((all_rows(&store), store.floor()), (model, Lsn(60)));
}

#[test]
fn a_change_to_what_is_there_already_writes_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    checkpoint(&store, Lsn(1), rows(1, 100)).unwrap();
    let before = fs::read(dir.path().join("state/db")).unwrap();
    checkpoint(&store, Lsn(2), rows(1, 100)).unwrap();
    checkpoint(&store, Lsn(3), vec![(b"not there".to_vec(), None)]).unwrap();
    assert!(before == fs::read(dir.path().join("state/db")).unwrap());
    assert_eq!(store.floor(), Lsn(3));
}

#[test]
fn what_is_the_callers_fault_changes_nothing_and_is_not_final() {
    let dir = tempfile::tempdir().unwrap();
    let (on_disk, _) = open(dir.path());
    for store in [on_disk, StateStore::in_memory()] {
        checkpoint(&store, Lsn(5), vec![(vec![1], Some(vec![1]))]).unwrap();
        let table: [CallersFault; 6] = [
            (Lsn(4), vec![], |e| matches!(e, Error::Backwards { .. })),
            (Lsn(6), vec![(vec![], None)], |e| matches!(e, Error::KeyLength(0))),
            (Lsn(6), vec![(vec![0; KEY_BYTES_MAX + 1], None)], |e| matches!(e, Error::KeyLength(601))),
            (Lsn(6), vec![(vec![0], Some(vec![0; VALUE_BYTES_MAX + 1]))], |e| matches!(e, Error::ValueLength(_))),
            (Lsn(6), vec![(vec![2], None), (vec![1], None)], |e| matches!(e, Error::Order)),
            (Lsn(6), vec![(vec![1], None), (vec![1], Some(vec![]))], |e| matches!(e, Error::Order)),
        ];
        for (lsn, changes, expected) in table {
            let error = checkpoint(&store, lsn, changes).unwrap_err();
            assert!(expected(&error), "{error}");
        }
        assert!(matches!(store.get(&[]), Err(Error::KeyLength(0))));
        checkpoint(&store, Lsn(6), vec![(vec![0; KEY_BYTES_MAX], Some(noise(7, VALUE_BYTES_MAX)))]).unwrap();
        assert_eq!(all_rows(&store).len(), 2);
    }
}

/// Syncs of directories fail while this says so, and manifests that got their name are counted.
#[derive(Debug, Default)]
struct Unsynced {
    fails: AtomicBool,
    named: AtomicUsize,
}

#[derive(Debug)]
struct UnsyncedDisk(Arc<Unsynced>);

struct UnsyncedDirectory(UnsyncedDisk, PathBuf);

impl Directory for UnsyncedDirectory {
    fn sync(&self) -> io::Result<()> {
        self.0.sync_dir(&self.1)
    }
}

impl Disk for UnsyncedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        RealDisk.open(path, how)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.named.fetch_add(1, Ordering::Relaxed);
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let fails = self.0.fails.load(Ordering::Relaxed) && self.0.named.load(Ordering::Relaxed) > 0;
        if fails { Err(io::ErrorKind::Other.into()) } else { RealDisk.sync_dir(dir) }
    }
    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(UnsyncedDirectory(Self(self.0.clone()), dir.to_owned())))
    }
    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.available_bytes(dir)
    }
}

/// The simulator's seed 4248: the manifest that names a checkpoint as pending has got its name, but not for certain; a start
/// wrote the rows, and a power cut took the name away.
#[test]
fn a_pending_checkpoint_is_named_for_certain_before_it_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let (unsynced, look) = (Arc::new(Unsynced::default()), Look::default());
    // How many manifests had got their name, at each batch.
    let noted = Arc::new(Mutex::new(Vec::new()));
    let (naming, noting) = (unsynced.clone(), noted.clone());
    *look.lock() = Some(Box::new(move || noting.lock().push(naming.named.load(Ordering::Relaxed))));
    let disk: Arc<dyn Disk> = Arc::new(UnsyncedDisk(unsynced.clone()));
    let folder = || SledFolder { dir: dir.path().to_owned(), disk: disk.clone(), cache_bytes: CHECK_CACHE_BYTES };
    let open = || StateStore::open_on(&Watched(folder(), look.clone()), dir.path(), disk.clone()).unwrap();
    let (store, _) = open();
    checkpoint(&store, Lsn(1), rows(1, 300)).unwrap();
    unsynced.named.store(0, Ordering::Relaxed);
    unsynced.fails.store(true, Ordering::Relaxed);
    noted.lock().clear();
    assert!(matches!(checkpoint(&store, Lsn(2), rows(2, 300)), Err(Error::Manifest(_))));
    assert_eq!(*noted.lock(), [0; 0], "nothing is written that may not be named");
    drop(store);
    unsynced.named.store(0, Ordering::Relaxed);
    unsynced.fails.store(false, Ordering::Relaxed);
    let (store, opened) = open();
    assert_eq!(opened, Opened { lsn: Lsn(2), rebuilt_because: None });
    assert_eq!(all_rows(&store), rows(2, 300).into_iter().map(|(key, row)| (key, row.unwrap())).collect());
    let noted = noted.lock();
    assert!(noted.len() > 3 && noted.iter().all(|named| *named == 1), "{noted:?}");
}

/// What has to be in a copy of the data directory.
struct Copy {
    dir: PathBuf,
    /// The newest lsn that a checkpoint was begun for, and the newest that one returned for.
    begun: u64,
    returned: u64,
    /// Whether sled had nothing unwritten, so that nothing may be lost.
    at_rest: bool,
}

/// Copies the data directory at each step of a checkpoint.
struct Copier {
    dir: PathBuf,
    copies: PathBuf,
    state: Mutex<(u64, u64, Vec<Copy>)>,
}

impl Copier {
    fn take(&self, at_rest: bool) {
        let mut state = self.state.lock();
        let (begun, returned, dir) = (state.0, state.1, self.copies.join(state.2.len().to_string()));
        copy(&self.dir, &dir).unwrap();
        state.2.push(Copy { dir, begun, returned, at_rest });
    }
}

impl fmt::Debug for Copier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Copier")
    }
}

#[derive(Debug)]
struct CopyingDisk(Arc<Copier>);

impl Disk for CopyingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let file = RealDisk.open(path, how);
        self.0.take(true);
        file
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.take(true);
        RealDisk.rename(from, to)?;
        self.0.take(true);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        RealDisk.open_dir(dir)
    }
    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.available_bytes(dir)
    }
}

struct CopyingRows(Box<dyn StoredRows>, Arc<Copier>);

impl StoredRows for CopyingRows {
    fn tally(&self) -> Result<Tally, Error> {
        self.0.tally()
    }
}

impl Rows for CopyingRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key)
    }
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        self.0.scan(from, to, limit)
    }
    fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        // Copies while the batch comes in, too.
        thread::scope(|scope| {
            let applying = scope.spawn(|| self.0.apply(changes));
            while !applying.is_finished() {
                self.1.take(false);
            }
            applying.join().unwrap()
        })?;
        self.1.take(false);
        Ok(())
    }
    fn flush(&self) -> Result<(), Error> {
        self.0.flush()?;
        self.1.take(true);
        Ok(())
    }
}

#[test]
fn a_crash_at_any_step_leaves_one_of_two_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let copier = Arc::new(Copier {
        dir: dir.path().to_owned(),
        copies: copies.path().to_owned(),
        state: Mutex::new((0, 0, Vec::new())),
    });
    let (mut store, _) = StateStore::open(dir.path(), Arc::new(CopyingDisk(copier.clone()))).unwrap();
    store.rows = Box::new(CopyingRows(store.rows, copier.clone()));
    let mut models = vec![Model::new()];
    for round in 1..=4 {
        let mut changes = rows(round, 300);
        changes.iter_mut().skip(round as usize).step_by(11).for_each(|(_, value)| *value = None);
        let mut model = models[models.len() - 1].clone();
        change_model(&mut model, &changes);
        models.push(model);
        copier.state.lock().0 = round;
        checkpoint(&store, Lsn(round), changes).unwrap();
        copier.state.lock().1 = round;
        copier.take(true);
    }
    let (_, _, taken) = std::mem::take(&mut *copier.state.lock());
    let mut pending_found = 0;
    let mut rebuilt = 0;
    for (n, copy) in taken.iter().enumerate() {
        let (store, opened) = open(&copy.dir);
        let lsn = opened.lsn.0;
        assert!(all_rows(&store) == models[lsn as usize], "copy {n}: {opened:?}");
        assert!((copy.returned..=copy.begun).contains(&store.floor().0), "copy {n}: {:?}", store.floor());
        match opened.rebuilt_because {
            Some(why) => {
                assert!(lsn == 0 && !copy.at_rest, "copy {n}: {why}");
                rebuilt += 1;
            }
            None => assert!((copy.returned..=copy.begun).contains(&lsn), "copy {n} is at lsn {lsn}"),
        }
        pending_found += u64::from(lsn > copy.returned);
        // It goes on from there, and what it found is settled.
        checkpoint(&store, Lsn(lsn + 100), rows(9, 50)).unwrap();
        drop(store);
        assert_eq!(open(&copy.dir).1, Opened { lsn: Lsn(lsn + 100), rebuilt_because: None }, "copy {n}");
        fs::remove_dir_all(&copy.dir).unwrap();
    }
    println!("{} copies, {pending_found} with the pending rows, {rebuilt} rebuilt", taken.len());
    assert!(pending_found >= 4, "{pending_found} of {}", taken.len());
}

/// A data directory with two checkpoints, the second at lsn 2 with these rows.
fn two_checkpoints(dir: &Path) -> Model {
    let (store, _) = open(dir);
    checkpoint(&store, Lsn(1), rows(1, 300)).unwrap();
    checkpoint(&store, Lsn(2), rows(2, 200)).unwrap();
    all_rows(&store)
}

/// Opens a directory in which something was damaged; whether it was rebuilt.
fn open_damaged(dir: &Path, model: &Model, what: &str) -> bool {
    let (store, opened) = open(dir);
    match opened.rebuilt_because {
        None => assert!(opened.lsn == Lsn(2) && all_rows(&store) == *model, "{what}: a wrong row went unnoticed"),
        Some(_) => {
            assert_eq!((opened.lsn, store.floor(), all_rows(&store).len()), (Lsn(0), Lsn(2), 0), "{what}");
            assert_eq!(asides(dir), ["state.damaged-1"], "{what}");
        }
    }
    opened.lsn == Lsn(0)
}

#[test]
fn no_damage_to_sleds_files_goes_unnoticed() {
    let original = tempfile::tempdir().unwrap();
    let model = two_checkpoints(original.path());
    let copies = tempfile::tempdir().unwrap();
    let dir = copies.path().join("copy");
    let mut rebuilt = 0;
    let mut tried = 0;
    let folder = original.path().join(FOLDER);
    let files = RealDisk.list(&folder).unwrap().into_iter().filter(|name| name != "blobs");
    for name in files {
        let good = fs::read(folder.join(&name)).unwrap();
        let written = good.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        let step = (written / 150).max(1);
        let flips = (0..written).step_by(step).map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x41;
            (format!("{name} flipped at {at}"), bytes)
        });
        let cuts = (0..=10).map(|n| (format!("{name} cut to {n} tenths"), good[..written * n / 10].to_vec()));
        for (what, bytes) in flips.chain(cuts) {
            copy(original.path(), &dir).unwrap();
            fs::write(dir.join(FOLDER).join(&name), bytes).unwrap();
            rebuilt += u32::from(open_damaged(&dir, &model, &what));
            tried += 1;
            fs::remove_dir_all(&dir).unwrap();
        }
    }
    println!("{tried} damaged, {rebuilt} of them rebuilt");
    assert!(rebuilt > tried / 4, "{rebuilt} of {tried}");
}

#[test]
fn rows_of_another_time_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    let (store, _) = open(dir.path());
    checkpoint(&store, Lsn(1), rows(1, 300)).unwrap();
    drop(store);
    let old = dir.path().join("old");
    copy(&folder, &old).unwrap();
    let model = two_checkpoints(dir.path());
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&old, &folder).unwrap();
    assert!(open_damaged(dir.path(), &model, "an older folder"));
}

#[test]
fn a_deleted_folder_is_rebuilt_and_the_floor_stays() {
    let dir = tempfile::tempdir().unwrap();
    two_checkpoints(dir.path());
    fs::remove_dir_all(dir.path().join(FOLDER)).unwrap();
    let (store, opened) = open(dir.path());
    assert_eq!(opened, Opened { lsn: Lsn(0), rebuilt_because: Some("the state folder is missing".to_owned()) });
    assert_eq!(store.floor(), Lsn(2));
    checkpoint(&store, Lsn(1), rows(1, 300)).unwrap();
    drop(store);
    let (store, opened) = open(dir.path());
    assert_eq!((opened.lsn, opened.rebuilt_because, store.floor()), (Lsn(1), None, Lsn(2)));
}

#[test]
fn without_its_manifest_the_state_is_rebuilt_and_one_old_folder_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("manifest");
    let damages: [fn(&Path); 2] = [|path| fs::write(path, b"nonsense").unwrap(), |path| fs::remove_file(path).unwrap()];
    for (n, (damage, why)) in damages.into_iter().zip(["CRC", "no manifest"]).enumerate() {
        two_checkpoints(dir.path());
        damage(&manifest);
        let (store, opened) = open(dir.path());
        assert!(opened.rebuilt_because.as_ref().is_some_and(|text| text.contains(why)), "{opened:?}");
        assert_eq!((opened.lsn, store.floor()), (Lsn(0), Lsn(0)));
        assert_eq!(asides(dir.path()), [format!("{SET_ASIDE}{}", n + 1)]);
    }
}

#[test]
fn an_open_store_is_not_taken_for_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let second = StateStore::open(dir.path(), Arc::new(RealDisk));
    assert!(matches!(second, Err(Error::InUse(_))), "{second:?}");
    checkpoint(&store, Lsn(1), rows(1, 10)).unwrap();
    assert_eq!(asides(dir.path()), [""; 0]);
}

#[test]
fn a_failure_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    checkpoint(&store, Lsn(1), rows(1, 10)).unwrap();
    // In the way of the manifest's next version.
    fs::create_dir(dir.path().join("manifest.new")).unwrap();
    assert!(matches!(checkpoint(&store, Lsn(2), rows(2, 10)), Err(Error::Manifest(_))));
    fs::remove_dir(dir.path().join("manifest.new")).unwrap();
    assert!(matches!(checkpoint(&store, Lsn(2), rows(2, 10)), Err(Error::Failed(_))));
    assert!(matches!(store.get(b"any"), Err(Error::Failed(_))));
    assert!(matches!(store.scan(&[0], &[1], 1), Err(Error::Failed(_))));
    drop(store);
    assert_eq!(open(dir.path()).1, Opened { lsn: Lsn(1), rebuilt_because: None });
}

#[test]
fn what_is_lacking_before_anything_has_changed_is_waited_for() {
    for failure in [Failure::NoSpace, Failure::NoDescriptor] {
        let (mut put_off, mut over) = (BTreeSet::new(), BTreeSet::new());
        for after in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let disk = FailingDisk::default();
            let (store, _) = StateStore::open(dir.path(), Arc::new(disk.clone())).unwrap();
            checkpoint(&store, Lsn(1), rows(1, 100)).unwrap();
            let (before, mut model) = (all_rows(&store), all_rows(&store));
            change_model(&mut model, &rows(2, 100));
            disk.fail(after, failure);
            let outcome = checkpoint(&store, Lsn(2), rows(2, 100));
            let Some(failed) = disk.heal() else {
                outcome.unwrap();
                break;
            };
            let name = failed.path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
            match outcome {
                Err(Error::Later(_)) => {
                    put_off.insert((failed.call, name));
                    assert!(store.settled().lsn == Lsn(1) && all_rows(&store) == before);
                    checkpoint(&store, Lsn(2), rows(2, 100)).unwrap();
                    assert!(all_rows(&store) == model);
                }
                Err(_) => {
                    over.insert((failed.call, name));
                    assert!(matches!(store.get(b"any"), Err(Error::Failed(_))));
                }
                Ok(()) => panic!("{failed:?} is ignored"),
            }
            drop(store);
            let (store, opened) = open(dir.path());
            assert_eq!(opened.rebuilt_because, None, "{failed:?}");
            assert!(all_rows(&store) == if opened.lsn == Lsn(2) { model } else { before }, "{failed:?}");
        }
        let first_pass = [
            ("create", "manifest.new"),
            ("create", "manifest.settled"),
            ("create", "redo"),
            ("read", "redo"),
            ("remove", "manifest.new"),
            ("remove", "manifest.settled"),
            ("remove", "redo"),
            ("sync", ""),
            ("sync", "manifest.new"),
            ("sync", "manifest.settled"),
            ("sync", "redo"),
            ("write", "manifest.new"),
            ("write", "manifest.settled"),
            ("write", "redo"),
        ];
        let opens = |call: &str| failure == Failure::NoSpace || call == "create";
        let expected = first_pass.into_iter().filter(|(call, _)| opens(call));
        assert_eq!(put_off, expected.map(|(call, name)| (call, name.to_owned())).collect());
        // What comes after it opens nothing.
        let comes_after =
            [("read", "redo"), ("rename", "manifest"), ("sync", "")].map(|(call, name)| (call, name.to_owned()));
        match failure {
            Failure::NoDescriptor => assert!(over.is_empty(), "{over:?}"),
            _ => assert!(comes_after.iter().all(|call| over.contains(call)), "{over:?}"),
        }
    }
}

#[test]
fn a_check_tells_and_changes_nothing() {
    fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let names = ["manifest", "state/conf", "state/db"].map(str::to_owned).into_iter();
        let snaps = RealDisk.list(&dir.join(FOLDER)).unwrap_or_default().into_iter();
        let snaps = snaps.filter(|name| name.starts_with("snap.")).map(|name| format!("{FOLDER}/{name}"));
        names.chain(snaps).filter_map(|name| Some((name.clone(), fs::read(dir.join(name)).ok()?))).collect()
    }
    let dir = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap().path().join("check");
    fs::create_dir_all(scratch.parent().unwrap()).unwrap();
    let check = || {
        let before = files(dir.path());
        let verdict = StateStore::check(dir.path(), &RealDisk, &scratch).unwrap();
        assert!(before == files(dir.path()) && !scratch.exists() && asides(dir.path()).is_empty());
        verdict
    };
    assert_eq!(check(), Check::Missing("manifest"));
    two_checkpoints(dir.path());
    assert_eq!(check().to_string(), "300 rows agree with the checkpoint at lsn 2");
    let db = dir.path().join("state/db");
    let mut bytes = fs::read(&db).unwrap();
    bytes.iter_mut().skip(1_000).step_by(500).for_each(|byte| *byte ^= 1);
    fs::write(&db, bytes).unwrap();
    assert!(matches!(check(), Check::Disagrees(why) if why.contains("state")));
    fs::remove_dir_all(dir.path().join(FOLDER)).unwrap();
    assert_eq!(check(), Check::Missing("state folder"));
    fs::write(dir.path().join("manifest"), "nonsense").unwrap();
    assert!(matches!(check(), Check::Disagrees(why) if why.contains("CRC")));
    fs::remove_dir_all(scratch.parent().unwrap()).unwrap();
}
