//! Spark's type names: DDL and JSON schema text to Arrow types, and Arrow types back to Spark's text.
//!
//! The correspondence is fixed here and nowhere else: STRING is `Utf8`, BINARY is `Binary`, TIMESTAMP is
//! `Timestamp(µs, "UTC")`, TIMESTAMP_NTZ is `Timestamp(µs)`, DECIMAL is `Decimal128`, a map's entries are named as
//! DataFusion names them so that values from either side mix.

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, TimeUnit};
use headwater_proto::error::{Error, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Types nested deeper than this are refused: each level is a stack frame in every function that walks types.
const DEPTH_MAX: usize = 100;
/// Spark's widest decimal, and ours.
const DECIMAL_PRECISION_MAX: u8 = 38;

/// Columns of a table, from `'id STRING, n INT NOT NULL'`, from `struct<…>`, or from Spark's JSON schema form.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR`, `UNSUPPORTED_DATATYPE` and the like, with the place in the text.
pub fn parse_ddl(text: &str) -> Result<Schema> {
    match parse_schema(text)? {
        DataType::Struct(fields) => Ok(Schema::new(fields)),
        other => Err(Error::invalid(
            "INVALID_SCHEMA.NON_STRUCT_TYPE",
            format!(
                "schema {text:?} is of type {}, not of named columns: write it as name TYPE, name TYPE",
                type_name(&other)
            ),
        )),
    }
}

/// [`parse_ddl`] of a table's columns, of which those of bounded text know it under [`CHAR_VARCHAR`]. Columns of files and
/// of results do not: that would be a difference between types that are the same.
///
/// # Errors
/// As [`parse_ddl`].
pub fn parse_table(text: &str) -> Result<Schema> {
    let schema = parse_ddl(text)?;
    let mut parser = Parser::new(text);
    if parser.columns(None, 0).is_err() || parser.types.len() != schema.fields().len() {
        // JSON, or `struct<…>`.
        return Ok(schema);
    }
    let field = |(field, written): (&FieldRef, &str)| match Bounded::parse(written) {
        Some(bounded) => {
            let mut metadata = field.metadata().clone();
            metadata.insert(CHAR_VARCHAR.to_string(), bounded.to_string());
            field.as_ref().clone().with_metadata(metadata)
        }
        None => field.as_ref().clone(),
    };
    Ok(Schema::new(schema.fields().iter().zip(parser.types.iter().copied()).map(field).collect::<Vec<_>>()))
}

/// Spark's key, in a column's metadata, of the type of text that it is declared as.
const CHAR_VARCHAR: &str = "__CHAR_VARCHAR_TYPE_STRING";

/// A type of text of bounded length, which is STRING wherever it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounded {
    /// `VARCHAR(n)`.
    Varchar(i32),
    /// `CHAR(n)`.
    Char(i32),
}

impl Bounded {
    /// That of a column of [`parse_table`].
    pub fn of(field: &Field) -> Option<Self> {
        Self::parse(field.metadata().get(CHAR_VARCHAR)?)
    }

    fn parse(written: &str) -> Option<Self> {
        let (name, length) = written.strip_suffix(')')?.split_once('(')?;
        let length = length.trim().parse().ok()?;
        match name.trim().to_ascii_uppercase().as_str() {
            "VARCHAR" => Some(Self::Varchar(length)),
            "CHAR" | "CHARACTER" => Some(Self::Char(length)),
            _ => None,
        }
    }
}

impl fmt::Display for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Varchar(length) => write!(f, "varchar({length})"),
            Self::Char(length) => write!(f, "char({length})"),
        }
    }
}

/// [`simple_name`] of a column's type as it was declared: `varchar(3)`.
pub fn declared_name(field: &Field) -> String {
    Bounded::of(field).map_or_else(|| simple_name(field.data_type()), |bounded| bounded.to_string())
}

/// One type, such as `MAP<STRING, ARRAY<DECIMAL(10,2)>>`.
///
/// # Errors
/// As [`parse_ddl`].
pub fn parse_type(text: &str) -> Result<DataType> {
    let mut parser = Parser::new(text);
    let data_type = parser.data_type(0)?;
    parser.end()?;
    Ok(data_type)
}

