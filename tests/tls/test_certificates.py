"""Verification of certificate files, and their renewal while the server runs."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from service.readiness import Readiness
from service.server import authentication
from service.tls.certificates import Certificates
from service.tls.files import CertificateError, CertificateFiles
from tests.running import settings_for
from tests.tls.issuing import HOSTS, Authority, Files, Issued
from tests.waiting import eventually

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
    assert certificates(files).follow()() is None


def test_each_change_of_the_files_renews_the_certificate_once(files: Files, authority: Authority) -> None:
    renewed = certificates(files).follow()
    for _ in range(3):
        issued = authority.issue(*HOSTS)
        files.write(issued)
        pem = renewed()
        assert pem is not None
        assert (pem.key, pem.chain) == (issued.key, issued.chain)
        assert renewed() is None


def test_a_change_that_keeps_the_modification_time_renews_the_certificate(files: Files) -> None:
    renewed = certificates(files).follow()
    other = Authority().pem
    assert files.client_ca
    before = files.client_ca.stat()
    files.client_ca.write_bytes(other)
    os.utime(files.client_ca, ns=(before.st_atime_ns, before.st_mtime_ns))
    pem = renewed()
    assert pem is not None
    assert pem.client_ca == other


@pytest.mark.parametrize(("file", "content", "sentence"), WRONG.values(), ids=WRONG)
def test_an_unusable_file_keeps_the_last_certificate_and_is_logged_once(
    files: Files, authority: Authority, file: str, content: bytes, sentence: str
) -> None:
    kept = certificates(files)
    renewed, good = kept.follow(), kept.pem
    getattr(files, file).write_bytes(content)
    with capture_logs() as logs:
        for _ in range(10):
            assert renewed() is None
    assert kept.pem is good
    assert [line["event"] for line in logs] == ["certificate not read"]
    assert sentence.partition(":")[0] in logs[0]["cause"]
    Files(files.cert.parent, authority.issue(*HOSTS), authority.pem)
    assert renewed() is not None


def test_a_removed_file_keeps_the_last_certificate_and_is_logged_once(files: Files, authority: Authority) -> None:
    renewed = certificates(files).follow()
    files.key.unlink()
    with capture_logs() as logs:
        assert [renewed() for _ in range(10)] == [None] * 10
    assert len(logs) == 1
    files.write(authority.issue(*HOSTS))
    assert renewed() is not None


def test_a_new_key_is_used_when_its_certificate_is_there(files: Files, authority: Authority) -> None:
    renewed = certificates(files).follow()
    issued = authority.issue(*HOSTS)
    files.key.write_bytes(issued.key)
    assert renewed() is None
    files.cert.write_bytes(issued.chain)
    pem = renewed()
    assert pem is not None
    assert pem.chain == issued.chain


# Validity

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Dated:
    """Certificate files whose certificates are valid for some days, counted from NOW."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._authority = authority
        self.now = NOW
        self.files = Files(folder, self.issued(-10, 100), self.issued(-10, 100).chain)

    def issued(self, start: float, end: float) -> Issued:
        return self._authority.dated(start * DAY, end * DAY, NOW)

    def read(self) -> Certificates:
        found = CertificateFiles(str(self.files.cert), str(self.files.key), str(self.files.client_ca))
        return Certificates(found, lambda: self.now)


@pytest.fixture
def dated(tmp_path: Path, authority: Authority) -> Dated:
    return Dated(tmp_path, authority)


INVALID = {"expired": ((-10, -0.001), "has expired"), "not yet valid": ((0.001, 10), "is not valid yet")}


@pytest.mark.parametrize(("dates", "problem"), INVALID.values(), ids=INVALID)
def test_a_certificate_that_is_not_valid_now_is_refused(dated: Dated, dates: Any, problem: str) -> None:
    dated.files.write(dated.issued(*dates))
    with pytest.raises(CertificateError, match=f"TASKWELL_TLS_CERT: the certificate {problem}: it .* 2026-11-27T1"):
        dated.read()


