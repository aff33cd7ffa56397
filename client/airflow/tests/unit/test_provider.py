"""What Airflow finds of the provider."""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import subprocess
import sys

import airflow
import pytest

from headwater_airflow.get_provider_info import get_provider_info
from headwater_airflow.settings import parse

AIRFLOW_3 = not airflow.__version__.startswith("2.")


def command(*arguments):
    environment = {**os.environ, "COLUMNS": "250"}
    binary = pathlib.Path(sys.executable).with_name("airflow")
    return subprocess.run(
        [binary, *arguments, "-o", "json"], check=True, env=environment, capture_output=True, text=True
    ).stdout


def listed(what):
    out = command("providers", what)
    return json.loads(out[out.index("[") :])


def test_airflow_finds_its_parts():
    found = {provider["package_name"]: provider for provider in listed("list")}
    assert "Headwater" in found["airflow-provider-headwater"]["description"]
    hooks = {hook["connection_type"]: hook for hook in listed("hooks")}
    assert hooks["headwater"]["class"] == "headwater_airflow.hooks.headwater.HeadwaterHook"
    assert "headwater_airflow.links.HeadwaterLink" in json.dumps(listed("links"))
    assert "headwater_airflow.triggers.ingest" in json.dumps(listed("triggers"))


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no declarative fields")
def test_the_connection_form():
    widgets = json.dumps(listed("widgets"))
    for field in get_provider_info()["connection-types"][0]["conn-fields"]:
        assert f"extra__headwater__{field}" in widgets, widgets


def test_every_module_is_there():
    info = get_provider_info()
    for kind in ("operators", "sensors", "hooks", "triggers"):
        for part in info[kind]:
            for module in part["python-modules"]:
                importlib.import_module(module)


def test_the_forms_fields_are_the_settings():
    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    defaults = {name: field["schema"].get("default") for name, field in fields.items()}
    assert parse(None, None, defaults) == parse(None, None, {})
    with pytest.raises(Exception, match="known are") as refused:
        parse(None, None, {"no": 1})
    assert all(field in str(refused.value) for field in fields)


@pytest.mark.skipif(not AIRFLOW_3, reason="the OpenLineage provider is installed beside Airflow 3 alone")
def test_lineage(scheduler, context):
    from headwater_airflow.assets import cassandra_table, kafka_topic
    from headwater_airflow.operators.ingest import HeadwaterIngestOperator
    from headwater_airflow.operators.sql import HeadwaterSqlOperator
    from headwater_airflow.sensors.query import HeadwaterQuerySensor

    ingest = HeadwaterIngestOperator(task_id="task", topic="t", kafka="k", users=5, source="http://me:secret@mirror:80/api")
    ingest.execute(context())
    found = ingest.get_openlineage_facets_on_complete(None)
    assert [(one.namespace, one.name) for one in found.inputs] == [("http://mirror:80", "/api")]
    (out,) = found.outputs
    assert (out.namespace, out.name, out.outputFacets["outputStatistics"].rowCount) == ("kafka://k:9092", "t", 5)
    assert found.run_facets["externalQuery"].externalQueryId.startswith("dag.task.")
    assert ingest.get_openlineage_facets_on_start().outputs
    sensor = HeadwaterQuerySensor(
        task_id="task", query="q", batch_id=1, inlets=[kafka_topic("k", "t")], outlets=[cassandra_table("c", "ks", "u")]
    )
    found = sensor.get_openlineage_facets_on_complete(None)
    assert [one.name for one in found.inputs + found.outputs] == ["t", "ks.u"]
    found = HeadwaterSqlOperator(task_id="task", sql="SELECT 1").get_openlineage_facets_on_start()
    assert found.job_facets["sql"].query == "SELECT 1"


def test_lineage_is_not_needed():
    """Airflow 2's environment here has no OpenLineage provider: nothing asks for it before OpenLineage itself does."""
    code = (
        "import sys\nfrom headwater_airflow.operators import ingest, sql, submit\n"
        "from headwater_airflow.sensors import query\nassert not [m for m in sys.modules if m.startswith('openlineage')]"
    )
    subprocess.run([sys.executable, "-W", "error::DeprecationWarning:headwater_airflow", "-c", code], check=True)