/// What `from_json` and its like take as a schema: one type, a list of columns, or Spark's JSON form, tried in
/// Spark's order.
///
/// # Errors
/// As [`parse_ddl`].
pub fn parse_schema(text: &str) -> Result<DataType> {
    let trimmed = text.trim_start();
    if trimmed.starts_with('{') || trimmed.starts_with('"') {
        let value: Value = serde_json::from_str(trimmed).map_err(|e| {
            Error::invalid("INVALID_SCHEMA.PARSE_ERROR", format!("schema {text:?} is not valid JSON: {e}"))
        })?;
        return json_type(&value, 0);
    }
    let one = parse_type(text);
    if one.is_ok() {
        return one;
    }
    let mut parser = Parser::new(text);
    let columns = parser.columns(None, 0).and_then(|fields| parser.end().map(|()| fields));
    match columns {
        Ok(fields) => Ok(DataType::Struct(fields)),
        // A text that begins like a type is better explained as one.
        Err(_) if Parser::new(text).begins_like_nested_type() => one,
        Err(e) => Err(e),
    }
}

/// Spark's name of a type as `DataType.sql` prints it and SQL reads it: `ARRAY<STRING>`, `STRUCT<a: INT, b: STRING>`.
/// Types that Spark lacks get the name of the one that holds all their values.
pub fn type_name(data_type: &DataType) -> String {
    name(data_type, Form::Sql)
}

/// Spark's name of a type as DESCRIBE and `printSchema` show it: `array<string>`, `struct<a:int,b:string>`.
pub fn simple_name(data_type: &DataType) -> String {
    name(data_type, Form::Simple)
}

/// Spark's JSON form of a type, which [`parse_schema`] reads back.
pub fn json(data_type: &DataType) -> Value {
    use DataType as T;
    match data_type {
        T::Struct(fields) => {
            let fields = fields.iter().map(|field| {
                let data_type = match super::interval_fields::Fields::of(field) {
                    Some(fields) => Value::String(format!("interval {}", fields.name().to_lowercase())),
                    None => json(field.data_type()),
                };
                serde_json::json!({
                    "name": field.name(), "type": data_type, "nullable": field.is_nullable(), "metadata": {}
                })
            });
            serde_json::json!({"type": "struct", "fields": fields.collect::<Vec<_>>()})
        }
        T::List(item) => serde_json::json!({
            "type": "array", "elementType": json(item.data_type()), "containsNull": item.is_nullable()
        }),
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(pair) => serde_json::json!({
                "type": "map", "keyType": json(pair[0].data_type()), "valueType": json(pair[1].data_type()),
                "valueContainsNull": pair[1].is_nullable()
            }),
            other => json(other),
        },
        other => Value::String(match simple_name(other).as_str() {
            "tinyint" => "byte".into(),
            "smallint" => "short".into(),
            "int" => "integer".into(),
            "bigint" => "long".into(),
            name => name.into(),
        }),
    }
}

/// Columns as text that [`parse_ddl`] reads back: `id STRING NOT NULL, tags ARRAY<STRING>`.
pub fn columns_ddl(fields: &Fields) -> String {
    fields.iter().map(|field| column(field, " ", Form::Sql)).collect::<Vec<_>>().join(", ")
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Sql,
    Simple,
}

fn name(data_type: &DataType, form: Form) -> String {
    use DataType as T;
    let plain = match data_type {
        T::Null => "VOID",
        T::Boolean => "BOOLEAN",
        T::Int8 => "TINYINT",
        T::Int16 | T::UInt8 => "SMALLINT",
        T::Int32 | T::UInt16 => "INT",
        T::Int64 | T::UInt32 => "BIGINT",
        T::Float16 | T::Float32 => "FLOAT",
        T::Float64 => "DOUBLE",
        T::Utf8 | T::LargeUtf8 | T::Utf8View => "STRING",
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => "BINARY",
        T::Date32 | T::Date64 => "DATE",
        T::Timestamp(_, Some(_)) => "TIMESTAMP",
        T::Timestamp(_, None) => "TIMESTAMP_NTZ",
        T::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH",
        T::Interval(IntervalUnit::DayTime) | T::Duration(_) => "INTERVAL DAY TO SECOND",
        T::Interval(IntervalUnit::MonthDayNano) => "INTERVAL",
        T::Time32(_) | T::Time64(_) => "TIME(6)",
        T::Dictionary(_, value) => return name(value, form),
        T::RunEndEncoded(_, values) => return name(values.data_type(), form),
        T::UInt64 => return name(&T::Decimal128(20, 0), form),
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) | T::Decimal256(p, s) => {
            return match form {
                Form::Sql => format!("DECIMAL({p},{s})"),
                Form::Simple => format!("decimal({p},{s})"),
            };
        }
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
            let item = name(item.data_type(), form);
            return match form {
                Form::Sql => format!("ARRAY<{item}>"),
                Form::Simple => format!("array<{item}>"),
            };
        }
        T::Map(entries, _) => {
            let parts = match entries.data_type() {
                T::Struct(fields) => fields.iter().map(|f| name(f.data_type(), form)).collect::<Vec<_>>(),
                other => vec![name(other, form)],
            };
            return match form {
                Form::Sql => format!("MAP<{}>", parts.join(", ")),
                Form::Simple => format!("map<{}>", parts.join(",")),
            };
        }
        T::Struct(fields) => {
            let parts = fields.iter().map(|field| column(field, if form == Form::Sql { ": " } else { ":" }, form));
            return match form {
                Form::Sql => format!("STRUCT<{}>", parts.collect::<Vec<_>>().join(", ")),
                Form::Simple => format!("struct<{}>", parts.collect::<Vec<_>>().join(",")),
            };
        }
        other => return other.to_string(),
    };
    match form {
        Form::Sql => plain.to_string(),
        Form::Simple => plain.to_ascii_lowercase(),
    }
}

