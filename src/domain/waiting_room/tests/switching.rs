//! What becomes of those inside when the line is switched on, of the estimates when nobody moves, and of the draw when
//! somebody comes again and again.

use super::*;

fn users(driver: &mut Driver, count: usize) -> Vec<u64> {
    (1..=count).map(|n| driver.issue(&n.to_string())).collect()
}

fn open() -> Driver {
    Driver::open(Settings::default())
}

fn switch_on(max_active: u32) -> SettingsPatch {
    SettingsPatch { max_active: Some(max_active), ..mode(Mode::Queue) }
}

#[test]
fn when_the_line_is_switched_on_no_more_stay_inside_than_may() {
    let mut driver = open();
    let all = users(&mut driver, 300);
    driver.configure(switch_on(100));
    assert_eq!(driver.room.counts(), Counts { waiting: 200, active: 100, ..Counts::default() });
    assert!(driver.room.waiting().eq(all[100..].iter().copied()));
    let view = driver.view(all[100]);
    assert_eq!((view.status, view.position, view.expires_at), (TokenStatus::Waiting, Some(1), None));
    driver.reload();
    let late = driver.issue("late");
    assert_eq!(driver.view(late).position, Some(201));
    driver.run(&leave("7", all[6])).unwrap();
    assert_eq!(driver.settle(), all[100..101]);
    driver.reload();
}

#[test]
fn nobody_is_said_to_come_in_soon_while_nobody_moves() {
    let mut driver = Driver::queue(1, Some(6_000));
    let [anna, ben, cleo] = ["anna", "ben", "cleo"].map(|user| driver.issue(user));
    assert_eq!(driver.settle(), [anna]);
    for seconds in [0, 10, 61, 3_000] {
        driver.now = at(seconds * 1_000);
        if seconds < 600 {
            let wait = [ben, cleo].map(|no| driver.view(no).expected_wait_seconds);
            assert_eq!(wait, [None, None], "after {seconds} s in which nobody has left");
        }
    }
}

/// What a draw costs depends on those who wait, and not on how many numbers were ever given.
#[test]
fn a_draw_is_over_those_who_wait() {
    let opens_at = Some(at(5_000));
    let order = Order::ShuffleAtOpen;
    let mut driver = Driver::open(Settings { mode: Mode::Queue, order, opens_at, ..Settings::default() });
    let first = driver.issue("anna");
    let issued = Event::TokenIssued { no: 1 << 40, user: name("ben"), active_until: None };
    driver.take_in(Decided { events: vec![issued], tell: vec![] });
    driver.now = at(5_000);
    driver.tick(42);
    let mut line: Vec<u64> = driver.room.waiting().collect();
    line.sort_unstable();
    assert_eq!(line, [first, 1 << 40]);
    driver.reload();
}

