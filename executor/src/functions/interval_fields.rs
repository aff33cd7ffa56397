//! The fields that an interval names: `INTERVAL '1' DAY` is an `INTERVAL DAY`, and shown as one.
//!
//! Arrow's types of intervals have no fields. Where they are fewer than all, the metadata of a column says which.

use super::native::{Call, Function, Param, Returns, external};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, DurationMicrosecondType, Field, FieldRef, IntervalUnit, IntervalYearMonthType};
use datafusion::error::Result;
use headwater_proto::error::Error;

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
    vec![Function::new("interval_text", &[Param::Any, Param::Text], Returns::Type(|| DataType::Utf8), text)]
}

fn text(call: &Call<'_>) -> Result<ArrayRef> {
    let length = |row: usize| match call.args[0].data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            Ok(i64::from(call.args[0].as_primitive::<IntervalYearMonthType>().value(row)))
        }
        DataType::Duration(arrow::datatypes::TimeUnit::Microsecond) => {
            Ok(call.args[0].as_primitive::<DurationMicrosecondType>().value(row))
        }
        other => Err(external(Error::internal(format!("interval_text of {other}")))),
    };
    // The same in every row: the scheduler writes them.
    let fields = if call.rows == 0 { None } else { Fields::parse(call.text(1).value(0)) };
    call.text_rows(|row| {
        let fields = fields.ok_or_else(|| external(Error::internal("no fields of an interval")))?;
        Ok(Some(fields.text(length(row)?)))
    })
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
}
