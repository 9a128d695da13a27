"""From one type to another: what both flavours do in place, what copies the table, what loses values.

Apart from the rules because it is plain comparison. What is called in place here was tried on MariaDB 10.11 and MySQL 9.7
(tests/integration/test_lane_claims.py): lengthening VARCHAR and VARBINARY while the length still takes as many bytes, and
members added at the end of ENUM and SET while the number still does. Every other change of a type copies the table.
"""

from __future__ import annotations

from enum import Enum

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.lanes.changes import ColumnType


class TypeChange(Enum):
    """How one type follows another."""

    NONE = "none"
    LONGER = "longer, in place"
    APPENDED = "members appended, in place"
    WIDER = "wider, the table is copied"
    NARROWER = "narrower"
    REORDERED = "members in another order"
    REMOVED = "members removed"
    OTHER = "another kind of value"


_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "bigint")
_TEXTS = ("tinytext", "text", "mediumtext", "longtext")
_BLOBS = ("tinyblob", "blob", "mediumblob", "longblob")
_FLOATS = ("float", "double")
_LADDERS = (_INTEGERS, _TEXTS, _BLOBS, _FLOATS)
_LENGTHS = frozenset({"char", "varchar", "binary", "varbinary", "bit", "datetime", "timestamp", "time"})

BYTES_PER_CHARACTER = {"latin1": 1, "ascii": 1, "binary": 1, "utf8mb3": 3, "utf8": 3, "utf8mb4": 4}
_DEFAULT_COLLATIONS = {
    "latin1": "latin1_swedish_ci", "ascii": "ascii_general_ci", "utf8mb3": "utf8mb3_general_ci", "utf8": "utf8mb3_general_ci",
}  # fmt: skip
_ONE_LENGTH_BYTE = 255
_MARIADB_ALWAYS_ONE = 127
"""InnoDB on MariaDB keeps lengths of so many bytes alike, however long the column may become."""


def find_default_collation(charset: str, version: ServerVersion) -> str | None:
    """What CHARACTER SET without COLLATE means; None where that depends on the server's settings."""
    if charset == "utf8mb4" and not version.is_mariadb:
        return "utf8mb4_0900_ai_ci"
    if charset == "utf8mb4" and version.release < (11, 5, 0):
        return "utf8mb4_general_ci"
    return _DEFAULT_COLLATIONS.get(charset)


def compare_types(before: ColumnType, after: ColumnType, version: ServerVersion, charset: str | None) -> TypeChange:
    """How ``after`` follows ``before``; ``charset`` is the column's (None: unknown, so nothing is called in place)."""
    if before == after:
        return TypeChange.NONE
    if before.members or after.members:
        return _compare_members(before, after)
    if before.base == after.base == "decimal":
        return _compare_decimals(before, after)
    if before.base == after.base and before.base in _LENGTHS:
        return _compare_lengths(before, after, version, charset)
    for ladder in _LADDERS:
        if before.base in ladder and after.base in ladder:
            is_wider = ladder.index(after.base) >= ladder.index(before.base) and before.is_unsigned == after.is_unsigned
            return TypeChange.WIDER if is_wider else TypeChange.NARROWER
    return TypeChange.OTHER


def _compare_members(before: ColumnType, after: ColumnType) -> TypeChange:
    if before.base != after.base:
        return TypeChange.OTHER
    if set(before.members) - set(after.members):
        return TypeChange.REMOVED
    if after.members[: len(before.members)] != before.members:
        return TypeChange.REORDERED
    return TypeChange.APPENDED if _number_bytes(before) == _number_bytes(after) else TypeChange.WIDER


def _number_bytes(kind: ColumnType) -> int:
    """What the server stores for a member, or for a set of them."""
    count = len(kind.members)
    if kind.base == "enum":
        return 1 if count <= 255 else 2
    size = (count + 7) // 8
    return size if size <= 4 else 8


def _compare_decimals(before: ColumnType, after: ColumnType) -> TypeChange:
    (precision, scale), (new_precision, new_scale) = before.arguments[:2], after.arguments[:2]
    keeps = new_scale >= scale and new_precision - new_scale >= precision - scale
    return TypeChange.WIDER if keeps and before.is_unsigned == after.is_unsigned else TypeChange.NARROWER


def _compare_lengths(before: ColumnType, after: ColumnType, version: ServerVersion, charset: str | None) -> TypeChange:
    (length,), (new_length,) = before.arguments or (0,), after.arguments or (0,)
    if new_length < length:
        return TypeChange.NARROWER
    if before.base not in ("varchar", "varbinary"):
        return TypeChange.WIDER
    width = 1 if before.base == "varbinary" else BYTES_PER_CHARACTER.get(charset or "")
    if width is None:
        return TypeChange.WIDER
    octets, new_octets = length * width, new_length * width
    is_alike = (octets > _ONE_LENGTH_BYTE) == (new_octets > _ONE_LENGTH_BYTE)
    if is_alike or (version.is_mariadb and octets <= _MARIADB_ALWAYS_ONE):
        return TypeChange.LONGER
    return TypeChange.WIDER
