//! When the next micro-batch of a query may run, and when the query is done: pure functions of the trigger and of what
//! the last one did.

use headwater_executor::functions::event_windows::micros_of_unit;
use headwater_proto::error::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Length of a real-time batch when none is given: its checkpoint interval.
pub const REAL_TIME_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Spark's `spark.sql.streaming.realTimeMode.minBatchDuration`.
pub const REAL_TIME_MIN: Duration = Duration::from_secs(5);

/// When batches run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trigger {
    /// One after the other, as soon as there is data.
    #[default]
    Default,
    /// At multiples of the interval, when there is data. Zero is as [`Trigger::Default`].
    ProcessingTime(Duration),
    /// In as many batches as the rate limits make, all that was there at the start; then the query ends.
    AvailableNow,
    /// One batch, without rate limits; then the query ends.
    Once,
    /// Batches of this length, whose tasks process records as they arrive.
    RealTime(Duration),
}

/// What follows a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next trigger, at this time in milliseconds since the epoch: at once when that is past.
    At(i64),
    /// None: the query has ended.
    Finished,
}

impl Trigger {
    /// What follows a trigger that began at `began_ms` and ran a batch, or found nothing to run. Batches are aligned to
    /// multiples of the interval since the epoch, as Spark's are, and a missed one runs at once.
    pub fn next(self, began_ms: i64, ran: bool) -> Next {
        match self {
            Self::Default | Self::RealTime(_) => Next::At(began_ms),
            Self::ProcessingTime(interval) => Next::At(next_boundary_ms(began_ms, interval)),
            Self::AvailableNow if ran => Next::At(began_ms),
            Self::AvailableNow | Self::Once => Next::Finished,
        }
    }

    /// How long to wait for the trigger that follows, when it is `now_ms`; none when the query has ended.
    pub fn wait(self, began_ms: i64, ran: bool, now_ms: i64) -> Option<Duration> {
        match self.next(began_ms, ran) {
            Next::At(at_ms) => {
                Some(Duration::from_millis(u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or_default()))
            }
            Next::Finished => None,
        }
    }

    /// Whether a trigger that began at `began_ms` and is over at `now_ms` took longer than the interval.
    pub fn is_behind(self, began_ms: i64, now_ms: i64) -> bool {
        match self {
            Self::ProcessingTime(interval) if !interval.is_zero() => now_ms.saturating_sub(began_ms) > millis(interval),
            _ => false,
        }
    }

    /// Whether the sources' rate limits apply: Spark's `once` ignores them.
    pub fn is_limited(self) -> bool {
        self != Self::Once
    }

    /// Whether the query ends by itself.
    pub fn is_bounded(self) -> bool {
        matches!(self, Self::AvailableNow | Self::Once)
    }

    /// Whether batches end where the sources were when the query started, not where they are now.
    pub fn stops_at_start(self) -> bool {
        self == Self::AvailableNow
    }

    /// `realTime='…'`.
    ///
    /// # Errors
    /// `INVALID_STREAMING_REAL_TIME_MODE_TRIGGER_INTERVAL` below Spark's minimum.
    pub fn real_time(length: Duration) -> Result<Self> {
        if length < REAL_TIME_MIN {
            return Err(Error::invalid(
                "INVALID_STREAMING_REAL_TIME_MODE_TRIGGER_INTERVAL",
                format!(
                    "the real-time trigger interval is set to {} ms, less than the minimum of {} ms: name {} or more",
                    length.as_millis(),
                    REAL_TIME_MIN.as_millis(),
                    Interval(REAL_TIME_MIN)
                ),
            ));
        }
        Ok(Self::RealTime(length))
    }
}

/// The first multiple of `interval` after `now_ms`, so that the boundary itself belongs to the interval it begins.
fn next_boundary_ms(now_ms: i64, interval: Duration) -> i64 {
    match millis(interval) {
        0 => now_ms,
        interval => (now_ms / interval).saturating_add(1).saturating_mul(interval),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::ProcessingTime(interval) => Interval(*interval).fmt(f),
            Self::AvailableNow => f.write_str("available-now"),
            Self::Once => f.write_str("once"),
            Self::RealTime(REAL_TIME_DEFAULT) => f.write_str("real-time"),
            Self::RealTime(length) => write!(f, "real-time {}", Interval(*length)),
        }
    }
}

impl FromStr for Trigger {
    type Err = Error;

