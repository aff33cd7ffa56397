//! The connector against the broker inside librdkafka, and the same suite, with what that broker cannot do, against
//! a real one when `KAFKA_ADDRESS` names it.

use super::admin::{Admin, EmbeddedBroker, NewRecord, TailFrom};
use super::offsets::{KafkaOffsets, OffsetRange};
use super::options::SourceOptions;
use super::scan::{KafkaReader, ReaderConfig, row_schema};
use super::{Kafka, pool};
use crate::connectors::{
    Connector, Limit, LimitContext, Offset, Options, ReadUntil, SinkContext, Source, WriteMode, WriteTask,
};
use crate::metrics::METRICS;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, ListArray, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use headwater_proto::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Time of value 0: recent, for a broker drops what is older than its retention.
static BEGAN_MS: LazyLock<i64> = LazyLock::new(|| chrono::Utc::now().timestamp_millis() - 3_600_000);

/// Where a suite runs.
struct Cluster {
    options: BTreeMap<String, String>,
    embedded: Option<EmbeddedBroker>,
}

impl Cluster {
    fn embedded() -> Self {
        let broker = EmbeddedBroker::start([]).unwrap();
        let options = BTreeMap::from([("kafka.bootstrap.servers".to_string(), broker.address().to_string())]);
        Self { options, embedded: Some(broker) }
    }
    /// `None`, with a line that says so, when there is no real one.
    fn real(test: &str) -> Option<Self> {
        let Ok(address) = std::env::var("KAFKA_ADDRESS") else {
            assert!(std::env::var("HEADWATER_REQUIRE_SERVICES").as_deref() != Ok("1"), "KAFKA_ADDRESS is not set");
            println!("skipped: {test} needs KAFKA_ADDRESS");
            return None;
        };
        let options = BTreeMap::from([("kafka.bootstrap.servers".to_string(), address)]);
        Some(Self { options, embedded: None })
    }
    fn address(&self) -> &str {
        &self.options["kafka.bootstrap.servers"]
    }
    fn admin(&self) -> Admin {
        Admin::with_options(&Options::new(self.options.clone())).unwrap()
    }
    fn options(&self, pairs: &[(&str, &str)]) -> Options {
        let mut options = Options::new(self.options.clone());
        for (key, value) in pairs {
            options.set(*key, *value);
        }
        options
    }
    /// A topic of its own for each test.
    async fn topic(&self, name: &str, partitions: i32) -> String {
        let name = format!("{name}-{}", uuid::Uuid::new_v4().simple());
        match &self.embedded {
            Some(broker) => broker.create_topic(&name, partitions).unwrap(),
            None => self.admin().create_topic(&name, partitions, 1).await.unwrap(),
        }
        name
    }
    async fn source(&self, pairs: &[(&str, &str)]) -> Arc<dyn Source> {
        Kafka.source(&self.options(pairs), None).await.unwrap()
    }
    /// Values `from..until`, each to partition `value % partitions`.
    async fn produce(&self, topic: &str, partitions: i32, values: std::ops::Range<i32>) {
        let records = values.map(|value| NewRecord {
            key: Some(format!("k{value}").into_bytes()),
            value: Some(value.to_string().into_bytes()),
            partition: Some(value % partitions),
            timestamp_ms: Some(*BEGAN_MS + i64::from(value)),
        });
        self.admin().produce(topic, records).await.unwrap();
    }
}

fn unlimited() -> LimitContext {
    LimitContext { limited: true, since_last_batch: Duration::ZERO }
}

fn until(source: &dyn Source, start: &Offset, latest: &Offset) -> Offset {
    match source.limit(start, latest, unlimited()).unwrap() {
        Limit::Until(offset) => offset,
        Limit::Wait => panic!("no reason to wait"),
    }
}

async fn read(config: &str, descriptor: &str, projection: Option<&[usize]>) -> Result<Vec<RecordBatch>> {
    let reader = Kafka.reader(config).unwrap();
    let full = row_schema(config.contains("\"include_headers\":true"));
    let schema = projection.map_or(Arc::clone(&full), |indices| Arc::new(full.project(indices).unwrap()));
    let context = Arc::new(TaskContext::default());
    let stream = reader.read(descriptor, projection, schema, ReadUntil::DescriptorEnd, context)?;
    stream.try_collect().await.map_err(|e| match e {
        datafusion::error::DataFusionError::External(inner) => *inner.downcast::<Error>().unwrap(),
        other => panic!("{other}"),
    })
}

/// Every plan partition of a batch at once, as executors do.
async fn read_all(source: &dyn Source, query: &str, start: &Offset, end: &Offset) -> Vec<RecordBatch> {
    let descriptors = source.plan(start, end).await.unwrap();
    let config = source.reader_config(query);
    let reads = descriptors.iter().map(|descriptor| read(&config, descriptor, None));
    futures::future::join_all(reads).await.into_iter().flat_map(Result::unwrap).collect()
}

fn values(batches: &[RecordBatch]) -> Vec<i32> {
    let mut values: Vec<i32> = batches
        .iter()
        .flat_map(|batch| {
            let column = batch.column_by_name("value").unwrap().as_binary::<i32>().clone();
            (0..column.len()).map(move |row| std::str::from_utf8(column.value(row)).unwrap().parse().unwrap())
        })
        .collect();
    values.sort_unstable();
    values
}

fn query() -> String {
    format!("query-{}", uuid::Uuid::new_v4())
}

fn descriptor(topic: &str, partition: i32, from: i64, until: i64) -> String {
    serde_json::to_string(&OffsetRange { topic: topic.into(), partition, from, until }).unwrap()
}

