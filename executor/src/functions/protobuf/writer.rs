//! Writes a column of structs as Protobuf messages: plain, or with their schema's id in a registry.

use super::descriptor;
use super::options::Options;
use super::shape::Message;
use crate::functions::avro::types::plain;
use crate::functions::bind::Bound;
use crate::functions::ddl;
use crate::functions::records::RecordWriter;
use crate::registry::{Definition, Kind, Registry, wait, wire};
use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use headwater_proto::error::{Error, Result};
use prost::Message as _;
use std::sync::OnceLock;

/// Writes messages.
#[derive(Debug)]
pub struct Writer {
    message: Message,
    options: Options,
    /// With the indexes of the message in its file.
    registry: Option<(Registry, Vec<usize>)>,
    id: OnceLock<u32>,
}

impl Writer {
    /// A writer of the message `name`, empty for the first, of a descriptor set.
    ///
    /// # Errors
    /// Descriptors that are none, no such message, a registry without what it needs.
    pub fn new(name: &str, descriptors: &[u8], options: &Options) -> Result<Self> {
        let pool = descriptor::pool(descriptors)?;
        let found = descriptor::message(&pool, name)?;
        let message = Message::new(&found, options)?;
        let registry = match &options.registry {
            None => None,
            Some(config) => {
                if options.subject.is_none() || (options.schema_id.is_none() && options.text.is_none()) {
                    return Err(Error::invalid(
                        "SCHEMA_REGISTRY_CONFIGURATION_ERROR",
                        "to_protobuf: a registry takes its schema as text: leave the descriptors out, and set \
                         schema.registry.subject, and schema.registry.schema when the subject has none yet",
                    ));
                }
                if descriptor::main_file(&pool).as_ref() != Some(&found.parent_file()) {
                    return Err(Error::invalid(
                        "PROTOBUF_MESSAGE_NOT_FOUND",
                        format!("to_protobuf: message {name} is imported by the subject's schema, and not its own"),
                    ));
                }
                Some((Registry::of(config)?, descriptor::indexes(&found)))
            }
        };
        Ok(Self { message, options: options.clone(), registry, id: OnceLock::new() })
    }

    /// The writer of a call of `to_protobuf`.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn of(bound: &Bound) -> Result<Self> {
        let options = Options::parse("to_protobuf", &bound.options()?)?;
        let Some(descriptors) = bound.descriptor.as_deref() else {
            return Err(Error::internal("to_protobuf was planned without descriptors"));
        };
        Self::new(bound.schema.as_deref().unwrap_or_default(), descriptors, &options)
    }
}

impl RecordWriter for Writer {
    fn check(&self, data_type: &DataType) -> Result<()> {
        match plain(data_type) {
            DataType::Struct(fields) => self.message.columns(&fields, "").map(drop).map_err(|why| incompatible(&why)),
            DataType::Null => Ok(()),
            _ => Err(Error::invalid(
                "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
                format!("to_protobuf writes STRUCT, not {}: wrap it in struct(…)", ddl::type_name(data_type)),
            )),
        }
    }

    fn write(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let wanted = plain(array.data_type());
        let mut rows = BinaryBuilder::with_capacity(array.len(), array.len() * 64);
        let DataType::Struct(fields) = &wanted else {
            rows.append_nulls(array.len());
            return Ok(std::sync::Arc::new(rows.finish()));
        };
        let array =
            if *array.data_type() == wanted { array.clone() } else { cast(array, &wanted).map_err(Error::internal)? };
        let columns = self.message.columns(fields, "").map_err(|why| incompatible(&why))?;
        let mut head = vec![];
        if let Some((registry, indexes)) = &self.registry {
            head.extend(wire::header(self.id(registry)?));
            wire::push_indexes(indexes, &mut head);
        }
        let structs = array.as_struct();
        let mut record = Vec::with_capacity(256);
        let mut total = 0_usize;
        for row in 0..structs.len() {
            if structs.is_null(row) {
                rows.append_null();
                continue;
            }
            record.clear();
            record.extend_from_slice(&head);
            let message = self.message.message(structs, row, &columns).map_err(|why| incompatible(&why))?;
            message.encode(&mut record).map_err(Error::internal)?;
            total += record.len();
            if i32::try_from(total).is_err() {
                return Err(Error::invalid(
                    "PROTOBUF_COLUMN_TOO_LARGE",
                    "to_protobuf made more than 2 GiB from one batch: read smaller batches",
                ));
            }
            rows.append_value(&record);
        }
        Ok(std::sync::Arc::new(rows.finish()))
    }
}

impl Writer {
    /// The schema's id: that of the plan, or of the text that is registered or looked up once.
    fn id(&self, registry: &Registry) -> Result<u32> {
        if let Some(id) = self.options.schema_id.or(self.id.get().copied()) {
            return Ok(id);
        }
        let (Some(text), Some(subject)) = (self.options.text.clone(), self.options.subject.clone()) else {
            return Err(Error::internal("to_protobuf has neither a schema's id nor its text"));
        };
        let (registry, definition) = (registry.clone(), Definition::new(Kind::Protobuf, text));
        let id = if self.options.auto_register {
            wait(async move { registry.register(&subject, &definition).await })?
        } else {
            wait(async move { registry.lookup(&subject, &definition).await })?
        };
        Ok(*self.id.get_or_init(|| id))
    }
}

fn incompatible(why: &str) -> Error {
    Error::invalid("CANNOT_CONVERT_SQL_TYPE_TO_PROTOBUF_FIELD_TYPE", format!("to_protobuf: {why}"))
}
