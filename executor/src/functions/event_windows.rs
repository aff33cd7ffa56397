//! Windows of event time: `window`, `session_window`, and `window_time`.
//!
//! A row is in one tumbling window and in several sliding ones, and a session grows with the rows that are in it: the
//! scheduler's rule `event_windows` makes of the calls what the rows ask for. What stands here is one window of a row.

use super::datetime::{MICROS_PER_DAY, MICROS_PER_SECOND};
use super::ddl;
use super::native::{Call, Function, Param, Returns, external, invalid};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use headwater_proto::error::Error;
use std::sync::Arc;

use Param::{Any, Long, Text, Timestamp};

/// All windows that a time is in, the latest last: of time, duration, slide and start, in microseconds.
pub const ALL: &str = "windows_of";

/// The functions.
pub fn functions() -> Vec<Function> {
    vec![
        Function::new("window", &[Timestamp, Text], Returns::Constant(window_type), |call| {
            if call.rows == 0 {
                return windows(call, |_| None);
            }
            // Literals: the same in every row.
            let spec = Spec::of(&|at| call.has(at).then(|| call.text(at).value(0).to_string()))?;
            windows(call, |time| from_start(spec.last_start(time)?, spec.duration))
        })
        .optional(&[Text, Text]),
        Function::new(ALL, &[Timestamp, Long, Long, Long], Returns::Type(|| ddl::array_of(window())), all_windows),
        Function::new("session_window", &[Timestamp, Text], Returns::Constant(session_type), |call| {
            if call.rows == 0 {
                return windows(call, |_| None);
            }
            let gap = gap(call.text(1).value(0))?;
            windows(call, |time| from_start(time, gap))
        }),
        Function::new("window_time", &[Any], Returns::Type(ddl::timestamp), |call| {
            let Some(all) = call.args[0].as_struct_opt() else { return not_a_window() };
            let ends = all.column_by_name("end").and_then(|ends| ends.as_primitive_opt::<TimestampMicrosecondType>());
            let Some(ends) = ends else { return not_a_window() };
            call.rows::<TimestampMicrosecondType>(|i| {
                Ok((all.is_valid(i) && ends.is_valid(i)).then(|| ends.value(i) - 1))
            })
        })
        .coerced(|types| match types {
            [DataType::Struct(fields)] if fields.iter().any(|field| field.name() == "end") => Ok(types.to_vec()),
            _ => not_a_window(),
        }),
    ]
}

fn not_a_window<T>() -> Result<T> {
    invalid("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", "`window_time` takes what `window` or `session_window` makes")
}

/// `STRUCT<start: TIMESTAMP, end: TIMESTAMP>`.
pub fn window() -> DataType {
    let time = |name: &str| Field::new(name, ddl::timestamp(), true);
    DataType::Struct(vec![time("start"), time("end")].into())
}

/// What `window(time, duration, slide, start)` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// How long a window is.
    pub duration: i64,
    /// How far the next begins after it.
    pub slide: i64,
    /// Where the first begins, after the epoch.
    pub start: i64,
}

impl Spec {
    /// Of the call's arguments, by position.
    ///
    /// # Errors
    /// Lengths that are none.
    pub fn of(argument: &dyn Fn(usize) -> Option<String>) -> Result<Self> {
        let length = |at: usize| argument(at).map(|text| micros_of(&text).ok_or(text)).transpose();
        let wrong = |text: String| {
            external(Error::invalid(
                "DATATYPE_MISMATCH.NON_FOLDABLE_INPUT",
                format!("`window` takes literals such as '5 minutes', not '{text}'"),
            ))
        };
        let duration = length(1).map_err(wrong)?.ok_or_else(|| wrong(String::new()))?;
        let slide = length(2).map_err(wrong)?.unwrap_or(duration);
        let start = length(3).map_err(wrong)?.unwrap_or(0);
        let range = |what: &str| {
            invalid(
                "DATATYPE_MISMATCH.PARAMETER_CONSTRAINT_VIOLATION",
                format!("the {what} of `window` is out of range"),
            )
        };
        match () {
            () if duration <= 0 => range("window_duration"),
            () if slide <= 0 || slide > duration => range("slide_duration"),
            () if start.abs() >= slide => range("start_time"),
            () => Ok(Self { duration, slide, start }),
        }
    }

    /// The start of the last window that a time is in.
    fn last_start(&self, time: i64) -> Option<i64> {
        time.checked_sub(time.checked_sub(self.start)?.rem_euclid(self.slide))
    }
}

fn literal_text(constants: &[Option<&ScalarValue>], at: usize) -> Option<String> {
    constants.get(at).copied().flatten().and_then(|text| text.try_as_str()).flatten().map(str::to_string)
}

fn window_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    // What is no literal has no value here.
    if (1..types.len()).any(|at| literal_text(constants, at).is_none()) {
        return invalid(
            "DATATYPE_MISMATCH.NON_FOLDABLE_INPUT",
            "the lengths of `window` must be literals such as '5 minutes'",
        );
    }
    Spec::of(&|at| literal_text(constants, at))?;
    Ok(window())
}

