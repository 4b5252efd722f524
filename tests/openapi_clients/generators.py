"""Generators of REST clients: each makes a client from the OpenAPI document, builds it, and makes the six calls.

    python -m tests.openapi_clients.generators [NAME...]      (`make openapi-clients`)

Tools that are not installed are named, and are no failure. The generated clients are in build/openapi-clients.
"""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from service.log import configure_log
from tests.programs import Failed, not_installed, run
from tests.running import new_user, running_addresses, settings_for

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "generated" / "openapi" / "taskwell.v1.json"
PROGRAMS = Path(__file__).with_name("programs")
PYTHON = ROOT / ".venv-openapi" / "bin" / "python"
NPM = ROOT / ".npm"
GO_MODULE = ROOT / "requirements" / "go-openapi"
ARTIFACT = "org.openapitools:openapi-generator-cli:7.17.0"
SHA256 = "25d6bd8273dd2be99979d544b62ea43f0ce1975f1aa582678b5093d1e7fcfce8"
CALLED = "six calls"
"""The last line of each program, when its calls did what they should."""

Call = Sequence[str]
"""The command that makes the calls; URL and user are added to it."""


def openapi_python_client(folder: Path) -> Call:
    config = folder / "config.yml"
    config.write_text("post_hooks: []\n")
    said = run(
        *(PYTHON.with_name("openapi-python-client"), "generate", "--fail-on-warning", "--config", config),
        *("--path", DOCUMENT, "--output-path", folder / "client"),
        folder=folder,
    )
    if "WARNING" in said:
        raise Failed(said)
    return _python_program("openapi_python_client.py", folder)


def openapi_generator_python(folder: Path) -> Call:
    _openapi_generator("python", folder)
    return _python_program("openapi_generator.py", folder)


def openapi_generator_go(folder: Path) -> Call:
    _openapi_generator("go", folder, "packageName=client", "withGoMod=false")
    shutil.rmtree(folder / "client" / "test")  # imports a module that does not exist
    return _go_program("openapi_generator.go", folder)


def openapi_generator_typescript_fetch(folder: Path) -> Call:
    _openapi_generator("typescript-fetch", folder)
    return _typescript_program("typescript_fetch.ts", folder)


def openapi_typescript(folder: Path) -> Call:
    run(NPM / "node_modules" / ".bin" / "openapi-typescript", DOCUMENT, "--output", folder / "client.ts", folder=folder)
    return _typescript_program("openapi_typescript.ts", folder)


def oapi_codegen(folder: Path) -> Call:
    _go_module(folder)
    (folder / "client").mkdir()
    command = ("go", "tool", "oapi-codegen", "-generate", "types,client", "-package", "client")
    run(*command, "-o", "client/client.go", DOCUMENT, folder=folder)
    return _go_program("oapi_codegen.go", folder)


def _openapi_generator(language: str, folder: Path, *properties: str) -> None:
    """Generate a client with openapi-generator, from Maven, into `client`."""
    jars = ROOT / "build" / "openapi-generator"
    jar = jars / f"openapi-generator-cli-{ARTIFACT.rpartition(':')[2]}.jar"
    if not jar.exists():
        jars.mkdir(parents=True, exist_ok=True)
        run("mvn", "-q", "-B", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={jars}", folder=jars)
    if hashlib.sha256(jar.read_bytes()).hexdigest() != SHA256:
        raise Failed(f"{jar} does not have the expected SHA-256 digest")
    more = [f"--additional-properties={','.join(properties)}"] if properties else []
    run("java", "-jar", jar, "generate", "-i", DOCUMENT, "-g", language, "-o", folder / "client", *more, folder=folder)


def _python_program(name: str, folder: Path) -> Call:
    program = shutil.copy(PROGRAMS / name, folder)
    return ("env", f"PYTHONPATH={folder / 'client'}", str(PYTHON), "-W", "error", str(program))


def _go_module(folder: Path) -> None:
    for name in ("go.mod", "go.sum"):
        shutil.copy(GO_MODULE / name, folder)


def _go_program(name: str, folder: Path) -> Call:
    _go_module(folder)
    shutil.copy(PROGRAMS / name, folder / "main.go")
    run("go", "build", "-o", "program", "main.go", folder=folder, GOFLAGS="-mod=readonly", GOWORK="off")
    return (str(folder / "program"),)


def _typescript_program(name: str, folder: Path) -> Call:
    program = shutil.copy(PROGRAMS / name, folder / "program.ts")
    (folder / "node_modules").symlink_to(NPM / "node_modules")
    binaries = NPM / "node_modules" / ".bin"
    options = ("--strict", "--noEmit", "--skipLibCheck", "--target", "es2022", "--module", "esnext")
    run(binaries / "tsc", *options, "--moduleResolution", "bundler", "--types", "node", program, folder=folder)
    return (str(binaries / "tsx"), str(program))


GENERATORS: Mapping[str, tuple[Callable[[Path], Call], Sequence[str]]] = {
    "openapi-python-client": (openapi_python_client, []),
    "openapi-generator python": (openapi_generator_python, ["java", "mvn"]),
    "openapi-generator go": (openapi_generator_go, ["java", "mvn", "go"]),
    "openapi-generator typescript-fetch": (openapi_generator_typescript_fetch, ["java", "mvn", "node", "npm"]),
    "openapi-typescript": (openapi_typescript, ["node", "npm"]),
    "oapi-codegen": (oapi_codegen, ["go"]),
}
"""Each generator with the tools that it needs besides Python."""


def make_six_calls(generate: Callable[[Path], Call], folder: Path, url: str) -> None:
    """Generate and build a client in a new folder, and make the six calls with it. Raises Failed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    said = run(*generate(folder), url, new_user(), folder=folder)
    if said != f"{CALLED}\n":
        raise Failed(said)


def main() -> int:
    configure_log("error", "json")
    build = ROOT / "build" / "openapi-clients"
    failed, missing = 0, set[str]()
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(f"sqlite:///{folder}/taskwell.db", rest_address="127.0.0.1:0")
        with running_addresses(settings) as addresses:
            for name in sys.argv[1:] or GENERATORS:
                generate, tools = GENERATORS[name]
                if absent := not_installed(tools):
                    missing |= absent
                    continue
                try:
                    make_six_calls(generate, build / name.replace(" ", "-"), f"http://{addresses.rest}")
                    print(f"{name}: {CALLED}", flush=True)
                except Failed as error:
                    failed += 1
                    print(f"{name} FAILED: {error}", flush=True)
    if missing:
        print(f"openapi-clients: {', '.join(sorted(missing))} not installed: the generators that need it were left out")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
