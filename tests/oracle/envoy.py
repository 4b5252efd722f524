"""Compares the REST gateway with Envoy's gRPC-JSON transcoder: the same annotations, the same gRPC server.

    make compare-envoy

Every request of exchanges.py is sent to both, each with a user of its own, and status and JSON must be equal; what the
server makes up (ids, times, page tokens) is replaced by when it was first seen. Where they differ the request names the
difference, docs/guide/rest.md must have its reason, and it must still be there. Exit status 1 otherwise.
"""

import http.client
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import any_pb2, descriptor_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from taskwell.v1 import tasks_pb2

from service.log import configure_log
from tests.envoy import listener, running_envoy, socket_address
from tests.oracle.exchanges import EXCHANGES, WORDS, Exchange
from tests.running import new_user, running_addresses, settings_for

ROOT = Path(__file__).resolve().parents[2]
REASONS = ROOT / "docs" / "guide" / "rest.md"
PROTOSET = ROOT / "generated" / "taskwell.protoset"
_EXTENSIONS = "type.googleapis.com/envoy.extensions"

_MADE_UP = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[0-9:.]+Z|\b[A-Za-z0-9_-]{43}\b")


class Answer(NamedTuple):
    """A response, in a form in which two can be compared."""

    status: int
    body: Any


class Endpoint:
    """One of the two, as one user sees it."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=30)
        self._user = new_user()
        self._kept: dict[str, str] = {}
        self._seen: dict[str, str] = {}

    def answer(self, exchange: Exchange) -> Answer:
        """Send a request and read its answer."""
        user = f"{self._user}-apart" if exchange.apart else self._user
        headers = {"x-user-id": user, "content-type": "application/json", **exchange.headers}
        headers = {name: value for name, value in headers.items() if value}
        self._connection.request(exchange.verb, exchange.path.format(**self._kept), exchange.body, headers)
        response = self._connection.getresponse()
        text = response.read().decode(errors="replace")
        body: Any = json.loads(text) if response.headers["content-type"] == "application/json" else text
        if exchange.keep == "token":
            self._kept["token"] = body["nextPageToken"]
        elif exchange.keep:
            self._kept |= {exchange.keep: body["id"], f"{exchange.keep}_tail": body["id"][1:]}
        # What only one of them may have seen must not be counted.
        return Answer(response.status, _comparable(body, {**self._seen} if exchange.differs else self._seen))


def _comparable(value: Any, seen: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _comparable(each, seen) for name, each in value.items()}
    if isinstance(value, list):
        return [_comparable(each, seen) for each in value]
    if isinstance(value, str):
        return _MADE_UP.sub(lambda found: seen.setdefault(found[0], f"made up {len(seen)}"), value)
    return value


class Comparison(NamedTuple):
    """The two responses to one request."""

    exchange: Exchange
    ours: Answer
    theirs: Answer

    @property
    def complaint(self) -> str:
        """What is wrong with this outcome, if anything is."""
        equal, named = self.ours == self.theirs, self.exchange.differs
        if equal and named:
            return f"names the difference {named!r}, but the answers are equal"
        if not equal and not named:
            return f"differs\n    ours:    {self.ours}\n    Envoy's: {self.theirs}"
        if named == WORDS and self.ours.status != self.theirs.status:
            return f"differs in more than words: {self.ours.status} here, {self.theirs.status} there"
        return ""


def compared(ours: Endpoint, theirs: Endpoint) -> list[Comparison]:
    """Every request of the list, sent to both."""
    return [Comparison(exchange, ours.answer(exchange), theirs.answer(exchange)) for exchange in EXCHANGES]


def reasons() -> set[str]:
    """The differences that docs/guide/rest.md gives a reason for: the first column of the table between its markers."""
    _, _, rest = REASONS.read_text().partition("<!-- envoy -->\n")
    table, _, _ = rest.partition("<!-- /envoy -->")
    return {row.split("|")[1].strip() for row in table.splitlines()[2:]}


@contextmanager
def running_transcoder(grpc_address: str) -> Iterator[str]:
    """The address of an Envoy whose transcoder is a client of this gRPC server, until the block is left."""
    with tempfile.NamedTemporaryFile() as descriptors:
        Path(descriptors.name).write_bytes(_descriptors())
        with running_envoy(_config(grpc_address, Path(descriptors.name))) as administration:
            address = listener(administration)
            assert address is not None
            yield address


def _descriptors() -> bytes:
    """Our protoset, and the types of error details, without which Envoy cannot print them."""
    files = descriptor_pb2.FileDescriptorSet.FromString(PROTOSET.read_bytes())
    known = {file.name for file in files.file}
    for module in (any_pb2, duration_pb2, status_pb2, error_details_pb2):
        if module.DESCRIPTOR.name not in known:
            files.file.append(descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb))
    return files.SerializeToString()


def _config(grpc_address: str, descriptors: Path) -> dict[str, Any]:
    """Envoy set up to be as strict and as talkative as the gateway is."""
    host, _, port = grpc_address.rpartition(":")
    transcoder = {
        "@type": f"{_EXTENSIONS}.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": str(descriptors),
        "services": [service.full_name for service in tasks_pb2.DESCRIPTOR.services_by_name.values()],
        "convert_grpc_status": True,
        "print_options": {"always_print_primitive_fields": True},
        "request_validation_options": {"reject_unknown_method": True, "reject_unknown_query_parameters": True},
    }
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "rest",
        "http_filters": [
            {"name": "transcoder", "typed_config": transcoder},
            {"name": "router", "typed_config": {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"}},
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "grpc"}}]}
            ]
        },
    }
    upstream = {
        "@type": f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": socket_address("127.0.0.1", 0),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "grpc",
                    "typed_extension_protocol_options": {
                        f"{_EXTENSIONS.partition('/')[2]}.upstreams.http.v3.HttpProtocolOptions": upstream
                    },
                    "load_assignment": {
                        "cluster_name": "grpc",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(host, int(port))}}]}],
                    },
                }
            ],
        },
    }


def main() -> int:
    configure_log("error", "json")
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(f"sqlite:///{folder}/taskwell.db", rest_address="127.0.0.1:0")
        with running_addresses(settings) as addresses, running_transcoder(addresses.grpc) as envoy:
            outcomes = compared(Endpoint(addresses.rest), Endpoint(envoy))
    complaints = [f"{each.exchange.name}: {each.complaint}" for each in outcomes if each.complaint]
    named = {each.exchange.differs for each in outcomes} - {""}
    complaints += [f"{REASONS.name} gives no reason for the difference {name!r}" for name in sorted(named - reasons())]
    complaints += [f"{REASONS.name} has a reason for {name!r}, which is nowhere" for name in sorted(reasons() - named)]
    print(*complaints, sep="\n", end="\n" if complaints else "")
    equal = sum(each.ours == each.theirs for each in outcomes)
    print(f"{len(outcomes)} requests: {equal} answered alike, {len(outcomes) - equal} not, for the reasons given")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
