"""Spark Connect, driven by stock PySpark clients: the protocol, as users and bad networks see it."""

import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

from cluster import DEADLINE, Late, Process, binary, in_child, panic, wait_until

PROGRAM = pathlib.Path(__file__).resolve().parent / "clients" / "connect.py"


class Server:
    """A scheduler with executors in one process."""

    def __init__(self, name, *arguments, executors=1, task_slots=1):
        logs = pathlib.Path(os.environ.get("HEADWATER_TEST_LOGS") or tempfile.mkdtemp(prefix="headwater-e2e-")) / name
        logs.mkdir(parents=True, exist_ok=True)
        self.folder = tempfile.TemporaryDirectory(prefix=f"headwater-{name}-")
        self.process = Process(
            logs / "standalone.log",
            *("standalone", "--executors", str(executors), "--task-slots", str(task_slots)),
            *("--grpc-port", "0", "--connect-port", "0", "--http-port", "0"),
            *("--state-dir", self.folder.name + "/state", *arguments),
        )
        self.address = self.process.address("connect")
        self.port = int(self.address.rpartition(":")[2])
        wait_until("the executor is registered", lambda: "registered" in self.process.text())

    def stop(self, kill=False):
        text = self.process.text()
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        self.folder.cleanup()
        assert not panic(text), text


class Proxy:
    """Hands bytes on, both ways, and cuts every connection once so many have come from the server."""

    def __init__(self, port, cut_after):
        self.port_behind, self.cut_after = port, cut_after
        self.cuts, self.connections, self.passed = 0, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        server = socket.create_connection(("127.0.0.1", self.port_behind))
        other = {client: server, server: client}
        try:
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    if ready is server:
                        self.passed += len(data)
                        if self.cuts == 0 and self.passed > self.cut_after:
                            self.cuts += 1
                            return
                    other[ready].sendall(data)
        except OSError:
            pass
        finally:
            client.close()
            server.close()

    def close(self):
        self.listener.close()


