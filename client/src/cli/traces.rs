//! `--otlp-endpoint`: spans go to an OpenTelemetry collector.

use super::Error;
use async_trait::async_trait;
use headwater_executor::tls;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::Registry;
use url::Url;

/// How long a collector may take for a request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Whether a span or event is exported: ours, and not the run of a streaming query, which would hold every batch of its
/// life in one trace. Each batch is a trace of its own.
fn exported(metadata: &Metadata<'_>) -> bool {
    let ours = metadata.target().starts_with("headwater");
    let level = if metadata.is_span() { Level::DEBUG } else { Level::INFO };
    ours && *metadata.level() <= level && !(metadata.is_span() && metadata.name() == "query")
}

/// The address that spans are sent to: as with the standard's variable, a bare host stands for its `/v1/traces`.
fn address(endpoint: &str) -> Result<Url, Error> {
    let invalid = |why: &str| {
        Error::Usage(format!(
            "[INVALID_CONFIG] otlp-endpoint is {endpoint:?}: {why}; give the address of a collector that takes OTLP over \
             HTTP, such as http://localhost:4318"
        ))
    };
    let mut url = Url::parse(endpoint).map_err(|error| invalid(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(invalid("it is not an HTTP address"));
    }
    if url.path() == "/" {
        url.set_path("/v1/traces");
    }
    Ok(url)
}

/// Begins to export spans of this process, which calls itself `service` unless `OTEL_SERVICE_NAME` names it.
pub fn start(endpoint: &str, service: &'static str) -> Result<impl Layer<Registry> + use<>, Error> {
    let failed =
        |error: &dyn std::fmt::Display| Error::Failed(format!("failed to start the export of traces: {error}"));
    let address = address(endpoint)?;
    tls::install_provider();
    let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).build().map_err(|error| failed(&error))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(OnRuntime { client, runtime: Handle::current() })
        .with_endpoint(address)
        .build()
        .map_err(|error| failed(&error))?;
    // A name that the environment gives stands above ours.
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some();
    let resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let resource = if named { resource } else { resource.with_service_name(service) };
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    let tracer = provider.tracer("headwater");
    let _ = PROVIDER.set(provider);
    // Threads and places in the source tell an operator nothing.
    let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
    Ok(layer.with_filter(filter_fn(exported)))
}

/// Sends what was not sent yet.
pub async fn end() {
    let Some(provider) = PROVIDER.get() else { return };
    let ended = tokio::task::spawn_blocking(|| provider.shutdown_with_timeout(ANSWER_WITHIN)).await;
    if let Ok(Err(error)) = ended {
        tracing::warn!(%error, "the last traces were not sent");
    }
}

/// The exporter lives on a thread of its own, outside the runtime in which requests have to be made.
#[derive(Debug)]
struct OnRuntime {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let answer = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            Ok::<_, reqwest::Error>((answer.status(), answer.bytes().await?))
        });
        let (status, body) = answer.await??;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        fn check(endpoint: &str, expect: Option<&str>) {
            assert_eq!(address(endpoint).ok().map(|url| url.to_string()).as_deref(), expect, "{endpoint}");
        }
        check("http://localhost:4318", Some("http://localhost:4318/v1/traces"));
        check("https://collector/", Some("https://collector/v1/traces"));
        check("http://collector:4318/otlp/traces", Some("http://collector:4318/otlp/traces"));
        for wrong in ["localhost:4318", "grpc://localhost:4317", "collector", ""] {
            check(wrong, None);
        }
    }
}
