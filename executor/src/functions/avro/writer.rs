//! Writes a column as Avro records: plain, or with the id of their schema in a registry.

use super::encode::Encoder;
use super::options::Options;
use super::resolve::{gap, resolve};
use super::schema::Schema;
use super::types::{Naming, from_arrow, plain};
use crate::functions::bind::Bound;
use crate::functions::records::RecordWriter;
use crate::registry::{Definition, Kind, Registry, wait, wire};
use arrow::array::{Array, ArrayRef, BinaryBuilder};
use arrow::datatypes::DataType;
use headwater_proto::error::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// Writes records.
#[derive(Debug)]
pub struct Writer {
    given: Option<(Schema, String)>,
    options: Options,
    registry: Option<Registry>,
    /// The schema derived from this type, with its id.
    derived: Mutex<Option<(DataType, Arc<Target>)>>,
}

#[derive(Debug)]
struct Target {
    schema: Schema,
    id: Option<u32>,
}

impl Writer {
    /// A writer by the schema `text`; empty: by one that is derived from the column's type.
    ///
    /// # Errors
    /// A schema that is none, a registry without a subject.
    pub fn new(text: &str, options: &Options) -> Result<Self> {
        let text = options.reader_schema.as_deref().unwrap_or(text);
        let given = match text {
            "" => None,
            text => Some((
                Schema::parse(text, &options.references).map_err(|error| incompatible(&error))?,
                text.to_string(),
            )),
        };
        let registry = options.registry.as_ref().map(Registry::of).transpose()?;
        if registry.is_some() && options.subject.is_none() {
            return Err(Error::invalid(
                "SCHEMA_REGISTRY_CONFIGURATION_ERROR",
                "to_avro: no subject is named: set the option schema.registry.subject, such as topic-value",
            ));
        }
        Ok(Self { given, options: options.clone(), registry, derived: Mutex::default() })
    }

    /// The writer of a call of `to_avro`.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn of(bound: &Bound) -> Result<Self> {
        let options = Options::parse("to_avro", &bound.options()?)?;
        Self::new(bound.schema.as_deref().unwrap_or_default(), &options)
    }
}

impl RecordWriter for Writer {
    fn check(&self, data_type: &DataType) -> Result<()> {
        let empty = arrow::array::new_empty_array(data_type);
        let schema = match &self.given {
            Some((schema, _)) => schema.clone(),
            None => self.derive(data_type)?.0,
        };
        Encoder::new(&empty, &schema).map_err(|error| incompatible(&error))?;
        Ok(())
    }

    fn write(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let target = self.target(array.data_type())?;
        let encoder = Encoder::new(array, &target.schema).map_err(|error| incompatible(&error))?;
        let nulls = array.logical_nulls();
        let mut rows = BinaryBuilder::with_capacity(array.len(), array.len() * 64);
        let mut record = Vec::with_capacity(256);
        let mut total = 0_usize;
        for row in 0..array.len() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                rows.append_null();
                continue;
            }
            record.clear();
            if let Some(id) = target.id {
                record.extend(wire::header(id));
            }
            encoder.write(row, &mut record).map_err(|error| incompatible(&error))?;
            total += record.len();
            if i32::try_from(total).is_err() {
                return Err(Error::invalid(
                    "AVRO_COLUMN_TOO_LARGE",
                    "to_avro made more than 2 GiB from one batch: read smaller batches",
                ));
            }
            rows.append_value(&record);
        }
        Ok(Arc::new(rows.finish()))
    }
}

impl Writer {
    fn derive(&self, data_type: &DataType) -> Result<(Schema, String)> {
        let naming = Naming {
            record: &self.options.record_name,
            namespace: &self.options.record_namespace,
            null_first: self.registry.is_some(),
        };
        let text = from_arrow(&plain(data_type), naming).map_err(|error| incompatible(&error))?.to_string();
        let schema = Schema::parse(&text, &[]).map_err(|error| incompatible(&error))?;
        Ok((schema, text))
    }

    fn target(&self, data_type: &DataType) -> Result<Arc<Target>> {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, target)) = derived.as_ref()
            && (self.given.is_some() || known == data_type)
        {
            return Ok(Arc::clone(target));
        }
        let (schema, text) = match &self.given {
            Some(given) => given.clone(),
            None => self.derive(data_type)?,
        };
        let id = match (&self.registry, self.options.schema_id) {
            (None, _) => None,
            (Some(_), Some(id)) => Some(id),
            (Some(registry), None) => Some(self.id(registry, &schema, text)?),
        };
        let target = Arc::new(Target { schema, id });
        *derived = Some((data_type.clone(), Arc::clone(&target)));
        Ok(target)
    }

    fn id(&self, registry: &Registry, schema: &Schema, text: String) -> Result<u32> {
        let subject = self.options.subject.clone().unwrap_or_default();
        let register = self.options.auto_register;
        let (asked, definition) = (registry.clone(), Definition::new(Kind::Avro, text));
        let schema = schema.clone();
        wait(async move {
            let found = if register {
                asked.register(&subject, &definition).await
            } else {
                asked.lookup(&subject, &definition).await
            };
            match found {
                Err(error) if error.class == "SCHEMA_REGISTRY_INCOMPATIBLE_SCHEMA" => {
                    Err(explained(error, &asked, &subject, &schema).await)
                }
                found => found,
            }
        })
    }
}

/// Adds which field breaks which rule, by comparing with the latest version.
async fn explained(mut error: Error, registry: &Registry, subject: &str, schema: &Schema) -> Error {
    let Ok(latest) = registry.latest(subject).await else { return error };
    let Ok(latest) = Schema::parse(&latest.text, &latest.references) else { return error };
    let reasons = [
        ("BACKWARD: the new schema does not read older records", resolve(&latest, schema)),
        ("FORWARD: the registered schema does not read the new records", resolve(schema, &latest)),
    ];
    for (rule, outcome) in reasons {
        if let Some(why) = outcome.map_or_else(Some, |step| gap(&step)) {
            error.message = format!("{}; {rule}: {why}", error.message);
        }
    }
    error.message = format!("{}: give new fields a default, or use another subject", error.message);
    error
}

fn incompatible(error: &str) -> Error {
    Error::invalid("AVRO_INCOMPATIBLE_SCHEMA", format!("to_avro: {error}"))
}
