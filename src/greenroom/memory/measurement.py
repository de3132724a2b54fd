"""Whether a measurement of the process's memory can be believed: nothing else may run beside it."""

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
        """Begin a watch, as a load or unload begins; `quiet` says that no stream runs now."""
        return Watch(self, quiet=quiet and not self.under_way)


class Watch:
    """Whether one load, unload, or whole life of a model had the process to itself.

    It begins with a load or an unload under way, which ends with `stop`. What is watched disturbs
    all others when it begins, and at each call of `disturb`.
    """

    def __init__(self, activity: ActivityCounter, *, quiet: bool) -> None:
        self._activity = activity
        self._quiet = quiet
        activity.under_way += 1
        activity.disturbances += 1
        self._seen = activity.disturbances

    def stop(self) -> None:
        """End the load or unload; the watch goes on. Called once."""
        self._activity.under_way -= 1

    def disturb(self) -> None:
        """Note that a stream of the watched model begins: it disturbs the other watches only."""
        # Its own disturbance is counted as seen, so that only the other watches differ.
        self._activity.disturbances += 1
        self._seen += 1

    @property
    def undisturbed(self) -> bool:
        """Whether nothing else ran when the watch began, and nothing else has begun since."""
        return self._quiet and self._seen == self._activity.disturbances


@dataclass(slots=True)
class Life:
    """What is kept of a resident's load, to find at its unload how much memory it left behind."""

    watch: Watch
    before: Usage | None
    """What the process took of the device before the load; `None` if it was not reported."""
