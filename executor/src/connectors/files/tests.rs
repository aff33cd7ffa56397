//! Whole writes and reads on a local disk: what a task, the driver and a reader do, one after the other.

use super::Files;
use crate::connectors::{Connector, Options, Sink, SinkContext, WriteMode, WriteTask};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use headwater_proto::error::{ErrorKind, Result};
use parquet::file::reader::{FileReader, SerializedFileReader};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn tempdir() -> TempDir {
    tempfile::tempdir().expect("tempdir")
}

fn options(root: &Path, more: &[(&str, &str)]) -> Options {
    let mut options = Options::new(more.iter().copied());
    options.set("path", root.to_str().expect("utf-8"));
    options
}

async fn sink(
    format: &Files,
    options: &Options,
    schema: &SchemaRef,
    mode: WriteMode,
    query: &str,
    streaming: bool,
) -> Result<Arc<dyn Sink>> {
    let context = SinkContext { schema: Arc::clone(schema), mode, query: query.into(), streaming };
    let sink = format.sink(options, context).await?;
    sink.prepare().await?;
    Ok(sink)
}

/// What a task does on an executor; its commit message.
async fn task(format: &Files, sink: &dyn Sink, batch_id: i64, partition: usize, rows: &[RecordBatch]) -> String {
    let task = WriteTask { batch_id, batch_time_ms: None, partition, attempt: "a".into() };
    let writer = format.writer(&sink.writer_config()).expect("writer");
    let schema = rows.first().map_or_else(|| ids(&[]).schema(), RecordBatch::schema);
    let mut task = writer.open(task, schema, Arc::default()).await.expect("open");
    for batch in rows {
        task.write(batch.clone()).await.expect("write");
    }
    let (counts, message) = task.close().await.expect("close");
    assert_eq!(counts.rows, rows.iter().map(|batch| batch.num_rows() as u64).sum::<u64>());
    message.expect("message")
}

fn ids(ids: &[i64]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    RecordBatch::try_from_iter([("id", ids)]).expect("batch")
}

async fn query(format: &Files, options: &Options, schema: Option<SchemaRef>, sql: &str) -> Result<String> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    context.register_table("t", format.table(options, schema).await?).expect("register");
    let rows = context.sql(sql).await.expect("sql").collect().await.expect("rows");
    Ok(pretty_format_batches(&rows).expect("table").to_string())
}

/// The ids in a folder, in order.
async fn read_ids(format: &Files, options: &Options) -> Vec<i64> {
    let context = SessionContext::new();
    let declared = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    context.register_table("t", format.table(options, Some(declared)).await.expect("table")).expect("register");
    let rows = context.sql("SELECT id FROM t ORDER BY id").await.expect("sql").collect().await.expect("rows");
    rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn names(root: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, names: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                walk(root, &path, names);
            } else {
                names.push(path.strip_prefix(root).expect("prefix").to_str().expect("utf-8").to_string());
            }
        }
    }
    let mut names = vec![];
    walk(root, root, &mut names);
    names.sort();
    names
}

