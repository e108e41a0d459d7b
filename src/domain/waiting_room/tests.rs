//! Tables of given/when/then, and random histories against a naive model.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::domain::{Lsn, OptionId};

mod closing;
mod switching;

/// A room driven as the shell drives it, with its rows as a store would hold them.
#[derive(Default)]
struct Driver {
    room: WaitingRoom,
    now: Timestamp,
    lsn: Lsn,
    rows: Rows,
    tell: Vec<Message>,
}

#[derive(Default)]
struct Rows {
    touched: Vec<Part>,
    kept: BTreeMap<Part, Vec<u8>>,
    archived: HashMap<u64, TokenRow>,
}

impl Changes<Part> for Rows {
    fn touch(&mut self, part: Part) {
        self.touched.push(part);
    }

    fn archive(&mut self, part: Part, row: impl FnOnce() -> Vec<u8>) {
        let Part::Token(no) = part else { panic!("{part:?} is never archived") };
        let row: TokenRow = minicbor::decode(&row()).unwrap();
        assert!(matches!(row.status, TokenStatus::Used | TokenStatus::Expired));
        assert!(self.archived.insert(no, row).is_none(), "archived twice: {no}");
        self.kept.remove(&part);
    }

    fn list(&mut self, _user: &UserId, part: Part) {
        panic!("{part:?} is on no list");
    }

    fn count(&mut self, _user: &UserId, what: crate::domain::Counted) {
        panic!("{what:?} is not for a waiting room to count");
    }
}

impl Driver {
    /// A room at 1,000,000 ms.
    fn open(settings: Settings) -> Self {
        let mut driver = Self { now: at(0), ..Self::default() };
        driver.run(&Command::Open { concert: ConcertId(1), settings }).unwrap();
        driver.tell.clear();
        driver
    }

    fn queue(max_active: u32, admit_per_minute: Option<u32>) -> Self {
        Self::open(Settings { mode: Mode::Queue, max_active, admit_per_minute, ..Settings::default() })
    }

    fn take_in(&mut self, decided: Decided<Event>) -> Vec<Event> {
        let mut bytes_left = crate::domain::RECORD_BYTES_MAX;
        for event in &decided.events {
            self.lsn = self.lsn.next();
            let bytes = minicbor::to_vec(event).unwrap();
            bytes_left = bytes_left.checked_sub(bytes.len()).expect("records are bounded");
            let stored: Event = minicbor::decode(&bytes).unwrap();
            assert_eq!(stored, *event);
            self.room.evolve(Meta { lsn: self.lsn, at: self.now }, &stored, &mut self.rows);
        }
        for part in std::mem::take(&mut self.rows.touched) {
            if let Some(row) = self.room.row(&part) {
                assert!(row.len() <= 4096);
                self.rows.kept.insert(part, row);
            }
        }
        self.tell.extend(decided.tell);
        decided.events
    }

    fn expire(&mut self) -> Vec<Event> {
        let mut decided = Decided::default();
        self.room.expire(self.now, &mut decided);
        self.take_in(decided)
    }

    fn run(&mut self, command: &Command) -> Result<(Answer<Reply>, Vec<Event>), Rejection> {
        self.expire();
        let mut decided = Decided::default();
        let answer = self.room.decide(self.now, command, &mut decided);
        if answer.is_err() {
            assert!(decided.events.is_empty() && decided.tell.is_empty());
        }
        Ok((answer?, self.take_in(decided)))
    }

    fn tick(&mut self, entropy: u64) -> Vec<Event> {
        self.expire();
        let mut decided = Decided::default();
        self.room.tick(self.now, entropy, &mut decided);
        self.take_in(decided)
    }

    fn issue(&mut self, user: &str) -> u64 {
        match self.run(&Command::IssueToken { user: name(user) }).unwrap().0 {
            Answer::Reply(Reply::Token { no, .. }) => no,
            other => panic!("{other:?}"),
        }
    }

    fn configure(&mut self, patch: SettingsPatch) -> Vec<Event> {
        self.configure_beside(patch, &[])
    }

    /// Configures while these hold seats.
    fn configure_beside(&mut self, patch: SettingsPatch, holders: &[&str]) -> Vec<Event> {
        let holders = holders.iter().copied().map(name).collect();
        let (answer, events) = self.run(&Command::Configure { patch, holders, by: None }).unwrap();
        assert_eq!(answer, Answer::Reply(Reply::Configured));
        events
    }

    /// Whoever the ticks let in, until nothing is due any more.
    fn settle(&mut self) -> Vec<u64> {
        let mut admitted = Vec::new();
        while self.room.due().is_some_and(|due| due <= self.now) {
            for event in self.tick(42) {
                if let Event::TokensAdmitted { tokens, .. } = event {
                    admitted.extend(tokens);
                }
            }
        }
        admitted
    }

    fn view(&self, no: u64) -> TokenView {
        self.room.token(self.now, no).unwrap()
    }

    fn all_rows(&self) -> BTreeMap<Part, Vec<u8>> {
        let parts = self.room.tokens.iter().map(|(no, _)| Part::Token(no)).chain([Part::Header]);
        parts.filter_map(|part| Some((part, self.room.row(&part)?))).collect()
    }

