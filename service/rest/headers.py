"""Request headers: a few are forwarded as metadata of the call, the gateway reads some, and the rest is dropped."""

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import NamedTuple

from grpc import StatusCode

from service.errors import excerpt
from service.rest.responses import CLOSE, HttpError

JSON = b"application/json"
MERGE_PATCH = b"application/merge-patch+json"
"""JSON Merge Patch (RFC 7386), which PATCH takes too: the members of the body change, null clears."""

_READ = frozenset(
    {
        *(b"host", b"content-type", b"content-encoding", b"content-length", b"transfer-encoding", b"expect"),
        *(b"grpc-timeout", b"if-match", b"if-none-match"),
    }
)
# HPACK's overhead of a header (RFC 7541, 4.1), so that gRPC and REST have the same limit.
_OVERHEAD = 32
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_HOST = re.compile(rb"(?:\[([0-9a-fA-F:.%]+)\]|([0-9A-Za-z._-]*))(?::[0-9]*)?")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class Head(NamedTuple):
    """The headers of a request."""

    metadata: list[tuple[str, str]]
    """Metadata of the call. Duplicates are kept, so that the call is refused for two callers."""
    values: dict[bytes, bytes]
    """Headers that the gateway reads. Duplicates are joined by commas."""


def read_head(
    target_bytes: int, headers: Iterable[tuple[bytes, bytes]], forwarded: Mapping[bytes, str], max_bytes: int
) -> Head:
    """Split the headers of a request. `forwarded` names metadata by header.

    Raises HttpError if target and headers are larger than `max_bytes`, or leave open where the request ends.
    """
    metadata: list[tuple[str, str]] = []
    values: dict[bytes, bytes] = {}
    size = target_bytes
    for name, value in headers:
        size += len(name) + len(value) + _OVERHEAD
        if name in forwarded:
            metadata.append((forwarded[name], value.decode("latin-1")))
        elif name in _READ:
            values[name] = values[name] + b"," + value if name in values else value
    if size > max_bytes:
        message = f"The target and the headers of the request are larger than {max_bytes} bytes."
        raise HttpError(message, "HEADERS_TOO_LARGE", 431, StatusCode.RESOURCE_EXHAUSTED, headers=(CLOSE,))
    if b"transfer-encoding" in values and b"content-length" in values:
        # RFC 9112, 6.1: a proxy in front may have taken the other one (request smuggling).
        message = "The request must not have both content-length and transfer-encoding."
        raise HttpError(message, "REQUEST_MALFORMED", headers=(CLOSE,))
    return Head(metadata, values)


def parse_timeout(header: bytes | None) -> float | None:
    """Parse `grpc-timeout` into seconds; None if it is absent. Raises HttpError."""
    if header is None:
        return None
    found = _TIMEOUT.fullmatch(header)
    if found is None:
        problem = "must be a number of up to 8 digits and a unit (H, M, S, m, u or n), as in 500m"
        raise invalid_header("grpc-timeout", problem)
    return int(found[1]) * _UNITS[found[2]]


def require_json(values: Mapping[bytes, bytes], *, is_patch: bool) -> None:
    """Raise HttpError unless the body is JSON in UTF-8, not compressed. A missing content-type means that."""
    taken = (JSON, MERGE_PATCH) if is_patch else (JSON,)
    media_type, *parameters = (part.strip(b" \t") for part in values.get(b"content-type", JSON).lower().split(b";"))
    charsets = {part.replace(b'"', b"") for part in parameters if part.startswith(b"charset")}
    is_compressed = values.get(b"content-encoding", b"identity").lower() != b"identity"
    if media_type not in taken or charsets - {b"charset=utf-8"} or is_compressed:
        message = "The body must be JSON in UTF-8, not compressed: send content-type: application/json."
        hints = [(b"accept", b", ".join(taken)), (b"accept-encoding", b"identity")]
        if is_patch:
            hints.append((b"accept-patch", b", ".join(taken)))  # RFC 5789, 2.2
        raise HttpError(message, "MEDIA_TYPE_UNKNOWN", 415, headers=hints)


def require_host(header: bytes | None, names: Collection[str] | None) -> None:
    """Raise HttpError unless a request asks for one of these host names or for an IP address; None for any.

    A page of another site can point its own name at this machine (DNS rebinding). Its requests then come from a browser
    on this machine and look local, except for the name that they ask for.
    """
    if names is None or header is None:
        return
    if found := _HOST.fullmatch(header):
        name = (found[1] or found[2]).decode().lower()
        with suppress(ValueError):
            if name in names or ip_address(name):
                return
    message = f"This server is not known as {excerpt(header.decode('latin-1'))}: ask for localhost or an address, "
    raise HttpError(f"{message}or name it in TASKWELL_REST_HOSTS.", "HOST_UNKNOWN", 421, StatusCode.PERMISSION_DENIED)


def invalid_header(name: str, problem: str) -> HttpError:
    """Return the error for a header that is malformed or would not be heeded."""
    return HttpError(f"The header {name} {problem}.", "HEADER_INVALID")
