//! Partition folders: `country=DE/city=K%C3%B6ln`, as Hive and Spark name them.

use super::value::{Style, formatter};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use headwater_proto::error::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Folder value of a null, and of the empty string.
pub const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// What cannot stand in a folder name, by Spark's list, becomes `%XX`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{1}'..='\u{1f}'
            | '\u{7f}'
            | '"'
            | '#'
            | '%'
            | '\''
            | '*'
            | '/'
            | ':'
            | '='
            | '?'
            | '\\'
            | '{'
            | '['
            | ']'
            | '^' => out.push_str(&format!("%{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// The reverse of [`escape`]; what is no escape stays.
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 3..];
            }
            None => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

/// Splits rows by the values of some columns.
#[derive(Debug, Clone)]
pub struct Partitioner {
    names: Vec<String>,
    columns: Vec<usize>,
    rest: Vec<usize>,
    schema: SchemaRef,
}

impl Partitioner {
    /// # Errors
    /// A column that is not there, cannot be a folder, or leaves no column for the files.
    pub fn try_new(schema: &SchemaRef, partition_by: &[String]) -> Result<Self> {
        let mut columns = vec![];
        for name in partition_by {
            let found = schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
            let Some(index) = found else {
                let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(Error::invalid(
                    "PARTITION_COLUMN_NOT_FOUND",
                    format!("partition column {name} is not among the columns {}", names.join(", ")),
                ));
            };
            if columns.contains(&index) {
                return Err(Error::invalid("COLUMN_ALREADY_EXISTS", format!("partition column {name} is named twice")));
            }
            let data_type = schema.field(index).data_type();
            if data_type.is_nested() || matches!(data_type, DataType::Binary | DataType::LargeBinary) {
                return Err(Error::invalid(
                    "INVALID_PARTITION_COLUMN_DATA_TYPE",
                    format!("column {name} of type {data_type} cannot be a partition column: cast it to string"),
                ));
            }
            columns.push(index);
        }
        let rest: Vec<usize> = (0..schema.fields().len()).filter(|index| !columns.contains(index)).collect();
        if rest.is_empty() && !columns.is_empty() {
            return Err(Error::invalid(
                "ALL_PARTITION_COLUMNS_NOT_ALLOWED",
                "all columns are partition columns: leave one to be written into the files",
            ));
        }
        let names = columns.iter().map(|index| schema.field(*index).name().clone()).collect();
        let schema = Arc::new(schema.project(&rest).map_err(Error::internal)?);
        Ok(Self { names, columns, rest, schema })
    }

    /// Columns that are written into the files.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows by folder (`a=1/b=2`, empty without partition columns), folders in the order of their first rows.
    ///
    /// # Errors
    /// None for columns that [`Partitioner::try_new`] accepted.
    pub fn split(&self, batch: &RecordBatch) -> Result<Vec<(String, RecordBatch)>> {
        if self.columns.is_empty() {
            return Ok(vec![(String::new(), batch.clone())]);
        }
        let columns = self.columns.iter().map(|index| batch.column(*index)).collect::<Vec<_>>();
        let nulls: Vec<_> = columns.iter().map(|column| column.logical_nulls()).collect();
        let values = columns.iter().map(|column| formatter(column, Style::Show)).collect::<Result<Vec<_>>>()?;
        let mut found: HashMap<String, usize> = HashMap::new();
        let mut folders: Vec<(String, Vec<u32>)> = vec![];
        let mut value = String::new();
        for row in 0..batch.num_rows() {
            let mut folder = String::new();
            for (column, name) in self.names.iter().enumerate() {
                value.clear();
                if !nulls[column].as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    values[column](row, &mut value);
                }
                if column > 0 {
                    folder.push('/');
                }
                folder.push_str(&escape(name));
                folder.push('=');
                folder.push_str(&if value.is_empty() { DEFAULT_PARTITION.to_string() } else { escape(&value) });
            }
            let index = *found.entry(folder).or_insert_with_key(|folder| {
                folders.push((folder.clone(), vec![]));
                folders.len() - 1
            });
            folders[index].1.push(row as u32);
        }
        let files = batch.project(&self.rest).map_err(Error::internal)?;
        folders
            .into_iter()
            .map(|(folder, rows)| {
                let rows = take_record_batch(&files, &UInt32Array::from(rows)).map_err(Error::internal)?;
                Ok((folder, rows))
            })
            .collect()
    }
}

/// Names and values of the folders between a table's root and a file: `a=1/b=x/part-0` is `[(a, 1), (b, x)]`.
/// Folders that are no partitions are passed over.
pub fn parse(relative: &str) -> Vec<(String, Option<String>)> {
    let folders = relative.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders
        .split('/')
        .filter_map(|folder| folder.split_once('='))
        .map(|(name, value)| (unescape(name), (value != DEFAULT_PARTITION).then(|| unescape(value))))
        .collect()
}

