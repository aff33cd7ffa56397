"""The link from a task to what it started."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

LINK_KEY = "headwater_link"


class HeadwaterLink(BaseOperatorLink):
    """To what the scheduler's HTTP API says of an ingest run or a streaming query: JSON, there is no page of it."""

    name = "Headwater"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address that the task pushed; empty before it has."""
        return str(XCom.get_value(key=LINK_KEY, ti_key=ti_key) or "")


def publish_link(context: Any, url: str) -> None:
    """Makes the link work at once: Airflow 3 would ask for it only when the task ends or defers."""
    ti = context["ti"]
    ti.xcom_push(key=LINK_KEY, value=url)
    if key := getattr(HeadwaterLink(), "xcom_key", None):
        ti.xcom_push(key=key, value=url)
