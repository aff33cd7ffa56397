//! Tables as the catalog has them, and the statements that make new ones.

use super::failure::Failure;
use super::options::{SinkOptions, TableName, quoted};
use super::session::Conn;
use crate::functions::ddl;
use arrow::datatypes::{DataType, Schema};
use headwater_proto::error::{Error, ErrorKind, Result};

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// OID of its type.
    pub type_oid: u32,
    /// Modifier of its type: a length, or precision and scale.
    pub modifier: i32,
    /// Its type as SQL has it.
    pub sql_type: String,
    /// Nulls are refused.
    pub not_null: bool,
    /// It has a value where none is given.
    pub has_default: bool,
    /// Its value is computed: it cannot be written.
    pub generated: bool,
    /// Its value is the server's, unless overridden.
    pub identity_always: bool,
}

/// What is known of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// With its schema.
    pub name: TableName,
    /// `r` table, `p` partitioned, `v` view, `m` materialized view, `f` foreign.
    pub kind: char,
    /// Blocks on disk.
    pub pages: i64,
    /// In order.
    pub columns: Vec<TableColumn>,
    /// Columns of the primary key.
    pub primary_key: Option<Vec<String>>,
    /// Columns of each unique index, the primary key's too.
    pub unique: Vec<Vec<String>>,
}

impl TableInfo {
    /// The column of this name; else the one whose name differs in case alone.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name == name).or_else(|| {
            let mut alike = self.columns.iter().filter(|column| column.name.to_lowercase() == name.to_lowercase());
            alike.next().filter(|_| alike.next().is_none())
        })
    }
}

const TABLE: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind, \
     CASE WHEN c.relkind IN ('r', 'm') \
          THEN pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int8 ELSE 0 END \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.oid = pg_catalog.to_regclass($1)";

const COLUMNS: &str = "SELECT a.attname::text, a.atttypid, a.atttypmod, \
     pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
     a.atthasdef OR a.attidentity <> '', a.attgenerated <> '', a.attidentity = 'a' \
     FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Indexes that `ON CONFLICT` may name.
const UNIQUE: &str = "SELECT i.indisprimary, (SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.place) \
       FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place) \
       JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
       WHERE k.place <= i.indnkeyatts) \
     FROM pg_catalog.pg_index i WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate \
       AND i.indpred IS NULL AND i.indexprs IS NULL";

/// Asks the catalog; none when there is no such table.
pub async fn table(conn: &mut Conn, name: &TableName) -> Result<Option<TableInfo>, Failure> {
    let statement = conn.prepared(TABLE).await?;
    let Some(row) = conn.query_opt(&statement, &[&name.sql()]).await? else { return Ok(None) };
    let oid: u32 = row.try_get(0)?;
    let (schema, table): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let (kind, pages): (i8, i64) = (row.try_get(3)?, row.try_get(4)?);
    let statement = conn.prepared(COLUMNS).await?;
    let mut columns = vec![];
    for row in conn.query(&statement, &[&oid]).await? {
        columns.push(TableColumn {
            name: row.try_get(0)?,
            type_oid: row.try_get(1)?,
            modifier: row.try_get(2)?,
            sql_type: row.try_get(3)?,
            not_null: row.try_get(4)?,
            has_default: row.try_get(5)?,
            generated: row.try_get(6)?,
            identity_always: row.try_get(7)?,
        });
    }
    let statement = conn.prepared(UNIQUE).await?;
    let (mut primary_key, mut unique) = (None, vec![]);
    for row in conn.query(&statement, &[&oid]).await? {
        let (primary, columns): (bool, Vec<String>) = (row.try_get(0)?, row.try_get(1)?);
        if primary {
            primary_key = Some(columns.clone());
        }
        unique.push(columns);
    }
    let name = TableName { schema: Some(schema), table };
    Ok(Some(TableInfo { name, kind: char::from(kind as u8), pages, columns, primary_key, unique }))
}

/// The type of a created column.
fn created_type(of: &DataType) -> Result<String, String> {
    Ok(match of {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "integer".into(),
        DataType::Int64 | DataType::UInt32 => "bigint".into(),
        DataType::UInt64 => "numeric(20)".into(),
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("numeric({precision}, {scale})")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => "text".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytea".into()
        }
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Dictionary(_, value) => created_type(value)?,
        DataType::List(item) | DataType::LargeList(item) if !item.data_type().is_nested() => {
            format!("{}[]", created_type(item.data_type())?)
        }
        other => return Err(format!("{} has no counterpart", ddl::type_name(other))),
    })
}

