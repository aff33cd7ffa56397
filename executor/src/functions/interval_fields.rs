//! The fields that an interval names: `INTERVAL '1' DAY` is an `INTERVAL DAY`, and shown as one.
//!
//! Arrow's types of intervals have no fields. Where they are fewer than all, the metadata of a column says which.

use super::cast::text;
use super::native::{Call, Context, Function, Param, Returns, external};
use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, DurationMicrosecondType, Field, FieldRef, Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType,
    Schema, TimeUnit,
};
use datafusion::error::Result;
use headwater_proto::error::Error;
use std::sync::Arc;

/// Of a column's metadata.
pub const KEY: &str = "SPARK:interval";

const YEAR_MONTH: &[&str] = &["YEAR", "MONTH"];
const DAY_TIME: &[&str] = &["DAY", "HOUR", "MINUTE", "SECOND"];

/// From the first field to the last one of a kind of interval, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// Months, and no days.
    pub months: bool,
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

impl Fields {
    /// Of units as they are written, whatever their order; none of units that do not go together.
    pub fn of_units<'u>(units: impl IntoIterator<Item = &'u str>) -> Option<Self> {
        units.into_iter().map(Self::of_unit).reduce(|one, other| one?.with(&other?))?
    }

    fn of_unit(unit: &str) -> Option<Self> {
        let unit = unit.to_ascii_uppercase();
        let (months, at) = match unit.strip_suffix('S').unwrap_or(&unit) {
            "YEAR" => (true, 0),
            "QUARTER" | "MONTH" => (true, 1),
            "WEEK" | "DAY" => (false, 0),
            "HOUR" => (false, 1),
            "MINUTE" => (false, 2),
            "SECOND" | "MILLISECOND" | "MICROSECOND" => (false, 3),
            _ => return None,
        };
        Some(Self { months, first: at, last: at })
    }

    /// Those of both.
    fn with(&self, other: &Self) -> Option<Self> {
        let (first, last) = (self.first.min(other.first), self.last.max(other.last));
        (self.months == other.months).then_some(Self { months: self.months, first, last })
    }

    fn names(&self) -> &'static [&'static str] {
        if self.months { YEAR_MONTH } else { DAY_TIME }
    }

    /// `DAY`, `HOUR TO MINUTE`.
    pub fn name(&self) -> String {
        let names = self.names();
        match (names[self.first], names[self.last]) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first} TO {last}"),
        }
    }

    /// Whether there are no others.
    pub fn is_all(&self) -> bool {
        self.first == 0 && self.last + 1 == self.names().len()
    }

    fn parse(name: &str) -> Option<Self> {
        Self::of_units(name.split(" TO "))
    }

    /// Of a column of intervals.
    pub fn of(field: &Field) -> Option<Self> {
        let months = match field.data_type() {
            DataType::Duration(_) => false,
            DataType::Interval(IntervalUnit::YearMonth) => true,
            _ => return None,
        };
        let all = Self { months, first: 0, last: if months { 1 } else { 3 } };
        match field.metadata().get(KEY) {
            Some(name) => Self::parse(name).filter(|fields| fields.months == months),
            None => Some(all),
        }
    }

    /// `INTERVAL '1 02' DAY TO HOUR`, of microseconds or of months.
    pub fn text(&self, length: i64) -> String {
        let sign = if length < 0 { "-" } else { "" };
        let all = length.unsigned_abs();
        let value = if self.months {
            match (self.first, self.last) {
                (0, 0) => (all / 12).to_string(),
                (1, _) => all.to_string(),
                _ => format!("{}-{}", all / 12, all % 12),
            }
        } else {
            day_time(all, self.first, self.last)
        };
        format!("INTERVAL '{sign}{value}' {}", self.name())
    }
}

fn day_time(all: u64, first: usize, last: usize) -> String {
    const SIZES: [u64; 3] = [86_400_000_000, 3_600_000_000, 60_000_000];
    let (mut rest, mut text) = (all, String::new());
    for at in first..=last {
        match (at == first, at) {
            (true, _) => {}
            (false, 1) => text.push(' '),
            (false, _) => text.push(':'),
        }
        match SIZES.get(at) {
            Some(size) => {
                text += &if at == 0 { (rest / size).to_string() } else { format!("{:02}", rest / size) };
                rest %= size;
            }
            None => {
                text += &format!("{:02}", rest / 1_000_000);
                if !rest.is_multiple_of(1_000_000) {
                    text += format!(".{:06}", rest % 1_000_000).trim_end_matches('0');
                }
            }
        }
    }
    text
}

