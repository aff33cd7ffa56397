//! Spark's text of dates and timestamps: the grammar that CAST accepts, time zone names, and patterns of letters such
//! as `yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]` in both directions.
//!
//! Instants are microseconds since 1970-01-01T00:00:00Z, local date-times the same count without a zone, dates are days.

use arrow::array::timezone::Tz;
use chrono::{DateTime, Days, LocalResult, NaiveDateTime, Offset, TimeZone};
use headwater_proto::error::{Error, Result};
use std::fmt::Write;

pub(crate) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(crate) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// Java's largest zone offset.
const OFFSET_SECONDS_MAX: i32 = 18 * 3600;
/// Spark reads years of up to six digits.
const YEAR_DIGITS_MAX: usize = 6;

/// A time zone by Spark's names.
#[derive(Debug, Clone, Copy)]
pub enum Zone {
    /// Seconds east of Greenwich.
    Fixed(i32),
    /// With rules, such as Europe/Paris.
    Region(Tz),
}

impl Zone {
    /// Greenwich.
    pub const UTC: Self = Self::Fixed(0);

    /// What `java.time.ZoneId.of` and Spark's additions to it accept: `Z`, `UTC`, `GMT+1`, `+5:30`, `Europe/Paris`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(seconds) = parse_offset(text) {
            return Some(Self::Fixed(seconds));
        }
        for prefix in ["UTC", "GMT", "UT"] {
            match text.strip_prefix(prefix) {
                Some("") => return Some(Self::UTC),
                Some(offset) if offset.starts_with(['+', '-']) => return parse_offset(offset).map(Self::Fixed),
                _ => {}
            }
        }
        // Java's ZoneId.SHORT_IDS, which Spark passes on.
        let name = match text {
            "EST" => return Some(Self::Fixed(-5 * 3600)),
            "MST" => return Some(Self::Fixed(-7 * 3600)),
            "HST" => return Some(Self::Fixed(-10 * 3600)),
            "ACT" => "Australia/Darwin",
            "AET" => "Australia/Sydney",
            "AGT" => "America/Argentina/Buenos_Aires",
            "ART" => "Africa/Cairo",
            "AST" => "America/Anchorage",
            "BET" => "America/Sao_Paulo",
            "BST" => "Asia/Dhaka",
            "CAT" => "Africa/Harare",
            "CNT" => "America/St_Johns",
            "CST" => "America/Chicago",
            "CTT" => "Asia/Shanghai",
            "EAT" => "Africa/Addis_Ababa",
            "ECT" => "Europe/Paris",
            "IET" => "America/Indiana/Indianapolis",
            "IST" => "Asia/Kolkata",
            "JST" => "Asia/Tokyo",
            "MIT" => "Pacific/Apia",
            "NET" => "Asia/Yerevan",
            "NST" => "Pacific/Auckland",
            "PLT" => "Asia/Karachi",
            "PNT" => "America/Phoenix",
            "PRT" => "America/Puerto_Rico",
            "PST" => "America/Los_Angeles",
            "SST" => "Pacific/Guadalcanal",
            "VST" => "Asia/Ho_Chi_Minh",
            other => other,
        };
        name.parse().ok().map(Self::Region)
    }

    /// Seconds east of Greenwich at an instant.
    pub fn offset_at(&self, instant_us: i64) -> i32 {
        match self {
            Self::Fixed(seconds) => *seconds,
            Self::Region(tz) => {
                naive(instant_us).map_or(0, |instant| tz.offset_from_utc_datetime(&instant).fix().local_minus_utc())
            }
        }
    }

    /// The instant of a local date-time. As in Java, the earlier of two, and after a gap by the gap's length.
    pub fn instant(&self, local_us: i64) -> Option<i64> {
        let seconds = match self {
            Self::Fixed(seconds) => *seconds,
            Self::Region(tz) => {
                let local = naive(local_us)?;
                match tz.offset_from_local_datetime(&local) {
                    LocalResult::Single(offset) => offset.fix().local_minus_utc(),
                    LocalResult::Ambiguous(first, _) => first.fix().local_minus_utc(),
                    LocalResult::None => {
                        let before = local.checked_sub_days(Days::new(1))?;
                        tz.offset_from_utc_datetime(&before).fix().local_minus_utc()
                    }
                }
            }
        };
        local_us.checked_sub(i64::from(seconds) * MICROS_PER_SECOND)
    }

    fn id(&self) -> String {
        match self {
            Self::Fixed(0) => "Z".to_string(),
            Self::Fixed(seconds) => {
                let mut text = String::new();
                write_offset(&mut text, *seconds, 3, None);
                text
            }
            Self::Region(tz) => tz.to_string(),
        }
    }
}

