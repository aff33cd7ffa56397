"""SIGKILL in the middle of a batch, aimed by data: when some of the batch's rows are in the table and not all.

Each test first makes sure that the fault fired where it was meant to: the batch has its entry in the offset log and
none in the commit log. Then the ledger: every id that was produced is in the table, once, and no other.
"""

import errno
import os
import pathlib
import subprocess
import unittest

import users
from cluster import Cluster, Flow, wait_until

# The sink may write this much a second and task, after a burst of 1 MiB: a batch of some 8 MB in four tasks then takes
# seconds, on any machine, and its middle can be met.
SLOW = {"spark.cassandra.output.throughputMBPerSec": "0.2"}
BATCH = 20_000


class MidBatch(unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    def setUp(self):
        self.cluster = Cluster(self._testMethodName)
        self.addCleanup(self.cluster.stop)
        self.flow = Flow("fault", cassandra_options=SLOW)
        self.flow.set_up(self.cluster)
        self.made = list(users.make(BATCH, self._testMethodName))
        self.checkpoint = self.cluster.folder / "checkpoint"

    def start_and_reach_the_middle(self):
        """Starts the query over a full topic, so that batch 0 is all of it, and returns in the middle of the batch."""
        self.flow.produce(self.cluster, self.made)
        self.query = self.cluster.submit(self.flow, "--checkpoint", self.checkpoint.as_uri())
        # Not by a count, which may take as long as the batch where Cassandra is short of processor.
        wait_until("some rows are in the table", self.flow.has_rows)

    def assert_mid_batch(self):
        """Called right after the fault."""
        self.offsets = self.entry("offsets", 0)
        self.assertTrue(self.offsets, "batch 0 was decided")
        self.assertFalse(self.entry("commits", 0), "the fault came too late: batch 0 was committed")
        self.assertLess(self.flow.count(), BATCH, "the fault came too late: all rows were written")

    def entry(self, log, batch):
        path = pathlib.Path(self.checkpoint) / log / str(batch)
        return path.read_text() if path.exists() else None

    def assert_recovered(self):
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made), seconds=180)
        wait_until("batch 0 is committed", lambda: self.entry("commits", 0))
        self.assertEqual(self.entry("offsets", 0), self.offsets, "the batch kept its ranges")
        self.assertIsNone(self.entry("offsets", 1), "no batch was made up")
        entry = self.cluster.queries()[self.flow.name]
        self.assertEqual(entry["id"], self.query)
        self.assertIn(entry["state"], ("RUNNING", "WAITING"))
        # And it still runs.
        late = list(users.make(100, f"{self._testMethodName} late"))
        self.flow.produce(self.cluster, late)
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made + late))

    def test_executor_killed(self):
        self.start_and_reach_the_middle()
        self.cluster.executors[0].kill()
        self.assert_mid_batch()
        self.assert_recovered()

    def test_both_executors_killed_and_others_started(self):
        self.start_and_reach_the_middle()
        for executor in self.cluster.executors:
            executor.kill()
        self.assert_mid_batch()
        for _ in range(2):
            self.cluster.start_executor()
        self.assert_recovered()

    def test_scheduler_killed_and_started_again(self):
        self.start_and_reach_the_middle()
        self.cluster.scheduler.kill()
        self.assert_mid_batch()
        self.cluster.start_scheduler()  # nobody tells the query to go on
        self.assert_recovered()

    def test_everything_killed_and_started_again(self):
        self.start_and_reach_the_middle()
        for process in [self.cluster.scheduler, *self.cluster.executors]:
            process.kill()
        self.assert_mid_batch()
        self.cluster.start_scheduler()
        for _ in range(2):
            self.cluster.start_executor()
        self.assert_recovered()

    def test_scheduler_killed_between_batches(self):
        """Small batches; the scheduler is killed each time the next ones have arrived, wherever it is then."""
        self.flow = Flow("between", kafka_options={"maxOffsetsPerTrigger": 250})
        self.flow.set_up(self.cluster)
        self.made = self.made[:3_000]
        self.cluster.submit(self.flow)
        for kill in range(3):
            seen = self.flow.count()
            self.flow.produce(self.cluster, self.made[1_000 * kill : 1_000 * (kill + 1)])
            wait_until("the first of the new rows are there", lambda: self.flow.count() > seen)
            self.cluster.scheduler.kill()
            self.cluster.start_scheduler()
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made), seconds=180)


