//! After the commit: what has happened, as events for whoever wants to hear of it.
//!
//! The journal is the outbox. [`event`] is what leaves: CloudEvents, each with an id that never changes. `projection` is
//! the one place where records of the journal become events. [`Engine::events`](crate::Engine::events) hands them out to
//! one reader, at its own pace.
//!
//! Architecture invariant: everything in here reads what is durable, and nothing in here can hold up a sale.

pub mod event;
pub(crate) mod projection;

pub use event::{Event, EventData, EventFilter, EventId, EventType};