fn naive(us: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(us).map(|instant| instant.naive_utc())
}

/// `Z`, `+h`, `+hh`, `+h:mm`, `+hh:m`, `+hhmm`, `+hh:mm:ss`, `+hhmmss` in seconds.
fn parse_offset(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    if !rest.bytes().all(|b| b.is_ascii_digit() || b == b':') {
        return None;
    }
    let parts: Vec<&str> = if rest.contains(':') {
        rest.split(':').collect()
    } else if rest.len() > 2 && rest.len().is_multiple_of(2) {
        (0..rest.len()).step_by(2).map(|at| &rest[at..at + 2]).collect()
    } else {
        vec![rest]
    };
    if parts.len() > 3 || parts.iter().any(|part| part.is_empty() || part.len() > 2) {
        return None;
    }
    let mut numbers = parts.iter().map(|part| part.parse::<i32>().ok()).chain(std::iter::repeat(Some(0)));
    let (hours, minutes, seconds) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let total = hours * 3600 + minutes * 60 + seconds;
    (minutes < 60 && seconds < 60 && total <= OFFSET_SECONDS_MAX).then_some(sign * total)
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar; `None` for 30 February and the like.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> Option<i32> {
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last; eras of 400 years repeat.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Year, month and day of a count of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = ((month_from_march + 2) % 12 + 1) as u32;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// What CAST(text AS DATE) accepts: `yyyy`, `yyyy-[m]m`, `yyyy-[m]m-[d]d`, then anything after a space or T.
pub fn parse_date(text: &str) -> Option<i32> {
    let bytes = trim(text).as_bytes();
    let (negative, mut rest) = match bytes.first()? {
        b'-' => (true, &bytes[1..]),
        b'+' => (false, &bytes[1..]),
        _ => (false, bytes),
    };
    let mut parts = [0_i64, 1, 1];
    for (index, part) in parts.iter_mut().enumerate() {
        let (value, digits) = take_number(rest);
        let plausible =
            if index == 0 { (4..=YEAR_DIGITS_MAX + 1).contains(&digits) } else { (1..=2).contains(&digits) };
        if !plausible {
            return None;
        }
        *part = value;
        rest = &rest[digits..];
        match rest.first() {
            None => break,
            Some(b'-') if index < 2 => rest = &rest[1..],
            Some(b' ' | b'T') if index == 2 => break,
            Some(_) => return None,
        }
    }
    let year = if negative { -parts[0] } else { parts[0] };
    days_from_civil(year, parts[1] as u32, parts[2] as u32)
}

/// Leading digits as a number and their count. Past 18 digits the number is not meaningful, but nothing needs it.
fn take_number(bytes: &[u8]) -> (i64, usize) {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let value = bytes[..digits].iter().take(18).fold(0, |value, b| value * 10 + i64::from(b - b'0'));
    (value, digits)
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ' || c == '\x7f')
}

/// What CAST(text AS TIMESTAMP) accepts, as an instant; text without a zone is in `zone`. A time without a date is not
/// accepted: Spark takes the current date for it, which no repeated batch could reproduce.
pub fn parse_timestamp(text: &str, zone: &Zone) -> Option<i64> {
    let (local, own_zone) = parse_date_time(text)?;
    match own_zone {
        None => zone.instant(local),
        Some(name) => Zone::parse(name)?.instant(local),
    }
}

/// What CAST(text AS TIMESTAMP_NTZ) accepts in JSON: as [`parse_timestamp`], but text that names a zone is refused.
pub fn parse_timestamp_ntz(text: &str) -> Option<i64> {
    match parse_date_time(text)? {
        (local, None) => Some(local),
        (_, Some(_)) => None,
    }
}

/// What CAST(text AS TIMESTAMP_NTZ) accepts: as [`parse_timestamp`]; a zone is passed over.
pub fn parse_timestamp_lenient_ntz(text: &str) -> Option<i64> {
    parse_date_time(text).map(|(local, _)| local)
}

/// Local microseconds and the text of the zone.
fn parse_date_time(text: &str) -> Option<(i64, Option<&str>)> {
    let text = trim(text);
    let bytes = text.as_bytes();
    let (negative, mut at) = match bytes.first()? {
        b'-' => (true, 1),
        b'+' => (false, 1),
        _ => (false, 0),
    };
    // Year, month, day, hour, minute, second.
    let mut parts = [0_i64, 1, 1, 0, 0, 0];
    let mut micros = 0;
    let mut zone = None;
    #[expect(clippy::needless_range_loop, reason = "the index is what the rules below speak of")]
    for index in 0..parts.len() {
        let (value, digits) = take_number(&bytes[at..]);
        let plausible = if index == 0 { (4..=YEAR_DIGITS_MAX).contains(&digits) } else { (1..=2).contains(&digits) };
        if !plausible {
            return None;
        }
        parts[index] = value;
        at += digits;
        match (index, bytes.get(at)) {
            (_, None) => break,
            (0 | 1, Some(b'-')) | (2, Some(b' ' | b'T')) | (3 | 4, Some(b':')) => at += 1,
            (5, Some(next)) => {
                if *next == b'.' {
                    let (_, digits) = take_number(&bytes[at + 1..]);
                    micros = fraction(&bytes[at + 1..at + 1 + digits.min(6)], 6);
                    at += 1 + digits;
                }
                if at < bytes.len() {
                    zone = Some(text.get(at..)?);
                }
            }
            _ => return None,
        }
    }
    let year = if negative { -parts[0] } else { parts[0] };
    let days = days_from_civil(year, parts[1] as u32, parts[2] as u32)?;
    let local = local_micros(days, parts[3], parts[4], parts[5], micros)?;
    Some((local, zone))
}

/// Digits after a decimal point, at most `unit_digits` of them, in units of the last of `unit_digits`.
fn fraction(digits: &[u8], unit_digits: u32) -> i64 {
    let value = digits.iter().fold(0, |value, b| value * 10 + i64::from(b - b'0'));
    value * 10_i64.pow(unit_digits - digits.len() as u32)
}

fn local_micros(days: i32, hour: i64, minute: i64, second: i64, micros: i64) -> Option<i64> {
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..60).contains(&second) {
        return None;
    }
    i64::from(days)
        .checked_mul(MICROS_PER_DAY)?
        .checked_add((hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND + micros)
}

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    Year(usize),
    /// `yy`: 2000 to 2099.
    YearOfCentury,
    Quarter(usize),
    Month(usize),
    MonthText {
        full: bool,
    },
    Day(usize),
    DayOfYear(usize),
    Weekday {
        full: bool,
    },
    /// H: 0 to 23.
    Hour(usize),
    /// k: 1 to 24.
    HourFrom1(usize),
    /// h: 1 to 12.
    HourOfHalf(usize),
    /// K: 0 to 11.
    HourOfHalfFrom0(usize),
    HalfOfDay,
    Minute(usize),
    Second(usize),
    Fraction(usize),
    Era,
    /// x, X, Z: an offset in the form of `width` letters; what stands for none.
    Offset {
        width: usize,
        zero: Option<&'static str>,
    },
    /// O: `GMT+1`, OOOO: `GMT+01:00`.
    LocalizedOffset {
        full: bool,
    },
    /// VV, z: a zone's name.
    ZoneId,
    OptionalBegin,
    OptionalEnd,
}

/// A date-time pattern of Spark.
#[derive(Debug, Clone)]
pub struct Pattern {
    parts: Vec<Part>,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// What a text said, in the order of the calendar.
#[derive(Debug, Default, Clone)]
struct Parsed {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    hour_of_half: Option<i64>,
    afternoon: bool,
    before_christ: bool,
    minute: i64,
    second: i64,
    micros: i64,
    zone: Option<Zone>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `INVALID_DATETIME_PATTERN` with the letter that is not supported.
    pub fn compile(pattern: &str) -> Result<Self> {
        let invalid = |what: String| {
            Error::invalid(
                "INVALID_DATETIME_PATTERN.ILLEGAL_CHARACTER",
                format!("unrecognized datetime pattern: {pattern}: {what}"),
            )
        };
        let mut parts = Vec::new();
        let mut open = 0_usize;
        let chars: Vec<char> = pattern.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let c = chars[at];
            let run = chars[at..].iter().take_while(|next| **next == c).count();
            if c.is_ascii_alphabetic() {
                parts.push(letter(c, run).ok_or_else(|| invalid(format!("illegal pattern character '{c}' ×{run}")))?);
                at += run;
                continue;
            }
            at += 1;
            match c {
                '\'' => {
                    let mut literal = String::new();
                    if chars.get(at) == Some(&'\'') {
                        literal.push('\'');
                        at += 1;
                    } else {
                        loop {
                            match (chars.get(at), chars.get(at + 1)) {
                                (Some('\''), Some('\'')) => {
                                    literal.push('\'');
                                    at += 2;
                                }
                                (Some('\''), _) => {
                                    at += 1;
                                    break;
                                }
                                (Some(c), _) => {
                                    literal.push(*c);
                                    at += 1;
                                }
                                (None, _) => return Err(invalid("a quote is not closed".to_string())),
                            }
                        }
                    }
                    parts.push(Part::Literal(literal));
                }
                '[' => {
                    open += 1;
                    parts.push(Part::OptionalBegin);
                }
                ']' => {
                    open = open.checked_sub(1).ok_or_else(|| invalid("']' without '['".to_string()))?;
                    parts.push(Part::OptionalEnd);
                }
                '{' | '}' | '#' => return Err(invalid(format!("illegal pattern character '{c}'"))),
                other => parts.push(Part::Literal(other.to_string())),
            }
        }
        // Java closes what is left open at the end.
        parts.extend(std::iter::repeat_n(Part::OptionalEnd, open));
        Ok(Self { parts })
    }

    /// An instant; text without a zone is in `zone`.
    pub fn parse_timestamp(&self, text: &str, zone: &Zone) -> Option<i64> {
        let parsed = self.parse(text)?;
        let local = parsed.local()?;
        parsed.zone.as_ref().unwrap_or(zone).instant(local)
    }

    /// A local date-time; a zone in the text is refused.
    pub fn parse_timestamp_ntz(&self, text: &str) -> Option<i64> {
        let parsed = self.parse(text)?;
        if parsed.zone.is_some() { None } else { parsed.local() }
    }

    /// A date.
    pub fn parse_date(&self, text: &str) -> Option<i32> {
        self.parse(text)?.days()
    }

    fn parse(&self, text: &str) -> Option<Parsed> {
        let mut parsed = Parsed::default();
        let rest = parse_parts(&self.parts, text, &mut parsed)?;
        rest.is_empty().then_some(parsed)
    }

    /// Appends a local date-time of a zone with this offset.
    pub fn format(&self, local_us: i64, zone: &Zone, offset_seconds: i32, out: &mut String) {
        let days = local_us.div_euclid(MICROS_PER_DAY);
        let micros_of_day = local_us.rem_euclid(MICROS_PER_DAY);
        let (year, month, day) = civil_from_days(days);
        let (second_of_day, micros) = (micros_of_day / MICROS_PER_SECOND, micros_of_day % MICROS_PER_SECOND);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        // Java's `y` counts within the era: 1 BC is year 0 of the calendar.
        let year_of_era = if year > 0 { year } else { 1 - year };
        let from_1_to_12 = |hour: i64| if hour % 12 == 0 { 12 } else { hour % 12 };
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Year(width) => {
                    // From four letters on, more digits than letters are announced by a sign.
                    if *width >= 4 && year_of_era >= 10_i64.pow((*width).min(18) as u32) {
                        out.push('+');
                    }
                    pad(out, year_of_era, *width);
                }
                Part::YearOfCentury => pad(out, year_of_era % 100, 2),
                Part::Quarter(width) => {
                    let quarter = (i64::from(month) - 1) / 3 + 1;
                    match width {
                        3 => out.push('Q'),
                        4 => out.push_str(["1st", "2nd", "3rd", "4th"][quarter as usize - 1]),
                        _ => {}
                    }
                    match width {
                        4 => out.push_str(" quarter"),
                        width => pad(out, quarter, *width % 3),
                    }
                }
                Part::Month(width) => pad(out, i64::from(month), *width),
                Part::MonthText { full } => out.push_str(shorten(MONTHS[month as usize - 1], *full)),
                Part::Day(width) => pad(out, i64::from(day), *width),
                Part::DayOfYear(width) => {
                    let first = days_from_civil(year, 1, 1).map_or(days, i64::from);
                    pad(out, days - first + 1, *width);
                }
                // 1970-01-01 was a Thursday.
                Part::Weekday { full } => {
                    out.push_str(shorten(WEEKDAYS[(days + 3).rem_euclid(7) as usize], *full));
                }
                Part::Hour(width) => pad(out, hour, *width),
                Part::HourFrom1(width) => pad(out, if hour == 0 { 24 } else { hour }, *width),
                Part::HourOfHalf(width) => pad(out, from_1_to_12(hour), *width),
                Part::HourOfHalfFrom0(width) => pad(out, hour % 12, *width),
                Part::HalfOfDay => out.push_str(if hour < 12 { "AM" } else { "PM" }),
                Part::Minute(width) => pad(out, minute, *width),
                Part::Second(width) => pad(out, second, *width),
                Part::Fraction(width) => {
                    let nanos = micros * 1000;
                    pad(out, nanos / 10_i64.pow(9 - *width as u32), *width);
                }
                Part::Era => out.push_str(if year > 0 { "AD" } else { "BC" }),
                Part::Offset { width, zero } => write_offset(out, offset_seconds, *width, *zero),
                Part::LocalizedOffset { full } => {
                    out.push_str("GMT");
                    if offset_seconds != 0 && *full {
                        write_offset(out, offset_seconds, 3, None);
                    } else if offset_seconds != 0 {
                        let (sign, total) = (if offset_seconds < 0 { '-' } else { '+' }, offset_seconds.abs());
                        out.push(sign);
                        pad(out, i64::from(total / 3600), 1);
                        if total % 3600 != 0 {
                            out.push(':');
                            pad(out, i64::from(total / 60 % 60), 2);
                        }
                    }
                }
                // The session's zone has this name, and not Java's `Z`.
                Part::ZoneId if matches!(zone, Zone::Fixed(0)) => out.push_str("UTC"),
                Part::ZoneId => out.push_str(&zone.id()),
                Part::OptionalBegin | Part::OptionalEnd => {}
            }
        }
    }
}

