"""The scheduler's gRPC API: calls that outlast its absence, for threads (`Client`) and for event loops (`AsyncClient`).

Calls that may be repeated are repeated while the scheduler is away, for as long as the connection's `patience_s` says;
of several schedulers the next is tried each time, until the one that leads answers. Streams begin anew where they broke.
A call that starts something that has no name of its own is made once, by then to the leader.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from headwater_airflow import rows
from headwater_airflow.conditions import ENDED, Status
from headwater_airflow.engine import ingest_pb2, ingest_pb2_grpc, query_pb2, query_pb2_grpc
from headwater_airflow.errors import HeadwaterError, HeadwaterNotFound, HeadwaterRequestError, explain, is_transient
from headwater_airflow.patience import Patience
from headwater_airflow.settings import Settings

log = logging.getLogger(__name__)

INGEST_ENDED = frozenset(
    {ingest_pb2.INGEST_STATE_FINISHED, ingest_pb2.INGEST_STATE_FAILED, ingest_pb2.INGEST_STATE_CANCELLED}
)


@dataclass(frozen=True)
class Observation:
    """What a query's stream says at once: its status now, and a progress report if there is one."""

    status: Status
    report: Mapping[str, Any] | None = None


@dataclass
class StatementResult:
    """What one statement of a text gave: rows, or a line that says what it did."""

    columns: list[str]
    rows: list[dict[str, Any]]
    message: str = ""


def ingest_state(run: ingest_pb2.IngestRun) -> str:
    """FINISHED for INGEST_STATE_FINISHED; a state of a newer scheduler by its number."""
    try:
        return ingest_pb2.IngestState.Name(run.state).removeprefix("INGEST_STATE_")
    except ValueError:
        return f"STATE_{run.state}"


def status_of(status: query_pb2.QueryStatus) -> Status:
    """The message as a plain value."""
    return Status(
        id=status.id,
        name=status.name,
        run_id=status.run_id,
        state=status.state,
        lag=status.lag_records,
        message=status.message,
    )


def observation_of(report: query_pb2.ProgressReport) -> Observation:
    """The message as a plain value."""
    return Observation(status_of(report.status), json.loads(report.json) if report.json else None)