    /// Goes on with what its stored rows give; that must be the same room.
    fn reload(&mut self) {
        assert_eq!(self.all_rows(), self.rows.kept);
        let now = self.now;
        let views = |room: &WaitingRoom| -> Vec<_> {
            room.tokens.iter().map(|(no, _)| (no, room.token(now, no).unwrap())).collect()
        };
        let (counts, due, before) = (self.room.counts(), self.room.due(), views(&self.room));
        let line: Vec<u64> = self.room.waiting().collect();
        self.room = WaitingRoom::load(self.rows.kept.clone().into_iter()).unwrap();
        assert_eq!(self.all_rows(), self.rows.kept);
        assert_eq!((self.room.counts(), self.room.due(), views(&self.room)), (counts, due, before));
        assert!(self.room.waiting().eq(line));
    }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + millis)
}

fn name(user: &str) -> UserId {
    user.parse().unwrap()
}

fn reservation(no: u64) -> ReservationId {
    ReservationId { option: OptionId(9), no }
}

fn complete(no: u64) -> Command {
    Command::CompleteToken { no, reservation: reservation(5) }
}

fn leave(user: &str, no: u64) -> Command {
    Command::Leave { user: Some(name(user)), by: None, no }
}

fn mode(mode: Mode) -> SettingsPatch {
    SettingsPatch { mode: Some(mode), ..SettingsPatch::default() }
}

/// One inside (anna, 1), one who waits (ben, 2), one who left (cleo, 3), one who paid (dan, 4).
fn given() -> Driver {
    let mut driver = Driver::queue(2, None);
    for user in ["anna", "ben", "cleo", "dan"] {
        driver.issue(user);
    }
    driver.run(&leave("cleo", 3)).unwrap();
    driver.configure(SettingsPatch { max_active: Some(1), ..SettingsPatch::default() });
    assert_eq!(driver.settle(), [1]);
    driver.run(&Command::Leave { user: None, by: None, no: 2 }).unwrap();
    driver.configure(SettingsPatch { max_active: Some(2), ..SettingsPatch::default() });
    assert_eq!(driver.settle(), [4]);
    driver.run(&complete(4)).unwrap();
    driver.configure(SettingsPatch { max_active: Some(1), ..SettingsPatch::default() });
    driver.issue("ben");
    driver.tell.clear();
    driver
}

#[test]
fn refusals() {
    for (what, command) in [
        ("somebody else's token", leave("ben", 1)),
        ("somebody else's place", leave("anna", 5)),
        ("a number that was never issued", leave("anna", 99)),
        ("an expired token", leave("cleo", 3)),
        ("a used token", leave("dan", 4)),
        ("an administrator, an expired token", Command::Leave { user: None, by: None, no: 3 }),
    ] {
        assert_eq!(given().run(&command).unwrap_err(), Rejection::NotFound, "{what}");
    }
    for command in [
        Command::IssueToken { user: name("anna") },
        Command::Configure { patch: SettingsPatch::default(), holders: vec![], by: None },
        leave("anna", 1),
        Command::ExpireSilent { tokens: vec![1] },
    ] {
        assert_eq!(
            Driver::default().run(&command).unwrap_err(),
            Rejection::NotFound,
            "before it is opened: {command:?}"
        );
    }
}

#[test]
fn commands_and_what_follows() {
    use Event::{TokenIssued, TokenLeft, TokenUsed, TokensExpired};
    let token = |no, fresh| Answer::Reply(Reply::Token { no, fresh });
    let issue = |user| Command::IssueToken { user: name(user) };
    let silent = |tokens: &[u64]| Command::ExpireSilent { tokens: tokens.to_vec() };
    for (command, answer, events) in [
        (issue("anna"), token(1, false), vec![]),
        (issue("ben"), token(5, false), vec![]),
        (issue("cleo"), token(6, true), vec![TokenIssued { no: 6, user: name("cleo"), active_until: None }]),
        (issue("dan"), token(6, true), vec![TokenIssued { no: 6, user: name("dan"), active_until: None }]),
        (leave("anna", 1), Answer::Reply(Reply::Left), vec![TokenLeft { no: 1, by: None }]),
        (leave("ben", 5), Answer::Reply(Reply::Left), vec![TokenLeft { no: 5, by: None }]),
        (
            Command::Leave { user: None, by: None, no: 5 },
            Answer::Reply(Reply::Left),
            vec![TokenLeft { no: 5, by: None }],
        ),
        (silent(&[1, 5, 3, 5, 77]), Answer::Silent, vec![TokensExpired { tokens: vec![5] }]),
        (silent(&[1, 3]), Answer::Silent, vec![]),
        (complete(1), Answer::Silent, vec![TokenUsed { no: 1 }]),
        (complete(5), Answer::Silent, vec![TokenUsed { no: 5 }]),
        (complete(4), Answer::Silent, vec![]),
        (complete(3), Answer::Silent, vec![]),
        (complete(99), Answer::Silent, vec![]),
        (
            Command::Configure { patch: SettingsPatch::default(), holders: vec![], by: None },
            Answer::Reply(Reply::Configured),
            vec![],
        ),
    ] {
        assert_eq!(given().run(&command), Ok((answer, events)), "{command:?}");
    }
}

