//! What nobody ever held is deleted.

use super::*;

fn delete() -> Command {
    Command::Delete { by: user("boss") }
}

fn told() -> Message {
    Message::Catalogue(catalogue::Command::OptionDeleted { option: OPTION, by: user("boss") })
}

fn acknowledged() -> Message {
    Message::Catalogue(catalogue::Command::OptionDefined { option: OPTION })
}

#[test]
fn what_nobody_ever_held_is_deleted_for_good() {
    let block = Command::Block { blocks: Box::new(Blocks::seats([3])), request: with_key(1, 1) };
    let then = defined().when(block.clone(), s(1)).when(delete(), s(20)).then_reply(Reply::Done);
    let then = then.then_events([Event::OptionDeleted { by: user("boss") }]).then_tells([told()]).then_owes([told()]);
    let then = then.reloaded();
    assert!(then.state().definition().is_none() && then.state().counts() == Counts::default());
    // Nothing is left but a mark: no seats, terms or keys.
    let left = [Part::Terms, Part::Seats(0), Part::Key([1; 16])].map(|part| then.state().row(&part));
    assert_eq!(left, [None, None, None]);
    assert!(then.state().row(&Part::Header).is_some());
    // Also who hears late of it does not bring it back.
    let define = Command::Define { option: OPTION, definition: Box::new(definition()) };
    let late = then.clone().when(define, s(21)).then_events([]).then_tells([acknowledged()]);
    for command in [delete(), block, hold("anna", &[1]), Command::Reschedule { patch: WindowPatch::default() }] {
        late.clone().when(command, s(22)).then_rejected(Rejection::NotFound);
    }
    let noted = late.when(Command::DeletionNoted, s(23)).then_events([Event::DeletionNoted]).then_owes([]).reloaded();
    noted.then_owes([]).when(Command::DeletionNoted, s(24)).then_nothing();
}

#[test]
fn what_was_ever_held_stays() {
    let held = defined().when(hold("anna", &[1]), s(20));
    held.clone().when(delete(), s(21)).then_rejected(Rejection::WasHeld);
    let released = held.when(Command::Release { reservation: 1, caller: as_user("anna") }, s(22)).reloaded();
    released.when(delete(), s(23)).then_rejected(Rejection::WasHeld);
    given::<ConcertOption>(s(0), []).when(delete(), s(1)).then_rejected(Rejection::NotFound);
    given::<ConcertOption>(s(0), []).when(Command::DeletionNoted, s(1)).then_nothing();
    // That it is called off, or its seats are blocked, is no matter.
    let off = Command::CallOff { reason: None, by: user("boss"), request: Request::default() };
    defined().when(off, s(1)).when(delete(), s(2)).then_reply(Reply::Done);
}
