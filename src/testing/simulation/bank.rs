//! A provider of payments with a state of its own, and its buyers: it takes money, gives it back, and tells of it late, twice, in
//! any order, and not always the truth. What really happened stands here, and is compared with what the engine knows.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Model, Provided, broken};
use crate::domain::concert_option::{Owed, OwedKind};
use crate::domain::facts::{Fact, Kind};
use crate::domain::invariants::Broken;
use crate::domain::{Currency, PaymentId, Points, Timestamp};
use crate::testing::random::Dice;

/// How long an idempotency key is remembered: hardly longer than the engine relies on.
pub(super) const KEYS_MS: u64 = 13 * 3_600_000;
/// How long a call may be on its way before it gets lost.
const WAY_MS: u64 = 1_800_000;
/// So much happens to one payment: the engine listens to 200 facts, and then to those of money only.
const SAID_MAX: usize = 100;
/// So many do something at once.
const ACTS: u64 = 3;

/// What there was of money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Charges that took money.
    pub captured: u64,
    /// Refunds that were asked for, and done.
    pub given_back: u64,
    /// Debts that were settled by hand.
    pub by_hand: u64,
    /// Disputes.
    pub disputes: u64,
    /// Facts that were told, and heard.
    pub told: u64,
    /// Of them, those of payments that had left memory.
    pub cold: u64,
    /// Calls whose answer was lost, or that were not done.
    pub lost: u64,
    /// Calls that came when their callers had long stopped waiting.
    pub late: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { captured, given_back, by_hand, disputes, told, cold, lost, late } = self;
        write!(
            f,
            "by a provider {captured} charges, {given_back} refunds ({by_hand} by hand), {disputes} disputes, {told} facts ({cold} \
             of payments that had left memory), {lost} answers lost, {late} calls late"
        )
    }
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.captured += other.captured;
        self.given_back += other.given_back;
        self.by_hand += other.by_hand;
        self.disputes += other.disputes;
        self.told += other.told;
        self.cold += other.cold;
        self.lost += other.lost;
        self.late += other.late;
    }
}

/// Something that is to be told.
#[derive(Debug, Clone)]
pub(in crate::testing) struct Letter {
    pub payment: PaymentId,
    pub fact: Fact,
    /// It says another amount, or currency, than was told before.
    pub is_false: bool,
    /// It lies somewhere until nothing befalls anybody any more.
    lies_about: bool,
}

/// One charge, as it really is.
#[derive(Debug, Clone)]
struct Charge {
    currency: Currency,
    amount: u64,
    is_authorized: bool,
    is_dead: bool,
    captured: u64,
    refunded: u64,
    lost: u64,
    /// Disputes that have not ended, and of how much.
    disputes: BTreeMap<String, u64>,
    /// Refunds that may still come back.
    refunds: BTreeMap<String, u64>,
    /// All that is true of it.
    said: Vec<Fact>,
}

impl Charge {
    /// What may still go back.
    fn left(&self) -> u64 {
        self.captured.saturating_sub(self.refunded + self.lost + self.disputes.values().sum::<u64>())
    }
}

/// What was answered under a key, and when.
type Answered = (Timestamp, Result<Vec<Fact>, ()>);

/// One payment.
#[derive(Debug, Clone, Default)]
struct Account {
    charges: BTreeMap<String, Charge>,
    keys: BTreeMap<String, Answered>,
    /// Those of them whose answers get lost, as long as anything does.
    unheard: BTreeSet<String>,
    /// The numbers of what was owed and has been given back.
    moved: BTreeSet<u32>,
    /// What was given back by hand, by the number of what was owed.
    by_hand: Vec<(u32, Fact)>,
    /// No charge can begin any more.
    is_closed: bool,
}

impl Account {
    /// What was given back by hand.
    fn by_hand(&self) -> impl Iterator<Item = &Fact> {
        self.by_hand.iter().map(|(_, fact)| fact)
    }

