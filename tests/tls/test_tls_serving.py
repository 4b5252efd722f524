"""TLS and mutual TLS, as clients of a real server see them."""

import ssl
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from taskwell.v1 import tasks_pb2

from service.auth.dev_tokens import mint_token
from service.auth.modes import RULES, Certificate, User
from service.server.app import Service
from service.server.authentication import expected_of
from service.server.startup import StartError
from tests.methods import METHODS, well_formed
from tests.rpc.given import ask_reflection, raw_call
from tests.running import DEADLINE, Api, new_user, refused, running_service, settings_for
from tests.tls.issuing import GATEWAY, HOSTS, SPIFFE_ID, Authority, Files, Issued, secure_channel

SECRET = "what both of them know and nobody else"
TOKENS = {"auth": "jwt", "jwt_secret": SECRET, "jwt_issuer": "https://issuer.example", "jwt_audience": "taskwell"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Files:
    return Files(tmp_path_factory.mktemp("tls"), authority.issue(*HOSTS))


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Files:
    return Files(tmp_path_factory.mktemp("mutual"), authority.issue(*HOSTS), authority.pem)


@pytest.fixture(scope="module")
def gateway(authority: Authority) -> Issued:
    return authority.issue(GATEWAY)


@pytest.fixture(scope="module")
def with_tls(sqlite_url: str, files: Files) -> Iterator[str]:
    with running_service(settings_for(sqlite_url, **files.settings)) as address:
        yield address


@pytest.fixture(scope="module")
def with_mutual_tls(sqlite_url: str, mutual: Files) -> Iterator[str]:
    names = f"{GATEWAY}, {SPIFFE_ID}"
    settings = settings_for(sqlite_url, **mutual.settings, tls_client_names=names, reflection="caller")
    with running_service(settings) as address:
        yield address


def is_not_connected(channel: grpc.Channel) -> bool:
    """True if a call fails for lack of a connection, and not because the service refused it."""
    failure: Any = Api(channel).start("ListTasks", tasks_pb2.ListTasksRequest()).exception()
    return failure is not None and failure.code() is StatusCode.UNAVAILABLE and not failure.trailing_metadata()


# TLS


def test_calls_succeed_over_tls(with_tls: str, authority: Authority) -> None:
    with secure_channel(with_tls, authority.pem) as channel:
        api = Api(channel)
        assert [api.create()] == list(api.list().tasks)


def test_a_tls_client_that_does_not_trust_the_ca_is_not_connected(with_tls: str, stranger: Authority) -> None:
    with secure_channel(with_tls, stranger.pem) as channel:
        assert is_not_connected(channel)
    with grpc.insecure_channel(with_tls) as channel:
        assert is_not_connected(channel)


# Mutual TLS


@pytest.mark.parametrize("method", METHODS)
def test_mutual_tls_lets_a_listed_service_call_for_users(
    with_mutual_tls: str, authority: Authority, gateway: Issued, method: str
) -> None:
    with secure_channel(with_mutual_tls, authority.pem, gateway) as channel:
        api = Api(channel)
        api.call(method, well_formed(method, api.create().id))


def test_mutual_tls_connects_no_client_without_a_certificate_of_the_ca(
    with_mutual_tls: str, authority: Authority, stranger: Authority
) -> None:
    for client in (None, stranger.issue(GATEWAY)):
        with secure_channel(with_mutual_tls, authority.pem, client) as channel:
            assert is_not_connected(channel)
    with grpc.insecure_channel(with_mutual_tls) as channel:
        assert is_not_connected(channel)


def test_mutual_tls_knows_a_service_by_its_spiffe_id(with_mutual_tls: str, authority: Authority) -> None:
    client = authority.issue_for([x509.DNSName("other.example"), x509.UniformResourceIdentifier(SPIFFE_ID)])
    with secure_channel(with_mutual_tls, authority.pem, client) as channel:
        Api(channel).create()


NOT_LISTED: dict[str, tuple[list[x509.GeneralName], str]] = {
    "another": ([x509.DNSName(f"not-{GATEWAY}")], "client"),
    "a part": ([x509.DNSName(GATEWAY.removeprefix("gateway."))], "client"),
    "longer": ([x509.DNSName(f"{GATEWAY}.evil.example")], "client"),
    "a wildcard": ([x509.DNSName("*.example")], "client"),
    "two in one": ([x509.DNSName(f"{GATEWAY},other.example")], "client"),
    "common name": ([], GATEWAY),
    "common name beside another": ([x509.DNSName("other.example")], GATEWAY),
    "an address": ([x509.IPAddress(ip_address("127.0.0.1"))], "client"),
    "an e-mail address": ([x509.RFC822Name(f"x@{GATEWAY}")], "client"),
    "a name as an e-mail address": ([x509.RFC822Name(GATEWAY)], "client"),
    "another spiffe id": ([x509.UniformResourceIdentifier(f"{SPIFFE_ID}/x")], "client"),
    "spiffe id as a name": ([x509.DNSName(SPIFFE_ID.removeprefix("spiffe://"))], "client"),
    "nothing": ([], "client"),
}


@pytest.mark.parametrize(("names", "common_name"), NOT_LISTED.values(), ids=NOT_LISTED)
def test_mutual_tls_refuses_a_service_that_is_not_listed(
    with_mutual_tls: str, authority: Authority, names: list[x509.GeneralName], common_name: str
) -> None:
    client = authority.issue_for(names, common_name=common_name)
    shown = secure_channel(with_mutual_tls, authority.pem, client)
    with shown as channel, refused(StatusCode.PERMISSION_DENIED, "PEER_NOT_ALLOWED"):
        Api(channel).list()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("request_bytes", [b"", b"\xff", bytes(100_000)], ids=["bad", "garbage", "large"])
def test_mutual_tls_checks_the_name_before_the_request(
    with_mutual_tls: str, authority: Authority, method: str, request_bytes: bytes
) -> None:
    shown = secure_channel(with_mutual_tls, authority.pem, authority.issue("other.example"))
    with shown as channel, refused(StatusCode.PERMISSION_DENIED, "PEER_NOT_ALLOWED"):
        raw_call(channel, method, request_bytes, user="alice").result()


def test_mutual_tls_asks_health_checks_for_a_certificate_and_reflection_for_a_listed_name(
    with_mutual_tls: str, authority: Authority, gateway: Issued
) -> None:
    with secure_channel(with_mutual_tls, authority.pem, authority.issue("other.example")) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        assert serving == health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
        with refused(StatusCode.PERMISSION_DENIED, "PEER_NOT_ALLOWED"):
            ask_reflection(channel, "v1", user="alice", list_services="")
    with secure_channel(with_mutual_tls, authority.pem, gateway) as channel:
        assert ask_reflection(channel, "v1", user="alice", list_services="").list_services_response.service


# Both a certificate and a token

UNAUTHENTICATED, DENIED = StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED
# By mode and whether names are listed: the outcome for each certificate and token. None is a call that succeeds.
OUTCOMES: dict[tuple[str, bool], dict[tuple[str, str], StatusCode | None]] = {
    ("metadata", True): {
        ("listed", "good"): None,
        ("listed", "bad"): None,
        ("listed", "none"): None,
        ("other", "good"): DENIED,
        ("other", "bad"): DENIED,
        ("other", "none"): DENIED,
    },
    ("jwt", True): {
        ("listed", "good"): None,
        ("listed", "bad"): UNAUTHENTICATED,
        ("listed", "none"): UNAUTHENTICATED,
        ("other", "good"): DENIED,
        ("other", "bad"): UNAUTHENTICATED,
        ("other", "none"): UNAUTHENTICATED,
    },
    ("jwt", False): {
        ("listed", "good"): None,
        ("listed", "bad"): UNAUTHENTICATED,
        ("listed", "none"): UNAUTHENTICATED,
        ("other", "good"): None,
        ("other", "bad"): UNAUTHENTICATED,
        ("other", "none"): UNAUTHENTICATED,
    },
}


@pytest.mark.parametrize(("mode", "names"), OUTCOMES, ids=["metadata", "jwt with names", "jwt"])
def test_neither_a_certificate_nor_a_token_replaces_the_other(
    sqlite_url: str, mutual: Files, authority: Authority, gateway: Issued, mode: str, names: bool
) -> None:
    jwt = TOKENS if mode == "jwt" else {}
    listed = {"tls_client_names": GATEWAY} if names else {}
    settings = settings_for(sqlite_url, **mutual.settings, **jwt, **listed)
    named, subject = new_user(), new_user()
    expected = expected_of(settings_for(sqlite_url, **TOKENS))
    good = mint_token(SECRET, expected, subject, "", int(time.time()), 60)
    tokens = {"good": good, "bad": good[:-9] + "A" * 9, "none": None}
    clients = {"listed": gateway, "other": authority.issue("other.example")}
    outcomes = {}
    with running_service(settings) as address:
        for certificate, client in clients.items():
            with secure_channel(address, authority.pem, client) as channel:
                for kind, token in tokens.items():
                    more = [("authorization", f"Bearer {token}")] if token else []
                    request = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="Buy milk"))
                    raw = request.SerializeToString()
                    call = raw_call(channel, "CreateTask", raw, user=named, more=more)
                    outcomes[certificate, kind] = call.code() if call.exception() else None
    assert outcomes == OUTCOMES[mode, names]
    heard = [outcome for outcome in outcomes.values() if outcome is None]
    user = RULES["jwt" if jwt else "metadata", True].user
    with running_service(settings_for(sqlite_url)) as address, grpc.insecure_channel(address) as channel:
        counts = {name: len(Api(channel, name).list().tasks) for name in (named, subject)}
    assert counts == {
        named: len(heard) if user is User.METADATA else 0,
        subject: len(heard) if user is User.TOKEN else 0,
    }