/// The statement that creates a table for rows of this schema.
///
/// # Errors
/// A key column or a typed column that is not there, or a type that has no counterpart.
pub fn create_table(options: &SinkOptions, schema: &Schema) -> Result<String> {
    let name = &options.name;
    let fields = || schema.fields().iter().filter(|field| !options.letter_columns.contains(field.name()));
    let there = |column: &str| fields().any(|field| field.name().eq_ignore_ascii_case(column));
    let known = || fields().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
    for (option, columns) in [
        ("headwater.primaryKey", options.primary_key.iter().collect::<Vec<_>>()),
        ("createTableColumnTypes", options.column_types.iter().map(|(column, _)| column).collect()),
    ] {
        if let Some(missing) = columns.into_iter().find(|column| !there(column)) {
            return Err(Error::invalid(
                "POSTGRES_INVALID_OPTION",
                format!("option {option} names column {missing}; the rows have {}", known()),
            ));
        }
    }
    let mut lines = vec![];
    for field in fields() {
        let given = options.column_types.iter().find(|(column, _)| column.eq_ignore_ascii_case(field.name()));
        let sql = match given {
            Some((_, sql)) => sql.clone(),
            None => created_type(field.data_type()).map_err(|reason| {
                Error::invalid(
                    "POSTGRES_UNSUPPORTED_TYPE",
                    format!("column {} of table {name}: {reason}; make it text by to_json", field.name()),
                )
            })?,
        };
        lines.push(format!("{} {sql}", quoted(field.name())));
    }
    if !options.primary_key.is_empty() {
        let exactly = |key: &String| {
            let field = fields().find(|field| field.name() == key);
            let field = field.or_else(|| fields().find(|field| field.name().eq_ignore_ascii_case(key)));
            quoted(field.map_or(key.as_str(), |field| field.name().as_str()))
        };
        let key: Vec<String> = options.primary_key.iter().map(exactly).collect();
        lines.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    let tail = if options.create_options.is_empty() { String::new() } else { format!(" {}", options.create_options) };
    Ok(format!("CREATE TABLE IF NOT EXISTS {} ({}){tail}", name.sql(), lines.join(", ")))
}

/// The table is not there: says what statement would make one that fits.
pub fn not_found(name: &TableName, label: &str, fitting: Option<String>) -> Error {
    let remedy = match fitting {
        Some(statement) => format!(": create it, or set option headwater.createTable; {statement} would fit"),
        None => ": check option dbtable and the user's search_path".into(),
    };
    Error::new(
        ErrorKind::NotFound,
        "TABLE_OR_VIEW_NOT_FOUND",
        format!("table {name} does not exist on postgres {label}{remedy}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Options;
    use arrow::datatypes::{Field, TimeUnit};

    #[test]
    fn tables_are_created_from_the_rows_schema() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Utf8, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("odd \"name\"", DataType::Decimal128(10, 2), true),
            Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
        ]);
        let check = |pairs: &[(&str, &str)], expect: Result<&str, &str>| {
            let mut options = Options::new([("url", "postgresql://u@h/d"), ("dbtable", "s.t")]);
            pairs.iter().for_each(|(key, value)| options.set(*key, *value));
            let found = SinkOptions::parse(&options).and_then(|options| create_table(&options, &schema));
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect),
                (Err(error), Err(expect)) => assert!(error.message.contains(expect), "{error}"),
                (found, _) => panic!("{found:?}"),
            }
        };
        check(
            &[
                ("headwater.primaryKey", "ID"),
                ("createTableColumnTypes", "id uuid"),
                ("createTableOptions", "WITH (fillfactor = 70)"),
            ],
            Ok("CREATE TABLE IF NOT EXISTS \"s\".\"t\" (\"id\" uuid, \"at\" timestamp with time zone, \
                \"odd \"\"name\"\"\" numeric(10, 2), \"tags\" text[], PRIMARY KEY (\"id\")) WITH (fillfactor = 70)"),
        );
        check(&[("headwater.primaryKey", "uid")], Err("uid"));
        check(&[("createTableColumnTypes", "uid uuid")], Err("createTableColumnTypes"));
    }
}
