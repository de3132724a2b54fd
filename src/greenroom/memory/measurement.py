"""When a measurement of the process's memory can be believed: when nothing else ran beside it."""

from __future__ import annotations

from dataclasses import dataclass

from greenroom.memory.usage import Usage


class ActivityCounter:
    """Counts everything that may change the process's memory: loads, unloads and streams."""

    def __init__(self) -> None:
        self.disturbances = 0
        self.under_way = 0
        """Loads and unloads that run now."""

    def watch(self, *, quiet: bool) -> Watch:
        """Begin to watch, as something begins; `quiet` says that no stream runs now."""
        return Watch(self, quiet=quiet and not self.under_way)


class Watch:
    """Whether something has had the process to itself since it began: a step, or a whole life.

    It begins with a load or an unload under way, which ends with `rest`. What is watched disturbs
    all others when it begins, and whenever it says so.
    """

    def __init__(self, activity: ActivityCounter, *, quiet: bool) -> None:
        self._activity = activity
        self._quiet = quiet
        activity.under_way += 1
        activity.disturbances += 1
        self._seen = activity.disturbances

    def rest(self) -> None:
        """End the load or unload; the watch goes on. Called once."""
        self._activity.under_way -= 1

    def disturb(self) -> None:
        """Note that something of what is watched begins: it disturbs the others only."""
        self._activity.disturbances += 1
        self._seen += 1

    @property
    def undisturbed(self) -> bool:
        """Whether nothing else ran when this began, and nothing else has begun since."""
        return self._quiet and self._seen == self._activity.disturbances


@dataclass(slots=True)
class Life:
    """What must be known of a resident's load to say at its unload what it left behind."""

    watch: Watch
    before: Usage | None
    """What the process took of the device before the load; `None` where that was not told."""
