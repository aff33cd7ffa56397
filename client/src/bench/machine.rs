//! What a benchmark ran on, and what its process used: from `/proc`, so on Linux alone.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Clock ticks a second in `/proc/PID/stat`: Linux promises 100 to user space on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// What it ran on.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Main memory.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Mean number of running processes over a minute, before the run: others' work makes figures wander.
    pub load: f64,
    /// Release or debug.
    pub profile: &'static str,
}

impl Machine {
    /// This machine, now.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_string())
        };
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_string()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal").and_then(|kb| kilobytes(&kb)).unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }

    /// As `--json` prints it.
    pub fn json(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "profile": self.profile,
            "cpu": self.cpu,
            "cores": self.cores,
            "memoryBytes": self.memory_bytes,
            "kernel": self.kernel,
            "load": self.load,
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "headwater {} ({} build) on {}, {} cores, {:.0} GiB, Linux {}, load {:.1}",
            env!("CARGO_PKG_VERSION"),
            self.profile,
            self.cpu,
            self.cores,
            self.memory_bytes as f64 / f64::from(1 << 30),
            self.kernel,
            self.load,
        )
    }
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Seconds of CPU, of all threads, in user and kernel.
    pub cpu_seconds: f64,
    /// Largest resident memory so far.
    pub peak_bytes: u64,
    /// Resident memory now.
    pub resident_bytes: u64,
}

impl Usage {
    /// This process, now.
    pub fn now() -> Result<Self> {
        Self::of("self")
    }

    /// The process of this id, now.
    pub fn of(process: &str) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
        };
        Self::parse(&read("stat")?, &read("status")?)
            .with_context(|| format!("/proc/{process}/stat and status are not as Linux writes them"))
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The command's name stands in parentheses, and may hold spaces; user and system time are fields 14 and 15.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let memory = |name: &str| {
            kilobytes(status.lines().find_map(|line| line.strip_prefix(name))?.trim_start_matches(':').trim())
        };
        Some(Self {
            cpu_seconds: (user + system) as f64 / TICKS_PER_SECOND,
            peak_bytes: memory("VmHWM")?,
            resident_bytes: memory("VmRSS")?,
        })
    }
}

/// `123 kB` in bytes.
fn kilobytes(text: &str) -> Option<u64> {
    Some(text.split(' ').next()?.parse::<u64>().ok()? * 1024)
}

/// Bytes for people.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_a_process() {
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 100";
        let status = "Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n";
        let usage = Usage::parse(stat, status).expect("well formed");
        assert_eq!((usage.cpu_seconds, usage.peak_bytes, usage.resident_bytes), (3.0, 2 << 20, 1 << 20));
        assert!(Usage::parse("nothing", status).is_none());
    }

    #[test]
    fn this_process() {
        assert!(Usage::now().expect("Linux").peak_bytes > 0);
        assert!(Machine::here().cores > 0);
    }
}
