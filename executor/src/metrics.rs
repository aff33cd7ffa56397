//! What this process counts, for Prometheus. One registry a process, as what it counts is one a process: the pool of
//! Kafka's consumers, the sessions with Cassandra, the memory. `docs/metrics.md` has a row for each name.

use crate::connectors::kafka::pool::POOL;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::LazyLock;

pub use prometheus_text::CONTENT_TYPE;

/// From a batch of nothing to one that is near its deadline: three buckets a decade.
pub const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// How a task or a request ended.
type ByOutcome<M, C = fn() -> M> = Family<[(&'static str, &'static str); 1], M, C>;

/// Everything that is counted as it happens.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Tasks at once, of all executors of the process.
    pub task_slots: Gauge,
    /// Tasks that run now.
    pub tasks_running: Gauge,
    tasks: ByOutcome<Counter>,
    task_duration: Histogram,
    /// What operators have reserved now.
    pub memory_reserved: Gauge,
    /// What operators may reserve, of all executors of the process.
    pub memory_limit: Gauge,
    /// What operators were refused: they spill, or their task fails.
    pub memory_refused: Counter,
    /// Kafka consumers that are open, idle ones included.
    pub kafka_consumers: Gauge,
    /// Records that tasks have read.
    pub kafka_records_read: Counter,
    /// Times that records were gone before they were read.
    pub kafka_data_loss: Counter,
    /// Records that brokers have acknowledged.
    pub kafka_records_written: Counter,
    cassandra_requests: ByOutcome<Histogram>,
    /// Requests that were repeated.
    pub cassandra_retries: Counter,
    /// Requests that wait for an answer.
    pub cassandra_in_flight: Gauge,
    /// Statements that were repeated because the connection was lost or transactions met.
    pub postgres_retries: Counter,
}

/// Those of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut metrics = Self {
            registry: Registry::default(),
            task_slots: Gauge::default(),
            tasks_running: Gauge::default(),
            tasks: ByOutcome::default(),
            task_duration: histogram(),
            memory_reserved: Gauge::default(),
            memory_limit: Gauge::default(),
            memory_refused: Counter::default(),
            kafka_consumers: Gauge::default(),
            kafka_records_read: Counter::default(),
            kafka_data_loss: Counter::default(),
            kafka_records_written: Counter::default(),
            cassandra_requests: Family::new_with_constructor(histogram),
            cassandra_retries: Counter::default(),
            cassandra_in_flight: Gauge::default(),
            postgres_retries: Counter::default(),
        };
        let mut registry = Registry::with_prefix("headwater");
        let m = &metrics;
        registry.register("task_slots", "Tasks at once", m.task_slots.clone());
        registry.register("tasks_running", "Tasks that run now", m.tasks_running.clone());
        registry.register("tasks", "Tasks that ended: ok, failed or cancelled", m.tasks.clone());
        registry.register("task_duration_seconds", "Time from a task's start to its end", m.task_duration.clone());
        registry.register("memory_reserved_bytes", "Memory that operators hold", m.memory_reserved.clone());
        registry.register("memory_limit_bytes", "Memory that operators may hold", m.memory_limit.clone());
        registry.register(
            "memory_refused",
            "Times that an operator was refused memory: it spills, or its task fails",
            m.memory_refused.clone(),
        );
        registry.register("kafka_consumers", "Kafka consumers that are open", m.kafka_consumers.clone());
        registry.register("kafka_records_read", "Records read from Kafka", m.kafka_records_read.clone());
        registry.register(
            "kafka_data_loss",
            "Times that records of a batch were gone from Kafka before a task read them",
            m.kafka_data_loss.clone(),
        );
        registry.register(
            "kafka_records_written",
            "Records that Kafka has acknowledged",
            m.kafka_records_written.clone(),
        );
        registry.register(
            "cassandra_request_duration_seconds",
            "Time of a request to Cassandra: ok or failed",
            m.cassandra_requests.clone(),
        );
        registry.register("cassandra_retries", "Requests to Cassandra that were repeated", m.cassandra_retries.clone());
        registry.register(
            "cassandra_requests_in_flight",
            "Requests to Cassandra that wait for an answer",
            m.cassandra_in_flight.clone(),
        );
        registry.register(
            "postgres_retries",
            "Work on PostgreSQL that was repeated after a lost connection or a conflict",
            m.postgres_retries.clone(),
        );
        // Families without a member would not be seen before something went wrong.
        for outcome in ["ok", "failed", "cancelled"] {
            drop(metrics.tasks.get_or_create(&[("outcome", outcome)]));
        }
        for outcome in ["ok", "failed"] {
            drop(metrics.cassandra_requests.get_or_create(&[("outcome", outcome)]));
        }
        registry.register_collector(Box::new(Read));
        metrics.registry = registry;
        metrics
    }

    /// A task begins; it counts until what this returns is dropped.
    pub fn task(&self) -> TaskTimer<'_> {
        self.tasks_running.inc();
        TaskTimer { metrics: self, began: std::time::Instant::now(), outcome: "cancelled" }
    }

    /// A request to Cassandra took so long.
    pub fn cassandra_request(&self, took: std::time::Duration, ok: bool) {
        let outcome = if ok { "ok" } else { "failed" };
        self.cassandra_requests.get_or_create(&[("outcome", outcome)]).observe(took.as_secs_f64());
    }
}

/// See [`Metrics::task`].
pub struct TaskTimer<'a> {
    metrics: &'a Metrics,
    began: std::time::Instant,
    outcome: &'static str,
}

impl TaskTimer<'_> {
    /// It ended by itself. Dropped without this it was cancelled.
    pub fn ended(mut self, ok: bool) {
        self.outcome = if ok { "ok" } else { "failed" };
    }
}

impl Drop for TaskTimer<'_> {
    fn drop(&mut self) {
        self.metrics.tasks_running.dec();
        self.metrics.tasks.get_or_create(&[("outcome", self.outcome)]).inc();
        self.metrics.task_duration.observe(self.began.elapsed().as_secs_f64());
    }
}

/// What is read when it is asked for.
#[derive(Debug)]
struct Read;

impl Collector for Read {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: u64| {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value as f64).encode(encoder)
        };
        let pool = POOL.usage();
        gauge("kafka_consumers_idle", "Kafka consumers that no task holds, and that go on prefetching", pool.idle)?;
        gauge("kafka_prefetched_records", "Records that idle Kafka consumers have fetched ahead", pool.prefetched)?;
        gauge("kafka_prefetch_limit_bytes", "What Kafka consumers may hold of fetched records", pool.limit_bytes)?;
        gauge("spilled_bytes", "Bytes in spill files now", crate::memory::spilled_bytes())?;
        let resident = memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64);
        gauge("process_resident_memory_bytes", "Resident memory of the process", resident)
    }
}

/// What this process counts, in Prometheus' text format.
pub fn render() -> String {
    let mut text = String::new();
    prometheus_text::encode(&mut text, &METRICS.registry).expect("a string takes any text");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_counts_until_it_ends() {
        let metrics = Metrics::new();
        let (first, second) = (metrics.task(), metrics.task());
        assert_eq!(metrics.tasks_running.get(), 2);
        first.ended(true);
        drop(second);
        let count = |outcome| metrics.tasks.get_or_create(&[("outcome", outcome)]).get();
        assert_eq!((metrics.tasks_running.get(), count("ok"), count("failed"), count("cancelled")), (0, 1, 0, 1));
    }
}
