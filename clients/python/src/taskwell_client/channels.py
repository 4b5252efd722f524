"""The channels of a client: where they lead, how they are kept alive, what is sent again and when."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc

from taskwell_client.targets import is_local

Option = tuple[str, Any]
"""A channel argument of gRPC (grpc/impl/channel_arg_names.h) and its value."""

_LOAD_BALANCING: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
"""Over all addresses that the target's name has."""

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
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # No more is sent again when half of the tokens are gone: a failure takes one, a success brings a fifth. Where more
    # than one attempt in six fails for long, the service has other worries than to hear everything four times.
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.2},
}

_OPTIONS: tuple[Option, ...] = (
    # A server that is gone without a word is noticed within 40 s, also between calls. The service lets a client ask for
    # a sign of life every 10 s (TASKWELL_KEEPALIVE_MIN_INTERVAL), and gRPC asks less often where a server complains.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without it the answer may take a minute, whatever the one above says
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A service that comes back is found again within seconds; gRPC would wait for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


@dataclass(frozen=True)
class TLS:
    """How the client and a TLS server know each other, in PEM files: `TLS(ca="ca.pem")`.

    For mutual TLS also with the client's own: `TLS(ca="ca.pem", cert="gateway.pem", key="gateway-key.pem")`.
    """

    ca: str | os.PathLike[str] | None = None
    """The CA that the server's certificate is verified by; None for the public ones."""
    cert: str | os.PathLike[str] | None = None
    """The client's certificate, and those between it and its CA, for mutual TLS."""
    key: str | os.PathLike[str] | None = None
    """The key of that certificate."""

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC makes of the files. Raises OSError for a file that cannot be read."""
        if (self.cert is None) != (self.key is None):
            raise ValueError("a certificate needs its key, and a key its certificate: give both, or neither")
        ca, cert, key = (path and Path(path).read_bytes() for path in (self.ca, self.cert, self.key))
        return grpc.ssl_channel_credentials(ca or None, key or None, cert or None)


Secure = bool | TLS | grpc.ChannelCredentials
"""False for plain text, True for TLS with the public CAs, or how else the two know each other."""


class InTurn:
    """Several channels that look like one: each call takes the next one. Sync channels or asyncio's, all the same."""

    def __init__(self, channels: Iterable[Any]) -> None:
        self.channels = tuple(channels)

    def unary_unary(self, *method: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401 - grpc's own
        if len(self.channels) == 1:
            alone: Callable[..., Any] = self.channels[0].unary_unary(*method, **options)
            return alone
        turns = cycle([channel.unary_unary(*method, **options) for channel in self.channels])
        return lambda request, **call: next(turns)(request, **call)


@dataclass(frozen=True)
class Channels:
    """The ways to one service: what is sent over the one is sent again where that is safe, over the other never.

    gRPC retries by method, and cannot know that a write with an etag, or a delete, must not be sent twice in silence.
    Channels whose arguments are equal but for the service config share their connections, so over plain text the second
    kind costs none. Over TLS it has its own, from the first such call on: grpc makes new credentials for each channel.
    """

    retrying: InTurn
    once: InTurn
    is_private: bool
    """Whether nobody on the way can read along: TLS, or the same machine."""

    def __iter__(self) -> Iterator[Any]:
        return iter((*self.retrying.channels, *self.once.channels))


def open_channels(
    grpc_module: Any,  # noqa: ANN401 - a module has no type
    target: str,
    tls: Secure,
    count: int,
    options: Sequence[Option],
) -> Channels:
    """Channels to a target, made by `grpc` or by `grpc.aio`; nothing is connected yet.

    Raises ValueError, OSError for files of `tls` that cannot be read.
    """
    if count < 1:
        raise ValueError(f"channels must be 1 or more, and not {count}")
    credentials = _credentials(tls)

    def opened(service_config: Mapping[str, Any], number: int) -> Any:  # noqa: ANN401 - of either kind
        arguments = {
            **dict(_OPTIONS),
            "grpc.service_config": json.dumps(service_config),
            # What is on this machine is not reached through a proxy. gRPC only honours no_proxy.
            **({"grpc.enable_http_proxy": 0} if is_local(target) else {}),
            # gRPC does not know it, and takes channels whose arguments differ for strangers: each gets a connection.
            "taskwell.channel": number,
            **dict(options),
        }
        if credentials is None:
            return grpc_module.insecure_channel(target, options=list(arguments.items()))
        return grpc_module.secure_channel(target, credentials, options=list(arguments.items()))

    return Channels(
        retrying=InTurn(opened(_RETRYING, number) for number in range(count)),
        once=InTurn(opened(_LOAD_BALANCING, number) for number in range(count)),
        is_private=credentials is not None or is_local(target),
    )


def _credentials(tls: Secure) -> grpc.ChannelCredentials | None:
    if isinstance(tls, bool):
        return grpc.ssl_channel_credentials() if tls else None
    return tls.credentials() if isinstance(tls, TLS) else tls
