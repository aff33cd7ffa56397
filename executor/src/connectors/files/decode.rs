//! Lines into record batches, with Spark's ways with malformed records (`mode`).
//!
//! Decoding is in two steps for JSON: all lines of a block at once, which is fast; and only if that fails, one by one,
//! to find the bad ones. CSV is split into texts first and each column converted as a whole.

use super::options::{CsvOptions, FileOptions, Format, ParseMode};
use crate::functions::masked::masked;
use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBuilder, RecordBatch, RecordBatchOptions, StringArray, StringBuilder,
    new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use headwater_proto::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Decodes the lines of files of one format into the columns that are wanted.
#[derive(Debug, Clone)]
pub struct LineDecoder {
    format: Format,
    mode: ParseMode,
    csv: CsvOptions,
    /// All columns of the file: CSV's fields are known by their place.
    file: SchemaRef,
    /// Which of them are wanted, in this order.
    wanted: Vec<usize>,
    /// The wanted columns without the corrupt record column.
    data: SchemaRef,
    /// Where the corrupt record column stands among the wanted ones.
    corrupt: Option<usize>,
    output: SchemaRef,
}

impl LineDecoder {
    /// A decoder of the columns `wanted` (indices into `file`).
    ///
    /// # Errors
    /// Indices that are out of bounds.
    pub fn try_new(options: &FileOptions, file: &SchemaRef, wanted: Vec<usize>) -> Result<Self> {
        let output = Arc::new(file.project(&wanted).map_err(Error::internal)?);
        let has_corrupt = matches!(options.format, Format::Json | Format::Csv);
        let corrupt = output.fields().iter().position(|field| has_corrupt && *field.name() == options.corrupt_column);
        let rest: Vec<usize> = (0..output.fields().len()).filter(|index| Some(*index) != corrupt).collect();
        let data = Arc::new(output.project(&rest).map_err(Error::internal)?);
        // CSV's fields are counted without the corrupt record column, which no file has.
        let fields: Vec<usize> = (0..file.fields().len())
            .filter(|index| !(has_corrupt && *file.field(*index).name() == options.corrupt_column))
            .collect();
        let place = |index: &usize| fields.iter().position(|field| field == index);
        let wanted = wanted.iter().filter_map(place).collect();
        let file = Arc::new(file.project(&fields).map_err(Error::internal)?);
        let (format, mode, csv) = (options.format, options.mode, options.csv.clone());
        Ok(Self { format, mode, csv, file, wanted, data, corrupt, output })
    }

