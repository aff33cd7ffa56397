//! Functions of text.

use super::cast::text as shown;
use super::coercion::{is_binary, is_text};
use super::ddl;
use super::native::{Call, Function, Param, Returns, invalid};
use super::regexes::Patterns;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, ListBuilder, MapBuilder, MapFieldNames, StringArray, StringBuilder,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use datafusion::error::Result;
use regex::Regex;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use Param::{Any, Int, Long, Number, Text, TextOrBinary};

const TEXT: Returns = Returns::Type(|| DataType::Utf8);
const INT: Returns = Returns::Type(|| DataType::Int32);
const BOOLEAN: Returns = Returns::Type(|| DataType::Boolean);
const BINARY: Returns = Returns::Type(|| DataType::Binary);
const SAME: Returns = Returns::Arg(0);

/// The functions.
pub fn functions() -> Vec<Function> {
    macro_rules! text {
        ($name:literal, $params:expr, $f:expr) => {
            Function::new($name, $params, TEXT, |call| call.text_rows(|row| Ok(Some($f(call, row)))))
        };
    }
    vec![
        // A pattern of LIKE with an escape of its own as one whose escape is the backslash.
        Function::new("like_pattern", &[Text, Text], TEXT, |call| {
            call.text_rows(|i| like_pattern(call.text(0).value(i), call.text(1).value(i)).map(Some))
        }),
        // What is written into the column named last, of VARCHAR(n).
        Function::new("varchar_checked", &[Text, Int, Text], TEXT, |call| {
            call.text_rows(|i| {
                let (text, most, column) = (call.text(0).value(i), call.ints(1).value(i), call.text(2).value(i));
                varchar_checked(text, most.max(0) as usize, column).map(|kept| Some(kept.to_string()))
            })
        }),
        text!("upper", &[Text], |c: &Call<'_>, i| c.text(0).value(i).to_uppercase()).alias(&["ucase"]),
        text!("lower", &[Text], |c: &Call<'_>, i| c.text(0).value(i).to_lowercase()).alias(&["lcase"]),
        text!("initcap", &[Text], |c: &Call<'_>, i| initcap(c.text(0).value(i))),
        // Of `parse_url(url, 'HOST')`, which is in lower case.
        text!("host_as_written", &[Text, Text], |c: &Call<'_>, i| {
            host_as_written(c.text(0).value(i), c.text(1).value(i)).to_string()
        }),
        Function::new("length", &[TextOrBinary], INT, length).alias(&["char_length", "character_length", "len"]),
        Function::new("octet_length", &[TextOrBinary], INT, |call| sizes(call, 1)),
        Function::new("bit_length", &[TextOrBinary], INT, |call| sizes(call, 8)),
        Function::new("substring", &[TextOrBinary, Int], SAME, substring).optional(&[Int]).alias(&["substr"]),
        Function::new("left", &[TextOrBinary, Int], SAME, |call| {
            let count = |i: usize| call.ints(1).value(i).max(0) as usize;
            match call.args[0].data_type() {
                DataType::Binary => {
                    call.binary_rows(|i| Ok(Some(call.binary(0).value(i).iter().take(count(i)).copied().collect())))
                }
                _ => call.text_rows(|i| Ok(Some(call.text(0).value(i).chars().take(count(i)).collect()))),
            }
        }),
        text!("right", &[Text, Int], |c: &Call<'_>, i| {
            let (text, n) = (c.text(0).value(i), c.ints(1).value(i).max(0) as usize);
            let skip = text.chars().count().saturating_sub(n);
            text.chars().skip(skip).collect::<String>()
        }),
        text!("btrim", &[Text], |c: &Call<'_>, i| {
            let set = if c.has(1) { c.text(1).value(i) } else { " " };
            c.text(0).value(i).trim_matches(|x| set.contains(x)).to_string()
        })
        .optional(&[Text])
        .alias(&["trim"]),
        // With two arguments Spark's are swapped; the parser's forms TRIM(LEADING x FROM s) come here as (s, x).
        text!("ltrim", &[Text], |c: &Call<'_>, i| {
            if !c.has(1) {
                return c.text(0).value(i).trim_start_matches(' ').to_string();
            }
            let (text, set) = (c.text(0).value(i), c.text(1).value(i));
            text.trim_start_matches(|x| set.contains(x)).to_string()
        })
        .optional(&[Text]),
        text!("rtrim", &[Text], |c: &Call<'_>, i| {
            if !c.has(1) {
                return c.text(0).value(i).trim_end_matches(' ').to_string();
            }
            let (text, set) = (c.text(0).value(i), c.text(1).value(i));
            text.trim_end_matches(|x| set.contains(x)).to_string()
        })
        .optional(&[Text]),
        Function::new("lpad", &[TextOrBinary, Int], SAME, |call| padded(call, true))
            .optional(&[TextOrBinary])
            .coerced(|types| pad_types("lpad", types)),
        Function::new("rpad", &[TextOrBinary, Int], SAME, |call| padded(call, false))
            .optional(&[TextOrBinary])
            .coerced(|types| pad_types("rpad", types)),
        Function::new("concat", &[], Returns::Of(concat_type), concat).rest(Any).coerced(concat_types),
        Function::new("concat_ws", &[Text], TEXT, concat_ws).rest(Any).nulls().coerced(concat_ws_types),
        Function::new("instr", &[Text, Text], INT, |call| {
            call.rows::<Int32Type>(|i| Ok(Some(position(call.text(0).value(i), call.text(1).value(i), 1))))
        }),
        Function::new("locate", &[Text, Text], INT, |call| {
            call.rows::<Int32Type>(|i| {
                if call.text(0).is_null(i) || call.text(1).is_null(i) {
                    return Ok(None);
                }
                // Nothing is found from an unknown place on.
                let from = if !call.has(2) {
                    1
                } else if call.ints(2).is_null(i) {
                    0
                } else {
                    call.ints(2).value(i)
                };
                Ok(Some(position(call.text(1).value(i), call.text(0).value(i), from)))
            })
        })
        .optional(&[Int])
        .nulls()
        .alias(&["position"]),
        Function::new("contains", &[TextOrBinary, TextOrBinary], BOOLEAN, |call| {
            parts(call, |whole, part| part.is_empty() || whole.windows(part.len()).any(|window| window == part))
        }),
        Function::new("startswith", &[TextOrBinary, TextOrBinary], BOOLEAN, |call| {
            parts(call, |whole, part| whole.starts_with(part))
        }),
        Function::new("endswith", &[TextOrBinary, TextOrBinary], BOOLEAN, |call| {
            parts(call, |whole, part| whole.ends_with(part))
        }),
        text!("replace", &[Text, Text], |c: &Call<'_>, i| {
            let (text, from) = (c.text(0).value(i), c.text(1).value(i));
            let to = if c.has(2) { c.text(2).value(i) } else { "" };
            if from.is_empty() { text.to_string() } else { text.replace(from, to) }
        })
        .optional(&[Text]),
        text!("translate", &[Text, Text, Text], |c: &Call<'_>, i| {
            translate(c.text(0).value(i), c.text(1).value(i), c.text(2).value(i))
        }),
        Function::new("overlay", &[TextOrBinary, TextOrBinary, Int], SAME, |call| match call.return_type {
            DataType::Binary => call.binary_rows(|i| {
                let (bytes, with) = (call.binary(0).value(i), call.binary(1).value(i));
                let ([head, tail], with) = (overlaid(call, i, bytes.len(), with.len()), with);
                Ok(Some([&bytes[..head], with, &bytes[tail..]].concat()))
            }),
            _ => call.text_rows(|i| {
                let (chars, with) = (call.text(0).value(i).chars().collect::<Vec<_>>(), call.text(1).value(i));
                let [head, tail] = overlaid(call, i, chars.len(), with.chars().count());
                Ok(Some(
                    chars[..head].iter().copied().chain(with.chars()).chain(chars[tail..].iter().copied()).collect(),
                ))
            }),
        })
        .optional(&[Int])
        .coerced(|types| match types {
            [one, other, rest @ ..] if (1..=2).contains(&rest.len()) => {
                let kind = if is_binary(one) && is_binary(other) { DataType::Binary } else { DataType::Utf8 };
                Ok([kind.clone(), kind].into_iter().chain(rest.iter().map(|_| DataType::Int32)).collect())
            }
            _ => wrong_count("overlay", 3, types.len()),
        }),
        text!("repeat", &[Text, Int], |c: &Call<'_>, i| {
            c.text(0).value(i).repeat(c.ints(1).value(i).max(0) as usize)
        }),
        text!("space", &[Int], |c: &Call<'_>, i| " ".repeat(c.ints(0).value(i).max(0) as usize)),
        Function::new("split_part", &[Text, Text, Int], TEXT, split_part),
        text!("substring_index", &[Text, Text, Int], |c: &Call<'_>, i| {
            substring_index(c.text(0).value(i), c.text(1).value(i), c.ints(2).value(i))
        }),
        Function::new("ascii", &[Text], INT, |call| {
            call.rows::<Int32Type>(|i| Ok(Some(call.text(0).value(i).chars().next().map_or(0, |c| c as i32))))
        }),
        text!("chr", &[Long], |c: &Call<'_>, i| {
            let n = c.longs(0).value(i);
            if n < 0 { String::new() } else { char::from((n & 0xff) as u8).to_string() }
        })
        .alias(&["char"]),
        Function::new("base64", &[Param::Binary], TEXT, |call| {
            call.text_rows(|i| Ok(Some(in_lines(&base64(call.binary(0).value(i))))))
        }),
        Function::new("unbase64", &[Text], BINARY, |call| {
            call.binary_rows(|i| {
                let text = call.text(0).value(i);
                // As MIME has it, what is no digit is passed over.
                let digits: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c)).collect();
                unbase64(&digits).map(Some).map_or_else(|| unconvertible(text), Ok)
            })
        }),
        Function::new("to_base32", &[Param::Binary], TEXT, |call| {
            call.text_rows(|i| Ok(Some(base32(call.binary(0).value(i)))))
        }),
        Function::new("from_base32", &[Text], BINARY, |call| {
            call.binary_rows(|i| {
                let text = call.text(0).value(i);
                unbase32(text).map(Some).map_or_else(|| unconvertible(text), Ok)
            })
        }),
        Function::new("to_binary", &[Text], BINARY, |call| {
            call.binary_rows(|i| {
                let text = call.text(0).value(i);
                let format = if call.has(1) { call.text(1).value(i) } else { "hex" };
                to_binary(text, format)?.map(Some).map_or_else(|| unconvertible(text), Ok)
            })
        })
        .optional(&[Text]),
        Function::new("try_to_binary", &[Text], BINARY, |call| {
            call.binary_rows(|i| {
                let format = if call.has(1) { call.text(1).value(i) } else { "hex" };
                Ok(to_binary(call.text(0).value(i), format).ok().flatten())
            })
        })
        .optional(&[Text]),
        // Text is valid already; bytes are taken for text here.
        Function::new("is_valid_utf8", &[TextOrBinary], BOOLEAN, |call| {
            call.bool_rows(|i| Ok(Some(utf8(call, i).is_ok())))
        }),
        Function::new("make_valid_utf8", &[TextOrBinary], TEXT, |call| {
            call.text_rows(|i| Ok(Some(utf8(call, i).unwrap_or_else(|bytes| String::from_utf8_lossy(bytes).into()))))
        }),
        Function::new("validate_utf8", &[TextOrBinary], TEXT, |call| {
            call.text_rows(|i| match utf8(call, i) {
                Ok(text) => Ok(Some(text)),
                Err(bytes) => invalid(
                    "INVALID_UTF8_STRING",
                    format!("invalid UTF8 byte sequence found in string: \\x{}", hex_of(bytes)),
                ),
            })
        }),
        Function::new("try_validate_utf8", &[TextOrBinary], TEXT, |call| call.text_rows(|i| Ok(utf8(call, i).ok()))),
        Function::new("jaro_winkler_similarity", &[Text, Text], Returns::Type(|| DataType::Float64), |call| {
            call.rows::<Float64Type>(|i| Ok(Some(jaro_winkler(call.text(0).value(i), call.text(1).value(i)))))
        }),
        Function::new("collation", &[Text], TEXT, |call| {
            Ok(Arc::new(StringArray::from(vec!["SYSTEM.BUILTIN.UTF8_BINARY"; call.rows])))
        })
        .nulls(),
        Function::new("encode", &[Text, Text], BINARY, |call| {
            call.binary_rows(|i| encode(call.text(0).value(i), call.text(1).value(i)).map(Some))
        }),
        // With more arguments the analyzer makes it a CASE.
        Function::new(
            "decode",
            &[Any, Any],
            Returns::Of(|types| {
                let results = types.iter().skip(2).step_by(2).chain(types.last().filter(|_| types.len() % 2 == 0));
                Ok(if types.len() == 2 {
                    DataType::Utf8
                } else {
                    super::coercion::common(results).unwrap_or(DataType::Utf8)
                })
            }),
            |call| call.text_rows(|i| decode(call.binary(0).value(i), call.text(1).value(i)).map(Some)),
        )
        .rest(Any)
        .coerced(|types| Ok(if types.len() == 2 { vec![DataType::Binary, DataType::Utf8] } else { types.to_vec() })),
        Function::new("hex", &[Any], TEXT, hex).coerced(|types| {
            let [one] = types else { return wrong_count("hex", 1, types.len()) };
            Ok(vec![match one {
                one if is_text(one) => DataType::Binary,
                one if is_binary(one) => DataType::Binary,
                _ => DataType::Int64,
            }])
        }),
        Function::new("unhex", &[Text], BINARY, |call| call.binary_rows(|i| Ok(unhex(call.text(0).value(i))))),
        Function::new("format_number", &[Number, Any], TEXT, format_number).coerced(|types| {
            let [number, form] = types else { return wrong_count("format_number", 2, types.len()) };
            let form = if is_text(form) { DataType::Utf8 } else { DataType::Int32 };
            Ok(vec![if number.is_numeric() { number.clone() } else { DataType::Float64 }, form])
        }),
        Function::new("format_string", &[Text], TEXT, format_string).rest(Any).nulls().alias(&["printf"]),
        Function::new("levenshtein", &[Text, Text], INT, |call| {
            call.rows::<Int32Type>(|i| {
                let distance = levenshtein(call.text(0).value(i), call.text(1).value(i));
                let limit = call.has(2).then(|| call.ints(2).value(i));
                Ok(Some(if limit.is_some_and(|limit| distance > limit) { -1 } else { distance }))
            })
        })
        .optional(&[Int]),
        Function::new("find_in_set", &[Text, Text], INT, |call| {
            call.rows::<Int32Type>(|i| {
                let (text, list) = (call.text(0).value(i), call.text(1).value(i));
                let found = list.split(',').position(|one| one == text && !text.contains(','));
                Ok(Some(found.map_or(0, |at| at as i32 + 1)))
            })
        }),
        Function::new("elt", &[Int, Any], TEXT, elt).rest(Any).nulls().with_context().coerced(|types| {
            Ok(types.iter().enumerate().map(|(i, _)| if i == 0 { DataType::Int32 } else { DataType::Utf8 }).collect())
        }),
        Function::new("sentences", &[Text], Returns::Type(|| ddl::array_of(ddl::array_of(DataType::Utf8))), sentences)
            .optional(&[Text, Text]),
        Function::new("mask", &[Text], Returns::Constant(masked_type), |call| {
            call.text_rows(|i| Ok(call.text(0).is_valid(i).then(|| mask(call, i))))
        })
        .optional(&[Any, Any, Any, Any])
        .nulls(),
        text!("collate", &[Text, Text], |c: &Call<'_>, i| c.text(0).value(i).to_string()),
        text!("quote", &[Text], |c: &Call<'_>, i| format!("'{}'", c.text(0).value(i).replace('\'', "\\'"))),
        Function::new("str_to_map", &[Text], Returns::Type(|| ddl::map_of(DataType::Utf8, DataType::Utf8)), str_to_map)
            .optional(&[Text, Text]),
        Function::new("to_number", &[Text, Text], Returns::Constant(number_type), |call| to_number(call, false)),
        Function::new("try_to_number", &[Text, Text], Returns::Constant(number_type), |call| to_number(call, true)),
        Function::new("to_char", &[Any, Text], TEXT, to_char)
            .alias(&["to_varchar"])
            .coerced(|types| match types {
                [text, _] if is_text(text) || *text == DataType::Null => Ok(vec![DataType::Float64, DataType::Utf8]),
                [one, _] => Ok(vec![one.clone(), DataType::Utf8]),
                _ => wrong_count("to_char", 2, types.len()),
            })
            .with_context(),
    ]
}

