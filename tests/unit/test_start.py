"""How the command line starts."""

from __future__ import annotations

import subprocess
import sys

ASKED = """
import gc, sys
from dbmigrate.__main__ import main
sys.argv = ["dbmigrate", "--version"]
try:
    main()
except SystemExit as end:
    print(end.code, gc.isenabled(), gc.get_freeze_count() > 100_000)
"""


def test_the_collector_works_but_leaves_alone_what_imports_made() -> None:
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 True True"
