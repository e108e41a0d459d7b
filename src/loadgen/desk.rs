//! Where callers come: every call of a workload goes through here, is timed, counted, and told to the auditor.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;

use super::auditor::{Auditor, Breach, Buyer, InLine, State};
use super::meter::{Meter, Op};
use super::params::Params;
use super::rng::{Rng, Stream};
use super::target::{Answer, Begun, Code, Held, Offer, Paid, Place, Stands, Target, Wish};
use crate::domain::facts::Fact;
use crate::domain::waiting_room::TokenStatus;
use crate::domain::{PaymentId, ReservationId, UserId};

pub use super::auditor::Move;

/// Of how many payments one is read again at once.
const PAYMENTS_READ_BACK_EVERY: u64 = 16;
/// Of so many users the names are kept ready.
const NAMES_READY_MAX: u64 = 100_000;
/// Of how many wallets the changes are read in the end.
const LEDGERS_MAX: usize = 1_000;
/// The longest page of changes of a wallet.
const PAGE_MAX: usize = 500;
/// How many read at the same time in the end.
const READERS: usize = 64;
/// How long one waits who was turned away because there was too much to do, in milliseconds.
const TURNED_AWAY_MS: std::ops::Range<u64> = 20..100;

/// What all callers of a run share.
pub struct Desk<T> {
    /// What is put under load.
    pub target: T,
    /// What is on sale.
    pub offers: Vec<Arc<Offer>>,
    /// How the run goes.
    pub params: Params,
    /// Who checks it.
    pub audit: Auditor,
    /// Who counts.
    pub meter: Meter,
    /// Who comes.
    pub crowd: Crowd,
    /// When nobody does anything any more.
    pub end: Instant,
}

/// The names of a run's users. Those of the first are kept ready.
pub struct Crowd {
    run: String,
    ready: Vec<UserId>,
}

impl Crowd {
    /// So many, whose names begin with `run`.
    ///
    /// # Errors
    /// It cannot begin a name.
    pub fn new(run: String, users: u64) -> Answer<Self> {
        let mut crowd = Self { run, ready: Vec::new() };
        crowd.ready = (0..users.min(NAMES_READY_MAX)).map(|no| crowd.name(no)).collect::<Answer<_>>()?;
        Ok(crowd)
    }

    fn name(&self, no: u64) -> Answer<UserId> {
        match self.ready.get(no as usize) {
            Some(name) => Ok(name.clone()),
            None => format!("{}-{no}", self.run).parse().map_err(|_| Code::Other),
        }
    }
}

impl<T: Target> Desk<T> {
    /// The `n`th user.
    ///
    /// # Errors
    /// None: all names are fine.
    pub fn buyer(&self, n: u64) -> Answer<Buyer> {
        let no = n % self.params.users;
        Ok(Buyer { no, id: self.crowd.name(no)? })
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.audit.is_broken()
    }

    /// Lets time pass, to the end of the run at the most; when it was to be over, from which the next call counts. `None`
    /// if the run has ended.
    pub async fn pause(&self, pause: Duration) -> Option<Instant> {
        let until = Instant::now() + pause;
        tokio::time::sleep_until(until.min(self.end).into()).await;
        (until < self.end && !self.audit.is_broken()).then_some(until)
    }

    /// Waits as one does who was turned away.
    pub async fn turned_away(&self, n: u64) -> Option<Instant> {
        let mut rng = Rng::new(self.params.seed, Stream::Audit, self.audit.now_us() ^ n);
        let ms = TURNED_AWAY_MS.start + rng.below(TURNED_AWAY_MS.end - TURNED_AWAY_MS.start);
        self.pause(Duration::from_millis(ms)).await
    }

    /// Counts a call that began, or should have, at `from`; when it was answered.
    fn counted<A>(&self, op: Op, n: u64, from: Instant, answer: &Answer<A>) -> u64 {
        let told = Instant::now();
        self.meter.record(op, n, told.saturating_duration_since(from), answer);
        self.audit.at_us(told)
    }

