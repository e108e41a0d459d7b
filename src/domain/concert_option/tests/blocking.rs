//! Seats and places that are taken off sale, and put back on it.

use super::*;

/// Seats, and places in areas, with a reason.
fn blocks(seats: &[u32], areas: &[(u16, u32)]) -> Box<Blocks> {
    let areas = areas.iter().map(|(area, count)| places(*area, *count)).collect();
    let part = Portion { seats: seats.into(), areas };
    Box::new(Blocks { part, reason: Some("cameras".into()), by: Some(user("boss")) })
}

fn off(seats: &[u32], areas: &[(u16, u32)]) -> Command {
    Command::Block { blocks: blocks(seats, areas), request: Request::default() }
}

fn on(seats: &[u32], areas: &[(u16, u32)]) -> Command {
    Command::Unblock { blocks: blocks(seats, areas), request: Request::default() }
}

fn state(held: u32, blocked: u32, seq: u64) -> AreaState {
    AreaState { held, sold: 0, seq: Lsn(seq), blocked }
}

#[test]
fn places_are_blocked_beside_seats_and_it_is_told_why() {
    let then = defined().when(off(&[3, 4], &[(1, 2)]), s(20)).then_reply(Reply::Done);
    let told = Event::SeatsBlocked {
        seats: smallvec![3, 4],
        key: None,
        many: SeatSet::default(),
        by: Some(user("boss")),
        areas: vec![places(1, 2)],
        reason: Some("cameras".into()),
    };
    let then = then.then_events([told]).reloaded();
    assert_eq!(then.state().areas(), [AreaState::default(), state(0, 2, 2)]);
    assert_eq!(then.state().seq(), Lsn(2));
    assert_eq!(then.state().counts(), Counts { available: 24, held: 0, sold: 0, blocked: 4 });
    // One place is left to be held, and to be blocked; what is blocked is what adds up.
    let wish = |count| hold_for("anna", Wish::Areas(smallvec![places(1, count)]), Request::default());
    let then = then.when(wish(2), s(21)).then_rejected(Rejection::NotEnoughSeats);
    let then = then.when(off(&[5], &[(1, 2)]), s(21)).then_rejected(Rejection::NotEnoughSeats).then_nothing();
    let then = then.when(off(&[3], &[(1, 1)]), s(22)).reloaded();
    assert_eq!(then.state().areas()[1], state(0, 3, 3));
    let then = then.when(wish(1), s(23)).then_rejected(Rejection::NotEnoughSeats);
    // Only what is blocked is put back, all of it or none.
    let then = then.when(on(&[3], &[(1, 4)]), s(24)).then_rejected(Rejection::NotEnoughSeats).then_nothing();
    let then = then.when(on(&[3], &[(1, 3)]), s(24)).reloaded();
    assert_eq!(then.state().areas()[1], state(0, 0, 4));
    assert_eq!(statuses(&then, &[3, 4]), [(SeatStatus::Free, 0), (SeatStatus::Blocked, 0)]);
    assert_eq!(then.when(wish(2), s(25)).events().len(), 1);
}

#[test]
fn what_is_held_or_sold_is_not_blocked_nor_anything_with_it() {
    let held = defined().when(hold("anna", &[3]), s(20));
    let then = held.when(off(&[2, 3], &[(0, 1)]), s(21)).then_rejected(conflicts(&[3])).then_nothing();
    assert_eq!(then.state().areas(), [AreaState::default(); 2]);
    for command in [off(&[], &[(2, 1)]), on(&[], &[(2, 1)])] {
        defined().when(command, s(21)).then_rejected(Rejection::NotFound);
    }
}

#[test]
fn blocks_with_a_flaw_are_refused() {
    let long = |chars: usize| {
        let reason = Some("x".repeat(chars));
        Command::Block { blocks: Box::new(Blocks { reason, ..Blocks::seats([1]) }), request: Request::default() }
    };
    for (command, field) in [
        (off(&[], &[]), "seats"),
        (off(&[1, 2, 1], &[]), "seats[2]"),
        (off(&[1], &[(0, 0)]), "areas[0].count"),
        (on(&[1], &[(0, 1_000_001)]), "areas[0].count"),
        (on(&[], &[(0, 1), (1, 1), (0, 1)]), "areas[2].name"),
        (long(0), "reason"),
        (long(201), "reason"),
    ] {
        let then = defined().when(command.clone(), s(20));
        let Err(Rejection::Invalid(flaws)) = then.answer() else { panic!("{command:?}") };
        assert_eq!(flaws.iter().map(|flaw| &*flaw.field).collect::<Vec<_>>(), [field], "{command:?}");
    }
    defined().when(long(200), s(20)).then_reply(Reply::Done);
}

#[test]
fn blocked_places_go_before_any_that_somebody_has() {
    let shrink = |capacity| {
        let areas = vec![AreaPatch { name: "Floor".into(), capacity: Some(capacity), category: None }];
        Command::Change { patch: Box::new(OptionPatch { areas, ..OptionPatch::default() }), by: user("boss") }
    };
    let wish = hold_for("anna", Wish::Areas(smallvec![places(0, 2)]), Request::default());
    let then = defined().when(wish, s(20)).when(off(&[], &[(0, 2)]), s(21));
    let then = then.when(shrink(3), s(22)).reloaded();
    assert_eq!(then.state().areas()[0], state(2, 1, 4), "three places, of which two are held");
    let then = then.when(shrink(5), s(23)).reloaded();
    assert_eq!(then.state().areas()[0], state(2, 1, 5), "places that come are free");
    then.when(shrink(1), s(24)).then_rejected(Rejection::CapacityInUse { area: "Floor".into(), in_use: 2 });
}
