//! Protobuf's types and Spark's, and values from one to the other.

use super::options::Options;
use crate::functions::ddl;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, DurationMicrosecondArray, Float32Array,
    Float64Array, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Field, Fields, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use headwater_proto::error::{Error, Result};
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// The one field that a struct without fields has when it is to be kept.
const DUMMY: &str = "__dummy_field_in_empty_struct";

/// What a field is in Spark.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Boolean,
    Int,
    Long,
    /// Of a uint64.
    Decimal,
    Float,
    Double,
    Text,
    Bytes,
    Symbol(EnumDescriptor),
    Timestamp(MessageDescriptor),
    Duration(MessageDescriptor),
    /// The value of a wrapper.
    Wrapped(MessageDescriptor, Box<Shape>),
    Message(Box<Message>),
    List(Box<Shape>),
    Map(Box<Shape>, Box<Shape>),
}

/// What a message is in Spark.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub descriptor: MessageDescriptor,
    pub fields: Vec<(FieldDescriptor, Shape)>,
    emit_defaults: bool,
}

impl Message {
    /// # Errors
    /// Messages inside themselves, where that is not allowed; no fields at all.
    pub fn new(descriptor: &MessageDescriptor, options: &Options) -> Result<Self> {
        let message = Self::inside(descriptor, options, &mut vec![])?;
        if message.fields.is_empty() && !options.retain_empty {
            return Err(Error::invalid(
                "PROTOBUF_TYPE_NOT_SUPPORT_ERROR",
                format!("message {} has no fields that Spark SQL has types for", descriptor.full_name()),
            ));
        }
        Ok(message)
    }

    fn inside(descriptor: &MessageDescriptor, options: &Options, outer: &mut Vec<String>) -> Result<Self> {
        outer.push(descriptor.full_name().to_string());
        let mut fields = vec![];
        for field in descriptor.fields() {
            let single = if field.is_map() {
                let Kind::Message(entry) = field.kind() else { continue };
                let key = shape(&entry.map_entry_key_field().kind(), options, outer)?;
                let value = shape(&entry.map_entry_value_field().kind(), options, outer)?;
                key.zip(value).map(|(key, value)| Shape::Map(Box::new(key), Box::new(value)))
            } else {
                let single = shape(&field.kind(), options, outer)?;
                if field.is_list() { single.map(|single| Shape::List(Box::new(single))) } else { single }
            };
            fields.extend(single.map(|shape| (field, shape)));
        }
        outer.pop();
        Ok(Self { descriptor: descriptor.clone(), fields, emit_defaults: options.emit_defaults })
    }

    pub fn data_type(&self) -> DataType {
        if self.fields.is_empty() {
            return DataType::Struct(vec![Field::new(DUMMY, DataType::Utf8, true)].into());
        }
        let fields = self.fields.iter().map(|(field, shape)| Field::new(field.name(), shape.data_type(), true));
        DataType::Struct(fields.collect())
    }