    /// Holds seats.
    ///
    /// # Errors
    /// As the API.
    pub async fn hold(
        &self,
        from: Instant,
        buyer: &Buyer,
        offer: &Offer,
        wish: &Wish,
        queue_token: Option<&str>,
    ) -> Answer<Held> {
        let asked = self.audit.now_us();
        let answer = self.target.hold(offer, &buyer.id, wish, queue_token).await;
        let told = self.counted(Op::Hold, buyer.no, from, &answer);
        match &answer {
            Ok(held) => {
                self.audit.held(offer, buyer, wish, held, asked, told);
                if held.id.no.is_multiple_of(self.params.audit.read_back_every) {
                    self.read_back(offer, buyer, held, &["held"]).await;
                }
            }
            Err(code) if code.leaves_the_outcome_open() => self.audit.hold_lost(offer, told),
            Err(_) => {}
        }
        answer
    }

    /// Gives seats up.
    ///
    /// # Errors
    /// As the API.
    pub async fn release(&self, from: Instant, buyer: &Buyer, offer: &Offer, held: &Held) -> Answer<()> {
        self.audit.moved(offer, buyer, held, State::Ending, self.audit.now_us());
        let answer = self.target.release(&buyer.id, held.id).await;
        let told = self.counted(Op::Release, buyer.no, from, &answer);
        let to = match &answer {
            Ok(()) => State::Free,
            Err(Code::ReservationNotHeld | Code::ReservationExpired | Code::NotFound) => {
                self.audit.ran_out(offer, held, told);
                State::Free
            }
            Err(code) if code.leaves_the_outcome_open() => State::Unsure,
            // It was refused, so nothing has changed.
            Err(_) => State::Held,
        };
        self.audit.moved(offer, buyer, held, to, told);
        answer
    }

    /// Pays for seats.
    ///
    /// # Errors
    /// As the API.
    pub async fn pay(&self, from: Instant, buyer: &Buyer, offer: &Offer, held: &Held) -> Answer<Paid> {
        self.audit.moved(offer, buyer, held, State::Paying, self.audit.now_us());
        let moving = self.audit.accounts.ask(buyer.no, Move::Debit, held.amount);
        let answer = self.target.pay(&buyer.id, held.id).await;
        let told = self.counted(Op::Pay, buyer.no, from, &answer);
        match &answer {
            Ok(paid) => {
                self.audit.checked.payments.fetch_add(1, Ordering::Relaxed);
                if paid.amount != held.amount {
                    let what = format!("{} took {} for what costs {}", paid.id, paid.amount, held.amount);
                    self.audit.report_wallet(buyer.no, what);
                }
                self.balance_told(buyer, self.audit.accounts.done(moving, paid.balance, told));
                if !self.audit.moved(offer, buyer, held, State::Sold, told) {
                    self.audit.lost(offer, held, "is paid");
                }
                if paid.id.no.is_multiple_of(PAYMENTS_READ_BACK_EVERY) {
                    self.read_back(offer, buyer, held, &["confirmed"]).await;
                    self.read_payment(buyer, paid).await;
                }
            }
            Err(code) => {
                let to = match code {
                    Code::ReservationExpired | Code::ReservationNotHeld | Code::NotFound => {
                        self.audit.ran_out(offer, held, told);
                        State::Free
                    }
                    // A payment that took too long is told like this: the hold may be over by then.
                    Code::Overloaded | Code::AlreadyPaid => State::Unsure,
                    code if code.leaves_the_outcome_open() => State::Unsure,
                    _ => State::Held,
                };
                if code.leaves_the_outcome_open() || *code == Code::AlreadyPaid {
                    self.audit.accounts.lost(moving, told);
                } else {
                    self.audit.accounts.refused(moving, told);
                }
                self.audit.moved(offer, buyer, held, to, told);
            }
        }
        answer
    }

    /// Begins a payment that a provider takes.
    ///
    /// # Errors
    /// As the API.
    pub async fn begin(&self, from: Instant, buyer: &Buyer, offer: &Offer, held: &Held) -> Answer<Begun> {
        self.audit.moved(offer, buyer, held, State::Paying, self.audit.now_us());
        let answer = self.target.begin_payment(&buyer.id, held.id).await;
        let told = self.counted(Op::Begin, buyer.no, from, &answer);
        match &answer {
            Ok(begun) if begun.amount != held.amount => {
                let what = format!("{} is to take {} for what costs {}", begun.id, begun.amount, held.amount);
                self.audit.report_seat(offer, held, "I13", what);
            }
            Ok(_) => {}
            Err(code) => {
                let to = match code {
                    Code::ReservationExpired | Code::ReservationNotHeld | Code::NotFound => {
                        self.audit.ran_out(offer, held, told);
                        State::Free
                    }
                    code if code.leaves_the_outcome_open() => State::Unsure,
                    _ => State::Held,
                };
                self.audit.moved(offer, buyer, held, to, told);
            }
        }
        answer
    }

