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
    /// One of its seats is given back; if it has no other, all of it.
    RefundPart(u64, usize),
    /// One of its seats for another one.
    Exchange(u64, usize, usize),
    /// To one of two users.
    HandOn(u64, bool),
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
    /// It has no such seat, or is theirs already.
    Wrong,
    /// Another change is under way.
    Busy,
    /// It is the other one's.
    NotTheirs,
    Seats([Seat; SEATS]),
    Order(Order),
}

/// A reservation, as anybody sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Order {
    pub seats: BTreeSet<usize>,
    pub status: &'static str,
    /// Whether it was handed on, and not back.
    pub is_the_others: bool,
}

/// The seats as one caller after the other would see them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeatsModel {
    seats: [Seat; SEATS],
    /// Each reservation that anybody was told of. Later ones have higher numbers.
    orders: BTreeMap<u64, Order>,
}

impl SeatsModel {
    pub fn new() -> Self {
        Self { seats: [Seat::Free; SEATS], orders: BTreeMap::new() }
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
        match self.orders.get_mut(&no) {
            Some(order) if order.status == from => {
                order.status = to;
                order.seats.iter().for_each(|&n| self.seats[n] = seat);
                SeatsAnswer::Done
            }
            _ => SeatsAnswer::TooLate,
        }
    }

    fn exchange(&mut self, no: u64, give: usize, take: usize) -> SeatsAnswer {
        match self.orders.get_mut(&no).filter(|order| order.status == "confirmed") {
            None => SeatsAnswer::TooLate,
            Some(order) if !order.seats.contains(&give) => SeatsAnswer::Wrong,
            Some(_) if self.seats[take] != Seat::Free => SeatsAnswer::Taken,
            Some(order) => {
                order.seats.remove(&give);
                order.seats.insert(take);
                (self.seats[give], self.seats[take]) = (Seat::Free, Seat::Sold);
                SeatsAnswer::Done
            }
        }
    }

    fn refund_part(&mut self, no: u64, seat: usize) -> SeatsAnswer {
        match self.orders.get_mut(&no).filter(|order| order.status == "confirmed") {
            None => SeatsAnswer::TooLate,
            Some(order) if !order.seats.contains(&seat) => SeatsAnswer::Wrong,
            Some(order) if order.seats.len() == 1 => self.change(no, "confirmed", "refunded", Seat::Free),
            Some(order) => {
                order.seats.remove(&seat);
                self.seats[seat] = Seat::Free;
                SeatsAnswer::Done
            }
        }
    }

    fn hand_on(&mut self, no: u64, to_the_other: bool) -> SeatsAnswer {
        match self.orders.get_mut(&no).filter(|order| order.status == "confirmed") {
            None => SeatsAnswer::TooLate,
            Some(order) if order.is_the_others == to_the_other => SeatsAnswer::Wrong,
            Some(order) => {
                order.is_the_others = to_the_other;
                SeatsAnswer::Done
            }
        }
    }

    fn has_confirmed(&self, no: u64) -> bool {
        self.orders.get(&no).is_some_and(|order| order.status == "confirmed")
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
            SeatsCall::Pay(no) if self.orders.get(no).is_some_and(|order| order.is_the_others) => {
                SeatsAnswer::NotTheirs
            }
            SeatsCall::Pay(no) => self.change(*no, "held", "confirmed", Seat::Sold),
            SeatsCall::Refund(no) => self.change(*no, "confirmed", "refunded", Seat::Free),
            &SeatsCall::RefundPart(no, seat) => self.refund_part(no, seat),
            &SeatsCall::Exchange(no, give, take) => self.exchange(no, give, take),
            &SeatsCall::HandOn(no, to_the_other) => self.hand_on(no, to_the_other),
            SeatsCall::Look => SeatsAnswer::Seats(self.seats),
            SeatsCall::LookAt(no) => self.orders.get(no).cloned().map_or(SeatsAnswer::TooLate, SeatsAnswer::Order),
        }
    }
}

impl Model for SeatsModel {
    type Call = SeatsCall;
    type Answer = SeatsAnswer;

    fn admits(&mut self, call: &SeatsCall, answer: &SeatsAnswer) -> bool {
        match (call, answer) {
            (SeatsCall::Hold(wish), SeatsAnswer::Held(no)) => {
                let is_later = self.orders.last_key_value().is_none_or(|(last, _)| last < no);
                let seats = wish.iter().copied().collect();
                self.orders.insert(*no, Order { seats, status: "held", is_the_others: false });
                is_later && self.hold(wish)
            }
            // What the wallet holds is not known here.
            (SeatsCall::Pay(no), SeatsAnswer::Refused) => {
                self.orders.get(no).is_some_and(|order| order.status == "held")
            }
            // What is given back is not in the wallet yet.
            (
                SeatsCall::Refund(no)
                | SeatsCall::RefundPart(no, _)
                | SeatsCall::Exchange(no, ..)
                | SeatsCall::HandOn(no, _),
                SeatsAnswer::Busy,
            ) => self.has_confirmed(*no),
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
    /// So much of it, or all that is left.
    Refund(u64, Option<u64>),
    Look,
}

#[derive(Debug, Clone, PartialEq)]
pub enum WalletAnswer {
    Balance(u64),
    Refused(u64),
    /// It had been done before.
    Nothing,
    /// It is not to be done, or not now: the wallet was not asked.
    NotAsked,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct WalletModel {
    balance: u64,
    /// What is left of each payment.
    paid: BTreeMap<u64, u64>,
}

impl WalletModel {
    fn answer(&mut self, call: &WalletCall) -> WalletAnswer {
        match *call {
            WalletCall::Charge(amount) => self.balance += amount,
            WalletCall::Pay(no, _) if self.paid.contains_key(&no) => return WalletAnswer::Nothing,
            WalletCall::Pay(_, amount) if self.balance < amount => return WalletAnswer::Refused(self.balance),
            WalletCall::Pay(no, amount) => {
                self.paid.insert(no, amount);
                self.balance -= amount;
            }
            WalletCall::Refund(no, part) => match self.paid.get_mut(&no) {
                Some(left) if *left > 0 => {
                    let amount = part.unwrap_or(*left);
                    *left -= amount;
                    self.balance += amount;
                }
                _ => return WalletAnswer::Nothing,
            },
            WalletCall::Look => {}
        }
        WalletAnswer::Balance(self.balance)
    }
}

impl Model for WalletModel {
    type Call = WalletCall;
    type Answer = WalletAnswer;

    fn admits(&mut self, call: &WalletCall, answer: &WalletAnswer) -> bool {
        *answer == WalletAnswer::NotAsked || self.answer(call) == *answer
    }

    fn happen(&mut self, call: &WalletCall) {
        self.answer(call);
    }
}