fn wrong_count<T>(name: &str, expect: usize, count: usize) -> Result<T> {
    invalid(
        "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
        format!("the `{name}` requires {expect} parameters but the actual number is {count}"),
    )
}

fn initcap(text: &str) -> String {
    let mut begin = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if begin {
            out.extend(c.to_uppercase())
        } else {
            out.extend(c.to_lowercase())
        }
        begin = c == ' ';
    }
    out
}

fn length(call: &Call<'_>) -> Result<ArrayRef> {
    match call.args[0].data_type() {
        DataType::Binary => sizes(call, 1),
        _ => call.rows::<Int32Type>(|i| Ok(Some(call.text(0).value(i).chars().count() as i32))),
    }
}

fn sizes(call: &Call<'_>, times: i32) -> Result<ArrayRef> {
    match call.args[0].data_type() {
        DataType::Binary => call.rows::<Int32Type>(|i| Ok(Some(call.binary(0).value(i).len() as i32 * times))),
        _ => call.rows::<Int32Type>(|i| Ok(Some(call.text(0).value(i).len() as i32 * times))),
    }
}

fn host_as_written<'a>(url: &'a str, host: &'a str) -> &'a str {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let written = authority.rsplit('@').next().and_then(|place| place.get(..host.len()));
    written.filter(|written| written.eq_ignore_ascii_case(host)).unwrap_or(host)
}

