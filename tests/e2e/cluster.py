"""Headwater's processes under test, and what is asked of them: the real binary, by its command line and its ports.

Every server binds port 0, or a port that is kept for it, and says on stderr what it got. Nothing here waits for a time:
`wait_until` waits for a condition, with a deadline that only a failure reaches.
"""

import atexit
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import cql

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
# Generous: the machine may be compiling something else, and the binary is a debug build.
DEADLINE = float(os.environ.get("HEADWATER_TEST_DEADLINE", "90"))


def binary():
    path = os.environ.get("HEADWATER_BIN")
    if not path:
        raise RuntimeError("HEADWATER_BIN is not set: it names the headwater binary (tests/run sets it)")
    return path


def kafka():
    return os.environ["KAFKA_ADDRESS"]


def cassandra():
    return os.environ["CASSANDRA_ADDRESS"]


def environment():
    """Ours without the variables that would configure Headwater."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    return {**kept, "NO_COLOR": "1", "RUST_BACKTRACE": "1"}


# Panics of libraries, each of something that is ending, and of no consequence: where, and what.
HARMLESS_PANICS = [
    # A task that arrives for a registration that has just ended; the scheduler gives it to another executor.
    ("ballista-executor-", "SendError"),
    # The driver of Cassandra waits for its own task in a runtime that is going away with it.
    ("scylla-", "JoinError::Cancelled"),
]


def panic(text):
    """The first panic in a process's output that is not known to be harmless; none when there is none."""
    for match in re.finditer(r"panicked at (\S+)\n(.*)", text):
        if not any(place in match[1] and what in match[2] for place, what in HARMLESS_PANICS):
            return text[max(match.start() - 200, 0) :][:3000]
    return None


class Late(AssertionError):
    """A condition did not come true before its deadline."""


