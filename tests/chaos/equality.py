"""What must hold after every fault: both sides equal, and every acknowledged write there exactly once."""

from __future__ import annotations

from moves import Move

from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.row_comparison import compare
from dbmigrate.throwaway.shop_writers import Writers


def require_equal(move: Move, writers: Writers) -> None:
    """Row by row, by a query of its own, and by the writers' journal. The streams must have drained."""
    owner = move.read_owner()
    database = move.pair.target if owner is Side.TARGET else move.pair.source
    with move.pair.source.connect() as source, move.pair.target.connect() as target:
        result = compare(source, target, move.pair.source.schema)
        assert result.differing == 0, result.first
    with database.connect() as connection:
        assert writers.verify_journal(connection) == (0, 0)
    assert writers.failed == 0, writers.errors
    assert writers.committed > 0
