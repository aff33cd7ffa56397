"""Names that a task gives to what it starts, so that each of its tries finds the same thing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

_CHARACTERS_MAX = 120


def ingest_run_id(dag_id: str, task_id: str, dag_run_id: str, map_index: int = -1) -> str:
    """The id of the ingest run of a task instance, the same for all tries.

    A failed or killed try leaves a run with a ledger of what was fetched; the next try goes on with it.
    """
    parts = [dag_id, task_id, dag_run_id, *([str(map_index)] if map_index >= 0 else [])]
    raw = ".".join(parts)
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", raw).strip("-.")
    # Two names that differ in replaced characters alone, or in where a dot parts them, are not the same run.
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]
    return f"{readable[: _CHARACTERS_MAX - len(digest) - 1].rstrip('-.')}-{digest}"


def owner(context: Mapping[str, Any]) -> str:
    """Who starts the run: one try of one task instance.

    Airflow kills the trigger of an old try after the new try has begun. The run is by then the new one's, and a cancel in
    the old one's name does nothing.
    """
    ti = context["ti"]
    return f"airflow:{ti.dag_id}:{ti.task_id}:{ti.run_id}:{getattr(ti, 'map_index', -1)}:{ti.try_number}"


def of_context(context: Mapping[str, Any]) -> str:
    """The id of the ingest run of the task instance that runs."""
    ti = context["ti"]
    return ingest_run_id(ti.dag_id, ti.task_id, ti.run_id, getattr(ti, "map_index", -1))
