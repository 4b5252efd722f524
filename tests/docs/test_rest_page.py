"""docs/guide/rest.md stays true: it has every route, every refusal and every status."""

import re
from pathlib import Path

from google.api import annotations_pb2
from grpc import StatusCode
from taskwell.v1 import tasks_pb2

from service.rest.responses import HTTP_STATUSES
from tools.openapi.refusals import ELSEWHERE, GATEWAY

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guide" / "rest.md").read_text()


def test_every_route_is_there() -> None:
    for method in tasks_pb2.DESCRIPTOR.services_by_name["TaskService"].methods:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        for binding in (rule, *rule.additional_bindings):
            kind = binding.WhichOneof("pattern")
            path = getattr(binding, kind).replace("{task.id}", "{id}")
            assert re.search(rf"`{kind.upper()} {re.escape(path)}`[^|]*\| {method.name}\b", TEXT)


def test_every_refusal_and_its_status_is_there() -> None:
    for reason, (status, *_) in {**GATEWAY, **ELSEWHERE}.items():
        assert re.search(rf"^\| {status} \| [^|]*`{reason}`", TEXT, flags=re.MULTILINE), reason


def test_every_code_has_its_status() -> None:
    [statuses, _, codes] = TEXT[TEXT.index("| 400 | 401 |") :].splitlines()[:3]
    columns = zip(statuses.strip("| ").split(" | "), codes.strip("| ").split(" | "), strict=True)
    written = {code: int(status) for status, column in columns for code in column.split(", ")}
    assert written == {code.name: status for code, status in HTTP_STATUSES.items()}
    assert set(HTTP_STATUSES) == set(StatusCode) - {StatusCode.OK}
