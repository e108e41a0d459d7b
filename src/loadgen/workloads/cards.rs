//! `cards`: seats are paid by a provider that is slow, late and wrong in set shares. Whoever was charged must have the seats, or
//! the money back, and whoever has the seats must have been charged for them, once (I13).

use std::time::{Duration, Instant};

use crate::domain::facts::{Fact, Kind};
use crate::domain::{Currency, Points};
use crate::loadgen::auditor::{Breach, Buyer, State};
use crate::loadgen::desk::Desk;
use crate::loadgen::pace::Work;
use crate::loadgen::params::Cards as Params;
use crate::loadgen::rng::{Rng, Stream};
use crate::loadgen::target::{Answer, Begun, Held, Offer, Stands, Target, Wish};
use crate::loadgen::workloads::{give_back, is_turned_away};

/// How long a fact is told again that gets no answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long it waits in between.
const AGAIN: Duration = Duration::from_millis(100);
/// Deadlines further away than this are not waited for.
const LATE_MAX: Duration = Duration::from_secs(20);
/// How long after a deadline late money comes.
const LATE_BY: Duration = Duration::from_millis(200);
/// What is owed of one charge is done after fewer answers.
const ANSWERS_MAX: usize = 8;

/// What becomes of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pays,
    Fails,
    /// Given up, and paid all the same or not.
    GivesUp {
        pays: bool,
    },
    /// Paid after its deadline.
    Late,
    /// Charged too much at first, and rightly then.
    TooMuch,
    /// Charged twice.
    Twice,
}

fn fate(rng: &mut Rng, params: &Params) -> Fate {
    let shares = [params.fail_share, params.give_up_share, params.late_share, params.wrong_share];
    let pays = (1.0 - shares.iter().sum::<f64>()).max(0.0);
    let [fails, gives_up, late, wrong] = shares;
    let even = rng.happens(0.5);
    match rng.weighted(&[pays, fails, gives_up, late, wrong]) {
        0 => Fate::Pays,
        1 => Fate::Fails,
        2 => Fate::GivesUp { pays: even },
        3 => Fate::Late,
        _ if even => Fate::TooMuch,
        _ => Fate::Twice,
    }
}

/// Purchases by card, which are given back.
pub struct Cards;

impl<T: Target> Work<T> for Cards {
    async fn arrive(&self, desk: &Desk<T>, n: u64, from: Instant) {
        let mut rng = Rng::new(desk.params.seed, Stream::Arrival, n);
        let fate = fate(&mut rng, &desk.params.cards);
        let Ok(buyer) = desk.buyer(rng.below(desk.params.users)) else { return };
        let offer = &desk.offers[rng.below(desk.offers.len() as u64) as usize];
        let wish = Wish::Best { count: rng.below(2) as u32 + 1, category: None, adjacent: true };
        let answer = async {
            let held = desk.hold(from, &buyer, offer, &wish, None).await?;
            match desk.begin(Instant::now(), &buyer, offer, &held).await {
                Ok(begun) => {
                    let bank = Bank { desk, buyer: &buyer, offer, held: &held, begun, rng, money: Money::default() };
                    Box::pin(bank.go(fate)).await;
                    Ok(())
                }
                Err(code) => {
                    give_back(desk, &buyer, offer, &held).await;
                    Err(code)
                }
            }
        };
        let answer: Answer<()> = answer.await;
        if desk.params.rate == 0.0 && is_turned_away(&answer) {
            desk.turned_away(n).await;
        }
    }
}

/// What has moved, in sum.
#[derive(Debug, Default)]
struct Money {
    taken: u64,
    back: u64,
    refunds: u32,
    /// Which charges were taken.
    captured: Vec<String>,
    /// All that was told, and what was answered.
    told: Vec<String>,
}

/// The provider's side of one payment.
struct Bank<'a, T> {
    desk: &'a Desk<T>,
    buyer: &'a Buyer,
    offer: &'a Offer,
    held: &'a Held,
    begun: Begun,
    rng: Rng,
    money: Money,
}

