//! `from_csv`, `to_csv` and `schema_of_csv`: one record of CSV a row, split and quoted as the files' connector does it.

use super::cast::{self, Mode, number, text as shown};
use super::datetime::{self, MICROS_PER_SECOND, Pattern, Zone};
use super::ddl;
use super::native::{Call, Context, Function, Param, Returns, external, invalid, mismatch};
use crate::connectors::Options as Pairs;
use crate::connectors::files::decode::Fields as Split;
use crate::connectors::files::encode::csv_field;
use crate::connectors::files::options::{CsvOptions, FileOptions, Format, ParseMode};
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringArray, StructArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Date32Type, Field, Fields, TimeUnit, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use headwater_proto::error::{Error, ErrorKind};
use std::fmt::Write;
use std::sync::Arc;

/// What is written where no format is given.
const TIMESTAMP_FORMAT: &str = "yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]";
const TIMESTAMP_NTZ_FORMAT: &str = "yyyy-MM-dd'T'HH:mm:ss[.SSS]";
const DATE_FORMAT: &str = "yyyy-MM-dd";

/// The functions.
pub fn functions() -> Vec<Function> {
    const TEXT: Returns = Returns::Type(|| DataType::Utf8);
    vec![
        Function::new("from_csv", &[Param::Any, Param::Text], Returns::Constant(record_type), from_csv)
            .optional(&[Param::Any])
            .nulls()
            .coerced(|types| match types {
                [input, ..] if !super::coercion::is_text(input) && *input != DataType::Null => {
                    Err(mismatch("from_csv", 0, "\"STRING\"", input))
                }
                [_, rest @ ..] => {
                    Ok([DataType::Utf8, DataType::Utf8].into_iter().chain(rest.iter().skip(1).cloned()).collect())
                }
                [] => Ok(vec![]),
            })
            .with_context(),
        Function::new("to_csv", &[Param::Any], TEXT, to_csv)
            .optional(&[Param::Any])
            .nulls()
            .coerced(|types| match types {
                [DataType::Struct(_), ..] => Ok(types.to_vec()),
                [other, ..] => invalid(
                    "DATATYPE_MISMATCH.UNSUPPORTED_INPUT_TYPE",
                    format!("the input of `to_csv` can't be of type {}: give a STRUCT", ddl::type_name(other)),
                ),
                [] => Ok(vec![]),
            })
            .with_context(),
        Function::new("schema_of_csv", &[Param::Text], TEXT, schema_of_csv)
            .optional(&[Param::Any])
            .coerced(|types| Ok(std::iter::once(DataType::Utf8).chain(types.iter().skip(1).cloned()).collect()))
            .with_context(),
    ]
}

/// Options of the three, as Spark names them; what these functions do not know is passed over, as in Spark.
struct Options {
    csv: CsvOptions,
    mode: ParseMode,
    corrupt: String,
    zone: Zone,
    timestamp: Option<Pattern>,
    timestamp_ntz: Option<Pattern>,
    date: Option<Pattern>,
    fallback: bool,
    nan: String,
    infinity: [String; 2],
}

/// Options that are those of files.
const OF_FILES: &[&str] = &[
    "mode",
    "columnNameOfCorruptRecord",
    "sep",
    "delimiter",
    "quote",
    "escape",
    "comment",
    "nullValue",
    "emptyValue",
    "quoteAll",
    "escapeQuotes",
    "ignoreLeadingWhiteSpace",
    "ignoreTrailingWhiteSpace",
];

impl Options {
    fn of(function: &str, call: &Call<'_>, at: usize) -> Result<Self> {
        let pairs = match call.has(at) {
            true => super::json::option_pairs(function, &ColumnarValue::Array(Arc::clone(&call.args[at])))?,
            false => vec![],
        };
        Self::parse(&pairs, &call.context).map_err(external)
    }

