"""Digests differ where rows do: no text that is hashed stands for two rows, and no two changes cancel each other."""

from __future__ import annotations

import itertools
import math
import random

from databases import Pair
from exact_sessions import fetch, open_session

from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.digests import SPREAD, digest_expression, range_digest_expression
from dbmigrate.mysql.introspection import read_server_version, read_table

AWKWARD = (None, "", ",", "0", "1", "0,", ",0", "1,", ",1", "NULL", "'", "1,1", "0,,", "2,ab", "√,")


def test_no_two_neighbouring_doubles_share_a_digest(flavour_pair: Pair) -> None:
    """A double is digested by all its bits, whatever its size and sign."""
    limits = (0.0, 1e-20, 2.0**-10, 1e-3, 0.1, 0.25, 0.3, 0.5, 1.0, 1.5, 2.5, 3.5, 12.375, 1025.0, 2.0**52, 2.0**53, 1e12, 9e18, 2.0**63, 1e99)
    around = {near for n in limits for near in (n, math.nextafter(n, -math.inf), math.nextafter(n, math.inf))}
    numbers = {sign * n for n in around for sign in (1, -1)}
    source, target = open_session(flavour_pair.source), open_session(flavour_pair.target)
    with source, target:
        rows = ",".join(f"('{n!r}')" for n in sorted(numbers))
        found = []
        for connection, schema in ((source, flavour_pair.source.schema), (target, flavour_pair.target.schema)):
            fetch(connection, "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v DOUBLE)")
            fetch(connection, f"INSERT INTO t (v) VALUES (NULL), {rows}")
            column = read_table(connection, read_server_version(connection), TableName(schema, "t")).column("v")
            of_row, in_range = digest_expression([column]), range_digest_expression([column])
            found.append(fetch(connection, f"SELECT {of_row}, {in_range} FROM t ORDER BY id"))
        assert found[0] == found[1]
        for digests in zip(*found[0], strict=True):
            assert len(set(digests)) == len(numbers) + 1


def test_no_two_different_rows_share_a_digest(flavour_pair: Pair) -> None:
    """The text that is hashed says where a value ends, and which are NULL."""
    source = open_session(flavour_pair.source)
    with source, source.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(9), n INT, b VARCHAR(9), d DECIMAL(4,1), c TEXT) "
            "DEFAULT CHARACTER SET utf8mb4"
        )
        rows = [
            (a, n, b, d, c) for a, b, c in itertools.product(AWKWARD, repeat=3) for n, d in ((None, 1), (1, None), (11, 1))
        ]
        cursor.executemany("INSERT INTO t (a, n, b, d, c) VALUES (%s, %s, %s, %s, %s)", rows)
        table = read_table(source, read_server_version(source), TableName(flavour_pair.source.schema, "t"))
        columns = [column for column in table.columns if column.name != "id"]
        for expression in (digest_expression(columns), range_digest_expression(columns)):
            ((count, distinct),) = fetch(source, f"SELECT COUNT(*), COUNT(DISTINCT {expression}) FROM t")
            assert count - distinct <= (0 if "CONV" in expression else 1)  # 32 bits may meet once among 10,000 rows


def test_the_digest_of_a_range_sees_two_rows_that_swapped_a_value(flavour_pair: Pair) -> None:
    """The XOR of plain checksums does not."""
    source = open_session(flavour_pair.source)
    with source, source.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, a CHAR(4), b CHAR(4))")
        cursor.execute("INSERT INTO t VALUES (1, 'aaaa', 'cccc'), (2, 'bbbb', 'dddd')")
        table = read_table(source, read_server_version(source), TableName(flavour_pair.source.schema, "t"))
        plain = "SELECT BIT_XOR(CRC32(CONCAT_WS(',', id, a, b))) FROM t"
        ours = f"SELECT BIT_XOR({range_digest_expression(table.columns)}) FROM t"
        before = fetch(source, plain), fetch(source, ours)
        cursor.execute("UPDATE t SET b = IF(id = 1, 'dddd', 'cccc')")
        assert fetch(source, plain) == before[0]
        assert fetch(source, ours) != before[1]


def test_one_in_a_billion_swaps_goes_unnoticed_at_most() -> None:
    """The same construction with 16 bits instead of 32, where it can be counted: of rows a and b, and the rows that they
    become by swapping a value whose checksums differ by d. As good as random would be one in 2^16."""
    draw, unnoticed, tries = random.Random(5), 0, 400_000
    for _ in range(tries):
        a, b, d = draw.getrandbits(16), draw.getrandbits(16), draw.randrange(1, 1 << 16)
        unnoticed += not (a * 40503) ^ (b * 40503) ^ ((a ^ d) * 40503) ^ ((b ^ d) * 40503)
    assert SPREAD >> 16 == 40503
    assert unnoticed / tries < 6 / (1 << 16)


def test_a_text_beyond_the_packet_does_not_make_a_range_without_a_digest(mariadb_pair: Pair) -> None:
    """CONCAT_WS of it would be NULL, and XOR passes over NULL."""
    source = open_session(mariadb_pair.source)
    with source, source.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, a LONGTEXT, b LONGBLOB, c JSON) DEFAULT CHARACTER SET utf8mb4")
        cursor.execute("SELECT @@max_allowed_packet")
        ((most,),) = cursor.fetchall()
        cursor.execute("INSERT INTO t VALUES (1, REPEAT('a', %s), 'b', '{}')", (most * 3 // 4,))
        cursor.execute("UPDATE t SET b = a")
        table = read_table(source, read_server_version(source), TableName(mariadb_pair.source.schema, "t"))
        assert fetch(source, f"SELECT {range_digest_expression(table.columns)} FROM t")[0][0]
