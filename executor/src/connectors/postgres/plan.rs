//! How rows of one schema are written to one table: which columns, by which key, by which statements. Pure.
//!
//! ```text
//! key:     COPY temporary ─► INSERT INTO table SELECT DISTINCT ON (key) … ON CONFLICT (key) DO UPDATE | NOTHING
//! no key:  COPY table, or through a temporary table where a type is written as text and cast
//! ```

use super::encode::{Target, target};
use super::options::{OnConflict, SinkOptions, quoted};
use super::schema::{TableColumn, TableInfo};
use crate::connectors::{WriteMode, dead_letters};
use crate::functions::ddl;
use arrow::datatypes::Schema;
use headwater_proto::error::{Error, Result};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Numbers the rows of a window, so that of rows with one key the last (or first) is known.
const ROW: &str = "headwater_row";

/// A column that is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// Column of the rows.
    pub source: usize,
    /// Column of the table.
    pub name: String,
    /// How it is written.
    pub target: Target,
    /// Nulls are bad records: part of the key, or refused by the table.
    pub not_null: bool,
}

/// How rows are written.
#[derive(Debug, Clone, PartialEq)]
pub struct WritePlan {
    /// In the order of the rows' columns.
    pub columns: Vec<Bound>,
    /// Columns that tell rows apart; none: rows are added.
    pub key: Vec<String>,
    /// The temporary table, and the statement that makes it.
    pub temporary: Option<(String, String)>,
    /// Each row ends with its number.
    pub numbered: bool,
    /// Takes the rows.
    pub copy: String,
    /// Carries them from the temporary table to the table.
    pub insert: Option<String>,
    /// A second row of one key is an error, not a bad record.
    pub strict: bool,
}

impl WritePlan {
    /// Whether writing the rows again leaves what is there.
    pub fn idempotent(&self) -> bool {
        !self.key.is_empty()
    }

