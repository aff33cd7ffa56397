"""Just enough of PostgreSQL's protocol for tests to look into the database without Headwater: one connection, no
password, simple queries whose values come back as text."""

import contextlib
import os
import socket
import struct


class Error(Exception):
    """The server's answer to a statement it refused."""


class Connection:
    """`address` is host:port."""

    def __init__(self, address, database="postgres", user="postgres"):
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._input = self._socket.makefile("rb")
        parameters = b"".join(text.encode() + b"\0" for text in ("user", user, "database", database)) + b"\0"
        self._socket.sendall(struct.pack("!ii", 8 + len(parameters), 196608) + parameters)
        self._until_ready()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.sendall(b"X" + struct.pack("!i", 4))
        self._input.close()
        self._socket.close()

    def execute(self, statement):
        """The rows, as tuples of texts; None is NULL."""
        body = statement.encode() + b"\0"
        self._socket.sendall(b"Q" + struct.pack("!i", 4 + len(body)) + body)
        return self._until_ready()

    def value(self, statement):
        """The one value of the one row."""
        ((value,),) = self.execute(statement)
        return value

    def _read(self, count):
        data = self._input.read(count)
        if len(data) != count:
            raise ConnectionError("postgres closed the connection")
        return data

    def _until_ready(self):
        rows, failure = [], None
        while True:
            kind = self._read(1)
            (length,) = struct.unpack("!i", self._read(4))
            body = self._read(length - 4)
            if kind == b"D":
                rows.append(self._row(body))
            elif kind == b"R" and struct.unpack("!i", body[:4])[0] != 0:
                raise Error("the server asks for a password, which this client has not")
            elif kind == b"E":
                fields = {field[:1]: field[1:] for field in body.split(b"\0") if field}
                failure = Error(f"{fields.get(b'C', b'').decode()}: {fields.get(b'M', b'').decode()}")
                if fields.get(b"S") == b"FATAL":
                    raise failure
            elif kind == b"Z":
                if failure:
                    raise failure
                return rows

    @staticmethod
    def _row(body):
        (count,) = struct.unpack("!h", body[:2])
        at, values = 2, []
        for _ in range(count):
            (length,) = struct.unpack("!i", body[at : at + 4])
            at += 4
            if length < 0:
                values.append(None)
                continue
            values.append(body[at : at + length].decode())
            at += length
        return tuple(values)


class Database:
    """A database of a test's own, on the server of POSTGRES_ADDRESS."""

    def __init__(self, name):
        self.address = os.environ["POSTGRES_ADDRESS"]
        self.name = f"{name}_{os.urandom(4).hex()}".lower()
        with Connection(self.address) as connection:
            connection.execute(f"CREATE DATABASE {self.name}")
        self.url = f"postgresql://postgres@{self.address}/{self.name}"

    def execute(self, statement):
        with Connection(self.address, self.name) as connection:
            return connection.execute(statement)

    def value(self, statement):
        ((value,),) = self.execute(statement)
        return value

    def drop(self):
        with Connection(self.address) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
