"""Rows of a result as plain JSON values, which XCom can keep."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa


def of_stream(ipc: bytes) -> Iterator[dict[str, Any]]:
    """The rows of one Arrow IPC stream, by column name."""
    with pa.ipc.open_stream(ipc) as reader:
        for batch in reader:
            columns = [[plain(value) for value in _convertible(column).to_pylist()] for column in batch.columns]
            names = batch.schema.names
            for row in range(batch.num_rows):
                yield {name: column[row] for name, column in zip(names, columns, strict=True)}


def columns_of(ipc: bytes) -> list[str]:
    """The column names of one Arrow IPC stream."""
    with pa.ipc.open_stream(ipc) as reader:
        return list(reader.schema.names)


def plain(value: Any) -> Any:
    """A value as JSON has it: times in ISO 8601, decimals as text, bytes in hexadecimal, no NaN."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case decimal.Decimal():
            return format(value, "f")
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
        case Mapping():
            return {str(key): plain(one) for key, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case _:
            return str(value)


def _convertible(column: Any) -> Any:
    """Python's datetime has microseconds; Arrow refuses to drop the rest unless told."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    if pa.types.is_time64(column.type) and column.type.unit == "ns":
        return column.cast(pa.time64("us"), safe=False)
    if pa.types.is_duration(column.type) and column.type.unit == "ns":
        return column.cast(pa.duration("us"), safe=False)
    return column
