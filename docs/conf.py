"""Settings of Sphinx for `make docs`. The pages are the Markdown files of the repository, where they are."""

import re

from sphinx.application import Sphinx

project = "Taskwell"
root_doc = "docs/index"
extensions = ["myst_parser"]
include_patterns = [
    "*.md",
    "bench/README.md",
    "clients/python/README.md",
    "deploy/observability/README.md",
    "docs/**.md",
    "examples/python/README.md",
]
exclude_patterns = [
    ".*",
    "build",
    "dist",
    "generated",
    "**/node_modules",
    "examples/*/target",
]  # Sphinx does not descend into these

myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = "Taskwell"
html_extra_path = ["_site"]
html_copy_source = False
html_show_sphinx = False


def add_navigation(_app: Sphinx, page: str, source: list[str]) -> None:
    """Make the navigation of the lists of links in three pages: one group for each heading."""
    if page not in {root_doc, "docs/architecture/decisions", "docs/operations/runbooks/index"}:
        return
    for heading, links in re.findall(r"^## (.+)\n\n((?:- .*\n|  .*\n)+)", source[0], flags=re.MULTILINE):
        targets = re.findall(r"^- \[.*?\]\(([^)]+)\)", links, flags=re.MULTILINE)
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {heading}", "", *targets, "```", ""])


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_navigation)
