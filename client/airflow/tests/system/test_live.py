"""A real Airflow 3 against a real cluster, Kafka, Cassandra and PostgreSQL, and a replay of the users' API.

What Airflow says is compared with what the databases and the scheduler say, read without the provider.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from live_airflow import Airflow, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[4]
HERE = pathlib.Path(__file__).resolve().parent
NEEDS = ("HEADWATER_BIN", "KAFKA_ADDRESS", "CASSANDRA_ADDRESS", "POSTGRES_ADDRESS")
MISSING = [name for name in NEEDS if not os.environ.get(name)]
if MISSING and os.environ.get("HEADWATER_REQUIRE_SERVICES") == "1":
    raise RuntimeError(f"{', '.join(MISSING)} not set, and HEADWATER_REQUIRE_SERVICES=1")
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not set: no such service")
if not MISSING:
    sys.path.insert(0, str(ROOT / "tests/e2e"))
    import cql
    import pg
    from cluster import Process, headwater

KEYSPACE = "headwater_airflow"


class Replay:
    """tests/services/randomuser.py in a process of its own."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/services/randomuser.py"), "--owner-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.address = self.process.stdout.readline().decode().strip()

    def stop(self):
        self.process.kill()
        self.process.wait()

    def request(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"http://{self.address}{path}", data, method=method), timeout=10
        ) as answer:
            return json.loads(answer.read() or b"null")

    def hold(self, seed):
        """The second page is refused until `let_go`: a run of this seed is in its middle."""
        self.request("POST", "/_faults", [{"kind": "429", "pages": [2], "seed": seed, "retry_after": 1}])

    def let_go(self):
        self.request("DELETE", "/_faults")


class Headwater:
    """A scheduler and two executors, whose runs stage in a database of their own."""

    def __init__(self, folder, database):
        self.folder = folder
        (folder / "logs").mkdir(parents=True)
        postgres = f"postgresql://postgres@{os.environ['POSTGRES_ADDRESS']}/{database}"
        self.processes = [
            Process(
                folder / "logs/scheduler.log",
                *("scheduler", "--state-dir", str(folder / "state"), "--postgres", postgres),
                *("--grpc-port", "0", "--connect-port", "0", "--http-port", "0"),
            )
        ]
        self.grpc, self.http = (self.processes[0].address(kind) for kind in ("grpc", "http"))
        for number in (1, 2):
            self.processes.append(
                Process(
                    folder / f"logs/executor-{number}.log",
                    *(
                        "executor",
                        "--scheduler",
                        self.grpc,
                        "--task-slots",
                        "2",
                        "--work-dir",
                        str(folder / f"work-{number}"),
                    ),
                )
            )

        def registered():
            with urllib.request.urlopen(f"http://{self.http}/api/v1/executors", timeout=10) as answer:
                return len(json.loads(answer.read())) == 2

        wait_until("two executors are registered", registered)

    def stop(self):
        for process in self.processes:
            process.kill()

    def json(self, *arguments):
        result = headwater(*arguments, "--json", scheduler=self.grpc)
        assert result.status == 0, str(result)
        return json.loads(result.out)

    def executors_cpu_s(self):
        """What the executors have worked so far."""
        stats = [
            pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            for process in self.processes[1:]
        ]
        return sum(int(stat[11]) for stat in stats) / os.sysconf("SC_CLK_TCK")

    def runs(self):
        """Ingest runs by id."""
        return {run.get("runId") or run["run_id"]: run for run in self.json("ingest", "list")}

    def query(self, name):
        return next((query for query in self.json("query", "list") if query["name"] == name), None)


