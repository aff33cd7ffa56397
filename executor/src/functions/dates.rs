//! Functions of dates, timestamps and intervals, in the session's time zone and with Java's patterns.

use super::arithmetic::{add_interval, add_months, month_length};
use super::cast::{self, Options};
use super::datetime::{MICROS_PER_DAY, MICROS_PER_SECOND, Pattern, Zone, civil_from_days, days_from_civil};
use super::ddl;
use super::native::{Call, Function, Param, Returns, external, invalid};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, FieldRef, Float64Type, Int8Type, Int32Type,
    Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use headwater_proto::error::Error;
use std::collections::HashMap;

use Param::{Any, Date, Double, Int, Long, Text, Timestamp, TimestampNtz};

const INT: Returns = Returns::Type(|| DataType::Int32);
const LONG: Returns = Returns::Type(|| DataType::Int64);
const TEXT: Returns = Returns::Type(|| DataType::Utf8);
const DATE: Returns = Returns::Type(|| DataType::Date32);
const TIMESTAMP: Returns = Returns::Type(ddl::timestamp);
const NTZ: Returns = Returns::Type(|| DataType::Timestamp(TimeUnit::Microsecond, None));
const DAY_TIME: Returns = Returns::Type(|| DataType::Duration(TimeUnit::Microsecond));
const YEAR_MONTH: Returns = Returns::Type(|| DataType::Interval(IntervalUnit::YearMonth));
const CALENDAR: Returns = Returns::Type(|| DataType::Interval(IntervalUnit::MonthDayNano));

/// Patterns compiled once for a batch.
#[derive(Default)]
pub struct Formats(HashMap<String, Pattern>);

impl Formats {
    fn get(&mut self, pattern: &str) -> Result<&Pattern> {
        if !self.0.contains_key(pattern) {
            // Letters of the week-based year: what Java had for them until Spark 3 is refused by Spark too.
            let mut quoted = false;
            for c in pattern.chars() {
                quoted ^= c == '\'';
                if !quoted && "YWwuF".contains(c) {
                    return invalid(
                        "INCONSISTENT_BEHAVIOR_CROSS_VERSION.DATETIME_PATTERN_RECOGNITION",
                        format!("the pattern letter '{c}' of '{pattern}' is not supported since Spark 3.0"),
                    );
                }
            }
            self.0.insert(pattern.to_string(), Pattern::compile(pattern).map_err(external)?);
        }
        Ok(&self.0[pattern])
    }

    /// An instant in a zone by a pattern.
    ///
    /// # Errors
    /// A pattern that Spark has not.
    pub fn format(&mut self, pattern: &str, instant: i64, zone: &Zone) -> Result<String> {
        let offset = zone.offset_at(instant);
        let mut out = String::new();
        let local = instant + i64::from(offset) * MICROS_PER_SECOND;
        self.get(pattern)?.format(local, zone, offset, &mut out);
        Ok(out)
    }
}

