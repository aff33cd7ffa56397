"""The hook and the client against a scheduler in this process."""

from __future__ import annotations

import asyncio
import datetime
import threading
from concurrent import futures

import grpc
import pyarrow as pa
import pytest
from conftest import connect
from fake import FakeScheduler, ipc

from headwater_airflow.client import AsyncClient
from headwater_airflow.engine import ingest_pb2, query_pb2
from headwater_airflow.errors import HeadwaterError, HeadwaterNotFound, HeadwaterRequestError
from headwater_airflow.hooks.headwater import HeadwaterHook

REQUEST = ingest_pb2.StartIngestRequest(run_id="r", users=5, topic="t")


def test_connection_answers(scheduler):
    scheduler.add_query("users")
    good, says = HeadwaterHook().test_connection()
    assert good, says
    assert "1 streaming queries" in says


def test_nobody_answers(scheduler, monkeypatch):
    scheduler.stop()
    good, says = HeadwaterHook().test_connection()
    assert not good
    assert "UNAVAILABLE" in says
    connect(monkeypatch, scheduler.port, use_tls="perhaps")
    good, says = HeadwaterHook().test_connection()
    assert (good, "use_tls" in says) == (False, True)


def test_a_scheduler_that_is_away_is_waited_for(scheduler):
    scheduler.outcome = None
    with HeadwaterHook().client as client:
        client.start_ingest(REQUEST)
        seen = client.watch_ingest("r")
        assert next(seen).state == ingest_pb2.INGEST_STATE_FETCHING
        scheduler.stop()
        back = threading.Timer(1, lambda: (scheduler.set_run("r", ingest_pb2.INGEST_STATE_FINISHED), scheduler.start()))
        back.start()
        assert [run.state for run in seen][-1] == ingest_pb2.INGEST_STATE_FINISHED
        back.join()


class Standby(grpc.GenericRpcHandler):
    """Refuses as a scheduler that stands by does."""

    def __init__(self):
        self.asked = 0

    def service(self, call):
        def refuse(_, context):
            self.asked += 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "[SCHEDULER_STANDBY] this scheduler stands by")

        # A client that waits for a stream and one that waits for an answer both see the status.
        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.fixture
def standby():
    server = grpc.server(futures.ThreadPoolExecutor(2))
    standby = Standby()
    server.add_generic_rpc_handlers([standby])
    standby.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield standby
    server.stop(None)


def test_of_several_schedulers_the_one_that_leads_is_found(scheduler, standby, monkeypatch):
    connect(monkeypatch, 1, host=f"127.0.0.1:{standby.port},127.0.0.1:{scheduler.port}")
    scheduler.add_query("users")
    good, says = HeadwaterHook().test_connection()
    assert good, says
    with HeadwaterHook().client as client:
        assert client.get_query("users").name == "users"
        assert standby.asked == 2
        # It stays there.
        assert [run.state for run in watch(client)] == [ingest_pb2.INGEST_STATE_FINISHED]
        assert standby.asked == 2
    with HeadwaterHook().client as client:
        assert [run.state for run in watch(client, "s")] == [ingest_pb2.INGEST_STATE_FINISHED]


def watch(client, run="r"):
    client.start_ingest(ingest_pb2.StartIngestRequest(run_id=run, users=5, topic="t"))
    return client.watch_ingest(run)


def test_an_event_loop_finds_the_one_that_leads(scheduler, standby, monkeypatch):
    connect(monkeypatch, 1, host=f"127.0.0.1:{standby.port},127.0.0.1:{scheduler.port}")
    scheduler.add_query("users")

    async def ask():
        async with AsyncClient(HeadwaterHook().settings) as client:
            return await client.get_query("users")

    assert asyncio.run(ask()).name == "users"
    assert standby.asked == 1


def test_patience_has_an_end(scheduler, monkeypatch):
    scheduler.stop()
    connect(monkeypatch, scheduler.port, patience_s=0.5)
    with HeadwaterHook().client as client, pytest.raises(HeadwaterError, match="is the scheduler up"):
        client.start_ingest(REQUEST)


