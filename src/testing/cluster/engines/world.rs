//! What happens, and how often.

use crate::testing::random::Random;

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// A node reads the next message from its server.
    Follow,
    /// A publish comes to the stream.
    Arrive,
    /// The stream's oldest proposal is there for good.
    Commit,
    /// A node hears what became of a publish.
    Hear,
    /// A replica of the stream catches up.
    Show,
    /// A node asks the leader for what it wants.
    Fetch,
    /// A caller asks an owner for something.
    Ask,
    /// A caller asks for the same again, anywhere.
    AskAgain,
    /// A caller does not wait any longer.
    Cancel,
    /// A caller looks at something.
    Look,
    /// An actor handles a delivery, or is loaded.
    Turn,
    /// A node appends what its term has decided.
    Append,
    /// A node publishes again what did not get in at once.
    Later,
    /// A node's projector takes a batch in.
    Project,
    /// A node's checkpoint goes a step further.
    Checkpoint,
    /// A node makes its journal durable, and writes down how far it has read.
    Sync,
    /// Aggregates leave a replica's memory.
    Evict,
    /// The timer of an owner looks around.
    Tick,
    /// A little time passes.
    Pass,
    /// Much time passes.
    PassLong,
    /// Somebody sets a wall clock.
    SetWall,
    /// A node starts, if it is down.
    Start,
    /// A node goes on, if it stands still.
    Resume,
    /// A node is connected again.
    Join,
    /// Another server leads the stream.
    Elect,
    /// A node wants to own.
    Fence,
    /// An owner begins a delivery to a sink.
    Deliver,
    /// A node does not wait for an answer any longer.
    TimeOut,
    /// An owner lets another one own; now and then since it is to end.
    Leave,
    /// It goes on with that.
    GoOnLeaving,
    /// A publish comes once more, some time.
    Double,
    /// A publish is lost on its way.
    LosePublish,
    /// An answer is lost on its way.
    LoseReply,
    /// The stream has no space for this one.
    Full,
    /// The stream has no leader any more.
    LoseLeader,
    /// A node stands still.
    Pause,
    /// A node is cut off from the stream.
    Cut,
    /// A process is killed.
    Kill,
    /// A node loses power.
    PowerCut,
    /// A node will lose power, or its process, in the middle of something.
    Halt,
    /// A disk call of a node will fail.
    Fail,
    /// A stranger writes to the stream.
    Stray,
    /// A replica of the stream loses a message.
    Rot,
}

/// How often each happens, and whether a run may have none of it, or much more.
const WEIGHTS: &[(Action, u64, bool)] = &[
    (Action::Follow, 250, false),
    (Action::Arrive, 150, false),
    (Action::Commit, 150, false),
    (Action::Hear, 150, false),
    (Action::Show, 60, false),
    (Action::Fetch, 60, false),
    (Action::Ask, 200, false),
    (Action::AskAgain, 40, true),
    (Action::Cancel, 8, true),
    (Action::Look, 20, true),
    (Action::Turn, 450, false),
    (Action::Append, 120, false),
    (Action::Later, 60, false),
    (Action::Project, 200, false),
    (Action::Checkpoint, 50, true),
    (Action::Sync, 12, true),
    (Action::Evict, 8, true),
    (Action::Tick, 40, false),
    (Action::Pass, 40, false),
    (Action::PassLong, 1, true),
    (Action::SetWall, 2, true),
    (Action::Start, 40, false),
    (Action::Resume, 30, false),
    (Action::Join, 30, false),
    (Action::Elect, 40, false),
    (Action::Fence, 6, false),
    (Action::Deliver, 20, true),
    (Action::TimeOut, 15, true),
    (Action::Leave, 3, true),
    (Action::GoOnLeaving, 30, false),
    (Action::Double, 10, true),
    (Action::LosePublish, 5, true),
    (Action::LoseReply, 8, true),
    (Action::Full, 2, true),
    (Action::LoseLeader, 3, true),
    (Action::Pause, 3, true),
    (Action::Cut, 3, true),
    (Action::Kill, 2, true),
    (Action::PowerCut, 2, true),
    (Action::Halt, 2, true),
    (Action::Fail, 1, true),
    (Action::Stray, 3, true),
    (Action::Rot, 1, true),
];

/// How often things happen in one run.
pub(super) struct Weights(Vec<(Action, u64)>);

impl Weights {
    pub fn new(random: &mut Random) -> Self {
        let weights = WEIGHTS.iter().map(|&(action, weight, any)| {
            (action, weight * *random.pick(if any { &[0, 1, 1, 2, 2, 4] } else { &[1, 2, 2, 4] }))
        });
        Self(weights.collect())
    }

    /// What happens next.
    pub fn action(&self, random: u64) -> Action {
        let all: u64 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut at = random % all;
        for (action, weight) in &self.0 {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *action,
            }
        }
        Action::Turn
    }
}
