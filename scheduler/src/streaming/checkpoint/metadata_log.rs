//! What the numbered logs have in common: file names that are batch ids, and a first line that is a version.

use super::paths::Location;
use super::store::{Created, Store};
use bytes::Bytes;
use headwater_proto::error::{Error, Result};
use object_store::path::Path;

/// Why a stored file cannot be used. The caller adds which file, and what can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// The file ends where more is required, or is not what it should be.
    #[error("{0}")]
    Content(String),
    /// A later Spark or Headwater wrote it.
    #[error("its log version v{found} is not supported, versions up to v{max} are")]
    Version { found: u64, max: u64 },
    /// Understood, but not something that can be continued here.
    #[error("{0}")]
    Unsupported(String),
}

impl Malformed {
    pub(super) fn content(reason: impl Into<String>) -> Self {
        Self::Content(reason.into())
    }

    /// The error for people: which file, what is in it, what is wrong with it, what to do.
    pub(super) fn in_file(self, file: &str, bytes: &[u8], remedy: &str) -> Error {
        match self {
            Self::Version { .. } => Error::fatal(
                "UNSUPPORTED_LOG_VERSION",
                format!("{file} cannot be read: {self}; continue this checkpoint with the version that wrote it"),
            ),
            Self::Unsupported(_) => {
                Error::fatal("UNSUPPORTED_CHECKPOINT", format!("{file} cannot be continued: {self}"))
            }
            Self::Content(_) => Error::fatal(
                "CHECKPOINT_CORRUPT",
                format!("{file} cannot be read: {self}; it {}; {remedy}", content_kind(bytes)),
            ),
        }
    }
}

/// Says what kind of bytes these are without repeating them.
fn content_kind(bytes: &[u8]) -> String {
    let length = bytes.len();
    if bytes.is_empty() {
        return "is empty, as after a power cut or a full disk".into();
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return format!("holds nothing but {length} zero bytes, as after a power cut");
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => format!("holds {length} bytes of text"),
        Err(_) => format!("holds {length} bytes that are not UTF-8 text"),
    }
}

/// A log file's text, its version checked: the lines after the first.
pub(super) fn lines_after_version(bytes: &[u8], max: u64) -> Result<(u64, Vec<&str>), Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|e| Malformed::content(format!("it is not UTF-8 text: {e}")))?;
    let mut lines = text.lines();
    let first = lines.next().ok_or_else(|| Malformed::content("the version line is missing"))?.trim();
    let version = parse_version(first, max)?;
    Ok((version, lines.collect()))
}

/// `v1` is 1. Spark's rules: a positive number right after the letter.
pub(super) fn parse_version(text: &str, max: u64) -> Result<u64, Malformed> {
    let found = text
        .strip_prefix('v')
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u64>().ok())
        .filter(|version| *version > 0)
        .ok_or_else(|| Malformed::content("the first line is not a log version such as v1"))?;
    if found > max { Err(Malformed::Version { found, max }) } else { Ok(found) }
}

/// The batch id that a file name is, if it is one. Everything else in the folder is ignored: checksums (`.12.crc`),
/// temporary files, editors' copies.
pub(super) fn batch_id(name: &str) -> Option<u64> {
    let id = name.parse::<u64>().ok()?;
    // "007" and "+7" parse as well, yet are not the names that would be read back.
    (id.to_string() == name).then_some(id)
}

/// A folder of numbered files, each written once.
#[derive(Debug, Clone)]
pub(super) struct MetadataLog {
    store: Store,
    folder: Path,
}

impl MetadataLog {
    pub fn new(store: Store, folder: Path) -> Self {
        Self { store, folder }
    }
    /// Ids of all entries, ascending.
    pub async fn ids(&self) -> Result<Vec<u64>> {
        let names = self.store.names(&self.folder).await?;
        let mut ids = names.iter().filter_map(|name| batch_id(name)).collect::<Vec<_>>();
        ids.sort_unstable();
        Ok(ids)
    }
    pub async fn get(&self, id: u64) -> Result<Option<Bytes>> {
        self.store.get(&Location::entry(&self.folder, id)).await
    }
    pub async fn create(&self, id: u64, bytes: &Bytes) -> Result<Created> {
        self.store.create(&Location::entry(&self.folder, id), bytes).await
    }
    pub async fn delete(&self, ids: impl Iterator<Item = u64>) -> Result<()> {
        self.store.delete(ids.map(|id| Location::entry(&self.folder, id)).collect()).await
    }
    /// The entry's file as people know it.
    pub fn display_of(&self, id: u64) -> String {
        self.store.location.display_of(&Location::entry(&self.folder, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_are_entries() {
        for (name, expect) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("007", None),
            ("+7", None),
            ("-7", None),
            (".12.crc", None),
            ("12.tmp", None),
            (".12.2f6a.tmp", None),
            ("12#1", None),
            ("", None),
        ] {
            assert_eq!(batch_id(name), expect, "{name}");
        }
    }

    #[test]
    fn versions_follow_spark() {
        let bad = || Err(Malformed::content("the first line is not a log version such as v1"));
        for (text, expect) in [
            ("v1", Ok(1)),
            ("v2", Ok(2)),
            ("v3", Err(Malformed::Version { found: 3, max: 2 })),
            ("v0", bad()),
            ("v", bad()),
            ("v-1", bad()),
            ("v+1", bad()),
            ("v1x", bad()),
            ("1", bad()),
            ("", bad()),
        ] {
            assert_eq!(parse_version(text, 2), expect, "{text}");
        }
    }

    #[test]
    fn errors_say_what_kind_of_bytes_there_are() {
        #[track_caller]
        fn check(bytes: &[u8], expect: &str) {
            let error = lines_after_version(bytes, 1).unwrap_err().in_file("/c/offsets/3", bytes, "restore it");
            let text = error.to_string();
            assert!(text.starts_with("[CHECKPOINT_CORRUPT] /c/offsets/3 cannot be read: "), "{text}");
            assert!(text.contains(expect) && text.ends_with("; restore it"), "{text}");
        }
        check(b"", "it is empty");
        check(&[0; 512], "nothing but 512 zero bytes");
        check(&[0xff, 0xfe, 1], "holds 3 bytes that are not UTF-8 text");
        check(b"{}", "holds 2 bytes of text");
        let newer = lines_after_version(b"v9\n", 1).unwrap_err().in_file("/c/offsets/3", b"v9\n", "restore it");
        assert_eq!(
            newer.to_string(),
            "[UNSUPPORTED_LOG_VERSION] /c/offsets/3 cannot be read: its log version v9 is not supported, versions up \
             to v1 are; continue this checkpoint with the version that wrote it"
        );
    }
}
