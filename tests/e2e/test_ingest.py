"""Ingestion on real processes: a replay of the API, real PostgreSQL, real Kafka, and a ledger that is compared user by
user with what each of them holds, wherever a process was killed.

PostgreSQL is read by pg.py, not by Headwater; the replay server counts what it was asked.
"""

import collections
import contextlib
import gzip
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import unittest
import unittest.mock
import urllib.request
import uuid

from cluster import ROOT, UUID, Cluster, Flow, binary, environment, in_child, kafka, wait_until
from pg import Connection, Database

# A task sends some two hundred users a second: its middle can be met.
SLOW_SEND = ("--option", "kafka.queue.buffering.max.messages=10", "--option", "kafka.linger.ms=50")
COLUMNS = (
    "id first_name last_name gender address post_code email username dob registered_date phone picture country city "
    "nat latitude longitude ingested_at"
).split()
SECRET_FIELDS = ("password", "salt", "md5", "sha1", "sha256")


class Replay:
    """tests/services/randomuser.py in a process of its own."""

    def __init__(self, *arguments):
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/services/randomuser.py"), "--owner-stdin", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=in_child,
        )
        self.address = self._process.stdout.readline().decode().strip()
        assert self.address, "the replay server did not start"
        self.url = f"http://{self.address}/api/"

    def stop(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _request(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def faults(self, *faults):
        self._request("POST", "/_faults", list(faults))

    def behave(self):
        self._request("DELETE", "/_faults")

    def early(self, seed):
        """Requests for a seed while a Retry-After ran."""
        return self._request("GET", "/_stats")["early"].get(seed, 0)

    def pages(self, seed):
        """How often each page of a seed was answered well."""
        pages = {}
        for key, times in self._request("GET", "/_stats")["pages"].items():
            name, page, _ = key.rsplit("/", 2)
            if name == seed:
                pages[int(page)] = times
        return pages


class Line:
    """A way to a server that can be cut: its connections end, and new ones end at once."""

    def __init__(self, target):
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._lock = threading.Lock()
        self._whole = True
        self._sockets = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if not self._whole:
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    @staticmethod
    def _carry(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        with self._lock:
            self._whole = False
            for end in self._sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self):
        with self._lock:
            self._whole = True

    def close(self):
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for end in [self._listener, *self._sockets]:
            end.close()


class IngestCase(unittest.TestCase):
    """A cluster and a replay server for all tests of a class; a database, a topic and a seed for each test."""

    needs = ("KAFKA_ADDRESS", "POSTGRES_ADDRESS")
    replay_options = ()

    @classmethod
    def setUpClass(cls):
        cls.replay = Replay(*cls.replay_options)
        cls.addClassCleanup(cls.replay.stop)
        cls.cluster = Cluster(cls.__name__.lower())
        cls.addClassCleanup(cls.cluster.stop)

    def setUp(self):
        self.replay.behave()
        name = self._testMethodName.removeprefix("test_")[:30]
        self.database = Database(name)
        self.addCleanup(self.database.drop)
        self.run_id = f"{name} {os.urandom(4).hex()}"
        self.topic = self.run_id.replace(" ", "_")
        self.seed = f"s{os.urandom(6).hex()}"

    def arguments(self, users=1_000, *more, run=None, page_size=100, seed=None):
        return (
            *("ingest", "start", "--source", self.replay.url, "--users", users, "--topic", self.topic),
            *("--postgres", self.database.url, "--kafka", kafka(), "--page-size", page_size),
            *("--seed", seed or self.seed, "--run-id", run or self.run_id, *more),
        )

    def start(self, *arguments, **options):
        """Starts a run and lets it go."""
        return json.loads(self.cluster.ok(*self.arguments(*arguments, **options), "--detach", "--json"))

    def status(self, run=None):
        return json.loads(self.cluster.ok("ingest", "status", run or self.run_id, "--json"))

    def reaches(self, state, run=None, seconds=None):
        ended = ("FINISHED", "FAILED", "CANCELLED")

        def reached():
            status = self.status(run)
            assert status["state"] == state or status["state"] not in ended, f"{status['state']}: {status}"
            return status if status["state"] == state else None

        return wait_until(f"the run is {state}", reached, seconds)

    def wanted(self):
        """What the scheduler's file of the run says; None when there is no file."""
        files = [json.loads(path.read_text()) for path in self.files()]
        return next((file["wanted"]["is"] for file in files if file["runId"] == self.run_id), None)

    def files(self):
        return list(pathlib.Path(self.cluster.state).glob("**/ingest/*.json"))

    def holder(self):
        """A connection that holds the run, as another scheduler does."""
        connection = Connection(self.database.address, self.database.name)
        self.addCleanup(connection.close)
        lock = f"SELECT pg_try_advisory_lock(hashtextextended('headwater ingest {self.run_id}', 0))"
        wait_until("nobody holds the run", lambda: connection.value(lock) == "t")
        return connection

    def published(self):
        """Records in the topic."""
        described = self.cluster.run("topic", "describe", self.topic, "--kafka", kafka(), "--json")
        if described.status != 0:
            return 0
        return sum(partition["latest"] or 0 for partition in json.loads(described.out)["partitions"])

    def records(self):
        """(key, value) of everything in the topic."""
        count = self.published()
        if not count:
            return []
        lines = self.cluster.ok(
            *("topic", "tail", self.topic, "--kafka", kafka(), "--from", "beginning", "-n", count, "--json")
        ).splitlines()
        return [(record["key"], record["value"], record["partition"], record["offset"]) for record in map(json.loads, lines)]

    def assert_ledger(self, run, users, rejected=0, duplicates=0, pages_once=True):
        """The run's counts, staging and the topic agree user by user, and nobody is anywhere twice."""
        staged = users - rejected - duplicates
        counts = {name: run[name] for name in ("requested", "fetched", "staged", "published", "rejected", "duplicates")}
        self.assertEqual(
            counts,
            {
                "requested": users,
                "fetched": users,
                "staged": staged,
                "published": staged,
                "rejected": rejected,
                "duplicates": duplicates,
            },
            run,
        )
        rows = self.database.execute(
            "SELECT id, published_partition, published_offset FROM headwater.users "
            f"WHERE run_id = '{run['runId']}' AND published_at IS NOT NULL AND published_topic = '{self.topic}'"
        )
        self.assertEqual(len(rows), staged)
        records = self.records()
        twice = [key for key, times in collections.Counter(key for key, *_ in records).items() if times > 1]
        self.assertEqual(twice, [], f"{len(twice)} users are in the topic more than once")
        places = {key: (str(partition), str(offset)) for key, _, partition, offset in records}
        self.assertEqual({row[0]: row[1:] for row in rows}, places, "staging says where each record is")
        self.assertEqual(self.database.value("SELECT count(*) FROM headwater.ingest_rejected"), str(rejected))
        self.assertEqual(self.database.value("SELECT count(*) FROM headwater.ingest_arrivals"), "0", "nothing is left over")
        ends = collections.defaultdict(int)
        for _, _, partition, offset in records:
            ends[str(partition)] = max(ends[str(partition)], offset + 1)
        self.assertEqual(run["endOffsets"], dict(ends))
        pages = self.replay.pages(run["seed"])
        self.assertEqual(set(pages), set(range(1, len(pages) + 1)))
        if pages_once:
            self.assertEqual(set(pages.values()), {1}, "no page was asked for again")


class Ledger(IngestCase):
    def test_five_thousand_users(self):
        """Recorded users and made-up ones, some of no use: each is where the ledger says, and no secret is anywhere."""
        self.replay.faults(
            {"kind": "wrong_types", "pages": [2], "positions": [0, 7]},
            {"kind": "missing_id", "pages": [3], "positions": [5]},
            {"kind": "duplicate", "pages": [4], "positions": [9]},
            {"kind": "zero_character", "pages": [5], "positions": [4]},
        )
        arguments = self.arguments(5_000, "--keep-raw", page_size=1_000, seed="headwater")
        watched = self.cluster.run(*arguments)
        self.assertEqual(watched.status, 0, str(watched))
        self.assertEqual(watched.out.strip(), self.run_id)
        self.assertIn("FINISHED: 5,000 fetched, 4,995 staged, 4,995 published, 5 rejected", watched.err)
        run = self.status()
        self.assert_ledger(run, 5_000, rejected=5)
        self.assertEqual(sum(run["rejectedByReason"].values()), 5, run)
        self.assertGreaterEqual(len(run["rejectedByReason"]), 4, run)
        self.assert_records()
        self.assert_no_secrets()

        # The same request is the same run, and asks the API for nothing.
        again = json.loads(self.cluster.ok(*arguments, "--json").splitlines()[-1])
        self.assertEqual((again["state"], again["startedAt"]), ("FINISHED", run["startedAt"]))
        self.assert_ledger(again, 5_000, rejected=5)
        # Another is refused, with what differs.
        refusal = self.cluster.refused(*self.arguments(4_000, "--keep-raw", page_size=1_000, seed="headwater"))
        self.assertIn("INGEST_RUN_EXISTS", refusal)
        self.assertIn("users was 5000 and is 4000", refusal)
        # Another run of the same users finds them all there.
        other = json.loads(
            self.cluster.ok(*self.arguments(1_000, run=f"{self.run_id} again", page_size=1_000, seed="headwater"), "--json").splitlines()[-1]
        )
        self.assertEqual((other["duplicates"], other["staged"], other["published"]), (1_000, 0, 0), other)

        listed = json.loads(self.cluster.ok("ingest", "list", "--json"))
        self.assertIn(self.run_id, [entry["runId"] for entry in listed])
        self.assertIn(self.run_id, self.cluster.ok("ingest", "list"))
        self.assertIn("4,995", self.cluster.ok("ingest", "status", self.run_id))
        api = json.loads(self.cluster.get("/api/v1/ingest"))
        self.assertEqual([entry for entry in api if entry["runId"] == self.run_id][0]["published"], 4_995)
        self.assertEqual(json.loads(self.cluster.get(f"/api/v1/ingest/{self.run_id.replace(' ', '%20')}"))["state"], "FINISHED")
        metrics = self.cluster.get("/metrics")
        self.assertIn(f'headwater_ingest_published_users{{run="{self.run_id}"}} 4995', metrics)
        self.assertIn(f'headwater_ingest_active{{run="{self.run_id}"}} 0', metrics)

        # Staging is a table like any other.
        table = self.topic + "_staging"
        self.cluster.ok(
            "sql",
            f"CREATE TABLE `{table}` USING postgres OPTIONS (url '{self.database.url}', dbtable 'headwater.users')",
        )
        rows = self.cluster.sql(f"SELECT count(*) AS users, count(DISTINCT id) AS ids FROM `{table}` WHERE published_at IS NOT NULL")
        self.assertEqual(rows, [{"users": 4_995, "ids": 4_995}])

    def assert_records(self):
        """Each record is the row of staging, its key the id."""
        names = [name for name in COLUMNS if name != "ingested_at"]
        rows = self.database.execute(f"SELECT {', '.join(names)} FROM headwater.users")
        rows = {row[0]: dict(zip(names, row)) for row in rows}
        for key, value, *_ in self.records():
            record = json.loads(value)
            self.assertEqual(key, record["id"])
            self.assertTrue(record.pop("ingested_at"))
            expected = {name: text for name, text in rows[key].items() if text is not None}
            for number in ("latitude", "longitude"):
                expected[number] = float(expected[number])
            self.assertEqual(record, expected)

    def assert_no_secrets(self):
        """Not one password, salt or digest of the recorded replies, in any table, record or log."""
        secrets = set()
        for path in (ROOT / "tests/fixtures/randomuser").glob("*.json.gz"):
            for user in json.loads(gzip.decompress(path.read_bytes()))["results"]:
                secrets.update(user["login"][field] for field in SECRET_FIELDS if len(user["login"][field]) >= 8)
        self.assertGreater(len(secrets), 10_000)
        words = set()
        tables = self.database.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'headwater'")
        for (table,) in tables:
            for row in self.database.execute(f"SELECT * FROM headwater.{table}"):
                for value in row:
                    words.update(split(value or ""))
        for _, value, *_ in self.records():
            words.update(split(value))
        for log in self.cluster.logs.glob("*.log"):
            words.update(split(log.read_text(errors="replace")))
        # Some passwords are everyday words, which stand in addresses too: all digests and salts, and no rare password.
        found = {word for word in secrets & words if not word.isalpha()}
        self.assertEqual(found, set())
        raw = json.loads(self.database.value("SELECT raw FROM headwater.users LIMIT 1"))
        self.assertTrue(raw["login"]["uuid"])
        self.assertFalse(set(raw["login"]) & set(SECRET_FIELDS), raw["login"])

    def test_a_storm_of_refusals(self):
        """429, 500, errors in a 200 and bodies that are cut: every page comes once in the end."""
        self.replay.faults(
            {"kind": "429", "times": 12, "retry_after": 1, "seed": self.seed},
            {"kind": "500", "times": 2, "pages": [3], "seed": self.seed},
            {"kind": "error", "times": 2, "pages": [4], "seed": self.seed},
            {"kind": "cut", "times": 2, "pages": [5], "seed": self.seed},
            {"kind": "one", "times": 1, "pages": [6], "seed": self.seed},
        )
        self.start(1_000)
        # A refusal ends what else is under way, which is then asked for again.
        self.assert_ledger(self.reaches("FINISHED", seconds=180), 1_000, pages_once=False)

    def test_the_budget_of_the_source(self):
        """No more is asked than the limit allows, and the run says what it waits for."""
        self.start(1_000, "--option", "headwater.usersPerWindow=400")
        waiting = wait_until("the run waits", lambda: self.status() if "users in 5 minutes" in self.status()["message"] else None)
        self.assertEqual((waiting["state"], waiting["fetched"]), ("FETCHING", 400))
        self.assertEqual(set(self.replay.pages(self.seed)), {1, 2, 3, 4})
        self.assertIn("CANCELLED", self.cluster.ok("ingest", "cancel", self.run_id))

    def test_publish_alone(self):
        """Users of a run that was cancelled before it published go out by another."""
        self.replay.faults({"kind": "hang", "pages": [10], "seed": self.seed})
        self.start(1_000)
        wait_until("pages are staged", lambda: self.status()["staged"] >= 100)
        self.cluster.ok("ingest", "cancel", self.run_id)
        staged = self.status()["staged"]
        out = self.cluster.ok(
            *("ingest", "start", "--publish-only", "--topic", self.topic, "--postgres", self.database.url),
            *("--kafka", kafka(), "--json"),
        )
        run = json.loads(out.splitlines()[-1])
        self.assertEqual((run["state"], run["fetched"], run["staged"], run["published"]), ("FINISHED", 0, staged, staged))
        keys = [key for key, *_ in self.records()]
        self.assertEqual((len(keys), len(set(keys))), (staged, staged))
        # The first run goes on with what it lacks, and counts those as published.
        self.replay.behave()
        self.start(1_000)
        # Pages that were under way when it was cancelled are asked for again.
        self.assert_ledger(self.reaches("FINISHED"), 1_000, pages_once=False)

    def test_a_run_that_fails_as_its_database_is_away(self):
        """Its row says for ever that it goes on: its users go out by another run even so, and its end is told later."""
        line = Line(self.database.address)
        self.addCleanup(line.close)
        direct = self.database.url
        self.database.url = direct.replace(self.database.address, line.address)
        self.replay.faults({"kind": "hang", "pages": [10], "seed": self.seed})
        self.start(1_000, "--option", "headwater.retryTimeout=2 seconds")
        wait_until("pages are staged", lambda: self.status()["staged"] >= 100)
        line.cut()
        wait_until("it has failed", lambda: self.wanted() == "ENDED")
        self.replay.behave()
        line.mend()
        self.holder().close()
        state = f"SELECT state FROM headwater.ingest_runs WHERE run_id = '{self.run_id}'"
        self.assertEqual(self.database.value(state), "FETCHING")
        staged = int(self.database.value("SELECT count(*) FROM headwater.users"))
        out = self.cluster.ok(
            *("ingest", "start", "--publish-only", "--topic", self.topic, "--postgres", direct),
            *("--kafka", kafka(), "--json"),
        )
        run = json.loads(out.splitlines()[-1])
        self.assertEqual((run["state"], run["staged"], run["published"]), ("FINISHED", staged, staged), run)
        listed = {run["runId"]: run for run in json.loads(self.cluster.ok("ingest", "list", "--json"))}
        self.assertEqual(listed[self.run_id]["state"], "FAILED")
        failed = self.status()
        self.assertEqual((failed["state"], failed["errorClass"][:9]), ("FAILED", "POSTGRES_"), failed)
        self.assertEqual(self.database.value(state), "FAILED")
        self.start(1_000, "--option", "headwater.retryTimeout=2 seconds")
        self.assert_ledger(self.reaches("FINISHED"), 1_000, pages_once=False)

    def test_cancelled_and_resumed(self):
        self.replay.faults({"kind": "hang", "pages": [7], "seed": self.seed})
        self.start(1_000)
        wait_until("pages are staged", lambda: self.status()["staged"] >= 100)
        self.cluster.ok("ingest", "cancel", self.run_id)
        cancelled = self.status()
        self.assertEqual(cancelled["state"], "CANCELLED")
        self.assertEqual(self.status(), json.loads(self.cluster.ok("ingest", "cancel", self.run_id, "--json")), "again: nothing")
        self.assertEqual(self.published(), 0)
        watched = self.cluster.run("ingest", "watch", self.run_id)
        self.assertEqual(watched.status, 1, str(watched))
        self.replay.behave()
        self.start(1_000)
        # A page that was under way is asked for again; its users are the same.
        self.assert_ledger(self.reaches("FINISHED"), 1_000, pages_once=False)

    def test_cancelled_while_it_publishes(self):
        self.start(1_000, *SLOW_SEND)
        wait_until("some are sent", lambda: self.published() >= 50)
        cancelled = json.loads(self.cluster.ok("ingest", "cancel", self.run_id, "--json"))
        self.assertEqual(cancelled["state"], "CANCELLED")
        self.assertTrue(0 < cancelled["published"] < 1_000, cancelled)
        self.start(1_000, *SLOW_SEND)
        self.assert_ledger(self.reaches("FINISHED"), 1_000)

    def test_started_again_while_it_is_cancelled(self):
        """A start that meets a cancel waits for it, and goes on: it is not answered with the run that is just ending."""
        self.start(1_000, *SLOW_SEND)
        wait_until("some are sent", lambda: self.published() >= 50)
        cancel = subprocess.Popen(
            [binary(), "ingest", "cancel", self.run_id, "--json", "--scheduler", self.cluster.grpc],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            preexec_fn=in_child,
        )
        wait_until("it is told to stop", lambda: self.wanted() != "RUN")
        started = self.start(1_000, *SLOW_SEND)
        self.assertEqual(started["state"], "PENDING", started)
        out, err = cancel.communicate(timeout=60)
        self.assertEqual(cancel.returncode, 0, err.decode())
        self.assertEqual(json.loads(out)["runId"], self.run_id)
        self.assert_ledger(self.reaches("FINISHED"), 1_000)

    def test_a_run_that_cannot_be_had_is_not_promised(self):
        """A start that does not get the run says so, and leaves it as it is."""
        self.replay.faults({"kind": "hang", "pages": [1], "seed": self.seed})
        self.start(100)
        self.cluster.ok("ingest", "cancel", self.run_id)
        self.replay.behave()
        holder = self.holder()
        self.assertIn("INGEST_RUN_BUSY", self.cluster.refused(*self.arguments(100), "--detach"))
        self.assertEqual(self.database.value("SELECT state FROM headwater.ingest_runs"), "CANCELLED")
        self.assertEqual(self.status()["state"], "CANCELLED")
        holder.close()
        self.start(100)
        self.assert_ledger(self.reaches("FINISHED"), 100, pages_once=False)

    def test_watching_is_not_running(self):
        """ctrl-C ends the watching, not the run."""
        self.replay.faults({"kind": "slow", "seconds": 60, "pages": [2], "seed": self.seed})
        watcher = subprocess.Popen(
            [binary(), *map(str, self.arguments(300)), "--scheduler", self.cluster.grpc],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            preexec_fn=in_child,
        )
        self.assertEqual(watcher.stdout.readline().decode().strip(), self.run_id)
        wait_until("it runs", lambda: self.status()["state"] == "FETCHING")
        watcher.send_signal(signal.SIGINT)
        _, err = watcher.communicate(timeout=30)
        self.assertEqual(watcher.returncode, 130)
        self.assertIn("the run goes on", err.decode())
        self.replay.behave()
        self.assert_ledger(self.reaches("FINISHED"), 300, pages_once=False)

    def test_an_answer_that_never_came(self):
        """The client names the run even so, and the run goes on."""
        holder = Connection(self.database.address, self.database.name)
        self.addCleanup(holder.close)
        holder.execute(f"SELECT pg_advisory_lock({0x4845_4144_5741_5445})")  # that of migrations
        waiting = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        client = subprocess.Popen(
            [binary(), *map(str, self.arguments(100)[:-2]), "--scheduler", self.cluster.grpc],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            preexec_fn=in_child,
        )
        wait_until("the scheduler waits for the database", lambda: holder.value(waiting) == "1")
        client.send_signal(signal.SIGINT)
        _, err = client.communicate(timeout=30)
        self.assertEqual(client.returncode, 130, err.decode())
        self.run_id = UUID.search(err.decode())[0]
        holder.close()
        wait_until("the run has begun", lambda: self.cluster.run("ingest", "status", self.run_id).status == 0)
        self.assert_ledger(self.reaches("FINISHED"), 100)

    def test_what_is_wrong_is_named(self):
        quick = ("--option", "headwater.retryTimeout=2 seconds", "--postgres", self.database.url)
        base = ("ingest", "start", "--users", 100, "--topic", self.topic, "--json")

        def fails(source, brokers, expect):
            result = self.cluster.run(*base, "--source", source, "--kafka", brokers, *quick)
            self.assertEqual(result.status, 1, str(result))
            self.assertIn(expect, result.err)
            run = json.loads(result.out.splitlines()[-1])
            self.assertEqual((run["state"], f"[{run['errorClass']}]"), ("FAILED", expect))

        fails(self.replay.url, "127.0.0.1:1", "[KAFKA_UNREACHABLE]")
        fails("http://127.0.0.1:1/api/", kafka(), "[RANDOMUSER_UNREACHABLE]")
        refused = self.cluster.refused(
            *base, "--source", self.replay.url, "--kafka", kafka(), "--postgres", "postgresql://u:hunter2canary@127.0.0.1:1/d"
        )
        self.assertIn("[POSTGRES_UNREACHABLE]", refused)
        self.assertNotIn("hunter2canary", refused)
        for more, expect in [
            (("--postgres", self.database.url, "--nat", "XX"), "nat: "),
            (("--postgres", self.database.url, "--format", "avro"), "schema_registry: "),
            (("--postgres", self.database.url, "--option", "seed=x"), "no option seed"),
            ((), "postgres: "),
        ]:
            self.assertIn(expect, self.cluster.refused(*base, "--source", self.replay.url, "--kafka", kafka(), *more))
        for log in self.cluster.logs.glob("*.log"):
            self.assertNotIn("hunter2canary", log.read_text(errors="replace"))


class Slow(IngestCase):
    """An API that takes two seconds for an answer."""

    replay_options = ("--delay", "2")

    def test_a_retry_after_holds_for_every_task(self):
        """One request is refused; whatever executor asks for the other pages waits as long as that one was told to."""
        self.replay.faults({"kind": "429", "retry_after": 6, "times": 1, "pages": [1], "seed": self.seed})
        self.start(1_200)
        waiting = wait_until("the run is told", lambda: self.status() if "retry after 6 s" in self.status()["message"] else None)
        self.assertEqual(waiting["state"], "FETCHING")
        self.assert_ledger(self.reaches("FINISHED", seconds=120), 1_200, pages_once=False)
        self.assertEqual(self.replay.early(self.seed), 0, "requests while the source was to be left alone")


class Alone(IngestCase):
    """A scheduler without executors."""

    @classmethod
    def setUpClass(cls):
        cls.replay = Replay()
        cls.addClassCleanup(cls.replay.stop)
        cls.cluster = Cluster("ingest_alone", executors=0)
        cls.addClassCleanup(cls.cluster.stop)

    def test_a_limited_run_fails_in_time(self):
        """What was granted and never asked for is given back, so that the run neither waits for a window nor takes it
        from others."""
        self.start(400, "--option", "headwater.usersPerWindow=400", "--option", "headwater.retryTimeout=3 seconds")
        run = self.reaches("FAILED", seconds=180)
        self.assertEqual((run["errorClass"], run["fetched"]), ("NO_EXECUTORS", 0), run)
        self.assertEqual(self.database.value("SELECT sum(users) FROM headwater.ingest_grants"), "0")
        self.assertEqual(self.replay.pages(self.seed), {})


class Registry(IngestCase):
    """Avro and Protobuf records of a schema registry, from the API to a query that reads them."""

    needs = ("KAFKA_ADDRESS", "POSTGRES_ADDRESS", "REGISTRY_ADDRESS")

    def setUp(self):
        super().setUp()
        self.registry = os.environ["REGISTRY_ADDRESS"]
        self.subject = f"{self.topic}-value"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.registry + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def versions(self):
        return self.call("GET", f"/subjects/{self.subject}/versions")

    def users(self):
        """Staging, user by user."""
        names = ("id", "first_name", "nat", "latitude")
        rows = self.database.execute(f"SELECT {', '.join(names)} FROM headwater.users")
        return {row[0]: (row[1], row[2], float(row[3])) for row in rows}

    def stream(self, reading):
        """Submits a query that carries the users of the topic into files; `reading` makes a user of a record."""
        broker = f"'kafka.bootstrap.servers' '{kafka()}'"
        target = self.cluster.folder / f"{self.topic}-files"
        self.cluster.submit_text(
            f"{self.topic}-flow",
            f"""CREATE TABLE {self.topic}_in USING kafka
                OPTIONS ({broker}, subscribe '{self.topic}', startingOffsets 'earliest');
            CREATE TABLE {self.topic}_write USING kafka OPTIONS ({broker}, topic '{self.topic}');
            CREATE TABLE {self.topic}_out USING parquet OPTIONS (path '{target}');
            CREATE FLOW {self.topic}_flow AS INSERT INTO {self.topic}_out
                SELECT u.id, u.first_name, u.nat, u.latitude
                FROM (SELECT {reading} AS u FROM STREAM({self.topic}_in));""",
        )

    def query(self):
        return self.cluster.queries()[f"{self.topic}_flow"]

    def carried(self, count):
        """What the query has carried, once it is so many users."""

        def rows():
            query = self.query()
            self.assertNotEqual(query["state"], "FAILED", query["message"])
            found = self.cluster.run("sql", "--format", "json", f"SELECT * FROM {self.topic}_out")
            found = json.loads(found.out) if found.status == 0 else []  # no file yet
            return found if len(found) >= count else None

        found = wait_until(f"{count} users are carried", rows)
        self.assertEqual(len(found), count)
        return {row["id"]: (row["first_name"], row["nat"], row["latitude"]) for row in found}

    def more(self, name, form, *options, users=100):
        """Another run, to its end."""
        run = f"{self.run_id} {name}"
        self.start(users, "--format", form, "--schema-registry", self.registry, *options, run=run, seed=f"{name}{self.seed}")
        return self.reaches("FINISHED", run=run)

    def goes_through(self, form, reading, writing, evolved, kind, latest):
        """Users of this form reach a query. Then the subject gets an optional field, under the running query, and users
        come by the older schema, by the newer one, and by a run that takes whatever is latest."""
        self.start(100, "--format", form, "--schema-registry", self.registry)
        self.assert_ledger(self.reaches("FINISHED"), 100)
        self.assertEqual(self.versions(), [1])
        self.stream(reading)
        self.assertEqual(self.carried(100), self.users())
        started = self.query()["runId"]
        self.call("POST", f"/subjects/{self.subject}/versions", {"schema": evolved(), "schemaType": kind})
        self.assertEqual(self.versions(), [1, 2])
        struct = "named_struct('id', 'new', 'first_name', 'ann', 'nat', 'NL', 'latitude', 1.5D, 'loyalty', 'gold')"
        self.cluster.ok("sql", f"INSERT INTO {self.topic}_write SELECT {writing.format(struct)} AS value")
        self.assertEqual(self.carried(101)["new"], ("ann", "NL", 1.5))
        self.more("older", form)
        self.more("latest", form, *latest)
        carried = self.carried(301)
        del carried["new"]
        self.assertEqual(carried, self.users())
        self.assertEqual(self.versions(), [1, 2], "a run of today registers nothing that is not new")
        self.assertEqual(self.query()["runId"], started, "the query was never started again")
        # A query that is planned now has the field.
        loyalty = f"SELECT u.loyalty AS l FROM (SELECT {reading} AS u FROM {self.topic}_in) WHERE u.id = 'new'"
        self.assertEqual(self.cluster.sql(loyalty), [{"l": "gold"}])
        self.cluster.ok("query", "stop", f"{self.topic}_flow")

    def test_avro(self):
        def evolved():
            schema = json.loads(self.call("GET", f"/subjects/{self.subject}/versions/1")["schema"])
            self.assertEqual((schema["namespace"], schema["name"]), ("headwater", "User"))
            self.assertEqual([field["name"] for field in schema["fields"]], COLUMNS)
            schema["fields"].append({"name": "loyalty", "type": ["null", "string"], "default": None})
            return json.dumps(schema)

        of_subject = f"'{self.subject}', '{self.registry}'"
        self.goes_through(
            "avro",
            f"from_avro(value, {of_subject})",
            f"to_avro({{}}, {of_subject}, map('use.latest.version', 'true'))",
            evolved,
            "AVRO",
            ("--option", "schema.registry.use.latest.version=true"),
        )

    def test_protobuf(self):
        def evolved():
            text = self.call("GET", f"/subjects/{self.subject}/versions/1")["schema"]
            end = text.rindex("}")
            return text[:end] + "  optional string loyalty = 19;\n" + text[end:]

        of_subject = f"map('schema.registry.subject', '{self.subject}', 'schema.registry.address', '{self.registry}')"
        self.goes_through(
            "protobuf",
            f"from_protobuf(value, 'headwater.User', {of_subject})",
            f"to_protobuf({{}}, 'headwater.User', {of_subject})",
            evolved,
            "PROTOBUF",
            ("--option", "headwater.protobuf.message=headwater.User"),
        )

    def test_what_is_not_compatible_is_explained(self):
        """A subject that means something else: the run says which field by which rule, and has published nobody. Once that
        subject is gone, the run goes on."""
        other = {"type": "record", "name": "User", "namespace": "headwater", "fields": [{"name": "id", "type": "int"}]}
        self.call("POST", f"/subjects/{self.subject}/versions", {"schema": json.dumps(other)})
        self.start(100, "--format", "avro", "--schema-registry", self.registry)
        run = self.reaches("FAILED")
        self.assertEqual(run["errorClass"], "SCHEMA_REGISTRY_INCOMPATIBLE_SCHEMA", run)
        for words in (self.subject, "field `id`: written as int, which is not read as string", "BACKWARD"):
            self.assertIn(words, run["message"])
        self.assertEqual((run["staged"], run["published"], self.published()), (100, 0, 0), run)
        self.call("DELETE", f"/subjects/{self.subject}")
        self.start(100, "--format", "avro", "--schema-registry", self.registry)
        self.assert_ledger(self.reaches("FINISHED"), 100)

    def test_a_registry_that_is_away(self):
        """It is waited for, and named, though the task that misses it is the one that had claimed the users."""
        away = "http://127.0.0.1:1/apis"
        quick = ("--option", "headwater.retryTimeout=3 seconds")
        self.start(100, "--format", "avro", "--schema-registry", away, *quick)
        run = self.reaches("FAILED")
        self.assertEqual(run["errorClass"], "SCHEMA_REGISTRY_UNREACHABLE", run)
        self.assertIn("127.0.0.1:1", run["message"])
        self.assertEqual((run["staged"], run["published"]), (100, 0), run)
        self.assertGreater(int(self.database.value("SELECT count(*) FROM headwater.ingest_claims")), 0)


class OnZooKeeper(IngestCase):
    """The whole pipeline on the classic stack: a Kafka 3.9 that keeps its state in ZooKeeper."""

    needs = ("KAFKA_ZOOKEEPER_ADDRESS", "CASSANDRA_ADDRESS", "POSTGRES_ADDRESS")

    @classmethod
    def setUpClass(cls):
        address = os.environ["KAFKA_ZOOKEEPER_ADDRESS"]
        cls.enterClassContext(unittest.mock.patch.dict(os.environ, {"KAFKA_ADDRESS": address}))
        super().setUpClass()

    def test_from_the_api_to_cassandra(self):
        """Every user that staging has is in the table, and nobody else."""
        flow = Flow("zookeeper")
        flow.set_up(self.cluster)
        self.topic = flow.topic
        self.cluster.submit(flow)
        self.start(3_000, page_size=1_000)
        self.assert_ledger(self.reaches("FINISHED"), 3_000)
        staged = sorted(row[0] for row in self.database.execute("SELECT id FROM headwater.users"))
        self.assertEqual(len(staged), 3_000)
        flow.wait_for_ledger(self.cluster, staged)
        self.cluster.ok("query", "stop", flow.name)


class Killed(IngestCase):
    """SIGKILL at every step; then the ledger."""

    @classmethod
    def setUpClass(cls):
        cls.replay = Replay()
        cls.addClassCleanup(cls.replay.stop)

    def setUp(self):
        self.cluster = Cluster(self._testMethodName)
        self.addCleanup(self.cluster.stop)
        super().setUp()

    def test_executor_while_it_fetches(self):
        self.replay.faults({"kind": "slow", "seconds": 60, "pages": [20], "seed": self.seed})
        self.start(3_000)
        wait_until("some are staged", lambda: self.status()["staged"] > 0)
        self.cluster.executors[0].kill()
        self.assertLess(self.status()["staged"], 3_000, "the fault came too late")
        self.replay.behave()
        self.assert_ledger(self.reaches("FINISHED", seconds=180), 3_000, pages_once=False)

    def test_executor_while_it_publishes(self):
        # Three slices: either executor sends.
        self.start(6_000, *SLOW_SEND, page_size=1_000)
        wait_until("some are sent", lambda: self.published() >= 50)
        self.cluster.executors[0].kill()
        self.assertLess(self.published(), 6_000, "the fault came too late")
        self.assert_ledger(self.reaches("FINISHED", seconds=240), 6_000)

    def test_both_executors_while_they_publish(self):
        self.start(2_000, *SLOW_SEND)
        wait_until("some are sent", lambda: self.published() >= 50)
        for executor in list(self.cluster.executors):
            executor.kill()
        self.assertLess(self.published(), 2_000, "the fault came too late")
        self.cluster.start_executor()
        self.assert_ledger(self.reaches("FINISHED", seconds=240), 2_000)

    def test_scheduler_while_it_publishes(self):
        self.start(2_000, *SLOW_SEND)
        wait_until("some are sent", lambda: self.published() >= 50)
        self.cluster.scheduler.kill()
        self.cluster.start_scheduler()  # nobody tells the run to go on
        self.cluster.wait_for_executors(2)
        self.assertLess(self.status()["published"], 2_000, "the fault came too late")
        self.assert_ledger(self.reaches("FINISHED", seconds=240), 2_000)

    def staged_in_part(self, *more):
        """A run whose scheduler was killed while it fetched."""
        self.replay.faults({"kind": "hang", "pages": [9], "seed": self.seed})
        self.start(1_000, *more)
        wait_until("some are staged", lambda: self.status()["staged"] > 0)
        self.cluster.scheduler.kill()
        self.replay.behave()

    def test_a_run_that_ended_before_the_scheduler_began(self):
        """It is found, by its database alone if need be, and no metric says that it did nothing."""
        self.start(100)
        ended = self.reaches("FINISHED")
        self.assertIn(f'headwater_ingest_published_users{{run="{self.run_id}"}} 100', self.cluster.get("/metrics"))
        first = self.run_id
        self.run_id = f"{first} again"
        self.start(100)
        self.reaches("FINISHED")
        (file,) = [path for path in self.files() if json.loads(path.read_text())["runId"] == first]
        self.cluster.scheduler.terminate()
        file.unlink()  # as of a run that ended long ago
        self.cluster.start_scheduler()
        self.assertEqual(self.status(first), ended)
        self.assertEqual({run["runId"] for run in json.loads(self.cluster.ok("ingest", "list", "--json"))}, {first, self.run_id})
        self.assertNotIn(f'run="{first}', self.cluster.get("/metrics"))
        self.assertIn("INGEST_RUN_NOT_FOUND", self.cluster.refused("ingest", "status", "nobody"))
        self.assertIn("INGEST_RUN_NOT_FOUND", self.cluster.refused("ingest", "cancel", "nobody"))

    def test_a_run_that_was_ended_elsewhere(self):
        """It was cancelled through another scheduler while its own was down, and is not taken up again."""
        self.staged_in_part()
        self.holder().close()  # nothing of the old scheduler is under way any more
        self.database.execute("UPDATE headwater.ingest_runs SET state = 'CANCELLED', message = 'elsewhere', ended_at = now()")
        self.cluster.start_scheduler()
        self.cluster.wait_for_executors(2)
        run = self.reaches("CANCELLED")
        self.assertEqual((run["message"], run["published"]), ("elsewhere", 0), run)
        self.assertEqual(self.database.value("SELECT state FROM headwater.ingest_runs"), "CANCELLED")
        self.start(1_000)
        self.assert_ledger(self.reaches("FINISHED"), 1_000, pages_once=False)

    def test_a_run_that_is_held_is_waited_for(self):
        """A scheduler that died with its machine seems to go on driving its runs: whoever resumes one waits, however short
        a time it would try, and says so."""
        self.staged_in_part("--option", "headwater.retryTimeout=5 seconds")
        holder = self.holder()
        # Each time that it has waited a second for the lock.
        waits = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        before = int(holder.value(waits))
        self.cluster.start_scheduler()
        self.cluster.wait_for_executors(2)
        wait_until("it has waited longer than it would try", lambda: int(holder.value(waits)) >= before + 7)
        waiting = self.status()
        self.assertEqual(waiting["state"], "FETCHING", waiting)
        self.assertIn("INGEST_RUN_BUSY", waiting["message"])
        self.assertIn("for as long as it takes", waiting["message"])
        holder.close()
        self.assert_ledger(self.reaches("FINISHED"), 1_000, pages_once=False)

    def test_a_run_that_nobody_drives_any_more(self):
        """A start that finds the run held by a scheduler which died with its machine waits and drives it, also where that
        one had another state directory."""
        self.staged_in_part()
        holder = self.holder()
        for file in self.files():
            file.unlink()
        self.cluster.start_scheduler()
        self.cluster.wait_for_executors(2)
        self.assertEqual(self.start(1_000)["state"], "FETCHING")
        wait_until("it is waited for", lambda: "for as long as it takes" in self.status()["message"])
        holder.close()
        self.assert_ledger(self.reaches("FINISHED"), 1_000, pages_once=False)

    def test_scheduler_at_every_step(self):
        for step in ("after-fetch", "after-settle", "after-attempt", "after-send", "after-scan", "after-mark"):
            with self.subTest(step):
                self.seed = f"s{uuid.uuid4().hex[:12]}"
                self.run_id, self.topic = f"{step} {self.seed}", f"{step}_{self.seed}"
                self.cluster.scheduler.terminate()
                self.cluster.start_scheduler(HEADWATER_INGEST_FAILPOINT=f"{step}:1")
                self.cluster.wait_for_executors(2)
                self.start(1_500)
                wait_until("the scheduler has died", lambda: not self.cluster.scheduler.alive())
                self.assertIn("failpoint reached", self.cluster.scheduler.text())
                self.cluster.start_scheduler()
                self.cluster.wait_for_executors(2)
                run = self.reaches("FINISHED", seconds=180)
                self.database_is_of(run)
                self.assert_ledger(run, 1_500, pages_once=step != "after-fetch")

    def database_is_of(self, run):
        """The rejected and arrived of all runs are none, so that the ledger of one is that of the database."""
        self.assertEqual(self.database.value(f"SELECT count(*) FROM headwater.users WHERE run_id = '{run['runId']}'"), "1500")

    def test_a_client_that_watches_sees_it_through(self):
        """The scheduler dies and comes back: `ingest start` waits and ends well."""
        self.replay.faults({"kind": "slow", "seconds": 6, "times": 1, "pages": [9], "seed": self.seed})
        watcher = subprocess.Popen(
            [binary(), *map(str, self.arguments(1_000)), "--scheduler", self.cluster.grpc],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            preexec_fn=in_child,
        )
        self.assertEqual(watcher.stdout.readline().decode().strip(), self.run_id)
        wait_until("some are staged", lambda: self.status()["staged"] > 0)
        self.cluster.scheduler.kill()
        self.cluster.start_scheduler()
        _, err = watcher.communicate(timeout=180)
        self.assertEqual(watcher.returncode, 0, err.decode())
        self.assertIn("FINISHED: 1,000 fetched", err.decode())
        self.assert_ledger(self.status(), 1_000, pages_once=False)


def split(text):
    """The words of a text, as JSON and SQL delimit them."""
    return text.replace('"', " ").replace("'", " ").replace(",", " ").split()


if __name__ == "__main__":
    unittest.main()