/// The functions.
pub fn functions() -> Vec<Function> {
    macro_rules! of_date {
        ($name:literal, $f:expr) => {
            Function::new($name, &[Date], INT, |call| {
                call.rows::<Int32Type>(|i| {
                    Ok(Some($f(civil_from_days(i64::from(call.dates(0).value(i))), call.dates(0).value(i))))
                })
            })
        };
    }
    macro_rules! of_time {
        ($name:literal, $f:expr) => {
            Function::new($name, &[Any], INT, |call| {
                let (times, zone) = local_times(call, 0)?;
                let times = times.as_primitive::<TimestampMicrosecondType>();
                call.rows::<Int32Type>(|i| {
                    let time = times.value(i);
                    let local = time + i64::from(zone.offset_at(time)) * MICROS_PER_SECOND;
                    Ok(Some($f(local.rem_euclid(MICROS_PER_DAY) / MICROS_PER_SECOND) as i32))
                })
            })
            .coerced(|types| one_time($name, types))
            .with_context()
        };
    }
    type Civil = (i64, u32, u32);
    vec![
        of_date!("year", |(y, _, _): Civil, _| y as i32),
        of_date!("month", |(_, m, _): Civil, _| m as i32),
        of_date!("day", |(_, _, d): Civil, _| d as i32).alias(&["dayofmonth"]),
        of_date!("quarter", |(_, m, _): Civil, _| (m as i32 - 1) / 3 + 1),
        of_date!("dayofyear", |(y, _, _): Civil, days: i32| day_of_year(y, days)),
        of_date!("dayofweek", |_: Civil, days: i32| (days + 4).rem_euclid(7) + 1),
        of_date!("weekday", |_: Civil, days: i32| (days + 3).rem_euclid(7)),
        of_date!("weekofyear", |_: Civil, days: i32| iso_week(days).1),
        of_time!("hour", |seconds: i64| seconds / 3600),
        of_time!("minute", |seconds: i64| seconds / 60 % 60),
        of_time!("second", |seconds: i64| seconds % 60),
        Function::new("monthname", &[Date], TEXT, |call| {
            let mut known = Formats::default();
            call.text_rows(|i| {
                known.format("MMM", i64::from(call.dates(0).value(i)) * MICROS_PER_DAY, &Zone::UTC).map(Some)
            })
        }),
        Function::new("dayname", &[Date], TEXT, |call| {
            let mut known = Formats::default();
            call.text_rows(|i| {
                known.format("EEE", i64::from(call.dates(0).value(i)) * MICROS_PER_DAY, &Zone::UTC).map(Some)
            })
        }),
        Function::new("date_part", &[Text, Any], Returns::Constant(part_type), date_part)
            .alias(&["datepart", "extract"])
            .with_context(),
        Function::new("date_add", &[Date, Int], DATE, |call| moved_days(call, 1)).alias(&["dateadd"]),
        Function::new("date_sub", &[Date, Int], DATE, |call| moved_days(call, -1)),
        Function::new("add_months", &[Date, Int], DATE, |call| {
            call.rows::<Date32Type>(|i| Ok(add_months(call.dates(0).value(i), call.ints(1).value(i))))
        }),
        Function::new("datediff", &[Date, Date], INT, |call| {
            call.rows::<Int32Type>(|i| Ok(Some(call.dates(0).value(i) - call.dates(1).value(i))))
        })
        .alias(&["date_diff"]),
        Function::new("months_between", &[Timestamp, Timestamp], Returns::Type(|| DataType::Float64), months_between)
            .optional(&[Param::Boolean])
            .with_context(),
        Function::new("last_day", &[Date], DATE, |call| {
            call.rows::<Date32Type>(|i| {
                let (year, month, _) = civil_from_days(i64::from(call.dates(0).value(i)));
                Ok(days_from_civil(year, month, month_length(year, month)))
            })
        }),
        Function::new("next_day", &[Date, Text], DATE, next_day).with_context(),
        Function::new("trunc", &[Date, Text], DATE, |call| {
            call.rows::<Date32Type>(|i| {
                let days = call.dates(0).value(i);
                Ok(trunc_days(&call.text(1).value(i).to_ascii_uppercase(), days))
            })
        }),
        Function::new("date_trunc", &[Text, Any], Returns::Of(|types| Ok(types[1].clone())), date_trunc)
            .coerced(|types| match types {
                [_, DataType::Timestamp(_, None)] => {
                    Ok(vec![DataType::Utf8, DataType::Timestamp(TimeUnit::Microsecond, None)])
                }
                [_, _] => Ok(vec![DataType::Utf8, ddl::timestamp()]),
                _ => wrong_count("date_trunc", "2", types.len()),
            })
            .with_context(),
        Function::new("date_format", &[Timestamp, Text], TEXT, |call| {
            let mut known = Formats::default();
            call.text_rows(|i| {
                known.format(call.text(1).value(i), call.times(0).value(i), &call.context.zone).map(Some)
            })
        })
        .with_context(),
        Function::new("from_unixtime", &[Long], TEXT, |call| {
            let mut known = Formats::default();
            call.text_rows(|i| {
                let pattern = if call.has(1) { call.text(1).value(i) } else { "yyyy-MM-dd HH:mm:ss" };
                let instant = call.longs(0).value(i).saturating_mul(MICROS_PER_SECOND);
                known.format(pattern, instant, &call.context.zone).map(Some)
            })
        })
        .optional(&[Text])
        .with_context(),
        parser("to_date", DATE, false),
        parser("try_to_date", DATE, true),
        parser("to_timestamp", TIMESTAMP, false),
        parser("to_timestamp_ltz", TIMESTAMP, false),
        parser("try_to_timestamp", TIMESTAMP, true),
        parser("to_timestamp_ntz", NTZ, false),
        unix_time("unix_timestamp"),
        unix_time("to_unix_timestamp"),
        Function::new("unix_date", &[Date], INT, |call| call.rows::<Int32Type>(|i| Ok(Some(call.dates(0).value(i))))),
        Function::new("date_from_unix_date", &[Int], DATE, |call| {
            call.rows::<Date32Type>(|i| Ok(Some(call.ints(0).value(i))))
        }),
        Function::new("timestamp_seconds", &[Param::Number], TIMESTAMP, |call| {
            cast::cast(&call.args[0], &ddl::timestamp(), &Options::of(&call.context))
        })
        .with_context(),
        Function::new("timestamp_millis", &[Long], TIMESTAMP, |call| {
            call.rows::<TimestampMicrosecondType>(|i| match call.longs(0).value(i).checked_mul(1000) {
                Some(micros) => Ok(Some(micros)),
                None => invalid("DATETIME_OVERFLOW", "the timestamp is out of range"),
            })
        }),
        Function::new("timestamp_micros", &[Long], TIMESTAMP, |call| {
            call.rows::<TimestampMicrosecondType>(|i| Ok(Some(call.longs(0).value(i))))
        }),
        Function::new("unix_seconds", &[Timestamp], LONG, |call| {
            call.rows::<Int64Type>(|i| Ok(Some(call.times(0).value(i).div_euclid(MICROS_PER_SECOND))))
        }),
        Function::new("unix_millis", &[Timestamp], LONG, |call| {
            call.rows::<Int64Type>(|i| Ok(Some(call.times(0).value(i).div_euclid(1000))))
        }),
        Function::new("unix_micros", &[Timestamp], LONG, |call| {
            call.rows::<Int64Type>(|i| Ok(Some(call.times(0).value(i))))
        }),
        Function::new("make_date", &[Int, Int, Int], DATE, |call| {
            call.rows::<Date32Type>(|i| {
                let (y, m, d) = (call.ints(0).value(i), call.ints(1).value(i), call.ints(2).value(i));
                match civil(y, m, d) {
                    None if call.context.ansi => out_of_bounds(&format!("Invalid date {y}-{m}-{d}")),
                    found => Ok(found),
                }
            })
        })
        .with_context(),
        make_timestamp("make_timestamp", TIMESTAMP, false),
        make_timestamp("make_timestamp_ltz", TIMESTAMP, false),
        make_timestamp("make_timestamp_ntz", NTZ, false),
        make_timestamp("try_make_timestamp", TIMESTAMP, true),
        make_timestamp("try_make_timestamp_ltz", TIMESTAMP, true),
        make_timestamp("try_make_timestamp_ntz", NTZ, true),
        Function::new("make_dt_interval", &[], DAY_TIME, |call| {
            call.rows::<DurationMicrosecondType>(|i| {
                let int = |at: usize| if call.has(at) { i64::from(call.ints(at).value(i)) } else { 0 };
                let seconds = if call.has(3) { call.doubles(3).value(i) } else { 0.0 };
                let days = int(0).checked_mul(MICROS_PER_DAY);
                let rest = (int(1) * 3600 + int(2) * 60) * MICROS_PER_SECOND;
                let micros = (seconds * MICROS_PER_SECOND as f64).round() as i64;
                match days.and_then(|days| days.checked_add(rest)?.checked_add(micros)) {
                    Some(micros) => Ok(Some(micros)),
                    None => interval_overflow(),
                }
            })
        })
        .optional(&[Int, Int, Int, Double]),
        Function::new("make_ym_interval", &[], YEAR_MONTH, |call| {
            call.rows::<IntervalYearMonthType>(|i| {
                let int = |at: usize| if call.has(at) { call.ints(at).value(i) } else { 0 };
                match int(0).checked_mul(12).and_then(|months| months.checked_add(int(1))) {
                    Some(months) => Ok(Some(months)),
                    None => interval_overflow(),
                }
            })
        })
        .optional(&[Int, Int]),
        Function::new("make_interval", &[], CALENDAR, |call| {
            call.rows::<IntervalMonthDayNanoType>(|i| match calendar(call, i) {
                None if call.context.ansi => invalid(
                    "ARITHMETIC_OVERFLOW",
                    "the interval is out of range: use `try_make_interval` to have NULL instead",
                ),
                found => Ok(found),
            })
        })
        .optional(&[Int, Int, Int, Int, Int, Int, Double])
        .with_context(),
        Function::new("try_make_interval", &[Int], CALENDAR, |call| {
            call.rows::<IntervalMonthDayNanoType>(|i| Ok(calendar(call, i)))
        })
        .optional(&[Int, Int, Int, Int, Int, Double]),
        // What INTERVAL literals are.
        Function::new("interval_days", &[Long], DAY_TIME, |call| {
            call.rows::<DurationMicrosecondType>(|i| Ok(call.longs(0).value(i).checked_mul(MICROS_PER_DAY)))
        })
        .optional(&[Text])
        .interval(written),
        Function::new("interval_micros", &[Long], DAY_TIME, |call| {
            call.rows::<DurationMicrosecondType>(|i| Ok(Some(call.longs(0).value(i))))
        })
        .optional(&[Text])
        .interval(written),
        Function::new("interval_months", &[Long], YEAR_MONTH, |call| {
            call.rows::<IntervalYearMonthType>(|i| Ok(i32::try_from(call.longs(0).value(i)).ok()))
        })
        .optional(&[Text])
        .interval(written),
        Function::new("from_utc_timestamp", &[Timestamp, Text], TIMESTAMP, |call| {
            call.rows::<TimestampMicrosecondType>(|i| {
                let (time, zone) = (call.times(0).value(i), zone_of(call.text(1).value(i))?);
                Ok(Some(time + i64::from(zone.offset_at(time)) * MICROS_PER_SECOND))
            })
        }),
        Function::new("to_utc_timestamp", &[Timestamp, Text], TIMESTAMP, |call| {
            call.rows::<TimestampMicrosecondType>(|i| {
                Ok(zone_of(call.text(1).value(i))?.instant(call.times(0).value(i)))
            })
        }),
        Function::new("convert_timezone", &[Text, Any], NTZ, |call| {
            call.rows::<TimestampMicrosecondType>(|i| {
                let three = call.has(2);
                let from = if three { zone_of(call.text(0).value(i))? } else { call.context.zone };
                let to = zone_of(call.text(usize::from(three)).value(i))?;
                let instant = from.instant(call.times(1 + usize::from(three)).value(i));
                Ok(instant.map(|instant| instant + i64::from(to.offset_at(instant)) * MICROS_PER_SECOND))
            })
        })
        .optional(&[TimestampNtz])
        .coerced(|types| {
            let ntz = DataType::Timestamp(TimeUnit::Microsecond, None);
            match types.len() {
                2 => Ok(vec![DataType::Utf8, ntz]),
                3 => Ok(vec![DataType::Utf8, DataType::Utf8, ntz]),
                count => wrong_count("convert_timezone", "2 or 3", count),
            }
        })
        .with_context(),
        Function::new("timestampadd", &[Text, Long, Any], Returns::Of(|types| Ok(types[2].clone())), timestampadd)
            .coerced(|types| match types {
                [_, _, DataType::Timestamp(_, None)] => {
                    Ok(vec![DataType::Utf8, DataType::Int64, DataType::Timestamp(TimeUnit::Microsecond, None)])
                }
                [_, _, _] => Ok(vec![DataType::Utf8, DataType::Int64, ddl::timestamp()]),
                _ => wrong_count("timestampadd", "3", types.len()),
            })
            .with_context(),
        Function::new("timestampdiff", &[Text, Timestamp, Timestamp], LONG, timestampdiff).with_context(),
        Function::new("current_timezone", &[], TEXT, |call| {
            call.text_rows(|_| Ok(Some(call.context.zone_name.clone())))
        })
        .with_context(),
    ]
}

