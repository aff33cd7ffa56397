"""Measures how long a query stands still when a part of the cluster dies or hangs.

usage: tests/services/with-services.sh zookeeper -- python3 tests/e2e/recovery.py [--repeat N] [SCENARIO...]

HEADWATER_BIN names the binary. The query writes numbers to Parquet files in batches of some hundred milliseconds, on two
executors. Each scenario is repeated on one cluster, whose parts are started again in between; its figure is the longest
time between two commits of the query, from the fault until three batches after it; the first line is what that is
without a fault. `broker_away` has a Kafka and a query of its own. At the end every number must be in the table once.
Prints a table in Markdown.
"""

import argparse
import os
import signal
import statistics
import time
import unittest

from cluster import Cluster, wait_until
from cluster import produce as produce_records
from failover import Pair, signal_to
from services import Service

SCENARIOS = {}


def scenario(title):
    def keep(function):
        SCENARIOS[function.__name__] = (title, function)
        return function

    return keep


class Query:
    def __init__(self, cluster):
        self.cluster = cluster
        self.commits = cluster.folder / "checkpoint" / "commits"
        text = f"""CREATE TABLE made USING `rate-micro-batch` OPTIONS (rowsPerBatch '1000', numPartitions '4');
            CREATE TABLE kept USING parquet OPTIONS (path '{(cluster.folder / "kept").as_uri()}');
            CREATE FLOW keep AS INSERT INTO kept SELECT value FROM STREAM(made);"""
        cluster.ok("submit", cluster.file("made.sql", text), "--detach",
                   "--checkpoint", (cluster.folder / "checkpoint").as_uri())  # fmt: skip
        self.wait(5)

    def at(self):
        """When each batch was committed, by number."""
        found = {}
        for file in os.scandir(self.commits) if self.commits.exists() else []:
            if file.name.isdigit():
                try:
                    found[int(file.name)] = file.stat().st_mtime
                except FileNotFoundError:
                    pass  # purged meanwhile
        return found

    def wait(self, more):
        target = max(self.at(), default=-1) + more
        wait_until(f"{more} more batches", lambda: max(self.at(), default=-1) >= target)

    def longest_pause(self, since):
        """Between two commits, the later after `since`."""
        self.wait(3)
        at = [when for _, when in sorted(self.at().items())]
        return max(later - earlier for earlier, later in zip(at, at[1:]) if later > since)

    def check(self):
        self.cluster.ok("query", "stop", "keep")
        [row] = self.cluster.sql("SELECT count(*) AS n, count(DISTINCT value) AS d, max(value) AS m FROM kept")
        assert (row["d"], row["m"]) == (row["n"], row["n"] - 1), f"rows twice or missing: {row}"
        return row["n"]


def measure(repeat, make, fault):
    """`fault(cluster)` makes the fault and returns what mends it."""
    cluster = make()
    pauses = []
    try:
        query = Query(cluster)
        for _ in range(repeat):
            query.wait(10)
            since = time.time()
            mend = fault(cluster)
            # The fault may hit between batches: it counts from when it was made.
            wait_until("a commit after the fault", lambda: max(query.at().values()) > since)
            pauses.append(query.longest_pause(since))
            mend()
        rows = query.check()
    finally:
        cluster.stop()
    return pauses, rows


def lose_executor(number):
    def fault(cluster):
        executor = cluster.executors.pop(0)
        signal_to(executor, number)

        def mend():
            signal_to(executor, signal.SIGKILL)
            executor._process.wait()
            cluster.start_executor()
            cluster.wait_for_executors(2)

        return mend

    return fault


@scenario("nothing: the longest pause of the same time without a fault")
def nothing(repeat):
    return measure(repeat, lambda: Cluster("recovery"), lambda cluster: lambda: None)


@scenario("executor killed")
def executor_killed(repeat):
    return measure(repeat, lambda: Cluster("recovery"), lose_executor(signal.SIGKILL))


@scenario("executor hung")
def executor_hung(repeat):
    return measure(repeat, lambda: Cluster("recovery"), lose_executor(signal.SIGSTOP))


@scenario("scheduler killed and started again")
def scheduler_restarted(repeat):
    def fault(cluster):
        cluster.scheduler.kill()
        cluster.start_scheduler()
        return lambda: cluster.wait_for_executors(2)

    return measure(repeat, lambda: Cluster("recovery"), fault)


