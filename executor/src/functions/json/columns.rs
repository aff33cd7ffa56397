//! Columns under construction: what the parser appends to, one node per Arrow type, each of which can be cut back to
//! an earlier length so that a record that proves malformed leaves nothing behind. For JSON, and for Avro.

use super::keys::Keys;
use crate::functions::ddl::type_name;
use arrow::array::NullBufferBuilder;
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, MapArray, NullArray,
    PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};
use headwater_proto::error::{Error, Result};
use std::sync::Arc;

/// Most that is reserved for one column ahead of need: the first records may be larger than the rest.
const RESERVE_BYTES_MAX: usize = 16 << 20;

/// One column and, inside, its children.
pub(crate) enum Column {
    Text(Bytes),
    Boolean(Booleans),
    Int8(Numbers<i8>),
    Int16(Numbers<i16>),
    Int32(Numbers<i32>),
    Int64(Numbers<i64>),
    Float32(Numbers<f32>),
    Float64(Numbers<f64>),
    Decimal { numbers: Numbers<i128>, precision: u8, scale: i8 },
    Date(Numbers<i32>),
    Timestamp { numbers: Numbers<i64>, zone: Option<Arc<str>> },
    Binary(Bytes),
    Null(usize),
    Struct(Box<Record>),
    List(Box<List>),
    Map(Box<Map>),
}

/// Text or bytes of varying length.
pub(crate) struct Bytes {
    pub(crate) values: Vec<u8>,
    offsets: Vec<i32>,
    valid: NullBufferBuilder,
}

/// Truth values.
pub(crate) struct Booleans {
    values: BooleanBufferBuilder,
    valid: NullBufferBuilder,
}

/// Values of fixed width.
pub(crate) struct Numbers<T> {
    values: Vec<T>,
    valid: NullBufferBuilder,
}

/// A struct: the columns of its fields and how to find a field by key.
pub(crate) struct Record {
    fields: Fields,
    pub(crate) columns: Vec<Column>,
    /// Length of each column, so that finding out whether a field has been read costs no look into the column.
    pub(crate) filled: Vec<usize>,
    pub(crate) keys: Keys,
    pub(crate) len: usize,
    valid: NullBufferBuilder,
}

/// An array.
pub(crate) struct List {
    item: FieldRef,
    pub(crate) child: Column,
    /// Length of the child.
    pub(crate) child_len: usize,
    offsets: Vec<i32>,
    valid: NullBufferBuilder,
}

/// A map with keys of text.
pub(crate) struct Map {
    entries: FieldRef,
    pub(crate) keys: Bytes,
    pub(crate) values: Column,
    offsets: Vec<i32>,
    valid: NullBufferBuilder,
}

impl Bytes {
    fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { values: Vec::new(), offsets, valid: NullBufferBuilder::new(rows) }
    }
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }
    #[inline(always)]
    pub(crate) fn push(&mut self, value: &[u8]) {
        self.values.extend_from_slice(value);
        self.end_value();
    }
    /// What has been appended to `values` since the last value is one more.
    #[inline(always)]
    pub(crate) fn end_value(&mut self) {
        // Cannot be told from a right offset when it wraps; `finish` looks at the total.
        self.offsets.push(self.values.len() as i32);
        self.valid.append_non_null();
    }
    pub(crate) fn push_null(&mut self) {
        self.offsets.push(self.values.len() as i32);
        self.valid.append_null();
    }
    pub(crate) fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.values.truncate(self.offsets[len] as usize);
        self.valid.truncate(len);
    }
    fn finish(self) -> Result<(OffsetBuffer<i32>, Buffer, Option<NullBuffer>)> {
        offsets_fit(self.values.len())?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok((offsets, Buffer::from_vec(self.values), self.valid.build()))
    }
    fn finish_text(self) -> Result<StringArray> {
        let (offsets, values, nulls) = self.finish()?;
        // SAFETY: every value is a piece of valid UTF-8 input between ASCII delimiters, or characters encoded one by
        // one in place of escapes; what `avro` pushes it has checked; offsets ascend and end at the values' length, which fits i32.
        Ok(unsafe { StringArray::new_unchecked(offsets, values, nulls) })
    }
}