class World:
    """Everything that runs, for all tests of the file."""

    def __init__(self, folder):
        self.folder = folder
        self.name = f"airflow_{os.urandom(4).hex()}"
        self.database = self.name
        with pg.Connection(os.environ["POSTGRES_ADDRESS"]) as postgres:
            postgres.execute(f"CREATE DATABASE {self.database}")
        with cql.Connection(os.environ["CASSANDRA_ADDRESS"]) as cassandra:
            cassandra.execute(
                f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} "
                "WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
        self.replay = Replay()
        self.headwater = Headwater(folder / "headwater", self.database)
        for topic in (self.name, f"{self.name}_more"):
            made = headwater("topic", "create", topic, "--partitions", "4", "--kafka", os.environ["KAFKA_ADDRESS"])
            assert made.status == 0, str(made)
        dags = folder / "dags"
        dags.mkdir()
        for source in (HERE / "dags", HERE.parents[1] / "example_dags"):
            for file in source.iterdir():
                if file.is_file():
                    shutil.copy(file, dags)
        host, _, port = self.headwater.grpc.rpartition(":")
        self.connection = {
            "conn_type": "headwater",
            "host": host,
            "port": int(port),
            "extra": {"web_url": f"http://{self.headwater.http}"},
        }
        settings = {
            "KAFKA": os.environ["KAFKA_ADDRESS"],
            "CASSANDRA": os.environ["CASSANDRA_ADDRESS"],
            "TOPIC": self.name,
            "KEYSPACE": KEYSPACE,
            "TABLE": self.name,
            "QUERY": self.name,
            "SOURCE": f"http://{self.replay.address}/api/",
        }
        self.airflow = Airflow(
            folder / "airflow",
            dags,
            {
                "AIRFLOW_CONN_HEADWATER_DEFAULT": json.dumps(self.connection),
                **{f"HEADWATER_EXAMPLE_{name}": value for name, value in settings.items()},
            },
        )
        self.airflow.start()

    def stop(self):
        if hasattr(self, "airflow"):
            self.airflow.stop()
        for part in ("headwater", "replay"):
            if hasattr(self, part):
                getattr(self, part).stop()
        with pg.Connection(os.environ["POSTGRES_ADDRESS"]) as postgres:
            postgres.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")
        with cql.Connection(os.environ["CASSANDRA_ADDRESS"]) as cassandra:
            cassandra.execute(f"DROP TABLE IF EXISTS {KEYSPACE}.{self.name}")

    def staged(self, run_id):
        """Ids of users that a run has staged."""
        with pg.Connection(os.environ["POSTGRES_ADDRESS"], self.database) as postgres:
            return {row[0] for row in postgres.execute(f"SELECT id FROM headwater.users WHERE run_id = '{run_id}'")}

    def _select(self, what):
        with cql.Connection(os.environ["CASSANDRA_ADDRESS"]) as cassandra:
            try:
                return cassandra.execute(f"SELECT {what} FROM {KEYSPACE}.{self.name}")
            except cql.Error as error:
                # The second while it is being made; the last two are a server that is too busy to answer now.
                if not any(text in str(error) for text in ("does not exist", "Unknown CF", "0x1200", "0x1300")):
                    raise
                return []

    def carried(self):
        """Ids of users in Cassandra; none before the query has made its table."""
        return {str(row[0]) for row in self._select("id")}

    def count(self):
        """How many they are."""
        return sum(row[0] for row in self._select("count(*)"))

    # --- ingest runs of one-task DAGs ---

    def held(self, dag, state):
        """Triggers an ingest that stays in its middle: the DAG run and the ingest run."""
        seed = f"s{os.urandom(6).hex()}"
        self.replay.hold(seed)
        before = set(self.headwater.runs())
        run = self.airflow.trigger(dag, seed=seed)
        self.airflow.wait_for_task(dag, run, "ingest", state)

        def fetching():
            (found,) = set(self.headwater.runs()) - before or {None}
            return found and self.headwater.runs()[found]["state"] == "FETCHING" and found

        ingest = wait_until("the run fetches", fetching)
        if state == "deferred":
            self.airflow.wait_for_trigger(dag, run, "ingest")
        return run, ingest

    def reaches(self, run_id, state):
        def reached():
            found = self.headwater.runs()[run_id]
            assert found["state"] == state or found["state"] not in ("FINISHED", "FAILED", "CANCELLED"), found
            return found["state"] == state

        wait_until(f"ingest run {run_id} is {state}", reached)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = pathlib.Path(os.environ.get("HEADWATER_TEST_LOGS") or tmp_path_factory.mktemp("live")) / "live"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    world = World.__new__(World)
    try:
        world.__init__(folder)
        yield world
        for log in (folder / "headwater/logs").glob("*.log"):
            assert "panicked at" not in log.read_text(errors="replace"), log
    finally:
        world.stop()