    /// Says what the provider did with a payment.
    ///
    /// # Errors
    /// As the API.
    pub async fn report(&self, from: Instant, buyer: &Buyer, id: PaymentId, fact: &Fact) -> Answer<Stands> {
        let answer = self.target.report(id, fact).await;
        self.counted(Op::Fact, buyer.no, from, &answer);
        answer
    }

    /// Has the provider give a payment back.
    ///
    /// # Errors
    /// As the API.
    pub async fn give_back_money(&self, from: Instant, buyer: &Buyer, id: PaymentId) -> Answer<()> {
        let answer = self.target.give_back_money(id).await;
        self.counted(Op::Refund, buyer.no, from, &answer);
        answer
    }

    /// Has a payment refunded.
    ///
    /// # Errors
    /// As the API.
    pub async fn refund(&self, from: Instant, buyer: &Buyer, offer: &Offer, held: &Held, paid: Paid) -> Answer<()> {
        self.audit.moved(offer, buyer, held, State::Ending, self.audit.now_us());
        let moving = self.audit.accounts.ask(buyer.no, Move::Credit, held.amount);
        let answer = self.target.refund(paid.id).await;
        let told = self.counted(Op::Refund, buyer.no, from, &answer);
        let to = match &answer {
            Ok((amount, balance)) => {
                self.audit.checked.payments.fetch_add(1, Ordering::Relaxed);
                if *amount != held.amount {
                    let what = format!("the refund of {} gave {amount} for what cost {}", paid.id, held.amount);
                    self.audit.report_wallet(buyer.no, what);
                }
                self.balance_told(buyer, self.audit.accounts.done(moving, *balance, told));
                State::Free
            }
            Err(code) if code.leaves_the_outcome_open() => {
                self.audit.accounts.lost(moving, told);
                State::Unsure
            }
            Err(_) => {
                self.audit.accounts.refused(moving, told);
                State::Sold
            }
        };
        self.audit.moved(offer, buyer, held, to, told);
        answer.map(drop)
    }

    /// Puts points into a wallet.
    ///
    /// # Errors
    /// As the API.
    pub async fn charge(&self, from: Instant, buyer: &Buyer, amount: u64) -> Answer<()> {
        let moving = self.audit.accounts.ask(buyer.no, Move::Charge, amount);
        let answer = self.target.charge(&buyer.id, amount).await;
        let told = self.counted(Op::Charge, buyer.no, from, &answer);
        match &answer {
            Ok(balance) => self.balance_told(buyer, self.audit.accounts.done(moving, *balance, told)),
            Err(code) if code.leaves_the_outcome_open() => self.audit.accounts.lost(moving, told),
            Err(_) => self.audit.accounts.refused(moving, told),
        }
        answer.map(drop)
    }

    /// Looks into a wallet.
    ///
    /// # Errors
    /// As the API.
    pub async fn balance(&self, from: Instant, buyer: &Buyer) -> Answer<u64> {
        let before = self.audit.accounts.before_looking(buyer.no);
        let answer = self.target.balance(&buyer.id).await;
        self.counted(Op::Balance, buyer.no, from, &answer);
        if let Ok(balance) = answer {
            self.balance_told(buyer, self.audit.accounts.looked(buyer.no, before, balance));
        }
        answer
    }

    fn balance_told(&self, buyer: &Buyer, checked: Result<(), String>) {
        self.audit.checked.balances.fetch_add(1, Ordering::Relaxed);
        if let Err(what) = checked {
            self.audit.report_wallet(buyer.no, what);
        }
    }

    /// Looks at the seats.
    ///
    /// # Errors
    /// As the API.
    pub async fn browse(&self, from: Instant, buyer: &Buyer, offer: &Offer) -> Answer<()> {
        let answer = self.target.browse(offer).await;
        self.counted(Op::Browse, buyer.no, from, &answer);
        answer
    }

