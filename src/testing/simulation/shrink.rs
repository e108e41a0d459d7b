//! Leaving out of a history what it does not need to fail.

use super::{Failure, Plan, run};

/// How many shorter histories are tried.
const TRIES: usize = 2_000;

/// A plan that fails in the same way as `plan` with fewer steps, with its failure; nothing if `plan` does not fail.
#[must_use]
pub fn shrink(plan: &Plan) -> Option<(Plan, Box<Failure>)> {
    let mut failure = run(plan).err()?;
    let mut best = Plan { steps: plan.steps.min(failure.step + 1), ..plan.clone() };
    // It may have failed at the end only.
    match run(&best) {
        Err(same) if same.kind == failure.kind => failure = same,
        _ => best = plan.clone(),
    }
    let mut tries = 0;
    let mut length = (best.steps / 2).max(1);
    loop {
        let mut from = 0;
        while from < best.steps && tries < TRIES {
            let mut shorter = best.clone();
            let before = shorter.skipped.len();
            shorter.skipped.extend(from..(from + length).min(best.steps));
            from += length;
            if shorter.skipped.len() == before {
                continue;
            }
            tries += 1;
            if let Err(same) = run(&shorter)
                && same.kind == failure.kind
            {
                (best, failure) = (shorter, same);
            }
        }
        if length == 1 || tries >= TRIES {
            break;
        }
        length /= 2;
    }
    let with_history = Plan { with_history: true, ..best };
    let failure = run(&with_history).err()?;
    Some((with_history, failure))
}