    /// Whether all that a charge took for the seats went back some time, also if it came back later.
    fn gave_back(&self, reference: &str) -> bool {
        let Some(charge) = self.charges.get(reference) else { return false };
        let refunds = charge.said.iter().filter(|fact| fact.kind == Kind::Refunded);
        let is_for = |fact: &&Fact| fact.reference == reference || fact.id.as_deref() == Some(reference);
        let all = refunds.chain(self.by_hand().filter(is_for));
        all.map(|fact| fact.amount.get()).sum::<u64>() >= charge.amount
    }
}

/// What a call of the provider came to.
#[derive(Debug)]
pub(in crate::testing) enum Outcome {
    Done(Vec<Fact>),
    /// It may have been done.
    Unknown,
    /// It was not done.
    Refused,
}

/// A call that is on its way, and of which nobody waits for the answer any more.
#[derive(Debug)]
struct Late {
    payment: PaymentId,
    owed: Owed,
    key: String,
    sent: Timestamp,
}

/// The provider, and all who pay by it.
#[derive(Debug, Default)]
pub(in crate::testing) struct Bank {
    accounts: BTreeMap<PaymentId, Account>,
    letters: BTreeMap<u64, Letter>,
    late: Vec<Late>,
    last: u64,
    pub is_down: bool,
    /// It does what it is asked for, and no word of it gets through.
    pub is_mute: bool,
    /// Nothing befalls it any more.
    pub is_calm: bool,
    pub tally: Tally,
}

impl Bank {
    /// A new number.
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Letters that may be delivered now, and are not in `under_way`.
    pub fn letters(&self, under_way: &BTreeSet<u64>) -> Vec<u64> {
        let ready =
            self.letters.iter().filter(|(no, letter)| (self.is_calm || !letter.lies_about) && !under_way.contains(no));
        ready.map(|(no, _)| *no).collect()
    }

    pub fn letter(&self, no: u64) -> Option<&Letter> {
        self.letters.get(&no)
    }

    /// A letter was heard: it is not told again, or is.
    pub fn delivered(&mut self, no: u64, dice: &Dice) {
        self.tally.told += 1;
        if !self.is_calm && dice.chance(200) {
            return;
        }
        let Some(letter) = self.letters.remove(&no) else { return };
        if !self.is_calm && !letter.is_false && dice.chance(50) {
            // It contradicts itself.
            let fact = match "EUR".parse().ok().filter(|euro| dice.coin() && *euro != letter.fact.currency) {
                Some(currency) => Fact { currency, ..letter.fact },
                None => {
                    let amount = Points::new(letter.fact.amount.get() + 1).unwrap_or(Points::MAX);
                    Fact { amount, ..letter.fact }
                }
            };
            let no = self.next();
            self.letters.insert(no, Letter { fact, is_false: true, ..letter });
        }
    }

    /// A letter is not told again, whatever became of it.
    pub fn forget(&mut self, no: u64) {
        self.letters.remove(&no);
    }

    /// Whether all is told that there is to tell, and nothing is disputed.
    pub fn is_idle(&self) -> bool {
        self.letters.is_empty() && !self.charges().any(|(_, _, charge)| !charge.disputes.is_empty())
    }

    fn charges(&self) -> impl Iterator<Item = (PaymentId, &String, &Charge)> {
        let all = self.accounts.iter();
        all.flat_map(|(id, account)| account.charges.iter().map(|(reference, charge)| (*id, reference, charge)))
    }

    /// Something is true of a charge from now on, and will be told.
    fn say(
        &mut self,
        dice: &Dice,
        (payment, reference): (PaymentId, &str),
        kind: Kind,
        id: Option<String>,
        amount: u64,
    ) -> Vec<Fact> {
        let no = self.next();
        let Some(charge) = self.accounts.entry(payment).or_default().charges.get_mut(reference) else {
            return Vec::new();
        };
        let amount = Points::new(amount).unwrap_or(Points::MAX);
        let (reference, currency) = (reference.to_owned(), charge.currency);
        let fact = Fact { kind, reference, id, amount, currency, at: None, reason: None };
        charge.said.push(fact.clone());
        // That a page was opened need not be told: whoever looks finds it.
        if kind != Kind::Opened || dice.coin() {
            let lies_about = dice.chance(150);
            self.letters.insert(no, Letter { payment, fact: fact.clone(), is_false: false, lies_about });
        }
        vec![fact]
    }