fn column(field: &Field, separator: &str, form: Form) -> String {
    let type_name = name(field.data_type(), form);
    if form == Form::Simple {
        return format!("{}{separator}{type_name}", field.name());
    }
    let type_name = Bounded::of(field).map_or(type_name, |bounded| bounded.to_string().to_uppercase());
    let mut text = format!("{}{separator}{type_name}", quote_if_needed(field.name()));
    if !field.is_nullable() {
        text.push_str(" NOT NULL");
    }
    if let Some(comment) = field.metadata().get("comment") {
        text.push_str(&format!(" COMMENT '{}'", comment.replace('\\', "\\\\").replace('\'', "\\'")));
    }
    text
}

/// A name as SQL reads it: in back-ticks unless it is letters, digits and underscores, not digits alone.
pub fn quote_if_needed(name: &str) -> String {
    let plain = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.bytes().all(|b| b.is_ascii_digit());
    if plain { name.to_string() } else { format!("`{}`", name.replace('`', "``")) }
}

/// The Arrow type of TIMESTAMP.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The Arrow type of `ARRAY<item>`.
pub fn array_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// The Arrow type of `MAP<key, value>`.
pub fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// The same type with every column, element and value nullable, as Spark's parsers return it.
pub fn as_nullable(data_type: &DataType) -> DataType {
    let nullable =
        |field: &FieldRef| field.as_ref().clone().with_data_type(as_nullable(field.data_type())).with_nullable(true);
    match data_type {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nullable).collect()),
        DataType::List(item) => DataType::List(Arc::new(nullable(item))),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(parts) if parts.len() == 2 => {
                let key = parts[0].as_ref().clone().with_data_type(as_nullable(parts[0].data_type()));
                let pair = Fields::from(vec![key, nullable(&parts[1])]);
                DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(DataType::Struct(pair))), *sorted)
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// The types of the outermost columns, as written.
    types: Vec<&'a str>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, types: vec![] }
    }
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
    /// Skips white space and SQL comments.
    fn space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with("--") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                self.at += trimmed.find("*/").map_or(trimmed.len(), |end| end + 2);
            } else {
                return;
            }
        }
    }
    fn peek(&mut self) -> Option<char> {
        self.space();
        self.rest().chars().next()
    }
    fn eat(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(symbol);
        if found {
            self.at += symbol.len_utf8();
        }
        found
    }
    fn expect(&mut self, symbol: char) -> Result<()> {
        if self.eat(symbol) { Ok(()) } else { Err(self.syntax(&format!("expected '{symbol}'"))) }
    }
    fn end(&mut self) -> Result<()> {
        if self.peek().is_none() { Ok(()) } else { Err(self.syntax("expected ',' or the end")) }
    }
    fn syntax(&mut self, expected: &str) -> Error {
        let near = match self.peek() {
            None => "the end of input".to_string(),
            Some(_) => format!("'{}'", self.rest().chars().take(20).collect::<String>()),
        };
        Error::invalid(
            "PARSE_SYNTAX_ERROR",
            format!("syntax error at or near {near} (position {}) in schema {:?}: {expected}", self.at, self.text),
        )
    }
    fn word_len(text: &str) -> usize {
        text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
    }
    /// The next word without taking it.
    fn peek_word(&mut self) -> &'a str {
        self.space();
        let rest = self.rest();
        &rest[..Self::word_len(rest)]
    }
    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.peek_word().eq_ignore_ascii_case(word);
        if found {
            self.at += word.len();
        }
        found
    }
    fn begins_like_nested_type(&mut self) -> bool {
        let word = self.peek_word();
        self.at += word.len();
        ["array", "map", "struct"].iter().any(|nested| word.eq_ignore_ascii_case(nested)) && self.eat('<')
    }
    fn identifier(&mut self) -> Result<String> {
        if self.eat('`') {
            let mut name = String::new();
            loop {
                let rest = self.rest();
                let Some(end) = rest.find('`') else {
                    return Err(self.syntax("expected a closing back-tick"));
                };
                name.push_str(&rest[..end]);
                self.at += end + 1;
                if !self.rest().starts_with('`') {
                    break;
                }
                name.push('`');
                self.at += 1;
            }
            return if name.is_empty() { Err(self.syntax("expected a column name in back-ticks")) } else { Ok(name) };
        }
        let start = self.at;
        let word = self.peek_word();
        if word.is_empty() {
            return Err(self.syntax("expected a column name"));
        }
        self.at += word.len();
        if self.rest().starts_with(['-', '.']) {
            let whole = &self.text[start..];
            let whole = whole.trim_start().split([' ', ':', ',', '>']).next().unwrap_or(word);
            return Err(Error::invalid(
                "INVALID_IDENTIFIER",
                format!("the unquoted identifier {whole} is invalid and must be back quoted as: `{whole}`"),
            ));
        }
        Ok(word.to_string())
    }
    /// `name[:] type [NOT NULL] [COMMENT '…']`, by comma, up to `close` (or the end).
    fn columns(&mut self, close: Option<char>, depth: usize) -> Result<Fields> {
        let mut fields = Vec::new();
        if let Some(close) = close
            && self.eat(close)
        {
            return Ok(Fields::from(fields));
        }
        loop {
            if let Some(word) = self.constraint() {
                return Err(without(word));
            }
            let name = self.identifier()?;
            self.eat(':');
            let (text, start) = (self.text, self.at);
            let data_type = self.data_type(depth + 1)?;
            if close.is_none() {
                self.types.push(text[start..self.at].trim());
            }
            let mut field = Field::new(name, data_type, true);
            loop {
                if self.eat_word("NOT") {
                    if !self.eat_word("NULL") {
                        return Err(self.syntax("expected NULL after NOT"));
                    }
                    field = field.with_nullable(false);
                } else if self.eat_word("COMMENT") {
                    let comment = self.string()?;
                    field = field.with_metadata(HashMap::from([("comment".to_string(), comment)]));
                } else if let Some(word) = self.clause() {
                    return Err(without(word));
                } else {
                    break;
                }
            }
            fields.push(field);
            if self.eat(',') {
                continue;
            }
            match close {
                Some(close) => self.expect(close)?,
                None if self.peek().is_some() => return Err(self.syntax("expected ',' or the end")),
                None => {}
            }
            return Ok(Fields::from(fields));
        }
    }
    /// What Spark's columns may have beside type and comment, and ours have not.
    fn clause(&mut self) -> Option<&'static str> {
        const CLAUSES: [&str; 7] = ["DEFAULT", "GENERATED", "CHECK", "CONSTRAINT", "PRIMARY", "UNIQUE", "REFERENCES"];
        let word = self.peek_word();
        CLAUSES.into_iter().find(|clause| clause.eq_ignore_ascii_case(word))
    }
    /// A constraint in the place of a column: a word that could be a column's name, and what no type begins with.
    fn constraint(&mut self) -> Option<&'static str> {
        let start = self.at;
        let mut found = None;
        for word in ["CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "CONSTRAINT"] {
            if !self.eat_word(word) {
                continue;
            }
            let is = match word {
                "CHECK" | "UNIQUE" => self.peek() == Some('('),
                "PRIMARY" | "FOREIGN" => self.eat_word("KEY"),
                _ => {
                    let kinds = ["CHECK", "UNIQUE", "PRIMARY", "FOREIGN"];
                    self.identifier().is_ok() && kinds.into_iter().any(|kind| self.eat_word(kind))
                }
            };
            found = is.then_some(word);
            break;
        }
        self.at = start;
        found
    }
    /// A literal in single or double quotes with backslash escapes, or the same quote doubled.
    fn string(&mut self) -> Result<String> {
        let quote = match self.peek() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return Err(self.syntax("expected a string literal")),
        };
        self.at += 1;
        let mut value = String::new();
        let mut chars = self.rest().char_indices().peekable();
        while let Some((index, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, other)) => value.push(other),
                    None => break,
                },
                c if c == quote => {
                    if chars.next_if(|(_, next)| *next == quote).is_some() {
                        value.push(quote);
                        continue;
                    }
                    self.at += index + quote.len_utf8();
                    return Ok(value);
                }
                c => value.push(c),
            }
        }
        Err(self.syntax("expected a closing quote"))
    }
    /// `(1)`, `(10, 2)` or nothing.
    fn parameters(&mut self) -> Result<Vec<i64>> {
        let mut numbers = Vec::new();
        if self.eat('(') {
            loop {
                let negative = self.eat('-');
                let word = self.peek_word();
                let Ok(number) = word.parse::<i64>() else {
                    return Err(self.syntax("expected a number"));
                };
                self.at += word.len();
                numbers.push(if negative { -number } else { number });
                if !self.eat(',') {
                    break;
                }
            }
            self.expect(')')?;
        }
        Ok(numbers)
    }
    fn data_type(&mut self, depth: usize) -> Result<DataType> {
        if depth > DEPTH_MAX {
            return Err(too_deep());
        }
        let word = self.peek_word().to_string();
        if word.is_empty() {
            return Err(self.syntax("expected a type"));
        }
        self.at += word.len();
        let upper = word.to_ascii_uppercase();
        match upper.as_str() {
            "ARRAY" => {
                self.expect('<')?;
                let item = self.data_type(depth + 1)?;
                self.expect('>')?;
                return Ok(array_of(item));
            }
            "MAP" => {
                self.expect('<')?;
                let key = self.data_type(depth + 1)?;
                self.expect(',')?;
                let value = self.data_type(depth + 1)?;
                self.expect('>')?;
                return Ok(map_of(key, value));
            }
            "STRUCT" => {
                self.expect('<')?;
                return Ok(DataType::Struct(self.columns(Some('>'), depth + 1)?));
            }
            "INTERVAL" => return self.interval(),
            _ => {}
        }
        let parameters = self.parameters()?;
        let data_type = primitive(&upper, &parameters)?;
        match upper.as_str() {
            "STRING" if self.eat_word("COLLATE") => {
                let collation = self.identifier()?;
                if !collation.eq_ignore_ascii_case("UTF8_BINARY") {
                    return Err(Error::invalid(
                        "UNSUPPORTED_FEATURE.COLLATION",
                        format!("collation {collation} is not supported: there is UTF8_BINARY alone"),
                    ));
                }
                Ok(data_type)
            }
            "TIMESTAMP" if self.eat_word("WITHOUT") => {
                self.words(&["TIME", "ZONE"])?;
                Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
            }
            "TIMESTAMP" if self.eat_word("WITH") => {
                self.words(&["LOCAL", "TIME", "ZONE"])?;
                Ok(data_type)
            }
            _ => Ok(data_type),
        }
    }
    fn words(&mut self, words: &[&str]) -> Result<()> {
        for word in words {
            if !self.eat_word(word) {
                return Err(self.syntax(&format!("expected {word}")));
            }
        }
        Ok(())
    }
    fn interval(&mut self) -> Result<DataType> {
        const YEAR_MONTH: [&str; 2] = ["YEAR", "MONTH"];
        const DAY_TIME: [&str; 4] = ["DAY", "HOUR", "MINUTE", "SECOND"];
        let data_types = [
            (&YEAR_MONTH[..], DataType::Interval(IntervalUnit::YearMonth)),
            (&DAY_TIME[..], DataType::Duration(TimeUnit::Microsecond)),
        ];
        for (units, data_type) in data_types {
            if let Some(from) = units.iter().position(|unit| self.eat_word(unit)) {
                if self.eat_word("TO") && !units[from + 1..].iter().any(|unit| self.eat_word(unit)) {
                    return Err(self.syntax("expected a smaller unit of the interval"));
                }
                return Ok(data_type);
            }
        }
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }
}

