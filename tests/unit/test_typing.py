"""The public API of the application's half as a type checker sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_strict_type_checker_accepts_typical_use_of_the_public_api() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "tests/typing/public_api.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert (done.stdout, done.returncode) == ("", 0)
