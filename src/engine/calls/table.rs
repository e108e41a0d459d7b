//! Every call that can be sent to the node that decides: its number, what it takes, what it gives, and what is done for it
//! there. A new call is one entry. Numbers are never used again; a member that is added later is an `Option` with a new
//! number, so that nodes of two versions understand each other.

use std::pin::Pin;
use std::sync::Arc;

use minicbor::{Decode, Decoder, Encode, Encoder};

use super::super::{Inner, IssuedToken, Start};
use crate::api::{
    Answered, BareReservation, Blocks, Caller, Cancellation, Concert, ConcertOption, DeadLetter, IdempotencyKey,
    NewConcert, NewOption, NewSeatingPlan, Office, Page, PageRequest, Payment, PaymentFilter, Portion, Refund,
    Reservation, ReservationStatus, Sink, Token, Transfer, WaitingRoom, Wallet, WalletEntry, WindowPatch, Wish,
};
use crate::domain::catalogue::ConcertPatch;
use crate::domain::concert_option::{Definition, Note, OptionPatch, Owed};
use crate::domain::facts::Fact;
use crate::domain::seating_plan::PlanHash;
use crate::domain::sink::{Destination, Secret};
use crate::domain::waiting_room::SettingsPatch;
use crate::domain::{
    ConcertId, EventFilter, EventId, OptionId, PaymentId, Points, ReservationId, SinkId, Timestamp, TokenId,
    TransferId, UserId,
};
use crate::error::Error;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Kind {
    /// A change.
    Change,
    /// A change with which somebody begins: there is less room for these.
    Begin,
    /// Nothing changes.
    Read,
}

/// A call of the engine that can be sent to another node.
pub(in crate::engine) trait Call:
    Encode<()> + for<'b> Decode<'b, ()> + std::fmt::Debug + Clone + Send + 'static
{
    /// Tells it from all others.
    const NUMBER: u16;
    /// What is asked for.
    const KIND: Kind;
    /// What travels back: what every node has itself is left out.
    type Answer: Encode<()> + for<'b> Decode<'b, ()> + std::fmt::Debug + Send;

    /// Does it on this node, which must be the owner.
    fn run(self, here: &Arc<Inner>) -> impl Future<Output = Result<Self::Answer, Error>> + Send;

    /// One with about half of the answer, of a list that is too large to be sent.
    fn halved(&self) -> Option<Self> {
        None
    }
}

/// The bytes of a call.
pub(super) fn to_bytes<C: Call>(call: &C) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory cannot fail, and no encoder here reports an error of its own. If one did, nobody could read it.
    let _ = Encoder::new(&mut bytes).array(2).and_then(|e| e.u16(C::NUMBER)).and_then(|e| e.encode(call).map(drop));
    bytes
}

/// What is done for a call, whatever it is.
pub(super) trait Serve {
    type Served<'a>: 'a;
    fn serve<'a, C: Call>(
        self,
        call: C,
        here: &'a Arc<Inner>,
    ) -> Pin<Box<dyn Future<Output = Self::Served<'a>> + Send + 'a>>;
}

