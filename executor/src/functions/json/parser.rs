//! From JSON text straight into columns, as the schema says: no tree in between and no memory taken per record.
//!
//! Follows Spark's `JacksonParser` with `spark.sql.json.enablePartialResults`, that is:
//! - a value of the wrong type makes its field null and the record *partial*; the other fields stay,
//! - inside an array or a map such a value makes the whole array or map null, but an element that is itself partial
//!   stays,
//! - text that is not JSON makes the record *malformed*: nothing of it stays (columns are cut back by the caller),
//! - what comes after the first value is not looked at.
//!
//! One departure: Jackson can sometimes pick up after an error inside an array (`[1, x, 2]`); here it is malformed.

use super::columns::{Bytes, Column, Record};
use super::keys::{self, Target};
use super::options::{Mode, Options};
use super::scan;
use crate::functions::datetime::{self, MICROS_PER_SECOND};
use std::str::from_utf8;

/// Why a value could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fail {
    /// Not JSON, or beyond a limit: the record is malformed.
    Syntax,
    /// JSON, but not of the column's type.
    WrongType,
}

/// The first thing that was wrong with a record, for the error of FAILFAST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    /// Byte offset in the record.
    pub(super) at: usize,
    /// The field whose value is of the wrong type; none for text that is not JSON.
    pub(super) field: Option<String>,
}

/// Memory used again for every record.
#[derive(Default)]
pub(super) struct Scratch {
    text: Vec<u8>,
    /// Brackets that are open while a value is skipped.
    open: Vec<u8>,
}

/// Reads one record.
pub(super) struct Parser<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) options: &'a Options,
    pub(super) scratch: &'a mut Scratch,
    /// Set when a value was left out.
    pub(super) partial: Option<Cause>,
    pub(super) depth: usize,
}

/// A number as it stands in the text.
enum Number {
    Integer,
    Decimal,
    /// NaN, Infinity and the like.
    NonNumeric(f64),
}

type Parsed<T = ()> = std::result::Result<T, Fail>;

