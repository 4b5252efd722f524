"""Sources of an issuer's JWKS (RFC 7517): a URL or a file. Reading blocks."""

import ipaddress
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

MAX_BYTES = 2**20
"""Largest JWKS that is read (bytes)."""

_TIMEOUT = 5.0
"""Time for reading a source: connect, handshake, head and body together (s)."""

_MAX_UNFINISHED = 4
"""Readings that may go on after their time is up, each in a thread; until one of them ends there is no other."""


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
            return _in_time(self._content)
        except OSError as error:
            raise KeysError(f"the file cannot be read: {error.strerror or error}") from error

    def _content(self) -> bytes:
        with Path(self.path).open("rb") as file:
            return _not_too_long(file.read(MAX_BYTES + 1))


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
            return _in_time(self._content)
        except (OSError, HTTPException, UnicodeError) as error:
            raise KeysError(f"the issuer does not answer with its keys: {error}") from error

    def _content(self) -> bytes:
        try:
            with _opener.open(self.url, timeout=_TIMEOUT) as response:
                return _not_too_long(_body(response))
        except HTTPError as error:
            error.close()
            raise


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
_unfinished = threading.BoundedSemaphore(_MAX_UNFINISHED)


def _in_time(read: Callable[[], bytes]) -> bytes:
    """Call a function that blocks, in a thread that is left alone when the time is up. Raises TimeoutError then.

    The timeout of a socket starts again with each byte that arrives, and nothing limits how long a file may take.
    """
    if not _unfinished.acquire(blocking=False):
        raise TimeoutError("earlier attempts have not ended")
    content: Future[bytes] = Future()

    def run() -> None:
        try:
            content.set_result(read())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            content.set_exception(error)
        finally:
            _unfinished.release()

    try:
        threading.Thread(target=run, name="jwks", daemon=True).start()
    except RuntimeError as error:
        _unfinished.release()
        raise OSError(str(error)) from error
    try:
        return content.result(_TIMEOUT)
    except TimeoutError:
        raise TimeoutError("timed out") from None


def _body(response: HTTPResponse) -> bytes:
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
