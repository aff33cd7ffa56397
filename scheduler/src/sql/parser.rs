//! SQL text to [`Statement`]s.
//!
//! Queries are sqlparser's; the statements around them are parsed here, since Spark's `USING`, `OPTIONS`, `BY NAME`,
//! `CREATE FLOW` and `STREAM` are nobody else's. The text is tokenized once, so places in errors are places in the
//! whole text, and the text of a query is kept as it was written.

use super::dialect::{SparkDialect, is_word};
use super::error::from_parser;
use super::{literals, quoted, syntax};
use datafusion::sql::sqlparser::ast::{Query, SetExpr};
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Word};
use headwater_proto::error::{Error, Result};
use std::fmt;

type Parsed<T> = std::result::Result<T, ParserError>;

/// A name of one or several parts, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub Vec<String>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.iter().map(|part| format!("`{}`", part.replace('`', "``"))).collect::<Vec<_>>();
        f.write_str(&parts.join("."))
    }
}

/// A query: its text as written and its tree.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryText {
    /// As written.
    pub text: String,
    /// As parsed.
    pub ast: Box<Query>,
}

/// `INSERT`.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// Target.
    pub table: Name,
    /// Replace the table's rows.
    pub overwrite: bool,
    /// Target columns that the query's columns are for, in order; empty: all.
    pub columns: Vec<String>,
    /// Columns find their place by name.
    pub by_name: bool,
    /// `PARTITION (p = 'x', q)`.
    pub partition: Vec<(String, PartitionValue)>,
    /// What is written.
    pub query: QueryText,
}

/// What `PARTITION (…)` says of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionValue {
    /// Nothing: it is among the query's columns, as the others are.
    Dynamic,
    /// `= NULL`.
    Null,
    /// A constant, as text.
    Text(String),
}

/// `CREATE TABLE name LIKE source`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTableLike {
    /// Name.
    pub name: Name,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// The table or view whose columns it has.
    pub source: Name,
    /// `USING`; none: the source's.
    pub format: Option<String>,
    /// `LOCATION`.
    pub location: Option<String>,
    /// `TBLPROPERTIES`.
    pub properties: Vec<(String, String)>,
}

/// `CREATE TABLE` and `CREATE STREAMING TABLE`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// Name.
    pub name: Name,
    /// `OR REPLACE`.
    pub or_replace: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `STREAMING`: the query is a flow.
    pub streaming: bool,
    /// Column definitions as written, without the parentheses.
    pub columns: Option<String>,
    /// `USING`; `parquet` where nothing is said, as Spark's `spark.sql.sources.default`.
    pub format: String,
    /// `OPTIONS`.
    pub options: Vec<(String, String)>,
    /// `PARTITIONED BY`.
    pub partition_by: Vec<String>,
    /// `LOCATION`.
    pub location: Option<String>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `TBLPROPERTIES`.
    pub properties: Vec<(String, String)>,
    /// `AS SELECT …`.
    pub query: Option<QueryText>,
}

/// How much `EXPLAIN` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExplainMode {
    /// The physical plan.
    Simple,
    /// Logical plans too.
    Extended,
    /// The physical plan, with its schema.
    Formatted,
}

/// What `ALTER TABLE` and `ALTER VIEW` change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// `SET TBLPROPERTIES (…)`.
    SetProperties(Vec<(String, String)>),
    /// `UNSET TBLPROPERTIES [IF EXISTS] (…)`.
    UnsetProperties {
        /// Which.
        keys: Vec<String>,
        /// `IF EXISTS`.
        if_exists: bool,
    },
    /// `RENAME TO name`.
    Rename(Name),
    /// `ADD COLUMNS (…)`, as written.
    AddColumns(String),
    /// `COMMENT ON TABLE … IS …`.
    Comment(Option<String>),
    /// `AS query`, of a view.
    Query(QueryText),
}

/// What `SHOW` shows of the catalog.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// `SHOW DATABASES`, by Spark's pattern.
    Databases(Option<String>),
    /// `SHOW CATALOGS`, by Spark's pattern.
    Catalogs(Option<String>),
    /// `SHOW CURRENT NAMESPACE`.
    CurrentDatabase,
    /// `SHOW COLUMNS`.
    Columns(Name),
    /// `SHOW TBLPROPERTIES`: all, or one.
    Properties(Name, Option<String>),
    /// `DESCRIBE DATABASE`.
    Database(Name),
    /// `DESCRIBE FUNCTION`.
    Function(String),
    /// `DESCRIBE QUERY`.
    Query(QueryText),
    /// `DESCRIBE table column`.
    Column(Name, String),
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `USE`.
    Use(Name),
    /// `USE CATALOG`.
    UseCatalog(String),
    /// `CREATE DATABASE`.
    CreateDatabase {
        /// Name.
        name: Name,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
        /// `COMMENT`.
        comment: Option<String>,
        /// `LOCATION`.
        location: Option<String>,
        /// `WITH DBPROPERTIES`.
        properties: Vec<(String, String)>,
    },
    /// `DROP DATABASE`.
    DropDatabase {
        /// Name.
        name: Name,
        /// `IF EXISTS`.
        if_exists: bool,
        /// `CASCADE`: with its tables.
        cascade: bool,
    },
    /// `ALTER TABLE`, `ALTER VIEW`, `COMMENT ON TABLE`.
    Alter {
        /// Which.
        name: Name,
        /// A view.
        view: bool,
        /// How.
        change: Change,
    },
    /// `CACHE TABLE`: that is remembered and nothing is kept, as of DataFrames.
    Cache {
        /// Which.
        name: Name,
        /// `AS query`: a temporary view of it is made.
        query: Option<QueryText>,
    },
    /// `UNCACHE TABLE`, `CLEAR CACHE`.
    Uncache {
        /// Which; none: all.
        name: Option<Name>,
        /// `IF EXISTS`.
        if_exists: bool,
    },
    /// `REFRESH TABLE name`, `REFRESH 'path'`: there is nothing to be read again.
    Refresh(Option<Name>),
    /// `SHOW` and `DESCRIBE` of what is no table.
    Show(Shown),
    /// `CREATE TABLE`.
    CreateTable(CreateTable),
    /// `CREATE TABLE … LIKE`.
    CreateTableLike(CreateTableLike),
    /// `CREATE FLOW name AS INSERT INTO …`.
    CreateFlow {
        /// Of the flow, and of the streaming query that runs it.
        name: Name,
        /// What flows where.
        insert: Insert,
    },
    /// `CREATE VIEW`.
    CreateView {
        /// Name.
        name: Name,
        /// `OR REPLACE`.
        or_replace: bool,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
        /// Of this session alone.
        temporary: bool,
        /// New names of the query's columns; empty: its own.
        columns: Vec<String>,
        /// `COMMENT`.
        comment: Option<String>,
        /// What it shows.
        query: QueryText,
    },
    /// `INSERT`.
    Insert(Insert),
    /// `DROP TABLE` or `DROP VIEW`.
    Drop {
        /// Name.
        name: Name,
        /// `IF EXISTS`.
        if_exists: bool,
        /// `DROP VIEW`.
        view: bool,
    },
    /// `SHOW TABLES`, `SHOW VIEWS`.
    ShowTables {
        /// `IN`.
        database: Option<Name>,
        /// Spark's pattern: `*` and `|`.
        pattern: Option<String>,
        /// Views alone.
        views: bool,
    },
    /// `SHOW FUNCTIONS`.
    ShowFunctions {
        /// Spark's pattern: `*` and `|`.
        pattern: Option<String>,
    },
    /// `SHOW CREATE TABLE`.
    ShowCreateTable(Name),
    /// `DESCRIBE`.
    Describe {
        /// Table or view.
        name: Name,
        /// With format, options and so on.
        extended: bool,
    },
    /// `EXPLAIN`.
    Explain {
        /// How much.
        mode: ExplainMode,
        /// What.
        statement: Box<Statement>,
    },
    /// `SET`: all settings, one, or a new value.
    Set {
        /// Which.
        key: Option<String>,
        /// The new value.
        value: Option<String>,
    },
    /// `RESET`: every setting, or one, back to its default.
    Reset(Option<String>),
    /// Rows.
    Query(QueryText),
}

