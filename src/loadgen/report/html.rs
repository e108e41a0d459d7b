//! The report as one page that needs nothing else.

use std::fmt::Write as _;

use super::plot::{Plot, Scale, Series, escape};
use super::{Operation, Outcome, Sample, bytes, count, time};

/// Colours there are.
const COLORS: usize = 8;
/// The most operations of which the latency over time is plotted, and which come first.
const PLOTTED_MAX: usize = 3;
const FOREMOST: [&str; 11] =
    ["update", "hold", "pay", "poll", "enter", "release", "charge", "refund", "balance", "leave", "browse"];
const MIB: f64 = 1_048_576.0;
/// The marks of a plot by percentile.
const NINES: [(f64, &str); 6] =
    [(0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")];

/// The page.
#[must_use]
pub fn page(outcome: &Outcome) -> String {
    let title = format!("{}: load test", outcome.workload);
    let (class, verdict) = if outcome.audit.ok { ("good", "audit passed") } else { ("bad", "audit failed") };
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{}</title><style>{}</style></head><body><main><header>\
         <h1>{}</h1><p>{:.1} s, seed {}, {}</p><span class=\"verdict {class}\">{verdict}</span></header>",
        escape(&title),
        include_str!("page.css"),
        escape(outcome.workload),
        outcome.duration_s,
        outcome.seed,
        escape(&outcome.target),
    );
    // Writing to a string cannot fail.
    if outcome.audit.ok {
        page.push_str(&tiles(outcome));
        let _ = write!(page, "<div class=\"plots\">{}</div>", plots(outcome));
        page.push_str(&table(&outcome.operations));
    }
    page.push_str(&audit(outcome));
    page.push_str(&environment(outcome));
    page.push_str("</main></body></html>\n");
    page
}

fn tiles(outcome: &Outcome) -> String {
    let rate: f64 = outcome.operations.iter().map(|operation| operation.rate_per_s).sum();
    let mut tiles = vec![(count(rate.round() as u64), "operations a second".to_owned())];
    for operation in foremost(&outcome.operations) {
        tiles.push((time(operation.latency("p99").unwrap_or(0)), format!("p99 of {}", operation.name)));
    }
    let sold = outcome.operations.iter().find(|operation| operation.name == "pay");
    tiles.extend(sold.map(|pay| (count(pay.count), "paid".to_owned())));
    let faults: u64 = outcome.series.iter().flat_map(|sample| &sample.faults).map(|(_, count)| count).sum();
    tiles.push((count(faults), "calls failed".to_owned()));
    let tile = |(value, what): &(String, String)| {
        format!("<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(value), escape(what))
    };
    format!("<div class=\"tiles\">{}</div>", tiles.iter().map(tile).collect::<String>())
}

/// The operations that matter most to those who buy, of those that came.
fn foremost(operations: &[Operation]) -> impl Iterator<Item = &Operation> {
    let came = FOREMOST.iter().filter_map(|name| operations.iter().find(|operation| operation.name == *name));
    came.take(PLOTTED_MAX)
}

fn over_time(outcome: &Outcome, value: impl Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    outcome.series.iter().filter_map(|sample| Some((sample.at_s, value(sample)?))).collect()
}

fn plots(outcome: &Outcome) -> String {
    let micros = |us: f64| time(us.round() as u64);
    let whole = |n: f64| count(n.round() as u64);
    let plot = |title, note, scale, value, series| Plot {
        title,
        note,
        scale,
        stacked: false,
        marks: Vec::new(),
        value,
        series,
    };
    let series = |name: String, color: usize, dashed, points| Series { name, color: color % COLORS, dashed, points };
    let of = |sample: &Sample, name: &str, which: usize| {
        let found = sample.operations.iter().find(|(known, _)| *known == name)?;
        Some(found.1[which] as f64)
    };

    let mut latencies = Vec::new();
    for (color, operation) in foremost(&outcome.operations).enumerate() {
        for (which, name, dashed) in [(2, "p99", false), (1, "p50", true)] {
            let points = over_time(outcome, |sample| of(sample, operation.name, which));
            latencies.push(series(format!("{} {name}", operation.name), color, dashed, points));
        }
    }
    let by_percentile = outcome.operations.iter().enumerate().map(|(color, operation)| {
        let points = operation.percentiles.iter().filter(|(share, _)| *share < 1.0);
        series(operation.name.into(), color, false, points.map(|(share, us)| (nines(*share), *us as f64)).collect())
    });
    let mut rates = Vec::new();
    if outcome.arrivals.rate_asked > 0.0 {
        rates.push(series("arrivals asked for".into(), 7, true, over_time(outcome, |sample| Some(sample.rate_asked))));
    }
    rates.push(series("arrivals".into(), 0, false, over_time(outcome, |sample| Some(sample.rate_reached))));
    let all = |sample: &Sample| Some(sample.operations.iter().map(|(_, values)| values[0] as f64).sum());
    rates.push(series("operations".into(), 1, false, over_time(outcome, all)));
    let line = ["waiting", "inside"].into_iter().enumerate().map(|(which, name)| {
        series(name.into(), which, false, over_time(outcome, |sample| sample.line.map(|line| line[which] as f64)))
    });
    let seats = [("sold", 2, 2), ("held", 1, 1), ("blocked", 3, 3), ("available", 0, 7)].map(|(name, which, color)| {
        series(name.into(), color, false, over_time(outcome, |sample| sample.seats.map(|seats| seats[which] as f64)))
    });
    let seats = seats.into_iter().filter(|layer| layer.name != "blocked" || layer.points.iter().any(|(_, y)| *y > 0.0));
    let memory = over_time(outcome, |sample| Some(sample.memory_bytes as f64 / MIB));

    let marks = NINES.iter().map(|(share, text)| (nines(*share), (*text).to_owned())).collect();
    [
        plot("Latency over time", "in each second", Scale::Logarithmic, micros, latencies),
        Plot {
            marks,
            ..plot("Latency by percentile", "of the whole run", Scale::Logarithmic, micros, by_percentile.collect())
        },
        plot("Rate", "a second", Scale::Linear, whole, rates),
        plot("Line", "people", Scale::Linear, whole, line.collect()),
        Plot { stacked: true, ..plot("Seats", "by state", Scale::Linear, whole, seats.collect()) },
        plot(
            "Memory",
            "of the load test, and of the engine if it is embedded",
            Scale::Linear,
            |mib| format!("{mib:.0} MiB"),
            vec![series("resident".into(), 3, false, memory)],
        ),
    ]
    .iter()
    .map(Plot::figure)
    .collect()
}

/// How many nines a share has: each takes as much room.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

fn table(operations: &[Operation]) -> String {
    let mut rows = String::new();
    for operation in operations {
        let latencies: String = operation.latency_us.iter().map(|(_, us)| format!("<td>{}</td>", time(*us))).collect();
        let errors: Vec<_> = operation.errors.iter().map(|(code, n)| format!("{code} {}", count(*n))).collect();
        // Writing to a string cannot fail.
        let _ = write!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{}</td>{latencies}<td>{}</td></tr>",
            operation.name,
            count(operation.count),
            count(operation.rate_per_s.round() as u64),
            errors.join(", ")
        );
    }
    format!(
        "<section><h2>Operations</h2><table><tr><th></th><th>count</th><th>per s</th><th>p50</th><th>p90</th><th>p99</th>\
         <th>p99.9</th><th>max</th><th>refused and failed</th></tr>{rows}</table></section>"
    )
}

fn audit(outcome: &Outcome) -> String {
    let audit = &outcome.audit;
    let checked = audit.checked.iter().filter(|(_, n)| *n > 0);
    let checked: String = checked
        .map(|(what, n)| format!("<div><b>{}</b><span>{}</span></div>", count(*n), what.replace('_', " ")))
        .collect();
    let breach = |breach: &super::Breach| {
        let history = breach.history.join("\n");
        format!(
            "<pre class=\"bad\">{}: {}</pre><pre>{}</pre>",
            breach.invariant,
            escape(&breach.what),
            escape(&history)
        )
    };
    let breaches: String = audit.violations.iter().map(breach).collect();
    let text = if audit.ok { "What callers were told agrees with the system. Checked:" } else { "What is wrong:" };
    format!("<section><h2>Audit</h2><p>{text}</p>{breaches}<div class=\"counts\">{checked}</div></section>")
}

fn environment(outcome: &Outcome) -> String {
    let env = &outcome.environment;
    let arrivals = &outcome.arrivals;
    let rows = [
        ("command", env.command.clone()),
        ("durability", outcome.durability.to_owned()),
        ("processor", format!("{}, {} cores", env.cpu, env.cores)),
        ("memory", bytes(env.memory_bytes)),
        ("system", env.kernel.clone()),
        ("commit", format!("{} (version {})", env.commit, env.version)),
        (
            "arrivals",
            format!("{} begun, {} not for too many were under way", count(arrivals.begun), count(arrivals.not_begun)),
        ),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>", escape(value))).collect();
    let parameters = serde_json::to_string_pretty(&outcome.parameters).unwrap_or_default();
    format!(
        "<section><h2>How it was measured</h2><dl>{rows}</dl><details><summary>Parameters</summary><pre>{}</pre></details></section>",
        escape(&parameters)
    )
}
