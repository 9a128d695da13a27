"""Creating on the target what the source has, from the source's own definitions.

``collations`` maps names between flavours, ``tables`` rewrites CREATE TABLE, ``objects`` everything else, both by the
help of ``tokens``. What has no
counterpart is refused by name, never dropped in silence.
"""

from dbmigrate.mysql.definitions.collations import UntranslatableError, translate_collation
from dbmigrate.mysql.definitions.objects import create_objects, enable_event, translate_object
from dbmigrate.mysql.definitions.tables import TableDefinition, translate_table

__all__ = [
    "TableDefinition",
    "UntranslatableError",
    "create_objects",
    "enable_event",
    "translate_collation",
    "translate_object",
    "translate_table",
]
