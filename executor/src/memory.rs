//! The memory of an executor: how much its operators may hold, and what happens beyond.
//!
//! Each task has an equal part of the limit, whatever the others do: operators that can spill (sorts, aggregations)
//! share their task's part evenly and write to files when it is used up; one that cannot (the build side of a hash
//! join) fails its task. So a query that wants too much slows down or fails alone.

use crate::metrics::METRICS;
use ballista_executor::runtime_cache::MemoryPoolPolicy;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Of the memory there is, the part that operators may hold: Spark's `spark.memory.fraction`. The rest is for what is
/// not counted: record batches under way, Kafka's prefetch, requests to databases.
const FRACTION: f64 = 0.6;
/// Less than this and not even a small sort could begin.
const TASK_BYTES_MIN: usize = 16 << 20;

/// Where Linux says what a container may use: version 2, then 1.
const CGROUP_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// What this process may use: the container's limit, or the machine's memory; none where neither is told.
pub fn available() -> Option<u64> {
    let container = CGROUP_LIMITS.iter().filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    });
    container.chain(machine).min()
}

/// A number of bytes as people write it: `512m`, `2g`, `1.5GiB`, as Spark takes it; units are binary.
///
/// # Errors
/// When it is none, with the form there is.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (text[..digits].parse::<f64>(), text[digits..].trim());
    let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(format!("{text} is no size: give a number and k, m, g or t, such as 512m or 2g")),
    };
    match number {
        Ok(number) if number > 0.0 && number.is_finite() => Ok((number * 2f64.powi(shift)) as u64),
        _ => Err(format!("{text} is no size: give a number and k, m, g or t, such as 512m or 2g")),
    }
}

/// What operators of one of `executors` in this process may hold, where nobody says.
pub fn default_limit(executors: usize) -> Option<u64> {
    available().map(|bytes| (bytes as f64 * FRACTION) as u64 / executors.max(1) as u64)
}

/// Who keeps spill files in this process.
static SPILLING: Mutex<Vec<Weak<DiskManager>>> = Mutex::new(vec![]);

/// Bytes in the spill files of this process.
pub fn spilled_bytes() -> u64 {
    let spilling = SPILLING.lock().unwrap_or_else(PoisonError::into_inner);
    spilling.iter().filter_map(Weak::upgrade).map(|disk| disk.used_disk_space()).sum()
}

/// The environment of all tasks of an executor: stores, caches, and spill files below `spill`.
///
/// # Errors
/// When the folder for spill files cannot be made.
pub fn runtime(stores: Arc<dyn ObjectStoreRegistry>, spill: &Path) -> Result<Arc<RuntimeEnv>> {
    std::fs::create_dir_all(spill)?;
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![spill.to_path_buf()]));
    let runtime =
        RuntimeEnvBuilder::new().with_object_store_registry(stores).with_disk_manager_builder(disk).build_arc()?;
    let mut spilling = SPILLING.lock().unwrap_or_else(PoisonError::into_inner);
    spilling.retain(|disk| disk.strong_count() > 0);
    spilling.push(Arc::downgrade(&runtime.disk_manager));
    Ok(runtime)
}

/// Gives each task its part of `limit` bytes, of which an executor runs `slots` at once; without a limit, as much as
/// it wants.
pub fn policy(limit: Option<u64>, slots: usize) -> MemoryPoolPolicy {
    let Some(limit) = limit else { return Arc::new(|base, _, _| Ok(base)) };
    let part = (limit as usize / slots.max(1)).max(TASK_BYTES_MIN);
    Arc::new(move |base, _, taken| {
        let pool = TaskPool { pool: FairSpillPool::new(part * taken.max(1) as usize) };
        RuntimeEnvBuilder::from_runtime_env(&base).with_memory_pool(Arc::new(pool)).build_arc()
    })
}

/// The part of one task, counted.
#[derive(Debug)]
struct TaskPool {
    pool: FairSpillPool,
}

impl fmt::Display for TaskPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

impl MemoryPool for TaskPool {
    fn name(&self) -> &str {
        "task"
    }
    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }
    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }
    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
        METRICS.memory_reserved.inc_by(additional as i64);
    }
    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
        METRICS.memory_reserved.dec_by(shrink as i64);
    }
    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let grown = self.pool.try_grow(reservation, additional);
        match &grown {
            Ok(()) => {
                METRICS.memory_reserved.inc_by(additional as i64);
            }
            // The kind must stay: operators spill on this one.
            Err(DataFusionError::ResourcesExhausted(_)) => {
                METRICS.memory_refused.inc();
            }
            Err(_) => {}
        }
        grown
    }
    fn reserved(&self) -> usize {
        self.pool.reserved()
    }
    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::files::location::LazyObjectStoreRegistry;
    use datafusion::prelude::SessionConfig;

    #[test]
    fn each_task_has_its_part() {
        let folder = tempfile::tempdir().expect("a folder");
        let stores = Arc::new(LazyObjectStoreRegistry::default());
        let base = runtime(stores, &folder.path().join("spill")).expect("a runtime");
        let policy = policy(Some(100 << 20), 4);
        let task = |slots| policy(Arc::clone(&base), &SessionConfig::new(), slots).expect("a runtime");
        let (first, second) = (task(1), task(2));
        let holds = MemoryConsumer::new("join").register(&first.memory_pool);
        holds.try_grow(25 << 20).expect("its part");
        let refused = holds.try_grow(1).expect_err("no more");
        assert!(matches!(refused, DataFusionError::ResourcesExhausted(_)), "{refused}");
        let other = MemoryConsumer::new("join").register(&second.memory_pool);
        other.try_grow(50 << 20).expect("what others hold is no matter");
        assert!(Arc::ptr_eq(&first.disk_manager, &second.disk_manager));
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expect: u64| assert_eq!(parse_bytes(text), Ok(expect), "{text}");
        check("1000", 1000);
        check("512m", 512 << 20);
        check("2 GiB", 2 << 30);
        check("1.5k", 1536);
        check("1TB", 1 << 40);
        for wrong in ["", "m", "-1", "0", "2x", "1e9", "1..2"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_machine_has_memory() {
        let all = available().expect("Linux says");
        assert!(all > 64 << 20);
        let (one, two) = (default_limit(1).expect("some"), default_limit(2).expect("some"));
        assert!(one < all && one / 2 == two);
    }
}
