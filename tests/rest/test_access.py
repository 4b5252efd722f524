"""Access to REST: tokens, host names (DNS rebinding), origins (CORS), TLS and client certificates."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from cryptography import x509

from service.auth.dev_tokens import mint_token
from service.server.app import Service
from service.server.authentication import expected_of
from service.server.startup import StartError
from service.tls.certificates import Certificates
from service.tls.files import CertificateFiles
from service.tls.ssl_context import server_context
from tests.rest.client import DEADLINE, Client, RestApi
from tests.rest.conftest import ANY_PORT
from tests.rest.test_attacks import JSON, request, responses
from tests.running import new_user, running_addresses, settings_for
from tests.tls.issuing import GATEWAY, HOSTS, SPIFFE_ID, Authority, Files, Issued

SECRET = "what both of them know and nobody else"
TOKENS: dict[str, Any] = {
    "auth": "jwt",
    "jwt_secret": SECRET,
    "jwt_issuer": "https://issuer.example",
    "jwt_audience": "taskwell",
}
SCOPED: dict[str, Any] = {**TOKENS, "jwt_scope_claim": "scope"}


@contextmanager
def serving(sqlite_url: str, *, tls: ssl.SSLContext | None = None, **settings: Any) -> Iterator[Client]:
    with running_addresses(settings_for(sqlite_url, rest_address=ANY_PORT, **settings)) as addresses:
        client = Client(addresses.rest, tls)
        yield client
        client.close()


def token_of(sqlite_url: str, user: str, *, scopes: str = "tasks.read tasks.write", expires_in: int = 60) -> str:
    expected = expected_of(settings_for(sqlite_url, **SCOPED))
    return mint_token(SECRET, expected, user, scopes, int(time.time()), expires_in)


# Tokens


@pytest.fixture(scope="module")
def with_tokens(sqlite_url: str) -> Iterator[Client]:
    with serving(sqlite_url, **SCOPED) as client:
        yield client


def test_the_subject_of_a_token_is_the_user(with_tokens: Client, sqlite_url: str) -> None:
    user = new_user()
    api = RestApi(with_tokens, token=token_of(sqlite_url, user))
    task = api.create()
    assert task == RestApi(with_tokens, token=token_of(sqlite_url, user)).get(task.id)
    assert list(RestApi(with_tokens, token=token_of(sqlite_url, new_user())).list().tasks) == []


@pytest.mark.parametrize(
    ("given", "reason", "challenge"),
    [
        ([], "TOKEN_MISSING", 'Bearer realm="taskwell"'),
        (["x-user-id: alice"], "TOKEN_MISSING", 'Bearer realm="taskwell"'),
        (["authorization: Bearer x"], "TOKEN_MALFORMED", 'Bearer realm="taskwell", error="invalid_token"'),
        (["authorization: Basic YWxpY2U6"], "TOKEN_MALFORMED", 'Bearer realm="taskwell", error="invalid_token"'),
        (["authorization: {good}\xe9"], "TOKEN_MALFORMED", 'Bearer realm="taskwell", error="invalid_token"'),
        (["authorization: {expired}"], "TOKEN_EXPIRED", 'Bearer realm="taskwell", error="invalid_token"'),
        (["authorization: {good}", "authorization: {good}"], "TOKEN_MALFORMED", None),
        (["authorization: {other}", "Authorization: {good}"], "TOKEN_MALFORMED", None),
        (["authorization: {good}, {other}"], "TOKEN_MALFORMED", None),
        (["grpc-metadata-authorization: {good}"], "TOKEN_MISSING", None),
        (["proxy-authorization: {good}"], "TOKEN_MISSING", None),
        (["cookie: authorization={good}"], "TOKEN_MISSING", None),
    ],
)
def test_a_401_has_a_challenge(
    with_tokens: Client, sqlite_url: str, given: list[str], reason: str, challenge: str | None
) -> None:
    tokens = {
        "good": f"Bearer {token_of(sqlite_url, 'alice')}",
        "other": f"Bearer {token_of(sqlite_url, 'mallory')}",
        "expired": f"Bearer {token_of(sqlite_url, 'alice', expires_in=-60)}",
    }
    raw = request("GET", "/v1/tasks", *[header.format(**tokens) for header in given])
    [answer] = responses(with_tokens.exchange(raw))
    assert (answer.status, answer.reason) == (401, reason)
    assert challenge in {None, answer.headers["www-authenticate"]}
    for told in tokens.values():
        assert told[-40:] not in answer.body.decode()


def test_a_token_needs_the_scope(with_tokens: Client, sqlite_url: str) -> None:
    reader = RestApi(with_tokens, token=token_of(sqlite_url, new_user(), scopes="tasks.read"))
    assert reader.send("GET", "/v1/tasks").status == 200
    refused = reader.send("POST", "/v1/tasks", {"title": "x"})
    assert (refused.status, refused.reason) == (403, "SCOPE_MISSING")
    challenge = 'Bearer realm="taskwell", error="insufficient_scope", scope="tasks.write"'
    assert refused.headers["www-authenticate"] == challenge


def test_a_name_in_a_header_means_nothing_beside_a_token(with_tokens: Client, sqlite_url: str) -> None:
    alice, mallory = new_user(), new_user()
    task = RestApi(with_tokens, token=token_of(sqlite_url, alice)).create()
    token = f"authorization: Bearer {token_of(sqlite_url, mallory)}"
    [answer] = responses(with_tokens.exchange(request("GET", f"/v1/tasks/{task.id}", token, f"x-user-id: {alice}")))
    assert (answer.status, answer.reason) == (404, "TASK_NOT_FOUND")


# Names


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8080", "localhost", "LocalHost:1", "[::1]", "[::1]:80", "10.0.0.1"]
)
def test_host_may_be_localhost_or_any_address(client: Client, host: str) -> None:
    raw = request("GET", "/v1/tasks", "x-user-id: alice").replace(b"127.0.0.1", host.encode())
    [answer] = responses(client.exchange(raw))
    assert answer.status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "a b",
        "[x]",
        "@localhost",
    ],
)
@pytest.mark.parametrize("path", ["/v1/tasks", "/healthz", "/nowhere"])
def test_another_host_name_is_refused(client: Client, host: str, path: str) -> None:
    raw = request("GET", path, "x-user-id: alice").replace(b"127.0.0.1", host.encode())
    [answer] = responses(client.exchange(raw))
    assert (answer.status, answer.reason) == (421, "HOST_UNKNOWN")


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"rest_hosts": "tasks.example, other.example"}, 200),
        ({"rest_hosts": "other.example"}, 421),
        ({"rest_hosts": "*"}, 200),
        ({"trust_network": True}, 200),
        (TOKENS, 401),
        ({**TOKENS, "rest_hosts": "other.example"}, 421),
    ],
)
def test_rest_hosts_lists_host_names(sqlite_url: str, settings: dict[str, Any], status: int) -> None:
    raw = request("GET", "/v1/tasks", "x-user-id: alice").replace(b"127.0.0.1", b"Tasks.example:80")
    with serving(sqlite_url, **settings) as client:
        [answer] = responses(client.exchange(raw))
        assert answer.status == status


# Other origins

APP = "https://app.example"


@pytest.fixture(scope="module")
def with_origins(sqlite_url: str) -> Iterator[Client]:
    with serving(sqlite_url, rest_cors_origins=f"{APP}, https://other.example") as client:
        yield client


def preflight(origin: str, method: str = "PATCH", headers: str = "x-user-id,content-type,if-match") -> dict[str, str]:
    asked = {"access-control-request-method": method, "access-control-request-headers": headers}
    return {"origin": origin, **asked}


def test_cors_is_off_by_default(client: Client) -> None:
    for method, headers in (("OPTIONS", preflight(APP)), ("GET", {"origin": APP, "x-user-id": "alice"})):
        answer = client.send(method, "/v1/tasks", headers)
        assert answer.status in {200, 204}
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("origin", [APP, "https://other.example"])
def test_cors_allows_listed_origins(with_origins: Client, origin: str) -> None:
    asked = with_origins.send("OPTIONS", "/v1/tasks/1", preflight(origin))
    assert (asked.status, asked.headers["access-control-allow-origin"]) == (200, origin)
    assert "PATCH" in asked.headers["access-control-allow-methods"]
    for status, path in ((200, "/v1/tasks"), (400, "/v1/tasks/1"), (404, "/nowhere")):
        answer = with_origins.send("GET", path, {"origin": origin, "x-user-id": "alice"})
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, origin)
        assert {"etag", "retry-after"} <= {*answer.headers["access-control-expose-headers"].lower().split(", ")}
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", f"{APP}.evil.example", "http://app.example", "null"])
def test_cors_refuses_other_origins(with_origins: Client, origin: str) -> None:
    asked = with_origins.send("OPTIONS", "/v1/tasks/1", preflight(origin))
    answer = with_origins.send("GET", "/v1/tasks", {"origin": origin, "x-user-id": "alice"})
    assert (asked.status, asked.body) == (400, b"Disallowed CORS origin")
    assert "Origin" in asked.headers["vary"]
    for each in (asked, answer):
        assert "access-control-allow-origin" not in each.headers


def test_cors_allows_listed_headers_alone(with_origins: Client) -> None:
    for header in ("authorization", "x-http-method-override", "grpc-metadata-x-user-id"):
        assert with_origins.send("OPTIONS", "/v1/tasks", preflight(APP, headers=header)).status == 400


# TLS


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def context(authority: Authority, client: Issued | None = None) -> ssl.SSLContext:
    """How a client verifies the server, and what it shows."""
    made = ssl.create_default_context(cadata=authority.pem.decode())
    if client:
        with NamedTemporaryFile() as file:
            file.write(client.key + client.chain)
            file.flush()
            made.load_cert_chain(file.name)
    return made


def listed(address: str, tls: ssl.SSLContext) -> tuple[int, str]:
    """What comes of asking for a list over a connection of its own; nothing if there is no connection."""
    client = Client(address, tls)
    try:
        answer = client.send("GET", "/v1/tasks", {"x-user-id": "alice"})
    except OSError:
        return 0, ""
    finally:
        client.close()
    return answer.status, "" if answer.status == 200 else answer.reason


def test_with_a_certificate_rest_is_served_over_tls_alone(
    sqlite_url: str, tmp_path: Path, authority: Authority
) -> None:
    files = Files(tmp_path, authority.issue(*HOSTS))
    with serving(sqlite_url, tls=context(authority), **files.settings) as client:
        api = RestApi(client)
        assert [api.create()] == list(api.list().tasks)
        assert listed(client.address, context(Authority())) == (0, "")
        plain = Client(client.address)
        assert SECRET not in repr(plain.exchange(request("GET", "/v1/tasks", "x-user-id: alice")))
        plain.close()


def test_old_versions_of_tls_are_not_spoken(tmp_path: Path, authority: Authority) -> None:
    files = Files(tmp_path, authority.issue(*HOSTS))
    found = CertificateFiles(**{name.removeprefix("tls_"): path for name, path in files.settings.items()})
    certificates = Certificates(found)
    made = server_context(found.cert, found.key, certificates.pem, certificates.follow())
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.fixture(scope="module")
def mutual(sqlite_url: str, tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[str]:
    """The address of a service that takes calls of two services."""
    files = Files(tmp_path_factory.mktemp("mutual"), authority.issue(*HOSTS), authority.pem)
    with serving(sqlite_url, tls=None, **files.settings, tls_client_names=f"{GATEWAY}, {SPIFFE_ID}") as client:
        yield client.address


def test_mutual_tls_accepts_listed_client_names(mutual: str, authority: Authority) -> None:
    spiffe = authority.issue_for([x509.DNSName("other.example"), x509.UniformResourceIdentifier(SPIFFE_ID)])
    for client in (authority.issue(GATEWAY), spiffe):
        assert listed(mutual, context(authority, client)) == (200, "")


def test_mutual_tls_refuses_clients_without_a_certificate_of_the_ca(mutual: str, authority: Authority) -> None:
    for client in (None, Authority().issue(GATEWAY)):
        assert listed(mutual, context(authority, client)) == (0, "")


@pytest.mark.parametrize(
    ("names", "common_name"),
    [
        ([x509.DNSName("other.example")], GATEWAY),
        ([], GATEWAY),
        ([x509.DNSName(f"{GATEWAY}.evil.example")], "client"),
        ([x509.DNSName("*.example")], "client"),
        ([x509.DNSName(f"{GATEWAY},other.example")], "client"),
        ([x509.RFC822Name(f"x@{GATEWAY}"), x509.RFC822Name(GATEWAY)], "client"),
        ([x509.DNSName(SPIFFE_ID.removeprefix("spiffe://"))], "client"),
    ],
)
def test_mutual_tls_refuses_client_names_that_are_not_listed(
    mutual: str, authority: Authority, names: list[x509.GeneralName], common_name: str
) -> None:
    client = authority.issue_for(names, common_name=common_name)
    assert listed(mutual, context(authority, client)) == (0, "")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_mutual_tls_checks_names_when_a_session_is_resumed(
    mutual: str, authority: Authority, version: ssl.TLSVersion
) -> None:
    host, _, port = mutual.rpartition(":")
    allowed, other = (context(authority, authority.issue(name)) for name in (GATEWAY, "other.example"))
    session = None
    for tls, expected in ((allowed, True), (allowed, True), (other, False)):
        tls.maximum_version = version
        with socket.create_connection((host, int(port)), timeout=DEADLINE) as raw, suppress(OSError):
            with tls.wrap_socket(
                raw, server_hostname="localhost", session=session if tls is allowed else None
            ) as secure:
                secure.sendall(request("GET", "/healthz"))
                is_served = b" 200 " in secure.recv(65536)
                session = secure.session
            assert is_served is expected


def test_a_refused_client_is_not_served_whatever_its_headers_say(mutual: str, authority: Authority) -> None:
    client = Client(mutual, context(authority, authority.issue("other.example")))
    forged = {"peer_dns": GATEWAY, "x-forwarded-client-cert": f"DNS={GATEWAY}", "grpc-metadata-peer_dns": GATEWAY}
    with pytest.raises(OSError, match=r"(?i)eof|reset|closed|broken"):
        client.send("GET", "/v1/tasks", {"x-user-id": "alice", **forged})
    client.close()


def test_certificates_and_the_ca_of_the_clients_are_renewed_under_connections_that_stay(
    sqlite_url: str, tmp_path: Path, authority: Authority
) -> None:
    old, new = Authority(), Authority()
    files = Files(tmp_path, authority.issue(*HOSTS), old.pem)
    assert files.client_ca
    with serving(
        sqlite_url, tls=context(authority, old.issue(GATEWAY)), **files.settings, tls_client_names=GATEWAY
    ) as client:
        assert client.send("GET", "/v1/tasks", {"x-user-id": "alice"}).status == 200
        for ca, other in ((old, new), (new, old)):
            renewed = Authority()
            files.write(renewed.issue(*HOSTS))
            files.client_ca.write_bytes(ca.pem)
            assert listed(client.address, context(renewed, ca.issue(GATEWAY))) == (200, "")
            assert listed(client.address, context(renewed, other.issue(GATEWAY))) == (0, "")
            assert listed(client.address, context(authority, ca.issue(GATEWAY))) == (0, "")
        files.cert.write_bytes(b"corrupted")
        assert listed(client.address, context(renewed, new.issue(GATEWAY))) == (200, "")
        assert client.send("GET", "/v1/tasks", {"x-user-id": "alice"}).status == 200, "on the connection of before"


async def test_an_address_that_is_taken_stops_the_start(sqlite_url: str, client: Client) -> None:
    with pytest.raises(StartError, match="TASKWELL_REST_ADDRESS or --rest-address"):
        await Service(settings_for(sqlite_url, rest_address=client.address)).start()


def test_a_forged_body_type_is_no_way_around_a_preflight(client: Client) -> None:
    """What a form of another site can send, without asking first: it has no caller, and is no JSON."""
    body = json.dumps({"title": "x"}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = (JSON.replace("application/json", kind), f"origin: {APP}", "x-user-id: alice")
        [answer] = responses(client.exchange(request("POST", "/v1/tasks", *headers, body=body)))
        assert answer.status == 415