    /// `default`, `5 seconds` (any interval of Spark's), `available-now`, `once`, `real-time`, `real-time 10 minutes`;
    /// words in any case and joined by anything: `availableNow`, `real_time`.
    fn from_str(text: &str) -> Result<Self> {
        let trimmed = text.trim();
        let word = |text: &str| text.replace(['-', '_', ' '], "").to_ascii_lowercase();
        match word(trimmed).as_str() {
            "default" => return Ok(Self::Default),
            "availablenow" => return Ok(Self::AvailableNow),
            "once" => return Ok(Self::Once),
            "realtime" => return Ok(Self::RealTime(REAL_TIME_DEFAULT)),
            _ => {}
        }
        // "real-time 10 minutes", "realTime=10 minutes".
        for name in ["real-time", "realtime", "real_time"] {
            let (head, rest) = trimmed.split_at_checked(name.len()).unwrap_or_default();
            if head.eq_ignore_ascii_case(name) && rest.starts_with([' ', '=']) {
                return Self::real_time(parse_interval(rest.trim_start_matches([' ', '=']))?);
            }
        }
        let interval_like = trimmed.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            || trimmed.get(..8).is_some_and(|word| word.eq_ignore_ascii_case("interval"));
        if interval_like {
            return parse_interval(trimmed).map(Self::ProcessingTime);
        }
        Err(Error::invalid(
            "INVALID_TRIGGER",
            format!(
                "{text:?} is no trigger: use default, an interval such as '5 seconds', available-now, once or real-time"
            ),
        ))
    }
}

/// A duration of whole milliseconds in Spark's words.
struct Interval(Duration);

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        let mut parts = Vec::new();
        for (unit, length) in
            [("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1000), ("millisecond", 1)]
        {
            let count = rest / length;
            rest %= length;
            if count > 0 {
                parts.push(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }));
            }
        }
        if parts.is_empty() {
            parts.push("0 seconds".into());
        }
        f.write_str(&parts.join(" "))
    }
}