fn letter(letter: char, run: usize) -> Option<Part> {
    let two_at_most = run <= 2;
    Some(match (letter, run) {
        ('y' | 'u', 2) => Part::YearOfCentury,
        ('y' | 'u', 1..=6) => Part::Year(run),
        ('M' | 'L', 1 | 2) => Part::Month(run),
        ('M' | 'L', 3 | 4) => Part::MonthText { full: run == 4 },
        ('Q' | 'q', 1..=4) => Part::Quarter(run),
        ('d', _) if two_at_most => Part::Day(run),
        ('D', 1..=3) => Part::DayOfYear(run),
        ('E', 1..=4) => Part::Weekday { full: run == 4 },
        ('H', _) if two_at_most => Part::Hour(run),
        ('k', _) if two_at_most => Part::HourFrom1(run),
        ('h', _) if two_at_most => Part::HourOfHalf(run),
        ('K', _) if two_at_most => Part::HourOfHalfFrom0(run),
        ('a', 1) => Part::HalfOfDay,
        ('m', _) if two_at_most => Part::Minute(run),
        ('s', _) if two_at_most => Part::Second(run),
        ('S', 1..=9) => Part::Fraction(run),
        ('G', 1..=3) => Part::Era,
        ('X', 1..=5) => Part::Offset { width: run, zero: Some("Z") },
        ('x', 1) => Part::Offset { width: 1, zero: Some("+00") },
        ('x', 2 | 4) => Part::Offset { width: run, zero: Some("+0000") },
        ('x', 3 | 5) => Part::Offset { width: run, zero: Some("+00:00") },
        ('Z', 1..=3) => Part::Offset { width: 2, zero: Some("+0000") },
        ('Z', 4) => Part::LocalizedOffset { full: true },
        ('Z', 5) => Part::Offset { width: 5, zero: Some("Z") },
        ('O', 1) => Part::LocalizedOffset { full: false },
        ('O', 4) => Part::LocalizedOffset { full: true },
        ('V', 2) | ('z', 1..=4) => Part::ZoneId,
        _ => return None,
    })
}

