"""What the program tells about itself while it runs: log lines on stderr and metrics for Prometheus.

Apart from the layers that do the work so that they need to know neither a format nor a server: they log
through ``logging`` and report numbers to an ``Observer`` that is passed in. Every line passes through
``redact`` last, after arguments and tracebacks have become text, so that nothing prints a secret around it.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from typing import Protocol, TextIO
from urllib.parse import quote, quote_plus

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

REDACTED = "***"

LOUD_LIBRARIES = ("pymysql", "pymysqlreplication", "sqlalchemy")
"""Libraries whose INFO and DEBUG lines hold connection arguments or row values."""


class _Secrets:
    """The secrets seen so far, in every form a log line may show them. Only grows; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forms: tuple[str, ...] = ()

    def add(self, secret: str) -> None:
        as_json, as_repr = json.dumps(secret)[1:-1], repr(secret)[1:-1]
        forms = {secret, as_json, as_repr, quote(secret), quote(secret, safe=""), quote_plus(secret)}
        with self._lock:
            # Longest first: a secret that contains another must not leave its tail behind.
            self._forms = tuple(sorted(forms.union(self._forms), key=len, reverse=True))

    def redact(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, REDACTED)
        return text


# One for the process: a secret learnt by any connection must not pass any log line.
_SECRETS = _Secrets()


def register_secret(secret: str) -> None:
    """Keep ``secret`` out of every log line from here on. An empty one is ignored."""
    if secret:
        _SECRETS.add(secret)


def redact(text: str) -> str:
    """``text`` with every registered secret replaced."""
    return _SECRETS.redact(text)


class LogFormat(Enum):
    """How a log line looks."""

    PLAIN = "plain"
    JSON = "json"


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line = f"{at:%H:%M:%S} {record.levelname.lower():<7} {record.getMessage()}"
        if record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return redact(line)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


_FORMATTERS = {LogFormat.PLAIN: _PlainFormatter, LogFormat.JSON: _JsonFormatter}


class _OurHandler(logging.StreamHandler[TextIO]):
    """Told apart by its class, so that setting up twice replaces it and leaves others' handlers alone."""


