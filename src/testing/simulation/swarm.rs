//! What differs from run to run beside the order of things: how small the world is, what happens often and what never.

use super::stage::Post;
use crate::config::Config;
use crate::domain::concert_option::{Installation, Late, Method};
use crate::domain::{Points, Timestamp};
use crate::relay::{Settings, breaker};
use crate::testing::random::Random;
use crate::testing::sim_disk::Tear;

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::testing) enum Action {
    /// A caller asks for something.
    Ask,
    /// A caller asks for the same again.
    AskAgain,
    /// A caller does not wait any longer.
    Cancel,
    /// A caller looks at something.
    Look,
    /// An actor handles a delivery, or is loaded.
    Turn,
    /// The committer writes a batch.
    Commit,
    /// The projector takes a batch in.
    Project,
    /// A checkpoint goes a step further.
    Checkpoint,
    /// Aggregates leave the replica's memory.
    Evict,
    /// The timer looks around.
    Tick,
    /// A little time passes.
    Pass,
    /// Much time passes.
    PassLong,
    /// Somebody sets the wall clock.
    SetWall,
    /// A delivery to a receiver goes a step further.
    Deliver,
    /// The process is killed.
    Kill,
    /// The power goes.
    PowerCut,
    /// The process or the power will go in the middle of something.
    Halt,
    /// A disk call will fail.
    Fail,
    /// The disk fills up, or has room again.
    Fill,
    /// The engine is shut down and started again.
    Restart,
    /// The term ends, and another begins on the same node.
    Term,
    /// A buyer, or the provider, does something.
    Act,
    /// What is owed of payments by the provider gets a step further.
    Work,
    /// What the provider tells gets a step further.
    Tell,
}

impl Action {
    /// Whether it is to do harm.
    pub fn is_accident(self) -> bool {
        use Action::{Fail, Fill, Halt, Kill, PowerCut, Restart, SetWall, Term};
        matches!(self, Kill | PowerCut | Halt | Fail | Fill | Restart | SetWall | Term)
    }
}

/// How often each happens, and by how much it may do so more or less often than that.
const WEIGHTS: &[(Action, u64, Spread)] = &[
    (Action::Ask, 220, Spread::Some),
    (Action::AskAgain, 40, Spread::Any),
    (Action::Cancel, 8, Spread::Any),
    (Action::Look, 20, Spread::Any),
    (Action::Turn, 420, Spread::Some),
    (Action::Commit, 130, Spread::Some),
    (Action::Project, 120, Spread::Some),
    (Action::Checkpoint, 30, Spread::Any),
    (Action::Evict, 6, Spread::Any),
    (Action::Tick, 40, Spread::Some),
    (Action::Pass, 40, Spread::Some),
    (Action::PassLong, 2, Spread::Any),
    (Action::SetWall, 2, Spread::Any),
    (Action::Deliver, 80, Spread::Any),
    (Action::Kill, 3, Spread::Any),
    (Action::PowerCut, 4, Spread::Any),
    (Action::Halt, 5, Spread::Any),
    (Action::Fail, 2, Spread::Any),
    (Action::Fill, 1, Spread::Any),
    (Action::Restart, 1, Spread::Any),
    (Action::Term, 5, Spread::Any),
];

/// How often it happens besides, where there is a provider.
const OF_MONEY: &[(Action, u64, Spread)] =
    &[(Action::Act, 120, Spread::Some), (Action::Work, 120, Spread::Any), (Action::Tell, 120, Spread::Any)];

/// How often this happens in one run.
fn weigh(random: &mut Random, weights: &[(Action, u64, Spread)]) -> Vec<(Action, u64)> {
    let weigh = |&(action, weight, spread): &(Action, u64, Spread)| {
        let times = match spread {
            Spread::Some => *random.pick(&[1, 2, 2, 4]),
            Spread::Any => *random.pick(&[0, 1, 2, 2, 4]),
        };
        (action, weight * times)
    };
    weights.iter().map(weigh).collect()
}

/// By how much a run differs from another one.
#[derive(Debug, Clone, Copy)]
enum Spread {
    /// It happens in every run.
    Some,
    /// It may not happen at all, or very often.
    Any,
}