    /// Some buyer, bank or clerk does something of its own accord.
    pub fn act(&mut self, dice: &Dice, now: Timestamp, model: &Model) -> Result<(), Broken> {
        if dice.chance(100) {
            self.is_down = !self.is_down;
        }
        if dice.chance(20)
            && let Some(letter) = self.letters.values_mut().find(|letter| letter.lies_about)
        {
            letter.lies_about = false;
        }
        if dice.chance(300) && !self.late.is_empty() && !self.is_down {
            self.arrive(dice, now)?;
        }
        let recent: Vec<_> =
            model.provided.iter().rev().take(8).map(|(id, one)| (*id, one.price, one.currency)).collect();
        for _ in 0..ACTS {
            if !recent.is_empty() {
                let (id, price, currency) = *dice.pick(&recent);
                self.act_on(dice, id, price, currency);
            }
        }
        Ok(())
    }

    /// A call comes at last, or has got lost.
    fn arrive(&mut self, dice: &Dice, now: Timestamp) -> Result<(), Broken> {
        let any = dice.below(self.late.len() as u64) as usize;
        let Late { payment, owed, key, sent } = self.late.swap_remove(any);
        if sent.plus_millis(WAY_MS) > now {
            self.tally.late += 1;
            // Nobody hears the answer.
            let _ = self.answer(dice, now, payment, &owed, &key)?;
        }
        Ok(())
    }

    fn act_on(&mut self, dice: &Dice, id: PaymentId, price: Points, currency: Currency) {
        let account = self.accounts.entry(id).or_default();
        let known: Vec<_> = account.charges.keys().cloned().collect();
        if account.charges.values().map(|charge| charge.said.len()).sum::<usize>() >= SAID_MAX {
            return;
        }
        if known.is_empty() || dice.chance(120) {
            if !account.is_closed {
                self.open(dice, id, price, currency);
            }
            return;
        }
        let reference = dice.pick(&known).clone();
        self.go_on(dice, id, &reference);
    }

    /// A buyer begins to pay, and maybe more or less than was asked for, or something else.
    fn open(&mut self, dice: &Dice, id: PaymentId, price: Points, currency: Currency) {
        let price = price.get();
        let amount = if dice.chance(900) { price } else { *dice.pick(&[price + 3, price.saturating_sub(1)]) };
        let amount = amount.max(1);
        let currency = if dice.chance(40) { "EUR".parse().unwrap_or(currency) } else { currency };
        let reference = format!("ch{}", self.next());
        let charge = Charge {
            currency,
            amount,
            is_authorized: false,
            is_dead: false,
            captured: 0,
            refunded: 0,
            lost: 0,
            disputes: BTreeMap::new(),
            refunds: BTreeMap::new(),
            said: Vec::new(),
        };
        self.accounts.entry(id).or_default().charges.insert(reference.clone(), charge);
        self.say(dice, (id, &reference), Kind::Opened, None, amount);
    }

