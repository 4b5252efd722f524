"""The short form of tests/rest/fuzzing.py: between them, the two databases see every phase."""

import pytest

from tests.rest.fuzzing import fuzz


@pytest.mark.parametrize(
    ("database", "phases", "least"),
    [("sqlite", ("examples", "coverage"), 500), ("postgresql", ("fuzzing", "stateful"), 50)],
    ids=["sqlite", "postgresql"],
)
def test_schemathesis_finds_nothing(
    request: pytest.FixtureRequest, database: str, phases: tuple[str, ...], least: int
) -> None:
    made, said = fuzz(request.getfixturevalue(f"{database}_url"), 5, *phases, seed=1)
    assert not said, said
    assert made > least
