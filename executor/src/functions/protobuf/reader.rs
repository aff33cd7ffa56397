//! Reads a column of Protobuf messages: plain ones, or a registry's, of which each names its schema and message.

use super::descriptor;
use super::options::Options;
use super::shape::Message;
use crate::functions::avro::options::{Evolution, Mode};
use crate::functions::avro::restart_if_newer;
use crate::functions::bind::Bound;
use crate::functions::records::RecordReader;
use crate::registry::{Kind, Registry, wait, wire};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use headwater_proto::error::{Error, ErrorKind, Result};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Whether records of a schema and with these indexes are the message that is asked for.
type Checked = std::result::Result<(), String>;

/// Schemas and messages whose check a reader keeps.
const CHECKED_MAX: usize = 1_000;

/// Reads messages into one type.
#[derive(Debug)]
pub struct Reader {
    message: Message,
    pool: DescriptorPool,
    data_type: DataType,
    mode: Mode,
    registry: Option<Source>,
}

#[derive(Debug)]
struct Source {
    registry: Registry,
    subject: Option<String>,
    planned: Option<u32>,
    evolution: Evolution,
    checked: Mutex<HashMap<(u32, Vec<usize>), Checked>>,
}

impl Reader {
    /// A reader for the message `name`, empty for the first, of a descriptor set.
    ///
    /// # Errors
    /// Descriptors that are none, no such message, types that Spark SQL does not have.
    pub fn new(name: &str, descriptors: &[u8], options: &Options) -> Result<Self> {
        let pool = descriptor::pool(descriptors)?;
        let message = Message::new(&descriptor::message(&pool, name)?, options)?;
        let source = |config| -> Result<Source> {
            Ok(Source {
                registry: Registry::of(config)?,
                subject: options.subject.clone(),
                planned: options.schema_id,
                evolution: options.evolution,
                checked: Mutex::default(),
            })
        };
        let registry = options.registry.as_ref().map(source).transpose()?;
        Ok(Self { data_type: message.data_type(), message, pool, mode: options.mode, registry })
    }

    /// The reader of a call of `from_protobuf`.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn of(bound: &Bound) -> Result<Self> {
        let options = Options::parse("from_protobuf", &bound.options()?)?;
        let Some(descriptors) = bound.descriptor.as_deref() else {
            return Err(Error::internal("from_protobuf was planned without descriptors"));
        };
        Self::new(bound.schema.as_deref().unwrap_or_default(), descriptors, &options)
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
        let mut messages = Vec::with_capacity(rows.len());
        let mut last = None;
        for bytes in rows {
            let Some(bytes) = bytes else {
                messages.push(None);
                continue;
            };
            let decoded = match &self.registry {
                None => self.decode(bytes),
                Some(source) => match self.body(source, bytes, &mut last)? {
                    Ok(body) => self.decode(body),
                    Err(why) => Err(why),
                },
            };
            match decoded {
                Ok(message) => messages.push(Some(message)),
                // As in Spark, a struct of nulls.
                Err(_) if self.mode == Mode::Permissive => messages.push(None),
                Err(why) => return Err(malformed(&why)),
            }
        }
        let messages: Vec<Option<&DynamicMessage>> = messages.iter().map(Option::as_ref).collect();
        let valid = binary.nulls().map(|nulls| NullBuffer::new(nulls.inner().clone()));
        self.message.column(&messages, valid)
    }
}

impl Reader {
    fn decode(&self, bytes: &[u8]) -> Result<DynamicMessage, String> {
        DynamicMessage::decode(self.message.descriptor.clone(), bytes).map_err(|error| error.to_string())
    }

    /// The message behind schema id and indexes.
    fn body<'a>(
        &self,
        source: &Source,
        bytes: &'a [u8],
        last: &mut Option<((u32, Vec<usize>), Checked)>,
    ) -> Result<std::result::Result<&'a [u8], String>> {
        let Some((id, rest)) = wire::split(bytes) else {
            return Ok(Err("it does not begin as records of a schema registry do, with 0 and an id".into()));
        };
        let Some((indexes, body)) = wire::split_indexes(rest) else {
            return Ok(Err("its message indexes cannot be read".into()));
        };
        let key = (id, indexes);
        if last.as_ref().is_none_or(|(known, _)| *known != key) {
            let checked = self.check(source, &key)?;
            *last = Some((key, checked));
        }
        Ok(match last {
            Some((_, Err(why))) => Err(why.clone()),
            _ => Ok(body),
        })
    }

    fn check(&self, source: &Source, key: &(u32, Vec<usize>)) -> Result<Checked> {
        if let Some(known) = source.checked.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Ok(known.clone());
        }
        let (id, indexes) = key;
        let own = source.planned == Some(*id);
        if source.evolution == Evolution::Restart
            && let (Some(planned), Some(subject), false) = (source.planned, &source.subject, own)
        {
            restart_if_newer(&source.registry, subject, planned)?;
        }
        let found = if own {
            Ok(at(&self.pool, indexes))
        } else {
            let (registry, id) = (source.registry.clone(), *id);
            match wait(async move { registry.by_id(id).await }) {
                // A bad record. Not kept: the id may be registered yet.
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(Err(error.message)),
                Err(error) => return Err(error),
                Ok(schema) if schema.kind != Kind::Protobuf => {
                    Err(format!("schema {id} is a {} schema, not a Protobuf one", schema.kind))
                }
                Ok(schema) => {
                    let compiled = descriptor::compile(&schema.text, &schema.references);
                    let pool = compiled.and_then(|bytes| descriptor::pool(&bytes));
                    pool.map(|pool| at(&pool, indexes)).map_err(|error| error.message)
                }
            }
        };
        let wanted = self.message.descriptor.full_name();
        let checked = found.and_then(|found| match found {
            Some(message) if message.full_name() == wanted => Ok(()),
            Some(message) => Err(format!("it is message {}, not {wanted}", message.full_name())),
            None => Err(format!("schema {id} has no message at {indexes:?}")),
        });
        let mut known = source.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CHECKED_MAX {
            known.clear();
        }
        known.insert(key.clone(), checked.clone());
        Ok(checked)
    }
}

fn at(pool: &DescriptorPool, indexes: &[usize]) -> Option<MessageDescriptor> {
    descriptor::message_at(&descriptor::main_file(pool)?, indexes)
}

fn malformed(why: &str) -> Error {
    Error::invalid(
        "MALFORMED_PROTOBUF_MESSAGE",
        format!(
            "a malformed Protobuf message is met in mode FAILFAST: {why}; to get null in its place, set the option \
             'mode' to 'PERMISSIVE'"
        ),
    )
}
