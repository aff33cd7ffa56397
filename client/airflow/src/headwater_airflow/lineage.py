"""OpenLineage facets, when Airflow's OpenLineage provider is installed; it is what calls these."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import Asset

# (namespace, name), after OpenLineage's naming conventions.
Dataset = tuple[str, str]


def of_assets(assets: Iterable[Any]) -> list[Dataset]:
    """The datasets of Kafka and Cassandra assets; others are Airflow's to convert."""
    datasets = []
    for asset in assets or []:
        if isinstance(asset, Asset):
            parts = urlsplit(asset.uri)
            if parts.scheme == "kafka":
                datasets.append((f"kafka://{parts.netloc}", parts.path.strip("/")))
            elif parts.scheme == "cassandra":
                datasets.append((f"cassandra://{parts.netloc}", parts.path.strip("/").replace("/", ".")))
    return datasets


def of_address(address: str) -> Dataset | None:
    """The web address that users come from, without what may be secret in it."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}", parts.path or "/"


def operator_lineage(
    *,
    inputs: Iterable[Dataset],
    outputs: Iterable[Dataset],
    sql: str = "",
    external_id: str = "",
    source: str = "",
    rows_written: int | None = None,
) -> Any:
    """What OpenLineage's listener takes from an operator."""
    from airflow.providers.common.compat.openlineage import facet
    from airflow.providers.openlineage.extractors import OperatorLineage

    written: dict[str, Any] = {}
    if rows_written is not None:
        written["outputStatistics"] = facet.OutputStatisticsOutputDatasetFacet(rowCount=rows_written)
    run_facets: dict[str, Any] = {}
    if external_id:
        run_facets["externalQuery"] = facet.ExternalQueryRunFacet(externalQueryId=external_id, source=source)
    return OperatorLineage(
        inputs=[facet.Dataset(namespace=namespace, name=name) for namespace, name in inputs],
        outputs=[
            facet.OutputDataset(namespace=namespace, name=name, outputFacets=dict(written)) for namespace, name in outputs
        ],
        run_facets=run_facets,
        job_facets={"sql": facet.SQLJobFacet(query=sql)} if sql else {},
    )
