"""A place between two transactions in one server's binlog.

Only ``dbmigrate.mysql.binlog`` looks inside; everything else stores it, shows it and hands it back.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """Where a binlog reader may start: always a transaction boundary.

    ``file`` and ``offset`` are always known. ``gtids`` is the set of transactions before this place in the
    server's own notation (MySQL: UUID sets, tagged ones included; MariaDB: domain-server-sequence list), or
    empty where the server logs none.
    """

    file: str
    offset: int
    gtids: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"

    def to_json(self) -> str:
        """Text for a checkpoint; ``from_json`` gives the same position back."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Position:
        """The position that ``to_json`` wrote."""
        return cls(**json.loads(text))
