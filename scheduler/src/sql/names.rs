//! Names of columns that nobody named: Spark's short text of an expression, `(a + 1)`, `count(DISTINCT b)`,
//! `CASE WHEN c THEN 1 END`. Pure text; SQL and DataFrames use it alike.

/// What Spark shows in capitals whatever the user wrote.
const CAPITALS: &[&str] = &[
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "cot",
    "csc",
    "degrees",
    "dense_rank",
    "e",
    "exp",
    "expm1",
    "floor",
    "hypot",
    "log10",
    "log1p",
    "log2",
    "percent_rank",
    "pi",
    "power",
    "radians",
    "rank",
    "rlike",
    "sec",
    "signum",
    "sin",
    "sinh",
    "spark_partition_id",
    "sqrt",
    "tan",
    "tanh",
];

/// Aggregates whose second argument (whether nulls are ignored) is not shown.
const ONE_ARGUMENT: &[&str] = &["first", "last", "first_value", "last_value", "any_value"];

/// The name of a call, operators included, of arguments whose names are known.
pub fn call(function: &str, arguments: &[String], distinct: bool) -> String {
    let lower = function.to_ascii_lowercase();
    let operator = match lower.as_str() {
        "==" | "=" | "equalto" => Some("="),
        "+" | "-" | "*" | "/" | "%" | "<" | "<=" | ">" | ">=" | "<=>" | "|" | "&" | "^" | "div" | "||" | "<<"
        | ">>" | ">>>" => Some(lower.as_str()),
        "!=" | "<>" => return format!("(NOT {})", call("=", arguments, false)),
        "and" => Some("AND"),
        "or" => Some("OR"),
        _ => None,
    };
    match (operator, arguments) {
        (Some("||"), _) => return format!("concat({})", arguments.join(", ")),
        (Some(operator @ ("+" | "-")), [one]) => return format!("({operator} {one})"),
        (Some(operator), [left, right]) => return format!("({left} {operator} {right})"),
        _ => {}
    }
    match (lower.as_str(), arguments) {
        ("not" | "!", [one]) => format!("(NOT {one})"),
        ("~", [one]) => format!("~{one}"),
        ("isnull", [one]) => format!("({one} IS NULL)"),
        ("isnotnull", [one]) => format!("({one} IS NOT NULL)"),
        ("like", [one, pattern]) => format!("{one} LIKE {pattern}"),
        ("ilike", [one, pattern]) => format!("{one} ILIKE {pattern}"),
        ("in", [one, list @ ..]) => format!("({one} IN ({}))", list.join(", ")),
        ("when" | "case", arguments) => case(None, arguments),
        ("if" | "iff", [condition, yes, no]) => format!("(IF({condition}, {yes}, {no}))"),
        ("count", [star]) if star == "*" && !distinct => "count(1)".into(),
        ("window" | "session_window", _) => lower,
        ("ltrim", [what, text]) => format!("TRIM(LEADING {what} FROM {text})"),
        ("rtrim", [what, text]) => format!("TRIM(TRAILING {what} FROM {text})"),
        ("current_database", []) => "current_schema()".into(),
        (name, [one, _]) if ONE_ARGUMENT.contains(&name) => format!("{name}({one})"),
        ("positive", [one]) => format!("(+ {one})"),
        ("log", [one]) => format!("LOG(E(), {one})"),
        // With a scale they are other functions.
        ("ceil" | "floor", [_, _]) => format!("{lower}({})", arguments.join(", ")),
        ("dateadd", [_, _]) => call("date_add", arguments, distinct),
        (name, _) => {
            let shown = shown(name, arguments);
            let name = if CAPITALS.contains(&name) { name.to_ascii_uppercase() } else { name.to_string() };
            let distinct = if distinct { "DISTINCT " } else { "" };
            format!("{name}({distinct}{})", shown.join(", "))
        }
    }
}

/// Functions whose later arguments are not shown, and how many are.
const HIDDEN: &[(&str, usize)] = &[
    ("from_csv", 1),
    ("from_json", 1),
    ("schema_of_csv", 1),
    ("schema_of_json", 1),
    ("shuffle", 1),
    ("to_csv", 1),
    ("to_json", 1),
    ("uuid", 0),
];

/// Arguments that Spark shows where they were left out: from which on, and what they are.
const DEFAULTS: &[(&str, usize, &[&str])] = &[
    ("aes_decrypt", 2, &["GCM", "DEFAULT", ""]),
    ("aes_encrypt", 2, &["GCM", "DEFAULT", "", ""]),
    ("aggregate", 3, &["lambdafunction(namedlambdavariable(), namedlambdavariable())"]),
    ("approx_percentile", 2, &["10000"]),
    ("bround", 1, &["0"]),
    ("from_unixtime", 1, &["yyyy-MM-dd HH:mm:ss"]),
    ("lag", 1, &["1", "NULL"]),
    ("lead", 1, &["1", "NULL"]),
    ("locate", 2, &["1"]),
    ("lpad", 2, &[" "]),
    ("mask", 1, &["X", "x", "n", "NULL"]),
    ("months_between", 2, &["true"]),
    ("overlay", 3, &["-1"]),
    ("percentile", 2, &["1"]),
    ("percentile_approx", 2, &["10000"]),
    ("position", 2, &["1"]),
    ("reduce", 3, &["lambdafunction(namedlambdavariable(), namedlambdavariable())"]),
    ("regexp_extract", 2, &["1"]),
    ("regexp_extract_all", 2, &["1"]),
    ("regexp_instr", 2, &["0"]),
    ("regexp_replace", 3, &["1"]),
    ("round", 1, &["0"]),
    ("rpad", 2, &[" "]),
    ("sentences", 1, &["", ""]),
    ("sort_array", 1, &["true"]),
    ("split", 2, &["-1"]),
    ("str_to_map", 1, &[",", ":"]),
    ("substr", 2, &["2147483647"]),
    ("substring", 2, &["2147483647"]),
    ("to_unix_timestamp", 1, &["yyyy-MM-dd HH:mm:ss"]),
    ("unix_timestamp", 1, &["yyyy-MM-dd HH:mm:ss"]),
];