#[test]
fn acknowledges_each_time() {
    let mut driver = given();
    for no in [1, 1, 3, 99] {
        driver.run(&complete(no)).unwrap();
        let told = driver.tell.pop().unwrap();
        let wanted = concert_option::Command::TokenCompleted { reservation: 5 };
        assert!(matches!(told, Message::Option(OptionId(9), command) if command == wanted));
    }
    let mut driver = Driver::default();
    for events in [1, 0] {
        let open = Command::Open { concert: ConcertId(1), settings: Settings::default() };
        let (answer, happened) = driver.run(&open).unwrap();
        assert_eq!((answer, happened.len()), (Answer::Silent, events));
        let wanted = catalogue::Command::RoomOpened { concert: ConcertId(1) };
        assert!(matches!(driver.tell.pop().unwrap(), Message::Catalogue(command) if command == wanted));
    }
    let mut early = Driver::default();
    early.run(&complete(1)).unwrap();
    assert_eq!(early.tell.len(), 1);
}

#[test]
fn archives_what_has_ended() {
    let driver = given();
    let row = |user, status, expires_at| TokenRow {
        user: name(user),
        issued_at: at(0),
        status,
        expires_at,
        ended_at: Some(at(0)),
        untold: None,
    };
    let archived: BTreeMap<u64, TokenRow> = driver.rows.archived.clone().into_iter().collect();
    let wanted = [
        (2, row("ben", TokenStatus::Expired, None)),
        (3, row("cleo", TokenStatus::Expired, None)),
        (4, row("dan", TokenStatus::Used, Some(at(600_000)))),
    ];
    assert_eq!(archived, BTreeMap::from(wanted));
    assert_eq!(driver.room.counts(), Counts { waiting: 1, active: 1, used: 1, expired: 2 });
    let view = archived[&4].view(4, 7);
    assert_eq!((view.status, view.position, view.queue_size), (TokenStatus::Used, None, 7));
}

#[test]
fn who_comes_back_stands_at_the_end() {
    let mut driver = Driver::queue(0, None);
    let first = driver.issue("anna");
    let second = driver.issue("ben");
    driver.run(&leave("anna", first)).unwrap();
    let again = driver.issue("anna");
    assert_eq!((driver.view(second).position, driver.view(again).position), (Some(1), Some(2)));
    assert_eq!(driver.view(again).ahead, Some(1));
    assert_eq!(driver.room.live_token(&name("anna")), Some(again));
}

#[test]
fn a_place_is_freed_by_paying_leaving_and_timing_out() {
    let mut driver = Driver::queue(3, None);
    let all: Vec<u64> = (0..9).map(|n| driver.issue(&n.to_string())).collect();
    assert_eq!(driver.settle(), all[..3]);
    assert_eq!(driver.room.due(), Some(at(600_000)));
    driver.run(&complete(all[0])).unwrap();
    assert_eq!(driver.settle(), all[3..4]);
    driver.run(&leave("1", all[1])).unwrap();
    assert_eq!(driver.settle(), all[4..5]);
    driver.now = at(599_999);
    assert_eq!(driver.expire(), []);
    assert_eq!(driver.view(all[2]).status, TokenStatus::Active);
    driver.now = at(600_000);
    assert_eq!(driver.view(all[2]).status, TokenStatus::Expired);
    assert_eq!(driver.expire(), [Event::TokensExpired { tokens: all[2..5].to_vec() }]);
    assert_eq!(driver.settle(), all[5..8]);
    assert_eq!(driver.view(all[5]).expires_at, Some(at(1_200_000)));
}

#[test]
fn lowering_max_active_throws_nobody_out() {
    let mut driver = Driver::queue(3, None);
    let all: Vec<u64> = (0..5).map(|n| driver.issue(&n.to_string())).collect();
    driver.settle();
    driver.configure(SettingsPatch { max_active: Some(1), ..SettingsPatch::default() });
    assert_eq!(driver.room.counts().active, 3);
    driver.run(&complete(all[0])).unwrap();
    driver.run(&complete(all[1])).unwrap();
    assert!(driver.settle().is_empty());
    driver.run(&complete(all[2])).unwrap();
    assert_eq!(driver.settle(), all[3..4]);
}

