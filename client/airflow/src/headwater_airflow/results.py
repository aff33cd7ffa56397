"""What tasks hand to one another by XCom: plain JSON."""

from __future__ import annotations

from typing import Any

from headwater_airflow.client import ingest_state
from headwater_airflow.conditions import Status
from headwater_airflow.engine import ingest_pb2


def ingest_result(run: ingest_pb2.IngestRun) -> dict[str, Any]:
    """An ingest run with its ledger; `offsets` is what a sensor waits for."""
    offsets = {run.topic: {str(partition): end for partition, end in sorted(run.end_offsets.items())}}
    return {
        "run_id": run.run_id,
        "state": ingest_state(run),
        "message": run.message,
        "error_class": run.error_class,
        "source": run.source,
        "topic": run.topic,
        "seed": run.seed,
        "format": run.format,
        "requested": run.requested,
        "fetched": run.fetched,
        "staged": run.staged,
        "published": run.published,
        "rejected": run.rejected,
        "rejected_by_reason": dict(sorted(run.rejected_by_reason.items())),
        "duplicates": run.duplicates,
        "offsets": offsets if run.end_offsets else {},
    }


def query_result(status: Status) -> dict[str, Any]:
    """A streaming query."""
    return {"id": status.id, "name": status.name, "run_id": status.run_id, "state": status.state}