fn without(word: &str) -> Error {
    Error::invalid(
        "UNSUPPORTED_FEATURE.TABLE_OPERATION",
        format!("{word} of columns is not supported: a column has a type, NOT NULL and COMMENT"),
    )
}

fn too_deep() -> Error {
    Error::invalid("INVALID_SCHEMA.PARSE_ERROR", format!("schema is nested deeper than {DEPTH_MAX} levels"))
}

/// A type that is one word and numbers. JSON's names (`integer`, `long`) are SQL's synonyms.
fn primitive(upper: &str, parameters: &[i64]) -> Result<DataType> {
    let data_type = match upper {
        "BOOLEAN" => DataType::Boolean,
        "TINYINT" | "BYTE" => DataType::Int8,
        "SMALLINT" | "SHORT" => DataType::Int16,
        "INT" | "INTEGER" => DataType::Int32,
        "BIGINT" | "LONG" => DataType::Int64,
        "FLOAT" | "REAL" => DataType::Float32,
        "DOUBLE" => DataType::Float64,
        "STRING" => DataType::Utf8,
        "BINARY" => DataType::Binary,
        "DATE" => DataType::Date32,
        "TIMESTAMP" | "TIMESTAMP_LTZ" => timestamp(),
        "TIMESTAMP_NTZ" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "VOID" | "NULL" => DataType::Null,
        "DECIMAL" | "DEC" | "NUMERIC" => return decimal(parameters),
        "TIME" => match parameters {
            [] | [0..=6] => return Ok(DataType::Time64(TimeUnit::Microsecond)),
            _ => return Err(unsupported(upper, parameters)),
        },
        "VARCHAR" | "CHAR" | "CHARACTER" => match parameters {
            [length] if *length > 0 => return Ok(DataType::Utf8),
            [] => {
                return Err(Error::invalid(
                    "DATATYPE_MISSING_SIZE",
                    format!("type {upper} requires a length: write {upper}(10), or STRING"),
                ));
            }
            _ => return Err(unsupported(upper, parameters)),
        },
        _ => return Err(unsupported(upper, parameters)),
    };
    if parameters.is_empty() { Ok(data_type) } else { Err(unsupported(upper, parameters)) }
}

