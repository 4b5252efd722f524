"""The documentation site builds without a warning, and a warning is what a broken link causes."""

import subprocess
import sys

import pytest

from tests.docs.pages import ROOT


def test_the_site_builds_and_every_link_leads_somewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("site")
    sphinx = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-c", "docs"]
    built = subprocess.run(
        [*sphinx, "-d", str(folder / "doctrees"), ".", str(folder / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert (folder / "site" / "index.html").exists()