fn shorten(name: &str, full: bool) -> &str {
    if full { name } else { &name[..3] }
}

fn pad(out: &mut String, value: i64, width: usize) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{value:0width$}");
}

/// Widths as those of `X`: 1 `+hh[mm]`, 2 `+hhmm`, 3 `+hh:mm`, 4 `+hhmm[ss]`, 5 `+hh:mm[:ss]`.
fn write_offset(out: &mut String, seconds: i32, width: usize, zero: Option<&str>) {
    if seconds == 0
        && let Some(zero) = zero
    {
        out.push_str(zero);
        return;
    }
    let total = i64::from(seconds.abs());
    let colon = width == 3 || width == 5;
    out.push(if seconds < 0 { '-' } else { '+' });
    pad(out, total / 3600, 2);
    if width > 1 || total % 3600 != 0 {
        out.push_str(if colon { ":" } else { "" });
        pad(out, total / 60 % 60, 2);
    }
    if width > 3 && total % 60 != 0 {
        out.push_str(if colon { ":" } else { "" });
        pad(out, total % 60, 2);
    }
}

/// Matches `parts` against the front of `text` and gives what is left.
fn parse_parts<'a>(parts: &[Part], mut text: &'a str, parsed: &mut Parsed) -> Option<&'a str> {
    let mut index = 0;
    while let Some(part) = parts.get(index) {
        index += 1;
        // A number directly before other numbers of fixed width leaves them their digits.
        let reserved = || parts[index..].iter().map_while(fixed_width).sum::<usize>();
        match part {
            Part::Literal(literal) => text = text.strip_prefix(literal.as_str())?,
            Part::Year(width) => {
                let (value, rest) = match (*width, reserved()) {
                    (width, 0) => number(text, width, 6)?,
                    (width, _) => number(text, width, width)?,
                };
                parsed.year = Some(value);
                text = rest;
            }
            Part::YearOfCentury => {
                let (value, rest) = number(text, 2, 2)?;
                parsed.year = Some(2000 + value);
                text = rest;
            }
            // Beside a month it says nothing new, and without one too little.
            Part::Quarter(width) => {
                text = if *width == 3 { text.strip_prefix('Q')? } else { text };
                let digits = if *width == 2 { 2 } else { 1 };
                if !(1..=4).contains(&take(&mut text, digits, 1)?) || *width == 4 {
                    return None;
                }
            }
            Part::Month(width) => parsed.month = Some(take(&mut text, *width, 2)?),
            Part::MonthText { full } => {
                let (month, rest) = name(text, &MONTHS, *full)?;
                parsed.month = Some(month as i64 + 1);
                text = rest;
            }
            Part::Day(width) => parsed.day = Some(take(&mut text, *width, 2)?),
            Part::DayOfYear(width) => parsed.day_of_year = Some(take(&mut text, *width, 3)?),
            Part::Weekday { full } => text = name(text, &WEEKDAYS, *full)?.1,
            Part::Hour(width) => parsed.hour = Some(take(&mut text, *width, 2)?),
            Part::HourFrom1(width) => {
                let hour = take(&mut text, *width, 2)?;
                parsed.hour = Some(if hour == 24 {
                    0
                } else if hour == 0 {
                    return None;
                } else {
                    hour
                });
            }
            Part::HourOfHalf(width) => match take(&mut text, *width, 2)? {
                12 => parsed.hour_of_half = Some(0),
                hour @ 1..=11 => parsed.hour_of_half = Some(hour),
                _ => return None,
            },
            Part::HourOfHalfFrom0(width) => match take(&mut text, *width, 2)? {
                hour @ 0..=11 => parsed.hour_of_half = Some(hour),
                _ => return None,
            },
            Part::HalfOfDay => {
                parsed.afternoon = text.starts_with("PM");
                text = text.strip_prefix("AM").or_else(|| text.strip_prefix("PM"))?;
            }
            Part::Minute(width) => parsed.minute = take(&mut text, *width, 2)?,
            Part::Second(width) => parsed.second = take(&mut text, *width, 2)?,
            Part::Fraction(width) => {
                let digits = text.bytes().take(*width).take_while(u8::is_ascii_digit).count();
                if digits == 0 {
                    return None;
                }
                parsed.micros = fraction(&text.as_bytes()[..digits], 9) / 1000;
                text = &text[digits..];
            }
            Part::Era => {
                parsed.before_christ = text.starts_with("BC");
                text = text.strip_prefix("AD").or_else(|| text.strip_prefix("BC"))?;
            }
            Part::Offset { width, zero } => {
                let (seconds, rest) = take_offset(text, *width, *zero)?;
                parsed.zone = Some(Zone::Fixed(seconds));
                text = rest;
            }
            Part::LocalizedOffset { .. } => {
                let rest = text.strip_prefix("GMT")?;
                let end = rest.find(|c: char| !(c.is_ascii_digit() || "+-:".contains(c))).unwrap_or(rest.len());
                parsed.zone = Some(if end == 0 { Zone::UTC } else { Zone::Fixed(parse_offset(&rest[..end])?) });
                text = &rest[end..];
            }
            Part::ZoneId => {
                let end =
                    text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-:/_".contains(c))).unwrap_or(text.len());
                parsed.zone = Some(Zone::parse(&text[..end])?);
                text = &text[end..];
            }
            Part::OptionalBegin => {
                let end = section_end(&parts[index..]);
                let mut attempt = parsed.clone();
                if let Some(rest) = parse_parts(&parts[index..index + end], text, &mut attempt) {
                    *parsed = attempt;
                    text = rest;
                }
                index += end + 1;
            }
            Part::OptionalEnd => {}
        }
    }
    Some(text)
}

