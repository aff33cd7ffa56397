//! HTTP: health, metrics, and a JSON API over what the manager and the cluster know.

use crate::cluster::Cluster;
use crate::ha::Tenure;
use crate::ingest::Ingest;
use crate::streaming::manager::Manager;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use headwater_proto::engine::{IngestRun, QueryStatus};
use headwater_proto::error::{Error, ErrorKind};
use headwater_proto::ingest;
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(Clone)]
struct Facts {
    manager: Manager,
    cluster: Cluster,
    ingest: Ingest,
}

/// All routes of a scheduler that leads.
pub fn routes(manager: Manager, cluster: Cluster, ingest: Ingest, tenure: Tenure) -> Router {
    let health = Json(json!({"status": "ok", "role": "leader", "epoch": tenure.epoch()}));
    Router::new()
        .route("/healthz", get(|| async { health }))
        .route("/metrics", get(metrics))
        .route("/api/v1/executors", get(executors))
        .route("/api/v1/queries", get(queries))
        .route("/api/v1/queries/{id}", get(query))
        .route("/api/v1/queries/{id}/progress", get(progress))
        .route("/api/v1/ingest", get(ingest_runs))
        .route("/api/v1/ingest/{id}", get(ingest_run))
        .with_state(Facts { manager, cluster, ingest })
}

struct Failure(Error);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = match self.0.kind {
            ErrorKind::Transient => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::InvalidRequest => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::AlreadyExists => StatusCode::CONFLICT,
            ErrorKind::Fatal | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (code, Json(json!({"errorClass": self.0.class, "message": self.0.message}))).into_response()
    }
}

async fn executors(State(facts): State<Facts>) -> Response {
    Json(facts.cluster.executors().await).into_response()
}

async fn queries(State(facts): State<Facts>) -> Json<Vec<Value>> {
    Json(facts.manager.list().iter().map(query_json).collect())
}

async fn query(State(facts): State<Facts>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    facts.manager.get(&id).map(|status| Json(query_json(&status))).map_err(Failure)
}

async fn progress(State(facts): State<Facts>, Path(id): Path<String>) -> Result<Response, Failure> {
    let (recent, _, _) = facts.manager.progress(&id).map_err(Failure)?;
    Ok(Json(recent.iter().map(AsRef::as_ref).collect::<Vec<_>>()).into_response())
}

async fn ingest_runs(State(facts): State<Facts>) -> Result<Json<Vec<Value>>, Failure> {
    Ok(Json(facts.ingest.list(0).await.map_err(Failure)?.iter().map(ingest::json).collect()))
}

async fn ingest_run(State(facts): State<Facts>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    Ok(Json(ingest::json(&facts.ingest.get(&id).await.map_err(Failure)?)))
}

/// A query as the command line and the API show it.
pub fn query_json(status: &QueryStatus) -> Value {
    json!({
        "id": status.id,
        "runId": status.run_id,
        "name": status.name,
        "state": status.state,
        "batchId": status.batch_id,
        "inputRowsPerSecond": status.input_rows_per_second,
        "processedRowsPerSecond": status.processed_rows_per_second,
        "lag": status.lag_records,
        "message": status.message,
        "trigger": status.trigger,
        "checkpoint": status.checkpoint,
    })
}

/// Prometheus text format.
async fn metrics(State(facts): State<Facts>) -> Response {
    let (queries, executors) = (facts.manager.list(), facts.cluster.executors().await);
    let text = render(&queries, &executors, &facts.ingest.known()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn render(
    queries: &[QueryStatus],
    executors: &[crate::cluster::ExecutorInfo],
    runs: &[IngestRun],
) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, String, f64)>| {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        for (label, value, sample) in samples {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            writeln!(text, "{name}{{{label}=\"{value}\"}} {sample}")?;
        }
        Ok::<_, std::fmt::Error>(())
    };
    let by_query = |sample: fn(&QueryStatus) -> f64| {
        queries.iter().map(|query| ("query".to_string(), query.name.clone(), sample(query))).collect()
    };
    family(
        "headwater_query_active",
        "gauge",
        "1 while the query runs, waits or retries",
        by_query(|query| f64::from(u8::from(["RUNNING", "WAITING", "RETRYING"].contains(&query.state.as_str())))),
    )?;
    family("headwater_query_batch_id", "gauge", "Last batch", by_query(|query| query.batch_id as f64))?;
    family(
        "headwater_query_lag_records",
        "gauge",
        "Records not read yet; -1 when unknown",
        by_query(|query| query.lag_records as f64),
    )?;
    family(
        "headwater_query_input_rows_per_second",
        "gauge",
        "Rows that arrived",
        by_query(|query| query.input_rows_per_second),
    )?;
    family(
        "headwater_query_processed_rows_per_second",
        "gauge",
        "Rows processed",
        by_query(|query| query.processed_rows_per_second),
    )?;
    let by_executor = |sample: fn(&crate::cluster::ExecutorInfo) -> f64| {
        executors.iter().map(|executor| ("executor".to_string(), executor.id.clone(), sample(executor))).collect()
    };
    family(
        "headwater_executor_task_slots",
        "gauge",
        "Tasks at once",
        by_executor(|executor| f64::from(executor.task_slots)),
    )?;
    family(
        "headwater_executor_completed_tasks_total",
        "counter",
        "Tasks that ended well",
        by_executor(|executor| executor.tasks_completed as f64),
    )?;
    family(
        "headwater_executor_memory_bytes",
        "gauge",
        "Resident memory",
        by_executor(|executor| executor.memory_bytes as f64),
    )?;
    let by_run = |sample: fn(&IngestRun) -> f64| {
        runs.iter().map(|run| ("run".to_string(), run.run_id.clone(), sample(run))).collect()
    };
    family(
        "headwater_ingest_active",
        "gauge",
        "1 until the ingest run has ended",
        by_run(|run| f64::from(u8::from(ingest::is_active(run.state())))),
    )?;
    family("headwater_ingest_requested_users", "gauge", "Users to fetch", by_run(|run| run.requested as f64))?;
    family("headwater_ingest_fetched_users", "gauge", "Users that came", by_run(|run| run.fetched as f64))?;
    family("headwater_ingest_staged_users", "gauge", "Users in staging", by_run(|run| run.staged as f64))?;
    family(
        "headwater_ingest_published_users",
        "gauge",
        "Users that Kafka has acknowledged",
        by_run(|run| run.published as f64),
    )?;
    family("headwater_ingest_rejected_users", "gauge", "Users of no use", by_run(|run| run.rejected as f64))?;
    family(
        "headwater_ingest_duplicate_users",
        "gauge",
        "Users that were in staging before",
        by_run(|run| run.duplicates as f64),
    )?;
    Ok(text)
}