    fn parse(pairs: &[(String, String)], context: &Context) -> std::result::Result<Self, Error> {
        let known = |key: &str| OF_FILES.iter().any(|name| name.eq_ignore_ascii_case(key));
        let of_files = pairs.iter().filter(|(key, _)| known(key)).map(|(key, value)| (key.as_str(), value.as_str()));
        let files = FileOptions::parse(Format::Csv, &Pairs::new(of_files))?;
        let find = |name: &str| {
            pairs.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        };
        let pattern = |name: &str| find(name).map(Pattern::compile).transpose();
        let text = |name: &str, default: &str| find(name).unwrap_or(default).to_string();
        let zone = match find("timeZone") {
            None => context.zone,
            Some(name) => Zone::parse(name)
                .ok_or_else(|| Error::invalid("INVALID_TIMEZONE", format!("there is no time zone {name:?}")))?,
        };
        let (timestamp, date) = (pattern("timestampFormat")?, pattern("dateFormat")?);
        let fallback = match find("enableDateTimeParsingFallback") {
            Some(given) => given.eq_ignore_ascii_case("true"),
            None => timestamp.is_none() && date.is_none(),
        };
        Ok(Self {
            csv: files.csv,
            mode: files.mode,
            corrupt: files.corrupt_column,
            zone,
            timestamp_ntz: pattern("timestampNTZFormat")?,
            timestamp,
            date,
            fallback,
            nan: text("nanValue", "NaN"),
            infinity: [text("positiveInf", "Inf"), text("negativeInf", "-Inf")],
        })
    }
}

/// The type that a schema names.
fn record_type(_: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let Some(Some(schema)) = constants.get(1).copied().flatten().and_then(ScalarValue::try_as_str) else {
        return invalid(
            "INVALID_SCHEMA.NON_STRING_LITERAL",
            "`from_csv` needs its schema as a string literal, such as 'id INT'",
        );
    };
    let DataType::Struct(fields) = ddl::as_nullable(&ddl::parse_schema(schema).map_err(external)?) else {
        return invalid(
            "INVALID_SCHEMA.NON_STRUCT_TYPE",
            format!("the schema of `from_csv` must be a STRUCT, not {schema}"),
        );
    };
    for field in &fields {
        if !matches!(
            field.data_type(),
            DataType::Utf8 | DataType::Binary | DataType::Boolean | DataType::Date32 | DataType::Timestamp(..)
        ) && !field.data_type().is_numeric()
        {
            return invalid(
                "UNSUPPORTED_DATATYPE",
                format!(
                    "CSV has no type {} (column {}): read a STRING",
                    ddl::type_name(field.data_type()),
                    field.name()
                ),
            );
        }
    }
    Ok(DataType::Struct(fields))
}

fn from_csv(call: &Call<'_>) -> Result<ArrayRef> {
    let DataType::Struct(fields) = call.return_type else { return Err(external(Error::internal("a struct"))) };
    let options = Options::of("from_csv", call, 2)?;
    if options.mode == ParseMode::DropMalformed {
        return invalid(
            "PARSE_MODE_UNSUPPORTED",
            "the function `from_csv` doesn't support the DROPMALFORMED mode: acceptable modes are PERMISSIVE and FAILFAST",
        );
    }
    let corrupt = fields.iter().position(|field| *field.name() == options.corrupt);
    if let Some(at) = corrupt
        && *fields[at].data_type() != DataType::Utf8
    {
        return invalid(
            "INVALID_CORRUPT_RECORD_TYPE",
            format!("the column {} for corrupt records must have the nullable STRING type", options.corrupt),
        );
    }
    let texts = call.text(0);
    let data: Vec<usize> = (0..fields.len()).filter(|at| Some(*at) != corrupt).collect();
    let mut columns: Vec<Vec<Option<String>>> = vec![Vec::with_capacity(call.rows); data.len()];
    let mut good = vec![true; call.rows];
    let mut split = Split::default();
    for (row, good) in good.iter_mut().enumerate() {
        let text = if texts.is_valid(row) { texts.value(row) } else { "" };
        let comment = options.csv.comment.is_some_and(|comment| text.starts_with(comment));
        if texts.is_null(row) || comment {
            columns.iter_mut().for_each(|column| column.push(None));
            *good = texts.is_null(row);
            continue;
        }
        split.split(text, &options.csv);
        *good = split.len() == data.len();
        for (at, column) in columns.iter_mut().enumerate() {
            column.push(split.get(at, &options.csv).map(str::to_string));
        }
    }
    let mut typed: Vec<ArrayRef> = vec![];
    for (at, column) in data.iter().zip(columns) {
        let column = StringArray::from(column);
        let values = convert(&column, fields[*at].data_type(), &options, &call.context)?;
        for (row, good) in good.iter_mut().enumerate() {
            *good &= column.is_null(row) || values.is_valid(row);
        }
        typed.push(values);
    }
    if options.mode == ParseMode::FailFast
        && let Some(row) = good.iter().position(|good| !good)
    {
        let shown: String = texts.value(row).chars().take(200).collect();
        return Err(external(Error::new(
            ErrorKind::InvalidRequest,
            "MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION",
            format!(
                "malformed records are detected in record parsing: {shown}: parse mode: FAILFAST; to process malformed \
                 records as null result, try setting the option 'mode' as 'PERMISSIVE'"
            ),
        )));
    }
    if let Some(at) = corrupt {
        let kept = texts.iter().zip(&good).map(|(text, good)| text.filter(|_| !good));
        typed.insert(at, Arc::new(kept.collect::<StringArray>()));
    }
    let nulls = texts.nulls().cloned();
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), typed, nulls, call.rows)?))
}

