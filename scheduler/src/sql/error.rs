//! Errors of DataFusion and sqlparser in Spark's words.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use headwater_proto::error::{Error, ErrorKind};

/// A planning error as ours. One of ours that travelled through DataFusion comes out as it was.
pub fn from_datafusion(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(error) => *error,
            Err(other) => Error::internal(other),
        },
        DataFusionError::IoError(inner) => match inner.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => error.clone(),
            None => Error::transient("IO_ERROR", inner),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => from_datafusion(*inner),
        DataFusionError::Collection(mut errors) if !errors.is_empty() => from_datafusion(errors.remove(0)),
        DataFusionError::SchemaError(schema, _) => from_schema(&schema),
        DataFusionError::SQL(parser, _) => from_parser(&parser),
        DataFusionError::NotImplemented(text) if is_correlated(&text) => Error::invalid(
            "UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY.ACCESSING_OUTER_QUERY_COLUMN_IS_NOT_ALLOWED",
            "the subquery uses columns of the outer query where that cannot be planned: join the tables instead",
        ),
        DataFusionError::NotImplemented(text) => Error::invalid("UNSUPPORTED_FEATURE", lower_first(&text)),
        DataFusionError::Internal(text) => Error::internal(text),
        DataFusionError::Plan(text) => from_plan_text(&text),
        other => {
            // Wrapped in some other way: an error of ours keeps its kind, and storage that is away comes back.
            if let Some(error) = Error::in_text(&format!("{other:?}")) {
                return error;
            }
            let text = other.strip_backtrace();
            if matches!(other.find_root(), DataFusionError::IoError(_) | DataFusionError::ObjectStore(_)) {
                return Error::transient("IO_ERROR", lower_first(&text));
            }
            match Error::class_in(&text) {
                Some((class, message)) => Error::new(ErrorKind::InvalidRequest, class, message),
                None => Error::invalid("ANALYSIS_ERROR", lower_first(&text)),
            }
        }
    }
}

/// A subquery that the optimizer made no join of.
fn is_correlated(text: &str) -> bool {
    let left = ["OuterReferenceColumn", "ScalarSubquery", "InSubquery", "Exists", "Subquery"];
    text.strip_prefix("Physical plan does not support logical expression ")
        .is_some_and(|rest| left.iter().any(|kind| rest.starts_with(kind)))
}

fn from_plan_text(text: &str) -> Error {
    // DataFusion's "Invalid function 'x'.\nDid you mean 'y'?"
    if let Some(rest) = text.strip_prefix("Invalid function '")
        && let Some((name, rest)) = rest.split_once('\'')
    {
        // DataFusion names the nearest, however far that is.
        let near = |hint: &&str| super::functions::is_near(name, hint.trim_end_matches('?').trim_matches('\''));
        let hint = rest.split_once("Did you mean ").map(|(_, hint)| hint).filter(near);
        let hint = hint.map(|hint| format!(": did you mean {hint}"));
        return Error::invalid(
            "UNRESOLVED_ROUTINE",
            format!("cannot resolve routine `{name}`{}", hint.unwrap_or_default()),
        );
    }
    if let Some((class, message)) = Error::class_in(text) {
        return Error::invalid(class, message);
    }
    let class = CLASSES.iter().find(|(part, _)| text.contains(part)).map_or("ANALYSIS_ERROR", |(_, class)| class);
    Error::invalid(class, lower_first(text))
}

/// Spark's classes of what DataFusion says in words.
const CLASSES: &[(&str, &str)] = &[
    ("must appear in the GROUP BY clause", "MISSING_AGGREGATION"),
    ("Aggregate functions are not allowed in the WHERE clause", "INVALID_WHERE_CONDITION"),
    ("Cannot create filter with non-boolean predicate", "DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN"),
    ("different number of columns", "NUM_COLUMNS_MISMATCH"),
    ("must have the same number of columns", "NUM_COLUMNS_MISMATCH"),
];

fn from_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let message = format!("a column with name `{}` cannot be resolved", field.flat_name());
            if valid_fields.is_empty() {
                return Error::invalid("UNRESOLVED_COLUMN.WITHOUT_SUGGESTION", message);
            }
            let valid = valid_fields.iter().map(|field| format!("`{}`", field.flat_name())).collect::<Vec<_>>();
            Error::invalid(
                "UNRESOLVED_COLUMN.WITH_SUGGESTION",
                format!("{message}: did you mean one of [{}]", valid.join(", ")),
            )
        }
        SchemaError::AmbiguousReference { field } => Error::invalid(
            "AMBIGUOUS_REFERENCE",
            format!("reference `{}` is ambiguous: qualify it with the name of its table", field.flat_name()),
        ),
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::invalid(
                "COLUMN_ALREADY_EXISTS",
                format!("column `{name}` already exists: choose another name or rename the existing column (AS)"),
            )
        }
    }
}

/// A syntax error with its place: `… , line 3, column 14`.
pub fn from_parser(error: &ParserError) -> Error {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "the statement is nested too deeply",
    };
    // sqlparser ends its messages with ` at Line: 3, Column: 14`.
    let message = match text.rsplit_once(" at Line: ").and_then(|(text, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((text, line.parse::<u64>().ok()?, column.trim().parse::<u64>().ok()?))
    }) {
        Some((text, line, column)) => format!("{}, line {line}, column {column}", lower_first(text.trim())),
        None => lower_first(text.trim()),
    };
    Error::invalid("PARSE_SYNTAX_ERROR", message)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    match (chars.next(), chars.clone().next()) {
        // An acronym or a name in capitals stays.
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().collect::<String>() + chars.as_str()
        }
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: DataFusionError, expect: &str) {
        assert_eq!(from_datafusion(error).to_string(), expect);
    }

    #[test]
    fn errors_are_sparks() {
        let ours = Error::transient("KAFKA_UNREACHABLE", "no answer from h:1");
        check(DataFusionError::External(Box::new(ours.clone())), "[KAFKA_UNREACHABLE] no answer from h:1");
        check(
            DataFusionError::IoError(std::io::Error::other(ours)).context("while planning"),
            "[KAFKA_UNREACHABLE] no answer from h:1",
        );
        let ours = Error::transient("KAFKA_UNREACHABLE", "no answer from h:1");
        let shared = DataFusionError::Shared(std::sync::Arc::new(DataFusionError::External(Box::new(ours))));
        assert_eq!(from_datafusion(shared).kind, ErrorKind::Transient);
        let away = object_store::Error::Generic { store: "S3", source: "no route".into() };
        assert_eq!(from_datafusion(DataFusionError::ObjectStore(Box::new(away))).kind, ErrorKind::Transient);
        check(
            DataFusionError::Plan("Invalid function 'from_jsn'.\nDid you mean 'from_json'?".into()),
            "[UNRESOLVED_ROUTINE] cannot resolve routine `from_jsn`: did you mean 'from_json'?",
        );
        check(DataFusionError::Plan("Wrong thing.".into()), "[ANALYSIS_ERROR] wrong thing");
        check(
            DataFusionError::Plan("UNION queries have different number of columns".into()),
            "[NUM_COLUMNS_MISMATCH] UNION queries have different number of columns",
        );
    }

    #[test]
    fn places_are_told() {
        let error = ParserError::ParserError("Expected: FROM, found: x at Line: 3, Column: 14".into());
        assert_eq!(from_parser(&error).to_string(), "[PARSE_SYNTAX_ERROR] expected: FROM, found: x, line 3, column 14");
    }
}
