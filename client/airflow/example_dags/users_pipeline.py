"""Users from an API to PostgreSQL to Kafka to Cassandra, and a check that every one of them has arrived.

    stream ──┐
             ├─► carried ─► check
    ingest ──┘

`stream` sees to it that the streaming query runs, which outlives this DAG. `ingest` fetches users, stages them in PostgreSQL
and publishes them to Kafka. `carried` waits until the query has committed every offset that `ingest` published, which is
when every user is in Cassandra; `check` finds by SQL whether anybody of the topic is not in the table. `ingest` and
`carried` wait in the triggerer.

Needs the connection `headwater_default`, the Kafka topic, and a scheduler that knows a PostgreSQL
(`--postgres`) or an Airflow connection to one, named by HEADWATER_EXAMPLE_POSTGRES_CONN_ID.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from headwater_airflow.assets import cassandra_table, kafka_topic
from headwater_airflow.operators.ingest import HeadwaterIngestOperator
from headwater_airflow.operators.sql import HeadwaterSqlCheckOperator
from headwater_airflow.operators.submit import HeadwaterSubmitOperator
from headwater_airflow.sensors.query import HeadwaterQuerySensor


def setting(name: str, default: str) -> str:
    return os.environ.get(f"HEADWATER_EXAMPLE_{name}", default)


KAFKA = setting("KAFKA", "localhost:9092")
CASSANDRA = setting("CASSANDRA", "localhost:9042")
TOPIC = setting("TOPIC", "users_created")
KEYSPACE = setting("KEYSPACE", "spark_streams")
TABLE = setting("TABLE", "created_users")
# Name of the streaming query, and of the tables in Headwater's catalog.
QUERY = setting("QUERY", "users")
# The API, or the address of a mirror of it.
SOURCE = setting("SOURCE", "randomuser")
POSTGRES_CONN_ID = setting("POSTGRES_CONN_ID", "") or None

with DAG(
    "users_pipeline",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    doc_md=__doc__,
    params={"users": 20_000},
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    tags=["headwater", "example"],
) as dag:
    stream = HeadwaterSubmitOperator(
        task_id="stream",
        application="users.sql",
        variables={
            "kafka": KAFKA,
            "cassandra": CASSANDRA,
            "topic": TOPIC,
            "keyspace": KEYSPACE,
            "table": TABLE,
            "query": QUERY,
        },
        queries=[QUERY],
        wait_for="running",
        if_running="reconnect",
    )

    ingest = HeadwaterIngestOperator(
        task_id="ingest",
        source=SOURCE,
        users="{{ params.users }}",
        topic=TOPIC,
        kafka=KAFKA,
        postgres_conn_id=POSTGRES_CONN_ID,
        deferrable=True,
    )

    carried = HeadwaterQuerySensor(
        task_id="carried",
        query=QUERY,
        offsets="{{ ti.xcom_pull(task_ids='ingest')['offsets'] }}",
        timeout=1800,
        deferrable=True,
        inlets=[kafka_topic(KAFKA, TOPIC)],
        outlets=[cassandra_table(CASSANDRA, KEYSPACE, TABLE)],
    )

    check = HeadwaterSqlCheckOperator(
        task_id="check",
        sql="""
            SELECT count(*) = 0 AS every_user_is_there
            FROM (
              SELECT data.id AS id
              FROM (SELECT from_json(CAST(value AS STRING), 'id STRING') AS data FROM ${topic})
            ) AS produced
            LEFT ANTI JOIN ${table} AS t ON t.id = produced.id
        """,
        variables={"topic": f"{QUERY}_topic", "table": f"{QUERY}_table"},
    )

    [stream, ingest] >> carried >> check
