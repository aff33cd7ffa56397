"""The little of CQL's native protocol (version 4) that the tests need: a second opinion on what is in Cassandra.

The tests make tables and read ledgers through this, not through the connector that they examine.
"""

import socket
import struct
import uuid

_ERROR, _STARTUP, _READY, _QUERY, _RESULT = 0x00, 0x01, 0x02, 0x07, 0x08
_ROWS = 2
_CONSISTENCY_ONE = 1


class Error(Exception):
    """What the server answered in place of a result."""


class Connection:
    """One connection, one request at a time."""

    def __init__(self, address, timeout=30):
        host, _, port = address.split(",")[0].rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout)
        body = struct.pack(">H", 1) + _string("CQL_VERSION") + _string("3.0.0")
        opcode, answer = self._request(_STARTUP, body)
        if opcode != _READY:
            raise Error(f"expected READY, got opcode {opcode}: {answer[:100]!r}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close()

    def execute(self, cql):
        """Rows as tuples; an empty list for what is not a query."""
        text = cql.encode()
        body = struct.pack(">I", len(text)) + text + struct.pack(">HB", _CONSISTENCY_ONE, 0)
        opcode, answer = self._request(_QUERY, body)
        if opcode != _RESULT:
            raise Error(f"expected RESULT, got opcode {opcode}: {answer[:100]!r}")
        reader = _Reader(answer)
        return _rows(reader) if reader.int() == _ROWS else []

    def _request(self, opcode, body):
        self._socket.sendall(struct.pack(">BBHBI", 0x04, 0, 0, opcode, len(body)) + body)
        _, flags, _, opcode, length = struct.unpack(">BBHBI", self._receive(9))
        answer = self._receive(length)
        if flags & 0x08:  # warnings come first
            reader = _Reader(answer)
            for _ in range(reader.short()):
                reader.string()
            answer = answer[reader.at :]
        if opcode == _ERROR:
            reader = _Reader(answer)
            code = reader.int()
            raise Error(f"{code:#x} {reader.string()}")
        return opcode, answer

    def _receive(self, count):
        received = bytearray()
        while len(received) < count:
            piece = self._socket.recv(count - len(received))
            if not piece:
                raise Error("the server closed the connection")
            received += piece
        return bytes(received)


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def int(self):
        return struct.unpack(">i", self.take(4))[0]

    def short(self):
        return struct.unpack(">H", self.take(2))[0]

    def string(self):
        return self.take(self.short()).decode()

    def type(self):
        kind = self.short()
        if kind == 0x00:
            self.string()
        elif kind in (0x20, 0x22):
            self.type()
        elif kind == 0x21:
            self.type(), self.type()
        elif kind in (0x30, 0x31):
            raise Error("user-defined types and tuples are not read here")
        return kind


def _string(text):
    return struct.pack(">H", len(text.encode())) + text.encode()


def _rows(reader):
    flags, columns = reader.int(), reader.int()
    if flags & 0x02:
        raise Error("a paged answer, although no page size was asked for")
    if flags & 0x01:
        reader.string(), reader.string()
    kinds = []
    for _ in range(columns):
        if not flags & 0x01:
            reader.string(), reader.string()
        reader.string()
        kinds.append(reader.type())
    rows = []
    for _ in range(reader.int()):
        rows.append(tuple(_value(kind, reader) for kind in kinds))
    return rows


def _value(kind, reader):
    length = reader.int()
    if length < 0:
        return None
    data = reader.take(length)
    if kind in (0x01, 0x0D):
        return data.decode()
    if kind in (0x02, 0x05, 0x09, 0x0B, 0x0E, 0x13, 0x14):
        return int.from_bytes(data, "big", signed=True)
    if kind == 0x04:
        return data != b"\0"
    if kind == 0x07:
        return struct.unpack(">d", data)[0]
    if kind == 0x08:
        return struct.unpack(">f", data)[0]
    if kind in (0x0C, 0x0F):
        return uuid.UUID(bytes=data)
    return data