class Growth(unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    def test_an_executor_that_comes_later_takes_a_share(self):
        cluster = Cluster(self._testMethodName)
        self.addCleanup(cluster.stop)
        flow = Flow("growth", kafka_options={"maxOffsetsPerTrigger": 400})
        flow.set_up(cluster, partitions=6)
        cluster.submit(flow)
        made = []

        def produce():
            piece = list(users.make(400, f"growth {len(made)}"))
            made.extend(piece)
            flow.produce(cluster, piece)

        produce()
        flow.wait_for_ledger(cluster, users.ids(made))
        before = set(cluster.executor_tasks())
        cluster.start_executor()
        (third,) = set(cluster.wait_for_executors(3) and cluster.executor_tasks()) - before

        def works():
            produce()
            return cluster.executor_tasks()[third] > 0

        wait_until("the third executor has completed tasks", works)
        flow.wait_for_ledger(cluster, users.ids(made))

    def test_an_executor_that_is_asked_to_stop_finishes_its_work(self):
        cluster = Cluster(self._testMethodName)
        self.addCleanup(cluster.stop)
        flow = Flow("drain", kafka_options={"maxOffsetsPerTrigger": 500})
        flow.set_up(cluster)
        made = list(users.make(3_000, "drain executor"))
        flow.produce(cluster, made)
        cluster.submit(flow)
        wait_until("some rows are in the table", flow.has_rows)
        self.assertEqual(cluster.executors[0].terminate(30), 0)
        flow.wait_for_ledger(cluster, users.ids(made))
        cluster.wait_for_executors(1)


def small_disk(test, folder, size):
    """A file system of so many bytes, mounted at `folder` until the test ends."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    test.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)


@unittest.skipUnless(os.geteuid() == 0, "a small file system is mounted, which takes root")
class FullDiskOfFiles(unittest.TestCase):
    def test_a_table_of_files_grows_on_once_there_is_room(self):
        cluster = Cluster(self._testMethodName)
        self.addCleanup(cluster.stop)
        disk = cluster.folder / "disk"
        small_disk(self, disk, "1m")
        kept = (disk / "kept").as_uri()
        cluster.submit_text(
            "keep",
            f"""CREATE TABLE made USING `rate-micro-batch` OPTIONS (rowsPerBatch '10000', numPartitions '2');
            CREATE TABLE kept USING parquet OPTIONS (path '{kept}');
            CREATE FLOW keep AS INSERT INTO kept SELECT value FROM STREAM(made);""",
        )
        query = lambda: cluster.queries()["keep"]  # noqa: E731

        def retrying():
            found = query()
            self.assertIn(found["state"], ("RUNNING", "WAITING", "RETRYING"), found["message"])
            return found if found["state"] == "RETRYING" and found["trouble"] else None

        found = wait_until("the disk is full", retrying)
        self.assertEqual(found["trouble"]["errorClass"], "STORAGE_FULL", found)
        self.assertEqual(found["trouble"]["system"], "storage", found)
        self.assertIn("free space on the full disk", found["trouble"]["remedy"])
        before = found["batchId"]
        self.assertGreaterEqual(before, 0, "some batches had room")

        subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
        wait_until("three more batches", lambda: query()["batchId"] >= before + 3)
        cluster.ok("query", "stop", "keep")
        [row] = cluster.sql("SELECT count(*) AS n, count(DISTINCT value) AS d, max(value) AS m FROM kept")
        self.assertEqual((row["d"], row["m"]), (row["n"], row["n"] - 1), "no row twice, none missing")
        self.assertGreaterEqual(row["n"], 10_000 * (query()["batchId"] + 1))


@unittest.skipUnless(os.geteuid() == 0, "a small file system is mounted, which takes root")
class FullDisk(unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    def test_a_query_waits_for_room_and_loses_nothing(self):
        cluster = Cluster(self._testMethodName)
        self.addCleanup(cluster.stop)
        disk = cluster.folder / "disk"
        small_disk(self, disk, "256k")
        flow = Flow("full")
        flow.set_up(cluster)
        cluster.submit(flow, "--checkpoint", (disk / "checkpoint").as_uri())
        made = list(users.make(300, "before the disk is full"))
        flow.produce(cluster, made)
        flow.wait_for_ledger(cluster, users.ids(made))

        filler = disk / "filler"
        with self.assertRaises(OSError) as full, filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        self.assertEqual(full.exception.errno, errno.ENOSPC)
        late = list(users.make(300, "while the disk is full"))
        flow.produce(cluster, late)
        entry = wait_until("the query retries", lambda: self.retrying(cluster, flow))
        self.assertIn("disk", entry["message"])
        self.assertIn("No space left", entry["message"])

        filler.unlink()
        flow.wait_for_ledger(cluster, users.ids(made + late))
        wait_until("the query runs again", lambda: cluster.queries()[flow.name]["state"] in ("RUNNING", "WAITING"))

    def retrying(self, cluster, flow):
        entry = cluster.queries()[flow.name]
        return entry if entry["state"] == "RETRYING" else None