@pytest.mark.parametrize(("dates", "problem"), INVALID.values(), ids=INVALID)
def test_an_intermediate_that_is_not_valid_now_is_refused(dated: Dated, dates: Any, problem: str) -> None:
    issued = dated.issued(-10, 10)
    dated.files.write(Issued(issued.key, issued.chain + dated.issued(*dates).chain))
    with pytest.raises(CertificateError, match=f"TASKWELL_TLS_CERT: certificate 2 in the file {problem}"):
        dated.read()


@pytest.mark.parametrize(("dates", "problem"), INVALID.values(), ids=INVALID)
def test_client_cas_are_refused_if_none_is_valid_now(dated: Dated, dates: Any, problem: str) -> None:
    assert dated.files.client_ca
    old = dated.issued(*dates).chain
    dated.files.client_ca.write_bytes(old)
    with pytest.raises(CertificateError, match=f"TASKWELL_TLS_CLIENT_CA: the certificate {problem}"):
        dated.read()
    dated.files.client_ca.write_bytes(old + dated.issued(-1, 30).chain)
    assert dated.read().pem.client_ca


def test_a_renewed_certificate_that_has_expired_keeps_the_old_one_and_is_logged_once(dated: Dated) -> None:
    kept = dated.read()
    old = kept.pem
    dated.files.write(dated.issued(-10, -1))
    with capture_logs() as logs:
        for _ in range(3):
            assert kept.latest() is old
    assert [(line["event"], line["log_level"]) for line in logs] == [("certificate not read", "warning")]
    assert "has expired" in logs[0]["cause"]
    dated.files.write(dated.issued(-10, 20))
    assert kept.latest() is not old


def test_a_renewed_certificate_that_is_not_valid_yet_is_used_as_soon_as_it_is(dated: Dated) -> None:
    kept = dated.read()
    old, renewed = kept.pem, kept.follow()
    issued = dated.issued(1, 20)
    dated.files.write(issued)
    with capture_logs() as logs:
        assert [renewed() for _ in range(3)] == [None] * 3
    assert [line["event"] for line in logs] == ["certificate not read"]
    dated.now += DAY
    pem = renewed()
    assert pem
    assert (pem.chain, renewed()) == (issued.chain, None)
    assert old.chain != issued.chain


@pytest.mark.parametrize(("days", "level"), [(14.01, None), (13.9, "warning"), (2.01, "warning"), (1.9, "error")])
def test_a_certificate_that_ends_soon_is_reported_when_it_is_read_and_later(
    dated: Dated, days: float, level: str | None
) -> None:
    dated.files.write(dated.issued(-30, days))
    with capture_logs() as logs:
        kept = dated.read()
        kept.report()
    reports = [line for line in logs if line["event"] == "certificate expires"]
    assert [(line["file"], line["log_level"]) for line in reports] == [("certificate", level)] * (2 * bool(level))
    assert {line["days_left"] for line in reports} == ({round(days, 1)} if level else set())
    dated.now += 2 * days * DAY
    with capture_logs() as logs:
        kept.report()
    assert [(line["log_level"], line["days_left"]) for line in logs] == [("error", -round(days, 1))]


def test_a_client_ca_that_ends_soon_is_reported(dated: Dated) -> None:
    assert dated.files.client_ca
    dated.files.client_ca.write_bytes(dated.issued(-10, 3).chain + dated.issued(-10, 50).chain)
    kept = dated.read()
    assert kept.pem.ends(NOW) == {"certificate": NOW + 100 * DAY, "client_ca": NOW + 3 * DAY}
    with capture_logs() as logs:
        kept.report()
    assert [(line["file"], line["days_left"]) for line in logs] == [("client_ca", 3)]
    assert kept.pem.ends(NOW + 4 * DAY)["client_ca"] == NOW + 50 * DAY, "the other one is still of use"
    assert kept.pem.ends(NOW + 60 * DAY)["client_ca"] == NOW + 50 * DAY


async def test_renewed_files_are_noticed_without_a_handshake(
    tmp_path: Path, sqlite_url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_LOOK_EVERY", 0.01)
    files = Files(tmp_path, authority.issue("localhost"))
    settings = settings_for(sqlite_url, **files.settings)
    authenticating = authentication.Authentication(settings, Readiness())
    served = authenticating.certificates()
    assert served
    before = served.pem
    files.write(authority.issue("localhost"))
    await eventually(lambda: served.pem is not before)
    authenticating.stop()
