"""Writes everything under generated/ from the proto, or checks that what is there is current.

Runs in an environment of its own (requirements/generate.txt) with an old grpcio-tools, because stubs refuse to run on a
grpcio older than the grpcio-tools that made them, and clients may have an old grpcio.

    python tools/generate.py           write generated/
    python tools/generate.py --check   write to a temporary folder and compare; exit 1 names what differs
    python tools/generate.py --image F write only the descriptor set that buf lints, to the file F
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = "taskwell/v1/tasks.proto"
ERRORS = ("google/rpc/error_details.proto", "google/rpc/status.proto")
GO_MODULE = "example.com/taskwell"
GO_VERSION = "1.24.0"  # the oldest that this grpc supports
GO_PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.1",
)
GO_REQUIREMENTS = (
    "google.golang.org/protobuf@v1.36.11",
    "google.golang.org/grpc@v1.80.0",
    "google.golang.org/genproto/googleapis/api@v0.0.0-20260120221211-b8f7ae30c516",
)


def run_protoc(*arguments: str) -> None:
    """Run protoc on the proto; Google's own protos come from googleapis-common-protos."""
    google_api = Path(annotations_pb2.__file__).parents[2]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    flags = [f"--proto_path={path}" for path in (ROOT / "proto", google_api, well_known)]
    if protoc.main(["protoc", *flags, *arguments, PROTO]) != 0:
        sys.exit("generate: protoc failed, see above")


def write_image(path: Path, *more: str) -> None:
    """Write the proto and more files, with their imports and comments, as one descriptor set."""
    run_protoc("--include_imports", "--include_source_info", f"--descriptor_set_out={path}", *more)


def write_protoset(path: Path) -> None:
    """Write the descriptor set for reflection, and for tools that cannot use reflection.

    It also has the error details and the health service. Only the comments of our proto are kept.
    """
    write_image(path, *ERRORS)
    descriptors = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    for file in descriptors.file:
        if file.name != PROTO:
            file.ClearField("source_code_info")
    health_pb2.DESCRIPTOR.CopyToProto(descriptors.file.add())
    path.write_bytes(descriptors.SerializeToString(deterministic=True))


def write_python(out: Path) -> None:
    """Write messages, grpc stubs and their types, importable as `taskwell.v1`."""
    package = out / "taskwell" / "v1"
    package.mkdir(parents=True)
    # The plugins of mypy-protobuf are next to this interpreter, which may not be on the PATH.
    scripts = Path(sys.executable).parent
    run_protoc(
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
    )
    (package / "__init__.py").write_text('"""The generated Python of the proto package taskwell.v1."""\n')
    (package / "py.typed").touch()
    write_protoset(package / "taskwell.protoset")


def run_go(*arguments: str, folder: Path = ROOT, **environment: str) -> None:
    """Run the Go toolchain. Exits with its output if it fails."""
    ran = subprocess.run(
        ["go", *arguments],
        cwd=folder,
        env={**os.environ, "GOFLAGS": "", "GOWORK": "off", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        sys.exit(f"generate: go {' '.join(arguments)} failed:\n{ran.stdout}")


def write_go(out: Path) -> None:
    """Write a Go module with messages and grpc stubs. The Go toolchain builds the plugins in .tools."""
    tools = ROOT / ".tools"
    tools.mkdir(exist_ok=True)
    for plugin in GO_PLUGINS:
        stamp = tools / plugin.replace("/", "_")
        if not stamp.exists():
            run_go("install", plugin, GOBIN=str(tools))
            stamp.touch()
    out.mkdir(parents=True, exist_ok=True)
    run_protoc(
        f"--plugin=protoc-gen-go={tools / 'protoc-gen-go'}",
        f"--plugin=protoc-gen-go-grpc={tools / 'protoc-gen-go-grpc'}",
        f"--go_out={out}",
        f"--go_opt=module={GO_MODULE}",
        f"--go-grpc_out={out}",
        f"--go-grpc_opt=module={GO_MODULE}",
    )
    requirements = [f"-require={requirement}" for requirement in GO_REQUIREMENTS]
    run_go("mod", "init", GO_MODULE, folder=out)
    run_go("mod", "edit", f"-go={GO_VERSION}", *requirements, folder=out)
    run_go("mod", "tidy", folder=out)


def differences(made: Path, kept: Path) -> list[str]:
    """Paths of files that only one of the folders has, or that differ."""
    names = {
        path.relative_to(folder)
        for folder in (made, kept)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return sorted(
        str(name)
        for name in names
        if not (made / name).is_file()
        or not (kept / name).is_file()
        or not filecmp.cmp(made / name, kept / name, shallow=False)
    )


def replace(made: Path, kept: Path) -> None:
    """Replace the kept files with the new ones, and delete those that are no longer generated."""
    for name in differences(made, kept):
        (kept / name).unlink(missing_ok=True)
        if (made / name).exists():
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made / name, kept / name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--image", type=Path, metavar="F", help="write only the descriptor set for buf")
    arguments = parser.parse_args()
    if arguments.image:
        write_image(arguments.image)
        return 0

    # By the folder under generated/.
    languages = {"python": write_python}
    if shutil.which("go"):
        languages["go"] = write_go
    else:
        print("generate: there is no Go on this machine, so generated/go was left as it is")
    stale = []
    with tempfile.TemporaryDirectory() as temporary:
        for language, write in languages.items():
            made, kept = Path(temporary, language), ROOT / "generated" / language
            write(made)
            if arguments.check:
                stale += [f"generated/{language}/{name}" for name in differences(made, kept)]
            else:
                replace(made, kept)
    if stale:
        print("generate: not current, run 'make generate':", *stale, sep="\n  ")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