/// Metadata that says the fields of an interval.
pub fn metadata(fields: Option<Fields>) -> Option<String> {
    fields.filter(|fields| !fields.is_all()).map(|fields| fields.name())
}

/// Of the sum or difference of these.
pub fn of_both(args: &[FieldRef]) -> Option<String> {
    match args {
        // The difference of two dates is a number of days.
        [left, right] if [left, right].iter().all(|one| *one.data_type() == DataType::Date32) => Some("DAY".into()),
        [left, right] => metadata(Fields::of(left)?.with(&Fields::of(right)?)),
        _ => None,
    }
}

/// `interval_text(interval, fields)`: a cast to STRING.
pub fn functions() -> Vec<Function> {
    vec![Function::new("interval_text", &[Param::Any, Param::Text], Returns::Type(|| DataType::Utf8), interval_text)]
}

fn interval_text(call: &Call<'_>) -> Result<ArrayRef> {
    // The same in every row: the scheduler writes them.
    let fields = if call.rows == 0 { None } else { Fields::parse(call.text(1).value(0)) };
    call.text_rows(|row| {
        let fields = fields.ok_or_else(|| external(Error::internal("no fields of an interval")))?;
        Ok(Some(fields.text(length(&call.args[0], row)?)))
    })
}

/// Months or microseconds.
fn length(array: &ArrayRef, row: usize) -> Result<i64> {
    match array.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            Ok(i64::from(array.as_primitive::<IntervalYearMonthType>().value(row)))
        }
        DataType::Duration(TimeUnit::Microsecond) => Ok(array.as_primitive::<DurationMicrosecondType>().value(row)),
        other => Err(external(Error::internal(format!("the length of a {other}")))),
    }
}

/// Whether values of this type are intervals, or have some inside.
pub fn has_intervals(data_type: &DataType) -> bool {
    match data_type {
        DataType::Duration(_) | DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::MonthDayNano) => true,
        DataType::List(item) | DataType::Map(item, _) => has_intervals(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_intervals(field.data_type())),
        _ => false,
    }
}

/// The same rows with the texts of intervals, wherever these are: what is shown, and written as CSV and JSON.
///
/// # Errors
/// None for the intervals that there are.
pub fn as_texts(rows: &RecordBatch) -> Result<RecordBatch> {
    converted(rows, |field, array| match Fields::of(field).filter(|fields| !fields.is_all()) {
        Some(fields) => {
            let texts = (0..array.len()).map(|row| {
                array.is_valid(row).then(|| length(array, row).map(|length| fields.text(length))).transpose()
            });
            Ok(Arc::new(texts.collect::<Result<StringArray>>()?) as ArrayRef)
        }
        None => text::of(array, &Context::default()),
    })
}

/// The same rows with intervals as numbers of microseconds or months, as Spark stores them in Parquet.
///
/// # Errors
/// None for intervals of one of the two kinds.
pub fn as_numbers(rows: &RecordBatch) -> Result<RecordBatch> {
    converted(rows, |_, array| match array.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            Ok(Arc::new(array.as_primitive::<IntervalYearMonthType>().reinterpret_cast::<Int32Type>()) as ArrayRef)
        }
        _ => {
            let micros = cast(array, &DataType::Duration(TimeUnit::Microsecond))?;
            Ok(Arc::new(micros.as_primitive::<DurationMicrosecondType>().reinterpret_cast::<Int64Type>()) as ArrayRef)
        }
    })
}

/// What becomes of a column of intervals.
type Convert = fn(&Field, &ArrayRef) -> Result<ArrayRef>;

fn converted(rows: &RecordBatch, convert: Convert) -> Result<RecordBatch> {
    let fields = rows.schema_ref().fields();
    if !fields.iter().any(|field| has_intervals(field.data_type())) {
        return Ok(rows.clone());
    }
    let columns = fields.iter().zip(rows.columns()).map(|(field, column)| inside(field, column, convert));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let fields: Vec<FieldRef> = fields.iter().zip(&columns).map(|(field, column)| retyped(field, column)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

fn inside(field: &Field, array: &ArrayRef, convert: Convert) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        own if !has_intervals(own) => Arc::clone(array),
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let values = inside(item, list.values(), convert)?;
            let nulls = list.nulls().cloned();
            Arc::new(ListArray::try_new(retyped(item, &values), list.offsets().clone(), values, nulls)?)
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let pairs: ArrayRef = Arc::new(map.entries().clone());
            let pairs = inside(entries, &pairs, convert)?;
            let (field, nulls) = (retyped(entries, &pairs), map.nulls().cloned());
            Arc::new(MapArray::try_new(field, map.offsets().clone(), pairs.as_struct().clone(), nulls, *sorted)?)
        }
        DataType::Struct(fields) => {
            let own = array.as_struct();
            let columns = fields.iter().zip(own.columns()).map(|(field, column)| inside(field, column, convert));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let fields: Vec<FieldRef> = fields.iter().zip(&columns).map(|(field, own)| retyped(field, own)).collect();
            Arc::new(StructArray::try_new(fields.into(), columns, own.nulls().cloned())?)
        }
        _ => convert(field, array)?,
    })
}