/// The fields that a literal names.
fn written(_: &[FieldRef], constants: &[Option<&ScalarValue>]) -> Option<String> {
    constants.get(1).copied().flatten().and_then(|fields| fields.try_as_str()).flatten().map(str::to_string)
}

fn interval_overflow<T>() -> Result<T> {
    invalid("INTERVAL_ARITHMETIC_OVERFLOW.WITHOUT_SUGGESTION", "integer overflow while operating with intervals")
}

/// Years, months, weeks, days, hours, minutes and seconds as an interval that fits.
fn calendar(call: &Call<'_>, i: usize) -> Option<IntervalMonthDayNano> {
    let int = |at: usize| if call.has(at) { call.ints(at).value(i) } else { 0 };
    let seconds = if call.has(6) { call.doubles(6).value(i) } else { 0.0 };
    let months = int(0).checked_mul(12)?.checked_add(int(1))?;
    let days = int(2).checked_mul(7)?.checked_add(int(3))?;
    let micros = (i64::from(int(4)) * 3600 + i64::from(int(5)) * 60) * MICROS_PER_SECOND;
    let micros = micros.checked_add((seconds * MICROS_PER_SECOND as f64).round() as i64)?;
    Some(IntervalMonthDayNano::new(months, days, micros.checked_mul(1000)?))
}

