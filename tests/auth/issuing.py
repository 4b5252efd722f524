"""An issuer of tokens for tests: its keys, the tokens it signs, and the web server that publishes its JWKS."""

import hmac
import json
import socket
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from service.auth.claims import Expected

ISSUER = "https://issuer.example"
AUDIENCE = "taskwell"
EXPECTED = Expected(ISSUER, AUDIENCE)
NOW = 1_800_000_000.0
"""The time in tests with a fixed clock (s since 1970)."""

ALGORITHMS = {"ed": "EdDSA", "rsa": "RS256", "ec": "ES256"}
"""The algorithm of each kind of key. The kinds are also the kids."""

Sign = Callable[[bytes], bytes]


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value: Any) -> str:
    """One part of a token: bytes as they are, anything else as JSON."""
    return base64url(value if isinstance(value, bytes) else json.dumps(value).encode())


def compact(header: Any, payload: Any, sign: Sign) -> str:
    """A token of any header and payload, however wrong (RFC 7515, 7.1)."""
    signed = f"{part(header)}.{part(payload)}"
    return f"{signed}.{base64url(sign(signed.encode()))}"


def signing_with_secret(secret: bytes, digest: str = "sha256") -> Sign:
    return lambda data: hmac.digest(secret, data, digest)


class KeyPairs:
    """A key of each kind."""

    def __init__(self) -> None:
        self.ed = ed25519.Ed25519PrivateKey.generate()
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def jwks(self) -> dict[str, dict[str, Any]]:
        """The public keys by their kids."""
        keys = {
            "ed": OKPAlgorithm.to_jwk(self.ed.public_key(), as_dict=True),
            "rsa": RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True),
            "ec": ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True),
        }
        return {kid: {**key, "kid": kid} for kid, key in keys.items()}

    def published(self, *kids: str) -> bytes:
        """A JWKS with these of the keys, or with all."""
        return json.dumps({"keys": [self.jwks[kid] for kid in kids or ALGORITHMS]}).encode()

    def signing(self, kind: str) -> Sign:
        return {"ed": self.ed.sign, "rsa": self._sign_rsa, "ec": self._sign_ec}[kind]

    def token(
        self, kind: str = "ed", *, header: Mapping[str, Any] | None = None, now: float = NOW, **claims: Any
    ) -> str:
        """A token for alice, good but for what is changed: members that are `...` are left out."""
        return compact(
            changed({"alg": ALGORITHMS[kind], "kid": kind, "typ": "JWT"}, header or {}),
            changed(good_claims(now), claims),
            self.signing(kind),
        )

    def _sign_rsa(self, data: bytes) -> bytes:
        return self.rsa.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def _sign_ec(self, data: bytes) -> bytes:
        r, s = decode_dss_signature(self.ec.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def good_claims(now: float) -> dict[str, Any]:
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": int(now), "exp": int(now) + 300}


def changed(members: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**members, **changes}.items() if value is not ...}


class Publisher:
    """The responses of an issuer's web server, and the number of its requests."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.answers = threading.Event()
        """While this is cleared, requests wait."""
        self.answers.set()
        self.url = ""


@contextmanager
def publishing(content: bytes) -> Iterator[Publisher]:
    """A local web server that publishes this content."""
    publisher = Publisher(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            publisher.asked += 1
            publisher.answers.wait(30)
            self.send_response(publisher.status)
            for name, value in {"Content-Length": str(len(publisher.content)), **publisher.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(publisher.content)

        def log_message(self, *_args: object) -> None:
            """Be quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        publisher.url = f"http://127.0.0.1:{server.server_port}/jwks"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield publisher
        finally:
            publisher.answers.set()
            server.shutdown()
            thread.join()


@contextmanager
def dripping() -> Iterator[str]:
    """The URL of a server that sends the head of a response a line at a time and does not come to its end."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nx-drip: ")
            while not ended.wait(0.01):
                connection.sendall(b"x")

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/jwks"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)


class Clock:
    """A clock that the test sets (s)."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
