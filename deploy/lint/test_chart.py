"""The chart: linted and rendered by Helm's own library, its manifests checked by Kubernetes' schemas.

What it says of the worker is checked by the worker: `greenroom config check`.
"""  # noqa: E501

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

DEPLOY = Path(__file__).parents[1]
CHART = DEPLOY / "helm" / "greenroom"
GREENROOM = os.environ.get("GREENROOM", str(DEPLOY.parent / ".venv" / "bin" / "greenroom"))
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()

OPEN: dict[str, Any] = {"auth": {"allowUnauthenticated": True}}
EVERYTHING: dict[str, Any] = {
    "auth": {"existingSecret": "keys", "allowUnauthenticated": True},
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "voices": {"size": "5Gi", "storageClassName": "fast", "accessMode": "ReadWriteMany"},
    "networkPolicy": {"from": [{"namespaceSelector": {}}], "egress": [{"ports": [{"port": 443}]}]},
    "ports": {"http": 80, "grpc": 50051, "wyoming": 10200},
    "service": {"clusterIP": "None", "annotations": {"a": "b"}},
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "podAnnotations": {"c": "d"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "voices", "operator": "Exists"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "imagePullSecrets": [{"name": "pull"}],
}
BOTH = pytest.mark.parametrize("values", [OPEN, EVERYTHING], ids=["least", "everything"])


def manifests(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the chart makes, by kind."""
    chart = helm.Chart.load(CHART)
    chart.validate_schema(values)
    files = chart.render(values, name="voices", namespace="speech")
    found = [yaml.safe_load(text) for name, text in files.items() if name.endswith(".yaml")]
    return {manifest["kind"]: manifest for manifest in found if manifest}


@BOTH
def test_helm_finds_nothing(values: dict[str, Any]) -> None:
    report = helm.lint(CHART, values, strict=True, kube_version=f"v{OLDEST}.0")
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


@BOTH
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_the_manifests(values: dict[str, Any], version: str) -> None:
    made = manifests(values)
    made.pop("ServiceMonitor", None)  # not Kubernetes' own
    assert {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} <= {*made}
    for manifest in made.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_what_is_not_asked_for_is_not_made() -> None:
    more = {"HorizontalPodAutoscaler", "PersistentVolumeClaim", "ServiceMonitor"}
    assert not more & {*manifests(OPEN)}
    assert more <= {*manifests(EVERYTHING)}


@BOTH
def test_the_worker_takes_its_configuration(values: dict[str, Any], tmp_path: Path) -> None:
    text = manifests(values)["ConfigMap"]["data"]["worker.yaml"]
    settings = yaml.safe_load(text)
    assert (
        settings["worker"]["http_listen"] == f"0.0.0.0:{values.get('ports', {}).get('http', 8880)}"
    )
    settings["voices"]["directories"] = [str(tmp_path)]  # the pod's is not here
    file = tmp_path / "worker.yaml"
    file.write_text(yaml.safe_dump(settings))
    keys = {"GREENROOM_WORKER__API_KEYS": '[{key: "one-for-the-test", role: "speak"}]'}
    done = subprocess.run(
        [GREENROOM, "config", "check", str(file)],
        env={**os.environ, **({} if values is OPEN else keys)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@BOTH
def test_a_pod_is_confined_and_may_drain(values: dict[str, Any]) -> None:
    pod = manifests(values)["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] == 5 + 20 + 30
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")}
    assert paths == {"/v2/health/live", "/v2/health/ready"}
    key = values.get("auth", {}).get("existingSecret")
    named = [each["name"] for each in container.get("env", ())]
    assert ("GREENROOM_WORKER__API_KEYS" in named) is bool(key)


def leaves(values: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of all values that hold no others."""
    if isinstance(values, dict) and values:
        for name, value in values.items():
            yield from leaves(value, f"{path}.{name}".lstrip("."))
    else:
        yield path


def test_templates_use_all_values_and_no_others() -> None:
    templates = "\n".join(file.read_text() for file in (CHART / "templates").iterdir())
    used = set(re.findall(r"\.Values\.([\w.]+)", templates))
    there = set(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))
    for path in used:
        assert any(f"{leaf}.".startswith(f"{path}.") for leaf in there), path
    for leaf in there:
        assert any(f"{leaf}.".startswith(f"{path}.") for path in used), leaf


def test_numbers_arrive_as_they_are_written() -> None:
    times = {"ttl_ms": 604_800_000, "other": 0.25}
    text = manifests({**OPEN, "config": {"model_manager": times}})["ConfigMap"]["data"]
    found = yaml.safe_load(text["worker.yaml"])["model_manager"]
    assert (found["ttl_ms"], found["other"]) == (604_800_000, 0.25)


@pytest.mark.parametrize(
    ("voices", "strategy"),
    [
        ({}, "RollingUpdate"),
        ({"size": "5Gi"}, "Recreate"),
        ({"existingClaim": "theirs"}, "Recreate"),
        ({"existingClaim": "theirs", "accessMode": "ReadOnlyMany"}, "RollingUpdate"),
    ],
)
def test_a_claim_for_one_pod_is_free_before_the_next_pod_wants_it(
    voices: dict[str, Any], strategy: str
) -> None:
    made = manifests({**OPEN, "voices": voices})["Deployment"]
    assert made["spec"]["strategy"]["type"] == strategy
    kubernetes_validate.validate(made, OLDEST, strict=True)


def test_a_pod_may_end_without_a_pause() -> None:
    """A pause of no seconds is refused by the oldest Kubernetes of the chart."""
    made = manifests({**OPEN, "preStopSeconds": 0})["Deployment"]
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert "lifecycle" not in container


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "set auth.existingSecret"),
        ({"auth": {"existingSecret": "keys"}, "ports": {"wyoming": 10200}}, "Wyoming has no keys"),
        ({**OPEN, "replicas": 2}, "replicas"),
        ({**OPEN, "ports": {"http": 99_999, "grpc": 1}}, "http"),
        ({**OPEN, "config": {"worker": {"listen": "127.0.0.1:1"}}}, "worker"),
        ({**OPEN, "config": {"worker": {"api_keys": []}}}, "worker"),
        ({**OPEN, "voices": {"size": "1Gi"}, "replicaCount": 2}, "accessMode=ReadWriteMany"),
        (
            {**OPEN, "voices": {"existingClaim": "a"}, "autoscaling": {"enabled": True}},
            "accessMode=ReadWriteMany",
        ),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm.HelmError, match=words):
        manifests(values)
