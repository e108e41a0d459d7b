//! Where a test steps in between aggregates: a message of a payment's saga is lost, held back or doubled, or is the last
//! thing that the engine does.
//!
//! For [`Engine::open_failing`](crate::Engine::open_failing).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::actors::actor::Delivery;
use crate::actors::registry::Origin;
use crate::actors::reply;
use crate::actors::system::{Routed, System};
use crate::domain::catalogue::{self, Catalogue};
use crate::domain::concert_option::{self, ConcertOption, DebitOutcome};
use crate::domain::waiting_room::{self, WaitingRoom};
use crate::domain::wallet::{self, Wallet};
use crate::domain::{Lsn, Message};
use crate::store::codec::TheCatalogue;
use crate::store::committer::Effect;

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident,)+) => {
        /// A message between aggregates on the way of a payment or a refund.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Step {
            $($(#[$doc])* $step,)+
        }

        impl Step {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$step,)+];
        }
    };
}

steps! {
    /// The option asks the wallet for the price.
    Debit,
    /// The wallet has taken it.
    Debited,
    /// The wallet has not enough.
    Refused,
    /// Past the payment's deadline, the option calls the debit off.
    CancelDebit,
    /// The wallet has called it off.
    Cancelled,
    /// The option tells the waiting room that a token is used.
    CompleteToken,
    /// The waiting room has taken note.
    TokenCompleted,
    /// The option asks the wallet to take a refund.
    Credit,
    /// The wallet has it.
    Credited,
}

impl Step {
    /// Which step a message is, if it is one of a saga's.
    fn of(message: &Message) -> Option<Self> {
        use concert_option::Command as Option_;

        // All of them by name, so that a new message between aggregates is not overlooked.
        match message {
            Message::Wallet(_, command) => match command {
                wallet::Command::Debit { .. } => Some(Self::Debit),
                wallet::Command::CancelDebit { .. } => Some(Self::CancelDebit),
                wallet::Command::Credit { .. } => Some(Self::Credit),
                wallet::Command::Charge { .. } | wallet::Command::Adjust { .. } => None,
            },
            Message::Option(_, command) => match command {
                Option_::DebitAnswered { outcome, .. } => Some(match outcome {
                    DebitOutcome::Debited { .. } => Self::Debited,
                    DebitOutcome::Refused { .. } => Self::Refused,
                    DebitOutcome::Cancelled => Self::Cancelled,
                }),
                Option_::CreditAnswered { .. } => Some(Self::Credited),
                Option_::TokenCompleted { .. } => Some(Self::TokenCompleted),
                Option_::Define { .. }
                | Option_::Reschedule { .. }
                | Option_::Change { .. }
                | Option_::Replan { .. }
                | Option_::Hold { .. }
                | Option_::Release { .. }
                | Option_::BeginPayment { .. }
                | Option_::BeginPaymentBy { .. }
                | Option_::GiveUp { .. }
                | Option_::Report { .. }
                | Option_::Attempted { .. }
                | Option_::Refund { .. }
                | Option_::HoldFor { .. }
                | Option_::ReleasePart { .. }
                | Option_::RefundPart { .. }
                | Option_::HoldUntil { .. }
                | Option_::Exchange { .. }
                | Option_::OfferTransfer { .. }
                | Option_::WithdrawTransfer { .. }
                | Option_::AcceptTransfer { .. }
                | Option_::HandOn { .. }
                | Option_::Block { .. }
                | Option_::Unblock { .. }
                | Option_::CallOff { .. }
                | Option_::Delete { .. }
                | Option_::DeletionNoted => None,
            },
            Message::Room(_, command) => match command {
                waiting_room::Command::CompleteToken { .. } => Some(Self::CompleteToken),
                waiting_room::Command::Open { .. }
                | waiting_room::Command::Close { .. }
                | waiting_room::Command::Configure { .. }
                | waiting_room::Command::IssueToken { .. }
                | waiting_room::Command::Leave { .. }
                | waiting_room::Command::ExpireSilent { .. } => None,
            },
            Message::Catalogue(command) => match command {
                catalogue::Command::CreateConcert { .. }
                | catalogue::Command::ChangeConcert { .. }
                | catalogue::Command::AddOption { .. }
                | catalogue::Command::DeleteConcert { .. }
                | catalogue::Command::OptionDeleted { .. }
                | catalogue::Command::RoomOpened { .. }
                | catalogue::Command::RoomClosed { .. }
                | catalogue::Command::OptionDefined { .. }
                | catalogue::Command::DrawInstallation { .. } => None,
            },
            Message::Providers(_) => None,
        }
    }
}

/// What a crash leaves of the events that were appended before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// All of them: they have become durable.
    Appended,
    /// Those that are durable by then.
    Durable,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It never arrives.
    Lose,
    /// It is kept until [`Failpoints::let_go`].
    Hold,
    /// It arrives twice.
    Double,
    /// The engine dies before it is sent.
    CrashBefore(Left),
    /// The engine dies when it has been handled, and before anybody hears what came of it.
    CrashAfter(Left),
}

