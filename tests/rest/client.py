"""The methods as a user calls them over REST, with the interface of `Api`, so that one test can use gRPC and REST."""

import json
import socket
import ssl
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import urlencode

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from tests.methods import as_http, response_type
from tests.running import Api, caller

DEADLINE = 30.0  # s; long, so that it only ends what hangs
CODES = {code.value[0]: code for code in grpc.StatusCode}
assert error_details_pb2  # the details of errors are decoded by their names

# As grpc-gateway's documentation has it; HTTP's own words for a few refusals come beside them.
STATUSES = {
    grpc.StatusCode.CANCELLED: {499},
    grpc.StatusCode.UNKNOWN: {500},
    grpc.StatusCode.INVALID_ARGUMENT: {400, 415, 417},
    grpc.StatusCode.DEADLINE_EXCEEDED: {504, 408},
    grpc.StatusCode.NOT_FOUND: {404},
    grpc.StatusCode.ALREADY_EXISTS: {409},
    grpc.StatusCode.PERMISSION_DENIED: {403, 421},
    grpc.StatusCode.RESOURCE_EXHAUSTED: {429, 413, 431},
    grpc.StatusCode.FAILED_PRECONDITION: {400},
    grpc.StatusCode.ABORTED: {409, 412},
    grpc.StatusCode.OUT_OF_RANGE: {400},
    grpc.StatusCode.UNIMPLEMENTED: {501, 405},
    grpc.StatusCode.INTERNAL: {500},
    grpc.StatusCode.UNAVAILABLE: {503},
    grpc.StatusCode.DATA_LOSS: {500},
    grpc.StatusCode.UNAUTHENTICATED: {401},
}


@dataclass(frozen=True)
class Response:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason of the ErrorInfo that every error has; what else an error must be is looked at as well."""
        status = status_of(self)
        assert self.headers["content-type"] == "application/json"
        assert self.status in STATUSES[CODES[status.code]], (self.status, self.body)
        assert status.message
        [info] = [detail for detail in self.json["details"] if detail["@type"].endswith("/google.rpc.ErrorInfo")]
        assert info["domain"] == "taskwell.v1"
        return str(info["reason"])

    @property
    def violations(self) -> dict[str, str]:
        """What is wrong with which field."""
        bad = [detail for detail in self.json["details"] if detail["@type"].endswith("/google.rpc.BadRequest")]
        return {each["field"]: each["description"] for detail in bad for each in detail["fieldViolations"]}


def status_of(response: Response) -> status_pb2.Status:
    return json_format.Parse(response.body, status_pb2.Status())


class Client:
    """Sends REST requests; each thread has a connection of its own."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None) -> None:
        self.address = address
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self._tls = tls
        self._local = threading.local()
        self._open: list[HTTPConnection] = []
        self.pool = ThreadPoolExecutor(50)

    def connection(self) -> HTTPConnection:
        """A new connection."""
        if self._tls:
            return HTTPSConnection(self.host, self.port, timeout=DEADLINE, context=self._tls)
        return HTTPConnection(self.host, self.port, timeout=DEADLINE)

    def socket(self) -> socket.socket:
        """A new connection without any HTTP."""
        return socket.create_connection((self.host, self.port), timeout=DEADLINE)

    def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | str | None = None
    ) -> Response:
        """Send one request. A list of pairs as headers is for `exchange`."""
        connection = self._kept()
        try:
            connection.request(method, path, body.encode() if isinstance(body, str) else body, dict(headers or {}))
            answer = connection.getresponse()
            return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except BaseException:
            connection.close()
            raise

    def exchange(self, request: bytes) -> bytes:
        """Send these bytes over a connection of their own, and answer all that comes back until it is closed."""
        with self.socket() as raw:
            raw.sendall(request)
            return b"".join(iter(lambda: raw.recv(65536), b""))

    def forget(self) -> None:
        """Use another connection from now on, in this thread."""
        self._local.__dict__.clear()

    def close(self) -> None:
        self.pool.shutdown()
        for connection in self._open:
            connection.close()

    def _kept(self) -> HTTPConnection:
        if not hasattr(self._local, "connection"):
            self._local.connection = self.connection()
            self._open.append(self._local.connection)
        kept: HTTPConnection = self._local.connection
        return kept


class RestError(grpc.RpcError):
    """A refusal, as a gRPC client would see it."""

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.response = response
        self._status = status_of(response)
        assert response.reason

    def code(self) -> grpc.StatusCode:
        return CODES[self._status.code]

    def details(self) -> str:
        return str(self._status.message)

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._status.SerializeToString()),)


class RestCall:
    """A request under way, as a gRPC client would see it."""

    def __init__(self, future: "Future[Message]") -> None:
        self._future = future

    def result(self) -> Message:
        return self._future.result()

    def exception(self) -> BaseException | None:
        return self._future.exception()

    def done(self) -> bool:
        return self._future.done()

    def code(self) -> grpc.StatusCode:
        error = self._future.exception()
        return error.code() if isinstance(error, RestError) else grpc.StatusCode.OK

    def details(self) -> str:
        error = self._future.exception()
        return error.details() if isinstance(error, RestError) else ""

    def trailing_metadata(self) -> Any:
        error = self._future.exception()
        return error.trailing_metadata() if isinstance(error, RestError) else ()


class RestApi(Api):
    """The interface of `Api`, over REST."""

    def __init__(self, client: Client, user: str | None = None, *, token: str | None = None) -> None:
        self.client = client
        self.user, self.metadata = caller(user, token)

    def as_user(self, user: str | None = None) -> "RestApi":
        return RestApi(self.client, user)

    def start(self, method: str, request: Message) -> Any:
        return RestCall(self.client.pool.submit(self._send, method, request))

    def send(self, method: str, path: str, body: Any = None, headers: Iterable[tuple[str, str]] = ()) -> Response:
        """Any request of this user; a body that is no text becomes JSON."""
        text = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
        given = {"content-type": "application/json"} if body is not None else {}
        return self.client.send(method, path, {**dict(self.metadata), **given, **dict(headers)}, text)

    def _send(self, method: str, request: Message) -> Message:
        http_method, path, query, body = as_http(method, request)
        target = f"{path}?{urlencode(query)}" if query else path
        response = self.send(http_method, target, body)
        if response.status != 200:
            raise RestError(response)
        answer: Message = json_format.Parse(response.body, response_type(method)())
        etag = getattr(answer, "etag", None)
        assert (f'"{etag}"' if etag else None) == response.headers.get("etag")
        return answer
