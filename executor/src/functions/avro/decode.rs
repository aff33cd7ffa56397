//! Avro bytes into columns: what [`resolve`](super::resolve) decided, done for a record.

use super::resolve::{Part, RecordStep, Skip, Step};
use crate::functions::json::columns::Column;
use crate::registry::wire::zigzag;
use std::borrow::Cow;

/// Elements that take no bytes, in one record: an array of nulls could name any number of them.
const EMPTY_ELEMENTS_MAX: usize = 65_536;

/// Why a record cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub Cow<'static, str>);

type Result<T, E = Malformed> = std::result::Result<T, E>;

const CUT: Malformed = Malformed(Cow::Borrowed("the record ends too soon"));
const NUMBER: Malformed = Malformed(Cow::Borrowed("a number is out of range"));

/// What is left of a record.
struct Input<'a> {
    bytes: &'a [u8],
    empty_elements: usize,
}

impl<'a> Input<'a> {
    #[inline]
    fn number(&mut self) -> Result<i64> {
        zigzag(&mut self.bytes).ok_or(CUT)
    }
    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(CUT)?;
        self.bytes = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(CUT)?;
        self.bytes = rest;
        Ok(*taken)
    }
    fn len(&mut self) -> Result<usize> {
        usize::try_from(self.number()?).map_err(|_| NUMBER)
    }
    #[inline]
    fn prefixed(&mut self) -> Result<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }
    fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.prefixed()?).map_err(|_| Malformed("text that is not UTF-8".into()))
    }
    /// How many elements the next block has; 0 is the end.
    fn block(&mut self) -> Result<usize> {
        let count = self.number()?;
        if count < 0 {
            // The length in bytes follows, which only helps those who pass over it.
            self.number()?;
        }
        usize::try_from(count.unsigned_abs()).map_err(|_| NUMBER)
    }
    fn elements(&mut self, mut read: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        loop {
            let count = self.block()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                let before = self.bytes.len();
                read(self)?;
                if self.bytes.len() == before {
                    self.empty_elements += 1;
                    if self.empty_elements > EMPTY_ELEMENTS_MAX {
                        return Err(Malformed("an array has too many elements without content".into()));
                    }
                }
            }
        }
    }
}

/// Appends one value to `column`. What follows it is not looked at.
///
/// # Errors
/// Bytes that are not what the schema says. Something may have been appended: cut the column back.
pub(super) fn read(step: &Step, bytes: &[u8], column: &mut Column) -> Result<()> {
    value(step, &mut Input { bytes, empty_elements: 0 }, column)
}

fn value(step: &Step, input: &mut Input<'_>, column: &mut Column) -> Result<()> {
    match (step, column) {
        (Step::Null, column) => column.push_null(),
        (Step::Boolean, Column::Boolean(column)) => match input.array::<1>()? {
            [0] => column.push(false),
            [1] => column.push(true),
            _ => return Err(Malformed("a boolean is neither 0 nor 1".into())),
        },
        (Step::Int, Column::Int32(column)) => column.push(i32::try_from(input.number()?).map_err(|_| NUMBER)?),
        (Step::Date, Column::Date(column)) => column.push(i32::try_from(input.number()?).map_err(|_| NUMBER)?),
        (Step::Long, Column::Int64(column)) => column.push(input.number()?),
        (Step::Timestamp(unit), Column::Timestamp { numbers, .. }) => {
            numbers.push(input.number()?.checked_mul(*unit).ok_or(NUMBER)?);
        }
        (Step::LongToFloat, Column::Float32(column)) => column.push(input.number()? as f32),
        (Step::LongToDouble, Column::Float64(column)) => column.push(input.number()? as f64),
        (Step::Float, Column::Float32(column)) => column.push(f32::from_le_bytes(input.array()?)),
        (Step::FloatToDouble, Column::Float64(column)) => column.push(f32::from_le_bytes(input.array()?).into()),
        (Step::Double, Column::Float64(column)) => column.push(f64::from_le_bytes(input.array()?)),
        (Step::Bytes, Column::Binary(column)) => column.push(input.prefixed()?),
        (Step::Fixed(size), Column::Binary(column)) => column.push(input.take(*size)?),
        (Step::Text, Column::Text(column)) => column.push(input.text()?.as_bytes()),
        (Step::Symbol(symbols), Column::Text(column)) => match symbols.get(input.len()?) {
            Some(Some(symbol)) => column.push(symbol.as_bytes()),
            Some(None) => return Err(Malformed("an enum has a symbol that the reader's schema does not have".into())),
            None => return Err(Malformed("an enum has a symbol that its schema does not have".into())),
        },
        (Step::Uuid, Column::Text(column)) => {
            let id = uuid::Uuid::from_bytes(input.array()?);
            column.push(id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes());
        }
        (Step::Decimal { size, limit }, Column::Decimal { numbers, .. }) => {
            let bytes = match size {
                Some(size) => input.take(*size)?,
                None => input.prefixed()?,
            };
            let number = big_endian(bytes).ok_or(NUMBER)?;
            if number <= -limit || number >= *limit {
                return Err(NUMBER);
            }
            numbers.push(number);
        }
        (Step::Array(item), Column::List(list)) => {
            input.elements(|input| {
                value(item, input, &mut list.child)?;
                list.child_len += 1;
                Ok(())
            })?;
            list.end_value();
        }
        (Step::Map(item), Column::Map(map)) => {
            input.elements(|input| {
                map.keys.push(input.text()?.as_bytes());
                value(item, input, &mut map.values)
            })?;
            map.end_value();
        }
        (Step::Record(step), column @ Column::Struct(_)) => record(step, input, column)?,
        (Step::Union(branches), column) => match branches.get(input.len()?) {
            Some(Ok(step)) => value(step, input, column)?,
            Some(Err(reason)) => return Err(Malformed(reason.clone().into())),
            None => return Err(Malformed("a union has a branch that its schema does not have".into())),
        },
        (Step::Member(index, step), Column::Struct(record)) => {
            value(step, input, &mut record.columns[*index])?;
            record.filled[*index] += 1;
            record.end_record();
        }
        // The columns are made from the reader's schema, as the steps are.
        _ => return Err(Malformed("a column is not of the type of its schema".into())),
    }
    Ok(())
}