fn wrong_count<T>(name: &str, expect: &str, count: usize) -> Result<T> {
    invalid(
        "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
        format!("the `{name}` requires {expect} parameters but the actual number is {count}"),
    )
}

fn out_of_bounds<T>(what: &str) -> Result<T> {
    invalid(
        "DATETIME_FIELD_OUT_OF_BOUNDS.WITHOUT_SUGGESTION",
        format!("{what}: set \"spark.sql.ansi.enabled\" to \"false\" to have NULL instead"),
    )
}

fn zone_of(name: &str) -> Result<Zone> {
    Zone::parse(name)
        .ok_or_else(|| external(Error::invalid("INVALID_TIMEZONE", format!("there is no time zone {name:?}"))))
}

fn one_time(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [DataType::Timestamp(_, None)] => Ok(vec![DataType::Timestamp(TimeUnit::Microsecond, None)]),
        [_] => Ok(vec![ddl::timestamp()]),
        _ => wrong_count(name, "1", types.len()),
    }
}

/// Argument `at` as times, and the zone that they are to be read in.
fn local_times(call: &Call<'_>, at: usize) -> Result<(ArrayRef, Zone)> {
    let array = &call.args[at];
    match array.data_type() {
        DataType::Timestamp(_, None) => Ok((array.clone(), Zone::UTC)),
        DataType::Timestamp(_, Some(_)) => Ok((array.clone(), call.context.zone)),
        _ => Ok((cast::cast(array, &ddl::timestamp(), &Options::of(&call.context))?, call.context.zone)),
    }
}

fn civil(year: i32, month: i32, day: i32) -> Option<i32> {
    days_from_civil(i64::from(year), u32::try_from(month).ok()?, u32::try_from(day).ok()?)
}

fn day_of_year(year: i64, days: i32) -> i32 {
    days - days_from_civil(year, 1, 1).unwrap_or(days) + 1
}

/// ISO year and week.
fn iso_week(days: i32) -> (i64, i32) {
    // The week's Thursday says which year it belongs to.
    let thursday = days - (days + 3).rem_euclid(7) + 3;
    let (year, ..) = civil_from_days(i64::from(thursday));
    (year, (day_of_year(year, thursday) - 1) / 7 + 1)
}