fn session_type(_: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    match literal_text(constants, 1) {
        Some(text) => gap(&text).map(|_| window()),
        None => invalid(
            "DATATYPE_MISMATCH.NON_FOLDABLE_INPUT",
            "the gap of `session_window` must be a literal such as '5 minutes'",
        ),
    }
}

fn gap(text: &str) -> Result<i64> {
    match micros_of(text) {
        Some(gap) if gap > 0 => Ok(gap),
        _ => invalid(
            "DATATYPE_MISMATCH.PARAMETER_CONSTRAINT_VIOLATION",
            format!("the gap of `session_window` must be a length such as '5 minutes', not '{text}'"),
        ),
    }
}

/// `5 minutes`, `1 hour 30 seconds`: of weeks and shorter units.
pub fn micros_of(text: &str) -> Option<i64> {
    let words: Vec<&str> = text.split_whitespace().filter(|word| !word.eq_ignore_ascii_case("interval")).collect();
    if words.is_empty() || words.len() % 2 == 1 {
        return None;
    }
    words.chunks(2).try_fold(0_i64, |sum, pair| {
        let size = micros_of_unit(&pair[1].to_ascii_lowercase())?;
        sum.checked_add(pair[0].parse::<i64>().ok()?.checked_mul(size)?)
    })
}

/// How long a unit is, in lower case, one or many: `minute`, `minutes`. None of those without a fixed length.
pub fn micros_of_unit(unit: &str) -> Option<i64> {
    Some(match unit.strip_suffix('s').unwrap_or(unit) {
        "week" => 7 * MICROS_PER_DAY,
        "day" => MICROS_PER_DAY,
        "hour" => 3600 * MICROS_PER_SECOND,
        "minute" => 60 * MICROS_PER_SECOND,
        "second" => MICROS_PER_SECOND,
        "millisecond" => 1000,
        "microsecond" => 1,
        _ => return None,
    })
}

fn times(all: Vec<i64>, valid: &NullBuffer) -> ArrayRef {
    let all = TimestampMicrosecondArray::new(all.into(), Some(valid.clone()));
    Arc::new(all.with_timezone("UTC"))
}

fn structs(fields: &Fields, spans: Vec<Option<(i64, i64)>>) -> Result<ArrayRef> {
    let valid: NullBuffer = spans.iter().map(Option::is_some).collect::<Vec<_>>().into();
    let (starts, ends) = spans.into_iter().map(Option::unwrap_or_default).unzip();
    let columns = vec![times(starts, &valid), times(ends, &valid)];
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, Some(valid))?))
}

/// A window; none where it would end after the last of all times.
fn from_start(start: i64, duration: i64) -> Option<(i64, i64)> {
    start.checked_add(duration).map(|end| (start, end))
}

/// The window of each row's time.
fn windows(call: &Call<'_>, window: impl Fn(i64) -> Option<(i64, i64)>) -> Result<ArrayRef> {
    let DataType::Struct(fields) = call.return_type else { return Err(external(Error::internal("a struct"))) };
    let spans = (0..call.rows).map(|i| if call.skip(i) { None } else { window(call.times(0).value(i)) });
    structs(fields, spans.collect())
}

fn all_windows(call: &Call<'_>) -> Result<ArrayRef> {
    let DataType::List(item) = call.return_type else { return Err(external(Error::internal("a list"))) };
    let DataType::Struct(fields) = item.data_type() else { return Err(external(Error::internal("of structs"))) };
    let (mut spans, mut lengths, mut valid) = (vec![], vec![], vec![]);
    for i in 0..call.rows {
        let before = spans.len();
        let known = !call.skip(i);
        if known {
            let at = |at: usize| call.longs(at).value(i);
            let (time, spec) = (call.times(0).value(i), Spec { duration: at(1), slide: at(2), start: at(3) });
            let mut start = spec.last_start(time);
            while let Some((from, to)) =
                start.and_then(|from| from_start(from, spec.duration)).filter(|(_, to)| *to > time)
            {
                spans.push(Some((from, to)));
                start = from.checked_sub(spec.slide);
            }
            spans[before..].reverse();
        }
        lengths.push(spans.len() - before);
        valid.push(known);
    }
    let values = structs(fields, spans)?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), values, Some(valid.into()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_literals() {
        let of = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            Spec::of(&|at| texts.get(at - 1).cloned()).map(|spec| (spec.duration, spec.slide, spec.start))
        };
        assert_eq!(of(&["10 seconds"]).ok(), Some((10_000_000, 10_000_000, 0)));
        assert_eq!(
            of(&["1 minute 1 second", "30 seconds", "5 seconds"]).ok(),
            Some((61_000_000, 30_000_000, 5_000_000))
        );
        for wrong in [
            &["soon"] as &[&str],
            &["0 seconds"],
            &["5 seconds", "10 seconds"],
            &["5 seconds", "5 seconds", "6 seconds"],
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_last_window_holds_the_time() {
        let spec = Spec { duration: 10, slide: 5, start: 1 };
        assert_eq!((spec.last_start(11), spec.last_start(10), spec.last_start(0)), (Some(11), Some(6), Some(-4)));
        // Times at the ends of all there are.
        assert_eq!((spec.last_start(i64::MIN), from_start(i64::MAX - 1, 10)), (None, None));
    }
}
