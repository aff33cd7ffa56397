//! HTTP: health, metrics, and a JSON API over what the manager and the cluster know.

use crate::cluster::Cluster;
use crate::ha::Tenure;
use crate::ingest::Ingest;
use crate::metrics;
use crate::streaming::manager::Manager;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use headwater_proto::engine::{QueryStatus, Trouble};
use headwater_proto::error::{Error, ErrorKind};
use headwater_proto::ingest;
use serde_json::{Value, json};

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
        .route("/metrics", get(prometheus))
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
        "badRows": status.bad_rows,
        "badRecords": status.bad_records,
        "message": status.message,
        "trigger": status.trigger,
        "checkpoint": status.checkpoint,
        "trouble": status.trouble.as_ref().map(Trouble::json),
    })
}

/// Prometheus' text format.
async fn prometheus(State(facts): State<Facts>) -> Response {
    let executors = facts.cluster.executors().await;
    let facts = metrics::Facts { queries: facts.manager.monitors(), executors, runs: facts.ingest.known() };
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(facts)).into_response()
}
