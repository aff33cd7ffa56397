//! What clients and servers say of ingest runs alike.

use crate::engine::{IngestRun, IngestState};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

/// The state without its prefix: `FETCHING`.
pub fn state_name(state: IngestState) -> &'static str {
    state.as_str_name().trim_start_matches("INGEST_STATE_")
}

/// Whether a run in this state may still do something.
pub fn is_active(state: IngestState) -> bool {
    matches!(state, IngestState::Pending | IngestState::Fetching | IngestState::Publishing)
}

/// A run as the command line and the HTTP API show it.
pub fn json(run: &IngestRun) -> Value {
    let time = |at: Option<prost_types::Timestamp>| {
        at.and_then(|at| DateTime::from_timestamp(at.seconds, at.nanos.max(0) as u32))
            .map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
    };
    // Maps of messages have no order.
    let mut reasons: Vec<_> = run.rejected_by_reason.iter().collect();
    reasons.sort();
    let reasons: Map<String, Value> =
        reasons.into_iter().map(|(reason, users)| (reason.clone(), json!(users))).collect();
    let mut ends: Vec<_> = run.end_offsets.iter().collect();
    ends.sort();
    let ends: Map<String, Value> =
        ends.into_iter().map(|(partition, end)| (partition.to_string(), json!(end))).collect();
    json!({
        "runId": run.run_id,
        "state": state_name(run.state()),
        "source": run.source,
        "topic": run.topic,
        "seed": run.seed,
        "format": run.format,
        "requested": run.requested,
        "fetched": run.fetched,
        "staged": run.staged,
        "published": run.published,
        "rejected": run.rejected,
        "duplicates": run.duplicates,
        "rejectedByReason": reasons,
        "message": run.message,
        "errorClass": Some(&run.error_class).filter(|class| !class.is_empty()),
        "startedAt": time(run.started_at),
        "updatedAt": time(run.updated_at),
        "endedAt": time(run.ended_at),
        "endOffsets": ends,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_as_json() {
        let mut run = IngestRun { run_id: "r".into(), ..IngestRun::default() };
        run.set_state(IngestState::Fetching);
        run.end_offsets.extend([(10, 5), (2, 7)]);
        run.started_at = Some(prost_types::Timestamp { seconds: 0, nanos: 5_000_000 });
        let shown = json(&run);
        assert_eq!(shown["state"], "FETCHING");
        assert_eq!(shown["endOffsets"].to_string(), r#"{"2":7,"10":5}"#);
        assert_eq!((shown["startedAt"].as_str(), &shown["endedAt"]), (Some("1970-01-01T00:00:00.005Z"), &Value::Null));
        assert!(is_active(run.state()) && !is_active(IngestState::Failed));
    }
}