class Client:
    """Blocking calls. One connection, opened at the first call."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._number = 0
        self._channel: grpc.Channel | None = None
        self._statement: Any = None
        self._cancelled = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and with it the calls that run."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    @property
    def channel(self) -> grpc.Channel:
        """The connection."""
        if self._channel is None:
            self._channel = self.settings.channel(self._number)
        return self._channel

    def _turn(self) -> None:
        """On to the next of several schedulers."""
        if self.settings.others:
            self.close()
            self._number += 1

    # --- ingestion ---

    def start_ingest(self, request: ingest_pb2.StartIngestRequest) -> ingest_pb2.IngestRun:
        """Starts a run or finds it. The run id must be set: it is what makes the call repeatable."""
        if not request.run_id:
            raise ValueError("an ingest run is started by an id, so that a repeated call finds it")
        return self._repeat(f"start of ingest run {request.run_id}", lambda: self._ingest.Start, request)

    def get_ingest(self, run_id: str) -> ingest_pb2.IngestRun:
        """The run as it is."""
        return self._repeat(f"ingest run {run_id}", lambda: self._ingest.Get, ingest_pb2.IngestRef(run_id=run_id))

    def cancel_ingest(self, run_id: str, owner: str = "") -> ingest_pb2.IngestRun:
        """Cancels a run; with an owner, only while it is that one's."""
        return self._repeat(f"cancel of ingest run {run_id}", lambda: self._ingest.Cancel, cancel_request(run_id, owner))

    def watch_ingest(self, run_id: str) -> Iterator[ingest_pb2.IngestRun]:
        """The run as it is and after each change, to its end."""
        patience = Patience(self.settings.patience_s)
        doing = f"watching ingest run {run_id}"
        while True:
            for run in self._stream(doing, patience, lambda: self._ingest.Watch, ingest_pb2.IngestRef(run_id=run_id)):
                yield run
                if run.state in INGEST_ENDED:
                    return

    # --- queries ---

    def submit(self, request: query_pb2.SubmitRequest) -> query_pb2.SubmitResponse:
        """Runs the statements of a text; its flows start. Made once: a repeated call would find its own queries."""
        self.list_queries()
        try:
            return self._queries.Submit(request, timeout=self.settings.timeout_s)
        except grpc.RpcError as error:
            raise explain(error, "submit", self.settings.target) from error

    def list_queries(self) -> list[Status]:
        """All queries."""
        listed = self._repeat("list of queries", lambda: self._queries.List, query_pb2.ListRequest())
        return [status_of(query) for query in listed.queries]

    def get_query(self, ref: str) -> Status:
        """One query, by id, unique prefix of an id, or name."""
        return status_of(self._repeat(f"query {ref}", lambda: self._queries.Get, query_pb2.QueryRef(ref=ref)))

    def stop_query(self, ref: str) -> Status:
        """Stops a query; its checkpoint stays."""
        return status_of(self._repeat(f"stop of query {ref}", lambda: self._queries.Stop, query_pb2.QueryRef(ref=ref)))

    def stop_run(self, ref: str, run_id: str) -> Status:
        """Stops a query unless somebody has started it anew since."""
        now = self.get_query(ref)
        return self.stop_query(ref) if now.run_id == run_id and now.state not in ENDED else now

    def restart_query(self, ref: str) -> Status:
        """Runs a query again from its checkpoint, whether it runs or not."""
        return status_of(self._repeat(f"restart of query {ref}", lambda: self._queries.Restart, query_pb2.QueryRef(ref=ref)))

    def recent_progress(self, ref: str) -> list[Observation]:
        """The progress reports that the scheduler keeps, oldest first, each with the status as it is now."""

        def all_of(request: query_pb2.ProgressRequest, timeout: float) -> list[Observation]:
            return [observation_of(report) for report in self._queries.Progress(request, timeout=timeout)]

        return self._repeat(f"progress of query {ref}", lambda: all_of, query_pb2.ProgressRequest(ref=ref))

    def follow_query(self, ref: str) -> Iterator[Observation]:
        """Recent reports, then each new one and each change of status, to the query's end."""
        patience = Patience(self.settings.patience_s)
        request = query_pb2.ProgressRequest(ref=ref, follow=True)
        while True:
            for report in self._stream(f"following query {ref}", patience, lambda: self._queries.Progress, request):
                observation = observation_of(report)
                yield observation
            # The scheduler ends the stream of a query that has ended, and all streams when it stops itself.
            last = self.get_query(ref)
            if last.state in ENDED:
                yield Observation(last)
                return

    # --- SQL ---

    def run_sql(self, sql: str, conf: Mapping[str, str], *, rows_max: int, bytes_max: int) -> list[StatementResult]:
        """The results of all statements of a text.

        A statement lives as long as the call: `cancel_sql`, or the end of the process, ends its job.
        """
        self.list_queries()
        results: dict[int, StatementResult] = {}
        rows_left, bytes_left = rows_max, bytes_max
        request = query_pb2.SqlRequest(sql=sql, conf=conf)
        self._statement = statement = query_pb2_grpc.SqlServiceStub(self.channel).Execute(request)
        if self._cancelled:
            # It was told so while the call was made.
            statement.cancel()
        try:
            for part in statement:
                result = results.setdefault(part.statement, StatementResult([], []))
                kind = part.WhichOneof("kind")
                if kind == "message":
                    result.message = part.message
                elif kind == "arrow_ipc":
                    if not result.columns:
                        result.columns = _distinct(rows.columns_of(part.arrow_ipc))
                    before = len(result.rows)
                    result.rows.extend(rows.of_stream(part.arrow_ipc))
                    rows_left -= len(result.rows) - before
                    # A schema alone is no data.
                    bytes_left -= len(part.arrow_ipc) if len(result.rows) > before else 0
                    if rows_left < 0 or bytes_left < 0:
                        raise HeadwaterRequestError(
                            f"the result has more than {rows_max} rows or {bytes_max} bytes, which is too much for XCom: "
                            "aggregate or LIMIT it, write it to a table by INSERT INTO, or raise max_rows or max_bytes"
                        )
        except grpc.RpcError as error:
            raise explain(error, "SQL", self.settings.target) from error
        finally:
            self._statement = None
            statement.cancel()
        return [results[index] for index in sorted(results)]

    def cancel_sql(self) -> None:
        """Ends the statement that runs, and any that follows. For another thread, or a signal handler."""
        self._cancelled = True
        if self._statement is not None:
            self._statement.cancel()

    # --- how calls are made ---

    @property
    def _ingest(self) -> Any:
        return ingest_pb2_grpc.IngestServiceStub(self.channel)

    @property
    def _queries(self) -> Any:
        return query_pb2_grpc.QueryServiceStub(self.channel)

    def _repeat(self, doing: str, call: Callable[[], Callable[..., Any]], request: Any) -> Any:
        """`call` gives the call over the connection of that moment."""
        patience = Patience(self.settings.patience_s)
        while True:
            try:
                return call()(request, timeout=self.settings.timeout_s)
            except grpc.RpcError as error:
                pause = patience.pause() if is_transient(error) else None
                if pause is None:
                    raise explain(error, doing, self.settings.target) from error
                log.warning("%s: %s; again in %.1f s", doing, error.details(), pause)
                time.sleep(pause)
                self._turn()

    def _stream(self, doing: str, patience: Patience, call: Callable[[], Callable[..., Any]], request: Any) -> Iterator[Any]:
        """One connection's worth of a stream; returns after a pause when it ended or broke."""
        stream, broke = call()(request), False
        try:
            for message in stream:
                patience.answered()
                yield message
            reason = "the stream has ended"
        except grpc.RpcError as error:
            if not is_transient(error):
                raise explain(error, doing, self.settings.target) from error
            reason, broke = error.details(), True
        finally:
            stream.cancel()
        pause = patience.pause()
        if pause is None:
            raise HeadwaterError(
                f"{doing} at {self.settings.target}: {reason}; given up after {self.settings.patience_s:g} s"
            )
        log.info("%s: %s; again in %.1f s", doing, reason, pause)
        time.sleep(pause)
        if broke:
            self._turn()


