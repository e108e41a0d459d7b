//! Faults of machines and networks under load: after each, all that was acknowledged is there, once, and on all nodes alike.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use boxoffice::testing::random::{Random, seed};
use tokio::runtime::Runtime;

use crate::ALONE;
use crate::audit::{Audit, compare_journals, compare_states};
use crate::callers::Callers;
use crate::machines::{Cluster, NAMES, Part};
use crate::network::Cable;

pub const COUNT_VARIABLE: &str = "BOXOFFICE_CLUSTER_FAULTS";
pub const KINDS_VARIABLE: &str = "BOXOFFICE_CLUSTER_KINDS";
/// How long a fault that does not keep anybody from holding lasts.
const FOR_A_WHILE: Duration = Duration::from_secs(1);

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// What happens.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            const ALL: &[Self] = &[$(Self::$kind,)*];

            fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// The process that owns the log.
    OwnerKilled = "owner-killed",
    /// It stands still, and goes on when another one owns.
    OwnerStopped = "owner-stopped",
    FollowerKilled = "follower-killed",
    /// The NATS server that leads the stream.
    LeaderKilled = "leader-killed",
    LeaderStopped = "leader-stopped",
    /// The machine of both: it is cut off and killed.
    MachineLost = "machine-lost",
    /// The owner's machine from the others, while callers reach it.
    OwnerCut = "owner-cut",
    /// The machine of the stream's leader, if that is not the owner's.
    LeaderCut = "leader-cut",
    /// A machine of neither, or of the leader.
    FollowerCut = "follower-cut",
    /// `cluster step-down`.
    SteppedDown = "stepped-down",
    /// SIGTERM of the owner.
    OwnerEnded = "owner-ended",
    /// All nodes, one after the other.
    NodesRolled = "nodes-rolled",
    /// All NATS servers, each of which lets another one lead first.
    NatsRolled = "nats-rolled",
    /// All six.
    AllRolled = "all-rolled",
}

impl Kind {
    /// Those of the small slice: with cables, or without.
    fn slice(has_cables: bool) -> Vec<Self> {
        let last = if has_cables { Self::OwnerCut } else { Self::FollowerKilled };
        vec![Self::OwnerKilled, Self::SteppedDown, Self::LeaderKilled, last, Self::OwnerStopped]
    }

    fn needs_cables(self) -> bool {
        matches!(self, Self::OwnerCut | Self::LeaderCut | Self::FollowerCut)
    }

    /// Does it, and makes it good again.
    fn strike(self, cluster: &mut Cluster, callers: &Callers, dice: &mut Random) {
        let (owner, begun) = (cluster.owner(), Instant::now());
        let other = (owner + 1 + dice.below(2) as usize) % NAMES.len();
        match self {
            Self::OwnerKilled | Self::FollowerKilled => {
                let victim = if self == Self::OwnerKilled { owner } else { other };
                cluster.kill(victim, Part::Node);
                until_sold(callers);
                cluster.start_node(victim);
            }
            Self::OwnerStopped => {
                cluster.stop(owner, Part::Node);
                until_sold(callers);
                cluster.go_on(owner, Part::Node);
            }
            Self::LeaderKilled => {
                let leader = cluster.leader();
                cluster.kill(leader, Part::Nats);
                until_sold(callers);
                cluster.start_nats(leader);
            }
            Self::LeaderStopped => {
                let leader = cluster.leader();
                cluster.stop(leader, Part::Nats);
                until_sold(callers);
                cluster.go_on(leader, Part::Nats);
            }
            Self::MachineLost => {
                let has_cables = cluster.lacks_cables().is_none();
                let cables = if has_cables { &[Cable::Inner, Cable::Outer][..] } else { &[] };
                cables.iter().for_each(|cable| cluster.cable(owner, *cable, false));
                cluster.kill(owner, Part::Nats);
                cluster.kill(owner, Part::Node);
                until_sold(callers);
                cables.iter().for_each(|cable| cluster.cable(owner, *cable, true));
                cluster.start_nats(owner);
                cluster.wait_for_nats();
                cluster.start_node(owner);
            }
            Self::OwnerCut | Self::LeaderCut | Self::FollowerCut => {
                let victim = match self {
                    Self::OwnerCut => owner,
                    Self::LeaderCut => cluster.leader(),
                    _ => other,
                };
                cluster.cable(victim, Cable::Inner, false);
                until_sold(callers);
                cluster.cable(victim, Cable::Inner, true);
            }
            Self::SteppedDown => cluster.step_down(),
            Self::OwnerEnded => {
                cluster.end(owner, Part::Node);
                cluster.start_node(owner);
            }
            Self::NodesRolled => roll_nodes(cluster),
            Self::NatsRolled => roll_nats(cluster),
            Self::AllRolled => {
                roll_nodes(cluster);
                roll_nats(cluster);
            }
        }
        callers.until_sold(begun);
    }

    /// What has to be so before it can happen.
    fn prepare(self, cluster: &Cluster) {
        if self == Self::MachineLost {
            cluster.lead(cluster.owner());
        }
    }
}