    /// Something happens to a charge.
    fn go_on(&mut self, dice: &Dice, id: PaymentId, reference: &str) {
        let (roll, no) = (dice.below(16), self.next());
        let Some(charge) = self.accounts.entry(id).or_default().charges.get_mut(reference) else { return };
        let (amount, left, taken) = (charge.amount, charge.left(), charge.captured > 0);
        let part = 1 + dice.below(left);
        let (kind, name, amount) = match roll {
            0..5 if !charge.is_dead && !charge.is_authorized && !taken => {
                charge.is_authorized = true;
                (Kind::Authorized, None, amount)
            }
            5..7 if !charge.is_dead && !taken => {
                charge.captured = amount;
                self.tally.captured += 1;
                (Kind::Captured, None, amount)
            }
            // Once more, of the same charge.
            7 if taken && dice.chance(300) => {
                charge.captured += amount;
                (Kind::Captured, Some(format!("x{no}")), amount)
            }
            8 if !taken && dice.chance(300) => {
                charge.is_dead = true;
                (*dice.pick(&[Kind::Failed, Kind::Voided]), None, amount)
            }
            // It contradicts itself.
            9 if taken && dice.chance(300) => (*dice.pick(&[Kind::Failed, Kind::Voided]), None, amount),
            // It gives back what nobody asked it to.
            10 if left > 0 && dice.chance(200) => {
                let part = if dice.coin() { left } else { part };
                charge.refunded += part;
                (Kind::Refunded, Some(format!("u{no}")), part)
            }
            11 if left > 0 && dice.chance(300) => {
                self.tally.disputes += 1;
                charge.disputes.insert(format!("d{no}"), part);
                (Kind::Disputed, Some(format!("d{no}")), part)
            }
            12 | 13 if !charge.disputes.is_empty() => return self.end_dispute(dice, id, reference),
            14 if dice.chance(600) => return self.comes_back(dice, id, reference),
            // It says so, and takes the money all the same, some time.
            15 if !taken && dice.chance(150) => (Kind::Failed, None, amount),
            _ => return,
        };
        self.say(dice, (id, reference), kind, name, amount);
    }

    fn end_dispute(&mut self, dice: &Dice, id: PaymentId, reference: &str) {
        let Some(charge) = self.accounts.entry(id).or_default().charges.get_mut(reference) else { return };
        let Some((name, amount)) = charge.disputes.pop_first() else { return };
        let (is_won, is_lost) = (dice.coin(), dice.chance(150));
        if is_lost || !is_won {
            charge.lost += amount;
            self.say(dice, (id, reference), Kind::DisputeLost, Some(name.clone()), amount);
        }
        // And now and then it contradicts itself.
        if is_won {
            self.say(dice, (id, reference), Kind::DisputeWon, Some(name), amount);
        }
    }

    /// Nothing befalls it any more, and every dispute ends.
    pub fn calm(&mut self, dice: &Dice) {
        (self.is_calm, self.is_down) = (true, false);
        let open: Vec<_> = self.charges().filter(|(_, _, charge)| !charge.disputes.is_empty()).collect();
        let open: Vec<_> = open.into_iter().map(|(id, reference, _)| (id, reference.clone())).collect();
        for (id, reference) in open {
            self.end_dispute(dice, id, &reference);
        }
    }

    /// All that is true of a payment; `None` if it cannot be reached. If there is nothing, nothing comes of it any more.
    pub fn look_up(&mut self, id: PaymentId) -> Option<Vec<Fact>> {
        if self.is_down {
            return None;
        }
        let account = self.accounts.entry(id).or_default();
        let all: Vec<_> = account.charges.values().flat_map(|charge| charge.said.iter().cloned()).collect();
        account.is_closed |= all.is_empty();
        Some(all)
    }

    /// Does what is owed, once for each key that it remembers.
    pub fn call(
        &mut self,
        dice: &Dice,
        now: Timestamp,
        id: PaymentId,
        owed: &Owed,
        key: String,
    ) -> Result<Outcome, Broken> {
        if self.is_down || (!self.is_calm && dice.chance(100)) {
            self.tally.lost += 1;
            if dice.coin() {
                self.late.push(Late { payment: id, owed: owed.clone(), key, sent: now });
            }
            return Ok(Outcome::Unknown);
        }
        let answer = self.answer(dice, now, id, owed, &key)?;
        let account = self.accounts.entry(id).or_default();
        let is_lost = self.is_mute || account.unheard.contains(&key) || dice.chance(150);
        if !self.is_calm && is_lost {
            account.unheard.insert(key);
            self.tally.lost += 1;
            // And whoever was to tell of it is late.
            for letter in self.letters.values_mut().filter(|letter| letter.payment == id) {
                letter.lies_about |= self.is_mute || dice.chance(800);
            }
            return Ok(Outcome::Unknown);
        }
        Ok(answer.map_or(Outcome::Refused, Outcome::Done))
    }

