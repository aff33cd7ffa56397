"""A PySpark script as people write them: it never ends by itself, and asks of Spark's context what Spark Connect lacks."""

from pyspark.sql import SparkSession  # type: ignore[import-not-found]

if __name__ == "__main__":
    spark = SparkSession.builder.appName("rate").getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    rows = spark.readStream.format("rate").option("rowsPerSecond", 5).load()
    query = rows.writeStream.format("noop").queryName("rate_script").start()
    print("started", query.id, flush=True)
    query.awaitTermination()
