"""A schema registry, real Kafka, a scheduler and two executors: Avro and Protobuf in SQL."""

import base64
import contextlib
import http.server
import json
import os
import ssl
import subprocess
import threading
import unittest
import urllib.error
import urllib.request

from cluster import Cluster, kafka, wait_until

SECRET = "ge heim+:1"


def registry():
    return os.environ["REGISTRY_ADDRESS"]


def unique(name):
    return f"{name}-{os.urandom(4).hex()}"


@contextlib.contextmanager
def guarded(folder):
    """The registry behind TLS and a login, at a port of its own: its address, and the authority of its certificate."""
    authority, authority_key = folder / "authority.pem", folder / "authority-key.pem"
    key, request, certificate = (folder / f"localhost-{part}.pem" for part in ("key", "request", "certificate"))
    names = folder / "localhost.cnf"
    names.write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
    made = ["-newkey", "rsa:2048", "-nodes"]
    for command in (
        ["req", "-x509", *made, "-days", "2", "-subj", "/CN=authority", "-keyout", authority_key, "-out", authority],
        ["req", "-new", *made, "-subj", "/CN=localhost", "-keyout", key, "-out", request],
        ["x509", "-req", "-in", request, "-days", "2", "-CA", authority, "-CAkey", authority_key, "-CAcreateserial"]
        + ["-extfile", names, "-out", certificate],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    expected = "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            if self.headers.get("Authorization") != expected:
                self.reply(401, b'{"error_code":401,"message":"who are you"}')
                return
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else None
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(registry() + self.path, body, headers, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    self.reply(reply.status, reply.read())
            except urllib.error.HTTPError as error:
                self.reply(error.code, error.read())

        def reply(self, status, body):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

        do_GET = do_POST = answer

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://localhost:{server.server_address[1]}", authority
    finally:
        server.shutdown()
        server.server_close()


class Schemas(unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "REGISTRY_ADDRESS")

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster("schemas")
        cls.addClassCleanup(cls.cluster.stop)

    def tables(self, name):
        """A topic with a table to write it by and one to read it by."""
        topic = unique(name)
        self.cluster.ok("topic", "create", topic, "--partitions", 2, "--kafka", kafka())
        table = topic.replace("-", "_")
        broker = f"'kafka.bootstrap.servers' '{kafka()}'"
        self.cluster.ok("sql", f"CREATE TABLE {table}_in USING kafka OPTIONS ({broker}, topic '{topic}')")
        self.cluster.ok(
            "sql",
            f"CREATE TABLE {table} USING kafka OPTIONS ({broker}, subscribe '{topic}', startingOffsets 'earliest')",
        )
        return topic, table

    def test_a_stream_goes_on_while_its_subject_evolves(self):
        """Records of a newer schema are read by a running query; one that is asked to takes the new column in."""
        topic, table = self.tables("evolves")
        subject = f"{topic}-value"
        write = lambda fields: self.cluster.ok(  # noqa: E731
            "sql", f"INSERT INTO {table}_in SELECT to_avro(named_struct({fields}), '{subject}', '{registry()}') AS value"
        )
        write("'id', 1, 'name', 'ann'")
        call = lambda mode: (  # noqa: E731
            f"from_avro(value, '{subject}', '{registry()}', map('avroSchemaEvolutionMode', '{mode}'))"
        )
        kept, told = (str(self.cluster.folder / name) for name in (f"{table}-kept", f"{table}-told"))
        self.cluster.submit_text(
            f"{table}-flows",
            f"""CREATE TABLE {table}_kept USING parquet OPTIONS (path '{kept}');
            CREATE TABLE {table}_told USING parquet OPTIONS (path '{told}');
            CREATE FLOW {table}_kept AS INSERT INTO {table}_kept
                SELECT u.* FROM (SELECT {call("none")} AS u FROM STREAM({table}));
            CREATE FLOW {table}_told AS INSERT INTO {table}_told
                SELECT to_json({call("restart")}) AS j FROM STREAM({table});""",
        )

        def rows(suffix, count):
            def there():
                for query in self.cluster.queries().values():
                    self.assertNotEqual(query["state"], "FAILED", query["message"])
                with contextlib.suppress(AssertionError):  # no file yet
                    found = self.cluster.sql(f"SELECT * FROM {table}_{suffix}")
                    return found if len(found) >= count else None

            return wait_until(f"{count} rows in {suffix}", there)

        self.assertEqual(rows("kept", 1), [{"id": 1, "name": "ann"}])
        self.assertEqual([json.loads(row["j"]) for row in rows("told", 1)], [{"id": 1, "name": "ann"}])
        runs = {query["name"]: query["runId"] for query in self.cluster.queries().values()}

        write("'id', 2, 'name', 'bob', 'email', 'bob@x'")
        by_id = lambda found: sorted(found, key=lambda row: row["id"])  # noqa: E731
        self.assertEqual(by_id(rows("kept", 2)), [{"id": 1, "name": "ann"}, {"id": 2, "name": "bob"}])
        told_rows = by_id([json.loads(row["j"]) for row in rows("told", 2)])
        self.assertEqual(told_rows, [{"id": 1, "name": "ann"}, {"id": 2, "name": "bob", "email": "bob@x"}])
        # Neither was started again.
        self.assertEqual({query["name"]: query["runId"] for query in self.cluster.queries().values()}, runs)
        # A query of now has the column, for old records too.
        now = self.cluster.sql(f"SELECT u.* FROM (SELECT from_avro(value, '{subject}', '{registry()}') AS u FROM {table})")
        self.assertEqual(by_id(now), [{"id": 1, "name": "ann", "email": None}, {"id": 2, "name": "bob", "email": "bob@x"}])

        # What breaks the subject's rules is refused with field and rule, before anything is written.
        error = self.cluster.refused(
            "sql", f"INSERT INTO {table}_in SELECT to_avro(named_struct('id', 'x'), '{subject}', '{registry()}') AS value"
        )
        self.assertIn("SCHEMA_REGISTRY_INCOMPATIBLE_SCHEMA", error)
        self.assertIn("field `id`", error)
        self.assertIn("BACKWARD", error)
        for name in runs:
            self.cluster.ok("query", "stop", name)

        # By the subject's schema, whatever the columns' own would be.
        self.cluster.ok(
            "sql",
            f"INSERT INTO {table}_in SELECT to_avro(named_struct('id', 3), '{subject}', '{registry()}', "
            "map('use.latest.version', 'true')) AS value",
        )
        last = self.cluster.sql(
            f"SELECT u.* FROM (SELECT from_avro(value, '{subject}', '{registry()}') AS u FROM {table}) WHERE u.ID = 3"
        )
        self.assertEqual(last, [{"id": 3, "name": None, "email": None}])

    def test_tls_and_a_login(self):
        """Through TLS and basic authentication; the password is shown nowhere."""
        topic, table = self.tables("guarded")
        with guarded(self.cluster.folder) as (address, authority):

            def call(password, more=""):
                return (
                    f"map('confluent.schema.registry.basic.auth.user.info', 'ann:{password}', "
                    f"'confluent.schema.registry.ssl.truststore.location', '{authority}'{more})"
                )

            write = f"INSERT INTO {table}_in SELECT to_avro(named_struct('n', 7), '{topic}-value', '{address}', %s) AS value"
            self.cluster.ok("sql", write % call(SECRET))
            read = f"SELECT from_avro(value, '{topic}-value', '{address}', %s).n AS n FROM {table}"
            self.assertEqual(self.cluster.sql(read % call(SECRET)), [{"n": 7}])
            plan = self.cluster.ok("sql", f"EXPLAIN EXTENDED {read % call(SECRET)}")
            self.assertNotIn(SECRET, plan)
            self.assertIn("from_avro", plan)
            error = self.cluster.refused("sql", read % call("wrong" + SECRET))
            self.assertIn("SCHEMA_REGISTRY_AUTHENTICATION_FAILED", error)
            self.assertNotIn(SECRET, error)
            untrusted = f"map('confluent.schema.registry.basic.auth.user.info', 'ann:{SECRET}')"
            error = self.cluster.refused("sql", read % untrusted)
            self.assertIn("truststore.location", error)
            # Settings of the session are defaults.
            settings = [
                f"SET confluent.schema.registry.basic.auth.user.info=ann:{SECRET}",
                f"SET confluent.schema.registry.ssl.truststore.location={authority}",
                f"SELECT from_avro(value, '{topic}-value', '{address}').n AS n FROM {table}",
            ]
            out = self.cluster.ok("sql", "-f", self.cluster.file("guarded.sql", ";\n".join(settings)))
            self.assertIn("7", out)
            self.assertNotIn(SECRET, out)
        for log in self.cluster.logs.glob("*.log"):
            self.assertNotIn(SECRET, log.read_text(errors="replace"), log)

    def test_protobuf(self):
        """The text of a .proto is registered by the first write; who reads names the subject alone."""
        topic, table = self.tables("protobuf")
        options = f"'schema.registry.address', '{registry()}', 'schema.registry.subject', '{topic}-value'"
        proto = 'syntax = "proto3"; message User { string id = 1; repeated int32 ns = 2; map<string, double> m = 3; }'
        self.cluster.ok(
            "sql",
            f"INSERT INTO {table}_in SELECT to_protobuf(named_struct('id', 'a', 'ns', array(1, 2), 'm', map('k', 0.5D)), "
            f"'User', map({options}, 'schema.registry.schema', '{proto}')) AS value",
        )
        [row] = self.cluster.sql(f"SELECT to_json(from_protobuf(value, 'User', map({options}))) AS j FROM {table}")
        self.assertEqual(json.loads(row["j"]), {"id": "a", "ns": [1, 2], "m": {"k": 0.5}})
        error = self.cluster.refused("sql", f"SELECT from_protobuf(value, 'Nobody', map({options})) FROM {table}")
        self.assertIn("PROTOBUF_MESSAGE_NOT_FOUND", error)

    def test_without_a_registry(self):
        """Spark's own forms, and what a bad record is in each mode."""
        schema = json.dumps(
            {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]}
        )
        [row] = self.cluster.sql(
            f"SELECT from_avro(to_avro(named_struct('a', 1, 'b', 'x'), '{schema}'), '{schema}').b AS b"
        )
        self.assertEqual(row, {"b": "x"})
        bad = "SELECT from_avro(X'06', '\"string\"', map('mode', '%s')) AS v"
        self.assertEqual(self.cluster.sql(bad % "PERMISSIVE"), [{"v": None}])
        self.assertIn("MALFORMED_AVRO_MESSAGE", self.cluster.refused("sql", bad % "FAILFAST"))
        error = self.cluster.refused("sql", "SELECT from_avro(X'06', 's-value', 'http://127.0.0.1:1')")
        self.assertIn("SCHEMA_REGISTRY_UNREACHABLE", error)


if __name__ == "__main__":
    unittest.main()
