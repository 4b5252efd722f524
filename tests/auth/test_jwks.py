"""Sources of a JWKS, and the keys of a JWKS that can be used."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from service.auth import jwks as jwks_module
from service.auth.jwks import JwksFile, JwksUrl, KeysError, parse_jwks_source
from service.auth.keys import KeySet
from tests.auth.issuing import KeyPairs, Publisher, dripping, publishing
from tests.waiting import until

# Sources


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("https://issuer.example/.well-known/jwks.json", JwksUrl("https://issuer.example/.well-known/jwks.json")),
        ("HTTPS://issuer.example/", JwksUrl("HTTPS://issuer.example/")),
        ("http://127.0.0.1:3000/jwks", JwksUrl("http://127.0.0.1:3000/jwks")),
        ("http://[::1]:3000/jwks", JwksUrl("http://[::1]:3000/jwks")),
        ("http://localhost/jwks", JwksUrl("http://localhost/jwks")),
        ("jwks.json", JwksFile("jwks.json")),
        ("/etc/taskwell/jwks.json", JwksFile("/etc/taskwell/jwks.json")),
    ],
)
def test_a_jwks_source_is_a_url_or_a_file(text: str, source: Any) -> None:
    assert source == parse_jwks_source(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://issuer.example/jwks",
        "http://localhost.issuer.example/jwks",
        "http://127.0.0.1.issuer.example/jwks",
        "http://192.0.2.1/jwks",
        "http://2130706433/jwks",
        "http://user@localhost/jwks",
        "https://user:password@issuer.example/jwks",
        "https:///jwks",
        "file:///etc/taskwell/jwks.json",
        "ftp://issuer.example/jwks",
        "ftp://localhost/jwks",
    ],
)
def test_other_jwks_sources_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_jwks_source(text)


def test_a_jwks_url_is_shown_without_its_query() -> None:
    assert str(JwksUrl("https://issuer.example/jwks?key=secret")) == "https://issuer.example/jwks"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(publisher: Publisher, keys: KeyPairs, status: int) -> None:
    with publishing(keys.published()) as other:
        publisher.status, publisher.headers = status, {"Location": other.url}
        with pytest.raises(KeysError, match=str(status)):
            JwksUrl(publisher.url).read()
        assert other.asked == 0


@pytest.mark.parametrize("status", [204, 400, 401, 404, 429, 500, 503])
def test_a_response_without_keys_is_refused(publisher: Publisher, status: int) -> None:
    publisher.status, publisher.content = status, b""
    with pytest.raises(KeysError):
        KeySet(JwksUrl(publisher.url).read())


def test_a_truncated_response_is_refused(publisher: Publisher) -> None:
    publisher.headers = {"Content-Length": str(len(publisher.content) - 1)}
    with pytest.raises(KeysError):
        KeySet(JwksUrl(publisher.url).read())


def test_a_fetch_of_a_jwks_has_a_timeout(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_module, "_TIMEOUT", 0.05)
    publisher.answers.clear()
    with pytest.raises(KeysError, match="timed out"):
        JwksUrl(publisher.url).read()


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_module, "_TIMEOUT", 0.1)
    with dripping() as url:
        for _ in range(jwks_module._MAX_UNFINISHED):
            with pytest.raises(KeysError, match="timed out"):
                JwksUrl(url).read()
        with pytest.raises(KeysError, match="earlier attempts"):
            JwksUrl(url).read()
    until(lambda: jwks_module._unfinished.acquire(blocking=False))
    jwks_module._unfinished.release()


def test_a_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_module, "_TIMEOUT", 0.1)
    os.mkfifo(tmp_path / "jwks.json")
    with pytest.raises(KeysError, match="timed out"):
        JwksFile(str(tmp_path / "jwks.json")).read()
    (tmp_path / "jwks.json").write_text("")


class Endless:
    """A response that never ends."""

    def read1(self, most: int) -> bytes:
        return bytes(most)


def test_a_response_without_end_is_bounded_in_size_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    endless: Any = Endless()
    assert len(jwks_module._body(endless)) <= jwks_module.MAX_BYTES + 2**16
    monkeypatch.setattr(jwks_module, "_TIMEOUT", -1)
    with pytest.raises(TimeoutError):
        jwks_module._body(endless)


def test_a_jwks_that_is_too_long_is_refused(publisher: Publisher, keys: KeyPairs, tmp_path: Path) -> None:
    publisher.content = keys.published() + b" " * 2**20
    with pytest.raises(KeysError, match="longer"):
        JwksUrl(publisher.url).read()
    path = tmp_path / "jwks.json"
    path.write_bytes(publisher.content)
    with pytest.raises(KeysError, match="longer"):
        JwksFile(str(path)).read()


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(KeysError, match="cannot be read"):
            JwksFile(str(path)).read()


# Keys of a JWKS


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def unusable(keys: KeyPairs) -> dict[str, Any]:
    """Keys that must be ignored, each under its own kid."""
    ed, ec_, rsa_ = (keys.jwks[kid] for kid in ("ed", "ec", "rsa"))
    p384 = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
    short = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
    return {
        "secret": {"kty": "oct", "k": "x" * 43},
        "secret for EdDSA": {"kty": "oct", "k": "x" * 43, "alg": "EdDSA"},
        "private ed": OKPAlgorithm.to_jwk(keys.ed, as_dict=True),
        "private rsa": RSAAlgorithm.to_jwk(keys.rsa, as_dict=True),
        "private ec": ECAlgorithm.to_jwk(keys.ec, as_dict=True),
        "for encryption": {**rsa_, "use": "enc"},
        "for HS256": {**rsa_, "alg": "HS256"},
        "for none": {**rsa_, "alg": "none"},
        "for PS256": {**rsa_, "alg": "PS256"},
        "for another kind": {**ed, "alg": "RS256"},
        "for a list": {**ed, "alg": ["EdDSA"]},
        "of another curve": p384,
        "of X25519": {**ed, "crv": "X25519"},
        "of a list": {**ed, "crv": ["Ed25519"]},
        "short": short,
        "without a kind": {**ed, "kty": None},
        "of a kind that is a list": {**ed, "kty": ["OKP"]},
        "without x": {**ed, "x": None},
        "not on the curve": {**ec_, "x": ec_["y"], "y": ec_["x"]},
        "with a number for x": {**ec_, "x": 1},
        "with an even n": {**rsa_, "n": "AAAA"},
        "with half of x": {**ed, "x": "AAAA"},
    }


def test_only_public_keys_for_our_algorithms_are_used(keys: KeyPairs) -> None:
    others = [{**key, "kid": kid} for kid, key in unusable(keys).items()]
    noise: list[Any] = [None, 1, "x", [], {}, {**keys.jwks["ed"], "kid": 1}]
    keyset = KeySet(jwks(*noise, *others, *keys.jwks.values()))
    assert keyset.kids == ["ec", "ed", "rsa"]


def test_keys_with_alg_and_use_are_used(keys: KeyPairs) -> None:
    for kid, algorithm in (("ed", "EdDSA"), ("ec", "ES256"), ("rsa", "RS256")):
        key = KeySet(jwks({**keys.jwks[kid], "alg": algorithm, "use": "sig", "key_ops": ["verify"]})).find(kid)
        assert key is not None
        assert key.algorithm_name == algorithm


def test_of_two_keys_with_one_kid_the_first_is_used(keys: KeyPairs) -> None:
    for first, second in (("ed", "rsa"), ("rsa", "ed")):
        keyset = KeySet(jwks({**keys.jwks[first], "kid": "a"}, {**keys.jwks[second], "kid": "a"}))
        found = keyset.find("a")
        assert found is not None
        assert found.algorithm_name == {"ed": "EdDSA", "rsa": "RS256"}[first]
        assert keyset.find(None) is None


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"x", b"[]", b"{}", b"null", b"\xff", b'{"keys": {}}', b'{"keys": [], "keys": []}'),
        jwks(),
        jwks({"kty": "oct", "k": "x" * 43}),
    ],
)
def test_a_jwks_without_usable_keys_is_refused(content: bytes) -> None:
    with pytest.raises(KeysError, match="not a JWKS"):
        KeySet(content)