    /// Decodes lines of a block of text. `place` names the file in errors.
    ///
    /// # Errors
    /// `MALFORMED_RECORD_IN_PARSING` in mode `FAILFAST`.
    pub fn decode(&self, block: &[u8], lines: &[Range<usize>], place: &str) -> Result<RecordBatch> {
        match self.format {
            Format::Text => {
                let texts = lines.iter().map(|line| Some(String::from_utf8_lossy(&block[line.clone()])));
                let column: ArrayRef = Arc::new(texts.collect::<StringArray>());
                self.batch(vec![column; self.wanted.len()], lines.len())
            }
            Format::Csv => self.csv(block, lines, place),
            _ => self.json(block, lines, place),
        }
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options).map_err(Error::internal)
    }

    /// The data columns and, where it is wanted, the texts of malformed records.
    fn with_corrupt(&self, data: &RecordBatch, corrupt: impl FnOnce() -> ArrayRef) -> Result<RecordBatch> {
        let mut columns = data.columns().to_vec();
        if let Some(index) = self.corrupt {
            columns.insert(index, corrupt());
        }
        self.batch(columns, data.num_rows())
    }

    fn malformed(&self, text: &str, place: &str, why: &dyn std::fmt::Display) -> Error {
        let shown: String = text.chars().take(200).collect();
        Error::invalid(
            "MALFORMED_RECORD_IN_PARSING",
            format!("malformed record {shown:?} in {place}: {why}: mode PERMISSIVE or DROPMALFORMED would go on"),
        )
    }

    fn json(&self, block: &[u8], lines: &[Range<usize>], place: &str) -> Result<RecordBatch> {
        // Blank lines are no records.
        let lines: Vec<&Range<usize>> =
            lines.iter().filter(|line| !block[(*line).clone()].trim_ascii().is_empty()).collect();
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.output)));
        };
        if self.data.fields().is_empty() && self.corrupt.is_none() {
            return self.batch(vec![], lines.len());
        }
        match decode_json(&self.data, &block[first.start..last.end], lines.len(), false) {
            Ok(batch) if batch.num_rows() == lines.len() => {
                return self.with_corrupt(&batch, || new_null_array(&DataType::Utf8, batch.num_rows()));
            }
            _ => {}
        }
        let mut batches = vec![];
        let mut corrupt = StringBuilder::new();
        for line in lines {
            let record = &block[line.clone()];
            let text = || String::from_utf8_lossy(record);
            match decode_json(&self.data, record, 1, false) {
                Ok(batch) if batch.num_rows() == 1 => {
                    batches.push(batch);
                    corrupt.append_null();
                }
                bad => match self.mode {
                    ParseMode::DropMalformed => {}
                    ParseMode::FailFast => {
                        let why = bad.map_or_else(|e| e, |batch| format!("{} records in one line", batch.num_rows()));
                        return Err(self.malformed(&text(), place, &why));
                    }
                    ParseMode::Permissive => {
                        // Fields that can be read are; the whole record is null when it is not even JSON.
                        let lenient = decode_json(&self.data, record, 1, true).ok().filter(|b| b.num_rows() == 1);
                        batches.push(match lenient {
                            Some(batch) => batch,
                            None => null_row(&self.data)?,
                        });
                        corrupt.append_value(text());
                    }
                },
            }
        }
        let batch = concat_batches(&self.data, &batches).map_err(Error::internal)?;
        self.with_corrupt(&batch, || Arc::new(corrupt.finish()))
    }

    fn csv(&self, block: &[u8], lines: &[Range<usize>], place: &str) -> Result<RecordBatch> {
        let mut columns: Vec<StringBuilder> = self.wanted.iter().map(|_| StringBuilder::new()).collect();
        let mut texts = vec![];
        let mut good = vec![];
        let mut fields = Fields::default();
        for line in lines {
            let text = String::from_utf8_lossy(&block[line.clone()]);
            if is_csv_blank(&text, &self.csv) {
                continue;
            }
            fields.split(&text, &self.csv);
            good.push(fields.len() == self.file.fields().len());
            for (column, field) in columns.iter_mut().zip(&self.wanted) {
                match fields.get(*field, &self.csv) {
                    Some(value) => column.append_value(value),
                    None => column.append_null(),
                }
            }
            texts.push(text);
        }
        let mut data = vec![];
        for (mut column, field) in columns.into_iter().zip(self.data.fields()) {
            let strings = column.finish();
            let typed = convert(&strings, field.data_type())?;
            for (row, good) in good.iter_mut().enumerate() {
                *good &= strings.is_null(row) || typed.is_valid(row);
            }
            data.push(typed);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(texts.len()));
        let data =
            RecordBatch::try_new_with_options(Arc::clone(&self.data), data, &options).map_err(Error::internal)?;
        if let (ParseMode::FailFast, Some(row)) = (self.mode, good.iter().position(|good| !good)) {
            let why = format!("it is not of the schema {}", self.file);
            return Err(self.malformed(&texts[row], place, &why));
        }
        let batch = self.with_corrupt(&data, || {
            let corrupt = texts.iter().zip(&good).map(|(text, good)| (!good).then_some(text.as_ref()));
            Arc::new(corrupt.collect::<StringArray>())
        })?;
        if self.mode == ParseMode::DropMalformed && good.iter().any(|good| !good) {
            return filter_record_batch(&batch, &BooleanArray::from(good)).map_err(Error::internal);
        }
        Ok(batch)
    }
}

fn decode_json(schema: &SchemaRef, text: &[u8], rows: usize, lenient: bool) -> Result<RecordBatch, String> {
    let mut decoder = ReaderBuilder::new(Arc::clone(schema))
        // One more, to see that there are too many.
        .with_batch_size(rows + 1)
        // Spark reads any scalar as a string.
        .with_coerce_primitive(true)
        .with_ignore_type_conflicts(lenient)
        .build_decoder()
        .map_err(|e| e.to_string())?;
    let read = decoder.decode(text).map_err(|e| e.to_string())?;
    if !text[read..].trim_ascii().is_empty() {
        return Err("more records than lines".into());
    }
    let batch = decoder.flush().map_err(|e| e.to_string())?;
    Ok(batch.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema))))
}

