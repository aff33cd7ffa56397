//! What a table looks like, in Cassandra and in Arrow, and the CQL texts that name its columns.

use super::convert::cql_name;
use super::decode::arrow_type;
use super::options::{MetadataFunction, PrimaryKey, TableName, TableOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use headwater_proto::error::{Error, ErrorKind, Result};
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A name as CQL takes it whatever its letters.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl TableName {
    /// Both names as CQL takes them.
    pub fn cql(&self) -> String {
        format!("{}.{}", quoted(&self.keyspace), quoted(&self.table))
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its CQL type.
    pub cql: ColumnType<'static>,
}

/// What the schema tables say of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSchema {
    /// Its names.
    pub name: TableName,
    /// Partition key, clustering columns, then the others by name.
    pub columns: Vec<TableColumn>,
    /// Columns that place a row.
    pub partition_key: Vec<String>,
    /// Columns that order the rows of a partition.
    pub clustering: Vec<String>,
    /// Whether it is a materialized view.
    pub view: bool,
}

impl TableSchema {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether the column is part of the primary key.
    pub fn is_key(&self, name: &str) -> bool {
        self.partition_key.iter().chain(&self.clustering).any(|key| key == name)
    }

    /// Whether the table counts: its rows are added to, not written.
    pub fn counts(&self) -> bool {
        self.columns.iter().any(|column| column.cql == ColumnType::Native(NativeType::Counter))
    }

    /// The columns as Spark's connector shows them, then the metadata columns asked for.
    pub fn arrow(&self, options: &TableOptions) -> Result<SchemaRef> {
        let mut fields = vec![];
        for column in &self.columns {
            let data_type = arrow_type(&column.cql).map_err(|reason| {
                Error::invalid(
                    "CASSANDRA_UNSUPPORTED_TYPE",
                    format!("column {} of table {}: {reason}", column.name, self.name),
                )
            })?;
            fields.push(Field::new(&column.name, data_type, true));
        }
        for metadata in &options.metadata {
            let function = match metadata.function {
                MetadataFunction::Ttl => "ttl",
                MetadataFunction::Writetime => "writetime",
            };
            let regular = self
                .column(&metadata.column)
                .filter(|column| !self.is_key(&column.name))
                .is_some_and(|column| matches!(column.cql, ColumnType::Native(_)));
            if !regular || metadata.alias.is_empty() || fields.iter().any(|field| field.name() == &metadata.alias) {
                return Err(Error::invalid(
                    "CASSANDRA_INVALID_OPTION",
                    format!(
                        "option {function}.{} = '{}' needs a column of table {} that is neither key nor collection, and \
                         an alias that is no column",
                        metadata.column, metadata.alias, self.name
                    ),
                ));
            }
            let data_type = match metadata.function {
                MetadataFunction::Ttl => DataType::Int32,
                MetadataFunction::Writetime => DataType::Int64,
            };
            fields.push(Field::new(&metadata.alias, data_type, true));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// For each field of [`TableSchema::arrow`], what a query selects.
    pub fn selected(&self, options: &TableOptions) -> Vec<String> {
        let columns = self.columns.iter().map(|column| quoted(&column.name));
        let metadata = options.metadata.iter().map(|metadata| match metadata.function {
            MetadataFunction::Ttl => format!("TTL({})", quoted(&metadata.column)),
            MetadataFunction::Writetime => format!("WRITETIME({})", quoted(&metadata.column)),
        });
        columns.chain(metadata).collect()
    }
}

/// The CQL type of a column of a created table.
pub fn created_type(arrow: &DataType) -> Result<ColumnType<'static>, String> {
    let native = |native| Ok(ColumnType::Native(native));
    match arrow {
        DataType::Int8 => native(NativeType::TinyInt),
        DataType::Int16 | DataType::UInt8 => native(NativeType::SmallInt),
        DataType::Int32 | DataType::UInt16 => native(NativeType::Int),
        DataType::Int64 | DataType::UInt32 => native(NativeType::BigInt),
        DataType::UInt64 => native(NativeType::Varint),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => native(NativeType::Text),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            native(NativeType::Blob)
        }
        DataType::Boolean => native(NativeType::Boolean),
        DataType::Float16 | DataType::Float32 => native(NativeType::Float),
        DataType::Float64 => native(NativeType::Double),
        DataType::Timestamp(..) | DataType::Date64 => native(NativeType::Timestamp),
        DataType::Date32 => native(NativeType::Date),
        DataType::Time32(_) | DataType::Time64(_) => native(NativeType::Time),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            native(NativeType::Decimal)
        }
        DataType::Dictionary(_, value) => created_type(value),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let item = Box::new(created_type(item.data_type())?);
            Ok(ColumnType::Collection { frozen: false, typ: CollectionType::List(item) })
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let key = Box::new(created_type(fields[0].data_type())?);
                let value = Box::new(created_type(fields[1].data_type())?);
                Ok(ColumnType::Collection { frozen: false, typ: CollectionType::Map(key, value) })
            }
            other => Err(format!("{other} makes no map")),
        },
        other => Err(format!("{other} has no column type in cassandra")),
    }
}

