//! Where the limit is: steps the rate up until an objective breaks, then halves the interval.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::params::Params;
use super::report::{Outcome, count, time};
use super::target::Target;
use super::{Error, run};

/// The share of calls that may fail, and not by the rules.
const FAULTS_MAX: f64 = 0.001;
/// The share of the rate that must be reached.
const REACHED_MIN: f64 = 0.98;
/// How close to each other the rate that holds and the one that does not are in the end.
const CLOSE: f64 = 1.05;
/// The rate to begin with, where none is given.
const FIRST_RATE: f64 = 1_000.0;
/// The most steps.
const STEPS_MAX: usize = 24;

/// What must hold: a quantile of the latency of every operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objective {
    quantile: &'static str,
    at_most: Duration,
}

/// Not an objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be p50, p90, p99, p999 or max, an equals sign, and a time, such as p99=50ms")]
pub struct ParseObjectiveError;

impl FromStr for Objective {
    type Err = ParseObjectiveError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, span) = text.split_once('=').ok_or(ParseObjectiveError)?;
        let known = ["p50", "p90", "p99", "p999", "max"].into_iter().find(|known| *known == name);
        let span: crate::server::config::Span = span.parse().map_err(|_| ParseObjectiveError)?;
        Ok(Self { quantile: known.ok_or(ParseObjectiveError)?, at_most: span.0 })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at most {}", self.quantile, time(self.at_most.as_micros() as u64))
    }
}

/// What does not hold at a rate.
#[derive(Debug, Clone, PartialEq)]
pub enum Broken {
    /// An operation took too long: which, and how long.
    Latency(&'static str, u64),
    /// This share of all calls failed.
    Faults(f64),
    /// Only so many arrivals a second began, or ended in time.
    Rate(f64),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency(operation, us) => write!(f, "{operation} takes {}", time(*us)),
            Self::Faults(share) => write!(f, "{:.2} % of all calls fail", share * 100.0),
            Self::Rate(rate) => write!(f, "only {}/s are reached", count(rate.round() as u64)),
        }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Arrivals a second.
    pub rate: f64,
    /// What broke; `None`: all is well.
    pub broken: Option<Broken>,
    /// What was measured.
    pub outcome: Outcome,
}

/// Where the limit is.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// The highest rate at which the objective holds, if there was any.
    pub holds: Option<Step>,
    /// The lowest at which it does not; `None`: none was found.
    pub breaks: Option<Step>,
}

impl Objective {
    /// What does not hold in a run, first what is worst.
    #[must_use]
    pub fn broken_by(&self, outcome: &Outcome) -> Option<Broken> {
        let arrivals = &outcome.arrivals;
        let reached = arrivals.rate_reached;
        if arrivals.unanswered > 0 || reached < arrivals.rate_asked * REACHED_MIN {
            return Some(Broken::Rate(reached));
        }
        let calls: u64 =
            outcome.operations.iter().map(|op| op.count + op.errors.iter().map(|(_, n)| n).sum::<u64>()).sum();
        let by_the_rules = |code: &str| super::target::Code::of(code).is_by_the_rules();
        let errors = outcome.operations.iter().flat_map(|operation| &operation.errors);
        let faults: u64 = errors.filter(|(code, _)| !by_the_rules(code)).map(|(_, n)| n).sum();
        let share = faults as f64 / calls.max(1) as f64;
        if share > FAULTS_MAX {
            return Some(Broken::Faults(share));
        }
        let latency = |operation: &super::report::Operation| Some((operation.name, operation.latency(self.quantile)?));
        let slowest = outcome.operations.iter().filter_map(latency).max_by_key(|(_, us)| *us);
        slowest.filter(|(_, us)| u128::from(*us) > self.at_most.as_micros()).map(|(name, us)| Broken::Latency(name, us))
    }
}

/// Looks for the highest rate at which the objective holds, and tells of each step through `show`. Each is a run of its
/// own, as long as the parameters say. It ends with the first whose audit fails.
///
/// # Errors
/// Nothing could be put on sale.
pub async fn find_max<T: Target>(
    mut target: T,
    params: &Params,
    objective: &Objective,
    command: &str,
    mut show: impl FnMut(&Step),
) -> Result<(T, Limit), Error> {
    let mut limit = Limit { holds: None, breaks: None };
    let mut rate = if params.rate > 0.0 { params.rate } else { FIRST_RATE };
    for _ in 0..STEPS_MAX {
        let (back, outcome) = run(target, Params { rate, ..params.clone() }, command.to_owned(), |_| {}).await?;
        target = back;
        let step = Step { rate, broken: objective.broken_by(&outcome), outcome };
        show(&step);
        let failed = !step.outcome.audit.ok;
        if step.broken.is_some() || failed {
            limit.breaks = Some(step);
        } else {
            limit.holds = Some(step);
        }
        rate = match (&limit.holds, &limit.breaks) {
            _ if failed => break,
            (Some(holds), None) => holds.rate * 2.0,
            (None, Some(breaks)) if breaks.rate > 1.0 => breaks.rate / 4.0,
            (Some(holds), Some(breaks)) if breaks.rate / holds.rate > CLOSE => (holds.rate * breaks.rate).sqrt(),
            _ => break,
        };
    }
    Ok((target, limit))
}
