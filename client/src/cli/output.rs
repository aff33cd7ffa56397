//! Results as text: tables, JSON and CSV, written as rows arrive.
//!
//! Cells are written as Spark shows them: `NULL`, `2024-01-31 12:00:00.5`, `1.0E10`, `{a, 1}`, `[1, 2]`, `{k -> v}`.

use super::Error;
use super::args::Format;
use arrow::array::{Array, AsArray, BinaryArray, LargeBinaryArray};
use arrow::array::{temporal_conversions, timezone::Tz};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Schema, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;
use arrow::json::writer::{ArrayWriter, JsonArray, WriterBuilder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use unicode_width::UnicodeWidthStr;

/// Rows that a table looks at to fix its columns' widths; later cells that are wider stick out.
const WIDTH_ROWS: usize = 1000;

/// Whether colours may be used on stdout: a terminal, and the user has not said no.
pub fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A query's state, in its colour.
pub fn state(state: &str, colours: bool) -> String {
    let code = match state {
        "RUNNING" => "32",
        "WAITING" | "FINISHED" => "36",
        "RETRYING" => "33",
        "FAILED" => "31",
        _ => "90",
    };
    if colours { format!("\u{1b}[{code}m{state}\u{1b}[0m") } else { state.to_string() }
}

/// A number with commas between thousands.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many of a thing: `1 row`, `2,000 rows`.
pub fn count(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// Prints lists of texts in columns as wide as their widest cell, under a header.
pub fn columns(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let widths: Vec<_> = (0..header.len())
        .map(|column| {
            rows.iter().map(|row| shown_width(&row[column])).chain([header[column].width()]).max().unwrap_or_default()
        })
        .collect();
    let header = header.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(shown_width(cell)) + 2));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Width on a terminal, colour codes left out.
fn shown_width(text: &str) -> usize {
    match text.strip_prefix("\u{1b}[").and_then(|rest| rest.split_once('m')) {
        Some((_, coloured)) => coloured.trim_end_matches("\u{1b}[0m").width(),
        None => text.width(),
    }
}

/// Writes one statement's result after the other.
pub struct Results<W: Write> {
    out: W,
    format: Format,
    current: Option<(u32, Current)>,
    /// Rows of the current or last result.
    pub rows: u64,
}

enum Current {
    Table(Table),
    /// Writes to a buffer, which is passed on after each piece: the writer owns what it writes to.
    Json(ArrayWriter<Vec<u8>>),
    /// The header, until it is written.
    Csv(Option<String>),
}

impl<W: Write> Results<W> {
    /// Results go to `out` as `format`.
    pub fn new(out: W, format: Format) -> Self {
        Self { out, format, current: None, rows: 0 }
    }

    /// Writes a piece of statement `statement`'s result, after ending the one before.
    pub fn write(&mut self, statement: u32, schema: &Schema, batches: &[RecordBatch]) -> Result<(), Error> {
        if self.current.as_ref().is_some_and(|(of, _)| *of != statement) {
            self.finish()?;
        }
        if self.current.is_none() {
            self.rows = 0;
            let current = match self.format {
                Format::Table => Current::Table(Table::new(schema)),
                Format::Json => Current::Json(json_writer()),
                Format::Csv => Current::Csv(Some(csv_header(schema))),
            };
            self.current = Some((statement, current));
        }
        let Some((_, current)) = &mut self.current else { return Ok(()) };
        for batch in batches {
            self.rows += batch.num_rows() as u64;
            match current {
                Current::Table(table) => table.write(&mut self.out, batch)?,
                Current::Json(writer) => {
                    writer.write(batch)?;
                    forward(writer, &mut self.out)?;
                }
                Current::Csv(header) => {
                    if let Some(header) = header.take_if(|_| batch.num_rows() > 0) {
                        writeln!(self.out, "{header}")?;
                    }
                    csv(batch, &mut self.out)?;
                }
            }
        }
        self.out.flush()?;
        Ok(())
    }

    /// Leaves the current result as it is, because its statement failed: what came is shown, and nothing that would pass
    /// for an end. Of one without rows nothing is.
    pub fn cut(&mut self) -> Result<(), Error> {
        match self.current.take() {
            Some((_, Current::Table(table))) if self.rows > 0 => table.finish(&mut self.out)?,
            Some((_, Current::Json(_))) if self.rows > 0 => writeln!(self.out)?,
            _ => {}
        }
        self.out.flush()?;
        Ok(())
    }

    /// Ends the current result.
    pub fn finish(&mut self) -> Result<(), Error> {
        match self.current.take() {
            Some((_, Current::Table(table))) => table.finish(&mut self.out)?,
            Some((_, Current::Json(mut writer))) => {
                writer.finish()?;
                forward(&mut writer, &mut self.out)?;
                writeln!(self.out)?;
            }
            Some((_, Current::Csv(Some(header)))) => writeln!(self.out, "{header}")?,
            Some((_, Current::Csv(None))) | None => {}
        }
        self.out.flush()?;
        Ok(())
    }
}

fn csv_header(schema: &Schema) -> String {
    let mut line = String::new();
    for (at, field) in schema.fields().iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        csv_text(field.name(), &mut line);
    }
    line
}

