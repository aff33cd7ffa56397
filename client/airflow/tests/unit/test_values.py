"""What is decided without a scheduler and without Airflow's database."""

from __future__ import annotations

import datetime
import decimal
import json
import pathlib
import re

import grpc
import pyarrow as pa
import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from fake import ipc

from headwater_airflow import assets, lineage, rows, run_ids
from headwater_airflow.conditions import (
    Condition,
    Hopeless,
    Met,
    Status,
    Tracker,
    Waiting,
    parse_offsets,
    plain_offsets,
)
from headwater_airflow.errors import HeadwaterError, HeadwaterNotFound, HeadwaterRequestError, explain
from headwater_airflow.operators.ingest import postgres_url
from headwater_airflow.patience import Patience
from headwater_airflow.script import command, environment
from headwater_airflow.settings import Settings, parse
from headwater_airflow.sql_text import fill

# --- the connection ---


@pytest.mark.parametrize(
    ("host", "port", "extra", "target", "remote"),
    [
        (None, None, {}, "127.0.0.1:50050", "sc://127.0.0.1:15002"),
        ("scheduler", 1, {"connect_port": "2"}, "scheduler:1", "sc://scheduler:2"),
        ("::1", 1, {}, "[::1]:1", "sc://[::1]:15002"),
        ("[::1]", 1, {"use_tls": "true"}, "[::1]:1", "sc://[::1]:15002/;use_ssl=true"),
        ("h", None, {"use_tls": None, "ca_certificate": "", "connect_port": None}, "h:50050", "sc://h:15002"),
        ("a, b:7,[::1]:8,::2", 9, {}, "a:9,b:7,[::1]:8,[::2]:9", "sc://a:15002"),
    ],
)
def test_addresses(host, port, extra, target, remote):
    settings = parse(host, port, extra)
    assert (settings.target, settings.spark_remote) == (target, remote)


@pytest.mark.parametrize(
    ("host", "port", "extra", "login", "says"),
    [
        ("http://h", None, {}, None, "leave out scheme"),
        ("h", 70000, {}, None, "port"),
        ("h:70000", 1, {}, None, "port"),
        ("a,,b", 1, {}, None, "is empty"),
        ("h", 1, {"connect_port": "x"}, None, "connect_port 'x'"),
        ("h", 1, {"use_tls": "perhaps"}, None, "use_tls"),
        ("h", 1, {"ca_certificate": "PEM"}, None, "use_tls is off"),
        ("h", 1, {"token": "x"}, None, "unknown field 'token'"),
        ("h", 1, {"web_url": "h:4040"}, None, "http://"),
        ("h", 1, {"patience_s": -1}, None, "patience_s"),
        ("h", 1, {}, "me", "no login"),
    ],
)
def test_wrong_connections(host, port, extra, login, says):
    with pytest.raises(AirflowException, match=re.escape(says)):
        parse(host, port, extra, login=login)


def test_links():
    assert Settings().query_url("a/b") == "http://127.0.0.1:4040/api/v1/queries/a%2Fb"
    assert Settings(web_url="https://ui/").ingest_url("r") == "https://ui/api/v1/ingest/r"


# --- names ---


def test_run_ids_are_readable_and_distinct():
    made = run_ids.ingest_run_id("users", "ingest", "manual__2026-01-01T00:00:00+00:00")
    assert re.fullmatch(r"users\.ingest\.manual__2026-01-01T00-00-00-00-00-[0-9a-f]{10}", made)
    names = [
        ("a", "b", "c", -1),
        ("a", "b", "c", 0),
        ("a", "b", "c.0", -1),
        ("a.b", "c", "d", -1),
        ("a", "b.c", "d", -1),
        ("a", "b", "c:", -1),
        ("a", "b", "x" * 300, -1),
        ("a", "b", "x" * 301, -1),
    ]
    ids = {run_ids.ingest_run_id(*name) for name in names}
    assert len(ids) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,120}", one) for one in ids)


# --- errors ---


class Refusal(grpc.RpcError):
    def __init__(self, code, details):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


