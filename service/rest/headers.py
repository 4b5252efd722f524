"""What the headers of a request say: few of them cross to the call, the door reads some, and the rest is dropped."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from grpc import StatusCode

from service.rest.refusals import Refusal, quoted

RawHeaders = Iterable[tuple[bytes, bytes]]

_READ = frozenset(
    {
        *(b"content-type", b"content-encoding", b"content-length", b"transfer-encoding", b"expect"),
        *(b"grpc-timeout", b"if-match", b"if-none-match"),
    }
)
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# With any parameters (RFC 9110, 5.6.6) but for another charset.
_PARAMETER = rb"""charset="?utf-8"?|(?!charset)[!#$%&'*+.^_`|~\w-]+=(?:[!#$%&'*+.^_`|~\w-]+|"[^"\\]*")"""
_JSON = re.compile(rb"application/json(?:[ \t]*;[ \t]*(?:%b)?)*" % _PARAMETER, re.IGNORECASE)
_HOST = re.compile(rb"(?:\[([0-9a-f:.%]+)\]|([^:\[\]]*))(?::[0-9]*)?", re.IGNORECASE)


def sorted_out(headers: RawHeaders, crossing: Mapping[bytes, str]) -> tuple[list[tuple[str, str]], dict[bytes, bytes]]:
    """What crosses, as the call's metadata, each as often as it is there; and what the door reads, lists joined."""
    metadata: list[tuple[str, str]] = []
    read: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in crossing:
            metadata.append((crossing[name], value.decode("latin-1")))
        elif name in _READ:
            read[name] = read[name] + b"," + value if name in read else value
    return metadata, read


def timeout_of(header: bytes | None) -> float | None:
    """The seconds that `grpc-timeout` leaves; None where it says nothing. Raises Refusal."""
    if header is None:
        return None
    found = _TIMEOUT.fullmatch(header)
    if found is None:
        raise invalid("grpc-timeout", "must be a number of up to 8 digits and a unit (H, M, S, m, u or n), as in 500m")
    return int(found[1]) * _UNITS[found[2]]


def require_json(read: Mapping[bytes, bytes]) -> None:
    """Raise Refusal for a body that is not said to be JSON, plain and in UTF-8. Silence is taken for that."""
    encoding = read.get(b"content-encoding", b"identity").lower()
    if not _JSON.fullmatch(read.get(b"content-type", b"application/json")) or encoding != b"identity":
        message = "The body must be JSON in UTF-8, not compressed: send content-type: application/json."
        hints = ((b"accept", b"application/json"), (b"accept-encoding", b"identity"))
        raise Refusal(message, "MEDIA_TYPE_UNKNOWN", 415, headers=hints)


def require_expectation(read: Mapping[bytes, bytes]) -> None:
    """Raise Refusal where a client expects what is unknown (RFC 9110, 10.1.1)."""
    if read.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise Refusal("The header expect may only be 100-continue.", "EXPECTATION_UNKNOWN", 417)


class Hosts:
    """By which names the door may be asked for, beside every IP address; None for any.

    A page of another site can have its own name point at this machine (DNS rebinding); its requests then come from a
    browser here, and look as if they were this machine's own, but for the name that they ask for.
    """

    def __init__(self, names: Iterable[str] | None) -> None:
        self._names = None if names is None else frozenset(name.lower().encode() for name in names)

    def require(self, headers: RawHeaders) -> None:
        """Raise Refusal for a request for another name."""
        if self._names is None:
            return
        for name, value in headers:
            if name == b"host" and not self._is_known(value):
                message = (
                    f"This server is not known as {quoted(value.decode('latin-1'))}: ask for localhost or an address, "
                    "or name it in TASKWELL_REST_HOSTS."
                )
                raise Refusal(message, "HOST_UNKNOWN", 421, StatusCode.PERMISSION_DENIED)

    def _is_known(self, host: bytes) -> bool:
        assert self._names is not None
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = (found[1] or found[2]).lower()
        try:
            return name in self._names or bool(ip_address(name.decode()))
        except ValueError:
            return False


def invalid(name: str, problem: str) -> Refusal:
    """A header that cannot be what it is."""
    return Refusal(f"The header {name} {problem}.", "HEADER_INVALID")
