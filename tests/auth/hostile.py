"""A table of tokens that must be refused, with the reason for each, signed anew for each issuer."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.auth.issuing import (
    ALGORITHMS,
    AUDIENCE,
    ISSUER,
    KeyPairs,
    base64url,
    compact,
    good_claims,
    part,
    signing_with_secret,
)

# `...` stands for an absent member.
NO_ALGORITHMS: tuple[Any, ...] = (
    *(..., None, "", 1, True, [], ["EdDSA"], {}),
    *("RS384", "PS256", "ES384", "ES256K", "eddsa", "Ed448", " EdDSA"),
)
NO_KIDS: tuple[Any, ...] = (
    *(..., None, "", "ED", "ed ", "ed\0", "../ed", "/dev/null", "' OR 1=1 --", "e" * 3000),
    *("\u0435d", "ed\u200b"),
)
NO_TEXTS: tuple[Any, ...] = (1, True, ["ed"], {"ed": "ed"})
NO_NAMES: tuple[Any, ...] = (..., None, "", 1, True, {}, [], [[]])
OTHER_AUDIENCES: tuple[Any, ...] = (
    *(AUDIENCE.upper(), f"{AUDIENCE} ", AUDIENCE[:-1], "other", f"{AUDIENCE},other"),
    *(["other"], [AUDIENCE, 1], [[AUDIENCE]], {AUDIENCE: 1}, ["other", None]),
)
NO_TIMES: tuple[Any, ...] = (
    *(None, "", "1", "1900000000", True, False, [], [1_900_000_000], {}),
    *(10**400, -(10**400), 1e300, 2**53),
)
NO_USERS: tuple[Any, ...] = (
    *(..., None, "", " ", 1, True, [], ["alice"], {}, "x" * 256, "alice bob", " alice", "alice ", "alice\n"),
    *("a\0", "\0", "alice\t", "alice\x7f", "alice\x80", "\u0430lice", "alic\u0435", "alice\u200b", "alice\u200d"),
    *("\u202eecila", "\ufeffalice", "alice\u00ad", "alice\u00a0", "\uff41lice", "ali\u0300ce", "al\u0131ce", "\u00e9"),
    *("\U0001f600", "\ud800", "\U000e0061"),
)
NO_EXTENSIONS: tuple[Any, ...] = ([], ["exp"], ["alg"], ["b64"], ["x"], ["x", "exp"], "exp", None, 1, {}, [1], [None])
NO_TYPES: tuple[Any, ...] = ("logout+jwt", "dpop+jwt", "secevent+jwt", "JWE", "JWT ", "", 1, None, ["JWT"], {})

# The order of the group of Ed25519 (RFC 8032, 5.1).
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


class Hostile(NamedTuple):
    """A token, its defect, and the reason in the error that refuses it."""

    wrong: str
    reason: str
    token: str


def hostile_tokens(keys: KeyPairs, attacker: KeyPairs, now: float) -> list[Hostile]:
    """All hostile tokens, for a server that trusts `keys` and does not know the keys of `attacker`."""
    return [
        *_unsigned(keys, now),
        *_confused(keys, now),
        *_of_another_algorithm(keys, now),
        *_of_another_key(keys, attacker, now),
        *_with_their_own_key(attacker, now),
        *_with_broken_signatures(keys, now),
        *_for_others(keys, now),
        *_at_other_times(keys, now),
        *_of_nobody(keys, now),
        *_ambiguous(keys, now),
        *_extended(keys, now),
        *_misshapen(keys, now),
        *_oversized(keys, now),
    ]


def _unsigned(keys: KeyPairs, now: float) -> Iterator[Hostile]:
    for alg in ("none", "None", "NONE", "nOnE", "noneEdDSA"):
        header = {"alg": alg, "kid": "ed"}
        signed = f"{part(header)}.{part(good_claims(now))}"
        yield Hostile(f"alg {alg}, no signature", "TOKEN_MALFORMED", f"{signed}.")
        yield Hostile(f"alg {alg}, no third part", "TOKEN_MALFORMED", signed)
        yield Hostile(f"alg {alg}, any signature", "TOKEN_SIGNATURE", f"{signed}.AAAA")
        yield Hostile(f"alg {alg}, signed", "TOKEN_SIGNATURE", keys.token("ed", header=header, now=now))


def _confused(keys: KeyPairs, now: float) -> Iterator[Hostile]:
    """Tokens signed with a public key as HMAC secret."""
    for kind in ALGORITHMS:
        public = getattr(keys, kind).public_key()
        forms = {
            "PEM": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "PEM, stripped": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).strip(),
            "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            "JWK": json.dumps(keys.jwks[kind]).encode(),
            "nothing": b"",
        }
        for form, secret in forms.items():
            for alg, digest in (("HS256", "sha256"), ("HS512", "sha512")):
                token = compact({"alg": alg, "kid": kind}, good_claims(now), signing_with_secret(secret, digest))
                yield Hostile(f"{alg} with the {kind} key as {form}", "TOKEN_SIGNATURE", token)


def _of_another_algorithm(keys: KeyPairs, now: float) -> Iterator[Hostile]:
    for kind, own in ALGORITHMS.items():
        for alg in (*NO_ALGORITHMS, *(set(ALGORITHMS.values()) - {own})):
            token = keys.token(kind, header={"alg": alg}, now=now)
            yield Hostile(f"{kind} key, alg {alg!r}", "TOKEN_SIGNATURE", token)


def _of_another_key(keys: KeyPairs, attacker: KeyPairs, now: float) -> Iterator[Hostile]:
    for kind in ALGORITHMS:
        for kid in set(ALGORITHMS) - {kind}:
            token = keys.token(kind, header={"kid": kid}, now=now)
            yield Hostile(f"signed by {kind}, kid {kid}", "TOKEN_SIGNATURE", token)
        yield Hostile(f"unknown {kind} key of that kid", "TOKEN_SIGNATURE", attacker.token(kind, now=now))
    for kid in NO_KIDS:
        token = keys.token("ed", header={"kid": kid}, now=now)
        yield Hostile(f"kid {str(kid)[:20]!a}", "TOKEN_SIGNATURE", token)
    for no_text in NO_TEXTS:
        token = keys.token("ed", header={"kid": no_text}, now=now)
        yield Hostile(f"kid {no_text!r}", "TOKEN_MALFORMED", token)


def _with_their_own_key(attacker: KeyPairs, now: float) -> Iterator[Hostile]:
    """Tokens whose header holds the key that signs them, or its URL."""
    for kind in ALGORITHMS:
        jwk = attacker.jwks[kind]
        for name, value in (
            ("jwk", jwk),
            ("jku", "https://attacker.example/jwks"),
            ("x5u", "https://attacker.example/cert"),
            ("x5c", ["MIIB"]),
            ("keys", [jwk]),
        ):
            for kid in (kind, "attacker", ...):
                token = attacker.token(kind, header={name: value, "kid": kid}, now=now)
                yield Hostile(f"own {kind} key in {name}, kid {kid}", "TOKEN_SIGNATURE", token)


def _with_broken_signatures(keys: KeyPairs, now: float) -> Iterator[Hostile]:
    for kind, length in (("ed", 64), ("ec", 64), ("rsa", 256)):
        signed, _, signature = keys.token(kind, now=now).rpartition(".")
        other = keys.token(kind, now=now, sub="bob").rpartition(".")[2]
        own = urlsafe_b64decode(f"{signature}==")
        for wrong, value in (
            ("of another token", urlsafe_b64decode(f"{other}==")),
            ("with a bit changed", bytes([own[0] ^ 1]) + own[1:]),
            ("of zeros", bytes(length)),
            ("of ones", b"\xff" * length),
            ("of one byte", b"\0"),
            ("twice", 2 * own),
            ("cut off", own[:-1]),
            ("with more behind it", own + b"\0"),
        ):
            yield Hostile(f"{kind} signature {wrong}", "TOKEN_SIGNATURE", f"{signed}.{base64url(value)}")
        payload = part({**good_claims(now), "sub": "bob"})
        yield Hostile(f"{kind}, payload changed", "TOKEN_SIGNATURE", f"{signed.split('.')[0]}.{payload}.{signature}")
    token = compact({"alg": "ES256", "kid": "ec"}, good_claims(now), lambda data: keys.ec.sign(data, ECDSA(SHA256())))
    yield Hostile("ec signature in DER", "TOKEN_SIGNATURE", token)
    token = compact({"alg": "EdDSA", "kid": "ed"}, good_claims(now), lambda data: _malleated(keys.ed.sign(data)))
    yield Hostile("ed signature with s + L", "TOKEN_SIGNATURE", token)


def _malleated(signature: bytes) -> bytes:
    s = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    return signature[:32] + s.to_bytes(32, "little")


def _for_others(keys: KeyPairs, now: float) -> Iterator[Hostile]:
    for issuer in (*NO_NAMES, f"{ISSUER}/", ISSUER.upper(), ISSUER[:-1], f" {ISSUER}", "https://other", [ISSUER]):
        yield Hostile(f"iss {issuer!r}", "TOKEN_ISSUER", keys.token(now=now, iss=issuer))
    for audience in (*NO_NAMES, *OTHER_AUDIENCES):
        yield Hostile(f"aud {audience!r}", "TOKEN_AUDIENCE", keys.token(now=now, aud=audience))


def _at_other_times(keys: KeyPairs, now: float) -> Iterator[Hostile]:
    for no_time in (..., *NO_TIMES):
        yield Hostile(f"exp {str(no_time)[:9]}", "TOKEN_MALFORMED", keys.token(now=now, exp=no_time))
    for expiry in (0, -1, now - 31, now - 86_400, 0.5):
        yield Hostile(f"exp {expiry}", "TOKEN_EXPIRED", keys.token(now=now, exp=expiry))
    for no_time in NO_TIMES:
        yield Hostile(f"nbf {str(no_time)[:9]}", "TOKEN_MALFORMED", keys.token(now=now, nbf=no_time))
        yield Hostile(f"iat {str(no_time)[:9]}", "TOKEN_MALFORMED", keys.token(now=now, iat=no_time))
    for time in (now + 300, now + 10**9):
        yield Hostile(f"nbf {time}", "TOKEN_NOT_YET_VALID", keys.token(now=now, nbf=time))
        yield Hostile(f"iat {time}", "TOKEN_NOT_YET_VALID", keys.token(now=now, iat=time))
    for number in ("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "0x1", "1_0", "01"):
        payload = json.dumps(good_claims(now) | {"exp": 0}).replace('"exp": 0', f'"exp": {number}')
        token = compact({"alg": "EdDSA", "kid": "ed"}, payload.encode(), keys.ed.sign)
        yield Hostile(f"exp {number[:9]}", "TOKEN_MALFORMED", token)


def _of_nobody(keys: KeyPairs, now: float) -> Iterator[Hostile]:
    for name in NO_USERS:
        yield Hostile(f"sub {name!a:.20}", "TOKEN_SUBJECT", keys.token(now=now, sub=name))


def _ambiguous(keys: KeyPairs, now: float) -> Iterator[Hostile]:
    """Tokens with duplicate members, which two parsers could read differently."""
    header, payload = {"alg": "EdDSA", "kid": "ed"}, good_claims(now)
    for twice in (
        '"alg":"EdDSA"',
        '"alg":"none"',
        '"kid":"ed"',
        '"kid":"ec"',
        '"\\u0061lg":"none"',
        '"crit":1,"crit":2',
    ):
        doubled = json.dumps(header)[:-1] + f",{twice}}}"
        yield Hostile(f"header with {twice} again", "TOKEN_MALFORMED", compact(doubled.encode(), payload, keys.ed.sign))
    for twice in (
        '"sub":"alice"', '"sub":"bob"', '"s\\u0075b":"bob"', '"exp":9999999999', '"aud":"taskwell"', '"iss":"x"',
        '"a":{"b":1,"b":2}', '"a":[{"b":1,"\\u0062":1}]',
    ):  # fmt: skip
        doubled = json.dumps(payload)[:-1] + f",{twice}}}"
        yield Hostile(f"payload with {twice} again", "TOKEN_MALFORMED", compact(header, doubled.encode(), keys.ed.sign))

    for number in (float("nan"), float("inf"), -float("inf")):
        yield Hostile(f"{number} somewhere", "TOKEN_MALFORMED", keys.token(now=now, more=[number]))


def _extended(keys: KeyPairs, now: float) -> Iterator[Hostile]:
    for crit in NO_EXTENSIONS:
        token = keys.token(now=now, header={"crit": crit, "x": 1, "exp": 1})
        yield Hostile(f"crit {crit!r}", "TOKEN_MALFORMED", token)
    for more in ({"b64": False}, {"b64": True}, {"b64": False, "crit": ["b64"]}, {"b64": 0}, {"b64": None}):
        yield Hostile(f"header with {more}", "TOKEN_MALFORMED", keys.token(now=now, header=more))
    for kind in NO_TYPES:
        yield Hostile(f"typ {kind!r}", "TOKEN_MALFORMED", keys.token(now=now, header={"typ": kind}))


def _misshapen(keys: KeyPairs, now: float) -> Iterator[Hostile]:
    good = keys.token(now=now)
    header, payload, signature = good.split(".")

    def malformed(wrong: str, token: str) -> Hostile:
        return Hostile(wrong, "TOKEN_MALFORMED", token)

    for wrong in ("", ".", "..", "...", "a", "a.b", "a.b.c.d.e", "a.b.c", "null", "{}", "undefined", "Bearer", "x y z"):
        yield malformed(f"{wrong!r} alone", wrong)
    yield malformed("no header", f".{payload}.{signature}")
    yield malformed("no payload", f"{header}..{signature}")
    yield malformed("two parts", f"{payload}.{signature}")
    yield malformed("a fourth part", f"{good}.{signature}")
    yield malformed("two more parts", f"{good}.{payload}.{signature}")
    for at in range(0, len(header) + len(payload), 40):
        yield malformed(f"cut off at {at}", good[:at])
    for sign in ("=", "==", "%3D", "+", "/", "!", " ", ",", "\t", "\n", "\0", "é", "\u0661", "."):
        yield malformed(f"{sign!r} at the end", good + sign)
        yield malformed(f"{sign!r} in the payload", f"{header}.{payload}{sign}.{signature}")
    # The last character of 64 bytes has four bits that mean nothing; only one spelling is right.
    yield malformed("signature spelt otherwise", good[:-1] + chr(ord(good[-1]) + 1))
    for wrong, value in _no_objects(json.dumps(good_claims(now)).encode()):
        yield malformed(f"payload is {wrong}", compact({"alg": "EdDSA", "kid": "ed"}, value, keys.ed.sign))
        yield malformed(f"header is {wrong}", compact(value, good_claims(now), keys.ed.sign))


def _oversized(keys: KeyPairs, now: float) -> Iterator[Hostile]:
    for length in (6_200, 8_000):
        yield Hostile(f"{length} bytes in the payload", "TOKEN_TOO_LARGE", keys.token(now=now, more="x" * length))
        large = keys.token(now=now, header={"kid": "k" * length})
        yield Hostile(f"{length} bytes in the header", "TOKEN_TOO_LARGE", large)


def _no_objects(claims: bytes) -> Iterator[tuple[str, Any]]:
    """Bytes and values that are not a JSON object."""
    yield from (("a list", []), ("a text", "x"), ("a number", 1), ("null", None), ("no JSON", b"x"))
    yield "not UTF-8", claims[:-1] + b"\xff}"
    yield "in UTF-16", claims.decode().encode("utf-16")
    yield "behind a BOM", b"\xef\xbb\xbf" + claims
    yield "there twice", claims + claims
    yield "not ended", claims[:-1]
    yield "too deep", b'{"a":' + b"[" * 2500 + b"]" * 2500 + b"}"
