"""Starts a query that never ends, and waits for it: for what becomes of both when the script ends."""

import sys

from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
ticks = spark.readStream.format("rate").load()
query = ticks.writeStream.format("noop").start()
try:
    # Whoever reads this may interrupt at once.
    print("started", query.id, query.name, flush=True)
    query.awaitTermination()
finally:
    print("the script ends", file=sys.stderr)
