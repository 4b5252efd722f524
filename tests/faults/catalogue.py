"""All faults."""

from tests.faults import database_faults, server_faults
from tests.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (*server_faults.FAULTS, *database_faults.FAULTS)
