from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IngestState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INGEST_STATE_UNSPECIFIED: _ClassVar[IngestState]
    INGEST_STATE_PENDING: _ClassVar[IngestState]
    INGEST_STATE_FETCHING: _ClassVar[IngestState]
    INGEST_STATE_PUBLISHING: _ClassVar[IngestState]
    INGEST_STATE_FINISHED: _ClassVar[IngestState]
    INGEST_STATE_FAILED: _ClassVar[IngestState]
    INGEST_STATE_CANCELLED: _ClassVar[IngestState]
INGEST_STATE_UNSPECIFIED: IngestState
INGEST_STATE_PENDING: IngestState
INGEST_STATE_FETCHING: IngestState
INGEST_STATE_PUBLISHING: IngestState
INGEST_STATE_FINISHED: IngestState
INGEST_STATE_FAILED: IngestState
INGEST_STATE_CANCELLED: IngestState

class StartIngestRequest(_message.Message):
    __slots__ = ("run_id", "source", "users", "topic", "postgres", "kafka", "seed", "nat", "page_size", "format", "schema_registry", "publish_only", "keep_raw", "options", "owner")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    POSTGRES_FIELD_NUMBER: _ClassVar[int]
    KAFKA_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NAT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_REGISTRY_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_ONLY_FIELD_NUMBER: _ClassVar[int]
    KEEP_RAW_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    source: str
    users: int
    topic: str
    postgres: str
    kafka: str
    seed: str
    nat: str
    page_size: int
    format: str
    schema_registry: str
    publish_only: bool
    keep_raw: bool
    options: _containers.ScalarMap[str, str]
    owner: str
    def __init__(self, run_id: _Optional[str] = ..., source: _Optional[str] = ..., users: _Optional[int] = ..., topic: _Optional[str] = ..., postgres: _Optional[str] = ..., kafka: _Optional[str] = ..., seed: _Optional[str] = ..., nat: _Optional[str] = ..., page_size: _Optional[int] = ..., format: _Optional[str] = ..., schema_registry: _Optional[str] = ..., publish_only: bool = ..., keep_raw: bool = ..., options: _Optional[_Mapping[str, str]] = ..., owner: _Optional[str] = ...) -> None: ...

class IngestRef(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class CancelIngestRequest(_message.Message):
    __slots__ = ("run_id", "owner")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    owner: str
    def __init__(self, run_id: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class ListIngestRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class ListIngestResponse(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[IngestRun]
    def __init__(self, runs: _Optional[_Iterable[_Union[IngestRun, _Mapping]]] = ...) -> None: ...

class IngestRun(_message.Message):
    __slots__ = ("run_id", "state", "source", "topic", "seed", "format", "requested", "fetched", "staged", "published", "rejected", "duplicates", "rejected_by_reason", "message", "error_class", "started_at", "updated_at", "ended_at", "end_offsets")
    class RejectedByReasonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class EndOffsetsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    FETCHED_FIELD_NUMBER: _ClassVar[int]
    STAGED_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    REJECTED_BY_REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_CLASS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    END_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    state: IngestState
    source: str
    topic: str
    seed: str
    format: str
    requested: int
    fetched: int
    staged: int
    published: int
    rejected: int
    duplicates: int
    rejected_by_reason: _containers.ScalarMap[str, int]
    message: str
    error_class: str
    started_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    end_offsets: _containers.ScalarMap[int, int]
    def __init__(self, run_id: _Optional[str] = ..., state: _Optional[_Union[IngestState, str]] = ..., source: _Optional[str] = ..., topic: _Optional[str] = ..., seed: _Optional[str] = ..., format: _Optional[str] = ..., requested: _Optional[int] = ..., fetched: _Optional[int] = ..., staged: _Optional[int] = ..., published: _Optional[int] = ..., rejected: _Optional[int] = ..., duplicates: _Optional[int] = ..., rejected_by_reason: _Optional[_Mapping[str, int]] = ..., message: _Optional[str] = ..., error_class: _Optional[str] = ..., started_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., end_offsets: _Optional[_Mapping[int, int]] = ...) -> None: ...