/// Several batches by the same consumers: every row once, none missing, ranges exact.
async fn exact_ranges(cluster: &Cluster) {
    const PARTITIONS: i32 = 3;
    let topic = cluster.topic("exact", PARTITIONS).await;
    let source = cluster
        .source(&[("subscribe", &topic), ("startingOffsets", "earliest"), ("maxOffsetsPerTrigger", "1000")])
        .await;
    assert_eq!(source.description(), format!("KafkaV2[Subscribe[{topic}]]"));
    let query = query();
    let mut start = source.initial_offset().await.unwrap();
    let mut seen = vec![];
    let mut batches = 0;
    for round in 0..4 {
        cluster.produce(&topic, PARTITIONS, round * 2500..(round + 1) * 2500).await;
        loop {
            let latest = source.latest_offset(&start).await.unwrap();
            let end = until(source.as_ref(), &start, &latest);
            if end == start {
                break;
            }
            let rows = read_all(source.as_ref(), &query, &start, &end).await;
            let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
            let lag = source.lag(&start, &end).unwrap();
            assert_eq!(count as u64, lag, "a batch reads its ranges, no more and no less");
            assert!(lag <= 1000 + PARTITIONS as u64);
            seen.extend(values(&rows));
            start = end;
            batches += 1;
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10_000).collect::<Vec<_>>());
    assert!(batches >= 10, "{batches}");
    assert_eq!(pool::POOL.idle_of(&query), PARTITIONS as usize, "consumers are kept, one for each topic partition");
    super::forget_query(&query);
}

/// A batch that runs again reads the same rows, and so does one that starts in the middle.
async fn resume(cluster: &Cluster) {
    let topic = cluster.topic("resume", 1).await;
    cluster.produce(&topic, 1, 0..500).await;
    let source = cluster.source(&[("subscribe", &topic)]).await;
    let at = |offset| KafkaOffsets::from_iter([(topic.clone(), 0, offset)]).to_offset();
    let query = query();
    for (from, to) in [(100, 200), (100, 200), (0, 50), (450, 500), (200, 201), (201, 450)] {
        let rows = read_all(source.as_ref(), &query, &at(from), &at(to)).await;
        assert_eq!(values(&rows), (from as i32..to as i32).collect::<Vec<_>>(), "{from}..{to}");
    }
    // Two at once, as when a task is thought dead: each has a consumer of its own.
    let (from, to) = (at(0), at(400));
    let (one, two) =
        tokio::join!(read_all(source.as_ref(), &query, &from, &to), read_all(source.as_ref(), &query, &from, &to));
    assert_eq!(values(&one), values(&two));
    assert_eq!(values(&one).len(), 400);
    super::forget_query(&query);
}

/// One topic partition read by several tasks at once.
async fn split_ranges(cluster: &Cluster) {
    let topic = cluster.topic("split", 1).await;
    let source =
        cluster.source(&[("subscribe", &topic), ("startingOffsets", "earliest"), ("minPartitions", "4")]).await;
    let query = query();
    let mut start = source.initial_offset().await.unwrap();
    for round in 0..3 {
        let values_expected = round * 1000..(round + 1) * 1000;
        cluster.produce(&topic, 1, values_expected.clone()).await;
        let end = source.latest_offset(&start).await.unwrap();
        assert_eq!(source.plan(&start, &end).await.unwrap().len(), 4);
        let rows = read_all(source.as_ref(), &query, &start, &end).await;
        assert_eq!(values(&rows), values_expected.collect::<Vec<_>>());
        start = end;
    }
    assert!(pool::POOL.idle_of(&query) <= 4);
    super::forget_query(&query);
}

/// Too few records wait; the trigger `once` takes all there are.
async fn limits(cluster: &Cluster) {
    let topic = cluster.topic("limits", 1).await;
    let pairs = [
        ("subscribe", topic.as_str()),
        ("startingOffsets", "earliest"),
        ("minOffsetsPerTrigger", "5"),
        ("maxOffsetsPerTrigger", "6"),
        ("maxTriggerDelay", "10s"),
    ];
    let source = cluster.source(&pairs).await;
    let start = source.initial_offset().await.unwrap();
    let at = |offset: i64| KafkaOffsets::from_iter([(topic.as_str(), 0, offset)]).to_offset();
    let check = |latest: i64, limited: bool, since_s: u64, expect: Limit| {
        let context = LimitContext { limited, since_last_batch: Duration::from_secs(since_s) };
        assert_eq!(source.limit(&start, &at(latest), context).unwrap(), expect);
    };
    check(4, true, 0, Limit::Wait);
    check(4, true, 10, Limit::Until(at(4)));
    check(5, true, 0, Limit::Until(at(5)));
    check(50, true, 0, Limit::Until(at(6)));
    check(50, false, 0, Limit::Until(at(50)));
}