#[tokio::test]
async fn a_streams_batches_appear_once() {
    let dir = tempdir();
    let (format, options) = (Files::PARQUET, options(dir.path(), &[]));
    let sink = sink(&format, &options, &ids(&[]).schema(), WriteMode::Append, "q", true).await.expect("sink");
    assert!(sink.needs_commit());
    let lost = task(&format, sink.as_ref(), 0, 0, &[ids(&[1, 2])]).await;
    let won = task(&format, sink.as_ref(), 0, 0, &[ids(&[1]), ids(&[2])]).await;
    let other = task(&format, sink.as_ref(), 0, 1, &[ids(&[3])]).await;
    let empty = task(&format, sink.as_ref(), 0, 2, &[]).await;
    assert_eq!(empty, "{\"files\":[]}");
    assert_eq!(read_ids(&format, &options).await, [0_i64; 0], "nothing is visible before the commit");
    sink.commit(0, vec![won.clone(), other.clone(), empty]).await.expect("commit");
    assert_eq!(read_ids(&format, &options).await, [1, 2, 3]);
    // The coordinator died between this commit and its own log, and calls again.
    sink.commit(0, vec![won.clone(), other.clone()]).await.expect("again");
    assert_eq!(read_ids(&format, &options).await, [1, 2, 3]);
    // It ran the batch again: the new attempt's files go.
    let before = names(dir.path());
    let rerun = task(&format, sink.as_ref(), 0, 0, &[ids(&[1, 2, 3])]).await;
    sink.commit(0, vec![rerun]).await.expect("rerun");
    assert_eq!(names(dir.path()), before);
    assert_eq!(read_ids(&format, &options).await, [1, 2, 3]);
    drop(lost);

    let log = std::fs::read_to_string(dir.path().join("_spark_metadata/0")).expect("log");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!((lines[0], lines.len()), ("v1", 3));
    let root = dir.path().to_str().expect("utf-8");
    assert!(lines[1].starts_with(&format!("{{\"path\":\"file://{root}/part-00000-")), "{}", lines[1]);
    assert!(lines[1].contains("-c000.snappy.parquet\",\"size\":"), "{}", lines[1]);
    assert!(lines[1].ends_with("\"blockReplication\":1,\"blockSize\":33554432,\"action\":\"add\"}"), "{}", lines[1]);

    // A query that starts anew in the same folder.
    let context =
        SinkContext { schema: ids(&[]).schema(), mode: WriteMode::Append, query: "q2".into(), streaming: true };
    let error = format.sink(&options, context).await.expect("sink").prepare().await.expect_err("another query");
    assert_eq!(error.class, "STREAMING_OUTPUT_OF_ANOTHER_QUERY");
}

#[tokio::test]
async fn a_task_that_is_dropped_leaves_nothing() {
    let dir = tempdir();
    let options = options(dir.path(), &[]);
    for format in [Files::PARQUET, Files::JSON] {
        let sink = sink(&format, &options, &ids(&[]).schema(), WriteMode::Append, "q", true).await.expect("sink");
        let before = names(dir.path());
        let writer = format.writer(&sink.writer_config()).expect("writer");
        let task = WriteTask { batch_id: 0, batch_time_ms: None, partition: 0, attempt: "a".into() };
        let mut task = writer.open(task, ids(&[]).schema(), Arc::default()).await.expect("open");
        task.write(ids(&(0..100_000).collect::<Vec<_>>())).await.expect("write");
        drop(task);
        assert_eq!(names(dir.path()), before);
    }
}

#[tokio::test]
async fn twenty_five_batches_and_a_flush() {
    let dir = tempdir();
    let (format, options) = (Files::JSON, options(dir.path(), &[]));
    let schema = ids(&[]).schema();
    for batch_id in 0..25 {
        // A new process each time.
        let sink = sink(&format, &options, &schema, WriteMode::Append, "q", true).await.expect("sink");
        let message = task(&format, sink.as_ref(), batch_id, 0, &[ids(&[batch_id])]).await;
        sink.commit(batch_id, vec![message]).await.expect("commit");
    }
    assert_eq!(read_ids(&format, &options).await, (0..25).collect::<Vec<_>>());
    for compact in ["9.compact", "19.compact"] {
        assert!(dir.path().join("_spark_metadata").join(compact).exists(), "{compact}");
    }
    let sink = sink(&format, &options, &schema, WriteMode::Append, "q", true).await.expect("sink");
    let writer = format.writer(&sink.writer_config()).expect("writer");
    let task = WriteTask { batch_id: 25, batch_time_ms: None, partition: 0, attempt: "a".into() };
    let mut task = writer.open(task, schema, Arc::default()).await.expect("open");
    task.write(ids(&[25])).await.expect("write");
    task.flush().await.expect("flush");
    task.write(ids(&[26])).await.expect("write");
    let (_, message) = task.close().await.expect("close");
    let message = message.expect("message");
    assert!(message.contains("-c000.json") && message.contains("-c001.json"), "{message}");
    sink.commit(25, vec![message]).await.expect("commit");
    assert_eq!(read_ids(&format, &options).await, (0..27).collect::<Vec<_>>());
}