fn record(step: &RecordStep, input: &mut Input<'_>, column: &mut Column) -> Result<()> {
    let Column::Struct(record) = column else { return Ok(()) };
    for part in &step.parts {
        match part {
            Part::Read(index, step) => {
                value(step, input, &mut record.columns[*index])?;
                record.filled[*index] += 1;
            }
            Part::Skip(step) => skip(step, input)?,
        }
    }
    for absent in &step.absent {
        value(
            &absent.step,
            &mut Input { bytes: &absent.bytes, empty_elements: 0 },
            &mut record.columns[absent.column],
        )?;
        record.filled[absent.column] += 1;
    }
    record.end_record();
    Ok(())
}

fn skip(step: &Skip, input: &mut Input<'_>) -> Result<()> {
    match step {
        Skip::Number => {
            input.number()?;
        }
        Skip::Fixed(size) => {
            input.take(*size)?;
        }
        Skip::Bytes => {
            input.prefixed()?;
        }
        Skip::Array(item) => input.elements(|input| skip(item, input))?,
        Skip::Map(item) => input.elements(|input| {
            input.prefixed()?;
            skip(item, input)
        })?,
        Skip::All(steps) => steps.iter().try_for_each(|step| skip(step, input))?,
        Skip::Union(branches) => {
            let branch = branches.get(input.len()?);
            skip(branch.ok_or(Malformed("a union has a branch that its schema does not have".into()))?, input)?;
        }
    }
    Ok(())
}

/// A number in two's complement. None: it does not fit.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let filler = if bytes.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
    let start = bytes.len().saturating_sub(16);
    let (front, back) = bytes.split_at(start);
    let fits = front.iter().all(|byte| *byte == filler) && (start == 0 || (back[0] >= 0x80) == (filler == 0xff));
    let mut whole = [filler; 16];
    whole[16 - back.len()..].copy_from_slice(back);
    fits.then(|| i128::from_be_bytes(whole))
}

#[cfg(test)]
mod tests {
    use super::super::resolve::resolve;
    use super::super::schema::Schema;
    use super::super::types::{Members, to_arrow};
    use super::*;
    use arrow::util::display::array_value_to_string;

