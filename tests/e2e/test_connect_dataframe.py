"""The DataFrame API through Spark Connect: stock clients get the answers that Apache Spark gives them."""

import json
import os
import pathlib
import subprocess
import unittest

from cluster import DEADLINE, ROOT, environment
from test_connect import Server

PROGRAM = pathlib.Path(__file__).resolve().parent / "clients" / "dataframe.py"
ANSWERS = ROOT / "tests" / "golden" / "spark-answers" / "dataframe-api.json"

# Cases whose answer is another one on purpose, with the reason.
KNOWN = {}


def differences(found, expected):
    """Names of cases with what differs; a case that the client did not run is none."""
    return {
        name: (answer, expected.get(name))
        for name, answer in found.items()
        if name not in KNOWN and answer != expected.get(name)
    }


class DataFrames:
    """The cases, asked by one client."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server(f"connect-dataframe-{cls.needs[0].lower()}")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_answers_are_sparks(self):
        python = os.environ[self.needs[0]]
        run = subprocess.run(
            [python, PROGRAM, f"sc://127.0.0.1:{self.server.port}"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=10 * DEADLINE,
        )
        self.assertEqual(run.returncode, 0, run.stderr[-4000:])
        found = json.loads(run.stdout.splitlines()[-1])
        expected = json.loads(ANSWERS.read_text())
        self.assertGreater(len(found), 80)
        wrong = differences(found, expected)
        shown = "\n".join(f"{name}:\n    found  {got}\n    expect {wanted}" for name, (got, wanted) in wrong.items())
        self.assertFalse(wrong, f"{len(wrong)} of {len(found)} answers differ:\n{shown}")


class Spark43(DataFrames, unittest.TestCase):
    needs = ("PYSPARK_4_3_0",)


class Spark35(DataFrames, unittest.TestCase):
    needs = ("PYSPARK_3_5_9",)
