//! Reads a column of Avro records: plain ones of one schema, or a registry's, of which each names its own.

use super::decode;
use super::options::{Evolution, Mode, Options};
use super::resolve::{Step, resolve};
use super::schema::Schema;
use super::types::to_arrow;
use crate::functions::bind::Bound;
use crate::functions::json::columns::Column;
use crate::functions::records::RecordReader;
use crate::registry::{Kind, Registry, wait, wire};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use headwater_proto::error::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How records of one schema are read, or why they cannot be.
type Plan = std::result::Result<Arc<Step>, String>;

/// Schemas whose steps a reader keeps.
const PLANS_MAX: usize = 1_000;

/// Reads records into one type.
#[derive(Debug)]
pub struct Reader {
    schema: Schema,
    data_type: DataType,
    mode: Mode,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Records as they are.
    Plain(Plan),
    /// Records in Confluent's wire format.
    Registry {
        registry: Registry,
        subject: Option<String>,
        planned: Option<u32>,
        evolution: Evolution,
        plans: Mutex<HashMap<u32, Plan>>,
    },
}

impl Reader {
    /// A reader for records of the schema `text`, or for those of a registry into that schema.
    ///
    /// # Errors
    /// Schemas that are none, or that Spark SQL has no type for.
    pub fn new(text: &str, options: &Options) -> Result<Self> {
        let invalid = |error: String| Error::invalid("AVRO_INCOMPATIBLE_SCHEMA", format!("from_avro: {error}"));
        let given = Schema::parse(text, &options.references).map_err(invalid)?;
        let schema = match &options.reader_schema {
            Some(text) => Schema::parse(text, &[]).map_err(invalid)?,
            None => given.clone(),
        };
        let data_type = to_arrow(&schema, &options.members).map_err(invalid)?;
        // Whether there are columns for it.
        Column::new(&data_type, 0)?;
        let source = match &options.registry {
            None => Source::Plain(Ok(Arc::new(resolve(&given, &schema).map_err(invalid)?))),
            Some(config) => Source::Registry {
                registry: Registry::of(config)?,
                subject: options.subject.clone(),
                planned: options.schema_id,
                evolution: options.evolution,
                plans: Mutex::default(),
            },
        };
        Ok(Self { schema, data_type, mode: options.mode, source })
    }

    /// The reader of a call of `from_avro`.
    ///
    /// # Errors
    /// Those of [`Self::new`]; no schema.
    pub fn of(bound: &Bound) -> Result<Self> {
        let options = Options::parse("from_avro", &bound.options()?)?;
        let Some(schema) = bound.schema.as_deref() else {
            return Err(Error::invalid(
                "INVALID_SCHEMA.NON_STRING_LITERAL",
                "from_avro needs its schema as a string literal in Avro's JSON, or a subject and the address of a registry",
            ));
        };
        Self::new(schema, &options)
    }
}

impl RecordReader for Reader {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }

    fn read(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let binary = match array.data_type() {
            DataType::Binary => array.clone(),
            _ => cast(array, &DataType::Binary).map_err(Error::internal)?,
        };
        let rows: &BinaryArray = binary.as_binary();
        let mut column = Column::new(&self.data_type, rows.len())?;
        let mut last: Option<(u32, Plan)> = None;
        for (row, bytes) in rows.iter().enumerate() {
            let Some(bytes) = bytes else {
                column.push_null();
                continue;
            };
            let read = match &self.source {
                Source::Plain(plan) => into(plan, bytes, &mut column),
                Source::Registry { .. } => match wire::split(bytes) {
                    None => Err("it does not begin as records of a schema registry do, with 0 and an id".to_string()),
                    Some((id, bytes)) => {
                        if last.as_ref().is_none_or(|(known, _)| *known != id) {
                            last = Some((id, self.plan(id)?));
                        }
                        match &last {
                            Some((_, plan)) => {
                                into(plan, bytes, &mut column).map_err(|why| format!("schema {id}: {why}"))
                            }
                            None => Err(String::new()),
                        }
                    }
                },
            };
            let Err(why) = read else { continue };
            if self.mode == Mode::FailFast {
                return Err(malformed(&why));
            }
            column.truncate(row);
            match &mut column {
                // As in Spark, a struct of nulls.
                Column::Struct(record) => record.end_record(),
                column => column.push_null(),
            }
        }
        column.finish()
    }
}

impl Reader {
    /// How records of this schema are read. Asks the registry the first time.
    fn plan(&self, id: u32) -> Result<Plan> {
        let Source::Registry { registry, subject, planned, evolution, plans } = &self.source else {
            return Err(Error::internal("a schema's id where there is no registry"));
        };
        if let Some(known) = plans.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(known.clone());
        }
        if *evolution == Evolution::Restart
            && let (Some(planned), Some(subject)) = (*planned, subject)
            && id != planned
        {
            restart_if_newer(registry, subject, planned)?;
        }
        let schema = match registry.cached(id) {
            Ok(Some(schema)) => Ok(schema),
            Ok(None) => {
                let registry = registry.clone();
                wait(async move { registry.by_id(id).await })
            }
            Err(error) => Err(error),
        };
        let plan = match schema {
            // A bad record. Not kept: the id may be registered yet.
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Err(error.message)),
            Err(error) => return Err(error),
            Ok(schema) if schema.kind != Kind::Avro => Err(format!("it is a {} schema, not an Avro one", schema.kind)),
            Ok(schema) => Schema::parse(&schema.text, &schema.references)
                .and_then(|writer| resolve(&writer, &self.schema))
                .map(Arc::new),
        };
        let mut plans = plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= PLANS_MAX {
            plans.clear();
        }
        plans.insert(id, plan.clone());
        Ok(plan)
    }
}

/// With evolution mode `restart`, a subject that has a newer schema than the plan ends the batch: the query is planned
/// again, and the same records are read again into the new schema.
///
/// # Errors
/// `UNKNOWN_FIELD_EXCEPTION`, transient, when there is a newer schema.
pub(crate) fn restart_if_newer(registry: &Registry, subject: &str, planned: u32) -> Result<()> {
    let (asked, name) = (registry.clone(), subject.to_string());
    let latest = wait(async move { asked.latest(&name).await })?;
    if latest.id == planned {
        return Ok(());
    }
    Err(Error::transient(
        "UNKNOWN_FIELD_EXCEPTION.SCHEMA_EVOLVED",
        format!(
            "subject {subject} has schema {} now, and the query was planned with schema {planned}: it is planned again, \
             as avroSchemaEvolutionMode asks",
            latest.id
        ),
    ))
}

fn into(plan: &Plan, bytes: &[u8], column: &mut Column) -> std::result::Result<(), String> {
    let step = plan.as_ref().map_err(Clone::clone)?;
    decode::read(step, bytes, column).map_err(|malformed| malformed.0.into_owned())
}

fn malformed(why: &str) -> Error {
    Error::invalid(
        "MALFORMED_AVRO_MESSAGE",
        format!(
            "a malformed Avro message is met in mode FAILFAST: {why}; to get null in its place, set the option 'mode' to \
             'PERMISSIVE'"
        ),
    )
}
