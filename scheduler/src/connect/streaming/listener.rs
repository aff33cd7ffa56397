//! The listener bus of a session: what its queries do, as events in Spark's JSON.
//!
//! Clients of Spark 4 keep one bus a session and call their listeners themselves. Events wait in a bounded queue; a
//! client that is too far behind misses the oldest, which is logged.

use crate::connect::sessions::Session;
use crate::streaming::progress::{EventKind, QueryEvent, timestamp};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::streaming_query_listener_bus_command::Command;
use serde_json::json;
use std::sync::PoisonError;
use std::time::SystemTime;
use tokio::sync::{broadcast, watch};

/// Adds or removes the session's listener. The stream of an added one ends when it is removed, replaced by another, or
/// the session ends.
///
/// # Errors
/// A command that says nothing.
pub fn listen(
    session: &Session,
    command: spark::StreamingQueryListenerBusCommand,
) -> Result<BoxStream<'static, spark::StreamingQueryListenerEventsResult>> {
    let mut listener = session.streaming().listener.lock().unwrap_or_else(PoisonError::into_inner);
    match command.command {
        Some(Command::AddListenerBusListener(true)) => {
            let (stop, stopped) = watch::channel(false);
            if let Some(before) = listener.replace(stop) {
                // The receiver gone means that the stream has ended.
                let _ = before.send(true);
            }
            let events = session.statements().manager.events();
            let owner = session.server_side_id().to_string();
            let added =
                spark::StreamingQueryListenerEventsResult { events: vec![], listener_bus_listener_added: Some(true) };
            let bus = Bus { owner, events, stopped, over: false };
            let events = stream::unfold(bus, |mut bus| async move { bus.next().await.map(|result| (result, bus)) });
            Ok(stream::once(async { added }).chain(events).boxed())
        }
        Some(Command::RemoveListenerBusListener(true)) => {
            if let Some(stop) = listener.take() {
                let _ = stop.send(true);
            }
            Ok(stream::empty().boxed())
        }
        _ => Err(Error::invalid("CONNECT_INVALID_PLAN", "a command of the listener bus neither adds nor removes")),
    }
}

struct Bus {
    owner: String,
    events: broadcast::Receiver<QueryEvent>,
    stopped: watch::Receiver<bool>,
    /// What is queued is still sent; then the stream ends.
    over: bool,
}

impl Bus {
    async fn next(&mut self) -> Option<spark::StreamingQueryListenerEventsResult> {
        loop {
            let event = if self.over {
                match self.events.try_recv() {
                    Ok(event) => Ok(event),
                    Err(broadcast::error::TryRecvError::Lagged(missed)) => Err(missed),
                    Err(_) => return None,
                }
            } else {
                tokio::select! {
                    biased;
                    event = self.events.recv() => match event {
                        Ok(event) => Ok(event),
                        Err(broadcast::error::RecvError::Lagged(missed)) => Err(missed),
                        Err(broadcast::error::RecvError::Closed) => return None,
                    },
                    // The sender gone is the session's end.
                    _ = self.stopped.wait_for(|stopped| *stopped) => {
                        self.over = true;
                        continue;
                    }
                }
            };
            match event {
                Ok(event) if event.owner.as_deref() == Some(self.owner.as_str()) => {
                    return Some(spark::StreamingQueryListenerEventsResult {
                        events: vec![message(&event)],
                        listener_bus_listener_added: None,
                    });
                }
                Ok(_) => {}
                Err(missed) => {
                    tracing::warn!(
                        session = self.owner,
                        missed,
                        "a listener of streaming queries is too slow: events are lost"
                    );
                }
            }
        }
    }
}

/// An event in Spark's words.
fn message(event: &QueryEvent) -> spark::StreamingQueryListenerEvent {
    let QueryEvent { id, run_id, kind, .. } = event;
    let (event_type, event) = match kind {
        EventKind::Progress(progress) => {
            (spark::StreamingQueryEventType::QueryProgressEvent, json!({"progress": **progress}))
        }
        EventKind::Idle { timestamp } => {
            (spark::StreamingQueryEventType::QueryIdleEvent, json!({"id": id, "runId": run_id, "timestamp": timestamp}))
        }
        EventKind::Terminated { error } => (
            spark::StreamingQueryEventType::QueryTerminatedEvent,
            json!({
                "id": id,
                "runId": run_id,
                "exception": error.as_ref().map(ToString::to_string),
                "errorClassOnException": error.as_ref().map(|error| &error.class),
            }),
        ),
    };
    spark::StreamingQueryListenerEvent { event_json: event.to_string(), event_type: event_type.into() }
}

/// The event of a query that has just been started.
pub fn started(id: &str, run_id: &str, name: Option<&str>) -> String {
    let timestamp = timestamp(SystemTime::now());
    json!({"id": id, "runId": run_id, "name": name, "timestamp": timestamp, "jobTags": []}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_spark_s() {
        let check = |kind: EventKind, event_type: i32, expect: &str| {
            let event = QueryEvent { owner: None, id: "i".into(), run_id: "r".into(), kind };
            let message = message(&event);
            assert_eq!((message.event_type, message.event_json.as_str()), (event_type, expect));
        };
        let idle = EventKind::Idle { timestamp: "t".into() };
        check(idle, 3, r#"{"id":"i","runId":"r","timestamp":"t"}"#);
        let stopped = EventKind::Terminated { error: None };
        check(stopped, 2, r#"{"id":"i","runId":"r","exception":null,"errorClassOnException":null}"#);
        let failed = EventKind::Terminated { error: Some(Error::fatal("X", "gone")) };
        check(failed, 2, r#"{"id":"i","runId":"r","exception":"[X] gone","errorClassOnException":"X"}"#);
    }
}