/// An interval in Spark's words, such as `1 minute 30 seconds`, `interval 500 milliseconds`, `1.5 seconds`. As in
/// Spark's triggers, months and years are refused, and what is below a millisecond is cut off.
///
/// # Errors
/// `CANNOT_PARSE_INTERVAL` when it is not one, or is negative.
pub fn parse_interval(text: &str) -> Result<Duration> {
    let refused = |reason: &str| {
        Error::invalid(
            "CANNOT_PARSE_INTERVAL",
            format!(
                "unable to parse {text:?} as an interval: {reason}; write it as '5 seconds' or '1 minute 30 seconds'"
            ),
        )
    };
    let lower = text.to_ascii_lowercase();
    let mut words = lower.split_whitespace().peekable();
    words.next_if_eq(&"interval");
    if words.peek().is_none() {
        return Err(refused("it is empty"));
    }
    let mut micros = 0i128;
    while let Some(word) = words.next() {
        let number = match word {
            "+" | "-" => format!("{word}{}", words.next().ok_or_else(|| refused("a sign needs a number"))?),
            _ => word.to_string(),
        };
        let unit = words.next().ok_or_else(|| refused(&format!("{number} needs a unit")))?;
        let length = match (micros_of_unit(unit), unit) {
            (Some(length), _) => i128::from(length),
            (None, "month" | "months" | "year" | "years") => {
                return Err(refused("months and years have no fixed length"));
            }
            (None, _) => return Err(refused(&format!("{unit} is no unit"))),
        };
        let (negative, digits) = match number.strip_prefix(['+', '-']) {
            Some(digits) => (number.starts_with('-'), digits),
            None => (false, number.as_str()),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some(_) if length != 1_000_000 => {
                return Err(refused(&format!("only seconds take a fraction, not {unit}")));
            }
            Some(parts) => parts,
            None => (digits, ""),
        };
        let is_number = whole.len() + fraction.len() > 0
            // Spark's seconds have at most nanoseconds; numbers are 64 bits.
            && whole.len() <= 19
            && fraction.len() <= 9
            && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
        if !is_number {
            return Err(refused(&format!("{number} is no number")));
        }
        // Both fit: at most 19 and exactly 6 digits.
        let whole = if whole.is_empty() { 0 } else { whole.parse::<i128>().map_err(|e| refused(&e.to_string()))? };
        let fraction = format!("{fraction:0<6}")[..6].parse::<i128>().map_err(|e| refused(&e.to_string()))?;
        let value = whole * length + fraction;
        micros += if negative { -value } else { value };
    }
    if micros < 0 {
        return Err(refused("it is negative"));
    }
    let millis = u64::try_from(micros / 1000).ok().filter(|millis| i64::try_from(*millis).is_ok());
    millis.map(Duration::from_millis).ok_or_else(|| refused("it is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn texts_become_triggers_and_back() {
        #[track_caller]
        fn check(text: &str, expect: Trigger, shown: &str) {
            let trigger = text.parse::<Trigger>().unwrap();
            assert_eq!((trigger, trigger.to_string().as_str()), (expect, shown));
            assert_eq!(shown.parse::<Trigger>().unwrap(), expect);
        }
        let every = |millis| Trigger::ProcessingTime(Duration::from_millis(millis));
        check("default", Trigger::Default, "default");
        check("5 seconds", every(5000), "5 seconds");
        check("1 second", every(1000), "1 second");
        check("1 minute 30 seconds", every(90_000), "1 minute 30 seconds");
        check("90 SECONDS", every(90_000), "1 minute 30 seconds");
        check("500 milliseconds", every(500), "500 milliseconds");
        check(" interval  2 hours ", every(7_200_000), "2 hours");
        check("1 week", every(604_800_000), "7 days");
        check("1.5 seconds", every(1500), "1 second 500 milliseconds");
        check(".25 seconds", every(250), "250 milliseconds");
        check("1 minute -30 seconds", every(30_000), "30 seconds");
        check("1 minute - 30 seconds", every(30_000), "30 seconds");
        check("1999 microseconds", every(1), "1 millisecond");
        check("0 seconds", every(0), "0 seconds");
        check("available-now", Trigger::AvailableNow, "available-now");
        check("availableNow", Trigger::AvailableNow, "available-now");
        check("Once", Trigger::Once, "once");
        check("real-time", Trigger::RealTime(REAL_TIME_DEFAULT), "real-time");
        check("realTime", Trigger::RealTime(REAL_TIME_DEFAULT), "real-time");
        check("real-time 10 minutes", Trigger::RealTime(600 * SECOND), "real-time 10 minutes");
        check("realTime=5 seconds", Trigger::RealTime(5 * SECOND), "real-time 5 seconds");
    }

    #[test]
    fn other_texts_are_refused_with_a_remedy() {
        #[track_caller]
        fn check(text: &str, class: &str, expect: &str) {
            let error = text.parse::<Trigger>().unwrap_err();
            assert!(error.class == class && error.message.contains(expect), "{error}");
        }
        check("", "INVALID_TRIGGER", "5 seconds");
        check("sometimes", "INVALID_TRIGGER", "available-now");
        check("interval", "CANNOT_PARSE_INTERVAL", "it is empty");
        check("5", "CANNOT_PARSE_INTERVAL", "5 needs a unit");
        check("5seconds", "CANNOT_PARSE_INTERVAL", "needs a unit");
        check("5 parsecs", "CANNOT_PARSE_INTERVAL", "parsecs is no unit");
        check("1 month", "CANNOT_PARSE_INTERVAL", "no fixed length");
        check("-5 seconds", "CANNOT_PARSE_INTERVAL", "negative");
        check("1.5 minutes", "CANNOT_PARSE_INTERVAL", "only seconds take a fraction");
        check("1e3 seconds", "CANNOT_PARSE_INTERVAL", "1e3 is no number");
        check(". seconds", "CANNOT_PARSE_INTERVAL", ". is no number");
        check("- seconds", "CANNOT_PARSE_INTERVAL", "needs a unit");
        check("9999999999999999999 weeks", "CANNOT_PARSE_INTERVAL", "too long");
        check("real-time 4 seconds", "INVALID_STREAMING_REAL_TIME_MODE_TRIGGER_INTERVAL", "4000 ms");
        check("real-time -5 seconds", "CANNOT_PARSE_INTERVAL", "negative");
        check("real-times 5 seconds", "INVALID_TRIGGER", "no trigger");
        check("real-time 1 month", "CANNOT_PARSE_INTERVAL", "no fixed length");
    }

    #[test]
    fn processing_time_keeps_to_multiples() {
        #[track_caller]
        fn check(began_ms: i64, now_ms: i64, wait_ms: u64) {
            let trigger = Trigger::ProcessingTime(Duration::from_millis(100));
            assert_eq!(trigger.wait(began_ms, true, now_ms), Some(Duration::from_millis(wait_ms)));
            assert_eq!(trigger.wait(began_ms, false, now_ms), Some(Duration::from_millis(wait_ms)));
        }
        check(0, 0, 100);
        check(1, 50, 50);
        check(99, 99, 1);
        check(100, 100, 100);
        check(100, 199, 1);
        // A missed boundary: at once, and the one after is on a multiple again.
        check(150, 350, 0);
        check(350, 360, 40);
        assert_eq!(Trigger::ProcessingTime(Duration::ZERO).wait(5, true, 9), Some(Duration::ZERO));
        assert_eq!(Trigger::ProcessingTime(Duration::MAX).next(5, true), Next::At(i64::MAX));
    }

    #[test]
    fn queries_end_when_they_should() {
        #[track_caller]
        fn check(trigger: Trigger, after_batch: Next, after_nothing: Next) {
            assert_eq!((trigger.next(7, true), trigger.next(7, false)), (after_batch, after_nothing));
            let bounded = after_nothing == Next::Finished;
            assert_eq!(trigger.is_bounded(), bounded);
        }
        check(Trigger::Default, Next::At(7), Next::At(7));
        check(Trigger::RealTime(REAL_TIME_DEFAULT), Next::At(7), Next::At(7));
        check(Trigger::ProcessingTime(Duration::from_millis(5)), Next::At(10), Next::At(10));
        check(Trigger::AvailableNow, Next::At(7), Next::Finished);
        check(Trigger::Once, Next::Finished, Next::Finished);
        assert!(!Trigger::Once.is_limited() && Trigger::AvailableNow.is_limited());
        assert!(Trigger::AvailableNow.stops_at_start() && !Trigger::Once.stops_at_start());
    }

    #[test]
    fn falling_behind_is_noticed() {
        let trigger = Trigger::ProcessingTime(SECOND);
        assert!(!trigger.is_behind(0, 1000) && trigger.is_behind(0, 1001));
        assert!(!Trigger::Default.is_behind(0, 1001) && !Trigger::ProcessingTime(Duration::ZERO).is_behind(0, 1));
    }
}
