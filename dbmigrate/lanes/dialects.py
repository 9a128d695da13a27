"""SQLAlchemy's dialect for a server that is known but not asked: statements come out as that server would get them.

Apart from recording because the plan and the runner must compile for the same dialect.
"""

from __future__ import annotations

from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.engine.interfaces import Dialect

from dbmigrate.domain.flavours import ServerVersion


def build_dialect(version: ServerVersion) -> Dialect:
    """The dialect that a ``mysql+pymysql://`` URL has after it met this server.

    It is called ``mysql`` for both flavours, so that options such as ``mysql_engine`` count on both. The parameter
    style is one without percent signs: texts come out as the server gets them.
    """
    dialect = MySQLDialect_pymysql(is_mariadb=version.is_mariadb, paramstyle="named")
    dialect.server_version_info = version.release
    return dialect