def wait_until(what, condition, seconds=None):
    """The first true value of `condition()`; `what` says in the error what was waited for."""
    deadline = time.monotonic() + (seconds or DEADLINE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Late(f"not after {seconds or DEADLINE:.0f} s: {what}; last seen: {value!r}")
        time.sleep(0.05)


_libc = ctypes.CDLL(None)


def in_child():
    """Runs in the new process: it does not outlive us, and ctrl-C means to it what it means on a terminal.

    A shell starts its background commands, and so everything below tests/run, with that signal ignored.
    """
    PR_SET_PDEATHSIG = 1
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Process:
    """A server in a process group of its own; its output goes to a file."""

    def __init__(self, log, *arguments, variables=None, wrap=()):
        """`wrap`: a command that runs the binary, in front of it."""
        self.log = pathlib.Path(log)
        self.arguments = arguments
        with open(self.log, "ab") as output:
            self._from = output.tell()
            self._process = subprocess.Popen(
                [*wrap, binary(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment(), **(variables or {})},
                start_new_session=True,
                preexec_fn=in_child,
            )
        self.pid = self._process.pid

    def text(self):
        """What it has printed."""
        with open(self.log, "rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")

    def address(self, kind):
        """host:port from the line `KIND listening on HOST:PORT`."""

        def printed():
            if match := re.search(rf"^{kind} listening on (\S+:\d+)$", self.text(), re.MULTILINE):
                return match[1]
            if not self.alive():
                raise AssertionError(f"headwater {' '.join(self.arguments)} has ended:\n{self.text()[-4000:]}")
            return None

        return wait_until(f"{self.log.name} says where its {kind} port is", printed)

    def alive(self):
        return self._process.poll() is None

    def signal(self, what):
        os.killpg(self.pid, what)

    def wait(self, seconds):
        """Its exit status."""
        return self._process.wait(seconds)

    def kill(self):
        """SIGKILL to the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def terminate(self, seconds=30):
        """SIGTERM, then waits for the end; its exit status.

        The end of an idle executor is bounded by 15 s: 5 to say that it stops, 10 for its parts.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.log.name} did not end within {seconds} s of SIGTERM:\n{self.text()[-4000:]}")


class Result:
    """What a finished command printed."""

    def __init__(self, arguments, status, out, err):
        self.arguments, self.status, self.out, self.err = arguments, status, out, err

    def __str__(self):
        command = " ".join(str(argument) for argument in self.arguments)
        return f"headwater {command}\nexit status {self.status}\nstdout: {self.out[-4000:]}\nstderr: {self.err[-4000:]}"


def headwater(*arguments, stdin="", seconds=None, scheduler=None):
    """Runs the binary to its end."""
    settings = environment()
    if scheduler:
        settings["HEADWATER_SCHEDULER"] = scheduler
    process = subprocess.Popen(
        [binary(), *[str(argument) for argument in arguments]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=settings,
        start_new_session=True,
        preexec_fn=in_child,
    )
    try:
        out, err = process.communicate(stdin.encode(), seconds or DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        result = Result(arguments, "killed", out.decode(errors="replace"), err.decode(errors="replace"))
        raise Late(f"not ended after {seconds or DEADLINE:.0f} s: {result}")
    result = Result(arguments, process.returncode, out.decode(), err.decode())
    assert not panic(result.err), f"a panic: {result}"
    return result


class Ports:
    """Ports of a server that is started again: nobody else is given them while it is down.

    Each is bound here and never listened on: who asks for it by number gets it, who asks for any does not.
    """

    def __init__(self, count=3):
        self._held = []
        for _ in range(count):
            held = socket.socket()
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            self._held.append(held)
        self.numbers = [str(held.getsockname()[1]) for held in self._held]

    def close(self):
        for held in self._held:
            held.close()


class Cluster:
    """A scheduler and executors as processes of their own, over one state directory."""

    def __init__(self, name, executors=2, task_slots=2, state=None, **variables):
        """`variables`: of the environment of every process."""
        logs = pathlib.Path(os.environ.get("HEADWATER_TEST_LOGS") or tempfile.mkdtemp(prefix="headwater-e2e-"))
        self.logs = logs / name
        self.logs.mkdir(parents=True, exist_ok=True)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"headwater-{name}-"))
        atexit.register(self._discard)  # for a run that is cut off
        self.state = state or self.folder / "state"
        self.task_slots = task_slots
        self.variables = variables
        self.executors = []
        self.scheduler = None
        self.ports = Ports()
        self.grpc = self.connect = self.http = None
        try:
            self.start_scheduler()
            for _ in range(executors):
                self.start_executor()
            self.wait_for_executors(executors)
        except BaseException:
            self._discard()
            raise

    def start_scheduler(self, **variables):
        """Each time on the same ports. `variables`: of its environment."""
        grpc, connect, http = self.ports.numbers
        self.scheduler = Process(
            self.logs / "scheduler.log",
            *("scheduler", "--state-dir", str(self.state)),
            *("--grpc-port", grpc, "--connect-port", connect, "--http-port", http),
            variables={**self.variables, **variables},
        )
        self.grpc = self.scheduler.address("grpc")
        self.connect = self.scheduler.address("connect")
        self.http = self.scheduler.address("http")
        wait_until("the scheduler is healthy", self.healthy)

    def start_executor(self):
        number = len(self.executors) + 1
        work = self.folder / f"executor-{number}"
        executor = Process(
            self.logs / f"executor-{number}.log",
            *("executor", "--scheduler", self.grpc, "--task-slots", str(self.task_slots), "--work-dir", str(work)),
            *("--http-port", "0"),
            variables=self.variables,
        )
        self.executors.append(executor)
        return executor

    def stop(self):
        """Ends everything in good order; fails when a process did not, or when one of them panicked."""
        try:
            for process in [*self.executors, self.scheduler]:
                if process.alive():
                    process.terminate()
            for log in self.logs.glob("*.log"):
                text = log.read_text(errors="replace")
                if unknown := panic(text):
                    raise AssertionError(f"a panic in {log}:\n{unknown}")
        finally:
            self._discard()

    def _discard(self):
        for process in [*self.executors, self.scheduler]:
            if process and process.alive():
                process.kill()
        self.ports.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self._discard)

    # --- HTTP ---

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as answer:
            return answer.read().decode()

    def healthy(self):
        try:
            self.get("/healthz")
            return True
        except (OSError, urllib.error.URLError):
            assert self.scheduler.alive(), f"the scheduler has ended:\n{self.scheduler.text()[-4000:]}"
            return False

    def executor_tasks(self):
        """Tasks that each executor has completed, by executor id."""
        return {executor["id"]: executor["tasksCompleted"] for executor in json.loads(self.get("/api/v1/executors"))}

    def executor_metric(self, executor, family):
        """The value of a sample without labels on an executor's own page."""
        with urllib.request.urlopen(f"http://{executor.address('http')}/metrics", timeout=10) as answer:
            [value] = re.findall(rf"^{family} (\S+)$", answer.read().decode(), re.MULTILINE)
            return float(value)

    def wait_for_executors(self, count):
        return wait_until(f"{count} executors are registered", lambda: len(self.executor_tasks()) == count)

    # --- the command line ---

    def run(self, *arguments, **options):
        return headwater(*arguments, scheduler=self.grpc, **options)

    def ok(self, *arguments, **options):
        """Runs it; fails unless it exits 0. What it printed on stdout."""
        result = self.run(*arguments, **options)
        assert result.status == 0, str(result)
        return result.out

    def refused(self, *arguments, status=1, **options):
        """Runs it; fails unless it exits with `status`. What it printed on stderr."""
        result = self.run(*arguments, **options)
        assert result.status == status, f"expected exit status {status}: {result}"
        assert result.err.strip(), f"nothing said why: {result}"
        return result.err

    def sql(self, text, **options):
        """The rows of a query, as objects."""
        return json.loads(self.ok("sql", "--format", "json", text, **options))

    def queries(self):
        return {query["name"]: query for query in json.loads(self.ok("query", "list", "--json"))}

    def progress(self, reference):
        return json.loads(self.ok("query", "progress", reference, "--json"))

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def submit_text(self, name, text):
        """Starts the flows of this SQL."""
        return self.ok("submit", self.file(f"{name}.sql", text), "--detach")

    def submit(self, flow, *arguments, detach=True):
        """Starts the flow; the id of its query."""
        out = self.ok("submit", self.file(f"{flow.name}.sql", flow.sql()), *flow.settings(), *arguments, *["--detach"] * detach)
        match = UUID.search(out)
        assert match, f"submit printed no id: {out!r}"
        return match[0]


