//! What clients and servers say alike of what keeps a query from going on.

use crate::engine::Trouble;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use std::time::Duration;

fn time(unix_ms: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(unix_ms)
}

impl Trouble {
    /// As the command line and the HTTP API show it to programs.
    pub fn json(&self) -> Value {
        let time = |unix_ms| time(unix_ms).map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true));
        json!({
            "errorClass": self.error_class,
            "system": self.system,
            "error": self.error,
            "since": time(self.since_ms),
            "attempts": self.attempts,
            "nextAttempt": time(self.next_attempt_ms),
            "remedy": self.remedy,
        })
    }

    /// What it says to a person: a name and a text each.
    pub fn lines(&self, now_ms: i64) -> [(&'static str, String); 4] {
        let show = |at: Option<DateTime<Utc>>| at.map_or_else(String::new, |at| at.format("%F %T UTC").to_string());
        let failing = format!(
            "since {}, for {}; {} {} failed",
            show(time(self.since_ms)),
            span(now_ms - self.since_ms),
            self.attempts,
            if self.attempts == 1 { "attempt" } else { "attempts" },
        );
        let next = match self.next_attempt_ms - now_ms {
            ..=0 => "under way".to_string(),
            wait => format!("in {}, at {}", span(wait), show(time(self.next_attempt_ms))),
        };
        [("system", self.system.clone()), ("failing", failing), ("next try", next), ("remedy", self.remedy.clone())]
    }
}

/// `2h 5m`, `3m 20s`, `8s`.
fn span(ms: i64) -> String {
    let seconds = Duration::from_millis(ms.max(0) as u64).as_secs();
    match seconds {
        3600.. => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        60.. => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let trouble = Trouble {
            system: "kafka".into(),
            since_ms: 0,
            attempts: 3,
            next_attempt_ms: 208_000,
            remedy: "start it".into(),
            ..Trouble::default()
        };
        let lines = trouble.lines(200_000).map(|(name, text)| format!("{name}: {text}"));
        assert_eq!(
            lines,
            [
                "system: kafka",
                "failing: since 1970-01-01 00:00:00 UTC, for 3m 20s; 3 attempts failed",
                "next try: in 8s, at 1970-01-01 00:03:28 UTC",
                "remedy: start it"
            ]
        );
        assert_eq!(trouble.lines(208_000)[2].1, "under way");
        assert_eq!(trouble.json()["nextAttempt"], "1970-01-01T00:03:28.000Z");
        assert_eq!(span(7_500_000), "2h 5m");
    }
}
