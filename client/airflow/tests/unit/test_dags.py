"""Whole DAGs by `dag.test()`: templates, XCom, connection lookup, deferral (its triggers run in this process)."""

from __future__ import annotations

import os
import pathlib
import runpy
import threading

import pyarrow as pa
import pytest
from airflow.providers.common.compat.sdk import DAG
from fake import ipc

from headwater_airflow.engine import ingest_pb2, query_pb2

pytestmark = pytest.mark.usefixtures("database")
DAGS = pathlib.Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])


def dag(file, name):
    found = runpy.run_path(str(DAGS / file)).values()
    return next(one for one in found if isinstance(one, DAG) and one.dag_id == name)


def true():
    return [query_pb2.SqlResponse(arrow_ipc=ipc(pa.table({"ok": [True]})))]


def tries(run):
    return {ti.task_id: ti.state for ti in run.get_task_instances()}


def test_the_example(scheduler, monkeypatch):
    scheduler.answers = true()
    scheduler.outcome = None

    def act():
        scheduler.wait_for_call("start ", 120)  # the first DAG of a process, on a busy machine
        (run_id,) = scheduler.runs
        scheduler.set_run(run_id, ingest_pb2.INGEST_STATE_PUBLISHING)
        scheduler.set_run(run_id, ingest_pb2.INGEST_STATE_FINISHED)
        scheduler.wait_for_call("submit users", 120)
        scheduler.commit("users", 0, {"users_created": {"0": 6, "1": 0}})
        scheduler.commit("users", 1, {"users_created": {"0": 7, "1": 0}})

    thread = threading.Thread(target=act)
    thread.start()
    run = dag("users_pipeline.py", "users_pipeline").test(run_conf={"users": 7})
    thread.join()
    assert str(run.state) == "success", tries(run)
    (request,) = scheduler.requests.values()
    assert (request.users, request.topic, request.kafka) == (7, "users_created", "localhost:9092")
    assert request.run_id.startswith("users_pipeline.ingest.")
    sql = scheduler.submits[0].sql
    assert "CREATE FLOW users AS" in sql
    assert "'kafka.bootstrap.servers' 'localhost:9092'" in sql
    check = scheduler.sql[0].sql
    assert "SELECT count(*) = 0 AS every_user_is_there" in check
    assert "AS data FROM users_topic)" in check
    assert "LEFT ANTI JOIN users_table AS t ON t.id = produced.id" in check


def test_the_check_fails(scheduler):
    scheduler.answers = [query_pb2.SqlResponse(arrow_ipc=ipc(pa.table({"ok": [False]})))]
    run = dag("small.py", "check_fails").test()
    assert (str(run.state), tries(run)) == ("failed", {"rows": "success", "check": "failed"})
    assert [request.sql for request in scheduler.sql] == ["SELECT 'check_fails'", "SELECT '[{'ok': False}]'"]


def test_mapped_ingests_are_runs_of_their_own(scheduler):
    assert str(dag("small.py", "mapped").test().state) == "success"
    assert sorted(request.users for request in scheduler.requests.values()) == [1, 2]


def test_a_sensor_in_templates(scheduler):
    scheduler.add_query("users-1", "WAITING")
    scheduler.commit("users-1", 3, {"t": {"0": 5}})
    assert str(dag("small.py", "sensor").test().state) == "success"
