//! Columns into Avro bytes: Spark's `AvroSerializer`.

use super::resolve::{push_bytes, push_default};
use super::schema::{Kind, Logical, Result, Schema};
use super::types::plain;
use crate::functions::ddl;
use crate::registry::wire::push_zigzag;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapArray, StringArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use std::collections::HashMap;

/// Writes values of one column.
#[derive(Debug)]
pub(super) struct Encoder {
    write: Write,
    /// Of the column, when nothing below writes them: a null there is an error.
    nulls: Option<NullBuffer>,
    name: String,
}

#[derive(Debug)]
enum Write {
    Null,
    Boolean(BooleanArray),
    Int8(Int8Array),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    /// As an int, which SQL's whole numbers are often meant to be.
    Narrow(Int64Array),
    /// Divided to the schema's unit.
    Micros(Int64Array, i64),
    Float32(Float32Array),
    Float64(Float64Array),
    Text(StringArray),
    Symbol(StringArray, HashMap<String, i64>),
    Uuid(StringArray),
    Binary(BinaryArray),
    Fixed(BinaryArray, usize),
    DecimalBytes(Decimal128Array),
    DecimalFixed(Decimal128Array, usize),
    List(ListArray, Box<Encoder>),
    Map(MapArray, StringArray, Box<Encoder>),
    Record(Vec<Encoder>),
    /// The branch of null, if there is one, and of all else.
    Nullable(Option<NullBuffer>, i64, i64, Box<Encoder>),
    /// The branch of null, and for each field of a struct its branch: the first that is set.
    Members(Option<NullBuffer>, Option<i64>, Vec<(i64, ArrayRef, Encoder)>),
    /// A field that there is no column for.
    Constant(Vec<u8>),
}

impl Encoder {
    /// For values of `array` by `schema`.
    ///
    /// # Errors
    /// Which column does not fit, and why.
    pub(super) fn new(array: &ArrayRef, schema: &Schema) -> Result<Self> {
        let wanted = plain(array.data_type());
        let array = if *array.data_type() == wanted {
            array.clone()
        } else {
            cast(array, &wanted).map_err(|error| error.to_string())?
        };
        encoder(&array, schema, "")
    }

