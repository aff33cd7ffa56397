//! `show()`: rows as text, laid out as Spark does. The rows are had while the relation is planned.

use super::Planner;
use super::frame::Frame;
use crate::sql::error::from_datafusion;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit, TimestampMicrosecondType};
use datafusion::logical_expr::LogicalPlanBuilder;
use headwater_executor::connectors::console::show::{cells, escape, half_width, shorten, show};
use headwater_executor::functions::datetime::Zone;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use std::sync::Arc;

/// The name of the one column of a shown relation.
const SHOW_STRING: &str = "show_string";
const HTML_STRING: &str = "html_string";
/// Names and values of a vertical table are at least so wide.
const WIDTH_MIN: usize = 3;

impl Planner<'_> {
    /// `show`.
    pub(super) async fn show_string(&mut self, frame: Frame, message: &spark::ShowString) -> Result<Frame> {
        let rows = usize::try_from(message.num_rows).unwrap_or(0);
        let truncate = usize::try_from(message.truncate).unwrap_or(0);
        let (names, cells) = self.shown(&frame, rows).await?;
        let text = if message.vertical {
            vertical(&names, &cells, rows, truncate)
        } else {
            let table = show(&names, &cells, rows, truncate);
            // Spark's last line has no end when it says that there is more.
            if cells.len() > rows { table.trim_end().to_string() } else { table }
        };
        self.text_relation(SHOW_STRING, text)
    }

    /// What notebooks show.
    pub(super) async fn html_string(&mut self, frame: Frame, message: &spark::HtmlString) -> Result<Frame> {
        let rows = usize::try_from(message.num_rows).unwrap_or(0);
        let (names, cells) = self.shown(&frame, rows).await?;
        let text = html(&names, &cells, rows, usize::try_from(message.truncate).unwrap_or(0));
        self.text_relation(HTML_STRING, text)
    }

    fn text_relation(&self, name: &str, text: String) -> Result<Frame> {
        let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let rows = RecordBatch::try_from_iter_with_nullable([(name, text, false)])
            .map_err(|error| from_datafusion(error.into()))?;
        self.of_rows(rows)
    }

    /// Names of columns, and the cells of one row more than are to be shown.
    async fn shown(&mut self, frame: &Frame, rows: usize) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        if frame.is_streaming() {
            return Err(Error::invalid(
                "UNSUPPORTED_STREAMING_OPERATOR",
                "queries with streaming sources must be executed with writeStream.start()",
            ));
        }
        let names = frame.columns().iter().map(|column| column.name.clone()).collect();
        let plan = LogicalPlanBuilder::from(frame.plan().clone())
            .limit(0, Some(rows.saturating_add(1)))
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        let batch = self.collect(&frame.over(plan)).await?;
        let zone = Zone::parse(&self.zone).unwrap_or(Zone::UTC);
        let columns = batch.columns().iter().map(|column| wall_clock(column, &zone)).collect::<Vec<_>>();
        if columns.is_empty() {
            return Ok((names, vec![vec![]; batch.num_rows()]));
        }
        let fields: Vec<Field> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let metadata = frame.columns().get(at).map(|shown| frame.interval_fields(shown)).unwrap_or_default();
                Field::new(format!("c{at}"), column.data_type().clone(), true).with_metadata(metadata)
            })
            .collect();
        let batch = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns)
            .map_err(|error| from_datafusion(error.into()))?;
        Ok((names, cells(&batch, batch.num_rows())?))
    }
}

/// Instants as what a clock in the zone shows, wherever in a value they are.
fn wall_clock(array: &ArrayRef, zone: &Zone) -> ArrayRef {
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            let instants = array.as_primitive::<TimestampMicrosecondType>();
            let local = instants.unary::<_, TimestampMicrosecondType>(|instant| {
                instant + i64::from(zone.offset_at(instant)) * 1_000_000
            });
            Arc::new(local.with_timezone_opt(None::<Arc<str>>))
        }
        DataType::List(item) if has_instants(item.data_type()) => {
            let list = array.as_list::<i32>();
            let values = wall_clock(list.values(), zone);
            let field = with_type(item, values.data_type());
            Arc::new(ListArray::new(field, list.offsets().clone(), values, list.nulls().cloned()))
        }
        DataType::Struct(_) if has_instants(array.data_type()) => Arc::new(struct_of(array.as_struct(), zone)),
        DataType::Map(entries, sorted) if has_instants(entries.data_type()) => {
            let map = array.as_map();
            let inner = struct_of(map.entries(), zone);
            let field = with_type(entries, inner.data_type());
            Arc::new(MapArray::new(field, map.offsets().clone(), inner, map.nulls().cloned(), *sorted))
        }
        _ => Arc::clone(array),
    }
}

