//! Copies: of a running engine, put back elsewhere, and refused where they would not be what they should be.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use boxoffice::{Config, Engine, OpenError, VerifyReport, backup, repair_state, restore, verify};
use common::*;

/// A backup, taken where it holds up nothing else.
async fn back_up(config: &Config, to: &Path) -> Result<VerifyReport, OpenError> {
    let (config, to) = (config.clone(), to.to_path_buf());
    tokio::task::spawn_blocking(move || backup(&config, &to)).await.unwrap()
}

/// A sale that has come to its end, and a backup of it.
async fn backed_up(dir: &Path) -> (Config, std::path::PathBuf) {
    let original = config(&dir.join("data"));
    let engine = Engine::open(original.clone()).await.unwrap();
    Sale::hold(&engine).await;
    let to = dir.join("backup");
    back_up(&original, &to).await.unwrap();
    engine.shutdown().await.unwrap();
    (original, to)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_busy_engine_has_all_that_was_answered_before() {
    let dir = tempfile::tempdir().unwrap();
    let running = config(&dir.path().join("running"));
    let engine = Engine::open(running.clone()).await.unwrap();
    // Of one that has nothing to tell yet, too.
    let nothing = back_up(&running, &dir.path().join("nothing")).await.unwrap();
    assert_eq!((nothing.events, nothing.sealed), (0, true));

    let sale = Sale::hold(&engine).await;
    let answers = sale.answers(&engine).await;
    let done = Arc::new(AtomicBool::new(false));
    let answered: Vec<_> = (0..16).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let busy: Vec<_> = answered
        .iter()
        .enumerate()
        .map(|(n, answered)| {
            let (engine, done, answered) = (engine.clone(), done.clone(), answered.clone());
            tokio::spawn(async move {
                while !done.load(Ordering::Acquire) {
                    charge(&engine, &user(100 + n), 1).await;
                    answered.fetch_add(1, Ordering::AcqRel);
                }
            })
        })
        .collect();
    for round in 0..3 {
        // Each of them waits for the journal to go on.
        let so_far = engine.durable_lsn();
        eventually("more", async || (engine.durable_lsn().0 > so_far.0 + 500).then_some(())).await;
        let before: Vec<_> = answered.iter().map(|answered| answered.load(Ordering::Acquire)).collect();
        let durable = engine.durable_lsn();
        let copy = config(&dir.path().join(format!("copy-{round}")));
        let report = back_up(&running, &copy.data_dir).await.unwrap();
        assert!(report.ok && report.sealed && report.last_lsn >= durable, "{report}");
        assert_eq!(names(&copy.data_dir), ["journal", "plans"]);

        let restored = config(&dir.path().join(format!("restored-{round}")));
        let again = restore(&copy.data_dir, &restored).unwrap();
        assert_eq!((again.last_lsn, &again.state_sha256), (report.last_lsn, &report.state_sha256));
        let other = Engine::open(restored).await.unwrap();
        assert_same(&sale.answers(&other).await, &answers, &format!("round {round}"));
        for (n, before) in before.into_iter().enumerate() {
            assert!(other.wallet(&user(100 + n)).await.unwrap().balance.get() >= before, "round {round}");
        }
        other.shutdown().await.unwrap();
    }
    done.store(true, Ordering::Release);
    for task in busy {
        task.await.unwrap();
    }
    engine.shutdown().await.unwrap();
    assert!(verify(&running).unwrap().ok, "nobody has touched it");
    assert!(segments(&running.data_dir).len() > 1, "there was something to copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_whole_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (_, whole) = backed_up(dir.path()).await;
    type Damage = (&'static str, fn(&Path), &'static str);
    let damages: [Damage; 5] = [
        ("a flipped byte", |dir| flip(&segments(dir)[0], frames(&segments(dir)[0])[1] + 60), "journal"),
        (
            "no end",
            |dir| {
                let segment = segments(dir).pop().unwrap();
                zero_from(&segment, *frames(&segment).last().unwrap());
            },
            "no whole backup",
        ),
        (
            "a damaged plan",
            |dir| {
                let plan = fs::read_dir(dir.join("plans")).unwrap().next().unwrap().unwrap().path();
                flip(&plan, 10);
            },
            "SHA-256",
        ),
        ("no plans", |dir| fs::remove_dir_all(dir.join("plans")).unwrap(), "is missing"),
        ("no journal", |dir| fs::remove_dir_all(dir.join("journal")).unwrap(), "there is no journal"),
    ];
    for (what, damage, complaint) in damages {
        let copy = dir.path().join("damaged");
        copy_dir(&whole, &copy);
        damage(&copy);
        let target = config(&dir.path().join("target"));
        let error = restore(&copy, &target).unwrap_err().to_string();
        assert!(error.contains(complaint), "{what}: {error}");
        assert!(!target.data_dir.exists(), "{what}");
        fs::remove_dir_all(&copy).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (original, _) = backed_up(dir.path()).await;
    let segment = &segments(&original.data_dir)[0];
    let at = frames(segment);
    flip(segment, at[at.len() / 2] + 60);
    let to = dir.path().join("second");
    let error = backup(&original, &to).unwrap_err().to_string();
    assert!(error.contains(segment.file_name().unwrap().to_str().unwrap()), "{error}");
    assert_eq!(names(&to), [""; 0]);
    // Nor is an end taken for the end that lies before what a checkpoint has seen.
    flip(segment, at[at.len() / 2] + 60);
    let newest = segments(&original.data_dir).pop().unwrap();
    let at = frames(&newest);
    zero_from(&newest, at[at.len() - 3]);
    let error = backup(&original, &to).unwrap_err().to_string();
    assert!(error.contains("had reached lsn"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (original, whole) = backed_up(dir.path()).await;
    for target in [&original.data_dir, &whole] {
        let before = names(target);
        let target = config(target);
        for error in [restore(&whole, &target).unwrap_err(), backup(&original, &target.data_dir).unwrap_err()] {
            assert!(error.to_string().contains("empty directory only"), "{error}");
        }
        // What has looked at it leaves its lock.
        let after: Vec<_> = names(&target.data_dir).into_iter().filter(|name| name != "LOCK").collect();
        assert_eq!(after, before.into_iter().filter(|name| name != "LOCK").collect::<Vec<_>>());
    }
    let error = backup(&config(&dir.path().join("none")), &dir.path().join("x")).unwrap_err();
    assert!(error.to_string().contains("there is no journal"), "{error}");
    assert!(!dir.path().join("x").exists());
    fs::create_dir(dir.path().join("empty")).unwrap();
    assert!(restore(&whole, &config(&dir.path().join("empty"))).unwrap().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_state_is_set_aside_and_built_again() {
    let dir = tempfile::tempdir().unwrap();
    let (original, _) = backed_up(dir.path()).await;
    let good = verify(&original).unwrap();
    assert!(good.ok, "{good}");
    for n in 1..=2 {
        let db = original.data_dir.join("state/db");
        let bytes = fs::read(&db).unwrap();
        flip(&db, bytes.iter().rposition(|byte| *byte != 0).unwrap() / 2);
        assert!(!verify(&original).unwrap().ok);
        let repaired = repair_state(&original).unwrap();
        assert!(repaired.ok && repaired.state.starts_with("agrees"), "{repaired}");
        assert_eq!((repaired.last_lsn, &repaired.state_sha256), (good.last_lsn, &good.state_sha256));
        assert!(original.data_dir.join(format!("state.bad-{n}/db")).exists());
    }
    let segment = &segments(&original.data_dir)[0];
    flip(segment, frames(segment)[1] + 60);
    assert!(matches!(repair_state(&original), Err(OpenError::Journal(_))));
    assert!(!original.data_dir.join("state.bad-3").exists(), "the state may be all that there is");
}