fn null_row(schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(Error::internal)
}

/// Texts as values of a type; null where a text is none of it.
fn convert(strings: &StringArray, data_type: &DataType) -> Result<ArrayRef> {
    if *data_type == DataType::Boolean {
        // Arrow also takes `yes`, `1` and others; Spark only these two words.
        let mut booleans = BooleanBuilder::new();
        for text in strings {
            booleans.append_option(match text {
                Some(text) if text.eq_ignore_ascii_case("true") => Some(true),
                Some(text) if text.eq_ignore_ascii_case("false") => Some(false),
                _ => None,
            });
        }
        return Ok(Arc::new(booleans.finish()));
    }
    let options = CastOptions { safe: true, ..Default::default() };
    cast_with_options(strings, data_type, &options).map_err(|e| {
        Error::invalid(
            "UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE",
            format!("format csv cannot read type {data_type}: {e}: declare the column as string"),
        )
    })
}

/// Whether a line is no record: blank, or a comment.
pub fn is_csv_blank(line: &str, csv: &CsvOptions) -> bool {
    line.trim().is_empty() || csv.comment.is_some_and(|comment| line.starts_with(comment))
}

/// The fields of a record of CSV.
#[derive(Debug, Default)]
pub struct Fields {
    text: String,
    /// End of each field in `text`, and whether it was quoted.
    ends: Vec<(usize, bool)>,
}

impl Fields {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The value of a field; none where it is null or missing.
    pub fn get<'a>(&'a self, index: usize, csv: &'a CsvOptions) -> Option<&'a str> {
        let (end, quoted) = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1].0 };
        let mut value = &self.text[start..end];
        if !quoted {
            if csv.trim_left == Some(true) {
                value = value.trim_start_matches(|c| c <= ' ');
            }
            if csv.trim_right == Some(true) {
                value = value.trim_end_matches(|c| c <= ' ');
            }
            if value.is_empty() {
                return None;
            }
        } else if value.is_empty() {
            value = csv.empty_value.as_deref().unwrap_or_default();
        }
        (value != csv.null_value).then_some(value)
    }

    /// Splits a record.
    pub fn split(&mut self, line: &str, csv: &CsvOptions) {
        self.text.clear();
        self.ends.clear();
        let mut rest = line;
        loop {
            let quoted = csv.quote.is_some_and(|quote| rest.starts_with(quote));
            if quoted {
                rest = self.quoted(rest, csv)
            }
            // After a closing quote nothing is left of the field, unless the quote was not meant to close it.
            let end = rest.find(csv.sep);
            self.text.push_str(&rest[..end.unwrap_or(rest.len())]);
            self.ends.push((self.text.len(), quoted));
            match end {
                Some(end) => rest = &rest[end + csv.sep.len_utf8()..],
                None => return,
            }
        }
    }

    /// Takes a quoted field; what follows its closing quote.
    fn quoted<'a>(&mut self, field: &'a str, csv: &CsvOptions) -> &'a str {
        let mut chars = field.char_indices().peekable();
        let quote = chars.next().map(|(_, quote)| quote);
        let start = self.text.len();
        while let Some((at, c)) = chars.next() {
            let escapes = csv.escape == Some(c) || Some(c) == quote;
            match chars.peek() {
                // An escaped quote or escape; a doubled quote if quotes escape themselves.
                Some((_, next))
                    if escapes
                        && (csv.escape == Some(c) || csv.escape == quote)
                        && (Some(*next) == quote || (csv.escape == Some(*next) && csv.escape == Some(c))) =>
                {
                    self.text.push(*next);
                    chars.next();
                }
                _ if Some(c) == quote => {
                    let after = &field[at + c.len_utf8()..];
                    let blank = after.trim_start_matches([' ', '\t']);
                    if blank.is_empty() || blank.starts_with(csv.sep) {
                        return blank;
                    }
                    // A stray quote: all of the field is taken as it is, as Spark's parser does.
                    self.text.insert(start, c);
                    self.text.push(c);
                    return after;
                }
                _ => self.text.push(c),
            }
        }
        ""
    }
}

/// Where records end.
#[derive(Debug, Clone)]
pub struct Splitter {
    /// Unset: `\n`, with `\r` before it left out.
    separator: Option<Vec<u8>>,
    /// CSV with line breaks in quoted fields: field separator, quote, escape.
    quotes: Option<(u8, u8, Option<u8>)>,
}

