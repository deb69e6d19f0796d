"""deploy/kubernetes: manifests that Kubernetes accepts, and that go together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from api import server
from api.routes import health
from jobs.records import Json
from jobs.settings import Settings
from longhaul.__main__ import COMMANDS
from tests.deploy import dockerfile
from tests.deploy.compose import Service
from worker import watchdog

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
PARTS = ("longhaul-api", "longhaul-control", "longhaul-worker")
RELEASES: Final = ("1.30", "1.37")
"""The oldest and the newest that are asked."""
ANSWERED: Final = {getattr(route, "path", "") for route in health.router.routes} & {"/livez", "/readyz"}
"""By the API; worker and control answer the same, see tests/jobs/test_probes.py."""
NOT_KUBERNETES: Final = ("kustomize.config.k8s.io/v1beta1", "keda.sh/v1alpha1")


def documents(name: str) -> list[Json]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


KUSTOMIZATION: Json = documents("kustomization.yaml")[0]
MANIFESTS = [manifest for name in KUSTOMIZATION["resources"] for manifest in documents(name)]


def found(kind: str) -> dict[str, Json]:
    """The manifests of a kind by name."""
    return {manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] == kind}


def pod(manifest: Json) -> Any:
    return manifest["spec"]["template"]["spec"]


def pods() -> Iterator[Any]:
    for manifest in (*found("Deployment").values(), *found("Job").values()):
        yield pod(manifest)


def containers() -> Iterator[Any]:
    for each in pods():
        yield from (*each.get("initContainers", ()), *each["containers"])


def seconds(probe: Json) -> int:
    """For how long a probe may fail."""
    return int(probe["periodSeconds"] * probe["failureThreshold"])


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    "manifest",
    [manifest for manifest in MANIFESTS if manifest["apiVersion"] not in NOT_KUBERNETES],
    ids=lambda manifest: f"{manifest['kind']}-{manifest['metadata']['name']}",
)
def test_kubernetes_accepts_every_manifest(manifest: Json, release: str) -> None:
    kubernetes_validate.validate(manifest, release, strict=True)


def test_kustomize_is_told_of_every_file() -> None:
    named = {*KUSTOMIZATION["resources"], *KUSTOMIZATION["configMapGenerator"][0]["envs"], "kustomization.yaml"}
    assert named == {path.name for path in FOLDER.iterdir()}


def test_each_part_is_there_once() -> None:
    assert set(found("Deployment")) == set(found("PodDisruptionBudget")) == set(PARTS)
    assert set(found("Service")) == {"longhaul-api"}
    assert set(found("Job")) == {"longhaul-migrate"}
    assert set(found("ScaledObject")) == {"longhaul-worker"}


@pytest.mark.parametrize("name", PARTS)
def test_what_selects_a_part_s_pods_finds_them(name: str) -> None:
    labels = found("Deployment")[name]["spec"]["template"]["metadata"]["labels"]
    assert found("Deployment")[name]["spec"]["selector"]["matchLabels"] == labels
    assert found("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"] == labels
    if name in found("Service"):
        assert found("Service")[name]["spec"]["selector"] == labels


def test_images_are_those_that_compose_builds(started: dict[str, Service]) -> None:
    built = {service.spec["image"] for service in started.values() if "build" in service.spec}
    used = {container["image"] for container in containers()}
    assert used == {image["name"] for image in KUSTOMIZATION["images"]} == built - {"longhaul-worker-cpu"}


def test_each_container_runs_a_command_of_ours_and_not_as_root() -> None:
    for container in containers():
        assert container["args"][0] in COMMANDS
    for each in pods():
        assert each["securityContext"]["runAsNonRoot"]
        assert {str(each["securityContext"]["runAsUser"])} == {
            stage.user for stage in dockerfile.stages().values() if stage.user
        }


def test_settings_come_from_the_one_map_and_the_one_secret() -> None:
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    for container in containers():
        assert container["envFrom"] == [
            {"configMapRef": {"name": generated["name"]}},
            {"secretRef": {"name": "longhaul"}},
        ]
    lines = [line for name in generated["envs"] for line in (FOLDER / name).read_text().splitlines()]
    assert {line.partition("=")[0] for line in lines} <= {field.alias for field in Settings.model_fields.values()}


def test_a_service_s_variables_are_not_taken_for_settings() -> None:
    assert all(each["enableServiceLinks"] is False for each in pods())  # else one called longhaul sets LONGHAUL_PORT


@pytest.mark.parametrize("name", PARTS)
def test_no_part_starts_before_the_schema_is_there(name: str) -> None:
    (waiting,) = pod(found("Deployment")[name])["initContainers"]
    assert (waiting["image"], waiting["args"]) == ("longhaul", ["migrate", "--check"])
    assert pod(found("Job")["longhaul-migrate"])["containers"][0]["args"] == ["migrate"]


@pytest.mark.parametrize("name", PARTS)
def test_probes_ask_where_the_part_answers(name: str) -> None:
    (container,) = pod(found("Deployment")[name])["containers"]
    (port,) = container["ports"]
    image = dockerfile.stages()["base"].environment
    variable = "LONGHAUL_PORT" if name == "longhaul-api" else "LONGHAUL_METRICS_PORT"
    assert port["containerPort"] == int(image[variable])
    template = found("Deployment")[name]["spec"]["template"]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == image[variable]
    asked = [probe["httpGet"] for key, probe in container.items() if key.endswith("Probe")]
    assert asked
    assert all(probe["port"] == port["name"] and probe["path"] in ANSWERED for probe in asked)


def test_a_worker_may_load_for_an_hour() -> None:
    (container,) = pod(found("Deployment")["longhaul-worker"])["containers"]
    assert seconds(container["startupProbe"]) >= 3600


def test_a_stop_waits_longer_than_the_part_takes() -> None:
    grace = {name: pod(found("Deployment")[name])["terminationGracePeriodSeconds"] for name in PARTS}
    assert grace["longhaul-worker"] > Settings().drain_seconds + watchdog.STOP_SECONDS
    (container,) = pod(found("Deployment")["longhaul-api"])["containers"]
    _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    assert grace["longhaul-api"] > int(pause) + server.DRAIN_SECONDS


def test_an_eviction_leaves_somebody_to_answer() -> None:
    for name in ("longhaul-api", "longhaul-control"):
        assert (
            found("PodDisruptionBudget")[name]["spec"]["minAvailable"] < found("Deployment")[name]["spec"]["replicas"]
        )


def test_only_workers_take_a_gpu() -> None:
    limits = {container["name"]: container["resources"]["limits"] for container in containers()}
    assert [name for name, limit in limits.items() if "nvidia.com/gpu" in limit] == ["worker"]


def test_what_is_mounted_is_there() -> None:
    for each in pods():
        volumes = {volume["name"] for volume in each.get("volumes", ())}
        mounted = {mount["name"] for container in each["containers"] for mount in container.get("volumeMounts", ())}
        assert mounted == volumes


def test_workers_are_scaled_from_none_by_how_many_are_wanted() -> None:
    scaled = found("ScaledObject")["longhaul-worker"]["spec"]
    assert scaled["scaleTargetRef"]["name"] in found("Deployment")
    assert scaled["minReplicaCount"] == 0
    assert "replicas" not in found("Deployment")["longhaul-worker"]["spec"]  # else each apply would set them
    (trigger,) = scaled["triggers"]
    assert trigger["type"] == "prometheus"
    assert "longhaul_workers_wanted" in trigger["metadata"]["query"]
    assert trigger["metadata"]["threshold"] == "1"


def test_workers_stay_as_many_as_they_are_while_nobody_measures() -> None:
    (trigger,) = found("ScaledObject")["longhaul-worker"]["spec"]["triggers"]
    assert trigger["metadata"]["ignoreNullValues"] == "false"  # else no answer counts as none wanted


def test_a_first_worker_may_load_and_make_its_model_known_before_it_counts_as_idle() -> None:
    scaled = found("ScaledObject")["longhaul-worker"]["spec"]
    (container,) = pod(found("Deployment")["longhaul-worker"])["containers"]
    assert scaled["initialCooldownPeriod"] > seconds(container["startupProbe"])
