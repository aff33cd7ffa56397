//! The server of Spark Connect: its port, its connections, who may talk, and what ends it.

use super::service::ConnectService;
use super::sessions::{self, Sessions};
use crate::execute::Statements;
use headwater_proto::secret::Secret;
use headwater_proto::spark::spark_connect_service_server::SparkConnectServiceServer;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

/// Messages are at most this long, in either direction: Spark's bound, and that of its clients.
pub const MESSAGE_BYTES_MAX: usize = 128 << 20;

/// Clients of 4.3 ping every minute, without calls too, and proxies cut what is silent for some minutes. A client
/// that is gone without a word is noticed after both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How to serve Spark Connect.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What a client must present as `token=` in its URL; without, everyone may.
    pub token: Option<Secret>,
    /// Bounds of sessions and operations.
    pub limits: sessions::Limits,
}

/// Whether a header `authorization` presents the token. Takes as long for a wrong one as for the right one.
fn presents(token: &Secret, header: &[u8]) -> bool {
    let Some(given) = header.strip_prefix(b"Bearer ") else { return false };
    let token = token.expose().as_bytes();
    let differences = token.iter().zip(given).fold(0, |differences, (a, b)| differences | (a ^ b));
    token.len() == given.len() && differences == 0
}

/// Serves until `stop`, then ends all sessions: clients that wait learn at once.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    statements: Statements,
    mut stop: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let sessions = Sessions::new(statements, options.limits);
    // An empty one, as an unset variable of a shell gives, is none.
    let token = options.token.filter(|token| !token.is_empty());
    let authorize = move |request: Request<()>| match &token {
        Some(token) if !request.metadata().get("authorization").is_some_and(|h| presents(token, h.as_bytes())) => {
            Err(Status::unauthenticated("give the server's token: sc://HOST:15002/;token=…"))
        }
        _ => Ok(request),
    };
    let service = SparkConnectServiceServer::new(ConnectService::new(sessions.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let incoming = TcpListenerStream::new(listener).map(|accepted| {
        accepted.inspect(|stream| {
            // Small messages back and forth: never wait to fill a packet.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY refused");
            }
        })
    });
    let stopped = {
        let sessions = sessions.clone();
        async move {
            // The sender gone is a stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
            // Open streams would hold the server up: with their operations they end.
            sessions.close();
        }
    };
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(InterceptedService::new(service, authorize))
        .serve_with_incoming_shutdown(incoming, stopped);
    let expiry = async {
        let mut ticks = tokio::time::interval(sessions.expiry_interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            sessions.expire();
        }
    };
    tokio::select! {
        ended = server => ended,
        () = expiry => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let token = Secret::new("s3cret");
        let check = |header: &str, expect: bool| assert_eq!(presents(&token, header.as_bytes()), expect, "{header}");
        check("Bearer s3cret", true);
        check("Bearer s3cre", false);
        check("Bearer s3crets", false);
        check("Bearer S3cret", false);
        check("s3cret", false);
        check("", false);
        assert!(!format!("{:?}", Options { token: Some(token), ..Options::default() }).contains("s3cret"));
    }
}
