//! `randomuser`: users of the web service <https://randomuser.me>, or of a mirror of it, as flat records.
//!
//! | file | what |
//! |---|---|
//! | `options` | names, defaults, what the service would silently replace and is refused; which pages |
//! | `limiter` | when the next request may be sent |
//! | `fetch` | one page, whatever goes wrong |
//! | `record` | a user as a flat record; what never leaves the fetch |
//!
//! A plan partition is a group of consecutive pages. Seed, page and size fix the users, so a task that runs again gives
//! the same rows, but for `ingested_at`. Every page gives exactly as many rows as users were asked for: a user that
//! cannot be used is a row too, whose `rejected` says why.

mod fetch;
mod limiter;
mod options;
mod record;
#[cfg(test)]
mod tests;

use super::{Connector, DescriptorScan, DescriptorTable, Options, ReadUntil, Reader};
use crate::functions::ddl;
use crate::operators::{not_repeated, to_datafusion};
use arrow::array::{
    ArrayRef, Float64Builder, Int32Array, RecordBatch, RecordBatchOptions, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use fetch::Service;
pub use fetch::{TOO_MANY_REQUESTS, come_back, pause_asked};
use headwater_proto::error::{Error, Result};
use limiter::Limiter;
pub use options::{NATIONALITIES, PAGE_SIZE_MAX, PAGES_MAX, USERS_PER_WINDOW, WINDOW};
use options::{Pace, Page, RandomUserOptions, groups};
use rand::Rng;
use rand::distr::Alphanumeric;
use record::{Record, TEXTS, record, without_secrets};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use url::Url;

/// The format's name.
const FORMAT: &str = "randomuser";
/// As many as the service makes up itself; 18 would also fix the nationality.
const SEED_LENGTH: usize = 16;

/// The record, then where it comes from.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let mut fields = vec![text("id")];
    fields.extend(TEXTS.iter().map(|name| text(name)));
    fields.extend([
        Field::new("latitude", DataType::Float64, true),
        Field::new("longitude", DataType::Float64, true),
        Field::new("ingested_at", ddl::timestamp(), true),
        Field::new("page", DataType::Int32, true),
        Field::new("position", DataType::Int32, true),
        text("raw"),
        text("rejected"),
        text("seed"),
    ]);
    Arc::new(Schema::new(fields))
});

/// The `randomuser` connector: batch reads alone.
#[derive(Debug)]
pub struct RandomUser;

#[async_trait]
impl Connector for RandomUser {
    fn format(&self) -> &'static str {
        FORMAT
    }
    async fn table(&self, options: &Options, schema: Option<SchemaRef>) -> Result<Arc<dyn TableProvider>> {
        if schema.is_some_and(|schema| !schema.fields().is_empty()) {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                "data source randomuser has columns of its own: leave them out, and select those that are wanted",
            ));
        }
        let options = RandomUserOptions::parse(options)?;
        let seed = options.seed.clone().unwrap_or_else(|| {
            let seed = made_up_seed();
            tracing::info!(seed, "no option seed: one was made up, it also stands in column seed");
            seed
        });
        Ok(Arc::new(DescriptorTable(Arc::new(Users { options, seed }))))
    }
    fn reader(&self, config: &str) -> Result<Arc<dyn Reader>> {
        let config =
            serde_json::from_str(config).map_err(|e| Error::internal(format!("randomuser reader config: {e}")))?;
        Ok(Arc::new(RandomUserReader { config: Arc::new(config) }))
    }
}

/// A seed like those that the service makes up.
pub fn made_up_seed() -> String {
    rand::rng().sample_iter(Alphanumeric).take(SEED_LENGTH).map(char::from).collect()
}

/// The users of some pages, the driver half.
#[derive(Debug)]
struct Users {
    options: RandomUserOptions,
    seed: String,
}

/// What every reader of a scan is told.
#[derive(Clone, Serialize, Deserialize)]
struct ReaderConfig {
    url: String,
    seed: String,
    nat: Option<String>,
    keep_raw: bool,
    /// Of one plan partition.
    pace: Pace,
    retries_max: u32,
    timeout: Duration,
    retry_after_max: Duration,
}

#[async_trait]
impl DescriptorScan for Users {
    fn format(&self) -> &'static str {
        FORMAT
    }
    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }
    async fn plan(
        &self,
        _projection: Option<&[usize]>,
        filters: &[Expr],
        limit: Option<usize>,
        target_partitions: usize,
    ) -> Result<(String, Vec<String>)> {
        let options = &self.options;
        let mut pages = options.pages.clone();
        if let Some(limit) = limit.filter(|_| filters.is_empty()) {
            // As many pages as have that many users.
            let mut users = 0;
            let enough = pages.iter().position(|page| {
                users += page.results as usize;
                users >= limit
            });
            pages.truncate(enough.map_or(pages.len(), |at| at + 1));
        }
        let (groups, pace) = groups(&pages, options.pace, options.pages_per_partition, target_partitions);
        let config = ReaderConfig {
            url: options.url.to_string(),
            seed: self.seed.clone(),
            nat: options.nat.clone(),
            keep_raw: options.keep_raw,
            pace,
            retries_max: options.retries_max,
            timeout: options.timeout,
            retry_after_max: options.retry_after_max,
        };
        let json = |value: serde_json::Result<String>| value.map_err(Error::internal);
        let descriptors = groups.iter().map(|group| json(serde_json::to_string(group))).collect::<Result<_>>()?;
        Ok((json(serde_json::to_string(&config))?, descriptors))
    }
}

