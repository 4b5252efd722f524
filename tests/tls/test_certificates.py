"""Verification of certificate files, and their renewal while the server runs."""

import os
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from service.tls.certificates import Certificates
from service.tls.files import CertificateError, CertificateFiles
from tests.tls.issuing import HOSTS, Authority, Files

Logs = list[Any]


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> Files:
    return Files(tmp_path, authority.issue(*HOSTS), authority.pem)


def certificates(files: Files) -> Certificates:
    return Certificates(CertificateFiles(str(files.cert), str(files.key), str(files.client_ca)))


def key_pem(key: Any, encryption: Any = None) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return pem


@pytest.mark.parametrize("kind", trustme.KeyType)
def test_rsa_and_elliptic_curve_keys_are_accepted(tmp_path: Path, authority: Authority, kind: trustme.KeyType) -> None:
    issued = authority.issue(*HOSTS, key_type=kind)
    pem = certificates(Files(tmp_path, issued, authority.pem)).pem
    assert (pem.key, pem.chain, pem.client_ca) == (issued.key, issued.chain, authority.pem)
    assert pem.names == ("localhost",)
    assert issued.key.decode().splitlines()[1] not in repr(pem)


WRONG = {
    "no certificate": ("cert", b"", "TLS_CERT: it has no certificate"),
    "noise": ("cert", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "TLS_CERT: it has no certif"),
    "no key": ("key", b"", "TLS_KEY: it has no private key"),
    "noise for a key": ("key", b"\0\xff", "TLS_KEY: it has no private key"),
    "another key": ("key", key_pem(ec.generate_private_key(ec.SECP256R1())), "TLS_KEY: it is not the key"),
    "a locked key": (
        "key",
        key_pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"password")),
        "TLS_KEY: it is encrypted",
    ),
    "a short key": ("key", key_pem(rsa.generate_private_key(65537, 1024)), "TLS_KEY: it is neither"),
    "another curve": ("key", key_pem(ec.generate_private_key(ec.SECP521R1())), "TLS_KEY: it is neither"),
    "another kind": ("key", key_pem(ed25519.Ed25519PrivateKey.generate()), "TLS_KEY: it is neither"),
    "no CA": ("client_ca", b"x", "TLS_CLIENT_CA: it has no certificate"),
    "too much": ("client_ca", bytes(2**20 + 1), "TLS_CLIENT_CA: .*longer"),
}


@pytest.mark.parametrize(("file", "content", "sentence"), WRONG.values(), ids=WRONG)
def test_unusable_certificate_files_are_refused(files: Files, file: str, content: bytes, sentence: str) -> None:
    getattr(files, file).write_bytes(content)
    with pytest.raises(CertificateError, match=f"TASKWELL_{sentence}"):
        certificates(files)


@pytest.mark.parametrize("file", ["cert", "key", "client_ca"])
def test_a_missing_certificate_file_is_refused(files: Files, file: str) -> None:
    getattr(files, file).unlink()
    with pytest.raises(CertificateError, match=rf"TASKWELL_TLS_{file.upper()}: .* cannot be read: No such file"):
        certificates(files)


def test_unchanged_certificates_are_not_renewed(files: Files) -> None:
    assert certificates(files).renewed() is None


def test_each_change_of_the_files_renews_the_certificate_once(files: Files, authority: Authority) -> None:
    kept = certificates(files)
    for _ in range(3):
        issued = authority.issue(*HOSTS)
        files.write(issued)
        pem = kept.renewed()
        assert pem is not None
        assert (pem.key, pem.chain) == (issued.key, issued.chain)
        assert kept.renewed() is None


def test_a_change_that_keeps_the_modification_time_renews_the_certificate(files: Files) -> None:
    kept = certificates(files)
    other = Authority().pem
    assert files.client_ca
    before = files.client_ca.stat()
    files.client_ca.write_bytes(other)
    os.utime(files.client_ca, ns=(before.st_atime_ns, before.st_mtime_ns))
    pem = kept.renewed()
    assert pem is not None
    assert pem.client_ca == other


@pytest.mark.parametrize(("file", "content", "sentence"), WRONG.values(), ids=WRONG)
def test_an_unusable_file_keeps_the_last_certificate_and_is_logged_once(
    files: Files, authority: Authority, file: str, content: bytes, sentence: str
) -> None:
    kept = certificates(files)
    good = kept.pem
    getattr(files, file).write_bytes(content)
    with capture_logs() as logs:
        for _ in range(10):
            assert kept.renewed() is None
    assert kept.pem is good
    assert [line["event"] for line in logs] == ["certificate not read"]
    assert sentence.partition(":")[0] in logs[0]["cause"]
    Files(files.cert.parent, authority.issue(*HOSTS), authority.pem)
    assert kept.renewed() is not None


def test_a_removed_file_keeps_the_last_certificate_and_is_logged_once(files: Files, authority: Authority) -> None:
    kept = certificates(files)
    files.key.unlink()
    with capture_logs() as logs:
        assert [kept.renewed() for _ in range(10)] == [None] * 10
    assert len(logs) == 1
    files.write(authority.issue(*HOSTS))
    assert kept.renewed() is not None


def test_a_new_key_is_used_when_its_certificate_is_there(files: Files, authority: Authority) -> None:
    kept = certificates(files)
    issued = authority.issue(*HOSTS)
    files.key.write_bytes(issued.key)
    assert kept.renewed() is None
    files.cert.write_bytes(issued.chain)
    pem = kept.renewed()
    assert pem is not None
    assert pem.chain == issued.chain
