"""`greenroom service install`: a unit that systemd's own tools accept."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom.cli import main
from greenroom.cli.service import unit
from greenroom.config.schema import Config

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "systemd" / "greenroom.service"
PLAIN = Path("/opt/greenroom/bin/greenroom")
ANALYZE = shutil.which("systemd-analyze")
NEEDS_SYSTEMD = pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")
MOST_EXPOSED = 1.5


def settings_of(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def analyzed(*arguments: object) -> str:
    assert ANALYZE is not None
    done = subprocess.run(
        [ANALYZE, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_shipped_unit_is_what_the_command_writes() -> None:
    assert SHIPPED.read_text() == unit(PLAIN, Path("/etc/greenroom/worker.yaml"), Config())


@NEEDS_SYSTEMD
@pytest.mark.parametrize("user", [False, True])
def test_systemd_accepts_the_unit(
    tmp_path: Path, user: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    config = tmp_path / "my voices, 100 %.yaml"
    config.write_text("{}")
    executable = Path(sys.executable).with_name("greenroom")
    file = tmp_path / "greenroom.service"
    file.write_text(unit(executable, config, Config(), user=user))
    said = analyzed(*(["--user"] if user else []), "--man=no", "verify", file)
    assert "greenroom.service" not in said


@NEEDS_SYSTEMD
def test_the_unit_is_hardened() -> None:
    said = analyzed("security", "--offline=yes", "--no-pager", SHIPPED)
    (exposure,) = re.findall(r"Overall exposure level for .*: ([\d.]+)", said)
    assert float(exposure) <= MOST_EXPOSED


def test_a_configuration_with_blanks_and_signs_is_one_word() -> None:
    text = unit(PLAIN, Path('/etc/green room/50% "$HOME".yaml'), Config())
    assert settings_of(text)["ExecStart"] == (
        r'/opt/greenroom/bin/greenroom serve --config "/etc/green room/50%% \"$$HOME\".yaml"'
    )


def test_the_end_has_as_long_as_the_drain_and_more() -> None:
    config = Config.model_validate({"worker": {"drain_timeout_ms": 90_500}})
    assert settings_of(unit(PLAIN, None, config))["TimeoutStopSec"] == "121"


def test_a_voice_on_a_gpu_may_see_it_and_openvino_may_compile() -> None:
    model = {"model_id": "a", "adapter": "tone"}
    gpu = Config.model_validate({"models": [{**model, "device": "cuda:0"}]})
    made = settings_of(unit(PLAIN, None, gpu))
    assert not {"PrivateDevices", "MemoryDenyWriteExecute"} & set(made)
    compiling = Config.model_validate({"models": [{**model, "options": {"runtime": "openvino"}}]})
    made = settings_of(unit(PLAIN, None, compiling))
    assert made["PrivateDevices"] == "yes"
    assert "MemoryDenyWriteExecute" not in made


def test_a_home_is_seen_only_where_greenroom_is_in_one() -> None:
    assert settings_of(unit(PLAIN, None, Config()))["ProtectHome"] == "yes"
    at_home = Path("/home/ada/greenroom/bin/greenroom")
    assert settings_of(unit(at_home, None, Config()))["ProtectHome"] == "read-only"


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own units."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "systemd" / "user"


def test_a_users_unit_is_written_and_written_again(
    units: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "worker.yaml"
    config.write_text("model_manager: {resident_cap: 2}")
    for _ in range(2):
        assert main(["service", "install", "--user", "--config", str(config)]) == 0
    out = capsys.readouterr().out
    assert f"{units / 'greenroom.service'} is written" in out
    assert "systemctl --user enable --now greenroom" in out
    (file,) = units.iterdir()
    assert f"serve --config {config}" in file.read_text()
    assert "DynamicUser" not in file.read_text()
    assert main(["service", "install", "--user", "--print"]) == 0
    assert "[Service]" in capsys.readouterr().out


def test_a_unit_of_others_is_left_alone(units: Path, capsys: pytest.CaptureFixture[str]) -> None:
    units.mkdir(parents=True)
    file = units / "greenroom.service"
    file.write_text("[Unit]\nDescription=mine\n")
    assert main(["service", "install", "--user"]) == 1
    assert "was not written by `greenroom service install`" in capsys.readouterr().err
    assert "mine" in file.read_text()


def test_a_configuration_that_cannot_work_is_refused(
    units: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "worker.yaml"
    config.write_text("zzz: 1")
    assert main(["service", "install", "--user", "--config", str(config)]) == 1
    assert "zzz" in capsys.readouterr().err
    assert not units.exists()


def test_a_configuration_that_the_service_could_not_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "worker.yaml"
    config.write_text("{}")
    config.chmod(0o600)
    monkeypatch.setattr("greenroom.cli.service._SYSTEM_UNITS", tmp_path / "units")
    assert main(["service", "install", "--config", str(config)]) == 1
    assert "by its owner alone" in capsys.readouterr().err
    assert not (tmp_path / "units").exists()
