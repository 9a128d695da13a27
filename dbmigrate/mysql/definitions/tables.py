"""Rewriting CREATE TABLE for the target.

SHOW CREATE TABLE prints one column, index or constraint a line, then the options, then the partitions. Each line is
looked at by itself: what the other flavour spells differently is spelt so, what it lacks is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import Index, IndexKind, Table, TableName
from dbmigrate.mysql.definitions.collations import UntranslatableError, translate_collations
from dbmigrate.mysql.identifiers import quote_table

_STRING = r"'(?:[^'\\]|\\.|'')*'"
_INDEX_LINE = re.compile(r"^(?:UNIQUE |FULLTEXT |SPATIAL |VECTOR )?KEY `((?:[^`]|``)+)`")
_FUNCTION_DEFAULT = re.compile(r"\bDEFAULT (?!current_timestamp|now\(|NULL\b)([a-z_][a-z0-9_]*\()", re.IGNORECASE)
_LITERAL_DEFAULT = re.compile(rf"\bDEFAULT (_[a-z0-9]+ ?)?({_STRING})")
_LONG_TYPE = re.compile(r"^`(?:[^`]|``)+` (?:tiny|medium|long)?(?:text|blob)|^`(?:[^`]|``)+` (?:json|geometry)")
_MARIADB_JSON = re.compile(
    r"^(`(?:[^`]|``)+`) longtext(?: CHARACTER SET utf8mb4)?(?: COLLATE utf8mb4_bin)?(.*?) CHECK \(json_valid\(`(?:[^`]|``)+`\)\)"
)
_VERSION_COMMENT = re.compile(r"/\*M?!(\d{5,6}) ?(.*?) ?\*/", re.DOTALL)
_MARIADB_ONLY_OPTIONS = re.compile(
    r" `?(?:PAGE_COMPRESSED|PAGE_COMPRESSION_LEVEL|PAGE_CHECKSUM|TRANSACTIONAL|ENCRYPTED|ENCRYPTION_KEY_ID|SEQUENCE)`?='?\w+'?",
    re.IGNORECASE,
)
_MYSQL_ONLY_OPTIONS = re.compile(
    r" (?:COMPRESSION|ENCRYPTION|AUTOEXTEND_SIZE|ENGINE_ATTRIBUTE|SECONDARY_ENGINE_ATTRIBUTE)=(?:'[^']*'|\w+)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """How a table is created: at once (``create``), or with its deferrable indexes after the rows are there.

    Deferrable are non-unique indexes that no foreign key needs and that do not hold the AUTO_INCREMENT column.
    """

    create: str
    create_without_secondary: str
    deferred_indexes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Parts:
    items: list[str]
    options: str
    partitions: str


def translate_table(
    table: Table, *, source: ServerVersion, target: ServerVersion, target_name: TableName
) -> TableDefinition:
    """The statements that create ``table`` on the target under ``target_name``.

    Raises:
        UntranslatableError: something in it has no counterpart there.
    """
    parts = _split(table)
    translate = _Translation(table, source, target)
    items = [translate.item(item) for item in parts.items]
    options, partitions = translate.options(parts.options), translate.partitions(parts.partitions)
    deferrable = {index.name for index in table.indexes if _is_deferrable(table, index)}
    deferred = [item for item in items if _index_name(item) in deferrable]
    kept = [item for item in items if item not in deferred]

    def build(chosen: list[str]) -> str:
        body = ",\n  ".join(chosen)
        return f"CREATE TABLE {quote_table(target_name)} (\n  {body}\n) {options}{partitions}".rstrip()

    return TableDefinition(build(items), build(kept), _build_deferred(deferred, target_name))


def _split(table: Table) -> _Parts:
    """Items, options and partitions of SHOW CREATE TABLE."""
    lines = table.create_statement.split("\n")
    end = next(i for i, line in enumerate(lines) if line.startswith(")"))
    items: list[str] = []
    for line in lines[1:end]:
        if items and not line.startswith("  "):
            items[-1] += "\n" + line  # a comment or default with a line break in it
        else:
            items.append(line.strip())
    tail = "\n".join(lines[end:])[1:]
    options, separator, partitions = tail.partition("\n")
    return _Parts([item.removesuffix(",") for item in items], options.strip(), separator + partitions)


def _index_name(item: str) -> str | None:
    found = _INDEX_LINE.match(item)
    return found[1].replace("``", "`") if found else None


def _is_deferrable(table: Table, index: Index) -> bool:
    if index.is_unique or index.is_primary or index.kind is IndexKind.VECTOR:
        return False
    first = index.columns[0].casefold() if index.columns else ""
    if any(c.is_auto_increment and c.name.casefold() == first for c in table.columns):
        return False
    leading = [column.casefold() for column in index.columns]
    return not any(
        {c.casefold() for c in fk.columns} == set(leading[: len(fk.columns)]) for fk in table.foreign_keys
    )


def _build_deferred(items: list[str], name: TableName) -> tuple[str, ...]:
    """One ALTER for all ordinary indexes, one each for FULLTEXT, which servers build only one at a time."""
    ordinary = [item for item in items if not item.startswith("FULLTEXT")]
    statements = []
    if ordinary:
        statements.append(f"ALTER TABLE {quote_table(name)} ADD " + ", ADD ".join(ordinary))
    statements += [f"ALTER TABLE {quote_table(name)} ADD {item}" for item in items if item.startswith("FULLTEXT")]
    return tuple(statements)


class _Translation:
    """One table's definition from one flavour to the other; within a flavour nothing changes."""

    def __init__(self, table: Table, source: ServerVersion, target: ServerVersion) -> None:
        self._table, self._source, self._target = table, source, target
        self._crosses = source.flavour is not target.flavour

    def item(self, text: str) -> str:
        """A column, index or constraint."""
        if not self._crosses:
            return text
        text = self._to_mariadb(text) if self._target.is_mariadb else self._to_mysql(text)
        return translate_collations(text, source=self._source, target=self._target)

    def options(self, text: str) -> str:
        """ENGINE, charset and the like."""
        if not self._crosses:
            return text
        if "SYSTEM VERSIONING" in text:
            raise self._refuse("system versioning", "drop it, or exclude the table")
        text = _VERSION_COMMENT.sub("", text)
        text = (_MYSQL_ONLY_OPTIONS if self._target.is_mariadb else _MARIADB_ONLY_OPTIONS).sub("", text)
        return translate_collations(text, source=self._source, target=self._target).strip()

    def partitions(self, text: str) -> str:
        """PARTITION BY, out of its version comment."""
        if not text.strip() or not self._crosses:
            return text
        unwrapped = re.sub(r"/\*!\d{5,6} ?(.*?) ?\*/", r"\1", text, flags=re.DOTALL)
        return "\n" + translate_collations(unwrapped.strip(), source=self._source, target=self._target)

    def _refuse(self, what: str, remedy: str) -> UntranslatableError:
        return UntranslatableError(
            f"{what} has no counterpart on {self._target}", place=str(self._table.name), hint=remedy
        )

    # --- to MySQL ---

    def _to_mysql(self, text: str) -> str:
        json = _MARIADB_JSON.match(text)
        if json:
            text = f"{json[1]} json{json[2]}{text[json.end() :]}"
        text = _VERSION_COMMENT.sub("", text).replace(" COMPRESSED", "") if "/*" in text else text
        if text.startswith("`"):
            self._require_known_type(text, ("uuid", "inet4", "inet6", "xmltype"))
            if re.search(r"\b(?:WITHOUT|WITH) SYSTEM VERSIONING|GENERATED ALWAYS AS ROW", text):
                raise self._refuse("system versioning", "drop it, or exclude the table")
            if re.search(r"\bDEFAULT (?:\(?nextval\(|NEXT VALUE FOR)", text, re.IGNORECASE):
                raise self._refuse("a default from a sequence", "use AUTO_INCREMENT instead")
            text = _wrap_function_default(text)
            if _LONG_TYPE.match(text):
                text = _LITERAL_DEFAULT.sub(lambda m: f"DEFAULT ({m[1] or ''}{m[2]})", text)
        if _INDEX_LINE.match(text) or text.startswith("UNIQUE"):
            if text.endswith("USING HASH"):
                raise self._refuse("a unique key over a whole BLOB or TEXT", "use a prefix length")
            text = re.sub(r" IGNORED$", " INVISIBLE", text)
        if text.startswith("PERIOD") or "WITHOUT OVERLAPS" in text:
            raise self._refuse("an application-time period", "drop it, or exclude the table")
        return text

    # --- to MariaDB ---

    def _to_mariadb(self, text: str) -> str:
        text = _VERSION_COMMENT.sub(self._unwrap_mysql_comment, text)
        if text.startswith("`"):
            if self._target.release < (11, 7, 1):
                self._require_known_type(text, ("vector",))
        elif "KEY" in text.split("`", 1)[0] and re.search(r"\(\(|,\(", re.sub(r"`(?:[^`]|``)*`", "``", text)):
            raise self._refuse(
                f"the functional index {_index_name(text)}", "index a generated column with the same expression instead"
            )
        return text.rstrip()

    def _unwrap_mysql_comment(self, comment: re.Match[str]) -> str:
        inside = comment[2]
        if inside == "INVISIBLE":
            return "INVISIBLE" if int(comment[1]) >= 80023 else "IGNORED"
        if inside.startswith("SRID"):
            return f"REF_SYSTEM_ID={inside.split()[1]}"
        if inside == "NOT ENFORCED":
            raise self._refuse("a CHECK that is NOT ENFORCED", "drop it on the source")
        return ""

    def _require_known_type(self, text: str, types: tuple[str, ...]) -> None:
        kind = re.match(r"`(?:[^`]|``)+` ([a-z0-9]+)", text)
        if kind and kind[1] in types:
            raise self._refuse(f"the type {kind[1].upper()}", "convert the column, or exclude the table")


def _wrap_function_default(text: str) -> str:
    """``DEFAULT uuid()`` as ``DEFAULT (uuid())``: MySQL wants expressions in parentheses."""
    found = _FUNCTION_DEFAULT.search(text)
    if not found:
        return text
    begin, depth = found.start(1), 0
    for place in range(begin, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if text[place] == ")" and depth == 0:
            return f"{text[:begin]}({text[begin : place + 1]}){text[place + 1 :]}"
    return text