/// Very many are sent back by one event, and told in several: wherever a journal ends, the rest is told later.
#[test]
fn very_many_who_are_sent_back_wait_at_once_and_are_told_in_steps() {
    const USERS: usize = 25_000;
    let mut driver = open();
    let all = users(&mut driver, USERS);
    let last = all[USERS - 1];
    let events = driver.configure_beside(switch_on(100), &[&USERS.to_string()]);
    let [Event::Configured { returned: None, many, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((many.len() as usize, many.contains(98), many.contains(99)), (USERS - 100, false, true));
    let sent_back = &all[99..USERS - 1];
    let as_they_are = |driver: &Driver, gone: usize| {
        let (waiting, active) = ((sent_back.len() - gone) as u64, 100);
        assert_eq!(driver.room.counts(), Counts { waiting, active, used: 0, expired: gone as u64 });
        assert!(driver.room.waiting().eq(sent_back[gone..].iter().copied()), "in their order");
        assert_eq!(driver.view(sent_back[gone]).position, Some(1));
        assert_eq!(driver.view(last).status, TokenStatus::Active, "who holds seats stays");
        let owing = driver.room.waiting_from(0).count();
        let told = driver.room.waiting().filter(|no| !driver.room.untold.contains(no)).count();
        assert_eq!(owing, told, "no sign of life is owed before one is told");
    };
    as_they_are(&driver, 0);
    driver.reload();
    as_they_are(&driver, 0);
    // One of them leaves, and there is a place inside: nobody gets it yet.
    driver.run(&leave("100", sent_back[0])).unwrap();
    as_they_are(&driver, 1);
    driver.configure(SettingsPatch { max_active: Some(101), ..SettingsPatch::default() });
    let mut told: Vec<u64> = Vec::new();
    while !driver.room.untold.is_empty() {
        assert!(driver.room.due().is_some_and(|due| due <= driver.now));
        let events = driver.tick(3);
        let [Event::Configured { settings, returned: Some(tokens), many, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert!(many.is_empty() && tokens.len() <= ADMIT_BATCH_MAX && settings == driver.room.settings());
        told.extend(tokens);
        as_they_are(&driver, 1);
        driver.reload();
    }
    assert_eq!(told, sent_back[1..]);
    assert_eq!(driver.settle(), sent_back[1..2]);
    driver.reload();
}

/// Who is not told yet can do all that others can.
#[test]
fn before_they_are_told_those_who_were_sent_back_leave_pay_and_go_in() {
    const USERS: usize = 10_050;
    let mut driver = open();
    let all = users(&mut driver, USERS);
    driver.configure(switch_on(1));
    driver.run(&leave("2", all[1])).unwrap();
    driver.run(&complete(all[2])).unwrap();
    driver.run(&Command::ExpireSilent { tokens: vec![all[3]] }).unwrap();
    assert_eq!(driver.room.counts(), Counts { waiting: USERS as u64 - 4, active: 1, used: 1, expired: 2 });
    driver.reload();
    let events = driver.configure(mode(Mode::Open));
    assert_eq!(events.len(), 1, "they are told first");
    let mut told = 0;
    let mut admitted = 0;
    while driver.room.due().is_some_and(|due| due <= driver.now) {
        for event in driver.tick(5) {
            match event {
                Event::Configured { returned: Some(tokens), .. } => told += tokens.len(),
                Event::TokensAdmitted { tokens, .. } => admitted += tokens.len(),
                other => panic!("{other:?}"),
            }
        }
        driver.reload();
    }
    assert_eq!((told, admitted), (USERS - 4, USERS - 4));
    assert_eq!(driver.room.counts().active, USERS as u64 - 3);
    // And all over again.
    let holders: Vec<String> = (1..=USERS).map(|n| n.to_string()).collect();
    driver.configure_beside(switch_on(7), &holders.iter().map(String::as_str).collect::<Vec<_>>());
    driver.reload();
    assert_eq!(driver.room.counts().active, 7);
}

/// Who holds seats stays before who holds none, and the others in their order; names that mean nothing here change nothing.
#[test]
fn who_stays_inside() {
    let user = |n: u64| n.to_string();
    for (most, holders, staying) in [
        (3, vec![], vec![1, 2, 3]),
        (3, vec![5], vec![1, 2, 5]),
        (3, vec![6, 2, 2], vec![1, 2, 6]),
        (2, vec![3, 4, 5], vec![3, 4]),
        (6, vec![6], vec![1, 2, 3, 4, 5, 6]),
        (9, vec![], vec![1, 2, 3, 4, 5, 6]),
        (1, vec![77], vec![1]),
    ] {
        let mut driver = open();
        users(&mut driver, 6);
        let mut holders: Vec<String> = holders.into_iter().map(user).collect();
        holders.push("nobody".into());
        let holders: Vec<&str> = holders.iter().map(String::as_str).collect();
        let what = format!("{most} may, {holders:?} hold");
        driver.configure_beside(switch_on(most), &holders);
        let (inside, waiting): (Vec<u64>, Vec<u64>) =
            (1..=6).partition(|no| driver.view(*no).status == TokenStatus::Active);
        assert_eq!(inside, staying, "{what}");
        assert!(driver.room.waiting().eq(waiting), "{what}");
        driver.reload();
    }
}

#[test]
fn before_the_line_opens_only_those_stay_who_hold_something() {
    let mut driver = open();
    users(&mut driver, 5);
    let opens_at = Some(at(9_000));
    let patch = SettingsPatch { opens_at: Some(opens_at), order: Some(Order::ShuffleAtOpen), ..switch_on(2) };
    let events = driver.configure_beside(patch, &["4"]);
    assert!(matches!(&events[..], [Event::Configured { returned: Some(tokens), .. }] if *tokens == [1, 2, 3, 5]));
    assert_eq!((driver.settle().len(), driver.view(1).position), (0, None));
    driver.now = at(9_000);
    driver.tick(7);
    // They take part in the draw.
    let mut drawn = vec![1, 2, 3, 5];
    drawn.sort_by_key(|&no| shuffle::lot(7, no));
    assert!(driver.room.waiting().eq(drawn.iter().copied()));
    assert_eq!(driver.settle(), drawn[..1]);
    driver.reload();
    // And stand where it put them, however often the line is switched.
    driver.configure(mode(Mode::Open));
    let late = driver.issue("late");
    driver.configure(mode(Mode::Queue));
    let line: Vec<u64> = driver.room.waiting().collect();
    let mut expected = drawn.clone();
    expected.insert(0, 4);
    expected.sort_by_key(|&no| shuffle::lot(7, no));
    expected.push(late);
    assert_eq!(line, expected[2..]);
    driver.reload();
}

/// Those who were there before anybody who was drawn stand before them.
#[test]
fn who_was_inside_before_the_draw_stands_before_it() {
    let mut driver = open();
    users(&mut driver, 4);
    let opens_at = Some(at(9_000));
    driver.configure(SettingsPatch {
        opens_at: Some(opens_at),
        order: Some(Order::ShuffleAtOpen),
        ..mode(Mode::Paused)
    });
    let drawn: Vec<u64> = ["a", "b", "c"].map(|user| driver.issue(user)).to_vec();
    driver.now = at(9_000);
    driver.tick(5);
    assert_eq!(driver.room.counts(), Counts { waiting: 3, active: 4, ..Counts::default() });
    driver.configure(switch_on(1));
    let mut line = drawn;
    line.sort_by_key(|&no| shuffle::lot(5, no));
    line.splice(0..0, [2, 3, 4]);
    assert!(driver.room.waiting().eq(line));
    driver.reload();
}

/// However a journal that was written before comes to a line, that stays as it was.
#[test]
fn who_was_let_in_out_of_an_old_draw_goes_back_to_it() {
    let settings = Settings { mode: Mode::Queue, opens_at: Some(at(5_000)), ..Settings::default() };
    let mut driver = Driver::open(settings);
    let all = users(&mut driver, 40);
    driver.now = at(5_000);
    let opened = Event::LineOpened { seed: Some(99), draw: None };
    driver.take_in(Decided { events: vec![opened], tell: vec![] });
    let line: Vec<u64> = shuffle::permutation(99, 40).into_iter().map(|n| all[n as usize]).collect();
    assert!(driver.room.waiting().eq(line.iter().copied()));
    driver.configure(mode(Mode::Open));
    driver.configure(switch_on(7));
    assert!(driver.room.waiting().eq(line[7..].iter().copied()));
    driver.reload();
    assert!(driver.room.waiting().eq(line[7..].iter().copied()));
}

/// Who got seats, was sent back to the line and pays is through with it.
#[test]
fn paying_ends_a_token_that_waits_again() {
    let mut driver = open();
    users(&mut driver, 3);
    driver.configure_beside(switch_on(1), &["2", "3"]);
    assert_eq!(driver.run(&complete(3)).unwrap().1, [Event::TokenUsed { no: 3 }]);
    assert_eq!(driver.room.counts(), Counts { waiting: 1, active: 1, used: 1, expired: 0 });
    driver.reload();
}

#[test]
fn bounds() {
    for (patch, field) in [
        (SettingsPatch { max_active: Some(0), ..SettingsPatch::default() }, "max_active"),
        (SettingsPatch { max_active: Some(10_000_001), ..SettingsPatch::default() }, "max_active"),
        (SettingsPatch { admit_per_minute: Some(Some(0)), ..SettingsPatch::default() }, "admit_per_minute"),
        (SettingsPatch { admit_per_minute: Some(Some(10_000_001)), ..SettingsPatch::default() }, "admit_per_minute"),
        (SettingsPatch { active_ttl_seconds: Some(0), ..SettingsPatch::default() }, "active_ttl_seconds"),
        (SettingsPatch { active_ttl_seconds: Some(86_401), ..SettingsPatch::default() }, "active_ttl_seconds"),
        (SettingsPatch { waiting_ttl_seconds: Some(0), ..SettingsPatch::default() }, "waiting_ttl_seconds"),
        (SettingsPatch { waiting_ttl_seconds: Some(86_401), ..SettingsPatch::default() }, "waiting_ttl_seconds"),
    ] {
        let refused = given().run(&Command::Configure { patch: patch.clone(), holders: vec![], by: None }).unwrap_err();
        assert!(
            matches!(&refused, Rejection::Invalid(flaws) if flaws.len() == 1 && flaws[0].field == field),
            "{patch:?}"
        );
    }
}
