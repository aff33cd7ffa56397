//! What a scheduler counts, for Prometheus. `docs/metrics.md` has a row for each name.
//!
//! What belongs to a query lives in its [`Monitor`], and so as long as the query does; a page is made of what there is
//! when it is asked for. The process's own counts ([`headwater_executor::metrics`]) follow on the same page.

use crate::cluster::ExecutorInfo;
use crate::streaming::progress::{Monitor, State, TriggerFacts};
use headwater_executor::metrics::SECONDS;
use headwater_proto::engine::{IngestRun, QueryStatus};
use headwater_proto::ingest;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use headwater_executor::metrics::CONTENT_TYPE;

/// What a query counts over all its runs since this scheduler started.
#[derive(Debug, Default)]
pub struct QueryMetrics {
    /// Attempts that failed and were repeated.
    pub retries: Counter,
    batches: Counter,
    input_rows: Counter,
    output_rows: Counter,
    bad_rows: Counter,
    sink_retries: Counter,
    changing: Mutex<Changing>,
}

#[derive(Debug, Default)]
struct Changing {
    /// By phase, as Spark names them.
    durations: BTreeMap<&'static str, Histogram>,
    /// Records not read yet, by topic and partition.
    lag: BTreeMap<(String, i32), u64>,
}

impl QueryMetrics {
    fn changing(&self) -> MutexGuard<'_, Changing> {
        // Whole at any time: maps that are inserted into.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a trigger did. An idle one tells of lag alone.
    pub fn trigger(&self, facts: &TriggerFacts) {
        let mut changing = self.changing();
        changing.lag = facts
            .sources
            .iter()
            .flat_map(|source| &source.partition_lag)
            .map(|(topic, partition, lag)| ((topic.clone(), *partition), *lag))
            .collect();
        let Some(written) = facts.rows_written else { return };
        self.batches.inc();
        self.input_rows.inc_by(facts.sources.iter().map(|source| source.rows).sum());
        self.output_rows.inc_by(written);
        let count = |key: &str| facts.sink_metrics.get(key).and_then(|count| count.parse().ok()).unwrap_or(0);
        self.bad_rows.inc_by(count("badRows"));
        self.sink_retries.inc_by(count("retries"));
        for (phase, took) in &facts.phases {
            let histogram = changing.durations.entry(*phase).or_insert_with(|| Histogram::new(SECONDS));
            histogram.observe(took.as_secs_f64());
        }
    }
}

/// What a page is made of.
#[derive(Debug)]
pub struct Facts {
    /// Every query.
    pub queries: Vec<Arc<Monitor>>,
    /// Every executor that is registered.
    pub executors: Vec<ExecutorInfo>,
    /// Every ingest run that this scheduler knows.
    pub runs: Vec<IngestRun>,
}

/// The page: these facts, and what this process counts.
pub fn render(facts: Facts) -> String {
    let mut registry = Registry::with_prefix("headwater");
    registry.register_collector(Box::new(facts));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("a string takes any text");
    text.push_str(&headwater_executor::metrics::render());
    text
}

/// Writes families.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn family<L, M>(
        &mut self,
        name: &str,
        kind: MetricType,
        help: &str,
        members: impl IntoIterator<Item = (L, M)>,
    ) -> fmt::Result
    where
        L: prometheus_client::encoding::EncodeLabelSet,
        M: EncodeMetric,
    {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, metric) in members {
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
    fn gauges<L: prometheus_client::encoding::EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        members: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let members = members.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, MetricType::Gauge, help, members)
    }
    fn counters<L: prometheus_client::encoding::EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        members: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let members = members.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, MetricType::Counter, help, members)
    }
}

impl Collector for Facts {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        families.gauges("leader", "Whether this scheduler leads", [([("", ""); 0], 1.0)])?;
        self.encode_queries(&mut families)?;
        self.encode_executors(&mut families)?;
        self.encode_runs(&mut families)
    }
}

