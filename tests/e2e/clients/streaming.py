"""Every call on streaming queries, by a stock PySpark client: run by test_pyspark.py with SPARK_REMOTE set.

usage: streaming.py FOLDER

FOLDER is one that the scheduler and its executors see. Prints a line for each check that passed.
"""

import json
import pathlib
import sys
import threading
import time
import unittest

import pyspark
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType

FOLDER = pathlib.Path(sys.argv.pop()) if len(sys.argv) > 1 else None
CONNECT_4 = int(pyspark.__version__.split(".")[0]) >= 4
DEADLINE = 60
SCHEMA = StructType([StructField("id", LongType()), StructField("name", StringType())])


def wait_until(what, condition):
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not after {DEADLINE} s: {what}")
        time.sleep(0.05)
    return value


class Streaming(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.spark = SparkSession.builder.appName("streaming calls").getOrCreate()

    @classmethod
    def tearDownClass(cls):
        cls.spark.stop()

    def setUp(self):
        self.folder = FOLDER / self._testMethodName
        self.input = self.folder / "in"
        self.input.mkdir(parents=True)
        self.written = 0
        self.queries = []

    def tearDown(self):
        for query in self.queries:
            query.stop()

    def write(self, *rows):
        """One file of rows, all at once."""
        part = self.folder / "part"
        part.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.written += 1
        part.rename(self.input / f"{self.written:04}.json")

    def stream(self):
        return self.spark.readStream.format("json").schema(SCHEMA).load(str(self.input))

    def start(self, frame=None, name=None, trigger=None, checkpoint="checkpoint", **options):
        frame = frame if frame is not None else self.stream()
        writer = frame.writeStream.format("parquet").option("path", str(self.folder / "out"))
        writer = writer.option("checkpointLocation", str(self.folder / checkpoint)).options(**options)
        writer = writer.queryName(name) if name else writer
        writer = writer.trigger(**trigger) if trigger else writer
        query = writer.start()
        self.queries.append(query)
        return query

    def rows(self):
        out = self.spark.read.format("parquet").load(str(self.folder / "out"))
        return sorted(tuple(row) for row in out.collect())

    def assertRefused(self, words, call):
        with self.assertRaises(Exception) as refused:
            call()
        for word in words.split("|"):
            self.assertIn(word, str(refused.exception))
        return refused.exception

    # --- a query ---

    def test_a_query_from_start_to_stop(self):
        self.assertTrue(self.stream().isStreaming)
        query = self.start(self.stream().where("id > 1").withColumn("upper", F.upper("name")), name=f"q{time.time_ns()}")
        self.write({"id": 1, "name": "a"}, {"id": 2, "name": "b"})
        query.processAllAvailable()
        self.assertEqual(self.rows(), [(2, "b", "B")])
        self.write({"id": 3, "name": "c"})
        query.processAllAvailable()
        self.assertEqual(self.rows(), [(2, "b", "B"), (3, "c", "C")])

        self.assertEqual(len(query.id), 36)
        self.assertNotEqual(query.id, query.runId)
        self.assertTrue(query.name.startswith("q"))
        self.assertTrue(query.isActive)
        self.assertEqual(sorted(query.status), ["isDataAvailable", "isTriggerActive", "message"])
        wait_until("it waits for data", lambda: query.status["message"] == "Waiting for data to arrive")
        self.assertIsNone(query.exception())
        last, recent = query.lastProgress, query.recentProgress
        self.assertEqual(last["batchId"], 1)
        self.assertEqual([progress["batchId"] for progress in recent], [0, 1])
        self.assertEqual([progress["numInputRows"] for progress in recent], [2, 1])
        self.assertEqual((last["id"], last["runId"], last["name"]), (query.id, query.runId, query.name))
        self.assertEqual(len(last["sources"]), 1)

        self.assertFalse(query.awaitTermination(1))
        query.stop()
        self.assertFalse(query.isActive)
        self.assertEqual(query.status["message"], "Stopped")
        self.assertIsNone(query.exception())
        self.assertTrue(query.awaitTermination(1))
        self.assertIsNone(query.awaitTermination())
        self.assertEqual(query.lastProgress["batchId"], 1)
        query.stop()

    def test_explain(self):
        query = self.start()
        self.write({"id": 1, "name": "a"})
        query.processAllAvailable()
        import contextlib
        import io

        for extended in (False, True):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                query.explain(extended)
            self.assertIn("== Physical Plan ==", out.getvalue())
            self.assertEqual("Logical Plan ==" in out.getvalue(), extended)

    def test_an_unnamed_query(self):
        query = self.start()
        self.assertFalse(query.name)  # None with 4.x, an empty text with 3.5
        self.assertIn(query.id, [active.id for active in self.spark.streams.active])

    def test_triggers(self):
        for index, trigger in enumerate([{"availableNow": True}, {"once": True}]):
            self.write({"id": index, "name": "x"})
            query = self.start(trigger=trigger)
            query.awaitTermination()
            self.assertFalse(query.isActive)
            self.assertEqual(len(self.rows()), index + 1)
        query = self.start(trigger={"processingTime": "100 milliseconds"})
        self.write({"id": 9, "name": "x"})
        query.processAllAvailable()
        self.assertEqual(len(self.rows()), 3)
        query.stop()
        self.assertRefused("continuous", lambda: self.start(trigger={"continuous": "1 second"}))
        self.assertRefused("CANNOT_PARSE_INTERVAL", lambda: self.start(trigger={"processingTime": "soon"}))

    def test_a_restart_goes_on(self):
        self.write({"id": 1, "name": "a"})
        first = self.start()
        first.processAllAvailable()
        first.stop()
        self.write({"id": 2, "name": "b"})
        second = self.start()
        self.assertEqual(first.id, second.id)
        self.assertNotEqual(first.runId, second.runId)
        second.processAllAvailable()
        self.assertEqual(self.rows(), [(1, "a"), (2, "b")])
        # While it runs: the new run takes over.
        third = self.start()
        self.assertFalse(second.isActive)
        self.assertTrue(third.isActive)
        self.spark.conf.set("spark.sql.streaming.stopActiveRunOnRestart", "false")
        self.assertRefused("STREAMING_QUERY_ALREADY_ACTIVE", self.start)
        self.spark.conf.unset("spark.sql.streaming.stopActiveRunOnRestart")
        self.assertTrue(third.isActive)

    def test_a_name_is_one_query_s(self):
        name = f"one{time.time_ns()}"
        self.start(name=name)
        self.assertRefused(f"STREAMING_QUERY_ALREADY_ACTIVE|{name}", lambda: self.start(name=name, checkpoint="other"))

    def test_a_failure(self):
        frame = self.stream().select(F.expr("CASE WHEN id > 0 THEN raise_error('bad row') ELSE name END AS name"))
        query = self.start(frame)
        self.write({"id": 1, "name": "a"})
        error = self.assertRefused("STREAM_FAILED|bad row|" + query.id, lambda: query.awaitTermination())
        self.assertEqual(type(error).__name__, "StreamingQueryException")
        self.assertFalse(query.isActive)
        self.assertIn("bad row", str(query.exception()))
        self.assertEqual(type(query.exception()).__name__, "StreamingQueryException")
        self.assertIn("Terminated with exception", query.status["message"])
        self.assertRefused("STREAM_FAILED", lambda: query.processAllAvailable())

    # --- what is read and written ---

    def test_rate_and_a_stateless_join(self):
        names = self.spark.createDataFrame([(value, f"n{value}") for value in range(1000)], "value long, name string")
        ticks = self.spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 10).load()
        query = self.start(ticks.join(names, "value").select("value", "name"))
        wait_until("two batches", lambda: len(query.recentProgress) >= 2)
        query.stop()
        rows = self.rows()
        self.assertEqual(rows[0], (0, "n0"))
        self.assertGreaterEqual(len(rows), 20)

    def test_views_of_streams(self):
        self.stream().createOrReplaceTempView("updates")
        query = self.start(self.spark.sql("SELECT id, upper(name) AS name FROM updates WHERE id % 2 = 0"))
        self.spark.catalog.dropTempView("updates")
        self.write(*({"id": id, "name": f"n{id}"} for id in range(4)))
        query.processAllAvailable()
        self.assertEqual(self.rows(), [(0, "N0"), (2, "N2")])

    def test_partitions_and_tables(self):
        frame = self.stream().withColumn("odd", F.col("id") % 2)
        table = f"t{time.time_ns()}"
        writer = frame.writeStream.partitionBy("odd").option("checkpointLocation", str(self.folder / "checkpoint"))
        query = writer.toTable(table)
        self.queries.append(query)
        self.write({"id": 1, "name": "a"}, {"id": 2, "name": "b"})
        query.processAllAvailable()
        rows = sorted(tuple(row) for row in self.spark.table(table).select("id", "name", "odd").collect())
        self.assertEqual(rows, [(1, "a", 1), (2, "b", 0)])
        query.stop()
        self.spark.sql(f"DROP TABLE {table}")

    def test_console_and_noop_begin_anew(self):
        self.write({"id": 1, "name": "a"})
        ids = set()
        for format in ("noop", "console", "noop"):
            query = self.stream().writeStream.format(format).start()
            self.queries.append(query)
            query.processAllAvailable()
            self.assertEqual(query.lastProgress["numInputRows"], 1)
            query.stop()
            ids.add(query.id)
        self.assertEqual(len(ids), 3)

    def test_memory(self):
        name = f"seen{time.time_ns()}"
        query = self.stream().writeStream.format("memory").queryName(name).start()
        self.queries.append(query)
        self.write({"id": 1, "name": "a"}, {"id": 2, "name": "b"})
        query.processAllAvailable()
        self.assertEqual(self.spark.sql(f"SELECT count(*) FROM {name}").collect()[0][0], 2)
        self.write({"id": 3, "name": "c"})
        query.processAllAvailable()
        self.assertEqual(sorted(row[0] for row in self.spark.table(name).collect()), [1, 2, 3])

    # --- what is refused ---

    def test_what_is_refused(self):
        def write(frame, mode=None, format="noop", **options):
            writer = frame.writeStream.format(format).options(**options)
            return (writer.outputMode(mode) if mode else writer).start()

        stream, batch = self.stream(), self.spark.range(3)
        self.assertRefused("writeStream", lambda: write(batch))
        self.assertRefused("writeStream.start()", stream.collect)
        self.assertRefused("STREAMING_OUTPUT_MODE.UNSUPPORTED_OPERATION", lambda: write(stream, "complete"))
        self.assertRefused("STREAMING_OUTPUT_MODE.INVALID", lambda: write(stream, "upsert"))
        self.assertRefused(
            "STREAMING_OUTPUT_MODE.UNSUPPORTED_DATASOURCE", lambda: write(stream, "update", "parquet", path=str(self.folder / "x"))
        )
        write(stream, "update").stop()
        self.assertRefused("DATA_SOURCE_NOT_FOUND", lambda: write(stream, format="nonsense"))
        self.assertRefused("foreachBatch", lambda: stream.writeStream.foreachBatch(lambda frame, batch: None).start())
        self.assertRefused("foreach()", lambda: stream.writeStream.foreach(print).start())
        without_schema = self.spark.readStream.format("json")
        self.assertRefused("schema", lambda: without_schema.load(str(self.input)).columns)
        kafka = self.spark.readStream.format("kafka").schema(SCHEMA).option("subscribe", "t")
        self.assertRefused("schema", lambda: kafka.option("kafka.bootstrap.servers", "h:1").load().columns)
        self.assertRefused("watermark", lambda: write(stream.groupBy("name").count()))

    # --- spark.streams ---

    def test_the_session_s_queries(self):
        streams = self.spark.streams
        streams.resetTerminated()
        one, two = self.start(), self.stream().writeStream.format("noop").start()
        self.queries.append(two)
        self.assertLessEqual({one.id, two.id}, {query.id for query in streams.active})
        self.assertEqual(streams.get(one.id).runId, one.runId)
        self.assertIsNone(streams.get("00000000-0000-0000-0000-000000000000"))
        self.assertFalse(streams.awaitAnyTermination(1))
        threading.Timer(0.5, two.stop).start()
        self.assertTrue(streams.awaitAnyTermination(DEADLINE))
        self.assertIsNone(streams.awaitAnyTermination())
        self.assertNotIn(two.id, [query.id for query in streams.active])
        streams.resetTerminated()
        self.assertFalse(streams.awaitAnyTermination(1))

    def test_listeners(self):
        from pyspark.sql.streaming import StreamingQueryListener

        events = []

        class Listener(StreamingQueryListener):
            def onQueryStarted(self, event):
                events.append(("started", str(event.id), event.name))

            def onQueryProgress(self, event):
                events.append(("progress", str(event.progress.id), event.progress.numInputRows))

            def onQueryIdle(self, event):
                events.append(("idle", str(event.id), event.timestamp))

            def onQueryTerminated(self, event):
                events.append(("terminated", str(event.id), event.exception))

        listener = Listener()
        if not CONNECT_4:
            self.assertRefused("addListener()", lambda: self.spark.streams.addListener(listener))
            return
        self.spark.streams.addListener(listener)
        try:
            query = self.start(name=f"heard{time.time_ns()}")
            self.write({"id": 1, "name": "a"}, {"id": 2, "name": "b"})
            query.processAllAvailable()
            wait_until("an idle event", lambda: any(kind == "idle" for kind, _, _ in events))
            query.stop()
            wait_until("the end", lambda: any(kind == "terminated" for kind, _, _ in events))
        finally:
            self.spark.streams.removeListener(listener)
        self.assertEqual(events[0], ("started", query.id, query.name))
        self.assertEqual([event for event in events if event[0] == "progress"], [("progress", query.id, 2)])
        self.assertEqual(events[-1], ("terminated", query.id, None))
        before = len(events)
        self.start().stop()
        self.assertEqual(len(events), before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
