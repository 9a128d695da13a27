"""Keys as the data path carries them: SQL literals in bytes, never Python values.

One row's key is the literals of its key columns joined by commas, in the order of the key, in one canonical
form that the binlog decoder writes (``mysql.binlog``) and that the servers write (``mysql.literals``), so that
two mentions of one row are equal bytes:

    integers, YEAR, BIT, ENUM and SET (by number)   12, -3
    DECIMAL                                         -1.50, as the server prints it
    character types                                 _utf8mb4 X'C3A9'  (the column's charset, bytes as stored,
                                                    CHAR without its trailing spaces)
    binary types                                    X'00FF'  (BINARY padded to its width)
    DATE, TIME, DATETIME, TIMESTAMP                 '2024-02-29 12:00:00.000000', fraction digits as declared,
                                                    TIMESTAMP in UTC
    UUID, INET4, INET6 (MariaDB)                    quoted text as the server prints it

FLOAT and DOUBLE are refused as keys: equality on them is not exact.
"""

from __future__ import annotations

from typing import TypeAlias

Key: TypeAlias = bytes


class MovedKey(bytes):
    """A key whose row was deleted, or that an update gave up or took: equal to the same bytes.

    Only such changes make a foreign key's engine touch the rows that reference it. Where a cascade may have removed a row
    silently, inserts count too: the key may have been another row's.
    """

    __slots__ = ()
