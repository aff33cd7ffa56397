"""Records Apache Spark's answers: `python record.py [PATTERN]`, with PySpark 4.3.0 (which carries Spark) and Java 17.

Writes tests/golden/spark-answers/<group>.json, a case a line, and functions.txt, the names of Spark's functions. With a
pattern only cases whose names contain it are asked; the others keep their answers.
"""

import json
import logging
import sys

import answers
import cases


def main():
    from pyspark.sql import SparkSession

    logging.getLogger("SQLQueryContextLogger").disabled = True
    builder = SparkSession.builder.remote("local[1]").config("spark.sql.shuffle.partitions", "2")
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    answers.prepare(spark)
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    known, groups = answers.recorded(), {}
    for case in cases.all_cases():
        found = known.get(case.name)
        if found is None or found.get("sql") != case.sql or pattern in case.name and pattern:
            found = answers.answer(spark, case)
            found.pop("message", None)
            if case.sql:
                found = {"sql": case.sql, **found}
            print(case.name, json.dumps(found, ensure_ascii=False)[:200], flush=True)
        groups.setdefault(case.name.split(".")[0], {})[case.name] = found
    answers.GOLDEN.mkdir(parents=True, exist_ok=True)
    for group, found in groups.items():
        lines = [f"{json.dumps(name)}: {json.dumps(one, ensure_ascii=False)}" for name, one in found.items()]
        (answers.GOLDEN / f"{group}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    names = sorted(row[0] for row in spark.sql("SHOW SYSTEM FUNCTIONS").collect())
    (answers.GOLDEN / "functions.txt").write_text(f"# SHOW SYSTEM FUNCTIONS of Spark {spark.version}\n" + "\n".join(names) + "\n")
    spark.stop()


if __name__ == "__main__":
    main()
