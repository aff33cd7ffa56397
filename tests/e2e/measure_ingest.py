#!/usr/bin/env python3
"""Measures ingest runs: users/s staged and published, and memory.

    HEADWATER_BIN=… tests/services/with-services.sh kafka postgres -- python3 tests/e2e/measure_ingest.py [USERS [RUNS]]

The API is replayed on the same machine, from answers that were made before the clock starts. Times are PostgreSQL's: from
the run's start to the last page that was staged, and from there to the run's end.
"""

import os
import pathlib
import sys
import urllib.request

import cluster
from pg import Database
from test_ingest import Replay

PAGE = 1000


def memory(process, field):
    """MiB of a process: VmHWM, the most it had, or VmRSS."""
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) // 1024
    raise AssertionError(f"no {field} of process {process.pid}")


def cpu_s(process):
    stat = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def main():
    users = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    replay, database = Replay(), Database("measure")
    headwater = cluster.Cluster("measure")
    processes = {"scheduler": headwater.scheduler, **{f"executor {n}": e for n, e in enumerate(headwater.executors, 1)}}
    try:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {users} users, pages of {PAGE}")
        print("at rest: " + ", ".join(f"{name} {memory(p, 'VmRSS')} MiB" for name, p in processes.items()))
        for run in range(1, runs + 1):
            seed, topic = f"m{os.urandom(6).hex()}", f"measure_{os.urandom(4).hex()}"
            # The replay keeps 256 answers.
            for page in range(1, min(users // PAGE, 250) + 1):
                urllib.request.urlopen(f"{replay.url}?results={PAGE}&page={page}&seed={seed}", timeout=60).read()
            headwater.ok("topic", "create", topic, "--partitions", 4, "--kafka", cluster.kafka())
            before = {name: cpu_s(process) for name, process in processes.items()}
            start = ("ingest", "start", "--source", replay.url, "--users", users, "--topic", topic, "--seed", seed)
            more = ("--postgres", database.url, "--kafka", cluster.kafka(), "--page-size", PAGE, "--run-id", topic)
            done = headwater.run(*start, *more, seconds=1800)
            assert done.status == 0, str(done)
            staging, publishing = map(
                float,
                database.execute(
                    "SELECT extract(epoch FROM max(p.staged_at) - r.started_at), extract(epoch FROM r.ended_at - max(p.staged_at)) "
                    "FROM headwater.ingest_runs r JOIN headwater.ingest_pages p USING (run_id) "
                    f"WHERE run_id = '{topic}' GROUP BY r.started_at, r.ended_at"
                )[0],
            )
            work = {name: cpu_s(process) - before[name] for name, process in processes.items()}
            print(
                f"run {run}: fetched and staged {users / staging:,.0f} users/s ({staging:.1f} s), published and marked "
                f"{users / publishing:,.0f} users/s ({publishing:.1f} s), whole {users / (staging + publishing):,.0f} users/s; "
                f"CPU {sum(work.values()):.1f} s"
            )
        print("at most: " + ", ".join(f"{name} {memory(p, 'VmHWM')} MiB" for name, p in processes.items()))
    finally:
        headwater.stop()
        replay.stop()
        database.drop()


if __name__ == "__main__":
    main()