impl Splitter {
    /// For the files of these options.
    pub fn new(options: &FileOptions) -> Self {
        let byte = |c: char| u8::try_from(c).ok().filter(u8::is_ascii);
        let quotes = match (options.format, options.multi_line, options.csv.quote.and_then(byte)) {
            (Format::Csv, true, Some(quote)) => {
                byte(options.csv.sep).map(|sep| (sep, quote, options.csv.escape.and_then(byte)))
            }
            _ => None,
        };
        Self { separator: options.line_sep.as_ref().map(|sep| sep.as_bytes().to_vec()), quotes }
    }

    /// How many bytes before the start of a split must be looked at to know whether a record begins there.
    pub fn lead(&self) -> u64 {
        self.separator.as_ref().map_or(1, |separator| separator.len() as u64)
    }

    /// The records that end in a block, and where the next begins. `last`: the file ends with the block.
    pub fn split(&self, block: &[u8], last: bool) -> (Vec<Range<usize>>, usize) {
        let mut lines = vec![];
        let mut start = 0;
        let mut at = 0;
        let mut in_quotes = false;
        let mut field_start = true;
        while at < block.len() {
            if let Some((sep, quote, escape)) = self.quotes {
                let byte = block[at];
                if in_quotes {
                    match block.get(at + 1) {
                        Some(next) if Some(byte) == escape && (*next == quote || Some(*next) == escape) => at += 1,
                        _ if byte == quote => in_quotes = false,
                        _ => {}
                    }
                    at += 1;
                    continue;
                }
                if field_start && byte == quote {
                    (in_quotes, field_start) = (true, false);
                    at += 1;
                    continue;
                }
                field_start = byte == sep || byte == b'\n';
                if self.end_at(block, at).is_none() {
                    at += 1;
                    continue;
                }
            }
            match self.find(block, at) {
                Some((end, next)) => {
                    lines.push(start..end);
                    (start, at, field_start) = (next, next, true);
                }
                None => break,
            }
        }
        if last && start < block.len() {
            let mut end = block.len();
            if self.separator.is_none() && block[end - 1] == b'\r' {
                end -= 1;
            }
            lines.push(start..end);
            start = block.len();
        }
        (lines, start)
    }

    /// The next end of a line: where its text ends, and where the next begins.
    fn find(&self, block: &[u8], from: usize) -> Option<(usize, usize)> {
        match &self.separator {
            None => {
                let at = from + block[from..].iter().position(|byte| *byte == b'\n')?;
                self.end_at(block, at)
            }
            Some(separator) => {
                let at = from + block[from..].windows(separator.len()).position(|bytes| bytes == separator)?;
                Some((at, at + separator.len()))
            }
        }
    }

    fn end_at(&self, block: &[u8], at: usize) -> Option<(usize, usize)> {
        match &self.separator {
            None => (block[at] == b'\n').then(|| {
                let end = if at > 0 && block[at - 1] == b'\r' { at - 1 } else { at };
                (end, at + 1)
            }),
            Some(separator) => block[at..].starts_with(separator).then(|| (at, at + separator.len())),
        }
    }
}

/// Splits a JSON document into records: the elements of an array, or the whole. `None` when it is not JSON.
pub fn json_document(text: &[u8]) -> Option<(Vec<u8>, Vec<Range<usize>>)> {
    let records = match serde_json::from_slice(text).ok()? {
        serde_json::Value::Array(records) => records,
        record => vec![record],
    };
    let mut block = vec![];
    let mut lines = vec![];
    for record in records {
        let start = block.len();
        serde_json::to_writer(&mut block, &record).ok()?;
        lines.push(start..block.len());
        block.push(b'\n');
    }
    Some((block, lines))
}

/// The narrowest of Spark's types that holds every text of a column of CSV.
#[derive(Debug, Clone, Default)]
pub struct Inferred(Option<DataType>);

