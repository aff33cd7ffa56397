"""Two schedulers: the leader is killed, hung and cut off in the middle of batches, and an executor hangs.

Each test makes sure that the fault fired where it was meant to, then compares the ledger: every id that was produced is
in the table, once, and no other. The old leader, when it lives, is a standby afterwards and has written nothing since.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import cql
import users
from cluster import ROOT, Cluster, Flow, Process, wait_until
from failover import Network, Pair, signal_to

# See test_faults: a batch then takes seconds, and its middle can be met.
SLOW = {"spark.cassandra.output.throughputMBPerSec": "0.05"}
BATCH = 20_000
# What is promised, from the leader's death to the other's leading.
TAKE_OVER_MAX = 10
NAMES = "every host needs a network namespace, which takes root and the command ip"


def counted(flow):
    """Rows in the table; none when Cassandra is too busy to say."""
    try:
        return flow.count()
    except cql.Error:
        return 0


def noticed(cluster, count, fault, mend, seconds):
    """The least that it takes until so many executors are left, of the fault and, where that takes longer than
    `seconds`, of two repetitions: a scheduler that itself did not run for a while counts an executor's silence anew.
    """
    there = len(cluster.executor_tasks())
    took = []
    while not took or (min(took) >= seconds and len(took) < 3):
        if took:
            mend()
            cluster.wait_for_executors(there)
        fault()
        began = time.monotonic()
        cluster.wait_for_executors(count)
        took.append(time.monotonic() - began)
    print(f"{cluster.logs.name}: executors that are gone are noticed after {took} s")
    return min(took)


def may_have_networks():
    return os.geteuid() == 0 and shutil.which("ip") is not None


class Failover:
    """What holds for every way to find out who leads."""

    def ha(self):
        raise NotImplementedError

    def setUp(self):
        self.cluster = Pair(self.id().rpartition(".")[2], ha=self.ha())
        self.addCleanup(self.cluster.stop)
        self.flow = Flow("failover", cassandra_options=SLOW)
        self.flow.set_up(self.cluster)
        self.made = list(users.make(BATCH, self.id()))
        self.checkpoint = self.cluster.folder / "checkpoint"

    def start_and_reach_the_middle(self):
        self.flow.produce(self.cluster, self.made)
        self.query = self.cluster.submit(self.flow, "--checkpoint", self.checkpoint.as_uri())
        wait_until("some rows are in the table", lambda: counted(self.flow) > BATCH // 20)
        self.old = self.cluster.leader()
        self.new = self.cluster.other(self.old)

    def entry(self, log, batch):
        path = pathlib.Path(self.checkpoint) / log / str(batch)
        return path.read_text() if path.exists() else None

    def assert_mid_batch(self):
        self.offsets = self.entry("offsets", 0)
        self.assertTrue(self.offsets, "batch 0 was decided")
        self.assertFalse(self.entry("commits", 0), "the fault came too late: batch 0 was committed")

    def epoch_of(self, entry):
        """Of the leadership that wrote an entry of either log."""
        return int(re.search(r'(?:headwater\.epoch|headwaterEpoch)":"[0-9a-f-]+/(\d+)"', entry)[1])

    def take_over(self):
        """Waits until the other scheduler leads; not longer than promised."""
        began = time.monotonic()
        self.cluster.wait_for_leader(self.new, TAKE_OVER_MAX)
        took = time.monotonic() - began
        self.epoch = wait_until("it says its epoch", lambda: self.cluster.health(self.new))["epoch"]
        print(f"{self.id()}: the other leads after {took:.1f} s, epoch {self.epoch}")
        self.cluster.wait_for_executors(2)
        print(f"{self.id()}: both executors are there after {time.monotonic() - began:.1f} s")

    def assert_recovered(self):
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made), seconds=180)
        wait_until("batch 0 is committed", lambda: self.entry("commits", 0))
        self.assertEqual(self.entry("offsets", 0), self.offsets, "the batch kept its ranges")
        self.assertLess(self.epoch_of(self.offsets), self.epoch)
        self.assertEqual(self.epoch_of(self.entry("commits", 0)), self.epoch, "the new leader committed it")
        self.assertIsNone(self.entry("offsets", 1), "no batch was made up")
        entry = self.cluster.queries()[self.flow.name]
        self.assertEqual(entry["id"], self.query)
        self.assertIn(entry["state"], ("RUNNING", "WAITING"))
        late = list(users.make(100, f"{self.id()} late"))
        self.flow.produce(self.cluster, late)
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made + late))
        # The rows are in the table before the batch is committed.
        committed = wait_until("batch 1 is committed", lambda: self.entry("commits", 1))
        self.assertEqual(self.epoch_of(committed), self.epoch)

    def test_leader_killed(self):
        self.start_and_reach_the_middle()
        self.old.kill()
        self.assert_mid_batch()
        self.take_over()
        self.assert_recovered()
        # The old one stands by, and takes over in its turn.
        back = self.cluster.start_one(self.cluster.schedulers.index(self.old))
        wait_until("it stands by", lambda: (self.cluster.health(back) or {}).get("role") == "standby")
        self.new.terminate()
        self.cluster.wait_for_leader(back, TAKE_OVER_MAX)
        wait_until("the query runs there", lambda: self.cluster.queries()[self.flow.name]["state"] == "WAITING")
        self.cluster.start_one(self.cluster.schedulers.index(self.new))

    def test_leader_hung_and_continued(self):
        self.start_and_reach_the_middle()
        signal_to(self.old, signal.SIGSTOP)
        self.assert_mid_batch()
        self.take_over()
        # It wakes up in the middle of the batch that the other runs again.
        signal_to(self.old, signal.SIGCONT)
        wait_until("it stands by", lambda: (self.cluster.health(self.old) or {}).get("role") == "standby", 30)
        self.assertIn("leads no more", self.old.text())
        self.assert_recovered()
        self.assertIs(self.cluster.leader(), self.new)


class StateDirectory(Failover, unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    def ha(self):
        return "state-dir"

    def test_leader_killed_again_and_again_under_load(self):
        """Small batches all the while; each leader is killed where it is, and started again as a standby."""
        flow = Flow("load", kafka_options={"maxOffsetsPerTrigger": 200})
        flow.set_up(self.cluster)
        self.cluster.submit(flow)
        made = []
        for round_ in range(3):
            piece = list(users.make(2_000, f"{self.id()} {round_}"))
            made += piece
            seen = counted(flow)
            flow.produce(self.cluster, piece)
            wait_until("the first of the new rows are there", lambda: counted(flow) > seen)
            old = self.cluster.leader()
            old.kill()
            self.cluster.wait_for_leader(self.cluster.other(old), TAKE_OVER_MAX)
            self.cluster.start_one(self.cluster.schedulers.index(old))
        flow.wait_for_ledger(self.cluster, users.ids(made), seconds=180)

    def test_a_standby_says_who_leads(self):
        leader = self.cluster.leader()
        standby = self.cluster.other(leader)
        # It looks every half a second.
        wait_until("it knows", lambda: (self.cluster.health(standby) or {}).get("leader") == leader.grpc)
        alone = Cluster.run
        self.cluster.grpc, both = standby.grpc, self.cluster.grpc
        refused = alone(self.cluster, "query", "list")
        self.assertEqual(refused.status, 3, str(refused))
        self.assertIn("[SCHEDULER_STANDBY]", refused.err)
        self.assertIn(leader.grpc, refused.err)
        self.cluster.grpc = both
        self.assertEqual(self.cluster.sql("SELECT 1 AS one"), [{"one": 1}])
        with self.assertRaises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"http://{standby.http_address}/api/v1/queries", timeout=5)
        self.assertEqual(error.exception.code, 503)
        self.assertEqual(json.loads(error.exception.read())["leader"], leader.grpc)
        # One that would be alone is refused.
        lonely = alone(self.cluster, "scheduler", "--state-dir", self.cluster.state, "--grpc-port", "0",
                       "--connect-port", "0", "--http-port", "0")  # fmt: skip
        self.assertEqual(lonely.status, 1, str(lonely))
        self.assertIn("[STATE_DIRECTORY_IN_USE]", lonely.err)


class ZooKeeper(Failover, unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS", "ZOOKEEPER_ADDRESS")

    def ha(self):
        return f"zookeeper://{os.environ['ZOOKEEPER_ADDRESS']}/headwater/{os.urandom(4).hex()}"


class HungExecutor(unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    def test_its_tasks_run_elsewhere_within_seconds(self):
        cluster = Cluster(self._testMethodName)
        self.addCleanup(cluster.stop)
        flow = Flow("hung", cassandra_options=SLOW)
        flow.set_up(cluster)
        made = list(users.make(BATCH // 2, self.id()))
        flow.produce(cluster, made)
        cluster.submit(flow)
        wait_until("some rows are in the table", lambda: counted(flow) > BATCH // 40)
        hung = cluster.executors[0]
        self.addCleanup(lambda: hung.alive() and signal_to(hung, signal.SIGCONT))
        hang, go_on = (lambda number=number: signal_to(hung, number) for number in (signal.SIGSTOP, signal.SIGCONT))
        self.assertLess(noticed(cluster, 1, hang, go_on, 2.5), 2.5, "2 s, and what asking takes")
        flow.wait_for_ledger(cluster, users.ids(made), seconds=180)
        # What it had begun ends nowhere, and it is of use again.
        signal_to(hung, signal.SIGCONT)
        cluster.wait_for_executors(2)
        late = list(users.make(100, f"{self.id()} late"))
        flow.produce(cluster, late)
        flow.wait_for_ledger(cluster, users.ids(made + late))

    def test_a_paused_scheduler_does_not_give_its_executors_up(self):
        """For less than their patience, 3 s, and more than its own, 1.5 s.

        The other way about they are there again at once.
        """
        cluster = Cluster(self._testMethodName)
        self.addCleanup(cluster.stop)
        before = set(cluster.executor_tasks())
        signal_to(cluster.scheduler, signal.SIGSTOP)
        time.sleep(1.75)  # the pause itself
        signal_to(cluster.scheduler, signal.SIGCONT)
        self.assertEqual(set(cluster.executor_tasks()), before)
        time.sleep(1)  # another four beats
        self.assertEqual(set(cluster.executor_tasks()), before)


class Made:
    """A query without services: numbers into Parquet files, whose manifest makes each count once."""

    def start(self, cluster):
        self.folder = cluster.folder / "kept"
        flow = cluster.file(
            "made.sql",
            f"""CREATE TABLE made USING `rate-micro-batch` OPTIONS (rowsPerBatch '100', numPartitions '2');
            CREATE TABLE kept USING parquet OPTIONS (path '{self.kept(cluster)}');
            CREATE FLOW keep AS INSERT INTO kept SELECT value FROM STREAM(made);""",
        )
        cluster.ok("submit", flow, "--detach")
        self.cluster_ = cluster
        self.wait_for_batches(3)

    def kept(self, cluster):
        return (cluster.folder / "kept").as_uri()

    def asked(self, *arguments):
        """What the leader answers. None while there is none: a stand-in for S3 that serves the executors serves the leader
        late, which then leads no more and says so.
        """
        result = self.cluster_.run(*arguments)
        told = [word for word in ("SCHEDULER_ENDS", "SCHEDULER_STANDBY") if word in result.err]
        self.assertTrue(result.status == 0 or told, str(result))
        return json.loads(result.out) if result.status == 0 else None

    def batch(self):
        queries = wait_until("the queries are listed", lambda: self.asked("query", "list", "--json"))
        return next(query["batchId"] for query in queries if query["name"] == "keep")

    def wait_for_batches(self, more):
        seen = wait_until("a batch", lambda: max(self.batch(), 0))
        wait_until(f"{more} more batches", lambda: self.batch() >= seen + more)

    def assert_exactly_once(self):
        self.cluster_.ok("query", "stop", "keep")
        text = "SELECT count(*) AS n, count(DISTINCT value) AS d, max(value) AS m FROM kept"
        [row] = wait_until("the table is read", lambda: self.asked("sql", "--format", "json", text))
        self.assertGreater(row["n"], 0)
        self.assertEqual((row["d"], row["m"]), (row["n"], row["n"] - 1), "no row twice, none missing")


class ObjectStore(Made, unittest.TestCase):
    needs = ("S3_ADDRESS",)

    @classmethod
    def setUpClass(cls):
        endpoint = f"http://{os.environ['S3_ADDRESS']}"
        os.environ.update(
            AWS_ACCESS_KEY_ID="key",
            AWS_SECRET_ACCESS_KEY="secret",
            AWS_REGION="us-east-1",
            AWS_ENDPOINT=endpoint,
            AWS_ALLOW_HTTP="true",
        )
        cls.bucket = f"headwater-{os.urandom(4).hex()}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{cls.bucket}", method="PUT"), timeout=10).close()

    def kept(self, cluster):
        return f"s3://{self.bucket}/{cluster.logs.name}/kept"

    def state(self):
        return f"s3://{self.bucket}/{self._testMethodName}/state"

    def test_leader_killed_and_leader_hung(self):
        cluster = Pair(self._testMethodName, state=self.state())
        self.addCleanup(cluster.stop)
        self.start(cluster)
        killed = cluster.leader()
        killed.kill()
        cluster.wait_for_leader(cluster.other(killed), TAKE_OVER_MAX)
        self.wait_for_batches(3)
        back = cluster.start_one(cluster.schedulers.index(killed))
        hung = cluster.leader()
        signal_to(hung, signal.SIGSTOP)
        cluster.wait_for_leader(back, TAKE_OVER_MAX)
        signal_to(hung, signal.SIGCONT)
        wait_until("it stands by", lambda: (cluster.health(hung) or {}).get("role") == "standby", 30)
        self.wait_for_batches(3)
        self.assert_exactly_once()

    def test_without_ha_a_second_scheduler_is_refused(self):
        cluster = Cluster(self._testMethodName, executors=0, state=self.state())
        self.addCleanup(cluster.stop)
        second = cluster.run("scheduler", "--state-dir", self.state(), "--grpc-port", "0", "--connect-port", "0",
                             "--http-port", "0")  # fmt: skip
        self.assertEqual(second.status, 1, str(second))
        self.assertIn("[STATE_DIRECTORY_IN_USE]", second.err)
        self.assertIn(cluster.grpc, second.err)
        # And one that comes after a kill is not.
        cluster.scheduler.kill()
        cluster.start_scheduler()


@unittest.skipUnless(may_have_networks(), NAMES)
class CutNetwork(Made, unittest.TestCase):
    """Two schedulers, an executor and ZooKeeper, each on a host of its own."""

    needs = ()

    def setUp(self):
        self.network = Network(3)
        self.addCleanup(self.network.remove)
        folder = tempfile.mkdtemp(prefix="headwater-zookeeper-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        script = ROOT / "tests" / "services" / "zookeeper.sh"
        settings = {**os.environ, "HEADWATER_SERVICES_HOST": self.network.gateway, "HEADWATER_SERVICES_OWNER": str(os.getpid())}
        subprocess.run([script, "start", folder], env=settings, check=True)
        self.addCleanup(subprocess.run, [script, "stop", folder], env=settings, check=True)
        zookeeper = (pathlib.Path(folder) / "address").read_text().strip()
        self.cluster = Hosts(self._testMethodName, self.network, f"zookeeper://{zookeeper}/headwater")
        self.addCleanup(self.cluster.stop)

    def test_leader_cut_off_and_mended(self):
        self.start(self.cluster)
        old = self.cluster.leader()
        host = self.cluster.schedulers.index(old)
        new = self.cluster.other(old)
        self.network.cut(host)
        began = time.monotonic()
        self.cluster.wait_for_leader(new, TAKE_OVER_MAX)
        print(f"{self.id()}: the other leads after {time.monotonic() - began:.1f} s")
        self.cluster.wait_for_executors(1)
        print(f"{self.id()}: the executor is there after {time.monotonic() - began:.1f} s")
        self.wait_for_batches(3)
        self.assertIn("leads no more", old.text())
        self.network.mend(host)
        wait_until("it stands by", lambda: (self.cluster.health(old) or {}).get("role") == "standby", 30)
        self.wait_for_batches(3)
        self.assert_exactly_once()

    def test_executor_cut_off_and_mended(self):
        second = self.cluster.start_executor()
        self.cluster.wait_for_executors(2)
        self.start(self.cluster)
        cut, mend = (lambda: self.network.cut(2)), (lambda: self.network.mend(2))
        self.assertLess(noticed(self.cluster, 0, cut, mend, 3), 3)
        self.network.mend(2)
        self.cluster.wait_for_executors(2)
        self.wait_for_batches(3)
        self.assert_exactly_once()
        self.assertTrue(second.alive())


    @unittest.skipUnless(os.path.exists("/dev/net/tun"), "a delay takes /dev/net/tun")
    def test_a_slow_network_fails_nothing_over(self):
        self.start(self.cluster)
        leader = self.cluster.leader()
        epoch = self.cluster.health(leader)["epoch"]
        self.network.delay(self.cluster.schedulers.index(leader), 200, 50)
        began = time.monotonic()
        self.cluster.ok("query", "list")
        self.assertGreater(time.monotonic() - began, 0.3, "the network is slow: a question and the connection before it")
        self.wait_for_batches(10)
        # Longer than a session lasts, and than it takes to give an executor up.
        wait_until("15 s are over", lambda: time.monotonic() - began > 15)
        health = self.cluster.health(leader, 5)
        self.assertEqual((health["role"], health["epoch"]), ("leader", epoch))
        self.assertNotIn("leads no more", leader.text())
        self.assertEqual(len(self.cluster.executor_tasks()), 1)
        self.wait_for_batches(3)
        self.assert_exactly_once()


class Hosts(Pair):
    """A pair of schedulers on hosts 0 and 1 of a network; executors are on host 2."""

    def __init__(self, name, network, ha):
        self.network = network
        super().__init__(name, ha=ha, hosts=network.addresses[:2], wrap=network.wrap, executors=1)

    def start_executor(self):
        number = len(self.executors) + 1
        executor = Process(
            self.logs / f"executor-{number}.log",
            *("executor", "--scheduler", self.grpc, "--task-slots", str(self.task_slots)),
            *("--bind", self.network.addresses[2], "--work-dir", str(self.folder / f"executor-{number}")),
            wrap=self.network.wrap(2),
        )
        self.executors.append(executor)
        return executor


if __name__ == "__main__":
    unittest.main()
