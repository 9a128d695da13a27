"""Random schemas as data: tables with every kind of key, secondary unique keys, foreign keys and awkward names.

A row is a number: every column turns it into a literal of its own, so schemas and transactions stay small values that
Hypothesis can shrink and print.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from dbmigrate.domain.flavours import Flavour


@dataclass(frozen=True)
class Kind:
    """A column type and its values: the awkward ones first, then as many ordinary ones as wanted."""

    name: str
    ddl: str
    awkward: tuple[str, ...]
    nth: Callable[[int], str] = field(repr=False, compare=False)
    most: int = 10_000
    flavours: frozenset[Flavour] = frozenset(Flavour)
    is_text: bool = False

    def literal(self, number: int) -> str:
        """The value of a row number, as SQL."""
        number %= self.most
        return self.awkward[number] if number < len(self.awkward) else self.nth(number)


def _integers(name: str, bits: int) -> list[Kind]:
    high = 2 ** (bits - 1) - 1
    return [
        Kind(name, name, ("0", "-1", str(high), str(-high - 1), "1"), lambda n: str(n if n % 2 else -n),
             most=min(10_000, high)),
        Kind(f"{name} unsigned", f"{name} unsigned", ("0", "1", str(2 * high + 1), str(high + 1)), str,
             most=min(10_000, high)),
    ]  # fmt: skip


_PLAIN = ("''", "'a'", "'A'", "'b'", "'a '", "'aa'", "'B'", "'ab\\\\'", "'quo''te'", "'quo\"te'", "'0'", "'a\\t'")
_WIDE = (*_PLAIN, "'á'", "'Á'", "'ß'", "'ss'", "'SS'", "'é'", "'E'", "'e'")  # as far as latin1 goes
_WIDEST = (*_WIDE, "'ł'", "'Σ'", "'σ'", "'ς'", "'İ'", "'表'", "'😀'", "'😁'", "'e\u0301'")


def _text(name: str, type_and_charset: str, awkward: tuple[str, ...], *, only: Flavour | None = None) -> Kind:
    flavours = frozenset({only}) if only else frozenset(Flavour)
    return Kind(name, type_and_charset, awkward, lambda n: f"'n{n}'", flavours=flavours, is_text=True)


_BYTES = ("X''", "X'00'", "X'0000'", "X'61'", "X'41'", "X'6100'", "X'610000'", "X'27'", "X'5C'", "X'5C27'", "X'FF'",
          "X'00FF'", "X'20'", "X'6120'", "X'1A0A0D09'")  # fmt: skip
_UUIDS = tuple(f"'{u}'" for u in (
    "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "123e4567-e89b-12d3-a456-426655440000", "123e4567-e89b-12d3-a456-426655440001",
    "12e4567a-0000-1000-8000-000000000000", "12e4567a-0000-1000-8000-000000000100",
))  # fmt: skip

KINDS: tuple[Kind, ...] = (
    *(kind for name, bits in (("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32), ("bigint", 64))
      for kind in _integers(name, bits)),
    _text("utf8mb4_general_ci", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", _WIDEST),
    _text("utf8mb4_unicode_ci", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", _WIDEST),
    _text("utf8mb4_unicode_520_ci", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci", _WIDEST),
    _text("utf8mb4_bin", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", _WIDEST),
    _text("char utf8mb4_general_ci", "CHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", _WIDEST),
    _text("latin1_swedish_ci", "VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci", _WIDE),
    _text("latin1_german2_ci", "VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_german2_ci", _WIDE),
    _text("latin1_bin", "CHAR(20) CHARACTER SET latin1 COLLATE latin1_bin", _WIDE),
    _text("ascii_general_ci", "VARCHAR(20) CHARACTER SET ascii COLLATE ascii_general_ci", _PLAIN),
    _text("utf8mb4_nopad_bin", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin", _WIDEST,
          only=Flavour.MARIADB),
    _text("utf8mb4_general_nopad_ci", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_nopad_ci", _WIDEST,
          only=Flavour.MARIADB),
    _text("utf8mb4_unicode_nopad_ci", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_nopad_ci", _WIDEST,
          only=Flavour.MARIADB),
    _text("utf8mb4_0900_ai_ci", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci", _WIDEST,
          only=Flavour.MYSQL),
    _text("utf8mb4_0900_bin", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin", _WIDEST,
          only=Flavour.MYSQL),
    Kind("binary", "BINARY(4)", _BYTES, lambda n: f"X'{n:08X}'"),
    Kind("varbinary", "VARBINARY(12)", _BYTES, lambda n: f"X'{n:08X}'"),
    Kind("uuid", "UUID", _UUIDS, lambda n: f"'{n:08x}-0000-4000-8000-{n * 256:012x}'",
         flavours=frozenset({Flavour.MARIADB})),
    Kind("uuid in binary", "BINARY(16)", tuple(f"X'{u.replace('-', '').strip(chr(39))}'" for u in _UUIDS),
         lambda n: f"X'{n:032X}'"),
    Kind("enum", "ENUM('z','a','M','with space','q''uote','ü')", ("1", "2", "3", "4", "5", "6"), str, most=6),
    Kind("set", "SET('z','a','M','q''uote')", tuple(map(str, range(16))), str, most=16),
    Kind("decimal", "DECIMAL(20,4)", ("0", "-0.0001", "0.0001", "-1", "-10", "-9.9999", "9999999999999999.9999",
                                      "-9999999999999999.9999"), lambda n: f"-{n}.{n % 10}"),
    Kind("date", "DATE", ("'0000-00-00'", "'1000-01-01'", "'9999-12-31'", "'2024-02-29'"),
         lambda n: f"'{1970 + n % 100}-{n % 12 + 1:02d}-{n % 28 + 1:02d}'"),
    Kind("datetime", "DATETIME(6)", ("'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'",
                                     "'2024-02-29 12:00:00.000001'", "'2024-03-31 02:30:00'"),
         lambda n: f"'2024-01-{n % 28 + 1:02d} 00:00:{n % 60:02d}.{n:06d}'"),
    Kind("timestamp", "TIMESTAMP(3) NOT NULL DEFAULT '2000-01-01 00:00:00'",
         ("'0000-00-00 00:00:00'", "'1970-01-02 00:00:01'", "'2038-01-18 03:14:07.999'", "'2024-10-27 02:30:00'",
          "'2024-10-27 03:30:00'", "'2024-03-31 02:30:00'"),
         lambda n: f"'2024-10-{n % 28 + 1:02d} 00:00:{n % 60:02d}.{n % 1000:03d}'"),
    Kind("time", "TIME(2)", ("'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:00.01'", "'-00:00:01'", "'-100:00:00.5'"),
         lambda n: f"'{'-' if n % 2 else ''}{n % 800}:{n % 60:02d}:00.{n % 100:02d}'"),
    Kind("year", "YEAR", ("0000", "1901", "2155", "2000", "1970"), lambda n: str(1901 + n % 250), most=200),
    Kind("bit", "BIT(12)", ("b'0'", "b'1'", "b'111111111111'", "b'100000000'", "b'11111111'"), lambda n: f"b'{n % 4096:b}'",
         most=4000),
)  # fmt: skip
BY_NAME = {kind.name: kind for kind in KINDS}

_VALUES: tuple[Kind, ...] = (
    Kind("text", "TEXT CHARACTER SET utf8mb4", ("''", "'a'", "'A'", "NULL", "'a '", "'\\\\'", "'line\\nfeed\\0'"),
         lambda n: f"REPEAT('x{n}', {n % 50})"),
    Kind("blob", "BLOB", ("X''", "X'00'", "NULL", "X'5C27'"), lambda n: f"X'{n:08X}'"),
    Kind("double", "DOUBLE", ("0", "-1e300", "NULL", "1.5e-300", "0.1"), lambda n: f"{n} / 7"),
    Kind("float", "FLOAT", ("0", "16777216", "NULL", "-0.1"), lambda n: f"{n} / 3"),
    Kind("json", "JSON", ("'{}'", "'[1, 2]'", "NULL"), lambda n: f"'{{\"n\": {n}}}'"),
    *(BY_NAME[name] for name in ("int", "bigint unsigned", "decimal", "datetime", "time", "year", "bit", "enum",
                                 "utf8mb4_general_ci", "latin1_swedish_ci", "varbinary", "date")),
)  # fmt: skip

TABLE_NAMES = ("orders", "select", "order by", "na`me", "Größe", "it's", 'dou"ble', "表", "per%cent", "UPPER", "semi;colon")
COLUMN_NAMES = ("id", "key", "with space", "b`tick", "ключ", "qu'ote", "GROUP", "a.b", "per%s", "x-y", "from", "c1",
                "c2", "c3", "c4", "c5")  # fmt: skip
ACTIONS = ("RESTRICT", "NO ACTION", "CASCADE", "SET NULL")


def quote(name: str) -> str:
    """An identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True)