    /// Checks that the rows fit the table, and says how they are written.
    ///
    /// # Errors
    /// Columns that the table lacks or that the rows lack, types without a conversion, a key that is none; each by name.
    pub fn new(table: &TableInfo, schema: &Schema, options: &SinkOptions, mode: WriteMode) -> Result<Self> {
        let name = &table.name;
        let refuse = |class: &str, message: String| Err(Error::invalid(class, message));
        if table.kind == 'm' {
            let message = format!("{name} is a materialized view, which cannot be written: write its base table");
            return refuse("POSTGRES_VIEW_NOT_WRITABLE", message);
        }
        let known = || table.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        dead_letters::check_columns(&options.letter_columns, schema, |column| table.column(column).is_some())?;
        let fields: Vec<(usize, &str)> = schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| !options.letter_columns.contains(field.name()))
            .map(|(at, field)| (at, field.name().as_str()))
            .collect();
        let unknown: Vec<&str> =
            fields.iter().map(|(_, field)| *field).filter(|field| table.column(field).is_none()).collect();
        if !unknown.is_empty() {
            let message = format!(
                "Column(s) {} not found in table {name}, which has {}: drop or rename them, or alter the table",
                unknown.join(", "),
                known()
            );
            return refuse("UNRESOLVED_COLUMN.WITH_SUGGESTION", message);
        }
        let key = key(table, schema, options)?;
        if key.is_empty() && matches!(mode, WriteMode::Update | WriteMode::Complete) {
            let message = format!(
                "output mode {mode:?} changes rows of table {name}, which has no primary key among the rows' columns: \
                 add one, or name the columns of a unique index in option upsertKeys"
            );
            return refuse("POSTGRES_MISSING_KEY", message);
        }
        let (mut columns, mut temporary_columns, mut selected, mut casts) = (vec![], vec![], vec![], false);
        let mut overriding = false;
        for (source, field) in &fields {
            let Some(column) = table.column(field) else { continue };
            if columns.iter().any(|bound: &Bound| bound.name == column.name) {
                let message =
                    format!("two columns of the rows are for column {} of table {name}: drop one", column.name);
                return refuse("COLUMN_ALREADY_EXISTS", message);
            }
            if column.generated {
                let message =
                    format!("column {} of table {name} is computed by the server: drop it from the rows", column.name);
                return refuse("POSTGRES_COLUMN_NOT_WRITABLE", message);
            }
            overriding |= column.identity_always;
            let target = bound_target(table, column, schema.field(*source).data_type())?;
            if target == Target::Cast {
                casts = true;
                temporary_columns.push(format!("{} text", quoted(&column.name)));
                selected.push(format!("CAST({} AS {})", quoted(&column.name), column.sql_type));
            } else {
                temporary_columns.push(format!("{} {}", quoted(&column.name), column.sql_type));
                selected.push(quoted(&column.name));
            }
            let not_null = column.not_null || key.contains(&column.name);
            columns.push(Bound { source: *source, name: column.name.clone(), target, not_null });
        }
        let written = |name: &str| columns.iter().any(|bound| bound.name == name);
        let lacking: Vec<&str> = table
            .columns
            .iter()
            .filter(|column| column.not_null && !column.has_default && !column.generated && !written(&column.name))
            .map(|column| column.name.as_str())
            .collect();
        if !lacking.is_empty() {
            let message = format!(
                "column(s) {} of table {name} are NOT NULL without a default, and the rows have no such columns: select them",
                lacking.join(", ")
            );
            return refuse("POSTGRES_MISSING_COLUMNS", message);
        }
        let list = |names: &mut dyn Iterator<Item = &str>| names.map(quoted).collect::<Vec<_>>().join(", ");
        let all = list(&mut columns.iter().map(|bound| bound.name.as_str()));
        let strict = options.on_conflict == OnConflict::Error;
        let upsert = !key.is_empty() && !strict;
        // A view takes rows by INSERT alone, a foreign table takes COPY only from some servers.
        if !upsert && !casts && !overriding && matches!(table.kind, 'r' | 'p') {
            return Ok(Self {
                copy: format!("COPY {} ({all}) FROM STDIN (FORMAT binary)", name.sql()),
                columns,
                key: vec![],
                temporary: None,
                numbered: false,
                insert: None,
                strict,
            });
        }
        if upsert {
            temporary_columns.push(format!("{} int8", quoted(ROW)));
        }
        let definition = temporary_columns.join(", ");
        let mut hasher = DefaultHasher::new();
        (name, &definition).hash(&mut hasher);
        let temporary = format!("headwater_{:016x}", hasher.finish());
        let create =
            format!("CREATE TEMPORARY TABLE IF NOT EXISTS {} ({definition}) ON COMMIT DELETE ROWS", quoted(&temporary));
        let system = if overriding { " OVERRIDING SYSTEM VALUE" } else { "" };
        let into = format!("INSERT INTO {} ({all}){system}", name.sql());
        let from = format!("pg_temp.{}", quoted(&temporary));
        let selected_all = selected.join(", ");
        let insert = if upsert {
            let at = |key: &String| columns.iter().position(|bound| bound.name == *key);
            let key_columns: Vec<&str> = key.iter().filter_map(at).map(|at| selected[at].as_str()).collect();
            let key_columns = key_columns.join(", ");
            let keep = options.on_conflict == OnConflict::Ignore;
            let rest: Vec<String> = columns
                .iter()
                .filter(|bound| !key.contains(&bound.name))
                .map(|bound| format!("{0} = EXCLUDED.{0}", quoted(&bound.name)))
                .collect();
            let action = if keep || rest.is_empty() {
                "DO NOTHING".to_string()
            } else {
                format!("DO UPDATE SET {}", rest.join(", "))
            };
            // In the key's order, so that two tasks that meet take their locks alike.
            format!(
                "{into} SELECT DISTINCT ON ({key_columns}) {selected_all} FROM {from} ORDER BY {key_columns}, {}{} \
                 ON CONFLICT ({}) {action}",
                quoted(ROW),
                if keep { "" } else { " DESC" },
                list(&mut key.iter().map(String::as_str)),
            )
        } else {
            format!("{into} SELECT {selected_all} FROM {from}")
        };
        Ok(Self {
            copy: format!(
                "COPY {from} ({all}{}) FROM STDIN (FORMAT binary)",
                if upsert { format!(", {}", quoted(ROW)) } else { String::new() }
            ),
            columns,
            key: if upsert { key } else { vec![] },
            temporary: Some((temporary, create)),
            numbered: upsert,
            insert: Some(insert),
            strict,
        })
    }
}

