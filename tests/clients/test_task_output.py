"""What `taskwell task` prints: tables for terminals, lines for programs, and nothing that commands a terminal."""

import io
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress

import pytest
from taskwell_cli.output import show_list
from taskwell_client import Task

from tests.clients.command_line import COMMAND, MISSING, Person


def test_programs_get_a_line_with_tabs_for_each_task(person: Person) -> None:
    added = person.sees("add", "Buy milk", "--description", "Two\nlitres")
    id_, *rest, created = added.removesuffix("\n").split("\t")
    assert rest == ["Buy milk", "incomplete"]
    assert re.fullmatch(r"[-0-9a-f]{36}", id_)
    assert re.fullmatch(r"[-0-9]{10}T[:0-9]{8}\.\d+Z", created)
    assert person.sees("list") == added
    assert person.sees("done", id_).split("\t")[2] == "complete"
    assert person.sees("list", "-q") == person.sees("reopen", id_, "--quiet") == f"{id_}\n"
    shown = person.sees("show", id_)
    rows = dict(re.findall(r"^(\w+) +(.*?) *$", shown, re.MULTILINE))
    assert (rows["Title"], rows["Status"], rows["ID"]) == ("Buy milk", "incomplete", id_)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", rows["Created"])
    assert "Completed" not in rows
    assert "Description  Two\n             litres\n" in shown
    long = "x" * 255
    person.sees("add", long)
    assert len(person.sees("list").splitlines()[0]) < 255 + 100
    assert f"\t{long}\t" in person.sees("list")


HOSTILE = (
    "[red]a[/red] \x1b[31mb \x9b31mc \u202ed \r\x08e\tf\ng\u2028h\u200di\u2066j\u00adk\ufeffl\U000e0041m\x7fn\u0085o"
)
ESCAPED = r"[red]a[/red] \x1b[31mb \x9b31mc \u202ed \r\x08e\tf\ng\u2028h\u200di\u2066j\xadk\ufeffl\U000e0041m\x7fn\x85o"


def test_no_title_commands_the_terminal_or_forges_a_row(person: Person) -> None:
    [task] = person.gets("add", HOSTILE, "--description", HOSTILE)
    assert task["title"] == HOSTILE
    assert "\\u001b" in person.sees("list", "--json")
    forged = f"x\n{MISSING}\tPaid\tcomplete\t2026-01-01T00:00:00Z"
    person.sees("add", forged)
    [other, row] = person.sees("list").splitlines()
    assert row.split("\t")[1] == ESCAPED
    assert other.split("\t")[1] == forged.replace("\n", "\\n").replace("\t", "\\t")
    assert person.sees("show", task["id"]).splitlines()[0] == f"Title        {ESCAPED}"
    for output in (
        *(person.sees("list", *style) for style in ([], ["--json"])),
        *(person.sees("show", task["id"], *style) for style in ([], ["--json"])),
        person.sees("edit", task["id"], "--title", HOSTILE, "--description", ""),
        person.types("rm", task["id"][:6]).stderr,
        person.sees("rm", task["id"]),
    ):
        assert all(line.expandtabs().isprintable() for line in output.split("\n")), output


@pytest.mark.parametrize("columns", [40, 80])
def test_a_terminal_gets_a_table_that_fits(person: Person, columns: int) -> None:
    titles = ["Buy milk", "x" * 255, "wide \u65e5" * 42, "\u2764\ufe0f" * 100, HOSTILE, "e\u0301" * 127]
    for title in titles:
        person.sees("add", title)
    header, *rows = on_terminal(person, columns, "task", "ls").splitlines()
    assert re.sub(r"\x1b\[\d+m", "", header).split()[:2] == ["ID", "TITLE"]
    assert ("CREATED" in header) == (columns > 40)
    assert len(rows) == len(titles)
    for row, title in zip(rows[::-1], titles, strict=True):
        assert len(row.replace("\u0301", "")) <= columns
        assert sum(2 if each == "\u65e5" else 1 for each in row if each != "\u0301") <= columns
        assert re.match(rf"[0-9a-f]{{8}}  {re.escape(title[:8])}", row)
        assert len(row.split("  ")[1]) >= 8
    assert all("\N{HORIZONTAL ELLIPSIS}" in row for row in rows[:-1])
    shown = on_terminal(person, columns, "task", "show", rows[-2].split()[0])
    assert max(map(len, shown.splitlines())) <= columns
    assert shown.replace("\n             ", "").startswith("Title        " + "x" * 255)


def on_terminal(person: Person, columns: int, *arguments: str) -> str:
    """Run the command with a pseudo-terminal as its standard output. Returns what it prints."""
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], **person.environment, "COLUMNS": str(columns)}
    with subprocess.Popen([COMMAND, *arguments], env=environment, stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # which is how a pseudo-terminal ends
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")


def test_a_list_is_printed_as_it_arrives() -> None:
    walked: list[int] = []

    def tasks() -> Iterator[Task]:
        for number in range(2500):
            walked.append(number)
            yield Task(id=f"{number:036}", title="Buy milk")

    class Output(io.StringIO):
        """Counts the lines that there are when each page has been asked for."""

        def flush(self) -> None:
            seen.append((self.getvalue().count("\n"), len(walked)))

    seen: list[tuple[int, int]] = []
    with redirect_stdout(Output()):
        show_list(tasks(), None)
    assert seen == [(1000, 1000), (2000, 2000), (2500, 2500)]