/// Begin and end of Spark's substring: from 1, or from the end if negative; 0 is 1.
fn slice(length: usize, from: i32, count: Option<i32>) -> (usize, usize) {
    let length = length as i64;
    let begin = match i64::from(from) {
        from if from > 0 => from - 1,
        0 => 0,
        from => length + from,
    };
    // Spark's default: less than a text has that begins so far before its beginning.
    let end = begin.saturating_add(i64::from(count.unwrap_or(i32::MAX)));
    let (begin, end) = (begin.clamp(0, length), end.clamp(0, length));
    (begin as usize, end.max(begin) as usize)
}

fn substring(call: &Call<'_>) -> Result<ArrayRef> {
    let count = |i: usize| call.has(2).then(|| call.ints(2).value(i));
    match call.args[0].data_type() {
        DataType::Binary => call.binary_rows(|i| {
            let bytes = call.binary(0).value(i);
            let (begin, end) = slice(bytes.len(), call.ints(1).value(i), count(i));
            Ok(Some(bytes[begin..end].to_vec()))
        }),
        _ => call.text_rows(|i| {
            let text = call.text(0).value(i);
            if text.is_ascii() {
                let (begin, end) = slice(text.len(), call.ints(1).value(i), count(i));
                return Ok(Some(text[begin..end].to_string()));
            }
            let (begin, end) = slice(text.chars().count(), call.ints(1).value(i), count(i));
            Ok(Some(text.chars().skip(begin).take(end - begin).collect()))
        }),
    }
}

/// Bytes are filled with bytes, everything else with text.
fn pad_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let [one, _, rest @ ..] = types else { return wrong_count(name, 2, types.len()) };
    if rest.len() > 1 {
        return wrong_count(name, 3, types.len());
    }
    let kind = if is_binary(one) && rest.iter().all(is_binary) { DataType::Binary } else { DataType::Utf8 };
    Ok([kind.clone(), DataType::Int32].into_iter().chain(rest.iter().map(|_| kind.clone())).collect())
}

fn padded(call: &Call<'_>, left: bool) -> Result<ArrayRef> {
    let width = |i: usize| call.ints(1).value(i).max(0) as usize;
    match call.return_type {
        DataType::Binary => call.binary_rows(|i| {
            let fill = if call.has(2) { call.binary(2).value(i) } else { &[0] };
            Ok(Some(pad(call.binary(0).value(i), width(i), fill, left)))
        }),
        _ => call.text_rows(|i| {
            let chars: Vec<char> = call.text(0).value(i).chars().collect();
            let fill: Vec<char> = if call.has(2) { call.text(2).value(i).chars().collect() } else { vec![' '] };
            Ok(Some(pad(&chars, width(i), &fill, left).into_iter().collect()))
        }),
    }
}

fn pad<T: Copy>(own: &[T], width: usize, fill: &[T], left: bool) -> Vec<T> {
    if width <= own.len() || fill.is_empty() {
        return own[..width.min(own.len())].to_vec();
    }
    let padding = fill.iter().cycle().take(width - own.len()).copied();
    if left { padding.chain(own.iter().copied()).collect() } else { own.iter().copied().chain(padding).collect() }
}

fn concat_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let lists = types.iter().any(|one| matches!(one, DataType::List(_)));
    if lists {
        return match super::coercion::common(types) {
            Some(common) => Ok(vec![common; types.len()]),
            None => invalid("DATATYPE_MISMATCH.DATA_DIFF_TYPES", "`concat` takes arrays of one type: cast them"),
        };
    }
    let binary = !types.is_empty() && types.iter().all(|one| is_binary(one) || *one == DataType::Null);
    let binary = binary && types.iter().any(is_binary);
    types
        .iter()
        .enumerate()
        .map(|(i, one)| match one {
            DataType::Struct(_) | DataType::Map(..) => {
                Err(super::native::mismatch("concat", i, "\"STRING\" or \"ARRAY\"", one))
            }
            _ => Ok(if binary { DataType::Binary } else { DataType::Utf8 }),
        })
        .collect()
}

fn concat_type(types: &[DataType]) -> Result<DataType> {
    Ok(types.first().cloned().unwrap_or(DataType::Utf8))
}

fn concat(call: &Call<'_>) -> Result<ArrayRef> {
    match call.return_type {
        DataType::Utf8 => {
            let columns: Vec<&StringArray> = (0..call.args.len()).map(|at| call.text(at)).collect();
            call.text_rows(|i| Ok(Some(columns.iter().map(|column| column.value(i)).collect())))
        }
        DataType::Binary => {
            let columns: Vec<&BinaryArray> = (0..call.args.len()).map(|at| call.binary(at)).collect();
            call.binary_rows(|i| Ok(Some(columns.iter().flat_map(|column| column.value(i)).copied().collect())))
        }
        _ => {
            let mut parts = vec![];
            for i in 0..call.rows {
                if call.skip(i) {
                    parts.push(None);
                    continue;
                }
                let each: Vec<ArrayRef> = (0..call.args.len()).map(|at| call.lists(at).value(i)).collect();
                let each: Vec<&dyn Array> = each.iter().map(AsRef::as_ref).collect();
                parts.push(Some(arrow::compute::concat(&each)?));
            }
            super::collections::list_of(parts, call.return_type)
        }
    }
}

