//! `docs/functions.md`: which of Spark's functions there are, read off the registry.
//!
//! The test fails when the page is stale; `HEADWATER_UPDATE_DOCS=1` with the same test writes it.

use super::functions::{STREAMING_ONLY, is_syntax, respelled};
use datafusion::execution::SessionState;
use headwater_executor::functions::generators::KINDS;

/// What kind of function Headwater has under Spark's name.
pub fn kind(name: &str, state: &SessionState) -> Option<&'static str> {
    let own = super::functions::own(name).is_some() || state.scalar_functions().contains_key(name);
    match () {
        () if is_syntax(name) => Some("operator or syntax"),
        () if KINDS.contains(&name) => Some("generator"),
        () if state.higher_order_functions().contains_key(name) => Some("lambda"),
        () if state.aggregate_functions().contains_key(respelled(name)) => Some("aggregate"),
        () if state.window_functions().contains_key(name) => Some("window"),
        () if own && !STREAMING_ONLY.contains(&name) => Some("scalar"),
        () => None,
    }
}

/// The page for these names of Spark's functions.
pub fn page(source: &str, names: &[&str], state: &SessionState) -> String {
    let found: Vec<(&str, Option<&str>)> = names.iter().map(|name| (*name, kind(name, state))).collect();
    let present = found.iter().filter(|(_, kind)| kind.is_some()).count();
    let mut text = format!(
        "# Functions\n\nMade by a program from the registry and from {source}; do not edit. **{present} of {} are there.** A \
         function that is not fails with `UNRESOLVED_ROUTINE`.\n\n| function | |\n|---|---|\n",
        names.len()
    );
    for (name, kind) in found {
        let shown = name.replace('|', "\\|");
        text += &format!("| `{shown}` | {} |\n", kind.unwrap_or("no"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{session_config, session_state};
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn the_page_is_current() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let recorded = std::fs::read_to_string(root.join("tests/golden/spark-answers/functions.txt")).expect("a list");
        let (source, names) = recorded.split_once('\n').expect("a head");
        let names: Vec<&str> = names.lines().collect();
        let config = session_config(&BTreeMap::new()).expect("settings");
        let state = session_state(config, Arc::default());
        let made = page(source.trim_start_matches("# "), &names, &state);
        let path = root.join("docs/functions.md");
        if std::env::var_os("HEADWATER_UPDATE_DOCS").is_some() {
            std::fs::write(&path, &made).expect("is written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == made, "docs/functions.md is stale: run this test with HEADWATER_UPDATE_DOCS=1");
    }
}
