//! Until the postgres connector is here.
use headwater_executor::connectors::Options;
use headwater_proto::error::{Error, Result};
/// Connects.
pub async fn connect(options: &Options) -> Result<tokio_postgres::Client> {
    let url = options.get("url").unwrap_or_default();
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.map_err(|e| failed("connect", &e))?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}
/// Its error.
pub fn failed(what: &str, error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(db) => Error::invalid("POSTGRES_FAILED", format!("failed to {what}: {db}")),
        None => Error::transient("POSTGRES_UNREACHABLE", format!("failed to {what}: {error}")),
    }
}
