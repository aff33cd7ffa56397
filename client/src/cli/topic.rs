//! `headwater topic`: Kafka's topics, straight from Kafka.

use super::args::{From, TopicArgs, TopicCommand};
use super::{Error, output, unless_interrupted};
use futures::StreamExt;
use headwater_executor::connectors::kafka::admin::{Admin, NewRecord, TailFrom, TailRecord};
use headwater_proto::error::{Error as EngineError, ErrorKind};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Lines that wait for the producer.
const LINES_MAX: usize = 4096;

/// Runs the command.
pub async fn run(args: TopicArgs) -> Result<(), Error> {
    unless_interrupted(command(args)).await
}

async fn command(args: TopicArgs) -> Result<(), Error> {
    let admin = Admin::new(&args.kafka).map_err(failed)?;
    match args.command {
        TopicCommand::List => list(&admin, args.json).await,
        TopicCommand::Describe { topic } => describe(&admin, &topic, args.json).await,
        TopicCommand::Create { topic, partitions, replication, if_not_exists } => {
            match admin.create_topic(&topic, partitions, replication).await {
                Err(error) if if_not_exists && error.kind == ErrorKind::AlreadyExists => {
                    eprintln!("{topic} is there already");
                    return Ok(());
                }
                made => made.map_err(failed)?,
            }
            let mut out = io::stdout().lock();
            if args.json {
                writeln!(out, "{}", json!({"name": topic, "partitions": partitions, "replication": replication}))?;
            } else {
                writeln!(out, "created {topic} with {partitions} partitions")?;
            }
            Ok(())
        }
        TopicCommand::Delete { topic } => {
            admin.delete_topic(&topic).await.map_err(failed)?;
            let mut out = io::stdout().lock();
            if args.json {
                writeln!(out, "{}", json!({"name": topic}))?;
            } else {
                writeln!(out, "deleted {topic}")?;
            }
            Ok(())
        }
        TopicCommand::Produce { topic, file, key_separator } => {
            produce(&admin, &topic, file, key_separator, args.json).await
        }
        TopicCommand::Tail { topic, from, follow, count } => {
            let mut print = |record: &TailRecord| print(record, args.json);
            tail(&admin, &topic, from, follow, count, &mut print).await
        }
    }
}

fn failed(error: EngineError) -> Error {
    Error::Failed(error.to_string())
}

async fn list(admin: &Admin, json: bool) -> Result<(), Error> {
    let topics = admin.list_topics().await.map_err(failed)?;
    let mut out = io::stdout().lock();
    if json {
        let topics: Vec<_> =
            topics.iter().map(|topic| json!({"name": topic.name, "partitions": topic.partitions})).collect();
        writeln!(out, "{}", Value::from(topics))?;
    } else {
        let rows: Vec<_> = topics.into_iter().map(|topic| vec![topic.name, topic.partitions.to_string()]).collect();
        output::columns(&mut out, &["TOPIC", "PARTITIONS"], &rows)?;
    }
    Ok(())
}

async fn describe(admin: &Admin, topic: &str, json: bool) -> Result<(), Error> {
    let topic = admin.describe_topic(topic).await.map_err(failed)?;
    let mut out = io::stdout().lock();
    if json {
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| {
                json!({
                    "partition": partition.partition,
                    "leader": partition.leader,
                    "replicas": partition.replicas,
                    "inSync": partition.in_sync,
                    "earliest": partition.earliest,
                    "latest": partition.latest,
                })
            })
            .collect();
        writeln!(out, "{}", json!({"name": topic.name, "partitions": partitions}))?;
        return Ok(());
    }
    let number = |number: Option<i64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    let brokers = |brokers: &[i32]| brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let rows: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| {
            let records = partition.latest.zip(partition.earliest).map(|(latest, earliest)| latest - earliest);
            vec![
                partition.partition.to_string(),
                number(Some(i64::from(partition.leader)).filter(|leader| *leader >= 0)),
                brokers(&partition.replicas),
                brokers(&partition.in_sync),
                number(partition.earliest),
                number(partition.latest),
                number(records),
            ]
        })
        .collect();
    let header = ["PARTITION", "LEADER", "REPLICAS", "IN SYNC", "EARLIEST", "LATEST", "RECORDS"];
    output::columns(&mut out, &header, &rows)?;
    Ok(())
}

async fn produce(
    admin: &Admin,
    topic: &str,
    file: Option<PathBuf>,
    separator: Option<String>,
    json: bool,
) -> Result<(), Error> {
    if separator.as_deref() == Some("") {
        return Err(Error::Usage(
            "[INVALID_OPTION] --key-separator is empty: give the text between key and value".into(),
        ));
    }
    // A topic that is not there would be made with whatever partitions the broker likes.
    admin.describe_topic(topic).await.map_err(failed)?;
    let input = open(file.as_deref().filter(|path| *path != Path::new("-")))?;
    let (send, lines) = mpsc::channel(LINES_MAX);
    tokio::task::spawn_blocking(move || read_lines(input, &send));
    let records = ReceiverStream::new(lines).enumerate().map(|(number, line)| {
        line.map_err(|error: io::Error| EngineError::fatal("UNREADABLE_FILE", format!("line {}: {error}", number + 1)))
            .and_then(|line| record(line, separator.as_deref(), number + 1))
    });
    let sent = admin.produce_stream(topic, records).await.map_err(failed)?;
    if json {
        writeln!(io::stdout().lock(), "{}", json!({"topic": topic, "records": sent}))?;
    } else {
        eprintln!("{} records to {topic}", output::thousands(sent));
    }
    Ok(())
}

