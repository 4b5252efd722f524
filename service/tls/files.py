"""Paths and contents of the PEM files that TLS needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

MAX_BYTES = 2**20
"""Largest file that is read (bytes)."""

Content: TypeAlias = tuple[bytes, bytes, bytes | None]
"""The certificate chain, its key, and the CA of the clients (PEM)."""


class CertificateError(Exception):
    """A PEM file cannot be used. The message names the setting and the problem, and quotes nothing that was read.

    Errors with equal messages are equal.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CertificateError) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def unusable(setting: str, problem: str) -> CertificateError:
    return CertificateError(f"TASKWELL_{setting}: {problem}")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Paths of the files. With `client_ca` the server accepts only clients with a certificate of that CA."""

    cert: str
    key: str
    client_ca: str | None = None

    def read(self) -> Content:
        """Read the files. Raises CertificateError if one cannot be read."""
        client_ca = read_pem("TLS_CLIENT_CA", self.client_ca) if self.client_ca else None
        return read_pem("TLS_CERT", self.cert), read_pem("TLS_KEY", self.key), client_ca


def read_pem(setting: str, path: str) -> bytes:
    """Read the file that a setting names. Raises CertificateError."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise unusable(setting, f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise unusable(setting, f"{path} is longer than {MAX_BYTES} bytes")
    return content