async fn columns_and_headers(cluster: &Cluster) {
    let topic = cluster.topic("columns", 1).await;
    let header_type = row_schema(true).field(7).data_type().clone();
    let schema = Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Binary, true),
        Field::new("headers", header_type.clone(), true),
        Field::new("partition", DataType::Int32, true),
    ]));
    let DataType::List(item) = header_type else { panic!() };
    let DataType::Struct(fields) = item.data_type().clone() else { panic!() };
    let entries = arrow::array::StructArray::new(
        fields,
        vec![
            Arc::new(StringArray::from(vec!["a", "b", "a"])) as ArrayRef,
            Arc::new(BinaryArray::from_opt_vec(vec![Some(b"1".as_slice()), None, Some(b"")])),
        ],
        None,
    );
    let headers = ListArray::new(
        item,
        arrow::buffer::OffsetBuffer::from_lengths([3, 0]),
        Arc::new(entries),
        Some(arrow::buffer::NullBuffer::from(vec![true, false])),
    );
    let batch = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(StringArray::from(vec![Some("k"), None])),
            Arc::new(BinaryArray::from_opt_vec(vec![Some(b"v".as_slice()), None])),
            Arc::new(headers),
            Arc::new(Int32Array::from(vec![Some(0), None])),
        ],
    )
    .unwrap();
    write(cluster, &[("topic", &topic)], vec![batch]).await.unwrap();

    let options =
        SourceOptions::stream(&cluster.options(&[("subscribe", &topic), ("includeHeaders", "true")])).unwrap();
    let config = ReaderConfig::new(&options, &query()).to_json();
    let rows = read(&config, &descriptor(&topic, 0, 0, 2), None).await.unwrap();
    let row = &rows[0];
    assert_eq!(row.num_rows(), 2);
    let text = arrow::util::pretty::pretty_format_batches(&[row.project(&[0, 1, 3, 4, 6, 7]).unwrap()]).unwrap();
    insta::allow_duplicates! { insta::assert_snapshot!(text, @r"
    +-----+-------+-----------+--------+---------------+-------------------------------------------------------------+
    | key | value | partition | offset | timestampType | headers                                                     |
    +-----+-------+-----------+--------+---------------+-------------------------------------------------------------+
    | 6b  | 76    | 0         | 0      | 0             | [{key: a, value: 31}, {key: b, value: }, {key: a, value: }] |
    |     |       | 0         | 1      | 0             |                                                             |
    +-----+-------+-----------+--------+---------------+-------------------------------------------------------------+
    "); }
    assert_eq!(row.column(2).as_string::<i32>().value(1), topic);
    assert!(row.column(7).is_null(1), "no headers are null");
    let entries = row.column(7).as_list::<i32>().value(0);
    assert_eq!(entries.as_struct().column(1).null_count(), 1, "a null header is not an empty one");
    let time = row.column(5).as_primitive::<TimestampMicrosecondType>().value(0);
    assert!((time / 1_000_000 - chrono::Utc::now().timestamp()).abs() < 600, "{time}");

    // Only what is asked for, and nothing at all but the count.
    let offsets = read(&config, &descriptor(&topic, 0, 0, 2), Some(&[4, 3])).await.unwrap();
    assert_eq!(offsets[0].column(0).as_primitive::<Int64Type>().values(), &[0, 1]);
    assert_eq!(offsets[0].column(1).as_primitive::<Int32Type>().values(), &[0, 0]);
    let none = read(&config, &descriptor(&topic, 0, 0, 2), Some(&[])).await.unwrap();
    assert_eq!((none[0].num_columns(), none[0].num_rows()), (0, 2));
}

async fn write(cluster: &Cluster, pairs: &[(&str, &str)], batches: Vec<RecordBatch>) -> Result<u64> {
    let context = SinkContext { schema: batches[0].schema(), mode: WriteMode::Append, query: query(), streaming: true };
    let sink = Kafka.sink(&cluster.options(pairs), context).await?;
    sink.prepare().await?;
    let writer = Kafka.writer(&sink.writer_config())?;
    let task = WriteTask { batch_id: 0, batch_time_ms: None, partition: 0, attempt: "a".into() };
    let mut open = writer.open(task, batches[0].schema(), Arc::new(TaskContext::default())).await?;
    for batch in batches {
        open.write(batch).await?;
        open.flush().await?;
    }
    let (counts, message) = open.close().await?;
    assert_eq!(message, None);
    Ok(counts.rows)
}

fn text_batch(columns: &[(&str, Vec<Option<String>>)]) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true)).collect();
    let arrays = columns.iter().map(|(_, values)| Arc::new(StringArray::from(values.clone())) as ArrayRef).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

/// What the sink writes, the source reads: many rows through a small queue, topics by column.
async fn round_trip(cluster: &Cluster) {
    let (left, right) = (cluster.topic("left", 2).await, cluster.topic("right", 1).await);
    let rows = 20_000;
    let topics = (0..rows).map(|i| Some(if i % 4 == 0 { right.clone() } else { left.clone() })).collect();
    let batch = text_batch(&[("value", (0..rows).map(|i| Some(i.to_string())).collect()), ("topic", topics)]);
    // A queue of a hundred records is full all the time.
    let written = write(cluster, &[("kafka.queue.buffering.max.messages", "100")], vec![batch]).await.unwrap();
    assert_eq!(written, rows as u64);
    let table = Kafka.table(&cluster.options(&[("subscribe", &format!("{left},{right}"))]), None).await.unwrap();
    let session = SessionContext::new();
    session.register_table("k", table).unwrap();
    let sql =
        "SELECT topic, count(*) AS n, count(DISTINCT CAST(value AS VARCHAR)) AS d FROM k GROUP BY topic ORDER BY n";
    let result = session.sql(sql).await.unwrap().collect().await.unwrap();
    let result = arrow::compute::concat_batches(&result[0].schema(), &result).unwrap();
    assert_eq!(result.column(1).as_primitive::<Int64Type>().values(), &[5000, 15_000]);
    assert_eq!(result.column(2).as_primitive::<Int64Type>().values(), &[5000, 15_000]);

    let null_topic = text_batch(&[("value", vec![Some("x".into())]), ("topic", vec![None])]);
    assert_eq!(write(cluster, &[], vec![null_topic]).await.unwrap_err().class, "KAFKA_NULL_TOPIC");
}

