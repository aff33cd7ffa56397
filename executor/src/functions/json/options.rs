//! Spark's JSON options. Keys ignore case; keys that Spark's JSON does not know are ignored, as Spark ignores them.

use crate::functions::datetime::{Pattern, Zone};
use headwater_proto::error::{Error, Result};

/// What to do with a record that does not fit the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nulls for what cannot be used, the record's text in the corrupt-record column.
    Permissive,
    /// An error.
    FailFast,
    /// Leave the record out: for file sources alone.
    DropMalformed,
}

/// Options of `from_json` and `to_json`.
#[derive(Debug, Clone)]
pub struct Options {
    /// `mode`.
    pub mode: Mode,
    /// `columnNameOfCorruptRecord`.
    pub corrupt_record: String,
    /// `timeZone`: that of text that names none, and of what is written.
    pub zone: Zone,
    /// `timestampFormat`.
    pub timestamp_format: Option<Pattern>,
    /// `timestampNTZFormat`.
    pub timestamp_ntz_format: Option<Pattern>,
    /// `dateFormat`.
    pub date_format: Option<Pattern>,
    /// `enableDateTimeParsingFallback`: text that does not fit a format is tried as CAST reads it.
    pub date_time_fallback: Option<bool>,
    /// `allowUnquotedFieldNames`.
    pub unquoted_field_names: bool,
    /// `allowSingleQuotes`.
    pub single_quotes: bool,
    /// `allowNumericLeadingZeros`.
    pub leading_zeros: bool,
    /// `allowNonNumericNumbers`.
    pub non_numeric_numbers: bool,
    /// `allowBackslashEscapingAnyCharacter`.
    pub backslash_any: bool,
    /// `allowComments`.
    pub comments: bool,
    /// `allowUnquotedControlChars`.
    pub control_chars: bool,
    /// `maxNestingDepth`.
    pub nesting_depth_max: usize,
    /// `maxNumLen`.
    pub number_bytes_max: usize,
    /// `maxStringLen`, in bytes here.
    pub string_bytes_max: usize,
    /// `ignoreNullFields`.
    pub ignore_null_fields: bool,
    /// `pretty`.
    pub pretty: bool,
    /// `writeNonAsciiCharacterAsCodePoint`.
    pub escape_non_ascii: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Permissive,
            corrupt_record: "_corrupt_record".to_string(),
            zone: Zone::UTC,
            timestamp_format: None,
            timestamp_ntz_format: None,
            date_format: None,
            date_time_fallback: None,
            unquoted_field_names: false,
            single_quotes: true,
            leading_zeros: false,
            non_numeric_numbers: true,
            backslash_any: false,
            comments: false,
            control_chars: false,
            // The limits of Jackson, which reads JSON for Spark.
            nesting_depth_max: 1000,
            number_bytes_max: 1000,
            string_bytes_max: 100_000_000,
            ignore_null_fields: true,
            pretty: false,
            escape_non_ascii: false,
        }
    }
}

impl Options {
    /// Options from the map that a query gave. `session_zone` holds where `timeZone` is not given.
    ///
    /// # Errors
    /// A value that cannot be read, named with its key.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, session_zone: Option<&str>) -> Result<Self> {
        let mut options = Self::default();
        if let Some(zone) = session_zone {
            options.zone = time_zone(zone)?;
        }
        for (key, value) in pairs {
            match key.to_ascii_lowercase().as_str() {
                "mode" => options.mode = mode(value),
                "columnnameofcorruptrecord" => options.corrupt_record = value.to_string(),
                "timezone" => options.zone = time_zone(value)?,
                "timestampformat" => options.timestamp_format = Some(Pattern::compile(value)?),
                "timestampntzformat" => options.timestamp_ntz_format = Some(Pattern::compile(value)?),
                "dateformat" => options.date_format = Some(Pattern::compile(value)?),
                "enabledatetimeparsingfallback" => options.date_time_fallback = Some(boolean(key, value)?),
                "allowunquotedfieldnames" => options.unquoted_field_names = boolean(key, value)?,
                "allowsinglequotes" => options.single_quotes = boolean(key, value)?,
                "allownumericleadingzeros" => options.leading_zeros = boolean(key, value)?,
                "allownonnumericnumbers" => options.non_numeric_numbers = boolean(key, value)?,
                "allowbackslashescapinganycharacter" => options.backslash_any = boolean(key, value)?,
                "allowcomments" => options.comments = boolean(key, value)?,
                "allowunquotedcontrolchars" => options.control_chars = boolean(key, value)?,
                "maxnestingdepth" => options.nesting_depth_max = count(key, value)?,
                "maxnumlen" => options.number_bytes_max = count(key, value)?,
                "maxstringlen" => options.string_bytes_max = count(key, value)?,
                "ignorenullfields" => options.ignore_null_fields = boolean(key, value)?,
                "pretty" => options.pretty = boolean(key, value)?,
                "writenonasciicharacterascodepoint" => options.escape_non_ascii = boolean(key, value)?,
                // They steer schema inference and the reading of files, so they change nothing here; a value that
                // Spark would refuse is refused.
                "primitivesasstring" | "prefersdecimal" | "multiline" | "dropfieldifallnull" => {
                    boolean(key, value)?;
                }
                "locale" if !value.to_ascii_lowercase().starts_with("en") => {
                    return Err(Error::invalid(
                        "UNSUPPORTED_FEATURE.LOCALE",
                        format!("option locale: {value} is not supported, only English names of months and days are"),
                    ));
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

/// A mode that Spark does not know is PERMISSIVE, with a warning, as in Spark.
fn mode(value: &str) -> Mode {
    match value.to_ascii_uppercase().as_str() {
        "PERMISSIVE" => Mode::Permissive,
        "FAILFAST" => Mode::FailFast,
        "DROPMALFORMED" => Mode::DropMalformed,
        _ => {
            tracing::warn!(mode = value, "not a valid parse mode, using PERMISSIVE");
            Mode::Permissive
        }
    }
}

fn time_zone(value: &str) -> Result<Zone> {
    Zone::parse(value).ok_or_else(|| {
        Error::invalid("INVALID_TIMEZONE", format!("time zone {value} is unknown: write Region/City or ±hh:mm"))
    })
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    if value.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(invalid(key, value, "true or false"))
    }
}

fn count(key: &str, value: &str) -> Result<usize> {
    value.parse().map_err(|_| invalid(key, value, "a whole number"))
}

fn invalid(key: &str, value: &str, expected: &str) -> Error {
    Error::invalid("INVALID_PARAMETER_VALUE", format!("option {key}: {value:?} is not {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ignore_case_and_unknown_ones_are_ignored() {
        let options = Options::parse([("MODE", "failfast"), ("allowComments", "TRUE"), ("noSuch", "1")], None);
        let options = options.expect("options");
        assert_eq!((options.mode, options.comments), (Mode::FailFast, true));
    }

    #[test]
    fn bad_values_are_named() {
        for (key, value) in [
            ("allowComments", "yes"),
            ("timeZone", "Mars/Olympus"),
            ("timestampFormat", "bbb"),
            ("maxNestingDepth", "-1"),
            ("locale", "fr-FR"),
            ("multiLine", "1"),
        ] {
            let error = Options::parse([(key, value)], None).expect_err(key).to_string();
            assert!(error.contains(value), "{error}");
        }
        assert_eq!(Options::parse([("mode", "LENIENT")], None).expect("as Spark").mode, Mode::Permissive);
    }
}
