"""`/openapi.json`, and `/docs`, the page that shows it and tries each call. All files come from the package.

Each file has a path of its own, so no path from a request is looked up on disk.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from mimetypes import MimeTypes
from pathlib import Path

from service.rest.gateway import Page
from service.rest.preconditions import is_known
from service.rest.responses import Response

ASSETS = Path(__file__).with_name("assets")

_HEADERS = (
    # Nothing from other origins and nothing inline. Swagger UI's style sheet has images as data: URLs.
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),  # to be revalidated by its ETag
)


def docs_pages(scheme: str) -> dict[str, Page]:
    """Return the pages by their paths. `scheme` is the document's name of the credential that this server takes."""
    types = MimeTypes(filenames=())
    assets = [path for path in ASSETS.rglob("*.*") if types.guess_type(path)[0] and path.suffix != ".txt"]
    paths = {ASSETS / "openapi.json": "/openapi.json", ASSETS / "index.html": "/docs"}
    return {
        paths.get(path, f"/docs/{path.relative_to(ASSETS)}"): _page(
            path, f"{types.guess_type(path)[0]}".encode(), scheme
        )
        for path in assets
    }


def _page(file: Path, content_type: bytes, scheme: str) -> Page:
    async def serve(request: Mapping[bytes, bytes]) -> Response:
        content, etag = _content(file, scheme)
        headers = [*_HEADERS, (b"etag", f'"{etag}"'.encode())]
        if is_known(request.get(b"if-none-match", b""), etag):
            return Response(304, headers, b"")
        return Response(200, [(b"content-type", content_type), *headers], content)

    return serve


@cache
def _content(file: Path, scheme: str) -> tuple[bytes, str]:
    """Return a file and its ETag. Read at the first request: most workers never serve the page."""
    content = file.read_bytes()
    if file.name == "openapi.json":
        content = _with_scheme(content, scheme)
    return content, hashlib.sha256(content).hexdigest()[:32]


def _with_scheme(content: bytes, scheme: str) -> bytes:
    """Return the document without the credentials that this server does not take."""
    document = json.loads(content)
    components = document["components"]
    components["securitySchemes"] = {scheme: components["securitySchemes"][scheme]}
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["security"] = [each for each in operation["security"] if scheme in each]
    return json.dumps(document, indent=2, ensure_ascii=False).encode()
