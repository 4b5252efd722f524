"""The PEM files that TLS needs: where they are, and what is in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

MOST_BYTES = 2**20
"""The longest file that is read (bytes)."""

Content: TypeAlias = tuple[bytes, bytes, bytes | None]
"""The certificates, their key, and the CA of the clients."""


class CertificateError(Exception):
    """These files are of no use for TLS; the message names the setting and says why, without what was read.

    Two that say the same are equal.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CertificateError) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def unusable(setting: str, problem: str) -> CertificateError:
    return CertificateError(f"TASKWELL_{setting}: {problem}")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where they are. With the CA of its clients a server takes connections only of those who have a certificate."""

    cert: str
    key: str
    client_ca: str | None = None

    def read(self) -> Content:
        """What is in the files. Raises CertificateError if one cannot be read."""
        client_ca = read_pem("TLS_CLIENT_CA", self.client_ca) if self.client_ca else None
        return read_pem("TLS_CERT", self.cert), read_pem("TLS_KEY", self.key), client_ca


def read_pem(setting: str, path: str) -> bytes:
    """What is in the file of this setting. Raises CertificateError."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise unusable(setting, f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise unusable(setting, f"{path} is longer than {MOST_BYTES} bytes")
    return content