fn concat_ws_types(types: &[DataType]) -> Result<Vec<DataType>> {
    if types.is_empty() {
        return wrong_count("concat_ws", 1, 0);
    }
    Ok(types
        .iter()
        .map(|one| match one {
            DataType::List(_) => ddl::array_of(DataType::Utf8),
            _ => DataType::Utf8,
        })
        .collect())
}

fn concat_ws(call: &Call<'_>) -> Result<ArrayRef> {
    call.text_rows(|i| {
        let separators = call.text(0);
        if separators.is_null(i) {
            return Ok(None);
        }
        let mut parts: Vec<String> = vec![];
        for at in 1..call.args.len() {
            let column = &call.args[at];
            if column.is_null(i) {
                continue;
            }
            match column.data_type() {
                DataType::List(_) => {
                    let items = call.lists(at).value(i);
                    parts.extend(items.as_string::<i32>().iter().flatten().map(str::to_string));
                }
                _ => parts.push(call.text(at).value(i).to_string()),
            }
        }
        Ok(Some(parts.join(separators.value(i))))
    })
}

/// From 1; 0 if it is not there. `from` is where the search begins.
fn position(text: &str, part: &str, from: i32) -> i32 {
    if from < 1 {
        return 0;
    }
    let Some((begin, _)) = text.char_indices().chain([(text.len(), ' ')]).nth(from as usize - 1) else { return 0 };
    match text[begin..].find(part) {
        Some(at) => text[..begin + at].chars().count() as i32 + 1,
        None => 0,
    }
}

fn parts(call: &Call<'_>, f: impl Fn(&[u8], &[u8]) -> bool) -> Result<ArrayRef> {
    let bytes = |at: usize, i: usize| match call.args[at].data_type() {
        DataType::Binary => call.args[at].as_binary::<i32>().value(i),
        _ => call.args[at].as_string::<i32>().value(i).as_bytes(),
    };
    call.bool_rows(|i| Ok(Some(f(bytes(0, i), bytes(1, i)))))
}

fn translate(text: &str, from: &str, to: &str) -> String {
    let to: Vec<char> = to.chars().collect();
    let mut table: HashMap<char, Option<char>> = HashMap::new();
    for (at, c) in from.chars().enumerate() {
        table.entry(c).or_insert_with(|| to.get(at).copied());
    }
    text.chars().filter_map(|c| table.get(&c).copied().unwrap_or(Some(c))).collect()
}

/// Where the head of what is overlaid ends and its tail begins.
fn overlaid(call: &Call<'_>, i: usize, length: usize, with: usize) -> [usize; 2] {
    let from = call.ints(2).value(i);
    let replaced = match call.has(3).then(|| call.ints(3).value(i)) {
        Some(replaced) if replaced >= 0 => replaced,
        _ => with as i32,
    };
    let (_, head) = slice(length, 1, Some(from.saturating_sub(1)));
    let (tail, _) = slice(length, from.saturating_add(replaced), None);
    [head, tail]
}

fn split_part(call: &Call<'_>) -> Result<ArrayRef> {
    call.text_rows(|i| {
        let (text, delimiter, at) = (call.text(0).value(i), call.text(1).value(i), call.ints(2).value(i));
        if at == 0 {
            return invalid(
                "INVALID_INDEX_OF_ZERO",
                "the index 0 is invalid: an index shall be either < 0 or > 0 (the first element has index 1)",
            );
        }
        let parts: Vec<&str> = if delimiter.is_empty() { vec![text] } else { text.split(delimiter).collect() };
        let at = if at > 0 { i64::from(at) - 1 } else { parts.len() as i64 + i64::from(at) };
        let part = usize::try_from(at).ok().and_then(|at| parts.get(at));
        Ok(Some(part.map_or_else(String::new, |part| part.to_string())))
    })
}