impl<'a> Parser<'a> {
    #[inline(always)]
    fn peek(&self) -> u8 {
        // NUL cannot begin or end anything, so it stands for the end as well.
        self.bytes.get(self.at).copied().unwrap_or(0)
    }
    /// Skips white space, and comments where they are allowed.
    #[inline(always)]
    pub(super) fn space(&mut self) {
        if self.peek() > b' ' && self.peek() != b'/' {
            return;
        }
        self.space_slow();
    }
    fn space_slow(&mut self) {
        loop {
            while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
                self.at += 1;
            }
            if !self.options.comments || self.peek() != b'/' {
                return;
            }
            let rest = &self.bytes[self.at..];
            let len = match rest.get(1) {
                Some(b'/') => rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(rest.len()),
                Some(b'*') => match rest[2..].windows(2).position(|pair| pair == b"*/") {
                    Some(end) => end + 4,
                    None => return,
                },
                _ => return,
            };
            self.at += len;
        }
    }
    /// Nothing but white space is left.
    pub(super) fn is_blank(&mut self) -> bool {
        self.space();
        self.at >= self.bytes.len()
    }
    fn enter(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > self.options.nesting_depth_max { Err(Fail::Syntax) } else { Ok(()) }
    }

    /// Reads an object into a struct. On an error the struct must be cut back.
    pub(super) fn object(&mut self, record: &mut Record) -> Parsed {
        self.enter()?;
        self.at += 1;
        let mut key = keys::BEGIN;
        self.space();
        if self.peek() == b'}' {
            self.at += 1;
        } else {
            loop {
                let target = self.key(record, &mut key)?;
                match target {
                    Target::Skip => self.skip()?,
                    Target::Field(index) => {
                        let start = self.at;
                        if record.filled[index] != record.len {
                            self.field_again(record, index)?;
                        } else {
                            match self.value(&mut record.columns[index]) {
                                Ok(()) => record.filled[index] += 1,
                                Err(Fail::WrongType) => {
                                    self.leave_out(start, || record.field_name(index));
                                    self.at = start;
                                    self.skip()?;
                                }
                                Err(Fail::Syntax) => return Err(Fail::Syntax),
                            }
                        }
                    }
                }
                self.space();
                match self.peek() {
                    b',' => {
                        self.at += 1;
                        self.space();
                    }
                    b'}' => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(Fail::Syntax),
                }
            }
        }
        record.end_record();
        self.depth -= 1;
        Ok(())
    }
    fn leave_out(&mut self, at: usize, field: impl FnOnce() -> String) {
        if self.partial.is_none() {
            // The name is only told by FAILFAST; a stream of bad records should not pay for it.
            let field = if self.options.mode == Mode::FailFast { field() } else { String::new() };
            self.partial = Some(Cause { at, field: Some(field) });
        }
    }
    /// Reads a key and its colon, up to the value.
    #[inline(always)]
    fn key(&mut self, record: &mut Record, last: &mut usize) -> Parsed<Target> {
        let target = match record.keys.guess(*last, self.bytes, self.at) {
            Some((index, target, end)) => {
                *last = index;
                self.at = end;
                target
            }
            None => self.key_slow(record, last)?,
        };
        self.colon()?;
        Ok(target)
    }
    #[inline(always)]
    fn colon(&mut self) -> Parsed {
        self.space();
        if self.peek() != b':' {
            return Err(Fail::Syntax);
        }
        self.at += 1;
        self.space();
        Ok(())
    }
    #[inline(never)]
    fn key_slow(&mut self, record: &mut Record, last: &mut usize) -> Parsed<Target> {
        if let Some((index, target, end)) = record.keys.guess_on(*last, self.bytes, self.at) {
            *last = index;
            self.at = end;
            return Ok(target);
        }
        let name = self.name()?;
        let (index, target) = record.keys.find(*last, name);
        *last = index;
        Ok(target)
    }
    /// The next key, without its quotes and escapes.
    fn name(&mut self) -> Parsed<&[u8]> {
        match self.peek() {
            b'"' => self.string(b'"'),
            b'\'' if self.options.single_quotes => self.string(b'\''),
            _ if self.options.unquoted_field_names => {
                let start = self.at;
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"_$@#*-+".contains(&b) || b >= 0x80;
                if self.peek().is_ascii_digit() {
                    return Err(Fail::Syntax);
                }
                while plain(self.peek()) {
                    self.at += 1;
                }
                if self.at == start { Err(Fail::Syntax) } else { Ok(&self.bytes[start..self.at]) }
            }
            _ => Err(Fail::Syntax),
        }
    }
    /// A field that the object has named before: the last value that is of the right type holds.
    #[inline(never)]
    fn field_again(&mut self, record: &mut Record, index: usize) -> Parsed {
        let (start, row) = (self.at, record.len);
        // An object is never of the wrong type for a struct, and is read once: structs that repeat at every level would
        // take twice as long with each.
        let object = self.peek() == b'{' && matches!(&record.columns[index], Column::Struct(_));
        if !object {
            // Beside the earlier value, which stays where this one is of the wrong type.
            match self.value(&mut record.columns[index]) {
                Ok(()) => self.at = start,
                Err(Fail::WrongType) => {
                    self.leave_out(start, || record.field_name(index));
                    self.at = start;
                    return self.skip();
                }
                Err(Fail::Syntax) => return Err(Fail::Syntax),
            }
        }
        record.columns[index].truncate(row);
        self.value(&mut record.columns[index])
    }

    /// Reads a value into a column: one more value on success, as many as before when it is of the wrong type.
    #[inline(always)]
    pub(super) fn value(&mut self, column: &mut Column) -> Parsed {
        // By far the most frequent, and short enough to stand in the loop.
        if let Column::Text(text) = column
            && self.peek() == b'"'
        {
            let start = self.at + 1;
            let end = scan::special(self.bytes, start, b'"');
            if self.bytes.get(end) == Some(&b'"') && end - start <= self.options.string_bytes_max {
                text.push(&self.bytes[start..end]);
                self.at = end + 1;
                return Ok(());
            }
        }
        self.value_slow(column)
    }
    #[inline(never)]
    fn value_slow(&mut self, column: &mut Column) -> Parsed {
        let first = self.peek();
        if first == b'n' {
            self.word(b"null")?;
            column.push_null();
            return Ok(());
        }
        match column {
            Column::Text(text) => self.text(text),
            Column::Boolean(booleans) => {
                let value = match first {
                    b't' => self.word(b"true").map(|()| true)?,
                    b'f' => self.word(b"false").map(|()| false)?,
                    _ => return Err(Fail::WrongType),
                };
                booleans.push(value);
                Ok(())
            }
            Column::Int8(numbers) => {
                let value = self.integer()?;
                // Jackson takes bytes for signed or unsigned.
                let value =
                    if (-128..=255).contains(&value) { value as u8 as i8 } else { return Err(Fail::WrongType) };
                numbers.push(value);
                Ok(())
            }
            Column::Int16(numbers) => {
                let value = self.integer()?;
                numbers.push(i16::try_from(value).map_err(|_| Fail::WrongType)?);
                Ok(())
            }
            Column::Int32(numbers) => {
                let value = self.integer()?;
                numbers.push(i32::try_from(value).map_err(|_| Fail::WrongType)?);
                Ok(())
            }
            Column::Int64(numbers) => {
                let value = self.integer()?;
                numbers.push(value);
                Ok(())
            }
            Column::Float32(numbers) => {
                let value = self.float(|text| text.parse::<f32>().ok(), |value| value as f32)?;
                numbers.push(value);
                Ok(())
            }
            Column::Float64(numbers) => {
                let value = self.float(|text| text.parse::<f64>().ok(), |value| value)?;
                numbers.push(value);
                Ok(())
            }
            Column::Decimal { numbers, precision, scale } => {
                let (precision, scale) = (*precision, *scale);
                let value = if let Some(quote) = self.quote() {
                    let text: Vec<u8> = self.string(quote)?.iter().copied().filter(|b| *b != b',').collect();
                    decimal(&text, precision, scale)
                } else {
                    let start = self.at;
                    match self.number()? {
                        Number::NonNumeric(_) => None,
                        _ => decimal(&self.bytes[start..self.at], precision, scale),
                    }
                };
                numbers.push(value.ok_or(Fail::WrongType)?);
                Ok(())
            }
            Column::Date(numbers) => {
                let quote = self.quote().ok_or(Fail::WrongType)?;
                let options = self.options;
                let text = from_utf8(self.string(quote)?).map_err(|_| Fail::Syntax)?;
                numbers.push(date(text, options).ok_or(Fail::WrongType)?);
                Ok(())
            }
            Column::Timestamp { numbers, zone } => {
                let value = match self.quote() {
                    Some(quote) => {
                        let options = self.options;
                        let text = from_utf8(self.string(quote)?).map_err(|_| Fail::Syntax)?;
                        timestamp(text, zone.is_some(), options)
                    }
                    // Seconds since 1970 for TIMESTAMP alone.
                    None if zone.is_some() => self.integer()?.checked_mul(MICROS_PER_SECOND),
                    None => None,
                };
                numbers.push(value.ok_or(Fail::WrongType)?);
                Ok(())
            }
            Column::Binary(bytes) => {
                let quote = self.quote().ok_or(Fail::WrongType)?;
                let len = bytes.len();
                let decoded = super::base64::decode(self.string(quote)?, &mut bytes.values);
                if decoded {
                    bytes.end_value();
                    Ok(())
                } else {
                    bytes.truncate(len);
                    Err(Fail::WrongType)
                }
            }
            Column::Null(len) => {
                self.skip()?;
                *len += 1;
                Ok(())
            }
            Column::Struct(record) => match first {
                b'{' => self.object(record),
                _ => Err(Fail::WrongType),
            },
            Column::List(list) => match first {
                b'[' => {
                    let done = self.array(&mut list.child, &mut list.child_len);
                    if done.is_ok() {
                        list.end_value()
                    } else {
                        list.abandon()
                    }
                    done
                }
                _ => Err(Fail::WrongType),
            },
            Column::Map(map) => match first {
                b'{' => {
                    let done = self.map(&mut map.keys, &mut map.values);
                    if done.is_ok() {
                        map.end_value()
                    } else {
                        map.abandon()
                    }
                    done
                }
                _ => Err(Fail::WrongType),
            },
        }
    }
    fn array(&mut self, child: &mut Column, child_len: &mut usize) -> Parsed {
        let depth = self.depth;
        self.enter()?;
        self.at += 1;
        self.space();
        if self.peek() == b']' {
            self.at += 1;
            self.depth = depth;
            return Ok(());
        }
        loop {
            let read = self.value(child);
            if read.is_err() {
                self.depth = depth;
                return read;
            }
            *child_len += 1;
            self.space();
            match self.peek() {
                b',' => {
                    self.at += 1;
                    self.space();
                }
                b']' => {
                    self.at += 1;
                    self.depth = depth;
                    return Ok(());
                }
                _ => return Err(Fail::Syntax),
            }
        }
    }
    fn map(&mut self, names: &mut Bytes, values: &mut Column) -> Parsed {
        let depth = self.depth;
        self.enter()?;
        self.at += 1;
        self.space();
        if self.peek() == b'}' {
            self.at += 1;
            self.depth = depth;
            return Ok(());
        }
        loop {
            let name = self.name()?;
            names.push(name);
            self.colon()?;
            let read = self.value(values);
            if read.is_err() {
                self.depth = depth;
                return read;
            }
            self.space();
            match self.peek() {
                b',' => {
                    self.at += 1;
                    self.space();
                }
                b'}' => {
                    self.at += 1;
                    self.depth = depth;
                    return Ok(());
                }
                _ => return Err(Fail::Syntax),
            }
        }
    }
    /// Any value as text: strings as they read, everything else as it stands.
    fn text(&mut self, text: &mut Bytes) -> Parsed {
        if let Some(quote) = self.quote() {
            self.at += 1;
            self.string_into(quote, &mut text.values)?;
            text.end_value();
        } else {
            let start = self.at;
            self.skip()?;
            let raw = &self.bytes[start..self.at];
            if matches!(raw.first(), Some(b'{' | b'[')) {
                without_blanks(raw, &mut text.values);
                text.end_value();
            } else {
                text.push(raw);
            }
        }
        Ok(())
    }
    /// The quote that begins a string here.
    fn quote(&self) -> Option<u8> {
        match self.peek() {
            b'"' => Some(b'"'),
            b'\'' if self.options.single_quotes => Some(b'\''),
            _ => None,
        }
    }
    /// A string, from its opening quote.
    fn string(&mut self, quote: u8) -> Parsed<&[u8]> {
        let start = self.at + 1;
        let end = scan::special(self.bytes, start, quote);
        if self.bytes.get(end) == Some(&quote) {
            if end - start > self.options.string_bytes_max {
                return Err(Fail::Syntax);
            }
            self.at = end + 1;
            return Ok(&self.bytes[start..end]);
        }
        self.at = start;
        let mut text = std::mem::take(&mut self.scratch.text);
        text.clear();
        let read = self.string_into(quote, &mut text);
        self.scratch.text = text;
        read.map(|()| self.scratch.text.as_slice())
    }
    /// The inside of a string, up to and with its closing quote, escapes resolved.
    fn string_into(&mut self, quote: u8, out: &mut Vec<u8>) -> Parsed {
        let begin = out.len();
        loop {
            let end = scan::special(self.bytes, self.at, quote);
            out.extend_from_slice(&self.bytes[self.at..end]);
            self.at = end;
            match self.bytes.get(end) {
                None => return Err(Fail::Syntax),
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(out)?;
                }
                Some(byte) if *byte == quote => {
                    self.at += 1;
                    return if out.len() - begin > self.options.string_bytes_max { Err(Fail::Syntax) } else { Ok(()) };
                }
                Some(control) => {
                    if !self.options.control_chars {
                        return Err(Fail::Syntax);
                    }
                    out.push(*control);
                    self.at += 1;
                }
            }
        }
    }
    /// What follows a backslash.
    fn escape(&mut self, out: &mut Vec<u8>) -> Parsed {
        let Some(byte) = self.bytes.get(self.at).copied() else {
            return Err(Fail::Syntax);
        };
        self.at += 1;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let high = self.hex4()?;
                let mut code = u32::from(high);
                if (0xd800..0xdc00).contains(&high) && self.bytes[self.at..].starts_with(b"\\u") {
                    let back = self.at;
                    self.at += 2;
                    let low = self.hex4()?;
                    if (0xdc00..0xe000).contains(&low) {
                        code = 0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                    } else {
                        self.at = back;
                    }
                }
                // Half of a pair alone becomes a question mark, as when Java writes UTF-8.
                let character = char::from_u32(code).unwrap_or('?');
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            b'\'' if self.options.single_quotes => byte,
            // The bytes that follow the first of a longer character are copied with the rest of the string.
            _ if self.options.backslash_any => byte,
            _ => return Err(Fail::Syntax),
        };
        out.push(plain);
        Ok(())
    }
    fn hex4(&mut self) -> Parsed<u16> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(Fail::Syntax)?;
        self.at += 4;
        digits.iter().try_fold(0_u16, |code, digit| {
            let value = (*digit as char).to_digit(16).ok_or(Fail::Syntax)?;
            Ok(code << 4 | value as u16)
        })
    }
    #[inline]
    fn word(&mut self, word: &[u8]) -> Parsed {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(Fail::Syntax)
        }
    }
    /// Reads over a number.
    fn number(&mut self) -> Parsed<Number> {
        let negative = self.peek() == b'-';
        let signed = negative || self.peek() == b'+';
        let start = self.at;
        if signed {
            self.at += 1;
        }
        if !self.peek().is_ascii_digit() {
            return self.non_numeric(start, signed, negative);
        }
        if self.bytes[start] == b'+' {
            return Err(Fail::Syntax);
        }
        let digits_at = self.at;
        self.digits();
        if self.bytes[digits_at] == b'0' && self.at - digits_at > 1 && !self.options.leading_zeros {
            return Err(Fail::Syntax);
        }
        let mut kind = Number::Integer;
        if self.peek() == b'.' {
            self.at += 1;
            if self.digits() == 0 {
                return Err(Fail::Syntax);
            }
            kind = Number::Decimal;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(Fail::Syntax);
            }
            kind = Number::Decimal;
        }
        if self.at - start > self.options.number_bytes_max {
            return Err(Fail::Syntax);
        }
        Ok(kind)
    }
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        self.at - start
    }
    /// `NaN`, `Infinity`, `+INF` and the like; anything else is no number.
    fn non_numeric(&mut self, start: usize, signed: bool, negative: bool) -> Parsed<Number> {
        let names: &[&[u8]] = if signed { &[b"Infinity", b"INF"] } else { &[b"NaN", b"Infinity"] };
        let rest = &self.bytes[self.at..];
        let name = names.iter().find(|name| rest.starts_with(name));
        match name {
            Some(name) if self.options.non_numeric_numbers => {
                self.at += name.len();
                Ok(Number::NonNumeric(match (*name, negative) {
                    (b"NaN", _) => f64::NAN,
                    (_, false) => f64::INFINITY,
                    (_, true) => f64::NEG_INFINITY,
                }))
            }
            Some(_) => Err(Fail::Syntax),
            None => {
                self.at = start;
                // A string, an object or an array; or nothing at all, which skipping it will find out.
                Err(Fail::WrongType)
            }
        }
    }
    #[inline]
    fn integer(&mut self) -> Parsed<i64> {
        let start = self.at;
        match self.number()? {
            Number::Integer => {}
            Number::Decimal | Number::NonNumeric(_) => return Err(Fail::WrongType),
        }
        let text = &self.bytes[start..self.at];
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        // Negative, since the smallest integer has no positive counterpart.
        let value = digits.iter().try_fold(0_i64, |value, digit| {
            value.checked_mul(10).and_then(|value| value.checked_sub(i64::from(digit - b'0')))
        });
        let value = if negative { value } else { value.and_then(i64::checked_neg) };
        value.ok_or(Fail::WrongType)
    }
    fn float<T>(&mut self, parse: impl Fn(&str) -> Option<T>, special: impl Fn(f64) -> T) -> Parsed<T> {
        if let Some(quote) = self.quote() {
            let allowed = self.options.non_numeric_numbers;
            return match self.string(quote)? {
                b"NaN" if allowed => Ok(special(f64::NAN)),
                b"+INF" | b"+Infinity" | b"Infinity" if allowed => Ok(special(f64::INFINITY)),
                b"-INF" | b"-Infinity" if allowed => Ok(special(f64::NEG_INFINITY)),
                _ => Err(Fail::WrongType),
            };
        }
        let start = self.at;
        match self.number()? {
            Number::NonNumeric(value) => Ok(special(value)),
            _ => from_utf8(&self.bytes[start..self.at]).ok().and_then(parse).ok_or(Fail::Syntax),
        }
    }
    /// Reads over any value, which must be JSON throughout.
    pub(super) fn skip(&mut self) -> Parsed {
        self.scratch.open.clear();
        'value: loop {
            match self.peek() {
                b'{' => {
                    self.open(b'}')?;
                    if self.peek() != b'}' {
                        self.skip_name()?;
                        continue 'value;
                    }
                }
                b'[' => {
                    self.open(b']')?;
                    if self.peek() != b']' {
                        continue 'value;
                    }
                }
                b'"' => self.skip_string(b'"')?,
                b'\'' if self.options.single_quotes => self.skip_string(b'\'')?,
                b'n' => self.word(b"null")?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                _ => {
                    self.number().map_err(|_| Fail::Syntax)?;
                }
            }
            // A value has ended, or a bracket has just opened that closes at once.
            loop {
                let Some(close) = self.scratch.open.last().copied() else {
                    return Ok(());
                };
                self.space();
                let byte = self.peek();
                if byte == close {
                    self.at += 1;
                    self.scratch.open.pop();
                    continue;
                }
                if byte != b',' {
                    return Err(Fail::Syntax);
                }
                self.at += 1;
                self.space();
                if close == b'}' {
                    self.skip_name()?;
                }
                continue 'value;
            }
        }
    }
    fn open(&mut self, close: u8) -> Parsed {
        self.scratch.open.push(close);
        self.at += 1;
        self.space();
        let depth = self.depth + self.scratch.open.len();
        if depth > self.options.nesting_depth_max { Err(Fail::Syntax) } else { Ok(()) }
    }
    fn skip_name(&mut self) -> Parsed {
        self.name()?;
        self.colon()
    }
    #[inline]
    fn skip_string(&mut self, quote: u8) -> Parsed {
        self.string(quote).map(|_| ())
    }
}