/// A row of each kind of value, and one of nulls.
fn kinds() -> RecordBatch {
    let decimals = Decimal128Array::from(vec![Some(-1250), None]).with_precision_and_scale(10, 2).expect("decimal");
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let inner: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None]));
    let field = Arc::new(Field::new("s", DataType::Utf8, true));
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(Int64Array::from(vec![Some(i64::MAX), None])), true),
        ("f", Arc::new(Float64Array::from(vec![Some(0.1), None])), true),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None])), true),
        ("d", Arc::new(Date32Array::from(vec![Some(19_723), None])), true),
        (
            "t",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_704_164_645_006_000), None]).with_timezone("UTC")),
            true,
        ),
        ("m", Arc::new(decimals), true),
        ("s", Arc::new(StringArray::from(vec![Some("a,\"b\\\" é\t"), None])), true),
        ("l", Arc::new(lists), true),
        ("n", Arc::new(StructArray::from(vec![(field, inner)])), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).expect("batch")
}

#[tokio::test]
async fn what_is_written_is_read() {
    let all = kinds();
    let flat = all.project(&[0, 1, 2, 3, 4, 5, 6]).expect("projection");
    let keep = [("ignoreLeadingWhiteSpace", "false"), ("ignoreTrailingWhiteSpace", "false")];
    let gzip = [("compression", "gzip")];
    let zstd = [("compression", "zstd")];
    let csv_header = [keep[0], keep[1], ("header", "true"), ("sep", ";"), ("nullValue", "-")];
    let cases: [(Files, &[(&str, &str)], &RecordBatch, &str); 7] = [
        (Files::PARQUET, &[], &all, ".snappy.parquet"),
        (Files::PARQUET, &zstd, &all, ".zstd.parquet"),
        (Files::JSON, &[], &all, ".json"),
        (Files::JSON, &gzip, &all, ".json.gz"),
        (Files::CSV, &keep, &flat, ".csv"),
        (Files::CSV, &csv_header, &flat, ".csv"),
        (Files::TEXT, &[], &flat.project(&[6]).expect("projection").slice(0, 1), ".txt"),
    ];
    for (format, more, rows, extension) in cases {
        let dir = tempdir();
        let options = options(dir.path(), more);
        let written = sink(&format, &options, &rows.schema(), WriteMode::Append, "job", false).await.expect("sink");
        let message = task(&format, written.as_ref(), 0, 0, std::slice::from_ref(rows)).await;
        written.commit(0, vec![message]).await.expect("commit");
        let files = names(dir.path());
        assert_eq!((files.len(), files[0].as_str()), (2, "_SUCCESS"), "{files:?}");
        assert!(files[1].ends_with(extension), "{files:?}");
        let declared = Some(rows.schema()).filter(|_| format.format() != "text");
        let sql = if declared.is_some() { "SELECT * FROM t ORDER BY id" } else { "SELECT value AS s FROM t" };
        let got = query(&format, &options, declared, sql).await.expect("read");
        let expect = pretty_format_batches(std::slice::from_ref(rows)).expect("table").to_string();
        assert_eq!(got, expect, "{} {more:?}", format.format());
        let count = query(&format, &options, Some(rows.schema()), "SELECT count(*) AS n FROM t").await.expect("count");
        assert!(count.contains(&format!("| {} |", rows.num_rows())), "{count}");
    }
}

#[tokio::test]
async fn partitions_are_folders() {
    let country: ArrayRef = Arc::new(StringArray::from(vec![Some("DE"), None, Some("a/b"), Some("DE")]));
    let year: ArrayRef = Arc::new(Int64Array::from(vec![2023, 2024, 2024, 2024]));
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let rows =
        RecordBatch::try_from_iter_with_nullable([("country", country, true), ("id", id, true), ("year", year, true)])
            .expect("batch");
    for format in [Files::PARQUET, Files::JSON] {
        for streaming in [true, false] {
            let dir = tempdir();
            let options = options(dir.path(), &[("partitionBy", "year,country")]);
            let written =
                sink(&format, &options, &rows.schema(), WriteMode::Append, "q", streaming).await.expect("sink");
            let message = task(&format, written.as_ref(), 0, 0, std::slice::from_ref(&rows)).await;
            written.commit(0, vec![message]).await.expect("commit");
            let files = names(dir.path());
            let folders: Vec<_> = files.iter().filter_map(|name| name.rsplit_once('/').map(|(f, _)| f)).collect();
            for folder in [
                "year=2023/country=DE",
                "year=2024/country=DE",
                "year=2024/country=__HIVE_DEFAULT_PARTITION__",
                "year=2024/country=a%2Fb",
            ] {
                assert!(folders.contains(&folder), "{folders:?}");
            }
            let got = query(&format, &options, None, "SELECT * FROM t ORDER BY id").await.expect("read");
            let expect = "+----+------+---------+\n| id | year | country |\n+----+------+---------+\n\
                          | 1  | 2023 | DE      |\n| 2  | 2024 |         |\n| 3  | 2024 | a/b     |\n\
                          | 4  | 2024 | DE      |\n+----+------+---------+";
            assert_eq!(got, expect);
            let sql = "SELECT id FROM t WHERE year = 2024 AND country = 'DE' AND id > 0";
            let got = query(&format, &options, None, sql).await.expect("read");
            assert_eq!(got, "+----+\n| id |\n+----+\n| 4  |\n+----+");
            // Files of other partitions are not even opened.
            for name in files.iter().filter(|name| name.starts_with("year=2023")) {
                std::fs::write(dir.path().join(name), "{").expect("break");
            }
            let sql = "SELECT id FROM t WHERE year = 2024 AND country IS NULL";
            let declared = Some(rows.schema());
            let got = query(&format, &options, declared, sql).await.expect("read");
            assert_eq!(got, "+----+\n| id |\n+----+\n| 2  |\n+----+");
        }
    }
}

