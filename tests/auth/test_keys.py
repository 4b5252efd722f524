"""Fetching of an issuer's keys: how often, during an outage of the issuer, and when keys rotate."""

import asyncio
import hashlib
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from service.auth import keys as keys_module
from service.auth.jwks import JwksFile, JwksUrl
from service.auth.keys import IssuerKeys
from service.auth.tokens import TokenAuthentication
from service.errors import KeysUnavailable, RequestError, TokenSignature
from service.model import Caller
from tests.auth.issuing import EXPECTED, NOW, Clock, KeyPairs, Publisher

ALICE = Caller("alice")


class Given:
    """An IssuerKeys, its clock, and the authentication that uses it."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.issuer = IssuerKeys(JwksUrl(url), self.clock)
        self.tokens = TokenAuthentication(self.issuer, EXPECTED, lambda: NOW)

    async def caller(self, token: str) -> Caller:
        caller = self.tokens.authenticate([("authorization", f"Bearer {token}")])
        return caller if isinstance(caller, Caller) else await caller

    async def refusal(self, token: str) -> str:
        with pytest.raises(RequestError) as refusal:
            await self.caller(token)
        return refusal.value.reason

    async def kept_fresh(self, seconds: float) -> None:
        """Advance the clock by this time while the keys are refreshed in the background."""
        ends = self.clock.now + seconds

        async def sleep(pause: float) -> None:
            self.clock.now += pause
            if self.clock.now >= ends:
                raise TimeoutError

        with pytest.raises(TimeoutError):
            await self.issuer.keep_fresh(sleep)


@pytest.fixture
def given(publisher: Publisher) -> Given:
    return Given(publisher.url)


# Frequency of fetches


async def test_10_000_unknown_keys_in_a_second_cause_one_fetch(
    given: Given, publisher: Publisher, keys: KeyPairs
) -> None:
    await given.issuer.load()
    given.clock.now += 30
    before = publisher.asked
    good = keys.token("ed")
    for _ in range(100):
        given.clock.now += 0.01
        tokens = [keys.token("ed", header={"kid": str(uuid4())}) for _ in range(100)]
        reasons = await asyncio.gather(*(given.refusal(token) for token in tokens))
        assert {"TOKEN_SIGNATURE"} == set(reasons)
        assert await given.caller(good) == ALICE
    assert publisher.asked - before == 1


async def test_unknown_keys_right_after_a_fetch_cause_no_other(
    given: Given, publisher: Publisher, keys: KeyPairs
) -> None:
    await given.issuer.load()
    given.clock.now += 29.9
    assert await given.refusal(keys.token(header={"kid": "new"})) == "TOKEN_SIGNATURE"
    assert publisher.asked == 1


async def test_calls_that_wait_for_keys_share_one_fetch_and_are_bounded(
    given: Given, publisher: Publisher, keys: KeyPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "MAX_WAITING", 50)
    for fetch, kid in enumerate(("ed", "rsa"), start=1):  # twice: those that have waited make room again
        publisher.content = keys.published(kid)
        publisher.answers.clear()
        calls = [asyncio.create_task(given.caller(keys.token(kid))) for _ in range(50)]
        await asyncio.sleep(0)
        assert await given.refusal(keys.token(kid)) == "KEYS_UNAVAILABLE"
        publisher.answers.set()
        assert await asyncio.gather(*calls) == [ALICE] * 50
        assert publisher.asked == fetch
        given.clock.now += 30


async def test_a_cancelled_call_does_not_cancel_the_fetch_of_the_keys(
    given: Given, publisher: Publisher, keys: KeyPairs
) -> None:
    publisher.answers.clear()
    impatient, patient = (asyncio.create_task(given.caller(keys.token())) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    publisher.answers.set()
    assert await patient == ALICE


async def test_calls_with_known_keys_do_not_wait_for_a_fetch(
    given: Given, publisher: Publisher, keys: KeyPairs
) -> None:
    await given.issuer.load()
    given.clock.now += 30
    publisher.answers.clear()
    asking = asyncio.create_task(given.refusal(keys.token(header={"kid": "new"})))
    await asyncio.sleep(0)
    for kind in ("ed", "rsa", "ec"):
        assert given.tokens.authenticate([("authorization", f"Bearer {keys.token(kind)}")]) == ALICE
    publisher.answers.set()
    assert await asking == "TOKEN_SIGNATURE"


# Outages


async def test_calls_are_unavailable_until_keys_are_fetched(given: Given, publisher: Publisher, keys: KeyPairs) -> None:
    publisher.status = 503
    await given.kept_fresh(60)
    assert publisher.asked == 30
    assert await given.refusal(keys.token()) == "KEYS_UNAVAILABLE"
    publisher.status = 200
    await given.kept_fresh(2)
    assert await given.caller(keys.token()) == ALICE


@pytest.mark.parametrize(
    "outage", ["refuses", "answers nonsense", "answers with no keys", "is an error", "is too long"]
)
async def test_the_last_good_keys_survive_an_outage_of_an_hour(
    given: Given, publisher: Publisher, keys: KeyPairs, outage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await given.issuer.load()
    match outage:
        case "refuses":
            monkeypatch.setattr(given.issuer, "_source", JwksUrl("http://127.0.0.1:1/jwks"))
        case "answers nonsense":
            publisher.content = b"<html>"
        case "answers with no keys":
            publisher.content = b'{"keys": []}'
        case "is an error":
            publisher.status = 500
        case "is too long":
            publisher.content = keys.published() + b" " * 2**20
    with capture_logs() as log:
        await given.kept_fresh(3600)
    [line] = [line for line in log if line["event"] == "keys not read"][:1]
    assert line["cause"]
    assert line["source"] == str(given.issuer._source)
    assert line["kept"] is True
    for kind in ("ed", "rsa", "ec"):
        assert await given.caller(keys.token(kind)) == ALICE
    assert await given.refusal(keys.token(header={"kid": "new"})) == "TOKEN_SIGNATURE"


async def test_keys_are_fetched_every_ten_minutes_and_more_often_after_a_failure(
    given: Given, publisher: Publisher
) -> None:
    await given.kept_fresh(3600)
    assert publisher.asked == 6
    publisher.status = 500
    await given.kept_fresh(600)
    assert publisher.asked == 6 + 20
    publisher.status = 200
    await given.kept_fresh(3600)
    assert publisher.asked == 6 + 20 + 6


# Rotation


async def test_a_new_key_is_fetched_when_a_token_names_it(given: Given, publisher: Publisher, keys: KeyPairs) -> None:
    publisher.content = keys.published("ec")
    await given.issuer.load()
    publisher.content = keys.published("ed")
    given.clock.now += 30
    assert await given.caller(keys.token("ed")) == ALICE
    with pytest.raises(TokenSignature):
        await given.caller(keys.token("ec"))


async def test_a_token_whose_key_was_fetched_for_it_is_cached(given: Given, keys: KeyPairs) -> None:
    token = keys.token("ed")
    assert await given.caller(token) == ALICE
    assert given.tokens.authenticate([("authorization", f"Bearer {token}")]) == ALICE
    assert [hashlib.sha256(token.encode()).digest()] == list(given.tokens._known)


async def test_a_cached_token_is_forgotten_when_its_key_is_removed(
    given: Given, publisher: Publisher, keys: KeyPairs
) -> None:
    token = keys.token("ed")
    await given.issuer.load()
    assert await given.caller(token) == ALICE
    await given.issuer.load()
    assert len(given.tokens._known) == 1, "the keys have not changed"
    publisher.content = keys.published("ec", "rsa")
    await given.issuer.load()
    assert await given.refusal(token) == "TOKEN_SIGNATURE"


async def test_a_jwks_file_may_be_replaced(tmp_path: Path, keys: KeyPairs) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(keys.published("ec"))
    given = Given("")
    given.issuer._source = JwksFile(str(path))
    await given.issuer.load()
    path.write_bytes(keys.published("ed"))
    given.clock.now += 30
    assert await given.caller(keys.token("ed")) == ALICE


async def test_failed_fetches_are_not_repeated_at_once(given: Given, publisher: Publisher) -> None:
    publisher.status = 500
    for _ in range(5):
        with pytest.raises(KeysUnavailable):
            await given.issuer.refresh()
    assert publisher.asked == 1


async def test_an_outage_of_the_issuer_is_a_line_a_minute_and_one_at_its_end(
    given: Given, publisher: Publisher
) -> None:
    await given.kept_fresh(60)
    publisher.status = 500
    with capture_logs() as log:
        await given.kept_fresh(600)
        publisher.status = 200
        await given.kept_fresh(60)
    events = [line["event"] for line in log if line["event"].startswith("keys")]
    assert events[0] == "keys not read"
    assert events.count("keys read again") == 1
    assert 2 <= events.count("keys not read") <= 11
