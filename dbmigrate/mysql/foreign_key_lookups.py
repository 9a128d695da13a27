"""The statements that follow foreign keys: who references a row, and who references none."""

from __future__ import annotations

from collections.abc import Sequence

from dbmigrate.domain.keys import Key
from dbmigrate.domain.schema import ForeignKey, Table
from dbmigrate.mysql.identifiers import quote_columns, quote_identifier, quote_table
from dbmigrate.mysql.key_predicates import KeyRange, keys_predicate, range_predicate
from dbmigrate.mysql.literals import key_expression


def build_children_lookup(child: Table, foreign_key: ForeignKey, parent: Table, parent_keys: Sequence[Key]) -> str:
    """Keys of the rows of ``child`` that reference these rows of ``parent`` through ``foreign_key``.

    Where the referenced columns are the parent's key, the parent's row need not exist any more.
    """
    key = _key_of(child)
    referenced = {
        name.casefold(): own for own, name in zip(foreign_key.columns, foreign_key.referenced_columns, strict=True)
    }
    parent_key = [column.name for column in parent.key_columns]
    if {name.casefold() for name in parent_key} == set(referenced):
        own = [referenced[name.casefold()] for name in parent_key]
        return f"SELECT {key} FROM {quote_table(child.name)} WHERE {keys_predicate(child, own, parent_keys)}"
    pairs = " AND ".join(
        f"c.{quote_identifier(own)} = p.{quote_identifier(name)}"
        for own, name in zip(foreign_key.columns, foreign_key.referenced_columns, strict=True)
    )
    carried = ", ".join(f"c.{quote_identifier(column.name)}" for column in child.key_columns)
    inner = (
        f"SELECT {carried} FROM {quote_table(child.name)} c JOIN "
        f"(SELECT * FROM {quote_table(parent.name)} WHERE {keys_predicate(parent, parent_key, parent_keys)}) p ON {pairs}"
    )
    return f"SELECT {key} FROM ({inner}) AS children"


def build_orphans_lookup(
    child: Table, foreign_key: ForeignKey, *, after: Key | None = None, most: int, parent_keys: Sequence[Key] = ()
) -> str:
    """Keys of the rows of ``child`` whose ``foreign_key`` points at no row, in key order.

    ``parent_keys``: only those that point at these values of the referenced columns, which are in the order of the
    parent's key then.
    """
    own_table, names = quote_table(child.name), [column.name for column in child.key_columns]
    pairs = list(zip(foreign_key.columns, foreign_key.referenced_columns, strict=True))
    joined = " AND ".join(f"p.{quote_identifier(there)} = {own_table}.{quote_identifier(own)}" for own, there in pairs)
    given = " AND ".join(f"{quote_identifier(own)} IS NOT NULL" for own, _ in pairs)
    pointing = f"{keys_predicate(child, foreign_key.columns, parent_keys)} AND " if parent_keys else ""
    return (
        f"SELECT {_key_of(child)} FROM {own_table} WHERE {pointing}{range_predicate(names, KeyRange(after))} AND {given} "
        f"AND NOT EXISTS (SELECT 1 FROM {quote_table(foreign_key.referenced_table)} p WHERE {joined}) "
        f"ORDER BY {quote_columns(names)} LIMIT {most}"
    )


def _key_of(table: Table) -> str:
    return key_expression(table.key_columns)


def build_orphan_count(foreign_key: ForeignKey) -> str:
    """How many rows of a table reference a parent that does not exist."""
    pairs = list(zip(foreign_key.columns, foreign_key.referenced_columns, strict=True))
    joined = " AND ".join(f"p.{quote_identifier(there)} = c.{quote_identifier(own)}" for own, there in pairs)
    given = " AND ".join(f"c.{quote_identifier(own)} IS NOT NULL" for own, _ in pairs)
    return (
        f"SELECT COUNT(*) FROM {quote_table(foreign_key.table)} c LEFT JOIN {quote_table(foreign_key.referenced_table)} p "
        f"ON {joined} WHERE {given} AND p.{quote_identifier(pairs[0][1])} IS NULL"
    )
