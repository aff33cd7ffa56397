//! Why a job failed, from the text in which Ballista says it.
//!
//! Ballista 55 says one of these, and what the caller should do depends on which:
//!
//! | text | what happened | kind |
//! |---|---|---|
//! | `… failed: Task failed due to runtime execution error: {error:?}` | a task's own error, not repeated | the error's, or by its type |
//! | `… failed 4 times, … reason: "Task failed due to IO error: {error:?}"` | rooted in an I/O error, repeated in vain | the error's, or transient |
//! | `… failed 4 times, … reason: …` else | inputs of a stage lost over and over | transient |
//! | `all executors were lost and …` | and none came back in time | transient |
//! | `task could not be prepared or was rejected by executor` | a plan that cannot be written or read | internal |
//! | anything else | planning the stages failed | internal, unless an error of ours is in it |
//!
//! Errors of ours are in the text in their `Debug` form and are taken from there as they were ([`Error::in_text`]).
//! A wrong answer costs: a permanent error taken for transient is retried for ever, the reverse stops the query.

use headwater_proto::error::{Error, ErrorKind};

const EXECUTION_ERROR: &str = "Task failed due to runtime execution error: ";
const IO_ERROR: &str = "Task failed due to IO error: ";
const LAST_REASON: &str = "most recent failure reason: ";

/// The error of a job that failed with this text.
pub fn of_job(text: &str) -> Error {
    // The reason after several attempts is quoted.
    let text = match text.split_once(LAST_REASON) {
        Some((attempts, quoted)) => {
            format!("{attempts}{LAST_REASON}{}", first_literal(quoted).unwrap_or_else(|| quoted.into()))
        }
        None => text.to_string(),
    };
    let text = text.trim_end();
    if let Some(error) = Error::in_text(text) {
        return error;
    }
    if text.starts_with("all executors were lost") {
        return Error::transient("EXECUTORS_LOST", text);
    }
    if text.contains("could not be prepared or was rejected by executor") {
        return Error::new(
            ErrorKind::Internal,
            "PLAN_REJECTED",
            "a task could not be sent to its executor or was refused there; the executor's log says why: do all \
             processes run the same version?",
        );
    }
    if let Some((_, error)) = text.split_once(EXECUTION_ERROR) {
        return of_task(error);
    }
    if let Some((_, error)) = text.split_once(IO_ERROR) {
        return Error::transient("IO_ERROR", first_literal(error).unwrap_or_else(|| error.into()));
    }
    if text.contains(LAST_REASON) {
        return Error::transient("JOB_FAILED", text);
    }
    match Error::class_in(text) {
        Some((class, message)) => Error::new(ErrorKind::Internal, class, message),
        None => Error::new(ErrorKind::Internal, "JOB_FAILED", text),
    }
}

/// What an error that is not ours did to a task, from its `Debug` form.
fn of_task(error: &str) -> Error {
    let message = first_literal(error).unwrap_or_else(|| error.into());
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    let begins = |words: &[&str]| words.iter().any(|word| error.starts_with(word));
    // A transport between executors, or the task ended from outside.
    let outside =
        ["GrpcError(", "GrpcConnectionError(", "GrpcActionError(", "TonicError(", "FetchFailed(", "Cancelled"];
    if begins(&outside) || has(&["JoinError::Cancelled", "\"task was cancelled\""]) {
        return Error::transient("JOB_FAILED", message);
    }
    if has(&["DataFusionError(ObjectStore(", "Shared(ObjectStore("]) {
        return Error::transient("STORAGE_UNAVAILABLE", error);
    }
    if has(&["ResourcesExhausted("]) {
        // Each task has its own part of the memory, so that trying again would fail again.
        return Error::fatal(
            "UNABLE_TO_ACQUIRE_MEMORY",
            format!(
                "a task needed more than its part of the executor's memory: {message}: raise --memory-limit of the \
                 executors, give them fewer --task-slots, or cut the work smaller (spark.sql.shuffle.partitions)"
            ),
        );
    }
    // Panics: Ballista's catch, or the join of what the task had spawned.
    let panics = ["DataFusionError(Internal(", "JoinError::Panic(", "panicked with message"];
    if begins(&["Internal("]) || has(&panics) {
        return Error::internal(message);
    }
    if has(&["ArrowError(DivideByZero"]) {
        return Error::invalid("DIVIDE_BY_ZERO", "division by zero: NULLIF(divisor, 0) makes the result NULL instead");
    }
    if has(&["ArrowError(CastError(", "ArrowError(ParseError("]) {
        return Error::invalid("CAST_INVALID_INPUT", format!("{message}: TRY_CAST gives NULL instead"));
    }
    if has(&["ArrowError(ArithmeticOverflow("]) {
        return Error::invalid("ARITHMETIC_OVERFLOW", format!("{message}: cast to a wider type before"));
    }
    match Error::class_in(&message) {
        Some((class, message)) => Error::invalid(class, message),
        None => Error::invalid("EXECUTION_FAILED", message),
    }
}

/// The first string literal in a text of Rust's `Debug`, without its quotes and escapes.
fn first_literal(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('"')?;
    let mut literal = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(literal),
            '\\' => match chars.next()? {
                'n' => literal.push('\n'),
                't' => literal.push('\t'),
                'r' => literal.push('\r'),
                '0' => literal.push('\0'),
                'u' => {
                    let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    literal.push(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32)?);
                }
                other => literal.push(other),
            },
            other => literal.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What only Ballista's own code can make happen; the rest is tested on a cluster in the tests beside this file.
    #[test]
    fn texts_of_ballista() {
        #[track_caller]
        fn check(text: &str, kind: ErrorKind, expect: &str) {
            let error = of_job(text);
            assert_eq!((error.kind, error.to_string().as_str()), (kind, expect));
        }
        check(
            "all executors were lost and no executor re-registered within 10s; no executors remain",
            ErrorKind::Transient,
            "[EXECUTORS_LOST] all executors were lost and no executor re-registered within 10s; no executors remain",
        );
        check(
            "Job failed due to stage 2 failed: Stage 2 has failed 4 times, most recent failure reason: \"gone\"\n",
            ErrorKind::Transient,
            "[JOB_FAILED] Job failed due to stage 2 failed: Stage 2 has failed 4 times, most recent failure reason: gone",
        );
        check(
            "Job failed due to stage 1 failed: Task failed due to runtime execution error: GrpcError(Status { message: \
             \"connection reset\" })\n",
            ErrorKind::Transient,
            "[JOB_FAILED] connection reset",
        );
        check("Not implemented: this plan", ErrorKind::Internal, "[JOB_FAILED] Not implemented: this plan");
    }

    #[test]
    fn literals() {
        #[track_caller]
        fn check(text: &str, expect: Option<&str>) {
            assert_eq!(first_literal(text).as_deref(), expect);
        }
        let original = "a \"b\" \\ c\n\u{1}é";
        check(&format!("X({original:?}, 1)"), Some(original));
        check("X(1)", None);
        check("X(\"open", None);
    }
}