#[tokio::test]
async fn batch_writes_append_and_overwrite() {
    let dir = tempdir();
    let (format, options) = (Files::PARQUET, options(dir.path(), &[("maxRecordsPerFile", "2")]));
    let schema = ids(&[]).schema();
    let one = sink(&format, &options, &schema, WriteMode::Append, "one", false).await.expect("sink");
    let lost = task(&format, one.as_ref(), 0, 0, &[ids(&[9])]).await;
    let first = task(&format, one.as_ref(), 0, 0, &[ids(&[1, 2, 3])]).await;
    let second = task(&format, one.as_ref(), 0, 1, &[ids(&[4])]).await;
    assert_eq!(read_ids(&format, &options).await, [0_i64; 0]);
    drop(lost);
    one.commit(0, vec![first.clone(), second.clone()]).await.expect("commit");
    assert_eq!(read_ids(&format, &options).await, [1, 2, 3, 4]);
    let files = names(dir.path());
    assert_eq!(files.len(), 4, "three files of at most two rows and _SUCCESS: {files:?}");
    assert!(!dir.path().join("_temporary").exists());
    // A commit whose answer was lost is repeated.
    one.commit(0, vec![first, second]).await.expect("again");
    assert_eq!(names(dir.path()), files);
    assert!(super::has_files(&options).await.expect("exists"));

    let two = sink(&format, &options, &schema, WriteMode::Append, "two", false).await.expect("sink");
    let message = task(&format, two.as_ref(), 0, 0, &[ids(&[5])]).await;
    two.commit(0, vec![message]).await.expect("commit");
    assert_eq!(read_ids(&format, &options).await, [1, 2, 3, 4, 5]);

    let three = sink(&format, &options, &schema, WriteMode::Overwrite, "three", false).await.expect("sink");
    let message = task(&format, three.as_ref(), 0, 0, &[ids(&[6])]).await;
    assert_eq!(read_ids(&format, &options).await, [1, 2, 3, 4, 5], "the old rows stay until the commit");
    three.commit(0, vec![message]).await.expect("commit");
    assert_eq!(read_ids(&format, &options).await, [6]);

    // A stream may not take a folder over.
    let context =
        SinkContext { schema: Arc::clone(&schema), mode: WriteMode::Append, query: "q".into(), streaming: true };
    let error = format.sink(&options, context).await.expect("sink").prepare().await.expect_err("data");
    assert_eq!(error.class, "STREAMING_OUTPUT_NOT_EMPTY");
}

