"""The hook: a connection of type `headwater` as a client of the scheduler."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import grpc
from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import BaseHook

from headwater_airflow.client import Client
from headwater_airflow.engine import query_pb2, query_pb2_grpc
from headwater_airflow.settings import Settings, parse

# The form's "test" button is pressed by somebody who waits.
_TEST_TIMEOUT_S = 5.0
# Whoever kills a task waits too, and Airflow gives it seconds.
KILL_PATIENCE_S = 5.0


class HeadwaterHook(BaseHook):
    """Headwater's scheduler, as an Airflow connection names it.

    :param headwater_conn_id: the connection.
    """

    conn_name_attr = "headwater_conn_id"
    default_conn_name = "headwater_default"
    conn_type = "headwater"
    hook_name = "Headwater"

    def __init__(self, headwater_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.headwater_conn_id = headwater_conn_id

    @cached_property
    def settings(self) -> Settings:
        """What the connection says."""
        connection = self.get_connection(self.headwater_conn_id)
        return parse(
            connection.host,
            connection.port,
            connection.extra_dejson,
            login=connection.login,
            password=connection.password,
        )

    @cached_property
    def client(self) -> Client:
        """The scheduler's API."""
        return Client(self.settings)

    def get_conn(self) -> grpc.Channel:
        """The gRPC channel, for calls that the client does not have."""
        return self.client.channel

    def killing(self) -> Client:
        """A client for cancelling: a connection of its own, with little patience."""
        return Client(killing_settings(self.settings))

    def test_connection(self) -> tuple[bool, str]:
        """Whether a scheduler answers: of several, the one that leads."""
        refusals = []
        try:
            settings = self.settings
            for number, target in enumerate(settings.targets):
                try:
                    with settings.channel(number) as channel:
                        stub = query_pb2_grpc.QueryServiceStub(channel)
                        listed = stub.List(query_pb2.ListRequest(), timeout=_TEST_TIMEOUT_S)
                    return True, f"the scheduler at {target} answers; it has {len(listed.queries)} streaming queries"
                except grpc.RpcError as error:
                    code = error.code()
                    refusals.append(f"{target}: {code.name if code else 'UNKNOWN'}: {error.details()}")
        except Exception as error:
            return False, str(error)
        return False, "; ".join(refusals)


async def settings_of(headwater_conn_id: str) -> Settings:
    """What a connection says, for an event loop."""
    connection = await get_async_connection(headwater_conn_id)
    extra = await get_async_extra_dejson(connection)
    return parse(connection.host, connection.port, extra, login=connection.login, password=connection.password)


def killing_settings(settings: Settings) -> Settings:
    """The same scheduler with little patience."""
    return replace(settings, patience_s=KILL_PATIENCE_S, timeout_s=min(settings.timeout_s, KILL_PATIENCE_S))