    /// A column of structs.
    pub fn column(&self, rows: &[Option<&DynamicMessage>], valid: Option<NullBuffer>) -> Result<ArrayRef> {
        let DataType::Struct(fields) = self.data_type() else {
            return Err(Error::internal("a message is no struct"));
        };
        if self.fields.is_empty() {
            let nulls = arrow::array::new_null_array(&DataType::Utf8, rows.len());
            return Ok(Arc::new(StructArray::try_new(fields, vec![nulls], valid).map_err(Error::internal)?));
        }
        let columns = self.fields.iter().map(|(field, shape)| {
            let values = rows.iter().map(|row| row.and_then(|message| self.value(message, field))).collect();
            shape.column(values)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(StructArray::try_new(fields, columns, valid).map_err(Error::internal)?))
    }

    /// As in Spark: a field that is not there is null, unless it has a default that says what it means.
    fn value<'a>(&self, message: &'a DynamicMessage, field: &FieldDescriptor) -> Option<Cow<'a, Value>> {
        let present = field.is_list()
            || field.is_map()
            || message.has_field(field)
            || field.field_descriptor_proto().default_value.is_some()
            || (!field.supports_presence() && self.emit_defaults);
        present.then(|| message.get_field(field))
    }

    /// Sets fields from a row of structs.
    ///
    /// # Errors
    /// Values that a field does not take.
    pub fn message(&self, array: &StructArray, row: usize, columns: &Columns) -> Result<DynamicMessage, String> {
        let mut message = DynamicMessage::new(self.descriptor.clone());
        for ((field, shape), column) in self.fields.iter().zip(&columns.0) {
            let Some((index, inner)) = column else { continue };
            let column = array.column(*index);
            if column.is_null(row) {
                if field.is_required() {
                    return Err(format!("required field `{}` is null", field.full_name()));
                }
                continue;
            }
            let value = shape.value(column, row, inner).map_err(|why| format!("field `{}`: {why}", field.name()))?;
            let value = fitted_field(value, field);
            message.try_set_field(field, value).map_err(|error| format!("field `{}`: {error}", field.name()))?;
        }
        Ok(message)
    }

    /// Which column is which field.
    ///
    /// # Errors
    /// Columns without field, required fields without column, types that do not fit.
    pub fn columns(&self, fields: &Fields, path: &str) -> Result<Columns, String> {
        let join = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        let mut used = vec![false; fields.len()];
        let mut columns = Vec::with_capacity(self.fields.len());
        for (field, shape) in &self.fields {
            let exact = fields.iter().position(|column| column.name() == field.name());
            let found =
                exact.or_else(|| fields.iter().position(|column| column.name().eq_ignore_ascii_case(field.name())));
            columns.push(match found {
                Some(index) => {
                    used[index] = true;
                    Some((index, shape.columns(fields[index].data_type(), &join(field.name()))?))
                }
                None if field.is_required() => {
                    return Err(format!("required field `{}` has no column", join(field.name())));
                }
                None => None,
            });
        }
        match used.iter().position(|used| !used) {
            Some(extra) => Err(format!(
                "column `{}` has no field in message {}: leave it out, or add it to the schema",
                join(fields[extra].name()),
                self.descriptor.full_name()
            )),
            None => Ok(Columns(columns)),
        }
    }
}

/// Which column of a struct is which field of a message, and so on inside.
#[derive(Debug)]
pub(super) struct Columns(Vec<Option<(usize, Columns)>>);

fn shape(kind: &Kind, options: &Options, outer: &mut Vec<String>) -> Result<Option<Shape>> {
    Ok(Some(match kind {
        Kind::Bool => Shape::Boolean,
        Kind::Uint32 | Kind::Fixed32 if options.upcast_unsigned => Shape::Long,
        Kind::Uint64 | Kind::Fixed64 if options.upcast_unsigned => Shape::Decimal,
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => Shape::Int,
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => Shape::Long,
        Kind::Float => Shape::Float,
        Kind::Double => Shape::Double,
        Kind::String => Shape::Text,
        Kind::Bytes => Shape::Bytes,
        Kind::Enum(_) if options.enums_as_ints => Shape::Int,
        Kind::Enum(symbols) => Shape::Symbol(symbols.clone()),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => Shape::Timestamp(message.clone()),
            "google.protobuf.Duration" => Shape::Duration(message.clone()),
            name if options.unwrap && is_wrapper(name) => {
                let Some(value) = message.get_field_by_name("value") else { return Ok(None) };
                let Some(inner) = shape(&value.kind(), options, outer)? else { return Ok(None) };
                Shape::Wrapped(message.clone(), Box::new(inner))
            }
            name => {
                let depth = outer.iter().filter(|known| *known == name).count();
                if depth > 0 && options.depth_max == 0 {
                    return Err(Error::invalid(
                        "RECURSIVE_PROTOBUF_SCHEMA",
                        format!(
                            "message {name} contains itself, which Spark SQL has no type for: set the option \
                             recursive.fields.max.depth from 1 to 10"
                        ),
                    ));
                }
                if depth > 0 && depth >= options.depth_max {
                    return Ok(None);
                }
                let inner = Message::inside(message, options, outer)?;
                if inner.fields.is_empty() && !options.retain_empty {
                    return Ok(None);
                }
                Shape::Message(Box::new(inner))
            }
        },
    }))
}