#[tokio::test]
async fn a_write_without_rows_keeps_the_columns() {
    let rows = RecordBatch::new_empty(kinds().schema());
    let count = "SELECT count(*) AS n FROM t";
    let none = "+---+\n| n |\n+---+\n| 0 |\n+---+";
    for mode in [WriteMode::Append, WriteMode::Overwrite] {
        let dir = tempdir();
        let (format, options) = (Files::PARQUET, options(dir.path(), &[]));
        let written = sink(&format, &options, &rows.schema(), mode, "job", false).await.expect("sink");
        let message = task(&format, written.as_ref(), 0, 0, &[]).await;
        written.commit(0, vec![message.clone(), message.clone()]).await.expect("commit");
        let files = names(dir.path());
        assert_eq!(files, ["_SUCCESS", "part-00000-job-c000.snappy.parquet"]);
        // A commit whose answer was lost is repeated.
        written.commit(0, vec![message]).await.expect("again");
        assert_eq!(names(dir.path()), files);
        let schema = format.table(&options, None).await.expect("table").schema();
        assert_eq!(schema.fields().len(), rows.num_columns());
        assert_eq!(query(&format, &options, None, count).await.expect("read"), none);
        // Rows that are there already stay, or go.
        let full =
            sink(&format, &options, &ids(&[]).schema(), WriteMode::Overwrite, "full", false).await.expect("sink");
        let message = task(&format, full.as_ref(), 0, 0, &[ids(&[1])]).await;
        full.commit(0, vec![message]).await.expect("commit");
        let last = sink(&format, &options, &ids(&[]).schema(), mode, "last", false).await.expect("sink");
        last.commit(0, vec![]).await.expect("commit");
        let expect: &[i64] = if mode == WriteMode::Append { &[1] } else { &[] };
        assert_eq!(read_ids(&format, &options).await, expect);
    }
    for (format, more, content) in [
        (Files::CSV, vec![("header", "true"), ("sep", ";")], "id;s\n"),
        (Files::CSV, vec![], ""),
        (Files::JSON, vec![], ""),
    ] {
        let dir = tempdir();
        let options = options(dir.path(), &more);
        let fields = vec![Field::new("id", DataType::Int64, true), Field::new("s", DataType::Utf8, true)];
        let schema = Arc::new(Schema::new(fields));
        let written = sink(&format, &options, &schema, WriteMode::Append, "job", false).await.expect("sink");
        written.commit(0, vec![]).await.expect("commit");
        let files = names(dir.path());
        assert_eq!((files.len(), files[0].as_str()), (2, "_SUCCESS"), "{files:?}");
        assert_eq!(std::fs::read_to_string(dir.path().join(&files[1])).expect("text"), content);
        assert_eq!(query(&format, &options, Some(schema), count).await.expect("read"), none);
    }
    // Folders of partitions are those of rows.
    let dir = tempdir();
    let (format, options) = (Files::PARQUET, options(dir.path(), &[("partitionBy", "id")]));
    let written = sink(&format, &options, &rows.schema(), WriteMode::Append, "job", false).await.expect("sink");
    written.commit(0, vec![]).await.expect("commit");
    assert_eq!(names(dir.path()), ["_SUCCESS"]);
}

#[tokio::test]
async fn required_fields_are_null_in_null_structs() {
    let dir = tempdir();
    let (format, options) = (Files::PARQUET, options(dir.path(), &[]));
    let inner = vec![Field::new("a", DataType::Int64, false)];
    let values = Arc::new(Int64Array::from(vec![5, 0]));
    let structs = StructArray::new(inner.into(), vec![values], Some(vec![true, false].into()));
    let rows = RecordBatch::try_from_iter_with_nullable([("s", Arc::new(structs) as ArrayRef, true)]).expect("batch");
    let written = sink(&format, &options, &rows.schema(), WriteMode::Append, "job", false).await.expect("sink");
    let message = task(&format, written.as_ref(), 0, 0, std::slice::from_ref(&rows)).await;
    written.commit(0, vec![message]).await.expect("commit");
    for declared in [None, Some(rows.schema())] {
        let got = query(&format, &options, declared, "SELECT s['a'] AS a, s['a'] IS NULL AS n FROM t").await;
        let expect = "+---+-------+\n| a | n     |\n+---+-------+\n| 5 | false |\n|   | true  |\n+---+-------+";
        assert_eq!(got.expect("read"), expect);
    }
}

