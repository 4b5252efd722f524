"""Starts the service with seeded bugs: `python -m tests.faults.seeded BUG[,BUG ...] serve ...`."""

import sys

from service.__main__ import main
from tests.faults import seeded_bugs  # noqa: F401 - it fills BUGS
from tests.faults.seeding import BUGS

if __name__ == "__main__":
    for name in sys.argv.pop(1).split(","):
        BUGS[name].seed()
    sys.exit(main())
