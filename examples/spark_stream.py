"""Users from Kafka into Cassandra with Spark Structured Streaming.

    spark-submit --packages ... spark_stream.py               on Apache Spark
    headwater submit examples/spark_stream.py                 on Headwater, the same file
    SPARK_REMOTE=sc://localhost:15002 python spark_stream.py  on Headwater, from any Python with pyspark[connect]

The keyspace and the table are in users.cql. Hosts and names come from the environment:
KAFKA_BOOTSTRAP_SERVERS, KAFKA_TOPIC, CASSANDRA_HOST, CASSANDRA_KEYSPACE, CASSANDRA_TABLE, CHECKPOINT_LOCATION.
"""

import logging
import os

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, from_json
from pyspark.sql.types import StringType, StructField, StructType

KAFKA = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = os.environ.get("KAFKA_TOPIC", "users_created")
CASSANDRA = os.environ.get("CASSANDRA_HOST", "localhost")
KEYSPACE = os.environ.get("CASSANDRA_KEYSPACE", "spark_streams")
TABLE = os.environ.get("CASSANDRA_TABLE", "created_users")
CHECKPOINT = os.environ.get("CHECKPOINT_LOCATION", "/tmp/checkpoint/created_users")

PACKAGES = ",".join(
    [
        "com.datastax.spark:spark-cassandra-connector_2.12:3.4.1",
        "org.apache.spark:spark-sql-kafka-0-10_2.12:3.4.1",
    ]
)


def create_spark_connection():
    spark = (
        SparkSession.builder.appName("SparkDataStreaming")
        .config("spark.jars.packages", PACKAGES)
        .config("spark.cassandra.connection.host", CASSANDRA)
        .getOrCreate()
    )
    try:
        spark.sparkContext.setLogLevel("ERROR")
    except Exception as error:  # a Spark Connect client has no sparkContext
        logging.debug("the log level stays as it is: %s", error)
    logging.info("Spark connection created successfully: Spark %s", spark.version)
    return spark


def connect_to_kafka(spark):
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", KAFKA)
        .option("subscribe", TOPIC)
        .option("startingOffsets", "earliest")
        .load()
    )


def create_selection_df_from_kafka(spark_df):
    schema = StructType(
        [
            StructField("id", StringType(), False),
            StructField("first_name", StringType(), False),
            StructField("last_name", StringType(), False),
            StructField("gender", StringType(), False),
            StructField("address", StringType(), False),
            StructField("post_code", StringType(), False),
            StructField("email", StringType(), False),
            StructField("username", StringType(), False),
            StructField("dob", StringType(), False),
            StructField("registered_date", StringType(), False),
            StructField("phone", StringType(), False),
            StructField("picture", StringType(), False),
            StructField("country", StringType(), True),
            StructField("city", StringType(), True),
            StructField("nat", StringType(), True),
        ]
    )
    selection = (
        spark_df.selectExpr("CAST(value AS STRING)")
        .select(from_json(col("value"), schema).alias("data"))
        .select("data.*")
    )
    print(selection)
    return selection


def main():
    logging.basicConfig(level=logging.INFO)
    spark = create_spark_connection()
    selection_df = create_selection_df_from_kafka(connect_to_kafka(spark))
    logging.info("Streaming is being started...")
    streaming_query = (
        selection_df.writeStream.format("org.apache.spark.sql.cassandra")
        .option("checkpointLocation", CHECKPOINT)
        .option("keyspace", KEYSPACE)
        .option("table", TABLE)
        .start()
    )
    streaming_query.awaitTermination()


if __name__ == "__main__":
    main()