/// How long a batch of one row takes that was in the log before, and one that comes while it is waited for.
async fn latency(cluster: &Cluster) {
    let topic = cluster.topic("latency", 1).await;
    let source = cluster.source(&[("subscribe", &topic), ("startingOffsets", "earliest")]).await;
    let query = query();
    let admin = cluster.admin();
    let mut start = source.initial_offset().await.unwrap();
    let (mut ends, mut reads, mut plans) = (vec![], vec![], vec![]);
    for round in 0..60 {
        admin.produce(&topic, [NewRecord::of_value(round.to_string())]).await.unwrap();
        // The prefetch has the record by then, as it has between the batches of a stream under load.
        tokio::time::sleep(Duration::from_millis(12)).await;
        let at = Instant::now();
        let end = source.latest_offset(&start).await.unwrap();
        ends.push(at.elapsed());
        let at = Instant::now();
        let descriptors = source.plan(&start, &end).await.unwrap();
        plans.push(at.elapsed());
        let config = source.reader_config(&query);
        let at = Instant::now();
        let rows = read(&config, &descriptors[0], None).await.unwrap();
        reads.push(at.elapsed());
        assert_eq!(values(&rows), [round]);
        start = end;
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let first = reads[0];
    let (ends, plans, reads) = (median(&mut ends), median(&mut plans), median(&mut reads));
    println!(
        "1-row batch, median: latest offset {ends:?}, plan {plans:?}, read {reads:?}; the first read took {first:?}"
    );
    // Far above what it takes, far below any interval of waiting.
    assert!(reads < Duration::from_millis(50), "{reads:?}");
    super::forget_query(&query);
}

async fn missing_topic(cluster: &Cluster) {
    let source = cluster.source(&[("subscribe", "no-such-topic-here")]).await;
    let error = source.initial_offset().await.unwrap_err();
    assert_eq!((error.class.as_str(), error.kind), ("KAFKA_UNKNOWN_TOPIC", ErrorKind::NotFound));
    assert!(error.message.contains("headwater topic create no-such-topic-here"), "{error}");
    let error = cluster.admin().describe_topic("no-such-topic-here").await.unwrap_err();
    assert_eq!(error.class, "KAFKA_UNKNOWN_TOPIC");
}

/// Starting offsets by JSON, and its refusals.
async fn starting_offsets(cluster: &Cluster) {
    let topic = cluster.topic("starting", 2).await;
    cluster.produce(&topic, 2, 0..10).await;
    let check = async |json: &str, expect: std::result::Result<&str, &str>| {
        let source = cluster.source(&[("subscribe", &topic), ("startingOffsets", json)]).await;
        let found = source.initial_offset().await;
        match (found, expect) {
            (Ok(offset), Ok(expect)) => assert_eq!(offset.0, expect),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (found, expect) => panic!("{found:?} is not {expect:?}"),
        }
    };
    let json = |zero, one| format!("{{\"{topic}\":{{\"0\":{zero},\"1\":{one}}}}}");
    check("earliest", Ok(&json(0, 0))).await;
    check("latest", Ok(&json(5, 5))).await;
    check(&json(-2, -1), Ok(&json(0, 5))).await;
    check(&json(3, 4), Ok(&json(3, 4))).await;
    check(&format!("{{\"{topic}\":{{\"0\":3}}}}"), Err("missing")).await;
    check("{\"other\":{\"0\":3}}", Err("not read: other-0")).await;
}

async fn tail_and_describe(cluster: &Cluster) {
    let topic = cluster.topic("tail", 2).await;
    cluster.produce(&topic, 2, 0..10).await;
    let admin = cluster.admin();
    assert!(admin.list_topics().await.unwrap().iter().any(|t| t.name == topic && t.partitions == 2));
    let description = admin.describe_topic(&topic).await.unwrap();
    let ends: Vec<_> = description.partitions.iter().map(|p| (p.partition, p.earliest, p.latest)).collect();
    assert_eq!(ends, [(0, Some(0), Some(5)), (1, Some(0), Some(5))]);
    let read = |records: Vec<super::admin::TailRecord>| {
        let mut values: Vec<i32> =
            records.iter().map(|r| String::from_utf8_lossy(r.value.as_ref().unwrap()).parse().unwrap()).collect();
        values.sort_unstable();
        values
    };
    let all: Vec<_> = admin.tail(&topic, TailFrom::Earliest, false).await.unwrap().try_collect().await.unwrap();
    assert_eq!(read(all), (0..10).collect::<Vec<_>>());
    let last: Vec<_> = admin.tail(&topic, TailFrom::Last(1), false).await.unwrap().try_collect().await.unwrap();
    assert_eq!(read(last), [8, 9]);
    let mut following = admin.tail(&topic, TailFrom::Latest, true).await.unwrap();
    let (_, next) = tokio::join!(cluster.produce(&topic, 2, 10..12), async {
        let one = following.next().await.unwrap().unwrap();
        let two = following.next().await.unwrap().unwrap();
        read(vec![one, two])
    });
    assert_eq!(next, [10, 11]);
}

/// Real-time mode's seam: rows come as they are written, until told, and the end is known.
async fn until_told(cluster: &Cluster) {
    let topic = cluster.topic("told", 1).await;
    let options = SourceOptions::stream(&cluster.options(&[("subscribe", &topic)])).unwrap();
    let reader = KafkaReader::new(ReaderConfig::new(&options, &query()));
    let (tell, told) = tokio::sync::watch::channel(false);
    let (mut stream, position) = reader
        .read_with_position(
            &descriptor(&topic, 0, 0, 0),
            Some(&[1]),
            Arc::new(row_schema(false).project(&[1]).unwrap()),
            ReadUntil::Signal(told),
        )
        .unwrap();
    for value in 0..3 {
        cluster.produce(&topic, 1, value..value + 1).await;
        let batch = tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(values(&[batch]), [value]);
    }
    tell.send(true).unwrap();
    let end = tokio::time::timeout(Duration::from_secs(5), stream.next()).await.expect("a told stream ends");
    assert!(end.is_none());
    assert_eq!(*position.borrow(), 3);
}

/// A dropped stream frees its consumer at once.
async fn dropped_stream(cluster: &Cluster) {
    let topic = cluster.topic("dropped", 1).await;
    cluster.produce(&topic, 1, 0..1).await;
    let options = SourceOptions::stream(&cluster.options(&[("subscribe", &topic)])).unwrap();
    let name = query();
    let reader = KafkaReader::new(ReaderConfig::new(&options, &name));
    // Waits for records that never come.
    let (mut stream, _) = reader
        .read_with_position(&descriptor(&topic, 0, 0, 100), None, row_schema(false), ReadUntil::DescriptorEnd)
        .unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(300), stream.next()).await;
    assert!(waited.is_err(), "nothing is handed over before the range is read");
    let at = Instant::now();
    drop(stream);
    while pool::POOL.idle_of(&name) == 0 {
        assert!(at.elapsed() < Duration::from_secs(5), "the reading thread did not stop");
        tokio::task::yield_now().await;
    }
    println!("a dropped stream's thread stopped after {:?}", at.elapsed());
    assert!(at.elapsed() < Duration::from_secs(1), "{:?}", at.elapsed());
    super::forget_query(&name);
}

