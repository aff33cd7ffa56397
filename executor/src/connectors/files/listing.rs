//! Which files a path stands for: those of a stream's log where there is one, else what lies in the folder.

use super::location::{parse_location, storage_error, url_of};
use super::manifest::SinkLog;
use super::options::FileOptions;
use super::partition;
use super::sink::{below, relative};
use futures::TryStreamExt;
use headwater_proto::error::{Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use regex::Regex;
use std::sync::Arc;
use url::Url;

/// A file to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Whole, escaped.
    pub url: String,
    /// Path in its store.
    pub path: Path,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified_ms: i64,
    /// Partition folders between the table's root and the file.
    pub partitions: Vec<(String, Option<String>)>,
}

/// Names that readers pass over, in any folder: those that begin with `.`, and with `_` unless they are partitions.
pub fn is_hidden(relative: &str) -> bool {
    relative.split('/').any(|name| name.starts_with('.') || (name.starts_with('_') && !name.contains('=')))
}

/// Whether readers look into all folders above the file: without `recursiveFileLookup`, only into partitions.
fn is_reached(relative: &str, recursive: bool) -> bool {
    let folders = relative.rsplit_once('/').map_or("", |(folders, _)| folders);
    recursive || folders.is_empty() || folders.split('/').all(|folder| folder.contains('='))
}

/// Where a pattern begins: the folder above the first name with `*`, `?`, `[…]` or `{…}`.
fn split_glob(text: &str) -> Option<(&str, &str)> {
    let at = text.find(['*', '?', '[', '{'])?;
    let slash = text[..at].rfind('/').map_or(0, |slash| slash + 1);
    Some((&text[..slash], &text[slash..]))
}

/// A Hadoop path pattern as a regular expression of what it matches; `rest`: what may follow.
fn glob(pattern: &str, rest: &str) -> Result<Regex> {
    let mut regex = String::from("^(");
    let mut depth = 0;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '{' => {
                depth += 1;
                regex.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                regex.push(')');
            }
            ',' if depth > 0 => regex.push('|'),
            '[' => {
                regex.push('[');
                if chars.next_if(|c| matches!(c, '^' | '!')).is_some() {
                    regex.push('^');
                }
                for c in chars.by_ref() {
                    if c == ']' {
                        break;
                    }
                    if matches!(c, '[' | '\\' | '&' | '~' | '^') {
                        regex.push('\\');
                    }
                    regex.push(c);
                }
                regex.push(']');
            }
            '\\' => regex.push_str(&regex::escape(&chars.next().unwrap_or('\\').to_string())),
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    Regex::new(&format!("{regex}){rest}$"))
        .map_err(|_| Error::invalid("INVALID_PATH", format!("{pattern} is no path pattern: close its brackets")))
}

/// All files of the options' paths, in the order of their names.
///
/// # Errors
/// `PATH_NOT_FOUND` when there is nothing at a path, unless that [is no rows](super::options::MISSING_IS_EMPTY); those
/// of the store.
pub async fn list(options: &FileOptions) -> Result<Vec<DataFile>> {
    if options.paths.is_empty() {
        return Err(Error::invalid(
            "INVALID_OPTION",
            format!("format {} needs option path: the folder or file to read", options.format.name()),
        ));
    }
    let names = options.path_glob_filter.as_deref().map(|pattern| glob(pattern, "")).transpose()?;
    let mut files = vec![];
    for text in &options.paths {
        match split_glob(text) {
            Some((folder, pattern)) => files.extend(list_glob(options, folder, pattern).await?),
            None => files.extend(list_path(options, text).await?),
        }
    }
    files.retain(|file| {
        let name = file.path.filename().unwrap_or_default();
        names.as_ref().is_none_or(|names| names.is_match(name))
    });
    if options.recursive {
        files.iter_mut().for_each(|file| file.partitions.clear());
    }
    files.sort_by(|one, two| one.path.cmp(&two.path));
    files.dedup_by(|one, two| one.url == two.url);
    Ok(files)
}

