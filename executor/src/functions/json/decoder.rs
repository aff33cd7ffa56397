//! One batch of records, text in and an array out; decides what becomes of records that do not fit.

use super::columns::{Column, Record};
use super::options::{Mode, Options};
use super::parser::{Cause, Fail, Parser, Scratch};
use crate::functions::ddl::type_name;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use headwater_proto::error::{Error, ErrorKind, Result};

/// Records after which the rest of the batch is taken to be alike.
const SAMPLE_ROWS: usize = 128;
/// Bytes of a bad record that its error shows.
const SHOWN_BYTES_MAX: usize = 256;

/// Reads records into one array.
pub struct Decoder<'o> {
    options: &'o Options,
    root: Root,
    scratch: Scratch,
    rows: usize,
}

enum Root {
    Struct {
        record: Box<Record>,
        corrupt: Option<usize>,
    },
    /// An array, which a single object stands for when its elements are objects; or a map.
    Nested(Column),
}

impl<'o> Decoder<'o> {
    /// For about `rows` records of a type that [`check_schema`] accepts.
    ///
    /// # Errors
    /// As [`check_schema`].
    pub fn new(data_type: &DataType, options: &'o Options, rows: usize) -> Result<Self> {
        let root = match data_type {
            DataType::Struct(fields) => {
                let corrupt = corrupt_column(data_type, options)?;
                Root::Struct { record: Box::new(Column::root(fields, corrupt, rows)?), corrupt }
            }
            DataType::List(_) | DataType::Map(_, _) => Root::Nested(Column::new(data_type, rows)?),
            other => {
                return Err(Error::invalid(
                    "DATATYPE_MISMATCH.INVALID_JSON_SCHEMA",
                    format!(
                        "from_json reads STRUCT, ARRAY and MAP, not {}: name the columns, as in 'a {0}'",
                        type_name(other)
                    ),
                ));
            }
        };
        Ok(Self { options, root, scratch: Scratch::default(), rows })
    }
    /// No record: null.
    pub fn push_null(&mut self) {
        match &mut self.root {
            Root::Struct { record, .. } => record.push_null(),
            Root::Nested(column) => column.push_null(),
        }
    }
    /// One record.
    ///
    /// # Errors
    /// `MALFORMED_RECORD_IN_PARSING` for a record that does not fit, in mode FAILFAST.
    #[inline]
    pub fn push(&mut self, text: &str) -> Result<()> {
        let mut parser = Parser {
            bytes: text.as_bytes(),
            at: 0,
            options: self.options,
            scratch: &mut self.scratch,
            partial: None,
            depth: 0,
        };
        if parser.is_blank() {
            self.push_null();
            return Ok(());
        }
        let first = parser.bytes[parser.at];
        let cause = match &mut self.root {
            Root::Struct { record, corrupt } => {
                let row = record.len;
                if row == SAMPLE_ROWS {
                    record.reserve_alike(self.rows.saturating_sub(row));
                }
                let done = if first == b'{' { parser.object(record) } else { Err(Fail::WrongType) };
                let cause = match done {
                    Ok(()) => parser.partial,
                    Err(_) => {
                        record.truncate(row);
                        record.end_record();
                        Some(Cause { at: parser.at, field: None })
                    }
                };
                if cause.is_some()
                    && let Some(index) = *corrupt
                    && let Column::Text(column) = &mut record.columns[index]
                {
                    column.truncate(row);
                    column.push(text.as_bytes());
                }
                cause
            }
            Root::Nested(column) => {
                let done = match &mut *column {
                    Column::List(list) if first == b'{' => match &mut list.child {
                        Column::Struct(record) => {
                            let done = parser.object(record);
                            if done.is_ok() {
                                list.child_len += 1;
                                list.end_value();
                            } else {
                                list.abandon();
                            }
                            done
                        }
                        _ => Err(Fail::WrongType),
                    },
                    // A lone null is no record to Spark, though a string null is none either.
                    _ if first == b'n' => Err(Fail::WrongType),
                    column => parser.value(column),
                };
                match done {
                    Ok(()) => parser.partial,
                    Err(_) => {
                        column.push_null();
                        Some(Cause { at: parser.at, field: None })
                    }
                }
            }
        };
        match cause {
            Some(cause) if self.options.mode == Mode::FailFast => Err(malformed(text, first, &self.root, &cause)),
            _ => Ok(()),
        }
    }
    /// The array.
    ///
    /// # Errors
    /// When a column has grown too large for its offsets.
    pub fn finish(self) -> Result<ArrayRef> {
        match self.root {
            Root::Struct { record, .. } => Column::Struct(record).finish(),
            Root::Nested(column) => column.finish(),
        }
    }
}

/// Whether `from_json` can return this type with these options.
///
/// # Errors
/// `DATATYPE_MISMATCH`, `INVALID_CORRUPT_RECORD_TYPE`, `PARSE_MODE_UNSUPPORTED`.
pub fn check_schema(data_type: &DataType, options: &Options) -> Result<()> {
    if options.mode == Mode::DropMalformed {
        return Err(Error::invalid(
            "PARSE_MODE_UNSUPPORTED",
            "the function from_json doesn't support the DROPMALFORMED mode: acceptable modes are PERMISSIVE and FAILFAST",
        ));
    }
    Decoder::new(data_type, options, 0).map(|_| ())
}

fn corrupt_column(data_type: &DataType, options: &Options) -> Result<Option<usize>> {
    let DataType::Struct(fields) = data_type else {
        return Ok(None);
    };
    match fields.find(&options.corrupt_record) {
        None => Ok(None),
        Some((index, field)) if field.data_type() == &DataType::Utf8 => Ok(Some(index)),
        Some((_, field)) => Err(Error::invalid(
            "INVALID_CORRUPT_RECORD_TYPE",
            format!(
                "the column {} for corrupt records must have the nullable STRING type, but got {}",
                field.name(),
                type_name(field.data_type())
            ),
        )),
    }
}

#[cold]
fn malformed(text: &str, first: u8, root: &Root, cause: &Cause) -> Error {
    let array_as_struct = first == b'[' && matches!(root, Root::Struct { .. });
    let mut shown = text;
    if shown.len() > SHOWN_BYTES_MAX {
        let end = (0..=SHOWN_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        shown = &text[..end];
    }
    let dots = if shown.len() < text.len() { "…" } else { "" };
    let (class, why) = match &cause.field {
        _ if array_as_struct => {
            ("CANNOT_PARSE_JSON_ARRAYS_AS_STRUCTS", "parsing JSON arrays as structs is forbidden".to_string())
        }
        Some(field) => ("WITHOUT_SUGGESTION", format!("field {field} at byte {} is not of its type", cause.at)),
        None => ("WITHOUT_SUGGESTION", format!("not a record of the schema from byte {}", cause.at)),
    };
    Error::new(
        ErrorKind::InvalidRequest,
        format!("MALFORMED_RECORD_IN_PARSING.{class}"),
        format!(
            "malformed records are detected in record parsing: {shown}{dots}: {why}; parse mode: FAILFAST; to process \
             malformed records as null result, try setting the option 'mode' as 'PERMISSIVE'"
        ),
    )
}
