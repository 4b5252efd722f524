"""Where an issuer publishes its keys: a JWKS (RFC 7517) behind a URL or in a file. Reading it blocks."""

import ipaddress
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

MOST_BYTES = 2**20
"""The longest JWKS that is read (bytes)."""

_TIMEOUT = 5.0
"""How long the issuer may take for one step, and how long for all of them before no other is begun (s)."""


class KeysError(Exception):
    """There are no keys to be had from a source; the message says why, without what was read."""


@dataclass(frozen=True, slots=True)
class JwksFile:
    """A JWKS in a file."""

    path: str

    def __str__(self) -> str:
        return self.path

    def read(self) -> bytes:
        """The content of the file. Raises KeysError if it cannot be read or is longer than MOST_BYTES."""
        try:
            with Path(self.path).open("rb") as file:
                return _not_too_long(file.read(MOST_BYTES + 1))
        except OSError as error:
            raise KeysError(f"the file cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class JwksUrl:
    """A JWKS behind a URL: https, or http on this machine."""

    url: str

    def __str__(self) -> str:
        return urlsplit(self.url)._replace(query="").geturl()

    def read(self) -> bytes:
        """What the issuer answers. Raises KeysError if it cannot be had or is longer than MOST_BYTES.

        Redirects are not followed: where the keys come from is for this server's settings to say.
        """
        try:
            with _opener.open(self.url, timeout=_TIMEOUT) as response:
                return _not_too_long(_content(response))
        except (OSError, HTTPException, UnicodeError) as error:
            raise KeysError(f"the issuer does not answer with its keys: {error}") from error


JwksSource = JwksFile | JwksUrl


def parse_jwks_source(text: str) -> JwksSource:
    """Read a URL or the name of a file. Raises ValueError with a sentence for whoever set it."""
    if "://" not in text:
        return JwksFile(text)
    url = urlsplit(text)
    if url.username is not None or not url.hostname:
        raise ValueError("must be a URL with a host and without a user or password")
    if url.scheme != "https" and not (url.scheme == "http" and _is_this_machine(url.hostname)):
        raise ValueError(
            "must be an https:// URL, http:// on a loopback address, or the name of a file: whoever can change the "
            "keys on their way can be every user"
        )
    return JwksUrl(text)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_more: object) -> None:
        """Answer None, which makes urllib raise the redirect as the error that it is to us."""


_opener = urllib.request.build_opener(_NoRedirects)
_opener.addheaders = [("Accept", "application/json"), ("User-Agent", "taskwell")]


def _content(response: HTTPResponse) -> bytes:
    """The body, unless it comes so slowly that it would never end."""
    ends = time.monotonic() + _TIMEOUT
    content = bytearray()
    while len(content) <= MOST_BYTES and (chunk := response.read1(2**16)):
        content += chunk
        if time.monotonic() > ends:
            raise TimeoutError("it takes too long")
    return bytes(content)


def _not_too_long(content: bytes) -> bytes:
    if len(content) > MOST_BYTES:
        raise KeysError(f"longer than {MOST_BYTES} bytes")
    return content


def _is_this_machine(host: str) -> bool:
    """Whether a host is this machine without anybody being asked: a name server could lie."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
