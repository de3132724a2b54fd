"""GPUs as NVIDIA's management library reports them: how many, their memory, and our part of it.

A GPU's number is CUDA's: its place among those that `CUDA_VISIBLE_DEVICES` leaves visible, counted
as `nvidia-smi` does (CUDA does so too where `CUDA_DEVICE_ORDER` is `PCI_BUS_ID`).
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any


def gpus() -> int:
    """Return how many GPUs this process may use; 0 without driver or the package nvidia-ml-py."""
    return len(_visible())


def total_bytes(gpu: int) -> int | None:
    """Return the memory of a GPU, `None` if there is no such GPU."""
    return _query(gpu, lambda nvml, handle: int(nvml.nvmlDeviceGetMemoryInfo(handle).total))


def process_bytes(gpu: int, pid: int | None = None) -> int | None:
    """Return the memory of a GPU that a process takes, this one unless it is given.

    `None` where the driver does not report it: while the process has not used the GPU, and always
    in a container with process ids of its own.
    """

    wanted = os.getpid() if pid is None else pid

    def of_process(nvml: Any, handle: Any) -> int | None:
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        taken = [each.usedGpuMemory for each in running if each.pid == wanted]
        return None if not taken or None in taken else int(sum(taken))

    return _query(gpu, of_process)


def _query(gpu: int, question: Callable[[Any, Any], int | None]) -> int | None:
    """Return NVML's answer about a GPU; `None` if there is no such GPU, or no answer."""
    visible = _visible()
    if gpu >= len(visible):
        return None
    nvml = _library()
    try:
        return question(nvml, visible[gpu])
    except nvml.NVMLError:
        return None


@functools.cache
def _library() -> Any:
    """Return the library, initialised once; `None` without the package or the driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


@functools.cache
def _visible() -> tuple[Any, ...]:
    """Return NVML's handles of the GPUs, in CUDA's order; asked once, as CUDA does."""
    nvml = _library()
    if nvml is None:
        return ()
    handles = {}
    with contextlib.suppress(nvml.NVMLError):  # of a GPU that this process may not touch
        for index in range(nvml.nvmlDeviceGetCount()):
            handles[str(index)] = handle = nvml.nvmlDeviceGetHandleByIndex(index)
            handles[nvml.nvmlDeviceGetUUID(handle)] = handle
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return tuple(handle for name, handle in handles.items() if name.isdecimal())
    visible = []
    for name in map(str.strip, chosen.split(",")):
        if name.isdecimal():
            found = [handles[name]] if name in handles else []
        else:  # CUDA takes the beginning of a UUID for the whole
            found = [handles[known] for known in handles if name and known.startswith(name)]
        if not found:
            break  # CUDA, too, ignores all that follows a name it does not know
        visible.append(found[0])
    return tuple(visible)
