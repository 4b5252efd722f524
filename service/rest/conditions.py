"""Conditions of a request (RFC 9110, 13): the `etag` of a message is the ETag of what it stands for."""

import re
from collections.abc import Sequence

from google.protobuf.message import Message

from service.rest.headers import invalid
from service.rest.queries import Path

MOST_TAGS = 8
_ANY = "*"
# One entity tag (RFC 9110, 8.8.3) of a list, whose elements may be empty.
_TAG = re.compile(r'[ \t,]*((?:W/)?"[!\x23-\x7e\x80-\xff]*")[ \t]*(?:,[ \t,]*|$)')


def apply_if_match(header: bytes, request: Message, path: Path | None) -> Sequence[Message]:
    """The request, once for each etag that it may be made with: the calls to try in turn until one finds its etag.

    `path` leads to the etag in the request. Raises Refusal where the header cannot be heeded.
    """
    if path is None:
        raise invalid("if-match", "is not heeded by this method: leave it out")
    if getattr(request, "allow_missing", False):
        raise invalid("if-match", "asks for something that is there, allow_missing does not: send one of them")
    tags = _tags("if-match", header)
    *outer, field = path
    target = request
    for each in outer:
        target = getattr(target, each.name)
    given = getattr(target, field.name)
    if tags == [_ANY]:
        return [request]
    # Neither a weak tag nor an empty one is anybody's etag: they go as they are written, and find nothing.
    etags = [tag[1:-1] if tag.startswith('"') and len(tag) > 2 else tag for tag in tags]
    if given and given not in etags:
        raise invalid("if-match", "and the etag in the request are not the same: send one of them")
    requests = []
    for etag in [given] if given else etags:
        setattr(target, field.name, etag)
        requests.append(type(request).FromString(request.SerializeToString()))
    return requests


def is_known(header: bytes, etag: str) -> bool:
    """Whether If-None-Match names this etag: then the client has it already. Raises Refusal."""
    return any(tag.removeprefix("W/") in (_ANY, f'"{etag}"') for tag in _tags("if-none-match", header))


def _tags(name: str, header: bytes) -> list[str]:
    """The entity tags of a header as they are written, or `*` alone."""
    text, at = header.decode("latin-1").strip(" \t"), 0
    found: list[str] = []
    if text == _ANY:
        return [_ANY]
    while at < len(text) or not found:
        tag = _TAG.match(text, at)
        if tag is None or len(found) == MOST_TAGS:
            raise invalid(name, f'must be * or a list of at most {MOST_TAGS} etags in quotes, as in "1"')
        found.append(tag[1])
        at = tag.end()
    return found
