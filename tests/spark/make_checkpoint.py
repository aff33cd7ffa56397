"""Makes the golden checkpoints in tests/golden/spark-checkpoint with real Apache Spark and a real Kafka.

usage: make_checkpoint.py OUTPUT   (KAFKA_ADDRESS and SPARK_JARS_DIR in the environment; tests/spark/refresh sets them)

Writes OUTPUT/<scenario>/ for each scenario, each the checkpoint of a query of its own over the topic TOPIC, and
OUTPUT/expected.json, which says what the logs hold. The records are the same in every run; ids of queries are not.
"""

import glob
import json
import os
import shutil
import sys
import tempfile

import pyspark
from pyspark.sql import SparkSession

TOPIC = "users_created"
PARTITIONS = 3
# Records that each chunk adds to partitions 0, 1 and 2; a batch reads one chunk. Some are empty on purpose.
CHUNKS = [(3, 1, 0), (0, 4, 2), (5, 0, 1)]


def main(output):
    bootstrap = os.environ["KAFKA_ADDRESS"]
    jars = sorted(glob.glob(os.path.join(os.environ["SPARK_JARS_DIR"], "*.jar")))
    spark = (
        SparkSession.builder.master("local[2]")
        .appName("make_checkpoint")
        .config("spark.jars", ",".join(jars))
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    scenarios = {"committed": None, "interrupted": None}
    if tuple(int(part) for part in pyspark.__version__.split(".")[:2]) >= (4, 2):
        scenarios["offset-log-v2"] = "2"
    expected = {
        "spark": pyspark.__version__,
        "topic": TOPIC,
        "partitions": PARTITIONS,
        "batchEnds": [ends(batch) for batch in range(len(CHUNKS))],
        "scenarios": {},
    }
    # A topic for each scenario would put its name into the offsets; one topic, made anew, keeps the name.
    for name, offset_log_version in scenarios.items():
        create_topic(spark, bootstrap)
        location = os.path.join(tempfile.mkdtemp(), name)
        if offset_log_version:
            spark.conf.set("spark.sql.streaming.offsetLog.formatVersion", offset_log_version)
        fails_in = len(CHUNKS) - 1 if name == "interrupted" else None
        for chunk in range(len(CHUNKS)):
            produce(spark, bootstrap, chunk)
            run_batch(spark, bootstrap, location, fails_in == chunk)
        committed = max(numbers(location, "commits"))
        logged = max(numbers(location, "offsets"))
        assert logged == len(CHUNKS) - 1, (name, logged)
        assert committed == (logged - 1 if fails_in is not None else logged), (name, committed, logged)
        expected["scenarios"][name] = {
            "latestOffsets": logged,
            "latestCommit": committed,
            "restart": "rerun" if committed < logged else "advance",
            "restartBatchId": logged if committed < logged else logged + 1,
        }
        target = os.path.join(output, name)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(location, target)
    spark.stop()
    with open(os.path.join(output, "expected.json"), "w") as file:
        json.dump(expected, file, indent=2)
        file.write("\n")


def ends(batch):
    """Where batch `batch` ends, as Spark writes it."""
    totals = [sum(chunk[partition] for chunk in CHUNKS[: batch + 1]) for partition in range(PARTITIONS)]
    return {TOPIC: {str(partition): total for partition, total in enumerate(totals)}}


def create_topic(spark, bootstrap):
    jvm = spark._jvm
    settings = jvm.java.util.Properties()
    settings.put("bootstrap.servers", bootstrap)
    admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(settings)
    names = jvm.java.util.ArrayList()
    names.add(TOPIC)
    if admin.listTopics().names().get().contains(TOPIC):
        admin.deleteTopics(names).all().get()
    topic = jvm.org.apache.kafka.clients.admin.NewTopic(TOPIC, PARTITIONS, 1)
    topics = jvm.java.util.ArrayList()
    topics.add(topic)
    admin.createTopics(topics).all().get()
    admin.close()


def produce(spark, bootstrap, chunk):
    rows = []
    before = [sum(earlier[partition] for earlier in CHUNKS[:chunk]) for partition in range(PARTITIONS)]
    for partition, count in enumerate(CHUNKS[chunk]):
        for offset in range(before[partition], before[partition] + count):
            user = {"id": f"00000000-0000-4000-8000-{partition:04}{offset:08}", "first_name": f"user {offset}"}
            rows.append((json.dumps(user), partition))
    frame = spark.createDataFrame(rows, "value string, partition int").coalesce(1)
    frame.write.format("kafka").option("kafka.bootstrap.servers", bootstrap).option("topic", TOPIC).save()


def run_batch(spark, bootstrap, location, fails):
    """One run of the query until it has read everything, or until its sink fails in the middle of a batch."""

    def sink(frame, batch_id):
        frame.count()
        if fails:
            raise RuntimeError("the sink fails on purpose")

    query = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", TOPIC)
        .option("startingOffsets", "earliest")
        .load()
        .selectExpr("CAST(value AS STRING)")
        .writeStream.foreachBatch(sink)
        .option("checkpointLocation", location)
        .trigger(availableNow=True)
        .start()
    )
    try:
        query.awaitTermination()
    except Exception as error:
        if not fails or "on purpose" not in str(error):
            raise
    else:
        assert not fails, "the sink was to fail"


def numbers(location, log):
    return [int(name) for name in os.listdir(os.path.join(location, log)) if name.isdigit()]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(os.path.abspath(sys.argv[1]))