fn moved_days(call: &Call<'_>, sign: i32) -> Result<ArrayRef> {
    call.rows::<Date32Type>(|i| {
        let moved = call.dates(0).value(i).checked_add(sign * call.ints(1).value(i));
        moved.map(Some).ok_or_else(|| external(Error::invalid("DATETIME_OVERFLOW", "the date is out of range")))
    })
}

fn months_between(call: &Call<'_>) -> Result<ArrayRef> {
    call.rows::<Float64Type>(|i| {
        let parts = |at: usize| {
            let time = call.times(at).value(i);
            let local = time + i64::from(call.context.zone.offset_at(time)) * MICROS_PER_SECOND;
            (civil_from_days(local.div_euclid(MICROS_PER_DAY)), local.rem_euclid(MICROS_PER_DAY) / MICROS_PER_SECOND)
        };
        let (((y1, m1, d1), s1), ((y2, m2, d2), s2)) = (parts(0), parts(1));
        let months = (y1 * 12 + i64::from(m1) - y2 * 12 - i64::from(m2)) as f64;
        let last = |y: i64, m: u32, d: u32| d == month_length(y, m);
        if d1 == d2 || last(y1, m1, d1) && last(y2, m2, d2) {
            return Ok(Some(months));
        }
        let seconds = (i64::from(d1) - i64::from(d2)) * 86_400 + s1 - s2;
        let value = months + seconds as f64 / (31.0 * 86_400.0);
        let round = !call.has(2) || call.bools(2).value(i);
        Ok(Some(if round { (value * 1e8).round() / 1e8 } else { value }))
    })
}

fn next_day(call: &Call<'_>) -> Result<ArrayRef> {
    call.rows::<Date32Type>(|i| {
        let name = call.text(1).value(i).trim().to_ascii_uppercase();
        let names = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
        let full = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"];
        let found = (0..7).find(|at| name == names[*at] || name == full[*at][..3] || name == full[*at]);
        match found {
            Some(weekday) => {
                let days = call.dates(0).value(i);
                let ahead = (weekday as i32 - (days + 3).rem_euclid(7) - 1).rem_euclid(7) + 1;
                Ok(days.checked_add(ahead))
            }
            None if call.context.ansi => {
                invalid("ILLEGAL_DAY_OF_WEEK", format!("illegal input for day of week: {}", call.text(1).value(i)))
            }
            None => Ok(None),
        }
    })
}

/// The beginning of the period that a date is in; none for a unit that there is not.
fn trunc_days(unit: &str, days: i32) -> Option<i32> {
    let (year, month, _) = civil_from_days(i64::from(days));
    match unit {
        "YEAR" | "YYYY" | "YY" => days_from_civil(year, 1, 1),
        "QUARTER" => days_from_civil(year, (month - 1) / 3 * 3 + 1, 1),
        "MONTH" | "MM" | "MON" => days_from_civil(year, month, 1),
        "WEEK" => Some(days - (days + 3).rem_euclid(7)),
        _ => None,
    }
}

fn date_trunc(call: &Call<'_>) -> Result<ArrayRef> {
    let (times, zone) = local_times(call, 1)?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    call.rows::<TimestampMicrosecondType>(|i| {
        let unit = call.text(0).value(i).to_ascii_uppercase();
        let time = times.value(i);
        let size = match unit.as_str() {
            "MICROSECOND" => return Ok(Some(time)),
            "MILLISECOND" => 1000,
            "SECOND" => MICROS_PER_SECOND,
            "MINUTE" => 60 * MICROS_PER_SECOND,
            "HOUR" => 3600 * MICROS_PER_SECOND,
            _ => {
                let local = time + i64::from(zone.offset_at(time)) * MICROS_PER_SECOND;
                let days = local.div_euclid(MICROS_PER_DAY) as i32;
                let begin = if matches!(unit.as_str(), "DAY" | "DD") { Some(days) } else { trunc_days(&unit, days) };
                return Ok(begin.and_then(|days| zone.instant(i64::from(days) * MICROS_PER_DAY)));
            }
        };
        let offset = i64::from(zone.offset_at(time)) * MICROS_PER_SECOND;
        Ok(Some(time - (time + offset).rem_euclid(size)))
    })
}

fn parser(name: &'static str, returns: Returns, lenient: bool) -> Function {
    let run: super::native::Run = if lenient { |call| parse(call, true) } else { |call| parse(call, false) };
    Function::new(name, &[Any], returns, run)
        .optional(&[Text])
        .coerced(|types| match types {
            [DataType::Date32 | DataType::Timestamp(..)] => Ok(types.to_vec()),
            [DataType::Date32 | DataType::Timestamp(..), _] => Ok(vec![types[0].clone(), DataType::Utf8]),
            [one] if one.is_numeric() => Ok(types.to_vec()),
            [_] => Ok(vec![DataType::Utf8]),
            [_, _] => Ok(vec![DataType::Utf8, DataType::Utf8]),
            _ => wrong_count("to_timestamp", "1 to 2", types.len()),
        })
        .with_context()
}

