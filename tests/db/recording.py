"""Records the texts of the statements that reach a driver."""

from typing import Any

import pytest

from service.db.postgres import Postgres
from service.db.sqlite import Sqlite


def recorded_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of all statements that run from now on, in any database, in order."""
    texts: list[str] = []
    for driver in (Postgres, Sqlite):
        fetch = driver.fetch

        async def recording(self: Any, connection: Any, text: str, parameters: Any = None, fetch: Any = fetch) -> Any:
            texts.append(text)
            return await fetch(self, connection, text, parameters)

        monkeypatch.setattr(driver, "fetch", recording)
    return texts
