"""Certificates that are swapped under load: no call may fail.

    python -m tests.soak.renewal [SWAPS]      (1,000 of them)

Calls go over connections that stay and over connections that are made anew for each. Every swap writes the key and then
the certificate, as two files are written, and is over when a new connection meets the new certificate; before every
second one the certificate is corrupted, and connections must still meet the last good one.
"""

import ssl
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from service.log import configure_log
from tests.running import Api, running_service, settings_for
from tests.tls.issuing import HOSTS, Authority, Files, secure_channel
from tests.waiting import until


class Load:
    """Calls without a pause, and their results."""

    def __init__(self, address: str, authority: Authority) -> None:
        self._address = address
        self._authority = authority
        self._over = threading.Event()
        self._ended = {"kept connection": 0, "new connection": 0}
        self.outcomes: Counter[str] = Counter()

    @contextmanager
    def on(self) -> Iterator[None]:
        threads = [threading.Thread(target=target) for target in (self._on_one_connection, self._on_new_connections)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def goes_on(self) -> None:
        """Wait until calls of both kinds that start from now on have ended."""
        before = dict(self._ended)
        until(lambda: all(self._ended[kind] >= ended + 2 for kind, ended in before.items()))

    def _on_one_connection(self) -> None:
        with secure_channel(self._address, self._authority.pem) as channel:
            while not self._over.is_set():
                self._call(channel, "kept connection")

    def _on_new_connections(self) -> None:
        while not self._over.is_set():
            with secure_channel(self._address, self._authority.pem) as channel:
                self._call(channel, "new connection")

    def _call(self, channel: grpc.Channel, over: str) -> None:
        try:
            Api(channel, "alice").list(page_size=1)
            self.outcomes[f"{over}: OK"] += 1
        except grpc.RpcError as error:
            self.outcomes[f"{over}: {error}"] += 1
        self._ended[over] += 1


def swapped(folder: Path, database_url: str, swaps: int) -> Counter[str]:
    """Swap certificates a number of times under load. Returns the results of the calls."""
    authority = Authority()
    files = Files(folder, authority.issue(*HOSTS))
    with running_service(settings_for(database_url, **files.settings)) as address:
        load = Load(address, authority)
        with load.on():
            for number in range(swaps):
                if number % 2:
                    good = files.cert.read_bytes()
                    files.cert.write_bytes(good[:100] + b"corrupted" + good[109:])
                    assert met(address) == good
                    load.goes_on()
                issued = authority.issue(*HOSTS)
                files.write(issued)
                assert met(address) == issued.chain
                load.goes_on()
    return load.outcomes


def met(address: str) -> bytes:
    """The certificate that the server presents to a new connection."""
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port))).encode()


def main() -> None:
    configure_log("error", "auto")
    swaps = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        outcomes = swapped(Path(folder), f"sqlite:///{folder}/taskwell.db", swaps)
    print(f"{swaps:,} swaps, {swaps // 2:,} corrupted files")
    for outcome, calls in sorted(outcomes.items()):
        print(f"{calls:>9,} calls, {outcome}")
    if not all(outcome.endswith(": OK") for outcome in outcomes):
        sys.exit("calls failed")


if __name__ == "__main__":
    main()
