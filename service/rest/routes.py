"""Which request is which call: routes made of the google.api.http annotations of a service (google/api/http.proto)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from google.api import annotations_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

from service.rest.fields import descriptor_of, is_message, is_plain
from service.rest.messages import fill, parsed, paths
from service.rest.queries import Path, assign, fill_from_query, path_of, unescaped
from service.rest.refusals import Refusal, unfit

_PIECES = re.compile(r"\{([\w.]+)(?:=([^}]+))?\}|([^{}]+)")


@dataclass(frozen=True, slots=True)
class Route:
    """One binding of a method. `body` is the path of what the body holds: None for nothing, empty for the whole."""

    http_method: str
    pattern: re.Pattern[str]
    variables: tuple[Path, ...]
    body: Path | None
    mask: FieldDescriptor | None
    etag: Path | None
    """Where a request has the etag of what its path names."""
    answers_etag: bool
    response_body: str
    call: str
    """The full name of the method, as gRPC calls it."""
    request: type[Message]
    verb: str
    """What stands behind the colon at the end of the path, `complete`; empty for none."""

    def read(self, match: re.Match[str], query: bytes, body: bytes) -> Message:
        """The request of the call. Raises Refusal with all that is wrong with it."""
        request, wrong = self.request(), []
        try:
            texts = [*map(unescaped, match.groups())]
        except ValueError:
            raise Refusal("The path is not percent-encoded UTF-8.", "PATH_MALFORMED") from None
        if self.body is not None:
            target, place = request, "".join(f"{field.name}." for field in self.body)
            for field in self.body:
                target = getattr(target, field.name)
            target.SetInParent()
            value = parsed(body)
            wrong = [*fill(target, value, place)]
        elif body.strip() not in {b"", b"{}"}:
            raise Refusal("This method takes no body: what is in it belongs into the query.", "BODY_UNEXPECTED")
        for path, text in zip(self.variables, texts, strict=True):
            wrong += assign(request, path, [text])
        bound = self.variables if self.body is None else (*self.variables, self.body)
        if wrong := [*wrong, *(fill_from_query(request, query, bound) if query else ())]:
            raise unfit(wrong)
        if self.mask and not getattr(request, self.mask.name).paths:
            names = paths(value, descriptor_of(target)) if self.http_method == "PATCH" else "*"
            getattr(request, self.mask.name).paths.extend(names)
        return request


class Routes:
    """The routes of all methods of these services that have annotations. Raises ValueError for one it cannot serve."""

    def __init__(self, *services: ServiceDescriptor) -> None:
        methods = chain.from_iterable(service.methods for service in services)
        routes = chain.from_iterable(map(_routes_of, methods))
        # What is more particular first: /a/b before /a/{id}.
        self._routes = sorted(
            routes, key=lambda route: len(re.sub(r"\(.*?\)", "", route.pattern.pattern)), reverse=True
        )
        self._verbs = {route.verb for route in self._routes}

    def find(self, http_method: str, path: str) -> tuple[Route, re.Match[str]]:
        """The route of a request, its path as it was sent. Raises Refusal."""
        found = self._matching(path)
        if place := found.get(http_method) or (found.get("GET") if http_method == "HEAD" else None):
            return place
        if found:
            raise method_unknown(http_method, self.allowed(path))
        raise Refusal("There is nothing at this path.", "ROUTE_UNKNOWN", 404, StatusCode.NOT_FOUND)

    def allowed(self, path: str) -> list[str]:
        """What may be done with a path; nothing if it is unknown."""
        found = self._matching(path)
        return sorted({*found, *(["HEAD"] if "GET" in found else []), "OPTIONS"}) if found else []

    def _matching(self, path: str) -> dict[str, tuple[Route, re.Match[str]]]:
        """For each HTTP method that the path takes its route. A path that ends in a method's verb is that method's."""
        last = path.rpartition(":")[2]
        verb = last if last in self._verbs else ""
        found: dict[str, tuple[Route, re.Match[str]]] = {}
        for route in self._routes:
            if route.verb == verb and (match := route.pattern.fullmatch(path)):
                found.setdefault(route.http_method, (route, match))
        return found


def method_unknown(http_method: str, allowed: Sequence[str]) -> Refusal:
    message = f"This path does not take {http_method}, but {', '.join(allowed)}."
    headers = [(b"allow", ", ".join(allowed).encode())]
    return Refusal(message, "METHOD_UNKNOWN", 405, StatusCode.UNIMPLEMENTED, headers=headers)


def _routes_of(method: MethodDescriptor) -> Iterator[Route]:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    request, answer = method.input_type, method.output_type
    for binding in (rule, *rule.additional_bindings):
        kind = binding.WhichOneof("pattern")
        if kind is None:
            continue
        pattern = getattr(binding, kind)
        http_method, template = (pattern.kind, pattern.path) if kind == "custom" else (kind.upper(), pattern)
        pieces = _PIECES.findall(template)
        names = [name for name, _, _ in pieces if name]
        variables = [path_of(request, name) for name in names]
        body = {"": None, "*": ()}.get(binding.body, path_of(request, binding.body))
        lost = (binding.body and body is None) or not all(map(is_plain, body or ()))
        if lost or not all(variables) or method.client_streaming or method.server_streaming:
            raise ValueError(f"{method.full_name} has an annotation that this door cannot serve: {binding}")
        masks = [field for field in request.fields if is_message(field, "google.protobuf.FieldMask")]
        yield Route(
            http_method,
            re.compile("".join(f"({_regex(inner or '*')})" if name else _regex(text) for name, inner, text in pieces)),
            tuple(filter(None, variables)),
            body,
            mask=masks[0] if masks and body and http_method in {"PATCH", "PUT"} else None,
            etag=path_of(request, ".".join([*names[-1].split(".")[:-1], "etag"])) if names else None,
            answers_etag="etag" in answer.fields_by_name,
            response_body=binding.response_body,
            call=f"/{method.containing_service.full_name}/{method.name}",
            request=GetMessageClass(request),
            verb=pieces[-1][2].partition(":")[2],
        )


def _regex(template: str) -> str:
    wild = {"**": ".*", "*": "[^/]*"}
    return "".join(wild.get(part) or re.escape(part) for part in re.split(r"(\*\*?)", template))
