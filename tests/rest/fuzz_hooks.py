"""Hooks for schemathesis: which good values do not go together, what JSON Schema cannot say."""

import re
from collections.abc import Mapping
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core.parameters import ParameterLocation

_ETAG = re.compile("[0-9a-f]{1,3}")
_CONDITION = re.compile(f'"{_ETAG.pattern}"|[*]')


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001  # as it is called
    """Leave out what spoils a request that is otherwise good, and what makes a bad one good."""
    # This server believes tokens alone.
    case.headers.pop("x-user-id", None)
    assert case.meta is not None
    if not case.meta.generation.mode.is_negative:
        _make_fit(case)
        return
    if case.meta.is_negative_at(ParameterLocation.BODY):
        if not case.meta.is_negative_at(ParameterLocation.QUERY):
            # It may leave out what is wrong in the body.
            case.query.pop("updateMask", None)
        if isinstance(case.body, dict):
            case.body = {name: _refused(name, value) for name, value in case.body.items()}
    if case.meta.is_negative_at(ParameterLocation.QUERY):
        case.query = {name: _refused(name, value) for name, value in case.query.items()}


def _refused(name: str, value: Any) -> Any:
    """A value that the service refuses as well, for one that it takes though the document does not offer it."""
    if value is None or (value == "" and name in {"requestId", "orderBy"}):
        return "?" if name in {"requestId", "orderBy"} else ["?"]
    return "?" if name == "status" and str(value) in {"0", "1", "2", "0.0", "1.0", "2.0"} else value


@schemathesis.check
def the_deadline_was_the_clients(ctx: CheckContext, response: Response, case: Case[Any]) -> None:  # noqa: ARG001
    """Only a client that sets a deadline may hear that it has passed."""
    assert response.status_code != 504 or "Grpc-Timeout" in case.headers


def _make_fit(case: Case[Any]) -> None:
    query, body = case.query, case.body if isinstance(case.body, dict) else {}
    # A token is good for the list that it was made for.
    query.pop("pageToken", None)
    # Hardly a request would get past an etag that no task ever had.
    for place in (query, body):
        if not _ETAG.fullmatch(str(place.get("etag") or "")):
            place.pop("etag", None)
    for name in ("If-Match", "If-None-Match"):
        if not _CONDITION.fullmatch(case.headers.get(name, "")):
            case.headers.pop(name, None)
    if "If-Match" in case.headers:
        # Two conditions would have to be the same, and none can hold where nothing need be.
        body.pop("etag", None)
        query.pop("etag", None)
        query.pop("allowMissing", None)
    if not _is_answered_by(body, query.get("updateMask") or ""):
        del query["updateMask"]


def _is_answered_by(body: Mapping[str, Any], mask: str) -> bool:
    """Whether the body has what the mask needs: a title and a status cannot be cleared."""
    paths = {*mask.split(",")}
    has_status = body.get("status") not in {None, 0, "TASK_STATUS_UNSPECIFIED"}
    return (bool(body.get("title")) or not paths & {"title", "*"}) and (has_status or "status" not in paths)
