"""What the operator writes in ``dbmigrate.toml``: its shape, its reading and its complaints.

Apart from everything else because every layer above reads these values and none may guess them. ``models``,
``servers`` and ``windows`` are the shape; ``describing`` says in words what each key accepts; ``loading``
turns a file into a ``Config`` or into one error with every problem; ``template`` writes the first file.
"""

from dbmigrate.config.loading import load_config
from dbmigrate.config.models import (
    Approval,
    AppSection,
    ClusterSection,
    Config,
    CopySection,
    CutoverSection,
    ExecutorKind,
    FenceKind,
    GatesSection,
    LanesSection,
    MigrationSection,
    TableOptions,
    TablesSection,
    ThrottleSection,
    VerifySection,
)
from dbmigrate.config.servers import ServerSection, TlsMode, TlsSection
from dbmigrate.config.template import render_template
from dbmigrate.config.windows import TimeWindow

__all__ = [
    "AppSection",
    "Approval",
    "ClusterSection",
    "Config",
    "CopySection",
    "CutoverSection",
    "ExecutorKind",
    "FenceKind",
    "GatesSection",
    "LanesSection",
    "MigrationSection",
    "ServerSection",
    "TableOptions",
    "TablesSection",
    "ThrottleSection",
    "TimeWindow",
    "TlsMode",
    "TlsSection",
    "VerifySection",
    "load_config",
    "render_template",
]