fn open(file: Option<&Path>) -> Result<Box<dyn Read + Send>, Error> {
    Ok(match file {
        None => Box::new(io::stdin()),
        Some(path) => Box::new(std::fs::File::open(path).map_err(|error| {
            Error::Usage(format!("[UNREADABLE_FILE] failed to read {}: {error}; check the path", path.display()))
        })?),
    })
}

/// Sends each line, without its end, as bytes: values need not be UTF-8.
fn read_lines(input: impl Read, send: &mpsc::Sender<io::Result<Vec<u8>>>) {
    for line in BufReader::new(input).split(b'\n') {
        let line = line.map(|mut line| {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            line
        });
        // An empty line is no record: it is what ends a file.
        if line.as_ref().is_ok_and(Vec::is_empty) {
            continue;
        }
        if send.blocking_send(line).is_err() {
            return;
        }
    }
}

fn record(line: Vec<u8>, separator: Option<&str>, number: usize) -> Result<NewRecord, EngineError> {
    let Some(separator) = separator else { return Ok(NewRecord::of_value(line)) };
    let at = line.windows(separator.len()).position(|window| window == separator.as_bytes()).ok_or_else(|| {
        EngineError::invalid("INVALID_LINE", format!("line {number} has no {separator:?} between key and value"))
    })?;
    let mut record = NewRecord::of_value(&line[at + separator.len()..]);
    record.key = Some(line[..at].to_vec());
    Ok(record)
}

async fn tail(
    admin: &Admin,
    topic: &str,
    from: From,
    follow: bool,
    count: Option<u64>,
    print: &mut impl FnMut(&TailRecord) -> Result<(), Error>,
) -> Result<(), Error> {
    let from = match from {
        From::Beginning => TailFrom::Earliest,
        From::End => TailFrom::Latest,
        From::Back(records) => TailFrom::Last(records),
    };
    let records = admin.tail(topic, from, follow).await.map_err(failed)?;
    let limit = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let mut records = records.take(limit);
    while let Some(record) = records.next().await {
        print(&record.map_err(failed)?)?;
    }
    Ok(())
}

fn print(record: &TailRecord, json: bool) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", record_json(record))?;
    } else {
        out.write_all(record.value.as_deref().unwrap_or(b"NULL"))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn record_json(record: &TailRecord) -> Value {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let headers: Vec<_> = record.headers.iter().map(|(key, value)| json!({"key": key, "value": text(value)})).collect();
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": text(&record.key),
        "value": text(&record.value),
        "headers": headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_records() {
        fn check(line: &str, separator: Option<&str>, expect: Option<(Option<&str>, &str)>) {
            let record = record(line.as_bytes().to_vec(), separator, 7);
            let bytes = |text: &str| text.as_bytes().to_vec();
            match expect {
                Some((key, value)) => {
                    let record = record.expect("a good line");
                    assert_eq!((record.key, record.value), (key.map(bytes), Some(bytes(value))), "{line:?}");
                }
                None => assert!(record.expect_err("a bad line").to_string().contains("line 7")),
            }
        }
        check("a:b", None, Some((None, "a:b")));
        check("a:b:c", Some(":"), Some((Some("a"), "b:c")));
        check("a\tb", Some("\t"), Some((Some("a"), "b")));
        check("ab", Some(":"), None);
    }

    #[test]
    fn line_ends() {
        let (send, mut lines) = mpsc::channel(8);
        read_lines(&b"a\r\nb\n\n\xff"[..], &send);
        drop(send);
        let lines: Vec<_> =
            std::iter::from_fn(|| lines.blocking_recv()).map(|line| line.expect("memory is read")).collect();
        assert_eq!(lines, [b"a".to_vec(), b"b".to_vec(), b"\xff".to_vec()]);
    }

    #[test]
    fn json_of_a_record() {
        let record = TailRecord {
            topic: "t".into(),
            partition: 1,
            offset: 2,
            timestamp_ms: 3,
            key: None,
            value: Some(b"v".to_vec()),
            headers: vec![("h".into(), Some(b"x".to_vec()))],
        };
        let expect = json!({
            "topic": "t", "partition": 1, "offset": 2, "timestamp": 3, "key": null, "value": "v",
            "headers": [{"key": "h", "value": "x"}]
        });
        assert_eq!(record_json(&record), expect);
    }
}