class AsyncClient:
    """The calls that triggers make. To be used as `async with`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._number = 0
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> AsyncClient:
        self._channel = self.settings.async_channel()
        return self

    async def _turn(self) -> None:
        """On to the next of several schedulers."""
        if self.settings.others:
            if self._channel is not None:
                await self._channel.close()
            self._number += 1
            self._channel = self.settings.async_channel(self._number)

    async def __aexit__(self, *_: object) -> None:
        if self._channel is not None:
            await self._channel.close()

    @property
    def _ingest(self) -> Any:
        return ingest_pb2_grpc.IngestServiceStub(self._channel)

    @property
    def _queries(self) -> Any:
        return query_pb2_grpc.QueryServiceStub(self._channel)

    async def cancel_ingest(self, run_id: str, owner: str = "") -> ingest_pb2.IngestRun:
        """Cancels a run; with an owner, only while it is that one's."""
        request = cancel_request(run_id, owner)
        return await self._repeat(f"cancel of ingest run {run_id}", lambda: self._ingest.Cancel, request)

    async def watch_ingest(self, run_id: str) -> AsyncIterator[ingest_pb2.IngestRun]:
        """The run as it is and after each change, to its end."""
        patience = Patience(self.settings.patience_s)
        doing = f"watching ingest run {run_id}"
        while True:
            async for run in self._stream(doing, patience, lambda: self._ingest.Watch, ingest_pb2.IngestRef(run_id=run_id)):
                yield run
                if run.state in INGEST_ENDED:
                    return

    async def get_query(self, ref: str) -> Status:
        """One query, by id, unique prefix of an id, or name."""
        return status_of(await self._repeat(f"query {ref}", lambda: self._queries.Get, query_pb2.QueryRef(ref=ref)))

    async def stop_run(self, ref: str, run_id: str) -> Status:
        """Stops a query unless somebody has started it anew since."""
        now = await self.get_query(ref)
        if now.run_id != run_id or now.state in ENDED:
            return now
        return status_of(await self._repeat(f"stop of query {ref}", lambda: self._queries.Stop, query_pb2.QueryRef(ref=ref)))

    async def follow_query(self, ref: str) -> AsyncIterator[Observation]:
        """Recent reports, then each new one and each change of status, to the query's end."""
        patience = Patience(self.settings.patience_s)
        request = query_pb2.ProgressRequest(ref=ref, follow=True)
        while True:
            async for report in self._stream(f"following query {ref}", patience, lambda: self._queries.Progress, request):
                yield observation_of(report)
            last = await self.get_query(ref)
            if last.state in ENDED:
                yield Observation(last)
                return

    async def _repeat(self, doing: str, call: Callable[[], Callable[..., Any]], request: Any) -> Any:
        patience = Patience(self.settings.patience_s)
        while True:
            try:
                return await call()(request, timeout=self.settings.timeout_s)
            except grpc.RpcError as error:
                pause = patience.pause() if is_transient(error) else None
                if pause is None:
                    raise explain(error, doing, self.settings.target) from error
                log.warning("%s: %s; again in %.1f s", doing, error.details(), pause)
                await asyncio.sleep(pause)
                await self._turn()

    async def _stream(
        self, doing: str, patience: Patience, call: Callable[[], Callable[..., Any]], request: Any
    ) -> AsyncIterator[Any]:
        stream, broke = call()(request), False
        try:
            async for message in stream:
                patience.answered()
                yield message
            reason = "the stream has ended"
        except grpc.RpcError as error:
            if not is_transient(error):
                raise explain(error, doing, self.settings.target) from error
            reason, broke = error.details(), True
        finally:
            stream.cancel()
        pause = patience.pause()
        if pause is None:
            raise HeadwaterError(
                f"{doing} at {self.settings.target}: {reason}; given up after {self.settings.patience_s:g} s"
            )
        log.info("%s: %s; again in %.1f s", doing, reason, pause)
        await asyncio.sleep(pause)
        if broke:
            await self._turn()


def cancel_request(run_id: str, owner: str) -> ingest_pb2.CancelIngestRequest:
    """A cancel that does nothing to a run that another owner has taken over."""
    return ingest_pb2.CancelIngestRequest(run_id=run_id, owner=owner)


def _distinct(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise HeadwaterRequestError(f"the result has several columns named {twice[0]}: give them aliases")
    return names


__all__ = [
    "INGEST_ENDED",
    "AsyncClient",
    "Client",
    "HeadwaterNotFound",
    "Observation",
    "StatementResult",
    "ingest_state",
]