/// How a type is declared: what is inside a collection, or part of the key, is frozen.
fn declared(cql: &ColumnType<'_>, frozen: bool) -> String {
    let name = match cql {
        ColumnType::Collection { typ: CollectionType::List(item), .. } => format!("list<{}>", declared(item, true)),
        ColumnType::Collection { typ: CollectionType::Map(key, value), .. } => {
            format!("map<{}, {}>", declared(key, true), declared(value, true))
        }
        other => return cql_name(other),
    };
    if frozen { format!("frozen<{name}>") } else { name }
}

/// The statement that creates a table for rows of this schema.
///
/// # Errors
/// A key column or a typed column that is not there, or a type that has no counterpart.
pub fn create_table(
    name: &TableName,
    schema: &Schema,
    key: &PrimaryKey,
    types: &BTreeMap<String, String>,
    leave_out: &[&str],
) -> Result<String> {
    if let Some(unknown) = types.keys().find(|column| schema.field_with_name(column).is_err()) {
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Error::invalid(
            "CASSANDRA_INVALID_OPTION",
            format!("option createTableColumnTypes names column {unknown}; the rows have {}", columns.join(", ")),
        ));
    }
    let all_keys = || key.partition.iter().chain(&key.clustering);
    for column in all_keys() {
        if schema.field_with_name(column).is_err() || leave_out.contains(&column.as_str()) {
            let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::invalid(
                "CASSANDRA_INVALID_OPTION",
                format!("option headwater.primaryKey names column {column}; the rows have {}", columns.join(", ")),
            ));
        }
    }
    let mut lines = vec![];
    for field in schema.fields().iter().filter(|field| !leave_out.contains(&field.name().as_str())) {
        if let Some(cql) = types.get(field.name()) {
            lines.push(format!("{} {cql}", quoted(field.name())));
            continue;
        }
        let cql = created_type(field.data_type()).map_err(|reason| {
            Error::invalid(
                "CASSANDRA_UNSUPPORTED_TYPE",
                format!("column {} of table {name}: {reason}; cast it, for example to STRING", field.name()),
            )
        })?;
        lines.push(format!("{} {}", quoted(field.name()), declared(&cql, all_keys().any(|key| key == field.name()))));
    }
    let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let mut primary = format!("({})", list(&key.partition));
    if !key.clustering.is_empty() {
        primary = format!("{primary}, {}", list(&key.clustering));
    }
    Ok(format!("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({primary}))", name.cql(), lines.join(", ")))
}

/// A key that a table of these rows may have. Any column may be meant; the first usually is, and a name that says so is
/// likelier.
fn likely_key(schema: &Schema, leave_out: &[&str]) -> Option<PrimaryKey> {
    let columns =
        || schema.fields().iter().map(|field| field.name()).filter(|name| !leave_out.contains(&name.as_str()));
    let key = columns().find(|name| *name == "id").or_else(|| columns().next())?;
    Some(PrimaryKey { partition: vec![key.clone()], clustering: vec![] })
}

