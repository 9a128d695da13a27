"""The shape of ``dbmigrate.toml``: one frozen model a section, one field a key.

Everything that can be said about a key (type, range, default, meaning, example) is said here once; the error
messages, the template and ``docs/configuration.md`` are made from it. Types are strict: ``"4"`` is no number.
Relative paths count from the directory of the file, so that a run does not depend on where it was started.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dbmigrate.domain.errors import ConfigurationError
from dbmigrate.telemetry import register_secret

DEFAULT_PORT = 3306
KIB = 1024
MIB = 1024 * KIB


class _Section(BaseModel):
    # hide_input_in_errors: pydantic's own messages would print the URL somebody put a password into.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False
    )


def _resolve(path: Path, info: ValidationInfo) -> Path:
    directory = (info.context or {}).get("directory")
    return Path(directory) / path if directory is not None else path


# strict=False on these only: TOML has no tuples, paths or enums, so arrays and strings must be let in.
Text = Annotated[str, StringConstraints(min_length=1)]
Texts = Annotated[tuple[Text, ...], Field(strict=False)]
FilePath = Annotated[Path, Field(strict=False), AfterValidator(_resolve)]
Expressions = Mapping[Text, Text]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
MigrationId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]


class TlsMode(Enum):
    """How much of a server's identity is proved. There is no "use TLS if offered": it protects nothing."""

    OFF = "off"
    REQUIRED = "required"
    VERIFY_CA = "ca"
    VERIFY_IDENTITY = "identity"


class Approval(Enum):
    """Who lets the cutover begin."""

    REQUIRED = "required"
    AUTO = "auto"


class FenceKind(Enum):
    """What holds writers back during the switch. ``app`` and ``hook`` can be written but not yet run."""

    APP = "app"
    READ_ONLY = "read_only"
    LOCK_TABLES = "lock_tables"
    HOOK = "hook"


class MigrationSection(_Section):
    """Which migration this is."""

    id: MigrationId = Field(
        description="Name of the migration in the control tables, metrics and reports. It finds the progress "
        "of an interrupted run again, so never change it on the way.",
        examples=["shop-2026-11"],
    )


def _read_tls_words(value: object) -> object:
    # "none" is what other tools call encryption without verification.
    return TlsMode.REQUIRED if value == "none" else value


class TlsSection(_Section):
    """Encryption of the connections to one server."""

    verify: Annotated[TlsMode, Field(strict=False), BeforeValidator(_read_tls_words)] = Field(
        default=TlsMode.VERIFY_IDENTITY,
        description="`identity` checks the certificate and that it was made out to this host; `ca` checks "
        "the certificate only; `required` (or `none`) encrypts without checking who answers; `off` is plain "
        "text.",
    )
    ca: FilePath | None = Field(
        default=None,
        description="Certificates of the authorities to trust (PEM), in place of the system's.",
        examples=["ca.pem"],
    )
    cert: FilePath | None = Field(
        default=None, description="Certificate to log in with (PEM).", examples=["client-cert.pem"]
    )
    key: FilePath | None = Field(
        default=None,
        description="Private key of `cert` (PEM), unless in the same file.",
        examples=["client-key.pem"],
    )

    @model_validator(mode="after")
    def _require_files_that_are_used(self) -> Self:
        if self.key and not self.cert:
            raise ValueError("key is given without cert")
        if self.verify is TlsMode.OFF and (self.ca or self.cert):
            raise ValueError('certificates are given, but verify = "off" is plain text')
        if self.verify is TlsMode.REQUIRED and self.ca:
            raise ValueError('ca is given, but nothing would check it: say verify = "identity" or "ca"')
        return self


def _expand_tls(value: object) -> object:
    """``tls = false`` and ``tls = "identity"`` are short for the table with that ``verify``."""
    if value is True:
        raise ValueError('true does not say how much to check: write "required", "ca" or "identity"')
    if value is False:
        return TlsSection(verify=TlsMode.OFF)
    return {"verify": value} if isinstance(value, str) else value


