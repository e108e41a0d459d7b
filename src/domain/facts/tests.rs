//! The lattice: any order and repetition of facts ends in the same, and the money adds up after each.

use super::*;
use crate::testing::random::{Random, seed};

fn fact(kind: Kind, reference: &str, id: &str, amount: u32) -> Fact {
    let id = (!id.is_empty()).then(|| id.to_owned());
    let (reference, amount) = (reference.to_owned(), amount.into());
    Fact { kind, reference, id, amount, currency: Currency::KRW, at: None, reason: None }
}

fn euros(fact: Fact) -> Fact {
    Fact { currency: "EUR".parse().unwrap(), ..fact }
}

fn all(facts: &[Fact]) -> Facts {
    let mut known = Facts::default();
    facts.iter().for_each(|fact| known.take(fact));
    known
}

/// Captured, refunded, lost, owed and shortfall, if 50 are the price of what the buyer has, or nothing is.
fn adds_up(facts: &[Fact], confirmed: u32) -> [u64; 5] {
    let totals = all(facts).totals(Currency::KRW, confirmed.into());
    assert!(totals.balance(), "{totals:?}");
    [totals.captured, totals.refunded, totals.lost, totals.owed, totals.shortfall]
}

#[test]
fn what_facts_add_up_to() {
    use Kind::{Authorized, Captured, DisputeLost, DisputeWon, Disputed, Failed, RefundFailed, Refunded, Voided};
    let captured = fact(Captured, "a", "", 50);
    let refunded = |id, amount| fact(Refunded, "a", id, amount);
    let check = |facts: &[Fact], confirmed, expected| assert_eq!(adds_up(facts, confirmed), expected, "{facts:#?}");
    check(&[], 0, [0; 5]);
    check(&[fact(Authorized, "a", "", 50)], 0, [0; 5]);
    check(std::slice::from_ref(&captured), 50, [50, 0, 0, 0, 0]);
    check(std::slice::from_ref(&captured), 0, [50, 0, 0, 50, 0]);
    check(&[captured.clone(), fact(Failed, "a", "", 50), fact(Voided, "a", "", 50)], 0, [50, 0, 0, 50, 0]);
    // Two refunds of one charge are two, and one is one however often it is told.
    check(&[captured.clone(), refunded("1", 20), refunded("2", 20), refunded("1", 20)], 0, [50, 40, 0, 10, 0]);
    check(&[captured.clone(), refunded("1", 20), refunded("2", 20)], 50, [50, 40, 0, 0, 40]);
    // What went back was taken.
    check(&[refunded("", 20)], 0, [20, 20, 0, 0, 0]);
    check(&[refunded("", 20), captured.clone()], 0, [50, 20, 0, 30, 0]);
    check(&[fact(DisputeLost, "a", "", 20)], 50, [20, 0, 20, 0, 50]);
    // It came back.
    check(&[captured.clone(), refunded("1", 50), fact(RefundFailed, "a", "1", 50)], 0, [50, 0, 0, 50, 0]);
    check(&[captured.clone(), refunded("2", 50), fact(RefundFailed, "a", "1", 50)], 0, [50, 50, 0, 0, 0]);
    // Settled by hand, under a name of its own.
    check(&[captured.clone(), fact(RefundFailed, "a", "1", 50), fact(Refunded, "bank", "", 50)], 0, [50, 50, 0, 0, 0]);
    check(&[captured.clone(), fact(Disputed, "a", "", 50), fact(DisputeWon, "a", "", 50)], 50, [50, 0, 0, 0, 0]);
    check(&[captured.clone(), fact(DisputeWon, "a", "", 50), fact(DisputeLost, "a", "", 50)], 50, [50, 0, 50, 0, 50]);
    // A lost dispute settles what was owed.
    check(&[captured.clone(), fact(DisputeLost, "a", "", 50)], 0, [50, 0, 50, 0, 0]);
    // Of two currencies only one is looked at.
    check(&[captured, euros(fact(Captured, "b", "", 7))], 50, [50, 0, 0, 0, 0]);
}

