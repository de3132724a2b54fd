"""What the process really takes of each device's memory for its models, whatever is booked."""

from __future__ import annotations

from collections.abc import Iterable

from greenroom.devices import CPU, gpu_of
from greenroom.memory import usage


class ProcessMemory:
    """Compares what the process takes with what it took before its first model.

    The growth of the surrounding program counts as well, as nobody can tell it apart. `begin` and
    `read` block: call them off the loop.
    """

    def __init__(self, devices: Iterable[str]) -> None:
        # Devices of other kinds share the machine's memory, or tell nothing.
        self._devices = [name for name in devices if name == CPU or gpu_of(name) is not None]
        self._before: dict[str, int] = {}
        self.children: set[int] = set()
        """Ids of processes whose memory counts as this process's own."""

    def begin(self) -> None:
        """Remember what the process takes before any model is loaded."""
        self._before = self._taken()

    def read(self) -> dict[str, int]:
        """Return, per device, the bytes taken since `begin`; a device that tells nothing is absent.

        Of the machine's memory that is anonymous memory, which only freeing gives back.
        """
        now = self._taken()
        taken = {device: max(0, size - self._before.get(device, 0)) for device, size in now.items()}
        if CPU in taken:
            taken[CPU] += sum(map(usage.anonymous_bytes_of, tuple(self.children)))
        return taken

    def _taken(self) -> dict[str, int]:
        found = {device: usage.usage_on(device) for device in self._devices}
        return {device: taken.anonymous for device, taken in found.items() if taken is not None}
