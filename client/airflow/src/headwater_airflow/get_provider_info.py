"""What Airflow is told of this provider."""

from __future__ import annotations

from typing import Any

FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "login", "password", "extra"],
    "relabeling": {"host": "Scheduler", "port": "gRPC port"},
    "placeholders": {"host": "127.0.0.1", "port": "50050"},
}

CONNECTION_FIELDS: dict[str, Any] = {
    "use_tls": {
        "label": "Use TLS",
        "description": "For a scheduler behind a proxy that ends TLS; the scheduler itself speaks plain text",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "ca_certificate": {
        "label": "CA certificate (PEM)",
        "description": "Empty: the authorities that gRPC knows",
        "schema": {"type": ["string", "null"], "format": "multiline"},
    },
    "connect_port": {
        "label": "Spark Connect port",
        "description": "For PySpark scripts; empty: what the scheduler says",
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
    },
    "web_url": {
        "label": "Web address",
        "description": "Where links lead: the HTTP API (JSON), as a browser reaches it; empty: http://SCHEDULER:4040",
        "schema": {"type": ["string", "null"]},
    },
    "timeout_s": {
        "label": "Timeout of a call (s)",
        "schema": {"type": ["integer", "null"], "default": 30, "minimum": 1, "maximum": 3600},
    },
    "patience_s": {
        "label": "Patience (s)",
        "description": "How long a scheduler that is away is waited for before the task fails",
        "schema": {"type": ["integer", "null"], "default": 300, "minimum": 0, "maximum": 86400},
    },
}


def get_provider_info() -> dict[str, Any]:
    """The provider's parts."""
    integration = "Headwater"

    def modules(*names: str) -> list[dict[str, Any]]:
        return [{"integration-name": integration, "python-modules": [f"headwater_airflow.{name}" for name in names]}]

    return {
        "package-name": "airflow-provider-headwater",
        "name": "Headwater",
        "description": "Ingestion runs, streaming queries and SQL of Headwater.",
        "integrations": [{"integration-name": integration, "external-doc-url": "", "tags": ["service"]}],
        "operators": modules("operators.ingest", "operators.submit", "operators.sql"),
        "sensors": modules("sensors.query"),
        "hooks": modules("hooks.headwater"),
        "triggers": modules("triggers.ingest", "triggers.query"),
        "connection-types": [
            {
                "connection-type": "headwater",
                "hook-class-name": "headwater_airflow.hooks.headwater.HeadwaterHook",
                "hook-name": "Headwater",
                "ui-field-behaviour": FIELD_BEHAVIOUR,
                "conn-fields": CONNECTION_FIELDS,
            }
        ],
        "extra-links": ["headwater_airflow.links.HeadwaterLink"],
    }
