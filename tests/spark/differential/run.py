"""Compares Headwater with Spark's recorded answers: `SPARK_REMOTE=sc://host:port python run.py [PATTERN…]`.

Every difference is printed; the last line says how many cases passed of how many. Fails on differences that
`known_differences.txt` does not list, and on listed ones that are there no more.
"""

import argparse
import collections
import json
import logging
import os
import sys

import answers
import cases


def known_differences():
    """Reasons by name of case."""
    reasons = {}
    for line in (answers.HERE / "known_differences.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, reason = line.partition(": ")
            assert reason, f"known_differences.txt: {name} needs a reason"
            reasons[name] = reason
    return reasons


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", help="only cases whose names contain one of these")
    parser.add_argument("--json", help="write every answer to this file")
    parser.add_argument("--quiet", action="store_true", help="print no known differences")
    arguments = parser.parse_args()
    if "SPARK_REMOTE" not in os.environ:
        parser.error("set SPARK_REMOTE to the server's address, such as sc://localhost:15002")
    from pyspark.sql import SparkSession

    logging.getLogger("SQLQueryContextLogger").disabled = True
    spark = SparkSession.builder.getOrCreate()
    answers.prepare(spark)
    recorded, reasons = answers.recorded(), known_differences()
    everything = cases.all_cases()
    problems = [f"{name}: listed as a known difference, and there is no such case" for name in reasons.keys() - {case.name for case in everything}]
    passed, total, known, groups, all_answers = 0, 0, 0, collections.Counter(), {}
    for case in everything:
        if arguments.patterns and not any(pattern in case.name for pattern in arguments.patterns):
            continue
        total += 1
        expected = recorded.get(case.name)
        if expected is None or expected.get("sql") != case.sql:
            problems.append(f"{case.name}: no answer of Spark is recorded; run record.py")
            continue
        ours = answers.answer(spark, case)
        all_answers[case.name] = ours
        found = answers.differences(expected, ours)
        if not found:
            passed += 1
            if case.name in reasons:
                problems.append(f"{case.name}: passes; take it off the known differences")
        elif case.name in reasons:
            known += 1
            if not arguments.quiet:
                print(f"known {case.name}: {reasons[case.name]}")
        else:
            groups[case.name.split(".")[0]] += 1
            problems.append("\n    ".join([f"{case.name}: {case.sql or ''}", *found]))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(all_answers, file, indent=0, ensure_ascii=False)
    for problem in problems:
        print(problem)
    if groups:
        print("differences by group:", ", ".join(f"{group} {count}" for group, count in groups.most_common()))
    print(f"{passed} of {total} cases passed, {known} known differences, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
