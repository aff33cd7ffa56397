"""A scheduler in this process: the public gRPC API with a state that tests set and a list of the calls that changed it."""

from __future__ import annotations

import io
import json
import threading
import uuid
from concurrent import futures
from typing import Any

import grpc
import pyarrow as pa

from headwater_airflow.client import INGEST_ENDED
from headwater_airflow.engine import ingest_pb2, ingest_pb2_grpc, query_pb2, query_pb2_grpc

ENDED = {"STOPPED", "FINISHED", "FAILED"}


def report(
    query: query_pb2.QueryStatus, batch: int, end: dict[str, dict[str, int]], *, idle: bool = False
) -> dict[str, Any]:
    """What of a StreamingQueryProgress the provider looks at."""
    return {
        "id": query.id,
        "runId": query.run_id,
        "batchId": batch,
        "numInputRows": 0 if idle else 1,
        "sources": [{"description": "KafkaV2[Subscribe[t]]", "startOffset": None, "endOffset": end}],
        "sink": {"description": "Cassandra", "numOutputRows": -1 if idle else 1},
    }


def ipc(table: pa.Table) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


class FakeScheduler(
    ingest_pb2_grpc.IngestServiceServicer, query_pb2_grpc.QueryServiceServicer, query_pb2_grpc.SqlServiceServicer
):
    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.calls: list[str] = []
        self.runs: dict[str, ingest_pb2.IngestRun] = {}
        self.requests: dict[str, ingest_pb2.StartIngestRequest] = {}
        self.owners: dict[str, str] = {}
        # What a new run becomes at once; None: it stays FETCHING until a test says otherwise.
        self.outcome: int | None = ingest_pb2.INGEST_STATE_FINISHED
        self.queries: dict[str, query_pb2.QueryStatus] = {}
        self.reports: dict[str, list[dict[str, Any]]] = {}
        self.query_state = "RUNNING"
        self.submits: list[query_pb2.SubmitRequest] = []
        # What a submit is refused with.
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        self.sql: list[query_pb2.SqlRequest] = []
        self.answers: list[query_pb2.SqlResponse] = []
        self.sql_hangs = False
        self.sql_cancelled = threading.Event()
        self._server: grpc.Server | None = None
        self.port = 0

    # --- the server ---

    def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(self, server)
        query_pb2_grpc.add_QueryServiceServicer_to_server(self, server)
        query_pb2_grpc.add_SqlServiceServicer_to_server(self, server)
        address = f"127.0.0.1:{self.port}"
        self.port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        server.start()
        self._server = server

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    def note(self, what: str) -> None:
        with self.changed:
            self.calls.append(what)
            self.changed.notify_all()

    def wait_for_call(self, prefix: str, seconds: float = 20) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: any(c.startswith(prefix) for c in self.calls), seconds), self.calls

    # --- IngestService ---

    def set_run(self, run_id: str, state: int, **values: Any) -> None:
        with self.changed:
            run = self.runs[run_id]
            run.state = state
            if state == ingest_pb2.INGEST_STATE_FINISHED:
                run.fetched = run.staged = run.published = run.requested
                run.end_offsets.update({0: run.requested, 1: 0})
            for name, value in values.items():
                setattr(run, name, value)
            self.changed.notify_all()

    def Start(self, request, context):
        with self.changed:
            same = ingest_pb2.StartIngestRequest()
            same.CopyFrom(request)
            same.ClearField("owner")
            known = self.runs.get(request.run_id)
            if known is None:
                self.note(f"start {request.run_id}")
                self.requests[request.run_id] = same
                self.runs[request.run_id] = ingest_pb2.IngestRun(
                    run_id=request.run_id, topic=request.topic, source=request.source, requested=request.users
                )
            elif self.requests[request.run_id] != same:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, "[INGEST_RUN_EXISTS] the run exists with other users")
            elif known.state in (ingest_pb2.INGEST_STATE_FAILED, ingest_pb2.INGEST_STATE_CANCELLED):
                self.note(f"resume {request.run_id}")
            else:
                self.note(f"join {request.run_id}")
            run = self.runs[request.run_id]
            self.owners[request.run_id] = request.owner
            if run.state != ingest_pb2.INGEST_STATE_FINISHED:
                self.set_run(request.run_id, self.outcome or ingest_pb2.INGEST_STATE_FETCHING)
            return run

    def Get(self, request, context):
        with self.changed:
            if isinstance(request, query_pb2.QueryRef):
                return self.find(request.ref, context)
            return self.run_of(request.run_id, context)

    def run_of(self, run_id, context):
        if run_id not in self.runs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"[INGEST_RUN_NOT_FOUND] no ingest run {run_id}")
        return self.runs[run_id]

    def List(self, request, context):
        with self.changed:
            if isinstance(request, query_pb2.ListRequest):
                return query_pb2.ListResponse(queries=self.queries.values())
            return ingest_pb2.ListIngestResponse(runs=self.runs.values())

    def Watch(self, request, context):
        while context.is_active():
            with self.changed:
                run = ingest_pb2.IngestRun()
                run.CopyFrom(self.run_of(request.run_id, context))
            yield run
            if run.state in INGEST_ENDED:
                return
            with self.changed:
                self.changed.wait_for(lambda: self.runs[request.run_id] != run or not context.is_active(), 1)  # noqa: B023

    def Cancel(self, request, context):
        with self.changed:
            run = self.run_of(request.run_id, context)
            if request.owner and request.owner != self.owners[request.run_id]:
                self.note(f"cancel-of-another {request.run_id}")
            elif run.state not in INGEST_ENDED:
                self.note(f"cancel {request.run_id}")
                self.set_run(request.run_id, ingest_pb2.INGEST_STATE_CANCELLED)
            return run

    # --- QueryService ---

    def add_query(self, name: str, state: str = "RUNNING") -> query_pb2.QueryStatus:
        with self.changed:
            query = query_pb2.QueryStatus(
                id=str(uuid.uuid4()), run_id=str(uuid.uuid4()), name=name, state=state, batch_id=-1, lag_records=-1
            )
            self.queries[name] = query
            self.reports[name] = []
            self.changed.notify_all()
            return query

    def set_query(self, name: str, state: str | None = None, **values: Any) -> None:
        with self.changed:
            if state is not None:
                self.queries[name].state = state
            for field, value in values.items():
                setattr(self.queries[name], field, value)
            self.changed.notify_all()

    def commit(self, name: str, batch: int, end: dict[str, dict[str, int]] | None = None, *, idle: bool = False) -> None:
        with self.changed:
            self.reports[name].append(report(self.queries[name], batch, end or {}, idle=idle))
            self.changed.notify_all()

    def find(self, ref, context):
        for query in self.queries.values():
            if ref in (query.id, query.name):
                return query
        return context.abort(grpc.StatusCode.NOT_FOUND, f"[STREAMING_QUERY_NOT_FOUND] no query {ref}")

    def Submit(self, request, context):
        with self.changed:
            self.submits.append(request)
            if self.refusal is not None:
                context.abort(*self.refusal)
            if "CREATE FLOW" not in request.sql:
                return query_pb2.SubmitResponse(messages=["nothing to do"])
            name = request.name or request.sql.split("CREATE FLOW", 1)[1].split()[0]
            known = self.queries.get(name)
            if known is not None and known.state not in ENDED:
                context.abort(
                    grpc.StatusCode.ALREADY_EXISTS,
                    f"[STREAMING_QUERY_ALREADY_ACTIVE] a query named {name} is running already, with id {known.id}",
                )
            self.note(f"submit {name}")
            query = known or self.add_query(name)
            query.run_id = str(uuid.uuid4())
            query.state = self.query_state
            self.changed.notify_all()
            return query_pb2.SubmitResponse(queries=[query])

    def Stop(self, request, context):
        with self.changed:
            query = self.find(request.ref, context)
            self.note(f"stop {query.name}")
            if query.state not in ENDED:
                query.state = "STOPPED"
            self.changed.notify_all()
            return query

    def Progress(self, request, context):
        sent, last = 0, None
        while context.is_active():
            with self.changed:
                query = query_pb2.QueryStatus()
                query.CopyFrom(self.find(request.ref, context))
                fresh = self.reports[query.name][sent:]
            for one in fresh:
                yield query_pb2.ProgressReport(json=json.dumps(one), status=query)
            sent += len(fresh)
            if not request.follow:
                return
            if query != last:
                last = query
                yield query_pb2.ProgressReport(status=query)
            if query.state in ENDED:
                return
            with self.changed:
                self.changed.wait_for(
                    lambda: self.queries[query.name] != query or len(self.reports[query.name]) > sent,  # noqa: B023
                    1,
                )

    # --- SqlService ---

    def Execute(self, request, context):
        self.sql.append(request)
        self.note("sql")
        yield from self.answers
        if self.sql_hangs:
            if not context.add_callback(self.sql_cancelled.set):
                self.sql_cancelled.set()
            self.sql_cancelled.wait(30)