    /// Gets in line.
    ///
    /// # Errors
    /// As the API.
    pub async fn enter(&self, from: Instant, buyer: &Buyer, offer: &Offer) -> Answer<InLine> {
        let asked = self.audit.now_us();
        let answer = self.target.enter(offer.concert, &buyer.id).await;
        let told = self.counted(Op::Enter, buyer.no, from, &answer);
        let place = answer?;
        let in_line = InLine::new(buyer.no, place, asked, told);
        self.turn_told(&in_line, told);
        Ok(in_line)
    }

    /// Asks where one stands.
    ///
    /// # Errors
    /// As the API.
    pub async fn poll(&self, from: Instant, buyer: &Buyer, in_line: &mut InLine) -> Answer<()> {
        let let_in = self.audit.line.let_in();
        let answer = self.target.poll(&buyer.id, in_line.place.id).await;
        let told = self.counted(Op::Poll, buyer.no, from, &answer);
        let place: Place = answer?;
        if place.status == TokenStatus::Waiting {
            self.audit.checked.turns.fetch_add(1, Ordering::Relaxed);
            if let Err(what) = self.audit.line.waits(in_line, &place, let_in) {
                self.audit.report(Breach { invariant: "I6", what, history: Vec::new() });
            }
        }
        in_line.place = place;
        self.turn_told(in_line, told);
        Ok(())
    }

    fn turn_told(&self, in_line: &InLine, told_us: u64) {
        if in_line.place.status != TokenStatus::Active {
            return;
        }
        self.audit.checked.turns.fetch_add(1, Ordering::Relaxed);
        let until = in_line.place.expires_at.map_or(u64::MAX, crate::domain::Timestamp::as_millis);
        if let Err(what) = self.audit.line.is_inside(in_line, until, self.audit.clock.latest_ms(told_us)) {
            self.audit.report(Breach { invariant: "I6", what, history: Vec::new() });
        }
    }

    /// Leaves the line, or gives a turn up.
    ///
    /// # Errors
    /// As the API.
    pub async fn leave(&self, from: Instant, buyer: &Buyer, in_line: &InLine) -> Answer<()> {
        self.audit.line.goes(in_line.place.id);
        let answer = self.target.leave(&buyer.id, in_line.place.id).await;
        self.counted(Op::Leave, buyer.no, from, &answer);
        answer
    }

    /// Reads a reservation again that a caller was told of, and has not asked for anything since.
    async fn read_back(&self, offer: &Offer, buyer: &Buyer, held: &Held, statuses: &[&str]) {
        let answer = self.target.reservation(offer, &buyer.id, held.id).await;
        let told = self.audit.now_us();
        self.check_reserved(offer, buyer, held, statuses, answer, told);
    }

