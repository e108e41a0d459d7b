//! The fuzzers' targets, with what has been found worth keeping and with random changes of it.
//!
//! What libFuzzer finds, guided by what the code does, comes here as a file of the corpus: see `docs/RELIABILITY.md`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use boxoffice::testing::fuzz::{TARGETS, Target};
use boxoffice::testing::random::{Random, seed};

/// How many changes are tried of each target, unless the environment says for how long to go on.
const CHANGES: u64 = 5_000;
const SECONDS_VARIABLE: &str = "BOXOFFICE_FUZZ_SECONDS";
/// The longest input that is made.
const BYTES_MAX: usize = 1 << 14;

/// The inputs that are kept for a target, by their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Runs a target; when it panics, says with what.
fn run(name: &str, target: Target, input: &[u8], what: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        println!("{name}: {what}: panics on {} bytes: \"{}\"", input.len(), input.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn what_has_been_kept_is_fine() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() > 5, "{name}: there are only {} inputs", corpus.len());
        for (path, input) in corpus {
            run(name, *target, &input, &path.display().to_string());
        }
    }
}

#[test]
fn changes_of_what_has_been_kept_are_fine() {
    let seed = seed();
    println!("BOXOFFICE_TEST_SEED={seed}");
    let given = std::env::var(SECONDS_VARIABLE).ok();
    let time = given.map(|seconds| Duration::from_secs_f64(seconds.parse().unwrap()));
    for (name, target) in TARGETS {
        let corpus: Vec<_> = corpus(name).into_iter().map(|(_, input)| input).collect();
        let mut dice = Random(seed);
        let begun = Instant::now();
        let mut tried = 0;
        while time.map_or(tried < CHANGES, |time| begun.elapsed() < time) {
            run(name, *target, &change(&corpus, &mut dice), &format!("change {tried}"));
            tried += 1;
        }
        println!("{name}: {tried} changes of {} inputs, none panics", corpus.len());
    }
}

/// One of the inputs, changed in some places.
fn change(corpus: &[Vec<u8>], dice: &mut Random) -> Vec<u8> {
    let pick = |dice: &mut Random| &corpus[dice.below(corpus.len() as u64) as usize];
    let mut input = pick(dice).clone();
    for _ in 0..=dice.below(6) {
        // A place to change, or the end.
        let at = dice.below(input.len() as u64 + 1) as usize;
        let length = dice.below((input.len() - at).min(32) as u64 + 1) as usize;
        match dice.below(7) {
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'0'][dice.below(8) as usize],
            2 => drop(input.drain(at..at + length)),
            3 => {
                let again = input[at..at + length].to_vec();
                input.splice(at..at, again);
            }
            4 => {
                let other = pick(dice);
                let from = dice.below(other.len() as u64 + 1) as usize;
                let to = (from + dice.below(64) as usize).min(other.len());
                input.splice(at..at + length, other[from..to].iter().copied());
            }
            5 => input.truncate(at),
            _ => input.insert(at, dice.below(256) as u8),
        }
    }
    input.truncate(BYTES_MAX);
    input
}