/// Parses statements divided by `;`. Empty ones are left out.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` with line and column; `UNSUPPORTED_FEATURE` for statements of Spark that are not served.
pub fn parse(text: &str) -> Result<Vec<Statement>> {
    let dialect = SparkDialect;
    let mut statements = vec![];
    for tokens in tokenize(&dialect, text)?.split(|token| token.token == Token::SemiColon) {
        if tokens.iter().any(|token| token.token != Token::EOF) {
            let mut parser = StatementParser::new(&dialect, text, tokens.to_vec());
            statements.push(parser.statement_to_end()?);
        }
    }
    Ok(statements)
}

/// Parses one query, such as a view's or a flow's.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR`.
pub fn parse_query(text: &str) -> Result<Box<Query>> {
    match parse(text)?.as_slice() {
        [Statement::Query(query)] => Ok(query.ast.clone()),
        _ => Err(Error::invalid("PARSE_SYNTAX_ERROR", format!("expected one query, found: {text}"))),
    }
}

/// Tokens without white space and comments, an end-of-file token last in every statement.
fn tokenize(dialect: &SparkDialect, text: &str) -> Result<Vec<TokenWithSpan>> {
    // Escapes are Spark's and not sqlparser's.
    let all = Tokenizer::new(dialect, text)
        .with_unescape(false)
        .tokenize_with_location()
        .map_err(|error| from_parser(&ParserError::from(error)))?;
    let end = all.last().map_or(Location::new(1, 1), |token| token.span.end);
    let mut tokens: Vec<TokenWithSpan> = vec![];
    for token in all {
        match token.token {
            Token::Whitespace(_) => continue,
            Token::SemiColon => {
                // Errors at the end of a statement point at its semicolon.
                tokens.push(TokenWithSpan::new(Token::EOF, token.span));
                tokens.push(token);
            }
            _ => tokens.push(token),
        }
    }
    tokens.push(TokenWithSpan::new(Token::EOF, Span::new(end, end)));
    let mut tokens = type_numbers(name_identifiers(quoted::read(tokens)));
    for at in 0..tokens.len().saturating_sub(1) {
        // Calls like any others: sqlparser's have no scale that is negative.
        if tokens[at + 1].token == Token::LParen
            && let Token::Word(word) = &mut tokens[at].token
            && matches!(word.keyword, Keyword::CEIL | Keyword::FLOOR)
        {
            word.keyword = Keyword::NoKeyword;
        }
    }
    Ok(parenthesize_streams(tokens))
}

/// `FROM STREAM t` becomes `FROM STREAM (t)`, which sqlparser takes for a table function.
fn parenthesize_streams(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut output: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let after_from = output.last().is_some_and(|last| is_word(&last.token, "FROM") || is_word(&last.token, "JOIN"));
        let stream = after_from && is_word(&token.token, "STREAM");
        output.push(token);
        let names_table = |next: &TokenWithSpan| match &next.token {
            Token::Word(word) => word.quote_style.is_some() || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword),
            _ => false,
        };
        if !stream || !tokens.peek().is_some_and(names_table) {
            continue;
        }
        let name = tokens.next().expect("was peeked at");
        output.push(TokenWithSpan::new(Token::LParen, name.span));
        output.push(name);
        while tokens.peek().is_some_and(|next| next.token == Token::Period) {
            output.extend(tokens.by_ref().take(2));
        }
        let end = output.last().map_or(Span::empty(), |last| last.span);
        output.push(TokenWithSpan::new(Token::RParen, end));
    }
    output
}

/// `IDENTIFIER('a.b')` becomes the name; one with parameters is a call until these are known.
fn name_identifiers(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut output: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.as_slice();
    while let [first, after @ ..] = rest {
        match constant_name(first, after) {
            Some((name, taken)) => {
                for (at, part) in syntax::name_parts(&name).into_iter().enumerate() {
                    let plain = part.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                    if at > 0 {
                        output.push(TokenWithSpan::new(Token::Period, first.span));
                    }
                    let word = Token::make_word(&part.value, (!plain).then_some('`'));
                    output.push(TokenWithSpan::new(word, first.span));
                }
                // Where the statement goes on is where the name ended.
                if let Some(last) = output.last_mut() {
                    last.span.end = after[taken - 1].span.end;
                }
                rest = &after[taken..];
            }
            None => {
                output.push(first.clone());
                rest = after;
            }
        }
    }
    output
}

/// The text between the parentheses after IDENTIFIER, and how many tokens these are.
fn constant_name(first: &TokenWithSpan, after: &[TokenWithSpan]) -> Option<(String, usize)> {
    if !is_word(&first.token, "IDENTIFIER") || after.first()?.token != Token::LParen {
        return None;
    }
    let mut name = String::new();
    for (at, token) in after.iter().enumerate().skip(1) {
        match (at % 2, &token.token) {
            (1, Token::SingleQuotedString(text) | Token::DoubleQuotedString(text)) => name.push_str(text),
            (0, Token::StringConcat) => {}
            (0, Token::RParen) => return Some((name, at + 1)),
            _ => return None,
        }
    }
    None
}

/// The letters that type a number become part of it, `1.5D`: D, F, S, Y and BD. L is sqlparser's own.
fn type_numbers(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut output: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        if let Token::Word(Word { value, quote_style: None, .. }) = &token.token
            && literals::SUFFIXES.iter().any(|suffix| value.eq_ignore_ascii_case(suffix))
            && let Some(TokenWithSpan { token: Token::Number(number, false), span }) = output.last_mut()
            && span.end == token.span.start
        {
            number.push_str(&value.to_ascii_uppercase());
            span.end = token.span.end;
            continue;
        }
        output.push(token);
    }
    output
}

