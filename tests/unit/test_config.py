"""Reading ``dbmigrate.toml``: values, defaults, and errors that name every problem and no secret."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dbmigrate.config import (
    Approval,
    Config,
    FenceKind,
    ServerSection,
    TablesSection,
    TimeWindow,
    TlsMode,
    load_config,
)
from dbmigrate.domain.errors import ConfigurationError, ExitCode
from dbmigrate.telemetry import redact

SECRET = "tr0ub4dor-and-3"

SMALLEST = """\
[migration]
id = "shop-2026-11"
[source]
url = "mysql://migrator@db-old:3306/shop"
[target]
url = "mariadb://migrator@db-new/shop"
"""


def _load(directory: Path, text: str) -> Config:
    path = directory / "dbmigrate.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def _complaints(directory: Path, text: str) -> list[str]:
    """The problems that loading ``text`` reports, one a line."""
    with pytest.raises(ConfigurationError) as caught:
        _load(directory, text)
    assert caught.value.exit_code is ExitCode.CONFIGURATION
    assert str(directory / "dbmigrate.toml") in str(caught.value)
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines() if line.startswith("  - ")]


def _server(**keys: object) -> ServerSection:
    return ServerSection.model_validate({"url": "mysql://migrator@db-old/shop"} | keys)


def test_smallest_file_loads_with_safe_defaults(tmp_path: Path) -> None:
    """Three keys are enough, and what is not said is the careful choice."""
    config = _load(tmp_path, SMALLEST)
    assert (config.source.host, config.source.port) == ("db-old", 3306)
    assert (config.target.user, config.target.port, config.target.schema) == ("migrator", 3306, "shop")
    assert config.target.read_password() == ""
    assert config.source.tls_mode is TlsMode.REQUIRED
    assert config.copy_.workers == 4
    assert config.copy_.max_chunk_bytes == 16 * 1024 * 1024
    assert config.cutover.approval is Approval.REQUIRED
    assert config.cutover.fence is FenceKind.READ_ONLY
    assert config.app.enabled is False
    assert config.tables.selects("anything")


def test_example_of_the_design_loads(tmp_path: Path) -> None:
    """The file that DESIGN section 8 shows is accepted as it stands."""
    config = _load(
        tmp_path,
        """\
