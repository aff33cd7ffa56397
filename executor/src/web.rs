//! An executor's HTTP: whether it is registered, and what its process counts.

use crate::metrics;
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::routing::get;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A server, which ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves on `address`; port 0 picks one. `registered` is the id under which a scheduler knows the executor, empty when
/// none does.
///
/// # Errors
/// An address that cannot be listened on.
pub async fn serve(address: SocketAddr, registered: watch::Receiver<String>) -> Result<Server> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for HTTP: choose another with --http-port"))?;
    let address = listener.local_addr()?;
    let routes = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(|| async { ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render()) }))
        .with_state(registered);
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::warn!(%error, "the HTTP server ended");
        }
    });
    Ok(Server { address, task })
}

async fn health(State(registered): State<watch::Receiver<String>>) -> (StatusCode, &'static str) {
    match registered.borrow().is_empty() {
        false => (StatusCode::OK, "ok\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "no scheduler: not registered\n"),
    }
}
