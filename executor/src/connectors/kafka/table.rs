//! Batch reads: a table whose rows are what a log holds between two bounds.

use crate::connectors::DescriptorScan;
use crate::connectors::kafka::client::Client;
use crate::connectors::kafka::options::SourceOptions;
use crate::connectors::kafka::scan::{ReaderConfig, descriptors, row_schema};
use crate::connectors::kafka::source::{plan_ranges, resolve};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::logical_expr::Expr;
use headwater_proto::error::Result;

/// A batch table over topics. Each query reads the bounds anew.
#[derive(Debug)]
pub struct KafkaScan {
    options: SourceOptions,
    client: Client,
}

impl KafkaScan {
    /// A table of these options; nothing is sent yet.
    ///
    /// # Errors
    /// When librdkafka refuses the properties.
    pub fn new(options: SourceOptions) -> Result<Self> {
        let client =
            Client::new(&options.properties)?.with_retries(options.fetch_retries, options.fetch_retry_interval);
        Ok(Self { options, client })
    }
}

#[async_trait]
impl DescriptorScan for KafkaScan {
    fn format(&self) -> &'static str {
        "kafka"
    }

    fn schema(&self) -> SchemaRef {
        row_schema(self.options.include_headers)
    }

    async fn plan(
        &self,
        _projection: Option<&[usize]>,
        _filters: &[Expr],
        _limit: Option<usize>,
        _target_partitions: usize,
    ) -> Result<(String, Vec<String>)> {
        let options = &self.options;
        let partitions = self.client.partitions(&options.strategy).await?;
        let strategy = options.timestamp_strategy;
        let from = resolve(&self.client, &options.starting, &partitions, strategy, "starting").await?;
        let until = resolve(&self.client, &options.ending, &partitions, strategy, "ending").await?;
        let ranges = plan_ranges(&self.client, options, &from, &until).await?;
        let consumers = ranges.len();
        // A batch read's consumers are nobody else's: another query may read other isolation or other bounds.
        let query = format!("batch-{}", uuid::Uuid::new_v4());
        let mut config = ReaderConfig::new(options, &query);
        // Nor will they be used again, so they need not go on prefetching for long.
        config.pool.idle_ms = config.pool.idle_ms.min(BATCH_IDLE_MS);
        Ok((config.to_json(), descriptors(ranges, consumers)))
    }
}

/// A consumer of a batch read is kept this long: a task that runs again finds it warm.
const BATCH_IDLE_MS: u64 = 2_000;
