"""`taskwell health`: asks the server that has the same settings whether it is ready.

It imports little, because containers run it every few seconds: with a metrics address it asks that over plain HTTP, and
only without one it needs gRPC.
"""

from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, NamedTuple

from service.address import Address, parse_address
from service.config.few_settings import OtherFlags, read_few_settings
from service.tls.files import read_pem

if TYPE_CHECKING:
    import grpc

SERVING = "SERVING"
NOT_SERVING = "NOT_SERVING"
_UNAVAILABLE = "UNAVAILABLE"

# A server that listens on all addresses is asked on loopback.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
_TIMEOUT = 3.0  # s
# Never through a proxy from the environment: the server is on this machine.
_OPTIONS = (("grpc.enable_http_proxy", 0),)
# HealthCheckResponse, whose only field is the status: its messages in the wire format.
_STATUSES = {b"\x08\x01": SERVING, b"\x08\x02": NOT_SERVING}

DEFAULTS: Mapping[str, str] = {
    "grpc_address": "127.0.0.1:50051",
    "metrics_address": "",
    "tls_cert": "",
    "tls_key": "",
    "health_ca": "",
    "health_cert": "",
    "health_key": "",
}
"""The settings that a health check needs, and their defaults."""


class TlsClient(NamedTuple):
    """TLS parameters of the health check: `key` and `chain` are its client certificate. All PEM."""

    ca: bytes
    """CA of the server's certificate, or that certificate itself."""
    name: str | None
    """Name to expect in the server's certificate; None for the host of the address."""
    key: bytes
    chain: bytes


def settings_of(arguments: Sequence[str]) -> Mapping[str, str]:
    """Read the settings from the flags of `taskwell health`, the environment and `.env`.

    Flags of other settings are verified and ignored, so that a health check may have the flags of its server. Raises
    ValueError if one of them is invalid.
    """
    try:
        return read_few_settings(DEFAULTS, arguments)
    except OtherFlags:
        from service.config.load import SettingsError, load_settings

        try:
            settings = load_settings("taskwell health", list(arguments))
        except SettingsError as error:
            raise ValueError(str(error)) from None
        return {name: str(getattr(settings, name) or "") for name in DEFAULTS}


def check_health(settings: Mapping[str, str]) -> list[str]:
    """Return the health of the local server, `SERVING` or another status or code, and the reasons if it is not ready.

    Raises CertificateError, and ValueError for an address that is none.
    """
    if settings["metrics_address"] and (address := _local(settings["metrics_address"])).port:
        return _ask_readyz(address)
    return [probe(str(_local(settings["grpc_address"])), _tls_client(settings))]


def _local(text: str) -> Address:
    address = parse_address(text)
    return Address(_LOOPBACK.get(address.host, address.host), address.port)


def _ask_readyz(address: Address) -> list[str]:
    connection = HTTPConnection(address.host, address.port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        _, *reasons = response.read(2**16).decode(errors="replace").splitlines() or [""]
    except (OSError, HTTPException):
        return [_UNAVAILABLE]
    finally:
        connection.close()
    statuses = {200: SERVING, 503: NOT_SERVING}
    return [statuses.get(response.status, f"HTTP_{response.status}"), *reasons]


def _tls_client(settings: Mapping[str, str]) -> TlsClient | None:
    """Return the TLS parameters; None without TLS. Raises CertificateError."""
    if not settings["tls_cert"] or not settings["tls_key"]:
        return None
    from service.tls.certificates import dns_names  # imports cryptography, which takes time

    chain, key = read_pem("TLS_CERT", settings["tls_cert"]), read_pem("TLS_KEY", settings["tls_key"])
    ca = read_pem("HEALTH_CA", settings["health_ca"]) if settings["health_ca"] else chain
    name = next(iter(dns_names(chain)), None)
    if settings["health_cert"] and settings["health_key"]:
        chain, key = read_pem("HEALTH_CERT", settings["health_cert"]), read_pem("HEALTH_KEY", settings["health_key"])
    return TlsClient(ca, name, key, chain)


def probe(target: str, tls: TlsClient | None = None) -> str:
    """Return what the health service says (`SERVING`, `NOT_SERVING`), or the status code of the failed call."""
    import grpc

    with _channel(target, tls) as channel:
        try:
            # Without the generated code, whose import would take as long again. An empty message asks for the server.
            check: grpc.UnaryUnaryMultiCallable[bytes, bytes]
            check = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
            answer = check(b"", timeout=_TIMEOUT)
        except grpc.RpcError as error:
            return str(error.code().name)
    return _STATUSES.get(answer, "UNKNOWN")


def _channel(target: str, tls: TlsClient | None) -> "grpc.Channel":
    import grpc

    if tls is None:
        return grpc.insecure_channel(target, options=_OPTIONS)
    name = (("grpc.ssl_target_name_override", tls.name),) if tls.name else ()
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.chain)
    return grpc.secure_channel(target, credentials, options=(*_OPTIONS, *name))