/// Index of the bracket that closes a section whose inside begins at 0.
fn section_end(parts: &[Part]) -> usize {
    let mut open = 1;
    for (index, part) in parts.iter().enumerate() {
        match part {
            Part::OptionalBegin => open += 1,
            Part::OptionalEnd => open -= 1,
            _ => {}
        }
        if open == 0 {
            return index;
        }
    }
    parts.len()
}

fn fixed_width(part: &Part) -> Option<usize> {
    match part {
        Part::Month(2) | Part::Day(2) | Part::Hour(2) | Part::Minute(2) | Part::Second(2) => Some(2),
        Part::HourFrom1(2) | Part::HourOfHalf(2) | Part::HourOfHalfFrom0(2) => Some(2),
        Part::DayOfYear(3) => Some(3),
        Part::Fraction(width) => Some(*width),
        _ => None,
    }
}

/// A number of exactly `width` digits, or for one letter of one to `most`.
fn take(text: &mut &str, width: usize, most: usize) -> Option<i64> {
    let (value, rest) = if width == 1 { number(text, 1, most)? } else { number(text, width, width)? };
    *text = rest;
    Some(value)
}

fn number(text: &str, least: usize, most: usize) -> Option<(i64, &str)> {
    let digits = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    (digits >= least).then(|| (take_number(&text.as_bytes()[..digits]).0, &text[digits..]))
}

