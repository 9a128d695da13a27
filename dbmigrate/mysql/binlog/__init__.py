"""The change source: a server's binlog as keys of changed rows.

``BinlogReader`` is all that streaming needs; the modules behind it are layered as

    reader -> transactions -> rows -> literals        queries, gtids, packets, events beside them

Only key columns are decoded, straight into SQL literals. Whatever is not understood stops the stream.
"""

from dbmigrate.mysql.binlog.deliveries import ChangeEvent, Delivery, PositionLost, SchemaChanged, Truncated
from dbmigrate.mysql.binlog.reader import BinlogReader, format_purged_hint, has_reached, read_current_position

__all__ = [
    "BinlogReader",
    "ChangeEvent",
    "Delivery",
    "PositionLost",
    "SchemaChanged",
    "Truncated",
    "format_purged_hint",
    "has_reached",
    "read_current_position",
]