fn forward(writer: &mut ArrayWriter<Vec<u8>>, out: &mut impl Write) -> io::Result<()> {
    let buffer = writer.get_mut();
    out.write_all(buffer)?;
    buffer.clear();
    Ok(())
}

fn json_writer() -> ArrayWriter<Vec<u8>> {
    WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new())
}

/// A small result as JSON objects.
#[cfg(feature = "standalone")]
pub fn json_rows(batches: &[RecordBatch]) -> Result<serde_json::Value, Error> {
    let mut writer = json_writer();
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    serde_json::from_slice(writer.get_mut()).map_err(|error| Error::Failed(error.to_string()))
}

/// A table in Spark's frame.
struct Table {
    header: Vec<String>,
    right: Vec<bool>,
    /// Rows kept back until the widths are known; none once they are.
    waiting: Option<Vec<Vec<String>>>,
    widths: Vec<usize>,
}

impl Table {
    fn new(schema: &Schema) -> Self {
        let header: Vec<_> = schema.fields().iter().map(|field| one_line(field.name())).collect();
        Self {
            right: schema.fields().iter().map(|field| field.data_type().is_numeric()).collect(),
            widths: header.iter().map(|name| name.width()).collect(),
            header,
            waiting: Some(Vec::new()),
        }
    }

    fn write(&mut self, out: &mut impl Write, batch: &RecordBatch) -> Result<(), Error> {
        for row in 0..batch.num_rows() {
            let mut cells = Vec::with_capacity(batch.num_columns());
            for column in batch.columns() {
                let mut text = String::new();
                cell(column.as_ref(), row, &mut text)?;
                cells.push(text);
            }
            match &mut self.waiting {
                Some(waiting) => {
                    waiting.push(cells);
                    if waiting.len() >= WIDTH_ROWS {
                        self.begin(out)?;
                    }
                }
                None => self.line(out, &cells.iter().map(|cell| one_line(cell)).collect::<Vec<_>>())?,
            }
        }
        Ok(())
    }

    /// Writes the header and the rows kept back.
    fn begin(&mut self, out: &mut impl Write) -> io::Result<()> {
        if let Some(mut waiting) = self.waiting.take() {
            for cells in &mut waiting {
                for (cell, width) in cells.iter_mut().zip(&mut self.widths) {
                    *cell = one_line(cell);
                    *width = (*width).max(cell.width());
                }
            }
            self.rule(out)?;
            self.line(out, &self.header)?;
            self.rule(out)?;
            for cells in &waiting {
                self.line(out, cells)?;
            }
        }
        Ok(())
    }

    fn finish(mut self, out: &mut impl Write) -> io::Result<()> {
        // One cell of several lines, as EXPLAIN and SHOW CREATE TABLE give, is a text and no table.
        if let Some([row]) = self.waiting.as_deref()
            && let [text] = row.as_slice()
            && text.contains('\n')
        {
            return writeln!(out, "{}", text.trim_end());
        }
        self.begin(out)?;
        self.rule(out)
    }

    fn rule(&self, out: &mut impl Write) -> io::Result<()> {
        let mut line = String::from("+");
        for width in &self.widths {
            line.extend(std::iter::repeat_n('-', *width));
            line.push('+');
        }
        writeln!(out, "{line}")
    }

    fn line(&self, out: &mut impl Write, cells: &[String]) -> io::Result<()> {
        let mut line = String::from("|");
        for ((cell, width), right) in cells.iter().zip(&self.widths).zip(&self.right) {
            let padding = std::iter::repeat_n(' ', width.saturating_sub(cell.width()));
            if *right {
                line.extend(padding);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.extend(padding);
            }
            line.push('|');
        }
        writeln!(out, "{line}")
    }
}

/// Control characters would break the frame.
fn one_line(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_string();
    }
    text.chars().fold(String::new(), |mut out, letter| {
        if letter.is_control() {
            out.extend(letter.escape_default())
        } else {
            out.push(letter)
        }
        out
    })
}

