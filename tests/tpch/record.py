"""Records what DuckDB answers to the 22 queries of TPC-H: what run.py compares with.

usage: record.py SCALE FILE     (with the Python that tests/spark/venv tpch prints)
"""

import datetime
import decimal
import json
import pathlib
import subprocess
import sys
import sysconfig
import tempfile

import duckdb

QUERIES = pathlib.Path(__file__).resolve().parent / "queries"
TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]


def plain(value):
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return value


def main():
    scale, target = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        tpchgen = pathlib.Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
        subprocess.run([tpchgen, "parquet", "-s", scale, "--output-dir", folder], check=True)
        duck = duckdb.connect()
        for table in TABLES:
            duck.execute(f"CREATE VIEW {table} AS SELECT * FROM '{folder}/{table}.parquet'")
        answers = {}
        for number in range(1, 23):
            rows = duck.execute((QUERIES / f"q{number}.sql").read_text()).fetchall()
            answers[number] = [[plain(value) for value in row] for row in rows]
            print(f"q{number}: {len(rows)} rows", file=sys.stderr)
    # A row a line: differences of a later recording can be read.
    lines = []
    for number, rows in answers.items():
        body = ",\n  ".join(json.dumps(row) for row in rows)
        lines.append(f'"{number}": [\n  {body}\n]' if rows else f'"{number}": []')
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
