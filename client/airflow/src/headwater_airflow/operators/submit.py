"""Submitting streaming queries: a text of SQL, or a PySpark script."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, ResumableJobMixin
from airflow.providers.common.compat.sdk import conf as airflow_conf

from headwater_airflow import lineage
from headwater_airflow.assets import describe_events
from headwater_airflow.client import Client, Observation
from headwater_airflow.conditions import ENDED, Condition, Hopeless, Met, Status, Tracker, Waiting
from headwater_airflow.engine import query_pb2
from headwater_airflow.errors import HeadwaterError, HeadwaterNotFound, HeadwaterRequestError
from headwater_airflow.hooks.headwater import HeadwaterHook
from headwater_airflow.links import HeadwaterLink, publish_link
from headwater_airflow.operators.sql import filled
from headwater_airflow.operators.waiting import deadline, raise_unless_met
from headwater_airflow.results import query_result
from headwater_airflow.script import Script, command, environment, find_client
from headwater_airflow.triggers.query import HeadwaterQueryTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

# Between two looks at a script and its queries.
_LOOK_S = 1.0
_INTENT_KEY = "headwater_submit"
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


class WaitFor(StrEnum):
    """What ends the task."""

    TERMINAL = "terminal"
    RUNNING = "running"
    FIRST_BATCH = "first_batch"
    NONE = "none"


class IfRunning(StrEnum):
    """What becomes of a query of that name that runs already and is not this task's."""

    FAIL = "fail"
    RECONNECT = "reconnect"
    RESTART = "restart"