/// The executor half.
struct RandomUserReader {
    config: Arc<ReaderConfig>,
}

impl std::fmt::Debug for RandomUserReader {
    /// Not the address: it may hold a login.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RandomUserReader").field("seed", &self.config.seed).finish_non_exhaustive()
    }
}

impl Reader for RandomUserReader {
    fn read(
        &self,
        descriptor: &str,
        projection: Option<&[usize]>,
        schema: SchemaRef,
        until: ReadUntil,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if matches!(until, ReadUntil::Signal(_)) {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                "data source randomuser does not support streaming read",
            ));
        }
        let pages: Vec<Page> =
            serde_json::from_str(descriptor).map_err(|e| Error::internal(format!("randomuser descriptor: {e}")))?;
        let projection = projection.map(<[usize]>::to_vec);
        let config = ReaderConfig::clone(&self.config);
        let url =
            Url::parse(&config.url).map_err(|e| Error::internal(format!("randomuser reader config: url: {e}")))?;
        // One page ahead of who reads.
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&schema), 1);
        let out = builder.tx();
        builder.spawn(async move {
            let mut limiter = Limiter::new(config.pace);
            let service = Service {
                url,
                seed: config.seed,
                nat: config.nat,
                timeout: config.timeout,
                retry_after_max: config.retry_after_max,
                retries_max: config.retries_max,
            };
            let name = service.name();
            for page in pages {
                limiter.acquire(&name, page.results.into()).await;
                let users = service.fetch(page).await.map_err(task_failed)?;
                let batch = batch(users, page, &service.seed, config.keep_raw, chrono::Utc::now().timestamp_micros());
                let batch = batch.and_then(|batch| {
                    let Some(projection) = &projection else { return Ok(batch) };
                    // `project` forgets the count of rows where no column is wanted.
                    let columns = projection.iter().map(|at| ArrayRef::clone(batch.column(*at))).collect();
                    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                    RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options).map_err(Error::internal)
                });
                if out.send(Ok(batch.map_err(to_datafusion)?)).await.is_err() {
                    // Nobody wants more.
                    break;
                }
            }
            Ok(())
        });
        Ok(builder.build())
    }
}

/// A service that was asked too often fails the job: the cluster would have the task ask again at once.
fn task_failed(error: Error) -> DataFusionError {
    if error.class == TOO_MANY_REQUESTS { not_repeated(to_datafusion(error)) } else { to_datafusion(error) }
}

/// A page's users as rows, in their order.
fn batch(users: Vec<Value>, page: Page, seed: &str, keep_raw: bool, ingested_at: i64) -> Result<RecordBatch> {
    let count = users.len();
    let mut id = StringBuilder::new();
    let mut texts: [StringBuilder; TEXTS.len()] = std::array::from_fn(|_| StringBuilder::new());
    let (mut latitude, mut longitude) = (Float64Builder::new(), Float64Builder::new());
    let (mut raw, mut rejected) = (StringBuilder::new(), StringBuilder::new());
    let mut seen = HashSet::with_capacity(count);
    for user in users {
        let mut found: Record = record(&user);
        if let Some(uuid) = &found.id
            && !seen.insert(uuid.clone())
            && found.rejected.is_none()
        {
            found.rejected = Some("duplicate id in page".into());
        }
        id.append_option(found.id);
        for (builder, text) in texts.iter_mut().zip(found.texts) {
            builder.append_option(text);
        }
        latitude.append_option(found.latitude);
        longitude.append_option(found.longitude);
        rejected.append_option(found.rejected);
        raw.append_option(if keep_raw { without_secrets(user) } else { None });
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(id.finish())];
    columns.extend(texts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
    let time = TimestampMicrosecondArray::from(vec![ingested_at; count]).with_timezone("UTC");
    columns.extend([
        Arc::new(latitude.finish()) as ArrayRef,
        Arc::new(longitude.finish()),
        Arc::new(time),
        Arc::new(Int32Array::from(vec![page.page as i32; count])),
        Arc::new(Int32Array::from_iter_values(0..count as i32)),
        Arc::new(raw.finish()),
        Arc::new(rejected.finish()),
        Arc::new(StringArray::from(vec![seed; count])),
    ]);
    RecordBatch::try_new(Arc::clone(&SCHEMA), columns).map_err(Error::internal)
}
