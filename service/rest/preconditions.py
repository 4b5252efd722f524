"""Conditional requests (RFC 9110, 13): the `etag` field of a message is its ETag."""

import re
from collections.abc import Mapping

from google.protobuf.message import Message

from service.rest.headers import invalid_header
from service.rest.routes import Route

_TAG = re.compile(r'\*|(?:W/)?"[!\x23-\x7e\x80-\xff]*"')  # RFC 9110, 8.8.3


def apply_conditions(request: Message, route: Route, values: Mapping[bytes, bytes]) -> None:
    """Make the call conditional as the headers ask. Raises HttpError for what would not be heeded."""
    if b"if-none-match" in values and route.http_method != "GET":
        raise invalid_header("if-none-match", "is heeded by GET alone: leave it out")
    if b"if-match" not in values:
        return
    if route.etag is None:
        raise invalid_header("if-match", "is not heeded by this method: leave it out")
    if getattr(request, "allow_missing", False):
        problem = "asks for something that is there, allow_missing does not: send one of them"
        raise invalid_header("if-match", problem)
    tag = values[b"if-match"].decode("latin-1").strip(" \t")
    if not _TAG.fullmatch(tag):
        raise invalid_header("if-match", 'must be * or one etag in quotes, as in "1"')
    if tag == "*":
        return
    *outer, field = route.etag
    for each in outer:
        request = getattr(request, each.name)
    # A weak tag and an empty one are nobody's etag: they go to the call as they are written, and match nothing.
    etag = tag[1:-1] if tag.startswith('"') and len(tag) > 2 else tag
    if getattr(request, field.name) not in {"", etag}:
        raise invalid_header("if-match", "and the etag in the request are not the same: send one of them")
    setattr(request, field.name, etag)


def is_known(header: bytes, etag: str) -> bool:
    """True if If-None-Match names this etag, or any: the client has the current version."""
    tags = (tag.strip(" \t").removeprefix("W/") for tag in header.decode("latin-1").split(","))
    return any(tag in ("*", f'"{etag}"') for tag in tags)