    fn check_reserved(
        &self,
        offer: &Offer,
        buyer: &Buyer,
        held: &Held,
        statuses: &[&str],
        answer: Answer<super::target::Reserved>,
        told_us: u64,
    ) {
        let what = match answer {
            Ok(reserved) if reserved.status == "expired" && statuses.contains(&"held") => {
                return self.audit.ran_out(offer, held, told_us);
            }
            Ok(reserved) => {
                let same = reserved.held == *held && reserved.user == buyer.id;
                if same && statuses.contains(&reserved.status.as_str()) {
                    self.audit.checked.reservations.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                format!("{} is {} now, and not as it was told", held.id, reserved.status)
            }
            Err(Code::NotFound) => format!("{} is not to be found", held.id),
            Err(_) => return,
        };
        self.audit.report_seat(offer, held, "I3", what);
    }

    async fn read_payment(&self, buyer: &Buyer, paid: &Paid) {
        match self.target.payment_status(&buyer.id, paid.id).await {
            Ok(status) if status == "completed" => {}
            Ok(status) => self.audit.report_wallet(buyer.no, format!("{} is {status}, and was completed", paid.id)),
            Err(Code::NotFound) => self.audit.report_wallet(buyer.no, format!("{} is not to be found", paid.id)),
            Err(_) => {}
        }
    }

    /// Compares the seats of an offer with what callers were told. `quiet`: no call is under way.
    pub async fn compare_seats(&self, offer: &Offer, quiet: bool) -> Option<Vec<crate::domain::seat_map::Status>> {
        let book = &self.audit.books[offer.index];
        let versions = book.versions();
        let asked = self.audit.now_us();
        let answer = self.target.seats(offer).await;
        let told = self.audit.now_us();
        let Ok(seats) = answer else { return None };
        // Without a clock nothing is certain that depends on time.
        let earliest = self.audit.clock.earliest_ms(asked).unwrap_or(0);
        let latest = self.audit.clock.latest_ms(told).unwrap_or(u64::MAX);
        let compared = book.compare(&seats.states, &versions, (earliest, latest), quiet);
        self.audit.checked.seats.fetch_add(compared.seats, Ordering::Relaxed);
        if let Some((seat, what)) = compared.wrong {
            self.audit.report_of_seat(offer, seat, "I3", what);
        }
        Some(seats.states)
    }

    /// Looks at holds whose time has been over for more than a second, at most `most` of them.
    pub async fn look_for_late(&self, offer: &Offer, most: usize) {
        let asked = self.audit.now_us();
        let Some(earliest) = self.audit.clock.earliest_ms(asked) else { return };
        let book = &self.audit.books[offer.index];
        for (no, user, seat) in book.overdue(earliest, most) {
            let (Ok(buyer), id) = (self.buyer(user), ReservationId { option: offer.id, no }) else { continue };
            let Ok(reserved) = self.target.reservation(offer, &buyer.id, id).await else { continue };
            self.audit.checked.expiries.fetch_add(1, Ordering::Relaxed);
            if reserved.status == "held" && self.audit.is_late(reserved.held.expires_at.as_millis(), asked) {
                let what = format!("{id} is held more than a second after {}", reserved.held.expires_at);
                self.audit.report_of_seat(offer, seat, "I5", what);
            }
            book.ran_out(no, &reserved.held.seats);
        }
    }

    /// Reads a sample of all reservations that are known to be held or sold.
    pub async fn read_reservations(&self, offer: &Offer, most: usize) {
        let taken = self.audit.books[offer.index].taken(offer.house.seats() / most.max(1));
        let reading = futures_util::stream::iter(taken).for_each_concurrent(READERS, async |(no, user, sold, seat)| {
            let (Ok(buyer), id) = (self.buyer(user), ReservationId { option: offer.id, no }) else { return };
            let answer = self.target.reservation(offer, &buyer.id, id).await;
            let told = self.audit.now_us();
            match answer {
                Ok(reserved) => {
                    let held = reserved.held.clone();
                    let statuses: &[&str] = if sold { &["confirmed"] } else { &["held"] };
                    self.check_reserved(offer, &buyer, &held, statuses, Ok(reserved), told);
                }
                Err(Code::NotFound) => {
                    self.audit.report_of_seat(offer, seat, "I3", format!("{id} is not to be found"));
                }
                Err(_) => {}
            }
        });
        reading.await;
    }

    /// Looks into a sample of all wallets that were used, and reads the changes of some, with no call under way.
    pub async fn read_wallets(&self, most: usize) {
        let used = self.audit.accounts.with_wallets();
        let step = used.len().div_ceil(most.max(1)).max(1);
        let ledgers = (used.len() / step).div_ceil(LEDGERS_MAX).max(1);
        let sample = used.into_iter().step_by(step).enumerate();
        let reading = futures_util::stream::iter(sample).for_each_concurrent(READERS, async |(n, user)| {
            let Ok(buyer) = self.buyer(user) else { return };
            let before = self.audit.accounts.before_looking(user);
            if let Ok(balance) = self.target.balance(&buyer.id).await {
                self.balance_told(&buyer, self.audit.accounts.looked(user, before, balance));
            }
            if !n.is_multiple_of(ledgers) {
                return;
            }
            if let Ok(entries) = self.target.entries(&buyer.id).await {
                self.audit.checked.ledgers.fetch_add(1, Ordering::Relaxed);
                if let Err(what) = self.audit.accounts.read(user, &entries, entries.len() < PAGE_MAX) {
                    self.audit.report_wallet(user, what);
                }
            }
        });
        reading.await;
    }
}
