"""Logs that keep secrets to themselves, and metrics as Prometheus reads them."""

from __future__ import annotations

import io
import json
import logging
import math
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from dbmigrate.telemetry import (
    LOUD_LIBRARIES,
    LogFormat,
    Metrics,
    Observer,
    SilentObserver,
    redact,
    register_secret,
    serve,
    set_up_logging,
)

log = logging.getLogger("dbmigrate.test")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Take our handler off again and give the root and the pinned loggers their levels back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in LOUD_LIBRARIES}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, former in levels.items():
        logging.getLogger(name).setLevel(former)


def _lines(log_format: LogFormat, *, level: int = logging.INFO) -> io.StringIO:
    stream = io.StringIO()
    set_up_logging(level=level, log_format=log_format, stream=stream)
    return stream


@pytest.mark.parametrize("log_format", LogFormat)
@pytest.mark.parametrize("secret", ["s3cr3t-pw", 'quo"te\\slash', "sp ace/ünï@:"])
def test_secret_is_kept_out_of_every_line(log_format: LogFormat, secret: str) -> None:
    """In the message, its arguments, their repr, URLs and tracebacks."""
    stream = _lines(log_format)
    register_secret(secret)
    log.info("plain " + secret)
    log.info("argument %s and %r", secret, {"password": secret})
    log.info("url %s", "mysql://u:" + quote(secret) + "@db/shop")
    try:
        raise RuntimeError(f"cannot log in with {secret}")
    except RuntimeError:
        log.exception("failed")
    text = stream.getvalue()
    assert text.count("***") >= 5
    for form in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret)):
        assert form not in text


def test_secret_inside_another_leaves_nothing_behind() -> None:
    """The longer one goes first."""
    register_secret("abcdef-1")
    register_secret("abcdef-1-and-more")
    assert redact("x abcdef-1-and-more y abcdef-1 z") == "x *** y *** z"


def test_empty_secret_changes_nothing() -> None:
    """An account without a password must not turn every gap into stars."""
    register_secret("")
    assert redact("text") == "text"


def test_plain_line_has_time_level_and_message() -> None:
    """One line a message, for people."""
    stream = _lines(LogFormat.PLAIN)
    log.warning("lag is %.1f s", 2.5)
    assert stream.getvalue().endswith("warning lag is 2.5 s\n")


def test_json_line_is_one_object() -> None:
    """One object a line, for machines, newlines and all."""
    stream = _lines(LogFormat.JSON)
    log.error("two\nlines")
    line = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert line["message"] == "two\nlines"
    assert line["level"] == "error"
    assert line["logger"] == "dbmigrate.test"
    assert line["at"].endswith("+00:00")


def test_setting_up_twice_does_not_double_lines() -> None:
    """The later set-up replaces the earlier one."""
    earlier, later = _lines(LogFormat.PLAIN), _lines(LogFormat.PLAIN)
    log.info("once")
    assert earlier.getvalue() == ""
    assert later.getvalue().count("once") == 1


@pytest.mark.parametrize(
    "name", [*LOUD_LIBRARIES, "pymysqlreplication.binlogstream", "sqlalchemy.engine.Engine"]
)
def test_loud_libraries_are_pinned(name: str) -> None:
    """Their INFO lines hold connection arguments, so not even DEBUG brings them out."""
    logging.getLogger(name).setLevel(logging.DEBUG)
    stream = _lines(LogFormat.PLAIN, level=logging.DEBUG)
    logging.getLogger(name).info("password=...")
    logging.getLogger(name).warning("heard")
    assert "password" not in stream.getvalue()
    assert "heard" in stream.getvalue()


def test_pinning_never_makes_a_library_louder() -> None:
    """At level ERROR their warnings are silent too."""
    stream = _lines(LogFormat.PLAIN, level=logging.ERROR)
    logging.getLogger("pymysql").warning("not heard")
    assert stream.getvalue() == ""


def _report(observer: Observer) -> None:
    observer.rows_copied("orders", 1000)
    observer.rows_copied("orders", 500)
    observer.rows_streamed(7)
    observer.keys_flushed(5)
    observer.backlog_seen(42, 0.25)
    observer.chunk_verified()
    observer.chunk_verified()
    observer.mismatches_found(3)
    observer.writes_paused(0.4)
    observer.phase_entered("copy")
    observer.phase_entered("catch_up")
    counts = {"writes": {"mirrored": 12.0}, "shadow": {"control_p95_ms": None}, "reads": {}}
    observer.application_seen(instances=3, lagging=1, read_share=25.0, counts=counts)


def test_metrics_count_what_is_reported() -> None:
    """Under the names that dashboards rely on."""
    metrics = Metrics()
    _report(metrics)
    read = metrics.registry.get_sample_value
    assert read("dbmigrate_rows_copied_total", {"table": "orders"}) == 1500
    assert read("dbmigrate_rows_streamed_total") == 7
    assert read("dbmigrate_keys_flushed_total") == 5
    assert read("dbmigrate_backlog_keys") == 42
    assert read("dbmigrate_lag_seconds") == 0.25
    assert read("dbmigrate_verified_chunks_total") == 2
    assert read("dbmigrate_mismatches_total") == 3
    assert read("dbmigrate_write_pause_seconds") == 0.4
    assert read("dbmigrate_phase", {"phase": "copy"}) == 0
    assert read("dbmigrate_phase", {"phase": "catch_up"}) == 1
    assert read("dbmigrate_app_instances", {"follows": "yes"}) == 2
    assert read("dbmigrate_app_instances", {"follows": "not_yet"}) == 1
    assert read("dbmigrate_app_read_share_percent") == 25
    assert read("dbmigrate_app_counts", {"of": "writes", "what": "mirrored"}) == 12
    assert math.isnan(read("dbmigrate_app_counts", {"of": "shadow", "what": "control_p95_ms"}) or 0)


def test_lag_that_cannot_be_seen_is_not_zero() -> None:
    """Neither before the first look nor after losing sight of it."""
    metrics = Metrics()
    for _ in range(2):
        assert math.isnan(metrics.registry.get_sample_value("dbmigrate_lag_seconds") or 0)
        metrics.backlog_seen(1, None)


def test_two_runs_in_one_process_stay_apart() -> None:
    """Each has its own registry."""
    first, second = Metrics(), Metrics()
    first.rows_streamed(3)
    assert second.registry.get_sample_value("dbmigrate_rows_streamed_total") == 0


def test_silent_observer_takes_every_report() -> None:
    """It can stand wherever metrics can."""
    _report(SilentObserver())


def test_metrics_are_served_until_the_block_ends() -> None:
    """On this machine only unless told otherwise, and the port is free again afterwards."""
    metrics = Metrics()
    metrics.keys_flushed(9)
    with serve(metrics, port=0) as port:
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"dbmigrate_keys_flushed_total 9.0" in answer.read()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=10)