def set_up_logging(
    *, level: int = logging.INFO, log_format: LogFormat = LogFormat.PLAIN, stream: TextIO | None = None
) -> None:
    """Send log lines from ``level`` up to ``stream`` (stderr). Calling it again replaces the former set-up.

    The loud libraries stay at WARNING even where ``level`` is DEBUG.
    """
    handler = _OurHandler(stream or sys.stderr)
    handler.setFormatter(_FORMATTERS[log_format]())
    root = logging.getLogger()
    for former in [h for h in root.handlers if isinstance(h, _OurHandler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level)
    for name in LOUD_LIBRARIES:
        _pin(name, max(level, logging.WARNING))


def _pin(name: str, level: int) -> None:
    """Hold a library and the loggers below it, which may have been given a level of their own."""
    logging.getLogger(name).setLevel(level)
    for below, logger in list(logging.Logger.manager.loggerDict.items()):
        if below.startswith(f"{name}.") and isinstance(logger, logging.Logger):
            logger.setLevel(logging.NOTSET)


class Observer(Protocol):
    """What the work reports while it goes on. Every method is cheap and safe to call from any thread."""

    def rows_copied(self, table: str, rows: int) -> None:
        """A chunk of ``table`` is committed on the target."""

    def rows_streamed(self, rows: int) -> None:
        """Row changes were read from the binlog."""

    def keys_flushed(self, keys: int) -> None:
        """Pending keys were made equal."""

    def backlog_seen(self, keys: int, lag_seconds: float | None) -> None:
        """So many keys are pending, and the stream is so far behind (None: it cannot be seen)."""

    def chunk_verified(self) -> None:
        """A chunk was compared."""

    def mismatches_found(self, rows: int) -> None:
        """A verification has ended, and so many rows really differ."""

    def writes_paused(self, seconds: float) -> None:
        """Writers were held back for so long, whether the switch was made or undone."""

    def phase_entered(self, phase: str) -> None:
        """The migration is in ``phase`` from here on."""

    def application_seen(
        self, *, instances: int, lagging: int, read_share: float, counts: Mapping[str, Mapping[str, float | None]]
    ) -> None:
        """So many live instances report, so many of them have not followed yet, and this is what all of them have
        counted since the phase began: for ``writes``, ``shadow`` and ``reads``, numbers by name (None: not measured).
        """


class SilentObserver:
    """Hears everything, keeps nothing."""

    def rows_copied(self, table: str, rows: int) -> None:
        """Ignored."""

    def rows_streamed(self, rows: int) -> None:
        """Ignored."""

    def keys_flushed(self, keys: int) -> None:
        """Ignored."""

    def backlog_seen(self, keys: int, lag_seconds: float | None) -> None:
        """Ignored."""

    def chunk_verified(self) -> None:
        """Ignored."""

    def mismatches_found(self, rows: int) -> None:
        """Ignored."""

    def writes_paused(self, seconds: float) -> None:
        """Ignored."""

    def phase_entered(self, phase: str) -> None:
        """Ignored."""

    def application_seen(
        self, *, instances: int, lagging: int, read_share: float, counts: Mapping[str, Mapping[str, float | None]]
    ) -> None:
        """Ignored."""


class Metrics:
    """The observer that Prometheus reads. Each has its own registry: two runs in one process stay apart."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rows_copied = self._counter(
            "rows_copied", "Rows committed on the target by the copy", ["table"]
        )
        self._rows_streamed = self._counter("rows_streamed", "Row changes read from the binlog")
        self._keys_flushed = self._counter("keys_flushed", "Pending keys made equal on the target")
        self._verified_chunks = self._counter("verified_chunks", "Chunks compared on both sides")
        self._mismatches = self._counter("mismatches", "Rows that really differ")
        self._backlog_keys = self._gauge("backlog_keys", "Pending keys")
        self._lag_seconds = self._gauge("lag_seconds", "How far the stream is behind; NaN: it cannot be seen")
        self._write_pause_seconds = self._gauge("write_pause_seconds", "Length of the latest write pause")
        self._phase = self._gauge("phase", "1 for the phase the migration is in", ["phase"])
        self._app_instances = self._gauge("app_instances", "Live application instances", ["follows"])
        self._app_read_share = self._gauge("app_read_share_percent", "Share of reads that the target answers")
        self._app_counts = self._gauge(
            "app_counts", "What live instances have counted since the phase began; latencies in ms", ["of", "what"]
        )
        self._phases_seen: set[str] = set()
        self._lag_seconds.set(math.nan)

    def _counter(self, name: str, meaning: str, labels: list[str] | None = None) -> Counter:
        return Counter(f"dbmigrate_{name}", meaning, labels or [], registry=self.registry)

    def _gauge(self, name: str, meaning: str, labels: list[str] | None = None) -> Gauge:
        return Gauge(f"dbmigrate_{name}", meaning, labels or [], registry=self.registry)

    def rows_copied(self, table: str, rows: int) -> None:
        """Count ``dbmigrate_rows_copied_total``."""
        self._rows_copied.labels(table).inc(rows)

    def rows_streamed(self, rows: int) -> None:
        """Count ``dbmigrate_rows_streamed_total``."""
        self._rows_streamed.inc(rows)

    def keys_flushed(self, keys: int) -> None:
        """Count ``dbmigrate_keys_flushed_total``."""
        self._keys_flushed.inc(keys)

    def backlog_seen(self, keys: int, lag_seconds: float | None) -> None:
        """Set ``dbmigrate_backlog_keys`` and ``dbmigrate_lag_seconds``; an unseen lag is NaN, never 0."""
        self._backlog_keys.set(keys)
        self._lag_seconds.set(math.nan if lag_seconds is None else lag_seconds)

    def chunk_verified(self) -> None:
        """Count ``dbmigrate_verified_chunks_total``."""
        self._verified_chunks.inc()

    def mismatches_found(self, rows: int) -> None:
        """Count ``dbmigrate_mismatches_total``."""
        self._mismatches.inc(rows)

    def writes_paused(self, seconds: float) -> None:
        """Set ``dbmigrate_write_pause_seconds``."""
        self._write_pause_seconds.set(seconds)

    def phase_entered(self, phase: str) -> None:
        """Set ``dbmigrate_phase`` to 1 for ``phase`` and to 0 for those before it."""
        for former in self._phases_seen - {phase}:
            self._phase.labels(former).set(0)
        self._phases_seen.add(phase)
        self._phase.labels(phase).set(1)

    def application_seen(
        self, *, instances: int, lagging: int, read_share: float, counts: Mapping[str, Mapping[str, float | None]]
    ) -> None:
        """Set the ``dbmigrate_app_...`` gauges; what was not measured is NaN."""
        self._app_instances.labels("yes").set(instances - lagging)
        self._app_instances.labels("not_yet").set(lagging)
        self._app_read_share.set(read_share)
        for group, values in counts.items():
            for name, value in values.items():
                self._app_counts.labels(group, name).set(math.nan if value is None else value)


@contextmanager
def serve(metrics: Metrics, *, port: int, address: str = "127.0.0.1") -> Iterator[int]:
    """Offer ``metrics`` over HTTP inside the block; yields the port in use (0 asks for a free one).

    Raises:
        OSError: the port is taken.
    """
    server, thread = start_http_server(port, address, metrics.registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