/// The table is not there: says what statement would make one that fits rows of this schema, with a likely key where
/// none is given.
pub fn not_found(
    name: &TableName,
    place: &str,
    schema: Option<&Schema>,
    key: Option<&PrimaryKey>,
    types: &BTreeMap<String, String>,
    leave_out: &[&str],
) -> Error {
    let remedy = schema
        .and_then(|schema| {
            let key = key.cloned().or_else(|| likely_key(schema, leave_out))?;
            create_table(name, schema, &key, types, leave_out).ok()
        })
        .map(|statement| format!(": create it, or set option headwater.createTable; {statement} would fit"))
        .unwrap_or_else(|| ": check options keyspace and table".into());
    Error::new(
        ErrorKind::NotFound,
        "TABLE_OR_VIEW_NOT_FOUND",
        format!("table {name} does not exist on cassandra {place}{remedy}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> TableName {
        TableName { keyspace: "k".into(), table: "Users".into() }
    }

    #[test]
    fn tables_are_created_from_the_rows_schema() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Utf8, true),
            Field::new("at", DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None), true),
            Field::new("odd \"name\"", DataType::Int32, true),
            Field::new("tags", DataType::new_list(DataType::new_list(DataType::Utf8, true), true), true),
            Field::new("keep_for", DataType::Int32, true),
        ]);
        let key = "id,at".parse().unwrap();
        assert_eq!(
            create_table(&name(), &schema, &key, &BTreeMap::new(), &["keep_for"]).unwrap(),
            "CREATE TABLE IF NOT EXISTS \"k\".\"Users\" (\"id\" text, \"at\" timestamp, \"odd \"\"name\"\"\" int, \
             \"tags\" list<frozen<list<text>>>, PRIMARY KEY ((\"id\"), \"at\"))"
        );
        let missing = create_table(&name(), &schema, &"uid".parse().unwrap(), &BTreeMap::new(), &[]).unwrap_err();
        assert!(missing.message.contains("uid") && missing.message.contains("id, at"), "{missing}");
        let nested = Schema::new(vec![Field::new("id", DataType::new_list(DataType::Int32, true), true)]);
        let statement = create_table(&name(), &nested, &"id".parse().unwrap(), &BTreeMap::new(), &[]).unwrap();
        assert!(statement.contains("frozen<list<int>>"), "{statement}");
    }

    #[test]
    fn a_missing_table_says_how_to_make_it() {
        let schema = Schema::new(vec![Field::new("n", DataType::Int32, true), Field::new("id", DataType::Utf8, true)]);
        let none = BTreeMap::new();
        let error = not_found(&name(), "h:9042", Some(&schema), None, &none, &[]);
        assert_eq!((error.kind, error.class.as_str()), (ErrorKind::NotFound, "TABLE_OR_VIEW_NOT_FOUND"));
        assert!(error.message.contains("k.Users does not exist on cassandra h:9042"), "{error}");
        assert!(error.message.contains("PRIMARY KEY ((\"id\"))"), "{error}");
        // As the options would have it.
        let (key, types) = ("n".parse().unwrap(), BTreeMap::from([("id".to_string(), "uuid".to_string())]));
        let error = not_found(&name(), "h:9042", Some(&schema), Some(&key), &types, &[]);
        assert!(error.message.contains("(\"n\" int, \"id\" uuid, PRIMARY KEY ((\"n\")))"), "{error}");
        let error = not_found(&name(), "h:9042", Some(&schema), None, &none, &["id"]);
        assert!(error.message.contains("(\"n\" int, PRIMARY KEY ((\"n\")))"), "{error}");
        let error = not_found(&name(), "h:9042", None, None, &none, &[]);
        assert!(error.message.contains("check options keyspace and table"), "{error}");
    }
}
