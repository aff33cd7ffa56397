"""Running a PySpark script in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from headwater_airflow.settings import Settings

# What a script has to end in after it was told to.
_GRACE_S = 10.0
_LINE_BYTES_MAX = 16 * 1024
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def command(
    settings: Settings,
    script: str,
    arguments: Sequence[str],
    *,
    client: str | None,
    python: str,
    conf: Mapping[str, str],
    py_files: Sequence[str],
    detached: bool,
) -> list[str]:
    """What is run: `headwater submit` where that client is, else Python itself. `conf` is told by the environment.

    `detached`: a script ends where it would wait for a query; Python alone cannot do that, and is ended.

    Raises ValueError for what Python alone cannot do at all.
    """
    if client is not None:
        line = [client, "submit", "--scheduler", settings.target, "--python", python]
        # Of several schedulers the leader says where its port is; the first may be a standby.
        if settings.connect_port is not None and not settings.others:
            line += ["--connect", settings.spark_remote]
        if detached:
            line += ["--detach"]
        if py_files:
            line += ["--py-files", ",".join(py_files)]
        return [*line, script, *(["--", *arguments] if arguments else [])]
    if conf:
        raise ValueError(
            "conf of a script needs the headwater client on the worker's PATH, which was not found; or set them in the "
            "script by SparkSession.builder.config"
        )
    return [python, script, *arguments]


def environment(
    settings: Settings, env: Mapping[str, str], conf: Mapping[str, str], py_files: Sequence[str]
) -> dict[str, str]:
    """The worker's environment, with the scheduler's addresses, and what others are not to see in a list of processes.

    Raises ValueError for a setting that cannot be passed on.
    """
    if odd := sorted(name for name, value in conf.items() if "\n" in name + value or "=" in name):
        raise ValueError(f"conf {odd[0]} of a script has a line end, or '=' in its name")
    path = os.pathsep.join([*py_files, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        **os.environ,
        **({"PYTHONPATH": path} if path else {}),
        "PYTHONUNBUFFERED": "1",
        "SPARK_REMOTE": settings.spark_remote,
        "HEADWATER_SCHEDULER": settings.target,
        **({"HEADWATER_CONF": "\n".join(f"{name}={value}" for name, value in sorted(conf.items()))} if conf else {}),
        **env,
    }


def find_client(name: str, settings: Settings) -> str | None:
    """The headwater binary, which speaks plain text only."""
    return None if settings.use_tls else shutil.which(name)


class Script:
    """A script that runs; its output goes to the task's log."""

    def __init__(self, line: Sequence[str], env: Mapping[str, str], log: Any) -> None:
        self._process = subprocess.Popen(
            list(line),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group of its own, so that what the script starts ends with it.
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self._log = log
        self._reader = threading.Thread(target=self._read, name="script output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        output = self._process.stdout
        if output is None:
            return
        with output:
            while line := output.readline(_LINE_BYTES_MAX):
                self._log.info("%s", line.decode(errors="replace").rstrip())

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit status; None when it still runs after so many seconds."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        # What a child of the script holds open is not waited for.
        self._reader.join(_GRACE_S)
        return status

    def end(self) -> None:
        """Ends it and what it started: SIGTERM, then SIGKILL."""
        self._signal(signal.SIGTERM)
        if self.wait(_GRACE_S) is None:
            self._signal(signal.SIGKILL)
            self.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _die_with_parent() -> None:
    """A task that is killed hard takes its script along: the next try would otherwise run a second one beside it."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