/// How statements of Spark begin that are not served. Longer ones come first.
const REFUSED: &[&str] = &[
    "ADD ARCHIVE",
    "ADD FILE",
    "ADD JAR",
    "ALTER DATABASE",
    "ALTER NAMESPACE",
    "ALTER SCHEMA",
    "ANALYZE",
    "BEGIN",
    "CALL",
    "CREATE EXTERNAL TABLE",
    "CREATE FUNCTION",
    "CREATE INDEX",
    "CREATE MATERIALIZED VIEW",
    "CREATE OR REPLACE FUNCTION",
    "CREATE OR REPLACE TEMPORARY FUNCTION",
    "CREATE TEMPORARY FUNCTION",
    "CREATE VARIABLE",
    "DECLARE",
    "DELETE",
    "DROP FUNCTION",
    "DROP INDEX",
    "DROP TEMPORARY FUNCTION",
    "DROP TEMPORARY VARIABLE",
    "DROP VARIABLE",
    "EXECUTE IMMEDIATE",
    "EXECUTE",
    "EXPORT",
    "IMPORT",
    "INSERT OVERWRITE DIRECTORY",
    "INSERT OVERWRITE LOCAL DIRECTORY",
    "LIST ARCHIVE",
    "LIST FILE",
    "LIST JAR",
    "LOAD",
    "LOCK",
    "MERGE",
    "MSCK",
    "REFRESH FUNCTION",
    "REPAIR",
    "SHOW LOCKS",
    "SHOW PARTITIONS",
    "SHOW PROCEDURES",
    "SHOW TABLE EXTENDED",
    "TRUNCATE",
    "UNLOCK",
    "UPDATE",
];

fn refused(what: &str, place: Location) -> Error {
    let Location { line, column } = place;
    Error::invalid("UNSUPPORTED_FEATURE", format!("{what} is not supported, line {line}, column {column}"))
}

struct StatementParser<'a> {
    parser: Parser<'a>,
    text: &'a str,
    /// Why the statement fails, where that is known better than by what was expected.
    refused: Option<Error>,
}

impl<'a> StatementParser<'a> {
    fn new(dialect: &'a SparkDialect, text: &'a str, tokens: Vec<TokenWithSpan>) -> Self {
        Self { parser: Parser::new(dialect).with_tokens_with_locations(tokens), text, refused: None }
    }

    fn statement_to_end(&mut self) -> Result<Statement> {
        let first = self.parser.peek_token();
        if let Token::Word(word) = &first.token
            && word.quote_style.is_none()
        {
            let begins = |words: &str| {
                words.split(' ').enumerate().all(|(n, word)| is_word(&self.parser.peek_nth_token_ref(n).token, word))
            };
            if let Some(words) = REFUSED.iter().find(|words| begins(words)) {
                return Err(refused(&format!("statement {words}"), first.span.start));
            }
        }
        let statement = self.statement().map_err(|error| match self.refused.take() {
            Some(error) => error,
            None => from_parser(&error),
        })?;
        match self.parser.peek_token_ref().token {
            Token::EOF => Ok(statement),
            _ => {
                let found = self.parser.peek_token();
                Err(from_parser(&self.parser.expected::<()>("end of statement", found).expect_err("is an error")))
            }
        }
    }

    fn statement(&mut self) -> Parsed<Statement> {
        if self.word("CREATE") {
            return self.create();
        }
        if self.peek_word("INSERT") {
            return Ok(Statement::Insert(self.insert()?));
        }
        if self.word("USE") {
            if self.word("CATALOG") {
                return Ok(Statement::UseCatalog(self.parser.parse_identifier()?.value));
            }
            let _ = self.database_word();
            return Ok(Statement::Use(self.name()?));
        }
        if self.word("ALTER") {
            return self.alter();
        }
        if self.words(&["COMMENT", "ON"]) {
            let view = self.one_of(&["TABLE", "VIEW"])? == "VIEW";
            let name = self.name()?;
            self.expect("IS")?;
            let comment = if self.word("NULL") { None } else { Some(self.parser.parse_literal_string()?) };
            return Ok(Statement::Alter { name, view, change: Change::Comment(comment) });
        }
        if self.word("CACHE") {
            let _ = self.word("LAZY");
            self.expect("TABLE")?;
            let name = self.name()?;
            if self.word("OPTIONS") {
                self.properties()?;
            }
            let query = if self.word("AS") || !self.at_end() { Some(self.query()?) } else { None };
            return Ok(Statement::Cache { name, query });
        }
        if self.word("UNCACHE") {
            self.expect("TABLE")?;
            let if_exists = self.words(&["IF", "EXISTS"]);
            return Ok(Statement::Uncache { name: Some(self.name()?), if_exists });
        }
        if self.words(&["CLEAR", "CACHE"]) {
            return Ok(Statement::Uncache { name: None, if_exists: true });
        }
        if self.word("REFRESH") {
            if self.word("TABLE") {
                return Ok(Statement::Refresh(Some(self.name()?)));
            }
            self.parser.parse_literal_string()?;
            return Ok(Statement::Refresh(None));
        }
        if self.word("DROP") {
            if self.database_word() {
                let if_exists = self.words(&["IF", "EXISTS"]);
                let name = self.name()?;
                let cascade = self.word("CASCADE");
                let _ = self.word("RESTRICT");
                return Ok(Statement::DropDatabase { name, if_exists, cascade });
            }
            let view = self.one_of(&["TABLE", "VIEW"])? == "VIEW";
            let if_exists = self.words(&["IF", "EXISTS"]);
            let name = self.name()?;
            // Files are never removed by DROP, so PURGE asks for nothing more.
            let _ = self.word("PURGE");
            return Ok(Statement::Drop { name, if_exists, view });
        }
        if self.word("SHOW") {
            return self.show();
        }
        if self.word("DESCRIBE") || self.word("DESC") {
            return self.describe();
        }
        if self.word("EXPLAIN") {
            let mode = match () {
                () if self.word("EXTENDED") || self.word("CODEGEN") || self.word("COST") => ExplainMode::Extended,
                () if self.word("FORMATTED") => ExplainMode::Formatted,
                () if self.word("LOGICAL") => ExplainMode::Extended,
                () => ExplainMode::Simple,
            };
            if self.peek_word("EXPLAIN") {
                return self.fail("a statement to explain");
            }
            return Ok(Statement::Explain { mode, statement: Box::new(self.statement()?) });
        }
        if self.word("SET") {
            return self.set();
        }
        if self.word("RESET") {
            let key = if self.at_end() { None } else { Some(self.rest()) };
            return Ok(Statement::Reset(key));
        }
        Ok(Statement::Query(self.query()?))
    }