/// JSON without the white space between its tokens, as Spark writes what it has read.
fn without_blanks(json: &[u8], out: &mut Vec<u8>) {
    let (mut quote, mut escaped) = (None, false);
    for byte in json {
        match quote {
            None if byte.is_ascii_whitespace() => continue,
            None => quote = matches!(byte, b'"' | b'\'').then_some(byte),
            Some(_) if escaped => escaped = false,
            Some(own) => {
                escaped = *byte == b'\\';
                if byte == own {
                    quote = None;
                }
            }
        }
        out.push(*byte);
    }
}

fn date(text: &str, options: &Options) -> Option<i32> {
    // Before Spark 1.5 dates were written as a count of days.
    let as_cast = || datetime::parse_date(without_gmt(text).as_ref()).or_else(|| text.parse().ok());
    match &options.date_format {
        None => as_cast(),
        Some(format) => {
            format.parse_date(text).or_else(|| if options.date_time_fallback == Some(true) { as_cast() } else { None })
        }
    }
}

fn timestamp(text: &str, with_zone: bool, options: &Options) -> Option<i64> {
    if !with_zone {
        return match &options.timestamp_ntz_format {
            None => datetime::parse_timestamp_ntz(text),
            Some(format) => format.parse_timestamp_ntz(text),
        };
    }
    let as_cast = || datetime::parse_timestamp(without_gmt(text).as_ref(), &options.zone);
    match &options.timestamp_format {
        None => as_cast(),
        Some(format) => format
            .parse_timestamp(text, &options.zone)
            .or_else(|| if options.date_time_fallback == Some(true) { as_cast() } else { None }),
    }
}

