"""Routes, made from the google.api.http annotations of a service (google/api/http.proto)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

from service.errors import InvalidArgument, Violation
from service.rest.fields import Path, fields_of, fill, is_mask, is_plain, path_of
from service.rest.query_parameters import assign, fill_from_query, unescape
from service.rest.responses import HttpError
from service.strict_json import parse_object

_PIECES = re.compile(r"\{([\w.]+)(?:=([^}]+))?\}|([^{}]+)")
# A colon begins the verb of a method, so that a path belongs to one method only.
_WILDCARDS = {"**": "[^:]*", "*": "[^/:]*"}


@dataclass(frozen=True, slots=True)
class Route:
    """One binding of a method."""

    http_method: str
    template: str
    """The path as the annotation has it, `/v1/tasks/{id}`."""
    pattern: re.Pattern[str]
    variables: tuple[Path, ...]
    """The fields that the path fills."""
    body: Path | None
    """The field that the body fills: None for no body, empty for the whole request."""
    mask: FieldDescriptor | None
    """The field mask that the members of the body fill if the query does not."""
    etag: Path | None
    """The etag in the request, of the resource that the path names."""
    answers_etag: bool
    call: str
    """The full name of the method, `/package.Service/Method`."""
    request: type[Message]

    def parse(self, match: re.Match[str], query: bytes, body: bytes) -> Message:
        """Return the request of the call. Raises HttpError, or InvalidArgument with everything that is wrong."""
        request = self.request()
        try:
            texts = [*map(unescape, match.groups())]
        except ValueError:
            raise HttpError("The path is not percent-encoded UTF-8.", "PATH_MALFORMED") from None
        members = self._members(body)
        wrong: list[Violation] = []
        if self.body is not None:
            target, place = request, "".join(f"{field.name}." for field in self.body)
            for field in self.body:
                target = getattr(target, field.name)
            target.SetInParent()
            wrong += fill(target, members, place)
        for path, text in zip(self.variables, texts, strict=True):
            wrong += assign(request, path, [text])
        if query:
            bound = self.variables if self.body is None else (*self.variables, self.body)
            wrong += fill_from_query(request, query, bound)
        if wrong:
            raise InvalidArgument(*wrong)
        if self.mask and self.body and not getattr(request, self.mask.name).paths:
            fields = fields_of(self.body[-1].message_type)
            paths = [fields[name].name for name in members] if self.http_method == "PATCH" else ["*"]
            getattr(request, self.mask.name).paths.extend(paths)
        return request

    def _members(self, body: bytes) -> dict[str, Any]:
        """Parse the body. Raises HttpError, also for a body that the method does not take."""
        if self.body is None:
            if body.strip() not in {b"", b"{}"}:
                raise HttpError("This method takes no body: what is in it belongs into the query.", "BODY_UNEXPECTED")
            return {}
        try:
            return parse_object(body)
        except ValueError as error:
            raise HttpError(f"The body {error}: send a JSON object in UTF-8.", "BODY_MALFORMED") from None


class Routes:
    """The routes of all methods of these services. Raises ValueError for an annotation that cannot be served."""

    def __init__(self, *services: ServiceDescriptor) -> None:
        self._routes = [route for service in services for method in service.methods for route in _routes_of(method)]

    def find(self, http_method: str, path: str) -> tuple[Route, re.Match[str]]:
        """Find the route of a request, by its path as it was sent. Raises HttpError."""
        found = self._matching(path)
        if place := found.get("GET" if http_method == "HEAD" else http_method):
            return place
        if found:
            raise method_unknown(http_method, self.allowed(path))
        raise HttpError("There is nothing at this path.", "ROUTE_UNKNOWN", 404, StatusCode.NOT_FOUND)

    def allowed(self, path: str) -> list[str]:
        """List the HTTP methods that a path takes; none if it is unknown."""
        found = self._matching(path)
        return sorted({*found, *(["HEAD"] if "GET" in found else []), "OPTIONS"}) if found else []

    def _matching(self, path: str) -> dict[str, tuple[Route, re.Match[str]]]:
        """Return the route for each HTTP method."""
        matches = ((route, route.pattern.fullmatch(path)) for route in self._routes)
        return {route.http_method: (route, match) for route, match in matches if match}


def method_unknown(http_method: str, allowed: Sequence[str]) -> HttpError:
    """Return the error for an HTTP method that a path does not take."""
    message = f"This path does not take {http_method}, but {', '.join(allowed)}."
    headers = [(b"allow", ", ".join(allowed).encode())]
    return HttpError(message, "METHOD_UNKNOWN", 405, StatusCode.UNIMPLEMENTED, headers=headers)


def _routes_of(method: MethodDescriptor) -> Iterator[Route]:
    """Yield the routes of a method, one for each binding. Raises ValueError."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    for binding in (rule, *rule.additional_bindings):
        if kind := binding.WhichOneof("pattern"):
            found = getattr(binding, kind)
            yield _route(method, binding, *((found.kind, found.path) if kind == "custom" else (kind.upper(), found)))


def _route(method: MethodDescriptor, binding: HttpRule, http_method: str, template: str) -> Route:
    request, pieces = method.input_type, _PIECES.findall(template)
    names = [name for name, _, _ in pieces if name]
    variables = [path_of(request, name) for name in names]
    body = {"": None, "*": ()}.get(binding.body, path_of(request, binding.body))
    is_body_lost = bool(binding.body) and body is None
    is_unknown = method.client_streaming or method.server_streaming or binding.response_body
    if is_body_lost or is_unknown or not all(variables) or not all(map(is_plain, body or ())):
        raise ValueError(f"{method.full_name} has an annotation that the gateway cannot serve: {binding}")
    masks = [field for field in request.fields if is_mask(field)]
    return Route(
        http_method,
        template,
        re.compile("".join(f"({_regex(inner or '*')})" if name else _regex(text) for name, inner, text in pieces)),
        tuple(filter(None, variables)),
        body,
        mask=masks[0] if masks and body and http_method in {"PATCH", "PUT"} else None,
        etag=path_of(request, ".".join([*names[-1].split(".")[:-1], "etag"])) if names else None,
        answers_etag="etag" in method.output_type.fields_by_name,
        call=f"/{method.containing_service.full_name}/{method.name}",
        request=GetMessageClass(request),
    )


def _regex(template: str) -> str:
    return "".join(_WILDCARDS.get(part) or re.escape(part) for part in re.split(r"(\*\*?)", template))