/// The arguments as Spark shows them.
fn shown(name: &str, arguments: &[String]) -> Vec<String> {
    if let Some((_, count)) = HIDDEN.iter().find(|(hidden, _)| *hidden == name) {
        return arguments.iter().take(*count).cloned().collect();
    }
    let mut shown = arguments.to_vec();
    if let Some((_, from, defaults)) = DEFAULTS.iter().find(|(known, ..)| *known == name)
        && arguments.len() >= *from
    {
        shown.extend(defaults.iter().skip(arguments.len() - from).map(|default| default.to_string()));
    }
    shown
}

/// `CASE [operand] WHEN … THEN … ELSE … END` of conditions and values in turn, an odd one out being the default.
pub fn case(operand: Option<&str>, arguments: &[String]) -> String {
    let mut text = String::from("CASE");
    for branch in arguments.chunks(2) {
        match branch {
            [condition, value] => match operand {
                Some(operand) => text.push_str(&format!(" WHEN ({operand} = {condition}) THEN {value}")),
                None => text.push_str(&format!(" WHEN {condition} THEN {value}")),
            },
            [default] => text.push_str(&format!(" ELSE {default}")),
            _ => {}
        }
    }
    text.push_str(" END");
    text
}

/// A cast that stands inside another expression; alone, it has the name of what is cast.
pub fn cast(value: &str, type_name: &str, is_try: bool) -> String {
    format!("{}({value} AS {type_name})", if is_try { "TRY_CAST" } else { "CAST" })
}

/// A key to sort by.
pub fn sort_key(key: &str, ascending: bool, nulls_first: bool) -> String {
    let direction = if ascending { "ASC" } else { "DESC" };
    let nulls = if nulls_first { "FIRST" } else { "LAST" };
    format!("{key} {direction} NULLS {nulls}")
}

/// `function OVER (PARTITION BY … ORDER BY … frame)`.
pub fn over(function: &str, partition_by: &[String], order_by: &[String], frame: &str) -> String {
    let mut parts = vec![];
    if !partition_by.is_empty() {
        parts.push(format!("PARTITION BY {}", partition_by.join(", ")));
    }
    if !order_by.is_empty() {
        parts.push(format!("ORDER BY {}", order_by.join(", ")));
    }
    if !frame.is_empty() {
        parts.push(frame.to_string());
    }
    format!("{function} OVER ({})", parts.join(" "))
}

/// The frame that Spark shows where none is written. `offset`: the second argument of `lag` and `lead`.
pub fn default_frame(function: &str, offset: Option<&str>, sorted: bool) -> String {
    let offset = offset.unwrap_or("1");
    match function {
        "lag" => format!("ROWS BETWEEN -{offset} FOLLOWING AND -{offset} FOLLOWING"),
        "lead" => format!("ROWS BETWEEN {offset} FOLLOWING AND {offset} FOLLOWING"),
        "row_number" | "rank" | "dense_rank" | "percent_rank" | "ntile" => {
            "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".into()
        }
        "cume_dist" => "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".into(),
        _ if sorted => "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".into(),
        _ => "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(function: &str, arguments: &[&str], distinct: bool, expect: &str) {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        assert_eq!(call(function, &arguments, distinct), expect);
    }

    #[test]
    fn names_are_sparks() {
        check("+", &["a", "1"], false, "(a + 1)");
        check("==", &["a", "b"], false, "(a = b)");
        check("!=", &["a", "b"], false, "(NOT (a = b))");
        check("and", &["(a > 1)", "b"], false, "((a > 1) AND b)");
        check("not", &["(a = b)"], false, "(NOT (a = b))");
        check("isNotNull", &["a"], false, "(a IS NOT NULL)");
        check("count", &["*"], false, "count(1)");
        check("count", &["a", "b"], true, "count(DISTINCT a, b)");
        check("sqrt", &["a"], false, "SQRT(a)");
        check("upper", &["a"], false, "upper(a)");
        check("in", &["a", "1", "2"], false, "(a IN (1, 2))");
        check("when", &["a", "1", "b", "2", "3"], false, "CASE WHEN a THEN 1 WHEN b THEN 2 ELSE 3 END");
        check("when", &["a", "1"], false, "CASE WHEN a THEN 1 END");
        check("first", &["a", "true"], false, "first(a)");
        check("-", &["a"], false, "(- a)");
        check("||", &["a", "b"], false, "concat(a, b)");
    }

    #[test]
    fn windows() {
        let keys = [sort_key("b", true, true)];
        assert_eq!(
            over("rank()", &["a".into()], &keys, "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"),
            "rank() OVER (PARTITION BY a ORDER BY b ASC NULLS FIRST ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        );
        assert_eq!(cast("a", "INT", true), "TRY_CAST(a AS INT)");
    }
}
