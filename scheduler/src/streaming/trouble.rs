//! What keeps a query from going on, for people: which system, since when, which attempt, when the next, what to do.
//! Pure: facts in, words out.

use crate::streaming::unix_ms;
use headwater_proto::engine::Trouble;
use headwater_proto::error::Error;
use std::time::{Duration, SystemTime};

/// Attempts that failed one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Streak {
    /// When the first of them failed.
    pub since: SystemTime,
    /// How many.
    pub attempts: u32,
}

/// What there is to say after an attempt failed and before the next.
pub fn of(error: &Error, streak: Streak, next: SystemTime) -> Trouble {
    Trouble {
        error_class: error.class.clone(),
        error: error.message.clone(),
        system: system(&error.class).into(),
        since_ms: unix_ms(streak.since),
        attempts: streak.attempts,
        next_attempt_ms: unix_ms(next),
        remedy: remedy(error).into(),
    }
}

/// The line of a status: the error, and when it goes on.
pub fn message(error: &Error, streak: Streak, pause: Duration) -> String {
    format!("{error}; {}; trying again in {pause:?}", failed(streak))
}

/// The same, while the next attempt is under way.
pub fn under_way(error: &Error, streak: Streak) -> String {
    format!("{error}; {}; trying again now", failed(streak))
}

fn failed(streak: Streak) -> String {
    let since = chrono::DateTime::<chrono::Utc>::from(streak.since).format("%Y-%m-%d %H:%M:%S UTC");
    format!("attempt {} failed, the first at {since}", streak.attempts)
}

/// The system that an error is about, by its class.
fn system(class: &str) -> &'static str {
    const SYSTEMS: [(&str, &str); 15] = [
        ("KAFKA_", "kafka"),
        ("CASSANDRA_", "cassandra"),
        ("POSTGRES_", "postgres"),
        ("SCHEMA_REGISTRY_", "schema registry"),
        ("RANDOMUSER_", "web API"),
        ("CHECKPOINT_", "checkpoint storage"),
        ("STATE_DIR", "state directory"),
        // Where it says who leads.
        ("LEADERSHIP_", "state directory"),
        ("STORAGE_", "storage"),
        ("IO_ERROR", "storage"),
        ("NO_EXECUTORS", "executors"),
        ("EXECUTORS_", "executors"),
        ("JOB_", "executors"),
        ("RESULT_", "executors"),
        ("UNABLE_TO_ACQUIRE_MEMORY", "executors"),
    ];
    SYSTEMS.iter().find(|(prefix, _)| class.starts_with(prefix)).map_or("headwater", |(_, system)| system)
}

/// What a person can do. The query itself goes on trying, whatever they do.
fn remedy(error: &Error) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| error.message.contains(word));
    if error.class == "STORAGE_FULL" || says(&["No space left", "os error 28", "QuotaExceeded", "disk full"]) {
        return "free space on the full disk; the query goes on by itself";
    }
    if says(&["Name or service not known", "failed to lookup address", "Failed to resolve", "name resolution"]) {
        return "check the host name in the table's options, and that name resolution works on scheduler and executors";
    }
    match system(&error.class) {
        "kafka" => {
            "start the brokers or make them reachable from scheduler and executors; check kafka.bootstrap.servers"
        }
        "cassandra" if error.class == "CASSANDRA_REQUEST_FAILED" => {
            "look at Cassandra's load and logs; fewer requests at once: spark.cassandra.output.concurrent.writes"
        }
        "cassandra" => {
            "start Cassandra or make it reachable from scheduler and executors; check spark.cassandra.connection.host"
        }
        "postgres" => "start PostgreSQL or make it reachable from scheduler and executors; check url",
        "schema registry" => "start the registry or make it reachable; check schema.registry.url",
        "checkpoint storage" | "state directory" | "storage" => {
            "make the store writable and reachable again: its service, its credentials, its free space"
        }
        "executors" if error.class == "JOB_DEADLINE_EXCEEDED" => {
            "more executors or smaller batches (maxOffsetsPerTrigger), or a longer headwater.batch.deadline"
        }
        "executors" => "look at the executors' logs; start more with: headwater executor",
        _ => "none is known; the message says what happened",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn what_failed_and_what_to_do() {
        let streak = Streak { since: UNIX_EPOCH + Duration::from_secs(60), attempts: 3 };
        let check = |class: &str, message: &str, system: &str, remedy: &str| {
            let error = Error::transient(class, message);
            let trouble = of(&error, streak, UNIX_EPOCH + Duration::from_secs(90));
            assert_eq!((trouble.system.as_str(), trouble.remedy.contains(remedy)), (system, true), "{trouble:?}");
            assert_eq!((trouble.since_ms, trouble.attempts, trouble.next_attempt_ms), (60_000, 3, 90_000));
        };
        check("KAFKA_UNREACHABLE", "brokers h:9092 do not answer", "kafka", "kafka.bootstrap.servers");
        check("CASSANDRA_UNREACHABLE", "h: Name or service not known", "cassandra", "name resolution");
        check("CHECKPOINT_UNAVAILABLE", "failed to write: No space left on device", "checkpoint storage", "free space");
        let full = "failed to write file:///t/part-0.parquet: no space left there";
        check("STORAGE_FULL", full, "storage", "free space on the full disk");
        check("STORAGE_UNAVAILABLE", "no answer", "storage", "reachable again");
        check("JOB_DEADLINE_EXCEEDED", "job q batch 1", "executors", "headwater.batch.deadline");
        check("LEADERSHIP_UNCONFIRMED", "it is not certain that this scheduler leads", "state directory", "writable");
        check("ODD", "odd", "headwater", "message");
    }

    #[test]
    fn one_line() {
        let streak = Streak { since: UNIX_EPOCH, attempts: 2 };
        let error = Error::transient("KAFKA_UNREACHABLE", "gone");
        assert_eq!(
            message(&error, streak, Duration::from_secs(1)),
            "[KAFKA_UNREACHABLE] gone; attempt 2 failed, the first at 1970-01-01 00:00:00 UTC; trying again in 1s"
        );
    }
}
