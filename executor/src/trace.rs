//! Traces across processes: a job carries the context of the span that submits it, and its tasks become that span's
//! children. Without an exporter (`--otlp-endpoint`) there is no context, and nothing is carried.

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions, Extensions};
use datafusion::error::Result;
use datafusion::prelude::{SessionConfig, SessionContext};
use opentelemetry::global;
use std::any::Any;
use std::collections::HashMap;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// What a job's settings say of traces.
#[derive(Debug, Clone, Default)]
struct TraceOptions {
    /// Header `traceparent` of W3C Trace Context; empty when there is no trace.
    parent: String,
}

impl ConfigExtension for TraceOptions {
    const PREFIX: &'static str = "headwater_trace";
}

/// By hand: what DataFusion's macro writes leaves the prefix out of entries, without which they do not travel.
impl ExtensionOptions for TraceOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }
    fn set(&mut self, _: &str, value: &str) -> Result<()> {
        self.parent = value.to_string();
        Ok(())
    }
    fn entries(&self) -> Vec<ConfigEntry> {
        let key = format!("{}.parent", Self::PREFIX);
        vec![ConfigEntry { key, value: Some(self.parent.clone()), description: "traceparent of the job" }]
    }
}

/// The header, by its name in the standard.
const TRACEPARENT: &str = "traceparent";

/// Puts the context of the current span into the settings of the session whose plan is to be submitted.
pub fn carry(session: &SessionContext) {
    let mut headers = HashMap::new();
    let context = Span::current().context();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut headers));
    if let Some(parent) = headers.remove(TRACEPARENT) {
        put(session.state_ref().write().config_mut(), parent);
    }
}

fn put(config: &mut SessionConfig, parent: String) {
    config.options_mut().extensions.insert(TraceOptions { parent });
}

/// Settings of an executor, which know those of traces.
pub fn known(mut config: SessionConfig) -> SessionConfig {
    put(&mut config, String::new());
    config
}

/// Makes a span the child of the one that submitted the job with these settings.
pub fn adopt(span: &Span, settings: &Extensions) {
    let Some(options) = settings.get::<TraceOptions>().filter(|options| !options.parent.is_empty()) else { return };
    let headers = HashMap::from([(TRACEPARENT.to_string(), options.parent.clone())]);
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&headers));
    // An error says that there is no exporter here, or that it leaves this span out.
    if let Err(error) = span.set_parent(parent) {
        tracing::trace!(%error, "a task has no place in its job's trace");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ballista_core::extension::{SessionConfigExt, SessionConfigHelperExt};

    #[test]
    fn the_parent_travels_in_the_settings() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut config = SessionConfig::new_with_ballista();
        put(&mut config, parent.into());
        let received =
            known(SessionConfig::new_with_ballista()).update_from_key_value_pair(&config.to_key_value_pairs());
        let options = received.options().extensions.get::<TraceOptions>().map(|options| options.parent.clone());
        assert_eq!(options.as_deref(), Some(parent));
    }
}
