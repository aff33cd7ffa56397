"""The 22 queries of TPC-H through a PySpark session: how long each takes, and whether its answer is right.

usage: run.py DATA [--runs N] [--queries 1,3] [--answers FILE] [--conf KEY=VALUE] [--json]

DATA is a folder with a Parquet file a table (`tpchgen-cli parquet -s 1 --output-dir DATA`). SPARK_REMOTE names the
server, of whatever make: Headwater (`headwater standalone`), Sail (`sail spark server`); without it, Spark runs here.
The time of a query is from its text to its last row, the best of N runs. With --answers the rows are compared with
those that record.py wrote for the same scale factor, and a difference is a failure.
"""

import argparse
import datetime
import decimal
import json
import os
import pathlib
import sys
import time

from pyspark.sql import SparkSession

QUERIES = pathlib.Path(__file__).resolve().parent / "queries"
TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]
# Engines give averages and quotients different numbers of digits: Spark six behind the point.
TOLERANCE = 2e-6


def session():
    builder = SparkSession.builder
    if "SPARK_REMOTE" not in os.environ:
        builder = builder.master("local[*]").config("spark.ui.enabled", "false")
    return builder.getOrCreate()


def plain(value):
    """A value as JSON has it."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return value


def equal(found, expected):
    if isinstance(found, (int, float)) and isinstance(expected, (int, float)):
        return abs(found - expected) <= TOLERANCE + 1e-9 * abs(expected)
    return found == expected


def difference(found, expected):
    """What differs first, or None."""
    if len(found) != len(expected):
        return f"{len(found)} rows, not {len(expected)}"
    for number, (one, other) in enumerate(zip(found, expected), 1):
        if len(one) != len(other) or not all(equal(*pair) for pair in zip(one, other)):
            return f"row {number} is {one}, not {other}"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--queries", help="by comma; all unless given")
    parser.add_argument("--answers", type=pathlib.Path)
    parser.add_argument("--conf", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.queries.split(",")] if arguments.queries else range(1, 23)
    answers = json.loads(arguments.answers.read_text()) if arguments.answers else None
    spark = session()
    for setting in arguments.conf:
        key, _, value = setting.partition("=")
        spark.conf.set(key, value)
    for table in TABLES:
        spark.read.parquet(str((arguments.data / f"{table}.parquet").resolve())).createOrReplaceTempView(table)
    seconds, wrong = {}, {}
    for _ in range(arguments.runs):
        for number in numbers:
            text = (QUERIES / f"q{number}.sql").read_text()
            began = time.perf_counter()
            try:
                rows = spark.sql(text).collect()
            except Exception as error:  # noqa: BLE001: whatever it is, the other queries are still to be asked
                wrong[number] = str(error)[:500]
                continue
            seconds[number] = min(seconds.get(number, float("inf")), time.perf_counter() - began)
            if answers is not None:
                found = [[plain(value) for value in row] for row in rows]
                differs = difference(found, answers[str(number)])
                if differs:
                    wrong[number] = differs
    total = sum(seconds.values())
    if arguments.json:
        each = {number: round(value, 3) for number, value in seconds.items()}
        print(json.dumps({"version": spark.version, "total_s": round(total, 3), "each": each, "wrong": wrong}))
    else:
        for number, value in seconds.items():
            print(f"q{number:<3} {value:7.3f} s")
        print(f"all  {total:7.3f} s")
    for number, why in wrong.items():
        print(f"q{number} is wrong: {why}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
