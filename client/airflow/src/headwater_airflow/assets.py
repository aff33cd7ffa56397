"""Assets (datasets in Airflow 2) of what passes through Headwater, and what their events say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.sdk import Asset


def kafka_topic(bootstrap_servers: str, topic: str) -> Asset:
    """`kafka://HOST:PORT/TOPIC`, of the first of the servers."""
    return Asset(uri=f"kafka://{first_address(bootstrap_servers, 9092)}/{topic}")


def cassandra_table(hosts: str, keyspace: str, table: str) -> Asset:
    """`cassandra://HOST:PORT/KEYSPACE/TABLE`, of the first of the hosts."""
    return Asset(uri=f"cassandra://{first_address(hosts, 9042)}/{keyspace}/{table}")


def first_address(addresses: str, default_port: int) -> str:
    """host:port of the first of several by comma."""
    first = addresses.split(",")[0].strip()
    if not first or "/" in first:
        raise ValueError(f"{addresses!r} is no list of HOST:PORT")
    bare = first.rpartition("]")[2] if first.startswith("[") else first
    return first if ":" in bare else f"{first}:{default_port}"


def is_fixed(*values: Any) -> bool:
    """Whether all values are known when the DAG is read: text without a template."""
    return all(isinstance(value, str) and value and "{{" not in value and "{%" not in value for value in values)


def describe_events(context: Any, outlets: Any, extra: Mapping[str, Any]) -> None:
    """Lets the events of a task's outlets say what it did."""
    events = context.get("outlet_events")
    if events is None:
        return
    for outlet in outlets or []:
        if isinstance(outlet, Asset):
            events[outlet].extra.update(extra)
