"""gRPC server credentials that use renewed certificates without a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from service.tls.certificates import Pem


def server_credentials(pem: Pem, renewed: Callable[[], Pem | None]) -> grpc.ServerCredentials:
    """Credentials that start with `pem` and call `renewed` before each handshake. It must not raise.

    Open connections keep the certificate they began with. With a client CA, a client that has no certificate of that CA
    is refused in the handshake.
    """

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        new = renewed()
        return _configuration(new) if new else None

    return grpc.dynamic_ssl_server_credentials(
        _configuration(pem),
        fetch,  # type: ignore[arg-type]  # it may return None, as its documentation says
        require_client_authentication=pem.client_ca is not None,
    )


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.chain)], root_certificates=pem.client_ca)
