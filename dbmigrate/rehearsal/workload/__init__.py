"""What writes during a rehearsal: a generic workload, sysbench, a user's command or a user's Python function.

All of them follow the owner: they connect to one address, which leads to the side that owns the data (``following``).
"""

from dbmigrate.rehearsal.workload.building import build_workload
from dbmigrate.rehearsal.workload.counting import Tally
from dbmigrate.rehearsal.workload.following import ConnectionParameters, OwnerAddress
from dbmigrate.rehearsal.workload.python import WorkloadContext
from dbmigrate.rehearsal.workload.running import Workload

__all__ = ["ConnectionParameters", "OwnerAddress", "Tally", "Workload", "WorkloadContext", "build_workload"]
