"""Moving rows: literals out of the origin, literals into the destination, and nothing lost in between.

Copier and flush share these three verbs so that the checks that make them exact (row counts, warnings, truncated
results) exist once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import Route
from dbmigrate.mysql.bulk_load import LoadPlan, Way
from dbmigrate.mysql.key_predicates import KeyRange
from dbmigrate.mysql.parameters import RowParameters, RowPlaceholders, describe_placeholders
from dbmigrate.mysql.sessions import Result, Session
from dbmigrate.mysql.statements import (
    build_chunk_read,
    build_delete,
    build_few_keys_read,
    build_few_of_range,
    build_insert_prefix,
    build_keys_read,
    build_replace_prefix,
)
from dbmigrate.mysql.streamed_rows import StreamedRow
from dbmigrate.mysql.streamed_statements import Part, StreamedStatement

_RECORDS = re.compile(r"Records: (\d+)")
FEW_ROWS = 100
"""So many rows at most are read as a result row each. MariaDB makes a table on disk for every GROUP_CONCAT of more than 512
characters a row and removes it again, two files, which costs the origin 0.3 ms of its core; a result row costs us two
microseconds (measured on MariaDB 10.11, orders of ten columns, a statement every 6 ms: 20 rows 0.79 ms gathered and 0.51
one by one, 100 rows 1.05 and 0.75, 1,000 rows 3.5 and 3.4)."""


@dataclass(frozen=True, slots=True)
class RowLiterals:
    """Rows as the origin formatted them: ``(…),(…)``. ``text`` is empty where ``count`` is 0."""

    count: int
    text: bytes

    @property
    def size_bytes(self) -> int:
        """Of the text."""
        return len(self.text)

    @property
    def parts(self) -> tuple[bytes]:
        """The text, as one part."""
        return (self.text,)

    @property
    def piped_parts(self) -> tuple[bytes]:
        """The same: it is in our memory already."""
        return (self.text,)


class RowText(Protocol):
    """Text of rows for ``load_rows``: how many, of how many bytes, and its parts, to be read once, either way."""

    @property
    def count(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def parts(self) -> Iterable[bytes | memoryview]: ...
    @property
    def piped_parts(self) -> Iterable[Part]: ...


class ResultCutError(Exception):
    """The rows asked for do not fit one result; ask for fewer. Never seen outside copier and flush."""


def read_range(session: Session, route: Route, keys: KeyRange) -> RowLiterals:
    """Every row in a key range, as literals for ``write_rows``.

    Raises:
        ResultCutError: the server cut the result.
    """
    return _read_gathered(session, build_chunk_read(route, keys), f"reading rows of {route.name}")


def read_few(session: Session, route: Route, keys: KeyRange, plan: LoadPlan | None) -> RowLiterals:
    """Every row in a key range that holds few: literals for ``write_rows``, or with a plan the text that ``load_rows`` takes.

    Raises:
        ResultCutError: the server cut a row.
    """
    sql = build_few_of_range(route, keys, row=plan.row if plan else None)
    return _read_one_by_one(session, sql, plan, f"reading rows of {route.name}")


class StreamedRows:
    """The rows of a key range as ``load_rows`` takes them, which leave the origin while their parts are asked for.

    The session is free again when all parts were read.
    """

    def __init__(self, session: Session, route: Route, keys: KeyRange, plan: LoadPlan) -> None:
        """Wait until the rows are read and begin to arrive.

        Raises:
            ResultCutError: the server cut the result.
        """
        self._session, self._doing = session, f"reading rows of {route.name}"
        sql = build_chunk_read(route, keys, row=plan.row, separator=plan.separator)
        self._row = StreamedRow(session, sql, doing=self._doing)
        self.count, self.size_bytes = int(self._row.first or 0), self._row.size
        if self._row.is_null:
            _require_whole(session, self._row.result, self.count, None, self._doing)

    @property
    def parts(self) -> Iterator[memoryview]:
        """The text, front to back.

        Raises:
            ResultCutError: the server cut the result, which it says at its end.
        """
        yield from self._row.parts()
        _require_whole(self._session, self._row.result, self.count, b"", self._doing)

    @property
    def piped_parts(self) -> Iterator[Part]:
        """The text, of which as much as can be stays with the kernel.

        Raises:
            ResultCutError: as ``parts``.
        """
        yield from self._row.piped_parts()
        _require_whole(self._session, self._row.result, self.count, b"", self._doing)


def read_keys(session: Session, route: Route, keys: Sequence[Key], *, plan: LoadPlan | None = None) -> RowLiterals:
    """The rows that exist among these keys: literals for ``write_rows``, or with a plan the text that ``load_rows`` takes.

    Raises:
        ResultCutError: the server cut the result.
    """
    doing, row = f"reading keys of {route.name}", plan.row if plan else None
    if len(keys) <= FEW_ROWS:
        return _read_one_by_one(session, build_few_keys_read(route, keys, row=row), plan, doing)
    return _read_gathered(session, build_keys_read(route, keys, row=row, separator=_separator(plan)), doing)


def _separator(plan: LoadPlan | None) -> str:
    return plan.separator if plan else ","


def _read_gathered(session: Session, sql: str, doing: str) -> RowLiterals:
    result = session.execute(sql, doing=doing)
    count, text = int(result.rows[0][0] or 0), result.rows[0][1]
    _require_whole(session, result, count, text, doing)
    return RowLiterals(count, text or b"")


def _read_one_by_one(session: Session, sql: str, plan: LoadPlan | None, doing: str) -> RowLiterals:
    result = session.execute(sql, doing=doing)
    texts = [row[0] for row in result.rows]
    whole = [text for text in texts if text is not None]
    text = _separator(plan).encode().join(whole) if len(whole) == len(texts) else None
    _require_whole(session, result, len(texts), text, doing)
    return RowLiterals(len(texts), text or b"")


def _require_whole(session: Session, result: Result, count: int, text: bytes | None, doing: str) -> None:
    if session.read_warnings(result):
        # GROUP_CONCAT cuts at max_allowed_packet with a warning, CONCAT gives NULL with one; so may GROUP_CONCAT for an oversized row.
        raise ResultCutError(doing)
    if count and text is None:
        raise FatalError(f"{doing}: a row has no literal", place=session.place, hint="report the table's definition")


def write_rows(
    session: Session, route: Route, rows: RowLiterals, *, max_packet_bytes: int, evicts: bool = True
) -> None:
    """REPLACE the rows into the destination, in the caller's transaction or as one of its own.

    Without ``evicts`` they are inserted: a row that is in the way is an error.

    Raises:
        ResultCutError: they do not fit one statement.
        FatalError: the server warned, or wrote another number of rows than were read.
    """
    if not rows.count:
        return
    prefix = build_replace_prefix(route) if evicts else build_insert_prefix(route)
    if len(prefix) + len(rows.text) + 16 > max_packet_bytes:
        raise ResultCutError(f"writing rows of {route.destination.name}")
    result = session.execute_exactly(prefix + rows.text, doing=f"writing rows of {route.destination.name}")
    _require_all(result, route, rows.count)


def load_rows(
    session: Session, route: Route, pieces: Iterable[RowText], plan: LoadPlan, *, max_packet_bytes: int
) -> None:
    """Like ``write_rows``, from the bytes of all pieces, in the caller's transaction.

    Each piece is asked for once what came before is on its way to the server, so that it is read while that is written.
    An error while reading leaves the session broken: the server must not take what it was sent for the whole.

    Raises:
        ResultCutError: a piece exceeds the packet. A load would not mind, but a row that does could not be read again.
        FatalError: the server warned, or wrote another number of rows than were read.
    """
    doing = f"loading rows of {route.destination.name}"
    filled = (_require_fit(piece, plan, max_packet_bytes, doing) for piece in pieces if piece.count)
    first = next(filled, None)
    if first is None:
        return
    _WRITE[plan.way](session, route, chain((first,), filled), plan, doing)


def _load(session: Session, route: Route, pieces: Iterable[RowText], plan: LoadPlan, doing: str) -> None:
    """By one LOAD DATA LOCAL for all pieces."""
    read = 0

    def send() -> Iterator[bytes | memoryview]:
        nonlocal read
        for piece in pieces:
            read += piece.count
            yield from piece.parts
            yield b","

    result = session.load(plan.statement, send(), doing=doing)
    session.require_no_warnings(result, doing=doing)
    _require_all(result, route, read)


def _replace(session: Session, route: Route, pieces: Iterable[RowText], plan: LoadPlan, doing: str) -> None:
    """By one REPLACE for each piece."""
    prefix = plan.statement.encode()

    def send(piece: RowText) -> StreamedStatement:
        return StreamedStatement(session, len(prefix) + piece.size_bytes, chain((prefix,), piece.piped_parts), doing=doing)

    with session.speaking_bytes():
        _send_each(session, route, pieces, send, doing)


def _execute(session: Session, route: Route, pieces: Iterable[RowText], plan: LoadPlan, doing: str) -> None:
    """By a prepared REPLACE that is executed once for each piece."""
    with RowParameters(session, plan.statement, plan.parameters, doing=doing) as prepared:
        _send_each(session, route, pieces, lambda piece: prepared.send(piece.size_bytes, piece.piped_parts), doing)


def _fill(session: Session, route: Route, pieces: Iterable[RowText], plan: LoadPlan, doing: str) -> None:
    """By a prepared REPLACE that names every row, for each piece."""

    def send(piece: RowText) -> StreamedStatement:
        return prepared.send(piece.count, piece.size_bytes, piece.piped_parts)

    with (
        session.speaking_bytes(),
        RowPlaceholders(session, plan.statement, plan.marks, plan.parameters, doing=doing) as prepared,
    ):
        _send_each(session, route, pieces, send, doing)


def _send_each(
    session: Session, route: Route, pieces: Iterable[RowText], send: Callable[[RowText], StreamedStatement], doing: str
) -> None:
    before: tuple[StreamedStatement, int] | None = None

    def finish(sent: StreamedStatement, read: int) -> None:
        result = sent.finish()
        session.require_no_warnings(result, doing=doing)
        _require_all(result, route, read)

    for piece in pieces:
        if before:
            finish(*before)
        before = send(piece), piece.count
    if before:
        finish(*before)


_WRITE = {Way.LOAD_DATA: _load, Way.REPLACE: _replace, Way.PARAMETERS: _execute, Way.PLACEHOLDERS: _fill}


def _require_fit(piece: RowText, plan: LoadPlan, max_packet_bytes: int, doing: str) -> RowText:
    beside = len(plan.statement)
    if plan.most_rows is not None:
        if piece.count > plan.most_rows:
            raise ResultCutError(doing)
        beside = len(describe_placeholders(piece.count * plan.parameters))
    if piece.size_bytes + beside + 16 > max_packet_bytes:
        raise ResultCutError(doing)
    return piece


def _require_all(result: Result, route: Route, read: int) -> None:
    found = _RECORDS.search(result.message)
    written = int(found[1]) if found else 1
    if written != read:
        raise FatalError(
            f"{read} rows were read but {written} written", place=str(route.destination.name),
            hint="nothing was committed; report this",
        )  # fmt: skip


def delete_keys(session: Session, route: Route, keys: Sequence[Key]) -> None:
    """Delete the destination's rows with these keys, in the caller's transaction."""
    session.execute_exactly(build_delete(route, keys), doing=f"deleting rows of {route.destination.name}")


def read_max_packet(session: Session) -> int:
    """The largest statement the server takes, in bytes."""
    return int(session.fetch_value("SELECT @@max_allowed_packet") or 0)
