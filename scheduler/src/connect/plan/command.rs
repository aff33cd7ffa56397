//! Commands: writes, views, SQL that is run at once, checkpoints.

use super::super::responder::Responder;
use super::super::sessions::Session;
use super::expression::unsupported;
use super::frame::parse_name;
use super::literal::scalar;
use super::views::{inlined, input_of};
use super::{Planned, Planner, without_ids, write};
use crate::execute::Outcome;
use crate::session::{FrameView, Session as SqlSession};
use crate::sql::error::from_datafusion;
use crate::sql::parser::{self, QueryText, Statement};
use crate::streaming::manager::StartOptions;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use arrow::ipc::writer::StreamWriter;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{Expr, Query, SelectItem, SetExpr, Value, visit_expressions_mut};
use datafusion::sql::sqlparser::tokenizer::Location;
use futures::TryStreamExt;
use headwater_executor::functions::ddl;
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::spark;
use headwater_proto::spark::command::CommandType;
use headwater_proto::spark::execute_plan_response::{ResponseType, SqlCommandResult};
use headwater_proto::spark::expression::ExprType;
use headwater_proto::spark::relation::RelType;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Runs a command. Those of streaming queries are others' business.
///
/// # Errors
/// Spark's error classes.
pub async fn command(session: &Arc<Session>, command: &CommandType, responder: &Responder) -> Result<()> {
    run(session, command, responder).await.map_err(without_ids)
}

async fn run(session: &Arc<Session>, command: &CommandType, responder: &Responder) -> Result<()> {
    match command {
        CommandType::SqlCommand(message) => {
            let relation = sql(session, message).await?;
            responder.send(ResponseType::SqlCommandResult(SqlCommandResult { relation: Some(relation) })).await
        }
        CommandType::WriteOperation(message) => write::write(session, message).await,
        CommandType::WriteOperationV2(message) => write::write_v2(session, message).await,
        CommandType::CreateDataframeView(message) => create_view(session, message).await,
        CommandType::CheckpointCommand(message) => {
            let relation_id = checkpoint(session, message).await?;
            let result = spark::CheckpointCommandResult { relation: Some(spark::CachedRemoteRelation { relation_id }) };
            responder.send(ResponseType::CheckpointCommandResult(result)).await
        }
        CommandType::RemoveCachedRemoteRelationCommand(message) => {
            let relation_id = message.relation.as_ref().map_or("", |relation| relation.relation_id.as_str());
            if session.relations().remove(relation_id) {
                let folder = checkpoint_folder(session, relation_id);
                write::removed(&folder).await?;
            }
            Ok(())
        }
        CommandType::RegisterFunction(function) => Err(Error::invalid(
            "UNSUPPORTED_FEATURE.PYTHON_UDF",
            format!(
                "function {} is a user-defined function: this engine runs no Python or JVM code; use SQL functions",
                function.function_name
            ),
        )),
        CommandType::RegisterTableFunction(function) => Err(Error::invalid(
            "UNSUPPORTED_FEATURE.PYTHON_UDTF",
            format!("table function {} is user-defined: this engine runs no Python code", function.function_name),
        )),
        CommandType::RegisterDataSource(source) => Err(Error::invalid(
            "UNSUPPORTED_FEATURE.PYTHON_DATA_SOURCE",
            format!("data source {} is Python code, which this engine does not run", source.name),
        )),
        CommandType::MergeIntoTableCommand(message) => {
            Err(unsupported(&format!("MERGE INTO {}", message.target_table_name)))
        }
        CommandType::CreateResourceProfileCommand(_) => Err(unsupported("resource profiles")),
        CommandType::ExecuteExternalCommand(_) => Err(unsupported("external commands")),
        CommandType::Extension(_) => Err(unsupported("an extension of Spark Connect")),
        _ => Err(unsupported("this command")),
    }
}

