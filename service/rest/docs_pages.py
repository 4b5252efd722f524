"""`/openapi.json`, and `/docs`, the page that shows it and tries each call. All files come from the package.

Each file has a path of its own, so no path from a request is looked up on disk.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from service.rest.gateway import Page
from service.rest.preconditions import is_known
from service.rest.responses import Response

ASSETS = Path(__file__).with_name("assets")

_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".png": b"image/png",
}

_HEADERS = (
    # Nothing from other origins and nothing inline. Swagger UI's style sheet has images as data: URLs.
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
# Browsers revalidate a file by its ETag, except where the path has a version; that they keep for a year.
_REVALIDATE, _KEEP = b"no-cache", b"public, max-age=31536000, immutable"


def docs_pages() -> dict[str, Page]:
    """Return the pages by their paths."""
    assets = [path for path in ASSETS.rglob("*") if path.suffix in _TYPES and path.parent != ASSETS]
    return {
        "/openapi.json": _page(ASSETS / "openapi.json", _REVALIDATE),
        "/docs": _page(ASSETS / "index.html", _REVALIDATE),
        "/docs/start.js": _page(ASSETS / "start.js", _REVALIDATE),
        **{f"/docs/{path.relative_to(ASSETS)}": _page(path, _KEEP) for path in assets},
    }


def _page(file: Path, cache_control: bytes) -> Page:
    async def serve(request: Mapping[bytes, bytes]) -> Response:
        content, etag = _content(file)
        headers = [*_HEADERS, (b"cache-control", cache_control), (b"etag", f'"{etag}"'.encode())]
        if is_known(request.get(b"if-none-match", b""), etag):
            return Response(304, headers, b"")
        return Response(200, [(b"content-type", _TYPES[file.suffix]), *headers], content)

    return serve


@cache
def _content(file: Path) -> tuple[bytes, str]:
    """Return a file and its ETag. Read at the first request: most workers never serve the page."""
    content = file.read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:32]
