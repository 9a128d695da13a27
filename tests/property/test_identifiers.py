"""Whatever the text: it cannot leave its quotes."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from dbmigrate.mysql.identifiers import quote_identifier, quote_string

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT.filter(lambda name: name and "\0" not in name))
def test_a_quoted_name_reads_back_as_itself(name: str) -> None:
    quoted = quote_identifier(name)
    assert re.fullmatch(r"`(?:[^`]|``)+`", quoted, re.DOTALL)
    assert quoted[1:-1].replace("``", "`") == name


@given(TEXT)
def test_a_quoted_string_reads_back_as_itself(text: str) -> None:
    quoted = quote_string(text)
    plain = re.fullmatch(r"'([ -&(-\[\]-~]*)'", quoted)
    if plain:
        assert plain[1] == text
    else:
        hexadecimal = re.fullmatch(r"_utf8mb4 X'([0-9A-F]+)'", quoted)
        assert hexadecimal is not None
        assert bytes.fromhex(hexadecimal[1]).decode() == text