fn parse(call: &Call<'_>, lenient: bool) -> Result<ArrayRef> {
    let to = call.return_type;
    let options = Options {
        mode: match (lenient, call.context.ansi) {
            (true, _) => cast::Mode::Try,
            (false, true) => cast::Mode::Ansi,
            (false, false) => cast::Mode::Legacy,
        },
        context: call.context.clone(),
    };
    if !call.has(1) || !matches!(call.args[0].data_type(), DataType::Utf8) {
        return cast::cast(&call.args[0], to, &options);
    }
    let mut known = Formats::default();
    let zone = call.context.zone;
    let mut each = |i: usize| -> Result<Option<i64>> {
        let (text, pattern) = (call.text(0).value(i), call.text(1).value(i));
        let compiled = known.get(pattern)?;
        let found = match to {
            DataType::Date32 => compiled.parse_timestamp(text, &zone).map(|instant| {
                (instant + i64::from(zone.offset_at(instant)) * MICROS_PER_SECOND).div_euclid(MICROS_PER_DAY)
            }),
            DataType::Timestamp(_, None) => compiled.parse_timestamp_ntz(text),
            _ => compiled.parse_timestamp(text, &zone),
        };
        match found {
            None if options.mode == cast::Mode::Ansi => invalid(
                "CANNOT_PARSE_TIMESTAMP",
                format!(
                    "text '{text}' could not be parsed by the pattern '{pattern}': use `try_to_timestamp` to have NULL instead"
                ),
            ),
            found => Ok(found),
        }
    };
    match to {
        DataType::Date32 => call.rows::<Date32Type>(|i| Ok(each(i)?.map(|days| days as i32))),
        _ => call.rows::<TimestampMicrosecondType>(each),
    }
}

fn unix_time(name: &'static str) -> Function {
    Function::new(name, &[], LONG, |call| {
        let zone = call.context.zone;
        // Cut towards 1970, unlike `unix_seconds`.
        let seconds = |instant: i64| instant / MICROS_PER_SECOND;
        if call.args[0].data_type() != &DataType::Utf8 {
            let times = cast::cast(&call.args[0], &ddl::timestamp(), &Options::of(&call.context))?;
            let times = times.as_primitive::<TimestampMicrosecondType>();
            return call.rows::<Int64Type>(|i| Ok(Some(seconds(times.value(i)))));
        }
        let mut known = Formats::default();
        call.rows::<Int64Type>(|i| {
            let pattern = if call.has(1) { call.text(1).value(i) } else { "yyyy-MM-dd HH:mm:ss" };
            let text = call.text(0).value(i);
            match known.get(pattern)?.parse_timestamp(text, &zone) {
                Some(instant) => Ok(Some(seconds(instant))),
                None if call.context.ansi => invalid(
                    "CANNOT_PARSE_TIMESTAMP",
                    format!("text '{text}' could not be parsed by the pattern '{pattern}': use `try_to_timestamp`"),
                ),
                None => Ok(None),
            }
        })
    })
    .optional(&[Any, Text])
    .coerced(|types| match types {
        // The current time: the analyzer puts it in.
        [] => Ok(vec![]),
        [time @ (DataType::Date32 | DataType::Timestamp(..))] => Ok(vec![time.clone()]),
        [time @ (DataType::Date32 | DataType::Timestamp(..)), _] => Ok(vec![time.clone(), DataType::Utf8]),
        [_] => Ok(vec![DataType::Utf8]),
        [_, _] => Ok(vec![DataType::Utf8, DataType::Utf8]),
        _ => wrong_count("unix_timestamp", "0 to 2", types.len()),
    })
    .with_context()
}

fn make_timestamp(name: &'static str, returns: Returns, lenient: bool) -> Function {
    let run: super::native::Run = if lenient { |call| made(call, true) } else { |call| made(call, false) };
    Function::new(name, &[Int, Int, Int, Int, Int, Double], returns, run).optional(&[Text]).with_context()
}

fn made(call: &Call<'_>, lenient: bool) -> Result<ArrayRef> {
    let local = matches!(call.return_type, DataType::Timestamp(_, None));
    call.rows::<TimestampMicrosecondType>(|i| {
        let int = |at: usize| call.ints(at).value(i);
        let seconds = call.doubles(5).value(i);
        let zone = match () {
            () if local => Zone::UTC,
            () if call.has(6) => zone_of(call.text(6).value(i))?,
            () => call.context.zone,
        };
        let time = || -> Option<i64> {
            let days = civil(int(0), int(1), int(2))?;
            let micros = (seconds * MICROS_PER_SECOND as f64).round() as i64;
            // 60 seconds are the next minute.
            let fits = (0..24).contains(&int(3)) && (0..60).contains(&int(4)) && (0.0..=60.0).contains(&seconds);
            let of_day = (i64::from(int(3)) * 3600 + i64::from(int(4)) * 60) * MICROS_PER_SECOND + micros;
            fits.then(|| zone.instant(i64::from(days) * MICROS_PER_DAY + of_day)).flatten()
        };
        // A fraction of the leap second is no time.
        if seconds > 60.0 && seconds < 61.0 && call.context.ansi && !lenient {
            return invalid(
                "INVALID_FRACTION_OF_SECOND",
                "valid range for seconds is [0, 60] (inclusive of both), but the fraction of second 60 must be zero",
            );
        }
        match time() {
            None if call.context.ansi && !lenient => out_of_bounds("a field of the timestamp is out of range"),
            found => Ok(found),
        }
    })
}

