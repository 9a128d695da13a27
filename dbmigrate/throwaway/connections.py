"""What the rehearsal needs of a database connection, as a protocol: any DB-API driver's will do."""

from __future__ import annotations

from typing import Any, Protocol


class Connection(Protocol):
    """A DB-API connection; PyMySQL's in practice."""

    def cursor(self) -> Any:
        """A cursor that is a context manager."""

    def begin(self) -> None:
        """Open a transaction."""

    def commit(self) -> None:
        """Commit it."""

    def rollback(self) -> None:
        """Undo it."""

    def close(self) -> None:
        """Say goodbye to the server."""
