"""Waiting for something that runs elsewhere: what operators share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from headwater_airflow.errors import HeadwaterError, HeadwaterRequestError


def deadline(execution_timeout: timedelta | None) -> float | None:
    """When a deferred task's time is over, in seconds since the epoch.

    The trigger keeps it, because Airflow does not look at `execution_timeout` while a task is deferred, and would not
    cancel what the task waits for.
    """
    return time.time() + execution_timeout.total_seconds() if execution_timeout else None


def raise_unless_met(event: Mapping[str, Any], timeout: type[BaseException] = AirflowTaskTimeout) -> None:
    """Turns an event that is no success into the exception it stands for."""
    match event["outcome"]:
        case "met" | "ended":
            return
        case "timeout":
            raise timeout(f"time is over: {event.get('message', 'what was waited for was cancelled')}")
        case _:
            kind = HeadwaterRequestError if event.get("final") else HeadwaterError
            raise kind(event.get("message", f"the trigger reported {dict(event)!r}"))
