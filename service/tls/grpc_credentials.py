"""gRPC server credentials that follow the certificates as they are renewed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from service.tls.certificates import Pem


def server_credentials(pem: Pem, renewed: Callable[[], Pem | None]) -> grpc.ServerCredentials:
    """Begin with these; `renewed` is asked before each handshake, and must not raise. Open connections stay.

    With a CA of the clients, a client without a certificate of it is not connected.
    """

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        new = renewed()
        return _configuration(new) if new else None

    return grpc.dynamic_ssl_server_credentials(
        _configuration(pem),
        fetch,  # type: ignore[arg-type]  # it may answer None, as its documentation says
        require_client_authentication=pem.client_ca is not None,
    )


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.chain)], root_certificates=pem.client_ca)