fn is_wrapper(name: &str) -> bool {
    let kinds = ["Bool", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String", "Bytes"];
    name.strip_prefix("google.protobuf.")
        .and_then(|name| name.strip_suffix("Value"))
        .is_some_and(|kind| kinds.contains(&kind))
}

type Values<'a> = Vec<Option<Cow<'a, Value>>>;

impl Shape {
    fn data_type(&self) -> DataType {
        match self {
            Shape::Boolean => DataType::Boolean,
            Shape::Int => DataType::Int32,
            Shape::Long => DataType::Int64,
            Shape::Decimal => DataType::Decimal128(20, 0),
            Shape::Float => DataType::Float32,
            Shape::Double => DataType::Float64,
            Shape::Text | Shape::Symbol(_) => DataType::Utf8,
            Shape::Bytes => DataType::Binary,
            Shape::Timestamp(_) => ddl::timestamp(),
            Shape::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
            Shape::Wrapped(_, inner) => inner.data_type(),
            Shape::Message(message) => message.data_type(),
            Shape::List(item) => ddl::array_of(item.data_type()),
            Shape::Map(key, value) => ddl::map_of(key.data_type(), value.data_type()),
        }
    }

    fn column(&self, values: Values<'_>) -> Result<ArrayRef> {
        let whole = |value: &Value| match value {
            Value::I32(number) | Value::EnumNumber(number) => Some(i64::from(*number)),
            Value::I64(number) => Some(*number),
            Value::U32(number) => Some(i64::from(*number)),
            // Beyond what a BIGINT holds it wraps, as in Spark.
            Value::U64(number) => Some(*number as i64),
            _ => None,
        };
        let micros = |value: &Value| {
            let message = value.as_message()?;
            let seconds = message.get_field_by_name("seconds")?.as_i64()?;
            let nanos = message.get_field_by_name("nanos")?.as_i32()?;
            // What does not fit into 64 bits is centuries from now.
            Some(seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos).div_euclid(1000)))
        };
        fn each<'a, T>(
            values: &'a Values<'_>,
            read: impl Fn(&'a Value) -> Option<T>,
        ) -> impl Iterator<Item = Option<T>> {
            values.iter().map(move |value| value.as_deref().and_then(&read))
        }
        Ok(match self {
            Shape::Boolean => Arc::new(each(&values, Value::as_bool).collect::<BooleanArray>()),
            // An unsigned number beyond what an INT holds wraps, as in Spark.
            Shape::Int => Arc::new(each(&values, |value| Some(whole(value)? as i32)).collect::<Int32Array>()),
            Shape::Long => Arc::new(each(&values, whole).collect::<Int64Array>()),
            Shape::Decimal => {
                let numbers = each(&values, |value| Some(i128::from(value.as_u64()?))).collect::<Decimal128Array>();
                Arc::new(numbers.with_precision_and_scale(20, 0).map_err(Error::internal)?)
            }
            Shape::Float => Arc::new(each(&values, Value::as_f32).collect::<Float32Array>()),
            Shape::Double => Arc::new(each(&values, Value::as_f64).collect::<Float64Array>()),
            Shape::Text => Arc::new(each(&values, Value::as_str).collect::<StringArray>()),
            Shape::Bytes => {
                Arc::new(each(&values, |value| value.as_bytes().map(AsRef::<[u8]>::as_ref)).collect::<BinaryArray>())
            }
            Shape::Symbol(symbols) => {
                let names: HashMap<i32, String> =
                    symbols.values().map(|value| (value.number(), value.name().to_string())).collect();
                let name = |value: &Value| {
                    let number = value.as_enum_number()?;
                    let unknown = || format!("UNKNOWN_ENUM_VALUE_{}_{number}", symbols.name());
                    Some(names.get(&number).cloned().unwrap_or_else(unknown))
                };
                Arc::new(each(&values, name).collect::<StringArray>())
            }
            Shape::Timestamp(_) => {
                Arc::new(each(&values, micros).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
            Shape::Duration(_) => Arc::new(each(&values, micros).collect::<DurationMicrosecondArray>()),
            Shape::Wrapped(_, inner) => {
                let unwrapped = values.iter().map(|value| {
                    let message = value.as_deref()?.as_message()?;
                    message.get_field_by_name("value").map(|value| Cow::Owned(value.into_owned()))
                });
                inner.column(unwrapped.collect())?
            }
            Shape::Message(message) => {
                let rows: Vec<_> = each(&values, Value::as_message).collect();
                let valid = NullBuffer::from_iter(rows.iter().map(Option::is_some));
                message.column(&rows, Some(valid))?
            }
            Shape::List(item) => {
                let lists: Vec<Option<&[Value]>> = each(&values, Value::as_list).collect();
                let offsets = OffsetBuffer::<i32>::from_lengths(lists.iter().map(|list| list.map_or(0, <[_]>::len)));
                let valid = NullBuffer::from_iter(lists.iter().map(Option::is_some));
                let items = lists.into_iter().flatten().flatten().map(|value| Some(Cow::Borrowed(value))).collect();
                let field = Arc::new(Field::new_list_field(item.data_type(), true));
                Arc::new(ListArray::try_new(field, offsets, item.column(items)?, Some(valid)).map_err(Error::internal)?)
            }
            Shape::Map(key, value) => {
                let maps: Vec<Option<&HashMap<MapKey, Value>>> = each(&values, Value::as_map).collect();
                let offsets = OffsetBuffer::<i32>::from_lengths(maps.iter().map(|map| map.map_or(0, HashMap::len)));
                let valid = NullBuffer::from_iter(maps.iter().map(Option::is_some));
                let (mut keys, mut items) = (Values::new(), Values::new());
                for map in maps.into_iter().flatten() {
                    // In the order of keys: the same record is the same row.
                    let mut entries: Vec<_> = map.iter().collect();
                    entries.sort_unstable_by(|(one, _), (two, _)| one.cmp(two));
                    for (key, value) in entries {
                        keys.push(Some(Cow::Owned(key.clone().into())));
                        items.push(Some(Cow::Borrowed(value)));
                    }
                }
                let DataType::Map(field, _) = self.data_type() else { return Err(Error::internal("a map is no map")) };
                let DataType::Struct(pair) = field.data_type().clone() else {
                    return Err(Error::internal("entries of a map are no struct"));
                };
                let entries = StructArray::try_new(pair, vec![key.column(keys)?, value.column(items)?], None);
                let entries = entries.map_err(Error::internal)?;
                Arc::new(MapArray::try_new(field, offsets, entries, Some(valid), false).map_err(Error::internal)?)
            }
        })
    }

    /// Whether values of a type can be written as this.
    fn columns(&self, data_type: &DataType, path: &str) -> Result<Columns, String> {
        use DataType as T;
        let fits = match (self, data_type) {
            (_, T::Null) => true,
            (Shape::Boolean, T::Boolean)
            // SQL's whole numbers are often meant to be smaller than they are.
            | (Shape::Int | Shape::Long, T::Int8 | T::Int16 | T::Int32 | T::Int64)
            | (Shape::Decimal, T::Decimal128(_, 0))
            | (Shape::Float, T::Float32)
            | (Shape::Double, T::Float32 | T::Float64)
            | (Shape::Text | Shape::Symbol(_), T::Utf8)
            | (Shape::Symbol(_), T::Int32)
            | (Shape::Bytes, T::Binary)
            | (Shape::Timestamp(_), T::Timestamp(_, Some(_)))
            | (Shape::Duration(_), T::Duration(TimeUnit::Microsecond)) => true,
            (Shape::Wrapped(_, inner), other) => return inner.columns(other, path),
            (Shape::Message(message), T::Struct(fields)) => return message.columns(fields, path),
            (Shape::List(item), T::List(element)) => return item.columns(element.data_type(), path),
            (Shape::Map(key, value), T::Map(entries, _)) => match entries.data_type() {
                T::Struct(pair) if pair.len() == 2 => {
                    key.columns(pair[0].data_type(), path)?;
                    return value.columns(pair[1].data_type(), path);
                }
                _ => false,
            },
            _ => false,
        };
        if fits {
            return Ok(Columns(vec![]));
        }
        Err(format!(
            "field `{path}`: {} is not written as Protobuf's {}",
            ddl::type_name(data_type),
            ddl::simple_name(&self.data_type())
        ))
    }

    fn value(&self, array: &ArrayRef, row: usize, columns: &Columns) -> Result<Value, String> {
        let whole = || -> Option<i64> {
            Some(match array.data_type() {
                DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
                DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
                DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
                DataType::Int64 => array.as_primitive::<Int64Type>().value(row),
                _ => return None,
            })
        };
        let parts = |message: &MessageDescriptor, micros: i64, floor: bool| {
            // A timestamp's nanoseconds count up; a duration's have its sign.
            let (seconds, rest) = if floor {
                (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000))
            } else {
                (micros / 1_000_000, micros % 1_000_000)
            };
            let mut made = DynamicMessage::new(message.clone());
            made.set_field_by_name("seconds", Value::I64(seconds));
            made.set_field_by_name("nanos", Value::I32((rest * 1000) as i32));
            Value::Message(made)
        };
        let wrong = || "its type is not what the query was planned with".to_string();
        Ok(match self {
            Shape::Boolean => Value::Bool(array.as_boolean().value(row)),
            // The field's own type is settled by `fitted`.
            Shape::Int => {
                let number = whole().ok_or_else(wrong)?;
                match (i32::try_from(number), u32::try_from(number)) {
                    (Ok(number), _) => Value::I32(number),
                    (_, Ok(number)) => Value::U32(number),
                    _ => return Err(format!("{number} does not fit into 32 bits")),
                }
            }
            Shape::Long => Value::I64(whole().ok_or_else(wrong)?),
            Shape::Decimal => {
                let number = array.as_primitive::<Decimal128Type>().value(row);
                Value::U64(u64::try_from(number).map_err(|_| format!("{number} is no unsigned 64-bit number"))?)
            }
            Shape::Float => Value::F32(array.as_primitive::<Float32Type>().value(row)),
            Shape::Double => match array.data_type() {
                DataType::Float32 => Value::F64(array.as_primitive::<Float32Type>().value(row).into()),
                _ => Value::F64(array.as_primitive::<Float64Type>().value(row)),
            },
            Shape::Text => Value::String(array.as_string::<i32>().value(row).to_string()),
            Shape::Bytes => Value::Bytes(array.as_binary::<i32>().value(row).to_vec().into()),
            Shape::Symbol(symbols) => match array.data_type() {
                DataType::Utf8 => {
                    let name = array.as_string::<i32>().value(row);
                    let symbol = symbols.get_value_by_name(name);
                    let symbol =
                        symbol.ok_or_else(|| format!("{name:?} is no value of enum {}", symbols.full_name()))?;
                    Value::EnumNumber(symbol.number())
                }
                _ => Value::EnumNumber(i32::try_from(whole().ok_or_else(wrong)?).map_err(|_| wrong())?),
            },
            Shape::Timestamp(message) => {
                parts(message, array.as_primitive::<TimestampMicrosecondType>().value(row), true)
            }
            Shape::Duration(message) => {
                parts(message, array.as_primitive::<DurationMicrosecondType>().value(row), false)
            }
            Shape::Wrapped(message, inner) => {
                let mut made = DynamicMessage::new(message.clone());
                if let Some(field) = message.get_field_by_name("value") {
                    let value = fitted(inner.value(array, row, columns)?, &field.kind());
                    made.set_field(&field, value);
                }
                Value::Message(made)
            }
            Shape::Message(message) => Value::Message(message.message(array.as_struct(), row, columns)?),
            Shape::List(item) => {
                let values = array.as_list::<i32>().value(row);
                let nulls = "an array has a null, which Protobuf has not";
                let values = (0..values.len()).map(|at| {
                    if values.is_null(at) { Err(nulls.to_string()) } else { item.value(&values, at, columns) }
                });
                Value::List(values.collect::<Result<_, _>>()?)
            }
            Shape::Map(key, value) => {
                let entries = array.as_map().value(row);
                let (keys, values) = (entries.column(0), entries.column(1));
                let none = Columns(vec![]);
                let pairs = (0..entries.len()).map(|at| {
                    if values.is_null(at) {
                        return Err("a map has a null, which Protobuf has not".to_string());
                    }
                    let name = key.value(keys, at, &none)?.into_map_key().ok_or_else(wrong)?;
                    Ok((name, value.value(values, at, columns)?))
                });
                Value::Map(pairs.collect::<Result<_, _>>()?)
            }
        })
    }
}

