"""The short form of tests/soak/renewal.py."""

from pathlib import Path

from tests.soak.renewal import swapped


def test_no_call_fails_while_certificates_are_swapped(tmp_path: Path, sqlite_url: str) -> None:
    outcomes = swapped(tmp_path, sqlite_url, 30)
    assert set(outcomes) == {"kept connection: OK", "new connection: OK"}, outcomes
    assert min(outcomes.values()) >= 30
