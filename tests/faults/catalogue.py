"""All faults of a system that runs."""

from tests.faults import database_faults, network_faults, pooler_faults, server_faults, sqlite_faults
from tests.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *server_faults.FAULTS,
    *sqlite_faults.FAULTS,
    *network_faults.FAULTS,
    *database_faults.FAULTS,
    *pooler_faults.FAULTS,
)