#[test]
fn refunds_are_due_of_charges() {
    use Kind::{Captured, RefundFailed, Refunded};
    let due = |facts: &[Fact], by: Option<&str>| {
        let confirmed = if by.is_some() { 50 } else { 0 };
        let facts = all(facts);
        let due = facts.refunds_due(by, Currency::KRW, Points::from(confirmed));
        due.iter().map(|due| (due.reference.to_owned(), due.amount, due.by_hand)).collect::<Vec<_>>()
    };
    let (a, b) = (fact(Captured, "a", "", 50), fact(Captured, "b", "", 50));
    let of = |reference: &str, amount, by_hand| (reference.to_owned(), amount, by_hand);
    assert_eq!(due(&[a.clone(), b.clone()], Some("b")), [of("a", 50, false)]);
    assert_eq!(due(&[a.clone(), b.clone()], Some("a")), [of("b", 50, false)]);
    assert_eq!(due(&[a.clone(), b.clone()], None), [of("a", 50, false), of("b", 50, false)]);
    let failed = fact(RefundFailed, "a", "1", 50);
    assert_eq!(due(&[a.clone(), failed.clone()], None), [of("a", 50, true)]);
    assert_eq!(due(&[a.clone(), failed.clone(), fact(Refunded, "bank", "", 30)], None), [of("a", 20, true)]);
    // What was paid by hand was paid for what the provider could not.
    let hand = fact(Refunded, "bank", "", 50);
    assert_eq!(due(&[a.clone(), failed, b.clone(), hand], None), [of("b", 50, false)]);
    // A refund of one charge is not one of another, though it has its name.
    let named = fact(Refunded, "a", "b", 50);
    assert_eq!(due(&[a.clone(), b.clone(), named], None), [of("b", 50, false)]);
    let named = fact(Refunded, "bank", "b", 50);
    assert_eq!(due(&[a.clone(), b.clone(), named], None), [of("a", 50, false)]);
    // Another currency is given back as such.
    let facts = all(&[a, euros(fact(Captured, "e", "", 7))]);
    let due = facts.refunds_due(Some("a"), Currency::KRW, Points::from(50));
    assert_eq!(
        due.iter().map(|due| (due.reference, due.amount, due.currency.as_str())).collect::<Vec<_>>(),
        [("e", 7, "EUR")]
    );
}

#[test]
fn the_same_fact_with_another_amount_is_a_conflict() {
    let captured = fact(Kind::Captured, "a", "", 50);
    let facts = all(std::slice::from_ref(&captured));
    assert_eq!(facts.hear(&captured), Heard::Known);
    assert_eq!(facts.hear(&fact(Kind::Captured, "a", "a", 50)), Heard::Known, "the reference is the default of the id");
    assert_eq!(facts.hear(&fact(Kind::Captured, "a", "", 51)), Heard::Conflict);
    assert_eq!(facts.hear(&euros(captured.clone())), Heard::Conflict);
    assert_eq!(facts.hear(&euros(fact(Kind::Refunded, "a", "", 1))), Heard::Conflict);
    assert_eq!(facts.hear(&fact(Kind::Captured, "a", "2", 51)), Heard::New);
    assert_eq!(facts.hear(&fact(Kind::Captured, "aa", "", 51)), Heard::New);
}

#[test]
fn there_is_room_for_money_as_long_as_a_record_can_hold_it() {
    // Names of the usual length, and of the longest.
    for (length, talk, money) in [(1, FACTS_MAX, 2_000), (27, FACTS_MAX, 1_200), (255, 110, 200)] {
        let mut facts = Facts::default();
        let name = |n: usize| format!("{n:0>length$}");
        let fill = |facts: &mut Facts, kind: Kind, from: usize| {
            let fact = |n: usize| fact(kind, &name(n), &"i".repeat(length), 1);
            let room = (from..10_000).take_while(|n| {
                let has_room = facts.has_room_for(&fact(*n));
                facts.take(&fact(*n));
                has_room
            });
            room.count()
        };
        let opened = fill(&mut facts, Kind::Opened, 0);
        assert!(opened >= talk && opened <= FACTS_MAX, "{opened} of {length}");
        assert!(!facts.has_room_for(&fact(Kind::Authorized, "one more", "", 1)));
        assert!(!facts.has_room_for(&fact(Kind::Failed, "one more", "", 1)));
        assert!(facts.has_room_for(&fact(Kind::Failed, &name(0), "", 1)));
        let refunded = fill(&mut facts, Kind::Refunded, 5_000);
        assert!(opened + refunded >= money, "{opened} and {refunded} of {length}");
        // With what follows from one more it fits into a record.
        let bytes = crate::domain::cbor::to_vec(&facts).len();
        assert!(bytes < crate::domain::RECORD_BYTES_MAX / 2, "{bytes} bytes");
    }
}