fn not_found(url: &Url) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "PATH_NOT_FOUND",
        format!("path does not exist: {url}: check option path, or write there first"),
    )
}

async fn list_path(options: &FileOptions, text: &str) -> Result<Vec<DataFile>> {
    let (store, root, url) = parse_location(text, &options.store)?;
    // A local folder is no object, which is not always `NotFound`: whatever this says, the listing decides.
    if let Ok(meta) = store.head(&root).await {
        return Ok(vec![DataFile {
            url: url_of(&url, &root).into(),
            path: root,
            size: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
            partitions: vec![],
        }]);
    }
    let log = SinkLog::new(Arc::clone(&store), &root, &url);
    if log.exists().await? {
        let mut files = vec![];
        for file in log.files().await? {
            let (_, path, _) = parse_location(&file.path, &options.store)?;
            let partitions = relative(&root, &path).map(partition::parse).unwrap_or_default();
            let (size, modified_ms) = (file.size, file.modification_time);
            files.push(DataFile { url: url_of(&url, &path).into(), path, size, modified_ms, partitions });
        }
        return Ok(files);
    }
    let mut files = vec![];
    let mut found = false;
    let mut objects = store.list(Some(&root));
    while let Some(object) = objects.try_next().await.map_err(|e| storage_error("list", url.as_str(), &e))? {
        found = true;
        let Some(name) = relative(&root, &object.location) else { continue };
        if name.is_empty() || is_hidden(name) || !is_reached(name, options.recursive) {
            continue;
        }
        files.push(DataFile {
            url: url_of(&url, &object.location).into(),
            partitions: partition::parse(name),
            size: object.size,
            modified_ms: object.last_modified.timestamp_millis(),
            path: object.location,
        });
    }
    if !found && !options.missing_is_empty && !is_local_folder(&url).await {
        return Err(not_found(&url));
    }
    Ok(files)
}

/// An empty local folder exists, though no object is in it.
pub(super) async fn is_local_folder(url: &Url) -> bool {
    match url.to_file_path() {
        Ok(path) if url.scheme() == "file" => tokio::fs::metadata(path).await.is_ok_and(|meta| meta.is_dir()),
        _ => false,
    }
}

async fn list_glob(options: &FileOptions, folder: &str, pattern: &str) -> Result<Vec<DataFile>> {
    let (store, root, url) = parse_location(if folder.is_empty() { "." } else { folder }, &options.store)?;
    let regex = glob(pattern.trim_end_matches('/'), "(?:/(.*))?")?;
    let mut files = vec![];
    let mut objects = store.list(Some(&root));
    while let Some(object) = objects.try_next().await.map_err(|e| storage_error("list", url.as_str(), &e))? {
        let Some(name) = relative(&root, &object.location) else { continue };
        let Some(matched) = regex.captures(name) else { continue };
        // What stands below the part that matched is the table.
        let inner = matched.get(2).map_or("", |rest| rest.as_str());
        if is_hidden(name) || !is_reached(inner, options.recursive) {
            continue;
        }
        let path = below(&root, name)?;
        files.push(DataFile {
            url: url_of(&url, &path).into(),
            partitions: partition::parse(inner),
            size: object.size,
            modified_ms: object.last_modified.timestamp_millis(),
            path,
        });
    }
    if files.is_empty() {
        return Err(not_found(&url_of(&url, &below(&root, pattern)?)));
    }
    Ok(files)
}

