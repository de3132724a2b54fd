"""Check for an NVIDIA GPU, and make the onnxruntime session of a voice on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from greenroom.catalog.devices import gpu_of
from greenroom.errors import ConfigError
from greenroom.memory import nvml

_PROVIDER = "CUDAExecutionProvider"
_ELSE = "or use device: cpu."


def check_gpu(device: str) -> None:
    """Raise `ConfigError` unless the GPU of a `cuda:N` is there, and the engine was made for it."""
    gpu, there = gpu_of(device), nvml.gpus()
    assert gpu is not None
    if not there:
        raise ConfigError(
            f"device {device!r} needs onnxruntime-gpu and an NVIDIA GPU; "
            f"install greenroom[cuda], {_ELSE}"
        )
    if gpu >= there:
        raise ConfigError(
            f"device {device!r} is not there; use cuda:0 to cuda:{there - 1}, {_ELSE}"
        )
    if _PROVIDER not in _providers():
        # piper-tts depends on the CPU's onnxruntime, whose files have the same names.
        raise ConfigError(
            f"device {device!r} needs onnxruntime-gpu in the place of onnxruntime; "
            f"run `pip install --force-reinstall --no-deps onnxruntime-gpu`, {_ELSE}"
        )


def gpu_session(model: Path, options: Any, gpu: int) -> Any:
    """Return a session that has the weights in the memory of a GPU, and computes there.

    Raises `ConfigError` where CUDA does not start: onnxruntime would go on without it.
    """
    import onnxruntime

    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # GPUs are counted as NVML does
    onnxruntime.preload_dlls()  # CUDA's libraries may be Python packages, too
    provider = {
        "device_id": gpu,
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",  # an exhaustive one for each length of a sentence
    }
    made = onnxruntime.InferenceSession(
        str(model), sess_options=options, providers=[(_PROVIDER, provider)]
    )
    made.disable_fallback()
    if _PROVIDER not in made.get_providers():
        raise ConfigError(
            f"device 'cuda:{gpu}' cannot be used, as CUDA does not start; "
            f"install the CUDA and cuDNN that onnxruntime {onnxruntime.__version__} needs, {_ELSE}"
        )
    return made


def _providers() -> list[str]:
    try:
        import onnxruntime
    except ImportError:
        return []
    return list(onnxruntime.get_available_providers())
