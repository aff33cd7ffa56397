"""What Headwater answers to a thousand expressions and queries, compared with Apache Spark's recorded answers."""

import os
import pathlib
import subprocess
import unittest

from test_connect import Server

RUNNER = pathlib.Path(__file__).resolve().parent.parent / "spark" / "differential" / "run.py"
# The whole suite takes three minutes on a debug build.
DEADLINE = 900


class Differential(unittest.TestCase):
    needs = ["PYSPARK_4_3_0"]

    def test_answers_are_sparks(self):
        server = Server("differential")
        self.addCleanup(server.stop)
        environment = dict(os.environ, SPARK_REMOTE=f"sc://{server.address}")
        ran = subprocess.run(
            [os.environ["PYSPARK_4_3_0"], RUNNER, "--quiet"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        print(ran.stdout.strip().rpartition("\n")[2])
        self.assertEqual(ran.returncode, 0, ran.stdout[-20_000:] + ran.stderr[-2000:])


if __name__ == "__main__":
    unittest.main()
