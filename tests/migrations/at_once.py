"""Migrates a database with many processes at the same moment.

    python -m tests.migrations.at_once PROCESSES DATABASE_URL

The processes fork after all modules are loaded, connect, and then wait for a common signal. The exit status is that
of a process that failed.
"""

import os
import sys

import alembic.command  # noqa: F401 - loaded by the first migration, if it is not there yet

from service.db.schema import Schema
from service.db.url import parse_database_url


def main(processes: int, database_url: str) -> int:
    waiting, begin = os.pipe()
    for _ in range(processes):
        if os.fork() == 0:
            os.close(begin)
            schema = Schema(parse_database_url(database_url))
            schema.current()
            os.read(waiting, 1)  # returns when the parent closes the other end
            schema.up()
            os._exit(0)  # without cleaning up resources shared with the parent
    os.close(begin)
    return max(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(processes))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