/// The store of a set of files.
///
/// # Errors
/// Files in more than one store.
pub fn store_of(files: &[DataFile], options: &FileOptions) -> Result<Option<(Arc<dyn ObjectStore>, Url)>> {
    let Some(first) = files.first() else { return Ok(None) };
    let (store, _, url) = parse_location(&first.url, &options.store)?;
    for file in files {
        let other = Url::parse(&file.url).map_err(Error::internal)?;
        if (other.scheme(), other.host_str()) != (url.scheme(), url.host_str()) {
            return Err(Error::invalid(
                "INVALID_PATH",
                format!(
                    "{} and {} are in different stores: read them by themselves, and UNION them",
                    first.url, file.url
                ),
            ));
        }
    }
    Ok(Some((store, url)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Options;
    use crate::connectors::files::options::{Format, MISSING_IS_EMPTY};

    #[test]
    fn what_readers_pass_over() {
        for hidden in ["_SUCCESS", "_spark_metadata/0", ".part.crc", "a=1/_temporary/x", "_temporary/q/a=1/x"] {
            assert!(is_hidden(hidden), "{hidden}");
        }
        for seen in ["part-0", "_a=1/part-0", "a=1/b=2/part-0"] {
            assert!(!is_hidden(seen), "{seen}");
        }
        assert!(is_reached("a=1/x", false) && is_reached("x", false) && is_reached("sub/x", true));
        assert!(!is_reached("sub/x", false));
    }

    #[test]
    fn patterns() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(glob(pattern, "").expect(pattern).is_match(text), expect, "{pattern} {text}");
        };
        check("*.json", "a.json", true);
        check("*.json", "b/a.json", false);
        check("part-?", "part-1", true);
        check("{a,b}*", "beta", true);
        check("{a,b}*", "c", false);
        check("day=[0-2]", "day=1", true);
        check("day=[!0-2]", "day=1", false);
        check("a.b", "axb", false);
        assert_eq!(split_glob("/data/2024-*/x?.csv"), Some(("/data/", "2024-*/x?.csv")));
        assert_eq!(split_glob("/data/x"), None);
        assert!(glob("{a", "").is_err());
    }

    #[tokio::test]
    async fn folders_files_and_patterns() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path().to_str().expect("utf-8");
        for name in ["t/a=1/x.json", "t/a=2/y.json", "t/a=2/.hidden", "t/_SUCCESS", "t/sub/z.json", "u/x.json"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(path, "{}").expect("write");
        }
        std::fs::create_dir(dir.path().join("empty")).expect("folder");
        let list = |path: &str, more: &[(&str, &str)]| {
            let mut options = Options::new(more.iter().copied());
            options.set("path", format!("{root}/{path}"));
            let options = FileOptions::parse(Format::Json, &options).expect("options");
            async move {
                let files = list(&options).await?;
                Ok::<_, Error>(
                    files
                        .into_iter()
                        .map(|file| (file.path.filename().expect("name").to_string(), file.partitions))
                        .collect::<Vec<_>>(),
                )
            }
        };
        let a = |value: &str| vec![("a".to_string(), Some(value.to_string()))];
        let (x, y, z) = ("x.json".to_string(), "y.json".to_string(), "z.json".to_string());
        assert_eq!(list("t", &[]).await.expect("t"), [(x.clone(), a("1")), (y.clone(), a("2"))]);
        assert_eq!(list("t/a=2", &[]).await.expect("t"), [(y.clone(), vec![])]);
        assert_eq!(list("t/a=1/x.json", &[]).await.expect("file"), [(x.clone(), vec![])]);
        let all = list("t", &[("recursiveFileLookup", "true")]).await.expect("t");
        assert_eq!(all, [(x.clone(), vec![]), (y.clone(), vec![]), (z, vec![])]);
        assert_eq!(list("t", &[("pathGlobFilter", "y*")]).await.expect("t"), [(y, a("2"))]);
        assert_eq!(list("?/*.json", &[]).await.expect("pattern"), [(x.clone(), vec![])]);
        assert_eq!(list("t/a=[1]", &[]).await.expect("pattern"), [(x, vec![])]);
        assert_eq!(list("empty", &[]).await.expect("empty"), []);
        assert_eq!(list("nope", &[]).await.expect_err("missing").class, "PATH_NOT_FOUND");
        assert_eq!(list("nope", &[(MISSING_IS_EMPTY, "true")]).await.expect("no mistake"), []);
        assert_eq!(list("nope*", &[]).await.expect_err("missing").class, "PATH_NOT_FOUND");
    }
}