/// One run's world.
#[derive(Debug, Clone)]
pub(in crate::testing) struct Swarm {
    weights: Vec<(Action, u64)>,
    pub config: Config,
    /// The journal replays so many events between two checkpoints at the start.
    pub replay_events: u64,
    pub users: u64,
    pub concerts: u64,
    pub options: u64,
    pub seats: u64,
    pub keys: u64,
    pub tear: Tear,
    pub post: Post,
    /// How many disk calls in 1,000 have others' turns before them.
    pub interleaved: u64,
    /// How many starts in 1,000 are cut short.
    pub second_crash: u64,
    /// How many crashes in 1,000 leave the rows damaged.
    pub rows_damaged: u64,
    /// After how many crashes in 1,000 a copy of the journal is damaged.
    pub journal_damaged: u64,
    pub start: Timestamp,
    pub relay: Settings,
    pub batch: usize,
    /// Whether there is a provider.
    pub money: Option<Money>,
}

/// How buyers pay by a provider.
#[derive(Debug, Clone)]
pub(in crate::testing) struct Money {
    pub method: Method,
    /// How many payments in 1,000 are by the provider.
    pub share: u64,
    /// How long after the start the first performances begin.
    pub begins_ms: u64,
}

impl Money {
    fn new(random: &mut Random) -> Self {
        let method = Method {
            name: "card".into(),
            installation: Installation(7),
            pay_within_ms: 1_000 * (1 + random.below(60)),
            capture_within_ms: 1_000 * (1 + random.below(30)),
            late_within_ms: *random.pick(&[0, 5_000, 60_000, 30 * 86_400_000]),
            late: if random.chance(750) { Late::Reacquire } else { Late::Refund },
            minimum: Points::ZERO,
            currencies: Vec::new(),
            open_max: 20,
        };
        Self {
            method,
            share: *random.pick(&[300, 700, 1_000]),
            begins_ms: *random.pick(&[60_000, 3_600_000, 1 << 40, 1 << 40]),
        }
    }
}

impl Swarm {
    pub fn new(random: &mut Random) -> Self {
        let weights = weigh(random, WEIGHTS);
        let mut config = Config { data_dir: "/data".into(), ..Config::default() };
        config.journal.segment_bytes = *random.pick(&[4, 8, 16, 64]) << 10;
        config.checkpoint.enabled = !random.chance(100);
        config.actors.mailbox = *random.pick(&[2, 8, 64]);
        config.actors.max_resident = *random.pick(&[0, 1, 3, 100]);
        config.limits.user_open_holds = *random.pick(&[0, 1, 3, 20]);
        config.storage.min_free_bytes = 4 << 10;
        let faulty = random.chance(200);
        Self {
            weights,
            config,
            replay_events: *random.pick(&[5, 50, 100_000]),
            users: 1 + random.below(4),
            concerts: 1 + random.below(2),
            options: 1 + random.below(3),
            seats: *random.pick(&[2, 4, 12, 40]),
            keys: *random.pick(&[1, 3, 20]),
            tear: *random.pick(&[Tear::Whole, Tear::Within]),
            post: if faulty { Post { lost: random.below(200), doubled: random.below(200) } } else { Post::default() },
            interleaved: *random.pick(&[0, 200, 700]),
            second_crash: *random.pick(&[0, 100, 500]),
            rows_damaged: *random.pick(&[0, 50, 300]),
            journal_damaged: *random.pick(&[0, 20, 100]),
            start: Timestamp::from_millis(1_000_000_000_000 + random.below(1 << 30)),
            relay: Settings {
                window: *random.pick(&[1, 4, 64]),
                concurrency: *random.pick(&[1, 3]),
                max_parked: *random.pick(&[2, 50]),
                retry_schedule: (0..random.below(4)).map(|n| std::time::Duration::from_secs(1 << n)).collect(),
                breaker: breaker::Limits {
                    failures: *random.pick(&[1, 3, 10]),
                    pause: std::time::Duration::from_secs(random.below(5)),
                },
                retry_after_max: std::time::Duration::from_secs(5),
            },
            batch: *random.pick(&[1, 1, 3]),
            money: None,
        }
    }

    /// The same, and in half of all worlds, or in any, a provider beside; all else is as it was.
    pub fn with_money(mut self, seed: u64, in_any: bool) -> Self {
        let mut random = Random(seed ^ 0x6D6F_6E65_7921);
        if random.coin() || in_any {
            self.weights.extend(weigh(&mut random, OF_MONEY));
            self.money = Some(Money::new(&mut random));
        }
        self
    }

    /// What happens next.
    pub fn action(&self, random: u64) -> Action {
        let all: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = random % all;
        for (action, weight) in &self.weights {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *action,
            }
        }
        Action::Turn
    }
}