/// The parts that EXTRACT and its kin know.
fn part_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let part = constants.first().copied().flatten().and_then(|part| part.try_as_str()).flatten();
    let interval = matches!(types.get(1), Some(DataType::Interval(_) | DataType::Duration(_)));
    let Some(part) = part else {
        return invalid("NON_FOLDABLE_ARGUMENT", "the field of `extract` must be a literal");
    };
    Ok(match (canonical_part(part)?, interval) {
        ("SECOND", _) => DataType::Decimal128(8, 6),
        ("HOUR" | "MINUTE" | "MONTH", true) => DataType::Int8,
        _ => DataType::Int32,
    })
}

fn canonical_part(part: &str) -> Result<&'static str> {
    Ok(match part.to_ascii_uppercase().as_str() {
        "YEAR" | "Y" | "YEARS" | "YR" | "YRS" => "YEAR",
        "YEAROFWEEK" => "YEAROFWEEK",
        "QUARTER" | "QTR" => "QUARTER",
        "MONTH" | "MON" | "MONS" | "MONTHS" => "MONTH",
        "WEEK" | "W" | "WEEKS" => "WEEK",
        "DAY" | "D" | "DAYS" => "DAY",
        "DAYOFWEEK" | "DOW" => "DAYOFWEEK",
        "DAYOFWEEK_ISO" | "DOW_ISO" | "ISODOW" => "DAYOFWEEK_ISO",
        "DOY" => "DOY",
        "HOUR" | "H" | "HOURS" | "HR" | "HRS" => "HOUR",
        "MINUTE" | "M" | "MIN" | "MINS" | "MINUTES" => "MINUTE",
        "SECOND" | "S" | "SEC" | "SECONDS" | "SECS" => "SECOND",
        _ => return invalid("INVALID_EXTRACT_FIELD", format!("cannot extract `{part}`: there is no such field")),
    })
}

fn date_part(call: &Call<'_>) -> Result<ArrayRef> {
    let mut part = "";
    if let Some(row) = (0..call.rows).find(|row| call.text(0).is_valid(*row)) {
        part = canonical_part(call.text(0).value(row))?;
    }
    let array = &call.args[1];
    let value: Box<dyn Fn(usize) -> Option<i64>> = match array.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            let months = array.as_primitive::<IntervalYearMonthType>();
            Box::new(move |i| match part {
                "YEAR" => Some(i64::from(months.value(i) / 12)),
                "MONTH" => Some(i64::from(months.value(i) % 12)),
                _ => None,
            })
        }
        DataType::Duration(_) => {
            let durations = array.as_primitive::<DurationMicrosecondType>();
            Box::new(move |i| {
                let micros = durations.value(i);
                match part {
                    "DAY" => Some(micros / MICROS_PER_DAY),
                    "HOUR" => Some(micros % MICROS_PER_DAY / (3600 * MICROS_PER_SECOND)),
                    "MINUTE" => Some(micros / (60 * MICROS_PER_SECOND) % 60),
                    "SECOND" => Some(micros % (60 * MICROS_PER_SECOND)),
                    _ => None,
                }
            })
        }
        DataType::Interval(_) => {
            return invalid("UNSUPPORTED_FEATURE", "`extract` from a calendar interval is not supported");
        }
        _ => {
            let (times, zone) = match array.data_type() {
                DataType::Date32 => {
                    let ntz = DataType::Timestamp(TimeUnit::Microsecond, None);
                    (cast::cast(array, &ntz, &Options::of(&call.context))?, Zone::UTC)
                }
                _ => local_times(call, 1)?,
            };
            Box::new(move |i| {
                let time = times.as_primitive::<TimestampMicrosecondType>().value(i);
                let local = time + i64::from(zone.offset_at(time)) * MICROS_PER_SECOND;
                let days = local.div_euclid(MICROS_PER_DAY) as i32;
                let micros = local.rem_euclid(MICROS_PER_DAY);
                let (year, month, day) = civil_from_days(i64::from(days));
                Some(match part {
                    "YEAR" => year,
                    "YEAROFWEEK" => iso_week(days).0,
                    "QUARTER" => i64::from((month - 1) / 3 + 1),
                    "MONTH" => i64::from(month),
                    "WEEK" => i64::from(iso_week(days).1),
                    "DAY" => i64::from(day),
                    "DAYOFWEEK" => i64::from((days + 4).rem_euclid(7) + 1),
                    "DAYOFWEEK_ISO" => i64::from((days + 3).rem_euclid(7) + 1),
                    "DOY" => i64::from(day_of_year(year, days)),
                    "HOUR" => micros / (3600 * MICROS_PER_SECOND),
                    "MINUTE" => micros / (60 * MICROS_PER_SECOND) % 60,
                    _ => micros % (60 * MICROS_PER_SECOND),
                })
            })
        }
    };
    let checked = |i: usize| match value(i) {
        Some(value) => Ok(Some(value)),
        None => invalid("INVALID_EXTRACT_FIELD", format!("cannot extract `{part}` from this interval")),
    };
    match call.return_type {
        DataType::Decimal128(..) => call.rows::<Decimal128Type>(|i| Ok(checked(i)?.map(i128::from))),
        DataType::Int8 => call.rows::<Int8Type>(|i| Ok(checked(i)?.map(|value| value as i8))),
        _ => call.rows::<Int32Type>(|i| Ok(checked(i)?.map(|value| value as i32))),
    }
}

