//! A reservation engine for high-demand ticket on-sales: seats that are sold once, money that adds up, and a line that
//! nobody jumps, on one data directory and without any server.
//!
//! Every concert option (one performance) and every wallet is an actor that decides one command after the other; what
//! they decide goes to one journal, is synced in groups, and only then answered. See `docs/ARCHITECTURE.md`.
//!
//! [`Engine`] is where to begin: it opens a data directory, and its methods are all that can be done there. Money is whole
//! [`Points`], times are [`Timestamp`]s in milliseconds, and ids of everything are texts that lead to their owner.
//!
//! | feature | |
//! |---|---|
//! | `server` (default) | the HTTP server, its configuration and its command line |
//! | `loadtest` (default) | rehearsals of an on-sale, and the command line for that |
//! | `cluster` (with `server`) | several nodes on one replicated log: the connection to NATS JetStream |
//! | `testing` | clocks and disks that tests set by hand, failpoints, the simulator; not for production |
//!
//! A host app takes none of them: `default-features = false` leaves the engine alone, without a web stack.
//!
//! Whole host apps, small ones, stand in `examples/`: `embedded` (a house that is sold out), `several_options`,
//! `waiting_room`, `live_seats`, `events` (into a channel), `receiver` (deliveries), and `manual_clock` (how a host app tests
//! what takes time). `simulate` runs the simulator of this crate's own tests.
//!
//! ```
//! use boxoffice::{Config, Engine, NewConcert, NewOption, UserId, Wish};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("data");
//! let engine = Engine::open(Config { data_dir: dir, ..Config::default() }).await?;
//!
//! let concert = engine.create_concert(NewConcert::new("Chamber Music"), None).await?.value;
//! let plan = br#"{"categories": [{"name": "A"}], "zones": [{"name": "Hall", "rows": [{"row_number": "1", "seats": [
//!     {"seat_guid": "1-1", "seat_number": "1", "category": "A", "position": {"x": 0, "y": 0}},
//!     {"seat_guid": "1-2", "seat_number": "2", "category": "A", "position": {"x": 30, "y": 0}}]}]}]}"#;
//! let tomorrow = engine.now().plus_millis(86_400_000);
//! let option = NewOption { prices: vec![("A".into(), 100.into())], ..NewOption::new(tomorrow, plan.to_vec()) };
//! let option = engine.add_option(concert.id, option, None).await?.value;
//!
//! let anna: UserId = "anna".parse()?;
//! engine.charge(&anna, 500.into(), &"the-bank".parse()?, None).await?;
//! let held = engine.hold(option.id, &anna, Wish::best(2), None, None).await?.value;
//! let payment = engine.pay(&anna, held.id, None).await?.value;
//!
//! assert_eq!(payment.balance, Some(300.into()));
//! assert_eq!(engine.option(option.id).await?.counts.sold, 2);
//! engine.shutdown().await?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod actors;
mod aggregates;
mod api;
mod clock;
pub mod cluster;
mod config;
pub mod domain;
mod engine;
mod error;
mod limits;
mod live;
#[cfg(feature = "loadtest")]
pub mod loadgen;
pub mod payment;
pub mod relay;
mod replica;
#[cfg(feature = "server")]
pub mod server;
#[cfg(not(any(test, feature = "testing")))]
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod watch;

pub use api::{
    Answered, AreaSeats, BestAvailable, Blocks, Caller, Cancellation, Concert, ConcertOption, DeadLetter,
    DeliveryProgress, Focus, Health, HistoryItem, IdempotencyKey, NewArea, NewConcert, NewOption, NewSeatingPlan,
    NodeHealth, NodeRole, Office, OwedItem, Page, PageRequest, Pause, PauseReason, Payment, PaymentFilter,
    PaymentStatus, Portion, Provided, Reconciled, Refund, RefundStatus, Reservation, ReservationFilter,
    ReservationStatus, ReservedArea, ReservedSeat, SaleFigures, SaleTotals, Seats, Sink, Stats, Token, Transfer,
    Verdict, WaitingRoom, Wallet, WalletEntry, WindowPatch, Wish, seat_status_name,
};
pub use config::Config;
pub use domain::catalogue::{ConcertPatch, Details as ConcertDetails};
pub use domain::concert_option::{
    Area, AreaPatch, Counts as SeatCounts, Note, OptionPatch, OptionStatus, Price, PricedPlan, SagaStep, StepKind,
};
pub use domain::seat_map::Status as SeatStatus;
pub use domain::seating_plan::{PlanHash, SeatingPlan};
pub use domain::waiting_room::{
    Counts as TokenCounts, Mode as RoomMode, Order as LineOrder, Settings as RoomSettings,
    SettingsPatch as RoomSettingsPatch, TokenStatus,
};
pub use domain::wallet::EntryKind;
pub use domain::{
    ConcertId, Currency, EntryId, EventFilter, EventId, EventType, Lsn, OptionId, PaymentId, Points, RefundId,
    Rejection, ReservationId, SinkId, Timestamp, TokenId, TransferId, UserId,
};
pub use engine::{
    AttachedProvider, Engine, EventBatch, EventStream, IssuedToken, Membership, PaymentWalk, PlanJson, ReservationWalk,
    SeatChanges, Seen, Start, TokenChanges, VerifyReport, backup, export, reconcile, repair_state, restore, verify,
};
pub use error::{Error, FieldError, OpenError};
pub use live::seats::SeatUpdate;
pub use relay::{Event, EventData};

/// The sections of a [`Config`].
pub mod settings {
    pub use crate::config::{
        Actors, Checkpoint, Clock, Error, Events, Forwarding, Journal, Limits, Live, Payments, Storage,
    };
}

/// A map that many threads share.
type Map<K, V> = dashmap::DashMap<K, V, hashbrown::DefaultHashBuilder>;
