//! Bad records that are kept: what each is called, and its row as JSON.

use super::{Options, WriteTask};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use headwater_proto::error::{Error, Result};
use std::collections::HashMap;
use uuid::Uuid;

/// So many different records of a task are counted; of further ones those that are equal have one id.
const COUNTED_MAX: usize = 1 << 17;

/// Names the bad records of a task: by where they came up, what they are and, where several are equal, their number.
/// All of that is the same when the batch runs again, so that a letter that is written twice is there once.
#[derive(Debug)]
pub(super) struct Ids {
    task: String,
    /// How often each has come, by the id of the first.
    counted: HashMap<Uuid, u64>,
}

impl Ids {
    /// Those of one task of a query.
    pub(super) fn new(query: &str, task: &WriteTask) -> Self {
        Self { task: format!("{query}\0{}\0{}", task.batch_id, task.partition), counted: HashMap::new() }
    }

    /// That of the task's next record.
    pub(super) fn next(&mut self, reason: &str, record: &str) -> Uuid {
        let content = format!("{}\0{reason}\0{record}", self.task);
        let first = Uuid::new_v5(&Uuid::NAMESPACE_OID, content.as_bytes());
        if self.counted.len() >= COUNTED_MAX && !self.counted.contains_key(&first) {
            return first;
        }
        let count = self.counted.entry(first).or_default();
        *count += 1;
        if *count == 1 { first } else { Uuid::new_v5(&first, &count.to_be_bytes()) }
    }
}

/// Columns of the rows that dead letters alone hold, such as the text that could not be parsed.
pub(super) fn columns(options: &Options) -> Vec<String> {
    let names = options.get("headwater.deadLetter.columns").unwrap_or_default().split(',').map(str::trim);
    names.filter(|name| !name.is_empty()).map(String::from).collect()
}

/// That the rows have the columns of [`columns`], and the table has none of them.
///
/// # Errors
/// `DEAD_LETTER_COLUMN`, with the column.
pub(super) fn check_columns(columns: &[String], schema: &Schema, in_table: impl Fn(&str) -> bool) -> Result<()> {
    for column in columns {
        let why = if schema.field_with_name(column).is_err() {
            let there: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            format!("the rows have {}: select it, or remove it from the option", there.join(", "))
        } else if in_table(column) {
            "the table has it, so that it is written there: remove it from the option".into()
        } else {
            continue;
        };
        let message = format!("option headwater.deadLetter.columns names column {column}, yet {why}");
        return Err(Error::invalid("DEAD_LETTER_COLUMN", message));
    }
    Ok(())
}

/// One row as JSON.
pub(super) fn json(row: &RecordBatch) -> Result<String> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(vec![]);
    writer.write(row).and_then(|()| writer.finish()).map_err(Error::internal)?;
    Ok(String::from_utf8_lossy(&writer.into_inner()).trim_end().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn ids(query: &str, batch_id: i64, partition: usize) -> Ids {
        Ids::new(query, &WriteTask { batch_id, batch_time_ms: None, partition, attempt: "a".into() })
    }

    #[test]
    fn letters_are_told_apart_and_are_the_same_each_time() {
        let all = |mut ids: Ids| {
            let letters = [("why", "{}"), ("why", "{}"), ("why", "{}"), ("why", "1"), ("y", "{}")];
            letters.map(|(reason, record)| ids.next(reason, record))
        };
        let once = all(ids("q", 1, 0));
        assert_eq!(once, all(ids("q", 1, 0)), "a batch that runs again");
        let others = [all(ids("q", 1, 1)), all(ids("q", 2, 0)), all(ids("r", 1, 0))];
        let distinct: BTreeSet<Uuid> = others.into_iter().flatten().chain(once).collect();
        assert_eq!(distinct.len(), 20);
        // Equal ones may come in another order.
        let (mut one, mut two) = (ids("q", 1, 0), ids("q", 1, 0));
        let first: BTreeSet<Uuid> = ["a", "b", "a"].map(|record| one.next("why", record)).into();
        let second: BTreeSet<Uuid> = ["a", "a", "b"].map(|record| two.next("why", record)).into();
        assert_eq!(first, second);
    }

    #[test]
    fn rows_as_json() {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(1)]));
        let rows = RecordBatch::try_from_iter_with_nullable([("n", column, true)]).unwrap();
        assert_eq!(json(&rows.slice(0, 1)).unwrap(), r#"{"n":null}"#);
        assert_eq!(json(&rows.slice(1, 1)).unwrap(), r#"{"n":1}"#);
    }
}
