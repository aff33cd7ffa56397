"""Waiting for streaming queries in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from headwater_airflow.client import AsyncClient
from headwater_airflow.conditions import Condition, Hopeless, Met, Status, Tracker, Waiting
from headwater_airflow.errors import HeadwaterError, HeadwaterNotFound
from headwater_airflow.hooks.headwater import killing_settings, settings_of
from headwater_airflow.results import query_result
from headwater_airflow.triggers.ingest import failure, give_up, seconds_left


class HeadwaterQueryTrigger(BaseTrigger):
    """Fires when a condition holds for every one of some queries, or can no longer come true.

    :param headwater_conn_id: the connection.
    :param waits: for each query `{"ref": …, "run_id": …, "condition": …}`; `run_id` is the run that is stopped when a user
        kills the task, empty: none.
    :param wait_until_exists: a query that is not there yet is waited for.
    :param poll_interval: seconds between two looks for such a query.
    :param deadline: seconds since the epoch at which the task fails, and its own queries are stopped; none: no limit.
    """

    def __init__(
        self,
        headwater_conn_id: str,
        waits: Sequence[Mapping[str, Any]],
        wait_until_exists: bool = False,
        poll_interval: float = 5.0,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.headwater_conn_id = headwater_conn_id
        self.waits = [dict(wait) for wait in waits]
        self.wait_until_exists = wait_until_exists
        self.poll_interval = poll_interval
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What another process makes the trigger of."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "headwater_conn_id": self.headwater_conn_id,
                "waits": self.waits,
                "wait_until_exists": self.wait_until_exists,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follows all queries at once."""
        try:
            async with asyncio.timeout(seconds_left(self.deadline)):
                settings = await settings_of(self.headwater_conn_id)
                async with AsyncClient(settings) as client, asyncio.TaskGroup() as group:
                    follows = [group.create_task(self._follow(client, wait)) for wait in self.waits]
                event: dict[str, Any] = {"outcome": "met", "queries": [query_result(task.result()) for task in follows]}
        except TimeoutError:
            await give_up(self)
            event = {"outcome": "timeout", "message": f"waiting for {', '.join(wait['ref'] for wait in self.waits)}"}
        except ExceptionGroup as group_error:
            known, other = group_error.split(HeadwaterError)
            if other is not None or known is None:
                raise
            event = failure(_first(known))
        except HeadwaterError as error:
            event = failure(error)
        yield TriggerEvent(event)

    async def _follow(self, client: AsyncClient, wait: Mapping[str, Any]) -> Status:
        tracker = Tracker(Condition.deserialize(wait["condition"]))
        while True:
            try:
                async for seen in client.follow_query(wait["ref"]):
                    tracker.see_status(seen.status)
                    if seen.report is not None:
                        tracker.see_report(seen.report)
                    match tracker.verdict():
                        case Met():
                            return seen.status
                        case Hopeless(reason):
                            raise HeadwaterError(reason)
                        case Waiting(reason):
                            self.log.debug("query %s: waiting until %s", seen.status.label, reason)
                raise HeadwaterError(f"following query {wait['ref']} ended without its end")
            except HeadwaterNotFound:
                if not self.wait_until_exists:
                    raise
                await asyncio.sleep(self.poll_interval)

    async def on_kill(self) -> None:
        """A user marked the deferred task or cleared it: what the task itself started is stopped."""
        own = [wait for wait in self.waits if wait["run_id"]]
        if not own:
            return
        async with AsyncClient(killing_settings(await settings_of(self.headwater_conn_id))) as client:
            for wait in own:
                status = await client.stop_run(wait["ref"], wait["run_id"])
                self.log.warning("the task was killed; query %s is %s", status.label, status.state)


def _first(group: ExceptionGroup[HeadwaterError]) -> HeadwaterError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