/// Texts of fields as values of a type; null where a text is none of it.
fn convert(texts: &StringArray, to: &DataType, options: &Options, context: &Context) -> Result<ArrayRef> {
    let lenient = cast::Options { mode: Mode::Try, context: context.clone() };
    let kept =
        |f: &dyn Fn(&str) -> Option<String>| -> StringArray { texts.iter().map(|text| text.and_then(f)).collect() };
    Ok(match to {
        DataType::Utf8 => Arc::new(texts.clone()),
        DataType::Binary => arrow::compute::cast(texts, &DataType::Binary)?,
        DataType::Boolean => {
            let read = |text: &str| match () {
                () if text.eq_ignore_ascii_case("true") => Some(true),
                () if text.eq_ignore_ascii_case("false") => Some(false),
                () => None,
            };
            Arc::new(texts.iter().map(|text| text.and_then(read)).collect::<arrow::array::BooleanArray>())
        }
        DataType::Date32 => primitive::<Date32Type>(texts, to, |text| read_date(text, options)),
        DataType::Timestamp(_, zone) => primitive::<TimestampMicrosecondType>(texts, to, |text| match zone {
            Some(_) => read_timestamp(text, options),
            None => match &options.timestamp_ntz {
                Some(format) => format.parse_timestamp_ntz(text),
                None => datetime::parse_timestamp_ntz(text),
            },
        }),
        DataType::Float32 | DataType::Float64 => {
            let plain = |text: &str| match text {
                text if text == options.nan => Some("nan".to_string()),
                text if text == options.infinity[0] => Some("inf".to_string()),
                text if text == options.infinity[1] => Some("-inf".to_string()),
                text => Some(text.to_string()),
            };
            number::from_text(&kept(&plain), to, &lenient)?
        }
        DataType::Decimal128(..) => number::from_text(&kept(&|text: &str| Some(text.replace(',', ""))), to, &lenient)?,
        // Java's numbers have no blanks around them.
        _ => number::from_text(&kept(&|text: &str| (text.trim() == text).then(|| text.to_string())), to, &lenient)?,
    })
}

fn primitive<T: ArrowPrimitiveType>(
    texts: &StringArray,
    to: &DataType,
    f: impl Fn(&str) -> Option<T::Native>,
) -> ArrayRef {
    let values = texts.iter().map(|text| text.and_then(&f)).collect::<PrimitiveArray<T>>();
    Arc::new(values.with_data_type(to.clone()))
}

fn read_date(text: &str, options: &Options) -> Option<i32> {
    match &options.date {
        None => datetime::parse_date(text),
        Some(format) => {
            format.parse_date(text).or_else(|| if options.fallback { datetime::parse_date(text) } else { None })
        }
    }
}

fn read_timestamp(text: &str, options: &Options) -> Option<i64> {
    let as_cast = || datetime::parse_timestamp(text, &options.zone);
    match &options.timestamp {
        None => as_cast(),
        Some(format) => {
            format.parse_timestamp(text, &options.zone).or_else(|| if options.fallback { as_cast() } else { None })
        }
    }
}

fn to_csv(call: &Call<'_>) -> Result<ArrayRef> {
    let options = Options::of("to_csv", call, 1)?;
    let record = call.args[0].as_struct();
    let columns =
        record.columns().iter().map(|column| written(column, &options, &call.context)).collect::<Result<Vec<_>>>()?;
    let mut line = String::new();
    let rows = (0..call.rows).map(|row| {
        if record.is_null(row) {
            return None;
        }
        line.clear();
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                line.push(options.csv.sep);
            }
            if column.is_null(row) {
                line.push_str(&options.csv.null_value);
            } else {
                csv_field(column.value(row), &options.csv, &mut line);
            }
        }
        // Nothing at all, which one NULL is, is no line to Spark's writer.
        (!line.is_empty()).then(|| line.clone())
    });
    Ok(Arc::new(rows.collect::<StringArray>()))
}

