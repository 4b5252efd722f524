"""Starts the service with a seeded bug: `python -m tests.faults.seeded BUG serve ...`."""

import sys

from service.__main__ import main
from tests.faults import seeded_bugs  # noqa: F401 - it fills BUGS
from tests.faults.seeding import BUGS

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)].seed()
    sys.exit(main())