fn csv(batch: &RecordBatch, out: &mut impl Write) -> Result<(), Error> {
    let (mut line, mut text) = (String::new(), String::new());
    for row in 0..batch.num_rows() {
        line.clear();
        for (at, column) in batch.columns().iter().enumerate() {
            if at > 0 {
                line.push(',');
            }
            if !column.is_null(row) {
                text.clear();
                cell(column.as_ref(), row, &mut text)?;
                csv_text(&text, &mut line);
            }
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// An empty text is quoted, as Spark does, so that it differs from NULL.
fn csv_text(text: &str, line: &mut String) {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        line.push('"');
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(text);
    }
}

/// Appends one value as Spark shows it.
pub fn cell(array: &dyn Array, row: usize, out: &mut String) -> Result<(), ArrowError> {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        out.push_str("NULL");
        return Ok(());
    }
    match array.data_type() {
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => out.push_str(array.as_string::<i64>().value(row)),
        DataType::Utf8View => out.push_str(array.as_string_view().value(row)),
        DataType::Float16 => float(f64::from(f32::from(array.as_primitive::<Float16Type>().value(row))), None, out),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            float(f64::from(value), Some(value), out);
        }
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row), None, out),
        DataType::Binary => {
            let array: &BinaryArray = array.as_binary();
            binary(array.value(row), out);
        }
        DataType::LargeBinary => {
            let array: &LargeBinaryArray = array.as_binary();
            binary(array.value(row), out);
        }
        DataType::BinaryView => binary(array.as_binary_view().value(row), out),
        DataType::FixedSizeBinary(_) => binary(array.as_fixed_size_binary().value(row), out),
        DataType::Date32 => date(i64::from(array.as_primitive::<Date32Type>().value(row)) * 86_400_000, out),
        DataType::Date64 => date(array.as_primitive::<Date64Type>().value(row), out),
        DataType::Timestamp(unit, zone) => {
            let (value, scale) = match unit {
                TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 1_000_000_000),
                TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().value(row), 1_000_000),
                TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().value(row), 1000),
                TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().value(row), 1),
            };
            timestamp(value, scale, zone.as_deref(), out)?;
        }
        DataType::List(_) => elements(array.as_list::<i32>().value(row).as_ref(), out)?,
        DataType::LargeList(_) => elements(array.as_list::<i64>().value(row).as_ref(), out)?,
        DataType::FixedSizeList(_, _) => elements(array.as_fixed_size_list().value(row).as_ref(), out)?,
        DataType::Struct(_) => {
            out.push('{');
            for (at, column) in array.as_struct().columns().iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                cell(column.as_ref(), row, out)?;
            }
            out.push('}');
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for entry in 0..entries.len() {
                if entry > 0 {
                    out.push_str(", ");
                }
                cell(entries.column(0).as_ref(), entry, out)?;
                out.push_str(" -> ");
                cell(entries.column(1).as_ref(), entry, out)?;
            }
            out.push('}');
        }
        _ => {
            let options = FormatOptions::new().with_null("NULL");
            write!(out, "{}", ArrayFormatter::try_new(array, &options)?.value(row))
                .map_err(|_| ArrowError::CastError(format!("failed to show a {}", array.data_type())))?;
        }
    }
    Ok(())
}

fn elements(values: &dyn Array, out: &mut String) -> Result<(), ArrowError> {
    out.push('[');
    for at in 0..values.len() {
        if at > 0 {
            out.push_str(", ");
        }
        cell(values, at, out)?;
    }
    out.push(']');
    Ok(())
}

/// `[48 65]`, as Spark's `show` does.
fn binary(bytes: &[u8], out: &mut String) {
    out.push('[');
    for (at, byte) in bytes.iter().enumerate() {
        let _ = write!(out, "{}{byte:02X}", if at > 0 { " " } else { "" });
    }
    out.push(']');
}

/// As Java prints it: plain between a thousandth and ten million, `1.5E10` beyond.
fn float(value: f64, single: Option<f32>, out: &mut String) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        let text = single.map_or_else(|| value.to_string(), |single| single.to_string());
        out.push_str(&text);
        if !text.contains('.') {
            out.push_str(".0");
        }
    } else {
        let text = single.map_or_else(|| format!("{value:e}"), |single| format!("{single:e}"));
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        out.push_str(mantissa);
        if !mantissa.contains('.') {
            out.push_str(".0");
        }
        out.push('E');
        out.push_str(exponent);
    }
}