    fn create(&mut self) -> Parsed<Statement> {
        if self.word("FLOW") {
            let name = self.name()?;
            let _comment = self.comment()?;
            self.expect("AS")?;
            let insert = self.insert()?;
            return Ok(Statement::CreateFlow { name, insert });
        }
        if self.database_word() {
            let if_not_exists = self.words(&["IF", "NOT", "EXISTS"]);
            let name = self.name()?;
            let (mut comment, mut location, mut properties) = (None, None, vec![]);
            loop {
                if self.word("LOCATION") {
                    location = Some(self.parser.parse_literal_string()?);
                } else if self.words(&["WITH", "DBPROPERTIES"]) || self.words(&["WITH", "PROPERTIES"]) {
                    properties = self.properties()?;
                } else if let Some(text) = self.comment()? {
                    comment = Some(text);
                } else {
                    break;
                }
            }
            return Ok(Statement::CreateDatabase { name, if_not_exists, comment, location, properties });
        }
        let or_replace = self.words(&["OR", "REPLACE"]);
        let _ = self.word("GLOBAL");
        let temporary = self.word("TEMPORARY") || self.word("TEMP");
        if self.word("VIEW") {
            let if_not_exists = self.words(&["IF", "NOT", "EXISTS"]);
            let name = self.name()?;
            let columns =
                if self.parser.peek_token_ref().token == Token::LParen { self.identifier_list()? } else { vec![] };
            let comment = self.comment()?;
            self.expect("AS")?;
            let query = self.query()?;
            return Ok(Statement::CreateView { name, or_replace, if_not_exists, temporary, columns, comment, query });
        }
        if temporary {
            return self.fail("VIEW");
        }
        let streaming = self.word("STREAMING");
        if !self.word("TABLE") {
            return self.fail(if streaming { "TABLE" } else { "one of TABLE, STREAMING TABLE, VIEW, FLOW" });
        }
        let if_not_exists = self.words(&["IF", "NOT", "EXISTS"]);
        let name = self.name()?;
        if self.peek_word("LIKE") && !streaming && !or_replace {
            return self.create_like(name, if_not_exists);
        }
        let mut table = CreateTable {
            name,
            or_replace,
            if_not_exists,
            streaming,
            columns: None,
            format: "parquet".into(),
            options: vec![],
            partition_by: vec![],
            location: None,
            comment: None,
            properties: vec![],
            query: None,
        };
        if self.parser.peek_token_ref().token == Token::LParen {
            table.columns = Some(self.parenthesized_text()?);
        }
        loop {
            if self.word("USING") {
                table.format = self.format_name()?;
            } else if self.word("OPTIONS") {
                table.options = self.properties()?;
            } else if self.word("TBLPROPERTIES") {
                table.properties = self.properties()?;
            } else if self.words(&["PARTITIONED", "BY"]) {
                table.partition_by = self.identifier_list()?;
            } else if self.peek_word("CLUSTERED") {
                return self.refuse("CLUSTERED BY");
            } else if self.words(&["CLUSTER", "BY"]) {
                return self.refuse("CLUSTER BY of a table");
            } else if self.word("LOCATION") {
                table.location = Some(self.parser.parse_literal_string()?);
            } else if let Some(comment) = self.comment()? {
                table.comment = Some(comment);
            } else {
                break;
            }
        }
        if self.word("AS") || !self.at_end() {
            table.query = Some(self.query()?);
        } else if streaming {
            return self.fail("AS SELECT …");
        }
        Ok(Statement::CreateTable(table))
    }

    fn create_like(&mut self, name: Name, if_not_exists: bool) -> Parsed<Statement> {
        self.expect("LIKE")?;
        let source = self.name()?;
        let (mut format, mut location, mut properties) = (None, None, vec![]);
        loop {
            if self.word("USING") {
                format = Some(self.format_name()?);
            } else if self.word("LOCATION") {
                location = Some(self.parser.parse_literal_string()?);
            } else if self.word("TBLPROPERTIES") {
                properties = self.properties()?;
            } else {
                break;
            }
        }
        let like = CreateTableLike { name, if_not_exists, source, format, location, properties };
        Ok(Statement::CreateTableLike(like))
    }

    fn insert(&mut self) -> Parsed<Insert> {
        self.expect("INSERT")?;
        let overwrite = self.one_of(&["INTO", "OVERWRITE"])? == "OVERWRITE";
        let _ = self.word("TABLE");
        let table = self.name()?;
        if self.peek_word("REPLACE") {
            return self.refuse("INSERT INTO … REPLACE");
        }
        let partition = if self.word("PARTITION") { self.partition()? } else { vec![] };
        if self.words(&["IF", "NOT", "EXISTS"]) {
            return self.refuse("INSERT … IF NOT EXISTS");
        }
        let mut by_name = self.words(&["BY", "NAME"]);
        let mut columns = vec![];
        let query_follows = matches!(
            &self.parser.peek_nth_token_ref(1).token,
            Token::Word(word) if matches!(
                word.keyword,
                Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::FROM | Keyword::TABLE
            )
        ) || self.parser.peek_nth_token_ref(1).token == Token::LParen;
        if self.parser.peek_token_ref().token == Token::LParen && !query_follows {
            columns = self.identifier_list()?;
            by_name |= self.words(&["BY", "NAME"]);
        }
        let query = self.query()?;
        Ok(Insert { table, overwrite, columns, by_name, partition, query })
    }

    /// `(p = 'x', q)`
    fn partition(&mut self) -> Parsed<Vec<(String, PartitionValue)>> {
        self.parser.expect_token(&Token::LParen)?;
        let mut columns: Vec<(String, PartitionValue)> = vec![];
        loop {
            let place = self.parser.peek_token_ref().span.start;
            let column = self.parser.parse_identifier()?.value;
            if columns.iter().any(|(known, _)| known.eq_ignore_ascii_case(&column)) {
                self.refused = Some(Error::invalid(
                    "DUPLICATE_KEY",
                    format!("found duplicate keys `{column}`, line {}, column {}", place.line, place.column),
                ));
                return self.fail("another column");
            }
            let value = if self.parser.consume_token(&Token::Eq) || self.parser.consume_token(&Token::DoubleEq) {
                self.partition_value(&column)?
            } else {
                PartitionValue::Dynamic
            };
            columns.push((column, value));
            if self.parser.consume_token(&Token::RParen) {
                return Ok(columns);
            }
            if !self.parser.consume_token(&Token::Comma) {
                return self.fail(", or )");
            }
        }
    }

