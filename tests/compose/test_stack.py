"""Scheduler and executors as compose.yaml runs them: a stream with a ledger, scaled and killed under load."""

import re
import time
import unittest

import cql
import test_files
import users
from cluster import Flow, cassandra, environment, wait_until
from stack import COMPOSES, Load, Pair, Stack, docker, needs_engine, needs_http, run

# The sink may write this much a second and task, after a burst of 1 MiB: a task of some 2 MB takes seconds.
SLOW = {"spark.cassandra.output.throughputMBPerSec": "0.2"}


def first_row(flow):
    with cql.Connection(cassandra()) as connection:
        return connection.execute(f"SELECT id FROM spark_streams.{flow.table} LIMIT 1")


@needs_engine
class Running(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        began = time.monotonic()
        cls.stack = Stack("running")
        cls.addClassCleanup(cls.stack.stop)
        cls.stack.wait_for_executors(2)
        print(f"up with two executors after {time.monotonic() - began:.1f} s")
        flow = Flow("first")
        flow.set_up(cls.stack, 1)
        cls.stack.submit(flow)
        flow.produce(cls.stack, list(users.make(1, "first")))
        wait_until("the first row is in the table", lambda: first_row(flow))
        print(f"first row after {time.monotonic() - began:.1f} s")

    def setUp(self):
        if len(self.stack.executor_tasks()) != 2:  # a test before this one has failed halfway
            self.stack.up(2)
            self.stack.wait_for_executors(2)

    def test_a_stream_with_a_ledger(self):
        flow = Flow("stream")
        flow.set_up(self.stack)
        made = list(users.make(4_000, "compose stream"))
        flow.produce(self.stack, made[:2_000])
        self.stack.submit(flow)
        flow.produce(self.stack, made[2_000:])
        flow.wait_for_ledger(self.stack, users.ids(made))
        count = self.stack.sql(f"SELECT count(*) AS n FROM {flow.table}")
        self.assertEqual(count, [{"n": len(made)}])

    def test_scaling_up_and_down_under_load(self):
        flow = Flow("scale", kafka_options={"maxOffsetsPerTrigger": 1_000})
        flow.set_up(self.stack, 10)
        query = self.stack.submit(flow)
        with Load(self.stack, flow) as load:
            wait_until("the stream runs", lambda: flow.count() > 0)
            before = set(self.stack.executor_tasks())
            began = time.monotonic()
            self.stack.up(5)
            new = set(self.stack.wait_for_executors(5) and self.stack.executor_tasks()) - before
            registered = time.monotonic()
            self.assertEqual(len(new), 3)

            def working():
                tasks = self.stack.executor_tasks()
                return all(tasks[executor] for executor in new)

            wait_until("the new executors have completed tasks", working, 30)
            print(
                f"2 to 5 executors: up in {registered - began:.1f} s, all at work {time.monotonic() - registered:.1f} s later"
            )
            since = docker("info", "-f", "{{.SystemTime}}")
            began = time.monotonic()
            self.stack.up(1)
            print(f"5 to 1 executors in {time.monotonic() - began:.1f} s")
            ends = self.stack.ends(since)
            self.assertEqual(list(ends.values()), [0] * 4, "each has drained and ended by itself")
            self.stack.wait_for_executors(1)
            seen = len(load.made)
            wait_until("the one that is left carries on", lambda: flow.count() > seen)
        flow.wait_for_ledger(self.stack, users.ids(load.made))
        print(f"{len(load.made)} users, none lost")
        self.assert_undisturbed(flow, ends)
        self.stack.ok("query", "stop", query)
        self.stack.up(2)
        self.stack.wait_for_executors(2)

    def assert_undisturbed(self, flow, ends):
        """No batch was tried again, and no executor left a task to others."""
        for container in ends:
            log = self.stack.log(container)
            self.assertIn("ending once running batches have", log)
            self.assertNotIn("tasks still run", log)
        (scheduler,) = self.stack.containers("scheduler")
        retries = re.findall(
            rf'^headwater_query_retries_total{{query="{flow.name}"[^}}]*}} (\S+)$', self.stack.metrics(scheduler), re.MULTILINE
        )
        self.assertLessEqual({float(count) for count in retries}, {0.0})

    def test_an_executor_that_is_scaled_away_ends_its_tasks(self):
        flow = Flow("drain", cassandra_options=SLOW)
        flow.set_up(self.stack)
        made = list(users.make(20_000, "compose drain"))
        flow.produce(self.stack, made)
        query = self.stack.submit(flow)
        wait_until("some rows are in the table", lambda: flow.count() > 1_000)
        since = docker("info", "-f", "{{.SystemTime}}")
        began = time.monotonic()
        self.stack.up(1)
        took = time.monotonic() - began
        (status,) = self.stack.ends(since).values()
        self.assertEqual(status, 0)
        print(f"2 to 1 executors in the middle of a batch in {took:.1f} s, {flow.count()} of {len(made)} rows by then")
        flow.wait_for_ledger(self.stack, users.ids(made), seconds=180)
        self.assert_undisturbed(flow, self.stack.ends(since))
        self.stack.ok("query", "stop", query)
        self.stack.up(2)
        self.stack.wait_for_executors(2)

    def test_killed_containers_come_back(self):
        flow = Flow("killed", kafka_options={"maxOffsetsPerTrigger": 1_000})
        flow.set_up(self.stack)
        self.stack.submit(flow)
        with Load(self.stack, flow) as load:
            for service in ("executor", "scheduler", "executor"):
                seen = flow.count()
                wait_until("the stream runs", lambda: flow.count() > seen)
                container = self.stack.containers(service)[0]
                restarts = int(docker("inspect", "-f", "{{.RestartCount}}", container))
                began = time.monotonic()
                self.stack.kill(container)
                wait_until(
                    "the container runs again",
                    lambda: docker("inspect", "-f", "{{.RestartCount}} {{.State.Running}}", container) == f"{restarts + 1} true",
                )
                wait_until("the scheduler answers", self.stack.healthy)
                self.stack.wait_for_executors(2)
                seen = flow.count()
                wait_until("the stream runs", lambda: flow.count() > seen)
                print(f"{service} killed: rows again, with two executors, after {time.monotonic() - began:.1f} s")
        flow.wait_for_ledger(self.stack, users.ids(load.made))

    @needs_http
    def test_health_commands(self):
        self.stack.wait_healthy("scheduler", "executor")
        (scheduler,) = self.stack.containers("scheduler")
        executors = self.stack.containers("executor")
        for container in (scheduler, *executors):
            self.assertIn("ok", docker("exec", container, "headwater", "health"))
        self.stack.compose("stop", "scheduler")
        try:
            for container in executors:
                self.assertIn(
                    "503", wait_until("an executor without a scheduler is not well", lambda: self.unwell(container))
                )
        finally:
            self.stack.compose("start", "scheduler")
        self.stack.follow(scheduler)
        self.stack.wait_healthy("scheduler", "executor")
        self.stack.wait_for_executors(2)

    def unwell(self, container):
        """What the health command says where it fails."""
        try:
            return run("docker", "exec", container, "headwater", "health", status=1)
        except AssertionError:
            return None

    def test_processes_have_no_privileges(self):
        for container in self.stack.containers():
            status = docker("exec", container, "cat", "/proc/1/status")
            for expected in ("Uid:\t10001", "Gid:\t10001", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"):
                self.assertIn(expected, status)

    def test_the_state_survives_down(self):
        flow = Flow("kept")
        flow.set_up(self.stack)
        made = list(users.make(600, "compose kept"))
        query = self.stack.submit(flow)
        flow.produce(self.stack, made[:300])
        flow.wait_for_ledger(self.stack, users.ids(made[:300]))
        self.stack.down()
        self.assertEqual(self.stack.containers(), [])
        flow.produce(self.stack, made[300:])
        self.stack.up(2)
        self.stack.wait_for_executors(2)
        flow.wait_for_ledger(self.stack, users.ids(made))
        self.assertEqual(self.stack.queries()[flow.name]["id"], query)

    @needs_http
    def test_every_metric_of_the_dashboards_is_there(self):
        text = "".join(self.stack.metrics(container) for container in self.stack.containers())
        there = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) | set(re.findall(r"^(headwater_\w+)", text, re.MULTILINE))
        self.assertLessEqual(test_files.shown(), there)

    def test_a_topic_that_is_there_is_left_alone(self):
        """What the service `setup` runs, twice."""
        flow = Flow("setup")
        network = docker("network", "ls", "-q", "--filter", "name=running_default")
        for _ in range(2):
            docker(
                *("run", "--rm", "--network", network, "headwater:test", "topic", "create", flow.topic),
                *("--partitions", "3", "--if-not-exists", "--kafka", environment()["KAFKA_ADDRESS"]),
            )
        self.assertIn(flow.topic, self.stack.ok("topic", "list", "--kafka", environment()["KAFKA_ADDRESS"]))


@needs_engine
class TwoSchedulers(unittest.TestCase):
    def test_the_other_takes_over(self):
        stack = Pair(
            "two",
            services=("scheduler", "scheduler-2", "executor"),
            COMPOSE_PROFILES="ha",
            HEADWATER_HA="state-dir",
            HEADWATER_SCHEDULER="scheduler:50050,scheduler-2:50050",
        )
        self.addCleanup(stack.stop)
        stack.wait_for_executors(2)
        stack.wait_healthy("scheduler", "scheduler-2", "executor")
        flow = Flow("two")
        flow.set_up(stack)
        made = list(users.make(600, "compose two"))
        query = stack.submit(flow)
        flow.produce(stack, made[:300])
        flow.wait_for_ledger(stack, users.ids(made[:300]))
        old, new = stack.leader(), stack.standby()
        docker("kill", *stack.containers(old))
        began = time.monotonic()
        wait_until("the other leads", lambda: stack.leader() == new)
        print(f"{new} leads {time.monotonic() - began:.1f} s after {old} was killed")
        stack.wait_for_executors(2)
        flow.produce(stack, made[300:])
        flow.wait_for_ledger(stack, users.ids(made))
        self.assertEqual(stack.queries()[flow.name]["id"], query)
        # Started again it stands by, and whoever asks inside it is led to the other.
        stack.up(2)
        wait_until("it stands by", lambda: stack.standby() == old)
        (container,) = stack.containers(old)
        self.assertIn(flow.name, docker("exec", container, "headwater", "query", "list"))


@needs_engine
class NewerCompose(unittest.TestCase):
    @unittest.skipUnless("v5" in COMPOSES, "Compose 5 was not compiled: tests/compose/get-compose-v5 does")
    def test_the_same_with_compose_5(self):
        stack = Stack("newer", compose="v5", executors=1)
        self.addCleanup(stack.stop)
        flow = Flow("newer", kafka_options={"maxOffsetsPerTrigger": 1_000})
        flow.set_up(stack)
        stack.submit(flow)
        with Load(stack, flow) as load:
            wait_until("the stream runs", lambda: flow.count() > 0)
            stack.up(3)
            stack.wait_for_executors(3)
            since = docker("info", "-f", "{{.SystemTime}}")
            stack.up(1)
            self.assertEqual(list(stack.ends(since).values()), [0, 0])
        flow.wait_for_ledger(stack, users.ids(load.made))
