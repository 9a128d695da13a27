"""Finding the line of a key in a TOML text."""

from __future__ import annotations

import pytest

from dbmigrate.config.lines import find_lines


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("[copy]\n\nworkers = 4", ("copy", "workers"), 3),
        ("[copy]  # how\nworkers=4", ("copy",), 1),
        ("copy.workers = 4", ("copy", "workers"), 1),
        ('[tables."my.orders"]\nwhere = "a"', ("tables", "my.orders", "where"), 2),
        ("[tables.'x']\n'where' = 'a'", ("tables", "x", "where"), 2),
        ('[source]\ntls = { ca = "x = 1", verify = "ca" }', ("source", "tls", "verify"), 2),
        ('[tables.t]\nwhere = """\nid = 1\n"""\nrename = "u"', ("tables", "t", "rename"), 5),
        ("[tables.t]\nwhere = '''a = \"\"\" '''\nrename = 'u'", ("tables", "t", "rename"), 3),
        (
            '[throttle]\nwindows = [\n  "22:00-06:00",\n]\nmax_threads_running = 1',
            ("throttle", "max_threads_running"),
            5,
        ),
    ],
)
def test_key_is_found(text: str, path: tuple[str, ...], line: int) -> None:
    """Headers, dotted and quoted keys, inline tables, and what follows long strings and arrays."""
    assert find_lines(text)[path] == line


def test_text_inside_long_strings_is_not_taken_for_keys() -> None:
    """SQL over several lines holds no keys."""
    assert ("tables", "t", "id") not in find_lines('[tables.t]\nwhere = """\nid = 1\n[copy]\n"""\n')