impl Inferred {
    /// Widens the type so that it holds `text`, too.
    pub fn add(&mut self, text: Option<&str>) {
        let Some(text) = text else { return };
        let holds = |data_type: &DataType| {
            let one = StringArray::from(vec![text]);
            match data_type {
                // An integer is no date, though Arrow would take it for one.
                DataType::Date32 => text.len() == 10 && convert(&one, data_type).is_ok_and(|array| array.is_valid(0)),
                DataType::Timestamp(..) => {
                    text.len() >= 10 && convert(&one, data_type).is_ok_and(|array| array.is_valid(0))
                }
                _ => convert(&one, data_type).is_ok_and(|array| array.is_valid(0)),
            }
        };
        let timestamp = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
        let wider: &[DataType] = match &self.0 {
            None => {
                &[DataType::Int32, DataType::Int64, DataType::Float64, DataType::Date32, timestamp, DataType::Boolean]
            }
            Some(DataType::Int32) => &[DataType::Int32, DataType::Int64, DataType::Float64],
            Some(DataType::Int64) => &[DataType::Int64, DataType::Float64],
            Some(DataType::Float64) => &[DataType::Float64],
            Some(DataType::Date32) => &[DataType::Date32, timestamp],
            Some(DataType::Timestamp(..)) => &[timestamp],
            Some(DataType::Boolean) => &[DataType::Boolean],
            Some(_) => &[],
        };
        self.0 = Some(wider.iter().find(|data_type| holds(data_type)).cloned().unwrap_or(DataType::Utf8));
    }

    /// The type; string for a column of nulls.
    pub fn data_type(self) -> DataType {
        self.0.unwrap_or(DataType::Utf8)
    }
}

/// Columns of a file that was written with other ones: by name, converted, null where missing.
///
/// # Errors
/// A type that cannot be converted.
pub fn adapt(batch: &RecordBatch, schema: &SchemaRef, place: &str) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let index = find_column(batch.schema_ref(), field.name());
        match index.map(|index| batch.column(index)) {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => {
                let options = CastOptions { safe: false, ..Default::default() };
                // What a file requires below a struct is not nullable, and has a value in structs that are null.
                masked(column).and_then(|whole| cast_with_options(&whole, field.data_type(), &options)).map_err(|e| {
                    Error::invalid(
                        "FAILED_READ_FILE.PARQUET_COLUMN_DATA_TYPE_MISMATCH",
                        format!(
                            "column {} of {place} is {}, not {}: {e}",
                            field.name(),
                            column.data_type(),
                            field.data_type()
                        ),
                    )
                })
            }
        }
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(Error::internal)
}