def _parse_url(url: str) -> SplitResult:
    """The parts of a server's URL. No message repeats any of it: passwords end up in odd places.

    Raises:
        ValueError: it is not a URL that names a user and a database.
    """
    try:
        parts = urlsplit(url)
        port, password = parts.port, parts.password
    except ValueError:
        raise ValueError("is not a URL with a host and a port; percent-encode special characters") from None
    if password is not None:
        raise ValueError("holds a password; take it out and use password_env or password_file")
    if parts.scheme not in ("mysql", "mariadb"):
        raise ValueError("must begin with mysql:// or mariadb://")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("has options after the database; percent-encode ? and #, or use the section's keys")
    if not parts.username:
        raise ValueError("names no user")
    if port == 0:
        raise ValueError("has port 0")
    if not re.fullmatch(r"/[^/]+", parts.path):
        raise ValueError("must end in exactly one database name, as in mysql://user@host:3306/shop")
    return parts


class ServerSection(_Section):
    """One server and the database on it."""

    url: str = Field(
        description="`mysql://user@host:port/database` (or `mariadb://`, which means the same). The port is "
        "3306 unless given. Special characters are percent-encoded. A password in it is an error.",
        examples=["mysql://migrator@db-old:3306/shop"],
    )
    password_env: VariableName | None = Field(
        default=None,
        description="Environment variable that holds the password. Without this and `password_file` the "
        "password is empty.",
        examples=["SOURCE_PASSWORD"],
    )
    password_file: FilePath | None = Field(
        default=None,
        description="File that holds the password; line ends after it are ignored. Read again for every "
        "connection, so the secret can rotate during a run.",
        examples=["/run/secrets/source-password"],
    )
    tls: Annotated[TlsSection | None, BeforeValidator(_expand_tls)] = Field(
        default=None,
        description='A table, or one word for its `verify` (`tls = "identity"`); `false` is `"off"`. When '
        "absent: `off` to this machine (loopback address or `unix_socket`), else `required`. Never a silent "
        "fall-back to plain text.",
        examples=[{"verify": "identity", "ca": "ca.pem"}],
    )
    unix_socket: Text | None = Field(
        default=None,
        description="Connect through this socket file; the host in the URL may then be left out.",
        examples=["/run/mysqld/mysqld.sock"],
    )
    connect_timeout_seconds: float = Field(
        default=10.0, ge=1, le=300, description="How long opening one connection may take."
    )

    @field_validator("url")
    @classmethod
    def _require_readable_url(cls, url: str) -> str:
        _parse_url(url)
        return url

    @model_validator(mode="after")
    def _require_one_way_in(self) -> Self:
        if self.password_env is not None and self.password_file is not None:
            raise ValueError("password_env and password_file are both given; keep one")
        if not _parse_url(self.url).hostname and self.unix_socket is None:
            raise ValueError("url names no host, and there is no unix_socket")
        return self

    @property
    def host(self) -> str:
        """Host name or address; ``localhost`` where only a socket is given."""
        return _parse_url(self.url).hostname or "localhost"

    @property
    def port(self) -> int:
        """TCP port."""
        return _parse_url(self.url).port or DEFAULT_PORT

    @property
    def user(self) -> str:
        """Account name."""
        return unquote(_parse_url(self.url).username or "")

    @property
    def schema(self) -> str:  # type: ignore[override]  # pydantic's deprecated method; the term is the domain's
        """The database that moves."""
        return unquote(_parse_url(self.url).path.removeprefix("/"))

    @property
    def is_local(self) -> bool:
        """Whether the connection cannot leave this machine."""
        if self.unix_socket is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def tls_mode(self) -> TlsMode:
        """The mode in force, after the default for an absent ``tls``."""
        if self.tls is not None:
            return self.tls.verify
        return TlsMode.OFF if self.is_local else TlsMode.REQUIRED

    def read_password(self) -> str:
        """The password as it is now, kept out of logs from here on; empty where neither way is configured.

        Raises:
            ConfigurationError: the variable is not set or the file cannot be read.
        """
        password = self._find_password()
        register_secret(password)
        return password

    def _find_password(self) -> str:
        if self.password_env is not None:
            if (password := os.environ.get(self.password_env)) is not None:
                return password
            raise ConfigurationError(
                f"the environment variable {self.password_env} is not set",
                place="password_env",
                hint=f"export {self.password_env} before starting, or use password_file",
            )
        if self.password_file is None:
            return ""
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as fault:
            raise ConfigurationError(
                f"the password file {self.password_file} cannot be read",
                place="password_file",
                # A decoding error carries the file's bytes: name its kind only.
                cause=fault.strerror or "" if isinstance(fault, OSError) else "it is not UTF-8 text",
                hint="check the path and that this account may read it",
            ) from None