[migration]
id = "shop-2026-11"
[source]
url = "mysql://migrator@db-old:3306/shop"     # mysql:// and mariadb:// mean PyMySQL
password_env = "SOURCE_PASSWORD"
tls = { ca = "ca.pem", verify = "identity" }
[target]
url = "mysql://migrator@db-new:3306/shop"
[tables]
include = ["*"]
[tables.orders]
where = "created_at >= '2020-01-01'"
columns = { total_cents = "ROUND(total * 100)" }
[copy]
workers = 4
[throttle]
max_threads_running = 50
windows = ["22:00-06:00"]
[gates]
max_lag_seconds = 1.0
[cutover]
approval = "required"
fence = "app"
max_write_pause_seconds = 1.0
[app]
enabled = true
""",
    )
    assert config.source.tls is not None
    assert config.source.tls.ca == tmp_path / "ca.pem"
    assert config.tables.options_for("orders").columns == {"total_cents": "ROUND(total * 100)"}
    assert config.cutover.fence is FenceKind.APP
    assert config.app.enabled


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    """Each with its place, its line, what was found and what is accepted, in the order of the file."""
    text = SMALLEST + '[copy]\nworkers = "many"\nmax_chunk_bytes = 1\n[cutover]\nfence = "none"\n'
    assert _complaints(tmp_path, text) == [
        '[copy] workers (line 8): found "many", expected a whole number from 1 to 1024',
        "[copy] max_chunk_bytes (line 9): found 1, expected a whole number from 65536 to 67108864",
        '[cutover] fence (line 11): found "none", expected "app", "read_only", "lock_tables" or "hook"',
    ]


@pytest.mark.parametrize(
    ("addition", "complaint"),
    [
        ("[copy]\nworker = 4\n", "[copy] worker (line 8): unknown key; did you mean workers?"),
        ("[coppy]\nworkers = 4\n", "[coppy] (line 7): unknown table; did you mean copy?"),
        ("[copy_]\nworkers = 4\n", "[copy_] (line 7): unknown table; did you mean copy?"),
        ('[tables]\nincludes = ["a"]\n', "[tables] includes (line 8): unknown key; did you mean include?"),
        ("[tables.t]\nwher = 'a'\n", "[tables.t] wher (line 8): unknown key; did you mean where?"),
        ("[tables.t]\ncolumns = { a = 1 }\n", "[tables.t.columns] a (line 8): found 1, expected text"),
        ("[tables.t]\nomit = ['']\n", '[tables.t] omit[0] (line 8): found "", expected text'),
        (
            "[copy]\nmax_lag_seconds = 4\n",
            "[copy] max_lag_seconds (line 8): unknown key here; it belongs to [gates]",
        ),
        ("[app]\nbogus = 4\n", "[app] bogus (line 8): unknown key; known are enabled"),
        ("[copy]\nworkers = 0\n", "[copy] workers (line 8): found 0, expected a whole number from 1 to 1024"),
        (
            "[copy]\nworkers = 4.0\n",
            "[copy] workers (line 8): found 4.0, expected a whole number from 1 to 1024",
        ),
        (
            "[copy]\nworkers = true\n",
            "[copy] workers (line 8): found true, expected a whole number from 1 to 1024",
        ),
        ("[app]\nenabled = 1\n", "[app] enabled (line 8): found 1, expected true or false"),
        (
            "[gates]\nmax_lag_seconds = inf\n",
            "[gates] max_lag_seconds (line 8): found inf, expected a number above 0",
        ),
        ("copy = 1\n", "[target] copy"),
        ("[tables]\nt = { where = 1 }\n", "[tables.t] where (line 8): found 1, expected text"),
        (
            "[tables.include]\nwhere = 'a'\n",
            "[tables] include (line 7): found a table, expected a list of texts",
        ),
        (
            "[throttle]\nwindows = '22:00-06:00'\n",
            '[throttle] windows (line 8): found "22:00-06:00", expected a list',
        ),
        (
            "[throttle]\nwindows = ['22-6']\n",
            '[throttle] windows[0] (line 8): "22-6" is not a window such as',
        ),
        ("[throttle]\nwindows = ['24:00-06:00']\n", "is not a window such as"),
        ("[throttle]\nmax_source_write_factor = 0.5\n", "below 1 asks for faster writes than without a copy"),
        ("[throttle]\nmax_source_write_factor = -1\n", "[throttle] max_source_write_factor (line 8): found -1"),
        ("[throttle]\nwindows = ['22:00-22:00']\n", "begins where it ends"),
        (
            "[throttle]\nwindows = [22:00:00]\n",
            "[throttle] windows[0] (line 8): found a date or time, expected a window",
        ),
        ("[tables.t]\ncolumns = { '' = 'a' }\n", '[tables.t.columns] "" (line 8): the name is empty'),
        ("[tables.'']\nwhere = 'a'\n", '[tables] "" (line 7): the name is empty'),
        ("[tables.by_name]\nt = 'a'\n", "[tables.by_name] t (line 8): found a text, expected a table"),
        ("[tables.'my t']\nwher = 'a'\n", '[tables."my t"] wher (line 8): unknown key; did you mean where?'),
        ("[migration.x]\n", "[migration] x (line 7): unknown key; known are id"),
    ],
)
def test_one_problem_is_told_with_place_line_and_choices(
    tmp_path: Path, addition: str, complaint: str
) -> None:
    """Whatever is wrong, the operator is led to it."""
    complaints = _complaints(tmp_path, SMALLEST + addition)
    assert len(complaints) == 1
    assert complaint in complaints[0]


def test_missing_sections_and_keys_are_named(tmp_path: Path) -> None:
    """An empty file says what the smallest one needs."""
    assert _complaints(tmp_path, "[migration]\n") == [
        "[source]: is missing; expected a table",
        "[target]: is missing; expected a table",
        "[migration] id (line 1): is missing; expected 1 to 64 of a-z, 0-9, - and _",
    ]


def test_moving_a_database_onto_itself_is_refused(tmp_path: Path) -> None:
    """Source and target must differ in host, port or database."""
    text = SMALLEST.replace("mariadb://migrator@db-new/shop", "mysql://other@DB-OLD/shop")
    assert _complaints(tmp_path, text) == ["the file: source and target are the same database"]


def test_broken_toml_is_told_with_its_line(tmp_path: Path) -> None:
    """The parser's own place is passed on."""
    with pytest.raises(ConfigurationError, match=r"not valid TOML\ncause: .*line 2"):
        _load(tmp_path, "[migration]\nid = shop\n")