impl Facts {
    fn encode_queries(&self, families: &mut Families<'_>) -> fmt::Result {
        let statuses: Vec<QueryStatus> = self.queries.iter().map(|query| query.status()).collect();
        let of_status = |sample: fn(&QueryStatus) -> f64| {
            statuses.iter().map(move |status| ([("query", status.name.clone())], sample(status))).collect::<Vec<_>>()
        };
        let of_metrics = |sample: fn(&QueryMetrics) -> &Counter| {
            let queries = self.queries.iter().zip(&statuses);
            queries
                .map(move |(query, status)| ([("query", status.name.clone())], sample(query.metrics()).get()))
                .collect::<Vec<_>>()
        };
        families.gauges(
            "query_active",
            "1 while the query runs, waits or retries",
            of_status(|status| {
                f64::from(u8::from(["RUNNING", "WAITING", "RETRYING"].contains(&status.state.as_str())))
            }),
        )?;
        let states = statuses.iter().flat_map(|status| {
            State::ALL.map(|state| {
                let is = f64::from(u8::from(state.name() == status.state));
                ([("query", status.name.clone()), ("state", state.name().to_string())], is)
            })
        });
        families.gauges("query_state", "1 for the state that the query is in", states)?;
        families.gauges("query_batch_id", "Last batch", of_status(|status| status.batch_id as f64))?;
        families.gauges(
            "query_lag_records",
            "Records not read yet; -1 when unknown",
            of_status(|status| status.lag_records as f64),
        )?;
        let mut lags = vec![];
        for (query, status) in self.queries.iter().zip(&statuses) {
            for ((topic, partition), lag) in &query.metrics().changing().lag {
                let labels =
                    [("query", status.name.clone()), ("topic", topic.clone()), ("partition", partition.to_string())];
                lags.push((labels, *lag as f64));
            }
        }
        families.gauges("query_partition_lag_records", "Records not read yet, by topic partition", lags)?;
        families.gauges(
            "query_input_rows_per_second",
            "Rows that arrived, at the last batch",
            of_status(|status| status.input_rows_per_second),
        )?;
        families.gauges(
            "query_processed_rows_per_second",
            "Rows processed, at the last batch",
            of_status(|status| status.processed_rows_per_second),
        )?;
        families.counters("query_batches", "Batches committed", of_metrics(|metrics| &metrics.batches))?;
        families.counters("query_input_rows", "Rows read", of_metrics(|metrics| &metrics.input_rows))?;
        families.counters("query_output_rows", "Rows written", of_metrics(|metrics| &metrics.output_rows))?;
        families.counters(
            "query_bad_rows",
            "Rows that the sink could not use",
            of_metrics(|metrics| &metrics.bad_rows),
        )?;
        families.counters(
            "query_sink_retries",
            "Requests that sinks repeated, of batches that ended",
            of_metrics(|metrics| &metrics.sink_retries),
        )?;
        families.counters(
            "query_retries",
            "Attempts at a batch that failed and were repeated",
            of_metrics(|metrics| &metrics.retries),
        )?;
        families.gauges(
            "query_failing_since_seconds",
            "When the first of the attempts failed that all failed since, in seconds since 1970; 0 when all is well",
            of_status(|status| status.trouble.as_ref().map_or(0.0, |trouble| trouble.since_ms as f64 / 1000.0)),
        )?;
        let mut durations = vec![];
        for (query, status) in self.queries.iter().zip(&statuses) {
            for (phase, histogram) in &query.metrics().changing().durations {
                durations.push(([("query", status.name.clone()), ("phase", (*phase).to_string())], histogram.clone()));
            }
        }
        families.family(
            "query_batch_duration_seconds",
            MetricType::Histogram,
            "Time of a batch by phase, as Spark names them; triggerExecution is the whole",
            durations,
        )
    }

    fn encode_executors(&self, families: &mut Families<'_>) -> fmt::Result {
        let of = |sample: fn(&ExecutorInfo) -> u64| {
            let executors = self.executors.iter();
            executors.map(move |executor| ([("executor", executor.id.clone())], sample(executor))).collect::<Vec<_>>()
        };
        let gauges = |sample| of(sample).into_iter().map(|(labels, value)| (labels, value as f64));
        families.gauges(
            "executors",
            "Executors that are registered",
            [([("", ""); 0], self.executors.len() as f64)],
        )?;
        families.gauges("executor_task_slots", "Tasks at once", gauges(|executor| executor.task_slots.into()))?;
        families.counters(
            "executor_completed_tasks",
            "Tasks that ended well",
            of(|executor| executor.tasks_completed),
        )?;
        families.gauges("executor_memory_bytes", "Resident memory", gauges(|executor| executor.memory_bytes))
    }

