#!/usr/bin/env python3
"""A stand-in for the API of randomuser.me: replays recorded replies, makes up users for other seeds, misbehaves when told.

    randomuser.py [--host H] [--port P] [--users-per-window N --window SECONDS] [--delay SECONDS] [--owner-stdin]

The first line on stdout is its address, host:port. The API is at /api/ and /api/1.4/, with the real service's silent
habits: `results` outside 1..5000 is 1, `page` outside 1..10000 is 1, an unknown `nat` is all.

    seed headwater      the recorded users of pages 1 to 4, the first `results` of each as the real service gives them;
                        what lies beyond is made up
    any other seed      made up; the same (seed, page, position) is the same user, whatever results is

Control, as JSON:
    GET    /_stats      {"requests", "users", "pages": {"SEED/PAGE/RESULTS": times answered well}, "faults": {KIND: times},
                         "early": {SEED: requests while a Retry-After ran, but for its first second, when they are on the way}}
    POST   /_faults     [{"kind": KIND, "times": 3, "pages": [1, 2], "positions": [0], "retry_after": 1, "seed": "s"}, …]
                        `times` left out: for ever; `pages`, `seed` left out: any
    DELETE /_faults     behave again
    DELETE /_stats      count from zero

    KIND                what a request of such a page gets
    429                 status 429 with Retry-After: `retry_after` seconds (default 1), and {"error": …}
    500                 status 500
    error               status 200 with {"error": …}
    cut                 half of the body, then the connection ends
    drip                a byte in a second
    slow                the right answer, after `seconds` (default 5), or once it is told to behave
    hang                nothing, until the client gives up
    reset               the connection ends before a byte
    html                status 200, and no JSON
    one                 one user in place of all, as if `results` were out of range
    first_page          the users of page 1
    wrong_types         at `positions`, name.first is a number
    missing_id          at `positions`, login.uuid is null
    duplicate           at `positions`, the id of the user before (of the last one, at 0)
    zero_character      at `positions`, name.first has one in it
"""

import argparse
import glob
import gzip
import hashlib
import json
import os
import random
import sys
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "randomuser")
RECORDED_SEED = "headwater"
RECORDED_RESULTS = 1000
NATIONALITIES = set("AU BR CA CH DE DK ES FI FR GB IE IN IR MX NL NO NZ RS TR UA US".split())
CACHED_BODIES = 256
KINDS = {
    "429", "500", "error", "cut", "drip", "slow", "hang", "reset", "html", "one", "first_page",
    "wrong_types", "missing_id", "duplicate", "zero_character",
}  # fmt: skip


def load():
    users = []
    for path in sorted(glob.glob(os.path.join(FIXTURES, "*.json.gz"))):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            users.extend(json.load(file)["results"])
    return users


