"""Catalog, checkpoints and a table on S3: the scheduler keeps nothing else."""

import os
import unittest
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

    def test_a_killed_scheduler_goes_on_from_the_bucket(self):
        """Rows are written exactly once by batches before and after the kill."""
        flow = self.cluster.file(
            "s3.sql",
            f"""CREATE TABLE made USING `rate-micro-batch` OPTIONS (rowsPerBatch '100', numPartitions '2');
            CREATE TABLE kept USING parquet OPTIONS (path 's3://{BUCKET}/kept');
            CREATE FLOW keep AS INSERT INTO kept SELECT value FROM STREAM(made);""",
        )
        self.cluster.ok("submit", flow, "--detach")
        batch = lambda: self.cluster.queries()["keep"]["batchId"]  # noqa: E731
        wait_until("three batches", lambda: batch() >= 3)
        self.cluster.scheduler.kill()
        self.cluster.start_scheduler()
        self.cluster.wait_for_executors(2)
        resumed = wait_until("a batch after the kill", lambda: max(batch(), 0))
        wait_until("three more", lambda: batch() >= resumed + 3)
        self.cluster.ok("query", "stop", "keep")
        committed = batch()
        [row] = self.cluster.sql("SELECT count(*) AS n, count(DISTINCT value) AS d, max(value) AS m FROM kept")
        # The stop may have come between the table's commit and the log's: that batch is in the table already.
        self.assertIn(row["n"], [100 * (committed + 1), 100 * (committed + 2)])
        self.assertEqual((row["d"], row["m"]), (row["n"], row["n"] - 1), "no row twice, none missing")


if __name__ == "__main__":
    unittest.main()