/// A statement: what changes something is run now, and its answer is returned as rows; a query is checked, and returned
/// as it came.
async fn sql(session: &Arc<Session>, message: &spark::SqlCommand) -> Result<spark::Relation> {
    let relation = match &message.input {
        Some(relation) => relation.clone(),
        None => {
            let sql = spark::Sql {
                query: message.sql.clone(),
                args: message.args.clone(),
                pos_args: message.pos_args.clone(),
                named_arguments: message.named_arguments.clone(),
                pos_arguments: message.pos_arguments.clone(),
            };
            spark::Relation { common: None, rel_type: Some(RelType::Sql(sql)) }
        }
    };
    let text = match relation.rel_type.as_ref() {
        Some(RelType::Sql(sql)) => Some(sql),
        Some(RelType::WithRelations(with)) => match with.root.as_deref().and_then(|root| root.rel_type.as_ref()) {
            Some(RelType::Sql(sql)) => Some(sql),
            _ => None,
        },
        _ => None,
    };
    let Some(text) = text else {
        return Err(Error::invalid("CONNECT_INVALID_PLAN.SQL_COMMAND", "an SQL command has no SQL"));
    };
    let statement = statement_of(text)?;
    match &statement {
        Statement::Query(_) => {
            let mut planner = Planner::new(session)?;
            let frame = planner.relation(&relation).await?;
            planner.finish(frame)?;
            Ok(relation)
        }
        Statement::ShowTables { .. }
        | Statement::ShowFunctions { .. }
        | Statement::Show(_)
        | Statement::ShowCreateTable(_)
        | Statement::Describe { .. }
        | Statement::Explain { .. } => {
            let mut planner = Planner::new(session)?;
            let frame = planner.relation(&relation).await?;
            let rows = planner.collect(&frame).await?;
            local_relation(&[rows])
        }
        statement => execute(session, statement).await,
    }
}

async fn execute(session: &Arc<Session>, statement: &Statement) -> Result<spark::Relation> {
    let statements = session.statements().clone();
    let outcome = session
        .with_sql(async |sql: &mut SqlSession| statements.execute(statement, sql, &StartOptions::default(), None).await)
        .await?;
    match outcome {
        Outcome::Rows(rows) => {
            let rows: Vec<RecordBatch> = rows.try_collect().await.map_err(from_datafusion)?;
            local_relation(&rows)
        }
        Outcome::Message(message) => {
            tracing::debug!(message, "statement done");
            local_relation(&[])
        }
        Outcome::Started(_) => local_relation(&[]),
    }
}

/// Rows as a relation.
///
/// # Errors
/// Rows that Arrow cannot write.
pub fn local_relation(rows: &[RecordBatch]) -> Result<spark::Relation> {
    let schema = rows.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let mut data = vec![];
    let write = |data: &mut Vec<u8>| -> std::result::Result<(), arrow::error::ArrowError> {
        let mut writer = StreamWriter::try_new(data, &schema)?;
        for batch in rows {
            writer.write(batch)?;
        }
        writer.finish()
    };
    write(&mut data).map_err(|error| from_datafusion(error.into()))?;
    let local = spark::LocalRelation {
        data: Some(data),
        schema: Some(ddl::columns_ddl(schema.fields())).filter(|text| !text.is_empty()),
    };
    Ok(spark::Relation { common: None, rel_type: Some(RelType::LocalRelation(local)) })
}

/// The one statement of a text, its parameters filled in.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR`, `UNBOUND_SQL_PARAMETER`.
pub fn statement_of(sql: &spark::Sql) -> Result<Statement> {
    let mut statements = parser::parse(&sql.query)?;
    if statements.len() != 1 {
        return Err(Error::invalid(
            "PARSE_SYNTAX_ERROR",
            format!("expected one statement, found {}", statements.len()),
        ));
    }
    let mut statement = statements.remove(0);
    let mut named: HashMap<String, Expr> = HashMap::new();
    for (name, literal) in &sql.args {
        named.insert(name.to_lowercase(), literal_expr(literal)?);
    }
    for (name, expression) in &sql.named_arguments {
        named.insert(name.to_lowercase(), argument_expr(expression)?);
    }
    let mut positional = sql.pos_args.iter().map(literal_expr).collect::<Result<Vec<_>>>()?;
    for expression in &sql.pos_arguments {
        positional.push(argument_expr(expression)?);
    }
    if let Some(query) = query_of(&mut statement) {
        bind(&mut query.ast, &named, &positional)?;
    }
    Ok(statement)
}

fn query_of(statement: &mut Statement) -> Option<&mut QueryText> {
    match statement {
        Statement::Query(query) => Some(query),
        Statement::Insert(insert) => Some(&mut insert.query),
        Statement::CreateTable(table) => table.query.as_mut(),
        Statement::Explain { statement, .. } => query_of(statement),
        _ => None,
    }
}

