#!/usr/bin/env python3
"""Records cases.json: Avro records and what they are, by Apache's and others' own libraries.

    pip install fastavro avro "confluent-kafka[avro,schemaregistry]" && python3 make.py

Bytes are fastavro's; those that `avro` (Apache) writes are compared with them. What a record is under a reader's schema
is what fastavro resolves it to, in the JSON that Spark's to_json writes. The records of "confluent" are made by
confluent-kafka's AvroSerializer.
"""

import base64
import datetime
import decimal
import io
import json
import pathlib
import uuid

import avro.io
import avro.schema
import fastavro
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

UTC = datetime.timezone.utc


def record(*fields, name="R", **more):
    return {"type": "record", "name": name, "fields": [dict(field) for field in fields], **more}


def field(name, type, **more):
    return {"name": name, "type": type, **more}


OPTIONAL = ["null", "string"]
USER = record(
    field("id", {"type": "string", "logicalType": "uuid"}),
    field("name", OPTIONAL, default=None),
    field("born", {"type": "int", "logicalType": "date"}),
    field("seen", {"type": "long", "logicalType": "timestamp-millis"}),
    field("since", {"type": "long", "logicalType": "timestamp-micros"}),
    field("balance", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}),
    field("rank", {"type": "enum", "name": "Rank", "symbols": ["LOW", "HIGH"]}),
    field("tags", {"type": "array", "items": "string"}),
    field("scores", {"type": "map", "values": "double"}),
    field("home", ["null", record(field("city", "string"), field("zip", ["int", "string"]), name="Home")]),
    field("key", {"type": "fixed", "name": "Key", "size": 4}),
    field("raw", "bytes"),
    field("small", "int"),
    field("large", "long"),
    field("ratio", "float"),
    field("flag", "boolean"),
    name="User",
    namespace="example",
)
ANN = {
    "id": "00000000-0000-4000-8000-0000000000ff",
    "name": "Ann Ü",
    "born": datetime.date(1969, 12, 31),
    "seen": datetime.datetime(2024, 2, 29, 12, 30, 15, 250000, UTC),
    "since": datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
    "balance": decimal.Decimal("-1234567.89"),
    "rank": "HIGH",
    "tags": ["a", "", "ccc"],
    "scores": {"x": 1.5, "y": -0.25},
    "home": {"city": "Köln", "zip": "50667"},
    "key": b"\x00\x01\xfe\xff",
    "raw": b"\xff\x00",
    "small": -(2**31),
    "large": 2**63 - 1,
    "ratio": 0.5,
    "flag": True,
}
BOB = {**ANN, "name": None, "home": None, "tags": [], "scores": {}, "balance": decimal.Decimal("0.00"), "flag": False}
EVE = {**ANN, "home": {"city": "", "zip": 7}}

V1 = record(field("id", "long"), field("name", "string"), field("gone", {"type": "map", "values": {"type": "array", "items": ["null", "int"]}}))
V2 = record(
    field("email", OPTIONAL, default=None),
    field("title", "string", aliases=["name"]),
    field("id", "double"),
    field("level", "int", default=3),
    field("tags", {"type": "array", "items": "string"}, default=["x"]),
)
OLD = {"id": 7, "name": "n", "gone": {"k": [None, 1]}}

# name, writer's schema, value, reader's schema
CASES = [
    ("user", USER, ANN, None),
    ("user without much", USER, BOB, None),
    ("the other branch", USER, EVE, None),
    ("an older record", V1, OLD, V2),
    ("int as long", "int", -5, "long"),
    ("int as double", "int", -5, "double"),
    ("long as float", "long", 3, "float"),
    ("float as double", "float", 0.25, "double"),
    ("string as bytes", "string", "é", "bytes"),
    ("bytes as string", "bytes", "é".encode(), "string"),
    ("into a union", "string", "x", ["null", "string"]),
    ("out of a union", ["null", "int"], 5, "int"),
    ("into the promoted branch", "int", 5, ["null", "double"]),
    ("a symbol that is new", {"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}, "C", {"type": "enum", "name": "E", "symbols": ["A", "U"], "default": "U"}),
    ("fixed decimal", {"type": "fixed", "name": "D", "size": 6, "logicalType": "decimal", "precision": 10, "scale": 3}, decimal.Decimal("-0.001"), None),
    ("local timestamp", {"type": "long", "logicalType": "local-timestamp-micros"}, datetime.datetime(2024, 1, 1, 0, 0, 0, 1), None),
    ("nested", {"type": "array", "items": {"type": "map", "values": {"type": "array", "items": "long"}}}, [{"a": [1, 2]}, {}], None),
]


def shown(value, schema):
    """As Spark's to_json writes what Spark reads."""
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        if value is None:
            return None
        if len(branches) == 1:
            return shown(value, branches[0])
        # Of int and string alone, which is all that is used here.
        index = 0 if isinstance(value, int) else 1
        return {f"member{index}": value}
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        parts = {f["name"]: shown(value[f["name"]], f["type"]) for f in schema["fields"]}
        return {name: part for name, part in parts.items() if part is not None}
    if kind == "array":
        return [shown(item, schema["items"]) for item in value]
    if kind == "map":
        return {key: shown(item, schema["values"]) for key, item in value.items()}
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f") + ("Z" if value.tzinfo else "")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return f"decimal:{value}"
    return value


def encoded(schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), value)
    return out.getvalue()


def apaches(schema, value):
    out = io.BytesIO()
    avro.io.DatumWriter(avro.schema.parse(json.dumps(schema))).write(value, avro.io.BinaryEncoder(out))
    return out.getvalue()


cases = []
for name, writer, value, reader in CASES:
    raw = encoded(writer, value)
    plain = {**value, "id": uuid.UUID(value["id"])} if writer is USER else value
    try:
        other = apaches(writer, plain)
    except (avro.errors.AvroException, AttributeError, TypeError) as error:
        print(f"{name}: not compared with Apache's: {error}")
        other = raw
    assert other == raw, (name, raw, other)
    parsed = fastavro.parse_schema(json.loads(json.dumps(reader))) if reader else None
    read = fastavro.schemaless_reader(io.BytesIO(raw), fastavro.parse_schema(json.loads(json.dumps(writer))), parsed)
    cases.append(
        {
            "name": name,
            "writer": writer,
            **({"reader": reader} if reader else {}),
            "bytes": raw.hex(),
            "json": shown(read, reader or writer),
        }
    )

client = SchemaRegistryClient.new_client({"url": "mock://golden"})
serializer = AvroSerializer(client, json.dumps(USER), conf={"subject.name.strategy": topic_subject_name_strategy})
framed = serializer(ANN, SerializationContext("users", MessageField.VALUE))
subject = client.get_latest_version("users-value")
confluent = {"subject": "users-value", "id": subject.schema_id, "bytes": framed.hex()}

path = pathlib.Path(__file__).with_name("cases.json")
path.write_text(json.dumps({"cases": cases, "confluent": confluent}, indent=1, ensure_ascii=False) + "\n")
