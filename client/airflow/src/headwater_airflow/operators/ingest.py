"""Running an ingestion: users from an API to PostgreSQL to Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, ResumableJobMixin, conf

from headwater_airflow import lineage, run_ids
from headwater_airflow.assets import describe_events, first_address, is_fixed, kafka_topic
from headwater_airflow.client import INGEST_ENDED, ingest_state
from headwater_airflow.engine import ingest_pb2
from headwater_airflow.errors import HeadwaterError, HeadwaterNotFound, HeadwaterRequestError
from headwater_airflow.hooks.headwater import HeadwaterHook
from headwater_airflow.links import HeadwaterLink, publish_link
from headwater_airflow.operators.waiting import deadline, raise_unless_met
from headwater_airflow.results import ingest_result
from headwater_airflow.triggers.ingest import HeadwaterIngestTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_ACTIVE = {"PENDING", "FETCHING", "PUBLISHING"}
_FORMATS = ("json", "avro", "protobuf")


class HeadwaterIngestOperator(ResumableJobMixin, BaseOperator):
    """Fetches users, stages them in PostgreSQL and publishes them to Kafka, as one run on Headwater's cluster.

    The run's id is made of DAG, task, DAG run and map index, so every try finds the same run: a try after a crash joins it,
    a try after a failure goes on from its ledger, and nobody is fetched or published twice. A task that is cleared after
    success finds the finished run. A run of your own naming (`run_id`) lives by the same rules.

    The result, by XCom, is the run with its ledger; `offsets` in it is what a `HeadwaterQuerySensor` waits for.

    :param users: users to fetch. (templated)
    :param topic: the Kafka topic. (templated)
    :param kafka: Kafka's brokers, by comma. (templated)
    :param source: `randomuser`, or the address of a mirror of its API. (templated)
    :param postgres_conn_id: an Airflow connection to the PostgreSQL that stages; without it and without `postgres`, the
        scheduler's own.
    :param postgres: the same as an address, for one without a password. (templated)
    :param seed: of the users; none: made up, and recorded. The same seed gives the same users. (templated)
    :param nat: nationalities, by comma. (templated)
    :param page_size: users of a request to the API, up to 5000.
    :param output_format: `json`, `avro` or `protobuf`.
    :param schema_registry: the registry's address, for the latter two. (templated)
    :param publish_only: fetch nothing; publish what is staged and is not published yet.
    :param keep_raw: keep the API's reply for each user in staging, without its secrets.
    :param options: further options by name: `kafka.*`, `schema.registry.*`, `headwater.*`. (templated)
    :param run_id: an id of your own for the run. (templated)
    :param headwater_conn_id: the connection.
    :param deferrable: wait in the triggerer.
    :param durable: Airflow 3.3: remember the run's id beside the task.
    """

    template_fields: Sequence[str] = (
        "users",
        "topic",
        "kafka",
        "source",
        "postgres",
        "seed",
        "nat",
        "schema_registry",
        "options",
        "run_id",
        "headwater_conn_id",
    )
    template_fields_renderers = {"options": "json"}
    operator_extra_links = (HeadwaterLink(),)
    external_id_key = "headwater_ingest_run_id"
    ui_color = "#d5e8f5"

    def __init__(
        self,
        *,
        topic: str,
        kafka: str,
        users: int | str = 0,
        source: str = "randomuser",
        postgres_conn_id: str | None = None,
        postgres: str = "",
        seed: str = "",
        nat: str = "",
        page_size: int = 0,
        output_format: str = "json",
        schema_registry: str = "",
        publish_only: bool = False,
        keep_raw: bool = False,
        options: Mapping[str, str] | None = None,
        run_id: str = "",
        headwater_conn_id: str = HeadwaterHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        if "outlets" not in kwargs and is_fixed(kafka, topic):
            kwargs["outlets"] = [kafka_topic(kafka, topic)]
        super().__init__(**kwargs)
        if output_format not in _FORMATS:
            raise ValueError(f"output_format {output_format!r} is none of {', '.join(_FORMATS)}")
        if postgres and postgres_conn_id:
            raise ValueError("give postgres or postgres_conn_id, not both")
        self.topic = topic
        self.kafka = kafka
        self.users = users
        self.source = source
        self.postgres_conn_id = postgres_conn_id
        self.postgres = postgres
        self.seed = seed
        self.nat = nat
        self.page_size = page_size
        self.output_format = output_format
        self.schema_registry = schema_registry
        self.publish_only = publish_only
        self.keep_raw = keep_raw
        self.options = dict(options or {})
        self.run_id = run_id
        self.headwater_conn_id = headwater_conn_id
        self.deferrable = deferrable
        self._started: tuple[str, str] | None = None
        self._result: dict[str, Any] | None = None

    @property
    def hook(self) -> HeadwaterHook:
        """The connection."""
        return HeadwaterHook(self.headwater_conn_id)

    def execute(self, context: Context) -> Any:
        """Starts or finds the run and waits for its end."""
        if not self.deferrable:
            return self.execute_resumable(context)
        run = self._start(context)
        if run.state in INGEST_ENDED:
            return self._finish(context, ingest_result(run))
        self.defer(
            trigger=HeadwaterIngestTrigger(
                headwater_conn_id=self.headwater_conn_id,
                run_id=run.run_id,
                owner=run_ids.owner(context),
                deadline=deadline(self.execution_timeout),
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """The trigger has fired."""
        raise_unless_met(event)
        return self._finish(context, event["run"])

    def on_kill(self) -> None:
        """Cancels the run that this try started. Airflow may call it twice."""
        if self._started is None:
            return
        run_id, owner = self._started
        with self.hook.killing() as client:
            try:
                run = client.cancel_ingest(run_id, owner)
            except HeadwaterNotFound:
                self.log.warning("the task was killed before ingest run %s had begun", run_id)
                return
        self.log.warning("the task was killed; ingest run %s is %s", run_id, ingest_state(run))

    # --- ResumableJobMixin ---

    def submit_job(self, context: Context) -> str:
        """Starts the run, or takes over the one that an earlier try left."""
        return self._start(context).run_id

    def get_job_status(self, external_id: Any, context: Context) -> str:
        """The state of the run that an earlier try remembered."""
        with self.hook.client as client:
            try:
                return ingest_state(client.get_ingest(str(external_id)))
            except HeadwaterNotFound:
                # Another database or scheduler since: there is nothing to go on with.
                return "NOT_FOUND"

    def is_job_active(self, status: str) -> bool:
        """Whether it is to be joined."""
        return status in _ACTIVE

    def is_job_succeeded(self, status: str) -> bool:
        """Whether there is nothing left to do."""
        return status == "FINISHED"

    def poll_until_complete(self, external_id: Any, context: Context) -> Any:
        """Watches the run to its end."""
        if self._started is None and str(external_id) == self._run_id(context):
            # Joined: the run is this try's from now on.
            self._start(context)
        said = ""
        with self.hook.client as client:
            for run in client.watch_ingest(str(external_id)):
                line = (
                    f"{ingest_state(run)}: {run.fetched} of {run.requested} fetched, {run.staged} staged, "
                    f"{run.published} published, {run.rejected} rejected"
                )
                if line != said:
                    said = line
                    self.log.info("ingest run %s is %s", run.run_id, line)
                if run.state in INGEST_ENDED:
                    return self._finish(context, ingest_result(run))
        raise HeadwaterError(f"watching ingest run {external_id} ended without its end")

    def get_job_result(self, external_id: Any, context: Context) -> Any:
        """The run with its ledger."""
        if self._result is None:
            with self.hook.client as client:
                return self._finish(context, ingest_result(client.get_ingest(str(external_id))))
        return self._result

    # --- the run ---

    def _run_id(self, context: Context) -> str:
        return self.run_id or run_ids.of_context(context)

    def _start(self, context: Context) -> ingest_pb2.IngestRun:
        request = self._request(context)
        hook = self.hook
        with hook.client as client:
            self._started = (request.run_id, request.owner)
            run = client.start_ingest(request)
            publish_link(context, hook.settings.ingest_url(run.run_id))
        self.log.info("ingest run %s at %s is %s", run.run_id, hook.settings.target, ingest_state(run))
        return run

    def _request(self, context: Context) -> ingest_pb2.StartIngestRequest:
        try:
            users = int(self.users)
        except (TypeError, ValueError):
            raise HeadwaterRequestError(f"users {self.users!r} is no number") from None
        if users < 1 and not self.publish_only:
            raise HeadwaterRequestError(f"users is {users}: at least one is to be fetched, unless publish_only is set")
        return ingest_pb2.StartIngestRequest(
            run_id=self._run_id(context),
            owner=run_ids.owner(context),
            source=self.source,
            users=users,
            topic=self.topic,
            postgres=self._postgres(),
            kafka=self.kafka,
            seed=self.seed,
            nat=self.nat,
            page_size=self.page_size,
            format=self.output_format,
            schema_registry=self.schema_registry,
            publish_only=self.publish_only,
            keep_raw=self.keep_raw,
            options={name: str(value) for name, value in self.options.items()},
        )

    def _postgres(self) -> str:
        return postgres_url(BaseHook.get_connection(self.postgres_conn_id)) if self.postgres_conn_id else self.postgres

    def _finish(self, context: Context, run: dict[str, Any]) -> dict[str, Any]:
        if run["state"] == "CANCELLED":
            raise HeadwaterError(f"ingest run {run['run_id']} was cancelled; another try goes on from its ledger")
        if run["state"] != "FINISHED":
            raise HeadwaterError(
                f"ingest run {run['run_id']} is {run['state']}: {run['message'] or 'it gave no reason'}; another try goes "
                "on from its ledger",
                error_class=run["error_class"],
            )
        if run["rejected"]:
            self.log.warning("%d users were rejected: %s", run["rejected"], run["rejected_by_reason"])
        self.log.info("ingest run %s published %d users", run["run_id"], run["published"])
        publish_link(context, self.hook.settings.ingest_url(run["run_id"]))
        described = ("run_id", "published", "rejected", "duplicates", "offsets")
        describe_events(context, self.outlets, {f"headwater_{name}": run[name] for name in described})
        self._result = run
        return run

    # --- OpenLineage ---

    def get_openlineage_facets_on_start(self) -> Any:
        """Where users come from and go to."""
        return self._lineage({})

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """The same, with how many."""
        return self._lineage(self._result or {})

    def _lineage(self, run: Mapping[str, Any]) -> Any:
        address = "https://randomuser.me/api/" if self.source == "randomuser" else self.source
        api = lineage.of_address(address)
        topic = (f"kafka://{first_address(self.kafka, 9092)}", self.topic)
        return lineage.operator_lineage(
            inputs=[api] if api and not self.publish_only else [],
            outputs=[topic],
            external_id=run.get("run_id", ""),
            source=self.hook.settings.target,
            rows_written=run.get("published"),
        )


def postgres_url(connection: Any) -> str:
    """The address of an Airflow connection of type `postgres`, as Headwater takes it.

    Of its extra, `sslmode` and `sslrootcert` are passed on; anything else is refused, for it would be left out silently.
    """
    extra = dict(connection.extra_dejson)
    query = {name: str(extra.pop(name)) for name in ("sslmode", "sslrootcert") if name in extra}
    if extra:
        raise HeadwaterRequestError(
            f"connection {connection.conn_id} has {sorted(extra)[0]!r} in its extra, which Headwater's PostgreSQL address "
            "does not have; supported are sslmode and sslrootcert"
        )
    user = quote(connection.login or "", safe="")
    if connection.password:
        user += ":" + quote(connection.password, safe="")
    host = connection.host or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    database = quote(connection.schema or "postgres", safe="")
    address = f"postgresql://{user + '@' if user else ''}{host}:{connection.port or 5432}/{database}"
    return address + (f"?{urlencode(query)}" if query else "")