#[tokio::test]
async fn row_groups_end_when_a_task_holds_too_much() {
    let dir = tempdir();
    let (format, options) = (Files::PARQUET, options(dir.path(), &[("partitionBy", "p")]));
    // 8 MiB that no encoding makes smaller; twelve times, in turn to two files.
    let mut rng = StdRng::seed_from_u64(7);
    let batches: Vec<RecordBatch> = (0..12)
        .map(|batch| {
            let mut bytes = vec![0_u8; 8 << 20];
            rng.fill(bytes.as_mut_slice());
            let values: ArrayRef = Arc::new(BinaryArray::from_iter_values(bytes.chunks(64 << 10)));
            let p: ArrayRef = Arc::new(Int64Array::from(vec![batch % 2; values.len()]));
            RecordBatch::try_from_iter([("p", p), ("value", values)]).expect("batch")
        })
        .collect();
    let sink = sink(&format, &options, &batches[0].schema(), WriteMode::Append, "q", true).await.expect("sink");
    task(&format, sink.as_ref(), 0, 0, &batches).await;
    let files = names(dir.path()).into_iter().filter(|name| name.ends_with(".parquet"));
    let groups = files.map(|name| {
        let file = std::fs::File::open(dir.path().join(name)).expect("file");
        SerializedFileReader::new(file).expect("parquet").metadata().num_row_groups()
    });
    let groups: Vec<_> = groups.collect();
    assert!(groups.len() == 2 && groups.iter().sum::<usize>() > 2, "{groups:?}");
}

#[tokio::test]
async fn overwriting_partitions() {
    let rows = |p: i64, id: i64| {
        let p: ArrayRef = Arc::new(Int64Array::from(vec![p]));
        let id: ArrayRef = Arc::new(Int64Array::from(vec![id]));
        RecordBatch::try_from_iter([("p", p), ("id", id)]).expect("batch")
    };
    let dir = tempdir();
    let format = Files::JSON;
    let write = |mode: WriteMode, more: &'static str, job: &'static str, batches: Vec<RecordBatch>| {
        let options = options(dir.path(), &[("partitionBy", "p"), ("partitionOverwriteMode", more)]);
        async move {
            let format = Files::JSON;
            let sink = sink(&format, &options, &batches[0].schema(), mode, job, false).await.expect("sink");
            let message = task(&format, sink.as_ref(), 0, 0, &batches).await;
            sink.commit(0, vec![message]).await.expect("commit");
        }
    };
    write(WriteMode::Append, "static", "one", vec![rows(1, 1), rows(2, 2)]).await;
    write(WriteMode::Overwrite, "dynamic", "two", vec![rows(2, 3)]).await;
    assert_eq!(read_ids(&format, &options(dir.path(), &[])).await, [1, 3]);
    write(WriteMode::Overwrite, "static", "three", vec![rows(2, 4)]).await;
    assert_eq!(read_ids(&format, &options(dir.path(), &[])).await, [4]);
}

#[tokio::test]
async fn schemas_are_found_in_the_files() {
    let dir = tempdir();
    let read = |format: Files, name: &str, text: &str, more: &[(&str, &str)]| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("write");
        let options = options(&path, more);
        async move {
            let schema = format.table(&options, None).await?.schema();
            let columns = schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type()));
            Ok::<_, headwater_proto::error::Error>(columns.collect::<Vec<_>>().join(", "))
        }
    };
    let json = "{\"b\":1,\"a\":{\"y\":true,\"x\":null}}\n{\"b\":1.5,\"c\":[1]}\n";
    let got = read(Files::JSON, "a.json", json, &[]).await.expect("json");
    assert_eq!(got, "a Struct(\"x\": Utf8, \"y\": Boolean), b Float64, c List(Int64)");
    let got = read(Files::JSON, "b.json", "{\"b\":1}\nbroken\n", &[]).await.expect("json");
    assert_eq!(got, "_corrupt_record Utf8, b Int64");
    let got = read(Files::JSON, "c.json", "[{\"b\":1},\n{\"b\":2}]", &[("multiLine", "true")]).await.expect("json");
    assert_eq!(got, "b Int64");
    let csv = "id,name,id\n1,x,2.5\n";
    assert_eq!(read(Files::CSV, "a.csv", csv, &[]).await.expect("csv"), "_c0 Utf8, _c1 Utf8, _c2 Utf8");
    let got = read(Files::CSV, "b.csv", csv, &[("header", "true"), ("inferSchema", "true")]).await.expect("csv");
    assert_eq!(got, "id0 Int32, name Utf8, id2 Float64");
    assert_eq!(read(Files::TEXT, "a.txt", "x", &[]).await.expect("text"), "value Utf8");
    assert_eq!(read(Files::CSV, "empty.csv", "", &[]).await.expect("csv"), "");
    assert_eq!(
        read(Files::CSV, "header.csv", "id,name\n", &[("header", "true")]).await.expect("csv"),
        "id Utf8, name Utf8"
    );
    let error = read(Files::PARQUET, "no.parquet", "PAR1 this is not parquet PAR1", &[]).await.expect_err("parquet");
    assert!(error.message.contains("no.parquet"), "{error}");
    let missing = Files::JSON.table(&options(&dir.path().join("nope"), &[]), None).await.expect_err("missing");
    assert_eq!((missing.kind, missing.class.as_str()), (ErrorKind::NotFound, "PATH_NOT_FOUND"));
    let error = read(Files::TEXT, "x.bz2", "x", &[]).await;
    assert!(error.is_ok(), "found when it is read");
    let sql = "SELECT * FROM t";
    let context = SessionContext::new();
    let table = Files::TEXT.table(&options(&dir.path().join("x.bz2"), &[]), None).await.expect("table");
    context.register_table("t", table).expect("register");
    let error = context.sql(sql).await.expect("sql").collect().await.expect_err("bz2");
    assert!(error.to_string().contains("CODEC_NOT_AVAILABLE"), "{error}");
}

