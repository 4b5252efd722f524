"""Migrations of the schema. `service/db/schema.py` runs them, for `taskwell migrate` and for `--migrate`."""