    fn encode_runs(&self, families: &mut Families<'_>) -> fmt::Result {
        let of = |sample: fn(&IngestRun) -> f64| {
            self.runs.iter().map(move |run| ([("run", run.run_id.clone())], sample(run))).collect::<Vec<_>>()
        };
        families.gauges(
            "ingest_active",
            "1 until the ingest run has ended",
            of(|run| f64::from(u8::from(ingest::is_active(run.state())))),
        )?;
        families.gauges("ingest_requested_users", "Users to fetch", of(|run| run.requested as f64))?;
        families.gauges("ingest_fetched_users", "Users that came", of(|run| run.fetched as f64))?;
        families.gauges("ingest_staged_users", "Users in staging", of(|run| run.staged as f64))?;
        families.gauges(
            "ingest_published_users",
            "Users that Kafka has acknowledged",
            of(|run| run.published as f64),
        )?;
        families.gauges("ingest_rejected_users", "Users of no use", of(|run| run.rejected as f64))?;
        families.gauges("ingest_duplicate_users", "Users that were in staging before", of(|run| run.duplicates as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streaming::progress::SourceFacts;
    use std::collections::BTreeSet;
    use std::time::{Duration, SystemTime};

    fn facts() -> Facts {
        let status = QueryStatus { name: "a \"b\"".into(), state: "RETRYING".into(), ..QueryStatus::default() };
        let monitor = Monitor::new(status);
        monitor.metrics().trigger(&TriggerFacts {
            started: SystemTime::UNIX_EPOCH,
            since_previous: None,
            batch_id: 7,
            phases: BTreeMap::from([("addBatch", Duration::from_millis(40))]),
            duration: Duration::from_millis(50),
            sources: vec![SourceFacts {
                description: "KafkaV2[Subscribe[t]]".into(),
                start: "{}".into(),
                end: "{}".into(),
                latest: "{}".into(),
                rows: 100,
                lag: Some(3),
                partition_lag: vec![("t".into(), 1, 3)],
                metrics: BTreeMap::new(),
            }],
            sink: "noop".into(),
            rows_written: Some(98),
            sink_metrics: BTreeMap::from([("badRows".to_string(), "2".to_string())]),
        });
        let executor = ExecutorInfo {
            id: "e".into(),
            address: "h:1".into(),
            task_slots: 2,
            tasks_completed: 5,
            memory_bytes: 1000,
        };
        let run = IngestRun { run_id: "r".into(), requested: 4, ..IngestRun::default() };
        Facts { queries: vec![Arc::new(monitor)], executors: vec![executor], runs: vec![run] }
    }

    #[test]
    fn samples() {
        let page = render(facts());
        for line in [
            r#"headwater_query_state{query="a \"b\"",state="RETRYING"} 1.0"#,
            r#"headwater_query_partition_lag_records{query="a \"b\"",topic="t",partition="1"} 3.0"#,
            r#"headwater_query_input_rows_total{query="a \"b\""} 100"#,
            r#"headwater_query_bad_rows_total{query="a \"b\""} 2"#,
            r#"headwater_query_batch_duration_seconds_bucket{query="a \"b\"",phase="addBatch",le="0.05"} 1"#,
            r#"headwater_executor_completed_tasks_total{executor="e"} 5"#,
            r#"headwater_ingest_requested_users{run="r"} 4.0"#,
            "headwater_executors 1.0",
            "headwater_leader 1.0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\nis not in\n{page}");
        }
    }

    /// Dashboards and alerts are written from the document.
    #[test]
    fn the_document_names_what_is_exported() {
        let page = render(facts());
        let exported: BTreeSet<(&str, &str)> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        let document = include_str!("../../docs/metrics.md");
        let documented: BTreeSet<(&str, &str)> = document
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| `headwater_")?.split('|').map(str::trim);
                let (name, kind) = (cells.next()?.strip_suffix('`')?, cells.next()?);
                // Another table of the document has conditions of alerts.
                ["counter", "gauge", "histogram"].contains(&kind).then_some((name, kind))
            })
            .collect();
        let exported: BTreeSet<(&str, &str)> = exported
            .into_iter()
            .map(|(name, kind)| (name.strip_prefix("headwater_").expect("every name has the prefix"), kind))
            .collect();
        assert_eq!(exported, documented);
    }
}
