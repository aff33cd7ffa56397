//! Rows as the table that Spark's `show` prints.

use crate::connectors::files::value::{Formatter, Style, formatter};
use crate::functions::interval_fields::as_texts;
use arrow::record_batch::RecordBatch;
use headwater_proto::error::{Error, Result};

/// Narrower columns are padded to this.
const COLUMN_WIDTH_MIN: usize = 3;

/// The cells of the first `rows` rows: texts of any length, `NULL` for nulls.
///
/// # Errors
/// A column whose type cannot be shown.
pub fn cells(batch: &RecordBatch, rows: usize) -> Result<Vec<Vec<String>>> {
    let batch = as_texts(batch).map_err(Error::internal)?;
    let columns =
        batch.columns().iter().map(|column| formatter(column, Style::Show)).collect::<Result<Vec<Formatter<'_>>>>()?;
    let cell = |row, column: &Formatter<'_>| {
        let mut text = String::new();
        column(row, &mut text);
        text
    };
    Ok((0..batch.num_rows().min(rows)).map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect())
}

/// The table of at most `rows_max` rows, ending in a new line, and a line saying so when there are more.
/// `truncate`: the longest a cell may be, with cells flush right; 0: as long as they are, flush left.
pub fn show(names: &[String], rows: &[Vec<String>], rows_max: usize, truncate: usize) -> String {
    let header: Vec<String> = names.iter().map(|name| escape(name)).collect();
    let body: Vec<Vec<String>> = rows
        .iter()
        .take(rows_max)
        .map(|row| row.iter().map(|cell| shorten(&escape(cell), truncate)).collect())
        .collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = body.iter().map(|row| half_width(&row[column]));
            cells.chain([half_width(&header[column]), COLUMN_WIDTH_MIN]).max().unwrap_or(COLUMN_WIDTH_MIN)
        })
        .collect();
    let rule = format!("+{}\n", widths.iter().map(|width| "-".repeat(*width) + "+").collect::<String>());
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let pad = " ".repeat(width - half_width(cell));
            if truncate > 0 { format!("{pad}{cell}|") } else { format!("{cell}{pad}|") }
        });
        format!("|{}\n", cells.collect::<String>())
    };
    let mut table = format!("{rule}{}{rule}", line(&header));
    for row in &body {
        table.push_str(&line(row));
    }
    table.push_str(&rule);
    if rows.len() > rows_max {
        let word = if rows_max == 1 { "row" } else { "rows" };
        table.push_str(&format!("only showing top {rows_max} {word}\n"));
    }
    table
}

/// No ellipsis where it would be the whole text.
pub fn shorten(text: &str, truncate: usize) -> String {
    if truncate == 0 || text.chars().count() <= truncate {
        text.into()
    } else if truncate < 4 {
        text.chars().take(truncate).collect()
    } else {
        text.chars().take(truncate - 3).chain("...".chars()).collect()
    }
}

/// Characters that would break a line.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{c}' => out.push_str("\\f"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{7}' => out.push_str("\\a"),
            c => out.push(c),
        }
    }
    out
}

/// Width on a terminal, where East Asian wide characters take two cells.
pub fn half_width(text: &str) -> usize {
    let wide = |c: char| {
        matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}' | '\u{fe10}'..='\u{fe19}' | '\u{fe30}'..='\u{fe6f}'
            | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}')
    };
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: &[&[&str]], rows_max: usize, truncate: usize, expect: &str) {
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|c| (*c).into()).collect()).collect();
        assert_eq!(show(&["id".into(), "name".into()], &rows, rows_max, truncate), expect);
    }

    #[test]
    fn tables() {
        check(&[], 20, 20, "+---+----+\n| id|name|\n+---+----+\n+---+----+\n");
        check(
            &[&["1", "a name that is longer"], &["2", "x\ny"]],
            20,
            20,
            "+---+--------------------+\n\
             | id|                name|\n\
             +---+--------------------+\n\
             |  1|a name that is lo...|\n\
             |  2|                x\\ny|\n\
             +---+--------------------+\n",
        );
        check(
            &[&["1", "日本"], &["2", "b"]],
            1,
            0,
            "+---+----+\n|id |name|\n+---+----+\n|1  |日本|\n+---+----+\nonly showing top 1 row\n",
        );
        check(&[&["1", "abcdef"]], 20, 3, "+---+----+\n| id|name|\n+---+----+\n|  1| abc|\n+---+----+\n");
    }
}