class Flow:
    """The flow of examples/users.sql with a topic, a table and a name of its own."""

    def __init__(self, name, kafka_options=None, cassandra_options=None, create_table=False, **settings):
        self.name = f"{name}_{os.urandom(4).hex()}"
        self.topic = f"{self.name}_topic"
        self.table = f"{self.name}_table"
        self.kafka_options = kafka_options or {}
        self.cassandra_options = cassandra_options or {}
        self.create_table = create_table
        # Of the records, beside the users'.
        self.fields = ""
        self.values = settings

    def settings(self):
        values = {"kafka": kafka(), "cassandra": cassandra(), **self.values}
        return [argument for name, value in values.items() for argument in ("--set", f"{name}={value}")]

    def sql(self):
        text = (EXAMPLES / "users.sql").read_text()
        for old, new in [
            ("users_created", self.topic),
            ("created_users", self.table),
            ("'id STRING, ", f"'{self.fields}id STRING, "),
            ("CREATE FLOW users AS", f"CREATE FLOW {self.name} AS"),
            ("startingOffsets 'earliest'", "startingOffsets 'earliest'" + _more(self.kafka_options)),
            ("keyspace 'spark_streams'", "keyspace 'spark_streams'" + _more(self.cassandra_options)),
            ("'headwater.createTable' 'true'", f"'headwater.createTable' '{str(self.create_table).lower()}'"),
        ]:
            assert old in text, f"examples/users.sql has no {old!r}"
            text = text.replace(old, new)
        return text

    def create_topic(self, cluster, partitions=4):
        cluster.ok("topic", "create", self.topic, "--partitions", partitions, "--kafka", kafka())

    def make_table(self):
        """By the statements of examples/users.cql."""
        text = (EXAMPLES / "users.cql").read_text().replace("created_users", self.table)
        with cql.Connection(cassandra()) as connection:
            for statement in text.split(";"):
                if statement.strip():
                    connection.execute(statement)

    def set_up(self, cluster, partitions=4):
        self.create_topic(cluster, partitions)
        self.make_table()

    def produce(self, cluster, records):
        produce(cluster, self.topic, records)

    def ids(self):
        """The ids in the table, read without Headwater."""
        return sorted(str(row[0]) for row in self._select("id"))

    def count(self):
        """Rows in the table."""
        return self._select("count(*)")[0][0]

    def has_rows(self):
        """Whether a row is in the table: that answers at once where a count takes long."""
        return bool(self._select("*", "LIMIT 1"))

    def _select(self, columns, more=""):
        """Rows of the table. A server that is short of processor gives a scan up; it is asked again."""

        def answered():
            with cql.Connection(cassandra()) as connection:
                try:
                    return [connection.execute(f"SELECT {columns} FROM spark_streams.{self.table} {more}")]
                except cql.Error as error:
                    if str(error).startswith(("0x1200 ", "0x1300 ")):  # read timeout, read failure
                        return None
                    raise

        [rows] = wait_until(f"Cassandra reads {columns} of {self.table}", answered)
        return rows

    def wait_for_ledger(self, cluster, expected, seconds=None):
        """Until the table has as many rows as were produced and nothing is behind; then it must be exactly those."""

        def settled():
            assert (query := cluster.queries().get(self.name)), f"the query {self.name} is gone"
            assert query["state"] != "FAILED", f"the query failed: {query['message']}"
            return query["lag"] == 0 and self.count() >= len(expected)

        try:
            wait_until(f"{len(expected)} users are in {self.table}, and no lag", settled, seconds)
        except Late as late:
            raise Late(f"{late}; {self.count()} rows; {cluster.queries().get(self.name)}") from None
        found = self.ids()
        missing, unknown = set(expected) - set(found), set(found) - set(expected)
        assert not missing and not unknown, f"{len(missing)} missing {list(missing)[:3]}, {len(unknown)} nobody made"
        assert len(found) == len(set(found)) == len(expected)


def _more(options):
    return "".join(f", '{name}' '{value}'" for name, value in options.items())


def produce(cluster, topic, records):
    """Sends records (objects, or texts as they are) with `headwater topic produce`, which waits for every one."""
    lines = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
    cluster.ok("topic", "produce", topic, "--kafka", kafka(), stdin="".join(line + "\n" for line in lines))
