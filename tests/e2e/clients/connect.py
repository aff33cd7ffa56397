"""What stock PySpark does against a server, one function a case. Run by test_connect.py under each client's Python.

usage: connect.py CASE URL [ARGUMENT ...]

Prints one line of JSON: what the case saw. PySpark 3.5 and 4.x alike, unless a case says otherwise.
"""

import json
import os
import sys
import threading
import time

import pyspark
from pyspark.sql import SparkSession

# Slow enough for anything that happens meanwhile, and of no rows: 40^6 pairs that no filter keeps.
SLOW = (
    "WITH t AS (SELECT * FROM (VALUES {}) AS v(x)) "
    "SELECT count(*) FROM t a CROSS JOIN t b CROSS JOIN t c CROSS JOIN t d CROSS JOIN t e CROSS JOIN t f "
    "WHERE a.x + b.x * c.x + d.x * e.x * f.x = -1"
).format(", ".join(f"({i})" for i in range(40)))


def connect(url):
    return SparkSession.builder.remote(url).getOrCreate()


def failure(work):
    """What Python raises, as a user sees it."""
    try:
        return {"answer": repr(work())}
    except Exception as error:
        ask = lambda name: getattr(error, name, lambda: None)()
        return {
            "type": type(error).__name__,
            "message": str(error),
            "class": ask("getCondition") or ask("getErrorClass"),
            "state": ask("getSqlState"),
            "parameters": ask("getMessageParameters"),
        }


def basics(url):
    began = time.perf_counter()
    spark = connect(url)
    one = spark.sql("SELECT 1 AS one").collect()
    first = time.perf_counter() - began
    empty = spark.sql("SELECT 1 AS a WHERE false")
    spark.conf.set("spark.cassandra.connection.host", "h")
    shown = ["spark.sql.ansi.enabled", "spark.sql.shuffle.partitions", "spark.cassandra.connection.host"]
    spark.sql("SELECT 1 AS a").createOrReplaceTempView("kept")
    cached = [bool(spark.catalog.isCached("kept"))]
    spark.catalog.cacheTable("kept")
    cached.append(bool(spark.catalog.isCached("kept")))
    spark.sql("UNCACHE TABLE kept")
    cached.append(bool(spark.catalog.isCached("kept")))
    return {
        "version": spark.version,
        "one": [row.asDict() for row in one],
        "empty": [empty.collect(), empty.columns],
        "pandas": spark.sql("SELECT 'x' AS s, 2.5D AS d").toPandas().to_dict("list"),
        "conf": [
            spark.conf.get("spark.cassandra.connection.host"),
            spark.conf.get("spark.sql.session.timeZone"),
            spark.conf.get("spark.nope", "default"),
            spark.conf.isModifiable("spark.sql.ansi.enabled"),
            spark.conf.isModifiable("spark.sql.warehouse.dir"),
        ],
        "shown": [[spark.conf.get(key), spark.sql(f"SET {key}").collect()[0]["value"]] for key in shown],
        "cached": cached,
        "first_seconds": first,
    }


def errors(url):
    spark = connect(url)
    return {
        "parse": failure(lambda: spark.sql("SELEC 1").collect()),
        "table": failure(lambda: spark.sql("SELECT * FROM nope").collect()),
        "column": failure(lambda: spark.sql("SELECT nope FROM (SELECT 1 AS a)").collect()),
        "static": failure(lambda: spark.conf.set("spark.sql.warehouse.dir", "/x")),
        "value": failure(lambda: spark.conf.set("spark.sql.ansi.enabled", "maybe")),
        "unknown": failure(lambda: spark.conf.get("spark.nope")),
        "after": spark.sql("SELECT 1").collect()[0][0],
    }


