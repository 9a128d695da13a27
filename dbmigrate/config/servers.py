"""How a server is reached: its address, its account, where its password is and how far TLS is trusted.

Apart from the other sections because this is the one place where secrets come near: nothing here repeats what
it was given.
"""

from __future__ import annotations

import ipaddress
import os
import re
from enum import Enum
from typing import Annotated, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from dbmigrate.config.fields import Accepts, FilePath, Section, Text
from dbmigrate.domain.errors import ConfigurationError
from dbmigrate.telemetry import register_secret

DEFAULT_PORT = 3306

VariableName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
    Accepts("the name of an environment variable", is_private=True),
]
PasswordPath = Annotated[FilePath, Accepts("a path", is_private=True)]


class TlsMode(Enum):
    """How much of a server's identity is proved. There is no "use TLS if offered": it protects nothing."""

    OFF = "off"
    REQUIRED = "required"
    VERIFY_CA = "ca"
    VERIFY_IDENTITY = "identity"


def _read_tls_words(value: object) -> object:
    # "none" is what other tools call encryption without verification.
    return TlsMode.REQUIRED if value == "none" else value


class TlsSection(Section):
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


class ServerSection(Section):
    """One server and the database on it."""

    url: Annotated[str, Accepts("mysql://user@host:port/database, without a password", is_private=True)] = (
        Field(
            description="`mysql://user@host:port/database` (or `mariadb://`, which means the same). The port "
            "is 3306 unless given. Special characters are percent-encoded. A password in it is an error.",
            examples=["mysql://migrator@db-old:3306/shop"],
        )
    )
    password_env: VariableName | None = Field(
        default=None,
        description="Environment variable that holds the password. Without this and `password_file` the "
        "password is empty.",
        examples=["SOURCE_PASSWORD"],
    )
    password_file: PasswordPath | None = Field(
        default=None,
        description="File that holds the password; line ends after it are ignored. Read again for every "
        "connection, so the secret can rotate during a run.",
        examples=["/run/secrets/db-password"],
    )
    tls: Annotated[
        TlsSection | None,
        BeforeValidator(_expand_tls),
        Accepts('false, "off", "required", "ca", "identity" or a table'),
    ] = Field(
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
