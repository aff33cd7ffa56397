"""Traces: spans of scheduler and executors at a collector, each task below the job that it belongs to."""

import http.server
import threading
import unittest

from cluster import Cluster, headwater, wait_until


def fields(message):
    """(number, value) of a protobuf message: a number, or bytes."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = number()
        match key & 7:
            case 0:
                yield key >> 3, number()
            case 1 | 5 as kind:
                size = 8 if kind == 1 else 4
                yield key >> 3, message[at : at + size]
                at += size
            case 2:
                size = number()
                yield key >> 3, message[at : at + size]
                at += size
            case kind:
                raise ValueError(f"wire type {kind}")


def all_of(message, wanted):
    return [value for number, value in fields(message) if number == wanted]


class Span:
    """What a test asks of a Span of opentelemetry.proto.trace.v1."""

    def __init__(self, service, message):
        values = dict(fields(message))
        self.service = service
        self.trace, self.id, self.parent = values[1].hex(), values[2].hex(), values.get(4, b"").hex()
        self.name = values[5].decode()
        # KeyValue: key = 1, AnyValue = 2, whose text is 1.
        self.attributes = {
            all_of(one, 1)[0].decode(): all_of(all_of(one, 2)[0], 1)[0].decode()
            for one in all_of(message, 9)
            if all_of(all_of(one, 2)[0], 1)
        }

    def __repr__(self):
        return f"{self.service}:{self.name} {self.trace[:6]} {self.parent[:6]}->{self.id[:6]} {self.attributes}"


class Collector(http.server.ThreadingHTTPServer):
    """Takes OTLP over HTTP."""

    def __init__(self):
        self.spans = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces", self.path
                for resource_spans in all_of(body, 1):
                    [resource] = all_of(resource_spans, 1)
                    names = {all_of(one, 1)[0]: all_of(one, 2)[0] for one in all_of(resource, 1)}
                    service = all_of(names[b"service.name"], 1)[0].decode()
                    for scope in all_of(resource_spans, 2):
                        server.spans += [Span(service, span) for span in all_of(scope, 2)]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Traces(unittest.TestCase):
    def setUp(self):
        self.collector = Collector()
        self.addCleanup(self.collector.server_close)
        self.addCleanup(self.collector.shutdown)

    def named(self, service, name):
        return [span for span in list(self.collector.spans) if (span.service, span.name) == (service, name)]

    def test_a_batch_and_a_statement(self):
        cluster = Cluster(self._testMethodName, HEADWATER_OTLP_ENDPOINT=self.collector.address)
        self.addCleanup(cluster.stop)
        kept = cluster.folder / "kept"
        cluster.submit_text(
            "keep",
            f"""CREATE TABLE made USING `rate-micro-batch` OPTIONS (rowsPerBatch '50', numPartitions '2');
            CREATE TABLE kept USING parquet OPTIONS (path '{kept.as_uri()}');
            CREATE FLOW keep AS INSERT INTO kept SELECT value FROM STREAM(made);""",
        )
        wait_until("two batches", lambda: cluster.queries()["keep"]["batchId"] >= 2)
        query_id = cluster.queries()["keep"]["id"]
        cluster.ok("query", "stop", "keep")
        # A process sends the last of them when it ends.
        for process in [*cluster.executors, cluster.scheduler]:
            self.assertEqual(process.terminate(30), 0)
        batches = {span.id: span for span in self.named("headwater-scheduler", "batch")}
        self.assertGreaterEqual(len(batches), 2)
        for batch in batches.values():
            self.assertEqual((batch.parent, batch.attributes["query_id"]), ("", query_id), batch)
        self.assertEqual(len({batch.trace for batch in batches.values()}), len(batches), "a trace for each batch")
        for phase in ("queryPlanning", "addBatch", "commitOffsets"):
            below = [span.parent for span in self.named("headwater-scheduler", phase)]
            self.assertTrue(below and set(below) <= set(batches), f"{phase}: {self.collector.spans}")
        adds = {span.id: span for span in self.named("headwater-scheduler", "addBatch")}
        jobs = {span.id: span for span in self.named("headwater-scheduler", "job") if span.parent in adds}
        self.assertTrue(jobs)
        tasks = [span for span in self.named("headwater-executor", "task") if span.parent in jobs]
        self.assertGreaterEqual(len(tasks), len(jobs))
        for task in tasks:
            self.assertEqual(task.trace, jobs[task.parent].trace)
            self.assertEqual(task.attributes["query_id"], query_id)
        # The run of a query has no span of its own: it would hold all batches of its life.
        self.assertEqual(self.named("headwater-scheduler", "query"), [])

    def test_a_collector_that_is_away_harms_nothing(self):
        self.collector.shutdown()
        self.collector.server_close()
        cluster = Cluster(self._testMethodName, executors=1, HEADWATER_OTLP_ENDPOINT=self.collector.address)
        self.addCleanup(cluster.stop)
        self.assertEqual(cluster.sql("SELECT count(*) AS n FROM range(10)"), [{"n": 10}])
        self.assertEqual(cluster.scheduler.terminate(30), 0)
        self.assertRegex(cluster.scheduler.text(), "(?i)export|opentelemetry")

    def test_a_wrong_address_is_refused(self):
        refused = headwater("scheduler", "--otlp-endpoint", "collector:4317")
        self.assertEqual(refused.status, 2, refused)
        self.assertIn("http://localhost:4318", refused.err)


if __name__ == "__main__":
    unittest.main()