    /// Appends the value of a row.
    ///
    /// # Errors
    /// A value that its schema does not allow.
    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Err(self.wrong("is null, and its schema has no null"));
        }
        match &self.write {
            Write::Null => {}
            Write::Boolean(values) => out.push(u8::from(values.value(row))),
            Write::Int8(values) => push_zigzag(values.value(row).into(), out),
            Write::Int16(values) => push_zigzag(values.value(row).into(), out),
            Write::Int32(values) => push_zigzag(values.value(row).into(), out),
            Write::Int64(values) => push_zigzag(values.value(row), out),
            Write::Narrow(values) => {
                let number = i32::try_from(values.value(row)).map_err(|_| self.wrong("does not fit into an int"))?;
                push_zigzag(number.into(), out);
            }
            Write::Micros(values, unit) => push_zigzag(values.value(row).div_euclid(*unit), out),
            Write::Float32(values) => out.extend(values.value(row).to_le_bytes()),
            Write::Float64(values) => out.extend(values.value(row).to_le_bytes()),
            Write::Text(values) => push_bytes(values.value(row).as_bytes(), out),
            Write::Symbol(values, symbols) => match symbols.get(values.value(row)) {
                Some(symbol) => push_zigzag(*symbol, out),
                None => {
                    return Err(self.wrong(&format!("is {:?}, which is none of the enum's symbols", values.value(row))));
                }
            },
            Write::Uuid(values) => match uuid::Uuid::try_parse(values.value(row)) {
                Ok(id) => out.extend(id.as_bytes()),
                Err(_) => return Err(self.wrong("is no UUID")),
            },
            Write::Binary(values) => push_bytes(values.value(row), out),
            Write::Fixed(values, size) => {
                let value = values.value(row);
                if value.len() != *size {
                    return Err(self.wrong(&format!("has {} bytes, and its schema {size}", value.len())));
                }
                out.extend_from_slice(value);
            }
            Write::DecimalBytes(values) => push_bytes(shortest(&values.value(row).to_be_bytes()), out),
            Write::DecimalFixed(values, size) => {
                let bytes = values.value(row).to_be_bytes();
                let short = shortest(&bytes);
                let Some(fill) = size.checked_sub(short.len()) else {
                    return Err(self.wrong(&format!("does not fit into {size} bytes")));
                };
                out.extend(std::iter::repeat_n(if values.value(row) < 0 { 0xff } else { 0 }, fill));
                out.extend_from_slice(short);
            }
            Write::List(lists, items) => {
                let offsets = lists.value_offsets();
                elements(offsets[row] as usize, offsets[row + 1] as usize, out, |at, out| items.write(at, out))?;
            }
            Write::Map(maps, keys, values) => {
                let offsets = maps.value_offsets();
                elements(offsets[row] as usize, offsets[row + 1] as usize, out, |at, out| {
                    push_bytes(keys.value(at).as_bytes(), out);
                    values.write(at, out)
                })?;
            }
            Write::Record(fields) => fields.iter().try_for_each(|field| field.write(row, out))?,
            Write::Nullable(nulls, null, branch, value) => {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    push_zigzag(*null, out);
                } else {
                    push_zigzag(*branch, out);
                    value.write(row, out)?;
                }
            }
            Write::Members(nulls, null, members) => {
                let present = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
                let member = members.iter().find(|(_, array, _)| present && array.is_valid(row));
                match (member, null) {
                    (Some((branch, _, value)), _) => {
                        push_zigzag(*branch, out);
                        value.write(row, out)?;
                    }
                    (None, Some(null)) => push_zigzag(*null, out),
                    (None, None) => return Err(self.wrong("has no member that is set, and its union has no null")),
                }
            }
            Write::Constant(bytes) => out.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn wrong(&self, why: &str) -> String {
        if self.name.is_empty() { format!("the value {why}") } else { format!("field `{}` {why}", self.name) }
    }
}