/// Finished batches show in a consumer group.
async fn commits_to_a_group(cluster: &Cluster) {
    let topic = cluster.topic("lag", 2).await;
    cluster.produce(&topic, 2, 0..10).await;
    let group = format!("lag-{}", uuid::Uuid::new_v4());
    let source = cluster.source(&[("subscribe", &topic), ("headwater.commit.group.id", &group)]).await;
    let at = |zero, one| KafkaOffsets::from_iter([(topic.clone(), 0, zero), (topic.clone(), 1, one)]);
    source.committed(&at(1, 1).to_offset()).await.unwrap();
    source.committed(&at(5, 3).to_offset()).await.unwrap();
    let admin = cluster.admin();
    let since = Instant::now();
    loop {
        let committed = admin.group_offsets(&group, &topic).await.unwrap();
        if committed == at(5, 3) {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{committed:?}");
    }
}

/// A pattern finds the topics that match wholly, and those that come later.
async fn pattern(cluster: &Cluster) {
    let topic = cluster.topic("pattern", 1).await;
    let source =
        cluster.source(&[("subscribePattern", &format!("{topic}(-.)?")), ("startingOffsets", "earliest")]).await;
    cluster.topic(&format!("not-{topic}"), 1).await;
    let start = source.initial_offset().await.unwrap();
    assert_eq!(KafkaOffsets::from_offset(&start).unwrap().len(), 1);
    let later = format!("{topic}-b");
    match &cluster.embedded {
        Some(broker) => broker.create_topic(&later, 1).unwrap(),
        None => cluster.admin().create_topic(&later, 1, 1).await.unwrap(),
    }
    cluster.produce(&later, 1, 0..7).await;
    let since = Instant::now();
    let latest = loop {
        let latest = source.latest_offset(&start).await.unwrap();
        if KafkaOffsets::from_offset(&latest).unwrap().len() == 2 {
            break latest;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{latest:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let query = query();
    let rows = read_all(source.as_ref(), &query, &start, &latest).await;
    assert_eq!(values(&rows), (0..7).collect::<Vec<_>>());
    super::forget_query(&query);
}

/// Values of a batch read.
async fn table_values(cluster: &Cluster, pairs: &[(&str, &str)]) -> Vec<i32> {
    let session = SessionContext::new();
    session.register_table("k", Kafka.table(&cluster.options(pairs), None).await.unwrap()).unwrap();
    values(&session.sql("SELECT value FROM k").await.unwrap().collect().await.unwrap())
}

/// The topic partitions that are named, and no others.
async fn assigned(cluster: &Cluster) {
    let topic = cluster.topic("assigned", 3).await;
    cluster.produce(&topic, 3, 0..30).await;
    let assign = format!("{{\"{topic}\":[0,2]}}");
    let source = cluster.source(&[("assign", &assign), ("startingOffsets", "earliest")]).await;
    assert_eq!(source.description(), format!("KafkaV2[Assign[{topic}-0, {topic}-2]]"));
    let start = source.initial_offset().await.unwrap();
    let end = source.latest_offset(&start).await.unwrap();
    assert_eq!(end.0, format!("{{\"{topic}\":{{\"0\":10,\"2\":10}}}}"));
    let query = query();
    let rows = read_all(source.as_ref(), &query, &start, &end).await;
    let expect: Vec<i32> = (0..30).filter(|value| value % 3 != 1).collect();
    assert_eq!(values(&rows), expect);
    assert_eq!(table_values(cluster, &[("assign", &assign)]).await, expect);
    super::forget_query(&query);
}

/// A batch read ends before its ending offsets.
async fn ending_offsets(cluster: &Cluster) {
    let topic = cluster.topic("ending", 2).await;
    cluster.produce(&topic, 2, 0..20).await;
    let check = async |zero: i64, one: i64, expect: &[i32]| {
        let ending = format!("{{\"{topic}\":{{\"0\":{zero},\"1\":{one}}}}}");
        assert_eq!(
            table_values(cluster, &[("subscribe", &topic), ("endingOffsets", &ending)]).await,
            expect,
            "{ending}"
        );
    };
    check(2, 1, &[0, 1, 2]).await;
    check(0, 0, &[]).await;
    check(0, -1, &[1, 3, 5, 7, 9, 11, 13, 15, 17, 19]).await;
}

/// A large range is read by several tasks, each with so many records at most.
async fn max_records(cluster: &Cluster) {
    let topic = cluster.topic("max-records", 2).await;
    cluster.produce(&topic, 2, 0..50).await;
    let pairs = [("subscribe", topic.as_str()), ("startingOffsets", "earliest"), ("maxRecordsPerPartition", "10")];
    let source = cluster.source(&pairs).await;
    let (start, query) = (source.initial_offset().await.unwrap(), query());
    // As a query is planned: before anything is asked of the brokers.
    let config = source.reader_config(&query);
    let end = source.latest_offset(&start).await.unwrap();
    let plan = source.plan(&start, &end).await.unwrap();
    assert!(plan.iter().all(|descriptor| descriptor.contains("\"consumers\":6")), "{config}: {plan:?}");
    let sizes: Vec<u64> =
        plan.iter().map(|descriptor| serde_json::from_str::<OffsetRange>(descriptor).unwrap().size()).collect();
    assert_eq!(sizes.len(), 6, "three for each 25 records: {sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 10), "{sizes:?}");
    assert_eq!(values(&read_all(source.as_ref(), &query, &start, &end).await), (0..50).collect::<Vec<_>>());
    super::forget_query(&query);
}

/// The group is a name by which brokers know the client: nothing is committed to it.
async fn groups_are_names(cluster: &Cluster) {
    let topic = cluster.topic("groups", 1).await;
    cluster.produce(&topic, 1, 0..10).await;
    let group = format!("group-{}", uuid::Uuid::new_v4().simple());
    let check = async |pairs: &[(&str, &str)]| {
        let all = [&[("subscribe", topic.as_str()), ("startingOffsets", "earliest")], pairs].concat();
        let source = cluster.source(&all).await;
        let query = query();
        let config: ReaderConfig = serde_json::from_str(&source.reader_config(&query)).unwrap();
        assert_eq!(config.properties.get("client.id"), Some(group.as_str()), "{pairs:?}");
        assert_eq!(config.properties.get("group.id"), None, "{pairs:?}");
        let start = source.initial_offset().await.unwrap();
        let end = source.latest_offset(&start).await.unwrap();
        assert_eq!(values(&read_all(source.as_ref(), &query, &start, &end).await), (0..10).collect::<Vec<_>>());
        source.committed(&end).await.unwrap();
        assert_eq!(cluster.admin().group_offsets(&group, &topic).await.unwrap(), KafkaOffsets::default());
        super::forget_query(&query);
    };
    check(&[("groupIdPrefix", &group)]).await;
    check(&[("kafka.group.id", &group), ("groupIdPrefix", "another")]).await;
}

/// A row goes to the partition that it names, whatever its key.
async fn partition_column(cluster: &Cluster) {
    let topic = cluster.topic("partition-column", 2).await;
    let rows = |partition: i32| {
        let schema = Schema::new(vec![
            Field::new("key", DataType::Utf8, true),
            Field::new("value", DataType::Utf8, true),
            Field::new("partition", DataType::Int32, true),
        ]);
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..20).map(|row| format!("k{row}"))));
        let partitions: ArrayRef = Arc::new(Int32Array::from(vec![partition; 20]));
        RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(&keys), keys, partitions]).unwrap()
    };
    assert_eq!(write(cluster, &[("topic", &topic)], vec![rows(1)]).await.unwrap(), 20);
    let described = cluster.admin().describe_topic(&topic).await.unwrap();
    let ends: Vec<_> = described.partitions.iter().map(|partition| partition.latest).collect();
    assert_eq!(ends, [Some(0), Some(20)]);
    let error = write(cluster, &[("topic", &topic)], vec![rows(9)]).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::InvalidRequest, "KAFKA_UNKNOWN_PARTITION"));
    assert!(error.message.contains(&topic), "{error}");
}

