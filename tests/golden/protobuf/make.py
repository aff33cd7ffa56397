#!/usr/bin/env python3
"""Records cases.json: Protobuf messages by Google's own library, and one by Confluent's serializer.

    pip install protobuf grpcio-tools "confluent-kafka[protobuf,schemaregistry]" && python3 make.py
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

here = pathlib.Path(__file__).parent
work = tempfile.mkdtemp()
subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{here}", f"--python_out={work}", "golden.proto"], check=True)
subprocess.run(
    [sys.executable, "-m", "grpc_tools.protoc", f"-I{here}", "--include_imports", f"--descriptor_set_out={here}/golden.desc", "golden.proto"],
    check=True,
)
sys.path.insert(0, work)
import golden_pb2  # noqa: E402

ann = golden_pb2.User(
    id="a",
    name="",
    small=-1,
    large=2**63 - 1,
    unsigned_small=2**32 - 1,
    unsigned_large=2**64 - 1,
    zigzag=-300,
    fixed_small=7,
    fixed_large=-7,
    ratio=0.5,
    score=-0.25,
    flag=True,
    raw=b"\xff\x00",
    rank=golden_pb2.User.HIGH,
    home=golden_pb2.User.Home(city="Köln", zip=0),
    numbers=[1, 2, 3],
    homes=[golden_pb2.User.Home(city="x"), golden_pb2.User.Home()],
    counts={"one": 1, "two": 2},
    by_number={2: golden_pb2.User.Home(city="y")},
    phone=5,
)
ann.seen.FromJsonString("1969-12-31T23:59:59.999999Z")
ann.took.FromJsonString("-1.500s")
ann.note.value = "hello"

client = SchemaRegistryClient.new_client({"url": "mock://golden"})
serializer = ProtobufSerializer(golden_pb2.User, client, {"use.deprecated.format": False, "subject.name.strategy": topic_subject_name_strategy})
framed = serializer(ann, SerializationContext("users", MessageField.VALUE))
cases = {
    "full": ann.SerializeToString(deterministic=True).hex(),
    "empty": golden_pb2.User().SerializeToString().hex(),
    "other": golden_pb2.Other(text="t").SerializeToString().hex(),
    "confluent": {"id": client.get_latest_version("users-value").schema_id, "bytes": framed.hex()},
}
(here / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
