"""Operators and the sensor, called as the task runner calls them."""

from __future__ import annotations

import contextlib
import sys
import threading
import time

import grpc
import pyarrow as pa
import pytest
from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from fake import ipc

from headwater_airflow.engine import ingest_pb2, query_pb2
from headwater_airflow.errors import HeadwaterError, HeadwaterRequestError
from headwater_airflow.operators.ingest import HeadwaterIngestOperator
from headwater_airflow.operators.sql import HeadwaterSqlCheckOperator, HeadwaterSqlOperator
from headwater_airflow.operators.submit import HeadwaterSubmitOperator
from headwater_airflow.sensors.query import HeadwaterQuerySensor

DURABLE = not __import__("airflow").__version__.startswith("2.")
FLOW = "CREATE FLOW users AS INSERT INTO t SELECT * FROM STREAM(s)"


@contextlib.contextmanager
def meanwhile(act):
    """Runs `act` in a thread: operators run in the main one, as in a task."""
    failures = []

    def guarded():
        try:
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive()
    assert not failures, failures


def until(condition):
    """Waits for what the operator does by itself."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- ingest ---


def ingest(**kwargs):
    return HeadwaterIngestOperator(task_id="task", **{"topic": "t", "kafka": "k:9092", "users": 5} | kwargs)


def run_id(scheduler):
    (found,) = scheduler.runs
    return found


def test_ingest(scheduler, context):
    operator, given = ingest(seed="s", options={"kafka.acks": "all"}), context()
    result = operator.execute(given)
    assert (result["state"], result["published"], result["offsets"]) == ("FINISHED", 5, {"t": {"0": 5, "1": 0}})
    request = scheduler.requests[run_id(scheduler)]
    assert (request.users, request.seed, request.format, request.options["kafka.acks"]) == (5, "s", "json", "all")
    assert given["ti"].xcom["headwater_link"].endswith(f"/api/v1/ingest/{result['run_id']}")
    assert [outlet.uri.rstrip("/") for outlet in operator.outlets] == ["kafka://k:9092/t"]
    # Another try, or the task cleared: the same run.
    assert ingest(seed="s", options={"kafka.acks": "all"}).execute(context(2)) == result
    assert len([call for call in scheduler.calls if call.startswith("start")]) == 1


def test_ingest_defers(scheduler, context):
    scheduler.outcome = None
    operator = ingest(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context())
    trigger = deferred.value.trigger
    assert (trigger.run_id, deferred.value.method_name) == (run_id(scheduler), "execute_complete")
    assert trigger.owner.endswith(":1")
    with pytest.raises(TaskDeferred):
        ingest(deferrable=True).execute(context(2))
    assert [call.split()[0] for call in scheduler.calls] == ["start", "join"]


def test_what_became_of_a_deferred_ingest(scheduler, context):
    def complete(event):
        return ingest(deferrable=True).execute_complete(context(), event)

    run = {"run_id": "r", "rejected": 2, "rejected_by_reason": {}, "published": 3, "duplicates": 0, "offsets": {}}
    run |= {"message": "[X] gone", "error_class": "X"}
    assert complete({"outcome": "ended", "run": run | {"state": "FINISHED"}})["published"] == 3
    with pytest.raises(HeadwaterError, match=r"FAILED: \[X\] gone.*ledger"):
        complete({"outcome": "ended", "run": run | {"state": "FAILED"}})
    with pytest.raises(HeadwaterError, match="was cancelled"):
        complete({"outcome": "ended", "run": run | {"state": "CANCELLED"}})
    with pytest.raises(AirflowTaskTimeout):
        complete({"outcome": "timeout"})
    with pytest.raises(HeadwaterRequestError):
        complete({"outcome": "error", "message": "m", "final": True})


def test_a_failed_run_goes_on_at_the_next_try(scheduler, context):
    scheduler.outcome = ingest_pb2.INGEST_STATE_FAILED
    with pytest.raises(HeadwaterError, match="it gave no reason"):
        ingest().execute(context())
    scheduler.outcome = ingest_pb2.INGEST_STATE_FINISHED
    assert ingest().execute(context(2))["state"] == "FINISHED"
    assert [call.split()[0] for call in scheduler.calls] == ["start", "resume"]


def test_killing_cancels_and_a_joined_run_is_the_new_trys(scheduler, context):
    scheduler.outcome = None
    first, second = ingest(), ingest()
    # Killed hard: nothing says goodbye. The next try joins.
    given = context(1)
    given["task_state_store"].set(first.external_id_key, first.submit_job(given))

    def act():
        scheduler.wait_for_call("join")
        first.on_kill()
        second.on_kill()
        second.on_kill()

    with meanwhile(act), pytest.raises(HeadwaterError, match="was cancelled"):
        second.execute(context(2))
    assert [call.split()[0] for call in scheduler.calls] == ["start", "join", "cancel-of-another", "cancel"]


def test_killed_before_anything_began(scheduler, context):
    ingest().on_kill()
    operator = ingest()
    operator._started = ("nobody", "x")
    operator.on_kill()
    assert scheduler.calls == []


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [({"users": 0}, "at least one"), ({"users": "many"}, "no number"), ({"users": "{{ x }}"}, "no number")],
)
def test_wrong_ingests(scheduler, context, kwargs, says):
    with pytest.raises(HeadwaterRequestError, match=says):
        ingest(**kwargs).execute(context())


def test_ingests_that_cannot_be_written(monkeypatch):
    with pytest.raises(ValueError, match="output_format"):
        ingest(output_format="xml")
    with pytest.raises(ValueError, match="not both"):
        ingest(postgres="postgresql://h/d", postgres_conn_id="pg")
    assert ingest(kafka="{{ params.kafka }}").outlets == []


def test_postgres_by_an_airflow_connection(scheduler, context, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_PG", "postgres://me:secret@db:5433/users")
    ingest(postgres_conn_id="pg", publish_only=True, users=0).execute(context())
    assert scheduler.requests[run_id(scheduler)].postgres == "postgresql://me:secret@db:5433/users"


# --- SQL ---


def test_sql(scheduler, context):
    scheduler.answers = [
        query_pb2.SqlResponse(statement=0, message="made"),
        query_pb2.SqlResponse(statement=1, arrow_ipc=ipc(pa.table({"n": [1, 2]}))),
        query_pb2.SqlResponse(statement=2, message="dropped"),
    ]
    operator = HeadwaterSqlOperator(task_id="task", sql="SELECT ${n}", variables={"n": 1}, conf={"k": 2})
    assert operator.execute(context()) == [{"n": 1}, {"n": 2}]
    assert (scheduler.sql[0].sql, scheduler.sql[0].conf["k"]) == ("SELECT 1", "2")
    with pytest.raises(HeadwaterRequestError, match=r"\$\{m\} is not set"):
        HeadwaterSqlOperator(task_id="task", sql="${m}").execute(context())
    with pytest.raises(HeadwaterRequestError, match="no statement"):
        HeadwaterSqlOperator(task_id="task", sql=" ").execute(context())


@pytest.mark.parametrize(("value", "good"), [(True, True), (1, True), (False, False), (0, False), (None, False)])
def test_checks(scheduler, context, value, good):
    scheduler.answers = [query_pb2.SqlResponse(arrow_ipc=ipc(pa.table({"ok": [value], "also": [True]})))]
    check = HeadwaterSqlCheckOperator(task_id="task", sql="SELECT 1")
    if good:
        check.execute(context())
    else:
        with pytest.raises(HeadwaterError, match="failed at ok"):
            check.execute(context())
    scheduler.answers = [query_pb2.SqlResponse(arrow_ipc=ipc(pa.table({"ok": pa.array([], pa.bool_())})))]
    with pytest.raises(HeadwaterError, match="no row"):
        check.execute(context())


def test_killing_sql_ends_the_statement(scheduler, context):
    scheduler.sql_hangs = True
    operator = HeadwaterSqlOperator(task_id="task", sql="SELECT 1")

    def act():
        scheduler.wait_for_call("sql")
        operator.on_kill()
        operator.on_kill()

    with meanwhile(act), pytest.raises(HeadwaterError, match="SQL at"):
        operator.execute(context())
    assert scheduler.sql_cancelled.wait(10)


# --- submit ---


def submit(**kwargs):
    return HeadwaterSubmitOperator(task_id="task", **{"application": FLOW} | kwargs)


def test_submit_waits_for_the_end(scheduler, context):
    scheduler.query_state = "FINISHED"
    given = context()
    (query,) = submit(name="users", trigger="once", conf={"a": 1}, checkpoint="file:///c").execute(given)
    assert (query["name"], query["state"]) == ("users", "FINISHED")
    request = scheduler.submits[0]
    assert (request.name, request.trigger, request.checkpoint, request.conf["a"]) == ("users", "once", "file:///c", "1")
    assert given["ti"].xcom["headwater_link"].endswith(f"/api/v1/queries/{query['id']}")


@pytest.mark.parametrize("wait_for", ["running", "none", "first_batch"])
def test_submit_and_leave(scheduler, context, wait_for):
    def act():
        scheduler.wait_for_call("submit")
        scheduler.commit("users", 0)

    with meanwhile(act):
        (query,) = submit(wait_for=wait_for).execute(context())
    assert query["state"] == "RUNNING"


@pytest.mark.parametrize("state", ["FAILED", "STOPPED"])
def test_submit_of_what_does_not_finish(scheduler, context, state):
    scheduler.query_state = state
    with pytest.raises(HeadwaterError, match=f"query users is {state}"):
        submit().execute(context())


@pytest.mark.skipif(not DURABLE, reason="Airflow 2 does not remember what a try submitted")
def test_a_retried_submit_finds_its_query(scheduler, context):
    submit(wait_for="none").execute(context())
    operator = submit(wait_for="running")
    operator.execute(context(2))
    assert scheduler.calls == ["submit users"]
    # Another text is another job: the old query makes room.
    submit(wait_for="none", application=FLOW + " WHERE x").execute(context(3))
    assert scheduler.calls == ["submit users", "stop users", "submit users"]
    # What has failed is submitted again.
    scheduler.set_query("users", "FAILED")
    submit(wait_for="none", application=FLOW + " WHERE x").execute(context(4))
    assert scheduler.calls[3:] == ["submit users"]


@pytest.mark.skipif(not DURABLE, reason="Airflow 2 does not remember what a try submitted")
@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("loss", [KeyboardInterrupt(), HeadwaterError("Socket closed")], ids=["killed", "cut off"])
def test_a_submit_that_never_knew_the_answer(scheduler, context, monkeypatch, deferrable, loss):
    from headwater_airflow.client import Client

    submitted = Client.submit

    def lost(self, request):
        submitted(self, request)
        raise loss

    with monkeypatch.context() as patch:
        patch.setattr(Client, "submit", lost)
        with pytest.raises(type(loss)):
            submit(wait_for="none", deferrable=deferrable).execute(context())
    # A try that is refused for something else knows no more.
    scheduler.refusal = (grpc.StatusCode.UNAVAILABLE, "[SOME_CLASS] table s is away")
    with pytest.raises(HeadwaterError, match="s is away"):
        submit(wait_for="none", deferrable=deferrable).execute(context(2))
    scheduler.refusal = None
    submit(wait_for="none", deferrable=deferrable).execute(context(3))
    assert scheduler.calls == ["submit users", "stop users", "submit users"]
    # That try knew: what runs by now in that name is somebody else's.
    scheduler.set_query("users", "RUNNING", run_id="somebody else's")
    with pytest.raises(HeadwaterError, match="running already"):
        submit(wait_for="none", deferrable=deferrable, application=FLOW + " WHERE y").execute(context(4))


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
def test_what_somebody_starts_after_a_refusal_is_left_alone(scheduler, context, deferrable, code):
    scheduler.refusal = (code, "[SOME_CLASS] table s is away")
    with pytest.raises(HeadwaterError, match="s is away"):
        submit(wait_for="none", deferrable=deferrable).execute(context())
    scheduler.refusal = None
    scheduler.add_query("users")
    with pytest.raises(HeadwaterError, match="running already"):
        submit(wait_for="none", deferrable=deferrable).execute(context(2))
    assert scheduler.calls == []


@pytest.mark.skipif(not DURABLE, reason="Airflow 2 does not remember what a try submitted")
def test_a_cleared_deferred_submit_survives_the_kill_of_the_old_trigger(scheduler, context):
    import asyncio

    triggers = []
    for number in (1, 2):
        with pytest.raises(TaskDeferred) as deferred:
            submit(deferrable=True).execute(context(number))
        triggers.append(deferred.value.trigger)
    asyncio.run(triggers[0].on_kill())
    assert scheduler.queries["users"].state == "RUNNING"
    asyncio.run(triggers[1].on_kill())
    assert scheduler.queries["users"].state == "STOPPED"


def test_a_query_that_runs_already(scheduler, context):
    scheduler.add_query("users")
    with pytest.raises(HeadwaterError, match="running already"):
        submit(wait_for="none").execute(context())
    scheduler.submits.clear()
    found = submit(wait_for="running", if_running="reconnect", queries=["users"])
    found.execute(context(run_id="other"))
    assert scheduler.submits == []
    # It is not ours to stop.
    found.on_kill()
    assert scheduler.queries["users"].state == "RUNNING"
    with pytest.raises(HeadwaterError, match="more does not"):
        submit(if_running="reconnect", queries=["users", "more"]).execute(context(run_id="third"))
    again = submit(wait_for="none", name="users", if_running="restart")
    again.execute(context(run_id="fourth"))
    assert scheduler.calls[-2:] == ["stop users", "submit users"]
    with pytest.raises(ValueError, match="needs the queries' names"):
        submit(if_running="restart")


def test_killing_a_submit(scheduler, context):
    operator = submit()

    def act():
        until(lambda: operator._own)
        operator.on_kill()

    with meanwhile(act), pytest.raises(HeadwaterError, match="STOPPED"):
        operator.execute(context())
    assert scheduler.calls == ["submit users", "stop users"]


def test_submits_that_are_refused(scheduler, context):
    for kwargs, says in [
        ({"application_args": ["x"]}, "for scripts"),
        ({"application": "/no/such/file.py"}, "no file"),
        ({"application": "a.py", "trigger": "once"}, "for SQL"),
        ({"application": "a.py", "wait_for": "running"}, r"queries=\[…\]"),
    ]:
        with pytest.raises(HeadwaterRequestError, match=says):
            submit(**kwargs).execute(context())
    with pytest.raises(ValueError, match="often"):
        submit(wait_for="often")


# --- scripts ---


def script(tmp_path, text, **kwargs):
    path = tmp_path / "app.py"
    path.write_text(text)
    return submit(application=str(path), python=sys.executable, headwater="no-such-client", **kwargs)


def test_a_script_runs_with_the_schedulers_address(scheduler, context, tmp_path):
    text = f"import os, sys; open({str(tmp_path / 'out')!r}, 'w').write(os.environ['SPARK_REMOTE'] + sys.argv[1])"
    assert script(tmp_path, text, application_args=["!"]).execute(context()) == []
    assert (tmp_path / "out").read_text() == "sc://127.0.0.1:15002!"


def test_a_script_fails(scheduler, context, tmp_path):
    with pytest.raises(HeadwaterError, match="exited with status 3"):
        script(tmp_path, "raise SystemExit(3)").execute(context())
    with pytest.raises(HeadwaterRequestError, match="headwater client"):
        script(tmp_path, "", conf={"a": 1}).execute(context())
    with pytest.raises(HeadwaterError, match="no query named users"):
        script(tmp_path, "", queries=["users"]).execute(context())
    with pytest.raises(HeadwaterRequestError, match="cannot run /no/python"):
        operator = script(tmp_path, "")
        operator.python = "/no/python"
        operator.execute(context())


def test_a_script_is_left_when_its_queries_run(scheduler, context, tmp_path):
    # As awaitTermination does.
    operator = script(tmp_path, "import time; time.sleep(600)", queries=["users"], wait_for="first_batch")
    scheduler.add_query("users", "STOPPED")

    def act():
        until(lambda: operator._script)
        scheduler.set_query("users", "RUNNING", run_id="new")
        scheduler.commit("users", 0)

    with meanwhile(act):
        (query,) = operator.execute(context())
    assert (query["run_id"], query["state"]) == ("new", "RUNNING")
    assert operator._script is None


def test_killing_a_script(scheduler, context, tmp_path):
    operator = script(tmp_path, "import time; time.sleep(600)", queries=["users"])

    def act():
        until(lambda: operator._script)
        scheduler.add_query("users")
        until(lambda: operator._own)
        operator.on_kill()

    with meanwhile(act), pytest.raises(HeadwaterError, match="exited with status -15"):
        operator.execute(context())
    assert scheduler.queries["users"].state == "STOPPED"


# --- the sensor ---


def sensor(**kwargs):
    return HeadwaterQuerySensor(task_id="task", **{"query": "users", "poke_interval": 0.1} | kwargs)


def test_the_sensor_pokes(scheduler, context):
    scheduler.add_query("users")
    operator = sensor(offsets={"t": {"0": 5}}, timeout=20)
    given = context()
    assert operator.poke(given) is False
    scheduler.commit("users", 0, {"t": {"0": 5}})
    assert operator.poke(given) is True
    result = operator.execute(given)
    assert (result["name"], result["offsets"]) == ("users", {"t": {"0": 5}})
    assert "/api/v1/queries/" in given["ti"].xcom["headwater_link"]


def test_the_sensor_defers_unless_it_holds(scheduler, context):
    scheduler.add_query("users")
    with pytest.raises(TaskDeferred) as deferred:
        sensor(batch_id="0", deferrable=True, timeout=60).execute(context())
    assert deferred.value.trigger.waits[0]["run_id"] == ""
    scheduler.commit("users", 0)
    assert sensor(batch_id="0", deferrable=True).execute(context())["name"] == "users"


def test_what_became_of_a_deferred_sensor(scheduler, context):
    def complete(event, **kwargs):
        return sensor(batch_id=0, deferrable=True, **kwargs).execute_complete(context(), event)

    assert complete({"outcome": "met", "queries": [{"id": "q", "name": "users", "state": "RUNNING"}]})["id"] == "q"
    with pytest.raises(AirflowSensorTimeout):
        complete({"outcome": "timeout", "message": "m"})
    with pytest.raises(AirflowSkipException):
        complete({"outcome": "timeout", "message": "m"}, soft_fail=True)
    with pytest.raises(HeadwaterError):
        complete({"outcome": "error", "message": "m", "final": False})


def test_the_sensor_fails_when_it_is_hopeless(scheduler, context):
    with pytest.raises(HeadwaterError, match="STREAMING_QUERY_NOT_FOUND"):
        sensor(states="RUNNING").poke(context())
    assert sensor(states="RUNNING", wait_until_exists=True).poke(context()) is False
    scheduler.add_query("users", "FAILED")
    with pytest.raises(HeadwaterError, match="FAILED before"):
        sensor(batch_id=1).poke(context())
    with pytest.raises(HeadwaterRequestError, match="no state"):
        sensor(states="DONE").poke(context())
    with pytest.raises(HeadwaterRequestError, match="what HeadwaterQuerySensor task waits for"):
        sensor(batch_id="x").poke(context())
    with pytest.raises(ValueError, match="waits for nothing"):
        sensor()


def test_a_template_that_came_out_as_nothing(scheduler, context):
    scheduler.add_query("users")
    operator = sensor(offsets={"t": {"0": 5}})
    operator.offsets = None
    with pytest.raises(HeadwaterRequestError, match="came out as None"):
        operator.poke(context())
