"""The half of dbmigrate that lives in an application on SQLAlchemy: sessions that follow a migration by themselves.

Deploy it before the move and take it out after it; nothing in between needs a deployment::

    from dbmigrate.app import sessionmaker

    Session = sessionmaker(source_engine, target_engine, migration_id="shop-2026-11")

docs/application.md has every option. ``dbmigrate.app.asyncio`` is the same for async engines.
"""

from dbmigrate.app.making import SessionFactory, sessionmaker
from dbmigrate.app.options import Options
from dbmigrate.app.session import Session

__all__ = ["Options", "Session", "SessionFactory", "sessionmaker"]
