"""Every type with its extremes, as SQL: what the tests of literals, of keys and of whole moves all carry.

Values were tried on both flavours; what only one of them knows stands apart.
"""

from __future__ import annotations

LONG = "'" + "9" * 65 + "'"
POINT = "X'E61000000101000000000000000000F03F0000000000000040'"
ALL_BYTES = "X'" + bytes(range(256)).hex() + "'"
NASTY = "_utf8mb4 X'" + "a'b\\\"\0\x1a\n%_ü€😀`?".encode().hex() + "'"

# declaration, values as SQL; NULL is added to each
TYPES: dict[str, tuple[str, list[str]]] = {
    "tinyint": ("TINYINT", ["-128", "0", "127"]),
    "tinyint_unsigned": ("TINYINT UNSIGNED", ["0", "255"]),
    "mediumint": ("MEDIUMINT", ["-8388608", "8388607"]),
    "int_zerofill": ("INT(8) UNSIGNED ZEROFILL", ["5", "4294967295"]),
    "bigint": ("BIGINT", ["-9223372036854775808", "9223372036854775807"]),
    "bigint_unsigned": ("BIGINT UNSIGNED", ["0", "18446744073709551615"]),
    "decimal": ("DECIMAL(65,0)", [LONG, "-" + LONG.strip("'"), "0"]),
    "decimal_fraction": ("DECIMAL(65,30)", ["-0.000000000000000000000000000001", "1.5", "0"]),
    "float": ("FLOAT", ["'-0'", "0.1", "'3.4028234663852886e38'", "'1e-45'", "16777217", "'1e15'"]),
    "float_digits": ("FLOAT(7,3)", ["1.001", "-9999.999"]),
    "double": ("DOUBLE", ["'-0'", "0.1e0", "'1.7976931348623157e308'", "'5e-324'", "'-2.2250738585072014e-308'"]),
    "bit_1": ("BIT(1)", ["0", "1"]),
    "bit_64": ("BIT(64)", ["0", "18446744073709551615", "9223372036854775808"]),
    "year": ("YEAR", ["0", "1901", "2155"]),
    "date": ("DATE", ["'0000-00-00'", "'2024-02-31'", "'2024-00-00'", "'9999-12-31'"]),
    "time": ("TIME", ["'-838:59:59'", "'838:59:59'", "'-00:00:01'"]),
    "time_6": ("TIME(6)", ["'-00:00:00.000001'", "'-838:59:58.999999'", "'00:00:00'"]),
    "datetime": ("DATETIME", ["'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'"]),
    "datetime_6": ("DATETIME(6)", ["'2024-02-29 23:59:59.999999'", "'0000-00-00'"]),
    "timestamp_6": ("TIMESTAMP(6) NULL", ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999999'", "'0000-00-00'"]),
    "char": ("CHAR(20)", ["''", "'  a '", "'NULL'", NASTY]),
    "varchar": ("VARCHAR(60)", ["''", "' '", "'a  '", NASTY]),
    "text": ("LONGTEXT", ["''", NASTY, "REPEAT('ü', 70000)"]),
    "utf8mb3": ("VARCHAR(20) CHARACTER SET utf8mb3", ["'ü€'", "''"]),
    "latin1": ("VARCHAR(256) CHARACTER SET latin1", ["_latin1 " + ALL_BYTES, "''"]),
    "latin1_bin": ("VARCHAR(256) CHARACTER SET latin1 COLLATE latin1_bin", ["_latin1 " + ALL_BYTES]),
    "ascii": ("VARCHAR(128) CHARACTER SET ascii", ["_ascii X'" + bytes(range(128)).hex() + "'", "''"]),
    "gbk": ("VARCHAR(10) CHARACTER SET gbk", ["_gbk X'D6D0955C27'", "_gbk X'815C5C'", "''"]),
    "sjis": ("VARCHAR(10) CHARACTER SET sjis", ["_sjis X'835C5C27'", "''"]),
    "big5": ("VARCHAR(10) CHARACTER SET big5", ["_big5 X'A45C27'", "''"]),
    "utf16": ("VARCHAR(10) CHARACTER SET utf16", ["'ü😀'", "''"]),
    "ucs2": ("CHAR(10) CHARACTER SET ucs2", ["'ü'", "''"]),
    "utf32": ("VARCHAR(10) CHARACTER SET utf32", ["'ü😀'", "''"]),
    "cp1251": ("TEXT CHARACTER SET cp1251", ["'жук'", "''"]),
    "binary": ("BINARY(5)", ["X'00'", "X'4100420000'", "X'FFFFFFFFFF'"]),
    "varbinary": ("VARBINARY(300)", ["X''", "X'00'", ALL_BYTES]),
    "blob": ("LONGBLOB", ["X''", ALL_BYTES, "REPEAT(X'00', 100000)"]),
    "enum": ("ENUM('b','a','it''s','ü','back\\\\slash','7')", ["'a'", "'it''s'", "'7'", "1", "'ü'", "5"]),
    "enum_empty": ("ENUM('','x')", ["''", "'x'"]),
    "set": ("SET('x','it''s','ü')", ["''", "'x,ü'", "7"]),
    "set_empty": ("SET('','a')", ["0", "1", "2", "3"]),
    "set_64": ("SET(" + ",".join(f"'m{n}'" for n in range(64)) + ")", ["18446744073709551615", "9007199254740993"]),
    "json": ("JSON", ["'[]'", "'null'", "'{\"a\": [18446744073709551615, -0.5, 1e300, \"\\\\u0000\\'\\\\\\\\ü😀\"]}'"]),
    "geometry": ("GEOMETRY", [POINT, "ST_GeomFromText('POLYGON((0 0,0 1,1 1,0 0))')",
                              "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(-1 1e300),LINESTRING(0 0,1 1))')"]),
    "point": ("POINT", [POINT]),
}  # fmt: skip
# What MySQL alone knows.
MYSQL_TYPES: dict[str, tuple[str, list[str]]] = {
    "vector": ("VECTOR(3)", ["STRING_TO_VECTOR('[1,-0.5,3e38]')", "STRING_TO_VECTOR('[0,0,0]')"]),
}
MARIADB_TYPES: dict[str, tuple[str, list[str]]] = {
    "uuid": ("UUID", ["'00000000-0000-0000-0000-000000000000'", "'123e4567-e89b-12d3-a456-426655440000'"]),
    "inet4": ("INET4", ["'0.0.0.0'", "'255.255.255.255'"]),
    "inet6": ("INET6", ["'::'", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.128'"]),
    "compressed": ("VARCHAR(1000) COMPRESSED", ["REPEAT('a', 900)", "''"]),
}
KEYS: dict[str, tuple[str, list[str]]] = {
    name: TYPES[name]
    for name in (
        "tinyint", "int_zerofill", "bigint_unsigned", "decimal_fraction", "bit_64", "year", "date", "time_6",
        "datetime_6", "char", "varchar", "latin1_bin", "gbk", "binary", "varbinary", "enum", "set",
    )
}  # fmt: skip
# What proves equality apart from the code under test, where HEX() does not show the stored bytes.
PROOFS = {
    "float": "{} * 1e0", "double": "{} * 1e0", "float_digits": "{}", "decimal": "{}", "decimal_fraction": "{}",
    "json": "JSON_EXTRACT({0}, '$.a[0]'), JSON_EXTRACT({0}, '$.a[3]'), JSON_LENGTH({0}), JSON_TYPE({0})",
    "time": "{}", "time_6": "{}", "date": "{}", "year": "{} + 0", "timestamp_6": "{}", "datetime": "{}",
    "datetime_6": "{}", "enum": "{0} + 0, HEX({0})", "enum_empty": "{} + 0",
    "set": "{0} + 0, HEX({0})", "set_empty": "{} | 0", "set_64": "{} | 0",
}  # fmt: skip