@pytest.fixture(autouse=True)
def behave(request):
    yield
    if "world" in request.fixturenames:
        request.getfixturevalue("world").replay.let_go()


def test_the_example_runs(world):
    airflow, dag = world.airflow, "users_pipeline"
    run = airflow.trigger(dag, users=1500)
    deferred = airflow.wait_for_task(dag, run, "ingest", "deferred")
    assert deferred["trigger"]["classpath"] == "headwater_airflow.triggers.ingest.HeadwaterIngestTrigger"
    # The link works while the task waits.
    link = airflow.links(dag, run, "ingest")["Headwater"]
    with urllib.request.urlopen(link, timeout=10) as page:
        assert json.loads(page.read())
    assert airflow.wait_for_run(dag, run) == "success"
    result = airflow.xcom(dag, run, "ingest")
    result = json.loads(result) if isinstance(result, str) else result
    assert (result["state"], result["fetched"], result["published"]) == ("FINISHED", 1500, 1500), result
    assert sum(result["offsets"][world.name].values()) == 1500
    assert len(world.staged(result["run_id"])) == 1500
    assert world.carried() == world.staged(result["run_id"])
    events = airflow.call("GET", "/assets/events")["asset_events"]
    by_uri = {event["uri"].rstrip("/"): event["extra"] for event in events}
    topic = f"kafka://{os.environ['KAFKA_ADDRESS']}/{world.name}"
    table = f"cassandra://{os.environ['CASSANDRA_ADDRESS']}/{KEYSPACE}/{world.name}"
    assert by_uri[topic]["headwater_published"] == 1500
    assert by_uri[table]["offsets"] == result["offsets"]
    # The whole again: the stream is found, other users are carried.
    run = airflow.trigger(dag, users=500)
    assert airflow.wait_for_run(dag, run) == "success"
    assert len(world.carried()) == 2000
    # A cleared task finds its run.
    before = len(world.headwater.runs())
    airflow.clear(dag, run, "ingest")
    wait_until("the second try is over", lambda: airflow.task(dag, run, "ingest")["state"] == "success")
    assert len(world.headwater.runs()) == before


def test_the_connections_form(world):
    form = world.airflow.form("headwater")
    assert form["extra_fields"]["patience_s"]["schema"]["default"] == 300
    assert form["standard_fields"]["port"]["title"] == "gRPC port"
    connection = {**world.connection, "connection_id": "x", "extra": json.dumps(world.connection["extra"])}
    answer = world.airflow.call("POST", "/connections/test", connection)
    assert answer["status"] is True, answer
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        answer = world.airflow.call("POST", "/connections/test", {**connection, "port": nobody.getsockname()[1]})
    assert answer["status"] is False, answer


@pytest.mark.parametrize(("dag", "state"), [("ingest_plain", "running"), ("ingest_deferred", "deferred")])
def test_marking_the_task_failed_cancels_the_run(world, dag, state):
    run, ingest = world.held(dag, state)
    began = time.monotonic()
    world.airflow.set_task(dag, run, "ingest", "failed")
    world.reaches(ingest, "CANCELLED")
    print(f"{state}: cancelled after {time.monotonic() - began:.1f} s")
    assert world.airflow.wait_for_run(dag, run) == "failed"


def test_a_task_that_is_killed_hard_finds_its_run(world):
    run, ingest = world.held("ingest_plain", "running")
    before = len(world.headwater.runs())
    pid = world.airflow.task("ingest_plain", run, "ingest")["pid"]
    os.kill(pid, signal.SIGKILL)
    world.airflow.wait_for_task("ingest_plain", run, "ingest", "running", tries=2)
    assert world.headwater.runs()[ingest]["state"] == "FETCHING"
    world.replay.let_go()
    assert world.airflow.wait_for_run("ingest_plain", run) == "success"
    assert len(world.headwater.runs()) == before
    assert len(world.staged(ingest)) == 300


