"""Collation names between flavours.

MySQL's ``0900`` collations and MariaDB's ``uca1400`` ones are the same idea on different versions of Unicode: close,
not equal. Where trailing spaces count on one side (NO PAD) the counterpart with the same rule is chosen.
"""

from __future__ import annotations

import re

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.mysql.definitions.tokens import rewrite_keywords


class UntranslatableError(RefusedError):
    """Something in a definition has no counterpart on the target."""


_TO_MARIADB = {
    "utf8mb4_0900_ai_ci": "utf8mb4_uca1400_nopad_ai_ci",
    "utf8mb4_0900_as_ci": "utf8mb4_uca1400_nopad_as_ci",
    "utf8mb4_0900_as_cs": "utf8mb4_uca1400_nopad_as_cs",
    "utf8mb4_0900_bin": "utf8mb4_nopad_bin",
}
_TO_MARIADB_BEFORE_UCA1400 = {
    "utf8mb4_0900_ai_ci": "utf8mb4_unicode_520_nopad_ci",
    "utf8mb4_0900_bin": "utf8mb4_nopad_bin",
}
_TO_MYSQL = {
    "utf8mb4_uca1400_ai_ci": "utf8mb4_0900_ai_ci",
    "utf8mb4_uca1400_as_ci": "utf8mb4_0900_as_ci",
    "utf8mb4_uca1400_as_cs": "utf8mb4_0900_as_cs",
    "utf8mb4_uca1400_nopad_ai_ci": "utf8mb4_0900_ai_ci",
    "utf8mb4_uca1400_nopad_as_ci": "utf8mb4_0900_as_ci",
    "utf8mb4_uca1400_nopad_as_cs": "utf8mb4_0900_as_cs",
    "utf8mb3_uca1400_ai_ci": "utf8mb3_unicode_520_ci",
    "utf8mb4_nopad_bin": "utf8mb4_0900_bin",
    "utf8mb4_unicode_520_nopad_ci": "utf8mb4_0900_ai_ci",
    "utf8mb4_general_nopad_ci": "utf8mb4_general_ci",
}
_FOREIGN = re.compile(r"\b(?:utf8mb4|utf8mb3|utf8|ucs2|utf16|utf32|latin1|ascii|gb18030)_[a-z0-9_]*\b")
_ONLY_MYSQL = re.compile(r"_0900_|_zh_0900|_pb_|_tolower_ci|^gb18030_")
_ONLY_MARIADB = re.compile(r"uca1400|nopad|_thai_520_w2|croatian_mysql561|_myanmar_ci")


def translate_collation(name: str, *, source: ServerVersion, target: ServerVersion) -> str:
    """The target's name for a collation of the source.

    Raises:
        UntranslatableError: it has none.
    """
    if source.flavour is target.flavour:
        return name
    known = _TO_MYSQL
    if target.is_mariadb:
        known = _TO_MARIADB if target.release >= (10, 10, 1) else _TO_MARIADB_BEFORE_UCA1400
    if name in known:
        return known[name]
    foreign = _ONLY_MYSQL if target.is_mariadb else _ONLY_MARIADB
    if foreign.search(name):
        raise UntranslatableError(
            f"the collation {name} has no counterpart on {target}",
            place=name,
            hint="change the column's collation on the source, or create the table on the target by hand first",
        )
    return name


def translate_collations(sql: str, *, source: ServerVersion, target: ServerVersion) -> str:
    """Every collation name in a definition, strings and quoted names left alone."""
    if source.flavour is target.flavour:
        return sql
    return rewrite_keywords(
        sql, lambda code: _FOREIGN.sub(lambda m: translate_collation(m[0], source=source, target=target), code)
    )
