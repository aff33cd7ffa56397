"""Airflow provider for Headwater: ingestion runs, streaming queries and SQL, by its public gRPC API."""

from __future__ import annotations

__version__ = "0.1.0"