@pytest.mark.parametrize(("dag", "state"), [("ingest_plain", "running"), ("ingest_deferred", "deferred")])
def test_a_cleared_task_takes_its_run_over(world, dag, state):
    """Airflow kills the old try's trigger after the new try has begun: that must not end the run."""
    run, ingest = world.held(dag, state)
    before = len(world.headwater.runs())
    world.airflow.clear(dag, run, "ingest")
    world.airflow.wait_for_task(dag, run, "ingest", state, tries=2)
    world.replay.let_go()
    assert world.airflow.wait_for_run(dag, run) == "success"
    assert len(world.headwater.runs()) == before
    assert len(world.staged(ingest)) == 300


@pytest.mark.parametrize(("name", "state"), [("plain", "running"), ("deferred", "deferred")])
def test_a_submit(world, name, state):
    dag = f"submit_{name}"
    run = world.airflow.trigger(dag)
    world.airflow.wait_for_task(dag, run, "submit", state)
    query = wait_until("the query runs", lambda: world.headwater.query(f"rate_{name}"))
    if name == "deferred":
        world.airflow.wait_for_trigger(dag, run, "submit")
    else:
        wait_until("the first try follows", lambda: "its state is FINISHED" in world.airflow.logs(dag, run, "submit"))
        os.kill(world.airflow.task(dag, run, "submit")["pid"], signal.SIGKILL)
        world.airflow.wait_for_task(dag, run, "submit", state, tries=2)
        again = world.headwater.query(f"rate_{name}")
        assert (again["runId"], again["state"] in ("RUNNING", "WAITING")) == (query["runId"], True)
        wait_until("the second try follows", lambda: "its state is FINISHED" in world.airflow.logs(dag, run, "submit", 2))
    world.airflow.set_task(dag, run, "submit", "failed")
    wait_until("the query is stopped", lambda: world.headwater.query(f"rate_{name}")["state"] == "STOPPED")


def test_killing_sql(world):
    run = world.airflow.trigger("sql_for_ever")
    world.airflow.wait_for_task("sql_for_ever", run, "sql", "running")

    def busy():
        before = world.headwater.executors_cpu_s()
        time.sleep(0.5)
        return world.headwater.executors_cpu_s() - before > 0.1

    wait_until("a task runs", busy)
    world.airflow.set_task("sql_for_ever", run, "sql", "failed")
    wait_until("no task runs", lambda: not busy())


@pytest.mark.skipif(not os.environ.get("PYSPARK_4_3_0"), reason="PYSPARK_4_3_0 not set: no Python with that PySpark")
def test_a_script(world):
    """It waits for its query for ever; the task is done when that has committed a batch, and the query goes on."""
    run = world.airflow.trigger("submit_script")
    assert world.airflow.wait_for_run("submit_script", run) == "success", world.airflow.logs("submit_script", run, "submit")
    query = world.headwater.query("rate_script")
    assert query["state"] in ("RUNNING", "WAITING"), query
    assert f"started {query['id']}" in world.airflow.logs("submit_script", run, "submit")


@pytest.mark.skipif(not os.environ.get("HEADWATER_MEASURE"), reason="HEADWATER_MEASURE not set: nothing to measure")
def test_measure(world):
    """From the DAG's trigger to the last of 20,000 users readable in Cassandra."""
    users = int(os.environ["HEADWATER_MEASURE"])
    dag = "users_pipeline"
    for round_ in ("the first run of this Airflow", "the second", "the third"):
        before = world.count()
        began = time.monotonic()
        run = world.airflow.trigger(dag, users=users)
        wait_until("all users are in Cassandra", lambda: world.count() == before + users, 600)  # noqa: B023
        readable = time.monotonic() - began
        assert world.airflow.wait_for_run(dag, run, 600) == "success"
        whole = time.monotonic() - began
        tasks = world.airflow.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        times = ", ".join(f"{task['task_id']} {task['duration']:.1f} s" for task in tasks)
        print(f"{users} users, {round_}: the last is readable after {readable:.1f} s, success after {whole:.1f} s ({times})")
