"""`dbmigrate demo --app`: the sample store moves there, back and there again under HTTP load."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_order_is_lost_or_doubled_and_both_sides_are_equal() -> None:
    command = [sys.executable, "-m", "dbmigrate", "demo", "--app", "--rate", "60", "--json"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=380)
    report = json.loads(process.stdout)
    assert report["requests"] > 500
    assert (report["lost_orders"], report["doubled_orders"], report["wrong_stocks"]) == (0, 0, 0), report
    assert (report["differences"], report["switches"]) == (0, 3), report
    assert set(report["write_gap_ms"]) == {"p50", "p99", "max"}
    assert (report["failed_requests"], report["errors"]) == (0, []), report
    assert process.returncode == 0, process.stderr
