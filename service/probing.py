"""How a server is asked for its health by the settings that it was started with."""

from service.address import Address
from service.config.settings import Settings
from service.rpc.probe import Trust, probe
from service.tls.certificates import dns_names
from service.tls.files import read_pem

# A server that listens on every address is asked on this machine's own.
_OWN = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def probe_itself(settings: Settings) -> str:
    """What the server of these settings says of itself: `SERVING`, or else. Raises CertificateError."""
    host = _OWN.get(settings.grpc.host, settings.grpc.host)
    return probe(str(Address(host, settings.grpc.port)), _trust(settings))


def _trust(settings: Settings) -> Trust | None:
    """How the probe and a TLS server know each other. Raises CertificateError."""
    if settings.tls is None:
        return None
    chain, key, _ = settings.tls.read()
    ca = read_pem("HEALTH_CA", settings.health_ca) if settings.health_ca else chain
    name = next(iter(dns_names(chain)), None)
    if settings.health_cert and settings.health_key:
        chain, key = read_pem("HEALTH_CERT", settings.health_cert), read_pem("HEALTH_KEY", settings.health_key)
    return Trust(ca, name, key, chain)