def depose(number):
    def fault(cluster):
        old = cluster.leader()
        signal_to(old, number)

        def mend():
            if number == signal.SIGKILL:
                old._process.wait()
                cluster.start_one(cluster.schedulers.index(old))
            else:
                signal_to(old, signal.SIGCONT)
            other = cluster.other(cluster.leader())
            wait_until("the other stands by", lambda: (cluster.health(other) or {}).get("role") == "standby")
            cluster.wait_for_executors(2)

        return mend

    return fault


@scenario("leader killed, `--ha state-dir`")
def failover_killed(repeat):
    return measure(repeat, lambda: Pair("recovery"), depose(signal.SIGKILL))


@scenario("leader hung, `--ha state-dir`")
def failover_hung(repeat):
    return measure(repeat, lambda: Pair("recovery"), depose(signal.SIGSTOP))


def zookeeper():
    return f"zookeeper://{os.environ['ZOOKEEPER_ADDRESS']}/recovery-{os.urandom(4).hex()}"


@scenario("leader killed, `--ha zookeeper`")
def failover_killed_zookeeper(repeat):
    return measure(repeat, lambda: Pair("recovery", ha=zookeeper()), depose(signal.SIGKILL))


@scenario("leader hung, `--ha zookeeper`")
def failover_hung_zookeeper(repeat):
    return measure(repeat, lambda: Pair("recovery", ha=zookeeper()), depose(signal.SIGSTOP))


@scenario("broker away until the query has failed five times: from the broker's return")
def broker_away(repeat):
    """A query of its own, from Kafka: every record that was produced must be in the table once."""
    case = unittest.TestCase()
    try:
        kafka = Service(case, "kafka")
        cluster = Cluster("recovery")
        case.addCleanup(cluster.stop)
        cluster.ok("topic", "create", "numbers", "--partitions", 4, "--kafka", kafka.address)
        text = f"""CREATE TABLE numbers USING kafka OPTIONS ('kafka.bootstrap.servers' '{kafka.address}',
                subscribe 'numbers', startingOffsets 'earliest', 'kafka.default.api.timeout.ms' '2000');
            CREATE TABLE kept USING parquet OPTIONS (path '{(cluster.folder / "kept").as_uri()}');
            CREATE FLOW keep AS INSERT INTO kept SELECT CAST(value AS STRING) AS value FROM STREAM(numbers);"""
        cluster.ok("submit", cluster.file("numbers.sql", text), "--detach")
        pauses, made = [], 0

        def produce():
            nonlocal made
            produce_records(cluster, "numbers", [str(number) for number in range(made, made + 1000)])
            made += 1000

        def caught_up():
            query = cluster.queries()["keep"]
            return query["state"] == "WAITING" and query["lag"] == 0 and query["trouble"] is None

        for _ in range(repeat):
            produce()
            wait_until("the query has caught up", caught_up)
            kafka.kill()
            failed = lambda: (cluster.queries()["keep"]["trouble"] or {}).get("attempts", 0) >= 5
            wait_until("the query has failed five times", failed)
            kafka.revive()
            since = time.time()
            wait_until("the query has recovered", lambda: cluster.queries()["keep"]["trouble"] is None)
            pauses.append(time.time() - since)
        produce()
        wait_until("the query has caught up", caught_up)
        cluster.ok("query", "stop", "keep")
        [row] = cluster.sql("SELECT count(*) AS n, count(DISTINCT value) AS d FROM kept")
        assert row["n"] == row["d"] == made, f"rows twice or missing: {row}, {made} were made"
        return pauses, made
    finally:
        case.doCleanups()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    arguments = parser.parse_args()
    print("| fault | times | p50 s | max s | rows, each once |\n|---|---|---|---|---|", flush=True)
    for name in arguments.scenarios or SCENARIOS:
        if "zookeeper" in name and not os.environ.get("ZOOKEEPER_ADDRESS"):
            print(f"{name}: skipped, ZOOKEEPER_ADDRESS is not set", flush=True)
            continue
        title, run = SCENARIOS[name]
        pauses, rows = run(arguments.repeat)
        print(f"| {title} | {len(pauses)} | {statistics.median(pauses):.2f} | {max(pauses):.2f} | {rows:,} |", flush=True)


if __name__ == "__main__":
    main()
