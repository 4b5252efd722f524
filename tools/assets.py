"""Fetches the assets of the documentation page (`make assets`), needed only for a new version.

The assets are in the repository, so that neither the service nor its installation loads anything from elsewhere. The
archive must have the digest below. SHA256SUMS lists the digests of the files, and a test verifies them.
"""

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "swagger-ui-dist"
VERSION = "5.35.0"
SHA512 = "U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ=="
FILES = (
    "swagger-ui-bundle.js",
    "swagger-ui-bundle.js.LICENSE.txt",
    "swagger-ui.css",
    "favicon-32x32.png",
    "LICENSE",
    "NOTICE",
)

ASSETS = Path(__file__).resolve().parent.parent / "service" / "rest" / "assets" / f"swagger-ui-{VERSION}"


def checksums(folder: Path) -> str:
    """The content of SHA256SUMS for the other files of a folder, as `sha256sum --check` reads it."""
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        subprocess.run(
            ["npm", "pack", "--silent", "--ignore-scripts", f"{PACKAGE}@{VERSION}"],
            cwd=temporary,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        [archive] = Path(temporary).iterdir()
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != SHA512:
            print(f"assets: {archive.name} has the SHA-512 digest {digest}, not the expected one")
            return 1
        ASSETS.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as files:
            for name in FILES:
                member = files.extractfile(f"package/{name}")
                assert member is not None
                (ASSETS / name).write_bytes(member.read())
    (ASSETS / "SHA256SUMS").write_text(checksums(ASSETS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
