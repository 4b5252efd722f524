"""Sources of an issuer's JWKS (RFC 7517): a URL or a file. Reading blocks."""

import ipaddress
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

MAX_BYTES = 2**20
"""Largest JWKS that is read (bytes)."""

_TIMEOUT = 5.0
"""Timeout of each network operation, and time after which no further part of the response is read (s)."""


class KeysError(Exception):
    """No keys could be read from a source. The message says why and quotes nothing that was read."""


@dataclass(frozen=True, slots=True)
class JwksFile:
    """A JWKS file."""

    path: str

    def __str__(self) -> str:
        return self.path

    def read(self) -> bytes:
        """Read the file. Raises KeysError if that fails or the file is longer than MAX_BYTES."""
        try:
            with Path(self.path).open("rb") as file:
                return _not_too_long(file.read(MAX_BYTES + 1))
        except OSError as error:
            raise KeysError(f"the file cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class JwksUrl:
    """A JWKS at an https URL, or at an http URL on a loopback address."""

    url: str

    def __str__(self) -> str:
        return urlsplit(self.url)._replace(query="").geturl()

    def read(self) -> bytes:
        """Fetch the JWKS. Raises KeysError if that fails or the response is longer than MAX_BYTES.

        Redirects are not followed: only this server's settings decide where keys come from.
        """
        try:
            with _opener.open(self.url, timeout=_TIMEOUT) as response:
                return _not_too_long(_content(response))
        except (OSError, HTTPException, UnicodeError) as error:
            raise KeysError(f"the issuer does not answer with its keys: {error}") from error


JwksSource = JwksFile | JwksUrl


def parse_jwks_source(text: str) -> JwksSource:
    """Parse a URL or a file name. Raises ValueError with a message for the operator."""
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
        """Return None, which makes urllib raise HTTPError for the redirect."""


_opener = urllib.request.build_opener(_NoRedirects)
_opener.addheaders = [("Accept", "application/json"), ("User-Agent", "taskwell")]


def _content(response: HTTPResponse) -> bytes:
    """Read the body. Raises TimeoutError if the issuer sends it too slowly."""
    ends = time.monotonic() + _TIMEOUT
    content = bytearray()
    while len(content) <= MAX_BYTES and (chunk := response.read1(2**16)):
        content += chunk
        if time.monotonic() > ends:
            raise TimeoutError("it takes too long")
    return bytes(content)


def _not_too_long(content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise KeysError(f"longer than {MAX_BYTES} bytes")
    return content


def _is_this_machine(host: str) -> bool:
    """True for localhost and loopback addresses. Asks no name server, whose reply could be forged."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