class TableOptions(_Section):
    """How one table is carried over, under the table's name on the source: `[tables.orders]`."""

    where: Text | None = Field(
        default=None,
        description="SQL condition over source columns; only rows that fulfil it are carried. Use columns "
        "that never change.",
        examples=["created_at >= '2020-01-01'"],
    )
    columns: Expressions = Field(
        default_factory=dict,
        description="Target column = SQL expression over the source's columns.",
        examples=[{"total_cents": "ROUND(total * 100)"}],
    )
    reverse_columns: Expressions = Field(
        default_factory=dict,
        description="The way back, used after the switch: source column = SQL expression over the target's "
        "columns.",
        examples=[{"total": "total_cents / 100"}],
    )
    rename: Text | None = Field(
        default=None, description="Name of the table on the target.", examples=["orders_v2"]
    )
    omit: Texts = Field(
        default=(), description="Source columns that are not carried.", examples=[["legacy_flags"]]
    )

    @model_validator(mode="after")
    def _require_columns_that_return(self) -> Self:
        if both := sorted(set(self.omit) & set(self.reverse_columns)):
            raise ValueError(f"omit and reverse_columns both name {', '.join(both)}")
        return self


class TablesSection(_Section):
    """Which tables move. Options of one table go into a table of their own: `[tables.orders]`."""

    include: Texts = Field(
        default=("*",),
        description="Patterns (`*`, `?`, `[ab]`) of the tables that move; case counts.",
        examples=[["*"]],
    )
    exclude: Texts = Field(
        default=(),
        description="Patterns of the tables that stay, even where included.",
        examples=[["tmp_*", "audit_log"]],
    )
    by_name: Mapping[Text, TableOptions] = Field(
        default_factory=dict,
        description="Long form of `[tables.NAME]`, needed only by tables called include, exclude or by_name: "
        "`[tables.by_name.include]`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _collect_tables(cls, given: Any) -> Any:
        # Only sub-tables are table names: `includ = [...]` stays behind and is reported as an unknown key.
        if not isinstance(given, dict):
            return given
        short = {k: v for k, v in given.items() if isinstance(v, dict) and k not in cls.model_fields}
        if not short:
            return given
        long = given.get("by_name", {})
        if not isinstance(long, dict):
            return given
        if twice := sorted(short.keys() & long.keys()):
            raise ValueError(f"[tables.X] and [tables.by_name.X] both describe {', '.join(twice)}")
        return {k: v for k, v in given.items() if k not in short} | {"by_name": {**short, **long}}

    def selects(self, name: str) -> bool:
        """Whether the source table ``name`` moves."""
        return any(fnmatchcase(name, p) for p in self.include) and not any(
            fnmatchcase(name, p) for p in self.exclude
        )

    def options_for(self, name: str) -> TableOptions:
        """The options of the source table ``name``; all defaults where none were written."""
        return self.by_name.get(name) or TableOptions()


class CopySection(_Section):
    """How rows are copied."""

    workers: int = Field(default=4, ge=1, le=64, description="Chunks copied at the same time.")
    target_chunk_seconds: float = Field(
        default=0.5, ge=0.05, le=30, description="Chunks grow and shrink until one takes about this long."
    )
    max_chunk_bytes: int = Field(
        default=4 * MIB,
        ge=64 * KIB,
        le=64 * MIB,
        description="Upper bound of one chunk; also bounded by `max_allowed_packet` of both servers.",
    )
    defer_secondary_indexes: bool = Field(
        default=True, description="Build secondary indexes after the rows are there, which is faster."
    )


_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A stretch of every day in UTC, in minutes after midnight; may run past midnight. The end is outside."""

    start_minute: int
    end_minute: int

    def __str__(self) -> str:
        minutes = (self.start_minute, self.end_minute)
        return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in minutes)

    @classmethod
    def parse(cls, text: str) -> TimeWindow:
        """From ``HH:MM-HH:MM``; ``24:00`` may end it.

        Raises:
            ValueError: it is not of that form, or begins where it ends.
        """
        found = _WINDOW.fullmatch(text)
        if not found:
            raise ValueError('is not a window such as "22:00-06:00"')
        start = int(found[1]) * 60 + int(found[2])
        end = _DAY_MINUTES if found[3] is None else int(found[3]) * 60 + int(found[4])
        if start == end:
            raise ValueError('begins where it ends; "00:00-24:00" is the whole day')
        return cls(start, end)

    def contains(self, at: datetime) -> bool:
        """Whether the aware time ``at`` lies inside."""
        utc = at.astimezone(UTC)
        minute = utc.hour * 60 + utc.minute
        if self.start_minute < self.end_minute:
            return self.start_minute <= minute < self.end_minute
        return minute >= self.start_minute or minute < self.end_minute


def _parse_window(value: object) -> object:
    return TimeWindow.parse(value) if isinstance(value, str) else value


Windows = Annotated[tuple[Annotated[TimeWindow, BeforeValidator(_parse_window)], ...], Field(strict=False)]


class ThrottleSection(_Section):
    """When and how hard the servers may be used. What cannot be measured pauses the work."""

    max_threads_running: int | None = Field(
        default=None,
        ge=1,
        description="Pause while `Threads_running` on either server is above this.",
        examples=[50],
    )
    max_replica_lag_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Pause while a replica of the target is further behind.",
        examples=[5.0],
    )
    windows: Windows = Field(
        default=(),
        description="Times of day in UTC, `HH:MM-HH:MM`, in which rows are copied; outside them only changes "
        "are followed. None means always.",
        examples=[["22:00-06:00"]],
    )
    max_rows_per_second: int | None = Field(
        default=None, ge=1, description="Upper bound of rows copied, over all workers.", examples=[20000]
    )

    def is_open(self, at: datetime) -> bool:
        """Whether rows may be copied at the aware time ``at``."""
        return not self.windows or any(window.contains(at) for window in self.windows)


class GatesSection(_Section):
    """The evidence that a phase is left on."""

    max_lag_seconds: float = Field(default=1.0, gt=0, description="The stream is at most this far behind.")
    max_backlog_keys: int = Field(default=10_000, ge=0, description="At most this many keys are pending.")
    max_verification_age_seconds: float = Field(
        default=3600.0, gt=0, description="The last clean verification is at most this old."
    )
    min_soak_seconds: float = Field(
        default=0.0, ge=0, description="The way back stays open at least this long after the switch."
    )


class CutoverSection(_Section):
    """How the switch is made."""

    approval: Annotated[Approval, Field(strict=False)] = Field(
        default=Approval.REQUIRED,
        description="`required` waits for `dbmigrate approve`; `auto` goes on as soon as the gates pass.",
    )
    fence: Annotated[FenceKind, Field(strict=False)] = Field(
        default=FenceKind.READ_ONLY,
        description="What holds writers back during the switch: the server's `read_only`, or `LOCK TABLES` on "
        "the tables that move. `app` and `hook` are not available in this version and are refused by `check`.",
    )
    max_write_pause_seconds: float = Field(
        default=1.0, gt=0, le=300, description="Writers wait at most this long; past it the switch is undone."
    )
    retry_seconds: float = Field(default=5.0, ge=0, description="Time between two attempts.")
    max_attempts: int = Field(default=10, ge=1, le=1000, description="Attempts before the run gives up.")


class VerifySection(_Section):
    """How both sides are compared. How old a result may be is `[gates] max_verification_age_seconds`."""

    chunk_rows: int = Field(default=10_000, ge=100, le=1_000_000, description="Rows in one compared chunk.")
    workers: int = Field(default=2, ge=1, le=64, description="Chunks compared at the same time.")


class AppSection(_Section):
    """The library inside the application."""

    enabled: bool = Field(
        default=False,
        description="Whether the application writes through `dbmigrate.app`. Not available in this version: "
        "`true` is refused by `check`.",
    )


class Config(_Section):
    """One whole ``dbmigrate.toml``."""

    migration: MigrationSection
    source: ServerSection
    target: ServerSection
    tables: TablesSection = TablesSection()
    copy_: CopySection = Field(default=CopySection(), alias="copy")
    throttle: ThrottleSection = ThrottleSection()
    gates: GatesSection = GatesSection()
    cutover: CutoverSection = CutoverSection()
    verify: VerifySection = VerifySection()
    app: AppSection = AppSection()

    @model_validator(mode="after")
    def _require_two_databases(self) -> Self:
        places = [(s.host, s.port, s.unix_socket, s.schema) for s in (self.source, self.target)]
        if places[0] == places[1]:
            raise ValueError("source and target are the same database")
        return self
