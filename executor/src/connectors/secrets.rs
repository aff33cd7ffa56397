//! Secrets that options name rather than hold: `${secret:NAME}` stands for the text of file `NAME` in one folder of the
//! scheduler's machine, which is where Docker and Kubernetes put them.
//!
//! They are looked up whenever a table is planned, so that catalog, checkpoints and plans for people keep the name
//! alone, and a secret that was replaced is taken up at the next start or attempt. No other file can be read this way.
//!
//! Inside an address (`https://user:${secret:NAME}@host`) its bytes are escaped as addresses want it, so that a secret
//! with `@` or `/` in it neither breaks the address nor becomes a part of it that messages show.

use super::{Connector, Options, Reader, Sink, SinkContext, Source, Writer};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use headwater_proto::error::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Where Docker puts secrets.
pub const DEFAULT_FOLDER: &str = "/run/secrets";

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Says where this process finds secrets. The first word stands.
pub fn set_folder(folder: PathBuf) {
    // Another scheduler in this process has said it already.
    let _ = FOLDER.set(folder);
}

const BEGIN: &str = "${secret:";

/// The options with the secrets in them.
///
/// # Errors
/// `SECRET_NOT_FOUND` when there is no such file.
pub fn resolve(options: &Options) -> Result<Options> {
    let folder = FOLDER.get().map_or(Path::new(DEFAULT_FOLDER), PathBuf::as_path);
    resolve_in(options, folder)
}

fn resolve_in(options: &Options, folder: &Path) -> Result<Options> {
    let mut resolved = options.clone();
    for (key, value) in options.iter().filter(|(_, value)| value.contains(BEGIN)) {
        resolved.set(key, fill(key, value, folder)?);
    }
    Ok(resolved)
}

fn fill(key: &str, value: &str, folder: &Path) -> Result<String> {
    let (mut filled, mut rest) = (String::new(), value);
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let Some((name, after)) = after.split_once('}') else { break };
        filled.push_str(before);
        let secret = read(key, name.trim(), folder)?;
        filled.push_str(&if in_address(&filled) { escaped(&secret) } else { secret });
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Whether what follows is a part of an address. Blanks and quotes are in none: a JAAS text may have an address before
/// the secret.
fn in_address(before: &str) -> bool {
    let word = before.rsplit(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).next();
    word.is_some_and(|word| word.contains("://"))
}

/// The text with a `%` and two digits for all bytes that may mean something in an address.
fn escaped(secret: &str) -> String {
    let mut text = String::with_capacity(secret.len());
    for byte in secret.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

fn read(key: &str, name: &str, folder: &Path) -> Result<String> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !name.starts_with('.');
    if name.is_empty() || !plain {
        return Err(Error::invalid(
            "INVALID_SECRET_NAME",
            format!("option {key} names a secret {name:?}: names have letters, digits, '-', '_' and '.' only"),
        ));
    }
    // Read at once where it is wanted: some bytes of a local file.
    let text = std::fs::read_to_string(folder.join(name)).map_err(|error| {
        Error::new(
            ErrorKind::NotFound,
            "SECRET_NOT_FOUND",
            format!(
                "option {key} names secret {name}, which cannot be read from {} on the scheduler: {error}: put the file \
                 there, or name its folder with --secrets-dir",
                folder.display()
            ),
        )
    })?;
    // Editors end a file with a line end, which is no part of a password.
    Ok(text.trim_end_matches(['\r', '\n']).to_string())
}

/// A connector whose options may name secrets.
#[derive(Debug)]
pub(super) struct WithSecrets(pub Arc<dyn Connector>);

#[async_trait]
impl Connector for WithSecrets {
    fn format(&self) -> &'static str {
        self.0.format()
    }
    async fn table(&self, options: &Options, schema: Option<SchemaRef>) -> Result<Arc<dyn TableProvider>> {
        self.0.table(&resolve(options)?, schema).await
    }
    async fn source(&self, options: &Options, schema: Option<SchemaRef>) -> Result<Arc<dyn Source>> {
        self.0.source(&resolve(options)?, schema).await
    }
    async fn source_schema(&self, options: &Options, schema: Option<SchemaRef>) -> Result<SchemaRef> {
        self.0.source_schema(&resolve(options)?, schema).await
    }
    async fn sink(&self, options: &Options, context: SinkContext) -> Result<Arc<dyn Sink>> {
        self.0.sink(&resolve(options)?, context).await
    }
    fn columns_beside(&self, options: &Options) -> Result<Vec<String>> {
        self.0.columns_beside(&resolve(options)?)
    }
    fn reader(&self, config: &str) -> Result<Arc<dyn Reader>> {
        self.0.reader(config)
    }
    fn writer(&self, config: &str) -> Result<Arc<dyn Writer>> {
        self.0.writer(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_files_of_one_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("db"), "s3cret\n").expect("a file");
        let check = |value: &str, expect: Result<&str, &str>| {
            let resolved = resolve_in(&Options::new([("Password", value)]), folder.path());
            let found = resolved.as_ref().map(|options| options.get("password").expect("it is there"));
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect),
                (Err(error), Err(class)) => {
                    assert!(error.class == class && error.message.contains("option Password"), "{error}");
                }
                (found, expect) => panic!("{value}: {found:?}, not {expect:?}"),
            }
        };
        check("${secret:db}", Ok("s3cret"));
        check("postgresql://u:${secret:db}@h/d?x=${secret:db}", Ok("postgresql://u:s3cret@h/d?x=s3cret"));
        check("${secret:db", Ok("${secret:db"));
        check("plain ${other}", Ok("plain ${other}"));
        check("${secret:none}", Err("SECRET_NOT_FOUND"));
        for escape in ["../db", "/etc/passwd", "..", ".hidden", ""] {
            check(&format!("${{secret:{escape}}}"), Err("INVALID_SECRET_NAME"));
        }
    }

    #[test]
    fn secrets_are_escaped_in_addresses() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("db"), "p@ss/1 ü%").expect("a file");
        let filled = |value: &str| fill("url", value, folder.path()).expect("filled");
        let url = filled("postgresql://u:${secret:db}@h/d?application_name=${secret:db}");
        assert_eq!(url, "postgresql://u:p%40ss%2F1%20%C3%BC%25@h/d?application_name=p%40ss%2F1%20%C3%BC%25");
        assert_eq!(filled("${secret:db}"), "p@ss/1 ü%");
        let registry = filled("https://ann:${secret:db}@registry:8081");
        let registry = url::Url::parse(&registry).expect("an address");
        assert_eq!((registry.host_str(), registry.password()), (Some("registry"), Some("p%40ss%2F1%20%C3%BC%25")));
        // A secret that is an address itself, and one beside an address.
        std::fs::write(folder.path().join("whole"), "https://u:p%40ss@h").expect("a file");
        assert_eq!(filled("${secret:whole}"), "https://u:p%40ss@h");
        assert_eq!(filled("x uri=\"https://h\" secret=\"${secret:db}\";"), "x uri=\"https://h\" secret=\"p@ss/1 ü%\";");
        assert_eq!(filled("http://a,http://b:${secret:db}@c"), "http://a,http://b:p%40ss%2F1%20%C3%BC%25@c");
    }
}
