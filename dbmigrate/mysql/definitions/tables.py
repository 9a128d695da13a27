"""Rewriting CREATE TABLE for the target.

SHOW CREATE TABLE prints one column, index or constraint a line, then the options, then the partitions. Each line is
looked at by itself: what the other flavour spells differently is spelt so, what it lacks is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import Index, IndexKind, Table, TableName
from dbmigrate.mysql.definitions.collations import UntranslatableError, translate_collation, translate_collations
from dbmigrate.mysql.definitions.objects import rewrite_schema
from dbmigrate.mysql.definitions.tokens import MARK, drop_introducers, find_closing, set_strings_aside
from dbmigrate.mysql.identifiers import quote_table

_NAME = r"`(?:[^`]|``)+`"
_INDEX_LINE = re.compile(rf"^(?:UNIQUE |FULLTEXT |SPATIAL |VECTOR )?KEY ({_NAME})")
_COLUMN_LINE = re.compile(rf"^({_NAME}) ([a-z0-9]+)")
_FUNCTION_DEFAULT = re.compile(r"\bDEFAULT (?!current_timestamp|now\()([a-z_][a-z0-9_]*)\(", re.IGNORECASE)
_LITERAL_DEFAULT = re.compile(rf"\bDEFAULT ((?:_[a-z0-9]+ ?)?{MARK})")
_NO_LITERAL_DEFAULT = re.compile(
    r"(?:tiny|medium|long)?(?:text|blob)|json|geometry|(?:multi)?(?:point|linestring|polygon)"
)
_SEQUENCE_DEFAULT = re.compile(r"\bDEFAULT \(?(?:nextval|lastval|NEXT VALUE)\b", re.IGNORECASE)
_MARIADB_JSON = re.compile(
    rf"^({_NAME}) longtext(?: CHARACTER SET utf8mb4)?(?: COLLATE utf8mb4_bin)?(.*?) CHECK \(json_valid\({_NAME}\)\)"
)
_GENERATED = re.compile(r" GENERATED ALWAYS AS \(")
_VERSION_COMMENT = re.compile(r"/\*M?!(\d{5,6}) ?(.*?) ?\*/", re.DOTALL)
_CHARSET_ONLY = re.compile(r"\b(?:CHARSET=|CHARACTER SET )([a-z0-9]+)(?! ?COLLATE)\b(?!.* COLLATE)")
_AUTOMATIC_CHECK_NAME = re.compile(r"^CONSTRAINT `CONSTRAINT_\d+` CHECK")

_ENGINES_OF_BOTH = frozenset({"innodb", "myisam", "memory", "csv", "archive", "blackhole", "mrg_myisam"})
_OPTION = r" `?(?:{})`?=(?:{}|\w+)"
# What only says how bytes are laid out on disk: leaving it out changes no value and no rule.
_PHYSICAL_MARIADB = re.compile(
    _OPTION.format(
        "PAGE_COMPRESSED|PAGE_COMPRESSION_LEVEL|PAGE_CHECKSUM|TRANSACTIONAL|ENCRYPTION_KEY_ID|IETF_QUOTES", MARK
    ), re.IGNORECASE,
)  # fmt: skip
_PHYSICAL_MYSQL = re.compile(
    _OPTION.format(
        "COMPRESSION|AUTOEXTEND_SIZE|ENGINE_ATTRIBUTE|SECONDARY_ENGINE_ATTRIBUTE|SECONDARY_ENGINE|TABLESPACE", MARK
    ), re.IGNORECASE,
)  # fmt: skip
_PAGE_ROWS = re.compile(r" ROW_FORMAT=PAGE\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """How a table is created: at once (``create``), or with its deferrable indexes after the rows are there.

    ``create_without_secondary`` and then every one of ``deferred_indexes`` give the same table as ``create``. Deferrable
    are non-unique indexes that no foreign key needs, on either end, and that do not hold the AUTO_INCREMENT column.
    ``notes`` say what is not quite the same on the target, for a person to read.
    """

    create: str
    create_without_secondary: str
    deferred_indexes: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Parts:
    items: list[str]
    options: str
    partitions: str


def translate_table(
    table: Table, *, source: ServerVersion, target: ServerVersion, target_name: TableName
) -> TableDefinition:
    """The statements that create ``table`` on the target under ``target_name``.

    To be run with ``foreign_key_checks=0``, the target's database selected and no ANSI_QUOTES or NO_BACKSLASH_ESCAPES.

    Raises:
        UntranslatableError: something in it has no counterpart there.
    """
    aside = set_strings_aside(table.create_statement)
    parts = _split(aside.text)
    translate = _Translation(table, source, target, target_name.schema)
    items = [aside.restore(translate.item(item)) for item in parts.items]
    tail = aside.restore(translate.options(parts.options) + translate.partitions(parts.partitions))
    deferrable = {index.name for index in table.indexes if _is_deferrable(table, index)}
    deferred = [item for item in items if _index_name(item) in deferrable]
    kept = [item for item in items if item not in deferred]

    def build(chosen: list[str]) -> str:
        body = ",\n  ".join(chosen)
        return f"CREATE TABLE {quote_table(target_name)} (\n  {body}\n) {tail}".rstrip()

    return TableDefinition(
        build(items), build(kept), _build_deferred(deferred, target_name), translate.notes(_changed_collations(table))
    )


def _split(text: str) -> _Parts:
    """Items, options and partitions of SHOW CREATE TABLE, which prints line breaks in strings as escapes."""
    lines = text.split("\n")
    end = next(i for i, line in enumerate(lines) if line.startswith(")"))
    items = [line.strip().removesuffix(",") for line in lines[1:end]]
    options, separator, partitions = "\n".join(lines[end:])[1:].partition("\n")
    return _Parts(items, options.strip(), separator + partitions)


def _index_name(item: str) -> str | None:
    found = _INDEX_LINE.match(item)
    return found[1][1:-1].replace("``", "`") if found else None


def _is_deferrable(table: Table, index: Index) -> bool:
    if index.is_unique or index.is_primary or index.kind is IndexKind.VECTOR:
        return False
    leading = [column.casefold() for column in index.columns]
    if any(c.is_auto_increment and leading[:1] == [c.name.casefold()] for c in table.columns):
        return False
    needed = [fk.columns for fk in table.foreign_keys] + list(table.referenced_columns)
    return not any({c.casefold() for c in columns} == set(leading[: len(columns)]) for columns in needed)


def _build_deferred(items: list[str], name: TableName) -> tuple[str, ...]:
    """One ALTER for all ordinary indexes, one each for FULLTEXT, which servers build only one at a time."""
    ordinary = [item for item in items if not item.startswith("FULLTEXT")]
    statements = []
    if ordinary:
        statements.append(f"ALTER TABLE {quote_table(name)} ADD " + ", ADD ".join(ordinary))
    statements += [f"ALTER TABLE {quote_table(name)} ADD {item}" for item in items if item.startswith("FULLTEXT")]
    return tuple(statements)


def _changed_collations(table: Table) -> dict[str, list[str]]:
    """Collations of the table's unique indexes' columns, with those indexes: where a change can make duplicates."""
    found: dict[str, list[str]] = {}
    for index in table.indexes:
        for name in index.columns if index.is_unique else ():
            collation = table.column(name).collation if name else None
            if collation:
                found.setdefault(collation, []).append(index.name)
    return found


class _Translation:
    """One table's definition from one flavour to the other; within a flavour nothing changes but defaults named."""

    def __init__(self, table: Table, source: ServerVersion, target: ServerVersion, schema: str) -> None:
        self._table, self._source, self._target = table, source, target
        self._schema = schema
        self._crosses = source.flavour is not target.flavour

    def item(self, text: str) -> str:
        """A column, index or constraint."""
        text = rewrite_schema(text, self._table.name.schema, self._schema, place=str(self._table.name))
        text = self._name_collation(text, self._column_collation(text))
        if not self._crosses:
            return text
        text = self._to_mariadb(text) if self._target.is_mariadb else self._to_mysql(text)
        return translate_collations(text, source=self._source, target=self._target).rstrip()

    def options(self, text: str) -> str:
        """ENGINE, charset and the like."""
        text = self._name_collation(text, self._table.collation, equals=True)
        if not self._crosses:
            return text
        if "SYSTEM VERSIONING" in text:
            raise self._refuse("system versioning", "drop it, or exclude the table")
        text = _VERSION_COMMENT.sub("", text)
        text = self._translate_engine(self._translate_encryption(text))
        text = (_PHYSICAL_MYSQL if self._target.is_mariadb else _PHYSICAL_MARIADB).sub("", text)
        return translate_collations(text, source=self._source, target=self._target).strip()

    def partitions(self, text: str) -> str:
        """PARTITION BY, out of its version comment."""
        if not text.strip() or not self._crosses:
            return text
        if "BY SYSTEM_TIME" in text:
            raise self._refuse("system versioning", "drop it, or exclude the table")
        unwrapped = re.sub(r"/\*!\d{5,6} ?(.*?) ?\*/", r"\1", text, flags=re.DOTALL)
        return "\n" + translate_collations(unwrapped.strip(), source=self._source, target=self._target)

    def notes(self, unique: dict[str, list[str]]) -> tuple[str, ...]:
        """Collations that change under a unique index: what was distinct may be equal there."""
        changed = {
            name: translate_collation(name, source=self._source, target=self._target) for name in unique
        }  # fmt: skip
        return tuple(
            f"{self._table.name}: {name} becomes {there} under the unique index {', '.join(sorted(set(unique[name])))}; "
            "values that differ only in accents, case, trailing spaces or rare characters may collide there"
            for name, there in sorted(changed.items()) if name != there
        )  # fmt: skip

    def _refuse(self, what: str, remedy: str) -> UntranslatableError:
        return UntranslatableError(
            f"{what} has no counterpart on {self._target}", place=str(self._table.name), hint=remedy
        )

    # --- both ways ---

    def _column_collation(self, text: str) -> str | None:
        found = _COLUMN_LINE.match(text)
        if not found:
            return None
        try:
            return self._table.column(found[1][1:-1].replace("``", "`")).collation
        except KeyError:
            return None

    def _name_collation(self, text: str, collation: str | None, *, equals: bool = False) -> str:
        """A charset's default collation by name: which one that is differs between releases."""
        if not collation:
            return text
        named = f" COLLATE{'=' if equals else ' '}{collation}"
        return _CHARSET_ONLY.sub(lambda found: found[0] + named, text, count=1)

    def _translate_engine(self, text: str) -> str:
        found = re.search(r"ENGINE=(\w+)", text)
        engine = found[1] if found else "InnoDB"
        if engine.lower() == "aria" and not self._target.is_mariadb:
            return _PAGE_ROWS.sub("", text.replace("ENGINE=Aria", "ENGINE=InnoDB"))
        if engine.lower() not in _ENGINES_OF_BOTH:
            raise self._refuse(f"the storage engine {engine}", "change the table to InnoDB, or exclude it")
        return text

    def _translate_encryption(self, text: str) -> str:
        if self._target.is_mariadb:
            encrypted = re.search(rf" ENCRYPTION=({MARK})", text)
            aside = encrypted and self._table_option_is_on(encrypted[1])
            return re.sub(rf" ENCRYPTION={MARK}", " ENCRYPTED=YES" if aside else "", text)
        return re.sub(r" `?ENCRYPTED`?='?(\w+)'?", lambda m: " ENCRYPTION='Y'" if m[1].upper() == "YES" else "", text)

    def _table_option_is_on(self, mark: str) -> bool:
        return set_strings_aside(self._table.create_statement).restore(mark).upper() == "'Y'"

    # --- to MySQL ---

    def _to_mysql(self, text: str) -> str:
        text = _VERSION_COMMENT.sub("", text)
        json = _MARIADB_JSON.match(text)
        if json:
            text = f"{json[1]} json{json[2]}{text[json.end() :]}"
        column = _COLUMN_LINE.match(text)
        if column:
            return self._column_to_mysql(text, column[2])
        if _INDEX_LINE.match(text):
            if text.startswith("VECTOR"):
                raise self._refuse(f"the vector index {_index_name(text)}", "drop it before the move")
            if text.endswith("USING HASH") and self._table.engine.lower() != "memory":
                raise self._refuse("a unique key over a whole BLOB or TEXT", "use a prefix length")
            text = re.sub(r" IGNORED$", " INVISIBLE", text)
        if text.startswith("PERIOD") or "WITHOUT OVERLAPS" in text:
            raise self._refuse("an application-time period", "drop it, or exclude the table")
        # MariaDB numbers checks by table, MySQL wants their names unique in the database and makes its own.
        return _AUTOMATIC_CHECK_NAME.sub("CHECK", text)

    def _column_to_mysql(self, text: str, kind: str) -> str:
        if kind in ("uuid", "inet4", "inet6", "xmltype"):
            raise self._refuse(
                f"the type {kind.upper()}",
                "create the table on the target by hand with CHAR(36) or the like, or exclude it",
            )
        if re.search(r" (?:WITHOUT|WITH) SYSTEM VERSIONING|GENERATED ALWAYS AS ROW", text):
            raise self._refuse("system versioning", "drop it, or exclude the table")
        if _SEQUENCE_DEFAULT.search(text):
            raise self._refuse("a default from a sequence", "use AUTO_INCREMENT instead")
        if _NO_LITERAL_DEFAULT.fullmatch(kind):
            text = _LITERAL_DEFAULT.sub(r"DEFAULT (\1)", text)
        found = _FUNCTION_DEFAULT.search(text)
        if found:  # MySQL wants expressions in parentheses
            closing = find_closing(text, found.end() - 1) + 1
            text = f"{text[: found.start(1)]}({text[found.start(1) : closing]}){text[closing:]}"
        return text

    # --- to MariaDB ---

    def _to_mariadb(self, text: str) -> str:
        text = _VERSION_COMMENT.sub(self._unwrap_mysql_comment, text)
        text = drop_introducers(text)
        column = _COLUMN_LINE.match(text)
        if column:
            return self._column_to_mariadb(text, column[2])
        name = _index_name(text)
        if name is not None and re.search(r"\(\(|,\(", re.sub(_NAME, "``", text)):
            raise self._refuse(
                f"the functional index {name}", "index a generated column with the same expression instead"
            )
        return text

    def _column_to_mariadb(self, text: str, kind: str) -> str:
        if kind == "vector" and self._target.release < (11, 7, 1):
            raise self._refuse("the type VECTOR", "exclude the table")
        if re.search(r"\b_?gb18030\b", text):
            raise self._refuse("the charset gb18030", "convert the column to utf8mb4 on the source")
        generated = _GENERATED.search(text)
        if generated:  # MariaDB has no NOT NULL on generated columns; the expression decides
            closing = find_closing(text, generated.end() - 1)
            return text[: closing + 1] + re.sub(r"^( \w+) NOT NULL", r"\1", text[closing + 1 :])
        if " INVISIBLE" in text and " NOT NULL" in text and not re.search(r" DEFAULT | AUTO_INCREMENT", text):
            raise self._refuse("an invisible NOT NULL column without a default", "give it a default on the source")
        return text

    def _unwrap_mysql_comment(self, comment: re.Match[str]) -> str:
        inside = comment[2]
        if inside == "INVISIBLE":
            return "INVISIBLE" if int(comment[1]) >= 80023 else "IGNORED"
        if inside == "NOT ENFORCED":
            raise self._refuse("a CHECK that is NOT ENFORCED", "drop it on the source")
        if inside.startswith("WITH PARSER"):
            raise self._refuse("a full-text parser", "create that index without its parser, or drop it before the move")
        # SRID goes, too: MariaDB enforces none, and every value carries its own.
        return ""