fn unsupported(upper: &str, parameters: &[i64]) -> Error {
    let parameters = match parameters {
        [] => String::new(),
        some => format!("({})", some.iter().map(i64::to_string).collect::<Vec<_>>().join(",")),
    };
    Error::invalid("UNSUPPORTED_DATATYPE", format!("unsupported data type {upper}{parameters}"))
}

fn decimal(parameters: &[i64]) -> Result<DataType> {
    let (precision, scale) = match parameters {
        [] => (10, 0),
        [precision] => (*precision, 0),
        [precision, scale] => (*precision, *scale),
        _ => return Err(unsupported("DECIMAL", parameters)),
    };
    if precision > i64::from(DECIMAL_PRECISION_MAX) {
        return Err(Error::invalid(
            "DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION",
            format!("decimal precision {precision} exceeds max precision {DECIMAL_PRECISION_MAX}"),
        ));
    }
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..), Ok(scale)) if scale >= 0 && i64::from(scale) <= i64::from(precision) => {
            Ok(DataType::Decimal128(precision, scale))
        }
        _ => Err(Error::invalid(
            "INVALID_DECIMAL_PRECISION",
            format!("decimal scale {scale} must lie between 0 and the precision {precision}, which must be at least 1"),
        )),
    }
}

fn json_type(value: &Value, depth: usize) -> Result<DataType> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    let bad = |what: &str| {
        Err(Error::invalid(
            "INVALID_JSON_DATA_TYPE",
            format!("failed to convert the JSON value {} to a data type: {what}", shorten(&value.to_string())),
        ))
    };
    match value {
        // Spark has this name in JSON alone.
        Value::String(name) if name == "calendarinterval" || name == "interval" => {
            Ok(DataType::Interval(IntervalUnit::MonthDayNano))
        }
        Value::String(name) => parse_type(name),
        Value::Object(object) => match object.get("type").and_then(Value::as_str) {
            Some("struct") => {
                let Some(fields) = object.get("fields").and_then(Value::as_array) else {
                    return bad("a struct needs an array fields");
                };
                let fields = fields.iter().map(|field| json_field(field, depth + 1)).collect::<Result<Vec<_>>>()?;
                Ok(DataType::Struct(Fields::from(fields)))
            }
            Some("array") => match object.get("elementType") {
                Some(item) => Ok(array_of(json_type(item, depth + 1)?)),
                None => bad("an array needs elementType"),
            },
            Some("map") => match (object.get("keyType"), object.get("valueType")) {
                (Some(key), Some(value)) => Ok(map_of(json_type(key, depth + 1)?, json_type(value, depth + 1)?)),
                _ => bad("a map needs keyType and valueType"),
            },
            Some("udt") => match object.get("sqlType") {
                Some(sql_type) => json_type(sql_type, depth + 1),
                None => bad("a user-defined type needs sqlType"),
            },
            _ => bad("type is none of struct, array, map"),
        },
        _ => bad("it is neither a name nor an object"),
    }
}

