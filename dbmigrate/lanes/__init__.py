"""Schema changes that never break the running version: Alembic's revisions in three lanes.

``environment`` finds a project's revisions, ``recording`` sees what one would do without doing it, ``rules`` say in
which lane that belongs, ``lint`` and ``plan`` apply them: nothing of that changes a database. ``running`` does: revision by
revision, step by step (``steps``), down a ``ladder``, with ``patience``, and with a search before anything is dropped
(``guarding``).
"""

from dbmigrate.lanes.backfill import Backfill

__all__ = ["Backfill"]