class HeadwaterSubmitOperator(ResumableJobMixin, BaseOperator):
    """Submits a .sql text, whose flows become streaming queries, or runs a PySpark script.

    A query outlives the task. Killing the task stops the queries that it started, unless `stop_on_kill` is off or nothing
    was waited for; their checkpoints stay, and a later submit of the same name goes on from them.

    On Airflow 3.3 the queries are remembered beside the task: a try after a crash finds them in place of submitting again,
    as long as the text is the same.

    :param application: the name of a .sql file beside the DAG, or SQL itself, or the path of a .py file. (templated, the
        text of a .sql file included)
    :param application_args: arguments of a script. (templated)
    :param name: name of the query, where the SQL has one flow. (templated)
    :param trigger: `default`, `available-now`, `once`, or an interval such as `5 seconds`; for SQL. (templated)
    :param checkpoint: checkpoint location, where the SQL has one flow. (templated)
    :param variables: values of `${name}` in the SQL, as `--set name=value` of `headwater submit`. (templated)
    :param conf: settings by their Spark names. (templated)
    :param wait_for: `terminal`: all queries are FINISHED (a script: has exited); `running`: they run; `first_batch`: each
        has committed a batch; `none`: they are submitted (a script: has exited).
    :param queries: names of the queries that the application starts. Needed with a script for `running` and `first_batch`,
        after which the script is ended and its queries go on; and for `if_running` other than `fail`. (templated)
    :param if_running: what becomes of queries of these names that run already: `fail`; `reconnect`: they are waited for, and
        nothing is submitted when all of them run; `restart`: they are stopped first.
    :param stop_on_kill: whether killing the task stops its queries.
    :param py_files: Python files, or folders or archives of such, that a script imports. (templated)
    :param env: environment of a script. (templated)
    :param python: the Python that runs a script; it needs pyspark[connect].
    :param headwater: the `headwater` client, which runs scripts where it is found; Python alone does otherwise.
    :param headwater_conn_id: the connection.
    :param deferrable: wait in the triggerer. A script itself runs in the worker.
    :param durable: Airflow 3.3: remember the queries beside the task.
    """

    template_fields: Sequence[str] = (
        "application",
        "application_args",
        "name",
        "trigger",
        "checkpoint",
        "variables",
        "conf",
        "queries",
        "py_files",
        "env",
        "headwater_conn_id",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"application": "sql", "conf": "json", "variables": "json"}
    operator_extra_links = (HeadwaterLink(),)
    external_id_key = "headwater_queries"
    ui_color = "#d5e8f5"

    def __init__(
        self,
        *,
        application: str,
        application_args: Sequence[Any] | None = None,
        name: str = "",
        trigger: str = "",
        checkpoint: str = "",
        variables: Mapping[str, Any] | None = None,
        conf: Mapping[str, Any] | None = None,
        wait_for: str = WaitFor.TERMINAL,
        queries: Sequence[str] | None = None,
        if_running: str = IfRunning.FAIL,
        stop_on_kill: bool = True,
        py_files: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        python: str = "python3",
        headwater: str = "headwater",
        headwater_conn_id: str = HeadwaterHook.default_conn_name,
        deferrable: bool = airflow_conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.application = application
        self.application_args = list(application_args or [])
        self.name = name
        self.trigger = trigger
        self.checkpoint = checkpoint
        self.variables = dict(variables or {})
        self.conf = dict(conf or {})
        self.wait_for = WaitFor(wait_for)
        self.queries = list(queries) if queries is not None else [name] if name else []
        self.if_running = IfRunning(if_running)
        self.stop_on_kill = stop_on_kill
        self.py_files = list(py_files or [])
        self.env = dict(env or {})
        self.python = python
        self.headwater = headwater
        self.headwater_conn_id = headwater_conn_id
        self.deferrable = deferrable
        if self.if_running != IfRunning.FAIL and not self.queries:
            raise ValueError(f"if_running={self.if_running.value!r} needs the queries' names: give queries=[…]")
        self._script: Script | None = None
        # What the task waits for, and which of it killing the task stops, by id.
        self._waits: list[Status] = []
        self._own: dict[str, str] = {}

    @property
    def hook(self) -> HeadwaterHook:
        """The connection."""
        return HeadwaterHook(self.headwater_conn_id)

    def execute(self, context: Context) -> Any:
        """Submits, then waits or defers."""
        if not self.deferrable:
            return self.execute_resumable(context)
        store = self._store(context)
        prior = store.get(self.external_id_key) if store is not None else None
        if prior:
            # The trigger of an earlier try is killed only after this try has begun, and stops what runs by then under the
            # run that it knows: so this try makes a new run of it.
            self._stop(prior)
        external_id = self.submit_job(context)
        if self.wait_for == WaitFor.NONE or not self._waits:
            return self.get_job_result(external_id, context)
        self.defer(
            trigger=HeadwaterQueryTrigger(
                headwater_conn_id=self.headwater_conn_id,
                waits=[
                    {
                        "ref": query.id,
                        "run_id": self._own.get(query.id, "") if self.stop_on_kill else "",
                        "condition": self._condition(query).serialize(),
                    }
                    for query in self._waits
                ],
                deadline=deadline(self.execution_timeout),
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """The trigger has fired."""
        raise_unless_met(event)
        return self._finish(context, event["queries"])

    def on_kill(self) -> None:
        """Ends the script, and stops the queries that this task started. Airflow may call it twice."""
        if self._script is not None:
            self._script.end()
        if not self.stop_on_kill or not self._own:
            return
        with self.hook.killing() as client:
            for query_id, run_id in self._own.items():
                status = client.stop_run(query_id, run_id)
                self.log.warning("the task was killed; query %s is %s", status.label, status.state)

    # --- ResumableJobMixin ---

    def submit_job(self, context: Context) -> Any:
        """Submits the text or runs the script; what an earlier try can find the queries by."""
        if self._is_script():
            self._run_script(context)
        else:
            self._submit_sql(context)
        for query in self._waits:
            self.log.info("query %s has id %s, run %s", query.label, query.id, query.run_id)
        if self._waits:
            publish_link(context, self.hook.settings.query_url(self._waits[0].id))
        external_id = {
            "request": self._fingerprint(),
            "queries": [query_result(query) for query in self._waits],
            "own": self._own,
        }
        if (store := self._store(context)) is not None:
            store.set(self.external_id_key, external_id)
        self._settle(context)
        return external_id

    def get_job_status(self, external_id: Any, context: Context) -> str:
        """What has become of the queries that an earlier try submitted."""
        if external_id["request"] != self._fingerprint():
            self.log.warning("the application has changed since an earlier try: it is submitted anew")
            self._stop(external_id)
            return "OTHER"
        with self.hook.client as client:
            try:
                found = [client.get_query(query["id"]) for query in external_id["queries"]]
            except HeadwaterNotFound:
                return "NOT_FOUND"
        states = {query.state for query in found}
        if states <= {"FINISHED"}:
            return "FINISHED"
        if states & {"FAILED", "STOPPED"}:
            self._stop(external_id)
            return "FAILED"
        return "ACTIVE"

    def is_job_active(self, status: str) -> bool:
        """Whether to wait for what an earlier try submitted."""
        return status == "ACTIVE"

    def is_job_succeeded(self, status: str) -> bool:
        """Whether there is nothing to wait for."""
        return status == "FINISHED"

    def poll_until_complete(self, external_id: Any, context: Context) -> Any:
        """Follows the queries until each is where it should be."""
        if not self._waits:
            with self.hook.client as client:
                self._waits = [client.get_query(query["id"]) for query in external_id["queries"]]
            self._own = dict(external_id["own"])
        if self.wait_for != WaitFor.NONE:
            for query in self._waits:
                self._wait(query)
        return self.get_job_result(external_id, context)

    def get_job_result(self, external_id: Any, context: Context) -> Any:
        """The queries, as they are."""
        with self.hook.client as client:
            return self._finish(context, [query_result(client.get_query(query["id"])) for query in external_id["queries"]])

    # --- SQL ---

    def _submit_sql(self, context: Context) -> None:
        if self.application_args or self.py_files or self.env:
            raise HeadwaterRequestError("application_args, py_files and env are for scripts; SQL takes variables")
        sql = filled(self.application, self.variables)
        with self.hook.client as client:
            if self._reconnected(client):
                return
            request = query_pb2.SubmitRequest(
                sql=sql,
                name=self.name,
                trigger=self.trigger,
                checkpoint=self.checkpoint,
                conf={name: str(value) for name, value in self.conf.items()},
            )
            before_lost_try = self._intend(client, context)
            try:
                submitted = self._submitted(client, request, before_lost_try)
            except HeadwaterError as error:
                if error.error_class and before_lost_try is None:
                    # The scheduler itself has refused: what is started from now on is not this task's.
                    self._settle(context)
                raise
            for message in submitted.messages:
                self.log.info("%s", message)
            self._take([client.get_query(query.id) for query in submitted.queries])

    def _submitted(
        self, client: Client, request: query_pb2.SubmitRequest, before_lost_try: Mapping[str, str] | None
    ) -> query_pb2.SubmitResponse:
        """Submits; makes room for it where a try of this task was killed after its submit and before it knew the answer."""
        while True:
            try:
                return client.submit(request)
            except HeadwaterError as error:
                named = _UUID.search(str(error)) if error.error_class == "STREAMING_QUERY_ALREADY_ACTIVE" else None
                if named is None or before_lost_try is None:
                    raise
                query = client.get_query(named[0])
                if before_lost_try.get(query.id) == query.run_id:
                    raise
                self.log.warning("query %s was started by a try that was killed: it is submitted anew", query.label)
                client.stop_run(query.id, query.run_id)

    def _intend(self, client: Client, context: Context) -> dict[str, str] | None:
        """Remembers that a submit is about to be made, and what runs before it.

        Of a try that got no further, which only a hard kill or a cut line between the submit and its answer leaves behind:
        what ran before that.
        """
        store = self._store(context)
        if store is None:
            return None
        earlier = store.get(_INTENT_KEY)
        before = earlier["before"] if earlier else None
        now = {query.id: query.run_id for query in client.list_queries() if query.state not in ENDED}
        # Of several tries in a row that were lost, the first knows best.
        store.set(_INTENT_KEY, {"before": now if before is None else before})
        return before

    def _settle(self, context: Context) -> None:
        """The answer to the submit is known: no later try has to find out what this one started."""
        if (store := self._store(context)) is not None:
            store.set(_INTENT_KEY, {})

    def _store(self, context: Context) -> Any:
        """Airflow 3.3: what all tries of the task instance share."""
        return context.get("task_state_store") if getattr(self, "durable", False) else None

    def _reconnected(self, client: Client) -> bool:
        """Deals with queries of these names that run already. Whether that is all there is to do."""
        if self.if_running == IfRunning.FAIL:
            return False
        active = [query for query in client.list_queries() if query.name in self.queries and query.state not in ENDED]
        if not active:
            return False
        if self.if_running == IfRunning.RESTART:
            for query in active:
                self.log.info("query %s runs already and is stopped", query.label)
                client.stop_query(query.id)
            return False
        if missing := sorted(set(self.queries) - {query.name for query in active}):
            raise HeadwaterError(
                f"of the queries {', '.join(self.queries)} some run already and {', '.join(missing)} does not: stop those "
                "that run, or give if_running='restart'"
            )
        self.log.info("the queries run already; nothing is submitted")
        # Somebody else's: killing the task leaves them alone.
        self._waits = active
        return True

    def _take(self, queries: list[Status]) -> None:
        self._waits = queries
        self._own = {query.id: query.run_id for query in queries}

    def _stop(self, external_id: Any) -> None:
        """Stops what an earlier try started and nobody has started anew since."""
        with self.hook.client as client:
            for query_id, run_id in external_id["own"].items():
                try:
                    client.stop_run(query_id, run_id)
                except HeadwaterNotFound:
                    self.log.info("query %s of an earlier try is gone", query_id)

    # --- a script ---

    def _is_script(self) -> bool:
        return self.application.strip().endswith(".py") and "\n" not in self.application.strip()

    def _run_script(self, context: Context) -> None:
        if self.trigger or self.checkpoint or self.variables or self.name:
            raise HeadwaterRequestError("trigger, checkpoint, variables and name are for SQL; a script sets its own")
        detached = self.wait_for in (WaitFor.RUNNING, WaitFor.FIRST_BATCH)
        if detached and not self.queries:
            raise HeadwaterRequestError(
                f"wait_for={self.wait_for.value!r} of a script needs the names that it gives its queries: queries=[…]"
            )
        settings = self.hook.settings
        path = script_path(self.application.strip(), context)
        conf = {name: str(value) for name, value in self.conf.items()}
        try:
            line = command(
                settings,
                path,
                [str(argument) for argument in self.application_args],
                client=find_client(self.headwater, settings),
                python=self.python,
                conf=conf,
                py_files=self.py_files,
                detached=detached,
            )
            env = environment(settings, self.env, conf, self.py_files)
        except ValueError as error:
            raise HeadwaterRequestError(str(error)) from error
        with self.hook.client as client:
            if self._reconnected(client):
                return
            before = {query.id: query.run_id for query in client.list_queries()}
            self.log.info("running %s", " ".join([line[0], path]))
            try:
                self._script = Script(line, env, self.log)
            except OSError as error:
                raise HeadwaterRequestError(f"cannot run {line[0]}: {error.strerror}") from error
            try:
                status = self._watch_script(client, before, detached)
            finally:
                self._script.end()
                self._script = None
            if status:
                raise HeadwaterError(f"{path} exited with status {status}; its output is in the log above")
            missing = sorted(set(self.queries) - {query.name for query in self._waits})
            if missing and self.wait_for != WaitFor.NONE:
                raise HeadwaterError(f"{path} has ended and started no query named {missing[0]}")

    def _watch_script(self, client: Client, before: Mapping[str, str], detached: bool) -> int:
        """Waits for the script's end; with `detached`, or until all of its queries are there, if that is sooner."""
        while True:
            status = self._script.wait(_LOOK_S) if self._script else 0
            if self.queries:
                new = [
                    query
                    for query in client.list_queries()
                    if query.name in self.queries and before.get(query.id) != query.run_id
                ]
                self._take(new)
            if status is not None:
                return status
            if detached and len(self._waits) == len(set(self.queries)):
                for query in self._waits:
                    self._wait(query)
                self.log.info("the queries go on; the script is ended")
                return 0

    # --- waiting ---

    def _condition(self, query: Status) -> Condition:
        match self.wait_for:
            case WaitFor.FIRST_BATCH:
                return Condition(first_batch_of=query.run_id)
            case WaitFor.RUNNING:
                return Condition(states=frozenset({"RUNNING", "WAITING", "FINISHED"}))
            case _:
                return Condition(states=frozenset({"FINISHED"}))

    def _wait(self, query: Status) -> None:
        tracker = Tracker(self._condition(query))
        with self.hook.client as client:
            said = ""
            for seen in self._followed(client, query):
                tracker.see_status(seen.status)
                if seen.report is not None:
                    tracker.see_report(seen.report)
                match tracker.verdict():
                    case Met():
                        return
                    case Hopeless(reason):
                        raise HeadwaterError(reason)
                    case Waiting(reason):
                        if reason != said:
                            said = reason
                            self.log.info("query %s: waiting until %s", query.label, reason)
        raise HeadwaterError(f"following query {query.label} ended without its end")

    @staticmethod
    def _followed(client: Client, query: Status) -> Iterator[Observation]:
        return client.follow_query(query.id)

    def _finish(self, context: Context, queries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if queries:
            publish_link(context, self.hook.settings.query_url(queries[0]["id"]))
        describe_events(context, self.outlets, {"headwater_queries": queries})
        return queries

    def _fingerprint(self) -> str:
        """Of what is submitted: a changed text is another job."""
        request = [
            self.application,
            self.application_args,
            self.name,
            self.trigger,
            self.checkpoint,
            self.variables,
            self.conf,
            self.queries,
        ]
        return hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()

    # --- OpenLineage ---

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """The SQL, and the tables that inlets and outlets of the task name."""
        return lineage.operator_lineage(
            inputs=lineage.of_assets(self.inlets),
            outputs=lineage.of_assets(self.outlets),
            sql="" if self._is_script() else self.application,
        )


def script_path(application: str, context: Context) -> str:
    """The script's file: as given, or beside the DAG."""
    path = pathlib.Path(application)
    if not path.is_absolute():
        dag: Any = context["dag"]
        path = pathlib.Path(dag.folder) / path
    if not path.is_file():
        raise HeadwaterRequestError(f"there is no file {path} on this worker")
    return str(path)
