"""The reader's own connection to one side: reads only, for a bounded time, and gives up on what is stuck.

Apart from the reader, because it knows how the two flavours and the drivers bound a statement. A connection belongs to
one thread and is never the application's: its session settings are not what an application expects.
"""

from __future__ import annotations

import contextlib
from typing import Any

import sqlalchemy as sa

from dbmigrate.app.engines import detached_engine
from dbmigrate.app.shadow.reads import Parameters, Reading, columns_of
from dbmigrate.app.shadow.settings import ShadowSettings
from dbmigrate.app.shadow.tables import TableFacts, TableId

_TIMEOUT_ERRORS = frozenset({1317, 1969, 3024})
"""ER_QUERY_INTERRUPTED, ER_STATEMENT_TIMEOUT (MariaDB), ER_QUERY_TIMEOUT (MySQL)."""
_LOST_ERRORS = frozenset({2006, 2013})

_COLUMNS = """SELECT column_name AS name FROM information_schema.columns
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name AND extra NOT LIKE '%INVISIBLE%'
ORDER BY ordinal_position"""
_KEYS = """SELECT index_name AS index_name, MAX(nullable = 'YES' OR sub_part IS NOT NULL OR column_name IS NULL) AS is_weak,
GROUP_CONCAT(column_name ORDER BY seq_in_index SEPARATOR '\x1f') AS names FROM information_schema.statistics
WHERE non_unique = 0 AND table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name
GROUP BY index_name ORDER BY index_name <> 'PRIMARY', index_name"""


def client_limit(timeout_seconds: float) -> float:
    """How long the client waits for a statement that the server was to end after ``timeout_seconds``."""
    return timeout_seconds * 1.25 + 0.25


class Side:
    """One connection, opened when it is first needed, and again after it broke. For one thread only."""

    def __init__(self, engine: sa.Engine, settings: ShadowSettings) -> None:
        self._settings = settings
        self._engine = detached_engine(engine).execution_options(isolation_level="AUTOCOMMIT")
        self._connection: sa.Connection | None = None

    def connect(self) -> None:
        """Open the connection unless it is open; the server is asked for the limits of its session."""
        self._open()

    def read(self, sql: str, parameters: Parameters) -> Reading:
        """The answer as the driver gives it, up to a row more than the limit."""
        result = self._open().exec_driver_sql(sql, parameters or None)
        columns = columns_of(result.cursor.description if result.cursor is not None else None)
        rows = [tuple(row) for row in result.fetchall()]
        most = self._settings.max_rows
        return Reading(columns, rows[:most], is_truncated=len(rows) > most)

    def find_table(self, table: TableId) -> TableFacts:
        """The columns and keys of a table; nothing where it is none."""
        connection, given = self._open(), {"schema": table.schema or None, "name": table.name}
        columns = tuple(_text(row.name) for row in connection.execute(sa.text(_COLUMNS), given))
        keys = connection.execute(sa.text(_KEYS), given).all()
        return TableFacts(columns, tuple(tuple(_text(row.names).split("\x1f")) for row in keys if not row.is_weak))

    def give_up(self) -> None:
        """Throw the connection away, whatever it is doing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.invalidate()
            with contextlib.suppress(Exception):
                connection.close()

    def close(self) -> None:
        """The end."""
        self.give_up()
        with contextlib.suppress(Exception):
            self._engine.dispose()

    def _open(self) -> sa.Connection:
        if self._connection is None or self._connection.invalidated or self._connection.closed:
            self.give_up()
            connection = self._engine.connect()
            try:
                self._prepare(connection)
            except BaseException:
                connection.invalidate()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: sa.Connection) -> None:
        """The server ends what takes too long, refuses to write, and sends no more rows than asked for."""
        seconds = self._settings.timeout_seconds
        driver: Any = connection.connection.driver_connection
        if hasattr(driver, "_read_timeout"):  # PyMySQL has no way to set it after connecting
            driver._read_timeout = client_limit(seconds)
        version = str(connection.exec_driver_sql("SELECT VERSION()").scalar_one())
        limit = (
            f"max_statement_time = {seconds:.6f}"
            if "mariadb" in version.lower()
            else f"max_execution_time = {max(1, round(seconds * 1000))}"
        )
        connection.exec_driver_sql(f"SET SESSION {limit}, SESSION sql_select_limit = {self._settings.max_rows + 1}")
        connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def is_timeout(fault: BaseException) -> bool:
    """Whether a statement took too long, by the server's word or the client's."""
    number = _error_number(fault)
    return isinstance(fault, TimeoutError) or number in _TIMEOUT_ERRORS or (
        number in _LOST_ERRORS and "timed out" in str(fault).lower()
    )


def is_statements_own(fault: BaseException) -> bool:
    """Whether the server is well and only this statement is not: an unknown table or column, a value out of range."""
    return isinstance(fault, (sa.exc.ProgrammingError, sa.exc.DataError, sa.exc.NotSupportedError)) or (
        _error_number(fault) in {1054, 1146, 1305, 1792}
    )


def _error_number(fault: BaseException) -> int | None:
    arguments = getattr(getattr(fault, "orig", None) or fault, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