fn name<'a>(text: &'a str, names: &[&str], full: bool) -> Option<(usize, &'a str)> {
    names
        .iter()
        .position(|name| text.starts_with(shorten(name, full)))
        .map(|index| (index, &text[shorten(names[index], full).len()..]))
}

fn take_offset<'a>(text: &'a str, width: usize, zero: Option<&str>) -> Option<(i32, &'a str)> {
    if zero == Some("Z")
        && let Some(rest) = text.strip_prefix('Z')
    {
        return Some((0, rest));
    }
    if !text.starts_with(['+', '-']) {
        return None;
    }
    let colon = width == 3 || width == 5;
    let pairs = |count: usize| 1 + count * 2 + if colon { count - 1 } else { 0 };
    let lengths: &[usize] = match width {
        1 => &[2, 1],
        2 | 3 => &[2],
        _ => &[3, 2],
    };
    for count in lengths {
        if let Some(front) = text.get(..pairs(*count))
            && front.contains(':') == (colon && *count > 1)
            && let Some(seconds) = parse_offset(front)
        {
            return Some((seconds, &text[front.len()..]));
        }
    }
    None
}

impl Parsed {
    /// What the text leaves out is that of 1970-01-01T00:00:00, as in Spark.
    fn days(&self) -> Option<i32> {
        let year = self.year.unwrap_or(1970);
        let year = if self.before_christ { 1 - year } else { year };
        if let (Some(day), None) = (self.day_of_year, self.month) {
            let first = days_from_civil(year, 1, 1)?;
            let length = days_from_civil(year + 1, 1, 1)? - first;
            let day = i32::try_from(day).ok()?;
            return (1..=length).contains(&day).then_some(first + day - 1);
        }
        let part = |value: Option<i64>| u32::try_from(value.unwrap_or(1)).ok();
        days_from_civil(year, part(self.month)?, part(self.day)?)
    }
    fn local(&self) -> Option<i64> {
        let hour = match (self.hour, self.hour_of_half) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => hour + if self.afternoon { 12 } else { 0 },
            (None, None) => 0,
        };
        local_micros(self.days()?, hour, self.minute, self.second, self.micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        chrono::DateTime::parse_from_rfc3339(text).expect(text).timestamp_micros()
    }