fn elements(
    begin: usize,
    end: usize,
    out: &mut Vec<u8>,
    mut write: impl FnMut(usize, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    if begin < end {
        push_zigzag((end - begin) as i64, out);
        (begin..end).try_for_each(|at| write(at, out))?;
    }
    out.push(0);
    Ok(())
}

/// A number without the bytes that only repeat its sign.
fn shortest(bytes: &[u8; 16]) -> &[u8] {
    let mut start = 0;
    while start < 15
        && ((bytes[start] == 0 && bytes[start + 1] < 0x80) || (bytes[start] == 0xff && bytes[start + 1] >= 0x80))
    {
        start += 1;
    }
    &bytes[start..]
}

fn encoder(array: &ArrayRef, schema: &Schema, name: &str) -> Result<Encoder> {
    let join = |inner: &str| if name.is_empty() { inner.to_string() } else { format!("{name}.{inner}") };
    let done = |write: Write, nulls: Option<NullBuffer>| Ok(Encoder { write, nulls, name: name.to_string() });
    if let Kind::Union(branches) = &schema.kind {
        let write = union(array, branches, name)?;
        return done(write, None);
    }
    let place = if name.is_empty() { String::new() } else { format!("field `{name}`: ") };
    let mismatch =
        || Err(format!("{place}{} is not written as Avro {}", ddl::type_name(array.data_type()), schema.type_name()));
    let micros = || array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>();
    let write = match (array.data_type(), &schema.kind) {
        (DataType::Null, Kind::Null) => return done(Write::Null, None),
        (DataType::Boolean, Kind::Boolean) => Write::Boolean(array.as_boolean().clone()),
        (DataType::Int8, Kind::Int | Kind::Long) => Write::Int8(array.as_primitive::<Int8Type>().clone()),
        (DataType::Int16, Kind::Int | Kind::Long) => Write::Int16(array.as_primitive::<Int16Type>().clone()),
        (DataType::Int32, Kind::Int) if schema.logical == Logical::Date => return mismatch(),
        (DataType::Int32, Kind::Int | Kind::Long) => Write::Int32(array.as_primitive::<Int32Type>().clone()),
        (DataType::Int64, Kind::Long) => Write::Int64(array.as_primitive::<Int64Type>().clone()),
        (DataType::Int64, Kind::Int) if schema.logical == Logical::None => {
            Write::Narrow(array.as_primitive::<Int64Type>().clone())
        }
        (DataType::Date32, Kind::Int) if matches!(schema.logical, Logical::Date | Logical::None) => {
            Write::Int32(array.as_primitive::<Date32Type>().reinterpret_cast::<Int32Type>())
        }
        (DataType::Timestamp(_, zone), Kind::Long) => match (schema.logical, zone) {
            (Logical::TimestampMicros, Some(_)) | (Logical::LocalTimestampMicros, None) => Write::Micros(micros(), 1),
            // Without a logical type it is milliseconds, as in Spark.
            (Logical::TimestampMillis | Logical::None, Some(_))
            | (Logical::LocalTimestampMillis | Logical::None, None) => Write::Micros(micros(), 1000),
            _ => return mismatch(),
        },
        (DataType::Float32, Kind::Float) => Write::Float32(array.as_primitive::<Float32Type>().clone()),
        (DataType::Float64, Kind::Double) => Write::Float64(array.as_primitive::<Float64Type>().clone()),
        (DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Float32, Kind::Double) => {
            let wide = cast(array, &DataType::Float64).map_err(|error| error.to_string())?;
            Write::Float64(wide.as_primitive::<Float64Type>().clone())
        }
        (DataType::Utf8, Kind::String) => Write::Text(array.as_string().clone()),
        (DataType::Utf8, Kind::Enum(symbols)) => {
            let symbols = symbols.symbols.iter().enumerate().map(|(index, symbol)| (symbol.clone(), index as i64));
            Write::Symbol(array.as_string().clone(), symbols.collect())
        }
        (DataType::Utf8, Kind::Fixed(_)) if schema.logical == Logical::Uuid => Write::Uuid(array.as_string().clone()),
        (DataType::Binary, Kind::Bytes) if schema.logical == Logical::None => Write::Binary(array.as_binary().clone()),
        (DataType::Binary, Kind::Fixed(fixed)) if schema.logical == Logical::None => {
            Write::Fixed(array.as_binary().clone(), fixed.size)
        }
        (DataType::Decimal128(digits, scale), Kind::Bytes | Kind::Fixed(_)) => {
            let Logical::Decimal { precision, scale: wanted } = schema.logical else { return mismatch() };
            let values = if *scale == wanted && *digits <= precision {
                array.clone()
            } else {
                cast(array, &DataType::Decimal128(precision.min(38), wanted)).map_err(|error| error.to_string())?
            };
            let values = values.as_primitive::<Decimal128Type>().clone();
            // A cast that rounds off nothing may still meet a value that is too large.
            if values.null_count() != array.null_count() {
                return Err(format!("{place}a number does not fit decimal({precision},{wanted})"));
            }
            match &schema.kind {
                Kind::Fixed(fixed) => Write::DecimalFixed(values, fixed.size),
                _ => Write::DecimalBytes(values),
            }
        }
        (DataType::List(_), Kind::Array(item)) => {
            let lists = array.as_list::<i32>().clone();
            let items = encoder(lists.values(), item, &join("element"))?;
            Write::List(lists, Box::new(items))
        }
        (DataType::Map(_, _), Kind::Map(value)) => {
            let maps = array.as_map().clone();
            let Some(keys) = maps.keys().as_string_opt::<i32>().cloned() else { return mismatch() };
            let values = encoder(maps.values(), value, &join("value"))?;
            Write::Map(maps, keys, Box::new(values))
        }
        (DataType::Struct(fields), Kind::Record(record)) => {
            let mut used = vec![false; fields.len()];
            let columns = array.as_struct().columns();
            let mut encoders = Vec::with_capacity(record.fields.len());
            for wanted in &record.fields {
                // As Spark without case sensitivity.
                let exact = fields.iter().position(|field| *field.name() == wanted.name);
                let found =
                    exact.or_else(|| fields.iter().position(|field| field.name().eq_ignore_ascii_case(&wanted.name)));
                let path = join(&wanted.name);
                encoders.push(match (found, &wanted.default) {
                    (Some(index), _) => {
                        used[index] = true;
                        encoder(&columns[index], &wanted.schema, &path)?
                    }
                    (None, Some(default)) => {
                        let mut bytes = vec![];
                        push_default(&wanted.schema, default, &mut bytes)?;
                        Encoder { write: Write::Constant(bytes), nulls: None, name: path }
                    }
                    (None, None) => {
                        let mut bytes = vec![];
                        if push_default(&wanted.schema, &serde_json::Value::Null, &mut bytes).is_err() {
                            return Err(format!(
                                "field `{path}` of the Avro schema has no column, no default and no null"
                            ));
                        }
                        Encoder { write: Write::Constant(bytes), nulls: None, name: path }
                    }
                });
            }
            if let Some(extra) = used.iter().position(|used| !used) {
                return Err(format!(
                    "column `{}` has no field in the Avro schema: leave it out, or add it to the schema",
                    join(fields[extra].name())
                ));
            }
            Write::Record(encoders)
        }
        _ => return mismatch(),
    };
    // In a list's or struct's child, what stands under a null parent is never written.
    done(write, array.logical_nulls())
}

fn union(array: &ArrayRef, branches: &[Schema], name: &str) -> Result<Write> {
    let null = branches.iter().position(|branch| branch.kind == Kind::Null);
    let present: Vec<usize> = (0..branches.len()).filter(|index| Some(*index) != null).collect();
    let nulls = array.logical_nulls();
    if array.data_type() == &DataType::Null {
        let Some(null) = null else { return Err(format!("field `{name}` is null, and its schema has no null")) };
        let nothing = Encoder { write: Write::Null, nulls: None, name: name.to_string() };
        return Ok(Write::Nullable(nulls, null as i64, null as i64, Box::new(nothing)));
    }
    // The first branch that the column fits. int for long is a fit that comes after long.
    let mut error = None;
    let mut fits: Vec<(usize, Encoder)> = vec![];
    for index in &present {
        match encoder(array, &branches[*index], name) {
            Ok(encoder) => fits.push((*index, encoder)),
            Err(reason) => {
                error.get_or_insert(reason);
            }
        }
    }
    let best = fits.iter().position(|(index, _)| exact(array.data_type(), &branches[*index])).unwrap_or(0);
    if best < fits.len() {
        let (index, mut value) = fits.swap_remove(best);
        return Ok(match null {
            Some(null) => {
                value.nulls = None;
                Write::Nullable(nulls, null as i64, index as i64, Box::new(value))
            }
            None => Write::Nullable(None, 0, index as i64, Box::new(value)),
        });
    }
    // A struct with as many fields as there are types.
    if let (DataType::Struct(fields), true) = (array.data_type(), present.len() > 1)
        && fields.len() == present.len()
    {
        let columns = array.as_struct().columns();
        let members = present
            .iter()
            .zip(columns)
            .zip(fields)
            .map(|((index, column), field)| {
                let name = if name.is_empty() { field.name().clone() } else { format!("{name}.{}", field.name()) };
                Ok((*index as i64, column.clone(), encoder(column, &branches[*index], &name)?))
            })
            .collect::<Result<Vec<_>>>()?;
        return Ok(Write::Members(nulls, null.map(|null| null as i64), members));
    }
    Err(error.unwrap_or_else(|| format!("field `{name}`: its union has no type but null")))
}

fn exact(data_type: &DataType, schema: &Schema) -> bool {
    matches!(
        (data_type, &schema.kind),
        (DataType::Int8 | DataType::Int16 | DataType::Int32, Kind::Int)
            | (DataType::Int64, Kind::Long)
            | (DataType::Float32, Kind::Float)
            | (DataType::Utf8, Kind::String)
            | (DataType::Binary, Kind::Bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StructArray;
    use std::sync::Arc;

    fn check(array: ArrayRef, schema: &str, expect: Result<&[u8], &str>) {
        let schema = Schema::parse(schema, &[]).expect("a schema");
        let mut out = vec![];
        let made = Encoder::new(&array, &schema).and_then(|encoder| encoder.write(0, &mut out));
        match expect {
            Ok(bytes) => {
                made.expect("written");
                assert_eq!(out, bytes);
            }
            Err(reason) => assert!(made.clone().expect_err(reason).contains(reason), "{made:?}"),
        }
    }

    #[test]
    fn values() {
        let int = || Arc::new(Int32Array::from(vec![3])) as ArrayRef;
        let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        let null = || Arc::new(Int32Array::from(vec![None])) as ArrayRef;
        check(int(), r#""int""#, Ok(&[6]));
        check(int(), r#"["null","long"]"#, Ok(&[2, 6]));
        check(int(), r#"["long","int"]"#, Ok(&[2, 6]));
        let long = |value: i64| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
        check(long(3), r#""int""#, Ok(&[6]));
        check(long(3), r#"["int","long"]"#, Ok(&[2, 6]));
        check(long(1 << 31), r#""int""#, Err("does not fit into an int"));
        check(null(), r#"["int","null"]"#, Ok(&[2]));
        check(null(), r#""int""#, Err("the value is null, and its schema has no null"));
        check(text("B"), r#"{"type":"enum","name":"e","symbols":["A","B"]}"#, Ok(&[2]));
        check(text("C"), r#"{"type":"enum","name":"e","symbols":["A","B"]}"#, Err("none of the enum's symbols"));
        check(text("x"), r#""int""#, Err("is not written as Avro int"));
        let decimal = Decimal128Array::from(vec![-123]).with_precision_and_scale(9, 2).expect("a decimal");
        let decimal: ArrayRef = Arc::new(decimal);
        check(decimal.clone(), r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#, Ok(&[2, 0x85]));
        check(
            decimal.clone(),
            r#"{"type":"fixed","name":"f","size":4,"logicalType":"decimal","precision":9,"scale":2}"#,
            Ok(&[0xff, 0xff, 0xff, 0x85]),
        );
        // Fewer digits than the column may have: as long as the values have no more.
        let of = |digits: u8| format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{digits},"scale":2}}"#);
        check(decimal.clone(), &of(3), Ok(&[2, 0x85]));
        check(decimal.clone(), &of(2), Err("a number does not fit decimal(2,2)"));
        let record: ArrayRef = Arc::new(StructArray::try_from(vec![("d", decimal)]).expect("a struct"));
        let schema = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"d","type":{}}}]}}"#, of(2));
        check(record, &schema, Err("field `d`: a number does not fit decimal(2,2)"));
    }

    #[test]
    fn records_go_by_name() {
        let columns: Vec<(&str, ArrayRef)> =
            vec![("B", Arc::new(StringArray::from(vec!["x"]))), ("a", Arc::new(Int64Array::from(vec![1])))];
        let array: ArrayRef = Arc::new(StructArray::try_from(columns).expect("a struct"));
        let record = |fields: &str| format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
        let (a, b) = (r#"{"name":"a","type":"long"}"#, r#"{"name":"b","type":"string"}"#);
        check(array.clone(), &record(&format!("{a},{b}")), Ok(&[2, 2, b'x']));
        check(array.clone(), &record(a), Err("column `B` has no field in the Avro schema"));
        let with_default =
            format!(r#"{a},{b},{{"name":"c","type":"int","default":4}},{{"name":"d","type":["int","null"]}}"#);
        check(array.clone(), &record(&with_default), Ok(&[2, 2, b'x', 8, 2]));
        check(array, &record(&format!(r#"{a},{b},{{"name":"c","type":"int"}}"#)), Err("field `c` of the Avro schema"));
    }
}