fn offsets_fit(total: usize) -> Result<()> {
    if i32::try_from(total).is_ok() {
        return Ok(());
    }
    Err(Error::invalid(
        "COLUMN_TOO_LARGE",
        "a function made more than 2 GiB of one column from one batch: read smaller batches",
    ))
}

impl<T: Copy> Numbers<T> {
    fn new(rows: usize) -> Self {
        Self { values: Vec::with_capacity(rows), valid: NullBufferBuilder::new(rows) }
    }
    #[inline(always)]
    pub(crate) fn push(&mut self, value: T) {
        self.values.push(value);
        self.valid.append_non_null();
    }
    fn push_null(&mut self, filler: T) {
        self.values.push(filler);
        self.valid.append_null();
    }
    fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.valid.truncate(len);
    }
    fn finish<A: ArrowPrimitiveType<Native = T>>(self) -> PrimitiveArray<A>
    where
        T: arrow::datatypes::ArrowNativeType,
    {
        PrimitiveArray::new(ScalarBuffer::from(self.values), self.valid.build())
    }
}

impl Booleans {
    pub(crate) fn push(&mut self, value: bool) {
        self.values.append(value);
        self.valid.append_non_null();
    }
}

impl Record {
    fn new(fields: &Fields, corrupt: Option<usize>, rows: usize) -> Result<Self> {
        let columns = fields.iter().map(|field| Column::new(field.data_type(), rows)).collect::<Result<Vec<_>>>()?;
        let names = fields.iter().enumerate().filter(|(index, _)| Some(*index) != corrupt);
        Ok(Self {
            fields: fields.clone(),
            filled: vec![0; columns.len()],
            columns,
            keys: Keys::new(names.map(|(index, field)| (index, field.name().as_str()))),
            len: 0,
            valid: NullBufferBuilder::new(rows),
        })
    }
    pub(crate) fn field_name(&self, index: usize) -> String {
        self.fields[index].name().clone()
    }
    /// Ends a record: fields that it did not have are null.
    #[inline]
    pub(crate) fn end_record(&mut self) {
        for (column, filled) in self.columns.iter_mut().zip(&mut self.filled) {
            if *filled == self.len {
                column.push_null();
                *filled += 1;
            }
        }
        self.len += 1;
        self.valid.append_non_null();
    }
    pub(crate) fn push_null(&mut self) {
        self.end_record();
        self.valid.truncate(self.len - 1);
        self.valid.append_null();
    }
    pub(crate) fn truncate(&mut self, len: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(len));
        self.filled.fill(len);
        self.len = len;
        self.valid.truncate(len);
    }
    /// Makes room for `rows` more records like those so far, so that long columns do not grow by copying.
    pub(crate) fn reserve_alike(&mut self, rows: usize) {
        for column in &mut self.columns {
            match column {
                Column::Text(bytes) | Column::Binary(bytes) if self.len > 0 => {
                    let more = bytes.values.len() * rows / self.len;
                    bytes.values.reserve((more + more / 16).min(RESERVE_BYTES_MAX));
                }
                Column::Struct(record) => record.reserve_alike(rows),
                _ => {}
            }
        }
    }
    fn finish(self) -> Result<ArrayRef> {
        let columns = self.columns.into_iter().map(Column::finish).collect::<Result<Vec<_>>>()?;
        let made = if columns.is_empty() {
            Ok(StructArray::new_empty_fields(self.len, self.valid.build()))
        } else {
            StructArray::try_new(self.fields, columns, self.valid.build())
        };
        made.map(|array| Arc::new(array) as ArrayRef).map_err(Error::internal)
    }
}

impl List {
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }
    /// The child's elements since the last value are one more.
    pub(crate) fn end_value(&mut self) {
        self.offsets.push(self.child_len as i32);
        self.valid.append_non_null();
    }
    /// Forgets elements that belong to no value.
    pub(crate) fn abandon(&mut self) {
        self.truncate(self.len());
    }
    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.child_len = self.offsets[len] as usize;
        self.child.truncate(self.child_len);
        self.valid.truncate(len);
    }
}