#[test]
fn what_is_wrong_with_a_fact() {
    let flaws = |fact: &Fact| fact.flaws().map(|flaw| flaw.field).collect::<Vec<_>>();
    let good = fact(Kind::Captured, &"r".repeat(255), &"i".repeat(255), 1);
    assert_eq!(flaws(&Fact { reason: Some("x".repeat(500)), ..good.clone() }), [""; 0]);
    assert_eq!(flaws(&fact(Kind::Captured, "", "", 1)), ["reference"]);
    let bad = Fact { reason: Some("x".repeat(501)), ..fact(Kind::Captured, &"r".repeat(256), "a\nb", 1) };
    assert_eq!(flaws(&bad), ["reference", "id", "reason"]);
}

const KINDS: [Kind; 10] = [
    Kind::Opened,
    Kind::Authorized,
    Kind::Captured,
    Kind::Failed,
    Kind::Voided,
    Kind::Refunded,
    Kind::RefundFailed,
    Kind::Disputed,
    Kind::DisputeWon,
    Kind::DisputeLost,
];

/// Some facts, each once: the amount follows from what it is of, so that none conflicts.
fn some(dice: &mut Random) -> Vec<Fact> {
    let mut facts = Vec::new();
    for _ in 0..=dice.below(12) {
        let (kind, reference, id) = (*dice.pick(&KINDS), *dice.pick(&["a", "b", "c"]), *dice.pick(&["", "1", "2"]));
        let amount = 10 * (1 + reference.len() as u32 + id.len() as u32) + kind as u32;
        let fact = fact(kind, reference, id, amount);
        facts.push(if reference == "c" { euros(fact) } else { fact });
    }
    facts
}

#[test]
fn every_order_and_repetition_ends_in_the_same() {
    let seed = seed();
    println!("seed {seed}");
    let mut dice = Random(seed);
    for _ in 0..2_000 {
        let facts = some(&mut dice);
        let expected = all(&facts);
        let mut others = [facts.clone(), facts].concat();
        for n in (1..others.len()).rev() {
            others.swap(n, dice.below(n as u64 + 1) as usize);
        }
        let mut known = Facts::default();
        for fact in &others {
            known.take(fact);
            check(&known);
        }
        assert_eq!(known, expected, "{others:#?}");
    }
}

/// What must hold of any facts: I13 in each currency, refunds that make up what is owed and are no more than each charge took.
fn check(facts: &Facts) {
    for (by, price) in [(None, 0), (Some("a"), 20), (Some("b"), 1_000)] {
        let due = facts.refunds_due(by, Currency::KRW, price.into());
        for currency in facts.currencies() {
            let price = if currency == Currency::KRW { price } else { 0 };
            let totals = facts.totals(currency, price.into());
            assert!(totals.balance(), "{facts:#?} {totals:?}");
            assert!(totals.captured >= totals.refunded + totals.lost, "{facts:#?} {totals:?}");
            assert!(totals.owed == 0 || totals.shortfall == 0);
            let due: Vec<_> = due.iter().filter(|due| due.currency == currency).collect();
            // A price above what its charge took is missing there, and is not made up by giving others less.
            assert_eq!(due.iter().map(|due| due.amount).sum::<u64>(), totals.owed, "{facts:#?} {due:?}");
            for due in due {
                let charge = facts.of(due.reference).unwrap();
                assert!(due.amount + charge.refunded + charge.lost <= charge.captured, "{facts:#?} {due:?}");
            }
        }
    }
    for charge in facts.charges() {
        assert!(!(charge.dead && charge.is_captured) && !(charge.open && (charge.dead || charge.is_captured)));
    }
}