def test_what_is_wrong_is_not_repeated(scheduler):
    with HeadwaterHook().client as client:
        with pytest.raises(HeadwaterNotFound, match="INGEST_RUN_NOT_FOUND"):
            client.get_ingest("nobody")
        with pytest.raises(HeadwaterNotFound):
            list(client.watch_ingest("nobody"))
        with pytest.raises(HeadwaterNotFound):
            list(client.follow_query("nobody"))
        client.start_ingest(REQUEST)
        with pytest.raises(HeadwaterRequestError, match="INGEST_RUN_EXISTS"):
            client.start_ingest(ingest_pb2.StartIngestRequest(run_id="r", users=6, topic="t"))
        with pytest.raises(ValueError, match="by an id"):
            client.start_ingest(ingest_pb2.StartIngestRequest(users=6))


def test_a_run_is_cancelled_by_its_owner_alone(scheduler):
    scheduler.outcome = None
    with HeadwaterHook().client as client:
        for owner in ("try 1", "try 2"):
            client.start_ingest(ingest_pb2.StartIngestRequest(run_id="r", owner=owner))
        assert client.cancel_ingest("r", "try 1").state == ingest_pb2.INGEST_STATE_FETCHING
        assert client.cancel_ingest("r", "try 2").state == ingest_pb2.INGEST_STATE_CANCELLED


def test_a_query_is_followed_to_its_end(scheduler):
    scheduler.add_query("users")
    scheduler.commit("users", 0)
    with HeadwaterHook().client as client:
        seen = client.follow_query("users")
        assert next(seen).report["batchId"] == 0
        scheduler.commit("users", 1)
        scheduler.set_query("users", "FINISHED")
        rest = list(seen)
    assert rest[-1].status.state == "FINISHED"
    assert 1 in [one.report["batchId"] for one in rest if one.report]


def test_a_query_that_somebody_has_restarted_is_not_stopped(scheduler):
    query = scheduler.add_query("users")
    with HeadwaterHook().client as client:
        assert client.stop_run(query.id, "another run").state == "RUNNING"
        assert client.stop_run(query.id, query.run_id).state == "STOPPED"


def table(rows: int) -> pa.Table:
    return pa.table({"n": list(range(rows)), "t": [datetime.date(2026, 1, 1)] * rows})


def answers(*parts):
    kinds = [{"message": one} if isinstance(one, str) else {"arrow_ipc": ipc(one)} for _, one in parts]
    return [query_pb2.SqlResponse(statement=s, **kind) for (s, _), kind in zip(parts, kinds, strict=True)]


def test_sql(scheduler):
    scheduler.answers = answers((0, "made"), (1, table(0)), (1, table(2)), (1, table(1)))
    scheduler.answers.insert(1, query_pb2.SqlResponse(statement=1, progress=query_pb2.JobProgress(tasks=1)))
    with HeadwaterHook().client as client:
        first, second = client.run_sql("a; b", {"k": "v"}, rows_max=3, bytes_max=10_000)
        assert (first.message, first.columns) == ("made", [])
        assert (second.columns, [row["n"] for row in second.rows]) == (["n", "t"], [0, 1, 0])
        assert (scheduler.sql[0].sql, scheduler.sql[0].conf["k"]) == ("a; b", "v")
        for bounds in ({"rows_max": 2, "bytes_max": 10_000}, {"rows_max": 9, "bytes_max": 10}):
            with pytest.raises(HeadwaterRequestError, match="too much for XCom"):
                client.run_sql("a", {}, **bounds)
        scheduler.answers = answers((0, pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])))
        with pytest.raises(HeadwaterRequestError, match="several columns named a"):
            client.run_sql("a", {}, rows_max=2, bytes_max=10_000)


def test_a_result_larger_than_grpc_takes_by_default(scheduler):
    big = pa.table({"t": ["x" * 6_000_000]})
    scheduler.answers = answers((0, big))
    with HeadwaterHook().client as client:
        (result,) = client.run_sql("a", {}, rows_max=1, bytes_max=10_000_000)
    assert len(result.rows[0]["t"]) == 6_000_000


def test_tls(monkeypatch, tmp_path):
    import subprocess

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
        + ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        + ["-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    scheduler = FakeScheduler()
    scheduler.start(grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())]))
    try:
        connect(monkeypatch, scheduler.port, use_tls=True, ca_certificate=certificate.read_text())
        good, says = HeadwaterHook().test_connection()
        assert good, says
        connect(monkeypatch, scheduler.port, use_tls=True)
        good, says = HeadwaterHook().test_connection()
        assert not good
    finally:
        scheduler.stop()
