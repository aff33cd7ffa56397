"""A script of before Spark Connect, as `headwater submit` runs it: everything that stock clients refuse there.

Prints what it found as JSON; ends with the exit code that the first argument names.
"""

import json
import os
import sys

import helpers  # of --py-files
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

conf = SparkConf().setAppName("from the script").set("spark.from.script", "1")
spark = SparkSession.builder.master("local[*]").config(conf=conf).getOrCreate()
context = spark.sparkContext
context.setLogLevel("WARN")
context.setJobGroup("group", "what it does")
found = {
    "appName": context.appName,
    "version": context.version,
    "sparkVersion": spark.version,
    "defaultParallelism": context.defaultParallelism,
    "applicationId": context.applicationId,
    "uiWebUrl": context.uiWebUrl,
    "master": context.master,
    "same": SparkContext.getOrCreate() is context,
    "fromScript": context.getConf().get("spark.from.script"),
    "fromCommand": spark.conf.get("spark.from.command"),
    "helper": helpers.VALUE,
    "arguments": sys.argv[1:],
    "rows": [row[0] for row in spark.range(3).collect()],
    "remote": os.environ["SPARK_REMOTE"],
}
for refused in (lambda: context.parallelize([1]), lambda: SparkContext("local", "x")):
    try:
        refused()
        found["refused"] = "not"
    except (AttributeError, RuntimeError) as error:
        found.setdefault("refused", str(error))
print(json.dumps(found))
spark.stop()
sys.exit(int(sys.argv[1]))