/// Until somebody holds who asked a while after the fault.
fn until_sold(callers: &Callers) {
    callers.until_sold(Instant::now() + FOR_A_WHILE);
}

fn roll_nodes(cluster: &mut Cluster) {
    for index in 0..NAMES.len() {
        cluster.end(index, Part::Node);
        cluster.start_node(index);
        cluster.wait_until_well();
    }
}

fn roll_nats(cluster: &mut Cluster) {
    for index in 0..NAMES.len() {
        if cluster.leader() == index {
            cluster.lead((index + 1) % NAMES.len());
        }
        cluster.end(index, Part::Nats);
        cluster.start_nats(index);
        cluster.wait_until_well();
    }
}

/// What came of the faults of one kind.
#[derive(Default)]
struct Outcome {
    gaps: Vec<Duration>,
    troubles: BTreeMap<String, u64>,
}

/// Which ones, and how many.
fn plan(cluster: &Cluster, dice: &mut Random) -> Vec<Kind> {
    let has_cables = cluster.lacks_cables().is_none();
    let named = std::env::var(KINDS_VARIABLE).unwrap_or_default();
    let count = std::env::var(COUNT_VARIABLE).ok().map(|count| count.parse::<usize>().expect("a number of faults"));
    let named = named.split(',').map(str::trim).filter(|name| !name.is_empty());
    let kind = |name: &str| *Kind::ALL.iter().find(|kind| kind.name() == name).unwrap_or_else(|| panic!("{name}?"));
    let mut kinds: Vec<_> = named.map(kind).collect();
    if kinds.is_empty() {
        kinds = if count.is_some() { Kind::ALL.to_vec() } else { Kind::slice(has_cables) };
    }
    if let Some(why) = cluster.lacks_cables() {
        let left_out: Vec<_> = Kind::ALL.iter().filter(|kind| kind.needs_cables()).map(|kind| kind.name()).collect();
        // In any case, and not only if it fails.
        let _ =
            writeln!(io::stderr(), "no network namespaces ({why}): all on loopback, without {}", left_out.join(", "));
        kinds.retain(|kind| !kind.needs_cables());
    }
    let mut plan: Vec<_> = (0..count.unwrap_or(kinds.len())).map(|n| kinds[n % kinds.len()]).collect();
    for n in (1..plan.len()).rev() {
        plan.swap(n, dice.below(n as u64 + 1) as usize);
    }
    plan
}

#[test]
fn nothing_acknowledged_is_lost_or_done_twice_whatever_fails() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (seed, begun) = (seed(), Instant::now());
    println!("BOXOFFICE_TEST_SEED={seed}");
    let mut dice = Random(seed);
    let mut cluster = Cluster::start();
    let plan = plan(&cluster, &mut dice);
    let runtime = Runtime::new().unwrap();
    let callers = runtime.block_on(Callers::new(&cluster));
    let tasks = runtime.block_on(async { callers.begin(seed) });
    let mut audit = Audit::default();
    let mut outcomes = BTreeMap::<Kind, Outcome>::new();
    until_sold(&callers);
    for (n, kind) in plan.iter().enumerate() {
        kind.prepare(&cluster);
        until_sold(&callers);
        callers.troubles.lock().clear();
        let struck = Instant::now();
        kind.strike(&mut cluster, &callers, &mut dice);
        cluster.wait_until_well();
        let (gap, troubles) = (callers.longest_gap(struck), std::mem::take(&mut *callers.troubles.lock()));
        println!("{:>4} {:<16} {:>6.2} s without a hold; {troubles:?}", n + 1, kind.name(), gap.as_secs_f64());
        let outcome = outcomes.entry(*kind).or_default();
        outcome.gaps.push(gap);
        troubles.into_iter().for_each(|(what, times)| *outcome.troubles.entry(what).or_default() += times);
        runtime.block_on(audit.check(&callers));
        assert!(tasks.iter().all(|task| !task.is_finished()), "a caller is gone");
    }
    callers.end();
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
    runtime.block_on(audit.check(&callers));
    cluster.end_all();
    compare_states(&cluster.verify());
    let frames = compare_journals(&cluster);
    tell(&outcomes);
    println!(
        "{} faults, {} calls, {} of them acknowledged, {} events, {frames} frames alike, {:.0} s",
        plan.len(),
        callers.calls.load(std::sync::atomic::Ordering::Relaxed),
        audit.acknowledged,
        audit.events,
        begun.elapsed().as_secs_f64()
    );
}

fn tell(outcomes: &BTreeMap<Kind, Outcome>) {
    println!("longest time without a hold, in s:");
    println!("{:<16} {:>4} {:>6} {:>6} {:>6}  what callers asked again for", "fault", "n", "min", "median", "max");
    for (kind, Outcome { gaps, troubles }) in outcomes {
        let mut gaps = gaps.clone();
        gaps.sort();
        let [min, median, max] = [gaps[0], gaps[gaps.len() / 2], gaps[gaps.len() - 1]].map(|gap| gap.as_secs_f64());
        println!("{:<16} {:>4} {min:>6.2} {median:>6.2} {max:>6.2}  {troubles:?}", kind.name(), gaps.len());
    }
}
