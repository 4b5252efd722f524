"""Short ids on the command line."""

import pytest
import taskwell_cli.short_ids

from tests.clients.command_line import Person


def test_short_ids_are_taken_by_every_verb(person: Person) -> None:
    first, second = (person.sees("add", title, "-q").strip() for title in ("One", "Two\nlines"))
    for part in (first[-8:], first[-4:], first[:-2], first[-8:].upper(), first):
        assert [task["id"] for task in person.gets("show", part)] == [first]
    short = second[-8:]
    assert person.gets("edit", short, "--title", "Second")[0]["id"] == second
    for verb in ("done", "reopen", "show", "rm"):
        assert person.gets(verb, short)[0]["id"] == second
    assert person.gets("list")[0]["id"] == first
    assert "there is no task" in person.is_told("done", short, status=3)
    assert "at least 4 digits" in person.is_told("done", first[-3:], status=2)


def test_an_ambiguous_short_id_is_refused_with_its_candidates(person: Person) -> None:
    ids = [person.sees("add", f"Task {number}\n{number}", "-q").strip() for number in range(12)]
    common = ids[0][:6]  # half an hour
    told = person.types("rm", common)
    first, *candidates = told.stderr.splitlines()
    assert (told.exit_code, told.stdout) == (2, "")
    assert first == f"taskwell: {common!r} is ambiguous: give more digits of one of these"
    assert candidates[-1] == "and 2 more"
    assert candidates[0] == f"{ids[-1]}  Task 11\\n11"
    assert len(candidates) == 11
    assert len(person.gets("list")) == 12


def test_a_short_id_is_not_trusted_where_not_all_tasks_were_searched(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [person.sees("add", "Buy milk", "-q").strip() for _ in range(3)]
    monkeypatch.setattr(taskwell_cli.short_ids, "MOST", 2)
    assert "give the whole id" in person.is_told("rm", ids[-1][-8:], status=2)
    assert person.gets("rm", ids[-1])[0]["id"] == ids[-1]


def test_short_ids_grow_where_tasks_share_them() -> None:
    short = taskwell_cli.short_ids.short_ids
    assert short(["0" * 36, "0" * 27 + "1" + "0" * 8]) == ["0" * 9, "1" + "0" * 8]
    assert short([]) == []
    assert short(["a" * 36]) == ["a" * 8]
