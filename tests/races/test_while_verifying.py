"""Changes around the comparison of a range: what the application does is no mismatch, what a stranger does is one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from databases import Pair
from moves import Move

from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.verifying.comparing import TableComparison
from dbmigrate.workflow.differences import DifferencesFoundError

from .changes import CHANGES
from .racing import PATIENCE_SECONDS, Race


def _await_on_target(race: Race, note: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while (("10", note),) != race.read(Side.TARGET, "SELECT CAST(id AS CHAR), note FROM item WHERE id = 10"):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("second", ["target", pytest.param("source", marks=pytest.mark.slow)])
def test_a_change_between_the_two_sides_of_each_comparison_is_no_mismatch(
    second: str, race: Race, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows change and arrive between the two reads, five times over, so that suspects change again when judged."""
    rounds = 0

    def both(self: TableComparison, statements: Any) -> Any:
        nonlocal rounds
        reads: list[Callable[[], Any]] = [
            lambda: self._fetch(self._origin.pool, statements[0]),
            lambda: self._fetch(self._destination.pool, statements[1]),
        ]
        results = {}
        for index in (0, 1) if second == "target" else (1, 0):
            results[index] = reads[index]()
            if len(results) == 1 and rounds < 5:
                rounds += 1
                race.write_source(
                    f"UPDATE item SET note = 'round {rounds}' WHERE id = 10",
                    f"UPDATE item SET id = {11 + 2 * rounds}00 WHERE code = 'c12'",
                    f"DELETE FROM item WHERE id = {20 + 2 * rounds}",
                    f"INSERT INTO item VALUES ({41 + 2 * rounds}, 'round {rounds}', 'new')",
                )
                _await_on_target(race, f"round {rounds}")
        return results[0], results[1]

    monkeypatch.setattr(TableComparison, "_both", both)
    race.move()
    race.require_equal()
    assert rounds == 5


@pytest.mark.parametrize(
    "change",
    [
        "updated",
        *(pytest.param(c, marks=pytest.mark.slow) for c in ("deleted", "keys-swapped", "truncated-between-changes")),
    ],
)
def test_a_change_after_a_range_was_compared_is_no_mismatch(change: str, race: Race) -> None:
    race.at("verify.range.compared", lambda: race.write_source(*CHANGES[change]))
    race.move()
    race.require_equal()


TAMPERING = {
    "changed": ("UPDATE item SET note = 'tampered' WHERE id = 300", {"300"}),
    "deleted": ("DELETE FROM item WHERE id = 300", {"300"}),
    "added": ("INSERT INTO item VALUES (301, 'n301', 'tampered')", {"301"}),
    "moved": ("UPDATE item SET id = 301 WHERE id = 300", {"300", "301"}),
    "values-swapped": (
        "UPDATE item a JOIN item b ON a.id = 300 AND b.id = 302 SET a.note = 'note 302', b.note = 'note 300'",
        {"300", "302"},
    ),
}


@pytest.mark.parametrize("moment", ["before", pytest.param("between-ranges", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "tampering", ["changed", *(pytest.param(t, marks=pytest.mark.slow) for t in list(TAMPERING)[1:])]
)
def test_tampering_on_the_target_is_a_mismatch_and_is_mended(tampering: str, moment: str, race: Race) -> None:
    statement, keys = TAMPERING[tampering]
    if moment == "before":
        race.on_entering(Phase.VERIFY, lambda: race.pair.target.execute(statement))
    else:
        race.at("verify.range.compared", lambda: race.pair.target.execute(statement))  # ids up to 200 are compared
    with pytest.raises(DifferencesFoundError) as found:
        race.move()
    assert set(re.findall(r"item key (\d+)", str(found.value))) == keys
    move = Move(race.pair, race.path, race.environment)
    move.run("verify", "--repair")
    race.move()
    race.require_equal()
    race.require_everywhere("SELECT id, note FROM item WHERE id IN (300, 301, 302) ORDER BY id",
                            (300, "note 300"), (302, "note 302"))  # fmt: skip


@pytest.mark.parametrize(
    "layout", ["dense", *(pytest.param(name, marks=pytest.mark.slow) for name in ("with-a-gap", "sparse"))]
)
def test_no_key_lies_between_the_chunks_of_integer_keys(
    layout: str, window_pair: Pair, race_factory: Callable[..., Race]
) -> None:
    """Rows differ at the ends, beyond them, in a gap and at the edges of chunks."""
    shift = {"dense": "n - 500", "with-a-gap": "n + IF(n < 500, -500, 4000000)", "sparse": "n * 1000 - 500000"}[layout]
    race = race_factory(
        window_pair,
        "CREATE TABLE spread (id BIGINT PRIMARY KEY, note VARCHAR(20) NOT NULL)",
        f"INSERT INTO spread SELECT {shift}, 'first' FROM (SELECT a.d + 10 * b.d + 100 * c.d AS n FROM digit a, digit b, digit c) x",
        "ANALYZE TABLE spread",
    )
    ids = [int(row[0]) for row in race.read(Side.SOURCE, "SELECT CAST(id AS CHAR) FROM spread ORDER BY id")]
    changed, removed = [ids[0], *ids[99:102], ids[-1]], [ids[1], ids[250], ids[-2]]
    added = [ids[0] - 1000, ids[0] - 1, ids[-1] + 1, ids[-1] + 1000, *({"with-a-gap": [2000000]}.get(layout, []))]
    tampering = (
        f"UPDATE spread SET note = 'tampered' WHERE id IN ({', '.join(map(str, changed))})",
        f"DELETE FROM spread WHERE id IN ({', '.join(map(str, removed))})",
        "INSERT INTO spread VALUES " + ", ".join(f"({key}, 'added')" for key in added),
    )
    race.on_entering(Phase.VERIFY, lambda: race.pair.target.execute(*tampering))
    with pytest.raises(DifferencesFoundError, match=f"{len(changed + removed + added)} rows? differ"):
        race.move()
    Move(race.pair, race.path, race.environment).run("verify", "--repair")
    race.move()
    race.require_equal()