fn retyped(field: &FieldRef, array: &ArrayRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(array.data_type().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_sparks() {
        let check = |units: &[&str], length: i64, expect: &str| {
            let fields = Fields::of_units(units.iter().copied()).expect("fields");
            assert_eq!(fields.text(length), expect);
            assert_eq!(Fields::parse(&fields.name()), Some(fields));
        };
        const HOUR: i64 = 3_600_000_000;
        check(&["day"], 86_400_000_000, "INTERVAL '1' DAY");
        check(&["DAYS", "HOUR"], -26 * HOUR, "INTERVAL '-1 02' DAY TO HOUR");
        check(&["hours", "minutes"], 2 * HOUR + HOUR / 2, "INTERVAL '02:30' HOUR TO MINUTE");
        check(&["second"], 4_500_000, "INTERVAL '04.5' SECOND");
        check(&["day", "second"], 26 * HOUR + 1, "INTERVAL '1 02:00:00.000001' DAY TO SECOND");
        check(&["year"], 24, "INTERVAL '2' YEAR");
        check(&["months"], 14, "INTERVAL '14' MONTH");
        check(&["year", "month"], -14, "INTERVAL '-1-2' YEAR TO MONTH");
        assert_eq!(Fields::of_units(["year", "day"]), None);
    }

    /// An interval of either kind and one in a struct in an array, in a row and a null.
    fn rows() -> RecordBatch {
        use arrow::array::{DurationMicrosecondArray, IntervalYearMonthArray};
        let times: ArrayRef = Arc::new(DurationMicrosecondArray::from(vec![Some(86_405_000_000), None]));
        let months: ArrayRef = Arc::new(IntervalYearMonthArray::from(vec![Some(14), None]));
        let inner = Field::new("a", times.data_type().clone(), true);
        let structs = StructArray::new(vec![inner].into(), vec![Arc::clone(&times)], None);
        let item = Arc::new(Field::new_list_field(structs.data_type().clone(), true));
        let lengths = arrow::buffer::OffsetBuffer::from_lengths([2, 0]);
        let lists: ArrayRef = Arc::new(ListArray::new(item, lengths, Arc::new(structs), None));
        let seconds = [(KEY.to_string(), "SECOND".to_string())].into();
        let fields = vec![
            Field::new("t", times.data_type().clone(), true),
            Field::new("m", months.data_type().clone(), true),
            Field::new("s", times.data_type().clone(), true).with_metadata(seconds),
            Field::new("l", lists.data_type().clone(), true),
        ];
        let columns = vec![Arc::clone(&times), months, times, lists];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("rows")
    }

    #[test]
    fn intervals_are_shown_as_sparks() {
        let cells = crate::connectors::console::show::cells(&rows(), 2).expect("cells");
        let expect = [
            [
                "INTERVAL '1 00:00:05' DAY TO SECOND",
                "INTERVAL '1-2' YEAR TO MONTH",
                "INTERVAL '86405' SECOND",
                "[{INTERVAL '1 00:00:05' DAY TO SECOND}, {NULL}]",
            ],
            ["NULL", "NULL", "NULL", "[]"],
        ];
        assert_eq!(cells, expect);
    }

    #[test]
    fn intervals_are_stored_as_numbers() {
        let stored = as_numbers(&rows()).expect("numbers");
        let types: Vec<String> = stored.schema().fields().iter().map(|f| f.data_type().to_string()).collect();
        assert_eq!(types, ["Int64", "Int32", "Int64", "List(Struct(\"a\": Int64))"]);
        assert_eq!(stored.column(0).as_primitive::<Int64Type>().value(0), 86_405_000_000);
        assert_eq!(stored.column(1).as_primitive::<Int32Type>().value(0), 14);
        assert!(stored.column(1).is_null(1));
        assert!(!has_intervals(&DataType::Struct(stored.schema().fields().clone())));
    }
}