    /// What `bytes` of schema `writer` are under `reader`.
    fn read_as(writer: &str, reader: &str, bytes: &[u8]) -> Result<String, String> {
        let (writer, reader) = (Schema::parse(writer, &[])?, Schema::parse(reader, &[])?);
        let step = resolve(&writer, &reader)?;
        let mut column = Column::new(&to_arrow(&reader, &Members::Numbered)?, 1).map_err(|error| error.to_string())?;
        read(&step, bytes, &mut column).map_err(|malformed| malformed.0.into_owned())?;
        let array = column.finish().map_err(|error| error.to_string())?;
        array_value_to_string(&array, 0).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(writer: &str, reader: &str, bytes: &[u8], expect: &str) {
        assert_eq!(read_as(writer, reader, bytes).unwrap_or_else(|error| error), expect);
    }

    #[test]
    fn values() {
        let same = |schema: &str, bytes: &[u8], expect: &str| check(schema, schema, bytes, expect);
        same(r#""boolean""#, &[1], "true");
        same(r#""boolean""#, &[2], "a boolean is neither 0 nor 1");
        same(r#""int""#, &[0xfe, 0xff, 0xff, 0xff, 0x0f], "2147483647");
        same(r#""int""#, &[0x80, 0x80, 0x80, 0x80, 0x10], "a number is out of range");
        same(r#""long""#, &[3], "-2");
        same(r#""double""#, &1.5_f64.to_le_bytes(), "1.5");
        same(r#""string""#, &[6, b'a', b'b', b'c'], "abc");
        same(r#""string""#, &[6, b'a'], "the record ends too soon");
        same(r#""string""#, &[2, 0xff], "text that is not UTF-8");
        same(r#""string""#, &[1], "a number is out of range");
        same(r#""bytes""#, &[2, 0xff], "ff");
        same(r#"{"type":"int","logicalType":"date"}"#, &[0], "1970-01-01");
        same(r#"{"type":"long","logicalType":"timestamp-millis"}"#, &[0x80, 1], "1970-01-01T00:00:00.064Z");
        same(r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#, &[4, 0xff, 0x85], "-1.23");
        same(
            r#"{"type":"bytes","logicalType":"decimal","precision":2,"scale":0}"#,
            &[4, 1, 0],
            "a number is out of range",
        );
        same(r#"{"type":"enum","name":"e","symbols":["A","B"]}"#, &[2], "B");
        same(
            r#"{"type":"enum","name":"e","symbols":["A"]}"#,
            &[2],
            "an enum has a symbol that its schema does not have",
        );
        same(
            r#"{"type":"fixed","name":"u","size":16,"logicalType":"uuid"}"#,
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
            "01020304-0506-0708-090a-0b0c0d0e0f10",
        );
        same(r#"{"type":"array","items":"int"}"#, &[3, 4, 2, 4, 2, 6, 0], "[1, 2, 3]");
        same(
            r#"{"type":"array","items":"null"}"#,
            &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0],
            "an array has too many elements without content",
        );
        same(r#"{"type":"map","values":"int"}"#, &[2, 2, b'k', 8, 0], "{k: 4}");
        same(r#"["null","string"]"#, &[2, 2, b'x'], "x");
        same(r#"["null","string"]"#, &[4], "a union has a branch that its schema does not have");
        same(r#"["int","string"]"#, &[2, 2, b'x'], "{member0: , member1: x}");
    }

    #[test]
    fn older_and_newer_schemas() {
        let old = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"int"},{"name":"gone","type":{"type":"array","items":"string"}}]}"#;
        let new = r#"{"type":"record","name":"R","fields":[{"name":"more","type":["null","string"],"default":null},{"name":"n","type":"double","aliases":["id"]},{"name":"list","type":{"type":"array","items":"int"},"default":[1,2]}]}"#;
        check(old, new, &[14, 2, 2, b'x', 0], "{more: , n: 7.0, list: [1, 2]}");
        check(
            r#"{"type":"long","logicalType":"timestamp-millis"}"#,
            r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            &[2],
            "1970-01-01T00:00:00.001Z",
        );
        let symbols = r#"{"type":"enum","name":"e","symbols":["A","B"]}"#;
        check(symbols, r#"{"type":"enum","name":"e","symbols":["A","Z"],"default":"Z"}"#, &[2], "Z");
        check(
            symbols,
            r#"{"type":"enum","name":"e","symbols":["A"]}"#,
            &[2],
            "an enum has a symbol that the reader's schema does not have",
        );
        check(r#"["null","int"]"#, r#""int""#, &[0], "written as null, which is not read as int");
        check(r#"["null","int"]"#, r#""int""#, &[2, 4], "2");
    }

    #[test]
    fn every_cut_is_found_and_leaves_nothing() {
        let text = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"},{"name":"m","type":{"type":"map","values":{"type":"array","items":"long"}}},{"name":"d","type":"double"}]}"#;
        let mut record = vec![4, b'h', b'i', 2, 2, b'k', 4, 2, 4, 0, 0];
        record.extend(2.5_f64.to_le_bytes());
        let schema = Schema::parse(text, &[]).expect("a schema");
        let step = resolve(&schema, &schema).expect("the same");
        let mut column = Column::new(&to_arrow(&schema, &Members::Numbered).expect("a type"), 2).expect("a column");
        read(&step, &record, &mut column).expect("whole");
        for len in 0..record.len() {
            read(&step, &record[..len], &mut column).expect_err("cut");
            column.truncate(1);
        }
        read(&step, &record, &mut column).expect("whole");
        let array = column.finish().expect("an array");
        assert_eq!(array.len(), 2);
        for row in 0..2 {
            assert_eq!(array_value_to_string(&array, row).expect("text"), "{a: hi, m: {k: [1, 2]}, d: 2.5}");
        }
    }

    #[test]
    fn decimals() {
        let mut long = vec![0xff; 20];
        assert_eq!(big_endian(&long), Some(-1));
        long[4] = 0x7f;
        assert_eq!(big_endian(&long), None);
        assert_eq!(big_endian(&[]), Some(0));
        assert_eq!(big_endian(&[0, 0x80]), Some(128));
    }
}
