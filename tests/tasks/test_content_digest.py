"""The digest of a create's content, which is stored and must not differ between versions of the service."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from service.model import TaskDraft
from service.tasks import methods
from service.tasks.methods import _content_digest


def test_the_content_digest_is_that_of_earlier_versions() -> None:
    digest = "17ddff818b5778cb0391c6626057fcae07348d0f85d5587fcf3912600506f15f"
    assert _content_digest(TaskDraft("Buy milk é", "Two litres")) == digest


def test_the_content_digest_tells_title_and_description_apart() -> None:
    contents = [("ab", "c"), ("a", "bc"), ("abc", ""), ("1:ab", ""), ("1", ":ab")]
    assert len({_content_digest(TaskDraft(*each)) for each in contents}) == len(contents)


def test_the_content_digest_includes_later_fields_unless_they_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = _content_digest(TaskDraft("a"))
    monkeypatch.setattr(methods, "CONTENT_FIELDS", ("title", "priority", "description", "due_time"))

    def digest(**fields: Any) -> str:
        draft: Any = SimpleNamespace(**{"title": "a", "description": "", "priority": 0, "due_time": None, **fields})
        return _content_digest(draft)

    assert digest() == earlier
    due = datetime(2026, 1, 2, tzinfo=UTC)
    drafts: list[dict[str, Any]] = [{}, {"priority": 1}, {"priority": 2}, {"due_time": due}]
    assert len({digest(**each) for each in drafts}) == len(drafts)