@pytest.mark.parametrize(
    ("code", "details", "kind", "error_class", "says"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "[BAD] no", HeadwaterRequestError, "BAD", "start at h:1: [BAD] no"),
        (grpc.StatusCode.ALREADY_EXISTS, "[INGEST_RUN_EXISTS] x", HeadwaterRequestError, "INGEST_RUN_EXISTS", "x"),
        (grpc.StatusCode.ALREADY_EXISTS, "[STREAMING_QUERY_ALREADY_ACTIVE] x", HeadwaterError, None, "x"),
        (grpc.StatusCode.NOT_FOUND, "[X.Y_Z] x", HeadwaterNotFound, "X.Y_Z", "x"),
        (grpc.StatusCode.UNAVAILABLE, "refused", HeadwaterError, "", "is the scheduler up"),
        (grpc.StatusCode.UNAVAILABLE, "[KAFKA_AWAY] x", HeadwaterError, "KAFKA_AWAY", "x"),
        (grpc.StatusCode.UNIMPLEMENTED, "", HeadwaterRequestError, "", "no scheduler of this version"),
        (grpc.StatusCode.INTERNAL, "", HeadwaterError, "", "[INTERNAL] the scheduler gave no reason"),
    ],
)
def test_errors(code, details, kind, error_class, says):
    error = explain(Refusal(code, details), "start", "h:1")
    assert type(error) is kind
    assert says in str(error)
    assert error_class is None or error.error_class == error_class
    assert isinstance(error, AirflowFailException) == (kind is HeadwaterRequestError)


def test_patience_ends_and_begins_anew():
    now = [0.0]
    patience = Patience(10, lambda: now[0])
    pauses = []
    while (pause := patience.pause()) is not None:
        pauses.append(pause)
        now[0] += pause
    assert 9.9 < sum(pauses) <= 10.1
    assert max(pauses) <= 5
    patience.answered()
    assert patience.pause() is not None
    assert Patience(0).pause() is None


# --- conditions ---

QUERY = Status(id="q", name="users", run_id="r1", state="RUNNING")


def progress(batch, end=None, *, run="r1", idle=False, description="KafkaV2[Subscribe[t]]"):
    return {
        "runId": run,
        "batchId": batch,
        "sources": [{"description": description, "endOffset": one} for one in (end if isinstance(end, list) else [end])],
        "sink": {"numOutputRows": -1 if idle else 3},
    }


@pytest.mark.parametrize(
    ("condition", "status", "reports", "expect"),
    [
        (Condition(states=frozenset({"RUNNING"})), {}, [], Met),
        (Condition(states=frozenset({"FINISHED"})), {}, [], "state is FINISHED (now RUNNING)"),
        (Condition(states=frozenset({"FINISHED"})), {"state": "FAILED", "message": "[X] gone"}, [], "!FAILED before"),
        (Condition(states=frozenset({"FAILED"})), {"state": "FAILED"}, [], Met),
        (Condition(batch=3), {}, [progress(2)], "batch 3 is committed (now 2)"),
        (Condition(batch=3), {}, [progress(3)], Met),
        # The batch of an idle report has not run.
        (Condition(batch=3), {}, [progress(3, idle=True)], "now 2"),
        (Condition(batch=3), {}, [progress(4, idle=True)], Met),
        (Condition(batch=3), {"state": "FINISHED"}, [progress(3)], Met),
        (Condition(batch=3), {"state": "STOPPED", "message": "Stopped"}, [progress(2)], "!headwater query restart"),
        (Condition(batch=3), {"state": "RETRYING"}, [progress(2)], "batch 3"),
        (Condition(lag=0), {"lag": -1}, [], "now unknown"),
        (Condition(lag=5), {"lag": 6}, [], "now 6"),
        (Condition(lag=5), {"lag": 5}, [], Met),
        (Condition(offsets={}), {}, [], Met),
        (Condition(offsets={"t": {0: 0}}), {}, [], Met),
        (Condition(offsets={"t": {0: 5, 1: 2}}), {}, [progress(1, {"t": {"0": 5, "1": 1}})], "t-1 at 2 (now 1); 1 records"),
        (Condition(offsets={"t": {0: 5, 1: 2}}), {}, [progress(1, {"t": {"0": 9, "1": 2}})], Met),
        # Spark writes offsets as text in some places.
        (Condition(offsets={"t": {0: 5}}), {}, [progress(1, '{"t":{"0":5}}')], Met),
        (Condition(offsets={"t": {0: 5}}), {}, [progress(1, {"u": {"0": 9}})], "!does not read topic t; it reads u"),
        (
            Condition(offsets={"t": {0: 5}}),
            {},
            [progress(1, {"u": {"0": 9}}, description="KafkaV2[SubscribePattern[.*]]")],
            "t-0 at 5",
        ),
        # Two sources of one topic: the slower counts.
        (Condition(offsets={"t": {0: 5}}), {}, [progress(1, [{"t": {"0": 9}}, {"t": {"0": 4}}])], "now 4"),
        # A source that is no Kafka.
        (Condition(offsets={"t": {0: 5}}), {}, [progress(1, [7, {"t": {"0": 5}}])], Met),
        (Condition(first_batch_of="r1"), {}, [], "first batch"),
        (Condition(first_batch_of="r1"), {}, [progress(7, run="r0")], "first batch"),
        (Condition(first_batch_of="r1"), {}, [progress(8, idle=True)], "first batch"),
        (Condition(first_batch_of="r1"), {}, [progress(8)], Met),
        (Condition(first_batch_of="r1"), {"run_id": "r2"}, [progress(9, run="r2")], Met),
        (Condition(first_batch_of="r1"), {"state": "FINISHED"}, [], Met),
        (Condition(batch=1, lag=0), {"lag": 9}, [progress(1)], "lag"),
    ],
)
def test_verdicts(condition, status, reports, expect):
    tracker = Tracker(Condition.deserialize(json.loads(json.dumps(condition.serialize()))))
    assert isinstance(tracker.verdict(), Waiting)
    tracker.see_status(Status(**{**QUERY.__dict__, **status}))
    for one in reports:
        tracker.see_report(one)
    verdict = tracker.verdict()
    if expect is Met:
        assert verdict == Met()
    else:
        assert isinstance(verdict, Hopeless if expect.startswith("!") else Waiting), verdict
        assert expect.removeprefix("!") in verdict.reason


