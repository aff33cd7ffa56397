"""A real Airflow 3: its four processes on SQLite, and its REST API. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
DEADLINE = float(os.environ.get("HEADWATER_TEST_DEADLINE", "120"))
_libc = ctypes.CDLL(None)


def wait_until(what, condition, seconds=DEADLINE):
    """The first true value of `condition()`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not after {seconds:.0f} s: {what}; last seen: {value!r}"
        time.sleep(0.1)


def free_ports(count):
    """The first of so many ports in a row that nobody listens on, at any address.

    Airflow takes them seconds later: they are below those that the system gives to whoever asks for any, or connects.
    """
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(max(lowest - 8_000, 1_024), lowest - count) or range(1_024, 60_000)
    while True:
        first = random.choice(ports)
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("", port))
            return first


def _die_with_parent():
    PR_SET_PDEATHSIG = 1
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Airflow:
    """Starts it in `folder`, with the DAGs of `dags` and these further environment variables."""

    def __init__(self, folder, dags, environment):
        self.folder = pathlib.Path(folder)
        port = free_ports(4)
        self.base = f"http://127.0.0.1:{port}"
        self.mark = f"headwater-airflow-{os.getpid()}-{os.urandom(4).hex()}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHONDONTWRITE"))},
            # `airflow` calls itself by name.
            "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(self.folder / "home"),
            "HEADWATER_AIRFLOW_MARK": self.mark,
            # Else process titles overwrite /proc/PID/environ, by which leftovers are found.
            "SPT_NOENV": "1",
            "PYTHONWARNINGS": "ignore",
            "PYTHONUNBUFFERED": "1",
            **{f"AIRFLOW__{name}": value for name, value in self._settings(port, dags).items()},
            **environment,
        }
        self.processes = {}

    def _settings(self, port, dags):
        return {
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.folder}/home/airflow.db",
            "CORE__DAGS_FOLDER": str(dags),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__TEST_CONNECTION": "Enabled",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.base}/execution/",
            "CORE__FERNET_KEY": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
            "CORE__KILLED_TASK_CLEANUP_TIME": "10",
            "API__HOST": "127.0.0.1",
            "API__PORT": str(port),
            "API__WORKERS": "1",
            "API__BASE_URL": self.base,
            # Of a length that HS512 takes.
            "API_AUTH__JWT_SECRET": "test-secret-" * 6,
            "LOGGING__LOGGING_LEVEL": "INFO",
            "LOGGING__WORKER_LOG_SERVER_PORT": str(port + 1),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(port + 2),
            "SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(port + 3),
            "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "SCHEDULER__JOB_HEARTBEAT_SEC": "1",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "TRIGGERER__ON_KILL_TIMEOUT": "10",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            # The first request builds the application.
            "WORKERS__EXECUTION_API_TIMEOUT": "30",
        }

    def start(self):
        (self.folder / "home").mkdir(parents=True)
        self._airflow("db", "migrate", wait=True)
        for component in COMPONENTS:
            self.processes[component] = self._airflow(component)
        wait_until("Airflow's four parts are healthy", self._healthy)

    def _airflow(self, *arguments, wait=False):
        log = open(self.folder / f"{arguments[0]}.log", "ab")  # noqa: SIM115
        command = [pathlib.Path(sys.executable).with_name("airflow"), *arguments]
        if wait:
            subprocess.run(command, env=self.environment, stdout=log, stderr=log, check=True)
            return None
        return subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )

    def _healthy(self):
        for component, process in self.processes.items():
            log = self.folder / f"{component}.log"
            assert process.poll() is None, f"{component} has ended:\n{log.read_text()[-3000:]}"
        try:
            return str(self._call("GET", "/api/v2/monitor/health")).count("'healthy'") == len(COMPONENTS)
        except OSError:
            return False

    def stop(self):
        """SIGKILL to all of it. Task processes have groups of their own, so they are found by their environment."""
        mark = f"HEADWATER_AIRFLOW_MARK={self.mark}".encode()
        for _ in range(3):
            for environ in pathlib.Path("/proc").glob("[0-9]*/environ"):
                with contextlib.suppress(OSError):
                    if mark in environ.read_bytes().split(b"\0"):
                        os.kill(int(environ.parent.name), signal.SIGKILL)
        for process in self.processes.values():
            process.wait()

    # --- REST ---

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from None

    def call(self, method, path, body=None):
        return self._call(method, f"/api/v2{path}", body)

    def form(self, connection_type):
        """A connection's form as the web interface gets it."""
        return {m["connection_type"]: m for m in self._call("GET", "/ui/connections/hook_meta")}[connection_type]

    def wait_for_dag(self, dag):
        def there():
            try:
                return not self.call("GET", f"/dags/{dag}")["is_stale"]
            except RuntimeError as error:
                if " 404 " not in str(error):
                    raise
                broken = self.call("GET", "/importErrors")["import_errors"]
                assert not broken, broken
                return False

        wait_until(f"DAG {dag} is there", there)

    def trigger(self, dag, **conf):
        self.wait_for_dag(dag)
        return self.call("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]

    def task(self, dag, run, task):
        return self.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}")

    def wait_for_task(self, dag, run, task, *states, tries=0):
        def there():
            found = self.task(dag, run, task)
            if found["state"] in states and found["try_number"] >= tries:
                return found
            over = found["state"] in ("success", "failed", "upstream_failed")
            assert not over, f"{task} is {found['state']}, not {states}:\n{self.logs(dag, run, task, found['try_number'])}"
            return None

        return wait_until(f"task {dag}.{task} is {' or '.join(states)}", there)

    def wait_for_trigger(self, dag, run, task, number=1):
        """Until the triggerer runs it: a task that is marked before has no trigger that could be killed."""
        folder = self.folder / f"home/logs/dag_id={dag}/run_id={run}/task_id={task}"

        def started():
            return any("starting" in log.read_text() for log in folder.glob(f"attempt={number}.log.trigger.*.log"))

        wait_until(f"the trigger of {dag}.{task} has started", started)

    def wait_for_run(self, dag, run, seconds=DEADLINE):
        def ended():
            state = self.call("GET", f"/dags/{dag}/dagRuns/{run}")["state"]
            return state if state in ("success", "failed") else None

        return wait_until(f"run {run} of {dag} has ended", ended, seconds)

    def set_task(self, dag, run, task, state):
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}?update_mask=new_state"
        return self.call("PATCH", path, {"new_state": state})

    def clear(self, dag, run, task):
        body = {"dry_run": False, "dag_run_id": run, "task_ids": [task], "only_failed": False}
        return self.call("POST", f"/dags/{dag}/clearTaskInstances", body)

    def logs(self, dag, run, task, number=1):
        content = self.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{number}")["content"]
        return "\n".join(one if isinstance(one, str) else str(one.get("event", "")) for one in content)

    def xcom(self, dag, run, task, key="return_value"):
        return self.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}")["value"]

    def links(self, dag, run, task):
        return self.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/links")["extra_links"]