#[test]
fn modes() {
    let mut driver = Driver::queue(1, None);
    let [anna, ben, cleo] = ["anna", "ben", "cleo"].map(|user| driver.issue(user));
    assert_eq!(driver.settle(), [anna]);

    driver.configure(mode(Mode::Paused));
    driver.configure(SettingsPatch { max_active: Some(9), ..SettingsPatch::default() });
    let dan = driver.issue("dan");
    assert!(driver.settle().is_empty());
    assert_eq!(driver.view(dan).position, Some(3));
    assert_eq!(driver.view(dan).expected_wait_seconds, None);
    assert_eq!(driver.view(anna).status, TokenStatus::Active);
    assert!(!driver.room.is_open_mode());

    let settings = Settings { mode: Mode::Open, max_active: 9, ..Settings::default() };
    let tokens = vec![ben, cleo, dan];
    let events = driver.configure(mode(Mode::Open));
    assert_eq!(
        events,
        [
            Event::Configured { settings, returned: None, many: BitSet::default(), by: None },
            Event::TokensAdmitted { tokens, expires_at: at(600_000) }
        ]
    );
    driver.configure(SettingsPatch { max_active: Some(1), ..SettingsPatch::default() });
    let eve = driver.issue("eve");
    assert_eq!(driver.view(eve).expires_at, Some(at(600_000)));
    assert!(driver.room.is_open_mode());

    let settings = Settings { mode: Mode::Queue, max_active: 1, ..Settings::default() };
    let events = driver.configure_beside(mode(Mode::Queue), &["dan"]);
    let returned = Some(vec![anna, ben, cleo, eve]);
    assert_eq!(events, [Event::Configured { settings, returned, many: BitSet::default(), by: None }]);
    let finn = driver.issue("finn");
    assert_eq!(driver.view(finn).status, TokenStatus::Waiting);
    assert!(driver.settle().is_empty());
}

#[test]
fn opening_to_all_does_not_count_as_admission() {
    let mut driver = Driver::queue(100, Some(60));
    (0..5).for_each(|n| _ = driver.issue(&n.to_string()));
    driver.configure(mode(Mode::Open));
    driver.configure(mode(Mode::Queue));
    let next = driver.issue("next");
    assert_eq!(driver.settle(), [next]);
}

