//! `sources/<n>/0`: where source n began, so that a query that died before its first batch begins there again.
//!
//! The layout is that of Spark's Kafka source: a zero byte, which Spark 2.1.0 needs to find, then `v1`, then the
//! offset's JSON. Spark 2.1.0 itself wrote no version line.

use super::metadata_log::{Malformed, parse_version};
use bytes::Bytes;

/// The latest version that is understood.
const VERSION_MAX: u64 = 1;

/// Spark's bytes.
pub(super) fn encode(offset: &str) -> Result<Bytes, Malformed> {
    check(offset)?;
    Ok(format!("\0v1\n{offset}").into())
}

/// The offset's JSON.
pub(super) fn decode(bytes: &[u8]) -> Result<String, Malformed> {
    let text = bytes
        .strip_prefix(&[0])
        .ok_or_else(|| Malformed::content("the zero byte that Spark's Kafka source writes first is missing"))?;
    let text = std::str::from_utf8(text).map_err(|e| Malformed::content(format!("it is not UTF-8 text: {e}")))?;
    let offset = if text.starts_with('v') {
        let (version, offset) =
            text.split_once('\n').ok_or_else(|| Malformed::content("nothing follows the version line"))?;
        parse_version(version.trim_end(), VERSION_MAX)?;
        offset
    } else {
        text
    };
    check(offset)?;
    Ok(offset.to_string())
}

fn check(offset: &str) -> Result<(), Malformed> {
    serde_json::from_str::<serde::de::IgnoredAny>(offset)
        .map(|_| ())
        .map_err(|e| Malformed::content(format!("the offset is not JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_sparks_bytes_and_read_back() {
        let offset = r#"{"users":{"0":0,"1":5}}"#;
        let bytes = encode(offset).unwrap();
        assert_eq!(&bytes[..], b"\0v1\n{\"users\":{\"0\":0,\"1\":5}}");
        assert_eq!(decode(&bytes).unwrap(), offset);
        assert_eq!(decode(b"\0{\"users\":{\"0\":0}}").unwrap(), r#"{"users":{"0":0}}"#);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        #[track_caller]
        fn check(bytes: &[u8], expect: &str) {
            let reason = decode(bytes).unwrap_err().to_string();
            assert!(reason.contains(expect), "{reason}");
        }
        check(b"", "zero byte");
        check(b"v1\n{\"path\":\"/a\"}", "zero byte");
        check(b"\0", "not JSON");
        check(b"\0v1", "nothing follows");
        check(b"\0v1\n{\"users\":{", "not JSON");
        check(b"\0v2\n{}", "v2 is not supported");
        assert!(encode("latest").is_err());
    }
}
