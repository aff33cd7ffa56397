//! Batch reads, the driver half: what the table looks like, which filters go down, and how the read is split.

use super::decode::arrow_type;
use super::options::TableOptions;
use super::pushdown::{Comparison, Predicate, Shape, choose, keys, predicate};
use super::scan::{Descriptor, ReaderConfig, Where};
use super::schema::{TableSchema, not_found, quoted};
use super::session::{Cluster, cluster};
use super::token_ranges::{SizeEstimate, split_count, splits, table_bytes};
use crate::connectors::DescriptorScan;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use headwater_proto::error::{Error, Result};
use scylla::response::query_result::QueryRowsResult;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A table that is read by token ranges or by keys.
#[derive(Debug)]
pub struct CassandraTable {
    cluster: Arc<Cluster>,
    options: TableOptions,
    table: TableSchema,
    schema: SchemaRef,
    /// What a query selects for each field of the schema.
    selected: Vec<String>,
    /// Columns with a secondary index.
    indexed: Vec<String>,
}

fn rows(result: scylla::response::query_result::QueryResult) -> Result<QueryRowsResult> {
    result.into_rows_result().map_err(Error::internal)
}

impl CassandraTable {
    /// Asks the cluster what the table looks like. `declared` columns must be there, and are then all there are.
    pub async fn open(options: TableOptions, declared: Option<SchemaRef>) -> Result<Self> {
        let cluster = cluster(&options.connection).await?;
        let Some(table) = cluster.table(&options.name, true).await? else {
            let types = BTreeMap::new();
            return Err(not_found(&options.name, &cluster.label, declared.as_deref(), None, &types, &[]));
        };
        let local = rows(cluster.run("SELECT partitioner FROM system.local", "read system.local").await?)?;
        let (partitioner,): (String,) = local.first_row().map_err(Error::internal)?;
        if !partitioner.ends_with("Murmur3Partitioner") {
            return Err(Error::invalid(
                "CASSANDRA_UNSUPPORTED_PARTITIONER",
                format!("cassandra {} uses {partitioner}; reads are split for Murmur3Partitioner alone", cluster.label),
            ));
        }
        let (all, all_selected) = (table.arrow(&options)?, table.selected(&options));
        let (schema, selected) = match declared.filter(|schema| !schema.fields().is_empty()) {
            None => (all, all_selected),
            Some(declared) => declared_columns(&table, &all, &all_selected, &declared)?,
        };
        let indexed = indexed_columns(&cluster, &table).await?;
        Ok(Self { cluster, options, table, schema, selected, indexed })
    }

    fn shape(&self) -> Shape<'_> {
        Shape { partition_key: &self.table.partition_key, clustering: &self.table.clustering, indexed: &self.indexed }
    }

    /// Predicates that go down, of all filters.
    fn pushed(&self, filters: &[&Expr]) -> Vec<(usize, Predicate)> {
        if !self.options.pushdown {
            return vec![];
        }
        let (places, predicates): (Vec<usize>, Vec<Predicate>) =
            filters.iter().enumerate().filter_map(|(at, filter)| Some((at, predicate(filter, &self.table)?))).unzip();
        choose(self.shape(), &predicates).into_iter().map(|at| (places[at], predicates[at].clone())).collect()
    }

    /// Bytes of the table, where the cluster has counted them.
    async fn bytes(&self) -> Result<Option<u64>> {
        let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let statement = format!(
            "SELECT range_start, range_end, mean_partition_size, partitions_count FROM system.size_estimates WHERE \
             keyspace_name = {} AND table_name = {}",
            literal(&self.options.name.keyspace),
            literal(&self.options.name.table)
        );
        let found = rows(self.cluster.run(&statement, "read system.size_estimates").await?)?;
        let mut estimates = vec![];
        for row in found.rows::<(&str, &str, i64, i64)>().map_err(Error::internal)? {
            let (from, until, partition_bytes, partitions) = row.map_err(Error::internal)?;
            if let (Ok(from), Ok(until)) = (from.parse(), until.parse()) {
                estimates.push(SizeEstimate { from, until, partition_bytes, partitions });
            }
        }
        Ok(table_bytes(&estimates))
    }
}

/// The columns that the user declared, in that order.
fn declared_columns(
    table: &TableSchema,
    all: &Schema,
    selected: &[String],
    declared: &Schema,
) -> Result<(SchemaRef, Vec<String>)> {
    let mut places = vec![];
    for field in declared.fields() {
        let found = all.fields().iter().position(|known| known.name() == field.name());
        match found {
            Some(at) if all.field(at).data_type().equals_datatype(field.data_type()) => places.push(at),
            Some(at) => {
                return Err(Error::invalid(
                    "INCOMPATIBLE_TABLE_SCHEMA",
                    format!(
                        "column {} of table {} is {}, not {} as declared: leave the columns out, they are read from cassandra",
                        field.name(),
                        table.name,
                        all.field(at).data_type(),
                        field.data_type()
                    ),
                ));
            }
            None => {
                let known: Vec<&str> = all.fields().iter().map(|known| known.name().as_str()).collect();
                return Err(Error::invalid(
                    "UNRESOLVED_COLUMN.WITH_SUGGESTION",
                    format!(
                        "Column(s) {} not found in table {}, which has {}",
                        field.name(),
                        table.name,
                        known.join(", ")
                    ),
                ));
            }
        }
    }
    let schema = all.project(&places).map_err(Error::internal)?;
    Ok((Arc::new(schema), places.into_iter().map(|at| selected[at].clone()).collect()))
}