/// A number in the form that a field of this kind takes.
pub(super) fn fitted(value: Value, kind: &Kind) -> Value {
    match (kind, value) {
        (Kind::Uint32 | Kind::Fixed32, Value::I32(number)) => Value::U32(number as u32),
        // Where unsigned numbers are read as BIGINT. What is too large stays, and is refused.
        (Kind::Uint32 | Kind::Fixed32, Value::I64(number)) => {
            u32::try_from(number).map_or(Value::I64(number), Value::U32)
        }
        (Kind::Uint64 | Kind::Fixed64, Value::I64(number)) => Value::U64(number as u64),
        (Kind::Enum(_), Value::I32(number)) => Value::EnumNumber(number),
        (_, value) => value,
    }
}

/// The same for all values of a field.
pub(super) fn fitted_field(value: Value, field: &FieldDescriptor) -> Value {
    match (field.kind(), value) {
        (Kind::Message(entry), Value::Map(pairs)) if field.is_map() => {
            let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            let pairs = pairs.into_iter().filter_map(|(key, value)| {
                let key = fitted(Value::from(key), &key_kind).into_map_key()?;
                Some((key, fitted(value, &value_kind)))
            });
            Value::Map(pairs.collect())
        }
        (kind, Value::List(items)) => Value::List(items.into_iter().map(|item| fitted(item, &kind)).collect()),
        (kind, value) => fitted(value, &kind),
    }
}
