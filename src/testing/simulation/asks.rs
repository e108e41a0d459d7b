//! How often callers asked for what: what a change of the dice may have left out shows here.

use std::fmt;

use super::clients::Ask;
use crate::domain::concert_option::Command;
use crate::domain::{catalogue, waiting_room, wallet};

/// The kinds of what is asked for.
const KINDS: [&str; 17] = [
    "holds",
    "payments",
    "payments by the provider",
    "refunds",
    "parts given up or back",
    "releases",
    "exchanges",
    "transfers",
    "charges",
    "blocks",
    "tokens",
    "settings of lines",
    "changes of what is sold",
    "callings off",
    "deletions",
    "new concerts and options",
    "sinks",
];

/// How often each kind was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asks([u64; KINDS.len()]);

impl Asks {
    /// Counts one more.
    pub(super) fn count(&mut self, ask: &Ask) {
        if let Some(kind) = KINDS.iter().position(|kind| *kind == kind_of(ask)) {
            self.0[kind] += 1;
        }
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    /// What was asked for less often than `least` times.
    pub fn seldom(&self, least: u64) -> Vec<&'static str> {
        KINDS.iter().zip(self.0).filter(|(_, count)| *count < least).map(|(kind, _)| *kind).collect()
    }
}

fn kind_of(ask: &Ask) -> &'static str {
    match ask {
        Ask::Catalogue(catalogue::Command::DeleteConcert { .. }) => "deletions",
        Ask::Catalogue(_) => "new concerts and options",
        Ask::Option(_, command) => kind_of_command(command),
        Ask::Wallet(_, wallet::Command::Charge { .. }) => "charges",
        Ask::Room(_, waiting_room::Command::Configure { .. }) => "settings of lines",
        Ask::Room(..) => "tokens",
        Ask::Wallet(..) => "",
        Ask::Sink(..) => "sinks",
    }
}

fn kind_of_command(command: &Command) -> &'static str {
    match command {
        Command::Hold { .. } => "holds",
        Command::BeginPayment { .. } => "payments",
        Command::BeginPaymentBy { .. } | Command::GiveUp { .. } => "payments by the provider",
        Command::Refund { .. } => "refunds",
        Command::ReleasePart { .. } | Command::RefundPart { .. } => "parts given up or back",
        Command::Release { .. } => "releases",
        Command::Exchange { .. } => "exchanges",
        Command::OfferTransfer { .. }
        | Command::WithdrawTransfer { .. }
        | Command::AcceptTransfer { .. }
        | Command::HandOn { .. } => "transfers",
        Command::Block { .. } | Command::Unblock { .. } => "blocks",
        Command::Reschedule { .. } | Command::Change { .. } => "changes of what is sold",
        Command::CallOff { .. } => "callings off",
        Command::Delete { .. } => "deletions",
        _ => "",
    }
}

impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<_> = KINDS.iter().zip(self.0).map(|(kind, count)| format!("{count} {kind}")).collect();
        f.write_str(&told.join(", "))
    }
}
