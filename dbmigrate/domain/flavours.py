"""What kind of server is at the other end, and what follows from that.

The only place that knows which release changed what. Flavour and version come from the version string and its
comment, never from the number alone: MySQL's numbers have passed MariaDB's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Flavour(Enum):
    """The two families of servers."""

    MYSQL = "MySQL"
    MARIADB = "MariaDB"


_NUMBERS = re.compile(r"(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """Flavour and release of one server; every difference between releases is a property here."""

    flavour: Flavour
    release: tuple[int, int, int]
    text: str

    def __str__(self) -> str:
        return f"{self.flavour.value} {'.'.join(map(str, self.release))}"

    @classmethod
    def parse(cls, version: str, comment: str = "") -> ServerVersion:
        """From ``@@version`` and ``@@version_comment``.

        Raises:
            ValueError: the text holds no release number.
        """
        flavour = Flavour.MARIADB if "mariadb" in f"{version} {comment}".lower() else Flavour.MYSQL
        # MariaDB behind some proxies reports "5.5.5-10.11.6-MariaDB": the first number is a compatibility lie.
        text = version.removeprefix("5.5.5-") if flavour is Flavour.MARIADB else version
        found = _NUMBERS.search(text)
        if not found:
            raise ValueError(f"no release number in server version {version!r}")
        major, minor, patch = (int(n) for n in found.groups())
        return cls(flavour, (major, minor, patch), version)

    @property
    def is_mariadb(self) -> bool:
        """Whether this is MariaDB."""
        return self.flavour is Flavour.MARIADB

    @property
    def is_supported(self) -> bool:
        """MySQL from 8.0, MariaDB from 10.6."""
        return self.release >= ((10, 6, 0) if self.is_mariadb else (8, 0, 0))

    @property
    def binlog_status_statement(self) -> str:
        """The statement that names the current binlog file and offset."""
        if not self.is_mariadb and self.release >= (8, 2, 0):
            return "SHOW BINARY LOG STATUS"
        return "SHOW MASTER STATUS"

    @property
    def has_cascade_events(self) -> bool:
        """Whether rows changed by cascades are logged (MySQL from 9.6)."""
        return not self.is_mariadb and self.release >= (9, 6, 0)

    @property
    def has_sequences(self) -> bool:
        """Whether CREATE SEQUENCE exists."""
        return self.is_mariadb

    @property
    def has_tagged_gtids(self) -> bool:
        """Whether GTIDs may carry tags (MySQL from 8.3)."""
        return not self.is_mariadb and self.release >= (8, 3, 0)

    @property
    def commits_in_order(self) -> bool | None:
        """Whether commit order is binlog order: always on MariaDB, ``@@binlog_order_commits`` on MySQL (None)."""
        return True if self.is_mariadb else None

    @property
    def read_only_bypass_privileges(self) -> tuple[str, ...]:
        """Global privileges whose holders write to a read_only server all the same, as information_schema spells them."""
        if self.is_mariadb:
            return ("READ_ONLY ADMIN",) if self.release >= (10, 11, 0) else ("READ_ONLY ADMIN", "SUPER")
        return ("SUPER", "CONNECTION_ADMIN")