#[tokio::test]
async fn large_files_are_read_in_ranges() {
    let dir = tempdir();
    let path = dir.path().join("a.csv");
    // 24 MB: more than the least a range has, lines of many lengths, a header.
    let mut text = String::from("id,pad\r\n");
    let mut rows = 0_i64;
    while text.len() < 24 << 20 {
        text.push_str(&format!("{rows},{}\r\n", "é".repeat(rows as usize % 97)));
        rows += 1;
    }
    std::fs::write(&path, text).expect("write");
    let options = options(&path, &[("header", "true")]);
    let schema =
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("pad", DataType::Utf8, true)]));
    let table = Files::CSV.table(&options, Some(schema)).await.expect("table");
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4));
    context.register_table("t", table).expect("register");
    let frame = context.sql("SELECT count(*), count(DISTINCT id), sum(id) FROM t").await.expect("sql");
    let plan = frame.clone().create_physical_plan().await.expect("plan");
    let shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    assert!(shown.contains("partition_sizes=[1, 1, 1, 1"), "{shown}");
    let batch = &frame.collect().await.expect("rows")[0];
    let value = |column: usize| batch.column(column).as_primitive::<Int64Type>().value(0);
    assert_eq!((value(0), value(1), value(2)), (rows, rows, rows * (rows - 1) / 2));
}

#[tokio::test]
async fn paths_that_cannot_be_written() {
    let dir = tempdir();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").expect("write");
    let schema = ids(&[]).schema();
    let options = options(&file.join("below"), &[]);
    let error = sink(&Files::JSON, &options, &schema, WriteMode::Append, "q", true).await.expect_err("below a file");
    assert_eq!(error.kind, ErrorKind::InvalidRequest, "{error}");
    assert!(error.message.contains("below"), "{error}");
    let update = sink(&Files::JSON, &options, &schema, WriteMode::Update, "q", true).await.expect_err("update");
    assert_eq!(update.class, "STREAMING_OUTPUT_MODE.UNSUPPORTED_DATASOURCE");
}

#[tokio::test]
async fn what_is_there_and_is_removed() {
    let dir = tempdir();
    let has = |name: &str| {
        let options = options(&dir.path().join(name), &[]);
        async move { super::has_files(&options).await.expect("is asked") }
    };
    assert!(!has("").await && !has("nope").await, "an empty folder is nothing");
    std::fs::create_dir_all(dir.path().join("t/_spark_metadata")).expect("folders");
    std::fs::create_dir(dir.path().join("t/empty")).expect("folder");
    for file in ["file", "t/x", "t/_spark_metadata/0", "tt"] {
        std::fs::write(dir.path().join(file), "x").expect("write");
    }
    assert!(has("file").await && has("t").await && has("t/_spark_metadata").await);
    let shows =
        async |name: &str| super::has_visible_files(&options(&dir.path().join(name), &[])).await.expect("is asked");
    assert!(shows("t").await && shows("").await && !shows("t/empty").await && !shows("nope").await);
    std::fs::remove_file(dir.path().join("t/x")).expect("is there");
    assert!(!shows("t").await, "a log is no rows");
    // Twice: once it is there, once it is gone.
    for _ in 0..2 {
        super::remove_all(&options(&dir.path().join("t"), &[])).await.expect("is removed");
    }
    assert_eq!(names(dir.path()), ["file", "tt"]);

    let in_memory = Options::new([("path", "memory://removed/t")]);
    let (store, root, _) = super::location::parse_location("memory://removed/t", &in_memory).expect("location");
    for name in ["t/x", "t/a=1/y", "tt/x"] {
        object_store::ObjectStoreExt::put(store.as_ref(), &name.into(), "x".into()).await.expect("write");
    }
    for _ in 0..2 {
        super::remove_all(&in_memory).await.expect("is removed");
    }
    assert!(!super::has_files(&in_memory).await.expect("is asked"), "{root}");
    assert!(super::has_files(&Options::new([("path", "memory://removed/tt")])).await.expect("is asked"));
    for whole in ["/", "memory://removed"] {
        let error = super::remove_all(&Options::new([("path", whole)])).await.expect_err("is a store");
        assert_eq!(error.class, "INVALID_PATH");
    }
}