    fn partition_value(&mut self, column: &str) -> Parsed<PartitionValue> {
        if self.word("NULL") {
            return Ok(PartitionValue::Null);
        }
        // Of DATE '2024-01-01' the text is what is cast to the column's type.
        let typed = ["DATE", "TIMESTAMP", "TIMESTAMP_NTZ", "TIMESTAMP_LTZ"].iter().any(|word| self.word(word));
        let negative = !typed && self.parser.consume_token(&Token::Minus);
        let token = self.parser.next_token();
        Ok(PartitionValue::Text(match token.token {
            Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) if !negative => text,
            Token::Number(number, _) if !typed => format!("{}{number}", if negative { "-" } else { "" }),
            Token::Word(Word { value, quote_style: None, .. })
                if !typed && !negative && ["true", "false"].contains(&value.to_ascii_lowercase().as_str()) =>
            {
                value.to_ascii_lowercase()
            }
            _ => return self.parser.expected(&format!("a constant for partition column {column}"), token),
        }))
    }

    fn show(&mut self) -> Parsed<Statement> {
        if self.words(&["CREATE", "TABLE"]) {
            return Ok(Statement::ShowCreateTable(self.name()?));
        }
        if self.words(&["CURRENT", "NAMESPACE"]) || self.words(&["CURRENT", "SCHEMA"]) {
            return Ok(Statement::Show(Shown::CurrentDatabase));
        }
        if self.word("COLUMNS") {
            self.one_of(&["FROM", "IN"])?;
            let mut name = self.name()?;
            if self.word("FROM") || self.word("IN") {
                let mut whole = self.name()?;
                whole.0.append(&mut name.0);
                name = whole;
            }
            return Ok(Statement::Show(Shown::Columns(name)));
        }
        if self.word("TBLPROPERTIES") {
            let name = self.name()?;
            let mut key = None;
            if self.parser.consume_token(&Token::LParen) {
                key = Some(self.property_name()?);
                self.parser.expect_token(&Token::RParen)?;
            }
            return Ok(Statement::Show(Shown::Properties(name, key)));
        }
        // Which functions: there are those of the system alone.
        if ["USER", "SYSTEM", "ALL"].iter().any(|which| self.words(&[which, "FUNCTIONS"])) {
            return self.functions();
        }
        let what = self.one_of(&["TABLES", "VIEWS", "FUNCTIONS", "DATABASES", "SCHEMAS", "NAMESPACES", "CATALOGS"])?;
        if what == "FUNCTIONS" {
            return self.functions();
        }
        let database = if self.word("FROM") || self.word("IN") { Some(self.name()?) } else { None };
        let like = self.word("LIKE");
        let pattern = if like || !self.at_end() { Some(self.parser.parse_literal_string()?) } else { None };
        Ok(match what {
            "DATABASES" | "SCHEMAS" | "NAMESPACES" => Statement::Show(Shown::Databases(pattern)),
            "CATALOGS" => Statement::Show(Shown::Catalogs(pattern)),
            _ => Statement::ShowTables { database, pattern, views: what == "VIEWS" },
        })
    }

    fn functions(&mut self) -> Parsed<Statement> {
        if self.word("FROM") || self.word("IN") {
            self.name()?;
        }
        let _ = self.word("LIKE");
        let pattern = match self.parser.peek_token_ref().token {
            Token::EOF => None,
            Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => Some(self.parser.parse_literal_string()?),
            // `SHOW FUNCTIONS upper`.
            _ => self.name()?.0.pop(),
        };
        Ok(Statement::ShowFunctions { pattern })
    }

    fn describe(&mut self) -> Parsed<Statement> {
        if self.word("FUNCTION") {
            let _ = self.word("EXTENDED");
            let name = match &self.parser.peek_token_ref().token {
                Token::Word(_) => self.name()?.0.pop().unwrap_or_default(),
                _ => self.rest(),
            };
            return Ok(Statement::Show(Shown::Function(name)));
        }
        if self.database_word() {
            let _ = self.word("EXTENDED");
            return Ok(Statement::Show(Shown::Database(self.name()?)));
        }
        let query = self.word("QUERY");
        let starts = |word: &str| self.peek_word(word);
        if query || ["SELECT", "WITH", "VALUES", "FROM"].into_iter().any(starts) {
            return Ok(Statement::Show(Shown::Query(self.query()?)));
        }
        let _ = self.word("TABLE");
        let extended = self.word("EXTENDED") || self.word("FORMATTED");
        let name = self.name()?;
        if let Token::Word(_) = self.parser.peek_token_ref().token {
            return Ok(Statement::Show(Shown::Column(name, self.parser.parse_identifier()?.value)));
        }
        Ok(Statement::Describe { name, extended })
    }

    fn alter(&mut self) -> Parsed<Statement> {
        let view = self.one_of(&["TABLE", "VIEW"])? == "VIEW";
        let name = self.name()?;
        let change = if self.words(&["SET", "TBLPROPERTIES"]) {
            Change::SetProperties(self.properties()?)
        } else if self.words(&["UNSET", "TBLPROPERTIES"]) {
            let if_exists = self.words(&["IF", "EXISTS"]);
            self.parser.expect_token(&Token::LParen)?;
            let mut keys = vec![self.property_name()?];
            while self.parser.consume_token(&Token::Comma) {
                keys.push(self.property_name()?);
            }
            self.parser.expect_token(&Token::RParen)?;
            Change::UnsetProperties { keys, if_exists }
        } else if self.words(&["RENAME", "TO"]) {
            Change::Rename(self.name()?)
        } else if !view && (self.words(&["ADD", "COLUMNS"]) || self.words(&["ADD", "COLUMN"])) {
            match self.parser.peek_token_ref().token {
                Token::LParen => Change::AddColumns(self.parenthesized_text()?),
                _ => Change::AddColumns(self.rest()),
            }
        } else if view && self.word("AS") {
            Change::Query(self.query()?)
        } else {
            return self.fail(if view {
                "one of SET TBLPROPERTIES, UNSET TBLPROPERTIES, RENAME TO, AS"
            } else {
                "one of SET TBLPROPERTIES, UNSET TBLPROPERTIES, RENAME TO, ADD COLUMNS"
            });
        };
        Ok(Statement::Alter { name, view, change })
    }

    /// The word for a database.
    fn database_word(&mut self) -> bool {
        self.word("DATABASE") || self.word("SCHEMA") || self.word("NAMESPACE")
    }

    fn property_name(&mut self) -> Parsed<String> {
        match self.parser.peek_token_ref().token {
            Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => self.parser.parse_literal_string(),
            _ => self.dotted("a property's name"),
        }
    }

    fn set(&mut self) -> Parsed<Statement> {
        if self.at_end() {
            return Ok(Statement::Set { key: None, value: None });
        }
        if self.words(&["TIME", "ZONE"]) {
            let zone = if self.word("LOCAL") { "UTC".into() } else { self.parser.parse_literal_string()? };
            return Ok(Statement::Set { key: Some("spark.sql.session.timeZone".into()), value: Some(zone) });
        }
        // A key may be called so, too.
        let variable = self.peek_word("VAR") || self.peek_word("VARIABLE");
        if variable && matches!(self.parser.peek_nth_token_ref(1).token, Token::Word(_) | Token::LParen) {
            return self.refuse("statement SET VAR");
        }
        // `SET -v` lists the settings too.
        let rest = self.rest();
        if rest == "-v" {
            return Ok(Statement::Set { key: None, value: None });
        }
        let (key, value) = match rest.split_once('=') {
            Some((key, value)) => (key.trim(), Some(unquote(value.trim()).to_string())),
            None => (rest.as_str(), None),
        };
        Ok(Statement::Set { key: Some(unquote(key).to_string()), value })
    }

    fn query(&mut self) -> Parsed<QueryText> {
        let start = self.parser.peek_token().span.start;
        let starts_query = matches!(
            &self.parser.peek_token_ref().token,
            Token::Word(word) if matches!(
                word.keyword,
                Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::FROM | Keyword::TABLE
            )
        ) || self.parser.peek_token_ref().token == Token::LParen;
        if !starts_query {
            return self.fail("a statement or a query");
        }
        let mut ast = self.parser.parse_query()?;
        if let SetExpr::Query(inner) = ast.body.as_mut()
            && ast.with.is_none()
            && ast.order_by.is_none()
            && ast.limit_clause.is_none()
            && ast.fetch.is_none()
            && ast.pipe_operators.is_empty()
        {
            ast = std::mem::replace(inner, ast_placeholder());
        }
        let end = self.parser.get_current_token().span.end;
        Ok(QueryText { text: slice(self.text, start, end).to_string(), ast })
    }

    /// What stands between parentheses, as written.
    fn parenthesized_text(&mut self) -> Parsed<String> {
        self.parser.expect_token(&Token::LParen)?;
        let start = self.parser.peek_token().span.start;
        let mut depth = 1;
        loop {
            let token = self.parser.next_token();
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::EOF => return self.parser.expected(")", token),
                _ => {}
            }
            if depth == 0 {
                return Ok(slice(self.text, start, token.span.start).trim().to_string());
            }
        }
    }

    /// `('k' 'v', k = v, a.b.c v, …)`
    fn properties(&mut self) -> Parsed<Vec<(String, String)>> {
        self.parser.expect_token(&Token::LParen)?;
        let mut pairs: Vec<(String, String)> = vec![];
        if self.parser.consume_token(&Token::RParen) {
            return Ok(pairs);
        }
        loop {
            let place = self.parser.peek_token();
            let key = match &place.token {
                Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => self.parser.parse_literal_string()?,
                _ => self.dotted("an option's name")?,
            };
            if pairs.iter().any(|(existing, _)| existing.eq_ignore_ascii_case(&key)) {
                return Err(ParserError::ParserError(format!("Found duplicate keys '{key}'{}", place.span.start)));
            }
            let _ = self.parser.consume_token(&Token::Eq) || self.parser.consume_token(&Token::DoubleEq);
            let negative = self.parser.consume_token(&Token::Minus);
            let token = self.parser.next_token();
            let value = match token.token {
                Token::SingleQuotedString(value) | Token::DoubleQuotedString(value) if !negative => value,
                Token::Number(value, _) => format!("{}{value}", if negative { "-" } else { "" }),
                Token::Word(Word { value, quote_style: None, .. })
                    if !negative && ["true", "false"].contains(&value.to_ascii_lowercase().as_str()) =>
                {
                    value.to_ascii_lowercase()
                }
                _ => {
                    return self.parser.expected(&format!("a value of option {key}: 'text', number or boolean"), token);
                }
            };
            pairs.push((key, value));
            if self.parser.consume_token(&Token::RParen) {
                return Ok(pairs);
            }
            if !self.parser.consume_token(&Token::Comma) {
                return self.fail(", or )");
            }
        }
    }

    fn comment(&mut self) -> Parsed<Option<String>> {
        if self.word("COMMENT") { self.parser.parse_literal_string().map(Some) } else { Ok(None) }
    }

    fn identifier_list(&mut self) -> Parsed<Vec<String>> {
        self.parser.expect_token(&Token::LParen)?;
        let names = self.parser.parse_comma_separated(|parser| parser.parse_identifier())?;
        self.parser.expect_token(&Token::RParen)?;
        Ok(names.into_iter().map(|ident| ident.value).collect())
    }

    fn name(&mut self) -> Parsed<Name> {
        let mut parts = vec![self.parser.parse_identifier()?.value];
        while self.parser.consume_token(&Token::Period) {
            parts.push(self.parser.parse_identifier()?.value);
        }
        Ok(Name(parts))
    }

    /// `rate-micro-batch` may be written without back-ticks.
    fn format_name(&mut self) -> Parsed<String> {
        if let Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) = self.parser.peek_token_ref().token {
            return self.parser.parse_literal_string();
        }
        let mut name = self.dotted("a format's name")?;
        while self.parser.consume_token(&Token::Minus) {
            name = format!("{name}-{}", self.dotted("a format's name")?);
        }
        Ok(name)
    }

    fn dotted(&mut self, expect: &str) -> Parsed<String> {
        let mut name = String::new();
        loop {
            let token = self.parser.next_token();
            match token.token {
                Token::Word(word) => name.push_str(&word.value),
                _ => return self.parser.expected(expect, token),
            }
            if !self.parser.consume_token(&Token::Period) {
                return Ok(name);
            }
            name.push('.');
        }
    }

    /// Everything to the end of the statement, as written.
    fn rest(&mut self) -> String {
        let start = self.parser.peek_token().span.start;
        let mut end = start;
        while self.parser.peek_token_ref().token != Token::EOF {
            end = self.parser.next_token().span.end;
        }
        slice(self.text, start, end).trim().to_string()
    }

    fn at_end(&self) -> bool {
        self.parser.peek_token_ref().token == Token::EOF
    }
    fn peek_word(&self, expect: &str) -> bool {
        is_word(&self.parser.peek_token_ref().token, expect)
    }
    fn word(&mut self, expect: &str) -> bool {
        let found = self.peek_word(expect);
        if found {
            self.parser.advance_token();
        }
        found
    }
    fn words(&mut self, expect: &[&str]) -> bool {
        let found =
            expect.iter().enumerate().all(|(n, expect)| is_word(&self.parser.peek_nth_token_ref(n).token, expect));
        if found {
            expect.iter().for_each(|_| self.parser.advance_token());
        }
        found
    }
    fn one_of(&mut self, expect: &[&'static str]) -> Parsed<&'static str> {
        for word in expect {
            if self.word(word) {
                return Ok(word);
            }
        }
        self.fail(&format!("one of {}", expect.join(", ")))
    }
    fn expect(&mut self, expect: &str) -> Parsed<()> {
        if self.word(expect) { Ok(()) } else { self.fail(expect) }
    }
    /// A clause of Spark that is not served.
    fn refuse<T>(&mut self, clause: &str) -> Parsed<T> {
        self.refused = Some(refused(clause, self.parser.peek_token_ref().span.start));
        self.fail("no such clause")
    }
    fn fail<T>(&self, expect: &str) -> Parsed<T> {
        self.parser.expected(expect, self.parser.peek_token())
    }
}

fn ast_placeholder() -> Box<Query> {
    Box::new(Query {
        with: None,
        body: Box::new(SetExpr::Values(datafusion::sql::sqlparser::ast::Values {
            explicit_row: false,
            value_keyword: false,
            rows: vec![],
        })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    })
}

fn unquote(text: &str) -> &str {
    for quote in ['\'', '"', '`'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    text
}

/// The text between two places. Columns count characters, from 1.
fn slice(text: &str, start: Location, end: Location) -> &str {
    &text[offset(text, start)..offset(text, end).max(offset(text, start))]
}

fn offset(text: &str, place: Location) -> usize {
    let mut line_start = 0;
    for _ in 1..place.line {
        match text[line_start..].find('\n') {
            Some(length) => line_start += length + 1,
            None => return text.len(),
        }
    }
    let column = usize::try_from(place.column.saturating_sub(1)).unwrap_or(usize::MAX);
    text[line_start..].char_indices().nth(column).map_or(text.len(), |(index, _)| line_start + index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Statement {
        let mut statements = parse(text).expect(text);
        assert_eq!(statements.len(), 1, "{text}");
        statements.remove(0)
    }

    fn check_error(text: &str, expect: &str) {
        let message = parse(text).expect_err(text).to_string();
        assert!(message.contains(expect), "{text}\n  gives {message}\n  not   {expect}");
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn statements_are_divided() {
        let text = "-- one; still a comment\nSELECT ';' ;; /* two; */ SHOW TABLES;\n";
        let statements = parse(text).expect("text");
        assert_eq!(statements.len(), 2);
        assert!(matches!(&statements[0], Statement::Query(query) if query.text == "SELECT ';'"));
        assert_eq!(statements[1], Statement::ShowTables { database: None, pattern: None, views: false });
        assert_eq!(parse(" ; -- nothing\n").expect("nothing"), []);
    }

    #[test]
    fn create_table() {
        let Statement::CreateTable(table) = one("CREATE TABLE users_created USING kafka OPTIONS \
             ('kafka.bootstrap.servers' 'h:9092', subscribe \"users\", startingOffsets = 'earliest', \
             kafka.fetch.max.wait.ms 5, failOnDataLoss false, n -1)")
        else {
            panic!("is a table")
        };
        assert_eq!(table.name, Name(vec!["users_created".into()]));
        assert_eq!(table.format, "kafka");
        assert_eq!(
            table.options,
            pairs(&[
                ("kafka.bootstrap.servers", "h:9092"),
                ("subscribe", "users"),
                ("startingOffsets", "earliest"),
                ("kafka.fetch.max.wait.ms", "5"),
                ("failOnDataLoss", "false"),
                ("n", "-1"),
            ])
        );
        let Statement::CreateTable(table) = one("create or replace table `My T` (id STRING NOT NULL COMMENT 'a, )', \
             d DECIMAL(10,2), s STRUCT<a: INT>) using org.apache.spark.sql.cassandra partitioned by (d) \
             location '/x' comment 'it\\'s' tblproperties (a.b = 1)")
        else {
            panic!("is a table")
        };
        assert!(table.or_replace);
        assert_eq!(table.name.to_string(), "`My T`");
        assert_eq!(
            table.columns.as_deref(),
            Some("id STRING NOT NULL COMMENT 'a, )', d DECIMAL(10,2), s STRUCT<a: INT>")
        );
        assert_eq!(table.format, "org.apache.spark.sql.cassandra");
        assert_eq!((table.partition_by, table.location.as_deref()), (vec!["d".to_string()], Some("/x")));
        assert_eq!((table.comment.as_deref(), table.properties), (Some("it's"), pairs(&[("a.b", "1")])));
        let Statement::CreateTable(table) = one("CREATE TABLE IF NOT EXISTS t USING rate-micro-batch AS SELECT 1 AS a")
        else {
            panic!("is a table")
        };
        assert!(table.if_not_exists && !table.streaming);
        assert_eq!(table.format, "rate-micro-batch");
        assert_eq!(table.query.expect("query").text, "SELECT 1 AS a");
    }

    #[test]
    fn flows() {
        let text = "CREATE FLOW users AS INSERT INTO created_users BY NAME\n  SELECT data.* FROM STREAM(u) -- c\n ;";
        let Statement::CreateFlow { name, insert } = one(text) else { panic!("is a flow") };
        assert_eq!(name.0, ["users"]);
        assert!(insert.by_name && !insert.overwrite);
        assert_eq!(insert.query.text, "SELECT data.* FROM STREAM(u)");
        for text in ["FROM STREAM u", "FROM STREAM(u)", "FROM stream u AS x", "FROM a JOIN STREAM b.u WHERE 1 = 1"] {
            let Statement::Query(query) = one(&format!("SELECT * {text}")) else { panic!("is a query") };
            let tree = query.ast.to_string().to_ascii_lowercase();
            assert!(tree.contains("stream(u)") || tree.contains("stream(b.u)"), "{tree}");
            assert_eq!(query.text, format!("SELECT * {text}"));
        }
        let Statement::CreateTable(table) =
            one("CREATE STREAMING TABLE t USING parquet OPTIONS (path '/x') AS SELECT * FROM STREAM(s)")
        else {
            panic!("is a table")
        };
        assert!(table.streaming && table.query.is_some());
    }

    #[test]
    fn inserts() {
        let check = |text: &str, columns: &[&str], by_name: bool, overwrite: bool| {
            let Statement::Insert(insert) = one(text) else { panic!("is an insert: {text}") };
            assert_eq!(insert.columns, columns, "{text}");
            assert_eq!((insert.by_name, insert.overwrite), (by_name, overwrite), "{text}");
        };
        check("INSERT INTO t VALUES (1, 'a')", &[], false, false);
        check("INSERT OVERWRITE TABLE t (a, `b c`) SELECT 1, 2", &["a", "b c"], false, true);
        check("INSERT INTO TABLE t BY NAME SELECT 1 AS a", &[], true, false);
        check("INSERT INTO t (SELECT 1)", &[], false, false);
        check("INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x", &[], false, false);
        check("INSERT INTO t PARTITION (p = 'x', q) (a, b) SELECT 1, 2", &["a", "b"], false, false);
        let partition = |text: &str| match one(&format!("INSERT INTO t PARTITION ({text}) SELECT 1")) {
            Statement::Insert(insert) => insert.partition,
            _ => panic!("is an insert: {text}"),
        };
        let text = |text: &str| PartitionValue::Text(text.into());
        assert_eq!(
            partition("p = 'x', q, r = NULL, s = -1, `t` = DATE '2024-01-02', u = TRUE"),
            [
                ("p".to_string(), text("x")),
                ("q".into(), PartitionValue::Dynamic),
                ("r".into(), PartitionValue::Null),
                ("s".into(), text("-1")),
                ("t".into(), text("2024-01-02")),
                ("u".into(), text("true")),
            ]
        );
        check_error("INSERT INTO t PARTITION (p = 1, P = 2) SELECT 1", "[DUPLICATE_KEY] found duplicate keys `P`");
        check_error("INSERT INTO t PARTITION (p = a) SELECT 1", "expected: a constant for partition column p");
        let Statement::CreateTableLike(like) = one("CREATE TABLE IF NOT EXISTS a LIKE b.c USING json LOCATION '/x'")
        else {
            panic!("is like another")
        };
        assert_eq!((like.name.0, like.source.0.join(".").as_str()), (vec!["a".to_string()], "b.c"));
        assert_eq!(
            (like.format.as_deref(), like.location.as_deref(), like.if_not_exists),
            (Some("json"), Some("/x"), true)
        );
    }

    #[test]
    fn what_is_not_served_is_named() {
        for (text, expect) in [
            ("SHOW PARTITIONS t", "statement SHOW PARTITIONS"),
            ("show table extended like 'x'", "statement SHOW TABLE EXTENDED"),
            ("DECLARE v INT", "statement DECLARE"),
            ("SET VAR v = 1", "statement SET VAR"),
            ("EXECUTE IMMEDIATE 'SELECT 1'", "statement EXECUTE IMMEDIATE"),
            ("CREATE OR REPLACE TEMPORARY FUNCTION f AS 'x'", "statement CREATE OR REPLACE TEMPORARY FUNCTION"),
            ("MSCK REPAIR TABLE t", "statement MSCK"),
            ("BEGIN SELECT 1; END", "statement BEGIN"),
            ("INSERT OVERWRITE t PARTITION (p = 1) IF NOT EXISTS SELECT 1", "INSERT … IF NOT EXISTS"),
            ("INSERT INTO t REPLACE WHERE a = 1 SELECT 1", "INSERT INTO … REPLACE"),
            ("CREATE TABLE t (a INT) CLUSTERED BY (a) INTO 4 BUCKETS", "CLUSTERED BY"),
        ] {
            check_error(text, &format!("[UNSUPPORTED_FEATURE] {expect} is not supported, line 1, column "));
        }
    }

    #[test]
    fn the_rest() {
        let check = |text: &str, expect: Statement| assert_eq!(one(text), expect, "{text}");
        let name = |name: &str| Name(vec![name.into()]);
        check("DROP TABLE IF EXISTS t", Statement::Drop { name: name("t"), if_exists: true, view: false });
        check("drop view v", Statement::Drop { name: name("v"), if_exists: false, view: true });
        check(
            "SHOW TABLES LIKE 'u*'",
            Statement::ShowTables { database: None, pattern: Some("u*".into()), views: false },
        );
        check("SHOW FUNCTIONS", Statement::ShowFunctions { pattern: None });
        check("SHOW SYSTEM FUNCTIONS LIKE 'up*'", Statement::ShowFunctions { pattern: Some("up*".into()) });
        check("SHOW SCHEMAS", Statement::Show(Shown::Databases(None)));
        check("SHOW TABLES IN d", Statement::ShowTables { database: Some(name("d")), pattern: None, views: false });
        check("SHOW COLUMNS IN t FROM d", Statement::Show(Shown::Columns(Name(vec!["d".into(), "t".into()]))));
        check("SHOW TBLPROPERTIES t ('a.b')", Statement::Show(Shown::Properties(name("t"), Some("a.b".into()))));
        check("DESC DATABASE EXTENDED d", Statement::Show(Shown::Database(name("d"))));
        check("DESC t c", Statement::Show(Shown::Column(name("t"), "c".into())));
        check("USE d", Statement::Use(name("d")));
        check("USE SCHEMA d", Statement::Use(name("d")));
        check("DROP SCHEMA d CASCADE", Statement::DropDatabase { name: name("d"), if_exists: false, cascade: true });
        check(
            "DROP TABLE IDENTIFIER('a.b')",
            Statement::Drop { name: Name(vec!["a".into(), "b".into()]), if_exists: false, view: false },
        );
        let alter = |change: Change| Statement::Alter { name: name("t"), view: false, change };
        check("ALTER TABLE t SET TBLPROPERTIES (a = 'b')", alter(Change::SetProperties(pairs(&[("a", "b")]))));
        check("ALTER TABLE t RENAME TO u", alter(Change::Rename(name("u"))));
        check("ALTER TABLE t ADD COLUMNS (c INT, d STRING)", alter(Change::AddColumns("c INT, d STRING".into())));
        check("COMMENT ON TABLE t IS 'x'", alter(Change::Comment(Some("x".into()))));
        check("UNCACHE TABLE IF EXISTS t", Statement::Uncache { name: Some(name("t")), if_exists: true });
        check("REFRESH TABLE t", Statement::Refresh(Some(name("t"))));
        check("CLEAR CACHE", Statement::Uncache { name: None, if_exists: true });
        check("CACHE LAZY TABLE t", Statement::Cache { name: name("t"), query: None });
        assert!(matches!(one("CACHE TABLE t AS SELECT 1"), Statement::Cache { query: Some(_), .. }));
        assert!(matches!(one("DESCRIBE QUERY SELECT 1"), Statement::Show(Shown::Query(_))));
        assert!(matches!(
            one("CREATE DATABASE IF NOT EXISTS d COMMENT 'c' LOCATION '/x' WITH DBPROPERTIES (a = 'b')"),
            Statement::CreateDatabase { if_not_exists: true, comment: Some(_), location: Some(_), .. }
        ));
        check("DESC EXTENDED t", Statement::Describe { name: name("t"), extended: true });
        check("DESCRIBE t", Statement::Describe { name: name("t"), extended: false });
        check("SHOW CREATE TABLE t", Statement::ShowCreateTable(name("t")));
        let set =
            |key: &str, value: Option<&str>| Statement::Set { key: Some(key.into()), value: value.map(str::to_string) };
        check("SET spark.sql.shuffle.partitions=8", set("spark.sql.shuffle.partitions", Some("8")));
        check(
            "SET spark.cassandra.connection.host = '10.0.0.1'",
            set("spark.cassandra.connection.host", Some("10.0.0.1")),
        );
        check("SET a.b", set("a.b", None));
        check("SET var.b = 1", set("var.b", Some("1")));
        check("SET TIME ZONE 'Europe/Paris'", set("spark.sql.session.timeZone", Some("Europe/Paris")));
        check("SET", Statement::Set { key: None, value: None });
        check("RESET a.b", Statement::Reset(Some("a.b".into())));
        assert!(matches!(
            one("EXPLAIN EXTENDED SELECT 1"),
            Statement::Explain { mode: ExplainMode::Extended, statement } if matches!(*statement, Statement::Query(_))
        ));
        assert!(matches!(
            one("CREATE OR REPLACE TEMP VIEW v (a) AS SELECT 1"),
            Statement::CreateView { temporary: true, or_replace: true, columns, .. } if columns == ["a"]
        ));
    }

    #[test]
    fn strings_are_sparks() {
        let Statement::Query(query) = one(r#"SELECT "it's", 'a\'b\n', `x y` FROM parquet.`/a b`"#) else {
            panic!("is a query")
        };
        let tree = query.ast.to_string();
        let Statement::Query(numbers) = one("SELECT 1.5D, 2y, 3L, 4 d FROM t") else { panic!("is a query") };
        assert_eq!(
            (numbers.ast.to_string().as_str(), numbers.text.as_str()),
            ("SELECT 1.5D, 2Y, 3L, 4 AS d FROM t", "SELECT 1.5D, 2y, 3L, 4 d FROM t")
        );
        assert!(tree.contains("`x y`") && tree.contains("parquet.`/a b`"), "{tree}");
    }

    #[test]
    fn parentheses_are_no_query_unless_something_follows() {
        let check = |text: &str, expect: &str| {
            let Statement::Query(query) = one(text) else { panic!("is a query") };
            assert_eq!(query.ast.to_string(), expect);
        };
        check("(SELECT a FROM t)", "SELECT a FROM t");
        check("(SELECT a FROM t) |> WHERE a > 1", "(SELECT a FROM t) |> WHERE a > 1");
        check("(SELECT a FROM t) FETCH FIRST 1 ROWS ONLY", "(SELECT a FROM t) FETCH FIRST 1 ROWS ONLY");
    }

    #[test]
    fn errors_name_the_place() {
        check_error("SELECT 1;\nSELECT a\n  FROM t WHERE (", "line 3, column 17");
        check_error("SELECT a FROM t WHERE (; SELECT 2", "line 1, column 24");
        check_error("CREATE TABLE t USING kafka OPTIONS (a b)", "a value of option a: 'text', number or boolean");
        check_error("CREATE TABLE t USING kafka OPTIONS (a 'b', A 'c')", "duplicate keys 'A'");
        check_error("CREATE TABEL t", "[PARSE_SYNTAX_ERROR] expected: one of TABLE, STREAMING TABLE, VIEW, FLOW");
        check_error("CREATE STREAMING TABLE t USING kafka", "expected: AS SELECT");
        check_error(&"EXPLAIN ".repeat(100_000), "expected: a statement to explain");
        check_error("SELECT 'abc", "line 1, column 8");
        check_error("SELEC 1", "found: SELEC, line 1, column 1");
        check_error("SELECT 1 FROM t 5", "line 1, column 17");
        check_error("DELETE FROM t", "[UNSUPPORTED_FEATURE] statement DELETE is not supported, line 1, column 1");
    }
}