/// The partition columns of a table's files, with types found from all the values as Spark finds them: int, bigint,
/// double, date, string. Declared columns keep their type.
///
/// # Errors
/// Files whose folders do not agree.
pub fn infer(files: &[Vec<(String, Option<String>)>], declared: Option<&Schema>) -> Result<Vec<FieldRef>> {
    let Some(first) = files.first() else { return Ok(vec![]) };
    let names: Vec<&String> = first.iter().map(|(name, _)| name).collect();
    for file in files {
        if !file.iter().map(|(name, _)| name).eq(names.iter().copied()) {
            let show = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(Error::invalid(
                "CONFLICTING_PARTITION_COLUMN_NAMES",
                format!(
                    "some files are partitioned by ({}), some by ({}): read each of the folders by itself",
                    show(names),
                    show(file.iter().map(|(name, _)| name).collect())
                ),
            ));
        }
    }
    Ok(names
        .into_iter()
        .enumerate()
        .map(|(column, name)| {
            let found =
                declared.and_then(|schema| schema.fields().iter().find(|f| f.name().eq_ignore_ascii_case(name)));
            Arc::new(match found {
                Some(field) => field.as_ref().clone(),
                None => {
                    let values = files.iter().filter_map(|file| file[column].1.as_deref());
                    Field::new(name, infer_type(values), true)
                }
            })
        })
        .collect())
}

fn infer_type<'a>(values: impl Iterator<Item = &'a str> + Clone) -> DataType {
    let is_date = |value: &str| value.len() == 10 && chrono::NaiveDate::parse_from_str(value, "%Y-%m-%d").is_ok();
    // A leading zero means something to somebody: Spark too takes `01` for a number, and so it is kept.
    let is_double = |value: &str| value.parse::<f64>().is_ok_and(f64::is_finite);
    if values.clone().next().is_none() {
        DataType::Utf8
    } else if values.clone().all(|value| value.parse::<i32>().is_ok()) {
        DataType::Int32
    } else if values.clone().all(|value| value.parse::<i64>().is_ok()) {
        DataType::Int64
    } else if values.clone().all(is_double) {
        DataType::Float64
    } else if values.clone().all(is_date) {
        DataType::Date32
    } else {
        DataType::Utf8
    }
}

/// The values of a file's folders, for the given columns.
///
/// # Errors
/// A value that is not of the column's type.
pub fn values(file: &[(String, Option<String>)], columns: &[FieldRef]) -> Result<Vec<ScalarValue>> {
    columns
        .iter()
        .map(|column| {
            let found = file.iter().find(|(name, _)| name.eq_ignore_ascii_case(column.name()));
            match found.and_then(|(_, value)| value.as_ref()) {
                None => ScalarValue::try_new_null(column.data_type()).map_err(Error::internal),
                Some(value) => ScalarValue::try_from_string(value.clone(), column.data_type()).map_err(|e| {
                    Error::invalid(
                        "INVALID_PARTITION_VALUE",
                        format!("partition {}={value} is no {}: {e}", column.name(), column.data_type()),
                    )
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array, StringArray};

    #[test]
    fn folder_names_there_and_back() {
        for (value, expect) in [
            ("a/b", "a%2Fb"),
            ("2024-01-01 10:00:00", "2024-01-01 10%3A00%3A00"),
            ("100%", "100%25"),
            ("Köln", "Köln"),
            ("\u{1}", "%01"),
        ] {
            assert_eq!(escape(value), expect);
            assert_eq!(unescape(expect), value);
        }
        assert_eq!(unescape("50%zz%"), "50%zz%");
        assert_eq!(
            parse("a=1/skipped/b=x%2Fy/c=__HIVE_DEFAULT_PARTITION__/part-0"),
            [("a".into(), Some("1".into())), ("b".into(), Some("x/y".into())), ("c".into(), None)]
        );
    }

    #[test]
    fn rows_go_to_their_folders() {
        let x: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
        let c: ArrayRef = Arc::new(StringArray::from(vec![Some("DE"), None, Some("DE"), Some("")]));
        let batch = RecordBatch::try_from_iter([("x", x), ("c", c)]).expect("batch");
        let partitioner = Partitioner::try_new(&batch.schema(), &["C".into()]).expect("partitioner");
        let split = partitioner.split(&batch).expect("split");
        let got: Vec<_> = split.iter().map(|(folder, rows)| (folder.as_str(), rows.num_rows())).collect();
        assert_eq!(got, [("c=DE", 2), ("c=__HIVE_DEFAULT_PARTITION__", 2)]);
        assert_eq!(split[0].1.schema().fields().len(), 1);
        let check = |names: &[&str], class| {
            let names: Vec<String> = names.iter().map(|n| (*n).into()).collect();
            assert_eq!(Partitioner::try_new(&batch.schema(), &names).expect_err(class).class, class);
        };
        check(&["nope"], "PARTITION_COLUMN_NOT_FOUND");
        check(&["c", "c"], "COLUMN_ALREADY_EXISTS");
        check(&["c", "x"], "ALL_PARTITION_COLUMNS_NOT_ALLOWED");
    }

    #[test]
    fn types_come_from_the_values() {
        let file = |value: &str| vec![("p".to_string(), Some(value.to_string()))];
        let check = |values: &[&str], expect: DataType| {
            let files: Vec<_> = values.iter().map(|value| file(value)).collect();
            assert_eq!(infer(&files, None).expect("infer")[0].data_type(), &expect);
        };
        check(&["1", "2"], DataType::Int32);
        check(&["1", "3000000000"], DataType::Int64);
        check(&["1", "2.5"], DataType::Float64);
        check(&["2024-01-01", "2024-12-31"], DataType::Date32);
        check(&["2024-01-01", "1"], DataType::Utf8);
        let other = vec![("q".to_string(), None)];
        assert_eq!(infer(&[file("1"), other], None).expect_err("conflict").class, "CONFLICTING_PARTITION_COLUMN_NAMES");
        let columns = infer(&[file("7")], None).expect("infer");
        assert_eq!(values(&file("7"), &columns).expect("values"), [ScalarValue::Int32(Some(7))]);
        assert!(values(&file("x"), &columns).is_err());
    }
}