impl Map {
    /// As [`List::end_value`]. An entry whose key comes again stays beside the first, as in Spark.
    pub(crate) fn end_value(&mut self) {
        self.offsets.push(self.keys.len() as i32);
        self.valid.append_non_null();
    }
    pub(crate) fn abandon(&mut self) {
        self.truncate(self.offsets.len() - 1);
    }
    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        let entries = self.offsets[len] as usize;
        self.keys.truncate(entries);
        self.values.truncate(entries);
        self.valid.truncate(len);
    }
}

impl Column {
    pub(crate) fn new(data_type: &DataType, rows: usize) -> Result<Self> {
        Ok(match data_type {
            DataType::Utf8 => Self::Text(Bytes::new(rows)),
            DataType::Binary => Self::Binary(Bytes::new(rows)),
            DataType::Boolean => {
                Self::Boolean(Booleans { values: BooleanBufferBuilder::new(rows), valid: NullBufferBuilder::new(rows) })
            }
            DataType::Int8 => Self::Int8(Numbers::new(rows)),
            DataType::Int16 => Self::Int16(Numbers::new(rows)),
            DataType::Int32 => Self::Int32(Numbers::new(rows)),
            DataType::Int64 => Self::Int64(Numbers::new(rows)),
            DataType::Float32 => Self::Float32(Numbers::new(rows)),
            DataType::Float64 => Self::Float64(Numbers::new(rows)),
            DataType::Decimal128(precision, scale) => {
                Self::Decimal { numbers: Numbers::new(rows), precision: *precision, scale: *scale }
            }
            DataType::Date32 => Self::Date(Numbers::new(rows)),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Self::Timestamp { numbers: Numbers::new(rows), zone: zone.clone() }
            }
            DataType::Null => Self::Null(0),
            DataType::Struct(fields) => Self::Struct(Box::new(Record::new(fields, None, rows)?)),
            DataType::List(item) => Self::List(Box::new(List {
                item: item.clone(),
                child: Self::new(item.data_type(), rows)?,
                child_len: 0,
                offsets: vec![0],
                valid: NullBufferBuilder::new(rows),
            })),
            DataType::Map(entries, false) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 && pair[0].data_type() == &DataType::Utf8 => {
                    Self::Map(Box::new(Map {
                        entries: entries.clone(),
                        keys: Bytes::new(rows),
                        values: Self::new(pair[1].data_type(), rows)?,
                        offsets: vec![0],
                        valid: NullBufferBuilder::new(rows),
                    }))
                }
                _ => {
                    return Err(Error::invalid(
                        "DATATYPE_MISMATCH.INVALID_JSON_MAP_KEY_TYPE",
                        format!("keys of JSON are text: {} needs keys of type STRING", type_name(data_type)),
                    ));
                }
            },
            other => {
                return Err(Error::invalid(
                    "DATATYPE_MISMATCH.INVALID_JSON_SCHEMA",
                    format!("JSON is not read into type {}", type_name(other)),
                ));
            }
        })
    }
    /// The root struct, in which the column at `corrupt` is not found by key.
    pub(crate) fn root(fields: &Fields, corrupt: Option<usize>, rows: usize) -> Result<Record> {
        Record::new(fields, corrupt, rows)
    }
    pub(crate) fn push_null(&mut self) {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes.push_null(),
            Self::Boolean(booleans) => {
                booleans.values.append(false);
                booleans.valid.append_null();
            }
            Self::Int8(numbers) => numbers.push_null(0),
            Self::Int16(numbers) => numbers.push_null(0),
            Self::Int32(numbers) | Self::Date(numbers) => numbers.push_null(0),
            Self::Int64(numbers) | Self::Timestamp { numbers, .. } => numbers.push_null(0),
            Self::Float32(numbers) => numbers.push_null(0.0),
            Self::Float64(numbers) => numbers.push_null(0.0),
            Self::Decimal { numbers, .. } => numbers.push_null(0),
            Self::Null(len) => *len += 1,
            Self::Struct(record) => record.push_null(),
            Self::List(list) => {
                list.offsets.push(list.child_len as i32);
                list.valid.append_null();
            }
            Self::Map(map) => {
                map.offsets.push(map.keys.len() as i32);
                map.valid.append_null();
            }
        }
    }
    /// Cuts back to `len` values, and forgets what belongs to no value yet.
    pub(crate) fn truncate(&mut self, len: usize) {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes.truncate(len),
            Self::Boolean(booleans) => {
                booleans.values.truncate(len);
                booleans.valid.truncate(len);
            }
            Self::Int8(numbers) => numbers.truncate(len),
            Self::Int16(numbers) => numbers.truncate(len),
            Self::Int32(numbers) | Self::Date(numbers) => numbers.truncate(len),
            Self::Int64(numbers) | Self::Timestamp { numbers, .. } => numbers.truncate(len),
            Self::Float32(numbers) => numbers.truncate(len),
            Self::Float64(numbers) => numbers.truncate(len),
            Self::Decimal { numbers, .. } => numbers.truncate(len),
            Self::Null(nulls) => *nulls = len,
            Self::Struct(record) => record.truncate(len),
            Self::List(list) => list.truncate(len),
            Self::Map(map) => map.truncate(len),
        }
    }
    pub(crate) fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Text(bytes) => Arc::new(bytes.finish_text()?),
            Self::Binary(bytes) => {
                let (offsets, values, nulls) = bytes.finish()?;
                Arc::new(BinaryArray::new(offsets, values, nulls))
            }
            Self::Boolean(mut booleans) => {
                Arc::new(BooleanArray::new(booleans.values.finish(), booleans.valid.build()))
            }
            Self::Int8(numbers) => Arc::new(numbers.finish::<Int8Type>()),
            Self::Int16(numbers) => Arc::new(numbers.finish::<Int16Type>()),
            Self::Int32(numbers) => Arc::new(numbers.finish::<Int32Type>()),
            Self::Int64(numbers) => Arc::new(numbers.finish::<Int64Type>()),
            Self::Float32(numbers) => Arc::new(numbers.finish::<Float32Type>()),
            Self::Float64(numbers) => Arc::new(numbers.finish::<Float64Type>()),
            Self::Decimal { numbers, precision, scale } => Arc::new(
                numbers
                    .finish::<Decimal128Type>()
                    .with_precision_and_scale(precision, scale)
                    .map_err(Error::internal)?,
            ),
            Self::Date(numbers) => Arc::new(numbers.finish::<Date32Type>()),
            Self::Timestamp { numbers, zone } => {
                Arc::new(numbers.finish::<TimestampMicrosecondType>().with_timezone_opt(zone))
            }
            Self::Null(len) => Arc::new(NullArray::new(len)),
            Self::Struct(record) => record.finish()?,
            Self::List(list) => {
                offsets_fit(list.child_len)?;
                let offsets = OffsetBuffer::new(ScalarBuffer::from(list.offsets));
                let array = ListArray::try_new(list.item, offsets, list.child.finish()?, list.valid.build());
                Arc::new(array.map_err(Error::internal)?)
            }
            Self::Map(map) => {
                let DataType::Struct(pair) = map.entries.data_type().clone() else {
                    return Err(Error::internal("entries of a map are not a struct"));
                };
                offsets_fit(map.keys.len())?;
                let keys: ArrayRef = Arc::new(map.keys.finish_text()?);
                let entries =
                    StructArray::try_new(pair, vec![keys, map.values.finish()?], None).map_err(Error::internal)?;
                let offsets = OffsetBuffer::new(ScalarBuffer::from(map.offsets));
                let array = MapArray::try_new(map.entries, offsets, entries, map.valid.build(), false);
                Arc::new(array.map_err(Error::internal)?)
            }
        })
    }
}

impl From<Record> for Column {
    fn from(record: Record) -> Self {
        Self::Struct(Box::new(record))
    }
}
