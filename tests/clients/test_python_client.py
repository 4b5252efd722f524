"""The Python client, sync and asyncio, on a real service."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from taskwell_client import (
    COMPLETE,
    INCOMPLETE,
    TLS,
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from taskwell_client.channels import _OPTIONS

from service.auth.dev_tokens import mint_token
from service.server.authentication import expected_of
from tests.clients.clients import Connect, connecting
from tests.proxy import in_front_of
from tests.running import new_user, running_service, settings_for
from tests.tls.issuing import GATEWAY, HOSTS, Authority, Files

SECRET = "what both of them know and nobody else"
TOKENS = {"auth": "jwt", "jwt_secret": SECRET, "jwt_issuer": "https://issuer.example", "jwt_audience": "taskwell"}
AT_ONCE = [("grpc.enable_retries", 0)]
"""Ends a test before the last retry."""


@pytest.fixture
def client(connect: Connect, address: str) -> Any:
    return connect(address, user=new_user())


def test_a_task_through_its_life(client: Any) -> None:
    task = client.create("Buy milk", "Two litres")
    assert (task.title, task.description, task.status) == ("Buy milk", "Two litres", INCOMPLETE)
    assert task == client.get(task.id)
    task = client.update(task.id, title="Buy oat milk", description="")
    assert (task.title, task.description, task.status) == ("Buy oat milk", "", INCOMPLETE)
    task = client.complete(task.id, etag=task.etag)
    assert (task.status, task.HasField("complete_time")) == (COMPLETE, True)
    task = client.update(task.id, status=INCOMPLETE, etag=task.etag)
    assert (task.status, task.title) == (INCOMPLETE, "Buy oat milk")
    assert client.delete(task.id, etag=task.etag) is None
    assert client.delete(task.id, allow_missing=True) is None
    with pytest.raises(NotFound):
        client.delete(task.id)


def test_every_create_makes_a_task_unless_it_has_the_request_id_of_another(client: Any) -> None:
    assert client.create("Buy milk").id != client.create("Buy milk").id
    request_id = uuid4()
    first = client.create("Ship order 4711", request_id=request_id)
    assert first == client.create("Ship order 4711", request_id=str(request_id))
    with pytest.raises(AlreadyExists) as caught:
        client.create("Ship order 4712", request_id=request_id)
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_a_list_is_walked_over_all_pages_in_either_order_and_by_status(client: Any) -> None:
    made = [client.create(f"Task {number}").id for number in range(5)]
    client.complete(made[1])
    assert made[::-1] == [task.id for task in client.list(page_size=2)]
    assert made == [task.id for task in client.list(page_size=2, oldest_first=True)]
    assert made[1:2] == [task.id for task in client.list(status=COMPLETE)]
    assert [*made[:1], *made[2:]] == [task.id for task in client.list(status=INCOMPLETE, oldest_first=True)]


def test_pages_are_handed_on_by_their_tokens(client: Any) -> None:
    made = [client.create(f"Task {number}").id for number in range(3)]
    first = client.page(page_size=2)
    second = client.page(first.next_page_token, page_size=2)
    assert made[::-1] == [task.id for page in (first, second) for task in page.tasks]
    assert second.next_page_token == ""
    with pytest.raises(InvalidArgument):
        client.page(first.next_page_token, oldest_first=True)


def test_a_list_is_fetched_as_it_is_walked(client: Any) -> None:
    made = [client.create(f"Task {number}").id for number in range(2)]
    walk = client.list(page_size=1)
    assert next(walk).id == made[1]
    client.delete(made[0])
    assert list(walk) == []


def test_errors_have_what_the_service_says(client: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.create(" ", "\0")
    error = caught.value
    assert [violation.field for violation in error.violations] == ["task.title", "task.description"]
    assert error.violations[0].description == "must not consist of white space alone"
    assert (error.code, error.reason, error.retry_delay) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", None)
    assert error.call_id
    assert str(error) == error.message
    assert "task.title must not" in error.message
    assert isinstance(error.__cause__, grpc.RpcError)
    task = client.create("Buy milk")
    client.complete(task.id)
    with pytest.raises(Aborted) as stale:
        client.complete(task.id, etag=task.etag)
    assert (stale.value.reason, stale.value.violations) == ("ETAG_STALE", ())


def test_one_client_serves_many_users(connect: Connect, address: str) -> None:
    client = connect(address)
    with pytest.raises(Unauthenticated):
        client.create("Nobody's")
    alice, bob = client.as_user(new_user()), client.as_user(new_user())
    task = alice.create("Alice's")
    assert list(bob.list()) == []
    with pytest.raises(NotFound):
        bob.get(task.id)
    assert task == alice.get(task.id)


@pytest.mark.parametrize("channels", [1, 3])
def test_several_channels_are_as_many_connections_and_take_turns(connect: Connect, address: str, channels: int) -> None:
    with in_front_of(address) as proxy:
        client = connect(proxy.address, user=new_user(), channels=channels)
        made = [client.create(f"Task {number}") for number in range(2 * channels)]
        for task in made:  # by the channels that send nothing again, which have no connections of their own
            client.delete(task.id, etag=task.etag)
        assert channels == proxy.connections


def test_what_does_not_answer_in_time_is_given_up(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(f"127.0.0.1:{silent.getsockname()[1]}", user="alice", timeout=0.05)
        with pytest.raises(DeadlineExceeded) as caught:
            client.page()
        assert (caught.value.reason, caught.value.code) == ("", grpc.StatusCode.DEADLINE_EXCEEDED)
        client = connect(f"127.0.0.1:{silent.getsockname()[1]}", user="alice")
        with pytest.raises(DeadlineExceeded):
            client.page(timeout=0.05)


def test_where_nobody_listens_the_service_is_unavailable(connect: Connect) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        client = connect(f"127.0.0.1:{held.getsockname()[1]}", user="alice")
        with pytest.raises(Unavailable) as caught:
            client.page()
    assert (caught.value.reason, caught.value.violations, caught.value.retry_delay) == ("", (), None)
    assert caught.value.call_id == ""
    assert "refused" in caught.value.message


def test_signs_of_life_are_asked_for_no_more_often_than_the_service_allows() -> None:
    allowed = settings_for("sqlite:///unused.db").keepalive_min_interval
    assert dict(_OPTIONS)["grpc.keepalive_time_ms"] >= 2 * 1000 * allowed


# Tokens and TLS


@pytest.fixture(scope="module")
def with_tokens(sqlite_url: str) -> Iterator[str]:
    with running_service(settings_for(sqlite_url, **TOKENS)) as address:
        yield address


def token_of(user: str) -> str:
    settings = settings_for("sqlite:///unused.db", **TOKENS)
    return mint_token(SECRET, expected_of(settings), user, "", int(time.time()), 600)


def test_a_token_says_who_calls(connect: Connect, with_tokens: str) -> None:
    token, other = token_of(new_user()), token_of(new_user())
    client = connect(with_tokens, token=token)
    task = client.create("Buy milk")
    assert [task] == list(client.list())
    assert list(client.with_token(other).list()) == []
    with pytest.raises(Unauthenticated) as caught:
        client.as_user("alice").get(task.id)
    assert caught.value.reason == "TOKEN_MISSING"


def test_a_token_is_asked_for_before_every_call(connect: Connect, with_tokens: str) -> None:
    tokens = [token_of(user) for user in (new_user(), new_user())]
    client = connect(with_tokens, token=iter(tokens).__next__)
    task = client.create("Buy milk")
    with pytest.raises(NotFound):
        client.get(task.id)


def test_a_token_may_be_awaited_for(with_tokens: str) -> None:
    async def token() -> str:
        await asyncio.sleep(0)
        return token_of(user)

    user = new_user()
    with connecting("asyncio") as connect:
        client = connect(with_tokens, token=token)
        assert [client.create("Buy milk")] == list(client.list())


def test_tls_with_a_ca_of_ones_own(
    connect: Connect, sqlite_url: str, tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    files = Files(tmp_path, authority.issue(*HOSTS))
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "stranger.pem").write_bytes(stranger.pem)
    with running_service(settings_for(sqlite_url, **files.settings)) as address:
        connect(address, user=new_user(), tls=TLS(tmp_path / "ca.pem")).create("Buy milk")
        for tls in (False, True, TLS(tmp_path / "stranger.pem")):
            with pytest.raises(Unavailable):
                connect(address, user=new_user(), tls=tls, options=AT_ONCE).create("Buy milk")


def test_mutual_tls_and_several_channels(
    connect: Connect, sqlite_url: str, tmp_path: Path, authority: Authority
) -> None:
    files = Files(tmp_path, authority.issue(*HOSTS), authority.pem)
    gateway = authority.issue(GATEWAY)
    for name, pem in (("ca", authority.pem), ("cert", gateway.chain), ("key", gateway.key)):
        (tmp_path / name).write_bytes(pem)
    settings = settings_for(sqlite_url, tls_client_names=GATEWAY, **files.settings)
    with running_service(settings) as address, in_front_of(address) as proxy:
        tls = TLS(str(tmp_path / "ca"), str(tmp_path / "cert"), str(tmp_path / "key"))
        client = connect(proxy.address, user=new_user(), tls=tls, channels=2)
        made = [client.create("Buy milk") for _ in range(4)]
        assert proxy.connections == 2
        for task in made:
            client.delete(task.id)
        assert proxy.connections == 4  # those that send nothing again have their own under TLS
        with pytest.raises(Unavailable):
            connect(address, user=new_user(), tls=TLS(tls.ca), options=AT_ONCE).page()


# What is refused before anything is sent


REMOTE = "tasks.example:50051"


def test_a_token_goes_over_plain_text_to_this_machine_alone_unless_told_so(connect: Connect) -> None:
    with pytest.raises(ValueError, match="use TLS"):
        connect(REMOTE, token="secret")
    with pytest.raises(ValueError, match="insecure"):
        connect(REMOTE).with_token("secret")
    for options in ({"tls": True}, {"insecure": True}):
        connect(REMOTE, token="secret", **options).with_token("another")
    connect("127.0.0.1:50051", token="secret")
    connect(REMOTE, user="alice")


@pytest.mark.parametrize("token", ["", "a\nb", "ü"])
def test_what_cannot_be_a_token_is_not_sent_and_not_shown(connect: Connect, token: str) -> None:
    with pytest.raises(ValueError, match=r"^token must be printable ASCII, without a line end, and not empty$"):
        connect("localhost:1", token=token)
    with pytest.raises(ValueError, match=r"^token must be printable ASCII, without a line end, and not empty$"):
        connect("localhost:1", token=lambda: token).page()


@pytest.mark.parametrize("user", ["", "a b", "alice ", "ü", "x" * 256])
def test_what_cannot_be_a_user_is_refused(connect: Connect, user: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 printable ASCII characters"):
        connect("localhost:1", user=user)


def test_contradictions_are_refused(connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        connect("localhost:1", user="alice", token="secret")
    with pytest.raises(ValueError, match="channels must be 1 to"):
        connect("localhost:1", channels=0)
    with pytest.raises(ValueError, match="key is missing"):
        connect("localhost:1", tls=TLS(cert=tmp_path))
    with pytest.raises(FileNotFoundError):
        connect("localhost:1", tls=TLS(ca=tmp_path / "missing.pem"))