fn struct_of(array: &StructArray, zone: &Zone) -> StructArray {
    let columns: Vec<ArrayRef> = array.columns().iter().map(|column| wall_clock(column, zone)).collect();
    let fields: Fields =
        array.fields().iter().zip(&columns).map(|(field, column)| with_type(field, column.data_type())).collect();
    StructArray::new(fields, columns, array.nulls().cloned())
}

fn with_type(field: &FieldRef, data_type: &DataType) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(data_type.clone()))
}

fn has_instants(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, Some(_)) => true,
        DataType::List(item) | DataType::Map(item, _) => has_instants(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_instants(field.data_type())),
        _ => false,
    }
}

/// One line a column, one block a row.
fn vertical(names: &[String], rows: &[Vec<String>], rows_max: usize, truncate: usize) -> String {
    let names: Vec<String> = names.iter().map(|name| escape(name)).collect();
    let shown: Vec<Vec<String>> = rows
        .iter()
        .take(rows_max)
        .map(|row| row.iter().map(|cell| shorten(&escape(cell), truncate)).collect())
        .collect();
    if shown.is_empty() {
        return "(0 rows)\n".into();
    }
    let widest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0).max(WIDTH_MIN);
    let name_width = widest(&mut names.iter().map(|name| half_width(name)));
    let value_width = widest(&mut shown.iter().flatten().map(|cell| half_width(cell)));
    let padded = |text: &str, width: usize| format!("{text}{}", " ".repeat(width.saturating_sub(half_width(text))));
    let mut text = String::new();
    for (number, row) in shown.iter().enumerate() {
        let head = format!("-RECORD {number}");
        let dashes = (name_width + value_width + 5).saturating_sub(head.len());
        text.push_str(&format!("{head}{}\n", "-".repeat(dashes)));
        for (name, cell) in names.iter().zip(row) {
            text.push_str(&format!(" {} | {} \n", padded(name, name_width), padded(cell, value_width)));
        }
    }
    text.push_str(&footer(rows.len(), rows_max));
    text
}

fn html(names: &[String], rows: &[Vec<String>], rows_max: usize, truncate: usize) -> String {
    let safe = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let line = |open: &str, close: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("{open}{}{close}", safe(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let mut text = String::from("<table border='1'>\n");
    text.push_str(&line("<th>", "</th>", names.to_vec()));
    for row in rows.iter().take(rows_max) {
        text.push_str(&line("<td>", "</td>", row.iter().map(|cell| shorten(&escape(cell), truncate)).collect()));
    }
    text.push_str("</table>\n");
    text.push_str(&footer(rows.len(), rows_max));
    text
}

fn footer(rows: usize, rows_max: usize) -> String {
    if rows <= rows_max {
        return String::new();
    }
    format!("only showing top {rows_max} {}", if rows_max == 1 { "row" } else { "rows" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::TimestampMicrosecondArray;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn vertical_tables() {
        let names = ["id".to_string(), "name".to_string()];
        assert_eq!(
            vertical(&names, &rows(&[&["1", "abcdef"], &["2", "b"]]), 1, 5),
            "-RECORD 0-----\n id   | 1     \n name | ab... \nonly showing top 1 row"
        );
        assert_eq!(vertical(&names, &[], 20, 20), "(0 rows)\n");
    }

    #[test]
    fn html_tables() {
        assert_eq!(
            html(&["a".into()], &rows(&[&["<1>"]]), 20, 20),
            "<table border='1'>\n<tr><th>a</th></tr>\n<tr><td>&lt;1&gt;</td></tr>\n</table>\n"
        );
    }

    #[test]
    fn instants_are_shown_in_the_zone() {
        let zone = Zone::parse("+01:00").expect("is a zone");
        let instants: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC"));
        let local = wall_clock(&instants, &zone);
        assert_eq!(local.as_primitive::<TimestampMicrosecondType>().value(0), 3_600_000_000);
        assert_eq!(local.data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
    }
}
