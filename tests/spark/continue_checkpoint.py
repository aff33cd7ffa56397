"""Continues a checkpoint with real Apache Spark until everything is read, and says what each batch was.

usage: continue_checkpoint.py CHECKPOINT TOPIC   (KAFKA_ADDRESS and SPARK_JARS_DIR in the environment)

Shows that a checkpoint which Headwater has written, or written to, is one that Spark understands. CHECKPOINT itself
is changed. Prints one JSON line for each batch: batchId, the query's id, startOffset, endOffset, rows.
"""

import glob
import json
import os
import sys

from pyspark.sql import SparkSession


def main(checkpoint, topic):
    jars = sorted(glob.glob(os.path.join(os.environ["SPARK_JARS_DIR"], "*.jar")))
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", ",".join(jars))
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    query = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", os.environ["KAFKA_ADDRESS"])
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("failOnDataLoss", "false")
        .load()
        .selectExpr("CAST(value AS STRING)")
        .writeStream.format("noop")
        .option("checkpointLocation", checkpoint)
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    for progress in query.recentProgress:
        progress = progress if isinstance(progress, dict) else json.loads(progress.json)
        source = progress["sources"][0]
        print(
            json.dumps(
                {
                    "batchId": progress["batchId"],
                    "id": str(progress["id"]),
                    "startOffset": source["startOffset"],
                    "endOffset": source["endOffset"],
                    "rows": progress["numInputRows"],
                }
            )
        )
    spark.stop()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(os.path.abspath(sys.argv[1]), sys.argv[2])
