"""Chooses where prometheus_client keeps the values of metrics: in memory, or in one file per worker.

Undocumented names used here and nowhere else: `prometheus_client.values.ValueClass`, `.MutexValue` and
`.MultiProcessValue(process_identifier)`. The documented way is the variable PROMETHEUS_MULTIPROC_DIR alone, which names
the files by process id: each worker that dies leaves its files behind, and every scrape reads all of them. See
docs/architecture/private-apis.md; tests/layers/test_private_apis.py fails when one of the names changes.
"""

from prometheus_client import values


def use_value_storage(owner: int | str | None) -> None:
    """Keep the values of metrics created from now on in memory, or in files named by the number of the worker.

    A worker that replaces a dead one has its number and continues its counts.
    """
    if owner is None:
        values.ValueClass = values.MutexValue
    else:
        values.ValueClass = values.MultiProcessValue(lambda: owner)  # type: ignore[no-untyped-call]  # of prometheus_client
