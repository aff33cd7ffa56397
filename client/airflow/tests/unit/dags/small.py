"""DAGs of test_dags.py. Airflow 3 reads them from its DAG folder, so they are in a file of their own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from headwater_airflow.operators.ingest import HeadwaterIngestOperator
from headwater_airflow.operators.sql import HeadwaterSqlCheckOperator, HeadwaterSqlOperator
from headwater_airflow.sensors.query import HeadwaterQuerySensor

COMMON: dict[str, Any] = {"schedule": None, "start_date": datetime(2026, 1, 1), "catchup": False}

with DAG("check_fails", **COMMON) as check_fails:
    rows = HeadwaterSqlOperator(task_id="rows", sql="SELECT '{{ dag.dag_id }}'")
    rows >> HeadwaterSqlCheckOperator(task_id="check", sql="SELECT '{{ ti.xcom_pull(task_ids='rows') }}'")

with DAG("mapped", **COMMON) as mapped:
    HeadwaterIngestOperator.partial(task_id="ingest", topic="t", kafka="k:9092").expand(users=[1, 2])

with DAG("sensor", params={"n": 1}, **COMMON) as sensor:
    HeadwaterQuerySensor(
        task_id="sense", query="users-{{ params.n }}", batch_id="{{ params.n + 2 }}", offsets="{{ {'t': {'0': 5}} }}"
    )
