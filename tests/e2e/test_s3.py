"""Catalog, checkpoints and a table on S3: the scheduler keeps nothing else."""

import os
import re
import unittest
import urllib.parse
import urllib.request

from cluster import Cluster, wait_until

BUCKET = f"headwater-{os.urandom(4).hex()}"


class ObjectStore(unittest.TestCase):
    needs = ("S3_ADDRESS",)

    @classmethod
    def setUpClass(cls):
        endpoint = f"http://{os.environ['S3_ADDRESS']}"
        os.environ.update(
            AWS_ACCESS_KEY_ID="key",
            AWS_SECRET_ACCESS_KEY="secret",
            AWS_REGION="us-east-1",
            AWS_ENDPOINT=endpoint,
            AWS_ALLOW_HTTP="true",
        )
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT"), timeout=10).close()
        cls.cluster = Cluster("s3", state=f"s3://{BUCKET}/state")
        cls.addClassCleanup(cls.cluster.stop)

    def submit(self, cluster, name):
        """Starts query `name`, which writes to s3://BUCKET/name."""
        cluster.submit_text(
            name,
            f"""CREATE TABLE made_{name} USING `rate-micro-batch` OPTIONS (rowsPerBatch '100', numPartitions '2');
            CREATE TABLE {name} USING parquet OPTIONS (path 's3://{BUCKET}/{name}');
            CREATE FLOW {name} AS INSERT INTO {name} SELECT value FROM STREAM(made_{name});""",
        )

    def assert_every_row_once(self, cluster, name):
        """Stops the query first."""
        cluster.ok("query", "stop", name)
        committed = cluster.queries()[name]["batchId"]
        [row] = cluster.sql(f"SELECT count(*) AS n, count(DISTINCT value) AS d, max(value) AS m FROM {name}")
        # The stop may have come between the table's commit and the log's: that batch is in the table already.
        self.assertIn(row["n"], [100 * (committed + 1), 100 * (committed + 2)])
        self.assertEqual((row["d"], row["m"]), (row["n"], row["n"] - 1), "no row twice, none missing")

    def keys(self, prefix):
        """Keys of the bucket."""
        query = urllib.parse.urlencode({"list-type": "2", "prefix": prefix})
        with urllib.request.urlopen(f"http://{os.environ['S3_ADDRESS']}/{BUCKET}?{query}", timeout=10) as answer:
            return re.findall("<Key>([^<]*)</Key>", answer.read().decode())

    def test_a_killed_scheduler_goes_on_from_the_bucket(self):
        """Rows are written exactly once by batches before and after the kill."""
        self.submit(self.cluster, "kept")
        batch = lambda: self.cluster.queries()["kept"]["batchId"]  # noqa: E731
        wait_until("three batches", lambda: batch() >= 3)
        self.cluster.scheduler.kill()
        self.cluster.start_scheduler()
        self.cluster.wait_for_executors(2)
        resumed = wait_until("a batch after the kill", lambda: max(batch(), 0))
        wait_until("three more", lambda: batch() >= resumed + 3)
        self.assert_every_row_once(self.cluster, "kept")

    def test_a_scheduler_that_dies_between_the_table_and_the_log_commits_once(self):
        """The batch that the table has and the commit log has not is run again, and changes nothing."""
        cluster = Cluster("s3_between", state=f"s3://{BUCKET}/between")
        self.addCleanup(cluster.stop)
        cluster.scheduler.kill()
        cluster.start_scheduler(HEADWATER_FAILPOINT="after-sink-commit:3")
        cluster.wait_for_executors(2)
        self.submit(cluster, "once")
        wait_until("the scheduler has died", lambda: not cluster.scheduler.alive())
        self.assertIn("failpoint reached", cluster.scheduler.text())
        batches = lambda keys: sorted(int(key.rpartition("/")[2]) for key in keys if key.rpartition("/")[2].isdigit())  # noqa: E731
        self.assertEqual(batches(self.keys("once/_spark_metadata/")), [0, 1, 2, 3], "the table has the batch")
        commits = [key for key in self.keys("between/") if "/commits/" in key]
        self.assertEqual(batches(commits), [0, 1, 2], "the commit log has it not")
        cluster.start_scheduler()
        cluster.wait_for_executors(2)
        wait_until("three more", lambda: cluster.queries()["once"]["batchId"] >= 6)
        self.assert_every_row_once(cluster, "once")


if __name__ == "__main__":
    unittest.main()
