"""The 22 queries of TPC-H at scale factor 0.01: DuckDB's answers, whichever way a query runs."""

import os
import subprocess
import tempfile
import unittest

from cluster import DEADLINE, ROOT, environment
from test_connect import Server

PROGRAM = ROOT / "tests" / "tpch" / "run.py"
ANSWERS = ROOT / "tests" / "golden" / "tpch-answers" / "sf0.01.json"


class Tpch(unittest.TestCase):
    needs = ("PYSPARK_4_3_0", "TPCHGEN")

    @classmethod
    def setUpClass(cls):
        cls.data = tempfile.TemporaryDirectory(prefix="headwater-tpch-")
        generate = [os.environ["TPCHGEN"], "parquet", "-s", "0.01", "--output-dir", cls.data.name]
        subprocess.run(generate, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.server = Server("tpch", executors=2, task_slots=2)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.data.cleanup()

    def asked(self, *arguments):
        run = subprocess.run(
            [os.environ["PYSPARK_4_3_0"], PROGRAM, self.data.name, "--answers", ANSWERS, *arguments],
            env=dict(environment(), SPARK_REMOTE=f"sc://{self.server.address}"),
            capture_output=True,
            text=True,
            timeout=5 * DEADLINE,
        )
        self.assertEqual(run.returncode, 0, run.stdout[-5000:] + run.stderr[-5000:])
        self.assertIn("q22", run.stdout)

    def test_as_one_task(self):
        self.asked()

    def test_in_stages(self):
        self.asked("--conf", "headwater.query.oneTaskBytes=0")


if __name__ == "__main__":
    unittest.main()
