"""What a task waits for in a streaming query, and whether it has come: values in, verdict out, no I/O.

A `Tracker` is fed the status of a query and its progress reports as the scheduler sends them; its verdict is one of

    waiting ──► met
       └──────► hopeless   the query has ended, or does not read what is waited for
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ACTIVE = frozenset({"RUNNING", "WAITING", "RETRYING"})
ENDED = frozenset({"STOPPED", "FINISHED", "FAILED"})
STATES = ACTIVE | ENDED

Offsets = dict[str, dict[int, int]]


@dataclass(frozen=True)
class Status:
    """What the scheduler says of a query now."""

    id: str
    name: str
    run_id: str
    state: str
    lag: int = -1
    message: str = ""

    @property
    def label(self) -> str:
        return self.name or self.id


@dataclass(frozen=True)
class Condition:
    """Everything that is given must hold at once."""

    states: frozenset[str] = frozenset()
    # Committed batches: this one and all before it.
    batch: int | None = None
    # Records behind the latest offsets, at most.
    lag: int | None = None
    # By topic and partition, the offset that the query must have committed: the next record it would read.
    offsets: Offsets | None = None
    # A batch that was committed by this run of the query.
    first_batch_of: str | None = None

    def serialize(self) -> dict[str, Any]:
        """Plain JSON, for a trigger."""
        return {
            "states": sorted(self.states),
            "batch": self.batch,
            "lag": self.lag,
            "offsets": plain_offsets(self.offsets) if self.offsets is not None else None,
            "first_batch_of": self.first_batch_of,
        }

    @classmethod
    def deserialize(cls, data: Mapping[str, Any]) -> Condition:
        """The condition that `serialize` wrote."""
        offsets = data.get("offsets")
        return cls(
            states=frozenset(data.get("states") or ()),
            batch=data.get("batch"),
            lag=data.get("lag"),
            offsets=parse_offsets(offsets) if offsets is not None else None,
            first_batch_of=data.get("first_batch_of"),
        )


@dataclass(frozen=True)
class Waiting:
    """Not yet; says what is missing."""

    reason: str


@dataclass(frozen=True)
class Met:
    """All of it holds."""


@dataclass(frozen=True)
class Hopeless:
    """It will not come by waiting; says why and what helps."""

    reason: str


Verdict = Waiting | Met | Hopeless


@dataclass
class Tracker:
    """What is known of one query, and whether its condition holds."""

    condition: Condition
    status: Status | None = None
    committed_batch: int = -1
    offsets: Offsets = field(default_factory=dict)
    topics_open: bool = False
    seen_report: bool = False
    runs_with_a_batch: set[str] = field(default_factory=set)

    def see_status(self, status: Status) -> None:
        """Takes the status as it is now."""
        self.status = status

    def see_report(self, report: Mapping[str, Any]) -> None:
        """Takes Spark's StreamingQueryProgress. Offsets only grow, so reports may come twice."""
        self.seen_report = True
        # An idle trigger names the batch that would be next and has written nothing.
        ran = report["sink"]["numOutputRows"] >= 0
        self.committed_batch = max(self.committed_batch, report["batchId"] if ran else report["batchId"] - 1)
        if ran:
            self.runs_with_a_batch.add(report["runId"])
        reached: dict[str, dict[int, list[int]]] = {}
        for source in report["sources"]:
            self.topics_open = self.topics_open or "SubscribePattern" in source["description"]
            end = source["endOffset"]
            if isinstance(end, str):
                end = json.loads(end)
            if not isinstance(end, Mapping):
                continue
            for topic, partitions in end.items():
                if isinstance(partitions, Mapping):
                    known = reached.setdefault(topic, {})
                    for partition, offset in partitions.items():
                        known.setdefault(int(partition), []).append(int(offset))
        for topic, partitions in reached.items():
            # A topic that two sources read is as far as the slower of them.
            self.offsets[topic] = {partition: min(ends) for partition, ends in partitions.items()}

    def verdict(self) -> Verdict:
        """Whether to go on waiting."""
        status, wanted = self.status, self.condition
        if status is None:
            return Waiting("the scheduler has not answered yet")
        missing = list(self._missing(status))
        if not missing:
            return Met()
        if status.state in ENDED:
            said = f": {status.message}" if status.message and status.message.upper() != status.state else ""
            helps = "; headwater query restart goes on from its checkpoint" if status.state != "FINISHED" else ""
            return Hopeless(f"query {status.label} is {status.state} before {'; '.join(missing)}{said}{helps}")
        if wanted.offsets and self.seen_report and self.offsets and not self.topics_open:
            for topic in wanted.offsets:
                if topic not in self.offsets:
                    reads = ", ".join(sorted(self.offsets))
                    return Hopeless(f"query {status.label} does not read topic {topic}; it reads {reads}")
        return Waiting("; ".join(missing))

    def _missing(self, status: Status) -> Iterable[str]:
        wanted = self.condition
        if wanted.states and status.state not in wanted.states:
            yield f"its state is {' or '.join(sorted(wanted.states))} (now {status.state})"
        if wanted.batch is not None and self.committed_batch < wanted.batch:
            yield f"batch {wanted.batch} is committed (now {self.committed_batch})"
        if wanted.lag is not None and not 0 <= status.lag <= wanted.lag:
            yield f"its lag is {wanted.lag} records or less (now {'unknown' if status.lag < 0 else status.lag})"
        # When somebody has restarted it, what that run commits is as good. One that has finished had nothing to do.
        runs = {wanted.first_batch_of, status.run_id} if wanted.first_batch_of and status.state != "FINISHED" else set()
        if runs and not runs & self.runs_with_a_batch:
            yield "its first batch is committed"
        behind = 0
        short: list[str] = []
        for topic, partitions in (wanted.offsets or {}).items():
            known = self.offsets.get(topic, {})
            for partition, end in partitions.items():
                # An end of 0 is that of an empty partition, which nobody need read.
                if known.get(partition, 0) < end:
                    behind += end - known.get(partition, 0)
                    short.append(f"{topic}-{partition} at {end} (now {known.get(partition, 'unknown')})")
        if short:
            more = f" and {len(short) - 3} more" if len(short) > 3 else ""
            yield f"offsets are committed: {', '.join(short[:3])}{more}; {behind} records to go"


def plain_offsets(offsets: Offsets) -> dict[str, dict[str, int]]:
    """As Spark writes Kafka offsets in JSON, whose keys are text."""
    return {topic: {str(p): offset for p, offset in sorted(ends.items())} for topic, ends in sorted(offsets.items())}


def parse_offsets(value: Any) -> Offsets:
    """Offsets as Spark writes them, `{"topic": {"0": 5}}`; also as text, which a template renders to.

    Raises ValueError saying what is wrong.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            try:
                # A template that is not native renders a dictionary as Python does.
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                raise ValueError(f'offsets {value!r} are not {{"topic": {{"0": 5}}}}') from None
    if not isinstance(value, Mapping):
        raise ValueError(f'offsets {value!r} are not {{"topic": {{"0": 5}}}}')
    offsets: Offsets = {}
    for topic, partitions in value.items():
        if not isinstance(partitions, Mapping):
            raise ValueError(f"offsets of topic {topic} are {partitions!r}, not an offset by partition")
        offsets[str(topic)] = {_whole("partition", p): _whole("offset", end) for p, end in partitions.items()}
    return offsets


def _whole(what: str, value: Any) -> int:
    if not re.fullmatch(r"\d+", str(value)):
        raise ValueError(f"{what} {value!r} is no whole number from 0")
    return int(str(value))