/// A column by its name, exact before any case.
pub fn find_column(schema: &Schema, name: &str) -> Option<usize> {
    let fields = schema.fields();
    fields
        .iter()
        .position(|field| field.name() == name)
        .or_else(|| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Options;
    use arrow::datatypes::{Field, TimeUnit};
    use arrow::util::pretty::pretty_format_batches;

    fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
    }

    fn decode(
        format: Format,
        options: &[(&str, &str)],
        fields: &[(&str, DataType)],
        text: &str,
    ) -> Result<Vec<Vec<String>>> {
        let options = FileOptions::parse(format, &Options::new(options.iter().copied())).expect("options");
        let file = schema(fields);
        let decoder = LineDecoder::try_new(&options, &file, (0..fields.len()).collect()).expect("decoder");
        let (lines, used) = Splitter::new(&options).split(text.as_bytes(), true);
        assert_eq!(used, text.len());
        let batch = decoder.decode(text.as_bytes(), &lines, "here")?;
        assert_eq!(batch.schema(), file);
        crate::connectors::console::show::cells(&batch, usize::MAX)
    }

    const AB: [(&str, DataType); 2] = [("a", DataType::Int64), ("b", DataType::Utf8)];
    const ABC: [(&str, DataType); 3] =
        [("a", DataType::Int64), ("b", DataType::Utf8), ("_corrupt_record", DataType::Utf8)];

    #[test]
    fn json_modes() {
        let text = "{\"a\":1,\"b\":\"x\"}\n\n{\"a\":\"no\",\"b\":7}\n{\"a\":2\n{\"b\":true,\"c\":0}\r\n";
        let rows = decode(Format::Json, &[], &AB, text).expect("permissive");
        assert_eq!(rows, [["1", "x"], ["NULL", "7"], ["NULL", "NULL"], ["NULL", "true"]]);
        let rows = decode(Format::Json, &[], &ABC, text).expect("permissive");
        assert_eq!(rows[1], ["NULL", "7", "{\"a\":\"no\",\"b\":7}"]);
        assert_eq!(rows[2], ["NULL", "NULL", "{\"a\":2"]);
        assert_eq!(rows[3], ["NULL", "true", "NULL"]);
        let rows = decode(Format::Json, &[("mode", "DROPMALFORMED")], &AB, text).expect("drop");
        assert_eq!(rows, [["1", "x"], ["NULL", "true"]]);
        let error = decode(Format::Json, &[("mode", "FAILFAST")], &AB, text).expect_err("fail");
        assert_eq!(error.class, "MALFORMED_RECORD_IN_PARSING");
        assert!(error.message.contains("here") && error.message.contains("no"), "{error}");
        let good = "{\"a\":1,\"b\":\"x\"}\n{\"b\":\"y\"}";
        assert_eq!(decode(Format::Json, &[], &AB, good).expect("good"), [["1", "x"], ["NULL", "y"]]);
        assert_eq!(decode(Format::Json, &[], &AB, "").expect("nothing"), Vec::<Vec<String>>::new());
        // One record over two lines is two malformed ones.
        assert_eq!(decode(Format::Json, &[], &AB, "{\"a\":1,\n\"b\":\"x\"}\n").expect("split").len(), 2);
    }

    #[test]
    fn json_documents() {
        let lines = |text: &str| {
            let (block, lines) = json_document(text.as_bytes()).expect("document");
            lines.into_iter().map(|l| String::from_utf8_lossy(&block[l]).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(lines("[{\"a\": 1},\n {\"a\": 2}]"), ["{\"a\":1}", "{\"a\":2}"]);
        assert_eq!(lines("{\n\"a\": 1\n}"), ["{\"a\":1}"]);
        assert!(json_document(b"{").is_none());
    }

    #[test]
    fn csv_modes() {
        let text = "1,x\n\nno,y\n2\n3,z,more\n";
        assert_eq!(
            decode(Format::Csv, &[], &AB, text).expect("permissive"),
            [["1", "x"], ["NULL", "y"], ["2", "NULL"], ["3", "z"]]
        );
        let rows = decode(Format::Csv, &[], &ABC, text).expect("corrupt");
        assert_eq!(rows.iter().map(|row| row[2].as_str()).collect::<Vec<_>>(), ["NULL", "no,y", "2", "3,z,more"]);
        assert_eq!(decode(Format::Csv, &[("mode", "dropmalformed")], &AB, text).expect("drop"), [["1", "x"]]);
        let error = decode(Format::Csv, &[("mode", "failfast")], &AB, text).expect_err("fail");
        assert!(error.message.contains("no,y"), "{error}");
    }

    #[test]
    fn csv_fields() {
        fn check(options: &[(&str, &str)], line: &str, expect: &[Option<&str>]) {
            let options = FileOptions::parse(Format::Csv, &Options::new(options.iter().copied())).expect("options");
            let mut fields = Fields::default();
            fields.split(line, &options.csv);
            let got: Vec<_> = (0..fields.len()).map(|index| fields.get(index, &options.csv)).collect();
            assert_eq!(got, expect, "{line}");
        }
        check(&[], "a,b", &[Some("a"), Some("b")]);
        check(&[], ",", &[None, None]);
        check(&[], "\"a,b\",c", &[Some("a,b"), Some("c")]);
        check(&[], "\"say \\\"hi\\\"\",\"back\\\\slash\"", &[Some("say \"hi\""), Some("back\\slash")]);
        check(&[("escape", "\"")], "\"say \"\"hi\"\"\",x", &[Some("say \"hi\""), Some("x")]);
        check(&[], "\"a\" ,b", &[Some("a"), Some("b")]);
        check(&[], "\"a\"b,c", &[Some("\"a\"b"), Some("c")]);
        check(&[], "\"a,b\",\"c\"\"d\"", &[Some("a,b"), Some("\"c\"\"d\"")]);
        check(&[], "a\"b,c", &[Some("a\"b"), Some("c")]);
        check(&[], " a , b ", &[Some(" a "), Some(" b ")]);
        check(
            &[("ignoreLeadingWhiteSpace", "true"), ("ignoreTrailingWhiteSpace", "true")],
            " a , ",
            &[Some("a"), None],
        );
        // An empty string reads as null unless null is written otherwise, as in Spark.
        check(&[], "\"\",a", &[None, Some("a")]);
        check(&[("nullValue", "-")], "\"\",-", &[Some(""), None]);
        check(&[("sep", "\\t"), ("quote", "")], "\"a\tb", &[Some("\"a"), Some("b")]);
    }

    #[test]
    fn csv_types() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = [("t", utc.clone()), ("d", DataType::Date32), ("f", DataType::Float64), ("b", DataType::Boolean)];
        assert_eq!(
            decode(Format::Csv, &[], &fields, "2024-01-02T03:04:05.006Z,2024-01-02,1.5,TRUE\nx,x,x,1\n").expect("rows"),
            [["2024-01-02 03:04:05.006", "2024-01-02", "1.5", "true"], ["NULL", "NULL", "NULL", "NULL"]]
        );
        let check = |texts: &[&str], expect: DataType| {
            let mut inferred = Inferred::default();
            texts.iter().for_each(|text| inferred.add(Some(text)));
            assert_eq!(inferred.data_type(), expect, "{texts:?}");
        };
        check(&["1", "2"], DataType::Int32);
        check(&["1", "3000000000"], DataType::Int64);
        check(&["1", "2.5"], DataType::Float64);
        check(&["2024-01-01"], DataType::Date32);
        check(&["2024-01-01", "2024-01-01 10:00:00"], utc);
        check(&["true", "False"], DataType::Boolean);
        check(&["true", "1"], DataType::Utf8);
        check(&[], DataType::Utf8);
    }

    #[test]
    fn lines_end_where_they_should() {
        fn check(format: Format, options: &[(&str, &str)], text: &str, last: bool, expect: &[&str], rest: &str) {
            let options = FileOptions::parse(format, &Options::new(options.iter().copied())).expect("options");
            let (lines, used) = Splitter::new(&options).split(text.as_bytes(), last);
            assert_eq!(lines.into_iter().map(|line| &text[line]).collect::<Vec<_>>(), expect, "{text:?}");
            assert_eq!(&text[used..], rest);
        }
        check(Format::Text, &[], "a\nb\r\n\nc", false, &["a", "b", ""], "c");
        check(Format::Text, &[], "a\nb\r", true, &["a", "b"], "");
        check(Format::Text, &[], "", true, &[], "");
        check(Format::Text, &[("lineSep", "||")], "a|b||c", true, &["a|b", "c"], "");
        check(Format::Csv, &[], "\"a\nb\",c\n", true, &["\"a", "b\",c"], "");
        let multi = [("multiLine", "true")];
        check(Format::Csv, &multi, "\"a\nb\",c\nd\n", true, &["\"a\nb\",c", "d"], "");
        check(Format::Csv, &multi, "x,\"a\\\"\n\",y\nz", false, &["x,\"a\\\"\n\",y"], "z");
        check(Format::Csv, &multi, "\"a\nb", false, &[], "\"a\nb");
    }

    #[test]
    fn files_with_other_columns() {
        let a: ArrayRef = Arc::new(StringArray::from(vec!["1", "2"]));
        let batch = RecordBatch::try_from_iter([("A", a)]).expect("batch");
        let wanted = schema(&[("b", DataType::Utf8), ("a", DataType::Int64)]);
        let adapted = adapt(&batch, &wanted, "here").expect("adapt").slice(0, 1);
        let expect = "+---+---+\n| b | a |\n+---+---+\n|   | 1 |\n+---+---+";
        assert_eq!(pretty_format_batches(&[adapted]).expect("table").to_string(), expect);
        let x: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let batch = RecordBatch::try_from_iter([("a", x)]).expect("batch");
        assert!(adapt(&batch, &wanted, "here").expect_err("type").message.contains("here"));
    }

    #[test]
    fn what_a_file_requires_is_null_in_null_structs() {
        use arrow::array::{AsArray, Int64Array, StructArray};
        let inner = |nullable| DataType::Struct(vec![Field::new("a", DataType::Int64, nullable)].into());
        let DataType::Struct(fields) = inner(false) else { unreachable!("a struct") };
        let values = Arc::new(Int64Array::from(vec![5, 0]));
        let column = StructArray::new(fields, vec![values], Some(vec![true, false].into()));
        let file = RecordBatch::try_new(schema(&[("s", inner(false))]), vec![Arc::new(column)]).expect("a batch");
        let read = adapt(&file, &schema(&[("s", inner(true))]), "here").expect("read");
        let own = read.column(0).as_struct().column(0);
        assert_eq!(own.as_primitive(), &Int64Array::from(vec![Some(5), None]));
    }
}
