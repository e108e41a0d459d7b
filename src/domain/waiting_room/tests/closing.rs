//! The end of a line, since its concert is deleted.

use super::*;

fn close(driver: &mut Driver) -> Vec<Event> {
    driver.run(&Command::Close { concert: ConcertId(1) }).unwrap().1
}

fn acknowledged() -> Message {
    Message::Catalogue(catalogue::Command::RoomClosed { concert: ConcertId(1) })
}

/// As it is found by who reads its rows.
fn reloaded(driver: &Driver) -> WaitingRoom {
    WaitingRoom::load(driver.rows.kept.iter().map(|(part, row)| (*part, row.clone()))).unwrap()
}

#[test]
fn a_line_that_is_closed_lets_nobody_in_any_more() {
    let mut driver = Driver::queue(1, None);
    let anna = driver.issue("anna");
    driver.tick(0);
    let bob = driver.issue("bob");
    let closed = Event::Closed { concert: ConcertId(1) };
    assert_eq!(close(&mut driver), [closed, Event::TokensExpired { tokens: vec![anna, bob] }]);
    assert_eq!(driver.tell, [acknowledged()]);
    // It is acknowledged each time, or it would be told for ever.
    driver.tell.clear();
    assert!(close(&mut driver).is_empty() && driver.tell == [acknowledged()]);
    for room in [driver.room.clone(), reloaded(&driver)] {
        assert!(room.due().is_none() && !room.needs_care());
        assert_eq!(room.counts(), Counts { expired: 2, ..Counts::default() });
        let issue = Command::IssueToken { user: name("carl") };
        let configure = Command::Configure { patch: SettingsPatch::default(), holders: vec![], by: None };
        for command in [issue, configure] {
            let refused = room.decide(driver.now, &command, &mut Decided::default());
            assert_eq!(refused, Err(Rejection::NotFound), "{command:?}");
        }
    }
    // Nor does an opening that comes late.
    let open = Command::Open { concert: ConcertId(1), settings: Settings::default() };
    assert!(driver.run(&open).unwrap().1.is_empty());
}

#[test]
fn a_line_that_never_opened_can_be_closed() {
    let mut driver = Driver { now: at(0), ..Driver::default() };
    assert_eq!(close(&mut driver), [Event::Closed { concert: ConcertId(1) }]);
    let open = Command::Open { concert: ConcertId(1), settings: Settings::default() };
    assert!(driver.run(&open).unwrap().1.is_empty() && reloaded(&driver).is_closed());
}

#[test]
fn very_many_are_told_in_steps() {
    let mut driver = Driver::queue(1, None);
    for n in 0..=ADMIT_BATCH_MAX as u64 {
        let (no, user) = (n + 1, name(&format!("u{n}")));
        driver.take_in(Decided { events: vec![Event::TokenIssued { no, user, active_until: None }], tell: vec![] });
    }
    assert_eq!(close(&mut driver).len(), 2);
    // Those who are left are not let in, but come to their end at the next tick, also after a restart.
    driver.room = reloaded(&driver);
    assert!(driver.room.due().is_some());
    assert_eq!(driver.tick(0), [Event::TokensExpired { tokens: vec![ADMIT_BATCH_MAX as u64 + 1] }]);
    assert!(driver.room.due().is_none() && driver.tick(0).is_empty());
}