/// The failpoints of one engine. Clones are the same.
#[derive(Clone, Default)]
pub struct Failpoints(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    system: Weak<System>,
    armed: HashMap<Step, (Action, usize)>,
    sent: Vec<Message>,
    held: Vec<Message>,
    dead: bool,
}

impl State {
    fn take(&mut self, step: Step) -> Option<Action> {
        let (action, times) = self.armed.get_mut(&step)?;
        *times = times.checked_sub(1)?;
        Some(*action)
    }
}

impl Failpoints {
    /// From now on `action` befalls the next `times` messages of a step.
    pub fn arm(&self, step: Step, action: Action, times: usize) {
        self.0.lock().armed.insert(step, (action, times));
    }

    /// From now on nothing befalls the messages of a step.
    pub fn disarm(&self, step: Step) {
        self.0.lock().armed.remove(&step);
    }

    /// How many messages of a step were to be sent so far, whatever became of them.
    #[must_use]
    pub fn sent(&self, step: Step) -> usize {
        self.0.lock().sent.iter().filter(|message| Step::of(message) == Some(step)).count()
    }

    /// How many messages of a step are held back.
    #[must_use]
    pub fn held(&self, step: Step) -> usize {
        self.0.lock().held.iter().filter(|message| Step::of(message) == Some(step)).count()
    }

    /// Lets the messages of a step arrive that were held back; returns when they have been handled.
    pub async fn let_go(&self, step: Step) {
        let held = {
            let mut state = self.0.lock();
            let (these, others) =
                std::mem::take(&mut state.held).into_iter().partition(|it| Step::of(it) == Some(step));
            state.held = others;
            these
        };
        self.deliver(held).await;
    }

    /// Lets every message that was ever to be sent arrive, in order and then the other way round; returns when all have
    /// been handled.
    pub async fn send_all_again(&self) {
        let sent = self.0.lock().sent.clone();
        self.deliver(sent.iter().chain(sent.iter().rev()).cloned().collect()).await;
    }

    async fn deliver(&self, messages: Vec<Message>) {
        let system = self.0.lock().system.upgrade();
        if let Some(system) = system {
            for message in messages {
                deliver(&system, message).await;
            }
        }
    }

    /// Sends a message between aggregates, or does to it what it is armed for.
    pub(crate) fn tell(&self, system: &Arc<System>, message: Message) {
        let action = {
            let mut state = self.0.lock();
            if state.dead {
                return;
            }
            if !std::ptr::eq(state.system.as_ptr(), Arc::as_ptr(system)) {
                // What was sent in another term reaches nobody any more.
                state.sent.clear();
                state.held.clear();
                state.system = Arc::downgrade(system);
            }
            let step = Step::of(&message);
            if step.is_some() {
                state.sent.push(message.clone());
            }
            let action = step.and_then(|step| state.take(step));
            match action {
                Some(Action::Hold) => return state.held.push(message),
                Some(Action::CrashBefore(_) | Action::CrashAfter(_)) => state.dead = true,
                _ => {}
            }
            action
        };
        match action {
            Some(Action::Lose | Action::Hold) => {}
            Some(Action::CrashBefore(left)) => crash(system, left),
            Some(Action::CrashAfter(left)) => {
                let (handled, system) = (deliver(system, message), system.clone());
                system.host.blocking.clone().spawn(async move {
                    handled.await;
                    crash(&system, left);
                });
            }
            Some(Action::Double) => {
                system.send(message.clone());
                system.send(message);
            }
            None => system.send(message),
        }
    }
}

/// Sends a message; what it gives is ready when the message has been handled, and what came of it is in the journal.
fn deliver(system: &Arc<System>, message: Message) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    fn to<A: Routed>(
        system: &Arc<System>,
        id: &A::Id,
        command: A::Command,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (reply, answer) = reply::channel();
        // From inside there is no limit to meet.
        let _ = A::registry(system).deliver(system, id, Delivery::<A>::Command(command, Some(reply)), Origin::Inside);
        // Nobody answers what aggregates tell each other: it ends with the drop of the other end.
        Box::pin(async move { drop(answer.await) })
    }
    match message {
        Message::Catalogue(command) => to::<Catalogue>(system, &TheCatalogue, command),
        Message::Option(id, command) => to::<ConcertOption>(system, &id, command),
        Message::Wallet(id, command) => to::<Wallet>(system, &id, command),
        Message::Room(id, command) => to::<WaitingRoom>(system, &id, command),
        Message::Providers(_) => {
            system.send(message);
            Box::pin(std::future::ready(()))
        }
    }
}

/// The end of the engine, without a seal and without a last checkpoint.
fn crash(system: &System, left: Left) {
    let writer = system.env.writer.clone();
    let last = match left {
        Left::Appended => writer.appended(),
        Left::Durable => Lsn(0),
    };
    let poison = move || writer.poison("it has come to a failpoint");
    system.env.writer.when_durable(last, Effect::call(poison));
}