@pytest.mark.parametrize(
    ("value", "expect"),
    [
        ({"t": {"0": 5}}, {"t": {0: 5}}),
        ('{"t": {"0": 5}}', {"t": {0: 5}}),
        ("{'t': {'0': 5}}", {"t": {0: 5}}),
        ({}, {}),
        ("None", None),
        ("", None),
        ("[1]", None),
        ({"t": 5}, None),
        ({"t": {"0": -1}}, None),
        ({"t": {"a": 1}}, None),
    ],
)
def test_offsets(value, expect):
    if expect is None:
        with pytest.raises(ValueError, match=r"offset|partition"):
            parse_offsets(value)
    else:
        assert parse_offsets(value) == expect
        assert parse_offsets(plain_offsets(expect)) == expect


# --- SQL ---


@pytest.mark.parametrize(
    ("sql", "expect"),
    [
        ("OPTIONS ('k' '${kafka}')", "OPTIONS ('k' 'a:1,b:2')"),
        ("${kafka} ${ kafka }", "a:1,b:2 a:1,b:2"),
        ("${x}", "${kafka}"),
        ("-- ${nobody}\n1", "-- ${nobody}\n1"),
        ("/* ${nobody} */ ${kafka}", "/* ${nobody} */ a:1,b:2"),
        ("'it\\'s -- ${kafka}'", "'it\\'s -- a:1,b:2'"),
        ("'--' ${kafka} `/*` ${kafka}", "'--' a:1,b:2 `/*` a:1,b:2"),
        ("$${kafka}", "${kafka}"),
        ("$ {kafka} ${open", "$ {kafka} ${open"),
    ],
)
def test_variables(sql, expect):
    assert fill(sql, {"kafka": "a:1,b:2", "x": "${kafka}"}) == expect


def test_a_variable_that_is_not_given():
    with pytest.raises(ValueError, match=r"\$\{y\} is not set.*given: kafka"):
        fill("a\n'${y}'", {"kafka": "a"})


