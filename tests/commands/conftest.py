"""Fixtures for tests of commands: a folder with a migrated database file."""

from tests.server.conftest import folder, migrated_file

__all__ = ["folder", "migrated_file"]
