"""Checkpoints that real Spark wrote (tests/golden/spark-checkpoint) are continued where Spark left off."""

import itertools
import json
import pathlib
import re
import shutil
import unittest

import users
from cluster import ROOT, Cluster, Flow, kafka, wait_until

GOLDEN = ROOT / "tests" / "golden" / "spark-checkpoint"


class SparkCheckpoint(unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster("sparkcheckpoint")
        cls.addClassCleanup(cls.cluster.stop)

    def test_each_is_continued(self):
        for expected_file in sorted(GOLDEN.glob("*/expected.json")):
            expected = json.loads(expected_file.read_text())
            for scenario, state in expected["scenarios"].items():
                with self.subTest(spark=expected["spark"], scenario=scenario):
                    self.continue_one(expected_file.parent / scenario, expected, state)

    def continue_one(self, golden, expected, state):
        flow = Flow("spark")
        flow.set_up(self.cluster, expected["partitions"])
        checkpoint = self.cluster.folder / f"checkpoint-{flow.name}"
        _copy(golden, checkpoint, expected["topic"], flow.topic)
        ends = self.fill(flow, expected)
        # What was committed is behind us; what was only decided runs again, in the same ranges.
        begin = expected["batchEnds"][state["latestCommit"]][expected["topic"]]
        self.assertTrue(all(ends[partition] > offset for partition, offset in begin.items()))
        ids = self.ids_from(flow, begin)
        decided = (checkpoint / "offsets" / str(state["latestOffsets"])).read_text()

        query = self.cluster.submit(flow, "--checkpoint", checkpoint.as_uri())
        flow.wait_for_ledger(self.cluster, ids)
        self.assertEqual(query, json.loads((golden / "metadata").read_text())["id"], "the query keeps its id")
        first = min(self.cluster.progress(query), key=lambda report: report["batchId"])
        self.assertEqual(first["batchId"], state["restartBatchId"])
        if state["restart"] == "rerun":
            last = expected["batchEnds"][state["latestOffsets"]][expected["topic"]]
            self.assertEqual(first["sources"][0]["endOffset"], {flow.topic: last})
        self.assertEqual((checkpoint / "offsets" / str(state["latestOffsets"])).read_text(), decided)
        wait_until("the batch is committed", (checkpoint / "commits" / str(state["restartBatchId"])).exists)
        self.cluster.ok("query", "stop", query)

    def fill(self, flow, expected):
        """Produces until every partition is longer than the checkpoint says; their ends."""
        self.cluster.ok("sql", _kafka_table(flow))
        needed = expected["batchEnds"][-1][expected["topic"]]
        for attempt in itertools.count():
            flow.produce(self.cluster, users.make(60, f"{flow.name} {attempt}"))
            rows = self.cluster.sql(f"SELECT partition, count(*) AS n FROM {flow.topic} GROUP BY partition")
            ends = {str(row["partition"]): row["n"] for row in rows}
            if all(ends.get(partition, 0) > offset + 5 for partition, offset in needed.items()):
                return ends

    def ids_from(self, flow, begin):
        rows = self.cluster.sql(
            "SELECT partition, offset, data.id AS id FROM (SELECT partition, offset, "
            f"from_json(CAST(value AS STRING), 'id STRING') AS data FROM {flow.topic})"
        )
        return sorted(row["id"] for row in rows if row["offset"] >= begin[str(row["partition"])])


def _kafka_table(flow):
    """The first statement of the flow's file that is a Kafka table."""
    return re.search(r"CREATE OR REPLACE TABLE[^;]*USING kafka[^;]*", flow.sql())[0].replace("${kafka}", kafka())


def _copy(golden, checkpoint, topic, new_topic):
    """A copy in which the topic has another name; the check sums, which would no longer agree, stay behind."""
    shutil.copytree(golden, checkpoint, ignore=shutil.ignore_patterns("*.crc"))
    for path in pathlib.Path(checkpoint).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(b'"%s"' % topic.encode(), b'"%s"' % new_topic.encode()))