def test_the_table_of_auth_modes_is_complete() -> None:
    asked = {key for key, rule in RULES.items() if rule.certificate is not Certificate.NOT_ASKED}
    assert asked == {("metadata", True), ("jwt", True)}
    assert len(RULES) == 4


# Renewal


def certificate_seen(address: str) -> bytes:
    """The certificate that the server presents on a new connection."""
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port))).encode()


def test_certificates_are_renewed_and_open_connections_stay(
    sqlite_url: str, tmp_path: Path, authority: Authority
) -> None:
    files = Files(tmp_path, authority.issue(*HOSTS))
    with running_service(settings_for(sqlite_url, **files.settings)) as address:
        with secure_channel(address, authority.pem) as channel:
            api = Api(channel)
            api.create()
            for _ in range(3):
                issued = authority.issue(*HOSTS)
                files.write(issued)
                assert certificate_seen(address) == issued.chain
                api.create()
            files.cert.write_bytes(b"corrupted")
            assert certificate_seen(address) == issued.chain
            api.create()
            assert len(api.list().tasks) == 5
        with secure_channel(address, authority.pem) as channel:
            Api(channel).create()


def test_a_renewed_client_ca_replaces_the_old_one(sqlite_url: str, tmp_path: Path, authority: Authority) -> None:
    old, new = Authority(), Authority()
    files = Files(tmp_path, authority.issue(*HOSTS), old.pem)
    settings = settings_for(sqlite_url, **files.settings, tls_client_names=GATEWAY)
    with running_service(settings) as address:
        for ca, other in ((old, new), (new, old)):
            assert files.client_ca
            files.client_ca.write_bytes(ca.pem)
            with secure_channel(address, authority.pem, ca.issue(GATEWAY)) as channel:
                Api(channel).create()
            with secure_channel(address, authority.pem, other.issue(GATEWAY)) as channel:
                assert is_not_connected(channel)


@pytest.mark.parametrize("file", ["cert", "key", "client_ca"])
async def test_an_unusable_certificate_file_stops_the_start(
    sqlite_url: str, tmp_path: Path, authority: Authority, file: str
) -> None:
    files = Files(tmp_path, authority.issue(*HOSTS), authority.pem)
    getattr(files, file).write_bytes(b"corrupted")
    settings = settings_for(sqlite_url, **files.settings, tls_client_names=GATEWAY)
    with pytest.raises(StartError, match=f"TASKWELL_TLS_{file.upper()}: it has no"):
        await Service(settings).start()
