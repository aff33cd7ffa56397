"""What an Airflow connection of type `headwater` says: where the scheduler is and how it is spoken to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import grpc
from airflow.providers.common.compat.sdk import AirflowException

DEFAULT_HOST = "127.0.0.1"
DEFAULT_GRPC_PORT = 50050
DEFAULT_CONNECT_PORT = 15002
DEFAULT_WEB_PORT = 4040
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_PATIENCE_S = 300.0

# Larger than any piece of a result that a scheduler sends, small enough to stop a runaway.
_MESSAGE_BYTES_MAX = 256 * 1024 * 1024
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    # A scheduler that vanished without closing the connection is noticed after at most the sum of both.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The default grows to two minutes, which a restarted scheduler would be waited for.
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


@dataclass(frozen=True)
class Settings:
    """One scheduler, or several of which one leads. There is nothing secret in it: Headwater has no login."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_GRPC_PORT
    # Further schedulers of the cluster, host and port.
    others: tuple[tuple[str, int], ...] = ()
    use_tls: bool = False
    ca_certificate: str | None = None
    # None: what the scheduler says, where somebody asks it.
    connect_port: int | None = None
    web_url: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    patience_s: float = DEFAULT_PATIENCE_S

    @property
    def targets(self) -> list[str]:
        """host:port of the gRPC service of each scheduler."""
        return [f"{_bracketed(host)}:{port}" for host, port in ((self.host, self.port), *self.others)]

    @property
    def target(self) -> str:
        """All of them by comma, as `headwater --scheduler` takes them."""
        return ",".join(self.targets)

    @property
    def spark_remote(self) -> str:
        """The Spark Connect address, for SPARK_REMOTE."""
        port = self.connect_port or DEFAULT_CONNECT_PORT
        return f"sc://{_bracketed(self.host)}:{port}" + ("/;use_ssl=true" if self.use_tls else "")

    def query_url(self, query_id: str) -> str:
        """Where the scheduler's HTTP API shows a streaming query, as JSON."""
        return f"{self._web}/api/v1/queries/{quote(query_id, safe='')}"

    def ingest_url(self, run_id: str) -> str:
        """Where the scheduler's HTTP API shows an ingest run, as JSON."""
        return f"{self._web}/api/v1/ingest/{quote(run_id, safe='')}"

    @property
    def _web(self) -> str:
        return self.web_url.rstrip("/") or f"http://{_bracketed(self.host)}:{DEFAULT_WEB_PORT}"

    def channel(self, number: int = 0) -> grpc.Channel:
        """A new connection to one of the schedulers, counted round and round. Made where it is used, never at import:
        task processes are forks."""
        target = self.targets[number % len(self.targets)]
        if self.use_tls:
            return grpc.secure_channel(target, self._credentials(), options=_CHANNEL_OPTIONS)
        return grpc.insecure_channel(target, options=_CHANNEL_OPTIONS)

    def async_channel(self, number: int = 0) -> grpc.aio.Channel:
        """The same for an event loop."""
        target = self.targets[number % len(self.targets)]
        if self.use_tls:
            return grpc.aio.secure_channel(target, self._credentials(), options=_CHANNEL_OPTIONS)
        return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)

    def _credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca_certificate.encode() if self.ca_certificate else None)


def parse(
    host: str | None,
    port: int | None,
    extra: Mapping[str, Any],
    *,
    login: str | None = None,
    password: str | None = None,
) -> Settings:
    """Settings from the parts of a connection.

    Raises AirflowException naming the field that is wrong or not supported.
    """
    if login or password:
        raise AirflowException("a headwater connection has no login and no password: Headwater has none; leave them empty")
    known = {"use_tls", "ca_certificate", "connect_port", "web_url", "timeout_s", "patience_s"}
    if unknown := sorted(set(extra) - known):
        raise AirflowException(
            f"unknown field {unknown[0]!r} in the extra of a headwater connection; known are: {', '.join(sorted(known))}"
        )
    # Fields that were left empty in the form arrive as null or "".
    given = {name: value for name, value in extra.items() if value is not None and value != ""}
    host = (host or DEFAULT_HOST).strip()
    if "://" in host or "/" in host:
        raise AirflowException(f"host {host!r} of a headwater connection is not a host name; leave out scheme and path")
    web_url = str(given.get("web_url", ""))
    if web_url and urlsplit(web_url).scheme not in ("http", "https"):
        raise AirflowException(f"web_url {web_url!r} of a headwater connection does not begin with http:// or https://")
    default_port = _number("port", port or DEFAULT_GRPC_PORT, 1, 65535, int)
    first, *others = [_place(part, default_port) for part in host.split(",")]
    settings = Settings(
        host=first[0],
        port=first[1],
        others=tuple(others),
        use_tls=_flag("use_tls", given.get("use_tls", False)),
        ca_certificate=str(given["ca_certificate"]).replace("\\n", "\n") if "ca_certificate" in given else None,
        connect_port=_number("connect_port", given["connect_port"], 1, 65535, int) if "connect_port" in given else None,
        web_url=web_url,
        timeout_s=_number("timeout_s", given.get("timeout_s", DEFAULT_TIMEOUT_S), 1, 3600, float),
        patience_s=_number("patience_s", given.get("patience_s", DEFAULT_PATIENCE_S), 0, 86400, float),
    )
    if settings.ca_certificate and not settings.use_tls:
        raise AirflowException("a headwater connection has a ca_certificate, but use_tls is off: turn it on")
    return settings


def _place(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `[address]:port`, or an IPv6 address alone."""
    text = text.strip()
    host, colon, port = text.rpartition(":")
    if colon and (host.endswith("]") or ":" not in host):
        text, default_port = host, _number("port", port, 1, 65535, int)
    if not text:
        raise AirflowException("a host of a headwater connection is empty: give one, or several by comma")
    return text.removeprefix("[").removesuffix("]"), default_port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _flag(name: str, value: Any) -> bool:
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise AirflowException(f"{name} {value!r} of a headwater connection is neither true nor false")


def _number(name: str, value: Any, least: float, most: float, kind: Any) -> Any:
    try:
        number = kind(value)
    except (TypeError, ValueError):
        raise AirflowException(f"{name} {value!r} of a headwater connection is no number") from None
    if not least <= number <= most:
        raise AirflowException(f"{name} {value!r} of a headwater connection is not within {least:g} to {most:g}")
    return number