#[tokio::test]
async fn a_table_that_nobody_has_written_has_no_rows() {
    let dir = tempdir();
    let day = Field::new("day", DataType::Utf8, true);
    let schema: SchemaRef = Arc::new(Schema::new(vec![day, Field::new("id", DataType::Int64, true)]));
    for (format, partition_by) in
        [(Files::PARQUET, ""), (Files::PARQUET, "day"), (Files::JSON, ""), (Files::CSV, "day")]
    {
        let mut options = options(&dir.path().join("new"), &[("partitionBy", partition_by)]);
        let error = format.table(&options, Some(Arc::clone(&schema))).await.expect_err("a path that is wrong");
        assert_eq!(error.class, "PATH_NOT_FOUND");
        options.set(super::options::MISSING_IS_EMPTY, "true");
        let context = SessionContext::new();
        let table = format.table(&options, Some(Arc::clone(&schema))).await.expect("table");
        context.register_table("t", table).expect("register");
        let count = context.sql("SELECT count(*) AS n, count(id) AS ids FROM t WHERE day <> 'x'").await.expect("sql");
        let rows = count.collect().await.expect("rows");
        let expect = "+---+-----+\n| n | ids |\n+---+-----+\n| 0 | 0   |\n+---+-----+";
        assert_eq!(pretty_format_batches(&rows).expect("table").to_string(), expect);
    }
}

#[tokio::test]
async fn executors_understand_the_plans() {
    let p: ArrayRef = Arc::new(StringArray::from(vec!["a/b", "c d"]));
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let rows = RecordBatch::try_from_iter([("p", p), ("id", id)]).expect("batch");
    for format in [Files::PARQUET, Files::CSV] {
        let dir = tempdir();
        let options = options(dir.path(), &[("partitionBy", "p")]);
        let written = sink(&format, &options, &rows.schema(), WriteMode::Append, "q", true).await.expect("sink");
        let message = task(&format, written.as_ref(), 0, 0, std::slice::from_ref(&rows)).await;
        written.commit(0, vec![message]).await.expect("commit");
        let context = SessionContext::new();
        let table = format.table(&options, Some(rows.schema())).await.expect("table");
        context.register_table("t", table).expect("register");
        let frame = context.sql("SELECT id, p FROM t WHERE p <> 'x' ORDER BY id").await.expect("sql");
        let plan = frame.create_physical_plan().await.expect("plan");
        let codec = crate::codec::HeadwaterPhysicalCodec::default();
        let bytes = datafusion_proto::bytes::physical_plan_to_bytes_with_extension_codec(plan, &codec).expect("encode");
        // As an executor has it: nothing registered, stores made when they are asked for.
        let registry = Arc::new(super::location::LazyObjectStoreRegistry::default());
        let runtime = datafusion::execution::runtime_env::RuntimeEnvBuilder::new().with_object_store_registry(registry);
        let runtime = Arc::new(runtime.build().expect("runtime"));
        let executor = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
        let plan = datafusion_proto::bytes::physical_plan_from_bytes_with_extension_codec(
            &bytes,
            &executor.task_ctx(),
            &codec,
        )
        .expect("decode");
        let got = datafusion::physical_plan::collect(plan, executor.task_ctx()).await.expect("rows");
        let expect = "+----+-----+\n| id | p   |\n+----+-----+\n| 1  | a/b |\n| 2  | c d |\n+----+-----+";
        assert_eq!(pretty_format_batches(&got).expect("table").to_string(), expect);
    }
}
