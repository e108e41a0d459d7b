//! What can go wrong in a call: a refusal by the rules, bad input, or a fault. They are never mixed.

use std::time::Duration;

use crate::domain::{Flaw, Rejection};

/// One thing that is wrong with the input.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, serde::Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// Where: a path such as `areas[0].capacity`.
    #[n(0)]
    pub field: String,
    /// What is wrong, and what is allowed.
    #[n(1)]
    pub message: String,
}

/// So much of a path is told: names that a caller gave may be part of it.
const FIELD_CHARS_MAX: usize = 128;
/// So much of a message is told, which may quote what a caller gave.
const MESSAGE_CHARS_MAX: usize = 1_024;

impl FieldError {
    /// Something is wrong at `field`. Of what is too long the middle is left out.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: cut(field.into(), FIELD_CHARS_MAX), message: cut(message.into(), MESSAGE_CHARS_MAX) }
    }
}

impl From<Flaw> for FieldError {
    fn from(flaw: Flaw) -> Self {
        Self::new(flaw.field, flaw.message)
    }
}

fn cut(text: String, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text;
    }
    let head: String = text.chars().take(chars_max / 2).collect();
    let tail = text.char_indices().nth_back(chars_max / 2 - 1).map_or("", |(start, _)| &text[start..]);
    format!("{head}…{tail}")
}

/// Why a call did not do what was asked.
#[derive(Debug, Clone, minicbor::Encode, minicbor::Decode, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A rule stands against it. Nothing has changed.
    #[n(0)]
    #[error(transparent)]
    Rejected(#[n(0)] Rejection),
    /// The input is not within its bounds; everything that was found wrong. Nothing has changed.
    #[n(1)]
    #[error("invalid input: {}", .0.iter().map(|e| format!("{}: {}", e.field, e.message)).collect::<Vec<_>>().join("; "))]
    Invalid(#[n(0)] Vec<FieldError>),
    /// Seats of these names are not in the plan. Nothing has changed.
    #[n(2)]
    #[error("unknown seats: {}", .0.join(", "))]
    UnknownSeats(#[n(0)] Vec<String>),
    /// Some of the seats are held, sold or blocked. Nothing has changed.
    #[n(3)]
    #[error("seats are not available: {}", .0.join(", "))]
    SeatsUnavailable(#[n(0)] Vec<String>),
    /// Seats that are held or sold are not in the new plan, or not for sale there. Nothing has changed.
    #[n(10)]
    #[error("{in_use} seats that would go are held or sold: {}", seats.join(", "))]
    SeatsInUse {
        /// Which; the first thousand, if they are more.
        #[n(0)]
        seats: Vec<String>,
        /// How many.
        #[n(1)]
        in_use: u64,
    },
    /// Too much is under way. Nothing has changed; worth another try after the given time.
    #[n(4)]
    #[error("overloaded, try again in {} s", .0.as_secs().max(1))]
    Overloaded(#[n(0)] Duration),
    /// The disk is nearly full: reads go on, writes do not. Nothing has changed.
    #[n(5)]
    #[error("the disk is nearly full")]
    StorageFull,
    /// The log of the cluster is at its limit, since a node has not synced what it could forget else: no hold is
    /// taken. Nothing has changed.
    #[n(9)]
    #[error("the log of the cluster is at its limit, and no hold is taken")]
    LogFull,
    /// The engine has failed or is shutting down, or the node that decides did not answer, and whether the command took effect
    /// is not known: ask again, with the same idempotency key, once it is back.
    #[n(6)]
    #[error("the outcome is not known: {0}")]
    OutcomeUnknown(#[n(0)] String),
    /// Of several nodes none decides just now. Nothing has changed; worth another try in a second.
    #[n(8)]
    #[error("nobody decides just now; the command was not taken")]
    NoOwner,
    /// A fault of the engine's own; the text is for its log, not for buyers.
    #[n(7)]
    #[error("internal error: {0}")]
    Internal(#[n(0)] String),
}

impl From<Rejection> for Error {
    /// What the rules find out of bounds is [`Error::Invalid`], as it is where it is found before they are asked.
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Invalid(flaws) => Self::Invalid(flaws.into_iter().map(FieldError::from).collect()),
            rejection => Self::Rejected(rejection),
        }
    }
}

impl Error {
    /// One wrong field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(field, message)])
    }
}

/// Why an engine could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A value of the configuration is out of its bounds.
    #[error("configuration: {0}")]
    Config(#[from] crate::config::Error),
    /// The data directory belongs to a cluster.
    #[error(
        "data directory {0} belongs to a cluster: start it with [cluster], or let it leave with `boxoffice-server cluster leave`"
    )]
    InCluster(String),
    /// The cluster cannot be joined.
    #[error("cluster: {0}")]
    Cluster(String),
    /// The data directory cannot be used.
    #[error("data directory {dir}: {source}")]
    DataDirectory {
        /// Which.
        dir: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error(transparent)]
    Locked(#[from] crate::store::lock::Error),
    /// The journal is damaged or cannot be read or written.
    #[error(transparent)]
    Journal(#[from] crate::store::journal::Error),
    /// The state could not be opened, not even anew.
    #[error(transparent)]
    State(#[from] crate::store::state::Error),
    /// An event cannot be read.
    #[error(transparent)]
    Codec(#[from] crate::store::codec::Error),
    /// A row cannot be read.
    #[error("{0}; remove the folder \"state\", it is built again from the journal")]
    Row(String),
    /// A seating plan cannot be read.
    #[error(transparent)]
    Plans(#[from] crate::store::plans::Error),
    /// The journal's last event is later than the wall clock by more than is allowed.
    #[error(
        "the journal is {} s ahead of the wall clock: set the clock right, or set clock.accept_journal_ahead = true",
        .0.as_secs()
    )]
    JournalAhead(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_few_words() {
        let told = |chars: usize| {
            let text = |inside: &str| format!("ä{}ß", inside.repeat(chars - 2));
            FieldError::new(text("x"), text("ü"))
        };
        let lens = |error: &FieldError| (error.field.chars().count(), error.message.chars().count());
        assert_eq!(lens(&told(2)), (2, 2));
        assert_eq!(lens(&told(128)), (128, 128));
        assert!(!told(128).field.contains('…'));
        assert_eq!(lens(&told(129)), (129, 129));
        assert!(told(129).field.contains('…'));
        assert_eq!(lens(&told(1_024)), (129, 1_024));
        let long = told(1 << 20);
        assert_eq!(lens(&long), (129, 1_025));
        for text in [long.field, long.message] {
            assert!(text.starts_with('ä') && text.contains('…') && text.ends_with('ß'), "{text}");
        }
    }
}