/// Spark 1.x wrote zones as `GMT+01:00`.
fn without_gmt(text: &str) -> std::borrow::Cow<'_, str> {
    match text.find("GMT") {
        Some(at) if at + 3 < text.len() => format!("{}{}", &text[..at], &text[at + 3..]).into(),
        _ => text.into(),
    }
}

/// A decimal number as an integer of `scale` places, rounded half up; none when it has more digits than `precision`.
fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let exponent_at = text.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(text.len());
    let exponent: i64 = match text.get(exponent_at + 1..) {
        None => 0,
        Some(digits) => from_utf8(digits).ok()?.parse().ok()?,
    };
    let mantissa = &text[..exponent_at];
    let point = mantissa.iter().position(|b| *b == b'.').unwrap_or(mantissa.len());
    let digits = || mantissa[..point].iter().chain(mantissa.get(point + 1..).unwrap_or(&[]));
    if digits().next().is_none() || digits().any(|b| !b.is_ascii_digit()) {
        return None;
    }
    // How many leading digits of the mantissa the result keeps; the next one rounds.
    let kept = (point as i64).checked_add(exponent)?.checked_add(i64::from(scale))?;
    let limit = 10_i128.pow(u32::from(precision));
    let mut value = 0_i128;
    let mut round_up = false;
    let mut count = 0_i64;
    for digit in digits() {
        if count >= kept {
            round_up = count == kept && *digit >= b'5';
            break;
        }
        value = value * 10 + i128::from(digit - b'0');
        count += 1;
        if value >= limit {
            return None;
        }
    }
    if value != 0 {
        for _ in count..kept {
            value *= 10;
            if value >= limit {
                return None;
            }
        }
    }
    value += i128::from(round_up);
    (value < limit).then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        let check = |text: &str, precision, scale, expect: Option<i128>| {
            assert_eq!(decimal(text.as_bytes(), precision, scale), expect, "{text}");
        };
        check("12.345", 5, 2, Some(1235));
        check("-12.345", 5, 2, Some(-1235));
        check("12.344", 5, 2, Some(1234));
        check("1e3", 10, 0, Some(1000));
        check("1E-2", 10, 2, Some(1));
        check("5e-3", 10, 2, Some(1));
        check("4e-3", 10, 2, Some(0));
        check("999.995", 5, 2, None);
        check("1000", 3, 0, None);
        check("0.0000000000000000000000000000000000000000000000001", 10, 2, Some(0));
        check("0e999999999", 10, 2, Some(0));
        check("1e999999999", 10, 2, None);
        check("1e-999999999", 10, 2, Some(0));
        check("1e99999999999999999999", 10, 2, None);
        check("99999999999999999999999999999999999999", 38, 0, Some(10_i128.pow(38) - 1));
        check("099", 2, 0, Some(99));
        check("", 5, 0, None);
        check(".", 5, 0, None);
        check("1.5", 5, 0, Some(2));
        check("abc", 5, 0, None);
    }
}
