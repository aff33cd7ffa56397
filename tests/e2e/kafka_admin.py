"""Just enough of Kafka's protocol to make a topic with settings of its own, which `headwater topic create` has not."""

import socket
import struct

CREATE_TOPICS, VERSION = 19, 2


def _text(text):
    data = text.encode()
    return struct.pack("!h", len(data)) + data


def create_topic(brokers, name, partitions, settings):
    """Makes a topic of one copy, or fails. `settings`: as in the broker's documentation."""
    host, _, port = brokers.partition(",")[0].rpartition(":")
    configs = b"".join(_text(key) + _text(value) for key, value in settings.items())
    topic = _text(name) + struct.pack("!ihi", partitions, 1, 0) + struct.pack("!i", len(settings)) + configs
    body = struct.pack("!i", 1) + topic + struct.pack("!i?", 30_000, False)
    request = struct.pack("!hhi", CREATE_TOPICS, VERSION, 1) + _text("tests") + body
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(struct.pack("!i", len(request)) + request)
        stream = connection.makefile("rb")
        (length,) = struct.unpack("!i", stream.read(4))
        answer = stream.read(length)
    # Correlation, throttle, one topic: its name, its error.
    at = 4 + 4 + 4
    (size,) = struct.unpack("!h", answer[at : at + 2])
    (error,) = struct.unpack("!h", answer[at + 2 + size : at + 4 + size])
    if error:
        raise AssertionError(f"topic {name} could not be made: error {error}")