def test_missing_file_leads_to_init(tmp_path: Path) -> None:
    """The first thing a new user meets says what to do."""
    with pytest.raises(ConfigurationError, match="dbmigrate init"):
        load_config(tmp_path / "dbmigrate.toml")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """A file in another encoding is an error of configuration, not a traceback."""
    path = tmp_path / "dbmigrate.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load_config(path)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (f"mysql://u:{SECRET}@db/shop", "holds a password"),
        (f"mysql://u:@db/shop?p={SECRET}", "holds a password"),
        (f"mysql://u:{SECRET}#x@db/shop", "not a URL with a host and a port"),
        (f"mysql://u:{SECRET}/x@db/shop", "not a URL with a host and a port"),
        (f"mysql://u@db/shop?password={SECRET}", "options after the database"),
        (f"postgresql://u@{SECRET}/shop", "must begin with mysql:// or mariadb://"),
        (f"mysql+pymysql://u@{SECRET}/shop", "must begin with mysql:// or mariadb://"),
        (f"mysql://{SECRET}/shop", "names no user"),
        (f"mysql://{SECRET}@db", "exactly one database"),
        (f"mysql://{SECRET}@db/", "exactly one database"),
        (f"mysql://{SECRET}@db/a/b", "exactly one database"),
        (f"mysql://{SECRET}@/shop", "names no host"),
        (f"mysql://{SECRET}@db:99999/shop", "not a URL with a host and a port"),
        (SECRET, "must begin with"),
    ],
)
def test_bad_url_is_told_without_repeating_it(tmp_path: Path, url: str, complaint: str) -> None:
    """Passwords end up in odd places of a URL, so no part of it is shown."""
    text = SMALLEST.replace("mysql://migrator@db-old:3306/shop", url)
    (told,) = _complaints(tmp_path, text)
    assert complaint in told
    assert SECRET not in told


@pytest.mark.parametrize(
    "line",
    [
        f'password = "{SECRET}"',
        f'passwd = "{SECRET}"',
        f'password_env = "{SECRET}"',
        f'password_env = ["{SECRET}"]',
        f'password_file = {{ a = "{SECRET}" }}',
        f'password_env = "A"\npassword_file = "{SECRET}"',
        "password_env = 31415926",
    ],
)
def test_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path, line: str) -> None:
    """A password written where its source belongs is an error that does not spread it."""
    told = "\n".join(_complaints(tmp_path, SMALLEST.replace("[target]", f"{line}\n[target]")))
    assert told
    assert SECRET not in told
    assert "31415926" not in told


def test_whole_section_given_as_a_url_is_not_repeated(tmp_path: Path) -> None:
    """``source = "mysql://..."`` is a mistake of shape; its text stays out of the message."""
    text = (
        f'source = "mysql://u:{SECRET}@db/shop"\n[migration]\nid = "a"\n[target]\nurl = "mysql://u@db/shop"\n'
    )
    assert _complaints(tmp_path, text) == ["[source] (line 1): found a text, expected a table"]


def test_url_parts_are_decoded() -> None:
    """Percent-encoded users and databases, and IPv6 hosts, come out as the server spells them."""
    section = _server(url="mariadb://app%40shop@[::1]:3307/my%2Fshop")
    assert (section.user, section.host, section.port, section.schema) == ("app@shop", "::1", 3307, "my/shop")


@pytest.mark.parametrize(
    ("keys", "mode"),
    [
        ({}, TlsMode.REQUIRED),
        ({"url": "mysql://u@localhost/shop"}, TlsMode.OFF),
        ({"url": "mysql://u@127.0.0.9/shop"}, TlsMode.OFF),
        ({"url": "mysql://u@[::1]/shop"}, TlsMode.OFF),
        ({"url": "mysql://u@10.0.0.1/shop"}, TlsMode.REQUIRED),
        ({"url": "mysql://u@/shop", "unix_socket": "/run/mysqld.sock"}, TlsMode.OFF),
        ({"url": "mysql://u@localhost/shop", "tls": "required"}, TlsMode.REQUIRED),
        ({"tls": False}, TlsMode.OFF),
        ({"tls": "off"}, TlsMode.OFF),
        ({"tls": "ca"}, TlsMode.VERIFY_CA),
        ({"tls": {}}, TlsMode.VERIFY_IDENTITY),
        ({"tls": {"verify": "none"}}, TlsMode.REQUIRED),
        ({"tls": {"verify": "identity", "ca": "ca.pem"}}, TlsMode.VERIFY_IDENTITY),
    ],
)
def test_tls_mode_in_force(keys: dict[str, object], mode: TlsMode) -> None:
    """Absent TLS is required unless the connection cannot leave the machine; a table verifies unless told."""
    assert _server(**keys).tls_mode is mode


