"""Conditional requests (RFC 9110, 13): the `etag` field of a message is its ETag."""

import re

from google.protobuf.message import Message

from service.rest.fields import Path
from service.rest.headers import invalid_header

_ANY = "*"
_TAG = re.compile(r'(?:W/)?"[!\x23-\x7e\x80-\xff]*"')  # RFC 9110, 8.8.3


def apply_if_match(header: bytes, request: Message, path: Path | None) -> None:
    """Write the etag of If-Match into the request, where `path` leads. Raises HttpError for what cannot be heeded."""
    if path is None:
        raise invalid_header("if-match", "is not heeded by this method: leave it out")
    if getattr(request, "allow_missing", False):
        problem = "asks for something that is there, allow_missing does not: send one of them"
        raise invalid_header("if-match", problem)
    tag = header.decode("latin-1").strip(" \t")
    if tag == _ANY:
        return
    if not _TAG.fullmatch(tag):
        raise invalid_header("if-match", 'must be * or one etag in quotes, as in "1"')
    *outer, field = path
    target = request
    for each in outer:
        target = getattr(target, each.name)
    given = getattr(target, field.name)
    # A weak tag and an empty one are nobody's etag: they go to the call as they are written, and match nothing.
    etag = tag[1:-1] if tag.startswith('"') and len(tag) > 2 else tag
    if given and given != etag:
        raise invalid_header("if-match", "and the etag in the request are not the same: send one of them")
    setattr(target, field.name, etag)


def is_known(header: bytes, etag: str) -> bool:
    """True if If-None-Match names this etag, or any: the client has the current version."""
    tags = (tag.strip(" \t").removeprefix("W/") for tag in header.decode("latin-1").split(","))
    return any(tag in (_ANY, f'"{etag}"') for tag in tags)