    #[test]
    fn civil_round_trip() {
        for days in (-1_000_000..4_000_000).step_by(97) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day).map(i64::from), Some(days));
        }
        assert_eq!(days_from_civil(2000, 2, 29), Some(11_016));
        assert_eq!(days_from_civil(1900, 2, 29), None);
    }

    #[test]
    fn timestamps_as_cast_reads_them() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(parse_timestamp(text, &Zone::UTC), expect.map(us), "{text}");
        };
        check("2024-02-29T23:59:58.123456Z", Some("2024-02-29T23:59:58.123456Z"));
        check(" 2024-02-29 23:59:58.1234567891 ", Some("2024-02-29T23:59:58.123456Z"));
        check("2024-1-2 3:4:5", Some("2024-01-02T03:04:05Z"));
        check("2024", Some("2024-01-01T00:00:00Z"));
        check("2024-03", Some("2024-03-01T00:00:00Z"));
        check("2024-03-04", Some("2024-03-04T00:00:00Z"));
        check("2024-03-04T05:06", Some("2024-03-04T05:06:00Z"));
        check("2024-03-04 05:06:07+01:30", Some("2024-03-04T03:36:07Z"));
        check("2024-03-04 05:06:07 -8:00", Some("2024-03-04T13:06:07Z"));
        check("2024-03-04 05:06:07.5UTC+1", Some("2024-03-04T04:06:07.5Z"));
        check("2024-07-04 05:06:07 Europe/Paris", Some("2024-07-04T03:06:07Z"));
        check("2024-07-04 05:06:07 Mars/Olympus", None);
        check("2024-02-30", None);
        check("2024-02-03 24:00:00", None);
        check("2024-02-03T", None);
        check("24-02-03", None);
        check("12:13:14", None);
        check("", None);
        check("2024-02-03 10:11:12é", None);
        assert_eq!(parse_timestamp_ntz("2024-03-04 05:06:07"), Some(us("2024-03-04T05:06:07Z")));
        assert_eq!(parse_timestamp_ntz("2024-03-04 05:06:07Z"), None);
    }

    #[test]
    fn local_times_that_do_not_exist_or_exist_twice() {
        let paris = Zone::parse("Europe/Paris").expect("zone");
        assert_eq!(parse_timestamp("2024-03-31 02:30:00", &paris), Some(us("2024-03-31T01:30:00Z")));
        assert_eq!(parse_timestamp("2024-10-27 02:30:00", &paris), Some(us("2024-10-27T00:30:00Z")));
        assert_eq!(paris.offset_at(us("2024-07-01T00:00:00Z")), 7200);
    }

    #[test]
    fn dates_as_cast_reads_them() {
        let check = |text: &str, expect: Option<i32>| assert_eq!(parse_date(text), expect, "{text}");
        check("1970-01-02", Some(1));
        check("1970-1-2T anything", Some(1));
        check("1969", Some(-365));
        check("-0001-01-01", days_from_civil(-1, 1, 1));
        check("1970-01-02x", None);
        check("1970-13-02", None);
        check("70-01-02", None);
    }

    #[test]
    fn patterns_read() {
        #[track_caller]
        fn check(pattern: &str, text: &str, expect: Option<&str>) {
            let compiled = Pattern::compile(pattern).expect(pattern);
            assert_eq!(compiled.parse_timestamp(text, &Zone::UTC), expect.map(us), "{pattern} {text}");
        }
        check("yyyy-MM-dd HH:mm:ss", "2024-03-04 05:06:07", Some("2024-03-04T05:06:07Z"));
        check("yyyy-MM-dd HH:mm:ss", "2024-3-04 05:06:07", None);
        check("yyyyMMddHHmmss", "20240304050607", Some("2024-03-04T05:06:07Z"));
        check("d/M/yyyy", "4/12/2024", Some("2024-12-04T00:00:00Z"));
        check("dd MMM yy, hh:mm a", "04 Mar 24, 12:06 PM", Some("2024-03-04T12:06:00Z"));
        check("EEE MMM dd HH:mm:ss Z yyyy", "Mon Mar 04 05:06:07 +0100 2024", Some("2024-03-04T04:06:07Z"));
        check("yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]", "2024-03-04T05:06:07.25+01:00", Some("2024-03-04T04:06:07.25Z"));
        check("yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]", "2024-03-04T05:06:07", Some("2024-03-04T05:06:07Z"));
        check("yyyy-MM-dd'T'HH:mm:ss.SSSSSSX", "2024-03-04T05:06:07.000001Z", Some("2024-03-04T05:06:07.000001Z"));
        check("yyyy-MM-dd HH:mm VV", "2024-07-04 05:06 Europe/Paris", Some("2024-07-04T03:06:00Z"));
        check("HH:mm", "05:06", Some("1970-01-01T05:06:00Z"));
        check("yyyy", "2024-", None);
        assert!(Pattern::compile("yyyy-bb").is_err());
        assert!(Pattern::compile("yyyy 'open").is_err());
    }

    #[test]
    fn patterns_write() {
        #[track_caller]
        fn check(pattern: &str, zone: &str, expect: &str) {
            let zone = Zone::parse(zone).expect(zone);
            let instant = us("2024-03-04T15:06:07.089012Z");
            let offset = zone.offset_at(instant);
            let mut out = String::new();
            let local = instant + i64::from(offset) * MICROS_PER_SECOND;
            Pattern::compile(pattern).expect(pattern).format(local, &zone, offset, &mut out);
            assert_eq!(out, expect);
        }
        check("yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]", "UTC", "2024-03-04T15:06:07.089Z");
        check("yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]", "+05:30", "2024-03-04T20:36:07.089+05:30");
        check("EEEE, d MMMM yy h:mm a SSSSSS", "UTC", "Monday, 4 March 24 3:06 PM 089012");
        check("DDD x Z O VV", "Europe/Paris", "064 +01 +0100 GMT+1 Europe/Paris");
    }
}