/// More than a broker takes: refused, and not tried again.
async fn large_record(cluster: &Cluster) {
    let topic = cluster.topic("large", 1).await;
    let rows = text_batch(&[("value", vec![Some("x".repeat(2_000_000))])]);
    let error = write(cluster, &[("topic", &topic)], vec![rows]).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::InvalidRequest, "KAFKA_RECORD_TOO_LARGE"));
    assert!(error.message.contains("kafka.max.request.size"), "{error}");
    assert_eq!(cluster.admin().describe_topic(&topic).await.unwrap().partitions[0].latest, Some(0));
}

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(&Cluster::embedded()).await;
                }
            )*
        }
        mod real {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let Some(cluster) = Cluster::real(stringify!($name)) else { return };
                    super::$name(&cluster).await;
                }
            )*
        }
    };
}

suite!(
    exact_ranges,
    resume,
    split_ranges,
    limits,
    columns_and_headers,
    round_trip,
    latency,
    missing_topic,
    starting_offsets,
    tail_and_describe,
    until_told,
    dropped_stream,
    commits_to_a_group,
    pattern,
    assigned,
    ending_offsets,
    max_records,
    groups_are_names,
    partition_column,
    large_record,
);

/// Overflows the partition, so that the broker drops its beginning; where it now begins.
async fn age_out(cluster: &Cluster, topic: &str) -> i64 {
    if cluster.embedded.is_none() {
        cluster.produce(topic, 1, 0..20).await;
        cluster.admin().delete_records(topic, 0, 8).await.unwrap();
        return 8;
    }
    let big = "x".repeat(100_000);
    let admin = cluster.admin();
    for _ in 0..100 {
        // One message set each: it is whole sets that are dropped.
        admin.produce(topic, [NewRecord::of_value(big.clone())]).await.unwrap();
    }
    let begin = admin.describe_topic(topic).await.unwrap().partitions[0].earliest.unwrap();
    assert!(begin > 0, "nothing was dropped");
    begin
}

