"""Errors of the gRPC API as Airflow's exceptions.

The scheduler says of each error what the caller should do, by its gRPC code, and which it is, by a class in brackets in
front of the message. Here the first decides whether Airflow tries the task again.
"""

from __future__ import annotations

import re

import grpc
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

_CLASS = re.compile(r"^\[([A-Z0-9_.]{3,})\]\s*(.*)$", re.DOTALL)
# The scheduler is away, or what it needs is: the same call may succeed later.
_TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
# The same call fails for ever.
_HOPELESS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED}
_HOPELESS_CLASSES = {"INGEST_RUN_EXISTS"}


class HeadwaterError(AirflowException):
    """Headwater refused or failed; another try of the task may succeed."""

    def __init__(self, message: str, *, error_class: str = "", code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.code = code


class HeadwaterRequestError(HeadwaterError, AirflowFailException):
    """The request is wrong, and stays so: the task fails without another try."""


class HeadwaterNotFound(HeadwaterError):
    """No run or query of that name."""


def is_transient(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed in a moment."""
    return error.code() in _TRANSIENT


def explain(error: grpc.RpcError, doing: str, target: str) -> HeadwaterError:
    """What Airflow is to raise in place of a gRPC error; `doing` and `target` say what failed where."""
    code, details = error.code(), error.details() or ""
    found = _CLASS.match(details)
    error_class = found[1] if found else ""
    name = code.name if code is not None else "UNKNOWN"
    text = f"{doing} at {target}: {details or f'[{name}] the scheduler gave no reason'}"
    if code == grpc.StatusCode.UNAVAILABLE and not found:
        text += "; is the scheduler up, and are host, port and TLS of the connection right?"
    if code == grpc.StatusCode.UNIMPLEMENTED and not found:
        text += "; what listens there is no scheduler of this version"
    if code == grpc.StatusCode.NOT_FOUND:
        return HeadwaterNotFound(text, error_class=error_class, code=code)
    kind = HeadwaterRequestError if code in _HOPELESS or error_class in _HOPELESS_CLASSES else HeadwaterError
    return kind(text, error_class=error_class, code=code)
