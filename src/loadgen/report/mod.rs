//! What a run came to: for machines as JSON, for people as a table and as a page.

mod environment;
mod html;
mod plot;

use std::fmt::Write as _;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

pub use self::environment::{Environment, memory_bytes};
pub use self::html::page;
use super::auditor::Breach;
use super::meter::{Op, Tallies, Tally};

/// The quantiles of a latency that are told.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];
/// The most moments that are kept of a run: of a longer one, every second, fourth, and so on.
pub const SAMPLES_MAX: usize = 1_024;

/// One kind of call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Operation {
    /// Which.
    #[serde(skip)]
    pub name: &'static str,
    /// Calls that were answered with success.
    pub count: u64,
    /// Of those, how many a second.
    pub rate_per_s: f64,
    /// The other calls, by code.
    #[serde(serialize_with = "as_object")]
    pub errors: Vec<(&'static str, u64)>,
    /// How long answers took: successes, and refusals by the rules.
    #[serde(serialize_with = "as_object")]
    pub latency_us: Vec<(&'static str, u64)>,
    /// The same, of every hundredth and finer towards the end: shares and microseconds.
    #[serde(skip)]
    pub percentiles: Vec<(f64, u64)>,
}

/// A second of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Since it began.
    pub at_s: f64,
    /// Arrivals a second that should have come; none in the closed loop.
    pub rate_asked: f64,
    /// Arrivals a second that did.
    pub rate_reached: f64,
    /// Arrivals under way.
    pub in_flight: u64,
    /// Calls a second that succeeded, p50, p99 and the longest of each operation, in microseconds.
    #[serde(serialize_with = "as_object")]
    pub operations: Vec<(&'static str, [u64; 4])>,
    /// Calls that failed, and not by the rules, by code.
    #[serde(serialize_with = "as_object")]
    pub faults: Vec<(&'static str, u64)>,
    /// How many wait in line, and how many are inside.
    pub line: Option<[u64; 2]>,
    /// Seats that are free, held, sold and blocked.
    pub seats: Option<[u64; 4]>,
    /// Memory of this process, in bytes.
    pub memory_bytes: u64,
}

/// How the arrivals went.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ArrivalsReport {
    /// A second that were asked for; 0 in the closed loop.
    pub rate_asked: f64,
    /// A second that began.
    pub rate_reached: f64,
    /// That began.
    pub begun: u64,
    /// That did not, because too many were under way.
    pub not_begun: u64,
    /// That had not ended half a minute after the run.
    pub unanswered: u64,
}

/// What the auditor says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditReport {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// How often what was checked.
    #[serde(serialize_with = "as_object")]
    pub checked: Vec<(&'static str, u64)>,
    /// What is wrong.
    pub violations: Vec<Breach>,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// What was done.
    pub workload: &'static str,
    /// Where the decisions came from.
    pub seed: u64,
    /// What an answer rests on.
    pub durability: &'static str,
    /// For how long it was counted.
    pub duration_s: f64,
    /// What was measured; nothing, if the audit failed.
    #[serde(serialize_with = "operations")]
    pub operations: Vec<Operation>,
    /// What the auditor says.
    pub audit: AuditReport,
    /// How the arrivals went.
    pub arrivals: ArrivalsReport,
    /// Where it ran.
    pub environment: Environment,
    /// What was put under load.
    pub target: String,
    /// Every parameter.
    pub parameters: serde_json::Value,
    /// How it went; nothing, if the audit failed.
    pub series: Vec<Sample>,
}

fn as_object<S: Serializer, V: Serialize>(pairs: &[(&'static str, V)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

fn operations<S: Serializer>(operations: &[Operation], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(operations.len()))?;
    for operation in operations {
        map.serialize_entry(operation.name, operation)?;
    }
    map.end()
}

impl Operation {
    fn new(op: Op, tally: &Tally, duration_s: f64) -> Self {
        let latency = &tally.latency_us;
        let mut latency_us: Vec<_> =
            QUANTILES.iter().map(|(name, of)| (*name, latency.value_at_quantile(*of))).collect();
        latency_us.push(("max", latency.max()));
        let fine = [0.995, 0.999, 0.9995, 0.9999, 0.99999, 1.0];
        let shares = (0..100).map(|percent| f64::from(percent) / 100.0).chain(fine);
        let shares = shares.filter(|share| *share == 1.0 || (1.0 - share) * latency.len() as f64 >= 1.0);
        Self {
            name: op.name(),
            count: tally.succeeded,
            rate_per_s: round(tally.succeeded as f64 / duration_s),
            errors: tally.refused().map(|(code, count)| (code.name(), count)).collect(),
            latency_us,
            percentiles: shares.map(|share| (share, latency.value_at_quantile(share))).collect(),
        }
    }

    /// One of the latencies that are told, in microseconds.
    #[must_use]
    pub fn latency(&self, name: &str) -> Option<u64> {
        self.latency_us.iter().find(|(known, _)| *known == name).map(|(_, us)| *us)
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// What was measured, of each kind of call that came.
#[must_use]
pub fn measured(tallies: &Tallies, duration_s: f64) -> Vec<Operation> {
    let came = Op::ALL.iter().zip(tallies).filter_map(|(op, tally)| Some((*op, tally.as_deref()?)));
    came.map(|(op, tally)| Operation::new(op, tally, duration_s)).collect()
}

impl Sample {
    /// A moment, and what was counted in the `seconds` before it.
    #[must_use]
    pub fn new(at_s: f64, seconds: f64, tallies: &Tallies) -> Self {
        let came = || Op::ALL.iter().zip(tallies).filter_map(|(op, tally)| Some((*op, tally.as_deref()?)));
        let operation = |(op, tally): (Op, &Tally)| {
            let latency = &tally.latency_us;
            let rate = (tally.succeeded as f64 / seconds) as u64;
            (op.name(), [rate, latency.value_at_quantile(0.5), latency.value_at_quantile(0.99), latency.max()])
        };
        let mut faults: Vec<(&'static str, u64)> = Vec::new();
        for (code, count) in came().flat_map(|(_, tally)| tally.refused()).filter(|(code, _)| !code.is_by_the_rules()) {
            match faults.iter_mut().find(|(name, _)| *name == code.name()) {
                Some((_, sum)) => *sum += count,
                None => faults.push((code.name(), count)),
            }
        }
        Self { at_s, operations: came().map(operation).collect(), faults, ..Self::default() }
    }

    /// As one line of text.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("{:>6.0} s", self.at_s);
        // Writing to a string cannot fail.
        for (name, [rate, p50, p99, _]) in &self.operations {
            let _ = write!(line, " | {name} {}/s {} {}", count(*rate), time(*p50), time(*p99));
        }
        if let Some([waiting, inside]) = self.line {
            let _ = write!(line, " | line {} in {}", count(waiting), count(inside));
        }
        if let Some([free, held, sold, _]) = self.seats {
            let _ = write!(line, " | seats {} free {} held {} sold", count(free), count(held), count(sold));
        }
        for (code, failed) in &self.faults {
            let _ = write!(line, " | {code} {}", count(*failed));
        }
        line
    }
}

/// Adds a sample; past [`SAMPLES_MAX`], every second one goes.
pub fn keep(series: &mut Vec<Sample>, sample: Sample) {
    series.push(sample);
    if series.len() > SAMPLES_MAX {
        let mut n = 0;
        series.retain(|_| {
            n += 1;
            n % 2 == 1
        });
    }
}

impl Outcome {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // There is nothing in it that JSON does not have.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// As a table; what is wrong instead, if anything is.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let env = &self.environment;
        let lines = [
            format!("{} for {:.1} s, seed {}, {}", self.workload, self.duration_s, self.seed, self.target),
            format!(
                "{}, {} cores, {}, {}, commit {}",
                env.cpu,
                env.cores,
                bytes(env.memory_bytes),
                env.kernel,
                env.commit
            ),
            format!("durability: {}", self.durability),
            env.command.clone(),
        ];
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}\n", lines.join("\n"));
        if !self.audit.ok {
            return text + self.violations().as_str();
        }
        let _ = writeln!(
            text,
            "{:<10}{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}  errors",
            "", "count", "per s", "p50", "p90", "p99", "p99.9", "max"
        );
        for operation in &self.operations {
            let latencies: String = operation.latency_us.iter().map(|(_, us)| format!("{:>10}", time(*us))).collect();
            let errors: Vec<_> = operation.errors.iter().map(|(code, n)| format!("{code} {}", count(*n))).collect();
            let _ = writeln!(
                text,
                "{:<10}{:>12}{:>12}{latencies}  {}",
                operation.name,
                count(operation.count),
                count(operation.rate_per_s.round() as u64),
                errors.join(", ")
            );
        }
        let arrivals = &self.arrivals;
        if arrivals.rate_asked > 0.0 {
            let _ = writeln!(
                text,
                "\narrivals: {}/s asked for, {}/s reached, {} not begun for too many were under way",
                count(arrivals.rate_asked.round() as u64),
                count(arrivals.rate_reached.round() as u64),
                count(arrivals.not_begun)
            );
        }
        if arrivals.unanswered > 0 {
            let _ =
                writeln!(text, "\n{} arrivals had no answer half a minute after the end", count(arrivals.unanswered));
        }
        let checked: Vec<_> = self.audit.checked.iter().filter(|(_, n)| *n > 0).collect();
        let checked: Vec<_> =
            checked.iter().map(|(what, n)| format!("{} {}", count(*n), what.replace('_', " "))).collect();
        let _ = writeln!(text, "\naudit: nothing is wrong with {}", checked.join(", "));
        text
    }

    fn violations(&self) -> String {
        let mut text = String::from("audit: FAILED. There are no figures.\n");
        for breach in &self.audit.violations {
            let _ = writeln!(text, "\n{}: {}", breach.invariant, breach.what);
            for line in &breach.history {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }
}

/// A number with commas.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds, in a unit that fits.
#[must_use]
pub fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        1_000_000..100_000_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => format!("{:.0} s", us as f64 / 1e6),
    }
}

/// Bytes, in a unit that fits.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes >= 10 << 30 {
        format!("{:.0} GiB", bytes as f64 / (1_u64 << 30) as f64)
    } else {
        format!("{} MiB", bytes / MIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1_000, 1_234_567].map(count).each_ref().map(|s| s.as_str())
        );
        assert_eq!(
            ["999 us", "1.0 ms", "12 ms", "1.5 s", "100 s"],
            [999, 1_000, 12_345, 1_500_000, 100_000_000].map(time)
        );
    }

    #[test]
    fn a_long_run_keeps_a_bounded_number_of_moments_from_all_of_it() {
        let mut series = Vec::new();
        for n in 0..10_000 {
            keep(&mut series, Sample { at_s: f64::from(n), ..Sample::default() });
        }
        assert!(series.len() <= SAMPLES_MAX && series.len() > SAMPLES_MAX / 4);
        assert!(series[0].at_s == 0.0 && series[series.len() - 1].at_s > 9_900.0);
    }
}
