//! What the system tells of this process, by the names that clients of Prometheus have for it.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::descriptors;

/// In which parts of a second Linux tells programs times, whatever it counts in itself.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads it each time. What cannot be read is left out.
#[derive(Debug)]
pub(super) struct ProcessStats;

impl Collector for ProcessStats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some([user, system, started]) = times() {
            let cpu = ConstCounter::new(user + system);
            let help = "Time on processors, of user and system";
            cpu.encode(encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), cpu.metric_type())?)?;
            if let Some(boot) = since_boot() {
                let start = ConstGauge::new(boot + started);
                let unit = Some(&Unit::Seconds);
                let help = "When it started, since 1970";
                start.encode(encoder.encode_descriptor("process_start_time", help, unit, start.metric_type())?)?;
            }
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let gauges = [
            ("process_resident_memory", "Memory that it holds", Some(Unit::Bytes), kibibytes(&status, "VmRSS:")),
            ("process_virtual_memory", "Addresses that it has", Some(Unit::Bytes), kibibytes(&status, "VmSize:")),
            (
                "process_open_fds",
                "Files that are open",
                None,
                fs::read_dir("/proc/self/fd").ok().map(|all| all.count() as u64),
            ),
            ("process_max_fds", "Files that may be open", None, descriptors::limit()),
        ];
        for (name, help, unit, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// Time in its own code, in the system's, and from the boot to its start, in seconds.
fn times() -> Option<[f64; 3]> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Its name, in parentheses, may have spaces; what follows it is the third field.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let seconds = |field: usize| Some(fields.get(field - 3)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some([seconds(14)?, seconds(15)?, seconds(22)?])
}

/// When the machine was started, in seconds since 1970.
fn since_boot() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A size in the status of a process, in bytes.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let size = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(size.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
}
