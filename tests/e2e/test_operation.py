"""Running Headwater: draining, bounds of memory, what the processes say of themselves."""

import json
import pathlib
import signal
import subprocess
import time
import unittest
import urllib.error
import urllib.request

import users
from cluster import Cluster, Flow, wait_until

# As in test_faults: a batch of this size takes seconds, on any machine.
SLOW = {"spark.cassandra.output.throughputMBPerSec": "0.2"}
BATCH = 20_000


class Drain(unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    def start(self, **variables):
        """Returns in the middle of batch 0."""
        self.cluster = Cluster(self._testMethodName, **variables)
        self.addCleanup(self.cluster.stop)
        self.flow = Flow("drain", cassandra_options=SLOW)
        self.flow.set_up(self.cluster)
        self.made = list(users.make(BATCH, self._testMethodName))
        self.flow.produce(self.cluster, self.made)
        self.checkpoint = self.cluster.folder / "checkpoint"
        self.cluster.submit(self.flow, "--checkpoint", self.checkpoint.as_uri())
        wait_until("rows are in the table", self.flow.has_rows)
        self.assertFalse(self.committed(), "in the middle of batch 0")

    def committed(self):
        return (pathlib.Path(self.checkpoint) / "commits" / "0").exists()

    def test_a_scheduler_ends_its_batch_and_refuses_others(self):
        self.start()
        self.cluster.scheduler.signal(signal.SIGTERM)
        wait_until("it drains", lambda: "draining" in self.cluster.scheduler.text())
        self.assertIn("SCHEDULER_ENDS", self.cluster.refused("query", "stop", self.flow.name))
        self.assertIn("SCHEDULER_ENDS", self.cluster.refused("query", "restart", self.flow.name))
        self.assertEqual(self.cluster.scheduler.wait(90), 0)
        self.assertTrue(self.committed(), "the batch was let to its end")
        self.assertFalse((pathlib.Path(self.checkpoint) / "offsets" / "1").exists(), "and no other was begun")
        self.assertEqual(self.flow.count(), BATCH)
        self.cluster.start_scheduler()
        self.cluster.wait_for_executors(2)
        late = list(users.make(100, "after the drain"))
        self.flow.produce(self.cluster, late)
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made + late))

    def test_a_drain_of_a_scheduler_has_a_bound(self):
        self.start(HEADWATER_DRAIN_TIMEOUT="1 second")
        began = time.monotonic()
        self.cluster.scheduler.signal(signal.SIGTERM)
        self.assertEqual(self.cluster.scheduler.wait(60), 0)
        self.assertLess(time.monotonic() - began, 15)
        self.assertFalse(self.committed(), "the batch was cut off")
        self.assertIn("run again at the next start", self.cluster.scheduler.text())
        self.cluster.start_scheduler()
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made), 180)

    def test_a_second_signal_ends_a_scheduler_at_once(self):
        self.start()
        self.cluster.scheduler.signal(signal.SIGTERM)
        wait_until("it drains", lambda: "once more to end at once" in self.cluster.scheduler.text())
        time.sleep(0.5)  # two signals within 0.3 s count as one: wrappers send both
        began = time.monotonic()
        self.cluster.scheduler.signal(signal.SIGTERM)
        self.assertEqual(self.cluster.scheduler.wait(30), 130)
        self.assertLess(time.monotonic() - began, 3)
        self.assertFalse(self.committed())
        self.cluster.start_scheduler()
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made), 180)

    def test_a_drain_of_an_executor_has_a_bound(self):
        self.start(HEADWATER_DRAIN_TIMEOUT="1 second")
        leaving = self.cluster.executors[0]
        began = time.monotonic()
        leaving.signal(signal.SIGTERM)
        self.assertEqual(leaving.wait(60), 0)
        self.assertLess(time.monotonic() - began, 20)
        self.cluster.wait_for_executors(1)
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made), 180)


