"""Every metric that the dashboard, the alerts and the autoscaler name is one that a real service exports."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from hybrid.runtime.bundle import DEMO_BUNDLE
from tests.serving.service_process import started

DEPLOY = Path(__file__).parents[2] / "deploy"
KEY = {"Authorization": "Bearer first"}
ENDINGS = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
    "info": ("_info",),
}
"""The series of each type of metric."""
METRIC = re.compile(r"\b((?:hybrid|process)_[a-z_]+)")


def expressions() -> Iterator[str]:
    """Every query of `deploy/`."""
    board = json.loads((DEPLOY / "compose/grafana/hybrid.json").read_text())
    yield from (target["expr"] for panel in board["panels"] for target in panel["targets"])
    alerts = yaml.safe_load((DEPLOY / "compose/alerts.yaml").read_text())
    yield from (rule["expr"] for group in alerts["groups"] for rule in group["rules"])
    (rule,) = yaml.safe_load((DEPLOY / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    yield from (rule["seriesQuery"], rule["metricsQuery"])


def test_the_queries_are_found() -> None:
    queries = list(expressions())
    assert len(queries) > 20 and all(METRIC.search(query) for query in queries)


@pytest.mark.slow
def test_every_metric_that_is_named_is_exported_with_the_labels_that_are_asked_for() -> None:
    with started(DEMO_BUNDLE, HYBRID_API_KEYS="first") as url, httpx.Client(base_url=url, headers=KEY) as client:
        assert client.post("/v1/classify", json={"inputs": ["What a day!", "Meh."]}).status_code == 200
        assert client.post("/v1/classify", json={"inputs": []}).status_code == 400  # a refusal, which has a kind
        page = client.get("/metrics").text
        for path in probes():
            assert httpx.get(url + path).status_code == 200  # probes have no key
        (model,) = client.post("/v2/repository/index", json={}).json()
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["What a day!"]}
        inferred = client.post(f"/v2/models/{model['name']}/infer", json={"inputs": [tensor]})
        assert inferred.status_code == 200, inferred.text
    families = list(text_string_to_metric_families(page))
    series = {_series(family, ending) for family in families for ending in ENDINGS[_type(family)]}
    labels: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    for query in expressions():
        for name in METRIC.findall(query):
            assert name in series, f"{name}, in {query}"
            for group in re.findall(r"by \(([a-z, ]+)\)", query):
                wanted = set(group.split(", ")) - {"instance"}  # Prometheus adds that
                assert not labels.get(name) or wanted <= labels[name], query


def _type(family: Any) -> str:
    return "info" if family.name.endswith("_info") else str(family.type)


def _series(family: Any, ending: str) -> str:
    return family.name.removesuffix("_info") + ending


def probes() -> list[str]:
    """The paths that Kubernetes and KServe ask, and that of the health check of the image."""
    texts = [path.read_text() for path in (DEPLOY / "kubernetes/hybrid.yaml", DEPLOY / "kserve/inference-service.yaml")]
    paths = [path for text in texts for path in re.findall(r"path: (/[a-z0-9/]+)$", text, re.M)]
    (checked,) = re.findall(r"127\.0\.0\.1:8000(/\w+)'", (DEPLOY / "Dockerfile").read_text())
    return [*{path for path in paths if path != "/metrics"}, checked]
