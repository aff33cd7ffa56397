"""Triggers, rebuilt from what they serialize to, as the triggerer does it."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from dataclasses import replace

from headwater_airflow.conditions import Condition
from headwater_airflow.engine import ingest_pb2
from headwater_airflow.hooks.headwater import HeadwaterHook
from headwater_airflow.triggers import ingest as ingest_trigger
from headwater_airflow.triggers import query as query_trigger
from headwater_airflow.triggers.ingest import HeadwaterIngestTrigger
from headwater_airflow.triggers.query import HeadwaterQueryTrigger


def rebuilt(trigger):
    path, kwargs = trigger.serialize()
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)(**json.loads(json.dumps(kwargs)))


async def first(trigger):
    async for event in trigger.run():
        return event.payload
    return None


async def while_running(trigger, act, *, seconds=20):
    """The first event; `act` runs in a thread meanwhile."""
    event = asyncio.create_task(first(trigger))
    await asyncio.to_thread(act)
    return await asyncio.wait_for(event, seconds)


def start(scheduler, owner="try 1", outcome=None):
    scheduler.outcome = outcome
    with HeadwaterHook().client as client:
        client.start_ingest(ingest_pb2.StartIngestRequest(run_id="r", users=5, topic="t", owner=owner))


def ingest(**kwargs):
    return rebuilt(HeadwaterIngestTrigger("headwater_default", "r", "try 1", **kwargs))


def test_an_ingest_run_ends(scheduler):
    start(scheduler)
    event = asyncio.run(while_running(ingest(), lambda: scheduler.set_run("r", ingest_pb2.INGEST_STATE_FINISHED)))
    assert (event["outcome"], event["run"]["state"], event["run"]["offsets"]) == (
        "ended",
        "FINISHED",
        {"t": {"0": 5, "1": 0}},
    )
    json.dumps(event)


def test_an_ingest_run_is_killed(scheduler):
    start(scheduler)
    asyncio.run(ingest().on_kill())
    assert scheduler.calls[-1] == "cancel r"


def test_a_late_kill_leaves_the_next_try_alone(scheduler):
    start(scheduler)
    start(scheduler, "try 2")
    asyncio.run(ingest().on_kill())
    assert scheduler.calls[-1] == "cancel-of-another r"
    assert scheduler.runs["r"].state == ingest_pb2.INGEST_STATE_FETCHING


def test_time_is_over(scheduler):
    start(scheduler)
    event = asyncio.run(first(ingest(deadline=time.time() + 0.5)))
    assert event == {"outcome": "timeout", "run_id": "r"}
    assert scheduler.calls[-1] == "cancel r"


def test_time_is_over_while_the_scheduler_is_away(scheduler, monkeypatch):
    own = scheduler.add_query("own")
    start(scheduler)
    scheduler.stop()
    told = []
    for module in (ingest_trigger, query_trigger):
        monkeypatch.setattr(module, "killing_settings", lambda settings: replace(settings, patience_s=0.5, timeout_s=1.0))
    for trigger in (ingest(), queries(wait(own.id, Condition(batch=2), own.run_id))):
        trigger.deadline = time.time() + 0.5
        monkeypatch.setattr(trigger.log, "warning", lambda text, *values: told.append(text % values))
        assert asyncio.run(first(trigger))["outcome"] == "timeout"
    assert len(told) == 2
    assert all(text.startswith("time is over, and what was waited for could not be cancelled: ") for text in told)


def test_a_run_that_is_gone(scheduler):
    event = asyncio.run(first(ingest()))
    assert (event["outcome"], event["final"]) == ("error", False)
    assert "INGEST_RUN_NOT_FOUND" in event["message"]


def test_the_scheduler_goes_and_comes(scheduler):
    start(scheduler)

    def act():
        scheduler.stop()
        scheduler.set_run("r", ingest_pb2.INGEST_STATE_FINISHED)
        scheduler.start()

    event = asyncio.run(while_running(ingest(), act))
    assert event["run"]["state"] == "FINISHED"


def wait(query, condition, own=False):
    return {"ref": query, "run_id": own, "condition": condition.serialize()}


def queries(*waits, **kwargs):
    return rebuilt(HeadwaterQueryTrigger("headwater_default", list(waits), **kwargs))


def test_all_queries_have_to_be_there(scheduler):
    scheduler.add_query("a")
    scheduler.add_query("b")
    scheduler.commit("a", 2)
    trigger = queries(wait("a", Condition(batch=2)), wait("b", Condition(offsets={"t": {0: 5}})))

    def act():
        scheduler.commit("b", 0, {"t": {"0": 4}})
        scheduler.commit("b", 1, {"t": {"0": 5}})

    event = asyncio.run(while_running(trigger, act))
    assert event["outcome"] == "met"
    assert [query["name"] for query in event["queries"]] == ["a", "b"]


def test_a_query_fails(scheduler):
    scheduler.add_query("a")
    scheduler.add_query("b")
    trigger = queries(wait("a", Condition(batch=2)), wait("b", Condition(batch=2)))
    event = asyncio.run(while_running(trigger, lambda: scheduler.set_query("b", "FAILED", message="[X] gone")))
    assert event["outcome"] == "error"
    assert "query b is FAILED before batch 2 is committed (now -1): [X] gone" in event["message"]


def test_a_query_that_is_not_there_yet(scheduler):
    event = asyncio.run(first(queries(wait("a", Condition(batch=0)))))
    assert (event["outcome"], "STREAMING_QUERY_NOT_FOUND" in event["message"]) == ("error", True)
    trigger = queries(wait("a", Condition(batch=0)), wait_until_exists=True, poll_interval=0.1)

    def act():
        scheduler.add_query("a")
        scheduler.commit("a", 0)

    assert asyncio.run(while_running(trigger, act))["outcome"] == "met"


def test_killing_stops_what_is_ones_own(scheduler):
    own, other = scheduler.add_query("own"), scheduler.add_query("other")
    finished = Condition(states=frozenset({"FINISHED"}))
    trigger = queries(wait(own.id, finished, own.run_id), wait(other.id, finished, ""))
    asyncio.run(trigger.on_kill())
    assert (scheduler.queries["own"].state, scheduler.queries["other"].state) == ("STOPPED", "RUNNING")
    # Somebody has started it anew since.
    scheduler.set_query("own", "RUNNING", run_id="new")
    asyncio.run(trigger.on_kill())
    assert scheduler.queries["own"].state == "RUNNING"


def test_a_wait_has_a_deadline(scheduler):
    query = scheduler.add_query("a")
    trigger = queries(wait("a", Condition(batch=0), query.run_id), deadline=time.time() + 0.5)
    assert asyncio.run(first(trigger))["outcome"] == "timeout"
    assert scheduler.queries["a"].state == "STOPPED"
