from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitRequest(_message.Message):
    __slots__ = ("sql", "name", "trigger", "checkpoint", "conf")
    class ConfEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SQL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONF_FIELD_NUMBER: _ClassVar[int]
    sql: str
    name: str
    trigger: str
    checkpoint: str
    conf: _containers.ScalarMap[str, str]
    def __init__(self, sql: _Optional[str] = ..., name: _Optional[str] = ..., trigger: _Optional[str] = ..., checkpoint: _Optional[str] = ..., conf: _Optional[_Mapping[str, str]] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("queries", "messages")
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    queries: _containers.RepeatedCompositeFieldContainer[QueryStatus]
    messages: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, queries: _Optional[_Iterable[_Union[QueryStatus, _Mapping]]] = ..., messages: _Optional[_Iterable[str]] = ...) -> None: ...

class QueryRef(_message.Message):
    __slots__ = ("ref",)
    REF_FIELD_NUMBER: _ClassVar[int]
    ref: str
    def __init__(self, ref: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("queries",)
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    queries: _containers.RepeatedCompositeFieldContainer[QueryStatus]
    def __init__(self, queries: _Optional[_Iterable[_Union[QueryStatus, _Mapping]]] = ...) -> None: ...

class QueryStatus(_message.Message):
    __slots__ = ("id", "run_id", "name", "state", "batch_id", "input_rows_per_second", "processed_rows_per_second", "lag_records", "message", "checkpoint", "trigger", "trouble", "bad_rows", "bad_records")
    ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    INPUT_ROWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    PROCESSED_ROWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    LAG_RECORDS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    BAD_ROWS_FIELD_NUMBER: _ClassVar[int]
    BAD_RECORDS_FIELD_NUMBER: _ClassVar[int]
    id: str
    run_id: str
    name: str
    state: str
    batch_id: int
    input_rows_per_second: float
    processed_rows_per_second: float
    lag_records: int
    message: str
    checkpoint: str
    trigger: str
    trouble: Trouble
    bad_rows: int
    bad_records: str
    def __init__(self, id: _Optional[str] = ..., run_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[str] = ..., batch_id: _Optional[int] = ..., input_rows_per_second: _Optional[float] = ..., processed_rows_per_second: _Optional[float] = ..., lag_records: _Optional[int] = ..., message: _Optional[str] = ..., checkpoint: _Optional[str] = ..., trigger: _Optional[str] = ..., trouble: _Optional[_Union[Trouble, _Mapping]] = ..., bad_rows: _Optional[int] = ..., bad_records: _Optional[str] = ...) -> None: ...

class Trouble(_message.Message):
    __slots__ = ("error_class", "error", "system", "since_ms", "attempts", "next_attempt_ms", "remedy")
    ERROR_CLASS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_MS_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    error_class: str
    error: str
    system: str
    since_ms: int
    attempts: int
    next_attempt_ms: int
    remedy: str
    def __init__(self, error_class: _Optional[str] = ..., error: _Optional[str] = ..., system: _Optional[str] = ..., since_ms: _Optional[int] = ..., attempts: _Optional[int] = ..., next_attempt_ms: _Optional[int] = ..., remedy: _Optional[str] = ...) -> None: ...

class EndpointsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EndpointsResponse(_message.Message):
    __slots__ = ("connect_port", "http_port", "epoch")
    CONNECT_PORT_FIELD_NUMBER: _ClassVar[int]
    HTTP_PORT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    connect_port: int
    http_port: int
    epoch: int
    def __init__(self, connect_port: _Optional[int] = ..., http_port: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class ProgressRequest(_message.Message):
    __slots__ = ("ref", "follow")
    REF_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    ref: str
    follow: bool
    def __init__(self, ref: _Optional[str] = ..., follow: bool = ...) -> None: ...

class ProgressReport(_message.Message):
    __slots__ = ("json", "status")
    JSON_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    json: str
    status: QueryStatus
    def __init__(self, json: _Optional[str] = ..., status: _Optional[_Union[QueryStatus, _Mapping]] = ...) -> None: ...

class SqlRequest(_message.Message):
    __slots__ = ("sql", "conf")
    class ConfEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SQL_FIELD_NUMBER: _ClassVar[int]
    CONF_FIELD_NUMBER: _ClassVar[int]
    sql: str
    conf: _containers.ScalarMap[str, str]
    def __init__(self, sql: _Optional[str] = ..., conf: _Optional[_Mapping[str, str]] = ...) -> None: ...

class SqlResponse(_message.Message):
    __slots__ = ("arrow_ipc", "message", "progress", "end", "statement")
    ARROW_IPC_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    arrow_ipc: bytes
    message: str
    progress: JobProgress
    end: StatementEnd
    statement: int
    def __init__(self, arrow_ipc: _Optional[bytes] = ..., message: _Optional[str] = ..., progress: _Optional[_Union[JobProgress, _Mapping]] = ..., end: _Optional[_Union[StatementEnd, _Mapping]] = ..., statement: _Optional[int] = ...) -> None: ...

class StatementEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JobProgress(_message.Message):
    __slots__ = ("tasks_done", "tasks")
    TASKS_DONE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks_done: int
    tasks: int
    def __init__(self, tasks_done: _Optional[int] = ..., tasks: _Optional[int] = ...) -> None: ...

class CompletionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CompletionsResponse(_message.Message):
    __slots__ = ("tables", "functions", "keywords")
    TABLES_FIELD_NUMBER: _ClassVar[int]
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    tables: _containers.RepeatedScalarFieldContainer[str]
    functions: _containers.RepeatedScalarFieldContainer[str]
    keywords: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, tables: _Optional[_Iterable[str]] = ..., functions: _Optional[_Iterable[str]] = ..., keywords: _Optional[_Iterable[str]] = ...) -> None: ...

class HoldRequest(_message.Message):
    __slots__ = ("executor_id",)
    EXECUTOR_ID_FIELD_NUMBER: _ClassVar[int]
    executor_id: str
    def __init__(self, executor_id: _Optional[str] = ...) -> None: ...

class HoldResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