def latency(url, count):
    spark = connect(url)
    seconds = []
    for _ in range(int(count)):
        began = time.perf_counter()
        spark.sql("SELECT 1").collect()
        seconds.append(time.perf_counter() - began)
    seconds.sort()
    return {"p50_ms": seconds[len(seconds) // 2] * 1e3, "p99_ms": seconds[len(seconds) * 99 // 100] * 1e3}


def big(url, rows):
    """A result of many batches, whole and in order."""
    spark = connect(url)
    ids = [row.id for row in spark.range(int(rows)).collect()]
    return {"rows": len(ids), "in_order": ids == list(range(int(rows)))}


def slow(url):
    """Says that it is about to, and runs what does not end. The test kills this process."""
    spark = connect(url)
    frame = spark.sql(SLOW)
    print(json.dumps({"running": os.getpid()}), flush=True)
    return frame.collect()


def interrupts(url):
    spark = connect(url)
    seen = {}

    def run(name, tag):
        spark.addTag(tag)
        seen[name] = failure(lambda: spark.sql(SLOW).collect())
        spark.removeTag(tag)

    def interrupted(name, tag, interrupt):
        worker = threading.Thread(target=run, args=(name, tag))
        worker.start()
        # Until the operation is there to be interrupted.
        ids = []
        while worker.is_alive() and not ids:
            ids = interrupt()
            time.sleep(0.05)
        worker.join()
        return len(ids)

    counts = [
        interrupted("tag", "mine", lambda: spark.interruptTag("mine")),
        interrupted("all", "other", spark.interruptAll),
        len(spark.interruptTag("nobody's")),
    ]
    return {"counts": counts, "seen": seen, "after": spark.sql("SELECT 1").collect()[0][0]}


def deep(url, count):
    """What loops make: columns one after the other, a union of many frames; and what is beyond Spark's limit."""
    from pyspark.sql import functions as F

    count = int(count)
    spark = connect(url)
    frame, union = spark.range(1), spark.range(1)
    for number in range(count):
        frame = frame.withColumn(f"c{number}", F.lit(number))
    for number in range(1, count):
        union = union.union(spark.range(number, number + 1))
    too_deep = spark.range(1)
    for _ in range(600):
        too_deep = too_deep.filter("id >= 0")
    return {
        "columns": len(frame.collect()[0]),
        "union": int(union.count()),
        "too deep": failure(too_deep.collect),
        "after": spark.sql("SELECT 1").collect()[0][0],
    }


def many(url, count):
    """So many sessions at once, each with its own channel, settings and queries."""
    count = int(count)
    wrong, sessions = [], [None] * count
    start = threading.Barrier(count)

    def client(number):
        try:
            # The builder keeps one session; create() makes another.
            session = SparkSession.builder.remote(url).create()
            sessions[number] = session
            start.wait()
            session.conf.set("spark.test.number", str(number))
            for i in range(5):
                row = session.sql(f"SELECT {number} AS n, {i} AS i").collect()[0]
                if (row.n, row.i, session.conf.get("spark.test.number")) != (number, i, str(number)):
                    wrong.append([number, i, repr(row)])
        except Exception as error:
            start.abort()
            wrong.append([number, repr(error)])

    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"wrong": wrong[:5], "seconds": time.perf_counter() - began}


def token(url):
    return failure(lambda: connect(url).sql("SELECT 1").collect())


def artifacts(url, folder):
    """Uploads: a file, twice, and another of its name; more than fits into one message."""
    spark = connect(url)
    path = os.path.join(folder, "helper.py")
    with open(path, "w") as file:
        file.write("answer = 42\n")
    add = spark.addArtifacts if hasattr(spark, "addArtifacts") else spark.addArtifact
    first, again = failure(lambda: add(path, pyfile=True)), failure(lambda: add(path, pyfile=True))
    with open(path, "w") as file:
        file.write("answer = 43\n")
    changed = failure(lambda: add(path, pyfile=True))
    large = os.path.join(folder, "large.bin")
    with open(large, "wb") as file:
        file.write(os.urandom(3 << 20))
    return {"first": first, "again": again, "changed": changed, "large": failure(lambda: add(large, file=True))}


def stop(url):
    """After stop() the session is over; a new one is another."""
    spark = connect(url)
    spark.sql("SELECT 1").collect()
    spark.stop()
    gone = failure(lambda: spark.sql("SELECT 1").collect())
    return {"gone": gone, "new": connect(url).sql("SELECT 2").collect()[0][0]}


def wait(url, seconds):
    """A call that takes longer than a stream lasts."""
    spark = connect(url)
    began = time.perf_counter()
    seen = failure(lambda: spark.sql(SLOW).collect())
    return {"seen": seen, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    case, url, *arguments = sys.argv[1:]
    answer = globals()[case](url, *arguments)
    print(json.dumps({"pyspark": pyspark.__version__, **answer}), flush=True)
