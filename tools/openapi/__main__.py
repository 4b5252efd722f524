"""Writes generated/openapi from the contract and the service's validation, or checks that it is current.

    python -m tools.openapi            write it
    python -m tools.openapi --check    compare; exit 1 if it is not current

Written here, because what can be had does not know how this service answers. gnostic's protoc-gen-openapi writes
OpenAPI 3.0 with one error for everything; protoc-gen-connect-openapi writes 3.1, also from google.api.http. Neither can
know the limits (rules in Python, not options in the proto), the reasons of each status, the headers, or that unknown
members are refused; and both are programs in Go, without which the document would grow stale unnoticed. What they do
know, the shape of ProtoJSON, is one table in schemas.py.
"""

import argparse
import json
import sys
from pathlib import Path

from tools.openapi.document import document

FILE = Path(__file__).resolve().parents[2] / "generated" / "openapi" / "taskwell.v1.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.openapi", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    text = json.dumps(document(), indent=2, ensure_ascii=False) + "\n"
    if not parser.parse_args().check:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(text)
    elif not FILE.is_file() or FILE.read_text() != text:
        print("generate: not current, run 'make generate':", FILE.relative_to(FILE.parents[2]), sep="\n  ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