    /// What is answered under a key: always the same, as long as the key is remembered.
    fn answer(
        &mut self,
        dice: &Dice,
        now: Timestamp,
        id: PaymentId,
        owed: &Owed,
        key: &str,
    ) -> Result<Result<Vec<Fact>, ()>, Broken> {
        let account = self.accounts.entry(id).or_default();
        account.keys.retain(|_, (at, _)| at.plus_millis(KEYS_MS) > now);
        if let Some((_, answer)) = account.keys.get(key) {
            return Ok(answer.clone());
        }
        let done = self.execute(dice, id, owed, key)?;
        self.accounts.entry(id).or_default().keys.insert(key.to_owned(), (now, done.clone()));
        Ok(done)
    }

    fn execute(&mut self, dice: &Dice, id: PaymentId, owed: &Owed, key: &str) -> Result<Result<Vec<Fact>, ()>, Broken> {
        let account = self.accounts.entry(id).or_default();
        let reference = owed.reference.clone().unwrap_or_default();
        if owed.kind == OwedKind::Refund && account.moved.contains(&owed.no) {
            return Err(broken("I13", format!("{id} is to give back twice for {owed:?}")));
        }
        let Some(charge) = account.charges.get_mut(&reference) else {
            return Err(broken("I13", format!("{id} owes {owed:?} of a charge that never was")));
        };
        if !self.is_calm && dice.chance(80) {
            // Not today.
            return Ok(Err(()));
        }
        let amount = owed.amount.get();
        let (kind, name, amount) = match owed.kind {
            OwedKind::Capture if charge.is_authorized && !charge.is_dead && charge.captured == 0 => {
                charge.captured = amount;
                self.tally.captured += 1;
                (Kind::Captured, None, amount)
            }
            OwedKind::Void if charge.captured == 0 => {
                charge.is_dead = true;
                (Kind::Voided, None, charge.amount)
            }
            OwedKind::Refund if charge.left() >= amount => {
                charge.refunded += amount;
                account.moved.insert(owed.no);
                charge.refunds.insert(key.to_owned(), amount);
                self.tally.given_back += 1;
                (Kind::Refunded, Some(key.to_owned()), amount)
            }
            _ => return Ok(Err(())),
        };
        if charge.said.iter().any(|fact| (fact.kind, &fact.id) == (kind, &name)) {
            return Ok(Ok(charge.said.clone()));
        }
        let facts = self.say(dice, (id, &reference), kind, name.clone(), amount);
        if kind == Kind::Refunded && !self.is_calm && dice.chance(150) {
            self.comes_back(dice, id, &reference);
        }
        Ok(Ok(facts))
    }

    /// A refund that was done comes back.
    fn comes_back(&mut self, dice: &Dice, id: PaymentId, reference: &str) {
        let Some(charge) = self.accounts.entry(id).or_default().charges.get_mut(reference) else { return };
        let Some((name, amount)) = charge.refunds.pop_first() else { return };
        charge.refunded -= amount;
        self.say(dice, (id, reference), Kind::RefundFailed, Some(name), amount);
    }

