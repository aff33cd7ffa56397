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

# Cases whose answer is another one, with the reason.
KNOWN = {
    "window_frames": "the name of a column whose frame has bounds in numbers: Spark writes them otherwise",
    "to_pandas": "pandas 2 shows a missing text as None; the answer was recorded with pandas 3",
}
# What 3.5 sends otherwise than 4.3, whose answers are recorded.
KNOWN_3_5 = {
    "column_methods": "3.5 calls substr by the name of substring",
    "print_schema": "3.5 prints by itself and gives nothing back",
    "sample": "3.5 sends other seeds",
    "checkpoint": "3.5 has none",
}


def without_message(answer):
    """Errors are the same when their classes are."""
    if isinstance(answer, dict) and "message" in answer:
        return {"error": answer["error"]}
    return answer


def differences(found, expected, known):
    """Names of cases with what differs; a case that the client did not run is none."""
    pairs = {name: (without_message(answer), without_message(expected.get(name))) for name, answer in found.items()}
    return {name: pair for name, pair in pairs.items() if name not in known and pair[0] != pair[1]}


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
        wrong = differences(found, expected, self.known)
        shown = "\n".join(f"{name}:\n    found  {got}\n    expect {wanted}" for name, (got, wanted) in wrong.items())
        self.assertFalse(wrong, f"{len(wrong)} of {len(found)} answers differ:\n{shown}")


class Spark43(DataFrames, unittest.TestCase):
    needs = ("PYSPARK_4_3_0",)
    known = KNOWN


class Spark35(DataFrames, unittest.TestCase):
    needs = ("PYSPARK_3_5_9",)
    known = {**KNOWN, **KNOWN_3_5}