fn bound_target(table: &TableInfo, column: &TableColumn, from: &arrow::datatypes::DataType) -> Result<Target> {
    let target = target(column.type_oid, column.modifier);
    if target.takes(from) {
        return Ok(target);
    }
    let remedy = if from.is_nested() { "make it text by to_json" } else { "cast it in the query" };
    Err(Error::invalid(
        "CANNOT_UP_CAST_DATATYPE",
        format!(
            "column {} of table {}: {} cannot be written as {}; {remedy}",
            column.name,
            table.name,
            ddl::type_name(from),
            column.sql_type
        ),
    ))
}

/// The columns that tell rows apart: those of option `upsertKeys`, else the primary key when the rows have it.
fn key(table: &TableInfo, schema: &Schema, options: &SinkOptions) -> Result<Vec<String>> {
    let name = &table.name;
    let in_rows = |column: &str| {
        schema.fields().iter().any(|field| table.column(field.name()).is_some_and(|found| found.name == column))
    };
    let Some(given) = &options.upsert_keys else {
        let primary = table.primary_key.clone().unwrap_or_default();
        // A key that the server makes up, such as a serial one, tells no rows apart.
        return Ok(if primary.iter().all(|column| in_rows(column)) { primary } else { vec![] });
    };
    let mut key = vec![];
    for column in given {
        let found = table.column(column).map(|found| found.name.clone()).filter(|found| in_rows(found));
        key.push(found.ok_or_else(|| {
            Error::invalid(
                "POSTGRES_INVALID_OPTION",
                format!("option upsertKeys names column {column}, which table {name} or the rows do not have"),
            )
        })?);
    }
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    if !table.unique.iter().any(|index| sorted(index) == sorted(&key)) {
        let columns: Vec<String> = key.iter().map(|column| quoted(column)).collect();
        return Err(Error::invalid(
            "POSTGRES_MISSING_KEY",
            format!(
                "option upsertKeys names {}, for which table {name} has no unique index: CREATE UNIQUE INDEX ON {} ({})",
                key.join(", "),
                name.sql(),
                columns.join(", ")
            ),
        ));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Options;
    use arrow::datatypes::{DataType, Field};
    use tokio_postgres::types::Type;

    fn table() -> TableInfo {
        let column = |name: &str, of: Type, sql: &str| TableColumn {
            name: name.into(),
            type_oid: of.oid(),
            modifier: -1,
            sql_type: sql.into(),
            not_null: name == "id",
            has_default: false,
            generated: name == "sum",
            identity_always: false,
        };
        TableInfo {
            name: "s.users".parse().unwrap(),
            kind: 'r',
            pages: 0,
            columns: vec![
                column("id", Type::UUID, "uuid"),
                column("Name", Type::TEXT, "text"),
                column("ip", Type::INET, "inet"),
                column("n", Type::INT4, "integer"),
                column("sum", Type::INT4, "integer"),
            ],
            primary_key: Some(vec!["id".into()]),
            unique: vec![vec!["id".into()], vec!["n".into(), "Name".into()]],
        }
    }

    fn plan(fields: &[(&str, DataType)], pairs: &[(&str, &str)], mode: WriteMode) -> Result<WritePlan> {
        let schema =
            Schema::new(fields.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect::<Vec<_>>());
        let mut options = Options::new([("url", "postgresql://u@h/d"), ("dbtable", "s.users")]);
        pairs.iter().for_each(|(key, value)| options.set(*key, *value));
        WritePlan::new(&table(), &schema, &SinkOptions::parse(&options)?, mode)
    }

    #[test]
    fn statements() {
        let check = |fields: &[(&str, DataType)], pairs: &[(&str, &str)], expect: &str| {
            let plan = plan(fields, pairs, WriteMode::Append).unwrap();
            let temporary = plan.temporary.as_ref().map_or("no temporary table", |(name, _)| name.as_str());
            let found = format!("{}\n{}", plan.copy, plan.insert.as_deref().unwrap_or("-")).replace(temporary, "TMP");
            assert_eq!(found, expect);
        };
        let (id, name, ip) = (("id", DataType::Utf8), ("name", DataType::Utf8), ("ip", DataType::Utf8));
        check(
            &[id.clone(), name.clone(), ip.clone()],
            &[],
            "COPY pg_temp.\"TMP\" (\"id\", \"Name\", \"ip\", \"headwater_row\") FROM STDIN (FORMAT binary)\n\
             INSERT INTO \"s\".\"users\" (\"id\", \"Name\", \"ip\") SELECT DISTINCT ON (\"id\") \"id\", \"Name\", \
             CAST(\"ip\" AS inet) FROM pg_temp.\"TMP\" ORDER BY \"id\", \"headwater_row\" DESC ON CONFLICT (\"id\") DO UPDATE \
             SET \"Name\" = EXCLUDED.\"Name\", \"ip\" = EXCLUDED.\"ip\"",
        );
        check(
            &[id.clone(), name.clone()],
            &[("onConflict", "ignore")],
            "COPY pg_temp.\"TMP\" (\"id\", \"Name\", \"headwater_row\") FROM STDIN (FORMAT binary)\n\
             INSERT INTO \"s\".\"users\" (\"id\", \"Name\") SELECT DISTINCT ON (\"id\") \"id\", \"Name\" FROM \
             pg_temp.\"TMP\" ORDER BY \"id\", \"headwater_row\" ON CONFLICT (\"id\") DO NOTHING",
        );
        check(
            &[id.clone(), name.clone()],
            &[("onConflict", "error")],
            "COPY \"s\".\"users\" (\"id\", \"Name\") FROM STDIN (FORMAT binary)\n-",
        );
        check(
            &[id.clone(), ("n", DataType::Int64), name],
            &[("upsertKeys", "\"Name\", n")],
            "COPY pg_temp.\"TMP\" (\"id\", \"n\", \"Name\", \"headwater_row\") FROM STDIN (FORMAT binary)\n\
             INSERT INTO \"s\".\"users\" (\"id\", \"n\", \"Name\") SELECT DISTINCT ON (\"Name\", \"n\") \"id\", \"n\", \
             \"Name\" FROM pg_temp.\"TMP\" ORDER BY \"Name\", \"n\", \"headwater_row\" DESC ON CONFLICT (\"Name\", \"n\") \
             DO UPDATE SET \"id\" = EXCLUDED.\"id\"",
        );
        check(
            &[id, ip],
            &[("onConflict", "error")],
            "COPY pg_temp.\"TMP\" (\"id\", \"ip\") FROM STDIN (FORMAT binary)\n\
             INSERT INTO \"s\".\"users\" (\"id\", \"ip\") SELECT \"id\", CAST(\"ip\" AS inet) FROM pg_temp.\"TMP\"",
        );
    }

    #[test]
    fn rows_that_do_not_fit_are_refused_by_name() {
        let check = |fields: &[(&str, DataType)], pairs: &[(&str, &str)], mode: WriteMode, expect: &str| {
            let error = plan(fields, pairs, mode).unwrap_err();
            assert!(error.to_string().contains(expect), "{error}");
        };
        let id = ("id", DataType::Utf8);
        let append = WriteMode::Append;
        check(&[id.clone(), ("age", DataType::Int32)], &[], append, "Column(s) age not found in table s.users");
        check(&[("n", DataType::Int32)], &[], append, "column(s) id of table s.users are NOT NULL");
        check(&[("id", DataType::Int32)], &[], append, "column id of table s.users: INT cannot be written as uuid");
        check(&[id.clone(), ("sum", DataType::Int32)], &[], append, "computed by the server");
        check(&[id.clone(), ("ID", DataType::Utf8)], &[], append, "two columns of the rows are for column id");
        check(&[id.clone(), ("n", DataType::Int32)], &[("upsertKeys", "n")], append, "CREATE UNIQUE INDEX");
        check(std::slice::from_ref(&id), &[("upsertKeys", "uid")], append, "names column uid");
        let nested = DataType::Struct(vec![Field::new("a", DataType::Int32, true)].into());
        check(&[id, ("Name", nested)], &[], append, "to_json");
    }

    #[test]
    fn a_key_that_the_server_makes_up_is_none() {
        let mut table = table();
        table.columns[0].has_default = true;
        let schema = Schema::new(vec![Field::new("n", DataType::Int32, true)]);
        let options = Options::new([("url", "postgresql://u@h/d"), ("dbtable", "s.users")]);
        let options = SinkOptions::parse(&options).unwrap();
        assert!(!WritePlan::new(&table, &schema, &options, WriteMode::Append).unwrap().idempotent());
        let error = WritePlan::new(&table, &schema, &options, WriteMode::Update).unwrap_err();
        assert_eq!(error.class, "POSTGRES_MISSING_KEY");
    }
}
