"""DAGs of test_live.py: one task each, so that a test can do to it what it likes."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from headwater_airflow.operators.ingest import HeadwaterIngestOperator
from headwater_airflow.operators.sql import HeadwaterSqlOperator
from headwater_airflow.operators.submit import HeadwaterSubmitOperator

KAFKA, SOURCE, TOPIC = (os.environ[f"HEADWATER_EXAMPLE_{name}"] for name in ("KAFKA", "SOURCE", "TOPIC"))
COMMON: dict[str, Any] = {"schedule": None, "start_date": datetime(2026, 1, 1), "catchup": False}
RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=1)}
INGEST: dict[str, Any] = {"kafka": KAFKA, "source": SOURCE, "topic": f"{TOPIC}_more", "users": 300, "page_size": 100}

for name, deferrable in (("plain", False), ("deferred", True)):
    with DAG(f"ingest_{name}", **COMMON) as dag:
        HeadwaterIngestOperator(
            task_id="ingest", seed="{{ dag_run.conf['seed'] }}", deferrable=deferrable, **INGEST, **RETRIES
        )
    globals()[dag.dag_id] = dag

RATE = """
CREATE OR REPLACE TABLE ${name}_in USING rate OPTIONS (rowsPerSecond '5');
CREATE OR REPLACE TABLE ${name}_out USING noop;
CREATE FLOW ${name} AS INSERT INTO ${name}_out BY NAME SELECT * FROM STREAM(${name}_in);
"""

for name, deferrable in (("plain", False), ("deferred", True)):
    with DAG(f"submit_{name}", **COMMON) as dag:
        HeadwaterSubmitOperator(
            task_id="submit", application=RATE, variables={"name": f"rate_{name}"}, deferrable=deferrable, **RETRIES
        )
    globals()[dag.dag_id] = dag

with DAG("sql_for_ever", **COMMON) as sql_for_ever:
    HeadwaterSqlOperator(
        task_id="sql",
        sql="SELECT count(*) AS n FROM range(100000000) a CROSS JOIN range(100000000) b WHERE a.id * b.id % 7 = 3",
    )

with DAG("submit_script", **COMMON) as submit_script:
    HeadwaterSubmitOperator(
        task_id="submit",
        application="rate.py",
        queries=["rate_script"],
        wait_for="first_batch",
        python=os.environ.get("PYSPARK_4_3_0", "python3"),
        headwater=os.environ["HEADWATER_BIN"],
    )
