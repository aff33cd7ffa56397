"""`headwater demo`: the whole pipeline in one process."""

import json
import os
import re
import time
import unittest

import cql
from cluster import cassandra, headwater, kafka

ROWS = 1234  # a number that nothing but a count of rows prints


def counted(text, rows=ROWS):
    """Whether the number stands there, with or without a comma at the thousands."""
    return bool(re.search(rf"\b({rows}|{rows:,})\b", text))


class Demo(unittest.TestCase):
    """Needs nothing but the binary."""

    def test_demo_ends_well_and_counts_right(self):
        began = time.monotonic()
        result = headwater("demo", "--rows", ROWS, "--partitions", 3, "--executors", 2, "--seed", 7)
        self.assertEqual(result.status, 0, str(result))
        self.assertTrue(counted(result.out), str(result))
        # The command for the real thing.
        self.assertIn("submit", result.out + result.err)
        self.assertLess(time.monotonic() - began, 60, "the demo is to take seconds")

    def test_same_seed_same_result(self):
        outs = [headwater("demo", "--rows", ROWS, "--seed", 11, "--json").out for _ in range(2)]
        countries = [re.findall(r'"country":\s*"[^"]*"', out) for out in outs]
        self.assertEqual(countries[0], countries[1])
        self.assertTrue(countries[0], outs[0])

    def test_wrong_flag(self):
        result = headwater("demo", "--rows", "many")
        self.assertEqual(result.status, 2, str(result))
        self.assertIn("many", result.err)


class Bench(unittest.TestCase):
    needs = ("KAFKA_ADDRESS",)

    def test_throughput_counts_every_row(self):
        """Into a table, cold and warm; `--json` is one object."""
        topic = f"bench_{os.urandom(4).hex()}"
        options = ["--sink", "parquet", "--rows", ROWS, "--partitions", 2, "--runs", 2, "--topic", topic]
        result = headwater("bench", *options, "--kafka", kafka(), "--json")
        self.assertEqual(result.status, 0, str(result))
        runs = json.loads(result.out)["runs"]
        self.assertEqual([run["rows"] for run in runs], [ROWS, ROWS])
        for run in runs:
            for figure in ("rowsPerSecond", "rowsPerCpuSecond", "peakBytes", "firstBatchSeconds"):
                self.assertGreater(run[figure], 0, run)


class DemoOnServices(unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    def test_demo_on_kafka_and_cassandra(self):
        """On fresh servers (run.py begins with this file) topic, keyspace and table are made."""
        result = headwater("demo", "--rows", ROWS, "--kafka", kafka(), "--cassandra", cassandra())
        self.assertEqual(result.status, 0, str(result))
        with cql.Connection(cassandra()) as connection:
            rows = len(connection.execute("SELECT id FROM spark_streams.created_users"))
        self.assertGreaterEqual(rows, ROWS)  # on servers that have been used before there may be more
        self.assertTrue(counted(result.out, rows), str(result))

    def test_unreachable_kafka(self):
        result = headwater("demo", "--rows", 10, "--kafka", "127.0.0.1:1", seconds=60)
        self.assertEqual(result.status, 1, str(result))
        self.assertIn("127.0.0.1:1", result.err)

    def test_unreachable_cassandra(self):
        result = headwater("demo", "--rows", 10, "--cassandra", "127.0.0.1:1", seconds=60)
        self.assertEqual(result.status, 1, str(result))
        self.assertIn("127.0.0.1:1", result.err)
