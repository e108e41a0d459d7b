//! Where a run took place.

use std::path::Path;

use serde::Serialize;

/// The machine and the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// Its processor.
    pub cpu: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// Its memory.
    pub memory_bytes: u64,
    /// Its system.
    pub kernel: String,
    /// The version of this program.
    pub version: &'static str,
    /// What it was built from, as far as that is known.
    pub commit: String,
    /// Everything that it was called with. What is secret is not in it.
    pub command: String,
}

impl Environment {
    /// This machine; `command` is how the program was called.
    #[must_use]
    pub fn here(command: String) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo").lines().find_map(|line| value_of(line, "model name"));
        let memory = read("/proc/meminfo").lines().find_map(|line| value_of(line, "MemTotal"));
        let memory_kib = memory.and_then(|text| text.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
        Self {
            cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_kib << 10,
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            version: env!("CARGO_PKG_VERSION"),
            commit: commit().unwrap_or_else(|| "unknown".into()),
            command,
        }
    }
}

fn value_of(line: &str, key: &str) -> Option<String> {
    let (name, value) = line.split_once(':')?;
    (name.trim() == key).then(|| value.trim().to_owned())
}

/// What `BOXOFFICE_COMMIT` said when this was built, or else the head of the repository that the program lies in.
fn commit() -> Option<String> {
    if let Some(commit) = option_env!("BOXOFFICE_COMMIT") {
        return Some(commit.to_owned());
    }
    let program = std::env::current_exe().ok()?;
    let git = |arguments: &[&str]| {
        let output =
            std::process::Command::new("git").arg("-C").arg(program.parent()?).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let root = git(&["rev-parse", "--show-toplevel"])?;
    // The repository that this program lies in may be another one's.
    Path::new(&root).join("src/loadgen").is_dir().then_some(())?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(format!("{}{}", git(&["rev-parse", "--short", "HEAD"])?, if changed { ", with changes" } else { "" }))
}

/// Memory that this process takes now, in bytes.
#[must_use]
pub fn memory_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}