class Column:
    """A column. ``reads`` chooses what part of a row's number becomes its value."""

    name: str
    kind: Kind
    is_nullable: bool = False
    divisor: int = 1

    def literal(self, number: int) -> str:
        """The value in the row of this number."""
        return self.kind.literal(number // self.divisor)

    @property
    def ddl(self) -> str:
        """As CREATE TABLE says it."""
        words = self.kind.ddl
        if self.is_nullable:
            words = words.replace(" NOT NULL DEFAULT '2000-01-01 00:00:00'", "") + " NULL"
        elif " NOT NULL" not in words:
            words += " NOT NULL"
        return f"{quote(self.name)} {words}"


@dataclass(frozen=True)
class Unique:
    """A secondary unique key over columns; ``prefix`` bytes or characters of a text column."""

    columns: tuple[Column, ...]
    prefix: int = 0

    @property
    def ddl(self) -> str:
        """As CREATE TABLE says it."""
        parts = [f"{quote(c.name)}({self.prefix})" if self.prefix and c.kind.is_text else quote(c.name) for c in self.columns]
        return f"UNIQUE KEY ({', '.join(parts)})"


@dataclass(frozen=True)
class Reference:
    """A foreign key to the primary key of the table at an index (its own for a self-reference)."""

    parent: int
    columns: tuple[Column, ...]
    on_delete: str
    on_update: str


@dataclass(frozen=True)
class Table:
    """A table as data."""

    name: str
    key: tuple[Column, ...]
    uniques: tuple[Unique, ...]
    references: tuple[Reference, ...]
    values: tuple[Column, ...]
    has_generated: bool
    rows: int

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns that are written."""
        unique = [column for one in self.uniques for column in one.columns]
        foreign = [column for one in self.references for column in one.columns]
        seen: dict[str, Column] = {c.name: c for c in (*self.key, *foreign, *unique, *self.values)}
        return tuple(seen.values())

    def where(self, number: int, alias: str = "") -> str:
        """What finds the row of this number."""
        return " AND ".join(f"{alias}{quote(c.name)} = {c.literal(number)}" for c in self.key)


@dataclass(frozen=True)
class Schema:
    """Tables, parents before children."""

    tables: tuple[Table, ...]

    def statements(self) -> list[str]:
        """The CREATE TABLE statements."""
        return [self._create(table) for table in self.tables]

    def _create(self, table: Table) -> str:
        lines = [column.ddl for column in table.columns]
        if table.has_generated:
            first = quote(table.key[0].name)
            lines.append(f"gen_v VARCHAR(40) GENERATED ALWAYS AS (LEFT(HEX({first}), 40)) VIRTUAL")
            if table.values:
                lines.append(f"gen_s BIGINT GENERATED ALWAYS AS (LENGTH({quote(table.values[0].name)})) STORED")
        lines.append(f"PRIMARY KEY ({', '.join(quote(c.name) for c in table.key)})")
        lines += [unique.ddl for unique in table.uniques]
        for number, reference in enumerate(table.references):
            parent = self.tables[reference.parent]
            lines.append(
                f"CONSTRAINT {quote(f'fk{self.tables.index(table)}_{number}')} FOREIGN KEY ({', '.join(quote(c.name) for c in reference.columns)}) "
                f"REFERENCES {quote(parent.name)} ({', '.join(quote(c.name) for c in parent.key)}) "
                f"ON DELETE {reference.on_delete} ON UPDATE {reference.on_update}"
            )
        body = ",\n  ".join(lines)
        return f"CREATE TABLE {quote(table.name)} (\n  {body}\n) DEFAULT CHARSET=utf8mb4"

    def __repr__(self) -> str:
        return "\n".join(self.statements())


def kinds_for(flavours: frozenset[Flavour]) -> tuple[Kind, ...]:
    """The kinds that servers of all these flavours know."""
    return tuple(kind for kind in KINDS if flavours <= kind.flavours)


@st.composite
def schemas(draw: st.DrawFn, flavours: frozenset[Flavour] = frozenset({Flavour.MARIADB})) -> Schema:
    """Two to five tables."""
    kinds = kinds_for(flavours)
    tables: list[Table] = []
    names = draw(st.permutations(TABLE_NAMES))
    for index in range(draw(st.integers(2, 5))):
        tables.append(_draw_table(draw, names[index], index, tables, kinds))
    return Schema(tuple(tables))


def _draw_table(draw: st.DrawFn, name: str, index: int, before: list[Table], kinds: tuple[Kind, ...]) -> Table:
    fresh = iter(draw(st.permutations(COLUMN_NAMES)))
    key = []
    width = draw(st.sampled_from((1, 1, 1, 2, 3)))
    for place in range(width):
        key.append(Column(next(fresh), draw(st.sampled_from(kinds)), divisor=7**place))
    references: list[Reference] = []
    if before and draw(st.sampled_from((True, True, True, False))):
        parent = draw(st.integers(0, len(before) - 1))
        references.append(_draw_reference(draw, parent, before[parent].key, fresh))
    if width == 1 and draw(st.sampled_from((True, False, False))):
        references.append(_draw_reference(draw, index, tuple(key), fresh))
    is_dependent = len(references) == 1 and not references[0].columns[0].is_nullable and references[0].parent != index
    if is_dependent and width + len(references[0].columns) <= 3 and draw(st.booleans()):
        key = [*references[0].columns, *key]  # a key that cascades rewrite
    uniques = []
    for _ in range(draw(st.sampled_from((0, 1, 1, 2)))):
        columns = tuple(
            Column(next(fresh), draw(st.sampled_from(kinds)), is_nullable=draw(st.booleans()))
            for _ in range(draw(st.sampled_from((1, 1, 2))))
        )
        prefix = draw(st.sampled_from((0, 0, 3))) if any(c.kind.is_text for c in columns) else 0
        uniques.append(Unique(columns, prefix))
    if references and draw(st.sampled_from((True, False, False, False))):
        uniques.append(Unique(references[0].columns))  # one child a parent
    values = tuple(
        Column(next(fresh), draw(st.sampled_from(_VALUES)), is_nullable=True)
        for _ in range(draw(st.integers(1, 2)))
    )
    rows = draw(st.sampled_from((40, 0, 5, 120, 300)))
    table = Table(name, tuple(key), tuple(uniques), tuple(references), values, draw(st.booleans()), rows)
    if table.has_generated and any("CASCADE" in r.on_update or "SET" in r.on_delete + r.on_update for r in references):
        table = replace(table, has_generated=False)  # servers refuse what cascades into a generated column
    return table


def _draw_reference(draw: st.DrawFn, parent: int, key: tuple[Column, ...], fresh: object) -> Reference:
    on_delete, on_update = draw(st.sampled_from(ACTIONS)), draw(st.sampled_from(ACTIONS))
    is_nullable = "SET NULL" in (on_delete, on_update) or draw(st.booleans())
    columns = tuple(
        Column(next(fresh), column.kind, is_nullable=is_nullable, divisor=column.divisor)  # type: ignore[call-overload]
        for column in key
    )
    return Reference(parent, columns, on_delete, on_update)


def depth(schema: Schema) -> int:
    """The longest chain of foreign keys."""
    depths: list[int] = []
    for index, table in enumerate(schema.tables):
        depths.append(1 + max((depths[r.parent] for r in table.references if r.parent < index), default=0))
    return max(depths)


__all__ = ["ACTIONS", "KINDS", "Column", "Kind", "Schema", "Table", "depth", "quote", "schemas"]