fn date(ms: i64, out: &mut String) {
    match temporal_conversions::date64_to_datetime(ms) {
        Some(moment) => {
            let _ = write!(out, "{}", moment.date());
        }
        None => {
            let _ = write!(out, "{} ms since 1970", ms);
        }
    }
}

/// `2024-01-31 12:00:00.5`: local to the zone, without zeros at the end of the fraction.
fn timestamp(value: i64, scale: i64, zone: Option<&str>, out: &mut String) -> Result<(), ArrowError> {
    let (seconds, nanos) = (value.div_euclid(1_000_000_000 / scale), value.rem_euclid(1_000_000_000 / scale) * scale);
    let moment = match zone {
        None => temporal_conversions::timestamp_s_to_datetime(seconds).map(|moment| moment.to_string()),
        Some(zone) => {
            let zone: Tz = zone.parse()?;
            temporal_conversions::as_datetime_with_timezone::<TimestampSecondType>(seconds, zone)
                .map(|moment| moment.naive_local().to_string())
        }
    };
    let Some(moment) = moment else {
        let _ = write!(out, "{seconds} s since 1970");
        return Ok(());
    };
    out.push_str(&moment);
    if nanos > 0 {
        let fraction = format!("{nanos:09}");
        out.push('.');
        out.push_str(fraction.trim_end_matches('0'));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, Decimal128Array, Float32Array, Float64Array, Int32Array, ListArray, MapBuilder, StringArray,
        StringBuilder, StructArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Field, Int32Type};
    use std::sync::Arc;

    fn rows() -> RecordBatch {
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef),
            ("name", Arc::new(StringArray::from(vec!["Zoë, \"Z\"", ""]))),
            (
                "at",
                Arc::new(TimestampMicrosecondArray::from(vec![Some(1_706_702_400_500_000), None]).with_timezone("UTC")),
            ),
        ])
        .expect("columns fit")
    }

    fn text(format: Format, batches: &[RecordBatch]) -> String {
        let mut out = Vec::new();
        let mut results = Results::new(&mut out, format);
        results.write(0, &rows().schema(), batches).expect("memory takes it");
        results.finish().expect("memory takes it");
        drop(results);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn formats() {
        fn check(format: Format, expect: &str) {
            assert_eq!(text(format, &[rows()]), expect);
        }
        check(
            Format::Table,
            "+----+--------+---------------------+\n\
             |  id|name    |at                   |\n\
             +----+--------+---------------------+\n\
             |   1|Zoë, \"Z\"|2024-01-31 12:00:00.5|\n\
             |NULL|        |NULL                 |\n\
             +----+--------+---------------------+\n",
        );
        check(
            Format::Json,
            "[{\"id\":1,\"name\":\"Zoë, \\\"Z\\\"\",\"at\":\"2024-01-31T12:00:00.500Z\"},\
             {\"id\":null,\"name\":\"\",\"at\":null}]\n",
        );
        check(Format::Csv, "id,name,at\n1,\"Zoë, \"\"Z\"\"\",2024-01-31 12:00:00.5\n,\"\",\n");
    }

    #[test]
    fn a_text_is_no_table() {
        let show = |texts: Vec<&str>| {
            let plans = Arc::new(StringArray::from(texts)) as ArrayRef;
            let rows = RecordBatch::try_from_iter([("plan", plans)]).expect("one column");
            let mut out = Vec::new();
            let mut results = Results::new(&mut out, Format::Table);
            results.write(0, &rows.schema(), &[rows]).expect("memory takes it");
            results.finish().expect("memory takes it");
            drop(results);
            String::from_utf8(out).expect("UTF-8")
        };
        assert_eq!(show(vec!["A\n  B\n"]), "A\n  B\n");
        assert!(show(vec!["A\n  B", "C"]).contains("|A\\n  B|"));
        assert!(show(vec!["A"]).contains("|A   |"));
    }

    #[test]
    fn no_rows() {
        assert_eq!(text(Format::Json, &[]), "[]\n");
        assert_eq!(text(Format::Csv, &[]), "id,name,at\n");
        assert_eq!(text(Format::Table, &[]), "+--+----+--+\n|id|name|at|\n+--+----+--+\n+--+----+--+\n");
    }

    #[test]
    fn pieces_and_statements() {
        let mut out = Vec::new();
        let mut results = Results::new(&mut out, Format::Json);
        let batch = rows().slice(1, 1).project(&[0]).expect("column 0");
        for statement in [0, 0, 1] {
            results.write(statement, &batch.schema(), std::slice::from_ref(&batch)).expect("memory takes it");
        }
        results.finish().expect("memory takes it");
        assert_eq!(results.rows, 1);
        drop(results);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), "[{\"id\":null},{\"id\":null}]\n[{\"id\":null}]\n");
    }

    #[test]
    fn what_is_cut_off() {
        let check = |format: Format, rows: &[RecordBatch], expect: &str| {
            let mut out = Vec::new();
            let mut results = Results::new(&mut out, format);
            let schema = Schema::new(vec![Field::new("id", DataType::Int32, true)]);
            results.write(0, &schema, rows).expect("memory takes it");
            results.cut().expect("memory takes it");
            drop(results);
            assert_eq!(String::from_utf8(out).expect("UTF-8"), expect);
        };
        for format in [Format::Table, Format::Json, Format::Csv] {
            check(format, &[], "");
        }
        let row = rows().slice(0, 1).project(&[0]).expect("column 0");
        check(Format::Json, std::slice::from_ref(&row), "[{\"id\":1}\n");
        check(Format::Csv, std::slice::from_ref(&row), "id\n1\n");
        check(Format::Table, &[row], "+--+\n|id|\n+--+\n| 1|\n+--+\n");
    }

    #[test]
    fn wide_rows_after_the_widths_are_fixed() {
        let column: ArrayRef = Arc::new(StringArray::from_iter_values((0..WIDTH_ROWS).map(|_| "a")));
        let first = RecordBatch::try_from_iter([("t", column)]).expect("columns fit");
        let wide: ArrayRef = Arc::new(StringArray::from(vec!["wide"]));
        let second = RecordBatch::try_from_iter([("t", wide)]).expect("columns fit");
        let mut out = Vec::new();
        let mut results = Results::new(&mut out, Format::Table);
        results.write(0, &first.schema(), &[first, second]).expect("memory takes it");
        results.finish().expect("memory takes it");
        drop(results);
        assert!(String::from_utf8(out).expect("UTF-8").ends_with("|a|\n|wide|\n+-+\n"));
    }

    #[test]
    fn cells() {
        fn check(array: impl Array, expect: &str) {
            let mut out = String::new();
            cell(&array, 0, &mut out).expect("a type that is shown");
            assert_eq!(out, expect);
        }
        check(Float64Array::from(vec![1.0]), "1.0");
        check(Float64Array::from(vec![0.1 + 0.2]), "0.30000000000000004");
        check(Float64Array::from(vec![1e7]), "1.0E7");
        check(Float64Array::from(vec![-1.25e-5]), "-1.25E-5");
        check(Float64Array::from(vec![f64::NEG_INFINITY]), "-Infinity");
        check(Float32Array::from(vec![0.1]), "0.1");
        check(Decimal128Array::from(vec![12_340]).with_precision_and_scale(10, 2).expect("fits"), "123.40");
        check(BinaryArray::from(vec![b"He".as_slice()]), "[48 65]");
        check(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None, Some(3)])]), "[1, NULL, 3]");
        let field = |name| Arc::new(Field::new(name, DataType::Utf8, true));
        let values = || Arc::new(StringArray::from(vec!["x"])) as ArrayRef;
        check(StructArray::from(vec![(field("a"), values()), (field("b"), values())]), "{x, x}");
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("k");
        map.values().append_value("v");
        map.append(true).expect("as many keys as values");
        check(map.finish(), "{k -> v}");
        check(TimestampMicrosecondArray::from(vec![-1]), "1969-12-31 23:59:59.999999");
        check(TimestampMicrosecondArray::from(vec![0]).with_timezone("+02:00"), "1970-01-01 02:00:00");
        check(arrow::array::Date32Array::from(vec![-1]), "1969-12-31");
        check(arrow::array::NullArray::new(1), "NULL");
    }

    #[test]
    fn numbers() {
        fn check(number: u64, expect: &str) {
            assert_eq!(thousands(number), expect);
        }
        check(0, "0");
        check(999, "999");
        check(1000, "1,000");
        check(1_234_567, "1,234,567");
    }

    #[test]
    fn columns_align_under_colours() {
        let mut out = Vec::new();
        let rows = [vec![state("RUNNING", true), "a".to_string()], vec!["no".to_string(), "b".to_string()]];
        columns(&mut out, &["STATE", "X"], &rows).expect("memory takes it");
        assert_eq!(String::from_utf8(out).expect("UTF-8"), "STATE    X\n\u{1b}[32mRUNNING\u{1b}[0m  a\nno       b\n");
    }
}
