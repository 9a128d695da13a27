"""Shadow reads: a sample of the reads that the owner has answered is repeated on the other side and compared.

The session calls ``ShadowReader.wants`` and ``submit``; everything else happens off the request path.
docs/shadow-reads.md says what is compared, what is not, and what the classes of differences mean.
"""

from dbmigrate.app.shadow.reader import ShadowReader
from dbmigrate.app.shadow.reads import ControlRead, Recheck, ResultColumn, columns_of
from dbmigrate.app.shadow.settings import ShadowSettings

__all__ = ["ControlRead", "Recheck", "ResultColumn", "ShadowReader", "ShadowSettings", "columns_of"]
