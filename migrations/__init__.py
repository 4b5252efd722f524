"""The schema's history. `service/db/schema.py` runs it; `taskwell migrate` is how people do."""