fn bind(query: &mut Query, named: &HashMap<String, Expr>, positional: &[Expr]) -> Result<()> {
    // Those without a name count in the order in which they are written.
    let mut places: Vec<Location> = vec![];
    let _ = visit_expressions_mut(query, |expr| {
        if let Expr::Value(value) = expr
            && matches!(&value.value, Value::Placeholder(name) if name == "?")
        {
            places.push(value.span.start);
        }
        ControlFlow::<()>::Continue(())
    });
    places.sort();
    let unbound = |name: &str| {
        Error::invalid("UNBOUND_SQL_PARAMETER", format!("found the unbound parameter: {name}: give it a value in args"))
    };
    let bound = visit_expressions_mut(query, |expr| {
        let Expr::Value(value) = expr else { return ControlFlow::Continue(()) };
        let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        let found = if name == "?" {
            places.iter().position(|place| *place == value.span.start).and_then(|at| positional.get(at))
        } else {
            named.get(&name.trim_start_matches([':', '$']).to_lowercase())
        };
        match found {
            Some(found) => {
                *expr = Expr::Nested(Box::new(found.clone()));
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(unbound(name)),
        }
    });
    match bound {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn argument_expr(expression: &spark::Expression) -> Result<Expr> {
    match &expression.expr_type {
        Some(ExprType::Literal(literal)) => literal_expr(literal),
        Some(ExprType::UnresolvedFunction(function)) => {
            let arguments = function.arguments.iter().map(argument_expr).collect::<Result<Vec<_>>>()?;
            let arguments = arguments.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            parsed(&format!("{}({arguments})", function.function_name))
        }
        _ => Err(Error::invalid(
            "INVALID_SQL_ARG",
            "an argument of an SQL text must be a literal, or an array, map or struct of literals",
        )),
    }
}

fn literal_expr(literal: &spark::expression::Literal) -> Result<Expr> {
    parsed(&literal_text(&scalar(literal)?)?)
}

/// A value as SQL reads it.
fn literal_text(value: &ScalarValue) -> Result<String> {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let type_name = ddl::type_name(&value.data_type());
    if value.is_null() {
        return Ok(if value.data_type() == DataType::Null {
            "NULL".into()
        } else {
            format!("CAST(NULL AS {type_name})")
        });
    }
    Ok(match value {
        ScalarValue::Utf8(Some(text)) => quoted(text),
        ScalarValue::Boolean(Some(value)) => value.to_string(),
        ScalarValue::Int32(Some(value)) => value.to_string(),
        ScalarValue::Binary(Some(bytes)) => {
            format!("X'{}'", bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>())
        }
        ScalarValue::Date32(Some(_)) => super::literal::name(value),
        ScalarValue::TimestampMicrosecond(Some(micros), zone) => {
            let shown = chrono::DateTime::from_timestamp_micros(*micros)
                .ok_or_else(|| Error::invalid("INVALID_SQL_ARG", format!("the instant {micros} is out of range")))?
                .format("%Y-%m-%dT%H:%M:%S%.6f");
            let suffix = if zone.is_some() { "Z" } else { "" };
            format!("CAST('{shown}{suffix}' AS {type_name})")
        }
        ScalarValue::List(list) => {
            let items = list.value(0);
            let items = (0..items.len())
                .map(|row| literal_text(&ScalarValue::try_from_array(&items, row).map_err(from_datafusion)?))
                .collect::<Result<Vec<_>>>()?;
            format!("array({})", items.join(", "))
        }
        other if other.data_type().is_numeric() => format!("CAST({} AS {type_name})", quoted(&other.to_string())),
        other => {
            return Err(unsupported(&format!(
                "an argument of type {} in an SQL text",
                ddl::type_name(&other.data_type())
            )));
        }
    })
}

fn parsed(text: &str) -> Result<Expr> {
    let query = parser::parse_query(&format!("SELECT {text}"))?;
    match query.body.as_ref() {
        SetExpr::Select(select) => match select.projection.as_slice() {
            [SelectItem::UnnamedExpr(expr)] => Ok(expr.clone()),
            _ => Err(Error::internal(format!("{text} is no expression"))),
        },
        _ => Err(Error::internal(format!("{text} is no expression"))),
    }
}

/// `createTempView` and its like.
async fn create_view(session: &Arc<Session>, message: &spark::CreateDataFrameViewCommand) -> Result<()> {
    let input = input_of(message.input.as_ref(), "the DataFrame of a view")?;
    let name = match parse_name(&message.name)?.as_slice() {
        [name] => name.clone(),
        [namespace, name] if message.is_global && namespace.eq_ignore_ascii_case("global_temp") => name.clone(),
        _ => {
            return Err(Error::invalid(
                "TEMP_VIEW_NAME_TOO_MANY_NAME_PARTS",
                format!(
                    "CREATE TEMPORARY VIEW or the corresponding Dataset APIs only accept single-part view names, but got: {}",
                    message.name
                ),
            ));
        }
    };
    let mut planner = Planner::new(session)?;
    let frame = planner.relation(input).await?;
    // Wrong types are told here, not when the view is used.
    planner.finish(frame.clone())?;
    let plan = frame.distinctly_named()?;
    let relation = match inlined(session, input).await {
        Ok(relation) => relation,
        // It can be used all the same; who must keep it says so then.
        Err(error) if error.class == "UNSUPPORTED_FEATURE" => input.clone(),
        Err(error) => return Err(error),
    };
    let view = FrameView { name: name.clone(), plan, relation: Arc::new(relation) };
    let key = if message.is_global { format!("global_temp.{}", name.to_lowercase()) } else { name.to_lowercase() };
    session
        .with_sql(async |sql: &mut SqlSession| {
            if !message.replace && (sql.plans.contains_key(&key) || sql.views.contains_key(&key)) {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "TEMP_TABLE_OR_VIEW_ALREADY_EXISTS",
                    format!("cannot create the temporary view `{name}` because it already exists: choose a different name, drop it, or use createOrReplaceTempView"),
                ));
            }
            sql.views.remove(&key);
            sql.cached.remove(&key);
            sql.plans.insert(key.clone(), view);
            Ok(())
        })
        .await
}

fn checkpoint_folder(session: &Session, id: &str) -> String {
    format!("{}/_checkpoints/{id}", session.statements().planner.catalog().warehouse())
}

/// `checkpoint` and `localCheckpoint`: rows are kept as files until the client lets go of them, or the plan is kept
/// when they are not wanted at once.
async fn checkpoint(session: &Arc<Session>, message: &spark::CheckpointCommand) -> Result<String> {
    let input = input_of(message.relation.as_ref(), "the DataFrame of a checkpoint")?;
    let mut planner = Planner::new(session)?;
    let frame = planner.relation(input).await?;
    if !message.eager {
        let planned: Planned = planner.finish(frame)?;
        return Ok(session.relations().put(planned));
    }
    let folder_id = uuid::Uuid::new_v4().to_string();
    let frame = write::kept(&mut planner, frame, &checkpoint_folder(session, &folder_id)).await?;
    let planned = planner.finish(frame)?;
    session.relations().put_as(folder_id.clone(), planned);
    Ok(folder_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_proto::spark::expression::Literal;
    use headwater_proto::spark::expression::literal::LiteralType;

    fn literal(kind: LiteralType) -> Literal {
        Literal { literal_type: Some(kind), data_type: None }
    }

    fn check(sql: &spark::Sql, expect: std::result::Result<&str, &str>) {
        match (statement_of(sql), expect) {
            (Ok(Statement::Query(query)), Ok(expect)) => assert_eq!(query.ast.to_string(), expect),
            (Err(error), Err(class)) => assert_eq!(error.class, class),
            (found, expect) => panic!("{found:?} is not {expect:?}"),
        }
    }

    #[test]
    fn parameters_are_filled_in() {
        let sql = spark::Sql {
            query: "SELECT ? + a FROM t WHERE b = ?".into(),
            pos_args: vec![literal(LiteralType::Integer(1)), literal(LiteralType::String("it's".into()))],
            ..Default::default()
        };
        check(&sql, Ok("SELECT (1) + a FROM t WHERE b = ('it''s')"));
        let sql = spark::Sql {
            query: "SELECT :x".into(),
            args: [("x".to_string(), literal(LiteralType::Long(5)))].into(),
            ..Default::default()
        };
        check(&sql, Ok("SELECT (CAST('5' AS BIGINT))"));
        check(&spark::Sql { query: "SELECT ?".into(), ..Default::default() }, Err("UNBOUND_SQL_PARAMETER"));
        check(&spark::Sql { query: "SELECT 1; SELECT 2".into(), ..Default::default() }, Err("PARSE_SYNTAX_ERROR"));
    }
}