async fn data_loss(cluster: &Cluster) {
    let topic = cluster.topic("loss", 1).await;
    let begin = age_out(cluster, &topic).await;
    let losses = METRICS.kafka_data_loss.get();
    let config = |fail: &str| {
        let options = cluster.options(&[("subscribe", &topic), ("failOnDataLoss", fail)]);
        ReaderConfig::new(&SourceOptions::stream(&options).unwrap(), &query()).to_json()
    };
    let error = read(&config("true"), &descriptor(&topic, 0, 2, begin + 3), Some(&[4])).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.kind), ("KAFKA_DATA_LOSS", ErrorKind::Fatal));
    assert!(error.message.contains(&format!("offsets 2..{begin} of topic {topic} partition 0")), "{error}");
    let rows = read(&config("false"), &descriptor(&topic, 0, 2, begin + 3), Some(&[4])).await.unwrap();
    let offsets: Vec<i64> =
        rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(offsets, [begin, begin + 1, begin + 2]);
    // All of it lost: nothing is read, and that is an end.
    let rows = read(&config("false"), &descriptor(&topic, 0, 0, begin - 1), Some(&[4])).await.unwrap();
    assert!(rows.is_empty());
    // The log is shorter than the offset: the topic was made anew.
    let error = read(&config("true"), &descriptor(&topic, 0, 5000, 6000), Some(&[4])).await.unwrap_err();
    assert_eq!(error.class, "KAFKA_DATA_LOSS");
    assert!(METRICS.kafka_data_loss.get() >= losses + 4);

    // The driver sees it too, from the offsets alone.
    let source = cluster.source(&[("subscribe", &topic)]).await;
    let offset = |json: String| Offset(json);
    let error = source
        .plan(&offset(format!("{{\"{topic}\":{{\"0\":5,\"1\":1}}}}")), &offset(format!("{{\"{topic}\":{{\"0\":6}}}}")))
        .await
        .unwrap_err();
    assert!(error.message.contains("partition 1 of topic"), "{error}");
    // And before a batch is decided.
    let start = offset(r#"{"another-topic":{"0":5}}"#.to_string());
    let latest = source.latest_offset(&start).await.unwrap();
    for limited in [true, false] {
        let context = LimitContext { limited, since_last_batch: Duration::MAX };
        let error = source.limit(&start, &latest, context).unwrap_err();
        assert_eq!((error.class.as_str(), error.kind), ("KAFKA_DATA_LOSS", ErrorKind::Fatal));
        assert!(error.message.contains("partition 0 of topic another-topic"), "{error}");
    }
    let careless = cluster.source(&[("subscribe", &topic), ("failOnDataLoss", "false")]).await;
    let context = LimitContext { limited: true, since_last_batch: Duration::MAX };
    assert_eq!(careless.limit(&start, &latest, context).unwrap(), Limit::Until(latest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_loss_embedded() {
    data_loss(&Cluster::embedded()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_loss_real() {
    if let Some(cluster) = Cluster::real("data_loss") {
        data_loss(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_brokers_are_named_within_the_bound() {
    // Bound, so that nobody else is given it, and not listened on.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    let options = Options::new([
        ("kafka.bootstrap.servers", address.as_str()),
        ("subscribe", "t"),
        ("kafka.default.api.timeout.ms", "1500"),
        ("kafkaConsumer.pollTimeoutMs", "1500"),
    ]);
    let source = Kafka.source(&options, None).await.unwrap();
    let at = Instant::now();
    let error = source.initial_offset().await.unwrap_err();
    assert_eq!((error.class.as_str(), error.kind), ("KAFKA_UNREACHABLE", ErrorKind::Transient));
    assert!(error.message.contains(&address), "{error}");
    assert!(at.elapsed() < Duration::from_secs(4), "{:?}", at.elapsed());

    let at = Instant::now();
    let error = read(&source.reader_config(&query()), &descriptor("t", 0, 0, 5), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    assert!(error.message.contains(&address), "{error}");
    assert!(at.elapsed() < Duration::from_secs(4), "{:?}", at.elapsed());

    let cluster = Cluster {
        options: BTreeMap::from([
            ("kafka.bootstrap.servers".into(), address.clone()),
            ("kafka.delivery.timeout.ms".into(), "1000".into()),
        ]),
        embedded: None,
    };
    let at = Instant::now();
    let batch = text_batch(&[("value", vec![Some("x".into())])]);
    let error = write(&cluster, &[("topic", "t")], vec![batch]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    assert!(error.message.contains(&address), "{error}");
    assert!(at.elapsed() < Duration::from_secs(6), "{:?}", at.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_back_is_read_from() {
    let cluster = Cluster::embedded();
    let topic = cluster.topic("back", 1).await;
    cluster.produce(&topic, 1, 0..10).await;
    let options = SourceOptions::stream(&cluster.options(&[("subscribe", &topic)])).unwrap();
    let config = ReaderConfig::new(&options, &query()).to_json();
    assert_eq!(values(&read(&config, &descriptor(&topic, 0, 0, 10), None).await.unwrap()).len(), 10);
    let broker = cluster.embedded.as_ref().unwrap();
    cluster.produce(&topic, 1, 10..20).await;
    broker.set_reachable(false).unwrap();
    let reading = tokio::spawn(async move { read(&config, &descriptor(&topic, 0, 10, 20), None).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    broker.set_reachable(true).unwrap();
    assert_eq!(values(&reading.await.unwrap().unwrap()), (10..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_partitions() {
    const PARTITIONS: i32 = 50;
    let cluster = Cluster::embedded();
    let topic = cluster.topic("fifty", PARTITIONS).await;
    cluster.produce(&topic, PARTITIONS, 0..5000).await;
    let source = cluster.source(&[("subscribe", &topic), ("startingOffsets", "earliest")]).await;
    let start = source.initial_offset().await.unwrap();
    let mut times = vec![];
    for _ in 0..20 {
        let at = Instant::now();
        source.latest_offset(&start).await.unwrap();
        times.push(at.elapsed());
    }
    times.sort_unstable();
    println!("latest offsets of {PARTITIONS} partitions: median {:?}", times[10]);
    let end = source.latest_offset(&start).await.unwrap();
    let query = query();
    let rows = read_all(source.as_ref(), &query, &start, &end).await;
    assert_eq!(values(&rows), (0..5000).collect::<Vec<_>>());
    super::forget_query(&query);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn added_partitions_are_found_and_read_from_their_start() {
    let Some(cluster) = Cluster::real("partition growth") else { return };
    let topic = cluster.topic("growth", 1).await;
    cluster.produce(&topic, 1, 0..10).await;
    let source = cluster.source(&[("subscribe", &topic)]).await;
    let start = source.initial_offset().await.unwrap();
    assert_eq!(source.latest_offset(&start).await.unwrap(), start);
    cluster.admin().grow_topic(&topic, 3).await.unwrap();
    cluster.produce(&topic, 3, 10..40).await;
    let since = Instant::now();
    let latest = loop {
        let latest = source.latest_offset(&start).await.unwrap();
        if KafkaOffsets::from_offset(&latest).unwrap().len() == 3 {
            break latest;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "{latest:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let query = query();
    let rows = read_all(source.as_ref(), &query, &start, &latest).await;
    assert_eq!(values(&rows), (10..40).collect::<Vec<_>>());
    super::forget_query(&query);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timestamps_choose_offsets() {
    let Some(cluster) = Cluster::real("timestamps") else { return };
    let topic = cluster.topic("times", 2).await;
    cluster.produce(&topic, 2, 0..10).await;
    let check = async |pairs: &[(&str, &str)], expect: std::result::Result<[i64; 2], &str>| {
        let mut all = vec![("subscribe", topic.as_str())];
        all.extend(pairs);
        let found = cluster.source(&all).await.initial_offset().await;
        match (found, expect) {
            (Ok(offset), Ok([zero, one])) => {
                assert_eq!(offset.0, format!("{{\"{topic}\":{{\"0\":{zero},\"1\":{one}}}}}"))
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (found, expect) => panic!("{found:?} is not {expect:?}"),
        }
    };
    let at = |value: i64| (*BEGAN_MS + value).to_string();
    check(&[("startingTimestamp", &at(4))], Ok([2, 2])).await;
    check(&[("startingTimestamp", &at(9))], Err("partition 0")).await;
    let latest = ("startingOffsetsByTimestampStrategy", "latest");
    check(&[("startingTimestamp", &at(9)), latest], Ok([5, 4])).await;
    let by_partition = format!("{{\"{topic}\":{{\"0\":{},\"1\":{}}}}}", at(0), at(3));
    check(&[("startingOffsetsByTimestamp", &by_partition)], Ok([0, 1])).await;

    // A batch between two times; the end may be after every record.
    for (ending, count) in [(at(6), 6), (at(10_000_000), 10)] {
        let options = cluster.options(&[("subscribe", &topic), ("endingTimestamp", &ending)]);
        let session = SessionContext::new();
        session.register_table("k", Kafka.table(&options, None).await.unwrap()).unwrap();
        assert_eq!(session.sql("SELECT value FROM k").await.unwrap().count().await.unwrap(), count);
    }
    // A time for each partition: even values before 4, odd ones before 7.
    let ending = format!("{{\"{topic}\":{{\"0\":{},\"1\":{}}}}}", at(4), at(7));
    let found = table_values(&cluster, &[("subscribe", &topic), ("endingOffsetsByTimestamp", &ending)]).await;
    assert_eq!(found, [0, 1, 2, 3, 5]);
}

/// Transaction markers and aborted records take offsets and are no rows: ranges that end with one end at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_leave_gaps() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let Some(cluster) = Cluster::real("transactions") else { return };
    let topic = cluster.topic("transactions", 1).await;
    let producer: Arc<BaseProducer> = Arc::new(
        rdkafka::ClientConfig::new()
            .set("bootstrap.servers", cluster.address())
            .set("transactional.id", &topic)
            .create()
            .unwrap(),
    );
    let wait = Duration::from_secs(20);
    let (to, sender) = (topic.clone(), std::sync::Arc::clone(&producer));
    // Offsets: 0..5 and a marker, 6..11 aborted and a marker, 12..17 and a marker: the end is 18.
    let send = move |values: std::ops::Range<i32>, commit: bool| {
        sender.begin_transaction().unwrap();
        for value in values {
            sender.send(BaseRecord::<(), str>::to(&to).partition(0).payload(&value.to_string())).unwrap();
        }
        sender.flush(wait).unwrap();
        if commit { sender.commit_transaction(wait).unwrap() } else { sender.abort_transaction(wait).unwrap() }
    };
    tokio::task::spawn_blocking(move || {
        producer.init_transactions(wait).unwrap();
        send(0..5, true);
        send(100..105, false);
        send(5..10, true);
    })
    .await
    .unwrap();
    for (isolation, expect) in
        [("read_committed", (0..10).collect::<Vec<_>>()), ("read_uncommitted", (0..10).chain(100..105).collect())]
    {
        let source = cluster
            .source(&[("subscribe", &topic), ("startingOffsets", "earliest"), ("kafka.isolation.level", isolation)])
            .await;
        let start = source.initial_offset().await.unwrap();
        let latest = source.latest_offset(&start).await.unwrap();
        assert_eq!(KafkaOffsets::from_offset(&latest).unwrap().get(&topic, 0), Some(18));
        // Whole, then cut everywhere: a range may hold nothing but a marker.
        let query = query();
        let at = Instant::now();
        assert_eq!(values(&read_all(source.as_ref(), &query, &start, &latest).await), expect, "{isolation}");
        println!("{isolation}: a range that ends with a marker was read in {:?}", at.elapsed());
        let at = |offset| KafkaOffsets::from_iter([(topic.clone(), 0, offset)]).to_offset();
        let mut pieces = vec![];
        for from in 0..18 {
            pieces.extend(values(&read_all(source.as_ref(), &query, &at(from), &at(from + 1)).await));
        }
        pieces.sort_unstable();
        assert_eq!(pieces, expect, "{isolation}");
        super::forget_query(&query);
    }
}
