"""What people look at: the OpenAPI document, and the page that shows it and tries each call, all from the package.

Every file has a route of its own, so no path that a client makes up is ever looked for on a disk.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ASSETS = Path(__file__).with_name("assets")

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
}

_HEADERS = {
    # Nothing from elsewhere, and nothing written into the page. The drawings of its style sheet are data: URLs.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
# A browser may keep what it got but asks each time whether it is current; not where the path has a version (s: a year).
_ASK = {"cache-control": "no-cache"}
_KEEP = {"cache-control": "public, max-age=31536000, immutable"}


def routes() -> list[Route]:
    """`/openapi.json`, and `/docs` with its assets."""
    assets = [path for path in ASSETS.rglob("*") if path.suffix in _TYPES and path.parent != ASSETS]
    return [
        _route("/openapi.json", ASSETS / "openapi.json", _ASK),
        _route("/docs", ASSETS / "index.html", _ASK),
        _route("/docs/start.js", ASSETS / "start.js", _ASK),
        *(_route(f"/docs/{path.relative_to(ASSETS)}", path, _KEEP) for path in assets),
    ]


def _route(path: str, file: Path, headers: Mapping[str, str]) -> Route:
    async def serve(request: Request) -> Response:
        content, etag = _content(file)
        known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
        all_headers = {**_HEADERS, **headers, "etag": etag}
        if known & {etag, "*"}:
            return Response(status_code=304, headers=all_headers)
        return Response(content, headers=all_headers, media_type=_TYPES[file.suffix])

    return Route(path, serve)


@cache
def _content(file: Path) -> tuple[bytes, str]:
    """The content of a file and its ETag. Read when it is first asked for: most workers never show the page."""
    content = file.read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
