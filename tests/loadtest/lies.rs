//! A system that does not keep its promises is caught: no figures, and the history of what it was about.

use boxoffice::loadgen::auditor::Breach;
use boxoffice::loadgen::params::Workload;
use boxoffice::loadgen::report;

use crate::odd::{Odd, Way};
use crate::{embedded, outcome, params};

/// What the auditor says of a system that is odd in this way.
async fn caught(way: Way, workload: Workload, more: &[(&str, &str)]) -> Vec<Breach> {
    let (target, _dir) = embedded().await;
    let outcome = outcome(Odd::new(target, way), params(workload, more)).await;
    assert!(!outcome.audit.ok, "{way:?} was not noticed");
    assert!(outcome.operations.is_empty() && outcome.series.is_empty(), "figures of a run that cannot be trusted");
    let breaches = outcome.audit.violations.clone();
    for text in [outcome.table(), report::page(&outcome), outcome.json()] {
        let shown = breaches[0].what.replace('<', "&lt;");
        assert!(text.contains(&breaches[0].what) || text.contains(&shown), "{text}");
    }
    breaches
}

fn assert_told(breaches: &[Breach], invariant: &str, what: &str, history: &str) {
    let told = |breach: &&Breach| {
        breach.invariant == invariant
            && breach.what.contains(what)
            && (history.is_empty() || breach.history.iter().any(|line| line.contains(history)))
    };
    assert!(breaches.iter().any(|breach| told(&breach)), "{breaches:#?}");
}

const ABANDONED: (&str, &str) = ("soak.abandon_share", "0.9");

#[tokio::test]
async fn a_seat_that_is_given_twice() {
    let breaches = caught(Way::SellsTwice, Workload::Soak, &[ABANDONED]).await;
    assert_told(&breaches, "I1", "a seat was given to", "is told to hold it");
}

#[tokio::test]
async fn a_point_that_is_lost() {
    let breaches = caught(Way::LosesAPoint, Workload::Wallets, &[]).await;
    assert_told(&breaches, "I2", "points instead of", "a charge of");
    let breaches = caught(Way::FindsAPoint, Workload::Wallets, &[]).await;
    assert_told(&breaches, "I2", "points instead of", "a payment of");
}

#[tokio::test]
async fn money_that_is_taken_for_nothing() {
    let breaches = caught(Way::TakesForNothing, Workload::Cards, &[]).await;
    assert_told(&breaches, "I13", "were taken and 0 are back", "Captured ch-");
    let breaches = caught(Way::KeepsTheMoney, Workload::Cards, &[]).await;
    assert_told(&breaches, "I13", "is refund_owed", "Captured ch-");
}

/// Nobody leaves, so that all who were let in are inside in the end.
const TOO_MANY: [(&str, &str); 2] = [("waiting_room.max_active", "3"), ("queue.leave_share", "0")];

#[tokio::test]
async fn a_turn_that_is_not_kept() {
    let breaches = caught(Way::OutOfTurn, Workload::Queue, &[("users", "30")]).await;
    assert_told(&breaches, "I6", "somebody who came at", "");
    let breaches = caught(Way::LetsTooManyIn, Workload::Queue, &TOO_MANY).await;
    assert_told(&breaches, "I6", "are inside, and 3 may be", "");
}

#[tokio::test]
async fn a_hold_that_ends_too_early_or_too_late() {
    let breaches = caught(Way::EndsEarly, Workload::Rush, &[]).await;
    assert_told(&breaches, "I5", "is said to be over before", "asks to give it back");
    let late =
        [("duration", "4s"), ("terms.hold_seconds", "1"), ("soak.abandon_share", "1.0"), ("soak.buy_share", "0.0")];
    let breaches = caught(Way::EndsLate, Workload::Soak, &late).await;
    assert_told(&breaches, "I5", "more than a second after", "is told to hold it");
}

#[tokio::test]
async fn a_write_that_is_forgotten() {
    let breaches = caught(Way::Forgets, Workload::Soak, &[ABANDONED]).await;
    assert_told(&breaches, "I3", "callers were told that it is", "is told to hold it");
    let breaches = caught(Way::CannotFind, Workload::Rush, &[]).await;
    assert_told(&breaches, "I3", "is not to be found", "is told to hold it");
}

#[tokio::test]
async fn a_limit_that_is_not_kept() {
    let more =
        [("users", "3"), ("terms.hold_seconds", "300"), ("soak.abandon_share", "1.0"), ("soak.buy_share", "0.0")];
    let breaches = caught(Way::Unlimited, Workload::Soak, &more).await;
    assert_told(&breaches, "limit", "and may have 8", "seats, held");
}