#[test]
fn a_long_line_goes_in_by_batches() {
    let mut driver = Driver::queue(1, None);
    let all: Vec<u64> = (0..25_000).map(|n| driver.issue(&n.to_string())).collect();
    let mut admitted = Vec::new();
    for event in driver.configure(mode(Mode::Open)) {
        if let Event::TokensAdmitted { tokens, .. } = event {
            admitted.extend(tokens);
        }
    }
    assert_eq!(admitted.len(), ADMIT_BATCH_MAX);
    admitted.extend(driver.settle());
    assert_eq!(admitted, all);
    driver.now = at(600_000);
    let expired: Vec<usize> = driver
        .expire()
        .iter()
        .map(|event| match event {
            Event::TokensExpired { tokens } => tokens.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(expired, [10_000, 10_000, 5_000]);
}

#[test]
fn admit_per_minute_paces() {
    let mut driver = Driver::queue(1000, Some(90));
    (0..200).for_each(|n| _ = driver.issue(&n.to_string()));
    let mut times = Vec::new();
    while driver.now < at(70_000) {
        let admitted = driver.settle().len() as u64;
        if admitted > 0 {
            times.push((driver.now.as_millis() - 1_000_000, admitted));
        }
        driver.now = driver.room.due().unwrap();
    }
    // Two a second until the minute's 90 are in; then again as those leave the window.
    let wanted: Vec<(u64, u64)> = (0..45).chain(60..70).map(|second| (second * 1000, 2)).collect();
    assert_eq!(times, wanted);
}

#[test]
fn before_the_opening_nobody_has_a_position() {
    let opens_at = Some(at(5_000));
    let mut driver = Driver::open(Settings { mode: Mode::Queue, max_active: 1, opens_at, ..Settings::default() });
    let [anna, ben] = ["anna", "ben"].map(|user| driver.issue(user));
    let view = driver.view(anna);
    assert_eq!((view.position, view.ahead, view.queue_size, view.expected_wait_seconds), (None, None, 2, None));
    assert_eq!(driver.room.due(), opens_at);
    assert_eq!(driver.tick(1), []);
    driver.now = at(5_000);
    assert_eq!(driver.tick(1), [Event::LineOpened { seed: None, draw: None }]);
    assert_eq!(driver.view(ben).position, Some(2));
    assert!(driver.room.due().unwrap() <= driver.now);
    assert_eq!(driver.settle(), [anna]);
    // An opened line stays open.
    driver.configure(SettingsPatch { opens_at: Some(Some(at(99_000))), ..SettingsPatch::default() });
    assert_eq!(driver.view(ben).position, Some(1));
}

#[test]
fn a_line_that_was_always_open_can_be_closed_once() {
    let mut driver = Driver::queue(0, None);
    let anna = driver.issue("anna");
    assert_eq!(driver.view(anna).position, Some(1));
    let close = SettingsPatch { opens_at: Some(Some(at(9_000))), max_active: Some(5), ..SettingsPatch::default() };
    driver.configure(close);
    assert_eq!((driver.settle().len(), driver.view(anna).position), (0, None));
    driver.configure(SettingsPatch { opens_at: Some(None), ..SettingsPatch::default() });
    assert_eq!(driver.tick(1), [Event::LineOpened { seed: None, draw: None }]);
    assert_eq!(driver.settle(), [anna]);
}

#[test]
fn a_shuffled_line() {
    shuffles(Some(Draw::Lots));
}

/// Which nobody draws any more, and which stands as it was.
#[test]
fn a_line_that_was_shuffled_before_there_were_lots() {
    shuffles(None);
}

fn shuffles(draw: Option<Draw>) {
    let settings = Settings {
        mode: Mode::Queue,
        max_active: 0,
        order: Order::ShuffleAtOpen,
        opens_at: Some(at(5_000)),
        ..Settings::default()
    };
    let mut driver = Driver::open(settings);
    (1..=50).for_each(|n| _ = driver.issue(&n.to_string()));
    driver.run(&leave("1", 1)).unwrap();
    driver.run(&leave("7", 7)).unwrap();
    driver.now = at(5_000);
    driver.rows.touched.clear();
    let opened = Event::LineOpened { seed: Some(4711), draw };
    if draw.is_some() {
        assert_eq!(driver.tick(4711), [opened]);
    } else {
        driver.take_in(Decided { events: vec![opened], tell: vec![] });
    }
    let late = driver.issue("late");
    let mut wanted: Vec<u64> = match draw {
        Some(Draw::Lots) => {
            let mut waiting: Vec<u64> = (2..=50).collect();
            waiting.sort_by_key(|&no| shuffle::lot(4711, no));
            waiting
        }
        // Drawn over the numbers 2 to 50.
        None => shuffle::permutation(4711, 49).into_iter().map(|n| u64::from(n) + 2).collect(),
    };
    wanted.retain(|&no| no != 7);
    wanted.push(late);
    assert!(driver.room.waiting().eq(wanted.iter().copied()));
    assert_ne!(wanted[..48], (2..50).collect::<Vec<u64>>());
    driver.reload();
    assert!(driver.room.waiting().eq(wanted.iter().copied()));
    driver.configure(SettingsPatch { max_active: Some(10), ..SettingsPatch::default() });
    driver.run(&Command::Leave { user: None, by: None, no: wanted[4] }).unwrap();
    let first: Vec<u64> = [&wanted[..4], &wanted[5..11]].concat();
    driver.reload();
    assert_eq!(driver.settle(), first);
    driver.reload();
}

#[test]
fn how_long_it_may_take() {
    let wait = |driver: &Driver, no| driver.view(no).expected_wait_seconds;
    // While there is room, admit_per_minute paces.
    let mut driver = Driver::queue(1000, Some(60));
    let all: Vec<u64> = (0..200).map(|n| driver.issue(&n.to_string())).collect();
    assert_eq!((wait(&driver, all[0]), wait(&driver, all[29])), (Some(1), Some(30)));
    driver.settle();
    assert_eq!((wait(&driver, all[0]), wait(&driver, all[100])), (None, Some(100)));

    // And when there is none, those who leave.
    let mut driver = Driver::queue(40, None);
    let all: Vec<u64> = (0..200).map(|n| driver.issue(&n.to_string())).collect();
    assert_eq!((wait(&driver, all[0]), wait(&driver, all[40])), (Some(0), None));
    driver.settle();
    assert_eq!(wait(&driver, all[40]), None, "that they came in says nothing of when they leave");
    for no in &all[..10] {
        driver.now = driver.now.plus_millis(3_000);
        driver.run(&complete(*no)).unwrap();
    }
    assert_eq!((wait(&driver, all[49]), wait(&driver, all[50]), wait(&driver, all[69])), (Some(0), Some(3), Some(60)));
    driver.settle();
    assert_eq!(wait(&driver, all[69]), Some(60), "ten in half a minute");
    driver.now = at(60_000);
    assert_eq!(wait(&driver, all[69]), Some(120), "and then nobody in half a minute");
    driver.configure(SettingsPatch { admit_per_minute: Some(Some(4)), ..SettingsPatch::default() });
    assert_eq!(wait(&driver, all[69]), Some(300), "no more than four a minute");
    driver.configure(SettingsPatch { max_active: Some(20), ..SettingsPatch::default() });
    assert_eq!(wait(&driver, all[50]), Some(126), "twenty of them leave no room for others");
    driver.now = at(350_000);
    assert_eq!(wait(&driver, all[69]), None);
}

#[test]
fn rows_that_cannot_be_read_are_named() {
    let load = |part, row: &[u8]| WaitingRoom::load([(part, row.to_vec())].into_iter());
    assert_eq!(load(Part::Header, b"?").err().unwrap().part, "Header");
    assert_eq!(load(Part::Token(7), b"?").err().unwrap().part, "Token(7)");
    assert!(Part::Header < Part::Token(0));
}

#[test]
fn events_about_unknown_tokens_change_nothing() {
    let mut driver = given();
    let before = driver.all_rows();
    for event in [
        Event::TokensAdmitted { tokens: vec![1, 3, 99], expires_at: at(1) },
        Event::TokensExpired { tokens: vec![3, 99] },
        Event::TokenLeft { no: 4, by: None },
        Event::TokenUsed { no: 99 },
    ] {
        driver.take_in(Decided { events: vec![event], tell: vec![] });
    }
    assert_eq!(driver.all_rows(), before);
}

/// The rules again, over lists, with nothing but the public contract in mind.
#[derive(Default)]
struct Model {
    settings: Settings,
    closed: bool,
    opened: bool,
    waiting: Vec<u64>,
    active: Vec<(Timestamp, u64)>,
    users: HashMap<u64, UserId>,
    last_no: u64,
    used: u64,
    expired: u64,
    admissions: Vec<(Timestamp, u64)>,
    /// Seed, first and last number of the draw.
    drawn: Option<(u64, u64, u64)>,
    /// Who holds seats.
    holders: Vec<UserId>,
}

impl Model {
    fn configured(&mut self, settings: &Settings) {
        self.settings = settings.clone();
        self.closed |= !self.opened && settings.opens_at.is_some();
    }

    fn admitted_since(&self, now: Timestamp, window_ms: u64) -> u64 {
        let recent = |&&(at, _): &&(Timestamp, u64)| at.as_millis() + window_ms > now.as_millis();
        self.admissions.iter().filter(recent).map(|&(_, count)| count).sum()
    }

    /// How many the throttles allow at `now`, if windows reach so much further back.
    fn allowed(&self, now: Timestamp, more_of_minute_ms: u64, more_of_second_ms: u64) -> u64 {
        let free = u64::from(self.settings.max_active).saturating_sub(self.active.len() as u64);
        let Some(limit) = self.settings.admit_per_minute.map(u64::from) else { return free };
        let minute = limit.saturating_sub(self.admitted_since(now, 60_000 + more_of_minute_ms));
        let second = limit.div_ceil(60).saturating_sub(self.admitted_since(now, 1_000 + more_of_second_ms));
        free.min(minute).min(second)
    }

    fn end(&mut self, no: u64) -> bool {
        let before = self.waiting.len() + self.active.len();
        self.waiting.retain(|&other| other != no);
        self.active.retain(|&(_, other)| other != no);
        self.users.remove(&no);
        self.waiting.len() + self.active.len() < before
    }

    /// Checks an event against the rules, and follows it.
    fn follow(&mut self, now: Timestamp, event: &Event) {
        match event {
            Event::Opened { settings, .. } => self.configured(settings),
            Event::Configured { settings, returned, many, .. } => {
                assert!(many.is_empty(), "there are never so many here");
                self.follow_change(settings, returned.as_deref());
            }
            Event::TokenIssued { no, user, active_until } => {
                assert_eq!(*no, self.last_no + 1);
                assert!(!self.users.values().any(|other| other == user));
                self.last_no = *no;
                self.users.insert(*no, user.clone());
                match active_until {
                    Some(until) => self.active.push((*until, *no)),
                    None => self.waiting.push(*no),
                }
                assert_eq!(active_until.is_some(), self.settings.mode == Mode::Open);
            }
            Event::LineOpened { seed, draw } => {
                assert!(self.closed && self.settings.opens_at.is_none_or(|opens_at| opens_at <= now));
                assert_eq!(seed.is_some(), self.settings.order == Order::ShuffleAtOpen);
                (self.closed, self.opened) = (false, true);
                assert_eq!(*draw, seed.map(|_| Draw::Lots));
                if let (Some(seed), Some(&first)) = (seed, self.waiting.first()) {
                    self.drawn = Some((*seed, first, self.last_no));
                    self.line_up();
                }
            }
            Event::TokensAdmitted { tokens, expires_at } => self.follow_admission(now, tokens, *expires_at),
            Event::TokensExpired { tokens } => {
                for no in tokens {
                    assert!(self.end(*no));
                    self.expired += 1;
                }
            }
            Event::TokenLeft { no, .. } => {
                assert!(self.end(*no));
                self.expired += 1;
            }
            Event::TokenUsed { no } => {
                assert!(self.end(*no));
                self.used += 1;
            }
            Event::Closed { .. } => panic!("nobody deletes the concert here"),
        }
    }

    /// Everybody stands where they came, or where the draw put them.
    fn line_up(&mut self) {
        let drawn = self.drawn;
        self.waiting.sort_by_key(|&no| match drawn {
            Some((_, first, _)) if no < first => (0, no),
            Some((seed, _, last)) if no <= last => (1, shuffle::lot(seed, no)),
            _ => (2, no),
        });
    }

    fn follow_change(&mut self, settings: &Settings, returned: Option<&[u64]>) {
        let is_switched_on = self.settings.mode != Mode::Queue && settings.mode == Mode::Queue;
        self.configured(settings);
        let returned = returned.unwrap_or_default();
        let inside = self.active.len();
        self.active.retain(|(_, no)| !returned.contains(no));
        assert_eq!(inside - self.active.len(), returned.len(), "who was not inside is sent back");
        self.waiting.extend(returned);
        self.line_up();
        let stand = self.waiting.iter().filter(|no| returned.contains(no));
        assert!(stand.eq(returned), "they are named in their order");
        let most = settings.max_active as usize;
        let holds = |no: &&u64| self.holders.contains(&self.users[*no]);
        if !is_switched_on {
            assert!(returned.is_empty(), "{returned:?}");
            return;
        }
        let staying: Vec<u64> = self.active.iter().map(|(_, no)| *no).collect();
        let (holders, others): (Vec<&u64>, Vec<&u64>) = staying.iter().partition(holds);
        assert!(staying.len() <= most);
        assert!(
            others.is_empty() || !returned.iter().any(|no| holds(&no)),
            "others stay, and who holds seats does not"
        );
        assert_eq!(holders.len(), most.min(holders.len() + returned.iter().filter(holds).count()));
        if self.closed {
            assert_eq!(others.len(), 0, "nobody is inside before the line opens without a reason");
        } else {
            assert_eq!(staying.len(), inside.min(most), "nobody goes without need");
        }
    }

    fn follow_admission(&mut self, now: Timestamp, tokens: &[u64], expires_at: Timestamp) {
        let count = tokens.len();
        assert!(count > 0 && count <= ADMIT_BATCH_MAX);
        assert_eq!(*tokens, self.waiting[..count], "out of order");
        assert_eq!(expires_at, now.plus_millis(u64::from(self.settings.active_ttl_seconds) * 1000));
        if self.settings.mode != Mode::Open {
            assert!(self.settings.mode == Mode::Queue && !self.closed);
            assert!(count as u64 <= self.allowed(now, 0, 0), "past a throttle");
            self.admissions.push((now, count as u64));
        }
        self.waiting.drain(..count);
        self.active.extend(tokens.iter().map(|&no| (expires_at, no)));
    }

    /// How many a tick must let in at least: windows may be kept a little too wide, never too narrow.
    fn must_admit(&self, now: Timestamp) -> u64 {
        let waiting = self.waiting.len() as u64;
        match self.settings.mode {
            Mode::Open => waiting,
            Mode::Queue if !self.closed => waiting.min(self.allowed(now, 200, 20)),
            Mode::Queue | Mode::Paused => 0,
        }
    }

    fn check(&self, driver: &Driver) {
        let room = &driver.room;
        let (waiting, active) = (self.waiting.len() as u64, self.active.len() as u64);
        assert_eq!(room.counts(), Counts { waiting, active, used: self.used, expired: self.expired });
        assert_eq!(self.used + self.expired + waiting + active, self.last_no);
        assert_eq!(self.used + self.expired, driver.rows.archived.len() as u64);
        assert!(room.waiting().eq(self.waiting.iter().copied()));
        assert_eq!(room.settings(), &self.settings);
        for (ahead, &no) in self.waiting.iter().enumerate() {
            let view = driver.view(no);
            let ahead = (!self.closed).then_some(ahead as u64);
            assert_eq!((view.status, view.ahead), (TokenStatus::Waiting, ahead));
            assert_eq!((view.position, view.queue_size), (ahead.map(|ahead| ahead + 1), waiting));
        }
        for &(until, no) in &self.active {
            let view = driver.view(no);
            assert_eq!((view.status, view.expires_at), (TokenStatus::Active, Some(until)));
        }
        for (no, user) in &self.users {
            assert_eq!((room.live_token(user), &driver.view(*no).user), (Some(*no), user));
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    PassUntilDue,
    Issue(u8),
    IssueMany(u8),
    Leave(u8),
    LeaveByAdmin(prop::sample::Index),
    Silent(Vec<prop::sample::Index>),
    Complete(prop::sample::Index),
    Configure(SettingsPatch, Vec<u8>),
    Tick(u64),
    Reload,
}

fn patch() -> impl Strategy<Value = SettingsPatch> {
    use prop::option::weighted;
    let mode = prop_oneof![2 => Just(Mode::Open), 4 => Just(Mode::Queue), 1 => Just(Mode::Paused)];
    let opens_at = prop_oneof![Just(None), (0_u64..200_000).prop_map(|millis| Some(at(millis)))];
    let order = prop_oneof![Just(Order::Fifo), Just(Order::ShuffleAtOpen)];
    (
        weighted(0.4, mode),
        weighted(0.4, 0_u32..30),
        weighted(0.4, prop::option::of(prop_oneof![0_u32..5, 50_u32..70, 100_u32..1000])),
        weighted(0.2, 1_u32..100),
        weighted(0.2, order),
        weighted(0.2, opens_at),
    )
        .prop_map(|(mode, max_active, admit_per_minute, active_ttl_seconds, order, opens_at)| SettingsPatch {
            mode,
            max_active,
            admit_per_minute,
            active_ttl_seconds,
            waiting_ttl_seconds: None,
            order,
            opens_at,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let millis = prop_oneof![0_u64..50, 50_u64..1_500, 1_500_u64..70_000];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => millis.prop_map(Step::Pass),
        4 => Just(Step::PassUntilDue),
        4 => any::<u8>().prop_map(Step::Issue),
        2 => any::<u8>().prop_map(Step::IssueMany),
        2 => any::<u8>().prop_map(Step::Leave),
        1 => index().prop_map(Step::LeaveByAdmin),
        1 => prop::collection::vec(index(), 0..5).prop_map(Step::Silent),
        3 => index().prop_map(Step::Complete),
        2 => (patch(), prop::collection::vec(any::<u8>(), 0..8)).prop_map(|(patch, who)| Step::Configure(patch, who)),
        8 => any::<u64>().prop_map(Step::Tick),
        1 => Just(Step::Reload),
    ]
}

/// The driver and the model, side by side.
struct Pair {
    driver: Driver,
    model: Model,
}

impl Pair {
    fn new(settings: &Settings) -> Self {
        let mut model = Model::default();
        model.configured(settings);
        Self { driver: Driver::open(settings.clone()), model }
    }

    fn follow(&mut self, events: &[Event]) {
        events.iter().for_each(|event| self.model.follow(self.driver.now, event));
    }

    /// A number that may have been issued, or may be the next one.
    fn some_no(&self, index: &prop::sample::Index) -> u64 {
        index.index(self.model.last_no as usize + 1) as u64 + 1
    }

    fn run(&mut self, command: &Command) -> Option<Answer<Reply>> {
        let (answer, events) = self.driver.run(command).ok()?;
        self.follow(&events);
        Some(answer)
    }

    fn issue(&mut self, user: &str) {
        let user = name(user);
        let known = self.model.users.iter().find(|(_, other)| **other == user).map(|(&no, _)| no);
        let answer = self.run(&Command::IssueToken { user });
        let (no, fresh) = (known.unwrap_or(self.model.last_no), known.is_none());
        assert_eq!(answer, Some(Answer::Reply(Reply::Token { no, fresh })));
    }

    fn leave(&mut self, user: Option<UserId>, no: u64) {
        let owner = self.model.users.get(&no);
        let may = owner.is_some_and(|owner| user.as_ref().is_none_or(|user| user == owner));
        assert_eq!(self.run(&Command::Leave { user, by: None, no }).is_some(), may);
    }

    fn expire(&mut self) {
        let now = self.driver.now;
        let over = self.model.active.iter().filter(|(until, _)| *until <= now).count() as u64;
        let expired = self.model.expired;
        let events = self.driver.expire();
        self.follow(&events);
        assert_eq!(self.model.expired, expired + over);
    }

    fn tick(&mut self, entropy: u64) {
        let now = self.driver.now;
        let is_due = self.driver.room.due().is_some_and(|due| due <= now);
        let opens = self.model.closed && self.model.settings.opens_at.is_none_or(|opens_at| opens_at <= now);
        let must_admit = self.model.must_admit(now);
        let waiting = self.model.waiting.len();
        let events = self.driver.tick(entropy);
        self.follow(&events);
        assert_eq!(is_due, !events.is_empty(), "due {:?} at {now}", self.driver.room.due());
        if opens {
            assert!(matches!(events[..], [Event::LineOpened { .. }]));
        } else {
            assert!((waiting - self.model.waiting.len()) as u64 >= must_admit);
        }
    }

    fn step(&mut self, step: &Step) {
        self.expire();
        match step {
            Step::Pass(millis) => self.driver.now = self.driver.now.plus_millis(*millis),
            Step::PassUntilDue => self.driver.now = self.driver.room.due().unwrap_or_default().max(self.driver.now),
            Step::Issue(user) => self.issue(&format!("{}", user % 40)),
            Step::IssueMany(first) => {
                (0..40_u8).for_each(|n| self.issue(&format!("many {}", first.wrapping_add(n))));
            }
            Step::Leave(user) => {
                let user = name(&format!("{}", user % 40));
                let no = self.driver.room.live_token(&user).unwrap_or(1);
                self.leave(Some(user), no);
            }
            Step::LeaveByAdmin(index) => self.leave(None, self.some_no(index)),
            Step::Silent(indexes) => {
                let tokens: Vec<u64> = indexes.iter().map(|index| self.some_no(index)).collect();
                self.run(&Command::ExpireSilent { tokens: tokens.clone() });
                assert!(!self.model.waiting.iter().any(|no| tokens.contains(no)));
            }
            Step::Complete(index) => {
                let no = self.some_no(index);
                self.run(&complete(no));
                assert!(!self.model.active.iter().any(|&(_, other)| other == no));
                assert_eq!(self.driver.tell.drain(..).count(), 1);
            }
            Step::Configure(patch, holders) => {
                let holders: Vec<_> = holders.iter().map(|user| name(&format!("{}", user % 40))).collect();
                self.model.holders.clone_from(&holders);
                let settings = patch.apply(&self.model.settings);
                let may = settings.max_active > 0 && settings.admit_per_minute != Some(0);
                let answer = self.run(&Command::Configure { patch: patch.clone(), holders, by: None });
                assert_eq!(answer.is_some(), may);
            }
            Step::Tick(entropy) => self.tick(*entropy),
            Step::Reload => self.driver.reload(),
        }
        self.expire();
        self.model.check(&self.driver);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn does_what_the_model_does(start in patch(), steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair::new(&start.apply(&Settings { mode: Mode::Queue, ..Settings::default() }));
        for step in &steps {
            pair.step(step);
        }
        pair.driver.reload();
        pair.model.check(&pair.driver);
    }

    /// The throttles as such: a line that never empties, ticked at odd times.
    #[test]
    fn the_throttles_hold_in_any_window(
        per_minute in prop_oneof![1_u32..10, 55_u32..65, 100_u32..2_000],
        gaps in prop::collection::vec(prop_oneof![1_u64..30, 80_u64..120, 1_u64..3_000], 100..600),
    ) {
        let mut pair = Pair::new(&Settings {
            mode: Mode::Queue,
            max_active: 100_000,
            admit_per_minute: Some(per_minute),
            active_ttl_seconds: 86_400,
            ..Settings::default()
        });
        (0..6_000).for_each(|n| _ = pair.driver.issue(&n.to_string()));
        pair.model.waiting = (1..=6_000).collect();
        for gap in gaps {
            pair.driver.now = pair.driver.now.plus_millis(gap);
            pair.tick(0);
        }
    }
}