/// Months, days and microseconds of a unit.
fn unit_of(unit: &str) -> Result<(i64, i64, i64)> {
    Ok(match unit.to_ascii_uppercase().as_str() {
        "YEAR" => (12, 0, 0),
        "QUARTER" => (3, 0, 0),
        "MONTH" => (1, 0, 0),
        "WEEK" => (0, 7, 0),
        "DAY" | "DAYOFYEAR" => (0, 1, 0),
        "HOUR" => (0, 0, 3600 * MICROS_PER_SECOND),
        "MINUTE" => (0, 0, 60 * MICROS_PER_SECOND),
        "SECOND" => (0, 0, MICROS_PER_SECOND),
        "MILLISECOND" => (0, 0, 1000),
        "MICROSECOND" => (0, 0, 1),
        _ => return invalid("INVALID_PARAMETER_VALUE.DATETIME_UNIT", format!("there is no unit `{unit}`")),
    })
}

fn timestampadd(call: &Call<'_>) -> Result<ArrayRef> {
    let (times, zone) = local_times(call, 2)?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    call.rows::<TimestampMicrosecondType>(|i| {
        let ((months, days, micros), n) = (unit_of(call.text(0).value(i))?, call.longs(1).value(i));
        let whole = |one: i64| one.checked_mul(n).and_then(|value| i32::try_from(value).ok());
        let moved = || add_interval(times.value(i), whole(months)?, whole(days)?, micros.checked_mul(n)?, &zone);
        moved().map(Some).ok_or_else(|| external(Error::invalid("DATETIME_OVERFLOW", "the timestamp is out of range")))
    })
}

fn timestampdiff(call: &Call<'_>) -> Result<ArrayRef> {
    let zone = call.context.zone;
    let local = |time: i64| time + i64::from(zone.offset_at(time)) * MICROS_PER_SECOND;
    call.rows::<Int64Type>(|i| {
        let (months, days, micros) = unit_of(call.text(0).value(i))?;
        let (from, to) = (call.times(1).value(i), call.times(2).value(i));
        if micros > 0 {
            return Ok(Some((to - from) / micros));
        }
        let (from, to) = (local(from), local(to));
        if days > 0 {
            return Ok(Some((to - from) / (days * MICROS_PER_DAY)));
        }
        let parts = |time: i64| {
            let (year, month, day) = civil_from_days(time.div_euclid(MICROS_PER_DAY));
            (year * 12 + i64::from(month), i64::from(day) * MICROS_PER_DAY + time.rem_euclid(MICROS_PER_DAY))
        };
        let ((m1, rest1), (m2, rest2)) = (parts(from), parts(to));
        let mut between = m2 - m1;
        if between > 0 && rest2 < rest1 {
            between -= 1;
        } else if between < 0 && rest2 > rest1 {
            between += 1;
        }
        Ok(Some(between / months))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendars() {
        let day = |y, m, d| civil(y, m, d).expect("a date");
        assert_eq!(iso_week(day(2021, 1, 3)), (2020, 53));
        assert_eq!(iso_week(day(2024, 1, 1)), (2024, 1));
        assert_eq!(trunc_days("WEEK", day(2024, 5, 17)), civil(2024, 5, 13));
        assert_eq!(trunc_days("QUARTER", day(2024, 5, 17)), civil(2024, 4, 1));
        assert_eq!(trunc_days("BAD", day(2024, 5, 17)), None);
        assert_eq!(add_months(day(2024, 1, 31), 1), civil(2024, 2, 29));
        assert_eq!((civil(2023, 2, 29), civil(2023, 13, 1)), (None, None));
    }

    #[test]
    fn patterns_are_javas() {
        let mut known = Formats::default();
        let instant = parse("2024-07-01 12:00:00Z");
        let paris = Zone::parse("Europe/Paris").expect("a zone");
        assert_eq!(known.format("HH:mm XXX", instant, &paris).expect("text"), "14:00 +02:00");
        let error = known.format("YYYY", instant, &paris).expect_err("is refused").to_string();
        assert!(error.contains("INCONSISTENT_BEHAVIOR_CROSS_VERSION"), "{error}");
    }

    fn parse(text: &str) -> i64 {
        crate::functions::datetime::parse_timestamp(text, &Zone::UTC).expect(text)
    }
}