macro_rules! calls {
    ($(
        $(#[$doc:meta])*
        $number:literal $kind:ident $name:ident { $($n:literal $field:ident: $type:ty),* $(,)? } -> $answer:ty
            $(, halved by $request:ident)? = |$here:ident| $run:expr;
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
            pub(in crate::engine) struct $name {
                $(#[n($n)] pub(in crate::engine) $field: $type,)*
            }

            impl Call for $name {
                const NUMBER: u16 = $number;
                const KIND: Kind = Kind::$kind;
                type Answer = $answer;

                async fn run(self, $here: &Arc<Inner>) -> Result<Self::Answer, Error> {
                    let Self { $($field),* } = self;
                    $run
                }

                $(fn halved(&self) -> Option<Self> {
                    let limit = self.$request.limit / 2;
                    let $request = PageRequest { limit, cursor: self.$request.cursor.clone() };
                    (limit > 0).then(|| Self { $request, ..self.clone() })
                })?
            }
        )*

        /// The numbers of all calls.
        #[cfg(test)]
        pub(super) const NUMBERS: &[u16] = &[$($number,)*];

        /// Reads a call and has it served; `None` if it is none that this program knows.
        pub(super) fn serve<'a, S: Serve>(
            bytes: &[u8],
            here: &'a Arc<Inner>,
            by: S,
        ) -> Option<Pin<Box<dyn Future<Output = S::Served<'a>> + Send + 'a>>> {
            let mut d = Decoder::new(bytes);
            if d.array().ok()? != Some(2) {
                return None;
            }
            match d.u16().ok()? {
                $($number => Some(by.serve(d.decode::<$name>().ok()?, here)),)*
                _ => None,
            }
        }
    };
}

/// What of a reservation travels.
fn bare(answered: Answered<Reservation>) -> Answered<BareReservation> {
    Answered { value: answered.value.into(), replayed: answered.replayed }
}

calls! {
    /// See [`create_concert`](crate::Engine::create_concert).
    1 Change CreateConcert { 0 concert: NewConcert, 1 key: Option<IdempotencyKey> } -> Answered<Concert>
        = |here| here.create_concert(concert, key).await;
    /// See [`add_option`](crate::Engine::add_option). The plan is where all nodes find it.
    2 Change AddOption {
        0 concert: ConcertId, 1 option: NewOption, 2 plan: PlanHash, 3 key: Option<IdempotencyKey>,
    } -> Answered<ConcertOption> = |here| {
        let seating_plan = here.plan_of_all(plan).await?;
        here.add_option(concert, NewOption { seating_plan, ..option }, key).await
    };
    /// See [`reschedule_option`](crate::Engine::reschedule_option).
    3 Change RescheduleOption { 0 id: OptionId, 1 patch: WindowPatch } -> ConcertOption
        = |here| here.reschedule_option(id, patch).await;
    /// See [`block_seats`](crate::Engine::block_seats).
    4 Change BlockSeats {
        0 id: OptionId, 1 seats: Vec<String>, 2 key: Option<IdempotencyKey>, 3 by: Option<UserId>,
    } -> Answered<Vec<String>> = |here| here.block_seats(id, seats, by, key).await;
    /// See [`unblock_seats`](crate::Engine::unblock_seats).
    5 Change UnblockSeats {
        0 id: OptionId, 1 seats: Vec<String>, 2 key: Option<IdempotencyKey>, 3 by: Option<UserId>,
    } -> Answered<Vec<String>> = |here| here.unblock_seats(id, seats, by, key).await;
    /// See [`configure_waiting_room`](crate::Engine::configure_waiting_room).
    6 Change ConfigureWaitingRoom { 0 concert: ConcertId, 1 patch: SettingsPatch, 2 by: Option<UserId> } -> WaitingRoom
        = |here| here.configure_waiting_room(concert, patch, by).await;
    /// See [`issue_token`](crate::Engine::issue_token).
    7 Begin IssueToken { 0 concert: ConcertId, 1 user: UserId } -> IssuedToken
        = |here| here.issue_token(concert, &user).await;
    /// See [`leave_queue`](crate::Engine::leave_queue).
    8 Change LeaveQueue { 0 caller: Caller, 1 id: TokenId } -> () = |here| here.leave_queue(&caller, id).await;
    /// See [`hold`](crate::Engine::hold).
    9 Begin Hold {
        0 option: OptionId, 1 user: UserId, 2 wish: Wish, 3 queue_token: Option<String>, 4 key: Option<IdempotencyKey>,
        5 note: Option<Box<Note>>,
    } -> Answered<BareReservation> = |here| {
        let held = here.hold(option, &user, wish, note, queue_token.as_deref(), key).await?;
        Ok(Answered { value: held.value.into(), replayed: held.replayed })
    };
    /// See [`release`](crate::Engine::release).
    10 Change Release { 0 caller: Caller, 1 id: ReservationId } -> BareReservation
        = |here| here.release(&caller, id).await.map(Into::into);
    /// See [`pay`](crate::Engine::pay).
    11 Change Pay { 0 user: UserId, 1 id: ReservationId, 2 key: Option<IdempotencyKey> } -> Answered<Payment>
        = |here| here.pay(&user, id, key).await;
    /// See [`refund`](crate::Engine::refund).
    12 Change GiveBack { 0 caller: Caller, 1 id: PaymentId, 2 key: Option<IdempotencyKey> } -> Answered<Refund>
        = |here| here.refund(&caller, id, key).await;
    /// See [`charge`](crate::Engine::charge).
    13 Change Charge {
        0 user: UserId, 1 amount: Points, 2 by: UserId, 3 key: Option<IdempotencyKey>,
    } -> Answered<WalletEntry> = |here| here.charge(&user, amount, &by, key).await;
    /// See [`register_sink`](crate::Engine::register_sink).
    14 Change RegisterSink { 0 receiver: Destination, 1 filter: EventFilter, 2 start: Start } -> (SinkId, Secret)
        = |here| here.register_sink(receiver, filter, start).await;
    /// See [`attach`](crate::Engine::attach): the sink of this name, which is registered if there is none.
    15 Change AttachSink { 0 name: String, 1 filter: EventFilter, 2 start: Start } -> SinkId
        = |here| here.attached_sink(&name, filter, start).await;
    /// See [`remove_sink`](crate::Engine::remove_sink).
    16 Change RemoveSink { 0 id: SinkId } -> () = |here| here.remove_sink(id).await;
    /// See [`rotate_secret`](crate::Engine::rotate_secret).
    17 Change RotateSecret { 0 id: SinkId, 1 previous_until: Timestamp } -> Secret
        = |here| here.rotate_secret(id, previous_until).await;
    /// See [`drop_dead_letter`](crate::Engine::drop_dead_letter).
    18 Change DropDeadLetter { 0 id: SinkId, 1 event: EventId } -> () = |here| here.drop_dead_letter(id, event).await;
    /// See [`redrive`](crate::Engine::redrive).
    19 Change Redrive { 0 id: SinkId, 1 event: Option<EventId>, 2 key: Option<IdempotencyKey> } -> Answered<u64>
        = |here| here.redrive(id, event, key).await;
    /// Signs of life of those who wait in a line.
    20 Change Seen { 0 concert: ConcertId, 1 tokens: Vec<u64> } -> () = |here| here.heard_of(concert, &tokens);
    /// See [`begin_payment`](crate::Engine::begin_payment).
    21 Change BeginPayment {
        0 user: UserId, 1 id: ReservationId, 2 method: String, 3 key: Option<IdempotencyKey>,
    } -> Answered<Payment> = |here| here.begin_payment(&user, id, &method, key).await;
    /// See [`give_up_payment`](crate::Engine::give_up_payment).
    22 Change GiveUp { 0 caller: Caller, 1 id: PaymentId } -> Payment = |here| here.give_up_payment(&caller, id).await;
    /// See [`report`](crate::Engine::report).
    23 Change Report { 0 id: PaymentId, 1 fact: Fact } -> Payment = |here| here.report(id, fact).await;
    /// See [`attempted`](crate::Engine::attempted).
    24 Change Attempted { 0 id: PaymentId, 1 owed: u32, 2 attempt: u32 } -> ()
        = |here| here.attempted(id, owed, attempt).await;

    /// See [`adjust`](crate::Engine::adjust).
    64 Change Adjust {
        0 user: UserId, 1 amount: i64, 2 reason: String, 3 by: UserId, 4 key: Option<IdempotencyKey>,
    } -> Answered<WalletEntry> = |here| here.adjust(&user, amount, &reason, &by, key).await;
    /// See [`change_concert`](crate::Engine::change_concert).
    65 Change ChangeConcert { 0 id: ConcertId, 1 patch: ConcertPatch, 2 by: UserId } -> Concert
        = |here| here.change_concert(id, patch, &by).await;
    /// See [`release_part`](crate::Engine::release_part).
    80 Change ReleasePart {
        0 caller: Caller, 1 id: ReservationId, 2 part: Portion, 3 key: Option<IdempotencyKey>,
    } -> Answered<BareReservation> = |here| here.release_part(&caller, id, part, key).await.map(bare);
    /// See [`refund_part`](crate::Engine::refund_part).
    81 Change GiveBackPart {
        0 caller: Caller, 1 id: PaymentId, 2 part: Portion, 3 key: Option<IdempotencyKey>,
    } -> Answered<Refund> = |here| here.refund_part(&caller, id, part, key).await;
    /// See [`exchange`](crate::Engine::exchange).
    82 Change Exchange {
        0 caller: Caller, 1 id: ReservationId, 2 give: Portion, 3 take: Portion, 4 queue_token: Option<String>,
        5 key: Option<IdempotencyKey>,
    } -> Answered<BareReservation>
        = |here| here.exchange(&caller, id, (give, take), queue_token.as_deref(), key).await.map(bare);
    /// See [`offer_transfer`](crate::Engine::offer_transfer).
    83 Change OfferTransfer {
        0 caller: Caller, 1 id: ReservationId, 2 to: UserId, 3 key: Option<IdempotencyKey>,
    } -> Answered<Transfer> = |here| here.offer_transfer(&caller, id, &to, key).await;
    /// See [`withdraw_transfer`](crate::Engine::withdraw_transfer).
    84 Change WithdrawTransfer { 0 caller: Caller, 1 id: TransferId } -> ()
        = |here| here.withdraw_transfer(&caller, id).await;
    /// See [`accept_transfer`](crate::Engine::accept_transfer).
    85 Change AcceptTransfer { 0 user: UserId, 1 id: TransferId, 2 key: Option<IdempotencyKey> } -> Answered<BareReservation>
        = |here| here.accept_transfer(&user, id, key).await.map(bare);
    /// See [`hand_on`](crate::Engine::hand_on).
    86 Change HandOn {
        0 id: ReservationId, 1 to: UserId, 2 key: Option<IdempotencyKey>, 3 by: Option<UserId>,
    } -> Answered<BareReservation> = |here| here.hand_on(id, &to, by.as_ref(), key).await.map(bare);
    /// See [`hold_for`](crate::Engine::hold_for).
    87 Change HoldFor {
        0 option: OptionId, 1 user: UserId, 2 wish: Wish, 3 office: Office, 4 key: Option<IdempotencyKey>,
        5 note: Option<Box<Note>>, 6 by: Option<UserId>,
    } -> Answered<BareReservation>
        = |here| here.hold_for(option, &user, (wish, office, note), by.as_ref(), key).await.map(bare);
    /// See [`hold_until`](crate::Engine::hold_until).
    88 Change HoldUntil { 0 id: ReservationId, 1 expires_at: Timestamp, 2 by: Option<UserId> } -> BareReservation
        = |here| here.hold_until(id, expires_at, by.as_ref()).await.map(Into::into);
    /// See [`transfer`](crate::Engine::transfer).
    89 Read GetTransfer { 0 user: UserId, 1 id: TransferId } -> Transfer = |here| here.transfer(&user, id).await;

    /// See [`call_off`](crate::Engine::call_off).
    90 Change CallOff {
        0 id: OptionId, 1 reason: Option<String>, 2 by: UserId, 3 key: Option<IdempotencyKey>,
    } -> Answered<Cancellation> = |here| here.call_off(id, reason, &by, key).await;

    /// See [`change_option`](crate::Engine::change_option).
    91 Change ChangeOption { 0 id: OptionId, 1 patch: OptionPatch, 2 by: UserId } -> ConcertOption
        = |here| here.change_option(id, patch, &by).await;

    /// See [`replace_plan`](crate::Engine::replace_plan). The plan is where all nodes find it.
    96 Change ReplacePlan {
        0 id: OptionId, 1 new: NewSeatingPlan, 2 plan: PlanHash, 3 by: UserId, 4 key: Option<IdempotencyKey>,
    } -> Answered<ConcertOption> = |here| {
        let seating_plan = here.plan_of_all(plan).await?;
        here.replace_plan(id, NewSeatingPlan { seating_plan, ..new }, &by, key).await
    };

    /// See [`delete_option`](crate::Engine::delete_option).
    92 Change DeleteOption { 0 id: OptionId, 1 by: UserId } -> () = |here| here.delete_option(id, &by).await;
    /// See [`delete_concert`](crate::Engine::delete_concert).
    93 Change DeleteConcert { 0 id: ConcertId, 1 by: UserId } -> () = |here| here.delete_concert(id, &by).await;

    /// See [`block`](crate::Engine::block).
    94 Change Block {
        0 id: OptionId, 1 blocks: Blocks, 2 by: UserId, 3 key: Option<IdempotencyKey>,
    } -> Answered<Blocks> = |here| here.block(id, blocks, Some(by), key).await;
    /// See [`unblock`](crate::Engine::unblock).
    95 Change Unblock {
        0 id: OptionId, 1 blocks: Blocks, 2 by: UserId, 3 key: Option<IdempotencyKey>,
    } -> Answered<Blocks> = |here| here.unblock(id, blocks, Some(by), key).await;

    /// See [`token`](crate::Engine::token).
    32 Read GetToken { 0 caller: Caller, 1 id: TokenId } -> Token = |here| {
        let token = here.own_token(&caller, id).await?;
        here.heard_from(&caller, id);
        Ok(token)
    };
    /// See [`reservation`](crate::Engine::reservation).
    33 Read GetReservation { 0 caller: Caller, 1 id: ReservationId } -> BareReservation
        = |here| here.reservation(&caller, id).await.map(Into::into);
    /// See [`reservations`](crate::Engine::reservations).
    34 Read ListReservations {
        0 user: UserId, 1 status: Option<ReservationStatus>, 2 request: PageRequest,
    } -> Page<BareReservation>, halved by request = |here| {
        let page = here.reservations(&user, status, &request).await?;
        let items = page.items.into_iter().map(Into::into).collect();
        Ok(Page { items, next_cursor: page.next_cursor })
    };
    /// See [`payment`](crate::Engine::payment).
    35 Read GetPayment { 0 caller: Caller, 1 id: PaymentId } -> Payment = |here| here.payment(&caller, id).await;
    /// See [`payments`](crate::Engine::payments).
    36 Read ListPayments { 0 user: UserId, 1 request: PageRequest } -> Page<Payment>, halved by request
        = |here| here.payments(&user, &request).await;
    /// See [`wallet`](crate::Engine::wallet).
    37 Read GetWallet { 0 user: UserId } -> Wallet = |here| here.wallet(&user).await;
    /// See [`wallet_entries`](crate::Engine::wallet_entries).
    38 Read ListEntries { 0 user: UserId, 1 request: PageRequest } -> Page<WalletEntry>, halved by request
        = |here| here.wallet_entries(&user, &request).await;
    /// See [`sinks`](crate::Engine::sinks).
    39 Read ListSinks {} -> Vec<Sink> = |here| here.sinks().await;
    /// See [`sink`](crate::Engine::sink).
    40 Read GetSink { 0 id: SinkId } -> Sink = |here| here.sink(id).await;
    /// See [`dead_letters`](crate::Engine::dead_letters).
    41 Read ListDeadLetters { 0 id: SinkId, 1 request: PageRequest } -> Page<DeadLetter>, halved by request
        = |here| here.dead_letters(id, &request).await;
    /// What has become durable: whoever has taken it in knows all that anybody was told before this was asked.
    42 Read Confirm {} -> () = |_here| Ok(());
    /// What does not change of an option, for a node that has not heard of it yet.
    43 Read GetDefinition { 0 id: OptionId } -> Definition = |here| {
        Ok(here.offer(id).await?.definition.clone())
    };
    /// See [`owed`](crate::Engine::owed).
    44 Read GetOwed { 0 id: PaymentId } -> Vec<Owed> = |here| here.owed(id).await;
    /// See [`provided_payments`](crate::Engine::provided_payments).
    45 Read ListProvided { 0 filter: PaymentFilter, 1 request: PageRequest } -> Page<Payment>, halved by request
        = |here| here.provided_payments(filter, &request).await;
}
