//! What the seats of an option and a wallet do if they are called one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::SEATS;
use super::checker::Model;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seat {
    Free,
    Held,
    Sold,
}

/// What is asked of the seats.
#[derive(Debug, Clone, PartialEq)]
pub enum SeatsCall {
    Hold(Vec<usize>),
    Release(u64),
    Pay(u64),
    Refund(u64),
    Look,
    LookAt(u64),
}

#[derive(Debug, Clone, PartialEq)]
pub enum SeatsAnswer {
    Held(u64),
    Taken,
    Done,
    /// The wallet has not enough, and the seats stay held.
    Refused,
    TooLate,
    Seats([Seat; SEATS]),
    Status(&'static str),
}

/// The seats as one caller after the other would see them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeatsModel {
    seats: [Seat; SEATS],
    /// The seats and the status of each reservation that anybody was told of. Later ones have higher numbers.
    reservations: BTreeMap<u64, (Vec<usize>, &'static str)>,
}

impl SeatsModel {
    pub fn new() -> Self {
        Self { seats: [Seat::Free; SEATS], reservations: BTreeMap::new() }
    }

    fn hold(&mut self, wish: &[usize]) -> bool {
        let free = wish.iter().all(|&n| self.seats[n] == Seat::Free);
        if free {
            wish.iter().for_each(|&n| self.seats[n] = Seat::Held);
        }
        free
    }

    /// Moves a reservation on, if it is where it should be.
    fn change(&mut self, no: u64, from: &str, to: &'static str, seat: Seat) -> SeatsAnswer {
        match self.reservations.get_mut(&no) {
            Some((seats, status)) if *status == from => {
                *status = to;
                seats.iter().for_each(|&n| self.seats[n] = seat);
                SeatsAnswer::Done
            }
            _ => SeatsAnswer::TooLate,
        }
    }

    fn answer(&mut self, call: &SeatsCall) -> SeatsAnswer {
        match call {
            // Nobody was told which number it has.
            SeatsCall::Hold(wish) => {
                if self.hold(wish) {
                    SeatsAnswer::Held(0)
                } else {
                    SeatsAnswer::Taken
                }
            }
            SeatsCall::Release(no) => self.change(*no, "held", "released", Seat::Free),
            SeatsCall::Pay(no) => self.change(*no, "held", "confirmed", Seat::Sold),
            SeatsCall::Refund(no) => self.change(*no, "confirmed", "refunded", Seat::Free),
            SeatsCall::Look => SeatsAnswer::Seats(self.seats),
            SeatsCall::LookAt(no) => {
                SeatsAnswer::Status(self.reservations.get(no).map_or("none", |(_, status)| status))
            }
        }
    }
}

impl Model for SeatsModel {
    type Call = SeatsCall;
    type Answer = SeatsAnswer;

    fn admits(&mut self, call: &SeatsCall, answer: &SeatsAnswer) -> bool {
        match (call, answer) {
            (SeatsCall::Hold(wish), SeatsAnswer::Held(no)) => {
                let is_later = self.reservations.last_key_value().is_none_or(|(last, _)| last < no);
                self.reservations.insert(*no, (wish.clone(), "held"));
                is_later && self.hold(wish)
            }
            // What the wallet holds is not known here.
            (SeatsCall::Pay(no), SeatsAnswer::Refused) => {
                self.reservations.get(no).is_some_and(|(_, status)| *status == "held")
            }
            _ => self.answer(call) == *answer,
        }
    }

    fn happen(&mut self, call: &SeatsCall) {
        self.answer(call);
    }
}

/// What is asked of the wallet. Payments and refunds are named by their reservation.
#[derive(Debug, Clone, PartialEq)]
pub enum WalletCall {
    Charge(u64),
    Pay(u64, u64),
    Refund(u64, u64),
    Look,
}

#[derive(Debug, Clone, PartialEq)]
pub enum WalletAnswer {
    Balance(u64),
    Refused(u64),
    /// It had been done before.
    Nothing,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct WalletModel {
    balance: u64,
    paid: BTreeSet<u64>,
    refunded: BTreeSet<u64>,
}

impl WalletModel {
    fn answer(&mut self, call: &WalletCall) -> WalletAnswer {
        match *call {
            WalletCall::Charge(amount) => self.balance += amount,
            WalletCall::Pay(no, _) if self.paid.contains(&no) => return WalletAnswer::Nothing,
            WalletCall::Pay(_, amount) if self.balance < amount => return WalletAnswer::Refused(self.balance),
            WalletCall::Pay(no, amount) => {
                self.paid.insert(no);
                self.balance -= amount;
            }
            WalletCall::Refund(no, _) if !self.paid.contains(&no) || self.refunded.contains(&no) => {
                return WalletAnswer::Nothing;
            }
            WalletCall::Refund(no, amount) => {
                self.refunded.insert(no);
                self.balance += amount;
            }
            WalletCall::Look => {}
        }
        WalletAnswer::Balance(self.balance)
    }
}

impl Model for WalletModel {
    type Call = WalletCall;
    type Answer = WalletAnswer;

    fn admits(&mut self, call: &WalletCall, answer: &WalletAnswer) -> bool {
        self.answer(call) == *answer
    }

    fn happen(&mut self, call: &WalletCall) {
        self.answer(call);
    }
}
