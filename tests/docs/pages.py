"""The pages of the documentation, and the parts of a page that tests read."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted(
        [
            *ROOT.glob("*.md"),
            *(ROOT / "docs").rglob("*.md"),
            *(
                ROOT / name / "README.md"
                for name in ("bench", "clients/python", "deploy/observability", "examples/python")
            ),
        ]
    )
}
"""The text of each page, by its path in the repository."""


def sections(page: str) -> dict[str, str]:
    """The sections of a page by their headings. The text before the first heading is under the empty heading."""
    first, *others = re.split(r"^## ", PAGES[page], flags=re.MULTILINE)
    return {"": first, **{each.partition("\n")[0]: each for each in others}}


def blocks(text: str, language: str) -> list[str]:
    """The content of the code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands_of(session: str) -> list[str]:
    """The commands of a console block."""
    return re.findall(r"^\$ (.*)", session.replace("\\\n", ""), flags=re.MULTILINE)


def scripts() -> Iterator[tuple[str, str]]:
    """Everything that a reader may paste into a shell, with the page that it is on."""
    for page, text in PAGES.items():
        yield from ((page, block) for block in blocks(text, "sh"))
        yield from ((page, "\n".join(commands_of(block))) for block in blocks(text, "console"))