/// Columns with an index that serves `=`.
async fn indexed_columns(cluster: &Cluster, table: &TableSchema) -> Result<Vec<String>> {
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let statement = format!(
        "SELECT options FROM system_schema.indexes WHERE keyspace_name = {} AND table_name = {}",
        literal(&table.name.keyspace),
        literal(&table.name.table)
    );
    let found = rows(cluster.run(&statement, "read system_schema.indexes").await?)?;
    let mut indexed = vec![];
    for row in found.rows::<(HashMap<String, String>,)>().map_err(Error::internal)? {
        let (options,) = row.map_err(Error::internal)?;
        if let Some(target) = options.get("target") {
            // `name`, or `"Name"`; `values(tags)` and the like serve no `=` on the column itself.
            indexed.push(target.trim_matches('"').replace("\"\"", "\""));
        }
    }
    indexed.retain(|column| table.column(column).is_some_and(|column| arrow_type(&column.cql).is_ok()));
    Ok(indexed)
}

/// Conditions beyond the partition key, as text and values.
pub fn condition(predicates: &[&Predicate]) -> Where {
    let mut conditions = vec![];
    let mut values = vec![];
    for predicate in predicates {
        let column = quoted(&predicate.column);
        conditions.push(match predicate.comparison {
            Comparison::In => format!("{column} IN ({})", vec!["?"; predicate.values.len()].join(", ")),
            comparison => format!("{column} {} ?", comparison.sign()),
        });
        values.extend(predicate.values.iter().cloned());
    }
    Where { conditions, values }
}

#[async_trait]
impl DescriptorScan for CassandraTable {
    fn format(&self) -> &'static str {
        super::FORMAT
    }
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    /// `Inexact`, all of them: a filter that went down is checked again, see [`super::pushdown`].
    fn supports_filters(&self, filters: &[&Expr]) -> Vec<TableProviderFilterPushDown> {
        let mut supports = vec![TableProviderFilterPushDown::Unsupported; filters.len()];
        for (at, _) in self.pushed(filters) {
            supports[at] = TableProviderFilterPushDown::Inexact;
        }
        supports
    }
    async fn plan(
        &self,
        _projection: Option<&[usize]>,
        filters: &[Expr],
        limit: Option<usize>,
        target_partitions: usize,
    ) -> Result<(String, Vec<String>)> {
        let pushed = self.pushed(&filters.iter().collect::<Vec<_>>());
        let predicates: Vec<&Predicate> = pushed.iter().map(|(_, predicate)| predicate).collect();
        let is_partition = |predicate: &&Predicate| self.table.partition_key.contains(&predicate.column);
        let partition: Vec<&Predicate> = self
            .table
            .partition_key
            .iter()
            .filter_map(|column| predicates.iter().find(|predicate| &predicate.column == column).copied())
            .collect();
        let keys = (!partition.is_empty()).then(|| keys(&partition, self.options.lookup_keys_max)).flatten();
        let mut rest: Vec<&Predicate> = predicates.iter().filter(|p| !is_partition(p)).copied().collect();
        let descriptors: Vec<Descriptor> = match keys {
            Some(keys) => {
                // A task's worth of lookups is worth a task.
                const KEYS_PER_TASK: usize = 64;
                let size = keys.len().div_ceil(target_partitions.max(1)).max(KEYS_PER_TASK);
                keys.chunks(size).map(Descriptor::keys).collect()
            }
            None => {
                // What stood on a whole partition key does not stand without it.
                rest.retain(|predicate| predicate.comparison != Comparison::In);
                let count = split_count(self.bytes().await?, self.options.read.split_bytes, target_partitions);
                splits(&self.cluster.ring(), count).into_iter().map(Descriptor::Ranges).collect()
            }
        };
        let config = ReaderConfig {
            connection: self.options.connection.clone(),
            name: self.options.name.clone(),
            read: self.options.read.clone(),
            selected: self.selected.clone(),
            partition_key: self.table.partition_key.clone(),
            filter: condition(&rest),
            // Filters may let too many rows through: only without any does a limit hold below them.
            limit: limit.filter(|_| filters.is_empty()),
        };
        let json = |value: serde_json::Result<String>| value.map_err(Error::internal);
        Ok((
            json(serde_json::to_string(&config))?,
            descriptors.iter().map(|descriptor| json(serde_json::to_string(descriptor))).collect::<Result<_>>()?,
        ))
    }
}
