"""The part of compose.yaml that can be run without a registry of images: scheduler and executors.

A Stack is asked as the processes of tests/e2e are, over the ports that Compose publishes. The engine is with-engine.sh's:
every port is free in there.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import unittest
import urllib.request

import users
from cluster import ROOT, Cluster, environment, headwater, panic, wait_until

COMPOSE_FILE = ROOT / "compose" / "compose.yaml"
# In place of compose/.env, which the checkout may have; Compose 1 takes no device for a file.
NO_SETTINGS = str(ROOT / "tests" / "compose" / "nothing.env")
# The other one where it was compiled (get-compose-v5).
COMPOSES = {"v1": ["docker-compose"]}
with contextlib.suppress(FileNotFoundError):
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        COMPOSES["v5"] = ["docker", "compose"]

needs_engine = unittest.skipIf(
    "HEADWATER_NO_ENGINE" in os.environ, os.environ.get("HEADWATER_NO_ENGINE") or "no Docker engine"
)
needs_http = unittest.skipUnless(
    "HEADWATER_NO_ENGINE" in os.environ or "--http-port" in headwater("help", "executor").out,
    "the executors of this binary serve no HTTP",
)


def run(*command, status=0, **options):
    """What the command printed, on both streams; fails unless it ends as expected."""
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert ended.returncode == status, f"{command}: exit status {ended.returncode}: {ended.stdout[-4000:]}"
    return ended.stdout


def docker(*arguments, **options):
    return run("docker", *arguments, **options).strip()


class Stack(Cluster):
    def __init__(self, name, compose="v1", executors=2, services=("scheduler", "executor"), **variables):
        logs = pathlib.Path(os.environ.get("HEADWATER_TEST_LOGS") or tempfile.mkdtemp(prefix="headwater-compose-"))
        self.logs = logs / name
        self.logs.mkdir(parents=True, exist_ok=True)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"headwater-{name}-"))
        self.grpc, self.connect, self.http = "127.0.0.1:50050", "127.0.0.1:15002", "127.0.0.1:4040"
        self._compose = [*COMPOSES[compose], "--env-file", NO_SETTINGS, "-f", str(COMPOSE_FILE), "-p", name.replace("_", "").lower()]
        self._variables = {"HEADWATER_IMAGE": "headwater:test", "HEADWATER_LOG_FORMAT": "text", **variables}
        self._services = services
        self._followed = {}
        try:
            self.up(executors)
        except BaseException:
            self.stop()
            raise

    # --- Compose ---

    def compose(self, *arguments, **options):
        settings = {**environment(), **self._variables}
        return run(*self._compose, *arguments, env=settings, cwd=self.folder, **options)

    def up(self, executors):
        self.compose("up", "-d", "--no-build", "--scale", f"executor={executors}", *self._services)
        for container in self.containers():
            self.follow(container)

    def containers(self, service=None):
        """Ids of those that run."""
        return self.compose("ps", "-q", *([service] if service else [])).split()

    def follow(self, container):
        """Its log goes to a file, which outlives it."""
        if container not in self._followed:
            with open(self.logs / f"{container[:12]}.log", "wb") as log:
                self._followed[container] = subprocess.Popen(
                    ["docker", "logs", "-f", container], stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )

    def log(self, container):
        return (self.logs / f"{container[:12]}.log").read_text(errors="replace")

    def down(self, *arguments):
        self.compose("down", "-t", "30", *arguments)

    def stop(self):
        """Removes everything; fails when something panicked."""
        try:
            self.down("-v")
        finally:
            for process in self._followed.values():
                process.wait(30)
        for container in self._followed:
            text = self.log(container)
            if unknown := panic(text):
                raise AssertionError(f"a panic: {unknown}")

    # --- what is in there ---

    def healthy(self):
        try:
            return json.loads(self.get("/healthz"))["status"] == "ok"
        except (OSError, ValueError):
            return False

    def health(self, container):
        return docker("inspect", "-f", "{{.State.Health.Status}}", container)

    def wait_healthy(self, *services):
        for service in services:
            for container in self.containers(service):
                wait_until(f"{service} {container[:12]} is healthy", lambda: self.health(container) == "healthy")

    def kill(self, container):
        """SIGKILL from outside, as the kernel sends it where memory has run out: `docker kill` would mean that it is not
        to come back."""
        os.kill(int(docker("inspect", "-f", "{{.State.Pid}}", container)), signal.SIGKILL)

    def address(self, container):
        return docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)

    def metrics(self, container):
        with urllib.request.urlopen(f"http://{self.address(container)}:4040/metrics", timeout=10) as answer:
            return answer.read().decode()

    def ends(self, since):
        """Exit statuses of executors that have ended since then, by container."""
        told = docker(
            *("events", "--since", str(since), "--until", docker("info", "-f", "{{.SystemTime}}")),
            *("--filter", "type=container", "--filter", "event=die", "--format", "{{json .}}"),
        )
        events = [json.loads(line) for line in told.splitlines()]
        return {
            event["id"]: int(event["Actor"]["Attributes"]["exitCode"])
            for event in events
            if event["Actor"]["Attributes"].get("com.docker.compose.service") == "executor"
        }


class Pair(Stack):
    """With profile ha: whatever asks it asks the one that leads."""

    PORTS = {"scheduler": (50050, 4040), "scheduler-2": (50051, 4041)}

    def __init__(self, name, **options):
        super().__init__(name, **options)
        self.grpc = ",".join(f"127.0.0.1:{grpc}" for grpc, _ in self.PORTS.values())

    def role(self, service):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.PORTS[service][1]}/healthz", timeout=2) as answer:
                return json.loads(answer.read())["role"]
        except (OSError, ValueError):
            return None

    def leader(self):
        return next((service for service in self.PORTS if self.role(service) == "leader"), None)

    def standby(self):
        return next((service for service in self.PORTS if self.role(service) == "standby"), None)

    @property
    def http(self):
        return f"127.0.0.1:{self.PORTS[wait_until('one of the schedulers leads', self.leader)][1]}"

    @http.setter
    def http(self, _):
        pass


class Load:
    """Users, produced without a pause until it is left; `made` is the ledger."""

    def __init__(self, cluster, flow, piece=300):
        self.cluster, self.flow, self.piece = cluster, flow, piece
        self.made = []
        self._over = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            while not self._over.is_set():
                piece = list(users.make(self.piece, f"{self.flow.name} {len(self.made)}"))
                self.flow.produce(self.cluster, piece)
                self.made.extend(piece)
        except BaseException as failure:  # told by whoever waits for the thread
            self._failure = failure

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        if self._failure:
            raise self._failure