def test_rows_are_plain_json():
    table = pa.table(
        {
            "i": pa.array([1, None]),
            "d": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(10, 2)),
            "t": pa.array([datetime.datetime(2026, 1, 2, 3, 4, 5), None], pa.timestamp("us")),
            "n": pa.array([1_000_000_001, None], pa.timestamp("ns", "UTC")),
            "day": pa.array([datetime.date(2026, 1, 2), None]),
            "b": pa.array([b"\x01\xff", None]),
            "f": pa.array([float("nan"), 1.5]),
            "s": pa.array([{"a": [b"\x00"]}, None]),
            "v": pa.array(["view", None], pa.string_view()),
        }
    )
    found = list(rows.of_stream(ipc(table)))
    assert found == json.loads(json.dumps(found))
    assert found[0] == {
        "i": 1,
        "d": "1.50",
        "t": "2026-01-02T03:04:05",
        "n": "1970-01-01T00:00:01+00:00",
        "day": "2026-01-02",
        "b": "01ff",
        "f": "nan",
        "s": {"a": ["00"]},
        "v": "view",
    }
    assert found[1] == dict.fromkeys("idt", None) | {"n": None, "day": None, "b": None, "f": 1.5, "s": None, "v": None}


# --- scripts ---


def test_commands():
    settings = Settings("h", 1)
    given = {"python": "p", "conf": {"a.b": "c"}, "py_files": ["l.zip", "m.py"], "detached": True}
    assert command(settings, "a.py", ["x"], client="/bin/hw", **given) == (
        ["/bin/hw", "submit", "--scheduler", "h:1", "--python", "p", "--detach"]
        + ["--py-files", "l.zip,m.py", "a.py", "--", "x"]
    )
    given |= {"conf": {}, "py_files": [], "detached": False}
    assert command(Settings("h", 1, connect_port=2), "a.py", [], client="/bin/hw", **given)[-3:] == (
        ["--connect", "sc://h:2", "a.py"]
    )
    several = Settings("h", 1, others=(("i", 1),), connect_port=2)
    assert "--connect" not in command(several, "a.py", [], client="/bin/hw", **given)
    assert command(settings, "a.py", ["x"], client=None, **given) == ["p", "a.py", "x"]
    with pytest.raises(ValueError, match="headwater client"):
        command(settings, "a.py", [], client=None, **(given | {"conf": {"a": "b"}}))
    env = environment(settings, {"A": "b", "SPARK_REMOTE": "mine"}, {"k": "v=w", "i": "j"}, ["l.zip"])
    assert env["PYTHONPATH"].startswith("l.zip")
    assert (env["A"], env["SPARK_REMOTE"], env["HEADWATER_SCHEDULER"]) == ("b", "mine", "h:1")
    assert env["HEADWATER_CONF"] == "i=j\nk=v=w"
    with pytest.raises(ValueError, match="line end"):
        environment(settings, {}, {"k": "v\nx=y"}, [])


# --- other systems ---


class Postgres:
    conn_id, login, password, host, port, schema = "pg", "me", "p@ss/word", "db", None, "users"
    extra_dejson = {"sslmode": "require"}


def test_postgres_addresses():
    assert postgres_url(Postgres()) == "postgresql://me:p%40ss%2Fword@db:5432/users?sslmode=require"
    odd = Postgres()
    odd.extra_dejson = {"cursor": "x"}
    with pytest.raises(HeadwaterRequestError, match="'cursor'") as refused:
        postgres_url(odd)
    assert "p@ss" not in str(refused.value)


def test_assets_and_their_datasets():
    topic = assets.kafka_topic("k1:9093,k2:9093", "users")
    table = assets.cassandra_table("c1", "spark_streams", "users")
    assert (topic.uri.rstrip("/"), table.uri.rstrip("/")) == (
        "kafka://k1:9093/users",
        "cassandra://c1:9042/spark_streams/users",
    )
    assert lineage.of_assets([topic, table, "other"]) == [
        ("kafka://k1:9093", "users"),
        ("cassandra://c1:9042", "spark_streams.users"),
    ]
    assert lineage.of_address("https://me:secret@api.example:8443/api/?key=1") == ("https://api.example:8443", "/api/")
    assert lineage.of_address("randomuser") is None
    assert assets.first_address("[::1]", 9092) == "[::1]:9092"
    assert not assets.is_fixed("{{ params.kafka }}", "t")
    assert not assets.is_fixed("k", None)


# --- the package ---


def test_versions_agree():
    import importlib.metadata

    import headwater_airflow

    assert importlib.metadata.version("airflow-provider-headwater") == headwater_airflow.__version__
    assert pathlib.Path(headwater_airflow.__file__).with_name("py.typed").is_file()