fn substring_index(text: &str, delimiter: &str, count: i32) -> String {
    if count == 0 || delimiter.is_empty() {
        return String::new();
    }
    let places: Vec<usize> = text.match_indices(delimiter).map(|(at, _)| at).collect();
    let wanted = count.unsigned_abs() as usize;
    if wanted > places.len() {
        return text.to_string();
    }
    if count > 0 {
        text[..places[wanted - 1]].to_string()
    } else {
        text[places[places.len() - wanted] + delimiter.len()..].to_string()
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0_u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            if at <= chunk.len() {
                out.push(char::from(BASE64[(word >> (18 - 6 * at)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// As MIME has it: lines of 76 digits.
fn in_lines(digits: &str) -> String {
    const LINE: usize = 76;
    let starts = (0..digits.len()).step_by(LINE);
    starts.map(|at| &digits[at..(at + LINE).min(digits.len())]).collect::<Vec<_>>().join("\r\n")
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut out = vec![];
    let (mut word, mut bits) = (0_u32, 0);
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let body = digits.iter().take_while(|b| **b != b'=').count();
    if digits.len() - body > 2 || digits[body..].iter().any(|b| *b != b'=') || body % 4 == 1 {
        return None;
    }
    for digit in &digits[..body] {
        let value = BASE64.iter().position(|known| known == digit)? as u32;
        word = word << 6 | value;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    Some(out)
}

fn unconvertible<T>(text: &str) -> Result<T> {
    invalid(
        "CONVERSION_INVALID_INPUT",
        format!(
            "the value '{text}' (\"STRING\") cannot be converted to \"BINARY\" because it is malformed: use try_to_binary"
        ),
    )
}

/// None for text that the format does not allow.
fn to_binary(text: &str, format: &str) -> Result<Option<Vec<u8>>> {
    Ok(match format.to_ascii_lowercase().as_str() {
        "hex" => unhex(text),
        "utf-8" | "utf8" => Some(text.as_bytes().to_vec()),
        "base64" => unbase64(text),
        _ => {
            return invalid(
                "DATATYPE_MISMATCH.INVALID_ARG_VALUE",
                format!("the format of `to_binary` must be 'hex', 'utf-8', 'utf8' or 'base64', but got '{format}'"),
            );
        }
    })
}

/// The text at a row, or the bytes that are none.
fn utf8<'a>(call: &'a Call<'_>, i: usize) -> std::result::Result<String, &'a [u8]> {
    match call.args[0].data_type() {
        DataType::Binary => {
            let bytes = call.binary(0).value(i);
            std::str::from_utf8(bytes).map(str::to_string).map_err(|_| bytes)
        }
        _ => Ok(call.text(0).value(i).to_string()),
    }
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    let (mut word, mut bits) = (0_u64, 0);
    for byte in bytes {
        word = word << 8 | u64::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(BASE32[(word >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        out.push(char::from(BASE32[(word << (5 - bits)) as usize & 31]));
    }
    while !out.len().is_multiple_of(8) {
        out.push('=');
    }
    out
}

fn unbase32(text: &str) -> Option<Vec<u8>> {
    let mut out = vec![];
    let (mut word, mut bits) = (0_u64, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = BASE32.iter().position(|known| *known == digit.to_ascii_uppercase())? as u64;
        word = word << 5 | value;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    Some(out)
}

/// Jaro's measure, and as Winkler has it more for a common beginning.
fn jaro_winkler(one: &str, other: &str) -> f64 {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    if one == other {
        return 1.0;
    }
    let window = (one.len().max(other.len()) / 2).saturating_sub(1);
    let mut taken = vec![false; other.len()];
    let mut matched = vec![];
    for (at, c) in one.iter().enumerate() {
        let near = at.saturating_sub(window)..(at + window + 1).min(other.len());
        let found = near.into_iter().find(|with| !taken[*with] && other[*with] == *c);
        if let Some(with) = found {
            taken[with] = true;
            matched.push(*c);
        }
    }
    if matched.is_empty() {
        return 0.0;
    }
    let theirs = other.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(c, _)| c);
    let swapped = matched.iter().zip(theirs).filter(|(own, with)| own != with).count() / 2;
    let count = matched.len() as f64;
    let jaro = (count / one.len() as f64 + count / other.len() as f64 + (count - swapped as f64) / count) / 3.0;
    let same = one.iter().zip(&other).take(4).take_while(|(own, with)| own == with).count();
    jaro + 0.1 * same as f64 * (1.0 - jaro)
}

fn encode(text: &str, charset: &str) -> Result<Vec<u8>> {
    Ok(match charset.to_ascii_uppercase().as_str() {
        "UTF-8" | "UTF8" => text.as_bytes().to_vec(),
        "US-ASCII" | "ISO-8859-1" => {
            let most = if charset.len() == 8 { 0x7f } else { 0xff };
            let each = text.chars().map(|c| if u32::from(c) <= most { Ok(c as u32 as u8) } else { Err(c) });
            match each.collect::<std::result::Result<Vec<u8>, char>>() {
                Ok(bytes) => bytes,
                Err(c) => {
                    return invalid("MALFORMED_CHARACTER_CODING", format!("{c:?} cannot be encoded in {charset}"));
                }
            }
        }
        "UTF-16BE" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        "UTF-16LE" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "UTF-16" => [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect(),
        "UTF-32" => text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(),
        _ => return unknown_charset(charset),
    })
}

fn decode(bytes: &[u8], charset: &str) -> Result<String> {
    let malformed = || {
        invalid("MALFORMED_CHARACTER_CODING", format!("the bytes are not {charset}: decode them in the right charset"))
    };
    let units = |f: fn([u8; 2]) -> u16, bytes: &[u8]| -> Vec<u16> {
        bytes.chunks_exact(2).map(|pair| f([pair[0], pair[1]])).collect()
    };
    let decoded = match charset.to_ascii_uppercase().as_str() {
        "UTF-8" | "UTF8" => String::from_utf8(bytes.to_vec()).ok(),
        "US-ASCII" => bytes.is_ascii().then(|| bytes.iter().map(|b| char::from(*b)).collect()),
        "ISO-8859-1" => Some(bytes.iter().map(|b| char::from(*b)).collect()),
        "UTF-16LE" => String::from_utf16(&units(u16::from_le_bytes, bytes)).ok(),
        "UTF-16BE" => String::from_utf16(&units(u16::from_be_bytes, bytes)).ok(),
        "UTF-16" => match bytes {
            [0xff, 0xfe, rest @ ..] => String::from_utf16(&units(u16::from_le_bytes, rest)).ok(),
            [0xfe, 0xff, rest @ ..] => String::from_utf16(&units(u16::from_be_bytes, rest)).ok(),
            rest => String::from_utf16(&units(u16::from_be_bytes, rest)).ok(),
        },
        _ => return unknown_charset(charset),
    };
    match decoded {
        Some(text) => Ok(text),
        None => malformed(),
    }
}

fn unknown_charset<T>(charset: &str) -> Result<T> {
    invalid(
        "INVALID_PARAMETER_VALUE.CHARSET",
        format!(
            "expects one of the charsets UTF-8, US-ASCII, ISO-8859-1, UTF-16BE, UTF-16LE, UTF-16, UTF-32, but got {charset}"
        ),
    )
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02X}");
        out
    })
}

fn hex(call: &Call<'_>) -> Result<ArrayRef> {
    match call.args[0].data_type() {
        DataType::Binary => call.text_rows(|i| Ok(Some(hex_of(call.binary(0).value(i))))),
        _ => call.text_rows(|i| Ok(Some(format!("{:X}", call.longs(0).value(i))))),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let padded = if text.len() % 2 == 1 { format!("0{text}") } else { text.to_string() };
    let digits = padded.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<Vec<u8>>>()?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Digits rounded half even, as Java's DecimalFormat.
fn rounded_text(value: &str, places: usize) -> String {
    let (negative, value) = value.strip_prefix('-').map_or((false, value), |rest| (true, rest));
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    let keep = whole.len() + places;
    while digits.len() < keep {
        digits.push(0);
    }
    let rest = digits.split_off(keep);
    let up = match rest.first() {
        Some(5) if rest[1..].iter().all(|digit| *digit == 0) => digits.last().is_some_and(|digit| digit % 2 == 1),
        Some(first) => *first >= 5,
        None => false,
    };
    if up {
        let mut at = digits.len();
        loop {
            if at == 0 {
                digits.insert(0, 1);
                break;
            }
            at -= 1;
            if digits[at] == 9 {
                digits[at] = 0;
            } else {
                digits[at] += 1;
                break;
            }
        }
    }
    let split = digits.len() - places;
    let text: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
    let whole = text[..split].trim_start_matches('0');
    let zero = text.bytes().all(|b| b == b'0');
    let sign = if negative && !zero { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    if places == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{}", &text[split..]) }
}

fn grouped(text: &str) -> String {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut out = String::new();
    for (at, c) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    match fraction {
        Some(fraction) => format!("{sign}{out}.{fraction}"),
        None => format!("{sign}{out}"),
    }
}

/// A number's exact decimal digits.
fn plain_digits(array: &ArrayRef, i: usize) -> Option<String> {
    Some(match array.data_type() {
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(i);
            value.is_finite().then(|| format!("{value}"))?
        }
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(i);
            value.is_finite().then(|| format!("{}", f64::from(value)))?
        }
        DataType::Decimal128(_, scale) => shown::decimal(array.as_primitive::<Decimal128Type>().value(i), *scale),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(i).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(i).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(i).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(i).to_string(),
        _ => {
            let whole = arrow::compute::cast(&array.slice(i, 1), &DataType::Int64).ok()?;
            whole.as_primitive::<Int64Type>().value(0).to_string()
        }
    })
}

fn format_number(call: &Call<'_>) -> Result<ArrayRef> {
    call.text_rows(|i| {
        let Some(digits) = plain_digits(&call.args[0], i) else { return Ok(Some("NaN".into())) };
        match call.args[1].data_type() {
            DataType::Utf8 => {
                let pattern = call.text(1).value(i);
                let (whole, fraction) = pattern.split_once('.').unwrap_or((pattern, ""));
                let (least, most) = (fraction.matches('0').count(), fraction.len());
                let mut text = rounded_text(&digits, most);
                while text.contains('.') && text.len() - text.find('.').unwrap_or(0) - 1 > least && text.ends_with('0')
                {
                    text.pop();
                }
                let text = text.trim_end_matches('.');
                let (sign, plain) = text.strip_prefix('-').map_or(("", text), |plain| ("-", plain));
                let own = plain.find('.').unwrap_or(plain.len());
                let zeros = "0".repeat(whole.matches('0').count().saturating_sub(own));
                let text = format!("{sign}{zeros}{plain}");
                Ok(Some(if whole.contains(',') { grouped(&text) } else { text }))
            }
            _ => {
                let places = call.ints(1).value(i);
                if places < 0 {
                    return Ok(None);
                }
                let text = grouped(&rounded_text(&digits, places as usize));
                // As Java: a little less than nothing is -0.
                let lost =
                    digits.starts_with('-') && !text.starts_with('-') && digits.bytes().any(|b| b > b'0' && b <= b'9');
                Ok(Some(if lost { format!("-{text}") } else { text }))
            }
        }
    })
}

/// Java's `%[flags][width][.precision]conversion`.
fn format_string(call: &Call<'_>) -> Result<ArrayRef> {
    let texts: Vec<ArrayRef> =
        call.args[1..].iter().map(|arg| super::cast::text::of(arg, &call.context)).collect::<Result<_>>()?;
    call.text_rows(|i| {
        if call.text(0).is_null(i) {
            return Ok(None);
        }
        let pattern = call.text(0).value(i);
        let bad = |what: &str| -> Result<Option<String>> {
            invalid("INVALID_FORMAT", format!("the format string '{pattern}' is invalid: {what}"))
        };
        let mut out = String::new();
        let mut next = 0;
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut spec = String::new();
            while let Some(c) = chars.peek() {
                if c.is_ascii_alphabetic() || *c == '%' {
                    break;
                }
                spec.push(*c);
                chars.next();
            }
            let Some(conversion) = chars.next() else { return bad("it ends with %") };
            if conversion == '%' {
                out.push('%');
                continue;
            }
            if conversion == 'n' {
                out.push('\n');
                continue;
            }
            let mut at = next;
            if let Some((index, rest)) = spec.clone().split_once('$') {
                match index.parse::<usize>() {
                    Ok(index) if index > 0 => at = index - 1,
                    _ => return bad("an argument's number is wrong"),
                }
                spec = rest.to_string();
            } else {
                next += 1;
            }
            let flags: String = spec.chars().take_while(|c| "-#+ 0,(".contains(*c)).collect();
            let (width, precision) = spec[flags.len()..].split_once('.').unwrap_or((&spec[flags.len()..], ""));
            let width = width.parse::<usize>().unwrap_or(0);
            let precision = precision.parse::<usize>().ok();
            let Some(arg) = call.args.get(at + 1) else { return bad("there are fewer arguments than it asks for") };
            let null = *arg.data_type() == DataType::Null || arg.is_null(i);
            let mut text = match conversion.to_ascii_lowercase() {
                _ if null => "null".to_string(),
                'd' => {
                    if !arg.data_type().is_integer() {
                        return bad("%d takes whole numbers");
                    }
                    let digits = texts[at].as_string::<i32>().value(i).to_string();
                    if flags.contains(',') { grouped(&digits) } else { digits }
                }
                'x' | 'o' => {
                    let (value, bits) = match arg.data_type() {
                        DataType::Int64 => (arg.as_primitive::<Int64Type>().value(i), 64),
                        DataType::Int32 => (i64::from(arg.as_primitive::<Int32Type>().value(i)), 32),
                        _ => return bad("%x takes whole numbers"),
                    };
                    let value = if bits == 32 { u64::from(value as u32) } else { value as u64 };
                    if conversion.eq_ignore_ascii_case(&'x') { format!("{value:x}") } else { format!("{value:o}") }
                }
                'f' => {
                    let Some(digits) = plain_digits(arg, i) else { return Ok(Some("NaN".into())) };
                    let digits = half_up_text(&digits, precision.unwrap_or(6));
                    if flags.contains(',') { grouped(&digits) } else { digits }
                }
                'e' => {
                    let value = arrow::compute::cast(arg, &DataType::Float64)?;
                    let value = value.as_primitive::<Float64Type>().value(i);
                    let shown = format!("{value:.*e}", precision.unwrap_or(6));
                    let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
                    let (sign, exponent) =
                        exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
                    format!("{mantissa}e{sign}{exponent:0>2}")
                }
                's' | 'b' | 'c' => {
                    let text = texts[at].as_string::<i32>().value(i);
                    match precision {
                        Some(most) => text.chars().take(most).collect(),
                        None => text.to_string(),
                    }
                }
                _ => return bad(&format!("the conversion %{conversion} is not supported")),
            };
            let numeric = !null && matches!(conversion.to_ascii_lowercase(), 'd' | 'f' | 'e');
            if numeric && flags.contains('(') && text.starts_with('-') {
                text = format!("({})", &text[1..]);
            }
            if numeric && !text.starts_with(['-', '(']) && flags.contains(['+', ' ']) {
                text.insert(0, if flags.contains('+') { '+' } else { ' ' });
            }
            if conversion.is_ascii_uppercase() {
                text = text.to_uppercase();
            }
            let missing = width.saturating_sub(text.chars().count());
            if flags.contains('-') {
                text.push_str(&" ".repeat(missing));
            } else if flags.contains('0') && !null && (numeric || matches!(conversion, 'x' | 'X' | 'o')) {
                let at = usize::from(text.starts_with(['-', '+', ' ']));
                text.insert_str(at, &"0".repeat(missing));
            } else {
                text.insert_str(0, &" ".repeat(missing));
            }
            out.push_str(&text);
        }
        Ok(Some(out))
    })
}

/// Digits rounded half up, as Java's Formatter.
fn half_up_text(digits: &str, places: usize) -> String {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.len() > places && fraction.as_bytes()[places] == b'5' {
        // A little more than a half.
        return rounded_text(&format!("{whole}.{fraction}1"), places);
    }
    rounded_text(digits, places)
}

fn levenshtein(one: &str, other: &str) -> i32 {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<i32> = (0..=other.len() as i32).collect();
    for (i, c) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i as i32 + 1;
        for (j, d) in other.iter().enumerate() {
            let replaced = diagonal + i32::from(c != *d);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

fn elt(call: &Call<'_>) -> Result<ArrayRef> {
    call.text_rows(|i| {
        let at = call.ints(0);
        if at.is_null(i) {
            return Ok(None);
        }
        let (at, count) = (at.value(i), call.args.len() as i32 - 1);
        if (1..=count).contains(&at) {
            let column = call.text(at as usize);
            return Ok(column.is_valid(i).then(|| column.value(i).to_string()));
        }
        if call.context.ansi {
            return invalid(
                "INVALID_ARRAY_INDEX",
                format!("the index {at} is out of bounds: there are {count} elements"),
            );
        }
        Ok(None)
    })
}

/// The words of each sentence. A sentence ends with `.`, `!` or `?` before a blank; a word goes on over one of `-`, `'`
/// and `.` between letters, `.` and `,` between digits.
fn words_of(text: &str) -> Vec<Vec<String>> {
    let chars: Vec<char> = text.chars().collect();
    let (mut sentences, mut words, mut word) = (vec![], vec![], String::new());
    for (at, c) in chars.iter().enumerate() {
        let (before, after) = (at.checked_sub(1).and_then(|at| chars.get(at)), chars.get(at + 1));
        let between = |f: fn(char) -> bool| before.is_some_and(|c| f(*c)) && after.is_some_and(|c| f(*c));
        let joins = match c {
            '-' | '\'' => between(char::is_alphanumeric),
            '.' => between(char::is_numeric) || between(char::is_alphabetic),
            ',' => between(char::is_numeric),
            _ => false,
        };
        if c.is_alphanumeric() || joins {
            word.push(*c);
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if matches!(c, '.' | '!' | '?') && after.is_none_or(|c| c.is_whitespace()) && !words.is_empty() {
            sentences.push(std::mem::take(&mut words));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    if !words.is_empty() {
        sentences.push(words);
    }
    sentences
}

fn sentences(call: &Call<'_>) -> Result<ArrayRef> {
    let mut builder = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    for i in 0..call.rows {
        if call.skip(i) {
            builder.append_null();
            continue;
        }
        for words in words_of(call.text(0).value(i)) {
            words.iter().for_each(|word| builder.values().values().append_value(word));
            builder.values().append(true);
        }
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

fn masked_type(_: &[DataType], constants: &[Option<&datafusion::common::ScalarValue>]) -> Result<DataType> {
    for constant in constants.iter().skip(1) {
        if let Some(Some(text)) = constant.and_then(|constant| constant.try_as_str())
            && text.chars().count() != 1
        {
            return invalid(
                "DATATYPE_MISMATCH.INPUT_SIZE_NOT_ONE",
                format!("what `mask` writes must be one character, not '{text}'"),
            );
        }
    }
    Ok(DataType::Utf8)
}

/// Decimal digits of any script.
static DIGIT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").expect("a pattern"));

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || !c.is_ascii() && DIGIT.is_match(c.encode_utf8(&mut [0; 4]))
}

fn mask(c: &Call<'_>, i: usize) -> String {
    let with = |at: usize, default: char| -> Option<char> {
        if !c.has(at) {
            return Some(default);
        }
        match c.args[at].as_string_opt::<i32>() {
            Some(texts) if texts.is_valid(i) => texts.value(i).chars().next(),
            _ => None,
        }
    };
    let (upper, lower, digit) = (with(1, 'X'), with(2, 'x'), with(3, 'n'));
    let other = if c.has(4) { with(4, ' ') } else { None };
    let masked = |to: Option<char>, own: char| to.unwrap_or(own);
    c.text(0)
        .value(i)
        .chars()
        .map(|own| match own {
            own if own.is_uppercase() => masked(upper, own),
            own if own.is_lowercase() => masked(lower, own),
            own if is_digit(own) => masked(digit, own),
            own => masked(other, own),
        })
        .collect()
}

fn str_to_map(call: &Call<'_>) -> Result<ArrayRef> {
    let (mut pairs, mut middles) = (Patterns::default(), Patterns::default());
    let mut rows = vec![];
    for i in 0..call.rows {
        if call.skip(i) {
            rows.push(None);
            continue;
        }
        let pair = pairs.get("str_to_map", if call.has(1) { call.text(1).value(i) } else { "," })?;
        let middle = middles.get("str_to_map", if call.has(2) { call.text(2).value(i) } else { ":" })?;
        let text = call.text(0).value(i);
        let mut entries: Vec<(String, Option<String>)> = vec![];
        let mut begin = 0;
        // As in `split`, nothing is in front of an empty match at the beginning.
        let ends = pair.all(text).into_iter().filter(|found| found.end > 0).map(|found| (found.start, found.end));
        for (end, next) in ends.chain([(text.len(), text.len())]) {
            let own = &text[begin..end];
            begin = next;
            let (key, value) = match middle.first(own) {
                Some(found) => (&own[..found.start], Some(own[found.end..].to_string())),
                None => (own, None),
            };
            if entries.iter().any(|(known, _)| known == key) {
                return super::collections::duplicate_key(key);
            }
            entries.push((key.to_string(), value));
        }
        rows.push(Some(entries));
    }
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in rows {
        let valid = row.is_some();
        for (key, value) in row.into_iter().flatten() {
            builder.keys().append_value(key);
            builder.values().append_option(value);
        }
        builder.append(valid)?;
    }
    super::cast::relabel(Arc::new(builder.finish()), call.return_type)
}

/// What a number format of Spark says: `$99,999.00`.
#[derive(Debug)]
struct NumberFormat {
    whole: Vec<char>,
    fraction: usize,
    dollar: bool,
    sign_first: Option<char>,
    sign_last: Option<char>,
}

impl NumberFormat {
    fn parse(format: &str) -> Result<Self> {
        let upper = format.to_ascii_uppercase();
        let mut rest = upper.as_str();
        let bad =
            || invalid("INVALID_FORMAT.UNEXPECTED_TOKEN", format!("the number format '{format}' is not supported"));
        let mut found = Self { whole: vec![], fraction: 0, dollar: false, sign_first: None, sign_last: None };
        if let Some(after) = rest.strip_prefix("MI").or_else(|| rest.strip_prefix('S')) {
            found.sign_first = Some(if rest.starts_with('S') { 'S' } else { 'M' });
            rest = after;
        }
        if let Some(after) = rest.strip_prefix('$') {
            found.dollar = true;
            rest = after;
        }
        let last = [("MI", 'M'), ("PR", 'P'), ("S", 'S')];
        if let Some((before, kind)) = last.iter().find_map(|(end, kind)| Some((rest.strip_suffix(end)?, *kind))) {
            found.sign_last = Some(kind);
            rest = before;
        }
        let (whole, fraction) = rest.split_once(['.', 'D']).unwrap_or((rest, ""));
        if !whole.chars().all(|c| "09,G".contains(c)) || !fraction.chars().all(|c| "09".contains(c)) {
            return bad();
        }
        found.whole = whole.chars().map(|c| if c == 'G' { ',' } else { c }).collect();
        found.fraction = fraction.len();
        if found.digits() + found.fraction == 0 || found.digits() + found.fraction > 38 {
            return bad();
        }
        Ok(found)
    }

    fn digits(&self) -> usize {
        self.whole.iter().filter(|c| **c != ',').count()
    }

    /// The digits of a whole part that is written as the format says: as many as there are zeros at least, in the same
    /// groups.
    fn whole_digits(&self, text: &str) -> Option<String> {
        let format: String = self.whole.iter().collect();
        let (own, given): (Vec<&str>, Vec<&str>) = (format.rsplit(',').collect(), text.rsplit(',').collect());
        // From the right: the first group of the number may be shorter.
        let fits = own.iter().zip(&given).enumerate().all(|(at, (whole, group))| {
            group.len() == whole.len() || at + 1 == given.len() && group.len() < whole.len()
        });
        let digits: String = text.chars().filter(|c| *c != ',').collect();
        let least = format.find('0').map_or(0, |zero| format[zero..].chars().filter(|c| *c != ',').count());
        let right = fits && given.len() <= own.len() && digits.len() >= least;
        (right && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
    }

    /// What is shown of a number that has more digits.
    fn overflow(&self) -> String {
        let whole: String = self.whole.iter().map(|_| '#').collect();
        if self.fraction > 0 { format!("{whole}.{}", "#".repeat(self.fraction)) } else { whole }
    }
}

fn number_type(_: &[DataType], constants: &[Option<&datafusion::common::ScalarValue>]) -> Result<DataType> {
    match constants.get(1).copied().flatten().and_then(|format| format.try_as_str()).flatten() {
        Some(format) => {
            let format = NumberFormat::parse(format)?;
            Ok(DataType::Decimal128((format.digits() + format.fraction) as u8, format.fraction as i8))
        }
        None => invalid("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT", "the format of to_number must be a literal"),
    }
}

fn to_number(call: &Call<'_>, lenient: bool) -> Result<ArrayRef> {
    call.rows::<Decimal128Type>(|i| {
        let (text, format) = (call.text(0).value(i), NumberFormat::parse(call.text(1).value(i))?);
        let parse = || -> Option<i128> {
            let text = text.trim();
            let (negative, text) = match (format.sign_first, format.sign_last) {
                (_, Some('P')) => match text.strip_prefix('<') {
                    Some(rest) => (true, rest.strip_suffix('>')?),
                    None => (false, text),
                },
                (Some(_), _) => {
                    text.strip_prefix('-').map_or((false, text.strip_prefix('+').unwrap_or(text)), |t| (true, t))
                }
                (_, Some(_)) => {
                    text.strip_suffix('-').map_or((false, text.strip_suffix('+').unwrap_or(text)), |t| (true, t))
                }
                _ => (false, text),
            };
            let text = if format.dollar { text.strip_prefix('$')? } else { text };
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let whole = format.whole_digits(whole)?;
            if fraction.len() > format.fraction || !fraction.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            if whole.is_empty() && fraction.is_empty() {
                return None;
            }
            let all = format!("{whole}{fraction:0<width$}", width = format.fraction);
            let value = all.parse::<i128>().ok()?;
            Some(if negative { -value } else { value })
        };
        match parse() {
            Some(value) => Ok(Some(value)),
            None if lenient => Ok(None),
            None => invalid(
                "INVALID_FORMAT.MISMATCH_INPUT",
                format!("the input \"STRING\" '{text}' does not match the format '{}'", call.text(1).value(i)),
            ),
        }
    })
}

fn to_char(call: &Call<'_>) -> Result<ArrayRef> {
    match call.args[0].data_type() {
        DataType::Date32 | DataType::Timestamp(..) => {
            let to = ddl::timestamp();
            let times = super::cast::cast(&call.args[0], &to, &super::cast::Options::of(&call.context))?;
            let times = times.as_primitive::<TimestampMicrosecondType>();
            let mut known = super::dates::Formats::default();
            let _ = call.args[0].as_primitive_opt::<Date32Type>();
            return call
                .text_rows(|i| known.format(call.text(1).value(i), times.value(i), &call.context.zone).map(Some));
        }
        other if is_binary(other) => {
            return call.text_rows(|i| {
                let bytes = call.binary(0).value(i);
                match call.text(1).value(i).to_ascii_lowercase().as_str() {
                    "hex" => Ok(Some(hex_of(bytes))),
                    "base64" => Ok(Some(base64(bytes))),
                    "utf-8" => decode(bytes, "UTF-8").map(Some),
                    form => invalid(
                        "INVALID_PARAMETER_VALUE.BINARY_FORMAT",
                        format!("`to_char` has no format {form:?}: use 'hex', 'base64' or 'utf-8'"),
                    ),
                }
            });
        }
        _ => {}
    }
    call.text_rows(|i| {
        let format = NumberFormat::parse(call.text(1).value(i))?;
        let Some(digits) = plain_digits(&call.args[0], i) else { return Ok(None) };
        let exact = digits.split_once('.').map_or(0, |(_, fraction)| fraction.trim_end_matches('0').len());
        let text = rounded_text(&digits, format.fraction);
        let (negative, text) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let sign = |kind: char| match (kind, negative) {
            (_, true) => "-",
            ('S', false) => "+",
            _ => " ",
        };
        if whole.trim_start_matches('0').len() > format.digits() || exact > format.fraction {
            let mut shown = format.overflow();
            if format.sign_first == Some('S') {
                shown.insert_str(0, sign('S'));
            }
            if format.sign_last == Some('S') {
                shown.push_str(sign('S'));
            }
            return Ok(Some(shown));
        }
        let zeros = format.whole.iter().position(|c| *c == '0');
        let mut digits: Vec<char> = whole.trim_start_matches('0').chars().collect();
        if digits.is_empty() && format.fraction > 0 {
            digits.push('0');
        }
        let mut out: Vec<char> = vec![];
        for (at, c) in format.whole.iter().enumerate().rev() {
            match c {
                ',' => out.push(if digits.is_empty() && zeros.is_none_or(|zero| zero > at) { ' ' } else { ',' }),
                _ => out.push(match digits.pop() {
                    Some(digit) => digit,
                    None if zeros.is_some_and(|zero| zero <= at) => '0',
                    None => ' ',
                }),
            }
        }
        let mut shown: String = out.into_iter().rev().collect();
        if format.dollar {
            let at = shown.len() - shown.trim_start().len();
            shown.insert(at, '$');
        }
        if format.fraction > 0 {
            shown = format!("{shown}.{fraction}");
        }
        if let Some(kind) = format.sign_first {
            shown = format!("{}{shown}", sign(kind));
        }
        match format.sign_last {
            Some('P') if negative => {
                let at = shown.len() - shown.trim_start().len();
                shown.insert(at, '<');
                shown.push('>');
            }
            Some('P') => shown.push_str("  "),
            Some(kind) => shown.push_str(sign(kind)),
            None => {}
        }
        Ok(Some(shown))
    })
}

fn like_pattern(pattern: &str, escape: &str) -> Result<String> {
    let mut of_escape = escape.chars();
    let (Some(escape), None) = (of_escape.next(), of_escape.next()) else {
        return invalid("INVALID_ESCAPE_CHAR", format!("ESCAPE takes one character, not '{escape}'"));
    };
    let mut output = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(one) = chars.next() {
        if one == escape {
            match chars.next() {
                Some(next) if next == escape || ['%', '_'].contains(&next) => output.extend(['\\', next]),
                Some(next) => {
                    return invalid(
                        "INVALID_FORMAT.ESC_IN_THE_MIDDLE",
                        format!("the pattern '{pattern}' is invalid: the escape cannot stand before '{next}'"),
                    );
                }
                None => {
                    return invalid(
                        "INVALID_FORMAT.ESC_AT_THE_END",
                        format!("the pattern '{pattern}' is invalid: the escape cannot be last"),
                    );
                }
            }
        } else if one == '\\' {
            output.push_str("\\\\");
        } else {
            output.push(one);
        }
    }
    Ok(output)
}

/// Of a text that is too long the blanks at its end are given up, as many as need be.
fn varchar_checked<'t>(text: &'t str, most: usize, column: &str) -> Result<&'t str> {
    let end = |text: &str| text.char_indices().nth(most).map(|(end, _)| end);
    let Some(whole) = end(text) else { return Ok(text) };
    if end(text.trim_end_matches(' ')).is_none() {
        return Ok(&text[..whole]);
    }
    invalid(
        "EXCEED_LIMIT_LENGTH",
        format!(
            "exceeds char/varchar type length limitation: {most}: column `{column}` is given {} characters: shorten them, or \
             declare the column STRING",
            text.chars().count()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_text_is_checked() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(varchar_checked(text, 3, "a").ok(), expect, "{text}");
        check("", Some(""));
        check("äöü", Some("äöü"));
        check("ab     ", Some("ab "));
        check("abc ", Some("abc"));
        check("abcd", None);
        check("   d", None);
        let error = varchar_checked("abcd", 3, "a").expect_err("is too long").to_string();
        assert!(error.contains("EXCEED_LIMIT_LENGTH") && error.contains("column `a` is given 4"), "{error}");
    }

    #[test]
    fn pieces_of_text() {
        assert_eq!(
            (slice(9, 5, None), slice(9, -3, None), slice(3, 0, Some(2)), slice(3, -5, Some(4))),
            ((4, 9), (6, 9), (0, 2), (0, 2))
        );
        assert_eq!((position("foobarbar", "bar", 5), position("foo", "z", 1), position("a", "a", 0)), (7, 0, 0));
        assert_eq!(substring_index("www.apache.org", ".", -2), "apache.org");
        assert_eq!(translate("AaBbCc", "abc", "123"), "A1B2C3");
        assert_eq!(slice(3, i32::MIN, None), (0, 2));
        assert_eq!(host_as_written("http://u@A.B:80/a.b", "a.b"), "A.B");
        assert_eq!(host_as_written("http://%41.b/", "a.b"), "a.b");
        assert_eq!(levenshtein("kitten", "sitting"), 3);
        assert_eq!((base64(b"Spark").as_str(), unbase64("U3Bhcms=")), ("U3Bhcms=", Some(b"Spark".to_vec())));
        assert_eq!(unbase64("a"), None);
        assert_eq!(
            (grouped("-1234567.9"), rounded_text("12332.123456", 4)),
            ("-1,234,567.9".into(), "12332.1235".into())
        );
        assert_eq!((rounded_text("0.125", 2), half_up_text("0.125", 2)), ("0.12".into(), "0.13".into()));
    }

    #[test]
    fn digits_are_of_their_row() {
        let whole: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![1, -20, 300]));
        let digits: Vec<_> = (0..3).map(|row| plain_digits(&whole, row).expect("digits")).collect();
        assert_eq!(digits, ["1", "-20", "300"]);
        assert_eq!(plain_digits(&(Arc::new(arrow::array::Float64Array::from(vec![f64::NAN])) as ArrayRef), 0), None);
    }
}
