"""Waiting for a streaming query to get somewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    conf,
)

from headwater_airflow import lineage
from headwater_airflow.assets import describe_events
from headwater_airflow.conditions import (
    STATES,
    Condition,
    Hopeless,
    Met,
    Tracker,
    Verdict,
    Waiting,
    parse_offsets,
    plain_offsets,
)
from headwater_airflow.errors import HeadwaterError, HeadwaterNotFound, HeadwaterRequestError
from headwater_airflow.hooks.headwater import HeadwaterHook
from headwater_airflow.links import HeadwaterLink, publish_link
from headwater_airflow.operators.waiting import raise_unless_met
from headwater_airflow.results import query_result
from headwater_airflow.triggers.query import HeadwaterQueryTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class HeadwaterQuerySensor(BaseSensorOperator):
    """Waits until a streaming query is in a state, has committed a batch or offsets, or is close behind its source.

    What is given must hold all at once. The sensor fails at once when that can no longer come by waiting: the query has
    failed or was stopped, or does not read the topic. It never stops the query.

    :param query: the query's name, id, or unique prefix of its id. (templated)
    :param states: one of RUNNING, WAITING, RETRYING, STOPPED, FINISHED, FAILED, or several. (templated)
    :param batch_id: this batch and all before it are committed. (templated)
    :param max_lag: the query is at most so many records behind. The lag is that of the last progress report, which an
        idle query makes every ten seconds.
    :param offsets: by topic and partition, the end that must be committed, as Spark writes offsets: `{"topic": {"0": 5}}`.
        An ingest operator's result has it: `"{{ ti.xcom_pull(task_ids='ingest')['offsets'] }}"`. Empty ones are there at
        once. (templated)
    :param wait_until_exists: wait for a query that is not there yet, in place of failing.
    :param headwater_conn_id: the connection.
    :param deferrable: wait in the triggerer, where the query's progress is followed and not polled.
    """

    template_fields: Sequence[str] = ("query", "states", "batch_id", "offsets", "headwater_conn_id")
    operator_extra_links = (HeadwaterLink(),)
    ui_color = "#d5e8f5"

    def __init__(
        self,
        *,
        query: str,
        states: str | Sequence[str] | None = None,
        batch_id: int | str | None = None,
        max_lag: int | None = None,
        offsets: Any = None,
        wait_until_exists: bool = False,
        headwater_conn_id: str = HeadwaterHook.default_conn_name,
        poke_interval: float = 5.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        if all(wanted is None for wanted in (states, batch_id, max_lag, offsets)):
            raise ValueError("HeadwaterQuerySensor waits for nothing: give states, batch_id, max_lag or offsets")
        self.query = query
        self.states = states
        self.batch_id = batch_id
        self.max_lag = max_lag
        self.offsets = offsets
        self.wait_until_exists = wait_until_exists
        self.headwater_conn_id = headwater_conn_id
        self.deferrable = deferrable
        # What is given is waited for, even if its template comes out as nothing.
        given = {"states": states, "batch_id": batch_id, "offsets": offsets}
        self._given = [name for name, wanted in given.items() if wanted is not None]
        self._linked = False
        self._seen: dict[str, Any] = {}

    def execute(self, context: Context) -> Any:
        """Waits here, or defers."""
        if not self.deferrable:
            super().execute(context)
            return self._finish(context)
        try:
            if isinstance(self._look(context), Met):
                return self._finish(context)
        except HeadwaterRequestError:
            raise
        except HeadwaterError as error:
            if self.soft_fail:
                raise AirflowSkipException(str(error)) from error
            raise
        self.defer(
            trigger=HeadwaterQueryTrigger(
                headwater_conn_id=self.headwater_conn_id,
                waits=[{"ref": self.query, "run_id": "", "condition": self._condition().serialize()}],
                wait_until_exists=self.wait_until_exists,
                poll_interval=self._seconds(self.poke_interval),
                deadline=time.time() + self._seconds(self.timeout),
            ),
            method_name="execute_complete",
        )

    def poke(self, context: Context) -> bool:
        """Whether it holds now."""
        return isinstance(self._look(context), Met)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """The trigger has fired."""
        try:
            raise_unless_met(event, AirflowSensorTimeout)
        except HeadwaterRequestError:
            raise
        except (HeadwaterError, AirflowSensorTimeout) as error:
            if self.soft_fail:
                raise AirflowSkipException(str(error)) from error
            raise
        return self._finish(context, event["queries"][0])

    def _look(self, context: Context) -> Verdict:
        tracker = Tracker(self._condition())
        client = HeadwaterHook(self.headwater_conn_id).client
        with client:
            try:
                status = client.get_query(self.query)
                tracker.see_status(status)
                for seen in client.recent_progress(self.query):
                    if seen.report is not None:
                        tracker.see_report(seen.report)
            except HeadwaterNotFound:
                if not self.wait_until_exists:
                    raise
                self.log.info("there is no query %s yet", self.query)
                return Waiting("it exists")
            if not self._linked:
                publish_link(context, client.settings.query_url(status.id))
                self._linked = True
        verdict = tracker.verdict()
        if isinstance(verdict, Hopeless):
            raise HeadwaterError(verdict.reason)
        if isinstance(verdict, Waiting):
            self.log.info("query %s: waiting until %s", status.label, verdict.reason)
        self._seen = query_result(status)
        return verdict

    def _finish(self, context: Context, query: dict[str, Any] | None = None) -> dict[str, Any]:
        query = query or self._seen
        offsets = self._condition().offsets
        result = query | ({"offsets": plain_offsets(offsets)} if offsets is not None else {})
        describe_events(context, self.outlets, {"headwater_query": query["name"] or query["id"]} | result)
        return result

    def _condition(self) -> Condition:
        for name in self._given:
            if getattr(self, name) is None:
                raise HeadwaterRequestError(f"{name} of HeadwaterQuerySensor {self.task_id} came out as None: what gave it?")
        states = [self.states] if isinstance(self.states, str) else self.states or []
        if unknown := sorted(set(states) - STATES):
            raise HeadwaterRequestError(f"{unknown[0]!r} is no state of a query; states are {', '.join(sorted(STATES))}")
        try:
            return Condition(
                states=frozenset(states),
                batch=None if self.batch_id is None else int(self.batch_id),
                lag=self.max_lag,
                offsets=None if self.offsets is None else parse_offsets(self.offsets),
            )
        except ValueError as error:
            raise HeadwaterRequestError(f"what HeadwaterQuerySensor {self.task_id} waits for: {error}") from error

    @staticmethod
    def _seconds(time_: Any) -> float:
        return time_.total_seconds() if isinstance(time_, timedelta) else float(time_)

    # --- OpenLineage ---

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What the query carries, as inlets and outlets of the sensor name it."""
        return lineage.operator_lineage(
            inputs=lineage.of_assets(self.inlets),
            outputs=lineage.of_assets(self.outlets),
            external_id=self.query,
            source=HeadwaterHook(self.headwater_conn_id).settings.target,
        )