impl<T: Target> Bank<'_, T> {
    async fn go(mut self, fate: Fate) {
        let Begun { id, amount, .. } = self.begun;
        let (first, second) = (format!("ch-{id}-1"), format!("ch-{id}-2"));
        let stands = match fate {
            Fate::Pays => self.pay(&first, amount).await,
            Fate::Fails => self.say(Kind::Failed, &first, amount).await,
            Fate::GivesUp { pays } => {
                self.seats(State::Ending);
                // Also one that cannot be given up any more is paid, or is not.
                let _ = self.desk.target.give_up(&self.buyer.id, id).await;
                if pays { self.pay(&first, amount).await } else { self.say(Kind::Voided, &first, amount).await }
            }
            Fate::Late => {
                let now = self.desk.audit.clock.earliest_ms(self.desk.audit.now_us()).unwrap_or(0);
                let left = Duration::from_millis(self.begun.expires_at.as_millis().saturating_sub(now));
                if left < LATE_MAX {
                    self.seats(State::Unsure);
                    tokio::time::sleep(left + LATE_BY).await;
                }
                let captured = self.say(Kind::Captured, &first, amount).await;
                self.follow(&first, amount, captured).await
            }
            Fate::TooMuch => {
                let captured = self.say(Kind::Captured, &first, amount + 1).await;
                self.follow(&first, amount + 1, captured).await;
                self.pay(&second, amount).await
            }
            Fate::Twice => {
                self.pay(&first, amount).await;
                let captured = self.say(Kind::Captured, &second, amount).await;
                self.follow(&second, amount, captured).await
            }
        };
        // What got no answer may be anything.
        if stands.is_none() {
            self.seats(State::Unsure);
            return;
        }
        if !self.adds_up(fate).await {
            self.seats(State::Ending);
            give_back(self.desk, self.buyer, self.offer, self.held).await;
            return;
        }
        // It is given back, so that the house does not fill.
        self.seats(State::Ending);
        if self.desk.give_back_money(Instant::now(), self.buyer, id).await.is_err() {
            self.seats(State::Unsure);
            return;
        }
        let paid_by = if fate == Fate::TooMuch { &second } else { &first };
        let again = self.say(Kind::Captured, paid_by, amount).await;
        if self.follow(paid_by, amount, again).await.is_some() {
            self.adds_up(fate).await;
            self.seats(State::Free);
        }
    }

    /// Has it authorised, and does what is asked for then.
    async fn pay(&mut self, reference: &str, amount: u64) -> Option<Stands> {
        self.take_time().await;
        let stands = self.say(Kind::Authorized, reference, amount).await;
        self.follow(reference, amount, stands).await
    }

    /// Does what is asked for with a charge, until nothing is.
    async fn follow(&mut self, reference: &str, amount: u64, stands: Option<Stands>) -> Option<Stands> {
        let mut stands = stands?;
        for _ in 0..ANSWERS_MAX {
            let kind = match stands.verdict.as_deref() {
                None => return Some(stands),
                Some("capture") => Kind::Captured,
                Some("void") => Kind::Voided,
                Some("refund") => Kind::Refunded,
                Some(other) => return self.wrong(format!("the verdict is {other}")),
            };
            self.take_time().await;
            stands = self.say(kind, reference, amount).await?;
        }
        self.wrong(format!("{reference} is asked for without end"))
    }

    /// Reports what was done, until that is heard; some of it more than once.
    async fn say(&mut self, kind: Kind, reference: &str, amount: u64) -> Option<Stands> {
        match kind {
            Kind::Captured if !self.money.captured.iter().any(|one| one == reference) => {
                self.money.captured.push(reference.into());
                self.money.taken += amount;
            }
            Kind::Refunded => {
                self.money.back += amount;
                self.money.refunds += 1;
            }
            _ => {}
        }
        let id = (kind == Kind::Refunded).then(|| format!("re-{}-{}", self.begun.id, self.money.refunds));
        let Some(amount) = Points::new(amount) else { return self.wrong(format!("{amount} is no amount")) };
        let fact =
            Fact { kind, reference: reference.into(), id, amount, currency: Currency::KRW, at: None, reason: None };
        let mut more = usize::from(self.rng.happens(self.desk.params.cards.repeat_share));
        let since = Instant::now();
        loop {
            let answer = self.desk.report(Instant::now(), self.buyer, self.begun.id, &fact).await;
            self.money.told.push(format!("  {kind:?} {reference} of {amount}: {answer:?}"));
            match answer {
                Ok(_) if more > 0 => more -= 1,
                Ok(stands) => return Some(stands),
                Err(code) if code.passes() || code.leaves_the_outcome_open() => {
                    if since.elapsed() > PATIENCE {
                        return None;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                Err(code) => return self.wrong(format!("a fact is refused: {}", code.name())),
            }
        }
    }

    async fn take_time(&mut self) {
        let mean = self.desk.params.cards.delay.0.as_secs_f64();
        tokio::time::sleep(Duration::from_secs_f64(self.rng.exponential(mean).min(mean * 10.0))).await;
    }

    fn seats(&self, to: State) -> bool {
        let Self { desk, buyer, offer, held, .. } = self;
        desk.audit.moved(offer, buyer, held, to, desk.audit.now_us())
    }

    /// Whether it has paid for the seats. Either it has, and the buyer has them, or all that was taken is back.
    async fn adds_up(&self, fate: Fate) -> bool {
        let Self { desk, buyer, offer, held, begun, money, .. } = self;
        let (Ok(status), Ok(reserved)) = (
            desk.target.payment_status(&buyer.id, begun.id).await,
            desk.target.reservation(offer, &buyer.id, held.id).await,
        ) else {
            return false;
        };
        let is_paid = status == "completed";
        let kept = money.taken.checked_sub(money.back);
        desk.audit.checked.charges.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if kept != Some(if is_paid { begun.amount } else { 0 }) {
            let (taken, back) = (money.taken, money.back);
            self.wrong::<()>(format!("{} is {status}, {taken} were taken and {back} are back", begun.id));
        }
        if is_paid != (reserved.status == "confirmed") {
            self.wrong::<()>(format!("{} is {status}, and its reservation {}", begun.id, reserved.status));
        }
        if !is_paid && !["failed", "voided", "refunded"].contains(&status.as_str()) {
            self.wrong::<()>(format!("{} is {status} in the end", begun.id));
        }
        let is_certain = !matches!(fate, Fate::Late | Fate::GivesUp { .. })
            && desk.audit.clock.latest_ms(desk.audit.now_us()).is_some_and(|now| now < begun.expires_at.as_millis());
        if is_paid && !self.seats(State::Sold) && is_certain {
            desk.audit.lost(offer, held, "is paid");
        }
        is_paid
    }

    fn wrong<A>(&self, what: String) -> Option<A> {
        let mut history = vec![format!("payment {}:", self.begun.id)];
        history.extend(self.money.told.iter().cloned());
        self.desk.audit.report(Breach { invariant: "I13", what, history });
        None
    }
}
