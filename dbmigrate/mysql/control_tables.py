"""The parts that control tables are made of: column types, and where they are declared.

Apart from ``control`` because two modules declare tables, ``control`` for the runner and ``evidence`` for the
application's instances, and an application needs only the second.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import DATETIME, LONGTEXT, VARCHAR

from dbmigrate.mysql.heartbeat import CONTROL_SCHEMA

METADATA = sa.MetaData(schema=CONTROL_SCHEMA)
ASCII = VARCHAR(64, charset="ascii", collation="ascii_bin")
NAME = VARCHAR(64, charset="utf8mb4", collation="utf8mb4_bin")
TEXT = LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin")
AT = DATETIME(fsp=6)


def declare_table(name: str, *columns: Any) -> sa.Table:
    """A control table; ``ControlStore.create_tables`` creates it."""
    return sa.Table(name, METADATA, *columns, mysql_engine="InnoDB", mysql_charset="utf8mb4")