@pytest.mark.parametrize(
    ("tls", "complaint"),
    [
        ("true", "true does not say how much to check"),
        ('"maybe"', 'found "maybe", expected "off", "required", "ca" or "identity"'),
        ("5", 'found a number, expected false, "off", "required", "ca", "identity" or a table'),
        ('{ key = "k.pem" }', "key is given without cert"),
        ('{ ca = "c.pem", verify = "none" }', "nothing would check it"),
        ('{ ca = "c.pem", verify = "off" }', "plain text"),
        ('{ certs = "c.pem" }', "[source.tls] certs (line 5): unknown key; did you mean cert?"),
    ],
)
def test_tls_that_would_not_do_what_it_says_is_refused(tmp_path: Path, tls: str, complaint: str) -> None:
    """Half a TLS configuration is worse than none."""
    (told,) = _complaints(tmp_path, SMALLEST.replace("[target]", f"tls = {tls}\n[target]"))
    assert told.startswith("[source")
    assert complaint in told


def test_password_comes_from_the_environment_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotated secret is used by the next connection, and every one read is redacted."""
    section = _server(password_env="SOURCE_PASSWORD")
    for password in (SECRET, "second-one"):
        monkeypatch.setenv("SOURCE_PASSWORD", password)
        assert section.read_password() == password
        assert password not in redact(f"login with {password}")


def test_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which variable to export."""
    monkeypatch.delenv("SOURCE_PASSWORD", raising=False)
    with pytest.raises(ConfigurationError, match="SOURCE_PASSWORD is not set"):
        _server(password_env="SOURCE_PASSWORD").read_password()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_line_end_of_a_password_file_is_not_part_of_it(tmp_path: Path, ending: str) -> None:
    """Editors add it; spaces belong to the password."""
    (tmp_path / "password").write_bytes(f" {SECRET} {ending}".encode())
    text = SMALLEST.replace("[target]", 'password_file = "password"\n[target]')
    assert _load(tmp_path, text).source.read_password() == f" {SECRET} "