    /// Somebody settles by hand what the provider could not; whether he had to. If it is still owed once he has said so, his
    /// money was taken for another debt.
    pub fn settle_by_hand(&mut self, dice: &Dice, id: PaymentId, owed: &Owed, known: &Provided) -> bool {
        let no = self.next();
        let account = self.accounts.entry(id).or_default();
        if account.by_hand.iter().any(|(no, fact)| *no == owed.no && !known.has_heard(fact)) {
            return false;
        }
        // He says of which charge it is, or does not.
        let charge = owed.reference.clone().filter(|_| dice.coin());
        let (reference, id_of_it) = match (charge, dice.coin()) {
            (Some(charge), true) => (charge, Some(format!("transfer {no}"))),
            (charge, _) => (format!("transfer {no}"), charge),
        };
        let (amount, currency) = (owed.amount, owed.currency);
        let fact = Fact { kind: Kind::Refunded, reference, id: id_of_it, amount, currency, at: None, reason: None };
        account.by_hand.push((owed.no, fact.clone()));
        self.tally.by_hand += 1;
        self.letters.insert(no, Letter { payment: id, fact, is_false: false, lies_about: false });
        true
    }

    /// What was taken in a currency, and what of it is back.
    fn flows(account: &Account, currency: Currency) -> (u64, u64) {
        let all = account.charges.values().filter(|charge| charge.currency == currency);
        let (taken, back) =
            all.fold((0, 0), |(taken, back), charge| (taken + charge.captured, back + charge.refunded + charge.lost));
        let by_hand = account.by_hand().filter(|fact| fact.currency == currency);
        (taken, back + by_hand.map(|fact| fact.amount.get()).sum::<u64>())
    }

    /// Whoever knows all does not give back more than is left.
    pub fn is_left(&self, id: PaymentId, owed: &Owed, known: &Provided) -> Result<(), Broken> {
        let Some(account) = self.accounts.get(&id).filter(|_| owed.kind == OwedKind::Refund) else { return Ok(()) };
        let said = account.charges.values().flat_map(|charge| &charge.said).filter(|fact| fact.kind != Kind::Opened);
        if !said.chain(account.by_hand()).all(|fact| known.has_heard(fact)) {
            return Ok(());
        }
        let (taken, back) = Self::flows(account, owed.currency);
        let price = known.price_in(owed.currency);
        if back + price + owed.amount.get() > taken {
            let what =
                format!("of {id} {taken} was taken, {back} went back, {price} is paid for, and {owed:?} is to go");
            return Err(broken("I13", what));
        }
        Ok(())
    }

    /// In the end all that is true is known, nobody has paid for nothing, and nothing is reserved for nothing.
    pub fn agrees(&self, model: &Model) -> Result<(), Broken> {
        for (id, account) in &self.accounts {
            let Some(known) = model.provided.get(id) else { return Err(broken("I13", format!("{id} is not known"))) };
            let facts =
                account.charges.values().flat_map(|charge| &charge.said).filter(|fact| fact.kind != Kind::Opened);
            let unheard = facts.chain(account.by_hand()).find(|fact| !known.has_heard(fact));
            if let Some(fact) = unheard {
                return Err(broken("I13", format!("{id} has never heard of {fact:?}")));
            }
            let reserved = |charge: &Charge| {
                let is_over = |fact: &Fact| matches!(fact.kind, Kind::Failed | Kind::Voided);
                charge.is_authorized && !charge.is_dead && charge.captured == 0 && !charge.said.iter().any(is_over)
            };
            if let Some((reference, charge)) = account.charges.iter().find(|(_, charge)| reserved(charge)) {
                return Err(broken("I13", format!("{reference} of {id} is reserved for ever: {charge:?}")));
            }
            if let Some(reference) = known.undone.as_ref().filter(|reference| !account.gave_back(reference)) {
                let what = format!("{id} has no seats, and what it paid by {reference} never went back");
                return Err(broken("I13", what));
            }
            let currencies: BTreeSet<_> = account.charges.values().map(|charge| charge.currency).collect();
            for currency in currencies {
                let ((taken, back), price) = (Self::flows(account, currency), known.price_in(currency));
                if taken > back + price {
                    let what = format!("of {id} {taken} was taken, {back} went back, and {price} is paid for");
                    return Err(broken("I13", what));
                }
            }
        }
        Ok(())
    }
}
