"""Waiting for an ingest run in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from headwater_airflow.client import INGEST_ENDED, AsyncClient, ingest_state
from headwater_airflow.errors import HeadwaterError, HeadwaterRequestError
from headwater_airflow.hooks.headwater import killing_settings, settings_of
from headwater_airflow.results import ingest_result


class HeadwaterIngestTrigger(BaseTrigger):
    """Fires when an ingest run has ended; a user who kills the task cancels the run.

    :param headwater_conn_id: the connection.
    :param run_id: the run.
    :param owner: whose run it is. A run that another try has taken over by then is not cancelled.
    :param deadline: seconds since the epoch at which the run is cancelled and the task fails; none: no limit.
    """

    def __init__(
        self, headwater_conn_id: str, run_id: str, owner: str, deadline: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.headwater_conn_id = headwater_conn_id
        self.run_id = run_id
        self.owner = owner
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What another process makes the trigger of."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "headwater_conn_id": self.headwater_conn_id,
                "run_id": self.run_id,
                "owner": self.owner,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watches the run to its end."""
        try:
            async with asyncio.timeout(seconds_left(self.deadline)):
                event = await self._watch()
        except TimeoutError:
            await give_up(self)
            event = {"outcome": "timeout", "run_id": self.run_id}
        except HeadwaterError as error:
            event = failure(error) | {"run_id": self.run_id}
        yield TriggerEvent(event)

    async def _watch(self) -> dict[str, Any]:
        settings = await settings_of(self.headwater_conn_id)
        said = ""
        async with AsyncClient(settings) as client:
            async for run in client.watch_ingest(self.run_id):
                if run.state in INGEST_ENDED:
                    return {"outcome": "ended", "run_id": self.run_id, "run": ingest_result(run)}
                if (state := ingest_state(run)) != said:
                    said = state
                    self.log.info("ingest run %s is %s: %s", self.run_id, state, run.message)
        raise HeadwaterError(f"watching ingest run {self.run_id} ended without its end")

    async def on_kill(self) -> None:
        """A user marked the deferred task or cleared it."""
        settings = killing_settings(await settings_of(self.headwater_conn_id))
        async with AsyncClient(settings) as client:
            run = await client.cancel_ingest(self.run_id, self.owner)
        self.log.warning("the task was killed; ingest run %s is %s", self.run_id, ingest_state(run))


def seconds_left(deadline: float | None) -> float | None:
    """Until a deadline in seconds since the epoch, which another process may have set."""
    return None if deadline is None else max(deadline - time.time(), 0.0)


async def give_up(trigger: BaseTrigger) -> None:
    """Time is over. A scheduler that is away then does not keep the task from failing of that."""
    try:
        await trigger.on_kill()
    except HeadwaterError as error:
        trigger.log.warning("time is over, and what was waited for could not be cancelled: %s", error)


def failure(error: HeadwaterError) -> dict[str, Any]:
    """An error as an event."""
    return {"outcome": "error", "message": str(error), "final": isinstance(error, HeadwaterRequestError)}