class Limits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster("limits", executors=1, HEADWATER_MEMORY_LIMIT="96m")
        cls.addClassCleanup(cls.cluster.stop)
        cls.executor = cls.cluster.executors[0]

    def metric(self, family):
        return self.cluster.executor_metric(self.executor, family)

    def assert_it_goes_on(self):
        self.assertTrue(self.executor.alive())
        self.assertEqual(self.cluster.sql("SELECT count(*) AS n FROM range(1000)"), [{"n": 1000}])
        wait_until("its memory is free again", lambda: self.metric("headwater_memory_reserved_bytes") == 0)
        wait_until("its spill files are gone", lambda: self.metric("headwater_spilled_bytes") == 0)

    def test_a_sort_that_is_too_large_spills(self):
        """48 MB a task; the rows to be sorted are some 160 MB."""
        before = self.metric("headwater_memory_refused_total")
        rows = 2_000_000
        [row] = self.cluster.sql(
            f"""SELECT sum(CASE WHEN v < w THEN 1 ELSE 0 END) AS n, count(*) AS c
                FROM (SELECT v, lead(v) OVER (ORDER BY v) AS w
                      FROM (SELECT concat(md5(CAST(id AS STRING)), md5(CAST(id + 1 AS STRING))) AS v
                            FROM range({rows})))""",
            seconds=300,
        )
        self.assertEqual((row["n"], row["c"]), (rows - 1, rows), "sorted, and nothing lost")
        self.assertGreater(self.metric("headwater_memory_refused_total"), before, "it was too large")
        self.assert_it_goes_on()

    def test_a_list_that_is_too_large_fails_alone(self):
        """All values in one, which must be held whole."""
        err = self.cluster.refused(
            "sql",
            "SELECT size(collect_list(concat(md5(CAST(id AS STRING)), md5(CAST(id AS STRING))))) FROM range(3000000)",
            seconds=300,
        )
        self.assertIn("UNABLE_TO_ACQUIRE_MEMORY", err)
        self.assertIn("--memory-limit", err)
        self.assert_it_goes_on()


class Pages(unittest.TestCase):
    def test_an_executor_says_whether_it_is_registered_and_what_it_does(self):
        cluster = Cluster("pages", executors=1, HEADWATER_LOG_FORMAT="json")
        self.addCleanup(cluster.stop)
        [executor] = cluster.executors
        health = f"http://{executor.address('http')}/healthz"

        def unregistered():
            try:
                urllib.request.urlopen(health, timeout=10).close()
                return False
            except urllib.error.HTTPError as error:
                return error.code == 503

        # The scheduler knows that it is registered before the executor has its answer.
        wait_until("it is healthy", lambda: not unregistered())
        cluster.submit_text(
            "pages",
            """CREATE TABLE made USING `rate-micro-batch` OPTIONS (rowsPerBatch '10', numPartitions '2');
               CREATE TABLE gone USING noop;
               CREATE FLOW pages AS INSERT INTO gone SELECT value FROM STREAM(made)""",
        )
        wait_until("three batches", lambda: cluster.queries()["pages"]["batchId"] >= 3)
        self.assertGreater(cluster.executor_metric(executor, 'headwater_tasks_total{outcome="ok"}'), 0)
        self.assertEqual(cluster.executor_metric(executor, "headwater_task_slots"), 2)
        self.assertGreater(cluster.executor_metric(executor, "headwater_process_resident_memory_bytes"), 1 << 20)
        page = cluster.get("/metrics")
        for sample in ("headwater_query_batches_total", "headwater_query_batch_duration_seconds_count"):
            self.assertRegex(page, rf'(?m)^{sample}{{query="pages"')
        cluster.ok("query", "stop", "pages")
        cluster.scheduler.kill()
        wait_until("it is healthy no more", unregistered)
        cluster.start_scheduler()
        wait_until("it is healthy again", lambda: not unregistered())

    def test_lines_of_the_log_name_query_run_and_batch(self):
        """A batch that fails: rows that no sink of this kind takes."""
        cluster = Cluster("lines", executors=1, HEADWATER_LOG_FORMAT="json", HEADWATER_LOG="debug")
        self.addCleanup(cluster.stop)
        cluster.submit_text(
            "lines",
            """CREATE TABLE made USING `rate-micro-batch` OPTIONS (rowsPerBatch '10', numPartitions '1');
               CREATE TABLE gone USING noop;
               CREATE FLOW lines AS INSERT INTO gone SELECT 1 / (value - 25) AS v FROM STREAM(made)""",
        )
        query = wait_until("it fails", lambda: (q := cluster.queries()["lines"])["state"] == "FAILED" and q)

        def spans(process, message):
            lines = [json.loads(line) for line in process.text().splitlines() if line.startswith("{")]
            return [line.get("span", {}) for line in lines if line["fields"].get("message", "").startswith(message)]

        [span, *_] = [span for span in spans(cluster.executors[0], "task failed") if span.get("query_id") == query["id"]]
        self.assertEqual(span["batch_id"], query["batchId"] + 1)
        self.assertTrue(span["job_id"])

    def test_a_port_for_others_is_told(self):
        cluster = Cluster("exposed", executors=0, HEADWATER_BIND="0.0.0.0")
        self.addCleanup(cluster.stop)
        [line] = [line for line in cluster.scheduler.text().splitlines() if "no login and no TLS" in line]
        self.assertIn("0.0.0.0", line)
        other = Cluster("closed", executors=0)
        self.addCleanup(other.stop)
        self.assertNotIn("no login", other.scheduler.text())
        listening = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True).stdout
        own = [line.split()[3] for line in listening.splitlines() if f"pid={other.scheduler.pid}," in line]
        if own:  # where there is `ss`
            self.assertTrue(all(address.startswith("127.") for address in own), own)


if __name__ == "__main__":
    unittest.main()
