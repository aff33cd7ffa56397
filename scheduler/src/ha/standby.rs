//! What a standby serves: it says that it is one, and who leads, until it leads itself.

use super::epochs::Leader;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, body::Body};
use headwater_proto::engine::LEADER_HEADER;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::metadata::MetadataValue;

/// What a standby knows of the leader.
pub type Known = watch::Receiver<Option<Leader>>;

/// Class of what a standby refuses.
const CLASS: &str = "SCHEDULER_STANDBY";

fn explanation(known: &Known) -> String {
    match &*known.borrow() {
        Some(leader) => format!(
            "[{CLASS}] this scheduler stands by; the leader is at {leader}: name both with --scheduler, by comma, or \
             talk to the leader"
        ),
        None => format!("[{CLASS}] this scheduler stands by, and nobody leads yet: try again"),
    }
}

fn status(known: &Known) -> Status {
    let mut status = Status::unavailable(explanation(known));
    let address = known.borrow().as_ref().and_then(|leader| leader.address.parse::<MetadataValue<_>>().ok());
    if let Some(address) = address {
        status.metadata_mut().insert(LEADER_HEADER, address);
    }
    status
}

/// Serves a port of gRPC until `stop`: every call is refused.
pub async fn grpc(
    listener: TcpListener,
    known: Known,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let refuse = move || {
        let known = known.clone();
        async move { status(&known).into_http::<Body>() }
    };
    tonic::transport::Server::builder()
        .add_routes(Router::new().fallback(refuse).into())
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop)
        .await
}

/// The routes of HTTP.
pub fn routes(known: Known) -> Router {
    let health = {
        let known = known.clone();
        move || {
            let known = known.clone();
            async move { Json(json!({"status": "ok", "role": "standby", "leader": address(&known)})) }
        }
    };
    let metrics = || async {
        "# HELP headwater_leader Whether this scheduler leads\n# TYPE headwater_leader gauge\nheadwater_leader 0\n"
    };
    let refuse = move || {
        let known = known.clone();
        async move { refusal(&known) }
    };
    Router::new().route("/healthz", get(health)).route("/metrics", get(metrics)).fallback(refuse)
}

fn address(known: &Known) -> Option<String> {
    known.borrow().as_ref().map(|leader| leader.address.clone())
}

fn refusal(known: &Known) -> Response {
    let body = json!({"errorClass": CLASS, "message": explanation(known), "leader": address(known)});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_standby_names_the_leader() {
        let (sender, known) = watch::channel(None);
        assert!(status(&known).message().contains("nobody leads yet"));
        let leader = Leader { holder: uuid::Uuid::new_v4(), address: "h:1".into(), process: "p".into() };
        sender.send_replace(Some(leader));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(grpc(listener, known, async move {
            let _ = stopped.await;
        }));
        let mut client =
            headwater_proto::engine::query_service_client::QueryServiceClient::connect(address).await.unwrap();
        let refused = client.list(headwater_proto::engine::ListRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert!(refused.message().starts_with("[SCHEDULER_STANDBY]") && refused.message().contains("h:1 (p)"));
        assert_eq!(refused.metadata().get(LEADER_HEADER).unwrap(), "h:1");
        drop((client, stop));
        server.await.unwrap().unwrap();
    }
}
