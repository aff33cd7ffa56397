"""What an engine answers to a case, as values that JSON can hold, and how two answers differ."""

import datetime
import decimal
import json
import math
import os
import pathlib
import time

os.environ["TZ"] = "UTC"  # Python shows timestamps in its own zone.
time.tzset()

import cases  # noqa: E402  after the zone

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent.parent / "golden" / "spark-answers"
# Of doubles: sums in another order differ in the last digits.
TOLERANCE = 1e-11


def prepare(spark):
    """Creates the views that cases read."""
    for name, query in cases.VIEWS.items():
        spark.sql(f"CREATE OR REPLACE TEMPORARY VIEW {name} AS {query}")


def value(item):
    """A cell as JSON; its type stands in the schema."""
    if item is None or isinstance(item, (bool, int, str)):
        return item
    if isinstance(item, float):
        return item if math.isfinite(item) else str(item)
    if isinstance(item, (decimal.Decimal, datetime.date, datetime.datetime, datetime.timedelta)):
        return str(item)
    if isinstance(item, (bytes, bytearray)):
        return bytes(item).hex()
    if isinstance(item, dict):
        return sorted(([value(k), value(v)] for k, v in item.items()), key=json.dumps)
    if isinstance(item, (tuple, list)):
        return [value(one) for one in item]
    return f"{type(item).__name__}: {item}"


def answer(spark, case):
    """`{"schema", "nullable", "rows"}`, or `{"error"}` with the error class."""
    from pyspark.errors import PySparkException

    before = {key: spark.conf.get(key, None) for key in case.conf}
    try:
        for key, setting in case.conf.items():
            spark.conf.set(key, setting)
        frame = spark.sql(case.sql) if case.sql else case.function(spark)
        schema = frame.schema
        rows = [[value(cell) for cell in row] for row in frame.collect()]
        if not case.ordered:
            rows.sort(key=lambda row: json.dumps(row, ensure_ascii=False))
        return {
            "schema": ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in schema.fields),
            "nullable": "".join("n" if field.nullable else "-" for field in schema.fields),
            "rows": rows,
        }
    except PySparkException as error:
        condition = getattr(error, "getCondition", error.getErrorClass)()
        return {"error": condition or type(error).__name__, "message": str(error).split("\n")[0][:300]}
    except Exception as error:  # A client that cannot read the answer is a difference, not the end of the run.
        return {"error": f"client: {type(error).__name__}", "message": str(error).split("\n")[0][:300]}
    finally:
        for key, setting in before.items():
            spark.conf.unset(key) if setting is None else spark.conf.set(key, setting)


def recorded():
    """Spark's answers by name of case."""
    answers = {}
    for group in sorted({case.name.split(".")[0] for case in cases.all_cases()}):
        path = GOLDEN / f"{group}.json"
        if path.exists():
            answers.update(json.loads(path.read_text()))
    return answers


def same(one, two):
    """Whether two cells are equal, doubles nearly so."""
    if isinstance(one, float) or isinstance(two, float):
        return (
            isinstance(one, (int, float))
            and isinstance(two, (int, float))
            and math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=1e-300)
        )
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two))
    return type(one) is type(two) and one == two


def differences(spark, ours):
    """What differs between Spark's answer and ours; empty when nothing does."""
    if "error" in spark or "error" in ours:
        if spark.get("error") == ours.get("error"):
            return []
        told = ours.get("error", "rows " + json.dumps(ours.get("rows"), ensure_ascii=False)[:300])
        expected = spark.get("error", "rows " + json.dumps(spark.get("rows"), ensure_ascii=False)[:300])
        return [f"expected {expected}, got {told} {ours.get('message', '')}".rstrip()]
    found = []
    if spark["schema"] != ours["schema"]:
        found.append(f"schema: expected {spark['schema']}, got {ours['schema']}")
    if not same(spark["rows"], ours["rows"]):
        show = lambda rows: json.dumps(rows, ensure_ascii=False)[:600]  # noqa: E731
        found.append(f"rows: expected {show(spark['rows'])}, got {show(ours['rows'])}")
    return found