fn json_field(value: &Value, depth: usize) -> Result<Field> {
    let (Some(name), Some(data_type)) = (value.get("name").and_then(Value::as_str), value.get("type")) else {
        return Err(Error::invalid(
            "INVALID_JSON_DATA_TYPE",
            format!("failed to convert the JSON value {} to a column: it needs name and type", {
                shorten(&value.to_string())
            }),
        ));
    };
    let nullable = value.get("nullable").and_then(Value::as_bool).unwrap_or(true);
    let mut field = Field::new(name, json_type(data_type, depth)?, nullable);
    if let Some(comment) = value.get("metadata").and_then(|m| m.get("comment")).and_then(Value::as_str) {
        field = field.with_metadata(HashMap::from([("comment".to_string(), comment.to_string())]));
    }
    Ok(field)
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_string() } else { text.chars().take(80).chain("…".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        match parse_schema(text) {
            Ok(DataType::Struct(fields)) => assert_eq!(columns_ddl(&fields), expect, "{text}"),
            Ok(other) => assert_eq!(type_name(&other), expect, "{text}"),
            Err(e) => assert_eq!(e.class, expect, "{text}: {e}"),
        }
    }

    #[test]
    fn columns_in_every_form() {
        check("id STRING, n INT NOT NULL", "id STRING, n INT NOT NULL");
        check("a: INT, b : string", "a INT, b STRING");
        check("`a b` int, `c``d` long", "`a b` INT, `c``d` BIGINT");
        check(
            "a INT COMMENT 'it''s', b INT NOT NULL COMMENT \"x\"",
            "a INT COMMENT 'it\\'s', b INT NOT NULL COMMENT 'x'",
        );
        check("tags ARRAY<STRING>, m MAP<STRING,INT>", "tags ARRAY<STRING>, m MAP<STRING, INT>");
        check("s STRUCT<a: INT, b: STRING NOT NULL>", "s STRUCT<a: INT, b: STRING NOT NULL>");
        check("s struct<a int, b array<array<string>>>", "s STRUCT<a: INT, b: ARRAY<ARRAY<STRING>>>");
        check("s struct<>", "s STRUCT<>");
        check("date DATE, timestamp TIMESTAMP, map INT", "date DATE, timestamp TIMESTAMP, map INT");
        check("  a\n INT -- first\n , /* second */ b STRING ", "a INT, b STRING");
        check("größe INT", "`größe` INT");
        check("STRUCT<a: INT>", "a INT");
        check("ARRAY<STRUCT<a: INT>>", "ARRAY<STRUCT<a: INT>>");
    }

    #[test]
    fn bounded_text() {
        let text = "a VARCHAR(3) COMMENT 'c', b char( 5 ) NOT NULL, c STRING, s STRUCT<x: VARCHAR(2)>";
        let schema = parse_table(text).expect(text);
        let names: Vec<String> = schema.fields().iter().map(|field| declared_name(field)).collect();
        assert_eq!(names, ["varchar(3)", "char(5)", "string", "struct<x:string>"]);
        assert_eq!(Bounded::of(schema.field(0)), Some(Bounded::Varchar(3)));
        let ddl = "a VARCHAR(3) COMMENT 'c', b CHAR(5) NOT NULL, c STRING, s STRUCT<x: STRING>";
        assert_eq!(columns_ddl(schema.fields()), ddl);
        assert_eq!(
            columns_ddl(parse_ddl(text).expect(text).fields()),
            ddl.replace("VARCHAR(3)", "STRING").replace("CHAR(5)", "STRING")
        );
        assert_eq!(parse_table(r#"{"type":"struct","fields":[]}"#).expect("JSON").fields().len(), 0);
    }

    #[test]
    fn every_type_name() {
        for (text, expect) in [
            ("BYTE", "TINYINT"),
            ("TINYINT", "TINYINT"),
            ("SHORT", "SMALLINT"),
            ("smallint", "SMALLINT"),
            ("Integer", "INT"),
            ("LONG", "BIGINT"),
            ("REAL", "FLOAT"),
            ("float", "FLOAT"),
            ("DOUBLE", "DOUBLE"),
            ("boolean", "BOOLEAN"),
            ("VARCHAR(20)", "STRING"),
            ("CHAR( 3 )", "STRING"),
            ("STRING COLLATE UTF8_BINARY", "STRING"),
            ("BINARY", "BINARY"),
            ("DATE", "DATE"),
            ("TIMESTAMP", "TIMESTAMP"),
            ("TIMESTAMP_LTZ", "TIMESTAMP"),
            ("TIMESTAMP_NTZ", "TIMESTAMP_NTZ"),
            ("TIMESTAMP WITHOUT TIME ZONE", "TIMESTAMP_NTZ"),
            ("DECIMAL", "DECIMAL(10,0)"),
            ("DEC(7)", "DECIMAL(7,0)"),
            ("NUMERIC(38, 18)", "DECIMAL(38,18)"),
            ("VOID", "VOID"),
            ("INTERVAL YEAR TO MONTH", "INTERVAL YEAR TO MONTH"),
            ("INTERVAL HOUR TO SECOND", "INTERVAL DAY TO SECOND"),
            ("INTERVAL", "INTERVAL"),
            ("TIME(6)", "TIME(6)"),
        ] {
            assert_eq!(parse_type(text).map(|t| type_name(&t)).expect(text), expect);
        }
    }

    #[test]
    fn refused() {
        check("a FOO", "UNSUPPORTED_DATATYPE");
        check("a", "PARSE_SYNTAX_ERROR");
        check("", "PARSE_SYNTAX_ERROR");
        check("a INT,", "PARSE_SYNTAX_ERROR");
        check("a INT b STRING", "PARSE_SYNTAX_ERROR");
        check("a ARRAY<INT", "PARSE_SYNTAX_ERROR");
        check("ARRAY<FOO>", "UNSUPPORTED_DATATYPE");
        check("a-b INT", "INVALID_IDENTIFIER");
        check("`a INT", "PARSE_SYNTAX_ERROR");
        check("a DECIMAL(39,0)", "DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION");
        check("a DECIMAL(3,5)", "INVALID_DECIMAL_PRECISION");
        check("a INT(3)", "UNSUPPORTED_DATATYPE");
        check("a VARCHAR", "DATATYPE_MISSING_SIZE");
        for clause in
            ["DEFAULT 5", "GENERATED ALWAYS AS (1)", "NOT NULL CHECK (a > 0)", "PRIMARY KEY", "COMMENT 'c' UNIQUE"]
        {
            check(&format!("a INT {clause}"), "UNSUPPORTED_FEATURE.TABLE_OPERATION");
        }
        for constraint in ["CONSTRAINT c CHECK (a > 0)", "PRIMARY KEY (a)", "check (a > 0)", "UNIQUE (a)"] {
            check(&format!("a INT, {constraint}"), "UNSUPPORTED_FEATURE.TABLE_OPERATION");
        }
        check("check INT, constraint STRING, primary: DATE", "check INT, constraint STRING, primary DATE");
        check("a STRING COLLATE UNICODE", "UNSUPPORTED_FEATURE.COLLATION");
        check("{\"type\":\"struct\"}", "INVALID_JSON_DATA_TYPE");
        check("{\"type\":", "INVALID_SCHEMA.PARSE_ERROR");
        check(&format!("{}INT{}", "ARRAY<".repeat(500), ">".repeat(500)), "INVALID_SCHEMA.PARSE_ERROR");
        assert_eq!(parse_ddl("INT").expect_err("no columns").class, "INVALID_SCHEMA.NON_STRUCT_TYPE");
    }

    #[test]
    fn json_form() {
        check(
            r#"{"type":"struct","fields":[
                {"name":"id","type":"string","nullable":false,"metadata":{"comment":"key"}},
                {"name":"n","type":"integer","nullable":true,"metadata":{}},
                {"name":"d","type":"decimal(10,2)"},
                {"name":"t","type":"timestamp_ntz"},
                {"name":"a","type":{"type":"array","elementType":"long","containsNull":true}},
                {"name":"m","type":{"type":"map","keyType":"string","valueType":"double","valueContainsNull":true}},
                {"name":"s","type":{"type":"struct","fields":[{"name":"x","type":"date"}]}}]}"#,
            "id STRING NOT NULL COMMENT 'key', n INT, d DECIMAL(10,2), t TIMESTAMP_NTZ, a ARRAY<BIGINT>, \
             m MAP<STRING, DOUBLE>, s STRUCT<x: DATE>",
        );
        check(r#"{"type":"array","elementType":"string","containsNull":true}"#, "ARRAY<STRING>");
    }

    #[test]
    fn json_form_comes_back() {
        let columns = "id BIGINT NOT NULL, n INT, b TINYINT, h SMALLINT, d DECIMAL(10,2), t TIMESTAMP, u TIMESTAMP_NTZ, \
                       x BINARY, a ARRAY<DOUBLE>, m MAP<STRING, FLOAT>, s STRUCT<x: DATE, i: INTERVAL DAY TO SECOND>, \
                       y INTERVAL YEAR TO MONTH";
        let data_type = parse_schema(columns).expect("schema");
        let json = json(&data_type).to_string();
        assert_eq!(parse_schema(&json).expect("JSON"), data_type);
        assert!(json.contains("\"interval year to month\""), "{json}");
    }

    #[test]
    fn arrow_types() {
        assert_eq!(
            parse_type("TIMESTAMP").expect("type"),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        );
        assert_eq!(parse_type("STRING").expect("type"), DataType::Utf8);
        assert_eq!(
            simple_name(&parse_type("struct<a:int,b:map<string,decimal(3,1)>>").expect("type")),
            "struct<a:int,b:map<string,decimal(3,1)>>"
        );
        assert_eq!(type_name(&DataType::UInt64), "DECIMAL(20,0)");
        assert_eq!(type_name(&DataType::Utf8View), "STRING");
        let not_null = parse_schema("a INT NOT NULL, s STRUCT<b: INT NOT NULL> NOT NULL").expect("schema");
        assert_eq!(type_name(&as_nullable(&not_null)), "STRUCT<a: INT, s: STRUCT<b: INT>>");
    }
}
