"""Airflow as tests need it: a home and a database of their own, and a connection to a scheduler in this process."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

# Before anything imports Airflow, which reads it once.
HERE = pathlib.Path(__file__).resolve().parent
HOME = pathlib.Path(tempfile.mkdtemp(prefix="headwater-airflow-unit-"))
os.environ.update(
    {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
        "AIRFLOW__CORE__FERNET_KEY": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "AIRFLOW__API_AUTH__JWT_SECRET": "unit-test-secret-" * 5,
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "PYTHONWARNINGS": "ignore",
    }
)
(HOME / "dags").mkdir()
for folder in (HERE / "dags", HERE.parents[1] / "example_dags"):
    for file in folder.iterdir():
        if file.is_file():
            shutil.copy(file, HOME / "dags")


def pytest_sessionfinish() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def database() -> None:
    """What `dag.test()` needs."""
    airflow = pathlib.Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def scheduler(monkeypatch):
    from fake import FakeScheduler

    scheduler = FakeScheduler()
    scheduler.start()
    connect(monkeypatch, scheduler.port)
    yield scheduler
    scheduler.stop()


def connect(monkeypatch, port: int, host: str = "127.0.0.1", **extra) -> None:
    """Connection headwater_default, to this port."""
    connection = {"conn_type": "headwater", "host": host, "port": port, "extra": {"patience_s": 10, **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_HEADWATER_DEFAULT", json.dumps(connection))


class TaskInstance:
    """What operators ask of the task instance that runs them."""

    def __init__(self, try_number: int = 1, map_index: int = -1, run_id: str = "manual__1") -> None:
        self.dag_id, self.task_id, self.run_id = "dag", "task", run_id
        self.try_number, self.map_index = try_number, map_index
        self.stats_tags: dict[str, str] = {}
        self.xcom: dict[str, object] = {}

    def xcom_push(self, key, value):
        self.xcom[key] = value


@pytest.fixture
def context():
    """A context whose durable store lasts for the test, as Airflow's does over the tries of a task."""
    stored: dict[tuple[str, str], object] = {}

    class Store:
        def __init__(self, run_id):
            self.run_id = run_id

        def get(self, key):
            return stored.get((self.run_id, key))

        def set(self, key, value):
            stored[self.run_id, key] = json.loads(json.dumps(value))

    def make(try_number: int = 1, **values):
        ti = TaskInstance(try_number, **values)
        return {"ti": ti, "task_state_store": Store(ti.run_id)}

    return make