class Service:
    """What all requests share."""

    def __init__(self, options):
        self.options = options
        self.recorded = load()
        # Each as text, cut where its id stands: making a user up is then two concatenations.
        self.templates = {}
        for user in self.recorded:
            text = json.dumps(user, ensure_ascii=False, separators=(",", ":"))
            self.templates.setdefault(user["nat"], []).append(text.split(user["login"]["uuid"]))
        self.all_templates = [template for templates in self.templates.values() for template in templates]
        self.lock = threading.Lock()
        self.faults = []
        self.behaves = threading.Event()  # set when it is told to; another is for what comes after
        self.bodies = {}
        self.granted = []
        self.quiet = {}  # by seed: since when and until when nobody should ask
        self.reset_stats()

    def reset_stats(self):
        self.stats = {"requests": 0, "users": 0, "pages": {}, "faults": {}, "early": {}}

    def texts(self, seed, page, results, nats):
        """Each user of a page as JSON text."""
        texts = []
        templates = [t for nat in sorted(nats) for t in self.templates.get(nat, [])] or self.all_templates
        for position in range(results):
            place = (page - 1) * RECORDED_RESULTS + position
            recorded = position < RECORDED_RESULTS and place < len(self.recorded)
            if seed == RECORDED_SEED and not nats and recorded:
                texts.append(json.dumps(self.recorded[place], ensure_ascii=False, separators=(",", ":")))
                continue
            digest = hashlib.md5(f"{seed}/{','.join(sorted(nats))}/{page}/{position}".encode()).digest()
            before, after = templates[int.from_bytes(digest[:4], "big") % len(templates)]
            texts.append(before + str(uuid.UUID(bytes=digest, version=4)) + after)
        return texts

    def body(self, seed, page, results, nats, fault):
        key = (seed, page, results, tuple(sorted(nats)))
        if fault is None:
            with self.lock:
                if key in self.bodies:
                    return self.bodies[key]
        texts = self.texts(seed, page, results, nats)
        kind = fault["kind"] if fault else None
        if kind in ("wrong_types", "missing_id", "duplicate", "zero_character"):
            for position in fault.get("positions", [0]):
                if position >= len(texts):
                    continue
                user = json.loads(texts[position])
                if kind == "wrong_types":
                    user["name"]["first"] = 7
                elif kind == "missing_id":
                    user["login"]["uuid"] = None
                elif kind == "zero_character":
                    user["name"]["first"] = "A\0B"
                else:
                    user["login"]["uuid"] = json.loads(texts[position - 1])["login"]["uuid"]
                texts[position] = json.dumps(user, ensure_ascii=False)
        info = json.dumps({"seed": seed, "results": results, "page": page, "version": "1.4"})
        body = gzip.compress(f'{{"results":[{",".join(texts)}],"info":{info}}}'.encode(), 1)
        if fault is None:
            with self.lock:
                while len(self.bodies) >= CACHED_BODIES:
                    self.bodies.pop(next(iter(self.bodies)))
                self.bodies[key] = body
        return body

    def fault_for(self, seed, page):
        with self.lock:
            for fault in self.faults:
                pages, wanted = fault.get("pages"), fault.get("seed")
                if (pages is not None and page not in pages) or (wanted is not None and wanted != seed):
                    continue
                if fault.get("times") is not None:
                    if fault["times"] <= 0:
                        continue
                    fault["times"] -= 1
                counted = self.stats["faults"]
                counted[fault["kind"]] = counted.get(fault["kind"], 0) + 1
                return {**fault, "behaves": self.behaves}
        return None

    def told_to_wait(self, seed, seconds):
        with self.lock:
            now = time.monotonic()
            since, until = self.quiet.get(seed, (now, now))
            self.quiet[seed] = (since if until > now else now, max(until, now + seconds))

    def count_early(self, seed):
        since, until = self.quiet.get(seed, (0, 0))
        if since + 1 < time.monotonic() < until:
            self.stats["early"][seed] = self.stats["early"].get(seed, 0) + 1

    def over_budget(self, users):
        """Seconds until so many users may be asked for, as the real service counts; None: now."""
        budget, window = self.options.users_per_window, self.options.window
        if not budget:
            return None
        with self.lock:
            now = time.monotonic()
            self.granted = [(at, count) for at, count in self.granted if now - at < window]
            if sum(count for _, count in self.granted) + users > budget:
                return max(1, int(self.granted[0][0] + window - now + 1)) if self.granted else window
            self.granted.append((now, users))
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service = None

    def log_message(self, *_):
        pass

    def send(self, status, body, headers=(), content_type="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", f"{content_type}; charset=utf-8")
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, value, status=200, headers=()):
        self.send(status, json.dumps(value).encode(), headers)

    def do_DELETE(self):
        with self.service.lock:
            if self.path == "/_faults":
                self.service.faults = []
                self.service.behaves.set()
                self.service.behaves = threading.Event()
            elif self.path == "/_stats":
                self.service.reset_stats()
        self.send_json({})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/_faults":
            return self.send_json({"error": "no such place"}, 404)
        faults = json.loads(body)
        unknown = [fault["kind"] for fault in faults if fault["kind"] not in KINDS]
        if unknown:
            return self.send_json({"error": f"unknown kinds {unknown}"}, 400)
        with self.service.lock:
            self.service.faults.extend(faults)
        return self.send_json({})

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/_stats":
            with self.service.lock:
                return self.send_json(self.service.stats)
        if not url.path.startswith("/api"):
            return self.send_json({"error": "no such place"}, 404)
        query = {name: values[-1] for name, values in urllib.parse.parse_qs(url.query).items()}
        return self.answer(query)

    def answer(self, query):
        service = self.service

        def number(name, most):
            try:
                value = int(query.get(name, "1"))
            except ValueError:
                return 1
            return value if 1 <= value <= most else 1

        results, page = number("results", 5000), number("page", 10000)
        seed = query.get("seed") or "%016x" % random.getrandbits(64)
        nats = {nat.upper() for nat in query.get("nat", "").split(",") if nat}
        nats = nats if nats <= NATIONALITIES else set()
        with service.lock:
            service.stats["requests"] += 1
            service.count_early(seed)
        if service.options.delay:
            time.sleep(service.options.delay)
        fault = service.fault_for(seed, page)
        kind = fault["kind"] if fault else None
        wait = service.over_budget(results) if kind is None else None
        if kind == "429" or wait is not None:
            after = wait if wait is not None else fault.get("retry_after", 1)
            service.told_to_wait(seed, after)
            return self.send_json({"error": "too many requests"}, 429, [("Retry-After", str(after))])
        if kind == "500":
            return self.send_json({"error": "Uh oh, something has gone wrong."}, 500)
        if kind == "error":
            return self.send_json({"error": "Uh oh, something has gone wrong."})
        if kind == "html":
            return self.send(200, b"<html>busy</html>", content_type="text/html")
        if kind == "reset":
            self.close_connection = True
            return None
        if kind == "hang":
            self.rfile.read(1)
            self.close_connection = True
            return None
        if kind == "slow":
            fault["behaves"].wait(fault.get("seconds", 5))
            fault = None
        if kind == "one":
            results = 1
        if kind == "first_page":
            page = 1
        body = service.body(seed, page, results, nats, fault)
        headers = [("Content-Encoding", "gzip")]
        if "gzip" not in self.headers.get("Accept-Encoding", ""):
            body, headers = gzip.decompress(body), []
        if kind in ("cut", "drip"):
            self.send_response(200)
            for name, value in [*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]:
                self.send_header(name, value)
            self.end_headers()
            self.close_connection = True
            if kind == "cut":
                self.wfile.write(body[: len(body) // 2])
                return None
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(1)
            return None
        with service.lock:
            service.stats["users"] += results
            pages, key = service.stats["pages"], f"{seed}/{page}/{results}"
            pages[key] = pages.get(key, 0) + 1
        return self.send(200, body, headers)

    def handle(self):
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client gave up, as some faults want it


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--users-per-window", type=int, default=0, help="429 beyond; 0: no limit")
    parser.add_argument("--window", type=int, default=300, help="seconds")
    parser.add_argument("--delay", type=float, default=0, help="seconds before each answer")
    parser.add_argument("--owner-stdin", action="store_true", help="end when stdin does")
    Handler.service = Service(parser.parse_args())
    options = Handler.service.options
    server = Server((options.host, options.port), Handler)
    print(f"{options.host}:{server.server_address[1]}", flush=True)
    if options.owner_stdin:
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