def test_unreadable_password_file_is_named_but_not_shown(tmp_path: Path) -> None:
    """Neither a missing file nor one in another encoding leaks or ends in a traceback."""
    path = tmp_path / "password"
    section = _server(password_file=str(path))
    with pytest.raises(ConfigurationError, match="No such file"):
        section.read_password()
    path.write_bytes(SECRET.encode() + b"\xff")
    with pytest.raises(ConfigurationError) as caught:
        section.read_password()
    assert "not UTF-8" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_secret_never_in_repr_or_str(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration holds where the secret is, not the secret, also after reading it."""
    monkeypatch.setenv("SOURCE_PASSWORD", SECRET)
    config = _load(tmp_path, SMALLEST.replace("[target]", 'password_env = "SOURCE_PASSWORD"\n[target]'))
    config.source.read_password()
    for shown in (repr(config), str(config), str(config.model_dump()), config.model_dump_json()):
        assert SECRET not in shown


def test_configuration_cannot_be_changed(tmp_path: Path) -> None:
    """What preflight has checked is what runs."""
    config = _load(tmp_path, SMALLEST)
    with pytest.raises(ValueError, match="frozen"):
        config.copy_.workers = 5


def test_tables_are_selected_by_patterns() -> None:
    """Excluded wins over included; case counts."""
    tables = TablesSection.model_validate({"include": ["shop_*", "orders"], "exclude": ["*_tmp"]})
    selected = [t for t in ("orders", "Orders", "shop_a", "shop_tmp", "other") if tables.selects(t)]
    assert selected == ["orders", "shop_a"]


def test_tables_with_awkward_names_have_a_long_form(tmp_path: Path) -> None:
    """A table called like a key is addressed by name; describing one twice is an error."""
    config = _load(
        tmp_path, SMALLEST + "[tables.orders]\nrename = 'o'\n[tables.by_name.include]\nwhere = 'a'\n"
    )
    assert config.tables.options_for("include").where == "a"
    assert config.tables.options_for("orders").rename == "o"
    assert config.tables.options_for("other").where is None
    told = _complaints(tmp_path, SMALLEST + "[tables.t]\nwhere = 'a'\n[tables.by_name.t]\nwhere = 'b'\n")
    assert told == ["[tables] (line 7): [tables.X] and [tables.by_name.X] both describe t"]


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("09:00-17:30", ["09:00", "17:29"], ["08:59", "17:30"]),
        ("22:00-06:00", ["22:00", "23:59", "00:00", "05:59"], ["21:59", "06:00"]),
        ("22:00-24:00", ["23:59"], ["00:00"]),
        ("00:00-24:00", ["00:00", "23:59"], []),
    ],
)
def test_windows_may_run_past_midnight(window: str, inside: list[str], outside: list[str]) -> None:
    """The beginning is inside, the end is not."""
    parsed = TimeWindow.parse(window)
    assert str(parsed) == window
    for times, expected in ((inside, True), (outside, False)):
        for text in times:
            at = datetime.fromisoformat(f"2026-02-03T{text}:30").replace(tzinfo=UTC)
            assert parsed.contains(at) is expected, text


def test_throttle_without_windows_is_always_open(tmp_path: Path) -> None:
    """No window written means no window kept."""
    noon = datetime(2026, 2, 3, 12, tzinfo=UTC)
    assert _load(tmp_path, SMALLEST).throttle.is_open(noon)
    closed = _load(tmp_path, SMALLEST + '[throttle]\nwindows = ["22:00-06:00", "01:00-02:00"]\n')
    assert not closed.throttle.is_open(noon)


@pytest.mark.parametrize(
    ("addition", "complaint"),
    [
        ('[cutover]\nfence = "app"\n', '[cutover] fence = "app" needs [app] enabled = true'),
        ("[app]\nenabled = true\nmirror = false\n", "set [gates] min_mirrored_writes = 0 as well"),
        ("[app]\nenabled = true\nshadow_share = 0\n", "set [gates] min_shadow_samples = 0 as well"),
        (
            "[app]\nenabled = true\nmirror_in_soak = true\n",
            'a source that [cutover] fence = "read_only" keeps closed: use fence = "app"',
        ),
        (
            "[app]\nenabled = true\nmirror = false\nmirror_in_soak = true\n[gates]\nmin_mirrored_writes = 0\n",
            "mirror_in_soak needs [app] mirror = true",
        ),
        ("[app]\nenabled = true\nramp_step_seconds = 900\n", "lower [app] ramp_step_seconds or raise [gates]"),
        ("[app]\nread_ramp = []\n", "read_ramp must name at least one percentage"),
        ("[app]\nread_ramp = [5, 1]\n", "each larger than the one before"),
        ("[app]\nread_ramp = [5, 5]\n", "each larger than the one before"),
        ("[app]\nread_ramp = [0, 5]\n", "read_ramp[0]"),
        ("[app]\nread_ramp = [1, 101]\n", "read_ramp[1]"),
        ("[app]\ninstance_expiry_seconds = 3\n", "from 5 to 3600"),
        ("[app]\nmin_instances = 0\n", "from 1 to"),
        ("[app]\nshadow_share = 101\n", "from 0 to 100"),
        ("[gates]\nmax_mirror_failure_ratio = 1.1\n", "from 0 to 1"),
    ],
)
def test_application_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, addition: str, complaint: str
) -> None:
    """With what to change."""
    told = "\n".join(_complaints(tmp_path, SMALLEST + addition))
    assert complaint in told


def test_contradictions_between_sections_are_told_at_once(tmp_path: Path) -> None:
    """Not one after the other."""
    text = "[app]\nenabled = true\nmirror = false\nshadow_share = 0\n"
    told = "\n".join(_complaints(tmp_path, SMALLEST + text))
    assert "min_mirrored_writes = 0" in told
    assert "min_shadow_samples = 0" in told


def test_an_application_needs_no_more_than_to_be_enabled(tmp_path: Path) -> None:
    """Its defaults fit together, and fit every fence."""
    for fence in ("read_only", "lock_tables", "app"):
        config = _load(tmp_path, SMALLEST + f'[app]\nenabled = true\n[cutover]\nfence = "{fence}"\n')
        assert config.app.read_ramp == (1, 5, 25, 100)


def test_with_lanes_alembics_table_stays_where_it_is(tmp_path: Path) -> None:
    """Each side has revisions of its own; what else is left out stays left out."""
    assert _load(tmp_path, SMALLEST).tables.selects("alembic_version")
    lanes = '[tables]\nexclude = ["tmp_*"]\n[lanes]\ndirectory = "migrations"\n'
    config = _load(tmp_path, SMALLEST + lanes)
    assert config.lanes.directory == tmp_path / "migrations"
    assert not config.tables.selects("alembic_version")
    assert not config.tables.selects("tmp_1")
    assert config.tables.selects("orders")
    assert not _load(tmp_path, SMALLEST + '[lanes]\ndirectory = "migrations"\n').tables.selects("alembic_version")
    wrong = SMALLEST + '[tables]\nexclude = "tmp_*"\n[lanes]\ndirectory = "migrations"\nlock_wait_seconds = 0\n'
    complaints = _complaints(tmp_path, wrong)
    assert any("[tables] exclude" in line for line in complaints)
    assert any("[lanes] lock_wait_seconds" in line for line in complaints)
