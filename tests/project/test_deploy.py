"""What ships Greenroom says of the worker what is so; linters of others are run by `make ship`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.image_steps import instructions
from greenroom import Catalog
from greenroom.config.schema import Config, load_config
from greenroom.worker.settings_check import worker_problems

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = sorted((DEPLOY / "compose").glob("*.yaml"))
PROMTOOL = shutil.which("promtool")


def image(instruction: str) -> list[str]:
    """Return what follows an instruction, each time that it is in the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text()
    return [rest for name, rest in instructions(text) if name == instruction]


def services(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())["services"]
    return found


def problems(config: Config) -> list[str]:
    return list(worker_problems(config.worker, Catalog.discover("", adapters=["tone"])))


def test_the_images_steps_are_read_with_their_continuations() -> None:
    text = "# a remark\nFROM a AS b\nRUN one \\\n    && two\n\ncopy x y\n"
    assert list(instructions(text)) == [
        ("FROM", "a AS b"),
        ("RUN", "one && two"),
        ("COPY", "x y"),
    ]


def test_the_image_has_a_user_of_its_own_bytecode_and_reports_to_nobody() -> None:
    assert len(image("FROM")) == 2
    assert image("USER") == ["1000:1000"]
    assert "--compile" in " ".join(image("RUN"))
    assert "ORT_DISABLE_TELEMETRY=1" in image("ENV")[0]


def test_the_image_wants_keys_or_to_be_told_that_it_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = problems(load_config(DEPLOY / "worker.yaml"))
    assert len(found) == 2
    assert all("worker.api_keys" in problem for problem in found)
    monkeypatch.setenv("GREENROOM_WORKER__ALLOW_UNAUTHENTICATED", "true")
    config = load_config(DEPLOY / "worker.yaml")
    assert not problems(config)
    for address in (config.worker.listen, config.worker.http_listen):
        assert address is not None
        assert address.host == "0.0.0.0"
        assert str(address.port) in image("EXPOSE")[0].split()


def test_the_image_asks_whether_work_should_be_sent_to_it() -> None:
    (check,) = image("HEALTHCHECK")
    command = json.loads(check[check.index("CMD") + 3 :])
    assert command[0] == "python"
    assert "http://127.0.0.1:8880/v2/health/ready" in command[-1]


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.stem)
def test_a_compose_file_names_what_is_there_and_opens_nothing_to_others(file: Path) -> None:
    content = yaml.safe_load(file.read_text())
    for service in content["services"].values():
        mounted = list(service.get("volumes", ()))
        if "extends" in service:
            base = services(file.parent / service["extends"]["file"])
            mounted += base[service["extends"]["service"]]["volumes"]
        for source in (volume.partition(":")[0] for volume in mounted):
            if source.startswith("."):
                assert (file.parent / source).exists(), source
            elif not source.startswith("/"):
                assert source in content["volumes"]
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "others reach it"
        if "build" in service:
            context = file.parent / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).exists()


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.stem)
def test_a_compose_files_worker_takes_its_settings(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = services(DEPLOY / "compose" / "greenroom.yaml")["greenroom"]
    more = services(file)["greenroom"].get("environment", {})
    for name, value in {**alone["environment"], **more}.items():
        monkeypatch.setenv(name, value)
    assert not problems(load_config(DEPLOY / "worker.yaml"))


def test_alerts_and_autoscaling_ask_only_for_metrics_of_the_dashboard() -> None:
    """Of which another test says that they are exported."""
    shown, alerts, scaled = (
        set(re.findall(r"greenroom_[a-z_]+", (ROOT / file).read_text()))
        for file in (
            "dashboards/greenroom.json",
            "deploy/monitoring/alerts.yml",
            "deploy/helm/greenroom/templates/autoscaler.yaml",
        )
    )
    assert len(alerts) >= 4
    assert len(scaled) == 2
    assert alerts | scaled <= shown


def test_the_alert_for_a_worker_that_is_gone_names_the_job_that_is_scraped() -> None:
    scraped = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in scraped["scrape_configs"]}
    alerts = (DEPLOY / "monitoring" / "alerts.yml").read_text()
    assert set(re.findall(r'job="([^"]+)"', alerts)) == jobs


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool here")
@pytest.mark.parametrize(
    "words", [("config", "--syntax-only", "prometheus.yml"), ("rules", "alerts.yml")]
)
def test_prometheus_takes_its_files(words: tuple[str, ...]) -> None:
    *options, file = words
    done = subprocess.run(
        ["promtool", "check", *options, str(DEPLOY / "monitoring" / file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_ships_has_the_packages_version() -> None:
    chart = yaml.safe_load((DEPLOY / "helm" / "greenroom" / "Chart.yaml").read_text())
    now = version("greenroom")
    assert (chart["version"], chart["appVersion"]) == (now, now)
    assert f'image.version="{now}"' in image("LABEL")[0]
    assert (
        services(DEPLOY / "compose" / "greenroom.yaml")["greenroom"]["image"] == f"greenroom:{now}"
    )