/// Values as the text that they have in CSV.
fn written(column: &ArrayRef, options: &Options, context: &Context) -> Result<StringArray> {
    let pattern = |given: &Option<Pattern>, default: &str| match given {
        Some(given) => Ok(given.clone()),
        None => Pattern::compile(default).map_err(external),
    };
    let times = |micros: &dyn Fn(usize) -> i64, pattern: &Pattern, zone: &Zone| -> StringArray {
        let rows = (0..column.len()).map(|row| {
            let mut out = String::new();
            let time = micros(row);
            let offset = zone.offset_at(time);
            pattern.format(time + i64::from(offset) * MICROS_PER_SECOND, zone, offset, &mut out);
            column.is_valid(row).then_some(out)
        });
        rows.collect()
    };
    Ok(match column.data_type() {
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>();
            let micros = |row: usize| i64::from(days.value(row)) * datetime::MICROS_PER_DAY;
            times(&micros, &pattern(&options.date, DATE_FORMAT)?, &Zone::UTC)
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let instants = column.as_primitive::<TimestampMicrosecondType>();
            let micros = |row: usize| instants.value(row);
            match zone {
                Some(_) => times(&micros, &pattern(&options.timestamp, TIMESTAMP_FORMAT)?, &options.zone),
                None => times(&micros, &pattern(&options.timestamp_ntz, TIMESTAMP_NTZ_FORMAT)?, &Zone::UTC),
            }
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>();
            let hex = |bytes: &[u8]| {
                let mut out = String::from("[");
                for (at, byte) in bytes.iter().enumerate() {
                    let _ = write!(out, "{}{byte:02X}", if at > 0 { " " } else { "" });
                }
                out + "]"
            };
            bytes.iter().map(|bytes| bytes.map(hex)).collect()
        }
        _ => shown::of(column, context)?.as_string::<i32>().clone(),
    })
}

fn schema_of_csv(call: &Call<'_>) -> Result<ArrayRef> {
    let options = Options::of("schema_of_csv", call, 1)?;
    call.text_rows(|row| Ok(Some(schema_with(call.text(0).value(row), &options))))
}

/// What `schema_of_csv` says of a record.
///
/// # Errors
/// None: any text is a record.
pub fn schema_of(record: &str) -> Result<String> {
    Ok(schema_with(record, &Options::parse(&[], &Context::default()).map_err(external)?))
}

fn schema_with(record: &str, options: &Options) -> String {
    let mut split = Split::default();
    split.split(record, &options.csv);
    let fields = (0..split.len()).map(|at| {
        let data_type = split.get(at, &options.csv).map_or(DataType::Utf8, |text| inferred(text, options));
        Field::new(format!("_c{at}"), data_type, true)
    });
    ddl::type_name(&DataType::Struct(fields.collect::<Fields>()))
}

/// The type of one field, as Spark tries them.
fn inferred(text: &str, options: &Options) -> DataType {
    if text.parse::<i32>().is_ok() {
        return DataType::Int32;
    }
    if text.parse::<i64>().is_ok() {
        return DataType::Int64;
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.len() <= 38 && digits.bytes().all(|b| b.is_ascii_digit()) {
        return DataType::Decimal128(digits.trim_start_matches('0').len().max(1) as u8, 0);
    }
    let named = text == options.nan || options.infinity.iter().any(|name| name == text);
    if named || number::parse_double(text.trim()).is_some() {
        return DataType::Float64;
    }
    match () {
        () if read_date(text, options).is_some() && text.len() <= 10 => DataType::Date32,
        () if read_timestamp(text, options).is_some() => ddl::timestamp(),
        () if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => DataType::Boolean,
        () => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_inferred_as_spark_tries_them() {
        let options = Options::parse(&[], &Context::default()).expect("options");
        let check = |text: &str, expect: DataType| assert_eq!(inferred(text, &options), expect, "{text}");
        check("1", DataType::Int32);
        check("3000000000", DataType::Int64);
        check("99999999999999999999", DataType::Decimal128(20, 0));
        check("1.5", DataType::Float64);
        check("2020-01-01", DataType::Date32);
        check("2020-01-01 00:00:00", ddl::timestamp());
        check("TRUE", DataType::Boolean);
        check("x", DataType::Utf8);
    }
}