class Client:
    """PySpark of one version."""

    def __init__(self, variable):
        self.python = os.environ[variable]

    def start(self, case, url, *arguments):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
        return subprocess.Popen(
            [self.python, str(PROGRAM), case, url, *[str(argument) for argument in arguments]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, "PYTHONWARNINGS": "ignore"},
            start_new_session=True,
            preexec_fn=in_child,
        )

    def run(self, case, url, *arguments, seconds=None):
        """What the case saw."""
        process = self.start(case, url, *arguments)
        try:
            out, err = process.communicate(timeout=seconds or DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise Late(f"{case} had not ended: {out.decode()[-2000:]} {err.decode()[-4000:]}")
        assert process.returncode == 0, f"{case}: {out.decode()[-2000:]} {err.decode()[-4000:]}"
        return json.loads(out.decode().splitlines()[-1])


class Protocol:
    """The cases; a class per client says which."""

    variable = None

    @classmethod
    def setUpClass(cls):
        cls.client = Client(cls.variable)
        cls.server = Server(f"connect-{cls.variable.lower()}")
        cls.url = f"sc://127.0.0.1:{cls.server.port}"

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def server_for_endless_queries(self):
        """It ends by itself when it is told to: a cancelled task that went on would hold it up."""
        server = Server(
            f"connect-endless-{self.variable.lower()}",
            *("--connect-detached-timeout", "2 seconds", "--log", "info,headwater_scheduler::connect=debug"),
        )
        self.addCleanup(server.stop)
        return server, f"sc://127.0.0.1:{server.port}"

    def run_case(self, case, *arguments, url=None, **options):
        return self.client.run(case, url or self.url, *arguments, **options)

    def test_basics(self):
        seen = self.run_case("basics")
        self.assertEqual(seen["version"], "4.3.0")
        self.assertEqual(seen["one"], [{"one": 1}])
        self.assertEqual(seen["empty"], [[], ["a"]])
        self.assertEqual(seen["pandas"], {"s": ["x"], "d": [2.5]})
        self.assertEqual(seen["conf"], ["h", "UTC", "default", True, False])
        self.assertEqual(seen["shown"], [["true", "true"], ["16", "16"], ["h", "h"]])
        self.assertEqual(seen["cached"], [False, True, False])

    def test_errors_are_pythons(self):
        seen = self.run_case("errors")
        expected = {
            "parse": ("ParseException", "PARSE_SYNTAX_ERROR", "42601"),
            "table": ("AnalysisException", "TABLE_OR_VIEW_NOT_FOUND", "42P01"),
            "column": ("AnalysisException", "UNRESOLVED_COLUMN.WITH_SUGGESTION", "42703"),
            "static": ("AnalysisException", "CANNOT_MODIFY_STATIC_CONFIG", "46110"),
            "value": ("IllegalArgumentException", "INVALID_CONF_VALUE.TYPE_MISMATCH", "22022"),
            "unknown": ("SparkNoSuchElementException", "SQL_CONF_NOT_FOUND", "42K0I"),
        }
        for name, (kind, error_class, state) in expected.items():
            with self.subTest(name):
                self.assertIn(f"[{error_class}]", seen[name]["message"])
                self.assertIn(f"SQLSTATE: {state}", seen[name]["message"])
                if not self.old or name != "unknown":
                    self.assertEqual(seen[name]["type"], kind)
                if not self.old:
                    self.assertEqual((seen[name]["class"], seen[name]["state"]), (error_class, state))
        if not self.old:
            self.assertEqual(seen["value"]["parameters"]["confValue"], "maybe")
        self.assertEqual(seen["after"], 1)

    def test_a_connection_cut_in_the_middle_of_a_result(self):
        proxy = Proxy(self.server.port, cut_after=3 << 20)
        self.addCleanup(proxy.close)
        rows = 2_000_000
        seen = self.run_case("big", rows, url=f"sc://127.0.0.1:{proxy.port}")
        self.assertEqual((seen["rows"], seen["in_order"]), (rows, True))
        self.assertEqual(proxy.cuts, 1, "the fault did not fire")
        self.assertGreater(proxy.connections, 1)

    def test_a_killed_clients_query_is_cancelled(self):
        server, url = self.server_for_endless_queries()
        count = lambda text: server.process.text().count(text)
        started, abandoned = count("operation started"), count("abandoned by its client")
        process = self.client.start("slow", url)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertIn(b"running", process.stdout.readline())
        # The first was sql().
        wait_until("its query runs", lambda: count("operation started") >= started + 2)
        process.kill()
        wait_until("the operation is abandoned", lambda: count("abandoned by its client") > abandoned)
        wait_until("its job is cancelled", lambda: "Job cancelled" in server.process.text())
        seen = self.run_case("interrupts", url=url)
        self.assertEqual(seen["after"], 1)

    def test_interrupts(self):
        _, url = self.server_for_endless_queries()
        seen = self.run_case("interrupts", url=url)
        self.assertEqual(seen["counts"], [1, 1, 0])
        for name in ("tag", "all"):
            self.assertIn("OPERATION_CANCELED", seen["seen"][name]["message"])
        self.assertEqual(seen["after"], 1)

    def test_deep_plans(self):
        seen = self.run_case("deep", 100)
        self.assertEqual(seen["columns"], 101)
        self.assertEqual(seen["union"], 100)
        # PySpark 3.5 cannot make a plan that is this deep.
        told = "nested more than 1024 messages deep|maximum recursion depth exceeded"
        self.assertRegex(seen["too deep"]["message"], told)
        self.assertEqual(seen["after"], 1)

    def test_fifty_clients(self):
        seen = self.run_case("many", 50)
        self.assertEqual(seen["wrong"], [])

    def test_artifacts(self):
        with tempfile.TemporaryDirectory() as folder:
            seen = self.run_case("artifacts", folder)
        for name in ("first", "again", "large"):
            self.assertEqual(seen[name], {"answer": "None"})
        self.assertIn("ARTIFACT_ALREADY_EXISTS", seen["changed"]["message"])

    def test_stop(self):
        seen = self.run_case("stop")
        self.assertEqual(seen["new"], 2)
        self.assertIn("message", seen["gone"])

    def test_tokens(self):
        server = Server(f"connect-token-{self.variable.lower()}", "--connect-token", "s3cret")
        self.addCleanup(server.stop)
        # Clients of 4.x send a token without TLS to `localhost`, those of 3.5 nowhere: they give the header.
        url = f"sc://localhost:{server.port}"
        token = lambda token: f"{url}/;authorization=Bearer%20{token}" if self.old else f"{url}/;token={token}"
        self.assertIn("answer", self.run_case("token", url=token("s3cret")))
        for wrong in (token("other"), url):
            self.assertIn("give the server's token", self.run_case("token", url=wrong)["message"])
        self.assertNotIn("s3cret", server.process.text())


class TestSpark43(Protocol, unittest.TestCase):
    needs = ["PYSPARK_4_3_0"]
    variable = "PYSPARK_4_3_0"
    old = False


class TestSpark35(Protocol, unittest.TestCase):
    needs = ["PYSPARK_3_5_9"]
    variable = "PYSPARK_3_5_9"
    old = True
