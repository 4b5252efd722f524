"""The gRPC channels of a client: load balancing, keepalive, reconnects and retries."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc

from taskwell_client import arguments
from taskwell_client.targets import is_local

Option = tuple[str, Any]
"""A channel argument of gRPC (grpc/impl/channel_arg_names.h) and its value."""

_LOAD_BALANCING: dict[str, Any] = {
    "loadBalancingConfig": [{"round_robin": {}}],
    # Watch each address, and leave out those that are NOT_SERVING: a server that drains refuses calls until it exits.
    "healthCheckConfig": {"serviceName": "taskwell.v1.TaskService"},
}
"""Spread calls over all addresses that the target resolves to and that serve."""

_RETRYING = {
    **_LOAD_BALANCING,
    "methodConfig": [
        {
            "name": [{"service": "taskwell.v1.TaskService"}],
            # After about 0.1, 0.3 and 0.9 s; the core draws each at random, by up to a fifth more or less.
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                # CANCELLED by the server: some servers and proxies end calls so when they shut down. A call that this
                # program cancels is not retried.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
    # Retries stop while half of the tokens are used up: a failure takes a token, a success gives back a fifth of one.
    # A service that fails more than one attempt in six is not burdened with retries as well.
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.2},
}

_OPTIONS: tuple[Option, ...] = (
    # A dead connection is noticed within 40 s, also between calls. The service accepts a keepalive ping every 10 s
    # (TASKWELL_KEEPALIVE_MIN_INTERVAL); gRPC pings less often if a server answers "too many pings".
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without it the timeout may be a minute, whatever the option above says
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Reconnect within a second after an outage or a restart; gRPC's own maximum is two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True)
class TLS:
    """Certificates for TLS, as PEM files: `TLS(ca="ca.pem")`.

    For mutual TLS, also the client's own: `TLS(ca="ca.pem", cert="gateway.pem", key="gateway-key.pem")`.
    """

    ca: str | os.PathLike[str] | None = None
    """The CA that must have signed the server's certificate; None for the public CAs."""
    cert: str | os.PathLike[str] | None = None
    """The client's certificate with its intermediate certificates, for mutual TLS."""
    key: str | os.PathLike[str] | None = None
    """The private key of that certificate."""

    def __post_init__(self) -> None:
        for name in ("ca", "cert", "key"):
            arguments.path(name, getattr(self, name))
        if (self.cert is None) != (self.key is None):
            raise arguments.invalid("key" if self.key is None else "cert", "is missing: a certificate needs its key")

    def read(self) -> Callable[[], grpc.ChannelCredentials]:
        """Read the files. Returns a function that makes gRPC credentials. Raises OSError for an unreadable file."""
        ca, cert, key = (None if path is None else Path(path).read_bytes() for path in (self.ca, self.cert, self.key))
        return partial(grpc.ssl_channel_credentials, ca, key, cert)


Secure = bool | TLS | grpc.ChannelCredentials
"""False for plain text, True for TLS with the public CAs, or certificates or credentials for TLS."""


class InTurn:
    """Several channels behind the interface of one: calls take them in turn. Works for sync and asyncio channels."""

    def __init__(self, channels: Iterable[Any]) -> None:
        self.channels = tuple(channels)

    def unary_unary(self, *method: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401 - grpc's own
        multicallables = [channel.unary_unary(*method, **options) for channel in self.channels]
        return multicallables[0] if len(multicallables) == 1 else _Turns(multicallables)


class _Turns:
    """Several multicallables behind the interface of one."""

    def __init__(self, multicallables: Iterable[Any]) -> None:
        self._turns = cycle(multicallables)

    def __call__(self, request: Any, **call: Any) -> Any:  # noqa: ANN401 - grpc's own
        return next(self._turns)(request, **call)

    def future(self, request: Any, **call: Any) -> Any:  # noqa: ANN401 - grpc's own
        return next(self._turns).future(request, **call)


@dataclass(frozen=True)
class Channels:
    """Two kinds of channels to one service: one retries calls that are safe to repeat, the other never does.

    gRPC configures retries by method, and cannot know that a write with an etag, or a delete, must not be repeated.
    Channels whose arguments differ in the service config alone share their connections, so over plain text the second
    kind costs none. Over TLS it opens its own with the first such call: grpc makes new credentials for each channel.
    """

    retrying: InTurn
    once: InTurn

    def __iter__(self) -> Iterator[Any]:
        return iter((*self.retrying.channels, *self.once.channels))


def open_channels(
    grpc_module: Any,  # noqa: ANN401 - a module has no type
    target: str,
    credentials: Callable[[], grpc.ChannelCredentials] | None,
    count: int,
    options: Sequence[Option],
) -> Channels:
    """Make channels to a target with `grpc` or `grpc.aio`. They connect with the first call."""
    with_tls = credentials and credentials()

    def opened(service_config: Mapping[str, Any], number: int) -> Any:  # noqa: ANN401 - of either kind
        channel_arguments = {
            **dict(_OPTIONS),
            "grpc.service_config": json.dumps(service_config),
            # A proxy cannot reach this machine's own addresses, and gRPC would use one unless no_proxy says otherwise.
            **({"grpc.enable_http_proxy": 0} if is_local(target) else {}),
            # Unknown to gRPC, which shares connections between channels with equal arguments: each gets its own.
            "taskwell.channel": number,
            **dict(options),
        }
        if with_tls is None:
            return grpc_module.insecure_channel(target, options=list(channel_arguments.items()))
        return grpc_module.secure_channel(target, with_tls, options=list(channel_arguments.items()))

    return Channels(
        retrying=InTurn(opened(_RETRYING, number) for number in range(count)),
        once=InTurn(opened(_LOAD_BALANCING, number) for number in range(count)),
    )


def credentials_of(tls: Secure) -> Callable[[], grpc.ChannelCredentials] | None:
    """The credentials for `tls`, made when they are called for; None for plain text.

    Files are read at once. Raises OSError for a file that cannot be read.
    """
    if isinstance(tls, bool):
        return grpc.ssl_channel_credentials if tls else None
    if isinstance(tls, TLS):
        return tls.read()
    if not isinstance(tls, grpc.ChannelCredentials):
        raise TypeError(f"tls must be True, TLS(ca=...) or grpc's credentials, and not {type(tls).__name__}")
    return lambda: tls
