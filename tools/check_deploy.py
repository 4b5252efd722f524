"""Checks the files of deploy/ with the tools of those who use them, none of which needs an engine or a cluster.

    make deploy-check

A tool that is missing is named. tests/deploy/test_manifests.py checks that the files fit each other and the settings.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
OVERLAYS = sorted(path.parent for path in DEPLOY.glob("kubernetes/overlays/*/kustomization.yaml"))
COMPOSE = sorted(DEPLOY.glob("compose/*.yaml"))
KUBERNETES = "1.36"
_INSTALLED = ROOT / ".venv-deploy" / "bin"
_TOOLS = f"{ROOT / '.tools' / 'bin'}:{_INSTALLED}"


def main() -> int:
    problems = [*dockerfile(), *compose_files(), *prometheus(), *manifests()]
    print(*problems, sep="\n", end="\n" if problems else "")
    if not problems:
        print("deploy-check: all passed")
    return 1 if problems else 0


def dockerfile() -> list[str]:
    return _complaints([_INSTALLED / "hadolint", DEPLOY / "Dockerfile"])


def compose_files() -> list[str]:
    docker, separate = shutil.which("docker"), shutil.which("docker-compose")
    if docker and not _complaints([docker, "compose", "version"]):
        compose = [docker, "compose"]
    elif separate:
        compose = [separate]
    else:
        return _skipped("the compose files", "docker compose")
    return [each for file in COMPOSE for each in _complaints([*compose, "--file", file, "config", "--quiet"])]


def prometheus() -> list[str]:
    promtool = _tool("promtool")
    if not promtool:
        return _skipped("deploy/compose/prometheus.yml", "promtool")
    return _complaints([promtool, "check", "config", "--syntax-only", DEPLOY / "compose" / "prometheus.yml"])


def manifests() -> list[str]:
    """Problems of the manifests of each overlay. Kinds that Kubernetes does not have itself have no schema."""
    kustomize = _tool("kustomize")
    if not kustomize:
        return _skipped("the manifests of Kubernetes", "kustomize")
    validate: list[str | Path] = [
        _INSTALLED / "kubernetes-validate",
        "--strict",
        "--quiet",
        "--no-warn",
        "-k",
        KUBERNETES,
    ]
    problems: list[str] = []
    (ROOT / "build").mkdir(exist_ok=True)
    for overlay in OVERLAYS:
        built = ROOT / "build" / f"{overlay.name}.yaml"
        problems += _complaints([kustomize, "build", overlay, "--output", built]) or _complaints([*validate, built])
    return problems


def _tool(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=_TOOLS)


def _skipped(files: str, tool: str) -> list[str]:
    print(f"deploy-check: not checked, because {tool} is not installed: {files}")
    return []


def _complaints(command: Sequence[str | Path]) -> list[str]:
    """The output of a tool if it fails."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return [f"{' '.join(map(str, command))}\n{ran.stdout}"] if ran.returncode else []


if __name__ == "__main__":
    sys.exit(main())
